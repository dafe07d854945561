#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Lets PyTorch judge `ckpt freeze-report`: counts, the frozen set, the emitted Python, its optimizer and its memory.

    CKPT=build/dev/apps/ckpt PYTHON tests/judge/freeze.py [--quick]

Models are built here from torch.nn alone: a ResNet-18, torchvision's ViT-B/16 and a BERT-base name by name and size by size, small
ones of the same kinds, and the odd: tied, frozen, spectral, pruned, wrapped. Nothing is downloaded. Each is saved as a state dict (zip
and legacy), as a whole module and with its optimizer; then

* the numbers of parameters and buffers must be those of model.parameters() and model.buffers();
* `--train-last N` must freeze what `for p in list(model.parameters())[:-N]: p.requires_grad = False` does, and rules what the same
  rules in Python do;
* `--emit python`, executed, must set requires_grad of the live model likewise and build an optimizer over exactly the rest;
* after one step, the bytes of gradients and of optimizer state must be those reported. State is every tensor in it, Adam's `step`
  counters included: a float32 a parameter;
* `--base` must call those tensors changed whose bytes a step changed.

--quick leaves out the large models. A failing case is one line; the last line counts.
"""
from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

from tally import Tally

ROOT = Path(__file__).resolve().parent.parent.parent
CKPT = str(Path(os.environ.get("CKPT", ROOT / "build/dev/apps/ckpt")).absolute())
KINDS = ("sgd", "momentum", "adam", "adamw")

# -- models -----------------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        short = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class ResNet18(nn.Module):
    """torchvision's, name by name."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for index, out in enumerate((64, 128, 256, 512), 1):
            stride = 1 if index == 1 else 2
            setattr(self, f"layer{index}", nn.Sequential(BasicBlock(channels, out, stride), BasicBlock(out, out, 1)))
            channels = out
        self.fc = nn.Linear(512, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
        return self.fc(x.mean((2, 3)))

    def example(self):
        return (torch.randn(2, 3, 32, 32),)


class ViTBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0), nn.Linear(hidden, width), nn.Dropout(0.0))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ViTEncoder(nn.Module):
    def __init__(self, tokens: int, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        self.layers = nn.Sequential(collections.OrderedDict(
            (f"encoder_layer_{index}", ViTBlock(width, heads, hidden)) for index in range(layers)))
        self.ln = nn.LayerNorm(width)

    def forward(self, x):
        return self.ln(self.layers(x + self.pos_embedding))


class ViT(nn.Module):
    """torchvision's vit_b_16, name by name."""

    def __init__(self, image: int = 224, layers: int = 12, width: int = 768, heads: int = 12, hidden: int = 3072, classes: int = 1000) -> None:
        super().__init__()
        self.image = image
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = ViTEncoder((image // 16) ** 2 + 1, layers, width, heads, hidden)
        self.heads = nn.Sequential(collections.OrderedDict([("head", nn.Linear(width, classes))]))

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        return self.heads(self.encoder(torch.cat([self.class_token.expand(len(x), -1, -1), x], 1))[:, 0])

    def example(self):
        return (torch.randn(2, 3, self.image, self.image),)


class Embeddings(nn.Module):
    def __init__(self, words: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width)
        self.register_buffer("position_ids", torch.arange(positions).expand(1, -1).clone())

    def forward(self, ids):
        positions = self.position_ids[:, :ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(positions)
                              + self.token_type_embeddings(torch.zeros_like(ids)))


class Bert(nn.Module):
    """BERT-base by its sizes; `tied` adds a decoder that shares the word embeddings."""

    def __init__(self, words: int = 30522, positions: int = 512, width: int = 768, layers: int = 12, heads: int = 12, hidden: int = 3072,
                 tied: bool = False) -> None:
        super().__init__()
        self.embeddings = Embeddings(words, positions, width)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, heads, hidden, 0.0, batch_first=True), layers)
        self.pooler = nn.Linear(width, width)
        self.decoder = nn.Linear(width, words) if tied else None
        if tied:
            self.decoder.weight = self.embeddings.word_embeddings.weight

    def forward(self, ids):
        x = self.encoder(self.embeddings(ids))
        pooled = torch.tanh(self.pooler(x[:, 0]))
        return pooled if self.decoder is None else pooled.sum() + self.decoder(x).square().mean()

    def example(self):
        return (torch.randint(0, self.embeddings.word_embeddings.num_embeddings, (2, 8)),)


class Odd(nn.Module):
    """Norms with and without parameters, spectral and weight norm, a pruned layer, a list of parameters, an integer Parameter."""

    def __init__(self) -> None:
        super().__init__()
        import torch.nn.utils.prune as prune
        self.spectral = nn.utils.spectral_norm(nn.Linear(4, 4))
        self.weight_norm = nn.utils.weight_norm(nn.Linear(4, 4))
        self.pruned = prune.l1_unstructured(nn.Linear(4, 4), "weight", 2)
        self.bn = nn.BatchNorm1d(4)
        self.plain_bn = nn.BatchNorm1d(4, affine=False)
        self.instance = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.head = nn.Linear(4, 2)
        self.register_buffer("mean", torch.tensor([0.5, 0.25]))

    def forward(self, x):
        x = self.pruned(self.weight_norm(self.spectral(x)))
        x = self.plain_bn(self.bn(x))
        return self.head(self.instance(x[:, :, None].expand(-1, -1, 3)).mean(2)) + self.mean

    def example(self):
        return (torch.randn(3, 4),)


class Parametrized(nn.Module):
    """torch.nn.utils.parametrize; can't be saved whole."""

    def __init__(self) -> None:
        super().__init__()
        kinds = nn.utils.parametrizations
        self.spectral = kinds.spectral_norm(nn.Linear(4, 4))
        self.orthogonal = kinds.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley")
        self.norm = kinds.weight_norm(nn.Linear(4, 4)) if hasattr(kinds, "weight_norm") else nn.Linear(4, 4)

    def forward(self, x):
        return self.norm(self.orthogonal(self.spectral(x)))

    def example(self):
        return (torch.randn(3, 4),)


class Scaled(nn.Module):
    """Parameters whose names tell nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.gain = nn.Parameter(torch.ones(4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x) * self.gain * self.logit_scale

    def example(self):
        return (torch.randn(3, 4),)


SMALL_VIT = {"image": 32, "layers": 2, "width": 16, "heads": 2, "hidden": 32, "classes": 5}
SMALL_BERT = {"words": 30, "positions": 16, "width": 16, "layers": 2, "heads": 2, "hidden": 32}

# -- asking -----------------------------------------------------------------------------------------------------------


def ckpt(*arguments: Any) -> subprocess.CompletedProcess:
    return subprocess.run([CKPT, "freeze-report", *map(str, arguments)], capture_output=True, text=True, timeout=120)


class Wrong(Exception):
    """What is wrong with a case."""


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Wrong(f"{what} is {str(found)[:200]}, expected {str(wanted)[:200]}")


def ask(path: Path, *options: Any) -> Any:
    """The only state dict of the only file's document."""
    done = ckpt(path, "--json", *options)
    if done.returncode != 0:
        raise Wrong(f"status {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}")
    dicts = [one for one in json.loads(done.stdout)["files"][0]["state_dicts"] if one["tensors"]]
    expect("the number of state dicts", len(dicts), 1)
    return dicts[0]


def emit(what: str, path: Path, *options: Any) -> str:
    done = ckpt(path, "--emit", what, "-q", *options)
    if done.returncode != 0 or done.stderr:
        raise Wrong(f"--emit {what}: status {done.returncode}: {done.stderr[-300:]}")
    return done.stdout


def size_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def trainable(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    parameters = {name for name, _ in model.named_parameters()}
    return {name: buffer for name, buffer in model.named_buffers() if name in model.state_dict() and name not in parameters}


def freeze_but_last(model: nn.Module, count: int) -> None:
    parameters = list(model.parameters())
    for parameter in parameters[:len(parameters) - count]:
        parameter.requires_grad = False


def apply_rules(model: nn.Module, rules: list[tuple[str, str]]) -> None:
    """(freeze or train, a regular expression), as Python code does it: one after the other."""
    if rules[0][0] == "train":
        model.requires_grad_(False)
    for word, pattern in rules:
        for name, parameter in model.named_parameters():
            if re.search(pattern, name):
                parameter.requires_grad = word == "train"


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    model.train()
    model.zero_grad()
    loss = model(*model_of(model).example()).float().square().mean()
    if loss.requires_grad:
        loss.backward()
    if optimizer is not None:
        optimizer.step()


def model_of(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.DataParallel) else model


# -- cases ------------------------------------------------------------------------------------------------------------


class Judge:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tally = Tally()
        self.count = 0

    def case(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
            problem = None
        except Wrong as error:
            problem = str(error)
        except Exception as error:  # of the emitted code, say
            problem = f"{type(error).__name__}: {error}"
        self.tally.count(name, problem)

    def save(self, value: Any, legacy: bool = False) -> Path:
        self.count += 1
        path = self.directory / f"{self.count}.pt"
        torch.save(value, path, _use_new_zipfile_serialization=not legacy)
        return path

    # ---- numbers

    def judge_counts(self, model: nn.Module, path: Path, *options: Any) -> None:
        found = ask(path, *options)
        parameters, buffers = dict(model.named_parameters()), persistent_buffers(model)
        for key, tensors in (("parameters", parameters), ("buffers", buffers)):
            totals = found["totals"][key]
            expect(f"tensors of {key}", totals["tensors"], len(tensors))
            expect(f"numel of {key}", totals["numel"], sum(tensor.numel() for tensor in tensors.values()))
            expect(f"bytes of {key}", totals["bytes"], sum(map(size_of, tensors.values())))
        kinds = {tensor["name"]: tensor["kind"] for tensor in found["tensors"] if tensor["tied_to"] is None}
        expect("the parameters", [name for name, kind in kinds.items() if kind == "parameter"], list(parameters))
        sums = sum(group["parameters"]["numel"] for group in found["groups"])
        expect("the groups' sum", sums, found["totals"]["parameters"]["numel"])

    # ---- what freezes

    def judge_frozen(self, make: Callable[[], nn.Module], path: Path, options: list[Any], freeze: Callable[[nn.Module], None]) -> None:
        model = make()
        freeze(model)
        wanted = trainable(model)
        expect("--emit names", emit("names", path, *options).splitlines(), wanted)
        said = json.loads(emit("json", path, *options))
        expect("'trainable'", said["trainable"], wanted)
        expect("'frozen'", sorted(said["frozen"]), sorted({name for name, _ in model.named_parameters()} - set(wanted)))
        report = ask(path, *options)
        expect("the number that trains", report["totals"]["trainable"]["numel"],
               sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad))
        moving = [name for name, module in model.named_modules() if getattr(module, "running_mean", None) is not None
                  and not any(parameter.requires_grad for parameter in module.parameters(recurse=False))]
        all_train = all(parameter.requires_grad for parameter in model.parameters())
        expect("'moving_statistics'", sorted(one["module"] for one in report["moving_statistics"]), [] if all_train else sorted(moving))

    def judge_python(self, make: Callable[[], nn.Module], path: Path, options: list[Any], freeze: Callable[[nn.Module], None], kind: str) -> None:
        wanted, model = make(), make()
        freeze(wanted)
        scope: dict[str, Any] = {"model": model}
        exec(emit("python", path, *options, "--optimizer-kind", kind), scope)
        expect("requires_grad", trainable(model), trainable(wanted))
        optimizer = scope["optimizer"]
        if not trainable(wanted):
            expect("the optimizer", optimizer, None)
        else:
            held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            rest = [parameter for parameter in model.parameters() if parameter.requires_grad]
            expect("the optimizer's parameters", list(map(id, held)), list(map(id, rest)))
        one_step(model, optimizer)
        memory = ask(path, *options, "--optimizer-kind", kind)["memory"]
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        state = [value for states in (optimizer.state.values() if optimizer else []) for value in states.values() if torch.is_tensor(value)]
        expect("bytes of gradients", memory["gradient_bytes"], sum(map(size_of, gradients)))
        expect("bytes of optimizer state", memory["optimizer_bytes"], sum(map(size_of, state)))
        steps = [states["step"] for states in (optimizer.state.values() if optimizer else []) if torch.is_tensor(states.get("step"))]
        expect("bytes of steps", memory["step_bytes"], sum(map(size_of, steps)))

    def judge_base(self, make: Callable[[], nn.Module], options: list[Any]) -> None:
        model = make()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        base = self.save(before)
        freeze_but_last(model, 2)
        one_step(model, torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.01))
        for legacy in (False, True):
            found = ask(self.save(model.state_dict(), legacy), "--base", base, *options)
            changed = [tensor["name"] for tensor in found["tensors"] if tensor["base"] == "changed"]
            wanted = [name for name, value in model.state_dict().items()
                      if value.contiguous().numpy().tobytes() != before[name].contiguous().numpy().tobytes()]
            expect("what changed", changed, wanted)
            expect("the number of equal ones", found["base"]["equal"], len(before) - len(wanted))
            for tensor in found["tensors"]:
                self.judge_difference(tensor["difference"], [(model.state_dict()[tensor["name"]], before[tensor["name"]])])
            for group in found["groups"]:
                pairs = [(model.state_dict()[tensor["name"]], before[tensor["name"]]) for tensor in found["tensors"]
                         if tensor["group"] == group["name"] and tensor["kind"] == "parameter" and tensor["tied_to"] is None]
                if pairs:
                    self.judge_difference(group["difference"], pairs)

    def judge_difference(self, found: dict[str, Any], pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """What a fine-tune moved, beside the same in float64."""
        after, before = (torch.cat([pair[side].double().flatten() for pair in pairs]) for side in (0, 1))
        largest = (after - before).abs().max().item()
        # the same numbers, summed in another order
        close = lambda name, value: found[name] is None if value is None else abs(found[name] - value) <= 1e-9 * max(1.0, abs(value))
        wanted = {"largest": largest,
                  "relative_norm": ((after - before).norm() / before.norm()).item() if before.norm() > 0 else None if largest > 0 else 0,
                  "cosine": (after @ before / after.norm() / before.norm()).item() if after.norm() > 0 < before.norm() else None}
        for name, value in wanted.items():
            if not close(name, value):
                raise Wrong(f"{name}: {found[name]}, but {value} in PyTorch")

    def judge_lazy(self) -> None:
        """Values count where bits of the tensor negate or conjugate its bytes."""
        real, pairs = torch.randn(5), torch.randn(4, dtype=torch.complex64)
        base = self.save({"weight": real.clone(), "pairs": pairs.clone()})
        lazy = {"weight": torch._neg_view(-real), "pairs": pairs.conj().resolve_conj().conj()}
        found = ask(self.save(lazy), "--base", base, "--parameters", "pairs")
        expect("lazy tensors", [tensor["base"] for tensor in found["tensors"]], ["equal", "equal"])

    # ---- a model

    def judge_model(self, name: str, make: Callable[[], nn.Module], kinds: list[str], *, steps: bool = True, whole: bool = True) -> None:
        """`kinds`: the options that tell the kinds of a bare state dict. `whole`: can the module itself be saved?"""
        def seeded() -> nn.Module:
            torch.manual_seed(0)
            return make()

        model = seeded()
        files = {"state dict": (self.save(model.state_dict()), kinds)}
        if steps:
            files["legacy state dict"] = (self.save(model.state_dict(), legacy=True), kinds)
            if whole:
                files["module"] = (self.save(model), [])
                files["legacy module"] = (self.save(model, legacy=True), [])
            trained = seeded()
            optimizer = torch.optim.AdamW(trained.parameters(), lr=0.01)
            one_step(trained, optimizer)
            # an optimizer proves parameters, and no buffers
            unknown = [] if "--parameters" in kinds else kinds
            files["with optimizer"] = (self.save({"model": trained.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}), unknown)
        total = len(list(model.parameters()))
        for file, (path, options) in files.items():
            self.case(f"{name}, {file}: counts", lambda: self.judge_counts(model, path, *options))
            for last in sorted({0, 1, 2, min(5, total), total}):
                freeze = lambda live: freeze_but_last(live, last)  # noqa: E731
                self.case(f"{name}, {file}: --train-last {last}",
                          lambda: self.judge_frozen(seeded, path, [*options, "--train-last", last], freeze))
            for rules in RULES:
                if not all(any(re.search(pattern, key) for key, _ in model.named_parameters()) for _, pattern in rules):
                    continue
                words = [word for rule, pattern in rules for word in (f"--{rule}", f"re:{pattern}")]
                self.case(f"{name}, {file}: {' '.join(words)}",
                          lambda: self.judge_frozen(seeded, path, [*options, *words], lambda live: apply_rules(live, rules)))
        if steps:
            for kind in KINDS:
                for last in (0, 2, total):
                    freeze = lambda live: freeze_but_last(live, last)  # noqa: E731
                    for file in {"state dict", "module"} & files.keys():
                        path, options = files[file]
                        self.case(f"{name}, {file}: --emit python, {kind}, --train-last {last}",
                                  lambda: self.judge_python(seeded, path, [*options, "--train-last", last], freeze, kind))
            self.case(f"{name}: --base", lambda: self.judge_base(seeded, kinds))
        if kinds:
            self.case(f"{name}: unknown kinds", lambda: self.judge_refusal(files["state dict"][0], ["--train-last", 2], "--buffers PATTERN"))
        self.case(f"{name}: too many last parameters", lambda: self.judge_refusal(
            files["state dict"][0], [*kinds, "--train-last", total + 1], f"--train-last {total + 1}, but"))
        for path, _ in files.values():
            path.unlink()

    def judge_refusal(self, path: Path, options: list[Any], words: str) -> None:
        done = ckpt(path, *options)
        expect("the status", done.returncode, 2)
        if words not in done.stderr or done.stdout:
            raise Wrong(f"the message: {done.stderr}")

    # ---- what a module says of itself

    def judge_frozen_module(self) -> None:
        torch.manual_seed(0)
        model = ResNet18(10)
        for parameter in list(model.parameters())[:-2]:
            parameter.requires_grad = False
        path = self.save(model)
        expect("--emit names", emit("names", path).splitlines(), trainable(model))
        state = self.save(model.state_dict(keep_vars=True))
        expect("--emit names of keep_vars", emit("names", state).splitlines(), trainable(model))

    def judge_shared_memory(self) -> None:
        """Two Parameters on one storage: parameters() lists both, and a freeze of one does not keep its values."""
        model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
        model["b"].weight = nn.Parameter(model["a"].weight.data)
        found = ask(self.save(model), "--freeze", "a")
        expect("the parameters", found["totals"]["parameters"]["tensors"], len(list(model.parameters())))
        expect("the conflicts", [(one["name"], one["other"], one["reason"]) for one in found["conflicts"]],
               [("a.weight", "b.weight", "overlap")])


RULES = [
    [("freeze", r"\.bias$")],
    [("train", r"\.bias$")],
    [("train", r"weight"), ("freeze", r"norm|bn|ln")],
    [("freeze", r"^(conv|emb|enc)"), ("train", r"1")],
]


def main() -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        judge = Judge(Path(directory))
        judge.judge_model("ResNet-18", ResNet18, [])
        judge.judge_model("small ViT", lambda: ViT(**SMALL_VIT), [])
        judge.judge_model("small BERT", lambda: Bert(**SMALL_BERT), [])
        judge.judge_model("tied BERT", lambda: Bert(**SMALL_BERT, tied=True), [])
        judge.judge_model("small BERT in float64", lambda: Bert(**SMALL_BERT).double(), [])
        judge.judge_model("wrapped ResNet", lambda: nn.DataParallel(ResNet18(3)), [], steps=False)
        judge.judge_model("odd", Odd, ["--buffers", "mean"])
        judge.judge_model("parametrized", Parametrized, [], whole=False)
        judge.judge_model("scaled", Scaled, ["--parameters", "gain", "--parameters", "logit_scale"])
        if "--quick" not in sys.argv[1:]:  # half the bytes tell the same numbers
            judge.judge_model("ViT-B/16", lambda: ViT().half(), [], steps=False)
            judge.judge_model("BERT-base", lambda: Bert().half(), [], steps=False)
        judge.case("a frozen module", judge.judge_frozen_module)
        judge.case("shared memory", judge.judge_shared_memory)
        if torch.__version__ >= "2":  # older ones lose these bits when they save
            judge.case("lazy tensors", judge.judge_lazy)
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
