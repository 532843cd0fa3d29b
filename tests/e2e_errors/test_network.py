"""The line to a real source, broken, silent, slow and lying: all comes back by itself, and not a byte is wrong.

Places are sampled, every STEP-th byte from a random one on (printed when a test fails); the versions marked slow take
every byte.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogd.receiver.session import Tls
from binlogd.wire.compression import Algorithm
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Option, Server
from testbed.proxy import DOWN, UP, Cut, Direction, Proxy
from tests.e2e.support import NEVER_WITHOUT_ACK, semi_sync_status
from tests.e2e_errors.line import Line, Place, Recording, at_once, history_of, record

__all__ = ["at_once"]

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("at_once")]

STEP = 7
SAMPLES = 24  # places on a connection that is encrypted or compressed

STEPS = pytest.mark.parametrize("step", [STEP, pytest.param(1, marks=pytest.mark.slow)])


def places(first: int, behind: int, step: int = STEP) -> Sequence[int]:
    """Every ``step``-th from a random one on."""
    start = first + random.randrange(step)
    print(f"places {start}, {start + step}, … {behind}")
    return range(start, behind, step)


@dataclass(frozen=True, slots=True)
class Past:
    """A source at rest: what it has logged, and what a connection that receives all of that carries."""

    source: Server
    history: dict[str, bytes]
    end: Place
    recording: Recording

    @contextmanager
    def line(self, folder: Path, **options: Any) -> Iterator[tuple[Proxy, Line]]:
        """An empty store and its receiver, not begun, on a line of its own."""
        with Proxy(self.source.host, self.source.port) as proxy:
            yield proxy, Line(folder, proxy, history=self.history, **options)


def make_past(folder: Path, distribution: Distribution, **options: Option) -> Iterator[Past]:
    with Cluster(folder, distribution) as cluster:
        source = cluster.server(semi_sync="source", options={**NEVER_WITHOUT_ACK, **options})
        source.execute(
            "SET GLOBAL rpl_semi_sync_source_enabled = 0",
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY)",
            "INSERT INTO d.t VALUES (1)",
            "FLUSH BINARY LOGS",
            "INSERT INTO d.t VALUES (2)",
            "SET GLOBAL rpl_semi_sync_source_enabled = 1",
        )
        yield Past(source, history_of(source), source.position(), record(folder, source))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Past]:
    """A source with two small files and a semi-synchronous replica's rights."""
    yield from make_past(tmp_path_factory.mktemp("past"), mysql)


@pytest.fixture(scope="module")
def past_without_checksums(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Past]:
    yield from make_past(tmp_path_factory.mktemp("unchecked"), mysql, binlog_checksum="NONE")


def receive_all(past: Past, folder: Path, fault: Callable[[Proxy], None], **options: Any) -> list[str]:
    """Receive everything into an empty store, with one fault on the way; the errors that ended connections.

    Nothing is waited for on this disk: what is durable is another test's matter.
    """
    with past.line(folder, durable=False, **options) as (proxy, line):
        fault(proxy)
        with line:
            line.wait_for(past.end)
        assert line.stored() == past.history
        return line.progress.errors


GREETING = 128  # bytes of it at most: a bit of its nonce that flips makes the password a wrong one, which is refused


# --- cut ---


@STEPS
@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("direction", Direction)
def test_a_cut_in_the_log_in(past: Past, tmp_path: Path, direction: Direction, how: Cut, step: int) -> None:
    """One receiver, which comes back by itself each time, from the first byte of the greeting to the dump command."""
    size = past.recording.log_in if direction is DOWN else len(past.recording.up)
    cuts = places(0, size, step)
    with past.line(tmp_path) as (proxy, line), line:
        line.wait_for(past.end)
        proxy.cut_each(cuts, direction, how)
        proxy.cut()
        line.until(lambda: proxy.cuts_left == 0, timeout=600)
        line.wait_streaming()
        assert line.progress.reconnects == len(line.progress.errors) == len(cuts) + 1
        assert line.stored() == past.history


@pytest.mark.parametrize("step", [8 * STEP, *(pytest.param(step, marks=pytest.mark.slow) for step in (STEP, 1))])
def test_a_cut_in_the_dump(past: Past, tmp_path: Path, step: int) -> None:
    """An empty store for every byte: it ends up as the source's, and never was anything else on the way."""
    for cut in places(past.recording.log_in, past.recording.dump, step):
        for how in Cut if step == 1 else [random.choice([*Cut])]:

            def strike(proxy: Proxy, at: int = cut, how: Cut = how) -> None:
                proxy.cut_after(at, DOWN, how)

            errors = receive_all(past, tmp_path / f"{cut}-{how.value}", strike)
            assert len(errors) == 1, f"{how} at {cut}: {errors}"


@pytest.mark.parametrize(
    "options",
    [{"tls": Tls.REQUIRED}, {"compression": Algorithm.ZLIB}, {"tls": Tls.REQUIRED, "compression": Algorithm.ZSTD}],
    ids=["TLS", "zlib", "TLS and zstd"],
)
@pytest.mark.parametrize("fault", ["cut", "flip"])
def test_other_lines(past: Past, tmp_path: Path, options: dict[str, Any], fault: str) -> None:
    """Encrypted or compressed, all over the connection; how long one is differs from time to time."""
    size = record(tmp_path, past.source, **options).dump
    first, hits = 0, 0
    if fault == "flip":  # in clear nothing proves an answer in the log-in, and a frame adds 7 bytes to each
        plain = past.recording
        first = GREETING if "tls" in options else plain.log_in + 7 * len(plain.answers)
    for at in places(first, size - STEP, max((size - first) // SAMPLES, 1)):
        how, bit = random.choice([*Cut]), 1 << random.randrange(8)

        def strike(proxy: Proxy, at: int = at, how: Cut = how, bit: int = bit) -> None:
            if fault == "cut":
                proxy.cut_after(at, DOWN, how)
            else:
                proxy.corrupt_at(at, DOWN, bit)

        folder = tmp_path / str(at)
        errors = receive_all(past, folder, strike, connect_timeout=2.0, read_timeout=2.0, **options)
        assert len(errors) <= 2, f"{fault} at {at} ({how}, {bit:#x}): {errors}"
        hits += bool(errors)
    assert hits > SAMPLES // 2


def test_a_cut_while_the_password_is_exchanged(past: Past, tmp_path: Path) -> None:
    """A source that has just started does not remember the log-in: it sends its key, and gets the password under it."""
    with past.line(tmp_path) as (proxy, line), line:
        line.wait_for(past.end)
        for cut in places(80, 700, 31):
            past.source.execute("SET SESSION sql_log_bin = 0", "FLUSH PRIVILEGES")
            reconnects = line.progress.reconnects
            proxy.cut_each([cut])
            proxy.cut()
            line.until(lambda then=reconnects: line.progress.reconnects == then + 2)  # type: ignore[misc]
            line.wait_streaming()
        assert line.stored() == past.history


# --- altered ---


@pytest.mark.parametrize("step", [3 * STEP, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit(past: Past, tmp_path: Path, step: int) -> None:
    """Anywhere in the dump: heads of packets, marks of semi-sync, events and their checksums."""
    for at in places(past.recording.log_in, past.recording.dump, step):
        bit = 1 << random.randrange(8)
        errors = receive_all(past, tmp_path / str(at), lambda proxy, at=at, bit=bit: proxy.corrupt_at(at, DOWN, bit))  # type: ignore[misc]
        assert len(errors) <= 1, f"bit {bit:#x} of {at}: {errors}"


@STEPS
def test_a_flipped_bit_without_checksums(past_without_checksums: Past, tmp_path: Path, step: int) -> None:
    """What says where events and packets begin and end is proved by the next one; what is within nobody can prove."""
    past = past_without_checksums
    structure = [
        at + offset
        for at, _ in past.recording.boundaries[:-1]
        for offset in (0, 1, 2, 3, 4, 5, 7 + 9, 7 + 10, 7 + 11, 7 + 12)
    ]
    for at in structure[random.randrange(step) :: step]:
        bit = 1 << random.randrange(8)
        errors = receive_all(past, tmp_path / str(at), lambda proxy, at=at, bit=bit: proxy.corrupt_at(at, DOWN, bit))  # type: ignore[misc]
        assert len(errors) == 1, f"bit {bit:#x} of {at}: {errors}"


LIES = {
    "an error": b"\xff\x86\x04#08S01Got an error writing communication packets",
    "an end": b"\xfe\0\0\2\0",
    "an OK": b"\0\0\0\2\0\0\0",
    "nothing": b"",
    "garbage": bytes(range(1, 100)),
}
WORDS = {
    "an error": "Got an error writing",
    "an end": "the source ended the dump",
    "an OK": "is no event|lacks its mark",
    "nothing": "is no event",
    "garbage": "is no event",
    "another sequence id": "out of order",
    "a packet too long": "a packet of 16777215 bytes begins with an event of|lacks its mark|is no event",
}


@pytest.mark.parametrize("lie", WORDS)
def test_what_no_source_says_within_a_dump(past: Past, tmp_path: Path, lie: str) -> None:
    boundaries = past.recording.boundaries
    for number, (at, sequence) in enumerate(boundaries[:: len(boundaries) // 5]):
        if lie == "another sequence id":
            data = b"\5\0\0" + bytes([sequence + 1]) + b"\0\xef\0\0\0"
        elif lie == "a packet too long":
            data = b"\xff\xff\xff" + bytes([sequence])
        else:
            data = len(LIES[lie]).to_bytes(3, "little") + bytes([sequence]) + LIES[lie]
        errors = receive_all(
            past,
            tmp_path / str(number),
            lambda proxy, at=at, data=data: proxy.insert_at(at, data),  # type: ignore[misc]
        )
        assert len(errors) == 1
        assert any(word in errors[0] for word in WORDS[lie].split("|")), errors


def test_an_ok_where_rows_are_due(past: Past, tmp_path: Path) -> None:
    """All answers after it answer another question: none of them makes us store or refuse anything."""
    for number, at in enumerate(past.recording.answers):
        errors = receive_all(
            past,
            tmp_path / str(number),
            lambda proxy, at=at: proxy.insert_at(at, b"\7\0\0\1\0\0\0\2\0\0\0"),  # type: ignore[misc]
        )
        assert len(errors) == 1, f"at {at}: {errors}"


def test_single_bytes(past: Past, tmp_path: Path) -> None:
    """A line that carries one byte at a time is slow, and nothing else."""
    assert receive_all(past, tmp_path, lambda proxy: proxy.pace(1, 0.0001)) == []


# --- silent ---


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 1.0])
def test_a_source_that_stalls(past: Past, tmp_path: Path, part: float) -> None:
    """In the greeting, in an answer, within an event: after the time that is set it is given up, without spinning."""
    at = int(part * past.recording.dump) + (1 if part < 1 else -3)
    with past.line(tmp_path, connect_timeout=0.5, read_timeout=0.5) as (proxy, line):
        proxy.stall(DOWN, at=at)
        with line:
            began = time.monotonic()
            line.until(lambda: len(line.progress.errors) >= 2)
            assert time.monotonic() - began >= 0.9, "twice what was set"
            assert line.cpu < 0.5
            said = ("was silent for 0.5 s", "did not finish the login within 0.5 s")
            assert all(any(text in error for text in said) for error in line.progress.errors)
            proxy.resume()
            proxy.cut()
            line.wait_for(past.end)
            line.wait_streaming()
        assert line.stored() == past.history


def test_nothing_grows(past: Past, tmp_path: Path) -> None:
    """Hundreds of connections that ended within the dump: memory and descriptors are where they were."""
    middle = past.recording.log_in + 60  # within the FORMAT_DESCRIPTION that a dump repeats

    def held() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))

    with past.line(tmp_path) as (proxy, line), line:
        line.wait_for(past.end)
        sizes = []
        for _ in range(3):
            proxy.cut_each([middle] * 60)
            proxy.cut()
            line.until(lambda: proxy.cuts_left == 0)
            line.wait_streaming()
            gc.collect()
            sizes.append(held())
        assert line.progress.reconnects == 3 * 61
        assert sizes[2][0] - sizes[0][0] < 8 << 20, sizes
        assert sizes[2][1] <= sizes[0][1] + 1, sizes


# --- commits that wait for us ---


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    """A source whose commits wait for a receiver, however long."""
    with Cluster(tmp_path_factory.mktemp("live"), mysql) as cluster:
        source = cluster.server(semi_sync="source", options=NEVER_WITHOUT_ACK)
        source.execute(
            "SET GLOBAL rpl_semi_sync_source_enabled = 0",
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(100))",
            "SET GLOBAL rpl_semi_sync_source_enabled = 1",
        )
        yield source


@dataclass(frozen=True, slots=True)
class Live:
    """A source under load of one client, and the receiver that its commits wait for."""

    source: Server
    proxy: Proxy
    line: Line
    pool: ThreadPoolExecutor

    def commit(self) -> Future[None]:
        """A transaction of its own, whose end the future is."""
        return self.pool.submit(self.source.execute, "INSERT INTO d.t (b) VALUES (REPEAT('x', 100))")

    def assert_durable(self) -> None:
        """What the source has logged is durable here; called when a commit has returned, and none is under way."""
        file, position = self.source.position()
        assert self.line.disk.sizes[file] >= position


@contextmanager
def live(source: Server, folder: Path, **options: Any) -> Iterator[Live]:
    source.execute("FLUSH BINARY LOGS")
    with (
        Proxy(source.host, source.port) as proxy,
        Line(folder, proxy, start="current", **options) as line,
        ThreadPoolExecutor(1) as pool,
    ):
        line.wait_streaming()
        counted = semi_sync_status(source)
        yield Live(source, proxy, line, pool)
        line.wait_for(source.position())
        history = history_of(source)
        line.until(lambda: line.progress.position == source.position()[1])
        assert line.stored() == {name: history[name] for name in line.stored()}
        assert semi_sync_status(source)["no_tx"] == counted["no_tx"], "a commit came through without us"


@pytest.mark.parametrize("step", [89, pytest.param(STEP, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ["flip", *Cut])
def test_a_fault_within_what_a_commit_waits_for(source: Server, tmp_path: Path, fault: str | Cut, step: int) -> None:
    """It returns when its transaction has come whole, and is durable: not before, and without anybody's help."""
    size = 420  # bytes that a commit makes the source send, and a little more: the next one's are hit then
    with live(source, tmp_path) as now:
        before = semi_sync_status(source)
        commits = 0
        for ahead in places(0, size, step):  # a second each: mysqld looks so often for who has come back
            at = now.proxy.forwarded(DOWN) + ahead
            if fault == "flip":
                now.proxy.corrupt_at(at, DOWN, 1 << random.randrange(8))
            else:
                assert isinstance(fault, Cut)
                now.proxy.cut_after(at, DOWN, fault)
            now.commit().result(60)
            now.assert_durable()
            commits += 1
        assert semi_sync_status(source)["yes_tx"] - before["yes_tx"] == commits
        assert len(now.line.progress.errors) > commits // 2


@pytest.mark.parametrize("direction", [pytest.param(DOWN, marks=pytest.mark.slow), None], ids=["half", "both ways"])
def test_a_source_that_vanished(source: Server, tmp_path: Path, direction: Direction | None) -> None:
    """No end, no reset, no heartbeat: given up after read_timeout, and what waited meanwhile returns then."""
    with live(source, tmp_path, read_timeout=2.0) as now:
        time.sleep(2.5)  # longer than that of nothing but heartbeats
        assert now.line.progress.errors == []
        now.proxy.freeze(direction)
        commit = now.commit()
        now.line.until(lambda: now.line.progress.errors)
        commit.result(60)
        now.assert_durable()
        assert "was silent for 2 s" in now.line.progress.errors[0]


def test_a_source_that_does_not_hear_us(source: Server, tmp_path: Path) -> None:
    """Its heartbeats come, our acknowledgements do not arrive: the commit waits, and is told nothing that is not so.

    Only the source can notice, by its own timeout; whatever ends the connection mends it.
    """
    with live(source, tmp_path, read_timeout=2.0) as now:
        now.proxy.freeze(UP)
        commit = now.commit()
        now.line.until(lambda: now.line.acks or now.line.progress.acks_sent)
        time.sleep(2.5)
        assert not commit.done()
        assert now.line.progress.errors == []
        now.proxy.cut()
        commit.result(60)
        now.assert_durable()


def test_a_source_that_gives_up_waiting(source: Server, tmp_path: Path) -> None:
    """By its own timeout it goes on without us; we catch up, and it waits for us again."""
    with live(source, tmp_path, read_timeout=3.0) as now:
        source.execute("SET GLOBAL rpl_semi_sync_source_timeout = 200")
        before = semi_sync_status(source)
        state = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_status'"
        try:
            now.proxy.freeze(DOWN)
            now.commit().result(60)
            given_up = semi_sync_status(source)
            assert given_up["no_tx"] == before["no_tx"] + 1
            assert given_up["yes_tx"] == before["yes_tx"], "nobody had it"
            assert source.query(state)[0][1] == "OFF"
            now.line.wait_for(source.position())
            source.wait_until(lambda: source.query(state)[0][1] == "ON", what="semi-sync ON again")
            source.execute("SET GLOBAL rpl_semi_sync_source_timeout = 300000")
            now.commit().result(60)
            now.assert_durable()
            after = semi_sync_status(source)
            assert after["yes_tx"] == before["yes_tx"] + 1
            assert after["no_tx"] == given_up["no_tx"]
        finally:
            source.execute("SET GLOBAL rpl_semi_sync_source_timeout = 300000", "FLUSH STATUS")
