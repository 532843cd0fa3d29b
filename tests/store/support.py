"""Stores made for tests: files as given, in a folder as the receiver makes it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from binlogd.binlog.events import FormatDescription
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import Recovered
from binlogd.store.removal import collect, commit, look_at
from binlogd.store.removed import files_left, load
from binlogd.store.retention import File, Going
from binlogd.store.tail import Tail
from tests.binlog.making import SID_A, UUID_A, Log

FIRST = "mysql-bin.000001"
SECOND = "mysql-bin.000002"
THIRD = "mysql-bin.000003"


class Quick(Disk):
    """A disk that syncs nothing: for tests of what is on it, not of when."""

    def sync(self, descriptor: int) -> None:
        pass

    def let_go(self, descriptor: int, start: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


class Recording(Disk):
    """A disk that says in ``steps`` what was done, in order: ``sync mysql-bin.000001`` and so on."""

    def __init__(self, steps: list[str] | None = None) -> None:
        self.steps: list[str] = [] if steps is None else steps

    def _name(self, descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def create(self, path: Path) -> int:
        self.steps.append(f"create {path.name}")
        return super().create(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        self.steps.append(f"write {self._name(descriptor)}")
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self.steps.append(f"sync {self._name(descriptor)}")

    def truncate(self, descriptor: int, size: int) -> None:
        self.steps.append(f"truncate {self._name(descriptor)}")
        super().truncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        self.steps.append(f"rename {old.name} {new.name}")
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self.steps.append("sync folder")

    def remove(self, path: Path) -> None:
        self.steps.append(f"remove {path.name}")
        super().remove(path)


class Held(Recording):
    """A disk whose syncs in the background can be held up.

    ``steps`` says of each when it begins, with the file's size, and when it ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread: threading.Thread | None = None  # that synced last
        self._open = threading.Event()
        self._open.set()
        self._begun = threading.Event()

    def hold(self) -> None:
        """From now on syncs in other threads than the test's wait."""
        self._begun.clear()
        self._open.clear()

    def release(self) -> None:
        """They go on."""
        self._open.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        self.hold()
        try:
            yield
        finally:
            self.release()

    def wait_for_sync(self) -> None:
        """Until one waits."""
        assert self._begun.wait(20), "no sync began"

    def sync(self, descriptor: int) -> None:
        name = self._name(descriptor)
        if name.startswith("."):
            return
        self.steps.append(f"begin {name}:{os.fstat(descriptor).st_size}")
        self.thread = threading.current_thread()
        if self.thread is not threading.main_thread():
            self._begun.set()
            assert self._open.wait(20), "held for ever"
        self.steps.append(f"sync {name}")


def make_store(path: Path, *timelines: Mapping[str, bytes | bytearray]) -> DataFolder:
    """A data folder with these timelines, each of these files."""
    folder = DataFolder(path)
    folder.prepare(Quick())
    for number, files in enumerate(timelines):
        timeline = folder.new_timeline(Quick(), f"{number}{UUID_A[1:]}")
        for name, content in files.items():
            (timeline.path / name).write_bytes(content)
    return folder


def newest(folder: DataFolder) -> Timeline:
    return folder.timelines()[-1]


def tail_of(recovered: Recovered, disk: Disk | None = None, *, durable: bool = True) -> Tail:
    """As the receiver makes it."""
    assert recovered.timeline is not None
    return Tail(
        disk=disk or Quick(),
        timeline=recovered.timeline,
        publication=recovered.publication,
        contents=recovered.tail,
        durable=durable,
    )


def empty_tail(folder: DataFolder, disk: Disk | None = None, *, durable: bool = True) -> Tail:
    """Of a new timeline."""
    disk = disk or Quick()
    return Tail(
        disk=disk,
        timeline=folder.new_timeline(disk, UUID_A),
        publication=NOTHING,
        contents=None,
        durable=durable,
    )


def begin(tail: Tail, name: str, log: Log) -> None:
    """Start the file with the log's FORMAT_DESCRIPTION."""
    tail.start(name, log.event(0), FormatDescription.decode(log.event(0)))


def take(tail: Tail, events: Iterable[bytes]) -> None:
    """Walk and append, as the stream does."""
    assert tail.walk is not None
    for event in events:
        tail.walk.whole(event, 0, len(event))
        tail.append(memoryview(event))


def settle(tail: Tail) -> Publication | None:
    """Make durable, then visible."""
    tail.sync()
    return tail.advance()


def chain(count: int, transactions: int = 2) -> dict[str, Log]:
    """Files that follow each other, PREVIOUS_GTIDS and ROTATE included; the last one has no ROTATE."""
    logs: dict[str, Log] = {}
    gno = 1
    for number in range(1, count + 1):
        log = Log().begin_file(f"{UUID_A}:1-{gno - 1}" if gno > 1 else "")
        for _ in range(transactions):
            log.transaction(gno, SID_A, sizes=(20,))
            gno += 1
        if number < count:
            log.rotate(f"mysql-bin.{number + 1:06}")
        logs[f"mysql-bin.{number:06}"] = log
    return logs


def data_of(logs: Mapping[str, Log]) -> dict[str, bytearray]:
    return {name: log.data for name, log in logs.items()}


def remove_to(folder: DataFolder, number: int, *, unlinked: bool = True) -> None:
    """Remove the oldest ``number`` files, as retention does; not ``unlinked``: somebody is still at one of them."""
    listing = files_left(folder, load(folder.binlogs).first)
    files = [File(timeline.number, name, 0) for timeline, name in listing]
    leaving = look_at(folder, [Going(file, "a test") for file in files[:number]])
    removed = commit(Quick(), folder, leaving, files[number])
    assert not unlinked or collect(Quick(), folder, removed, patience=False)


def purging_at_first(patch: pytest.MonkeyPatch, module: ModuleType, name: str, folder: DataFolder) -> None:
    """The two oldest files go just before something is read for the first time."""
    real, todo = getattr(module, name), [2]

    def read(*arguments: Any, **options: Any) -> Any:
        if todo:
            remove_to(folder, todo.pop())
        return real(*arguments, **options)

    patch.setattr(module, name, read)
