"""Serving history: what it takes to send all stored files to 1, 4 and 32 readers, and to one over TLS.

The readers are null clients in one process of their own (readers.py). They log in before the clock starts; it runs from
the first dump command to the last reader's EOF. ``binlogd serve`` is started anew for each measurement; the source, a
mysqld that runs since it was filled, serves the very same files, its peak of memory set back before. All files are in
the page cache for both.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.bench import loads, usage
from testbed.bench.catch_up import address_of, until_published
from testbed.bench.readers import NullClients
from testbed.bench.samples import MB, MIB, Column, Sample, Section, Sense, Target
from testbed.bench.stage import Stage, check_build, check_identical, running, say, stored_bytes
from testbed.binlogd import Binlogd
from testbed.mysqld import Server

BINLOGD, MYSQLD = "binlogd serve", "mysqld"
CACHE_READ = 1 << 20


def store_of(source: Server, folder: Path) -> Binlogd:
    """A binlogd that has received all of ``source`` and does not run."""
    binlogd = Binlogd(folder, source, mode="receive", settings={"source.tls": "disabled"})
    try:
        binlogd.start(wait=False)
        until_published(binlogd, source)
        binlogd.stop()
        check_identical(source, binlogd.file(source.binary_logs()[-1].name).parent)
    except BaseException:
        binlogd.close()
        raise
    return binlogd


def into_page_cache(folder: Path) -> None:
    """Read every binary log once."""
    for path in folder.glob("mysql-bin.0*"):
        with path.open("rb", buffering=0) as file:
            while file.read(CACHE_READ):
                pass


def serve(server: Server | Binlogd, source: Server, readers: int, *, tls: bool) -> dict[str, float]:
    """One measurement of a server that runs."""
    size = stored_bytes(source)
    with NullClients(address_of(server, tls=tls), readers) as clients:
        usage.forget_peak(server.pid)
        before = usage.cpu_seconds(server.pid)
        reading = clients.read(source.binary_logs()[0].name, size)
        return {
            "wall_s": reading.seconds,
            "cpu_s": usage.cpu_seconds(server.pid) - before,
            "peak_rss_bytes": usage.peak_bytes(server.pid),
            "readers_cpu_s": reading.cpu_s,
            "served_bytes": size * readers,
            "readers": readers,
        }


@contextmanager
def started(binlogd: Binlogd) -> Iterator[Binlogd]:
    """``binlogd serve`` for the duration of the block."""
    binlogd.start("serve")
    try:
        check_build(binlogd.pid, plain=False)
        yield binlogd
    finally:
        binlogd.stop()


def measure(stage: Stage) -> Iterator[Sample]:
    """Both loads, both servers, all numbers of readers."""
    cases = [(readers, False) for readers in stage.sizes.readers] + [(1, True)]
    for load, source in (loads.small(stage), loads.bulk(stage)):
        folder = stage.scratch("store")
        with running(store_of(source, folder)) as binlogd:
            for place in (source.binlog_dir, binlogd.file(source.binary_logs()[0].name).parent):
                into_page_cache(place)
            for number in range(1, stage.sizes.rounds + 1):
                for readers, tls in cases:
                    row = f"{load}, {readers} reader{'s' * (readers > 1)}{' over TLS' * tls}"
                    theirs = serve(source, source, readers, tls=tls)
                    with started(binlogd):
                        ours = serve(binlogd, source, readers, tls=tls)
                    took = f"mysqld {theirs['wall_s']:.2f} s, binlogd {ours['wall_s']:.2f} s"
                    say(f"serving {row}, round {number}: {took}")
                    yield Sample(row, MYSQLD, number, theirs)
                    yield Sample(row, BINLOGD, number, ours)
        shutil.rmtree(folder)


SECTION = Section(
    name="serving",
    title="Serving history",
    about=(
        "All stored files are sent from the first on, by file and position with checksums announced, to null clients in"
        " one other process; time from the first dump command to the last EOF. CPU is the server's alone. mysqld serves"
        " its own, identical files; its memory is that of the whole server."
    ),
    measure=measure,
    columns=(
        Column("s", "wall_s"),
        Column("MB/s", "wall_s", scale=MB, digits=0, per="served_bytes"),
        Column("CPU, s", "cpu_s"),
        Column("peak RSS, MiB", "peak_rss_bytes", scale=MIB, digits=0),
    ),
    targets=(
        Target("≥ 2 × as fast as mysqld", BINLOGD, "wall_s", Sense.AS_FAST, 2, MYSQLD, rows="single-row.* 1 reader$"),
        Target("≥ 1.3 × as fast as mysqld", BINLOGD, "wall_s", Sense.AS_FAST, 1.3, MYSQLD, rows="MB in.* 1 reader$"),
        Target("≤ 1/2 of mysqld's CPU", BINLOGD, "cpu_s", Sense.AT_MOST, 0.5, MYSQLD, rows=" 1 reader$"),
        *(
            Target(
                f"≤ {64 + readers} MiB", BINLOGD, "peak_rss_bytes", Sense.AT_MOST, 64 + readers, scale=MIB, rows=rows
            )
            for readers in (1, 2, 4, 8, 32)
            for rows in (f" {readers} readers?( over TLS)?$",)
        ),
    ),
)
