"""A path on which there is no store is the caller's mistake: every tool that looks at one says so alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.binlog.making import UUID_A
from tests.cli.support import binlogd, the_error

TOOLS = (
    ("list",),
    ("find", "--gtid", f"{UUID_A}:1"),
    ("find", "--time", "2026-01-01"),
    ("events", "mysql-bin.000001"),
    ("verify",),
    ("verify", "/nowhere/mysql-bin.000001"),
    ("dump",),
    ("purge", "--to", "mysql-bin.000001", "--dry-run"),
    ("status",),
    ("top", "--once"),
)


@pytest.mark.parametrize("tool", TOOLS, ids=" ".join)
def test_no_store_is_bad_usage(tool: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("nowhere", "empty", "file"):
        path = tmp_path / name
        error = the_error(binlogd(*tool, "--data-dir", str(path)), 2)
        assert f"there is no store in {path} — name its folder with --data-dir" in error
    assert not (tmp_path / "nowhere").exists()
