# SPDX-License-Identifier: BSD-3-Clause
"""Replaced and inserted tensors, judged with the torch that runs this: the same is done to the loaded input in Python."""
from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, NamedTuple

import torch

import edits
from compare import Comparison
from loading import FAKE, META, TORCH, load
from offsets import DEFLATED, wrong_offsets
from state_dicts import is_module
from tally import Tally

BYTES = bytes(range(1, 241))


class NewTensor(NamedTuple):
    """A view of a storage that is BYTES[start:start + size]; `where` the bytes are, in memory or in another file."""

    storage: int
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


STORAGES = [("float32", 0, 24, "memory"), ("int64", 100, 24, "file"), ("bfloat16", 30, 12, "file"), ("int16", 7, 6, "memory"),
            ("uint16", 3, 6, "file"), ("float8_e5m2", 9, 3, "memory")]
FLOATS = NewTensor(0, "float32", 0, (2, 3), (3, 1))
SCALAR = NewTensor(1, "int64", 1, (), ())
TRANSPOSED = NewTensor(2, "bfloat16", 0, (2, 3), (1, 2))
TAIL = NewTensor(2, "bfloat16", 4, (2,), (1,))
SHORTS = NewTensor(3, "int16", 0, (3,), (1,))
UNTYPED = NewTensor(4, "uint16", 0, (3,), (1,))
TINY = NewTensor(5, "float8_e5m2", 1, (2, 1), (1, 1))


class Change(NamedTuple):
    command: str
    key: str
    tensor: NewTensor


def changes_of(keys: list[str], is_legacy: bool) -> list[Change]:
    """Of a state dict: its first, middle and last tensors get others, and four come."""
    changes = [Change("replace", keys[0], FLOATS)]
    if len(keys) > 1:
        changes.append(Change("replace", keys[-1], SCALAR))
    if len(keys) > 2:
        changes.append(Change("replace", keys[len(keys) // 2], TAIL))
    changes += [Change("insert", "added.weight", TRANSPOSED), Change("insert", "added.größe", TAIL), Change("insert", "added.s", SHORTS)]
    if not is_legacy and TORCH >= (2, 3):
        changes += [Change("insert", "added.untyped", UNTYPED), Change("insert", "added.tiny", TINY)]
    return changes


def made(tensor: NewTensor, storages: dict[int, torch.Tensor]) -> torch.Tensor:
    if tensor.storage not in storages:
        _, start, size, _ = STORAGES[tensor.storage]
        storages[tensor.storage] = torch.tensor(list(BYTES[start:start + size]), dtype=torch.uint8).clone().view(getattr(torch, tensor.dtype))
    return storages[tensor.storage].as_strided(tensor.shape, tensor.strides, tensor.offset)


def wrapped_like(old: Any, new: torch.Tensor, is_shared: bool) -> torch.Tensor:
    """What wraps the old tensor stays: a Parameter, attributes, requires_grad; but no attributes where another key shares the object."""
    wants_gradient = isinstance(old, torch.Tensor) and old.requires_grad
    can_have_gradient = new.is_floating_point() or new.is_complex()
    if not isinstance(old, torch.Tensor) or wants_gradient and not can_have_gradient:
        return new
    if is_shared and type(old) is torch.nn.Parameter:
        return torch.nn.Parameter(new, requires_grad=old.requires_grad) if can_have_gradient else new
    if is_shared:
        return new.requires_grad_() if wants_gradient else new
    if type(old) is torch.nn.Parameter:
        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
    elif wants_gradient:
        new.requires_grad_()
    if type(old) in (torch.nn.Parameter, torch.Tensor):
        vars(new).update(vars(old))
    return new


def with_changes(mapping: dict[str, Any], changes: list[Change], storages: dict[int, torch.Tensor], uses: Callable[[Any], int]) -> None:
    olds = {change.key: mapping.get(change.key) for change in changes}
    for change in changes:
        old = olds[change.key]
        mapping[change.key] = wrapped_like(old, made(change.tensor, storages), uses(old) > 1)


def command_line(index: int, change: Change) -> str:
    tensor = change.tensor
    shape, strides = ("x".join(map(str, numbers)) or "scalar" for numbers in (tensor.shape, tensor.strides))
    key = "x" + change.key.encode("utf-8", "surrogatepass").hex()
    return f"{change.command} {index} {key} {tensor.storage} {tensor.dtype} {tensor.offset} {shape} {strides}"


def tool() -> Path:
    return Path(os.environ["CKPT"]).resolve().parent.parent / "tests" / "ckpt_rows_tool"


def run_tool(lines: list[str], source: str, target: str, scratch: Path) -> str | None:
    """What the tool said if it failed."""
    (scratch / "bytes").write_bytes(BYTES)
    storages = [f"storage {dtype} {start} {size} {where}" for dtype, start, size, where in STORAGES]
    result = subprocess.run([tool(), source, target, scratch / "bytes"], input="\n".join(storages + lines) + "\n",
                            capture_output=True, text=True, timeout=60)
    return None if result.returncode == 0 else f"status {result.returncode}: {result.stderr.strip()}"


def problem_of(source: str, target: str, mode: str, changes: list[list[Change]]) -> str | None:
    if mode in (META, FAKE):
        return None if any(name in source for name in DEFLATED) else "; ".join(wrong_offsets(target, mode)) or None
    expected = load(source, mode)
    count: dict[int, int] = {}
    seen: set[int] = set()

    def tally_uses(value: Any) -> None:
        count[id(value)] = count.get(id(value), 0) + 1
        if id(value) in seen or isinstance(value, torch.Tensor):
            return
        seen.add(id(value))
        children = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, (list, tuple)) else []
        for child in children:
            tally_uses(child)

    tally_uses(expected)
    mappings = [value for _, value in edits.state_dicts(expected)]
    storages: dict[int, torch.Tensor] = {}
    for mapping, of_mapping in zip(mappings, changes):
        with_changes(mapping, of_mapping, storages, lambda value: count.get(id(value), 0))
    found = Comparison(expected, load(target, mode)).differences
    return "; ".join(found[:3]) or None


@functools.cache
def reads_meta_parts(path: str) -> bool:
    """1.13, where it shows for other views, 2.0 and 2.1 cut a meta storage to what the first view needs, and then find that it has the wrong size."""
    whole = torch.zeros(9)
    torch.save([whole[4:6], whole], path, _use_new_zipfile_serialization=False)
    try:
        return len(torch.load(path, map_location="meta")) == 2
    except RuntimeError:
        return False


def judge_changed_rows(source: str, target: str, loading_modes: list[str], tally: Tally, scratch: Path) -> None:
    found = [value for _, value in edits.state_dicts(load(source))]
    if not found or any(map(is_module, found)) or not tool().exists() or "bigendian" in source:
        return
    is_legacy = Path(source).read_bytes()[:2] != b"PK"
    changes = [changes_of([key for key, value in mapping.items() if isinstance(value, torch.Tensor)], is_legacy) for mapping in found]
    lines = [command_line(index, change) for index, of_mapping in enumerate(changes) for change in of_mapping]
    problem = run_tool(lines, source, target, scratch)
    for mode in loading_modes:
        if mode == META and is_legacy and (TORCH < (2, 0) or not reads_meta_parts(str(scratch / "parts.pt"))):
            continue
        if problem is None:
            try:
                problem = problem_of(source, target, mode, changes)
            except Exception as error:  # torch's errors have no common class
                problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            problem = problem and f"({mode}) {problem}"
    tally.count(f"{Path(source).name}: replaced and inserted tensors", problem)
