"""The messages of the connection phase, before the first command.

    server: Greeting
    client: [SSLRequest, TLS] HandshakeResponse41
    server: AuthSwitchRequest | AuthMoreData …     client: the plugin's answer, bare …
    server: OK | ERR

Only protocol version 10 with the 4.1 handshake is spoken: everything since MySQL 4.1 and all of MariaDB. The
head of an SSLRequest and of a HandshakeResponse41 is the same 32 bytes, and the former is nothing else.
(Source: dev.mysql.com/doc/dev/mysql-server, page_protocol_connection_phase_packets; MariaDB's "Connection"
page.)

The messages are exact inverses: ``decode(encode(x)) == x``. What real peers get wrong is forgiven where the
server does too: a plugin name without its NUL at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from binlogd.errors import ProtocolError
from binlogd.wire.capabilities import Capability, Charset, StatusFlag
from binlogd.wire.codec import Reader, encode_lenenc_bytes

PROTOCOL_VERSION = 10

NONCE_SIZE = 20
"""Bytes of the random challenge that both password plugins scramble with."""

MAX_ATTRIBUTES = 64 * 1024
"""Bytes of connection attributes in one handshake, as mysqld limits them (the client library stops there
too).
"""

SSL_REQUEST_SIZE = 32

AUTH_SWITCH_HEADER = 0xFE
AUTH_MORE_HEADER = 0x01

_AUTH_PART_1 = 8
_AUTH_PART_2_MIN = 13
_RESPONSE_FILLER = 23


def _plugin_name(reader: Reader) -> str:
    """A NUL-terminated name whose NUL may be missing at the end (servers before 5.5.10 and some clients)."""
    name, _, _ = reader.rest().partition(b"\0")
    return reader.text(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """HandshakeV10, the server's first packet. ``auth_data`` is the nonce without its trailing NUL."""

    server_version: str
    connection_id: int
    auth_data: bytes = field(repr=False)
    capabilities: Capability
    charset: int = Charset.UTF8MB4_GENERAL_CI
    status: StatusFlag = StatusFlag.AUTOCOMMIT
    auth_plugin: str = ""

    def encode(self) -> bytes:
        """The payload. The nonce is stretched to 20 bytes by its own trailing NULs if it is shorter."""
        auth = self.auth_data.ljust(NONCE_SIZE, b"\0") + b"\0"
        flags = int(self.capabilities).to_bytes(4, "little")
        plugin = b""
        if self.capabilities & Capability.PLUGIN_AUTH:
            plugin = self.auth_plugin.encode() + b"\0"
        return b"".join(
            (
                bytes([PROTOCOL_VERSION]),
                self.server_version.encode() + b"\0",
                self.connection_id.to_bytes(4, "little"),
                auth[:_AUTH_PART_1] + b"\0",
                flags[:2],
                self.charset.to_bytes(1, "little"),
                int(self.status).to_bytes(2, "little"),
                flags[2:],
                bytes([len(auth) if plugin else 0]),
                bytes(10),
                auth[_AUTH_PART_1:],
                plugin,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Greeting:
        """Raises ``ProtocolError`` for anything that is not a protocol 10 greeting, naming what it may be."""
        reader = Reader(payload, "the server's greeting")
        version = reader.integer(1)
        if version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the server greets with protocol version {version}, only {PROTOCOL_VERSION} is understood",
                hint="check the port: the classic protocol is needed, not the X protocol (33060)",
            )
        server_version = reader.text(reader.nul_bytes())
        connection_id = reader.integer(4)
        auth = reader.take(_AUTH_PART_1)
        reader.take(1)
        flags = reader.integer(2)
        if not reader.remaining:
            return cls(
                server_version=server_version,
                connection_id=connection_id,
                auth_data=auth,
                capabilities=Capability(flags),
            )
        charset = reader.integer(1)
        status = StatusFlag(reader.integer(2))
        capabilities = Capability(flags | reader.integer(2) << 16)
        auth_size = reader.integer(1)
        reader.take(10)
        if capabilities & Capability.SECURE_CONNECTION:
            auth += reader.take(max(_AUTH_PART_2_MIN, auth_size - _AUTH_PART_1))
        plugin = _plugin_name(reader) if capabilities & Capability.PLUGIN_AUTH else ""
        return cls(
            server_version=server_version,
            connection_id=connection_id,
            auth_data=auth.rstrip(b"\0"),
            capabilities=capabilities,
            charset=charset,
            status=status,
            auth_plugin=plugin,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SSLRequest:
    """The client asks for TLS; the very next byte it sends belongs to the TLS handshake."""

    capabilities: Capability
    max_packet: int
    charset: int = Charset.UTF8MB4_GENERAL_CI

    def encode(self) -> bytes:
        """The payload, 32 bytes."""
        return (
            int(self.capabilities).to_bytes(4, "little")
            + self.max_packet.to_bytes(4, "little")
            + self.charset.to_bytes(1, "little")
            + bytes(_RESPONSE_FILLER)
        )

    @staticmethod
    def matches(payload: bytes) -> bool:
        """Whether this payload is an SSLRequest rather than a HandshakeResponse41."""
        return len(payload) == SSL_REQUEST_SIZE and bool(Capability.SSL & int.from_bytes(payload[:4], "little"))

    @classmethod
    def decode(cls, payload: bytes) -> SSLRequest:
        """Raises ``ProtocolError`` when it is cut short."""
        reader = Reader(payload, "the client's SSLRequest")
        capabilities = Capability(reader.integer(4))
        max_packet = reader.integer(4)
        charset = reader.integer(1)
        reader.take(_RESPONSE_FILLER)
        return cls(capabilities=capabilities, max_packet=max_packet, charset=charset)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeResponse41:
    """The client's answer to the greeting: who it is, and its first answer to the nonce.

    ``capabilities`` decide what is on the wire: ``database`` needs CONNECT_WITH_DB, ``auth_plugin``
    PLUGIN_AUTH, ``attributes`` CONNECT_ATTRS, ``zstd_level`` ZSTD_COMPRESSION.
    """

    capabilities: Capability
    max_packet: int
    user: str
    auth_response: bytes = field(repr=False)
    charset: int = Charset.UTF8MB4_GENERAL_CI
    database: str | None = None
    auth_plugin: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    zstd_level: int = 0

    def encode(self) -> bytes:
        """The payload."""
        flags = self.capabilities
        parts = [
            int(flags).to_bytes(4, "little"),
            self.max_packet.to_bytes(4, "little"),
            self.charset.to_bytes(1, "little"),
            bytes(_RESPONSE_FILLER),
            self.user.encode() + b"\0",
        ]
        if flags & Capability.PLUGIN_AUTH_LENENC:
            parts.append(encode_lenenc_bytes(self.auth_response))
        elif flags & Capability.SECURE_CONNECTION:
            parts.append(len(self.auth_response).to_bytes(1, "little") + self.auth_response)
        else:
            parts.append(self.auth_response + b"\0")
        if flags & Capability.CONNECT_WITH_DB:
            parts.append((self.database or "").encode() + b"\0")
        if flags & Capability.PLUGIN_AUTH:
            parts.append((self.auth_plugin or "").encode() + b"\0")
        if flags & Capability.CONNECT_ATTRS:
            pairs = (
                encode_lenenc_bytes(key.encode()) + encode_lenenc_bytes(value.encode())
                for key, value in self.attributes.items()
            )
            parts.append(encode_lenenc_bytes(b"".join(pairs)))
        if flags & Capability.ZSTD_COMPRESSION:
            parts.append(self.zstd_level.to_bytes(1, "little"))
        return b"".join(parts)

    @classmethod
    def decode(cls, payload: bytes) -> HandshakeResponse41:
        """Raises ``ProtocolError``, also for a client older than protocol 4.1."""
        reader = Reader(payload, "the client's handshake response")
        capabilities = Capability(reader.integer(4))
        if not capabilities & Capability.PROTOCOL_41:
            raise ProtocolError("the client speaks the protocol from before MySQL 4.1", hint="use a newer client")
        max_packet = reader.integer(4)
        charset = reader.integer(1)
        reader.take(_RESPONSE_FILLER)
        user = reader.text(reader.nul_bytes())
        if capabilities & Capability.PLUGIN_AUTH_LENENC:
            auth_response = reader.lenenc_bytes()
        elif capabilities & Capability.SECURE_CONNECTION:
            auth_response = reader.take(reader.integer(1))
        else:
            auth_response = reader.nul_bytes()
        database = plugin = None
        if capabilities & Capability.CONNECT_WITH_DB:
            database = reader.text(reader.nul_bytes()) or None
        if capabilities & Capability.PLUGIN_AUTH:
            if capabilities & (Capability.CONNECT_ATTRS | Capability.ZSTD_COMPRESSION):  # something follows
                plugin = reader.text(reader.nul_bytes())
            else:
                plugin = _plugin_name(reader)
        attributes: dict[str, str] = {}
        if capabilities & Capability.CONNECT_ATTRS and reader.remaining:
            attributes = _decode_attributes(reader)
        level = reader.integer(1) if capabilities & Capability.ZSTD_COMPRESSION and reader.remaining else 0
        return cls(
            capabilities=capabilities,
            max_packet=max_packet,
            user=user,
            auth_response=auth_response,
            charset=charset,
            database=database,
            auth_plugin=plugin,
            attributes=attributes,
            zstd_level=level,
        )


def _decode_attributes(reader: Reader) -> dict[str, str]:
    """Connection attributes: a lenenc total size, then lenenc keys and values in turn.

    What the bytes mean in text is nobody's contract, so values that are not UTF-8 are shown replaced, not
    refused.
    """
    size = reader.lenenc()
    if size > MAX_ATTRIBUTES:
        raise ProtocolError(f"the client sent {size} bytes of connection attributes, the limit is {MAX_ATTRIBUTES}")
    inner = Reader(reader.take(size), "the client's connection attributes")
    attributes: dict[str, str] = {}
    while inner.remaining:
        key = inner.lenenc_bytes().decode("utf-8", "replace")
        attributes[key] = inner.lenenc_bytes().decode("utf-8", "replace")
    return attributes


@dataclass(frozen=True, slots=True)
class AuthSwitchRequest:
    """The server wants another plugin than the one the client began with; ``auth_data`` is that plugin's
    nonce.
    """

    plugin: str
    auth_data: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The payload, the nonce with its trailing NUL."""
        return bytes([AUTH_SWITCH_HEADER]) + self.plugin.encode() + b"\0" + self.auth_data + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> AuthSwitchRequest:
        """Raises ``ProtocolError``; a bare 0xFE asks for the insecure method from before MySQL 4.1 and is
        refused.
        """
        if len(payload) == 1:
            raise ProtocolError(
                "the server asks for the password in the form used before MySQL 4.1, which is insecure",
                hint="give the account a new password there (ALTER USER … IDENTIFIED BY …)",
            )
        reader = Reader(payload, "the server's request for another authentication method")
        reader.take(1)
        plugin = reader.text(reader.nul_bytes())
        data = reader.rest()
        return cls(plugin, data[:-1] if data.endswith(b"\0") else data)


@dataclass(frozen=True, slots=True)
class AuthMoreData:
    """A plugin's further message from the server."""

    data: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The payload."""
        return bytes([AUTH_MORE_HEADER]) + self.data

    @classmethod
    def decode(cls, payload: bytes) -> AuthMoreData:
        """Raises ``ProtocolError`` when it is empty."""
        reader = Reader(payload, "the server's authentication message")
        reader.take(1)
        return cls(reader.rest())
