"""The processes of a working binlogd: ended in order, restarted when killed, and silent about passwords."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from binlogd.control.sockets import RECEIVER, ask_status
from binlogd.control.status import collect
from binlogd.store.layout import DataFolder
from testbed.binlogd import Binlogd, Half
from testbed.cluster import REPLICATION_PASSWORD, Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import binlogd as run_command
from tests.e2e_errors.support import addresses, leftovers, url

pytestmark = pytest.mark.servers

WAIT = 30.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    with Cluster(tmp_path_factory.mktemp("source"), mysql) as cluster:
        source = cluster.server(semi_sync="source", rpl_semi_sync_source_wait_no_replica=False)
        source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT)")
        yield source


@pytest.fixture
def running(source: Server, tmp_path: Path) -> Iterator[Binlogd]:
    """``binlogd run``, streaming."""
    one = Binlogd(tmp_path / "b", source).start()
    one.wait_streaming()
    yield one
    one.close()
    assert "Traceback" not in one.log


def get(binlogd: Binlogd, path: str) -> tuple[int, Any]:
    """Status and JSON of an answer over HTTP."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{binlogd.http_port}{path}", timeout=WAIT) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT
    while not (seen := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen


# ---------------------------------------------------------------------------------------------------- as documented


class Command:
    """A command in the foreground of a shell: its own process group, its own folder, nothing but what is documented."""

    def __init__(self, folder: Path, arguments: Sequence[str], environ: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")}
        self.log = folder / "stderr"
        self.folder = folder
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "binlogd", *arguments],
                cwd=folder,
                env=clean | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def status(self) -> dict[str, Any]:
        """What ``binlogd status`` says in the same folder."""
        return collect(DataFolder(self.folder / "binlogd-data"))

    def family(self) -> list[int]:
        """Its pid, and those of its children."""
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def end(self) -> None:
        """Whatever happened, none of it stays."""
        if self.process.poll() is None:
            self.process.kill()  # the children end with it
            self.process.wait()


@pytest.fixture
def documented(source: Server, tmp_path: Path) -> Iterator[Command]:
    """``binlogd run --source URL`` and nothing else; only the default ports are others."""
    with addresses() as own:
        command = Command(tmp_path, ["run", "--source", url(source)], own)
        try:
            until(lambda: command.status()["source"]["state"] == "streaming")
            until(lambda: command.status()["server"]["state"] == "serving")
            yield command
        finally:
            command.end()


def test_run_with_a_source_alone(documented: Command, source: Server) -> None:
    """The store is in ./binlogd-data; the listener takes the same account; Ctrl-C ends it all in order."""
    status = documented.status()
    assert status["alarms"] == []
    host, port = status["server"]["listen"].split(":")

    def shown() -> list[str]:
        return subprocess.run(
            [*source.program("mysql"), "--no-defaults", "-h", host, "-P", port, "-u", "repl",
             f"--password={REPLICATION_PASSWORD}", "-N", "-e", "SELECT @@version_comment, @@gtid_executed"],
            env={**os.environ, **source.distribution.environ},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()  # fmt: skip

    until(lambda: shown() == ["binlogd", source.gtid_executed])

    family = documented.family()
    assert len(family) == 3
    os.killpg(documented.process.pid, signal.SIGINT)  # as a terminal does
    assert documented.process.wait(WAIT) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in family)
    log = documented.log.read_text()
    assert "receiver stopped" in log
    assert "sender stopped" in log
    assert "Traceback" not in log
    assert leftovers(documented.folder) == []
    assert documented.folder.joinpath("binlogd-data").stat().st_mode & 0o777 == 0o700


def test_no_password_is_seen(documented: Command, source: Server) -> None:
    """Neither in the arguments or the environment of any process, nor in logs, nor in a status."""
    secret = REPLICATION_PASSWORD.encode()
    for pid in documented.family():
        assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()
    # The environment of the children is the parent's: what is there was put there by whoever set it.
    for pid in documented.family()[1:]:
        with suppress(PermissionError):  # which is what others get, and we do unless we are root
            assert secret not in Path(f"/proc/{pid}/environ").read_bytes()
    shown = run_command("status", "--json", cwd=documented.folder).stdout
    shown += run_command("status", cwd=documented.folder).stdout
    shown += run_command("list", "--json", cwd=documented.folder).stdout
    shown += run_command("check", "--source", url(source), cwd=documented.folder).stdout
    documented.process.terminate()
    assert documented.process.wait(WAIT) == 0
    assert "streaming" in shown
    assert REPLICATION_PASSWORD not in shown
    assert REPLICATION_PASSWORD not in documented.log.read_text()
    for path in documented.folder.rglob("*"):
        assert path.is_dir() or secret not in path.read_bytes()


# ------------------------------------------------------------------------------------------------------ in order


def test_sigterm(running: Binlogd, source: Server) -> None:
    running.wait_for(source)
    assert running.stop() == 0
    assert leftovers(running.data) == []
    assert running.log.index("receiver stopped") > 0
    assert "sender stopped" in running.log
    assert "killed" not in running.log


def test_sigterm_with_everybody_attached(running: Binlogd, source: Server, tmp_path: Path) -> None:
    """Neither a dump, nor an idle client, nor a page that is open, nor a request that never ends delays the end."""
    dump = subprocess.Popen(
        running.client(
            source.distribution, "mysqlbinlog", "--read-from-remote-server", "--stop-never", "--raw", "mysql-bin.000001"
        ),
        cwd=tmp_path,
        env={**os.environ, **source.distribution.environ},
        stderr=subprocess.DEVNULL,
    )
    idle = running.connect()
    page = socket.create_connection(("127.0.0.1", running.http_port))
    page.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = socket.create_connection(("127.0.0.1", running.http_port))
    half.sendall(b"GET /livez HTTP/1.1\r\nHost:")
    try:
        assert page.recv(10) == b"HTTP/1.1 2"
        running.wait_until(lambda: running.status()["replicas"], "dump")
        assert running.stop() == 0
        assert "killed" not in running.log, "none of them had to be"
    finally:
        dump.kill()
        dump.wait()
        idle.close()
        page.close()
        half.close()


def test_a_signal_while_the_source_is_away(tmp_path: Path) -> None:
    """A pause between two attempts is no reason to wait."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        one = Binlogd(tmp_path / "b", ("127.0.0.1", closed.getsockname()[1])).start()
        try:
            one.wait_until(lambda: one.status()["source"]["state"] == "backoff", "attempt")
            assert get(one, "/livez")[0] == 200

            def told() -> tuple[int, bool, str]:
                code, body = get(one, "/readyz")
                return code, body["ready"], body["source"]

            until(lambda: told() == (503, False, "backoff"))
            assert "cannot connect to the source" in one.status()["source"]["last_error"]
            assert one.stop() == 0
        finally:
            one.close()


# ------------------------------------------------------------------------------------------------------- restarts


@pytest.mark.parametrize("half", ["receive", "serve"])
def test_a_killed_child_is_started_again(running: Binlogd, source: Server, half: Half) -> None:
    """The other one does not notice; what comes meanwhile is not lost."""
    other: Half = "serve" if half == "receive" else "receive"
    before = running.halves()
    assert get(running, "/livez") == (200, {"alive": {"receive": True, "serve": True}})
    running.kill_child(half)
    source.execute("INSERT INTO d.t VALUES ()")
    running.wait_until(lambda: running.halves().get(half) not in (None, before[half]), f"new {half} process")
    running.wait_for(source)
    running.wait_until(lambda: running.status()["alarms"] == [], "end of the alarms")
    assert running.halves()[other] == before[other]
    running.wait_until(
        lambda: running.query("SELECT @@gtid_executed") == [(source.gtid_executed,)], "the listener's view of it"
    )
    assert "signal 9" in running.log
    running.assert_identical_to(source)


def test_children_end_with_a_killed_supervisor(running: Binlogd) -> None:
    running.kill_supervisor()
    assert leftovers(running.data) == []
    assert running.status()["source"] == {"state": "stopped"}


def test_a_child_that_is_hung(running: Binlogd, source: Server) -> None:
    """The page still answers, and says what does not."""
    with running.paused("serve"):

        def told() -> tuple[int, list[str]]:
            code, body = get(running, "/readyz")
            return code, [alarm["code"] for alarm in body["alarms"]]

        until(lambda: told() == (503, ["sender_down"]))
        source.execute("INSERT INTO d.t VALUES ()")
        end = source.position()[1]
        until(lambda: ((ask_status(running.data / RECEIVER) or {}).get("publication") or {}).get("position") == end)
    running.wait_until(lambda: get(running, "/readyz")[0] == 200, "recovery")


# ----------------------------------------------------------------------------------------------------- over HTTP


def test_health(running: Binlogd, source: Server) -> None:
    running.wait_until(lambda: get(running, "/readyz")[0] == 200, "readiness")
    assert get(running, "/readyz") == (200, {"ready": True, "source": "streaming", "alarms": []})
    status = get(running, "/api/status")[1]
    running.wait_for(source)
    told = running.status()
    assert set(status) == set(told)
    for name in ("version", "server_id", "server_uuid"):
        assert status[name] == told[name]
    assert status["source"]["server_uuid"] == source.server_uuid
    assert status["source"]["semi_sync"] is True
    assert get_code(running, "/nothing") == 404


def get_code(binlogd: Binlogd, path: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(f"http://127.0.0.1:{binlogd.http_port}{path}", timeout=WAIT)
    with failed.value as error:
        return error.code


# --------------------------------------------------------------------------------------------------- either alone


def test_serving_alone(source: Server, tmp_path: Path) -> None:
    """A sender needs neither a receiver nor a source; it notices a receiver that comes and one that goes."""
    store = Binlogd(tmp_path / "b", source, mode="receive").start()
    sender = Binlogd(tmp_path / "s", ("127.0.0.1", 1), mode="serve", settings={"data_dir": str(store.data)})
    sender.data = store.data
    try:
        store.wait_for(source)
        assert store.stop() == 0
        kept = source.gtid_executed
        sender.start()
        assert sender.query("SELECT @@gtid_executed") == [(kept,)]
        status = sender.status()
        assert [alarm["code"] for alarm in status["alarms"]] == ["receiver_down"]
        source.execute("INSERT INTO d.t VALUES ()")
        assert sender.query("SELECT @@gtid_executed") == [(kept,)]
        store.start()
        store.wait_for(source)
        sender.wait_until(lambda: sender.query("SELECT @@gtid_executed") == [(source.gtid_executed,)], "news")
        store.kill()
        assert sender.query("SELECT @@gtid_executed") == [(source.gtid_executed,)]
        store.start()
        source.execute("INSERT INTO d.t VALUES ()")
        sender.wait_until(lambda: sender.query("SELECT @@gtid_executed") == [(source.gtid_executed,)], "more news")
        assert sender.stop() == 0
        assert store.stop() == 0
    finally:
        sender.close()
        store.close()


def test_receiving_alone(source: Server, tmp_path: Path) -> None:
    one = Binlogd(tmp_path / "b", source, mode="receive").start()
    try:
        one.wait_for(source)
        status = one.status()
        assert status["source"]["state"] == "streaming"
        assert [alarm["code"] for alarm in status["alarms"]] == ["sender_down"]
        with socket.socket() as probe:
            assert probe.connect_ex((one.host, one.port)) != 0, "nobody asked it to listen"
        assert one.stop() == 0
        assert leftovers(one.data) == []
    finally:
        one.close()


def test_serving_a_store_that_is_empty(tmp_path: Path) -> None:
    sender = Binlogd(tmp_path / "s", ("127.0.0.1", 1), mode="serve").start()
    try:
        assert sender.query("SELECT @@gtid_executed, @@version_comment") == [("", "binlogd")]
        assert list(sender.query("SHOW BINARY LOGS")) == []
        assert sender.stop() == 0
    finally:
        sender.close()
