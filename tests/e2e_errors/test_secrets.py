"""A password that binlogd knows is in nothing that it writes, and nothing that it makes is anybody else's to read.

Each way to give a password has a binlogd of its own, which goes through what may make it talk: a source that cannot be
reached, logins that fail, a check, a status, and crashes where cores are wanted.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.control.sockets import SENDER, ask_status
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from tests.cli.support import binlogd as run_command
from tests.cli.support import make_store
from tests.e2e_errors.support import addresses

MARK = "Hidden-Marker-7c41"
WAIT = 60.0
WAYS = ("url", "file", "environment", "password_file")


class Told:
    """``binlogd run`` that was told the password in one way; its source cannot be reached."""

    def __init__(self, folder: Path, way: str, own: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = int(own["BINLOGD_SERVER__LISTEN"].rpartition(":")[2])
        self.own = own
        self.environ: dict[str, str] = {}
        self.arguments: list[str] = []
        self.given: list[Path] = []  # what we wrote it into ourselves
        password = f"password = {json.dumps(MARK)}\n"
        head = f'data_dir = "{self.data}"\n[source]\nhosts = ["127.0.0.1:1"]\nuser = "repl"\n'
        if way == "url":
            self.arguments = ["--source", f"mysql://repl:{MARK}@127.0.0.1:1", "--data-dir", str(self.data)]
            return
        if way == "environment":
            self.environ = {"BINLOGD_SOURCE__PASSWORD": MARK}
            password = ""
        elif way == "password_file":
            self.given.append(folder / "password")
            self.given[0].write_text(MARK)
            password = f'password_file = "{self.given[0]}"\n'
        configuration = folder / "binlogd.toml"
        configuration.write_text(head + password)
        self.given.append(configuration)
        self.arguments = ["-c", str(configuration)]

    def command(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        return run_command(name, *self.arguments, *more, cwd=self.folder, environ=self.environ | self.own)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """With cores of any size allowed, and everything that it says in the file ``said``."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")}
        unlimited = resource.RLIM_INFINITY
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "binlogd", "run", *self.arguments],
                cwd=self.folder,
                env=clean | self.environ | self.own,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited)),
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(WAIT)

    def sender(self) -> int:
        """The pid of the half that serves."""
        return int(until(lambda: ask_status(self.data / SENDER))["pid"])


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT
    while not (seen := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen


def family(process: subprocess.Popen[bytes]) -> list[int]:
    """A supervisor and its children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


@pytest.fixture
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Told]:
    with addresses() as own:
        yield Told(tmp_path, request.param, own)


@pytest.mark.parametrize(
    "told",
    [way if way in ("password_file",) else pytest.param(way, marks=pytest.mark.slow) for way in WAYS],
    indirect=True,
    ids=WAYS,
)
def test_a_password_is_in_nothing_that_is_written(told: Told) -> None:
    make_store(told.data)
    shown = []
    with told.running() as process:
        first = told.sender()
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family(process)]
        # Whoever gives it by the environment, or as an argument, shows it to those who may look at that process. The
        # kernel does not let processes hide the former; and what was an argument is none of the children's.
        assert not any(MARK.encode() in argument for argument in arguments[1:])
        for user, password in (("repl", "wrong"), ("nobody", MARK), ("repl", MARK)):
            with suppress(pymysql.err.OperationalError):
                with pymysql.connect(host="127.0.0.1", port=told.port, user=user, password=password) as connection:
                    with connection.cursor() as cursor:
                        for statement in ("SHOW FULL PROCESSLIST", "SHOW VARIABLES", "SHOW STATUS", "SELECT USER()"):
                            cursor.execute(statement)
                            shown.append(str(cursor.fetchall()))
        assert len(shown) == 4
        done = told.command("check")
        shown += [done.stdout, done.stderr]
        done = run_command("status", "--json", "--data-dir", str(told.data), cwd=told.folder)
        shown += [done.stdout, done.stderr]
        os.kill(first, signal.SIGABRT)
        assert told.sender() != first, "it was started again"
        os.kill(process.pid, signal.SIGABRT)
        process.wait(WAIT)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (first,)))
    assert not any(MARK in text for text in shown)
    written = [path for path in told.folder.rglob("*") if path.is_file() and path not in told.given]
    assert any(path.name == "said" for path in written)
    for path in written:
        assert MARK.encode() not in path.read_bytes(), path
    assert not [path for path in told.folder.rglob("core*") if path.is_file()]


@pytest.mark.servers
def test_everything_is_its_owners_alone(tmp_path: Path, mysql: Distribution) -> None:
    """Whatever the umask: files 0600, folders 0700, sockets 0600, of a store that a source has filled."""
    with Cluster(tmp_path / "cluster", mysql) as cluster:
        source = cluster.server()
        one = Binlogd(tmp_path / "b", source)
        before = os.umask(0)
        try:
            one.start()
        finally:
            os.umask(before)
        try:
            one.wait_streaming()
            source.execute("CREATE DATABASE d", "FLUSH BINARY LOGS", "CREATE TABLE d.t (a INT)")
            one.wait_for(source)
            assert one.query("SELECT @@server_id")
            found = {path: path.lstat().st_mode for path in (one.data, *one.data.rglob("*"))}
        finally:
            one.close()
    names = {path.name for path in found}
    assert {"auto.cnf", "private_key.pem", "server-key.pem", "receiver.sock", "sender.sock", "receiver.lock"} <= names
    assert any(name.endswith(".idx") for name in names)
    for path, mode in found.items():
        wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
        assert stat.S_IMODE(mode) == wanted, f"{path} {stat.filemode(mode)}"
