"""``binlogd top``: its frames. tests/e2e/test_point_in_time.py has it in a terminal, over a working binlogd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from binlogd.cli.top import Snapshot, frame
from binlogd.control.status import collect
from binlogd.store.layout import DataFolder
from tests.cli.support import binlogd, make_store, the_error


def test_one_frame_for_scripts(tmp_path: Path) -> None:
    make_store(tmp_path)
    done = binlogd("top", "--once", "--data-dir", str(tmp_path), environ={"COLUMNS": "50"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 50
    assert "CRITICAL receiver_down: no receiver runs on this" in done.stdout
    assert "start binlogd run" in done.stdout, "the hint"


def test_not_for_a_pipe(tmp_path: Path) -> None:
    make_store(tmp_path)
    assert "--once" in the_error(binlogd("top", "--data-dir", str(tmp_path)), 2)


def replica(**more: Any) -> dict[str, Any]:
    known = {"id": 7, "host": "10.0.0.2", "port": 3306, "server_id": 2, "file": "b.000001", "position": 900}
    return known | {"lag_bytes": 2048, "lag_seconds": 3, "sent_bytes": 0} | more


def test_rates_are_of_what_went_through_between_two_looks(tmp_path: Path) -> None:
    make_store(tmp_path)
    source = {"state": "streaming", "host": "db1", "port": 3306, "server_version": "9.7.0", "semi_sync": True}
    source |= {"file": "b.000001", "position": 900, "ack_seconds": {"p50": 0.00025, "p99": 0.001, "max": None}}

    def look(at: float, received: int, sent: int) -> Snapshot:
        status = collect(DataFolder(tmp_path))
        status["source"] = source | {"bytes_received": received, "transactions_received": received // 100}
        status["replicas"] = [replica(sent_bytes=sent)]
        return Snapshot(at, status)

    shown = [str(line) for line in frame(look(12.0, 30_480, 5120), look(10.0, 10_000, 1024)).renderables]
    assert any(line.endswith("b.000001:900  10.0 KiB/s, 102 transactions/s") for line in shown)
    assert any("p50 0.25 ms  p99 1.00 ms" in line for line in shown)
    row = next(line.split() for line in shown if "10.0.0.2:3306" in line)
    assert row == ["10.0.0.2:3306", "2", "2.00", "KiB", "3", "2.00", "KiB", "b.000001:900"]
    restarted = [str(line) for line in frame(look(12.0, 10, 0), look(10.0, 10_000, 0)).renderables]
    assert any(line.endswith("b.000001:900") for line in restarted), "counted from 0 again"
