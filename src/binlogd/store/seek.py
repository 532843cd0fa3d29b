"""Finding a place in a store without reading what is before it.

By GTID: PREVIOUS_GTIDS only grow within a timeline, so halving finds the newest file that builds on nothing but what
somebody has, and the files that hold a set. Within a file the marks (index.py) say which GTIDs stand between them:
whoever has those before a mark may begin there. By time: a file begins with the moment it was made, and a mark has the
moment of its transaction. Both grow as the source's clock does; a transaction has the time of its statement, so that
near a moment a long one may be out of order.

A mark is derived, and may be older than what it speaks of. Nobody begins at one before ``holds`` has found there the
GTID event that it names, whole, sound and saying that it ends where it does; else what is before it is read, as if
there were no marks.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from operator import attrgetter
from pathlib import Path

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import CRC_LENGTH, HEADER_LENGTH, ChecksumAlgorithm, EventType, Header, checksum
from binlogd.binlog.walk import MAX_EVENT, Mark, Walk
from binlogd.errors import EventError, StoreDamaged, StoreUnreadable
from binlogd.store.disk import STORE_MISSING, Disk, explained
from binlogd.store.index import read_marks, read_summary
from binlogd.store.layout import DataFolder, Timeline, binlog_number
from binlogd.store.publication import Publication
from binlogd.store.reader import FIRST_EVENT, Head, read_head, read_previous, walk_blocks
from binlogd.store.removed import files_left
from binlogd.store.removed import load as load_removed
from binlogd.store.settled import settle
from binlogd.store.synced import synced_part

PIECE = 256 * 1024  # bytes of an event that are looked at together
ROTATE_POSITION = 8  # bytes in a ROTATE before the name: the offset to begin with
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


def begins_event(path: Path, head: Head, position: int, size: int) -> bool:
    """Whether a sound event begins at a position of a file of which ``size`` bytes count, or the file ends there."""
    if position == size:
        return True
    with explained("read", path), open(path, "rb", buffering=0) as file:
        descriptor = file.fileno()
        raw = os.pread(descriptor, HEADER_LENGTH, position)
        length = int.from_bytes(raw[9:13], "little")
        log_pos = int.from_bytes(raw[13:17], "little")
        end = position + length
        if not HEADER_LENGTH <= length <= MAX_EVENT or end > size:
            return False
        # MariaDB leaves log_pos out in transactions.
        if (log_pos or "MariaDB" not in head.server_version) and log_pos != end & 0xFFFFFFFF:
            return False
        if head.algorithm is not ChecksumAlgorithm.CRC32:
            return True
        crc, at = 0, position
        while at < end - CRC_LENGTH:
            piece = os.pread(descriptor, min(PIECE, end - CRC_LENGTH - at), at)
            if not piece:
                return False
            crc = crc32(piece, crc)
            at += len(piece)
        return crc == int.from_bytes(os.pread(descriptor, CRC_LENGTH, end - CRC_LENGTH), "little")


def ends_with_rotate(path: Path, size: int, name: str) -> bool:
    """Whether a file of which ``size`` bytes count ends with a ROTATE to the file of that name."""
    body = name.encode(errors="surrogateescape")
    with explained("read", path), open(path, "rb", buffering=0) as file:
        for algorithm in (ChecksumAlgorithm.CRC32, ChecksumAlgorithm.OFF):
            length = HEADER_LENGTH + ROTATE_POSITION + len(body) + algorithm.length
            event = os.pread(file.fileno(), length, size - length) if size >= FIRST_EVENT + length else b""
            if len(event) < length or event[4] != EventType.ROTATE or event[9:13] != length.to_bytes(4, "little"):
                continue
            covered = event[: length - algorithm.length]
            if covered[HEADER_LENGTH + ROTATE_POSITION :] != body:
                continue
            if not algorithm.length or checksum(covered) == int.from_bytes(event[-CRC_LENGTH:], "little"):
                return True
    return False


# --- what is where ---


@dataclass(frozen=True, slots=True)
class Place:
    """A transaction of the time ``time`` (seconds) begins at ``offset`` of a file.

    ``gtids`` is what of the wanted set the file holds, the transaction its first; by time, the transaction's own GTID.
    """

    timeline: Timeline
    name: str
    offset: int
    time: int
    gtids: GtidSet


@dataclass(frozen=True, slots=True)
class _File:
    """An open file, of which ``size`` bytes count. The newest may end within a transaction, or in anything."""

    path: Path
    descriptor: int
    size: int
    head: Head
    newest: bool

    def bears_out(self, mark: Mark) -> bool:
        """Whether an event begins at the mark, and is the GTID event that it names, if it names one."""
        if mark.gno:
            return holds(self.descriptor, mark, self.size, self.head.algorithm.length)
        raw = os.pread(self.descriptor, HEADER_LENGTH, mark.offset)
        if len(raw) < HEADER_LENGTH:
            return False
        length = int.from_bytes(raw[9:13], "little")
        log_pos = int.from_bytes(raw[13:17], "little")
        within = HEADER_LENGTH <= length <= MAX_EVENT
        return within and log_pos in (0, (mark.offset + length) & 0xFFFFFFFF)  # 0: MariaDB

    def marks(self) -> list[Mark]:
        """Its marks, as they are beside it; without any, by a walk over it."""
        return [mark for mark in read_marks(self.path) if mark.offset < self.size] or self.walked()

    def walked(self) -> list[Mark]:
        """Its marks by a walk over it, which are right."""
        walk = Walk(position=FIRST_EVENT, checksum=self.head.algorithm.length)
        with self._torn():
            for _ in walk_blocks(self.descriptor, walk, self.size):
                walk.take_gtids()  # which nobody asks for: they would be held for the whole file
        return walk.marks

    def transactions(self, begin: int, end: int) -> Iterator[Mark]:
        """Each whole transaction from ``begin``, where one begins, to ``end``."""
        walk = Walk(position=begin, checksum=self.head.algorithm.length, spacing=0)
        with self._torn():
            for _ in walk_blocks(self.descriptor, walk, end):
                walk.take_gtids()
                yield from walk.marks
                walk.marks.clear()
        yield from walk.marks  # those before the torn end

    @contextmanager
    def _torn(self) -> Iterator[None]:
        """Where an event is bad the newest file ends; a finished one is damaged."""
        try:
            yield
        except EventError as bad:
            if not self.newest:
                raise StoreDamaged(
                    f"{self.path}: {bad.message}", hint="fetch the file again from the source, or restore it"
                ) from bad


@contextmanager
def _opened(path: Path, end: int | None) -> Iterator[_File | None]:
    """The file, open; None when it has no FORMAT_DESCRIPTION (yet). ``end`` as in ``Stored``."""
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with explained("read", path):
            size = os.fstat(descriptor).st_size if end is None else end
            head = read_head(descriptor, size)
            yield None if head is None else _File(path, descriptor, size, head, end is not None)
    except EventError as bad:
        raise StoreDamaged(f"{path}: {bad.message}", hint="fetch it again from the source, or restore it") from bad
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store. ``end`` is what counts of the newest; None: it is finished, and all of it does."""

    timeline: Timeline
    name: str
    end: int | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.timeline.path / self.name


def listing(folder: DataFolder, published: Publication | None) -> list[Stored]:
    """The files, oldest first, as far as they are durable.

    That is what a receiver has ``published``; StoreUnreadable when that has been removed since. Without one the newest
    file is settled before it is looked at, as every reader does.
    """
    files = [Stored(timeline, name) for timeline, name in files_left(folder, load_removed(folder.binlogs).first)]
    if published is not None:
        place = published.timeline, binlog_number(published.file) if published.file else 0
        if published.file and files and (files[0].timeline.number, binlog_number(files[0].name)) > place:
            raise StoreUnreadable(
                f"{published.file}, where the store ended, was purged meanwhile", hint="ask again", alarm=STORE_MISSING
            )
        files = [file for file in files if (file.timeline.number, binlog_number(file.name)) <= place]
        if files and files[-1].name == published.file:
            files[-1] = replace(files[-1], end=published.position)
    elif files:
        newest = files[-1].path
        with explained("read", newest):
            size = newest.stat().st_size
        settle(newest, Disk())
        files[-1] = replace(files[-1], end=synced_part(newest, size))
    return files


def find_gtids(
    folder: DataFolder, wanted: GtidSet, published: Publication | None = None
) -> tuple[list[Place], GtidSet]:
    """Where the GTIDs of a set are stored, a place for each file that holds some; and those that are in none.

    ``published`` is what a receiver says; None when there is none.
    """
    files = listing(folder, published)
    places = []
    begin = 0
    for _, group in groupby(files, key=attrgetter("timeline")):
        end = begin + len(list(group))
        for index, part in holding(lambda index: read_previous(files[index].path), begin, end, wanted):
            found = _find_part(files[index], part)
            if found is not None:
                places.append(found)
        begin = end
    missing = wanted
    for place in places:
        missing -= place.gtids
    return places, missing


def holding(claims: Claims, begin: int, end: int, wanted: GtidSet) -> Iterator[tuple[int, GtidSet]]:
    """Which of a timeline's files ``begin..end`` may hold which of ``wanted``, in their order."""
    if not wanted or begin == end:
        return
    if end - begin == 1:
        yield begin, wanted
        return
    middle = (begin + end) // 2
    claim = claims(middle)
    yield from holding(claims, begin, middle, wanted if claim is None else wanted & claim)
    yield from holding(claims, middle, end, wanted if claim is None else wanted - claim)


def _find_part(file: Stored, part: GtidSet) -> Place | None:
    """What a file holds of ``part``; None when nothing."""
    with _opened(file.path, file.end) as opened:
        if opened is None:
            return None
        summary = None if opened.newest else read_summary(opened.path, opened.size)
        if summary is not None:
            part &= summary.added
        if not part:
            return None
        first, held = _search(opened, opened.marks(), part, all_there=summary is not None)
        if first is None and summary is not None:
            first, held = _search(opened, opened.walked(), part, all_there=True, sure=True)  # the marks were wrong
    return None if first is None else Place(file.timeline, file.name, first.offset, first.timestamp, held)


def _search(
    file: _File, marks: list[Mark], part: GtidSet, *, all_there: bool, sure: bool = False
) -> tuple[Mark | None, GtidSet]:
    """The first transaction in ``part``, and what of ``part`` the file holds: all, when it is known to be there.

    ``sure`` are marks that this process has made.
    """
    first: Mark | None = None
    held = GtidSet()
    for mark, following in zip_longest(marks, marks[1:]):
        before, end = (following.before, following.offset) if following is not None else (None, file.size)
        if before is not None:
            here = before & part
            held |= here
            if not here or first is not None:
                continue
        if not sure and not file.bears_out(mark):
            return _search(file, file.walked(), part, all_there=all_there, sure=True)
        for found in file.transactions(mark.offset, end):
            if found.gno and part.contains(found.sid, found.tag, found.gno):
                first = first or found
                held = held.add_run(found.sid, found.tag, found.gno, found.gno)
                if before is not None or all_there:
                    break
        if first is not None and all_there:
            return first, part
    return first, held


def begins(folder: DataFolder) -> int | None:
    """When the oldest file was made, seconds since the epoch; None for an empty store."""
    left = files_left(folder, load_removed(folder.binlogs).first)
    return made(Stored(*left[0])) if left else None


def find_time(folder: DataFolder, moment: int, published: Publication | None = None) -> Place | None:
    """The first transaction of ``moment`` (seconds since the epoch) or later; None when there is none.

    Of timelines that overlap the newest counts that begins before the moment. ``published`` is as in ``find_gtids``.
    """
    files = listing(folder, published)
    numbers = [file.timeline.number for file in files]
    start, end = 0, len(files)
    while end:
        begin = bisect_left(numbers, numbers[end - 1])
        if begin == 0 or made(files[begin]) < moment:
            start = max(begin + bisect_left(files[begin:end], moment, key=made) - 1, begin)
            break
        end = begin
    for file in files[start:]:
        place = _find_from(file, moment)
        if place is not None:
            return place
    return None


def made(file: Stored) -> int:
    """The timestamp of the file's first event; 0 while it has none."""
    with _opened(file.path, file.end) as opened:
        return Header.decode(opened.head.format).timestamp if opened is not None else 0


def _find_from(file: Stored, moment: int) -> Place | None:
    with _opened(file.path, file.end) as opened:
        if opened is None:
            return None
        earlier = [mark for mark in opened.marks() if mark.timestamp < moment]
        if earlier and not opened.bears_out(earlier[-1]):
            earlier = [mark for mark in opened.walked() if mark.timestamp < moment]
        for mark in opened.transactions(earlier[-1].offset if earlier else opened.head.events, opened.size):
            if mark.timestamp >= moment:
                own = GtidSet.from_runs([(mark.sid, mark.tag, mark.gno, mark.gno)] if mark.gno else [])
                return Place(file.timeline, file.name, mark.offset, mark.timestamp, own)
    return None
