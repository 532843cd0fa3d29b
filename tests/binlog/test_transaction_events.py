"""The events that tell a transaction's course."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.transaction_events import (
    TEXT_LIMIT,
    Compression,
    Incident,
    Query,
    Stop,
    TransactionPayload,
    XaPrepare,
    Xid,
)
from binlogd.errors import EventError
from tests.binlog import builders

OFF, CRC32 = ChecksumAlgorithm.OFF, ChecksumAlgorithm.CRC32
algorithms = st.sampled_from([OFF, CRC32])
u32 = st.integers(0, 0xFFFFFFFF)


class TestQuery:
    @given(
        st.binary(max_size=200),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
        st.binary(max_size=60),
        u32,
        u32,
        st.integers(0, 0xFFFF),
        algorithms,
    )
    def test_fields(
        self,
        text: bytes,
        schema: str,
        status: bytes,
        thread_id: int,
        exec_time: int,
        error_code: int,
        algorithm: ChecksumAlgorithm,
    ) -> None:
        wire = builders.query(
            text,
            schema=schema,
            status=status,
            thread_id=thread_id,
            exec_time=exec_time,
            error_code=error_code,
            algorithm=algorithm,
        )
        assert Query.decode(wire, algorithm.length) == Query(
            thread_id, exec_time, error_code, schema, status, text, len(text), False
        )

    def test_a_long_text_is_kept_in_part(self) -> None:
        wire = builders.query(b"x" * (TEXT_LIMIT + 1))
        made = Query.decode(wire, 4)
        assert (len(made.text), made.text_length) == (TEXT_LIMIT, TEXT_LIMIT + 1)
        assert Query.decode(wire, 4, text_limit=3).text == b"xxx"

    def test_the_beginning_of_an_event_is_enough(self) -> None:
        wire = builders.query(b"INSERT INTO t", schema="db", status=b"\0\1\2")
        text_at = len(wire) - 4 - len(b"INSERT INTO t")
        for end in range(19, len(wire) + 1):
            if end < text_at:
                with pytest.raises(EventError, match="cut short"):
                    Query.decode(wire[:end], 4)
            else:
                made = Query.decode(wire[:end], 4)
                assert made.text == b"INSERT INTO t"[: end - text_at]
                assert made.text_length == 13

    def test_compressed(self) -> None:
        assert Query.decode(builders.query(b"\x81", kind=EventType.MARIADB_QUERY_COMPRESSED), 4).compressed

    @pytest.mark.parametrize(
        "body",
        [
            bytes(12),
            struct.pack("<IIBHH", 1, 0, 0, 0, 0),
            struct.pack("<IIBHH", 1, 0, 0, 0, 0xFFFF) + b"\0",
            struct.pack("<IIBHH", 1, 0, 9, 0, 0) + b"db\0",
            struct.pack("<IIBHH", 1, 0, 2, 0, 0) + b"dbx",
            struct.pack("<IIBHH", 1, 0, 2, 0, 0) + b"\xff\xff\0",
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(EventError):
            Query.decode(builders.event(EventType.QUERY, body), 4)


class TestSmallEvents:
    @given(st.integers(0, 2**64 - 1), algorithms)
    def test_xid(self, number: int, algorithm: ChecksumAlgorithm) -> None:
        assert Xid.decode(builders.xid(number, algorithm=algorithm), algorithm.length) == Xid(number)

    @given(st.binary(max_size=64), st.binary(max_size=64), st.booleans(), st.integers(-(2**31), 2**31 - 1))
    def test_xa_prepare(self, gtrid: bytes, bqual: bytes, one_phase: bool, format_id: int) -> None:
        wire = builders.xa_prepare(gtrid, bqual, one_phase=one_phase, format_id=format_id)
        assert XaPrepare.decode(wire, 4) == XaPrepare(one_phase, format_id, gtrid, bqual)

    def test_xa_statements(self) -> None:
        assert str(XaPrepare(False, 1, b"ab", b"")) == "XA PREPARE X'6162',X'',1"
        assert str(XaPrepare(True, 2, b"a", b"b")) == "XA COMMIT X'61',X'62',2 ONE PHASE"

    def test_incident(self) -> None:
        body = struct.pack("<HB", 1, 5) + b"lost\xff"
        assert Incident.decode(builders.event(EventType.INCIDENT, body), 4) == Incident(1, "lost�")

    def test_stop(self) -> None:
        assert Stop.decode(builders.event(EventType.STOP, b""), 4) == Stop()

    @pytest.mark.parametrize("size", [7, 9])
    def test_malformed_xid(self, size: int) -> None:
        with pytest.raises(EventError):
            Xid.decode(builders.event(EventType.XID, bytes(size)), 4)

    def test_malformed(self) -> None:
        with pytest.raises(EventError, match="65 \\+ 0 bytes"):
            XaPrepare.decode(builders.xa_prepare(b"x" * 65, b""), 4)
        short = struct.pack("<BiII", 0, 1, 3, 0)
        for tail in (b"ab", b"abcd"):
            with pytest.raises(EventError):
                XaPrepare.decode(builders.event(EventType.XA_PREPARE, short + tail), 4)
        with pytest.raises(EventError, match="an Incident event is cut short"):
            Incident.decode(builders.event(EventType.INCIDENT, b"\1\0\5ab"), 4)
        with pytest.raises(EventError, match="a Stop event has 1 bytes more"):
            Stop.decode(builders.event(EventType.STOP, b"\0"), 4)


class TestTransactionPayload:
    @given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
    def test_fields(self, data: bytes, uncompressed: int) -> None:
        wire = builders.payload(data, uncompressed=uncompressed)
        made = TransactionPayload.decode(wire, 4)
        assert made == TransactionPayload(Compression.ZSTD, len(data), uncompressed, len(wire) - 4 - len(data))
        assert wire[made.payload_offset :][: made.payload_size] == data

    def test_not_compressed(self) -> None:
        made = TransactionPayload.decode(builders.payload(b"abc", compression=255, uncompressed=None), 4)
        assert (made.compression, made.uncompressed_size) == (Compression.NONE, 3)
        assert TransactionPayload.decode(builders.payload(b"", compression=None), 4).compression == 255

    def test_a_new_field_and_a_new_compression(self) -> None:
        made = TransactionPayload.decode(builders.payload(b"abc", compression=7, extra=b"\x09\x02xx"), 4)
        assert (made.compression, made.payload_size) == (7, 3)

    def test_the_beginning_is_enough(self) -> None:
        wire = builders.payload(b"x" * 1000)
        whole = TransactionPayload.decode(wire, 4)
        for end in range(19, whole.payload_offset):
            with pytest.raises(EventError, match="cut short"):
                TransactionPayload.decode(wire[:end], 4)
        assert TransactionPayload.decode(wire[: whole.payload_offset], 4) == whole

    @pytest.mark.parametrize(
        "body",
        [
            b"\0",
            b"\x01\x01\x05\0abcd",
            b"\x01\x02\x03\0abc",
            b"\x01\x01\xfc\x03\x00\0abc",
            b"\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        ],
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(EventError):
            TransactionPayload.decode(builders.event(EventType.TRANSACTION_PAYLOAD, body), 4)


DECODERS: dict[EventType, Callable[[bytes, int], object]] = {
    EventType.QUERY: Query.decode,
    EventType.XID: Xid.decode,
    EventType.XA_PREPARE: XaPrepare.decode,
    EventType.TRANSACTION_PAYLOAD: TransactionPayload.decode,
    EventType.INCIDENT: Incident.decode,
    EventType.STOP: Stop.decode,
}


@given(st.sampled_from(list(DECODERS)), st.binary(max_size=120), algorithms)
def test_any_body_is_read_or_refused(kind: EventType, body: bytes, algorithm: ChecksumAlgorithm) -> None:
    wire = builders.event(kind, body, algorithm=algorithm)
    builders.read_or_refused(DECODERS[kind], wire, algorithm.length)
