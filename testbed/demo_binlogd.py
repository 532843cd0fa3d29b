"""The binlogd of the demo: run from a configuration file as a user runs it, and the tools beside it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from testbed import processes
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER
from testbed.demo_checks import is_running
from testbed.mysqld import Server
from testbed.ports import Port

BINLOGD = Path(sys.executable).with_name("binlogd")

PATIENCE = 60.0
"""Seconds for anything that takes one or two."""

POLL_INTERVAL = 0.02  # seconds
LOG_TAIL_LINES = 15

CONFIGURATION = """\
data_dir = "{data_dir}"
[source]
hosts = [{hosts}]
user = "{user}"
password = "{password}"
follow = "writable"
[server]
listen = "127.0.0.1:{port}"
[http]
listen = "127.0.0.1:{http_port}"
"""


class DemoFailed(RuntimeError):
    """The story could not be told to its end."""


def hide_own_configuration(folder: Path) -> None:
    """Keep the user's own binlogd configuration from the binlogd started here."""
    for name in [name for name in os.environ if name.startswith("BINLOGD_")]:
        if name != "BINLOGD_MYSQLD" and not name.startswith("BINLOGD_TEST_"):
            del os.environ[name]
    empty = folder / "empty.toml"
    empty.touch()
    os.environ["BINLOGD_CONFIG"] = str(empty)


class Binlogd:
    """``binlogd run`` with the candidates ``hosts``."""

    def __init__(self, hosts: Sequence[Server], folder: Path) -> None:
        self._ports = (Port(), Port())
        self.port, self.http_port = (port.number for port in self._ports)
        self.config = folder / "binlogd.toml"
        self.log = folder / "binlogd.log"
        text = CONFIGURATION.format(
            data_dir=folder / "binlogd-data",
            hosts=", ".join(f'"{server.host}:{server.port}"' for server in hosts),
            user=REPLICATION_USER,
            password=REPLICATION_PASSWORD,
            port=self.port,
            http_port=self.http_port,
        )
        self.config.touch(mode=0o600)  # it holds a password
        self.config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None
        self.pids: list[int] = []

    def start(self) -> None:
        """Start it and wait until it streams and has nothing to complain of."""
        argv = [str(BINLOGD), "run", "-c", str(self.config)]
        self._process = processes.start(argv, cwd=self.log.parent, log=self.log)
        self.wait_until(self._ready, "ready")
        self.pids = [self._process.pid, *children_of(self._process.pid)]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for ``condition``, at once over when binlogd ends."""
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if (code := self._process.poll()) is not None:
                raise self._failure(f"binlogd run ended with code {code}")
            if time.monotonic() > deadline:
                raise self._failure(f"binlogd is not {what} after {PATIENCE:.0f} s")
            time.sleep(POLL_INTERVAL)

    def _get(self, path: str) -> tuple[int, bytes]:
        # Not urllib, which would ask the environment's proxy.
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _ready(self) -> bool:
        try:
            return self._get("/readyz")[0] == http.HTTPStatus.OK
        except ConnectionError:
            return False

    def status(self) -> dict[str, Any]:
        """As ``/api/status`` tells it."""
        return dict(json.loads(self._get("/api/status")[1]))

    def tool(self, *arguments: str) -> str:
        """stdout of another ``binlogd`` command on this store."""
        done = subprocess.run(
            [str(BINLOGD), *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise self._failure(f"{shlex.join(done.args)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> int:
        """SIGTERM; its exit code, once its two processes are gone as well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self._failure(f"binlogd did not stop within {PATIENCE:.0f} s") from None
        wait_gone(self.pids)
        return code

    def close(self) -> None:
        """Kill it if it still runs, wait until its two processes are gone, and release its ports."""
        if self._process is not None and self._process.poll() is None:
            children = children_of(self._process.pid)
            self._process.kill()
            self._process.wait()
            wait_gone(children)  # the kernel tells them that their parent died
        for port in self._ports:
            port.release()

    def _failure(self, text: str) -> DemoFailed:
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if self.log.exists() else []
        return DemoFailed("\n".join([text, "--- binlogd's log", *tail]))


def children_of(pid: int) -> list[int]:
    """The pids of a process's children; none when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for text in lists for child in text.split()]
    return []


def wait_gone(pids: Iterable[int]) -> None:
    """Wait until none of ``pids`` runs."""
    deadline = time.monotonic() + PATIENCE
    for pid in pids:
        while is_running(pid):
            if time.monotonic() > deadline:
                raise DemoFailed(f"process {pid} of binlogd still runs {PATIENCE:.0f} s after it should have ended")
            time.sleep(POLL_INTERVAL)
