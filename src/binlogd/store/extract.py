"""Some of the stored transactions as one binary log: what is in it, and in which order.

The files are gone through as they were received, oldest timeline first, and each transaction goes out where it is met
first: what timelines share is in it once. That is the order in which the sources committed them, so that it applies.

    wanted   not in ``without``, in ``within``, and between two moments: excerpt.py tells what a transaction's time is

Times bound a *stretch* of that order: from its first transaction of ``from_time`` or later up to, and without, the
first of ``to_time`` or later. The result of applying it is a state that the source was in, even where a clock was set
back.

Its first two events are FORMAT_DESCRIPTION and PREVIOUS_GTIDS, which names what is before it: ``without``, or what the
store knows to be before its first transaction. Where a file is of another server version its FORMAT_DESCRIPTION is put
between two transactions, as in a relay log. It has checksums unless no file has any.

Which files hold anything wanted their .idx tells; the others are not read. A file without any that are not wanted is
copied as a whole. What a GTID cannot tell apart is refused: transactions without one, when GTIDs were asked for or when
timelines may share them.

A transaction that is larger than the buffer is walked to its end before any of it goes out, so that where a file is
damaged, or a transaction has no end, the output ends with a whole transaction.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from binlogd.binlog.events import FormatDescription
from binlogd.binlog.excerpt import NO_LIMIT, Covering, Excerpt, room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import BINLOG_MAGIC, ChecksumAlgorithm, Header
from binlogd.binlog.walk import Walk
from binlogd.errors import BinlogdError, EventError, StoreDamaged, StoreUnreadable
from binlogd.store.disk import STORE_MISSING, explained
from binlogd.store.index import read_marks
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.reader import (
    BLOCK,
    DAMAGED_HINT,
    Gathered,
    Head,
    Progress,
    StoredFile,
    publication_of,
    read_file,
    read_head,
    read_previous,
    walk_blocks,
)
from binlogd.store.removed import was_removed
from binlogd.store.seek import Stored, furthest, holds, listing, made

PENDING = 4 * BLOCK  # bytes put out of a transaction before it is looked whether it ends

Write = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be extracted. Times are microseconds since 1970; None: no such bound."""

    without: GtidSet | None = None
    within: GtidSet | None = None
    from_time: int | None = None
    to_time: int | None = None

    @property
    def by_gtid(self) -> bool:
        """Whether GTIDs decide."""
        return self.without is not None or self.within is not None


@dataclass(frozen=True, slots=True)
class Part:
    """A file to be read: what of it is ``needed``, and what is left out of it when that is not all."""

    file: StoredFile
    needed: GtidSet
    left_out: GtidSet

    @property
    def all_of_it(self) -> bool:
        """Whether nothing in it is to be left out."""
        return not self.file.damage and self.needed == self.file.summary.added


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, and what is before it. ``newest`` is the store's newest file, for an excerpt with nothing in it."""

    wanted: Wanted
    parts: list[Part]
    before: GtidSet
    newest: StoredFile


def plan(folder: DataFolder, wanted: Wanted, published: Publication | None = None) -> Plan:
    """Decide what to read; BinlogdError when something that is wanted is not stored, or cannot be told apart.

    ``published`` is what a receiver says; None when there is none.
    """
    stored = listing(folder, published)
    files = [
        read_file(each.timeline, each.name, finished=number < len(stored), end=each.end)
        for number, each in enumerate(stored, start=1)
    ]
    if not files:
        raise BinlogdError(f"{folder.binlogs} holds no binary log yet", hint="nothing was written")
    newest, files = files[-1], _in_order(files, wanted.without or GtidSet())
    stored = stored[-len(files) :]
    first = _first_files(stored, wanted.from_time)
    before = wanted.without or GtidSet()
    if wanted.without is None or first[files[0].timeline.number] > 0:
        before |= _claim(files[first[files[0].timeline.number]]) or GtidSet()
    _refuse_gaps(folder, files, wanted, before, first)
    parts: list[Part] = []
    left_out, begin = before, 0
    for number, group in groupby(files, key=attrgetter("timeline")):
        end = begin + len(list(group))
        outside = _nameless_outside(files[begin:end], wanted)
        for index in range(begin, end):
            file = files[index]
            if index < first[number.number]:
                continue
            if index == first[number.number] > begin:
                left_out |= _claim(file) or GtidSet()
            part = None if outside else _part(file, left_out, wanted)
            if part is not None:
                parts.append(part)
            left_out |= file.summary.added
        begin = end
    if wanted.by_gtid and not _nameless(files[-1]) and (files[-1].summary.added or _claim(files[-1])):
        # From before GTIDs were switched on: in every backup that has any.
        while parts and not parts[0].needed and not parts[0].file.damage:
            del parts[0]
    _refuse_nameless(parts, wanted)
    return Plan(wanted, parts, before, newest)


def _in_order(files: list[StoredFile], has: GtidSet) -> list[StoredFile]:
    """The files without those of old timelines that cannot come first.

    When the oldest files of one were removed, only a later timeline may still hold what stood in them; what is left of
    the old one builds on that, and would be written before it. All of it is in the later one, too, as a rule.
    """
    timelines = [list(group) for _, group in groupby(files, key=attrgetter("timeline"))]
    purged = publication_of(files).purged
    while len(timelines) > 1:
        oldest, rest = timelines[0], timelines[1:]
        ahead = (_claim(oldest[0]) or GtidSet()) - has - purged
        if not ahead or any(file.damage for file in oldest):
            break
        lost = GtidSet()
        for file in oldest:
            lost |= file.summary.added
        for each in rest:
            for file in each:
                lost -= file.summary.added
        lost -= has
        if lost:
            raise BinlogdError(
                f"{oldest[0].path} builds on {ahead.compact()}, which only a later timeline holds, and has"
                f" {lost.compact()}, which that does not: no order applies",
                hint="take a backup that has the former (its gtid_executed for --from-gtid); nothing was written",
            )
        timelines = rest
    return [file for each in timelines for file in each]


def _part(file: StoredFile, left_out: GtidSet, wanted: Wanted) -> Part | None:
    """What to read of a file; None when nothing in it is wanted."""
    added = file.summary.added
    needed = added - left_out
    if wanted.within is not None:
        needed &= wanted.within
    nameless = file.summary.transactions > added.count()
    if not needed and not nameless and not file.damage:
        return None
    return Part(file, needed, left_out)


def _nameless_outside(files: list[StoredFile], wanted: Wanted) -> bool:
    """Whether a source's history, which has transactions without a GTID, lies before or behind the times.

    By what its files say of their first and last event: so one source's history can be chosen by time. Where some
    of it is damaged that is not known. With GTIDs no history needs to be left out, and each transaction is looked at.
    """
    if not any(map(_nameless, files)) or any(file.damage for file in files):
        return False
    begins = min(file.summary.first_time for file in files) * 1_000_000
    ends = (max(file.summary.last_time for file in files) + 1) * 1_000_000
    before = wanted.from_time is not None and ends <= wanted.from_time
    return before or (wanted.to_time is not None and begins >= wanted.to_time)


def _first_files(stored: list[Stored], moment: int | None) -> dict[int, int]:
    """By timeline, the index of its first file that may have a transaction of that moment or later."""
    first, begin = {}, 0
    for timeline, group in groupby(stored, key=attrgetter("timeline")):
        end = begin + len(list(group))
        found = begin
        if moment is not None:
            # A file that begins in the moment's second may begin behind it.
            found = max(bisect_left(stored, moment // 1_000_000, begin, end, key=made) - 1, begin)
        first[timeline.number] = found
        begin = end
    return first


def _claim(file: StoredFile) -> GtidSet | None:
    return read_previous(file.path, file.size)


def _refuse_gaps(
    folder: DataFolder, files: list[StoredFile], wanted: Wanted, before: GtidSet, first: dict[int, int]
) -> None:
    """Refuse what cannot be had whole."""
    holdings = publication_of(files)
    purged = holdings.purged - before
    if wanted.within is not None:
        absent = wanted.within - before - (holdings.executed - holdings.purged)
        if absent:
            raise BinlogdError(
                f"these transactions of --to-gtid are not stored: {absent.compact()}",
                hint="see gtid_executed and gtid_purged in `binlogd status`; nothing was written",
            )
        purged &= wanted.within
    if purged:
        raise BinlogdError(
            f"these transactions were purged, and what follows does not apply without them: {purged.compact()}",
            hint="take a backup that has them (its gtid_executed for --from-gtid)"
            + ("" if wanted.to_time is None else "; to come to a state before them, choose it by --to-gtid")
            + "; nothing was written",
        )
    if wanted.from_time is None or wanted.without is not None:
        return
    oldest = files[0]
    begins = made(Stored(oldest.timeline, oldest.name)) * 1_000_000
    if wanted.from_time < begins and first[oldest.timeline.number] == 0 and _has_past(oldest):
        raise BinlogdError(
            f"the store begins at {_moment(begins)}, later than --from-time, and does not hold what was before",
            hint="leave --from-time out to dump from its beginning on; nothing was written",
        )


def _has_past(oldest: StoredFile) -> bool:
    """Whether something was before a source's file: its PREVIOUS_GTIDS say so, or else its number."""
    claim = _claim(oldest)
    return bool(claim) if claim is not None and not _nameless(oldest) else int(oldest.name.rpartition(".")[2]) > 1


def _nameless(file: StoredFile) -> bool:
    return file.summary.transactions > file.summary.added.count()


def _refuse_nameless(parts: list[Part], wanted: Wanted) -> None:
    """Transactions without a GTID cannot be left out, nor be told from those of another timeline."""
    for part in parts:
        if not _nameless(part.file):
            continue
        number = part.file.summary.transactions - part.file.summary.added.count()
        if wanted.by_gtid:
            raise BinlogdError(
                f"{part.file.path} holds {number} transactions without a GTID, which no GTID set can choose",
                hint="use --from-time and --to-time alone; nothing was written",
            )
        if part.file.timeline != parts[0].file.timeline or part.file.timeline != parts[-1].file.timeline:
            raise BinlogdError(
                f"{part.file.path} holds {number} transactions without a GTID, and another source's history is to be"
                " in the output as well: which transactions both have cannot be told",
                hint="choose a --from-time and --to-time that lie in one timeline (binlogd list); nothing was written",
            )


def _moment(microseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- writing it ---


class Extraction:
    """Writes what a plan says. ``transactions`` and ``position`` tell how much it was."""

    def __init__(self, planned: Plan, write: Write, progress: Progress | None = None) -> None:
        self._plan = planned
        self._write = write
        self._progress = progress
        self._total = sum(part.file.size for part in planned.parts)
        self._done = 0
        algorithms = {part.file.summary.checksum for part in planned.parts}
        self._algorithm = ChecksumAlgorithm.CRC32
        if algorithms and ChecksumAlgorithm.CRC32 not in algorithms:
            self._algorithm = ChecksumAlgorithm.OFF
        wanted = planned.wanted
        self._excerpt = Excerpt(
            checksum=self._algorithm.length,
            from_time=wanted.from_time,
            to_time=NO_LIMIT if wanted.to_time is None else wanted.to_time,
        )
        self._described: tuple[str, bytes] | None = None  # by the last FORMAT_DESCRIPTION: the version and the lengths
        self._buffer = bytearray(2 * BLOCK)
        self._out = memoryview(bytearray(PENDING + room_for(2 * BLOCK)))

    @property
    def transactions(self) -> int:
        """Whole ones that were written."""
        return self._excerpt.transactions

    @property
    def position(self) -> int:
        """How long the output is."""
        return self._excerpt.settled_position

    def run(self) -> None:
        """Write everything. StoreError: a file is damaged, or was purged meanwhile, and the output ends before that."""
        for part in self._plan.parts:
            if self._excerpt.ended:
                break
            self._read(part)
        if self._described is None:
            with _opened(self._plan.newest) as (_, head):
                self._describe(head, self._plan.before)

    def _read(self, part: Part) -> None:
        file = part.file
        if file.damage and file.summary.checksum == ChecksumAlgorithm.UNDEF:
            raise _damaged(file, file.damage)  # not even its head
        with _opened(file) as (descriptor, head):
            if self._excerpt.begun:
                self._describe(head, self._plan.before)
            covering = None if part.all_of_it and self._excerpt.begun else self._covering(part)
            offset = self._leap(part, descriptor, head) if self._excerpt.begun else head.events
            walk = Walk(position=offset, checksum=head.algorithm.length)
            self._excerpt.begin(walk, covering)
            gathered = Gathered()
            try:
                self._copy(descriptor, walk, part, head, gathered)
            except EventError as bad:
                self._flush()
                raise _damaged(file, bad.message) from bad
            finally:
                self._done += file.size
            self._flush()
            self._excerpt.drop()
            if file.damage:
                raise _damaged(file, file.damage)
            if file.finished and walk.position < file.size and not self._excerpt.ended:
                raise _damaged(file, f"the event at {walk.position} does not end before {file.size}")

    def _covering(self, part: Part) -> Covering:
        """Whether a GTID is left out."""
        left_out, within = part.left_out, self._plan.wanted.within
        if within is None:
            return left_out.covering

        def covering(sid: bytes, tag: str, gno: int) -> tuple[bool, int]:
            out, until = left_out.covering(sid, tag, gno)
            if out:
                return True, until
            asked, last = within.covering(sid, tag, gno)
            return not asked, min(until, last)

        return covering

    def _leap(self, part: Part, descriptor: int, head: Head) -> int:
        """Where to begin: behind what is left out of the file's beginning, as far as its marks tell."""
        if part.all_of_it:
            return head.events
        unwanted = part.file.summary.added & part.left_out
        if self._plan.wanted.within is not None:
            unwanted |= part.file.summary.added - self._plan.wanted.within
        marks = part.file.marks or read_marks(part.file.path)
        mark = furthest(marks, head.events, part.file.size, unwanted)
        if mark is None or not holds(descriptor, mark, part.file.size, head.algorithm.length):
            return head.events
        return mark.offset

    def _copy(self, descriptor: int, walk: Walk, part: Part, head: Head, gathered: Gathered) -> None:
        """Everything from where the walk stands to the file's end."""
        excerpt, buffer, view = self._excerpt, self._buffer, memoryview(self._buffer)
        end, offset, kept = part.file.size, walk.position, 0
        sure = 0  # up to here transactions are known to be whole, and go out as they come
        while True:
            room = min(len(buffer), end - offset)
            found = os.preadv(descriptor, [view[kept:room]], offset + kept) if kept < room else 0
            filled = kept + found
            had_begun = excerpt.begun
            excerpt.scan(buffer, 0, filled, self._out)
            gathered.take(walk)
            begins = excerpt.begun and not had_begun
            if begins:
                self._describe(head, self._plan.before | part.left_out | gathered.set())
            if excerpt.filled - excerpt.settled >= PENDING and walk.position >= sure:
                sure = self._whole_until(descriptor, part.file, head, excerpt.group)
                if not sure:
                    return
            self._flush(everything=walk.position < sure)
            taken = excerpt.consumed
            kept = filled - taken
            buffer[:kept] = buffer[taken:filled]
            offset += taken
            if self._progress is not None:
                self._progress(self._done + offset, self._total)
            if excerpt.ended or not (found or taken or begins):
                return

    def _whole_until(self, descriptor: int, file: StoredFile, head: Head, begin: int) -> int:
        """Up to where all is whole transactions from the one on that begins there; 0 when that does not end."""
        walk = Walk(position=begin, checksum=head.algorithm.length, spacing=0)
        for _ in walk_blocks(descriptor, walk, file.size):
            walk.take_gtids()
            if walk.marks:
                return walk.transaction_end if walk.marks[0].offset == begin else 0
        return 0

    def _describe(self, head: Head, before: GtidSet) -> None:
        """Begin the output, or go on with a file of another server version."""
        described = FormatDescription.decode(head.format)
        what = described.server_version, described.post_header_lengths
        if self._described == what:
            return
        header = Header.decode(head.format)
        fresh = FormatDescription(described.server_version, 0, described.post_header_lengths, self._algorithm)
        position = self._excerpt.position or len(BINLOG_MAGIC)
        event = self._described_event(fresh, header, position)
        if self._described is None:
            event = BINLOG_MAGIC + event
            if head.previous is not None:
                position = len(event)
                previous = PreviousGtids(before)
                length = len(previous.encode(server_id=header.server_id, algorithm=self._algorithm))
                event += previous.encode(
                    server_id=header.server_id,
                    algorithm=self._algorithm,
                    timestamp=header.timestamp,
                    log_pos=position + length,
                )
            self._excerpt.stand(len(event))
        else:
            self._excerpt.stand(position + len(event))
        self._write(memoryview(event))
        self._described = what

    @staticmethod
    def _described_event(fresh: FormatDescription, header: Header, position: int) -> bytes:
        length = len(fresh.encode(server_id=header.server_id))
        return fresh.encode(server_id=header.server_id, timestamp=header.timestamp, log_pos=position + length)

    def _flush(self, *, everything: bool = False) -> None:
        """Write what is whole; ``everything``: what is known to be part of a whole transaction, too."""
        excerpt, out = self._excerpt, self._out
        size = excerpt.filled if everything else excerpt.settled
        if size:
            self._write(out[:size])
            rest = excerpt.filled - size
            out[:rest] = out[size : excerpt.filled]
            excerpt.filled, excerpt.settled = rest, 0


@contextmanager
def _opened(file: StoredFile) -> Iterator[tuple[int, Head]]:
    """The file and its head. From here on it can be read even if it is removed meanwhile."""
    try:
        with explained("read", file.path):
            descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    except StoreUnreadable as bad:
        if bad.alarm == STORE_MISSING and was_removed(file.timeline, file.name):
            raise StoreUnreadable(
                f"{file.path} was purged before it could be read; the output ends before it, with a whole transaction",
                hint="dump again what is still stored, or from another copy; a longer store.keep, or a larger"
                " store.max_size, leaves time to read",
                alarm=STORE_MISSING,
            ) from bad
        raise
    try:
        with explained("read", file.path):
            try:
                head = read_head(descriptor, file.size)
            except EventError as bad:
                raise _damaged(file, bad.message) from bad
        if head is None:
            raise _damaged(file, "it ends before its first event")
        yield descriptor, head
    finally:
        os.close(descriptor)


def _damaged(file: StoredFile, what: str) -> StoreDamaged:
    return StoreDamaged(f"{file.path}: {what}; the output ends before it, with a whole transaction", hint=DAMAGED_HINT)
