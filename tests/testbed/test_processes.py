"""Children die with us; ports are ours alone."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import processes
from testbed.ports import RANGE, Port

PARENT = """
import os, sys
from pathlib import Path
from testbed import processes
child = processes.start(["sleep", "600"], cwd=Path("/"), log=Path(sys.argv[1]))
print(child.pid, flush=True)
sys.stdin.read()
os._exit(9)
"""


LATE_SETPRIV = """#!/bin/sh
read -r nothing < "{gate}"
exec "{setpriv}" "$@"
"""


def ended(pid_fd: int) -> bool:
    return bool(select.select([pid_fd], [], [], 10)[0])


@contextmanager
def parent(log: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has started one child, and a descriptor of that child, readable when it has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(log)],
        cwd=Path(processes.__file__).parent.parent,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        watch = os.pidfd_open(child)
        try:
            yield process, watch
        finally:
            if not ended(watch):
                os.kill(child, signal.SIGKILL)
            os.close(watch)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    with parent(tmp_path / "log") as (process, watch):
        process.kill()
        assert ended(watch)


def test_a_child_ends_whose_parent_died_before_it_was_tied(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    late = tmp_path / "bin" / "setpriv"
    late.parent.mkdir()
    late.write_text(LATE_SETPRIV.format(gate=gate, setpriv=shutil.which("setpriv")))
    late.chmod(0o755)
    with parent(tmp_path / "log", PATH=f"{late.parent}:{os.environ['PATH']}") as (process, watch):
        process.kill()
        process.wait()
        gate.write_text("\n")
        assert ended(watch)


def test_a_child_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def ask() -> None:
        started.append(processes.start(["sleep", "600"], cwd=tmp_path, log=tmp_path / "log"))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.2)
    processes.kill_all()
    assert started[0].returncode == -9


def test_output_and_environment_reach_the_child(tmp_path: Path) -> None:
    for _ in range(2):
        child = processes.start(
            ["sh", "-c", "echo $WORD; pwd >&2"],
            cwd=tmp_path,
            log=tmp_path / "log",
            environ={"WORD": "hello"},
        )
        assert child.wait(10) == 0
    assert (tmp_path / "log").read_text() == f"hello\n{tmp_path}\n" * 2


def test_a_port_is_held_until_it_is_released() -> None:
    ports = [Port() for _ in range(20)]
    assert len({port.number for port in ports}) == 20
    assert all(port.number in RANGE for port in ports)
    with socket.create_server(("127.0.0.1", ports[0].number)):
        pass
    for port in ports:
        port.release()
        port.release()
