"""The client's role: log in, ask, read answers, start a dump and hand the connection over.

    GREETING ──► [WANT_TLS ──►] AUTHENTICATING ──► READY ⇄ WAITING
                                                     └───► DUMPING ──► remainder() to whoever reads the stream
    any state ──► CLOSED   after quit(), an ERR before login, or a ProtocolError

The caller moves bytes: ``receive`` what came, send what ``data_to_send`` gives. In WANT_TLS it flushes, makes
the TLS handshake on the same connection, calls ``tls_established``, and goes on with the decrypted bytes.

Four rules guard the password. A full login (sha256, caching_sha2) sends it as it is over TLS or a local socket.
Without them it goes under the server's RSA key; a key asked for on the same connection protects against
listeners, not against somebody who can alter it, which is what TLS with a verified certificate, or a
``public_key`` given beforehand, is for. mysql_clear_password, which any account can be told to use by whoever
answers, gets it only from a server that has proved who it is; MySQL's own clients want to be told so by
``--enable-cleartext-plugin``. And nothing that came in clear after our SSLRequest is ever taken for what the TLS
peer said.

With ``compression``, once it is READY everything that comes and goes is to pass through a ``CompressedStream``; the
login itself never does. A server that lacks the algorithm shows in ``compression`` as soon as it has greeted, when
nothing has been sent yet: log in without, or give up.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from binlogd.errors import LocalProtocolError, ProtocolError, ServerError
from binlogd.wire import errors, handshake, results
from binlogd.wire.auth import (
    FAST_AUTH_OK,
    FULL_AUTH_NEEDED,
    PUBLIC_KEY_WANTED,
    SHA256_KEY_WANTED,
    Plugin,
    scramble_native,
    scramble_sha2,
)
from binlogd.wire.capabilities import Capability
from binlogd.wire.codec import Buffer
from binlogd.wire.commands import Ping, Query, Quit
from binlogd.wire.compression import ZSTD_LEVEL, Algorithm
from binlogd.wire.errors import decode_error
from binlogd.wire.handshake import (
    NONCE_SIZE,
    AuthMoreData,
    AuthSwitchRequest,
    Greeting,
    HandshakeResponse41,
    SSLRequest,
)
from binlogd.wire.packets import PacketReader, encode_packets
from binlogd.wire.results import MAX_RESULT, Ok, Result, ResultReader

MAX_PACKET = 1 << 30
"""The max_packet we announce: the largest there is, because an event can be 1 GiB."""

MAX_LOGIN_PACKET = 64 * 1024
"""Bytes of one payload before login: a greeting or a PEM key is a fraction of it."""

_NEEDED = Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.PLUGIN_AUTH

_WANTED = (
    _NEEDED
    | Capability.LONG_PASSWORD
    | Capability.LONG_FLAG
    | Capability.TRANSACTIONS
    | Capability.CONNECT_ATTRS
    | Capability.PLUGIN_AUTH_LENENC
    | Capability.DEPRECATE_EOF
)

_KEY_REQUESTS = {Plugin.CACHING_SHA2: PUBLIC_KEY_WANTED, Plugin.SHA256: SHA256_KEY_WANTED}


class TlsPolicy(Enum):
    """Whether to use TLS. Which certificate is good enough is decided by whoever makes the TLS handshake."""

    DISABLED = auto()
    PREFERRED = auto()
    """TLS when the server offers it; over a local socket, which needs none, never."""
    REQUIRED = auto()


class ClientState(Enum):
    """See the module's drawing."""

    GREETING = auto()
    WANT_TLS = auto()
    AUTHENTICATING = auto()
    READY = auto()
    WAITING = auto()
    DUMPING = auto()
    CLOSED = auto()


class ClientConnection:
    """One connection to a server, from its first byte.

    ``secure_transport`` says that the connection cannot be overheard though it has no TLS (a Unix socket).
    ``public_key`` is the server's RSA key in PEM, if it is known beforehand. ``compression`` is asked for if it is
    offered.
    """

    def __init__(
        self,
        *,
        user: str,
        password: str,
        tls: TlsPolicy = TlsPolicy.PREFERRED,
        attributes: Mapping[str, str] | None = None,
        database: str | None = None,
        secure_transport: bool = False,
        public_key: bytes | None = None,
        compression: Algorithm | None = None,
    ) -> None:
        self._user = user
        self._password = password
        self._tls = tls
        self._attributes = dict(attributes or {})
        self._database = database
        self._private = secure_transport
        self._verified = secure_transport  # nobody can have put himself between
        self._public_key = public_key
        self._wanted_compression = compression
        self._reader = PacketReader(max_payload=MAX_LOGIN_PACKET)
        self._out = bytearray()
        self._state = ClientState.GREETING
        self._greeting: Greeting | None = None
        self._capabilities = Capability(0)
        self._tls_active = False
        self._plugin = Plugin.CACHING_SHA2
        self._nonce = b""
        self._asked_for_key = False
        self._switched = False
        self._answer: ResultReader | None = None
        self._outcome: Result | ServerError | None = None

    @property
    def state(self) -> ClientState:
        """Where the connection stands."""
        return self._state

    @property
    def greeting(self) -> Greeting | None:
        """What the server said of itself, once it has."""
        return self._greeting

    @property
    def capabilities(self) -> Capability:
        """What both sides agreed on (0 before the greeting)."""
        return self._capabilities

    @property
    def auth_plugin(self) -> Plugin:
        """The plugin of the login, final in READY."""
        return self._plugin

    @property
    def tls_active(self) -> bool:
        """Whether the connection is inside TLS."""
        return self._tls_active

    @property
    def compression(self) -> Algorithm | None:
        """What both sides agreed on, from the greeting on; None: no compression."""
        wanted = self._wanted_compression
        return wanted if wanted is not None and self._capabilities & wanted.capability else None

    def data_to_send(self) -> bytes:
        """Take what is to be sent."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive(self, data: Buffer) -> None:
        """Bytes from the server, in any pieces.

        Raises ``ServerError`` for an ERR during login or one that nobody asked for (the server shuts down, or
        ends an idle connection), ``ProtocolError`` for what the protocol does not allow; the connection is
        then CLOSED.
        """
        if self._state is ClientState.CLOSED:
            raise LocalProtocolError("receive() after the connection was closed")
        try:
            self._reader.feed(data)
            self._advance()
        except (ProtocolError, ServerError):
            self._state = ClientState.CLOSED
            raise

    def tls_established(self, *, verified: bool = False) -> None:
        """TLS is up: continue with the login inside it. ``verified``: the server's certificate proves who it is."""
        self._require(ClientState.WANT_TLS)
        self._tls_active = self._private = True
        self._verified = verified
        self._send_login()

    def query(self, sql: str) -> None:
        """Ask a statement; its answer comes from ``result``."""
        self._ask(Query(sql).encode(), rows_allowed=True)

    def ping(self) -> None:
        """Ask for an OK."""
        self._ask(Ping().encode(), rows_allowed=False)

    def command(self, payload: bytes) -> None:
        """Send a command that is answered with OK or an error (COM_REGISTER_SLAVE, COM_INIT_DB …)."""
        self._ask(payload, rows_allowed=False)

    def result(self) -> Result | None:
        """The answer to what was asked, or None until it is complete; raises the ``ServerError`` it was."""
        if self._state is ClientState.WAITING:
            return None
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise LocalProtocolError("result() without a question")
        if isinstance(outcome, ServerError):
            raise outcome
        return outcome

    def quit(self) -> None:
        """Take leave; after ``data_to_send`` the connection can be shut."""
        self._require(ClientState.READY)
        self._send_command(Quit().encode())
        self._state = ClientState.CLOSED

    def start_dump(self, payload: bytes) -> None:
        """Send the command of a binlog dump.

        Whatever is received from here on is ``remainder``'s, from sequence 1.
        """
        self._require(ClientState.READY)
        self._send_command(payload)
        self._state = ClientState.DUMPING

    def remainder(self) -> bytes:
        """Take what was received since ``start_dump``, and read the connection elsewhere from now on."""
        self._require(ClientState.DUMPING)
        return self._reader.remainder()

    # --- internals

    def _require(self, *states: ClientState) -> None:
        if self._state not in states:
            raise LocalProtocolError(f"not allowed in state {self._state.name}")

    def _send(self, payload: bytes) -> None:
        data, self._reader.sequence = encode_packets(payload, self._reader.sequence)
        self._out += data

    def _send_command(self, payload: bytes) -> None:
        self._reader.sequence = 0
        self._send(payload)

    def _ask(self, payload: bytes, *, rows_allowed: bool) -> None:
        self._require(ClientState.READY)
        if self._outcome is not None:
            raise LocalProtocolError("the answer to the last question was not taken with result()")
        self._answer = ResultReader(self._capabilities, rows_allowed=rows_allowed)
        self._send_command(payload)
        self._state = ClientState.WAITING

    def _advance(self) -> None:
        while self._state is not ClientState.DUMPING:
            if self._state is ClientState.WANT_TLS:
                if self._reader.buffered:
                    raise ProtocolError(
                        "bytes in clear came where TLS must begin: somebody may be altering the connection",
                        hint="find out what stands between here and the server before trying again",
                    )
                return
            payload = self._reader.next()
            if payload is None:
                return
            match self._state:
                case ClientState.GREETING:
                    self._on_greeting(payload)
                case ClientState.AUTHENTICATING:
                    self._on_auth(payload)
                case ClientState.WAITING:
                    self._on_answer(payload)
                case _:
                    if payload[:1] == bytes([errors.ERR_HEADER]):
                        raise decode_error(payload)
                    raise ProtocolError("the server sent a packet though nothing was asked")

    def _on_greeting(self, payload: bytes) -> None:
        if payload[:1] == bytes([errors.ERR_HEADER]):
            raise decode_error(payload)
        greeting = self._greeting = Greeting.decode(payload)
        missing = _NEEDED & ~greeting.capabilities
        if missing:
            raise ProtocolError(
                f"the server {greeting.server_version} lacks {missing.name}, which is needed to log in",
                hint="MySQL 5.6, MariaDB 10 or anything newer has it; check what answers on this port",
            )
        wanted = _WANTED if self._wanted_compression is None else _WANTED | self._wanted_compression.capability
        self._capabilities = (wanted & greeting.capabilities) | Capability.LONG_PASSWORD
        if self._database is not None:
            self._capabilities |= Capability.CONNECT_WITH_DB
        if greeting.auth_plugin == Plugin.NATIVE:
            self._plugin = Plugin.NATIVE
        self._nonce = self._checked_nonce(greeting.auth_data)
        if self._wants_tls(greeting):
            self._capabilities |= Capability.SSL
            self._send(SSLRequest(capabilities=self._capabilities, max_packet=MAX_PACKET).encode())
            self._state = ClientState.WANT_TLS
        else:
            self._send_login()

    def _wants_tls(self, greeting: Greeting) -> bool:
        if self._tls is TlsPolicy.DISABLED or (self._tls is TlsPolicy.PREFERRED and self._private):
            return False
        if greeting.capabilities & Capability.SSL:
            return True
        if self._tls is TlsPolicy.REQUIRED:
            raise ProtocolError(
                "TLS is required and the server does not offer it; nothing was sent to it",
                hint='set up TLS at the server (ssl_cert, ssl_key), or allow tls = "preferred"',
            )
        return False

    def _send_login(self) -> None:
        response = HandshakeResponse41(
            capabilities=self._capabilities,
            max_packet=MAX_PACKET,
            user=self._user,
            auth_response=self._first_answer(),
            database=self._database,
            auth_plugin=self._plugin,
            attributes=self._attributes,
            zstd_level=ZSTD_LEVEL,
        )
        self._send(response.encode())
        self._state = ClientState.AUTHENTICATING

    def _checked_nonce(self, data: bytes) -> bytes:
        if len(data) < NONCE_SIZE:
            raise ProtocolError(f"the server's nonce has {len(data)} bytes where {NONCE_SIZE} are needed")
        return data[:NONCE_SIZE]

    def _first_answer(self) -> bytes:
        """What the plugin says to a nonce."""
        match self._plugin:
            case Plugin.NATIVE:
                return scramble_native(self._password, self._nonce)
            case Plugin.CACHING_SHA2:
                return scramble_sha2(self._password, self._nonce)
            case Plugin.SHA256:
                return self._in_full() if self._password else b"\0"
            case Plugin.CLEAR:
                return self._password.encode() + b"\0"

    def _in_full(self) -> bytes:
        """The password itself in the form this link allows, or the request for the key it must wait for."""
        if self._private:
            return self._password.encode() + b"\0"
        if self._public_key is not None:
            return self._under_key(self._public_key)
        self._asked_for_key = True
        return _KEY_REQUESTS[self._plugin]

    def _under_key(self, public_key: bytes) -> bytes:
        from binlogd.wire.rsa import encrypt_password  # which most logins never need, and is slow to load

        return encrypt_password(self._password, self._nonce, public_key)

    def _on_auth(self, payload: bytes) -> None:
        if not payload:
            raise ProtocolError("the server sent an empty packet during the login")
        match payload[0]:
            case results.OK_HEADER:
                Ok.decode(payload)
                self._reader.max_payload = MAX_RESULT
                self._reader.sequence = 0
                self._reader.numbered = self.compression is None
                self._state = ClientState.READY
            case errors.ERR_HEADER:
                raise decode_error(payload)
            case handshake.AUTH_SWITCH_HEADER:
                self._on_switch(AuthSwitchRequest.decode(payload))
            case handshake.AUTH_MORE_HEADER:
                self._on_more(AuthMoreData.decode(payload).data)
            case kind:
                raise ProtocolError(f"the server sent a packet of kind {kind:#04x} during the login")

    def _on_switch(self, request: AuthSwitchRequest) -> None:
        if self._switched:
            raise ProtocolError("the server asks for a second change of the authentication method; one is allowed")
        self._switched = True
        try:
            plugin = Plugin(request.plugin)
        except ValueError:
            raise ProtocolError(
                f"the account uses the authentication method {request.plugin[:64]!r}, which is not supported",
                hint="there: ALTER USER … IDENTIFIED WITH caching_sha2_password (or mysql_native_password)",
            ) from None
        if plugin is Plugin.CLEAR and not self._verified:
            how = "over TLS without a proof of who it is" if self._private else "without TLS"
            raise ProtocolError(
                f"the server asks for the password in clear (mysql_clear_password) {how}; it was not sent",
                hint='set source.tls = "verify-identity" or "verify-ca", with source.tls_ca; if the account is to use'
                " another method, find out what stands between here and the server",
            )
        self._plugin = plugin
        self._asked_for_key = False
        if plugin is not Plugin.CLEAR:
            self._nonce = self._checked_nonce(request.auth_data)
        self._send(self._first_answer())

    def _on_more(self, data: bytes) -> None:
        if self._plugin is Plugin.CACHING_SHA2 and data == FAST_AUTH_OK:
            return
        if self._plugin is Plugin.CACHING_SHA2 and data == FULL_AUTH_NEEDED:
            self._send(self._in_full())
        elif self._asked_for_key:
            self._asked_for_key = False
            self._send(self._under_key(data))
        else:
            raise ProtocolError(f"the server sent a message that {self._plugin} does not know")

    def _on_answer(self, payload: bytes) -> None:
        assert self._answer is not None
        try:
            outcome: Result | ServerError | None = self._answer.feed(payload)
        except ServerError as error:
            outcome = error
        if outcome is not None:
            self._answer = None
            self._outcome = outcome
            self._reader.sequence = 0
            self._state = ClientState.READY
