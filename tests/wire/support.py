"""Both roles in memory: makes connections and moves the bytes between them in pieces of any size."""

from __future__ import annotations

from functools import cache
from typing import Any

from binlogd.wire.auth import Account, FastAuthCache, PasswordHash, make_nonce
from binlogd.wire.capabilities import Charset, ColumnType
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.results import Column
from binlogd.wire.rsa import RsaKey
from binlogd.wire.server import ServerConnection, ServerState

VERSION = "9.7.4-binlogd"


@cache
def rsa_key() -> RsaKey:
    return RsaKey.generate()


def text_column(name: str) -> Column:
    return Column(name=name, decimals=31)


def integer_column(name: str) -> Column:
    return Column(name=name, type=ColumnType.LONGLONG, charset=Charset.BINARY, length=21)


def make_server(*accounts: Account, **options: Any) -> ServerConnection:
    known = {account.name: account for account in accounts}
    settings: dict[str, Any] = {
        "server_version": VERSION,
        "connection_id": 7,
        "nonce": make_nonce(),
        "tls_available": True,
        "rsa_key": rsa_key(),
        "find_account": known.get,
        "fast_auth_cache": FastAuthCache(),
    }
    return ServerConnection(**(settings | options))


def make_client(user: str = "repl", password: str = "secret", **options: Any) -> ClientConnection:
    settings: dict[str, Any] = {"tls": TlsPolicy.DISABLED, "attributes": {"program_name": "test"}}
    return ClientConnection(user=user, password=password, **(settings | options))


def deliver(receiver: ClientConnection | ServerConnection, data: bytes, piece: int) -> None:
    """``data`` in pieces; what is left when the receiver turns to TLS or closes must be nothing."""
    for start in range(0, len(data), piece):
        receiver.receive(data[start : start + piece])


def pump(client: ClientConnection, server: ServerConnection, *, piece: int = 1 << 30) -> tuple[bytes, bytes]:
    """Move bytes until both are silent; TLS is passed over. Returns what the server and the client sent."""
    from_server = bytearray()
    from_client = bytearray()
    while True:
        down, up = server.data_to_send(), client.data_to_send()
        if down:
            from_server += down
            deliver(client, down, piece)
        if up:
            from_client += up
            deliver(server, up, piece)
        if client.state is ClientState.WANT_TLS and server.state is ServerState.WANT_TLS:
            assert server.remainder() == b""
            server.tls_established()
            client.tls_established()
        elif not down and not up:
            return bytes(from_server), bytes(from_client)


def logged_in(**options: Any) -> tuple[ClientConnection, ServerConnection]:
    """Both sides in READY."""
    client, server = make_client(), make_server(Account("repl", "secret"), **options)
    pump(client, server)
    assert client.state is ClientState.READY
    assert server.state is ServerState.READY
    return client, server


def matches(known: PasswordHash, password: bytes) -> bool:
    """Whether it is the password, without making use of the pauses."""
    steps = known.matching(password)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return bool(stop.value)
