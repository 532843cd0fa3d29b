"""binlogd.wire.client: what a server may do to it."""

from __future__ import annotations

import pytest

from binlogd.errors import LocalProtocolError, ProtocolError, ServerError
from binlogd.wire.auth import Plugin, scramble_native, scramble_sha2
from binlogd.wire.capabilities import Capability
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.compression import ZSTD_LEVEL, Algorithm
from binlogd.wire.errors import encode_error
from binlogd.wire.handshake import (
    AuthMoreData,
    AuthSwitchRequest,
    Greeting,
    HandshakeResponse41,
    SSLRequest,
)
from binlogd.wire.packets import PacketReader, encode_packets
from binlogd.wire.results import Ok
from binlogd.wire.server import OFFERED, turn_away
from tests.wire.support import logged_in, make_client, pump, rsa_key

NOTHING = Capability(0)
NONCE = b"abcdefghijklmnopqrst"
OTHER_NONCE = b"ABCDEFGHIJKLMNOPQRST"


def greet(
    client: ClientConnection,
    *,
    add: Capability = NOTHING,
    remove: Capability = NOTHING,
    plugin: str = "caching_sha2_password",
    nonce: bytes = NONCE,
) -> None:
    greeting = Greeting(
        server_version="9.7.4",
        connection_id=1,
        auth_data=nonce,
        capabilities=(OFFERED | add) & ~remove,
        auth_plugin=plugin,
    )
    client.receive(encode_packets(greeting.encode(), 0)[0])


def sent(client: ClientConnection, sequence: int) -> bytes:
    """The one payload the client wants to send, which must carry this sequence id."""
    reader = PacketReader(max_payload=1 << 20, sequence=sequence)
    reader.feed(client.data_to_send())
    payload = reader.next()
    assert payload is not None
    assert reader.buffered == 0
    return payload


def say(client: ClientConnection, payload: bytes, sequence: int) -> None:
    client.receive(encode_packets(payload, sequence)[0])


def test_the_login_names_the_client() -> None:
    client = make_client()
    greet(client, add=Capability.SSL)
    response = HandshakeResponse41.decode(sent(client, 1))
    assert response.user == "repl"
    assert response.auth_response == scramble_sha2("secret", NONCE)
    assert response.auth_plugin == "caching_sha2_password"
    assert response.attributes == {"program_name": "test"}
    assert not response.capabilities & (Capability.SSL | Capability.SESSION_TRACK | Capability.LOCAL_FILES)
    assert client.state is ClientState.AUTHENTICATING


def test_capabilities_are_only_what_the_server_offers() -> None:
    client = make_client()
    greet(client, remove=Capability.DEPRECATE_EOF | Capability.CONNECT_ATTRS | Capability.LONG_PASSWORD)
    response = HandshakeResponse41.decode(sent(client, 1))
    assert not response.capabilities & (Capability.DEPRECATE_EOF | Capability.CONNECT_ATTRS)
    assert response.capabilities & Capability.LONG_PASSWORD, "MariaDB would look for extended flags"


def test_a_server_that_prefers_native_gets_native() -> None:
    client = make_client()
    greet(client, plugin="mysql_native_password")
    response = HandshakeResponse41.decode(sent(client, 1))
    assert response.auth_response == scramble_native("secret", NONCE)
    assert response.auth_plugin == "mysql_native_password"


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ("caching_sha2_password", "mysql_native_password", scramble_native("secret", OTHER_NONCE)),
        ("mysql_native_password", "caching_sha2_password", scramble_sha2("secret", OTHER_NONCE)),
        ("sha256_password", "mysql_native_password", scramble_native("secret", OTHER_NONCE)),
    ],
)
def test_the_server_may_switch_the_plugin(first: str, second: str, answer: bytes) -> None:
    client = make_client()
    greet(client, plugin=first)
    client.data_to_send()
    say(client, AuthSwitchRequest(second, OTHER_NONCE).encode(), 2)
    assert sent(client, 3) == answer
    say(client, Ok().encode(), 4)
    assert client.state is ClientState.READY
    assert client.auth_plugin == second


def test_the_server_may_switch_only_once() -> None:
    """As MySQL's clients have it; otherwise a source could have answers to as many nonces as it likes."""
    client = make_client()
    greet(client)
    client.data_to_send()
    say(client, AuthSwitchRequest("mysql_native_password", OTHER_NONCE).encode(), 2)
    client.data_to_send()
    with pytest.raises(ProtocolError, match="second change"):
        say(client, AuthSwitchRequest("mysql_native_password", OTHER_NONCE).encode(), 4)
    assert client.data_to_send() == b""
    assert client.state is ClientState.CLOSED


def test_an_unknown_plugin_is_refused_with_a_hint() -> None:
    client = make_client()
    greet(client)
    client.data_to_send()
    with pytest.raises(ProtocolError, match="client_ed25519") as caught:
        say(client, AuthSwitchRequest("client_ed25519", OTHER_NONCE).encode(), 2)
    assert "ALTER USER" in caught.value.hint
    assert client.state is ClientState.CLOSED


def test_the_password_goes_out_in_clear_only_to_a_server_that_proved_who_it_is() -> None:
    switch = AuthSwitchRequest("mysql_clear_password", b"").encode()
    client = make_client()
    greet(client)
    client.data_to_send()
    with pytest.raises(ProtocolError, match=r"in clear .* without TLS; it was not sent"):
        say(client, switch, 2)
    assert client.data_to_send() == b""

    for verified in (False, True):
        client = make_client(tls=TlsPolicy.REQUIRED)
        greet(client, add=Capability.SSL)
        client.data_to_send()
        client.tls_established(verified=verified)
        client.data_to_send()
        if not verified:
            with pytest.raises(ProtocolError, match=r"in clear .* over TLS without a proof") as caught:
                say(client, switch, 3)
            assert 'source.tls = "verify-identity"' in caught.value.hint
            assert client.data_to_send() == b""
            assert client.state is ClientState.CLOSED
            continue
        say(client, switch, 3)
        assert sent(client, 4) == b"secret\0"
        assert client.auth_plugin is Plugin.CLEAR

    client = make_client(secure_transport=True)
    greet(client)
    client.data_to_send()
    say(client, switch, 2)
    assert sent(client, 3) == b"secret\0"


def test_a_full_login_without_tls_asks_for_the_key_and_not_in_clear() -> None:
    client = make_client()
    greet(client)
    client.data_to_send()
    say(client, AuthMoreData(b"\x04").encode(), 2)
    assert sent(client, 3) == b"\x02"
    with pytest.raises(ProtocolError, match="RSA public key"):
        say(client, AuthMoreData(b"-----BEGIN PUBLIC KEY-----\nno").encode(), 4)


def test_sha256_password_is_a_full_login_at_once() -> None:
    switch = AuthSwitchRequest("sha256_password", OTHER_NONCE).encode()
    client = make_client()
    greet(client)
    client.data_to_send()
    say(client, switch, 2)
    assert sent(client, 3) == b"\x01"
    say(client, AuthMoreData(rsa_key().public_pem).encode(), 4)
    assert unmasked(sent(client, 5)) == b"secret\0"

    client = make_client(public_key=rsa_key().public_pem)
    greet(client)
    client.data_to_send()
    say(client, switch, 2)
    assert unmasked(sent(client, 3)) == b"secret\0"

    client = make_client(secure_transport=True)
    greet(client)
    client.data_to_send()
    say(client, switch, 2)
    assert sent(client, 3) == b"secret\0"

    client = make_client(password="")
    greet(client)
    client.data_to_send()
    say(client, switch, 2)
    assert sent(client, 3) == b"\0"


def unmasked(cipher: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(rsa_key().decrypt(cipher), OTHER_NONCE, strict=False))


def test_a_key_nobody_asked_for_is_refused() -> None:
    client = make_client()
    greet(client)
    with pytest.raises(ProtocolError, match="caching_sha2_password does not know"):
        say(client, AuthMoreData(rsa_key().public_pem).encode(), 2)


def test_tls_is_asked_for_as_the_policy_says() -> None:
    client = make_client(tls=TlsPolicy.PREFERRED)
    greet(client)
    assert client.state is ClientState.AUTHENTICATING

    client = make_client(tls=TlsPolicy.PREFERRED, secure_transport=True)
    greet(client, add=Capability.SSL)
    assert client.state is ClientState.AUTHENTICATING

    for policy in (TlsPolicy.PREFERRED, TlsPolicy.REQUIRED):
        client = make_client(tls=policy)
        greet(client, add=Capability.SSL)
        assert client.state is ClientState.WANT_TLS
        assert SSLRequest.matches(sent(client, 1))
        client.tls_established()
        assert HandshakeResponse41.decode(sent(client, 2)).capabilities & Capability.SSL

    client = make_client(tls=TlsPolicy.REQUIRED)
    with pytest.raises(ProtocolError, match="TLS is required") as caught:
        greet(client)
    assert "ssl_cert" in caught.value.hint
    assert client.data_to_send() == b""


def test_clear_bytes_where_tls_begins_are_an_attack() -> None:
    forged = encode_packets(Ok().encode(), 2)[0]
    client = make_client(tls=TlsPolicy.REQUIRED)
    greet(client, add=Capability.SSL)
    with pytest.raises(ProtocolError, match="altering"):
        client.receive(forged)

    client = make_client(tls=TlsPolicy.REQUIRED)
    greeting = Greeting(server_version="9", connection_id=1, auth_data=NONCE, capabilities=OFFERED | Capability.SSL)
    with pytest.raises(ProtocolError, match="altering"):
        client.receive(encode_packets(greeting.encode(), 0)[0] + forged)


@pytest.mark.parametrize("flag", [Capability.PROTOCOL_41, Capability.PLUGIN_AUTH, Capability.SECURE_CONNECTION])
def test_a_server_too_old_is_refused_by_name(flag: Capability) -> None:
    client = make_client()
    with pytest.raises(ProtocolError) as caught:
        greet(client, remove=flag)
    assert f"9.7.4 lacks {flag.name}" in caught.value.message


def test_a_short_nonce_is_refused() -> None:
    client = make_client()
    with pytest.raises(ProtocolError, match="nonce has 8 bytes"):
        greet(client, nonce=b"12345678")
    client = make_client()
    greet(client)
    with pytest.raises(ProtocolError, match="nonce has 8 bytes"):
        say(client, AuthSwitchRequest("mysql_native_password", b"12345678").encode(), 2)


@pytest.mark.parametrize("code", [1040, 1129])
def test_an_error_instead_of_a_greeting(code: int) -> None:
    client = make_client()
    with pytest.raises(ServerError, match="go away") as caught:
        client.receive(turn_away(code, "go away"))
    assert caught.value.code == code
    assert client.state is ClientState.CLOSED
    with pytest.raises(LocalProtocolError):
        client.receive(b"x")


@pytest.mark.parametrize(
    "payload", [b"", b"\x05", b"\x01\x07", b"\x01", b"\x01-----BEGIN", b"\xfe", b"\xfeno-nul", b"\x00"]
)
def test_nonsense_during_the_login(payload: bytes) -> None:
    client = make_client()
    greet(client)
    with pytest.raises(ProtocolError):
        say(client, payload, 2)
    assert client.state is ClientState.CLOSED


def test_packets_out_of_order_are_refused() -> None:
    client = make_client()
    greet(client)
    with pytest.raises(ProtocolError, match="out of order"):
        say(client, Ok().encode(), 3)


def test_an_unasked_error_when_idle_is_raised_and_other_packets_are_refused() -> None:
    client, _ = logged_in()
    with pytest.raises(ServerError, match="shutdown") as caught:
        say(client, encode_error(1053, "08S01", "Server shutdown in progress"), 0)
    assert caught.value.code == 1053
    client, _ = logged_in()
    with pytest.raises(ProtocolError, match="nothing was asked"):
        say(client, Ok().encode(), 0)


def test_a_greeting_without_end_is_not_buffered() -> None:
    client = make_client()
    with pytest.raises(ProtocolError, match="limit"):
        client.receive(b"\xff\xff\xff\x00")


def test_misuse_is_our_own_mistake() -> None:
    client = make_client()
    for call in (
        lambda: client.query("SELECT 1"),
        client.ping,
        client.quit,
        client.tls_established,
        client.remainder,
        client.result,
        lambda: client.start_dump(b"\x12"),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    client, server = logged_in()
    with pytest.raises(LocalProtocolError, match="without a question"):
        client.result()
    client.ping()
    with pytest.raises(LocalProtocolError, match="WAITING"):
        client.ping()
    pump(client, server)
    server.next_command()
    server.reply_ok()
    pump(client, server)
    with pytest.raises(LocalProtocolError, match="not taken"):
        client.ping()


def test_rows_in_answer_to_a_ping_are_refused() -> None:
    client, _ = logged_in()
    client.ping()
    with pytest.raises(ProtocolError, match="only OK"):
        say(client, b"\x01", 1)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_compression_is_agreed_on_in_the_login(algorithm: Algorithm) -> None:
    client = make_client(compression=algorithm, tls=TlsPolicy.PREFERRED)
    agreed = [client.compression]
    both = Capability.COMPRESS | Capability.ZSTD_COMPRESSION
    greet(client, add=both | Capability.SSL)
    agreed.append(client.compression)
    assert agreed == [None, algorithm], "once the server has greeted"
    assert SSLRequest.decode(sent(client, 1)).capabilities & both == algorithm.capability
    client.tls_established()
    response = HandshakeResponse41.decode(sent(client, 2))
    assert response.capabilities & both == algorithm.capability
    assert response.zstd_level == (ZSTD_LEVEL if algorithm is Algorithm.ZSTD else 0)
    say(client, Ok().encode(), 3)
    assert client.state is ClientState.READY
    client.ping()
    assert sent(client, 0)
    say(client, Ok().encode(), 7)  # ids inside compressed packets mean nothing
    assert client.result() is not None


@pytest.mark.parametrize("algorithm", [None, *Algorithm])
def test_compression_that_is_not_offered_or_not_wanted_is_none(algorithm: Algorithm | None) -> None:
    client = make_client(compression=algorithm)
    others = [other for other in Algorithm if other is not algorithm]
    greet(client, add=others[0].capability)
    assert client.compression is None
    capabilities = HandshakeResponse41.decode(sent(client, 1)).capabilities
    assert not capabilities & (Capability.COMPRESS | Capability.ZSTD_COMPRESSION)
    say(client, Ok().encode(), 2)
    client.ping()
    with pytest.raises(ProtocolError, match="out of order"):
        say(client, Ok().encode(), 7)
