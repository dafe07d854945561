#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Shows every file that we have to a ckpt built with sanitizers, which must neither crash nor complain.

    CKPT=build/asan/apps/ckpt tests/judge/replay.py [FOLDER...]

The files are those of tests/data, the fuzzers' seeds, the corpus (scripts/fetch-corpus), and of the folders named. Each is
inspected as text and as JSON and, without writing, edited. Any exit status of ckpt's own is right; whether what it says is
right, others judge. A failing case is one line; the last line counts.
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tally import Tally

TESTS = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("CKPT_CACHE") or Path.home() / ".cache" / "ckpt") / "corpus"
TIME_LIMIT = 120
SANITIZER_EXIT = 77
SANITIZERS = {f"{name}_OPTIONS": f"exitcode={SANITIZER_EXIT}" for name in ("ASAN", "UBSAN", "LSAN")}
COMPLAINT = re.compile(rb"^.*(?:runtime error: |ERROR: \w+Sanitizer).*$", re.MULTILINE)
COMMANDS = [["inspect"], ["inspect", "--json"], ["strip-dataparallel", "--dry-run", "-o", os.devnull]]


def problem_with(command: list[str], file: Path) -> str | None:
    try:
        result = subprocess.run([os.environ["CKPT"], *command, str(file)], capture_output=True, timeout=TIME_LIMIT,
                                stdin=subprocess.DEVNULL, env={**os.environ, **SANITIZERS})
    except subprocess.TimeoutExpired:
        return f"takes more than {TIME_LIMIT} s"
    if complaint := COMPLAINT.search(result.stderr):
        return complaint[0].decode(errors="replace")
    return None if result.returncode in (0, 1, 2) else f"exit status {result.returncode}"


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("replay: set CKPT to the ckpt to try")
    tally = Tally()
    folders = [TESTS / "data", TESTS / "fuzz" / "seeds", CORPUS, *map(Path, sys.argv[1:])]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".md"]
    cases = [(command, file) for file in files for command in COMMANDS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (command, file), problem in zip(cases, pool.map(lambda case: problem_with(*case), cases)):
            tally.count(f"{' '.join(command)} {file}", problem)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
