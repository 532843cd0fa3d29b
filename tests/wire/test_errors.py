"""binlogd.wire.errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.errors import ProtocolError
from binlogd.wire.errors import decode_error, encode_error


def test_the_bytes_are_mysqls() -> None:
    payload = encode_error(1045, "28000", "Access denied")
    assert payload == b"\xff\x15\x04#28000Access denied"
    error = decode_error(payload)
    assert (error.code, error.sqlstate, error.message) == (1045, "28000", "Access denied")


def test_an_error_in_the_greetings_place_has_no_state() -> None:
    payload = encode_error(1040, None, "Too many connections")
    assert payload == b"\xff\x10\x04Too many connections"
    error = decode_error(payload)
    assert (error.code, error.sqlstate, error.message) == (1040, "HY000", "Too many connections")


@given(st.integers(0, 0xFFFF), st.from_regex(r"[0-9A-Z]{5}", fullmatch=True), st.text(min_size=1, max_size=100))
def test_errors_round_trip(code: int, state: str, message: str) -> None:
    error = decode_error(encode_error(code, state, message))
    shown = " ".join(message.encode("utf-8", "replace").decode().split())
    assert (error.code, error.sqlstate) == (code, state)
    assert error.message == (shown or f"error {code}")


def test_text_in_another_character_set_is_shown_replaced_and_on_one_line() -> None:
    assert decode_error(b"\xff\x15\x04#28000Acc\xe9s\nrefus\xe9").message == "Acc\ufffds refus\ufffd"


def test_a_message_that_begins_with_a_hash_is_not_a_state() -> None:
    assert decode_error(b"\xff\x01\x00#1").message == "#1"


@given(st.binary(max_size=2))
def test_cut_short_is_a_protocol_error(rest: bytes) -> None:
    if len(rest) < 2:
        with pytest.raises(ProtocolError):
            decode_error(b"\xff" + rest)
    else:
        assert decode_error(b"\xff" + rest).message
