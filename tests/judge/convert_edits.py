#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`ckpt convert` in the container of the input, judged with the torch that runs this.

    CKPT=build/dev/apps/ckpt python3 tests/judge/convert_edits.py

--compact, --dedupe and --device-tag change how tensors lie, never what they are: values, strides that are dense, sharing,
and all else are compared with the input. What --weights-only makes plain is made plain in Python, too.
"""
from __future__ import annotations

import argparse
import collections
import enum
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable

import numpy
import torch

import loading
from compare import Comparison, parts_of, storage_bytes, tensors_of, untyped
from stand_ins import StandIn
from tally import Tally

DATA = Path(__file__).resolve().parent.parent / "data"


class Skeleton(Comparison):
    """All but where tensors lie."""

    def _compare_tensor(self, path: str, expected: torch.Tensor, actual: torch.Tensor) -> None:
        for what in ("dtype", "layout", "is_nested", "requires_grad", "is_quantized"):
            self._equal(path, what, getattr(expected, what), getattr(actual, what))
        if not expected.is_nested:
            self._equal(path, "shape", expected.shape, actual.shape)
        if expected.is_quantized:
            self._compare_quantizer(path, expected, actual)
        self._compare(f"{path}@", {**vars(expected)}, {**vars(actual)})


class Colour(enum.Enum):
    RED = 3


class Level(enum.IntEnum):
    HIGH = 7


class Word(str, enum.Enum):
    YES = "yes"


class Unknown:
    def __init__(self) -> None:
        self.x = 1


# -- how a tensor lies ------------------------------------------------------------------------------------------------


def is_dense(tensor: torch.Tensor) -> bool:
    """Does it fill its range of memory, each element once, in whatever order of dimensions?"""
    expected = 1
    if tensor.numel() == 0:
        return True
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def nbytes(tensor: torch.Tensor) -> int:
    return untyped(tensor).nbytes()


def size(tensor: torch.Tensor) -> int:
    if str(tensor.dtype) in ("torch.quint4x2", "torch.quint2x4"):
        return nbytes(tensor)
    return tensor.numel() * tensor.element_size()


def memory(tensor: torch.Tensor) -> bytes:
    """Its values, bit for bit, in C order."""
    if str(tensor.dtype) in ("torch.quint4x2", "torch.quint2x4"):
        return storage_bytes(tensor).numpy().tobytes()
    item = tensor.element_size()
    whole = storage_bytes(tensor).numpy()
    start = tensor.storage_offset() * item
    if tensor.numel() == 0:
        return b""
    view = numpy.lib.stride_tricks.as_strided(whole[start:], (*tensor.shape, item), (*(s * item for s in tensor.stride()), 1))
    return numpy.ascontiguousarray(view).tobytes()


def difference_of_values(before: Any, after: Any) -> str | None:
    old, new = list(tensors_of(before)), list(tensors_of(after))
    if len(old) != len(new):
        return f"{len(new)} tensors instead of {len(old)}"
    for index, (was, now) in enumerate(zip(old, new)):
        if was.shape != now.shape or was.dtype != now.dtype or was.device.type == "meta":
            if was.device.type == now.device.type == "meta":
                continue
            return f"tensor {index} is {now.dtype} {tuple(now.shape)} instead of {was.dtype} {tuple(was.shape)}"
        if memory(was) != memory(now):
            return f"tensor {index} has other values"
    problems = Skeleton(before, after).differences
    return problems[0] if problems else None


def same_groups(keys: list[Any], storages: list[int]) -> str | None:
    """Do tensors share a storage exactly where their keys are equal?"""
    partner: dict[Any, Any] = {}
    for index, (key, storage) in enumerate(zip(keys, storages)):
        if partner.setdefault(("key", key), storage) != storage or partner.setdefault(("storage", storage), key) != key:
            return f"tensor {index} shares memory with another than it should"
    return None


def difference_compacted(before: Any, after: Any) -> str | None:
    problem = difference_of_values(before, after)
    keys, storages = [], []
    for index, (was, now) in enumerate(zip(tensors_of(before), tensors_of(after))):
        if problem or was.device.type == "meta" or str(was.dtype) in ("torch.quint4x2", "torch.quint2x4"):
            continue
        if nbytes(now) != size(now) or now.storage_offset() != 0 or not is_dense(now):
            problem = f"tensor {index} has no storage of its own: {nbytes(now)} bytes for {size(now)}"
        elif is_dense(was) and was.stride() != now.stride():
            problem = f"tensor {index} has strides {now.stride()} instead of {was.stride()}"
        elif not is_dense(was) and not now.is_contiguous():
            problem = f"tensor {index} is not in C order"
        if was.numel() == 0:
            continue
        start = was.storage_offset() * was.element_size()
        how = (size(was),) if is_dense(was) else (tuple(was.shape), *(s for s, n in zip(was.stride(), was.shape) if n != 1))
        keys.append((untyped(was)._cdata, start, how))
        storages.append(untyped(now)._cdata)
    return problem or same_groups(keys, storages)


# -- cases ------------------------------------------------------------------------------------------------------------


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()
        self.out = str(folder / "out.pt")

    def save(self, value: Any, legacy: bool = False, **options: Any) -> str:
        path = str(self.folder / "in.pt")
        torch.save(value, path, _use_new_zipfile_serialization=not legacy, **options)
        return path

    def convert(self, path: str, *options: str) -> tuple[dict[str, Any], str | None]:
        done = subprocess.run([self.ckpt, "convert", *options, path, "-f", "--verify", "--json", "-o", self.out], capture_output=True, text=True)
        report = json.loads(done.stdout)
        return report, None if done.returncode == 0 else f"status {done.returncode}: {report['errors']}"

    def judge(self, name: str, path: str, options: list[str], difference: Callable[[Any, Any], str | None]) -> None:
        _, problem = self.convert(path, *options)
        self.tally.count(name, problem or difference(loading.load(path), loading.load(self.out)))

    def golden(self) -> None:
        """Every file of every release: tensors lie otherwise, nothing else changes."""
        for path in sorted(DATA.glob("*.pt")):
            if "torchscript" in path.name or "deflated" in path.name:
                continue
            try:
                loading.load(str(path))
            except Exception as error:  # of a newer release, or a file that no release loads
                self.tally.skip(path.name, str(error).splitlines()[0][:80])
                continue
            self.judge(f"{path.name} --compact", str(path), ["--compact"], difference_compacted)
            self.judge(f"{path.name} --dedupe", str(path), ["--dedupe"], difference_of_values)
            self.tensors_only(path)
            self.judge(f"{path.name} --device-tag", str(path), ["--device-tag", "cpu"], difference_of_values)

    def tensors_only(self, path: Path) -> None:
        """Of the file's one state dict nothing stays but tensors."""
        _, problem = self.convert(str(path), "--tensors-only", "--compact")
        if problem:
            return
        after = loading.load(self.out)
        others = [key for key, value in after.items() if not isinstance(value, (torch.Tensor, StandIn))]
        if others or type(after) not in (dict, OrderedDict) or hasattr(after, "_metadata"):
            problem = f"a {type(after).__name__} with {others} and {list(vars(after)) if hasattr(after, '__dict__') else ''}"
        self.tally.count(f"{path.name} --tensors-only", problem)

    def compact(self) -> None:
        torch.manual_seed(0)
        base, image = torch.randn(40, 6), torch.randn(4, 3, 8, 8)
        tied = torch.randn(100)[10:30]
        parameter = torch.nn.Parameter(base[1:4])
        value = OrderedDict(
            row=base[3], rows=base[5:9], column=base[:, 2], step=base[::3], part=base[4:8, 1:3], transposed=base.t(), all=base,
            channels=image[1:3].contiguous(memory_format=torch.channels_last), slice=image.contiguous(memory_format=torch.channels_last)[1:3],
            tied=tied, tie=tied, again=tied.view(4, 5), other=tied.view(20), overlap=tied[5:], expanded=torch.randn(1, 3).expand(5, 3),
            empty=base[:0], scalar=base[2, 2], parameter=parameter, same=parameter, half=torch.randn(50).half()[7:20],
            integers=torch.arange(99)[4:50:3], flags=torch.tensor([True, False] * 9)[1:8], complex=torch.randn(9, dtype=torch.complex64)[2:5],
            conjugate=torch.randn(9, dtype=torch.complex64)[2:5].conj(), large=torch.randn(3000, 1000)[:, 100:900],
            big=torch.randn(2, 1000000)[0])
        value._metadata = OrderedDict({"": {"version": 1}})
        for legacy in (False, True):
            kind = "legacy" if legacy else "zip"
            self.judge(f"{kind} state dict --compact", self.save(value, legacy), ["--compact"], difference_compacted)
            nested = {"model": value, "optimizer": {"state": {0: {"exp_avg": base[2:5], "step": 3}}, "param_groups": [{"params": [0], "lr": 0.1}]},
                      "list": [base[6], (base[:, 1], base[:, 1])], "sparse": torch.sparse_coo_tensor(torch.arange(12).view(2, 6)[:, 1:4],
                                                                                                    torch.randn(9)[2:5], (20, 20))}
            self.judge(f"{kind} checkpoint --compact", self.save(nested, legacy), ["--compact"], difference_compacted)
            module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
            module[0].weight.data = torch.randn(9, 3)[2:6]
            module[1].running_mean = torch.randn(4, 2)[:, 1]
            self.judge(f"{kind} module --compact", self.save(module, legacy), ["--compact"], difference_compacted)
        if loading.TORCH >= (2, 3):
            self.judge("untyped --compact", self.save({"a": torch.arange(30).to(torch.uint16)[3:9], "b": torch.arange(30).to(torch.uint16)[::2]}),
                       ["--compact"], difference_compacted)

    def dedupe(self) -> None:
        torch.manual_seed(0)
        a, b = torch.randn(4, 5), torch.randn(300, 1000)
        almost = b.clone()
        almost[-1, -1] += 1
        model = OrderedDict(a=a, zeros=torch.zeros(6), b=b, t=a.clone().t(), view=b.clone()[3:9], almost=almost, other=a.clone().to(torch.float64),
                            ints=a.view(torch.int32).clone(), empty=torch.zeros(0), nothing=torch.zeros(0))
        value = {"model": model, "ema": {key: tensor.clone() for key, tensor in model.items()}, "more": torch.zeros(6),
                 "optimizer": {"state": {0: {"exp_avg": a.clone()}, 1: {"exp_avg": a.clone()}}, "param_groups": [{"params": [0, 1]}]}}

        def expected(before: Any, after: Any) -> str | None:
            keys, storages = [], []
            in_optimizer = {id(tensor) for tensor in tensors_of(before["optimizer"])}
            for was, now in zip(tensors_of(before), tensors_of(after)):
                if nbytes(was) > 0:
                    own = id(was) if id(was) in in_optimizer else None
                    keys.append((own, was.dtype, storage_bytes(was).numpy().tobytes()))
                    storages.append(untyped(now)._cdata)
            return difference_of_values(before, after) or same_groups(keys, storages)

        for legacy in (False, True):
            kind = "legacy" if legacy else "zip"
            self.judge(f"{kind} --dedupe", self.save(value, legacy), ["--dedupe"], expected)
            self.judge(f"{kind} --compact --dedupe", self.save(value, legacy), ["--compact", "--dedupe"], difference_compacted_values)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(3, 4))
        module[1].load_state_dict(module[0].state_dict())
        self.judge("module --dedupe", self.save(module), ["--dedupe"], lambda before, after: next(iter(Comparison(before, after).differences), None))

    def device(self) -> None:
        torch.manual_seed(0)
        a = torch.randn(4, 5)
        parameter = torch.nn.Parameter(torch.randn(3))
        value = {"a": a, "view": a[1:], "n": [torch.arange(3)], "p": parameter, "q": parameter, "device": torch.device("cuda", 1), "cuda:0": "cuda:0",
                 "storage": torch.randn(7).storage()}
        tag = torch.serialization.location_tag
        for legacy in (False, True):
            tags = iter(["cuda:0", "cuda:1", "mps"] * 99)
            torch.serialization.location_tag = lambda storage: next(tags)  # tags of machines that this one is not
            try:
                path = self.save(value, legacy)
            finally:
                torch.serialization.location_tag = tag
            name = f"{'legacy' if legacy else 'zip'} --device-tag cpu"
            _, problem = self.convert(path, "--device-tag", "cpu")
            if problem is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    options = {"weights_only": False} if loading.TORCH >= (1, 13) else {}
                    before, after = torch.load(path, map_location="cpu", **options), torch.load(self.out, **options)
                problem = next(iter(Comparison(before["storage"].tolist(), after["storage"].tolist()).differences), None)
                before.pop("storage"), after.pop("storage")
                problem = problem or next(iter(Comparison(before, after).differences), None)
            self.tally.count(name, problem)

    # ---- --weights-only

    def weights_only(self) -> None:
        if loading.TORCH < (2, 6):
            return self.tally.skip("--weights-only", "what it lets through is that of PyTorch 2.6 and later")
        self.plain_values()
        self.refusals()
        for path in sorted(DATA.glob("*.pt")):
            if "torchscript" in path.name or "deflated" in path.name:
                continue
            report, problem = self.convert(str(path), "--weights-only")
            if problem:
                expected = "weights_only=True refuses" in problem or "is not rewritten" in problem or "irregular" in problem
                self.tally.count(f"{path.name} --weights-only", None if expected else problem)
                continue
            try:
                before = loading.load(str(path))
            except Exception as error:
                self.tally.skip(f"{path.name} --weights-only", str(error).splitlines()[0][:80])
                continue
            try:
                after = torch.load(self.out, weights_only=True)
            except Exception as error:
                loading.forget_sparse_tensors()
                self.tally.count(f"{path.name} --weights-only", str(error).splitlines()[0])
                continue
            if not report["files"][0]["conversion"]["refused"]:
                problem = difference_of_values(before, after)
            self.tally.count(f"{path.name} --weights-only", problem)

    def plain_values(self) -> None:
        torch.manual_seed(0)
        array = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
        shared = argparse.Namespace(lr=0.1, where=pathlib.PurePosixPath("/a/b"), odd=Unknown())
        large = numpy.random.default_rng(0).integers(0, 256, (300, 1000), dtype=numpy.uint8)
        counts = collections.defaultdict(int, {"a": 1, "n": numpy.int64(4)})
        value = {
            "model": OrderedDict(w=torch.randn(3)), "epoch": numpy.int64(7), "loss": numpy.float64(0.1), "half": numpy.float16(0.1), "flag": numpy.bool_(True),
            "complex": numpy.complex64(1 + 2j), "text": numpy.str_("grüße"), "byte": numpy.uint8(200), "array": array, "turned": array.T,
            "big": array.astype(">f4"), "fortran": numpy.asfortranarray(array), "large": large, "scalar array": numpy.array(3.5), "none": numpy.zeros((0, 3)),
            "bools": numpy.array([True, False]), "args": shared, "same": shared, "simple": types.SimpleNamespace(a=[1, numpy.float32(2)]),
            "nothing": argparse.Namespace(), "colour": Colour.RED, "level": Level.HIGH, "word": Word.YES, "path": pathlib.PosixPath("x/y"),
            "here": pathlib.PosixPath("."), "counts": counts, "counter": collections.Counter("aab"), "set": {1, 2}, "bytes": b"abc", "keys": {numpy.int64(3): 1, Level.HIGH: 2},
            "unknown": Unknown(), "list": [1, Unknown(), 2], "tuple": (1, (2, numpy.float64(3)), Colour.RED), "gone": (1, Unknown()), "objects": numpy.array([1, None], dtype=object),
            "function": len, "frozen": frozenset([1]), "deep": {"x": [{"y": Unknown(), "z": numpy.float32(1)}]}, "size": torch.Size([1, 2]), "dtype": torch.float16,
        }
        words = {"list": [1, 2], "args": {"lr": 0.1, "where": "/a/b"}}
        want = {
            "model": OrderedDict(w=value["model"]["w"]), "epoch": 7, "loss": 0.1, "half": float(numpy.float16(0.1)), "flag": True, "complex": 1 + 2j, "text": "grüße",
            "byte": 200, "array": torch.from_numpy(array), "turned": torch.from_numpy(numpy.asfortranarray(array.T)), "big": torch.from_numpy(array),
            "fortran": torch.from_numpy(numpy.asfortranarray(array)), "large": torch.from_numpy(large), "scalar array": torch.tensor(3.5, dtype=torch.float64),
            "none": torch.zeros((0, 3), dtype=torch.float64), "bools": torch.tensor([True, False]), "args": words["args"], "same": words["args"],
            "simple": {"a": [1, 2.0]}, "nothing": {}, "colour": 3, "level": 7, "word": "yes", "path": "x/y", "here": ".", "counts": {"a": 1, "n": 4},
            "counter": collections.Counter("aab"), "set": {1, 2}, "bytes": b"abc", "keys": {3: 1, 7: 2}, "list": [1, 2], "tuple": (1, (2, 3.0), 3),
            "deep": {"x": [{"z": 1.0}]}, "size": torch.Size([1, 2]), "dtype": torch.float16,
        }
        gone = ["args@odd", "unknown", "list[1]", "gone", "objects", "function", "frozen", "deep.x[0].y"]
        for legacy in (False, True):
            for protocol in (2, 3, 4, 5):
                name = f"{'legacy' if legacy else 'zip'} protocol {protocol} --weights-only"
                report, problem = self.convert(self.save(value, legacy, pickle_protocol=protocol), "--weights-only")
                if problem is None:
                    try:
                        problem = next(iter(Comparison(want, torch.load(self.out, weights_only=True)).differences), None)
                    except Exception as error:
                        problem = str(error).splitlines()[0]
                    refused = [entry["path"] for entry in report["files"][0]["conversion"]["refused"] if entry["became"] is None]
                    if refused != gone:
                        problem = problem or f"dropped {refused} instead of {gone}"
                self.tally.count(name, problem)

    def refusals(self) -> None:
        """What can't be made plain and can't go is named."""
        class_name = f"{Unknown.__module__}.Unknown"
        cases = {"root": (Unknown(), class_name), "module": (torch.nn.Linear(2, 3), "--state-dict"), "tuple": ((1, Unknown()), class_name)}
        for name, (value, word) in cases.items():
            report, problem = self.convert(self.save(value), "--weights-only")
            said = json.dumps(report["errors"])
            self.tally.count(f"{name} --weights-only", None if problem and word in said else f"expected a refusal that says {word}, found {said}")


def difference_compacted_values(before: Any, after: Any) -> str | None:
    problem = difference_of_values(before, after)
    for index, tensor in enumerate(tensors_of(after)):
        if nbytes(tensor) != size(tensor):
            problem = problem or f"tensor {index} has no storage of its own size"
    return problem


def main() -> int:
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(os.path.abspath(ckpt), Path(folder))
        judge.compact()
        judge.dedupe()
        judge.device()
        judge.weights_only()
        judge.golden()
        return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
