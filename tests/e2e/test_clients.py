"""The programs and drivers that are pointed at a MySQL server find one, as far as a binary log server is one."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import pymysql
import pytest

from testbed.binlogd import BinlogdFailed
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from tests.e2e.support import MakeBinlogd, Site
from tests.sender.sql.support import definitions

pytestmark = pytest.mark.servers

COM_RESET_CONNECTION = 0x1F
ANNOUNCED = ("--table", "--column-type-info")
SHOWN_ALIKE = [
    "SHOW BINARY LOGS",
    "SHOW BINARY LOG STATUS",
    "SHOW BINLOG EVENTS LIMIT 5",
    "SHOW WARNINGS",
    "SHOW COUNT(*) ERRORS",
    "SHOW VARIABLES LIKE 'binlog_checksum'",
    "SHOW GLOBAL VARIABLES WHERE Variable_name = 'gtid_mode'",
    "SHOW DATABASES LIKE 'nonsense'",
    "SELECT 1, -1, 1.50, 1e5, NULL, TRUE, 'a', '', 'üü', 18446744073709551615, 1 = 1, 1 = NULL, @nothing AS n",
    "SELECT @@gtid_executed, @@gtid_mode, @@autocommit, @@warning_count, @@net_write_timeout AS t, DATABASE()",
    "SET @a = 1, @b = 'x', @c = 1.5, @d = 1e3, @e = NULL; SELECT @a, @b, @c, @d, @e, @a IS NULL, @b = 'X'",
    "SELECT GTID_SUBSET('', @@gtid_executed), GTID_SUBTRACT(@@gtid_executed, ''), GTID_SUBTRACT('', '')",
]


@pytest.fixture(scope="module")
def small(site: Site) -> Site:
    """With two files, and something in either."""
    site.source.execute("CREATE TABLE d.t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (1)")
    site.binlogd.wait_for(site.source)
    return site


@pytest.mark.parametrize("layout", [("--table",), ("--vertical",), ANNOUNCED])
def test_mysql_lays_it_out_as_from_the_source(small: Site, mysql: Distribution, layout: tuple[str, ...]) -> None:
    """Widths, alignment, types, flags and collations of columns come from what the server announces."""
    for sql in SHOWN_ALIKE:
        shown = small.binlogd.run(mysql, "mysql", *layout, f"--execute={sql}")
        assert shown == small.source.run("mysql", *layout, f"--execute={sql}").decode(), sql
        assert ("Flags: " in shown) is (layout == ANNOUNCED), sql


def test_mysql_sees_that_the_columns_of_what_differs_are_the_same(small: Site, mysql: Distribution) -> None:
    """Their values are about the server itself; what is announced of them is not."""
    replica = "SHOW REPLICA STATUS; SHOW REPLICAS; SHOW PROCESSLIST; SHOW FULL PROCESSLIST; SHOW STATUS LIKE 'Uptime'"
    functions = "SELECT USER(), CURRENT_USER(), CONNECTION_ID(), NOW(), UNIX_TIMESTAMP(), @@version, @@hostname"
    for sql in (*replica.split("; "), functions):
        texts = [
            small.binlogd.run(mysql, "mysql", *ANNOUNCED, f"--execute={sql}"),
            small.source.run("mysql", *ANNOUNCED, f"--execute={sql}").decode(),
        ]
        # What the widest value takes is of the value, and so is the length of a column of GTIDs.
        texts = [re.sub(r"^Max_length: .*\n", "", text.partition("\n\n\n+")[0], flags=re.MULTILINE) for text in texts]
        texts = [re.sub(r"(_Gtid_Set`(?s:.*?)Length: +)\d+", r"\1", text).strip() for text in texts]
        assert texts[0] == texts[1], sql
        assert "Flags: " in texts[0]


def test_mysql_with_its_habits(small: Site, mysql: Distribution) -> None:
    """What it sends by itself: for completion at the start, and for the command status."""
    shown = small.binlogd.run(mysql, "mysql", "--auto-rehash", "--commands", "--execute=SELECT 1 AS one; \\s")

    assert shown.startswith("one\n1\n")
    assert re.search(r"^Uptime:\t\t\t\d+ .*sec$", shown, re.MULTILINE)
    assert re.search(r"^Threads: \d+  Questions: \d+  Slow queries: 0  .*avg: \d+\.\d{3}$", shown, re.MULTILINE)


def test_mysqladmin(small: Site, mysql: Distribution) -> None:
    def admin(*words: str) -> str:
        return small.binlogd.run(mysql, "mysqladmin", *words)

    assert admin("ping") == "mysqld is alive\n"
    line = re.sub(r"\d+(\.\d+)?", "N", admin("status"))
    assert line == re.sub(r"\d+(\.\d+)?", "N", small.source.run("mysqladmin", "status").decode())
    assert re.search(r"Server version\s+\S+-binlogd\n", admin("version"))
    assert "| gtid_mode " in admin("variables")
    assert "| Questions " in admin("extended-status")
    assert "| show processlist |" in admin("processlist")
    for words, why in (
        (("shutdown",), "'SHUTDOWN': binlogd ends by the signal TERM"),
        (("flush-logs",), "'FLUSH': a new file begins when the source begins one"),
        (("create", "x"), "'CREATE': binlogd keeps binary logs and has no tables"),
    ):
        with pytest.raises(BinlogdFailed, match=re.escape(why)):
            admin(*words)
    assert small.binlogd.is_running


@pytest.mark.parametrize("options", [(), ("--no-tablespaces", "--skip-lock-tables")])
@pytest.mark.parametrize("program", ["mysqldump", "mariadb-dump"])
def test_no_empty_dump_is_taken_for_a_backup(
    small: Site, mysql: Distribution, mariadb: Distribution, program: str, options: tuple[str, ...]
) -> None:
    """SHOW DATABASES is empty: MariaDB's would write a dump of nothing, and end with code 0."""
    distribution = mysql
    if program == "mariadb-dump":
        distribution, options = mariadb, ("--skip-ssl-verify-server-cert", *options)
    with pytest.raises(BinlogdFailed, match=r"has no tables to dump; run it at the source .* \(1235\)"):
        small.binlogd.run(distribution, program, *options, "--all-databases")


def test_a_driver_makes_values_of_the_same_types(small: Site) -> None:
    sql = "SELECT 1, 18446744073709551615, 1.50, 1e3, 'x', NULL, NOW(), @@port, DATABASE(), 1 = 1"
    rows = [each.query(sql)[0] for each in (small.binlogd, small.source)]

    assert [type(value) for value in rows[0]] == [type(value) for value in rows[1]]
    assert rows[0][:6] == (1, 2**64 - 1, Decimal("1.50"), 1000.0, "x", None)
    assert isinstance(rows[0][6], datetime.datetime)


def test_text_comes_in_the_collation_of_the_handshake_until_another_is_set(
    small: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that sends no SET NAMES; 45 is in PyMySQL's handshake."""
    monkeypatch.setattr(pymysql.connections.Connection, "set_character_set", lambda *_: None)
    announced: list[list[Any]] = []
    for server in (small.binlogd, small.source):
        seen: list[Any] = []
        connection = server.connect()
        with connection, connection.cursor() as cursor:
            for statement in (None, "SET NAMES utf8mb4", "SET NAMES utf8mb4 COLLATE utf8mb4_bin", ""):
                if statement:
                    cursor.execute(statement)
                elif statement is not None:
                    reset(connection)
                cursor.execute("SHOW BINARY LOGS")
                seen.append(definitions(cursor))
                cursor.execute("SELECT @@collation_connection")
                seen.append(cursor.fetchall())
        announced.append(seen)
    assert announced[0] == announced[1]
    assert {column.charset for column in announced[0][0]} == {45, 63}


def reset(connection: Any) -> None:
    """As a pool does between two users of a connection."""
    connection._execute_command(COM_RESET_CONNECTION, b"")
    connection._read_ok_packet()


def test_a_pool_resets_its_connections(small: Site) -> None:
    """COM_RESET_CONNECTION: what the one before had set is gone, the connection stays."""
    answers = []
    for server in (small.binlogd, small.source):
        connection = server.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute("SET @a = 1, SESSION wait_timeout = 77")
            reset(connection)
            cursor.execute("SELECT @a, @@wait_timeout, CONNECTION_ID() = %s", (connection.thread_id(),))
            answers.append(cursor.fetchone())
    assert answers[0] == answers[1] == (None, 28_800, 1)


def test_whoever_kills_himself_gets_an_answer_and_is_gone(small: Site) -> None:
    for server in (small.binlogd, small.source):
        connection = server.connect()
        with connection.cursor() as cursor:
            with pytest.raises(pymysql.err.OperationalError) as error:
                cursor.execute("KILL CONNECTION_ID()")
            assert error.value.args[0] == 1317
            with pytest.raises((pymysql.err.Error, OSError)):
                cursor.execute("SELECT 1")


def test_nobody_waits_for_the_gtids_of_a_source_without_them(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    source = cluster.server(options={"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"})
    follower = binlogd(source)
    follower.wait_until(lambda: follower.query("SELECT @@gtid_mode") == [("OFF",)], "what its source says of itself")
    errors = []
    for server in (follower, source):
        with pytest.raises(pymysql.err.MySQLError) as error:
            server.query("SELECT WAIT_FOR_EXECUTED_GTID_SET('3e11fa47-71ca-11e1-9e33-c80aa9429562:1', 1)")
        errors.append(error.value.args)
    assert errors[0] == errors[1]
    assert errors[0][0] == 3062
