"""Finding a place in a store without reading what is before it.

By GTID: PREVIOUS_GTIDS only grow within a timeline, so halving finds the newest file that builds on nothing but what
somebody has, and the file that holds a transaction. Within a file the marks (index.py) say which GTIDs stand between
them: whoever has those before a mark may begin there. By time: each file begins with the moment it was made, each mark
with the moment of its transaction, and both only grow as far as the source's clock and its long statements allow.

A mark is derived, and may be older than what it speaks of. Nobody begins at one before ``holds`` has found there the
GTID event that it names, whole, sound and saying that it ends where it does; else what is before it is read, as if
there were no marks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import CRC_LENGTH, HEADER_LENGTH, EventType, Header, checksum
from binlogd.binlog.walk import Mark
from binlogd.errors import EventError
from binlogd.store.disk import explained

LONGEST_GTID_EVENT = 1024  # bytes, with every optional field of 9.7 and room for more

Claims = Callable[[int], GtidSet | None]
"""The PREVIOUS_GTIDS of the file with that index; None when it makes no such claim (yet)."""


def newest_built_on(claims: Claims, begin: int, end: int, has: GtidSet) -> int | None:
    """Of a timeline's files ``begin..end`` the newest whose PREVIOUS_GTIDS are all in ``has``; None when none is."""
    found = None
    while begin < end:
        middle = (begin + end) // 2
        known, claim = middle, claims(middle)
        while claim is None and known > begin:
            known -= 1
            claim = claims(known)
        if claim is None:
            begin = middle + 1  # no claim up to here: what is behind decides
        elif claim <= has:
            found, begin = known, middle + 1
        else:
            end = known
    return found


def read_gtid(descriptor: int, offset: int, end: int, checksum_length: int) -> GtidEvent | None:
    """The GTID event at ``offset`` of a file of which ``end`` bytes count; None when there is none, or no sound one."""
    raw = os.pread(descriptor, max(min(LONGEST_GTID_EVENT, end - offset), 0), offset)
    if len(raw) < HEADER_LENGTH or raw[4] not in (EventType.GTID, EventType.GTID_TAGGED):
        return None
    try:
        header = Header.decode(raw)
        event = GtidEvent.decode(raw[: header.length], checksum_length)
    except EventError:
        return None
    whole = memoryview(raw)[: header.length]
    if header.log_pos != (offset + header.length) & 0xFFFFFFFF:
        return None
    if checksum_length and checksum(whole[:-CRC_LENGTH]) != int.from_bytes(whole[-CRC_LENGTH:], "little"):
        return None
    return event


def holds(descriptor: int, mark: Mark, end: int, checksum_length: int) -> bool:
    """Whether the file has at the mark the GTID event that the mark names."""
    event = read_gtid(descriptor, mark.offset, end, checksum_length)
    return event is not None and (event.sid, event.tag, event.gno) == (mark.sid, mark.tag, mark.gno)


def furthest(marks: Iterable[Mark], events: int, end: int, has: GtidSet) -> Mark | None:
    """The last mark of those before ``end`` before which everything is in ``has``; None when that skips nothing.

    The file's events, behind PREVIOUS_GTIDS, begin at ``events``.
    """
    found, first = None, True
    for mark in marks:
        if mark.offset >= end:
            break
        if first:
            if mark.offset != events:
                break  # something stands before the first transaction, and is in every dump
            first = False
            continue
        if mark.before is None or not _has_all(has, mark.before):
            break
        if mark.gno:
            found = mark
    return found


def _has_all(has: GtidSet, few: GtidSet) -> bool:
    """``few <= has``, in time that hardly depends on ``has``."""
    for sid, tag, first, last in few.runs():
        there, until = has.covering(sid, tag, first)
        if not there or until < last:
            return False
    return True


def leap(path: Path, marks: Iterable[Mark], *, events: int, end: int, has: GtidSet, checksum_length: int) -> int | None:
    """How far into a file of which ``end`` bytes count a dump may leap that leaves out what is in ``has``.

    The offset of a GTID event, where the dump goes on; None: from the beginning. ``events`` is as in ``furthest``.
    """
    mark = furthest(marks, events, end, has)
    if mark is None:
        return None
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mark.offset if holds(descriptor, mark, end, checksum_length) else None
        finally:
            os.close(descriptor)
