# SPDX-License-Identifier: BSD-3-Clause
"""What the edits of a chain promise, done to loaded objects in place; for chains.py.

A `Run` is what one command does: edits in order on the keys as those before left them, then what follows from all of them
together: `_metadata`, and the optimizer. Nothing here looks at how ckpt does it.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Callable

import torch
from torch import nn

import edits
from chain_files import Made
from compare import untyped
from edits import Refused
from state_dicts import find_state_dicts

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass
class Entry:
    """A key of a state dict, or a value that a mixed root carries beside them."""

    original: str
    name: str
    value: Any
    is_carried: bool = False
    is_inserted: bool = False
    is_dropped: bool = False
    is_made_anew: bool = False

    def __post_init__(self) -> None:
        self.old_shape = tuple(self.value.shape) if torch.is_tensor(self.value) else ()

    @property
    def loses_state(self) -> bool:
        return self.is_made_anew or tuple(self.value.shape) != self.old_shape

    @property
    def may_be_parameter(self) -> bool:
        return self.value.is_floating_point() and self.name.rpartition(".")[2] not in STATISTICS


class Dict:
    """A state dict that is edited."""

    def __init__(self, path: tuple[str, ...], mapping: dict[str, Any]) -> None:
        self.path, self.mapping = path, mapping
        self.path_text = "".join(path)  # one plain name, or as --root has it
        tensors = set(edits.tensor_keys(mapping))
        self.all = [Entry(key, key, value, is_carried=key not in tensors) for key, value in mapping.items()]
        self.keys_before = len(tensors)

    def entries(self) -> list[Entry]:
        return [entry for entry in self.all if not entry.is_carried and not entry.is_dropped]

    def names(self) -> list[str]:
        return [entry.name for entry in self.entries()]

    def find(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries() if entry.name == name), None)

    def check(self) -> None:
        """Raises Refused."""
        left = [entry for entry in self.all if not entry.is_dropped]
        if len({entry.name for entry in left}) != len(left):
            raise Refused("two keys of one name")
        if not self.entries():
            raise Refused("no key left")
        self.mapping.clear()
        self.mapping.update((entry.name, entry.value) for entry in left)

    def finish(self) -> None:
        if hasattr(self.mapping, "_metadata"):
            moves = [(entry.original, None if entry.is_dropped else entry.name) for entry in self.all
                     if not entry.is_carried and not entry.is_inserted]
            if any(before != after for before, after in moves):
                move_metadata(self.mapping._metadata, moves)

    def numbers(self) -> dict[str, Any]:
        """What a report says of it."""
        own = [entry for entry in self.all if not entry.is_carried]
        left = self.entries()
        return {
            "keys_before": self.keys_before,
            "keys_after": len(left),
            "bytes_after": sum(entry.value.numel() * entry.value.element_size() for entry in left),
            "dropped": [entry.original for entry in own if entry.is_dropped],
            "renamed": [(entry.original, entry.name) for entry in left if entry.name != entry.original],
        }


# -- _metadata --------------------------------------------------------------------------------------------------------


def below(key: str, module: str) -> bool:
    return not module or key.startswith(module + ".")


def in_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for one in a:
        row = list(accumulate(range(len(b)), lambda before, i: row[i] + 1 if one == b[i] else max(before, row[i + 1]), initial=0))
    return row[-1]


def places(module: str, before: str, after: str) -> set[str]:
    """Where `module` can be in a key of which something behind it changed, too: what stays of it stays on its side."""
    (*outer, leaf), (*new, new_leaf) = before.split("."), after.split(".")
    depth = len(module.split(".")) if module else 0
    whole = in_common(outer, new)
    if leaf != new_leaf and whole < len(new):
        return set()
    return {".".join(new[:i]) for i in range(len(new) + 1)
            if in_common(outer[:depth], new[:i]) + in_common(outer[depth:], new[i:]) == whole}


def new_module(module: str, moves: list[tuple[str, str | None]]) -> tuple[str, str] | None:
    """('moves', path), ('stays', module) or ('goes', ''); None where no key below it is left to tell."""
    left = [(before, after) for before, after in moves if below(before, module) and after is not None]
    if not left:
        return None
    paths, own, others = set(), set(), []
    for before, after in left:
        rest = before[len(module) + 1:] if module else before
        if after == rest or after.endswith("." + rest):
            paths.add(after[:-len(rest)].removesuffix("."))
            if "." not in rest:
                own.add(after[:-len(rest)].removesuffix("."))
        else:
            others.append(places(module, before, after))
    if len(own) == 1:
        paths = own
    elif others and not paths:
        paths = set.intersection(*others)
    elif any(not paths <= place for place in others):
        paths = set()
    if len(paths) == 1:
        path = paths.pop()
        return ("stays", module) if path == module else ("moves", path)
    return ("stays", module) if any(below(after, module) for _, after in left) else ("goes", "")


def move_metadata(metadata: dict[str, Any], moves: list[tuple[str, str | None]]) -> None:
    """A module's entry moves where the keys below it did; one without keys follows the next module around it. Of several that come
    to one path the deepest gives its value."""
    fates = {}
    for module in metadata:
        fate, around = new_module(module, moves), module
        while fate is None and around:
            around = around.rpartition(".")[0]
            outer = new_module(around, moves) if around in metadata else None
            if outer is not None:
                rest = module[len(around) + 1:] if around else module
                fate = (outer[0], f"{outer[1]}.{rest}" if outer[1] else rest) if outer[0] == "moves" else \
                    outer if outer[0] == "goes" else ("stays", module)
        fates[module] = fate or ("stays", module)
    arrivals: dict[str, list[str]] = {}
    for module, (kind, path) in fates.items():
        if kind == "moves":
            arrivals.setdefault(path, []).append(module)
    deepest = {path: max(modules, key=lambda module: len(module.split(".")) if module else 0) for path, modules in arrivals.items()}
    items = []
    for module, (kind, path) in fates.items():
        if kind == "stays":
            items.append((module, metadata[deepest.get(module, module)]))
        elif kind == "moves" and fates.get(path, ("",))[0] != "stays" and arrivals[path][0] == module:
            items.append((path, metadata[deepest[path]]))
    metadata.clear()
    metadata.update(items)


# -- a run ------------------------------------------------------------------------------------------------------------


class Run:
    """One command: its edits, then `finish`. `root` is changed in place."""

    def __init__(self, root: Any, made: Made, policy: str | None, slots: list[list[list[str]]] | None = None) -> None:
        self.root, self.made, self.policy = root, made, policy
        self.slots = [list(map(list, group)) for group in (made.slots if slots is None else slots)]
        found = [(made.model_path, made.named[1](root))] if made.named else find_state_dicts(root, torch.is_tensor)
        self.dicts = [Dict(path, mapping) for path, mapping in found]
        self.model = next((one for one in self.dicts if one.path == made.model_path), None)
        self.begin = {entry.name: entry for entry in self.model.all if not entry.is_carried} if self.model else {}
        self.strips = False
        self.may_refuse = False
        self.imported: dict[Any, torch.Tensor] = {}
        self.parameters_before = self.parameters_after = 0

    def edits_nothing(self) -> bool:
        return all(one.numbers()["dropped"] == one.numbers()["renamed"] == [] for one in self.dicts)

    def check(self) -> None:
        for one in self.dicts:
            one.check()

    def finish(self) -> None:
        for one in self.dicts:
            one.finish()
        self.follow()

    # ---- edits of keys

    def strip(self) -> None:
        self.strips = True
        for one in self.dicts:
            while wrapper := edits.next_wrapper(one.names()):
                for entry in one.entries():
                    entry.name = edits.without_segment(entry.name, *wrapper)

    def drop_unless(self, stays: Callable[[Entry], bool]) -> None:
        for one in self.dicts:
            for entry in one.entries():
                entry.is_dropped = not stays(entry)

    def filter(self, rules: list[tuple[str, str]]) -> None:
        for _, pattern in rules:
            if not any(edits.matches(pattern, name) for one in self.dicts for name in one.names()):
                raise Refused(f"{pattern} matches nothing")

        def stays(entry: Entry) -> bool:
            hits = [action for action, pattern in rules if edits.matches(pattern, entry.name)]
            return hits[-1] == "keep" if hits else rules[0][0] == "drop"
        self.drop_unless(stays)

    def filter_like(self, reference: dict[str, torch.Tensor], ignore_shape: bool) -> None:
        self.drop_unless(lambda entry: entry.name in reference and
                         (ignore_shape or entry.value.shape == reference[entry.name].shape))

    def rename(self, new_name: Callable[[str], str | None]) -> None:
        """`new_name` gives None where nothing matches."""
        hits = 0
        for one in self.dicts:
            for entry in one.entries():
                name = new_name(entry.name)
                hits += name is not None
                entry.name = entry.name if name is None else name
        if not hits:
            raise Refused("nothing to rename")

    def drop_entry(self, steps: tuple[Any, ...]) -> None:
        holder = self.root
        for step in steps[:-1]:
            if step not in holder:
                raise Refused("it is gone already")
            holder = holder[step]
        last = steps[-1]
        if not (last in holder if isinstance(holder, dict) else last < len(holder)):
            raise Refused("it is gone already")
        del holder[last]
        for one in self.dicts:
            for entry in one.all:
                entry.is_dropped = entry.is_dropped or holder is one.mapping and entry.is_carried and entry.name == last
        self.dicts = [one for one in self.dicts if one.path != steps]

    # ---- edits of values

    def put(self, entry: Entry, value: torch.Tensor) -> None:
        """In place of what the key has: its class and requires_grad stay, where numbers can have a gradient."""
        if isinstance(entry.value, nn.Parameter) and value.is_floating_point():
            value = nn.Parameter(value, entry.value.requires_grad)
        entry.value = value

    def taken(self, other: torch.Tensor, file: str, dtype: torch.dtype, strides: tuple[int, ...] | None) -> torch.Tensor:
        """A tensor of another file with those strides, or C order; equal ones are on one storage."""
        shape = tuple(other.shape)
        out = torch.empty(shape, dtype=dtype) if strides is None else torch.empty_strided(shape, strides, dtype=dtype)
        order = sorted(range(len(shape)), key=lambda axis: (-out.stride(axis), axis))
        layout = tuple((shape[axis], other.stride(axis)) for axis in order if shape[axis] != 1)
        key = file, untyped(other).data_ptr(), other.storage_offset(), layout, dtype
        if key in self.imported:
            return self.imported[key].as_strided(out.shape, out.stride())
        out.copy_(other)
        self.imported[key] = out
        return out

    def merge(self, other: dict[str, Any], file: str, keys: str, on_shape: str, on_dtype: str) -> None:
        """`other` pairs with the model's state dict."""
        if self.model not in self.dicts:
            raise Refused("its state dict is gone")
        dict_ = self.model
        names = set(dict_.names())
        if keys == "equal" and names != set(other):
            raise Refused("keys differ")
        if keys != "union" and not names & set(other):
            raise Refused("no key in common")
        for entry in dict_.entries():
            if entry.name not in other:
                continue
            base, value = entry.value, other[entry.name]
            fits = base.shape == value.shape
            if not fits and on_shape != "take-other":
                if on_shape == "error":
                    raise Refused(f"shape of {entry.name}")
                continue
            if base.dtype != value.dtype and on_dtype == "error":
                raise Refused(f"dtype of {entry.name}")
            dtype = base.dtype if on_dtype == "base" else value.dtype
            self.put(entry, self.taken(value, file, dtype, base.stride() if fits and is_dense(base) else None))
        if keys == "union":
            for name, value in other.items():
                if name not in names:
                    added = self.taken(value, file, value.dtype, value.stride() if is_dense(value) else None)
                    dict_.all.append(Entry(name, name, added, is_inserted=True))
        if keys == "intersection":
            for entry in dict_.entries():
                entry.is_dropped = entry.name not in other

    def replace_head(self, head: str, classes: int, make: Callable[[torch.Tensor, int, bool], dict[str, torch.Tensor]], *,
                     keep_rows: bool = False, rename: str | None = None, no_bias: bool = False) -> None:
        hits = 0
        for one in self.dicts:
            if len(self.dicts) > 1 and not any(below(name, head) for name in one.names()):
                continue
            hits += 1
            weight, bias = one.find(head + ".weight"), one.find(head + ".bias")
            problem = problem_of_head(one, weight, bias)
            if problem:
                raise Refused(problem)
            old = {"weight": weight.value.detach(), "bias": bias.value.detach() if bias else None}
            new = make(weight.value.detach(), classes, bias is not None and not no_bias)
            for leaf, entry in (("weight", weight), ("bias", bias)):
                if leaf in new:
                    if keep_rows:
                        kept = min(classes, len(old[leaf]))
                        new[leaf][:kept] = old[leaf][:kept]
                    self.put(entry, new[leaf])
                    entry.is_made_anew = True
            if bias and no_bias:
                bias.is_dropped = True
            for entry in one.entries() if rename else []:
                if below(entry.name, head):
                    entry.name = rename + entry.name[len(head):]
        if not hits:
            raise Refused(f"no head {head}")

    # ---- the optimizer

    def follow(self) -> None:
        if not self.made.has_optimizer or "optimizer" not in self.root:
            return
        if self.policy == "drop":
            del self.root["optimizer"]
            return
        optimizer = self.root["optimizer"]
        groups = optimizer["param_groups"]
        self.parameters_before = self.parameters_after = sum(map(len, self.slots))
        if self.policy == "keep":
            return
        lost = [entry for entry in self.begin.values() if entry.is_dropped or entry.loses_state]
        if any(entry.may_be_parameter for entry in lost):
            self.may_refuse = self.may_refuse or not self.is_proven(optimizer)
        values = [self.begin[keys[0]].value for slots in self.slots for keys in slots]
        views = [(untyped(value).data_ptr(), value.storage_offset(), tuple(value.shape)) for value in values if value.numel() > 0]
        if len(set(views)) < len(views):
            self.may_refuse = True  # an edit made one tensor of two parameters
        named = self.named(groups)
        number, moved = 0, {}
        for group, slots, entries in zip(groups, self.slots, named):
            indices, names, left_slots = [], [], []
            for place, (index, keys) in enumerate(zip(group["params"], slots)):
                own = [self.begin[key] for key in keys]
                left = [entry for entry in own if not entry.is_dropped]
                if own[0].is_dropped and left:
                    self.may_refuse = True  # the model may have another order
                if len({tuple(entry.value.shape) for entry in left}) > 1:
                    self.may_refuse = True
                if not left:
                    continue
                if not left[0].loses_state:
                    moved[index] = number
                indices.append(number)
                number += 1
                left_slots.append([entry.name for entry in left])
                if "param_names" in group:
                    names.append(self.new_name(group["param_names"][place], entries[place], left))
            group["params"][:], slots[:] = indices, left_slots
            if "param_names" in group:
                group["param_names"][:] = names
        self.parameters_after = number
        items = [(moved[index], value) for index, value in optimizer["state"].items() if index in moved]
        optimizer["state"].clear()
        optimizer["state"].update(items)

    def new_name(self, old: str, entry: Entry | None, left: list[Entry]) -> str:
        """The key that it is now; what nobody asked to rename stays, if it was not the key before."""
        if entry is None:
            return old
        if entry.is_dropped:
            return left[0].name
        return entry.name if entry.name != entry.original or old == entry.original or self.strips else old

    def named(self, groups: list[Any]) -> list[list[Entry | None]]:
        """The entry that each name means: by the key itself, or for all of them without the names of wrappers."""
        names = [name for group in groups for name in group.get("param_names", [])]
        found = [self.begin.get(name) for name in names]
        if None in found:
            keys = list(self.begin)
            bare = dict(zip(bare_names(keys), keys))
            others = [self.begin.get(bare.get(name, "")) for name in bare_names(names)]
            found = found if None in others else others
        out = []
        for group in groups:
            count = len(group.get("param_names", []))
            out.append(found[:count] or [None] * len(group["params"]))
            found = found[count:]
        return out

    def is_proven(self, optimizer: Any) -> bool:
        """By names, or because each state has a shape that one parameter has."""
        groups = optimizer["param_groups"]
        if all("param_names" in group for group in groups):
            return all(entry is not None for entries in self.named(groups) for entry in entries)
        shapes = [entry.old_shape for key, entry in self.begin.items() if entry.may_be_parameter
                  and all(key == keys[0] for slots in self.slots for keys in slots if key in keys)]
        for group, slots in zip(groups, self.slots):
            for index, keys in zip(group["params"], slots):
                state, shape = optimizer["state"].get(index, {}), self.begin[keys[0]].old_shape
                kept = {tuple(value.shape) for value in state.values() if torch.is_tensor(value) and value.dim()}
                if kept != {shape} or shapes.count(shape) != 1:
                    return False
        return True


def bare_names(names: list[str]) -> list[str]:
    names = list(names)
    while wrapper := edits.next_wrapper(names):
        names = [edits.without_segment(name, *wrapper) for name in names]
    return names


def is_dense(tensor: torch.Tensor) -> bool:
    """Do its elements fill a range, each once?"""
    expected = 1
    for stride, size in sorted((tensor.stride(axis), tensor.shape[axis]) for axis in range(tensor.dim()) if tensor.shape[axis] != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def problem_of_head(one: Dict, weight: Entry | None, bias: Entry | None) -> str | None:
    if weight is None or not 2 <= weight.value.dim() <= 5:
        return "no weight of a layer"
    if bias is not None and (tuple(bias.value.shape) != (weight.value.shape[0],) or bias.value.dtype != weight.value.dtype):
        return "a bias of another size"
    begin, end = bytes_of(weight.value)
    for other in one.entries():
        if other is not weight and untyped(other.value).data_ptr() == untyped(weight.value).data_ptr():
            other_begin, other_end = bytes_of(other.value)
            if begin < other_end and other_begin < end:
                return "tied"
    return None


def bytes_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Where in its storage it begins and ends."""
    last = tensor.storage_offset() + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
    return tensor.storage_offset() * tensor.element_size(), (last + 1) * tensor.element_size()
