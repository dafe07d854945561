# SPDX-License-Identifier: BSD-3-Clause
"""What torch draws depends on the processor's vector instructions; ckpt promises the bits of those with AVX2."""
from __future__ import annotations

import re
import warnings

import torch


def vector_unit() -> str:
    """AVX2, AVX512 or another name of a kind of processor, as torch sees it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a CUDA that isn't there
        usage = re.search(r"CPU capability usage: (.+)", torch.__config__.show())
    return usage[1].strip() if usage else "unknown"


def draws_promised_bits() -> bool:
    return vector_unit() in ("AVX2", "AVX512")
