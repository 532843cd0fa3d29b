"""Reading binary logs that are stored: their heads, their events, and what the whole store holds.

Readers hold no lock and write nothing. A finished file never changes; the newest one only grows, and a reader stays
below the published position. Without a receiver a reader establishes that position by itself: it has the newest file
synced and read from the disk (settled.py), and walks it to the end of its last whole transaction, so that what it shows
is durable (rule 2).

A file begins (mysql/binlog/event/control_events.h)::

    fe 62 69 6e | FORMAT_DESCRIPTION | PREVIOUS_GTIDS (MySQL 5.6 on) | transactions …

PREVIOUS_GTIDS are those of the file before and what that file added, unless a file is missing or the source was told
otherwise. So when their fingerprint (index.py) is that sum, they need not be read: of ten thousand files a short line
each tells what the store holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from binlogd.binlog.events import FormatDescription
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import BINLOG_MAGIC, CRC_LENGTH, ChecksumAlgorithm, EventType, Header, checksum
from binlogd.binlog.walk import HEADER_LENGTH, MAX_EVENT, GtidRun, Mark, Walk
from binlogd.errors import EventError, StoreDamaged, StoreUnreadable
from binlogd.store.disk import STORE_MISSING, Disk, explained
from binlogd.store.index import FINGERPRINTS, Summary, fetch_summaries, fingerprint, read_recorded
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.purged import load, without
from binlogd.store.removed import ALL, Removed, files_left, was_removed
from binlogd.store.removed import load as load_removed
from binlogd.store.settled import settle
from binlogd.store.synced import synced_part

FIRST_EVENT = len(BINLOG_MAGIC)  # its offset
UNFINISHED = "an unfinished transaction"
DAMAGED_HINT = "binlogd verify names all that is wrong; binlogd verify --repair fetches the file again from the source"
BLOCK = 1024 * 1024  # bytes read at a time: large enough for the disk, small enough for memory
MANY_RUNS = 1_000  # GTID runs held before they are made one set: 200 KiB

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


@dataclass(frozen=True, slots=True)
class Head:
    """How a file begins. ``events`` is the offset behind FORMAT_DESCRIPTION and PREVIOUS_GTIDS.

    ``previous`` is None when there is no such event, or not a whole and sound one: no claim at all.
    """

    format: bytes
    server_version: str
    algorithm: ChecksumAlgorithm
    previous: GtidSet | None
    events: int

    @property
    def claimed(self) -> int | None:
        """The fingerprint of PREVIOUS_GTIDS, None without such an event."""
        return None if self.previous is None else fingerprint(self.previous)


@dataclass(frozen=True, slots=True)
class Contents:
    """One walked file. ``torn`` says what is wrong behind the last whole transaction, "" when nothing is."""

    head: Head
    walk: Walk
    added: GtidSet
    size: int
    torn: str

    @property
    def unsound(self) -> bool:
        """Whether an event is bad, and not merely incomplete as a kill leaves it."""
        return self.torn not in ("", UNFINISHED)

    @property
    def damaged(self) -> bool:
        """Whether some of its bytes are no events, or no sound ones."""
        return self.walk.position < self.size

    def summary(self, name: str, size: int) -> Summary:
        """For its .idx, of the first ``size`` bytes."""
        return Summary(
            name=name,
            size=size,
            first_time=self.walk.first_time,
            last_time=self.walk.last_time,
            claimed=self.head.claimed,
            added=self.added,
            transactions=self.walk.transactions,
            checksum=self.head.algorithm,
            server_version=self.head.server_version,
        )


def _event_at(descriptor: int, offset: int, end: int) -> bytes | None:
    """The whole event at ``offset``; None when it does not end before ``end``."""
    header = os.pread(descriptor, HEADER_LENGTH, offset)
    if len(header) < HEADER_LENGTH or offset + HEADER_LENGTH > end:
        return None
    length = Header.decode(header).length
    if length > MAX_EVENT:
        raise EventError(f"the event at {offset} says it is {length} bytes long")
    if offset + length > end:
        return None
    return os.pread(descriptor, length, offset)


def _previous_at(descriptor: int, offset: int, end: int, algorithm: ChecksumAlgorithm) -> bytes | None:
    """The PREVIOUS_GTIDS event at ``offset``; None when something else is there, be it what a power loss left."""
    header = os.pread(descriptor, HEADER_LENGTH, offset)
    length = int.from_bytes(header[9:13], "little")
    if header[4:5] != bytes((EventType.PREVIOUS_GTIDS,)) or not HEADER_LENGTH + CRC_LENGTH <= length <= MAX_EVENT:
        return None
    event = os.pread(descriptor, length, offset) if offset + length <= end else b""
    if len(event) < length:
        return None
    if algorithm.length and checksum(memoryview(event)[:-CRC_LENGTH]) != int.from_bytes(event[-CRC_LENGTH:], "little"):
        return None
    return event


def read_head(descriptor: int, end: int, *, magic: bool = True) -> Head | None:
    """The head of a file of which ``end`` bytes count; None while it is too short to have one.

    Raises EventError when it is no binary log, or its first event not a sound one: all that follows depends on it.
    Without ``magic`` the four bytes before it do not matter.
    """
    first = os.pread(descriptor, 4, 0)
    if magic and first != BINLOG_MAGIC[: len(first)]:
        raise EventError("the file does not begin like a binary log: the four bytes at 0 are others")
    event = _event_at(descriptor, FIRST_EVENT, end)
    if event is None:
        return None
    if checksum(memoryview(event)[:-CRC_LENGTH]) != int.from_bytes(event[-CRC_LENGTH:], "little"):
        raise EventError(f"the event at {FIRST_EVENT} (type {event[4]}, {len(event)} bytes) fails its CRC-32")
    described = FormatDescription.decode(event)
    algorithm = described.algorithm
    if algorithm is ChecksumAlgorithm.UNDEF:
        raise EventError(
            f"the event at {FIRST_EVENT} is of a server {described.server_version}, which is older than 5.6"
        )
    previous = None
    events = FIRST_EVENT + len(event)
    second = _previous_at(descriptor, events, end, algorithm)
    if second is not None:
        with suppress(EventError):
            previous = PreviousGtids.decode(second, algorithm.length).gtids
            events += len(second)
    return Head(event, described.server_version, algorithm, previous, events)


class Gathered:
    """A set that runs are put into as a walk finds them, however many there are.

    Transactions that committed out of order are a run each, of 200 bytes; a set of millions may be one interval. Few
    runs are held at a time, and no more than the set has intervals, so that putting them in costs no more than sorting.
    """

    def __init__(self) -> None:
        self._set = GtidSet()
        self._runs: list[GtidRun] = []
        self._most = MANY_RUNS

    def take(self, walk: Walk) -> None:
        """What it has found since it was last asked."""
        self._runs += walk.take_gtids()
        if len(self._runs) > self._most:
            self._most = max(MANY_RUNS, sum(1 for _ in self.set().runs()))

    def set(self) -> GtidSet:
        """All of it."""
        self._set = self._set.add_runs(self._runs)
        self._runs = []
        return self._set


def walk_file(
    descriptor: int, walk: Walk, end: int, progress: Progress | None = None, gathered: Gathered | None = None
) -> None:
    """Walk the file from ``walk.position`` to ``end``; stops before an event that does not end there.

    Raises EventError at the first bad event, with ``walk`` standing before it. GTIDs are ``gathered``, or stay with
    the walk.
    """
    try:
        for offset in walk_blocks(descriptor, walk, end):
            if gathered is not None:
                gathered.take(walk)
            if progress is not None:
                progress(offset, end)
    finally:
        if gathered is not None:
            gathered.take(walk)


def walk_blocks(descriptor: int, walk: Walk, end: int) -> Iterator[int]:
    """The same, block by block: the offset behind each."""
    buffer = bytearray(2 * BLOCK)
    view = memoryview(buffer)
    offset = walk.position  # of buffer[0]
    kept = 0
    while offset + kept < end:
        size = os.preadv(descriptor, [view[kept : min(len(buffer), kept + end - offset - kept)]], offset + kept)
        if not size:
            break
        filled = kept + size
        taken = walk.walk(buffer, 0, filled)
        kept = filled - taken
        buffer[:kept] = buffer[taken:filled]
        offset += taken
        yield offset


def read_contents(path: Path, end: int | None = None, progress: Progress | None = None) -> Contents | None:
    """Walk a whole file; None when it is too short to have a FORMAT_DESCRIPTION."""
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size if end is None else end
            counted = synced_part(path, size)
            head = read_head(descriptor, counted)
            if head is None:
                return None
            walk = Walk(position=FIRST_EVENT, checksum=head.algorithm.length)
            torn, gathered = "", Gathered()
            try:
                walk_file(descriptor, walk, counted, progress, gathered)
            except EventError as bad:
                torn = bad.message
            if not torn and walk.transaction_end < size:
                torn = UNFINISHED
        finally:
            os.close(descriptor)
    return Contents(head, walk, gathered.set(), size, torn)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One binary log of the store. ``size`` is what counts of it: the published bytes of the newest.

    ``marks`` are those of the newest, which was walked; a finished file's are beside it. ``damage`` says what is wrong
    with a finished file, "" when nothing is as far as it was read; ``summary`` then is of what could be read.
    """

    timeline: Timeline
    name: str
    size: int
    summary: Summary
    finished: bool
    marks: tuple[Mark, ...] = ()
    damage: str = ""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.timeline.path / self.name

    def alarm(self) -> dict[str, Any]:
        """Of a damaged one, for the status."""
        return {
            "timeline": self.timeline.number,
            "file": self.name,
            "message": self.damage,
            "hint": DAMAGED_HINT,
        }


def read_file(timeline: Timeline, name: str, *, finished: bool, end: int | None = None) -> StoredFile:
    """One file: by its .idx when it is finished and that is sound, else by walking it."""
    if finished:
        return read_finished(timeline, name)[0]
    path = timeline.path / name
    with explained("read", path):
        size = path.stat().st_size if end is None else end
    try:
        contents = read_contents(path, size)
    except EventError as bad:
        raise StoreDamaged(
            f"{path}: {bad.message}", hint="fetch the file again from the source, or restore it"
        ) from bad
    if contents is None:
        raise StoreDamaged(f"{path} ends before its first event", hint="fetch it again from the source")
    size = contents.walk.transaction_end
    return StoredFile(timeline, name, size, contents.summary(name, size), False, tuple(contents.walk.marks))


def read_finished(
    timeline: Timeline, name: str, progress: Progress | None = None
) -> tuple[StoredFile, Contents | None]:
    """A finished file, and what a walk over it found when there had to be one.

    Damage to it keeps nobody from the other files, and must not: it is told, and a dump that comes to it ends there.
    """
    path = timeline.path / name
    with explained("read", path):
        size = path.stat().st_size
    recorded = read_recorded(path)
    if recorded is not None:
        damage = "" if recorded.size == size else f"it has {size} bytes and was finished with {recorded.size}"
        return StoredFile(timeline, name, size, replace(recorded, size=size), True, damage=damage), None
    try:
        contents = read_contents(path, size, progress)
    except EventError as bad:
        contents, damage = None, bad.message
    else:
        damage = "it ends before its first event"
        if contents is not None:  # that it ends within a transaction is no damage: its server crashed then
            what = UNFINISHED if contents.unsound is False else contents.torn
            damage = f"{what} behind position {contents.walk.transaction_end}" if contents.damaged else ""
    if contents is None:
        summary = Summary(name, size, 0, 0, None, GtidSet(), 0, ChecksumAlgorithm.UNDEF, "")
    else:
        summary = contents.summary(name, size)
    return StoredFile(timeline, name, size, summary, True, damage=damage), contents


def read_store(
    folder: DataFolder, progress: Progress | None = None, *, passing_over: bool = False
) -> Iterator[StoredFile]:
    """Every file that is left, oldest first; the newest up to its last whole transaction. Each is read when asked for.

    What was removed is passed over while it is still there: its GTIDs are purged, and nobody may be led to it. So is
    with ``passing_over`` what is removed meanwhile: for who shows files, not for who sums up what they hold.
    """
    listing = files_left(folder, load_removed(folder.binlogs).first)
    fetch_summaries(timeline.path / name for timeline, name in listing)
    for number, (timeline, name) in enumerate(listing, 1):
        try:
            file = read_file(timeline, name, finished=number < len(listing))
        except StoreUnreadable as bad:
            if not (passing_over and bad.alarm == STORE_MISSING and was_removed(timeline, name)):
                raise
            continue
        yield file
        if progress is not None:
            progress(number, len(listing))


def read_previous(path: Path, end: int | None = None) -> GtidSet | None:
    """The PREVIOUS_GTIDS of a file, of which ``end`` bytes count; None when it has none (yet)."""
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = read_head(descriptor, os.fstat(descriptor).st_size if end is None else end)
        except EventError as bad:
            raise StoreDamaged(f"{path}: {bad.message}", hint="fetch it again from the source, or restore it") from bad
        finally:
            os.close(descriptor)
    return head.previous if head else None


class Holdings:
    """What files amount to, told of one after the other, oldest first; of no file more is kept than that.

    GTIDs that come in by a file's PREVIOUS_GTIDS, by what is kept of the source's gtid_purged (purged.py), or with
    files that were removed (removed.py), are purged unless a file of any timeline holds them; but PREVIOUS_GTIDS behind
    a damaged file may be in that one, and count as stored: whoever needs them comes to the damage, and is told of it.
    """

    def __init__(self) -> None:
        self._executed = GtidSet()
        self._purged = GtidSet()
        self._removed = Removed()
        self._first = ALL  # as the note names it, once that file was added
        self._newest: StoredFile | None = None
        self._expected: int | None = None  # the fingerprint of the next file's claim, if it goes on with this one's
        self._damaged = False  # whether a file behind the last claim may hold more than its summary says
        self._runs: list[tuple[bytes, str, int, int]] = []  # added by files, and not yet in _executed

    def add(self, file: StoredFile) -> None:
        """The next file."""
        claimed, added = file.summary.claimed, file.summary.added
        if self._newest is None:
            self._removed = load_removed(file.timeline.path.parent)
            self._take_purged(self._removed.gtids)
        if (file.timeline.number, file.name) == self._removed.first:
            self._first = self._removed.first
        if self._newest is None or self._newest.timeline != file.timeline:
            self._expected, self._damaged = None, False
            self._take_purged(load(file.timeline.path))
        if claimed and claimed != self._expected and not self._take_claim(file):  # the empty set's fingerprint is 0
            claimed, self._damaged = None, True
        self._newest = file
        self._damaged |= bool(file.damage)
        self._expected = None if claimed is None else (claimed + fingerprint(added)) % FINGERPRINTS
        self._runs += added.runs()
        if len(self._runs) > MANY_RUNS:
            self._take_runs()

    def publication(self) -> Publication:
        """Of all that was added; the newest file's end is the end."""
        newest = self._newest
        if newest is None:
            return NOTHING
        self._take_runs()
        return Publication(
            timeline=newest.timeline.number,
            file=newest.name,
            position=newest.size,
            executed=self._executed,
            purged=self._purged,
            server_version=newest.summary.server_version,
            first=self._first,
        )

    def _take_claim(self, file: StoredFile) -> bool:
        """Count the file's PREVIOUS_GTIDS in; False when they cannot be read."""
        try:
            claim = read_previous(file.path, file.size)
        except StoreDamaged:
            claim = None
        if claim is None:
            return False
        self._take_runs()
        if not self._damaged:
            self._purged |= claim - self._executed
        self._damaged = False
        self._executed |= claim
        return True

    def _take_purged(self, kept: GtidSet) -> None:
        if kept:
            self._take_runs()
            self._purged |= kept - self._executed
            self._executed |= kept

    def _take_runs(self) -> None:
        self._purged = without(self._purged, self._runs)
        self._executed = self._executed.add_runs(self._runs)
        self._runs = []


def publication_of(files: Iterable[StoredFile]) -> Publication:
    """What the files amount to."""
    holdings = Holdings()
    for file in files:
        holdings.add(file)
    return holdings.publication()


@dataclass(frozen=True, slots=True)
class Further:
    """What stands in the newest file behind a known position: whole transactions up to ``position``, durable."""

    position: int
    gtids: GtidSet


def read_added(path: Path, position: int, end: int) -> Further:
    """What whole transactions add between the end of one, or the file's first event, and ``end``; up to where.

    EventError when the file has no sound FORMAT_DESCRIPTION. Behind a bad event nothing counts.
    """
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = read_head(descriptor, end)
            if head is None:
                return Further(position, GtidSet())
            walk, gathered = Walk(position=position, checksum=head.algorithm.length), Gathered()
            with suppress(EventError):
                walk_file(descriptor, walk, end, gathered=gathered)
        finally:
            os.close(descriptor)
    return Further(walk.transaction_end, gathered.set())


def read_further(path: Path, position: int) -> Further | None:
    """Walk on from a transaction's end; None when there is no whole transaction behind it.

    What it found is durable: the file is settled first.
    """
    settle(path, Disk())
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = synced_part(path, os.fstat(descriptor).st_size)
            try:
                head = read_head(descriptor, size)
            except EventError as bad:
                raise StoreDamaged(
                    f"{path}: {bad.message}", hint="fetch it again from the source, or restore it"
                ) from bad
            if head is None:
                return None
            walk = Walk(position=position, checksum=head.algorithm.length)
            gathered = Gathered()
            with suppress(EventError):  # a torn tail: what is before it counts
                walk_file(descriptor, walk, size, gathered=gathered)
            if walk.transaction_end == position:
                return None
        finally:
            os.close(descriptor)
    return Further(walk.transaction_end, gathered.set())
