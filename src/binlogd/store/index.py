"""What a binary log holds, beside it: ``mysql-bin.000001.idx``, and the list of files, ``mysql-bin.index``.

An ``.idx`` is text. Its first line is a JSON object, the summary, so that opening a store of ten thousand files
reads one short line of each. (Of PREVIOUS_GTIDS, which stand at the file's beginning and can be many times longer than
all the rest, it has a fingerprint.) Every further line is a *mark*, which walk.py tells of::

    offset timestamp gtid before        at ``offset`` the transaction ``gtid`` begins
    5242880 1700000000 3e11fa47-71ca-11e1-9e33-c80aa9429562:77 3e11fa47-71ca-11e1-9e33-c80aa9429562:40-76

``-`` stands for no GTID, and for an empty set; ``?`` for a ``before`` that is not known. Every line is *sealed*: it
ends with the CRC-32 of what stands before, so that no bit that flips on the disk makes a transaction be left out.

While a file is received its marks gather in ``mysql-bin.000001.marks``: a line for each as it comes, written and
never synced, behind a line with the format's version and the file's name. When the file is finished they become its
``.idx``. After a crash they are written anew from the walk over the file, and whatever else is found of them goes.

All of this is derivable: missing, unsound or of another version, it is made again by one walk over the file. A sound
``.idx`` of another size than the file's tells that the file was cut, or grew, since it was finished: that is damage,
for a finished file never changes. Marks count up to the first line that is none, and who begins at one looks first
whether the file has there what it says. Nothing may rely on them beyond that.

``mysql-bin.index`` has a line ``./mysql-bin.000001`` for each file, as mysqld writes it, so that its tools can use
the folder. It follows the folder, never the other way round.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import Gtid, GtidSet, format_gtid
from binlogd.binlog.walk import Mark
from binlogd.store.disk import Disk, explained
from binlogd.store.layout import Timeline, binlog_base

VERSION = 3  # of the .idx format and of the marks; another version is stale
SUMMARY_SIZE = 4096  # bytes of the first line that are likely to be all of it
MAX_SUMMARY = 64 * 1024 * 1024  # bytes of the first line: a GTID set of two million intervals
FINGERPRINTS = 2**64
MAX_MARK = 1024 * 1024  # bytes of a mark's line: the transactions of a MiB, each of another source


@dataclass(frozen=True, slots=True)
class Summary:
    """What one binary log holds. Sizes are bytes, times seconds since the epoch (0: no event has one).

    ``claimed`` is the fingerprint of its PREVIOUS_GTIDS. It is None when the file has none (yet): that of the empty
    set would claim that nothing is before it.
    """

    name: str
    size: int
    first_time: int
    last_time: int
    claimed: int | None
    added: GtidSet
    transactions: int
    checksum: int  # the algorithm: 0 none, 1 CRC32
    server_version: str


def fingerprint(gtids: GtidSet) -> int:
    """A number below 2**64 that stands for a set. For sets that have nothing in common it adds up, modulo 2**64.

    Each interval counts as the hash of its end less that of its beginning, so that two which meet add up to one.
    """
    total = 0
    for sid, tag, first, last in gtids.runs():
        total += _hashed(sid, tag, last + 1) - _hashed(sid, tag, first)
    return total % FINGERPRINTS


def _hashed(sid: bytes, tag: str, boundary: int) -> int:
    return int.from_bytes(blake2b(sid + boundary.to_bytes(8) + tag.encode(), digest_size=8).digest())


def index_path(binlog: Path) -> Path:
    """Where the .idx of a binary log lies."""
    return binlog.with_name(binlog.name + ".idx")


def marks_path(binlog: Path) -> Path:
    """Where the marks of a binary log gather while it is received."""
    return binlog.with_name(binlog.name + ".marks")


def write_index(disk: Disk, folder: Path, summary: Summary, marks: bytes) -> None:
    """Write the .idx of a finished file. OSErrors pass: the caller knows what they mean to it."""
    head = {
        "version": VERSION,
        "name": summary.name,
        "size": summary.size,
        "first_time": summary.first_time,
        "last_time": summary.last_time,
        "claimed": summary.claimed,
        "added": summary.added.compact(),
        "transactions": summary.transactions,
        "checksum": summary.checksum,
        "server_version": summary.server_version,
    }
    disk.replace(index_path(folder / summary.name), _sealed(json.dumps(head)) + marks)


def _sealed(text: str) -> bytes:
    """The line with its CRC-32 behind it."""
    line = text.encode(errors="surrogateescape")
    return b"%b %08x\n" % (line, crc32(line))


def _unsealed(line: bytes) -> str:
    """What was sealed; ValueError when this is not it any more."""
    text, _, seal = line.rpartition(b" ")
    if seal != b"%08x\n" % crc32(text):
        raise ValueError("unsound")
    return text.decode(errors="surrogateescape")


def fetch_summaries(binlogs: Iterable[Path]) -> None:
    """Have the kernel fetch the summaries of many files from the disk at once, before they are read one by one."""
    for binlog in binlogs:
        with suppress(OSError):
            descriptor = os.open(f"{binlog}.idx", os.O_RDONLY | os.O_CLOEXEC)  # 10,000 more Paths are a MiB
            try:
                os.posix_fadvise(descriptor, 0, SUMMARY_SIZE, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


def read_summary(binlog: Path, size: int) -> Summary | None:
    """The summary beside a binary log of ``size`` bytes; None when missing or of something else."""
    recorded = read_recorded(binlog)
    return recorded if recorded is not None and recorded.size == size else None


def read_recorded(binlog: Path) -> Summary | None:
    """The summary beside a binary log, whatever size that has now; None when there is none, or no sound one."""
    try:
        with open(f"{binlog}.idx", "rb") as file:
            return _decode_summary(file, binlog.name)
    except OSError:
        return None  # derivable: a reader walks the file, the receiver writes it again


def _decode_summary(file: IO[bytes], name: str) -> Summary | None:
    """The summary in the first line, when it is one of this file."""
    try:
        head: dict[str, Any] = json.loads(_unsealed(file.readline(MAX_SUMMARY)))
        if head["version"] != VERSION or head["name"] != name:
            return None
        return Summary(
            name=name,
            size=int(head["size"]),
            first_time=int(head["first_time"]),
            last_time=int(head["last_time"]),
            claimed=None if head["claimed"] is None else int(head["claimed"]),
            added=GtidSet.parse(head["added"]),
            transactions=int(head["transactions"]),
            checksum=int(head["checksum"]),
            server_version=str(head["server_version"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


# --- marks ---


def marks_head(name: str) -> bytes:
    """The line before the marks of a file that is received."""
    return f"{VERSION} {name}\n".encode(errors="surrogateescape")


def encode_marks(marks: Iterable[Mark]) -> bytes:
    """A line for each."""
    lines = []
    for mark in marks:
        gtid = format_gtid(mark.sid, mark.tag, mark.gno) if mark.gno else "-"
        before = "?" if mark.before is None else mark.before.compact() or "-"
        lines.append(_sealed(f"{mark.offset} {mark.timestamp} {gtid} {before}"))
    return b"".join(lines)


def read_marks(binlog: Path) -> Iterator[Mark]:
    """The marks of a binary log, as far as there are any: read while they are asked for."""
    with suppress(OSError):
        with open(marks_path(binlog), "rb") as file:
            if file.readline(MAX_SUMMARY) == marks_head(binlog.name):
                yield from _decode_marks(file)
                return
    with suppress(OSError):
        with open(index_path(binlog), "rb") as file:
            summary = _decode_summary(file, binlog.name)
            if summary is not None and summary.size == binlog.stat().st_size:
                yield from _decode_marks(file)


def _decode_marks(file: IO[bytes]) -> Iterator[Mark]:
    last = 0
    while (line := file.readline(MAX_MARK)).endswith(b"\n"):
        try:
            offset, timestamp, gtid, before = _unsealed(line).split(" ")
            mark = Mark(
                int(offset),
                int(timestamp),
                *((b"", "", 0) if gtid == "-" else Gtid.parse(gtid)),
                None if before == "?" else GtidSet() if before == "-" else GtidSet.parse(before),
            )
        except ValueError:
            return
        if mark.offset <= last:
            return
        last = mark.offset
        yield mark


# --- the list of files ---


def write_file_list(disk: Disk, timeline: Timeline, names: list[str]) -> None:
    """Write ``<base>.index`` anew, with these files of the timeline."""
    if names:
        path = list_path(timeline, names[-1])
        with explained("write", path):
            disk.replace(path, "".join(f"./{name}\n" for name in names).encode())


def add_to_file_list(disk: Disk, timeline: Timeline, name: str) -> None:
    """Put a new file behind the others in ``<base>.index``, durably; without rewriting it, for it may be long."""
    path = list_path(timeline, name)
    with explained("write", path):
        try:
            descriptor = disk.open_append(path)
        except FileNotFoundError:
            write_file_list(disk, timeline, timeline.binlogs())
            return
        try:
            disk.write(descriptor, f"./{name}\n".encode())
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)


def list_path(timeline: Timeline, name: str) -> Path:
    """Where the list of a timeline's files lies, of which ``name`` is one."""
    return timeline.path / f"{binlog_base(name)}.index"
