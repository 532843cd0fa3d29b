"""Several servers of one test, the load on them, and the comparison of what they hold.

``Cluster`` owns the servers it starts: leaving the ``with`` block kills them by pid and removes their data.
Checks of equality go through CHECKSUM TABLE, which reads rows, and so sees what replication did rather than
what it reports.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymysql

from testbed import distributions, packages
from testbed.distributions import Distribution
from testbed.mysqld import Option, SemiSync, Server, ServerFailed

REPLICATION_USER = "repl"
REPLICATION_PASSWORD = "replica-secret"  # scratch servers on loopback

SYSTEM_SCHEMAS = ("mysql", "sys", "information_schema", "performance_schema")


class Cluster:
    """The servers of one test, in folders of their names under ``folder``.

    ``distribution`` is the default for servers that name none; found on first use.
    """

    def __init__(self, folder: Path, distribution: Distribution | None = None, *, keep_data: bool = False) -> None:
        self.folder = folder
        self.servers: dict[str, Server] = {}
        self._distribution = distribution
        self._keep_data = keep_data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers.values():
            server.close(keep_data=self._keep_data)

    @property
    def distribution(self) -> Distribution:
        if self._distribution is None:
            self._distribution = distributions.mysql()
        return self._distribution

    def server(
        self,
        name: str = "source",
        *,
        distribution: Distribution | None = None,
        semi_sync: SemiSync = "",
        replication_user: bool = True,
        start: bool = True,
        options: Mapping[str, Option] | None = None,
        **more: Option,
    ) -> Server:
        """A new started server; ``options`` and keywords are lines of its my.cnf.

        With ``replication_user`` the account REPLICATION_USER exists, made without a trace in the binary log,
        so that the log starts with what the test does.
        """
        if name in self.servers:
            raise ValueError(f"the cluster already has a server named {name}")
        server = Server(
            distribution or self.distribution,
            self.folder / name,
            name=name,
            semi_sync=semi_sync,
            options={**(options or {}), **more},
        )
        self.servers[name] = server
        if start:
            server.start()
            if replication_user:
                server.create_user(REPLICATION_USER, REPLICATION_PASSWORD, logged=False)
        return server

    def replica(
        self,
        of: Server | tuple[str, int] | None = None,
        name: str = "",
        *,
        user: str = REPLICATION_USER,
        password: str = REPLICATION_PASSWORD,
        distribution: Distribution | None = None,
        semi_sync: SemiSync = "",
        auto_position: bool = True,
        file: str = "",
        pos: int = 4,
        change: Mapping[str, Any] | None = None,
        options: Mapping[str, Option] | None = None,
        **more: Option,
    ) -> Server:
        """A new server that replicates from ``of``: a server, an address, or by default the first server.

        ``change`` are further options of CHANGE REPLICATION SOURCE TO, the rest is as in :meth:`server`.
        """
        if of is None:
            of = next(iter(self.servers.values()))
        host, port = (of.host, of.port) if isinstance(of, Server) else of
        if not name:
            name = next(n for i in itertools.count(1) if (n := f"replica{i}") not in self.servers)
        server = self.server(name, distribution=distribution, semi_sync=semi_sync, options={**(options or {}), **more})
        server.follow(host, port, user, password, auto_position=auto_position, file=file, pos=pos, **(change or {}))
        return server


# ------------------------------------------------------------------------------------------------- comparison


def checksum_tables(server: Server, schema: str) -> dict[str, int]:
    """CHECKSUM TABLE of every base table of ``schema``."""
    tables = server.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'",
        schema,
    )
    names = sorted(row[0] for row in tables)
    if not names:
        return {}
    rows = server.query("CHECKSUM TABLE " + ", ".join(f"`{schema}`.`{name}`" for name in names))
    return {row[0].partition(".")[2]: row[1] for row in rows}


def checksum_all(server: Server) -> dict[str, dict[str, int]]:
    """:func:`checksum_tables` of every schema that is not the server's own."""
    schemas = sorted(row[0] for row in server.query("SHOW DATABASES") if row[0] not in SYSTEM_SCHEMAS)
    return {schema: checksum_tables(server, schema) for schema in schemas}


# ------------------------------------------------------------------------------------------------------- load


class Load:
    """Threads that insert rows and journal every commit that *returned*: what must never be lost.

    Each thread inserts ids of its own into ``schema.load_rows`` (made if absent), one transaction each, until
    :meth:`stop`. ``journal`` holds the ids whose commit returned; ``uncertain`` those whose commit ended with
    a lost connection and may or may not be there. After a lost connection a thread ends: ``errors`` says why.

    ``payload_bytes`` is the size of each row, ``limit`` the number of commits a thread makes at most.
    """

    def __init__(
        self,
        server: Server,
        *,
        schema: str = "load_test",
        threads: int = 4,
        payload_bytes: int = 100,
        limit: int = 0,
    ) -> None:
        self.server = server
        self.table = f"`{schema}`.`load_rows`"
        self.uncertain: list[int] = []
        self.errors: list[Exception] = []
        self._journals: list[list[int]] = [[] for _ in range(threads)]
        self._payload = "x" * payload_bytes
        self._limit = limit
        self._stopping = threading.Event()
        server.execute(
            f"CREATE DATABASE IF NOT EXISTS `{schema}`",
            f"CREATE TABLE IF NOT EXISTS {self.table} (id BIGINT PRIMARY KEY, payload LONGTEXT NOT NULL)",
        )
        first = int(server.value(f"SELECT COALESCE(MAX(id), 0) + 1 FROM {self.table}"))
        self._threads = [
            threading.Thread(target=self._insert, args=(first + i, threads, self._journals[i]), daemon=True)
            for i in range(threads)
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def _insert(self, first: int, step: int, journal: list[int]) -> None:
        number = first
        connection = None
        try:
            connection = self.server.connect(read_timeout=120)
            with connection.cursor() as cursor:
                while not self._stopping.is_set() and not (self._limit and len(journal) >= self._limit):
                    try:
                        cursor.execute(f"INSERT INTO {self.table} VALUES (%s, %s)", (number, self._payload))
                    except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError):
                        self.uncertain.append(number)
                        raise
                    journal.append(number)
                    number += step
        except (pymysql.err.Error, OSError) as error:
            self.errors.append(error)
        finally:
            if connection is not None and connection.open:
                connection.close()

    @property
    def journal(self) -> list[int]:
        """The ids whose commit returned so far, ascending."""
        return sorted(itertools.chain.from_iterable(list(journal) for journal in self._journals))

    @property
    def commits(self) -> int:
        return sum(map(len, self._journals))

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait_for(self, commits: int, *, timeout: float = 60.0) -> None:
        """Wait until that many commits returned."""
        self.server.wait_until(
            lambda: self.commits >= commits or not self.is_running, timeout=timeout, what=f"{commits} commits"
        )
        if self.commits < commits:
            raise ServerFailed(f"the load ended after {self.commits} commits of {commits}: {self.errors}")

    def join(self, *, timeout: float = 120.0) -> list[int]:
        """Wait until every thread ended by its limit or an error; the journal."""
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                raise ServerFailed(f"a load thread still waits for {self.server!r} after {timeout:.0f} s")
        return self.journal

    def leave(self) -> None:
        """Have every thread end after the commit it waits for."""
        self._stopping.set()

    def stop(self, *, timeout: float = 120.0) -> list[int]:
        """End the load and wait for the threads; the journal."""
        self.leave()
        return self.join(timeout=timeout)

    def missing_at(self, server: Server) -> list[int]:
        """The journalled ids that ``server`` does not hold: empty, or something acknowledged was lost."""
        present = {row[0] for row in server.query(f"SELECT id FROM {self.table}")}
        return [number for number in self.journal if number not in present]


@dataclass(frozen=True, slots=True)
class SysbenchResult:
    """What sysbench counted: transactions a second, latencies in milliseconds, its whole report."""

    transactions: int
    per_second: float
    latency_average_ms: float
    latency_p99_ms: float
    report: str


def sysbench(
    server: Server,
    test: str = "oltp_insert",
    *,
    threads: int = 8,
    seconds: float = 5,
    events: int = 0,
    tables: int = 1,
    table_size: int = 1000,
    schema: str = "sbtest",
    prepare: bool = True,
    args: Sequence[str] = (),
) -> SysbenchResult:
    """Run one of sysbench's own tests against ``server`` for ``seconds`` or until ``events`` are done."""
    tree = packages.fetch(packages.SYSBENCH)
    script = tree.root / "usr/share/sysbench" / f"{test}.lua"
    common = [
        *tree.command("sysbench"),
        str(script),
        "--db-driver=mysql",
        f"--mysql-host={server.host}",
        f"--mysql-port={server.port}",
        "--mysql-user=root",
        f"--mysql-db={schema}",
        "--mysql-ssl=off",
        f"--tables={tables}",
        f"--table-size={table_size}",
        f"--threads={threads}",
        f"--time={0 if events else seconds}",
        f"--events={events}",
        "--percentile=99",
        *args,
    ]

    def run(command: str) -> str:
        done = subprocess.run(
            [*common, command],
            cwd=script.parent,
            env={**os.environ, **tree.environ()},
            capture_output=True,
            text=True,
            timeout=seconds + 600,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"sysbench {test} {command} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    if prepare:
        server.execute(f"DROP DATABASE IF EXISTS `{schema}`", f"CREATE DATABASE `{schema}`")
        run("prepare")
    report = run("run")

    def number(pattern: str) -> Any:
        match = re.search(pattern, report)
        if match is None:
            raise ServerFailed(f"sysbench's report has no {pattern!r}:\n{report}")
        return match[1]

    return SysbenchResult(
        transactions=int(number(r"transactions:\s+(\d+)")),
        per_second=float(number(r"transactions:\s+\d+\s+\(([\d.]+) per sec")),
        latency_average_ms=float(number(r"avg:\s+([\d.]+)")),
        latency_p99_ms=float(number(r"99th percentile:\s+([\d.]+)")),
        report=report,
    )
