"""Many live readers at the tail: how late they are, and what they cost the acknowledgements.

``binlogd run`` alone acknowledges to a source with sync_binlog = 1, which sysbench commits to at an even pace. The
readers (followers.py) follow binlogd, or the source itself, which is then the peer: mysqld serves them. How late a
reader is, is measured against a reference reader at the source. All readers are in one process, which has its share of
the machine's cores; its CPU time is in the table, since what it lacks makes readers late, whoever serves them.

The acknowledgement times are the receiver's own (status: ack_seconds), of its latest 4096.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from testbed.bench import usage
from testbed.bench.catch_up import address_of
from testbed.bench.commits import SOURCE, by_nobody, end_dumps, percentiles, semi_sync_status
from testbed.bench.followers import Followers
from testbed.bench.samples import MIB, Column, Sample, Section, Sense, Target
from testbed.bench.stage import Sizes, Stage, check_build, running, say
from testbed.binlogd import Binlogd
from testbed.cluster import SysbenchResult, sysbench
from testbed.mysqld import Server, ServerFailed

NOBODY, BINLOGD, MYSQLD = "nobody reads", "binlogd", "mysqld"
ROUNDS = 3  # at most
SOAK = 60  # seconds from which on one run is enough, of the most readers, at binlogd
THREADS = 8
LOOK_EVERY = 5.0  # seconds between two looks at memory and acknowledgements
RECEIVE, SERVE = "receive", "serve"


def who_of(readers: int, server: str) -> str:
    """How a case is called in the table."""
    return f"{readers} reader{'s' * (readers > 1)} of {server}" if readers else NOBODY


def cases(stage: Stage) -> list[tuple[int, str]]:
    """(readers, of whom)."""
    numbers = stage.sizes.followers
    if stage.sizes.follow_seconds > SOAK:
        return [(max(numbers), BINLOGD)]
    return [(readers, server) for readers in numbers for server in (BINLOGD, MYSQLD) if readers or server == BINLOGD]


def follow(
    sizes: Sizes, source: Server, binlogd: Binlogd, readers: int, server: str
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """One measurement: figures, and series over time."""
    served: Server | Binlogd = source if server == MYSQLD else binlogd
    binlogd.wait_for(source)
    halves = binlogd.halves()
    pids = {RECEIVE: halves["receive"], SERVE: halves["serve"], MYSQLD: source.pid}
    with Followers(address_of(source), address_of(served), readers, source.gtid_executed) as followers:
        before = {name: usage.cpu_seconds(pid) for name, pid in pids.items()}
        no_tx = semi_sync_status(source)["no_tx"]
        series: dict[str, list[float]] = {
            "at_s": [],
            "ack_p50_s": [],
            "ack_p99_s": [],
            "receive_rss_bytes": [],
            "serve_rss_bytes": [],
        }
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(
                sysbench,
                source,
                threads=THREADS,
                seconds=sizes.follow_seconds,
                prepare=False,
                args=["--histogram", f"--rate={sizes.follow_rate}"],
            )
            _watch(load, binlogd, pids, series, began)
            done = load.result()
        seconds = time.monotonic() - began
        binlogd.wait_for(source)
        used = {name: (usage.cpu_seconds(pid) - before[name]) / seconds for name, pid in pids.items()}
        seen = followers.end()
    if semi_sync_status(source)["no_tx"] != no_tx or semi_sync_status(source)["status"] != "ON":
        raise ServerFailed("some commits were not acknowledged")
    figures = _figures(done, binlogd.status()["source"], used)
    figures |= {
        "peak_receive_bytes": usage.peak_bytes(pids[RECEIVE]),
        "peak_serve_bytes": usage.peak_bytes(pids[SERVE]),
    }
    figures["readers_cpu"] = seen["cpu_s"] / seconds
    if readers:
        figures |= {f"delay_{name}": seen[name] for name in ("p50_s", "p99_s", "max_s")}
        series |= seen["series"]
    return figures, series


def _watch(
    load: Future[SysbenchResult], binlogd: Binlogd, pids: dict[str, int], series: dict[str, list[float]], began: float
) -> None:
    """Note memory and acknowledgement times now and then until the load ends."""
    while not load.done():
        until = time.monotonic() + LOOK_EVERY
        while not load.done() and time.monotonic() < until:
            time.sleep(0.1)
        acks = binlogd.status()["source"]["ack_seconds"]
        looked: dict[str, Any] = {
            "at_s": round(time.monotonic() - began, 1),
            "ack_p50_s": acks["p50"],
            "ack_p99_s": acks["p99"],
            "receive_rss_bytes": usage.resident_bytes(pids[RECEIVE]),
            "serve_rss_bytes": usage.resident_bytes(pids[SERVE]),
        }
        for name, value in looked.items():
            series[name].append(value)


def _figures(done: SysbenchResult, source: dict[str, Any], used: dict[str, float]) -> dict[str, float]:
    p50, p99 = percentiles(done.report, (0.50, 0.99))
    return {
        "tps": done.per_second,
        "commit_p50_s": p50,
        "commit_p99_s": p99,
        "ack_p50_s": source["ack_seconds"]["p50"],
        "ack_p99_s": source["ack_seconds"]["p99"],
        "receive_cpu": used[RECEIVE],
        "serve_cpu": used[SERVE],
        "source_cpu": used[MYSQLD],
    }


def measure(stage: Stage) -> Iterator[Sample]:
    """All numbers of readers, of binlogd and of the source."""
    sizes = stage.sizes
    row = f"{sizes.follow_rate:,} commits/s for {sizes.follow_seconds} s"
    rounds = 1 if sizes.follow_seconds > SOAK else min(sizes.rounds, ROUNDS)
    with stage.cluster() as cluster:
        source = cluster.server("source", semi_sync="source", options=SOURCE)
        with by_nobody(source):
            sysbench(source, events=1, table_size=1)
        folder = stage.scratch("store")
        with running(Binlogd(folder, source, mode="run", settings={"source.tls": "disabled"})) as binlogd:
            for number in range(1, rounds + 1):
                for readers, server in cases(stage):
                    binlogd.start()
                    for pid in binlogd.halves().values():
                        check_build(pid, plain=False)
                    source.wait_until(lambda: semi_sync_status(source)["clients"] == "1", what="one acknowledger")
                    figures, series = follow(sizes, source, binlogd, readers, server)
                    binlogd.stop()
                    end_dumps(source)
                    who = who_of(readers, server)
                    late = f", at most {figures['delay_max_s'] * 1e3:.1f} ms late" if readers else ""
                    say(f"{row}, round {number}: {who}, ACK p99 {figures['ack_p99_s'] * 1e3:.1f} ms{late}")
                    yield Sample(row, who, number, figures, series)
        shutil.rmtree(folder)


def targets() -> Iterator[Target]:
    """For the sizes there are."""
    for readers in (1, 2, 20, 100):
        who = who_of(readers, BINLOGD)
        yield Target("every reader ≤ 100 ms late", who, "delay_max_s", Sense.AT_MOST, 100, scale=1e-3)
        words = "≤ 1.25 × the ACK's {} without readers"
        yield Target(words.format("p50"), who, "ack_p50_s", Sense.AT_MOST, 1.25, NOBODY)
        yield Target(words.format("p99"), who, "ack_p99_s", Sense.AT_MOST, 1.25, NOBODY)
        yield Target("receiver ≤ 64 MiB", who, "peak_receive_bytes", Sense.AT_MOST, 64, scale=MIB)
        yield Target(f"sender ≤ {64 + readers} MiB", who, "peak_serve_bytes", Sense.AT_MOST, 64 + readers, scale=MIB)


SECTION = Section(
    name="fanout",
    title="Live readers",
    about=(
        "sysbench oltp_insert at an even pace; binlogd run, started anew for each measurement, alone acknowledges."
        " *Late* is how much later than a reference reader at the source a reader has each piece of the stream, over"
        " all readers. ACK is from an event's arrival at the receiver to its acknowledgement; a commit's time begins"
        f" when the pace had it due. CPU is in cores. At most {ROUNDS} rounds."
    ),
    measure=measure,
    columns=(
        Column("late p50, ms", "delay_p50_s", scale=1e-3, digits=1),
        Column("late p99, ms", "delay_p99_s", scale=1e-3, digits=1),
        Column("late max, ms", "delay_max_s", scale=1e-3, digits=1),
        Column("ACK p50, ms", "ack_p50_s", scale=1e-3),
        Column("ACK p99, ms", "ack_p99_s", scale=1e-3),
        Column("commits/s", "tps", digits=0),
        Column("commit p50, ms", "commit_p50_s", scale=1e-3),
        Column("commit p99, ms", "commit_p99_s", scale=1e-3),
        Column("sender CPU", "serve_cpu"),
        Column("receiver CPU", "receive_cpu"),
        Column("mysqld CPU", "source_cpu"),
        Column("readers' CPU", "readers_cpu"),
        Column("receiver, MiB", "peak_receive_bytes", scale=MIB, digits=0),
        Column("sender, MiB", "peak_serve_bytes", scale=MIB, digits=0),
    ),
    targets=tuple(targets()),
)
