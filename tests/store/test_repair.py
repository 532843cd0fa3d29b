"""A new copy takes a damaged file's place only when it is whole, and all that the store knows is true of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from binlogd.store.index import index_path, read_summary
from binlogd.store.recovery import recover
from binlogd.store.repair import copy_path, objection, rebuild_index, rebuild_list, replace
from tests.binlog.making import UUID_A, Log, broken, later
from tests.store.support import FIRST, SECOND, THIRD, Quick, Recording, chain, data_of, make_store, newest


def judged(path: Path, content: bytes, *, indexed: bool = True, there: bool = True, finished: bool = True) -> str:
    """What speaks against that content as the second of three files, of which one event is damaged."""
    logs = chain(3)
    folder = make_store(path, data_of(logs))
    recover(folder, Quick())
    timeline = newest(folder)
    second = timeline.path / SECOND
    second.write_bytes(broken(bytes(logs[SECOND].data), logs[SECOND].events[4].end - 1))
    if not there:
        second.unlink()
    if not indexed:
        index_path(second).unlink()
    copy_path(timeline, SECOND).write_bytes(content)
    return objection(timeline, SECOND, copy_path(timeline, SECOND), finished=finished)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_the_file_as_it_was_fits(tmp_path: Path, indexed: bool, there: bool) -> None:
    assert judged(tmp_path, bytes(chain(3)[SECOND].data), indexed=indexed, there=there) == ""


@pytest.mark.parametrize("indexed", [True, False])
def test_a_copy_that_is_not_whole_and_sound_does_not(tmp_path: Path, indexed: bool) -> None:
    log = chain(3)[SECOND]
    for number, content in enumerate(
        [
            b"",
            bytes(log.data[:60]),
            b"\xfebim" + bytes(log.data[4:]),
            bytes(log.data[:-1]),
            broken(bytes(log.data), log.events[4].end - 1),
            broken(bytes(log.data), log.events[0].end - 1),
        ]
    ):
        assert judged(tmp_path / str(number), content, indexed=indexed), number


def test_nor_does_one_of_which_only_the_end_is_damaged_where_nothing_else_is_known(tmp_path: Path) -> None:
    log = chain(3)[SECOND]
    for number, content in enumerate((bytes(log.data[:-1]), broken(bytes(log.data), log.position - 1))):
        assert judged(tmp_path / str(number), content, indexed=False, there=False), "all its GTIDs are there"


def test_a_file_of_another_history_does_not(tmp_path: Path) -> None:
    """Sound, of the same name, with the same GTIDs, and made at another time."""
    other = later(chain(3)[SECOND], 100)
    assert "begins differently" in judged(tmp_path / "a", bytes(other), indexed=False)
    assert "does not hold what the file held" in judged(tmp_path / "b", bytes(other), there=False)


def test_a_copy_that_is_shorter_than_what_is_stored_does_not(tmp_path: Path) -> None:
    log = chain(3)[SECOND]
    cut = bytes(log.data[: log.ends[0]])
    assert "does not hold what the file held" in judged(tmp_path / "a", cut)
    assert "less than the" in judged(tmp_path / "b", cut, indexed=False)
    assert "less than the" in judged(tmp_path / "c", cut, indexed=False, finished=False)


def test_a_copy_that_does_not_fit_its_neighbours_does_not(tmp_path: Path) -> None:
    def made(previous: str, *gnos: int) -> bytes:
        log = Log().begin_file(previous)
        for gno in gnos:
            log.transaction(gno, sizes=(20,))
        log.rotate(THIRD)
        return bytes(log.data)

    fits = made(f"{UUID_A}:1-2", 3, 4)
    assert judged(tmp_path / "a", fits, indexed=False, there=False) == ""
    before = judged(tmp_path / "b", made(f"{UUID_A}:1", 3, 4), indexed=False, there=False)
    assert before == f"it builds on {UUID_A}:1, and {FIRST} ends with {UUID_A}:1-2"
    for number, gnos in enumerate([(3,), (3, 5), (3, 4, 5)]):
        behind = judged(tmp_path / f"c{number}", made(f"{UUID_A}:1-2", *gnos), indexed=False, there=False)
        assert behind == f"{THIRD} does not build on it"


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD])
def test_a_copy_is_what_the_index_says_whatever_its_neighbours_build_on(tmp_path: Path, name: str) -> None:
    """Between the files gtid_purged was set at the source, so that none builds on the one before."""
    logs, fourth = {}, "mysql-bin.000004"
    for number, (each, following) in enumerate(pairwise((FIRST, SECOND, THIRD, fourth)), 1):
        log = Log().begin_file(f"{UUID_A}:1-{10 * number}").transaction(10 * number + 1)
        log.rotate(following)
        logs[each] = log
    logs[fourth] = Log().begin_file(f"{UUID_A}:1-40").transaction(41)
    folder = make_store(tmp_path, data_of(logs))
    recover(folder, Quick())
    timeline = newest(folder)
    path = timeline.path / name
    path.write_bytes(broken(bytes(logs[name].data), logs[name].events[4].end - 1))
    copy_path(timeline, name).write_bytes(logs[name].data)
    assert objection(timeline, name, copy_path(timeline, name), finished=True) == ""
    index_path(path).unlink()
    assert "build" in objection(timeline, name, copy_path(timeline, name), finished=True), "nothing proves it now"


def test_the_old_one_stays_beside_it(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of(chain(3)))
    timeline = newest(folder)
    copy = copy_path(timeline, SECOND)
    copy.write_bytes(b"new")
    old = (timeline.path / SECOND).read_bytes()
    disk = Recording()
    kept = replace(disk, timeline, SECOND, copy)
    assert kept is not None
    assert disk.steps == [f"rename .{SECOND}.fetched {SECOND}", "sync folder"], "there is no moment without the file"
    assert kept.read_bytes() == old
    assert (timeline.path / SECOND).read_bytes() == b"new"
    assert timeline.binlogs() == [FIRST, SECOND, THIRD]
    (timeline.path / THIRD).unlink()
    copy.write_bytes(b"new")
    assert replace(disk, timeline, THIRD, copy) is None


def test_indexes_are_made_again(tmp_path: Path) -> None:
    logs = chain(3)
    folder = make_store(tmp_path, data_of(logs))
    timeline = newest(folder)
    assert rebuild_index(Quick(), timeline, FIRST)
    assert read_summary(timeline.path / FIRST, logs[FIRST].position) is not None
    (timeline.path / SECOND).write_bytes(broken(bytes(logs[SECOND].data), 300))
    assert not rebuild_index(Quick(), timeline, SECOND)
    assert not index_path(timeline.path / SECOND).exists()
    rebuild_list(Quick(), timeline)
    assert (timeline.path / "mysql-bin.index").read_text().split() == [f"./{name}" for name in logs]
