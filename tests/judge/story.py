#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The story that ckpt is for, from one end to the other, judged with the torch that runs this and torchvision's networks.

    CKPT=build/dev/apps/ckpt python3 tests/judge/story.py      # after scripts/install-torchvision

ResNet-18 and ResNet-50 with seeded weights are saved, stripped, given another head, frozen, and put into a network that is no longer
quite theirs. Each step is done by ckpt to the file and by PyTorch to the objects; both must agree to the last bit, order and
`_metadata` included, and the live model must take ckpt's file with strict=True. docs/tutorial.md tells the same story in small.
"""
from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

import architectures
from compare import Comparison
from tally import Tally
from vector_unit import draws_promised_bits

TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
UNSAFE = {"weights_only": False} if TORCH >= (1, 13) else {}
KINDS = ("sgd", "momentum", "adam", "adamw")


class Wrong(Exception):
    """What is wrong with a case."""


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Wrong(f"{what} is {str(found)[:300]}, expected {str(wanted)[:300]}")


def expect_same(what: str, found: Any, wanted: Any) -> None:
    """Values, types, order, sharing, attributes."""
    differences = Comparison(wanted, found).differences
    if differences:
        raise Wrong(f"{what}: {'; '.join(differences[:3])}")


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """With statistics of its own, which a fresh model has not."""
    torch.manual_seed(seed)
    model = make()
    for buffer in model.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 0.5 if buffer.is_floating_point() else torch.tensor(seed + 1))
    return model


def changed_class(resnet: Any) -> type[nn.Module]:
    """The network of the tutorials on pretrained models, as it was meant.

    A ResNet whose fc is gone: behind its pooling come a transposed convolution, a pooling that keeps the size, and fclass. As the
    tutorials print it, it can't run: it calls the constructor behind super(ResNet, self), which it is none of, and flattens before
    the transposed convolution, which takes images.
    """
    class CNN(nn.Module):
        def __init__(self, num_classes: int = 9) -> None:
            super().__init__()
            for name, child in resnet.resnet50().named_children():
                if name != "fc":
                    self.add_module(name, child)
            self.convtranspose1 = nn.ConvTranspose2d(2048, 2048, kernel_size=3, stride=1, padding=1, output_padding=0, groups=1,
                                                     bias=False, dilation=1)
            self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
            self.fclass = nn.Linear(2048, num_classes)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.data.normal_(0, tutorial_deviation(module))
                elif isinstance(module, nn.BatchNorm2d):
                    module.weight.data.fill_(1)
                    module.bias.data.zero_()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
            return self.fclass(self.maxpool2(self.convtranspose1(x)).flatten(1))

    return CNN


def tutorial_deviation(conv: nn.Conv2d) -> float:
    return math.sqrt(2. / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels))


class Story:
    def __init__(self, ckpt: str, folder: Path, resnet: Any) -> None:
        self.ckpt, self.folder, self.resnet, self.tally = ckpt, folder, resnet, Tally()

    def case(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
            problem = None
        except Wrong as error:
            problem = str(error)
        except Exception as error:  # of load_state_dict or of emitted code, say
            problem = f"{type(error).__name__}: {error}"
        self.tally.count(name, problem)

    def save(self, name: str, value: Any, legacy: bool = False) -> str:
        path = str(self.folder / name)
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
        return path

    def run(self, *arguments: Any, status: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run([self.ckpt, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        if done.returncode != status:
            raise Wrong(f"{' '.join(map(str, arguments))}: status {done.returncode}: {done.stderr[-500:]}")
        return done

    def edited(self, *arguments: Any) -> Any:
        """What torch loads of the output of a command."""
        out = str(self.folder / "out.pt")
        self.run(*arguments, "-q", "-f", "--verify", "--no-fsync", "-o", out)
        return torch.load(out, **UNSAFE)

    # ---- 1: saved, wrapped, stripped

    def saved(self) -> None:
        """A state dict from under DataParallel becomes the plain one; a whole module has the plain one's keys."""
        for legacy in (False, True):
            kind = "legacy" if legacy else "zip"
            model = seeded(self.resnet.resnet18, 1)
            plain = self.save("plain.pt", model.state_dict(), legacy)
            wrapped = self.save("wrapped.pt", nn.DataParallel(model).state_dict(), legacy)
            modules = {"module": self.save("module.pt", model, legacy), "wrapped module": self.save("wrapped-module.pt", nn.DataParallel(model), legacy)}

            def strip() -> None:
                found = self.edited("strip-dataparallel", wrapped)
                expect_same("the stripped state dict", found, model.state_dict())
                live = self.resnet.resnet18()
                expect("load_state_dict", str(live.load_state_dict(found, strict=True)), "<All keys matched successfully>")
                expect_same("the live model", live.state_dict(), model.state_dict())

            def strip_nothing() -> None:
                out = self.folder / "same.pt"
                self.run("strip-dataparallel", plain, "-q", "-f", "--no-fsync", "-o", out)
                expect("the copy", out.read_bytes() == Path(plain).read_bytes(), True)

            def keys() -> None:
                for name, path in modules.items():
                    expected = list((nn.DataParallel(model) if name.startswith("wrapped") else model).state_dict())
                    expect(f"the keys of a {name}", self.run("inspect", "--keys", path).stdout.splitlines(), expected)

            def convert(name: str) -> None:
                found = self.edited("convert", "--state-dict", modules[name])
                if name == "wrapped module":
                    found = self.edited("strip-dataparallel", self.save("wrapped-state.pt", found, legacy))
                expect_same("the state dict", found, model.state_dict())
                self.resnet.resnet18().load_state_dict(found, strict=True)

            def unwrap() -> None:
                expect_same("the module", self.edited("strip-dataparallel", modules["wrapped module"]), model)

            for name in modules:
                self.case(f"1, {kind}: convert --state-dict of a {name}", lambda: convert(name))
            self.case(f"1, {kind}: strip-dataparallel of a whole module", unwrap)
            self.case(f"1, {kind}: strip-dataparallel", strip)
            self.case(f"1, {kind}: strip-dataparallel where nothing is wrapped", strip_nothing)
            self.case(f"1, {kind}: the keys of a whole module", keys)

    # ---- 2: another number of classes

    def head(self) -> None:
        """As torch.manual_seed(0); model.fc = nn.Linear(512, 100)."""
        if not draws_promised_bits():
            self.tally.skip("2: replace-head", "this PyTorch computes without AVX2, so its random values are others")
            return
        model = seeded(self.resnet.resnet18, 2)
        replaced = copy.deepcopy(model)
        torch.manual_seed(0)
        replaced.fc = nn.Linear(512, 100)
        options = ["--num-classes", 100, "--seed", 0]

        def judge_state(legacy: bool, wrap: Callable[[nn.Module], nn.Module]) -> None:
            path = self.save("resnet18.pt", wrap(model).state_dict(), legacy)
            head = "module.fc" if isinstance(wrap(model), nn.DataParallel) else "fc"
            found = self.edited("replace-head", path, "--head", head, *options)
            expect_same("the state dict", found, wrap(replaced).state_dict())
            live = wrap(self.resnet.resnet18(num_classes=100))
            live.load_state_dict(found, strict=True)
            images = torch.rand(2, 3, 64, 64)
            expect_same("what the live model computes", live.eval()(images), wrap(replaced).eval()(images))

        def judge_module(legacy: bool) -> None:
            found = self.edited("replace-head", self.save("resnet18.pt", model.train(), legacy), "--head", "fc", *options)
            expect_same("the module", found, replaced.train())

        for legacy in (False, True):
            kind = "legacy" if legacy else "zip"
            self.case(f"2, {kind}: replace-head", lambda: judge_state(legacy, lambda model: model))
            self.case(f"2, {kind}: replace-head under DataParallel", lambda: judge_state(legacy, nn.DataParallel))
            self.case(f"2, {kind}: replace-head of a whole module", lambda: judge_module(legacy))

    # ---- 3: all but the last frozen

    def freeze(self) -> None:
        """As requires_grad = False for list(model.parameters())[:-2], with an optimizer over the rest."""
        model = seeded(self.resnet.resnet18, 3)
        files = {"state dict": self.save("state.pt", model.state_dict()), "module": self.save("module.pt", model)}

        def judge(path: str, kind: str) -> None:
            wanted = seeded(self.resnet.resnet18, 3)
            for parameter in list(wanted.parameters())[:-2]:
                parameter.requires_grad = False
            rest = [name for name, parameter in wanted.named_parameters() if parameter.requires_grad]
            options = [path, "--train-last", 2, "--optimizer-kind", kind]
            expect("--emit names", self.run("freeze-report", "-q", *options, "--emit", "names").stdout.splitlines(), rest)
            scope: dict[str, Any] = {"model": seeded(self.resnet.resnet18, 3)}
            exec(self.run("freeze-report", "-q", *options, "--emit", "python").stdout, scope)
            live, optimizer = scope["model"], scope["optimizer"]
            expect("what trains", [name for name, one in live.named_parameters() if one.requires_grad], rest)
            held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
            expect("the optimizer's parameters", held, [id(dict(live.named_parameters())[name]) for name in rest])
            self.judge_memory(options, live, optimizer)

        for file, path in files.items():
            for kind in KINDS:
                self.case(f"3, {file}, {kind}: freeze-report --train-last 2", lambda: judge(path, kind))

    def judge_memory(self, options: list[Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """The bytes of gradients and optimizer state after a step are the reported ones, and nothing frozen moved."""
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        model.train()(torch.rand(2, 3, 32, 32)).square().mean().backward()
        optimizer.step()
        moved = [name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])]
        expect("what moved", moved, [name for name, parameter in model.named_parameters() if parameter.requires_grad])
        said = json.loads(self.run("freeze-report", "--json", *options).stdout)["files"][0]["state_dicts"][0]["memory"]
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        for what, tensors in (("gradient_bytes", gradients), ("optimizer_bytes", states)):
            expect(what, said[what], sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    # ---- 4: a network that is not quite the same

    def changed_network(self) -> None:
        """ResNet-50 into a CNN with other last layers: filter-keys --like, merge, replace-head --rename."""
        CNN = changed_class(self.resnet)
        pretrained_model, cnn = seeded(self.resnet.resnet50, 4), seeded(CNN, 5)
        pretrained, model_dict = pretrained_model.state_dict(), cnn.state_dict()
        resnet50, model = self.save("resnet50.pt", pretrained), self.save("cnn.pt", model_dict)
        known = {k: v for k, v in pretrained.items() if k in model_dict}
        updated = copy.copy(model_dict)  # keeps `_metadata`
        updated.update(known)
        images = torch.rand(1, 3, 64, 64)

        def filter_keys() -> None:
            expected = OrderedDict(known)
            expected._metadata = pretrained._metadata
            expect_same("what is left", self.edited("filter-keys", resnet50, "--like", model), expected)

        def merge(other: str) -> None:
            found = self.edited("merge", model, other)
            expect_same("the merged state dict", found, updated)
            live = CNN()
            expect("load_state_dict", str(live.load_state_dict(found, strict=True)), "<All keys matched successfully>")
            expected = CNN()
            expected.load_state_dict(updated)
            expect_same("what the live model computes", live.eval()(images), expected.eval()(images))

        def report() -> None:
            said = self.run("merge", "-n", model, resnet50).stdout
            first = f"  {len(known)} of {len(model_dict)} tensors of '{model}' now come from '{resnet50}'"
            expect("the report", first in said.splitlines(), True)

        def filter_then_merge() -> None:
            kept = self.folder / "kept.pt"
            self.run("filter-keys", resnet50, "--like", model, "-q", "-f", "--no-fsync", "-o", kept)
            merge(str(kept))

        def rename_head() -> None:
            found = self.edited("replace-head", resnet50, "--head", "fc", "--rename", "fclass", "--num-classes", 9)
            live = CNN()
            missing, unexpected = live.load_state_dict(found, strict=False)
            expect("the missing keys", missing, ["convtranspose1.weight"])
            expect("the unexpected keys", unexpected, [])
            torch.manual_seed(0)
            head = nn.Linear(2048, 9)
            expected = OrderedDict((key.replace("fc.", "fclass."), value) for key, value in pretrained.items())
            expected["fclass.weight"], expected["fclass.bias"] = head.state_dict().values()
            expected._metadata = OrderedDict(("fclass" if name == "fc" else name, value) for name, value in pretrained._metadata.items())
            expect_same("the state dict", found, expected)

        def initial_values() -> None:
            conv = nn.Conv2d(3, 64, 7, bias=False)
            torch.manual_seed(6)
            conv.weight.data.normal_(0, tutorial_deviation(conv))
            found = self.edited("replace-head", resnet50, "--head", "conv1", "--num-classes", 64, "--init", "kaiming-normal:fan-out", "--seed", 6)
            expect_same("conv1", found["conv1.weight"], conv.weight.detach())

        self.case("4: filter-keys --like", filter_keys)
        self.case("4: merge", lambda: merge(resnet50))
        self.case("4: merge's report", report)
        self.case("4: filter-keys --like, then merge", filter_then_merge)
        if draws_promised_bits():
            self.case("4: replace-head --rename", rename_head)
            self.case("4: the tutorial's initial values are kaiming-normal by fan-out", initial_values)
        else:
            self.tally.skip("4: replace-head --rename", "this PyTorch computes without AVX2, so its random values are others")

    # ---- 5: shapes that differ

    def other_shapes(self) -> None:
        """A ResNet-18 for small images and ten classes: Python's update succeeds, and load_state_dict fails."""
        def small() -> nn.Module:
            net = self.resnet.resnet18(num_classes=10)
            net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            return net

        pretrained, model_dict = seeded(self.resnet.resnet18, 7).state_dict(), seeded(small, 8).state_dict()
        other, model = self.save("pretrained.pt", pretrained), self.save("small.pt", model_dict)
        updated = copy.copy(model_dict)
        updated.update({k: v for k, v in pretrained.items() if k in model_dict})
        try:
            small().load_state_dict(updated)
            lines = []
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines()[1:]]

        def refuse() -> None:
            expect("the number of errors in Python", len(lines), 3)
            out = self.folder / "none.pt"
            said = self.run("merge", model, other, "-o", out, status=2).stderr
            expect("the first error", lines[0] in said and "2 more do not fit" in said, True)
            expect("the options", "--on-shape-mismatch keep-base" in said and "--on-shape-mismatch take-other" in said, True)
            expect("an output", out.exists(), False)

        def keep_base() -> None:
            expected = copy.copy(model_dict)
            expected.update({k: v for k, v in pretrained.items() if v.shape == model_dict[k].shape})
            found = self.edited("merge", model, other, "--on-shape-mismatch", "keep-base")
            expect_same("the merged state dict", found, expected)
            small().load_state_dict(found, strict=True)
            said = self.run("merge", "-n", model, other, "--on-shape-mismatch", "keep-base").stdout.splitlines()
            expect("the report's lines", [line.strip() for line in said if "size mismatch" in line], lines)

        def take_other() -> None:
            found = self.edited("merge", model, other, "--on-shape-mismatch", "take-other")
            expect_same("the merged state dict", found, updated)
            self.resnet.resnet18().load_state_dict(found, strict=True)

        def filter_keys() -> None:
            expected = OrderedDict((k, v) for k, v in pretrained.items() if v.shape == model_dict[k].shape)
            expected._metadata = pretrained._metadata
            expect_same("what fits", self.edited("filter-keys", other, "--like", model), expected)
            said = self.run("filter-keys", "-n", other, "--like", model).stdout.splitlines()
            expect("the report's lines", [line.strip() for line in said if "size mismatch" in line], lines)
            self.run("filter-keys", "-n", other, "--like", model, "--strict", status=1)

        self.case("5: shapes that differ are refused in PyTorch's words", refuse)
        self.case("5: merge --on-shape-mismatch keep-base", keep_base)
        self.case("5: merge --on-shape-mismatch take-other", take_other)
        self.case("5: filter-keys --like", filter_keys)


def main() -> int:
    ckpt = str(Path(os.environ.get("CKPT", "build/dev/apps/ckpt")).absolute())
    try:
        resnet = architectures.resnet()
    except ModuleNotFoundError as error:
        print(f"skipped: {error}")
        return 77
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        story = Story(ckpt, Path(folder), resnet)
        story.saved()
        story.head()
        story.freeze()
        story.changed_network()
        story.other_shapes()
    print(f"torch {torch.__version__}, torchvision {architectures.VERSION}")
    return story.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
