"""One receiver owns a store: an flock on ``receiver.lock``, which the kernel drops with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from binlogd.errors import StoreInUse
from binlogd.store.disk import FILE_MODE, explained


class StoreLock:
    """Held from construction to ``release``; StoreInUse when another process has it."""

    def __init__(self, path: Path) -> None:
        with explained("open", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            with explained("lock", path):
                self._take(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 20).decode("ascii", "replace").strip()
            raise StoreInUse(
                f"another receiver{f' (pid {owner})' if owner else ''} owns the store at {path.parent}",
                hint="stop it first, or give this one another --data-dir; reading a store needs no lock",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another receiver have the store."""
        os.close(self._descriptor)

    def __enter__(self) -> StoreLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
