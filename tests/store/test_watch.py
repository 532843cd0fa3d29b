"""What happens to a store from outside, noticed while it is written to."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from binlogd.errors import StoreInUse, StoreUnreadable
from binlogd.store.lock import StoreLock
from binlogd.store.watch import LOOK_AFTER, LOOK_EVERY, Watch
from binlogd.store.writer import Writer
from tests.binlog.making import Log
from tests.store.support import FIRST, Quick, make_store, newest

MiB = 1024 * 1024


class Space(Quick):
    """Free space as told; it counts who asks."""

    free = 0
    asked = 0

    def space(self, path: Path) -> tuple[int, int]:
        self.asked += 1
        return self.free, 160 * MiB


def written(path: Path, watch: Watch | None) -> Writer:
    writer = Writer(Quick(), newest(make_store(path, {})), watch=watch)
    writer.start(FIRST, Log().begin_file().event(0))
    return writer


def test_it_looks_once_a_second_or_every_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    disk = Space()
    disk.free = 100
    writer = written(tmp_path, Watch(disk, tmp_path, min_free=50))
    for _ in range(100):
        writer.append(memoryview(b"x"))
    assert disk.asked == 1
    now += LOOK_AFTER
    writer.append(memoryview(b"x"))
    assert disk.asked == 2
    writer._watch._written = LOOK_EVERY - 2  # type: ignore[union-attr]
    writer.append(memoryview(b"x"))
    assert disk.asked == 2
    writer.append(memoryview(b"x"))
    assert disk.asked == 3
    writer.close()


def test_less_than_min_free_stops_before_anything_is_written(tmp_path: Path) -> None:
    disk = Space()
    disk.free = 5 * MiB
    writer = written(tmp_path, Watch(disk, tmp_path, min_free=6 * MiB))
    before = writer.path.stat().st_size
    with pytest.raises(StoreUnreadable, match=r"only 5\.00 MiB are free.*store\.min_free is 6\.00 MiB") as caught:
        writer.append(memoryview(b"x"))
    assert caught.value.alarm == "disk_full"
    assert writer.path.stat().st_size == before
    writer.close()


@pytest.mark.parametrize("min_free", [0, 20 * MiB])
@pytest.mark.parametrize("size", [0, 30 * MiB])
def test_a_disk_that_was_full_needs_more_than_one_that_was_not(tmp_path: Path, min_free: int, size: int) -> None:
    disk = Space()
    watch = Watch(disk, tmp_path, min_free=min_free)
    disk.free = min_free
    watch.require(0)
    disk.free = min_free + size + 10 * MiB - 1  # a sixteenth of the disk
    with pytest.raises(StoreUnreadable, match="are needed to go on"):
        watch.require_again(size)
    assert watch.needed == size + 10 * MiB, "for retention, which makes the room"
    disk.free += 1
    watch.require_again(size)
    assert watch.needed == 0


def test_another_file_in_its_place(tmp_path: Path) -> None:
    writer = written(tmp_path, Watch(Quick(), tmp_path))
    os.link(writer.path, tmp_path / "kept")
    (tmp_path / "new").write_bytes(writer.path.read_bytes())
    (tmp_path / "new").rename(writer.path)
    with pytest.raises(StoreUnreadable, match="another was put in its place") as caught:
        writer.append(memoryview(b"x"))
    assert caught.value.alarm == "store_missing"
    writer.close()


def test_a_folder_that_was_moved(tmp_path: Path) -> None:
    writer = written(tmp_path / "data", Watch(Quick(), tmp_path))
    (tmp_path / "data").rename(tmp_path / "away")
    with pytest.raises(StoreUnreadable, match="cannot find") as caught:
        writer.append(memoryview(b"x"))
    assert caught.value.alarm == "store_missing"
    writer.close()


def test_a_lock_whose_file_was_removed_is_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    with StoreLock(path) as lock:
        writer = written(tmp_path, Watch(Quick(), tmp_path, lock=lock))
        path.unlink()
        writer.append(memoryview(b"x"))
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(StoreInUse):
            StoreLock(path)
        writer.close()
    StoreLock(path).release()


def test_a_lock_that_another_took_ends_the_writing(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    with StoreLock(path) as lock:
        writer = written(tmp_path, Watch(Quick(), tmp_path, lock=lock))
        path.unlink()
        before = writer.path.stat().st_size
        with StoreLock(path), pytest.raises(StoreInUse):
            writer.append(memoryview(b"x"))
        assert writer.path.stat().st_size == before
        writer.close()


@pytest.mark.parametrize("step", ["create", "write", "reserve", "sync"])
def test_a_probe_that_fails_leaves_nothing(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Quick()
    watch = Watch(disk, tmp_path)
    watch.probe(MiB)

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(disk, step, fail)
    with pytest.raises(StoreUnreadable, match="cannot write") as caught:
        watch.probe(MiB)
    assert caught.value.alarm == "disk_read_only"
    assert os.listdir(tmp_path) == []
