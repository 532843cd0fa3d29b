"""What the sender may show: the published files, kept up to date with the receiver's publications.

Of each file it knows its name and its size, no more, so that ten thousand of them take little time and memory.
PREVIOUS_GTIDS are read from the files that a seek asks about. A publication that names a newer file means that those
before it are finished: they are the next ones by number, and only when they are not, as at the beginning of a new
timeline, is the folder listed. A publication of the same file only moves its end. What a timeline that has ended holds
never changes, and is remembered.

Without a receiver everything is read once, a line of .idx for each finished file. That goes only while nobody writes:
beside a receiver that cannot be asked, what the newest file holds may not be durable, or may be cut off again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.binlog.walk import Mark
from binlogd.errors import EventError, StoreDamaged, StoreError
from binlogd.sender.damage import Damage
from binlogd.sender.plan import Logs, StoredLog, spans
from binlogd.store.disk import Disk, explained
from binlogd.store.index import fingerprint, read_marks, read_recorded
from binlogd.store.layout import DataFolder, Timeline, binlog_base, binlog_number
from binlogd.store.lock import Taking, look
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.purged import load as load_purged
from binlogd.store.purged import without
from binlogd.store.reader import (
    FIRST_EVENT,
    Head,
    Holdings,
    read_added,
    read_finished,
    read_further,
    read_head,
    read_previous,
    read_store,
)
from binlogd.store.removed import First, order_of
from binlogd.store.removed import load as load_removed
from binlogd.store.seek import ends_with_rotate
from binlogd.store.settled import settle
from binlogd.store.source_facts import FILE, SourceSettings, load

Alone = Callable[[], Awaitable[Taking | None]]
"""Asks whether the files alone tell what there is. Equal answers: so it was all the while. None: a receiver writes."""

CLAIMS = 32  # PREVIOUS_GTIDS remembered: replicas that come back together ask about the same files


@dataclass(frozen=True, slots=True)
class _Found:
    """A store as it was read from disk, up to its last whole transaction."""

    timelines: dict[int, Timeline]
    logs: list[StoredLog]
    publication: Publication
    marks: tuple[Mark, ...]  # of the newest file


def _read(folder: DataFolder) -> _Found:
    """Read everything; what it finds of the newest file is durable."""
    for path in [timeline.path / name for timeline in folder.timelines() for name in timeline.binlogs()][-1:]:
        settle(path, Disk())
    holdings = Holdings()
    timelines, logs = {}, []
    marks: tuple[Mark, ...] = ()
    for file in read_store(folder):
        holdings.add(file)
        timelines[file.timeline.number] = file.timeline
        logs.append(StoredLog(file.timeline.number, file.name, file.size))
        marks = file.marks
    return _Found(timelines, logs, holdings.publication(), marks)


class Catalog:
    """The files in order, and the newest publication. Belongs to one event loop, but for what says that it does not."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._timelines: dict[int, Timeline] = {}  # by number
        self._before: list[int] = []  # bytes in the files before each
        self._walked: tuple[Path, tuple[Mark, ...]] = Path(), ()  # the file that was walked here, and its marks
        self._read_claim = lru_cache(CLAIMS)(_read_claim)
        self._held: dict[Path, GtidSet] = {}  # by each timeline that has ended, by its last file
        self._added_to: tuple[Path, int, GtidSet] = Path(), 0, GtidSet()  # what the newest file added, up to where
        self.damage = Damage()
        self.logs = Logs()
        self.publication = NOTHING
        self._source: SourceSettings | None = None
        self._source_of: tuple[Path, int, int] = Path(), 0, 0  # the file that it was read from, one version of it
        self.checksum = "CRC32"  # the newest file's algorithm, as @@binlog_checksum says it
        self._changed = asyncio.Event()
        self._looked_at = 0  # size of the newest file when it was last walked without a receiver

    # --- what is there ---

    def path(self, index: int) -> Path:
        """Where the file with that index lies."""
        log = self.logs[index]
        return self._timelines[log.timeline].path / log.name

    @property
    def source(self) -> SourceSettings | None:
        """Of the newest timeline. The receiver writes them anew when it connects, in the midst of a file too."""
        if not self.logs:
            return None
        folder = self.path(-1).parent
        version = 0, 0
        with suppress(OSError):
            kept = (folder / FILE).stat()
            version = kept.st_ino, kept.st_mtime_ns
        if (folder, *version) != self._source_of:
            self._source, self._source_of = load(folder), (folder, *version)
        return self._source

    def claims(self, index: int) -> GtidSet | None:
        """The PREVIOUS_GTIDS of the file with that index; None: none (yet), or damaged ones. From any thread."""
        if index < len(self.logs) - 1:
            return self._read_claim(self.path(index))
        return read_previous(self.path(index), self.logs[index].size)

    def ended(self, index: int) -> GtidSet:
        """What a timeline holds at its end, of which the file with that index is the last. From any thread.

        Of the newest file what is new is read; of another one its .idx.
        """
        path, finished = self.path(index), index < len(self.logs) - 1
        held = self._held.get(path)
        if held is None:
            held = self._sum_up(index)
            if finished:  # before it was read, and not only now
                self._held[path] = held
        return held

    def _sum_up(self, index: int) -> GtidSet:
        """A file's PREVIOUS_GTIDS and what it added; of one without, what those before it hold, too."""
        timeline, held = self.logs[index].timeline, GtidSet()
        while index >= self.logs.first and self.logs[index].timeline == timeline:
            held |= self.added(index)
            claim = self.claims(index)
            if claim is not None:
                return held | claim
            index -= 1
        return held

    def added(self, index: int) -> GtidSet:
        """What the file with that index added. From any thread.

        The newest, which has no .idx, is read, but no byte twice: a replica that is refused asks again every second.
        """
        log = self.logs[index]
        if index < len(self.logs) - 1:
            return read_finished(self._timelines[log.timeline], log.name)[0].summary.added
        path, known = self.path(index), self._added_to
        position, added = known[1:] if known[0] == path and known[1] <= log.size else (FIRST_EVENT, GtidSet())
        if position < log.size:
            try:
                more = read_added(path, position, log.size)
            except EventError as bad:
                raise StoreDamaged(f"{path}: {bad.message}") from bad
            added |= more.gtids
            self._added_to = path, more.position, added
        return added

    def kept(self, timeline: int) -> GtidSet:
        """What the source of a timeline had purged without a word of it in its files. From any thread."""
        return load_purged(self._timelines[timeline].path)

    def announces(self, index: int, name: str) -> bool:
        """Whether the file with that index ends with a ROTATE to the one of that name. From any thread."""
        return ends_with_rotate(self.path(index), self.logs[index].size, name)

    def timelines(self) -> list[Timeline]:
        """Those that have files, oldest first."""
        return [self._timelines[self.logs[begin].timeline] for begin, _ in spans(self.logs)]

    def sources(self) -> dict[int, str]:
        """The server_uuid of each timeline's source, by the timeline's number."""
        return {timeline.number: timeline.source_uuid for timeline in self.timelines()}

    def marks(self, index: int) -> Iterator[Mark]:
        """The marks of the file with that index, read while they are asked for. From any thread."""
        path = self.path(index)
        found = read_marks(path)
        first = next(found, None)
        if first is not None:
            return chain((first,), found)
        walked, marks = self._walked
        return iter(marks if walked == path else ())

    def lag_bytes(self, index: int, position: int) -> int:
        """Published bytes behind a position of the file with that index."""
        return max(self._before[-1] + self.logs[-1].size - self._before[index] - position, 0)

    async def wait(self, seen: Publication, timeout: float | None) -> bool:
        """Until there is a publication other than ``seen``; False when ``timeout`` seconds went by."""
        if self.publication is not seen:
            return True
        event = self._changed
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return False
        return True

    # --- with a receiver ---

    def update(self, publication: Publication) -> None:
        """The receiver published more."""
        newest = self.logs[-1] if self.logs else None
        if not publication.file or (newest is not None and _is_before(publication, newest)):
            return
        if newest is None or (newest.timeline, newest.name) != (publication.timeline, publication.file):
            if not self._go_on_to(publication):
                self._list_up_to(publication)
            self._look_at_newest()
        else:
            self.logs.replace_newest([StoredLog(newest.timeline, newest.name, publication.position)])
        self._forget_before(publication.first)
        self._announce(publication)

    def _forget_before(self, first: First) -> None:
        """What stands before that file was removed, as a publication says. Who is at it goes on reading it."""
        logs, wanted = self.logs, order_of(first)
        while logs.first < len(logs) - 1 and _order(logs[logs.first]) < wanted:
            logs.first += 1

    @property
    def oldest(self) -> First | None:
        """The oldest file that a dump may begin with."""
        logs = self.logs
        return (logs[logs.first].timeline, logs[logs.first].name) if logs else None

    def removed(self, index: int) -> bool:
        """Whether the file with that index was removed, by retention or PURGE. From any thread."""
        log = self.logs[index]
        with suppress(StoreError):  # nobody knows, then
            return _order(log) < order_of(load_removed(self._folder.binlogs).first)
        return False

    def _go_on_to(self, publication: Publication) -> bool:
        """Add the files that follow the newest by number, up to the published one; False when they are not there."""
        newest = self.logs[-1] if self.logs else None
        if newest is None or newest.timeline != publication.timeline:
            return False
        base, first, last = binlog_base(newest.name), binlog_number(newest.name), binlog_number(publication.file)
        if last <= first:
            return False
        names = [newest.name, *(f"{base}.{number:06d}" for number in range(first + 1, last)), publication.file]
        folder = self._timelines[newest.timeline].path
        try:
            sizes = [(folder / name).stat().st_size for name in names]
        except OSError:
            return False
        sizes[-1] = publication.position
        for size in sizes[:-1]:
            self._before.append(self._before[-1] + size)
        # In one step, for other threads look here; and the newest they know stays where it is.
        self.logs.replace_newest(
            StoredLog(newest.timeline, name, size) for name, size in zip(names, sizes, strict=True)
        )
        return True

    def _list_up_to(self, publication: Publication) -> None:
        """Add what the folders have, from the newest file that is known to the published one."""
        timelines, logs = dict(self._timelines), self.logs.everything()
        newest = logs.pop() if logs else None
        for timeline in self._folder.timelines():
            if newest is not None and timeline.number < newest.timeline:
                continue
            timelines[timeline.number] = timeline
            for name in timeline.binlogs():
                known = newest is not None and timeline.number == newest.timeline
                if known and newest is not None and binlog_number(name) < binlog_number(newest.name):
                    continue
                place = timeline.number, binlog_number(name)
                if place < order_of(publication.first) and (newest is None or place != _order(newest)):
                    continue  # removed, and perhaps being unlinked
                if (timeline.number, name) == (publication.timeline, publication.file):
                    logs.append(StoredLog(timeline.number, name, publication.position))
                    self._replace(timelines, logs)
                    return
                logs.append(StoredLog(timeline.number, name, _size(timeline.path / name)))
        raise StoreDamaged(
            f"the receiver published {publication.file}, which is not in {self._folder.binlogs}",
            hint="nothing but binlogd may move files in the data folder; restart `binlogd serve`",
        )

    # --- without a receiver ---

    def read(self) -> None:
        """What is on disk, up to the last whole transaction, made durable first. Nobody may write meanwhile."""
        self._take(_read(self._folder))

    def taking(self) -> Taking:
        """The store's lock, as it was last taken."""
        return look(self._folder.lock)

    async def read_on(self, alone: Alone) -> bool:
        """What is on disk beyond what is known; looks at nothing when nothing grew. False: somebody may be writing.

        Only the newest file is walked, from where it was published; when there are more files all is read.
        """
        before = await alone()
        if before is None:
            return False
        if self._has_more_files() or self._lost_the_first():
            found = await asyncio.to_thread(_read, self._folder)
            if await alone() != before:
                return False
            self._take(found)
        if not self.logs:
            return True
        newest, old, path = self.logs[-1], self.publication, self.path(-1)
        size = _size(path)
        if size == self._looked_at:
            return True
        more = await asyncio.to_thread(read_further, path, newest.size)
        if await alone() != before:
            return False
        self._looked_at = size
        if more is None:
            return True
        executed, purged = old.executed, old.purged
        if read_previous(path, newest.size) is None:
            missing = (read_previous(path, more.position) or GtidSet()) - executed
            executed, purged = executed | missing, purged | missing
        self.logs.replace_newest([StoredLog(newest.timeline, newest.name, more.position)])
        executed |= more.gtids
        purged = without(purged, more.gtids.runs())
        self._announce(replace(old, position=more.position, executed=executed, purged=purged))
        return True

    def _lost_the_first(self) -> bool:
        """Whether the oldest file is not there any more: `binlogd purge` removes without a receiver, too."""
        return bool(self.logs) and not self.path(self.logs.first).exists()

    def _has_more_files(self) -> bool:
        """Whether there is a file behind the newest, or a timeline."""
        timelines = self._folder.timelines()
        if not timelines:
            return False
        newest = self.logs[-1] if self.logs else None
        if newest is None or timelines[-1].number != newest.timeline:
            return bool(timelines[-1].binlogs()) or (newest is None and any(each.binlogs() for each in timelines))
        following = timelines[-1].path / f"{binlog_base(newest.name)}.{binlog_number(newest.name) + 1:06d}"
        with explained("read", following):
            return following.exists()

    def _take(self, found: _Found) -> None:
        before = self.logs.everything()
        # Each file stays at the index that it has already: behind those that are not there any more.
        gone = next(
            (at for at, log in enumerate(before) if found.logs and _order(log) >= _order(found.logs[0])), len(before)
        )
        self._replace(self._timelines | found.timelines, before[:gone] + found.logs)
        self.logs.first = max(self.logs.first, min(gone, len(self.logs) - 1))
        self._forget_before(found.publication.first)
        if self.logs:
            self._walked = self.path(-1), found.marks
            self._looked_at = 0
            self._look_at_newest()
        self._announce(found.publication)

    # --- both ---

    def _replace(self, timelines: dict[int, Timeline], logs: list[StoredLog]) -> None:
        self._timelines, self.logs = timelines, Logs(logs, self.logs.first)
        self._before = list(accumulate((log.size for log in logs[:-1]), initial=0))

    def _announce(self, publication: Publication) -> None:
        self.publication = publication
        self._changed.set()
        self._changed = asyncio.Event()

    def _look_at_newest(self) -> None:
        path = self.path(-1)
        head = self._head(path, self.logs[-1].size)
        self.checksum = "CRC32" if head and head.algorithm is ChecksumAlgorithm.CRC32 else "NONE"

    @staticmethod
    def _head(path: Path, end: int) -> Head | None:
        with explained("read", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return read_head(descriptor, end)
            except EventError as bad:
                raise StoreDamaged(f"{path}: {bad.message}") from bad
            finally:
                os.close(descriptor)


def _order(log: StoredLog) -> tuple[int, int]:
    return log.timeline, binlog_number(log.name)


def _is_before(publication: Publication, newest: StoredLog) -> bool:
    """Whether a publication tells less than is shown.

    None should, for nothing that is shown is ever cut off: recovery keeps every whole transaction that the disk has,
    and this process showed no other. If one does, nothing moves back for it.
    """
    said = publication.timeline, binlog_number(publication.file), publication.position
    return said < (newest.timeline, binlog_number(newest.name), newest.size)


def _read_claim(path: Path) -> GtidSet | None:
    """The PREVIOUS_GTIDS of a finished file; None when it has none, or not those any more that its .idx knows of.

    Who is not led by them begins in an earlier file: what he has is left out, and nothing else.
    """
    try:
        claim = read_previous(path)
    except StoreDamaged:
        return None
    recorded = read_recorded(path)
    if claim is None or (recorded is not None and recorded.claimed != fingerprint(claim)):
        return None
    return claim


def _size(path: Path) -> int:
    with explained("read", path):
        return path.stat().st_size
