"""Events to packets: against the rule, event by event, and against the intake."""

from __future__ import annotations

import random
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.framing import GTID_PREFIX, MAX_PACKET, Outlet, room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import WHOLE_LIMIT
from binlogd.errors import EventError
from binlogd.wire.packets import PacketReader, encode_packets
from tests.binlog.feeding import Receiving, behind_format, framed, heartbeat, sent, stored
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, UUID_B, Log, sample

SEMI_SYNC = pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
NAME = "mysql-bin.000001"

BIG = random.Random(5).randbytes(MAX_PACKET + 100)


def naive(data: bytes | bytearray, log: Log, has: GtidSet | None, sequence: int = 1) -> tuple[bytes, list[int]]:
    """What a MySQL source sends of this file: the rule of protocol.md §3.4, event by event."""
    stream, beats = bytearray(), []
    skipping, skipped = False, 0
    for made in log.events[1:]:
        event = bytes(data[made.start : made.end])
        if has is not None:
            if made.kind in (EventType.GTID, EventType.GTID_TAGGED):
                gtid = GtidEvent.decode(event, log.checksum)
                skipping = has.contains(gtid.sid, gtid.tag, gtid.gno)
            elif made.kind in (EventType.ANONYMOUS_GTID, EventType.PREVIOUS_GTIDS):
                skipping = False
            if skipping and made.kind != EventType.ROTATE:
                skipped = made.end
                continue
        if skipped:
            beats.append(skipped)
            packets, sequence = encode_packets(b"\0" + heartbeat(skipped), sequence)
            stream += packets
            skipped = 0
        packets, sequence = encode_packets(b"\0" + event, sequence)
        stream += packets
    if skipped:
        beats.append(skipped)
    return bytes(stream), beats


def check_sent(log: Log, has: GtidSet | None, **how: object) -> None:
    start = log.events[0].end
    expected = naive(log.data, log, has)
    got = sent(log.data, start=start, covering=has, checksum=log.checksum, **how)  # type: ignore[arg-type]
    assert got[1] == expected[1]
    assert got[0] == expected[0]


SETS = [
    "",
    f"{UUID_A}:1",
    f"{UUID_A}:2-3",
    f"{UUID_A}:1-5",
    f"{UUID_A}:4-5",
    f"{UUID_B}:7",
    f"{UUID_B}:nightly:1-2",
    f"{UUID_B}:nightly:2",
    f"{UUID_A}:nightly:1-5,{UUID_B}:1-2",
    f"{UUID_A}:1-5,{UUID_B}:7:nightly:1-2",
    f"{UUID_A}:1:3:5",
]


@ALGORITHMS
@pytest.mark.parametrize("has", SETS)
@pytest.mark.parametrize("size", [1, 30, 1024, 256 * 1024])
def test_what_the_replica_has_is_left_out(has: str, algorithm: ChecksumAlgorithm, size: int) -> None:
    check_sent(sample(algorithm), GtidSet.parse(has) if has else None, sizes=repeat(size, 5000))


def test_rotate_is_always_sent_and_the_heartbeat_goes_before_it() -> None:
    log = Log().begin_file().transaction(1)
    log.rotate()
    stream, beats = sent(log.data, start=log.events[1].end, covering=log.set)
    assert beats == [log.ends[0]]
    assert stream == framed([heartbeat(log.ends[0]), log.event(-1)])


def test_stop_is_left_out_with_the_group_before_it() -> None:
    log = Log().begin_file().transaction(1)
    log.stop()
    stream, beats = sent(log.data, start=log.events[1].end, covering=log.set)
    assert beats == [log.position]
    assert stream == b""


def test_an_anonymous_transaction_behind_a_skipped_one_is_sent() -> None:
    log = Log().begin_file().transaction(1).transaction(0).statement(2).statement(0)
    check_sent(log, log.set)


def test_the_next_file_does_not_inherit_what_was_left_out() -> None:
    log = Log().begin_file().transaction(1)
    following = Log().begin_file(f"{UUID_A}:1")
    following.query(b"DROP TABLE t")
    outlet = Outlet(sequence=1, covering=log.set.covering)
    out = memoryview(bytearray(room_for(10_000)))
    outlet.position = log.events[1].start
    assert outlet.frame(bytearray(log.data[outlet.position :]), 0, log.position - outlet.position, out)
    assert outlet.skipped_to == log.position
    outlet.skipped_to = 0
    outlet.position = following.events[0].end
    data = bytearray(following.data[outlet.position :])
    assert outlet.frame(data, 0, len(data), out)
    assert outlet.skipped_to == 0
    assert out[: outlet.filled] == framed(following.each()[1:], sequence=2)


def test_an_answer_is_kept_for_the_run_it_covers_and_no_further() -> None:
    log = Log().begin_file()
    for gno in (5, 6, 1, 2, 9, 10, 3, 20, 4):
        log.statement(gno)
    for gno in (5, 6, 1):
        log.statement(gno, SID_B)
    for gno in (5, 6, 1):
        log.statement(gno, SID_A, "t")
    check_sent(log, GtidSet.parse(f"{UUID_A}:5-9:t:1-5,{UUID_B}:1-3"))
    asked = []
    has = GtidSet.parse(f"{UUID_A}:1-3")

    def covering(sid: bytes, tag: str, gno: int) -> tuple[bool, int]:
        asked.append(gno)
        return has.covering(sid, tag, gno)

    long = Log().begin_file()
    for gno in range(1, 40):
        long.statement(gno)
    outlet = Outlet(sequence=1, covering=covering)
    outlet.position = long.events[1].end
    data = bytearray(long.data[outlet.position :])
    out = memoryview(bytearray(room_for(len(data))))
    outlet.frame(data, 0, len(data), out)
    outlet.skipped_to = 0
    outlet.frame(data, outlet.consumed, len(data), out)
    assert asked == [1, 4]


@pytest.mark.parametrize("size", [GTID_PREFIX - 30, GTID_PREFIX, 300_000, 600_000])
def test_large_groups_are_left_out_whole(size: int) -> None:
    log = Log().begin_file().transaction(1).transaction(2, sizes=(size, size)).transaction(3)
    for has in (f"{UUID_A}:2", f"{UUID_A}:1:3", f"{UUID_A}:1-3"):
        for sizes in ((), repeat(100_000), repeat(5_000), [log.events[8].start, 700, 700, 700, 700]):
            check_sent(log, GtidSet.parse(has), sizes=sizes)


@pytest.mark.parametrize("excluded", [False, True])
def test_within_a_large_event_that_is_sent_nothing_may_come_between(excluded: bool) -> None:
    log = Log().begin_file().transaction(1, sizes=(100_000,))
    data = bytearray(log.data)
    outlet = Outlet(sequence=1, covering=log.set.covering if excluded else None)
    outlet.position = start = log.events[1].end
    out = memoryview(bytearray(room_for(len(data))))
    assert outlet.in_event is False
    assert outlet.frame(data, start, start + 50_000, out)
    assert outlet.consumed == start + 50_000
    assert outlet.in_event is not excluded
    assert outlet.frame(data, outlet.consumed, len(data), out)
    assert outlet.in_event is False
    assert outlet.position == len(data)


@pytest.mark.parametrize("more", [-2, -1, 0, 1, 2])
def test_events_about_as_long_as_a_packet_are_sent_as_the_wire_sends_them(more: int) -> None:
    log = Log().begin_file()
    log.add(EventType.WRITE_ROWS, BIG[: MAX_PACKET - 1 - 23 + more])
    log.stop()
    stream, _ = sent(log.data, start=log.events[1].end)
    assert stream == framed(log.each()[2:])


def test_an_event_of_several_packets_is_sent_as_the_wire_sends_it() -> None:
    log = Log().begin_file()
    log.add(EventType.WRITE_ROWS, (BIG * 3)[: 3 * MAX_PACKET - 1 - 23])
    log.xid()
    stream, _ = sent(log.data, start=log.events[1].end, sequence=253, sizes=repeat(200_001))
    assert stream == framed(log.each()[2:], sequence=253)
    reader = PacketReader(max_payload=2**30, sequence=253)
    reader.feed(stream)
    assert reader.next() == b"\0" + log.event(2)
    assert reader.next() == b"\0" + log.event(3)


def test_a_block_larger_than_an_event_of_several_packets() -> None:
    log = Log().begin_file()
    log.add(EventType.WRITE_ROWS, BIG[: MAX_PACKET + 10])
    log.xid()
    stream, _ = sent(log.data, start=log.events[1].end, block=MAX_PACKET + 1000)
    assert stream == framed(log.each()[2:])


def test_there_is_room_for_the_smallest_events() -> None:
    log = Log(OFF).begin_file()
    for _ in range(1000):
        log.stop()
    start = log.events[1].end
    data = bytearray(log.data[start:])
    assert len(data) == 19_000
    outlet = Outlet(sequence=0, covering=None)
    outlet.position, outlet.checksum = start, 0
    out = memoryview(bytearray(room_for(len(data))))
    assert outlet.frame(data, 0, len(data), out)
    assert outlet.consumed == len(data)
    assert outlet.filled == 24_000


def test_a_length_on_disk_that_cannot_be() -> None:
    outlet = Outlet(sequence=0, covering=None)
    with pytest.raises(EventError, match="says it is 0 bytes long"):
        outlet.frame(bytearray(100), 0, 100, memoryview(bytearray(200)))


def refused(data: bytes | bytearray, log: Log, *, covering: GtidSet | None = None, block: int = 256 * 1024) -> bytes:
    """What goes out of a damaged file before it ends in an EventError: whole packets."""
    outlet = Outlet(sequence=1, covering=covering.covering if covering else None)
    outlet.position, outlet.checksum, outlet.limit = log.events[0].end, log.checksum, len(data)
    out = memoryview(bytearray(room_for(block)))
    stream = bytearray()
    while outlet.position < len(data):
        piece = bytearray(data[outlet.position : outlet.position + block])
        try:
            outlet.frame(piece, 0, len(piece), out)
        except EventError as bad:
            place = outlet.event if outlet.in_event else outlet.position
            named = f"event at {place} " in bad.message
            return bytes(stream + out[: outlet.filled]) if named else b"another place is named"
        stream += out[: outlet.filled]
        outlet.skipped_to = 0
        assert outlet.consumed
    pytest.fail("all of it was sent")


def test_no_damaged_event_goes_out_and_all_before_it_do() -> None:
    log = Log().begin_file().transaction(1, sizes=(5,)).statement(2).payload(3, size=9)
    log.rotate()
    for number, made in enumerate(log.events[1:], 1):
        for at in range(made.start, made.end):
            data = bytearray(log.data)
            data[at] ^= 1 << at % 8
            assert refused(data, log) == framed(log.each()[1:number]), f"byte {at} of event {number}"


@pytest.mark.parametrize("size", [GTID_PREFIX - 24, GTID_PREFIX - 23, GTID_PREFIX - 22, 200_000])
def test_no_damaged_event_of_any_size_goes_out(size: int) -> None:
    log = Log().begin_file().transaction(1, sizes=(size,)).transaction(2)
    number, made = next((n, made) for n, made in enumerate(log.events) if made.end - made.start > size)
    for at in (made.start + 30, made.end - 1):
        data = bytearray(log.data)
        data[at] ^= 2
        assert refused(data, log) == framed(log.each()[1:number])


@ALGORITHMS
def test_a_damaged_length_leaves_no_more_out(algorithm: ChecksumAlgorithm) -> None:
    """Of a large event that is left out nothing is summed up; but where the next one begins must be sure.

    This one would hide the XID and the GTID behind it, and with that the transaction.
    """
    log = Log(algorithm).begin_file().transaction(1, sizes=(5_000,)).transaction(2, sizes=(3_000,)).transaction(3)
    number, made = next((n, made) for n, made in enumerate(log.events) if made.end - made.start > 5_000)
    data = bytearray(log.data)
    data[made.start + 9 : made.start + 13] = (log.events[number + 2].end - made.start).to_bytes(4, "little")
    assert refused(data, log, covering=GtidSet.parse(f"{UUID_A}:1")) == framed(log.each()[1:2])


@pytest.mark.parametrize("size", [600_000, 17_000_000])
def test_of_a_large_damaged_event_the_end_never_goes_out(size: int) -> None:
    log = Log().begin_file().transaction(1, sizes=(size,)).transaction(2)
    number, made = next((n, made) for n, made in enumerate(log.events) if made.end - made.start > size)
    whole = framed(log.each()[1 : number + 1])
    for at in (made.start + 25, made.start + size // 2, made.end - 5, made.end - 4, made.end - 1):
        data = bytearray(log.data)
        data[at] ^= 2
        stream = refused(data, log)
        assert len(stream) < len(whole)
        assert len(framed(log.each()[1:number])) < len(stream), "it was begun: its sum is known at its end"


def test_a_large_event_that_is_known_to_be_damaged_is_not_begun() -> None:
    log = Log().begin_file().transaction(1, sizes=(600_000,))
    made = next(made for made in log.events if made.end - made.start > 600_000)
    outlet = Outlet(sequence=1, covering=None)
    outlet.position, outlet.damaged = log.events[1].end, made.start
    data = bytearray(log.data[outlet.position : outlet.position + 100_000])
    out = memoryview(bytearray(room_for(len(data))))
    with pytest.raises(EventError, match=rf"the event at {made.start} \(type 30, \d+ bytes\) fails its CRC-32"):
        outlet.frame(data, 0, len(data), out)
    assert not outlet.in_event
    assert outlet.position == made.start


def test_a_gtid_that_is_damaged_leaves_no_transaction_out() -> None:
    """What the replica has is not sent and, if it is large, not even summed up; what decides that must be sound."""
    log = Log().begin_file().transaction(1).transaction(2, sizes=(5_000,)).transaction(3).transaction(4)
    has = GtidSet.parse(f"{UUID_A}:1-2")
    large = next(made for made in log.events if made.end - made.start > 5_000)
    data = bytearray(log.data)
    data[large.end - 100] ^= 1
    assert sent(data, start=log.events[0].end, covering=has) == sent(log.data, start=log.events[0].end, covering=has)
    for number in (0, 2):  # the GTID events of the first, which is left out, and of the third, which is not
        at = log.starts[number]
        for flip in (4, 44, 45):  # its type, and its number
            data = bytearray(log.data)
            data[at + flip] ^= 1
            assert refused(data, log, covering=has) == framed(log.each()[1:2])


def test_an_event_that_reaches_beyond_the_end_of_the_file() -> None:
    """Without a checksum and an end of its own, as MariaDB writes it, nothing else tells that its length is wrong."""
    log = Log(OFF, log_positions=False).begin_file().transaction(1).transaction(2)
    number, made = len(log.events) - 3, log.events[-3]
    data = bytearray(log.data)
    data[made.start + 11] ^= 1
    assert refused(data, log) == framed(log.each()[1:number])


def test_our_own_packets_take_part_in_the_sequence() -> None:
    outlet = Outlet(sequence=255, covering=None)
    assert outlet.packet(b"abc") == b"\x04\0\0\xff\0abc"
    assert outlet.packet(b"") == b"\x01\0\0\0\0"
    assert outlet.sequence == 1


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Files of all kinds of transactions, with repeated and rising GTIDs."""
    log = Log(draw(st.sampled_from([CRC32, OFF]))).begin_file()
    for _ in range(draw(st.integers(0, 12))):
        make = draw(st.sampled_from(["transaction", "statement", "payload", "large", "query", "stop"]))
        sid, tag = draw(st.sampled_from([(SID_A, ""), (SID_B, ""), (SID_A, "t")]))
        gno = draw(st.integers(0, 8))
        if make == "large":
            log.transaction(gno, sid, tag if gno else "", sizes=(draw(st.integers(900, 400_000)),))
        elif make == "query":
            log.query(b"DROP TABLE t")
        elif make == "stop":
            log.stop()
        else:
            getattr(log, make)(gno, sid, tag if gno else "")
    if draw(st.booleans()):
        log.rotate()
    return log


SIZES = st.lists(st.integers(1, 300_000) | st.integers(1, 40), max_size=30)


@given(log=logs(), has=st.sampled_from([None, *SETS, f"{UUID_A}:1-8:t:3-6"]), sizes=SIZES)
@settings(max_examples=60, deadline=None)
def test_any_log_is_sent_as_the_rule_says(log: Log, has: str | None, sizes: list[int]) -> None:
    check_sent(log, GtidSet.parse(has) if has else None, sizes=sizes)


@given(log=logs(), out_sizes=SIZES, in_sizes=SIZES)
@settings(max_examples=60, deadline=None)
def test_what_is_sent_and_received_is_the_same_file(log: Log, out_sizes: list[int], in_sizes: list[int]) -> None:
    stream, _ = sent(log.data, start=log.events[0].end, checksum=log.checksum, sizes=out_sizes)
    got = Receiving(walk=behind_format(log)).feed(stream, in_sizes)
    got.keep()
    assert got.stored == stored(log)
    assert got.left == 0
    assert got.intake.walk is not None
    assert got.intake.walk.position == log.position


def test_a_large_file_there_and_back() -> None:
    log = Log().begin_file()
    for gno, size in enumerate((10, 600_000, 17_000_000, 100, WHOLE_LIMIT - 23, WHOLE_LIMIT - 22, 5_000_000), 1):
        log.transaction(gno, sizes=(size,))
    stream, _ = sent(log.data, start=log.events[0].end)
    got = Receiving(walk=behind_format(log)).feed(stream, repeat(777_777))
    got.keep()
    assert got.stored == stored(log)
    assert got.intake.walk is not None
    assert got.intake.walk.transaction_end == log.position
    assert GtidSet.from_runs(got.intake.walk.take_gtids()) == log.set
