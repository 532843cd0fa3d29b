"""Appending to a file: what is durable after each step, and that no step makes a hole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from binlogd.errors import StoreUnreadable
from binlogd.store.disk import Disk
from binlogd.store.index import marks_path, read_marks, read_summary
from binlogd.store.writer import Writer
from tests.binlog.making import Log
from tests.store.support import FIRST, SECOND, Quick, Recording, make_store, newest
from tests.store.test_index import MARKS, SUMMARY


def started(tmp_path: Path, disk: Disk, *, durable: bool = True) -> Writer:
    folder = make_store(tmp_path, {})
    writer = Writer(disk, newest(folder), durable=durable)
    writer.start(FIRST, Log().begin_file().event(0))
    return writer


def test_a_file_appears_durable_under_its_name_and_is_listed(tmp_path: Path) -> None:
    disk = Recording()
    writer = started(tmp_path, disk)
    assert disk.steps[:5] == [
        f"create .{FIRST}.new",
        f"write .{FIRST}.new",
        f"sync .{FIRST}.new",
        f"rename .{FIRST}.new {FIRST}",
        "sync folder",
    ]
    assert disk.steps[5:] == [
        "create .mysql-bin.index.new",
        "write .mysql-bin.index.new",
        "sync .mysql-bin.index.new",
        "rename .mysql-bin.index.new mysql-bin.index",
        "sync folder",
    ]
    fde = Log().begin_file().event(0)
    assert writer.path.read_bytes() == b"\xfebin" + fde
    assert (writer.name, writer.size) == (FIRST, 4 + len(fde))
    assert (writer.path.parent / "mysql-bin.index").read_text() == f"./{FIRST}\n"


def test_sync_syncs_what_was_appended_once(tmp_path: Path) -> None:
    disk = Recording()
    writer = started(tmp_path, disk)
    disk.steps.clear()
    writer.sync()
    assert disk.steps == [], "nothing was appended"
    writer.append(memoryview(b"abc"))
    writer.append(memoryview(b"def"))
    writer.sync()
    writer.sync()
    assert disk.steps == [f"write {FIRST}"] * 2 + [f"sync {FIRST}"]
    assert writer.path.read_bytes().endswith(b"abcdef")
    assert writer.size == writer.path.stat().st_size


def test_durability_os_leaves_syncing_to_the_system_but_not_the_making_of_files(tmp_path: Path) -> None:
    disk = Recording()
    writer = started(tmp_path, disk, durable=False)
    assert f"sync .{FIRST}.new" in disk.steps
    disk.steps.clear()
    writer.append(memoryview(b"abc"))
    writer.sync()
    assert disk.steps == [f"write {FIRST}"]
    writer.finish(SUMMARY)
    assert disk.steps[1] == f"sync {FIRST}"


def test_after_a_failed_sync_what_it_was_for_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later sync would succeed and mean nothing: the kernel may have dropped the bytes and call them clean."""
    disk = Quick()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"safe"))
    writer.sync()
    before = writer.path.read_bytes()
    writer.append(memoryview(b"unsafe"))

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk, "sync", fail)
    with pytest.raises(StoreUnreadable, match=r"cannot sync .*Input/output error"):
        writer.sync()
    assert writer.path.read_bytes() == before
    assert writer.size == len(before)


def test_cut_is_durable_and_appending_goes_on_there(tmp_path: Path) -> None:
    disk = Recording()
    writer = started(tmp_path, disk)
    end = writer.size
    writer.append(memoryview(b"x" * 100))
    disk.steps.clear()
    writer.cut(end + 10)
    assert disk.steps == [f"truncate {FIRST}", f"sync {FIRST}"]
    writer.append(memoryview(b"yz"))
    assert writer.path.read_bytes()[end:] == b"x" * 10 + b"yz"
    disk.steps.clear()
    writer.cut(end + 12)
    writer.cut(end + 12)
    assert disk.steps == [f"sync {FIRST}"], "what was appended, and nothing more"


def test_a_cut_never_makes_a_file_longer(tmp_path: Path) -> None:
    """It would be filled with zeros, and the position be taken for durable."""
    writer = started(tmp_path, Quick())
    before = writer.path.read_bytes()
    with pytest.raises(StoreUnreadable, match=f"has {len(before)} bytes; it should have {len(before) + 1}"):
        writer.cut(len(before) + 1)
    assert writer.path.read_bytes() == before


def test_open_goes_on_where_it_is_told(tmp_path: Path) -> None:
    writer = started(tmp_path, Quick())
    end = writer.size
    writer.append(memoryview(b"durable and torn"))
    writer.close()
    disk = Recording()
    again = Writer(disk, writer.timeline)
    again.open(FIRST, end + 7)
    assert disk.steps == [f"truncate {FIRST}", f"sync {FIRST}"]
    again.append(memoryview(b"!"))
    assert again.path.read_bytes()[end:] == b"durable!"
    whole = Writer(disk, writer.timeline)
    disk.steps.clear()
    whole.open(FIRST, end + 8)
    whole.sync()
    assert disk.steps == [f"sync {FIRST}"], "whoever wrote it may not have synced it"


def test_open_refuses_a_file_that_is_shorter_than_it_was(tmp_path: Path) -> None:
    writer = started(tmp_path, Quick())
    size = writer.size
    writer.close()
    with pytest.raises(StoreUnreadable, match="it should have"):
        Writer(Quick(), writer.timeline).open(FIRST, size + 1)
    assert writer.path.stat().st_size == size


def test_marks_gather_beside_the_file_and_become_its_index(tmp_path: Path) -> None:
    """Without a sync, and in nobody's way: what is durable and when is as without them."""
    disk = Recording()
    writer = started(tmp_path, disk)
    with writer.path.open("r+b") as file:
        file.truncate(SUMMARY.size)
    beside = marks_path(writer.path)
    disk.steps.clear()
    for index, mark in enumerate(MARKS):
        assert not beside.exists() or list(read_marks(writer.path)) == MARKS[:index]
        writer.mark([mark])
    assert list(read_marks(writer.path)) == MARKS
    assert disk.steps == [f"create {beside.name}", *[f"write {beside.name}"] * 5]
    disk.steps.clear()
    writer.finish(SUMMARY)
    assert disk.steps[-3:] == [f"rename .{FIRST}.idx.new {FIRST}.idx", "sync folder", f"remove {beside.name}"]
    assert not beside.exists()
    assert list(read_marks(writer.path)) == MARKS


def test_a_writer_that_goes_on_begins_the_marks_anew(tmp_path: Path) -> None:
    writer = started(tmp_path, Quick())
    writer.mark(MARKS)
    writer.close()
    again = Writer(Quick(), writer.timeline)
    again.open(FIRST, writer.size)
    again.mark(MARKS[:1])
    again.mark(MARKS[1:2])
    assert list(read_marks(writer.path)) == MARKS[:2]
    again.close()
    again.close()
    with pytest.raises(StoreUnreadable):
        writer.append(memoryview(b"x"))


def test_finish_syncs_and_writes_the_index(tmp_path: Path) -> None:
    disk = Recording()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"abc"))
    disk.steps.clear()
    writer.finish(SUMMARY)
    assert disk.steps[0] == f"sync {FIRST}"
    assert disk.steps[-2:] == [f"rename .{FIRST}.idx.new {FIRST}.idx", "sync folder"]
    assert read_summary(writer.path, SUMMARY.size) == SUMMARY
    writer.start(SECOND, Log().begin_file().event(0))
    assert (writer.path.parent / "mysql-bin.index").read_text() == f"./{FIRST}\n./{SECOND}\n"


@pytest.mark.parametrize("step", ["write", "sync", "truncate", "rename", "create", "sync_folder"])
def test_failures_name_the_file_and_what_was_done(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Quick()
    writer = started(tmp_path, disk)
    writer.append(memoryview(b"abc"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, step, fail)
    tried: dict[str, Callable[[], None]] = {
        "write": lambda: writer.append(memoryview(b"def")),
        "sync": writer.sync,
        "truncate": lambda: writer.cut(writer.size - 1),
    }
    start = partial(writer.start, SECOND, Log().begin_file().event(0))
    with pytest.raises(StoreUnreadable, match="No space left") as caught:
        tried.get(step, start)()
    assert "mysql-bin.00000" in caught.value.message


def test_a_file_is_closed_once(tmp_path: Path) -> None:
    writer = started(tmp_path, Quick())
    writer.close()
    writer.close()
    with pytest.raises(StoreUnreadable):
        writer.append(memoryview(b"x"))
