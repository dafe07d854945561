# SPDX-License-Identifier: BSD-3-Clause
"""Random edits for chains.py: the words of a command, and the same edit of a Run."""
from __future__ import annotations

import random
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

from chain_files import spelled
from chain_model import Dict, Entry, Run, problem_of_head
from loading import load
from vector_unit import draws_promised_bits

PLAIN = re.compile(r"[A-Za-z_][\w.]*")
GLOBS = ["**.weight", "**.bias", "*.weight", "module.**", "**.running_*", "*"]
EXPRESSIONS = [r"re:weight$", r"re:^m", r"re:\d", r"re:\.w[a-z]*$"]
CAN_INIT = draws_promised_bits()


@dataclass
class Edit:
    words: list[str]
    """Of a command, without the file that it edits."""
    act: Callable[[Run], None]
    files_follow: bool = False
    """Are there other files, behind the one that is edited?"""


Maker = Callable[[random.Random, Run, Path], Any]


def random_edit(rng: random.Random, run: Run, other: Path, makers: list[Maker]) -> Edit:
    """One that fits the state of `run`, most of the time. It may write a file of its own to `other`."""
    while True:
        edit = rng.choice(makers)(rng, run, other)
        if edit is not None:
            return edit


def names_in(run: Run) -> list[str]:
    return [name for one in run.dicts for name in one.names()]


def strip(rng: random.Random, run: Run, other: Path) -> Edit:
    return Edit(["strip-dataparallel"], lambda run: run.strip())


# -- filter-keys ------------------------------------------------------------------------------------------------------


def random_pattern(rng: random.Random, names: list[str]) -> str:
    name = rng.choice(names)
    plain = [name] if PLAIN.fullmatch(name) else []
    modules = [name[:place.start()] for place in re.finditer(r"\.", name) if PLAIN.fullmatch(name[:place.start()])]
    return rng.choice([*GLOBS, *EXPRESSIONS, *["=" + name] * 4, *plain * 3, *modules * 2, "!=" + name])


def filtering(rng: random.Random, run: Run, other: Path) -> Edit:
    rules = [(rng.choice(["keep", "drop", "drop"]), random_pattern(rng, names_in(run))) for _ in range(rng.randint(1, 3))]
    words = [word for action, pattern in rules for word in (f"--{action}", pattern)]
    return Edit(["filter-keys", *words], lambda run: run.filter(rules))


def filter_like(rng: random.Random, run: Run, other: Path) -> Edit:
    one = rng.choice(run.dicts)
    reference = {entry.name: torch.empty(rng.choice([entry.value.shape] * 9 + [(2, 2)])) for entry in one.entries() if rng.random() < 0.8}
    reference["of the reference alone"] = torch.empty(1)
    torch.save(reference, other)
    ignore = rng.random() < 0.3
    words = ["--ignore-shape"] if ignore else []
    return Edit(["filter-keys", "--like", str(other), *words], lambda run: run.filter_like(reference, ignore))


def dropping(rng: random.Random, run: Run, other: Path) -> Edit | None:
    if not run.made.entries:
        return None
    steps = rng.choice(run.made.entries)
    return Edit(["filter-keys", "--drop-entry", spelled(steps)], lambda run: run.drop_entry(steps))


# -- rename-keys ------------------------------------------------------------------------------------------------------


def renaming(rng: random.Random, run: Run, other: Path) -> Edit:
    name = rng.choice(names_in(run))
    kind = rng.choice(["add", "strip", "key", "module", "expression", "swap"])
    new = rng.choice(["net", "encoder.new", "x", "module", "renamed key", "Ü"])
    if kind == "add":
        return Edit(["rename-keys", "--add-prefix", new + "."], lambda run: run.rename(lambda key: f"{new}.{key}"))
    if kind == "strip" and "." in name:
        prefix = name[:name.index(".") + 1]
        return Edit(["rename-keys", "--strip-prefix", prefix],
                    lambda run: run.rename(lambda key: key[len(prefix):] if key.startswith(prefix) else None))
    if kind == "module" and "." in name and PLAIN.fullmatch(name):
        module = name[:rng.choice([place.start() for place in re.finditer(r"\.", name)])]
        return Edit(["rename-keys", "--map", f"{module}={new}"],
                    lambda run: run.rename(lambda key: new + key[len(module):] if key == module or key.startswith(module + ".") else None))
    if kind == "expression":
        return Edit(["rename-keys", "--map", r"re:\.(w)eigh(t)$=.\2_\1"],
                    lambda run: run.rename(lambda key: re.sub(r"\.(w)eigh(t)$", r".\2_\1", key) if key.endswith(".weight") else None))
    if kind == "swap" and PLAIN.fullmatch(name) and "." in name:
        module, _, leaf = name.rpartition(".")
        return Edit(["rename-keys", "--map", f"={name}={leaf}.{module}"],
                    lambda run: run.rename(lambda key: f"{leaf}.{module}" if key == name else None))
    return Edit(["rename-keys", "--map", f"={name}={new}"], lambda run: run.rename(lambda key: new if key == name else None))


# -- merge ------------------------------------------------------------------------------------------------------------


def random_other(rng: random.Random, entry: Entry, odds: float) -> torch.Tensor:
    """Values for a key; with `odds`, of another shape, dtype or layout."""
    shape, dtype = list(entry.value.shape), entry.value.dtype
    chance = rng.random()
    if shape and chance < odds * 0.3:
        shape[0] += 1
    if chance > 1 - odds * 0.3:
        dtype = rng.choice([torch.float16, torch.float64, torch.int64])
    if dtype.is_floating_point and len(shape) == 2 and rng.random() < 0.2:
        return torch.randn(shape[::-1]).t().to(dtype)
    if dtype.is_floating_point and rng.random() < 0.2:
        return torch.randn(*shape, 2).to(dtype)[..., 0]
    return torch.randn(shape).to(dtype) if dtype.is_floating_point else torch.randint(0, 9, shape, dtype=dtype)


def merging(rng: random.Random, run: Run, other: Path) -> Edit | None:
    if run.model not in run.dicts:
        return None
    odds = rng.choice([0, 0, 1])
    content = OrderedDict((entry.name, random_other(rng, entry, odds)) for entry in run.model.entries() if rng.random() < 0.7)
    keys = rng.choice(["base", "base", "union", "intersection", "equal"])
    if keys != "equal":
        dropped = [entry.original for entry in run.model.all if entry.is_dropped]
        content.update((name, torch.randn(2, 3)) for name in rng.sample(["new.weight", "new.bias", "later", *dropped], 2))
    names = list(content)
    if len(names) > 2 and rng.random() < 0.3:
        content[names[1]] = content[names[0]]  # tied
    on_shape = rng.choice(["error", "keep-base", "take-other"] if odds else ["error"])
    on_dtype = rng.choice(["error", "base", "other"] if odds else ["error"])
    is_nested = bool(run.made.model_path) and not run.made.named and (len(run.dicts) > 1 or rng.random() < 0.5)
    torch.save({run.made.model_path[0]: content} if is_nested else content, other, _use_new_zipfile_serialization=rng.random() < 0.7)

    def act(run: Run) -> None:
        loaded = load(str(other))
        run.merge(loaded[run.made.model_path[0]] if is_nested else loaded, str(other), keys, on_shape, on_dtype)
    return Edit(["merge", str(other), "--keys", keys, *([] if on_shape == "error" else ["--on-shape-mismatch", on_shape]),
                 *([] if on_dtype == "error" else ["--dtype", on_dtype])], act, files_follow=True)


# -- replace-head -----------------------------------------------------------------------------------------------------


def heads_of(one: Dict) -> list[str]:
    weights = [entry.name for entry in one.entries() if entry.name.endswith(".weight") and entry.value.is_floating_point()]
    layers = [name.removesuffix(".weight") for name in weights]
    return [layer for layer in layers if not problem_of_head(one, one.find(layer + ".weight"), one.find(layer + ".bias"))]


def new_layer(seed: int | None) -> Callable[[torch.Tensor, int, bool], dict[str, torch.Tensor]]:
    """Weight and bias as the layer's constructor draws them; zeros without a seed."""
    def make(old: torch.Tensor, classes: int, bias: bool) -> dict[str, torch.Tensor]:
        if seed is None:
            weight = torch.zeros(classes, *old.shape[1:], dtype=old.dtype)
            return {"weight": weight, "bias": torch.zeros(classes, dtype=old.dtype)} if bias else {"weight": weight}
        torch.manual_seed(seed)
        convolution = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}.get(old.dim())
        layer = convolution(old.shape[1], classes, tuple(old.shape[2:]), bias=bias, dtype=old.dtype) if convolution else \
            nn.Linear(old.shape[1], classes, bias=bias, dtype=old.dtype)
        return {name: value.detach() for name, value in layer.named_parameters()}
    return make


def replacing(rng: random.Random, run: Run, other: Path) -> Edit | None:
    heads = heads_of(rng.choice(run.dicts))
    if not heads:
        return None
    head, classes = rng.choice(heads), rng.randint(1, 12)
    seed = rng.choice([0, 1, 42, -3]) if CAN_INIT and rng.random() < 0.7 else None
    words = ["replace-head", "--head", head, "--num-classes", str(classes), "--torch", torch.__version__]
    words += ["--init", "zeros"] if seed is None else ["--seed", str(seed)]
    keep_rows, no_bias = rng.random() < 0.3, rng.random() < 0.15
    rename = rng.choice([None, None, "fclass", "net.classifier", "new"])
    words += ["--keep-rows"] * keep_rows + ["--no-bias"] * no_bias + (["--rename", rename] if rename else [])
    return Edit(words, lambda run: run.replace_head(head, classes, new_layer(seed), keep_rows=keep_rows, rename=rename, no_bias=no_bias))


MAKERS: list[Maker] = [strip, filtering, filtering, filter_like, renaming, renaming, merging, merging, replacing, replacing, dropping]
