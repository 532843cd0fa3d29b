"""A disk on which the power may fail after any step, and what may then be found on it.

Theory. Kept apart are what every process sees and what is sure to survive. Of a file the contents that it had since
it was last synced are remembered: its first is sure, and after a power loss each sector of 512 bytes may be as in any
of them, whatever its neighbours are; so may its size be, or any number of sectors between them. What never was on the
disk may be zeros, or what another file left there. Of a folder the changes to its entries since it was last synced are
remembered, and each may have happened or not, whatever the others did. Nothing of one file or folder says anything
about another: a name may be there before its data, and data before its name. Only a rename is one step.

That is more than any one file system does, and nothing that POSIX promises is taken away. A sync that has begun and not
ended has done any part of its work. One that fails leaves what it was for clean in memory and perhaps not on the disk:
a later one, of whatever descriptor, succeeds and means nothing for it, until it is written again or memory lets it go
(``forget``). Memory lets go of whole pages, and of none that is dirty. And the process may be killed before it hears
that the sync failed.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from random import Random

import pytest

from binlogd.store.disk import Disk

SECTOR = 512  # bytes: what a disk writes whole or not at all
REMEMBERED = 60  # steps, to tell of when something is wrong
PAGE = 4096  # bytes: what a system writes back, or gives up, at once

Image = dict[Path, bytes | None]
"""What is found after a power loss, by path below the root: a file's content, None for a folder."""


class Killed(BaseException):
    """The process was killed in the middle of what it did. The system goes on."""


class Fate(Enum):
    """What becomes of the changes that are not sure."""

    LOST = auto()
    KEPT = auto()
    EMPTY = auto()  # a size is kept, and what was written is not
    BEGUN = auto()  # what came first is kept
    TORN = auto()  # each sector, each entry for itself


class File:
    """One file, whatever its names are."""

    def __init__(self, content: bytes = b"") -> None:
        self.seen = bytearray(content)
        self.states = [bytes(content)]  # since the last sync, the first being sure
        self._touched = len(content)  # the lowest offset that may differ among them
        self._suspect: set[int] = set()  # pages that a failed sync left clean in memory
        self._begun: tuple[int, int] | None = None  # how many states a sync under way covers, and the lowest after

    def write(self, data: bytes | memoryview, at: int | None = None) -> None:
        at = len(self.seen) if at is None else at
        self.seen[at : at + len(data)] = data
        self._changed(at, at + len(data))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self._suspect = {page for page in self._suspect if page * PAGE < size}
        self._changed(size, size + 1)

    def _changed(self, start: int, end: int) -> None:
        self._touched = min(self._touched, start)
        if self._begun is not None:
            covered, lowest = self._begun
            self._begun = covered, min(lowest, start)
        self._suspect.difference_update(range(start // PAGE, -(-end // PAGE)))
        self.states.append(bytes(self.seen))

    def begin_sync(self) -> None:
        """What is there now will be sure once that ends."""
        self._begun = len(self.states), len(self.seen)

    def abandon_sync(self) -> None:
        """Whoever began it is gone: the next sync is another's, and of all that is there then."""
        self._begun = None

    def synced(self) -> None:
        """A sync has ended: what was there when it began is sure, but for what one before it gave up."""
        covered, lowest = self._begun or (len(self.states), len(self.seen))
        self._begun = None
        sure = self.states[covered - 1]
        if self._suspect:
            given_up = [self._with_suspects_of(state, sure) for state in self.states[: covered - 1]]
            self.states = [*dict.fromkeys(given_up), *self.states[covered - 1 :]]
            self._touched = min(lowest, min(self._suspect) * PAGE)
        else:
            del self.states[: covered - 1]
            self._touched = lowest

    def _with_suspects_of(self, old: bytes, new: bytes) -> bytes:
        mixed = bytearray(new)
        for page in self._suspect:
            span = slice(page * PAGE, min((page + 1) * PAGE, len(new)))
            mixed[span] = old[span].ljust(span.stop - span.start, b"\0")
        return bytes(mixed)

    def failed(self) -> None:
        """A sync has failed: any part of its work is done, and what is not will not be."""
        self._begun = None
        self._suspect.update(range(self._touched // PAGE, -(-len(self.seen) // PAGE)))

    def forget(self, chance: Random, start: int = 0) -> None:
        """What is clean in memory from ``start`` on is read from the disk when it is wanted again."""
        kept = {page for page in self._suspect if page * PAGE < start}
        self._suspect -= kept
        if self._suspect:
            found = self.image(Fate.TORN, chance).ljust(len(self.seen), b"\0")
            self.seen[:] = self._with_suspects_of(found, bytes(self.seen))
            self.states = [self._with_suspects_of(bytes(self.seen), state) for state in self.states[:-1]]
            self.states.append(bytes(self.seen))
        self._suspect = kept

    def image(self, fate: Fate, chance: Random) -> bytes:
        """What may be found of it."""
        first, last = self.states[0], self.states[-1]
        if len(self.states) == 1 or fate is Fate.LOST:
            return first
        if fate is Fate.KEPT:
            return last
        size = len(last) if fate is Fate.EMPTY else self._size(chance)
        low = self._touched // SECTOR * SECTOR
        out = bytearray(first[:low])
        likely = 0.0 if fate is Fate.EMPTY else chance.choice((0.1, 0.5, 0.9))
        filler = chance.choice((b"\0", b"\0", b"\0", b"\xa5", last[4:200] or b"\0"))
        end = chance.randrange(low, max(len(last), low + 1)) if fate is Fate.BEGUN else 0
        for at in range(low, size, SECTOR):
            new = at < end if fate is Fate.BEGUN else chance.random() < likely
            state = chance.choice(self.states[1:]) if new else first
            sector = state[at : at + SECTOR]
            if not sector and fate is not Fate.EMPTY:
                sector = (filler * SECTOR)[:SECTOR]
            out += sector.ljust(SECTOR, b"\0")
        del out[size:]
        return bytes(out.ljust(size, b"\0"))

    def _size(self, chance: Random) -> int:
        sizes = sorted({len(state) for state in self.states})
        between = chance.randrange(sizes[0], sizes[-1] + 1) // SECTOR * SECTOR
        return max(sizes[0], between) if chance.random() < 0.3 else chance.choice(sizes)


class Folder:
    """A folder's entries, as they are seen and as they are sure to be."""

    def __init__(self) -> None:
        self.seen: dict[str, Folder | File] = {}
        self._sure: dict[str, Folder | File] = {}
        self._changes: list[tuple[str, str, Folder | File | None]] = []  # a name that goes, one that comes, and to what

    def change(self, gone: str, come: str, node: Folder | File | None) -> None:
        _change(self.seen, gone, come, node)
        self._changes.append((gone, come, node))

    def synced(self) -> None:
        self._sure = dict(self.seen)
        self._changes.clear()

    def adopt(self, name: str, node: Folder | File) -> None:
        """An entry that is there and sure."""
        self.seen[name] = self._sure[name] = node

    def entries(self, fate: Fate, chance: Random) -> dict[str, Folder | File]:
        """What may be found in it."""
        if fate is Fate.KEPT or not self._changes:
            return self.seen
        entries = dict(self._sure)
        if fate is not Fate.LOST:
            first = chance.randrange(len(self._changes) + 1) if fate is Fate.BEGUN else 0
            likely = chance.choice((0.2, 0.5, 0.8))
            for number, each in enumerate(self._changes):
                if number < first if fate is Fate.BEGUN else chance.random() < likely:
                    _change(entries, *each)
        return entries


def _change(entries: dict[str, Folder | File], gone: str, come: str, node: Folder | File | None) -> None:
    if gone:
        entries.pop(gone, None)
    if node is not None:
        entries[come] = node


class FailingPower(Disk):
    """Does everything for real below ``root``, which is sure, but for syncs; and keeps the books.

    ``on_step`` is called after each step. ``kill_in`` steps from now the process is killed; ``fails`` says of each sync
    of a file whether it fails.
    """

    def __init__(self, root: Path, chance: Random) -> None:
        self.root = root
        self.chance = chance
        self.done: deque[str] = deque(maxlen=REMEMBERED)
        self.kill_in = 0
        self.on_step: Callable[[], None] = lambda: None
        self.fails: Callable[[Path], bool] = lambda path: False
        self._root = Folder()
        self._open: dict[int, tuple[Path, File]] = {}
        self._numbers: dict[int, File] = {}  # by st_ino
        self._adopt(root, self._root)

    def _adopt(self, path: Path, folder: Folder) -> None:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir():
                below = Folder()
                folder.adopt(entry.name, below)
                self._adopt(path / entry.name, below)
            else:
                file = File((path / entry.name).read_bytes())
                self._numbers[entry.inode()] = file
                folder.adopt(entry.name, file)

    # --- what a store does ---

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        folder = self._folder(path.parent)
        file = folder.seen.get(path.name)
        if isinstance(file, File):
            file.truncate(0)
        else:
            file = File()
            folder.change("", path.name, file)
        self._numbers[os.fstat(descriptor).st_ino] = file
        self._open[descriptor] = path, file
        self._step(f"create {path.name}")
        return descriptor

    def open_append(self, path: Path) -> int:
        descriptor = super().open_append(path)
        file = self._folder(path.parent).seen[path.name]
        assert isinstance(file, File)
        self._open[descriptor] = path, file
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        super().write(descriptor, data)
        path, file = self._open[descriptor]
        file.write(data)
        self._step(f"write {path.name}, {len(file.seen)}")

    def overwrite(self, descriptor: int, data: bytes) -> None:
        super().overwrite(descriptor, data)
        assert len(data) <= SECTOR
        path, file = self._open[descriptor]
        file.write(data, 0)
        self._step(f"overwrite {path.name}")

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        path, file = self._open[descriptor]
        file.truncate(size)
        self._step(f"truncate {path.name}, {size}")

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        del self._open[descriptor]

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent
        super().rename(old, new)
        folder = self._folder(old.parent)
        folder.change(old.name, new.name, folder.seen[old.name])
        self._step(f"rename {old.name} {new.name}")

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._folder(path.parent).change(path.name, "", None)
        self._step(f"remove {path.name}")

    def add_folder(self, path: Path) -> None:
        super().add_folder(path)
        self._folder(path.parent).change("", path.name, Folder())
        self._step(f"add folder {path.name}")

    # --- what happens to it ---

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """From now on all syncs of this process are of this disk, a reader's own, too."""
        patch.setattr("os.fdatasync", self._fdatasync)
        patch.setattr("os.fsync", self._fsync)
        patch.setattr("os.posix_fadvise", self._fadvise)

    def _fdatasync(self, descriptor: int) -> None:
        file = self._numbers[os.fstat(descriptor).st_ino]
        assert os.pread(descriptor, len(file.seen) + 1, 0) == file.seen, "the books are right"
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if self.fails(path):
            file.failed()
            self._step(f"failed to sync {path.name}")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        file.synced()
        self._step(f"sync {path.name}")

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_file():
            self._fdatasync(descriptor)
        elif path.is_relative_to(self.root):
            self._folder(path).synced()
            self._step(f"sync folder {path.name}")

    def _fadvise(self, descriptor: int, offset: int, length: int, advice: int) -> None:
        if advice == os.POSIX_FADV_DONTNEED:
            file = self._numbers[os.fstat(descriptor).st_ino]
            assert not length
            file.forget(self.chance, offset)
            with open(f"/proc/self/fd/{descriptor}", "r+b") as again:  # what the product has open appends
                again.write(file.seen)
            self.done.append(f"forget from {offset} on")

    def begin_sync(self, descriptor: int) -> None:
        """The next ``sync`` of the descriptor begins now, whenever it ends."""
        self._open[descriptor][1].begin_sync()

    def die(self) -> None:
        """The process is gone; what it wrote is seen by the next one, and no surer than it was."""
        for descriptor, (_, file) in self._open.items():
            file.abandon_sync()
            os.close(descriptor)
        self._open.clear()
        self.kill_in = 0
        self.done.append("the process ends")

    def image(self, names: Fate, data: Fate) -> Image:
        """What may be found, had the power failed now."""
        image: Image = {}
        self._picture(self._root, Path(), names, data, image)
        return image

    def _picture(self, folder: Folder, path: Path, names: Fate, data: Fate, image: Image) -> None:
        for name, node in folder.entries(names, self.chance).items():
            if isinstance(node, Folder):
                image[path / name] = None
                self._picture(node, path / name, names, data, image)
            else:
                image[path / name] = node.image(data, self.chance)

    def _folder(self, path: Path) -> Folder:
        folder = self._root
        for name in path.relative_to(self.root).parts:
            below = folder.seen[name]
            assert isinstance(below, Folder)
            folder = below
        return folder

    def _step(self, what: str) -> None:
        self.done.append(what)
        self.on_step()
        if self.kill_in:
            self.kill_in -= 1
            if not self.kill_in:
                raise Killed


class LateSync:
    """A BackgroundSync without a thread: it makes sure of nothing that came after its beginning, and ends at random."""

    def __init__(self, disk: FailingPower, _times: object = None) -> None:
        self._disk = disk
        self._running = -1

    @property
    def finished(self) -> bool:
        return self._running < 0 or self._disk.chance.random() < 0.5

    def begin(self, descriptor: int) -> None:
        assert self._running < 0, "one sync at a time"
        self._disk.begin_sync(descriptor)
        self._running = descriptor

    def end(self) -> None:
        running, self._running = self._running, -1
        if running >= 0:
            self._disk.sync(running)

    def abandon(self) -> None:
        try:
            self.end()
        except OSError:
            pass

    close = abandon


def put(image: Image, folder: Path) -> None:
    """Make the image's files in a new folder."""
    folder.mkdir()
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
