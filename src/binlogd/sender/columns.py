"""What SQL says of a column, as the column definition that MySQL 9.7 sends for it.

All text is sent in utf8mb4, whatever the client's character set is: its collation is the one the client chose, else the
server's own. Lengths are in bytes on the wire.
"""

from __future__ import annotations

from binlogd.sender.sql.facts import is_mariadb, version_number
from binlogd.sender.sql.results import ColumnKind, ColumnSpec
from binlogd.wire.capabilities import Charset, ColumnFlag, ColumnType
from binlogd.wire.results import Column

BYTES_PER_CHARACTER = 4  # of utf8mb4
NEW_COLLATION_SINCE = 80001  # the version whose utf8mb4 has another collation by default
NO_DECIMALS = 31  # for "as many as there are", and for text

_TYPES = {
    ColumnKind.INT: (ColumnType.LONG, ColumnFlag.BINARY),
    ColumnKind.INT_UNSIGNED: (ColumnType.LONG, ColumnFlag.BINARY | ColumnFlag.UNSIGNED),
    ColumnKind.BIGINT: (ColumnType.LONGLONG, ColumnFlag.BINARY),
    ColumnKind.BIGINT_UNSIGNED: (ColumnType.LONGLONG, ColumnFlag.BINARY | ColumnFlag.UNSIGNED),
    ColumnKind.DECIMAL: (ColumnType.NEWDECIMAL, ColumnFlag.BINARY),
    ColumnKind.DOUBLE: (ColumnType.DOUBLE, ColumnFlag.BINARY),
    ColumnKind.DATETIME: (ColumnType.DATETIME, ColumnFlag.BINARY),
    ColumnKind.NULL: (ColumnType.NULL, ColumnFlag.BINARY),
    ColumnKind.STRING: (ColumnType.VAR_STRING, ColumnFlag(0)),
    ColumnKind.MEDIUM_TEXT: (ColumnType.MEDIUM_BLOB, ColumnFlag(0)),
    ColumnKind.LONG_TEXT: (ColumnType.LONG_BLOB, ColumnFlag(0)),
    ColumnKind.ENUM: (ColumnType.STRING, ColumnFlag.ENUM),
    ColumnKind.BINARY: (ColumnType.VAR_STRING, ColumnFlag.BINARY),
    ColumnKind.MEDIUM_BLOB: (ColumnType.MEDIUM_BLOB, ColumnFlag.BINARY),
}
_TEXTS = (ColumnKind.STRING, ColumnKind.MEDIUM_TEXT, ColumnKind.LONG_TEXT, ColumnKind.ENUM)
_WITHOUT_DECIMALS = (*_TEXTS, ColumnKind.DOUBLE, ColumnKind.BINARY, ColumnKind.MEDIUM_BLOB)


_NAMES = {int(number): number.name.lower() for number in Charset if number is not Charset.BINARY}


def definition(spec: ColumnSpec, collation: int) -> Column:
    """The definition of ``spec``, its text in ``collation`` (an id of one of utf8mb4)."""
    kind, origin = spec.kind, spec.origin
    is_text = kind in _TEXTS
    column_type, flags = _TYPES[kind]
    if not spec.nullable:
        flags |= ColumnFlag.NOT_NULL
    decimals = NO_DECIMALS if kind in _WITHOUT_DECIMALS and origin is None else 0
    if origin is not None:
        flags |= ColumnFlag.BINARY if origin.as_bytes else 0
        flags |= 0 if spec.nullable else ColumnFlag.NO_DEFAULT_VALUE
    return Column(
        name=spec.name,
        type=column_type,
        charset=collation if is_text else Charset.BINARY,
        length=spec.length * BYTES_PER_CHARACTER if is_text else spec.length,
        flags=flags,
        decimals=decimals if spec.decimals is None else spec.decimals,
        schema=origin.schema if origin else "",
        table=origin.table if origin else "",
        org_table=origin.org_table if origin else "",
        org_name=spec.name if origin else "",
    )


def collation_name(number: int | None) -> str | None:
    """The name of the collation with that id, where it is one of those of utf8mb4 that are known here."""
    return _NAMES.get(number) if number is not None else None


def collation_id(chosen: str, version: str) -> int:
    """The id of the collation of what a client is sent that has ``chosen`` one for its connection.

    ``version`` is the one we show.
    """
    known = next((number for number, name in _NAMES.items() if name == chosen), Charset.UTF8MB4_0900_AI_CI)
    is_old = is_mariadb(version) or version_number(version) < NEW_COLLATION_SINCE
    return Charset.UTF8MB4_GENERAL_CI if is_old and known == Charset.UTF8MB4_0900_AI_CI else known
