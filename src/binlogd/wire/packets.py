"""Packets: a 3-byte length, a sequence id, the bytes.

A packet carries at most 0xFFFFFF bytes. A longer payload goes on in the next packet and ends with the first
one that is shorter, so a payload of an exact multiple is closed by an empty packet. The sequence id counts
packets in both directions from 0 at the start of a command, modulo 256; a gap means that bytes were lost or
that the two sides disagree about who speaks, and nothing after it can be trusted. (Source:
dev.mysql.com/doc/dev/mysql-server, page_protocol_basic_packets.)

``PacketReader`` consumes a payload only when all of it is there. Until then every byte stays in its buffer,
so ``remainder`` can hand a connection over at any moment without losing half a packet.
"""

from __future__ import annotations

from binlogd.errors import ProtocolError
from binlogd.wire.codec import Buffer

MAX_PAYLOAD = 0xFFFFFF
"""What the 3-byte length of one packet can say; a packet this long is continued in the next."""

HEADER_SIZE = 4

_COMPACT_AT = 64 * 1024
"""Consumed bytes are cut from the front of the buffer once there are this many: a copy per 64 KiB, not per
packet.
"""


def encode_packets(payload: Buffer, sequence: int) -> tuple[bytes, int]:
    """``payload`` framed into packets from ``sequence`` on; returns the bytes and the next sequence id (mod
    256).
    """
    parts: list[Buffer] = []
    view = memoryview(payload)
    start = 0
    while True:
        part = view[start : start + MAX_PAYLOAD]
        parts.append(len(part).to_bytes(3, "little") + sequence.to_bytes(1, "little"))
        parts.append(part)
        sequence = (sequence + 1) & 0xFF
        start += MAX_PAYLOAD
        if len(part) < MAX_PAYLOAD:
            return b"".join(parts), sequence


class PacketReader:
    """Splits a stream into payloads and checks the sequence ids.

    ``max_payload`` bounds a whole payload, continuation packets included: a header that would pass it raises
    ``ProtocolError`` before the bytes it announces are waited for. It may be changed between payloads.
    ``sequence`` is the id the next packet must carry; whoever sends in between sets it. ``numbered`` False says that
    the packets came in compressed ones, where their own ids mean nothing (compression.py).
    """

    __slots__ = ("_buffer", "_start", "max_payload", "numbered", "sequence")

    def __init__(self, *, max_payload: int, sequence: int = 0) -> None:
        self.max_payload = max_payload
        self.sequence = sequence
        self.numbered = True
        self._buffer = bytearray()
        self._start = 0

    @property
    def buffered(self) -> int:
        """Bytes fed and not consumed."""
        return len(self._buffer) - self._start

    @property
    def wanted(self) -> int:
        """How many more bytes complete the packet (or its header) at hand; never 0.

        Who reads exactly this many never reads past the packet, which matters just before TLS starts: the
        bytes behind an SSLRequest belong to the TLS layer.
        """
        position = self._start
        while True:
            have = len(self._buffer) - position
            if have < HEADER_SIZE:
                return HEADER_SIZE - have
            length = int.from_bytes(self._buffer[position : position + 3], "little")
            if have < HEADER_SIZE + length:
                return HEADER_SIZE + length - have
            position += HEADER_SIZE + length

    def feed(self, data: Buffer) -> None:
        """Add bytes from the peer."""
        if self._start == len(self._buffer):
            self._buffer.clear()
            self._start = 0
        elif self._start >= _COMPACT_AT:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole payload, or None until more bytes are fed."""
        position = self._start
        sequence = self.sequence
        size = 0
        parts: list[tuple[int, int]] = []
        while len(self._buffer) - position >= HEADER_SIZE:
            length = int.from_bytes(self._buffer[position : position + 3], "little")
            got = self._buffer[position + 3]
            if got != sequence and self.numbered:
                raise ProtocolError(
                    f"packets out of order: sequence id {got} where {sequence} must follow",
                    hint="the connection is unusable and must be made anew",
                )
            size += length
            if size > self.max_payload:
                raise ProtocolError(
                    f"a packet of at least {size} bytes was announced, the limit here is {self.max_payload}"
                )
            start = position + HEADER_SIZE
            position = start + length
            if position > len(self._buffer):
                return None
            sequence = (sequence + 1) & 0xFF
            parts.append((start, position))
            if length < MAX_PAYLOAD:
                payload = b"".join([bytes(memoryview(self._buffer)[start:end]) for start, end in parts])
                self._start = position
                self.sequence = sequence
                return payload
        return None

    def remainder(self) -> bytes:
        """Take the bytes fed and not consumed: what follows is read by somebody else."""
        data = bytes(memoryview(self._buffer)[self._start :])
        self._buffer.clear()
        self._start = 0
        return data
