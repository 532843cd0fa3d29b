"""What all events of a binary log share: header, types, checksum, and the reading of a body.

An event, all integers little-endian (mysql/binlog/event/binlog_event.h)::

    0 timestamp4 | 4 type1 | 5 server_id4 | 9 length4 | 13 log_pos4 | 17 flags2 | 19 body … | [crc4]

``length`` counts everything, ``log_pos`` is where the event ends in its file modulo 2**32, and the CRC-32
covers all bytes before it. Whether there is one the file's FORMAT_DESCRIPTION event says.

Whatever bytes a peer sends, a decoder either returns or raises EventError: every read goes through ``Body``,
which checks bounds first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from binlogd.binlog.crc import crc32
from binlogd.errors import EventError

BINLOG_MAGIC: Final = b"\xfebin"
HEADER_LENGTH: Final = 19
CRC_LENGTH: Final = 4
FILE_NAME_MAX: Final = 255  # bytes: a source's file name becomes one on our disk (NAME_MAX)

Buffer = bytes | bytearray | memoryview

_header = Struct("<IBIIIH")
_u32 = Struct("<I")


class EventType(IntEnum):
    """Every type MySQL (to 9.x) and MariaDB (to 11.x) give a number; ``Header.type`` may hold others."""

    UNKNOWN = 0
    START_V3 = 1
    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    LOAD = 6
    SLAVE = 7
    CREATE_FILE = 8
    APPEND_BLOCK = 9
    EXEC_LOAD = 10
    DELETE_FILE = 11
    NEW_LOAD = 12
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    PRE_GA_WRITE_ROWS = 20
    PRE_GA_UPDATE_ROWS = 21
    PRE_GA_DELETE_ROWS = 22
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42
    MARIADB_ANNOTATE_ROWS = 160
    MARIADB_BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    MARIADB_GTID_LIST = 163
    MARIADB_START_ENCRYPTION = 164
    MARIADB_QUERY_COMPRESSED = 165
    MARIADB_WRITE_ROWS_COMPRESSED_V1 = 166
    MARIADB_UPDATE_ROWS_COMPRESSED_V1 = 167
    MARIADB_DELETE_ROWS_COMPRESSED_V1 = 168
    MARIADB_WRITE_ROWS_COMPRESSED = 169
    MARIADB_UPDATE_ROWS_COMPRESSED = 170
    MARIADB_DELETE_ROWS_COMPRESSED = 171


# The names of SHOW BINLOG EVENTS (Log_event::get_type_str), where they are not the member's own, capitalised.
_NAMES: Final = {
    EventType.RAND: "RAND",
    EventType.USER_VAR: "User var",
    EventType.FORMAT_DESCRIPTION: "Format_desc",
    EventType.PRE_GA_WRITE_ROWS: "Write_rows_event_old",
    EventType.PRE_GA_UPDATE_ROWS: "Update_rows_event_old",
    EventType.PRE_GA_DELETE_ROWS: "Delete_rows_event_old",
    EventType.ANONYMOUS_GTID: "Anonymous_Gtid",
    EventType.XA_PREPARE: "XA_prepare",
    EventType.PARTIAL_UPDATE_ROWS: "Update_rows_partial",
    EventType.HEARTBEAT_V2: "Heartbeat",
    EventType.GTID_TAGGED: "Gtid_tagged_log_event",
}


def type_name(kind: int) -> str:
    """The name of an event type as in SHOW BINLOG EVENTS; ``Unknown`` for one MySQL does not know either."""
    try:
        member = EventType(kind)
    except ValueError:
        return "Unknown"
    return _NAMES.get(member) or member.name.removeprefix("MARIADB_").capitalize()


class EventFlag(IntFlag):
    """Bits of ``Header.flags`` (log_event.h; the last is MariaDB's)."""

    IN_USE = 0x0001  # FORMAT_DESCRIPTION only: the file was not closed. Not covered by the checksum
    THREAD_SPECIFIC = 0x0004
    SUPPRESS_USE = 0x0008
    ARTIFICIAL = 0x0020  # made for the stream; never stored
    RELAY_LOG = 0x0040
    IGNORABLE = 0x0080
    NO_FILTER = 0x0100
    MTS_ISOLATE = 0x0200
    SKIP_REPLICATION = 0x8000


class ChecksumAlgorithm(IntEnum):
    """What ends each event of a file (enum_binlog_checksum_alg)."""

    OFF = 0
    CRC32 = 1
    UNDEF = 255  # the file is older than checksums: not even its FORMAT_DESCRIPTION has one

    @property
    def length(self) -> int:
        """Bytes at the end of every event but FORMAT_DESCRIPTION."""
        return CRC_LENGTH if self is ChecksumAlgorithm.CRC32 else 0


@dataclass(frozen=True, slots=True)
class Header:
    """The first 19 bytes. ``timestamp`` is in seconds; ``type`` an EventType or a number nobody knows yet."""

    timestamp: int
    type: int
    server_id: int
    length: int
    log_pos: int
    flags: int

    @classmethod
    def decode(cls, data: Buffer, at: int = 0) -> Header:
        """Read the header at ``at``; EventError if it is cut short or its length does not even cover it."""
        if len(data) - at < HEADER_LENGTH:
            raise EventError(f"an event's header is cut short: {max(len(data) - at, 0)} bytes of {HEADER_LENGTH}")
        header = cls(*_header.unpack_from(data, at))
        if header.length < HEADER_LENGTH:
            raise EventError(f"a {type_name(header.type)} event claims {header.length} bytes, less than its header")
        return header

    def encode(self) -> bytes:
        """The 19 bytes."""
        return _header.pack(self.timestamp, self.type, self.server_id, self.length, self.log_pos, self.flags)


def checksum(event: Buffer) -> int:
    """The CRC-32 of an event given without its last four bytes."""
    return crc32(event)


def with_checksum(event: Buffer, algorithm: ChecksumAlgorithm) -> bytes:
    """``event``, which has no checksum, with the one ``algorithm`` asks for and its length set to match."""
    out = bytearray(event)
    _u32.pack_into(out, 9, len(out) + algorithm.length)
    if algorithm is ChecksumAlgorithm.CRC32:
        out += _u32.pack(checksum(out))
    return bytes(out)


def build(
    kind: EventType,
    body: bytes,
    *,
    algorithm: ChecksumAlgorithm,
    server_id: int,
    timestamp: int = 0,
    log_pos: int = 0,
    flags: int = 0,
) -> bytes:
    """A whole event around ``body``. ``log_pos`` is written modulo 2**32, as servers do."""
    header = Header(timestamp, kind, server_id, 0, log_pos & 0xFFFFFFFF, flags)
    return with_checksum(header.encode() + body, algorithm)


class Body:
    """A cursor over an event's body that raises EventError instead of reading past the end."""

    __slots__ = ("_view", "at", "name")

    def __init__(self, view: memoryview, at: int, name: str) -> None:
        self._view = view
        self.at = at
        self.name = name

    def __len__(self) -> int:
        """Bytes left."""
        return len(self._view) - self.at

    def bad(self, what: str) -> EventError:
        """An error about this event, for the caller to raise: ``what`` follows "a Rotate event"."""
        return EventError(f"{'an' if self.name[0] in 'AIU' else 'a'} {self.name} event {what}")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self):
            raise self.bad(f"is cut short: {size} bytes are missing or more, {len(self)} are left")
        self.at += size
        return bytes(self._view[self.at - size : self.at])

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self))

    def uint(self, size: int) -> int:
        """An unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def sint(self, size: int) -> int:
        """A signed integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little", signed=True)

    def lenenc(self) -> int:
        """A length-encoded integer of the client/server protocol: 1, 3, 4 or 9 bytes."""
        first = self.uint(1)
        if first < 0xFB:
            return first
        if first in (0xFB, 0xFF):
            raise self.bad(f"has {first:#x} where a length belongs")
        return self.uint({0xFC: 2, 0xFD: 3, 0xFE: 8}[first])

    def varlen(self) -> int:
        """An unsigned integer of mysql::serialization: 1 to 9 bytes.

        The trailing one-bits of the first byte count the bytes that follow; the value stands above them and
        the zero that ends them. Eight ones leave no such zero: the value is the eight bytes that follow.
        """
        first = self.uint(1)
        extra = (~first & (first + 1)).bit_length() - 1  # the place of the lowest zero bit
        raw = first | int.from_bytes(self.take(extra), "little") << 8
        return raw >> (extra + 1 if extra < 8 else 8)

    def varlen_signed(self) -> int:
        """A signed integer of mysql::serialization: the sign in bit 0, the others inverted if it is set."""
        raw = self.varlen()
        return raw >> 1 ^ -(raw & 1)

    def text(self, size: int) -> str:
        """``size`` bytes of UTF-8."""
        raw = self.take(size)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.bad(f"holds {raw[:40]!r} where UTF-8 text belongs") from None

    def file_name(self, size: int) -> str:
        """``size`` bytes that name a binary log: a bare name, since it becomes a file's name on our disk."""
        name = self.text(size)
        if not 0 < size <= FILE_NAME_MAX or name in (".", "..") or "/" in name or not name.isprintable():
            raise self.bad(f"names the file {name[:80]!r}, which cannot be a binary log's name")
        return name

    def end(self) -> None:
        """Nothing may be left."""
        if len(self):
            raise self.bad(f"has {len(self)} bytes more than it should")


def open_event(event: Buffer, checksum_length: int, *types: EventType, prefix: bool = False) -> tuple[Header, Body]:
    """The header of an event of one of ``types``, and a cursor over its body, which leaves out the checksum.

    ``event`` is the whole event, or with ``prefix`` as much of it as the caller has. EventError if it is not.
    """
    header = Header.decode(event)
    name = type_name(header.type)
    if header.type not in types:
        raise EventError(f"a {name} event stands where {' or '.join(map(type_name, types))} belongs")
    if len(event) > header.length or (len(event) < header.length and not prefix):
        raise EventError(f"a {name} event claims {header.length} bytes and has {len(event)}")
    end = header.length - checksum_length
    if end < HEADER_LENGTH:
        raise EventError(f"a {name} event of {header.length} bytes has no room for its checksum")
    return header, Body(memoryview(event)[:end], HEADER_LENGTH, name)
