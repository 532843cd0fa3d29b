"""The stored files beside the source's: names, bytes, and which transactions are in them.

Read with the few lines below and not with binlogd's own modules, whose work is judged.
"""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

from testbed.binlogd import Binlogd, first_difference
from testbed.mysqld import Server
from testbed.soak.judge import FilePair

MAGIC = b"\xfebin"
HEADER = 19
GTID_EVENT = 33
"""Body: flags, the source's UUID, the number, eight bytes, little-endian."""


def gtids_in(path: Path) -> list[str]:
    """The GTID of each transaction in a binary log, in their order."""
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{path} does not begin as a binary log")
    found, at = [], len(MAGIC)
    while at < len(data):
        kind, size = data[at + 4], int.from_bytes(data[at + 9 : at + 13], "little")
        if size < HEADER or at + size > len(data):
            raise ValueError(f"{path} has an event of {size} bytes at {at} and ends at {len(data)}")
        if kind == GTID_EVENT:
            sid, number = struct.unpack_from("<16sq", data, at + HEADER + 1)
            found.append(f"{UUID(bytes=sid)}:{number}")
        at += size
    return found


def logged_at(source: Server) -> list[str]:
    """The names of the source's binary logs, whether it runs or not."""
    return [Path(line).name for line in (source.binlog_dir / "mysql-bin.index").read_text().split()]


def compare(binlogd: Binlogd, source: Server, names: list[str]) -> list[FilePair]:
    """Stored files of ``names`` beside the source's; the newest, still written to, as far as it is published."""
    newest, published = binlogd.published
    pairs = []
    for name in names:
        ours, theirs = binlogd.file(name), source.binlog_dir / name
        finished = name != newest
        size = ours.stat().st_size if finished else published
        difference = first_difference(ours, theirs, None if finished else published, in_use=not finished)
        pairs.append(FilePair(name, finished, size, theirs.stat().st_size, difference))
    return pairs
