"""``make bench``: a small run gives a whole table, and the table says what was measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.bench import Row, markdown
from testbed.distributions import Distribution

ROOT = Path(__file__).parents[2]


def test_the_table_relates_each_client_to_the_null_client_of_its_load() -> None:
    table = markdown(
        [
            Row("small", "null client", 100_000_000, 0.5, 0),
            Row("small", "binlogd receive", 100_000_000, 2.0, 50 * 2**20),
            Row("large", "null client", 300_000_000, 0.1, 0),
        ]
    ).splitlines()
    assert table[0].count("|") == table[1].count("|") == table[2].count("|") == 8
    assert table[2] == "| small | 100 | null client | 0.50 | 200 | 1.00 |  |"
    assert table[3] == "| small | 100 | binlogd receive | 2.00 | 50 | 4.00 | 50 |"
    assert table[4] == "| large | 300 | null client | 0.10 | 3000 | 1.00 |  |"


@pytest.mark.servers
def test_a_small_run_measures_every_client_on_both_loads(tmp_path: Path, mysql: Distribution) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbed.bench", "--transactions", "200", "--megabytes", "3", "--rounds", "1"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (.+?) \| \d+ \| (.+?) \| ([\d.]+) \| \d+ \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert [client for _, client, _ in rows] == ["null client", "mysqlbinlog --raw", "binlogd receive"] * 2
    assert {load for load, _, _ in rows} == {"200 small transactions", "one of 3 MB"}
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("binlogd-testbed-ports-")] == []
