#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ckpt on TorchScript archives, judged with the torch that runs this.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/torchscript.py

Modules are scripted, traced, frozen, quantised and saved for the lite interpreter. Of each archive `inspect` has to tell what the
module that torch.jit.load makes of it tells: its state dict in order, with shapes, dtypes and kinds, and its other tensors by path.
After `merge` and `replace-head` torch.jit.load has to give a module with the expected values and the same outputs as one into which
they were copied, and every record but data.pkl and storages that went or came has to be as it was. Then the archives of the corpus
(scripts/fetch-corpus), as far as they are here.
"""
# No `from __future__ import annotations`: TorchScript wants to see types, not strings.
import enum
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from torch import nn

from tally import Tally

warnings.simplefilter("ignore")
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
UNSAFE = {"weights_only": False}
CORPUS = Path(os.environ.get("CKPT_CACHE") or Path.home() / ".cache" / "ckpt") / "corpus"
MAY_CHANGE = re.compile(r"data\.pkl|data/.*|\.data/serialization_id")


# -- modules ----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: torch.Tensor
    second: int


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Attributes(nn.Module):
    __constants__ = ["three"]
    table: Dict[str, torch.Tensor]
    some: List[torch.Tensor]
    maybe: Optional[torch.Tensor]
    pair: Pair
    color: Color

    def __init__(self) -> None:
        super().__init__()
        self.three = 3
        self.w = nn.Parameter(torch.randn(4, 4))
        self.register_parameter("absent", None)
        self.register_buffer("scale", torch.rand(3))
        self.register_buffer("hidden", torch.rand(3), persistent=False)
        self.register_buffer("nothing", None)
        self.plain = torch.randn(4)
        self.table = {"x": torch.randn(4), "a.b": torch.randn(1)}
        self.some = [torch.randn(1), torch.randn(2)]
        self.maybe = torch.randn(4)
        self.pair = Pair(torch.randn(4), 5)
        self.color = Color.GREEN
        self.sizes = [1, 2, 3]
        self.large = 1 << 40
        self.where = torch.device("cpu")

    def forward(self, x):
        x = x @ self.w + self.plain + self.table["x"] + self.pair.first + self.scale.sum() + self.hidden.sum() + self.three
        for t in self.some:
            x = x + t.sum()
        maybe = self.maybe
        if maybe is not None and self.color == Color.GREEN:
            x = x + maybe.sum() + float(self.large + self.sizes[0])
        return x


class Shared(nn.Module):
    """One module under two names, a weight of two, containers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.c = nn.Linear(4, 4)
        self.c.weight = self.a.weight
        self.list = nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)])
        self.dict = nn.ModuleDict({"out": nn.Linear(4, 4)})
        self.parameters_ = nn.ParameterList([nn.Parameter(torch.randn(4))])

    def forward(self, x):
        for layer in self.list:
            x = layer(x)
        return self.dict["out"](self.c(self.b(self.a(x))))


class Net(nn.Module):
    """An image network with a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    def forward(self, image):
        return self.fc(self.features(image).flatten(1))


class Recurrent(nn.Module):
    """Layers that hold their weights in lists as well."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3)
        self.gru = nn.GRU(3, 4)
        self.embedding = nn.Embedding(5, 4)

    def forward(self, x):
        x, _ = self.rnn(x)
        x, _ = self.gru(x)
        return x + self.embedding(torch.tensor([1]))


class Aliased(nn.Module):
    """A plain attribute that is a parameter, and one that views its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))
        self.same = self.w
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return x @ self.w + x @ self.same + self.bias


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2)
        self.out = nn.Linear(4, 6, bias=False)

    def forward(self, x):
        return self.out(self.layers(x))


class Dtypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = "uint8 int8 int16 int32 int64 float16 float64 bool bfloat16 complex64 complex128".split()
        for name in [*names, *(["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"] if TORCH >= (2, 6) else [])]:
            self.register_buffer("b_" + name, torch.ones(3).to(getattr(torch, name)))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("turned", torch.randn(2, 3).t())
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("scalar", torch.tensor(1.5))

    def forward(self, x):
        return x


def quantized_static() -> nn.Module:
    import torch.ao.quantization as q
    model = nn.Sequential(q.QuantStub(), nn.Conv2d(1, 2, 3), nn.ReLU(), q.DeQuantStub(), nn.Flatten(), nn.Linear(8, 3)).eval()
    model.qconfig = q.get_default_qconfig("fbgemm")
    model[5].qconfig = None
    prepared = q.prepare(q.fuse_modules(model, [["1", "2"]]))
    prepared(torch.randn(2, 1, 4, 4))
    return q.convert(prepared)


def quantized_dynamic() -> nn.Module:
    from torch.ao.quantization import quantize_dynamic
    return quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), {nn.Linear}, torch.qint8)


ROW, IMAGE, SEQUENCE = torch.randn(2, 4), torch.randn(2, 1, 4, 4), torch.randn(3, 2, 4)


class Case(NamedTuple):
    name: str
    make: Callable[[], Any]  # a ScriptModule
    given: torch.Tensor
    head: Optional[str] = None
    eager: Optional[Callable[[int], nn.Module]] = None  # the same network in Python, with so many classes


def script(make: Callable[[], nn.Module]) -> Callable[[], Any]:
    return lambda: torch.jit.script(make().eval())


def trace(make: Callable[[], nn.Module], given: torch.Tensor) -> Callable[[], Any]:
    return lambda: torch.jit.trace(make().eval(), given)


CASES = [
    Case("attributes", script(Attributes), ROW),
    Case("shared", script(Shared), ROW),
    Case("shared traced", trace(Shared, ROW), ROW),
    Case("net", script(Net), IMAGE, "fc", Net),
    Case("net traced", trace(Net, IMAGE), IMAGE, "fc", Net),
    Case("net training", lambda: torch.jit.script(Net()), IMAGE),
    Case("recurrent", script(Recurrent), SEQUENCE),
    Case("recurrent traced", trace(Recurrent, SEQUENCE), SEQUENCE),
    Case("aliased", script(Aliased), ROW),
    Case("encoder", script(Encoder), SEQUENCE),
    Case("encoder traced", trace(Encoder, SEQUENCE), SEQUENCE),
    Case("dtypes", script(Dtypes), ROW),
    Case("frozen", lambda: torch.jit.freeze(torch.jit.script(Net().eval())), IMAGE),
    Case("frozen in part", lambda: torch.jit.freeze(torch.jit.script(Net().eval()), preserved_attrs=["fc"]), IMAGE),
    Case("quantised", script(quantized_static), IMAGE),
    Case("quantised dynamically", script(quantized_dynamic), ROW),
]


# -- the judge --------------------------------------------------------------------------------------------------------


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape or a.layout != b.layout:
        return False
    if a.layout != torch.strided:
        return same(a.coalesce().values(), b.coalesce().values()) and same(a.coalesce().indices(), b.coalesce().indices())
    a, b = (t.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)


def records(path: str) -> Dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def other_values(module: Any) -> Dict[str, torch.Tensor]:
    """A state dict of other values, with the ties of the module's; integers and what has no random values stay."""
    out, known = {}, {}
    for key, tensor in module.state_dict().items():
        if tensor.layout != torch.strided:
            continue
        tied = None if tensor.numel() == 0 else tensor.data_ptr()
        if tied in known:
            out[key] = out[known[tied]]
            continue
        if tied is not None:
            known[tied] = key
        plain = tensor.dtype in (torch.float32, torch.float16, torch.float64)
        out[key] = torch.rand(tensor.shape).to(tensor.dtype) if plain else tensor.detach().clone()
    return out


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()
        self.source, self.other, self.out = (str(folder / name) for name in ("in.pt", "other.pt", "out.pt"))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([self.ckpt, *arguments], capture_output=True, text=True, timeout=300)

    def edit(self, *arguments: str) -> str:
        """What ckpt said; raises if it could not."""
        done = self.run(*arguments, "-f", "--verify", "-o", self.out)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done.stdout

    def check(self, name: str, judge: Callable[[], Optional[str]]) -> None:
        try:
            problem = judge()
        except Exception as error:  # a failure to load is the case's failure
            problem = f"{type(error).__name__}: {error}"
        self.tally.count(name, problem)

    # ---- what inspect says

    def inspected(self) -> Optional[str]:
        module = torch.jit.load(self.source)
        wanted = module.state_dict()
        keys = self.run("inspect", "--keys", self.source).stdout.splitlines()
        if keys != list(wanted):
            return f"keys {keys} instead of {list(wanted)}"
        file = json.loads(self.run("inspect", "--json", self.source).stdout)["files"][0]
        if file["format"] != "torchscript":
            return f"format {file['format']}"
        rows = {row["name"]: row for row in file["tensors"] if row["name"] is not None}
        parameters = {id(p) for p in module.parameters()}
        names = {name for name, _ in module.named_parameters()}
        for key, tensor in wanted.items():
            row = rows[key]
            if row["shape"] != list(tensor.shape) or row["dtype"] != str(tensor.dtype).partition(".")[2]:
                return f"{key}: {row['dtype']} {row['shape']}"
            if row["kind"] not in ("parameter", "buffer") or row["kind_from"] != "module":
                return f"{key}: {row['kind']} from {row['kind_from']}"
            if key in names and row["kind"] != "parameter":
                return f"{key}: a parameter is a {row['kind']}"
        if sum(row["kind"] == "parameter" for row in rows.values()) < len(parameters):
            return "parameters are missing"
        if file["code"]["methods"] != [m for m in file["code"]["methods"] if hasattr(module, m)]:
            return f"methods {file['code']['methods']}"
        return None

    def attributes(self) -> Optional[str]:
        """Tensors of other attributes, by path."""
        module = torch.jit.load(self.source)
        found = {row["path"]: row for row in json.loads(self.run("inspect", "--json", self.source).stdout)["files"][0]["tensors"]}
        wanted = {"@plain": module.plain, "@table.x": module.table["x"], '@table["a.b"]': module.table["a.b"],
                  "@some[0]": module.some[0], "@some[1]": module.some[1], "@maybe": module.maybe, "@pair[0]": module.pair[0]}
        missing = [path for path, tensor in wanted.items() if found.get(path, {}).get("shape") != list(tensor.shape)]
        return f"not found as they are: {missing}" if missing else None

    # ---- edits

    def kept(self) -> Optional[str]:
        """All but the pickle and the storages that went or came is as it was."""
        before, after = records(self.source), records(self.out)
        for name, data in before.items():
            if not MAY_CHANGE.fullmatch(name) and after.get(name) != data:
                return f"record {name} changed"
        for name in after.keys() & before.keys():
            if name.startswith("data/") and after[name] != before[name]:
                return f"storage {name} changed"
        new = [name for name in after if name not in before and not name.startswith("data/")]
        return f"new records {new}" if new else None

    def same_as(self, wanted: Any, given: torch.Tensor, load: Callable[[str], Any] = torch.jit.load) -> Optional[str]:
        """The module in the output is `wanted`, as far as it can be asked."""
        found = torch.jit.load(self.out)
        if list(found.state_dict()) != list(wanted.state_dict()):
            return f"keys {list(found.state_dict())}"
        for (key, a), b in zip(found.state_dict().items(), wanted.state_dict().values()):
            if not same(a, b):
                return f"{key} has other values"
            if a.layout == torch.strided and a.stride() != b.stride():
                return f"{key} has strides {a.stride()} instead of {b.stride()}"
        for (name, a), (_, b) in zip(found.named_parameters(), wanted.named_parameters()):
            if a.requires_grad != b.requires_grad:
                return f"{name}: requires_grad {a.requires_grad}"
        if len(list(found.parameters())) != len(list(wanted.parameters())):
            return f"{len(list(found.parameters()))} parameters instead of {len(list(wanted.parameters()))}"
        torch.manual_seed(1)
        expected = wanted(given)
        torch.manual_seed(1)
        result = load(self.out)(given)
        return None if torch.equal(result, expected) else f"outputs differ by {(result - expected).abs().max()}"

    def merged(self, case: Case, half: bool = False) -> Optional[str]:
        module = torch.jit.load(self.source)
        values = other_values(module)
        if half:  # of each tie either all keys or none
            chosen = {t.data_ptr() for t in list(values.values())[::2]}
            values = {key: t for key, t in values.items() if t.data_ptr() in chosen}
        torch.save(values, self.other)
        everything = len(values) == len(module.state_dict())
        said = self.edit("merge", self.source, self.other, "--keys", "equal" if everything else "base")
        if f"{len(values)} of {len(module.state_dict())} tensors" not in said:
            return said
        with torch.no_grad():
            for key, tensor in module.state_dict().items():
                if key in values:
                    tensor.copy_(values[key])
        return self.kept() or self.same_as(module, case.given)

    def separated(self, case: Case) -> Optional[str]:
        """OTHER has the values of tied keys apart: each key gets its own."""
        module = torch.jit.load(self.source)
        values = {key: torch.rand(t.shape) for key, t in module.state_dict().items() if t.dtype == torch.float32}
        torch.save(values, self.other)
        self.edit("merge", self.source, self.other)
        found = torch.jit.load(self.out).state_dict()
        wrong = [key for key, tensor in values.items() if not same(found[key], tensor)]
        return self.kept() or (f"other values under {wrong}" if wrong else None)

    def gives_to_others(self, case: Case) -> Optional[str]:
        """The archive as OTHER of a state dict, and as a reference."""
        module = torch.jit.load(self.source)
        wanted = {key: tensor for key, tensor in module.state_dict().items() if tensor.layout == torch.strided}
        torch.save({"state": {key: torch.zeros_like(tensor) for key, tensor in wanted.items()}, "epoch": 3}, self.other)
        self.edit("merge", self.other, self.source)
        found = torch.load(self.out, **UNSAFE)
        if found["epoch"] != 3 or not all(same(found["state"][key], tensor) for key, tensor in wanted.items()):
            return "other values"
        self.edit("filter-keys", self.other, "--like", self.source)
        kept = torch.load(self.out, **UNSAFE)["state"]
        return None if list(kept) == list(wanted) else f"kept {list(kept)}"

    def head_replaced(self, case: Case) -> Optional[str]:
        said = self.edit("replace-head", self.source, "--head", case.head, "--num-classes", "7", "--seed", "5", "--torch",
                         torch.__version__)
        if "the code stays as it is" not in said:
            return said
        found, before = torch.jit.load(self.out), torch.jit.load(self.source)
        old = before.state_dict()
        torch.manual_seed(5)
        layer = nn.Linear(old[case.head + ".weight"].shape[1], 7)
        wanted = {**old, case.head + ".weight": layer.weight, case.head + ".bias": layer.bias}
        for key, tensor in found.state_dict().items():
            if not same(tensor, wanted[key]):
                return f"{key} has other values"
        eager = case.eager(7).eval()
        eager.load_state_dict(wanted)
        if not torch.equal(found(case.given), eager(case.given)):
            return "other outputs than the network in Python"
        if not all(p.requires_grad for p in found.parameters()):
            return "the new head does not require a gradient"
        return self.kept()

    def converted(self) -> Optional[str]:
        """The state dict as another container, where that holds its tensors."""
        wanted = torch.jit.load(self.source).state_dict()
        untyped = [key for key, tensor in wanted.items() if str(tensor.dtype).split(".")[1].startswith(("float8", "uint1", "uint3", "uint6"))]
        strided = all(tensor.layout == torch.strided and not tensor.is_quantized for tensor in wanted.values())
        for options in (["--to", "torch"], ["--state-dict"], ["--to", "torch-legacy"]):
            done = self.run("convert", self.source, *options, "-q", "-f", "--verify", "-o", self.out)
            if not strided or (untyped and "torch-legacy" in options):
                if done.returncode != 2 or "tensor '" not in done.stderr:
                    return f"{options}: status {done.returncode}: {done.stderr}"
                continue
            if done.returncode != 0:
                return f"{options}: {done.stderr}"
            found = torch.load(self.out)
            if list(found) != list(wanted):
                return f"{options}: keys {list(found)} instead of {list(wanted)}"
            for key in wanted:
                if not same(found[key], wanted[key]):
                    return f"{options}: {key} differs"
        done = self.run("convert", self.source, "--to", "safetensors", "-q", "-f", "--verify", "--tied", "copy", "-o", self.out)
        return None if done.returncode == 0 or "safetensors can't hold" in done.stderr else done.stderr

    def refused(self, *arguments: str) -> Optional[str]:
        done = self.run(*arguments, self.source, "-f", "-o", str(self.folder / "never.pt"))
        if done.returncode == 2 and not (self.folder / "never.pt").exists():
            return None
        (self.folder / "never.pt").unlink(missing_ok=True)
        return f"status {done.returncode}: {done.stdout}{done.stderr}"

    # ---- cases

    def judge(self, case: Case) -> None:
        name = case.name
        torch.manual_seed(7)
        try:
            module = case.make()
            torch.jit.save(module, self.source)
        except (RuntimeError, AssertionError, ModuleNotFoundError) as error:
            return self.tally.skip(name, str(error).splitlines()[0])
        self.check(f"{name}: inspect", self.inspected)
        keys = list(torch.jit.load(self.source).state_dict())
        if not keys:
            self.check(f"{name}: merge is refused", lambda: self.refused("merge", self.source))
            return
        if name == "attributes":
            self.check(f"{name}: tensors by path", self.attributes)
        self.check(f"{name}: convert", self.converted)
        self.check(f"{name}: merge", lambda: self.merged(case))
        self.check(f"{name}: merge of half the keys", lambda: self.merged(case, half=True))
        self.check(f"{name}: merge without ties", lambda: self.separated(case))
        self.check(f"{name}: as OTHER and reference", lambda: self.gives_to_others(case))
        if case.head:
            self.check(f"{name}: replace-head", lambda: self.head_replaced(case))
        for edit in (["rename-keys", "--add-prefix", "x."], ["filter-keys", "--drop", "=" + keys[0]],
                     ["strip-dataparallel"], ["filter-keys", "--drop-entry", "@training"]):
            self.check(f"{name}: {edit[0]} is refused", lambda edit=edit: self.refused(*edit))

    def judge_mobile(self) -> None:
        try:
            from torch.jit.mobile import _load_for_lite_interpreter as load
        except ImportError:
            return self.tally.skip("lite interpreter", "this torch has none")
        case = Case("lite interpreter", script(Net), IMAGE, "fc", Net)
        case.make()._save_for_lite_interpreter(self.source)
        self.check("lite interpreter: inspect", self.inspected)

        def merged() -> Optional[str]:
            problem = self.merged(case)
            if problem:
                return problem
            return None if torch.equal(load(self.out)(IMAGE), torch.jit.load(self.out)(IMAGE)) else "bytecode computes something else"

        def head() -> Optional[str]:
            problem = self.head_replaced(case)
            if problem:
                return problem
            return None if torch.equal(load(self.out)(IMAGE), torch.jit.load(self.out)(IMAGE)) else "bytecode computes something else"

        self.check("lite interpreter: merge", merged)
        self.check("lite interpreter: replace-head", head)
        try:
            from torch.utils.mobile_optimizer import optimize_for_mobile
            optimize_for_mobile(case.make())._save_for_lite_interpreter(self.source)
        except RuntimeError:
            return self.tally.skip("optimised for mobile", "this torch has no XNNPACK")
        self.check("optimised for mobile: inspect", self.inspected)
        self.check("optimised for mobile: merge is refused", lambda: self.refused("merge", self.source))

    def judge_extra_files(self) -> None:
        case = Case("extra files", script(Net), IMAGE)
        torch.jit.save(case.make(), self.source, _extra_files={"notes.txt": "hello", "labels/a.json": "{}"})

        def merged() -> Optional[str]:
            problem, extra = self.merged(case), {"notes.txt": "", "labels/a.json": ""}
            torch.jit.load(self.out, _extra_files=extra)
            return problem or (None if extra == {"notes.txt": b"hello", "labels/a.json": b"{}"} else f"extra files {extra}")

        self.check("extra files: merge", merged)

    def judge_without_buffers(self) -> None:
        """As PyTorch 1.4 and 1.5 wrote code: without lists of buffers. All their tensors are keys; this torch names fewer."""
        torch.jit.save(torch.jit.script(Net().eval()), self.source)
        target = self.folder / "old.pt"
        with zipfile.ZipFile(self.source) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, re.sub(rb"  __buffers__ = .*\n", b"", data) if name.endswith(".py") else data)

        def inspected() -> Optional[str]:
            keys = self.run("inspect", "--keys", str(target)).stdout.splitlines()
            wanted = list(torch.jit.load(self.source).state_dict())
            if keys != wanted:
                return f"keys {keys}"
            said = self.run("inspect", str(target)).stdout
            return None if "torchscript-buffers-unlisted" in said else said

        self.check("without lists of buffers: inspect", inspected)
        os.replace(target, self.source)
        self.check("without lists of buffers: merge", self.all_values_merged)

    def all_values_merged(self) -> Optional[str]:
        module = Net()
        values = {key: torch.rand_like(t) if t.is_floating_point() else t for key, t in module.state_dict().items()}
        torch.save(values, self.other)
        self.edit("merge", self.source, self.other, "--keys", "equal")
        module.load_state_dict(values)
        found = torch.jit.load(self.out)
        return self.kept() or (None if torch.equal(found(IMAGE), module.eval()(IMAGE)) else "other outputs")

    def judge_real(self) -> None:
        """silero-vad: an archive of several modules, some of them one; called with audio of both rates."""
        for path in sorted(CORPUS.glob("*/**/*.jit")):
            self.source = str(path)
            name = path.name

            def merged() -> Optional[str]:
                module = torch.jit.load(self.source)
                values = {key: t.clone() if t.numel() == 0 else t * 0.5 for key, t in module.state_dict().items()}
                torch.save(values, self.other)
                self.edit("merge", self.source, self.other, "--keys", "equal")
                with torch.no_grad():
                    for key, tensor in module.state_dict().items():
                        tensor.copy_(values[key])
                found = torch.jit.load(self.out)
                for rate, samples in ((16000, 512), (8000, 256)):
                    audio = torch.rand(1, samples)
                    if not torch.equal(module(audio, rate), found(audio, rate)):
                        return f"other outputs at {rate} Hz"
                return self.kept()

            self.check(f"{name}: inspect", self.inspected)
            self.check(f"{name}: merge", merged)
            self.check(f"{name}: convert", self.converted)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("torchscript: set CKPT to the ckpt to judge")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(os.environ["CKPT"], Path(folder))
        for case in CASES:
            judge.judge(case)
        judge.judge_mobile()
        judge.judge_extra_files()
        judge.judge_without_buffers()
        judge.judge_real()
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
