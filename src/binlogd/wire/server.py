"""The server's role: greet, let in whoever has the password, hand out commands, frame the answers.

    GREETING ──► [WANT_TLS ──► GREETING ──►] AUTHENTICATING ──► [HASHING ──►] READY ⇄ ANSWERING ⇄ STREAMING
    any state ──► CLOSED   after a refused login, COM_QUIT, or a ProtocolError

The caller moves bytes: ``receive`` what came, send what ``data_to_send`` gives, also after CLOSED: the
refusal is in it. In WANT_TLS it gives ``remainder()`` and all that follows to the TLS layer, calls
``tls_established``, and goes on with the decrypted bytes; a client may send its TLS hello right behind the
SSLRequest, and whoever reads exactly ``wanted`` bytes until then has nothing to give back.

A full login costs milliseconds of computing. A server ``in_steps`` does it in HASHING, a step for each ``work``, so
that its caller can do something else in between; otherwise ``receive`` does it all and HASHING is never seen.

``next_command`` hands out one command at a time. Each is answered by one ``reply_…`` (Quit by nothing), or
turned into a dump by ``begin_stream``, after which the caller frames the packets itself, ``next_command``
hands out the client's acknowledgements, and ``end_stream`` returns to where a reply ends it. What a client
sends ahead of its turn waits in the buffer, up to a limit.

Who logs in how is ``login``'s business. Nothing before it costs more than ``max_prelogin_packet`` of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from enum import Enum, auto

from binlogd.errors import LocalProtocolError, ProtocolError, Refusal
from binlogd.wire.auth import Account, FastAuthCache, Plugin, decoy_for
from binlogd.wire.capabilities import Capability, StatusFlag
from binlogd.wire.codec import Buffer
from binlogd.wire.commands import Command, Quit, decode_command, decode_while_streaming
from binlogd.wire.errors import encode_error
from binlogd.wire.handshake import NONCE_SIZE, Greeting, HandshakeResponse41, SSLRequest
from binlogd.wire.login import GREETED, Login, Verdict
from binlogd.wire.packets import PacketReader, encode_packets
from binlogd.wire.results import Column, Ok, Value, encode_eof, encode_result, encode_row
from binlogd.wire.rsa import RsaKey

MAX_PRELOGIN_PACKET = 16 * 1024
"""Bytes of a packet from somebody who has not logged in: a handshake with rich attributes is 2 KiB."""

MAX_COMMAND = 16 * 1024 * 1024
"""Bytes of a command: a dump request carries a GTID set, and the largest seen in the wild are a few MiB."""

READ_AHEAD = 1024 * 1024
"""Bytes beyond one command that may wait while another is answered: more than any read of the caller's."""

MAX_ACK = 1024
"""Bytes of what a client may say during a dump: an acknowledgement is 9 and a file name (at most 512)."""

OFFERED = (
    Capability.LONG_PASSWORD
    | Capability.FOUND_ROWS
    | Capability.LONG_FLAG
    | Capability.CONNECT_WITH_DB
    | Capability.IGNORE_SPACE
    | Capability.PROTOCOL_41
    | Capability.INTERACTIVE
    | Capability.IGNORE_SIGPIPE
    | Capability.TRANSACTIONS
    | Capability.RESERVED
    | Capability.SECURE_CONNECTION
    | Capability.MULTI_STATEMENTS
    | Capability.MULTI_RESULTS
    | Capability.PS_MULTI_RESULTS
    | Capability.PLUGIN_AUTH
    | Capability.CONNECT_ATTRS
    | Capability.PLUGIN_AUTH_LENENC
    | Capability.CAN_HANDLE_EXPIRED_PASSWORDS
    | Capability.DEPRECATE_EOF
)
"""Not offered, so that no client uses it: compression, LOCAL INFILE, session tracking (OK packets would have
to carry state), query attributes (COM_QUERY would change its form), several authentication factors."""

SHOWN_NAME = 96
"""Characters of a user name in a refusal; MySQL's names have 32, and 96 bytes."""

ER_HANDSHAKE = 1043
ER_ACCESS_DENIED = 1045
ER_NET_PACKET_TOO_LARGE = 1153
ER_NOT_SUPPORTED_AUTH_MODE = 1251
ER_MALFORMED_PACKET = 1835
ER_SECURE_TRANSPORT_REQUIRED = 3159

_DECOY = decoy_for(())


class ServerState(Enum):
    """See the module's drawing."""

    GREETING = auto()
    WANT_TLS = auto()
    AUTHENTICATING = auto()
    HASHING = auto()
    READY = auto()
    ANSWERING = auto()
    STREAMING = auto()
    CLOSED = auto()


def turn_away(code: int, message: str) -> bytes:
    """The bytes to send instead of a greeting (1040 "Too many connections"), before closing."""
    return encode_packets(encode_error(code, None, message), 0)[0]


class ServerConnection:
    """One client's connection, from its first byte.

    ``nonce`` is 20 fresh bytes of ``make_nonce``. ``find_account`` gives the account of a name, or None; it is asked
    once; ``admit`` is asked when the password is right, and may still refuse. An unknown name is treated like
    ``decoy``: give ``decoy_for`` of the real accounts, so that neither what is said nor how long it takes tells which
    names exist. ``peer_host`` is for the text of a refusal. ``secure_transport`` says that the connection cannot be
    overheard though it has no TLS (a Unix socket). Without ``rsa_key`` a full login needs TLS. ``in_steps``: see above.
    """

    def __init__(
        self,
        *,
        server_version: str,
        connection_id: int,
        nonce: bytes,
        tls_available: bool,
        rsa_key: RsaKey | None,
        find_account: Callable[[str], Account | None],
        fast_auth_cache: FastAuthCache,
        require_tls: bool = False,
        secure_transport: bool = False,
        peer_host: str = "localhost",
        decoy: Account | None = None,
        admit: Callable[[Account], Refusal | None] | None = None,
        in_steps: bool = False,
        max_prelogin_packet: int = MAX_PRELOGIN_PACKET,
        max_command: int = MAX_COMMAND,
    ) -> None:
        if len(nonce) != NONCE_SIZE or 0 in nonce:
            raise LocalProtocolError("a nonce is 20 bytes without NUL")
        self._nonce = nonce
        self._rsa_key = rsa_key
        self._find_account = find_account
        self._cache = fast_auth_cache
        self._require_tls = require_tls
        self._secure_transport = secure_transport
        self._peer_host = peer_host
        self._decoy = decoy or _DECOY
        self._admit = admit
        self._in_steps = in_steps
        self._max_command = max_command
        self._offered = OFFERED | (Capability.SSL if tls_available else Capability(0))
        self._reader = PacketReader(max_payload=max_prelogin_packet)
        self._out = bytearray()
        self._state = ServerState.GREETING
        self._tls_active = False
        self._response: HandshakeResponse41 | None = None
        self._exchange: Generator[bytes | None, bytes, Verdict] | None = None
        self._verdict: Verdict | None = None
        self._refusal: Refusal | None = None
        self._send(
            Greeting(
                server_version=server_version,
                connection_id=connection_id,
                auth_data=nonce,
                capabilities=self._offered,
                auth_plugin=GREETED,
            ).encode()
        )

    @property
    def state(self) -> ServerState:
        """Where the connection stands."""
        return self._state

    @property
    def refusal(self) -> Refusal | None:
        """Why the login was refused, if it was."""
        return self._refusal

    @property
    def tls_active(self) -> bool:
        """Whether the connection is inside TLS."""
        return self._tls_active

    @property
    def user(self) -> str:
        """The name the client gave; "" before. Proven only when ``account`` is there."""
        return "" if self._response is None else self._response.user

    @property
    def attributes(self) -> Mapping[str, str]:
        """What the client says of itself (program_name, _client_version …); not to be trusted."""
        return {} if self._response is None else self._response.attributes

    @property
    def database(self) -> str | None:
        """The database the client named in its handshake."""
        return None if self._response is None else self._response.database

    @property
    def collation(self) -> int | None:
        """The id of the collation the client named in its handshake."""
        return None if self._response is None else self._response.charset

    @property
    def client_plugin(self) -> str | None:
        """The plugin the client began with; None if it named none."""
        return None if self._response is None else self._response.auth_plugin

    @property
    def capabilities(self) -> Capability:
        """What both sides agreed on (0 before the client's handshake)."""
        return Capability(0) if self._response is None else self._response.capabilities & self._offered

    @property
    def account(self) -> Account | None:
        """Who is logged in; None before."""
        return None if self._verdict is None else self._verdict.account

    @property
    def auth_plugin(self) -> Plugin | None:
        """The plugin that decided the login; None before."""
        return None if self._verdict is None else self._verdict.plugin

    @property
    def wanted(self) -> int:
        """Bytes that complete the packet at hand: who reads no more never reads into the next layer."""
        return self._reader.wanted

    def data_to_send(self) -> bytes:
        """Take what is to be sent, in any state."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive(self, data: Buffer) -> None:
        """Bytes from the client, in any pieces.

        Raises ``ProtocolError``, and the connection is then CLOSED with an ERR packet in ``data_to_send``. A
        refused login raises nothing: the state is CLOSED and ``refusal`` says why.
        """
        if self._state is ServerState.CLOSED:
            raise LocalProtocolError("receive() after the connection was closed")
        self._reader.feed(data)
        try:
            while self._state in (ServerState.GREETING, ServerState.AUTHENTICATING):
                payload = self._reader.next()
                if payload is None:
                    return
                if self._state is ServerState.GREETING:
                    self._on_handshake(payload)
                else:
                    self._continue_login(payload)
            if self._reader.buffered > self._max_command + READ_AHEAD:
                raise ProtocolError(
                    f"the client sent {self._reader.buffered} bytes ahead of its turn",
                    code=ER_NET_PACKET_TOO_LARGE,
                )
        except ProtocolError as error:
            self._fail(error)
            raise

    def work(self) -> None:
        """In HASHING: the next step, of a fraction of a millisecond, or one or two with RSA."""
        self._require(ServerState.HASHING)
        self._continue_login(None)

    def remainder(self) -> bytes:
        """In WANT_TLS: take what came behind the SSLRequest; it belongs to the TLS layer."""
        self._require(ServerState.WANT_TLS)
        return self._reader.remainder()

    def tls_established(self) -> None:
        """TLS is up: the handshake response comes inside it."""
        self._require(ServerState.WANT_TLS)
        if self._reader.buffered:
            raise LocalProtocolError("remainder() was not given to the TLS layer: clear bytes would pass for its own")
        self._tls_active = True
        self._state = ServerState.GREETING

    def next_command(self) -> Command | None:
        """The next command, or None until more is received. In STREAMING an ``Ack`` or ``Quit``.

        Quit closes. Any other command must be answered before the next is asked for. A statement that is not
        UTF-8 is refused here and never seen. Raises ``ProtocolError`` as ``receive`` does.
        """
        self._require(ServerState.READY, ServerState.STREAMING)
        try:
            while (payload := self._reader.next()) is not None:
                if self._state is ServerState.STREAMING:
                    self._reader.sequence = 0
                    command = decode_while_streaming(payload)
                else:
                    self._state = ServerState.ANSWERING
                    try:
                        command = decode_command(payload)
                    except Refusal as refusal:
                        self.reply_error(refusal.code, refusal.sqlstate, refusal.message)
                        continue
                if isinstance(command, Quit):
                    self._state = ServerState.CLOSED
                return command
        except ProtocolError as error:
            self._fail(error)
            raise
        return None

    def reply_ok(self, *, affected: int = 0, last_insert_id: int = 0, warnings: int = 0, info: str = "") -> None:
        """Done."""
        ok = Ok(affected, last_insert_id, StatusFlag.AUTOCOMMIT, warnings, info)
        self._reply([ok.encode()])

    def reply_text(self, text: str) -> None:
        """A line of text, the answer to ``Statistics``."""
        self._reply([text.encode()])

    def reply_error(self, code: int, sqlstate: str, message: str) -> None:
        """Refused, or failed."""
        self._reply([encode_error(code, sqlstate, message)])

    def reply_result(self, columns: Sequence[Column], rows: Iterable[Sequence[Value]], *, warnings: int = 0) -> None:
        """A result set."""
        self._reply(encode_result(columns, rows, self.capabilities, warnings=warnings))

    def begin_result(self, columns: Sequence[Column]) -> None:
        """The head of a result set whose rows come bit by bit; ``end_result`` or ``reply_error`` ends it."""
        self._require(ServerState.ANSWERING)
        for payload in encode_result(columns, (), self.capabilities)[:-1]:
            self._send(payload)

    def add_rows(self, rows: Iterable[Sequence[Value]]) -> None:
        """More rows of the result set that was begun."""
        self._require(ServerState.ANSWERING)
        for row in rows:
            self._send(encode_row(row))

    def end_result(self, *, warnings: int = 0) -> None:
        """That was all of the result set that was begun."""
        self._reply([encode_eof(self.capabilities, warnings=warnings)])

    def reply_eof(self) -> None:
        """The end of a dump that does not wait for more (NON_BLOCK)."""
        self._reply([encode_eof(self.capabilities)])

    def begin_stream(self) -> int:
        """Answer a dump command with a stream: the sequence id of its first packet.

        The caller frames the packets.
        """
        self._require(ServerState.ANSWERING)
        sequence = self._reader.sequence
        self._reader.sequence = 0
        self._reader.max_payload = MAX_ACK
        self._state = ServerState.STREAMING
        return sequence

    def end_stream(self, sequence: int) -> None:
        """The stream is over and ``sequence`` is next; close it with ``reply_eof`` or ``reply_error``."""
        self._require(ServerState.STREAMING)
        self._reader.sequence = sequence
        self._reader.max_payload = self._max_command
        self._state = ServerState.ANSWERING

    # --- internals

    def _require(self, *states: ServerState) -> None:
        if self._state not in states:
            raise LocalProtocolError(f"not allowed in state {self._state.name}")

    def _send(self, payload: bytes) -> None:
        data, self._reader.sequence = encode_packets(payload, self._reader.sequence)
        self._out += data

    def _reply(self, payloads: list[bytes]) -> None:
        self._require(ServerState.ANSWERING)
        for payload in payloads:
            self._send(payload)
        self._reader.sequence = 0
        self._state = ServerState.READY

    def _fail(self, error: ProtocolError) -> None:
        """Tell the client what was wrong in MySQL's terms, and close.

        During a dump only the stream's framer may speak.
        """
        if self._state in (ServerState.GREETING, ServerState.AUTHENTICATING):
            self._send(encode_error(ER_HANDSHAKE, "08S01", "Bad handshake"))
        elif self._state is not ServerState.STREAMING:
            code = error.code or ER_MALFORMED_PACKET
            self._send(encode_error(code, "08S01" if code == ER_NET_PACKET_TOO_LARGE else "HY000", error.message))
        self._state = ServerState.CLOSED

    def _refuse(self, code: int, sqlstate: str, message: str) -> None:
        self._refusal = Refusal(code, sqlstate, message)
        self._send(encode_error(code, sqlstate, message))
        self._state = ServerState.CLOSED

    def _on_handshake(self, payload: bytes) -> None:
        if SSLRequest.matches(payload):
            if self._tls_active or not self._offered & Capability.SSL:
                raise ProtocolError("the client asks for TLS where it is not on offer")
            self._state = ServerState.WANT_TLS
            return
        response = HandshakeResponse41.decode(payload)
        if response.capabilities & Capability.SSL and not self._tls_active:
            raise ProtocolError("the client announces TLS and goes on without it")
        self._response = response
        private = self._tls_active or self._secure_transport
        if self._require_tls and not private:
            self._refuse(
                ER_SECURE_TRANSPORT_REQUIRED,
                "HY000",
                "Connections using insecure transport are prohibited while --require_secure_transport=ON.",
            )
            return
        account = self._find_account(response.user)
        can_switch = bool(self.capabilities & Capability.PLUGIN_AUTH)
        login = Login(
            account=account,
            decoy=self._decoy,
            began_with=_plugin_begun_with(response.auth_plugin) if can_switch else Plugin.NATIVE,
            can_switch=can_switch,
            nonce=self._nonce,
            private=private,
            rsa_key=self._rsa_key,
            cache=self._cache,
        )
        self._exchange = login.run(response.auth_response)
        self._continue_login(None)

    def _continue_login(self, answer: bytes | None) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            # None starts a generator and goes on after a pause; mypy knows only of answers.
            said = next(exchange) if answer is None else exchange.send(answer)
            while said is None and not self._in_steps:
                said = next(exchange)
        except StopIteration as stop:
            self._exchange = None
            self._conclude(stop.value)
            return
        if said is None:
            self._state = ServerState.HASHING
        else:
            self._send(said)
            self._state = ServerState.AUTHENTICATING

    def _conclude(self, verdict: Verdict) -> None:
        if verdict.unsupported:
            self._refuse(
                ER_NOT_SUPPORTED_AUTH_MODE,
                "08004",
                "Client does not support authentication protocol requested by server; consider upgrading MySQL client",
            )
        elif verdict.account is None:
            used = "YES" if verdict.used_password else "NO"
            self._refuse(
                ER_ACCESS_DENIED,
                "28000",
                f"Access denied for user '{_shown(self.user)}'@'{self._peer_host}' (using password: {used})",
            )
        elif self._admit is not None and (full := self._admit(verdict.account)) is not None:
            self._refuse(full.code, full.sqlstate, full.message)
        else:
            self._verdict = verdict
            if verdict.preface is not None:
                self._send(verdict.preface)
            self._send(Ok().encode())
            self._reader.sequence = 0
            self._reader.max_payload = self._max_command
            self._state = ServerState.READY


def _plugin_begun_with(name: str | None) -> Plugin | None:
    try:
        return Plugin(name or "")
    except ValueError:
        return None


def _shown(name: str) -> str:
    """A stranger's text as one line that fits a log: what cannot be printed is replaced, and the rest is cut."""
    return "".join(char if char.isprintable() else "?" for char in name[:SHOWN_NAME])
