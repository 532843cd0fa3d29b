"""Reading what is stored: heads, contents, single files and whole stores."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import BINLOG_MAGIC, ChecksumAlgorithm, checksum
from binlogd.binlog.walk import WHOLE_LIMIT, GtidRun, Walk
from binlogd.errors import EventError, StoreDamaged, StoreUnreadable
from binlogd.store import reader
from binlogd.store.index import encode_marks, index_path, read_summary, write_file_list, write_index
from binlogd.store.layout import DataFolder
from binlogd.store.reader import (
    Gathered,
    Head,
    publication_of,
    read_contents,
    read_file,
    read_further,
    read_head,
    read_previous,
    read_store,
    walk_file,
)
from binlogd.store.removal import collect, commit, look_at
from binlogd.store.retention import File, Going
from binlogd.store.seek import find_gtids, find_time
from tests.binlog import builders
from tests.binlog.making import CRC32, OFF, SID_A, TIME, UUID_A, Log, broken, sample
from tests.store.support import FIRST, SECOND, Quick, chain, data_of, make_store, newest

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def head_of(path: Path, data: bytes | bytearray, end: int | None = None) -> Head | None:
    (path / "f").write_bytes(data)
    descriptor = os.open(path / "f", os.O_RDONLY)
    try:
        return read_head(descriptor, len(data) if end is None else end)
    finally:
        os.close(descriptor)


# --- heads ---


@ALGORITHMS
@pytest.mark.parametrize("previous", ["", f"{UUID_A}:1-5", f"{UUID_A}:1-5:tag:1-3"])
def test_a_head(tmp_path: Path, algorithm: ChecksumAlgorithm, previous: str) -> None:
    log = Log(algorithm).begin_file(previous).transaction(6)
    head = head_of(tmp_path, log.data)
    assert head == Head(log.event(0), "8.0.36", algorithm, GtidSet.parse(previous), log.events[1].end)


def test_a_head_without_previous_gtids(tmp_path: Path) -> None:
    log = Log().begin_file(None).transaction(1)
    head = head_of(tmp_path, log.data)
    assert head is not None
    assert head.previous is None
    assert head.events == log.events[0].end


@ALGORITHMS
def test_a_head_cut_at_every_byte(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    log = Log(algorithm).begin_file(f"{UUID_A}:1-5").transaction(6)
    first, second = log.events[0].end, log.events[1].end
    for size in range(second + 30):
        for head in (head_of(tmp_path, log.data[:size]), head_of(tmp_path, log.data, size)):
            if size < first:
                assert head is None
            else:
                assert head is not None
                assert (head.previous is not None) is (size >= second)
                assert head.events == (second if size >= second else first)


def test_previous_gtids_that_are_not_sound_are_none(tmp_path: Path) -> None:
    """A power loss may leave anything there; what it says would be taken for what the replica must have."""
    log = Log().begin_file(f"{UUID_A}:1-5").transaction(6)
    made = log.events[1]
    for at in range(made.start, made.end):
        data = broken(bytes(log.data), at, 1 << at % 8)
        try:
            head = head_of(tmp_path, data)
        except EventError as bad:
            pytest.fail(f"byte {at}: {bad}")
        assert head is not None
        assert head.previous is None


@pytest.mark.parametrize("rest", [bytes(5), bytes(19), bytes(5000), b"\xff" * 19, b"\xff" * 5000, b"\x23" * 5000])
def test_a_head_with_anything_behind_it(tmp_path: Path, rest: bytes) -> None:
    log = Log()
    log.format()
    head = head_of(tmp_path, log.data + rest)
    assert head is not None
    assert (head.previous, head.events) == (None, log.position)


@pytest.mark.parametrize("data", [b"\0", b"\xfebim", b"\xfdbin" + bytes(600), bytes(4), b"\xfebin" + bytes(100)])
def test_what_is_no_binary_log(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(EventError):
        head_of(tmp_path, data)


def test_a_server_that_knows_no_checksums(tmp_path: Path) -> None:
    """Nobody follows one; and where a version says so that cannot be, no lengths are told from a checksum."""
    log = Log()
    log.format()
    event = bytearray(log.event(0))
    event[21:71] = b"5.1.73".ljust(50, b"\0")
    event[-4:] = checksum(event[:-4]).to_bytes(4, "little")
    with pytest.raises(EventError, match=r"of a server 5\.1\.73, which is older than 5\.6"):
        head_of(tmp_path, BINLOG_MAGIC + event)


# --- contents ---


@ALGORITHMS
def test_contents(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    log = sample(algorithm)
    (tmp_path / FIRST).write_bytes(log.data)
    seen: list[tuple[int, int]] = []
    contents = read_contents(tmp_path / FIRST, progress=lambda done, total: seen.append((done, total)))
    assert contents is not None
    assert (contents.added, contents.size, contents.torn, contents.damaged) == (log.set, log.position, "", False)
    assert contents.walk.transaction_end == log.position
    assert seen[-1] == (log.position, log.position)
    summary = contents.summary(FIRST, log.position)
    assert (summary.transactions, summary.added, summary.checksum) == (len(log.ends), log.set, algorithm)
    assert (summary.first_time, summary.last_time) == (1_700_000_000, 1_700_000_000 + len(log.events) - 1)


def test_contents_up_to_an_end(tmp_path: Path) -> None:
    log = sample()
    (tmp_path / FIRST).write_bytes(log.data)
    for end in log.ends:
        contents = read_contents(tmp_path / FIRST, end)
        assert contents is not None
        assert contents.walk.transaction_end == contents.size == end
        assert not contents.torn
    contents = read_contents(tmp_path / FIRST, log.ends[0] + 70)
    assert contents is not None
    assert contents.torn == "an unfinished transaction"
    assert contents.walk.transaction_end == log.ends[0]


def test_a_file_larger_than_all_buffers(tmp_path: Path) -> None:
    log = Log().begin_file()
    for gno in range(1, 12):
        log.transaction(gno, sizes=(WHOLE_LIMIT - 5, 100, 3 * WHOLE_LIMIT, 1_000_003))
    (tmp_path / FIRST).write_bytes(log.data)
    contents = read_contents(tmp_path / FIRST)
    assert contents is not None
    assert contents.added == log.set
    assert contents.walk.transaction_end == log.position
    assert [mark.offset for mark in contents.walk.marks] == log.starts


def test_a_walk_goes_on_where_it_stands(tmp_path: Path) -> None:
    log = sample()
    path = tmp_path / FIRST
    path.write_bytes(log.data)
    descriptor = os.open(path, os.O_RDONLY)
    walk = Walk(position=4, checksum=4)
    for end in range(5, log.position + 1, 7):
        walk_file(descriptor, walk, end)
        assert walk.position <= end
    walk_file(descriptor, walk, log.position)
    walk_file(descriptor, walk, log.position + 100)
    os.close(descriptor)
    assert walk.transaction_end == log.position
    assert GtidSet.from_runs(walk.take_gtids()) == log.set


def test_reading_on(tmp_path: Path) -> None:
    log = sample()
    path = tmp_path / FIRST
    for position in (log.events[1].end, *log.ends):
        for size in range(position, len(log.data) + 1, 31):
            path.write_bytes(log.data[:size])
            further = read_further(path, position)
            ends = [end for end in (*log.ends, log.position) if position < end <= size]
            if not ends:
                assert further is None
                continue
            assert further is not None
            assert further.position == ends[-1]
            between = [gtid for gtid, end in zip(log.gtids, log.ends, strict=True) if position < end <= size]
            assert further.gtids == GtidSet.from_runs((s, t, g, g) for s, t, g in between)
    path.write_bytes(bytes(log.data[: log.ends[1]]) + bytes(100))
    assert read_further(path, log.ends[1]) is None
    further = read_further(path, log.ends[0])
    assert further is not None
    assert further.position == log.ends[1]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreadable, match="No such file"):
        read_contents(tmp_path / FIRST)
    with pytest.raises(StoreUnreadable):
        read_file(newest(make_store(tmp_path / "s", {})), FIRST, finished=True)


# --- single files ---


def indexed(folder: DataFolder) -> None:
    """Write the .idx of every file."""
    for timeline in folder.timelines():
        for name in timeline.binlogs():
            contents = read_contents(timeline.path / name)
            assert contents is not None
            write_index(
                Quick(), timeline.path, contents.summary(name, contents.size), encode_marks(contents.walk.marks)
            )


def test_a_finished_file_is_known_by_its_index_alone(tmp_path: Path) -> None:
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data})
    walked = read_file(newest(folder), FIRST, finished=True)
    indexed(folder)
    (newest(folder).path / FIRST).write_bytes(bytes(len(log.data)))  # of the same size, and not to be looked at
    assert read_file(newest(folder), FIRST, finished=True) == walked
    with pytest.raises(StoreDamaged):
        read_file(newest(folder), FIRST, finished=False)


def test_an_index_that_is_stale_is_not_believed_and_readers_write_nothing(tmp_path: Path) -> None:
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data})
    indexed(folder)
    path = newest(folder).path / FIRST
    longer = Log(base=log.position)
    longer.transaction(6)
    path.write_bytes(log.data + longer.data)
    found = read_file(newest(folder), FIRST, finished=True)
    assert found.size == found.summary.size == longer.position
    assert found.damage == f"it has {longer.position} bytes and was finished with {log.position}"
    assert read_summary(path, longer.position) is None


def test_the_newest_file_counts_up_to_its_last_whole_transaction(tmp_path: Path) -> None:
    log = sample()
    for cut in (1, 15, 60):
        size = log.ends[1] + cut
        folder = make_store(tmp_path / str(cut), {FIRST: log.data[:size]})
        found = read_file(newest(folder), FIRST, finished=False)
        assert (found.size, found.summary.size, found.summary.transactions) == (log.ends[1], log.ends[1], 2)
        assert not found.finished


@pytest.mark.parametrize("event", [2, 5, -1])
def test_a_damaged_finished_file_is_named_with_the_place(tmp_path: Path, event: int) -> None:
    log = sample()
    made = log.events[event]
    folder = make_store(tmp_path, {FIRST: broken(bytes(log.data), made.start + 20)})
    found = read_file(newest(folder), FIRST, finished=True)
    assert f"the event at {made.start} (type {made.kind}, " in found.damage
    assert found.alarm()["file"] == FIRST
    assert "--repair" in found.alarm()["hint"]


def test_a_finished_file_that_ends_within_an_event(tmp_path: Path) -> None:
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data[:-1], SECOND: sample().data})
    first, second = read_store(folder)
    assert f"behind position {log.events[-2].end}" in first.damage
    assert second.damage == ""


@pytest.mark.parametrize("content", [b"", b"\xfeb", b"\xfebin", b"\xfebin" + bytes(10)])
@pytest.mark.parametrize("finished", [True, False])
def test_a_file_without_its_first_event(tmp_path: Path, content: bytes, finished: bool) -> None:
    folder = make_store(tmp_path, {FIRST: content})
    if finished:
        assert "ends before its first event" in read_file(newest(folder), FIRST, finished=True).damage
        return
    with pytest.raises(StoreDamaged, match="ends before its first event"):
        read_file(newest(folder), FIRST, finished=False)


@pytest.mark.parametrize("finished", [True, False])
def test_a_file_that_is_no_binary_log(tmp_path: Path, finished: bool) -> None:
    folder = make_store(tmp_path, {FIRST: b"hello, world" * 100})
    if finished:
        assert "does not begin like a binary log" in read_file(newest(folder), FIRST, finished=True).damage
        return
    with pytest.raises(StoreDamaged, match="does not begin like a binary log"):
        read_file(newest(folder), FIRST, finished=False)


# --- stores ---


def test_what_is_removed_while_the_store_is_read(tmp_path: Path) -> None:
    """It is left out where files are shown. Who sums them up must not take what is left for all that there was."""
    folder = make_store(tmp_path, data_of(chain(4)))
    shown, summed = read_store(folder, passing_over=True), read_store(folder)
    assert next(shown).name == next(summed).name == FIRST
    left = [File(1, name, 0) for name in newest(folder).binlogs()]
    removed = commit(Quick(), folder, look_at(folder, [Going(file, "") for file in left[:2]]), left[2])
    write_file_list(Quick(), newest(folder), newest(folder).binlogs())
    assert collect(Quick(), folder, removed)
    assert [file.name for file in shown] == newest(folder).binlogs()
    with pytest.raises(StoreUnreadable):
        next(summed)
    lost = read_store(folder, passing_over=True)
    next(lost)
    (newest(folder).path / newest(folder).binlogs()[-1]).unlink()
    with pytest.raises(StoreUnreadable):
        next(lost)


def test_a_store(tmp_path: Path) -> None:
    logs = chain(3)
    folder = make_store(tmp_path, data_of(logs))
    seen: list[tuple[int, int]] = []
    files = list(read_store(folder, lambda done, total: seen.append((done, total))))
    assert [(file.name, file.size, file.finished) for file in files] == [
        (name, log.position, number < 3) for number, (name, log) in enumerate(logs.items(), 1)
    ]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    found = publication_of(files)
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-6")
    assert not found.purged


def test_a_newest_file_of_only_a_format_description_claims_no_previous_gtids(tmp_path: Path) -> None:
    """Else any replica could begin with it, and would miss everything in the files before."""
    logs = chain(2)
    last = Log()
    last.format()
    folder = make_store(tmp_path, data_of(logs) | {"mysql-bin.000003": last.data})
    *_, newest_file = read_store(folder)
    assert newest_file.size == last.position
    assert read_previous(newest_file.path) is None
    assert publication_of(read_store(folder)).purged == GtidSet()


def test_no_store(tmp_path: Path) -> None:
    assert list(read_store(DataFolder(tmp_path / "nowhere"))) == []
    assert list(read_store(make_store(tmp_path / "empty"))) == []
    assert list(read_store(make_store(tmp_path / "timeline", {}))) == []


def test_of_a_thousand_files_only_the_indexes_are_read(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1)
    log.rotate()
    names = [f"mysql-bin.{number:06}" for number in range(1, 1001)]
    folder = make_store(tmp_path, dict.fromkeys(names, bytes(log.data)))
    path = newest(folder).path
    contents = read_contents(path / FIRST)
    assert contents is not None
    write_index(Quick(), path, contents.summary(FIRST, log.position), encode_marks(contents.walk.marks))
    index = index_path(path / FIRST).read_text()
    for name in names[:-1]:
        index_path(path / name).write_text(index.replace(FIRST, name))
        (path / name).write_bytes(b"")
        os.truncate(path / name, log.position)  # nothing of it can be read
    files = list(read_store(folder))
    assert len(files) == 1000
    assert {file.size for file in files} == {log.position}
    assert publication_of(files).executed == log.set


# --- memory ---


@pytest.fixture(scope="module")
def disorder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A file of 30,000 transactions that committed out of order: each of them is a run of its own."""
    log = Log().begin_file()
    payload = builders.payload(bytes(300))
    for number in range(30_000):
        log.gtid((number ^ 1) + 1)
        log.put(payload)
    return make_store(tmp_path_factory.mktemp("disorder"), {FIRST: log.data})


@pytest.mark.parametrize("how", ["whole", "further", "find a GTID", "find a moment"])
def test_runs_are_not_held_for_the_whole_file(disorder: DataFolder, how: str) -> None:
    """200 bytes for each of them would be 6 MB here, and a GB in a file of a GiB."""
    path = newest(disorder).path / FIRST
    everything = GtidSet.parse(f"{UUID_A}:1-30000")
    tracemalloc.start()
    try:
        if how == "whole":
            contents = read_contents(path)
            assert contents is not None
            assert contents.added == everything
        elif how == "further":
            further = read_further(path, 4)
            assert further is not None
            assert further.gtids == everything
        elif how == "find a GTID":
            assert find_gtids(disorder, GtidSet.parse(f"{UUID_A}:30001"))[0] == []
        else:
            assert find_time(disorder, TIME + 1_000_000) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000, "two blocks of a MiB, and what is in one of them"


def test_runs_that_do_not_become_one_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are put into the set when they are as many as it has: not at every block, which would be quadratic."""
    log = Log().begin_file()
    for number in range(1, 2000):
        log.gtid(2 * number)
        log.xid()
    made: list[int] = []
    add_runs = GtidSet.add_runs

    def noted(gtids: GtidSet, runs: list[GtidRun]) -> GtidSet:
        made.append(len(runs))
        return add_runs(gtids, runs)

    monkeypatch.setattr(GtidSet, "add_runs", noted)
    monkeypatch.setattr(reader, "MANY_RUNS", 10)
    gathered = Gathered()
    walk = Walk(position=4, checksum=4)
    for event in log.each():
        walk.whole(event, 0, len(event))
        gathered.take(walk)
    assert gathered.set() == GtidSet.from_runs((SID_A, "", 2 * n, 2 * n) for n in range(1, 2000))
    assert len(made) < 15
    assert max(made) <= 1024
