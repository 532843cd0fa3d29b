"""Real servers start, stop, crash, come back and replicate."""

from __future__ import annotations

import os
import re

import pytest

from testbed.cluster import (
    REPLICATION_PASSWORD,
    REPLICATION_USER,
    Cluster,
    Load,
    checksum_all,
    checksum_tables,
    sysbench,
)
from testbed.mysqld import ServerFailed

pytestmark = pytest.mark.servers


def test_a_server_answers_and_says_who_it_is(cluster: Cluster) -> None:
    server = cluster.server("source", options={"max_connections": 17})

    assert server.is_running
    assert server.value("SELECT 1 + %s", 41) == 42
    assert server.variables["max_connections"] == 17
    assert server.variables["server_id"] == server.server_id
    assert server.gtid_executed == ""
    assert re.fullmatch(r"[0-9a-f-]{36}", server.server_uuid)
    with pytest.raises(KeyError):
        server.variables["no_such_thing"]
    server.variables["max_connections"] = 18
    assert server.variables["max_connections"] == 18


def test_two_servers_from_one_template_differ(cluster: Cluster) -> None:
    first, second = cluster.server("first"), cluster.server("second")

    assert first.server_uuid != second.server_uuid
    assert first.server_id != second.server_id
    assert first.port != second.port


def test_stop_kill_and_restart_keep_data_and_port(cluster: Cluster) -> None:
    server = cluster.server()
    port, uuid = server.port, server.server_uuid
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")

    pid = server.pid
    server.stop()
    assert not server.is_running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.start()
    server.execute("INSERT INTO d.t VALUES (2)")
    server.kill()
    assert not server.is_running
    server.start()
    server.restart(max_connections=19)

    assert server.query("SELECT id FROM d.t ORDER BY id") == [(1,), (2,)]
    assert (server.port, server.server_uuid) == (port, uuid)
    assert server.variables["max_connections"] == 19
    assert [log.name for log in server.binary_logs()] == [f"mysql-bin.00000{i}" for i in range(1, 5)]
    assert server.position() == ("mysql-bin.000004", (server.binlog_dir / "mysql-bin.000004").stat().st_size)


def test_a_server_that_cannot_start_shows_its_error_log(cluster: Cluster) -> None:
    with pytest.raises(ServerFailed, match="unknown variable 'no_such_option"):
        cluster.server(options={"no_such_option": "1"})


def test_waiting_in_vain_raises_with_what_was_seen(cluster: Cluster) -> None:
    server = cluster.server()

    with pytest.raises(ServerFailed, match="last seen 0; not a replica"):
        server.wait_until("SELECT 0", timeout=0.1)
    assert server.wait_until("SELECT 7") == 7


@pytest.mark.parametrize("by_gtid", [True, False])
def test_a_replica_receives_what_the_source_wrote(cluster: Cluster, by_gtid: bool) -> None:
    source = cluster.server("source")
    replica = cluster.replica(source, file="" if by_gtid else "mysql-bin.000001")
    with Load(source, threads=3, limit=20) as load:
        load.join()

    replica.wait_for_gtid(source.gtid_executed)

    assert load.commits == 60 and not load.errors and not load.uncertain
    assert load.missing_at(replica) == []
    assert checksum_tables(source, "load_test").keys() == {"load_rows"}
    assert checksum_all(source) == checksum_all(replica)
    assert replica.replica_status()["Auto_Position"] == int(by_gtid)


def test_semi_sync_holds_a_commit_until_the_replica_has_it(cluster: Cluster) -> None:
    source = cluster.server("source", semi_sync="source")
    cluster.replica(source, semi_sync="replica")
    source.wait_until(lambda: source.query("SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'")[0][1] == "1")

    source.execute("CREATE DATABASE d")

    assert source.query("SHOW STATUS LIKE 'Rpl_semi_sync_source_yes_tx'")[0][1] == "1"


def test_a_load_outlives_its_servers_death(cluster: Cluster) -> None:
    source = cluster.server("source")
    with Load(source, threads=2) as load:
        load.wait_for(10)
        source.kill()
        journal = load.join()
    source.start()

    assert len(load.errors) == 2
    assert len(journal) >= 10
    assert load.missing_at(source) == []


def test_wait_for_gtid_raises_when_replication_stops(cluster: Cluster) -> None:
    source = cluster.server("source")
    replica = cluster.replica(source)
    replica.execute("SET SESSION sql_log_bin = 0", "CREATE DATABASE d")
    source.execute("CREATE DATABASE d")

    with pytest.raises(ServerFailed, match=r"(?s)stopped replicating.*database exists"):
        replica.wait_for_gtid(source.gtid_executed)


def test_client_programs_run(cluster: Cluster) -> None:
    server = cluster.server()
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")

    assert server.run("mysql", "--batch", "-e", "SELECT id FROM d.t") == b"id\n1\n"
    assert server.run("mysql", "--batch", stdin=b"SELECT 2 AS n") == b"n\n2\n"
    assert b"CREATE DATABASE d" in server.run("mysqlbinlog", "--read-from-remote-server", "mysql-bin.000001")
    assert b"INSERT INTO `t` VALUES (1)" in server.run("mysqldump", "d")
    with pytest.raises(ServerFailed, match="no_such_table"):
        server.run("mysql", "-e", "SELECT * FROM d.no_such_table")


def test_an_account_may_replicate_and_no_more(cluster: Cluster) -> None:
    server = cluster.server()
    connection = server.connect(user=REPLICATION_USER, password=REPLICATION_PASSWORD)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW GRANTS")
            assert "REPLICATION SLAVE, REPLICATION CLIENT" in str(cursor.fetchall())
    finally:
        connection.close()
    assert server.gtid_executed == ""


def test_sysbench_reports_what_it_did(cluster: Cluster) -> None:
    server = cluster.server()

    result = sysbench(server, "oltp_insert", threads=2, events=200, table_size=50)

    assert result.transactions == 200
    assert result.per_second > 0 and result.latency_p99_ms >= result.latency_average_ms > 0
    assert server.value("SELECT COUNT(*) FROM sbtest.sbtest1") == 250
