"""No damage to a store goes unnoticed: every bit, every file, every set of GTIDs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.binlog.walk import MARK_SPACING
from binlogd.errors import StoreUnreadable
from binlogd.store import reader, verify
from binlogd.store.disk import Disk
from binlogd.store.index import encode_marks, index_path, read_recorded, write_index
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.purged import FILE as PURGED
from binlogd.store.purged import encode, save
from binlogd.store.reader import read_contents
from binlogd.store.recovery import recover
from binlogd.store.removal import collect, commit, look_at
from binlogd.store.removed import Removed
from binlogd.store.retention import File, Going
from binlogd.store.source_facts import FILE, SourceSettings
from binlogd.store.verify import Finding, Kind, Level, Verification
from tests.binlog.making import OFF, SID_B, UUID_A, UUID_B, Log, broken
from tests.store.support import FIRST, SECOND, THIRD, Quick, chain, data_of, make_store, newest

FOURTH = "mysql-bin.000004"
LIST = "mysql-bin.index"


def indexed(path: Path, *timelines: Mapping[str, Log]) -> DataFolder:
    """A store as a receiver leaves it."""
    folder = make_store(path, *map(data_of, timelines))
    recover(folder, Quick())
    for timeline in folder.timelines():
        SourceSettings({"gtid_mode": "ON"}).save(Quick(), timeline.path)
    return folder


def found(folder: DataFolder, **how: object) -> list[Finding]:
    return list(Verification(folder, **how).findings())  # type: ignore[arg-type]


def told(findings: list[Finding], level: Level = Level.ERROR) -> list[tuple[str, str, int | None]]:
    """Kind, name and offset."""
    return [(finding.kind.value, finding.path.name, finding.offset) for finding in findings if finding.level is level]


def varied() -> dict[str, Log]:
    """Three files with all that can be in them, small."""
    first = Log().begin_file().transaction(1, sizes=(40,)).statement(5, SID_B, "tag")
    first.rotate(SECOND)
    second = Log().begin_file(first.set).payload(4, size=9).transaction(0).statement(6)
    second.stop()
    third = Log().begin_file(first.set | second.set).transaction(5).transaction(7, sizes=(30,))
    return {FIRST: first, SECOND: second, THIRD: third}


# --- every bit ---


def flipped(folder: DataFolder, path: Path, log: Log | None, bits: int, published: Publication | None = None) -> int:
    """Flip so many bits of every byte of a file, one at a time: each is found, and where. How many there were."""
    sound = path.read_bytes()
    flips = 0
    with path.open("r+b", buffering=0) as file:
        for at, octet in enumerate(sound):
            for bit in range(at % 3, 8 + at % 3, 8 // bits):
                os.pwrite(file.fileno(), bytes([octet ^ 1 << bit % 8]), at)
                findings = found(folder, published=published, only={path} if log else None)
                errors = [finding for finding in findings if finding.level is Level.ERROR and finding.path == path]
                assert errors, f"bit {bit % 8} of byte {at} of {path.name}"
                if log is not None:
                    event = max([0, *(made.start for made in log.events if made.start <= at)])
                    assert errors[0].offset == event, f"bit {bit % 8} of byte {at} of {path.name}"
                flips += 1
            os.pwrite(file.fileno(), bytes([octet]), at)
    assert path.read_bytes() == sound
    return flips


def test_every_bit_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BLOCK", 8192)
    logs = varied()
    folder = indexed(tmp_path, logs)
    path = newest(folder).path
    assert found(folder) == []
    flips = flipped(folder, path / FIRST, logs[FIRST], 8)
    flips += sum(flipped(folder, path / name, logs[name], 1) for name in (SECOND, THIRD))
    beside = [f"{FIRST}.idx", f"{SECOND}.idx", LIST, FILE]
    assert sorted([*logs, *beside]) == sorted(entry.name for entry in path.iterdir())
    flips += sum(flipped(folder, path / name, None, 1) for name in beside)
    end = logs[THIRD].ends[0]
    published = Publication(1, THIRD, end, GtidSet(), GtidSet(), "")
    (path / THIRD).write_bytes(logs[THIRD].data[:end])
    flips += flipped(folder, path / THIRD, logs[THIRD], 1, published)
    assert flips > 7_000


def test_without_checksums_it_says_that_only_structure_can_tell(tmp_path: Path) -> None:
    logs = {FIRST: Log(OFF).begin_file().transaction(1), SECOND: Log(OFF).begin_file(f"{UUID_A}:1").transaction(2)}
    logs[FIRST].rotate(SECOND)
    folder = indexed(tmp_path, logs)
    run = Verification(folder)
    assert list(run.findings()) == []
    assert [path.name for path in run.unsummed] == [FIRST, SECOND]
    path = newest(folder).path / FIRST
    made = logs[FIRST].events[3]
    for at in (9, 10, 13):
        path.write_bytes(broken(bytes(logs[FIRST].data), made.start + at))
        assert ("event", FIRST, made.start) in told(found(folder))


# --- one run names all ---


def test_behind_a_bad_event_it_goes_on_and_with_the_next_file(tmp_path: Path) -> None:
    logs = chain(3, transactions=4)
    folder = indexed(tmp_path, logs)
    expected = []
    for name in (FIRST, THIRD):
        data = bytes(logs[name].data)
        for made in (logs[name].events[3], logs[name].events[7]):
            data = broken(data, made.end - 1)
            expected.append(("event", name, made.start))
        (newest(folder).path / name).write_bytes(data)
    assert told(found(folder)) == expected


@pytest.mark.parametrize("at", [9, 10, 11, 12, 13, 14, 15, 16])
def test_behind_a_length_or_an_end_that_is_wrong_the_other_leads_on(tmp_path: Path, at: int) -> None:
    logs = chain(2, transactions=4)
    folder = indexed(tmp_path, logs)
    bad, other = logs[FIRST].events[4], logs[FIRST].events[9]
    data = broken(broken(bytes(logs[FIRST].data), bad.start + at), other.end - 1)
    (newest(folder).path / FIRST).write_bytes(data)
    assert told(found(folder)) == [("event", FIRST, bad.start), ("event", FIRST, other.start)]


def test_behind_garbage_the_marks_lead_on(tmp_path: Path) -> None:
    log = Log().begin_file()
    for gno in range(1, 9):
        log.transaction(gno, sizes=(MARK_SPACING // 2,))
    log.rotate(SECOND)
    folder = indexed(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set).transaction(9)})
    first, late = log.events[3], log.events[-3]
    data = bytearray(broken(bytes(log.data), late.end - 1))
    data[first.start : first.start + 500] = bytes(500)
    (newest(folder).path / FIRST).write_bytes(data)
    assert told(found(folder)) == [("event", FIRST, first.start), ("event", FIRST, late.start)]


def test_without_a_way_on_the_rest_is_said_to_be_unchecked(tmp_path: Path) -> None:
    logs = chain(2, transactions=4)
    folder = indexed(tmp_path, logs)
    made = logs[FIRST].events[4]
    data = bytearray(logs[FIRST].data)
    data[made.start : made.start + 19] = bytes(19)
    (newest(folder).path / FIRST).write_bytes(data)
    findings = found(folder)
    assert told(findings) == [("event", FIRST, made.start)]
    assert told(findings, Level.WARNING) == [("event", FIRST, made.start)]
    assert f"the {len(data) - made.start} bytes from {made.start} on" in findings[1].message


def test_of_a_file_that_is_all_damaged_not_every_event_is_told(tmp_path: Path) -> None:
    logs = chain(2, transactions=30)
    folder = indexed(tmp_path, logs)
    data = bytes(logs[FIRST].data)
    for made in logs[FIRST].events[2:]:
        data = broken(data, made.end - 1)
    (newest(folder).path / FIRST).write_bytes(data)
    assert len(told(found(folder))) == verify.MOST_EVENTS


# --- files that are too few, too many, too short ---


def test_a_hole_in_the_numbers(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(5))
    path = newest(folder).path
    (path / SECOND).unlink()
    (path / THIRD).unlink()
    assert told(found(folder)) == [("missing", SECOND, None), ("missing", THIRD, None)]
    (path / LIST).write_text("".join(f"./{name}\n" for name in newest(folder).binlogs()))
    for name in (SECOND, THIRD):
        index_path(path / name).unlink()
    assert told(found(folder)) == [("missing", SECOND, None), ("missing", THIRD, None)]


@pytest.mark.parametrize("name", [FIRST, THIRD])
def test_a_missing_file_at_either_end_is_known_by_its_traces(tmp_path: Path, name: str) -> None:
    folder = indexed(tmp_path, chain(3))
    path = newest(folder).path
    (path / name).unlink()
    assert told(found(folder)) == [("missing", name, None)]
    (path / LIST).write_text("".join(f"./{each}\n" for each in newest(folder).binlogs()))
    assert told(found(folder)) == ([("missing", name, None)] if name == FIRST else [])


def test_files_purged_from_the_front_are_not_missed(tmp_path: Path) -> None:
    logs = chain(4)
    del logs[FIRST], logs[SECOND]
    assert found(indexed(tmp_path, logs)) == []


def test_surplus_files(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(2))
    path = newest(folder).path
    shutil.copy(path / SECOND, path / THIRD)
    (path / "notes.txt").write_text("mine")
    (path / f"{FIRST}.damaged-20261124T120000Z").write_text("kept")
    (path / f"{FIRST}.cut-200").write_text("kept")
    (path / f".{FIRST}.new").write_text("unfinished")
    findings = found(folder)
    errors = told(findings)
    assert ("list", LIST, None) in errors
    assert [kind for kind, name, _ in errors if name == THIRD] == ["gtids"], "it builds on what is before the other"
    assert told(findings, Level.WARNING)[:1] == [("surplus", "notes.txt", None)]
    assert told(findings, Level.NOTE) == [("cut", f"{FIRST}.cut-200", None)]
    (path / THIRD).unlink()
    (path / "other.000003").write_bytes(Log().begin_file().data)
    assert ("surplus", "other.000003", None) in told(found(folder)) or ("surplus", SECOND, None) in told(found(folder))


@pytest.mark.parametrize("how", ["within an event", "behind a transaction"])
def test_a_file_that_was_cut(tmp_path: Path, how: str) -> None:
    logs = chain(3)
    folder = indexed(tmp_path, logs)
    path = newest(folder).path / FIRST
    size = logs[FIRST].ends[0] + (10 if how == "within an event" else 0)
    os.truncate(path, size)
    assert ("size", FIRST, None) in told(found(folder))
    index_path(path).unlink()
    findings = told(found(folder))
    assert ("index", f"{FIRST}.idx", None) in findings
    if how == "within an event":
        assert ("end", FIRST, logs[FIRST].ends[0]) in findings
    else:
        assert [kind for kind, name, _ in findings if name == SECOND] == ["gtids"], "the next one claims what is gone"


def test_bytes_behind_the_end(tmp_path: Path) -> None:
    logs = chain(2)
    folder = indexed(tmp_path, logs)
    more = Log(base=logs[FIRST].position).transaction(9)
    (newest(folder).path / FIRST).write_bytes(logs[FIRST].data + more.data)
    assert ("size", FIRST, None) in told(found(folder))


def test_a_rotate_that_leads_elsewhere(tmp_path: Path) -> None:
    logs = chain(2)
    log = Log().begin_file().transaction(1).transaction(2)
    log.rotate("mysql-bin.000007")
    folder = indexed(tmp_path, logs | {FIRST: log})
    assert told(found(folder)) == [("end", FIRST, log.events[-1].start)]


def test_the_end_of_a_crash_is_a_warning(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1)
    folder = indexed(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set).transaction(2)})
    findings = found(folder)
    assert told(findings) == []
    assert told(findings, Level.WARNING) == [("end", FIRST, log.events[-1].start)]
    torn = newest(folder).path / SECOND
    torn.write_bytes(torn.read_bytes() + Log().begin_file().event(0)[:30].replace(b"", b""))
    assert told(found(folder)) or told(found(folder), Level.WARNING)


# --- GTIDs ---


def claims(tmp_path: Path, claim: str) -> list[Finding]:
    """Of a store of two files of which the second begins so; the first has 1-2."""
    first = Log().begin_file().transaction(1).transaction(2)
    first.rotate(SECOND)
    return found(indexed(tmp_path, {FIRST: first, SECOND: Log().begin_file(claim).transaction(8)}))


def test_previous_gtids_are_what_the_files_before_amount_to(tmp_path: Path) -> None:
    assert claims(tmp_path / "a", f"{UUID_A}:1-2") == []
    unknown = claims(tmp_path / "b", f"{UUID_A}:1-3,{UUID_B}:1")
    assert [finding.kind for finding in unknown] == [Kind.GTIDS]
    assert f"{UUID_A}:3,{UUID_B}:1, which no file before it holds" in unknown[0].message
    lacking = claims(tmp_path / "c", f"{UUID_A}:1")
    assert [finding.kind for finding in lacking] == [Kind.GTIDS]
    assert f"lack {UUID_A}:2" in lacking[0].message
    twice = claims(tmp_path / "d", f"{UUID_A}:1-8")
    assert any("in files before it" in finding.message and f"{UUID_A}:8" in finding.message for finding in twice)


def test_a_file_without_previous_gtids_behind_one_that_has_them(tmp_path: Path) -> None:
    first = Log().begin_file().transaction(1)
    first.rotate(SECOND)
    second = Log().begin_file(None).transaction(2)
    assert told(found(indexed(tmp_path, {FIRST: first, SECOND: second}))) == [("gtids", SECOND, second.events[1].start)]
    plain = Log().begin_file(None).transaction(0)
    plain.rotate(SECOND)
    assert found(indexed(tmp_path / "none", {FIRST: plain, SECOND: Log().begin_file(None).transaction(0)})) == []


def test_a_gtid_that_stands_twice_in_a_file(tmp_path: Path) -> None:
    first = Log().begin_file().transaction(1).transaction(2).transaction(5).transaction(1)
    first.rotate(SECOND)
    findings = found(indexed(tmp_path, {FIRST: first, SECOND: Log().begin_file(f"{UUID_A}:1-2:5").transaction(6)}))
    assert told(findings) == [("gtids", FIRST, None)]
    assert f"{UUID_A}:1 twice" in findings[0].message


def test_gaps_and_disorder_are_no_damage(tmp_path: Path) -> None:
    first = Log().begin_file()
    for gno in (7, 3, 12, 4, 5, 11):
        first.transaction(gno)
    first.rotate(SECOND)
    assert found(indexed(tmp_path, {FIRST: first, SECOND: Log().begin_file(first.set).transaction(2)})) == []


def test_timelines_may_overlap(tmp_path: Path) -> None:
    assert found(indexed(tmp_path, chain(2), chain(3))) == []


# --- indexes ---


def rewritten(field: str, value: object) -> Callable[[Path], None]:
    """An .idx that is sound and wrong."""

    def write(path: Path) -> None:
        contents, recorded = read_contents(path), read_recorded(path)
        assert contents is not None and recorded is not None
        wrong = {name: getattr(recorded, name) for name in recorded.__slots__} | {field: value}
        write_index(Quick(), path.parent, type(recorded)(**wrong), encode_marks(contents.walk.marks))

    return write


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_time", 5),
        ("last_time", 5),
        ("claimed", 5),
        ("claimed", None),
        ("added", GtidSet.parse(f"{UUID_A}:1-3")),
        ("transactions", 9),
        ("checksum", ChecksumAlgorithm.OFF),
        ("server_version", "8.0.37"),
    ],
)
def test_an_index_that_says_something_else(tmp_path: Path, field: str, value: object) -> None:
    folder = indexed(tmp_path, chain(2))
    rewritten(field, value)(newest(folder).path / FIRST)
    assert told(found(folder)) == [("index", f"{FIRST}.idx", None)]


def test_marks_that_say_something_else(tmp_path: Path) -> None:
    log = Log().begin_file()
    for gno in range(1, 5):
        log.transaction(gno, sizes=(MARK_SPACING,))
    log.rotate(SECOND)
    folder = indexed(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set)})
    path = newest(folder).path / FIRST
    contents = read_contents(path)
    assert contents is not None
    marks = contents.walk.marks
    for wrong in (marks[:-1], [*marks[:-1], marks[-1]._replace(gno=9)], [*marks, marks[-1]._replace(offset=10**9)]):
        write_index(Quick(), path.parent, contents.summary(FIRST, log.position), encode_marks(wrong))
        assert told(found(folder)) == [("index", f"{FIRST}.idx", None)]


def test_a_missing_index_and_a_missing_list(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(2))
    path = newest(folder).path
    index_path(path / FIRST).unlink()
    (path / LIST).unlink()
    assert told(found(folder)) == [("list", LIST, None), ("index", f"{FIRST}.idx", None)]
    recover(folder, Disk())
    assert found(folder) == []


@pytest.mark.parametrize(
    "content", ["", f"./{FIRST}\n", f"./{FIRST}\n./{SECOND}", f"./{SECOND}\n./{FIRST}\n", f"{FIRST}\n{SECOND}\n"]
)
def test_a_list_that_is_wrong(tmp_path: Path, content: str) -> None:
    folder = indexed(tmp_path, chain(2))
    (newest(folder).path / LIST).write_text(content)
    assert {kind for kind, _, _ in told(found(folder))} == {"list"}


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(2))
    path = newest(folder).path / FILE
    path.write_text(json.dumps({"gtid_mode": "ON"}))
    assert told(found(folder)) == [("settings", FILE, None)]


def test_a_purged_set_that_cannot_be_read(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(2))
    path = newest(folder).path / PURGED
    path.write_bytes(encode(GtidSet.parse(f"{UUID_B}:1-9")))
    assert found(folder) == []
    assert flipped(folder, path, None, 1) > 80
    path.write_bytes(b"")
    assert told(found(folder)) == [("purged", PURGED, None)]


def test_what_the_source_had_purged_need_not_be_in_a_file(tmp_path: Path) -> None:
    """MySQL 5.6 writes a gtid_purged that was set into PREVIOUS_GTIDS of the next file."""
    logs = {
        FIRST: Log().begin_file().transaction(1),
        SECOND: Log().begin_file(f"{UUID_A}:1,{UUID_B}:1-9").transaction(2),
    }
    logs[FIRST].rotate(SECOND)
    folder = indexed(tmp_path, logs)
    assert told(found(folder)) == [("gtids", SECOND, logs[SECOND].events[0].end)]
    save(Quick(), newest(folder).path, GtidSet.parse(f"{UUID_B}:1-9"))
    assert found(folder) == []
    save(Quick(), newest(folder).path, GtidSet.parse(f"{UUID_B}:1-8"))
    assert told(found(folder)) == [("gtids", SECOND, logs[SECOND].events[0].end)]


# --- a store that is written to ---


def test_what_is_newer_than_the_publication_is_not_looked_at(tmp_path: Path) -> None:
    logs = chain(3)
    folder = indexed(tmp_path, logs)
    path = newest(folder).path
    end = logs[SECOND].ends[0]
    (path / SECOND).write_bytes(logs[SECOND].data[:end] + b"anything")
    (path / THIRD).write_bytes(b"anything")
    published = Publication(1, SECOND, end, GtidSet(), GtidSet(), "")
    assert found(folder, published=published) == []
    run = Verification(folder, published=published)
    list(run.findings())
    assert (run.files, run.bytes, run.transactions) == (2, logs[FIRST].position + end, 3)
    os.truncate(path / SECOND, end - 1)
    assert ("size", SECOND, None) in told(found(folder, published=published))


def leave(folder: DataFolder, number: int) -> Removed:
    """Have the oldest files be gone, but really."""
    files = [File(timeline.number, name, 0) for timeline in folder.timelines() for name in timeline.binlogs()]
    return commit(Quick(), folder, look_at(folder, [Going(file, "") for file in files[:number]]), files[number])


@pytest.mark.parametrize("step", ["", ".idx", "list", "all"])
def test_what_was_removed_and_is_still_there_is_not_looked_at(tmp_path: Path, step: str) -> None:
    """The steps of a removal, in which one may come upon it."""
    folder = indexed(tmp_path, chain(4))
    path = newest(folder).path
    removed = leave(folder, 2)
    if step == ".idx":
        (path / FIRST).unlink()
    elif step == "list":
        (path / LIST).write_text("".join(f"./{name}\n" for name in newest(folder).binlogs()[2:]))
    elif step == "all":
        assert collect(Quick(), folder, removed)
    run = Verification(folder)
    assert list(run.findings()) == []
    assert run.files == 2


@pytest.mark.parametrize("beside", [False, True])
def test_what_is_removed_meanwhile_is_not_missed(tmp_path: Path, beside: bool) -> None:
    """A run may take an hour: by the time that it comes to a file this may be gone, and its .idx not yet."""
    folder = indexed(tmp_path, chain(5))
    path = newest(folder).path
    (path / FIRST).write_bytes(b"anything")
    (path / "mysql-bin.000005").write_bytes(b"anything")
    run = Verification(folder)
    findings = run.findings()
    assert next(findings).path == path / FIRST
    removed = leave(folder, 3)
    if beside:
        (path / SECOND).unlink()
        (path / THIRD).unlink()
    else:
        assert collect(Quick(), folder, removed)
    assert {finding.path.name for finding in findings} == {"mysql-bin.000005"}
    assert run.files == 3


def test_behind_what_is_removed_meanwhile_nothing_is_expected(tmp_path: Path) -> None:
    """Of GTIDs, of which the file behind it names more than the one that was read last."""
    folder = indexed(tmp_path, chain(4))

    def advanced(_done: int, _total: int, name: str) -> None:
        if name == FIRST:
            assert collect(Quick(), folder, leave(folder, 3))

    run = Verification(folder, progress=advanced)
    assert list(run.findings()) == []
    assert run.files == 2


def test_a_list_that_is_written_anew_meanwhile(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(2), chain(3))
    (folder.timelines()[0].path / FIRST).write_bytes(b"anything")
    findings = Verification(folder).findings()
    next(findings)
    assert collect(Quick(), folder, leave(folder, 3))
    assert list(findings) == []


def test_what_somebody_else_removes_meanwhile_is_an_error(tmp_path: Path) -> None:
    folder = indexed(tmp_path, chain(3))
    path = newest(folder).path
    (path / FIRST).write_bytes(b"anything")
    findings = Verification(folder).findings()
    next(findings)
    (path / SECOND).unlink()
    with pytest.raises(StoreUnreadable):
        list(findings)


def test_it_changes_nothing(tmp_path: Path) -> None:
    folder = indexed(tmp_path, varied())
    before = {path: path.stat() for path in tmp_path.rglob("*")}
    assert found(folder) == []
    after = {path: path.stat() for path in tmp_path.rglob("*")}
    assert {path: (it.st_mtime_ns, it.st_size) for path, it in before.items()} == {
        path: (it.st_mtime_ns, it.st_size) for path, it in after.items()
    }


def test_some_files_alone(tmp_path: Path) -> None:
    logs = chain(4)
    folder = indexed(tmp_path, logs)
    path = newest(folder).path
    (path / FIRST).write_bytes(broken(bytes(logs[FIRST].data), 300))
    (path / LIST).unlink()
    assert found(folder, only={path / THIRD}) == []
    assert [kind for kind, _, _ in told(found(folder, only={path / FIRST}))] == ["event"]
    other = Log().begin_file(f"{UUID_A}:1-3").transaction(5)
    (path / THIRD).write_bytes(other.data)
    index_path(path / THIRD).unlink()
    assert ("gtids", THIRD, other.events[1].start) in told(found(folder, only={path / THIRD})), "the file before tells"


def test_progress(tmp_path: Path) -> None:
    logs = {FIRST: Log().begin_file().transaction(1, sizes=(3 * 1024 * 1024,)).transaction(2)}
    folder = indexed(tmp_path, logs)
    seen: list[tuple[int, int, str]] = []
    assert found(folder, progress=lambda *how: seen.append(how)) == []
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert {(total, name) for _, total, name in seen} == {(logs[FIRST].position, FIRST)}
