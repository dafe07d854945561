# SPDX-License-Identifier: BSD-3-Clause
"""Random training checkpoints for chains.py, with what only their maker knows: which parameter an optimizer's index means."""
from __future__ import annotations

import argparse
import collections
import copy
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
HAS_NAMES = TORCH >= (2, 6)
MODEL_KEYS = ["model", "state_dict", "model_state_dict", "net"]
ODD_KEYS = ["a key", "é", 'with "quotes"', "it's", "a..b", "UPPER.case-1", "[0]", "*", "x=y", "módulo.weight"]
ODD_VALUES: list[Any] = [3, -1.5, None, True, "text", b"\0\xff", [1, [2, "x"]], (1, 2), {"a": {"b": 1}}, {1: "one"}]


@dataclass
class Made:
    """A file as it was made."""

    model_path: tuple[str, ...]
    """Of the model's state dict."""
    slots: list[list[list[str]]] = field(default_factory=list)
    """Group by group, the keys of each parameter that the optimizer has; several where they are tied."""
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    """What may be dropped, as steps from the root; none is the model or in an optimizer."""
    weights_only: bool = False
    named: tuple[str, Callable[[Any], dict[str, Any]]] | None = None
    """A mapping that is no state dict by itself: its path for --root, and how to find it."""

    @property
    def has_optimizer(self) -> bool:
        return bool(self.slots)


class Wrapper(nn.Module):
    """Calls what it wraps by a name of torch's own wrappers."""

    def __init__(self, name: str, wrapped: nn.Module) -> None:
        super().__init__()
        self.add_module(name, wrapped)


def random_layer(rng: random.Random) -> nn.Module:
    def size() -> int:
        return rng.randint(1, 9)

    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(size(), size(), bias=rng.random() < 0.8),
        lambda: nn.Linear(3, 3),
        lambda: nn.Conv2d(size(), size(), rng.choice([1, 2, 3]), bias=rng.random() < 0.5),
        lambda: nn.Conv1d(size(), size(), 2),
        lambda: nn.BatchNorm1d(size()),
        lambda: nn.LayerNorm(size()),
        lambda: nn.Embedding(size() + 2, size()),
        lambda: nn.ReLU(),
        lambda: nn.Sequential(nn.Linear(size(), size()), nn.ReLU(), nn.BatchNorm1d(size())),
    ]
    layer = rng.choice(kinds)()
    return Wrapper(rng.choice(["module", "_checkpoint_wrapped_module"]), layer) if rng.random() < 0.1 else layer


def random_model(rng: random.Random) -> nn.Module:
    model = nn.Module()
    names = ["conv1", "stem", "encoder", "layer1", "layer2", "block", "features", "norm", "decoder", "head", "fc"]
    for name in rng.sample(names, rng.randint(1, 7)):
        model.add_module(name, random_layer(rng))
    if rng.random() < 0.3:
        model.add_module("embed", nn.Embedding(7, 4))
        model.add_module("output", nn.Linear(4, 7))
        if rng.random() < 0.7:
            model.output.weight = model.embed.weight
    if rng.random() < 0.2:
        model.register_parameter("scale", nn.Parameter(torch.randn(rng.choice([(), (3,), (2, 5)]))))
    if rng.random() < 0.2:
        model.register_buffer("positions", torch.arange(5) if rng.random() < 0.5 else torch.randn(4))
    if not model.state_dict():
        model.add_module("fc", nn.Linear(4, 3))
    for wrapper in rng.choice([[], [], ["module"], ["_orig_mod"], ["module", "_orig_mod"], ["_forward_module"]]):
        model = Wrapper(wrapper, model)
    return model


def keys_of(model: nn.Module) -> dict[int, list[str]]:
    """The keys of each parameter, by identity."""
    keys: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        keys.setdefault(id(value), []).append(key)
    return keys


def random_optimizer(rng: random.Random, model: nn.Module, made: Made) -> Any:
    """Its state dict after a step or two; fills `slots`."""
    inner = model
    is_named = HAS_NAMES and rng.random() < 0.5
    if is_named and rng.random() < 0.3:  # made before the model was wrapped
        while isinstance(inner, Wrapper):
            inner = next(inner.children())
    parameters = [(name, one) for name, one in inner.named_parameters() if rng.random() < rng.choice([0.7, 1, 1])]
    if not parameters:
        return None
    keys = keys_of(model)
    groups: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(rng.choice([1, 1, 2, 3]))]
    for pair in parameters:
        rng.choice(groups).append(pair)
    groups = [group for group in groups if group]
    if len(groups) > 1:
        for group in groups:
            rng.shuffle(group)
    named = [{"params": group if is_named else [one for _, one in group]} for group in groups]
    make = rng.choice([
        lambda: torch.optim.SGD(named, lr=0.1, momentum=0.9),
        lambda: torch.optim.SGD(named, lr=0.1),
        lambda: torch.optim.Adam(named, lr=0.001),
        lambda: torch.optim.AdamW(named, lr=0.001, amsgrad=rng.random() < 0.3),
    ])
    optimizer = make()
    untrained = rng.choice([0, 0, 0.2])
    for _ in range(rng.randint(1, 2)):
        for _, one in parameters:
            one.grad = None if rng.random() < untrained else torch.randn(one.shape)
        optimizer.step()
    made.slots = [[keys[id(one)] for _, one in group] for group in groups]
    return optimizer.state_dict()


def with_views(rng: random.Random, state: dict[str, Any]) -> None:
    """Some tensors become views of larger storages, with gaps, turned, or on one storage with others."""
    shared = torch.randn(400)
    for key, value in list(state.items()):
        chance = rng.random()
        if not isinstance(value, torch.Tensor) or isinstance(value, nn.Parameter) or not value.is_floating_point() or value.numel() > 100:
            continue
        if chance < 0.06:
            view = torch.randn(*value.shape, 3)[..., 1]
        elif chance < 0.12 and value.dim() == 2:
            view = torch.randn(value.shape[1], value.shape[0]).t()
        elif chance < 0.18:
            view = shared[rng.randint(0, 200):][:value.numel()].reshape(value.shape)
        elif chance < 0.2:
            view = value.to(rng.choice([torch.float64, torch.bfloat16, torch.float16]))
        else:
            continue
        state[key] = view


def random_state_dict(rng: random.Random, model: nn.Module) -> Any:
    state = model.state_dict(keep_vars=rng.random() < 0.1)
    if not any(isinstance(value, nn.Parameter) for value in state.values()):
        tied = {key for keys in keys_of(model).values() if len(keys) > 1 for key in keys}
        if not tied and rng.random() < 0.5:
            with_views(rng, state)
        if rng.random() < 0.2:
            for key in rng.sample(ODD_KEYS, 2):
                state[key] = torch.randn(rng.randint(1, 3), 2)
    if rng.random() < 0.15:
        return dict(state)  # without `_metadata`
    return state


def make_checkpoint(rng: random.Random, path: Path) -> Made:
    model = random_model(rng)
    layout = rng.choice(["bare", "training", "training", "training", "mixed"])
    made = Made(())
    if layout == "bare":
        root: Any = random_state_dict(rng, model)
        made.weights_only = TORCH >= (2, 0)
    elif layout == "mixed":
        root = dict(random_state_dict(rng, model))
        others = rng.sample(["epoch", "lr", "a note"], 2)
        made.entries = [(key,) for key in others]
        for key in others:
            root[key] = rng.choice([3, 0.5, "text", None, [1, 2]])
    else:
        root = training(rng, model, made)
    protocol = rng.choice([2, 2, 2, 4])
    torch.save(root, path, _use_new_zipfile_serialization=rng.random() < 0.7, pickle_protocol=protocol)
    made.weights_only = made.weights_only and protocol == 2
    return made


def training(rng: random.Random, model: nn.Module, made: Made) -> Any:
    key = rng.choice(MODEL_KEYS)
    made.model_path = (key,)
    items: list[tuple[str, Any]] = [("epoch", 7)]
    optimizer = random_optimizer(rng, model, made) if rng.random() < 0.7 else None
    state = random_state_dict(rng, model)
    if optimizer is not None:
        items.append(("optimizer", optimizer))
    if rng.random() < 0.4:
        average = collections.OrderedDict((name, copy.deepcopy(value).detach()) for name, value in state.items())
        items.append((rng.choice(["ema", "ema_state_dict"]), average if rng.random() < 0.7 else dict(average)))
    if rng.random() < 0.5:
        items.append(("args", argparse.Namespace(lr=0.1, steps=[1, 2], name="é")))
    for name in rng.sample(["history", "config", "a/b", "1", "odd key", 'q"'], rng.randint(0, 3)):
        items.append((name, rng.choice(ODD_VALUES)))
    made.entries = [(name,) for name, _ in items if name != "optimizer"]
    made.entries += [(name, "a") for name, value in items if value == {"a": {"b": 1}}]
    made.entries += [(name, 1) for name, value in items if value == [1, [2, "x"]]]
    items.append((key, state))
    rng.shuffle(items)
    return dict(items)


def spelled(steps: tuple[Any, ...]) -> str:
    """As a path of ckpt."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step and all(one.isascii() and (one.isalnum() or one in "_-") for one in step):
            text += f".{step}" if text else step
        else:
            text += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return text
