"""Starting and seeking against the number of stored files, and in one large file that is still written to.

The source's own mysqld is the peer, with the same files. Measured are

    start   mysqld: from its start to a login; its stop before that is not in it
            binlogd serve: from its start to a login, with no receiver at work on the store
            binlogd receive: from its start to its line "receiving": what is stored is known, the dump is asked for
    seek    from COM_BINLOG_DUMP_GTID, with a set that ends after so many of all transactions, until the first
            transaction's first event has come; the login is not in it

One source grows from size to size. Each start of mysqld adds a file to it, which binlogd fetches when it receives.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress

from binlogd.binlog.gtid import GtidSet
from testbed.bench import loads, usage
from testbed.bench.catch_up import address_of, logged_at, until_published
from testbed.bench.clients import Client, reset_on_close
from testbed.bench.samples import Column, Sample, Section, Sense, Target
from testbed.bench.stage import Stage, running, say
from testbed.binlogd import Binlogd, BinlogdFailed
from testbed.mysqld import Server

SERVE, RECEIVE, MYSQLD = "binlogd serve", "binlogd receive", "mysqld"
PLACES = (0.1, 0.5, 0.9)
"""Shares of all transactions that the client has already."""
LAST = (1.0,)
"""Of all but the last."""
START_TIMEOUT = 120.0
LOOK_EVERY = 0.005


Figures = dict[str, float]


def start_mysqld(source: Server) -> Figures:
    """Restart; what the start took."""
    source.stop()
    began = time.monotonic()
    source.start()
    return {"start_s": time.monotonic() - began, "start_cpu_s": usage.cpu_seconds(source.pid)}


def start_receiving(binlogd: Binlogd, source: Server) -> Figures:
    """Start ``binlogd receive``, have it fetch what is new, and stop it; what it took until it received."""
    began = time.time()
    binlogd.start("receive", wait=False)
    seconds = logged_at(binlogd, "receiving", since=began) - began
    used = usage.cpu_seconds(binlogd.pid)
    until_published(binlogd, source)
    binlogd.stop()
    return {"start_s": seconds, "start_cpu_s": used}


def start_serving(binlogd: Binlogd) -> Figures:
    """Start ``binlogd serve``, which stays; what it took until somebody had logged in."""
    began = time.monotonic()
    binlogd.start("serve", wait=False)
    while time.monotonic() - began < START_TIMEOUT and binlogd.is_running:
        with suppress(ConnectionRefusedError):
            Client(address_of(binlogd)).close()
            return {"start_s": time.monotonic() - began, "start_cpu_s": usage.cpu_seconds(binlogd.pid)}
        time.sleep(LOOK_EVERY)
    raise BinlogdFailed(f"binlogd serve takes no logins:\n{binlogd.log_tail()}")


def seek(server: Server | Binlogd, everything: GtidSet, places: tuple[float, ...]) -> Figures:
    """The seconds to each place of the source's history, the median and the most."""
    taken = []
    for share in places:
        client = Client(address_of(server))
        try:
            client.announce()
            has = first_of(everything, share)
            began = time.monotonic()
            client.dump_gtid(has)
            client.until_transaction()
            taken.append(time.monotonic() - began)
            reset_on_close(client.socket)
        finally:
            client.close()
    return {"seek_s": statistics.median(taken), "slowest_seek_s": max(taken)}


def first_of(everything: GtidSet, share: float) -> GtidSet:
    """So many of a source's own transactions from the first on, but not all."""
    ((sid, tag, first, last),) = everything.runs()
    return GtidSet().add_run(sid, tag, first, min(max(first, round(share * last)), last - 1))


def measure(stage: Stage) -> Iterator[Sample]:
    """All numbers of files, then the one large file."""
    yield from _many_files(stage)
    yield from _one_file(stage)


def _many_files(stage: Stage) -> Iterator[Sample]:
    with stage.cluster() as cluster:
        source = cluster.server("source", options=loads.FILLING)
        folder = stage.scratch("store")
        with running(Binlogd(folder, source, mode="receive", settings={"source.tls": "disabled"})) as binlogd:
            before = 0
            for files in stage.sizes.files:
                began = time.monotonic()
                loads.many_files(source, files)
                made = time.monotonic()
                start_receiving(binlogd, source)
                fetched = time.monotonic()
                say(f"{files} files took {made - began:.0f} s to make and {fetched - made:.0f} s to fetch")
                rate = {"files_per_s": (files - before) / (fetched - made)}
                before = files
                for number in range(1, stage.sizes.rounds + 1):
                    row = f"{files:,} files"
                    theirs = start_mysqld(source)
                    received = start_receiving(binlogd, source)
                    everything = GtidSet.parse(source.gtid_executed)
                    theirs |= seek(source, everything, PLACES)
                    served = start_serving(binlogd) | seek(binlogd, everything, PLACES)
                    binlogd.stop()
                    say(f"{row}, round {number}: start {served['start_s']:.2f} s, seek {served['seek_s'] * 1e3:.1f} ms")
                    for who, figures in ((MYSQLD, theirs), (RECEIVE, received), (SERVE, served)):
                        fetch = rate if who == RECEIVE and number == 1 else {}
                        yield Sample(row, who, number, {**figures, **fetch, "files": files})
        shutil.rmtree(folder)


def _one_file(stage: Stage) -> Iterator[Sample]:
    with stage.cluster() as cluster:
        source = cluster.server("source", options=loads.FILLING)
        folder = stage.scratch("store")
        began = time.monotonic()
        loads.one_file(source, stage.sizes.active_mb)
        say(f"one file of {stage.sizes.active_mb} MB took {time.monotonic() - began:.0f} s to make")
        row = f"one file of {source.binary_logs()[-1].size / 1e6:,.0f} MB, still written to; its last transaction"
        with running(Binlogd(folder, source, mode="receive", settings={"source.tls": "disabled"})) as binlogd:
            start_receiving(binlogd, source)
            everything = GtidSet.parse(source.gtid_executed)
            for number in range(1, stage.sizes.rounds + 1):
                theirs = seek(source, everything, LAST)
                received = start_receiving(binlogd, source)
                served = start_serving(binlogd) | seek(binlogd, everything, LAST)
                binlogd.stop()
                sought = [f"{figures['seek_s'] * 1e3:.1f} ms" for figures in (served, theirs)]
                say(f"{row}, round {number}: seek {' and mysqld '.join(sought)}")
                for who, figures in ((MYSQLD, theirs), (RECEIVE, received), (SERVE, served)):
                    yield Sample(row, who, number, figures)
        shutil.rmtree(folder)


SECTION = Section(
    name="seeks",
    title="Starting and seeking",
    about=(
        f"Files of {loads.TRANSACTIONS_A_FILE} transactions each, and one large file that is not finished. *Start* is"
        " from the process's start until a client has logged in (binlogd receive: until it has asked for the dump)."
        " *Seek* is from COM_BINLOG_DUMP_GTID until the first transaction comes: the median and the slowest of"
        f" clients that have {', '.join(f'{share:.0%}' for share in PLACES)} of the transactions. In the large file the"
        " client lacks the last transaction only, and no receiver runs while it is served. *Fetched* is once for each"
        " size, from the receiver's start until it has stopped."
    ),
    measure=measure,
    columns=(
        Column("start, s", "start_s"),
        Column("start, CPU s", "start_cpu_s"),
        Column("files fetched/s", "files_per_s", digits=0),
        Column("seek, ms", "seek_s", scale=1e-3, digits=1),
        Column("slowest seek, ms", "slowest_seek_s", scale=1e-3, digits=1),
    ),
    targets=(
        Target("≤ 2 s", SERVE, "start_s", Sense.AT_MOST, 2, rows="files$"),
        Target("≤ 2 s", RECEIVE, "start_s", Sense.AT_MOST, 2, rows="files$"),
        Target("≤ 50 ms", SERVE, "slowest_seek_s", Sense.AT_MOST, 50, scale=1e-3),
    ),
)
