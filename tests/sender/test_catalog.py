"""What the sender may show: read once, and kept up to date by publications."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.walk import Mark
from binlogd.errors import Refusal, StoreDamaged
from binlogd.sender import catalog as catalog_module
from binlogd.sender.catalog import Catalog
from binlogd.sender.plan import StoredLog, start_by_gtid
from binlogd.store.index import encode_marks, marks_head, marks_path
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.lock import NEVER, StoreLock, Taking
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import Further, StoredFile, publication_of, read_added, read_previous, read_store
from binlogd.store.recovery import recover
from binlogd.store.removal import commit, look_at
from binlogd.store.removed import FILES, First
from binlogd.store.retention import File, Going
from binlogd.store.seek import begins, listing
from binlogd.store.source_facts import SourceSettings
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, Log, broken, sample
from tests.sender.support import catalog_of
from tests.store.support import (
    FIRST,
    SECOND,
    THIRD,
    Quick,
    begin,
    chain,
    data_of,
    empty_tail,
    make_store,
    newest,
    settle,
    tail_of,
    take,
)

T = TypeVar("T")


async def alone() -> Taking | None:
    """No receiver, ever."""
    return NEVER


def test_what_is_on_disk(tmp_path: Path) -> None:
    logs = chain(3)
    catalog = catalog_of(tmp_path, logs)
    assert catalog.logs == [
        StoredLog(1, FIRST, logs[FIRST].position),
        StoredLog(1, SECOND, logs[SECOND].position),
        StoredLog(1, THIRD, logs[THIRD].position),
    ]
    assert [catalog.claims(index) for index in range(3)] == [
        GtidSet(),
        GtidSet.parse(f"{UUID_A}:1-2"),
        GtidSet.parse(f"{UUID_A}:1-4"),
    ]
    assert catalog.publication.executed == GtidSet.parse(f"{UUID_A}:1-6")
    assert catalog.path(1).name == SECOND
    assert catalog.checksum == "CRC32"


def test_nothing(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path)
    assert catalog.logs == []
    assert catalog.publication == NOTHING
    catalog.update(NOTHING)
    assert catalog.logs == []


def test_following_a_receiver_event_by_event(tmp_path: Path) -> None:
    """After each publication the catalog is what a fresh one reads from disk."""
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    catalog = Catalog(folder)
    catalog.read()
    for name, log in chain(3).items():
        begin(tail, name, log)
        for event in [b"", *log.each()[1:]]:
            if event:
                take(tail, [event])
            publication = settle(tail)
            if publication is None:
                continue
            catalog.update(publication)
            fresh = Catalog(folder)
            fresh.read()
            assert catalog.logs == fresh.logs
            assert catalog.publication == fresh.publication
            assert catalog.logs[-1].size == publication.position


def test_following_with_long_pauses(tmp_path: Path) -> None:
    logs = chain(5)
    folder = make_store(tmp_path, data_of({FIRST: logs[FIRST]}))
    catalog = Catalog(folder)
    catalog.read()
    for count in (3, 5):
        for name in list(logs)[:count]:
            (newest(folder).path / name).write_bytes(logs[name].data)
        catalog.update(publication_of(read_store(folder)))
        fresh = Catalog(folder)
        fresh.read()
        assert catalog.logs == fresh.logs
        assert [catalog.path(i).name for i in range(count)] == list(logs)[:count]


def test_a_sender_that_begins_with_a_publication(tmp_path: Path) -> None:
    logs = chain(3)
    folder = make_store(tmp_path, data_of(logs), data_of({FIRST: Log().begin_file(f"{UUID_A}:1-6").transaction(7)}))
    catalog = Catalog(folder)
    catalog.update(publication_of(read_store(folder)))
    fresh = Catalog(folder)
    fresh.read()
    assert catalog.logs == fresh.logs
    assert [log.timeline for log in catalog.logs] == [1, 1, 1, 2]


def test_a_new_timeline_comes(tmp_path: Path) -> None:
    logs = chain(2)
    folder = make_store(tmp_path, data_of(logs))
    catalog = Catalog(folder)
    catalog.read()
    make_store(tmp_path, data_of({FIRST: Log().begin_file(f"{UUID_A}:1-4").transaction(5)}))
    catalog.update(publication_of(read_store(folder)))
    assert [(log.timeline, log.name) for log in catalog.logs] == [(1, FIRST), (1, SECOND), (2, FIRST)]


def test_only_what_is_published_is_shown(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data})
    catalog = Catalog(folder)
    whole = publication_of(read_store(folder))
    catalog.update(replace(whole, position=log.ends[0], executed=GtidSet.parse(f"{UUID_A}:1")))
    assert catalog.logs[0].size == log.ends[0]


def test_without_a_receiver_only_whole_transactions_are_shown(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data[:-1]})
    catalog = Catalog(folder)
    catalog.read()
    assert catalog.logs[0].size == catalog.publication.position == log.ends[0]
    assert (newest(folder).path / FIRST).read_bytes() == log.data[:-1], "readers write nothing"


def test_a_file_that_has_only_begun_is_not_where_a_dump_begins(tmp_path: Path) -> None:
    """A replica that lacks everything would be given that file, and miss all before it."""
    logs = chain(2)
    last = logs[SECOND]
    folder = make_store(tmp_path, {FIRST: logs[FIRST].data, SECOND: last.data[: last.events[0].end]})
    catalog = Catalog(folder)
    catalog.read()
    assert catalog.claims(1) is None
    assert start_by_gtid(catalog.logs, catalog.claims, catalog.ended, GtidSet(), GtidSet()) == 0
    (newest(folder).path / SECOND).write_bytes(last.data)
    catalog.update(publication_of(read_store(folder)))
    assert catalog.claims(1) == GtidSet.parse(f"{UUID_A}:1-2")
    assert start_by_gtid(catalog.logs, catalog.claims, catalog.ended, GtidSet(), GtidSet()) == 0
    assert start_by_gtid(catalog.logs, catalog.claims, catalog.ended, GtidSet.parse(f"{UUID_A}:1-2"), GtidSet()) == 1


def test_what_the_newest_file_added_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is refused for want of a beginning asks again every second, and the file may be large."""
    begun, grown = (Log().begin_file().transaction(1) for _ in range(2))
    grown.transaction(2).transaction(4)
    folder = make_store(tmp_path, {FIRST: begun.data})
    catalog = Catalog(folder)
    catalog.read()
    walked = []

    def recorded(path: Path, position: int, end: int) -> Further:
        walked.append((position, end))
        return read_added(path, position, end)

    monkeypatch.setattr(catalog_module, "read_added", recorded)
    for _ in range(3):
        assert catalog.added(0) == begun.set
    (newest(folder).path / FIRST).write_bytes(grown.data)
    catalog.update(publication_of(read_store(folder)))
    for _ in range(3):
        assert catalog.added(0) == catalog.ended(0) == grown.set
    assert walked == [(4, begun.position), (begun.position, grown.position)]


def test_a_receiver_that_knows_less_than_was_read_moves_nothing_back(tmp_path: Path) -> None:
    """It has written, and not yet synced, what this process found on disk without it, synced and showed."""
    log = Log().begin_file().transaction(1).transaction(2).transaction(3)
    logs = chain(2)
    folder = make_store(tmp_path, data_of({FIRST: logs[FIRST], SECOND: log}))
    catalog = Catalog(folder)
    catalog.read()
    shown, known = list(catalog.logs), catalog.publication
    for older in (
        replace(known, position=log.ends[1], executed=GtidSet.parse(f"{UUID_A}:1-2")),
        replace(known, file=FIRST, position=logs[FIRST].position),  # it had begun the next file, and not told
        replace(known, timeline=0),
    ):
        catalog.update(older)
        assert catalog.logs == shown
        assert catalog.publication is known
    (newest(folder).path / SECOND).write_bytes(log.transaction(4).data)
    further = replace(known, position=log.ends[3], executed=known.executed | log.set)
    catalog.update(further)
    assert catalog.publication is further
    assert catalog.logs[-1].size == log.ends[3]


@pytest.mark.parametrize("seed", range(20))
def test_what_was_shown_is_never_cut_off(tmp_path: Path, seed: int) -> None:
    """Whatever a sender without a receiver shows of a file that ends anywhere, a receiver that begins then keeps."""
    chance = random.Random(seed)
    log = sample()
    end = chance.randrange(log.events[0].end, log.position + 1)
    data = bytes(log.data[:end]) + bytes(chance.choice([0, 0, 30]))
    folder = make_store(tmp_path, {FIRST: data})
    catalog = Catalog(folder)
    catalog.read()
    shown = catalog.publication
    recovered = recover(folder, Quick()).publication
    assert (recovered.position, recovered.executed) == (shown.position, shown.executed)


def test_a_publication_of_what_is_not_there(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of(chain(1)))
    catalog = Catalog(folder)
    catalog.read()
    before = catalog.logs
    with pytest.raises(StoreDamaged, match=r"published mysql-bin\.000009, which is not in"):
        catalog.update(Publication(1, "mysql-bin.000009", 500, GtidSet(), GtidSet(), ""))
    assert catalog.logs == before


def test_the_newest_files_algorithm_and_source(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of({FIRST: Log(CRC32).begin_file(), SECOND: Log(OFF).begin_file()}))
    SourceSettings({"gtid_mode": "ON"}).save(Quick(), newest(folder).path)
    catalog = Catalog(folder)
    catalog.read()
    assert catalog.checksum == "NONE"
    assert catalog.source == SourceSettings({"gtid_mode": "ON"})


def test_settings_that_the_source_changes_within_a_file(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of({FIRST: Log(CRC32).begin_file()}))
    catalog = Catalog(folder)
    assert catalog.source is None
    catalog.read()
    assert catalog.source is None
    for mode in ("ON", "ON_PERMISSIVE", "OFF"):
        SourceSettings({"gtid_mode": mode}).save(Quick(), newest(folder).path)
        assert catalog.source == SourceSettings({"gtid_mode": mode})
    assert catalog.source is catalog.source, "read once"


def test_reading_on_without_a_receiver(tmp_path: Path) -> None:
    """After each event that comes onto the disk the catalog is what a fresh one reads."""

    async def body() -> None:
        folder = make_store(tmp_path)
        catalog = Catalog(folder)
        catalog.read()
        await catalog.read_on(alone)
        assert catalog.publication == NOTHING
        tail = empty_tail(folder)
        tail.said_purged = GtidSet.parse(f"{UUID_A}:2:7-8")  # a part of which comes after all
        for name, log in chain(3).items():
            begin(tail, name, log)
            for event in log.each()[1:]:
                take(tail, [event])
                tail.advance()
                await catalog.read_on(alone)
                fresh = Catalog(folder)
                fresh.read()
                assert catalog.logs == fresh.logs
                assert catalog.publication.position == fresh.publication.position
                assert catalog.publication.executed == fresh.publication.executed
                assert catalog.publication.purged == fresh.publication.purged
        seen = catalog.publication
        await catalog.read_on(alone)
        assert catalog.publication is seen, "nothing grew"

    asyncio.run(body())


def test_reading_on_finds_the_previous_gtids(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log().begin_file(f"{UUID_A}:1-5").transaction(6)
        folder = make_store(tmp_path, {FIRST: log.data[: log.events[0].end]})
        catalog = Catalog(folder)
        catalog.read()
        (newest(folder).path / FIRST).write_bytes(log.data)
        await catalog.read_on(alone)
        fresh = Catalog(folder)
        fresh.read()
        assert catalog.logs == fresh.logs
        assert catalog.publication == fresh.publication

    asyncio.run(body())


def test_reading_on_when_there_are_more_files(tmp_path: Path) -> None:
    """A file behind the newest, a file in the first timeline, a new timeline: each time all is read anew."""

    async def body() -> None:
        folder = make_store(tmp_path)
        catalog = Catalog(folder)
        steps = [data_of(logs) for logs in (chain(1), chain(2), chain(4))]
        await catalog.read_on(alone)
        make_store(tmp_path, {})
        for number, files in enumerate(
            [*steps, {}, data_of({FIRST: Log().begin_file(f"{UUID_A}:1-8").transaction(9)})]
        ):
            if number == len(steps):
                make_store(tmp_path, {})
            for name, data in files.items():
                (newest(folder).path / name).write_bytes(data)
            await catalog.read_on(alone)
            fresh = Catalog(folder)
            fresh.read()
            assert catalog.logs == fresh.logs
            assert catalog.publication == fresh.publication
        assert [log.timeline for log in catalog.logs] == [1, 1, 1, 1, 2]

    asyncio.run(body())


def test_reading_on_in_a_file_whose_head_was_damaged(tmp_path: Path) -> None:
    """What was read before stays as it is."""

    async def body() -> None:
        log = Log().begin_file().transaction(1).transaction(2)
        folder = make_store(tmp_path, {FIRST: log.data[: log.ends[0]]})
        catalog = Catalog(folder)
        catalog.read()
        logs, publication = catalog.logs.copy(), catalog.publication
        for place in (1, 8):  # the magic, and the type of FORMAT_DESCRIPTION
            (newest(folder).path / FIRST).write_bytes(broken(bytes(log.data), place) + bytes(place))
            with pytest.raises(StoreDamaged, match=FIRST):
                await catalog.read_on(alone)
            assert (catalog.logs, catalog.publication) == (logs, publication)
        (newest(folder).path / FIRST).write_bytes(log.data)
        await catalog.read_on(alone)
        assert catalog.publication.position == log.ends[1]

    asyncio.run(body())


def test_nothing_is_read_while_a_receiver_may_write(tmp_path: Path) -> None:
    async def body() -> None:
        logs = chain(2)
        folder = make_store(tmp_path, data_of({FIRST: logs[FIRST]}))
        catalog = Catalog(folder)

        async def occupied() -> Taking | None:
            return None

        assert not await catalog.read_on(occupied)
        assert catalog.logs == []
        assert await catalog.read_on(alone)
        shown = catalog.publication
        (newest(folder).path / SECOND).write_bytes(logs[SECOND].data)
        assert not await catalog.read_on(occupied)
        assert catalog.publication is shown

    asyncio.run(body())


@pytest.mark.parametrize("grows", [FIRST, SECOND])
def test_what_was_read_beside_a_receiver_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grows: str
) -> None:
    """It came when the reading had begun, wrote, and is still there, or is gone again. Then all is read anew."""

    async def body() -> None:
        logs = chain(2)
        logs[FIRST] = Log().begin_file().transaction(1).transaction(2)
        files = {FIRST: logs[FIRST].data[: logs[FIRST].ends[0]]}
        folder = make_store(tmp_path, files)
        catalog = Catalog(folder)
        catalog.read()
        shown, known = catalog.publication, catalog.logs.copy()
        path = newest(folder).path / grows
        path.write_bytes(logs[grows].data)
        came: list[StoreLock] = []

        def receiving(read: Callable[..., T]) -> Callable[..., T]:
            def reading(*arguments: Any) -> T:
                found = read(*arguments)
                came.append(StoreLock(folder.lock))
                return found

            return reading

        async def look() -> Taking | None:
            taking = catalog.taking()
            return None if taking.held else taking

        with monkeypatch.context() as patch:
            for name in ("_read", "read_further"):
                patch.setattr(catalog_module, name, receiving(getattr(catalog_module, name)))
            assert not await catalog.read_on(look), "it is there"
            came.pop().release()
            assert (catalog.publication, catalog.logs) == (shown, known)
            taking = catalog.taking()

            async def look_and_see_it_go() -> Taking | None:
                while came:
                    came.pop().release()
                return catalog.taking()

            while (newest(folder).path / "clock").write_bytes(b"") or (
                (newest(folder).path / "clock").stat().st_mtime_ns <= taking.time
            ):
                pass
            assert not await catalog.read_on(look_and_see_it_go), "it was there"
            assert (catalog.publication, catalog.logs) == (shown, known)
        assert await catalog.read_on(look)
        fresh = Catalog(folder)
        fresh.read()
        assert catalog.logs == fresh.logs
        assert catalog.publication == fresh.publication
        assert fresh.publication != shown

    asyncio.run(body())


def test_a_folder_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    logs = chain(2)
    folder = make_store(tmp_path, data_of({FIRST: logs[FIRST]}))
    catalog = Catalog(folder)
    catalog.read()
    known = catalog.publication
    place = newest(folder).path
    place.rename(tmp_path / "away")
    place.touch()
    with pytest.raises(StoreDamaged, match="which is not in"):
        catalog.update(replace(known, file=SECOND, position=logs[SECOND].position))
    assert catalog.publication is known
    place.unlink()
    (tmp_path / "away").rename(place)
    (place / SECOND).write_bytes(logs[SECOND].data)
    catalog.update(publication_of(read_store(folder)))
    assert [log.name for log in catalog.logs] == [FIRST, SECOND]


def test_new_files_are_found_by_number_and_the_folder_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = chain(9)
    folder = make_store(tmp_path, data_of(logs))
    whole = publication_of(read_store(folder))
    catalog = Catalog(folder)
    names = list(logs)
    catalog.update(replace(whole, file=names[0], position=logs[names[0]].ends[0]))
    with monkeypatch.context() as patched:
        patched.delattr(Timeline, "binlogs")
        for last in (1, 2, 5, 8):
            catalog.update(replace(whole, file=names[last], position=logs[names[last]].ends[0]))
            sizes = [log.position for log in list(logs.values())[:last]]
            assert catalog.logs == [
                StoredLog(1, name, size) for name, size in zip(names, [*sizes, logs[names[last]].ends[0]], strict=False)
            ]
            for index in range(last + 1):
                behind = sum(log.size for log in catalog.logs[index:])
                assert catalog.lag_bytes(index, 7) == behind - 7
    for name in names[:4]:
        (newest(folder).path / name).unlink()
    (newest(folder).path / names[6]).unlink()
    late = Catalog(folder)
    late.update(replace(whole, file=names[5]))
    late.update(whole)
    assert [log.name for log in late.logs] == [*names[4:6], *names[7:]]


def test_files_that_somebody_removed_do_not_move_those_that_are_being_sent(tmp_path: Path) -> None:
    """A dump knows its file by its place in the list."""
    logs = chain(6)
    names = list(logs)
    folder = make_store(tmp_path, data_of(logs))
    whole = publication_of(read_store(folder))
    catalog = Catalog(folder)
    catalog.update(replace(whole, file=names[2], position=logs[names[2]].ends[0]))
    for name in (names[0], names[3]):
        (newest(folder).path / name).unlink()
    catalog.update(whole)
    assert [log.name for log in catalog.logs] == [*names[:3], *names[4:]]
    assert catalog.lag_bytes(1, 4) == sum(log.size for log in catalog.logs[1:]) - 4


def test_ten_thousand_files_take_little_memory(tmp_path: Path) -> None:
    """PREVIOUS_GTIDS of a thousand intervals are 80 KB each as a set: none of them is kept."""
    scattered = GtidSet.from_runs((SID_B, "", 2 * n, 2 * n) for n in range(1, 1000))
    logs = {}
    for number in range(1, 101):
        log = Log().begin_file(scattered.add_run(SID_A, "", 1, number)).transaction(number + 1)
        logs[f"mysql-bin.{number:06}"] = log
    folder = make_store(tmp_path, data_of(logs))
    tracemalloc.start()
    try:
        catalog = Catalog(folder)
        catalog.read()
        gc.collect()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert catalog.publication.executed == scattered.add_run(SID_A, "", 1, 101)
    assert held < 1_000_000
    assert peak < 5_000_000


def test_previous_gtids_are_remembered_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(path: Path, end: int | None = None) -> GtidSet | None:
        read.append(path.name)
        return read_previous(path, end)

    monkeypatch.setattr(catalog_module, "read_previous", noted)
    catalog = catalog_of(tmp_path, chain(3))
    for _ in range(3):
        assert [catalog.claims(index) for index in range(3)] == [
            GtidSet.parse(f"{UUID_A}:1-{2 * n}") if n else GtidSet() for n in range(3)
        ]
    assert sorted(read) == [FIRST, SECOND, THIRD, THIRD, THIRD], "the newest's may still come"


def test_marks_are_beside_a_file_or_known_by_our_own_walk(tmp_path: Path) -> None:
    logs = chain(2)
    catalog = catalog_of(tmp_path, logs)
    assert [mark.offset for mark in catalog.marks(1)] == logs[SECOND].starts[:1]
    assert list(catalog.marks(0)) == []
    begun = Mark(4, 0, b"", "", 0, None)
    for index in (0, 1):
        path = catalog.path(index)
        marks_path(path).write_bytes(marks_head(path.name) + encode_marks([begun]))
        assert list(catalog.marks(index)) == [begun]


def test_lag(tmp_path: Path) -> None:
    logs = chain(3)
    catalog = catalog_of(tmp_path, logs)
    sizes = [log.position for log in logs.values()]
    assert catalog.lag_bytes(2, sizes[2]) == 0
    assert catalog.lag_bytes(1, 100) == sizes[1] + sizes[2] - 100
    assert catalog.lag_bytes(0, 4) == sum(sizes) - 4


def test_waiting(tmp_path: Path) -> None:
    async def body() -> None:
        catalog = catalog_of(tmp_path, chain(1))
        seen = catalog.publication
        assert not await catalog.wait(seen, 0.01)
        waiting = [asyncio.create_task(catalog.wait(seen, None)) for _ in range(3)]
        await asyncio.sleep(0)
        catalog.update(replace(seen))
        async with asyncio.timeout(20):
            assert await asyncio.gather(*waiting) == [True] * 3
            assert await catalog.wait(seen, None), "what came before is not missed"

    asyncio.run(body())


# --- what is removed, and still there ---


def removed_but_there(path: Path) -> tuple[DataFolder, Publication, First]:
    """A store as a kill leaves it between the note that files are gone and their going: of its two timelines the
    first, of which the second names nothing. With it what was published before, and the first file that is left.
    """
    other = Log().begin_file(GtidSet())
    for gno in (1, 2):
        other.transaction(gno, SID_B)
    folder = make_store(path, data_of(chain(2)), {FIRST: other.data})
    found = recover(folder, Quick())
    tail_of(found).close()
    files = [File(timeline.number, name, 0) for timeline in folder.timelines() for name in timeline.binlogs()]
    commit(Quick(), folder, look_at(folder, [Going(file, "a test") for file in files[:2]]), files[2])
    return folder, found.publication, files[2].place


def test_files_that_are_removed_and_still_there_are_gone_for_who_reads_the_store(tmp_path: Path) -> None:
    folder, before, first = removed_but_there(tmp_path)
    gone = GtidSet.parse(f"{UUID_A}:1-4")
    catalog = Catalog(folder)
    catalog.read()
    shown = catalog.publication
    assert (shown.executed, shown.purged, shown.first) == (before.executed, gone, first)
    assert [(log.timeline, log.name) for log in catalog.logs] == [first]
    with pytest.raises(Refusal, match="purged"):
        start_by_gtid(catalog.logs, catalog.claims, catalog.ended, GtidSet(), shown.purged, catalog.kept)
    assert [(file.timeline.number, file.name) for file in listing(folder, None)] == [first]
    assert [(file.timeline.number, file.name) for file in listing(folder, before)] == [first]
    assert begins(folder) is not None


def test_a_sender_that_starts_beside_a_removal_does_not_look_at_what_goes(tmp_path: Path) -> None:
    folder, before, first = removed_but_there(tmp_path)
    catalog = Catalog(folder)
    catalog.update(replace(before, first=first, purged=GtidSet.parse(f"{UUID_A}:1-4")))
    assert [(log.timeline, log.name) for log in catalog.logs.everything()] == [first]


def test_the_newest_that_is_known_keeps_its_index_when_it_is_removed(tmp_path: Path) -> None:
    folder, before, first = removed_but_there(tmp_path)
    catalog = Catalog(folder)
    catalog.update(replace(before, timeline=1, file=SECOND, position=chain(2)[SECOND].position))
    known = catalog.logs.everything()
    catalog.update(replace(before, first=first))
    assert catalog.logs.everything()[:2] == known, "a dump may be at it"
    assert catalog.oldest == first


def test_files_removed_by_hand_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a sender alone; each look would read the whole store, for ever."""
    catalog = catalog_of(tmp_path, chain(3))
    catalog.path(0).unlink()
    reads: list[StoredFile] = []

    def counted(folder: DataFolder) -> Iterator[StoredFile]:
        for file in read_store(folder):
            reads.append(file)
            yield file

    monkeypatch.setattr(catalog_module, "read_store", counted)
    for _ in range(3):
        assert asyncio.run(catalog.read_on(alone))
    assert len(reads) == 2
    assert catalog.oldest == (1, SECOND)
    assert [log.name for log in catalog.logs] == [SECOND, THIRD]


def test_a_note_that_cannot_be_read_ends_no_conversation(tmp_path: Path) -> None:
    folder, before, _ = removed_but_there(tmp_path)
    catalog = Catalog(folder)
    catalog.update(before)
    assert catalog.removed(0)
    for name in FILES:
        (folder.binlogs / name).write_bytes(b"{}")
    assert not catalog.removed(0)
