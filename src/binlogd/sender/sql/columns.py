"""Columns of a SELECT as MySQL 9.7 announces them: what a client lays its table out by, and a driver makes values by.

A text's length is the most that may stand there, a number's that of its digits, sign and point; whether there may be
NULL depends on what the expression is made of, not on its value. A user variable is known by its value alone, so one
that was set to an unsigned variable is announced as signed.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from binlogd.sender.sql.catalog import VariableKind
from binlogd.sender.sql.context import Context
from binlogd.sender.sql.expressions import (
    And,
    Call,
    Compare,
    Expression,
    In,
    IsNull,
    Like,
    Literal,
    Negate,
    Not,
    Or,
    SystemVariable,
    UserVariable,
    Value,
)
from binlogd.sender.sql.functions import FUNCTIONS
from binlogd.sender.sql.results import ColumnKind, ColumnSpec

LONGEST_TEXT = 16 * 1024 * 1024  # bytes: where a text is no longer a mediumtext
LONGEST_STRING = 65_535  # bytes that a variable's or a function's text may have before it is a mediumtext
BYTES_PER_CHARACTER = 4  # of utf8mb4, as the text in a statement is read
UUID_LENGTH = 36

_TRUTH = ColumnSpec("", ColumnKind.BIGINT, 1)
_DOUBLE = ColumnSpec("", ColumnKind.DOUBLE, 23)
_DOUBLE_OF_NO_TEXT = ColumnSpec("", ColumnKind.DOUBLE, 17, decimals=0)
_NUMBERS = (ColumnKind.INT, ColumnKind.INT_UNSIGNED, ColumnKind.BIGINT, ColumnKind.BIGINT_UNSIGNED)
_VARIABLES = {
    VariableKind.BOOL: ColumnSpec("", ColumnKind.BIGINT, 1, nullable=True),
    VariableKind.INT: ColumnSpec("", ColumnKind.BIGINT_UNSIGNED, 21, nullable=True),
    VariableKind.TEXT: ColumnSpec("", ColumnKind.STRING, LONGEST_STRING // 3, nullable=True),
}


def describe(expression: Expression, context: Context) -> ColumnSpec:
    """The column that ``expression`` makes, without a name; all that it names is there (resolve.py)."""
    match expression:
        case Literal(value, width):
            return _of_literal(value, width)
        case UserVariable(name):
            session = context.session
            return _of_user_variable(session.user_variable(name), was_set=session.has_user_variable(name))
        case SystemVariable(name):
            return _VARIABLES[context.variables.kind(name)]
        case Call(name, arguments):
            return _of_call(name.upper(), [(each, describe(each, context)) for each in arguments], context)
        case Negate(operand):
            return _negated(operand, describe(operand, context))
        case IsNull() | Compare("<=>"):
            return _TRUTH
        case Not(operand):
            operands = [operand]
        case And(several) | Or(several):
            operands = [*several]
        case Compare(_, left, right) | Like(left, right):
            operands = [left, right]
        case In(operand, choices):
            operands = [operand, *choices]
        case _:
            return ColumnSpec("")  # a name of a column: there are none in a SELECT, and its value is refused
    return replace(_TRUTH, nullable=any(describe(each, context).nullable for each in operands))


def _of_literal(value: Value, width: int) -> ColumnSpec:
    match value:
        case None:
            return ColumnSpec("", ColumnKind.NULL, nullable=True)
        case str():
            return ColumnSpec("", ColumnKind.STRING, len(value))
        case int() if value >= 2**63:
            return ColumnSpec("", ColumnKind.BIGINT_UNSIGNED, width)
        case int():
            return ColumnSpec("", ColumnKind.BIGINT, width + 1)
        case Decimal():
            scale = _scale(value)
            return ColumnSpec("", ColumnKind.DECIMAL, (width if scale else len(f"{value:f}")) + 1, decimals=scale)
        case float():
            return ColumnSpec("", ColumnKind.DOUBLE, width)


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _of_user_variable(value: Value, *, was_set: bool) -> ColumnSpec:
    match value:
        case None if not was_set:
            return ColumnSpec(
                "", ColumnKind.BINARY, LONGEST_STRING - LONGEST_STRING % BYTES_PER_CHARACTER, nullable=True
            )
        case None:
            return ColumnSpec("", ColumnKind.MEDIUM_BLOB, LONGEST_TEXT - 1, nullable=True)
        case str():
            return ColumnSpec("", ColumnKind.LONG_TEXT, BYTES_PER_CHARACTER * (LONGEST_TEXT - 1), nullable=True)
        case int():
            kind = ColumnKind.BIGINT if value < 2**63 else ColumnKind.BIGINT_UNSIGNED
            return ColumnSpec("", kind, 21, nullable=True)
        case Decimal():
            return ColumnSpec("", ColumnKind.DECIMAL, 67, nullable=True, decimals=30)
        case float():
            return replace(_DOUBLE, nullable=True)


def _negated(operand: Expression, column: ColumnSpec) -> ColumnSpec:
    match operand:
        case Literal(int(value)):
            kind = ColumnKind.BIGINT if value <= 2**63 else ColumnKind.DECIMAL
            return ColumnSpec("", kind, len(str(value)) + 1)
    if column.kind is ColumnKind.DECIMAL:
        return column
    if column.kind in _NUMBERS:
        length = column.length if isinstance(operand, UserVariable) else column.length + 1
        return replace(column, kind=ColumnKind.BIGINT, length=length)
    number = _DOUBLE_OF_NO_TEXT if column.kind in (ColumnKind.NULL, ColumnKind.DATETIME) else _DOUBLE
    return replace(number, nullable=column.nullable)


def _of_call(name: str, arguments: list[tuple[Expression, ColumnSpec]], context: Context) -> ColumnSpec:
    column = FUNCTIONS[name].column
    match name:
        case "VERSION":
            return replace(column, length=len(context.facts.version))
        case "GTID_SUBSET":
            return replace(column, nullable=any(argument.nullable for _, argument in arguments))
        case "GTID_SUBTRACT":
            return _subtracted(*(_bytes(*argument) for argument in arguments))
    return column


def _subtracted(minuend: int, subtrahend: int) -> ColumnSpec:
    """mysqld's guess at how long a difference may become; below 0 it has none and means the most there is."""
    length = minuend + (subtrahend - UUID_LENGTH) * 5 // 2
    size = length * BYTES_PER_CHARACTER
    if not 0 <= size < LONGEST_TEXT:
        return ColumnSpec("", ColumnKind.LONG_TEXT, LONGEST_TEXT, nullable=True)
    if size > LONGEST_STRING:
        return ColumnSpec("", ColumnKind.MEDIUM_TEXT, size, nullable=True)
    return ColumnSpec("", ColumnKind.STRING, length, nullable=True)


def _bytes(argument: Expression, column: ColumnSpec) -> int:
    """The most bytes that the argument may have, as mysqld counts: its own texts are in utf8mb3."""
    return column.length * (3 if isinstance(argument, SystemVariable) else BYTES_PER_CHARACTER)
