# SPDX-License-Identifier: BSD-3-Clause
"""Archives with records beyond 4 GiB: writing them with holes, taking edits of them through a pipe, and reading them byte by byte.

Nothing here shares code with ckpt, and nothing here moves the gigabytes that are holes.
"""
from __future__ import annotations

import fcntl
import os
import runpy
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 0xFFFFFFFF
CHUNK = 1 << 20
# Storages: a near one, one that is itself longer than 4 GiB, and two whose headers lie beyond that.
SHAPES = {"module.near": (100,), "module.huge": ((1 << 30) + 1024,), "module.far": (100,), "module.long": (100_000,)}


def write_archive(path: Path) -> None:
    """The archive that PyTorch 2.7 and later write for SHAPES, its storages filled by `fill_storages`."""
    maker = runpy.run_path(str(ROOT / "scripts/bench/make-files"))
    pickle, archive = maker["Pickle"](), maker["Archive"](path)
    for index, (key, shape) in enumerate(SHAPES.items()):
        pickle.tensor(key, str(index), shape)
    archive.add_bytes("data.pkl", bytes(pickle.out) + b"u.")
    for name, text in ((".format_version", b"1"), (".storage_alignment", b"64"), ("byteorder", b"little")):
        archive.add_bytes(name, text)
    for index, (elements,) in enumerate(SHAPES.values()):
        archive.add(f"data/{index}", elements * 4, None, 0)
    archive.add_bytes("version", b"3\n")
    archive.add_bytes(".data/serialization_id", b"0" * 40)
    archive.close()
    fill_storages(path)


def fill_storages(path: Path) -> None:
    """Some bytes of every storage, so that it matters where they are: the first, the last, and some in the middle."""
    with open(path, "r+b") as file:
        for record in records(path):
            if record.name.startswith("data/"):
                mark = f"<{record.name}>".encode()
                for at in {0, record.size // 2, record.size - len(mark)}:
                    file.seek(record.data + at)
                    file.write(mark)


# ---- edits


def drain(pipe: BinaryIO, path: Path) -> None:
    """Writes what the pipe gives, with holes for zeros."""
    buffer, zeros = bytearray(CHUNK), bytes(CHUNK)
    with open(path, "wb") as out:
        while size := pipe.readinto(buffer):
            chunk = buffer[:size]
            if chunk == zeros[:size]:
                out.seek(size, os.SEEK_CUR)
            else:
                out.write(chunk)
        out.truncate()


def edit(command: list[Any], source: Path, target: Path) -> str | None:
    """Runs a ckpt command that writes to standard output; what went wrong, or None."""
    with subprocess.Popen([*command, source, "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, CHUNK)
        drain(process.stdout, target)
        said = process.stderr.read().decode(errors="replace").strip()
    return f"status {process.returncode}: {said[:300]}" if process.returncode != 0 else None


# ---- reading


class Record(NamedTuple):
    name: str  # below the root
    offset: int  # of the local header
    local: tuple[int, ...]  # its numbers, from the version to the CRC and the sizes
    zip64: bytes | None  # contents of its zip64 field
    data: int
    size: int
    end: int  # behind the descriptor
    descriptor: tuple[int, ...]  # signature, CRC, sizes
    info: zipfile.ZipInfo


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        yield kind, extra[4:4 + size]
        extra = extra[4 + size:]


def records(path: Path) -> list[Record]:
    """Every record of an archive of PyTorch's, in the order of the directory, as zipfile and its own header tell."""
    found = []
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for info in archive.infolist():
            file.seek(info.header_offset)
            signature, *local, name_size, extra_size = struct.unpack("<IHHHHHIIIHH", file.read(30))
            assert signature == 0x04034B50, f"no local header of '{info.filename}' at {info.header_offset}"
            name, extra = file.read(name_size).decode(), file.read(extra_size)
            assert name == info.filename, f"the header of '{info.filename}' says '{name}'"
            fields = dict(extra_fields(extra))
            data = file.tell()
            file.seek(data + info.file_size)
            start = file.read(24)
            wide = info.header_offset >= LIMIT or info.file_size >= LIMIT or struct.unpack_from("<IIQQ", start)[2:] == (info.file_size,) * 2
            layout = struct.Struct("<IIQQ" if wide else "<IIII")
            found.append(Record(info.filename.partition("/")[2], info.header_offset, tuple(local), fields.get(1), data, info.file_size,
                                data + info.file_size + layout.size, layout.unpack_from(start), info))
    return found


def pieces(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(offset from `begin`, bytes) of what is no hole."""
    at = begin
    while at < end:
        try:
            at = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # nothing but a hole
            return
        stop = min(os.lseek(file.fileno(), at, os.SEEK_HOLE), end)
        while at < stop:
            chunk = os.pread(file.fileno(), min(CHUNK, stop - at), at)
            yield at - begin, chunk
            at += len(chunk)


def same_bytes(one: BinaryIO, one_at: int, other: BinaryIO, other_at: int, size: int) -> bool:
    """Asked from both sides, as one may have zeros where the other has a hole."""
    return all(
        os.pread(b.fileno(), len(chunk), b_at + at) == chunk
        for a, a_at, b, b_at in ((one, one_at, other, other_at), (other, other_at, one, one_at))
        for at, chunk in pieces(a, a_at, a_at + size))


def wide_numbers(*numbers: int) -> bytes:
    return b"".join(struct.pack("<Q", number) for number in numbers if number >= LIMIT)


def faults_of_directory(path: Path, found: list[Record]) -> list[str]:
    """Whether the end of the archive says where its directory is, in both spellings."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(size - 98)
        wide = struct.unpack("<IQHHIIQQQQ", file.read(56))
        locator = struct.unpack("<IIQI", file.read(20))
        end = struct.unpack("<IHHHHIIH", file.read(22))
    start, count = max(record.end for record in found), len(found)
    length = size - 98 - start
    expected = {
        "zip64 end record": (wide, (0x06064B50, 44, 0x31E, 45, 0, 0, count, count, length, start)),
        "zip64 locator": (locator, (0x07064B50, 0, size - 98, 1)),
        "end record": (end, (0x06054B50, 0, 0, count, count, length, min(start, LIMIT), 0)),
    }
    return [f"{what} {got}, expected {want}" for what, (got, want) in expected.items() if got != want]


def faults_of_edit(source: Path, target: Path, gone: set[str]) -> list[str]:
    """What is wrong with an edited archive: every record but those in `gone` must be there, in its order and with its bytes and
    numbers, only elsewhere; the pickle alone may be another."""
    before, after = records(source), records(target)
    faults = faults_of_directory(target, after)
    names = [record.name for record in before if record.name not in gone]
    if names != [record.name for record in after]:
        return [*faults, f"records {[record.name for record in after]}, expected {names}"]
    was = {record.name: record for record in before}
    attributes = ("date_time", "compress_type", "comment", "create_system", "create_version", "extract_version", "reserved",
                  "flag_bits", "volume", "internal_attr", "external_attr")
    at = 0
    with open(source, "rb") as old_file, open(target, "rb") as new_file:
        for new in after:
            old = was[new.name]

            def check(what: str, got: Any, want: Any) -> None:
                if got != want:
                    faults.append(f"{new.name}: {what} {got!r}, expected {want!r}")

            check("offset", new.offset, at)
            at = new.end
            check("alignment", new.data % 64, old.data % 64 if old.size == 0 else 0)
            for attribute in attributes:
                check(attribute, getattr(new.info, attribute), getattr(old.info, attribute))
            check("sizes", (new.info.file_size, new.info.compress_size), (new.size, new.size))
            numbers = wide_numbers(new.size, new.size, new.offset)
            check("extra field", new.info.extra, struct.pack("<HH", 1, len(numbers)) + numbers if numbers else b"")
            check("descriptor", new.descriptor, (0x08074B50, new.info.CRC, new.size, new.size))
            check("local header", new.local, old.local)
            if new.offset >= LIMIT:
                check("offset in its own header", new.zip64[-8:] if new.zip64 else None, struct.pack("<Q", new.offset))
            if new.name == "data.pkl":
                continue
            check("size", new.size, old.size)
            check("CRC", new.info.CRC, old.info.CRC)
            if not same_bytes(old_file, old.data, new_file, new.data, new.size):
                faults.append(f"{new.name}: other bytes")
    return faults
