"""What a statement gives back, before it becomes packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

from binlogd.sender.sql.expressions import Value


class ColumnKind(Enum):
    """The type a column is announced with."""

    INT = "int"
    INT_UNSIGNED = "int unsigned"
    BIGINT = "bigint"
    BIGINT_UNSIGNED = "bigint unsigned"
    DECIMAL = "decimal"
    DOUBLE = "double"
    STRING = "string"
    DATETIME = "datetime"
    NULL = "null"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    name: str
    kind: ColumnKind = ColumnKind.STRING


@dataclass(frozen=True, slots=True)
class Ok:
    """Done, nothing to show; ``warnings`` is how many rows SHOW WARNINGS has."""

    warnings: int = 0


@dataclass(frozen=True, slots=True)
class ResultSet:
    columns: tuple[ColumnSpec, ...]
    rows: tuple[tuple[Value, ...], ...]

    def text_rows(self) -> Iterator[tuple[str | None, ...]]:
        """The rows as the text protocol writes them, None for NULL."""
        return (tuple(map(as_text, row)) for row in self.rows)


# A statement that has to wait (WAIT_FOR_EXECUTED_GTID_SET) will give a third kind that says for what: this
# code never waits, its caller does.
Outcome: TypeAlias = Ok | ResultSet


def as_text(value: Value) -> str | None:
    """``value`` as MySQL prints it, but for when it gives a double an exponent; None for NULL."""
    match value:
        case None | str():
            return value
        case int():
            return str(value)
        case Decimal():
            return format(value, "f")
        case float():
            return repr(value).removesuffix(".0").replace("e+", "e")
