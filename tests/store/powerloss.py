"""A disk on which the power may fail after any step, and what may then be found on it.

Kept apart are what every process sees and what would survive: a file's bytes up to its last ``sync``, a folder's
entries up to its last ``sync_folder``. What is not sure to survive may survive all the same, in part or as zeros.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from binlogd.store.disk import Disk


class _File:
    def __init__(self) -> None:
        self.seen = bytearray()
        self.sure = b""


class FailingPower(Disk):
    """Does everything for real below ``root`` and keeps the books besides. ``on_step`` is called after each step."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[int, _File] = {}
        self._seen: dict[Path, _File] = {}
        self._sure: dict[Path, _File] = {}
        self.steps = 0

    def adopt(self, path: Path) -> None:
        """A file that is there already, and safe."""
        file = _File()
        file.seen[:] = path.read_bytes()
        file.sure = bytes(file.seen)
        self._seen[path] = self._sure[path] = file

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        file = self._seen.setdefault(path, _File())
        file.seen.clear()
        self._open[descriptor] = file
        self._step()
        return descriptor

    def open_append(self, path: Path) -> int:
        descriptor = super().open_append(path)
        self._open[descriptor] = self._seen[path]
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        super().write(descriptor, data)
        self._open[descriptor].seen += data
        self._step()

    def sync(self, descriptor: int) -> None:
        file = self._open[descriptor]
        assert os.fstat(descriptor).st_size == len(file.seen)
        file.sure = bytes(file.seen)
        self._step()

    def seen(self, descriptor: int) -> bytes:
        """What a sync that begins now makes sure of when it ends."""
        return bytes(self._open[descriptor].seen)

    def synced(self, descriptor: int, content: bytes) -> None:
        """A sync ended that had begun when the file held ``content``."""
        self._open[descriptor].sure = content
        self._step()

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        del self._open[descriptor].seen[size:]
        self._step()

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        del self._open[descriptor]

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._seen[new] = self._seen.pop(old)
        self._step()

    def sync_folder(self, path: Path) -> None:
        for known in [known for known in self._sure if known.parent == path and known not in self._seen]:
            del self._sure[known]
        self._sure.update({known: file for known, file in self._seen.items() if known.parent == path})
        self._step()

    def remove(self, path: Path) -> None:
        super().remove(path)
        del self._seen[path]
        self._step()

    def _step(self) -> None:
        self.steps += 1
        self.on_step()

    def on_step(self) -> None:
        """For a test to look at the images."""

    def images(self) -> Iterator[dict[Path, bytes]]:
        """What may be found now, by path relative to the root: names and bytes each lost, kept or spoilt."""
        for names in (self._sure, self._seen):
            for spoil in (_lost, _kept, _zeroed, _half, _garbled):
                yield {path.relative_to(self._root): spoil(file) for path, file in names.items()}


class LateSync:
    """A BackgroundSync without a thread, as lazy as one may be: it makes sure of nothing before it is ended."""

    def __init__(self, disk: FailingPower) -> None:
        self._disk = disk
        self._begun: tuple[int, bytes] | None = None
        self.finished = True

    def begin(self, descriptor: int) -> None:
        self._begun = descriptor, self._disk.seen(descriptor)

    def end(self) -> None:
        if self._begun is not None:
            self._disk.synced(*self._begun)
        self._begun = None

    abandon = close = end


def _lost(file: _File) -> bytes:
    return file.sure


def _kept(file: _File) -> bytes:
    return bytes(file.seen)


def _zeroed(file: _File) -> bytes:
    """The size was kept and the bytes were not."""
    common = _common(file)
    return bytes(file.seen[:common]) + bytes(len(file.seen) - common)


def _half(file: _File) -> bytes:
    common = _common(file)
    return bytes(file.seen[: common + (len(file.seen) - common) // 2])


def _garbled(file: _File) -> bytes:
    """The second half was written, and the first was not."""
    common = _common(file)
    middle = common + (len(file.seen) - common) // 2
    return bytes(file.seen[:common]) + b"\xa5" * (middle - common) + bytes(file.seen[middle:])


def _common(file: _File) -> int:
    """How much of what is seen is sure: what was cut off and written anew is not."""
    pairs = zip(file.sure, file.seen, strict=False)
    return next((at for at, (sure, seen) in enumerate(pairs) if sure != seen), min(len(file.sure), len(file.seen)))


def put(image: dict[Path, bytes], folder: Path) -> None:
    """Make a folder of an image."""
    for path, content in image.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
