# SPDX-License-Identifier: BSD-3-Clause
"""The promised effect of each command, done in Python to a loaded checkpoint.

Everything here changes the loaded objects in place, so that whatever else refers to them still does. The rules are those of
the user's contract: what a state dict is, which segments are wrappers, how patterns match.
"""
from __future__ import annotations

import contextlib
import re
from typing import Any, Callable, Iterator

import torch

from state_dicts import attributes_of, find_state_dicts, is_module

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
OWNED = ("n_averaged",)  # keys that a wrapper has beside the module it wraps


class Refused(Exception):
    """The command must fail with status 2 and write nothing."""


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def state_dicts(root: Any) -> list[tuple[tuple[str, ...], Any]]:
    return find_state_dicts(root, is_tensor)


def editable(root: Any) -> list[dict[str, Any]]:
    """The mappings whose keys a command edits; whole modules beside them are carried. Raises Refused without any."""
    found = [value for _, value in state_dicts(root) if not is_module(value)]
    if not found:
        raise Refused
    return found


def tensor_keys(mapping: dict[str, Any]) -> list[str]:
    """Its keys, less the other values that a mixed root carries."""
    return [key for key, value in mapping.items() if is_tensor(value) or key.endswith("_extra_state")]


def rename(mapping: dict[Any, Any], new_name: Callable[[Any], Any]) -> None:
    """Renames keys where they stand."""
    items = [(new_name(key), value) for key, value in mapping.items()]
    if len({key for key, _ in items}) != len(items):
        raise Refused
    mapping.clear()
    mapping.update(items)


# -- strip-dataparallel -----------------------------------------------------------------------------------------------


def below(key: str, position: str) -> bool:
    return not position or key.startswith(position + ".")


def join(position: str, name: str) -> str:
    return f"{position}.{name}" if position else name


def next_wrapper(keys: list[str]) -> tuple[str, str] | None:
    """A (position, wrapper) whose segment wraps everything at that position."""
    for key in keys:
        segments = key.split(".")
        for index, segment in enumerate(segments[:-1]):
            if segment not in WRAPPERS:
                continue
            position = ".".join(segments[:index])
            rest = [k for k in keys if below(k, position) and k not in [join(position, owned) for owned in OWNED]]
            if all(below(k, join(position, segment)) for k in rest):
                return position, segment
    return None


def without_segment(key: str, position: str, wrapper: str) -> str:
    wrapped = join(position, wrapper)
    return join(position, key[len(wrapped) + 1:]) if below(key, wrapped) else key


def strip_metadata(metadata: dict[str, Any], position: str, wrapper: str) -> None:
    """The parent's entry keeps its place and takes the wrapped entry's value; the wrapped entry goes."""
    wrapped = join(position, wrapper)
    items = []
    for key, value in metadata.items():
        if key == wrapped:
            if position not in metadata:
                items.append((position, value))
        else:
            is_parent = key == position and wrapped in metadata
            items.append((without_segment(key, position, wrapper), metadata[wrapped] if is_parent else value))
    metadata.clear()
    metadata.update(items)


def strip_mapping(mapping: dict[str, Any]) -> None:
    while wrapper := next_wrapper(tensor_keys(mapping)):
        names = set(tensor_keys(mapping))
        rename(mapping, lambda key: without_segment(key, *wrapper) if key in names else key)
        if hasattr(mapping, "_metadata"):
            strip_metadata(mapping._metadata, *wrapper)


def unwrapped(module: Any) -> Any:
    """The module without wrappers around and in it."""
    while True:
        tables = attributes_of(module)
        children = {name: child for name, child in tables["_modules"].items() if child is not None}
        own = [value for table in ("_parameters", "_buffers") for value in tables[table].values() if value is not None]
        if own or len(children) != 1 or not set(children) <= set(WRAPPERS):
            break
        (module,) = children.values()
    for name, child in children.items():
        tables["_modules"][name] = unwrapped(child)
    return module


def strip_dataparallel(root: Any) -> Any:
    modules = [(path, value) for path, value in state_dicts(root) if is_module(value)]
    if not modules:
        editable(root)  # raises where there is nothing to edit
    with following(root):
        for _, mapping in state_dicts(root):
            if not is_module(mapping):
                strip_mapping(mapping)
    for path, module in modules:
        if not path:
            return unwrapped(module)
        around = root
        for key in path[:-1]:
            around = around[key]
        around[path[-1]] = unwrapped(module)
    return root


# -- optimizers -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def following(root: Any) -> Iterator[None]:
    """What the block does to the keys of the file's model, optimizers follow. Raises Refused where nobody can know how."""
    model = next((value for path, value in state_dicts(root) if not is_module(value) and "ema" not in path), {})
    before = list(model.items())
    yield
    after = {id(value): key for key, value in model.items()}
    for optimizer in optimizers(root):
        follow(optimizer, before, {key: after.get(id(value)) for key, value in before})


def optimizers(root: Any) -> list[dict[str, Any]]:
    """The optimizers' states that sit in it: mappings with both `state` and `param_groups`."""
    found, waiting, seen = [], [root], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict) and {"state", "param_groups"} <= value.keys():
            found.append(value)
        elif isinstance(value, (dict, list, tuple)):
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def follow(optimizer: dict[str, Any], before: list[tuple[str, Any]], moves: dict[str, str | None]) -> None:
    """`moves`: the new name of each key, None where it went."""
    groups, state = optimizer["param_groups"], optimizer["state"]
    parameters = [key for key, value in before
                  if is_tensor(value) and value.is_floating_point() and not key.endswith(("running_mean", "running_var"))]
    indices = [index for group in groups for index in group["params"]]
    if all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    elif all(moves[key] is not None for key in parameters):
        return
    else:
        names = names_by_shape(state, indices, {key: tuple(value.shape) for key, value in before if key in parameters})
    left = [index for index, name in zip(indices, names) if moves[name] is not None]
    for group in groups:
        if "param_names" in group:
            group["param_names"][:] = [moves[name] for name in group["param_names"] if moves[name] is not None]
        group["params"][:] = [left.index(index) for index in group["params"] if index in left]
    items = [(left.index(index), value) for index, value in state.items() if index in left]
    state.clear()
    state.update(items)


def names_by_shape(state: dict[int, Any], indices: list[int], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The parameter of each index, where exactly one has the shape of its state."""
    names = []
    for index in indices:
        kept = {tuple(value.shape) for value in state.get(index, {}).values() if is_tensor(value) and value.dim() > 0}
        fitting = [key for key, shape in shapes.items() if kept == {shape}]
        if len(fitting) != 1:
            raise Refused
        names.append(fitting[0])
    return names


# -- patterns ---------------------------------------------------------------------------------------------------------


def matches(pattern: str, key: str) -> bool:
    """`=KEY`, `re:REGEX`, `!PATTERN`, a glob, or a name, which covers everything below it."""
    if pattern.startswith("!"):
        return not matches(pattern[1:], key)
    if pattern.startswith("="):
        return key == pattern[1:]
    if pattern.startswith("re:"):
        return re.search(pattern[3:], key) is not None
    if not re.search(r"[*?]", pattern):
        return key == pattern or key.startswith(pattern + ".")
    wildcards = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    glob = "".join(wildcards.get(part, re.escape(part)) for part in re.split(r"(\*\*|\*|\?)", pattern))
    return re.fullmatch(glob, key, re.DOTALL) is not None


# -- filter-keys ------------------------------------------------------------------------------------------------------


def filter_keys(root: Any, rules: list[tuple[str, str]], optimizer: str = "") -> Any:
    """`rules` are ('keep' or 'drop', pattern), the last match wins. `optimizer`: keep, drop, or nothing: it follows."""
    if optimizer == "drop":
        del root["optimizer"]
    with following(root) if not optimizer else contextlib.nullcontext():
        for mapping in editable(root):
            for key in tensor_keys(mapping):
                keep = rules[0][0] == "drop"
                for action, pattern in rules:
                    if matches(pattern, key):
                        keep = action == "keep"
                if not keep:
                    del mapping[key]
            if not tensor_keys(mapping):
                raise Refused
    return root


def drop_entry(root: Any, key: str) -> Any:
    del root[key]
    return root


# -- rename-keys ------------------------------------------------------------------------------------------------------


def rename_keys(root: Any, new_name: Callable[[str], str]) -> Any:
    """`_metadata` is left alone: how it follows is judged by `metadata_follows`."""
    with following(root):
        for mapping in editable(root):
            names = set(tensor_keys(mapping))
            rename(mapping, lambda key: new_name(key) if key in names else key)
    return root


def metadata_follows(keys: list[str], before: Any, after: Any, new_name: Callable[[str], str]) -> str | None:
    """Whether each renamed key's module still has its version in `_metadata`; else what is wrong.

    A module that lost only some of its keys to another says nothing of its version, so the question is asked of modules
    all of whose keys moved together.
    """
    if before is None or after is None:
        return None if before is after else "_metadata appeared or vanished"
    homes: dict[str, set[str]] = {}
    for key in keys:
        homes.setdefault(key.rpartition(".")[0], set()).add(new_name(key).rpartition(".")[0])
    for module, targets in homes.items():
        target = next(iter(targets))
        if len(targets) == 1 and module in before and after.get(target) != before[module]:
            return f"_metadata of '{target}' is {after.get(target)}, expected that of '{module}', {before[module]}"
    return None
