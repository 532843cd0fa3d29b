"""What the service manager hears: the datagrams over real sockets, what is said when, and a real binlogd run.

The service manager is played by a datagram socket, which is all that systemd is to a service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from binlogd.control import notify
from binlogd.control.notify import Herald, Notifier, status_line
from binlogd.control.sockets import RECEIVER as RECEIVER_SOCKET
from binlogd.control.sockets import SENDER as SENDER_SOCKET
from binlogd.control.sockets import ControlServer
from binlogd.logs import configure_logging
from testbed.binlogd import Binlogd

WAIT = 30.0


class Manager:
    """A service manager's socket, and what came in."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.address = address
        self.wait = WAIT
        self.heard: list[str] = []

    def hear(self) -> str:
        """The next datagram."""
        self.socket.settimeout(self.wait)
        self.heard.append(self.socket.recv(65536).decode())
        return self.heard[-1]

    def hear_until(self, line: str) -> list[str]:
        """All lines up to one that begins with ``line``."""
        lines: list[str] = []
        deadline = time.monotonic() + WAIT
        while not (lines and any(each.startswith(line) for each in lines[-8:])):
            assert time.monotonic() < deadline, lines
            lines += self.hear().splitlines()
        return lines

    def drain(self) -> list[str]:
        """What is waiting, without waiting for more."""
        self.socket.setblocking(False)
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(65536).decode().splitlines()
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@binlogd-test-{os.getpid()}-{time.monotonic_ns()}"
    one = Manager(name)
    yield one
    one.socket.close()


def test_a_datagram_of_lines(manager: Manager) -> None:
    Notifier(manager.address).send("READY=1", "STATUS=source streaming 数据")
    assert manager.hear() == "READY=1\nSTATUS=source streaming 数据"


def test_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    Notifier(None).send("READY=1")
    Notifier("").send("READY=1")
    assert not Notifier(None).heard
    assert capsys.readouterr().err == ""


def test_a_manager_that_is_gone_is_complained_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    notifier = Notifier(str(tmp_path / "absent"))
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "the service manager cannot be told how we are" in line


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_environment_is_taken_away(environ: dict[str, str], watchdog: float | None) -> None:
    environ |= {"NOTIFY_SOCKET": "/run/x", "PATH": "/bin"}
    notifier = Notifier.from_environment(environ)
    assert (notifier.heard, notifier.watchdog) == (True, watchdog)
    assert environ == {"PATH": "/bin"}


# --------------------------------------------------------------------------------------------- what is said when

RECEIVER: dict[str, Any] = {"pid": 11, "source": {"state": "streaming", "host": "db1", "port": 3306}}
SENDER: dict[str, Any] = {"pid": 12, "replicas": [{}]}
PIDS: dict[str, int | None] = {"receive": 11, "serve": 12}


class Stage:
    """A herald whose processes answer as told."""

    def __init__(self, manager: Manager, watchdog: float | None) -> None:
        self.manager = manager
        self.herald = Herald(Notifier(manager.address, watchdog), Path("nowhere"), lambda: PIDS)
        self.prolonged: list[str] = []

    def look(self, pids: dict[str, int | None] = PIDS, **answers: dict[str, Any] | None) -> list[str]:
        self.herald._look(pids, {"receive": RECEIVER, "serve": SENDER, **answers})
        lines = self.manager.drain()
        self.prolonged = [line for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
        return [line for line in lines if line not in self.prolonged]


def test_ready_when_both_answer_as_the_processes_that_run(manager: Manager) -> None:
    stage = Stage(manager, None)
    assert stage.look(receive=None, serve=None) == ["STATUS=receive starts; serve starts"]
    assert stage.look(receive=None) == ["STATUS=1 replica; receive starts"]
    # Somebody else's receiver, or the one of an earlier start, is no answer of ours.
    assert "READY=1" not in stage.look(receive=RECEIVER | {"pid": 10})
    assert stage.look() == ["READY=1"]
    assert stage.look() == [], "said once"
    assert stage.look(serve=SENDER | {"replicas": []}) == ["STATUS=source streaming db1:3306; 0 replicas"]


def test_the_watchdog_is_of_a_process_that_hangs(manager: Manager) -> None:
    stage = Stage(manager, 30.0)
    assert "WATCHDOG=1" not in stage.look(serve=None), "not before we are ready: starting has a limit of its own"
    assert "WATCHDOG=1" in stage.look()
    assert stage.look(receive=None) == ["STATUS=1 replica; receive hangs"]
    assert stage.look() == ["WATCHDOG=1", "STATUS=source streaming db1:3306; 1 replica"]
    ended: dict[str, int | None] = {"receive": None, "serve": 12}
    assert stage.look(ended, receive=None) == ["WATCHDOG=1", "STATUS=1 replica; receive does not run"]
    again: dict[str, int | None] = {"receive": 21, "serve": 12}
    assert stage.look(again, receive=None) == ["WATCHDOG=1", "STATUS=1 replica; receive starts"]
    assert "WATCHDOG=1" in stage.look(again, receive=RECEIVER | {"pid": 21})
    assert "WATCHDOG=1" not in stage.look(again, receive=None)


def test_a_start_is_prolonged_while_both_processes_run(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(manager, 30.0)
    stage.look({"receive": None, "serve": 12}, receive=None)
    assert stage.prolonged == [], "one that ended has to come back in time"
    stage.look(receive=None)
    assert stage.prolonged == ["EXTEND_TIMEOUT_USEC=60000000"]
    stage.look(receive=None)
    assert stage.prolonged == [], "not with each look"
    monkeypatch.setattr(notify, "PROLONG", 0.0)
    stage.look(receive=None)
    assert stage.prolonged == ["EXTEND_TIMEOUT_USEC=60000000"]
    assert "READY=1" in stage.look()
    assert stage.prolonged == []
    stage.look(receive=None)
    assert stage.prolonged == [], "what hangs later is the watchdog's"


def test_ready_beside_a_second_sender_of_the_store(manager: Manager) -> None:
    """A second sender of a store has no socket, so ours may be the one that cannot be asked."""
    stage = Stage(manager, 30.0)
    status = (
        "source streaming db1:3306; 1 replica at another sender of this store, pid 99; ours serves and is not asked"
    )
    assert stage.look(serve=SENDER | {"pid": 99}) == ["READY=1", "WATCHDOG=1", f"STATUS={status}"]
    assert "WATCHDOG=1" in stage.look(serve=None), "ours has never answered, so it cannot have stopped to"


def test_a_mistake_of_ours_does_not_end_the_watchdog(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")

    def pids() -> dict[str, int | None]:
        raise RuntimeError("can't start new thread")

    async def body() -> None:
        herald = Herald(Notifier(manager.address, 0.2), Path("nowhere"), pids)
        herald._ready = True
        herald.start()
        for _ in range(3):
            assert await asyncio.to_thread(manager.hear) == "WATCHDOG=1"
        herald.stop()

    manager.wait = 5.0
    asyncio.run(body())
    assert "can't start new thread" in capsys.readouterr().err


def test_whoever_asks_the_page_does_not_hold_up_the_watchdog(tmp_path: Path) -> None:
    """With the default executor full of who waits for a list, the watchdog's word goes out all the same."""
    manager = Manager(str(tmp_path / "notify"))
    manager.wait = 5.0
    may_end = threading.Event()
    me = os.getpid()

    async def body() -> None:
        loop = asyncio.get_running_loop()
        controls = [
            ControlServer(tmp_path / RECEIVER_SOCKET, lambda: RECEIVER | {"pid": me}),
            ControlServer(tmp_path / SENDER_SOCKET, lambda: SENDER | {"pid": me}),
        ]
        for control in controls:
            await control.start()
        waiting = [asyncio.create_task(asyncio.to_thread(may_end.wait, WAIT)) for _ in range(100)]
        herald = Herald(Notifier(manager.address, 0.5), tmp_path, lambda: {"receive": me, "serve": me})
        try:
            with ThreadPoolExecutor(1) as listening:
                herald.start()
                await loop.run_in_executor(listening, manager.hear_until, "READY=1")
                for _ in range(3):
                    await loop.run_in_executor(listening, manager.hear_until, "WATCHDOG=1")
            assert not any(task.done() for task in waiting)
        finally:
            may_end.set()
            await asyncio.gather(*waiting)
            herald.stop()
            for control in controls:
                await control.stop()

    asyncio.run(body())
    manager.socket.close()


def test_a_reload_before_we_are_ready_does_not_make_us_so(manager: Manager) -> None:
    stage = Stage(manager, None)
    with stage.herald.reloading():
        pass
    assert manager.drain() == []
    stage.look()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with stage.herald.reloading():
        reloading, stamp = manager.drain()
    assert reloading == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.drain() == ["READY=1"]


def test_the_status_is_one_line() -> None:
    source = {"state": "backoff", "host": "db1", "port": 3306, "last_error": "refused\nREADY=1\x1b[2J"}
    line = status_line(PIDS, {"receive": {"pid": 11, "source": source}, "serve": SENDER})
    assert line == "source backoff db1:3306 (refused READY=1\\x1b[2J); 1 replica"
    source["last_error"] = "x" * 5000
    assert len(status_line(PIDS, {"receive": {"pid": 11, "source": source}, "serve": SENDER})) == notify.MAX_STATUS


def test_without_a_manager_nothing_runs() -> None:
    async def body() -> None:
        herald = Herald(Notifier(None), Path("nowhere"), lambda: PIDS)
        herald.start()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        herald.stop()

    asyncio.run(body())


# ------------------------------------------------------------------------------------------------ a real process


def test_binlogd_run_under_a_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    running = Binlogd(tmp_path / "b", ("127.0.0.1", 1))  # a source that is away does not hold the service up
    try:
        running.start(wait=False)
        started = manager.hear_until("READY=1")
        assert "WATCHDOG=1" in started[started.index("READY=1") :]
        assert running.halves().keys() == {"receive", "serve"}
        for pid in running.halves().values():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ and b"WATCHDOG" not in environ
        manager.hear_until("WATCHDOG=1")

        os.kill(running.pid, signal.SIGHUP)
        assert manager.hear_until("RELOADING=1")[-1].startswith("MONOTONIC_USEC=")
        manager.hear_until("READY=1")

        with running.paused("serve"):
            lines = manager.hear_until("STATUS=")
            assert lines[-1].endswith("serve hangs"), lines
            assert "WATCHDOG=1" not in lines[-1:]
            time.sleep(1.0)  # twice as long as it is silent when all is well
            assert "WATCHDOG=1" not in manager.drain()
        manager.hear_until("WATCHDOG=1")

        killed = running.halves()["receive"]
        running.kill_child("receive")
        running.wait_until(lambda: running.halves().get("receive") not in (None, killed), "a new receiver")
        manager.hear_until("WATCHDOG=1")

        os.kill(running.pid, signal.SIGTERM)
        assert manager.hear_until("STOPPING=1")[-1] == "STATUS=stopping"
        assert running.is_running or running.halves() == {}
        assert running._process is not None and running._process.wait(WAIT) == 0
        assert manager.drain() == [], "nothing behind STOPPING=1"
    finally:
        running.close()
        manager.socket.close()
    assert "Traceback" not in running.log
