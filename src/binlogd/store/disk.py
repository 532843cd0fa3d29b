"""The one seam between the store and the operating system.

Whatever the store does to files it does through a ``Disk``, so that a test can record the operations and produce
every image that a power loss may leave (what was written and not synced may be lost, kept or torn; a rename may
come before or after its data; a new name may be lost with its folder). The rules that make the store survive this:

* bytes count once ``sync`` of their descriptor has returned; nothing else makes them durable;
* a file appears under its final name when it is whole (``begin``, ``replace``): sync, rename, sync of the folder;
* a failed ``sync`` is never tried again as if it could still succeed: the kernel may have dropped the dirty pages,
  and holds as clean what the disk does not have. So what is in memory of the file is let go, and whoever reads it next,
  in this process or another, reads what the disk has. (A process may be killed between the two: settled.py.)
* what is written goes to a file's end, wherever that is (O_APPEND): a file that somebody cut short gets no hole.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binlogd.errors import StoreUnreadable

FILE_MODE = 0o600  # what replicates may hold anything the database holds: for its owner alone
FOLDER_MODE = 0o700


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into the store's own, saying what was being done to which path."""
    try:
        yield
    except OSError as bad:
        raise unusable(doing, path, bad) from bad


DISK_FULL = "disk_full"  # the alarm that ends when there is room again
STORE_MISSING = "store_missing"  # the alarm that a file or folder is gone

_ROOM = "make room on that disk, or enlarge it; binlogd goes on by itself then (never remove its files by hand)"
_FILES = "raise the limit of open files (LimitNOFILE= of the service, ulimit -n), or close what holds so many"
_GONE = "check the path: put back what was moved or removed, or mount its disk again"

_TROUBLES = {
    errno.ENOSPC: (DISK_FULL, _ROOM),
    errno.EDQUOT: (DISK_FULL, "raise the quota, or make room within it; binlogd goes on by itself then"),
    errno.EFBIG: ("file_too_large", "raise the limit of a file's size (LimitFSIZE= of the service, ulimit -f)"),
    errno.EROFS: (
        "disk_read_only",
        "a disk that failed is often made read-only: look at the kernel's log (dmesg), then mount it for writing again",
    ),
    errno.EIO: (
        "disk_error",
        "the disk or the way to it fails: look at the kernel's log (dmesg) and at the disk's health",
    ),
    errno.EMFILE: ("too_many_files", _FILES),
    errno.ENFILE: ("too_many_files", _FILES),
    errno.ENOENT: (STORE_MISSING, _GONE),
    errno.ESTALE: (STORE_MISSING, _GONE),
}
"""By what the operating system said: the alarm's code, and what to do."""

_OTHERWISE = ("store_unusable", "check the path, its owner and permissions, and the disk's space and health")


def unusable(doing: str, path: Path, bad: OSError) -> StoreUnreadable:
    """The store's own error for what the operating system said."""
    alarm, hint = _TROUBLES.get(bad.errno or 0, _OTHERWISE)
    return StoreUnreadable(f"cannot {doing} {path}: {bad.strerror}", hint=hint, alarm=alarm)


class Disk:
    """The real thing. Offsets and sizes are bytes; every failure is an OSError."""

    def create(self, path: Path) -> int:
        """A new, empty file for writing; the descriptor. An existing one is emptied."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    def open_append(self, path: Path) -> int:
        """An existing file for writing at its end; the descriptor."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Append all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def overwrite(self, descriptor: int, data: bytes) -> None:
        """Put ``data`` in the place of what the file begins with: in one step, within its first sector."""
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_APPEND)  # with it Linux would put them at the end
        os.pwrite(descriptor, data, 0)

    def sync(self, descriptor: int) -> None:
        """fdatasync: on return everything written, and the size, is durable."""
        try:
            os.fdatasync(descriptor)
        except OSError:
            self.let_go(descriptor, 0)
            raise

    def let_go(self, descriptor: int, start: int) -> None:
        """Have what is clean in memory of the file from ``start`` on read from the disk when it is wanted again."""
        os.posix_fadvise(descriptor, start, 0, os.POSIX_FADV_DONTNEED)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to ``size`` and go on writing there."""
        os.ftruncate(descriptor, size)

    def reserve(self, descriptor: int, size: int) -> None:
        """Have room for ``size`` bytes of a file set aside, or fail as a write of them would."""
        os.posix_fallocate(descriptor, 0, size)

    def space(self, path: Path) -> tuple[int, int]:
        """Of the file system that ``path`` lies on: bytes that are free for us, and its size."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def close(self, descriptor: int) -> None:
        """Close; says nothing about durability."""
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Replace ``new`` by ``old``, atomically; durable after ``sync_folder``."""
        os.rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name, ``new``, which is free; durable after ``sync_folder``."""
        os.link(old, new)

    def sync_folder(self, path: Path) -> None:
        """Make the folder's entries durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """A new folder, parents included, durable on return."""
        if path.is_dir():
            with suppress(PermissionError):  # where we may not look others made it
                self.sync_folder(path.parent)  # whoever made it may have died before he did
            return
        self.make_folder(path.parent)
        self.add_folder(path)
        self.sync_folder(path.parent)

    def add_folder(self, path: Path) -> None:
        """A new folder in one that is there; durable after ``sync_folder`` of that."""
        os.mkdir(path, FOLDER_MODE)

    def remove(self, path: Path) -> None:
        """Remove a file; durable after ``sync_folder``."""
        os.unlink(path)

    def replace(self, path: Path, content: bytes) -> None:
        """Give a small file new content: whole and durable on return, or as it was before."""
        self.close(self.begin(path, content))

    def begin(self, path: Path, content: bytes) -> int:
        """A file that begins with ``content``, whole and durable on return; its descriptor, for more behind that."""
        temporary = path.with_name(f".{path.name}.new")
        descriptor = self.create(temporary)
        try:
            self.write(descriptor, content)
            self.sync(descriptor)
            self.rename(temporary, path)
            self.sync_folder(path.parent)
        except BaseException:
            self.close(descriptor)
            raise
        return descriptor
