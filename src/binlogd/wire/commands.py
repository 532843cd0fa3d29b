"""What a client asks once it is logged in: one payload, led by its command byte.

Only what a replica, an administrator's client and a binlog reader need is understood; any other byte decodes
to ``Unknown``, which the server answers with ERR 1047. A client that has asked for a binlog dump speaks on
the same connection only to acknowledge (semi-sync, 0xEF) or to leave. (Source:
dev.mysql.com/doc/dev/mysql-server, page_protocol_replication, and rpl_binlog_sender/sql_binlog in
sql/rpl_source.cc, which read these bytes; plugin/semisync for the ACK.)

    REGISTER     server_id4, lenenc host, lenenc user, lenenc password, port2, rank4, source_id4
    DUMP         pos4, flags2, server_id4, name to the end
    DUMP_GTID    flags2, server_id4, namelen4, name, pos8, datalen4, data
    ACK          ef, pos8, name to the end

A binlog name ends at its first NUL, whatever length was said: mysqld reads it as a C string.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from binlogd.errors import ProtocolError, Refusal
from binlogd.wire.capabilities import Command as Byte
from binlogd.wire.codec import Reader, encode_lenenc_bytes

ACK_HEADER = 0xEF

MAX_DUMP_POSITION = 0xFFFFFFFF
"""The highest position that ``BinlogDump`` can say; beyond it only ``BinlogDumpGtid`` addresses a file."""


def _head(byte: Byte) -> bytes:
    return bytes([byte])


def _file_name(reader: Reader, raw: bytes) -> str:
    return reader.text(raw.partition(b"\0")[0])


@dataclass(frozen=True, slots=True)
class Query:
    """A statement in UTF-8."""

    sql: str

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.QUERY) + self.sql.encode()

    @classmethod
    def decode(cls, payload: bytes) -> Query:
        """Raises ``Refusal`` 1300 for text that is not UTF-8: a mistake of the statement, not of the
        connection.
        """
        try:
            return cls(payload[1:].decode("utf-8"))
        except UnicodeDecodeError as error:
            wrong = payload[1 + error.start : 1 + error.start + 6].hex(" ")
            raise Refusal(1300, "HY000", f"Invalid utf8mb4 character string: '{wrong}'") from error


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.PING)

    @classmethod
    def decode(cls, _payload: bytes) -> Ping:
        """From any payload of this command."""
        return cls()


@dataclass(frozen=True, slots=True)
class Statistics:
    """A line about the server, for people; the answer is that line alone."""

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.STATISTICS)

    @classmethod
    def decode(cls, _payload: bytes) -> Statistics:
        """From any payload of this command."""
        return cls()


@dataclass(frozen=True, slots=True)
class ResetConnection:
    """Forget what this session has set."""

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.RESET_CONNECTION)

    @classmethod
    def decode(cls, _payload: bytes) -> ResetConnection:
        """From any payload of this command."""
        return cls()


@dataclass(frozen=True, slots=True)
class Quit:
    """The client leaves; there is no answer."""

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.QUIT)

    @classmethod
    def decode(cls, _payload: bytes) -> Quit:
        """From any payload of this command."""
        return cls()


@dataclass(frozen=True, slots=True)
class InitDb:
    """USE database."""

    database: str

    def encode(self) -> bytes:
        """The payload."""
        return _head(Byte.INIT_DB) + self.database.encode()

    @classmethod
    def decode(cls, payload: bytes) -> InitDb:
        """Raises ``ProtocolError``."""
        reader = Reader(payload, "COM_INIT_DB")
        reader.take(1)
        return cls(reader.text(reader.rest()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterReplica:
    """COM_REGISTER_SLAVE: what SHOW REPLICAS will say about the client."""

    server_id: int
    host: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    port: int = 0
    rank: int = 0
    source_id: int = 0

    def encode(self) -> bytes:
        """The payload."""
        return b"".join(
            (
                _head(Byte.REGISTER_REPLICA),
                self.server_id.to_bytes(4, "little"),
                encode_lenenc_bytes(self.host.encode()),
                encode_lenenc_bytes(self.user.encode()),
                encode_lenenc_bytes(self.password.encode()),
                self.port.to_bytes(2, "little"),
                self.rank.to_bytes(4, "little"),
                self.source_id.to_bytes(4, "little"),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> RegisterReplica:
        """Raises ``ProtocolError``."""
        reader = Reader(payload, "COM_REGISTER_SLAVE")
        reader.take(1)
        return cls(
            server_id=reader.integer(4),
            host=reader.text(reader.lenenc_bytes()),
            user=reader.text(reader.lenenc_bytes()),
            password=reader.text(reader.lenenc_bytes()),
            port=reader.integer(2),
            rank=reader.integer(4),
            source_id=reader.integer(4),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BinlogDump:
    """COM_BINLOG_DUMP: stream from a position of a file; an empty name is the oldest file."""

    file: str
    position: int
    flags: int
    server_id: int

    def encode(self) -> bytes:
        """The payload. ``position`` ≤ ``MAX_DUMP_POSITION``."""
        return b"".join(
            (
                _head(Byte.BINLOG_DUMP),
                self.position.to_bytes(4, "little"),
                self.flags.to_bytes(2, "little"),
                self.server_id.to_bytes(4, "little"),
                self.file.encode(),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> BinlogDump:
        """Raises ``ProtocolError``."""
        reader = Reader(payload, "COM_BINLOG_DUMP")
        reader.take(1)
        return cls(
            position=reader.integer(4),
            flags=reader.integer(2),
            server_id=reader.integer(4),
            file=_file_name(reader, reader.rest()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BinlogDumpGtid:
    """COM_BINLOG_DUMP_GTID: stream what is not in a GTID set, or with an empty set from a 64-bit position.

    ``gtid_data`` is the encoded set as it stands on the wire; the GTID codec is not this package's.
    """

    file: str = ""
    position: int
    flags: int
    server_id: int
    gtid_data: bytes

    def encode(self) -> bytes:
        """The payload."""
        name = self.file.encode()
        return b"".join(
            (
                _head(Byte.BINLOG_DUMP_GTID),
                self.flags.to_bytes(2, "little"),
                self.server_id.to_bytes(4, "little"),
                len(name).to_bytes(4, "little"),
                name,
                self.position.to_bytes(8, "little"),
                len(self.gtid_data).to_bytes(4, "little"),
                self.gtid_data,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> BinlogDumpGtid:
        """Raises ``ProtocolError``."""
        reader = Reader(payload, "COM_BINLOG_DUMP_GTID")
        reader.take(1)
        flags = reader.integer(2)
        server_id = reader.integer(4)
        file = _file_name(reader, reader.take(reader.integer(4)))
        position = reader.integer(8)
        data = reader.take(reader.integer(4))
        return cls(file=file, position=position, flags=flags, server_id=server_id, gtid_data=data)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other command, by its byte; the answer is ERR 1047."""

    command: int


@dataclass(frozen=True, slots=True)
class Ack:
    """A semi-synchronous replica has everything up to this position of this file."""

    file: str
    position: int


Command = (
    Query
    | Ping
    | Statistics
    | ResetConnection
    | Quit
    | InitDb
    | RegisterReplica
    | BinlogDump
    | BinlogDumpGtid
    | Unknown
    | Ack
)

_DECODERS: dict[int, Callable[[bytes], Command]] = {
    Byte.QUERY: Query.decode,
    Byte.PING: Ping.decode,
    Byte.STATISTICS: Statistics.decode,
    Byte.RESET_CONNECTION: ResetConnection.decode,
    Byte.QUIT: Quit.decode,
    Byte.INIT_DB: InitDb.decode,
    Byte.REGISTER_REPLICA: RegisterReplica.decode,
    Byte.BINLOG_DUMP: BinlogDump.decode,
    Byte.BINLOG_DUMP_GTID: BinlogDumpGtid.decode,
}


def decode_command(payload: bytes) -> Command:
    """The command of a payload.

    Raises ``ProtocolError`` when it is malformed, ``Refusal`` when it is not UTF-8.
    """
    if not payload:
        raise ProtocolError("the client sent an empty packet where a command must stand")
    decoder = _DECODERS.get(payload[0])
    return Unknown(payload[0]) if decoder is None else decoder(payload)


def encode_ack(file: str, position: int) -> bytes:
    """The payload of a semi-sync acknowledgement; it travels with sequence id 0."""
    return bytes([ACK_HEADER]) + position.to_bytes(8, "little") + file.encode()


def decode_ack(payload: bytes) -> Ack:
    """Raises ``ProtocolError``."""
    reader = Reader(payload, "a semi-sync acknowledgement")
    if reader.integer(1) != ACK_HEADER:
        raise ProtocolError(f"a semi-sync acknowledgement must begin with 0xef, not {payload[0]:#04x}")
    position = reader.integer(8)
    return Ack(_file_name(reader, reader.rest()), position)


def decode_while_streaming(payload: bytes) -> Command:
    """What a client may say while a dump streams to it: an ``Ack``, or ``Quit``. Raises ``ProtocolError``."""
    if payload[:1] == _head(Byte.QUIT):
        return Quit()
    return decode_ack(payload)
