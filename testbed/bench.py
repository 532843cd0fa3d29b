"""How fast a binlog is fetched, side by side: ``make bench``.

Three clients fetch the same binary logs from the same idle source, one after the other, in several rounds:

    null client          logs in, asks for the dump, and throws away what it receives in 1 MiB reads: what the source
                         and the socket can give
    mysqlbinlog --raw    MySQL's own, from the source's package; syncs nothing
    binlogd receive      checks every event, writes, fdatasync's, publishes

There are two loads, since they cost differently: many small transactions, and one large one. A time begins with the
process (null client: with its connection) and ends when it has everything: mysqlbinlog when it exits, binlogd when
its published position is the source's last, so that its start of about half a second is in it. TLS is off for all.
Memory is the kernel's VmHWM of the process, its highest resident size. All files go to the same file system.

The result is a Markdown table on stdout; a time is the median of the rounds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from testbed import distributions, processes
from testbed.binlogd import Binlogd, BinlogdFailed
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.demo import hide_own_configuration
from testbed.mysqld import Server, ServerFailed
from testbed.packages import Unavailable, progress

MB = 1_000_000
READ = 1 << 20  # bytes the null client reads at once
BULK_ROW = 1 << 20  # bytes of each row of the large transaction
COM_BINLOG_DUMP = 0x12
NON_BLOCK = 1  # the dump ends at the newest event
NULL_CLIENT_ID = 4_000_000_001  # a server_id that nobody else has
POLL_INTERVAL = 0.002  # seconds: below what is told apart
PATIENCE = 600.0  # seconds for one fetch
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class Fetch:
    """One client's one fetch: seconds, and the highest resident size in bytes (0: not measured)."""

    seconds: float
    resident: int = 0


# ------------------------------------------------------------------------------------------------------- the loads


def small_transactions(source: Server, count: int) -> None:
    """``count`` transactions of one row each, made by a procedure at the source."""
    source.execute(
        "CREATE DATABASE bench",
        "CREATE TABLE bench.t (id INT PRIMARY KEY AUTO_INCREMENT, payload CHAR(100) NOT NULL)",
        """CREATE PROCEDURE bench.fill(n INT) BEGIN
             WHILE n > 0 DO INSERT INTO bench.t (payload) VALUES (REPEAT('x', 100)); SET n = n - 1; END WHILE;
           END""",
        f"CALL bench.fill({count})",
    )


def large_transaction(source: Server, megabytes: int) -> None:
    """One transaction of about ``megabytes`` MB in rows of 1 MiB."""
    rows = megabytes * MB // BULK_ROW
    source.execute(
        "CREATE DATABASE bench",
        "CREATE TABLE bench.t (id INT PRIMARY KEY AUTO_INCREMENT, payload LONGBLOB NOT NULL)",
        f"""CREATE PROCEDURE bench.fill(n INT) BEGIN
             START TRANSACTION;
             WHILE n > 0 DO INSERT INTO bench.t (payload) VALUES (REPEAT('x', {BULK_ROW})); SET n = n - 1; END WHILE;
             COMMIT;
           END""",
        f"CALL bench.fill({rows})",
    )


# ----------------------------------------------------------------------------------------------------- the clients


def null_client(source: Server, folder: Path) -> Fetch:
    """Receive everything into one buffer that nobody looks at."""
    del folder
    began = time.monotonic()
    connection: Any = source.connect(user=REPLICATION_USER, password=REPLICATION_PASSWORD, ssl_disabled=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET @source_binlog_checksum = @@GLOBAL.binlog_checksum")
        # PyMySQL has no public way to send a command; from here on the socket is ours.
        payload = struct.pack("<IHI", 4, NON_BLOCK, NULL_CLIENT_ID)
        connection._execute_command(COM_BINLOG_DUMP, payload)
        link: socket.socket = connection._sock
        link.settimeout(PATIENCE)
        buffer = bytearray(READ)
        tail, total = b"", 0
        while not _ends_dump(tail):
            received = link.recv_into(buffer)
            if not received:
                raise ServerFailed("the source closed the null client's connection")
            total += received
            tail = (tail + buffer[max(0, received - 9) : received])[-9:]
        seconds = time.monotonic() - began
    finally:
        connection._force_close()
    if total < (size := _stored_size(source)):
        raise ServerFailed(f"the null client received {total} bytes of at least {size}")
    return Fetch(seconds)


def _ends_dump(tail: bytes) -> bool:
    """Whether the last packet is the EOF packet: length 5, a sequence id, fe, warnings2, status2."""
    return len(tail) == 9 and tail[:3] == b"\x05\0\0" and tail[4] == 0xFE


def mysqlbinlog(source: Server, folder: Path) -> Fetch:
    """``mysqlbinlog --read-from-remote-server --raw --to-last-log``."""
    first = source.binary_logs()[0].name
    argv = source.client(
        "mysqlbinlog",
        "--read-from-remote-server",
        "--raw",
        "--to-last-log",
        "--ssl-mode=DISABLED",
        "--get-server-public-key",
        f"--result-file={folder}/",
        first,
        user=REPLICATION_USER,
        password=REPLICATION_PASSWORD,
    )
    began = time.monotonic()
    process = processes.start(argv, cwd=folder, log=folder / "log", environ=source.distribution.environ)
    resident = 0
    try:
        while process.poll() is None:
            resident = max(resident, _highest_resident(process.pid))
            if time.monotonic() - began > PATIENCE:
                raise ServerFailed(f"mysqlbinlog is not done after {PATIENCE:.0f} s")
            time.sleep(POLL_INTERVAL)
        seconds = time.monotonic() - began
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise ServerFailed(f"mysqlbinlog failed: {(folder / 'log').read_text(errors='replace')}")
    _check_identical(source, folder)
    return Fetch(seconds, resident)


def binlogd(source: Server, folder: Path) -> Fetch:
    """``binlogd receive`` with its default durability, until all is published."""
    last = source.binary_logs()[-1]
    receiver = Binlogd(folder, source, mode="receive", settings={"source.tls": "disabled"})
    try:
        began = time.monotonic()
        receiver.start(wait=False)
        # Looking at the file's size costs the receiver nothing; it is asked only when it must be about done.
        receiver.wait_until(lambda: _has_size(receiver.data, last.name, last.size), "the last file's size", PATIENCE)
        receiver.wait_until(lambda: receiver.published == (last.name, last.size), "all published", PATIENCE)
        seconds = time.monotonic() - began
        resident = receiver.peak_memory("receive")
        receiver.stop()
        _check_identical(source, receiver.file(last.name).parent)
        return Fetch(seconds, resident)
    finally:
        receiver.close()


def _has_size(data: Path, name: str, size: int) -> bool:
    return any(path.stat().st_size == size for path in data.glob(f"binlogs/*/{name}"))


def _stored_size(source: Server) -> int:
    return sum(log.size for log in source.binary_logs())


def _check_identical(source: Server, folder: Path) -> None:
    """A fetch that is fast and wrong shall not be in the table: the finished files are compared."""
    for log in source.binary_logs()[:-1]:
        pair = [str(folder / log.name), str(source.binlog_dir / log.name)]
        if subprocess.run(["cmp", "--silent", *pair], check=False).returncode:
            raise ServerFailed(f"{pair[0]} differs from the source's file")


def _highest_resident(pid: int) -> int:
    """VmHWM in bytes; 0 when the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


# --------------------------------------------------------------------------------------------------- the comparison

CLIENTS: tuple[tuple[str, Callable[[Server, Path], Fetch]], ...] = (
    ("null client", null_client),
    ("mysqlbinlog --raw", mysqlbinlog),
    ("binlogd receive", binlogd),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the median of ``seconds``, the worst of the resident sizes."""

    load: str
    client: str
    size: int
    seconds: float
    resident: int


def measure(source: Server, load: str, folder: Path, rounds: int) -> list[Row]:
    """All clients in turn, ``rounds`` times, so that a slow moment of the machine hits each of them."""
    source.execute("FLUSH BINARY LOGS")
    size = _stored_size(source)
    fetches: dict[str, list[Fetch]] = {name: [] for name, _ in CLIENTS}
    for number in range(1, rounds + 1):
        for name, fetch in CLIENTS:
            scratch = folder / "fetch"
            scratch.mkdir()
            fetches[name].append(fetch(source, scratch))
            shutil.rmtree(scratch)
            progress(f"{load}, round {number} of {rounds}: {name} {fetches[name][-1].seconds:.2f} s")
    return [
        Row(
            load,
            name,
            size,
            statistics.median(fetch.seconds for fetch in of_one),
            max(fetch.resident for fetch in of_one),
        )
        for name, of_one in fetches.items()
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The table; each client's time is also given as a multiple of the null client's on the same load."""
    null = {row.load: row.seconds for row in rows if row.client == CLIENTS[0][0]}
    lines = [
        "| load | MB | client | seconds | MB/s | × null client | peak RSS, MiB |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        resident = f"{row.resident / 2**20:.0f}" if row.resident else ""
        lines.append(
            f"| {row.load} | {row.size / MB:.0f} | {row.client} | {row.seconds:.2f} | {row.size / MB / row.seconds:.0f}"
            f" | {row.seconds / null[row.load]:.2f} | {resident} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--transactions", default=300_000, show_default=True, help="Small transactions to fetch.")
@click.option("--megabytes", default=300, show_default=True, help="Size of the large transaction.")
@click.option("--rounds", default=3, show_default=True, help="Fetches of each client.")
def main(transactions: int, megabytes: int, rounds: int) -> None:
    """Measure how fast binlogd receives, beside mysqlbinlog and a client that throws everything away."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="binlogd-bench-"))
    rows: list[Row] = []
    loads: list[tuple[str, Callable[[Server], None]]] = [
        (f"{transactions} small transactions", lambda source: small_transactions(source, transactions)),
        (f"one of {megabytes} MB", lambda source: large_transaction(source, megabytes)),
    ]
    try:
        hide_own_configuration(folder)
        distribution = distributions.mysql()
        for load, make in loads:
            with Cluster(folder, distribution) as cluster:
                source = cluster.server("source", innodb_redo_log_capacity="512M", max_binlog_size="1G")
                progress(f"{load}: filling the source")
                make(source)
                rows += measure(source, load, folder, rounds)
        print(
            f"{distribution.label}, CPython {platform.python_version()}, {os.cpu_count()} CPUs,"
            f" median of {rounds} rounds\n\n{markdown(rows)}"
        )
    except (BinlogdFailed, ServerFailed, Unavailable) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
