"""The functions a SELECT may call, each a row of one table: name, number of arguments, what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.sender.sql.context import Context
from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.refusals import (
    cannot_wait_without_gtids,
    malformed_gtid_set,
    unknown_function,
    wrong_argument_count,
    wrong_arguments,
)
from binlogd.sender.sql.results import ColumnKind, ColumnSpec, as_text, number
from binlogd.sender.sql.time_zones import local_time

LONGEST_WAIT = 31_536_000.0  # seconds, a year, MySQL's greatest time-out

Implementation: TypeAlias = Callable[[list[Value], Context], Value]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """``column`` is what is announced for it where that does not depend on its arguments (columns.py)."""

    arity: int
    column: ColumnSpec
    implementation: Implementation
    optional: int = 0  # arguments more that it may have


def call(name: str, arguments: list[Value], context: Context) -> Value:
    """The value of ``name(arguments)``. Refusal 1305, 1582, 1772."""
    return look_up(name, len(arguments)).implementation(arguments, context)


def look_up(name: str, count: int) -> FunctionSpec:
    """The function of that name, which is called with ``count`` arguments. Refusal 1305, 1582."""
    function = FUNCTIONS.get(name.upper())
    if function is None:
        raise unknown_function(name)
    if not 0 <= count - function.arity <= function.optional:
        raise wrong_argument_count(name)
    return function


def _user(_: list[Value], context: Context) -> Value:
    return f"{context.session.user}@{context.session.host}"


def _current_user(_: list[Value], context: Context) -> Value:
    return f"{context.session.user}@{context.session.account_host}"


def _database(_: list[Value], context: Context) -> Value:
    return context.session.database


def _now(_: list[Value], context: Context) -> Value:
    zone = as_text(context.variables.read("time_zone")) or ""
    return local_time(context.now, zone)


def _gtid_subset(arguments: list[Value], context: Context) -> Value:
    sets = _gtid_sets(arguments, context)
    return None if sets is None else int(sets[0] <= sets[1])


def _gtid_subtract(arguments: list[Value], context: Context) -> Value:
    sets = _gtid_sets(arguments, context)
    return None if sets is None else str(sets[0] - sets[1])


def _gtid_sets(arguments: list[Value], context: Context) -> tuple[GtidSet, GtidSet] | None:
    """Both arguments as sets; None when either is NULL."""
    first, second = map(as_text, arguments)
    if first is None or second is None:
        return None
    return _gtid_set(first, context), _gtid_set(second, context)


def _gtid_set(text: str, context: Context) -> GtidSet:
    context.spend(len(text))
    try:
        return GtidSet.parse(text)
    except GtidSyntaxError:
        raise malformed_gtid_set(text) from None


@dataclass(frozen=True, slots=True)
class MustWait(Exception):
    """The statement cannot be evaluated before these GTIDs are published or the time is over."""

    gtids: GtidSet
    timeout: float | None


def _wait_for_executed_gtid_set(arguments: list[Value], context: Context) -> Value:
    """0 when they are published, 1 when the time is over first; without a time, or with 0, there is no end to it.

    Where the source has no GTIDs none will ever be published: Refusal 3062, as in MySQL.
    """
    timeout = number(arguments[1]) if len(arguments) > 1 else 0
    if timeout is None or timeout < 0:
        raise wrong_arguments("WAIT_FOR_EXECUTED_GTID_SET.")
    if context.waited is None:
        return 0
    text = as_text(arguments[0])
    if text is None:
        raise malformed_gtid_set("NULL")
    if context.facts.gtid_mode == "OFF":
        raise cannot_wait_without_gtids()
    wanted = _gtid_set(text, context)
    if context.waits == len(context.waited):
        raise MustWait(wanted, min(float(timeout), LONGEST_WAIT) or None)
    context.waits += 1
    return int(not context.waited[context.waits - 1])


_INTEGER = ColumnSpec("", ColumnKind.BIGINT, 21)
_UNSIGNED = ColumnSpec("", ColumnKind.BIGINT_UNSIGNED, 21)
_ACCOUNT = ColumnSpec("", length=288, nullable=True)
_TEXT = ColumnSpec("")

_DATABASE = FunctionSpec(0, ColumnSpec("", length=64, nullable=True), _database)
_NOW = FunctionSpec(0, ColumnSpec("", ColumnKind.DATETIME, 19), _now)
_USER = FunctionSpec(0, _ACCOUNT, _user)

FUNCTIONS: Mapping[str, FunctionSpec] = MappingProxyType(
    {
        "CONNECTION_ID": FunctionSpec(0, _UNSIGNED, lambda _, context: context.session.connection_id),
        "CURRENT_TIMESTAMP": _NOW,
        "CURRENT_USER": FunctionSpec(0, _ACCOUNT, _current_user),
        "DATABASE": _DATABASE,
        "GTID_SUBSET": FunctionSpec(2, _INTEGER, _gtid_subset),
        "GTID_SUBTRACT": FunctionSpec(2, _TEXT, _gtid_subtract),
        "NOW": _NOW,
        "SCHEMA": _DATABASE,
        "SESSION_USER": _USER,
        "SYSTEM_USER": _USER,
        "UNIX_TIMESTAMP": FunctionSpec(0, _INTEGER, lambda _, context: int(context.now)),
        "USER": _USER,
        "WAIT_FOR_EXECUTED_GTID_SET": FunctionSpec(
            1, ColumnSpec("", ColumnKind.BIGINT, 21, nullable=True), _wait_for_executed_gtid_set, optional=1
        ),
        "VERSION": FunctionSpec(0, _TEXT, lambda _, context: context.facts.version),
    }
)
