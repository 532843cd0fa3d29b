"""binlogd.wire.packets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.errors import ProtocolError
from binlogd.wire.packets import MAX_PAYLOAD, PacketReader, encode_packets

LIMIT = 64 * 1024 * 1024


def test_a_small_payload_is_one_packet() -> None:
    assert encode_packets(b"abc", 5) == (b"\x03\0\0\x05abc", 6)
    assert encode_packets(b"", 0) == (b"\0\0\0\0", 1)


def test_the_sequence_wraps_at_256() -> None:
    assert encode_packets(b"x", 255) == (b"\x01\0\0\xffx", 0)
    reader = PacketReader(max_payload=LIMIT, sequence=255)
    reader.feed(b"\x01\0\0\xffx")
    assert reader.next() == b"x"
    assert reader.sequence == 0


@pytest.mark.parametrize(
    ("size", "packets"),
    [
        (MAX_PAYLOAD - 1, 1),
        (MAX_PAYLOAD, 2),
        (MAX_PAYLOAD + 1, 2),
        (2 * MAX_PAYLOAD, 3),
        (2 * MAX_PAYLOAD + 5, 3),
    ],
)
def test_long_payloads_are_split_and_joined(size: int, packets: int) -> None:
    payload = b"0123456789abcdef" * (size // 16 + 1)
    payload = payload[:size]
    data, following = encode_packets(payload, 254)
    assert following == (254 + packets) % 256
    assert len(data) == size + 4 * packets
    reader = PacketReader(max_payload=LIMIT, sequence=254)
    for start in range(0, len(data), 1 << 20):
        assert reader.next() is None
        reader.feed(data[start : start + (1 << 20)])
    assert reader.next() == payload
    assert reader.sequence == following
    assert reader.buffered == 0


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 50), st.integers(0, 255))
def test_any_pieces_give_the_same_payloads(payloads: list[bytes], piece: int, first: int) -> None:
    data = b""
    sequence = first
    for payload in payloads:
        packet, sequence = encode_packets(payload, sequence)
        data += packet
    reader = PacketReader(max_payload=LIMIT, sequence=first)
    got = []
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        while (payload_or_none := reader.next()) is not None:
            got.append(payload_or_none)
    assert got == payloads
    assert reader.sequence == sequence


def test_many_small_packets_fed_at_once_and_the_buffer_cut_between() -> None:
    data = b"".join(encode_packets(b"%05d" % i, i & 0xFF)[0] for i in range(20_000))
    reader = PacketReader(max_payload=LIMIT)
    seen = 0
    for start in range(0, len(data), 100_001):
        reader.feed(data[start : start + 100_001])
        while (payload := reader.next()) is not None:
            assert payload == b"%05d" % seen
            seen += 1
    assert seen == 20_000


def test_a_gap_in_the_sequence_is_refused() -> None:
    reader = PacketReader(max_payload=LIMIT, sequence=1)
    reader.feed(b"\x01\0\0\x02x")
    with pytest.raises(ProtocolError, match="sequence id 2 where 1"):
        reader.next()


def test_a_gap_inside_a_long_payload_is_refused() -> None:
    reader = PacketReader(max_payload=LIMIT)
    reader.feed(b"\xff\xff\xff\x00" + bytes(MAX_PAYLOAD) + b"\x01\0\0\x02x")
    with pytest.raises(ProtocolError, match="sequence id 2 where 1"):
        reader.next()


def test_the_limit_is_enforced_at_the_header() -> None:
    reader = PacketReader(max_payload=10)
    reader.feed(b"\x0a\0\0\0")
    assert reader.next() is None
    reader = PacketReader(max_payload=10)
    reader.feed(b"\x0b\0\0\0")
    with pytest.raises(ProtocolError, match="limit here is 10"):
        reader.next()


def test_the_limit_counts_the_whole_payload() -> None:
    reader = PacketReader(max_payload=MAX_PAYLOAD + 10)
    reader.feed(b"\xff\xff\xff\x00" + bytes(MAX_PAYLOAD) + b"\x0b\0\0\x01")
    with pytest.raises(ProtocolError, match="limit"):
        reader.next()


def test_the_remainder_is_every_byte_not_consumed() -> None:
    first, _ = encode_packets(b"taken", 0)
    long = b"\xff\xff\xff\x01" + bytes(MAX_PAYLOAD) + b"\x05\0\0\x02ab"
    reader = PacketReader(max_payload=LIMIT)
    reader.feed(first + long)
    assert reader.next() == b"taken"
    assert reader.next() is None
    assert reader.remainder() == long
    assert reader.buffered == 0
    assert reader.sequence == 1


def test_wanted_bytes_never_read_past_a_packet() -> None:
    data, _ = encode_packets(b"abcdef", 0)
    long = b"\xff\xff\xff\x01" + bytes(MAX_PAYLOAD) + b"\x00\0\0\x02"
    reader = PacketReader(max_payload=LIMIT)
    position = 0
    asked = []
    while reader.next() is None:
        asked.append(reader.wanted)
        reader.feed(data[position : position + reader.wanted])
        position += asked[-1]
    assert asked == [4, 6]
    assert reader.buffered == 0
    reader.feed(long[:2])
    assert reader.wanted == 2
    reader.feed(long[2:4])
    assert reader.wanted == MAX_PAYLOAD
    reader.feed(long[4:-4])
    assert reader.wanted == 4


def test_ids_do_not_count_within_compressed_packets() -> None:
    """As seen from 9.7: a flush in between sets them to the compressed packet's."""
    data = b"".join(encode_packets(payload, sequence)[0] for payload, sequence in ((b"a", 1), (b"b", 2), (b"c", 2)))
    reader = PacketReader(max_payload=LIMIT, sequence=1)
    reader.numbered = False
    reader.feed(data)
    assert [reader.next() for _ in range(4)] == [b"a", b"b", b"c", None]
