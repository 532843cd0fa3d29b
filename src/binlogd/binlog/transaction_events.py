"""The events that tell a transaction's course: statements, commits, prepares, whole compressed transactions.

    QUERY                thread4 exec_time4 schema_length1 error2 status_length2, status, schema NUL, text
    XID                  xid8
    XA_PREPARE           one_phase1 format_id4 gtrid_length4 bqual_length4, gtrid bqual
    TRANSACTION_PAYLOAD  {field, length, value} of length-encoded integers: 1 payload size, 2 compression,
                         3 uncompressed size; field 0 ends; the payload to the end
    INCIDENT             number2 message_length1 message
    STOP                 nothing

QUERY and TRANSACTION_PAYLOAD can be as large as 1 GiB, so these two are also read from their beginning alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from binlogd.binlog.header import Buffer, EventType, open_event

TEXT_LIMIT: Final = 4096  # bytes of a statement that are kept: enough for XA START, and for a line to show

_PAYLOAD_END, _PAYLOAD_SIZE, _PAYLOAD_COMPRESSION, _PAYLOAD_UNCOMPRESSED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Query:
    """A statement. ``text`` is its beginning, in the client's character set, of ``text_length`` bytes in all.

    ``compressed`` says that the text is MariaDB's QUERY_COMPRESSED and must be inflated first. ``exec_time``
    is in seconds; ``status`` holds the status variables as they came.
    """

    thread_id: int
    exec_time: int
    error_code: int
    schema: str
    status: bytes
    text: bytes
    text_length: int
    compressed: bool

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int, *, text_limit: int = TEXT_LIMIT) -> Query:
        """Read a QUERY event, whole or as far as it is there; EventError if that does not reach the text."""
        header, body = open_event(
            event, checksum_length, EventType.QUERY, EventType.MARIADB_QUERY_COMPRESSED, prefix=True
        )
        thread_id, exec_time = body.uint(4), body.uint(4)
        schema_length, error_code, status_length = body.uint(1), body.uint(2), body.uint(2)
        status = body.take(status_length)
        schema = body.text(schema_length)
        if body.take(1) != b"\0":
            raise body.bad("has a schema name that does not end")
        text_length = header.length - checksum_length - body.at
        return cls(
            thread_id,
            exec_time,
            error_code,
            schema,
            status,
            body.take(min(text_limit, len(body))),
            text_length,
            header.type == EventType.MARIADB_QUERY_COMPRESSED,
        )


@dataclass(frozen=True, slots=True)
class Xid:
    """COMMIT in a transactional engine."""

    xid: int

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> Xid:
        """Read an XID event; EventError if it is malformed."""
        _, body = open_event(event, checksum_length, EventType.XID)
        made = cls(body.uint(8))
        body.end()
        return made


@dataclass(frozen=True, slots=True)
class XaPrepare:
    """XA PREPARE, or XA COMMIT … ONE PHASE: the end of what a branch wrote."""

    one_phase: bool
    format_id: int
    gtrid: bytes
    bqual: bytes

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> XaPrepare:
        """Read an XA_PREPARE event; EventError if it is malformed."""
        _, body = open_event(event, checksum_length, EventType.XA_PREPARE)
        one_phase, format_id = body.uint(1) != 0, body.sint(4)
        gtrid_length, bqual_length = body.uint(4), body.uint(4)
        if gtrid_length > 64 or bqual_length > 64:  # MAXGTRIDSIZE, MAXBQUALSIZE
            raise body.bad(f"has an XID of {gtrid_length} + {bqual_length} bytes; 64 + 64 are the most")
        made = cls(one_phase, format_id, body.take(gtrid_length), body.take(bqual_length))
        body.end()
        return made

    def __str__(self) -> str:
        """The statement, as SHOW BINLOG EVENTS shows it."""
        xid = f"X'{self.gtrid.hex()}',X'{self.bqual.hex()}',{self.format_id}"
        return f"XA COMMIT {xid} ONE PHASE" if self.one_phase else f"XA PREPARE {xid}"


class Compression(IntEnum):
    """mysql::binlog::event::compression::type."""

    ZSTD = 0
    NONE = 255


@dataclass(frozen=True, slots=True)
class TransactionPayload:
    """A whole transaction, its COMMIT included, in one event; the events within carry no checksum.

    The payload is ``event[payload_offset:][:payload_size]``; ``compression`` a Compression or a newer number.
    """

    compression: int
    payload_size: int
    uncompressed_size: int
    payload_offset: int

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> TransactionPayload:
        """Read a TRANSACTION_PAYLOAD event, whole or as far as it is there; EventError if it is malformed."""
        header, body = open_event(event, checksum_length, EventType.TRANSACTION_PAYLOAD, prefix=True)
        compression: int = Compression.NONE
        size: int | None = None
        uncompressed: int | None = None
        while (field := body.lenenc()) != _PAYLOAD_END:
            length = body.lenenc()
            end = body.at + length
            if field == _PAYLOAD_SIZE:
                size = body.lenenc()
            elif field == _PAYLOAD_COMPRESSION:
                compression = body.lenenc()
            elif field == _PAYLOAD_UNCOMPRESSED:
                uncompressed = body.lenenc()
            else:
                body.take(length)
            if body.at != end:
                raise body.bad(f"gives its field {field} {length} bytes, which do not fit")
        if size is None or size != header.length - checksum_length - body.at:
            raise body.bad(f"claims a payload of {size} bytes, which is not what follows")
        if uncompressed is None:
            uncompressed = size
        return cls(compression, size, uncompressed, body.at)


@dataclass(frozen=True, slots=True)
class Incident:
    """The source lost events (number 1): what it logged is incomplete, and replicas stop here."""

    number: int
    message: str

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> Incident:
        """Read an INCIDENT event; EventError if it is malformed."""
        _, body = open_event(event, checksum_length, EventType.INCIDENT)
        number = body.uint(2)
        return cls(number, body.take(body.uint(1)).decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Stop:
    """The server shut down in order; its next file has another name."""

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> Stop:
        """Read a STOP event; EventError if it is malformed."""
        _, body = open_event(event, checksum_length, EventType.STOP)
        body.end()
        return cls()
