"""What a process does not load: every module that it does not need costs its start time and memory.

The configuration and the log are worth their libraries to every process that has them; help has neither.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Runs a command to its end and says what was loaded for it.
SCRIPT = """
import sys
from binlogd.cli.main import main
code = main(sys.argv[1:])
print(code, *sorted(sys.modules))
"""

LIBRARIES = {"aiohttp", "attrs", "cryptography", "prometheus_client", "uvloop"}
TABLES = {"rich", "pygments"}
EDGE = {"pydantic", "structlog"}  # of configuration and log
RARE = {"backports.zstd", "compression.zstd", "difflib"}
LATER = {"asyncio", "logging", "binlogd.config", "binlogd.store", "binlogd.wire"}


def loaded(*arguments: str, code: int) -> set[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    exit_code, *modules = result.stdout.splitlines()[-1].split()
    assert int(exit_code) == code, result.stderr
    return set(modules)


def test_the_receiver(tmp_path: Path) -> None:
    url = "mysql://repl:x@no-such-host.invalid"
    modules = loaded("receive", "--source", url, "--data-dir", str(tmp_path / "data"), code=2)
    assert {"binlogd.receiver.stream", "binlogd.wire.client"} <= modules, "all but the connection was made"
    assert modules & (LIBRARIES | TABLES | RARE) == set()
    others = {"binlogd.sender", "binlogd.web", "binlogd.config.template", "binlogd.control.supervisor"}
    assert modules & others == set()


@pytest.mark.parametrize("command", ["receive", "serve", "run", "check", "status", "list", "init"])
def test_help(command: str) -> None:
    modules = loaded(command, "--help", code=0)
    assert f"binlogd.cli.{command}" in modules
    assert modules & (LIBRARIES | TABLES | EDGE | LATER) == set()
