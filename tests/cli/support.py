"""What the tests of the commands share: running one, and small stores made without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.binlog.making import SID_A, UUID_A, Log

NEWEST = "mysql-bin.000002"
TIMEOUT = 60.0

WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root for whom permissions count, so that the same folder is unusable whoever runs the tests."""


def binlogd(
    *arguments: str, cwd: Path | None = None, environ: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in an environment without BINLOGD_… but for ``environ``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")}
    return subprocess.run(
        [sys.executable, "-m", "binlogd", *arguments],
        cwd=cwd,
        env=environment | (environ or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )


def the_error(result: subprocess.CompletedProcess[str], code: int, *, processes: int = 1) -> str:
    """The one line about what ended a command; whatever else is on stderr must be log lines.

    Under ``run`` each of the two ``processes`` may have come to say what ended it; then the first.
    """
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("binlogd: ")]
    assert result.returncode == code, result.stderr
    assert 1 <= len(errors) <= processes, result.stderr
    assert all(line.startswith("{") for line in lines if line not in errors), result.stderr
    assert "Traceback" not in result.stderr
    return errors[0]


def logs() -> dict[str, bytes]:
    """Two files of one source: four transactions, then two and the first half of a third."""
    first = Log().begin_file().transaction(1).transaction(2).statement(3).transaction(4, sizes=(3000,))
    first.rotate(NEWEST)
    second = Log().begin_file(first.set).transaction(5).transaction(6)
    second.gtid(7, SID_A)
    return {"mysql-bin.000001": bytes(first.data), NEWEST: bytes(second.data)}


def make_store(data_dir: Path, uuid: str = UUID_A) -> Path:
    """A store of ``logs()``; the timeline's folder."""
    timeline = data_dir / "binlogs" / f"0001-{uuid}"
    timeline.mkdir(parents=True)
    data_dir.chmod(0o700)
    for name, data in logs().items():
        (timeline / name).write_bytes(data)
    return timeline
