"""One receiver owns a store: an flock on ``receiver.lock``, which the kernel drops with the process.

A reader must know whether files are written to: what it reads of the newest one while a receiver appends and cuts may
be neither durable nor there to stay. So it looks at the lock before it reads and when it has read (``look``). Each
``Taking`` of the lock leaves a mark, the owner's process id and the time, so that two equal ones mean that no receiver
came in between, not even one that has gone again. To look is to hold a shared lock for a moment; a receiver that
begins just then is not refused for that.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from binlogd.errors import StoreInUse
from binlogd.store.disk import FILE_MODE, explained


@dataclass(frozen=True, slots=True)
class Taking:
    """The lock as it was last taken; whether it is ``held`` still, and the mark that was left. "": never taken."""

    held: bool
    owner: str
    inode: int
    time: int


NEVER = Taking(False, "", 0, 0)


def look(path: Path) -> Taking:
    """Who has the lock, or had it."""
    with explained("look at", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return NEVER
        try:
            held = not _share(descriptor)  # until it is closed: no receiver comes in and leaves its mark meanwhile
            found = os.fstat(descriptor)
            return Taking(held, _owner(descriptor), found.st_ino, found.st_mtime_ns)
        finally:
            os.close(descriptor)


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
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if not _share(descriptor):
            owner = _owner(descriptor)
            raise StoreInUse(
                f"another receiver{f' (pid {owner})' if owner else ''} owns the store at {path.parent}",
                hint="stop it first, or give this one another --data-dir; reading a store needs no lock",
            )
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # no receiver has it: somebody just looked


def _share(descriptor: int) -> bool:
    """Hold the lock with all who look at it; False when a receiver holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
