"""The events that steer replication rather than change data: what a file is, where it goes on, heartbeats.

    FORMAT_DESCRIPTION  version2 = 4, server_version50 (NUL-padded), created4, header_length1 = 19,
                        post_header_lengths (1 byte a type) [algorithm1 crc4]
    ROTATE              position8, name to the end
    HEARTBEAT           name to the end; the position is the header's log_pos, so it ends at 4 GiB
    HEARTBEAT_V2        {field, length, value}, integers length-encoded: 1 name, 2 position; 0 ends

The algorithm byte of FORMAT_DESCRIPTION and its own CRC are there since MySQL 5.6.1 and MariaDB 5.3, whatever
``binlog_checksum`` says. That CRC leaves out the IN_USE bit, which the server clears in place when it closes
the file (protocol.md §5). The functions at the end make and edit the events a dump begins with (§3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from struct import Struct
from typing import Final

from binlogd.binlog.header import (
    CRC_LENGTH,
    HEADER_LENGTH,
    Buffer,
    ChecksumAlgorithm,
    EventFlag,
    EventType,
    Header,
    build,
    checksum,
    open_event,
)
from binlogd.errors import EventError

BINLOG_VERSION: Final = 4  # since MySQL 5.0; nothing older can be a source here
VERSION_LENGTH: Final = 50  # ST_SERVER_VER_LEN

_FIXED = Struct(f"<H{VERSION_LENGTH}sIB")
_VERSION = re.compile(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})", re.ASCII)
_FLAGS_AT = 17
_LOG_POS_AT = 13
_CREATED_AT = HEADER_LENGTH + 2 + VERSION_LENGTH

_HEARTBEAT_END, _HEARTBEAT_NAME, _HEARTBEAT_POSITION = 0, 1, 2

_u16 = Struct("<H")
_u32 = Struct("<I")
_u64 = Struct("<Q")


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """What the first event of a file says about the others.

    ``created`` is when the server started (seconds) if this file was its first, else 0. ``algorithm`` is
    UNDEF for servers older than checksums. ``post_header_lengths[type - 1]`` is a type's.
    """

    server_version: str
    created: int
    post_header_lengths: bytes
    algorithm: ChecksumAlgorithm

    @classmethod
    def decode(cls, event: Buffer) -> FormatDescription:
        """Read a FORMAT_DESCRIPTION event; EventError also for a binlog version other than 4.

        Its CRC is not checked: the IN_USE bit must be cleared first, see ``clear_in_use``.
        """
        _, body = open_event(event, 0, EventType.FORMAT_DESCRIPTION)
        version, raw_name, created, header_length = _FIXED.unpack(body.take(_FIXED.size))
        if version != BINLOG_VERSION or header_length != HEADER_LENGTH:
            raise body.bad(f"has version {version}, header length {header_length}; only 4 and 19 are supported")
        try:
            name = raw_name.partition(b"\0")[0].decode("ascii")
        except UnicodeDecodeError:
            raise body.bad(f"has the server version {raw_name!r}, which is not ASCII") from None
        if not has_checksum_byte(name):
            return cls(name, created, body.rest(), ChecksumAlgorithm.UNDEF)
        if len(body) < 1 + CRC_LENGTH:
            raise body.bad(f"of server {name} is cut short before its checksum algorithm")
        lengths = body.take(len(body) - 1 - CRC_LENGTH)
        number = body.uint(1)
        try:
            return cls(name, created, lengths, ChecksumAlgorithm(number))
        except ValueError:
            raise body.bad(f"names the unknown checksum algorithm {number}") from None

    def encode(self, *, server_id: int, timestamp: int = 0, log_pos: int = 0, flags: int = 0) -> bytes:
        """The event; its CRC is computed without IN_USE, whatever ``flags`` say."""
        name = self.server_version.encode("ascii")
        if len(name) > VERSION_LENGTH:
            raise ValueError(f"a server version has at most {VERSION_LENGTH} characters: {self.server_version!r}")
        body = _FIXED.pack(BINLOG_VERSION, name, self.created, HEADER_LENGTH) + self.post_header_lengths
        algorithm = ChecksumAlgorithm.UNDEF
        if has_checksum_byte(self.server_version):
            body += bytes((self.algorithm,))
            algorithm = ChecksumAlgorithm.CRC32
        made = build(
            EventType.FORMAT_DESCRIPTION,
            body,
            algorithm=algorithm,
            server_id=server_id,
            timestamp=timestamp,
            log_pos=log_pos,
            flags=flags & ~EventFlag.IN_USE,
        )
        return made[:_FLAGS_AT] + _u16.pack(flags) + made[_FLAGS_AT + 2 :]


def has_checksum_byte(server_version: str) -> bool:
    """Whether this server's FORMAT_DESCRIPTION ends in an algorithm and a CRC; EventError if none can tell.

    ``checksum_version_product`` is 5.6.1, MariaDB's 5.3.0.
    """
    found = _VERSION.match(server_version.removeprefix("5.5.5-"))  # MariaDB 10's disguise for old replicas
    if not found:
        raise EventError(f"a Format_desc event names the server version {server_version!r}, which cannot be read")
    least = (5, 3, 0) if "mariadb" in server_version.lower() else (5, 6, 1)
    return tuple(map(int, found.groups())) >= least


@dataclass(frozen=True, slots=True)
class Rotate:
    """The log goes on in file ``name`` at ``position`` (4 but for a dump that begins further on)."""

    position: int
    name: str

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> Rotate:
        """Read a ROTATE event; EventError also for a name that is not a bare file name."""
        _, body = open_event(event, checksum_length, EventType.ROTATE)
        return cls(body.uint(8), body.file_name(len(body)))

    def encode(
        self,
        *,
        server_id: int,
        algorithm: ChecksumAlgorithm,
        timestamp: int = 0,
        log_pos: int = 0,
        flags: int = 0,
    ) -> bytes:
        """The event."""
        return build(
            EventType.ROTATE,
            _u64.pack(self.position) + self.name.encode(),
            algorithm=algorithm,
            server_id=server_id,
            timestamp=timestamp,
            log_pos=log_pos,
            flags=flags,
        )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The source is alive, and everything up to ``position`` of file ``name`` has been sent or skipped."""

    name: str
    position: int

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> Heartbeat:
        """Read a HEARTBEAT or HEARTBEAT_V2 event; EventError if it is malformed or lacks name or position."""
        header, body = open_event(event, checksum_length, EventType.HEARTBEAT, EventType.HEARTBEAT_V2)
        if header.type == EventType.HEARTBEAT:
            return cls(body.file_name(len(body)), header.log_pos)
        name: str | None = None
        position: int | None = None
        while (field := body.lenenc()) != _HEARTBEAT_END:
            length = body.lenenc()
            if field == _HEARTBEAT_NAME:
                name = body.file_name(length)
            elif field == _HEARTBEAT_POSITION:
                start = body.at
                position = body.lenenc()
                if body.at - start != length:
                    raise body.bad(f"gives its position {length} bytes and uses {body.at - start}")
            else:
                body.take(length)
        body.end()
        if name is None or position is None:
            raise body.bad("lacks the file name or the position")
        return cls(name, position)


def heartbeat_v1(name: str, position: int, *, server_id: int, algorithm: ChecksumAlgorithm) -> bytes:
    """A HEARTBEAT event; ValueError beyond 4 GiB, where a replica would take its position for an old one."""
    if position > 0xFFFFFFFF:
        raise ValueError(f"position {position} does not fit a version 1 heartbeat")
    return build(EventType.HEARTBEAT, name.encode(), algorithm=algorithm, server_id=server_id, log_pos=position)


def heartbeat_v2(name: str, position: int, *, server_id: int, algorithm: ChecksumAlgorithm) -> bytes:
    """A HEARTBEAT_V2 event, for replicas that set the flag in their dump request (protocol.md §2).

    Like a real source's it has the position's lower half in log_pos as well.
    """
    raw = name.encode()
    place = _lenenc(position)
    body = (
        _lenenc(_HEARTBEAT_NAME)
        + _lenenc(len(raw))
        + raw
        + _lenenc(_HEARTBEAT_POSITION)
        + _lenenc(len(place))
        + place
        + _lenenc(_HEARTBEAT_END)
    )
    return build(EventType.HEARTBEAT_V2, body, algorithm=algorithm, server_id=server_id, log_pos=position)


def fake_rotate(name: str, position: int, *, server_id: int, algorithm: ChecksumAlgorithm) -> bytes:
    """The artificial ROTATE before each file of a dump: timestamp 0, log_pos 0.

    ``algorithm`` is the previous file's; before the first file what the replica announced (protocol.md §5).
    """
    return Rotate(position, name).encode(server_id=server_id, algorithm=algorithm, flags=EventFlag.ARTIFICIAL)


def clear_in_use(fde: Buffer) -> bytes:
    """A checked FORMAT_DESCRIPTION event without its IN_USE bit, and with the CRC that belongs to it."""
    return _edited(fde)


def with_created_zero(fde: Buffer) -> bytes:
    """The FORMAT_DESCRIPTION of a dump by GTID that begins within the file: IN_USE cleared, created 0.

    Created 0 keeps a replica from dropping temporary tables as it would after a restart of its source.
    """
    return _edited(fde, created=0)


def for_position_start(fde: Buffer) -> bytes:
    """The FORMAT_DESCRIPTION of a dump from a position beyond 4: IN_USE cleared, created 0 and log_pos 0."""
    return _edited(fde, created=0, log_pos=0)


def _edited(fde: Buffer, *, created: int | None = None, log_pos: int | None = None) -> bytes:
    algorithm = FormatDescription.decode(fde).algorithm
    out = bytearray(fde)
    flags = Header.decode(fde).flags
    _u16.pack_into(out, _FLAGS_AT, flags & ~EventFlag.IN_USE)
    if created is not None:
        _u32.pack_into(out, _CREATED_AT, created)
    if log_pos is not None:
        _u32.pack_into(out, _LOG_POS_AT, log_pos)
    if algorithm is not ChecksumAlgorithm.UNDEF:
        _u32.pack_into(out, len(out) - CRC_LENGTH, checksum(memoryview(out)[:-CRC_LENGTH]))
    return bytes(out)


def _lenenc(value: int) -> bytes:
    if value < 0xFB:
        return bytes((value,))
    for lead, size in ((0xFC, 2), (0xFD, 3)):
        if value < 1 << 8 * size:
            return bytes((lead,)) + value.to_bytes(size, "little")
    return b"\xfe" + value.to_bytes(8, "little")
