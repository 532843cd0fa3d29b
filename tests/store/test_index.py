"""The .idx beside a file, which is derivable, and the list of files, which follows the folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.walk import Mark
from binlogd.store.index import Summary, index_path, read_marks, read_summary, write_file_list, write_index
from tests.binlog.making import SID_A, SID_B, UUID_A, UUID_B
from tests.store.support import FIRST, Quick, Recording, make_store

SUMMARY = Summary(
    name=FIRST,
    size=123_456_789_012,
    first_time=1_700_000_000,
    last_time=1_700_000_999,
    previous=GtidSet.parse(f"{UUID_A}:1-5:tag:7"),
    added=GtidSet.parse(f"{UUID_A}:6-9,{UUID_B}:1"),
    transactions=5,
    checksum=1,
    server_version="8.0.36",
)
MARKS = [
    Mark(190, 1_700_000_000, SID_A, "", 6),
    Mark(1_100_000, 1_700_000_001, SID_A, "tag", 7),
    Mark(2_200_000, 0, b"", "", 0),
    Mark(5_000_000_000, 1_700_000_999, SID_B, "", 2**63 - 2),
]


def test_there_and_back(tmp_path: Path) -> None:
    write_index(Quick(), tmp_path, SUMMARY, MARKS)
    binlog = tmp_path / FIRST
    assert index_path(binlog) == tmp_path / f"{FIRST}.idx"
    assert read_summary(binlog, SUMMARY.size) == SUMMARY
    assert read_marks(binlog) == MARKS


@pytest.mark.parametrize("previous", [None, GtidSet()], ids=["none", "empty"])
def test_no_previous_gtids_are_not_the_empty_set(tmp_path: Path, previous: GtidSet | None) -> None:
    """The empty set claims that nothing is before the file, so that a dump may begin with it."""
    write_index(Quick(), tmp_path, replace(SUMMARY, previous=previous, added=GtidSet()), [])
    found = read_summary(tmp_path / FIRST, SUMMARY.size)
    assert found is not None
    assert found.previous == previous
    assert (found.previous is None) is (previous is None)
    assert read_marks(tmp_path / FIRST) == []


def test_it_is_stale_when_it_speaks_of_another_file(tmp_path: Path) -> None:
    write_index(Quick(), tmp_path, SUMMARY, MARKS)
    assert read_summary(tmp_path / FIRST, SUMMARY.size + 1) is None
    assert read_summary(tmp_path / FIRST, SUMMARY.size - 1) is None
    index_path(tmp_path / FIRST).rename(index_path(tmp_path / "mysql-bin.000002"))
    assert read_summary(tmp_path / "mysql-bin.000002", SUMMARY.size) is None
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None, "missing"


def test_it_is_stale_when_its_first_line_is_cut_anywhere(tmp_path: Path) -> None:
    write_index(Quick(), tmp_path, SUMMARY, MARKS)
    path = index_path(tmp_path / FIRST)
    whole = path.read_bytes()
    for size in range(whole.index(b"\n")):
        path.write_bytes(whole[:size])
        assert read_summary(tmp_path / FIRST, SUMMARY.size) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 0),
        ("version", 2),
        ("version", "1"),
        ("name", "mysql-bin.000009"),
        ("size", 5),
        ("first_time", "x"),
        ("first_time", None),
        ("last_time", float("inf")),
        ("previous", "x:1"),
        ("previous", 7),
        ("added", None),
        ("added", f"{UUID_A}:0"),
        ("transactions", []),
        ("checksum", {}),
    ],
)
def test_it_is_stale_when_something_in_it_is_wrong(tmp_path: Path, key: str, value: object) -> None:
    write_index(Quick(), tmp_path, SUMMARY, MARKS)
    path = index_path(tmp_path / FIRST)
    first, rest = path.read_text().split("\n", 1)
    head = json.loads(first)
    assert key in head
    path.write_text(json.dumps(head | {key: value}) + "\n" + rest)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None
    del head[key]
    path.write_text(json.dumps(head) + "\n" + rest)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"null\n", b"7\n", b"\xff\xfe\n", b"{}\n", b"\0" * 100])
def test_it_is_stale_when_it_is_something_else(tmp_path: Path, content: bytes) -> None:
    index_path(tmp_path / FIRST).write_bytes(content)
    assert read_summary(tmp_path / FIRST, SUMMARY.size) is None
    assert read_marks(tmp_path / FIRST) == []


@pytest.mark.parametrize(
    "line", ["", "5", "5 6", "5 6 7 8", "x 6 -", "5 x -", "5 6 x:1", f"5 6 {UUID_A}", f"5 6 {UUID_A}:x"]
)
def test_marks_that_cannot_be_read_are_none(tmp_path: Path, line: str) -> None:
    write_index(Quick(), tmp_path, SUMMARY, MARKS)
    with index_path(tmp_path / FIRST).open("a") as file:
        file.write(f"{line}\n")
    assert read_marks(tmp_path / FIRST) == []


GTIDS = st.tuples(
    st.binary(min_size=16, max_size=16),
    st.from_regex(r"([a-z_][a-z0-9_]{0,31})?", fullmatch=True),
    st.integers(1, 2**63 - 2),
)
MARK = st.builds(
    lambda offset, time, gtid: Mark(offset, time, *gtid),
    st.integers(4, 2**62),
    st.integers(0, 2**32 - 1),
    GTIDS | st.just((b"", "", 0)),
)


@given(st.lists(MARK, max_size=10))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_marks_there_and_back(tmp_path: Path, marks: list[Mark]) -> None:
    write_index(Quick(), tmp_path, SUMMARY, marks)
    assert read_marks(tmp_path / FIRST) == marks


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    disk = Recording()
    write_index(disk, tmp_path, SUMMARY, MARKS)
    assert disk.steps[-2:] == [f"rename .{FIRST}.idx.new {FIRST}.idx", "sync folder"]


def test_the_list_of_files_is_as_mysqld_writes_it(tmp_path: Path) -> None:
    names = ["mysql-bin.000002", "mysql-bin.999999", "mysql-bin.1000000", "mysql-bin.000010"]
    folder = make_store(tmp_path, dict.fromkeys([*names, "mysql-bin.000002.idx", ".mysql-bin.000003.new"], b""))
    timeline = folder.timelines()[0]
    (timeline.path / "mysql-bin.index").write_text("./gone.000001\n")
    write_file_list(Quick(), timeline)
    assert (timeline.path / "mysql-bin.index").read_text() == (
        "./mysql-bin.000002\n./mysql-bin.000010\n./mysql-bin.999999\n./mysql-bin.1000000\n"
    )
    assert timeline.binlogs() == ["mysql-bin.000002", "mysql-bin.000010", "mysql-bin.999999", "mysql-bin.1000000"]


def test_without_files_there_is_no_list(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {})
    write_file_list(Quick(), folder.timelines()[0])
    assert list(folder.timelines()[0].path.iterdir()) == []
