"""What a binary log holds, beside it: ``mysql-bin.000001.idx``, and the list of files, ``mysql-bin.index``.

An ``.idx`` is text. Its first line is a JSON object, the summary, so that opening a store of ten thousand files
reads one line of each; every further line is a mark, ``offset timestamp sid:gno`` (a MariaDB or anonymous
transaction has ``-`` for its GTID): at ``offset`` that transaction begins. Marks are about a MiB apart, so a seek
reads one block.

It is derivable: written when the file is finished, it is current exactly while ``size`` is the file's size;
missing or stale, it is made again by one walk over the file. Nothing may rely on it beyond that.

``mysql-bin.index`` has a line ``./mysql-bin.000001`` for each file, as mysqld writes it, so that its tools can use
the folder. It follows the folder, never the other way round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.walk import Mark
from binlogd.store.disk import Disk, explained
from binlogd.store.layout import Timeline, binlog_base

VERSION = 1  # of the .idx format; another version is stale
MAX_SUMMARY = 64 * 1024 * 1024  # bytes of the first line: two GTID sets of a million intervals each


@dataclass(frozen=True, slots=True)
class Summary:
    """What one binary log holds. Sizes are bytes, times seconds since the epoch (0: no event has one).

    ``previous`` is None when the file has no PREVIOUS_GTIDS (yet): an empty set would claim that nothing is before it.
    """

    name: str
    size: int
    first_time: int
    last_time: int
    previous: GtidSet | None
    added: GtidSet
    transactions: int
    checksum: int  # the algorithm: 0 none, 1 CRC32
    server_version: str


def index_path(binlog: Path) -> Path:
    """Where the .idx of a binary log lies."""
    return binlog.with_name(binlog.name + ".idx")


def write_index(disk: Disk, folder: Path, summary: Summary, marks: list[Mark]) -> None:
    """Write the .idx of a finished file. OSErrors pass: the caller knows what they mean to it."""
    head = {
        "version": VERSION,
        "name": summary.name,
        "size": summary.size,
        "first_time": summary.first_time,
        "last_time": summary.last_time,
        "previous": None if summary.previous is None else summary.previous.compact(),
        "added": summary.added.compact(),
        "transactions": summary.transactions,
        "checksum": summary.checksum,
        "server_version": summary.server_version,
    }
    lines = [json.dumps(head)]
    lines += [f"{mark.offset} {mark.timestamp} {_gtid_text(mark)}" for mark in marks]
    disk.replace(index_path(folder / summary.name), ("\n".join(lines) + "\n").encode())


def read_summary(binlog: Path, size: int) -> Summary | None:
    """The summary beside a binary log of ``size`` bytes; None when missing or stale."""
    try:
        with open(index_path(binlog), "rb") as file:
            head: dict[str, Any] = json.loads(file.readline(MAX_SUMMARY))
        if head["version"] != VERSION or head["size"] != size or head["name"] != binlog.name:
            return None
        return Summary(
            name=binlog.name,
            size=size,
            first_time=int(head["first_time"]),
            last_time=int(head["last_time"]),
            previous=None if head["previous"] is None else GtidSet.parse(head["previous"]),
            added=GtidSet.parse(head["added"]),
            transactions=int(head["transactions"]),
            checksum=int(head["checksum"]),
            server_version=str(head["server_version"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None  # derivable: a reader walks the file, the receiver writes it again


def read_marks(binlog: Path) -> list[Mark]:
    """The marks beside a binary log; empty when there are none to be had."""
    try:
        lines = index_path(binlog).read_text().splitlines()[1:]
        marks = []
        for line in lines:
            offset, timestamp, gtid = line.split(" ")
            if gtid == "-":
                marks.append(Mark(int(offset), int(timestamp), b"", "", 0))
            else:
                sid, _, rest = gtid.partition(":")
                tag, _, gno = rest.rpartition(":")
                marks.append(Mark(int(offset), int(timestamp), UUID(sid).bytes, tag, int(gno)))
    except (OSError, ValueError):
        return []
    return marks


def _gtid_text(mark: Mark) -> str:
    if not mark.gno:
        return "-"
    return f"{UUID(bytes=mark.sid)}:{mark.tag + ':' if mark.tag else ''}{mark.gno}"


def write_file_list(disk: Disk, timeline: Timeline) -> None:
    """Write ``<base>.index`` anew from the folder."""
    names = timeline.binlogs()
    if names:
        path = timeline.path / f"{binlog_base(names[-1])}.index"
        with explained("write", path):
            disk.replace(path, "".join(f"./{name}\n" for name in names).encode())
