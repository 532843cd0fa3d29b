"""The compressed protocol: after the login every byte, both ways, travels in compressed packets.

    length3  sequence1  uncompressed3  payload     length: of the payload as it is here
                                                   uncompressed: its length once decompressed; 0: it is not compressed

What they carry is the ordinary stream, cut anywhere: a packet of the protocol can span several compressed packets and
one of these can hold many. mysqld fills its net_buffer_length (16 KiB) or flushes; only of a large event is a piece
larger, up to 16 MiB. Each is a zlib stream or a zstd frame of its own, and below MIN_COMPRESS bytes neither. (Source:
sql-common/net_serv.cc, mysys/my_compress.cc; dev.mysql.com/doc/dev/mysql-server, page_protocol_basic_compression.)

Sequence ids. These packets count as ordinary ones do: from 0 at a command, and its answer goes on. The ids of the
ordinary packets *inside* mean nothing any more: net_flush() sets them to the id of the next compressed packet, in the
middle of a dump too, and MySQL's own reader does not look at them. So the ids here are what shows that nothing was
lost. In a semi-synchronous dump they begin again behind every event that asks for an acknowledgement, at 0 (MySQL) or
at 1 (MariaDB; protocol.md §4 tells the same of ordinary packets). Where that is, only the events tell, so that in such
a dump an id may at any time be the next or one of these two. What we say meanwhile, the acknowledgements, begins at 0
each and does not count.

Memory: a packet is decompressed as it comes, into the caller's buffer and no further than that has room; nothing is
ever allocated by a length that the peer announced. What is held is the input that the caller fed and, for zstd, its
window, at most what one packet can hold (WINDOW_LOG).
"""

from __future__ import annotations

import sys
import zlib
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from binlogd.errors import ProtocolError
from binlogd.wire.capabilities import Capability
from binlogd.wire.codec import Buffer

if TYPE_CHECKING:
    import zlib as inflating
else:
    try:
        # The same in everything that is used here; a tenth faster on pieces of 16 KiB, a half on large ones.
        from isal import isal_zlib as inflating
    except ImportError:
        import zlib as inflating

HEADER_SIZE = 7
MAX_LENGTH = 0xFFFFFF  # what three bytes can say

MIN_COMPRESS = 50  # bytes, MySQL's MIN_COMPRESS_LENGTH: less is sent as it is

ZSTD_LEVEL = 3  # MySQL's default; the client names it in its login, and the server compresses with it

PIECE = 256 * 1024  # bytes decompressed at once: what decompresses makes bytes of its own first

WINDOW_LOG = 24  # zstd may look back this many bits' worth of bytes: 16 MiB, more than a packet holds

_RESTARTS = (0, 1)  # ids after an event that asks for an acknowledgement: MySQL's, MariaDB's


class Algorithm(StrEnum):
    """How packets are compressed."""

    ZLIB = "zlib"
    ZSTD = "zstd"

    @property
    def capability(self) -> Capability:
        """The flag by which both sides agree on it."""
        return Capability.COMPRESS if self is Algorithm.ZLIB else Capability.ZSTD_COMPRESSION


class _Engine(Protocol):
    """Decompresses one stream, as the standard library's incremental decompressors do."""

    needs_input: bool
    eof: bool
    unused_data: bytes

    def decompress(self, data: Buffer, max_length: int) -> bytes:
        """At most ``max_length`` bytes; what of ``data`` is not needed for them is kept for the next call."""


class CompressedStream:
    """Both directions of one connection, from the first byte after the login.

    ``feed`` what came, then ``read_into`` until it gives 0. Whatever is fed is held until it is read, so it is fed
    piece by piece. ``pack`` what is to be sent.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self._new_engine, self._compress, self._errors = _tools(algorithm)
        self._input = bytearray()
        self._at = 0  # what of it is taken
        self._due = 0  # the next packet's sequence id
        self._restarts: tuple[int, ...] = ()
        self._dumping = False
        self._engine: _Engine | None = None  # within a compressed packet
        self._left = 0  # bytes of the current packet's payload that are not taken yet
        self._promised = 0  # and those that are still to come out of it
        self._broken: ProtocolError | None = None

    def pack(self, data: Buffer) -> bytes:
        """``data``, which is a command or an acknowledgement, in compressed packets from id 0 on.

        An answer is then due from the id behind them; in a dump nothing is answered.
        """
        view = memoryview(data)
        parts: list[Buffer] = []
        starts = range(0, len(view), MAX_LENGTH)
        for number, start in enumerate(starts):
            piece = view[start : start + MAX_LENGTH]
            small = self._compress(piece) if len(piece) >= MIN_COMPRESS else b""
            packed = 0 < len(small) < len(piece)
            sent = small if packed else piece
            parts += [
                len(sent).to_bytes(3, "little"),
                (number & 0xFF).to_bytes(1, "little"),
                (len(piece) if packed else 0).to_bytes(3, "little"),
                sent,
            ]
        if not self._dumping:
            self._due = len(starts) & 0xFF
        return b"".join(parts)

    def begin_dump(self, *, restarts: bool) -> None:
        """The command just packed begins a dump; with ``restarts`` a semi-synchronous one."""
        self._dumping = True
        self._restarts = _RESTARTS if restarts else ()

    def feed(self, data: Buffer) -> None:
        """Add bytes from the peer."""
        del self._input[: self._at]
        self._at = 0
        self._input += data

    def read_into(self, out: memoryview) -> int:
        """Fill ``out`` as far as what was fed goes; how many bytes. 0: feed more.

        Raises ``ProtocolError``, when what came before has been read, for ids out of order, for what does not
        decompress, and for a payload that is longer or shorter than announced.
        """
        if self._broken is not None:
            raise self._broken
        filled = 0
        try:
            with memoryview(self._input) as view:
                while filled < len(out) and (step := self._step(view, out[filled:])) is not None:
                    filled += step
        except ProtocolError as broken:
            self._broken = broken
            if not filled:
                raise
        return filled

    def _step(self, view: memoryview, out: memoryview) -> int | None:
        """A header, or a piece of a payload; how much of it went into ``out``, None when it takes more input."""
        before = self._at
        if self._engine is not None:
            size = self._inflate(self._engine, view, out)
            return None if not size and self._at == before and self._engine is not None else size
        if not self._left:
            return 0 if self._begin(view) else None
        size = min(self._left, len(view) - before, len(out))
        out[:size] = view[before : before + size]
        self._at += size
        self._left -= size
        return size or None

    def _begin(self, view: memoryview) -> bool:
        """Take a header, if it is there."""
        at = self._at
        if len(view) - at < HEADER_SIZE:
            return False
        sequence = view[at + 3]
        if sequence != self._due and sequence not in self._restarts:
            raise ProtocolError(
                f"compressed packets out of order: sequence id {sequence} where {self._due} must follow",
                hint="the connection is unusable and must be made anew",
            )
        self._due = (sequence + 1) & 0xFF
        self._left = int.from_bytes(view[at : at + 3], "little")
        self._promised = int.from_bytes(view[at + 4 : at + 7], "little")
        self._at = at + HEADER_SIZE
        if self._promised:
            self._engine = self._new_engine()
        return True

    def _inflate(self, engine: _Engine, view: memoryview, out: memoryview) -> int:
        """The next bytes of a compressed packet; ends it when it is whole."""
        data = view[self._at : self._at + self._left] if engine.needs_input else b""
        # One byte more than was promised, so that a stream comes to its end in the same call, or shows that it goes on.
        limit = min(len(out), self._promised + 1, PIECE)
        try:
            piece = engine.decompress(data, limit)
        except self._errors as bad:
            raise ProtocolError(f"a compressed packet cannot be decompressed with {self._algorithm}: {bad}") from bad
        size = len(piece)
        self._at += len(data)
        self._left -= len(data)
        if size > self._promised or engine.unused_data or (engine.eof and (self._left or size < self._promised)):
            raise ProtocolError("a compressed packet holds another number of bytes than it announced")
        self._promised -= size
        out[:size] = piece
        if engine.eof:
            self._engine = None
        elif not self._left and engine.needs_input and not size:
            raise ProtocolError("a compressed packet ends before what is compressed in it")
        return size


class _Inflater:
    """zlib's decompression under the names that all newer decompressors have."""

    def __init__(self) -> None:
        self._object = inflating.decompressobj()
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: Buffer, max_length: int) -> bytes:
        piece = self._object.decompress(data if self.needs_input else self._object.unconsumed_tail, max_length)
        self.needs_input = not self._object.unconsumed_tail
        return piece


def _tools(algorithm: Algorithm) -> tuple[Any, Any, tuple[type[Exception], ...]]:
    """(what makes an ``_Engine``, what compresses bytes, the errors of decompression)."""
    if algorithm is Algorithm.ZLIB:
        return _Inflater, zlib.compress, (inflating.error,)
    # Loaded when it is used: a megabyte that no other connection needs.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    options = {int(zstd.DecompressionParameter.window_log_max): WINDOW_LOG}
    return (
        lambda: zstd.ZstdDecompressor(options=options),
        lambda data: zstd.compress(data, ZSTD_LEVEL),
        (zstd.ZstdError,),
    )
