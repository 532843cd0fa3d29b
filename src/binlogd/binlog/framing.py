"""The hot modules, second of three: events split out of packets and framed into packets.

``Intake``   splits the packets of a dump (protocol.md §3: ``00 [ef flag] event``) into events, walks them, and copies
             those that belong into the file, side by side, so that one system call writes them all.
``Outlet``   the reverse: frames the events of a block into packets, leaving out the transactions a replica has. What is
             damaged on disk goes to nobody: it checks length, end and CRC-32 of an event before it hands it out.

Buffers are walked in place; nothing is held per transaction. An event that fits is taken whole; a large one streams
through, so that memory does not grow with the event.

Compiled, as walk.py is (machine.py tells how): ``scan`` and ``frame`` let go of the GIL. What they put out never is
more than they were promised room for, which they check once, before they begin:

    Intake   fewer bytes than it takes in, since a packet is longer than its event
    Outlet   4 bytes of header and 1 more for every event begun, which are at least HEADER_LENGTH bytes apart; and 4 for
             every further packet of a large event, of which a block that begins within one has at most one for each
             MAX_PACKET bytes, and an empty one (``room_for``)
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from binlogd.binlog.gtid_events import tagged_gtid
from binlogd.binlog.walk import HEADER_LENGTH, MAX_EVENT, PREFIX, WHOLE_LIMIT, Walk
from binlogd.binlog.walk import SID as _SID
from binlogd.errors import EventError, ProtocolError

if TYPE_CHECKING:
    from binlogd.binlog import machine as cython
else:
    try:
        import cython
    except ImportError:
        from binlogd.binlog import machine as cython
if not cython.compiled:
    from binlogd.binlog.machine import copy, crc, gtid, header, packet_head, raw, raw_out, u32

MAX_PACKET = 0xFFFFFF  # payload bytes of one packet; a longer payload continues in the next
ERROR_MOST = 1024  # bytes of an ERR packet, whose text has 512 at most (MYSQL_ERRMSG_SIZE), and of all that is no event
GTID_PREFIX = 1024  # of any event this much shows its GTID: a GTID event is shorter
NO_LIMIT = 2**63 - 1

_ROTATE = 4
_FORMAT_DESCRIPTION = 15
_HEARTBEAT = 27
_GTID = 33
_ANONYMOUS_GTID = 34
_PREVIOUS_GTIDS = 35
_HEARTBEAT_V2 = 41
_GTID_TAGGED = 42
_ARTIFICIAL = 0x20  # LOG_EVENT_ARTIFICIAL_F

# The limits once more, as what framing.pxd makes numbers of C.
_HEADER = HEADER_LENGTH
_WHOLE_LIMIT = WHOLE_LIMIT
_PREFIX = PREFIX
_MAX_PACKET = MAX_PACKET
_ERROR_MOST = ERROR_MOST
_GTID_PREFIX = GTID_PREFIX
_MAX_EVENT = MAX_EVENT
_LOW = 0xFFFFFFFF  # of an offset what an event's log_pos keeps

_HANDED_OUT = bytes(kind in (_FORMAT_DESCRIPTION, _HEARTBEAT, _HEARTBEAT_V2) for kind in range(256))
_APART = _HANDED_OUT  # compiled, the address of the bytes that the other name keeps


class Stop(IntEnum):
    """Why ``Intake.scan`` came back."""

    MORE = 0  # everything usable was taken: read more
    CONTROL = 1  # `event` holds an event for the caller, taken off the stream and not stored
    ERROR = 2  # `event` holds an ERR packet's payload: the source ends the dump
    END = 3  # an EOF packet: the source has no more


_STOPS = tuple(Stop)
_MORE, _CONTROL, _ERROR, _END = 0, 1, 2, 3


def room_for(block: int) -> int:
    """Bytes of ``out`` that ``Outlet.frame`` needs for a block of this size: 5 for each event of at least 19."""
    return block + 5 * (block // HEADER_LENGTH + 2)


class Intake:
    """Splits the packets of a dump into events and gathers those that belong into the file.

    ``scan`` takes bytes from ``buffer`` and puts events into ``out``, which must have as much room behind ``filled``.
    Between two calls the caller keeps ``buffer[consumed:end]`` and appends to it, and writes ``out[:filled]`` away.

    Control events are those that are never stored as they come: FORMAT_DESCRIPTION, heartbeats and everything
    artificial. The caller answers a FORMAT_DESCRIPTION by setting ``walk``.

    ``sequence`` is the id of the first packet, None where ids mean nothing: in compressed packets, which have their own
    (wire/compression.py).
    """

    __slots__ = (
        "_continues",
        "_flagged",
        "_numbered",
        "_packet_left",
        "_prefix",
        "_sequence",
        "ack_owed",
        "consumed",
        "event",
        "filled",
        "walk",
    )

    def __init__(self, *, semi_sync: bool, sequence: int | None) -> None:
        self._prefix = 3 if semi_sync else 1
        self._numbered = sequence is not None
        self._sequence = sequence or 0
        self._flagged = False
        self._packet_left = 0  # payload bytes of the current packet still to come, in a large event
        self._continues = False  # the current packet is full, so another follows, if only an empty one
        self.ack_owed = False  # the source waits until `walk.position` is acknowledged
        self.consumed = 0
        self.filled = 0
        self.event = b""
        self.walk: Walk | None = None

    def scan(self, buffer: bytearray, start: int, end: int, out: memoryview) -> Stop:
        """Take ``buffer[start:end]``; sets ``consumed`` and adds to ``out`` from ``filled`` on.

        When it raises, ``out[:filled]`` still is everything that was walked: whole events, then perhaps the
        beginning of a large one.
        """
        if not 0 <= start <= end <= len(buffer) or self.filled < 0 or self.filled + end - start > len(out):
            raise ValueError(f"{start}:{end} is not within the buffer, or more than there is room for")
        view, put, walk = raw(buffer), raw_out(out), self.walk
        if walk is None and (self._packet_left or self._continues):
            raise ValueError("within an event its walk was taken away")
        with cython.nogil:
            stop = self._scan(walk, view, start, end, put)
        return _STOPS[stop]

    # What follows runs without the GIL and looks at no Python object, but where a method says so (framing.pxd). The
    # views are addresses then: every read is behind a check that the bytes are there.

    def _scan(self, walk: Walk | None, view: memoryview, start: int, end: int, out: memoryview) -> int:
        at = start
        prefix = self._prefix
        stop = _MORE
        while True:
            if self._packet_left:
                size = min(self._packet_left, end - at)
                if not size:
                    break
                self._piece(walk, view, at, size, out)
                at += size
                continue
            if end - at < 4:
                break
            event = at + 4 + prefix
            low, high, sequence = packet_head(view, at)
            length = low | high << 16
            if sequence != self._sequence and self._numbered:
                self._out_of_order(sequence)
            if self._continues:
                self._continue(walk, length)
                at += 4
                continue
            if length > _WHOLE_LIMIT:
                if end - at < _PREFIX:
                    self._look(view, at, end, length)
                    break
                self._begin_large(walk, view, at, end, length)
                at = event
                continue
            size = length - prefix
            if event + size > end:
                self._look(view, at, end, length)
                break
            if size < _HEADER or view[at + 4]:
                stop = self._terminator(view, at + 4, length)
                self._sequence = (self._sequence + 1) & 0xFF
                at += 4 + length
                break
            if prefix == 3:
                self._marked(view, at + 4)
            self._sequence = (self._sequence + 1) & 0xFF
            at = event + size
            timestamp, kind, own_length, log_pos, flags = header(view, event)
            if _APART[kind] or flags & _ARTIFICIAL:
                if walk is not None:
                    self._prove(walk, view, event, size)
                self._hand_out(view, event, size)
                self._event_end()
                stop = _CONTROL
                break
            if walk is None:
                self._no_file(kind)
            walk.take(view, event, size, timestamp, kind, own_length, log_pos)
            copy(out, self.filled, view, event, size)
            self.filled += size
            if self._flagged:
                self._event_end()
        self.consumed = at
        return stop

    def _look(self, view: memoryview, at: int, end: int, length: int) -> None:
        """Of a packet that is not all there: whether it is as long as its event says, or as an error may be.

        The rest of one that is too long would come as heartbeats, a few bytes a second, and the source wait meanwhile.
        """
        event = at + 4 + self._prefix
        if end - at > 4 and view[at + 4]:
            if length > _ERROR_MOST:
                self._no_event(length, view[at + 4])
        elif end - event >= _HEADER:
            size = u32(view, event + 9)
            content = length - self._prefix
            if size < content or (size > content and length != _MAX_PACKET):
                self._bad_packet(size, length)

    def _prove(self, walk: Walk, view: memoryview, at: int, size: int) -> None:
        """An event that is not stored is sound all the same: a flipped bit can make one of what must be stored."""
        if walk.checksum or view[at + 4] == _FORMAT_DESCRIPTION:
            body = size - 4
            if crc(view, at, body, 0) != u32(view, at + body):
                self._bad_control(walk, view[at + 4], size)

    def _marked(self, view: memoryview, at: int) -> None:
        """The source says whether it waits for an ACK."""
        if view[at + 1] != 0xEF:
            self._no_mark()
        self._flagged = view[at + 2] & 1 == 1

    def _event_end(self) -> None:
        """The event is whole. After one that asks for an ACK the source counts from 1 (protocol.md §4)."""
        if self._flagged:
            self._flagged = False
            self.ack_owed = True
            self._sequence = 1

    def _begin_large(self, walk: Walk | None, view: memoryview, at: int, end: int, length: int) -> None:
        event = at + 4 + self._prefix
        kind = view[event + 4]
        if walk is None:
            self._no_file(kind)
        if view[at + 4]:
            self._no_event(length, view[at + 4])
        if _APART[kind] or view[event + 17] & _ARTIFICIAL:
            self._large_control(length)
        if self._prefix == 3:
            self._marked(view, at + 4)
        self._sequence = (self._sequence + 1) & 0xFF
        walk.begin_large(view, event, end)
        size = walk.length
        self._packet_left = length - self._prefix
        self._continues = length == _MAX_PACKET
        if size < self._packet_left or (size > self._packet_left and not self._continues):
            self._bad_size(walk, length)

    def _continue(self, walk: Walk | None, length: int) -> None:
        """The header of the packet in which a large event goes on; an empty one only ends it."""
        assert walk is not None
        left = walk.still_to_come()
        self._sequence = (self._sequence + 1) & 0xFF
        self._packet_left = length
        self._continues = length == _MAX_PACKET
        if length > left or (length < left and not self._continues):
            self._bad_sum(walk)
        if not left and not self._continues:
            self._event_end()

    def _piece(self, walk: Walk | None, view: memoryview, at: int, size: int, out: memoryview) -> None:
        """The next bytes of a large event."""
        assert walk is not None
        whole = walk.feed_large(view, at, size)
        copy(out, self.filled, view, at, size)
        self.filled += size
        self._packet_left -= size
        if whole and not self._continues:
            self._event_end()

    # These make Python objects, so they take the GIL.

    def _hand_out(self, view: memoryview, at: int, size: int) -> None:
        self.event = bytes(view[at : at + size])

    def _terminator(self, view: memoryview, at: int, length: int) -> int:
        """A packet that is no event."""
        first = view[at] if length else 0
        if first == 0xFF:
            self._hand_out(view, at, length)
            return _ERROR
        if first == 0xFE and length < 9:
            return _END
        return self._no_event(length, first)

    def _out_of_order(self, sequence: int) -> NoReturn:
        raise ProtocolError(f"packet out of order: sequence id {sequence} where {self._sequence} was due")

    def _no_mark(self) -> NoReturn:
        raise ProtocolError("the source agreed to semi-sync, yet a packet lacks its mark 0xEF")

    def _no_event(self, length: int, first: int) -> NoReturn:
        raise ProtocolError(f"a packet of {length} bytes beginning {first:#04x} is no event")

    def _no_file(self, kind: int) -> NoReturn:
        raise ProtocolError(f"an event of type {kind} came before the file's FORMAT_DESCRIPTION")

    def _large_control(self, length: int) -> NoReturn:
        raise ProtocolError(f"an artificial event of {length} bytes: nothing sends such a thing")

    def _bad_size(self, walk: Walk, length: int) -> NoReturn:
        raise EventError(f"an event of {walk.length} bytes at {walk.position} in a packet of {length}")

    def _bad_packet(self, size: int, length: int) -> NoReturn:
        raise EventError(f"a packet of {length} bytes begins with an event of {size}")

    def _bad_control(self, walk: Walk, kind: int, size: int) -> NoReturn:
        raise EventError(f"an artificial event behind {walk.position} (type {kind}, {size} bytes) fails its CRC-32")

    def _bad_sum(self, walk: Walk) -> NoReturn:
        raise EventError(f"the packets of the event at {walk.position} do not add up to its length")


class Outlet:
    """Frames events into packets of a dump, ``00 event`` each, leaving out what the replica has.

    ``frame`` takes the file's bytes from ``position`` on and puts packets into ``out``. With ``covering`` given (see
    ``GtidSet.covering``) it leaves out the transactions the set contains; after such it comes back before the next
    event that is sent, so that the caller puts in the heartbeat MySQL's replicas need (protocol.md §3.4).

    Every event is checked before its packet is handed out: its length, that it says to end where it does and before
    ``limit``, its CRC-32. One that is larger than a block is summed up as it goes, and if it is damaged its last piece
    never goes: whoever gets it has no event. What is left out is checked as far as it decides what is: an event as
    short as a GTID's could be one, of which only the type is damaged, and with it a transaction would be left out.
    """

    __slots__ = (
        "_chooses",
        "_continues",
        "_covering",
        "_crc",
        "_dropping",
        "_excluded",
        "_known",
        "_left",
        "_packet_left",
        "_sid1",
        "_sid2",
        "_tag",
        "_tagged",
        "_tail",
        "_until",
        "checksum",
        "consumed",
        "damaged",
        "event",
        "events",
        "filled",
        "limit",
        "position",
        "sequence",
        "skipped_to",
    )

    def __init__(self, *, sequence: int, covering: Callable[[bytes, str, int], tuple[bool, int]] | None) -> None:
        self.sequence = sequence
        self.position = 0  # offset in the file of the next byte to take
        self.checksum = 4  # bytes of CRC behind each event of this file
        self.consumed = 0
        self.filled = 0
        self.skipped_to = 0  # behind the events left out and not yet told of; 0: none
        self.events = 0  # handed out so far, large ones as soon as they begin
        self.event = 0  # where the large event begins that was begun last
        self.limit = NO_LIMIT  # the offset that no event reaches beyond: the file's end
        self.damaged = -1  # where a large event begins that is known to be damaged
        self._covering = covering
        self._chooses = covering is not None
        self._excluded = False  # the group under way is left out
        self._sid1 = self._sid2 = 0
        self._tag = ""
        self._tagged = False  # whether _tag is not "": to be asked without looking at a Python object
        self._known = 0  # for _known..<_until of _sid:_tag the answer of `covering` is _excluded
        self._until = -1
        self._left = 0  # bytes of a large event still to come
        self._dropping = False  # and it is left out
        self._packet_left = 0  # payload bytes of its current packet still to come
        self._continues = False  # its current packet is full, so another follows, if only an empty one
        self._crc = 0  # of what was sent of it
        self._tail = 0  # what has come of its own CRC

    @property
    def in_event(self) -> bool:
        """Whether a large event is under way: nothing else may be sent now."""
        return not self._dropping and (self._left > 0 or self._continues)

    def packet(self, event: bytes) -> bytes:
        """An artificial event of our own (less than a packet long), framed. Only between events."""
        framed = (len(event) + 1).to_bytes(3, "little") + bytes((self.sequence, 0)) + event
        self.sequence = (self.sequence + 1) & 0xFF
        return framed

    def frame(self, buffer: bytearray, start: int, end: int, out: memoryview) -> bool:
        """Frame ``buffer[start:end]``, which begins at ``position``; sets ``consumed`` and ``filled``.

        False: a heartbeat for ``skipped_to`` must go out before the event at ``consumed``. ``out`` must have room
        for the bytes and 5 more for every 19 of them (``room_for``). When it raises, ``out[:filled]`` still is to be
        sent before anybody is told: whole packets, unless a large event is under way (``in_event``).
        """
        if not 0 <= start <= end <= len(buffer) or room_for(end - start) > len(out):
            raise ValueError(f"{start}:{end} is not within the buffer, or more than there is room for")
        view, put = raw(buffer), raw_out(out)
        self.filled = 0
        with cython.nogil:
            go_on = self._frame(view, start, end, put)
        return bool(go_on)

    # As in Intake: no GIL, no Python object, every read behind a check, but where a method says so.

    def _frame(self, view: memoryview, start: int, end: int, out: memoryview) -> bool:
        at = start
        go_on = True
        while True:
            if self._left or self._continues:
                if at == end and self._left:
                    break
                at += self._drop(end - at) if self._dropping else self._piece(view, at, end, out)
                continue
            if end - at < _HEADER:
                break
            length = u32(view, at + 9)
            self._look(view, at, length)
            whole = length <= end - at
            if not whole and end - at < _GTID_PREFIX:
                break
            if length < _GTID_PREFIX:
                self._check(view, at, length)
            if self._chooses:
                kind = view[at + 4]
                if kind == _GTID or kind == _GTID_TAGGED:
                    self._choose(view, at, min(length, end - at), kind)
                elif kind == _ANONYMOUS_GTID or kind == _PREVIOUS_GTIDS:
                    self._excluded = False  # not what the set excluded: another group, or another file
                    self._until = -1
                if self._excluded and kind != _ROTATE:
                    self._left = length
                    self._dropping = True
                    continue
                if self.skipped_to:
                    go_on = False
                    break
            if not whole or length >= _MAX_PACKET:
                if self.position == self.damaged:
                    self._bad_checksum(view[at + 4], length)
                self.event = self.position
                self.events += 1
                self._crc = self._tail = 0
                self._left = length
                self._dropping = False
                self._packet_left = min(length + 1, _MAX_PACKET) - 1
                self._continues = length + 1 >= _MAX_PACKET
                self._head(out, self._packet_left + 1)
                out[self.filled] = 0
                self.filled += 1
                continue
            if length >= _GTID_PREFIX:
                self._check(view, at, length)
            self._head(out, length + 1)
            out[self.filled] = 0
            copy(out, self.filled + 1, view, at, length)
            self.filled += 1 + length
            at += length
            self.position += length
            self.events += 1
        self.consumed = at
        return go_on

    def _look(self, view: memoryview, at: int, length: int) -> None:
        """Whether the event can be as long as it says."""
        log_pos = u32(view, at + 13)
        if length < _HEADER + self.checksum or length > _MAX_EVENT:
            self._bad_length(view[at + 4], length)
        if self.position + length > self.limit or (log_pos and log_pos != (self.position + length) & _LOW):
            self._bad_end(view[at + 4], length, log_pos)

    def _check(self, view: memoryview, at: int, length: int) -> None:
        """Whether the event, which is all there, is what was written."""
        if self.checksum:
            size = length - 4
            if crc(view, at, size, 0) != u32(view, at + size):
                self._bad_checksum(view[at + 4], length)

    def _head(self, out: memoryview, length: int) -> None:
        """The four bytes before a packet's payload."""
        at = self.filled
        out[at] = length & 0xFF
        out[at + 1] = length >> 8 & 0xFF
        out[at + 2] = length >> 16
        out[at + 3] = self.sequence
        self.sequence = (self.sequence + 1) & 0xFF
        self.filled = at + 4

    def _drop(self, available: int) -> int:
        """Leave out bytes of the event; how many."""
        size = min(self._left, available)
        self._left -= size
        self.position += size
        if not self._left:
            self.skipped_to = self.position
        return size

    def _piece(self, view: memoryview, at: int, end: int, out: memoryview) -> int:
        """The next bytes of a large event, or the head of its next packet; how many were taken."""
        if not self._packet_left:
            self._packet_left = min(self._left, _MAX_PACKET)
            self._continues = self._packet_left == _MAX_PACKET
            self._head(out, self._packet_left)
            return 0
        size = min(self._packet_left, end - at)
        if self.checksum:
            self._sum_up(view, at, size)
        copy(out, self.filled, view, at, size)
        self.filled += size
        self._packet_left -= size
        self._left -= size
        self.position += size
        return size

    def _sum_up(self, view: memoryview, at: int, size: int) -> None:
        """Add the next bytes of a large event to its sum; with the last ones it must be what the event says."""
        left = self._left
        body = max(min(left - 4, size), 0)
        self._crc = crc(view, at, body, self._crc)
        for index in range(body, size):
            octet = view[at + index]
            self._tail |= octet << 8 * (4 - left + index)
        if size == left and self._crc != self._tail:
            self._bad_large()

    def _choose(self, view: memoryview, at: int, size: int, kind: int) -> None:
        """Whether the replica has the group that this GTID event opens, of which ``size`` bytes are there."""
        body = at + _HEADER
        size -= _HEADER + self.checksum
        if size < 25:
            self._cut_short()
        if kind == _GTID:
            sid1, sid2, gno = gtid(view, body)
            if self._tagged or not self._known <= gno <= self._until or sid1 != self._sid1 or sid2 != self._sid2:
                self._ask(sid1, sid2, "", gno)
        else:
            self._choose_tagged(view, body, size)

    # These make Python objects, so they take the GIL.

    def _choose_tagged(self, view: memoryview, at: int, size: int) -> None:
        sid, tag, gno = tagged_gtid(bytes(view[at : at + size]), 0, size)
        sid1, sid2 = _SID.unpack(sid)
        if not self._known <= gno <= self._until or sid1 != self._sid1 or sid2 != self._sid2 or tag != self._tag:
            self._ask(sid1, sid2, tag, gno)

    def _ask(self, sid1: int, sid2: int, tag: str, gno: int) -> None:
        assert self._covering is not None
        self._excluded, self._until = self._covering(_SID.pack(sid1, sid2), tag, gno)
        self._sid1, self._sid2, self._tag, self._tagged, self._known = sid1, sid2, tag, tag != "", gno

    def _cut_short(self) -> NoReturn:
        raise EventError(f"the GTID event at {self.position} is cut short")

    def _bad_length(self, kind: int, length: int) -> NoReturn:
        raise EventError(f"the event at {self.position} (type {kind}) says it is {length} bytes long")

    def _bad_end(self, kind: int, length: int, log_pos: int) -> NoReturn:
        what = f"the event at {self.position} (type {kind}, {length} bytes)"
        if self.position + length > self.limit:
            raise EventError(f"{what} does not end before {self.limit}")
        raise EventError(f"{what} says it ends at {log_pos}: bytes are missing or were added")

    def _bad_checksum(self, kind: int, length: int) -> NoReturn:
        raise EventError(f"the event at {self.position} (type {kind}, {length} bytes) fails its CRC-32")

    def _bad_large(self) -> NoReturn:
        raise EventError(f"the large event at {self.event} fails its CRC-32")
