"""The newest file of the newest timeline: what is being received.

A timeline's first file comes when another source is followed, and ends the timeline before: until then that one's
newest file is the newest of the store.

A ``Tail`` joins the bytes on disk (``Writer``) with what the walk over them found, and knows the newest publication.
Its caller keeps the order: ``append`` what the walk has walked, ``sync``, and only then ``advance``. While it
catches up it need not wait for the disk: ``begin_sync`` notes what all that is appended amounts to, more may be
appended, and ``advance_synced`` has the publication as soon as that much is durable.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from binlogd.binlog.events import FormatDescription, clear_in_use, for_position_start
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import CRC_LENGTH, ChecksumAlgorithm
from binlogd.binlog.walk import GtidRun, Walk
from binlogd.errors import EventError, ProtocolError, SourceDiverged, SourceRefused
from binlogd.histogram import Histogram
from binlogd.store.disk import Disk
from binlogd.store.index import Summary, fingerprint
from binlogd.store.layout import Timeline, binlog_base, binlog_number
from binlogd.store.overlap import overlap_start
from binlogd.store.publication import Publication, Step
from binlogd.store.purged import load, save, without
from binlogd.store.reader import FIRST_EVENT, Contents
from binlogd.store.seek import ends_with_rotate
from binlogd.store.watch import Watch, missing
from binlogd.store.writer import Writer

MANY_RUNS = 4096  # of GTIDs, one for each sync or gap: a few hundred kB


class Received(NamedTuple):
    """How much has come since a receiver began, of what was written: whole transactions, and events."""

    transactions: int = 0
    events: int = 0


NOTHING_YET = Received()


class Tail:
    """Begins where recovery left the timeline: with ``contents`` of the file ``publication`` names, or no file.

    ``received`` is what was received before, and each fdatasync's time goes to ``sync_times``. ``predecessor`` is the
    tail of the timeline before: it is finished, and at its end, when the first file of this one begins.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        timeline: Timeline,
        publication: Publication,
        contents: Contents | None,
        predecessor: Tail | None = None,
        durable: bool = True,
        watch: Watch | None = None,
        received: Received = NOTHING_YET,
        sync_times: Histogram | None = None,
    ) -> None:
        self._writer = Writer(disk, timeline, durable=durable, watch=watch, sync_times=sync_times)
        self._disk = disk
        self._predecessor = predecessor
        self.publication = publication
        self.said_purged: GtidSet | None = None  # what the source says it has purged, until ``accept_purged``
        self._coming: Publication | None = None  # what the sync in the background will have made durable
        self.walk: Walk | None = None
        self._algorithm = ChecksumAlgorithm.OFF
        self._server_version = ""
        self._format = b""
        self._claimed: int | None = None  # the fingerprint of PREVIOUS_GTIDS, once they are known
        self._head_end = 0  # behind FORMAT_DESCRIPTION; PREVIOUS_GTIDS is looked for once more is there
        self._head_read = False
        self._added = GtidSet()  # to the file, but for what is in _runs
        self._runs: list[GtidRun] = []  # put into it many at a time, for few ask
        self._earlier = received  # and in files finished since we began
        self._found = NOTHING_YET  # what was in the file when we began
        if contents is not None:
            self.walk = contents.walk
            self.walk.rewind()
            self._writer.open(publication.file, self.walk.position)
            self._algorithm = contents.head.algorithm
            self._server_version = contents.head.server_version
            self._format = contents.head.format
            self._claimed = contents.head.claimed
            self._head_end = FIRST_EVENT + len(contents.head.format)
            self._head_read = self.walk.position > self._head_end
            self._added = contents.added
            self._take_marks()
            self._found = Received(contents.walk.transactions, contents.walk.events)

    @property
    def timeline(self) -> Timeline:
        """The timeline that is received."""
        return self._writer.timeline

    @property
    def name(self) -> str:
        """The newest file; "" while there is none."""
        return self._writer.name

    @property
    def transactions(self) -> int:
        """Whole transactions received since we began."""
        return self._earlier.transactions + (self.walk.transactions if self.walk else 0) - self._found.transactions

    @property
    def events(self) -> int:
        """Events received since we began."""
        return self._earlier.events + (self.walk.events if self.walk else 0) - self._found.events

    @property
    def received(self) -> Received:
        """Both."""
        return Received(self.transactions, self.events)

    def overlap(self) -> int:
        """How many bytes before the end the source is to send again, to prove that it has them too (overlap.py)."""
        return self.walk.position - overlap_start(self._writer.path, self.walk.position) if self.walk else 0

    def holds(self, position: int, data: memoryview) -> bool:
        """Whether just these bytes are stored at ``position``."""
        return self._writer.read(position, len(data)) == data

    def resume(self, event: bytes) -> Walk:
        """The source goes on with our newest file, as the repetition of its FORMAT_DESCRIPTION is to prove.

        A source that was reset, or restored from before it wrote the file, sends another one: its bytes must not be
        put behind ours.
        """
        assert self.walk is not None
        # Without checksums MySQL does not compute it anew for what it changes in there.
        crc32 = self._algorithm is ChecksumAlgorithm.CRC32
        if crc32 and clear_in_use(event)[-CRC_LENGTH:] != event[-CRC_LENGTH:]:
            raise EventError(f"the repetition of {self.name}'s FORMAT_DESCRIPTION event fails its CRC-32")
        if for_position_start(event) != for_position_start(self._format):
            raise SourceDiverged(f"its {self.name} begins otherwise than the one that is stored")
        return self.walk

    def start(self, name: str, event: bytes, described: FormatDescription, *, ends_so: bool = False) -> Walk:
        """A new file begins with this FORMAT_DESCRIPTION event. Never in the place of one that is stored.

        The file before it must have ended as files do (receiver/stream.py), unless it ``ends_so`` at the source.
        The file before it is finished, but not before all that can be wrong with the event was looked at: until then
        a reconnect goes on where that file ends.
        """
        following = (binlog_base(name), binlog_number(name) - 1) == (
            binlog_base(self.name),
            binlog_number(self.name or ".0"),
        )
        if (self.timeline.path / name).exists():
            if following:
                raise missing(f"{self.timeline.path / name} is there, and was not when the store was read")
            raise SourceDiverged(f"it begins {name} again, which is stored already")
        if self.name and not following:
            raise SourceDiverged(f"{name} follows {self.name} there: it is not the next file of that history")
        if described.algorithm is ChecksumAlgorithm.UNDEF:
            raise SourceRefused(
                f"the source is {described.server_version}: its binary log knows no checksums",
                hint="binlogd follows MySQL 5.6 and newer, and MariaDB 10 and newer",
            )
        if not (ends_so or described.created or self._ends_with_rotate(name)):
            raise ProtocolError(
                f"the source goes on with {name}, but what it sent of {self.name} has no end: it is asked to prove that"
                " both are of one history"
            )
        walk = Walk(position=FIRST_EVENT, checksum=described.algorithm.length)
        walk.whole(event, 0, len(event))
        self.finish()
        if self._predecessor is not None:
            self._predecessor.finish()
            self._predecessor = None
        self.accept_purged()  # before anything is published of the file
        self._writer.start(name, event)
        self.walk = walk
        self._algorithm = described.algorithm
        self._server_version = described.server_version
        self._format = event
        self._claimed, self._head_read = None, False
        self._head_end = walk.position
        self._added, self._runs = GtidSet(), []
        return walk

    def _ends_with_rotate(self, name: str) -> bool:
        """Whether the last event says that the file of that name follows; true of no file, too."""
        return self.walk is None or ends_with_rotate(self._writer.path, self.walk.position, name)

    def accept_purged(self) -> Publication | None:
        """The source has proved its history: what it said it has purged and no file holds is kept (purged.py).

        The publication, when that tells more. No sync may be under way.
        """
        said, self.said_purged = self.said_purged, None
        if said is None:
            return None
        old, folder = self.publication, self.timeline.path
        purged = said - (old.executed - old.purged)
        # What is kept of a timeline without a file is of an attempt before.
        save(self._disk, folder, load(folder) | purged if self.name else purged)
        if purged <= old.purged:
            return None
        self.publication = replace(old, executed=old.executed | purged, purged=old.purged | purged, step=None)
        return self.publication

    def append(self, data: memoryview) -> None:
        """Write events that the walk has walked."""
        self._writer.append(data)

    def sync(self) -> None:
        """Make them durable."""
        self._writer.sync()

    def begin_sync(self) -> None:
        """Begin to make them durable, while more are appended. None may be under way.

        Everything that the walk has walked must have been appended.
        """
        self._coming = self._next()
        self._writer.begin_sync()

    @property
    def syncing(self) -> bool:
        """Whether a sync was begun of which ``advance_synced`` has not told yet."""
        return self._coming is not None

    @property
    def sync_ended(self) -> bool:
        """Whether ``advance_synced`` would not wait."""
        return self._writer.sync_ended

    def advance_synced(self) -> Publication | None:
        """Wait for the sync that was begun; the publication of what it covers, when it is a newer one."""
        self._writer.end_sync()
        return self._publish(self._coming or self.publication)

    def finish(self) -> None:
        """The file, synced, will not change again. Without a file: nothing."""
        walk = self.walk
        if walk is None:
            return
        self._take_marks()
        self._fold()
        self._writer.finish(
            Summary(
                name=self.name,
                size=walk.position,
                first_time=walk.first_time,
                last_time=walk.last_time,
                claimed=self._claimed,
                added=self._added,
                transactions=walk.transactions,
                checksum=self._algorithm,
                server_version=self._server_version,
            )
        )
        self._earlier, self._found = self.received, NOTHING_YET
        self.walk = None

    def advance(self) -> Publication | None:
        """The publication of all that was appended, which is synced, when it is a newer one."""
        return self._publish(self._next())

    def _publish(self, newest: Publication) -> Publication | None:
        self._coming = None
        if newest is self.publication:
            return None
        self.publication = newest
        return newest

    def _next(self) -> Publication:
        """What all that is appended amounts to, once it is durable."""
        walk, old = self.walk, self._coming or self.publication
        assert walk is not None
        place = (self.timeline.number, self.name, walk.transaction_end)
        if (old.timeline, old.file, old.position) == place:
            return old
        executed, purged = old.executed, old.purged
        added = old.step.added if old is not self.publication and old.step is not None else GtidSet()
        if not self._head_read and walk.transaction_end > self._head_end:
            self._head_read = True
            previous = self._writer.read_previous()
            if previous is not None:
                self._claimed = fingerprint(previous)
                missing = previous - executed
                if missing:
                    purged, executed, added = purged | missing, executed | missing, added | missing
        runs = walk.take_gtids()
        if runs:
            self._runs += runs
            if len(self._runs) > MANY_RUNS:
                self._fold()
            executed = executed.add_runs(runs)
            added = added.add_runs(runs)
            purged = without(purged, runs)
        self._take_marks()
        return Publication(
            timeline=self.timeline.number,
            file=self.name,
            position=walk.transaction_end,
            executed=executed,
            purged=purged,
            server_version=self._server_version,
            step=Step(self.publication.executed, added, executed),
            first=old.first,
        )

    def rewind(self) -> None:
        """Drop what is behind the newest publication; it will come again."""
        if self.walk is not None:
            self.walk.rewind()
            self._writer.cut(self.walk.transaction_end)

    @property
    def remains(self) -> tuple[Path, int, int, tuple[int, int]]:
        """Of a tail that failed: the file, its durable bytes, how many it had in all, and its device and inode."""
        writer = self._writer
        return writer.path, writer.synced, writer.size + writer.given_up, writer.identity

    def close(self) -> None:
        """Let go of the file."""
        self._writer.close()

    def _fold(self) -> None:
        self._added = self._added.add_runs(self._runs)
        self._runs = []

    def _take_marks(self) -> None:
        if self.walk is not None and self.walk.marks:
            self._writer.mark(self.walk.marks)
            self.walk.marks = []
