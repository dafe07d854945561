#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Random training checkpoints and random chains of edits, judged with the torch that runs this.

    CKPT=build/dev/apps/ckpt PYTHON tests/judge/chains.py [--seed N] [--cases N]

A case is a file that torch saves (wrapped and tied modules, views, an average, an optimizer with groups, odd keys; zip or legacy)
and one to five edits. They are carried out as one `ckpt apply -e ... -e ...` and as commands one after the other, and done to the
loaded file in Python (chain_model.py). Everything that torch loads must be equal: values, order, types, sharing, `_metadata`,
optimizer, what nobody edited. The plan that --print-plan prints must give the same bytes, and a dry run say what the real run says.
What nobody can prove about an optimizer's order may be refused, and what collides or leaves nothing must be.

A failing case is one line with its number: `--seed N --cases 1` is that case alone. The last line counts.
"""
from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch

from chain_edits import MAKERS, Edit, Maker, random_edit
from chain_files import Made, make_checkpoint
from chain_model import Refused, Run
from compare import Comparison
from loading import FULL, WEIGHTS_ONLY, load
from tally import Tally


class Wrong(Exception):
    """What is wrong with a case."""


def ckpt(*arguments: Any) -> subprocess.CompletedProcess:
    command = [os.environ["CKPT"], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, errors="surrogateescape")


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Wrong(f"{what} is {str(found)[:300]}, expected {str(wanted)[:300]}")


def expect_same(what: str, wanted: Any, path: Path, mode: str = FULL) -> None:
    try:
        found = load(str(path), mode)
    except Exception as error:  # torch's errors have no common class
        raise Wrong(f"{what}: torch does not load it: {error}") from None
    differences = Comparison(wanted, found).differences
    if differences:
        raise Wrong(f"{what}: {'; '.join(differences[:3])}")


class Case:
    """A file and edits of it. `lengths`: how many; `makers`: of which kinds (chain_edits.MAKERS)."""

    def __init__(self, rng: random.Random, folder: Path, source: Path, made: Made, lengths: range = range(1, 6),
                 makers: list[Maker] = MAKERS) -> None:
        self.folder, self.source, self.made = folder, source, made
        self.policy = rng.choice([None, None, "keep", "drop", "remap=model-order"] if made.has_optimizer else [None])
        self.edits: list[Edit] = []
        for number in range(rng.choice(lengths)):
            self.edits.append(random_edit(rng, self.after_all(), folder / f"other-{number}.pt", makers))
            try:
                self.after_all()
            except Refused:
                if rng.random() < 0.2:
                    break  # the last edit of the chain must be refused
                self.edits.pop()
        if not self.edits:
            self.edits.append(Edit(["strip-dataparallel"], lambda run: run.strip()))

    def __str__(self) -> str:
        return " ".join(shlex.quote(word) for word in self.apply_words())

    def options(self) -> list[str]:
        root = ["--root", self.made.named[0]] if self.made.named else []
        return root + (["--optimizer", self.policy] if self.policy else [])

    def apply_words(self) -> list[str]:
        return [word for edit in self.edits for word in ("-e", shlex.join(edit.words))] + self.options()

    def run(self) -> Run:
        return Run(load(str(self.source)), self.made, self.policy)

    def after_all(self) -> Run:
        """Raises Refused where an edit can't be done."""
        run = self.run()
        for edit in self.edits:
            edit.act(run)
            run.check()
        run.finish()
        return run

    def judge(self) -> None:
        self.judge_apply()
        self.judge_separately()

    # ---- in one pass

    def judge_apply(self) -> None:
        out = self.folder / "out.pt"
        done = ckpt("apply", *self.apply_words(), self.source, "-o", out, "--no-fsync", "--verify", "--json")
        try:
            expected = self.after_all()
        except Refused as refusal:
            self.expect_refusal("apply", done, out, str(refusal))
            return
        said = json.loads(done.stdout)
        problem = said["errors"][0]["message"] if said["errors"] else ""
        if done.returncode == 2 and expected.may_refuse and "can't follow" in problem and not out.exists():
            return
        if done.returncode != 0:
            raise Wrong(f"apply: status {done.returncode}: {problem[:300]}")
        expect_same("apply", expected.root, out)
        if self.made.weights_only:
            expect_same("apply, weights only", expected.root, out, WEIGHTS_ONLY)
        self.judge_report(said["files"][0], expected)
        self.judge_plan(out)
        self.judge_dry_run(said, out)

    def judge_report(self, said: Any, expected: Run) -> None:
        dicts = {one["root"]: one for one in said["state_dicts"]}
        for one in expected.dicts:
            report = dicts.get(one.path_text)
            if report is None:
                expect(f"the report of '{one.path_text}'", expected.edits_nothing(), True)
                continue
            for field, wanted in one.numbers().items():
                found = report[field]
                if field == "renamed":
                    found = [(pair["from"], pair["to"]) for pair in found]
                expect(f"the report's {field} of '{one.path_text}'", found, wanted)
        for optimizer in said["optimizers"]:
            numbers = optimizer["parameters_before"], optimizer["parameters_after"]
            expect("the report's optimizer", numbers, (expected.parameters_before, expected.parameters_after))

    def judge_plan(self, out: Path) -> None:
        plan, again = self.folder / "plan.json", self.folder / "again.pt"
        printed = ckpt("apply", *self.apply_words(), "--print-plan")
        plan.write_text(printed.stdout, errors="surrogateescape")
        done = ckpt("apply", plan, self.source, "-o", again, "--no-fsync", "-q")
        expect("the plan's status", (printed.returncode, done.returncode, done.stderr), (0, 0, ""))
        expect("a plan with the same bytes", again.read_bytes() == out.read_bytes(), True)

    def judge_dry_run(self, said: Any, out: Path) -> None:
        done = ckpt("apply", *self.apply_words(), self.source, "-o", out, "-f", "--json", "-n")
        expect("the dry run's status", done.returncode, 0)
        dry = json.loads(done.stdout)
        expect("the dry run's 'written'", (dry["files"][0].pop("written"), said["files"][0].pop("written")), (False, True))
        expect("the dry run's 'dry_run'", (dry["files"][0].pop("dry_run"), said["files"][0].pop("dry_run")), (True, False))
        expect("what the dry run says", dry, said)

    # ---- one after the other

    def judge_separately(self) -> None:
        run, source = self.run(), self.source
        for number, edit in enumerate(self.edits):
            name = f"command {number + 1}, {shlex.join(edit.words)}"
            out = self.folder / f"step-{number}.pt"
            words = edit.words if edit.files_follow else [edit.words[0], *edit.words[1:]]
            position = 1 if edit.files_follow else len(words)  # BASE stands in front of merge's OTHER
            done = ckpt(*words[:position], source, *words[position:], *self.options(), "-o", out, "--no-fsync", "-q")
            try:
                edit.act(run)
                run.check()
            except Refused as refusal:
                self.expect_refusal(name, done, out, str(refusal))
                return
            run.finish()
            if done.returncode == 2 and run.may_refuse and "can't follow" in done.stderr and not out.exists():
                return
            if done.returncode != 0:
                raise Wrong(f"{name}: status {done.returncode}: {done.stderr.strip()[:300]}")
            expect_same(name, run.root, out)
            source = out
            run = Run(run.root, run.made, self.policy, run.slots)

    @staticmethod
    def expect_refusal(name: str, done: subprocess.CompletedProcess, out: Path, why: str) -> None:
        if done.returncode != 2 or out.exists():
            raise Wrong(f"{name}: should be refused ({why}), status {done.returncode}: {done.stderr.strip()[:200]}")


def random_case(seed: int, folder: Path) -> Case:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    source = folder / "in.pt"
    return Case(rng, folder, source, make_checkpoint(rng, source))


def count(tally: Tally, name: str, make: Callable[[Path], Case]) -> None:
    """Makes a case in a folder of its own and judges it."""
    with tempfile.TemporaryDirectory() as folder:
        case, problem = None, None
        try:
            case = make(Path(folder))
            case.judge()
        except Wrong as error:
            problem = str(error)
        tally.count(f"{name}: {case}", problem)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("chains: set CKPT to the ckpt to judge")
    os.environ["CKPT"] = str(Path(os.environ["CKPT"]).absolute())
    parser = argparse.ArgumentParser(description="Judges random chains of edits.")
    parser.add_argument("--seed", type=int, default=1, help="number of the first case")
    parser.add_argument("--cases", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    tally = Tally()
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        count(tally, f"case {seed}", lambda folder: random_case(seed, folder))
    print(f"torch {torch.__version__}")
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
