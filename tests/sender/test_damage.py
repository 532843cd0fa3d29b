"""What a client hears of a store that is damaged: everything before the damage, and then what is wrong, and where."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import EventType, Header
from binlogd.binlog.walk import MARK_SPACING
from binlogd.errors import Refusal
from binlogd.sender.catalog import Catalog
from binlogd.sender.dump import DumpRequest
from binlogd.store.index import index_path
from binlogd.store.layout import DataFolder
from binlogd.store.recovery import recover
from tests.binlog.making import OFF, UUID_A, Log, broken
from tests.sender.support import PATIENCE, Pair, make_dump, published, request
from tests.store.support import FIRST, SECOND, THIRD, Quick, chain, data_of, make_store, newest


def hears(catalog: Catalog, asked: DumpRequest) -> tuple[list[bytes], str, bool]:
    """The events, the refusal ("" when there is none), and whether it could be told."""

    async def body() -> tuple[list[bytes], str, bool]:
        with Pair() as pair:
            dump = make_dump(catalog, asked, pair)
            heard: list[bytes] = []

            async def listen() -> None:
                loop = asyncio.get_running_loop()
                while data := await loop.sock_recv(pair.client.socket, 1 << 20):
                    pair.client.reader.feed(data)
                    while (payload := pair.client.reader.next()) is not None:
                        heard.append(payload[1:])

            listening = asyncio.create_task(listen())
            refusal = ""
            try:
                async with asyncio.timeout(PATIENCE):
                    await dump.run()
            except Refusal as refused:
                refusal = refused.message if refused.code == 1236 else f"error {refused.code}"
            told = dump.between_packets
            pair.hang_up()
            await asyncio.gather(listening, return_exceptions=True)
            return heard, refusal, told

    return asyncio.run(body())


def store(path: Path, files: dict[str, Log]) -> tuple[DataFolder, Path]:
    """As a receiver leaves it, and its timeline's folder."""
    folder = make_store(path, data_of(files))
    recover(folder, Quick())
    return folder, newest(folder).path


def catalog_of(folder: DataFolder) -> Catalog:
    catalog = Catalog(folder)
    catalog.read()
    return catalog


def numbers(heard: list[bytes]) -> list[int]:
    """The gnos of the GTID events."""
    return [int.from_bytes(event[44 - 8 : 44], "little") for event in heard if event[4] == EventType.GTID]


@pytest.mark.parametrize("asked", [request(), request(has=""), request(has=f"{UUID_A}:1")])
@pytest.mark.parametrize("event", [0, 1, 4, 7, -1])
def test_a_damaged_event(tmp_path: Path, event: int, asked: DumpRequest) -> None:
    logs = chain(3)
    folder, path = store(tmp_path, logs)
    made = logs[SECOND].events[event]
    (path / SECOND).write_bytes(broken(bytes(logs[SECOND].data), made.end - 1))
    catalog = catalog_of(folder)
    heard, refusal, told = hears(catalog, asked)
    assert told
    assert refusal.startswith(f"{SECOND}: the event at {made.start} (type {made.kind}, ")
    bad = broken(bytes(logs[SECOND].data), made.end - 1)[made.start : made.end]
    assert bad not in heard
    assert not {5, 6} & set(numbers(heard)), "nor is anything behind it"
    assert logs[FIRST].event(-1) in heard
    assert [it["file"] for it in catalog.damage.snapshot()] == [SECOND]
    behind, refusal, _ = hears(catalog, request(THIRD))
    assert refusal == ""
    assert behind[-1] == logs[THIRD].event(-1), "whoever does not need it is served"


def test_a_large_damaged_event_is_told_of_the_second_time(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2, sizes=(1_000_000,))
    log.rotate(SECOND)
    folder, path = store(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set).transaction(3)})
    made = next(made for made in log.events if made.end - made.start > 1_000_000)
    (path / FIRST).write_bytes(broken(bytes(log.data), made.end - 9))
    catalog = catalog_of(folder)
    heard, refusal, told = hears(catalog, request())
    assert not told, "within an event nothing can be said"
    assert f"the large event at {made.start} fails its CRC-32" in refusal
    again, refusal, told = hears(catalog, request())
    assert told
    assert refusal.startswith(f"{FIRST}: the event at {made.start} (type 30, ")
    assert again == heard
    assert Header.decode(again[-1]).log_pos == made.start
    good = path / "mended"
    good.write_bytes(log.data)
    good.rename(path / FIRST)
    heard, refusal, _ = hears(catalog, request())
    assert refusal == ""
    assert numbers(heard) == [1, 2, 3]
    assert catalog.damage.snapshot() == []


def test_a_file_that_lost_whole_transactions(tmp_path: Path) -> None:
    """All that is left of it is sound: the next file must not follow as if nothing were missing."""
    logs = chain(3)
    folder, path = store(tmp_path, logs)
    end = logs[FIRST].ends[0]
    os.truncate(path / FIRST, end)
    for has in (None, "", f"{UUID_A}:1"):
        heard, refusal, told = hears(catalog_of(folder), request(has=has))
        assert told
        assert refusal == f"{FIRST}: the file ends at {end} and was finished with {logs[FIRST].position} bytes"
        assert 2 not in numbers(heard) and 3 not in numbers(heard)


def test_a_newest_file_that_is_short_for_a_while(tmp_path: Path) -> None:
    """Somebody cut it, and the receiver fetches the rest again: a replica tries again, where 1236 would stop it."""
    log = Log().begin_file().transaction(1).transaction(2)
    folder, path = store(tmp_path, {FIRST: log})
    catalog = catalog_of(folder)
    for end in (log.ends[0], log.ends[0] + 10):
        os.truncate(path / FIRST, end)
        heard, refusal, told = hears(catalog, request(has=""))
        assert told
        assert refusal == "error 1105"
        assert 2 not in numbers(heard)
        assert catalog.damage.snapshot() == [], "nothing of it is wrong"
        (path / FIRST).write_bytes(log.data)
    heard, refusal, _ = hears(catalog, request(has=""))
    assert (numbers(heard), refusal) == ([1, 2], "")


@pytest.mark.parametrize("how", ["copied over", "removed and copied"])
def test_a_file_that_is_sound_again_under_the_same_inode(tmp_path: Path, how: str) -> None:
    """From a backup, with the time it had: neither the place nor the alarm is kept.

    What was removed gives its inode to what is made next, on ext4 and when nobody else makes a file.
    """
    log = Log().begin_file().transaction(1).transaction(2, sizes=(1_000_000,))
    log.rotate(SECOND)
    folder, path = store(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set).transaction(3)})
    made = next(made for made in log.events if made.end - made.start > 1_000_000)
    (path / FIRST).write_bytes(broken(bytes(log.data), made.end - 9))
    was = (path / FIRST).stat()
    catalog = catalog_of(folder)
    hears(catalog, request())
    assert [it["file"] for it in catalog.damage.snapshot()] == [FIRST]
    if how != "copied over":
        (path / FIRST).unlink()
    (path / FIRST).write_bytes(log.data)
    os.utime(path / FIRST, ns=(was.st_atime_ns, was.st_mtime_ns))
    heard, refusal, _ = hears(catalog, request())
    assert (numbers(heard), refusal) == ([1, 2, 3], "")
    assert catalog.damage.snapshot() == []


def test_damage_to_the_newest_file_is_told_of_while_that_grows(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    folder, path = store(tmp_path, {FIRST: log})
    catalog = catalog_of(folder)
    (path / FIRST).write_bytes(broken(bytes(log.data), log.events[4].end - 1))
    hears(catalog, request())
    assert [it["file"] for it in catalog.damage.snapshot()] == [FIRST]
    with (path / FIRST).open("ab") as file:
        file.write(b"more")
    assert [it["file"] for it in catalog.damage.snapshot()] == [FIRST]


def test_gtids_that_are_damaged_lead_nobody_astray(tmp_path: Path) -> None:
    """Without checksums only the .idx knows what a file's PREVIOUS_GTIDS were: 1-6 that became 1-4 skip two."""
    logs: dict[str, Log] = {}
    for number, name in enumerate((FIRST, SECOND, THIRD, "mysql-bin.000004")):
        log = Log(OFF).begin_file(f"{UUID_A}:1-{2 * number}" if number else "")
        log.transaction(2 * number + 1).transaction(2 * number + 2)
        if number < 3:
            log.rotate(f"mysql-bin.{number + 2:06d}")
        logs[name] = log
    folder, path = store(tmp_path, logs)
    third = Log(OFF).begin_file(f"{UUID_A}:1-2")
    data = bytearray(logs[THIRD].data)
    data[: len(third.data)] = third.data
    (path / THIRD).write_bytes(data)
    catalog = catalog_of(folder)
    assert catalog.claims(2) is None
    heard, refusal, _ = hears(catalog, request(has=f"{UUID_A}:1-2"))
    assert numbers(heard) == [3, 4, 5, 6, 7, 8]
    assert refusal == ""
    index_path(path / THIRD).unlink()
    assert catalog_of(folder).claims(2) == GtidSet.parse(f"{UUID_A}:1-2"), "nothing tells any more"


def test_an_index_that_is_damaged_leads_nobody_astray(tmp_path: Path) -> None:
    """Before the fifth transaction's mark stands the fourth; one bit, and it says the fifth, which the client has."""
    log = Log().begin_file()
    for gno in range(1, 7):
        log.transaction(gno, sizes=(MARK_SPACING,))
    log.rotate(SECOND)
    folder, path = store(tmp_path, {FIRST: log, SECOND: Log().begin_file(log.set).transaction(7)})
    index = index_path(path / FIRST)
    sound = index.read_bytes()
    catalog = catalog_of(folder)
    at = sound.rindex(f"{UUID_A}:4 ".encode())
    for place in (at + len(UUID_A) + 1, *range(0, len(sound), 67)):
        data = bytearray(sound)
        data[place] ^= 1
        index.write_bytes(data)
        heard, refusal, _ = hears(catalog, request(has=f"{UUID_A}:1-3:5"))
        assert (numbers(heard), refusal) == ([4, 6, 7], ""), f"byte {place}"


def test_at_the_live_tail(tmp_path: Path) -> None:
    """A publication whose bytes are damaged by the time they are sent."""
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data})
    everything = published(tmp_path)
    catalog = Catalog(folder)
    catalog.update(replace(everything, position=log.ends[0]))
    made = next(made for made in log.events if made.start > log.ends[0])

    async def body() -> None:
        with Pair() as pair:
            sending = asyncio.create_task(make_dump(catalog, request(blocking=True), pair).run())
            while (await pair.client.event())[4] != EventType.XID:
                pass
            (newest(folder).path / FIRST).write_bytes(broken(bytes(log.data), made.end - 1))
            catalog.update(everything)
            async with asyncio.timeout(PATIENCE):
                await sending

    with pytest.raises(Refusal, match=f"{FIRST}: the event at {made.start} "):
        asyncio.run(body())
