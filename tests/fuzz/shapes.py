"""How an input becomes what a peer sends: raw bytes, or payloads that are framed with what the framing needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from binlogd.binlog.crc import crc32
from binlogd.wire.packets import encode_packets

LENGTH = 2  # bytes that say how long a piece is

HEADER = 19
FIRST = 4  # where a file's first event stands
FORMAT_DESCRIPTION = 15
ARTIFICIAL = 0x20
MOST_LARGE = 2  # of one input


def join(pieces: Iterable[bytes]) -> bytes:
    """An input of pieces, each behind its length."""
    return b"".join(len(piece).to_bytes(LENGTH, "little") + piece for piece in pieces)


def split(data: bytes) -> Iterator[bytes]:
    """The pieces of an input; the last one may be shorter than it says."""
    at = 0
    while at + LENGTH <= len(data):
        end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "little")
        yield data[at + LENGTH : end]
        at = end


def packet(payload: bytes, sequence: int) -> bytes:
    """A payload in its packet."""
    return encode_packets(payload, sequence)[0]


def payloads(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Sequence id and payload of each whole packet of a recorded stream; the large ones are left out."""
    at = 0
    while at + 4 <= len(stream):
        length = int.from_bytes(stream[at : at + 3], "little")
        if at + 4 + length > len(stream):
            return
        if length < 1 << 8 * LENGTH:
            yield stream[at + 3], stream[at + 4 : at + 4 + length]
        at += 4 + length


def mended(body: bytes, *, large: int = 0) -> Iterator[tuple[int, bytes]]:
    """Of pieces that are events without checksums, each led by how it is to be mended: that, and the event.

    2 its length and end stay as they are, 4 its checksum stays as it is, 16 ``large`` zeros are put behind it, as often
    as MOST_LARGE; the other bits are the target's. A FORMAT_DESCRIPTION begins a file. An end of 0 stays, as MariaDB's.
    """
    position, checksum, grown = FIRST, 4, 0
    for piece in split(body):
        how, event = piece[:1], bytearray(piece[1:])
        mends = how[0] if how else 0
        if mends & 16 and large and grown < MOST_LARGE:
            event += bytes(large)
            grown += 1
        if len(event) >= HEADER:
            described = event[4] == FORMAT_DESCRIPTION
            if described and len(event) > HEADER:
                checksum = 4 if event[-1] == 1 else 0
            tail = 4 if described or checksum else 0
            if not mends & 2:
                length = len(event) + tail
                event[9:13] = length.to_bytes(4, "little")
                artificial = event[17] & ARTIFICIAL
                if described:
                    position = FIRST
                if not artificial:
                    position += length
                if not artificial and any(event[13:17]):
                    event[13:17] = (position & 0xFFFFFFFF).to_bytes(4, "little")
            if tail:
                event += b"\0\0\0\0" if mends & 4 else crc32(bytes(event)).to_bytes(4, "little")
        yield mends, bytes(event)


def events(captures: dict[str, bytes]) -> Iterator[list[bytes]]:
    """What is stored of each recorded dump: its events without their checksums."""
    for name, stream in captures.items():
        if not name.startswith("dump-"):
            continue
        marked = 3 if "semisync" in name else 1
        found = [payload[marked:-4] for _, payload in payloads(stream) if payload[:1] == b"\0"]
        yield [event for event in found if len(event) >= HEADER and not event[17] & ARTIFICIAL]


def cut(stream: bytes, size: int) -> Iterator[bytes]:
    """The stream in reads of ``size`` bytes."""
    for at in range(0, len(stream), size):
        yield stream[at : at + size]
