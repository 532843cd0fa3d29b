"""The events that carry GTIDs.

    PREVIOUS_GTIDS     the set of all GTIDs in earlier files, in the wire form of gtid.py
    GTID, ANONYMOUS…   flags1 sid16 gno8, since 5.7: clock_type1 = 2 last_committed8 sequence_number8,
                       since 8.0: immediate_ts7 [original_ts7] transaction_length (length-encoded)
                       immediate_version4 [original_version4] [ticket8]
    GTID_TAGGED        mysql::serialization: version, size of all, 1 + the last field a reader must know,
                       then fields, each led by its number: see ``_TAGGED``
    MariaDB GTID       seq_no8 domain4 flags1 [commit_id8 if flag 2] …; the server id is the header's
    MariaDB GTID_LIST  count (28 bits) and flags (4 bits), then {domain4 server_id4 seq_no8}

The top bit of immediate_ts and immediate_version says that the original's follows; else they are equal.
Sources: Gtid_event in mysql/binlog/event/control_events.{h,cpp}, libs/mysql/serialization/readme.md, and
MariaDB's sql/log_event.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from binlogd.binlog.gtid import GNO_MAX, GtidSet, GtidSyntaxError, format_gtid, valid_tag
from binlogd.binlog.header import (
    Body,
    Buffer,
    ChecksumAlgorithm,
    EventFlag,
    EventType,
    build,
    open_event,
)
from binlogd.errors import EventError

_LOGICAL_CLOCK: Final = 2  # LOGICAL_TIMESTAMP_TYPECODE
_TIMESTAMP_FLAG: Final = 1 << 55
_VERSION_FLAG: Final = 1 << 31

# The fields of GTID_TAGGED by number (Gtid_event::define_fields). The first four are always there.
_FLAGS, _UUID, _GNO, _TAG = 0, 1, 2, 3
_TAGGED: Final = {
    4: "last_committed",
    5: "sequence_number",
    6: "immediate_commit_timestamp",
    7: "original_commit_timestamp",
    8: "transaction_length",
    9: "immediate_server_version",
    10: "original_server_version",
    11: "commit_group_ticket",
}
_SIGNED: Final = frozenset({4, 5})


@dataclass(frozen=True, slots=True)
class PreviousGtids:
    """Second event of a file: every GTID in the files before it."""

    gtids: GtidSet

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> PreviousGtids:
        """Read a PREVIOUS_GTIDS event; EventError if its set is malformed."""
        _, body = open_event(event, checksum_length, EventType.PREVIOUS_GTIDS)
        try:
            return cls(GtidSet.decode(body.rest()))
        except GtidSyntaxError as error:
            raise body.bad(f"is malformed: {error}") from error

    def encode(self, *, server_id: int, algorithm: ChecksumAlgorithm, timestamp: int = 0, log_pos: int = 0) -> bytes:
        """The event as a server writes it: replicas that do not know the type may ignore it."""
        return build(
            EventType.PREVIOUS_GTIDS,
            self.gtids.encode(),
            algorithm=algorithm,
            server_id=server_id,
            timestamp=timestamp,
            log_pos=log_pos,
            flags=EventFlag.IGNORABLE,
        )


@dataclass(frozen=True, slots=True)
class GtidEvent:
    """A transaction begins. One class for GTID (33), ANONYMOUS_GTID (34: ``gno`` 0) and GTID_TAGGED (42).

    Timestamps are microseconds since 1970, versions like 80034, ``transaction_length`` is in bytes and
    includes this event. What the server is too old to write is None.
    """

    type: EventType
    flags: int
    sid: bytes
    tag: str
    gno: int
    last_committed: int | None = None
    sequence_number: int | None = None
    immediate_commit_timestamp: int | None = None
    original_commit_timestamp: int | None = None
    transaction_length: int | None = None
    immediate_server_version: int | None = None
    original_server_version: int | None = None
    commit_group_ticket: int | None = None

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> GtidEvent:
        """Read an event of any of the three types; EventError if it is malformed."""
        header, body = open_event(
            event, checksum_length, EventType.GTID, EventType.ANONYMOUS_GTID, EventType.GTID_TAGGED
        )
        if header.type == EventType.GTID_TAGGED:
            return cls._decode_tagged(body)
        kind = EventType(header.type)
        flags, sid, gno = body.uint(1), body.take(16), body.sint(8)
        if not (gno == 0 if kind is EventType.ANONYMOUS_GTID else 0 < gno <= GNO_MAX):
            raise body.bad(f"has the number {gno}")
        found: dict[str, int] = {}
        if len(body) and body.uint(1) == _LOGICAL_CLOCK:
            found["last_committed"] = body.sint(8)
            found["sequence_number"] = body.sint(8)
            _decode_commit(body, found)
        return cls(kind, flags, sid, "", gno, **found)

    @classmethod
    def _decode_tagged(cls, body: Body) -> GtidEvent:
        size_of_all = len(body)
        if (version := body.varlen()) != 1:
            raise body.bad(f"has serialization version {version}; only 1 is known")
        if (size := body.varlen()) != size_of_all:
            raise body.bad(f"claims {size} bytes of content and has {size_of_all}")
        if (needed := body.varlen()) > max(_TAGGED) + 1:
            raise body.bad(f"needs a reader that knows its field {needed - 1}; upgrade binlogd")
        flags, sid, gno, tag = 0, b"", 0, ""
        for wanted in (_FLAGS, _UUID, _GNO, _TAG):
            if (field := body.varlen()) != wanted:
                raise body.bad(f"has field {field} where field {wanted} belongs")
            if wanted == _FLAGS:
                flags = body.varlen()
            elif wanted == _UUID:
                values = [body.varlen() for _ in range(16)]
                if max(values) > 0xFF:
                    raise body.bad("has a UUID that is none")
                sid = bytes(values)
            elif wanted == _GNO:
                gno = body.varlen_signed()
            else:
                tag = body.text(body.varlen())
        if not 0 < gno <= GNO_MAX or (tag and not valid_tag(tag)):
            raise body.bad(f"has the invalid GTID {format_gtid(sid, tag[:40], gno)!r}")
        found: dict[str, int] = {}
        previous = _TAG
        while len(body):
            field = body.varlen()
            if field <= previous:
                raise body.bad(f"has field {field} after field {previous}")
            if field not in _TAGGED:
                break  # newer than we are and not needed: numbers rise, so only such fields follow
            found[_TAGGED[field]] = body.varlen_signed() if field in _SIGNED else body.varlen()
            previous = field
        for name in ("commit_timestamp", "server_version"):
            if f"immediate_{name}" in found:
                found.setdefault(f"original_{name}", found[f"immediate_{name}"])
        return cls(EventType.GTID_TAGGED, flags, sid, tag, gno, **found)

    def __str__(self) -> str:
        """The GTID as MySQL prints it, or ``ANONYMOUS``."""
        return format_gtid(self.sid, self.tag, self.gno) if self.gno else "ANONYMOUS"


def tagged_gtid(event: bytes | bytearray | memoryview, at: int, end: int) -> tuple[bytes, str, int]:
    """Of a GTID_TAGGED event whose body is ``event[at:end]`` only the (sid, tag, gno), for the hot modules.

    The body is mysql::serialization's: ``02`` version, varlen size, varlen last_non_ignorable id, then fields, each
    led by ``id << 1``: 0 flags, 1 uuid (16 varlen bytes), 2 gno (signed varlen), 3 tag (varlen length, bytes).
    """

    def varlen(at: int) -> tuple[int, int]:
        first = event[at]
        extra = 0
        while extra < 8 and first >> extra & 1:
            extra += 1
        if at + extra >= end:
            raise IndexError
        raw = int.from_bytes(event[at : at + extra + 1], "little")
        return (raw >> (extra + 1) if extra < 8 else raw >> 8), at + extra + 1

    try:
        if event[at] != 2:
            raise EventError(f"a GTID_TAGGED event has serialization version {event[at] >> 1}, not 1")
        _, at = varlen(at + 1)
        _, at = varlen(at)
        sid, tag, gno = b"", "", 0
        for wanted in range(4):
            field, at = varlen(at)
            if field != wanted:
                raise EventError(f"a GTID_TAGGED event has field {field} where field {wanted} belongs")
            if wanted == 0:
                _, at = varlen(at)
            elif wanted == 1:
                octets = bytearray()
                for _ in range(16):
                    octet, at = varlen(at)
                    if octet > 255:
                        raise ValueError(octet)
                    octets.append(octet)
                sid = bytes(octets)
            elif wanted == 2:
                zigzag, at = varlen(at)
                gno = zigzag >> 1 if not zigzag & 1 else -(zigzag >> 1) - 1
            else:
                length, at = varlen(at)
                if length > 32 or at + length > end:
                    raise IndexError
                tag = bytes(event[at : at + length]).decode("ascii")
                if tag and not valid_tag(tag):
                    raise ValueError(tag)
    except (IndexError, ValueError) as bad:
        raise EventError("a GTID_TAGGED event is cut short or malformed") from bad
    return sid, tag, gno


def _decode_commit(body: Body, found: dict[str, int]) -> None:
    """What 8.0 and newer add to a GTID event."""
    if not len(body):
        return
    when = body.uint(7)
    immediate = when & ~_TIMESTAMP_FLAG
    found["immediate_commit_timestamp"] = immediate
    found["original_commit_timestamp"] = body.uint(7) if when & _TIMESTAMP_FLAG else immediate
    if not len(body):
        return
    found["transaction_length"] = body.lenenc()
    if not len(body):
        return
    version = body.uint(4)
    immediate = version & ~_VERSION_FLAG
    found["immediate_server_version"] = immediate
    found["original_server_version"] = body.uint(4) if version & _VERSION_FLAG else immediate
    if len(body):
        found["commit_group_ticket"] = body.uint(8)


@dataclass(frozen=True, slots=True)
class MariadbGtid:
    """A MariaDB GTID, ``domain-server_id-seq_no``."""

    domain: int
    server_id: int
    seq_no: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server_id}-{self.seq_no}"


@dataclass(frozen=True, slots=True)
class MariadbGtidEvent:
    """MariaDB's GTID event (162), which also stands for BEGIN unless it is ``standalone``."""

    STANDALONE = 0x01
    GROUP_COMMIT_ID = 0x02
    DDL = 0x20
    PREPARED_XA = 0x40
    COMPLETED_XA = 0x80

    gtid: MariadbGtid
    flags: int
    commit_id: int | None

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> MariadbGtidEvent:
        """Read the event up to the commit id, which an XID and more may follow; EventError if cut short."""
        header, body = open_event(event, checksum_length, EventType.MARIADB_GTID)
        seq_no, domain, flags = body.uint(8), body.uint(4), body.uint(1)
        commit_id = body.uint(8) if flags & cls.GROUP_COMMIT_ID else None
        return cls(MariadbGtid(domain, header.server_id, seq_no), flags, commit_id)

    @property
    def standalone(self) -> bool:
        """One statement that commits itself follows, with no COMMIT or XID after it."""
        return bool(self.flags & self.STANDALONE)


@dataclass(frozen=True, slots=True)
class MariadbGtidList:
    """MariaDB's GTID_LIST event (163): of each domain and server the last GTID in the files before."""

    flags: int
    gtids: tuple[MariadbGtid, ...]

    @classmethod
    def decode(cls, event: Buffer, checksum_length: int) -> MariadbGtidList:
        """Read the event; EventError unless exactly as many GTIDs follow as it says."""
        _, body = open_event(event, checksum_length, EventType.MARIADB_GTID_LIST)
        head = body.uint(4)
        count = head & 0x0FFFFFFF
        if len(body) < count * 16:
            raise body.bad(f"claims {count} GTIDs in {len(body)} bytes")
        gtids = tuple(MariadbGtid(body.uint(4), body.uint(4), body.uint(8)) for _ in range(count))
        if count:
            body.end()  # an empty list is padded: old replicas take an event of 4 bytes for a cut one
        return cls(head >> 28, gtids)
