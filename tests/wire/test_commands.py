"""binlogd.wire.commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.errors import ProtocolError, Refusal
from binlogd.wire.commands import (
    Ack,
    BinlogDump,
    BinlogDumpGtid,
    InitDb,
    Ping,
    Query,
    Quit,
    RegisterReplica,
    ResetConnection,
    Statistics,
    Unknown,
    decode_ack,
    decode_command,
    decode_while_streaming,
    encode_ack,
)

text = st.text(st.characters(codec="utf-8"), max_size=40)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)

commands = st.one_of(
    st.builds(Query, text),
    st.just(Ping()),
    st.just(Statistics()),
    st.just(ResetConnection()),
    st.just(Quit()),
    st.builds(InitDb, text),
    st.builds(RegisterReplica, server_id=u32, host=text, user=text, password=text, port=u16, rank=u32, source_id=u32),
    st.builds(BinlogDump, file=names, position=u32, flags=u16, server_id=u32),
    st.builds(BinlogDumpGtid, file=names, position=u64, flags=u16, server_id=u32, gtid_data=st.binary(max_size=60)),
)


@given(commands)
def test_commands_round_trip(
    command: Query
    | Ping
    | Statistics
    | ResetConnection
    | Quit
    | InitDb
    | RegisterReplica
    | BinlogDump
    | BinlogDumpGtid,
) -> None:
    assert decode_command(command.encode()) == command


@given(st.binary(max_size=60))
def test_any_payload_is_a_command_or_an_expected_error(payload: bytes) -> None:
    try:
        decode_command(payload)
    except (ProtocolError, Refusal):
        pass


def test_commands_without_arguments_are_one_byte() -> None:
    assert (Ping().encode(), Statistics().encode(), ResetConnection().encode()) == (b"\x0e", b"\x09", b"\x1f")


def test_dumps_are_these_bytes() -> None:
    assert BinlogDump(file="bin.000001", position=4, flags=2, server_id=9).encode() == (
        b"\x12\x04\0\0\0\x02\0\x09\0\0\0bin.000001"
    )
    assert BinlogDumpGtid(file="b", position=2**40, flags=4, server_id=9, gtid_data=b"gtid").encode() == (
        b"\x1e\x04\0\x09\0\0\0\x01\0\0\0b\0\0\0\0\0\x01\0\0\x04\0\0\0gtid"
    )
    assert RegisterReplica(server_id=9, host="h", port=3306).encode() == (
        b"\x15\x09\0\0\0\x01h\0\0\xea\x0c\0\0\0\0\0\0\0\0"
    )


def test_names_end_at_the_first_nul() -> None:
    padded = BinlogDumpGtid(file="bin.000001\0\0\0", position=4, flags=0, server_id=1, gtid_data=b"")
    decoded = decode_command(padded.encode())
    assert isinstance(decoded, BinlogDumpGtid)
    assert decoded.file == "bin.000001"
    dump = decode_command(b"\x12\x04\0\0\0\0\0\x01\0\0\0bin.000001\0junk")
    assert isinstance(dump, BinlogDump)
    assert dump.file == "bin.000001"


@pytest.mark.parametrize(
    "payload",
    [
        RegisterReplica(server_id=1, host="host").encode(),
        BinlogDumpGtid(file="f", position=4, flags=0, server_id=1, gtid_data=b"abc").encode(),
    ],
)
def test_every_truncation_is_a_protocol_error(payload: bytes) -> None:
    for size in range(1, len(payload)):
        with pytest.raises(ProtocolError):
            decode_command(payload[:size])


def test_a_dump_needs_its_head() -> None:
    for size in range(1, 11):
        with pytest.raises(ProtocolError):
            decode_command(BinlogDump(file="", position=4, flags=0, server_id=1).encode()[:size])


def test_an_empty_packet_is_no_command() -> None:
    with pytest.raises(ProtocolError, match="empty"):
        decode_command(b"")


@pytest.mark.parametrize("byte", [0x00, 0x11, 0x16, 0x1B, 0xEF, 0xFF])
def test_other_commands_are_unknown(byte: int) -> None:
    assert decode_command(bytes([byte]) + b"whatever") == Unknown(byte)


def test_a_statement_that_is_not_utf8_is_refused_in_mysqls_words() -> None:
    with pytest.raises(Refusal, match="Invalid utf8mb4 character string: 'e9 27'") as caught:
        decode_command(b"\x03SELECT '\xe9'")
    assert caught.value.code == 1300


def test_a_replicas_password_is_not_shown() -> None:
    assert "hush" not in repr(RegisterReplica(server_id=1, password="hush"))


@given(names, u64)
def test_acks_round_trip(file: str, position: int) -> None:
    payload = encode_ack(file, position)
    assert decode_ack(payload) == Ack(file, position)
    assert decode_while_streaming(payload) == Ack(file, position)


def test_an_ack_is_these_bytes() -> None:
    assert encode_ack("bin.000002", 0x1234) == b"\xef\x34\x12\0\0\0\0\0\0bin.000002"


@pytest.mark.parametrize("payload", [b"", b"\xef", b"\xef" + bytes(7), b"\x03SELECT 1"])
def test_what_is_no_ack_is_a_protocol_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_while_streaming(payload)


def test_a_client_may_leave_during_a_dump() -> None:
    assert decode_while_streaming(b"\x01") == Quit()
