"""fdatasync in a thread, so that a file can be written on while what is in it becomes durable.

One sync runs at a time. What was written before ``begin`` is durable when ``end`` has returned; what was written
after may or may not be. Linux lets a file be appended to while it is synced, and os.fdatasync lets go of the GIL.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from binlogd.store.disk import Disk


class BackgroundSync:
    """For one writer: all calls come from its thread. The thread beside it is made when it is first needed."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
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
        self._running = self._threads.submit(self._disk.sync, descriptor)

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
