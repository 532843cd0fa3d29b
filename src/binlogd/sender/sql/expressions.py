"""Expressions of a statement, as the parser leaves them: a tree of frozen nodes.

AND, OR, IN lists and arguments hold tuples, so the depth of a tree is the depth of its parentheses, which the
parser limits (MAX_DEPTH): evaluation may recurse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

# What a value can be: text and numbers only, None for NULL. No bool: SQL's truth is 1 and 0.
Value: TypeAlias = int | float | Decimal | str | None


class Scope(Enum):
    """The scope a statement names for a system variable; LOCAL is read as SESSION."""

    GLOBAL = "GLOBAL"
    SESSION = "SESSION"


@dataclass(frozen=True, slots=True)
class Literal:
    """``width`` is how many characters a number is written with, 0 for what has another name."""

    value: Value
    width: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class UserVariable:
    name: str


@dataclass(frozen=True, slots=True)
class SystemVariable:
    """``@@name``, ``@@global.name``, ``@@session.name``; ``scope`` is None when none is written."""

    name: str
    scope: Scope | None


@dataclass(frozen=True, slots=True)
class Column:
    """A bare name: a column of a SHOW statement's WHERE; elsewhere there are no columns."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; ``name`` as written."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Expression


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """``operator`` is one of ``= <=> <> < <= > >=``; ``!=`` is read as ``<>``."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Like:
    operand: Expression
    pattern: Expression
    negated: bool = False


@dataclass(frozen=True, slots=True)
class In:
    operand: Expression
    choices: tuple[Expression, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    operand: Expression
    negated: bool = False


Expression: TypeAlias = (
    Literal | UserVariable | SystemVariable | Column | Call | Negate | Not | And | Or | Compare | Like | In | IsNull
)
