"""fdatasync in a thread, so that a file can be written on while what is in it becomes durable.

One sync runs at a time. What was written before ``begin`` is durable when ``end`` has returned; what was written
after may or may not be. Linux lets a file be appended to while it is synced, and os.fdatasync lets go of the GIL.

How long it took is measured where it is done, here or there: only one of both threads is at it at a time.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from binlogd.histogram import Histogram
from binlogd.store.disk import Disk


def timed_sync(disk: Disk, descriptor: int, times: Histogram | None) -> None:
    """Sync a file, and say how long that took, unless it failed."""
    began = time.monotonic()
    disk.sync(descriptor)
    if times is not None:
        times.observe(time.monotonic() - began)


class BackgroundSync:
    """For one writer: all calls come from its thread. The thread beside it is made when it is first needed."""

    def __init__(self, disk: Disk, times: Histogram | None = None) -> None:
        self._disk = disk
        self._times = times
        self._threads: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    @property
    def finished(self) -> bool:
        """Whether ``end`` would not wait."""
        return self._running is None or self._running.done()

    def begin(self, descriptor: int) -> None:
        """Sync the file, which must stay open until ``end`` or ``abandon``."""
        assert self._running is None, "one sync at a time"
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync")
        self._running = self._threads.submit(timed_sync, self._disk, descriptor, self._times)

    def end(self) -> None:
        """Wait for it; raises the OSError it failed with."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def abandon(self) -> None:
        """Wait for it, however it ends: nothing counts on it any more."""
        with suppress(OSError):
            self.end()

    def close(self) -> None:
        """Let the thread go."""
        self.abandon()
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
