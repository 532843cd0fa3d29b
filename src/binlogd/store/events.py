"""The events of a stored file one by one, in steps of bounded size: for whoever shows them, not for dumps.

A file is read block by block; of an event larger than PREFIX (binlog/description.py) only the beginning is kept, so
that memory grows neither with the file nor with an event.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from binlogd.binlog.crc import crc32
from binlogd.binlog.description import PREFIX
from binlogd.binlog.events import FormatDescription
from binlogd.binlog.header import (
    BINLOG_MAGIC,
    CRC_LENGTH,
    HEADER_LENGTH,
    ChecksumAlgorithm,
    EventFlag,
    EventType,
    Header,
)
from binlogd.binlog.payload import PayloadEvents
from binlogd.binlog.transaction_events import TransactionPayload
from binlogd.binlog.walk import MAX_EVENT, Mark
from binlogd.errors import EventError
from binlogd.store.reader import BLOCK, FIRST_EVENT
from binlogd.store.seek import holds

_IN_USE: Final = 17  # the byte of FORMAT_DESCRIPTION's flags that its CRC does not cover


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """``data`` is the event as far as it is shown."""

    offset: int
    header: Header
    data: memoryview
    checksum_length: int
    inside: bool = False  # a TRANSACTION_PAYLOAD, behind which it is shown
    mariadb: bool = False  # whose file it is

    @property
    def end(self) -> int:
        """The offset behind it in its file."""
        return self.offset if self.inside else self.offset + self.header.length

    @property
    def end_log_pos(self) -> int:
        """What it says itself of where it ends, beyond 4 GiB too: 0 where MariaDB leaves that out."""
        return self.end if self.inside or self.header.log_pos else 0


class DamagedAt(EventError):
    """No sound event is at ``offset``."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def read_events(
    descriptor: int, end: int, *, begin: int = FIRST_EVENT, marks: Iterable[Mark] = ()
) -> Iterator[ShownEvent | None]:
    """The events from the first that does not begin before ``begin`` up to ``end`` of the file; None now and then
    while none is shown, so that whoever asks can do something else.

    ``marks`` are places where transactions begin, in order: what is before ``begin`` need not be read. Raises DamagedAt
    at the first event that is cut short or not sound.
    """
    if end < FIRST_EVENT + HEADER_LENGTH:
        return
    described = _described(descriptor, end)
    algorithm, mariadb = described.algorithm, "MariaDB" in described.server_version
    position = FIRST_EVENT
    for mark in marks:
        if mark.offset > begin:
            break
        if holds(descriptor, mark, end, algorithm.length):
            position = mark.offset
    block, at = b"", position  # and the offset of the block
    while position < end:
        if position + HEADER_LENGTH > at + len(block):
            yield None
            block, at = os.pread(descriptor, BLOCK, position), position
        header = _header(block, position - at, position, end)
        if position < begin:
            position += header.length
            continue
        if position + header.length > at + len(block):
            yield None
            block, at = os.pread(descriptor, max(BLOCK, min(header.length, PREFIX)), position), position
        data = memoryview(block)[position - at : position - at + min(header.length, max(PREFIX, BLOCK))]
        for _ in _check(descriptor, position, header, data, algorithm):
            yield None
        event = ShownEvent(position, header, data, algorithm.length, mariadb=mariadb)
        yield event
        if header.type == EventType.TRANSACTION_PAYLOAD:
            yield from _inside(descriptor, event)
        position += header.length


def _described(descriptor: int, end: int) -> FormatDescription:
    """What the first event says of the others; DamagedAt when the file does not begin as a binary log."""
    if os.pread(descriptor, FIRST_EVENT, 0) != BINLOG_MAGIC:
        raise DamagedAt(0, "the file does not begin like a binary log")
    header = _header(os.pread(descriptor, HEADER_LENGTH, FIRST_EVENT), 0, FIRST_EVENT, end)
    try:
        return FormatDescription.decode(os.pread(descriptor, min(header.length, BLOCK), FIRST_EVENT))
    except EventError as bad:
        raise DamagedAt(FIRST_EVENT, bad.message) from bad


def _inside(descriptor: int, event: ShownEvent) -> Iterator[ShownEvent | None]:
    """The events of a transaction that is one event; they all stand where it ends, as mysqld shows them."""
    try:
        payload = TransactionPayload.decode(event.data, event.checksum_length)
        events, done = PayloadEvents(payload.compression), 0
        while done < payload.payload_size:
            at = event.offset + payload.payload_offset + done
            piece = os.pread(descriptor, min(BLOCK, payload.payload_size - done), at)
            if not piece:
                raise EventError("the file ends within it")
            for found in events.feed(piece):
                yield found and ShownEvent(event.end, found[0], memoryview(found[1]), 0, inside=True)
            done += len(piece)
        events.end()
    except DamagedAt:
        raise
    except EventError as bad:
        raise DamagedAt(event.offset, bad.message) from bad


def _header(block: bytes, index: int, position: int, end: int) -> Header:
    if position + HEADER_LENGTH > end or len(block) - index < HEADER_LENGTH:
        raise DamagedAt(position, "an event's header is cut short by the end of the file")
    try:
        header = Header.decode(block, index)
    except EventError as bad:
        raise DamagedAt(position, bad.message) from bad
    if header.length > MAX_EVENT:
        raise DamagedAt(position, f"an event claims {header.length} bytes, more than any has")
    if position + header.length > end:
        raise DamagedAt(position, f"an event of {header.length} bytes is cut short by the end of the file")
    return header


def _check(
    descriptor: int, position: int, header: Header, data: memoryview, algorithm: ChecksumAlgorithm
) -> Iterator[None]:
    """DamagedAt unless the checksum is that of the event; gives way now and then."""
    described = header.type == EventType.FORMAT_DESCRIPTION and algorithm is not ChecksumAlgorithm.UNDEF
    if algorithm is not ChecksumAlgorithm.CRC32 and not described:
        return
    covered = header.length - CRC_LENGTH
    first = data[:covered]
    if header.type == EventType.FORMAT_DESCRIPTION:
        cleared = bytearray(first)
        cleared[_IN_USE] &= ~EventFlag.IN_USE & 0xFF
        first = memoryview(cleared)
    crc, done = crc32(first), len(first)
    while done < covered:
        yield
        piece = os.pread(descriptor, min(BLOCK, covered - done), position + done)
        if not piece:
            raise DamagedAt(position, "the file ends within an event")
        crc, done = crc32(piece, crc), done + len(piece)
    stored = data[covered:] if len(data) == header.length else os.pread(descriptor, CRC_LENGTH, position + covered)
    if crc != int.from_bytes(stored, "little"):
        raise DamagedAt(position, f"the event (type {header.type}, {header.length} bytes) fails its CRC-32")
