"""Commits at a source that waits for one acknowledgement: sysbench oltp_insert, and who acknowledges.

The source syncs its own binary log and redo log at every commit. The acknowledgers take turns, each alone and each new
for each measurement, from a new binary log on, so that nobody has anything to catch up with:

    binlogd receive           fdatasync before every ACK
    MySQL replica, synced     sync_relay_log = 1: it, too, acknowledges only what is on disk
    MySQL replica, default    sync_relay_log = 10000: it acknowledges what a power loss would take
    no semi-sync              nobody is waited for, nobody receives

The replicas run their receiver thread only, as binlogd does. The source waits for an acknowledgement however long it
takes; after each run it is checked that it did so for every commit. Latencies are taken from sysbench's histogram of
the whole run.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pymysql

from testbed.bench import usage
from testbed.bench.samples import MIB, Column, Sample, Section, Sense, Target
from testbed.bench.stage import DEFAULTS, Stage, check_build, running, say
from testbed.binlogd import Binlogd
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster, sysbench
from testbed.mysqld import Option, Server, ServerFailed

BINLOGD, SYNCED, DEFAULT, NOBODY = (
    "binlogd receive",
    "MySQL replica, sync_relay_log = 1",
    "MySQL replica, default",
    "no semi-sync",
)
SOURCE: dict[str, Option] = {
    **DEFAULTS,
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "innodb_buffer_pool_size": "256M",
    "innodb_redo_log_capacity": "1G",
    "max_binlog_size": "1G",
    "rpl_semi_sync_source_timeout": 600_000,  # ms: it never goes on without an acknowledgement
}
STATUS = "Rpl_semi_sync_source_"

Acknowledger = Callable[[Server], AbstractContextManager[int]]
"""Acknowledges to a source during the block, from its newest binary log on; gives the process's pid, 0 for none."""


def by_binlogd(stage: Stage) -> Acknowledger:
    """``binlogd receive`` with its default durability."""

    @contextmanager
    def acknowledging(source: Server) -> Iterator[int]:
        folder = stage.scratch("acknowledger")
        settings = {"source.tls": "disabled", "source.start": "current"}
        with running(Binlogd(folder, source, mode="receive", settings=settings)) as receiver:
            receiver.start()
            receiver.wait_streaming()
            check_build(receiver.pid, plain=False)
            yield receiver.pid
            receiver.wait_for(source)
            receiver.stop()
        shutil.rmtree(folder)

    return acknowledging


def by_replica(replica: Server) -> Acknowledger:
    """The receiver thread of ``replica``."""

    @contextmanager
    def acknowledging(source: Server) -> Iterator[int]:
        file, position = source.position()
        replica.reset_replica()
        account = (REPLICATION_USER, REPLICATION_PASSWORD)
        replica.follow(source.host, source.port, *account, file=file, pos=position, start=False)
        replica.start_replica("IO_THREAD")
        yield replica.pid
        replica.stop_replica()

    return acknowledging


@contextmanager
def by_nobody(source: Server) -> Iterator[int]:
    """Commits are asynchronous during the block."""
    source.variables["rpl_semi_sync_source_enabled"] = 0
    try:
        yield 0
    finally:
        source.variables["rpl_semi_sync_source_enabled"] = 1


def semi_sync_status(source: Server) -> dict[str, str]:
    """The status variables Rpl_semi_sync_source_…, without that prefix."""
    rows = source.query(f"SHOW GLOBAL STATUS LIKE '{STATUS}%'")
    return {str(name).removeprefix(STATUS): str(value) for name, value in rows}


def commit(source: Server, threads: int, seconds: float, acknowledger: Acknowledger) -> dict[str, float]:
    """One measurement."""
    source.execute("FLUSH BINARY LOGS")
    with acknowledger(source) as pid:
        clients = "1" if pid else "0"
        source.wait_until(lambda: semi_sync_status(source)["clients"] == clients, what=f"{clients} acknowledgers")
        before = semi_sync_status(source)
        used = usage.cpu_seconds(pid) if pid else 0.0
        done = sysbench(source, threads=threads, seconds=seconds, prepare=False, args=["--histogram"])
        used = usage.cpu_seconds(pid) - used if pid else 0.0
        peak = usage.peak_bytes(pid) if pid else 0
        after = semi_sync_status(source)
        if pid:
            _check_acknowledged(before, after)
    end_dumps(source)
    source.execute(f"PURGE BINARY LOGS TO '{source.position()[0]}'")
    p50, p99 = percentiles(done.report, (0.50, 0.99))
    figures = {"tps": done.per_second, "p50_s": p50, "p99_s": p99}
    if pid:
        figures |= {"cpu_s": used / done.transactions * 1000, "peak_rss_bytes": float(peak)}
    return figures


def end_dumps(source: Server) -> None:
    """A dump thread notices that its replica has left when it next has something to send; we do not wait for that."""
    for (thread,) in source.query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"):
        with contextlib.suppress(pymysql.err.OperationalError):  # it has ended meanwhile
            source.execute(f"KILL {thread}")
    source.wait_until(lambda: semi_sync_status(source)["clients"] == "0", what="the acknowledger's end")


def _check_acknowledged(before: dict[str, str], after: dict[str, str]) -> None:
    """A source that went on alone for a while measured something else. (yes_tx counts groups of commits.)"""
    unacknowledged = int(after["no_tx"]) - int(before["no_tx"])
    if after["status"] != "ON" or unacknowledged or after["yes_tx"] == before["yes_tx"]:
        raise ServerFailed(f"semi-sync is {after['status']} after a run, {unacknowledged} commits were not waited for")


def percentiles(report: str, shares: tuple[float, ...]) -> list[float]:
    """Of the latency histogram in a report of sysbench: for each share the seconds that so many took at most."""
    bins = [
        (float(value) / 1000, int(count))
        for value, count in re.findall(r"^ *([\d.]+) \|\** +(\d+)$", report, re.MULTILINE)
    ]
    total = sum(count for _, count in bins)
    if not total:
        raise ServerFailed(f"sysbench's report has no histogram:\n{report}")
    found = []
    for share in shares:
        seen = 0
        for value, count in bins:
            seen += count
            if seen >= share * total:
                found.append(value)
                break
    return found


def acknowledgers(stage: Stage, cluster: Cluster) -> dict[str, Acknowledger]:
    """All four, the replicas started."""
    synced = cluster.server("synced", semi_sync="replica", options={**DEFAULTS, "sync_relay_log": 1})
    default = cluster.server("default", semi_sync="replica", options=DEFAULTS)
    return {
        BINLOGD: by_binlogd(stage),
        SYNCED: by_replica(synced),
        DEFAULT: by_replica(default),
        NOBODY: by_nobody,
    }


def measure(stage: Stage) -> Iterator[Sample]:
    """All numbers of threads, all acknowledgers."""
    with stage.cluster() as cluster:
        source = cluster.server("source", semi_sync="source", options=SOURCE)
        with by_nobody(source):
            sysbench(source, events=1, table_size=1)
        everyone = acknowledgers(stage, cluster)
        for number in range(1, stage.sizes.rounds + 1):
            for threads in stage.sizes.threads:
                row = f"{threads} thread{'s' * (threads > 1)}"
                for who, acknowledger in everyone.items():
                    figures = commit(source, threads, stage.sizes.commit_seconds, acknowledger)
                    say(f"commits of {row}, round {number}: {who} {figures['tps']:.0f}/s")
                    yield Sample(row, who, number, {**figures, "threads": threads})


SECTION = Section(
    name="commits",
    title="Commits that wait for an acknowledgement",
    about=(
        "sysbench oltp_insert at a source with sync_binlog = 1 and innodb_flush_log_at_trx_commit = 1; one acknowledger"
        " at a time, which only receives. Every commit was acknowledged. CPU and memory are the acknowledger's (a"
        " replica's: the whole mysqld's)."
    ),
    measure=measure,
    columns=(
        Column("commits/s", "tps", digits=0),
        Column("p50, ms", "p50_s", scale=1e-3),
        Column("p99, ms", "p99_s", scale=1e-3),
        Column("CPU, s per 1,000", "cpu_s", digits=3),
        Column("peak RSS, MiB", "peak_rss_bytes", scale=MIB, digits=0),
    ),
    targets=(
        Target(
            "≥ 1.5 × replica with sync_relay_log = 1", BINLOGD, "tps", Sense.AT_LEAST, 1.5, SYNCED, rows="^1 thread$"
        ),
        Target("≥ 4 × replica with sync_relay_log = 1", BINLOGD, "tps", Sense.AT_LEAST, 4, SYNCED, rows="threads"),
        Target("≥ 0.95 × default replica", BINLOGD, "tps", Sense.AT_LEAST, 0.95, DEFAULT, rows="threads"),
        Target("p99 ≤ default replica's", BINLOGD, "p99_s", Sense.AT_MOST, 1, DEFAULT),
        Target("≤ 64 MiB", BINLOGD, "peak_rss_bytes", Sense.AT_MOST, 64, scale=MIB),
    ),
)
