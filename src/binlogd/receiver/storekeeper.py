"""What the receiver does when its own store fails: wait, and begin anew from what is really on disk.

Theory. After a failed write or sync nobody knows what a file holds behind what was synced before: pages that could not
be written may be called clean, and a later sync of them succeeds and means nothing. So nothing is tried again. The
connection is dropped, which acknowledges nothing (the source goes on by its own semi-sync timeout); the file is let go;
and when the disk can be used again

    cut      everything behind what is known to be durable goes, and is fetched again
    recover  the newest file is walked from its beginning, as at a start: what is there counts, not what was meant to be
    receive  from there, over a new connection

The disk is asked PAUSE seconds after it failed and from then on; it is not used before a file could be written to it
and synced, and after it was full not before there is room for more than what was given up. So the source is not
bothered while there is no hope: each time a replica comes back, its commits would wait for it once more.

What may be found is less than what was published: somebody removed or cut short the newest file. What the source still
has of it is fetched again; until then nothing older than what all have seen is published, and an alarm says so. A store
that is gone altogether is not begun anew under a running receiver: its disk may come back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from binlogd.errors import StoreDamaged, StoreError, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.receiver.link import Wake
from binlogd.receiver.progress import Progress, State
from binlogd.store.disk import DISK_FULL, Disk, explained
from binlogd.store.layout import DataFolder, binlog_number
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import Recovered
from binlogd.store.tail import Tail
from binlogd.store.watch import Watch, missing

PAUSE = 1.0  # seconds between two looks at a disk that failed: a look at free space, or one small file
PAUSE_LONGEST = 30.0  # where a disk that comes back and fails again at once ends
STEADY = 60.0  # seconds after which a further failure is not the same one

STARTING = frozenset({DISK_FULL, "disk_error", "disk_read_only", "too_many_files"})
"""Alarms that a store which was there before is waited for with, at a start too: no mistake in a path looks so."""

log = get_logger(__name__)


class Shown:
    """``publish``, but publications only move forward, whatever was lost on disk meanwhile."""

    def __init__(self, publish: Callable[[Publication], None], progress: Progress) -> None:
        self._publish = publish
        self._progress = progress
        self._held = False  # back to less than what was shown
        self.newest = NOTHING

    def __call__(self, publication: Publication) -> None:
        """A publication of the stream."""
        if self._held:
            if _place(publication) < _place(self.newest):
                return
            self._held = False
            self._progress.missing = ""
            log.info("what was missing is there again", file=publication.file, position=publication.position)
        self.newest = publication
        self._publish(publication)

    def found(self, publication: Publication) -> None:
        """What recovery found after trouble."""
        old = self.newest
        self._held = _place(publication) < _place(old)
        if not self._held:
            self._progress.missing = ""
            if publication != old or not old.file:  # that nothing was found is to be known, too
                self(publication)
            return
        self._progress.missing = (
            f"published were {old.file}:{old.position}, found are {publication.file}:{publication.position}: what is"
            " between them is not on disk any more"
        )
        log.error("published transactions are missing", error=self._progress.missing)


class StoreKeeper:
    """Decides what is waited for, and waits. ``patience`` is how often damage is looked at again; None ends at it."""

    def __init__(
        self,
        *,
        folder: DataFolder,
        disk: Disk,
        watch: Watch,
        recover: Callable[[], Recovered],
        wake: Wake,
        progress: Progress,
        shown: Shown,
        patience: float | None,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._watch = watch
        self._recover = recover
        self._wake = wake
        self._progress = progress
        self._shown = shown
        self._patience = patience
        self._pause = PAUSE
        self._mended = -STEADY  # when the store could last be used again

    def wait_out(self, trouble: StoreError, tail: Tail | None, take: Callable[[Recovered], None]) -> None:
        """Until the store was recovered and ``take`` has taken it; ``tail`` is what failed, and at its end.

        Raises what is not waited for: the ``trouble``, or another that it became.
        """
        file, durable, size, identity = tail.remains if tail is not None and tail.name else (None, 0, 0, (0, 0))
        lost = max(size - tail.publication.position, 0) if tail is not None and file is not None else 0
        began = time.monotonic()
        pause = self._pause = min(self._pause * 2, PAUSE_LONGEST) if began - self._mended < STEADY else PAUSE
        said = ""
        while True:
            waits = self._waits(trouble)
            if waits is None:
                raise trouble
            if trouble.alarm != said:
                said = trouble.alarm
                log.error("receiving stops", alarm=said, error=trouble.message, hint=trouble.hint)
                self._progress.failed(State.FAILED, trouble.message, trouble.hint, alarm=said)
            else:
                self._progress.last_error, self._progress.last_hint = trouble.message, trouble.hint
            self._wake.sleep(max(pause, waits))
            pause = PAUSE
            try:
                self._probe(trouble, lost)
                if file is not None:
                    self._cut(file, durable, identity)
                found = self._recover()
                self._check(found)
                take(found)
            except StoreError as again:
                trouble = again
            else:
                break
        self._mended = time.monotonic()
        self._shown.found(found.publication)
        log.warning("receiving goes on", after=f"{self._mended - began:.1f}s", file=found.publication.file)

    def _waits(self, trouble: StoreError) -> float | None:
        """How long at least before the store is looked at again; None: this ends the receiver."""
        known = bool(self._shown.newest.file)  # it was usable in this life
        if isinstance(trouble, StoreUnreadable):
            return 0.0 if known or (self._patience and trouble.alarm in STARTING and self._is_stored()) else None
        return self._patience if known and isinstance(trouble, StoreDamaged) else None

    def _is_stored(self) -> bool:
        """Whether there is something that may be served meanwhile."""
        with suppress(StoreError):
            return any(timeline.binlogs() for timeline in self._folder.timelines())
        return False

    def _probe(self, trouble: StoreError, lost: int) -> None:
        """Raises unless the disk can be used. (The lock was perhaps not there to be held for a while.)"""
        self._watch.renew_lock()
        if trouble.alarm == DISK_FULL:
            self._watch.require_again(lost)
        self._watch.probe(lost if trouble.alarm == DISK_FULL else 0)

    def _cut(self, path: Path, size: int, identity: tuple[int, int]) -> None:
        """Give up what is not known to be durable, of the file that was written.

        One that is shorter, or gone, or another that somebody put back, is recovery's to judge.
        """
        with explained("cut", path), suppress(FileNotFoundError):
            descriptor = self._disk.open_append(path)
            try:
                found = os.fstat(descriptor)
                if (found.st_dev, found.st_ino) == identity and found.st_size > size:
                    self._disk.truncate(descriptor, size)
                    self._disk.sync(descriptor)
            finally:
                self._disk.close(descriptor)

    def _check(self, found: Recovered) -> None:
        """Raises when so much is gone that only somebody can know what to do."""
        shown, here = self._shown.newest, found.publication
        if shown.file and not (here.file and here.timeline >= shown.timeline):
            raise missing(f"{shown.file} was published up to {shown.position}, and no file of its history is left")


def _place(publication: Publication) -> tuple[int, int, int]:
    number = binlog_number(publication.file) if publication.file else 0
    return publication.timeline, number, publication.position
