"""binlogd.wire.server: what a client may do to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogd.errors import LocalProtocolError, ProtocolError
from binlogd.wire.auth import Account, PasswordHash, Plugin, scramble_native, scramble_sha2
from binlogd.wire.capabilities import Capability
from binlogd.wire.commands import Ping, Query
from binlogd.wire.errors import decode_error
from binlogd.wire.handshake import AuthSwitchRequest, Greeting, HandshakeResponse41, SSLRequest
from binlogd.wire.packets import PacketReader, encode_packets
from binlogd.wire.server import ServerConnection, ServerState, turn_away
from tests.wire.support import VERSION, logged_in, make_server, rsa_key

NONCE = b"abcdefghijklmnopqrst"
REPL = Account("repl", "secret")
SHA2_HASH = str(PasswordHash.make_sha2("secret", b"s" * 20, 1000))
BASE = Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.LONG_PASSWORD
MODERN = BASE | Capability.PLUGIN_AUTH | Capability.PLUGIN_AUTH_LENENC


def response(
    auth: bytes, plugin: str | None = None, flags: Capability = MODERN, user: str = "repl"
) -> HandshakeResponse41:
    return HandshakeResponse41(
        capabilities=flags, max_packet=1 << 24, user=user, auth_response=auth, auth_plugin=plugin
    )


def tell(server: ServerConnection, payload: bytes, sequence: int) -> None:
    server.receive(encode_packets(payload, sequence)[0])


def said(server: ServerConnection, sequence: int) -> list[bytes]:
    reader = PacketReader(max_payload=1 << 24, sequence=sequence)
    reader.feed(server.data_to_send())
    payloads = []
    while (payload := reader.next()) is not None:
        payloads.append(payload)
    assert reader.buffered == 0
    return payloads


def greeted(account: Account = REPL, **options: object) -> ServerConnection:
    server = make_server(account, nonce=NONCE, **options)
    server.data_to_send()
    return server


def test_the_greeting() -> None:
    server = make_server(nonce=NONCE, connection_id=99)
    (payload,) = said(server, 0)
    greeting = Greeting.decode(payload)
    assert greeting.server_version == VERSION
    assert greeting.connection_id == 99
    assert greeting.auth_data == NONCE
    assert greeting.auth_plugin == "caching_sha2_password"
    assert greeting.capabilities & Capability.SSL
    never = Capability.COMPRESS | Capability.ZSTD_COMPRESSION | Capability.QUERY_ATTRIBUTES
    assert not greeting.capabilities & (never | Capability.SESSION_TRACK | Capability.LOCAL_FILES)
    (payload,) = said(make_server(tls_available=False), 0)
    assert not Greeting.decode(payload).capabilities & Capability.SSL


def test_who_is_turned_away_gets_an_error_instead() -> None:
    assert turn_away(1040, "Too many connections") == b"\x17\0\0\0\xff\x10\x04Too many connections"


def test_old_clients_without_plugins_use_native() -> None:
    server = greeted()
    tell(server, response(scramble_native("secret", NONCE), flags=BASE).encode(), 1)
    assert server.state is ServerState.READY
    assert server.auth_plugin is Plugin.NATIVE
    assert server.client_plugin is None
    server = greeted()
    tell(server, response(scramble_native("wrong", NONCE), flags=BASE).encode(), 1)
    assert server.state is ServerState.CLOSED


def test_old_clients_cannot_be_checked_against_a_sha2_hash() -> None:
    server = greeted(Account("repl", password_hash=SHA2_HASH))
    tell(server, response(scramble_native("secret", NONCE), flags=BASE).encode(), 1)
    assert decode_error(said(server, 2)[0]).code == 1251
    assert server.state is ServerState.CLOSED


def test_a_client_that_begins_with_native_stays_with_it_if_the_account_can() -> None:
    server = greeted()
    tell(server, response(scramble_native("secret", NONCE), "mysql_native_password").encode(), 1)
    assert server.state is ServerState.READY


@pytest.mark.parametrize(("user", "password"), [("repl", "secret"), ("repl", "wrong"), ("nobody", "secret")])
def test_a_client_that_takes_no_nonce_but_its_own_plugins_is_given_one(user: str, password: str) -> None:
    """MySQL 5.6 and MariaDB, which answer a greeting for caching_sha2_password with nothing. So do unknown names."""
    server = greeted()
    tell(server, response(b"", "mysql_native_password", user=user).encode(), 1)
    (payload,) = said(server, 2)
    assert AuthSwitchRequest.decode(payload) == AuthSwitchRequest("mysql_native_password", NONCE)
    tell(server, scramble_native(password, NONCE), 3)
    assert (server.state is ServerState.READY) == (user == "repl" and password == "secret")


@pytest.mark.parametrize("plugin", ["mysql_native_password", "sha256_password", "mysql_clear_password", "", "\x01"])
def test_other_clients_are_switched(plugin: str) -> None:
    server = greeted(Account("repl", password_hash=SHA2_HASH), secure_transport=True)
    tell(server, response(b"whatever", plugin).encode(), 1)
    (payload,) = said(server, 2)
    assert AuthSwitchRequest.decode(payload) == AuthSwitchRequest("caching_sha2_password", NONCE)
    tell(server, scramble_sha2("secret", NONCE), 3)
    assert said(server, 4) == [b"\x01\x04"]
    tell(server, b"secret\0", 5)
    assert server.state is ServerState.READY


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"secret\0",
        b"\x02",
        bytes(256),
        b"\xff" * 256,
        b"x" * 10_000,
    ],
)
def test_a_password_in_clear_without_tls_opens_nothing(answer: bytes) -> None:
    server = greeted(Account("repl", password_hash=SHA2_HASH))
    tell(server, response(b"w" * 32, "caching_sha2_password").encode(), 1)
    assert said(server, 2) == [b"\x01\x04"]
    tell(server, answer, 3)
    sequence = 4
    if answer == b"\x02":
        assert said(server, 4) == [b"\x01" + rsa_key().public_pem]
        tell(server, answer, 5)
        sequence = 6
    assert decode_error(said(server, sequence)[0]).code == 1045
    assert server.state is ServerState.CLOSED
    assert server.account is None


@pytest.mark.parametrize("answer", [b"", b"\0", b"secret", b"secretx\0", b"\x02", b"secret\0\0", b"x" * 300 + b"\0"])
@pytest.mark.parametrize("account", [REPL, Account("repl", password_hash=SHA2_HASH)], ids=["plain", "hash"])
def test_a_full_login_takes_the_password_and_its_nul_only(account: Account, answer: bytes) -> None:
    server = greeted(account, secure_transport=True)
    tell(server, response(b"w" * 32, "caching_sha2_password").encode(), 1)
    assert said(server, 2) == [b"\x01\x04"]
    tell(server, answer, 3)
    assert server.state is ServerState.CLOSED
    assert server.refusal is not None


@pytest.mark.parametrize("private", [True, False], ids=["clear", "rsa"])
def test_what_cannot_be_read_is_not_an_empty_password(private: bool) -> None:
    server = greeted(Account("repl", ""), secure_transport=private)
    tell(server, response(b"w" * 32, "caching_sha2_password").encode(), 1)
    tell(server, b"x" * 256, 3)
    assert server.state is ServerState.CLOSED
    assert server.account is None


def test_a_plain_account_accepts_the_full_login_too() -> None:
    server = greeted(secure_transport=True)
    tell(server, response(b"w" * 32, "caching_sha2_password").encode(), 1)
    tell(server, b"secret\0", 3)
    assert server.state is ServerState.READY


def test_required_tls_is_required_before_the_password_is_looked_at() -> None:
    server = greeted(require_tls=True)
    tell(server, response(scramble_sha2("secret", NONCE), "caching_sha2_password").encode(), 1)
    error = decode_error(said(server, 2)[0])
    assert error.code == 3159
    assert server.refusal is not None
    assert server.refusal.code == 3159
    server = greeted(require_tls=True, secure_transport=True)
    tell(server, response(scramble_sha2("secret", NONCE), "caching_sha2_password").encode(), 1)
    assert server.state is ServerState.READY
    server = greeted(require_tls=True)
    flags = MODERN | Capability.SSL
    tell(server, SSLRequest(capabilities=flags, max_packet=0).encode(), 1)
    server.tls_established()
    tell(server, response(scramble_sha2("secret", NONCE), "caching_sha2_password", flags).encode(), 2)
    assert server.state is ServerState.READY


def test_what_follows_an_ssl_request_is_the_tls_layers() -> None:
    server = greeted()
    request = encode_packets(SSLRequest(capabilities=MODERN | Capability.SSL, max_packet=0).encode(), 1)[0]
    server.receive(request + b"\x16\x03\x01")
    server.receive(b"hello")
    assert server.state is ServerState.WANT_TLS
    with pytest.raises(LocalProtocolError, match="remainder"):
        server.tls_established()
    assert server.remainder() == b"\x16\x03\x01hello"
    server.tls_established()
    assert server.tls_active


def test_tls_where_it_is_not_on_offer_is_a_protocol_error() -> None:
    flags = MODERN | Capability.SSL
    request = SSLRequest(capabilities=flags, max_packet=0).encode()
    server = greeted(tls_available=False)
    with pytest.raises(ProtocolError, match="not on offer"):
        tell(server, request, 1)
    server = greeted()
    tell(server, request, 1)
    server.tls_established()
    with pytest.raises(ProtocolError, match="not on offer"):
        tell(server, request, 2)
    server = greeted()
    with pytest.raises(ProtocolError, match="goes on without it"):
        tell(server, response(b"x" * 32, "caching_sha2_password", flags).encode(), 1)


def test_a_bad_handshake_is_answered_and_raised() -> None:
    for payload in (b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes(31)):
        server = greeted()
        with pytest.raises(ProtocolError):
            tell(server, payload, 1)
        assert decode_error(said(server, 2)[0]).code == 1043
        assert server.state is ServerState.CLOSED
        with pytest.raises(LocalProtocolError):
            server.receive(b"x")
    server = greeted()
    with pytest.raises(ProtocolError, match="out of order"):
        tell(server, response(b"").encode(), 0)


def test_nobody_makes_us_buffer_before_login() -> None:
    server = greeted(max_prelogin_packet=1000)
    with pytest.raises(ProtocolError, match="limit here is 1000"):
        server.receive((1001).to_bytes(3, "little") + b"\x01")
    server = greeted()
    tell(server, response(b"w" * 32, "caching_sha2_password").encode(), 1)
    with pytest.raises(ProtocolError, match="limit here is 16384"):
        server.receive((16385).to_bytes(3, "little") + b"\x03")


def test_commands_come_one_at_a_time() -> None:
    _, server = logged_in()
    assert server.next_command() is None
    pipelined = encode_packets(Ping().encode(), 0)[0] + encode_packets(Query("SELECT 1").encode(), 0)[0]
    server.receive(pipelined)
    assert server.next_command() == Ping()
    with pytest.raises(LocalProtocolError, match="ANSWERING"):
        server.next_command()
    server.reply_ok()
    assert server.next_command() == Query("SELECT 1")
    server.reply_error(1064, "42000", "no")
    assert server.next_command() is None


def test_commands_begin_at_sequence_zero() -> None:
    _, server = logged_in()
    tell(server, b"\x0e", 1)
    with pytest.raises(ProtocolError, match="sequence id 1 where 0"):
        server.next_command()
    assert server.state is ServerState.CLOSED
    assert decode_error(said(server, 0)[0]).code == 1835


def test_a_malformed_command_is_answered_and_raised() -> None:
    _, server = logged_in()
    tell(server, b"\x15\x01", 0)
    with pytest.raises(ProtocolError, match="COM_REGISTER_SLAVE is cut short"):
        server.next_command()
    assert decode_error(said(server, 1)[0]).code == 1835


def test_a_statement_that_is_not_utf8_is_refused_and_the_connection_goes_on() -> None:
    _, server = logged_in()
    server.receive(encode_packets(b"\x03SELECT '\xff'", 0)[0] + encode_packets(b"\x0e", 0)[0])
    assert server.next_command() == Ping()
    assert decode_error(said(server, 1)[0]).code == 1300


def test_a_command_over_the_limit_is_refused_at_its_header() -> None:
    _, server = logged_in(max_command=1000)
    server.receive((1001).to_bytes(3, "little") + b"\0")
    with pytest.raises(ProtocolError, match="limit here is 1000"):
        server.next_command()


def test_a_client_far_ahead_of_its_turn_is_cut_off() -> None:
    _, server = logged_in(max_command=1000)
    server.receive(encode_packets(b"\x0e", 0)[0])
    assert server.next_command() == Ping()
    ping = encode_packets(b"\x0e", 0)[0] * 10_000
    for _ in range(20):
        server.receive(ping)
    with pytest.raises(ProtocolError, match="ahead of its turn"):
        server.receive(ping * 2)
    assert decode_error(said(server, 1)[0]).code == 1153


def test_during_a_dump_only_acknowledgements_and_farewells() -> None:
    _, server = logged_in()
    tell(server, b"\x12" + bytes(10), 0)
    server.next_command()
    server.begin_stream()
    server.receive(encode_packets(b"\x03SELECT 1", 0)[0])
    with pytest.raises(ProtocolError, match="0xef"):
        server.next_command()
    assert server.state is ServerState.CLOSED
    assert server.data_to_send() == b"", "only the framer of the stream knows the sequence id"


def test_misuse_is_our_own_mistake() -> None:
    server = make_server()
    for call in (
        server.next_command,
        server.reply_ok,
        server.reply_eof,
        server.begin_stream,
        server.remainder,
        server.tls_established,
        lambda: server.end_stream(1),
        lambda: server.reply_error(1, "HY000", ""),
        lambda: server.reply_result([], []),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    for nonce in (b"short", bytes(20)):
        with pytest.raises(LocalProtocolError, match="nonce"):
            make_server(nonce=nonce)


def test_a_refusal_is_one_line_whatever_the_name() -> None:
    server = greeted()
    tell(server, replace(response(bytes(20), "mysql_native_password"), user="a\nERROR: b" + "c" * 1000).encode(), 1)
    assert server.refusal is not None
    message = server.refusal.message
    assert message.startswith("Access denied for user 'a?ERROR: bccc")
    assert len(message) < 200


def test_what_is_not_known_yet_is_empty() -> None:
    server = make_server()
    assert (server.user, server.database, server.client_plugin, server.account) == ("", None, None, None)
    assert dict(server.attributes) == {}
    assert server.capabilities == 0
    assert server.auth_plugin is None


def test_capabilities_not_on_offer_do_not_count() -> None:
    server = greeted()
    login = response(scramble_sha2("secret", NONCE), "caching_sha2_password", MODERN)
    tell(
        server,
        replace(login, capabilities=MODERN | Capability.COMPRESS | Capability.SESSION_TRACK).encode(),
        1,
    )
    assert server.state is ServerState.READY
    assert server.capabilities == MODERN
