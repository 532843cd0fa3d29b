"""binlogd.wire.compression: the layer by itself, fed in any pieces and read into any buffers."""

from __future__ import annotations

import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import ProtocolError
from binlogd.wire import compression
from binlogd.wire.compression import HEADER_SIZE, MAX_LENGTH, MIN_COMPRESS, PIECE, Algorithm, CompressedStream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOTH = pytest.mark.parametrize("algorithm", list(Algorithm))
SQUEEZE: dict[Algorithm, Callable[[bytes], bytes]] = {Algorithm.ZLIB: zlib.compress, Algorithm.ZSTD: zstd.compress}


def packet(payload: bytes, sequence: int, uncompressed: int = 0) -> bytes:
    """A compressed packet as it is on the wire."""
    header = len(payload).to_bytes(3, "little") + bytes([sequence]) + uncompressed.to_bytes(3, "little")
    return header + payload


def squeezed(data: bytes, sequence: int, algorithm: Algorithm) -> bytes:
    return packet(SQUEEZE[algorithm](data), sequence, len(data))


def asked(algorithm: Algorithm) -> CompressedStream:
    """A connection on which a command was sent."""
    stream = CompressedStream(algorithm)
    stream.pack(b"\x01\0\0\0\x0e")
    return stream


def read(stream: CompressedStream, data: bytes, *, piece: int = 1 << 30, room: int = 1 << 20) -> bytes:
    """Feed ``data`` in pieces and read all that comes of it."""
    got = bytearray()
    out = memoryview(bytearray(room))
    for start in range(0, len(data), piece):
        stream.feed(data[start : start + piece])
        while size := stream.read_into(out):
            got += out[:size]
    return bytes(got)


def sample(size: int, seed: int = 1) -> bytes:
    """Bytes that compress as binary logs do."""
    chance = random.Random(seed)
    data = b""
    while len(data) < size:
        data += chance.randbytes(chance.randrange(40)) + b"insert into t values (" * chance.randrange(4)
    return data[:size]


# --- what is sent


@BOTH
def test_what_one_side_packs_the_other_reads(algorithm: Algorithm) -> None:
    text = sample(3000)
    packed = CompressedStream(algorithm).pack(text)
    assert len(packed) < len(text)
    assert (packed[3], int.from_bytes(packed[4:7], "little")) == (0, len(text))
    assert read(CompressedStream(algorithm), packed) == text


@BOTH
def test_what_is_small_or_does_not_shrink_goes_as_it_is(algorithm: Algorithm) -> None:
    for data in (b"\x01\0\0\0\x0e", b"a" * (MIN_COMPRESS - 1), random.Random(1).randbytes(200)):
        assert CompressedStream(algorithm).pack(data) == packet(data, 0)
    assert len(CompressedStream(algorithm).pack(b"a" * MIN_COMPRESS)) < MIN_COMPRESS + HEADER_SIZE


def test_more_than_a_packet_holds_goes_in_several() -> None:
    data = bytes(MAX_LENGTH) + b"more"
    packed = CompressedStream(Algorithm.ZSTD).pack(data)
    first = int.from_bytes(packed[:3], "little") + HEADER_SIZE
    assert packed[3] == 0
    assert packed[first:] == packet(b"more", 1)
    assert read(CompressedStream(Algorithm.ZSTD), packed) == data


def test_the_example_of_mysql_s_documentation() -> None:
    """COM_QUERY as page_protocol_basic_compression_packet shows it."""
    query = b"\x2e\0\0\0\x03" + b'select "012345678901234567890123456789012345"'
    shown = bytes.fromhex("2200000032000078 9cd3636060602e4e cd494d2e51503230 343236313533b7b0 c4cd5202000cd10a 6c")
    assert read(CompressedStream(Algorithm.ZLIB), shown) == query
    assert CompressedStream(Algorithm.ZLIB).pack(query) == shown


# --- what comes


@BOTH
@pytest.mark.parametrize("piece", [1, 6, 7, 8, 4096, 1 << 30])
@pytest.mark.parametrize("room", [1, 1000, 16384, 1 << 20])
def test_any_pieces_into_any_buffer(algorithm: Algorithm, piece: int, room: int) -> None:
    parts = [sample(16384, 1), b"abc", sample(16384, 2), sample(20, 3), sample(5000, 4)]
    data = b"".join(
        squeezed(part, 1 + at, algorithm) if len(part) > MIN_COMPRESS else packet(part, 1 + at)
        for at, part in enumerate(parts)
    )
    assert read(asked(algorithm), data, piece=piece, room=room) == b"".join(parts)


@BOTH
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=8), st.integers(1, 40), st.integers(1, 99))
def test_any_contents(algorithm: Algorithm, parts: list[tuple[bytes, bool]], piece: int, room: int) -> None:
    data = b"".join(
        squeezed(part, (1 + at) & 0xFF, algorithm) if small and part else packet(part, (1 + at) & 0xFF)
        for at, (part, small) in enumerate(parts)
    )
    assert read(asked(algorithm), data, piece=piece, room=room) == b"".join(part for part, _ in parts)


@BOTH
def test_the_largest_packet(algorithm: Algorithm) -> None:
    data = (b"0123456789abcdef" * (1 << 20))[:MAX_LENGTH]
    assert read(asked(algorithm), squeezed(data, 1, algorithm), piece=100_000, room=3_000_000) == data
    noise = random.Random(1).randbytes(MAX_LENGTH)
    assert read(asked(algorithm), packet(noise, 1), piece=100_000, room=3_000_000) == noise


@BOTH
def test_a_large_packet_takes_little_memory(algorithm: Algorithm) -> None:
    data = squeezed(bytes(MAX_LENGTH), 1, algorithm)
    stream, out = asked(algorithm), memoryview(bytearray(4 * 1024 * 1024))
    stream.feed(data)
    tracemalloc.start()
    try:
        assert [stream.read_into(out) for _ in range(4)] == [len(out)] * 3 + [MAX_LENGTH - 3 * len(out)]
        assert tracemalloc.get_traced_memory()[1] < 4 * PIECE
    finally:
        tracemalloc.stop()


def test_without_isal_zlib_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "inflating", zlib)
    data = sample(50_000)
    assert read(asked(Algorithm.ZLIB), squeezed(data, 1, Algorithm.ZLIB), piece=77, room=999) == data
    with pytest.raises(ProtocolError, match="cannot be decompressed"):
        read(asked(Algorithm.ZLIB), packet(b"no zlib at all", 1, 60))


# --- sequence ids


def test_an_answer_goes_on_behind_the_command() -> None:
    stream = asked(Algorithm.ZLIB)
    assert read(stream, packet(b"a", 1) + packet(b"b", 2)) == b"ab"
    stream.pack(b"the next command")
    assert read(stream, packet(b"c", 1)) == b"c"


def test_ids_go_round() -> None:
    stream = asked(Algorithm.ZLIB)
    data = b"".join(packet(b"%d," % number, number & 0xFF) for number in range(1, 600))
    assert read(stream, data) == b"".join(b"%d," % number for number in range(1, 600))


@pytest.mark.parametrize("wrong", [0, 1, 2, 4, 255])
def test_an_id_that_is_not_due_is_refused(wrong: int) -> None:
    stream = asked(Algorithm.ZLIB)
    stream.begin_dump(restarts=False)
    read(stream, packet(b"a", 1) + packet(b"b", 2))
    with pytest.raises(ProtocolError, match=f"sequence id {wrong} where 3 must follow"):
        read(stream, packet(b"c", wrong))


@pytest.mark.parametrize("again", [0, 1])
def test_in_a_semi_synchronous_dump_ids_begin_again(again: int) -> None:
    stream = asked(Algorithm.ZLIB)
    stream.begin_dump(restarts=True)
    assert read(stream, packet(b"a", 1) + packet(b"b", 2) + packet(b"c", again) + packet(b"d", again + 1)) == b"abcd"
    with pytest.raises(ProtocolError, match=f"sequence id 9 where {again + 2} must follow"):
        read(stream, packet(b"e", 9))


def test_an_acknowledgement_has_id_0_and_changes_nothing() -> None:
    stream = asked(Algorithm.ZLIB)
    stream.begin_dump(restarts=False)
    read(stream, packet(b"a", 1) + packet(b"b", 2))
    assert stream.pack(b"ack") == packet(b"ack", 0)
    assert read(stream, packet(b"c", 3)) == b"c"


# --- what is broken


@BOTH
def test_lengths_that_lie(algorithm: Algorithm) -> None:
    data = sample(2000)
    small = SQUEEZE[algorithm](data)
    for payload, promised, room in (
        (small, 1999, 1 << 20),
        (small, 2001, 1 << 20),
        (small, 1, 1),  # the buffer is full exactly where the promise ends
        (small, 100, 100),
        (small, MAX_LENGTH, 100),
        (small + b"x", 2000, 1 << 20),
        (small + small, 4000, 1 << 20),
        (SQUEEZE[algorithm](b""), 60, 1 << 20),
    ):
        for piece in (1, 1 << 30):
            with pytest.raises(ProtocolError, match="holds another number of bytes than it announced"):
                read(asked(algorithm), packet(payload, 1, promised), piece=piece, room=room)
    for cut in (0, 1, len(small) // 2, len(small) - 1):
        with pytest.raises(ProtocolError, match="ends before what is compressed in it"):
            read(asked(algorithm), packet(small[:cut], 1, 2000) + packet(b"x", 2))


@BOTH
def test_what_is_no_compressed_data(algorithm: Algorithm) -> None:
    with pytest.raises(ProtocolError, match=f"cannot be decompressed with {algorithm}"):
        read(asked(algorithm), packet(b"what is this, if it is no data?", 1, 2000))


@BOTH
def test_a_bomb_stays_as_small_as_the_buffer(algorithm: Algorithm) -> None:
    """A kilobyte that promises a little and would become 16 MiB."""
    bomb = SQUEEZE[algorithm](bytes(MAX_LENGTH))
    stream = asked(algorithm)
    stream.feed(packet(bomb, 1, 5000))
    with pytest.raises(ProtocolError, match="another number of bytes"):
        stream.read_into(memoryview(bytearray(1 << 20)))


def test_a_zstd_frame_that_wants_a_large_window_is_refused() -> None:
    """A window is allocated by what the frame says: without a limit 128 MiB, and 2 GiB if allowed."""
    options = {int(zstd.CompressionParameter.window_log): 27, int(zstd.CompressionParameter.content_size_flag): 0}
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(sample(5000)) + compressor.flush()
    with pytest.raises(ProtocolError, match="cannot be decompressed with zstd"):
        read(asked(Algorithm.ZSTD), packet(frame, 1, 5000))


@BOTH
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_corrupt_stream_is_nothing_worse_than_an_error(algorithm: Algorithm, data: st.DataObject) -> None:
    parts = [sample(400, 1), b"short", sample(700, 2)]
    good = squeezed(parts[0], 1, algorithm) + packet(parts[1], 2) + squeezed(parts[2], 3, algorithm)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=6)) + good[at + data.draw(st.integers(0, 6)) :]
    with suppress(ProtocolError):
        read(asked(algorithm), bad, piece=data.draw(st.sampled_from([1, 13, 1 << 20])), room=333)
