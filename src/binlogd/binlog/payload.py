"""What is inside a TRANSACTION_PAYLOAD: whole events without checksums, one behind the other, compressed.

The payload comes in pieces and so do the events: of each no more than PREFIX bytes are held, whatever it
decompresses to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from binlogd.binlog.description import PREFIX
from binlogd.binlog.header import HEADER_LENGTH, Header
from binlogd.binlog.transaction_events import Compression
from binlogd.errors import EventError

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

STEP: Final = 256 * 1024  # bytes decompressed at a time


class PayloadEvents:
    """Takes a payload apart. Raises EventError when it is not what its event says."""

    def __init__(self, compression: int) -> None:
        if compression not in tuple(Compression):
            raise EventError(f"a Transaction_payload event is compressed by method {compression}; only zstd is known")
        self._zstd = zstd.ZstdDecompressor() if compression == Compression.ZSTD else None
        self._data = bytearray()  # of the event at hand, up to PREFIX
        self._header: Header | None = None
        self._left = 0  # bytes of that event still to come

    def feed(self, piece: bytes) -> Iterator[tuple[Header, bytes] | None]:
        """The events that end in the next ``piece``, each with its beginning; None after every step of work."""
        if self._zstd is None:
            yield from self._take(memoryview(piece))
            return
        try:
            while piece or not self._zstd.needs_input:
                out = self._zstd.decompress(piece, STEP)  # EOFError behind the end
                piece = self._zstd.unused_data
                yield from self._take(memoryview(out))
                yield None
                if self._ended(piece):
                    return
        except (zstd.ZstdError, EOFError) as bad:
            raise EventError(f"a Transaction_payload event cannot be decompressed: {bad}") from bad

    def _ended(self, more: bytes) -> bool:
        """Whether the compressed stream is over and nothing follows."""
        return self._zstd is not None and self._zstd.eof and not more

    def end(self) -> None:
        """There is no more."""
        if self._data or self._left:
            raise EventError("a Transaction_payload event ends within one of its events")
        if self._zstd is not None and not self._zstd.eof:
            raise EventError("a Transaction_payload event ends within its compressed data")

    def _take(self, view: memoryview) -> Iterator[tuple[Header, bytes]]:
        while view:
            if self._header is None:
                wanted = HEADER_LENGTH - len(self._data)
                self._data += view[:wanted]
                view = view[wanted:]
                if len(self._data) < HEADER_LENGTH:
                    return
                self._header = Header.decode(self._data)
                self._left = self._header.length - HEADER_LENGTH
            size = min(self._left, len(view))
            self._data += view[: min(size, max(PREFIX - len(self._data), 0))]
            self._left -= size
            view = view[size:]
            if self._left == 0:
                header, data = self._header, bytes(self._data)
                self._header, self._data = None, bytearray()
                yield header, data
