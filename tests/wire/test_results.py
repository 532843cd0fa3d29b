"""binlogd.wire.results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import ProtocolError, ServerError
from binlogd.wire.capabilities import Capability, Charset, ColumnType, StatusFlag
from binlogd.wire.errors import encode_error
from binlogd.wire.results import (
    Column,
    Ok,
    Result,
    ResultReader,
    Value,
    decode_eof,
    encode_eof,
    encode_result,
    encode_row,
    is_eof,
)
from tests.wire.support import integer_column, text_column

CLASSIC = Capability.PROTOCOL_41
MODERN = Capability.PROTOCOL_41 | Capability.DEPRECATE_EOF
both = pytest.mark.parametrize("capabilities", [CLASSIC, MODERN], ids=["classic", "deprecate_eof"])

names = st.text(st.characters(codec="utf-8"), max_size=20)
values: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.integers(-(2**63), 2**64), st.text(st.characters(codec="utf-8"), max_size=300)
)


def read(payloads: list[bytes], capabilities: Capability, **options: bool | int) -> Result:
    reader = ResultReader(capabilities, **options)  # type: ignore[arg-type]
    for payload in payloads[:-1]:
        assert reader.feed(payload) is None
    result = reader.feed(payloads[-1])
    assert result is not None
    return result


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 0xFFFF).map(StatusFlag),
    st.integers(0, 0xFFFF),
    names,
)
def test_ok_round_trips(affected: int, insert_id: int, status: StatusFlag, warnings: int, info: str) -> None:
    ok = Ok(affected, insert_id, status, warnings, info)
    assert Ok.decode(ok.encode()) == ok


def test_ok_is_these_bytes() -> None:
    assert Ok().encode() == bytes.fromhex("00000002000000")
    assert Ok(affected=300, info="x").encode() == bytes.fromhex("00fc2c0100020000000178")


@both
def test_eof_round_trips_and_is_shorter_than_any_row(capabilities: Capability) -> None:
    payload = encode_eof(capabilities, warnings=3, status=StatusFlag.IN_TRANS)
    assert payload[0] == 0xFE
    assert len(payload) < 8
    assert is_eof(payload, capabilities)
    ok = decode_eof(payload, capabilities)
    assert (ok.warnings, ok.status) == (3, StatusFlag.IN_TRANS)


def test_eof_is_these_bytes() -> None:
    assert encode_eof(CLASSIC) == bytes.fromhex("fe00000200")
    assert encode_eof(MODERN) == bytes.fromhex("fe000002000000")


def test_a_row_that_begins_like_an_eof_is_a_row() -> None:
    row = b"\xfe" + (1 << 24).to_bytes(8, "little") + bytes(1 << 24)
    assert not is_eof(row, CLASSIC)
    assert not is_eof(row, MODERN)


@given(names, names, names, st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_columns_round_trip(name: str, schema: str, table: str, length: int, kind: int, flags: int) -> None:
    column = Column(
        name=name,
        type=kind,
        length=length,
        flags=flags,
        decimals=31,
        schema=schema,
        table=table,
        org_table=table,
        org_name=name,
    )
    assert Column.decode(column.encode()) == column


@both
@settings(max_examples=60)
@given(st.lists(names, min_size=1, max_size=5), st.data())
def test_result_sets_round_trip(capabilities: Capability, columns: list[str], data: st.DataObject) -> None:
    row = st.lists(values, min_size=len(columns), max_size=len(columns))
    rows = data.draw(st.lists(row, max_size=6))
    payloads = encode_result([text_column(name) for name in columns], rows, capabilities, warnings=2)
    result = read(payloads, capabilities)
    assert result.columns == tuple(columns)
    assert result.rows == [tuple(v if v is None else str(v) for v in row) for row in rows]
    assert result.warnings == 2


@both
def test_values_come_back_as_their_column_says(capabilities: Capability) -> None:
    columns = [
        integer_column("n"),
        text_column("s"),
        Column(name="b", type=ColumnType.BLOB, charset=Charset.BINARY),
        Column(name="d", type=ColumnType.DATETIME, charset=Charset.BINARY),
    ]
    payloads = encode_result(columns, [(True, "é", b"\x00\xff", "2026-01-01"), (-5, b"\xff", b"", None)], capabilities)
    assert read(payloads, capabilities).rows == [
        ("1", "é", b"\x00\xff", "2026-01-01"),
        ("-5", b"\xff", b"", None),
    ]


@both
def test_an_ok_is_a_result_without_columns(capabilities: Capability) -> None:
    result = read([Ok(5, 7, StatusFlag.AUTOCOMMIT, 1, "Rows matched: 5").encode()], capabilities)
    assert result == Result((), [], 5, 7, 1, "Rows matched: 5")


@both
@pytest.mark.parametrize("place", range(5))
def test_an_error_can_stand_in_the_place_of_any_payload(capabilities: Capability, place: int) -> None:
    payloads = encode_result([text_column("a")], [("x",), ("y",)], capabilities)
    reader = ResultReader(capabilities)
    for payload in payloads[:place]:
        reader.feed(payload)
    with pytest.raises(ServerError, match="killed") as caught:
        reader.feed(encode_error(1317, "70100", "killed"))
    assert caught.value.code == 1317


@both
def test_nonsense_is_a_protocol_error(capabilities: Capability) -> None:
    column = text_column("a").encode()
    head = [b"\x01", column] + ([] if capabilities & Capability.DEPRECATE_EOF else [encode_eof(capabilities)])
    for payloads, text in [
        ([b""], "cut short"),
        ([b"\xfbfile"], "local file"),
        ([b"\xfd\x00\x20\x00"], "8192 columns"),
        ([b"\x01\x01"], "announces"),
        ([b"\x01", b"\x03de"], "cut short"),
        ([*head, b"\x05abc"], "cut short"),
        ([*head, b"\x01ab"], "longer than its 1 columns"),
        ([*head, encode_eof(capabilities, status=StatusFlag.MORE_RESULTS)], "further answer"),
    ]:
        reader = ResultReader(capabilities)
        for payload in payloads[:-1]:
            reader.feed(payload)
        with pytest.raises(ProtocolError, match=text):
            reader.feed(payloads[-1])


def test_columns_must_be_closed_where_that_was_agreed() -> None:
    reader = ResultReader(CLASSIC)
    reader.feed(b"\x01")
    reader.feed(text_column("a").encode())
    with pytest.raises(ProtocolError, match="not closed by an EOF"):
        reader.feed(b"\x01x")


def test_rows_where_only_ok_was_expected() -> None:
    with pytest.raises(ProtocolError, match="only OK"):
        ResultReader(MODERN, rows_allowed=False).feed(b"\x01")


def test_an_answer_beyond_the_limit_is_refused() -> None:
    payloads = encode_result([text_column("a")], [("x" * 100,)] * 20, MODERN)
    assert len(read(payloads, MODERN, max_size=3000).rows) == 20
    with pytest.raises(ProtocolError, match="larger than the limit"):
        read(payloads, MODERN, max_size=1000)


def test_a_row_is_these_bytes() -> None:
    assert encode_row([None, "", "é", 12, b"\xff", "x" * 251]) == (
        b"\xfb\x00\x02\xc3\xa9\x0212\x01\xff\xfc\xfb\x00" + b"x" * 251
    )
