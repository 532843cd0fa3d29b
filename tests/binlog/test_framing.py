"""Packets to events and back: against the wire's own framing, and against each other."""

from __future__ import annotations

import random
import struct
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.events import fake_rotate, heartbeat_v1, heartbeat_v2
from binlogd.binlog.framing import GTID_PREFIX, MAX_PACKET, Intake, Outlet, Stop, room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import PREFIX, WHOLE_LIMIT, Walk
from binlogd.errors import EventError, ProtocolError
from binlogd.wire.packets import PacketReader, encode_packets
from tests.binlog import builders
from tests.binlog.feeding import Receiving, framed, heartbeat, sent
from tests.binlog.making import CRC32, OFF, SERVER_ID, SID_A, SID_B, UUID_A, UUID_B, Log, broken, sample

SEMI_SYNC = pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
NAME = "mysql-bin.000001"


def behind_format(log: Log) -> Walk:
    """A walk that stands behind the FORMAT_DESCRIPTION."""
    return Walk(position=log.events[0].end, checksum=log.checksum)


def stored(log: Log) -> bytes:
    """What is to be stored behind the FORMAT_DESCRIPTION."""
    return bytes(log.data[log.at(log.events[0].end) :])


# --- Intake ---


@SEMI_SYNC
@ALGORITHMS
def test_packets_split_at_every_byte(semi_sync: bool, algorithm: ChecksumAlgorithm) -> None:
    log = Log(algorithm).begin_file().transaction(1)
    stream = framed(log.each()[1:], semi_sync=semi_sync)
    for split in range(len(stream) + 1):
        got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream, [split])
        got.keep()
        assert got.stored == stored(log)
        assert got.left == 0


@SEMI_SYNC
@pytest.mark.parametrize("size", [1, 2, 5, 23, 1000])
def test_packets_in_pieces(semi_sync: bool, size: int) -> None:
    log = sample()
    events = [(event, index % 3 == 0) for index, event in enumerate(log.each()[1:])]
    stream = framed(events, semi_sync=semi_sync, acks=semi_sync)
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream, repeat(size))
    got.keep()
    assert got.stored == stored(log)
    assert got.intake.walk is not None
    assert got.intake.walk.transaction_end == log.position
    assert GtidSet.from_runs(got.intake.walk.take_gtids()) == log.set


def test_what_was_walked_and_not_written_is_whole_events_after_every_byte() -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    ends = {made.end for made in log.events}
    got = Receiving(walk=behind_format(log))
    for byte in framed(log.each()[1:]):
        got.feed(bytes((byte,)))
        got.keep()
        assert got.intake.walk is not None
        assert log.events[0].end + len(got.stored) == got.intake.walk.position
        assert got.intake.walk.position in ends
    assert got.stored == stored(log)


def test_an_ack_is_owed_for_flagged_events_and_for_no_others() -> None:
    log = Log().begin_file().transaction(1).transaction(2).statement(3)
    flagged = [log.ends[0], log.ends[2]]
    events = [(event, made.end in flagged) for event, made in zip(log.each(), log.events, strict=True)][1:]
    stream = framed(events, semi_sync=True)
    got = Receiving(semi_sync=True, walk=behind_format(log)).feed(stream, repeat(1))
    assert got.acks == flagged
    at_once = Receiving(semi_sync=True, walk=behind_format(log)).feed(stream)
    assert at_once.acks == [log.position], "one for all, behind the last event taken"


def test_without_semi_sync_nothing_is_flagged() -> None:
    log = Log().begin_file().transaction(1)
    got = Receiving(walk=behind_format(log)).feed(framed(log.each()[1:]))
    assert got.acks == []


def test_the_sequence_begins_anew_behind_a_flagged_event_whatever_its_kind() -> None:
    log = Log().begin_file().transaction(1)
    beat = heartbeat_v1(NAME, log.position, server_id=SERVER_ID, algorithm=CRC32)
    events: list[bytes | tuple[bytes, bool]] = [*log.each()[1:], (beat, True), beat, (beat, True)]
    got = Receiving(semi_sync=True, walk=behind_format(log)).feed(framed(events, semi_sync=True))
    assert got.acks == [log.position, log.position]
    assert got.controls == [beat, beat, beat]


def test_a_sequence_that_does_not_begin_anew_is_an_error() -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    flagged = [(event, index == 2) for index, event in enumerate(log.each()[1:])]
    stream = framed(flagged, semi_sync=True, acks=False)
    got = Receiving(semi_sync=True, walk=behind_format(log))
    with pytest.raises(ProtocolError, match="sequence id 4 where 1 was due"):
        got.feed(stream)


@pytest.mark.parametrize("first", [0, 1, 200, 254, 255])
def test_the_sequence_wraps(first: int) -> None:
    log = Log().begin_file()
    for gno in range(1, 100):
        log.statement(gno)
    stream = framed(log.each()[1:], sequence=first)
    got = Receiving(sequence=first, walk=behind_format(log)).feed(stream, repeat(333))
    got.keep()
    assert got.stored == stored(log)


@pytest.mark.parametrize("wrong", [0, 2, 3, 255])
def test_a_packet_out_of_order(wrong: int) -> None:
    log = Log().begin_file().transaction(1)
    stream = bytearray(framed(log.each()[1:]))
    second = 4 + int.from_bytes(stream[:3], "little")
    stream[second + 3] = wrong if wrong != 2 else 1
    got = Receiving(walk=behind_format(log))
    with pytest.raises(ProtocolError, match="out of order"):
        got.feed(stream)
    got.keep()
    assert got.stored == log.event(1), "what came before is kept"


def control_events(algorithm: ChecksumAlgorithm) -> dict[str, bytes]:
    log = Log(algorithm).begin_file()
    return {
        "fake rotate": fake_rotate(NAME, 4, server_id=SERVER_ID, algorithm=algorithm),
        "format": log.event(0),
        "heartbeat": heartbeat_v1(NAME, 190, server_id=SERVER_ID, algorithm=algorithm),
        "heartbeat 2": heartbeat_v2(NAME, 2**33, server_id=SERVER_ID, algorithm=algorithm),
        "artificial": builders.event(EventType.MARIADB_GTID_LIST, bytes(6), algorithm=algorithm, flags=0x20),
        "artificial rows": builders.event(EventType.WRITE_ROWS, bytes(60), algorithm=algorithm, flags=0x21),
    }


@SEMI_SYNC
@ALGORITHMS
@pytest.mark.parametrize("name", control_events(CRC32))
def test_control_events_are_handed_out_and_never_stored(
    name: str, algorithm: ChecksumAlgorithm, semi_sync: bool
) -> None:
    event = control_events(algorithm)[name]
    log = Log(algorithm).begin_file().transaction(1).transaction(2)
    middle = log.events.index(next(made for made in log.events if made.end == log.ends[0])) + 1
    events = [event, *log.each()[1:middle], event, event, *log.each()[middle:], event]
    for size in (1, 7, 10_000):
        got = Receiving(semi_sync=semi_sync, walk=behind_format(log))
        got.feed(framed(events, semi_sync=semi_sync), repeat(size))
        got.keep()
        assert got.stored == stored(log)
        assert got.controls == [event] * 4
        assert got.stops == [Stop.CONTROL] * 4


def test_scan_comes_back_at_once_with_a_control_event() -> None:
    """What follows may depend on the caller's answer: a new walk."""
    log = Log().begin_file().transaction(1)
    intake = Intake(semi_sync=False, sequence=1)
    stream = bytearray(framed(log.each()))
    out = memoryview(bytearray(len(stream)))
    assert intake.scan(stream, 0, len(stream), out) is Stop.CONTROL
    assert intake.consumed == 5 + len(log.event(0))
    assert intake.event == log.event(0)
    intake.walk = behind_format(log)
    assert intake.scan(stream, intake.consumed, len(stream), out) is Stop.MORE
    assert out[: intake.filled] == stored(log)


@pytest.mark.parametrize("size", [40, WHOLE_LIMIT + 50])
def test_an_event_before_the_format_description(size: int) -> None:
    log = Log().begin_file()
    log.rows(size)
    with pytest.raises(ProtocolError, match="before the file's FORMAT_DESCRIPTION"):
        Receiving().feed(framed([log.event(-1)]))


@pytest.mark.parametrize("second", [0x00, 0xEE, 0xFF])
@pytest.mark.parametrize("size", [40, WHOLE_LIMIT + 50])
def test_semi_sync_needs_its_mark(size: int, second: int) -> None:
    log = Log().begin_file()
    log.rows(size)
    stream = bytearray(framed([log.event(-1)], semi_sync=True))
    stream[5] = second
    with pytest.raises(ProtocolError, match="mark 0xEF"):
        Receiving(semi_sync=True, walk=behind_format(log)).feed(stream)


def test_only_the_flags_lowest_bit_asks() -> None:
    log = Log().begin_file()
    log.stop()
    for flag, owed in ((0, False), (1, True), (2, False), (3, True), (0xFE, False)):
        stream = bytearray(framed([log.event(1)], semi_sync=True))
        stream[6] = flag
        got = Receiving(semi_sync=True, walk=behind_format(log)).feed(stream)
        assert bool(got.acks) is owed


@SEMI_SYNC
def test_an_error_packet(semi_sync: bool) -> None:
    log = Log().begin_file().transaction(1)
    error = b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file"
    stream = framed(log.each()[1:], semi_sync=semi_sync) + encode_packets(error, len(log.events))[0]
    for size in (1, 10_000):
        got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream, repeat(size))
        got.keep()
        assert got.stops == [Stop.ERROR]
        assert got.controls == [error]
        assert got.stored == stored(log)
        assert got.left == 0


@SEMI_SYNC
@pytest.mark.parametrize("eof", [b"\xfe", b"\xfe\0\0\2\0"])
def test_an_eof_packet(semi_sync: bool, eof: bytes) -> None:
    log = Log().begin_file().transaction(1)
    stream = framed(log.each()[1:], semi_sync=semi_sync) + encode_packets(eof, len(log.events))[0]
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream, repeat(3))
    assert got.stops == [Stop.END]


@SEMI_SYNC
@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\0\xef\0", b"\0" * 19, b"\xef" + bytes(40), b"\x01" + bytes(40), b"\xfe" + bytes(40), b"\xfb"],
    ids=["empty", "OK alone", "marks alone", "no header", "an ACK", "0x01", "a long EOF", "0xfb"],
)
def test_packets_that_are_nothing(payload: bytes, semi_sync: bool) -> None:
    log = Log().begin_file()
    with pytest.raises(ProtocolError):
        Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(encode_packets(payload, 1)[0])


def test_a_large_packet_that_is_no_event() -> None:
    log = Log().begin_file()
    for first in (0x01, 0xFE, 0xFF):
        with pytest.raises(ProtocolError):
            Receiving(walk=behind_format(log)).feed(
                encode_packets(bytes((first,)) + bytes(WHOLE_LIMIT + 1), 1)[0], repeat(PREFIX * 2)
            )


@pytest.mark.parametrize("kind", [EventType.FORMAT_DESCRIPTION, EventType.HEARTBEAT, EventType.HEARTBEAT_V2])
def test_a_large_control_event(kind: EventType) -> None:
    log = Log().begin_file()
    log.add(kind, bytes(WHOLE_LIMIT + 1))
    with pytest.raises(ProtocolError, match="nothing sends such a thing"):
        Receiving(walk=behind_format(log)).feed(framed([log.event(-1)]))
    log = Log().begin_file()
    log.add(EventType.WRITE_ROWS, bytes(WHOLE_LIMIT + 1), flags=0x20)
    with pytest.raises(ProtocolError, match="nothing sends such a thing"):
        Receiving(walk=behind_format(log)).feed(framed([log.event(-1)]))


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_what_is_whole_is_kept_when_the_next_is_corrupt(large: bool) -> None:
    log = Log().begin_file().transaction(1)
    good = log.position
    log.rows(2 * WHOLE_LIMIT if large else 100)
    size = len(log.event(-1))
    for at in (3, 9, 13, 20, size // 2, size - 1):
        bad = broken(log.event(-1), at)
        for sizes in ([], [PREFIX * 2] * 20):
            got = Receiving(walk=behind_format(log))
            with pytest.raises(EventError):
                got.feed(framed([*log.each()[1:-1], bad]), sizes)
            got.keep()
            kept = good - log.events[0].end
            assert got.intake.walk is not None
            assert got.intake.walk.position == got.intake.walk.transaction_end == good
            assert got.stored[:kept] == stored(log)[:kept]
            assert bytes(got.stored[kept:]) == bad[: len(got.stored) - kept], "of a large one its beginning at most"
            assert large or len(got.stored) == kept


@pytest.mark.parametrize("change", [-1, 1, 1000, -1000])
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_an_event_that_is_not_as_long_as_its_packet(large: bool, change: int) -> None:
    log = Log(OFF).begin_file()
    log.rows(2 * WHOLE_LIMIT if large else 2000)
    event = bytearray(log.event(-1))
    struct.pack_into("<II", event, 9, len(event) + change, log.position + change)
    with pytest.raises(EventError):
        Receiving(walk=Walk(position=log.events[-1].start, checksum=0)).feed(framed([bytes(event)]))


BIG = bytes(random.Random(5).randbytes(MAX_PACKET + 100))


@SEMI_SYNC
@pytest.mark.parametrize("more", [-3, -2, -1, 0, 1, 2, 40])
def test_events_about_as_long_as_a_packet(semi_sync: bool, more: int) -> None:
    """Those that fill a packet exactly (``more`` 0) are followed by an empty one."""
    log = Log().begin_file()
    prefix = 3 if semi_sync else 1
    log.add(EventType.WRITE_ROWS, BIG[: MAX_PACKET - prefix - 23 + more])
    log.stop()
    stream = framed([(log.event(1), False), (log.event(2), semi_sync), log.event(3)], semi_sync=semi_sync)
    packets = [int.from_bytes(stream[at : at + 3], "little") for at in packet_heads(stream)]
    assert len(packets) == 3 + (more >= 0)
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream)
    got.keep()
    assert got.stored == stored(log)
    assert got.left == 0
    if semi_sync:
        assert got.acks == [log.position], "not before the last packet of the event"


def packet_heads(stream: bytes) -> list[int]:
    heads, at = [], 0
    while at < len(stream):
        heads.append(at)
        at += 4 + int.from_bytes(stream[at : at + 3], "little")
    return heads


def test_an_event_of_a_full_packet_waits_for_the_empty_one() -> None:
    log = Log().begin_file()
    log.add(EventType.WRITE_ROWS, BIG[: MAX_PACKET - 3 - 23])
    log.stop()
    stream = framed([(log.event(2), True), log.event(3)], semi_sync=True, sequence=7)
    walk = Walk(position=log.events[2].start, checksum=4)
    got = Receiving(semi_sync=True, sequence=7, walk=walk).feed(stream[: MAX_PACKET + 4])
    assert got.acks == []
    for byte in stream[MAX_PACKET + 4 : MAX_PACKET + 7]:
        got.feed(bytes((byte,)))
        assert got.acks == []
    got.feed(stream[MAX_PACKET + 7 : MAX_PACKET + 8])
    assert got.acks == [log.events[2].end]
    got.feed(stream[MAX_PACKET + 8 :])
    assert got.left == 0


@SEMI_SYNC
def test_events_of_several_packets(semi_sync: bool) -> None:
    log = Log().begin_file()
    prefix = 3 if semi_sync else 1
    for size in (3 * MAX_PACKET + 1000, 2 * MAX_PACKET - prefix - 23):
        log.gtid(len(log.ends) + 1)
        log.query(b"BEGIN")
        log.add(EventType.WRITE_ROWS, (BIG * 4)[:size])
        log.xid()
        log.ends.append(log.position)
    events = [(event, semi_sync and made.kind == 30) for event, made in zip(log.each(), log.events, strict=True)][1:]
    stream = framed(events, semi_sync=semi_sync)
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log)).feed(stream, repeat(1_000_003))
    got.keep()
    assert got.stored == stored(log)
    assert got.intake.walk is not None
    assert got.intake.walk.transaction_end == log.position
    assert len(got.acks) == 2 * semi_sync


@pytest.mark.parametrize("fault", ["sequence", "too long", "too short", "an empty packet too early", "another event"])
def test_continuations_that_do_not_add_up(fault: str) -> None:
    log = Log(OFF).begin_file()
    log.add(EventType.WRITE_ROWS, BIG[: MAX_PACKET + 50])
    stream = bytearray(framed([log.event(-1)]))
    second = MAX_PACKET + 4
    rest = stream[second + 4 :]
    head = {
        "sequence": len(rest).to_bytes(3, "little") + b"\x03" + rest,
        "too long": (len(rest) + 1).to_bytes(3, "little") + b"\x02" + rest + b"\0",
        "too short": (len(rest) - 1).to_bytes(3, "little") + b"\x02" + rest[:-1],
        "an empty packet too early": b"\0\0\0\x02",
        "another event": framed([log.event(1)], sequence=2),
    }[fault]
    got = Receiving(walk=Walk(position=log.events[-1].start, checksum=0))
    with pytest.raises(ProtocolError):
        got.feed(bytes(stream[:second]) + head)


def test_the_offered_buffer_need_not_begin_at_its_front() -> None:
    log = Log().begin_file().transaction(1)
    stream = framed(log.each()[1:])
    buffer = bytearray(b"\xaa" * 100 + stream + b"\xaa" * 100)
    out = memoryview(bytearray(len(buffer)))
    intake = Intake(semi_sync=False, sequence=1)
    intake.walk = behind_format(log)
    assert intake.scan(buffer, 100, 100 + len(stream), out) is Stop.MORE
    assert intake.consumed == 100 + len(stream)
    assert out[: intake.filled] == stored(log)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=150, deadline=None)
def test_garbage_never_gets_into_the_file(garbage: bytes, semi_sync: bool) -> None:
    log = Log().begin_file().transaction(1)
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log))
    try:
        got.feed(framed(log.each()[1:], semi_sync=semi_sync) + garbage)
    except ProtocolError:
        pass
    got.keep()
    assert got.stored == stored(log)


# --- Outlet ---


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
    outlet.position = start
    out = memoryview(bytearray(room_for(len(data))))
    assert outlet.frame(data, 0, len(data), out)
    assert outlet.consumed == len(data)
    assert outlet.filled == 24_000


def test_a_length_on_disk_that_cannot_be() -> None:
    outlet = Outlet(sequence=0, covering=None)
    with pytest.raises(EventError, match="says it is 0 bytes long"):
        outlet.frame(bytearray(100), 0, 100, memoryview(bytearray(200)))


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
