"""The .idx beside a file, which is derivable, and the list of files, which follows the folder."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.walk import Mark
from binlogd.store.index import (
    Summary,
    add_to_file_list,
    encode_marks,
    fetch_summaries,
    fingerprint,
    index_path,
    marks_head,
    marks_path,
    read_marks,
    read_summary,
    write_file_list,
    write_index,
)
from tests.binlog.making import SID_A, SID_B, UUID_A, UUID_B
from tests.store.support import FIRST, SECOND, Quick, Recording, make_store

SUMMARY = Summary(
    name=FIRST,
    size=123_456_789_012,
    first_time=1_700_000_000,
    last_time=1_700_000_999,
    claimed=2**64 - 1,
    added=GtidSet.parse(f"{UUID_A}:6-9,{UUID_B}:1"),
    transactions=5,
    checksum=1,
    server_version="8.0.36",
)
MARKS = [
    Mark(190, 1_700_000_000, SID_A, "", 6, GtidSet()),
    Mark(1_100_000, 1_700_000_001, SID_A, "tag", 7, GtidSet.parse(f"{UUID_A}:6:8-9,{UUID_B}:1:tag:5-9")),
    Mark(2_200_000, 0, b"", "", 0, GtidSet.parse(f"{UUID_A}:tag:7")),
    Mark(5_000_000_000, 1_700_000_999, SID_B, "", 2**63 - 2, None),
]


def stored(path: Path, summary: Summary = SUMMARY, marks: list[Mark] = MARKS) -> Path:
    """A file of that size, of which nothing can be read, and its .idx."""
    binlog = path / summary.name
    binlog.touch()
    os.truncate(binlog, summary.size)
    write_index(Quick(), path, summary, encode_marks(marks))
    return binlog


def sealed(text: str) -> str:
    """The line with the CRC-32 that makes it count."""
    return f"{text} {crc32(text.encode('latin-1')):08x}\n"


def test_there_and_back(tmp_path: Path) -> None:
    binlog = stored(tmp_path)
    assert index_path(binlog) == tmp_path / f"{FIRST}.idx"
    assert read_summary(binlog, SUMMARY.size) == SUMMARY
    assert list(read_marks(binlog)) == MARKS


@pytest.mark.parametrize("claimed", [None, 0])
def test_no_previous_gtids_are_not_the_empty_set(tmp_path: Path, claimed: int | None) -> None:
    """The empty set claims that nothing is before the file, so that a dump may begin with it."""
    stored(tmp_path, replace(SUMMARY, claimed=claimed))
    found = read_summary(tmp_path / FIRST, SUMMARY.size)
    assert found is not None
    assert (found.claimed is None, found.claimed) == (claimed is None, claimed)


def test_without_marks(tmp_path: Path) -> None:
    assert list(read_marks(stored(tmp_path, replace(SUMMARY, added=GtidSet()), []))) == []


def test_it_is_stale_when_it_speaks_of_another_file(tmp_path: Path) -> None:
    write_index(Quick(), tmp_path, SUMMARY, encode_marks(MARKS))
    assert read_summary(tmp_path / FIRST, SUMMARY.size + 1) is None
    assert read_summary(tmp_path / FIRST, SUMMARY.size - 1) is None
    index_path(tmp_path / FIRST).rename(index_path(tmp_path / "mysql-bin.000002"))
    assert read_summary(tmp_path / "mysql-bin.000002", SUMMARY.size) is None
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None, "missing"


def test_it_is_stale_when_its_first_line_is_cut_anywhere(tmp_path: Path) -> None:
    write_index(Quick(), tmp_path, SUMMARY, encode_marks(MARKS))
    path = index_path(tmp_path / FIRST)
    whole = path.read_bytes()
    for size in range(whole.index(b"\n")):
        path.write_bytes(whole[:size])
        assert read_summary(tmp_path / FIRST, SUMMARY.size) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 0),
        ("version", 1),
        ("version", 2),
        ("version", "3"),
        ("name", "mysql-bin.000009"),
        ("size", 5),
        ("first_time", "x"),
        ("first_time", None),
        ("last_time", float("inf")),
        ("claimed", "x"),
        ("claimed", []),
        ("added", None),
        ("added", f"{UUID_A}:0"),
        ("transactions", []),
        ("checksum", {}),
    ],
)
def test_it_is_stale_when_something_in_it_is_wrong(tmp_path: Path, key: str, value: object) -> None:
    write_index(Quick(), tmp_path, SUMMARY, encode_marks(MARKS))
    path = index_path(tmp_path / FIRST)
    first, rest = path.read_text().split("\n", 1)
    head = json.loads(first.rpartition(" ")[0])
    assert key in head
    path.write_text(sealed(json.dumps(head)) + rest)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) == SUMMARY
    path.write_text(sealed(json.dumps(head | {key: value})) + rest)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None
    del head[key]
    path.write_text(sealed(json.dumps(head)) + rest)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"null\n", b"7\n", b"\xff\xfe\n", b"{}\n", b"\0" * 100])
def test_it_is_stale_when_it_is_something_else(tmp_path: Path, content: bytes) -> None:
    index_path(tmp_path / FIRST).write_bytes(content)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None
    assert list(read_marks(tmp_path / FIRST)) == []


GOOD = f"6000000000 6 {UUID_A}:1 {UUID_A}:1-2"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "6000000000",
        "6000000000 6 -",
        f"{GOOD} 8",
        f"x 6 - {UUID_A}:1",
        "6000000000 x - -",
        "6000000000 6 x:1 -",
        f"6000000000 6 {UUID_A} -",
        f"6000000000 6 {UUID_A}:x -",
        f"6000000000 6 {UUID_A}:1-2 -",
        f"6000000000 6 {UUID_A}:1 {UUID_A}:0",
        f"5000000000 6 {UUID_A}:1 -",
        f"7 6 {UUID_A}:1 -",
        "\0" * 200,
        "\xff\xfe",
    ],
)
def test_marks_count_up_to_the_first_line_that_is_none(tmp_path: Path, line: str) -> None:
    """Each tells only what is between it and the one before: none may be missing."""
    binlog = stored(tmp_path)
    with index_path(binlog).open("a", encoding="latin-1") as file:
        file.write(sealed(line) + sealed(f"70{GOOD}"))
    assert list(read_marks(binlog)) == MARKS
    with index_path(binlog).open("w") as file:
        file.write(sealed(GOOD))
    assert list(read_marks(binlog)) == [], "without a summary"


def test_marks_beside_another_file_are_none(tmp_path: Path) -> None:
    binlog = stored(tmp_path)
    os.truncate(binlog, SUMMARY.size + 1)
    assert list(read_marks(binlog)) == []
    binlog.unlink()
    assert list(read_marks(binlog)) == []


def test_marks_of_a_file_that_is_received(tmp_path: Path) -> None:
    """They are older than nothing: an .idx is written when they are whole."""
    binlog = stored(tmp_path)
    path = marks_path(binlog)
    whole = marks_head(FIRST) + encode_marks(MARKS[:3])
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        assert list(read_marks(binlog)) == (MARKS[: lines - 1] if lines else MARKS)
    for head in (marks_head(SECOND), marks_head(FIRST).replace(b"3", b"4", 1)):
        path.write_bytes(head + encode_marks(MARKS[:3]))
        assert list(read_marks(binlog)) == MARKS


GTIDS = st.tuples(
    st.binary(min_size=16, max_size=16),
    st.from_regex(r"([a-z_][a-z0-9_]{0,31})?", fullmatch=True),
    st.integers(1, 2**63 - 2),
)
RUNS = st.lists(GTIDS, max_size=5).map(lambda gtids: GtidSet.from_runs((*gtid, gtid[2]) for gtid in gtids))
MARK = st.builds(
    lambda offset, time, gtid, before: Mark(offset, time, gtid[0], gtid[1], gtid[2], before),
    st.integers(4, 2**62),
    st.integers(0, 2**32 - 1),
    GTIDS | st.just((b"", "", 0)),
    st.none() | RUNS,
)


@given(st.lists(MARK, max_size=10, unique_by=lambda mark: mark.offset))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_marks_there_and_back(tmp_path: Path, marks: list[Mark]) -> None:
    marks.sort()
    assert list(read_marks(stored(tmp_path, marks=marks))) == marks


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "t", "tt"]), st.integers(1, 40)), max_size=30), st.data()
)
@settings(max_examples=100)
def test_fingerprints_add_up(gtids: list[tuple[int, str, int]], data: st.DataObject) -> None:
    everything = GtidSet.from_runs((bytes((sid,)) * 16, tag, gno, gno) for sid, tag, gno in gtids)
    some = GtidSet.from_runs(run for run in everything.runs() if data.draw(st.booleans()))
    rest = everything - some
    assert (fingerprint(some) + fingerprint(rest)) % 2**64 == fingerprint(everything) < 2**64
    assert (fingerprint(some) == fingerprint(rest)) is (some == rest)
    assert fingerprint(GtidSet()) == 0


def test_fetching_summaries_is_only_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binlog = stored(tmp_path)
    asked: list[tuple[str, int]] = []

    def noted(descriptor: int, offset: int, length: int, advice: int) -> None:
        asked.append((os.readlink(f"/proc/self/fd/{descriptor}"), advice))

    monkeypatch.setattr(os, "posix_fadvise", noted)
    descriptors = len(os.listdir("/proc/self/fd"))
    fetch_summaries([tmp_path / SECOND, binlog, tmp_path / "nowhere" / FIRST])
    assert asked == [(str(index_path(binlog)), os.POSIX_FADV_WILLNEED)]
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    disk = Recording()
    write_index(disk, tmp_path, SUMMARY, encode_marks(MARKS))
    assert disk.steps[-2:] == [f"rename .{FIRST}.idx.new {FIRST}.idx", "sync folder"]


def test_the_list_of_files_is_as_mysqld_writes_it(tmp_path: Path) -> None:
    names = ["mysql-bin.000002", "mysql-bin.999999", "mysql-bin.1000000", "mysql-bin.000010"]
    folder = make_store(tmp_path, dict.fromkeys([*names, "mysql-bin.000002.idx", ".mysql-bin.000003.new"], b""))
    timeline = folder.timelines()[0]
    (timeline.path / "mysql-bin.index").write_text("./gone.000001\n")
    write_file_list(Quick(), timeline, timeline.binlogs())
    assert (timeline.path / "mysql-bin.index").read_text() == (
        "./mysql-bin.000002\n./mysql-bin.000010\n./mysql-bin.999999\n./mysql-bin.1000000\n"
    )
    assert timeline.binlogs() == ["mysql-bin.000002", "mysql-bin.000010", "mysql-bin.999999", "mysql-bin.1000000"]


def test_without_files_there_is_no_list(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {})
    write_file_list(Quick(), folder.timelines()[0], [])
    assert list(folder.timelines()[0].path.iterdir()) == []


def test_a_new_file_is_put_behind_the_others(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {FIRST: b""})
    timeline = folder.timelines()[0]
    listed = timeline.path / "mysql-bin.index"
    disk = Recording()
    add_to_file_list(disk, timeline, FIRST)
    assert disk.steps[-2:] == ["rename .mysql-bin.index.new mysql-bin.index", "sync folder"], "there was none"
    disk.steps.clear()
    for name in (SECOND, "mysql-bin.000003"):
        (timeline.path / name).touch()
        add_to_file_list(disk, timeline, name)
    assert disk.steps == ["write mysql-bin.index", "sync mysql-bin.index"] * 2
    assert listed.read_text() == f"./{FIRST}\n./{SECOND}\n./mysql-bin.000003\n"
