"""The hot modules, third of three: some transactions of some files, made one binary log.

What goes out are whole transactions, byte for byte but for what says where they stand. An event's ``log_pos`` is the
offset of its end in *its* file, so it is another in the new one, and so is the CRC-32 behind it; where the new file has
checksums and the old one had none, the event grows by them. A ``log_pos`` of 0 (MariaDB, within transactions) stays.

A group of events is chosen by what it begins with: its GTID, of which ``covering`` says whether it is left out, and its
time, the moment of its commit in microseconds since 1970:

    GTID, ANONYMOUS_GTID, GTID_TAGGED of MySQL 8.0 on      original_commit_timestamp, the same on every server
    everything else                                        the event's own timestamp, in seconds

Of groups that are not left out the first of ``from_time`` or later ``begun`` it all, and the first of ``to_time`` or
later ``ended`` it: what is chosen is a stretch of history, without holes, however clocks were set meanwhile. What
stands between transactions is the old files' own (FORMAT_DESCRIPTION, PREVIOUS_GTIDS, ROTATE, STOP, MariaDB's lists)
and goes.

Every event is checked by the walk before it is put out. ``out[:settled]`` is whole transactions; what is behind belongs
to one of which the end has not been seen, and goes with ``drop`` when there is none.

Compiled, as framing.py is: ``scan`` lets go of the GIL, and puts out never more than ``room_for`` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.walk import HEADER_LENGTH, PREFIX, SID, WHOLE_LIMIT, Walk
from binlogd.errors import EventError

if TYPE_CHECKING:
    from binlogd.binlog import machine as cython
else:
    try:
        import cython
    except ImportError:
        from binlogd.binlog import machine as cython
if not cython.compiled:
    from binlogd.binlog.machine import copy, crc, gtid, header, raw, raw_out, u32

NO_LIMIT = 2**63 - 1

_GTID = 33
_ANONYMOUS_GTID = 34
_GTID_TAGGED = 42
_MARIADB_GTID = 162

_LOGICAL_CLOCK = 2  # LOGICAL_TIMESTAMP_TYPECODE, behind which a GTID event has its commit times
_CLOCK_AT = 25  # in a GTID event's body: flags1 sid16 gno8
_TIMES_AT = 42  # and clock1 last_committed8 sequence_number8
_TIME_LENGTH = 7

# The limits once more, as what excerpt.pxd makes numbers of C.
_HEADER = HEADER_LENGTH
_WHOLE_LIMIT = WHOLE_LIMIT
_PREFIX = PREFIX
_LOW = 0xFFFFFFFF
_MICROSECONDS = 1_000_000


def _own() -> bytes:
    """By type, whether an event says something of its file alone."""
    table = bytearray(256)
    for kind in (1, 3, 4, 7, 15, 27, 35, 41, 161, 163, 164):
        table[kind] = 1
    return bytes(table)


_OWNS = _own()
_OWN = _OWNS  # compiled, the address of the bytes that the other name keeps

Covering = Callable[[bytes, str, int], tuple[bool, int]]
"""Whether a GTID is left out, and up to which number of its source the answer is the same."""


def room_for(block: int) -> int:
    """Bytes that ``Excerpt.scan`` may put out for a block of this size: a checksum more for every event."""
    return block + 4 * (block // HEADER_LENGTH + 2)


class Excerpt:
    """Copies the chosen transactions of one file after the other; see the module's theory.

    ``position`` is the offset in the new file of the byte that is put out next; ``checksum`` the length of the new
    file's checksums. ``walk`` follows the file that is read, and is set before each.
    """

    __slots__ = (
        "_chooses",
        "_chosen",
        "_covering",
        "_crc",
        "_from_time",
        "_has_begun",
        "_known",
        "_leaves_out",
        "_sid1",
        "_sid2",
        "_to_time",
        "_until",
        "begun",
        "checksum",
        "consumed",
        "ended",
        "filled",
        "group",
        "position",
        "settled",
        "settled_position",
        "transactions",
        "walk",
    )

    def __init__(self, *, checksum: int, from_time: int | None = None, to_time: int = NO_LIMIT) -> None:
        self.checksum = checksum
        self.position = 0
        self.consumed = 0
        self.filled = 0
        self.settled = 0
        self.settled_position = 0
        self.transactions = 0  # groups chosen
        self.begun = from_time is None
        self.ended = False
        self.group = 0  # where the group under way begins in the file that is read
        self.walk: Walk | None = None
        self._from_time = from_time or 0
        self._to_time = to_time
        self._covering: Covering | None = None
        self._chooses = False
        self._chosen = False  # the group under way goes out
        self._leaves_out = False  # of _known.._until of _sid, without a tag, what ``covering`` said
        self._sid1 = self._sid2 = 0
        self._known = 0
        self._until = -1
        self._crc = 0  # of what was put out of the large event under way

    def begin(self, walk: Walk, covering: Covering | None) -> None:
        """Go on with a file, at the end of one of its transactions."""
        self.walk = walk
        self._covering = covering
        self._chooses = covering is not None
        self._chosen = False
        self._until = -1

    def stand(self, position: int) -> None:
        """What is put out next stands there: something else was written before it. Only between transactions."""
        self.position = self.settled_position = position

    def drop(self) -> None:
        """Forget what was put out of a transaction that does not end."""
        self.filled = self.settled
        self.position = self.settled_position

    def scan(self, buffer: bytearray, start: int, end: int, out: memoryview) -> None:
        """Take ``buffer[start:end]``, the file's bytes at ``walk.position``; sets ``consumed``, adds to ``out``.

        What is behind ``consumed`` is to be offered again with more behind it. It comes back early when it ``ended``,
        and when it has ``begun``: before anything was put out. When it raises, ``out[:settled]`` is sound.
        """
        if not 0 <= start <= end <= len(buffer) or self.filled < 0 or self.filled + room_for(end - start) > len(out):
            raise ValueError(f"{start}:{end} is not within the buffer, or more than there is room for")
        view, put, walk = raw(buffer), raw_out(out), self.walk
        if walk is None:
            raise ValueError("no file was begun")
        with cython.nogil:
            self._scan(walk, view, start, end, put)

    # What follows runs without the GIL and looks at no Python object, but where a method says so (excerpt.pxd).

    def _scan(self, walk: Walk, view: memoryview, start: int, end: int, out: memoryview) -> None:
        at = start
        while at < end:
            if walk.still_to_come():
                size = min(walk.still_to_come(), end - at)
                self._piece(walk, view, at, size, out)
                at += size
                continue
            if end - at < _HEADER:
                break
            timestamp, kind, length, log_pos, _ = header(view, at)
            whole = length <= end - at
            if not whole and (length <= _WHOLE_LIMIT or end - at < _PREFIX):
                break
            starts = kind == _GTID or kind == _ANONYMOUS_GTID or kind == _GTID_TAGGED or kind == _MARIADB_GTID
            own = _OWN[kind]
            if not own and (starts or walk.boundary == 0):
                if starts and not whole:
                    self._too_long(walk, length)
                if walk.boundary:
                    self.drop()  # a transaction that never ended
                self.group = walk.position
                had_begun = self.begun
                self._chosen = self._choose(walk, view, at, length, kind)
                if self.ended or self.begun != had_begun:
                    break
            if not whole:
                self._begin_large(walk, view, at, end, length, own, out)
                at += _HEADER
                continue
            walk.take(view, at, length, timestamp, kind, length, log_pos)
            if self._chosen and not own:
                self._put(walk, view, at, length, out)
            if walk.boundary == 0:
                self._settle()
            at += length
        self.consumed = at

    def _settle(self) -> None:
        """A transaction is whole."""
        if self._chosen:
            self.transactions += 1
            self._chosen = False
        self.settled = self.filled
        self.settled_position = self.position

    def _choose(self, walk: Walk, view: memoryview, at: int, length: int, kind: int) -> bool:
        """Whether the group goes out that this event begins; sets ``begun`` or ``ended`` when it is the one."""
        body = at + _HEADER
        size = length - _HEADER - walk.checksum
        named = kind == _GTID or kind == _GTID_TAGGED
        if (named or kind == _ANONYMOUS_GTID) and size < _CLOCK_AT:
            return False  # the walk says what is wrong
        time = u32(view, at) * _MICROSECONDS
        if kind == _GTID_TAGGED:
            time = self._look_tagged(walk, view, at, length, time)
        elif kind == _GTID and self._chooses:
            sid1, sid2, gno = gtid(view, body)
            if not self._known <= gno <= self._until or sid1 != self._sid1 or sid2 != self._sid2:
                self._ask(sid1, sid2, gno)
        if named and self._chooses and self._leaves_out:
            return False
        dated = (kind == _GTID or kind == _ANONYMOUS_GTID) and size >= _TIMES_AT + _TIME_LENGTH
        if dated and view[body + _CLOCK_AT] == _LOGICAL_CLOCK:
            time = self._commit_time(view, body + _TIMES_AT, size - _TIMES_AT)
        if not self.begun:
            self.begun = time >= self._from_time
            return False
        self.ended = time >= self._to_time
        return not self.ended

    def _commit_time(self, view: memoryview, at: int, size: int) -> int:
        """The original commit timestamp: the immediate one when its top bit does not say that another follows."""
        if view[at + 6] & 0x80 and size >= 2 * _TIME_LENGTH:
            at += _TIME_LENGTH
        high = view[at + 4] | view[at + 5] << 8 | (view[at + 6] & 0x7F) << 16
        return u32(view, at) + high * (_LOW + 1)

    def _put(self, walk: Walk, view: memoryview, at: int, length: int, out: memoryview) -> None:
        """Put out a whole event."""
        to = self.filled
        body = length - walk.checksum
        copy(out, to, view, at, body)
        self._place(out, to, body + self.checksum)
        if self.checksum:
            self._put32(out, to + body, crc(out, to, body, 0))
        self.filled += body + self.checksum
        self.position += body + self.checksum

    def _place(self, out: memoryview, to: int, size: int) -> None:
        """Have an event's head say how long it is now, and where it ends."""
        self._put32(out, to + 9, size)
        if u32(out, to + 13):
            self._put32(out, to + 13, self.position + size)

    def _put32(self, out: memoryview, at: int, number: int) -> None:
        out[at] = number & 0xFF
        out[at + 1] = number >> 8 & 0xFF
        out[at + 2] = number >> 16 & 0xFF
        out[at + 3] = number >> 24 & 0xFF

    def _begin_large(
        self, walk: Walk, view: memoryview, at: int, end: int, length: int, own: int, out: memoryview
    ) -> None:
        """Take the head of an event that is not all there."""
        walk.begin_large(view, at, end)
        walk.feed_large(view, at, _HEADER)
        if own:
            self._too_long(walk, length)
        if self._chosen:
            copy(out, self.filled, view, at, _HEADER)
            self._place(out, self.filled, length - walk.checksum + self.checksum)
            self._crc = crc(out, self.filled, _HEADER, 0)
            self.filled += _HEADER
            self.position += _HEADER

    def _piece(self, walk: Walk, view: memoryview, at: int, size: int, out: memoryview) -> None:
        """Take the next bytes of it."""
        body = min(walk.still_to_come() - walk.checksum, size)
        walk.feed_large(view, at, size)
        if self._chosen:
            if body > 0:
                copy(out, self.filled, view, at, body)
                self._crc = crc(view, at, body, self._crc)
                self.filled += body
                self.position += body
            if not walk.still_to_come() and self.checksum:
                self._put32(out, self.filled, self._crc)
                self.filled += 4
                self.position += 4
        if not walk.still_to_come() and walk.boundary == 0:
            self._settle()

    # These make Python objects, so they take the GIL.

    def _look_tagged(self, walk: Walk, view: memoryview, at: int, length: int, time: int) -> int:
        """Ask about a GTID_TAGGED event; its commit's time."""
        event = GtidEvent.decode(bytes(view[at : at + length]), walk.checksum)
        if self._covering is not None:
            self._leaves_out, _ = self._covering(event.sid, event.tag, event.gno)
            self._until = -1
        return time if event.original_commit_timestamp is None else event.original_commit_timestamp

    def _ask(self, sid1: int, sid2: int, gno: int) -> None:
        assert self._covering is not None
        self._leaves_out, self._until = self._covering(SID.pack(sid1, sid2), "", gno)
        self._sid1, self._sid2, self._known = sid1, sid2, gno

    def _too_long(self, walk: Walk, length: int) -> NoReturn:
        raise EventError(f"the event at {walk.position} is of a kind that is never {length} bytes long")
