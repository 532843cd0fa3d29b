"""What is durable of a file without checksums: written down before anybody hears of it, and never more than that."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.store.layout import DataFolder
from binlogd.store.reader import publication_of, read_contents, read_further, read_store
from binlogd.store.recovery import recover
from binlogd.store.synced import SyncedSize, synced_part, synced_path
from tests.binlog.making import CRC32, OFF, UUID_A, Log
from tests.store.support import (
    FIRST,
    SECOND,
    Quick,
    Recording,
    begin,
    empty_tail,
    make_store,
    newest,
    settle,
    tail_of,
    take,
)


def log_of(algorithm: ChecksumAlgorithm = OFF) -> Log:
    return Log(algorithm).begin_file().transaction(1).transaction(2)


def test_what_is_said_counts_and_no_more(tmp_path: Path) -> None:
    binlog = tmp_path / FIRST
    assert synced_part(binlog, 100) == 100, "nothing is said"
    said = SyncedSize(Quick(), binlog)
    for size in (70, 3_000_000_000, 99):
        said.say(size)
        assert synced_part(binlog, 4_000_000_000) == size
        assert synced_part(binlog, 50) == 50
    said.close()
    synced_path(binlog).write_bytes(b"nonsense")
    assert synced_part(binlog, 100) == 100


def test_it_is_whole_and_synced_whenever_it_is_there(tmp_path: Path) -> None:
    disk = Recording()
    said = SyncedSize(disk, tmp_path / FIRST)
    said.say(1)
    name = f"{FIRST}.synced"
    assert disk.steps == [
        f"create .{name}.new",
        f"write .{name}.new",
        f"sync .{name}.new",
        f"rename .{name}.new {name}",
        "sync folder",
    ]
    disk.steps.clear()
    said.say(2)
    said.say(2)
    assert disk.steps == [f"sync {name}"], "in place, and only what is new"
    said.close()


@pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
def test_it_follows_the_syncs_of_a_file_without_checksums(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    folder = make_store(tmp_path)
    disk = Recording()
    log = log_of(algorithm)
    tail = empty_tail(folder, disk)
    path = tail.timeline.path / FIRST
    begin(tail, FIRST, log)
    for event in log.each()[1:]:
        take(tail, [event])
        before = synced_part(path, log.position)
        disk.steps.clear()
        tail.sync()
        assert tail.walk is not None
        if algorithm is OFF:
            assert before < synced_part(path, log.position) == tail.walk.position
            assert disk.steps == [f"sync {FIRST}", f"sync {FIRST}.synced"]
        else:
            assert disk.steps == [f"sync {FIRST}"]
    assert synced_path(path).exists() is (algorithm is OFF)
    begin(tail, SECOND, Log(created=1).begin_file(f"{UUID_A}:1-2"))
    assert not synced_path(path).exists(), "all of a finished file counts"
    tail.close()


def test_a_background_sync_says_what_it_covered(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    log = log_of()
    tail = empty_tail(folder)
    path = tail.timeline.path / FIRST
    begin(tail, FIRST, log)
    events = log.each()[1:]
    take(tail, events[:3])
    assert tail.walk is not None
    covered = tail.walk.position
    tail.begin_sync()
    take(tail, events[3:])
    tail.advance_synced()
    assert synced_part(path, log.position) == covered
    tail.close()


@pytest.mark.parametrize("at", [0, 1])
def test_nobody_counts_what_is_behind(tmp_path: Path, at: int) -> None:
    """It looks sound, and nothing says that it is."""
    log = log_of()
    folder = make_store(tmp_path, {FIRST: log.data})
    path = newest(folder).path / FIRST
    said = SyncedSize(Quick(), path)
    said.say(log.ends[at] + 5 if at == 0 else log.ends[at])
    said.close()
    contents = read_contents(path)
    assert contents is not None
    assert contents.walk.transaction_end == log.ends[at]
    assert not contents.unsound
    assert publication_of(read_store(folder)).position == log.ends[at]
    further = read_further(path, log.events[1].end)
    assert further is not None
    assert further.position == log.ends[at]
    recovered = recover(folder, Quick())
    assert recovered.publication.position == log.ends[at]
    assert path.read_bytes() == log.data[: log.ends[at]]
    assert synced_part(path, log.position) == log.ends[at]
    assert [each.name for each in path.parent.iterdir() if ".cut-" in each.name] == []


def test_previous_gtids_that_are_not_durable_do_not_count(tmp_path: Path) -> None:
    log = Log(OFF).begin_file(f"{UUID_A}:1-7")
    folder = make_store(tmp_path, {FIRST: log.data})
    said = SyncedSize(Quick(), newest(folder).path / FIRST)
    said.say(log.events[0].end)
    said.close()
    assert not publication_of(read_store(folder)).executed
    assert not recover(folder, Quick()).publication.executed


def test_it_goes_down_before_the_file_is_cut(tmp_path: Path) -> None:
    log = log_of()
    folder = make_store(tmp_path)
    disk = Recording()
    tail = empty_tail(folder, disk)
    begin(tail, FIRST, log)
    take(tail, log.each()[1:-1])
    settle(tail)
    disk.steps.clear()
    tail.rewind()
    assert disk.steps == [f"sync {FIRST}.synced", f"truncate {FIRST}", f"sync {FIRST}"]
    assert synced_part(tail.timeline.path / FIRST, log.position) == log.ends[0]
    tail.close()


def test_nothing_is_said_where_nothing_is_synced(tmp_path: Path) -> None:
    """And what was said before goes: a kill of the process alone loses nothing then."""
    log = log_of()
    folder = make_store(tmp_path, {FIRST: log.data[: log.ends[0]]})
    recovered = recover(folder, Quick())
    path = newest(folder).path / FIRST
    assert synced_path(path).exists()
    tail = tail_of(recovered, durable=False)
    assert not synced_path(path).exists()
    take(tail, [log.event(index) for index, made in enumerate(log.events) if made.start >= log.ends[0]])
    settle(tail)
    tail.close()
    assert recover(DataFolder(tmp_path), Quick()).publication.position == log.position
