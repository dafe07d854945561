# SPDX-License-Identifier: BSD-3-Clause
"""Records beyond 4 GiB, judged with the torch that runs this: it writes them, and loads what ckpt made of them.

Since 2.6 torch can write a checkpoint whose storages are holes. Some bytes are put there afterwards, and only those are compared
where a storage is long: so the gigabytes cost neither time nor memory nor disk.
"""
from __future__ import annotations

import collections
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from compare import untyped
from loading import FAKE, FULL, MMAP, TORCH, WEIGHTS_ONLY, load
from tally import Tally

sys.path.append(str(Path(__file__).resolve().parent.parent / "scale"))
import far_archive  # noqa: E402

PROMISE = {".format_version", ".storage_alignment"}
IDENTITY = {".data/serialization_id"}
SHORT = 1 << 20
COMPUTED = "mmap, at computed places"


def samples(tensor: torch.Tensor) -> torch.Tensor:
    """All of a short tensor's bytes; of a long one those at its ends and in its middle."""
    content = torch.empty(0, dtype=torch.uint8).set_(untyped(tensor))
    if len(content) <= SHORT:
        return content
    middle = len(content) // 2
    return torch.cat([content[:64], content[middle - 64:middle + 64], content[-64:]])


def problem_of(target: Path, mode: str, expected: dict[str, torch.Tensor]) -> str | None:
    """How the loaded output differs from the tensors that were expected, which are mapped from the input."""
    if mode == COMPUTED:
        from torch.utils.serialization import config
        with config.patch("load.calculate_storage_offsets", True):
            actual = load(str(target), MMAP)
    else:
        actual = load(str(target), mode)
    if list(actual) != list(expected):
        return f"keys {list(actual)}, expected {list(expected)}"
    places = [record.data for record in far_archive.records(target) if record.name.startswith("data/")]
    for (key, tensor), place in zip(actual.items(), places):
        if tensor.shape != expected[key].shape:
            return f"{key}: shape {tuple(tensor.shape)}, expected {tuple(expected[key].shape)}"
        if mode == FAKE:
            offset = getattr(untyped(tensor), "_checkpoint_offset", None)
            if offset != place and TORCH >= (2, 7):
                return f"{key}: torch expects the storage at {offset}, it is at {place}"
        elif not torch.equal(samples(tensor), samples(expected[key])):
            return f"{key}: other bytes"
    return None


def judge_far_records(tally: Tally, scratch: Path) -> None:
    if not hasattr(torch.serialization, "skip_data"):
        tally.skip("records beyond 4 GiB", f"torch {torch.__version__} writes no storages that are holes")
        return
    # reading a hole of a tmpfs takes no memory; any other file system fills its cache with zeros
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else scratch
    with tempfile.TemporaryDirectory(dir=place) as directory:
        source, target = Path(directory) / "far.pt", scratch / "far-edited.pt"
        with torch.serialization.skip_data():
            torch.save(collections.OrderedDict((key, torch.empty(shape)) for key, shape in far_archive.SHAPES.items()), source)
        far_archive.fill_storages(source)
        tensors = load(str(source), MMAP)
        cases: list[tuple[list[str], set[str], Any]] = [
            (["strip-dataparallel"], IDENTITY, lambda key: key.removeprefix("module.")),
            (["rename-keys", "--add-prefix", "x" * 5000 + "."], IDENTITY, lambda key: "x" * 5000 + "." + key),
            (["filter-keys", "--drop", "=module.near"], IDENTITY | PROMISE | {"data/0"}, lambda key: None if "near" in key else key),
            (["filter-keys", "--drop", "=module.huge"], IDENTITY | PROMISE | {"data/1"}, lambda key: None if "huge" in key else key),
        ]
        for arguments, gone, new_name in cases:
            name = f"records beyond 4 GiB: {' '.join(arguments)[:50]}"
            wrong = far_archive.edit([os.environ["CKPT"], *arguments], source, target)
            faults = [wrong] if wrong else far_archive.faults_of_edit(source, target, gone)
            tally.count(name, "; ".join(faults[:3]) or None)
            if faults:
                continue
            expected = {new_name(key): tensor for key, tensor in tensors.items() if new_name(key)}
            modes = [MMAP, FAKE]
            if TORCH >= (2, 7):
                modes.append(COMPUTED)
            if target.stat().st_size < far_archive.LIMIT:
                modes += [FULL, WEIGHTS_ONLY]
            for mode in modes:
                try:
                    problem = problem_of(target, mode, expected)
                except Exception as error:  # any failure to load is the finding
                    problem = f"{type(error).__name__}: {error}"
                tally.count(f"{name} ({mode})", problem)
