"""The same statements here and at a real MySQL 9.7: columns, types, values, error numbers and words."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.errors import Refusal
from binlogd.receiver.link import Wake
from binlogd.receiver.office import Office
from binlogd.receiver.orders import Orders
from binlogd.receiver.session import Secret, SourceOptions
from binlogd.sender.columns import collation_id, definition
from binlogd.sender.sql import (
    BinaryLogStatus,
    Errand,
    EventListing,
    KillTarget,
    Ok,
    Process,
    ResultSet,
    Role,
    SessionState,
    Wait,
    execute,
)
from binlogd.sender.sql.catalog import CATALOG, Validity, VariableKind
from binlogd.store.disk import Disk
from binlogd.wire.results import Column
from testbed.cluster import Cluster
from testbed.distributions import Distribution

from .support import OTHER_UUID, UUID, Client, announced, definitions, some_facts

pytestmark = pytest.mark.servers

# What 9.7 no longer has, but clients ask of older servers.
NEVER_IN_MYSQL = {"binlogd_timelines"}
GONE_FROM_MYSQL = {
    "default_authentication_plugin",
    "have_openssl",
    "have_ssl",
    "query_cache_size",
    "query_cache_type",
    "tx_isolation",
    "tx_read_only",
}


# The facts about the real server that are called like its variables.
TEXT_FACTS = (
    "version version_comment server_uuid hostname binlog_checksum gtid_mode enforce_gtid_consistency binlog_format "
    "binlog_row_image binlog_row_metadata log_bin_basename log_bin_index datadir sql_mode character_set_server "
    "collation_server time_zone system_time_zone version_compile_os version_compile_machine"
)
NUMBER_FACTS = (
    "server_id port lower_case_table_names auto_increment_increment auto_increment_offset max_connections "
    "max_allowed_packet net_read_timeout net_write_timeout wait_timeout interactive_timeout"
)


class Real:
    """A connection to MySQL; values come as the text on the wire."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def run(self, statement: str) -> tuple[list[Column], list[tuple[str | None, ...]]] | None:
        """Columns and rows; None for OK."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            if cursor.description is None:
                return None
            return definitions(cursor), list(cursor.fetchall())

    def result(self, statement: str) -> tuple[list[Column], list[tuple[str | None, ...]]]:
        result = self.run(statement)
        assert result is not None
        return result

    def error(self, statement: str) -> tuple[int, str] | None:
        try:
            self.run(statement)
        except pymysql.MySQLError as error:
            return error.args[0], error.args[1]
        return None

    def value(self, statement: str) -> str | None:
        ((value,),) = self.result(statement)[1]
        return value


@pytest.fixture(scope="module")
def cluster_here(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("sql"), mysql) as cluster:
        cluster.server("source")
        yield cluster


@pytest.fixture
def real(cluster_here: Cluster) -> Iterator[Real]:
    connection = cluster_here.servers["source"].connect(conv={}, autocommit=None)
    try:
        yield Real(connection)
    finally:
        connection.close()


@pytest.fixture
def client(real: Real) -> Client:
    """A listener that knows of itself what the real server does of itself."""
    facts: dict[str, Any] = {name: real.value(f"SELECT @@global.{name}") for name in TEXT_FACTS.split()}
    facts |= {name: int(real.value(f"SELECT @@global.{name}") or "") for name in NUMBER_FACTS.split()}
    executed = real.value("SELECT @@global.gtid_executed") or ""
    facts["gtid_executed"] = lambda: executed
    user, _, host = (real.value("SELECT USER()") or "").partition("@")
    connection_id = int(real.value("SELECT CONNECTION_ID()") or "")
    client = Client(Role.ADMIN, some_facts(**facts), SessionState(connection_id, user, host))
    client.backend.end = BinaryLogStatus("mysql-bin.000001", 4, executed)
    client.ok("SET NAMES utf8mb4")
    return client


SAME = [
    "SELECT @@GLOBAL.SERVER_ID, @@GLOBAL.SERVER_UUID, @@GLOBAL.GTID_MODE, @@global.binlog_checksum",
    "SELECT @@version_comment LIMIT 1",
    "select @@hostname AS h, @@port p, @@gtid_executed 'g h', @@gtid_purged \"i\"",
    "SELECT @@session.autocommit, @@global.autocommit, @@LOCAL.autocommit, @@`autocommit`",
    "SELECT VERSION(), USER(), CURRENT_USER(), Current_User, CONNECTION_ID(), DATABASE(), SCHEMA()",
    "SELECT 'a' 'b', null, NULL, true, False, (1), ((2)), -1, - 1, 1.50, .5, 1e5, 1e30, \"it''s\", ('y')",
    "SELECT _utf8mb4'x', 18446744073709551615, 18446744073709551616, 9223372036854775808, ''",
    r"SELECT '\%', '\n\\\x' AS x, 'a''b', 'ü€', '😀' AS y",
    "SELECT @nope, @`nope`, @'nope'",
    "SELECT -1.50, -1e5, -TRUE, -'5', -NULL, -(1), -18446744073709551615, -9223372036854775808, 00012, 1., 0.0",
    "SELECT -(1 = 1), -@@server_id, 1 <=> @nope, NULL IS NULL, @@port = @nope, 'a' LIKE NULL, NOT @nope, @nope IN (1)",
    f"SELECT GTID_SUBTRACT('{UUID}:1-5', ''), GTID_SUBTRACT('', ''), GTID_SUBTRACT(@@gtid_purged, '{UUID}:1') AS x",
    "SELECT 1 = 1, 1 = NULL, 1 <=> NULL, 'a' = 'A', '10' < 9, '10' < '9', ' 1.5x' = 1.5, 1 != 1 = 0",
    "SELECT NULL AND 0, NULL AND 1, NULL OR 1, 0 || 1, 1 && 1, NOT NULL, NOT 1 = 2, ! 0, 1 OR 0 AND 0",
    "SELECT 1 IN (3, NULL), 1 IN (1, 2), 1 NOT IN (2), NULL IS NULL, 1 IS NOT NULL",
    r"SELECT 'abc' LIKE 'A%', 'a_c' LIKE 'a\_c', 'abc' LIKE 'a\_c', 'abc' NOT LIKE '_', 123 LIKE '1_3', NULL LIKE 'x'",
    f"SELECT GTID_SUBSET('{UUID}:2', '{UUID}:1-5'), GTID_SUBSET( '' ,\t'' ), GTID_SUBSET(NULL, '')",
    f"SELECT GTID_SUBTRACT('{UUID}:1-5,{OTHER_UUID}:1', '{UUID}:3')",
    "SELECT 1 LIMIT 0",
    "SELECT 1 LIMIT 1, 1",
    "SELECT 1 FROM DUAL LIMIT 1 OFFSET 0",
    "SELECT /*!99999 2, */ 1, /*!80000 3, */ /*+ no hint */ 4 /* 5 */ -- 6",
    "SELECT 1 /*!40101 , 2 /* c */ , 3 */;",
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'",
    "SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA'",
    "SHOW VARIABLES WHERE Variable_name IN ('server_id', 'log_bin', 'port', 'nonsense')",
    "SHOW SESSION VARIABLES WHERE variable_name = 'port' OR Variable_name LIKE 'hostn%' AND Value <> ''",
    "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
    "SHOW GLOBAL VARIABLES LIKE 'sql_log_bin'",
    "SHOW WARNINGS",
    "SHOW ERRORS LIMIT 1",
    "SHOW COUNT(*) WARNINGS",
    "SHOW COUNT(*) ERRORS",
    "SELECT @@warning_count, @@error_count",
]


@pytest.mark.parametrize("statement", SAME)
def test_same_answer(real: Real, client: Client, statement: str) -> None:
    columns, rows = real.result(statement)
    result = client.result(statement)
    assert announced(result.columns) == columns
    assert list(result.text_rows()) == rows


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT UNIX_TIMESTAMP(), NOW(), CURRENT_TIMESTAMP",
        "SHOW BINARY LOGS",
        "SHOW BINARY LOG STATUS",
        "SHOW REPLICAS",
        "SHOW REPLICA STATUS",
        "SHOW PROCESSLIST",
        "SHOW FULL PROCESSLIST",
        "SHOW STATUS LIKE 'Uptime'",
        "SHOW GLOBAL STATUS LIKE 'Uptime'",
        "SHOW DATABASES",
        "SHOW DATABASES LIKE 'nonsense%'",
        "SHOW TABLES FROM mysql",
        "SHOW TABLES FROM mysql LIKE 'nonsense'",
        "SHOW FULL TABLES FROM mysql",
        f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{UUID}:1') LIMIT 0",
    ],
)
def test_same_columns(real: Real, client: Client, statement: str) -> None:
    assert announced(client.result(statement).columns) == real.result(statement)[0]


def test_binlog_events_have_the_same_columns(real: Real, client: Client) -> None:
    listing = client.outcome("SHOW BINLOG EVENTS LIMIT 1")
    assert isinstance(listing, EventListing)
    assert announced(listing.columns) == real.result("SHOW BINLOG EVENTS LIMIT 1")[0]


@pytest.mark.parametrize("length", [0, 3, 40])
def test_columns_that_are_as_long_as_the_gtids(real: Real, client: Client, length: int) -> None:
    """mysqld has them so too: test_serve.py compares with one that has GTIDs."""
    client.backend.end = BinaryLogStatus("mysql-bin.000001", 4, "x" * length)
    for statement in ("SHOW BINARY LOG STATUS", "SHOW REPLICA STATUS"):
        columns = announced(client.result(statement).columns)
        assert {column.length for column in columns if column.name.endswith("_Gtid_Set")} == {4 * length}
        assert [column.name for column in columns] == [column.name for column in real.result(statement)[0]]


@pytest.mark.parametrize("collation", ["utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci"])
def test_text_comes_in_the_collation_that_was_asked_for(real: Real, client: Client, collation: str) -> None:
    for statement in (f"SET NAMES utf8mb4 COLLATE {collation}", "SHOW BINARY LOGS"):
        shown, expected = client.run(statement), real.run(statement)
    assert expected is not None
    assert isinstance(shown, ResultSet)
    chosen = collation_id(str(client.session.variables["collation_connection"]), client.facts.version)
    assert [definition(spec, chosen) for spec in shown.columns] == expected[0]


SAME_ERROR = [
    "SHOW BINLOG EVENTS IN binlog",
    "SHOW BINLOG EVENTS IN x'61'",
    "SHOW BINLOG EVENTS IN 'a' 'b'",
    "SHOW BINLOG EVENTS FROM '4'",
    "SHOW BINLOG EVENTS FROM -1",
    "SHOW BINLOG EVENTS FROM 0x4",
    "SHOW BINLOG EVENTS FROM 4 IN 'x'",
    "SHOW BINLOG EVENTS LIMIT 1 FROM 4",
    "SHOW BINLOG EVENTS LIMIT '1'",
    "SHOW PROCESSLIST LIKE 'x'",
    "SHOW BINARY LOGS LIKE 'x'",
    "SHOW REPLICA STATUS FOR CHANNEL 'x'",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET()",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('', 1, 2)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET(NULL)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('x')",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('x', NULL)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('', -1)",
    "select $$",
    "select $a$ b $a$",
    "SELECT",
    "SELECT 1,",
    "SELECT FROM x",
    "SELECT 1; SELECT 2",
    "SELECT 1 x y",
    "SELECT 1 AS a, 2 AS from",
    "SELECT LIMIT",
    "SELECT 'abc",
    "SELECT `abc",
    "SELECT /* abc",
    "SELECT 1 IN ()",
    "SET",
    "SET @x",
    "SET NAMES",
    "SHOW NONSENSE",
    "SHOW VARIABLES LIKE x",
    "SHOW VARIABLES WHERE",
    "KILL",
    "",
    ";",
    "SELECT foo",
    "SELECT `foo`",
    "SHOW VARIABLES WHERE nonsense = 1",
    "SELECT GTID_SUBSET('')",
    "SELECT version(1)",
    "SELECT 1e999",
    "SELECT @@nonsense",
    "SELECT @@global.nonsense",
    "SELECT @@a.b",
    "SET @x = @@nonsense",
    "SELECT @@global.rpl_semi_sync_source_enabled",
    "SELECT @@global.rpl_semi_sync_master_enabled",
    "SELECT @@GLOBAL.gtid_domain_id",
    "SET skip_replication=1",
    "SELECT @@session.server_uuid",
    "SELECT @@global.sql_log_bin",
    "SET nonsense = 1",
    "SET a.b = 1",
    "SET GLOBAL nonsense = 1",
    "SET GLOBAL sql_log_bin = 0",
    "SET GLOBAL server_uuid = 'x'",
    "SET version = 'x'",
    "SET gtid_executed = 'x'",
    "SET max_allowed_packet = 1024",
    "SET net_buffer_length = 1024",
    "SET wait_timeout = 'x'",
    "SET autocommit = 2",
    "SET autocommit = 1.5",
    "SET autocommit = NULL",
    "SET autocommit = nonsense",
    "SET sql_mode = 'STRICT_ALL_TABLES,NONSENSE'",
    "SET transaction_isolation = 'nonsense'",
    "SET time_zone = '+15:00'",
    "SET time_zone = 'Nowhere/Nowhere'",
    "SET NAMES nonsense",
    "SET NAMES utf16",
    "SET NAMES utf8mb4 COLLATE latin1_bin",
    "SET NAMES utf8mb4 COLLATE nonsense",
    "SET NAMES utf8mb4 COLLATE binary",
    "SET character_set_client = NULL",
    "SET TRANSACTION",
    "SET TRANSACTION ISOLATION LEVEL NONSENSE",
    "SET TRANSACTION READ ONLY, READ WRITE",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION READ ONLY, autocommit = 1",
    "SELECT 1 FROM",
    "SELECT 1 FROM WHERE",
    "SET @'' = 1",
    "SET @" + "x" * 65 + " = 1",
    "USE nonsense",
    "KILL 99999",
    "KILL NULL",
    "SELECT _utf8mb4 x'ff'",
    "SELECT 0 AND GTID_SUBTRACT('a')",
    "SELECT 0 AND GTID_SUBSET('', '', '')",
    "SELECT 0 AND nonsense",
    "SELECT 0 AND @@nonsense",
    "SELECT 1 OR @@nonsense IS NULL",
    "SELECT 0 AND @@session.server_uuid",
    "SELECT 0 AND @@global.sql_log_bin",
    "SET @x = 0 AND version(1)",
    "SHOW VARIABLES WHERE 0 AND nonsense",
]


@pytest.mark.parametrize("statement", SAME_ERROR)
def test_same_error_in_the_same_words(real: Real, client: Client, statement: str) -> None:
    refusal = client.refusal(statement)
    expected = real.error(statement)
    assert expected is not None
    assert (refusal.code, refusal.message) == expected


class Ordered(Client):
    """An admin's connection, beside a receiver's office."""

    def __init__(self, office: Office) -> None:
        super().__init__(Role.ADMIN)
        self.office = office

    def run(self, statement: str | bytes) -> Ok | ResultSet:
        outcome = execute(statement, session=self.session, facts=self.facts, backend=self.backend, role=self.role)
        assert not isinstance(outcome, EventListing | Wait)
        if not isinstance(outcome, Errand):
            return outcome
        return outcome.finish(json.loads(json.dumps(self.office.answer(outcome.question))))


def told(connection: Ordered | Real, statement: str) -> tuple[int | None, list[tuple[str | None, ...]]]:
    """The number of the error, and what SHOW WARNINGS has."""
    code = None
    try:
        connection.run(statement)
    except pymysql.MySQLError as error:
        code = error.args[0]
    except Refusal as refusal:
        code = refusal.code
    shown = connection.run("SHOW WARNINGS")
    rows = list(shown.text_rows()) if isinstance(shown, ResultSet) else shown[1] if isinstance(shown, tuple) else []
    return code, [row for row in rows if row[1] not in ("1759", "1760")]  # that it keeps passwords in the clear


def test_orders_have_the_same_course(real: Real, tmp_path: Path) -> None:
    """Of a replica that is configured, before and while it receives."""
    source = SourceOptions("127.0.0.1", 1, "repl", Secret(""))
    office = Office(configured=Orders((source,)), fingerprint="", folder=tmp_path, disk=Disk(), wake=Wake())
    here = Ordered(office)
    change = "CHANGE REPLICATION SOURCE TO"
    here.run("STOP REPLICA")
    real.run(f"{change} SOURCE_HOST='127.0.0.1', SOURCE_PORT=1, SOURCE_USER='repl', SOURCE_AUTO_POSITION=1")
    try:
        for statement in (
            "STOP REPLICA",
            "STOP REPLICA IO_THREAD",
            f"{change} SOURCE_HOST=''",
            f"{change} SOURCE_HEARTBEAT_PERIOD=5000000",
            f"{change} SOURCE_PORT='1'",
            f"{change} SOURCE_HOST='a' SOURCE_PORT=1",
            f"{change} SOURCE_HOST='127.0.0.1', SOURCE_PASSWORD='hush', SOURCE_HOST='127.0.0.2', SOURCE_PORT=0",
            f"{change} SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1",
            "STOP REPLICA FOR CHANNEL 'other'",
            "START REPLICA",
            "START REPLICA IO_THREAD",
            f"{change} SOURCE_PORT=2",
            f"{change} SOURCE_PORT=2, SOURCE_AUTO_POSITION=1",
            "RESET REPLICA",
            "RESET REPLICA ALL",
            "STOP REPLICA",
            "STOP REPLICA",
        ):
            assert told(here, statement) == told(real, statement), statement
        expected = real.run("SHOW REPLICA STATUS")
        assert expected is not None
        there = dict(zip((column.name for column in expected[0]), expected[1][0], strict=True))
        first = office.desk.newest.sources[0]
        assert (first.host, str(first.port), first.user) == (
            there["Source_Host"], there["Source_Port"], there["Source_User"]
        )  # fmt: skip
    finally:
        real.run("STOP REPLICA")
        real.run("RESET REPLICA ALL")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT GTID_SUBSET('x', '')",  # 9.7 says more of what is wrong
        "SELECT GTID_SUBTRACT('', 5)",
        "SELECT 1 NOT 2",  # and more that may follow NOT
        "SELECT 1\n\n FROM",  # the rest of the text has its line breaks there
    ],
)
def test_same_error_in_other_words(real: Real, client: Client, statement: str) -> None:
    expected = real.error(statement)
    assert expected is not None
    assert client.code(statement) == expected[0]


@pytest.mark.parametrize(
    "statements",
    [
        "SET @a = 1, @b = 'x' | SET @a = @b, @b = @a | SELECT @a, @b",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE | SELECT @@transaction_isolation",
        "SET SESSION TRANSACTION READ ONLY, ISOLATION LEVEL READ COMMITTED | "
        "SELECT @@transaction_isolation, @@transaction_read_only",
        "SET LOCAL TRANSACTION READ WRITE | SELECT @@transaction_read_only",
        "SET @a := 1.50, @B= NULL, @`c d` = (1 = 1), @e = NOT 0 | SELECT @A, @b, @`C D`, @e",
        "SET @source_binlog_checksum = @@global.binlog_checksum | SELECT @source_binlog_checksum",
        "SET autocommit = OFF | SELECT @@autocommit, @@global.autocommit | SHOW VARIABLES LIKE 'autocommit' | "
        "SHOW GLOBAL VARIABLES LIKE 'autocommit' | SET autocommit = DEFAULT | SELECT @@autocommit",
        "SET @@session.autocommit = 'off', SESSION sql_log_bin = FALSE, LOCAL wait_timeout = 5 | "
        "SELECT @@autocommit, @@sql_log_bin, @@wait_timeout",
        "SET wait_timeout = 0 | SHOW WARNINGS | SELECT @@wait_timeout",
        "SET wait_timeout = 99999999 | SELECT @@warning_count, @@error_count | SHOW WARNINGS | SELECT @@wait_timeout",
        "SET sql_mode = 'strict_all_tables,,STRICT_ALL_TABLES' | SELECT @@sql_mode",
        "SET sql_mode = '' | SELECT @@sql_mode | SET sql_mode = DEFAULT | SELECT @@sql_mode",
        "SET transaction_isolation = 'read-committed' | SELECT @@transaction_isolation",
        "SET time_zone = '+05:30' | SELECT @@time_zone | SET time_zone = SYSTEM | SELECT @@time_zone",
        *(
            f"{statement} | SELECT @@character_set_client, @@character_set_connection, @@character_set_results, "
            "@@collation_connection"
            for statement in [
                "SET NAMES utf8mb3",
                "SET NAMES 'latin1' COLLATE 'latin1_bin'",
                "SET NAMES DEFAULT",
                "SET CHARACTER SET latin2",
                "SET character_set_results = NULL",
                "SET collation_connection = 'gbk_bin'",
                "SET character_set_connection = cp1250",
            ]
        ),
        "BEGIN | COMMIT WORK | START TRANSACTION READ ONLY | ROLLBACK | /*!99999 nothing */ | -- nothing",
    ],
)
def test_same_course(real: Real, client: Client, statements: str) -> None:
    for statement in statements.split(" | "):
        answer = client.run(statement)
        expected = real.run(statement)
        if isinstance(answer, ResultSet):
            assert expected is not None
            # Neither the character set of the answer, nor what a user variable was set from, is followed here.
            followed = operator.attrgetter("name", "type", "flags", "decimals")
            assert list(map(followed, announced(answer.columns))) == list(map(followed, expected[0]))
            assert list(answer.text_rows()) == expected[1]
        else:
            assert expected is None


def test_user_variables_make_the_same_columns(real: Real, client: Client) -> None:
    for connection in (real, client):
        connection.run("SET @a = 1.50, @b = 1e5, @c = NULL, @d = 18446744073709551615, @e = '', @f = -1")
    statement = "SELECT @a, @b, @c, @d, @e, @f, @never, -@b, -@f, @a = 1, @f IS NULL"
    columns, rows = real.result(statement)
    assert announced(client.result(statement).columns) == columns
    assert client.rows(statement) == rows


@pytest.mark.parametrize("what", ["QUERY", "CONNECTION"])
def test_whoever_kills_himself_is_told(real: Real, client: Client, what: str) -> None:
    client.backend.processes = [Process(client.session.connection_id, "root", "", None, "Query", 0, None, None)]
    refusal = client.refusal(f"KILL {what} CONNECTION_ID()")
    assert (refusal.code, refusal.message) == real.error(f"KILL {what} CONNECTION_ID()")
    assert client.backend.killed == [(client.session.connection_id, KillTarget(what))]


GTIDS_ARE_OFF = [
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('')",
    f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{UUID}:1', 0.1)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('x')",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('', -1)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('', NULL)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET(NULL)",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET()",
]


def test_nobody_waits_for_gtids_where_there_are_none(tmp_path: Path, mysql: Distribution) -> None:
    client = Client(Role.ADMIN, some_facts(gtid_mode="OFF"))
    with Cluster(tmp_path, mysql) as cluster:
        server = cluster.server(options={"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"})
        with server.connect(conv={}) as connection:
            real = Real(connection)
            for statement in GTIDS_ARE_OFF:
                refusal = client.refusal(statement)
                assert (refusal.code, refusal.message) == real.error(statement), statement
                assert client.rows("SHOW WARNINGS") == real.result("SHOW WARNINGS")[1]
            none = "SELECT WAIT_FOR_EXECUTED_GTID_SET('x') LIMIT 0"
            assert client.rows(none) == real.result(none)[1] == []
            real.run("SET GLOBAL gtid_mode = OFF_PERMISSIVE")
            permissive = Client(facts=some_facts(gtid_mode="OFF_PERMISSIVE"))
            assert real.error(GTIDS_ARE_OFF[0]) is None
            assert isinstance(permissive.outcome(GTIDS_ARE_OFF[0]), Wait)


def test_an_errors_diagnostics_last_as_long(real: Real, client: Client) -> None:
    for after in ("SELECT 1", "SELECT @@warning_count", "SHOW WARNINGS", "SET @x = 1"):
        assert real.error("SELECT @@nonsense") is not None
        client.code("SELECT @@nonsense")
        for statement in (after, "SHOW WARNINGS"):
            expected = real.run(statement)
            if expected is None:
                client.ok(statement)
            else:
                assert client.rows(statement) == expected[1]


def test_the_catalog_is_a_part_of_mysqls(real: Real, client: Client) -> None:
    """Same names, same scopes, same types, same way to show a boolean."""
    listing = real.run("SHOW VARIABLES")
    assert listing is not None
    shown = {str(name): value for name, value in listing[1]}
    unknown = {name for name in CATALOG if real.error(f"SELECT @@{name}") is not None}
    assert unknown == GONE_FROM_MYSQL | NEVER_IN_MYSQL
    for name in CATALOG.keys() - unknown:
        spec = CATALOG[name]
        described = real.result(f"SELECT @@{name}")
        value = described[1][0][0]
        is_text = described[0][0].type == pymysql.FIELD_TYPE.VAR_STRING
        assert announced(client.result(f"SELECT @@{name}").columns) == described[0], name
        in_list = shown.get(name)
        assert (spec.kind is VariableKind.BOOL) is (not is_text and in_list in ("ON", "OFF")), (name, value)
        has_global = real.error(f"SELECT @@global.{name}") is None
        has_session = real.error(f"SELECT @@session.{name}") is None
        assert (has_global, has_session) == (
            spec.validity is not Validity.SESSION,
            spec.validity is not Validity.GLOBAL,
        ), name


def test_what_a_session_may_set_here_it_may_set_at_mysql(real: Real, client: Client) -> None:
    for name, spec in CATALOG.items():
        if spec.check is None or name in GONE_FROM_MYSQL:
            continue
        statement = f"SET SESSION {name} = @@session.{name}"
        assert real.error(statement) is None, statement
        assert client.run(statement) is not None
