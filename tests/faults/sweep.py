#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Let every system call of a command fail once, and look at what is left.

    sweep.py --ckpt build/dev/apps/ckpt --input model.pt --output out.pt -- \\
        strip-dataparallel model.pt -o out.pt

Copies the inputs into a fresh directory and runs the command there under strace, once for each system
call, each way to fail and each N: the N-th call of that kind fails. N rises until the run has no N-th call.
With --old FILE the output exists before (the command then wants --force); where the output is one of
the inputs, the command edits in place. Whatever fails:

  * the output is the old file (or missing, as before) or the complete new one, mode included;
  * status 0 means the new one; else the status is 2 with a message, or the signal that killed;
  * the directory and TMPDIR hold no other file, except after SIGKILL;
  * the inputs are untouched, down to their times.

Status 127 is the dynamic loader's: the program could not start, and nothing may have changed.
A last run lets every read, write and copy move only a few bytes at a time. Needs strace, and cc for that
last run. Ends with "N passed, M failed"; the status is 0 if nothing failed.
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

SYSCALLS = (
    "openat read pread64 write pwrite64 writev copy_file_range sendfile ioctl fallocate fsync fchmod rename "
    "renameat2 link unlink close fstat newfstatat readlink lseek ftruncate"
).split()
FAULTS = {
    "KILL": "signal=KILL",
    "ENOSPC": "error=ENOSPC",
    "EIO": "error=EIO",
    "EINTR": "error=EINTR",
    "nothing": "retval=0",  # a call that moved no bytes: legal for these, and easily taken for success
}
MOVES_BYTES = {"pread64", "write", "pwrite64", "copy_file_range", "sendfile"}
TIMEOUT = 60

SHORT_COUNTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
#define LESS(n) ((n) < 1000 ? ((n) + 1) / 2 : 777)
#define WRAP(name, parameters, arguments)                                  \
  ssize_t name parameters {                                                \
    static ssize_t (*real) parameters;                                     \
    if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name);      \
    return real arguments;                                                 \
  }
WRAP(read, (int f, void* p, size_t n), (f, p, LESS(n)))
WRAP(write, (int f, const void* p, size_t n), (f, p, LESS(n)))
WRAP(pread, (int f, void* p, size_t n, off_t o), (f, p, LESS(n), o))
WRAP(pread64, (int f, void* p, size_t n, off_t o), (f, p, LESS(n), o))
WRAP(pwrite, (int f, const void* p, size_t n, off_t o), (f, p, LESS(n), o))
WRAP(pwrite64, (int f, const void* p, size_t n, off_t o), (f, p, LESS(n), o))
WRAP(sendfile, (int o, int i, off_t* at, size_t n), (o, i, at, LESS(n)))
WRAP(sendfile64, (int o, int i, off_t* at, size_t n), (o, i, at, LESS(n)))
WRAP(copy_file_range, (int i, off_t* a, int o, off_t* b, size_t n, unsigned f), (i, a, o, b, LESS(n), f))
"""


def fingerprint(path):
    """What must not change about a file; None where there is none."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"digest": digest, "mode": status.st_mode, "mtime": status.st_mtime_ns}


def same_contents(a, b):
    if a is None or b is None:
        return a is b
    return (a["digest"], a["mode"]) == (b["digest"], b["mode"])


class Run:
    """One execution in a directory of its own, and everything observed about it."""

    def __init__(self, options, prefix=(), environment=None):
        with tempfile.TemporaryDirectory(prefix="ckpt-sweep-") as root:
            self.root = pathlib.Path(root)
            self.place = self.root / "work"
            self.prepare(options)
            self.before = {name: fingerprint(self.place / name) for name in self.names()}
            self.execute(options, prefix, environment or {})
            self.after = {name: fingerprint(self.place / name) for name in self.names()}
            self.spooled = os.listdir(self.root / "tmp")
            trace = self.root / "trace"
            self.trace = trace.read_text(errors="replace") if trace.exists() else ""

    def names(self):
        """Files, also those in directories that the program made; an empty directory may stay behind."""
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*") if not path.is_dir())

    def prepare(self, options):
        self.place.mkdir()
        (self.root / "tmp").mkdir()
        for path in options.input:
            shutil.copy2(path, self.place)
        if options.old:
            shutil.copy2(options.old, self.place / options.output)

    def execute(self, options, prefix, environment):
        prefix = [argument.replace("TRACE", str(self.root / "trace")) for argument in prefix]
        piped = pathlib.Path(options.stdin).read_bytes() if options.stdin else b""
        done = subprocess.run(
            [*prefix, options.ckpt, *options.arguments],
            cwd=self.place,
            env={**os.environ, "TMPDIR": str(self.root / "tmp"), **environment},
            input=piped,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            check=False,
        )
        self.status = done.returncode
        self.message = done.stderr.decode(errors="replace").strip()

    def was_hit(self):
        return "(INJECTED)" in self.trace or "killed by SIGKILL" in self.trace


def complaints(options, run, expected, syscall, fault):
    """Every way in which `run` breaks the promise, as sentences."""
    output = options.output
    old, new, now = run.before.get(output), expected.after.get(output), run.after.get(output)
    killed = fault == "KILL"
    is_new = same_contents(now, new)
    if not (now == old or is_new):
        yield "the output is neither the old file nor the complete new one"
    if run.status == 0 and not is_new:
        yield "status 0, but the output is not the new one"
    if run.status == 127 and now != old:
        yield "status 127, but the output has changed"
    allowed = (-signal.SIGKILL, 128 + signal.SIGKILL) if killed else (0, 2, 127)
    if run.status not in allowed:
        yield f"status {run.status}"
    if run.status == 2 and not run.message and not syscall.startswith("write"):
        yield "status 2 without a message"
    stray = [name for name in run.after if name not in run.before and name != output] + run.spooled
    if stray and not killed:
        yield f"left behind: {', '.join(stray)}"
    for name, before in run.before.items():
        if name != output and run.after.get(name) != before:
            yield f"the input {name} has changed"


def sweep(options, expected, syscall, fault):
    """All N of one kind of call and one fault: (points that passed, descriptions of those that failed)."""
    passed, failed = 0, []
    for number in range(1, options.limit + 1):
        inject = f"inject={syscall}:{FAULTS[fault]}:when={number}"
        prefix = ["strace", "-f", "-qq", "-o", "TRACE", "-e", f"trace={syscall}", "-e", inject]
        try:
            run = Run(options, prefix)
        except subprocess.TimeoutExpired:
            failed.append(f"{syscall} {number} {fault}: still running after {TIMEOUT} s")
            continue
        if not run.was_hit():
            break
        wrong = list(complaints(options, run, expected, syscall, fault))
        failed += [f"{syscall} {number} {fault}: {what} [{run.message}]" for what in wrong]
        passed += 0 if wrong else 1
    return passed, failed


def short_counts(options, expected):
    """One run in which no call moves more than a few bytes, and yet the output is complete."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("short counts: skipped, there is no cc")
        return 0, []
    with tempfile.TemporaryDirectory(prefix="ckpt-sweep-") as root:
        source, library = pathlib.Path(root, "short.c"), pathlib.Path(root, "short.so")
        source.write_text(SHORT_COUNTS)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        run = Run(options, environment={"LD_PRELOAD": str(library)})
    wrong = list(complaints(options, run, expected, "short counts", ""))
    if run.status != 0:
        wrong.append(f"status {run.status}: {run.message}")
    return (0, [f"short counts: {what}" for what in wrong]) if wrong else (1, [])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=os.path.abspath, help="the program")
    parser.add_argument("--input", action="append", default=[], help="file to copy beside; repeatable")
    parser.add_argument("--output", required=True, help="name of the output in that directory")
    parser.add_argument("--old", help="contents of the output before the run")
    parser.add_argument("--stdin", help="file to pipe into standard input")
    parser.add_argument("--syscalls", type=lambda text: text.split(","), default=SYSCALLS)
    parser.add_argument("--faults", type=lambda text: text.split(","), default=list(FAULTS))
    parser.add_argument("--limit", type=int, default=2000, help="largest N (default 2000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("arguments", nargs="+", help="the command's arguments, after --")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if shutil.which("strace") is None:
        sys.exit("sweep.py: needs strace")
    expected = Run(options)
    if expected.status != 0 or expected.after.get(options.output) is None:
        sys.exit(f"sweep.py: without faults: status {expected.status}: {expected.message}")

    kinds = [(s, f) for s in options.syscalls for f in options.faults if f != "nothing" or s in MOVES_BYTES]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda kind: sweep(options, expected, *kind), kinds))
    results.append(short_counts(options, expected))

    failures = [what for _, failed in results for what in failed]
    for what in failures:
        print(what)
    print(f"{sum(passed for passed, _ in results)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
