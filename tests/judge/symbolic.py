# SPDX-License-Identifier: BSD-3-Clause
"""Reads a checkpoint's tensors without torch, and without running or importing anything that the file names.

It shares no code with ckpt: its own reading of the zip directory, the standard library's unpickler with stand-ins for every
class, and its own walk. So where both agree, both are probably right.
"""
from __future__ import annotations

import collections
import io
import json
import pickle
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from stand_ins import StandIn, enumerator, stand_in
from state_dicts import attributes_of, find_state_dicts

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_DTYPES = {
    "Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64", "Half": "float16", "Float": "float32",
    "Double": "float64", "BFloat16": "bfloat16", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
    "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32", "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4", "Untyped": "uint8"}
ITEM_SIZES = {"int16": 2, "int32": 4, "int64": 8, "float16": 2, "float32": 4, "float64": 8, "bfloat16": 2, "complex64": 8,
              "complex128": 16, "qint32": 4, "uint16": 2, "uint32": 4, "uint64": 8, "complex32": 4, "bcomplex32": 4, "bits16": 2}
SAFETENSORS_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64", "I64": "int64", "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2"}
REAL = {("builtins", name): getattr(__import__("builtins"), name)
        for name in ("bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "range", "set", "slice", "str",
                     "tuple")}
REAL.update({("collections", name): getattr(collections, name) for name in ("OrderedDict", "Counter", "defaultdict", "deque")})
REAL[("builtins", "getattr")] = enumerator
REAL[("_codecs", "encode")] = lambda text, encoding: text.encode("latin1")


class Unreadable(Exception):
    """Not a container that this reads."""


# -- containers -------------------------------------------------------------------------------------------------------


class Storage(NamedTuple):
    """A persistent id, as the unpickler returns it in the storage's place."""

    key: str
    dtype: str
    location: str
    bytes: int


class Unpickler(pickle.Unpickler):
    """Stand-ins for all but plain containers; storages as records."""

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        name = {"long": "int", "unicode": "str", "xrange": "range"}.get(name, name) if module == "builtins" else name
        return REAL.get((module, name)) or stand_in(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":
            return pid[1]
        _, cls, key, location, numel = pid[:5]
        dtype = STORAGE_DTYPES[cls.__name__.removesuffix("Storage").lstrip("_")]
        return Storage(str(key), dtype, location, numel * ITEM_SIZES.get(dtype, 1))


def unpickle(file: io.BytesIO) -> Any:
    return Unpickler(file, encoding="utf-8", errors="surrogateescape").load()


def zip_records(data: bytes) -> dict[str, bytes]:
    """Name -> contents of each record, by the central directory (which Python's zipfile reads too, but it insists on CRCs)."""
    end = data.rfind(b"PK\5\6")
    if end < 0:
        raise Unreadable("no central directory")
    count, size, start = struct.unpack("<HII", data[end + 10:end + 20])
    locator = data.rfind(b"PK\6\7", 0, end)
    if locator == end - 20:
        (record,) = struct.unpack("<Q", data[locator + 8:locator + 16])
        count, size, start = struct.unpack("<QQQ", data[record + 32:record + 56])
    records = {}
    for _ in range(count):
        fields = struct.unpack("<4s6H3I5H2I", data[start:start + 46])
        method, stored, whole = fields[4], fields[8], fields[9]
        name_size, extra_size, comment_size, offset = fields[10], fields[11], fields[12], fields[16]
        name = data[start + 46:start + 46 + name_size].decode()
        local_name, local_extra = struct.unpack("<HH", data[offset + 26:offset + 30])
        body = offset + 30 + local_name + local_extra
        content = data[body:body + stored]
        records[name] = zlib.decompress(content, -15) if method == 8 else content
        if len(records[name]) != whole:
            raise Unreadable(f"record {name} has {len(records[name])} bytes, its entry says {whole}")
        start += 46 + name_size + extra_size + comment_size
    return records


def read_zip(data: bytes) -> tuple[str, Any]:
    records = zip_records(data)
    root = next(iter(records)).partition("/")[0]
    names = {name.partition("/")[2] for name in records}
    if "constants.pkl" in names:
        raise Unreadable("TorchScript")
    if "data.pkl" not in names:
        raise Unreadable("torch.package" if ".data/extern_modules" in names else "no data.pkl")
    return "zip", unpickle(io.BytesIO(records[f"{root}/data.pkl"]))


def read_legacy(data: bytes) -> tuple[str, Any]:
    file = io.BytesIO(data)
    if unpickle(file) != LEGACY_MAGIC or unpickle(file) != 1001:
        raise Unreadable("no legacy stream")
    unpickle(file)
    root, keys = unpickle(file), unpickle(file)
    if len(set(keys)) != len(keys):
        raise Unreadable("a storage is listed twice")
    return "legacy", root


# -- tensors ----------------------------------------------------------------------------------------------------------


@dataclass
class Tensor:
    """What a file says of one tensor; None where that kind of tensor has no such thing."""

    dtype: str
    shape: list[int] | None = None
    strides: list[int] | None = None
    offset: int | None = None
    storage: Storage | None = None
    requires_grad: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    is_composite: bool = False
    """Made of other tensors: sparse, nested, distributed."""
    path: str | None = None
    """None where no path is promised, as inside a call's arguments."""
    name: str | None = None
    root: str | None = None


def sizes(value: Any) -> list[int]:
    """A shape: a tuple, or the call torch.Size(tuple)."""
    return list(value.args[0][0] if isinstance(value, StandIn) else value)


def dense(function: str, args: tuple) -> Tensor:
    storage, offset, size, stride = args[:4]
    made = Tensor(storage.dtype, sizes(size), sizes(stride), offset, storage)
    if function == "_rebuild_qtensor":
        made.requires_grad = args[5]
    elif len(args) > 4:
        made.requires_grad = args[4]
    if function == "_rebuild_tensor_v3":
        made.dtype = args[6].__name__
    return made


def from_call(function: str, args: tuple) -> Tensor | None:
    """The tensor that a rebuild function of torch would make, None if it is none."""
    if function in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"):
        return dense(function, args)
    if function in ("_rebuild_parameter", "_rebuild_parameter_with_state", "Parameter"):
        inner = tensor_of(args[0])
        if inner is not None:
            inner.requires_grad = args[1] if len(args) > 1 else True
            inner.attributes = dict(args[3]) if len(args) > 3 else inner.attributes
        return inner
    if function in ("_rebuild_from_type", "_rebuild_from_type_v2"):
        inner = from_call(args[0].__name__, args[2]) or Tensor("", is_composite=True)
        state = args[3][0] if isinstance(args[3], tuple) else args[3]
        inner.attributes = dict(state or {})
        return inner
    if function in ("_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor"):
        parts = args[1]
        is_coo = args[0].args[0][0] == "torch.sparse_coo"
        values, size = (parts[1], parts[2]) if is_coo else (parts[2], parts[3])
        return Tensor(tensor_of(values).dtype, sizes(size), is_composite=True)
    if function == "_rebuild_nested_tensor":
        return Tensor(tensor_of(args[0]).dtype, is_composite=True)
    if function == "_rebuild_meta_tensor_no_storage":
        return Tensor(args[0].__name__, sizes(args[1]), sizes(args[2]), 0, None, args[3])
    return None


def tensor_of(value: Any) -> Tensor | None:
    if isinstance(value, StandIn) and type(value).__module__.startswith("torch"):
        return from_call(type(value).__name__, value.args[0])
    return None


def is_tensor(value: Any) -> bool:
    return tensor_of(value) is not None


# -- paths ------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """As JSON output shows it: a byte that is no UTF-8 becomes U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def key_step(path: str, key: Any) -> str:
    """`path` continued by a mapping's key."""
    if not isinstance(key, str):
        return f"{path}{{{key!r}}}"
    if re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(printable(key), ensure_ascii=False)}]"


def states_of(value: StandIn) -> Iterator[dict[str, Any]]:
    for state in value.states:
        yield from (part for part in (state if isinstance(state, tuple) else (state,)) if isinstance(part, dict))


class Walk:
    """Every tensor below a value with its path; a container that is met again is not entered again."""

    def __init__(self, root: Any) -> None:
        self.tensors: list[Tensor] = []
        self.by_place: dict[tuple[int, Any], Tensor] = {}
        self._seen: set[int] = set()
        self._visit(root, "")

    def _children(self, value: Any, path: str) -> Iterator[tuple[Any, Any, str | None]]:
        """(key, child, path of the child or None where none is promised)"""
        if isinstance(value, dict):
            yield from ((key, child, key_step(path, key)) for key, child in value.items())
        elif isinstance(value, (list, tuple, collections.deque)) and not isinstance(value, Storage):
            yield from ((index, child, f"{path}[{index}]") for index, child in enumerate(value))
        if isinstance(value, StandIn):
            for state in states_of(value):
                yield from ((name, child, f"{path}@{name}") for name, child in state.items())
            yield from (("args", child, None) for child in (value.args[0], value.items))
        else:
            yield from ((name, child, f"{path}@{name}") for name, child in getattr(value, "__dict__", {}).items())

    def _visit(self, value: Any, path: str | None, place: tuple[int, Any] | None = None) -> None:
        tensor = tensor_of(value)
        if tensor is not None:
            tensor.path = path
            self.tensors.append(tensor)
            if place is not None:
                self.by_place[place] = tensor
            if id(value) not in self._seen and not tensor.is_composite:
                for name, child in tensor.attributes.items():
                    self._visit(child, None if path is None else f"{path}@{name}")
            self._seen.add(id(value))
            return
        if isinstance(value, (str, bytes, int, float, Storage, type(None), type)) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        for key, child, child_path in self._children(value, path or ""):
            self._visit(child, None if path is None else child_path, (id(value), key))


# -- whole files ------------------------------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    container: str
    root: Any
    tensors: list[Tensor]


def module_tensors(module: Any, prefix: str, walk: Walk) -> Iterator[tuple[str, Tensor]]:
    """(name in the module's state dict, tensor), as Module.state_dict would list them."""
    state = attributes_of(module)
    hidden = state.get("_non_persistent_buffers_set", set())
    for group, skip in (("_parameters", set()), ("_buffers", hidden)):
        for name, value in state[group].items():
            tensor = walk.by_place.get((id(state[group]), name))
            if tensor is not None and name not in skip:
                yield prefix + name, tensor
    for name, child in state["_modules"].items():
        if child is not None:
            yield from module_tensors(child, f"{prefix}{name}.", walk)


def read_safetensors(data: bytes) -> Checkpoint:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = []
    for name, entry in header.items():
        tensors.append(Tensor(SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"], path=key_step("", name),
                              name=printable(name), root=""))
    return Checkpoint("safetensors", header, tensors)


def read(path: Path) -> Checkpoint:
    """Raises Unreadable for a container that no torch.load reads."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return read_safetensors(data)
    container, root = read_zip(data) if data[:4] == b"PK\3\4" else read_legacy(data)
    walk = Walk(root)
    for keys, value in find_state_dicts(root, is_tensor):
        place = ""
        for key in keys:
            place = key_step(place, key)
        if isinstance(value, dict):
            members = [(key, walk.by_place[id(value), key]) for key in value if (id(value), key) in walk.by_place]
        else:
            members = list(module_tensors(value, "", walk))
        for name, tensor in members:
            tensor.name, tensor.root = printable(name), place
    return Checkpoint(container, root, walk.tensors)
