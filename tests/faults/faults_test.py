#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The sweep of system calls over the ways in which `ckpt` writes: a new file, over an old one, in place, into a new
directory, from a pipe.

    faults_test.py --ckpt build/dev/apps/ckpt [--full]

Without --full only the calls that write and publish fail, each by ENOSPC and by SIGKILL: a minute. With it every call
in every way of sweep.py. Status 77 (skipped) where strace is missing or may not trace. Ends with "N passed, M failed".
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data"
WRAPPED = "torch-2.15-dataparallel.pt"
CASES = {
    "strip to a new file": ["--input", WRAPPED, "--output", "out.pt", "--", "strip", WRAPPED, "-o", "out.pt"],
    "strip over an old file": ["--input", WRAPPED, "--old", "torch-2.15-flat.pt", "--output", "out.pt",
                               "--", "strip", WRAPPED, "-f", "-o", "out.pt"],
    "strip in place": ["--input", WRAPPED, "--output", WRAPPED, "--", "strip", WRAPPED, "-i"],
    "strip into a new directory": ["--input", WRAPPED, "--output", f"made/{WRAPPED}", "--", "strip", WRAPPED, "-o", "made/"],
    "filter from a pipe": ["--stdin", WRAPPED, "--output", "out.pt", "--", "filter", "-", "--drop", "module.fc", "-o", "out.pt"],
}
QUICK = ["--syscalls", "write,pwrite64,copy_file_range,fsync,fchmod,rename,renameat2,link", "--faults", "KILL,ENOSPC"]
SKIPPED = 77


def can_trace():
    if shutil.which("strace") is None:
        print("skipped: there is no strace")
        return False
    done = subprocess.run(["strace", "-f", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"skipped: strace can't trace here: {done.stderr.strip()}")
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=os.path.abspath)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    if not can_trace():
        return SKIPPED
    passed = failed = 0
    for name, arguments in CASES.items():
        split = arguments.index("--")
        files = [str(DATA / word) if at and arguments[at - 1] in ("--input", "--old", "--stdin") else word
                 for at, word in enumerate(arguments[:split])]
        command = [sys.executable, str(HERE / "sweep.py"), "--ckpt", options.ckpt, *files]
        done = subprocess.run([*command, *([] if options.full else QUICK), *arguments[split:]], capture_output=True, text=True)
        print(f"== {name}\n{done.stdout}{done.stderr}", end="", flush=True)
        counts = re.search(r"(\d+) passed, (\d+) failed", done.stdout)
        passed += int(counts[1]) if counts else 0
        failed += int(counts[2]) if counts else 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
