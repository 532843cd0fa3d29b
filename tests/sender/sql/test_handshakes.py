"""What real replicas and tools send before and around a dump, word for word, with the role replica."""

from __future__ import annotations

import pytest

from binlogd.sender.sql import announcement

from .support import OTHER_UUID, UUID, Client, some_facts

# (statement, the one row it gives, or None for OK, or an error's number)
Exchange = tuple[str, tuple[str | None, ...] | int | None]

MYSQL_8_0_26_AND_NEWER: list[Exchange] = [
    ("SELECT UNIX_TIMESTAMP()", ("1800000000",)),
    ("SELECT @@GLOBAL.SERVER_ID", ("3306202",)),
    ("SET @master_heartbeat_period = 30000000000, @source_heartbeat_period = 30000000000", None),
    (
        "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
        None,
    ),
    ("SELECT @source_binlog_checksum", ("CRC32",)),
    ("SELECT @@GLOBAL.GTID_MODE", ("ON",)),
    ("SELECT @@GLOBAL.SERVER_UUID", (UUID,)),
    (f"SET @slave_uuid = '{OTHER_UUID}', @replica_uuid = '{OTHER_UUID}'", None),
    ("SELECT @@global.rpl_semi_sync_source_enabled", 1193),
    ("SELECT @@global.rpl_semi_sync_master_enabled", 1193),
]
MYSQL_5_7: list[Exchange] = [
    ("SELECT UNIX_TIMESTAMP()", ("1800000000",)),
    ("SELECT @@GLOBAL.SERVER_ID", ("3306202",)),
    ("SET @master_heartbeat_period= 30000001024", None),
    ("SET @master_binlog_checksum= @@global.binlog_checksum", None),
    ("SELECT @master_binlog_checksum", ("CRC32",)),
    ("SELECT @@GLOBAL.GTID_MODE", ("ON",)),
    ("SELECT @@GLOBAL.SERVER_UUID", (UUID,)),
    (f"SET @slave_uuid= '{OTHER_UUID}'", None),
    ("SELECT @@global.rpl_semi_sync_master_enabled", 1193),
]
MYSQL_5_6: list[Exchange] = [
    ("SELECT UNIX_TIMESTAMP()", ("1800000000",)),
    ("SHOW VARIABLES LIKE 'SERVER_ID'", ("server_id", "3306202")),
    ("SET @master_heartbeat_period= 30000001024", None),
    ("SET @master_binlog_checksum= @@global.binlog_checksum", None),
    ("SELECT @master_binlog_checksum", ("CRC32",)),
    ("SELECT @@GLOBAL.GTID_MODE", ("ON",)),
    ("SHOW VARIABLES LIKE 'SERVER_UUID'", ("server_uuid", UUID)),
    (f"SET @slave_uuid= '{OTHER_UUID}'", None),
    ("SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'", ()),
]
MARIADB: list[Exchange] = [
    ("SELECT UNIX_TIMESTAMP()", ("1800000000",)),
    ("SHOW VARIABLES LIKE 'SERVER_ID'", ("server_id", "3306202")),
    ("SET @master_heartbeat_period= 30000001024", None),
    ("SET @master_binlog_checksum= @@global.binlog_checksum", None),
    ("SELECT @master_binlog_checksum", ("CRC32",)),
    ("SET skip_replication=1", 1193),
    ("SET @mariadb_slave_capability=4", None),
    ("SELECT binlog_gtid_pos('mysql-bin.000001',4)", 1305),
    ("SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'", ()),
]
MARIADB_WITH_GTID: list[Exchange] = [
    ("SET @mariadb_slave_capability=4", None),
    ("SELECT @@GLOBAL.gtid_domain_id", 1193),
    ("SET @slave_connect_state='0-1-5'", None),
    ("SET @slave_gtid_strict_mode=0", None),
    ("SET @slave_gtid_ignore_duplicates=0", None),
    ("SET @slave_until_gtid='0-1-9'", None),
]
MYSQLBINLOG: list[Exchange] = [
    ("SELECT VERSION()", ("9.7.4-binlogd",)),
    ("SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'", None),
]
GO_MYSQL: list[Exchange] = [
    ("SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'", ("binlog_checksum", "CRC32")),
    ("SET @master_binlog_checksum='CRC32'", None),
    ("SET @mariadb_slave_capability=4", None),
    ("SET @master_heartbeat_period=60000000000;", None),
    ("SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled';", ()),
    (
        "SHOW VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format')",
        ("binlog_format", "ROW", "log_bin", "ON"),
    ),
    ("SHOW MASTER STATUS", ("mysql-bin.000002", "5368709120", "", "", f"{UUID}:1-5")),
    ("KILL 8", None),
]
PYTHON_MYSQL_REPLICATION: list[Exchange] = [
    ("SET AUTOCOMMIT = 0", None),
    ("SHOW GLOBAL VARIABLES LIKE 'BINLOG_CHECKSUM'", ("binlog_checksum", "CRC32")),
    ("set @master_binlog_checksum= @@global.binlog_checksum", None),
    ("set @master_heartbeat_period= 10000000000", None),
    ("SHOW VARIABLES LIKE 'BINLOG_ROW_METADATA'", ("binlog_row_metadata", "MINIMAL")),
    ("SHOW MASTER STATUS", ("mysql-bin.000002", "5368709120", "", "", f"{UUID}:1-5")),
    ("SELECT @@GLOBAL.gtid_executed;", (f"{UUID}:1-5",)),
]
MYSQL_CLI: list[Exchange] = [
    ("select $$", 1064),
    ("select @@version_comment limit 1", ("binlogd",)),
    ("SELECT DATABASE()", (None,)),
    ("select USER()", ("repl@10.0.0.1",)),
    ("select DATABASE(), USER() limit 1", (None, "repl@10.0.0.1")),
    (
        "select @@character_set_client, @@character_set_connection, @@character_set_server, "
        "@@character_set_database limit 1",
        ("utf8mb4",) * 4,
    ),
    ("show databases", ()),
    ("show tables", ()),
    ("SHOW WARNINGS", ()),
]
PYMYSQL: list[Exchange] = [
    ("SET NAMES utf8mb4", None),
    ("SET AUTOCOMMIT = 1", None),
    ("SET NAMES utf8mb4 COLLATE utf8mb4_general_ci", None),
    ("COMMIT", None),
    ("ROLLBACK", None),
    ("SELECT 1", ("1",)),
]
CONNECTOR_J: list[Exchange] = [
    (
        "/* mysql-connector-j-9.1.0 (Revision: 0) */SELECT  @@session.auto_increment_increment AS "
        "auto_increment_increment, @@character_set_client AS character_set_client, "
        "@@character_set_connection AS character_set_connection, @@character_set_results AS "
        "character_set_results, @@character_set_server AS character_set_server, @@collation_server AS "
        "collation_server, @@collation_connection AS collation_connection, @@init_connect AS init_connect, "
        "@@interactive_timeout AS interactive_timeout, @@license AS license, @@lower_case_table_names AS "
        "lower_case_table_names, @@max_allowed_packet AS max_allowed_packet, @@net_write_timeout AS "
        "net_write_timeout, @@performance_schema AS performance_schema, @@sql_mode AS sql_mode, "
        "@@system_time_zone AS system_time_zone, @@time_zone AS time_zone, @@transaction_isolation AS "
        "transaction_isolation, @@wait_timeout AS wait_timeout",
        (
            "1",
            *("utf8mb4",) * 4,
            *("utf8mb4_0900_ai_ci",) * 2,
            "",
            "28800",
            "MIT",
            "0",
            "67108864",
            "60",
            "0",
            some_facts().sql_mode,
            "UTC",
            "SYSTEM",
            "REPEATABLE-READ",
            "28800",
        ),
    ),
    ("SET character_set_results = NULL", None),
    ("SET autocommit=1", None),
    ("SELECT @@session.transaction_read_only", ("0",)),
]


HANDSHAKES = {
    "mysql-8.0.26+": MYSQL_8_0_26_AND_NEWER,
    "mysql-5.7": MYSQL_5_7,
    "mysql-5.6": MYSQL_5_6,
    "mariadb": MARIADB,
    "mariadb-gtid": MARIADB_WITH_GTID,
    "mysqlbinlog": MYSQLBINLOG,
    "go-mysql": GO_MYSQL,
    "python-mysql-replication": PYTHON_MYSQL_REPLICATION,
    "mysql-cli": MYSQL_CLI,
    "pymysql": PYMYSQL,
    "connector-j": CONNECTOR_J,
}


@pytest.mark.parametrize("exchanges", HANDSHAKES.values(), ids=HANDSHAKES.keys())
def test_handshake(client: Client, exchanges: list[Exchange]) -> None:
    for statement, expected in exchanges:
        if isinstance(expected, int):
            assert client.code(statement) == expected, statement
        elif expected is None:
            client.ok(statement)
        else:
            assert tuple(value for row in client.rows(statement) for value in row) == expected, statement


def test_what_a_new_replica_said(client: Client) -> None:
    for statement, expected in MYSQL_8_0_26_AND_NEWER:
        if expected is None:
            client.ok(statement)
    announced = announcement(client.session)
    assert announced.heartbeat_period == 30_000_000_000
    assert announced.binlog_checksum == "CRC32"
    assert announced.replica_uuid == OTHER_UUID
    assert not announced.semi_sync
    assert announced.mariadb_capability == 0


def test_what_a_mariadb_replica_said(client: Client) -> None:
    for statement, expected in MARIADB + MARIADB_WITH_GTID:
        if expected is None:
            client.ok(statement)
    announced = announcement(client.session)
    assert announced.mariadb_capability == 4
    assert announced.slave_connect_state == "0-1-5"
    assert announced.slave_until_gtid == "0-1-9"
    assert announced.replica_uuid is None
