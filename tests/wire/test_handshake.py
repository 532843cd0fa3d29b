"""binlogd.wire.handshake."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import ProtocolError
from binlogd.wire.capabilities import Capability, StatusFlag
from binlogd.wire.handshake import (
    MAX_ATTRIBUTES,
    AuthMoreData,
    AuthSwitchRequest,
    Greeting,
    HandshakeResponse41,
    SSLRequest,
)

# The example of the protocol's documentation: a 5.5 server's greeting.
MYSQL_55 = bytes.fromhex(
    "0a352e352e322d6d32000b00000064764840492d434a00fff7080200000000000000000000000000002a34647c6351776b345e5d3a00"
)
# The documentation's handshake response of a 5.6 client, with connection attributes.
CLIENT_56 = bytes.fromhex(
    "8da60f000000000108000000000000000000000000000000000000000000000070616d0014ab09eef6bcb132dbb7b2"
)

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
capabilities = st.integers(0, 2**32 - 1).map(Capability)
nonces = st.binary(min_size=20, max_size=20).filter(lambda nonce: not nonce.endswith(b"\0"))


@given(text, st.integers(0, 2**32 - 1), nonces, capabilities, st.integers(0, 255), text)
def test_greetings_round_trip(
    version: str, number: int, nonce: bytes, flags: Capability, charset: int, plugin: str
) -> None:
    flags |= Capability.SECURE_CONNECTION
    greeting = Greeting(
        server_version=version,
        connection_id=number,
        auth_data=nonce,
        capabilities=flags,
        charset=charset,
        status=StatusFlag.AUTOCOMMIT,
        auth_plugin=plugin if flags & Capability.PLUGIN_AUTH else "",
    )
    assert Greeting.decode(greeting.encode()) == greeting


def test_the_greeting_of_the_documentation() -> None:
    greeting = Greeting.decode(MYSQL_55)
    assert greeting.server_version == "5.5.2-m2"
    assert greeting.connection_id == 11
    assert greeting.auth_data == b"dvH@I-CJ*4d|cQwk4^]:"
    assert greeting.charset == 8
    assert greeting.capabilities == 0xF7FF
    assert greeting.auth_plugin == ""


def test_a_greeting_without_the_second_half() -> None:
    greeting = Greeting.decode(b"\x0a5.0\0" + bytes(4) + b"abcdefgh\0" + b"\xff\xf7")
    assert greeting.auth_data == b"abcdefgh"
    assert not greeting.capabilities & Capability.PLUGIN_AUTH


def test_a_plugin_name_without_its_nul_is_forgiven() -> None:
    greeting = Greeting(
        server_version="5.5.8",
        connection_id=1,
        auth_data=b"n" * 20,
        capabilities=Capability.PLUGIN_AUTH | Capability.SECURE_CONNECTION,
        auth_plugin="mysql_native_password",
    )
    assert Greeting.decode(greeting.encode()[:-1]) == greeting


def test_another_protocol_version_names_the_likely_mistake() -> None:
    with pytest.raises(ProtocolError, match="version 5") as caught:
        Greeting.decode(b"\x05\0\0\0\x0b\x08")
    assert "33060" in caught.value.hint


@st.composite
def responses(draw: st.DrawFn) -> HandshakeResponse41:
    flags = draw(capabilities) | Capability.PROTOCOL_41
    lenenc = flags & Capability.PLUGIN_AUTH_LENENC
    auth = draw(st.binary(max_size=300 if lenenc else 255))
    if not flags & (Capability.PLUGIN_AUTH_LENENC | Capability.SECURE_CONNECTION):
        auth = auth.replace(b"\0", b"")
    attributes = draw(st.dictionaries(text, text, max_size=5))
    return HandshakeResponse41(
        capabilities=flags,
        max_packet=draw(st.integers(0, 2**32 - 1)),
        user=draw(text),
        auth_response=auth,
        charset=draw(st.integers(0, 255)),
        database=(draw(text) or None) if flags & Capability.CONNECT_WITH_DB else None,
        auth_plugin=draw(text) if flags & Capability.PLUGIN_AUTH else None,
        attributes=attributes if flags & Capability.CONNECT_ATTRS else {},
        zstd_level=draw(st.integers(0, 255)) if flags & Capability.ZSTD_COMPRESSION else 0,
    )


@given(responses())
def test_responses_round_trip(response: HandshakeResponse41) -> None:
    payload = response.encode()
    assert HandshakeResponse41.decode(payload) == response


def test_the_level_of_zstd_follows_the_plugin_without_attributes() -> None:
    response = HandshakeResponse41(
        capabilities=Capability.PROTOCOL_41 | Capability.PLUGIN_AUTH | Capability.ZSTD_COMPRESSION,
        max_packet=0,
        user="u",
        auth_response=b"",
        charset=45,
        auth_plugin="caching_sha2_password",
        zstd_level=3,
    )
    assert HandshakeResponse41.decode(response.encode()) == response


@settings(max_examples=50)
@given(responses(), st.data())
def test_a_response_cut_short_or_altered_is_at_most_a_protocol_error(
    response: HandshakeResponse41, data: st.DataObject
) -> None:
    payload = bytearray(response.encode())
    index = data.draw(st.integers(0, len(payload) - 1))
    payload[index] = data.draw(st.integers(0, 255))
    for candidate in (bytes(payload), bytes(payload[:index])):
        try:
            HandshakeResponse41.decode(candidate)
        except ProtocolError:
            pass


def test_the_response_is_exactly_these_bytes() -> None:
    flags = Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.PLUGIN_AUTH
    response = HandshakeResponse41(
        capabilities=flags,
        max_packet=0x40000000,
        user="pam",
        auth_response=b"\x01" * 20,
        charset=8,
        auth_plugin="mysql_native_password",
    )
    expected = "00820800 00000040 08" + "00" * 23 + "70616d00 14" + "01" * 20 + b"mysql_native_password".hex() + "00"
    assert response.encode() == bytes.fromhex(expected)
    assert HandshakeResponse41.decode(bytes.fromhex(expected)) == response


def test_a_documented_response_cut_in_the_middle_is_refused() -> None:
    with pytest.raises(ProtocolError, match="handshake response is cut short"):
        HandshakeResponse41.decode(CLIENT_56)


def test_clients_older_than_41_are_refused() -> None:
    with pytest.raises(ProtocolError, match=r"before MySQL 4\.1"):
        HandshakeResponse41.decode(bytes.fromhex("85240000006f6c640047445343515952 5f"))


def test_too_many_attributes_are_refused_before_they_are_read() -> None:
    head = HandshakeResponse41(
        capabilities=Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.CONNECT_ATTRS,
        max_packet=0,
        user="u",
        auth_response=b"",
    ).encode()[:-1]
    with pytest.raises(ProtocolError, match="limit is 65536"):
        HandshakeResponse41.decode(head + b"\xfd" + (MAX_ATTRIBUTES + 1).to_bytes(3, "little"))


def test_attributes_must_come_in_pairs() -> None:
    head = HandshakeResponse41(
        capabilities=Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.CONNECT_ATTRS,
        max_packet=0,
        user="u",
        auth_response=b"",
    ).encode()[:-1]
    with pytest.raises(ProtocolError, match="attributes is cut short"):
        HandshakeResponse41.decode(head + b"\x02\x01k")


@given(capabilities, st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_ssl_requests_round_trip_and_are_recognised(flags: Capability, size: int, charset: int) -> None:
    request = SSLRequest(capabilities=flags, max_packet=size, charset=charset)
    payload = request.encode()
    assert len(payload) == 32
    assert SSLRequest.decode(payload) == request
    assert SSLRequest.matches(payload) is bool(flags & Capability.SSL)
    assert not SSLRequest.matches(payload + b"\0")


@given(text, st.binary(max_size=30))
def test_auth_switches_round_trip(plugin: str, data: bytes) -> None:
    request = AuthSwitchRequest(plugin, data)
    assert AuthSwitchRequest.decode(request.encode()) == request


def test_the_switch_to_the_oldest_method_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"before MySQL 4\.1"):
        AuthSwitchRequest.decode(b"\xfe")


@given(st.binary(max_size=30))
def test_auth_data_round_trips(data: bytes) -> None:
    assert AuthMoreData.decode(AuthMoreData(data).encode()) == AuthMoreData(data)


def test_secrets_stay_out_of_reprs() -> None:
    response = HandshakeResponse41(capabilities=Capability(0), max_packet=0, user="u", auth_response=b"hush")
    assert "hush" not in repr(response)
    assert "hush" not in repr(AuthMoreData(b"hush"))
