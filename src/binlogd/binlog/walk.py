"""The hot modules, first of three: following a file's events, wherever their bytes come from.

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

About every MiB a *mark* says where a transaction begins, and which GTIDs stand between the mark before and this one.
Whoever has those of all marks up to one has all that is before it, and may begin there (store/seek.py). What no GTID
names makes that unknown: a transaction without one, a GTID event whose transaction never ended, and the events that
a dump never leaves out.

Buffers are walked in place; nothing is held per transaction. An event that fits is taken whole; a large one streams
through with its CRC running, so that memory does not grow with the event. Only what happens rarely (a new file, a
gap in the GTIDs, a place to seek to every MiB) makes a Python object.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from binlogd.binlog.gtid import GNO_MAX, GtidSet
from binlogd.binlog.gtid_events import tagged_gtid
from binlogd.errors import EventError

if TYPE_CHECKING:
    from binlogd.binlog import machine as cython
else:
    try:
        import cython  # says things to the compiler; it is not asked for at run time
    except ImportError:
        from binlogd.binlog import machine as cython
if not cython.compiled:
    from binlogd.binlog.machine import crc, gtid, header, query, raw, says

HEADER_LENGTH = 19
WHOLE_LIMIT = 512 * 1024  # events up to this are taken whole: half of the smallest buffer that is used
PREFIX = 128 * 1024  # of a larger event this much is looked at: a QUERY's status variables end within 64 KiB
MAX_EVENT = 0x40000000 + 0x10000  # max_allowed_packet's ceiling of 1 GiB, and headers
MARK_SPACING = 1024 * 1024  # a seek reads at most about this much: one block

# Event types (mysql/binlog/event/binlog_event.h; MariaDB's from log_event.h).
_QUERY = 2
_ROTATE = 4
_INTVAR = 5
_RAND = 13
_USER_VAR = 14
_FORMAT_DESCRIPTION = 15
_XID = 16
_TABLE_MAP = 19
_INCIDENT = 26
_GTID = 33
_ANONYMOUS_GTID = 34
_PREVIOUS_GTIDS = 35
_XA_PREPARE = 38
_TRANSACTION_PAYLOAD = 40
_GTID_TAGGED = 42
_MARIADB_GTID = 162
_MARIADB_QUERY_COMPRESSED = 165

_MARIADB_STANDALONE = 1  # Gtid_log_event::FL_STANDALONE

SID = Struct("<QQ")  # a SID as two numbers, which is how it is compared

# The limits once more, as what walk.pxd makes numbers of C.
_HEADER = HEADER_LENGTH
_WHOLE_LIMIT = WHOLE_LIMIT
_PREFIX = PREFIX
_MAX_EVENT = MAX_EVENT
_GNO_MAX = GNO_MAX
_LOW = 0xFFFFFFFF  # of an offset what an event's log_pos keeps
_SOUND = 0x2144DF1C  # the CRC-32 of whatever has its own CRC-32 behind it

# What an event means to the transaction it stands in.
_NEUTRAL, _STARTS, _OPENS, _STATEMENT, _COMMITS, _PREPARES, _STAYS = range(7)


def _meanings() -> bytes:
    table = bytearray([_NEUTRAL]) * 256
    for kind in (_GTID, _ANONYMOUS_GTID, _GTID_TAGGED, _MARIADB_GTID):
        table[kind] = _STARTS
    for kind in (_INTVAR, _RAND, _USER_VAR):
        table[kind] = _PREPARES
    for kind in (_XID, _XA_PREPARE, _TRANSACTION_PAYLOAD):
        table[kind] = _COMMITS
    for kind in (_QUERY, _INCIDENT, _MARIADB_QUERY_COMPRESSED):
        table[kind] = _STATEMENT
    table[_TABLE_MAP] = _OPENS
    for kind in (_ROTATE, _PREVIOUS_GTIDS):  # neutral, and in every dump (framing.py, Outlet)
        table[kind] = _STAYS
    return bytes(table)


_MEANINGS = _meanings()
_MEANING = _MEANINGS  # compiled, the address of the bytes that the other name keeps


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


def _put_behind(runs: list[GtidRun], run: GtidRun) -> None:
    """Make ``run`` the last of ``runs``, or the end of the last."""
    if runs:
        before = runs.pop()
        if before.last + 1 == run.first and before.sid == run.sid and before.tag == run.tag:
            run = GtidRun(run.sid, run.tag, before.first, run.last)
        else:
            runs.append(before)
    runs.append(run)


class Mark(NamedTuple):
    """A transaction begins at ``offset`` with this GTID (``gno`` 0: it has none) and time (seconds).

    ``before`` holds the GTIDs between the mark before and this one, and they are all that stands there; None when they
    are not. Before a walk's first mark stands no transaction.
    """

    offset: int
    timestamp: int
    sid: bytes
    tag: str
    gno: int
    before: GtidSet | None


class Walk:
    """Follows the events of one file; see the module's theory.

    ``position`` and ``transaction_end`` are offsets into the file; ``checksum`` is the length of the CRC (4 or 0);
    ``first_time`` and ``last_time`` are the events' seconds since the epoch, 0 while there is none. ``spacing`` is how
    far apart the marks are at least; with 0 every transaction has one.
    """

    __slots__ = (
        "_crc",
        "_group_gno",
        "_group_sid1",
        "_group_sid2",
        "_group_start",
        "_group_tag",
        "_group_tagged",
        "_group_time",
        "_last_mark",
        "_left",
        "_log_pos",
        "_meaning",
        "_run_first",
        "_run_last",
        "_run_sid1",
        "_run_sid2",
        "_run_tag",
        "_run_tagged",
        "_runs",
        "_since",
        "_spacing",
        "_tail",
        "_time",
        "_unnamed",
        "boundary",
        "checksum",
        "events",
        "first_time",
        "last_time",
        "length",
        "marks",
        "position",
        "transaction_end",
        "transactions",
        "type",
    )

    def __init__(self, *, position: int, checksum: int, spacing: int = MARK_SPACING) -> None:
        self.position = position
        self.transaction_end = position
        self.checksum = checksum
        self.boundary = _OUTSIDE
        self.transactions = 0
        self.events = 0
        self.first_time = 0
        self.last_time = 0
        self.marks: list[Mark] = []
        self.type = 0  # of the event last begun
        self.length = 0  # of the event last begun
        self._spacing = spacing
        self._last_mark = -1 - spacing  # no mark yet
        self._since: list[GtidRun] = []  # the GTIDs behind the last mark, but for the run under way
        self._unnamed = False  # whether something stands behind the last mark that no GTID names
        self._runs: list[GtidRun] = []
        self._run_sid1 = self._run_sid2 = 0
        self._run_tag = ""
        self._run_tagged = False  # whether _run_tag is not "": to be asked without looking at a Python object
        self._run_first = self._run_last = 0
        self._group_start = position
        self._group_time = 0
        self._group_sid1 = self._group_sid2 = 0
        self._group_tag = ""
        self._group_tagged = False
        self._group_gno = 0
        self._left = 0  # bytes of a large event still to come
        self._crc = 0
        self._tail = 0  # what has come of the CRC of a large event
        self._meaning = _NEUTRAL
        self._time = 0  # of the event last begun
        self._log_pos = 0  # of the event last begun

    def take_gtids(self) -> list[GtidRun]:
        """The GTIDs of the whole transactions walked since this was last asked, as runs."""
        self._end_run()
        runs = self._runs
        self._runs = []
        return runs

    def rewind(self) -> None:
        """Stand at the end of the last whole transaction again: what came behind it will come once more."""
        self.position = self.transaction_end
        self.boundary = _OUTSIDE
        self._group_gno = 0
        self._left = 0

    @property
    def large_left(self) -> int:
        """Bytes of the large event under way that are still to come; 0: none is."""
        return self._left

    def whole(self, buffer: bytearray | memoryview | bytes, at: int, length: int) -> None:
        """Walk the event ``buffer[at:at + length]``."""
        if at < 0 or length < 0 or at + max(length, HEADER_LENGTH) > len(buffer):
            raise EventError(f"the event at {self.position} is {length} bytes long")
        view = raw(buffer)
        timestamp, kind, own_length, log_pos, _ = header(view, at)
        self.take(view, at, length, timestamp, kind, own_length, log_pos)

    def walk(self, buffer: bytearray | memoryview, start: int, end: int) -> int:
        """Walk a file's bytes ``buffer[start:end]``, the first being at ``position``; how far it came.

        What is left behind the returned index is the beginning of an event of at most WHOLE_LIMIT (or PREFIX of a
        larger one), to be offered again with more behind it.
        """
        if not 0 <= start <= end <= len(buffer):
            raise ValueError(f"{start}:{end} is not within the buffer")
        view = raw(buffer)
        with cython.nogil:
            taken = self._walk(view, start, end)
        return taken  # noqa: RET504, a value is returned with the GIL

    # What follows runs without the GIL and looks at no Python object, but where a method says so (walk.pxd). The view
    # is an address then: every read is behind a check that the bytes are there.

    def _walk(self, view: memoryview, start: int, end: int) -> int:
        at = start
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                self.feed_large(view, at, size)
                at += size
                continue
            if end - at < _HEADER:
                break
            timestamp, kind, length, log_pos, _ = header(view, at)
            if length <= end - at:
                self.take(view, at, length, timestamp, kind, length, log_pos)
                at += length
            elif length <= _WHOLE_LIMIT or end - at < _PREFIX:
                self.type = kind
                self.length = length
                self._misfit(length, log_pos)  # whether more bytes could make it a sound one
                break
            else:
                self.begin_large(view, at, end)
        return at

    def take(
        self, view: memoryview, at: int, length: int, timestamp: int, kind: int, own_length: int, log_pos: int
    ) -> None:
        """Walk the event ``view[at:at + length]``, whose header says the rest.

        What ``_begin`` and ``_finish`` do for a large one stands here side by side: in plain Python the calls are most
        of what an event costs.
        """
        self.type = kind
        self.length = own_length
        end = self.position + length
        checksum = self.checksum
        if (
            own_length != length
            or length < _HEADER + checksum
            or length > _MAX_EVENT
            or (log_pos and log_pos != end & _LOW)
        ):
            self._misfit(length, log_pos)
        if (checksum or kind == _FORMAT_DESCRIPTION) and crc(view, at, length, 0) != _SOUND:
            self._bad_checksum()
        meaning = _MEANING[kind]
        if meaning != _NEUTRAL:
            meaning = self._weigh(view, at, length, at + length, kind, meaning, timestamp)
        self.position = end
        self.events += 1
        if timestamp:
            self.last_time = timestamp
            if not self.first_time:
                self.first_time = timestamp
        if meaning != _NEUTRAL:
            self._turn(meaning)
        elif self.boundary == _OUTSIDE:
            self.transaction_end = end

    def still_to_come(self) -> int:
        """``large_left``, for the compiled modules."""
        return self._left

    def begin_large(self, view: memoryview, at: int, end: int) -> None:
        """Begin the event at ``at``, of which ``view[at:end]`` (at least PREFIX bytes) is there.

        The bytes themselves are passed to ``feed_large``, from the first on.
        """
        self._begin(view, at, end)
        self._left = self.length
        self._crc = 0
        self._tail = 0

    def feed_large(self, view: memoryview, at: int, size: int) -> bool:
        """Take ``view[at:at + size]``, the next bytes of the large event; True when it is whole and sound."""
        left = self._left
        if self.checksum:
            body = max(min(left - 4, size), 0)
            self._crc = crc(view, at, body, self._crc)
            for index in range(body, size):
                octet = view[at + index]
                self._tail |= octet << 8 * (4 - left + index)
        left -= size
        self._left = left
        if left:
            return False
        if self.checksum and self._crc != self._tail:
            self._bad_checksum()
        self._finish()
        return True

    def _begin(self, view: memoryview, at: int, end: int) -> None:
        timestamp, kind, length, log_pos, _ = header(view, at)
        self.type = kind
        self.length = length
        self._misfit(length, log_pos)
        self._time = timestamp
        self._meaning = self._weigh(view, at, length, end, kind, _MEANING[kind], timestamp)

    def _weigh(self, view: memoryview, at: int, length: int, end: int, kind: int, meaning: int, timestamp: int) -> int:
        """What the event at ``at`` means, and to which transaction; ``end`` as in ``begin_large``."""
        if meaning == _STARTS:
            if self.boundary != _OUTSIDE:
                self._unnamed = True
            self._group(view, at, end, kind)
            self._group_start = self.position
            self._group_time = timestamp
            return meaning
        if meaning == _STATEMENT and kind == _QUERY:
            meaning = self._statement(view, at, length, end)
        if self.boundary == _OUTSIDE:
            self._group_start = self.position  # a transaction may begin without a GTID event
            self._group_time = timestamp
        return meaning

    def _misfit(self, length: int, log_pos: int) -> None:
        """Raise unless the event, as long as it is and as it says, belongs here."""
        if self.length != length or length < _HEADER + self.checksum or length > _MAX_EVENT:
            self._bad_length()
        if log_pos and log_pos != (self.position + length) & _LOW:
            self._log_pos = log_pos
            self._bad_end()

    def _finish(self) -> None:
        """The large event is whole."""
        self.position += self.length
        self.events += 1
        timestamp = self._time
        if timestamp:
            self.last_time = timestamp
            if not self.first_time:
                self.first_time = timestamp
        self._turn(self._meaning)

    def _turn(self, meaning: int) -> None:
        """Where the walk stands behind an event of this meaning."""
        if meaning == _NEUTRAL:
            if self.boundary == _OUTSIDE:
                self.transaction_end = self.position
        elif meaning == _COMMITS or (meaning == _STATEMENT and self.boundary != _INSIDE):
            self._commit()
        elif meaning == _OPENS:
            self.boundary = _INSIDE
        elif meaning == _STARTS:
            self.boundary = _INSIDE if self._group_gno < 0 else _PENDING
        elif meaning == _STAYS:
            self._unnamed = True
            if self.boundary == _OUTSIDE:
                self.transaction_end = self.position
        elif meaning == _PREPARES and self.boundary == _OUTSIDE:
            self.boundary = _PENDING

    def _group(self, view: memoryview, at: int, end: int, kind: int) -> None:
        """A GTID event opens a group: remember which, to count it when the group is whole."""
        self._group_gno = 0
        body = at + _HEADER
        size = end - body - self.checksum
        if size < (13 if kind == _MARIADB_GTID else 25):
            self._cut_short(kind)
        if kind == _GTID:
            self._group_sid1, self._group_sid2, gno = gtid(view, body)
            if not 0 < gno <= _GNO_MAX:
                self._bad_number(gno)
            self._group_gno = gno
            self._group_tagged = False
        elif kind == _GTID_TAGGED:
            self._tagged_group(view, body, size)
        elif kind == _MARIADB_GTID and not view[body + 12] & _MARIADB_STANDALONE:
            self._group_gno = -1  # opens a transaction by itself, and is no GTID of MySQL's

    def _statement(self, view: memoryview, at: int, length: int, end: int) -> int:
        """What a QUERY event's text means: post-header thread4 time4 schema_len1 error2 status_len2."""
        if length < _HEADER + 13 + 1 + self.checksum:
            self._cut_short(_QUERY)
        schema, status = query(view, at + _HEADER)
        text = at + _HEADER + 13 + status + schema + 1
        size = at + length - self.checksum - text
        if size < 0 or (text + size > end and text + 12 > end):
            self._cut_short(_QUERY)
        if size == 5:
            if says(view, text, b"BEGIN", 5):
                return _OPENS
        elif size == 6:
            if says(view, text, b"COMMIT", 6):
                return _COMMITS
        elif size == 8:
            if says(view, text, b"ROLLBACK", 8):
                return _COMMITS
        elif size > 8 and says(view, text, b"XA ", 3):
            if says(view, text, b"XA START", 8):
                return _OPENS
            if says(view, text, b"XA COMMIT", 9) or (size > 10 and says(view, text, b"XA ROLLBACK", 11)):
                return _COMMITS
        return _STATEMENT

    def _commit(self) -> None:
        """A transaction is whole: it ends here, and its GTID counts."""
        self.boundary = _OUTSIDE
        self.transactions += 1
        self.transaction_end = self.position
        if self._group_start - self._last_mark >= self._spacing:
            self._mark()
        gno = self._group_gno
        if gno > 0:
            if (
                gno == self._run_last + 1
                and self._run_first
                and self._group_sid1 == self._run_sid1
                and self._group_sid2 == self._run_sid2
                and not self._group_tagged
                and not self._run_tagged
            ):
                self._run_last = gno
            else:
                self._run()
        else:
            self._unnamed = True
        self._group_gno = 0

    # These make Python objects, so they take the GIL. They are called where something changes or is wrong.

    def _tagged_group(self, view: memoryview, at: int, size: int) -> None:
        body = bytes(view[at : at + size])
        sid, tag, gno = tagged_gtid(body, 0, size)
        if not 0 < gno <= GNO_MAX:
            self._bad_number(gno)
        self._group_sid1, self._group_sid2 = SID.unpack(sid)
        self._group_tag, self._group_gno = tag, gno
        self._group_tagged = bool(tag)

    def _mark(self) -> None:
        """Note where the transaction that is now whole begins."""
        sid, tag = b"", ""
        gno = max(self._group_gno, 0)
        if gno:
            sid = SID.pack(self._group_sid1, self._group_sid2)
            tag = self._group_tag if self._group_tagged else ""
        self._end_run()
        before = None if self._unnamed and self._last_mark >= 0 else GtidSet.from_runs(self._since)
        self.marks.append(Mark(self._group_start, self._group_time, sid, tag, gno, before))
        self._last_mark = self._group_start
        self._since = []
        self._unnamed = False

    def _run(self) -> None:
        """The GTID of the transaction that is now whole continues the run or begins another."""
        tag = self._group_tag if self._group_tagged else ""
        if not (
            self._run_first
            and self._group_gno == self._run_last + 1
            and self._group_sid1 == self._run_sid1
            and self._group_sid2 == self._run_sid2
            and tag == self._run_tag
        ):
            self._end_run()
            self._run_sid1, self._run_sid2 = self._group_sid1, self._group_sid2
            self._run_tag, self._run_tagged = tag, self._group_tagged
            self._run_first = self._group_gno
        self._run_last = self._group_gno

    def _end_run(self) -> None:
        if self._run_first:
            run = GtidRun(SID.pack(self._run_sid1, self._run_sid2), self._run_tag, self._run_first, self._run_last)
            self._run_first = 0
            _put_behind(self._runs, run)
            _put_behind(self._since, run)

    def _bad_length(self) -> None:
        raise EventError(f"the event at {self.position} (type {self.type}) says it is {self.length} bytes long")

    def _bad_end(self) -> None:
        raise EventError(
            f"the event at {self.position} (type {self.type}, {self.length} bytes) says it ends at {self._log_pos}:"
            " bytes are missing or were added"
        )

    def _bad_checksum(self) -> None:
        raise EventError(f"the event at {self.position} (type {self.type}, {self.length} bytes) fails its CRC-32")

    def _bad_number(self, gno: int) -> None:
        raise EventError(f"the GTID event at {self.position} has the number {gno}")

    def _cut_short(self, kind: int) -> None:
        what = "QUERY" if kind == _QUERY else "GTID"
        raise EventError(f"the {what} event at {self.position} is cut short")
