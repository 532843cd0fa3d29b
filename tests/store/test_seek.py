"""Finding places: by halving, by marks, and by reading what is left."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import Mark
from binlogd.errors import StoreDamaged
from binlogd.store import seek
from binlogd.store.disk import Disk
from binlogd.store.index import encode_marks, index_path, marks_head, marks_path, read_marks
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import publication_of, read_contents, read_store
from binlogd.store.recovery import recover
from binlogd.store.seek import (
    Place,
    begins,
    find_gtids,
    find_time,
    furthest,
    holding,
    holds,
    newest_built_on,
    read_gtid,
)
from tests.binlog import builders
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, TIME, UUID_A, UUID_B, Log, broken, later
from tests.store.support import FIRST, SECOND, THIRD, Quick, chain, data_of, make_store, newest

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def a(gtids: str) -> GtidSet:
    """Of the first source."""
    return GtidSet.parse(f"{UUID_A}:{gtids}" if gtids else "")


# --- the GTID event at a place ---


@contextmanager
def opened(path: Path, data: bytes | bytearray) -> Iterator[int]:
    (path / "f").write_bytes(data)
    descriptor = os.open(path / "f", os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@ALGORITHMS
@pytest.mark.parametrize("tag", ["", "nightly"])
def test_a_gtid_event(tmp_path: Path, algorithm: ChecksumAlgorithm, tag: str) -> None:
    log = Log(algorithm).begin_file().transaction(7, SID_A, tag)
    start, size = log.starts[0], log.position
    gtid_end = next(made.end for made in log.events if made.start == start)
    mark = Mark(start, 0, SID_A, tag, 7, None)
    with opened(tmp_path, log.data) as descriptor:
        event = read_gtid(descriptor, start, size, algorithm.length)
        assert event is not None
        assert (event.sid, event.tag, event.gno) == (SID_A, tag, 7)
        assert holds(descriptor, mark, size, algorithm.length)
        assert holds(descriptor, mark, gtid_end, algorithm.length)
        for other in (
            mark._replace(gno=8),
            mark._replace(sid=SID_B),
            mark._replace(tag="other"),
            mark._replace(offset=start - 1),
            mark._replace(offset=gtid_end),
            mark._replace(offset=size),
            mark._replace(offset=size + 10),
        ):
            assert not holds(descriptor, other, size, algorithm.length)
        assert not holds(descriptor, mark, gtid_end - 1, algorithm.length)


@ALGORITHMS
def test_a_gtid_event_that_does_not_end_where_it_says(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    """The file is not the one that the mark speaks of."""
    log = Log(algorithm).begin_file().transaction(7)
    with opened(tmp_path, b"\xfebin" + bytes(20) + log.data[4:]) as descriptor:
        assert read_gtid(descriptor, log.starts[0] + 20, log.position + 20, algorithm.length) is None


def test_a_gtid_event_behind_4_gib(tmp_path: Path) -> None:
    base = 2**32 + 5000
    log = Log(base=base).transaction(7)
    path = tmp_path / "f"
    path.touch()
    os.truncate(path, base)
    with path.open("ab") as file:
        file.write(log.data)
    descriptor = os.open(path, os.O_RDONLY)
    assert holds(descriptor, Mark(base, 0, SID_A, "", 7, None), log.position, 4)
    os.close(descriptor)


def test_a_gtid_event_with_any_bit_turned_over(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(7)
    made = next(made for made in log.events if made.start == log.starts[0])
    for at in range(made.start, made.end):
        with opened(tmp_path, broken(bytes(log.data), at, 1 << at % 8)) as descriptor:
            assert read_gtid(descriptor, made.start, log.position, 4) is None


# --- by marks ---


def marks_of(*befores: GtidSet | None, gno: int = 1) -> list[Mark]:
    """A mark every 100 bytes from 200 on."""
    return [Mark(200 + 100 * i, 0, SID_A, "", gno, before) for i, before in enumerate(befores)]


def test_the_furthest_mark() -> None:
    marks = marks_of(a(""), a("1-3"), a("4:7"), a("8"))
    for has, offset in (
        ("1-2", None),
        ("1-3", 300),
        ("1-6", 300),
        ("1-4:7", 400),
        ("1-8", 500),
        ("1-99", 500),
        ("2-99", None),
        ("", None),
    ):
        found = furthest(marks, 200, 10_000, a(has))
        assert (found.offset if found else None) == offset
    assert furthest(marks, 200, 400, a("1-99")) == marks[1], "what is not published"
    assert furthest(marks, 199, 10_000, a("1-99")) is None, "something is before the first transaction"
    assert furthest([], 200, 10_000, a("1-99")) is None


def test_a_mark_behind_what_is_not_known_is_not_gone_to() -> None:
    marks = marks_of(a(""), a("1"), None, a("3"))
    assert furthest(marks, 200, 10_000, a("1-99")) == marks[1]


def test_a_mark_without_a_gtid_is_passed_over() -> None:
    marks = marks_of(a(""), a("1"), a("2"), a("3"))
    marks[3] = marks[3]._replace(sid=b"", gno=0)
    assert furthest(marks, 200, 10_000, a("1-99")) == marks[2]


@given(
    st.lists(st.tuples(st.sampled_from([SID_A, SID_B]), st.sampled_from(["", "t"]), st.integers(1, 12)), max_size=20),
    st.lists(st.tuples(st.sampled_from([SID_A, SID_B]), st.sampled_from(["", "t"]), st.integers(1, 12)), max_size=40),
)
def test_one_mark_or_none(before: list[tuple[bytes, str, int]], has: list[tuple[bytes, str, int]]) -> None:
    few, many = (GtidSet.from_runs((*gtid, gtid[2]) for gtid in gtids) for gtids in (before, has))
    assert (furthest(marks_of(GtidSet(), few), 200, 1000, many) is not None) is (few <= many)


# --- by halving ---


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=14), st.sets(st.integers(1, 30)))
def test_the_files_that_hold_a_set(counts: list[tuple[bool, int]], wanted: set[int]) -> None:
    """Each GTID in the file that adds it, and what is in none in one at most."""
    claims: list[GtidSet | None] = []
    added = []
    done = 0
    for known, count in counts:
        claims.append(a(f"1-{done}" if done else "") if known else None)
        added.append(a(f"{done + 1}-{done + count}" if count else ""))
        done += count
    asked = GtidSet.from_runs((SID_A, "", gno, gno) for gno in wanted)
    found = dict(holding(claims.__getitem__, 0, len(claims), asked))
    assert list(found) == sorted(found)
    for index, gtids in enumerate(added):
        assert asked & gtids <= found.get(index, GtidSet())
    if None not in claims:
        assert sum(part.count() for part in found.values()) == asked.count()


def test_few_files_are_asked() -> None:
    asked: list[int] = []

    def claims(index: int) -> GtidSet:
        asked.append(index)
        return a(f"1-{index + 1}")

    assert list(holding(claims, 0, 10_000, a("5001:5002"))) == [(5000, a("5002")), (4999, a("5001"))][::-1]
    assert len(set(asked)) < 30
    assert list(holding(claims, 3, 3, a("1"))) == []
    assert newest_built_on(claims, 3, 3, a("1")) is None


# --- what is where ---


def found(folder: DataFolder, gtids: str) -> tuple[list[tuple[int, str, int, str]], str]:
    places, missing = find_gtids(folder, GtidSet.parse(gtids))
    return [(place.timeline.number, place.name, place.offset, place.gtids.compact()) for place in places], str(missing)


def test_gtids_of_several_files(tmp_path: Path) -> None:
    logs = chain(5, transactions=3)
    folder = make_store(tmp_path, data_of(logs))
    for _ in range(2):
        assert found(folder, f"{UUID_A}:2:8-11:99,{UUID_B}:1") == (
            [
                (1, FIRST, logs[FIRST].starts[1], f"{UUID_A}:2"),
                (1, THIRD, logs[THIRD].starts[1], f"{UUID_A}:8-9"),
                (1, "mysql-bin.000004", logs["mysql-bin.000004"].starts[0], f"{UUID_A}:10-11"),
            ],
            f"{UUID_A}:99,\n{UUID_B}:1",
        )
        recover(folder, Quick())  # and now with indexes
    assert found(folder, "") == ([], "")
    assert found(make_store(tmp_path / "empty"), f"{UUID_A}:1") == ([], f"{UUID_A}:1")


def test_gtids_of_timelines_that_overlap_are_found_in_each(tmp_path: Path) -> None:
    old, new = chain(2), Log().begin_file(f"{UUID_A}:1-2").transaction(3).transaction(4).transaction(5)
    folder = make_store(tmp_path, data_of(old), {FIRST: new.data})
    assert found(folder, f"{UUID_A}:4-5") == (
        [(1, SECOND, old[SECOND].starts[1], f"{UUID_A}:4"), (2, FIRST, new.starts[1], f"{UUID_A}:4-5")],
        "",
    )


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("marked", [True, False])
def test_gtids_in_a_file_of_many_mebibytes(
    tmp_path: Path, finished: bool, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)
    log = Log().begin_file()
    for number in range(1, 60):
        if chance.random() < 0.1:
            log.transaction(0)
        log.transaction(number, chance.choice([SID_A, SID_B]), chance.choice(["", "t"]), sizes=(100_000,))
    files = {FIRST: log.data} | ({SECOND: Log().begin_file(log.set).data} if finished else {})
    folder = make_store(tmp_path, files)
    recover(folder, Quick())
    path = newest(folder).path / FIRST
    contents = read_contents(path)
    assert contents is not None
    if not marked:
        index_path(path).unlink(missing_ok=True)
    elif not finished:
        marks_path(path).write_bytes(marks_head(FIRST) + encode_marks(contents.walk.marks))
    assert bool(list(read_marks(path))) is marked
    starts = dict(zip(log.gtids, [start for start in log.starts if start in gtid_starts(log)], strict=True))
    for _ in range(30):
        wanted = chance.sample(log.gtids, chance.choice([1, 1, 2, 10]))
        gtids = GtidSet.from_runs((*gtid, gtid[2]) for gtid in wanted)
        places, missing = find_gtids(folder, gtids | GtidSet.parse(f"{UUID_B}:t:999"))
        assert [(place.offset, place.gtids) for place in places] == [(min(starts[gtid] for gtid in wanted), gtids)]
        assert missing == GtidSet.parse(f"{UUID_B}:t:999")


def gtid_starts(log: Log) -> set[int]:
    return {made.start for made in log.events if made.kind in (33, 42)}


@pytest.mark.parametrize("how", ["another offset", "no event there", "a wrong set", "an unfounded set"])
def test_wrong_marks_find_the_same(tmp_path: Path, how: str) -> None:
    logs = chain(2, transactions=6)
    folder = make_store(tmp_path, data_of(logs))
    recover(folder, Quick())
    first = logs[FIRST]
    marks = [Mark(start, TIME, SID_A, "", gno, a(f"{gno - 1}")) for gno, start in enumerate(first.starts, 1) if gno > 1]
    marks.insert(0, Mark(first.starts[0], TIME, SID_A, "", 1, GtidSet()))
    if how == "another offset":
        marks = [mark._replace(offset=mark.offset + 3) for mark in marks]
    elif how == "no event there":
        marks = [mark._replace(offset=mark.offset + 3, sid=b"", gno=0) for mark in marks]
    elif how == "a wrong set":
        marks = [mark._replace(before=a("4")) for mark in marks]
    else:
        marks = [mark._replace(before=GtidSet()) for mark in marks]
    path = newest(folder).path / FIRST
    summary = index_path(path).read_bytes().partition(b"\n")[0]
    index_path(path).write_bytes(summary + b"\n" + encode_marks(marks))
    assert list(read_marks(path)) == marks
    for gno in range(1, 7):
        assert found(folder, f"{UUID_A}:{gno}") == ([(1, FIRST, first.starts[gno - 1], f"{UUID_A}:{gno}")], "")


def test_gtid_events_of_a_server_newer_than_we_know(tmp_path: Path) -> None:
    """A dump does not begin at one; that it is there can be told all the same."""
    log = Log().begin_file()
    starts = []
    for gno in range(1, 4):
        starts.append(log.position)
        log.put(builders.tagged_gtid(SID_A, "t", gno, needed=60))
        log.query(b"DROP TABLE t")
    folder = make_store(tmp_path, {FIRST: log.data})
    for _ in range(2):
        assert found(folder, f"{UUID_A}:t:2-3") == ([(1, FIRST, starts[1], f"{UUID_A}:t:2-3")], "")
        assert at(find_time(folder, TIME + 4)) == (1, FIRST, starts[1])
        mark_times(folder, 0)
    with opened(tmp_path, log.data) as descriptor:
        assert read_gtid(descriptor, starts[0], log.position, 4) is None


def test_of_the_newest_file_only_whole_transactions_are_found(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    for torn in (b"", b"\0" * 300, bytes(log.data[log.ends[0] : -1]), broken(bytes(log.data[log.ends[0] :]), 50)):
        folder = make_store(tmp_path / str(len(torn)), {FIRST: bytes(log.data[: log.ends[0]]) + torn})
        assert found(folder, f"{UUID_A}:1-2") == ([(1, FIRST, log.starts[0], f"{UUID_A}:1")], f"{UUID_A}:2")
        assert find_time(folder, TIME + 8) is None


def test_a_damaged_finished_file_is_named(tmp_path: Path) -> None:
    logs = chain(2)
    data = data_of(logs) | {FIRST: broken(bytes(logs[FIRST].data), logs[FIRST].starts[1] + 50)}
    folder = make_store(tmp_path, data)
    with pytest.raises(StoreDamaged, match=f"{FIRST}: the event at"):
        find_gtids(folder, a("2"))
    assert found(folder, f"{UUID_A}:3")[1] == ""
    with pytest.raises(StoreDamaged, match="does not begin like a binary log"):
        find_gtids(make_store(tmp_path / "no", {FIRST: b"hello, world"}), a("2"))
    assert found(make_store(tmp_path / "begun", {FIRST: b"\xfebin"}), f"{UUID_A}:3") == ([], f"{UUID_A}:3")


# --- by time ---


def at(place: Place | None) -> tuple[int, str, int] | None:
    return None if place is None else (place.timeline.number, place.name, place.offset)


def test_every_moment_of_a_store(tmp_path: Path) -> None:
    """The first transaction that is not older, with marks and without."""
    logs = chain(4, transactions=3)
    files = {name: later(log, 100 * number) for number, (name, log) in enumerate(logs.items())}
    folder = make_store(tmp_path, files)
    times = [
        (TIME + 100 * number + log.events.index(next(m for m in log.events if m.start == start)), name, start, gtid)
        for number, (name, log) in enumerate(logs.items())
        for start, gtid in zip(log.starts, log.gtids, strict=True)
    ]
    assert begins(folder) == TIME
    for spacing in (None, 0, 1):
        if spacing is not None:
            mark_times(folder, spacing)
        for moment in range(TIME - 5, TIME + 330):
            expected = next(((name, start, gtid) for time, name, start, gtid in times if time >= moment), None)
            place = find_time(folder, moment)
            if expected is None:
                assert place is None
            else:
                assert place is not None
                assert (place.name, place.offset) == expected[:2]
                assert place.gtids == GtidSet.from_runs([(*expected[2], expected[2][2])])
                assert place.time >= moment


def mark_times(folder: DataFolder, skip: int) -> None:
    """Marks at every transaction, or at every other."""
    for name in newest(folder).binlogs():
        path = newest(folder).path / name
        marks = []
        with seek._opened(path, path.stat().st_size) as file:
            assert file is not None
            marks = list(file.transactions(file.head.events, file.size))[:: skip + 1]
        marks_path(path).write_bytes(marks_head(name) + encode_marks(marks))


def test_a_moment_between_timelines_and_before_all(tmp_path: Path) -> None:
    old = Log().begin_file().transaction(1).transaction(2)
    new = Log().begin_file(f"{UUID_A}:1").transaction(2).transaction(3)
    folder = make_store(tmp_path, {FIRST: later(old, 0), SECOND: later(old, 50)}, {FIRST: later(new, 30)}, {})
    assert at(find_time(folder, TIME - 100)) == (1, FIRST, old.starts[0])
    assert at(find_time(folder, TIME + 3)) == (1, FIRST, old.starts[1])
    assert at(find_time(folder, TIME + 20)) == (1, SECOND, old.starts[0])
    assert at(find_time(folder, TIME + 31)) == (2, FIRST, new.starts[0]), "the newest timeline that begins before"
    assert at(find_time(folder, TIME + 60)) is None
    empty = make_store(tmp_path / "empty", {})
    assert begins(empty) is None
    assert find_time(empty, TIME) is None


def test_moments_of_transactions_without_gtids(tmp_path: Path) -> None:
    """MariaDB's, whose files begin with events of their own, and those of a source without GTIDs."""
    log = Log(version="11.8.2-MariaDB").begin_file(None)
    log.put(builders.mariadb_gtid_list([(0, 1, 5)]))
    starts = []
    for number in range(3):
        starts.append(log.position)
        log.put(builders.mariadb_gtid(0, 6 + number))
        log.rows()
        log.xid()
    log.transaction(0).transaction(0)
    folder = make_store(tmp_path, {FIRST: log.data})
    kinds = {made.start: TIME + number for number, made in enumerate(log.events)}
    for skip in (None, 0, 1):
        if skip is not None:
            mark_times(folder, skip)
        for start in [*starts, *log.starts]:
            place = find_time(folder, kinds[start])
            assert place == Place(newest(folder), FIRST, start, kinds[start], GtidSet())
    assert found(folder, f"{UUID_A}:1") == ([], f"{UUID_A}:1")


def test_of_several_transactions_of_a_second_the_first_is_found(tmp_path: Path) -> None:
    log = Log().begin_file()
    starts = []
    for gno in range(1, 4):
        starts.append(log.position)
        log.add(EventType.GTID, builders.gtid(SID_A, gno)[19:-4], timestamp=TIME + 50)
        log.query(b"DROP TABLE t")
    folder = make_store(tmp_path, {FIRST: log.data})
    mark_times(folder, 0)
    assert at(find_time(folder, TIME + 50)) == (1, FIRST, starts[0])


def test_a_wrong_mark_leads_nowhere(tmp_path: Path) -> None:
    logs = chain(2)
    folder = make_store(tmp_path, data_of(logs))
    log = logs[FIRST]
    for mark in (
        Mark(log.starts[1] + 1, TIME, SID_A, "", 2, None),
        Mark(log.starts[1] + 1, TIME, b"", "", 0, None),
        Mark(log.position + 1, TIME, b"", "", 0, None),
    ):
        marks_path(newest(folder).path / FIRST).write_bytes(marks_head(FIRST) + encode_marks([mark]))
        marks_path(newest(folder).path / SECOND).write_bytes(marks_head(SECOND) + encode_marks([mark]))
        assert at(find_time(folder, TIME + 1)) == (1, SECOND, logs[SECOND].starts[0])
        assert at(find_time(folder, TIME)) == (1, FIRST, log.starts[0])


# --- what is durable ---


def test_what_the_receiver_has_not_published_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in the file, in the marks and in a whole file behind it: a power loss takes all that.

    The marks before it are of use as ever: the file is not walked for those behind.
    """
    logs = chain(3, transactions=4)
    log = logs[SECOND]
    folder = make_store(tmp_path, data_of(logs))
    path = newest(folder).path / SECOND
    (newest(folder).path / FIRST).write_bytes(later(logs[FIRST], -1000))
    times = [int.from_bytes(log.data[start : start + 4], "little") for start in log.starts]
    walked = seek._File.walked

    def only_the_first(file: seek._File) -> list[Mark]:
        assert file.path.name == FIRST, "it has no marks"
        return walked(file)

    for marked in (False, True):
        if marked:
            befores = [a(""), *(GtidSet.from_runs([(*gtid, gtid[2])]) for gtid in log.gtids[:-1])]
            places = zip(log.starts, times, log.gtids, befores, strict=True)
            marks = [Mark(start, time, *gtid, before) for start, time, gtid, before in places]
            marks_path(path).write_bytes(marks_head(SECOND) + encode_marks(marks))
        for count in range(5):
            if marked and count == 1:
                monkeypatch.setattr(seek._File, "walked", only_the_first)
            end = log.ends[count - 1] if count else log.starts[0]
            published = Publication(1, SECOND, end, a(f"1-{4 + count}"), GtidSet(), "")
            found, missing = find_gtids(folder, a("1-12"), published)
            assert missing == a("1-12") - a(f"1-{4 + count}")
            assert [place.name for place in found] == [FIRST, SECOND][: 1 + bool(count)]
            for index, start in enumerate(log.starts):
                assert at(find_time(folder, times[index], published)) == ((1, SECOND, start) if index < count else None)
    assert find_gtids(folder, a("1-12"), NOTHING) == ([], a("1-12"))
    assert find_time(folder, TIME, NOTHING) is None


def test_without_a_receiver_the_newest_file_is_synced_before_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while it is synced does not count."""
    logs = chain(2)
    folder = make_store(tmp_path, data_of(logs))
    path = newest(folder).path / SECOND
    synced: list[Path] = []

    def growing(newest: Path, disk: Disk) -> None:
        synced.append(newest)
        path.write_bytes(logs[SECOND].transaction(5).data)

    monkeypatch.setattr(seek, "settle", growing)
    assert find_gtids(folder, a("1-5"))[1] == a("5")
    assert synced == [path]
    assert find_gtids(folder, a("1-5"))[1] == GtidSet()
    find_time(folder, TIME)
    assert synced == [path] * 3
    find_gtids(folder, a("1-5"), publication_of(read_store(folder)))
    assert synced == [path] * 3, "the receiver does that"
