# SPDX-License-Identifier: BSD-3-Clause
"""Files as a big-endian machine writes them."""
from __future__ import annotations

import zipfile

import numpy as np


def big_endian(source: str, target: str, size: int | list[int]) -> str:
    """The file with every record of numbers turned round, and `byteorder` saying so. `size`: bytes of a number, or those of each record
    in the order of their names."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        records = sorted((name for name in names if "/data/" in name), key=lambda name: int(name.rsplit("/", 1)[1]))
        sizes = dict(zip(records, size if isinstance(size, list) else [size] * len(records)))
        for name in names:
            content = old.read(name)
            if name in sizes:
                content = np.frombuffer(content, f"<u{sizes[name]}").byteswap().tobytes()
            if not name.endswith("/byteorder"):
                new.writestr(name, content)
        new.writestr(f"{names[0].split('/')[0]}/byteorder", b"big")
    return target
