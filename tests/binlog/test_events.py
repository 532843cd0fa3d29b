"""FORMAT_DESCRIPTION, ROTATE, heartbeats, and the edits a dump begins with."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.events import (
    FormatDescription,
    Heartbeat,
    Rotate,
    clear_in_use,
    fake_rotate,
    for_position_start,
    has_checksum_byte,
    heartbeat_v1,
    heartbeat_v2,
    with_created_zero,
)
from binlogd.binlog.header import ChecksumAlgorithm, EventFlag, EventType, Header, build
from binlogd.errors import EventError
from tests.binlog.builders import event, lenenc, read_or_refused

OFF, CRC32, UNDEF = ChecksumAlgorithm.OFF, ChecksumAlgorithm.CRC32, ChecksumAlgorithm.UNDEF
LENGTHS = bytes(range(42))
FDE = FormatDescription("9.7.4", 1_700_000_000, LENGTHS, CRC32)

names = st.from_regex(r"[a-z][a-z0-9._-]{0,30}\.[0-9]{6,9}", fullmatch=True)
algorithms = st.sampled_from([OFF, CRC32])
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 2**64 - 1)


def crc_is_right(data: bytes) -> bool:
    return zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")


class TestFormatDescription:
    @given(
        st.sampled_from(["5.6.24-log", "8.0.36", "9.7.4-binlogd", "10.11.6-MariaDB-0+deb12u1-log"]),
        u32,
        st.binary(min_size=13, max_size=180),
        st.sampled_from(ChecksumAlgorithm),
    )
    def test_round_trip(self, version: str, created: int, lengths: bytes, algorithm: ChecksumAlgorithm) -> None:
        fde = FormatDescription(version, created, lengths, algorithm)
        wire = fde.encode(server_id=1, timestamp=2, log_pos=123, flags=0)
        assert FormatDescription.decode(wire) == fde
        assert Header.decode(wire) == Header(2, 15, 1, len(wire), 123, 0)
        assert crc_is_right(wire), "with binlog_checksum=NONE too"
        assert wire[-5] == algorithm

    def test_before_checksums(self) -> None:
        old = FormatDescription("5.5.62-log", 5, bytes(27), UNDEF)
        wire = old.encode(server_id=1)
        assert len(wire) == 19 + 57 + 27
        assert FormatDescription.decode(wire) == old
        assert clear_in_use(wire) == wire

    def test_the_crc_leaves_in_use_out(self) -> None:
        closed = FDE.encode(server_id=1)
        in_use = FDE.encode(server_id=1, flags=EventFlag.IN_USE)
        assert in_use[17] == 1
        assert in_use[:17] + b"\0" + in_use[18:] == closed
        assert crc_is_right(closed)
        assert FormatDescription.decode(in_use) == FDE

    @pytest.mark.parametrize(
        ("version", "expected"),
        [
            ("5.6.0-m4", False),
            ("5.6.1-m5", True),
            ("5.5.62", False),
            ("5.7.44-log", True),
            ("8.4.0", True),
            ("10.0.1", True),
            ("5.2.14-MariaDB", False),
            ("5.3.12-MariaDB-log", True),
            ("5.5.5-10.11.6-MariaDB", True),
            ("11.8.2-MariaDB-log", True),
        ],
    )
    def test_which_servers_have_the_checksum_byte(self, version: str, expected: bool) -> None:
        assert has_checksum_byte(version) is expected

    def test_refused(self) -> None:
        wire = FDE.encode(server_id=1)
        for at, value, reason in [
            (19, b"\x03\0", "has version 3"),
            (19 + 56, b"\x14", "header length 20"),
            (21, b"9.x.4\0", "cannot be read"),
            (21, b"\xff", "not ASCII"),
            (len(wire) - 5, b"\x02", "unknown checksum algorithm 2"),
        ]:
            wrong = wire[:at] + value + wire[at + len(value) :]
            with pytest.raises(EventError, match=reason):
                FormatDescription.decode(wrong)
        short = build(EventType.FORMAT_DESCRIPTION, wire[19 : 19 + 57] + b"1234", algorithm=OFF, server_id=1)
        with pytest.raises(EventError, match="cut short before its checksum algorithm"):
            FormatDescription.decode(short)
        with pytest.raises(ValueError, match="50 characters"):
            replace(FDE, server_version="9.7.4" + "x" * 50).encode(server_id=1)


class TestEdits:
    WIRE = FDE.encode(server_id=1, timestamp=9, log_pos=126, flags=EventFlag.IN_USE | EventFlag.IGNORABLE)

    def test_clear_in_use(self) -> None:
        made = clear_in_use(memoryview(self.WIRE))
        assert Header.decode(made) == replace(Header.decode(self.WIRE), flags=EventFlag.IGNORABLE)
        assert made[19:] == self.WIRE[19:]
        assert crc_is_right(made)
        assert clear_in_use(made) == made

    def test_with_created_zero(self) -> None:
        made = with_created_zero(self.WIRE)
        assert Header.decode(made) == replace(Header.decode(self.WIRE), flags=EventFlag.IGNORABLE)
        assert FormatDescription.decode(made) == replace(FDE, created=0)
        assert crc_is_right(made)

    def test_for_position_start(self) -> None:
        made = for_position_start(self.WIRE)
        assert Header.decode(made) == replace(Header.decode(self.WIRE), flags=EventFlag.IGNORABLE, log_pos=0)
        assert FormatDescription.decode(made) == replace(FDE, created=0)
        assert crc_is_right(made)

    def test_only_what_can_be_read_is_edited(self) -> None:
        for edit in (clear_in_use, with_created_zero, for_position_start):
            with pytest.raises(EventError):
                edit(self.WIRE[:-1])
            with pytest.raises(EventError, match="stands where Format_desc belongs"):
                edit(event(EventType.XID, bytes(8)))


class TestRotate:
    @given(u64, names, algorithms)
    def test_round_trip(self, position: int, name: str, algorithm: ChecksumAlgorithm) -> None:
        rotate = Rotate(position, name)
        wire = rotate.encode(server_id=1, algorithm=algorithm, timestamp=5, log_pos=77)
        assert Rotate.decode(wire, algorithm.length) == rotate
        assert Header.decode(wire) == Header(5, 4, 1, len(wire), 77, 0)

    @given(u64, names, algorithms)
    def test_fake(self, position: int, name: str, algorithm: ChecksumAlgorithm) -> None:
        wire = fake_rotate(name, position, server_id=1, algorithm=algorithm)
        assert Rotate.decode(wire, algorithm.length) == Rotate(position, name)
        assert Header.decode(wire) == Header(0, 4, 1, len(wire), 0, 0x20)
        body = struct.pack("<Q", position) + name.encode()
        assert wire[19 : 19 + len(body)] == body
        assert algorithm is OFF or crc_is_right(wire)

    @pytest.mark.parametrize(
        "body", [b"", bytes(7), bytes(8), bytes(8) + b"a/b", bytes(8) + b"a\0", bytes(8) + b"\xff"]
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(EventError):
            Rotate.decode(event(EventType.ROTATE, body), 4)


class TestHeartbeat:
    @given(names, u32, algorithms)
    def test_version_1(self, name: str, position: int, algorithm: ChecksumAlgorithm) -> None:
        wire = heartbeat_v1(name, position, server_id=1, algorithm=algorithm)
        assert Heartbeat.decode(wire, algorithm.length) == Heartbeat(name, position)
        assert Header.decode(wire) == Header(0, 27, 1, len(wire), position, 0)
        assert wire[19 : 19 + len(name)] == name.encode()

    @given(names, u64, algorithms)
    def test_version_2(self, name: str, position: int, algorithm: ChecksumAlgorithm) -> None:
        wire = heartbeat_v2(name, position, server_id=1, algorithm=algorithm)
        assert Heartbeat.decode(wire, algorithm.length) == Heartbeat(name, position)
        assert Header.decode(wire) == Header(0, 41, 1, len(wire), position & 0xFFFFFFFF, 0)

    def test_the_bytes_of_version_2(self) -> None:
        wire = heartbeat_v2("b.1", 0x1234, server_id=1, algorithm=OFF)
        assert wire[19:] == b"\x01\x03b.1" + b"\x02\x03\xfc\x34\x12" + b"\x00"

    @pytest.mark.parametrize("position", [0, 250, 251, 0xFFFF, 0x10000, 0xFFFFFF, 0x1000000, 2**40])
    def test_positions_are_length_encoded(self, position: int) -> None:
        assert lenenc(position) in heartbeat_v2("b.1", position, server_id=1, algorithm=OFF)

    def test_version_1_ends_at_4_gib(self) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            heartbeat_v1("b.1", 2**32, server_id=1, algorithm=OFF)

    def test_unknown_fields_are_skipped(self) -> None:
        body = b"\x09\x02xx" + b"\x01\x03b.1" + b"\x02\x01\x05" + b"\x00"
        assert Heartbeat.decode(event(EventType.HEARTBEAT_V2, body), 4) == Heartbeat("b.1", 5)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\x00",
            b"\x01\x03b.1\x00",
            b"\x02\x01\x05\x00",
            b"\x01\x03b.1\x02\x01\x05",
            b"\x01\x03b.1\x02\x02\x05\x00\x00",
            b"\x01\x03b.1\x02\x01\x05\x00\x00",
            b"\x01\x09b.1\x02\x01\x05\x00",
            b"\x01\x00\x02\x01\x05\x00",
            b"\x09\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(EventError):
            Heartbeat.decode(event(EventType.HEARTBEAT_V2, body), 4)


@given(st.sampled_from([4, 15, 27, 41]), st.binary(max_size=150), algorithms)
def test_any_body_is_read_or_refused(kind: int, body: bytes, algorithm: ChecksumAlgorithm) -> None:
    wire = event(EventType(kind), body, algorithm=algorithm)
    for decode in (Rotate.decode, Heartbeat.decode, lambda data, _: FormatDescription.decode(data)):
        read_or_refused(decode, wire, algorithm.length)


@given(st.binary(max_size=80), st.integers(0, 120))
def test_any_damage_to_a_format_description_is_read_or_refused(patch: bytes, at: int) -> None:
    wire = bytearray(FDE.encode(server_id=1))
    wire[at : at + len(patch)] = patch
    read_or_refused(lambda data, _: FormatDescription.decode(data), bytes(wire))
