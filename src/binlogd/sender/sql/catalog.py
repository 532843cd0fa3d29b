"""The table of system variables: every one the listener knows, where it is valid, and what a session may set.

A variable that is not here is unknown (1193; no row in SHOW VARIABLES), and that is an answer clients act on.
So these are left out on purpose:

- ``rpl_semi_sync_source_enabled``, ``rpl_semi_sync_master_enabled``: a replica that finds either, whatever
  its value, goes on to expect semi-synchronous packets; 1193 makes it replicate asynchronously.
- ``skip_replication`` (MariaDB): with 1193 the replica leaves out the marked events itself; OK would promise
  that the sender does.
- ``gtid_domain_id`` and the other MariaDB GTID variables: a MariaDB replica asks for them only when it wants
  to start by a MariaDB GTID, which a MySQL source has not.

``binlogd_timelines`` is the one that MySQL has not: by it another binlogd knows whom it has connected to, and which
timelines (layout.py) it may ask for.

A session may set what it may set in MySQL without harm here: most of it governs queries on tables, of which
there are none, so nothing has to obey it. What would change how statements are read (ANSI_QUOTES and its
like) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias

from binlogd.sender.sql.charsets import DEFAULT_CHARSET, charset_named, charset_of_collation, client_charset
from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.facts import ServerFacts
from binlogd.sender.sql.refusals import unknown_time_zone, wrong_type, wrong_value
from binlogd.sender.sql.session import SessionState
from binlogd.sender.sql.time_zones import is_time_zone

MAX_TEXT = 1024  # characters of a string variable a session sets


class Validity(Enum):
    """Where a variable has values."""

    GLOBAL = "GLOBAL"
    SESSION = "SESSION"
    BOTH = "BOTH"


class VariableKind(Enum):
    BOOL = "bool"  # SELECT shows 1 and 0, SHOW VARIABLES ON and OFF
    INT = "int"
    TEXT = "text"


# Makes a value of a SET statement the variable's: (name, value) → value, or Refusal 1231, 1232 and the like.
Check: TypeAlias = Callable[[str, Value], Value]


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """A row of the table.

    ``read`` gives the value where the session has set none: the global one, or what follows from the session.
    The variable is unknown where ``known`` says no. ``check`` is None for what a session may not set;
    ``session_locked`` marks those of them MySQL lets it read only (error 1621).
    """

    name: str
    validity: Validity
    kind: VariableKind
    read: Callable[[ServerFacts, SessionState], Value]
    check: Check | None = None
    session_locked: bool = False
    known: Callable[[ServerFacts], bool] = lambda _: True


# --- what a session may set ---

_BOOLEANS = {"ON": 1, "TRUE": 1, "1": 1, "OFF": 0, "FALSE": 0, "0": 0}


def boolean(name: str, value: Value) -> Value:
    if not isinstance(value, int | str | None):
        raise wrong_type(name)
    truth = _BOOLEANS.get(str(value).upper())
    if truth is None:
        raise wrong_value(name, "NULL" if value is None else str(value))
    return truth


def whole(least: int, most: int) -> Check:
    def check(name: str, value: Value) -> Value:
        if not isinstance(value, int):
            raise wrong_type(name)
        return min(max(value, least), most)

    return check


def text(name: str, value: Value) -> str:
    if value is None:
        raise wrong_value(name, "NULL")
    if not isinstance(value, str):
        raise wrong_type(name)
    if len(value) > MAX_TEXT:
        raise wrong_value(name, value)
    return value


def one_of(*choices: str) -> Check:
    def check(name: str, value: Value) -> Value:
        chosen = text(name, value)
        if chosen.upper() not in choices:
            raise wrong_value(name, chosen)
        return chosen.upper()

    return check


# Every mode of MySQL but those that change how text is read: ANSI_QUOTES, NO_BACKSLASH_ESCAPES,
# PIPES_AS_CONCAT, IGNORE_SPACE, HIGH_NOT_PRECEDENCE and ANSI, which holds three of them.
_MODES = (
    "ALLOW_INVALID_DATES ERROR_FOR_DIVISION_BY_ZERO NO_AUTO_CREATE_USER NO_AUTO_VALUE_ON_ZERO "
    "NO_DIR_IN_CREATE NO_ENGINE_SUBSTITUTION NO_UNSIGNED_SUBTRACTION NO_ZERO_DATE NO_ZERO_IN_DATE "
    "ONLY_FULL_GROUP_BY PAD_CHAR_TO_FULL_LENGTH REAL_AS_FLOAT STRICT_ALL_TABLES STRICT_TRANS_TABLES "
    "TIME_TRUNCATE_FRACTIONAL TRADITIONAL"
)
_SQL_MODES = frozenset(_MODES.split())


def sql_mode(name: str, value: Value) -> Value:
    modes = [mode for mode in text(name, value).upper().split(",") if mode]
    for mode in modes:
        if mode not in _SQL_MODES:
            raise wrong_value(name, mode)
    return ",".join(dict.fromkeys(modes))


def _followed_modes(facts: ServerFacts, _session: SessionState) -> str:
    """The source's modes but those that statements are not read by here: clients choose quotes by this."""
    return ",".join(mode for mode in facts.sql_mode.split(",") if mode in _SQL_MODES)


def charset(name: str, value: Value) -> Value:
    return charset_named(text(name, value))


def connection_charset(name: str, value: Value) -> Value:
    return client_charset(text(name, value))


def results_charset(name: str, value: Value) -> Value:
    return None if value is None else charset_named(text(name, value))


def collation(name: str, value: Value) -> Value:
    chosen = text(name, value).lower()
    charset_of_collation(chosen)
    return chosen


def time_zone(name: str, value: Value) -> Value:
    zone = text(name, value)
    if not is_time_zone(zone):
        raise unknown_time_zone(zone)
    return zone.upper()


# --- how rows are written ---


def _constant(value: Value) -> Callable[[ServerFacts, SessionState], Value]:
    return lambda _facts, _session: value


def _fact(field: str) -> Callable[[ServerFacts, SessionState], Value]:
    def read(facts: ServerFacts, _session: SessionState) -> Value:
        value: bool | Value = getattr(facts, field)
        return int(value) if isinstance(value, bool) else value

    return read


def _kind(value: Value | bool) -> VariableKind:
    if isinstance(value, bool):
        return VariableKind.BOOL
    return VariableKind.INT if isinstance(value, int) else VariableKind.TEXT


def _facts_of(validity: Validity, kind: VariableKind, names: str) -> Iterable[VariableSpec]:
    """Variables called like the fact they show."""
    return (VariableSpec(name, validity, kind, _fact(name)) for name in names.split())


def _constants(validity: Validity, **values: str | int | None) -> Iterable[VariableSpec]:
    """Variables that always have one value; a bool makes a BOOL."""
    for name, value in values.items():
        plain = int(value) if isinstance(value, bool) else value
        yield VariableSpec(name, validity, _kind(value), _constant(plain))


def _fact_if_known(name: str) -> VariableSpec:
    return VariableSpec(
        name,
        Validity.GLOBAL,
        VariableKind.TEXT,
        _fact(name),
        known=lambda facts: getattr(facts, name) is not None,
    )


def _settable(check: Check, validity: Validity = Validity.BOTH, **values: str | int) -> Iterable[VariableSpec]:
    """Variables a session may set, with their global values."""
    for name, value in values.items():
        plain = int(value) if isinstance(value, bool) else value
        yield VariableSpec(name, validity, _kind(value), _constant(plain), check)


def _settable_facts(check: Check, kind: VariableKind, names: str) -> Iterable[VariableSpec]:
    return (VariableSpec(name, Validity.BOTH, kind, _fact(name), check) for name in names.split())


_ISOLATION = one_of("READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE")
_YEAR = 31_536_000  # seconds, MySQL's greatest time-out
_GTID = (Validity.GLOBAL, VariableKind.TEXT)
_BOOL, _INT, _TEXT = VariableKind.BOOL, VariableKind.INT, VariableKind.TEXT


def _rows() -> Iterable[VariableSpec]:
    yield from _facts_of(Validity.GLOBAL, _INT, "server_id port max_connections lower_case_table_names")
    yield from _facts_of(
        Validity.GLOBAL,
        _TEXT,
        "version version_comment version_compile_os version_compile_machine server_uuid hostname "
        "binlog_checksum gtid_mode enforce_gtid_consistency log_bin_basename log_bin_index datadir "
        "system_time_zone",
    )
    yield _fact_if_known("binlog_row_metadata")
    yield _fact_if_known("default_authentication_plugin")
    yield VariableSpec("gtid_executed", *_GTID, lambda facts, _: facts.gtid_executed())
    yield VariableSpec("gtid_purged", *_GTID, lambda facts, _: facts.gtid_purged())
    yield VariableSpec("binlogd_timelines", Validity.GLOBAL, _TEXT, lambda facts, _: facts.binlogd_timelines())
    for name in ("have_ssl", "have_openssl"):
        yield VariableSpec(name, Validity.GLOBAL, _TEXT, lambda facts, _: "YES" if facts.tls else "DISABLED")
    yield VariableSpec("require_secure_transport", Validity.GLOBAL, _BOOL, lambda facts, _: int(facts.require_tls))
    yield from _constants(
        Validity.GLOBAL,
        character_set_system="utf8mb3",
        init_connect="",
        license="MIT",
        log_bin=True,
        log_replica_updates=True,
        log_slave_updates=True,
        offline_mode=False,
        performance_schema=False,
        protocol_version=10,
        query_cache_size=0,
        read_only=True,
        skip_networking=False,
        super_read_only=True,
    )
    yield from _constants(
        Validity.BOTH,
        binlog_row_value_options="",
        binlog_rows_query_log_events=False,
        binlog_transaction_compression=False,
        gtid_owned="",
        lc_messages="en_US",
        lc_time_names="en_US",
        query_cache_type="OFF",
    )
    yield from _facts_of(Validity.BOTH, _TEXT, "binlog_format binlog_row_image")
    yield VariableSpec("max_allowed_packet", Validity.BOTH, _INT, _fact("max_allowed_packet"), None, True)
    yield VariableSpec("net_buffer_length", Validity.BOTH, _INT, _constant(16_384), None, True)
    yield VariableSpec("pseudo_thread_id", Validity.SESSION, _INT, lambda _, session: session.connection_id)
    yield VariableSpec("last_insert_id", Validity.SESSION, _INT, _constant(0))
    yield VariableSpec("identity", Validity.SESSION, _INT, _constant(0))
    yield VariableSpec("warning_count", Validity.SESSION, _INT, lambda _, session: len(session.diagnostics))
    yield VariableSpec(
        "error_count",
        Validity.SESSION,
        _INT,
        lambda _, session: sum(row.level == "Error" for row in session.diagnostics),
    )
    yield from _settable(
        boolean,
        autocommit=True,
        foreign_key_checks=True,
        sql_auto_is_null=False,
        sql_big_selects=True,
        sql_notes=True,
        sql_quote_show_create=True,
        sql_safe_updates=False,
        sql_warnings=False,
        transaction_read_only=False,
        tx_read_only=False,
        unique_checks=True,
    )
    yield from _settable(boolean, Validity.SESSION, sql_log_bin=True)
    yield from _settable(one_of("AUTOMATIC"), Validity.SESSION, gtid_next="AUTOMATIC")
    yield from _settable(_ISOLATION, transaction_isolation="REPEATABLE-READ", tx_isolation="REPEATABLE-READ")
    yield from _settable(whole(1, _YEAR), lock_wait_timeout=_YEAR, net_retry_count=10)
    yield from _settable(whole(0, 2**32 - 1), max_execution_time=0)
    yield from _settable(
        whole(0, 2**64 - 1), group_concat_max_len=1024, max_join_size=2**64 - 1, sql_select_limit=2**64 - 1
    )
    yield from _settable_facts(
        whole(1, _YEAR), _INT, "net_read_timeout net_write_timeout wait_timeout interactive_timeout"
    )
    yield from _settable_facts(whole(1, 65_535), _INT, "auto_increment_increment auto_increment_offset")
    yield VariableSpec("sql_mode", Validity.BOTH, _TEXT, _followed_modes, sql_mode)
    yield from _settable_facts(time_zone, _TEXT, "time_zone")
    yield from _settable_facts(charset, _TEXT, "character_set_server")
    yield from _settable_facts(collation, _TEXT, "collation_server")
    yield VariableSpec("character_set_database", Validity.BOTH, _TEXT, _fact("character_set_server"), charset)
    yield VariableSpec("collation_database", Validity.BOTH, _TEXT, _fact("collation_server"), collation)
    yield from _settable(connection_charset, character_set_client=DEFAULT_CHARSET)
    yield from _settable(charset, character_set_connection=DEFAULT_CHARSET)
    yield from _settable(results_charset, character_set_results=DEFAULT_CHARSET)
    yield from _settable(charset, character_set_filesystem="binary")
    yield from _settable(collation, collation_connection="utf8mb4_0900_ai_ci")


CATALOG: Mapping[str, VariableSpec] = MappingProxyType(
    {spec.name: spec for spec in sorted(_rows(), key=lambda spec: spec.name)}
)
