"""What is found about a source, over what it may say of itself: every level of every check, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.receiver.inquiry import Registered, SourceState, grant, quoted
from binlogd.receiver.inspection import Finding, Level, Ours, inspect
from binlogd.receiver.plan import StoreFacts

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
ALL_OK = Ours(
    server_id=2,
    server_uuid=OTHER,
    semi_sync=True,
    start="oldest",
    store=StoreFacts(UUID, "mysql-bin.000002", 500),
    executed=GtidSet.parse(f"{UUID}:1-9"),
    attached=True,
)
EMPTY = replace(ALL_OK, store=None, executed=GtidSet(), attached=False)
VARIABLES = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_checksum": "CRC32",
    "server_id": "1",
    "server_uuid": UUID,
    "gtid_mode": "ON",
    "gtid_purged": f"{UUID}:1-3",
    "enforce_gtid_consistency": "ON",
    "sync_binlog": "1",
    "innodb_flush_log_at_trx_commit": "1",
    "binlog_expire_logs_seconds": "2592000",
    "rpl_semi_sync_source_enabled": "ON",
    "rpl_semi_sync_source_timeout": "10000",
    "rpl_semi_sync_source_wait_for_replica_count": "1",
    "rpl_semi_sync_source_wait_no_replica": "ON",
    "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
}
SOURCE = SourceState(
    version="9.7.4",
    account="repl@%",
    encrypted=True,
    compression="",
    local=False,
    ahead=0.3,
    variables=VARIABLES,
    status={"rpl_semi_sync_source_clients": "1"},
    grants=("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `repl`@`%`",),
    binary_logs=(("mysql-bin.000002", 700), ("mysql-bin.000003", 200)),
)


def variables(**changed: str | None) -> SourceState:
    """SOURCE with variables changed, or without them."""
    merged = {**VARIABLES, **changed}
    return replace(SOURCE, variables={name: value for name, value in merged.items() if value is not None})


def found(source: SourceState, subject: str, ours: Ours = ALL_OK) -> Finding:
    """The one finding about a subject, or the worst."""
    order = list(Level)
    about = [finding for finding in inspect(source, ours) if finding.subject == f"source.{subject}"]
    return max(about, key=lambda finding: order.index(finding.level))


def test_a_source_as_it_should_be() -> None:
    findings = inspect(SOURCE, ALL_OK)
    assert {finding.level for finding in findings} == {Level.OK}
    assert len({finding.subject for finding in findings}) == len(findings) >= 17
    assert {finding.hint for finding in findings} == {""}
    assert found(SOURCE, "history").message == "goes on at mysql-bin.000002:500, 400 bytes behind the source's end"


@pytest.mark.parametrize(
    ("source", "subject", "level", "message", "hint"),
    [
        (replace(SOURCE, version="5.5.62"), "version", Level.FAIL, "5.5.62 is older than 5.6", "upgrade"),
        (replace(SOURCE, encrypted=False), "tls", Level.WARN, "not encrypted", 'source.tls = "required"'),
        (replace(SOURCE, encrypted=False, local=True), "tls", Level.OK, "does not leave this machine", ""),
        (replace(SOURCE, ahead=90.2), "clock", Level.WARN, "is 90 s ahead of ours", "NTP"),
        (replace(SOURCE, ahead=-3.0), "clock", Level.WARN, "is 3 s behind ours", "NTP"),
        (replace(SOURCE, grants=("GRANT USAGE ON *.* TO `repl`@`%`",)), "replication_slave", Level.FAIL,
         "'repl'@'%' lacks REPLICATION SLAVE", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'repl'@'%'"),
        (replace(SOURCE, grants=("GRANT REPLICATION SLAVE ON *.* TO `repl`@`%`",)), "replication_client", Level.WARN,
         "lacks REPLICATION CLIENT", "GRANT REPLICATION CLIENT ON *.* TO 'repl'@'%'"),
        # A privilege on one database is none.
        (replace(SOURCE, grants=("GRANT ALL PRIVILEGES ON `d`.* TO `repl`@`%`",)), "replication_slave", Level.FAIL,
         "lacks", "GRANT"),
        (replace(SOURCE, grants=("GRANT ALL PRIVILEGES ON *.* TO `repl`@`%` WITH GRANT OPTION",)),
         "replication_client", Level.OK, "has", ""),
        (replace(SOURCE, grants=("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `repl`@`%` IDENTIFIED BY 'x'",)),
         "replication_client", Level.OK, "has", ""),
        (variables(server_id="0"), "server_id", Level.FAIL, "is 0", "SET PERSIST server_id ="),
        (variables(server_id="2"), "server_id", Level.FAIL, "our own server_id, 2", "server_id in the configuration"),
        (variables(server_uuid=OTHER.upper()), "server_id", Level.FAIL, "our own server_uuid", "auto.cnf"),
        (variables(log_bin="OFF"), "log_bin", Level.FAIL, "is OFF", "skip_log_bin"),
        (variables(binlog_format="MIXED"), "binlog_format", Level.WARN, "is MIXED",
         "SET PERSIST binlog_format = 'ROW'"),
        (variables(binlog_row_image="MINIMAL"), "binlog_row_image", Level.WARN, "rows are logged in part",
         "SET PERSIST binlog_row_image = 'FULL'"),
        (replace(SOURCE, replicas=(Registered(7, OTHER, "db7"),)), "replicas", Level.FAIL,
         "another replica (at db7, server_id 7) has our own server_uuid", "remove auto.cnf"),
        (replace(SOURCE, replicas=(Registered(2, OTHER, ""), Registered(2, UUID, ""))), "replicas", Level.FAIL,
         "another replica (server_id 2) has our own server_id: acknowledgements", "SET PERSIST server_id"),
        (replace(SOURCE, replicas=(Registered(2, OTHER, ""),)), "replicas", Level.WARN,
         "has our server_id, and no receiver of this store is it", "copy of this data_dir"),
        (replace(SOURCE, replicas=(Registered(2, "", ""),)), "replicas", Level.WARN, "no receiver of this", "copy"),
        (replace(SOURCE, replicas=(Registered(7, UUID, ""),)), "replicas", Level.OK, "1 other registered, none", ""),
        (replace(variables(log_slave_updates="OFF"), replicates=False), "log_replica_updates", Level.OK,
         "is OFF, and the source replicates from nobody", ""),
        (replace(variables(log_slave_updates="OFF"), version="11.8.2-MariaDB-log"), "log_slave_updates", Level.OK,
         "is OFF: set it ON in my.cnf before the source becomes a replica", ""),
        (replace(variables(log_replica_updates="OFF"), replicates=True), "log_replica_updates", Level.WARN,
         "applies as a replica", "log_replica_updates = ON in its my.cnf"),
        (variables(log_replica_updates="OFF"), "log_replica_updates", Level.WARN, "applies as a replica",
         "log_replica_updates = ON in its my.cnf"),
        (variables(binlog_checksum="NONE"), "binlog_checksum", Level.WARN, "NONE", "SET PERSIST binlog_checksum = CRC"),
        (variables(enforce_gtid_consistency="WARN"), "enforce_gtid_consistency", Level.WARN, "is WARN",
         "SET PERSIST enforce_gtid_consistency = ON"),
        (variables(gtid_mode="ON_PERMISSIVE"), "gtid_mode", Level.WARN, "is ON_PERMISSIVE",
         "SET PERSIST gtid_mode = ON; before ON"),
        (variables(sync_binlog="0"), "sync_binlog", Level.WARN, "is 0", "SET PERSIST sync_binlog = 1"),
        (variables(innodb_flush_log_at_trx_commit="2"), "innodb_flush_log_at_trx_commit", Level.WARN, "is 2",
         "SET PERSIST innodb_flush_log_at_trx_commit = 1"),
        (variables(binlog_expire_logs_seconds="3600"), "binlog_expiry", Level.WARN, "kept for 1h",
         "SET PERSIST binlog_expire_logs_seconds = 604800"),
        (variables(binlog_expire_logs_seconds="0"), "binlog_expiry", Level.OK, "until somebody", ""),
        (variables(binlog_expire_logs_seconds=None, expire_logs_days="10"), "binlog_expiry", Level.OK, "kept for 10d",
         ""),
        (variables(rpl_semi_sync_source_enabled=None), "semi_sync", Level.WARN, "no semi-sync plugin",
         "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';"
         " SET PERSIST rpl_semi_sync_source_enabled = ON"),
        (variables(rpl_semi_sync_source_enabled="OFF"), "semi_sync", Level.WARN, "is OFF",
         "SET PERSIST rpl_semi_sync_source_enabled = ON"),
        (variables(rpl_semi_sync_source_timeout="1000"), "semi_sync_timeout", Level.WARN, "1s, after which",
         "SET PERSIST rpl_semi_sync_source_timeout = 10000"),
        (variables(rpl_semi_sync_source_wait_for_replica_count="2"), "semi_sync_count", Level.WARN,
         "2 acknowledgements", "SET PERSIST rpl_semi_sync_source_wait_for_replica_count = 1"),
        (replace(SOURCE, status={"rpl_semi_sync_source_clients": "3"}), "semi_sync_count", Level.WARN,
         "2 other semi-sync replicas", "rpl_semi_sync_replica_enabled = OFF"),
        (variables(rpl_semi_sync_source_wait_point="AFTER_COMMIT"), "semi_sync_wait_point", Level.WARN,
         "AFTER_COMMIT", "SET PERSIST rpl_semi_sync_source_wait_point = 'AFTER_SYNC'"),
        (variables(rpl_semi_sync_source_wait_no_replica="OFF"), "semi_sync_wait_alone", Level.WARN,
         "while binlogd reconnects", "SET PERSIST rpl_semi_sync_source_wait_no_replica = ON"),
        (variables(server_uuid="5e11fa47-71ca-11e1-9e33-c80aa9429562"), "history", Level.FAIL,
         f"the store holds the history of source {UUID}", "data_dir"),
        (replace(SOURCE, binary_logs=(("mysql-bin.000003", 200),)), "history", Level.FAIL,
         "purged what comes after mysql-bin.000002:500; its oldest file is mysql-bin.000003", "another data_dir"),
        (replace(SOURCE, binary_logs=(("mysql-bin.000002", 400),)), "history", Level.FAIL,
         "the source only up to 400", "compare"),
        (replace(SOURCE, binary_logs=(("mysql-bin.000001", 400),)), "history", Level.FAIL,
         "the source has no mysql-bin.000002, where the store ends; it has mysql-bin.000001", "RESET"),
        (replace(SOURCE, binary_logs=()), "history", Level.FAIL, "it has no binary logs", "RESET"),
        (replace(SOURCE, binary_logs=None), "history", Level.OK, "nothing that the store lacks is purged", ""),
        (replace(variables(gtid_purged=f"{UUID}:1-12"), binary_logs=None), "history", Level.FAIL,
         f"{UUID}:10-12 is missing", "another data_dir"),
    ],
)  # fmt: skip
def test_what_is_wrong(source: SourceState, subject: str, level: Level, message: str, hint: str) -> None:
    finding = found(source, subject)
    assert (finding.level, message in finding.message, hint in finding.hint) == (level, True, True), finding
    assert bool(finding.hint) is (level is not Level.OK)
    # One thing wrong is one complaint, but for what follows from it.
    others = {f.subject for f in inspect(source, ALL_OK) if f.level is not Level.OK} - {f"source.{subject}"}
    assert others <= {"source.replication_client", "source.history", "source.semi_sync"}


@pytest.mark.parametrize(
    ("ours", "subject", "level", "message"),
    [
        (replace(ALL_OK, semi_sync=False), "semi_sync", Level.WARN, "is not asked for"),
        (replace(ALL_OK, attached=False), "semi_sync_count", Level.WARN, "1 other semi-sync replica may"),
        (replace(ALL_OK, server_id=None, server_uuid=None), "server_id", Level.OK, "will be made"),
        (replace(ALL_OK, streaming=True), "replicas", Level.OK, "0 others registered, none with our server_id"),
        (EMPTY, "history", Level.OK, "will begin with mysql-bin.000002; the source has mysql-bin.000002 to mysql-bin."),
        (replace(EMPTY, store=StoreFacts(UUID, "", 0)), "history", Level.OK, "will begin with mysql-bin.000002"),
        (replace(EMPTY, store=StoreFacts(OTHER, "", 0)), "history", Level.OK, "will begin with mysql-bin.000002"),
        (replace(EMPTY, start="current"), "history", Level.OK, "will begin with mysql-bin.000003"),
        (replace(EMPTY, start="mysql-bin.000003"), "history", Level.OK, "will begin with mysql-bin.000003"),
        (replace(EMPTY, start="mysql-bin.000001"), "history", Level.FAIL, "source.start is mysql-bin.000001"),
    ],
)
def test_what_the_store_makes_of_it(ours: Ours, subject: str, level: Level, message: str) -> None:
    finding = found(replace(SOURCE, replicas=(Registered(2, OTHER, ""),)), subject, ours)
    assert (finding.level, message in finding.message) == (level, True), finding


def test_start_current_needs_a_grant() -> None:
    poor = replace(SOURCE, grants=("GRANT REPLICATION SLAVE ON *.* TO `repl`@`%`",), binary_logs=None)
    finding = found(poor, "replication_client", replace(EMPTY, start="current"))
    assert (finding.level, finding.hint) == (Level.FAIL, "GRANT REPLICATION CLIENT ON *.* TO 'repl'@'%'")
    assert found(poor, "history", EMPTY).level is Level.OK


def test_old_spellings() -> None:
    old = {name.replace("source", "master").replace("replica", "slave"): value for name, value in VARIABLES.items()}
    source = replace(SOURCE, version="5.7.44", variables=old, status={"rpl_semi_sync_master_clients": "1"})
    assert {finding.level for finding in inspect(source, ALL_OK)} == {Level.OK}
    none = replace(source, variables={name: value for name, value in old.items() if "semi" not in name})
    assert found(none, "semi_sync").hint == (
        "INSTALL PLUGIN rpl_semi_sync_master SONAME 'semisync_master.so';"
        " SET GLOBAL rpl_semi_sync_master_enabled = ON, and the same in my.cnf"
    )
    two = replace(source, variables=old | {"rpl_semi_sync_master_wait_for_slave_count": "2"})
    assert "rpl_semi_sync_master_wait_for_slave_count = 1" in found(two, "semi_sync_count").hint
    off = replace(source, variables=old | {"gtid_mode": "OFF"})
    assert found(off, "gtid_mode").hint.startswith("SET GLOBAL gtid_mode = OFF_PERMISSIVE, and the same in my.cnf; ")
    older = replace(source, version="5.6.51", variables=old | {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"})
    assert "restart it" in found(older, "gtid_mode").hint
    assert "restart it" in found(older, "enforce_gtid_consistency").hint


def test_a_position_that_needs_gtids() -> None:
    ours = replace(ALL_OK, store=StoreFacts(UUID, "mysql-bin.000002", 2**32))
    finding = found(variables(gtid_mode="OFF"), "history", ours)
    assert (finding.level, "behind 4 GiB" in finding.message) == (Level.FAIL, True)


def test_mariadb_is_not_asked_for_mysqls_gtids() -> None:
    mariadb = {
        "log_bin": "ON",
        "binlog_format": "ROW",
        "binlog_checksum": "CRC32",
        "server_id": "1",
        "sync_binlog": "1",
        "innodb_flush_log_at_trx_commit": "1",
        "expire_logs_days": "10.000000",
        "binlog_expire_logs_seconds": "864000",
        "rpl_semi_sync_master_enabled": "ON",
    }
    store = StoreFacts("server-1", "mysql-bin.000002", 500)
    ours = replace(ALL_OK, store=store, executed=GtidSet())
    source = replace(SOURCE, version="11.8.2-MariaDB-log", variables=mariadb)
    assert {finding.level for finding in inspect(source, ours)} == {Level.OK}
    assert found(replace(source, binary_logs=None), "history", ours).level is Level.OK


def test_accounts_as_statements_name_them() -> None:
    assert quoted("o'neil@10.0.0.%") == "'o''neil'@'10.0.0.%'"
    assert quoted("a@b@h") == "'a@b'@'h'"
    assert grant("r@%", "REPLICATION CLIENT") == "GRANT REPLICATION CLIENT ON *.* TO 'r'@'%'"


def test_a_standby_waits_for_nobody_until_it_is_promoted() -> None:
    standby = variables(read_only="ON", rpl_semi_sync_source_enabled="OFF")
    (found,) = [finding for finding in inspect(standby, ALL_OK) if finding.subject == "source.semi_sync"]
    assert found.level is Level.OK
    assert "as at a standby" in found.message
