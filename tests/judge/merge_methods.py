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
from typing import Any

import numpy as np
import torch

import merge_reference as reference
from byte_order import big_endian
from tally import Tally

State = "dict[str, torch.Tensor]"
TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SUM, REDUCTION = 8 * 2.0**-52, 2.0**-36  # of the largest value that comes in
# Methods that add up a whole tensor and multiply by the sum; it is rounded in the order in which the tensor lies, which float64 can show.
SUMMED = ("dare-linear", "dare-ties", "sce")


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
        seeded = thinned(method, ["--seed", str(2**64 - 5)], {})
        seeded.seed = 2**64 - 5
        found += [thinned(method, [], {}), seeded, thinned(method, ["--param", "rescale_by=density"], {"rescale_by": "density"}, 0.6),
                  thinned(method, ["--param", "rescale=no", "--normalize", "yes"], {"rescale": False, "normalize": True}), thinned(method, [], {}, 1)]
    found += [thinned("della", ["--param", "epsilon=0.3"], {"epsilon": 0.3}), thinned("dare-linear", [], {}, 0)]
    found += [thinned(method, ["--param", "epsilon=0.05,0.3"], {"epsilon": [0.05, 0.3]}) for method in ("della", "della-linear")]
    found += [thinned(method, ["--param", "gamma=0.3,0.1"], {"gamma": [0.3, 0.1]}) for method in ("breadcrumbs", "breadcrumbs-ties")]
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

    def run(self, *arguments: str, load: Any = None) -> tuple[Any, str | None]:
        out = str(self.folder / "out.pt")
        done = subprocess.run([self.ckpt, "merge", *arguments, "-q", "-f", "--verify", "-o", out], capture_output=True, text=True)
        if done.returncode != 0:
            return None, f"status {done.returncode}: {done.stderr}".strip()
        if load is not None:
            return load(out), None
        return torch.load(out, **({"weights_only": False} if TORCH >= (2, 0) else {})), None

    def judge(self, name: str, case: Case, states: list[State], files: list[str], more: list[str] | None = None, dtype: torch.dtype | None = None) -> None:
        got, problem = self.run(*files, "--method", case.method, *case.arguments, "--allow-unrelated", *(more or []))
        if problem is None and "state_dict" in got:
            got = got["state_dict"]
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

    def views(self) -> None:
        """Strided, negated and big-endian inputs are read as their values; the result has the base's strides where the method allows it."""
        for case in (Case("linear", ["--weights", "1,2"], {"weight": [1, 2]}, 2), Case("ties", ["--density", "0.4"], {"density": 0.4}, 2, REDUCTION),
                     Case("slerp", ["--t", "0.4"], {"t": 0.4}, 2, REDUCTION), Case("arcee-fusion", files=2, error=REDUCTION)):
            for dtype in (torch.float32, torch.bfloat16):
                torch.manual_seed(7)
                base = base_state(dtype)
                other = relative_of(base, dtype)
                for name, states in {"base": [as_views(base), other], "other": [base, as_views(other)], "both": [as_views(base), as_views(other)]}.items():
                    self.judge(f"{case}, {dtype}, views in {name}", case, states, [self.save(f"{i}.pt", state) for i, state in enumerate(states)])
                if hasattr(torch, "_neg_view") and TORCH >= (2, 0):
                    negated = OrderedDict((key, torch._neg_view(-tensor)) for key, tensor in other.items())
                    self.judge(f"{case}, {dtype}, negated", case, [base, other], [self.save("0.pt", base), self.save("1.pt", negated)])
                files = [self.save("0.pt", base), big_endian(self.save("1.pt", other), str(self.folder / "big.pt"), torch.empty(0, dtype=dtype).element_size())]
                self.judge(f"{case}, {dtype}, big-endian", case, [base, other], files)
                if TORCH < (2, 1):
                    self.tally.skip(f"{case}, {dtype}, big-endian base", "this torch does not turn numbers")
                    continue
                size = torch.empty(0, dtype=dtype).element_size()
                turned = [big_endian(self.save(f"{i}.pt", state), str(self.folder / f"big{i}.pt"), size) for i, state in enumerate([as_views(base), other])]
                self.judge(f"{case}, {dtype}, big-endian base", case, [base, other], [turned[0], self.save("1.pt", other)])
                self.judge(f"{case}, {dtype}, big-endian both", case, [base, other], turned)
                narrow = torch.float16 if dtype == torch.bfloat16 else torch.bfloat16
                self.judge(f"{case}, {dtype}, big-endian to {narrow}", case, [base, other], turned, ["--dtype", str(narrow).removeprefix("torch.")], narrow)
        dense = {"cl": torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last), "t": torch.randn(5, 6).t()}
        files = [self.save("0.pt", dense), self.save("1.pt", {key: tensor + 0.1 for key, tensor in dense.items()})]
        got, problem = self.run(*files, "--method", "mean")
        if problem is None:
            problem = next((f"{key} has strides {got[key].stride()}" for key, tensor in dense.items() if got[key].stride() != tensor.stride()), None)
        self.tally.count("strides of the base", problem)

    def orders(self) -> None:
        """Methods in which places count: the places are those of C order, and the result lies as the base does."""
        weights = ["--weights", "0.7,0.6"], {"weight": [0.7, 0.6]}

        def thinned(method: str, more: list[str] | None = None, told: dict[str, Any] | None = None) -> Case:
            return Case(method, [*weights[0], "--density", "0.4", *(more or [])], {**weights[1], "density": 0.4, **(told or {})}, error=REDUCTION)

        found = [thinned(method) for method in ("ties", "dare-linear", "dare-ties", "della", "della-linear", "breadcrumbs", "breadcrumbs-ties")]
        found += [Case("sce", ["--param", "select_topk=0.3"], {"select_topk": 0.3}, 3, REDUCTION), Case("arcee-fusion", files=2, error=REDUCTION),
                  Case("model-stock", ["--param", "filter_wise=yes"], {"filter_wise": True}, 3, REDUCTION),
                  Case("nuslerp", ["--weights", "1,1", "--param", "nuslerp_flatten=no"], {"weight": [1, 1], "nuslerp_flatten": False}, 2, REDUCTION),
                  Case("nuslerp", ["--weights", "1,2", "--param", "nuslerp_flatten=no", "--param", "nuslerp_row_wise=yes"],
                       {"weight": [1, 2], "nuslerp_flatten": False, "nuslerp_row_wise": True}, 2, REDUCTION)]
        for index, case in enumerate(found):
            for dtype in (torch.float32, torch.bfloat16, torch.float64):
                torch.manual_seed(100 + index)
                shapes = {"conv": (6, 5, 3, 3), "conv3d": (3, 4, 2, 3, 7), "point": (5, 4, 1, 1), "one": (1, 9), "linear": (24, 17), "cube": (3, 4, 5), "plain": (5, 7)}
                plain = OrderedDict((key, torch.randn(shape, dtype=torch.float64).to(dtype)) for key, shape in shapes.items())
                orders = {"conv": torch.channels_last, "conv3d": torch.channels_last_3d, "point": torch.channels_last}
                base = OrderedDict((key, tensor.contiguous(memory_format=orders[key]) if key in orders else tensor) for key, tensor in plain.items())
                for key in ("one", "linear", "cube"):
                    base[key] = plain[key].transpose(0, -1).contiguous().transpose(0, -1)
                others = [relative_of(plain, dtype) for _ in range(case.files - 1)]
                rest = [self.save(f"{i + 1}.pt", state) for i, state in enumerate(others)]
                name = f"{case}, {dtype}, base in other orders"
                self.judge(name, case, [base, *others], [self.save("0.pt", base), *rest])
                lying, problem = self.run(self.save("0.pt", base), *rest, "--method", case.method, *case.arguments, "--allow-unrelated")
                dense, other_problem = self.run(self.save("0.pt", plain), *rest, "--method", case.method, *case.arguments, "--allow-unrelated")
                problem = problem or other_problem
                for key, tensor in base.items() if problem is None else ():
                    if lying[key].stride() != tensor.stride():
                        problem = f"{key} has strides {lying[key].stride()}, not {tensor.stride()}"
                        continue
                    may_differ = dtype == torch.float64 and case.method in SUMMED
                    error = 2 * torch.finfo(dtype).eps * float(dense[key].abs().max()) if may_differ else 0
                    if not torch.allclose(lying[key], dense[key], rtol=0, atol=error):
                        problem = f"{key} has not the values that it has of a contiguous base"
                self.tally.count(f"{name}: strides and values", problem)

    def large_orders(self) -> None:
        """Of equal changes the first in C order stay, and strides are the base's; with methods of rows where they can be written in runs worth it."""
        for name, shape, dtype in (("transposed", (4000, 4100), torch.bfloat16), ("channels last", (3, 700, 40, 41), torch.float32),
                                   ("not square", (2900, 2901), torch.float32), ("flat", (32, 600_000), torch.float32)):
            swapped = torch.zeros(shape, dtype=dtype)
            base = swapped.transpose(0, 1).contiguous().transpose(0, 1) if len(shape) == 2 else swapped.contiguous(memory_format=torch.channels_last)
            files = [self.save("0.pt", {"w": base}), self.save("1.pt", {"w": torch.ones(shape, dtype=dtype)})]
            got, problem = self.run(*files, "--method", "ties", "--density", "0.3")
            if problem is None:
                kept, values = int(0.3 * base.numel()), got["w"].reshape(-1)
                if not (bool((values[:kept] == 1).all()) and bool((values[kept:] == 0).all())):
                    problem = "others than the first are kept"
                elif got["w"].stride() != base.stride():
                    problem = f"strides {got['w'].stride()}"
            self.tally.count(f"a large tensor, {name}", problem)
            if problem is None and len(shape) == 2:
                got, problem = self.run(*files, "--method", "della", "--density", "0.3")
                dense, other_problem = self.run(self.save("0.pt", {"w": base.contiguous()}), files[1], "--method", "della", "--density", "0.3")
                problem = problem or other_problem
                if problem is None and not torch.equal(got["w"], dense["w"]):
                    problem = "other values than of a contiguous base"
                elif problem is None and (got["w"].stride() == base.stride()) != (name != "flat"):
                    problem = f"strides {got['w'].stride()}"
                self.tally.count(f"a large tensor, {name}, by rows", problem)

    def containers(self) -> None:
        """Any container gives values to any other."""
        torch.manual_seed(8)
        states = [base_state(torch.float32)]
        states.append(relative_of(states[0], torch.float32))
        case = Case("task-arithmetic", ["--weights", "0.5"], {"weight": [0.5]}, 2)

        def saved(number: int) -> dict[str, str]:
            state = states[number]
            files = {"zip": self.save(f"{number}.pt", state), "legacy": self.save(f"{number}.bin", state, _use_new_zipfile_serialization=False),
                     "nested": self.save(f"{number}-nested.pt", {"state_dict": state, "epoch": 3})}
            if TORCH >= (2, 0):
                from safetensors.torch import save_file
                files["safetensors"] = str(self.folder / f"{number}.safetensors")
                save_file({key: tensor.contiguous() for key, tensor in state.items()}, files["safetensors"])
            return files

        bases, others = saved(0), saved(1)
        for kind in ("zip", "legacy"):
            for other in others:
                self.judge(f"{kind} and {other}", case, states, [bases[kind], others[other]])
        for kind in ("nested", "safetensors"):
            if kind in bases:
                self.judge(f"{kind} to torch", case, [OrderedDict(sorted(states[0].items())) if kind == "safetensors" else states[0], states[1]],
                           [bases[kind], others["zip"]], ["--to", "torch"] if kind == "safetensors" else None)

    def modules(self) -> None:
        """State dicts, whole modules and TorchScript give values to each other, and stay what they are."""
        torch.manual_seed(15)
        layers = [torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)) for _ in range(2)]
        for mine, theirs in zip(layers[0].parameters(), layers[1].parameters()):
            theirs.data.copy_(mine.data + 0.1 * torch.randn(mine.shape))
        states = [layer.state_dict() for layer in layers]
        files: dict[str, list[str]] = {}
        for number, layer in enumerate(layers):
            scripted = str(self.folder / f"{number}-script.pt")
            torch.jit.script(layer).save(scripted)
            for kind, file in {"state dict": self.save(f"{number}.pt", layer.state_dict()), "module": self.save(f"{number}-module.pt", layer),
                               "legacy module": self.save(f"{number}-legacy.pt", layer, _use_new_zipfile_serialization=False), "TorchScript": scripted}.items():
                files.setdefault(kind, []).append(file)
        loaders = {"TorchScript": torch.jit.load}
        for kind, (base, _) in files.items():
            for other_kind, (_, other) in files.items():
                got, problem = self.run(base, other, "--method", "mean", load=loaders.get(kind))
                state = got.state_dict() if problem is None and kind != "state dict" else got
                if problem is None and list(state) != list(states[0]):
                    problem = f"keys {list(state)}"
                for key, tensor in states[0].items() if problem is None else ():
                    if tensor.is_floating_point():
                        problem = problem or problem_of(state[key], reference.mean([numbers(each[key]) for each in states], {}), SUM * 4, tensor.dtype)
                    elif not torch.equal(state[key], tensor):
                        problem = f"{key} is {state[key]}"
                self.tally.count(f"{kind} and {other_kind}", problem)

    def dtypes(self) -> None:
        """The output's dtype, inputs of several, float32 sums, and floats of 8 bits as inputs."""
        case = Case("linear", ["--weights", "1,2,3"], {"weight": [1, 2, 3]})
        torch.manual_seed(9)
        base = base_state(torch.float32)
        states = [base, relative_of(base, torch.bfloat16), relative_of(base, torch.float64)]
        files = [self.save(f"{i}.pt", state) for i, state in enumerate(states)]
        self.judge("three dtypes", case, states, files)
        for dtype in DTYPES:
            self.judge(f"to {dtype}", case, states, files, ["--dtype", str(dtype).removeprefix("torch.")], dtype)
        single = Case("linear", ["--weights", "1,2,3", "--accumulate", "float32"], {"weight": [1, 2, 3]}, error=8 * 2.0**-23)
        self.judge("sums in float32", single, states, files)
        for name in ("float8_e4m3fn", "float8_e5m2"):
            if not (hasattr(torch, name) and hasattr(torch._utils, "_rebuild_tensor_v3")):  # 2.1 has it and can't save it
                continue
            narrow = OrderedDict((key, tensor.to(getattr(torch, name))) for key, tensor in base.items())
            files = [self.save("0.pt", base), self.save("1.pt", narrow)]
            self.judge(f"{name} as input", Case("linear", ["--weights", "1,2"], {"weight": [1, 2]}, 2), [base, narrow], files)

    def settings(self) -> None:
        """Parameters for some keys, and over the layers as mergekit lays them."""
        torch.manual_seed(10)
        states = [base_state(torch.float32)]
        states.append(relative_of(states[0], torch.float32))
        files = [self.save(f"{i}.pt", state) for i, state in enumerate(states)]
        got, problem = self.run(*files, "--method", "slerp", "--t", "[0,0.4,1]", "--t", "head.bias=0.25", "--allow-unrelated")
        depth = {"layers.0": 0.0, "layers.1": 0.5, "layers.2": 1.0}
        for key, tensor in states[0].items() if problem is None else ():
            place = next((value for prefix, value in depth.items() if key.startswith(prefix)), 0.0)
            t = 0.25 if key == "head.bias" else 0.4 * place / 0.5 if place <= 0.5 else 0.4 + 0.6 * (place - 0.5) / 0.5
            want = reference.slerp([numbers(state[key]) for state in states], {"t": t})
            problem = problem or problem_of(got[key], want, REDUCTION * 4, tensor.dtype)
        self.tally.count("a gradient over layers", problem)
        states.append(relative_of(states[0], torch.float32))
        files.append(self.save("2.pt", states[2]))
        for method, name in (("della", "epsilon"), ("breadcrumbs", "gamma")):
            got, problem = self.run(*files, "--method", method, "--density", "0.5", "--param", f"{name}=[0,0.4],0.2", "--param", f"=head.bias:{name}=0.3,0.1")
            for key, tensor in states[0].items() if problem is None else ():
                place = next((value for prefix, value in depth.items() if key.startswith(prefix)), 0.0)
                told = [0.3, 0.1] if key == "head.bias" else [0.4 * place, 0.2]
                values = [numbers(state[key]) for state in states]
                randoms = [reference.random_numbers(0, key, file, values[0].shape) for file in (1, 2)] if method == "della" else None
                want = reference.merged(method, values, {"density": 0.5, name: told}, key, randoms)
                problem = problem or problem_of(got[key], want, REDUCTION * 8, tensor.dtype)
            self.tally.count(f"{name} of {method} by file, key and layer", problem)

    def averages(self) -> None:
        """Bit for bit what torch makes of float64 sums; timm's script, and fairseq's within its own rounding."""
        torch.manual_seed(11)
        for dtype in DTYPES:
            states = [base_state(dtype)]
            states += [relative_of(states[0], dtype) for _ in range(4)]
            got, problem = self.run(*[self.save(f"{i}.pt", state) for i, state in enumerate(states)], "--method", "mean")
            for key in states[0] if problem is None else ():
                exact = sum(state[key].double() for state in states) / len(states)
                narrow = torch.from_numpy(np.asarray(rounded(exact.numpy(), dtype))).to(dtype)
                if not torch.equal(narrow, got[key]):
                    problem = f"{key} differs from torch's mean in float64"
                native = states[0][key].clone().float() if dtype == torch.float16 else states[0][key].clone()
                for state in states[1:]:
                    native += state[key].float() if dtype == torch.float16 else state[key]
                native = (native / len(states)).to(dtype)
                bound = (len(states) + 2) * torch.finfo(dtype).eps * sum(state[key].abs().double() for state in states)
                if bool(((native.double() - got[key].double()).abs() > bound).any()):
                    problem = f"{key} is farther from fairseq's average than that rounds"
                if dtype == torch.float32:
                    average = sum(state[key].to(torch.float64) for state in states) / len(states)
                    limits = torch.finfo(torch.float32)
                    if not torch.equal(average.clamp(limits.min, limits.max).to(torch.float32), got[key]):
                        problem = f"{key} differs from timm's average"
            self.tally.count(f"averages, {dtype}", problem)

    def whole_files(self) -> None:
        """Ties, metadata, the optimizer, Parameters and counters of a real training checkpoint and of a whole module."""
        torch.manual_seed(12)
        layers = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4)) for _ in range(2)]
        for index, module in enumerate(layers):
            module[2].weight.data.copy_(torch.randn(4, 4) * 0.01 + torch.eye(4))
            module[0].weight.data.copy_(torch.ones(4, 3) + 0.1 * torch.randn(4, 3))
            for _ in range(index + 2):
                module(torch.randn(5, 3))
        optimizer = torch.optim.SGD(layers[0].parameters(), lr=0.1, momentum=0.9)
        layers[0](torch.randn(5, 3)).sum().backward()
        optimizer.step()
        states = [module.state_dict() for module in layers]
        for state in states:
            state["tied"] = state["2.weight"]
        files = [self.save("0.pt", {"model": states[0], "optimizer": optimizer.state_dict(), "epoch": 7}), self.save("1.pt", {"model": states[1]})]
        got, problem = self.run(*files, "--method", "mean")
        if problem is None:
            model = got["model"]
            if model._metadata != states[0]._metadata or got["epoch"] != 7 or list(model) != list(states[0]):
                problem = "something else changed"
            elif model["tied"].data_ptr() != model["2.weight"].data_ptr():
                problem = "the tie is broken"
            elif model["1.num_batches_tracked"].dtype != torch.int64 or int(model["1.num_batches_tracked"]) != 3:
                problem = f"the counter is {model['1.num_batches_tracked']}"
            elif not all(torch.equal(got["optimizer"]["state"][0][key], value) for key, value in optimizer.state_dict()["state"][0].items()
                         if isinstance(value, torch.Tensor)):
                problem = "the optimizer changed"
            else:
                problem = next((f"{key} has other values" for key in states[0] if key != "1.num_batches_tracked" and not torch.equal(
                    model[key], ((states[0][key].double() + states[1][key].double()) / 2).float())), None)
        self.tally.count("a training checkpoint", problem)
        got, problem = self.run(self.save("0.pt", layers[0]), self.save("1.pt", states[1]), "--method", "mean")
        if problem is None and not all(isinstance(parameter, torch.nn.Parameter) and parameter.requires_grad for parameter in got.parameters()):
            problem = "a parameter is none any more"
        if problem is None and not torch.equal(got[0].weight, ((layers[0][0].weight.double() + layers[1][0].weight.double()) / 2).float()):
            problem = "other values"
        self.tally.count("a whole module", problem)

    def adapters(self) -> None:
        """W + scale B A, as peft's merge_and_unload computes it: linear layers, transposed ones, convolutions, embeddings."""
        torch.manual_seed(13)
        shapes = {"q": ((6, 5), (2, 5), (6, 2)), "square": ((4, 4), (3, 4), (4, 3)), "turned": ((5, 6), (2, 5), (6, 2)), "conv": ((6, 3, 3, 3), (2, 3, 3, 3), (6, 2, 1, 1)),
                  "point": ((6, 3, 1, 1), (2, 3, 1, 1), (6, 2, 1, 1)), "embed": ((9, 4), (2, 9), (4, 2))}
        for dtype in DTYPES:
            base = OrderedDict((f"{name}.weight", torch.randn(shape[0], dtype=torch.float64).to(dtype)) for name, shape in shapes.items())
            base["bias"] = torch.randn(3).to(dtype)
            for config in ({"lora_alpha": 3}, {"lora_alpha": 3, "use_rslora": True}, {"lora_alpha": 3, "alpha_pattern": {"conv": 5}}):
                adapter = {}
                for name, (_, down, up) in shapes.items():
                    kind = "lora_embedding_{}" if name == "embed" else "lora_{}.weight"
                    adapter[f"base_model.model.{name}." + kind.format("A")] = torch.randn(down)
                    adapter[f"base_model.model.{name}." + kind.format("B")] = torch.randn(up)
                (self.folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **config}))
                got, problem = self.run(self.save("0.pt", base), self.save("1.pt", adapter), "--method", "lora", "--weights", "0.7")
                for name, (shape, down, up) in shapes.items() if problem is None else ():
                    key, a, b = f"{name}.weight", *[tensor for key, tensor in adapter.items() if f".{name}." in key]
                    alpha, r = config.get("alpha_pattern", {}).get(name, 3), down[0]
                    scale = 0.7 * alpha / (math.sqrt(r) if config.get("use_rslora") else r)
                    product = scale * (numbers(b).reshape(up[0], -1) @ numbers(a).reshape(r, -1))
                    want = numbers(base[key]) + (product.T if name in ("turned", "embed") else product).reshape(shape)
                    problem = problem or problem_of(got[key], want, 2.0**-44, dtype)
                if problem is None and not torch.equal(got["bias"], base["bias"]):
                    problem = "the bias changed"
                self.tally.count(f"lora, {dtype}, {config}", problem)
        (self.folder / "adapter_config.json").unlink()

    def refusals(self) -> None:
        """What is refused leaves no output."""
        torch.manual_seed(14)
        state = {"w": torch.randn(40, 40), "n": torch.arange(3)}
        files = {"base": self.save("0.pt", state), "unrelated": self.save("1.pt", {"w": torch.randn(40, 40), "n": torch.arange(3)}),
                 "integers": self.save("2.pt", {"w": state["w"] + 0.1, "n": torch.arange(3) + 1}), "shape": self.save("3.pt", {"w": torch.randn(40, 41), "n": torch.arange(3)}),
                 "class": self.save("4.pt", {"w": state["w"].long(), "n": torch.arange(3)}), "sparse": self.save("5.pt", {"w": torch.eye(40).to_sparse(), "n": torch.arange(3)})}
        out = self.folder / "refused.pt"
        for name, said in {"unrelated": "related", "integers": "--integers", "shape": "size mismatch", "class": "int64", "sparse": "sparse"}.items():
            done = subprocess.run([self.ckpt, "merge", files["base"], files[name], "--method", "mean", "-o", str(out)], capture_output=True, text=True)
            problem = f"status {done.returncode}: {done.stderr}" if done.returncode != 2 or said not in done.stderr else "an output is left" if out.exists() else None
            self.tally.count(f"refused: {name}", problem)


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        for group in (judge.methods, judge.views, judge.orders, judge.large_orders, judge.containers, judge.modules, judge.dtypes, judge.settings, judge.averages, judge.whole_files, judge.adapters, judge.refusals):
            group()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
