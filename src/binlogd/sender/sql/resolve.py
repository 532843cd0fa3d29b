"""Whether everything that an expression names is there: asked of all of it before any of it is evaluated, as in MySQL.

Evaluation is lazy, ``0 AND foo()`` never calls ``foo``; and what a column is announced as (columns.py) is told of
functions that exist, with as many arguments as they take.
"""

from __future__ import annotations

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
)
from binlogd.sender.sql.functions import look_up
from binlogd.sender.sql.refusals import unknown_column


def resolve(expression: Expression, context: Context) -> None:
    """Refusal 1054, 1193, 1238, 1305, 1582 for the first thing, from the left, that is not there."""
    operands: tuple[Expression, ...]
    match expression:
        case Literal() | UserVariable():
            operands = ()
        case SystemVariable(name, scope):
            context.variables.check(name, scope)
            operands = ()
        case Column(name):
            if name.lower() not in context.columns:
                raise unknown_column(name, context.clause)
            operands = ()
        case Call(name, operands):
            look_up(name, len(operands))
        case Negate(operand) | Not(operand) | IsNull(operand):
            operands = (operand,)
        case And(operands) | Or(operands):
            pass
        case Compare(_, left, right) | Like(left, right):
            operands = (left, right)
        case In(operand, choices):
            operands = (operand, *choices)
    for each in operands:
        resolve(each, context)
