"""binlogd.wire.codec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.errors import ProtocolError
from binlogd.wire.codec import Reader, decode_text, encode_lenenc, encode_lenenc_bytes


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (0xFA, "fa"),
        (0xFB, "fcfb00"),
        (0xFFFF, "fcffff"),
        (0x10000, "fd000001"),
        (0xFFFFFF, "fdffffff"),
        (0x1000000, "fe0000000100000000"),
        (2**64 - 1, "feffffffffffffffff"),
    ],
)
def test_lenenc_takes_the_shortest_form(value: int, encoded: str) -> None:
    assert encode_lenenc(value).hex() == encoded
    assert Reader(bytes.fromhex(encoded)).lenenc() == value


@given(st.integers(0, 2**64 - 1), st.binary(max_size=300), st.binary(max_size=20))
def test_what_is_written_is_read_back(number: int, string: bytes, tail: bytes) -> None:
    name = string.replace(b"\0", b"")
    data = encode_lenenc(number) + encode_lenenc_bytes(string) + name + b"\0" + tail
    for buffer in (data, bytearray(data), memoryview(data)):
        reader = Reader(buffer)
        assert reader.lenenc() == number
        assert reader.lenenc_bytes() == string
        assert reader.nul_bytes() == name
        assert reader.remaining == len(tail)
        assert reader.rest() == tail


def test_fixed_integers_are_little_endian() -> None:
    reader = Reader(bytes.fromhex("01 0203 040506"))
    assert [reader.integer(1), reader.integer(2), reader.integer(3)] == [0x01, 0x0302, 0x060504]


def test_null_is_told_from_a_number() -> None:
    assert Reader(b"\xfb").lenenc_or_null() is None
    with pytest.raises(ProtocolError, match="NULL"):
        Reader(b"\xfb").lenenc()


@pytest.mark.parametrize(
    "data", [b"", b"\xfc", b"\xfc\x01", b"\xfd\x01\x02", b"\xfe" + bytes(7), b"\xff", b"\xff" + bytes(9)]
)
def test_a_length_cut_short_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Reader(data).lenenc()


def test_strings_cut_short_are_protocol_errors_that_name_the_packet() -> None:
    with pytest.raises(ProtocolError, match="the greeting is cut short"):
        Reader(b"\x05abcd", "the greeting").lenenc_bytes()
    with pytest.raises(ProtocolError, match=r"the greeting .* NUL"):
        Reader(b"abcd", "the greeting").nul_bytes()
    with pytest.raises(ProtocolError, match=r"the greeting .* not UTF-8"):
        decode_text(b"\xff", "the greeting")


@given(
    st.binary(max_size=40),
    st.lists(st.sampled_from(["lenenc", "lenenc_bytes", "nul_bytes", "four"]), max_size=8),
)
def test_nothing_but_protocol_errors_whatever_the_bytes(data: bytes, reads: list[str]) -> None:
    reader = Reader(data)
    try:
        for read in reads:
            if read == "four":
                reader.integer(4)
            else:
                getattr(reader, read)()
    except ProtocolError:
        pass
    assert 0 <= reader.remaining <= len(data)
