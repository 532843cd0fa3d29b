"""``binlogd status`` where nothing runs, and what it makes of a status as the contract gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from binlogd.cli.status import _lines
from tests.binlog.making import UUID_A
from tests.cli.support import NEWEST, binlogd, make_store, the_error

REPLICA: dict[str, Any] = {
    "host": "10.0.0.7",
    "port": 40_000,
    "server_id": 7,
    "mode": "gtid",
    "file": "a-rather-long-name-for-a-binary-log-of-a-source-somewhere.000002",
    "position": 4_000_000_000,
    "lag_bytes": 1_500_000,
    "lag_seconds": 3,
}
STATUS: dict[str, Any] = {
    "source": {
        "state": "streaming",
        "host": "db1",
        "port": 3306,
        "file": NEWEST,
        "position": 900,
        "server_version": "9.7.4",
        "semi_sync": True,
        "last_error": None,
    },
    "store": {
        "published": {"file": NEWEST, "position": 800},
        "gtid_executed": f"{UUID_A}:1-6",
        "gtid_purged": "",
        "files": 2,
        "bytes": 3_000_000,
        "free_bytes": 5_000_000_000,
        "error": None,
    },
    "server": {"state": "serving", "listen": "127.0.0.1:3307"},
    "replicas": [REPLICA, REPLICA | {"host": "fd00::1", "lag_bytes": 0, "lag_seconds": 0}],
    "alarms": [
        {"severity": "critical", "code": "odd", "since": None, "message": "it\x1b[31m is\nodd", "hint": "do it"}
    ],
}


def test_what_people_see() -> None:
    assert list(_lines(STATUS)) == [
        "source         streaming db1:3306 9.7.4 semi-sync",
        f"received       {NEWEST}:900",
        f"published      {NEWEST}:800",
        f"gtid_executed  {UUID_A}:1-6",
        "gtid_purged    (none)",
        "store          2 files, 2.86 MiB, 4.66 GiB free",
        "listener       serving 127.0.0.1:3307",
        "",
        f"replica         server_id  mode  {'file':{len(REPLICA['file'])}}    position  behind",
        f"10.0.0.7:40000          7  gtid  {REPLICA['file']}  4000000000  1.43 MiB, 3 s",
        f"fd00::1:40000           7  gtid  {REPLICA['file']}  4000000000  0 B, 0 s",
        "",
        "CRITICAL odd: it\\x1b[31m is\\nodd — do it",
    ]


def test_while_the_source_is_away() -> None:
    source = STATUS["source"] | {"state": "backoff", "last_error": "no answer"}
    first = next(_lines(STATUS | {"source": source, "replicas": [], "alarms": []}))
    assert first == "source         backoff db1:3306 no answer"


def test_nothing_runs(tmp_path: Path) -> None:
    make_store(tmp_path)
    result = binlogd("status", "--json", "--data-dir", str(tmp_path))
    status = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    assert status["source"] == {"state": "stopped"}
    assert status["server"] == {"state": "stopped"}
    assert status["replicas"] == []
    assert status["store"]["gtid_executed"] == f"{UUID_A}:1-6"
    assert status["store"]["published"]["file"] == NEWEST
    assert [alarm["code"] for alarm in status["alarms"]] == ["receiver_down", "sender_down"]
    text = binlogd("status", "--data-dir", str(tmp_path)).stdout
    assert f"gtid_executed  {UUID_A}:1-6\n" in text
    assert "CRITICAL receiver_down: " in text


def test_a_damaged_store_is_an_alarm_and_no_end(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    (timeline / "mysql-bin.000001").write_bytes(b"no binary log")
    result = binlogd("status", "--json", "--data-dir", str(tmp_path))
    status = json.loads(result.stdout)
    assert result.returncode == 0
    assert status["store"]["error"] is None
    assert "mysql-bin.000001" in status["alarms"][0]["message"]
    assert "store_damaged" in [alarm["code"] for alarm in status["alarms"]]


def test_no_store(tmp_path: Path) -> None:
    assert "there is no store in" in the_error(binlogd("status", "--data-dir", str(tmp_path)), 2)
