"""A stored file of any bytes, shown: SHOW BINLOG EVENTS and ``binlogd events``.

    flags1  1 raw  2 from a position on  4 the events are within a payload  8 which is not compressed  ·  position4
    then    raw: the file; otherwise events behind their lengths, each led by how it is to be mended (shapes.py)

What is shown stands in order and without holes, one line an event, in a space that the file justifies. A payload may
say the same a million times over: no more of it is looked at than MOST steps, each of which gives way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from binlogd.binlog.description import PREFIX, describe
from binlogd.binlog.header import BINLOG_MAGIC, ChecksumAlgorithm, EventType, with_checksum
from binlogd.cli.events import _cells, _line, _row
from binlogd.store.events import DamagedAt, read_events
from tests.fuzz import shapes
from tests.fuzz.shapes import FORMAT_DESCRIPTION, HEADER

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

HEAD = 5  # flags and position
MOST = 2000
WIDTH = 200  # bytes of a line beside its Info
GROWTH = 8  # bytes of Info for a byte of the event: a byte that cannot be printed is \\xff, a GTID 16 bytes of 43
LISTED = 100  # GTIDs, or what else is printed of fixed fields


def run(data: bytes) -> None:
    """See the package."""
    if len(data) < HEAD:
        return
    flags, begin = data[0], int.from_bytes(data[1:HEAD], "little")
    file = data[HEAD:] if flags & 1 else BINLOG_MAGIC + _events(data[HEAD:], flags)
    descriptor = os.memfd_create("binlog", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, file)
        _show(descriptor, len(file), begin if flags & 2 else 0)
    finally:
        os.close(descriptor)


def _show(descriptor: int, size: int, begin: int) -> None:
    at: int | None = None
    try:
        for event in islice(read_events(descriptor, size, begin=begin), MOST):
            if event is None:
                continue
            assert begin <= event.offset < event.end <= size if not event.inside else event.offset == event.end == at
            assert at in (None, event.offset)
            at = event.end
            name, info = describe(event.header, event.data, event.checksum_length, mariadb=event.mariadb)
            inflated = PREFIX if event.header.type == EventType.MARIADB_QUERY_COMPRESSED else 0
            assert name and len(info) <= GROWTH * (len(event.data) + LISTED) + inflated
            row = _row(event)
            assert "\n" not in json.dumps(row)
            line = _line(_cells(row))
            assert line.isprintable() and len(line) <= WIDTH + GROWTH * (len(info) + 1)
    except DamagedAt as error:
        assert 0 <= error.offset <= size and "\n" not in str(error)


def _events(body: bytes, flags: int) -> bytes:
    """The file behind its magic."""
    made = [event for _, event in shapes.mended(body)]
    if not flags & 4:
        return b"".join(made)
    head = [event for event in made[:1] if event[4:5] == bytes((FORMAT_DESCRIPTION,))]
    algorithm = ChecksumAlgorithm.CRC32 if not head or head[0][-5:-4] == b"\1" else ChecksumAlgorithm.OFF
    inner = b"".join(_bare(event, algorithm.length) for event in made[len(head) :])
    packed = inner if flags & 8 else zstd.compress(inner)
    fields = b"".join(
        bytes((field, 9, 0xFE)) + number.to_bytes(8, "little")
        for field, number in ((2, 255 if flags & 8 else 0), (3, len(inner)), (1, len(packed)))
    )
    header = bytes(4) + bytes((EventType.TRANSACTION_PAYLOAD,)) + bytes(HEADER - 5)
    return b"".join(head) + with_checksum(header + fields + b"\0" + packed, algorithm)


def _bare(event: bytes, checksum: int) -> bytes:
    """As it is within a payload, without the checksum that it was given: its length is less by that."""
    length = int.from_bytes(event[9:13], "little")
    if not checksum or len(event) < HEADER + checksum or length != len(event):
        return event
    return event[:9] + (length - checksum).to_bytes(4, "little") + event[13:-checksum]


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """The events of real dumps, some at a time behind the head of their file; and as they are, in a file."""
    for found in shapes.events(captures):
        head = next((event for event in found if event[4] == FORMAT_DESCRIPTION), None)
        if head is None:
            continue
        rest = [event for event in found if event[4] != FORMAT_DESCRIPTION]
        for event in {event[4]: event for event in reversed(found)}.values():
            if event is not head:
                yield bytes(HEAD) + shapes.join([b"\0" + head, b"\0" + event])
        for at in range(0, min(len(rest), 1000), 10):
            body = shapes.join([b"\0" + event for event in (head, *rest[at : at + 10])])
            yield bytes(HEAD) + body
            yield b"\4" + bytes(HEAD - 1) + body
            if at % 40 == 0:
                yield b"\x0c" + bytes(HEAD - 1) + body
                yield b"\1" + bytes(HEAD - 1) + BINLOG_MAGIC + _events(body, 0)
