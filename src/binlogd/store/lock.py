"""One receiver owns a store: an flock on ``receiver.lock``, which the kernel drops with the process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from binlogd.errors import StoreInUse
from binlogd.store.disk import FILE_MODE, explained


class StoreLock:
    """Held from construction to ``release``; StoreInUse when another process has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = _take(path)

    def renew(self) -> None:
        """Hold the lock that is under its name now: a file that was removed excludes nobody."""
        with explained("look at", self._path), suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                return
        held, self._descriptor = self._descriptor, _take(self._path)
        os.close(held)

    def release(self) -> None:
        """Let another receiver have the store."""
        os.close(self._descriptor)

    def __enter__(self) -> StoreLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _take(path: Path) -> int:
    """The descriptor that holds the lock."""
    with explained("open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        with explained("lock", path):
            _lock(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    with suppress(OSError):  # a full disk: it locks all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
        raise StoreInUse(
            f"another receiver{f' (pid {owner})' if owner else ''} owns the store at {path.parent}",
            hint="stop it first, or give this one another --data-dir; reading a store needs no lock",
        ) from None
