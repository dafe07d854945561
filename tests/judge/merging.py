#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt merge`, judged with the torch that runs this: the same update is done to the loaded files in Python.

    CKPT=build/dev/apps/ckpt python3 tests/judge/merging.py
"""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from tally import Tally

NUMBERS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
           torch.bool]
State = "dict[str, torch.Tensor]"


def difference(got: State, want: State, strides: dict[str, tuple[int, ...]]) -> str | None:
    """Keys in order, dtypes, values bit for bit, and the strides that are expected."""
    if list(got) != list(want):
        return f"keys {list(got)} instead of {list(want)}"
    for key, tensor in want.items():
        found = got[key]
        if found.dtype != tensor.dtype or found.shape != tensor.shape:
            return f"{key} is {found.dtype} {tuple(found.shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
        if found.contiguous().numpy().tobytes() != tensor.contiguous().numpy().tobytes() if tensor.dtype != torch.bfloat16 else \
                not torch.equal(found.contiguous().view(torch.int16), tensor.contiguous().view(torch.int16)):
            return f"{key} has other values"
        if key in strides and found.stride() != strides[key]:
            return f"{key} has strides {found.stride()}, not {strides[key]}"
    return None


class Tied(torch.nn.Module):
    """One parameter under two keys and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight
        self.watched = [self.encoder.weight]


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally, self.said = ckpt, folder, Tally(), ""

    def save(self, name: str, value: Any, legacy: bool = False) -> str:
        path = str(self.folder / name)
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
        return path

    def merged(self, *arguments: str) -> tuple[Any, str | None]:
        out = str(self.folder / "out.pt")
        done = subprocess.run([self.ckpt, "merge", *arguments, "-q", "-f", "--verify", "-o", out], capture_output=True, text=True)
        if done.returncode != 0:
            return None, f"status {done.returncode}: {done.stderr}"
        return torch.load(out), None

    def judge(self, name: str, arguments: list[str], want: State, strides: dict[str, tuple[int, ...]] | None = None) -> None:
        got, problem = self.merged(*arguments)
        self.tally.count(name, problem or difference(got, want, strides or {}))

    # ---- cases

    def containers(self) -> None:
        """The tutorial's update, with strides on both sides, between all containers that torch.save writes."""
        torch.manual_seed(0)
        base = {"a": torch.randn(4, 5), "b": torch.randn(3), "fc.w": torch.randn(2, 2), "t": torch.randn(6, 7).t(), "i": torch.arange(3),
                "cl": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last), "e": torch.randn(1, 3).expand(4, 3),
                "z": torch.randn(0, 3), "s": torch.tensor(1.5), "c": torch.randn(3, dtype=torch.complex64)}
        other = {"new": torch.randn(9)[::2], "a": torch.randn(4, 5), "b": torch.randn(30)[3:18:5], "cl": torch.randn(2, 3, 4, 4),
                 "t": torch.randn(14, 12)[::2, ::2], "i": torch.arange(6)[::2], "fc.w": torch.randn(2, 1).expand(2, 2), "e": torch.randn(4, 3),
                 "z": torch.randn(0, 3), "s": torch.tensor(-2.5), "c": torch.randn(2, 3, dtype=torch.complex64).t()[:, 1][:3]}
        other["c"] = torch.randn(3, 2, dtype=torch.complex64)[:, 1]
        kept = {key: tensor.stride() for key, tensor in base.items() if key not in ("e", "z")}
        for base_legacy in (False, True):
            for other_legacy in (False, True):
                files = [self.save("base.pt", OrderedDict(base), base_legacy), self.save("other.pt", other, other_legacy)]
                name = f"{'legacy' if base_legacy else 'zip'} with {'legacy' if other_legacy else 'zip'}"
                known = {key: value for key, value in other.items() if key in base}
                self.judge(name, files, {**base, **known}, kept)
                self.judge(f"{name}, union", [*files, "--keys", "union"], {**base, **other}, kept)
                self.judge(f"{name}, intersection", [*files, "--keys", "intersection"], {key: {**base, **known}[key] for key in base if key in other})

    def whole_checkpoint(self) -> None:
        """What is no state dict stays; ties stay where both get one tensor."""
        layer = torch.nn.Linear(3, 3)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        layer(torch.ones(3)).sum().backward()
        optimizer.step()
        state = layer.state_dict()
        state["tied"] = state["weight"]
        base = self.save("base.pt", {"model": state, "optimizer": optimizer.state_dict(), "epoch": 7})
        shared = torch.randn(3, 3)
        other = self.save("other.pt", {"weight": shared, "tied": shared, "bias": torch.randn(3)})
        got, problem = self.merged(base, other)
        if problem is None:
            model = got["model"]
            if not torch.equal(model["weight"], shared) or model["weight"].data_ptr() != model["tied"].data_ptr():
                problem = "the tie is broken"
            elif model._metadata != state._metadata or got["epoch"] != 7:
                problem = "something else changed"
            elif not torch.equal(got["optimizer"]["state"][0]["momentum_buffer"], optimizer.state_dict()["state"][0]["momentum_buffer"]):
                problem = "the optimizer changed"
        self.tally.count("a training checkpoint", problem)

    def one_mapping(self) -> None:
        """A state dict that the other file shows under two names pairs with both, and either can be named."""
        model, average, shown = ({"w": torch.randn(3)} for _ in range(3))
        base = self.save("base.pt", {"model": model, "ema": average})
        other = self.save("other.pt", {"model": shown, "ema": shown})
        for name, arguments, want in (
            ("by path", [], {"model": shown, "ema": shown}),
            ("by the second name", ["--root", "ema", "--other-root", "ema"], {"model": model, "ema": shown}),
        ):
            got, problem = self.merged(base, other, *arguments)
            for part in ("model", "ema"):
                problem = problem or difference(got[part], want[part], {})
            self.tally.count(f"one mapping, {name}", problem)

    def long_keys(self) -> None:
        """A key too long to be kept in memory is no key that could be edited, and never another one."""
        base = self.save("base.pt", {"k" * 70_000: torch.ones(2), "w": torch.ones(1)})
        _, problem = self.merged(base, base)
        self.tally.count("a long key", None if problem and problem.startswith("status 2") else f"not refused: {problem}")

    def whole_module(self) -> None:
        """Values of a whole module's tensors can be replaced in place."""
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        other = {key: torch.randn_like(value) if value.is_floating_point() else value + 5 for key, value in module.state_dict().items()}
        base = self.save("module.pt", module)
        out = str(self.folder / "out.pt")
        done = subprocess.run([self.ckpt, "merge", base, self.save("other.pt", other), "-q", "-f", "-o", out], capture_output=True, text=True)
        problem: str | None = done.stderr
        if done.returncode == 0:
            got = torch.load(out, **({"weights_only": False} if torch.__version__ >= "2" else {}))
            problem = difference(dict(got.state_dict()), other, {})
            if problem is None and not all(isinstance(parameter, torch.nn.Parameter) and parameter.requires_grad for parameter in got.parameters()):
                problem = "a parameter is none any more"
        self.tally.count("a whole module", problem)

    def shared_parameters(self) -> None:
        """What a module has besides its keys follows: a recurrent layer's list of weights, a tie, a list of one's own."""
        for make in (lambda: torch.nn.LSTM(3, 4, num_layers=2), lambda: torch.nn.Sequential(torch.nn.GRU(3, 4)), Tied):
            for legacy in (False, True):
                module, wanted = make(), make()
                base, other = self.save("module.pt", module, legacy), self.save("other.pt", wanted.state_dict())
                got, problem = self.merged_module(base, other)
                if problem is None:
                    problem = self.problem_of_module(got, wanted)
                if problem is None and isinstance(wanted, Tied):
                    is_one = got.encoder.weight is got.decoder.weight is got.watched[0]
                    problem = None if is_one else "the tie is broken"
                elif problem is None:
                    given = torch.randn(5, 2, 3)
                    problem = None if torch.equal(got(given)[0], wanted(given)[0]) else "it computes with other values"
                if "were one tensor" in self.said:
                    problem = problem or f"not true: {self.said}"
                self.tally.count(f"{module}, shared parameters", problem)
        values = {key: torch.randn(3, 3) for key in ("encoder.weight", "decoder.weight")}
        got, problem = self.merged_module(self.save("module.pt", Tied()), self.save("other.pt", values))
        if problem is None and (got.encoder.weight is got.decoder.weight or not torch.equal(got.decoder.weight, values["decoder.weight"])):
            problem = "two tensors are one"
        if problem is None and not all(isinstance(parameter, torch.nn.Parameter) for parameter in got.state_dict(keep_vars=True).values()):
            problem = "a parameter is none any more"
        self.tally.count("a tie that gets two tensors", problem)

    def merged_module(self, base: str, other: str) -> tuple[Any, str | None]:
        out = str(self.folder / "out.pt")
        done = subprocess.run([self.ckpt, "merge", base, other, "-f", "--verify", "-o", out], capture_output=True, text=True)
        if done.returncode != 0:
            return None, f"status {done.returncode}: {done.stderr}"
        self.said = done.stdout
        return torch.load(out, **({"weights_only": False} if torch.__version__ >= "2" else {})), None

    @staticmethod
    def problem_of_module(got: torch.nn.Module, wanted: torch.nn.Module) -> str | None:
        if not all(isinstance(parameter, torch.nn.Parameter) and parameter.requires_grad for parameter in got.state_dict(keep_vars=True).values()):
            return "a parameter is none any more"
        return difference(dict(got.state_dict()), dict(wanted.state_dict()), {})

    def conversions(self) -> None:
        """--dtype base rounds as copy_ does."""
        torch.manual_seed(1)
        values = torch.cat([torch.randn(3000), torch.randn(3000) * 1e-6, torch.randn(500) * 1e5, torch.linspace(6.09e-5, 6.11e-5, 999),
                            torch.tensor([0., -0., 65504, 65519.9, 65520, 6e-8, 2.98e-8, 5.96e-8, 1e-45, 3e38])])
        for source in NUMBERS:
            for target in NUMBERS:
                low = 0 if torch.uint8 in (source, target) else -100
                limited = values if source.is_floating_point and target.is_floating_point else values.clamp(low, 100)
                given = (limited.double() * 1.000000001).to(source)
                files = [self.save("base.pt", {"x": torch.zeros(given.shape, dtype=target)}), self.save("other.pt", {"x": given})]
                self.judge(f"{source} to {target}", [*files, "--dtype", "base"], {"x": torch.zeros(given.shape, dtype=target).copy_(given)})
                if source != target:
                    self.judge(f"{source} for {target}", [*files, "--dtype", "other"], {"x": given})

    def large_views(self) -> None:
        """Views larger than what is gathered at a time."""
        for shape, order in (((3000, 2000), (1, 0)), ((64, 33, 129, 7), (3, 1, 0, 2)), ((1, 5_000_000), (1, 0)), ((700, 3, 900), (2, 0, 1))):
            whole = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
            view = whole.permute(order)
            files = [self.save("base.pt", {"x": torch.zeros(view.shape)}), self.save("other.pt", {"x": view, "y": whole[::2]})]
            self.judge(f"{shape} by {order}", [*files, "--keys", "union"], {"x": view, "y": whole[::2]}, {"x": torch.zeros(view.shape).stride()})


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        judge.containers()
        judge.whole_checkpoint()
        judge.one_mapping()
        judge.long_keys()
        judge.whole_module()
        judge.shared_parameters()
        judge.conversions()
        judge.large_views()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
