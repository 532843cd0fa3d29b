"""The newest file while it is received, through files, reconnects, crashes and power losses."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest

from binlogd.binlog.events import FormatDescription, clear_in_use, for_position_start, with_created_zero
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import CRC_LENGTH, ChecksumAlgorithm
from binlogd.errors import EventError, SourceRefused, StoreUnreadable
from binlogd.store.index import fingerprint, marks_path, read_marks, read_summary
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.reader import publication_of, read_contents, read_store
from binlogd.store.recovery import recover
from binlogd.store.tail import Tail
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, UUID_B, Log, broken
from tests.store.powerloss import FailingPower, Fate, put
from tests.store.support import (
    FIRST,
    SECOND,
    Held,
    Quick,
    Recording,
    begin,
    chain,
    empty_tail,
    make_store,
    newest,
    settle,
    tail_of,
    take,
)


def test_a_whole_life(tmp_path: Path) -> None:
    """Each publication is what a reader of the folder finds at that time; finished files and indexes are exact."""
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    assert tail.name == ""
    assert tail.walk is None
    transactions = 0
    for name, log in chain(3).items():
        begin(tail, name, log)
        assert tail.name == name
        for index, event in enumerate(log.each()[1:], 1):
            take(tail, [event])
            before = tail.publication
            publication = settle(tail)
            assert tail.publication == (publication or before)
            transactions += log.events[index].end in log.ends
            assert tail.transactions == transactions
            assert publication_of(read_store(folder)) == tail.publication
    tail.finish()
    tail.close()
    for name, log in chain(3).items():
        path = newest(folder).path / name
        assert path.read_bytes() == log.data
        contents = read_contents(path)
        assert contents is not None
        assert read_summary(path, log.position) == contents.summary(name, log.position)
        assert list(read_marks(path)) == contents.walk.marks


def test_advance_tells_of_what_is_new_and_of_nothing_else(tmp_path: Path) -> None:
    log = Log().begin_file(f"{UUID_B}:1-7").transaction(1).transaction(2, SID_B, "t")
    tail = empty_tail(make_store(tmp_path))
    begin(tail, FIRST, log)
    first = settle(tail)
    assert first == Publication(1, FIRST, log.events[0].end, GtidSet(), GtidSet(), "8.0.36")
    assert settle(tail) is None
    take(tail, log.each()[1:2])
    second = settle(tail)
    assert second is not None
    assert second.executed == second.purged == GtidSet.parse(f"{UUID_B}:1-7")
    published = []
    for event in log.each()[2:]:
        take(tail, [event])
        publication = settle(tail)
        if publication is not None:
            published.append((publication.position, publication.executed.compact()))
    assert published == [
        (log.ends[0], f"{UUID_A}:1,{UUID_B}:1-7"),
        (log.ends[1], f"{UUID_A}:1,{UUID_B}:1-7:t:2"),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_each_publication_has_the_step_from_the_one_before(tmp_path: Path, seed: int) -> None:
    """Whether it was waited for, came by a sync in the background, or overtook one."""
    chance = random.Random(seed)
    tail = empty_tail(make_store(tmp_path))
    log = Log().begin_file(f"{UUID_B}:1-7")
    for gno in chance.sample(range(1, 60), 50):
        log.transaction(gno, chance.choice([SID_A, SID_B]), chance.choice(["", "t"]))
    begin(tail, FIRST, log)
    steps = 0
    for event in log.each()[1:]:
        take(tail, [event])
        before, publication = tail.publication, None
        match chance.choice("-bbes"):
            case "b" if not tail.syncing:
                tail.begin_sync()
            case "e" if tail.syncing:
                publication = tail.advance_synced()
            case "s":
                publication = settle(tail)
        if publication is not None:
            step = publication.step
            assert step is not None
            assert step.before is before.executed
            assert step.after is publication.executed
            assert step.before | step.added == step.after
            steps += bool(step.added)
    assert steps > 5
    tail.close()


def test_gaps_in_previous_gtids_are_purged(tmp_path: Path) -> None:
    tail = empty_tail(make_store(tmp_path))
    for name, previous, gno in ((FIRST, "", 1), (SECOND, f"{UUID_A}:1-3", 4)):
        log = Log(created=1).begin_file(previous).transaction(gno)
        begin(tail, name, log)
        take(tail, log.each()[1:])
        settle(tail)
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1-4")
    assert tail.publication.purged == GtidSet.parse(f"{UUID_A}:2-3")


def test_previous_gtids_are_read_once_they_are_whole_and_synced(tmp_path: Path) -> None:
    """Also when a new connection brings them: a file must never claim that nothing is before it."""
    folder = make_store(tmp_path)
    logs = chain(2)
    tail = empty_tail(folder)
    begin(tail, FIRST, logs[FIRST])
    take(tail, logs[FIRST].each()[1:])
    settle(tail)
    begin(tail, SECOND, logs[SECOND])
    settle(tail)
    tail.close()
    for cut in (0, 10, len(logs[SECOND].event(1)) - 1):
        path = newest(folder).path / SECOND
        path.write_bytes(logs[SECOND].data[: logs[SECOND].events[0].end + cut])
        tail = tail_of(recover(folder, Quick()))
        take(tail, logs[SECOND].each()[1:])
        settle(tail)
        tail.finish()
        summary = read_summary(path, logs[SECOND].position)
        assert summary is not None
        assert summary.claimed == fingerprint(GtidSet.parse(f"{UUID_A}:1-2"))


def test_going_on_after_recovery(tmp_path: Path) -> None:
    """Cut behind every event, recovered, and received to the end: as if nothing had happened."""
    log = Log().begin_file(f"{UUID_B}:1").transaction(1).statement(2).transaction(3).payload(4)
    log.rotate()
    for cut in range(1, len(log.events) + 1):
        for extra in (0, 5):
            size = log.events[cut - 1].end + extra
            folder = make_store(tmp_path / f"{cut}-{extra}", {FIRST: log.data[:size]})
            tail = tail_of(recover(folder, Quick()))
            position = tail.publication.position
            already = sum(end <= position for end in log.ends)
            assert tail.walk is not None
            assert tail.walk.position == position
            assert tail.advance() is None
            assert tail.transactions == 0
            rest = [log.event(index) for index, made in enumerate(log.events) if made.start >= position]
            take(tail, rest)
            settle(tail)
            assert tail.transactions == len(log.ends) - already
            assert tail.publication.executed == log.set | GtidSet.parse(f"{UUID_B}:1")
            assert tail.publication.purged == GtidSet.parse(f"{UUID_B}:1")
            tail.finish()
            path = newest(folder).path / FIRST
            contents = read_contents(path)
            assert contents is not None
            assert path.read_bytes() == log.data
            assert read_summary(path, log.position) == contents.summary(FIRST, log.position)


def test_rewind_drops_what_is_not_a_whole_transaction(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    tail.rewind()
    begin(tail, FIRST, log)
    kept = [log.event(i) for i, made in enumerate(log.events) if i > 0 and made.end <= log.ends[0]]
    rest = [log.event(i) for i, made in enumerate(log.events) if made.start >= log.ends[0]]
    take(tail, kept + rest[:-1])
    settle(tail)
    tail.append(memoryview(rest[-1][:10]))  # of a large event what had come
    tail.sync()
    for _ in range(2):
        tail.rewind()
        assert tail.walk is not None
        assert tail.walk.position == log.ends[0] == tail.publication.position
        assert (newest(folder).path / FIRST).read_bytes() == log.data[: log.ends[0]]
    take(tail, rest)
    settle(tail)
    assert tail.publication.executed == log.set
    assert tail.transactions == 2
    assert (newest(folder).path / FIRST).read_bytes() == log.data


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_file_that_is_stored_is_never_begun_again(tmp_path: Path, name: str) -> None:
    """The source was reset, or another one answers at its address."""
    folder = make_store(tmp_path)
    logs = chain(2)
    tail = empty_tail(folder)
    for each, log in logs.items():
        begin(tail, each, log)
        take(tail, log.each()[1:])
        settle(tail)
    before = {path: path.read_bytes() for path in newest(folder).path.iterdir()}
    other = Log().begin_file().transaction(99)
    with pytest.raises(SourceRefused, match=f"begins {name} again"):
        begin(tail, name, other)
    assert {path: path.read_bytes() for path in newest(folder).path.iterdir()} == before


def test_a_next_file_that_was_put_back_meanwhile(tmp_path: Path) -> None:
    """That is no other history: the store has to be read again."""
    folder = make_store(tmp_path)
    logs = chain(2)
    tail = empty_tail(folder)
    begin(tail, FIRST, logs[FIRST])
    take(tail, logs[FIRST].each()[1:])
    settle(tail)
    (newest(folder).path / SECOND).write_bytes(logs[SECOND].data)
    with pytest.raises(StoreUnreadable, match=f"{SECOND} is there, and was not") as caught:
        begin(tail, SECOND, logs[SECOND])
    assert caught.value.alarm == "store_missing"
    assert (newest(folder).path / SECOND).read_bytes() == logs[SECOND].data


def test_a_source_without_checksum_algorithm(tmp_path: Path) -> None:
    event = FormatDescription("5.5.60", 0, bytes(27), ChecksumAlgorithm.UNDEF).encode(server_id=1)
    tail = empty_tail(make_store(tmp_path))
    with pytest.raises(SourceRefused, match=r"5\.5\.60"):
        tail.start(FIRST, event, FormatDescription.decode(event))
    assert list(tail.timeline.path.iterdir()) == []


def test_a_bad_beginning_of_a_file_leaves_the_one_before_open(tmp_path: Path) -> None:
    """The connection is made anew, and goes on where that file ends."""
    logs = chain(2)
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    begin(tail, FIRST, logs[FIRST])
    take(tail, logs[FIRST].each()[1:])
    settle(tail)
    event = broken(logs[SECOND].event(0), 30)
    with pytest.raises(EventError, match="CRC-32"):
        tail.start(SECOND, event, FormatDescription.decode(event))
    with pytest.raises(SourceRefused):
        begin(tail, FIRST, logs[SECOND])
    assert tail.name == FIRST
    tail.rewind()
    assert tail.walk is not None
    assert tail.walk.position == logs[FIRST].position
    assert sorted(path.name for path in newest(folder).path.iterdir()) == [FIRST, f"{FIRST}.marks", "mysql-bin.index"]
    begin(tail, SECOND, logs[SECOND])
    take(tail, logs[SECOND].each()[1:])
    settle(tail)
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1-4")
    assert read_summary(newest(folder).path / FIRST, logs[FIRST].position) is not None


def test_resuming_needs_the_same_format_description(tmp_path: Path) -> None:
    log = Log(created=1_700_000_000).begin_file().transaction(1)
    folder = make_store(tmp_path, {FIRST: log.data})
    tail = tail_of(recover(folder, Quick()))
    event = log.event(0)
    for same in (event, for_position_start(event), with_created_zero(event)):
        assert tail.resume(same) is tail.walk
    other = bytearray(event)
    for at in [*range(13), *range(21, len(event) - 4)]:
        if 69 + 2 <= at < 75:
            continue  # created, which a source may leave out
        other[:] = event
        other[at] ^= 1
        with pytest.raises(EventError):  # a bit that flipped on the way says nothing about the source
            tail.resume(bytes(other))
        with pytest.raises((SourceRefused, EventError)):
            tail.resume(clear_in_use(other))
    another = Log(created=1_700_000_000, version="8.0.35").begin_file()
    with pytest.raises(SourceRefused, match="begins otherwise"):
        tail.resume(another.event(0))


def test_resuming_without_checksums(tmp_path: Path) -> None:
    """MySQL then leaves the CRC as it was when it sets `created` to 0."""
    log = Log(OFF, created=1_700_000_000).begin_file().transaction(1)
    tail = tail_of(recover(make_store(tmp_path, {FIRST: log.data}), Quick()))
    event = log.event(0)
    stale = with_created_zero(event)[:-4] + event[-4:]
    assert stale != with_created_zero(event)
    assert tail.resume(stale) is tail.walk


def test_the_same_file_and_position_in_a_new_timeline_is_news(tmp_path: Path) -> None:
    log = Log()
    log.format()
    folder = make_store(tmp_path, {FIRST: log.data})
    old = tail_of(recover(folder, Quick()))
    timeline = folder.new_timeline(Quick(), UUID_B)
    tail = Tail(disk=Quick(), timeline=timeline, publication=old.publication, contents=None, predecessor=old)
    assert read_summary(old.timeline.path / FIRST, log.position) is None
    begin(tail, FIRST, log)
    assert read_summary(old.timeline.path / FIRST, log.position) is not None, "the timeline before has ended"
    publication = settle(tail)
    assert publication is not None
    assert (publication.timeline, publication.file, publication.position) == (2, FIRST, log.position)


@pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
def test_the_algorithm_may_change_from_file_to_file(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    tail = empty_tail(make_store(tmp_path))
    other = OFF if algorithm is CRC32 else CRC32
    for name, each, gno in ((FIRST, algorithm, 1), (SECOND, other, 2)):
        log = Log(each).begin_file().transaction(gno)
        begin(tail, name, log)
        take(tail, log.each()[1:])
        settle(tail)
        tail.finish()
        summary = read_summary(tail.timeline.path / name, log.position)
        assert summary is not None
        assert summary.checksum == each


def test_marks_are_there_as_soon_as_what_they_speak_of_is_published(tmp_path: Path) -> None:
    """Received in any pieces, with lost connections and restarts: those of one walk over what is stored."""
    chance = random.Random(3)
    log = Log().begin_file()
    for gno in range(1, 120):
        log.transaction(gno, sizes=(40_000,))
    events = log.each()
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    begin(tail, FIRST, log)
    path = newest(folder).path / FIRST
    at = 1
    while at < len(events):
        count = chance.randrange(1, 120)
        take(tail, events[at : at + count])
        at = min(at + count, len(events))
        settle(tail)
        contents = read_contents(path)
        assert contents is not None
        assert list(read_marks(path)) == contents.walk.marks
        match chance.randrange(6):
            case 0:
                tail.rewind()
            case 1:
                tail.close()
                marks_path(path).write_bytes(b"torn")
                tail = tail_of(recover(folder, Quick()))
            case _:
                continue
        assert tail.walk is not None
        at = (
            next(i for i, made in enumerate(log.events) if made.start == tail.walk.position) if at < len(events) else at
        )
        assert list(read_marks(path)) == contents.walk.marks
    tail.finish()
    whole = read_contents(path)
    assert whole is not None
    assert len(whole.walk.marks) == 5
    assert list(read_marks(path)) == whole.walk.marks
    assert sorted(file.name for file in path.parent.iterdir()) == [FIRST, f"{FIRST}.idx", "mysql-bin.index"]


def test_nothing_is_synced_that_the_caller_did_not_ask_for(tmp_path: Path) -> None:
    disk = Recording()
    log = Log().begin_file().transaction(1)
    tail = empty_tail(make_store(tmp_path), disk)
    begin(tail, FIRST, log)
    disk.steps.clear()
    take(tail, log.each()[1:])
    assert set(disk.steps) == {f"write {FIRST}"}
    tail.sync()
    assert disk.steps[-1] == f"sync {FIRST}"
    disk.steps.clear()
    tail.advance()
    assert disk.steps == [f"create {FIRST}.marks", *[f"write {FIRST}.marks"] * 2]


def test_a_background_sync_publishes_what_it_covers_and_no_more(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2).transaction(3)
    disk = Held()
    tail = empty_tail(make_store(tmp_path), disk)
    begin(tail, FIRST, log)
    settle(tail)
    events = log.each()[1:]
    ends = [log.events[0].end + sum(len(event) for event in events[: at + 1]) for at in range(len(events))]
    first = ends.index(log.ends[0]) + 1
    second = ends.index(log.ends[1]) + 1
    take(tail, events[:first])
    with disk.held():
        tail.begin_sync()
        disk.wait_for_sync()
        take(tail, events[first:second])
        assert (tail.syncing, tail.sync_ended) == (True, False)
        assert tail.publication.position < log.ends[0], "what is being synced is not shown"
    publication = tail.advance_synced()
    assert publication is tail.publication
    assert publication is not None
    assert publication.position == log.ends[0], "what came behind it is not shown"
    assert publication.executed == GtidSet.parse(f"{UUID_A}:1")
    assert not tail.syncing
    tail.begin_sync()
    take(tail, events[second:])
    tail.sync()
    newest = tail.advance()
    assert newest is not None
    assert newest.position == log.ends[2], "a sync that is waited for covers both"
    assert newest.executed == log.set
    tail.begin_sync()
    assert tail.advance_synced() is None, "nothing new"
    tail.finish()
    tail.close()
    assert recover(DataFolder(tmp_path), Quick()).publication == newest


# --- power losses ---


def test_the_power_may_fail_while_a_tail_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncation that is not synced may not have happened; nor may what was then written in its place."""
    log = Log().begin_file().transaction(1).transaction(2)
    again = Log(base=log.ends[0])
    again.transaction(2, sizes=(7, 7, 7))
    folder = make_store(tmp_path / "live", {FIRST: log.data[:-CRC_LENGTH]})
    disk = FailingPower(folder.path, random.Random(1))
    disk.use(monkeypatch)
    ends = [log.ends[0]]
    count = 0

    def check() -> None:
        nonlocal count
        for names, data in product(Fate, Fate):
            count += 1
            found = DataFolder(tmp_path / f"image-{count}")
            put(disk.image(names, data), found.path)
            position = recover(found, Quick()).publication.position
            assert position >= ends[-1]
            stored = (newest(found).path / FIRST).read_bytes()
            assert stored in (log.data[: log.ends[0]], bytes(log.data[: log.ends[0]]) + again.data)

    disk.on_step = check
    tail = tail_of(recover(folder, disk), disk)
    take(tail, again.each())
    settle(tail)
    ends.append(again.position)
    check()
    assert count > 200
