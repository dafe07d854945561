# SPDX-License-Identifier: BSD-3-Clause
"""Counting cases, and the output that the test run reads: a line for each failure, then the counts."""
from __future__ import annotations


class Tally:
    """Counts cases and prints the failing ones."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0

    def count(self, name: str, problem: str | None) -> None:
        if problem is None:
            self.passed += 1
        else:
            self.failed += 1
            print(f"{name}: {problem}".replace("\n", "\\n").encode("utf-8", "backslashreplace").decode(), flush=True)

    def skip(self, name: str, reason: str) -> None:
        self.skipped += 1
        print(f"skipped: {name}: {reason}", flush=True)

    def finish(self) -> int:
        print(f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else ""))
        return 1 if self.failed else 0
