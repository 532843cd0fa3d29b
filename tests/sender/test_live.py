"""Many replicas at the live tail: what each hears, what it costs, and that none of them is in another's way."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.events import Heartbeat
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import EventType, Header
from binlogd.errors import Refusal
from binlogd.sender.blocks import FRAMED, Blocks
from binlogd.sender.catalog import Catalog
from binlogd.sender.certificates import tls_context
from binlogd.sender.dump import Dump, DumpRequest
from binlogd.sender.live import GRAIN, LONGEST_REST, REST, SHARED, LiveTail, Pace
from binlogd.store.disk import Disk
from tests.binlog.making import UUID_A, UUID_B, Log
from tests.sender.support import PATIENCE, Pair, is_heartbeat, make_dump, request, trusting
from tests.store.support import FIRST, SECOND, make_store, newest


async def until(condition: Callable[[], Any]) -> None:
    """Wait for it."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - of any kind
            await asyncio.sleep(0.001)


class Counting(Coroutine[Any, Any, None]):
    """A coroutine that knows how often its task was woken."""

    def __init__(self, within: Coroutine[Any, Any, None]) -> None:
        self._within = within
        self.steps = 0

    def send(self, value: Any) -> Any:
        self.steps += 1
        return self._within.send(value)

    def throw(self, *error: Any) -> Any:
        self.steps += 1
        return self._within.throw(*error)

    def close(self) -> None:
        self._within.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._within.__await__()


@dataclass
class Replica:
    """A dump that runs, and the client at its other end."""

    dump: Dump
    pair: Pair
    running: Counting
    task: asyncio.Task[None]

    async def hears(self, *expected: bytes) -> None:
        assert await self.pair.client.events(len(expected)) == list(expected)

    def breaks_off(self) -> None:
        """As a machine that lost its power and came back."""
        client = self.pair.client.socket
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


class Source:
    """A store whose newest file grows, and whoever follows it."""

    def __init__(self, path: Path) -> None:
        self.log = Log().begin_file()
        self.name = FIRST
        self.folder = make_store(path, {FIRST: self.log.data})
        self.catalog = Catalog(self.folder)
        self.catalog.read()
        self.blocks = Blocks()
        self.live = LiveTail(self.catalog, self.blocks)
        self._gno = 0

    @property
    def path(self) -> Path:
        return newest(self.folder).path / self.name

    def write(self, *sizes: int) -> list[bytes]:
        """A transaction with rows of these sizes; its events."""
        before, at = len(self.log.events), len(self.log.data)
        self._gno += 1
        self.log.transaction(self._gno, sizes=sizes or (100,))
        with self.path.open("ab") as file:
            file.write(self.log.data[at:])
        return [self.log.event(index) for index in range(before, len(self.log.events))]

    def rotate(self) -> list[bytes]:
        """End the file and begin another; the events."""
        self.log.rotate(SECOND)
        ended = self.log.event(len(self.log.events) - 1)
        self.path.write_bytes(self.log.data)
        self.name, self.log = SECOND, Log().begin_file(f"{UUID_A}:1-{self._gno}")
        self.path.write_bytes(self.log.data)
        return [ended, *self.log.each()]

    def announce(self) -> None:
        """Tell the sender of all that was written."""
        self.catalog.update(replace(self.catalog.publication, file=self.name, position=self.log.position))

    def publish(self, *sizes: int) -> list[bytes]:
        events = self.write(*sizes)
        self.announce()
        return events

    @asynccontextmanager
    async def replicas(self, *asked: DumpRequest, small: int = -1) -> AsyncIterator[list[Replica]]:
        """So many that heard all there is and attend; that of index ``small`` has buffers of a few KiB."""
        with ExitStack() as stack:
            found = []
            for index, wanted in enumerate(asked):
                pair = stack.enter_context(Pair(small_buffers=index == small))
                dump = make_dump(self.catalog, wanted, pair, live=self.live)
                running = Counting(dump.run())
                found.append(Replica(dump, pair, running, asyncio.ensure_future(running)))
            try:
                for replica in found:
                    async with asyncio.timeout(PATIENCE):
                        await replica.pair.client.events(1 + len(self.log.events))
                await until(lambda: self.live.size == len(asked))
                yield found
            finally:
                for replica in found:
                    replica.task.cancel()
                await asyncio.gather(*(replica.task for replica in found), return_exceptions=True)
                assert self.live.size == 0

    def play(self, body: Callable[[list[Replica]], Awaitable[None]], *asked: DumpRequest, small: int = -1) -> None:
        """Run the body with these replicas."""

        async def played() -> None:
            async with self.replicas(*asked, small=small) as replicas:
                await body(replicas)

        asyncio.run(played())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


TAIL = request(FIRST, blocking=True)


# --------------------------------------------------------------------------------------------------- what they hear


def test_everybody_hears_everything(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        for _ in range(20):
            events = source.publish()
            for replica in replicas:
                await replica.hears(*events)
                assert replica.dump.place == (FIRST, source.log.position)
                assert replica.dump.lag_bytes() == 0
                assert replica.dump.between_packets
        size = sum(5 + len(event) for event in source.log.each())
        assert len({replica.dump.sent_bytes for replica in replicas}) == 1
        assert replicas[0].dump.sent_bytes > size
        assert replicas[0].dump.last_event_time == Header.decode(events[0]).timestamp

    source.play(body, *[TAIL] * 7)


def test_a_publication_wakes_no_task_and_reads_one_block(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(replicas: list[Replica]) -> None:
        reads: list[int] = []
        read = source.blocks.read

        def counted(descriptor: int, size: int, position: int) -> int:
            reads.append(position)
            return read(descriptor, size, position)

        monkeypatch.setattr(source.blocks, "read", counted)
        woken = [replica.running.steps for replica in replicas]
        for _ in range(30):
            events = source.publish()
            for replica in replicas:
                await replica.hears(*events)
        assert [replica.running.steps for replica in replicas] == woken
        assert len(reads) == len(set(reads)) == 30

    source.play(body, *[TAIL] * 10)


def test_publications_that_come_during_a_rest_are_delivered_together(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = True
    monkeypatch.setattr(Pace, "rest", lambda *_: 0.001 if resting else 0.0)

    async def body(replicas: list[Replica]) -> None:
        nonlocal resting
        takes: list[int] = []
        take = Dump.take

        def counted(dump: Dump, start: int, end: int, packets: memoryview, now: float) -> bool:
            takes.append(end)
            return take(dump, start, end, packets, now)

        monkeypatch.setattr(Dump, "take", counted)
        events = []
        for _ in range(5):
            events += source.publish()
            await asyncio.sleep(0.002)
        assert takes == []
        resting = False
        for replica in replicas:
            await replica.hears(*events)
        assert takes == [source.log.position] * len(replicas)

    source.play(body, *[TAIL] * 3)


def test_who_comes_during_a_rest_hears_nothing_twice(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands before the others, which are yet to hear what was published last."""
    resting = False
    monkeypatch.setattr(Pace, "rest", lambda *_: 0.001 if resting else 0.0)

    async def body(replicas: list[Replica]) -> None:
        nonlocal resting
        resting = True
        first = source.publish()
        with Pair() as pair:
            dump = make_dump(source.catalog, TAIL, pair, live=source.live)
            task = asyncio.create_task(dump.run())
            assert (await pair.client.events(1 + len(source.log.events)))[-len(first) :] == first
            await until(lambda: source.live.size == 2)
            second = source.publish()
            resting = False
            await replicas[0].hears(*first, *second)
            assert await pair.client.events(len(second)) == second
            assert dump.place == replicas[0].dump.place
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    source.play(body, TAIL)


def test_what_is_published_as_the_first_arrives_is_not_missed(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = LiveTail._begin
    events: list[bytes] = []

    def published(live: LiveTail, index: int, position: int) -> None:
        begin(live, index, position)
        events.extend(source.publish())

    async def body() -> None:
        before = source.log.each()
        monkeypatch.setattr(LiveTail, "_begin", published)
        with Pair() as pair:
            task = asyncio.create_task(make_dump(source.catalog, TAIL, pair, live=source.live).run())
            heard = await pair.client.events(1 + len(before) + 5)
            assert heard[1:] == [*before, *events]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(body())


def test_each_by_its_own_terms(source: Source) -> None:
    """By position, by GTID, and by GTID with what comes next already there."""
    source.write()
    source.catalog.read()

    async def body(replicas: list[Replica]) -> None:
        end = source.log.position
        for _ in range(2):
            events = source.publish()
            await replicas[0].hears(*events)
            await replicas[1].hears(*events)
            beat = await replicas[2].pair.client.event()
            assert is_heartbeat(beat)
            assert Heartbeat.decode(beat, 4).position == source.log.position > end
            end = source.log.position
        await until(lambda: source.live.size == 3)
        events = source.publish()
        for replica in replicas:
            await replica.hears(*events)

    source.play(body, TAIL, request(has=f"{UUID_B}:1", blocking=True), request(has=f"{UUID_A}:2-3", blocking=True))


def test_the_next_file(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        events = source.write()
        ended, *begun = source.rotate()
        events.append(ended)
        begun += source.write()
        source.announce()
        for replica in replicas:
            await replica.hears(*events)
            rotate = await replica.pair.client.event()
            assert (Header.decode(rotate).type, Header.decode(rotate).flags) == (EventType.ROTATE, 0x20)
            await replica.hears(*begun)
        await until(lambda: source.live.size == 3)
        events = source.publish()
        for replica in replicas:
            await replica.hears(*events)
            assert replica.dump.place == (SECOND, source.log.position)

    source.play(body, *[TAIL] * 3)


def test_who_is_first_at_the_end_of_the_next_file_fetches_the_others(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = False
    monkeypatch.setattr(Pace, "rest", lambda *_: 0.001 if resting else 0.0)

    async def body(replicas: list[Replica]) -> None:
        nonlocal resting
        resting = True
        ended, *begun = source.rotate()
        source.announce()
        with Pair() as pair:
            task = asyncio.create_task(make_dump(source.catalog, TAIL, pair, live=source.live).run())
            for replica in replicas:
                await replica.hears(ended)
                await replica.pair.client.event()
                await replica.hears(*begun)
            await until(lambda: source.live.size == 4)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        resting = False
        events = source.publish()
        for replica in replicas:
            await replica.hears(*events)

    source.play(body, *[TAIL] * 3)


def test_much_at_once_is_history(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(replicas: list[Replica]) -> None:
        monkeypatch.setattr(Dump, "take", None)
        for sizes in ((SHARED,), (SHARED, SHARED, 3 * SHARED)):
            events = source.publish(*sizes)
            for replica in replicas:
                await replica.hears(*events)
            await until(lambda: source.live.size == 3)
        monkeypatch.undo()
        events = source.publish()
        for replica in replicas:
            await replica.hears(*events)

    source.play(body, *[TAIL] * 3)


def test_over_tls(source: Source, tmp_path: Path) -> None:
    context = tls_context(tmp_path, Disk(), certificate=None, key=None)

    async def body(replicas: list[Replica]) -> None:
        with Pair() as pair:
            client = pair.client.socket
            client.setblocking(True)
            client.settimeout(PATIENCE)
            wrapped, _ = await asyncio.gather(
                asyncio.to_thread(trusting().wrap_socket, client), pair.channel.start_tls(context, b"")
            )
            task = asyncio.create_task(make_dump(source.catalog, TAIL, pair, live=source.live).run())
            await until(lambda: source.live.size == 2)
            before = source.log.each()
            events = [*source.publish(), *source.publish(100, 20_000)]
            heard: list[bytes] = []

            def listen(wrapped: ssl.SSLSocket) -> None:
                while len(heard) < 1 + len(before) + len(events):
                    pair.client.reader.feed(wrapped.recv(1 << 20))
                    while (payload := pair.client.reader.next()) is not None:
                        heard.append(payload[1:])

            await asyncio.to_thread(listen, wrapped)
            assert heard[1:] == [*before, *events]
            await replicas[0].hears(*events)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            wrapped.close()

    source.play(body, TAIL)


# ------------------------------------------------------------------------------------- those who are in nobody's way


def test_a_replica_that_takes_nothing_holds_up_nobody_and_little_memory(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        stuck, *others = replicas
        missed: list[bytes] = []
        while source.live.size == 3 or len(missed) < 1000:
            events = source.publish(8000)
            missed += events
            for replica in others:
                await replica.hears(*events)
            assert len(stuck.pair.channel._rest) <= FRAMED
        assert not stuck.dump.between_packets
        assert stuck.dump.lag_bytes() > 0
        while missed:
            await stuck.hears(missed.pop(0))
        await until(lambda: source.live.size == 3)
        events = source.publish()
        for replica in replicas:
            await replica.hears(*events)
        assert len({replica.dump.place for replica in replicas}) == 1
        assert len({replica.dump.sent_bytes for replica in replicas}) == 1

    source.play(body, *[TAIL] * 3, small=0)


def test_a_replica_that_takes_nothing_for_too_long(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogd.sender.dump.SEND_TIMEOUT", 0.1)

    async def body(replicas: list[Replica]) -> None:
        stuck, other = replicas
        while not stuck.task.done():
            await other.hears(*source.publish(8000))
        with pytest.raises(TimeoutError):
            await stuck.task

    source.play(body, TAIL, TAIL, small=0)


def test_a_replica_that_vanishes(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        gone, other = replicas
        gone.breaks_off()
        while not gone.task.done():
            await other.hears(*source.publish())
        with pytest.raises(OSError):
            await gone.task
        assert source.live.size == 1
        await other.hears(*source.publish())

    source.play(body, TAIL, TAIL)


def test_a_dump_that_is_ended(source: Source) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))

    async def body(replicas: list[Replica]) -> None:
        replicas[1].task.cancel()
        events = source.publish()
        await replicas[0].hears(*events)
        await until(lambda: source.live.size == 2)
        for replica in replicas:
            replica.task.cancel()
        await until(lambda: source.live.size == 0)
        assert source.live._task is None
        source.publish()
        await asyncio.gather(*(replica.task for replica in replicas), return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    source.play(body, *[TAIL] * 3)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_not_sound(source: Source) -> None:
    """Each hears what is sound before it, and then that it is over for good."""

    async def body(replicas: list[Replica]) -> None:
        good = source.write()
        with source.path.open("ab") as file:
            file.write(bytes(100))
        source.catalog.update(replace(source.catalog.publication, position=source.log.position + 100))
        for replica in replicas:
            await replica.hears(*good)
            with pytest.raises(Refusal, match=f"{FIRST}: the event at"):
                await replica.task
            assert replica.dump.between_packets

    source.play(body, *[TAIL] * 3)


def test_what_is_not_there(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        source.catalog.update(replace(source.catalog.publication, position=source.log.position + 100))
        for replica in replicas:
            with pytest.raises(Refusal, match=f"{FIRST} is shorter than it was"):
                await replica.task

    source.play(body, *[TAIL] * 3)


def test_a_mistake_of_ours_is_everybodys_to_tell(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(replicas: list[Replica]) -> None:
        monkeypatch.setattr(LiveTail, "_deliver", None)
        source.publish()
        for replica in replicas:
            with pytest.raises(TypeError):
                await replica.task
        monkeypatch.undo()
        assert source.live._task is None

    source.play(body, *[TAIL] * 3)


# ------------------------------------------------------------------------------------------------------- heartbeats


class Silent:
    """A member whose heartbeat is due when the test says so."""

    def __init__(self, *due: float | None) -> None:
        self._due = list(due)

    @property
    def place(self) -> tuple[str, int]:
        return FIRST, 4

    def heartbeat_due(self) -> float | None:
        return self._due.pop(0)

    def take(self, start: int, end: int, packets: memoryview, now: float) -> bool:
        raise AssertionError


def test_a_heartbeat_is_put_off_by_what_is_sent_meanwhile(source: Source) -> None:
    failures: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        member = Silent(0.001, 0.001, 0.002, 0.0)
        await source.live.attend(member, 0)
        assert member._due == []
        for leaving in (Silent(None), Silent(*[0.001] * 10_000)):
            attending = asyncio.create_task(source.live.attend(leaving, 0))
            await until(lambda: source.live.size == 1)
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
            leaving._due.clear()  # who left is not asked any more: it would have no answer
        await asyncio.sleep(0.02)

    asyncio.run(body())
    assert failures == []


def test_heartbeats_of_some(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        for _ in range(3):
            beat = await replicas[0].pair.client.event()
            assert Heartbeat.decode(beat, 4) == Heartbeat(FIRST, source.log.position)
        events = source.publish()
        await replicas[1].hears(*events)
        while is_heartbeat(event := await replicas[0].pair.client.event()):
            pass
        assert event == events[0]
        await replicas[0].hears(*events[1:])
        assert is_heartbeat(await replicas[0].pair.client.event())

    source.play(body, request(FIRST, blocking=True, heartbeat=0.05), TAIL)


# ------------------------------------------------------------------------------------------------------------- pace


def test_a_short_delivery_is_followed_by_no_rest() -> None:
    pace, now = Pace(), 100.0
    for _ in range(100):
        assert pace.rest(now) == 0.0
        pace.delivered(now, now + 0.00005)
        now += 0.001


def test_short_deliveries_in_close_order_add_up() -> None:
    pace, now = Pace(), 100.0
    began, busy = now, 0.0
    for _ in range(1000):
        now += pace.rest(now)
        pace.delivered(now, now + 0.00005)
        now += 0.00005
        busy += 0.00005
    assert busy / (now - began) == pytest.approx(1 / (1 + REST), rel=0.05)


@pytest.mark.parametrize("took", [0.001, 0.004, 0.02, 1.0])
def test_a_long_delivery_is_followed_by_a_rest(took: float) -> None:
    pace = Pace()
    pace.delivered(100.0, 100.0 + took)
    assert pace.rest(100.0 + took) == pytest.approx(min(REST * took, LONGEST_REST))
    assert pace.rest(100.0 + took + LONGEST_REST - GRAIN / 2) == 0.0


class Listening:
    """A member that notes what is delivered."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.place = place
        self.taken: list[tuple[int, int]] = []

    def heartbeat_due(self) -> float | None:
        return None

    def take(self, start: int, end: int, packets: memoryview, now: float) -> bool:
        self.taken.append((start, end))
        return True


def test_what_is_published_while_the_first_one_comes_is_delivered(tmp_path: Path) -> None:
    """Before the task that delivers has made its first step."""
    source = Source(tmp_path)

    async def body() -> None:
        begin = source.log.position
        member = Listening((FIRST, begin))
        attending = asyncio.create_task(source.live.attend(member, 0))
        await asyncio.sleep(0)
        source.publish()
        await until(lambda: member.taken)
        assert member.taken == [(begin, source.log.position)]
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)

    asyncio.run(body())


def test_a_rest_outlives_who_was_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all go on by themselves and come back, what the last delivery took is not forgotten."""
    monkeypatch.setattr("binlogd.sender.live.LONGEST_REST", 3600.0)
    source = Source(tmp_path)

    async def served(took: float) -> Listening:
        member = Listening((FIRST, source.log.position))
        attending = asyncio.create_task(source.live.attend(member, 0))
        await asyncio.sleep(0)
        source.live._pace.delivered(time.monotonic(), time.monotonic() + took)
        source.publish()
        for _ in range(20):
            await asyncio.sleep(0.001)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        assert source.live.size == 0
        return member

    async def body() -> None:
        assert (await served(0.0)).taken
        assert not (await served(1000.0)).taken
        assert not (await served(0.0)).taken, "its rest is an hour"

    asyncio.run(body())


def test_what_adds_up_in_a_rest_at_10_mb_a_second_is_one_delivery(source: Source) -> None:
    async def body(replicas: list[Replica]) -> None:
        woken = [replica.running.steps for replica in replicas]
        events = source.publish(*[1000] * int(10e6 * LONGEST_REST / 1000))
        for replica in replicas:
            await replica.hears(*events)
        assert [replica.running.steps for replica in replicas] == woken

    source.play(body, *[TAIL] * 3)


# --------------------------------------------------------------------------------------------------------- fairness


@pytest.mark.parametrize("has", ["", f"{UUID_A}:1-999"], ids=["sent", "left out"])
def test_history_gives_its_turn_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: str) -> None:
    """Here after each block, as when very many are busy: neither sending nor leaving out goes on without end."""
    monkeypatch.setattr("binlogd.sender.blocks.ROUND", 0.0)
    source = Source(tmp_path)
    for _ in range(40):
        source.write(100_000)
    source.catalog.read()
    monkeypatch.setattr(source.catalog, "marks", lambda index: iter(()))  # what is left out is read
    blocks = 40 * 100_000 // (256 * 1024)

    async def body() -> None:
        turns = 0
        with Pair() as pair:
            dump = make_dump(source.catalog, request(has=GtidSet.parse(has)), pair, live=source.live)
            running = Counting(dump.run())
            task = asyncio.ensure_future(running)
            hearing = asyncio.create_task(pair.client.rest())
            while not task.done():
                turns += 1
                await asyncio.sleep(0)
            await task
            pair.hang_up()
            await hearing
        assert running.steps > blocks
        assert turns > blocks
        assert source.blocks.busy == 0

    asyncio.run(body())
