"""What a statement gives back, before it becomes packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

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


@dataclass(frozen=True, slots=True)
class Errand:
    """The receiver has to be asked ``question`` first: this code never waits, its caller does.

    ``finish`` makes the outcome of the answer, or raises Refusal. The answer is None when there is no receiver, and
    ``{"unanswered": True}`` when it was asked and said nothing.
    """

    question: Mapping[str, Any] = field(repr=False)  # which may hold a password
    finish: Callable[[Mapping[str, Any] | None], Ok | ResultSet]


Outcome: TypeAlias = Ok | ResultSet | Errand


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
