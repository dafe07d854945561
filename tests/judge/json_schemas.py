#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds what `--json` prints against the schemas of docs/reference/schema, for every command and every file of tests/data.

    CKPT=build/dev/apps/ckpt tests/judge/json_schemas.py            # all of tests/data
    CKPT=build/dev/apps/ckpt tests/judge/json_schemas.py FILE...

A case is one command line. Its standard output must be one JSON document in UTF-8 that the schema accepts, whose `status` is
the exit status, with one object for each input in the order given; nothing else may be printed. Edits are tried
dry and for real; so are damaged and missing files, usage errors, several inputs, and a report beside an output on standard
output. The schemas themselves must reject what is wrong: each required field is taken away once. Needs no package.
A failing case is one line; the last line counts.
"""
from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator

from tally import Tally

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "data"
SCHEMAS = ROOT / "docs" / "reference" / "schema"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
EDITS = ("strip-dataparallel", "filter-keys", "rename-keys", "merge", "replace-head", "convert", "apply")

# -- a validator for the part of draft 2020-12 that the schemas use ---------------------------------------------------

TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
SAID_ELSEWHERE = {"$schema", "$id", "$defs", "title", "then", "else"}


def equal(a: Any, b: Any) -> bool:
    """JSON's equality: true is not 1."""
    return type(a) is type(b) and a == b


def problems(schema: dict[str, Any] | bool, value: Any, root: dict[str, Any], at: str = "$") -> Iterator[str]:
    """What of `value` the schema does not accept."""
    if schema is False:
        yield f"{at} must not be there"
        return
    for keyword, wanted in schema.items():
        match keyword:
            case "$ref":
                yield from problems(root["$defs"][wanted.removeprefix("#/$defs/")], value, root, at)
            case "type":
                names = wanted if isinstance(wanted, list) else [wanted]
                if not any(TYPES[name](value) for name in names):
                    yield f"{at} is no {' or '.join(names)}: {json.dumps(value)[:60]}"
            case "const":
                if not equal(value, wanted):
                    yield f"{at} is not {json.dumps(wanted)}"
            case "enum":
                if not any(equal(value, one) for one in wanted):
                    yield f"{at} is none of {wanted}: {json.dumps(value)[:60]}"
            case "required" if isinstance(value, dict):
                yield from (f"{at} lacks {name!r}" for name in wanted if name not in value)
            case "properties" if isinstance(value, dict):
                for name in wanted.keys() & value.keys():
                    yield from problems(wanted[name], value[name], root, f"{at}.{name}")
            case "additionalProperties" if isinstance(value, dict):
                for name in value.keys() - schema.get("properties", {}).keys():
                    yield from problems(wanted, value[name], root, f"{at}.{name}")
            case "items" if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from problems(wanted, item, root, f"{at}[{index}]")
            case "minItems" | "maxItems" if isinstance(value, list):
                if len(value) < wanted if keyword == "minItems" else len(value) > wanted:
                    yield f"{at} has {len(value)} items, {keyword} is {wanted}"
            case "minLength" if isinstance(value, str):
                if len(value) < wanted:
                    yield f"{at} is too short"
            case "minimum" if TYPES["number"](value):
                if value < wanted:
                    yield f"{at} is {value}, less than {wanted}"
            case "pattern" if isinstance(value, str):
                if not re.search(wanted, value):
                    yield f"{at} is no {wanted}: {value[:60]!r}"
            case "allOf":
                for one in wanted:
                    yield from problems(one, value, root, at)
            case "anyOf" | "oneOf":
                good = sum(not any(problems(one, value, root, at)) for one in wanted)
                if good == 0 or (keyword == "oneOf" and good > 1):
                    yield f"{at} fits {good} of {len(wanted)} alternatives"
            case "if":
                branch = "else" if any(problems(wanted, value, root, at)) else "then"
                yield from problems(schema.get(branch, {}), value, root, at)
            case "required" | "properties" | "additionalProperties" | "items" | "minItems" | "maxItems" | "minLength" | "minimum" | "pattern":
                pass  # of another type of value
            case _ if keyword not in SAID_ELSEWHERE:
                raise ValueError(f"the validator does not know {keyword!r}")


def load_schemas() -> dict[str, dict[str, Any]]:
    return {path.name.removesuffix(".schema.json"): json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.schema.json"))}


# -- running ----------------------------------------------------------------------------------------------------------


def run(arguments: list[Any], directory: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(os.environ.get("CKPT", ROOT / "build/dev/apps/ckpt")).absolute()), *map(str, arguments)]
    return subprocess.run(command, cwd=directory, input=given, capture_output=True, timeout=120)


class Judge:
    def __init__(self) -> None:
        self.schemas = load_schemas()
        self.tally = Tally()
        self.good: dict[str, Any] = {}  # by command: the largest accepted document with status 0

    def judge(self, name: str, command: str, arguments: list[Any], directory: str, *, status: int | None = None,
              files: list[str] | None = None, given: bytes = b"", on_error: bool = False) -> Any:
        """Runs one case. `status`: the exit status it must have; `files`: the inputs that must be told of."""
        result = run([command, "--json", *arguments], directory, given)
        text, rest = (result.stderr, b"") if on_error else (result.stdout, result.stderr)
        problem, document = self.find_problem(command, text, rest, result.returncode, status, files)
        self.tally.count(f"{command} {name}", problem)
        if problem is None and result.returncode == 0 and len(text) > len(json.dumps(self.good.get(command, ""))):
            self.good[command] = document
        return document

    def find_problem(self, command: str, text: bytes, rest: bytes, returned: int, status: int | None,
                     files: list[str] | None) -> tuple[str | None, Any]:
        try:
            document = json.loads(text.decode())
        except ValueError as error:
            return f"status {returned}, no JSON document: {error}: {text[:80]!r}", None
        if rest:
            return f"printed besides: {rest[:80]!r}", document
        schema = self.schemas[command]
        if problem := next(problems(schema, document, schema), None):
            return problem, document
        if document["status"] != returned:
            return f"'status' is {document['status']}, the exit status {returned}", document
        if status is not None and returned != status:
            return f"exit status {returned}, expected {status}", document
        if files is not None and [file["file"] for file in document["files"]] != files:
            return f"tells of {[file['file'] for file in document['files']]}, expected {files}", document
        return None, document

    # ---- cases

    def judge_file(self, path: Path, directory: str) -> None:
        name = path.name
        document = self.judge(name, "inspect", [path], directory, files=[str(path)])
        self.judge(f"{name} --stats", "inspect", ["--stats", "--bins", "3", path], directory, files=[str(path)])
        keys = [tensor["name"] for file in (document or {"files": []})["files"] for tensor in file["tensors"] if tensor["name"]]
        key = next((key for key in keys if re.fullmatch(r"\w[\w.]*", key)), "no.such.key")
        lines = {
            "strip-dataparallel": [[]],
            "filter-keys": [["--drop", key, "--optimizer", "drop"], ["--drop", key], ["--keep", "re:.", "--optimizer", "keep"],
                            ["--drop", "no.such.key"], ["--like", path], ["--like", DATA / "torch-2.15-dataparallel.pt", "--strict"],
                            ["--drop-entry", "epoch"]],
            "rename-keys": [["--add-prefix", "net."], ["--map", f"={key}=renamed"], ["--map", "re:.*=same"]],
            "replace-head": [["--num-classes", "3", "--optimizer", "keep"], ["--head", key.rpartition(".")[0] or "x", "--num-classes", "9", "--rename", "new",
                                                                             "--keep-rows", "--optimizer", "drop"]],
            "merge": [[path], [DATA / "torch-2.15-many.pt", "--keys", "union", "--dtype", "other", "--on-shape-mismatch", "keep-base"],
                      [DATA / "torch-2.15-flat.pt", path, "--keys", "intersection", "--optimizer", "keep"], ["missing.pt"],
                      [path, "--method", "linear", "--weights", "1,2", "--weights", f"={key}=2,1"], [path, "--method", "mean", "--allow-unrelated"]],
            "convert": [["--to", "torch"], ["--to", "safetensors", "--tied", "copy"], ["--to", "torch-legacy"], [], ["--state-dict"],
                        ["--compact", "--dedupe", "--device-tag", "cpu"], ["--weights-only"], ["--tensors-only", "--weights-only"]],
            "apply": [["-e", "strip", "-e", "rename --add-prefix net."], ["-e", "strip", "-e", f"filter --drop {key}", "--optimizer", "drop"],
                      ["-e", "filter --drop-entry epoch", "-e", "rename --map re:.*=same"]],
        }
        for line in ([], ["--parameters", "**", "--groups", "2"], ["--train", "**.bias", "--buffers", key, "--allow-unmatched"],
                     ["--train-last", "2", "--parameters", "**", "--optimizer-kind", "sgd"],
                     ["--parameters", "**", "--base", DATA / "torch-2.15-dataparallel.pt", "--root", "model"]):
            files = None if "--base" in line else [str(path)]
            self.judge(f"{name} {' '.join(map(str, line))}", "freeze-report", [path, *line], directory, files=files)
        for command in EDITS:
            for line in lines[command]:
                told = f"{name} {' '.join(map(str, line))}".replace(str(DATA) + "/", "")
                # a file beside the input that can't be used is an error before any input is looked at
                files = None if "--like" in line or command == "merge" else [str(path)]
                self.judge(told + " -n", command, [path, "-n", *line], directory, files=files)
            out = f"{directory}/out-{command}-{name}"
            real = self.judge(told + " -o", command, [path, "-o", out, "--no-fsync", *lines[command][0]], directory,
                              files=None if command == "merge" else [str(path)])
            written = bool(real and real["files"] and real["files"][0]["written"])
            self.tally.count(f"{command} {name}: 'written'", None if written == os.path.exists(out) else f"says {written}")

    def judge_oddities(self, directory: str) -> None:
        flat, wrapped = DATA / "torch-2.15-flat.pt", DATA / "torch-2.15-dataparallel.pt"
        made = {"empty.pt": b"", "text.pt": b"hello\n", "page.pt": b"<html>", "cut.pt": wrapped.read_bytes()[:-100],
                "in\udcffvalid \"name\n.pt": flat.read_bytes(), "-dash.pt": flat.read_bytes(),
                "odd-key.pt": (DATA / "torch-2.15-flat-legacy.pt").read_bytes().replace(b"fc.bias", b"fc.b\xffas")}
        for name, data in made.items():
            with open(os.path.join(os.fsencode(directory), os.fsencode(name)), "wb") as file:
                file.write(data)
        for name in ["empty.pt", "text.pt", "page.pt", "cut.pt", "missing.pt", "."]:
            self.judge(name, "inspect", [name], directory, status=2, files=[name])
            self.judge(name, "freeze-report", [name], directory, status=2, files=[name])
            for command in EDITS:
                rule = {"filter-keys": ["--drop", "fc"], "rename-keys": ["--add-prefix", "a."], "merge": [flat],
                        "replace-head": ["--num-classes", "3"], "convert": ["--compact"], "apply": ["-e", "strip"]}.get(command, [])
                self.judge(name, command, [name, "-n", *rule], directory, status=2, files=[name])
        self.judge("an odd file name", "inspect", ["in\udcffvalid \"name\n.pt"], directory, status=0)
        self.judge("an odd key", "inspect", ["odd-key.pt"], directory, status=0)
        self.judge("an odd key", "freeze-report", ["odd-key.pt", "--parameters", "**", "--base", "odd-key.pt"], directory, status=0)
        self.judge("a base", "freeze-report", [flat, "--train", "fc", "--base", flat], directory, status=0, files=[str(flat)])
        self.judge("an odd key", "filter-keys", ["odd-key.pt", "-n", "--drop", "fc"], directory, status=0)
        self.judge("an odd key", "filter-keys", ["odd-key.pt", "-n", "--like", flat], directory, status=0)
        self.judge("an odd key", "rename-keys", ["odd-key.pt", "-n", "--map", "=fc.b\udcffas=bias"], directory, status=0)
        self.judge("no such command", "help", ["nothing"], directory, status=2, files=[])
        for arguments in ([], ["strip"], ["help"]):
            self.judge(f"help {arguments}", "help", arguments, directory, status=0, files=[])
        self.judge("-- -dash.pt", "inspect", ["--", "-dash.pt"], directory, status=0, files=["-dash.pt"])
        self.judge("three, one missing", "inspect", [flat, "missing.pt", wrapped], directory, status=2,
                   files=[str(flat), "missing.pt", str(wrapped)])
        self.judge("three, one missing", "strip-dataparallel", [flat, "missing.pt", wrapped, "-n"], directory, status=2,
                   files=[str(flat), "missing.pt", str(wrapped)])
        self.judge("standard input", "inspect", ["-"], directory, status=0, files=["-"], given=flat.read_bytes())
        self.judge("--must-change", "strip-dataparallel", [flat, "-n", "--must-change"], directory, status=1, files=[str(flat)])
        self.judge("an existing output", "strip-dataparallel", [flat, "-o", "empty.pt"], directory, status=2, files=[str(flat)])
        self.judge("-o -", "strip-dataparallel", [wrapped, "-o", "-"], directory, status=0, files=[str(wrapped)], on_error=True)
        for command in ("inspect", "freeze-report", *EDITS):
            for arguments in ([], ["--no-such-option", flat], ["--color", "blue", flat]):
                self.judge("usage: " + " ".join(map(str, arguments[:2])), command, arguments, directory, status=2, files=[])
        for command, arguments in [("freeze-report", [flat, "--emit", "names"]), ("freeze-report", [flat, "--base-root", "x"]),
                                   ("freeze-report", [flat, "--groups", "("]), ("freeze-report", [flat, "--base", "missing.pt"]),
                                   ("inspect", [flat, "--values", "3"]), ("inspect", [flat, "--keys", "--tree"]),
                                   ("strip-dataparallel", [flat]), ("strip-dataparallel", [flat, "-o", "x.pt", "-i"]),
                                   ("strip-dataparallel", [flat, wrapped, "-o", "x.pt"]), ("strip-dataparallel", ["-", "-i"]),
                                   ("filter-keys", [flat, "-n"]), ("filter-keys", [flat, "-n", "--keep", "re:("]),
                                   ("filter-keys", [flat, "-n", "--only-dtype", "floaty"]), ("filter-keys", [flat, "-n", "--like", "missing.pt"]),
                                   ("filter-keys", [flat, "-n", "--keep", "@missing.txt"]), ("rename-keys", [flat, "-n"]),
                                   ("rename-keys", [flat, "-n", "--map", "nothing"]), ("apply", [flat, flat, "-n"]),
                                   ("apply", ["-e", "strip -o x.pt", flat, "-n"]), ("apply", ["missing.json", flat, "-n"])]:
            self.judge(f"usage: {arguments[1:]}", command, arguments, directory, status=2, files=[])

    def judge_plans(self, directory: str) -> None:
        """What --print-plan prints; what of a plan ckpt refuses, the schema refuses, and the other way round."""
        flat, odd, rows = DATA / "torch-2.15-flat.pt", Path(directory, "odd-key.pt"), Path(directory, "rows.txt")
        rows.write_text("0 1\n5 0\n")
        lines = [["rename", "--map", "a=b", "--add-prefix", "\udcff", "--strip-prefix", "x", "--optimizer", "keep"],
                 ["strip", "--wrapper", "net"], ["strip", "--root", "a", "--optimizer", "drop", "--allow-unmatched"],
                 ["filter", "--keep", "conv", "--drop", "!re:a", "--only-dtype", "half,int64", "--min-bytes", "0", "--max-bytes", str(2**64 - 1)],
                 ["filter", "--like", odd, "--ignore-shape", "--strict"], ["filter", "--drop-entry", "a", "--drop-entry", 'b["c d"]'],
                 ["head", "--head", "fc", "--num-classes", "5", "--init", "normal:0.5", "--seed", "-3", "--torch", "2.11", "--background", "last",
                  "--label-offset", "2", "--in-features", "3", "--no-bias", "--rename", "new"],
                 ["head", "--map", rows], ["merge", flat, odd, "--other-root", "a", "--keys", "union", "--dtype", "base", "--on-shape-mismatch", "keep-base"],
                 ["merge", flat, odd, "--method", "della", "--weights", "[0,1]", "--param", "fc:epsilon=0.1", "--normalize", "no", "--seed", "18446744073709551615",
                  "--integers", "max", "--accumulate", "float32", "--allow-unrelated", "--dtype", "bfloat16"],
                 ["merge", flat, odd, "--method", "multislerp", "--around-base"],
                 ["convert", "--to", "safetensors", "--tied", "error"], ["strip", "--to", "torch-legacy"],
                 ["convert", "--state-dict", "--weights-only", "--compact", "--to", "torch-legacy", "--tied", "copy"],
                 ["convert", "--dtype", "bfloat16", "--dtype", "**.bias=float32", "--on-overflow", "clamp"],
                 ["convert", "--tensors-only", "--dedupe", "--device-tag", "cpu", "--root", "model"],
                 ["apply", "-e", "strip", "-e", "filter --keep fc", "-e", "rename --map fc=head", "-e", "filter --drop-entry epoch"]]
        schema = self.schemas["plan"]
        whole: dict[str, Any] = {"schema": "ckpt.plan/1", "edits": []}
        for line in lines:
            result = run([*line, "--print-plan"], directory, b"")
            plan = json.loads(result.stdout or "null")
            told = " ".join(map(str, line)).encode("utf-8", "backslashreplace").decode()
            self.tally.count(f"plan: {told}", next(problems(schema, plan, schema), None) or (result.stderr.decode() or None))
            whole = {**plan, "edits": whole["edits"] + plan["edits"]}
        self.good["plan"] = whole
        for place, broken in sorted(broken_plans(whole), key=lambda case: case[0]):
            said = run(["apply", "-", "--print-plan"], directory, json.dumps(broken).encode())
            refused = any(problems(schema, broken, schema))
            agree = refused == (said.returncode != 0)
            self.tally.count(f"plan with another {place}", None if agree else f"schema: {refused}, ckpt: {said.stderr.decode().strip()}")

    def judge_schemas(self) -> None:
        """A document without one of its required fields must be refused: else the schema says nothing."""
        for command, schema in self.schemas.items():
            for place, name in sorted(required_places(schema, schema, "")):
                broken = copy.deepcopy(self.good.get(command))
                if not take_away(broken, place.split("/")[1:], name):
                    continue
                refused = any(problems(schema, broken, schema))
                self.tally.count(f"schema {command}: without {place}/{name}", None if refused else "accepted")


def broken_plans(plan: Any, whole: Any = None, place: str = "") -> Iterator[tuple[str, Any]]:
    """The plan with one value of another type, one field less, or one more. Texts stay texts: what they mean is not the schema's."""
    whole = plan if whole is None else whole
    steps = place.split("/")[1:]

    def changed(change: Any) -> Any:
        copied = copy.deepcopy(whole)
        value = copied
        for step in steps:
            value = value[int(step) if isinstance(value, list) else step]
        change(value)
        return copied

    for step, below in plan.items() if isinstance(plan, dict) else enumerate(plan):
        for other in (None, True, 7, -1, 1.5, [], {}, {"hex": "f"}):
            if type(other) is not type(below):
                yield f"{place}/{step}: {other}", changed(lambda value, step=step, other=other: value.__setitem__(step, other))
        yield f"{place}/{step}: nothing", changed(lambda value, step=step: value.pop(step))
        if isinstance(below, (dict, list)):
            yield from broken_plans(below, whole, f"{place}/{step}")
    if isinstance(plan, dict):
        yield f"{place}/more", changed(lambda value: value.__setitem__("more", 1))


def required_places(schema: dict[str, Any], root: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """(path of the object, required name), with `*` for any item."""
    if "$ref" in schema:
        yield from required_places(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, place)
    for name in schema.get("required", []):
        yield place, name
    for name, below in schema.get("properties", {}).items():
        yield from required_places(below, root, f"{place}/{name}")
    for below in schema.get("anyOf", []):
        yield from required_places(below, root, place)
    if "items" in schema:
        yield from required_places(schema["items"], root, place + "/*")


def take_away(value: Any, path: list[str], name: str) -> bool:
    """Removes `name` from the first object at `path` that has it."""
    if not path:
        return isinstance(value, dict) and value.pop(name, take_away) is not take_away
    if path[0] == "*":
        return isinstance(value, list) and any(take_away(item, path[1:], name) for item in value)
    return isinstance(value, dict) and path[0] in value and take_away(value[path[0]], path[1:], name)


def main() -> int:
    judge = Judge()
    files = [Path(name).resolve() for name in sys.argv[1:]] or sorted(path for path in DATA.iterdir() if path.suffix in SUFFIXES)
    with tempfile.TemporaryDirectory(prefix="ckpt-json-") as directory:
        for path in files:
            judge.judge_file(path, directory)
        judge.judge_oddities(directory)
        judge.judge_plans(directory)
    judge.judge_schemas()
    return judge.tally.finish()


if __name__ == "__main__":
    sys.exit(main())
