"""What may happen to a store from outside while it is written to, and is looked for now and then.

Somebody may move the folder away, remove its lock so that another receiver takes the store, or fill the disk. Nothing
of this makes a write or a sync fail, at first. So once a second, or every LOOK_EVERY bytes, the file that is written is
compared with the one under its name, the lock with the one that is held, and free space with ``store.min_free``. (What
tells of a lost file itself, and is looked at before every acknowledgement, is in writer.py.)

A disk that was full is used again only when there is room for what was given up, and some more: else a receiver would
come back for one transaction, make the source wait for it, and stop again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from binlogd.errors import StoreUnreadable
from binlogd.store.disk import DISK_FULL, STORE_MISSING, Disk, explained
from binlogd.store.lock import StoreLock
from binlogd.units import human_size

LOOK_AFTER = 1.0  # seconds
LOOK_EVERY = 64 * 1024 * 1024  # bytes: how far a fast source may go below min_free
ROOM_AGAIN = 64 * 1024 * 1024  # bytes beyond what is needed before a disk is not full any more …
ROOM_SHARE = 16  # … or one in so many of the disk's, if that is less


class Watch:
    """Over the store in ``folder``; ``min_free`` bytes are to stay free there. Belongs to the receiving thread."""

    def __init__(self, disk: Disk, folder: Path, *, min_free: int = 0, lock: StoreLock | None = None) -> None:
        self._disk = disk
        self._folder = folder
        self.min_free = min_free  # may be set from another thread
        self.needed = 0  # beyond min_free, before receiving goes on after the disk was full; for another thread
        self._lock = lock
        self._written = 0  # since we last looked
        self._looked = 0.0

    def due(self, size: int) -> bool:
        """``size`` more bytes are to be written: whether to ``look`` first."""
        self._written += size
        return self._written >= LOOK_EVERY or time.monotonic() - self._looked >= LOOK_AFTER

    def look(self, path: Path, descriptor: int) -> None:
        """Raises what is wrong around the file ``path``, which is open as ``descriptor``."""
        self._written, self._looked = 0, time.monotonic()
        with explained("find", path):
            named = os.stat(path)
        if not os.path.samestat(named, os.fstat(descriptor)):
            raise missing(f"{path} is not the file any more that is written to: another was put in its place")
        self.renew_lock()
        self.require(0)

    def renew_lock(self) -> None:
        """Raises StoreInUse when another receiver has taken the store meanwhile."""
        if self._lock is not None:
            self._lock.renew()

    def require(self, size: int) -> None:
        """Raises unless ``size`` bytes are free, and ``min_free`` beyond them."""
        needed = self.min_free + size
        if not needed:
            return
        with explained("measure the free space of", self._folder):
            free, _ = self._disk.space(self._folder)
        if free < needed:
            limit = f"store.min_free is {human_size(self.min_free)}" if self.min_free else ""
            go_on = f"{human_size(needed)} are needed to go on" if size else ""
            raise StoreUnreadable(
                f"only {human_size(free)} are free on the disk of {self._folder}, and"
                f" {' and '.join(filter(None, (limit, go_on)))}",
                hint="make room on that disk, enlarge it, or lower store.min_free; binlogd goes on by itself then"
                " (never remove its files by hand)",
                alarm=DISK_FULL,
            )

    def require_again(self, size: int) -> None:
        """``require`` on a disk that was full: with some more, so that it does not stop and go."""
        with explained("measure the free space of", self._folder):
            _, total = self._disk.space(self._folder)
        self.needed = size + min(ROOM_AGAIN, total // ROOM_SHARE)
        self.require(self.needed)
        self.needed = 0

    def probe(self, size: int) -> None:
        """Raises unless a file can be made in the folder, filled with ``size`` bytes and synced."""
        path = self._folder / ".probe"
        with explained("write", path):
            descriptor = self._disk.create(path)
            try:
                self._disk.write(descriptor, b"binlogd looks whether it can write here\n")
                if size:
                    self._disk.reserve(descriptor, size)
                self._disk.sync(descriptor)
            finally:
                self._disk.close(descriptor)
                self._disk.remove(path)


def missing(message: str) -> StoreUnreadable:
    """A file of the store is not what it was."""
    return StoreUnreadable(
        message,
        hint="nothing but binlogd may change files in the data folder: put back what was moved or removed; what the"
        " source still has is fetched again",
        alarm=STORE_MISSING,
    )
