"""Feeding the hot module as its callers do: in blocks, keeping what was not taken, writing away what was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

from binlogd.binlog.framing import Intake, Outlet, Stop, room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import Header
from binlogd.binlog.walk import Walk
from binlogd.wire.packets import encode_packets
from tests.binlog.making import Log

MIB = 1024 * 1024


def pieces(data: bytes | bytearray | memoryview, sizes: Iterable[int]) -> Iterator[memoryview]:
    """``data`` in pieces of these sizes, and the rest."""
    view = memoryview(data)
    for size in sizes:
        if not view:
            return
        yield view[:size]
        view = view[size:]
    if view:
        yield view


def walk_in_pieces(walk: Walk, data: bytes | bytearray, sizes: Iterable[int], *, room: int = 2 * MIB) -> bytes:
    """Walk a file's bytes as reader.walk_file does; what was left untaken at the end."""
    buffer = bytearray(room)
    filled = 0
    for piece in chain.from_iterable(pieces(part, repeat(MIB)) for part in pieces(data, sizes)):
        buffer[filled : filled + len(piece)] = piece
        filled += len(piece)
        taken = walk.walk(buffer, 0, filled)
        buffer[: filled - taken] = buffer[taken:filled]
        filled -= taken
    return bytes(buffer[:filled])


def framed(
    events: Iterable[bytes | tuple[bytes, bool]], *, semi_sync: bool = False, sequence: int = 1, acks: bool = True
) -> bytes:
    """A dump's packets by the wire's own encoder: ``00 [ef flag] event``, counting anew from 1 behind a flagged one."""
    stream = []
    for item in events:
        event, flagged = item if isinstance(item, tuple) else (item, False)
        head = bytes((0, 0xEF, flagged)) if semi_sync else b"\0"
        packets, sequence = encode_packets(head + event, sequence)
        if flagged and acks:
            sequence = 1
        stream.append(packets)
    return b"".join(stream)


class Receiving:
    """An ``Intake`` in a receiver's loop: what it stored, what it was told, and where ACKs were due."""

    def __init__(
        self, *, semi_sync: bool = False, sequence: int | None = 1, walk: Walk | None = None, room: int = 2 * MIB
    ) -> None:
        self.intake = Intake(semi_sync=semi_sync, sequence=sequence)
        self.intake.walk = walk
        self.stored = bytearray()
        self.controls: list[bytes] = []
        self.stops: list[Stop] = []
        self.acks: list[int] = []
        self._buffer = bytearray(room)
        self._filled = 0
        self._out = memoryview(bytearray(room))

    def feed(self, data: bytes | bytearray | memoryview, sizes: Iterable[int] = ()) -> Receiving:
        """Take the stream in pieces of these sizes, and the rest in as large ones as fit."""
        for part in pieces(data, sizes):
            while part:
                size = min(len(part), len(self._buffer) - self._filled)
                assert size, "the intake takes nothing from a full buffer"
                self._buffer[self._filled : self._filled + size] = part[:size]
                self._filled += size
                part = part[size:]
                self._scan()
        return self

    @property
    def left(self) -> int:
        """Bytes that were fed and not taken."""
        return self._filled

    def keep(self) -> None:
        """Write away what is in ``out``."""
        self.stored += self._out[: self.intake.filled]
        self.intake.filled = 0

    def _scan(self) -> None:
        intake = self.intake
        at = 0
        while True:
            if intake.filled and intake.filled + self._filled - at > len(self._out):
                self.keep()
            stop = intake.scan(self._buffer, at, self._filled, self._out)
            assert at <= intake.consumed <= self._filled
            at = intake.consumed
            if intake.ack_owed:
                intake.ack_owed = False
                self.acks.append(intake.walk.position if intake.walk else -1)
            if stop is Stop.MORE:
                break
            self.stops.append(stop)
            self.controls.append(intake.event)
            if stop is not Stop.CONTROL:
                break
        self._buffer[: self._filled - at] = self._buffer[at : self._filled]
        self._filled -= at


def sent(
    data: bytes | bytearray,
    *,
    start: int = 4,
    covering: GtidSet | None = None,
    sizes: Iterable[int] = (),
    sequence: int = 1,
    checksum: int = 4,
    block: int = 256 * 1024,
) -> tuple[bytes, list[int]]:
    """A file's packets by an ``Outlet`` in a sender's loop, ``data[n:]`` being offset n of the file.

    Where a heartbeat is due, the packet ``heartbeat(position)`` stands. Returns the stream and their positions; the
    last one, at the end of the file, when something is still skipped.
    """
    outlet = Outlet(sequence=sequence, covering=covering.covering if covering else None)
    outlet.position = start
    outlet.checksum = checksum
    buffer = bytearray(block)
    out = memoryview(bytearray(room_for(block)))
    stream = bytearray()
    beats = []
    wanted = chain(sizes, repeat(block))
    starved = 0
    while outlet.position < len(data):
        size = min(next(wanted) + starved, block, len(data) - outlet.position)
        buffer[:size] = data[outlet.position : outlet.position + size]
        before = outlet.position
        go_on = outlet.frame(buffer, 0, size, out)
        assert outlet.filled <= len(out)
        assert outlet.consumed == outlet.position - before <= size
        stream += out[: outlet.filled]
        if not go_on:
            assert not outlet.in_event
            beats.append(outlet.skipped_to)
            stream += outlet.packet(heartbeat(outlet.skipped_to))
            outlet.skipped_to = 0
        starved = starved + 1024 if not outlet.consumed and go_on else 0
        assert starved < 2 * block, f"stuck at {outlet.position}"
    if outlet.skipped_to:
        beats.append(outlet.skipped_to)
    return bytes(stream), beats


def heartbeat(position: int) -> bytes:
    """What ``sent`` puts where a heartbeat belongs: an event by its looks."""
    return Header(0, 27, 1, 27, position & 0xFFFFFFFF, 0x20).encode() + position.to_bytes(8, "little")


def behind_format(log: Log) -> Walk:
    """A walk that stands behind the FORMAT_DESCRIPTION."""
    return Walk(position=log.events[0].end, checksum=log.checksum)


def stored(log: Log) -> bytes:
    """What is to be stored behind the FORMAT_DESCRIPTION."""
    return bytes(log.data[log.at(log.events[0].end) :])


def walked(log: Log, *, start: int | None = None) -> Walk:
    """A walk over all of it, event by event, each taken whole."""
    walk = Walk(position=log.base if start is None else start, checksum=log.checksum)
    for event in log.each():
        walk.whole(event, 0, len(event))
    return walk
