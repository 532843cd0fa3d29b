"""What a statement gives back, before it becomes packets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

from binlogd.binlog.gtid import GtidSet
from binlogd.sender.sql.expressions import Value

_NUMBER_PREFIX = re.compile(r"\s*+([+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]{1,3}+)?+)")


class ColumnKind(Enum):
    """The type a column is announced with."""

    INT = "int"
    INT_UNSIGNED = "int unsigned"
    BIGINT = "bigint"
    BIGINT_UNSIGNED = "bigint unsigned"
    DECIMAL = "decimal"
    DOUBLE = "double"
    DATETIME = "datetime"
    NULL = "null"
    STRING = "string"
    MEDIUM_TEXT = "mediumtext"
    LONG_TEXT = "longtext"
    ENUM = "enum"
    BINARY = "varbinary"  # what a user variable that was never set is announced as …
    MEDIUM_BLOB = "mediumblob"  # … and one that was set to NULL


@dataclass(frozen=True, slots=True)
class Origin:
    """The table that MySQL has a column from, and whether it sorts as bytes."""

    schema: str
    table: str
    org_table: str
    as_bytes: bool = False


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column as MySQL 9.7 announces it.

    ``length`` is in characters, of a text the most that may stand there. ``origin`` is there for what MySQL reads from
    a table of its own.
    """

    name: str
    kind: ColumnKind = ColumnKind.STRING
    length: int = 0
    nullable: bool = False
    decimals: int | None = None  # None is what its kind has
    origin: Origin | None = None


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


@dataclass(frozen=True, slots=True)
class EventListing:
    """Rows for SHOW BINLOG EVENTS, which may be more than fit into memory: the caller reads and sends them in turn.

    The events of ``file`` (the oldest one's when it is None) from the first that does not begin before ``position``;
    ``offset`` of them are passed over and at most ``count`` shown, all when it is None.
    """

    columns: tuple[ColumnSpec, ...]
    file: str | None
    position: int
    offset: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Until ``gtids`` are published, or ``timeout`` seconds went by (None: without end).

    ``finish`` goes on when it is known whether they are, and may have to wait again.
    """

    gtids: GtidSet
    timeout: float | None
    finish: Callable[[bool], Outcome]


Outcome: TypeAlias = Ok | ResultSet | Errand | EventListing | Wait


def number(value: Value) -> int | float | Decimal | None:
    """``value`` as a number: of a text the one it begins with, else 0; None for NULL."""
    if isinstance(value, str):
        found = _NUMBER_PREFIX.match(value)
        return float(found.group(1)) if found else 0
    return value


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
