"""System variables: their values, scopes, what SHOW VARIABLES lists, and what a session may set."""

from __future__ import annotations

import pytest

from binlogd.sender.sql import Ok
from binlogd.sender.sql.catalog import CATALOG, Validity, VariableKind
from binlogd.sender.sql.charsets import CHARSETS
from binlogd.sender.sql.facts import advertised_version, version_number

from .support import OTHER_UUID, UUID, Client, some_facts

BOTH = f"0001-{UUID},0002-{OTHER_UUID}"


@pytest.mark.parametrize(
    ("name", "selected", "shown"),
    [
        ("version", "9.7.4-binlogd", "9.7.4-binlogd"),
        ("version_comment", "binlogd", "binlogd"),
        ("server_id", "3306202", "3306202"),
        ("server_uuid", UUID, UUID),
        ("hostname", "keeper", "keeper"),
        ("port", "3307", "3307"),
        ("gtid_executed", f"{UUID}:1-5", f"{UUID}:1-5"),
        ("gtid_purged", "", ""),
        ("binlogd_timelines", BOTH, BOTH),
        ("gtid_mode", "ON", "ON"),
        ("enforce_gtid_consistency", "ON", "ON"),
        ("binlog_checksum", "CRC32", "CRC32"),
        ("binlog_format", "ROW", "ROW"),
        ("binlog_row_image", "FULL", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "MINIMAL"),
        ("log_bin", "1", "ON"),
        ("log_slave_updates", "1", "ON"),
        ("log_replica_updates", "1", "ON"),
        ("read_only", "1", "ON"),
        ("super_read_only", "1", "ON"),
        ("performance_schema", "0", "OFF"),
        ("have_ssl", "YES", "YES"),
        ("require_secure_transport", "0", "OFF"),
        ("lower_case_table_names", "0", "0"),
        ("autocommit", "1", "ON"),
        ("wait_timeout", "28800", "28800"),
        ("max_allowed_packet", "67108864", "67108864"),
        ("time_zone", "SYSTEM", "SYSTEM"),
        ("transaction_isolation", "REPEATABLE-READ", "REPEATABLE-READ"),
        ("tx_isolation", "REPEATABLE-READ", "REPEATABLE-READ"),
        ("gtid_next", "AUTOMATIC", "AUTOMATIC"),
        ("sql_log_bin", "1", "ON"),
        ("pseudo_thread_id", "7", "7"),
        ("character_set_results", "utf8mb4", "utf8mb4"),
        ("protocol_version", "10", "10"),
    ],
)
def test_values(client: Client, name: str, selected: str, shown: str) -> None:
    assert client.value(f"SELECT @@{name}") == selected
    assert client.value(f"SELECT @@`{name.upper()}`") == selected
    assert client.rows(f"SHOW VARIABLES LIKE '{name.upper()}'") == [(name, shown)]


def test_every_variable_can_be_read_and_listed(client: Client) -> None:
    client.facts = some_facts(default_authentication_plugin="caching_sha2_password")
    listed = {str(name): value for name, value in client.rows("SHOW VARIABLES")}
    assert list(listed) == sorted(CATALOG)
    for name, spec in CATALOG.items():
        selected = client.value(f"SELECT @@{name}")
        if spec.kind is VariableKind.BOOL:
            assert {"1": "ON", "0": "OFF"}[str(selected)] == listed[name]
        else:
            assert selected == listed[name]


def test_facts_decide() -> None:
    client = Client(facts=some_facts(binlog_checksum="NONE", tls=False, require_tls=True, binlog_row_metadata=None))
    assert client.row("SELECT @@binlog_checksum, @@have_ssl, @@require_secure_transport") == (
        "NONE",
        "DISABLED",
        "1",
    )
    assert client.code("SELECT @@binlog_row_metadata") == 1193
    assert client.rows("SHOW VARIABLES LIKE 'binlog_row_metadata'") == []
    assert client.code("SELECT @@default_authentication_plugin") == 1193


@pytest.mark.parametrize(
    "name",
    [
        "rpl_semi_sync_source_enabled",
        "rpl_semi_sync_master_enabled",
        "skip_replication",
        "gtid_domain_id",
        "nonsense",
        "a.b",
    ],
)
def test_unknown_variables_are_an_error_everywhere_but_in_a_list(client: Client, name: str) -> None:
    for statement in (f"SELECT @@{name}", f"SELECT @@global.{name}", f"SET {name} = 1", f"SET @x = @@{name}"):
        refusal = client.refusal(statement)
        assert (refusal.code, refusal.sqlstate) == (1193, "HY000")
        assert refusal.message == f"Unknown system variable '{name}'"
    assert client.rows(f"SHOW VARIABLES LIKE '{name}'") == []
    assert client.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name = '{name}'") == []


def test_scopes(client: Client) -> None:
    assert client.value("SELECT @@global.server_uuid") == UUID
    for scope in ("session", "local"):
        refusal = client.refusal(f"SELECT @@{scope}.server_UUID")
        assert (refusal.code, refusal.message) == (1238, "Variable 'server_UUID' is a GLOBAL variable")
    refusal = client.refusal("SELECT @@global.sql_log_bin")
    assert (refusal.code, refusal.message) == (1238, "Variable 'sql_log_bin' is a SESSION variable")
    assert client.value("SELECT @@session.sql_log_bin") == "1"
    client.ok("SET autocommit = 0")
    assert client.row("SELECT @@autocommit, @@session.autocommit, @@local.autocommit") == ("0", "0", "0")
    assert client.value("SELECT @@global.autocommit") == "1"
    assert client.rows("SHOW VARIABLES LIKE 'autocommit'") == [("autocommit", "OFF")]
    assert client.rows("SHOW GLOBAL VARIABLES LIKE 'autocommit'") == [("autocommit", "ON")]
    globals_ = {name for name, _ in client.rows("SHOW GLOBAL VARIABLES")}
    assert "sql_log_bin" not in globals_
    assert "server_id" in globals_


def test_show_variables_works_out_only_the_values_it_needs() -> None:
    asked = []

    def gtid_executed() -> str:
        asked.append(1)
        return "x"

    client = Client(facts=some_facts(gtid_executed=gtid_executed))
    assert client.rows("SHOW VARIABLES LIKE 'server_id'") == [("server_id", "3306202")]
    assert not asked
    assert client.rows("SHOW VARIABLES WHERE Value = 'x'") == [("gtid_executed", "x")]
    assert asked


def test_show_variables_filters(client: Client) -> None:
    def names(condition: str) -> list[str | None]:
        return [name for name, _ in client.rows(f"SHOW GLOBAL VARIABLES {condition}")]

    assert names(r"LIKE 'gtid\_%'") == ["gtid_executed", "gtid_mode", "gtid_owned", "gtid_purged"]
    assert names("WHERE Variable_name IN ('PORT', 'hostname', 'nonsense')") == ["hostname", "port"]
    assert names("WHERE variable_name = 'port' OR `Variable_name` LIKE 'hostn%'") == ["hostname", "port"]
    assert names("WHERE Variable_name LIKE 'gtid%' AND Value <> ''") == ["gtid_executed", "gtid_mode"]
    assert names("WHERE 0") == []
    refusal = client.refusal("SHOW VARIABLES WHERE nonsense = 1")
    assert (refusal.code, refusal.message) == (1054, "Unknown column 'nonsense' in 'where clause'")


def test_set_names(client: Client) -> None:
    def charsets() -> tuple[str | None, ...]:
        return client.row(
            "SELECT @@character_set_client, @@character_set_connection, @@character_set_results, @@collation_connection"
        )

    client.ok("SET NAMES UTF8")
    assert charsets() == ("utf8mb3", "utf8mb3", "utf8mb3", "utf8mb3_general_ci")
    client.ok("SET NAMES 'latin1' COLLATE 'latin1_bin'")
    assert charsets() == ("latin1", "latin1", "latin1", "latin1_bin")
    client.ok("SET NAMES DEFAULT")
    assert charsets() == ("utf8mb4", "utf8mb4", "utf8mb4", "utf8mb4_0900_ai_ci")
    client.ok("SET NAMES binary")
    assert charsets() == ("binary",) * 4
    client.ok("SET CHARACTER SET latin2")
    assert charsets() == ("latin2", "utf8mb4", "latin2", "utf8mb4_0900_ai_ci")
    client.ok("SET collation_connection = 'gbk_bin', character_set_results = NULL")
    assert charsets() == ("latin2", "gbk", None, "gbk_bin")
    client.ok("SET character_set_connection = cp1250")
    assert charsets() == ("latin2", "cp1250", None, "cp1250_general_ci")
    client.ok("SET collation_connection = DEFAULT")
    assert charsets() == ("latin2", "utf8mb4", None, "utf8mb4_0900_ai_ci")
    assert client.rows("SHOW VARIABLES LIKE 'character_set_results'") == [("character_set_results", "")]


@pytest.mark.parametrize(
    ("assignment", "code"),
    [
        ("NAMES nonsense", 1115),
        ("NAMES utf16", 1231),
        ("NAMES utf8mb4 COLLATE latin1_bin", 1253),
        ("NAMES utf8mb4 COLLATE nonsense", 1273),
        ("NAMES utf8mb4 COLLATE binary", 1253),
        ("NAMES utf8mb4 COLLATE utf8mb4_" + "x" * 99, 1273),
        ("CHARACTER SET nonsense", 1115),
        ("character_set_client = ucs2", 1231),
        ("character_set_client = NULL", 1231),
        ("character_set_client = 5", 1232),
        ("collation_connection = binary_x", 1273),
        ("autocommit = 2", 1231),
        ("autocommit = NULL", 1231),
        ("autocommit = 1.5", 1232),
        ("autocommit = 1e0", 1232),
        ("autocommit = nonsense", 1231),
        ("wait_timeout = 'x'", 1232),
        ("wait_timeout = NULL", 1232),
        ("sql_mode = 'ANSI_QUOTES'", 1231),
        ("sql_mode = 'NO_BACKSLASH_ESCAPES'", 1231),
        ("sql_mode = 'STRICT_ALL_TABLES,NONSENSE'", 1231),
        ("transaction_isolation = 'nonsense'", 1231),
        ("gtid_next = '" + UUID + ":1'", 1231),
        ("time_zone = '+15:00'", 1298),
        ("time_zone = 'Europe/Berlin'", 1298),
        ("sql_mode = '" + "x" * 2000 + "'", 1231),
        ("lc_messages = 'de_DE'", 1238),
        ("version = 'x'", 1238),
        ("server_uuid = 'x'", 1238),
        ("gtid_executed = 'x'", 1238),
        ("max_allowed_packet = 1", 1621),
        ("net_buffer_length = 1", 1621),
        ("nonsense = 1", 1193),
        ("autocommit = foo(1)", 1305),
        ("version = DEFAULT", 1238),
    ],
)
def test_what_a_session_may_not_set(client: Client, assignment: str, code: int) -> None:
    others = "SHOW VARIABLES WHERE Variable_name NOT IN ('error_count', 'warning_count')"
    before = client.rows(others)
    assert client.code(f"SET @x = 1, {assignment}") == code
    assert client.rows(others) == before
    assert client.value("SELECT @x") is None


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("autocommit = off", "autocommit", "0"),
        ("autocommit = 'ON'", "autocommit", "1"),
        ("SESSION autocommit = FALSE", "autocommit", "0"),
        ("@@session.wait_timeout = 5", "wait_timeout", "5"),
        ("net_write_timeout = 60, net_read_timeout = 61", "net_read_timeout", "61"),
        ("sql_mode = 'strict_all_tables,,STRICT_ALL_TABLES'", "sql_mode", "STRICT_ALL_TABLES"),
        ("sql_mode = TRADITIONAL", "sql_mode", "TRADITIONAL"),
        ("sql_mode = ''", "sql_mode", ""),
        ("sql_mode = @@global.sql_mode", "sql_mode", some_facts().sql_mode),
        ("transaction_isolation = 'read-committed'", "transaction_isolation", "READ-COMMITTED"),
        ("gtid_next = AUTOMATIC", "gtid_next", "AUTOMATIC"),
        ("time_zone = system", "time_zone", "SYSTEM"),
        ("time_zone = '-01:30'", "time_zone", "-01:30"),
        ("sql_log_bin = 0", "sql_log_bin", "0"),
        ("group_concat_max_len = 18446744073709551615", "group_concat_max_len", "18446744073709551615"),
        ("wait_timeout = 5, wait_timeout = DEFAULT", "wait_timeout", "28800"),
    ],
)
def test_what_a_session_may_set(client: Client, assignment: str, name: str, value: str) -> None:
    client.ok(f"SET {assignment}")
    assert client.value(f"SELECT @@{name}") == value


@pytest.mark.parametrize(
    ("value", "nearest"), [("0", "1"), ("-5", "1"), ("31536001", "31536000"), ("9" * 19, "31536000")]
)
def test_numbers_out_of_range_become_the_nearest_with_a_warning(client: Client, value: str, nearest: str) -> None:
    assert client.run(f"SET wait_timeout = {value}, @x = 1") == Ok(warnings=1)
    assert client.rows("SHOW WARNINGS") == [("Warning", "1292", f"Truncated incorrect wait_timeout value: '{value}'")]
    assert client.rows("SHOW ERRORS") == []
    assert client.row("SELECT @@wait_timeout, @@warning_count, @@error_count") == (nearest, "1", "0")


def test_modes_that_statements_are_not_read_by_are_not_shown() -> None:
    client = Client(facts=some_facts(sql_mode="ANSI_QUOTES,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES"))
    assert client.value("SELECT @@sql_mode") == "STRICT_ALL_TABLES"


def test_every_charset_can_be_named_or_is_refused_as_a_clients(client: Client) -> None:
    for name, collation in CHARSETS.items():
        if name in ("ucs2", "utf16", "utf16le", "utf32"):
            assert client.code(f"SET NAMES {name}") == 1231
        else:
            client.ok(f"SET NAMES {name} COLLATE {collation}")
            assert client.value("SELECT @@collation_connection") == collation


def test_session_validity_is_what_scopes_allow(client: Client) -> None:
    client.facts = some_facts(default_authentication_plugin="x")
    for name, spec in CATALOG.items():
        if spec.validity is Validity.GLOBAL:
            assert client.code(f"SELECT @@session.{name}") == 1238
            assert spec.check is None
        else:
            assert client.columns(f"SELECT @@session.{name}") == [f"@@session.{name}"]


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("9.7.4-binlogd", 90704),
        ("8.0.36-0ubuntu0.22.04.1-binlogd", 80036),
        ("5.6.24-log-binlogd", 50624),
        ("10.11.6-MariaDB-binlogd", 101106),
        ("nonsense", 0),
    ],
)
def test_version_number(version: str, number: int) -> None:
    assert version_number(version) == number


def test_the_advertised_version_begins_with_the_sources() -> None:
    assert advertised_version("8.4.3") == "8.4.3-binlogd"
