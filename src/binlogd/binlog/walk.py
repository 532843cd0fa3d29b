"""The hot module, first half: following a file's events, wherever their bytes come from.

A ``Walk`` knows the offset behind the last whole event (``position``), the offset behind the last whole transaction
(``transaction_end``) and what the events in between add: GTIDs, times, a sparse list of places to seek to. It checks
of every event the length, the CRC-32 and that the event's own idea of its end (``end_log_pos``, modulo 2**32) is
ours.

Bytes of an event (all integers little-endian; mysql/binlog/event/binlog_event.h)::

    0 timestamp4 | 4 type1 | 5 server_id4 | 9 event_length4 | 13 end_log_pos4 | 17 flags2 | 19 body … | [crc4]

A transaction is what MySQL's own Transaction_boundary_parser takes for one::

    state      event                                          next state
    OUTSIDE    GTID, ANONYMOUS_GTID, INTVAR, RAND, USER_VAR   PENDING
    OUTSIDE    QUERY BEGIN | XA START                         INSIDE
    OUTSIDE    anything else                                  OUTSIDE, a transaction end
    PENDING    QUERY BEGIN | XA START, TABLE_MAP              INSIDE
    PENDING    QUERY, XID, XA_PREPARE, INCIDENT, PAYLOAD      OUTSIDE, a transaction end
    INSIDE     XID, XA_PREPARE, PAYLOAD,
               QUERY COMMIT | ROLLBACK | XA COMMIT | XA ROLLBACK   OUTSIDE, a transaction end

MariaDB's GTID event replaces BEGIN unless it says that it stands alone.

Buffers are walked in place; nothing is held per transaction. An event that fits is taken whole; a large one streams
through with its CRC running, so that memory does not grow with the event. Only what happens rarely (a new file, a
gap in the GTIDs, a place to seek to every MiB) makes a Python object.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import GNO_MAX, valid_tag
from binlogd.errors import EventError

HEADER_LENGTH = 19
WHOLE_LIMIT = 512 * 1024  # events up to this are taken whole: half of the smallest buffer that is used
PREFIX = 128 * 1024  # of a larger event this much is looked at: a QUERY's status variables end within 64 KiB
MAX_EVENT = 0x40000000 + 0x10000  # max_allowed_packet's ceiling of 1 GiB, and headers
MARK_SPACING = 1024 * 1024  # a seek reads at most about this much: one block

# Event types (mysql/binlog/event/binlog_event.h; MariaDB's from log_event.h).
_QUERY = 2
_INTVAR = 5
_RAND = 13
_USER_VAR = 14
_FORMAT_DESCRIPTION = 15
_XID = 16
_TABLE_MAP = 19
_INCIDENT = 26
_GTID = 33
_ANONYMOUS_GTID = 34
_XA_PREPARE = 38
_TRANSACTION_PAYLOAD = 40
_GTID_TAGGED = 42
_MARIADB_GTID = 162
_MARIADB_QUERY_COMPRESSED = 165

_MARIADB_STANDALONE = 1  # Gtid_log_event::FL_STANDALONE

_header = Struct("<IBIIIH").unpack_from
_u64 = Struct("<Q").unpack_from
_u32 = Struct("<I").unpack_from

# What an event means to the transaction it stands in.
_NEUTRAL, _STARTS, _OPENS, _STATEMENT, _COMMITS, _PREPARES = range(6)
_MEANING = [_NEUTRAL] * 256
for _type in (_GTID, _ANONYMOUS_GTID, _GTID_TAGGED, _MARIADB_GTID):
    _MEANING[_type] = _STARTS
for _type in (_INTVAR, _RAND, _USER_VAR):
    _MEANING[_type] = _PREPARES
for _type in (_XID, _XA_PREPARE, _TRANSACTION_PAYLOAD):
    _MEANING[_type] = _COMMITS
for _type in (_QUERY, _INCIDENT, _MARIADB_QUERY_COMPRESSED):
    _MEANING[_type] = _STATEMENT
_MEANING[_TABLE_MAP] = _OPENS


class Boundary(IntEnum):
    """Where a walk stands between transactions."""

    OUTSIDE = 0
    PENDING = 1
    INSIDE = 2


_OUTSIDE, _PENDING, _INSIDE = 0, 1, 2  # plain ints: an enum member costs a look-up an event


class GtidRun(NamedTuple):
    """Consecutive GTIDs ``sid:tag:first-last`` in the order they were walked."""

    sid: bytes
    tag: str
    first: int
    last: int


class Mark(NamedTuple):
    """A transaction begins at ``offset`` with this GTID (``gno`` 0: it has none) and time (seconds)."""

    offset: int
    timestamp: int
    sid: bytes
    tag: str
    gno: int


def tagged_gtid(event: bytes | bytearray | memoryview, at: int, end: int) -> tuple[bytes, str, int]:
    """The (sid, tag, gno) of a GTID_TAGGED event whose body is ``event[at:end]``.

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


class Walk:
    """Follows the events of one file; see the module's theory.

    ``position`` and ``transaction_end`` are offsets into the file; ``checksum`` is the length of the CRC (4 or 0);
    ``first_time`` and ``last_time`` are the events' seconds since the epoch, 0 while there is none.
    """

    __slots__ = (
        "_crc",
        "_group_gno",
        "_group_sid",
        "_group_start",
        "_group_tag",
        "_group_time",
        "_last_mark",
        "_left",
        "_meaning",
        "_run_first",
        "_run_last",
        "_run_sid",
        "_run_tag",
        "_runs",
        "_tail",
        "_time",
        "boundary",
        "checksum",
        "first_time",
        "last_time",
        "length",
        "marks",
        "position",
        "transaction_end",
        "transactions",
        "type",
    )

    def __init__(self, *, position: int, checksum: int) -> None:
        self.position = position
        self.transaction_end = position
        self.checksum = checksum
        self.boundary = _OUTSIDE
        self.transactions = 0
        self.first_time = 0
        self.last_time = 0
        self.marks: list[Mark] = []
        self.type = 0  # of the event last begun
        self.length = 0  # of the event last begun
        self._last_mark = -MARK_SPACING
        self._runs: list[GtidRun] = []
        self._run_sid = b""
        self._run_tag = ""
        self._run_first = 0
        self._run_last = 0
        self._group_start = position
        self._group_time = 0
        self._group_sid = b""
        self._group_tag = ""
        self._group_gno = 0
        self._left = 0  # bytes of a large event still to come
        self._crc = 0
        self._tail = b""  # what has come of the CRC of a large event
        self._meaning = _NEUTRAL
        self._time = 0  # of the event last begun

    def take_gtids(self) -> list[GtidRun]:
        """The GTIDs of the whole transactions walked since this was last asked, as runs."""
        if self._run_first:
            self._runs.append(GtidRun(self._run_sid, self._run_tag, self._run_first, self._run_last))
            self._run_first = 0
        runs = self._runs
        self._runs = []
        return runs

    def rewind(self) -> None:
        """Stand at the end of the last whole transaction again: what came behind it will come once more."""
        self.position = self.transaction_end
        self.boundary = _OUTSIDE
        self._group_sid, self._group_tag, self._group_gno = b"", "", 0
        self._left = 0

    def whole(self, buffer: bytearray | memoryview | bytes, at: int, length: int) -> None:
        """Walk the event ``buffer[at:at + length]``."""
        self._begin(buffer, at, length, at + length)
        checksum = 4 if self.type == _FORMAT_DESCRIPTION else self.checksum
        if checksum:
            end = at + length - 4
            if crc32(memoryview(buffer)[at:end]) != _u32(buffer, end)[0]:
                raise self._bad_checksum()
        self._finish()

    def begin_large(self, buffer: bytearray | memoryview | bytes, at: int, end: int) -> int:
        """Begin the event at ``at``, of which ``buffer[at:end]`` (at least PREFIX bytes) is there; its length.

        The bytes themselves are passed to ``feed_large``, from the first on.
        """
        self._begin(buffer, at, int(_u32(buffer, at + 9)[0]), end)
        self._left = self.length
        self._crc = 0
        self._tail = b""
        return self.length

    def feed_large(self, piece: memoryview) -> bool:
        """Take the next bytes of the large event; True when it is whole and sound."""
        body = self._left - self.checksum
        if body > 0:
            self._crc = crc32(piece[:body], self._crc) if self.checksum else 0
        if self.checksum and len(piece) > body:
            self._tail += bytes(piece[max(body, 0) :])
        self._left -= len(piece)
        if self._left:
            return False
        if self.checksum and self._crc != int.from_bytes(self._tail, "little"):
            raise self._bad_checksum()
        self._finish()
        return True

    @property
    def large_left(self) -> int:
        """Bytes of the large event under way that are still to come; 0: none is."""
        return self._left

    def walk(self, buffer: bytearray | memoryview, start: int, end: int) -> int:
        """Walk a file's bytes ``buffer[start:end]``, the first being at ``position``; how far it came.

        What is left behind the returned index is the beginning of an event of at most WHOLE_LIMIT (or PREFIX of a
        larger one), to be offered again with more behind it.
        """
        at = start
        view = memoryview(buffer)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                self.feed_large(view[at : at + size])
                at += size
                continue
            if end - at < HEADER_LENGTH:
                break
            length = _u32(buffer, at + 9)[0]
            if length <= end - at:
                self.whole(buffer, at, length)
                at += length
            elif length <= WHOLE_LIMIT or end - at < PREFIX:
                self._check(buffer[at + 4], length, _u32(buffer, at + 13)[0])
                break
            else:
                self.begin_large(buffer, at, end)
        return at

    def _begin(self, buffer: bytearray | memoryview | bytes, at: int, length: int, end: int) -> None:
        timestamp, kind, _, own_length, log_pos, _ = _header(buffer, at)
        if own_length != length or not HEADER_LENGTH + self.checksum <= length <= MAX_EVENT:
            raise self._bad_length(kind, own_length)
        if log_pos and log_pos != (self.position + length) & 0xFFFFFFFF:
            raise self._bad_end(kind, length, log_pos)
        self.type = kind
        self.length = length
        self._time = timestamp
        meaning = _MEANING[kind]
        if meaning == _STARTS:
            self._group(buffer, at, end, kind, timestamp)
        elif meaning == _STATEMENT and kind == _QUERY:
            meaning = self._statement(buffer, at, length, end)
        if self.boundary == _OUTSIDE and meaning != _STARTS:
            self._group_start = self.position  # a transaction may begin without a GTID event
            self._group_time = timestamp
        self._meaning = meaning

    def _finish(self) -> None:
        self.position += self.length
        timestamp = self._time
        if timestamp:
            self.last_time = timestamp
            if not self.first_time:
                self.first_time = timestamp
        meaning = self._meaning
        if meaning == _NEUTRAL:
            if self.boundary == _OUTSIDE:
                self.transaction_end = self.position
        elif meaning == _COMMITS or (meaning == _STATEMENT and self.boundary != _INSIDE):
            self._commit()
        elif meaning == _OPENS:
            self.boundary = _INSIDE
        elif meaning == _STARTS:
            self.boundary = _INSIDE if self._group_gno < 0 else _PENDING
        elif meaning == _PREPARES and self.boundary == _OUTSIDE:
            self.boundary = _PENDING

    def _group(self, buffer: bytearray | memoryview | bytes, at: int, end: int, kind: int, timestamp: int) -> None:
        """A GTID event opens a group: remember which, to count it when the group is whole."""
        self._group_start = self.position
        self._group_time = timestamp
        self._group_sid, self._group_tag, self._group_gno = b"", "", 0
        body = at + HEADER_LENGTH
        if end - body - self.checksum < 25 - 12 * (kind == _MARIADB_GTID):
            raise EventError(f"the GTID event at {self.position} is cut short")
        if kind == _GTID or kind == _GTID_TAGGED:
            if kind == _GTID:
                sid, tag, gno = bytes(buffer[body + 1 : body + 17]), "", _u64(buffer, body + 17)[0]
            else:
                sid, tag, gno = tagged_gtid(buffer, body, end - self.checksum)
            if not 0 < gno <= GNO_MAX:
                raise EventError(f"the GTID event at {self.position} has the number {gno}")
            self._group_sid, self._group_tag, self._group_gno = sid, tag, gno
        elif kind == _MARIADB_GTID and not buffer[body + 12] & _MARIADB_STANDALONE:
            self._group_gno = -1  # opens a transaction by itself, and is no GTID of MySQL's

    def _statement(self, buffer: bytearray | memoryview | bytes, at: int, length: int, end: int) -> int:
        """What a QUERY event's text means: post-header thread4 time4 schema_len1 error2 status_len2."""
        if length < HEADER_LENGTH + 13 + 1 + self.checksum:
            raise EventError(f"the QUERY event at {self.position} is cut short")
        text = at + HEADER_LENGTH + 13 + (buffer[at + 30] | buffer[at + 31] << 8) + buffer[at + 27] + 1
        size = at + length - self.checksum - text
        if size < 0 or text + min(size, 12) > end:
            raise EventError(f"the QUERY event at {self.position} is cut short")
        if size == 5:
            if bytes(buffer[text : text + 5]) == b"BEGIN":
                return _OPENS
        elif size == 6:
            if bytes(buffer[text : text + 6]) == b"COMMIT":
                return _COMMITS
        elif size == 8:
            if bytes(buffer[text : text + 8]) == b"ROLLBACK":
                return _COMMITS
        elif size > 8 and buffer[text] == 0x58:  # X
            words = bytes(buffer[text : text + 12])
            if words.startswith(b"XA START"):
                return _OPENS
            if words.startswith((b"XA COMMIT", b"XA ROLLBACK")):
                return _COMMITS
        return _STATEMENT

    def _commit(self) -> None:
        """A transaction is whole: it ends here, and its GTID counts."""
        self.boundary = _OUTSIDE
        self.transactions += 1
        self.transaction_end = self.position
        gno = self._group_gno
        if self._group_start - self._last_mark >= MARK_SPACING:
            self._last_mark = self._group_start
            self.marks.append(Mark(self._group_start, self._group_time, self._group_sid, self._group_tag, max(gno, 0)))
        if gno > 0:
            if (
                self._run_first
                and gno == self._run_last + 1
                and self._group_sid == self._run_sid
                and self._group_tag == self._run_tag
            ):
                self._run_last = gno
            else:
                if self._run_first:
                    self._runs.append(GtidRun(self._run_sid, self._run_tag, self._run_first, self._run_last))
                self._run_sid, self._run_tag = self._group_sid, self._group_tag
                self._run_first = self._run_last = gno
        self._group_sid, self._group_tag, self._group_gno = b"", "", 0

    def _check(self, kind: int, length: int, log_pos: int) -> None:
        """Of an event that is not all there: whether more bytes could make it a sound one."""
        if not HEADER_LENGTH + self.checksum <= length <= MAX_EVENT:
            raise self._bad_length(kind, length)
        if log_pos and log_pos != (self.position + length) & 0xFFFFFFFF:
            raise self._bad_end(kind, length, log_pos)

    def _bad_length(self, kind: int, length: int) -> EventError:
        return EventError(f"the event at {self.position} (type {kind}) says it is {length} bytes long")

    def _bad_end(self, kind: int, length: int, log_pos: int) -> EventError:
        return EventError(
            f"the event at {self.position} (type {kind}, {length} bytes) says it ends at {log_pos}:"
            " bytes are missing or were added"
        )

    def _bad_checksum(self) -> EventError:
        return EventError(f"the event at {self.position} (type {self.type}, {self.length} bytes) fails its CRC-32")
