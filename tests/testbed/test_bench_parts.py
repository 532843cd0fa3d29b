"""The benchmark's instruments: what a process used, percentiles, followers' delays, places of a seek, plots."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.bench import fanout, followers, machine, seeks, usage
from testbed.bench.__main__ import SECTIONS
from testbed.bench.clients import Client
from testbed.bench.commits import percentiles
from testbed.bench.followers import Delays, Watch
from testbed.bench.readers import ReadersFailed
from testbed.bench.samples import Outcome, Sample
from testbed.bench.stage import SIZES, check_build
from testbed.mysqld import ServerFailed

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


# --------------------------------------------------------------------------------------------------------- usage


def test_what_an_ended_process_had_used() -> None:
    program = "import time; x = bytearray(50_000_000)\nwhile time.process_time() < 0.3: pass"
    ended = usage.until_its_end(subprocess.Popen([sys.executable, "-c", program]), 60)
    assert ended.code == 0
    assert ended.cpu_seconds >= 0.29
    assert ended.peak_bytes > 50_000_000


def test_the_cpu_time_of_a_process_holds_that_of_its_children() -> None:
    child = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True); input()"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert usage.cpu_seconds(process.pid) >= 0.29
        process.communicate(b"\n")


def test_one_that_does_not_end_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(usage.DidNotEnd):
        usage.until_its_end(process, 0.1)
    assert process.returncode == -9


def test_a_peak_can_be_forgotten() -> None:
    program = "x = bytearray(100_000_000); del x; print('freed', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert usage.peak_bytes(process.pid) > 100_000_000
        usage.forget_peak(process.pid)
        assert usage.resident_bytes(process.pid) <= usage.peak_bytes(process.pid) < 100_000_000
        process.communicate(b"\n")
    assert usage.peak_bytes(process.pid) == 0


def test_a_process_without_the_compiled_modules_is_no_compiled_binlogd() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        check_build(process.pid, plain=True)
        with pytest.raises(ServerFailed, match="plain Python"):
            check_build(process.pid, plain=False)
        process.communicate(b"\n")


def test_the_disk_below_a_folder(tmp_path: Path) -> None:
    assert machine.disk_of(Path("/proc/self"))["file_system"] == "proc"
    assert machine.disk_of(tmp_path)["file_system"] not in ("proc", "unknown")
    times = machine.sync_times(tmp_path)
    assert 0 < times["p50"] <= times["p99"]
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------- percentiles


def test_percentiles_of_a_histogram_of_sysbench() -> None:
    report = (
        "Latency histogram (values are in milliseconds)\n"
        "       value  ------------- distribution ------------- count\n"
        "       0.500 |****************************************  50\n"
        "       1.000 |***************                            48\n"
        "     250.000 |                                          2\n \n"
        "SQL statistics:\n"
    )
    assert percentiles(report, (0.5, 0.51, 0.98, 0.99)) == [0.0005, 0.001, 0.001, 0.25]
    with pytest.raises(ServerFailed, match="no histogram"):
        percentiles("SQL statistics:\n", (0.5,))


def test_percentiles_of_delays() -> None:
    delays = Delays()
    for delay in [0.001] * 90 + [0.02] * 9 + [30.0]:
        delays.add(delay, delays.began + 0.5)
    delays.add(0.005, delays.began + 2.5)
    assert delays.count == 101
    assert delays.worst == 30.0
    assert delays.percentile(0.5) == pytest.approx(0.001, abs=2 * followers.FINE)
    assert delays.percentile(0.98) == pytest.approx(0.02, abs=2 * followers.FINE)
    series = delays.series()
    assert series["delay_p50_s"] == pytest.approx([0.001, 0, 0.005], abs=0.001)
    assert series["delay_max_s"] == pytest.approx([9.999, 0, 0.005], abs=0.001)  # the last bin holds what is later


# ----------------------------------------------------------------------------------------------------- followers


class Streams:
    """A watch over a reference and two readers, and the servers' ends of their connections."""

    def __init__(self, stack: ExitStack) -> None:
        self.servers: list[socket.socket] = []
        clients = []
        for _ in range(3):
            server, client = socket.socketpair()
            self.servers.append(stack.enter_context(server))
            clients.append(cast(Client, SimpleNamespace(socket=stack.enter_context(client))))
        told, self.tell = os.pipe()
        stack.callback(os.close, self.tell)
        self.watch = Watch(clients, stack.enter_context(os.fdopen(told)))

    def send(self, number: int, data: bytes) -> None:
        self.servers[number].sendall(data)
        assert self.watch.step(10)


@pytest.fixture
def streams() -> Iterator[Streams]:
    with ExitStack() as stack:
        yield Streams(stack)


def test_a_reader_is_late_for_each_piece_of_the_reference(streams: Streams) -> None:
    streams.send(0, b"abc")
    streams.send(0, b"defg")
    streams.send(1, b"ab")
    assert streams.watch.delays.count == 0
    streams.send(1, b"c")
    assert streams.watch.delays.count == 1
    streams.send(1, b"defg")
    streams.send(2, b"abcdefg")
    assert streams.watch.delays.count == 4
    assert streams.watch.delays.worst > 0
    assert streams.watch.totals == [7, 7, 7]


def test_a_reader_before_the_reference_is_not_late(streams: Streams) -> None:
    streams.send(1, b"abcde")
    assert streams.watch.delays.count == 0
    streams.send(0, b"abc")
    assert (streams.watch.delays.count, streams.watch.delays.worst) == (1, 0.0)
    streams.send(0, b"de")
    assert (streams.watch.delays.count, streams.watch.delays.worst) == (2, 0.0)
    streams.send(2, b"abcde")
    assert streams.watch.delays.count == 4
    assert streams.watch.delays.worst > 0


def test_the_watch_is_told_to_end_and_notices_lost_connections(streams: Streams) -> None:
    told = [streams.watch.told]
    os.write(streams.tell, b'{"end": true}\n')
    assert streams.watch.step(10)
    assert [*told, streams.watch.told] == [False, True]
    streams.servers[2].close()
    with pytest.raises(ReadersFailed, match="reader 2"):
        streams.watch.step(10)


# ------------------------------------------------------------------------------------------- places and readers


@pytest.mark.parametrize(
    ("share", "last"), [(0.1, 100), (0.5, 500), (1.0, 999), (0.0, 1)], ids=["tenth", "half", "all but one", "one"]
)
def test_a_seek_begins_behind_so_many_transactions(share: float, last: int) -> None:
    everything = GtidSet.parse(f"{UUID}:1-1000")
    assert str(seeks.first_of(everything, share)) == (f"{UUID}:1-{last}" if last > 1 else f"{UUID}:1")


@pytest.mark.parametrize("size", SIZES)
def test_every_number_of_readers_has_its_targets(size: str) -> None:
    whom = {target.who for target in fanout.SECTION.targets}
    for readers in SIZES[size].followers:
        assert readers == 0 or fanout.who_of(readers, fanout.BINLOGD) in whom


# --------------------------------------------------------------------------------------------------------- plots


@pytest.mark.slow
def test_each_section_has_its_plot(tmp_path: Path) -> None:
    from testbed.bench import plots

    names = "dump_s wall_s cpu_s start_s seek_s p50_s p99_s tps readers threads files served_bytes peak_rss_bytes"
    figures = dict.fromkeys(names.split(), 1.5)
    series = {"delay_max_s": [0.001, 0.002], "at_s": [1.0, 2.0], "ack_p99_s": [0.001, 0.001]}
    series |= {"receive_rss_bytes": [1e6, 2e6], "serve_rss_bytes": [1e6, 2e6]}
    outcomes = [
        Outcome(
            section,
            [Sample("5 MB", "1 reader of binlogd", 1, figures, series), Sample("7 MB", "own", 1, figures, series)],
        )
        for section in SECTIONS
    ]
    drawn = plots.draw(tmp_path, outcomes)
    assert [path.stem for path in drawn] == [section.name for section in SECTIONS]
    first = [path.read_bytes() for path in drawn]
    assert all(b"own" in text for text in first)
    plots.draw(tmp_path, outcomes)
    assert [path.read_bytes() for path in drawn] == first  # nothing of the moment is in them
