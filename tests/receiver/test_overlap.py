"""A dump that goes on proves first that the source has what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from binlogd.binlog.events import for_position_start, heartbeat_v2
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.walk import Walk
from binlogd.errors import EventError, ServerError, SourceDiverged, Unreachable
from binlogd.receiver.overlap import Overlap
from binlogd.receiver.plan import Start
from binlogd.store import overlap as store_overlap
from binlogd.store.purged import load
from binlogd.store.tail import Tail
from binlogd.wire.errors import encode_error
from binlogd.wire.packets import encode_packets
from tests.binlog.making import CRC32, SERVER_ID, SID_A, UUID_B, Log, broken, later
from tests.receiver.support import Running, dump, fresh, rotate_to, whole_file
from tests.store.support import FIRST, SECOND, Recording

pytestmark = pytest.mark.usefixtures("closing")

SEMI_SYNC = pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
Sent = list[bytes | tuple[bytes, bool]]


def history(more: int = 0) -> Log:
    """Three transactions of several kinds, and so many more."""
    log = Log().begin_file().transaction(1).statement(2).transaction(3, sizes=(10, 2000))
    for gno in range(4, 4 + more):
        log.transaction(gno)
    return log


def stored(tmp_path: Path, log: Log) -> tuple[Tail, Recording]:
    """A store that holds the log."""
    _, tail, disk = fresh(tmp_path)
    with pytest.raises(Unreachable):
        Running(tail, disk).run(dump(whole_file(log)))
    tail.rewind()
    disk.steps.clear()
    return tail, disk


def again(tail: Tail, disk: Recording, position: int, *, semi_sync: bool = False) -> Running:
    """Another dump, which begins at ``position``."""
    overlap = tail.publication.position - position
    return Running(tail, disk, semi_sync=semi_sync, start=Start(FIRST, position, "COM_BINLOG_DUMP", overlap))


def sent_from(log: Log, position: int, *, flags: bool = False) -> Sent:
    """What a source sends that has the log."""
    sent: Sent = [rotate_to(FIRST, position), for_position_start(log.event(0))]
    for event, made in zip(log.each(), log.events, strict=True):
        if made.start >= position:
            sent.append((event, flags and made.end in log.ends))
    return sent


def heartbeat(position: int) -> bytes:
    return heartbeat_v2(FIRST, position, server_id=SERVER_ID, algorithm=CRC32)


def positions(log: Log) -> list[int]:
    """Where an overlap of the log may begin: at every event behind the first."""
    return [made.start for made in log.events[1:]]


def refused(running: Running, script: Sequence[bytes], match: str, *, hang_up: bool = True) -> None:
    """The stream finds the source's history to be another: nothing is written, acknowledged or shown."""
    path = running.tail.timeline.path / FIRST
    before = path.read_bytes()
    with pytest.raises(SourceDiverged, match=match):
        running.run(*script, hang_up=hang_up)
    assert path.read_bytes() == before
    assert running.published == []
    assert not [step for step in running.steps if step.startswith(("write", "truncate"))]


@SEMI_SYNC
@pytest.mark.parametrize("single", [False, True], ids=["whole", "in single bytes"])
def test_the_overlap_is_compared_and_not_stored_again(tmp_path: Path, semi_sync: bool, single: bool) -> None:
    log, longer = history(), history(more=2)
    for number, position in enumerate(positions(log)):
        tail, disk = stored(tmp_path / str(number), log)
        running = again(tail, disk, position, semi_sync=semi_sync)
        script = dump(sent_from(longer, position, flags=semi_sync), semi_sync=semi_sync)
        with pytest.raises(Unreachable, match="closed"):
            running.run(*([script[at : at + 1] for at in range(len(script))] if single else [script]))
        assert (tail.timeline.path / FIRST).read_bytes() == longer.data
        assert tail.publication.executed == longer.set
        assert tail.transactions == len(longer.ends)
        if semi_sync:
            acknowledged = [position for _, position in running.acks()]
            assert acknowledged == sorted(acknowledged)
            assert set(acknowledged) <= {made.end for made in longer.events}
            assert acknowledged[-1] == longer.position


def test_events_of_the_overlap_are_acknowledged_where_they_end(tmp_path: Path) -> None:
    """An old source waits for the ACK before it sends more."""
    log = history()
    tail, disk = stored(tmp_path, log)
    running = again(tail, disk, log.starts[0], semi_sync=True)
    sent = sent_from(log, log.starts[0], flags=True)
    first = next(index for index, one in enumerate(sent) if isinstance(one, tuple) and one[1])
    with pytest.raises(Unreachable, match="closed"):
        running.run(dump(sent[: first + 1], semi_sync=True))
    assert running.acks() == [(FIRST, log.ends[0])]


@SEMI_SYNC
def test_other_bytes_anywhere_in_the_overlap(tmp_path: Path, semi_sync: bool) -> None:
    """The same events at another time: of every length the same, and the checksums right."""
    log = history()
    other = Log()
    other.data, other.events, other.ends = bytearray(later(log, 7)), log.events, log.ends
    for number, position in enumerate(positions(log)):
        tail, disk = stored(tmp_path / str(number), log)
        sent = sent_from(other, position, flags=semi_sync)
        sent[1] = for_position_start(log.event(0))
        running = again(tail, disk, position, semi_sync=semi_sync)
        refused(running, [dump(sent, semi_sync=semi_sync)], f"other bytes behind {position} than")
        assert running.acks() == []


@SEMI_SYNC
@pytest.mark.parametrize("size", [1, 40, 5000, 700_000])
def test_an_event_that_crosses_the_end(tmp_path: Path, semi_sync: bool, size: int) -> None:
    """The last event before the end is another, and longer, one; the beginning of it is the same."""
    log = history()
    log.add(30, b"end")  # a last event of its own, in no transaction
    tail, disk = stored(tmp_path, log)
    other = history()
    other.add(30, b"end" + bytes(size))
    position = log.events[-1].start
    running = again(tail, disk, position, semi_sync=semi_sync)
    refused(running, [dump(sent_from(other, position), semi_sync=semi_sync)], "no event ends at|other bytes")


def test_a_large_event_that_crosses_the_end(tmp_path: Path) -> None:
    log = history()
    log.add(30, bytes(600_000))
    tail, disk = stored(tmp_path, log)
    other = history()
    other.add(30, bytes(700_000))
    position = log.events[-1].start
    refused(again(tail, disk, position), [dump(sent_from(other, position))], "no event ends at|other bytes")


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_source_whose_file_is_shorter(tmp_path: Path, lost: int) -> None:
    """It sends what it has, and then says that it waits."""
    log = history()
    tail, disk = stored(tmp_path, log)
    position = log.events[1].start
    end = log.events[-lost].start
    sent = [*sent_from(log, position)[:-lost], heartbeat(end)]
    refused(
        again(tail, disk, position), [dump(sent)], f"ends at {end}, the stored one at {log.position}", hang_up=False
    )


def test_a_source_that_goes_on_in_another_file(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    position = log.events[1].start
    sent = [*sent_from(log, position)[:-1], *whole_file(Log().begin_file(), SECOND)]
    refused(again(tail, disk, position), [dump(sent)], f"ends at {log.events[-1].start}")
    assert not (tail.timeline.path / SECOND).exists()


def test_heartbeats_behind_the_overlap_are_welcome(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    running = again(tail, disk, log.starts[1])
    with pytest.raises(Unreachable):
        running.run(dump([*sent_from(log, log.starts[1]), heartbeat(log.position)]))
    assert running.progress.lost_at == 0


def test_a_connection_lost_within_the_overlap_leaves_everything_as_it_is(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    position = log.events[1].start
    script = dump(sent_from(log, position))
    for length in range(0, len(script), 7):
        tail.rewind()
        with pytest.raises(Unreachable):
            again(tail, disk, position).run(script[:length])
        assert (tail.timeline.path / FIRST).read_bytes() == log.data
        assert tail.publication.position == log.position


def test_a_broken_event_of_the_overlap_is_no_other_history(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    sent = sent_from(log, log.starts[1])
    assert isinstance(sent[3], tuple)
    sent[3] = broken(sent[3][0], 20)
    with pytest.raises(EventError, match="CRC-32"):
        again(tail, disk, log.starts[1]).run(dump(sent))
    assert (tail.timeline.path / FIRST).read_bytes() == log.data


def test_a_large_event_of_the_overlap_that_was_altered_on_the_way_is_no_other_history(tmp_path: Path) -> None:
    """Its pieces differ before its checksum says why."""
    log = history()
    log.add(30, bytes(600_000))
    tail, disk = stored(tmp_path, log)
    position = log.events[-1].start
    event = broken(log.event(-1), 200_000)
    for length in (len(event) // 2, len(event)):
        script = dump([*sent_from(log, position)[:2], event])
        with pytest.raises(EventError if length == len(event) else Unreachable):
            again(tail, disk, position).run(script[: len(script) - len(event) + length])
        tail.rewind()
    other = history()
    other.add(30, b"other" + bytes(599_995))
    refused(again(tail, disk, position), [dump(sent_from(other, position))], f"other bytes behind {position} than")


@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_the_packet_in_which_a_large_event_goes_on_may_be_short(tmp_path: Path, left: int) -> None:
    log = history()
    tail, _ = stored(tmp_path, log)
    overlap = Overlap(tail, Start(FIRST, log.position - left, "COM_BINLOG_DUMP", left), framing=7)
    within = cast(Walk, SimpleNamespace(large_left=left))
    assert overlap.scan_end(bytearray(100), 10, 100, within) == 10 + 4 + left


def test_an_error_in_the_overlap_is_what_the_source_says(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    position = log.events[-1].start  # the overlap is shorter than the error
    begun = dump(sent_from(log, position)[:2])
    error, _ = encode_packets(encode_error(1236, "HY000", "bogus data in log event " * 9), 3)
    with pytest.raises(ServerError, match="bogus data"):
        again(tail, disk, position).run(begun + error)


# --- which part of the file it is ---


def test_an_overlap_begins_with_a_transaction(tmp_path: Path) -> None:
    """At the last mark before the end: about a MiB."""
    log = Log().begin_file()
    for gno in range(1, 60):
        log.transaction(gno, sizes=(100_000,))
    tail, _ = stored(tmp_path, log)
    assert log.position - tail.overlap() in log.starts
    assert 0 < tail.overlap() <= 1_200_000
    (tail.timeline.path / f"{FIRST}.marks").unlink()
    assert log.position - tail.overlap() == log.events[1].start


def test_an_overlap_of_what_marks_lie_about(tmp_path: Path) -> None:
    log = history()
    tail, _ = stored(tmp_path, log)
    marks = tail.timeline.path / f"{FIRST}.marks"
    head = marks.read_bytes().splitlines(keepends=True)[0]
    for beside in range(1, 40):  # within an event: lengths of nothing, too short, too long
        marks.write_bytes(head + f"{log.starts[1] + beside} 1700000000 - -\n".encode())
        assert log.position - tail.overlap() == log.events[1].start


def test_an_overlap_of_a_giant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of its end as is to be fetched at most."""
    monkeypatch.setattr(store_overlap, "LONGEST", 50_000)
    log = Log().begin_file().transaction(1, SID_A, sizes=(40_000,) * 3)
    tail, _ = stored(tmp_path, log)
    starts = [made.start for made in log.events]
    assert log.position - tail.overlap() == next(at for at in starts if log.position - at <= 50_000)
    log = Log().begin_file().statement(1, text=b"CREATE TABLE t (a INT) COMMENT '" + b"x" * 60_000 + b"'")
    tail, _ = stored(tmp_path / "statement", log)
    assert tail.overlap() == 0


def test_a_new_file_overlaps_from_its_first_event(tmp_path: Path) -> None:
    log = Log().begin_file()
    tail, disk = stored(tmp_path, log)
    assert tail.overlap() == log.position - log.events[0].end
    position = log.events[0].end
    with pytest.raises(Unreachable):
        again(tail, disk, position).run(dump(sent_from(history(), position)))
    assert (tail.timeline.path / FIRST).read_bytes() == history().data


# --- what the source says it has purged ---

BACKUP = GtidSet.parse(f"{UUID_B}:1-9")


def test_what_the_source_has_purged_counts_once_its_history_is_proved(tmp_path: Path) -> None:
    log, longer = history(), history(more=2)
    tail, disk = stored(tmp_path, log)
    tail.said_purged = BACKUP | log.set
    running = again(tail, disk, log.starts[0])
    with pytest.raises(Unreachable):
        running.run(dump(sent_from(longer, log.starts[0])))
    assert [(one.position, one.purged) for one in running.published] == [
        (log.position, BACKUP),
        (longer.position, BACKUP),
    ]
    assert running.published[-1].executed == BACKUP | longer.set
    assert load(tail.timeline.path) == BACKUP


def test_what_a_source_with_another_history_has_purged_does_not(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    tail.said_purged = BACKUP
    other = Log().begin_file().transaction(1).statement(2).transaction(7, sizes=(10, 2000))
    refused(again(tail, disk, log.starts[1]), [dump(sent_from(other, log.starts[1]))], "other bytes")
    assert tail.publication.purged == load(tail.timeline.path) == GtidSet()


def test_what_a_source_has_purged_that_goes_away_too_early_does_not(tmp_path: Path) -> None:
    log = history()
    tail, disk = stored(tmp_path, log)
    tail.said_purged = BACKUP
    running = again(tail, disk, log.starts[0])
    with pytest.raises(Unreachable):
        running.run(dump(sent_from(log, log.starts[0])[:-1]))
    assert running.published == []
    assert load(tail.timeline.path) == GtidSet()


def test_what_the_source_has_purged_is_published_with_a_new_timeline(tmp_path: Path) -> None:
    _, tail, disk = fresh(tmp_path)
    tail.said_purged = BACKUP
    running, log = Running(tail, disk), history()
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(log)))
    assert {one.purged for one in running.published} == {BACKUP}
    assert running.published[-1].executed == BACKUP | log.set
