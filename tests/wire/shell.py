"""Blocking sockets around the two roles: just enough to meet real servers and real clients."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from binlogd.errors import ProtocolError
from binlogd.wire.auth import Account, FastAuthCache, make_nonce
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.commands import Command, InitDb, Ping, Query, Quit
from binlogd.wire.results import Result
from binlogd.wire.server import ServerConnection, ServerState
from tests.wire.support import VERSION, integer_column, rsa_key, text_column

TIMEOUT = 20.0


class ClientShell:
    """A logged-in ``ClientConnection`` on a socket. Raises what the connection raises."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self.connection = ClientConnection(**({"tls": TlsPolicy.DISABLED} | options))
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        try:
            self._until(ClientState.READY)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> ClientShell:
        return self

    def __exit__(self, *_: object) -> None:
        if self.connection.state is ClientState.READY:
            self.connection.quit()
            self.socket.sendall(self.connection.data_to_send())
        self.socket.close()

    def query(self, sql: str) -> Result:
        self.connection.query(sql)
        return self._answer()

    def command(self, payload: bytes) -> Result:
        self.connection.command(payload)
        return self._answer()

    def _answer(self) -> Result:
        self._until(ClientState.READY)
        result = self.connection.result()
        assert result is not None
        return result

    def _until(self, state: ClientState) -> None:
        while True:
            self.socket.sendall(self.connection.data_to_send())
            if self.connection.state is state:
                return
            if self.connection.state is ClientState.WANT_TLS:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                self.socket = context.wrap_socket(self.socket)
                self.connection.tls_established()
                continue
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.received += data
            self.connection.receive(data)


class ServerShell:
    """Serves ``ServerConnection`` to whoever connects, one thread a client, until closed.

    ``logins`` holds every connection whose login succeeded; an error in a thread is kept in ``errors``.
    """

    def __init__(self, accounts: list[Account], *, certificate: ssl.SSLContext | None = None, **options: Any) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._certificate = certificate
        self._options = options
        self.cache = FastAuthCache()
        self.logins: list[ServerConnection] = []
        self.refusals: list[ServerConnection] = []
        self.errors: list[Exception] = []
        self.statements: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(TIMEOUT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = ServerConnection(
            **{
                "server_version": VERSION,
                "connection_id": len(self._threads),
                "nonce": make_nonce(),
                "tls_available": self._certificate is not None,
                "rsa_key": rsa_key(),
                "find_account": self._accounts.get,
                "fast_auth_cache": self.cache,
                "peer_host": "127.0.0.1",
                **self._options,
            }
        )
        try:
            client = self._converse(client, server)
        except (OSError, ProtocolError) as error:
            self.errors.append(error)
        finally:
            client.close()

    def _converse(self, client: socket.socket, server: ServerConnection) -> socket.socket:
        while True:
            client.sendall(server.data_to_send())
            match server.state:
                case ServerState.CLOSED:
                    if server.refusal is not None:
                        self.refusals.append(server)
                    return client
                case ServerState.WANT_TLS:
                    assert self._certificate is not None
                    assert server.remainder() == b""
                    client = self._certificate.wrap_socket(client, server_side=True)
                    server.tls_established()
                case ServerState.READY:
                    if server not in self.logins:
                        self.logins.append(server)
                    command = server.next_command()
                    if command is not None:
                        self._answer(server, command)
                        continue
            # Not a byte beyond the packet at hand: what follows an SSLRequest is for the TLS layer.
            data = client.recv(server.wanted)
            if not data:
                return client
            server.receive(data)

    def _answer(self, server: ServerConnection, command: Command) -> None:
        match command:
            case Query(sql):
                self.statements.append(sql)
                ANSWERS.get(sql.strip().rstrip(";").lower(), _unknown)(server)
            case Ping() | InitDb():
                server.reply_ok()
            case Quit():
                pass
            case _:
                server.reply_error(1047, "08S01", "Unknown command")


def _unknown(server: ServerConnection) -> None:
    server.reply_error(1064, "42000", "You have an error in your SQL syntax")


ANSWERS: dict[str, Callable[[ServerConnection], None]] = {
    "select @@version_comment limit 1": lambda server: server.reply_result(
        [text_column("@@version_comment")], [("binlogd",)]
    ),
    "select all kinds": lambda server: server.reply_result(
        [integer_column("n"), text_column("s"), text_column("nothing")],
        [(1, "é☃", None), (-(2**63), "x" * 70_000, None)],
        warnings=1,
    ),
    "select nothing": lambda server: server.reply_result([text_column("a")], []),
    "set autocommit = 0": lambda server: server.reply_ok(),
    "set autocommit = 1": lambda server: server.reply_ok(),
    "set names utf8mb4": lambda server: server.reply_ok(),
    "update": lambda server: server.reply_ok(affected=5, last_insert_id=300, info="Rows matched: 5"),
}


@contextmanager
def serving(*accounts: Account, **options: Any) -> Iterator[ServerShell]:
    shell = ServerShell(list(accounts), **options)
    try:
        yield shell
    finally:
        shell.close()
    assert shell.errors == []


def server_certificate(folder: Path) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, as the server's side of TLS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "binlogd")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
