"""A place in a list of tokens, and the grammar of expressions.

Precedence, weakest first, as in MySQL: OR ``||``; AND ``&&``; NOT; comparisons, LIKE, IN, IS NULL; unary
minus and ``!``. Arithmetic is not part of what a listener answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TypeVar

from binlogd.errors import Refusal
from binlogd.sender.sql.charsets import CHARSETS
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
    Scope,
    SystemVariable,
    UserVariable,
)
from binlogd.sender.sql.refusals import (
    illegal_number,
    illegal_user_variable,
    not_supported,
    secret_ahead,
    syntax_error,
)
from binlogd.sender.sql.tokens import Token, TokenKind

T = TypeVar("T")

# Evaluation and parsing recurse once a level: far below Python's limit, far above what a person writes.
MAX_DEPTH = 32
MAX_USER_VARIABLE_NAME = 64  # characters, MySQL's limit
MAX_DECIMAL_DIGITS = 65  # MySQL's limit for DECIMAL; it also keeps int() and Decimal() cheap
MAX_BIGINT_UNSIGNED = 2**64 - 1

# Words that end an expression or cannot begin one: never a bare alias or column name (a part of MySQL's list,
# as far as it decides what the statements here mean).
_RESERVED = (
    "ALL ALTER AND AS ASC BETWEEN BINARY BY CASE COLLATE CREATE CROSS DELETE DESC DISTINCT DIV DROP "
    "ELSE EXCEPT EXISTS FOR FROM GROUP HAVING IF IN INSERT INTERSECT INTERVAL INTO IS JOIN KILL LIKE "
    "LIMIT LOCK MOD NOT ON OR ORDER PROCEDURE REGEXP REPLACE RLIKE SELECT SET SHOW TABLE THEN UNION "
    "UPDATE USE USING VALUES WHEN WHERE WINDOW WITH XOR"
)
RESERVED = frozenset(_RESERVED.split())
_COMPARISONS = {"=": "=", "<=>": "<=>", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_CONSTANTS = {"NULL": None, "TRUE": 1, "FALSE": 0}
_CALLED_WITHOUT_PARENTHESES = frozenset({"CURRENT_USER", "CURRENT_TIMESTAMP"})


class Cursor:
    """Reads tokens one after another; every method raises Refusal 1064 at the token it cannot use."""

    def __init__(self, statement: str, tokens: list[Token]) -> None:
        self.statement = statement
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._links = 0  # of its chains of comparisons, behind the first of each

    @property
    def token(self) -> Token:
        """The token to be read next."""
        return self._tokens[self._next]

    def at_end(self) -> bool:
        return self.token.kind is TokenKind.END

    @property
    def previous(self) -> Token:
        """The token read last."""
        return self._tokens[self._next - 1]

    def advance(self) -> Token:
        token = self.token
        if token.kind is TokenKind.END:
            raise self.error()
        self._next += 1
        return token

    def error(self) -> Refusal:
        return syntax_error(self.statement, self.token.start, list(self._secrets()))

    def _secrets(self) -> Iterator[tuple[int, int]]:
        """Where passwords stand, from and to: the string behind a word that says so, else all that is behind it."""
        tokens = iter(self._tokens)
        for token in tokens:
            if token.kind is TokenKind.WORD and secret_ahead(token.value):
                value = next(tokens, token)
                if value.upper == "=":
                    value = next(tokens, value)
                if value.kind is not TokenKind.STRING:
                    yield value.start, len(self.statement)
                    return
                yield value.start, value.end

    def at(self, *words: str) -> bool:
        """Whether the next tokens are these keywords or operators."""
        upcoming = self._tokens[self._next : self._next + len(words)]
        return tuple(token.upper for token in upcoming) == words

    def accept(self, *words: str) -> bool:
        """Read these keywords or operators if they are all next."""
        if not self.at(*words):
            return False
        self._next += len(words)
        return True

    def expect(self, *words: str) -> None:
        for word in words:
            if not self.accept(word):
                raise self.error()

    def of(self, *kinds: TokenKind) -> Token:
        """Read a token of one of ``kinds``."""
        if self.token.kind not in kinds:
            raise self.error()
        return self.advance()

    def name(self) -> str:
        """Read a name: a word that is not reserved, or anything in backquotes."""
        if self.token.upper in RESERVED:
            raise self.error()
        return self.of(TokenKind.WORD, TokenKind.NAME).value

    def listed(self, item: Callable[[], T]) -> tuple[T, ...]:
        """Read one or more items with commas between them."""
        items = [item()]
        while self.accept(","):
            items.append(item())
        return tuple(items)

    # --- expressions ---

    def expression(self) -> Expression:
        with self._deeper():
            operands = [self._conjunction()]
            while self.accept("OR") or self.accept("||"):
                operands.append(self._conjunction())
            return operands[0] if len(operands) == 1 else Or(tuple(operands))

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise not_supported(f"expressions nested more than {MAX_DEPTH} deep")
        yield
        self._depth -= 1

    def _conjunction(self) -> Expression:
        operands = [self._negation()]
        while self.accept("AND") or self.accept("&&"):
            operands.append(self._negation())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _negation(self) -> Expression:
        if self.accept("NOT"):
            with self._deeper():
                return Not(self._negation())
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._operand()
        longer = self._compared(left)
        while longer is not None:
            left, longer = longer, self._compared(longer)
            if longer is not None:
                self._links += 1
                if self._links > MAX_DEPTH:  # a = b = c … leans to the left: a tree as deep as all of them are long
                    raise not_supported(f"chains of more than {MAX_DEPTH} comparisons")
        return left

    def _compared(self, left: Expression) -> Expression | None:
        """``left`` with the comparison that follows it, None when none does."""
        comparison = _COMPARISONS.get(self.token.upper)
        if comparison is not None:
            self.advance()
            return Compare(comparison, left, self._operand())
        if self.accept("IS"):
            negated = self.accept("NOT")
            self.expect("NULL")
            return IsNull(left, negated)
        negated = (self.at("NOT", "LIKE") or self.at("NOT", "IN")) and self.accept("NOT")
        if self.accept("LIKE"):
            return Like(left, self._operand(), negated)
        if self.accept("IN"):
            self.expect("(")
            choices = self.listed(self.expression)
            self.expect(")")
            return In(left, choices, negated)
        return None

    def _operand(self) -> Expression:
        with self._deeper():
            if self.accept("-"):
                return Negate(self._operand())
            if self.accept("!"):
                return Not(self._operand())
            return self._primary()

    def _primary(self) -> Expression:
        token = self.token
        match token.kind:
            case TokenKind.NUMBER:
                written = self.advance().value
                return Literal(_number(written), len(written))
            case TokenKind.STRING:
                return Literal(self.string())
            case TokenKind.USER_VARIABLE:
                return UserVariable(self.user_variable())
            case TokenKind.SYSTEM_VARIABLE:
                return _system_variable(self.advance().value)
            case TokenKind.NAME:
                return Column(self.advance().value)
            case TokenKind.WORD:
                return self._word()
        self.expect("(")
        inner = self.expression()
        self.expect(")")
        return inner

    def _word(self) -> Expression:
        token = self.token
        if token.upper in _CONSTANTS:
            self.advance()
            return Literal(_CONSTANTS[token.upper])
        following = self._tokens[self._next + 1]
        if following.kind is TokenKind.STRING and token.value[:1] == "_" and token.value[1:].lower() in CHARSETS:
            self.advance()
            return Literal(self.string())
        name = self.name()
        if self.accept("("):
            arguments = () if self.at(")") else self.listed(self.expression)
            self.expect(")")
            return Call(name, arguments)
        return Call(name, ()) if token.upper in _CALLED_WITHOUT_PARENTHESES else Column(name)

    def string(self) -> str:
        """Read a string; those that follow each other are one."""
        pieces = [self.of(TokenKind.STRING).value]
        while self.token.kind is TokenKind.STRING:
            pieces.append(self.advance().value)
        return "".join(pieces)

    def user_variable(self) -> str:
        name = self.of(TokenKind.USER_VARIABLE).value
        if not 0 < len(name) <= MAX_USER_VARIABLE_NAME:
            raise illegal_user_variable(name)
        return name


def _system_variable(name: str) -> SystemVariable:
    scope, dot, rest = name.partition(".")
    match scope.upper() if dot else "":
        case "GLOBAL":
            return SystemVariable(rest, Scope.GLOBAL)
        case "SESSION" | "LOCAL":
            return SystemVariable(rest, Scope.SESSION)
    return SystemVariable(name, None)


def _number(text: str) -> int | float | Decimal:
    if "e" in text.lower():
        number = float(text)
        if math.isinf(number):
            raise illegal_number("double", text)
        return number
    if len(text) > MAX_DECIMAL_DIGITS + 1:
        raise illegal_number("decimal", text)
    if text.isdigit() and int(text) <= MAX_BIGINT_UNSIGNED:
        return int(text)
    return Decimal(text)
