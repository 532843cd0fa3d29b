"""How an input becomes what a peer sends: raw bytes, or payloads that are framed with what the framing needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from binlogd.wire.packets import encode_packets

LENGTH = 2  # bytes that say how long a piece is


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


def cut(stream: bytes, size: int) -> Iterator[bytes]:
    """The stream in reads of ``size`` bytes."""
    for at in range(0, len(stream), size):
        yield stream[at : at + size]
