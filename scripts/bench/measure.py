# SPDX-License-Identifier: BSD-3-Clause
"""How the benchmarks measure: seconds, memory, and ratios of commands that take turns."""
from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path


def timed(command: list[str]) -> float:
    """Seconds of a command whose output goes through a pipe."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while os.read(process.stdout.fileno(), 1 << 20):
            pass
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start


def best(command: list[str], runs: int) -> tuple[float, float]:
    """(median, smallest) seconds of `runs` runs after one to warm up."""
    timed(command)
    times = [timed(command) for _ in range(runs)]
    return statistics.median(times), min(times)


def resident(command: list[str]) -> float:
    """Largest resident set of the command, in MB."""
    code = "import resource,subprocess,sys; subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    out = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(out.stdout) * 1024 / 1e6


def machine() -> str:
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def pair_ratio(first: list[str], second: list[str], outputs: list[Path], pairs: int) -> tuple[float, float, float]:
    """Median ratio first/second over interleaved pairs (A B B A), and its quartiles.

    The first pair does not count; outputs are removed and the disk is synced before each run.
    """
    def run(command: list[str]) -> float:
        for output in outputs:
            output.unlink(missing_ok=True)
        os.sync()
        return timed(command)

    ratios = []
    for index in range(pairs + 1):
        if index % 2 == 0:
            a, b = run(first), run(second)
        else:
            b, a = run(second), run(first)
        if index > 0:
            ratios.append(a / b)
    quartiles = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), quartiles[0], quartiles[2]
