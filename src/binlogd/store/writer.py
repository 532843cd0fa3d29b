"""Appending to the newest file of a timeline.

The writer is told what the walk over the incoming events found; it never looks into them. Its steps, and what is
true after each:

    start(name, format)   a file appears under its final name with magic and FORMAT_DESCRIPTION in it, all durable,
                          and is listed in the .index; the one before it was finished
    append(bytes)         written, not durable
    mark(marks)           beside the file, for readers that seek in it: never durable, and nothing relies on it
    sync()                everything appended is durable
    begin_sync()          what was appended so far is on its way to be durable, while more may be appended …
    end_sync()            … and now it is
    finish()              synced, and its .idx written, with the marks in it
    cut(position)         nothing behind ``position`` is left, durably: what is fetched again goes there

A sync counts only when the file is still there and as long as it was written: what somebody removed or cut short
meanwhile is not durable, whatever the disk says. When a step fails the writer is at its end. Up to ``durable`` the
file can be trusted; what is behind was given up, or has to be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import BINLOG_MAGIC, ChecksumAlgorithm
from binlogd.binlog.walk import Mark
from binlogd.errors import StoreUnreadable
from binlogd.histogram import Histogram
from binlogd.store.background import BackgroundSync, timed_sync
from binlogd.store.disk import Disk, explained, unusable
from binlogd.store.index import (
    Summary,
    add_to_file_list,
    encode_marks,
    index_path,
    marks_head,
    marks_path,
    write_index,
)
from binlogd.store.layout import Timeline
from binlogd.store.reader import read_head
from binlogd.store.synced import SyncedSize, synced_part, synced_path
from binlogd.store.watch import Watch, missing


class Writer:
    """One open binary log. ``durable`` False leaves syncing to the operating system (durability = "os").

    ``watch`` looks now and then whether there is still room, and nothing was put in the file's place. How long each
    fdatasync took that makes appended bytes durable goes to ``sync_times``.
    """

    def __init__(
        self,
        disk: Disk,
        timeline: Timeline,
        *,
        durable: bool = True,
        watch: Watch | None = None,
        sync_times: Histogram | None = None,
    ) -> None:
        self._disk = disk
        self._timeline = timeline
        self._durable = durable
        self._watch = watch
        self._descriptor = -1
        self._marks = -1  # the descriptor of what `mark` writes to, from the first mark on
        self._unmarked = False  # marks could not be written: there will be none of this file
        self._dirty = False
        self.name = ""
        self.size = 0  # bytes appended so far
        self._synced = 0  # bytes that were there when the last sync began that has ended
        self._sync_times = sync_times
        self._background = BackgroundSync(disk, sync_times)
        self._covered = 0  # bytes that the sync in the background is for; 0: none is
        self._said: SyncedSize | None = None  # where it is written down what is durable: of a file without checksums
        self.identity = (0, 0)  # device and inode of the file: what else stands under its name is not it
        self.given_up = 0  # bytes cut off because a sync of them failed

    @property
    def timeline(self) -> Timeline:
        """The timeline written to."""
        return self._timeline

    @property
    def path(self) -> Path:
        """The file written to."""
        return self._timeline.path / self.name

    @property
    def synced(self) -> int:
        """The bytes that are known to be durable."""
        return self._synced

    def open(self, name: str, size: int) -> None:
        """Go on with an existing file of ``size`` bytes."""
        self.close()
        path = self._timeline.path / name
        with explained("open", path):
            self._descriptor = self._disk.open_append(path)
            self._identify()
            found = os.fstat(self._descriptor).st_size
        self.name = name
        self.size = found
        self._synced = min(found, size)
        self._dirty = True  # whoever wrote it may not have synced it
        self._begin_saying()
        if found != size:
            try:
                self.cut(size)
            except BaseException:
                self.close()
                raise

    def start(self, name: str, format_description: bytes) -> None:
        """A new file; the one before it must have been finished."""
        self.close()
        content = BINLOG_MAGIC + format_description
        path = self._timeline.path / name
        with explained("create", path):
            self._descriptor = self._disk.begin(path, content)
            self._identify()
        self.name = name
        self.size = self._synced = len(content)
        self._dirty = False
        self._begin_saying()
        self._say()
        add_to_file_list(self._disk, self._timeline, name)

    def _identify(self) -> None:
        found = os.fstat(self._descriptor)
        self.identity = (found.st_dev, found.st_ino)

    def append(self, data: memoryview) -> None:
        """Write behind what is there."""
        if self._watch is not None and self._watch.due(len(data)):
            self._watch.look(self.path, self._descriptor)
        self._dirty = True
        try:
            self._disk.write(self._descriptor, data)
        except OSError:
            with explained("write", self.path):
                raise
        self.size += len(data)

    def sync(self) -> None:
        """Make what was appended durable, as far as the durability asked for goes."""
        if self._covered:
            self.end_sync()
        if self._dirty and self._durable:
            try:
                timed_sync(self._disk, self._descriptor, self._sync_times)
            except OSError as bad:
                raise self._failed_sync(bad) from bad
        self._look_at_it()
        self._dirty = False
        self._synced = self.size
        self._say()

    def _begin_saying(self) -> None:
        with explained("read", self.path):
            head = read_head(self._descriptor, self.size)
        if head is None or head.algorithm is not ChecksumAlgorithm.OFF:
            return
        if self._durable:
            self._said = SyncedSize(self._disk, self.path)
        elif (stale := synced_path(self.path)).exists():  # nothing is synced from now on, and everything counts
            with explained("remove", stale):
                self._disk.remove(stale)

    def _say(self) -> None:
        if self._said is not None:
            self._said.say(self._synced)

    def begin_sync(self) -> None:
        """Begin to make durable what was appended so far. None may be under way."""
        self._covered = self.size
        if self._dirty and self._durable:
            self._dirty = False
            self._background.begin(self._descriptor)

    @property
    def sync_ended(self) -> bool:
        """Whether ``end_sync`` would not wait."""
        return self._background.finished

    def end_sync(self) -> None:
        """Wait until what ``begin_sync`` began is durable."""
        try:
            self._background.end()
        except OSError as bad:
            raise self._failed_sync(bad) from bad
        if self._covered:
            self._look_at_it()
            self._synced, self._covered = max(self._synced, self._covered), 0
            self._say()

    def _look_at_it(self) -> None:
        """Raises unless the file is there, and holds what was written. Costs a microsecond."""
        with explained("look at", self.path):
            found = os.fstat(self._descriptor)
        if not found.st_nlink:
            raise missing(f"{self.path} was removed while it was received")
        if found.st_size != self.size:
            raise self._changed(found.st_size, self.size)

    def _changed(self, found: int, expected: int) -> StoreUnreadable:
        return missing(f"{self.path} has {found} bytes; it should have {expected}: somebody changed it")

    def _failed_sync(self, bad: OSError) -> StoreUnreadable:
        """What to raise when the page cache may hold as clean what the disk does not have.

        A later sync would then succeed and mean nothing, so these bytes are given up, to be fetched and written anew.
        """
        with suppress(OSError):
            self._disk.truncate(self._descriptor, self._synced)
            self.given_up, self.size = self.size - self._synced, self._synced
        return unusable("sync", self.path, bad)

    def cut(self, position: int) -> None:
        """Drop everything behind ``position``, durably. A file never grows by this: it would grow by zeros."""
        self.end_sync()
        self._look_at_it()
        if position > self.size:
            raise self._changed(self.size, position)
        with explained("cut", self.path):
            if self.size != position:
                if self._said is not None and synced_part(self.path, self.size) > position:
                    self._said.say(position)
                self._disk.truncate(self._descriptor, position)
                self.size = position
                self._dirty = True
            if self._dirty:
                self._disk.sync(self._descriptor)
                self._dirty = False
            self._synced = position
        self._say()

    def mark(self, marks: Iterable[Mark]) -> None:
        """Put marks beside the file; the first time all that it has so far.

        They only make seeks faster. When they cannot be written the file does without, and nothing else suffers:
        trouble that is more than that will show when the next bytes are written.
        """
        if self._unmarked:
            return
        try:
            if self._marks < 0:
                self._marks = self._disk.create(marks_path(self.path))
                self._disk.write(self._marks, marks_head(self.name))
            self._disk.write(self._marks, encode_marks(marks))
        except OSError:
            self._unmarked = True  # behind a line that was torn no further one counts

    def finish(self, summary: Summary) -> None:
        """The source has gone on to another file: this one never changes again."""
        self.end_sync()
        with explained("sync", self.path):
            self._disk.sync(self._descriptor)
        self._dirty = False
        self._synced = self.size
        self._say()
        with explained("write", index_path(self.path)):
            write_index(self._disk, self._timeline.path, summary, self._read_marks())
        if self._marks >= 0:
            with explained("remove", marks_path(self.path)), suppress(FileNotFoundError):
                self._disk.remove(marks_path(self.path))
        if self._said is not None:
            with explained("remove", synced_path(self.path)):
                self._disk.remove(synced_path(self.path))
        self.close()

    def _read_marks(self) -> bytes:
        if self._marks < 0 or self._unmarked:
            return b""
        head = len(marks_head(self.name))
        return os.pread(self._marks, os.fstat(self._marks).st_size - head, head)

    def read(self, position: int, size: int) -> bytes:
        """What was appended there, less where the file ends."""
        with explained("read", self.path):
            return os.pread(self._descriptor, size, position)

    def read_previous(self) -> GtidSet | None:
        """The PREVIOUS_GTIDS that the file begins with; None when it has none."""
        with explained("read", self.path):
            head = read_head(self._descriptor, self.size)
        return head.previous if head else None

    def close(self) -> None:
        """Let go of the file, as it is."""
        self._background.close()
        for descriptor in (self._descriptor, self._marks):
            if descriptor >= 0:
                with suppress(OSError):  # what was written counts by its sync, and that is over
                    self._disk.close(descriptor)
        self._descriptor = self._marks = -1
        self._unmarked = False
        if self._said is not None:
            self._said.close()
            self._said = None
