"""Memory against the size of one transaction, received and served, the time of a null client beside it.

The transaction is one statement into a BLACKHOLE table: the binary log is all that mysqld writes. Its rows have 500
bytes, its events the 8 KiB that mysqld fills by default.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from testbed.bench import catch_up, loads, serving
from testbed.bench.samples import MB, MIB, Column, Sample, Section, Sense, Target
from testbed.bench.stage import Stage, running, say, stored_bytes

GIANT_ROUNDS_FROM_MB = 5_000
"""Transactions this large are measured once."""


def measure(stage: Stage) -> Iterator[Sample]:
    """All sizes."""
    with stage.cluster() as cluster:
        source = cluster.server("source", options=loads.FILLING)
        receivers = {
            catch_up.NULL: catch_up.null_client,
            catch_up.MYSQLBINLOG: catch_up.mysqlbinlog,
            catch_up.COMPILED: catch_up.binlogd_receive(plain=False),
        }
        for megabytes in stage.sizes.transaction_mb:
            loads.one_transaction(source, megabytes)
            row, size = f"{megabytes:,} MB", stored_bytes(source)
            rounds = 1 if megabytes >= GIANT_ROUNDS_FROM_MB else stage.sizes.rounds
            for number in range(1, rounds + 1):
                for who, fetch in receivers.items():
                    folder = stage.scratch("fetch")
                    figures = fetch(source, folder)
                    shutil.rmtree(folder)
                    say(f"a transaction of {row}, round {number}: {who} {figures['peak_rss_bytes'] / MIB:.0f} MiB")
                    yield Sample(row, who, number, {**figures, "moved_bytes": size})
            folder = stage.scratch("store")
            with running(serving.store_of(source, folder)) as binlogd:
                for number in range(1, rounds + 1):
                    theirs = serving.serve(source, source, 1, tls=False)
                    with serving.started(binlogd):
                        ours = serving.serve(binlogd, source, 1, tls=False)
                    say(f"a transaction of {row}, round {number}: served in {ours['peak_rss_bytes'] / MIB:.0f} MiB")
                    for who, figures in ((serving.MYSQLD, theirs), (serving.BINLOGD, ours)):
                        moved = {"dump_s": figures["wall_s"], "moved_bytes": size}
                        yield Sample(row, who, number, {**figures, **moved})
            shutil.rmtree(folder)


SECTION = Section(
    name="memory",
    title="Memory against the size of a transaction",
    about=(
        "One transaction of rows of 500 bytes is fetched from mysqld, and served by mysqld and by binlogd to one null"
        " client. Time is from the dump command until all is there; mysqld's memory is that of the whole server."
    ),
    measure=measure,
    columns=(
        Column("dump, s", "dump_s"),
        Column("MB/s", "dump_s", scale=MB, digits=0, per="moved_bytes"),
        Column("CPU, s", "cpu_s"),
        Column("peak RSS, MiB", "peak_rss_bytes", scale=MIB, digits=0),
    ),
    targets=(
        Target("≤ 64 MiB", catch_up.COMPILED, "peak_rss_bytes", Sense.AT_MOST, 64, scale=MIB),
        Target("≤ 65 MiB", serving.BINLOGD, "peak_rss_bytes", Sense.AT_MOST, 65, scale=MIB),
    ),
)
