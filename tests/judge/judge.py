# SPDX-License-Identifier: BSD-3-Clause
"""Judges ckpt's edits with the torch that runs this: edit, load, and compare with the same edit done in Python.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/judge.py            # all of tests/data
    CKPT=build/dev/apps/ckpt $(scripts/install-torch 1.13.1) tests/judge/judge.py FILE...

A case is one file and one command. Its output is loaded in every mode in which this torch loads the input (whole, weights only,
memory-mapped, onto the meta device, under FakeTensorMode) and must equal the edited input: keys in order, types, attributes,
values bit for bit, strides, sharing of storages and objects, `_metadata`. Where no bytes are loaded, the places that torch computed
for them must hold them. A failing case is one line; the last line counts. Files that this torch cannot load at all are skipped.
"""
from __future__ import annotations

import json
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import torch

import edits
from changed_rows import judge_changed_rows
from compare import Comparison
from far_records import judge_far_records
from loading import FAKE, FULL, META, MMAP, TORCH, load, modes
from offsets import DEFLATED, wrong_offsets
from state_dicts import is_module
from tally import Tally

DATA = Path(__file__).resolve().parent.parent / "data"
PLAIN_KEY = re.compile(r"[A-Za-z_][\w.]*")
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
# Files whose tensors this torch gives as stand-ins for a function it doesn't have: no judge of what a tensor is.
STAND_INS = ["torch-1.13-sparse" if TORCH >= (2, 0) else "torch-2.15-parameters"]
if not hasattr(torch._utils, "_rebuild_tensor_v3"):
    STAND_INS.append("dtypes-untyped")
NOT_EDITABLE = ("torchscript",)


class Command(NamedTuple):
    """Arguments for ckpt, and the same edit in Python; `new_name` where keys are renamed and `_metadata` follows."""

    arguments: list[str | bytes]
    edit: Callable[[Any], Any]
    new_name: Callable[[str], str] | None = None

    def __str__(self) -> str:
        return " ".join(os.fsdecode(argument) for argument in self.arguments)


def as_argument(text: str) -> bytes:
    """A key as the bytes that the file has for it, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def run_ckpt(arguments: list[Any], source: str, target: str) -> tuple[int, str]:
    """ckpt's status, and the first line it said on standard error."""
    command = [os.environ["CKPT"], *arguments, source, "-o", target, "--no-fsync"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return -1, "ran for more than a minute"
    return result.returncode, next(iter(result.stderr.decode(errors="replace").splitlines()), "")


# -- commands for a file ----------------------------------------------------------------------------------------------


def rename_commands(keys: list[list[str]]) -> Iterator[Command]:
    def renaming(arguments: list[str], new_name: Callable[[str], str]) -> Command:
        return Command(["rename-keys", *arguments], lambda root: edits.rename_keys(root, new_name), new_name)

    yield renaming(["--add-prefix", "net."], lambda key: "net." + key)
    everything = [key for names in keys for key in names]
    if any(key.startswith("module.") for key in everything):
        yield renaming(["--strip-prefix", "module."], lambda key: key[7:] if key.startswith("module.") else key)
        yield renaming(["--map", r"re:^module\.(.*)$=core.\1"], lambda key: re.sub(r"^module\.", "core.", key))
    plain = next((key for key in everything if PLAIN_KEY.fullmatch(key)), None)
    if plain:
        yield renaming(["--map", f"{plain}={plain}_renamed"], lambda key: f"{plain}_renamed" if key == plain else key)


def filter_commands(root: Any, keys: list[list[str]]) -> Iterator[Command]:
    def filtering(optimizer: str | None, *rules: tuple[str, str]) -> Command:
        options = ["--optimizer", optimizer] if optimizer else []
        arguments = [part for action, pattern in rules for part in (f"--{action}", as_argument(pattern))]
        return Command(["filter-keys", *options, *arguments],
                       lambda root: edits.filter_keys(root, list(rules), optimizer or ""))

    def leaves_something(*rules: tuple[str, str]) -> bool:
        """No dict would end empty, and each pattern matches a key somewhere."""
        def kept(key: str) -> bool:
            hits = [action for action, pattern in rules if edits.matches(pattern, key)]
            return hits[-1] == "keep" if hits else rules[0][0] == "drop"
        return all(any(map(kept, names)) for names in keys) and all(
            any(edits.matches(pattern, key) for names in keys for key in names) for _, pattern in rules)

    first = next(key for key in keys[0] if "\0" not in key)
    nested = next((key for key in keys[0] if key.count(".") > 1 and PLAIN_KEY.fullmatch(key)), None)
    candidates = [(("drop", "=" + first),), (("drop", "=" + keys[0][-1]),), (("keep", "**.weight"),),
                  (("drop", "**.bias"), ("keep", "=" + keys[0][-1])), (("drop", r"re:\.w[a-z]*$"),), (("drop", "*.fc.*"),)]
    if nested:
        candidates.append((("drop", nested.rpartition(".")[0]),))
    has_optimizer = isinstance(root, dict) and "optimizer" in root
    for rules in candidates:
        if leaves_something(*rules):
            for optimizer in ("keep", "drop", None) if has_optimizer else (None,):
                yield filtering(optimizer, *rules)


def entry_commands(root: Any) -> Iterator[Command]:
    """Dropping entries at the root that are no state dict."""
    state_dicts = {path for path, _ in edits.state_dicts(root)}
    if not isinstance(root, dict) or () in state_dicts:
        return
    others = [key for key in root if isinstance(key, str) and (key,) not in state_dicts and PLAIN_KEY.fullmatch(key)]
    for key in dict.fromkeys([*others[:1], *[k for k in others if k in ("optimizer", "args", "config", "list", "loop")]]):
        yield Command(["filter-keys", "--drop-entry", key], lambda root, key=key: edits.drop_entry(root, key))


def plan_commands(root: Any, keys: list[list[str]]) -> Iterator[Command]:
    """Two edits in one pass."""
    rules = [("keep", "re:weight$")]
    if not all(any(edits.matches("re:weight$", key) for key in names) for names in keys):
        return
    strip, keep = ["-e", "strip-dataparallel"], ["-e", "filter-keys --keep 're:weight$'"]
    optimizer = "drop" if isinstance(root, dict) and "optimizer" in root else "keep"
    yield Command(["apply", *strip, *keep, "--optimizer", optimizer],
                  lambda root: edits.filter_keys(edits.strip_dataparallel(root), rules, optimizer))
    yield Command(["apply", *keep, *strip, "--optimizer", optimizer],
                  lambda root: edits.strip_dataparallel(edits.filter_keys(root, rules, optimizer)))


def commands_for(root: Any) -> Iterator[Command]:
    yield Command(["strip-dataparallel"], edits.strip_dataparallel)
    found = [value for _, value in edits.state_dicts(root)]
    if not found or all(map(is_module, found)):  # refused, whatever the pattern
        yield Command(["filter-keys", "--drop", "**.bias"], lambda root: edits.filter_keys(root, [("drop", "**.bias")]))
        yield Command(["rename-keys", "--add-prefix", "net."], lambda root: edits.rename_keys(root, lambda key: "net." + key))
        return
    keys = [edits.tensor_keys(mapping) for mapping in found]
    yield from rename_commands(keys)
    yield from filter_commands(root, keys)
    yield from entry_commands(root)
    yield from plan_commands(root, keys)


# -- judging one case -------------------------------------------------------------------------------------------------


def without_metadata(mappings: list[Any]) -> list[Any]:
    """Takes `_metadata` off state dicts; returns what it was."""
    return [vars(mapping).pop("_metadata", None) if hasattr(mapping, "__dict__") else None for mapping in mappings]


def differences(command: Command, source: str, target: str, mode: str) -> list[str]:
    """How the output differs from the expectation, loaded in this mode."""
    expected, actual = load(source, mode), load(target, mode)
    remarks: list[str] = []
    if command.new_name:
        mappings = edits.editable(expected)
        keys = [edits.tensor_keys(mapping) for mapping in mappings]
        expected = command.edit(expected)
        before, after = without_metadata(mappings), without_metadata([value for _, value in edits.state_dicts(actual)])
        if len(before) == len(after):
            checks = (edits.metadata_follows(*triple, command.new_name) for triple in zip(keys, before, after))
            remarks = [remark for remark in checks if remark]
    else:
        expected = command.edit(expected)
    return Comparison(expected, actual, has_bytes=mode not in (META, FAKE)).differences + remarks


def loads(path: str, mode: str) -> bool:
    """Whether this torch loads the file so. What it maps of deflated records is nonsense without an error."""
    try:
        loaded = load(path, mode)
    except Exception:  # torch's errors have no common class
        return False
    return mode != MMAP or not Comparison(load(path), loaded).differences


def judge(command: Command, source: str, target: str, loading_modes: list[str]) -> str | None:
    """What is wrong, or None."""
    try:
        expected = command.edit(load(source))
    except edits.Refused:
        expected = edits.Refused
    status, said = run_ckpt(command.arguments, source, target)
    if expected is edits.Refused:
        if os.path.exists(target):
            return "should be refused, but wrote an output"
        return None if status == 2 else f"should be refused with status 2, ended with {status}: {said}"
    if status != 0:
        return f"status {status}: {said}"
    if not Comparison(load(source), expected).differences and Path(source).read_bytes() != Path(target).read_bytes():
        return "nothing changes, but the output is no byte-identical copy"
    for mode in loading_modes:
        try:
            found = differences(command, source, target, mode)
            if not found and mode in (META, FAKE) and not any(name in source for name in DEFLATED):
                found = wrong_offsets(target, mode)
        except Exception as error:  # any failure to load is the finding
            found = [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
        if found:
            return f"({mode}) {'; '.join(found[:3])}" + (f"; {len(found) - 3} more" if len(found) > 3 else "")
    return None


# -- safetensors ------------------------------------------------------------------------------------------------------


def read_safetensors(path: str) -> tuple[Any, dict[str, tuple[str, list[int], bytes]]]:
    """(metadata, name -> (dtype, shape, bytes)) in header order; the reference library must accept the file too."""
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        names = set(file.keys())
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__", None)
    body = content[8 + length:]
    tensors = {name: (entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]) for name, entry in header.items()}
    if set(tensors) != names:
        raise ValueError("the reference library finds other names")
    return metadata, tensors


def safetensors_cases(names: list[str]) -> Iterator[tuple[list[str | bytes], Callable[[str], str | None]]]:
    """(arguments, old name -> new name or None for dropped)."""
    yield ["strip-dataparallel"], lambda name: name.removeprefix("module.")
    yield ["rename-keys", "--add-prefix", "net."], lambda name: "net." + name
    yield ["rename-keys", "--strip-prefix", "module."], lambda name: name.removeprefix("module.")
    yield ["filter-keys", "--drop", as_argument("=" + names[0])], lambda name: None if name == names[0] else name
    yield ["filter-keys", "--keep", as_argument("=" + names[-1])], lambda name: name if name == names[-1] else None


def judge_safetensors(arguments: list[Any], new_name: Callable[[str], str | None], source: str, target: str) -> str | None:
    status, said = run_ckpt(arguments, source, target)
    if status != 0:
        return f"status {status}: {said}"
    metadata, tensors = read_safetensors(source)
    expected = metadata, {new_name(name): tensor for name, tensor in tensors.items() if new_name(name) is not None}
    try:
        actual = read_safetensors(target)
    except Exception as error:  # the reference library's errors have no common class
        return f"does not read back: {error}"
    if expected[0] != actual[0]:
        return f"__metadata__ is {actual[0]}, expected {expected[0]}"
    if list(expected[1]) != list(actual[1]):
        return f"names are {list(actual[1])}, expected {list(expected[1])}"
    differing = [name for name in expected[1] if expected[1][name] != actual[1][name]]
    return f"tensors differ: {differing}" if differing else None


# -- main -------------------------------------------------------------------------------------------------------------


def judge_file(path: Path, tally: Tally, scratch: Path) -> None:
    def target() -> str:
        out = scratch / f"out{path.suffix}"
        out.unlink(missing_ok=True)
        return str(out)

    if path.suffix == ".safetensors":
        if TORCH < (2, 0):
            tally.skip(path.name, "no safetensors for this torch")
            return
        for arguments, new_name in safetensors_cases(list(read_safetensors(str(path))[1])):
            tally.count(f"{path.name}: {Command(arguments, str)}", judge_safetensors(arguments, new_name, str(path), target()))
        return
    if any(name in path.name for name in NOT_EDITABLE):
        out = target()
        status, said = run_ckpt(["strip-dataparallel"], str(path), out)
        is_refused = status == 2 and not os.path.exists(out)
        tally.count(f"{path.name}: strip-dataparallel", None if is_refused else f"should be refused, status {status}: {said}")
        return
    if any(name in path.name for name in STAND_INS):
        tally.skip(path.name, f"torch {torch.__version__} lacks a function that makes its tensors")
        return
    loading_modes = [mode for mode in modes(str(path)) if loads(str(path), mode)]
    if FULL not in loading_modes:
        tally.skip(path.name, f"torch {torch.__version__} does not load it")
        return
    for command in commands_for(load(str(path))):
        tally.count(f"{path.name}: {command}", judge(command, str(path), target(), loading_modes))
    judge_changed_rows(str(path), target(), loading_modes, tally, scratch)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("judge: set CKPT to the ckpt to judge")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    files = [Path(name) for name in sys.argv[1:]] or sorted(path for path in DATA.iterdir() if path.suffix in SUFFIXES)
    tally, start = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for path in files:
            judge_file(path, tally, Path(scratch))
        if len(sys.argv) == 1:
            judge_far_records(tally, Path(scratch))
    print(f"torch {torch.__version__}: {len(files)} files in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
