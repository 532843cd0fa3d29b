"""Integers and strings as the MySQL protocol writes them.

Fixed integers are little-endian. A length-encoded integer ("lenenc") is one byte below 0xFB, or a mark and 2,
3 or 8 bytes; 0xFB in the mark's place is SQL NULL and 0xFF cannot stand there, because it opens an ERR
packet. A string is lenenc-prefixed, NUL-terminated, or runs to the end of the payload. (Source: "Protocol
Basics", dev.mysql.com/doc/dev/mysql-server, page_protocol_basic_dt_*.)

``Reader`` keeps one invariant: whatever the bytes are, it either returns a value or raises ``ProtocolError``.
Nothing above it needs to guard against IndexError, struct.error or UnicodeDecodeError.
"""

from __future__ import annotations

from binlogd.errors import ProtocolError

Buffer = bytes | bytearray | memoryview

NULL_MARK = 0xFB
"""In a text row, a value that is NULL rather than a string."""

_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


def encode_lenenc(value: int) -> bytes:
    """A lenenc integer, 0 ≤ value < 2**64, in the shortest form."""
    if value < NULL_MARK:
        return value.to_bytes(1, "little")
    if value < 1 << 16:
        return b"\xfc" + value.to_bytes(2, "little")
    if value < 1 << 24:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def encode_lenenc_bytes(value: bytes) -> bytes:
    """A string led by its lenenc length."""
    return encode_lenenc(len(value)) + value


class Reader:
    """Reads one payload from its start; every method raises ``ProtocolError`` when the bytes do not suffice.

    ``what`` names the payload in the errors ("the greeting").
    """

    __slots__ = ("_data", "_position", "_what")

    def __init__(self, data: Buffer, what: str = "a packet") -> None:
        self._data = memoryview(data)
        self._position = 0
        self._what = what

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise ProtocolError(
                f"{self._what} is cut short: {size} bytes wanted at {self._position}, {self.remaining} left"
            )
        value = bytes(self._data[self._position : end])
        self._position = end
        return value

    def integer(self, width: int) -> int:
        """A fixed little-endian unsigned integer of ``width`` bytes."""
        return int.from_bytes(self.take(width), "little")

    def lenenc(self) -> int:
        """A lenenc integer; NULL is not allowed here."""
        value = self.lenenc_or_null()
        if value is None:
            raise ProtocolError(f"{self._what} holds NULL where a number must stand")
        return value

    def lenenc_or_null(self) -> int | None:
        """A lenenc integer, or None for the NULL mark."""
        first = self.integer(1)
        if first < NULL_MARK:
            return first
        if first == NULL_MARK:
            return None
        width = _WIDTHS.get(first)
        if width is None:
            raise ProtocolError(f"{self._what} holds the byte 0xff where a length must stand")
        return self.integer(width)

    def lenenc_bytes(self) -> bytes:
        """A string led by its lenenc length."""
        return self.take(self.lenenc())

    def nul_bytes(self) -> bytes:
        """A string up to its NUL, which is consumed and not returned."""
        value = bytes(self._data[self._position :])
        end = value.find(b"\0")
        if end < 0:
            raise ProtocolError(f"{self._what} holds a string without its terminating NUL")
        self._position += end + 1
        return value[:end]

    def rest(self) -> bytes:
        """Everything to the end of the payload."""
        return self.take(self.remaining)

    def text(self, value: bytes) -> str:
        """``value`` as UTF-8, which is what both our roles negotiate."""
        return decode_text(value, self._what)


def decode_text(value: bytes, what: str) -> str:
    """UTF-8 or ``ProtocolError``; ``what`` names the payload."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{what} holds text that is not UTF-8: {value[:64]!r}") from error
