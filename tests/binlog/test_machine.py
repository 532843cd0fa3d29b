"""The sums of the hot modules against zlib's, through a walk: compiled, nobody else can call them."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.binlog.walk import Walk
from binlogd.errors import EventError

RANDOM = random.Random(3).randbytes(70_000)


def event(body: bytes, crc: int) -> bytes:
    return struct.pack("<IBIIIH", 1, 30, 1, 19 + len(body) + 4, 0, 0) + body + crc.to_bytes(4, "little")


def accepted(body: bytes, *, room: int = 0) -> bool:
    """Whether a walk takes the event with zlib's CRC, at any place of its buffer, and with no other."""
    sealed = event(body, zlib.crc32(event(body, 0)[:-4]))
    Walk(position=4, checksum=4).whole(bytes(room) + sealed, room, len(sealed))
    wrong = sealed[:-1] + bytes((sealed[-1] ^ 1,))
    with pytest.raises(EventError, match="CRC-32"):
        Walk(position=4, checksum=4).whole(bytes(room) + wrong, room, len(wrong))
    return True


def test_sums_of_every_length() -> None:
    for size in range(600):
        assert accepted(RANDOM[size : 2 * size], room=size % 17)


@pytest.mark.parametrize("size", [1000, 4095, 8192, 8193, 65_535])
def test_sums_of_large_events(size: int) -> None:
    assert accepted(RANDOM[:size])


@given(st.binary(max_size=300), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_sums_of_anything(body: bytes, room: int) -> None:
    assert accepted(body, room=room)


@pytest.mark.parametrize("first", range(19, 60))
def test_sums_that_go_on(first: int) -> None:
    """Every state goes into every length: of a large event that comes in two pieces, cut at any place."""
    size = 600_000
    body = (RANDOM * 9)[:size]
    sealed = bytearray(event(body, zlib.crc32(event(body, 0)[:-4])))
    begun = 131_072
    walk = Walk(position=4, checksum=4)
    assert walk.walk(sealed, 0, begun + first) == begun + first
    for end in range(begun + first + 1, begun + 200, first):
        assert walk.walk(sealed, end - first if end > begun + first + 1 else begun + first, end) == end
        last = end
    assert walk.walk(sealed, last, len(sealed)) == len(sealed)
    assert walk.position == 4 + len(sealed)
