"""What recovery cuts off is kept until the file has it again, and never a moment less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binlogd.store.layout import DataFolder
from binlogd.store.recovery import recover
from binlogd.store.rescue import SECTOR, kept
from tests.binlog.making import Log, broken
from tests.store.support import FIRST, Quick, make_store, newest


def log() -> Log:
    """A transaction that stays, and one of some sectors."""
    return Log().begin_file().transaction(1).transaction(2, sizes=(8 * SECTOR, 100))


def cut(path: Path, data: bytes) -> tuple[DataFolder, Path]:
    """A store whose newest file was found with these bytes, and recovered; the copy of what was cut off."""
    folder = make_store(path, {FIRST: data})
    recover(folder, Quick())
    (copy,) = kept(newest(folder))
    end = log().ends[0]
    assert copy.path.name == f"{FIRST}.cut-{end}"
    assert (copy.begin, copy.size, copy.spare) == (end, len(data) - end, False)
    return folder, copy.path


def sent_again(folder: DataFolder, data: bytes) -> list[str]:
    """The names of the copies when the file has these bytes at the next start."""
    (newest(folder).path / FIRST).write_bytes(data)
    recover(folder, Quick())
    return [copy.path.name for copy in kept(newest(folder))]


@pytest.mark.parametrize("lost", [range(3, 4), range(2, 6), range(4, 5), range(1, 9)])
def test_a_torn_write_goes_when_the_source_has_sent_it_again(tmp_path: Path, lost: range) -> None:
    made = log()
    data = bytearray(made.data)
    for sector in lost:
        begin = max(sector * SECTOR, made.ends[0] + 20)  # of the first one an earlier state is on the disk
        data[begin : max((sector + 1) * SECTOR, begin)] = bytes(max((sector + 1) * SECTOR - begin, 0))
    folder, copy = cut(tmp_path, bytes(data))
    assert sent_again(folder, bytes(made.data[: made.ends[0]])) == [copy.name], "it may be the only one"
    assert sent_again(folder, bytes(made.data)) == []


@pytest.mark.parametrize("at", [0, 30, SECTOR, 3 * SECTOR + 7, 8 * SECTOR])
def test_what_the_file_has_not_got_stays(tmp_path: Path, at: int) -> None:
    """A flipped bit, or other transactions, which a source that came back with less may have written since."""
    made = log()
    place = made.ends[0] + at
    data = broken(bytes(made.data), place)
    folder, copy = cut(tmp_path, data)
    assert sent_again(folder, bytes(made.data)) == [copy.name]
    assert copy.read_bytes() == data[made.ends[0] :]


def test_bytes_behind_the_end_of_the_file_stay(tmp_path: Path) -> None:
    made = log()
    data = broken(bytes(made.data), made.ends[0] + 9) + b"something"
    folder, copy = cut(tmp_path, data)
    (newest(folder).path / FIRST).write_bytes(made.data)
    copy.write_bytes(bytes(made.data[made.ends[0] :]) + b"something")
    recover(folder, Quick())
    assert copy.exists()


def test_another_cut_at_the_same_place_is_another_copy(tmp_path: Path) -> None:
    made = log()
    first, second = (broken(bytes(made.data), made.ends[0] + at) for at in (50, 60))
    folder, copy = cut(tmp_path, first)
    assert sent_again(folder, second) == [copy.name, f"{copy.name}-2"]
    assert sent_again(folder, first) == [copy.name, f"{copy.name}-2"], "these bytes are kept already"
    assert copy.read_bytes() == first[made.ends[0] :]
    assert copy.with_name(f"{copy.name}-2").read_bytes() == second[made.ends[0] :]


def test_a_copy_without_its_file_stays(tmp_path: Path) -> None:
    made = log()
    folder, copy = cut(tmp_path, broken(bytes(made.data), made.ends[0] + 50))
    os.rename(newest(folder).path / FIRST, tmp_path / "away")
    recover(folder, Quick())
    assert [each.spare for each in kept(newest(folder))] == [False]
    assert copy.exists()
