"""``make bench``: small runs of every section give samples of every contender, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed.distributions import Distribution

ROOT = Path(__file__).parents[2]


def bench(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """results.json and table.md of a tiny run."""
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "testbed.bench", "--size", "tiny", "--out", str(out), *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [entry.name for entry in scratch.iterdir() if not entry.name.startswith("binlogd-testbed-ports-")] == []
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    assert str(ROOT) not in json.dumps(results)
    table = (out / "table.md").read_text()
    assert table in done.stdout
    return results, table


def contenders(results: dict[str, Any], section: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for sample in results["sections"][section]["samples"]:
        found.setdefault(sample["row"], []).append(sample["who"])
    return found


@pytest.mark.slow
@pytest.mark.servers
def test_catching_up(tmp_path: Path, mysql: Distribution) -> None:
    results, table = bench(tmp_path, "--only", "catch_up")
    assert list(results["sections"]) == ["catch_up"]
    ours = ["binlogd receive", "binlogd receive, plain Python"]
    everyone = ["null client", "mysqlbinlog --raw", "MySQL replica", *ours]
    assert contenders(results, "catch_up") == {
        "400 single-row transactions": everyone,
        "3 MB in 3 MB transactions": everyone,
    }
    for sample in results["sections"]["catch_up"]["samples"]:
        assert sample["figures"]["dump_s"] > 0
        assert sample["figures"]["received_bytes"] > 100_000
    assert results["machine"]["mysql"] == ".".join(map(str, mysql.version))
    assert "| binlogd receive, plain Python |" in table


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_serving(tmp_path: Path) -> None:
    results, _ = bench(tmp_path, "--only", "serving")
    rows = contenders(results, "serving")
    assert len(rows) == 4
    assert all(who == ["mysqld", "binlogd serve"] for who in rows.values())
    assert "400 single-row transactions, 1 reader over TLS" in rows


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_commits(tmp_path: Path) -> None:
    results, _ = bench(tmp_path, "--only", "commits")
    replicas = ["MySQL replica, sync_relay_log = 1", "MySQL replica, default"]
    assert contenders(results, "commits") == {"2 threads": ["binlogd receive", *replicas, "no semi-sync"]}
    for sample in results["sections"]["commits"]["samples"]:
        assert 0 < sample["figures"]["p50_s"] <= sample["figures"]["p99_s"]


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_starting_and_seeking(tmp_path: Path) -> None:
    results, _ = bench(tmp_path, "--only", "seeks")
    rows = contenders(results, "seeks")
    assert [row.partition(" of ")[0] for row in rows] == ["4 files", "one file"]
    assert all(who == ["mysqld", "binlogd receive", "binlogd serve"] for who in rows.values())


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_memory(tmp_path: Path) -> None:
    results, _ = bench(tmp_path, "--only", "memory")
    everyone = ["null client", "mysqlbinlog --raw", "binlogd receive", "mysqld", "binlogd serve"]
    assert contenders(results, "memory") == {"1 MB": everyone, "3 MB": everyone}
    for sample in results["sections"]["memory"]["samples"]:
        size = 1e6 * float(sample["row"].removesuffix(" MB"))
        assert 0.9 * size < sample["figures"]["moved_bytes"] < 1.2 * size


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_live_readers(tmp_path: Path) -> None:
    results, _ = bench(tmp_path, "--only", "fanout")
    (who,) = contenders(results, "fanout").values()
    assert who == ["nobody reads", "2 readers of binlogd", "2 readers of mysqld"]
    for sample in results["sections"]["fanout"]["samples"]:
        assert sample["figures"]["ack_p50_s"] > 0
        assert bool(sample["series"].get("delay_max_s")) is (sample["who"] != "nobody reads")
