"""Headers, checksums and the cursor all decoders read through."""

from __future__ import annotations

import runpy
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog import crc
from binlogd.binlog.crc import crc32
from binlogd.binlog.header import (
    FILE_NAME_MAX,
    Body,
    ChecksumAlgorithm,
    EventType,
    Header,
    build,
    checksum,
    open_event,
    type_name,
    with_checksum,
)
from binlogd.errors import EventError
from tests.binlog.builders import event, lenenc, varlen, varlen_signed

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
headers = st.builds(Header, u32, u8, u32, st.integers(19, 0xFFFFFFFF), u32, u16)


def body(data: bytes) -> Body:
    return Body(memoryview(data), 0, "Query")


class TestHeader:
    @given(headers, st.binary(max_size=5))
    def test_round_trip(self, header: Header, before: bytes) -> None:
        assert Header.decode(header.encode()) == header
        assert Header.decode(before + header.encode() + b"body", len(before)) == header

    def test_the_bytes(self) -> None:
        header = Header(0x04030201, 15, 0x08070605, 0x1413, 0x0C0B0A09, 0x0E0D)
        assert header.encode().hex(" ") == "01 02 03 04 0f 05 06 07 08 13 14 00 00 09 0a 0b 0c 0d 0e"

    def test_cut_short(self) -> None:
        whole = Header(1, 2, 3, 19, 5, 6).encode()
        for end in range(19):
            with pytest.raises(EventError, match=f"{end} bytes of 19"):
                Header.decode(whole[:end])
        with pytest.raises(EventError, match="0 bytes of 19"):
            Header.decode(whole, 40)

    def test_a_length_below_the_header(self) -> None:
        with pytest.raises(EventError, match="a Query event claims 18 bytes"):
            Header.decode(Header(1, 2, 3, 18, 5, 6).encode())

    def test_a_type_of_the_future(self) -> None:
        assert Header.decode(Header(1, 99, 3, 19, 5, 6).encode()).type == 99
        assert type_name(99) == "Unknown"


class TestTypes:
    def test_the_numbers_have_no_gap_up_to_42_and_from_160_to_171(self) -> None:
        assert {int(member) for member in EventType} == {*range(43), *range(160, 172)}

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (EventType.FORMAT_DESCRIPTION, "Format_desc"),
            (EventType.PREVIOUS_GTIDS, "Previous_gtids"),
            (EventType.ANONYMOUS_GTID, "Anonymous_Gtid"),
            (EventType.GTID_TAGGED, "Gtid_tagged_log_event"),
            (EventType.XA_PREPARE, "XA_prepare"),
            (EventType.WRITE_ROWS_V1, "Write_rows_v1"),
            (EventType.MARIADB_GTID_LIST, "Gtid_list"),
            (EventType.USER_VAR, "User var"),
        ],
    )
    def test_names(self, kind: EventType, name: str) -> None:
        assert type_name(kind) == name


class TestChecksum:
    @given(st.binary(max_size=300), u32)
    def test_the_chosen_crc_is_zlibs(self, data: bytes, start: int) -> None:
        assert crc32(data) == zlib.crc32(data) == checksum(data)
        assert crc32(data, start) == zlib.crc32(data, start)
        assert crc32(memoryview(bytearray(data))) == zlib.crc32(data)

    def test_without_isal_zlib_serves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
        assert runpy.run_path(crc.__file__)["crc32"] is zlib.crc32

    def test_with_checksum_sets_the_length(self) -> None:
        bare = Header(1, 2, 3, 0, 5, 6).encode() + b"abc"
        whole = with_checksum(bare, ChecksumAlgorithm.CRC32)
        assert Header.decode(whole).length == len(whole) == 26
        assert int.from_bytes(whole[-4:], "little") == zlib.crc32(whole[:-4])
        for algorithm in (ChecksumAlgorithm.OFF, ChecksumAlgorithm.UNDEF):
            whole = with_checksum(bare, algorithm)
            assert Header.decode(whole).length == len(whole) == 22
            assert whole.endswith(b"abc")

    def test_lengths(self) -> None:
        assert [algorithm.length for algorithm in ChecksumAlgorithm] == [0, 4, 0]

    def test_build_wraps_log_pos_as_servers_do(self) -> None:
        made = build(EventType.STOP, b"", algorithm=ChecksumAlgorithm.OFF, server_id=1, log_pos=2**32 + 5)
        assert Header.decode(made) == Header(0, 3, 1, 19, 5, 0)


class TestBody:
    @given(st.integers(0, 2**64 - 1))
    def test_lenenc(self, value: int) -> None:
        wire = lenenc(value)
        cursor = body(wire)
        assert cursor.lenenc() == value
        assert len(cursor) == 0
        for end in range(len(wire)):
            with pytest.raises(EventError, match="cut short"):
                body(wire[:end]).lenenc()

    @pytest.mark.parametrize("lead", [b"\xfb", b"\xff"])
    def test_lenenc_that_is_no_number(self, lead: bytes) -> None:
        with pytest.raises(EventError, match="where a length belongs"):
            body(lead + bytes(9)).lenenc()

    @given(st.integers(0, 2**64 - 1))
    def test_varlen(self, value: int) -> None:
        wire = varlen(value)
        cursor = body(wire)
        assert cursor.varlen() == value
        assert len(cursor) == 0
        for end in range(len(wire)):
            with pytest.raises(EventError, match="cut short"):
                body(wire[:end]).varlen()

    @pytest.mark.parametrize(
        ("value", "wire"),
        [
            (0, "00"),
            (1, "02"),
            (127, "fe"),
            (256, "01 04"),
            (65535, "fb ff 07"),
            (2**56 - 1, "7f ff ff ff ff ff ff ff"),
            (2**56, "ff 00 00 00 00 00 00 00 01"),
            (2**64 - 1, "ff ff ff ff ff ff ff ff ff"),
        ],
    )
    def test_varlen_bytes(self, value: int, wire: str) -> None:
        assert varlen(value) == bytes.fromhex(wire)
        assert body(bytes.fromhex(wire)).varlen() == value

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_varlen_signed(self, value: int) -> None:
        assert body(varlen_signed(value)).varlen_signed() == value

    @pytest.mark.parametrize(("value", "wire"), [(0, "00"), (-1, "02"), (1, "04"), (-2, "06"), (63, "fc")])
    def test_varlen_signed_bytes(self, value: int, wire: str) -> None:
        assert body(bytes.fromhex(wire)).varlen_signed() == value

    def test_fixed_integers(self) -> None:
        cursor = body(bytes.fromhex("fe ff fe ff"))
        assert cursor.uint(2) == 0xFFFE
        assert cursor.sint(2) == -2
        with pytest.raises(EventError, match="cut short"):
            cursor.uint(1)

    def test_text_and_end(self) -> None:
        assert body("né".encode()).text(3) == "né"
        with pytest.raises(EventError, match="UTF-8"):
            body(b"\xff").text(1)
        with pytest.raises(EventError, match="a Query event has 2 bytes more"):
            body(b"ab").end()

    @pytest.mark.parametrize("name", ["mysql-bin.000001", "größe.1", "a" * FILE_NAME_MAX, "..a"])
    def test_file_names(self, name: str) -> None:
        raw = name.encode()
        assert body(raw).file_name(len(raw)) == name

    @pytest.mark.parametrize("name", ["", ".", "..", "../etc/passwd", "/a", "a\0", "a\n", "a" * (FILE_NAME_MAX + 1)])
    def test_names_that_are_no_files(self, name: str) -> None:
        with pytest.raises(EventError, match="cannot be a binary log's name"):
            body(name.encode()).file_name(len(name))


class TestOpenEvent:
    def test_the_body_leaves_the_checksum_out(self) -> None:
        header, cursor = open_event(event(EventType.XID, b"12345678"), 4, EventType.XID)
        assert header.type == EventType.XID
        assert cursor.rest() == b"12345678"

    def test_another_type(self) -> None:
        with pytest.raises(EventError, match="a Xid event stands where Rotate or Stop belongs"):
            open_event(event(EventType.XID, b"12345678"), 4, EventType.ROTATE, EventType.STOP)

    def test_another_length(self) -> None:
        whole = event(EventType.XID, b"12345678")
        for wrong in (whole[:-1], whole + b"\0"):
            with pytest.raises(EventError, match="claims 31 bytes and has"):
                open_event(wrong, 4, EventType.XID)
        with pytest.raises(EventError, match="claims 31 bytes and has 32"):
            open_event(whole + b"\0", 4, EventType.XID, prefix=True)

    def test_a_prefix_never_shows_the_checksum(self) -> None:
        whole = event(EventType.QUERY, b"12345678")
        for end in range(19, len(whole) + 1):
            _, cursor = open_event(whole[:end], 4, EventType.QUERY, prefix=True)
            assert cursor.rest() == b"12345678"[: end - 19]

    def test_no_room_for_a_checksum(self) -> None:
        bare = event(EventType.STOP, b"", algorithm=ChecksumAlgorithm.OFF)
        with pytest.raises(EventError, match="no room for its checksum"):
            open_event(bare, 4, EventType.STOP)
