"""What a client hears of a dump, event by event."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from binlogd.binlog.crc import crc32
from binlogd.binlog.events import FormatDescription, Heartbeat, Rotate, with_created_zero
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import ChecksumAlgorithm, EventType, Header
from binlogd.errors import Refusal
from binlogd.sender import dump as dump_module
from binlogd.sender.blocks import BLOCK, Blocks
from binlogd.sender.catalog import Catalog
from binlogd.store.publication import Publication
from binlogd.store.reader import publication_of, read_store
from tests.binlog.making import CRC32, OFF, SID_A, UUID_A, UUID_B, Log, sample
from tests.sender.support import (
    SERVER_ID,
    Pair,
    all_events,
    beside,
    catalog_of,
    is_heartbeat,
    make_dump,
    request,
)
from tests.store.support import FIRST, SECOND, chain, data_of, make_store, newest

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def check_rotate(event: bytes, name: str, position: int, algorithm: ChecksumAlgorithm) -> None:
    """A fake ROTATE: timestamp 0, log_pos 0, artificial."""
    header = Header.decode(event)
    assert header == Header(0, EventType.ROTATE, SERVER_ID, len(event), 0, 0x20)
    assert Rotate.decode(event, algorithm.length) == Rotate(position, name)
    if algorithm.length:
        assert crc32(event[:-4]) == int.from_bytes(event[-4:], "little")


def check_heartbeat(event: bytes, name: str, position: int, checksum: int = 4) -> None:
    assert is_heartbeat(event)
    assert Heartbeat.decode(event, checksum) == Heartbeat(name, position)
    assert Header.decode(event).timestamp == 0
    if checksum:
        assert crc32(event[:-4]) == int.from_bytes(event[-4:], "little")


# --- by position ---


@ALGORITHMS
@pytest.mark.parametrize("announced", ["CRC32", "NONE"])
def test_a_file_from_its_beginning(tmp_path: Path, algorithm: ChecksumAlgorithm, announced: str) -> None:
    log = sample(algorithm)
    heard = all_events(catalog_of(tmp_path, {FIRST: log}), request(FIRST, checksum=announced))
    check_rotate(heard[0], FIRST, 4, CRC32 if announced == "CRC32" else OFF)
    assert heard[1:] == log.each()


def test_files_that_follow_each_other(tmp_path: Path) -> None:
    logs = {FIRST: sample(CRC32), SECOND: sample(OFF), "mysql-bin.000003": sample(OFF), "mysql-bin.000004": sample()}
    catalog = catalog_of(tmp_path, logs)
    heard = all_events(catalog, request(checksum="NONE"))
    before = OFF
    for name, log in logs.items():
        check_rotate(heard.pop(0), name, 4, before)
        assert heard[: len(log.events)] == log.each()
        del heard[: len(log.events)]
        before = log.algorithm
    assert heard == []
    second = all_events(catalog, request("mysql-bin.000003"))
    assert len(second) == 2 + len(logs["mysql-bin.000003"].events) + len(logs["mysql-bin.000004"].events)


@pytest.mark.parametrize(
    "algorithm",
    [
        CRC32,
        OFF,
    ],
    ids=["CRC32", "none"],
)
def test_a_position_at_every_byte(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    log = Log(algorithm, created=1_700_000_000).begin_file().transaction(1, sizes=(30,)).statement(2)
    catalog = catalog_of(tmp_path, {FIRST: log})
    places = {made.start for made in log.events} | {log.position}
    for position in range(log.position + 3):
        asked = request(FIRST, position)
        if position not in places:
            with pytest.raises(Refusal) as caught:
                all_events(catalog, asked)
            assert caught.value.code == 1236
            assert ("position" in caught.value.message) is (position < 4 or position > log.position)
            continue
        heard = all_events(catalog, asked)
        check_rotate(heard[0], FIRST, position, CRC32)
        assert heard[2:] == [log.event(i) for i, made in enumerate(log.events) if made.start >= max(position, 5)]
        if position == 4:
            assert heard[1] == log.event(0)
        else:
            check_edited(heard[1], log.event(0), log_pos=0)


def check_edited(fde: bytes, original: bytes, *, log_pos: int) -> None:
    """FORMAT_DESCRIPTION with created 0, and with the CRC that belongs to it."""
    assert crc32(fde[:-4]) == int.from_bytes(fde[-4:], "little")
    was, now = FormatDescription.decode(original), FormatDescription.decode(fde)
    assert was.created != 0
    assert now == replace(was, created=0)
    assert Header.decode(fde) == replace(Header.decode(original), log_pos=log_pos)


def test_behind_the_published_end(tmp_path: Path) -> None:
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data})
    catalog = Catalog(folder)
    catalog.update(replace(publication_of(read_store(folder)), position=log.ends[0]))
    heard = all_events(catalog, request(FIRST))
    assert heard[1:] == [log.event(i) for i, made in enumerate(log.events) if made.end <= log.ends[0]]
    with pytest.raises(Refusal, match="position > file size"):
        all_events(catalog, request(FIRST, log.ends[1]))


def test_large_events(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1, sizes=(700_000, 17_000_000, 0xFFFFFF - 24)).transaction(2)
    heard = all_events(catalog_of(tmp_path, {FIRST: log}), request(FIRST))
    assert heard[1:] == log.each()
    at = next(made.start for made in log.events if made.end - made.start > 17_000_000)
    assert all_events(catalog_of(tmp_path / "again", {FIRST: log}), request(FIRST, at))[2:] == [
        log.event(i) for i, made in enumerate(log.events) if made.start >= at
    ]


def test_what_the_disk_has_to_bring_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits for it, and what that finds is what is sent, and what it does not find is missed."""
    fetched: list[int] = []
    monkeypatch.setattr(Blocks, "read_cached", lambda *_: False)
    monkeypatch.setattr(dump_module, "fetch", lambda _, position: fetched.append(position))
    log = Log().begin_file().transaction(1, sizes=(700_000,)).transaction(2)
    catalog = catalog_of(tmp_path, {FIRST: log})
    assert all_events(catalog, request(FIRST))[1:] == log.each()
    assert fetched[:3] == [log.events[0].end, log.events[0].end + BLOCK, log.events[0].end + 2 * BLOCK]
    catalog.path(0).write_bytes(log.data[: log.ends[0] + 30])
    with pytest.raises(Refusal, match="is shorter than it was"):
        all_events(catalog, request(FIRST))


def test_a_client_that_knows_no_checksums(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="Replica can not handle replication events with the checksum") as caught:
        all_events(catalog_of(tmp_path, {FIRST: sample(CRC32)}), request(FIRST, checksum=None))
    assert caught.value.code == 1236
    log = sample(OFF)
    heard = all_events(catalog_of(tmp_path / "none", {FIRST: log}), request(FIRST, checksum=None))
    check_rotate(heard[0], FIRST, 4, OFF)
    assert heard[1:] == log.each()


def test_a_client_that_knows_no_checksums_comes_to_a_file_that_has_them(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, {FIRST: sample(OFF), SECOND: sample(CRC32)})
    with pytest.raises(Refusal, match="checksum"):
        all_events(catalog, request(FIRST, checksum=None))


def test_nothing_is_stored(tmp_path: Path) -> None:
    for asked in (request(), request(has=""), request(FIRST)):
        with pytest.raises(Refusal, match="Could not find first log file name"):
            all_events(catalog_of(tmp_path), asked)


def test_a_store_that_is_not_what_it_was(tmp_path: Path) -> None:
    """The client hears that the dump is over for good, and nothing that is not sound in length."""
    log = sample()
    catalog = catalog_of(tmp_path, {FIRST: log})
    path = catalog.path(0)
    path.write_bytes(log.data[:200] + bytes(len(log.data) - 200))
    with pytest.raises(Refusal, match=f"{FIRST}: the event at"):
        all_events(catalog, request(FIRST))
    path.write_bytes(log.data[: log.ends[0] + 30])
    with pytest.raises(Refusal, match="is shorter than it was"):
        all_events(catalog, request(FIRST))
    path.write_bytes(b"")
    with pytest.raises(Refusal):
        all_events(catalog, request(FIRST))


# --- by GTID ---


def expected_by_gtid(logs: Sequence[tuple[str, Log]], has: GtidSet) -> list[bytes | tuple[str, int]]:
    """Events, and (name, position) where a heartbeat must stand: the rule of protocol.md §3.4."""
    expected: list[bytes | tuple[str, int]] = []
    for name, log in logs:
        skipping, skipped = False, 0
        for index, made in enumerate(log.events[1:], 1):
            event = log.event(index)
            if made.kind in (EventType.GTID, EventType.GTID_TAGGED):
                gtid = GtidEvent.decode(event, log.checksum)
                skipping = has.contains(gtid.sid, gtid.tag, gtid.gno)
            if skipping and made.kind != EventType.ROTATE:
                skipped = made.end
                continue
            if skipped:
                expected.append((name, skipped))
                skipped = 0
            expected.append(event)
        if skipped:
            expected.append((name, skipped))
    return expected


SETS = [
    "",
    f"{UUID_A}:1",
    f"{UUID_A}:1-4",
    f"{UUID_A}:3-4",
    f"{UUID_A}:1:3:5:7:9",
    f"{UUID_A}:2-9,{UUID_B}:1-5",
    f"{UUID_A}:1-10",
    f"{UUID_B}:1-99",
]


@pytest.mark.parametrize("has", SETS)
@pytest.mark.parametrize("last", ["rotate", "stop", "nothing"])
def test_what_the_replica_has_is_left_out(tmp_path: Path, has: str, last: str) -> None:
    logs = chain(5)
    if last != "nothing":
        newest_log = list(logs.values())[-1]
        newest_log.rotate("mysql-bin.000006") if last == "rotate" else newest_log.stop()
    catalog = catalog_of(tmp_path, logs)
    held = GtidSet.parse(has)
    heard = all_events(catalog, request(has=has))
    first = Rotate.decode(heard[0], 4)
    names = list(logs)
    begun = names.index(first.name)
    assert begun == max(i for i in range(5) if (catalog.claims(i) or GtidSet()) <= held)
    expected = expected_by_gtid(list(logs.items())[begun:], held)
    got: list[bytes | tuple[str, int]] = []
    for event in heard:
        if is_heartbeat(event):
            beat = Heartbeat.decode(event, 4)
            got.append((beat.name, beat.position))
        elif Header.decode(event).flags & 0x20:
            check_rotate(event, names[begun], 4, CRC32)
            begun += 1
        elif Header.decode(event).type != EventType.FORMAT_DESCRIPTION:
            got.append(event)
    assert got == expected
    assert begun == len(names)


def test_created_is_kept_only_for_who_lacks_the_files_first_transaction(tmp_path: Path) -> None:
    """Else a replica would drop its temporary tables."""
    for tag in ("", "tag"):
        log = Log(created=1_700_000_000).begin_file().transaction(1, SID_A, tag).transaction(2, SID_A, tag)
        catalog = catalog_of(tmp_path / f"t{tag}", {FIRST: log})
        prefix = f"{UUID_A}:{tag}:" if tag else f"{UUID_A}:"
        for has, kept in (("", True), (f"{prefix}2", True), (f"{prefix}1", False), (f"{prefix}1-2", False)):
            heard = all_events(catalog, request(has=has))
            if kept:
                assert heard[1] == log.event(0)
            else:
                assert heard[1] == with_created_zero(log.event(0))
                check_edited(heard[1], log.event(0), log_pos=log.events[0].end)
    without = Log(created=1_700_000_000).begin_file()
    heard = all_events(catalog_of(tmp_path / "empty", {FIRST: without}), request(has=f"{UUID_A}:1"))
    assert heard[1] == without.event(0)


def test_by_gtid_from_a_file_and_position(tmp_path: Path) -> None:
    """As mysqlbinlog asks, and a receiver behind 4 GiB: the set only leaves out."""
    log = Log().begin_file().transaction(1).transaction(2).transaction(3)
    catalog = catalog_of(tmp_path, {FIRST: log})
    heard = all_events(catalog, request(FIRST, log.ends[0], has=f"{UUID_A}:2"))
    check_rotate(heard[0], FIRST, log.ends[0], CRC32)
    check_heartbeat(heard[2], FIRST, log.ends[1])
    assert heard[3:] == [log.event(i) for i, made in enumerate(log.events) if made.start >= log.ends[1]]
    assert all_events(catalog, request(FIRST, has=""))[1:] == log.each()


def test_purged_transactions(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, {FIRST: Log().begin_file(f"{UUID_A}:1-5").transaction(6)})
    with pytest.raises(Refusal, match=f"the missing transactions are '{UUID_A}:4-5'"):
        all_events(catalog, request(has=f"{UUID_A}:1-3"))
    assert len(all_events(catalog, request(has=f"{UUID_A}:1-5"))) == 2 + 5 + 1


def test_large_transactions_are_left_out(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1, sizes=(900_000, 900_000)).transaction(2)
    heard = all_events(catalog_of(tmp_path, {FIRST: log}), request(has=f"{UUID_A}:1"))
    check_heartbeat(heard[3], FIRST, log.ends[0])
    assert heard[4:] == [log.event(i) for i, made in enumerate(log.events) if made.start >= log.ends[0]]


def test_while_much_is_left_out_heartbeats_go_on(tmp_path: Path) -> None:
    """What is left out behind something that is sent is read."""
    log = Log().begin_file()
    for gno in range(1, 30):
        log.transaction(gno, sizes=(100_000,))
    heard = all_events(
        catalog_of(tmp_path, {FIRST: log}), request(has=f"{UUID_A}:2-28", heartbeat=1e-9, heartbeat_v2=False)
    )
    beats = [Heartbeat.decode(event, 4).position for event in heard if is_heartbeat(event)]
    assert len(beats) > 5
    ends = {made.end for made in log.events}
    assert beats[-1] == log.ends[-2]
    assert all(a < b for a, b in pairwise(beats))
    assert set(beats) <= ends
    sent = [event for event in heard[3:] if not is_heartbeat(event)]
    first, last = log.ends[0], log.ends[-2]
    assert sent == [
        log.event(i) for i, made in enumerate(log.events) if i > 1 and (made.end <= first or made.start >= last)
    ]


# --- the live tail ---


def grow(catalog: Catalog, folder_path: Path, name: str, log: Log, end: int | None = None) -> None:
    """The receiver stored and published more."""
    folder = make_store(folder_path)
    (newest(folder).path / name).write_bytes(log.data[: end or len(log.data)])
    catalog.update(publication_of(read_store(folder)))


def test_it_waits_for_publications_and_goes_on(tmp_path: Path) -> None:
    logs = chain(3)
    first = logs[FIRST]
    folder = make_store(tmp_path, {FIRST: first.data[: first.events[0].end]})
    catalog = Catalog(folder)
    catalog.read()

    async def body() -> None:
        with Pair() as pair:
            client = pair.client
            dump = make_dump(catalog, request(FIRST, blocking=True), pair)

            async def talk() -> None:
                for number, (name, log) in enumerate(logs.items()):
                    grow(catalog, tmp_path, name, log, log.events[0].end)
                    check_rotate(await client.event(), name, 4, CRC32)
                    assert await client.event() == log.event(0)
                    sent = 1
                    for end in (log.events[1].end, *log.ends, log.position):
                        grow(catalog, tmp_path, name, log, end)
                        while sent < len(log.events) and log.events[sent].end <= end:
                            assert await client.event() == log.event(sent)
                            sent += 1
                        assert dump.place == (name, end)
                        assert dump.lag_bytes() == 0
                    assert sent == len(log.events)
                    assert dump.between_packets
                    assert number < 3

            await beside(dump, talk)

    asyncio.run(body())


def test_several_files_may_come_at_once(tmp_path: Path) -> None:
    logs = chain(4)
    catalog = catalog_of(tmp_path, {FIRST: logs[FIRST]})

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, request(FIRST, blocking=True), pair)

            async def talk() -> None:
                heard = await pair.client.events(1 + len(logs[FIRST].events))
                folder = make_store(tmp_path)
                for name, log in logs.items():
                    (newest(folder).path / name).write_bytes(log.data)
                catalog.update(publication_of(read_store(folder)))
                heard += await pair.client.events(sum(1 + len(log.events) for log in logs.values()) - len(heard))
                plain = [event for event in heard if not Header.decode(event).flags & 0x20]
                assert plain == [event for log in logs.values() for event in log.each()]

            await beside(dump, talk)

    asyncio.run(body())


@pytest.mark.parametrize("version_2", [False, True], ids=["v1", "v2"])
@ALGORITHMS
def test_heartbeats_at_the_tail(tmp_path: Path, version_2: bool, algorithm: ChecksumAlgorithm) -> None:
    log = Log(algorithm).begin_file().transaction(1)
    catalog = catalog_of(tmp_path, {FIRST: log})
    more = Log(algorithm).begin_file().transaction(1).transaction(2)

    async def body() -> None:
        with Pair() as pair:
            asked = request(FIRST, blocking=True, heartbeat=0.02, heartbeat_v2=version_2)
            dump = make_dump(catalog, asked, pair)

            async def talk() -> None:
                await pair.client.events(1 + len(log.events))
                for _ in range(3):
                    beat = await pair.client.event()
                    check_heartbeat(beat, FIRST, log.position, algorithm.length)
                    assert Header.decode(beat).type == (41 if version_2 else 27)
                grow(catalog, tmp_path, FIRST, more)
                left = [more.event(i) for i in range(len(log.events), len(more.events))]
                while left:
                    event = await pair.client.event()
                    if not is_heartbeat(event):
                        assert event == left.pop(0)
                check_heartbeat(await pair.client.event(), FIRST, more.position, algorithm.length)

            await beside(dump, talk)

    asyncio.run(body())


def test_without_a_period_there_are_no_heartbeats(tmp_path: Path) -> None:
    log = sample()
    catalog = catalog_of(tmp_path, {FIRST: log})

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, request(FIRST, blocking=True), pair)

            async def talk() -> None:
                await pair.client.events(1 + len(log.events))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await pair.client.event()

            await beside(dump, talk)

    asyncio.run(body())


def test_heartbeats_behind_4_gib(tmp_path: Path) -> None:
    """Version 1 has no room for such a position, and a wrapped one would end the replica for good."""
    log = Log().begin_file()
    folder = make_store(tmp_path, {FIRST: log.data})
    end = 2**32 + 1000
    os.truncate(newest(folder).path / FIRST, end)

    async def body(version_2: bool) -> None:
        catalog = Catalog(folder)
        catalog.update(Publication(1, FIRST, end, GtidSet(), GtidSet(), "8.0.36"))
        with Pair() as pair:
            asked = request(FIRST, end, blocking=True, heartbeat=0.02, heartbeat_v2=version_2)

            async def talk() -> None:
                check_rotate(await pair.client.event(), FIRST, end, CRC32)
                await pair.client.event()
                if version_2:
                    check_heartbeat(await pair.client.event(), FIRST, end)
                else:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.15):
                            await pair.client.event()

            await beside(make_dump(catalog, asked, pair), talk)

    asyncio.run(body(True))
    asyncio.run(body(False))


def test_a_replica_that_has_everything_hears_where_the_end_is(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    catalog = catalog_of(tmp_path, {FIRST: log})

    async def body() -> None:
        with Pair() as pair:

            async def talk() -> None:
                heard = await pair.client.events(4)
                assert heard[1:3] == [with_created_zero(log.event(0)), log.event(1)]
                check_heartbeat(heard[3], FIRST, log.position)

            await beside(make_dump(catalog, request(has=f"{UUID_A}:1-2", blocking=True), pair), talk)

    asyncio.run(body())


def test_what_is_published_while_the_end_of_the_file_is_told_is_not_missed(tmp_path: Path) -> None:
    """The end of a file is a heartbeat for a replica that skips; while that is sent, file and store go on."""
    old = Log().begin_file().transaction(1)
    grown = Log().begin_file().transaction(1).transaction(2)
    grown.rotate(SECOND)
    following = Log().begin_file(f"{UUID_A}:1-2").transaction(3)
    catalog = catalog_of(tmp_path, {FIRST: old})

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, request(has=f"{UUID_A}:1", blocking=True), pair)
            put = pair.channel.put
            done = False

            def slow(data: bytes | memoryview) -> bool:
                nonlocal done
                gone = put(data)
                if data[9] in (27, 41) and not done:
                    done = True
                    folder = make_store(tmp_path)
                    (newest(folder).path / FIRST).write_bytes(grown.data)
                    (newest(folder).path / SECOND).write_bytes(following.data)
                    catalog.update(publication_of(read_store(folder)))
                return gone

            pair.channel.put = slow  # type: ignore[method-assign]

            async def talk() -> None:
                heard = await pair.client.events(4)
                check_heartbeat(heard[3], FIRST, old.position)
                rest = [grown.event(i) for i, made in enumerate(grown.events) if made.start >= old.position]
                assert await pair.client.events(len(rest)) == rest
                check_rotate(await pair.client.event(), SECOND, 4, CRC32)
                assert await pair.client.events(len(following.events)) == following.each()

            await beside(dump, talk)

    asyncio.run(body())


def test_a_client_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_module, "SEND_TIMEOUT", 0.1)
    log = Log().begin_file().transaction(1, sizes=(5_000_000,))
    catalog = catalog_of(tmp_path, {FIRST: log})

    async def body() -> None:
        with Pair(small_buffers=True) as pair:
            dump = make_dump(catalog, request(FIRST, blocking=True), pair)
            descriptors = len(os.listdir("/proc/self/fd"))
            with pytest.raises(TimeoutError):
                await dump.run()
            assert not dump.between_packets
            assert dump.lag_bytes() > 0
            assert len(os.listdir("/proc/self/fd")) == descriptors

    asyncio.run(body())


def test_a_client_that_is_gone(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1, sizes=(5_000_000,))
    catalog = catalog_of(tmp_path, {FIRST: log})

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, request(FIRST), pair)
            pair.client.socket.close()
            with pytest.raises(OSError):
                async with asyncio.timeout(20):
                    await dump.run()

    asyncio.run(body())


@pytest.mark.parametrize("sequence", [0, 1, 254, 255])
def test_the_sequence_goes_on_from_the_command(tmp_path: Path, sequence: int) -> None:
    log = sample()
    catalog = catalog_of(tmp_path, {FIRST: log})

    async def body() -> None:
        with Pair(sequence=sequence) as pair:
            dump = make_dump(catalog, request(FIRST), pair, sequence=sequence)
            await dump.run()
            count = 1 + len(log.events)
            assert len(await pair.client.events(count)) == count
            assert dump.sequence == (sequence + count) & 0xFF

    asyncio.run(body())


def test_two_timelines_are_served_one_after_the_other(tmp_path: Path) -> None:
    old = chain(2)
    new = Log().begin_file(f"{UUID_A}:1-4").transaction(1, b"b" * 16)
    folder = make_store(tmp_path, data_of(old), data_of({FIRST: new}))
    catalog = Catalog(folder)
    catalog.read()
    heard = all_events(catalog, request(has=f"{UUID_A}:1-2"))
    plain = [event for event in heard if not Header.decode(event).flags & 0x20]
    assert plain == [*old[SECOND].each(), *new.each()]


# --- files that cannot be read ---


@pytest.mark.parametrize(("number", "code"), [(24, 1105), (5, 1105), (2, 1236)])
def test_what_may_pass_does_not_stop_a_replica_for_good(
    tmp_path: Path, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica connects again after ERR 1105; after ERR 1236 somebody has to start it."""
    catalog = catalog_of(tmp_path, {FIRST: Log().begin_file().transaction(1)})
    real = os.open

    def refuse(path: str | Path, *rest: int) -> int:
        if str(path).endswith(FIRST):
            raise OSError(number, os.strerror(number))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Refusal, match=FIRST) as caught:
        all_events(catalog, request(FIRST, 4))
    assert caught.value.code == code


def test_a_file_that_was_removed_and_fetched_again(tmp_path: Path) -> None:
    """Who is in the midst of it goes on in the new one."""
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data[: log.ends[0]]})
    path = newest(folder).path / FIRST

    async def body() -> None:
        catalog = Catalog(folder)
        catalog.update(Publication(1, FIRST, log.ends[0], GtidSet(), GtidSet(), "8.0.36"))
        with Pair() as pair:

            async def talk() -> None:
                heard = 0
                check_rotate(await pair.client.event(), FIRST, 4, CRC32)
                while heard < sum(made.end <= log.ends[0] for made in log.events):
                    await pair.client.event()
                    heard += 1
                path.unlink()
                path.write_bytes(log.data)
                catalog.update(Publication(1, FIRST, log.ends[1], GtidSet(), GtidSet(), "8.0.36"))
                rest = [log.event(i) for i, made in enumerate(log.events) if made.end > log.ends[0]]
                assert [await pair.client.event() for _ in rest] == rest

            await beside(make_dump(catalog, request(FIRST, 4, blocking=True), pair), talk)

    asyncio.run(body())
