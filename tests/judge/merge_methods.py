#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt merge --method`, judged by formulas in float64 (merge_reference.py) on files of the torch that runs this.

A result is right where it is the reference, rounded once: where it lies between what the reference less its own error, and
the reference and its error, round to. For sums that error is a few units of float64; where sines, logarithms and long reductions
come in it is larger, and still far below a unit of the result.

    CKPT=build/dev/apps/ckpt python3 tests/judge/merge_methods.py
"""
from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch

import merge_reference as reference
from tally import Tally

State = "dict[str, torch.Tensor]"
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SUM, REDUCTION = 8 * 2.0**-52, 2.0**-36  # of the largest value that comes in


# -- rounding ---------------------------------------------------------------------------------------------------------


def rounded(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """To the nearest, ties to even, once. The values are those of `dtype`, as float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == torch.float64:
            return values
        if dtype == torch.float32:
            return values.astype(np.float32).astype(np.float64)
        if dtype == torch.float16:
            return values.astype(np.float16).astype(np.float64)
    if dtype == torch.bfloat16:
        return rounded_to(values, 8, -133, 3.3895313892515355e38)
    raise ValueError(dtype)


def rounded_to(values: np.ndarray, precision: int, least_exponent: int, largest: float) -> np.ndarray:
    """`least_exponent`: of the smallest subnormal."""
    with np.errstate(invalid="ignore"):
        _, exponent = np.frexp(values)
        unit = np.maximum(exponent - precision, least_exponent)
        whole = np.rint(np.ldexp(values, -unit))
        result = np.ldexp(whole, unit)
        return np.where(np.abs(result) > largest, np.copysign(np.inf, values), result)


def numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).contiguous().numpy()


def problem_of(got: torch.Tensor, want: np.ndarray, error: np.ndarray | float, dtype: torch.dtype) -> str | None:
    if got.dtype != dtype or tuple(got.shape) != want.shape:
        return f"is {got.dtype} {tuple(got.shape)}, not {dtype} {want.shape}"
    found = numbers(got)
    low, high = (rounded(want + sign * error, dtype) for sign in (-1, 1))
    right = ((low <= found) & (found <= high)) | (np.isnan(found) & np.isnan(want))
    if right.all():
        return None
    where = np.unravel_index(np.argmin(right), right.shape) if right.shape else ()
    return f"{np.count_nonzero(~right)} of {right.size} values, first at {tuple(map(int, where))}: {found[where]!r} instead of {want[where]!r}"


# -- inputs -----------------------------------------------------------------------------------------------------------


def shapes() -> dict[str, tuple[int, ...]]:
    return {"embed.weight": (40, 24), "layers.0.attn.weight": (24, 24), "layers.0.norm.weight": (24,), "layers.0.conv.weight": (6, 5, 3, 3),
            "layers.1.attn.weight": (24, 24), "layers.1.norm.weight": (24,), "layers.2.attn.weight": (129, 7), "layers.2.one": (1,),
            "layers.2.scalar": (), "empty": (0, 3), "head.bias": (10,), "column": (9, 1), "cube": (3, 4, 5)}


def base_state(dtype: torch.dtype) -> State:
    state = OrderedDict((name, torch.randn(shape, dtype=torch.float64).to(dtype)) for name, shape in shapes().items())
    state["zeros"] = torch.zeros(7, dtype=dtype)
    state["ones"] = torch.ones(5, 6, dtype=dtype)
    return state


def relative_of(base: State, dtype: torch.dtype, size: float = 0.3) -> State:
    """Values near the base's, some of them equal, some changed alike, so that there are ties."""
    state = OrderedDict()
    for name, tensor in base.items():
        change = size * torch.randn(tensor.shape, dtype=torch.float64)
        change = torch.where(torch.rand(tensor.shape) < 0.2, torch.zeros_like(change), change)
        change = torch.where(torch.rand(tensor.shape) < 0.2, torch.full_like(change, 0.25), change)
        state[name] = (tensor.double() + change).to(dtype)
    return state


def as_views(state: State) -> State:
    """The same values, each in a view of something larger or in another order."""
    views = OrderedDict()
    for index, (name, tensor) in enumerate(state.items()):
        if tensor.dim() == 4:
            views[name] = tensor.contiguous(memory_format=torch.channels_last)
        elif tensor.dim() >= 2 and index % 2:
            views[name] = tensor.transpose(0, -1).contiguous().transpose(0, -1)
        elif tensor.dim() >= 1:
            wide = torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)
            views[name] = wide[..., 0]
        else:
            views[name] = tensor
    return views


# -- methods ----------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    method: str
    arguments: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    files: int = 3  # BASE too
    error: float = SUM
    seed: int = 0

    @property
    def is_random(self) -> bool:
        return self.method.startswith(("dare", "della"))

    def __str__(self) -> str:
        return " ".join([self.method, *self.arguments])


def cases() -> list[Case]:
    def weights(*values: float) -> tuple[list[str], dict[str, Any]]:
        return ["--weights", ",".join(map(str, values))], {"weight": list(values)}

    def thinned(method: str, more: list[str], parameters: dict[str, Any], density: float = 0.4) -> Case:
        arguments, told = weights(0.7, 0.6)
        return Case(method, [*arguments, "--density", str(density), *more], {**told, "density": density, **parameters}, error=REDUCTION)

    found = [Case("mean"), Case("mean", files=1 + 1), Case("linear", *weights(1, 2, 3.5)), Case("linear", *weights(0.3, -0.2, 0.55)),
             Case("linear", [*weights(0.3, 0.2, 0.1)[0], "--normalize", "no"], {"weight": [0.3, 0.2, 0.1], "normalize": False})]
    found += [Case("slerp", ["--t", str(t)], {"t": t}, files=2, error=REDUCTION) for t in (0, 0.3, 1)]
    found += [Case("nuslerp", *weights(0.4, 0.8), files=2, error=REDUCTION),
              Case("nuslerp", [*weights(1, 1)[0], "--param", "nuslerp_flatten=no"], {"weight": [1, 1], "nuslerp_flatten": False}, 2, REDUCTION),
              Case("nuslerp", [*weights(1, 2)[0], "--param", "nuslerp_flatten=no", "--param", "nuslerp_row_wise=yes"],
                   {"weight": [1, 2], "nuslerp_flatten": False, "nuslerp_row_wise": True}, 2, REDUCTION),
              Case("nuslerp", [*weights(0.4, 0.8)[0], "--around-base"], {"weight": [0.4, 0.8], "base": True}, 3, REDUCTION),
              Case("multislerp", *weights(1, 2, 0.5), error=REDUCTION), Case("multislerp", *weights(1, 2), files=2, error=REDUCTION),
              Case("multislerp", [*weights(1, 2)[0], "--around-base"], {"weight": [1, 2], "base": True}, 3, REDUCTION),
              Case("multislerp", [*weights(0.5, 0.6, 0.2)[0], "--normalize", "no"], {"weight": [0.5, 0.6, 0.2], "normalize_weights": False}, 3, REDUCTION),
              Case("karcher", error=REDUCTION), Case("karcher", ["--param", "max_iter=3"], {"max_iter": 3}, 4, REDUCTION)]
    found += [Case("task-arithmetic", *weights(0.7, 0.6)),
              Case("task-arithmetic", [*weights(0.7, 0.6)[0], "--lambda", "0.5", "--normalize", "yes"],
                   {"weight": [0.7, 0.6], "lambda": 0.5, "normalize": True})]
    for density in (0.4, 0.05, 1, 0):
        found += [thinned("ties", [], {}, density), thinned("breadcrumbs", [], {}, density), thinned("breadcrumbs-ties", [], {}, density)]
    found += [thinned("ties", ["--normalize", "no", "--lambda", "1.5"], {"normalize": False, "lambda": 1.5}),
              thinned("ties", ["--param", "rescale=yes"], {"rescale": True}), thinned("ties", ["--param", "consensus=count"], {"consensus": "count"}),
              thinned("breadcrumbs", ["--param", "gamma=0.2"], {"gamma": 0.2}),
              Case("ties", [*weights(1, 0.5)[0], "--density", "0.3,0.6"], {"weight": [1, 0.5], "density": [0.3, 0.6]}, 3, REDUCTION)]
    for method in ("dare-linear", "dare-ties", "della", "della-linear"):
        seeded = thinned(method, ["--seed", "-5"], {})
        seeded.seed = -5
        found += [thinned(method, [], {}), seeded, thinned(method, ["--param", "rescale_by=density"], {"rescale_by": "density"}, 0.6),
                  thinned(method, ["--param", "rescale=no", "--normalize", "yes"], {"rescale": False, "normalize": True}), thinned(method, [], {}, 1)]
    found += [thinned("della", ["--param", "epsilon=0.3"], {"epsilon": 0.3}), thinned("dare-linear", [], {}, 0)]
    found += [Case("model-stock", error=REDUCTION), Case("model-stock", files=4, error=REDUCTION),
              Case("model-stock", ["--param", "filter_wise=yes"], {"filter_wise": True}, 3, REDUCTION),
              Case("sce", error=REDUCTION), Case("sce", ["--param", "select_topk=0.3"], {"select_topk": 0.3}, 4, REDUCTION),
              Case("nearswap", ["--t", "0.1"], {"t": 0.1}, 2), Case("arcee-fusion", files=2, error=REDUCTION), Case("ram"), Case("ram", files=4),
              Case("ram-plus", error=REDUCTION), Case("ram-plus", ["--param", "r=0.5", "--param", "alpha=2", "--param", "epsilon=0.05"],
                                                      {"r": 0.5, "alpha": 2, "epsilon": 0.05}, 4, REDUCTION),
              Case("add-difference", ["--param", "alpha=0.6"], {"alpha": 0.6}), Case("add-difference"),
              Case("weighted-subtraction", ["--param", "alpha=0.6", "--param", "beta=0.5"], {"alpha": 0.6, "beta": 0.5}, 2),
              Case("sum-twice", ["--param", "alpha=0.6", "--param", "beta=0.3"], {"alpha": 0.6, "beta": 0.3}),
              Case("triple-sum", ["--param", "alpha=0.2", "--param", "beta=0.3"], {"alpha": 0.2, "beta": 0.3})]
    return found


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()

    def save(self, name: str, value: Any, **options: Any) -> str:
        path = str(self.folder / name)
        torch.save(value, path, **options)
        return path

    def run(self, *arguments: str) -> tuple[Any, str | None]:
        out = str(self.folder / "out.pt")
        done = subprocess.run([self.ckpt, "merge", *arguments, "-q", "-f", "--verify", "-o", out], capture_output=True, text=True)
        if done.returncode != 0:
            return None, f"status {done.returncode}: {done.stderr}".strip()
        return torch.load(out, **({"weights_only": False} if TORCH >= (2, 0) else {})), None

    def judge(self, name: str, case: Case, states: list[State], files: list[str], more: list[str] | None = None, dtype: torch.dtype | None = None) -> None:
        got, problem = self.run(*files, "--method", case.method, *case.arguments, "--allow-unrelated", *(more or []))
        if problem is None and list(got) != list(states[0]):
            problem = f"keys {list(got)}"
        for key, tensor in (states[0].items() if problem is None else ()):
            values = [numbers(state[key]) for state in states]
            randoms = [reference.random_numbers(case.seed, key, file, values[0].shape) for file in range(1, len(values))] if case.is_random else None
            want = reference.merged(case.method, values, case.parameters, key, randoms)
            scale = max((float(np.max(np.abs(value))) for value in values if value.size), default=0.0)
            weights = case.parameters.get("weight", [1.0])
            scale *= max(1.0, sum(map(abs, weights)), sum(map(abs, weights)) / max(abs(sum(weights)), 1e-9))
            found = problem_of(got[key], want, case.error * scale, dtype or tensor.dtype)
            if found is not None:
                problem = f"{key}: {found}"
                break
        self.tally.count(name, problem)

    # ---- what is judged

    def methods(self) -> None:
        """Every method in every dtype."""
        for index, case in enumerate(cases()):
            for dtype in DTYPES:
                torch.manual_seed(index)
                states = [base_state(dtype)]
                states += [relative_of(states[0], dtype) for _ in range(case.files - 1)]
                files = [self.save(f"{i}.pt", state) for i, state in enumerate(states)]
                self.judge(f"{case}, {dtype}", case, states, files)


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        judge.methods()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
