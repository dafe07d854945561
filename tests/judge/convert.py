#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt convert --to`, judged with the torch that runs this: what it wrote is loaded and compared with the input.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/convert.py            # all of tests/data and made cases
    CKPT=build/dev/apps/ckpt $(scripts/install-torch 1.13.1) tests/judge/convert.py FILE...

Between torch zip and legacy stream nothing may differ: values, types, order, sharing, `_metadata`, objects. From and to safetensors
the state dict stays, in order, with its values and with the ties that the format can name. The reference library reads what is
written there, and writes what is read. What can't be converted must be refused, and nothing be written.
"""
from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

from compare import Comparison, storage_bytes, tensors_of, untyped
from loading import FAKE, FULL, META, MMAP, TORCH, WEIGHTS_ONLY, load, modes
from offsets import wrong_offsets
from state_dicts import find_state_dicts, is_module
from tally import Tally

DATA = Path(__file__).resolve().parent.parent / "data"
TARGETS = {"torch": ".pt", "torch-legacy": "-legacy.pt", "safetensors": ".safetensors"}
STAND_INS = ["torch-1.13-sparse" if TORCH >= (2, 0) else "torch-2.15-parameters"]
if not hasattr(torch._utils, "_rebuild_tensor_v3"):
    STAND_INS.append("dtypes-untyped")
if TORCH < (2, 1):
    STAND_INS.append("bigendian")  # whose bytes are not turned
UNINITIALIZED = "_torch_load_uninitialized"  # a mark that torch leaves on storages of one container alone
HAS_SAFETENSORS = TORCH >= (2, 0)
NAMES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "float16": "F16", "bfloat16": "BF16",
         "float32": "F32", "float64": "F64", "complex64": "C64", "uint16": "U16", "uint32": "U32", "uint64": "U64",
         "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3", "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e4m3fnuz": "F8_E4M3FNUZ",
         "float8_e8m0fnu": "F8_E8M0", "float4_e2m1fn_x2": "F4"}


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def convert(source: str, target: str, to: str, *options: str) -> tuple[int, str]:
    command = [os.environ["CKPT"], "convert", source, "--to", to, "-o", target, "-q", "-f", "--no-fsync", "--verify", *options]
    done = subprocess.run(command, capture_output=True, timeout=600)
    return done.returncode, done.stderr.decode(errors="replace").strip()


def is_deflated(path: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(record.compress_type and "/data/" in record.filename for record in archive.infolist())


# -- what a conversion has to refuse ----------------------------------------------------------------------------------


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def is_plain(tensor: torch.Tensor) -> bool:
    """A strided tensor of a dtype that safetensors have."""
    is_class = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    strided = tensor.layout == torch.strided and not tensor.is_nested and tensor.device.type != "meta"
    return is_class and strided and dtype_name(tensor) in NAMES


def only_state_dict(root: Any) -> dict[str, torch.Tensor] | None:
    """The mapping that a safetensors file can be made of, if there is nothing else in the file."""
    while isinstance(root, dict) and len(root) == 1 and isinstance(next(iter(root.values())), dict):
        root = next(iter(root.values()))
    if not isinstance(root, dict) or is_module(root):
        return None
    fits = all(isinstance(key, str) and is_tensor(value) and is_plain(value) for key, value in root.items())
    return root if fits else None


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def area(tensor: torch.Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def view_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def ties(tensors: dict[str, torch.Tensor]) -> dict[str, str] | None:
    """Name -> the smallest name of the same view; None where views overlap and are no ties."""
    kept: dict[Any, str] = {}
    names = [name for name in tensors if tensors[name].numel()]
    for name in sorted(names):
        kept.setdefault(view_of(tensors[name]), name)
    distinct = sorted(((id(untyped(tensors[name]).data_ptr()), *area(tensors[name])) for name in kept.values()), key=lambda item: item[1:])
    for before, after in zip(distinct, distinct[1:]):
        if after[1] < before[2]:
            return None
    return {name: kept[view_of(tensors[name])] for name in names if kept[view_of(tensors[name])] != name}


def has_nested(value: Any, around: tuple[int, ...] = ()) -> bool:
    if is_tensor(value):
        return value.is_nested and value.layout == torch.strided
    if not isinstance(value, (dict, list)) or id(value) in around:
        return False
    return any(has_nested(item, (*around, id(value))) for item in (value.values() if isinstance(value, dict) else value))


def legacy_reads(root: Any) -> bool:
    """Storages without an element type can't be loaded from a legacy stream; nested tensors want sizes before there are any."""
    classes = torch.storage._dtype_to_storage_type_map() if hasattr(torch.storage, "_dtype_to_storage_type_map") else None
    if classes is None:
        return True
    return all(tensor.dtype in classes for tensor in tensors_of(root)) and not has_nested(root)


# -- comparing --------------------------------------------------------------------------------------------------------


def resolved(tensor: torch.Tensor) -> torch.Tensor:
    """Without bits that conjugate or negate when it is read."""
    return tensor.resolve_conj().resolve_neg() if hasattr(tensor, "resolve_neg") else tensor


def same_values(want: torch.Tensor, got: torch.Tensor) -> bool:
    if want.dtype != got.dtype or want.shape != got.shape:
        return False
    want, got = (resolved(tensor.detach()).contiguous() for tensor in (want, got))
    as_bytes = [torch.empty(0, dtype=torch.uint8).set_(untyped(tensor), tensor.storage_offset() * tensor.element_size(),
                                                     (tensor.numel() * tensor.element_size(),)) for tensor in (want, got)]
    return torch.equal(*as_bytes)


def header_of(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def loads(path: str, mode: str) -> bool:
    try:
        load(path, mode)
    except Exception:  # torch's errors have no common class
        return False
    return True


def loads_without_bytes(path: str, mode: str) -> bool:
    """Quantised and nested tensors, for example, can't be made on the meta device, and Parameters with attributes not as fake ones up to 2.9."""
    if META not in modes(path):
        return False
    if mode in modes(path):
        return loads(path, mode)
    with tempfile.NamedTemporaryFile(suffix=".pt") as zip_file:  # as this release writes it
        try:
            torch.save(load(path), zip_file.name)
        except Exception:  # a class that stands in for one that is gone
            return loads(path, META)
        return loads(path, META) and loads(zip_file.name, mode)


def copied(tensor: torch.Tensor) -> torch.Tensor:
    try:
        return tensor.clone()
    except NotImplementedError:  # float4 in 2.9
        return tensor.view(torch.uint8).clone().view(tensor.dtype)


def between_torch_containers(source: str, target: str) -> list[str]:
    """Both load to equal things in each mode in which the input does; no bytes are where torch does not compute them to be."""
    for mode in (FULL, WEIGHTS_ONLY):
        try:
            expected = load(source, mode)
        except Exception:  # torch's errors have no common class
            continue
        found = [line for line in Comparison(expected, load(target, mode)).differences if UNINITIALIZED not in line]
        if found:
            return [f"({mode})", *found]
    for mode in modes(target):
        if mode == MMAP:
            found = Comparison(load(target), load(target, mode)).differences
        elif mode in (META, FAKE) and Path(target).read_bytes()[:2] == b"PK" and loads_without_bytes(source, mode):
            found = wrong_offsets(target, mode)
        else:
            continue
        if found:
            return [f"({mode})", *found]
    return []


def as_safetensors(tensors: dict[str, torch.Tensor], aliases: dict[str, str], path: str) -> list[str]:
    """The file is these tensors in this order, with these aliases."""
    header = header_of(path)
    metadata = header.pop("__metadata__")
    found = []
    if metadata != {"format": "pt", **aliases}:
        found.append(f"__metadata__ is {metadata}, expected the aliases {aliases}")
    kept = [name for name in tensors if name not in aliases]
    if list(header) != kept:
        found.append(f"names are {list(header)}, expected {kept}")
    if not HAS_SAFETENSORS or found:
        return found
    from safetensors.torch import load_file
    loaded = load_file(path)
    begins = [entry["data_offsets"][0] for entry in header.values()]
    if begins == sorted(begins) and [name for name in loaded if loaded[name].numel()] != [name for name in kept if tensors[name].numel()]:
        found.append(f"loaded in the order {list(loaded)}, expected {kept}")
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if begin % tensors[name].element_size():
            found.append(f"{name} is not aligned")
        if entry["dtype"] != NAMES[dtype_name(tensors[name])]:
            found.append(f"{name} is {entry['dtype']}")
        if not same_values(tensors[name], loaded[name]):
            found.append(f"{name} has other values")
    return found


def as_torch(tensors: dict[str, torch.Tensor], aliases: dict[str, str], loaded: Any) -> list[str]:
    """A plain dict of these tensors, dense; aliases come last and are tied again."""
    names = [name for name in tensors if name not in aliases] + [name for name in tensors if name in aliases]
    if type(loaded) is not dict or list(loaded) != names:
        return [f"{type(loaded)} of {list(loaded)}, expected a dict of {names}"]
    found = [f"{name} has other values" for name in names if not same_values(tensors[name], loaded[name])]
    found += [f"{name} is not dense" for name in names if not loaded[name].is_contiguous() or loaded[name].storage_offset()]
    storages: dict[int, str] = {}
    for name in names:
        if loaded[name].numel() and storages.setdefault(untyped(loaded[name]).data_ptr(), aliases.get(name, name)) != aliases.get(name, name):
            found.append(f"{name} shares memory with another")
    found += [f"{name} is not tied" for name in aliases if view_of(loaded[name]) != view_of(loaded[aliases[name]])]
    return found


# -- judging a file ---------------------------------------------------------------------------------------------------


class Judge:
    def __init__(self, scratch: Path) -> None:
        self.scratch, self.tally = scratch, Tally()

    def out(self, to: str, stem: str = "out") -> str:
        path = self.scratch / (stem + TARGETS[to])
        path.unlink(missing_ok=True)
        return str(path)

    def count(self, name: str, check: Callable[[], list[str]]) -> None:
        try:
            found = check()
        except Exception as error:  # any failure is the finding
            found = [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
        self.tally.count(name, "; ".join(found[:4]) if found else None)

    def refused(self, source: str, to: str, *options: str) -> list[str]:
        target = self.out(to)
        status, said = convert(source, target, to, *options)
        if status == 2 and not os.path.exists(target):
            return []
        return [f"should be refused with status 2, ended with {status}: {said}"]

    def file(self, path: str, name: str) -> None:
        if path.endswith(".safetensors"):
            return self.safetensors(path, name)
        try:
            root = load(path)
        except Exception:  # this torch does not read it
            return self.tally.skip(name, f"torch {torch.__version__} does not load it")
        if is_deflated(path):
            for to in ("torch-legacy", "safetensors"):
                self.count(f"{name} to {to}", lambda: self.refused(path, to))
            return
        with open(path, "rb") as file:
            other = "torch-legacy" if file.read(2) == b"PK" else "torch"
        self.count(f"{name} to {other}", lambda: self.torch(path, other, root))
        self.count(f"{name} to safetensors", lambda: self.to_safetensors(path, root))

    def torch(self, path: str, other: str, root: Any) -> list[str]:
        if other == "torch-legacy" and not legacy_reads(root):
            return self.refused(path, other)
        target = self.out(other)
        status, said = convert(path, target, other)
        if status:
            return [f"status {status}: {said}"]
        found = between_torch_containers(path, target)
        back = "torch" if other == "torch-legacy" else "torch-legacy"
        if found or back == "torch-legacy" and not legacy_reads(root):
            return found
        again = self.out(back, "again")
        status, said = convert(target, again, back)
        return [f"back: status {status}: {said}"] if status else ["back:", *differing] if (
            differing := between_torch_containers(path, again)) else []

    def to_safetensors(self, path: str, root: Any) -> list[str]:
        tensors = only_state_dict(root)
        names_fit = tensors is not None and all(is_utf8(name) and name != "__metadata__" for name in tensors)
        aliases = ties(tensors) if tensors is not None and names_fit else None
        if aliases is None:
            found = self.refused(path, "safetensors")
            if not names_fit or found:
                return found
            status, said = convert(path, self.out("safetensors"), "safetensors", "--tied", "copy")
            return [said] if status else as_safetensors(tensors, {}, self.out_path("safetensors"))
        target = self.out("safetensors")
        status, said = convert(path, target, "safetensors")
        if status:
            return [f"status {status}: {said}"]
        found = as_safetensors(tensors, aliases, target)
        for back in () if found else ("torch", "torch-legacy"):
            if back == "torch-legacy" and not legacy_reads(root):
                found += self.refused(target, back)
                continue
            again = self.out(back, "again")
            status, said = convert(target, again, back)
            if status:
                return [f"back: status {status}: {said}"]
            for mode in (FULL, WEIGHTS_ONLY):
                found += as_torch(tensors, aliases, load(again, mode))
        if aliases and not found:
            found = self.refused(path, "safetensors", "--tied", "error")
            status, said = convert(path, self.out("safetensors"), "safetensors", "--tied", "copy")
            found += [said] if status else as_safetensors(tensors, {}, self.out_path("safetensors"))
        return found

    def out_path(self, to: str) -> str:
        return str(self.scratch / ("out" + TARGETS[to]))

    def safetensors(self, path: str, name: str) -> None:
        if not HAS_SAFETENSORS:
            return self.tally.skip(name, "no safetensors for this torch")
        from safetensors.torch import load_file
        entries = header_of(path)
        metadata = entries.pop("__metadata__", {})
        try:
            loaded = load_file(path)
        except AttributeError as error:
            return self.tally.skip(name, f"not for this torch: {error}")
        tensors = {key: loaded[key] for key in entries}
        for to in ("torch", "torch-legacy"):
            def check() -> list[str]:
                if to == "torch-legacy" and not legacy_reads(tensors):
                    return self.refused(path, to)
                target = self.out(to)
                status, said = convert(path, target, to)
                if status:
                    return [f"status {status}: {said}"]
                aliases = {key: value for key, value in metadata.items() if value in tensors and key not in tensors and key != "format"}
                want = {**tensors, **{key: tensors[value] for key, value in aliases.items()}}
                return as_torch(want, aliases, load(target)) + as_torch(want, aliases, load(target, WEIGHTS_ONLY)) + (
                    self.as_torch_saves(tensors, target) if to == "torch" and not aliases else [])
            self.count(f"{name} to {to}", check)

    def as_torch_saves(self, tensors: dict[str, torch.Tensor], target: str) -> list[str]:
        """Byte for byte what torch.save writes of the same dict, but for the record that counts its others."""
        if TORCH < (2, 7):
            return []
        saved = str(self.scratch / "archive.pt")
        torch.save({name: copied(tensor) for name, tensor in tensors.items()}, saved)
        ours, theirs = Path(target).read_bytes(), Path(saved).read_bytes()
        with zipfile.ZipFile(saved) as archive:
            end = next(record.header_offset for record in archive.infolist() if record.filename.endswith("serialization_id"))
        if ours[:end] != theirs[:end]:
            first = next(i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1])
            return [f"differs from torch.save at byte {first}"]
        return []

    # -- made cases

    def save(self, value: Any, name: str, legacy: bool = False, **options: Any) -> str:
        path = str(self.scratch / name)
        torch.save(value, path, _use_new_zipfile_serialization=not legacy, **options)
        return path

    def made(self) -> None:
        torch.manual_seed(0)
        whole = torch.randn(8, 9, 10)
        shared = torch.randn(20, 5)
        cases: dict[str, Any] = {
            "strides": OrderedDict(t=torch.randn(70, 50).t(), cl=torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
                                   step=torch.randn(40)[::3], e=torch.randn(1, 3).expand(4, 3), rows=torch.randn(9, 7)[2:5],
                                   big=torch.randn(700, 900).t(), half=torch.randn(64, 33).half().t(), b=torch.randn(33, 5).bfloat16()[:, 1:4]),
            "disjoint views": {f"v{i}": whole[i] for i in range(8)},
            "ties": {"b.weight": shared, "a.weight": shared, "z.weight": shared.detach(), "d": torch.ones(2)},
            "ties of strides": {"b": shared.t(), "a": shared.t(), "c": torch.zeros(3)},
            "overlap": {"whole": shared, "first": shared[0]},
            "transposed tie": {"w": shared, "wt": shared.t()},
            "nothing": {},
            "no elements": {"z": torch.empty(0, 5), "y": torch.empty(3, 0, 2), "s": torch.tensor(1.5), "n": torch.tensor(7)},
            "unaligned": {"mask": torch.ones(3, dtype=torch.bool), "w": torch.randn(5), "n": torch.tensor(3), "h": torch.randn(3).half()},
            "parameters": {"w": torch.nn.Parameter(torch.randn(3)), "b": torch.nn.Parameter(torch.randn(2), requires_grad=False)},
            "one state dict in a dict": {"state_dict": OrderedDict(w=torch.randn(2, 2))},
            "epoch beside it": {"state_dict": {"w": torch.randn(2)}, "epoch": 3},
            "names": {"é\n\"\\": torch.ones(1), "": torch.ones(2), "a/b": torch.ones(3), "\x01": torch.ones(4)},
            "1000 keys": {f"layer.{i}.weight": torch.full((3,), float(i)) for i in range(1000)},
            "1001 keys": {f"layer.{i}.weight": torch.full((3,), float(i)) for i in range(1001)},
            "one key": {"w": torch.ones(4)},
            "complex128": {"w": torch.ones(2, dtype=torch.complex128)},
            "sparse": {"w": torch.eye(3).to_sparse()},
            "list": [torch.ones(2)],
            "storages": {"w": torch.randn(4), "raw": torch.randn(4).storage()},
        }
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2))
        cases["model"] = model.state_dict()
        cases["module"] = model
        if TORCH >= (2, 0):
            cases["conjugate"] = {"w": torch.randn(3, dtype=torch.complex64).conj(), "v": torch._neg_view(torch.randn(2, 3).t())}
        if TORCH >= (2, 6):
            for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"):
                raw, more = torch.arange(32, dtype=torch.uint8), torch.arange(32, dtype=torch.uint8)
                cases[name] = {"w": raw.view(getattr(torch, name)), "v": more.view(getattr(torch, name)).reshape(2, -1).t()}
        raw = {name: torch.arange(16, dtype=torch.uint8) % 2 for name in NAMES if hasattr(torch, name)}
        if TORCH < (2, 6):
            raw = {name: value for name, value in raw.items() if not name.startswith(("float8", "float4", "uint")) or name == "uint8"}
        cases["all dtypes"] = {name: value.view(getattr(torch, name)) for name, value in raw.items()}
        for name, value in cases.items():
            for legacy in (False, True):
                if legacy and name not in ("storages",) and not legacy_reads(value if not is_module(value) else value.state_dict()):
                    continue
                path = self.save(value, "in" + ("-legacy.pt" if legacy else ".pt"), legacy)
                self.file(path, f"{name}, {'legacy' if legacy else 'zip'}")
        for protocol in (3, 4, 5):
            path = self.save(cases["model"], "in.pt", pickle_protocol=protocol)
            self.file(path, f"protocol {protocol}")
        if HAS_SAFETENSORS:
            self.of_reference(cases, model)

    def of_reference(self, cases: dict[str, Any], model: torch.nn.Module) -> None:
        """What the reference library writes of models with ties, and what it would write of the same tensors."""
        from safetensors.torch import save_file, save_model
        path = str(self.scratch / "in.safetensors")
        for name in ("1000 keys", "1001 keys", "one key", "nothing", "no elements", "names", "unaligned", "uint16", "float8_e4m3fn"):
            tensors = cases.get(name)
            if tensors is not None:
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, {"format": "pt"})
                self.safetensors(path, f"{name}, by the reference")
        save_file({f"layer.{i}": torch.tensor([float(i)]) for i in range(100_000)}, path, {"format": "pt"})
        self.safetensors(path, "100000 keys, by the reference")
        tied = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "decoder": torch.nn.Linear(3, 5, bias=False), "norm": torch.nn.LayerNorm(3)})
        tied["decoder"].weight = tied["embed"].weight
        save_model(tied, path, {"format": "pt"})
        self.safetensors(path, "a tied model, by the reference")
        saved, target = self.save(tied.state_dict(), "in.pt"), self.out("safetensors")

        def agrees() -> list[str]:
            status, said = convert(saved, target, "safetensors")
            mine, theirs = header_of(target), header_of(path)
            return [said] if status else [] if mine["__metadata__"] == theirs["__metadata__"] and set(mine) == set(theirs) else [
                f"{mine} where the reference says {theirs}"]
        self.count("the reference names the same ties", agrees)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("convert: set CKPT to the ckpt to judge")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    files = [Path(name) for name in sys.argv[1:]] or sorted(
        path for path in DATA.iterdir() if path.suffix in (".pt", ".pth", ".bin", ".safetensors"))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge(Path(scratch))
        for path in files:
            if "torchscript" in path.name:
                continue
            if any(name in path.name for name in STAND_INS):
                judge.tally.skip(path.name, f"torch {torch.__version__} does not read all of its tensors")
                continue
            judge.file(str(path), path.name)
        if len(sys.argv) == 1:
            judge.made()
    print(f"torch {torch.__version__}: {len(files)} files in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
