"""What is shown of events, where it differs from what a server made: of hostile ones, and of very long ones."""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from binlogd.binlog.description import PREFIX, UNREADABLE, describe
from binlogd.binlog.header import EventType, Header
from binlogd.binlog.payload import PayloadEvents
from binlogd.binlog.transaction_events import Compression
from binlogd.errors import EventError
from tests.binlog import builders

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

STRING, REAL, INTEGER, DECIMAL = 0, 1, 2, 4


def user_var(kind: int, value: bytes, length: int | None = None) -> bytes:
    """The Info of a USER_VAR that says its value has so many bytes."""
    said = len(value) if length is None else length
    event = builders.event(EventType.USER_VAR, struct.pack("<I1sBBII", 1, b"a", 0, kind, 45, said) + value)
    return describe(Header.decode(event), event[:PREFIX], 4)[1]


def test_numbers_that_are_none() -> None:
    assert user_var(REAL, struct.pack("<d", 1.5)) == b"@`a`=1.5"
    for number in (float("nan"), float("inf"), float("-inf")):
        assert user_var(REAL, struct.pack("<d", number)) == b"@`a`=0"


@pytest.mark.parametrize("kind", [STRING, REAL, INTEGER, DECIMAL])
def test_a_value_that_is_cut_short(kind: int) -> None:
    assert user_var(kind, b"123", 8).startswith(UNREADABLE)


def test_a_long_string_is_marked_where_it_is_cut() -> None:
    assert user_var(STRING, b"abc").endswith(b" 0x616263 COLLATE utf8mb4_general_ci")
    for length in (PREFIX // 2, PREFIX + 100, 3 * PREFIX):
        info = user_var(STRING, b"a" * length)
        assert (b" ... (%d bytes in all) COLLATE" % length in info) == (length > PREFIX)


def compressed_query(stream: bytes, length: int) -> bytes:
    """The Info of MariaDB's QUERY_COMPRESSED that says its text has so many bytes."""
    body = struct.pack("<IIBHH", 1, 0, 1, 0, 0) + b"d\0" + b"\x84" + length.to_bytes(4, "big") + stream
    event = builders.event(EventType.MARIADB_QUERY_COMPRESSED, body)
    return describe(Header.decode(event), event[:PREFIX], 4)[1]


def test_a_compressed_statement() -> None:
    assert compressed_query(zlib.compress(b"SELECT 1"), 8) == b"use `d`; SELECT 1"
    assert compressed_query(zlib.compress(b"SELECT 1")[:-6], 8).startswith(b"use `d`; ")
    assert compressed_query(b"SELECT 1", 8).startswith(UNREADABLE)
    assert compressed_query(b"", 0) == b"use `d`; "


def test_a_compressed_statement_is_shown_no_further_than_others() -> None:
    large = zlib.compress(bytes(64 * PREFIX))
    for length in (0, 10, PREFIX, 64 * PREFIX, 2**32 - 1):
        shown = min(length, PREFIX)
        told = b" ... (%d bytes in all)" % length if length > PREFIX else b""
        assert compressed_query(large, length) == b"use `d`; " + bytes(shown) + told


def test_a_payload_that_ends_within_its_stream() -> None:
    """Behind a whole event of it: what follows in the stream is not there."""
    event = builders.event(EventType.XID, b"12345678")
    packer = zstd.ZstdCompressor()
    begun = packer.compress(event, packer.FLUSH_BLOCK)
    rest = packer.compress(event, packer.FLUSH_FRAME)
    whole = PayloadEvents(Compression.ZSTD)
    assert len([found for found in whole.feed(begun + rest) if found]) == 2
    whole.end()
    cut = PayloadEvents(Compression.ZSTD)
    assert len([found for found in cut.feed(begun) if found]) == 1
    with pytest.raises(EventError, match="within its compressed data"):
        cut.end()
