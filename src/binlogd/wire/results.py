"""Answers to commands: OK, EOF, and result sets in the text protocol.

    OK          00  lenenc affected, lenenc last_insert_id, status2, warnings2 [, lenenc info]
    EOF         fe  warnings2, status2                     under 9 bytes: shorter than a row that begins so
    EOF as OK   fe  as OK                                  when both sides DEPRECATE_EOF
    result set  lenenc n, n × column [, EOF], rows …, EOF — or ERR in the place of any row

A row is n lenenc strings or 0xFB for NULL. A row can begin with 0xFE too (a string of 16 MiB or more), so an
EOF is known by its header and its length. Without DEPRECATE_EOF the columns and the rows are both closed by
an EOF, with it only the rows. (Source: dev.mysql.com/doc/dev/mysql-server,
page_protocol_com_query_response_text_resultset, _basic_ok_packet. The page says that an OK's info runs to the
end; the server writes it lenenc with or without SESSION_TRACK: net_send_ok.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from binlogd.errors import ProtocolError
from binlogd.wire.capabilities import Capability, Charset, ColumnType, StatusFlag
from binlogd.wire.codec import NULL_MARK, Reader, encode_lenenc, encode_lenenc_bytes
from binlogd.wire.errors import ERR_HEADER, decode_error

OK_HEADER = 0x00
EOF_HEADER = 0xFE
LOCAL_INFILE_HEADER = 0xFB

MAX_COLUMNS = 4096
"""What any server returns at most; a larger count is a corrupt one."""

MAX_RESULT = 16 * 1024 * 1024
"""Bytes of one answer: 10,000 file names or a GTID set of 400,000 intervals fit many times over."""

_EOF_MAX_SIZE = 9
_EOF_AS_OK_MAX_SIZE = 0xFFFFFF

_COLUMN_TAIL = 0x0C

Value = None | int | str | bytes
"""A value of a row we send; decimals and dates as str."""

_BYTE_STRINGS = frozenset(
    {
        ColumnType.VARCHAR,
        ColumnType.BIT,
        ColumnType.VECTOR,
        ColumnType.TINY_BLOB,
        ColumnType.MEDIUM_BLOB,
        ColumnType.LONG_BLOB,
        ColumnType.BLOB,
        ColumnType.VAR_STRING,
        ColumnType.STRING,
        ColumnType.GEOMETRY,
    }
)
"""Types whose values are bytes when their character set is BINARY; numbers and dates have that set and are
text.
"""


@dataclass(frozen=True, slots=True)
class Ok:
    """An OK packet, or an EOF of either kind (``affected`` 0, ``info`` "")."""

    affected: int = 0
    last_insert_id: int = 0
    status: StatusFlag = StatusFlag.AUTOCOMMIT
    warnings: int = 0
    info: str = ""

    def encode(self, *, header: int = OK_HEADER) -> bytes:
        """The payload; header ``EOF_HEADER`` gives the EOF of DEPRECATE_EOF."""
        return b"".join(
            (
                bytes([header]),
                encode_lenenc(self.affected),
                encode_lenenc(self.last_insert_id),
                int(self.status).to_bytes(2, "little"),
                self.warnings.to_bytes(2, "little"),
                encode_lenenc_bytes(self.info.encode()) if self.info else b"",
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Ok:
        """Raises ``ProtocolError``. What follows the info (session state) is not read."""
        reader = Reader(payload, "an OK packet")
        reader.take(1)
        affected = reader.lenenc()
        last_insert_id = reader.lenenc()
        status = StatusFlag(reader.integer(2))
        warnings = reader.integer(2)
        info = reader.lenenc_bytes().decode("utf-8", "replace") if reader.remaining else ""
        return cls(affected, last_insert_id, status, warnings, info)


def encode_eof(capabilities: Capability, *, warnings: int = 0, status: StatusFlag = StatusFlag.AUTOCOMMIT) -> bytes:
    """An EOF payload in the form both sides agreed on."""
    if capabilities & Capability.DEPRECATE_EOF:
        return Ok(warnings=warnings, status=status).encode(header=EOF_HEADER)
    return bytes([EOF_HEADER]) + warnings.to_bytes(2, "little") + int(status).to_bytes(2, "little")


def is_eof(payload: bytes, capabilities: Capability) -> bool:
    """Whether a payload in a row's place ends the rows."""
    limit = _EOF_AS_OK_MAX_SIZE if capabilities & Capability.DEPRECATE_EOF else _EOF_MAX_SIZE
    return payload[:1] == bytes([EOF_HEADER]) and len(payload) < limit


def decode_eof(payload: bytes, capabilities: Capability) -> Ok:
    """An EOF payload of either form. Raises ``ProtocolError``."""
    if capabilities & Capability.DEPRECATE_EOF:
        return Ok.decode(payload)
    reader = Reader(payload, "an EOF packet")
    reader.take(1)
    warnings = reader.integer(2)
    return Ok(warnings=warnings, status=StatusFlag(reader.integer(2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column definition.

    ``length`` is in bytes and only a hint for display; ``flags`` as in mysql_com.h.
    """

    name: str
    type: int = ColumnType.VAR_STRING
    charset: int = Charset.UTF8MB4_GENERAL_CI
    length: int = 1024
    flags: int = 0
    decimals: int = 0
    schema: str = ""
    table: str = ""
    org_table: str = ""
    org_name: str = ""

    @property
    def is_bytes(self) -> bool:
        """Whether the values are byte strings rather than text."""
        return self.charset == Charset.BINARY and self.type in _BYTE_STRINGS

    def encode(self) -> bytes:
        """The payload."""
        names = ("def", self.schema, self.table, self.org_table, self.name, self.org_name)
        return b"".join(
            (
                *(encode_lenenc_bytes(name.encode()) for name in names),
                bytes([_COLUMN_TAIL]),
                self.charset.to_bytes(2, "little"),
                self.length.to_bytes(4, "little"),
                self.type.to_bytes(1, "little"),
                self.flags.to_bytes(2, "little"),
                self.decimals.to_bytes(1, "little"),
                bytes(2),
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> Column:
        """Raises ``ProtocolError``."""
        reader = Reader(payload, "a column definition")
        reader.lenenc_bytes()
        schema, table, org_table, name, org_name = (reader.text(reader.lenenc_bytes()) for _ in range(5))
        reader.lenenc()
        charset = reader.integer(2)
        length = reader.integer(4)
        kind = reader.integer(1)
        flags = reader.integer(2)
        return cls(
            name=name,
            type=kind,
            charset=charset,
            length=length,
            flags=flags,
            decimals=reader.integer(1),
            schema=schema,
            table=table,
            org_table=org_table,
            org_name=org_name,
        )


def encode_row(row: Sequence[Value]) -> bytes:
    """A row's payload."""
    return b"".join(_encode_value(value) for value in row)


def _encode_value(value: Value) -> bytes:
    if value is None:
        return bytes([NULL_MARK])
    if isinstance(value, bytes):
        return encode_lenenc_bytes(value)
    return encode_lenenc_bytes((value if isinstance(value, str) else str(int(value))).encode("utf-8", "replace"))


def encode_result(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Value]],
    capabilities: Capability,
    *,
    warnings: int = 0,
    status: StatusFlag = StatusFlag.AUTOCOMMIT,
) -> list[bytes]:
    """The payloads of a result set, in order."""
    payloads = [encode_lenenc(len(columns))]
    payloads += [column.encode() for column in columns]
    if not capabilities & Capability.DEPRECATE_EOF:
        payloads.append(encode_eof(capabilities, status=status))
    payloads += [encode_row(row) for row in rows]
    payloads.append(encode_eof(capabilities, warnings=warnings, status=status))
    return payloads


@dataclass(frozen=True, slots=True)
class Result:
    """A whole answer. A statement without rows has no ``columns``.

    A value is None for NULL, str for text, numbers and dates, bytes for byte strings and for what is not
    UTF-8.
    """

    columns: tuple[str, ...] = ()
    rows: list[tuple[str | bytes | None, ...]] = field(default_factory=list)
    affected: int = 0
    last_insert_id: int = 0
    warnings: int = 0
    info: str = ""


class _Expect(Enum):
    FIRST = auto()
    COLUMN = auto()
    COLUMNS_END = auto()
    ROW = auto()


class ResultReader:
    """Puts one answer together from its payloads; ``rows_allowed`` False accepts only OK and ERR.

    An answer over ``max_size`` bytes of payload raises ``ProtocolError``: whoever reads row by row needs
    another reader, and nothing binlogd asks for comes near.
    """

    __slots__ = ("_capabilities", "_columns", "_count", "_expect", "_room", "_rows", "_rows_allowed")

    def __init__(self, capabilities: Capability, *, rows_allowed: bool = True, max_size: int = MAX_RESULT) -> None:
        self._capabilities = capabilities
        self._rows_allowed = rows_allowed
        self._room = max_size
        self._expect = _Expect.FIRST
        self._count = 0
        self._columns: list[Column] = []
        self._rows: list[tuple[str | bytes | None, ...]] = []

    def feed(self, payload: bytes) -> Result | None:
        """The answer once its last payload is fed.

        Raises ``ServerError`` for an ERR, ``ProtocolError`` for nonsense.
        """
        self._room -= len(payload)
        if self._room < 0:
            raise ProtocolError("the server's answer is larger than the limit for one answer")
        if payload[:1] == bytes([ERR_HEADER]):
            raise decode_error(payload)
        match self._expect:
            case _Expect.FIRST:
                return self._first(payload)
            case _Expect.COLUMN:
                self._columns.append(Column.decode(payload))
                if len(self._columns) == self._count:
                    ends = not self._capabilities & Capability.DEPRECATE_EOF
                    self._expect = _Expect.COLUMNS_END if ends else _Expect.ROW
            case _Expect.COLUMNS_END:
                if not is_eof(payload, self._capabilities):
                    raise ProtocolError("the column definitions are not closed by an EOF packet")
                self._expect = _Expect.ROW
            case _Expect.ROW:
                if is_eof(payload, self._capabilities):
                    return self._end(decode_eof(payload, self._capabilities))
                self._rows.append(self._row(payload))
        return None

    def _first(self, payload: bytes) -> Result | None:
        if payload[:1] == bytes([OK_HEADER]):
            return self._end(Ok.decode(payload))
        if payload[:1] == bytes([LOCAL_INFILE_HEADER]):
            raise ProtocolError("the server asks for a local file, which was never offered to it")
        if not self._rows_allowed:
            raise ProtocolError("the server answered with rows where only OK or an error can stand")
        reader = Reader(payload, "the head of a result set")
        self._count = reader.lenenc()
        if reader.remaining or not 0 < self._count <= MAX_COLUMNS:
            raise ProtocolError(f"the head of a result set announces {self._count} columns")
        self._expect = _Expect.COLUMN
        return None

    def _row(self, payload: bytes) -> tuple[str | bytes | None, ...]:
        reader = Reader(payload, "a row")
        values: list[str | bytes | None] = []
        for column in self._columns:
            size = reader.lenenc_or_null()
            if size is None:
                values.append(None)
                continue
            raw = reader.take(size)
            values.append(raw if column.is_bytes else _text_or_bytes(raw))
        if reader.remaining:
            raise ProtocolError(f"a row is {reader.remaining} bytes longer than its {self._count} columns")
        return tuple(values)

    def _end(self, ok: Ok) -> Result:
        if ok.status & StatusFlag.MORE_RESULTS:
            raise ProtocolError("the server announces a further answer, which was never asked for")
        return Result(
            tuple(column.name for column in self._columns),
            self._rows,
            ok.affected,
            ok.last_insert_id,
            ok.warnings,
            ok.info,
        )


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
