"""``binlogd purge`` without a receiver: it speaks of what was typed, and says between which files to choose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.binlog.making import UUID_B
from tests.cli.support import NEWEST, binlogd, logs, make_store, the_error

FIRST = "mysql-bin.000001"


@pytest.mark.parametrize(
    ("keep", "reason"),
    [("2kB", " KiB, more than --keep 2kB"), ("1ms", "it was last written to longer ago than --keep 1ms")],
)
def test_the_reason_names_what_was_typed(tmp_path: Path, keep: str, reason: str) -> None:
    timeline = make_store(tmp_path)
    shutil.copytree(timeline, timeline.with_name(f"0002-{UUID_B}"))
    for run in ("--dry-run", None):
        arguments = ["--json", "--keep", keep, "--data-dir", str(tmp_path), *([run] if run else [])]
        result = binlogd("purge", *arguments)
        first, *_ = json.loads(result.stdout)["files"]
        assert first["reason"].endswith(reason)
        assert "max_size" not in result.stdout + result.stderr
    assert not (timeline / FIRST).exists()


def test_a_name_in_several_timelines(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    shutil.copytree(timeline, timeline.with_name(f"0002-{UUID_B}"))
    error = the_error(binlogd("purge", "--to", NEWEST, "--data-dir", str(tmp_path)), 2)
    assert f"several timelines have a file {NEWEST}: say which of 0001:{NEWEST}, 0002:{NEWEST} — see " in error
    assert (timeline / FIRST).exists()
    assert binlogd("purge", "--to", f"0001:{NEWEST}", "--data-dir", str(tmp_path)).returncode == 0
    assert not (timeline / FIRST).exists() and (timeline / NEWEST).exists()
    assert binlogd("purge", "--to", f"0002:{FIRST}", "--data-dir", str(tmp_path)).returncode == 0
    assert not (timeline / NEWEST).exists()


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    error = the_error(binlogd("purge", "--to", "mysql-bin.000009", "--data-dir", str(tmp_path)), 2)
    assert "the store holds no mysql-bin.000009: binlogd list shows" in error
    assert (timeline / FIRST).read_bytes() == logs()[FIRST]


def test_the_newest_file_stays(tmp_path: Path) -> None:
    """Nobody reads it: who does is no hint."""
    timeline = make_store(tmp_path)
    error = the_error(binlogd("purge", "--before", "2100-01-01T00:00:00Z", "--data-dir", str(tmp_path)), 1)
    assert f"{NEWEST} stays: it is the newest file — it can go when the source has begun the next one" in error
    assert (timeline / NEWEST).exists()
