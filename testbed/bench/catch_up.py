"""Catching up: how long five clients take to get all binary logs of an idle source.

    null client          receives in 1 MiB reads and throws away: what source and sockets can give
    mysqlbinlog --raw    MySQL's own, from the source's package; syncs nothing
    MySQL replica        the receiver thread alone (START REPLICA IO_THREAD) at its default settings, into relay logs
    binlogd receive      checks, writes, fdatasync's and publishes; with the hot modules compiled, and as plain Python

Two clocks. *From the dump* begins when the dump was asked for: the null client's command, the first file of
mysqlbinlog, the line "receiving" of binlogd's log, START REPLICA of a MySQL replica, which has no other. *Whole* begins
with the process. Both end when the client has everything: at the EOF, with mysqlbinlog's exit, when the replica's read
position or binlogd's published position is the source's last. CPU time and memory are the whole process's; the
replica's are mysqld's, its CPU time from START REPLICA on.

While binlogd works, only the size of a file is looked at, every 5 ms; its publications are followed when the last file
is there, so that nothing is asked of it before it must be about done.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from binlogd.control.sockets import RECEIVER, reachable
from testbed import processes
from testbed.bench import loads, usage
from testbed.bench.clients import Address
from testbed.bench.readers import NullClients
from testbed.bench.samples import MB, MIB, Column, Sample, Section, Sense, Target
from testbed.bench.stage import DEFAULTS, Stage, check_build, check_identical, running, say, stored_bytes
from testbed.binlogd import Binlogd, BinlogdFailed
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER
from testbed.mysqld import Server, ServerFailed

NULL, MYSQLBINLOG, REPLICA = "null client", "mysqlbinlog --raw", "MySQL replica"
COMPILED, PLAIN = "binlogd receive", "binlogd receive, plain Python"

PATIENCE = 600.0  # seconds for one fetch
LOOK_EVERY = 0.005  # seconds between two looks at a file's size
ASK_EVERY = 0.02  # seconds between two SHOW REPLICA STATUS

Figures = dict[str, float]


def null_client(source: Server, folder: Path) -> Figures:
    """Receive everything into one buffer."""
    del folder
    with NullClients(address_of(source)) as client:
        reading = client.read(source.binary_logs()[0].name, stored_bytes(source))
    return {
        "whole_s": reading.ended[0] - client.started,
        "dump_s": reading.seconds,
        "cpu_s": reading.cpu_s,
        "peak_rss_bytes": reading.peak_bytes,
    }


def mysqlbinlog(source: Server, folder: Path) -> Figures:
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
    while not (folder / first).exists() and process.poll() is None:
        time.sleep(LOOK_EVERY)
    asked = time.monotonic()
    ended = usage.until_its_end(process, PATIENCE)
    if ended.code:
        raise ServerFailed(f"mysqlbinlog failed: {(folder / 'log').read_text(errors='replace')}")
    check_identical(source, folder)
    return {
        "whole_s": ended.at - began,
        "dump_s": ended.at - asked,
        "cpu_s": ended.cpu_seconds,
        "peak_rss_bytes": ended.peak_bytes,
    }


def replica_of(replica: Server) -> Callable[[Server, Path], Figures]:
    """The fetch by the receiver thread of ``replica``, which follows nobody before and after."""

    def fetch(source: Server, folder: Path) -> Figures:
        del folder
        last = source.binary_logs()[-1]
        first = source.binary_logs()[0].name
        replica.follow(source.host, source.port, REPLICATION_USER, REPLICATION_PASSWORD, file=first, start=False)
        usage.forget_peak(replica.pid)
        connection = replica.connect()
        try:
            with connection.cursor() as cursor:
                used, began = usage.cpu_seconds(replica.pid), time.monotonic()
                cursor.execute("START REPLICA IO_THREAD")
                while _read_position(cursor) != (last.name, last.size):
                    if time.monotonic() - began > PATIENCE:
                        raise ServerFailed(f"the replica's receiver is not done after {PATIENCE:.0f} s")
                    time.sleep(ASK_EVERY)
                seconds = time.monotonic() - began
                figures = {
                    "dump_s": seconds,
                    "cpu_s": usage.cpu_seconds(replica.pid) - used,
                    "peak_rss_bytes": float(usage.peak_bytes(replica.pid)),
                }
        finally:
            connection.close()
        replica.stop_replica()
        relayed = sum(path.stat().st_size for path in replica.data.glob("relay-bin.0*"))
        if relayed < last.size:
            raise ServerFailed(f"the replica's relay logs hold {relayed} bytes")
        replica.reset_replica()
        return figures

    return fetch


def _read_position(cursor: object) -> tuple[str, int]:
    """How far a replica's receiver has come."""
    cursor.execute("SHOW REPLICA STATUS")  # type: ignore[attr-defined]
    names = [column[0] for column in cursor.description]  # type: ignore[attr-defined]
    status = dict(zip(names, cursor.fetchone(), strict=True))  # type: ignore[attr-defined]
    if status["Last_IO_Error"]:
        raise ServerFailed(f"the replica's receiver stopped: {status['Last_IO_Error']}")
    return status["Source_Log_File"], status["Read_Source_Log_Pos"]


def binlogd_receive(*, plain: bool) -> Callable[[Server, Path], Figures]:
    """The fetch by ``binlogd receive`` with its default durability."""

    def fetch(source: Server, folder: Path) -> Figures:
        receiver = Binlogd(folder, source, mode="receive", settings={"source.tls": "disabled"})
        with running(receiver, plain=plain):
            began = time.monotonic()
            receiver.start(wait=False)
            until_published(receiver, source)
            ended, ended_at = time.monotonic(), time.time()
            figures = {
                "whole_s": ended - began,
                "dump_s": ended_at - logged_at(receiver, "receiving"),
                "cpu_s": usage.cpu_seconds(receiver.pid),
                "peak_rss_bytes": float(usage.peak_bytes(receiver.pid)),
            }
            check_build(receiver.pid, plain=plain)
            receiver.stop()
            check_identical(source, receiver.file(source.binary_logs()[-1].name).parent)
        return figures

    return fetch


def until_published(receiver: Binlogd, source: Server) -> None:
    """Wait until all that the source has logged is published; see the module for how."""
    last = source.binary_logs()[-1]
    deadline = time.monotonic() + PATIENCE
    place: Path | None = None
    while place is None or not place.exists() or place.stat().st_size < last.size:
        if not receiver.is_running or time.monotonic() > deadline:
            raise BinlogdFailed(f"binlogd has not received {last.name}:\n{receiver.log_tail()}")
        time.sleep(LOOK_EVERY)
        place = place or next((path / last.name for path in receiver.data.glob("binlogs/0*")), None)
    with _connected(receiver, deadline) as link:
        link.sendall(b'{"ask": "publications"}\n')
        with link.makefile("rb") as lines:
            for line in lines:
                publication = json.loads(line)
                if (publication["file"], publication["position"]) == (last.name, last.size):
                    return
    raise BinlogdFailed(f"binlogd ended before all was published:\n{receiver.log_tail()}")


def _connected(receiver: Binlogd, deadline: float) -> socket.socket:
    """A connection to its socket, which is there a moment after it has started."""
    while True:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(PATIENCE)
        try:
            with reachable(receiver.data / RECEIVER) as path:
                link.connect(path)
            return link
        except (FileNotFoundError, ConnectionRefusedError):
            link.close()
            if not receiver.is_running or time.monotonic() > deadline:
                raise BinlogdFailed(f"binlogd receive answers nobody:\n{receiver.log_tail()}") from None
        time.sleep(LOOK_EVERY)


def logged_at(binlogd: Binlogd, event: str, *, since: float = 0.0) -> float:
    """When the newest line ``event`` was logged; waits for one from ``since`` on. Both seconds since the epoch."""

    def found() -> float | None:
        for line in reversed(binlogd.log.splitlines()):
            if line.startswith("{") and (entry := json.loads(line))["event"] == event:
                at = datetime.fromisoformat(entry["timestamp"]).timestamp()
                return at if at >= since else None
        return None

    at: float = binlogd.wait_until(found, f"line {event!r} in its log")
    return at


def address_of(server: Server | Binlogd, *, tls: bool = False) -> Address:
    """Where a client logs in as the replication user."""
    return Address(server.host, server.port, REPLICATION_USER, REPLICATION_PASSWORD, tls)


def measure(stage: Stage) -> Iterator[Sample]:
    """Both loads, every client."""
    with stage.cluster() as cluster:
        replica = cluster.server("replica", options=DEFAULTS)
        clients: dict[str, Callable[[Server, Path], Figures]] = {
            NULL: null_client,
            MYSQLBINLOG: mysqlbinlog,
            REPLICA: replica_of(replica),
            COMPILED: binlogd_receive(plain=False),
            PLAIN: binlogd_receive(plain=True),
        }
        for load, source in (loads.small(stage), loads.bulk(stage)):
            for number in range(1, stage.sizes.rounds + 1):
                for who, fetch in clients.items():
                    folder = stage.scratch("fetch")
                    figures = fetch(source, folder)
                    shutil.rmtree(folder)
                    say(f"catch-up of {load}, round {number}: {who} {figures['dump_s']:.2f} s")
                    yield Sample(load, who, number, {**figures, "received_bytes": stored_bytes(source)})


SECTION = Section(
    name="catch_up",
    title="Catching up",
    about=(
        "One client fetches all binary logs of an idle source over loopback, without TLS. *Dump* is the time from the"
        " dump command until it has everything, *whole* from the start of the process. A MySQL replica runs its"
        " receiver thread only, at default settings; its memory is that of the whole mysqld. Finished files are"
        " compared with the source's after each fetch."
    ),
    measure=measure,
    columns=(
        Column("dump, s", "dump_s"),
        Column("MB/s", "dump_s", scale=MB, digits=0, per="received_bytes"),
        Column("× null client", "dump_s", over=NULL),
        Column("whole, s", "whole_s"),
        Column("CPU, s", "cpu_s"),
        Column("peak RSS, MiB", "peak_rss_bytes", scale=MIB, digits=0),
    ),
    targets=(
        Target("≤ 1.10 × null client (dump)", COMPILED, "dump_s", Sense.AT_MOST, 1.10, NULL),
        *(
            target
            for clock, figure in (("dump", "dump_s"), ("whole", "whole_s"))
            for target in (
                Target(
                    f"≥ 4 × as fast as mysqlbinlog ({clock})",
                    COMPILED,
                    figure,
                    Sense.AS_FAST,
                    4,
                    MYSQLBINLOG,
                    rows="single-row",
                ),
                Target(
                    f"≥ 1.2 × as fast as mysqlbinlog ({clock})",
                    COMPILED,
                    figure,
                    Sense.AS_FAST,
                    1.2,
                    MYSQLBINLOG,
                    rows="MB in",
                ),
                Target(f"no slower than mysqlbinlog ({clock})", PLAIN, figure, Sense.AS_FAST, 1, MYSQLBINLOG),
            )
        ),
        Target("≤ 64 MiB", COMPILED, "peak_rss_bytes", Sense.AT_MOST, 64, scale=MIB),
    ),
)
