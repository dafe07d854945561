# SPDX-License-Identifier: BSD-3-Clause
"""Writes the golden checkpoints of tests/data with the PyTorch that runs this script.

    $(scripts/install-torch 2.15.0) scripts/make-golden.py tests/data              # everything this release can write
    $(scripts/install-torch 2.15.0) scripts/make-golden.py tests/data flat sparse  # only these

Each function below makes one object, named after the function with dashes; its decorator says in which containers it
is saved and which releases can. Files are named torch-MAJOR.MINOR-NAME[-legacy].pt. Everything is seeded, so a file comes
out with the same content each time; zip files come out with the same bytes, legacy streams do not, because torch names
their storages by memory address.
"""
from __future__ import annotations

import argparse
import collections
import enum
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import types
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy
import torch
from torch import nn

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
LABEL = "torch-%d.%d" % VERSION
MAKERS: dict[str, tuple[Callable[[], Any], str]] = {}
SPECIAL: dict[str, Callable[[Path], None]] = {}


def golden(containers: str = "zip legacy", since: tuple[int, int] = (0, 0)):
    """Registers a function that returns the object to save."""
    def register(function):
        if VERSION >= since:
            MAKERS[function.__name__.replace("_", "-")] = (function, containers)
        return function
    return register


def special(since: tuple[int, int] = (0, 0)):
    """Registers a function that writes its own files into a folder."""
    def register(function):
        if VERSION >= since:
            SPECIAL[function.__name__.replace("_", "-")] = function
        return function
    return register


def file_in(folder: Path, name: str, suffix: str = ".pt") -> Path:
    return folder / f"{LABEL}-{name}{suffix}"


# -- models -----------------------------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """A convolution, its batch norm, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)

    def forward(self, image):
        return self.fc(torch.relu(self.bn(self.conv(image))).mean((2, 3)))


class Block(nn.Module):
    """The residual block of a ResNet."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        short = self.downsample(x) if hasattr(self, "downsample") else x
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + short)


class SmallResNet(nn.Module):
    """ResNet's shape at a hundredth of its size or less: a stem, three stages, a classifier of ten classes."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width, 1))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width, 2))
        self.fc = nn.Linear(4 * width, 10)

    def features(self, x):
        return self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class ChangedResNet(SmallResNet):
    """Without its fc: behind the stages come a transposed convolution and a classifier of nine classes."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        del self.fc
        self.convtranspose1 = nn.ConvTranspose2d(4 * width, 4 * width, 3, 1, 1, bias=False)
        self.fclass = nn.Linear(4 * width, 9)

    def forward(self, x):
        return self.fclass(self.convtranspose1(self.features(x)).mean((2, 3)))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, channels: int = 1, steps: int = 2) -> None:
    """A few real steps, so that batch norm and the optimizer have state."""
    for step in range(steps):
        images = torch.randn(4, channels, 8, 8)
        loss = model(images).square().mean() + step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def named_or_not(model: nn.Module):
    """What an optimizer of this release is built from; since 2.6 names go into its state."""
    return model.named_parameters() if VERSION >= (2, 6) else model.parameters()


def vanished_module() -> types.ModuleType:
    """A module that no reader of the file has: written, imported, used, forgotten.

    Its file has a fixed place, because a legacy stream records the path and the source text of a module's class.
    """
    folder = Path(tempfile.gettempdir(), "ckpt-make-golden")
    folder.mkdir(exist_ok=True)
    (folder / "vanished_project.py").write_text('''\
import enum
import torch
from torch import nn


class Mode(enum.Enum):
    TRAIN = "train"
    EVAL = "eval"


class Config:
    def __init__(self, **values):
        self.__dict__.update(values)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 3)
        self.register_buffer("mean", torch.tensor([0.5, 0.25]))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)
        self.config = Config(width=2, names=["a", "b"], prior=torch.ones(2))


class Scaler(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def get_extra_state(self):
        return {"amax": torch.tensor([1.0, 2.0]), "recipe": "delayed"}

    def set_extra_state(self, state):
        pass
''')
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("vanished_project")


# -- state dicts and their wrappers -----------------------------------------------------------------------------------


@golden()
def tiny():
    """The smallest: one tensor under one key."""
    return {"a": torch.ones(2)}


@golden()
def flat():
    """The state dict of a convolution, a batch norm and a linear layer."""
    return Tiny().state_dict()


@golden()
def dataparallel():
    """The same under nn.DataParallel: `module.` on every key and in `_metadata`."""
    return nn.DataParallel(Tiny()).state_dict()


@golden()
def averaged():
    """AveragedModel around DataParallel: `n_averaged` beside `module.module.`."""
    return torch.optim.swa_utils.AveragedModel(nn.DataParallel(Tiny())).state_dict()


@golden(since=(2, 0))
def compiled():
    """torch.compile around DataParallel: `_orig_mod.module.`."""
    return torch.compile(nn.DataParallel(Tiny())).state_dict()


@golden()
def midkey():
    """Wrappers in mid-key, and a real sub-module called `module` that has a sibling and so is none."""
    model = nn.Module()
    model.features = nn.DataParallel(nn.Sequential(nn.Conv2d(1, 2, 1), nn.DataParallel(nn.BatchNorm2d(2))))
    model.adapter = nn.Module()
    model.adapter.module = nn.Linear(2, 2)
    model.adapter.scale = nn.Parameter(torch.ones(1))
    return model.state_dict()


@golden()
def plain_dict():
    """`module.` on the keys of a plain dict without `_metadata`."""
    return dict(nn.DataParallel(Tiny()).state_dict())


@golden()
def mixed():
    """Tensors beside other values at the root: no state dict below, so the root is one."""
    return {"weight": torch.randn(2, 3), "epoch": 3, "bias": torch.randn(2), "classes": ["cat", "dog"], "lr": 0.1}


@golden()
def aliased():
    """One state dict under two names: an edit must reach it once and leave it one object."""
    state = nn.DataParallel(nn.Linear(2, 2)).state_dict()
    return {"model": state, "best": state, "list": [state], "epoch": 1}


@golden()
def same_object():
    """One tensor object and one Parameter under two keys each, with others between: in the pickle the second use refers to the first."""
    tensor, parameter = torch.arange(3.0), nn.Parameter(torch.arange(4.0))
    return {"first.weight": tensor, "first.bias": torch.ones(1), "again.weight": tensor,
            "second.weight": parameter, "second.bias": torch.ones(2), "last.weight": parameter}


# -- training checkpoints ---------------------------------------------------------------------------------------------


def training_checkpoint(model: nn.Module, channels: int, steps: int) -> dict[str, Any]:
    optimizer = torch.optim.Adam(named_or_not(model), lr=0.001)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
    trained(model, optimizer, channels, steps)
    scheduler.step()
    args = argparse.Namespace(arch="small-resnet", lr=0.001, data="/data/images", distributed=True, milestones=[30, 60])
    return {"epoch": 12, "args": args, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict()}


@golden()
def training():
    """A nested checkpoint: DataParallel model, Adam, scheduler, EMA with shared key strings, RNG state, numpy, objects."""
    checkpoint = training_checkpoint(nn.DataParallel(Tiny()), 1, 2)
    state = checkpoint["model"]
    checkpoint["ema"] = {key: value.clone() for key, value in state.items()}
    checkpoint["rng"] = torch.get_rng_state()[:64].clone()
    checkpoint["best"] = numpy.float64(91.25)
    checkpoint["history"] = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    checkpoint["param_names"] = list(state)
    checkpoint["config"] = vanished_module().Config(width=2, mode=vanished_module().Mode.TRAIN)
    checkpoint["counts"] = collections.defaultdict(int, a=1)
    checkpoint["bytes"], checkpoint["big"] = b"\x00\xff", 1 << 80
    return checkpoint


@golden("zip", since=(2, 15))
def training_dataparallel():
    """The README's example: a small ResNet under DataParallel, Adam, epoch and args."""
    checkpoint = training_checkpoint(nn.DataParallel(SmallResNet()), 3, 4)
    del checkpoint["scheduler"]
    return {"epoch": checkpoint.pop("epoch"), "arch": "small-resnet", "state_dict": checkpoint.pop("model"),
            "best_acc1": 76.25, **checkpoint}


# -- the tutorial -----------------------------------------------------------------------------------------------------


@golden("zip", since=(2, 15))
def resnet_dataparallel():
    """The tutorial's pretrained model: the state dict of a smaller ResNet under DataParallel."""
    model = nn.DataParallel(SmallResNet(4))
    trained(model, torch.optim.SGD(model.parameters(), lr=0.01), 3, 2)
    return model.state_dict()


@golden("zip", since=(2, 15))
def changed_resnet():
    """The tutorial's own model: the same ResNet with other last layers, before it was trained."""
    return ChangedResNet(4).state_dict()


# -- whole modules ----------------------------------------------------------------------------------------------------


@golden()
def module():
    """A whole nn.Module whose classes no longer exist; the legacy stream carries their source."""
    return vanished_module().Net()


@golden()
def module_dataparallel():
    """The same inside nn.DataParallel."""
    return nn.DataParallel(vanished_module().Net())


@golden()
def module_nested():
    """A whole module under a key of a checkpoint."""
    return {"epoch": 2, "net": nn.DataParallel(vanished_module().Net())}


@golden()
def extra_state():
    """`_extra_state` entries that hold a dict with a tensor."""
    model = nn.DataParallel(nn.Sequential(vanished_module().Scaler(), nn.Linear(2, 2)))
    return {"model": model.state_dict(), "epoch": 1}


# -- storages ---------------------------------------------------------------------------------------------------------


@golden()
def tied():
    """Two names of one weight, as in a language model with a tied decoder."""
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "decoder": nn.Linear(4, 5)})
    model["decoder"].weight = model["embed"].weight
    return nn.DataParallel(model).state_dict()


@golden()
def views():
    """Views: a slice of a large storage, parts of one storage, transposed, channels last, expanded, overlapping."""
    base = torch.arange(1000, dtype=torch.float32)
    flat_weights = torch.randn(40)
    return collections.OrderedDict([
        ("module.slice", base[500:502]), ("module.row", flat_weights[:12].view(3, 4)), ("module.rest", flat_weights[12:]),
        ("module.whole", flat_weights), ("module.transposed", torch.randn(3, 4).t()),
        ("module.last", torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)),
        ("module.expanded", torch.randn(3, 1).expand(3, 5)), ("module.overlap", torch.arange(6.0).as_strided((3, 3), (1, 1), 1)),
        ("module.step", torch.arange(10)[1::3])])


@golden()
def empty():
    """Scalars and tensors without elements, some of them of one storage."""
    nothing = torch.empty(0)
    return collections.OrderedDict([
        ("module.scalar", torch.tensor(3.5)), ("module.count", torch.tensor(7)), ("module.none", nothing),
        ("module.rows", torch.empty(0, 5)), ("module.columns", torch.empty(4, 0, 2)), ("module.alias", nothing),
        ("module.cut", torch.arange(6.0)[3:3])])


@golden()
def many():
    """Fourteen storages, so that their orders by number and by string differ."""
    return {"state_dict": collections.OrderedDict((f"module.layer{i}.weight", torch.full((3,), float(i))) for i in range(14)),
            "step": 140}


# -- kinds of tensors -------------------------------------------------------------------------------------------------


@golden()
def sparse():
    """Sparse tensors of every layout that this release saves."""
    dense = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0]])
    loose = torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 2]], [1.0, 2.0, 3.0], (2, 4))
    tensors = {"module.dense": dense, "module.coo": dense.to_sparse().coalesce(), "module.loose": loose,
               "module.hybrid": torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 3), (4, 3)), "module.csr": dense.to_sparse_csr()}
    if VERSION >= (2, 0):
        tensors.update({"module.csc": dense.to_sparse_csc(), "module.bsr": dense.to_sparse_bsr((1, 2)),
                        "module.bsc": dense.to_sparse_bsc((2, 2))})
    return tensors


@golden()
def quantized():
    """Quantised per tensor and per channel, with and without whole-number zero points, and packed below a byte."""
    values = torch.linspace(-1, 1, 12).view(3, 4)
    scales, zeros = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, 2])
    return {
        "module.weight": values, "module.qint8": torch.quantize_per_tensor(values, 0.05, 3, torch.qint8),
        "module.quint8": torch.quantize_per_tensor(values, 0.05, 128, torch.quint8),
        "module.qint32": torch.quantize_per_tensor(values, 0.001, 0, torch.qint32),
        "module.channels": torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8),
        "module.float_params": torch.quantize_per_channel(values, scales.float(), zeros.float(), 0, torch.quint8),
        "module.packed": torch.quantize_per_channel(values[:, :3], scales.float(), zeros.float(), 0, torch.quint4x2)}


ORDINARY = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16", "bool",
            "complex64", "complex128"]
UNTYPED = ["uint16", "uint32", "uint64", "complex32", "bcomplex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
           "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"]


def of_dtype(name: str) -> torch.Tensor:
    """Two rows of this dtype whose bytes count up."""
    dtype = getattr(torch, name)
    if name == "bool":
        return torch.tensor([[True, False, True], [False, True, True]])
    size = torch.empty(0, dtype=dtype).element_size()
    return torch.arange(6 * size, dtype=torch.uint8).view(2, 3 * size).view(dtype)


@golden()
def dtypes():
    """Every dtype with a storage class of its own."""
    return {f"module.{name}": of_dtype(name) for name in ORDINARY}


@golden("zip", since=(2, 3))
def dtypes_untyped():
    """Every dtype that is saved on an untyped storage (never loadable from a legacy stream)."""
    return {f"module.{name}": of_dtype(name) for name in UNTYPED if hasattr(torch, name)}


@golden()
def parameters():
    """Parameters, frozen ones, ones with attributes; buffers and plain tensors with attributes and gradients."""
    parameter = nn.Parameter(torch.randn(2, 2))
    noted = nn.Parameter(torch.randn(3))
    noted.note, noted.shadow = "kept", parameter
    plain = torch.randn(2)
    plain.scale = torch.tensor(0.5)
    entries = {"module.weight": parameter, "module.frozen": nn.Parameter(torch.randn(2), requires_grad=False),
               "module.noted": noted, "module.grad": torch.randn(2, requires_grad=True), "module.plain": plain,
               "module.twin": parameter, "module.detached": parameter.detach()}
    if VERSION >= (2, 5):
        entries["module.buffer"] = nn.Buffer(torch.randn(2), persistent=False)
    return entries


@golden(since=(2, 0))
def bits():
    """Lazily conjugated and negated tensors: the bytes on disk are neither."""
    value = torch.tensor([1 + 2j, 3 - 4j])
    return {"module.conj": value.conj(), "module.neg": value.conj().imag.clone().neg(),
            "module.lazy": torch._neg_view(torch.randn(3)), "module.base": torch.randn(3)}


@golden()
def meta():
    """Tensors on the meta device, which have no bytes, beside one that has."""
    return {"module.meta": torch.empty(2, 3, device="meta"), "module.here": torch.randn(2)}


@golden("zip", since=(2, 6))
def nested_tensor():
    """Nested tensors, strided and jagged."""
    parts = [torch.randn(2, 3), torch.randn(1, 3)]
    return {"module.strided": torch.nested.nested_tensor(parts), "module.weight": torch.randn(2),
            "module.jagged": torch.nested.nested_tensor(parts, layout=torch.jagged)}


# -- keys and holders -------------------------------------------------------------------------------------------------


@golden()
def keys():
    """String keys that need quoting somewhere."""
    names = ["", ".", "a.b.c", "new\nline", 'double"quote', "single'quote", "tab\t", " ", "back\\slash", "null\0byte",
             "naïve", "重み", "\U0001f525", "\ud800lone", "star*", "=equals", "re:x", "!not", "@file", "[0]", "{0}", "0",
             "-dash"]
    return {"weights": {name: torch.full((1,), float(i)) for i, name in enumerate(names)}, "epoch": 1}


@golden()
def keys_objects():
    """Keys that are no strings, beside a state dict; and a mapping under an int key, which no edit reaches."""
    return {"table": {0: torch.ones(1), (1, 2): torch.ones(2), None: torch.ones(3), True: torch.ones(4), 2.5: torch.ones(5),
                      -7: {"deep": torch.ones(6)}, 1 << 70: torch.ones(7), ("a", (None, False)): 1, b"raw": 2, "text": 3},
            "model": {"module.w": torch.zeros(2)}, 5: {"module.w": torch.zeros(3)}}


Pair = collections.namedtuple("Pair", "left right")


@golden()
def holders():
    """Tensors in lists, tuples, named tuples, deques, attributes, and in a list that holds itself."""
    loop: list[Any] = [torch.ones(1)]
    loop.append(loop)
    config = vanished_module().Config(prior=torch.ones(2), inner={"deep": [torch.ones(3)]})
    Pair.__module__ = "vanished_project"
    vanished_module().Pair = Pair
    return {"list": [torch.ones(4), [torch.ones(5)]], "tuple": (torch.ones(6), {"in tuple": torch.ones(7)}),
            "pair": Pair(torch.ones(8), 1), "deque": collections.deque([torch.ones(9)], maxlen=3), "loop": loop,
            "config": config, "namespace": argparse.Namespace(w=torch.ones(10)), "model": {"module.w": torch.zeros(2)},
            "dtype": torch.float16, "device": torch.device("cuda", 1), "size": torch.Size([2, 3]), "layout": torch.strided,
            "set": {1}, "frozen": frozenset([2]), "complex": 1 + 2j, "slice": slice(1, 2), "ratio": float("inf")}


@golden()
def root_tensor():
    """A single tensor, so no state dict anywhere."""
    return torch.arange(6.0).view(2, 3)


@golden()
def root_list():
    """State dicts in a list: reached by no string key, so none counts."""
    return [Tiny().state_dict(), {"lr": 0.1}]


# -- containers -------------------------------------------------------------------------------------------------------


@special()
def protocols(folder: Path) -> None:
    """The training checkpoint's smaller brother under each pickle protocol that can be saved; 0 cannot hold a tensor."""
    state = nn.DataParallel(nn.Linear(2, 2)).state_dict()
    checkpoint = {"model": state, "epoch": 300, "loss": 0.5, "note": "né", "raw": b"\x80", "tags": {"a"}, "big": -(1 << 70),
                  "again": state}
    for protocol in range(1, 6):
        for is_zip, suffix in ((True, ""), (False, "-legacy")):
            torch.save(checkpoint, file_in(folder, f"protocol{protocol}{suffix}"), pickle_protocol=protocol,
                       _use_new_zipfile_serialization=is_zip)
    torch.save({"epoch": 300, "note": "né"}, file_in(folder, "protocol0-legacy"), pickle_protocol=0,
               _use_new_zipfile_serialization=False)


Pair = NamedTuple("Pair", [("first", torch.Tensor), ("second", int)])


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Attributes(nn.Module):
    """Attributes of every type that TorchScript can carry, and modules in containers, one weight tied."""

    # types, not strings: TorchScript wants to see them
    __annotations__ = {"table": Dict[str, torch.Tensor], "some": List[torch.Tensor], "maybe": Optional[torch.Tensor],
                       "pair": Pair, "color": Color}

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 2))
        self.register_parameter("absent", None)
        self.register_buffer("scale", torch.randn(3))
        self.register_buffer("hidden", torch.randn(3), persistent=False)
        self.plain = torch.randn(2)
        self.table = {"x": torch.randn(2)}
        self.some = [torch.randn(1), torch.randn(2)]
        self.maybe = torch.randn(4)
        self.pair = Pair(torch.randn(2), 5)
        self.color = Color.GREEN
        self.sizes = [1, 2, 3]
        self.large = 1 << 40
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.BatchNorm1d(2)])
        self.named = nn.ModuleDict({"out": nn.Linear(2, 2)})
        self.named["out"].weight = self.layers[0].weight

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        x = self.named["out"](x) @ self.w + self.plain + self.table["x"] + self.pair.first
        x = x + self.scale.sum() + self.hidden.sum() + float(self.large + self.sizes[0])
        for t in self.some:
            x = x + t.sum()
        maybe = self.maybe
        if maybe is not None and self.color == Color.GREEN:
            x = x + maybe.sum()
        return x


def quantized_network() -> nn.Module:
    from torch.ao.quantization import quantize_dynamic
    return quantize_dynamic(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), {nn.Linear}, torch.qint8)


@special()
def torchscript(folder: Path) -> None:
    """Scripted modules: a layer; attributes of all types; frozen; with packed weights; for the lite interpreter."""
    torch.jit.save(torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.ReLU())), str(file_in(folder, "torchscript")))
    modules = {"attributes": lambda: torch.jit.script(Attributes().eval()),
               "frozen": lambda: torch.jit.freeze(torch.jit.script(Tiny().eval())),
               "packed": lambda: torch.jit.script(quantized_network().eval())}
    for name, make in modules.items():
        torch.manual_seed(20240229)
        torch.jit.save(make(), str(file_in(folder, f"torchscript-{name}")))
    torch.manual_seed(20240229)
    torch.jit.script(Tiny().eval())._save_for_lite_interpreter(str(file_in(folder, "torchscript-mobile")))


@special(since=(2, 15))
def no_crc(folder: Path) -> None:
    """The checksum switched off: every CRC field is 0."""
    from torch.utils.serialization import config
    config.save.compute_crc32 = False
    torch.save(nn.DataParallel(Tiny()).state_dict(), file_in(folder, "no-crc"))
    config.save.compute_crc32 = True


@special(since=(2, 15))
def align4096(folder: Path) -> None:
    """Every record on a page of its own, as the file system would like it."""
    from torch.utils.serialization import config
    config.save.storage_alignment = 4096
    torch.save(nn.DataParallel(nn.Linear(2, 2)).state_dict(), file_in(folder, "align4096"))
    config.save.storage_alignment = 64


def rezip(source: Path, target: Path, method: int, change: Callable[[str, bytes], bytes] = lambda name, data: data) -> None:
    """Python's own zip writer: other headers, no alignment, no promise about the layout."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for entry in old.infolist():
            name = entry.filename.partition("/")[2]
            if name not in (".format_version", ".storage_alignment"):
                new.writestr(zipfile.ZipInfo(entry.filename), change(name, old.read(entry)), method)


def swapped(data: bytes, size: int) -> bytes:
    return b"".join(data[i:i + size][::-1] for i in range(0, len(data), size))


@special(since=(2, 15))
def foreign(folder: Path) -> None:
    """One checkpoint zipped again by other programs (zipfile stored, deflated; Info-ZIP), and turned big-endian."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "archive.pt")
        torch.save({"model": nn.DataParallel(Tiny()).state_dict(), "epoch": 4}, source)
        rezip(source, file_in(folder, "rezipped-stored"), zipfile.ZIP_STORED)
        rezip(source, file_in(folder, "rezipped-deflated"), zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(source) as archive:
            archive.extractall(scratch)
        for name in (".format_version", ".storage_alignment"):
            Path(scratch, "archive", name).unlink()
        for path in [Path(scratch, "archive"), *Path(scratch, "archive").rglob("*")]:
            os.utime(path, (946728000, 946728000))
        target = file_in(folder, "infozip")
        target.unlink(missing_ok=True)
        subprocess.run(["zip", "-q", "-r", "-X", str(target.resolve()), "archive"], cwd=scratch, check=True,
                       env={**os.environ, "TZ": "UTC"})

        dtypes_source = Path(scratch, "dtypes.pt")
        torch.save(dtypes(), dtypes_source)
        sizes = {str(i): of_dtype(name).element_size() >> name.startswith("complex") for i, name in enumerate(ORDINARY)}

        def big_endian(name: str, data: bytes) -> bytes:
            if name == "byteorder":
                return b"big"
            key = name.partition("data/")[2]
            return swapped(data, sizes[key]) if key in sizes else data

        rezip(dtypes_source, file_in(folder, "bigendian"), zipfile.ZIP_STORED, big_endian)


@special(since=(2, 6))
def dtensor(folder: Path) -> None:
    """A distributed tensor of one rank."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo")
    tensor = distribute_tensor(torch.arange(8.0).view(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
    torch.save({"module.weight": tensor, "module.bias": torch.ones(2)}, file_in(folder, "dtensor"))
    dist.destroy_process_group()


@special(since=(2, 15))
def safetensors(folder: Path) -> None:
    """safetensors files of the reference library: wrapped keys with metadata, every dtype, one with an odd header."""
    from safetensors.torch import save_file
    state = {key: value.contiguous() for key, value in nn.DataParallel(Tiny()).state_dict().items()}
    save_file(state, file_in(folder, "dataparallel", ".safetensors"), metadata={"format": "pt", "epoch": "12"})
    names = [name for name in ORDINARY + UNTYPED if not name.startswith(("bits", "complex128", "complex32", "bcomplex"))]
    tensors = {f"module.{name}": of_dtype(name) for name in names if name != "float4_e2m1fn_x2"}
    tensors["module.float4_e2m1fn_x2"] = of_dtype("uint8").view(torch.float4_e2m1fn_x2)
    tensors.update({"module.scalar": torch.tensor(1.5), "module.empty": torch.empty(0, 3)})
    save_file(tensors, file_in(folder, "dtypes", ".safetensors"))

    # A valid file as other writers make it: no padding, own order, escapes, unknown field, no metadata.
    header = {"module.z": {"shape": [2], "data_offsets": [3, 11], "dtype": "F32", "note": 1},
              "module.重み\n": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}
    text = json.dumps(header).encode()
    data = bytes([1, 2, 3]) + struct.pack("<2f", 0.5, -1.5)
    file_in(folder, "odd", ".safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


# -- main -------------------------------------------------------------------------------------------------------------


def save(name: str, folder: Path) -> None:
    make, containers = MAKERS[name]
    torch.manual_seed(20240229)
    value = make()
    for container in containers.split():
        target = file_in(folder, name if container == "zip" else f"{name}-legacy")
        torch.save(value, target, _use_new_zipfile_serialization=container == "zip")


def init_cases() -> Iterator[tuple[int, list[str]]]:
    """Seeds and commands of tests/support/init_commands.h that draw one after the other."""
    for seed in (0, 5, 1234, (1 << 32) - 1, (1 << 40) + 5):
        yield seed, ["layer default float32 100x512 1 0"]
    for dtype in ("float64", "float16", "bfloat16"):
        for seed in (0, 1234):
            yield seed, [f"layer default {dtype} 100x512 1 0"]
    for seed in range(1, 6):
        yield seed, ["normal float64 15 1"]  # releases differ in few last bits
    yield 0, ["layer default float32 4096x4096 1 0"]
    for shape in ("2x3", "10x64x1x1", "8x3x3x3", "4x6x2x1x3"):
        yield 0, [f"layer default float32 {shape} 1 0"]
    yield 3, ["layer default float32 6x2x3x3 1 2"]
    yield 3, ["layer default float32 7x30 1 0", "layer default float64 5x30 1 0", "layer normal:0.5 float32 3x3 0 0",
              "layer normal float64 3x5 1 0", "layer default bfloat16 5x30 0 0", "uniform float32 4 0 1"]
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for count in (1, 5, 15, 16, 17, 40, 1000, 51200):
            yield 0, [f"normal {dtype} {count} 1", "uniform float64 2 0 1"]
            yield 0, [f"uniform {dtype} {count} 0 1"]
        yield 0, [f"normal {dtype} 1000 0.02"]
        yield 77, [f"uniform {dtype} 999 -0.123 0.0777"]
        methods = ["xavier-uniform", "xavier-uniform:2", "xavier-normal", "kaiming-uniform", "kaiming-uniform:fan-out", "kaiming-normal"]
        if VERSION >= (2, 12):  # before, the last bits depend on the library that torch was built with
            methods += ["trunc-normal", "trunc-normal:0.02", "trunc-normal:6"]
        for method in methods:
            yield 0, [f"layer {method} {dtype} 100x512 0 0", "uniform float64 2 0 1"]


def drawn(command: str) -> list[torch.Tensor]:
    """What torch makes of a command."""
    name, *words = command.split()
    if name != "layer":
        tensor = torch.empty(int(words[1]), dtype=getattr(torch, words[0]))
        return [tensor.normal_(0, float(words[2])) if name == "normal" else tensor.uniform_(float(words[2]), float(words[3]))]
    method, dtype, shape, has_bias, groups = words[0], getattr(torch, words[1]), [int(n) for n in words[2].split("x")], words[3] == "1", int(words[4])
    if method == "default":
        kernel, options = shape[2:], {"bias": has_bias, "dtype": dtype}
        if groups:
            layer = getattr(nn, f"ConvTranspose{len(kernel)}d")(shape[0], shape[1] * groups, kernel, groups=groups, **options)
        elif kernel:
            layer = getattr(nn, f"Conv{len(kernel)}d")(shape[1], shape[0], kernel, **options)
        else:
            layer = nn.Linear(shape[1], shape[0], **options)
        return [parameter.detach() for parameter in layer.parameters()]
    name, _, argument = method.partition(":")
    options = {} if not argument else {"mode": argument.replace("-", "_")} if name.startswith("kaiming") else {
        "gain" if name.startswith("xavier") else "std": float(argument)}
    weight = torch.empty(shape, dtype=dtype)
    getattr(nn.init, name.replace("-", "_") + "_")(weight, **options)
    return [weight] + ([torch.zeros(shape[0], dtype=dtype)] if has_bias else [])


@special()
def initial_values(folder: Path) -> None:
    """Random values of layers: seed, commands, and the checksum of all bytes that torch draws for them."""
    if "CPU capability usage: AVX" not in torch.__config__.show():
        sys.exit("make-golden: initial values are those of a processor with AVX2")
    lines = []
    for seed, commands in init_cases():
        torch.manual_seed(seed)
        crc = 0
        for command in commands:
            for tensor in drawn(command):
                crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().tobytes(), crc)
        lines.append(f"{seed}\t{'; '.join(commands)}\t{crc:08x}\n")
    file_in(folder, "initial-values", ".tsv").write_text("".join(lines))


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    wanted = sys.argv[2:] or [*MAKERS, *SPECIAL]
    for name in wanted:
        if name in MAKERS:
            save(name, folder)
        elif name in SPECIAL:
            torch.manual_seed(20240229)
            SPECIAL[name](folder)
        else:
            sys.exit(f"make-golden: {torch.__version__} makes no '{name}'; it makes {', '.join([*MAKERS, *SPECIAL])}")
    for file in folder.glob(f"{LABEL}-*"):
        file.chmod(0o644)  # safetensors writes 0600
    shutil.rmtree(Path(tempfile.gettempdir(), "ckpt-make-golden"), ignore_errors=True)


if __name__ == "__main__":
    main()
