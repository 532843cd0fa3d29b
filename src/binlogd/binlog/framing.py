"""The hot module, second half: events split out of packets and framed into packets.

``Intake``   splits the packets of a dump (protocol.md §3: ``00 [ef flag] event``) into events, walks them, and copies
             those that belong into the file, side by side, so that one system call writes them all.
``Outlet``   the reverse: frames the events of a block into packets, leaving out the transactions a replica has.

Buffers are walked in place; nothing is held per transaction. An event that fits is taken whole; a large one streams
through, so that memory does not grow with the event.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from struct import Struct

from binlogd.binlog.walk import HEADER_LENGTH, PREFIX, WHOLE_LIMIT, Walk, tagged_gtid
from binlogd.errors import EventError, ProtocolError

MAX_PACKET = 0xFFFFFF  # payload bytes of one packet; a longer payload continues in the next
GTID_PREFIX = 1024  # of any event this much shows its GTID: a GTID event is shorter

_ROTATE = 4
_FORMAT_DESCRIPTION = 15
_HEARTBEAT = 27
_GTID = 33
_ANONYMOUS_GTID = 34
_PREVIOUS_GTIDS = 35
_HEARTBEAT_V2 = 41
_GTID_TAGGED = 42
_ARTIFICIAL = 0x20  # LOG_EVENT_ARTIFICIAL_F

_u64 = Struct("<Q").unpack_from
_u32 = Struct("<I").unpack_from


class Stop(IntEnum):
    """Why ``Intake.scan`` came back."""

    MORE = 0  # everything usable was taken: read more
    CONTROL = 1  # `event` holds an event for the caller, taken off the stream and not stored
    ERROR = 2  # `event` holds an ERR packet's payload: the source ends the dump
    END = 3  # an EOF packet: the source has no more


class Intake:
    """Splits the packets of a dump into events and gathers those that belong into the file.

    ``scan`` takes bytes from ``buffer`` and puts events into ``out``, which must be at least as large. Between two
    calls the caller keeps ``buffer[consumed:end]`` and appends to it, and writes ``out[:filled]`` away.

    Control events are those that are never stored as they come: FORMAT_DESCRIPTION, heartbeats and everything
    artificial. The caller answers a FORMAT_DESCRIPTION by setting ``walk``.
    """

    __slots__ = (
        "_continues",
        "_flagged",
        "_packet_left",
        "_prefix",
        "_sequence",
        "ack_owed",
        "consumed",
        "event",
        "filled",
        "walk",
    )

    def __init__(self, *, semi_sync: bool, sequence: int) -> None:
        self._prefix = 3 if semi_sync else 1
        self._sequence = sequence
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
        view = memoryview(buffer)
        at = start
        prefix = self._prefix
        stop = Stop.MORE
        while True:
            if self._packet_left:
                size = min(self._packet_left, end - at)
                if not size:
                    break
                assert self.walk is not None
                whole = self.walk.feed_large(view[at : at + size])
                out[self.filled : self.filled + size] = view[at : at + size]
                at += size
                self.filled += size
                self._packet_left -= size
                if whole and not self._continues:
                    self._event_end()
                continue
            if end - at < 4:
                break
            length = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
            if buffer[at + 3] != self._sequence:
                raise ProtocolError(f"packet out of order: sequence id {buffer[at + 3]} where {self._sequence} was due")
            if self._continues:
                self._continue(length)
                at += 4
                continue
            if length > WHOLE_LIMIT:
                if end - at < PREFIX:
                    break
                self._begin_large(view, at, end, length)
                at += 4 + prefix
                continue
            if end - at - 4 < length:
                break
            event = at + 4 + prefix
            size = length - prefix
            if not length or buffer[at + 4] or size < HEADER_LENGTH:
                stop = self._terminator(view[at + 4 : at + 4 + length])
                self._next_sequence()
                at += 4 + length
                break
            self._check_prefix(buffer, at + 4)
            self._next_sequence()
            at += 4 + length
            kind = buffer[event + 4]
            if (
                kind == _FORMAT_DESCRIPTION
                or kind == _HEARTBEAT
                or kind == _HEARTBEAT_V2
                or buffer[event + 17] & _ARTIFICIAL
            ):
                self.event = bytes(view[event : event + size])
                self._event_end()
                stop = Stop.CONTROL
                break
            if self.walk is None:
                raise ProtocolError(f"an event of type {kind} came before the file's FORMAT_DESCRIPTION")
            self.walk.whole(buffer, event, size)
            out[self.filled : self.filled + size] = view[event : event + size]
            self.filled += size
            if self._flagged:
                self._event_end()
        self.consumed = at
        return stop

    def _next_sequence(self) -> None:
        self._sequence = (self._sequence + 1) & 0xFF

    def _event_end(self) -> None:
        """The event is whole. After one that asks for an ACK the source counts from 1 (protocol.md §4)."""
        if self._flagged:
            self._flagged = False
            self.ack_owed = True
            self._sequence = 1

    def _check_prefix(self, buffer: bytearray | memoryview, at: int) -> None:
        if self._prefix == 3:
            if buffer[at + 1] != 0xEF:
                raise ProtocolError("the source agreed to semi-sync, yet a packet lacks its mark 0xEF")
            self._flagged = bool(buffer[at + 2] & 1)

    def _terminator(self, payload: memoryview) -> Stop:
        first = payload[0] if len(payload) else 0
        if first == 0xFF:
            self.event = bytes(payload)
            return Stop.ERROR
        if first == 0xFE and len(payload) < 9:
            return Stop.END
        raise ProtocolError(f"a packet of {len(payload)} bytes beginning {first:#04x} is no event")

    def _begin_large(self, view: memoryview, at: int, end: int, length: int) -> None:
        if self.walk is None:
            raise ProtocolError("an event came before the file's FORMAT_DESCRIPTION")
        if view[at + 4]:
            raise ProtocolError(f"a packet of {length} bytes beginning {view[at + 4]:#04x} is no event")
        self._check_prefix(view, at + 4)
        event = at + 4 + self._prefix
        if view[event + 17] & _ARTIFICIAL or view[event + 4] in (
            _FORMAT_DESCRIPTION,
            _HEARTBEAT,
            _HEARTBEAT_V2,
        ):
            raise ProtocolError(f"an artificial event of {length} bytes: nothing sends such a thing")
        self._next_sequence()
        size = self.walk.begin_large(view, event, end)
        self._packet_left = length - self._prefix
        self._continues = length == MAX_PACKET
        if size < self._packet_left or (size > self._packet_left and not self._continues):
            raise EventError(f"an event of {size} bytes at {self.walk.position} in a packet of {length}")

    def _continue(self, length: int) -> None:
        """The header of the packet in which a large event goes on; an empty one only ends it."""
        assert self.walk is not None
        left = self.walk.large_left
        self._next_sequence()
        self._packet_left = length
        self._continues = length == MAX_PACKET
        if length > left or (length < left and not self._continues):
            raise EventError(f"the packets of the event at {self.walk.position} do not add up to its length")
        if not left and not self._continues:
            self._event_end()


class Outlet:
    """Frames events into packets of a dump, ``00 event`` each, leaving out what the replica has.

    ``frame`` takes the file's bytes from ``position`` on and puts packets into ``out``. With ``covering`` given (see
    ``GtidSet.covering``) it leaves out the transactions the set contains; after such it comes back before the next
    event that is sent, so that the caller puts in the heartbeat MySQL's replicas need (protocol.md §3.4).
    """

    __slots__ = (
        "_continues",
        "_covering",
        "_dropping",
        "_excluded",
        "_known",
        "_left",
        "_packet_left",
        "_sid",
        "_tag",
        "_until",
        "checksum",
        "consumed",
        "filled",
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
        self._covering = covering
        self._excluded = False  # the group under way is left out
        self._sid = b""
        self._tag = ""
        self._known = 0  # for _known..<_until of _sid:_tag the answer of `covering` is _excluded
        self._until = -1
        self._left = 0  # bytes of a large event still to come
        self._dropping = False  # and it is left out
        self._packet_left = 0  # payload bytes of its current packet still to come
        self._continues = False  # its current packet is full, so another follows, if only an empty one

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
        for the bytes and 5 more for every 19 of them (``room_for``). When it raises, ``out[:filled]`` still is whole
        packets, to be sent before anybody is told.
        """
        view = memoryview(buffer)
        at = start
        self.filled = filled = 0
        go_on = True
        while True:
            if self._left or self._continues:
                if at == end and self._left:
                    break
                if self._dropping:
                    at += self._drop(end - at)
                else:
                    taken, put = self._piece(view[at:end], out[filled:])
                    at += taken
                    filled += put
                continue
            if end - at < HEADER_LENGTH:
                break
            length = _u32(buffer, at + 9)[0]
            if length < HEADER_LENGTH:
                self.filled = filled
                raise EventError(f"the event at {self.position} says it is {length} bytes long")
            whole = length <= end - at
            if not whole and end - at < GTID_PREFIX:
                break
            if self._covering is not None:
                kind = buffer[at + 4]
                if kind == _GTID or kind == _GTID_TAGGED:
                    self.filled = filled
                    self._choose(buffer, at, at + length, kind)
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
            if not whole or length >= MAX_PACKET:
                self._left = length
                self._dropping = False
                self._packet_left = min(length + 1, MAX_PACKET) - 1
                self._continues = length + 1 >= MAX_PACKET
                out[filled : filled + 5] = self._packet_head(self._packet_left + 1) + b"\0"
                filled += 5
                continue
            out[filled : filled + 5] = self._packet_head(length + 1) + b"\0"
            out[filled + 5 : filled + 5 + length] = view[at : at + length]
            filled += 5 + length
            at += length
            self.position += length
        self.consumed = at
        self.filled = filled
        return go_on

    def _packet_head(self, length: int) -> bytes:
        head = length.to_bytes(3, "little") + bytes((self.sequence,))
        self.sequence = (self.sequence + 1) & 0xFF
        return head

    def _drop(self, available: int) -> int:
        size = min(self._left, available)
        self._left -= size
        self.position += size
        if not self._left:
            self.skipped_to = self.position
        return size

    def _piece(self, view: memoryview, out: memoryview) -> tuple[int, int]:
        """The next bytes of a large event: (taken from ``view``, put into ``out``)."""
        if not self._packet_left:
            self._packet_left = min(self._left, MAX_PACKET)
            self._continues = self._packet_left == MAX_PACKET
            out[:4] = self._packet_head(self._packet_left)
            return 0, 4
        size = min(self._packet_left, len(view))
        out[:size] = view[:size]
        self._packet_left -= size
        self._left -= size
        self.position += size
        return size, size

    def _choose(self, buffer: bytearray, at: int, end: int, kind: int) -> None:
        """Whether the replica has the group that this GTID event opens."""
        assert self._covering is not None
        body = at + HEADER_LENGTH
        if kind == _GTID_TAGGED:
            sid, tag, gno = tagged_gtid(buffer, body, end - self.checksum)
        else:
            sid, tag, gno = bytes(buffer[body + 1 : body + 17]), "", _u64(buffer, body + 17)[0]
        if not (self._known <= gno <= self._until and sid == self._sid and tag == self._tag):
            self._excluded, self._until = self._covering(sid, tag, gno)
            self._sid, self._tag, self._known = sid, tag, gno


def room_for(block: int) -> int:
    """Bytes of ``out`` that ``Outlet.frame`` needs for a block of this size: 5 for each event of at least 19."""
    return block + 5 * (block // HEADER_LENGTH + 2)
