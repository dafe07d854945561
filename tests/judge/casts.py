#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt convert --dtype`, judged with the torch that runs this.

    CKPT=build/dev/apps/ckpt PYTHON tests/judge/casts.py [FILE...]

Every value of the narrow dtypes, special and random values of the wide ones, in every pair of dtypes, have to be what
`tensor.to(dtype)` gives for a contiguous tensor, bit for bit, and the report has to count what became of them. Whole files
(all of tests/data) are cast in Python, too: values, sharing, strides, requires_grad and all else have to be equal.

ckpt follows the newest release. Older ones give other bits for NaNs, and NaN where float8_e4m3fn now has its largest number;
there these are compared as what they are.
"""
from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from byte_order import big_endian
from compare import Comparison, parts_of, storage_bytes, tensors_of, untyped
from loading import FULL, TORCH, load
from state_dicts import attributes_of, find_state_dicts, is_module
from tally import Tally

DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64",
         "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
DTYPES = {name: getattr(torch, name) for name in NAMES if hasattr(torch, name)}
COMPLEX = {name: getattr(torch, name) for name in ("complex32", "complex64", "complex128")}
SMALLEST = {"float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126, "float8_e5m2": 2.0**-14, "float8_e4m3fn": 2.0**-6,
            "float8_e5m2fnuz": 2.0**-15, "float8_e4m3fnuz": 2.0**-7, "float64": 2.0**-1022}
# Files of which this release reads other tensors than those that were saved, or none.
MISREAD = ([] if TORCH >= (2, 0) else ["torch-2.15-parameters"]) + ([] if hasattr(torch._utils, "_rebuild_tensor_v3") else ["dtypes-untyped"])
MISREAD += [] if TORCH >= (2, 1) else ["bigendian"]
IS_NEWEST = TORCH >= (2, 15)
SIZES = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_float(tensor: torch.Tensor) -> bool:
    return tensor.dtype.is_floating_point


def bits(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.contiguous()
    if flat.is_complex():
        return storage_bytes(flat.clone())
    return flat.to(torch.uint8) if flat.dtype == torch.bool else flat.view(SIZES[flat.element_size()])


def values_of(name: str, dtype: torch.dtype) -> torch.Tensor:
    size = torch.empty(0, dtype=dtype).element_size()
    if dtype == torch.bool:
        return torch.tensor([0, 1] * 40, dtype=torch.uint8).view(torch.bool)
    if size == 1:
        return torch.arange(256, dtype=torch.int16).to(torch.uint8).view(dtype)
    if size == 2:
        return torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    if not dtype.is_floating_point:
        raw = torch.randint(-2**63, 2**63 - 1, (20_000,), dtype=torch.int64)
        small = raw >> torch.randint(0, 62, (20_000,))
        return torch.cat([raw, small]).view(dtype) if size == 8 else torch.cat([raw.to(torch.int32), small.to(torch.int32)]).view(dtype)
    found = [torch.randint(-2**31, 2**31 - 1, (30_000 * size // 4,), dtype=torch.int64).to(torch.int32).view(dtype)]
    steps = [sign * mantissa * 2.0**exponent for exponent in range(-160, 140) for mantissa in (1, 1.5, 1.25, 1.125, 1.0625, 1.96875, 1.9999999) for sign in (1, -1)]
    steps += [sign * (whole + part) for whole in range(300) for part in (0, 0.25, 0.5, 0.75) for sign in (1, -1)]
    steps += [0.0, -0.0, math.inf, -math.inf, math.nan, 65519.99, 65520.0, 3.4e38, 2.0**31, -2.0**31 - 1, 2.0**63, -2.0**63, 2.0**64]
    found.append(torch.tensor(steps, dtype=torch.float64).to(dtype))
    for narrow in (torch.float16, torch.bfloat16):  # each number, and half way between two with what is beside it
        grid = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(narrow).to(torch.float64)
        grid = grid[torch.isfinite(grid)].sort()[0]
        middle = ((grid[1:] + grid[:-1]) / 2).to(dtype)
        found += [grid.to(dtype), middle, *((middle.view(SIZES[size]) + step).view(dtype) for step in (1, -1))]
    return torch.cat(found)


def same(want: torch.Tensor, got: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Which elements are what they have to be."""
    equal = bits(want) == bits(got)
    if IS_NEWEST or not is_float(want):
        return equal
    wide_want, wide_got = want.to(torch.float32), got.to(torch.float32)
    equal |= wide_want.isnan() & wide_got.isnan()
    if want.dtype == getattr(torch, "float8_e4m3fn", None):
        equal |= wide_want.isnan() & (wide_got.abs() == 448) & (source.to(torch.float64).abs() > 448)
    return equal


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()

    def convert(self, source: Path, target: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
        target.unlink(missing_ok=True)
        done = subprocess.run([self.ckpt, "convert", "--json", "--no-fsync", str(source), "-o", str(target), *options], capture_output=True, text=True)
        report = json.loads(done.stdout)
        error = report["errors"][0]["message"] if report["errors"] else ""
        return done.returncode, error, report["files"][0] if report["files"] else {}

    # -- every pair ---------------------------------------------------------------------------------------------------

    def pairs(self) -> None:
        torch.manual_seed(0)
        sources = {}
        for name, dtype in DTYPES.items():
            try:
                sources[name] = values_of(name, dtype)
                torch.save({name: sources[name]}, self.folder / "one.pt")
            except (RuntimeError, KeyError, AttributeError, NotImplementedError) as error:
                self.tally.skip(name, str(error)[:80])
                sources.pop(name, None)
        torch.save(sources, self.folder / "all.pt")
        for to in sources:
            target = self.folder / "to.pt"
            rules = [part for name in sources for part in ("--dtype", f"{name}={to}")]
            status, error, report = self.convert(self.folder / "all.pt", target, "--on-overflow", "inf", *rules)
            if status != 0:
                self.tally.count(f"to {to}", error)
                continue
            loaded = load(str(target))
            tallies = {cast["keys"][0]["name"]: cast for cast in report["conversion"]["cast"]["casts"]}
            for name, source in sources.items():
                try:
                    want = source.to(DTYPES[to])
                except (RuntimeError, NotImplementedError) as error:
                    self.tally.skip(f"{name} -> {to}", str(error)[:80])
                    continue
                got = loaded[name]
                wrong = (~same(want, got, source)).nonzero()[:, 0] if got.dtype == want.dtype else torch.zeros(1, dtype=torch.int64)
                problem = None
                if len(wrong):
                    at = int(wrong[0])
                    problem = f"{len(wrong)} differ; {hex(int(bits(source)[at]))} became {hex(int(bits(got)[at]))}, not {hex(int(bits(want)[at]))}"
                self.tally.count(f"{name} -> {to}", problem)
                if name in tallies and IS_NEWEST and "e8m0" not in to and "bool" not in to:
                    self.tally.count(f"{name} -> {to}, report", self.check_report(name, to, source, got, tallies[name]))
            self.clamped(to, sources)

    def check_report(self, name: str, to: str, source: torch.Tensor, got: torch.Tensor, found: dict[str, Any]) -> str | None:
        if found["exact"]:
            back = got.to(source.dtype)
            number = source.isnan() if is_float(source) else torch.zeros(len(source), dtype=torch.bool)
            return None if bool(((bits(back) == bits(source)) | number).all()) else "is not exact"
        wanted = {"values": source.numel(), "nans": 0, "zeros": 0, "subnormals": 0}
        wide = source.to(torch.float64)
        result = got.to(torch.float64)
        outside = self.outside(to, source)
        if is_float(got):
            if is_float(source):
                wanted["nans"] = int(wide.isnan().sum())
            tiny = (result.abs() < SMALLEST[to]) & (result != 0)
            wanted["subnormals"] = int((tiny & (wide.abs() >= SMALLEST.get(name, 0))).sum())
        wanted["zeros"] = int(((result == 0) & (wide != 0) & ~outside).sum())
        wanted["overflows"] = int(outside.sum())
        counted = ~outside & (result != 0) & torch.isfinite(wide)
        error = ((result - wide).abs() / wide.abs())[counted].max().item() if bool(counted.any()) else 0.0
        for key, value in wanted.items():
            if found[key] != value:
                return f"{key}: {found[key]}, not {value}"
        return None if abs(found["largest_error"] - error) <= 1e-6 * error else f"largest error: {found['largest_error']}, not {error}"

    def outside(self, to: str, source: torch.Tensor) -> torch.Tensor:
        """Which values the dtype has no number for."""
        dtype = DTYPES[to]
        if dtype.is_floating_point:
            wide = source.to(torch.float64)
            if to == "float8_e4m3fn":
                return ~(wide.to(torch.float32).abs() <= 464) & ~wide.isnan()
            rounded = source.to(dtype).to(torch.float64)
            if to.endswith("fnuz"):
                return rounded.isnan() & ~wide.isnan()
            return rounded.isinf() & ~wide.isinf()
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        inside = [not (isinstance(value, float) and not math.isfinite(value)) and low <= math.trunc(value) <= high for value in source.tolist()]
        return ~torch.tensor(inside)

    def clamped(self, to: str, sources: dict[str, torch.Tensor]) -> None:
        if to == "bool" or "e8m0" in to or not IS_NEWEST:
            return
        rules = [part for name in sources for part in ("--dtype", f"{name}={to}")]
        target = self.folder / "clamped.pt"
        status, error, _ = self.convert(self.folder / "all.pt", target, "--on-overflow", "clamp", *rules)
        if status != 0:
            return self.tally.count(f"clamped to {to}", error)
        loaded = load(str(target))
        limits = torch.finfo(DTYPES[to]) if DTYPES[to].is_floating_point else torch.iinfo(DTYPES[to])
        for name, source in sources.items():
            if name == to or name == "bool" or "e8m0" in name:
                continue
            outside, got, plain = self.outside(to, source), loaded[name], source.to(DTYPES[to])
            problem = None if bool((bits(got) == bits(plain))[~outside].all()) else "values that fit differ"
            numbers, values = got[outside].to(torch.float64).tolist(), source[outside].to(torch.float64).tolist()
            for value, number in zip(values, numbers):
                nearest = 0 if math.isnan(value) else limits.max if value > 0 else limits.min
                if number != float(nearest):
                    problem = f"{value} was clamped to {number}"
            self.tally.count(f"{name} clamped to {to}", problem)

    def complex_pairs(self) -> None:
        torch.manual_seed(1)
        for name, dtype in COMPLEX.items():
            part = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}[name]
            values = values_of(part, DTYPES[part])
            even = values[: values.numel() // 2 * 2].clone()
            for to, other in COMPLEX.items():
                if to == name:
                    continue
                try:
                    source = even.view(dtype) if name == "complex32" else torch.view_as_complex(even.view(-1, 2))
                    want = source.to(other)
                    torch.save({"x": want}, self.folder / "complex.pt")  # what can't be saved can't be loaded
                    torch.save({"x": source}, self.folder / "complex.pt")
                except (RuntimeError, NotImplementedError, KeyError, AttributeError) as error:
                    self.tally.skip(f"{name} -> {to}", str(error)[:80])
                    continue
                status, error, _ = self.convert(self.folder / "complex.pt", self.folder / "to.pt", "--on-overflow", "inf", "--dtype", to)
                got = load(str(self.folder / "to.pt"))["x"] if status == 0 else None
                if not IS_NEWEST and got is not None:
                    want, got = (torch.view_as_real(each.to(torch.complex128)).nan_to_num(7.25, math.inf, -math.inf).clone() for each in (want, got))
                self.tally.count(f"{name} -> {to}", error or (None if torch.equal(bits(want), bits(got)) else "other bits"))

    # -- what is refused ----------------------------------------------------------------------------------------------

    def refusals(self) -> None:
        torch.save({"a": torch.ones(3), "b": torch.tensor([[1.0, 2.0], [7e4, -1e5]]), "n": torch.tensor(3)}, self.folder / "large.pt")
        target = self.folder / "refused.pt"
        for options in ((), ("-n",)):
            status, error, _ = self.convert(self.folder / "large.pt", target, "--dtype", "float16", *options)
            is_right = status == 2 and "'b'" in error and "70000" in error and "[1, 0]" in error and not target.exists()
            self.tally.count(f"overflow {options}", None if is_right else f"{status} {error}")
        status, error, _ = self.convert(self.folder / "large.pt", target, "--dtype", "bfloat16")
        loaded = load(str(target)) if status == 0 else {}
        self.tally.count("integers stay", None if loaded and loaded["n"].dtype == torch.int64 and loaded["b"].dtype == torch.bfloat16 else error)

    # -- values that other edits made ---------------------------------------------------------------------------------

    def applied(self, name: str, target: Path, files: list[Path], *edits: str) -> dict[str, torch.Tensor]:
        """Of one plan. Empty, and counted, where it failed."""
        target.unlink(missing_ok=True)
        arguments = [part for edit in edits for part in ("-e", edit)]
        done = subprocess.run([self.ckpt, "apply", *arguments, *map(str, files), "-o", str(target), "--no-fsync", "--verify", "-q"], capture_output=True, text=True)
        if done.returncode != 0:
            self.tally.count(name, f"status {done.returncode}: {done.stderr}")
            return {}
        return safetensors_of(target) if target.suffix == ".safetensors" else load(str(target))

    def expect(self, name: str, got: dict[str, torch.Tensor], want: dict[str, torch.Tensor], strides: bool = True) -> None:
        if not got:
            return
        problem = None if sorted(got) == sorted(want) else f"keys {list(got)}"
        for key, value in want.items() if problem is None else ():
            if got[key].dtype != value.dtype or got[key].shape != value.shape:
                problem = f"{key} is {got[key].dtype} {tuple(got[key].shape)}"
            elif not torch.equal(bits(got[key]), bits(value)):
                problem = f"{key} has other values"
            elif strides and got[key].stride() != value.stride():
                problem = f"{key} has strides {got[key].stride()}, not {value.stride()}"
        self.tally.count(name, problem)

    def computed_before(self) -> None:
        torch.manual_seed(2)
        base = {"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3), "conv": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
                "turned": torch.randn(5, 6).t(), "n": torch.arange(3)}
        other = {key: value + 0.1 * torch.randn(value.shape) if is_float(value) else value for key, value in base.items()}
        files = [self.folder / "base.pt", self.folder / "other.pt"]
        for path, state in zip(files, (base, other)):
            torch.save(state, path)
        middle = {key: in_strides((value.double() + other[key].double()) / 2, value) if is_float(value) else value for key, value in base.items()}
        target = self.folder / "applied.pt"
        mean = f"merge {files[1]} --method mean"

        def cast(state: dict[str, torch.Tensor], dtype: torch.dtype, only: str = "") -> dict[str, torch.Tensor]:
            return {key: value.to(dtype) if is_float(value) and only in key else value for key, value in state.items()}

        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            name = str(dtype).removeprefix("torch.")
            self.expect(f"mean, then {name}", self.applied(f"mean, then {name}", target, files[:1], mean, f"convert --dtype {name}"), cast(middle, dtype))
            self.expect(f"{name}, then back", self.applied(f"{name}, then back", target, files[:1], f"convert --dtype {name}", "convert --dtype float32"),
                        cast(cast(base, dtype), torch.float32))
            halves = {key: mean_of(value.to(dtype), other[key]) if is_float(value) else value for key, value in base.items()}
            self.expect(f"{name}, then mean", self.applied(f"{name}, then mean", target, files[:1], f"convert --dtype {name}", mean), halves)
        self.expect("mean, then the bias", self.applied("mean, then the bias", target, files[:1], mean, "convert --dtype fc.bias=float16"), cast(middle, torch.float16, "fc.bias"))
        for order in (["--dtype bfloat16", "--compact"], ["--compact", "--dtype bfloat16"]):
            edits = [mean, *(f"convert {option}" for option in order)]
            self.expect(f"mean, then {order}", self.applied(f"mean, then {order}", target, files[:1], *edits), cast(middle, torch.bfloat16), strides=False)
        ties = self.applied("ties", target, files[:1], f"merge {files[1]} --method ties --density 0.5")
        self.expect("ties, then bfloat16", self.applied("ties, then bfloat16", target, files[:1], f"merge {files[1]} --method ties --density 0.5", "convert --dtype bfloat16"),
                    cast(ties, torch.bfloat16))
        taken = {key: in_strides(other[key], value) for key, value in base.items()}
        self.expect("merge, then float16", self.applied("merge, then float16", target, files[:1], f"merge {files[1]}", "convert --dtype float16"), cast(taken, torch.float16))
        for more in ("", " --keep-rows"):
            head = f"replace-head --head fc --num-classes 7 --seed 5{more}"
            made = self.applied(head, target, files[:1], head)
            for name in ("bfloat16", "float64"):
                self.expect(f"{head}, then {name}", self.applied(f"{head}, {name}", target, files[:1], head, f"convert --dtype {name}"), cast(made, DTYPES[name]))

    def strided_to_safetensors(self) -> None:
        torch.manual_seed(3)
        wide = torch.randn(6, 8)
        state = {"t": torch.randn(5, 7).t(), "conv": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last), "steps": wide[::2, 1::3],
                 "column": torch.randn(6, 8)[:, 3], "gaps": torch.randn(4, 9)[:, 1:6], "expanded": torch.randn(3, 1).expand(3, 4), "cube": torch.randn(2, 3, 4).permute(2, 0, 1),
                 "scalar": torch.tensor(1.5), "none": torch.randn(0, 3), "half": torch.randn(3, 4).half().t(), "n": torch.arange(12).view(3, 4).t()}
        source = self.folder / "strided.pt"
        torch.save(state, source)
        for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.float32):
            name = str(dtype).removeprefix("torch.")
            target = self.folder / "strided.safetensors"
            status, error, _ = self.convert(source, target, "--to", "safetensors", "--dtype", name)
            if status != 0:
                self.tally.count(f"strided to safetensors, {name}", error)
                continue
            want = {key: value.contiguous().to(dtype) if is_float(value) else value.contiguous() for key, value in state.items()}
            self.expect(f"strided to safetensors, {name}", safetensors_of(target), want)

    def lazily_negated(self) -> None:
        """A cast of a tensor that is negated when it is read is the cast of its values."""
        torch.manual_seed(5)
        numbers = torch.tensor([0.0, -0.0, 1.0, -2.5, 100.0, -127.0, 3.75, 64.0])
        shared = torch.randn(2, 3)
        smallest = torch.tensor([-128, -1, 0, 1, 127], dtype=torch.int8)
        views = {"whole": numbers, "steps": numbers[1::2], "turned": torch.randn(4, 3).t(), "part": shared[1], "double": numbers.double(), "small": smallest,
                 "byte": torch.arange(0, 256, 51, dtype=torch.int32).to(torch.uint8)}
        state = {key: torch._neg_view(value) for key, value in views.items()} if hasattr(torch, "_neg_view") else {}
        state |= {"plain": shared, "imaginary": torch.randn(3, dtype=torch.complex64).conj().imag}
        state["again"] = state["imaginary"]
        source, target = self.folder / "negated.pt", self.folder / "cast.pt"
        for is_zip in (True, False):
            torch.save(state, source, _use_new_zipfile_serialization=is_zip)
            if not load(str(source))["imaginary"].is_neg():
                return self.tally.skip("lazily negated", "this torch forgets it")
            for name, dtype in DTYPES.items():
                rules = [f"{key}={name}" for key, value in state.items() if value.dtype != dtype]
                title = f"lazily negated to {name}, {'zip' if is_zip else 'legacy'}"
                status, error, _ = self.convert(source, target, "--on-overflow", "inf", *(f"--dtype={rule}" for rule in rules))
                if "from its legacy stream" in error:
                    self.tally.skip(title, error[-80:])
                    continue
                if status != 0:
                    self.tally.count(title, error)
                    continue
                loaded = load(str(target))
                got = {key: value.resolve_neg() for key, value in loaded.items()}
                want = {key: value.resolve_neg().to(dtype) for key, value in state.items()}
                wrong = [key for key, value in want.items() if got[key].dtype != dtype or not bool(same(value, got[key], state[key].resolve_neg()).all())]
                problem = f"{wrong[0]} is {got[wrong[0]]}, not {want[wrong[0]]}" if wrong else None
                if problem is None and untyped(loaded["imaginary"]).data_ptr() != untyped(loaded["again"]).data_ptr():
                    problem = "one tensor became two"
                self.tally.count(title, problem)
        whole = torch._neg_view(torch.arange(9.0))
        torch.save({"whole": whole, "part": whole[2:5]}, source)
        status, error, _ = self.convert(source, target, "--dtype", "whole=int8", "--dtype", "part=int8")
        got = load(str(target)) if status == 0 else {"whole": torch.ones(1), "part": torch.ones(1)}
        is_right = got["whole"].tolist() == [-i for i in range(9)] and got["part"].tolist() == [-2, -3, -4] and untyped(got["whole"]).data_ptr() == untyped(got["part"]).data_ptr()
        self.tally.count("lazily negated views of one storage", None if is_right else error or "other values, or not shared")
        torch.save(state, source)
        target = self.folder / "negated.safetensors"
        status, error, _ = self.convert(source, target, "--to", "safetensors", "--tied", "copy", "--dtype", "whole=int32", "--dtype", "steps=int64")
        got = safetensors_of(target) if status == 0 else {}
        is_right = got and all(bool((got[key] == state[key].to(got[key].dtype)).all()) for key in ("whole", "steps"))
        self.tally.count("lazily negated to safetensors", None if is_right else error or "other values")

    def big_endian_files(self) -> None:
        """Numbers of a big-endian file are cast as what they are, and written in its order."""
        if TORCH < (2, 1):
            return self.tally.skip("big-endian files", "this torch does not turn numbers")
        torch.manual_seed(4)
        dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.complex64)
        state = {str(dtype): (torch.randn(3, 5, dtype=torch.complex64 if dtype.is_complex else torch.float64) * 9).to(dtype).t() for dtype in dtypes}
        plain, source, target = self.folder / "little.pt", self.folder / "big.pt", self.folder / "cast.pt"
        torch.save(state, plain)
        big_endian(str(plain), str(source), [4 if dtype.is_complex else torch.empty(0, dtype=dtype).element_size() for dtype in dtypes])
        for name in ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn"):
            for options in ((), ("--compact",), ("--to", "safetensors")):
                problem_name = f"big-endian to {name} {' '.join(options)}"
                out = target.with_suffix(".safetensors") if "--to" in options else target
                status, error, _ = self.convert(source, out, "--dtype", name, "--on-overflow", "inf", *options)
                if status != 0:
                    self.tally.count(problem_name, error)
                    continue
                want = {key: value.to(DTYPES[name]) if is_float(value) else value for key, value in state.items()}
                self.expect(problem_name, safetensors_of(out) if "--to" in options else load(str(out)), want, strides=not options)
        rules = [part for dtype in dtypes[:4] for part in ("--dtype", f"={dtype}=int16")]
        status, error, _ = self.convert(source, target, "--on-overflow", "clamp", *rules)
        self.expect("big-endian to integers", load(str(target)) if status == 0 else {}, {key: value.to(torch.int16) if is_float(value) else value for key, value in state.items()})
        if status != 0:
            self.tally.count("big-endian to integers", error)
        other = {key: value.float() if value.dtype == torch.float64 else value.to(torch.float64) if value.dtype == torch.float32 else value for key, value in state.items()}
        torch.save({key: value + 1 for key, value in other.items()}, plain)
        got = self.applied("big-endian merged", target, [source], f"merge {plain} --dtype base")
        self.expect("big-endian merged", got, {key: (other[key] + 1).to(value.dtype) for key, value in state.items()})
        got = self.applied("big-endian merged and cast", target, [source], f"merge {plain} --dtype base", "convert --dtype float16")
        self.expect("big-endian merged and cast", got, {key: (other[key] + 1).to(value.dtype).to(torch.float16) if is_float(value) else other[key] + 1 for key, value in state.items()})

    # -- whole files --------------------------------------------------------------------------------------------------

    def file(self, path: Path, dtype: torch.dtype, *options: str) -> None:
        name = str(dtype).removeprefix("torch.")
        target = self.folder / "cast.pt"
        if any(part in path.name for part in MISREAD):
            return self.tally.skip(f"{path.name} {name}", "this torch reads it otherwise")
        if "torchscript" in path.name:
            return self.script(path, target, dtype)
        try:
            expected = load(str(path), FULL)
        except Exception as error:  # noqa: BLE001: nothing to judge with
            return self.tally.skip(f"{path.name} {name}", str(error)[:80])
        status, error, _ = self.convert(path, target, "--dtype", name, "--on-overflow", "inf", *options)
        if status != 0:
            known = ("no state dict", "compressed record", "can't load float8", "TorchScript", "readers disagree", "different storages", "old classes", "is no Parameter")
            return self.tally.skip(f"{path.name} {name}", error[:100]) if any(word in error for word in known) else self.tally.count(f"{path.name} {name}", error)
        cast_in_python(expected, dtype)
        try:
            actual = load(str(target), FULL)
        except Exception as error:  # noqa: BLE001
            return self.tally.count(f"{path.name} {name}", f"does not load: {error}")
        differences = Comparison(expected, actual).differences
        if not IS_NEWEST and all(map(alike, tensors_of(expected), tensors_of(actual))):
            differences = [each for each in differences if "the same bytes" not in each]
        self.tally.count(f"{path.name} {name}", differences[0] if differences else None)


    def script(self, path: Path, target: Path, dtype: torch.dtype) -> None:
        name = f"{path.name} {str(dtype).removeprefix('torch.')}"
        try:
            before = torch.jit.load(str(path)).state_dict()
        except Exception as error:  # noqa: BLE001
            return self.tally.skip(name, str(error)[:80])
        status, error, _ = self.convert(path, target, "--dtype", str(dtype).removeprefix("torch."), "--on-overflow", "inf")
        if status != 0:
            return self.tally.skip(name, error[:100]) if not before or "TorchScript" in error else self.tally.count(name, error)
        after = torch.jit.load(str(target)).state_dict()
        wanted = {key: value.to(dtype) if is_float(value) and value.layout == torch.strided else value for key, value in before.items()}
        wrong = [key for key, value in wanted.items() if key not in after or after[key].dtype != value.dtype
                 or value.layout == torch.strided and not value.is_quantized and not bool(same(value, after[key], before[key]).all())]
        self.tally.count(name, f"{wrong[0]} differs" if wrong or list(wanted) != list(after) else None)


def safetensors_of(path: Path) -> dict[str, torch.Tensor]:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8, "C64": torch.complex64,
             "F8_E4M3": getattr(torch, "float8_e4m3fn", None)}
    found = {}
    for key, entry in json.loads(raw[8:8 + size]).items():
        if key != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            flat = torch.frombuffer(bytearray(raw[begin:end]), dtype=names[entry["dtype"]]) if begin < end else torch.empty(0, dtype=names[entry["dtype"]])
            found[key] = flat.view(entry["shape"])
    return found


def in_strides(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The values in memory as `like` lies there, and of its dtype."""
    out = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype)
    out.copy_(values)
    return out


def mean_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """As the first is, rounded once: torch goes from float64 to 16 bits by float32, so that has to be cut to an odd number."""
    mean = (a.double() + b.double()) / 2
    if a.dtype in (torch.float64, torch.float32):
        return in_strides(mean, a)
    single = mean.float()
    bits_of = single.view(torch.int32)
    cut = torch.where(single.double().abs() > mean.abs(), bits_of - 1, bits_of)
    return in_strides(torch.where(single.double() != mean, cut | 1, cut).view(torch.float32), a)


def alike(want: torch.Tensor, got: torch.Tensor) -> bool:
    """Equal but for the bits of NaNs, and for float8, which older releases round otherwise."""
    if want.dtype != got.dtype or want.shape != got.shape or want.layout != torch.strided or want.device.type == "meta" or want.is_quantized:
        return True  # not for here
    if not is_float(want):
        return torch.equal(bits(want), bits(got))
    wide_want, wide_got = want.to(torch.float64), got.to(torch.float64)
    return want.element_size() == 1 or bool(((wide_want == wide_got) | (wide_want.isnan() & wide_got.isnan())).all())


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Those of a state dict, or of a module's."""
    if not is_module(value):
        return [item for item in value.values() if isinstance(item, torch.Tensor)]
    attributes, found = attributes_of(value), []
    left_out = attributes.get("_non_persistent_buffers_set", set())
    for table in ("_parameters", "_buffers"):
        found += [item for name, item in attributes[table].items() if isinstance(item, torch.Tensor) and name not in left_out]
    for module in attributes["_modules"].values():
        if module is not None:
            found += tensors_in(module)
    return found


def is_dense(tensor: torch.Tensor) -> bool:
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def is_plain(tensor: torch.Tensor) -> bool:
    """On a storage of its own, with bytes."""
    if (torch.nn.parameter.is_lazy(tensor) or parts_of(tensor) is not None or tensor.device.type == "meta" or tensor.layout != torch.strided
            or tensor.dtype == getattr(torch, "float4_e2m1fn_x2", None)):
        return False
    return tensor.numel() == 0 or untyped(tensor).data_ptr() != 0


def cast_in_python(root: Any, dtype: torch.dtype) -> None:
    """What ckpt promises: floating tensors of state dicts, a storage at once where all of its views are cast."""
    wanted = {id(tensor): tensor for _, value in find_state_dicts(root, lambda item: isinstance(item, torch.Tensor)) for tensor in tensors_in(value)
              if is_float(tensor) and is_plain(tensor) and tensor.dtype != dtype}
    users: dict[int, dict[int, torch.dtype]] = {}
    alive = []  # so that no two storages have one id
    for tensor in [*tensors_of(root), *wanted.values()]:
        alive.append(untyped(tensor))
        users.setdefault(alive[-1]._cdata, {})[id(tensor)] = tensor.dtype
    done: dict[Any, torch.Tensor] = {}
    for tensor in wanted.values():
        storage = untyped(tensor)
        others = users[storage._cdata]
        shape, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
        if all(key in wanted and other == tensor.dtype for key, other in others.items()):
            key: Any = storage._cdata
            if key not in done:
                flat = torch.empty(0, dtype=tensor.dtype).set_(storage)
                done[key] = flat.to(dtype)
            new = torch.as_strided(done[key], shape, stride, offset)
        elif is_dense(tensor):
            key = (storage._cdata, offset, shape, stride)
            flat = torch.as_strided(torch.empty(0, dtype=tensor.dtype).set_(storage), (tensor.numel(),), (1,), offset)
            new = torch.as_strided(done.setdefault(key, flat.to(dtype)), shape, stride, 0)
        else:
            key = (storage._cdata, offset, shape, stride)
            view = torch.as_strided(torch.empty(0, dtype=tensor.dtype).set_(storage), shape, stride, offset)
            new = done.setdefault(key, view.contiguous().to(dtype))
        is_negated = hasattr(tensor, "is_neg") and tensor.is_neg()
        if is_negated and dtype.itemsize == 1:  # which PyTorch can't negate
            new = tensor.to(dtype)
        tensor.data = torch._neg_view(new) if is_negated and dtype.itemsize > 1 else new


def main() -> int:
    warnings.simplefilter("ignore")
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    files = [Path(name) for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        if not files:
            judge.pairs()
            judge.complex_pairs()
            judge.refusals()
            judge.computed_before()
            judge.strided_to_safetensors()
            judge.lazily_negated()
            judge.big_endian_files()
        for path in files or sorted(DATA.glob("*.p*")):
            for dtype in (torch.bfloat16, torch.float16, torch.float64, *([torch.float8_e4m3fn] if hasattr(torch, "float8_e4m3fn") else [])):
                judge.file(path, dtype)
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
