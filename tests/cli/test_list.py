"""``binlogd list`` over stores made byte by byte."""

from __future__ import annotations

import json
from pathlib import Path

from tests.binlog.making import UUID_A
from tests.cli.support import NEWEST, binlogd, logs, make_store, the_error


def test_json_has_exact_values(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    result = binlogd("list", "--json", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    first, newest = json.loads(result.stdout)
    assert first == {
        "timeline": 1,
        "source_uuid": UUID_A,
        "name": "mysql-bin.000001",
        "path": str(timeline / "mysql-bin.000001"),
        "size": len(logs()["mysql-bin.000001"]),
        "gtids": f"{UUID_A}:1-4",
        "transactions": 4,
        "first_time": "2023-11-14T22:13:20Z",
        "last_time": first["last_time"],
        "state": "finished",
    }
    assert first["first_time"] < first["last_time"] < "2023-11-14T22:14"
    assert (newest["name"], newest["state"], newest["gtids"]) == (NEWEST, "newest", f"{UUID_A}:5-6")
    assert newest["size"] < len(logs()[NEWEST]), "the torn transaction does not count"


def test_text_is_never_cut_or_folded(tmp_path: Path) -> None:
    make_store(tmp_path)
    result = binlogd("list", "--data-dir", str(tmp_path), environ={"COLUMNS": "20"})
    header, first, newest = result.stdout.splitlines()
    assert " ".join(header.split()) == "timeline name size transactions first time last time state gtids"
    assert first.split()[:2] == ["1", "mysql-bin.000001"]
    assert first.endswith(f"finished  {UUID_A}:1-4")
    assert newest.endswith(f"newest    {UUID_A}:5-6")
    assert " KiB " in first


def test_reading_changes_nothing(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert binlogd("list", "--data-dir", str(tmp_path)).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert (timeline / NEWEST).read_bytes() == logs()[NEWEST]


def test_what_recovery_put_aside_is_no_stored_file(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    for name in (f"{NEWEST}.cut-1234", f"{NEWEST}.cut-1234-2", "mysql-bin.000001.damaged-20261124T120000.123456Z"):
        (timeline / name).write_bytes(b"something")
    result = binlogd("list", "--json", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert [file["name"] for file in json.loads(result.stdout)] == ["mysql-bin.000001", NEWEST]


def test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "binlogs").mkdir()
    assert binlogd("list", "--json", "--data-dir", str(tmp_path)).stdout == "[]\n"
    assert len(binlogd("list", "--data-dir", str(tmp_path)).stdout.splitlines()) == 1


def test_the_store_is_found_as_the_contract_says(tmp_path: Path) -> None:
    make_store(tmp_path / "binlogd-data")
    (tmp_path / "c.toml").write_text('data_dir = "binlogd-data"\n')
    for arguments, environ in (
        (["--data-dir", "binlogd-data"], {}),
        (["-c", "c.toml"], {}),
        ([], {"BINLOGD_DATA_DIR": "binlogd-data"}),
        ([], {}),
    ):
        result = binlogd("list", "--json", *arguments, cwd=tmp_path, environ=environ)
        assert [file["name"] for file in json.loads(result.stdout)] == ["mysql-bin.000001", NEWEST]


def test_no_store(tmp_path: Path) -> None:
    result = binlogd("list", "--data-dir", str(tmp_path / "nowhere"))
    assert "there is no store in" in the_error(result, 2)
    assert "--data-dir" in the_error(result, 2)
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    data = bytearray((timeline / "mysql-bin.000001").read_bytes())
    data[len(data) // 2] ^= 1
    (timeline / "mysql-bin.000001").write_bytes(data)
    result = binlogd("list", "--json", "--data-dir", str(tmp_path))
    assert [file["state"] for file in json.loads(result.stdout)] == ["damaged", "newest"]
