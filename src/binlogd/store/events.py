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
from binlogd.binlog.header import CRC_LENGTH, HEADER_LENGTH, ChecksumAlgorithm, EventFlag, EventType, Header
from binlogd.binlog.walk import MAX_EVENT, Mark
from binlogd.errors import EventError
from binlogd.store.reader import BLOCK, FIRST_EVENT, read_head
from binlogd.store.seek import holds

_IN_USE: Final = 17  # the byte of FORMAT_DESCRIPTION's flags that its CRC does not cover


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """``data`` is the event as far as it is shown; ``end`` is where it ends in its file."""

    offset: int
    header: Header
    data: memoryview
    checksum_length: int

    @property
    def end(self) -> int:
        """The offset behind it: what log_pos says, beyond 4 GiB too, and where MariaDB leaves it out."""
        return self.offset + self.header.length


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
    try:
        head = read_head(descriptor, end)
    except EventError as bad:
        raise DamagedAt(FIRST_EVENT, bad.message) from bad
    if head is None:
        return
    length = head.algorithm.length
    position = FIRST_EVENT
    if begin > head.events:
        for mark in marks:
            if mark.offset > begin:
                break
            if holds(descriptor, mark, end, length):
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
        checked = FormatDescription.decode(data).algorithm if position == FIRST_EVENT else head.algorithm
        for _ in _check(descriptor, position, header, data, checked):
            yield None
        yield ShownEvent(position, header, data, length)
        position += header.length


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
    if algorithm is not ChecksumAlgorithm.CRC32:
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
