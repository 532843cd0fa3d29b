"""The one seam between the store and the operating system.

Whatever the store does to files it does through a ``Disk``, so that a test can record the operations and produce
every image that a power loss may leave (what was written and not synced may be lost, kept or torn; a rename may
come before or after its data; a new name may be lost with its folder). The rules that make the store survive this:

* bytes count once ``sync`` of their descriptor has returned; nothing else makes them durable;
* a file appears under its final name when it is whole (``begin``, ``replace``): sync, rename, sync of the folder;
* a failed ``sync`` is never tried again as if it could still succeed: the kernel may have dropped the dirty pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


def unusable(doing: str, path: Path, bad: OSError) -> StoreUnreadable:
    """The store's own error for what the operating system said."""
    return StoreUnreadable(
        f"cannot {doing} {path}: {bad.strerror}",
        hint="check the path, its owner and permissions, and the disk's space and health",
    )


class Disk:
    """The real thing. Offsets and sizes are bytes; every failure is an OSError."""

    def create(self, path: Path) -> int:
        """A new, empty file for writing; the descriptor. An existing one is emptied."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    def open_append(self, path: Path) -> int:
        """An existing file for writing at its end; the descriptor."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(descriptor, 0, os.SEEK_END)
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Append all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """fdatasync: on return everything written, and the size, is durable."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to ``size`` and go on writing there."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

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
            return
        self.make_folder(path.parent)
        os.mkdir(path, FOLDER_MODE)
        self.sync_folder(path.parent)

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
