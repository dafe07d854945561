#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Large and deep files with little memory: what `ckpt` costs must not grow with the bytes of tensors.

    scale_test.py --ckpt build/dev/apps/ckpt [--full] [--directory DIR]

Every command runs with a stack of 256 KiB and a limit on its address space. Files are sparse, so that terabytes cost
nothing; where the file system refuses them, the cases say so and are skipped. --full adds the million tensors.
Ends with "N passed, M failed"; the status is 0 if nothing failed.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

import far_archive

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIB = 1 << 20
STACK = 256 << 10
# The program starts in milliseconds because it links these and nothing else.
ALLOWED = {"libckpt", "libc", "libm", "libgcc_s", "libstdc++", "libfmt", "libspdlog", "libdeflate", "libre2", "libz", "ld-linux-x86-64"}


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, wrong):
        """`wrong`: the complaints, none of which is good."""
        wrong = [complaint for complaint in wrong if complaint]
        if wrong:
            self.failed += 1
            print(f"FAILED {what}: {'; '.join(wrong)}")
        else:
            self.passed += 1
            print(f"ok     {what}")


class Done:
    """A finished command: status, output, seconds of processor time (a busy machine makes no test fail)."""

    def __init__(self, arguments, address_space=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))
            if address_space:
                resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit)
        self.out, self.err = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.status = process.returncode
        self.err = self.err.decode(errors="replace")

    def complaints(self, status=0):
        if self.status != status:
            return [f"status {self.status}: {self.err.strip()[:300]}"]
        return []


def resident_mib(arguments):
    """The most a command had resident, as the kernel counts it."""
    script = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    return int(subprocess.check_output([sys.executable, "-c", script, *arguments])) / 1024


# ---- files


def stored_zip(path, records):
    """A zip of stored records, without descriptors; enough for files that only `ckpt` reads."""
    central, at = [], 0
    with open(path, "wb") as file:
        for name, body in records:
            head = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, zlib.crc32(body), len(body), len(body), len(name), 0)
            central.append(struct.pack("<IH", 0x02014B50, 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, at) + name)
            at += file.write(struct.pack("<I", 0x04034B50) + head + name + body)
        directory = b"".join(central)
        file.write(directory)
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(central), len(central), len(directory), at, 0))


def nested_pickle(levels, kind):
    """Lists, dicts or tuples inside each other."""
    if kind == "list":
        return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."
    if kind == "dict":
        return b"\x80\x02" + b"}X\x01\x00\x00\x00k" * (levels - 1) + b"}" + b"s" * (levels - 1) + b"."
    return b"\x80\x02)" + b"\x85" * levels + b"."


def nested_file(path, levels, kind):
    stored_zip(path, [(b"a/data.pkl", nested_pickle(levels, kind)), (b"a/version", b"3\n")])


def sparse_file(directory, name):
    """A file of scripts/bench/make-files, or why there is none."""
    made = subprocess.run([sys.executable, ROOT / "scripts/bench/make-files", directory, name], capture_output=True, text=True)
    if made.returncode != 0:
        return None, (made.stderr.strip().splitlines() or ["make-files failed"])[-1]
    files = sorted(pathlib.Path(directory).glob(f"{name}*"))
    return (files[0], "") if files else (None, "make-files made nothing")


# ---- cases


def start_up(tally, ckpt):
    runs = [Done([ckpt, "--version"]) for _ in range(5)]
    best = min(run.seconds for run in runs)
    resident = resident_mib([ckpt, "--version"])
    tally.check(
        f"'ckpt --version': {best * 1000:.0f} ms, {resident:.1f} MiB resident",
        runs[0].complaints() + ["slower than 100 ms" if best > 0.1 else "", "more than 20 MiB" if resident > 20 else ""],
    )


def needed_libraries(tally, ckpt):
    if shutil.which("readelf") is None:
        print("skipped: libraries (there is no readelf)")
        return
    found = set()
    for path in [ckpt, *pathlib.Path(ckpt).resolve().parents[1].glob("lib/libckpt.so")]:
        for line in subprocess.check_output(["readelf", "-d", path], text=True).splitlines():
            if "(NEEDED)" in line:
                found.add(line.split("[")[1].split(".so")[0])
    sanitizers = {name for name in found if name.endswith("san")}
    tally.check(f"libraries: {', '.join(sorted(found))}", [f"{name} is not allowed" for name in sorted(found - ALLOWED - sanitizers)])


def deep_nesting(tally, ckpt, directory):
    for kind in ("list", "dict", "tuple"):
        path = directory / f"deep-{kind}.pt"
        nested_file(path, 100_000, kind)
        for view in ([], ["--json"], ["--tree"], ["--get", ""], ["--globals"]):
            done = Done([ckpt, "inspect", *view, path], address_space=512 * MIB)
            slow = "slower than 2 s" if done.seconds > 2 else ""
            # a value too deep to be printed as JSON may be refused, in words
            fine = done.status == 0 or (done.status == 2 and done.err.startswith("ckpt: "))
            tally.check(f"100,000 nested {kind}s, inspect {' '.join(view)}: {done.seconds:.2f} s",
                        [slow, "" if fine else f"status {done.status}: {done.err[:200]}"])
        done = Done([ckpt, "filter-keys", "-n", "--drop-entry", "nothing", path], address_space=512 * MIB)
        tally.check(f"100,000 nested {kind}s, filter-keys", done.complaints(2))
        path.unlink()


def many_tensors(tally, ckpt, directory, count):
    # a classic end record counts 65,535 records: tensors beyond that share storages
    storages = min(count, 60_000)
    out = bytearray(b"\x80\x02}(")
    for i in range(count):
        key, storage = f"layer{i // 100}.block{i % 100}.weight".encode(), str(i % storages).encode()
        out += b"X" + struct.pack("<I", len(key)) + key + b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        out += b"ctorch\nFloatStorage\nX" + struct.pack("<I", len(storage)) + storage
        out += b"X\x03\x00\x00\x00cpuK\x01tQK\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    out += b"u."
    records = [(b"a/data.pkl", bytes(out)), *((b"a/data/%d" % i, b"\0\0\0\0") for i in range(storages))]
    path = directory / "many.pt"
    stored_zip(path, [*records, (b"a/version", b"3\n")])
    for view in (["-s"], ["--keys"], []):
        done = Done([ckpt, "inspect", *view, path], address_space=(128 + count // 500) * MIB)
        tally.check(f"{count:,} tensors, inspect {' '.join(view)}: {done.seconds:.2f} s",
                    done.complaints() + ["slower than 5 s" if done.seconds > 5 + count / 100_000 else ""])
    done = Done([ckpt, "freeze-report", "--train-last", "2", path], address_space=(128 + count // 500) * MIB)
    tally.check(f"{count:,} tensors, freeze-report: {done.seconds:.2f} s",
                done.complaints() + ["slower than 5 s" if done.seconds > 5 + count / 100_000 else ""])
    path.unlink()


def terabytes(tally, ckpt, directory):
    path, why = sparse_file(directory, "sparse5t")
    if path is None:
        print(f"skipped: a sparse file of 5 TB ({why})")
        return
    for view in (["-s"], ["--keys"], ["--json"]):
        done = Done([ckpt, "inspect", *view, path], address_space=64 * MIB)
        tally.check(f"5 TB, inspect {' '.join(view)} in 64 MB: {done.seconds:.2f} s",
                    done.complaints() + ["slower than 1 s" if done.seconds > 1 else ""])
    done = Done([ckpt, "strip-dataparallel", "-n", path], address_space=64 * MIB)
    renamed = b"1000 keys renamed" in done.out or b"1,000 keys renamed" in done.out
    tally.check(f"5 TB, strip-dataparallel --dry-run in 64 MB: {done.seconds:.2f} s",
                done.complaints() + ["" if renamed else "the report doesn't say that 1000 keys are renamed"])
    done = Done([ckpt, "filter-keys", "-n", "--keep", "re:[05]\\.", "--allow-unmatched", "--drop", "re:^$", path], address_space=64 * MIB)
    tally.check("5 TB, filter-keys --dry-run: an answer within 64 MB", [] if done.status in (0, 2) else done.complaints())
    path.unlink()


def beyond_4_gib(tally, ckpt, directory):
    """Edits that keep what lies beyond 4 GiB there, and edits that bring it back; holes stay holes on the way."""
    # reading a hole of a tmpfs takes no memory; any other file system fills its cache with zeros
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else directory
    with tempfile.TemporaryDirectory(prefix="ckpt-scale-", dir=place) as name:
        far_edits(tally, ckpt, pathlib.Path(name) / "far.pt", directory / "edited.pt")


def far_edits(tally, ckpt, source, target):
    try:
        far_archive.write_archive(source)
    except OSError as error:
        print(f"skipped: records beyond 4 GiB ({error.strerror})")
        return
    done = Done([ckpt, "inspect", "--json", source], address_space=64 * MIB)
    said = json.loads(done.out)["files"][0] if done.status == 0 else {"tensors": [], "findings": []}
    shapes = {tensor["name"]: tuple(tensor["shape"]) for tensor in said["tensors"]}
    findings = [finding["id"] for finding in said["findings"] if finding["id"].startswith("zip")]
    tally.check("records beyond 4 GiB, inspect in 64 MB",
                done.complaints() + [f"tensors {shapes}" if shapes != far_archive.SHAPES else "", *findings])

    # an edit ends the file's identity, and a drop the promise that places can be computed
    identity = {".data/serialization_id"}
    promise = {*identity, ".format_version", ".storage_alignment"}
    edits = [
        (["filter-keys", "--drop", "=module.huge"], {*promise, "data/1"}, ["near", "far", "long"]),
        (["strip-dataparallel"], identity, ["near", "huge", "far", "long"]),
        (["rename-keys", "--add-prefix", "x" * 5000 + "."], identity, ["near", "huge", "far", "long"]),
        (["filter-keys", "--drop", "=module.near"], {*promise, "data/0"}, ["huge", "far", "long"]),
        (["filter-keys", "--drop", "=module.far"], {*promise, "data/2"}, ["near", "huge", "long"]),
    ]
    for arguments, gone, left in edits:
        wrong = far_archive.edit([ckpt, *arguments], source, target)
        faults = [wrong] if wrong else far_archive.faults_of_edit(source, target, gone)
        keys = Done([ckpt, "inspect", "--keys", target], address_space=64 * MIB)
        names = [key.rpartition(".")[2] for key in keys.out.decode().splitlines()]
        tally.check(f"records beyond 4 GiB, {' '.join(arguments)[:50]}", [*faults, *keys.complaints(), f"keys {names}" if names != left else ""])
        target.unlink()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", required=True, type=os.path.abspath, help="the program")
    parser.add_argument("--full", action="store_true", help="also the cases that take minutes")
    parser.add_argument("--directory", help="where to put the files (default: TMPDIR)")
    return parser.parse_args()


def main():
    options = parse_arguments()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="ckpt-scale-", dir=options.directory) as name:
        directory = pathlib.Path(name)
        start_up(tally, options.ckpt)
        needed_libraries(tally, options.ckpt)
        deep_nesting(tally, options.ckpt, directory)
        many_tensors(tally, options.ckpt, directory, 100_000)
        if options.full:
            many_tensors(tally, options.ckpt, directory, 1_000_000)
        terabytes(tally, options.ckpt, directory)
        beyond_4_gib(tally, options.ckpt, directory)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
