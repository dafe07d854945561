#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Asks PyTorch and Python's zipfile what they make of the hostile archives of tests/unit/zip, and prints a table.

    mkdir cases && CKPT_WRITE_ZIP_CASES=cases build/dev/tests/ckpt_unit_tests '[zip]'
    tests/judge/zip_loaders.py cases [--python OTHER_PYTHON]... > docs/testing-zip-loaders.md

Each --python is an interpreter that can import torch; without any, /usr/bin/python3 is asked. One that can't import torch
is left out, and a line on standard error says so. Exit status 1 if ckpt's outcome breaks the rule of the table's head.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import zipfile

HEAD = """# Archives on which loaders disagree

What each loader makes of the archives in `tests/unit/zip/hostile_zip_test.cpp`; made by `tests/judge/zip_loaders.py`.
The rule for ckpt: what all loaders read, it reads; what all refuse, it refuses; where they differ, it reads what torch reads and
reports a finding of severity error, which keeps the file from being rewritten.

Values in brackets are the tensor that came out: 1 is the first record with that name, 2 the second, 3 the third.
"""

# Where ckpt is stricter or milder than the rule, and why.
EXCEPTIONS = {
    "Z6b": "PyTorch writes such files itself when told to compute no CRC",
    "Z18a": "torch reads the first archive, zipfile the second; they happen to be equal",
    "Z23a": "other readers go by the end record unless its numbers are saturated",
    "Z23c": "the numbers come from different records; they happen to be equal",
    "Z30a": "readers that search for local headers, as recovery tools do, see one record more",
    "Z30b": "as Z30a",
    "Z37": "the container is in order; who reads the checkpoint looks at byteorder",
    "X7b": "equal names with equal bodies, here",
}


def ask_torch(path):
    import torch
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever it is, it is the answer
        return "refuses: " + reason(error)
    if not isinstance(loaded, dict):
        return f"loads [{loaded}]"
    # PyTorch 1.13 gives memory that nobody wrote to where a record is cut: any float at all
    values = {int(v) if abs(v) < 1e6 else "anything" for v in loaded["a"].tolist()}
    return f"loads [{', '.join(map(str, values))}]"


def ask_torch_child(directory, names):
    import torch
    answers = {name: ask_torch(f"{directory}/{name}.pt") for name in names}
    print(json.dumps({"version": torch.__version__.split("+")[0].split("a")[0], "answers": answers}))


def ask_zipfile(path):
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                try:
                    archive.read(name)
                except Exception as error:
                    return f"refuses '{printable(name)}': {reason(error)}"
            names = [n.split("/", 1)[-1] for n in archive.namelist()]
            if "data.pkl" not in names:
                return f"reads, no data.pkl among {len(names)} records"
            if "a/data/0" in archive.namelist():
                return f"reads [{archive.read('a/data/0')[-1:] and float_of(archive.read('a/data/0'))}]"
            return "reads"
    except Exception as error:
        return "refuses: " + reason(error)


def float_of(data):
    import struct
    return int(struct.unpack_from("<f", data)[0]) if len(data) >= 4 else "cut"


def printable(text):
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:40]


def reason(error):
    text = str(error).strip().splitlines()
    text = text[0] if text else type(error).__name__
    text = re.sub(r"^\[enforce fail[^\]]*\]\s*\.?\s*", "", text)
    text = re.sub(r"Exception raised from.*", "", text)
    text = re.sub(r"/\S*/", "", text)
    text = re.split(r"(?<=[a-z])\. ", text)[0]
    return printable_line(text)


def printable_line(text):
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text).replace("|", "\\|")
    return text if len(text) <= 90 else text[:87] + "..."


def ask_interpreters(pythons, directory, names):
    results = []
    for python in pythons:
        try:
            child = subprocess.run([python, os.path.abspath(__file__), directory, "--ask-torch"], input="\n".join(names),
                                   capture_output=True, text=True)
            failure = child.returncode != 0 and (child.stderr.strip().splitlines()[-1:] or ["no output"])[0]
        except OSError as error:
            failure = str(error)
        if failure:
            print(f"zip_loaders.py: {python} is left out: {failure}", file=sys.stderr)
            continue
        results.append(json.loads(child.stdout.splitlines()[-1]))
    return results


def read_cases(directory):
    with open(f"{directory}/cases.tsv", encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines]


def verdict(answers):
    """-> 'read', 'refused' or 'differ'."""
    good = {not a.startswith("refuses") and "no data.pkl" not in a for a in answers}
    values = {m.group(1) for a in answers for m in [re.search(r"\[(\w+)\]", a)] if m}
    if good == {True}:
        return "read" if len(values) <= 1 else "differ"
    return "refused" if good == {False} else "differ"


def keeps_rule(torch_answers, python_answer, outcome):
    common = verdict(torch_answers + [python_answer])
    torch_reads = any(a.startswith("loads") for a in torch_answers)
    if common == "read":
        return outcome == "read" or (outcome.startswith("read") and ", error" not in outcome)
    if common == "refused":
        return outcome.startswith("refused")
    if torch_reads:
        return outcome.startswith("read") and ", error" in outcome
    return outcome.startswith("refused") or ", error" in outcome


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--python", action="append")
    parser.add_argument("--ask-torch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask_torch:
        return ask_torch_child(options.directory, sys.stdin.read().split())
    cases = read_cases(options.directory)
    results = ask_interpreters(options.python or ["/usr/bin/python3"], options.directory, [c[0] for c in cases])
    columns = [f"torch {r['version']}" for r in results] + [f"zipfile {sys.version.split()[0]}"]
    print(HEAD)
    print("| id | construction | " + " | ".join(columns) + " | ckpt |")
    print("|---" * (len(columns) + 3) + "|")
    broken = []
    for name, construction, outcome, detail in cases:
        torch_answers = [r["answers"][name] for r in results]
        python_answer = ask_zipfile(f"{options.directory}/{name}.pt")
        ours = outcome + (f" ({printable_line(detail)})" if detail else "")
        print("| " + " | ".join([name, construction] + torch_answers + [python_answer, ours]) + " |")
        if results and name not in EXCEPTIONS and not keeps_rule(torch_answers, python_answer, outcome):
            broken.append(name)
            print(f"zip_loaders.py: {name}: torch {torch_answers}, zipfile '{python_answer}', ckpt '{outcome}'", file=sys.stderr)
    print("\nStricter or milder than the rule, with reason:\n")
    for name, why in EXCEPTIONS.items():
        print(f"* {name}: {why}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
