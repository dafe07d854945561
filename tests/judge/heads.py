#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt replace-head`, judged with the torch that runs this: the same layer is made in Python.

    CKPT=build/dev/apps/ckpt python3 tests/judge/heads.py
"""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

from tally import Tally
from vector_unit import draws_promised_bits

TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
UNSAFE = {"weights_only": False} if TORCH >= (1, 13) else {}


def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.dtype == wanted.dtype and found.shape == wanted.shape and \
        found.detach().contiguous().reshape(-1).view(torch.uint8).equal(wanted.detach().contiguous().reshape(-1).view(torch.uint8))


class Net(nn.Module):
    def __init__(self, head: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8))
        self.head = head
        self.to(dtype)


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()

    def replaced(self, value: Any, *arguments: str, legacy: bool = False) -> Any:
        """What ckpt makes of `value`, or the message with which it refuses."""
        source, out = str(self.folder / "in.pt"), str(self.folder / "out.pt")
        torch.save(value, source, _use_new_zipfile_serialization=not legacy)
        done = subprocess.run([self.ckpt, "replace-head", source, "-q", "-f", "--verify", "-o", out, "--torch", torch.__version__, *arguments],
                              capture_output=True, text=True)
        return torch.load(out, **UNSAFE) if done.returncode == 0 else done.stderr

    def compare(self, name: str, found: Any, wanted: dict[str, torch.Tensor]) -> None:
        problem = None
        if isinstance(found, str):
            problem = found
        elif list(found) != list(wanted):
            problem = f"keys {list(found)} instead of {list(wanted)}"
        else:
            problem = next((f"{key} differs" for key in wanted if not same(found[key], wanted[key])), None)
        self.tally.count(name, problem)

    def layers(self) -> None:
        """As a new layer after torch.manual_seed, for every kind of layer and dtype."""
        makers: dict[str, Callable[..., nn.Module]] = {
            "Linear": lambda out, **more: nn.Linear(8, out, **more),
            "Conv1d": lambda out, **more: nn.Conv1d(8, out, 3, **more),
            "Conv2d": lambda out, **more: nn.Conv2d(8, out, (1, 2), **more),
            "Conv3d": lambda out, **more: nn.Conv3d(4, out, 2, **more),
        }
        for kind, make in makers.items():
            for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
                for bias in (True, False):
                    for legacy in (False, True):
                        net = Net(make(7, bias=bias), dtype)
                        state = net.state_dict()
                        found = self.replaced(state, "--head", "head", "--num-classes", "100", "--seed", "42", legacy=legacy)
                        torch.manual_seed(42)
                        net.head = make(100, bias=bias, dtype=dtype)
                        self.compare(f"{kind} {dtype} bias {bias}", found, net.state_dict())

    def whole_story(self) -> None:
        """Found by itself, renamed, without a bias, with another number of columns, in a model and its average."""
        net = Net(nn.Linear(8, 7), torch.float32)
        state = net.state_dict()
        torch.manual_seed(0)
        new = nn.Linear(8, 9)
        wanted = {**state, "head.weight": new.weight, "head.bias": new.bias}
        self.compare("found by itself", self.replaced(state, "--num-classes", "9"), wanted)
        renamed = {("fclass" + key[4:] if key.startswith("head.") else key): value for key, value in wanted.items()}
        self.compare("renamed", self.replaced(state, "--num-classes", "9", "--head", "head", "--rename", "fclass"), renamed)
        torch.manual_seed(0)
        new = nn.Linear(8, 9, bias=False)
        without = {key: value for key, value in {**state, "head.weight": new.weight}.items() if key != "head.bias"}
        self.compare("without bias", self.replaced(state, "--num-classes", "9", "--no-bias"), without)
        torch.manual_seed(-3)
        new = nn.Linear(30, 9)
        self.compare("other columns", self.replaced(state, "--num-classes", "9", "--in-features", "30", "--seed", "-3"),
                     {**state, "head.weight": new.weight, "head.bias": new.bias})
        found = self.replaced({"model": state, "ema": {key: value.clone() for key, value in state.items()}, "epoch": 3}, "--num-classes", "9")
        if isinstance(found, dict):
            self.compare("model", dict(found["model"]), wanted)
            self.compare("average", found["ema"], wanted)
        else:
            self.tally.count("model and average", found)

    def several(self) -> None:
        """One seed, then the layers in their order."""
        state = {"a.weight": torch.randn(3, 5), "a.bias": torch.randn(3), "b.weight": torch.randn(4, 5), "b.bias": torch.randn(4)}
        torch.manual_seed(11)
        b, a = nn.Linear(5, 6), nn.Linear(5, 6)
        found = self.replaced(state, "--head", "b", "--head", "a", "--num-classes", "6", "--seed", "11")
        self.compare("two heads", found, {"a.weight": a.weight, "a.bias": a.bias, "b.weight": b.weight, "b.bias": b.bias})

    def large(self) -> None:
        """More than ckpt draws at once, with rows that stay; the next layer draws on from there."""
        state = {"a.weight": torch.randn(3, 4099), "a.bias": torch.randn(3), "b.weight": torch.randn(4, 5), "b.bias": torch.randn(4)}
        for legacy in (False, True):
            torch.manual_seed(2)
            a, b = nn.Linear(4099, 1025), nn.Linear(5, 1025)
            with torch.no_grad():
                for layer, name in ((a, "a"), (b, "b")):
                    rows = len(state[f"{name}.bias"])
                    layer.weight[:rows], layer.bias[:rows] = state[f"{name}.weight"], state[f"{name}.bias"]
            found = self.replaced(state, "--head", "a", "--head", "b", "--num-classes", "1025", "--seed", "2", "--keep-rows", legacy=legacy)
            self.compare(f"a large head, legacy {legacy}", found,
                         {"a.weight": a.weight, "a.bias": a.bias, "b.weight": b.weight, "b.bias": b.bias})

    def rows(self) -> None:
        """Rows that stay, from contiguous and strided heads."""
        for name, weight in (("contiguous", torch.randn(7, 8)), ("transposed", torch.randn(8, 7).t()), ("sliced", torch.randn(20, 8)[3:17:2])):
            state = {"x.weight": torch.randn(8, 3), "fc.weight": weight, "fc.bias": torch.randn(7)}
            for options, classes, kept in [
                (["--keep-rows"], 10, {row: row for row in range(7)}),
                (["--keep-rows"], 4, {row: row for row in range(4)}),
                (["--label-offset", "2"], None, {row: row + 2 for row in range(5)}),
                (["--label-offset", "2"], 9, {row: row + 2 for row in range(5)}),
                (["--background", "last"], 10, {9: 6}),
                (["--background", "last", "--keep-rows"], 10, {**{row: row for row in range(6)}, 9: 6}),
                (["--background", "first", "--label-offset", "2"], 5, {0: 0, **{row: row + 2 for row in range(1, 5)}}),
                (["--map", str(self.folder / "map.txt")], 12, {0: 6, 11: 2, 5: 2}),
            ]:
                (self.folder / "map.txt").write_text("# new old\n0 6\n11\t2\n5 2\n")
                count = classes or 5
                torch.manual_seed(0)
                new = nn.Linear(8, count)
                with torch.no_grad():
                    for to, old in kept.items():
                        new.weight[to], new.bias[to] = state["fc.weight"][old], state["fc.bias"][old]
                arguments = ["--head", "fc", *options, *(["--num-classes", str(classes)] if classes else [])]
                self.compare(f"{name} {options} {classes}", self.replaced(state, *arguments),
                             {**state, "fc.weight": new.weight, "fc.bias": new.bias})

    def whole_modules(self) -> None:
        """The module computes with its new head, and says its new size."""
        for head, legacy in ((nn.Linear(8, 7), False), (nn.Linear(8, 7, bias=False), True), (nn.Conv2d(8, 7, 1), False)):
            net = Net(head, torch.float32)
            found = self.replaced(net, "--head", "head", "--num-classes", "12", "--seed", "5", legacy=legacy)
            torch.manual_seed(5)
            net.head = nn.Linear(8, 12, bias=head.bias is not None) if isinstance(head, nn.Linear) else nn.Conv2d(8, 12, 1)
            if isinstance(found, str):
                self.tally.count(f"a module with {head}", found)
                continue
            self.compare(f"a module with {head}", dict(found.state_dict()), dict(net.state_dict()))
            given = torch.randn(2, 8) if isinstance(head, nn.Linear) else torch.randn(2, 8, 3, 3)
            same_output = torch.equal(found.head(given), net.head(given))
            self.tally.count(f"{head} computes", None if same_output and repr(found.head) == repr(net.head) else f"{found.head}")
            parameters = isinstance(found.head.weight, nn.Parameter) and found.head.weight.requires_grad
            self.tally.count(f"{head} has parameters", None if parameters else "its weight is none")
        net = Net(nn.Linear(8, 7), torch.float32)
        found = self.replaced(net, "--head", "head", "--num-classes", "12", "--rename", "new")
        self.tally.count("a module's head keeps its name", None if isinstance(found, str) and "whole module" in found else f"{found}")

    def refusals(self) -> None:
        weight = torch.randn(5, 8)
        cases = {
            "is tied": ({"embed.weight": weight, "decoder.weight": weight}, "decoder"),
            "is weight-normed": ({"fc.weight_g": torch.randn(5, 1), "fc.weight_v": weight}, "fc"),
            "no key is called": ({"fc.weight": weight}, "head"),
            "expected 2 to 5 dimensions": ({"fc.weight": torch.randn(5)}, "fc"),
        }
        modules = {
            "is a transposed convolution": (nn.Sequential(nn.ConvTranspose2d(4, 4, 2)), "0"),
            "is an embedding": (nn.Sequential(nn.Embedding(9, 5)), "0"),
            "has 4 groups": (nn.Sequential(nn.Conv2d(4, 8, 1, groups=4)), "0"),
            "spectral-normed": (nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 4))), "0"),
        }
        for message, (value, head) in (cases | modules).items():
            found = self.replaced(value, "--head", head, "--num-classes", "3")
            self.tally.count(message, None if isinstance(found, str) and message in found else f"{found}")
        for last in (nn.utils.weight_norm(nn.Linear(5, 4)), nn.utils.spectral_norm(nn.Linear(5, 4))):
            net = nn.Sequential(nn.Linear(3, 5), last)
            for value in (net, net.state_dict()):
                found = self.replaced(value, "--num-classes", "3")
                self.tally.count("the last layer's weight is computed", None if isinstance(found, str) and "head '1' is" in found else f"{found}")
        net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 3)), {nn.Linear})
        for head in ([], ["--head", "1"]):
            found = self.replaced(net.state_dict(), *head, "--num-classes", "3")
            self.tally.count("a packed weight", None if isinstance(found, str) and "head '1' is quantised" in found else f"{found}")
        net = nn.Sequential(nn.Linear(3, 5), nn.Embedding(9, 5))
        found = self.replaced(net, "--num-classes", "3")
        self.tally.count("an embedding behind the head", found if isinstance(found, str) else None if found[0].weight.shape == (3, 3) else f"{found}")
        found = self.replaced({"a.weight": torch.randn(5, 8), "b.weight": torch.randn(5, 8)}, "--num-classes", "3")
        self.tally.count("no single head", None if isinstance(found, str) and "'b' torch.Size([5, 8]), 'a' torch.Size([5, 8])" in found else f"{found}")


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    if not draws_promised_bits():
        print("skipped: this PyTorch computes without AVX2, so its random values are others")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        judge.layers()
        judge.whole_story()
        judge.several()
        judge.large()
        judge.rows()
        judge.whole_modules()
        judge.refusals()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
