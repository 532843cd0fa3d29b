"""What statements answer, what a role may ask, and what a refusal leaves behind."""

from __future__ import annotations

from typing import get_args

import pytest

from binlogd.sender.sql import KillTarget, Ok, Role
from binlogd.sender.sql.execute import HANDLERS, MAX_ROW_BYTES
from binlogd.sender.sql.results import ColumnKind
from binlogd.sender.sql.statements import REQUIREMENTS, Assignment, Statement

from .support import OTHER_UUID, UUID, Client, some_facts


def test_every_statement_has_a_role_and_a_handler() -> None:
    assert set(HANDLERS) == set(get_args(Statement))
    assert set(REQUIREMENTS) == {*get_args(Statement), *get_args(Assignment)}
    assert all(row.privilege for row in REQUIREMENTS.values() if row.role is not Role.REPLICA)


def test_show_binary_logs(client: Client) -> None:
    for statement in ("SHOW BINARY LOGS", "SHOW MASTER LOGS"):
        assert client.columns(statement) == ["Log_name", "File_size", "Encrypted"]
        assert client.rows(statement) == [
            ("mysql-bin.000001", "1234", "No"),
            ("mysql-bin.000002", "5368709120", "No"),
        ]
    assert client.result("SHOW BINARY LOGS").columns[1].kind is ColumnKind.BIGINT_UNSIGNED


def test_show_binary_log_status(client: Client) -> None:
    for statement in ("SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"):
        assert client.columns(statement) == [
            "File",
            "Position",
            "Binlog_Do_DB",
            "Binlog_Ignore_DB",
            "Executed_Gtid_Set",
        ]
        assert client.rows(statement) == [("mysql-bin.000002", "5368709120", "", "", f"{UUID}:1-5")]
    client.backend.end = None
    assert client.rows("SHOW MASTER STATUS") == []


def test_show_replicas() -> None:
    client = Client(Role.MONITOR)
    assert client.columns("SHOW REPLICAS") == ["Server_Id", "Host", "Port", "Source_Id", "Replica_UUID"]
    assert client.columns("SHOW SLAVE HOSTS") == ["Server_id", "Host", "Port", "Master_id", "Slave_UUID"]
    for statement in ("SHOW REPLICAS", "SHOW SLAVE HOSTS"):
        assert client.rows(statement) == [("11", "replica1", "3306", "7", OTHER_UUID)]


def test_show_processlist() -> None:
    client = Client(Role.MONITOR)
    assert client.columns("SHOW PROCESSLIST") == [
        "Id",
        "User",
        "Host",
        "db",
        "Command",
        "Time",
        "State",
        "Info",
    ]
    first, second, _ = client.rows("SHOW PROCESSLIST")
    assert first == ("7", "repl", "10.0.0.1:4000", None, "Query", "0", "starting", "x" * 100)
    assert second == ("8", "repl", "10.0.0.2:4000", None, "Binlog Dump GTID", "60", None, None)
    assert client.rows("SHOW FULL PROCESSLIST")[0][-1] == "x" * 300


def test_show_status() -> None:
    client = Client(Role.MONITOR)
    assert client.rows("SHOW STATUS") == [("Threads_connected", "3"), ("Uptime", "77")]
    assert client.rows("SHOW GLOBAL STATUS LIKE 'up%'") == [("Uptime", "77")]
    assert client.rows("SHOW STATUS WHERE Value > 5 AND Variable_name <> 'x'") == [("Uptime", "77")]


def test_databases_and_tables_are_none(client: Client) -> None:
    assert (client.columns("SHOW DATABASES"), client.rows("SHOW DATABASES")) == (["Database"], [])
    assert client.rows("SHOW TABLES") == []
    assert client.columns("SHOW TABLES FROM d") == ["Tables_in_d"]
    assert client.columns("SHOW FULL TABLES FROM d") == ["Tables_in_d", "Table_type"]
    assert client.columns("SHOW TABLES FROM d LIKE 'x%'") == ["Tables_in_d (x%)"]
    assert client.columns("SHOW DATABASES LIKE 'x%'") == ["Database (x%)"]
    assert client.rows("SHOW DATABASES WHERE `Database` = 'x'") == []
    refusal = client.refusal("USE d")
    assert (refusal.code, refusal.message) == (1049, "Unknown database 'd'")


def test_transactions_are_nothing(client: Client) -> None:
    for statement in ("BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK"):
        assert client.run(statement) == Ok()


def test_limit(client: Client) -> None:
    assert client.rows("SELECT 1 LIMIT 1") == [("1",)]
    assert client.rows("SELECT 1 LIMIT 0") == []
    assert client.rows("SELECT 1 LIMIT 1, 1") == []
    assert client.rows("SELECT 1 LIMIT 18446744073709551615 OFFSET 0") == [("1",)]


def test_set_happens_as_a_whole(client: Client) -> None:
    client.ok("SET @a = 1, @b = 'x'")
    client.ok("SET @a = @b, @b = @a")
    assert client.row("SELECT @a, @b") == ("x", "1")
    assert client.code("SET @a = 5, autocommit = 0, @b = @@nonsense") == 1193
    assert client.row("SELECT @a, @b, @@autocommit") == ("x", "1", "1")
    many = ", ".join(f"@v{number} = 1" for number in range(300))
    assert client.code(f"SET autocommit = 0, {many}") == 1041
    assert client.value("SELECT @@autocommit") == "1"


def test_a_row_is_bounded() -> None:
    large = "x" * (MAX_ROW_BYTES // 4)
    client = Client(facts=some_facts(gtid_executed=lambda: large))
    assert len(client.row("SELECT @@gtid_executed, @@gtid_executed")) == 2
    assert client.code("SELECT " + ", ".join(["@@gtid_executed"] * 5)) == 1153


def test_numbers_and_bytes_of_the_wire(client: Client) -> None:
    assert client.rows(b"SELECT 'gr\xc3\xbc\xc3\x9fe', 1") == [("grüße", "1")]
    assert client.code(b"SELECT '\xff'") == 1300


# --- diagnostics ---


def test_a_refusal_is_what_show_warnings_shows(client: Client) -> None:
    assert client.rows("SHOW WARNINGS") == []
    message = client.refusal("SELECT @@nonsense").message
    assert client.columns("SHOW WARNINGS") == ["Level", "Code", "Message"]
    for statement in ("SHOW WARNINGS", "SHOW ERRORS", "SHOW ERRORS LIMIT 1"):
        assert client.rows(statement) == [("Error", "1193", message)]
    assert client.rows("SHOW WARNINGS LIMIT 1, 5") == []
    assert client.value("SHOW COUNT(*) WARNINGS") == "1"
    assert client.columns("SHOW COUNT(*) ERRORS") == ["@@session.error_count"]
    assert client.row("SELECT @@warning_count, @@error_count") == ("1", "1")
    client.ok("SET @x = 1")
    assert client.rows("SHOW WARNINGS") == []


def test_a_denial_is_one_too() -> None:
    client = Client(Role.REPLICA)
    client.code("SHOW PROCESSLIST")
    assert client.rows("SHOW WARNINGS")[0][:2] == ("Error", "1227")


# --- roles ---

FOR_ANYONE = [
    "SELECT @@server_id, VERSION(), @x",
    "SET @x = 1, NAMES utf8, autocommit = 1",
    "SET CHARACTER SET utf8",
    "SHOW VARIABLES",
    "SHOW BINARY LOGS",
    "SHOW MASTER STATUS",
    "SHOW WARNINGS",
    "SHOW DATABASES",
    "SHOW TABLES",
    "KILL 8",
    "COMMIT",
]
FOR_MONITORS = ["SHOW STATUS", "SHOW REPLICAS", "SHOW SLAVE HOSTS", "SHOW PROCESSLIST"]
FOR_ADMINS = ["SET GLOBAL wait_timeout = 5", "SET @x = 1, @@persist.wait_timeout = 5"]


@pytest.mark.parametrize("role", list(Role))
def test_roles(role: Role) -> None:
    client = Client(role)
    allowed = FOR_ANYONE + (FOR_MONITORS if role is not Role.REPLICA else [])
    denied = (FOR_MONITORS if role is Role.REPLICA else []) + (FOR_ADMINS if role is not Role.ADMIN else [])
    for statement in allowed:
        client.run(statement)
    for statement in denied:
        refusal = client.refusal(statement)
        assert (refusal.code, refusal.sqlstate) == (1227, "42000")
        assert refusal.message.startswith("Access denied; you need (at least one of) the ")
        assert refusal.message.endswith(" privilege(s) for this operation")
        needed = "admin" if statement in FOR_ADMINS else "monitor"
        assert f"(binlogd's role {needed})" in refusal.message
    assert client.value("SELECT @@global.wait_timeout") == "28800"


def test_syntax_comes_before_the_role() -> None:
    assert Client(Role.REPLICA).code("SHOW PROCESSLIST nonsense") == 1064


def test_nothing_global_can_be_set_yet_and_nobody_is_told_otherwise() -> None:
    client = Client(Role.ADMIN)
    for name in ["read_only", "wait_timeout", "server_uuid"]:
        refusal = client.refusal(f"SET GLOBAL {name} = 0")
        assert (refusal.code, refusal.message) == (1238, f"Variable '{name}' is a read only variable")
    assert client.refusal("SET GLOBAL sql_log_bin = 0").message == (
        "Variable 'sql_log_bin' is a SESSION variable and can't be used with SET GLOBAL"
    )
    assert client.code("SET GLOBAL nonsense = 0") == 1193


# --- KILL ---


@pytest.mark.parametrize("role", [Role.REPLICA, Role.MONITOR])
def test_users_may_kill_what_is_theirs(role: Role) -> None:
    client = Client(role)
    client.ok("KILL 8")
    assert client.code("KILL QUERY CONNECTION_ID()") == 1317
    assert client.backend.killed == [(8, KillTarget.CONNECTION), (7, KillTarget.QUERY)]
    refusal = client.refusal("KILL 9")
    assert (refusal.code, refusal.message) == (1095, "You are not owner of thread 9")
    refusal = client.refusal("KILL 10")
    assert (refusal.code, refusal.message) == (1094, "Unknown thread id: 10")
    assert len(client.backend.killed) == 2


def test_admins_may_kill_anything() -> None:
    client = Client(Role.ADMIN)
    client.ok("KILL CONNECTION 9")
    assert client.backend.killed == [(9, KillTarget.CONNECTION)]
    assert client.code("KILL 10") == 1094


@pytest.mark.parametrize("target", ["NULL", "'8'", "8.0", "-8", "@x"])
def test_only_whole_numbers_name_a_connection(client: Client, target: str) -> None:
    assert client.code(f"KILL {target}") == 1094
    assert client.backend.killed == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 0 AND foo()",
        "SELECT 1 OR foo() IS NULL",
        "SELECT 1 OR (foo() <=> 1)",
        "SELECT 1 IN (1, foo())",
        "SELECT NULL LIKE -foo(1)",
        "SELECT foo() LIMIT 0",
        "SELECT GTID_SUBSET('x', ''), foo()",
        "SET @x = 0 AND foo()",
        "SET @x = @@autocommit, @y = 1 OR foo()",
        "SET autocommit = 0 AND foo()",
        "SHOW VARIABLES WHERE 0 AND foo()",
        "SHOW STATUS WHERE 1 OR foo()",
        "KILL 0 AND foo()",
        "PURGE BINARY LOGS BEFORE 0 AND foo()",
    ],
)
def test_a_function_that_does_not_exist_is_refused_where_it_would_not_be_called(statement: str) -> None:
    """Where no database is chosen MySQL says 1046 of it."""
    refusal = Client(Role.ADMIN).refusal(statement)
    assert (refusal.code, refusal.message) == (1305, "FUNCTION foo does not exist")


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-10:00", "9999-12-31T23:59:59", "0001-01-01T00:00:00+10:00"])
@pytest.mark.parametrize("zone", ["-12:00", "+14:00"])
def test_no_moment_is_beyond_the_calendar(moment: str, zone: str) -> None:
    client = Client(Role.ADMIN, answer={"removed": [], "blocked": None})
    client.ok(f"SET time_zone = '{zone}'")
    if (moment, zone) == ("9999-12-31T23:59:59", "+14:00"):
        client.ok(f"PURGE BINARY LOGS BEFORE '{moment}'")
    else:
        assert client.code(f"PURGE BINARY LOGS BEFORE '{moment}'") == 1210
