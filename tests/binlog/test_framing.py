"""Packets to events: against the wire's own framing, in pieces of all sizes, and with everything that can be wrong."""

from __future__ import annotations

import random
import struct
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.events import fake_rotate, heartbeat_v1, heartbeat_v2
from binlogd.binlog.framing import MAX_PACKET, Intake, Stop
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import PREFIX, WHOLE_LIMIT, Walk
from binlogd.errors import EventError, ProtocolError
from binlogd.wire.packets import encode_packets
from tests.binlog import builders
from tests.binlog.feeding import Receiving, behind_format, framed, stored
from tests.binlog.making import CRC32, OFF, SERVER_ID, Log, broken, sample

SEMI_SYNC = pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
NAME = "mysql-bin.000001"


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


def test_without_numbers_any_order_will_do() -> None:
    """Within compressed packets ids mean nothing; large events and flagged ones included."""
    log = Log().begin_file().transaction(1).transaction(2, sizes=(17_000_000,)).transaction(3)
    events = [(event, made.end in log.ends) for event, made in zip(log.each(), log.events, strict=True)][1:]
    stream = b"".join(framed([event], semi_sync=True, sequence=7 * at % 256) for at, event in enumerate(events))
    got = Receiving(semi_sync=True, sequence=None, walk=behind_format(log)).feed(stream, repeat(1_000_000))
    got.keep()
    assert got.stored == stored(log)
    assert got.acks[-1] == log.position


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


BIG = random.Random(5).randbytes(MAX_PACKET + 100)


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


# --- a packet that is longer than what is in it ---


@SEMI_SYNC
@pytest.mark.parametrize("bit", range(8, 24))
def test_a_packet_that_is_too_long_is_not_waited_for(semi_sync: bool, bit: int) -> None:
    """A source that waits for an acknowledgement sends nothing that would fill it but a heartbeat now and then."""
    log = Log().begin_file().transaction(1)
    stream = bytearray(framed(log.each()[1:2], semi_sync=semi_sync))
    length = int.from_bytes(stream[:3], "little")
    assert length < 1 << bit
    stream[:3] = (length | 1 << bit).to_bytes(3, "little")
    got = Receiving(semi_sync=semi_sync, walk=behind_format(log))
    with pytest.raises(EventError, match=rf"a packet of {length | 1 << bit} bytes begins with an event of"):
        got.feed(bytes(stream))


@pytest.mark.parametrize("first", [0x01, 0x80, 0xFE, 0xFF])
@pytest.mark.parametrize("length", [1025, 100_000, MAX_PACKET])
def test_a_long_packet_that_is_no_event_is_not_waited_for(first: int, length: int) -> None:
    got = Receiving(walk=behind_format(Log().begin_file()))
    with pytest.raises(ProtocolError, match=f"a packet of {length} bytes beginning {first:#04x} is no event"):
        got.feed(length.to_bytes(3, "little") + bytes([1, first]))


@pytest.mark.parametrize("kind", [EventType.HEARTBEAT, EventType.HEARTBEAT_V2, EventType.FORMAT_DESCRIPTION])
@pytest.mark.parametrize("flags", [0, 0x20])
def test_an_event_that_a_flipped_bit_made_artificial(kind: EventType, flags: int) -> None:
    """It would be left out, and what stands behind it asked for as if it were there."""
    log = Log().begin_file().transaction(1)
    event = bytearray(log.each()[1])
    if flags:
        event[17] |= flags
    else:
        event[4] = kind
    got = Receiving(walk=behind_format(log))
    with pytest.raises(EventError, match=r"an artificial event behind \d+ \(type .* fails its CRC-32"):
        got.feed(framed([bytes(event)]))
