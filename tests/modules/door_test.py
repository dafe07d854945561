#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Who does not ask for a module gets none: what the dynamic linker loads for a command.

    tests/modules/door_test.py --ckpt build/dev/apps/ckpt [--with-torch]

Edits and inspections load what the program is linked to, and nothing while they run. With --with-torch, `--version -v` has to
open LibTorch, which shows that the test would notice.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
OURS_LATER = re.compile(r"libckpt_\w+\.so|libtorch\w*\.so|libc10\w*\.so|libcuda\w*\.so")


def loaded(ckpt: str, *arguments: str) -> set[str]:
    """File names that the dynamic linker opened, at the start or later."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LD_DEBUG": "files", "LD_DEBUG_OUTPUT": f"{folder}/log"}
        subprocess.run([ckpt, *arguments], env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        text = "".join(path.read_text() for path in Path(folder).glob("log.*"))
    return set(re.findall(r"file=\S*?([^/\s]+?\.so[\w.]*) \[\d+\];  (?:generating|needed|dynamically)", text))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--with-torch", action="store_true")
    options = parser.parse_args()
    ckpt = os.path.abspath(options.ckpt)
    model = str(DATA / "torch-2.15-training.pt")
    failed = 0
    cases = [["--version"], ["inspect", model], ["inspect", "--stats", model], ["filter-keys", model, "--drop", "**.bias", "-n",
             "--root", "model"]]
    for arguments in cases:
        found = sorted(name for name in loaded(ckpt, *arguments) if OURS_LATER.match(name))
        if found:
            failed += 1
            print(f"ckpt {' '.join(arguments)}: opens {', '.join(found)}")
    if options.with_torch:
        cases.append(["--version", "-v"])
        if "libckpt_torch.so" not in loaded(ckpt, "--version", "-v"):
            failed += 1
            print("ckpt --version -v: does not open libckpt_torch.so, or nobody noticed")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
