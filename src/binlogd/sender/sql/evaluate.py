"""The value of an expression.

SQL's logic has three values: NULL makes a comparison, a function or an AND unknown unless the other side
decides. Text compares without regard to case, as in MySQL's default collations; text next to a number is read
as the number it begins with.
"""

from __future__ import annotations

from decimal import Decimal

from binlogd.sender.sql.context import Context
from binlogd.sender.sql.expressions import (
    And,
    Call,
    Column,
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
from binlogd.sender.sql.functions import call
from binlogd.sender.sql.patterns import COMPILING, SEARCHING, matches
from binlogd.sender.sql.refusals import unknown_column
from binlogd.sender.sql.results import as_text, number


def evaluate(expression: Expression, context: Context) -> Value:
    """The value of ``expression``. Raises Refusal."""
    match expression:
        case Literal(value):
            return value
        case UserVariable(name):
            return context.session.user_variable(name)
        case SystemVariable(name, scope):
            return context.variables.read(name, scope)
        case Call(name, arguments):
            return call(name, [evaluate(argument, context) for argument in arguments], context)
        case Column(name):
            column = context.columns.get(name.lower())
            if column is None:
                raise unknown_column(name, context.clause)
            return column()
        case Negate(operand):
            value = evaluate(operand, context)
            return None if value is None else -_number(value)
        case Not(operand):
            return _negated(_truth(operand, context))
        case And(operands):
            return _all(operands, context)
        case Or(operands):
            # a OR b is NOT (NOT a AND NOT b), for NULL too
            return _negated(_all(tuple(Not(operand) for operand in operands), context))
        case Compare(operator, left, right):
            return _compared(operator, evaluate(left, context), evaluate(right, context), context)
        case Like(operand, pattern, negated):
            truth = _like(evaluate(operand, context), evaluate(pattern, context), context)
            return _negated(truth) if negated else truth
        case In(operand, choices, negated):
            truth = _in(evaluate(operand, context), choices, context)
            return _negated(truth) if negated else truth
        case IsNull(operand, negated):
            return int((evaluate(operand, context) is None) != negated)


def is_true(value: Value) -> bool:
    """Whether a condition of ``value`` holds; NULL does not."""
    return value is not None and _number(value) != 0


def _truth(expression: Expression, context: Context) -> int | None:
    value = evaluate(expression, context)
    return None if value is None else int(is_true(value))


def _negated(truth: int | None) -> int | None:
    return None if truth is None else 1 - truth


def _all(operands: tuple[Expression, ...], context: Context) -> int | None:
    unknown = False
    for operand in operands:
        truth = _truth(operand, context)
        if truth == 0:
            return 0
        unknown = unknown or truth is None
    return None if unknown else 1


def _in(value: Value, choices: tuple[Expression, ...], context: Context) -> int | None:
    unknown = False
    for choice in choices:
        truth = _compared("=", value, evaluate(choice, context), context)
        if truth:
            return 1
        unknown = unknown or truth is None
    return None if unknown else 0


def _compared(operator: str, left: Value, right: Value, context: Context) -> int | None:
    if left is None or right is None:
        return int(left is right) if operator == "<=>" else None
    order = _order(left, right, context)
    match operator:
        case "=" | "<=>":
            return int(order == 0)
        case "<>":
            return int(order != 0)
        case "<":
            return int(order < 0)
        case "<=":
            return int(order <= 0)
        case ">":
            return int(order > 0)
    return int(order >= 0)


def _order(left: Value, right: Value, context: Context) -> int:
    """Below 0, 0 or above 0 as ``left`` is less than, equal to or greater than ``right``; neither is NULL."""
    if isinstance(left, str) and isinstance(right, str):
        context.spend(len(left) + len(right))
        one, other = left.casefold(), right.casefold()
        return (one > other) - (one < other)
    first, second = _number(left), _number(right)
    return (first > second) - (first < second)


def _number(value: Value) -> int | float | Decimal:
    found = number(value)
    assert found is not None
    return found


def _like(value: Value, pattern: Value, context: Context) -> int | None:
    text, like = as_text(value), as_text(pattern)
    if text is None or like is None:
        return None
    context.spend(len(text) + COMPILING * len(like) + len(text) * len(like) // SEARCHING)
    return int(matches(text, like))
