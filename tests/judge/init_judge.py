#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Initial values of layers, bit by bit against the torch that runs this.

    CKPT=build/dev/apps/ckpt PYTHON tests/judge/init_judge.py [TOOL] [--cases N] [--seed N]

TOOL is ckpt_init_tool (tests/support/init_tool.cpp), by default the one that was built with CKPT. A case is a seed and a
few layers that are made one after the other: random kinds, shapes, dtypes and methods. Afterwards both streams must be at
the same place. What torch draws depends on whether the processor has AVX2; without it, and without torch, the status is 77
(skipped). Ends with "N passed, M failed".
"""
from __future__ import annotations

import argparse
import functools
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from tally import Tally

SKIPPED = 77
try:
    import torch
    from torch import nn
except ImportError:
    print("skipped: there is no PyTorch to judge with")
    sys.exit(SKIPPED)

from vector_unit import draws_promised_bits, vector_unit

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
DTYPES = ["float16", "bfloat16", "float32", "float64"]
SEEDS = [0, 1, 5, 42, 1234, 2**31, 2**32 - 1, 2**32, 2**40 + 5, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63)]
DRAWS_AGREE = {"float32": 2e-5, "float64": 1e-9, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Where bits are not promised: how far a value may be off, relative to itself or to the standard deviation."""


class Layer(NamedTuple):
    kind: str  # Linear, Conv1d, ConvTranspose1d, …
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    groups: int
    bias: bool
    dtype: str
    method: str

    @property
    def is_transposed(self) -> bool:
        return self.kind.startswith("ConvTranspose")

    def made(self) -> nn.Module:
        """By the constructor, which draws from torch's stream."""
        dtype = getattr(torch, self.dtype)
        if self.kind == "Linear":
            return nn.Linear(self.inputs, self.outputs, bias=self.bias, dtype=dtype)
        return getattr(nn, self.kind)(self.inputs, self.outputs, self.kernel, groups=self.groups, bias=self.bias, dtype=dtype)

    def shape(self) -> tuple[int, ...]:
        if self.is_transposed:
            return (self.inputs, self.outputs // self.groups, *self.kernel)
        return (self.outputs, self.inputs // self.groups, *self.kernel)

    def command(self) -> str:
        return (f"layer {self.method} {self.dtype} {'x'.join(map(str, self.shape()))} {int(self.bias)}"
                f" {self.groups if self.is_transposed else 0}")

    def has_promised_bits(self) -> bool:
        return VERSION >= (2, 12) or not self.method.startswith("trunc")


class Case(NamedTuple):
    seed: int
    layers: list[Layer]
    check_dtype: str  # of the values that show where the streams are


def initialise(weight: torch.Tensor, method: str) -> None:
    """What `method` says, with torch.nn.init."""
    name, _, argument = method.partition(":")
    function = getattr(nn.init, name.replace("-", "_") + "_")
    if name.startswith("kaiming"):
        function(weight, mode=argument.replace("-", "_") or "fan_in")
    elif argument:
        function(weight, **{"gain" if name.startswith("xavier") else "std": float(argument)})
    else:
        function(weight)


def tensors_of(layer: Layer) -> list[torch.Tensor]:
    if layer.method == "default":
        module = layer.made()
        return [module.weight.detach()] + ([module.bias.detach()] if layer.bias else [])
    weight = torch.empty(layer.shape(), dtype=getattr(torch, layer.dtype))
    initialise(weight, layer.method)
    return [weight] + ([torch.zeros(layer.outputs, dtype=weight.dtype)] if layer.bias else [])


def drawn_by_torch(case: Case) -> list[list[torch.Tensor]]:
    torch.manual_seed(case.seed)
    tensors = [tensors_of(layer) for layer in case.layers]
    return tensors + [[torch.empty(4, dtype=getattr(torch, case.check_dtype)).uniform_()]]


def commands(case: Case) -> list[str]:
    seed = f"seed {case.seed % 2**64}"
    return [seed] + [layer.command() for layer in case.layers] + [f"uniform {case.check_dtype} 4 0 1"]


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.equal(ours.view(torch.uint8), theirs.reshape(-1).view(torch.uint8)) if ours.numel() else theirs.numel() == 0


def difference(ours: torch.Tensor, theirs: torch.Tensor, exact: bool, scale: float) -> str | None:
    if same_bits(ours, theirs):
        return None
    a, b = ours.double(), theirs.reshape(-1).double()
    off = (a - b).abs()
    if not exact:
        allowed = DRAWS_AGREE[str(theirs.dtype).partition(".")[2]] * torch.maximum(b.abs(), torch.tensor(scale, dtype=torch.float64))
        if bool((off <= allowed).all()):
            return None
    wrong = int((ours.view(-1) != theirs.reshape(-1)).sum())
    at = int(off.argmax())
    return f"{wrong} of {a.numel()} values differ, most at {at}: {a[at].item()!r} for {b[at].item()!r}"


def scale_of(layer: Layer) -> float:
    return float(layer.method.partition(":")[2] or 1) if layer.method.startswith("trunc") else 0.0


def problem_of(case: Case, theirs: list[list[torch.Tensor]], output: memoryview, position: int) -> tuple[str | None, int]:
    """What is wrong with the output from `position` on, and where the next case begins."""
    problem = None
    for place, tensors in enumerate(theirs):
        layer = case.layers[place] if place < len(case.layers) else None
        for part, tensor in zip(("weight", "bias"), tensors):
            size = tensor.numel() * tensor.element_size()
            ours = torch.frombuffer(output[position:position + size], dtype=tensor.dtype) if size else torch.empty(0, dtype=tensor.dtype)
            position += size
            exact = layer is None or layer.has_promised_bits()
            found = difference(ours, tensor, exact, scale_of(layer) if layer else 0.0) if len(ours) == tensor.numel() else "too short"
            if found and not problem:
                problem = f"{part if layer else 'the stream after it'} of {layer or case.layers[-1]}: {found}"
    return problem, position


@functools.cache
def can_truncate(dtype: str) -> bool:
    """Debian's 1.13 can't compute the inverse error function of a float16."""
    try:
        nn.init.trunc_normal_(torch.empty(4, dtype=getattr(torch, dtype)))
    except RuntimeError:
        return False
    return True


def random_method(rng: random.Random, dtype: str) -> str:
    method = rng.choice(["default", "default", "default", "zeros", "normal", "trunc-normal", "xavier-uniform", "xavier-normal",
                         "kaiming-uniform", "kaiming-normal"])
    if method == "trunc-normal" and not can_truncate(dtype):
        method = "default"
    if method in ("normal", "trunc-normal"):
        method += rng.choice(["", ":0.02", ":1e-4", ":1", ":1.7", ":0.333", ":3", ":9"])
    elif method.startswith("xavier"):
        method += rng.choice(["", ":1", ":1.4142135623730951", ":0.1", ":1.6666666666666667"])
    elif method.startswith("kaiming"):
        method += rng.choice(["", ":fan-in", ":fan-out"])
    return method


def random_layer(rng: random.Random) -> Layer:
    dtype = rng.choice(DTYPES)
    bias = rng.random() < 0.7
    rank = rng.choice([0, 0, 0, 1, 2, 3])
    limit = rng.choice([3, 20, 20, 300])
    if rank == 0:
        return Layer("Linear", rng.randint(1, limit), rng.randint(1, limit), (), 1, bias, dtype, random_method(rng, dtype))
    limit = {3: 3, 20: 6, 300: 24}[limit]
    groups = rng.choice([1, 1, 1, 2, 3])
    kernel = tuple(rng.randint(1, 4) for _ in range(rank))
    kind = rng.choice(["Conv", "Conv", "ConvTranspose"]) + f"{rank}d"
    return Layer(kind, groups * rng.randint(1, limit), groups * rng.randint(1, limit), kernel, groups, bias, dtype, random_method(rng, dtype))


def random_case(rng: random.Random) -> Case:
    seed = rng.choice(SEEDS) if rng.random() < 0.4 else rng.randint(-(2**63), 2**64 - 1)
    return Case(seed, [random_layer(rng) for _ in range(rng.choice([1, 1, 2, 3]))], rng.choice(DTYPES))


def large_cases() -> list[Case]:
    """Each method and dtype once, with many elements and no multiple of 16 of them; and layers without elements."""
    methods = ["default", "normal:0.02", "trunc-normal:0.02", "trunc-normal:6", "xavier-uniform", "xavier-normal",
               "kaiming-uniform:fan-out", "kaiming-normal"]
    cases = [Case(7, [Layer("Linear", 511, 1001, (), 1, True, dtype, method)], "float32") for method in methods for dtype in DTYPES
             if can_truncate(dtype) or not method.startswith("trunc")]
    empty = [Layer("Linear", 0, 3, (), 1, True, "float32", "default"), Layer("Linear", 3, 0, (), 1, True, "float32", "default")]
    return cases + [Case(7, [layer], "float32") for layer in empty]


def judge(tool: str, cases: list[Case], tally: Tally) -> None:
    lines = [line for case in cases for line in commands(case)]
    result = subprocess.run([tool, "%d.%d" % VERSION], input="\n".join(lines).encode(), capture_output=True, timeout=600)
    if result.returncode != 0:
        tally.count("ckpt_init_tool", result.stderr.decode())
        return
    output, position = memoryview(bytearray(result.stdout)), 0
    for case in cases:
        problem, position = problem_of(case, drawn_by_torch(case), output, position)
        tally.count(f"seed {case.seed}, {len(case.layers)} layers", problem)
    tally.count("size of the output", None if position == len(output) else f"{len(output)} bytes, expected {position}")


def default_tool() -> Path | None:
    return Path(os.environ["CKPT"]).resolve().parent.parent / "tests" / "ckpt_init_tool" if "CKPT" in os.environ else None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", nargs="?", default=default_tool(), help="ckpt_init_tool")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.tool is None:
        parser.error("no TOOL, and no CKPT to find it by")
    if not draws_promised_bits():
        print(f"skipped: torch draws other bits on this processor ({vector_unit()}) than with AVX2")
        return SKIPPED
    warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
    warnings.filterwarnings("ignore", message="mean is more than 2 std")
    rng = random.Random(arguments.seed)
    tally = Tally()
    judge(str(arguments.tool), large_cases() + [random_case(rng) for _ in range(arguments.cases)], tally)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
