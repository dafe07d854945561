# SPDX-License-Identifier: BSD-3-Clause
"""Loading a checkpoint with torch in every mode that its release has, without the classes that a file may want.

Classes and functions outside a short list of harmless ones become inert stand-ins: they remember what was done to
them and do nothing. So files whose classes nobody has can be loaded and compared, and no code that a file names runs.
"""
from __future__ import annotations

import contextlib
import pickle
import types
import unittest.mock
import warnings
from typing import Any

import torch

from stand_ins import enumerator, stand_in

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
BUILTINS = {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set",
            "slice", "str", "tuple"}
HARMLESS = {"_codecs", "argparse", "collections", "copyreg", "datetime", "decimal", "numpy", "numpy.core.multiarray",
            "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric", "pathlib", "pathlib._local", "types"}
RUNS_CODE = ("torch.fx", "torch.hub", "torch.jit", "torch.package", "torch.utils.cpp_extension")


class Unpickler(pickle.Unpickler):
    """Finds harmless globals, and a stand-in for any other."""

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        name = {"long": "int", "unicode": "str", "xrange": "range"}.get(name, name) if module == "builtins" else name
        if module == "builtins" and name == "getattr":
            return enumerator
        is_torch = (module == "torch" or module.startswith("torch.")) and not module.startswith(RUNS_CODE)
        if is_torch or module in HARMLESS or (module == "builtins" and name in BUILTINS):
            with contextlib.suppress(ImportError, AttributeError):
                return super().find_class(module, name)
        return stand_in(module, name)


PICKLE_MODULE = types.SimpleNamespace(__name__="stand_ins", Unpickler=Unpickler, load=pickle.load, loads=pickle.loads)

FULL, WEIGHTS_ONLY, MMAP, META, FAKE = "full", "weights_only", "mmap", "meta", "fake"


def modes(path: str) -> list[str]:
    """The modes in which this release may be able to load the file."""
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\3\4"
    found = [FULL, WEIGHTS_ONLY]
    if is_zip and TORCH >= (2, 1):
        found.append(MMAP)
    if "bigendian" not in path:  # torch crashes (no exception) on swapping bytes that are not there
        found.append(META)
        if is_zip and TORCH >= (2, 3):
            found.append(FAKE)
    return found


def forget_sparse_tensors() -> None:
    """After a failed load torch would validate that file's sparse tensors with the next file's, and fail again."""
    if hasattr(torch._utils, "_get_sparse_tensors_to_validate"):
        torch._utils._get_sparse_tensors_to_validate().clear()
    else:
        torch._utils._sparse_tensors_to_validate.clear()


def load(path: str, mode: str = FULL) -> Any:
    """Loads the file onto the CPU (or nowhere); raises whatever torch raises."""
    options: dict[str, Any] = {"map_location": "meta" if mode == META else "cpu"}
    if mode == WEIGHTS_ONLY:
        options["weights_only"] = True
    else:
        options.update(pickle_module=PICKLE_MODULE, weights_only=False)
    if mode == MMAP:
        options["mmap"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if TORCH < (2, 0) and mode != WEIGHTS_ONLY:  # 1.13 ignores its pickle_module
                with unittest.mock.patch.object(torch.serialization, "pickle", PICKLE_MODULE):
                    return torch.load(path, **options)
            if mode != FAKE:
                return torch.load(path, **options)
            from torch._subclasses.fake_tensor import FakeTensorMode
            with FakeTensorMode():
                return torch.load(path, **options)
        except Exception:
            forget_sparse_tensors()
            raise
