"""Dumps over several timelines: what a client hears behind the end of one, event by event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.events import FormatDescription, Heartbeat, Rotate, with_created_zero
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import ChecksumAlgorithm, EventType, Header
from binlogd.errors import Refusal
from binlogd.sender import catalog as catalog_module
from binlogd.sender.blocks import Blocks
from binlogd.sender.catalog import Catalog
from binlogd.sender.dump import DumpRequest
from binlogd.sender.live import LiveTail
from binlogd.store.purged import save
from binlogd.store.reader import publication_of, read_store
from binlogd.store.recovery import recover
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, UUID_B, Log
from tests.sender.support import PATIENCE, Pair, all_events, beside, catalog_of, is_heartbeat, make_dump, request
from tests.sender.test_dump_leaps import heard as bytes_and_words
from tests.sender.test_dump_leaps import mark
from tests.sender.test_live import until
from tests.sender.worlds import World, purged_as_told, stored, subsets, worlds
from tests.store.support import FIRST, SECOND, THIRD, Quick, data_of, make_store, newest

FIRST_SOURCE, SECOND_SOURCE = f"0{UUID_A[1:]}", f"1{UUID_A[1:]}"  # as make_store calls them


class Follower:
    """A replica's receiver: where it believes to stand, which every event and heartbeat must bear out."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.gtids: list[tuple[bytes, int]] = []
        self._algorithm = CRC32
        self._position = 0

    def hear(self, events: Sequence[bytes]) -> None:
        for event in events:
            self._hear(event)

    def _hear(self, event: bytes) -> None:
        header = Header.decode(event)
        if is_heartbeat(event):
            name = self.names[-1].encode()
            field = event.index(b"\1" + bytes([len(name)]) + name + b"\2", 19) + len(name) + 3
            size = event[field]  # of a length-encoded integer
            position = event[field + 1] if size == 1 else int.from_bytes(event[field + 2 : field + 4], "little")
            assert position >= self._position
            self._position = position
            return
        if header.flags & 0x20:  # a receiver of ours takes no qualified name, so it is not Rotate.decode that is asked
            self.names.append(event[27 : len(event) - self._algorithm.length].decode())
            self._position = int.from_bytes(event[19:27], "little")
            return
        if header.type == EventType.FORMAT_DESCRIPTION:
            self._algorithm = FormatDescription.decode(event).algorithm
        elif header.type == EventType.GTID:
            gtid = GtidEvent.decode(event, self._algorithm.length)
            self.gtids.append((gtid.sid, gtid.gno))
        self._position += len(event)
        assert header.log_pos in (0, self._position)


def followed(catalog: Catalog, asked: DumpRequest) -> Follower:
    follower = Follower()
    follower.hear(all_events(catalog, asked))
    return follower


def failover(
    *, algorithms: tuple[ChecksumAlgorithm, ChecksumAlgorithm] = (CRC32, CRC32), created: int = 0
) -> tuple[Log, Log]:
    """The only file of an old source, and that of a new one, which overlap: A:1-4, and A:3-4 with what is new."""
    old = Log(algorithms[0]).begin_file()
    for gno in range(1, 5):
        old.transaction(gno)
    new = Log(algorithms[1], created=created).begin_file(f"{UUID_A}:1-2").transaction(3).transaction(4)
    new.transaction(1, SID_B).transaction(2, SID_B)
    return old, new


# --- in history ---


def made(path: Path, world: World, chance: random.Random) -> Catalog:
    """The store as it lies on disk; names begin anew, and overlap, in every timeline."""
    timelines: dict[int, dict[str, Log]] = {}
    for number, file in enumerate(world):
        files = timelines.setdefault(file.timeline, {})
        log = Log(chance.choice([CRC32, OFF]), created=chance.choice([0, 1]))
        log.begin_file(GtidSet.from_runs((SID_A, "", gno, gno) for gno in file.previous))
        for gno in file.added:
            log.transaction(gno, sizes=(20,))
        if number + 1 < len(world) and world[number + 1].timeline == file.timeline:
            log.rotate()
        files[f"mysql-bin.{len(files) + 1:06}"] = log
    folder = make_store(path, *map(data_of, timelines.values()))
    mark(folder, 0)
    catalog = Catalog(folder)
    catalog.read()
    return catalog


@pytest.mark.parametrize("seed", range(25))
def test_what_is_lacking_comes_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    some = [world for world in worlds(2 + seed % 2, range(1, 4 - seed % 2)) if chance.random() < 0.01]
    for number, world in enumerate(chance.sample(some, 4)):
        catalog = made(tmp_path / str(number), world, chance)
        for has in subsets(range(1, 5)):
            asked = request(has=GtidSet.from_runs((SID_A, "", gno, gno) for gno in has))
            if not purged_as_told(world) <= has:
                with pytest.raises(Refusal, match="purged required binary logs"):
                    all_events(catalog, asked)
                continue
            assert sorted(followed(catalog, asked).gtids) == sorted((SID_A, gno) for gno in stored(world) - has)


@pytest.mark.parametrize("algorithms", [(CRC32, OFF), (OFF, CRC32)], ids=["CRC32-none", "none-CRC32"])
def test_the_rotate_has_the_old_sources_checksum(
    tmp_path: Path, algorithms: tuple[ChecksumAlgorithm, ChecksumAlgorithm]
) -> None:
    old, new = failover(algorithms=algorithms)
    heard = all_events(catalog_of(tmp_path, {SECOND: old}, {FIRST: new}), request(has=f"{UUID_A}:1-3"))
    at = next(i for i, event in enumerate(heard) if i and Header.decode(event).flags & 0x20)
    rotate = heard[at]
    assert Rotate.decode(rotate, algorithms[0].length) == Rotate(4, FIRST)
    assert heard[at + 1] == new.event(0)
    begun = next(i for i, made in enumerate(new.events) if made.start == new.ends[1])
    assert heard[at + 2] == new.event(1)
    beat = Heartbeat.decode(heard[at + 3], algorithms[1].length)
    assert (beat.name, beat.position) == (FIRST, new.ends[1])
    assert heard[at + 4 :] == new.each()[begun:]


def test_created_is_decided_anew(tmp_path: Path) -> None:
    """Whoever has the new source's first transaction keeps his temporary tables, as after connecting to it."""
    old, new = failover(created=1_700_000_000)
    catalog = catalog_of(tmp_path / "had", {FIRST: old}, {FIRST: new})
    assert with_created_zero(new.event(0)) in all_events(catalog, request(has=""))
    assert with_created_zero(new.event(0)) in all_events(catalog, request(has=f"{UUID_A}:1"))
    fresh = Log(created=1_700_000_000).begin_file(f"{UUID_A}:1-4").transaction(1, SID_B)
    catalog = catalog_of(tmp_path / "new", {FIRST: old}, {FIRST: fresh})
    assert fresh.event(0) in all_events(catalog, request(has=f"{UUID_A}:1"))


def test_it_leaps_over_what_the_old_source_had(tmp_path: Path) -> None:
    old, new = failover()
    folder = make_store(tmp_path, {FIRST: old.data}, {FIRST: new.data})
    mark(folder, 0)
    catalog = Catalog(folder)
    catalog.read()
    asked = request(has=f"{UUID_A}:1-2")
    right = bytes_and_words(catalog, asked)
    with (newest(folder).path / FIRST).open("r+b") as file:  # nobody reads what is leapt over
        file.seek(new.ends[0] - 100)
        file.write(bytes(100))
    assert bytes_and_words(catalog, asked) == right


def test_a_timeline_that_builds_on_what_is_not_held(tmp_path: Path) -> None:
    old, _ = failover()
    new = Log().begin_file(f"{UUID_A}:1-4,{UUID_B}:7").transaction(8, SID_B)
    catalog = catalog_of(tmp_path, {FIRST: old}, {FIRST: new})
    catalog.publication = replace(catalog.publication, purged=GtidSet())
    with pytest.raises(Refusal, match=f"the missing transactions are '{UUID_B}:7'") as caught:
        all_events(catalog, request(has=f"{UUID_A}:1-3"))
    assert caught.value.code == 1236


def grown(path: Path) -> Catalog:
    """Of a source that was told of a backup by SET gtid_purged, as MySQL 5.6 writes it, and of one that holds it."""
    old = {
        FIRST: Log().begin_file().transaction(1),
        SECOND: Log().begin_file(f"{UUID_A}:1,{UUID_B}:1-2").transaction(2),
    }
    new = Log().begin_file(f"{UUID_A}:1").transaction(1, SID_B).transaction(2, SID_B).transaction(2).transaction(3)
    return catalog_of(path, old, {FIRST: new})


@pytest.mark.parametrize("index", [True, False], ids=["idx", "none"])
@pytest.mark.parametrize(
    ("has", "lacks"),
    [
        ("", [(SID_A, 1), (SID_A, 2), (SID_B, 1), (SID_B, 2), (SID_A, 3)]),
        (f"{UUID_A}:1", [(SID_A, 2), (SID_B, 1), (SID_B, 2), (SID_A, 3)]),
        (f"{UUID_A}:1,{UUID_B}:1", [(SID_A, 2), (SID_B, 2), (SID_A, 3)]),
        (f"{UUID_A}:1,{UUID_B}:1-2", [(SID_A, 2), (SID_A, 3)]),
        (f"{UUID_A}:1-2,{UUID_B}:1-2", [(SID_A, 3)]),
    ],
)
def test_what_a_timeline_only_claims_is_sent_of_the_next(
    tmp_path: Path, has: str, lacks: list[tuple[bytes, int]], index: bool
) -> None:
    """The claims of the old timeline grow behind where the dump begins."""
    catalog = grown(tmp_path)
    if index:
        recover(make_store(tmp_path), Quick())
        assert (tmp_path / "binlogs" / f"0001-{FIRST_SOURCE}" / f"{SECOND}.idx").exists()
    assert followed(catalog, request(has=has)).gtids == lacks


def test_what_was_sent_is_known_when_its_files_have_been_removed(tmp_path: Path) -> None:
    """By the end of a timeline only its last ones may be there."""
    logs = {FIRST: Log().begin_file().transaction(1), SECOND: Log().begin_file(f"{UUID_A}:1").transaction(2)}
    folder = make_store(tmp_path, data_of(logs))
    recover(folder, Quick())
    catalog = Catalog(folder)
    catalog.read()
    live = LiveTail(catalog, Blocks())
    follower = Follower()

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, request(has="", blocking=True), pair, live=live)

            async def talk() -> None:
                await until(lambda: live.size == 1)
                for name in (FIRST, f"{FIRST}.idx"):
                    (newest(folder).path / name).unlink()
                new = Log().begin_file(f"{UUID_A}:1").transaction(2).transaction(3)
                make_store(tmp_path, {FIRST: new.data})
                catalog.update(publication_of(read_store(folder)))
                await until(lambda: dump.place == (FIRST, new.position) and live.size == 1)

            await beside(dump, talk)
            pair.hang_up()
            follower.hear(await pair.client.rest())

    asyncio.run(body())
    assert follower.gtids == [(SID_A, 1), (SID_A, 2), (SID_A, 3)]


def test_a_timeline_of_which_more_is_kept_than_was_had(tmp_path: Path) -> None:
    """Its source had purged that without a word of it in its files."""
    old, new = failover()
    catalog = catalog_of(tmp_path, {FIRST: old}, {FIRST: new})
    save(Quick(), catalog.path(1).parent, GtidSet.parse(f"{UUID_A}:1-4,{UUID_B}:7-8"))
    with pytest.raises(Refusal, match=f"the missing transactions are '{UUID_B}:8'") as caught:
        all_events(catalog, request(has=f"{UUID_A}:1-3,{UUID_B}:7"))
    assert caught.value.code == 1236
    heard = followed(catalog, request(has=f"{UUID_A}:1-3,{UUID_B}:7-8"))
    assert heard.gtids == [(SID_A, 4), (SID_B, 1), (SID_B, 2)]


def test_what_an_ended_timeline_holds_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = failover()
    catalog = catalog_of(tmp_path, {FIRST: old}, {FIRST: new})
    assert catalog.ended(0) == GtidSet.parse(f"{UUID_A}:1-4")
    assert catalog.ended(1) == GtidSet.parse(f"{UUID_A}:1-4,{UUID_B}:1-2")
    monkeypatch.setattr(catalog_module, "read_finished", None)
    assert catalog.ended(0) == GtidSet.parse(f"{UUID_A}:1-4")
    new.transaction(3, SID_B)
    (tmp_path / "binlogs" / f"0002-{SECOND_SOURCE}" / FIRST).write_bytes(new.data)
    catalog.update(replace(catalog.publication, position=new.position))
    assert catalog.ended(1) == GtidSet.parse(f"{UUID_A}:1-4,{UUID_B}:1-3")


def test_what_a_timeline_holds_whose_last_file_claims_nothing(tmp_path: Path) -> None:
    logs = {FIRST: Log().begin_file(f"{UUID_A}:1-2").transaction(3), SECOND: Log().begin_file(None).transaction(4)}
    catalog = catalog_of(tmp_path, logs, {FIRST: Log().begin_file(f"{UUID_A}:1-4")})
    assert catalog.ended(1) == GtidSet.parse(f"{UUID_A}:1-4")
    catalog = catalog_of(tmp_path / "none", {FIRST: Log().begin_file(None).transaction(4)}, {FIRST: Log().begin_file()})
    assert catalog.ended(0) == GtidSet.parse(f"{UUID_A}:4")


# --- by position, and pinned ---


def end_of_old(old: Log, name: str) -> str:
    end = f"'{name}' {old.position}"
    return f"The history of source {FIRST_SOURCE} ends at {end}: binlogd follows {SECOND_SOURCE} since"


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize(
    ("asked", "shown", "words"),
    [
        (request(SECOND), SECOND, ""),
        (request(f"0001:{SECOND}"), f"0001:{SECOND}", ""),
        (request(SECOND, has=f"{UUID_A}:1"), SECOND, ""),
        (request(SECOND, pinned=1), SECOND, f"End of timeline 0001: the history of source {FIRST_SOURCE} ends at"),
        (request(pinned=1), SECOND, "End of timeline 0001"),
        (request(has=f"{UUID_A}:1", pinned=1), SECOND, "End of timeline 0001"),
    ],
)
def test_the_end_of_a_timeline(tmp_path: Path, asked: DumpRequest, shown: str, words: str, blocking: bool) -> None:
    """Everything up to it, and then no word of another source's file that the client could ask for."""
    old, new = failover()
    catalog = catalog_of(tmp_path, {SECOND: old}, {FIRST: new})
    follower = Follower()

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(catalog, replace(asked, blocking=blocking), pair)
            with pytest.raises(Refusal) as caught:
                await dump.run()
            assert caught.value.code == 1236
            assert caught.value.message.startswith(words or end_of_old(old, SECOND))
            assert len(caught.value.message) < 500
            assert dump.between_packets
            pair.hang_up()
            follower.hear(await pair.client.rest())

    asyncio.run(body())
    assert follower.names == [shown, *([] if blocking else ["end-of-0001"])]
    assert [gno for _, gno in follower.gtids] == ([1, 2, 3, 4] if not asked.has else [2, 3, 4])


def test_every_name_of_a_dump_is_qualified_or_none(tmp_path: Path) -> None:
    logs = {FIRST: Log().begin_file().transaction(1), SECOND: Log().begin_file(f"{UUID_A}:1").transaction(2)}
    again = {name: Log().begin_file(f"{UUID_A}:1-2").transaction(3) for name in (SECOND, THIRD)}
    catalog = catalog_of(tmp_path, logs, again)
    for asked, names in (
        (request(f"0002:{SECOND}", has=f"{UUID_A}:3"), [f"0002:{SECOND}", f"0002:{THIRD}"]),
        (request(THIRD, has=f"{UUID_A}:3"), [THIRD]),
        (request(SECOND, pinned=2), [SECOND, THIRD]),
        (request(pinned=2), [SECOND, THIRD]),
        (request(has=f"{UUID_A}:1-3", pinned=2), [THIRD]),
    ):
        assert followed(catalog, asked).names == names
    with pytest.raises(Refusal, match="Several sources that binlogd followed have a file"):
        all_events(catalog, request(SECOND))


@pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
def test_a_file_that_the_old_source_went_on_with(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    """The last thing that was had of it is the ROTATE to that file; and the new source has one of the same name."""
    old, new = failover(algorithms=(algorithm, CRC32))
    old.rotate(SECOND)
    catalog = catalog_of(tmp_path, {FIRST: old}, {SECOND: new, THIRD: Log().begin_file()})
    with pytest.raises(Refusal, match=end_of_old(old, FIRST)):
        all_events(catalog, request(SECOND))
    with pytest.raises(Refusal, match="End of timeline 0001"):
        all_events(catalog, request(SECOND, pinned=1))
    assert followed(catalog, request(f"0002:{SECOND}")).names == [f"0002:{SECOND}", f"0002:{THIRD}"]
    assert followed(catalog, request(THIRD)).names == [THIRD]
    assert not catalog.announces(0, THIRD)
    assert not catalog.announces(0, "n.000002")
    broken = bytearray(old.data)
    broken[-algorithm.length - len(SECOND) - 1] ^= 1  # in the position that it names
    again = Catalog(make_store(tmp_path / "broken", {FIRST: broken}, {SECOND: new.data}))
    again.read()
    assert again.announces(0, SECOND) is (algorithm is OFF), "without checksums only structure can be seen"


# --- at the live tail ---


class Growing:
    """A store that a receiver writes."""

    def __init__(self, path: Path, log: Log) -> None:
        self.folder = make_store(path, {FIRST: log.data})
        self.catalog = Catalog(self.folder)
        self.catalog.read()

    def begin(self, log: Log, end: int) -> None:
        """A new timeline, with the first bytes of the log."""
        make_store(self.folder.path, {FIRST: log.data[:end]})
        self._publish()

    def grow(self, log: Log) -> None:
        (newest(self.folder).path / FIRST).write_bytes(log.data)
        self._publish()

    def _publish(self) -> None:
        self.catalog.update(publication_of(read_store(self.folder)))


@pytest.mark.parametrize("begun", [0, 1, 4, -1], ids=["FORMAT_DESCRIPTION", "PREVIOUS_GTIDS", "within", "all"])
def test_a_new_timeline_comes_while_a_dump_waits(tmp_path: Path, begun: int) -> None:
    old, new = failover()
    store = Growing(tmp_path, old)
    live = LiveTail(store.catalog, Blocks())
    follower = Follower()

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(store.catalog, request(has=f"{UUID_A}:1-2", blocking=True), pair, live=live)

            async def talk() -> None:
                await until(lambda: live.size == 1)
                assert dump.place == (FIRST, old.position)
                store.begin(new, new.events[begun].end)
                await until(lambda: live.size == 1 and dump.lag_bytes() == 0)
                store.grow(new)
                await until(lambda: dump.place == (FIRST, new.position) and live.size == 1)
                new.transaction(3, SID_B)
                store.grow(new)
                await until(lambda: dump.place == (FIRST, new.position))

            await beside(dump, talk)
            pair.hang_up()
            follower.hear(await pair.client.rest())

    asyncio.run(body())
    assert follower.names == [FIRST, FIRST]
    assert follower.gtids == [(SID_A, 3), (SID_A, 4), (SID_B, 1), (SID_B, 2), (SID_B, 3)]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(FIRST), "The history of source"),
        (request(FIRST, has=f"{UUID_A}:1"), "The history of source"),
        (request(FIRST, pinned=1), "End of timeline 0001"),
        (request(has=f"{UUID_A}:1", pinned=1), "End of timeline 0001"),
    ],
)
def test_a_dump_that_may_not_go_on_hears_so_when_the_new_timeline_comes(
    tmp_path: Path, asked: DumpRequest, words: str
) -> None:
    old, new = failover()
    store = Growing(tmp_path, old)
    live = LiveTail(store.catalog, Blocks())

    async def body() -> None:
        with Pair() as pair:
            dump = make_dump(store.catalog, replace(asked, blocking=True), pair, live=live)
            sending = asyncio.create_task(dump.run())
            await until(lambda: live.size == 1)
            store.begin(new, new.position)
            with pytest.raises(Refusal, match=f"^{words}"):
                async with asyncio.timeout(PATIENCE):
                    await sending

    asyncio.run(body())


def test_a_replica_that_is_ahead_waits_and_goes_on(tmp_path: Path) -> None:
    """It followed the new source itself, while we did not."""
    old, new = failover()
    store = Growing(tmp_path, old)
    live = LiveTail(store.catalog, Blocks())
    follower = Follower()

    async def body() -> None:
        with Pair() as pair:
            asked = request(has=f"{UUID_A}:1-4,{UUID_B}:1-3", blocking=True)
            dump = make_dump(store.catalog, asked, pair, live=live)

            async def talk() -> None:
                await until(lambda: live.size == 1)
                store.begin(new, new.events[1].end)
                for gno in (3, 4, 5):
                    new.transaction(gno, SID_B)
                    store.grow(new)
                    await until(lambda: dump.place == (FIRST, new.position) and live.size == 1)

            await beside(dump, talk)
            pair.hang_up()
            follower.hear(await pair.client.rest())

    asyncio.run(body())
    assert follower.gtids == [(SID_B, 4), (SID_B, 5)]
    assert follower.names == [FIRST, FIRST]
