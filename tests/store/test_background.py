"""fdatasync beside writing: what is durable when, and what a failure leaves."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from binlogd.errors import StoreUnreadable
from binlogd.store.background import BackgroundSync
from tests.store.support import FIRST, Held, Quick
from tests.store.test_index import SUMMARY
from tests.store.test_writer import started


def test_it_runs_in_another_thread_and_ends_when_the_disk_does(tmp_path: Path) -> None:
    disk = Held()
    background = BackgroundSync(disk)
    descriptor = disk.create(tmp_path / FIRST)
    with disk.held():
        background.begin(descriptor)
        disk.wait_for_sync()
        states = [background.finished]
    background.end()
    assert disk.thread is not threading.current_thread()
    assert [*states, background.finished] == [False, True]
    background.close()
    disk.close(descriptor)


def test_what_fails_in_the_thread_is_raised_by_end_and_by_nothing_else(tmp_path: Path) -> None:
    background = BackgroundSync(Quick())
    for ending in (background.abandon, background.close):
        background._disk.sync = _fail  # type: ignore[method-assign]
        background.begin(-1)
        ending()
        background.begin(-1)
        with pytest.raises(OSError, match="Input/output error"):
            background.end()
        background.end()
    background.close()


def _fail(descriptor: int) -> None:
    raise OSError(5, "Input/output error")


def test_a_writer_appends_meanwhile_and_syncs_the_rest_afterwards(tmp_path: Path) -> None:
    disk = Held()
    writer = started(tmp_path, disk)
    disk.steps.clear()
    writer.append(memoryview(b"first"))
    with disk.held():
        writer.begin_sync()
        disk.wait_for_sync()
        writer.append(memoryview(b"second"))
        assert not writer.sync_ended
    writer.sync()
    end = writer.size
    assert disk.steps == [
        f"write {FIRST}",
        f"begin {FIRST}:{end - len(b'second')}",
        f"write {FIRST}",
        f"sync {FIRST}",
        f"begin {FIRST}:{end}",
        f"sync {FIRST}",
    ]
    assert writer.path.read_bytes().endswith(b"firstsecond")
    writer.close()


def test_nothing_to_sync_begins_nothing(tmp_path: Path) -> None:
    disk = Held()
    writer = started(tmp_path, disk)
    disk.steps.clear()
    writer.begin_sync()
    assert writer.sync_ended
    writer.end_sync()
    assert disk.steps == []
    lazy = started(tmp_path / "os", Held(), durable=False)
    lazy.append(memoryview(b"x"))
    lazy.begin_sync()
    assert lazy.sync_ended
    lazy.close()
    writer.close()


@pytest.mark.parametrize("step", ["sync", "end_sync", "cut", "finish"])
def test_a_failure_gives_up_what_is_not_known_to_be_durable(tmp_path: Path, step: str) -> None:
    """What was appended during the failed sync goes as well: it stands behind what is lost."""
    disk = Quick()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"safe"))
    writer.begin_sync()
    writer.end_sync()
    before = writer.path.read_bytes()
    writer.append(memoryview(b"unsafe"))
    disk.sync = _fail  # type: ignore[method-assign]
    writer.begin_sync()
    writer.append(memoryview(b"unsafe too"))
    steps = {"cut": lambda: writer.cut(len(before)), "finish": lambda: writer.finish(SUMMARY)}
    with pytest.raises(StoreUnreadable, match=r"cannot sync .*Input/output error"):
        steps.get(step, getattr(writer, step))()
    assert writer.path.read_bytes() == before
    assert writer.size == len(before)
    writer.close()


def test_a_file_is_not_closed_under_the_thread(tmp_path: Path) -> None:
    """The kernel gives its descriptor to the next file: what is synced must be what was written."""
    disk = Held()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"x"))
    disk.steps.clear()
    released = threading.Timer(0.05, lambda: disk.release())
    disk.hold()
    writer.begin_sync()
    disk.wait_for_sync()
    released.start()
    writer.close()
    assert disk.steps[-1] == f"sync {FIRST}", "close waited"
    released.join()


def test_the_sync_of_one_file_says_nothing_of_the_next(tmp_path: Path) -> None:
    disk = Quick()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"x" * 1000))
    writer.begin_sync()
    writer.end_sync()
    writer.finish(SUMMARY)
    writer.start("mysql-bin.000002", b"short")
    before = writer.path.read_bytes()
    writer.append(memoryview(b"y" * 100))
    disk.sync = _fail  # type: ignore[method-assign]
    with pytest.raises(StoreUnreadable):
        writer.sync()
    assert writer.path.read_bytes() == before
    writer.close()
