"""``binlogd find`` over stores made byte by byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.cli import find, stores
from binlogd.control.board import Board
from binlogd.control.sockets import RECEIVER, ControlThread
from binlogd.errors import StoreUnreadable
from binlogd.store import seek
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import read_previous
from tests.binlog.making import UUID_A, UUID_B, Log, later
from tests.cli.support import NEWEST, binlogd, logs, make_store, the_error
from tests.store.support import chain, data_of, purging_at_first, remove_to
from tests.store.support import make_store as store_of

FIRST = "mysql-bin.000001"


def test_the_parts_of_a_set(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    result = binlogd("find", "--gtid", f"{UUID_A.upper()}:2-3:5", "--json", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert list(found) == ["places", "missing"]
    assert found["missing"] == ""
    first, newest = found["places"]
    assert first == {
        "timeline": 1,
        "source_uuid": UUID_A,
        "name": FIRST,
        "path": str(timeline / FIRST),
        "offset": first["offset"],
        "time": "2023-11-14T22:13:27Z",
        "gtids": f"{UUID_A}:2-3",
    }
    assert logs()[FIRST][first["offset"] + 4] == 33, "a GTID event"
    assert (newest["name"], newest["gtids"]) == (NEWEST, f"{UUID_A}:5")


def test_what_is_not_stored_is_named(tmp_path: Path) -> None:
    make_store(tmp_path)
    result = binlogd("find", "--gtid", f"{UUID_A}:4-8,{UUID_B}:1", "--json", "--data-dir", str(tmp_path))
    error = the_error(result, 1)
    assert f"not stored: {UUID_A}:7-8,{UUID_B}:1 — " in error
    found = json.loads(result.stdout)
    assert [place["gtids"] for place in found["places"]] == [f"{UUID_A}:4", f"{UUID_A}:5-6"]
    assert found["missing"] == f"{UUID_A}:7-8,{UUID_B}:1", "the seventh is torn"
    nothing = binlogd("find", "--gtid", f"{UUID_B}:1", "--data-dir", str(tmp_path))
    assert the_error(nothing, 1)
    assert nothing.stdout == ""


def test_text_for_people(tmp_path: Path) -> None:
    make_store(tmp_path)
    result = binlogd("find", "--gtid", f"{UUID_A}:1-5", "--data-dir", str(tmp_path), environ={"COLUMNS": "20"})
    assert result.returncode == 0
    header, first, newest = [line.split() for line in result.stdout.splitlines()]
    assert header == ["timeline", "name", "offset", "time", "gtids"]
    assert [*first[:2], *first[3:]] == ["1", FIRST, "2023-11-14T22:13:22Z", f"{UUID_A}:1-4"]
    assert newest[1] == NEWEST


@pytest.mark.parametrize(
    ("moment", "zone", "gno"),
    [
        ("2023-11-14T22:13:22Z", "UTC", 1),
        ("2023-11-14T22:13:23Z", "UTC", 2),
        ("2023-11-14T22:13:26.5Z", "UTC", 2),
        ("2023-11-14T23:13:27+01:00", "UTC", 2),
        ("2023-11-14T22:13:27.1Z", "UTC", 3),
        ("2023-11-15 06:13:27", "Asia/Shanghai", 2),
        ("2023-11-14T22:13:27", "UTC", 2),
        ("2023-11-14T22:15:00", "UTC", 5),
        ("2023-11-14T22:30:02", "UTC", 5),
    ],
)
def test_a_moment(tmp_path: Path, moment: str, zone: str, gno: int) -> None:
    timeline = make_store(tmp_path)
    (timeline / NEWEST).write_bytes(later(Log().begin_file(f"{UUID_A}:1-4").transaction(5), 1000))
    result = binlogd("find", "--time", moment, "--json", "--data-dir", str(tmp_path), environ={"TZ": zone})
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert [place["gtids"] for place in found["places"]] == [f"{UUID_A}:{gno}"]
    assert found["missing"] == ""


def test_a_moment_that_is_not_stored(tmp_path: Path) -> None:
    make_store(tmp_path)
    late = binlogd("find", "--time", "2024-01-01", "--json", "--data-dir", str(tmp_path), environ={"TZ": "UTC"})
    assert "not stored: 2024-01-01T00:00:00Z" in the_error(late, 1)
    assert json.loads(late.stdout) == {"places": [], "missing": "2024-01-01T00:00:00Z"}
    early = binlogd("find", "--time", "2023-11-14T22:13:19.9Z", "--json", "--data-dir", str(tmp_path))
    assert "the store begins at 2023-11-14T22:13:20Z" in the_error(early, 1)
    found = json.loads(early.stdout)
    assert found["missing"] == "2023-11-14T22:13:19Z"
    assert [place["gtids"] for place in found["places"]] == [f"{UUID_A}:1"], "what there is from then on"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--gtid SET or --time T"),
        (["--gtid", f"{UUID_A}:1", "--time", "2024-01-01"], "--gtid SET or --time T"),
        (["--gtid", "3E11"], "not a UUID"),
        (["--time", "yesterday"], "'yesterday' is no moment"),
        (["--time", "9999-12-31T23:59:59-23:59"], "is no moment"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: list[str], words: str) -> None:
    make_store(tmp_path)
    error = the_error(binlogd("find", *arguments, "--data-dir", str(tmp_path)), 2)
    assert words in error
    assert "binlogd find --help" in error


def test_an_empty_store_and_none(tmp_path: Path) -> None:
    (tmp_path / "binlogs").mkdir()
    assert "not stored" in the_error(binlogd("find", "--gtid", f"{UUID_A}:1", "--data-dir", str(tmp_path)), 1)
    assert "not stored" in the_error(binlogd("find", "--time", "2024-01-01", "--data-dir", str(tmp_path)), 1)
    assert "no store" in the_error(binlogd("find", "--time", "2024-01-01", "--data-dir", str(tmp_path / "x")), 2)


def test_reading_changes_nothing(tmp_path: Path) -> None:
    make_store(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert binlogd("find", "--gtid", f"{UUID_A}:1-6", "--data-dir", str(tmp_path)).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    data = bytearray((timeline / FIRST).read_bytes())
    data[len(data) // 2] ^= 1
    (timeline / FIRST).write_bytes(data)
    error = the_error(binlogd("find", "--gtid", f"{UUID_A}:4", "--data-dir", str(tmp_path)), 4)
    assert FIRST in error
    assert " — " in error


def test_what_the_receiver_has_not_made_durable_is_not_stored(tmp_path: Path) -> None:
    """It says itself how far it is; what is behind that in its file may still be lost."""
    timeline = make_store(tmp_path)
    log = Log().begin_file(f"{UUID_A}:1-4").transaction(5).transaction(6)
    (timeline / NEWEST).write_bytes(log.data)
    published = Publication(1, NEWEST, log.ends[0], GtidSet.parse(f"{UUID_A}:1-5"), GtidSet(), "8.0.36")
    board = Board(published)
    control = ControlThread(tmp_path / RECEIVER, lambda: {"publication": (board.current or NOTHING).encode()}, board)
    control.start()
    try:
        asked = ("find", "--gtid", f"{UUID_A}:4-6", "--json", "--data-dir", str(tmp_path))
        result = binlogd(*asked)
        assert f"not stored: {UUID_A}:6" in the_error(result, 1)
        assert [place["gtids"] for place in json.loads(result.stdout)["places"]] == [f"{UUID_A}:4", f"{UUID_A}:5"]
        late = binlogd("find", "--time", "2023-11-14T22:13:28Z", "--data-dir", str(tmp_path), environ={"TZ": "UTC"})
        assert "not stored" in the_error(late, 1)
        board.put(replace(published, position=log.ends[1], executed=GtidSet.parse(f"{UUID_A}:1-6")))
        assert binlogd(*asked).returncode == 0
    finally:
        control.stop()


# --- files that are purged meanwhile ---


@pytest.mark.parametrize("function", ["read_previous", "_opened", "files_left"])
def test_gtids_while_files_are_purged(tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if they had been before."""
    folder = store_of(tmp_path, data_of(chain(4)))
    purging_at_first(monkeypatch, seek, function, folder)
    places, missing, _ = find._by_gtid(folder, GtidSet.parse(f"{UUID_A}:1-8"))
    assert ([place.name for place in places], missing) == ([f"mysql-bin.{n:06}" for n in (3, 4)], f"{UUID_A}:1-4")


@pytest.mark.parametrize("function", ["made", "_find_from"])
def test_a_moment_while_files_are_purged(tmp_path: Path, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store_of(tmp_path, data_of(chain(4)))
    purging_at_first(monkeypatch, seek, function, folder)
    found = find._by_time(folder, 1)
    assert ([place.name for place in found[0]], "the store begins at" in found[2]) == (["mysql-bin.000003"], True)


def test_the_published_file_is_purged_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones were published by then."""
    folder = store_of(tmp_path, data_of(chain(4)))
    size = (folder.timelines()[0].path / "mysql-bin.000004").stat().st_size

    said = [replace(NOTHING, timeline=1, file=name, position=size) for name in ("mysql-bin.000004", FIRST)]

    def published(_: DataFolder) -> Publication:
        if len(said) == 2:
            remove_to(folder, 2)
        return said.pop()

    monkeypatch.setattr(stores, "published", published)
    places, missing, _ = find._by_gtid(folder, GtidSet.parse(f"{UUID_A}:1-8"))
    assert (len(places), missing) == (2, f"{UUID_A}:1-4")


def test_a_file_that_nobody_purged_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store_of(tmp_path, data_of(chain(4)))

    def read(path: Path) -> GtidSet | None:
        path.unlink(missing_ok=True)
        return read_previous(path)

    monkeypatch.setattr(seek, "read_previous", read)
    with pytest.raises(StoreUnreadable, match="cannot read"):
        find._by_gtid(folder, GtidSet.parse(f"{UUID_A}:1-8"))
