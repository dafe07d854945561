#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What ckpt writes, loaded by LibTorch without Python: torch::pickle_load and torch::jit::load.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/libtorch_judge.py build/dev/tests/libtorch_loads

Of each output the C++ program has to find what torch.load and torch.jit.load find here: paths, dtypes, shapes and values.
torch::pickle_load knows fewer objects than Python does (no `_metadata` of a state dict, no classes), so of the golden files
those count that it can load before the edit.
"""
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any, Iterator

import torch
from torch import nn

from tally import Tally

warnings.simplefilter("ignore")
DATA = Path(__file__).resolve().parent.parent / "data"
NAMES = {torch.uint8: "Byte", torch.int8: "Char", torch.int16: "Short", torch.int32: "Int", torch.int64: "Long",
         torch.float16: "Half", torch.float32: "Float", torch.float64: "Double", torch.bool: "Bool",
         torch.bfloat16: "BFloat16", torch.complex64: "ComplexFloat", torch.complex128: "ComplexDouble"}

# -- what Python finds ------------------------------------------------------------------------------------------------


def tensor_line(path: str, tensor: torch.Tensor) -> str:
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    values = bytes(dense.reshape(-1).view(torch.uint8).numpy()) if dense.numel() else b""
    sizes = ", ".join(map(str, dense.shape))
    return f"{path}\t{NAMES[dense.dtype]}\t[{sizes}]\t{zlib.crc32(values)}"


def lines_of(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, torch.Tensor):
        yield tensor_line(path, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from lines_of(f"{path}/{key}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from lines_of(f"{path}/{i}", item)
    elif isinstance(value, (bool, int)):
        yield f"{path}\t{int(value)}"
    else:
        yield f"{path}\t{ {float: 'Double', str: 'String', type(None): 'None'}[type(value)] }"


def expected(path: Path, is_script: bool) -> list[str]:
    if not is_script:
        return list(lines_of("", torch.load(path, weights_only=True)))
    module = torch.jit.load(path)
    return [tensor_line(f"/{name}", tensor) for name, tensor in [*module.named_parameters(), *module.named_buffers()]]


# -- inputs -----------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def write_inputs(folder: Path) -> None:
    torch.manual_seed(1)
    state = dict(Net().state_dict())
    state["tied"] = state["conv.weight"]
    state["row"] = state["conv.bias"][1]
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int32, torch.bool):
        state[f"extra.{str(dtype)[6:]}"] = (torch.rand(2, 5) * 9).to(dtype)
    wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
    torch.save({"model": wrapped, "epoch": 3, "loss": 0.5, "names": ["a", None]}, folder / "wrapped.pt")
    torch.save(state, folder / "flat.pt")
    torch.save({key: torch.rand_like(t) for key, t in Net().state_dict().items() if t.is_floating_point()}, folder / "other.pt")
    torch.jit.script(Net().eval()).save(folder / "script.pt")


EDITS = [  # input, command, its arguments
    ("wrapped.pt", "strip-dataparallel", "--root model"),
    ("flat.pt", "filter-keys", "--drop fc --drop extra.bool"),
    ("wrapped.pt", "filter-keys", "--root model --drop module.fc --drop module.tied"),
    ("flat.pt", "rename-keys", "--add-prefix backbone."),
    ("flat.pt", "merge", "other.pt"),
    ("flat.pt", "replace-head", "--head fc --num-classes 7 --keep-rows"),
    ("flat.pt", "convert", "--compact"),
    ("wrapped.pt", "convert", "--state-dict --root model"),
    ("flat.pt", "convert", "--tensors-only --compact"),
    ("script.pt", "merge", "other.pt"),
    ("script.pt", "replace-head", "--head fc --num-classes 3 --seed 4"),
]
ROUND_TRIPS = ["flat.pt"]  # by way of safetensors and back: a plain dict
GOLDEN = [  # on each golden file that torch::pickle_load can load
    ("convert", "--device-tag cpu"),
    ("filter-keys", "--drop **.bias --allow-unmatched"),
]


class Judge:
    def __init__(self, ckpt: str, loader: str, folder: Path) -> None:
        self.ckpt, self.loader, self.folder = ckpt, loader, folder
        self.tally = Tally()

    def edit(self, command: str, source: Path, *arguments: str, name: str = "out.pt") -> Path:
        output = self.folder / name
        done = subprocess.run([self.ckpt, command, str(source), *arguments, "-q", "-f", "-o", str(output)],
                              capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return output

    def loaded(self, path: Path, is_script: bool) -> list[str]:
        option = ["--script"] if is_script else []
        done = subprocess.run([self.loader, *option, str(path)], capture_output=True, text=True, check=True,
                              errors="surrogatepass")
        return done.stdout.splitlines()[1:]  # a key of several lines is several lines here, and in `check`

    def check(self, name: str, path: Path, is_script: bool) -> None:
        found, wanted = self.loaded(path, is_script), "\n".join(expected(path, is_script)).splitlines()
        wrong = next((f"found {a!r}, expected {b!r}" for a, b in zip(found, wanted) if a != b), None)
        if wrong is None and len(found) != len(wanted):
            wrong = f"found {len(found)} values, expected {len(wanted)}"
        self.tally.count(name, wrong if wanted else "nothing to compare")

    def try_edit(self, name: str, is_script: bool, command: str, source: Path, *arguments: str) -> None:
        try:
            self.check(name, self.edit(command, source, *arguments), is_script)
        except (RuntimeError, KeyError, subprocess.CalledProcessError) as error:
            self.tally.count(name, f"{type(error).__name__}: {error}")

    def judge_own(self) -> None:
        write_inputs(self.folder)
        for source, command, arguments in EDITS:
            self.try_edit(f"{source} {command} {arguments}", source == "script.pt", command, self.folder / source,
                          *arguments.split())
        for source in ROUND_TRIPS:
            there = self.edit("convert", self.folder / source, "--to", "safetensors", "--compact", name="there.safetensors")
            self.try_edit(f"{source} by way of safetensors", False, "convert", there, "--to", "torch")

    def judge_golden(self) -> None:
        left_out = 0
        for source in sorted(DATA.glob("torch-*.pt")):
            is_script = "torchscript" in source.name
            if is_script or source.read_bytes()[:4] != b"PK\3\4" or "bigendian" in source.name or "root-" in source.name:
                continue
            if any(line.startswith("error") or "\tother " in line for line in self.loaded(source, is_script)):
                left_out += 1
                continue
            for command, arguments in GOLDEN:
                self.try_edit(f"{source.name} {command}", is_script, command, source, *arguments.split())
        print(f"{left_out} golden files are none for torch::pickle_load")


def main() -> int:
    if "CKPT" not in os.environ or len(sys.argv) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(os.path.abspath(os.environ["CKPT"]), os.path.abspath(sys.argv[1]), Path(folder))
        judge.judge_own()
        judge.judge_golden()
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
