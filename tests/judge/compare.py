# SPDX-License-Identifier: BSD-3-Clause
"""Compares two loaded checkpoints to the last bit: values, types, order, identity, storages."""
from __future__ import annotations

import collections
import struct
import weakref
from typing import Any, Iterator

import numpy
import torch

ATOMS = (str, bytes, bytearray, int, bool, complex, type(None), slice, range, torch.dtype, torch.device, torch.layout,
         torch.Size, torch.qscheme)
CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)


def untyped(tensor: torch.Tensor) -> Any:
    """The tensor's whole storage as bytes."""
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage().untyped()


def storage_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(untyped(tensor))


def parts_of(tensor: torch.Tensor) -> dict[str, torch.Tensor] | None:
    """The tensors that a composite tensor is made of, by name; None for a tensor on a storage of its own."""
    if hasattr(tensor, "__tensor_flatten__"):
        return {name: getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]}
    if tensor.is_nested:
        return {"<offsets>": tensor._nested_tensor_storage_offsets(), "<buffer>": tensor.values(),
                "<sizes>": tensor._nested_tensor_size(), "<strides>": tensor._nested_tensor_strides()}
    if tensor.layout == torch.sparse_coo:
        return {"<indices>": tensor._indices(), "<values>": tensor._values()}
    if tensor.layout in (torch.sparse_csr, getattr(torch, "sparse_bsr", None)):
        return {"<crow_indices>": tensor.crow_indices(), "<col_indices>": tensor.col_indices(), "<values>": tensor.values()}
    if tensor.layout in (getattr(torch, "sparse_csc", None), getattr(torch, "sparse_bsc", None)):
        return {"<ccol_indices>": tensor.ccol_indices(), "<row_indices>": tensor.row_indices(), "<values>": tensor.values()}
    return None


class Comparison:
    """One comparison of an expected with an actual checkpoint; `differences` says where and how they differ."""

    def __init__(self, expected: Any, actual: Any, has_bytes: bool = True) -> None:
        self.differences: list[str] = []
        self._has_bytes = has_bytes
        self._partner: dict[tuple[str, int], int] = {}
        self._alive: list[Any] = []  # an id stays unique only while its object lives
        self._compare("", expected, actual)

    def _differ(self, path: str, expected: Any, actual: Any) -> None:
        self.differences.append(f"at '{path}': expected {str(expected)[:120]}, found {str(actual)[:120]}")

    def _equal(self, path: str, what: str, expected: Any, actual: Any) -> bool:
        if type(expected) is not type(actual) or expected != actual:
            self._differ(f"{path} {what}".strip(), repr(expected), repr(actual))
            return False
        return True

    def _is_new_pair(self, kind: str, path: str, expected: int, actual: int) -> bool:
        """True the first time both are met; a partner that changed is a difference."""
        known, back = self._partner.get((kind + ">", expected)), self._partner.get((kind + "<", actual))
        if known is None and back is None:
            self._partner[kind + ">", expected], self._partner[kind + "<", actual] = actual, expected
            return True
        if known != actual or back != expected:
            self._differ(path, f"the same {kind} sharing", "another")
        return False

    def _compare(self, path: str, expected: Any, actual: Any) -> None:
        if type(expected) is not type(actual):
            self._differ(path, type(expected), type(actual))
        elif isinstance(expected, torch.Tensor):
            self._alive += [expected, actual]
            if self._is_new_pair("tensor object", path, id(expected), id(actual)):
                self._compare_tensor(path, expected, actual)
        elif isinstance(expected, getattr(torch, "SymInt", ())):
            return  # a jagged tensor's symbolic size, numbered by the process
        elif isinstance(expected, weakref.ref):
            self._compare(path, expected(), actual())
        elif isinstance(expected, torch.ScriptObject):  # which knows no equality
            self._compare(f"{path}<state>", expected.__getstate__(), actual.__getstate__())
        elif isinstance(expected, float) and not isinstance(expected, numpy.generic):
            self._equal(path, "", struct.pack("d", expected), struct.pack("d", actual))
        elif isinstance(expected, (numpy.ndarray, numpy.generic)):
            self._compare_numpy(path, expected, actual)
        elif isinstance(expected, ATOMS) or isinstance(expected, type) or callable(expected) and hasattr(expected, "__name__"):
            self._equal(path, "", expected, actual)
        else:
            self._alive += [expected, actual]
            if isinstance(expected, tuple) or self._is_new_pair("object", path, id(expected), id(actual)):
                self._compare_container(path, expected, actual)

    def _compare_numpy(self, path: str, expected: Any, actual: Any) -> None:
        is_alike = self._equal(path, "numpy dtype", expected.dtype, actual.dtype)
        if is_alike and self._equal(path, "shape", expected.shape, actual.shape):
            if expected.dtype == object:
                self._compare(path, expected.tolist(), actual.tolist())
            else:
                self._equal(path, "numpy bytes", expected.tobytes(), actual.tobytes())

    def _compare_container(self, path: str, expected: Any, actual: Any) -> None:
        if isinstance(expected, dict):
            typed = [[(type(key).__name__, key) for key in mapping] for mapping in (expected, actual)]
            if self._equal(path, "keys", *typed):
                for key in expected:
                    self._compare(f"{path}[{key!r}]", expected[key], actual[key])
            if isinstance(expected, collections.defaultdict):
                self._compare(f"{path} default_factory", expected.default_factory, actual.default_factory)
        elif isinstance(expected, (set, frozenset)):
            self._equal(path, "", expected, actual)
        elif isinstance(expected, CONTAINERS):
            if self._equal(path, "length", len(expected), len(actual)):
                for index, pair in enumerate(zip(expected, actual)):
                    self._compare(f"{path}[{index}]", *pair)
        elif not hasattr(expected, "__dict__"):
            self._equal(path, "", expected, actual)
        if hasattr(expected, "__dict__"):
            self._compare(f"{path}@", vars(expected), vars(actual))

    def _compare_tensor(self, path: str, expected: torch.Tensor, actual: torch.Tensor) -> None:
        if torch.nn.parameter.is_lazy(expected):
            self._equal(path, "requires_grad", expected.requires_grad, actual.requires_grad)
            return
        for what in ("dtype", "layout", "device", "is_nested", "shape", "requires_grad", "is_quantized"):
            if what == "shape" and expected.is_nested:
                continue  # has none; its parts have
            if not self._equal(path, what, getattr(expected, what), getattr(actual, what)):
                return
        if type(expected).__name__ != "FakeTensor":  # whose attributes are the mode's own
            self._compare(f"{path}@", {**vars(expected)}, {**vars(actual)})
        parts, others = parts_of(expected), parts_of(actual)
        if parts is not None:
            if expected.layout == torch.sparse_coo:
                self._equal(path, "is_coalesced", expected.is_coalesced(), actual.is_coalesced())
            for name, part in parts.items():
                self._compare(path + name, part, others[name])
            return
        if expected.is_quantized:
            self._compare_quantizer(path, expected, actual)
        for what in ("stride", "storage_offset", "is_conj", "is_neg"):
            self._equal(path, what, getattr(expected, what)(), getattr(actual, what)())
        self._compare_storage(path, expected, actual)

    def _compare_quantizer(self, path: str, expected: torch.Tensor, actual: torch.Tensor) -> None:
        if not self._equal(path, "qscheme", expected.qscheme(), actual.qscheme()):
            return
        is_per_tensor = expected.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric)
        names = ("q_scale", "q_zero_point") if is_per_tensor else (
            "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis")
        for name in names:
            self._compare(f"{path} {name}", getattr(expected, name)(), getattr(actual, name)())

    def _compare_storage(self, path: str, expected: torch.Tensor, actual: torch.Tensor) -> None:
        pair = [untyped(tensor) for tensor in (expected, actual)]
        if not self._equal(path, "storage size", *(storage.nbytes() for storage in pair)):
            return
        is_new = pair[0].nbytes() == 0 or self._is_new_pair("storage", path, *(storage._cdata for storage in pair))
        if self._has_bytes and expected.device.type != "meta" and is_new:
            if not torch.equal(storage_bytes(expected), storage_bytes(actual)):
                self._differ(path, "the same bytes", "others")


def tensors_of(value: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    """Every plain tensor below a value, in an order that depends only on its structure."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        parts = parts_of(value)
        yield from [value] if parts is None else [t for part in parts.values() for t in tensors_of(part, seen)]
    elif not isinstance(value, (*ATOMS, float, type)) and id(value) not in seen:
        seen.add(id(value))
        if isinstance(value, dict):
            children = list(value.values())
        else:
            children = list(value) if isinstance(value, (list, tuple, collections.deque)) else []
        for child in [*children, *getattr(value, "__dict__", {}).values()]:
            yield from tensors_of(child, seen)
