"""What the sender may show: the published files, kept up to date with the receiver's publications.

At start everything is read once (a line of .idx for each finished file). A publication that names a newer file means
that those before it are finished; their lines are read then. A publication of the same file only moves its end.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.errors import EventError, StoreDamaged
from binlogd.sender.plan import StoredLog
from binlogd.store.disk import explained
from binlogd.store.layout import DataFolder, binlog_number
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import Head, publication_of, read_file, read_further, read_head, read_store, sync_newest
from binlogd.store.source_facts import SourceSettings, load


class Catalog:
    """The files in order, and the newest publication. Belongs to one event loop."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._paths: list[Path] = []
        self.logs: list[StoredLog] = []
        self.publication = NOTHING
        self.source: SourceSettings | None = None  # of the newest timeline
        self.checksum = "CRC32"  # the newest file's algorithm, as @@binlog_checksum says it
        self._changed = asyncio.Event()
        self._looked_at = 0  # size of the newest file when it was last walked without a receiver

    def read(self) -> None:
        """What is on disk, up to the last whole transaction, made durable first: for want of a receiver."""
        files = read_store(self._folder)
        sync_newest(files)
        self.logs = [StoredLog(file.timeline.number, file.name, file.size, file.summary.previous) for file in files]
        self._paths = [file.path for file in files]
        self._look_at_newest()
        self._announce(publication_of(files))

    async def read_on(self) -> None:
        """What is on disk beyond what is known; looks at nothing when nothing grew.

        Only the newest file is walked, from where it was published; with other files than before all is read.
        """
        listing = self._listing()
        if listing != self._paths:
            self.read()
        if not listing or self._size(listing[-1]) == self._looked_at:
            return
        self._looked_at = self._size(listing[-1])
        newest, old = self.logs[-1], self.publication
        more = await asyncio.to_thread(read_further, listing[-1], newest.size)
        if more is None or self.publication is not old:
            return
        executed, purged, previous = old.executed, old.purged, newest.previous
        if previous is None:
            previous = self._previous(listing[-1], more.position)
            missing = (previous or GtidSet()) - executed
            executed, purged = executed | missing, purged | missing
        self.logs[-1] = StoredLog(newest.timeline, newest.name, more.position, previous)
        executed = executed.add_runs(more.gtids)
        self._announce(replace(old, position=more.position, executed=executed, purged=purged))

    def _listing(self) -> list[Path]:
        return [timeline.path / name for timeline in self._folder.timelines() for name in timeline.binlogs()]

    @staticmethod
    def _size(path: Path) -> int:
        with explained("read", path):
            return path.stat().st_size

    def update(self, publication: Publication) -> None:
        """The receiver published more."""
        if not publication.file:
            return
        newest = self.logs[-1] if self.logs else None
        if newest is None or (newest.timeline, newest.name) != (publication.timeline, publication.file):
            self._add_up_to(publication)
        else:
            previous = newest.previous
            if previous is None:
                previous = self._previous(self._paths[-1], publication.position)
            self.logs[-1] = StoredLog(newest.timeline, newest.name, publication.position, previous)
        self._announce(publication)

    def path(self, index: int) -> Path:
        """Where the file with that index lies."""
        return self._paths[index]

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

    def _announce(self, publication: Publication) -> None:
        self.publication = publication
        self._changed.set()
        self._changed = asyncio.Event()

    def _add_up_to(self, publication: Publication) -> None:
        """Read the files that were finished meanwhile, and the new newest one."""
        logs, paths = list(self.logs), list(self._paths)
        last = logs.pop() if logs else None
        if last is not None:
            paths.pop()
        for timeline in self._folder.timelines():
            if last is not None and timeline.number < last.timeline:
                continue
            for name in timeline.binlogs():
                known = last is not None and timeline.number == last.timeline
                if known and last is not None and binlog_number(name) < binlog_number(last.name):
                    continue
                path = timeline.path / name
                if (timeline.number, name) == (publication.timeline, publication.file):
                    position = publication.position
                    logs.append(StoredLog(timeline.number, name, position, self._previous(path, position)))
                    paths.append(path)
                    self.logs, self._paths = logs, paths
                    self._look_at_newest()
                    return
                file = read_file(timeline, name, finished=True)
                logs.append(StoredLog(timeline.number, name, file.size, file.summary.previous))
                paths.append(path)
        raise StoreDamaged(
            f"the receiver published {publication.file}, which is not in {self._folder.binlogs}",
            hint="nothing but binlogd may move files in the data folder; restart `binlogd serve`",
        )

    def lag_bytes(self, index: int, position: int) -> int:
        """Published bytes behind a position of the file with that index."""
        return max(sum(log.size for log in self.logs[index:]) - position, 0)

    def _look_at_newest(self) -> None:
        if self._paths:
            self.source = load(self._paths[-1].parent)
            head = self._head(self._paths[-1], self.logs[-1].size)
            self.checksum = "CRC32" if head and head.algorithm is ChecksumAlgorithm.CRC32 else "NONE"

    def _previous(self, path: Path, end: int) -> GtidSet | None:
        head = self._head(path, end)
        return head.previous if head else None

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
