#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`inspect --stats` against PyTorch: every value of the narrow dtypes, special and random values of the wide ones, views of
all kinds. Extremes and counts have to be equal, moments those of a sum without rounding, to the last few bits.

    CKPT=build/dev/apps/ckpt PYTHON tests/judge/value_statistics.py
"""
from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from tally import Tally

FLOATS = {name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz",
                                                  "float8_e8m0fnu") if hasattr(torch, name)}
INTEGERS = {name: getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64") if hasattr(torch, name)}
SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126, "float8_e5m2": 2.0**-14, "float8_e4m3fn": 2.0**-6,
            "float8_e5m2fnuz": 2.0**-15, "float8_e4m3fnuz": 2.0**-7, "float8_e8m0fnu": 0.0}
CLOSE = 1e-12  # relative, of float64 sums of blocks


def bits_of(name: str, dtype: torch.dtype) -> torch.Tensor:
    """All values of a narrow dtype; random bits of a wide one."""
    size = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}.get(name, 1)
    if size == 1:
        raw = torch.arange(256, dtype=torch.int16).to(torch.uint8)
    elif size == 2:
        raw = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    else:
        raw = torch.randint(-2**31, 2**31 - 1, (9001 * size // 4,), dtype=torch.int64).to(torch.int32)
    return raw.view(dtype)


def made() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, dtype in FLOATS.items():
        tensors[f"{name}.bits"] = bits_of(name, dtype)
        tensors[f"{name}.ordinary"] = torch.randn(70_001, dtype=torch.float64).to(torch.float32).to(dtype) if name != "float64" else torch.randn(70_001, dtype=dtype)
        tensors[f"{name}.one"] = torch.ones(1).to(dtype)
    for name, dtype in INTEGERS.items():
        raw = torch.randint(-2**63, 2**63 - 1, (5003,), dtype=torch.int64)
        tensors[f"{name}.random"] = raw.view(dtype)[:40_001] if name.startswith("uint") or name != "int64" else raw
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 2.0**-126, 2.0**-149, 1e308, -1e308, 3.4e38]
    for name in ("float64", "float32", "float16", "bfloat16"):
        tensors[f"{name}.special"] = torch.tensor(special, dtype=torch.float64).to(FLOATS[name])
        tensors[f"{name}.only nan"] = torch.full((3,), math.nan, dtype=FLOATS[name])
        tensors[f"{name}.only inf"] = torch.full((4100,), -math.inf, dtype=FLOATS[name])
        tensors[f"{name}.empty"] = torch.empty(0, 3, dtype=FLOATS[name])
    tensors["large offset"] = torch.randn(300_000) * 1e-3 + 1e4
    tensors["bool"] = torch.rand(999) > 0.3
    base = torch.randn(60, 70)
    tensors["transposed"] = base.t()
    tensors["column"] = base[:, 3]
    tensors["steps"] = base[::2, 1::3]
    tensors["expanded"] = torch.randn(50, 1).expand(50, 1000)
    tensors["expanded twice"] = torch.randn(3, 1, 4, 1).expand(3, 5, 4, 7)
    tensors["a scalar, expanded"] = torch.tensor(2.5).expand(1000, 1000)
    tensors["overlapping"] = torch.randn(120).as_strided((9, 12), (11, 1))
    tensors["channels last"] = torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    tensors["negative"] = torch.view_as_real(torch.randn(50, dtype=torch.complex64).conj().resolve_conj())[..., 1].clone() if not hasattr(torch, "_neg_view") \
        else torch._neg_view(torch.randn(50))
    tensors["complex"] = torch.tensor([0j, complex(math.nan, 0), complex(0, math.inf), 1 + 2j, -0.0 + 0j])
    tensors["conjugate"] = torch.randn(9, dtype=torch.complex64).conj()
    return tensors


def number(value: Any) -> float | None:
    return None if value is None else float(value.replace("Infinity", "inf")) if isinstance(value, str) else value


def exact_moments(values: list[float]) -> tuple[float, float]:
    """Mean, and standard deviation with n - 1; NaN without two values."""
    numbers = [Fraction(value) for value in values]
    mean = sum(numbers) / len(numbers)
    if len(numbers) < 2:
        return float(mean), math.nan
    squares = sum((each - mean) ** 2 for each in numbers)
    return float(mean), float_root(squares / (len(numbers) - 1))


def float_root(value: Fraction) -> float:
    """Its square root, also where the square is beyond float64."""
    shift = max(0, (value.numerator.bit_length() - value.denominator.bit_length()) // 2 - 60) if value else 0
    return math.ldexp(math.sqrt(value / Fraction(4) ** shift), shift)


def close(actual: float | None, expected: float, scale: float) -> bool:
    if actual is None:
        return math.isnan(expected)
    return actual == expected or abs(actual - expected) <= CLOSE * max(abs(expected), scale)


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()

    def stats(self, path: Path, *options: str) -> dict[str, Any]:
        out = subprocess.run([self.ckpt, "inspect", "--json", "--stats", *options, path], capture_output=True, text=True)
        if out.returncode != 0:
            return {}
        return {row["name"]: row["stats"] for row in json.loads(out.stdout)["files"][0]["tensors"]}

    def run(self) -> None:
        for name, tensor in made().items():
            path = self.folder / "one.pt"
            try:
                torch.save({name: tensor}, path)
                tensor = torch.load(path)[name]  # which lost its sign in 1.13, where it is negated lazily
                values = tensor.to(torch.float64) if not tensor.is_complex() and tensor.dtype not in (torch.int64, getattr(torch, "uint64", None)) else tensor
            except (RuntimeError, NotImplementedError, KeyError, AttributeError) as error:
                self.tally.skip(name, str(error)[:100])
                continue
            found = self.stats(path).get(name)
            self.tally.count(name, "no answer" if found is None else self.compare(name, values, found))
        self.histograms()

    def compare(self, name: str, values: torch.Tensor, found: dict[str, Any]) -> str | None:
        if "missing" in found:
            return f"missing: {found['missing']}"
        if values.is_complex():
            parts = torch.view_as_real(values.resolve_conj())
            nan, inf = parts.isnan().any(-1), parts.isinf().any(-1)
            expected = {"count": values.numel(), "nan": int(nan.sum()), "inf": int((inf & ~nan).sum()), "zeros": int((values == 0).sum()), "min": None, "mean": None}
            return next((f"{key}: {found[key]}, not {wanted}" for key, wanted in expected.items() if found[key] != wanted), None)
        flat = [value for value in values.flatten().tolist()]
        finite = [value for value in flat if not math.isnan(value) and not math.isinf(value)] if values.is_floating_point() else flat
        real = [value for value in flat if not math.isnan(value)] if values.is_floating_point() else flat
        smallest = SMALLEST.get(name.split(".")[0], 2.0**-126)
        expected = {"count": len(flat), "nan": len(flat) - len(real), "inf": len(real) - len(finite), "zeros": sum(value == 0 for value in flat),
                    "subnormal": sum(0 < abs(value) < smallest for value in finite) if values.is_floating_point() else 0}
        for key, wanted in expected.items():
            if found[key] != wanted:
                return f"{key}: {found[key]}, not {wanted}"
        for key, wanted in (("min", min(real, default=None)), ("max", max(real, default=None))):
            if number(found[key]) != wanted:
                return f"{key}: {found[key]}, not {wanted}"
        if not finite:
            return None if found["mean"] is None and found["std"] is None else "moments of nothing"
        mean, deviation = exact_moments(finite)
        scale = max(abs(value) for value in finite)
        if math.isinf(deviation) or scale > 1e150:
            return None  # squares are beyond float64
        if not close(found["mean"], mean, scale):
            return f"mean: {found['mean']}, not {mean}"
        return None if close(found["std"], deviation, scale * 1e-3) else f"std: {found['std']}, not {deviation}"

    def histograms(self) -> None:
        torch.manual_seed(1)
        for name, tensor in {"normal": torch.randn(100_000), "same": torch.full((7,), 3.0), "few": torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]),
                             "expanded": torch.randn(10, 1).expand(10, 3), "negative": torch._neg_view(torch.randn(100)) if hasattr(torch, "_neg_view") else -torch.randn(100)}.items():
            path = self.folder / "bins.pt"
            torch.save({name: tensor}, path)
            tensor = torch.load(path)[name]
            for bins in (1, 4, 10):
                found = self.stats(path, "--bins", str(bins)).get(name, {}).get("histogram")
                wanted = torch.histc(tensor.to(torch.float64).contiguous(), bins).to(torch.int64).tolist()
                self.tally.count(f"{bins} bins of {name}", None if found and found["counts"] == wanted else f"{found}, not {wanted}")


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        judge.run()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
