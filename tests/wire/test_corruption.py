"""Logins whose bytes are altered, cut or repeated on the way: only expected errors, never a wrong success."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import ProtocolError, ServerError
from binlogd.wire.auth import Account, PasswordHash
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.server import ServerConnection, ServerState
from tests.wire.support import integer_column, make_client, make_server, pump

NONCE = b"abcdefghijklmnopqrst"
HASH = str(PasswordHash.make_sha2("secret", b"s" * 20, 1000))


def fresh(private: bool) -> tuple[ClientConnection, ServerConnection]:
    client = make_client(secure_transport=private, tls=TlsPolicy.DISABLED, database="d")
    server = make_server(Account("repl", password_hash=HASH), nonce=NONCE, secure_transport=private)
    return client, server


@cache
def transcript(private: bool) -> tuple[bytes, bytes]:
    """What the server and the client say in a full login and a query."""
    client, server = fresh(private)
    down, up = pump(client, server)
    client.query("SELECT 1")
    more_down, more_up = pump(client, server)
    server.next_command()
    server.reply_result([integer_column("1")], [(1,)])
    return down + more_down + server.data_to_send(), up + more_up


def altered(data: st.DataObject, original: bytes) -> bytes:
    """A corruption of ``original``: bytes replaced, removed, repeated, or the end cut off."""
    start = data.draw(st.integers(0, len(original) - 1))
    size = data.draw(st.integers(1, 8))
    match data.draw(st.sampled_from(["replace", "remove", "repeat", "cut"])):
        case "replace":
            return original[:start] + data.draw(st.binary(min_size=1, max_size=8)) + original[start + size :]
        case "remove":
            return original[:start] + original[start + size :]
        case "repeat":
            return original[: start + size] + original[start:]
        case _:
            return original[:start]


@settings(max_examples=300)
@given(st.data(), st.booleans(), st.sampled_from([1, 7, 1 << 20]))
def test_a_client_survives_a_corrupt_server(data: st.DataObject, private: bool, piece: int) -> None:
    down, _ = transcript(private)
    stream = altered(data, down)
    client, _ = fresh(private)
    asked = False
    try:
        for start in range(0, len(stream), piece):
            client.receive(stream[start : start + piece])
            if client.state is ClientState.READY and not asked:
                client.query("SELECT 1")
                asked = True
    except (ProtocolError, ServerError):
        assert client.state is ClientState.CLOSED


@settings(max_examples=300)
@given(st.data(), st.booleans(), st.sampled_from([1, 7, 1 << 20]))
def test_a_server_survives_a_corrupt_client(data: st.DataObject, private: bool, piece: int) -> None:
    _, up = transcript(private)
    stream = altered(data, up)
    _, server = fresh(private)
    try:
        for start in range(0, len(stream), piece):
            if server.state is ServerState.CLOSED:
                break
            if server.state is ServerState.WANT_TLS:
                server.remainder()
                break
            server.receive(stream[start : start + piece])
            if server.state is ServerState.READY and server.next_command() is not None:
                break
    except ProtocolError:
        assert server.state is ServerState.CLOSED
        assert server.data_to_send()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_logs_nobody_in(noise: bytes) -> None:
    client, server = fresh(False)
    for connection in (client, server):
        try:
            connection.receive(noise)
        except (ProtocolError, ServerError):
            pass
    assert client.state is not ClientState.READY
    assert server.account is None
