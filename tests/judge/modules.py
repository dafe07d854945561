#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whole modules, judged with the torch that runs this.

    CKPT=build/dev/apps/ckpt python3 tests/judge/modules.py

`convert --state-dict` must give what `state_dict()` of the loaded module gives, to the last bit, in its order and with
its `_metadata`; `strip-dataparallel` a module of the inner class that computes the same.
"""
from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from torch import nn

from compare import Comparison
from tally import Tally

TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])
UNSAFE = {"weights_only": False} if TORCH >= (1, 13) else {}


class Net(nn.Module):
    """Something of everything that stands in a module's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.register_buffer("mask", torch.ones(2, dtype=torch.bool), persistent=False)
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("nothing", None)
        self.register_parameter("none", None)
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)
        self.scale = nn.Parameter(torch.randn(3, 2).t())
        self.notes = {"weights": torch.randn(3), "name": "net"}
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


class Norm(nn.BatchNorm2d):
    """A subclass of a layer with a version of its own."""


class WithExtraState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.calls = 3

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


class WithState(nn.Module):
    """Leaves a cache out of its pickle."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.cache = {"huge": torch.randn(100)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "cache": {}}


def average(old: torch.Tensor, new: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return old + (new - old) / (count + 1)


def rebuild(fc: nn.Module) -> "Reduced":
    return Reduced(fc)


class Reduced(nn.Module):
    """Pickles itself as a call: no file shows its tables."""

    def __init__(self, fc: nn.Module) -> None:
        super().__init__()
        self.fc = fc

    def __reduce__(self) -> Any:
        return rebuild, (self.fc,)


def pairs(net: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(first=net, second=nn.ReLU(), third=net))


def tied() -> nn.Module:
    net = nn.ModuleDict({"embed": nn.Embedding(5, 4), "decoder": nn.Linear(4, 5)})
    net["decoder"].weight = net["embed"].weight
    return net


def viewed() -> nn.Module:
    """Parameters and buffers that are views of one storage."""
    net = nn.Module()
    base = torch.randn(10)
    net.a = nn.Parameter(base[:4])
    net.register_buffer("b", base[2:8:2])
    net.register_buffer("c", base.requires_grad_(True).detach().view(2, 5).t())
    return net


def asked_for_gradients() -> nn.Module:
    net = nn.Linear(2, 2)
    net.register_buffer("learned", torch.randn(3, requires_grad=True))
    net.tag = "x"
    net.weight.tag = "w"
    net.learned.tag = "b"
    return net


def spectral() -> nn.Module:
    twice = nn.utils.spectral_norm(nn.utils.spectral_norm(nn.LSTM(2, 2), "weight_ih_l0"), "weight_hh_l0")
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 3)), nn.utils.spectral_norm(nn.Conv2d(2, 2, 1)), twice)


def lazy_half_done() -> nn.Module:
    net = nn.Sequential(nn.LazyLinear(3), nn.LazyConv2d(3, 1), nn.LazyBatchNorm2d())
    net[0](torch.randn(2, 4))
    return net


def without(net: nn.Module, *names: str) -> nn.Module:
    """As older releases made their modules: some attributes of today are missing."""
    for module in net.modules():
        for name in names:
            module.__dict__.pop(name, None)
    return net


def old_kind() -> nn.Module:
    """0.4 and 1.0: no set of non-persistent buffers, a `_backend`, tables that are OrderedDicts; tables first."""
    net = without(nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2)), "_non_persistent_buffers_set", "_state_dict_pre_hooks",
                  "_is_full_backward_hook", "_load_state_dict_post_hooks", "_backward_pre_hooks")
    for module in net.modules():
        module.__dict__["_backend"] = {"kind": "thnn"}
        for table in ("_parameters", "_buffers", "_modules"):
            module.__dict__[table] = OrderedDict(module.__dict__[table])
    net[1]._buffers.pop("num_batches_tracked")
    return net


def turned_around() -> nn.Module:
    """`_modules` stands in front of the parameters, as the dicts of Python 2 may have it."""
    net = Net()
    net.own = nn.Parameter(torch.randn(2))
    net.__dict__ = dict(reversed(list(net.__dict__.items())))
    return net


def graph() -> nn.Module:
    from torch import fx
    return fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))))


def referenced_before() -> nn.Module:
    """A child that an attribute refers to before the table of modules does."""
    net = nn.Module()
    child = nn.Linear(2, 2)
    net.__dict__ = {"first": [child], **net.__dict__}
    net.child = child
    return net


CASES: dict[str, Callable[[], Any]] = {
    "a net": Net,
    "a net in DataParallel": lambda: nn.DataParallel(Net()),
    "DataParallel twice": lambda: nn.DataParallel(nn.DataParallel(Net())),
    "tied parameters": tied,
    "a shared submodule": lambda: pairs(Net()),
    "shared below shared": lambda: pairs(pairs(nn.Linear(2, 2))),
    "views": viewed,
    "buffers with gradients and attributes": asked_for_gradients,
    "spectral_norm": spectral,
    "weight_norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3)), nn.utils.weight_norm(nn.Conv1d(2, 2, 1), dim=None)),
    "norms": lambda: nn.ModuleList([nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2), nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
                                    nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.BatchNorm3d(2, affine=False, track_running_stats=False), Norm(3)]),
    "attention": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8), 2),
    "attention of three sizes": lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True),
    "recurrent layers": lambda: nn.ModuleDict({"lstm": nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2), "gru": nn.GRU(2, 2), "cell": nn.RNNCell(2, 2)}),
    "lists and dicts of parameters": lambda: nn.ModuleList([nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(1))]),
                                                            nn.ParameterDict({"z": nn.Parameter(torch.randn(2)), "a": nn.Parameter(torch.randn(1))})]),
    "nothing but layers without parameters": lambda: nn.Sequential(nn.ReLU(), nn.Linear(1, 1), nn.Identity()),
    "lazy layers": lambda: nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()),
    "lazy layers, half done": lazy_half_done,
    "embeddings that are sparse": lambda: nn.EmbeddingBag(4, 2, sparse=True),
    "half precision": lambda: Net().half(),
    "bfloat16": lambda: Net().to(torch.bfloat16),
    "an average": lambda: torch.optim.swa_utils.AveragedModel(Net(), avg_fn=average),
    "old modules": old_kind,
    "tables in another order": turned_around,
    "an fx graph": graph,
    "a child that is met before": referenced_before,
    "a state without its cache": WithState,
    "checkpointed activations": lambda: checkpointed(Net()),
    "prepared for quantisation": lambda: prepared(),
    "quantised": lambda: quantised(),
    "quantised in DataParallel": lambda: nn.DataParallel(quantised()),
    "quantised, fused": lambda: fused(),
    "quantised dynamically": lambda: quantised_dynamically(),
    "quantised, other layers": lambda: quantised_others(),
    "DistributedDataParallel": lambda: distributed(Net()),
    "FSDP's kind": lambda: sharded(),
    "an odd name": lambda: named("weird ключ", nn.Linear(1, 1)),
}
if TORCH >= (2, 0):
    CASES["a compiled net"] = lambda: torch.compile(Net())
    CASES["a compiled net in DataParallel"] = lambda: nn.DataParallel(torch.compile(Net()))
    CASES["meta tensors"] = lambda: nn.Linear(2, 3, device="meta")
if hasattr(nn, "Buffer"):
    CASES["a net with a Buffer"] = lambda: with_buffer()


def with_buffer() -> nn.Module:
    net = nn.Linear(1, 1)
    net.kept = nn.Buffer(torch.randn(2))
    net.left = nn.Buffer(torch.randn(2), persistent=False)
    return net


def named(name: str, child: nn.Module) -> nn.Module:
    net = nn.Module()
    net.add_module(name, child)
    return net


def checkpointed(net: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    net.conv = checkpoint_wrapper(net.conv)
    net.fc = checkpoint_wrapper(nn.Sequential(checkpoint_wrapper(net.fc), nn.BatchNorm1d(2)))
    return net


def prepared() -> nn.Module:
    from torch import ao
    from torch.ao import quantization
    ao_nn = ao.nn if hasattr(ao.nn.intrinsic, "qat") else nn
    qconfig = quantization.QConfig(activation=quantization.FakeQuantize, weight=quantization.FakeQuantize)
    return nn.Sequential(quantization.MinMaxObserver(), quantization.MovingAveragePerChannelMinMaxObserver(), quantization.HistogramObserver(),
                         quantization.FakeQuantize(), ao_nn.qat.Linear(2, 2, qconfig=qconfig), ao_nn.intrinsic.qat.ConvBn2d(1, 1, 1, qconfig=qconfig),
                         quantization.QuantStub(), ao_nn.quantized.Quantize(0.5, 3, torch.quint8), ao_nn.quantized.FloatFunctional())


def quantised() -> nn.Module:
    """Layers whose weights are packed, static ones with activations of their own scale."""
    from torch.ao import quantization

    net = nn.Sequential(quantization.QuantStub(), nn.Conv2d(1, 2, 1), nn.ConvTranspose2d(2, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2),
                        nn.Linear(2, 2, bias=False), quantization.DeQuantStub()).eval()
    net.qconfig = quantization.default_qconfig
    net = quantization.prepare(net)
    net(torch.randn(4, 1, 2, 2))
    return quantization.convert(net)


def fused() -> nn.Module:
    """Fused layers, and scales by channel."""
    from torch.ao import quantization

    net = nn.Sequential(quantization.QuantStub(), nn.Conv1d(1, 2, 1), nn.ReLU(), nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(4, 2), nn.ReLU()).eval()
    net = quantization.fuse_modules(net, [["1", "2"], ["5", "6"]])
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    net = quantization.prepare(net)
    net(torch.randn(4, 1, 2))
    return quantization.convert(net)


def quantised_dynamically() -> nn.Module:
    from torch.ao import quantization

    net = nn.ModuleDict({"linear": nn.Linear(3, 2), "plain": nn.Linear(2, 2, bias=False), "lstm": nn.LSTM(2, 2, 2), "gru": nn.GRU(2, 2), "cell": nn.LSTMCell(2, 2)})
    return quantization.quantize_dynamic(net, {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell})


def quantised_others() -> nn.Module:
    from torch.ao.nn import quantized

    return nn.ModuleDict({"embedding": quantized.Embedding(4, 3), "bag": quantized.EmbeddingBag(4, 3), "sum": quantized.QFunctional(),
                          "conv": quantized.Conv3d(1, 1, 1), "layer": quantized.LayerNorm((2,), nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2)), 0.5, 3),
                          "norm": quantized.BatchNorm2d(2), "elu": quantized.ELU(0.5, 1)})


def reference() -> nn.Module:
    from torch.ao.nn.quantized import reference as layers

    return nn.Sequential(layers.Linear(2, 2, True, weight_qparams={"qscheme": torch.per_tensor_affine, "dtype": torch.qint8, "scale": 0.5, "zero_point": 0}))


class Twice(nn.Module):
    """A real submodule called `module`, beside another one."""

    def __init__(self) -> None:
        super().__init__()
        self.module = Net()
        self.other = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.module(x))


class OwnWrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.student = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.student(x)


class Sharded(nn.Module):
    """As FSDP wraps a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._fsdp_wrapped_module = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._fsdp_wrapped_module(x)


def sharded() -> nn.Module:
    net = Net()
    net.fc = Sharded(net.fc)
    return Sharded(net)


def without_shards(net: nn.Module) -> nn.Module:
    net = net._fsdp_wrapped_module
    net.fc = net.fc._fsdp_wrapped_module
    return net


def distributed(net: nn.Module) -> nn.Module:
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", init_method=f"file://{tempfile.mkdtemp()}/rendezvous", rank=0, world_size=1)
    del net.mask  # gloo sends no booleans
    return nn.parallel.DistributedDataParallel(net)


def in_the_middle() -> nn.Module:
    """Wrappers in front and between, one of them used twice."""
    shared = nn.DataParallel(nn.Linear(2, 2))
    return nn.DataParallel(nn.Sequential(nn.DataParallel(Net()), shared, shared))


def without_wrappers(net: nn.Module) -> nn.Module:
    inner = net.module
    for name in ("0", "1", "2"):
        setattr(inner, name, getattr(inner, name).module)
    return inner


#: A module, what must be left of it, and options.
WRAPPED: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], nn.Module], list[str]]] = {
    "DataParallel": (lambda: nn.DataParallel(Net()), lambda net: net.module, []),
    "DataParallel twice": (lambda: nn.DataParallel(nn.DataParallel(Net())), lambda net: net.module.module, []),
    "DistributedDataParallel": (lambda: distributed(Net()), lambda net: net.module, []),
    "wrappers in the middle": (in_the_middle, without_wrappers, []),
    "a real submodule": (Twice, lambda net: net, []),
    "an average": (lambda: torch.optim.swa_utils.AveragedModel(Net(), avg_fn=average), lambda net: net, []),
    "an average in DataParallel": (lambda: nn.DataParallel(torch.optim.swa_utils.AveragedModel(Net(), avg_fn=average)), lambda net: net.module, []),
    "a wrapper of one's own": (lambda: OwnWrapper(Net()), lambda net: net.student, ["--wrapper", "student"]),
    "FSDP's kind": (sharded, without_shards, []),
    "another name": (lambda: OwnWrapper(Net()), lambda net: net, []),
    "checkpointed activations": (lambda: checkpointed(Net()), lambda net: unchecked(net), []),
    "a shared submodule": (lambda: nn.DataParallel(pairs(Net().conv)), lambda net: net.module, []),
}
if TORCH >= (2, 0):
    WRAPPED["a compiled net"] = (lambda: torch.compile(Net()), lambda net: net._orig_mod, [])
    WRAPPED["a compiled net in DataParallel"] = (lambda: nn.DataParallel(torch.compile(Net())), lambda net: net.module._orig_mod, [])


def unchecked(net: nn.Module) -> nn.Module:
    net.conv = net.conv._checkpoint_wrapped_module
    net.fc = net.fc._checkpoint_wrapped_module
    net.fc[0] = net.fc[0]._checkpoint_wrapped_module
    return net


class Judge:
    def __init__(self, ckpt: str, folder: Path) -> None:
        self.ckpt, self.folder, self.tally = ckpt, folder, Tally()
        self.source, self.out = str(folder / "in.pt"), str(folder / "out.pt")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.ckpt, *arguments, self.source, "-f", "--verify", "-o", self.out], capture_output=True, text=True)

    def load(self, path: str) -> Any:
        return torch.load(path, **UNSAFE)

    def through_a_file(self, value: Any, legacy: bool) -> Any:
        path = str(self.folder / "expected.pt")
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
        return self.load(path)

    def made(self, name: str, make: Callable[[], Any]) -> Any:
        """None where this release can't make it here."""
        try:
            return make()
        except Exception as error:
            self.tally.skip(name, f"{type(error).__name__} {str(error)[:100]}")
            return None

    def save(self, name: str, value: Any, legacy: bool) -> bool:
        """Not everything can be pickled in every release."""
        try:
            torch.save(value, self.source, _use_new_zipfile_serialization=not legacy)
            self.load(self.source)
        except Exception as error:
            self.tally.skip(name, f"{type(error).__name__} {str(error)[:100]}")
            return False
        return True

    def differences(self, expected: Any, found: Any) -> str | None:
        return next(iter(Comparison(expected, found).differences), None)

    def state_dicts(self) -> None:
        for legacy in (False, True):
            for name, make in CASES.items():
                if legacy and name.startswith("quantised"):
                    continue  # PyTorch frees what it unpacks while it writes, and takes one storage for another
                torch.manual_seed(0)
                name += ", legacy" if legacy else ""
                value = self.made(name, make)
                if value is None or not self.save(name, value, legacy):
                    continue
                done = self.run("convert", "--state-dict")
                if done.returncode != 0:
                    self.tally.count(name, done.stderr)
                    continue
                loaded = value if name.startswith("quantised") else self.load(self.source)  # PyTorch's loaded convolutions have no tables
                wanted = self.through_a_file(loaded.state_dict(), legacy)
                self.tally.count(name, self.differences(wanted, self.load(self.out)))
                shown = subprocess.run([self.ckpt, "inspect", "--keys", self.source], capture_output=True, text=True).stdout
                keys = [key for key, value in wanted.items() if not nn.parameter.is_lazy(value)]
                if not name.startswith("quantised"):  # which keep numbers, not tensors of them
                    self.tally.count(f"{name}: keys", None if shown.split("\n")[:-1] == keys else shown)

    def unwrapped(self) -> None:
        for legacy in (False, True):
            for name, (make, strip, options) in WRAPPED.items():
                torch.manual_seed(3)
                name += ", legacy" if legacy else ""
                value = self.made(name, make)
                if value is None or not self.save(name, value, legacy):
                    continue
                for place in ("", "model"):
                    if place:
                        self.save(name, {"epoch": 1, "model": value, "again": value}, legacy)
                    done = self.run("strip-dataparallel", *options)
                    if done.returncode != 0:
                        self.tally.count(f"{name} {place}", done.stderr)
                        continue
                    wanted, found = self.load(self.source), self.load(self.out)
                    if place:
                        self.tally.count(f"{name}: both uses", None if found["again"] is found["model"] and found["epoch"] == 1 else "they differ")
                        wanted, found = wanted["model"], found["model"]
                    wanted = strip(wanted)
                    self.tally.count(f"{name} {place}: type", None if type(found) is type(wanted) and str(found) == str(wanted) else str(found))
                    self.tally.count(f"{name} {place}: state", self.differences(wanted.state_dict(), found.state_dict()))
                    x = torch.randn(2, 2) if "shared" in name else torch.randn(2, 3, 5, 5)
                    if "shared" not in name:
                        self.tally.count(f"{name} {place}: computes", None if torch.equal(wanted.eval()(x), found.eval()(x)) else "something else")
                    shown = subprocess.run([self.ckpt, "inspect", "--keys", self.out], capture_output=True, text=True).stdout
                    self.tally.count(f"{name} {place}: keys", None if shown.split("\n")[:-1] == list(wanted.state_dict()) else shown)

    def nested(self) -> None:
        """Below a dict, with --root; what is around it goes."""
        torch.manual_seed(1)
        net = Net()
        value = {"epoch": 3, "model": nn.DataParallel(net), "optimizer": torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).state_dict(),
                 "ema": {"shadow": net.state_dict()}}
        for legacy in (False, True):
            self.save("nested", value, legacy)
            for root, pick in (("model", lambda v: v["model"].state_dict()), ("ema.shadow", lambda v: v["ema"]["shadow"])):
                done = self.run("convert", "--state-dict", "--root", root)
                wanted = self.through_a_file(pick(self.load(self.source)), legacy)
                self.tally.count(f"--root {root}", done.stderr or self.differences(wanted, self.load(self.out)))
            self.save("in a list", [1, net, {"note": [tied()]}], legacy)
            for root, pick in (("[1]", lambda v: v[1]), ("[2].note[0]", lambda v: v[2]["note"][0]), ("[1]@_modules.fc", lambda v: v[1].fc)):
                done = self.run("convert", "--state-dict", "--root", root)
                if "fc" in root:
                    self.tally.count(f"--root {root}", None if "no mapping with string keys" in done.stderr else f"{done.stdout} {done.stderr}")
                else:
                    self.tally.count(f"--root {root}", done.stderr or self.differences(self.through_a_file(pick(self.load(self.source)).state_dict(), legacy),
                                                                                       self.load(self.out)))

    def prefixes(self) -> None:
        """State dicts of wrapped models, as torch's own helper strips them; what optimizers remember follows."""
        if TORCH < (2, 3):  # before, it sorted the keys and left the wrapper's metadata
            return
        for wrapper in ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"):
            torch.manual_seed(4)
            net = named(wrapper, Net())
            value: dict[str, Any] = {"model": net.state_dict(), "ema": copy.deepcopy(net).state_dict(), "epoch": 3}
            for key in ("model", "ema"):
                nn.modules.utils.consume_prefix_in_state_dict_if_present(value[key], wrapper + ".")
            wanted = copy.copy(value)
            value = {**value, "model": net.state_dict(), "ema": copy.deepcopy(net).state_dict()}
            if TORCH >= (2, 6):
                value["optimizer"] = torch.optim.SGD(net.named_parameters(), lr=0.1).state_dict()
                wanted["optimizer"] = copy.deepcopy(value["optimizer"])
                names = wanted["optimizer"]["param_groups"][0]["param_names"]
                wanted["optimizer"]["param_groups"][0]["param_names"] = [name.removeprefix(wrapper + ".") for name in names]
            for legacy in (False, True):
                self.save(wrapper, value, legacy)
                done = self.run("strip-dataparallel")
                self.tally.count(f"{wrapper}.", done.stderr or self.differences(self.through_a_file(wanted, legacy), self.load(self.out)))

    def edited(self) -> None:
        """Once it is the root it is an ordinary state dict."""
        torch.manual_seed(2)
        self.save("edited", nn.DataParallel(Net()), False)
        state = self.load(self.source).state_dict()
        for edits in (["convert --state-dict", "strip-dataparallel"], ["strip-dataparallel", "convert --state-dict"]):
            done = self.run("apply", *[word for edit in edits for word in ("-e", edit)])
            wanted = copy.copy(state)
            nn.modules.utils.consume_prefix_in_state_dict_if_present(wanted, "module.")
            if TORCH >= (2, 3):  # before, the helper sorted the keys and left the parent's metadata
                problem = self.differences(dict(self.through_a_file(wanted, False)), dict(self.load(self.out)))
                self.tally.count(f"{edits} metadata", None if dict(wanted._metadata) == dict(self.load(self.out)._metadata) else f"{self.load(self.out)._metadata}")
            else:
                problem = None if list(self.load(self.out)) == [key[7:] for key in state] else f"{list(self.load(self.out))}"
            self.tally.count(f"{edits}", done.stderr or problem)
        done = self.run("apply", "-e", "convert --state-dict", "-e", "filter-keys --drop module.bn", "-e", "rename-keys --map module.fc=head")
        self.tally.count("filtered and renamed", done.stderr or (None if "head.weight" in self.load(self.out) and "module.bn.weight" not in self.load(self.out)
                                                                 else f"{list(self.load(self.out))}"))
        done = self.run("apply", "-e", "convert --state-dict", "-e", "replace-head --head module.fc --num-classes 5 --rename head")
        found = self.load(self.out)
        self.tally.count("another head", done.stderr or (None if found["head.weight"].shape == (5, 4) and not found["head.weight"].requires_grad else f"{list(found)}"))

    def quantised(self) -> None:
        """A layer that stands twice gives its keys twice; what is converted loads into a layer of its kind."""
        net = fused()
        net.again = net[3]
        if not self.save("a quantised layer that stands twice", net, False):
            return
        done = self.run("convert", "--state-dict")
        if done.returncode != 0:
            self.tally.count("a quantised layer that stands twice", done.stderr)
            return
        found = self.load(self.out)
        alike = all(torch.equal(found["again." + name], found["3." + name]) for name in ("weight", "bias", "scale", "zero_point"))
        self.tally.count("a quantised layer that stands twice", None if list(found) == list(net.state_dict()) and alike else f"{list(found)}")
        other = fused()
        other.again = other[3]
        other.load_state_dict(found)
        data = torch.randn(3, 1, 2)
        self.tally.count("a quantised state dict, loaded", None if torch.equal(net[:-1](data).int_repr(), other[:-1](data).int_repr()) else "other outputs")

    def told(self) -> None:
        """What only code knows is said."""
        self.save("extra state", nn.Sequential(WithExtraState()), False)
        done = self.run("convert", "--state-dict")
        self.tally.count("extra state", None if "get_extra_state" in done.stdout and "WithExtraState" in done.stdout else done.stdout + done.stderr)
        hooked = nn.Linear(1, 1)
        hooked._register_state_dict_hook(print)
        self.save("hook", hooked, False)
        done = self.run("convert", "--state-dict")
        self.tally.count("hook", None if "hooks" in done.stdout and "print" in done.stdout else done.stdout + done.stderr)
        for name, make in (("a module that is a call", lambda: nn.Sequential(Reduced(nn.Linear(1, 1)))), ("a reference of a quantised layer", reference)):
            if self.save(name, make(), False):
                done = self.run("convert", "--state-dict")
                told = "module '" in done.stderr or "the module" in done.stderr
                self.tally.count(name, None if done.returncode == 2 and told and not done.stdout else f"{done.returncode} {done.stdout} {done.stderr}")


def main() -> int:
    warnings.simplefilter("ignore")
    ckpt = os.environ.get("CKPT", "build/dev/apps/ckpt")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(ckpt, Path(folder))
        judge.state_dicts()
        judge.unwrapped()
        judge.nested()
        judge.prefixes()
        judge.edited()
        judge.quantised()
        judge.told()
    print(f"torch {torch.__version__}")
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
