# SPDX-License-Identifier: BSD-3-Clause
"""Whether storages are where torch computes them to be when it loads no bytes."""
from __future__ import annotations

from pathlib import Path

from compare import storage_bytes, tensors_of, untyped
from loading import load

DEFLATED = ("deflated", "infozip")  # some of their storages have no bytes in the file that torch could point at


def wrong_offsets(target: str, mode: str) -> list[str]:
    """Where torch, loading no bytes, computed places in the file that do not hold the tensor's bytes."""
    content = Path(target).read_bytes()
    wrong = []
    for whole, placed in zip(tensors_of(load(target)), tensors_of(load(target, mode))):
        offset = getattr(untyped(placed), "_checkpoint_offset", None)
        if offset is None or whole.device.type == "meta" or untyped(whole).nbytes() == 0:
            continue
        if content[offset:offset + untyped(whole).nbytes()] != storage_bytes(whole).numpy().tobytes():
            wrong.append(f"a storage is not at its computed offset {offset}")
    return wrong
