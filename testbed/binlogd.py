"""binlogd as a process under test: started, asked, killed and compared with its source.

Like a server (mysqld.py) it lives in a folder of its own::

    FOLDER/binlogd.toml   what it was started with
    FOLDER/binlogd.log    stderr, appended to over all starts
    FOLDER/data/          the store

Its ports are reserved as long as the object is open. It ends with the test's process: the supervisor by its
parent-death signal, the two halves by theirs. Whatever is killed here is killed through a descriptor of the process
(pidfd), so a number that another process has got meanwhile is never hit.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pymysql
from pymysql.connections import Connection

from binlogd.binlog.gtid import GtidSet
from binlogd.control.sockets import RECEIVER, SENDER, ask_status
from binlogd.control.status import collect
from binlogd.store.layout import DataFolder, binlog_number
from testbed import processes
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER
from testbed.distributions import Distribution
from testbed.mysqld import Row, Server
from testbed.ports import Port

START_TIMEOUT = 60.0
"""Seconds until its sockets answer: about one on an idle machine, a scan of the newest file more after a kill."""

STOP_TIMEOUT = 30.0
"""Seconds from SIGTERM to the exit: twice what the supervisor grants its children."""

WAIT_TIMEOUT = 60.0
"""Seconds that a condition may take by default, on two cores that others use too."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition: a look asks two sockets."""

LOG_TAIL_LINES = 60

COMPARE_BLOCK = 1 << 20
"""Bytes compared at once."""

IN_USE_AT = 4 + 17
"""Where a binary log says that it is being written: the flags in its first event's header, bit 0."""

Mode = Literal["run", "receive", "serve"]
Half = Literal["receive", "serve"]
Setting = str | int | bool | Sequence[str]


class BinlogdFailed(RuntimeError):
    """It did not start, stop or get where it should; the message ends with its log's tail."""


class Binlogd:
    """``binlogd MODE`` in ``folder``; nothing runs before :meth:`start`.

    ``source`` is a server or an address (a proxy's), with the account given; the listener takes the same account.
    ``settings`` are keys of the configuration with dots, ``{"source.start": "current"}``.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        source: Server | tuple[str, int],
        *,
        mode: Mode = "run",
        name: str = "binlogd",
        user: str = REPLICATION_USER,
        password: str = REPLICATION_PASSWORD,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.name = name
        self.user = user
        self.password = password
        self.data = folder / "data"
        self._ports = [Port(), Port()]
        self.port, self.http_port = (port.number for port in self._ports)
        host, port = (source.host, source.port) if isinstance(source, Server) else source
        self.settings: dict[str, Setting] = {
            "data_dir": str(self.data),
            "source.hosts": [f"{host}:{port}"],
            "source.user": user,
            "source.password": password,
            "server.listen": f"{self.host}:{self.port}",
            "http.listen": f"{self.host}:{self.http_port}",
            **(settings or {}),
        }
        self._log = folder / "binlogd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.is_running else "down"
        return f"<{self.name}: {self.mode} on port {self.port}, {state}>"

    # --------------------------------------------------------------------------------------------------- life

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that was started: under ``run`` the supervisor."""
        if self._process is None:
            raise BinlogdFailed(f"{self.name} was never started")
        return self._process.pid

    def start(self, mode: Mode | None = None, *, wait: bool = True, **settings: Setting) -> Binlogd:
        """Start it and wait until each half that belongs to ``mode`` answers on its socket.

        ``mode`` and ``settings`` (``source__start=…`` for a key with dots) count from now on.
        """
        if self.is_running:
            raise BinlogdFailed(f"{self!r} is already running")
        self.mode = mode or self.mode
        self.settings |= {key.replace("__", "."): value for key, value in settings.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "binlogd.toml"
        configuration.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items()))
        argv = [sys.executable, "-m", "binlogd", self.mode, "-c", str(configuration)]
        self._process = processes.start(argv, cwd=self.folder, log=self._log)
        if wait:
            self.wait_answering()
        return self

    def wait_answering(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until all halves run and answer: after a start, or after one of them was killed."""
        self.wait_until(self._answers, "an answer on its sockets", timeout)

    def _answers(self) -> bool:
        """Whether the halves that run in this start answer: those of an earlier start may still be ending."""
        halves = {"run": ("receive", "serve")}.get(self.mode, (self.mode,))
        sockets = {"receive": RECEIVER, "serve": SENDER}
        pids = self.halves()
        return all(
            half in pids and (ask_status(self.data / sockets[half]) or {}).get("pid") == pids[half] for half in halves
        )

    def stop(self, *, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, then wait for the end of all its processes; the exit code."""
        assert self._process is not None
        with self._pinned() as halves:
            self._process.send_signal(signal.SIGTERM)
            try:
                code = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise self._failure(f"{self.name} did not stop within {timeout:.0f} s; killed it") from None
            for half, descriptor in halves.items():
                if not _has_ended(descriptor, timeout=0):
                    raise self._failure(f"{self.name} stopped and left its {half} process behind")
        return code

    def kill(self) -> None:
        """SIGKILL all its processes at once, as a crash of the machine's power would, and wait."""
        if self._process is None:
            return
        with self._pinned() as halves:
            self._process.kill()
            for descriptor in halves.values():
                _send(descriptor, signal.SIGKILL)
            self._process.wait()
            for descriptor in halves.values():
                _has_ended(descriptor)

    def kill_supervisor(self) -> None:
        """SIGKILL ``binlogd run`` alone, and wait until its children have noticed and ended."""
        assert self._process is not None
        with self._pinned() as halves:
            self._process.kill()
            self._process.wait()
            for half, descriptor in halves.items():
                if not _has_ended(descriptor):
                    raise self._failure(f"{self.name}'s {half} process outlives its supervisor")

    def kill_child(self, half: Half) -> None:
        """SIGKILL one half, and wait until it is gone. Under ``run`` the supervisor starts it again."""
        with self._pinned() as halves:
            if half not in halves:
                raise self._failure(f"{self.name} has no {half} process")
            _send(halves[half], signal.SIGKILL)
            if half == self.mode:
                assert self._process is not None
                self._process.wait()
            _has_ended(halves[half])

    @contextlib.contextmanager
    def paused(self, half: Half) -> Iterator[None]:
        """Stop one half as a hung machine would (SIGSTOP) for the duration of the block."""
        with self._pinned() as halves:
            _send(halves[half], signal.SIGSTOP)
            try:
                yield
            finally:
                _send(halves[half], signal.SIGCONT)

    def halves(self) -> dict[Half, int]:
        """The pid of each half that runs now."""
        if not self.is_running:
            return {}
        if self.mode != "run":
            return {self.mode: self.pid}
        found: dict[Half, int] = {}
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                with contextlib.suppress(OSError):
                    argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    for half in ("receive", "serve"):
                        if half.encode() in argv and b"--supervised" in argv:
                            found[half] = int(pid)
        return found

    @contextlib.contextmanager
    def _pinned(self) -> Iterator[dict[Half, int]]:
        """A pidfd of each half; :meth:`halves` can be out of date by the time it is used, these cannot."""
        descriptors: dict[Half, int] = {}
        try:
            for half, pid in self.halves().items():
                with contextlib.suppress(ProcessLookupError):
                    descriptors[half] = os.pidfd_open(pid)
            yield descriptors
        finally:
            for descriptor in descriptors.values():
                os.close(descriptor)

    def close(self) -> None:
        """Kill it and release its ports. Store and log stay, in the test's folder."""
        self.kill()
        for port in self._ports:
            port.release()

    # ----------------------------------------------------------------------------------------------- asking it

    @property
    def address(self) -> tuple[str, int]:
        """Of the listener: what replicas follow."""
        return self.host, self.port

    def status(self) -> dict[str, Any]:
        """The status of the contract (interface.md), as ``binlogd status`` and the page show it."""
        return collect(DataFolder(self.data))

    @property
    def published(self) -> tuple[str, int]:
        """File and position up to which everything is durable and whole."""
        at = self.status()["store"]["published"]
        return at["file"], at["position"]

    @property
    def gtid_executed(self) -> str:
        return str(self.status()["store"]["gtid_executed"])

    def peak_memory(self, half: Half) -> int:
        """The most memory that the process of that half ever held, bytes."""
        text = Path(f"/proc/{self.halves()[half]}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024

    def connect(self, **options: Any) -> Connection[Any]:
        """A PyMySQL connection to the listener; the caller closes it."""
        arguments: dict[str, Any] = {"user": self.user, "password": self.password, "connect_timeout": 10, **options}
        return pymysql.connect(host=self.host, port=self.port, **arguments)

    def query(self, sql: str, *params: Any) -> list[Row]:
        """Run one statement on a connection of its own; all rows."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def client(self, distribution: Distribution, name: str, *args: str) -> list[str]:
        """argv of a client program of ``distribution`` that connects to the listener."""
        address = ["--protocol=tcp", f"--host={self.host}", f"--port={self.port}", f"--user={self.user}"]
        return [*distribution.program(name), "--no-defaults", *address, f"--password={self.password}", *args]

    def run(self, distribution: Distribution, name: str, *args: str, cwd: Path | None = None) -> str:
        """Run a client program against the listener; its stdout. Raises with its stderr when it fails."""
        done = subprocess.run(
            self.client(distribution, name, *args),
            cwd=cwd,
            env={**os.environ, **distribution.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise self._failure(f"{name} failed with code {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    # ------------------------------------------------------------------------------------------------- waiting

    def wait_until(self, condition: Callable[[], Any], what: str, timeout: float = WAIT_TIMEOUT) -> Any:
        """Wait until ``condition()`` is true; that value.

        Raises :class:`BinlogdFailed` with the last value, the status and the log's tail after ``timeout`` seconds, at
        once when the process has ended.
        """
        deadline = time.monotonic() + timeout
        while not (seen := condition()):
            if not self.is_running:
                code = self._process.returncode if self._process else None
                raise self._failure(f"{self.name} ended with code {code} before there was {what}")
            if time.monotonic() > deadline:
                status = {key: value for key, value in self.status().items() if key in ("source", "store", "alarms")}
                raise self._failure(
                    f"{self.name}: no {what} within {timeout:.0f} s; last seen {seen!r}; {json.dumps(status)}"
                )
            time.sleep(POLL_INTERVAL)
        return seen

    def wait_streaming(self, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until the source streams to it."""
        self.wait_until(lambda: self.status()["source"]["state"] == "streaming", "stream from the source", timeout)

    def wait_for_gtid(self, gtid_set: str, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until ``gtid_set`` is published, and shown by the sender, when one runs."""
        wanted = GtidSet.parse(gtid_set)

        def reached() -> bool:
            store = self.status()["store"]
            return wanted <= GtidSet.parse(store["gtid_executed"]) and self._shows(store)

        self.wait_until(reached, f"GTID set {gtid_set}", timeout)

    def wait_for_position(self, file: str, position: int, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until that much of the newest timeline is published, and shown by the sender, when one runs.

        An older timeline may have files of the same names.
        """

        def reached() -> bool:
            store = self.status()["store"]
            name, offset = store["published"]["file"], store["published"]["position"]
            timelines = DataFolder(self.data).timelines()
            if not name or store["timeline"] != timelines[-1].number:
                return False
            return (binlog_number(name), offset) >= (binlog_number(file), position) and self._shows(store)

        self.wait_until(reached, f"publication of {file}:{position}", timeout)

    def _shows(self, store: Mapping[str, Any]) -> bool:
        """Whether the sender shows what ``store``, a section of the status, says; True without a sender.

        A sender that runs and does not answer, as a hung one, shows nothing.
        """
        sender = ask_status(self.data / SENDER)
        if sender is None:
            return "serve" not in self.halves()
        shown, wanted = sender["published"], store["published"]
        if shown == wanted:
            return True
        if not shown["file"] or not wanted["file"]:
            return not wanted["file"]
        place, least = ((binlog_number(each["file"]), each["position"]) for each in (shown, wanted))
        return place >= least and not self._may_be_older(store["timeline"], **shown)

    def _may_be_older(self, newest: int, file: str, position: int) -> bool:
        """Whether a place, of which the sender tells no timeline, may be in one before ``newest``."""
        for timeline in DataFolder(self.data).timelines():
            with contextlib.suppress(FileNotFoundError):
                if timeline.number < newest and (timeline.path / file).stat().st_size >= position:
                    return True
        return False

    def wait_for(self, server: Server, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until everything that ``server`` has logged by now is published."""
        self.wait_for_position(*server.position(), timeout=timeout)

    # --------------------------------------------------------------------------------------------- the store

    def file(self, name: str) -> Path:
        """Where the stored binary log ``name`` lies; of two of a name, the newer timeline's."""
        for timeline in reversed(DataFolder(self.data).timelines()):
            if name in timeline.binlogs():
                return timeline.path / name
        raise FileNotFoundError(f"{self.data} holds no {name}")

    def stored(self) -> list[str]:
        """The names of the newest timeline's files, oldest first."""
        timelines = DataFolder(self.data).timelines()
        return timelines[-1].binlogs() if timelines else []

    def assert_identical_to(self, server: Server) -> list[str]:
        """Assert rule 1: what is stored equals what ``server``, up or down, has on disk; the finished files' names.

        Every file from the first stored one on must be there, finished ones equal as ``cmp`` sees it, the newest up
        to its published position, but for the flag IN_USE, which a source clears when it closes the file.
        """
        index = (server.binlog_dir / "mysql-bin.index").read_text().split()
        logs = [Path(line).name for line in index]
        stored = self.stored()
        assert stored, f"{self.name} has stored nothing"
        assert stored[0] in logs, f"{stored[0]} is stored and the source has only {logs}"
        newest, published = self.published
        expected = logs[logs.index(stored[0]) : logs.index(newest) + 1]
        assert stored == expected, f"the source has {expected}, stored are {stored}"
        for name in stored:
            ours, theirs = self.file(name), server.binlog_dir / name
            if name == newest:
                assert theirs.stat().st_size >= published > 4, f"{name} is published up to {published}"
            else:
                sizes = ours.stat().st_size, theirs.stat().st_size
                assert sizes[0] == sizes[1], f"{name} has {sizes[0]} bytes, at the source {sizes[1]}"
            different = first_difference(ours, theirs, published if name == newest else None, in_use=name == newest)
            assert different is None, f"{name} differs from the source's at byte {different}"
        return stored[:-1]

    # --------------------------------------------------------------------------------------------------- log

    @property
    def log(self) -> str:
        """All that it ever wrote to stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        return "\n".join(self.log.splitlines()[-lines:])

    def _failure(self, text: str) -> BinlogdFailed:
        return BinlogdFailed(f"{text}\n--- {self.name}'s log\n{self.log_tail()}")


def first_difference(one: Path, other: Path, limit: int | None = None, *, in_use: bool = False) -> int | None:
    """The offset of the first byte that differs in the first ``limit`` bytes, or in all; None when they are equal.

    ``in_use`` leaves the flag of that name in ``other`` out of account: it is a binary log that is still written.
    """
    with one.open("rb") as a, other.open("rb") as b:
        at = 0
        while limit is None or at < limit:
            size = COMPARE_BLOCK if limit is None else min(COMPARE_BLOCK, limit - at)
            left, right = a.read(size), b.read(size)
            if in_use and not at and len(right) > IN_USE_AT:
                right = right[:IN_USE_AT] + bytes([right[IN_USE_AT] & ~1]) + right[IN_USE_AT + 1 :]
            if left != right:
                return at + next(
                    (i for i, (x, y) in enumerate(zip(left, right, strict=False)) if x != y), min(len(left), len(right))
                )
            if not left:
                return None if limit is None else at  # both end before the limit
            at += len(left)
    return None


def _send(descriptor: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _has_ended(descriptor: int, timeout: float = STOP_TIMEOUT) -> bool:
    """Wait for the end of the process behind a pidfd."""
    return bool(select.select([descriptor], [], [], timeout)[0])
