"""The functions a SELECT may call, each a row of one table: name, number of arguments, what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.sender.sql.context import Context
from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.refusals import malformed_gtid_set, unknown_function, wrong_argument_count
from binlogd.sender.sql.results import ColumnKind, as_text
from binlogd.sender.sql.time_zones import local_time

Implementation: TypeAlias = Callable[[list[Value], Context], Value]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    arity: int
    kind: ColumnKind
    implementation: Implementation


def call(name: str, arguments: list[Value], context: Context) -> tuple[Value, ColumnKind]:
    """The value of ``name(arguments)`` and the kind of its column. Refusal 1305, 1582, 1772."""
    function = FUNCTIONS.get(name.upper())
    if function is None:
        raise unknown_function(name)
    if len(arguments) != function.arity:
        raise wrong_argument_count(name)
    return function.implementation(arguments, context), function.kind


def _user(_: list[Value], context: Context) -> Value:
    return f"{context.session.user}@{context.session.host}"


def _current_user(_: list[Value], context: Context) -> Value:
    return f"{context.session.user}@{context.session.account_host}"


def _database(_: list[Value], context: Context) -> Value:
    return context.session.database


def _now(_: list[Value], context: Context) -> Value:
    zone = as_text(context.variables.read("time_zone")[0]) or ""
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


_DATABASE = FunctionSpec(0, ColumnKind.STRING, _database)
_NOW = FunctionSpec(0, ColumnKind.DATETIME, _now)
_USER = FunctionSpec(0, ColumnKind.STRING, _user)

FUNCTIONS: Mapping[str, FunctionSpec] = MappingProxyType(
    {
        "CONNECTION_ID": FunctionSpec(0, ColumnKind.BIGINT_UNSIGNED, lambda _, context: context.session.connection_id),
        "CURRENT_TIMESTAMP": _NOW,
        "CURRENT_USER": FunctionSpec(0, ColumnKind.STRING, _current_user),
        "DATABASE": _DATABASE,
        "GTID_SUBSET": FunctionSpec(2, ColumnKind.BIGINT, _gtid_subset),
        "GTID_SUBTRACT": FunctionSpec(2, ColumnKind.STRING, _gtid_subtract),
        "NOW": _NOW,
        "SCHEMA": _DATABASE,
        "SESSION_USER": _USER,
        "SYSTEM_USER": _USER,
        "UNIX_TIMESTAMP": FunctionSpec(0, ColumnKind.BIGINT, lambda _, context: int(context.now)),
        "USER": _USER,
        "VERSION": FunctionSpec(0, ColumnKind.STRING, lambda _, context: context.facts.version),
    }
)
