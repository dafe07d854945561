# SPDX-License-Identifier: BSD-3-Clause
"""Compares what ckpt says of real checkpoints with an independent reading of them, and judges edits of them.

    CKPT=build/dev/apps/ckpt tests/judge/independent.py                                    # any Python: readings only
    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/independent.py    # and edits
    ... tests/judge/independent.py FILE...                                                 # only these files

The files are those of tests/data and of the corpus (scripts/fetch-corpus). symbolic.py reads each without torch and without running
anything of it; `ckpt inspect --json` must list the same tensors at the same paths with the same dtype, shape, strides, offset,
storage, device and requires_grad. torch.package files must be refused with status 2 and called by their name;
TorchScript archives must be read, and torchscript.py judges what is said of them.

Where torch is there, the corpus is also edited and judged as judge.py does, and a symbolic reading of each output must find
every tensor's dtype, shape, device and storage size as they were. A failing case is one line; the last line counts.
"""
from __future__ import annotations

import collections
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

import symbolic
from tally import Tally

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "data"
CORPUS_LIST = HERE / "corpus.tsv"
CORPUS = Path(os.environ.get("CKPT_CACHE") or Path.home() / ".cache" / "ckpt") / "corpus"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


# -- readings ---------------------------------------------------------------------------------------------------------


def inspect(path: Path) -> tuple[int, str, Any]:
    """ckpt's status, everything it said, and its JSON document or None."""
    result = subprocess.run([os.environ["CKPT"], "inspect", "--json", str(path)], capture_output=True, timeout=120)
    text = result.stdout.decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return result.returncode, text + result.stderr.decode(errors="replace"), document


def facts(tensor: symbolic.Tensor) -> dict[str, Any]:
    """What inspect must say of the tensor."""
    said: dict[str, Any] = {"dtype": tensor.dtype, "shape": tensor.shape, "name": tensor.name, "root": tensor.root,
                            "requires_grad": tensor.requires_grad}
    if tensor.is_composite:
        return {key: value for key, value in said.items() if key in ("name", "root") or key != "requires_grad" and value}
    if tensor.strides is not None:
        said.update(strides=tensor.strides, offset=tensor.offset)
    if tensor.storage is not None:
        said.update(storage=tensor.storage.key, storage_bytes=tensor.storage.bytes, device=tensor.storage.location)
    return said


def storage_key(entry: dict[str, Any]) -> str | None:
    """The storage of an entry of inspect's `tensors`, as the persistent id spells it."""
    key = entry.get("storage")
    return key if key is None else str(key).removeprefix("data/")


def found_facts(entry: dict[str, Any], storages: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The same facts from an entry of inspect's `tensors`."""
    found = {key: entry.get(key) for key in wanted}
    if "storage" in wanted:
        found["storage"] = storage_key(entry)
        found["storage_bytes"] = storages.get(str(entry.get("storage")), {}).get("bytes")
    return found


def compare_reading(expected: symbolic.Checkpoint, document: Any) -> str | None:
    file = document["files"][0]
    storages = {str(storage["key"]): storage for storage in file["storages"]}
    entries = {entry["path"]: entry for entry in file["tensors"]}
    if len(entries) != len(file["tensors"]):
        return "paths are not unique"
    promised = {tensor.path: tensor for tensor in expected.tensors if tensor.path is not None}
    missing = [path for path in promised if path not in entries]
    if missing:
        return f"{len(missing)} tensors missing, such as '{missing[0]}'"
    loose = {tensor.storage and tensor.storage.key for tensor in expected.tensors if tensor.path is None}
    if not any(tensor.is_composite for tensor in expected.tensors):  # whose inner tensors may be listed or not
        extra = [path for path, entry in entries.items() if path not in promised and storage_key(entry) not in loose]
        if extra:
            return f"{len(extra)} tensors at unexpected paths, such as '{extra[0]}'"
    lost = loose - {storage_key(entry) for entry in entries.values()}
    if lost:
        return f"tensors on storages {sorted(map(str, lost))[:3]} are not listed"
    for path, tensor in promised.items():
        wanted = facts(tensor)
        found = found_facts(entries[path], storages, wanted)
        wrong = {key: (value, found[key]) for key, value in wanted.items() if value != found[key]}
        if wrong:
            key, (value, other) = next(iter(wrong.items()))
            return f"'{path}': {key} is {other}, expected {value}" + (f" ({len(wrong)} facts differ)" if len(wrong) > 1 else "")
    return None


def judge_reading(path: Path) -> str | None:
    try:
        expected = symbolic.read(path)
    except symbolic.Unreadable as error:
        status, said, document = inspect(path)
        if str(error) == "TorchScript":  # torchscript.py judges what is said of it
            is_read = status == 0 and document["files"][0]["format"] == "torchscript"
            return None if is_read else f"should be read as TorchScript, status {status}: {said[:200]}"
        is_named = str(error).lower() in said.lower()
        return None if status == 2 and is_named else f"should be refused as {error}, status {status}: {said[:200]}"
    try:
        status, said, document = inspect(path)
    except subprocess.TimeoutExpired:
        return "inspect ran for two minutes"
    if status != 0 or document is None:
        return f"inspect ended with {status}: {said.strip()[:200]}"
    try:
        return compare_reading(expected, document)
    except (KeyError, TypeError, IndexError) as error:
        return f"the JSON is not of the promised shape: {type(error).__name__}: {error}"


# -- edits ------------------------------------------------------------------------------------------------------------


def fingerprint(path: str) -> collections.Counter:
    """What every tensor of the file must keep whatever its key is."""
    def storage(tensor: symbolic.Tensor) -> Any:
        return tensor.storage and (tensor.storage.location, tensor.storage.bytes)
    return collections.Counter(
        (tensor.dtype, str(tensor.shape), str(tensor.strides), tensor.offset, tensor.requires_grad, storage(tensor))
        for tensor in symbolic.read(Path(path)).tensors)


def edit_cases(judge: Any, path: Path) -> Iterator[Any]:
    """A strip, a prefix added, and a filter where the file has enough keys."""
    filters = 0
    for command in judge.commands_for(judge.load(str(path))):
        is_filter = command.arguments[0] == "filter-keys" and not {"--drop-entry", "drop"} & set(command.arguments)
        filters += is_filter
        if command.arguments[0] == "strip-dataparallel" or "--add-prefix" in command.arguments or is_filter and filters <= 2:
            yield command


def judge_edits(judge: Any, path: Path, name: str, tally: Tally, scratch: Path) -> None:
    target = scratch / f"out{path.suffix}"
    if path.suffix == ".safetensors":
        for arguments, new_name in judge.safetensors_cases(list(judge.read_safetensors(str(path))[1])):
            target.unlink(missing_ok=True)
            if arguments[1:2] != ["--strip-prefix"]:  # needs a key that has the prefix
                problem = judge.judge_safetensors(arguments, new_name, str(path), str(target))
                tally.count(f"{name}: {judge.Command(arguments, str)}", problem)
        return
    for command in edit_cases(judge, path):
        target.unlink(missing_ok=True)
        problem = judge.judge(command, str(path), str(target), [judge.FULL, judge.META])
        if problem is None and target.exists():
            lost = fingerprint(str(target)) - fingerprint(str(path))
            problem = f"tensors that the input has not: {list(lost)[:2]}" if lost else None
        tally.count(f"{name}: {command}", problem)


# -- main -------------------------------------------------------------------------------------------------------------


def corpus_files() -> list[tuple[str, Path]]:
    lines = [line.split("\t") for line in CORPUS_LIST.read_text().splitlines() if not line.startswith("#")][1:]
    return [(f"{package}-{version}/{path}", CORPUS / f"{package}-{version}" / path) for package, version, _, path, *_ in lines]


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("independent: set CKPT to the ckpt to judge")
    start, tally = time.monotonic(), Tally()
    corpus = [] if sys.argv[1:] else corpus_files()
    own = [Path(name) for name in sys.argv[1:]] or sorted(p for p in DATA.iterdir() if p.suffix in SUFFIXES)
    present = [(name, path) for name, path in corpus if path.exists()]
    for name, _ in sorted(set(corpus) - set(present)):
        tally.skip(name, "not fetched (scripts/fetch-corpus)")
    for name, path in [*((path.name, path) for path in own), *present]:
        tally.count(f"{name}: inspect", judge_reading(path))
    if importlib.util.find_spec("torch") and present:
        import judge
        with tempfile.TemporaryDirectory() as scratch:
            for name, path in present:
                try:
                    symbolic.read(path)
                except symbolic.Unreadable:
                    continue
                judge_edits(judge, path, name, tally, Path(scratch))
    print(f"{len(own) + len(present)} files in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
