"""Looking for damage: every byte of every stored file, and whether the files fit together.

One pass, at the walk's speed, in the memory of two blocks: of each event length, end and CRC-32; of each file the head,
the end, and that its .idx says what it holds; of each folder that no number is missing and that the list of files is
one. Within a timeline a file's PREVIOUS_GTIDS are those of the file before and what it added, and no GTID stands twice.
GTIDs that are out of order, or that nobody has used (yet), are no damage: servers commit so.

It takes no lock and writes nothing, so that it can run beside a receiver: what is newer than the publication it is
given does not exist for it.

Behind a bad event it goes on where an event is sure to begin: where length and end of the bad one agree, else where one
of them leads to a sound event, else at the next mark of the .idx; and with the next file in any case. So one run names
all that is damaged. Where a file has no checksums, only its structure can tell (``Verification.unsummed``).
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from binlogd.binlog.events import Rotate
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import BINLOG_MAGIC, ChecksumAlgorithm, EventType, type_name
from binlogd.binlog.walk import HEADER_LENGTH, MAX_EVENT, Walk
from binlogd.errors import EventError, StoreDamaged, StoreUnreadable
from binlogd.store.disk import STORE_MISSING, explained
from binlogd.store.index import Summary, fingerprint, index_path, list_path, read_marks, read_recorded
from binlogd.store.layout import DataFolder, Timeline, binlog_base, binlog_number, is_binlog_name
from binlogd.store.publication import Publication
from binlogd.store.purged import FILE as PURGED_FILE
from binlogd.store.purged import is_sound as is_sound_purged
from binlogd.store.purged import load as load_purged
from binlogd.store.reader import FIRST_EVENT, Head, read_head, walk_blocks
from binlogd.store.removed import ALL, First, files_left, order_of, unsound
from binlogd.store.removed import load as load_removed
from binlogd.store.rescue import kept
from binlogd.store.seek import begins_event, holds
from binlogd.store.source_facts import FILE as SOURCE_FILE
from binlogd.store.source_facts import is_sound

MOST_EVENTS = 20  # bad events told of in one file; behind so many it is not looked at any more
MOST_MISSING = 1000  # files told of in one hole

Progress = Callable[[int, int, str], None]  # (bytes done, bytes in all, name of the file)

REFETCH = "binlogd verify --repair fetches the file again while the source has it; else restore it from a copy"
REBUILD = "the receiver makes it again when it starts, and so does binlogd verify --repair"


class Level(enum.StrEnum):
    """How bad it is. A warning is something that happens without damage, too; a note is nothing wrong."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Kind(enum.StrEnum):
    """What is wrong."""

    EVENT = "event"  # bytes are not what was written
    SIZE = "size"  # the file was cut, or grew
    END = "end"  # it does not end as such a file ends
    MISSING = "missing"
    SURPLUS = "surplus"
    GTIDS = "gtids"  # what it says is before it, or what it adds, does not fit the others
    INDEX = "index"  # the .idx beside it
    LIST = "list"  # the .index of the folder
    CUT = "cut"  # what recovery cut off, kept beside its file
    SETTINGS = "settings"  # the folder's source.json
    PURGED = "purged"  # the folder's gtid_purged.json
    REMOVED = "removed"  # the note of what was removed


REFETCHED = frozenset({Kind.EVENT, Kind.SIZE, Kind.END, Kind.MISSING})
"""What a new copy of the file mends."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``offset`` is where in the file, None where that means nothing; ``event`` the type that stands there, or ""."""

    level: Level
    kind: Kind
    path: Path
    offset: int | None
    event: str
    message: str
    hint: str


@dataclass(slots=True)
class _Chain:
    """What the files of a timeline amount to so far. ``expected`` is None while nothing is known of that.

    ``purged`` is what no file of it needs to hold.
    """

    purged: GtidSet
    expected: GtidSet | None = None
    claims: bool = False  # the files have PREVIOUS_GTIDS


class Verification:
    """One run. ``published`` is what a running receiver says, None without one; ``only`` the files to look at."""

    def __init__(
        self,
        folder: DataFolder,
        *,
        published: Publication | None = None,
        only: Collection[Path] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._folder = folder
        self._published = published
        self._only = only
        self._progress = progress
        self._done = self._total = 0
        self.files = 0
        self.bytes = 0
        self.transactions = 0
        self.unsummed: list[Path] = []  # the files that have no checksums

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, as it is found. Raises StoreUnreadable when it cannot read.

        What is removed meanwhile is not missed.
        """
        return (finding for finding in self._findings() if not self._went(finding.path))

    def _findings(self) -> Iterator[Finding]:
        left = files_left(self._folder, self._first())
        listing = [
            (timeline, self._published_of(timeline, [name for each, name in left if each == timeline]))
            for timeline in self._folder.timelines()
        ]
        for timeline, names in listing:
            for name in names:
                if self._wanted(timeline.path / name):
                    with self._passing_over(timeline.path / name):
                        self._total += _size(timeline.path / name)
        for path in unsound(self._folder.binlogs) if self._only is None else ():
            yield _finding(Kind.REMOVED, path, "it cannot be read, or a bit of it is wrong", _REMOVED)
        for timeline, names in listing:
            if self._only is None:
                yield from self._look_at_folder(timeline, names)
            newest = timeline is listing[-1][0]
            chain = _Chain(load_purged(timeline.path))
            for before, name in zip([None, *names], names, strict=False):
                if before is not None and binlog_number(before) + 1 != binlog_number(name):
                    chain.expected = None
                finished = not newest or name != names[-1]
                with self._passing_over(timeline.path / name, chain):
                    if self._wanted(timeline.path / name):
                        file = _File(self, timeline, name, finished=finished, last=name == names[-1])
                        yield from file.findings(chain)
                    else:
                        _pass_over(chain, timeline.path / name)

    def _wanted(self, path: Path) -> bool:
        return self._only is None or path in self._only

    def _first(self) -> First:
        """The first file that is left. A note that cannot be read is told of, and nothing else follows from it."""
        with suppress(StoreDamaged):
            return load_removed(self._folder.binlogs).first
        return ALL

    def _went(self, path: Path) -> bool:
        """Whether a binary log, or what lies beside it, was removed by now, as retention and PURGE do."""
        name = path.name.partition(".cut-")[0].removesuffix(".idx")
        number = path.parent.name.partition("-")[0]
        return is_binlog_name(name) and (int(number), binlog_number(name)) < order_of(self._first())

    @contextmanager
    def _passing_over(self, path: Path, chain: _Chain | None = None) -> Iterator[None]:
        """A file that is removed just now; what it added is not known, then."""
        try:
            yield
        except StoreUnreadable as bad:
            if bad.alarm != STORE_MISSING or not self._went(path):
                raise
            if chain is not None:
                chain.expected = None

    def _published_of(self, timeline: Timeline, names: list[str]) -> list[str]:
        """Those of a timeline's files that are published."""
        published = self._published
        if published is None or timeline.number < published.timeline:
            return names
        if timeline.number > published.timeline:
            return []
        last = binlog_number(published.file)
        return [name for name in names if binlog_number(name) <= last]

    @property
    def is_live(self) -> bool:
        """Whether a receiver told what is published: then that is whole."""
        return self._published is not None

    def end_of(self, path: Path, size: int) -> int:
        """How much of a file counts: of the newest what is published."""
        published = self._published
        if published is not None and path.name == published.file:
            timeline = path.parent.name.partition("-")[0]
            return published.position if int(timeline) == published.timeline else size
        return size

    def advanced(self, size: int, name: str) -> None:
        """So many bytes more were looked at."""
        self._done += size
        self.bytes += size
        if self._progress is not None:
            self._progress(self._done, self._total, name)

    # --- a folder ---

    def _look_at_folder(self, timeline: Timeline, names: list[str]) -> Iterator[Finding]:
        with explained("list", timeline.path):
            entries = os.listdir(timeline.path)
        base = binlog_base(names[-1]) if names else ""
        missing: set[str] = set()
        for name in names:
            if binlog_base(name) != base:
                yield _finding(Kind.SURPLUS, timeline.path / name, f"the files of this folder are called {base}", "")
        for one, other in pairwise([name for name in names if binlog_base(name) == base]):
            first, last = binlog_number(one) + 1, binlog_number(other) - 1
            missing |= {f"{base}.{number:06d}" for number in range(first, min(last, first + MOST_MISSING) + 1)}
        listed = yield from self._look_at_list(timeline, names, base)
        known = binlog_number(names[-1]) if names else 0
        for name in listed:
            if name not in names and (self._published is None or binlog_number(name) < known):
                missing.add(name)
        for entry in entries:
            binlog = entry.removesuffix(".idx")
            if binlog != entry and is_binlog_name(binlog) and binlog not in entries:
                missing.add(binlog)
            elif not _is_ours(entry):
                hint = "move it away: nothing but binlogd puts files there"
                yield _finding(Kind.SURPLUS, timeline.path / entry, "binlogd knows no such file", hint, Level.WARNING)
        for name in sorted(missing, key=binlog_number):
            yield _finding(Kind.MISSING, timeline.path / name, "the file is not there", REFETCH)
        settings = timeline.path / SOURCE_FILE
        if SOURCE_FILE in entries and not is_sound(timeline.path):
            yield _finding(Kind.SETTINGS, settings, "it cannot be read", "the receiver makes it again when it connects")
        if PURGED_FILE in entries and not is_sound_purged(timeline.path):
            text = "it cannot be read: which GTIDs the source had purged, but for what its files say, is not known"
            yield _finding(Kind.PURGED, timeline.path / PURGED_FILE, text, _PURGED)
        for copy in kept(timeline):
            what = f"{copy.size} bytes that recovery cut off {copy.binlog.name} at {copy.begin}, behind a bad event"
            rest = "which holds all of them again" if copy.spare else "which does not hold all of them"
            hint = _SPARE if copy.spare else _ONLY_COPY
            yield _finding(Kind.CUT, copy.path, f"{what}; {rest}", hint, Level.NOTE)

    def _look_at_list(self, timeline: Timeline, names: list[str], base: str) -> Generator[Finding, None, list[str]]:
        """The .index: told of what it lacks; the names that it has are returned."""
        if not names:
            return []
        path = list_path(timeline, names[-1])
        try:
            lines = path.read_bytes().decode(errors="surrogateescape").split("\n")
        except FileNotFoundError:
            yield _finding(Kind.LIST, path, "the list of files is not there", REBUILD)
            return []
        listed = [line.removeprefix("./") for line in lines[:-1]]
        sound = [name for name in listed if is_binlog_name(name) and binlog_base(name) == base]
        if (
            lines[-1]
            or sound != listed
            or len(set(sound)) != len(sound)
            or not all(line.startswith("./") for line in lines[:-1])
        ):
            yield _finding(Kind.LIST, path, "it is no list of this folder's files", REBUILD)
        elif sorted(sound, key=binlog_number) != sound:
            yield _finding(Kind.LIST, path, "its files are not in their order", REBUILD)
        for name in names:
            if name not in sound and binlog_base(name) == base and not self._went(timeline.path / name):
                hint = f"if the file belongs to this history, {REBUILD}; else move the file away"
                yield _finding(Kind.LIST, path, f"it does not name {name}", hint)
        return sound


class _File:
    """One file under examination."""

    def __init__(self, run: Verification, timeline: Timeline, name: str, *, finished: bool, last: bool) -> None:
        self._run = run
        self._timeline = timeline
        self._path = timeline.path / name
        self._finished = finished
        self._last = last  # of its timeline
        self._descriptor = -1
        self._end = 0
        self._bad = 0  # events
        self._added = GtidSet()
        self._marks_differ = False

    def findings(self, chain: _Chain) -> Iterator[Finding]:
        """What is wrong with it; the chain goes on with it."""
        with explained("read", self._path):
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield from self._examine(chain)
            finally:
                os.close(self._descriptor)
        self._run.files += 1

    def _finding(
        self, kind: Kind, message: str, hint: str = REFETCH, *, offset: int | None = None, event: str = ""
    ) -> Finding:
        return Finding(Level.ERROR, kind, self._path, offset, event, message, hint)

    def _examine(self, chain: _Chain) -> Iterator[Finding]:
        size = os.fstat(self._descriptor).st_size
        self._end = self._run.end_of(self._path, size)
        recorded = read_recorded(self._path) if self._finished else None
        cut = False
        if recorded is not None and recorded.size != size:
            cut = True
            yield self._finding(Kind.SIZE, f"it has {size} bytes and was finished with {recorded.size}")
        elif size < self._end:
            cut = True
            yield self._finding(Kind.SIZE, f"it has {size} bytes, of which {self._end} were published")
        if os.pread(self._descriptor, len(BINLOG_MAGIC), 0) != BINLOG_MAGIC:
            self._bad += 1
            yield self._finding(Kind.EVENT, "it does not begin with a binary log's four bytes", offset=0)
        head = yield from self._read_head(recorded)
        if head is None:
            chain.expected = None
            return
        if not head.algorithm.length:
            self._run.unsummed.append(self._path)
        walk = yield from self._walk(head)
        self._run.transactions += walk.transactions
        whole = not self._bad and not cut
        if not self._bad:
            ending = list(self._look_at_end(head, walk))
            whole = whole and not any(finding.level is Level.ERROR for finding in ending)
            yield from ending
            yield from self._look_at_gtids(head, chain)
        chain.claims |= head.previous is not None
        chain.expected = head.previous | self._added if whole and head.previous is not None else None
        if self._finished and not cut:
            yield from self._look_at_index(recorded, head, walk, whole=whole)

    def _read_head(self, recorded: Summary | None) -> Generator[Finding, None, Head | None]:
        """The head; where it is bad one that makes it possible to go on, None when nothing does."""
        try:
            head = read_head(self._descriptor, self._end, magic=False)
            if head is None:
                yield self._finding(Kind.EVENT, "it ends before its first event", offset=FIRST_EVENT)
            return head
        except EventError as bad:
            self._bad += 1
            yield self._finding(Kind.EVENT, bad.message, offset=FIRST_EVENT, event=self._type_at(FIRST_EVENT))
        if recorded is None:
            return None
        return Head(b"", recorded.server_version, ChecksumAlgorithm(recorded.checksum), None, 0)

    def _type_at(self, offset: int) -> str:
        raw = os.pread(self._descriptor, HEADER_LENGTH, offset)
        return type_name(raw[4]) if len(raw) == HEADER_LENGTH else ""

    # --- its events ---

    def _walk(self, head: Head) -> Generator[Finding, None, Walk]:
        """All its events; the walk over the last stretch of them."""
        start: int | None = FIRST_EVENT if head.format else self._behind(head, FIRST_EVENT)
        walk = Walk(position=start or self._end, checksum=head.algorithm.length)
        marks = read_marks(self._path) if self._finished else iter(())
        before = 0
        while True:
            bad = None
            try:
                for _ in walk_blocks(self._descriptor, walk, self._end):
                    self._run.advanced(walk.position - before, self._path.name)
                    before = walk.position
                    yield from self._take(walk)
                    self._marks_differ |= any(mark != next(marks, None) for mark in walk.marks)
                    walk.marks.clear()
            except EventError as event_error:
                bad = event_error
            yield from self._take(walk)
            self._marks_differ |= any(mark != next(marks, None) for mark in walk.marks)
            walk.marks.clear()
            if bad is None:
                break
            self._bad += 1
            place = walk.position
            self._run.advanced(place - before, self._path.name)
            yield self._finding(Kind.EVENT, bad.message, offset=place, event=type_name(walk.type))
            start = self._behind(head, place) if self._bad < MOST_EVENTS else None
            if start is None:
                if place < self._end:
                    rest = f"the {self._end - place} bytes from {place} on could not be checked"
                    yield replace(self._finding(Kind.EVENT, rest, offset=place), level=Level.WARNING)
                self._run.advanced(self._end - place, self._path.name)
                break
            self._run.advanced(start - place, self._path.name)
            before = start
            self._run.transactions += walk.transactions
            walk = Walk(position=start, checksum=head.algorithm.length)
        self._marks_differ |= next(marks, None) is not None
        return walk

    def _take(self, walk: Walk) -> Iterator[Finding]:
        """The GTIDs that were walked, of which none may have been there."""
        runs = walk.take_gtids()
        if not runs:
            return
        together = self._added.add_runs(runs)
        if together.count() != self._added.count() + sum(run.last - run.first + 1 for run in runs):
            twice, seen = GtidSet(), self._added
            for run in runs:
                one = GtidSet.from_runs([run])
                twice |= seen & one
                seen |= one
            yield self._finding(Kind.GTIDS, f"it holds {twice.compact()} twice", hint=_TWICE)
        self._added = together

    def _behind(self, head: Head, position: int) -> int | None:
        """Where behind a bad event an event is sure to begin; None when nothing is sure."""
        raw = os.pread(self._descriptor, HEADER_LENGTH, position)
        if len(raw) == HEADER_LENGTH:
            length, log_pos = int.from_bytes(raw[9:13], "little"), int.from_bytes(raw[13:17], "little")
            by_end = position + ((log_pos - position) & 0xFFFFFFFF)
            if by_end == position + length and HEADER_LENGTH <= length <= MAX_EVENT and by_end <= self._end:
                return by_end
            for place in (position + length, by_end):
                if position + HEADER_LENGTH <= place < self._end and begins_event(self._path, head, place, self._end):
                    return place
        for mark in read_marks(self._path):
            if mark.offset > position and mark.gno and holds(self._descriptor, mark, self._end, head.algorithm.length):
                return mark.offset
        return None

    # --- what it amounts to ---

    def _look_at_end(self, head: Head, walk: Walk) -> Iterator[Finding]:
        end, place = self._end, walk.transaction_end
        if walk.position < end or place < end:
            what = "within an event" if walk.position < end else "within a transaction"
            if walk.position < end if self._finished else self._run.is_live:
                yield self._finding(Kind.END, f"it ends {what}", offset=place)
            elif self._finished:
                text = "it ends within a transaction, as when its server crashed"
                yield replace(self._finding(Kind.END, text, _CRASHED, offset=place), level=Level.WARNING)
            else:
                text = f"it ends {what}: {end - place} bytes, as a kill leaves them"
                hint = "nothing: the receiver drops them when it starts, and the source sends them again"
                yield replace(self._finding(Kind.END, text, hint, offset=place), level=Level.WARNING)
            return
        if not self._finished or self._last:
            return
        at = walk.position - walk.length
        event = os.pread(self._descriptor, min(walk.length, MAX_EVENT), at)
        if walk.type == EventType.ROTATE:
            try:
                rotate = Rotate.decode(event, head.algorithm.length)
            except EventError as bad:
                yield self._finding(Kind.EVENT, bad.message, offset=at, event="Rotate")
                return
            expected = f"{binlog_base(self._path.name)}.{binlog_number(self._path.name) + 1:06d}"
            if rotate != Rotate(FIRST_EVENT, expected):
                text = f"it goes on in {rotate.name}:{rotate.position}, and {expected} follows it"
                yield self._finding(Kind.END, text, offset=at, event="Rotate")
        elif walk.type != EventType.STOP:
            text = "it ends without a Rotate or Stop event, as when its server crashed"
            yield replace(self._finding(Kind.END, text, _CRASHED, offset=at), level=Level.WARNING)

    def _look_at_gtids(self, head: Head, chain: _Chain) -> Iterator[Finding]:
        claim, expected = head.previous, chain.expected
        place = FIRST_EVENT + len(head.format)
        if claim is None:
            if chain.claims and self._end > place:
                text = "it has no Previous_gtids, which the files before it have"
                yield self._finding(Kind.GTIDS, text, offset=place, event=self._type_at(place))
            return
        twice = self._added & claim
        if twice:
            text = f"it holds {twice.compact()}, which its Previous_gtids say are in files before it"
            yield self._finding(Kind.GTIDS, text, _TWICE)
        if expected is None:
            return
        unknown, lacking = claim - expected - chain.purged, expected - claim
        if unknown:
            text = f"its Previous_gtids name {unknown.compact()}, which no file before it holds"
            hint = "they are missing, unless gtid_purged was set at the source then; compare with the source's files"
            yield self._finding(Kind.GTIDS, text, hint, offset=place, event="Previous_gtids")
        if lacking:
            text = f"its Previous_gtids lack {lacking.compact()}, which the files before it hold"
            yield self._finding(Kind.GTIDS, text, _LACKING, offset=place, event="Previous_gtids")

    def _look_at_index(self, recorded: Summary | None, head: Head, walk: Walk, *, whole: bool) -> Iterator[Finding]:
        path = index_path(self._path)
        if recorded is None:
            text = "there is none" if not path.exists() else "it cannot be read, or a bit of it is wrong"
            yield _finding(Kind.INDEX, path, text, REBUILD)
            return
        if not whole:
            return
        found = Summary(
            name=self._path.name,
            size=self._end,
            first_time=walk.first_time,
            last_time=walk.last_time,
            claimed=None if head.previous is None else fingerprint(head.previous),
            added=self._added,
            transactions=walk.transactions,
            checksum=head.algorithm,
            server_version=head.server_version,
        )
        if found != recorded:
            yield _finding(Kind.INDEX, path, "it does not say what the file holds", REBUILD)
        elif self._marks_differ:
            yield _finding(Kind.INDEX, path, "its marks are not those of the file, or a bit of one is wrong", REBUILD)


_PURGED = (
    "restore it from a copy; of the source that is followed now the receiver makes it again when it connects. Until"
    " then a replica that lacks those GTIDs is served as if nothing were missing"
)
_REMOVED = (
    "put the other copy of the two in its place: it says which GTIDs are executed though their files were removed"
)
_SPARE = "the receiver removes it when it starts"
_ONLY_COPY = "it may be the only copy of a transaction: compare it with the source's file before you remove it"
_TWICE = "no server writes a GTID twice: keep the store as it is and compare it with the source's files"
_CRASHED = "compare its size with the source's file: if the source did not crash then, the end is missing"
_LACKING = "the source lost them, or was restored from an older state: compare it with the store before you go on"


def _finding(kind: Kind, path: Path, message: str, hint: str, level: Level = Level.ERROR) -> Finding:
    return Finding(level, kind, path, None, "", message, hint)


def _pass_over(chain: _Chain, path: Path) -> None:
    """Go on with a file that nobody asked for: what it amounts to stands in its head and its .idx."""
    chain.expected = None
    recorded = read_recorded(path)
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            head = read_head(descriptor, size)
        except EventError:
            return
        finally:
            os.close(descriptor)
    if head is not None and head.previous is not None:
        chain.claims = True
        if recorded is not None and recorded.size == size:
            chain.expected = head.previous | recorded.added


def _is_ours(entry: str) -> bool:
    """Whether binlogd, or its user at its advice, may have put a file of this name into a timeline's folder."""
    name, _, rest = entry.partition(".damaged-")
    if not rest:
        name, _, rest = entry.partition(".cut-")
    if rest and is_binlog_name(name):
        return True
    stem, _, suffix = entry.rpartition(".")
    if suffix in ("idx", "marks", "synced"):
        return is_binlog_name(stem)
    return entry.startswith(".") or suffix == "index" or entry in (SOURCE_FILE, PURGED_FILE) or is_binlog_name(entry)


def _size(path: Path) -> int:
    with explained("read", path):
        return path.stat().st_size
