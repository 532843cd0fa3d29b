"""Following a file's events: what is sound, what adds up, what is found; whole and in pieces."""

from __future__ import annotations

import random
import struct
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.gtid import GNO_MAX, GtidSet
from binlogd.binlog.gtid_events import GtidEvent, tagged_gtid
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import MAX_EVENT, PREFIX, WHOLE_LIMIT, Boundary, GtidRun, Walk
from binlogd.errors import EventError
from tests.binlog import builders
from tests.binlog.feeding import walk_in_pieces, walked
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, Log, broken, resealed, sample

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def runs(walk: Walk) -> list[tuple[bytes, str, int, int]]:
    return [(run.sid, run.tag, run.first, run.last) for run in walk.take_gtids()]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_query_that_ends_within_its_own_head(cut: int) -> None:
    whole = builders.query(b"BEGIN", schema="ab", status=b"12")
    event = bytearray(resealed(whole[: -4 - cut] + bytes(4)))
    walk = Walk(position=100, checksum=4)
    if cut < 6:  # the text itself: another statement
        walk.whole(event, 0, len(event))
        assert walk.boundary == Boundary.OUTSIDE
        return
    with pytest.raises(EventError, match="cut short"):
        walk.whole(event, 0, len(event))
    assert walk.position == 100


@pytest.mark.parametrize("cut", range(1, 26))
@pytest.mark.parametrize("kind", ["gtid", "anonymous", "tagged", "mariadb"])
def test_a_gtid_event_that_is_cut_short(kind: str, cut: int) -> None:
    whole = {
        "gtid": builders.gtid(SID_A, 5, clock=None),
        "anonymous": builders.gtid(SID_A, 0, clock=None),
        "tagged": builders.tagged_gtid(SID_A, "t", 5),
        "mariadb": builders.mariadb_gtid(0, 5, tail=b""),
    }[kind]
    walk = Walk(position=100, checksum=4)
    walk.whole(whole, 0, len(whole))
    event = resealed(whole[: len(whole) - 4 - cut] + bytes(4)) if len(whole) - cut >= 23 else whole[:22]
    walk = Walk(position=100, checksum=4)
    with pytest.raises(EventError):
        walk.whole(event, 0, len(event))
    assert walk.position == 100
    assert walk.take_gtids() == []


@pytest.mark.parametrize("gno", [0, GNO_MAX + 1, 2**63, 2**64 - 1])
def test_a_gtid_with_a_number_that_cannot_be(gno: int) -> None:
    body = struct.pack("<B16sQ", 1, SID_A, gno)
    event = builders.event(EventType.GTID, body)
    with pytest.raises(EventError, match="has the number"):
        Walk(position=4, checksum=4).whole(event, 0, len(event))


@pytest.mark.parametrize("gno", [0, -1, -(2**63), GNO_MAX + 1])
def test_a_tagged_gtid_with_a_number_that_cannot_be(gno: int) -> None:
    event = builders.tagged_gtid(SID_A, "tag", gno)
    with pytest.raises(EventError, match="has the number"):
        Walk(position=4, checksum=4).whole(event, 0, len(event))


@pytest.mark.parametrize("tag", ["A", "9a", "a-b", "a" * 33, "a b", "ä"])
def test_a_tagged_gtid_with_a_tag_that_cannot_be(tag: str) -> None:
    event = builders.tagged_gtid(SID_A, tag, 5)
    with pytest.raises(EventError, match="cut short or malformed"):
        Walk(position=4, checksum=4).whole(event, 0, len(event))


@given(
    sid=st.binary(min_size=16, max_size=16),
    tag=st.from_regex(r"([a-z_][a-z0-9_]{0,31})?", fullmatch=True),
    gno=st.integers(1, GNO_MAX),
)
@settings(deadline=None)
def test_tagged_gtids_are_read_as_the_codec_reads_them(sid: bytes, tag: str, gno: int) -> None:
    event = builders.tagged_gtid(sid, tag, gno, [(4, 0), (5, 1)])
    decoded = GtidEvent.decode(event, 4)
    assert tagged_gtid(event, 19, len(event) - 4) == (sid, tag, gno) == (decoded.sid, decoded.tag, decoded.gno)
    for end in range(19, 60):
        try:
            assert tagged_gtid(event, 19, end) == (sid, tag, gno)
        except EventError:
            continue


# --- soundness ---


def test_every_byte_is_covered_by_the_checksum() -> None:
    """FORMAT_DESCRIPTION included, whatever the file's algorithm."""
    for algorithm in (CRC32, OFF):
        log = Log(algorithm).begin_file()
        log.transaction(1)
        walk = Walk(position=4, checksum=log.checksum)
        for index, event in enumerate(log.each()):
            protected = algorithm is CRC32 or index == 0
            for at in range(len(event) if protected else 0):
                if at == 4 and algorithm is OFF:
                    continue  # then it is no FORMAT_DESCRIPTION
                bad = broken(event, at, 1 << at % 8)
                before = walk.position, walk.transaction_end, walk.transactions
                with pytest.raises(EventError):
                    walk.whole(bad, 0, len(bad))
                assert (walk.position, walk.transaction_end, walk.transactions) == before
            walk.whole(event, 0, len(event))
        assert walk.position == log.position
        assert runs(walk) == [(SID_A, "", 1, 1)]


def test_a_bad_event_leaves_no_trace() -> None:
    """Neither its time nor its GTID counts, and the same event, sound, is taken afterwards."""
    log = Log().begin_file().transaction(1)
    sound = Log(base=log.position)
    sound.gtid(2)
    event = sound.event(0)
    walk = walked(log)
    time = walk.last_time
    for at in (0, 3, 30):
        with pytest.raises(EventError):
            walk.whole(broken(event, at, 0x80), 0, len(event))
        assert walk.last_time == time
    walk.whole(event, 0, len(event))
    tail = Log(base=sound.position)
    tail.query(b"DROP TABLE t")
    walk.whole(tail.event(0), 0, len(tail.event(0)))
    assert runs(walk) == [(SID_A, "", 1, 2)]


def test_a_length_that_is_not_what_was_given() -> None:
    log = Log(OFF).begin_file()
    log.rows(50)
    event = log.event(-1)
    walk = Walk(position=log.events[-1].start, checksum=0)
    for length in (0, 18, 19, len(event) - 1, len(event) + 1, 2**32 - 1):
        bad = bytearray(event)
        struct.pack_into("<I", bad, 9, length)
        with pytest.raises(EventError, match="says it is"):
            walk.whole(bad, 0, len(bad))


@pytest.mark.parametrize(("checksum", "least"), [(0, 19), (4, 23)])
def test_no_event_is_shorter_than_header_and_checksum(checksum: int, least: int) -> None:
    for length in range(least):
        event = bytearray(64)
        struct.pack_into("<I", event, 9, length)
        with pytest.raises(EventError):
            Walk(position=4, checksum=checksum).whole(event, 0, length)
        with pytest.raises(EventError):
            Walk(position=4, checksum=checksum).walk(event, 0, 64)


@pytest.mark.parametrize("length", [MAX_EVENT + 1, 2**31, 2**32 - 1])
def test_no_event_is_longer_than_a_server_makes_them(length: int) -> None:
    buffer = bytearray(2 * PREFIX)
    struct.pack_into("<I", buffer, 9, length)
    walk = Walk(position=4, checksum=4)
    with pytest.raises(EventError, match="says it is"):
        walk.walk(buffer, 0, len(buffer))
    assert walk.position == 4
    assert walk.large_left == 0


@pytest.mark.parametrize("off", [-1, 1, 100, -100])
def test_an_event_that_ends_elsewhere(off: int) -> None:
    log = Log().begin_file()
    event = bytearray(builders.query(b"BEGIN"))
    struct.pack_into("<I", event, 13, log.position + len(event) + off)
    sealed = resealed(event)
    walk = walked(log)
    with pytest.raises(EventError, match="bytes are missing or were added"):
        walk.whole(sealed, 0, len(sealed))
    assert walk.position == log.position


def test_events_without_a_position_are_counted_by_their_lengths() -> None:
    log = Log(log_positions=False, version="11.4.2-MariaDB")
    log.begin_file(None)
    for number in range(1, 4):
        log.put(builders.mariadb_gtid(0, number))
        log.rows(40)
        log.xid()
    walk = walked(log)
    assert walk.position == walk.transaction_end == log.position
    assert walk.transactions == 3
    assert runs(walk) == []


@pytest.mark.parametrize("base", [2**32 - 300, 2**32 - 1, 2**32, 2**32 + 5, 2**33 - 250])
def test_positions_go_on_behind_4_gib(base: int) -> None:
    log = Log(base=base)
    for number in range(1, 6):
        log.transaction(number)
    assert log.position > 2**32
    walk = walked(log)
    assert walk.position == walk.transaction_end == log.position
    assert runs(walk) == [(SID_A, "", 1, 5)]
    again = Walk(position=base, checksum=4)
    assert walk_in_pieces(again, log.data, repeat(7)) == b""
    assert again.transaction_end == log.position
    elsewhere = Walk(position=base + 1, checksum=4)
    with pytest.raises(EventError, match="bytes are missing"):
        elsewhere.whole(log.event(0), 0, len(log.event(0)))


def test_an_event_that_ends_exactly_at_4_gib() -> None:
    """Its log_pos is 0, which otherwise means that there is none."""
    size = len(builders.xid(1))
    log = Log(base=2**32 - size)
    log.xid()
    log.xid()
    walk = walked(log)
    assert walk.position == 2**32 + size


# --- GTIDs, times ---


def test_runs() -> None:
    log = Log().begin_file()
    for gno in (1, 2, 3, 5, 6, 4, 7):
        log.transaction(gno)
    log.transaction(8, SID_B).transaction(9, SID_B, "t").statement(10, SID_B, "t").statement(10, SID_B)
    log.transaction(0).transaction(11, SID_B)
    walk = walked(log)
    assert walk.take_gtids() == [
        GtidRun(SID_A, "", 1, 3),
        GtidRun(SID_A, "", 5, 6),
        GtidRun(SID_A, "", 4, 4),
        GtidRun(SID_A, "", 7, 7),
        GtidRun(SID_B, "", 8, 8),
        GtidRun(SID_B, "t", 9, 10),
        GtidRun(SID_B, "", 10, 11),
    ]
    assert walk.take_gtids() == []
    assert walk.transactions == 13


def test_a_gtid_counts_when_its_transaction_is_whole() -> None:
    log = Log().begin_file().transaction(1)
    log.gtid(2)
    log.query(b"BEGIN")
    walk = walked(log)
    assert runs(walk) == [(SID_A, "", 1, 1)]
    log = Log(base=log.position)
    log.xid()
    walk.whole(log.event(0), 0, len(log.event(0)))
    assert runs(walk) == [(SID_A, "", 2, 2)]


def test_a_gtid_does_not_count_for_the_transaction_that_has_none() -> None:
    log = Log().begin_file().transaction(5)
    log.query(b"DROP TABLE t")
    log.xid()
    walk = walked(log)
    assert runs(walk) == [(SID_A, "", 5, 5)]
    assert walk.transactions == 3


@given(st.lists(st.tuples(st.sampled_from([SID_A, SID_B]), st.sampled_from(["", "t"]), st.integers(1, 9)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_runs_amount_to_the_set(gtids: list[tuple[bytes, str, int]]) -> None:
    log = Log().begin_file()
    for sid, tag, gno in gtids:
        log.statement(gno, sid, tag)
    assert GtidSet.from_runs(walked(log).take_gtids()) == log.set


def test_times_are_the_first_and_the_last_that_are_told() -> None:
    log = Log(base=4_000)
    log.add(EventType.ROWS_QUERY, b"\0", timestamp=0)
    walk = walked(log)
    assert (walk.first_time, walk.last_time) == (0, 0)
    log.add(EventType.ROWS_QUERY, b"\0", timestamp=77)
    log.add(EventType.ROWS_QUERY, b"\0", timestamp=99)
    log.add(EventType.ROWS_QUERY, b"\0", timestamp=0)
    walk = walked(log)
    assert (walk.first_time, walk.last_time) == (77, 99)


# --- rewind ---


def test_rewind_stands_at_the_last_whole_transaction() -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    kept = log.position
    log.gtid(3)
    log.query(b"BEGIN")
    log.rows()
    walk = walked(log)
    assert walk.position == log.position
    walk.rewind()
    assert walk.position == walk.transaction_end == kept
    assert walk.boundary == Boundary.OUTSIDE
    again = Log(base=kept)
    again.transaction(3).transaction(4)
    for event in again.each():
        walk.whole(event, 0, len(event))
    assert runs(walk) == [(SID_A, "", 1, 4)]
    assert walk.transactions == 4


def test_rewind_forgets_the_gtid_that_was_under_way() -> None:
    log = Log().begin_file().transaction(1)
    log.gtid(2)
    walk = walked(log)
    walk.rewind()
    again = Log(base=walk.position)
    again.query(b"DROP TABLE t")
    walk.whole(again.event(0), 0, len(again.event(0)))
    assert runs(walk) == [(SID_A, "", 1, 1)]


def test_rewind_within_a_large_event() -> None:
    log = Log().begin_file().transaction(1)
    kept = log.position
    log.transaction(2, sizes=(WHOLE_LIMIT * 2,))
    walk = Walk(position=4, checksum=4)
    half = log.data[4 : log.at(kept) + WHOLE_LIMIT]
    walk_in_pieces(walk, half, ())
    assert walk.large_left > 0
    walk.rewind()
    assert walk.position == kept
    assert walk.large_left == 0
    assert walk_in_pieces(walk, log.data[log.at(kept) :], ()) == b""
    assert runs(walk) == [(SID_A, "", 1, 2)]


# --- in pieces ---


@ALGORITHMS
@pytest.mark.parametrize("size", [1, 2, 3, 18, 19, 20, 1000])
def test_in_pieces(algorithm: ChecksumAlgorithm, size: int) -> None:
    log = sample(algorithm)
    whole = walked(log)
    walk = Walk(position=4, checksum=log.checksum)
    assert walk_in_pieces(walk, log.data[4:], repeat(size)) == b""
    for name in ("position", "transaction_end", "transactions", "first_time", "last_time", "marks", "boundary"):
        assert getattr(walk, name) == getattr(whole, name), name
    assert walk.take_gtids() == whole.take_gtids()
    assert walk.transaction_end == log.position
    assert walk.transactions == len(log.ends)


def test_the_end_of_the_last_whole_transaction_behind_every_byte() -> None:
    log = sample()
    sure = [made.end for made in log.events if made.end in log.ends or made.kind in (15, 35, 4)]
    events = [4] + [made.end for made in log.events]
    walk = Walk(position=4, checksum=4)
    buffer = bytearray(len(log.data))
    filled = 0
    for offset in range(4, len(log.data)):
        buffer[filled] = log.data[offset]
        filled += 1
        taken = walk.walk(buffer, 0, filled)
        buffer[: filled - taken] = buffer[taken:filled]
        filled -= taken
        assert walk.position == max(end for end in events if end <= offset + 1)
        assert walk.transaction_end == max([4, *(end for end in sure if end <= offset + 1)])


@pytest.mark.parametrize(
    "size", [WHOLE_LIMIT - 42, WHOLE_LIMIT - 23, WHOLE_LIMIT - 22, WHOLE_LIMIT + 1, 3 * WHOLE_LIMIT]
)
@ALGORITHMS
def test_large_events_in_pieces(algorithm: ChecksumAlgorithm, size: int) -> None:
    log = Log(algorithm).begin_file().transaction(1, sizes=(size,)).transaction(2)
    rows = next(made for made in log.events if made.kind == EventType.WRITE_ROWS)
    chance = random.Random(size)
    around = [
        [rows.start - 4 + at - 4 for at in (0,)] + [cut, 1, 1, 1, 1, 1, 1]
        for cut in (1, 10, 19, PREFIX - 1, PREFIX, PREFIX + 1, rows.end - rows.start - 5, rows.end - rows.start)
    ]
    for sizes in [*around, [chance.randrange(1, 200_000) for _ in range(60)], [], [len(log.data) - 4 - 60] + [1] * 60]:
        walk = Walk(position=4, checksum=log.checksum)
        assert walk_in_pieces(walk, log.data[4:], sizes) == b""
        assert walk.transaction_end == log.position
        assert runs(walk) == [(SID_A, "", 1, 2)]


def test_the_checksum_of_a_large_event_split_at_each_of_its_bytes() -> None:
    log = Log(base=1000)
    log.rows(WHOLE_LIMIT)
    for split in range(len(log.data) - 6, len(log.data) + 1):
        walk = Walk(position=1000, checksum=4)
        assert walk_in_pieces(walk, log.data, [split, 1, 1, 1, 1]) == b""
        assert walk.position == log.position


def test_a_large_event_that_is_corrupt_at_any_place() -> None:
    log = Log(base=1000)
    log.rows(WHOLE_LIMIT + 10)
    size = len(log.data)
    for at in [0, 5, 17, 19, 5000, PREFIX, size // 2, size - 5, size - 4, size - 3, size - 2, size - 1]:
        data = bytearray(broken(bytes(log.data), at))
        for sizes in ([], [PREFIX + 1] * 9):
            walk = Walk(position=1000, checksum=4)
            with pytest.raises(EventError, match="CRC-32"):
                walk_in_pieces(walk, data, sizes)
            assert walk.position == walk.transaction_end == 1000


def test_a_large_event_without_checksums_is_only_counted() -> None:
    log = Log(OFF, base=1000)
    log.rows(WHOLE_LIMIT + 10)
    data = bytearray(broken(bytes(log.data), 5000))
    walk = Walk(position=1000, checksum=0)
    assert walk_in_pieces(walk, data, [PREFIX + 5, 1000]) == b""
    assert walk.position == log.position


def test_large_statements_mean_what_they_say() -> None:
    """A QUERY's text begins within the part of a large event that is looked at, whatever stands before it."""
    for status in (b"", bytes(65_535)):
        log = Log().begin_file()
        log.gtid(1)
        log.query(b"INSERT " + b"x" * 2 * WHOLE_LIMIT, schema="s" * 255, status=status)
        walk = Walk(position=4, checksum=4)
        assert walk_in_pieces(walk, log.data[4:], [50_000] * 5) == b""
        assert walk.transactions == 1
        log.gtid(2)
        log.put(builders.payload(bytes(WHOLE_LIMIT + 1)))
        walk = Walk(position=4, checksum=4)
        assert walk_in_pieces(walk, log.data[4:], [50_000] * 5) == b""
        assert runs(walk) == [(SID_A, "", 1, 2)]


def test_a_large_query_that_claims_more_status_than_it_has() -> None:
    log = Log(OFF, base=100)
    log.query(b"x" * (WHOLE_LIMIT + 1))
    struct.pack_into("<H", log.data, 30, 65_535)
    walk = Walk(position=100, checksum=0)
    walk_in_pieces(walk, log.data, [])
    assert walk.transactions == 1


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_log_in_any_pieces(data: st.DataObject) -> None:
    log = Log(data.draw(st.sampled_from([CRC32, OFF]))).begin_file()
    for gno in range(1, data.draw(st.integers(1, 6))):
        make = data.draw(st.sampled_from(["transaction", "statement", "payload", "large"]))
        if make == "large":
            log.transaction(gno, sizes=(data.draw(st.integers(WHOLE_LIMIT - 50, WHOLE_LIMIT + 50)),))
        else:
            getattr(log, make)(gno)
    sizes = data.draw(st.lists(st.integers(1, 300_000) | st.integers(1, 30), max_size=30))
    walk = Walk(position=4, checksum=log.checksum)
    assert walk_in_pieces(walk, log.data[4:], sizes) == b""
    assert walk.transaction_end == log.position
    assert GtidSet.from_runs(walk.take_gtids()) == log.set


@given(st.binary(max_size=400), st.sampled_from([0, 4]))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_or_waited_for(garbage: bytes, checksum: int) -> None:
    walk = Walk(position=4, checksum=checksum)
    try:
        left = walk_in_pieces(walk, garbage, ())
    except EventError:
        assert walk.position <= 4 + len(garbage)
    else:
        assert walk.position == 4 + len(garbage) - len(left)


@given(st.integers(0, 255), st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_sound_events_of_any_body_are_taken_or_refused(kind: int, body: bytes) -> None:
    """A checksum only says that the sender meant it."""
    log = Log(base=1000)
    log.add(kind, body)
    walk = Walk(position=1000, checksum=4)
    try:
        walk.whole(log.event(0), 0, len(log.event(0)))
    except EventError:
        assert walk.position == 1000
    else:
        assert walk.position == log.position
        GtidSet.from_runs(walk.take_gtids())
