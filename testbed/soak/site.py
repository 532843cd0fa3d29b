"""The source, binlogd and the replica, how each is killed, and how it comes back.

The servers start in threads of their own, so that the next strike meets one that is starting. binlogd's halves are
started again by their supervisor, which we start again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pymysql

from testbed import processes
from testbed.bench.usage import resident_bytes
from testbed.binlogd import POLL_INTERVAL, Binlogd, BinlogdFailed, Half
from testbed.cluster import Cluster
from testbed.demo import semi_sync_of
from testbed.demo_checks import SemiSync
from testbed.distributions import Distribution
from testbed.mysqld import Option, Server, ServerFailed
from testbed.soak.judge import Sample
from testbed.soak.plan import Victim

SOURCE: dict[str, Option] = {
    # What the promise is made for: nothing that was sent can be missing after the source's crash.
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    # Minutes, in ms: a commit that returned was acknowledged.
    "rpl_semi_sync_source_timeout": 600_000,
    "max_binlog_size": "256K",
    "max_allowed_packet": "64M",
    "innodb_redo_log_capacity": "256M",
}
REPLICA: dict[str, Option] = {
    "relay_log_recovery": True,
    "max_allowed_packet": "64M",
    "innodb_redo_log_capacity": "256M",
}

PATIENCE = 60.0
"""Seconds for anything that takes one or two."""

INTRUDER_TIMEOUT = 10.0
"""Seconds until a second receiver must have ended: it reads its settings and asks for the lock."""

ENDED_BY_US = 3
"""Kills of halves after which the supervisor is started anew: its pause before the next start would be 4 s."""

HALVES: dict[Victim, Half] = {Victim.RECEIVER: "receive", Victim.SENDER: "serve"}

COMPLAINTS = ("Traceback", "internal error")
"""What a line of binlogd's log never holds: whatever goes wrong is told in one line that says what to do."""


class Site:
    """All of it under ``folder``, up and semi-synchronous once entered. The servers' data stays with ``keep_data``."""

    def __init__(self, folder: Path, distribution: Distribution, *, keep_data: bool = True) -> None:
        self.folder = folder
        self._cluster = Cluster(folder, distribution, keep_data=keep_data)
        self._pool = ThreadPoolExecutor(thread_name_prefix="soak")
        self._starts: dict[Server, Future[Server]] = {}
        self._log_read = 0
        self._child_kills = 0
        self._off_lines = 0
        self.without_ack = 0  # commits that went on unacknowledged in the source's earlier lives of this round
        self.intruders: list[int] = []
        self.left_behind: dict[int, str] = {}  # once closed: processes that should have ended by themselves
        self.source: Server
        self.replica: Server
        self.binlogd: Binlogd

    def __enter__(self) -> Self:
        try:
            self.source = self._cluster.server("source", semi_sync="source", options=SOURCE)
            self.binlogd = Binlogd(self.folder / "binlogd", self.source).start()
            self.replica = self._cluster.replica(self.binlogd.address, "replica", options=REPLICA)
            self.wait_semi_sync()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._cluster.servers.values():
            server.kill()  # its start, if one is under way, ends by that
        self._pool.shutdown()
        if hasattr(self, "binlogd"):
            self.binlogd.close()
        self._cluster.__exit__(kind, error, trace)
        self.left_behind = working_in(self.folder)
        end_strays(self.folder)

    # ------------------------------------------------------------------------------------------------- killing

    def exists(self, victim: Victim) -> bool:
        """Whether there is a process to hit: one that is starting counts, and for an orderly end it must answer."""
        if victim in HALVES:
            return HALVES[victim] in self.binlogd.halves()
        if victim in (Victim.SOURCE, Victim.REPLICA):
            return self._server(victim).is_running
        if victim is Victim.RESTART:
            return self.answers(self.source)
        return self.binlogd.is_running

    def hit(self, victim: Victim) -> None:
        """Kill it; ``revive`` it afterwards."""
        if victim in HALVES:
            self._child_kills += 1
            self.binlogd.kill_child(HALVES[victim])
        elif victim is Victim.SUPERVISOR:
            self.binlogd.kill_supervisor()
        elif victim is Victim.BINLOGD:
            self.binlogd.kill()
        elif victim is Victim.INTRUDER:
            self._intrude()
        else:
            server = self._server(victim)
            if server is self.source and self.answers(server):
                self.count_unacknowledged()
            if victim is Victim.RESTART:
                before = self._semi_sync_off_lines()
                server.stop()
                self._off_lines += self._semi_sync_off_lines() - before  # clients that wait are let go, and it says so
            else:
                server.kill()

    def revive(self, victim: Victim) -> None:
        """Have it started, without waiting for it."""
        if victim in (Victim.SUPERVISOR, Victim.BINLOGD):
            self._child_kills = 0
            self.binlogd.start(wait=False)
        elif victim in (Victim.SOURCE, Victim.RESTART, Victim.REPLICA):
            server = self._server(victim)
            if server in self._starts:
                self._starts[server].exception()  # a start that was struck has failed, as it should
            self._starts[server] = self._pool.submit(server.start)

    def _intrude(self) -> None:
        log = self.folder / "intruder.log"
        argv = [sys.executable, "-m", "binlogd", "receive", "-c", str(self.binlogd.folder / "binlogd.toml")]
        process = processes.start(argv, cwd=self.folder, log=log)
        deadline = time.monotonic() + INTRUDER_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
        process.kill()
        self.intruders.append(process.wait())

    def _server(self, victim: Victim) -> Server:
        return self.replica if victim is Victim.REPLICA else self.source

    # -------------------------------------------------------------------------------------------------- waiting

    def answers(self, server: Server) -> bool:
        """Whether it is up: not killed, and not starting."""
        start = self._starts.get(server)
        return server.is_running and (start is None or (start.done() and start.exception() is None))

    def wait_server(self, server: Server) -> None:
        """Wait until its start is done."""
        if server in self._starts:
            self._starts[server].result(PATIENCE)
        if not server.is_running:
            raise ServerFailed(f"{server!r} has ended by itself\n{server.error_log_tail()}")

    def wait_semi_sync(self) -> None:
        """Wait until the source counts binlogd as its one semi-synchronous replica."""
        self.binlogd.wait_answering()
        self.binlogd.wait_streaming()
        self.source.wait_until(
            lambda: semi_sync_of(self.source).clients == 1, timeout=PATIENCE, what="one semi-synchronous replica"
        )

    def wait_cut_off(self) -> None:
        """Wait until the receiver has noticed that the source is dead, and taken what had come from it."""
        self.binlogd.wait_answering()
        self.binlogd.wait_until(
            lambda: self.binlogd.status()["source"]["state"] not in ("streaming", "stopped"), "a receiver cut off"
        )

    def renew_supervisor(self) -> None:
        """Start binlogd anew, in order, when the next half that dies would be waited for long."""
        if self._child_kills < ENDED_BY_US:
            return
        self._child_kills = 0
        if code := self.binlogd.stop():
            raise BinlogdFailed(f"binlogd ended with code {code} on SIGTERM\n{self.binlogd.log_tail()}")
        self.binlogd.start()
        self.wait_semi_sync()

    # ------------------------------------------------------------------------------------------------ observing

    def count_unacknowledged(self) -> None:
        """Add what the source, which must be up and is not asked again in this life, let go on by itself."""
        self.without_ack += self.semi_sync().no_tx

    def let_go(self) -> None:
        """Have the source wait for nobody, that it can be looked at where no acknowledgement comes any more."""
        self.count_unacknowledged()
        before = self._semi_sync_off_lines()
        with contextlib.suppress(pymysql.err.Error, OSError):
            self.source.variables["rpl_semi_sync_source_enabled"] = False
        self._off_lines += self._semi_sync_off_lines() - before

    def semi_sync(self) -> SemiSync:
        """The source's counters; zeros when it dies under the question."""
        try:
            return semi_sync_of(self.source)
        except (pymysql.err.Error, OSError):
            return SemiSync(0, 0, 0)

    def take_switched_off(self) -> int:
        """How often semi-sync was switched off since this was last asked, but for orderly stops."""
        before, self._off_lines = self._off_lines, self._semi_sync_off_lines()
        return self._off_lines - before

    def _semi_sync_off_lines(self) -> int:
        return self.source.error_log.count("Semi-sync replication switched OFF")

    def take_complaints(self) -> list[str]:
        """The lines of binlogd's log since this was last asked that must not be there."""
        log = self.binlogd.log
        new, self._log_read = log[self._log_read :], len(log)
        return [f"binlogd's log: {line}" for line in new.splitlines() if any(word in line for word in COMPLAINTS)]

    def samples(self) -> list[Sample]:
        """binlogd's processes, those that run."""
        samples = []
        for role, pid in (("supervisor", self.binlogd.pid), *self.binlogd.halves().items()):
            with contextlib.suppress(FileNotFoundError):
                descriptors = len(os.listdir(f"/proc/{pid}/fd"))
                samples.append(Sample(role, pid, descriptors, resident_bytes(pid)))
        return samples

    def strays(self) -> list[str]:
        """Processes that work in our folder and are none that should run now."""
        known = {self.binlogd.pid, *self.binlogd.halves().values(), self.source.pid, self.replica.pid}
        return [f"{pid} {words}" for pid, words in working_in(self.folder).items() if pid not in known]


def working_in(folder: Path) -> dict[int, str]:
    """The processes whose working directory is ``folder`` or below, and their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # it has ended, or is another user's
                continue
    return found


def end_strays(folder: Path) -> None:
    """Kill whatever works in ``folder``."""
    for pid in working_in(folder):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                if pid in working_in(folder):  # still the process that was found
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


def wait_for(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(f"no {what} within {timeout:.0f} s")
        time.sleep(POLL_INTERVAL)
