"""What a source may have against us: exit code 3 and what to do, or, once there is a store, an alarm beside serving."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd, BinlogdFailed
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import the_error
from tests.e2e_errors.support import ended, leftovers, url, written

pytestmark = pytest.mark.servers

HALVES = ("receive", "run")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    """A source that the tests ask and leave as it is."""
    with Cluster(tmp_path_factory.mktemp("source"), mysql) as cluster:
        source = cluster.server()
        source.execute("CREATE DATABASE d")
        yield source


def assert_nothing_written(data_dir: Path) -> None:
    assert written(data_dir) == {}
    assert leftovers(data_dir) == []


@pytest.mark.parametrize("mode", HALVES)
def test_a_wrong_password(source: Server, tmp_path: Path, mode: str) -> None:
    result = ended(mode, url(source, password="S3CRET"), tmp_path / "data")
    error = the_error(result, 3)
    assert "Access denied for user 'repl'" in error
    assert error.endswith(" — check source.user and its password")
    assert "S3CRET" not in result.stderr
    assert_nothing_written(tmp_path / "data")


@pytest.mark.parametrize("mode", HALVES)
def test_an_unknown_host(tmp_path: Path, mode: str) -> None:
    error = the_error(ended(mode, "mysql://repl:S3CRET@no-such-host.invalid:3306", tmp_path / "data"), 2)
    assert "cannot find the source's host no-such-host.invalid" in error
    assert " — check the " in error
    assert_nothing_written(tmp_path / "data")


@pytest.mark.parametrize("mode", HALVES)
def test_a_missing_grant(source: Server, tmp_path: Path, mode: str) -> None:
    """The statement in the error is the one that is needed."""
    user = f"poor_{mode}"
    source.create_user(user, "pass", privileges="USAGE", logged=False)
    error = the_error(ended(mode, url(source, user, "pass"), tmp_path / "data"), 3)
    assert f"'{user}'@'%' lacks REPLICATION SLAVE" in error
    assert_nothing_written(tmp_path / "data")
    statement = error.partition("run at the source: ")[2]
    assert statement == f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%'"
    source.execute("SET SESSION sql_log_bin = 0", statement)
    binlogd = Binlogd(tmp_path, source, mode="receive", user=user, password="pass").start()
    try:
        binlogd.wait_for(source)
    finally:
        binlogd.close()


def test_start_current_without_its_grant(source: Server, tmp_path: Path) -> None:
    source.create_user("slave_only", "pass", privileges="REPLICATION SLAVE", logged=False)
    environ = {"BINLOGD_SOURCE__START": "current"}
    error = the_error(ended("receive", url(source, "slave_only", "pass"), tmp_path / "data", environ=environ), 3)
    assert error.endswith("GRANT REPLICATION CLIENT ON *.* TO 'slave_only'@'%'")
    assert_nothing_written(tmp_path / "data")


@pytest.mark.parametrize("mode", HALVES)
def test_the_sources_own_server_id(source: Server, tmp_path: Path, mode: str) -> None:
    environ = {"BINLOGD_SERVER_ID": str(source.server_id)}
    error = the_error(ended(mode, url(source), tmp_path / "data", environ=environ), 3)
    assert f"the source has our own server_id, {source.server_id}" in error
    assert " — set server_id in the configuration to a number" in error
    assert_nothing_written(tmp_path / "data")


def test_the_sources_own_server_uuid(source: Server, tmp_path: Path) -> None:
    environ = {"BINLOGD_SERVER_UUID": source.server_uuid}
    error = the_error(ended("receive", url(source), tmp_path / "data", environ=environ), 3)
    assert "the source has our own server_uuid" in error
    assert_nothing_written(tmp_path / "data")


def test_a_file_the_source_does_not_have(cluster: Cluster, source: Server, tmp_path: Path) -> None:
    """Nothing was stored, so that the store is bound to no source yet."""
    environ = {"BINLOGD_SOURCE__START": "mysql-bin.000099"}
    error = the_error(ended("receive", url(source), tmp_path / "data", environ=environ), 3)
    assert "Could not find first log file name in binary log index file" in error
    assert {Path(path).name for path in written(tmp_path / "data")} == {"source.json"}
    again = the_error(ended("receive", url(source), tmp_path / "data", environ=environ), 3)
    assert again == error, "a folder without a file in it is no history that could have a gap"
    other = cluster.server()
    binlogd = Binlogd(tmp_path, other, mode="receive").start()
    try:
        binlogd.wait_for(other)
    finally:
        binlogd.close()


def test_a_source_that_wants_tls(source: Server, tmp_path: Path) -> None:
    source.create_user("private", "pass", require="SSL", logged=False)
    error = the_error(ended("receive", url(source, "private", "pass") + "?tls=disabled", tmp_path / "data"), 3)
    assert "Access denied for user 'private'" in error


@pytest.mark.parametrize("mode", HALVES)
def test_no_binary_log(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    silent = cluster.server(log_bin=None, skip_log_bin=True)
    error = the_error(ended(mode, url(silent), tmp_path / "data"), 3)
    assert "writes no binary log (log_bin is OFF)" in error
    assert "set log_bin in its my.cnf and restart it" in error
    assert_nothing_written(tmp_path / "data")


def test_another_source(cluster: Cluster, source: Server, tmp_path: Path) -> None:
    other = cluster.server()
    first = Binlogd(tmp_path / "b", source, mode="receive").start()
    try:
        first.wait_for(source)
        first.stop()
        before = written(first.data)
        error = the_error(ended("receive", url(other), first.data), 3)
    finally:
        first.close()
    assert f"source {other.server_uuid} lacks the GTIDs {source.server_uuid}:1" in error
    assert "attach the new source to this binlogd once" in error
    assert written(first.data) == before


def ready(binlogd: Binlogd) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{binlogd.http_port}/readyz", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def alarms(binlogd: Binlogd) -> list[str]:
    return [alarm["code"] for alarm in binlogd.status()["alarms"]]


@pytest.mark.slow
def test_a_source_that_purged_what_is_needed(cluster: Cluster, tmp_path: Path) -> None:
    """Alone, the receiver ends. Under ``run`` what is stored goes on being served, and an alarm tells of the gap."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    kept = source.gtid_executed
    binlogd = Binlogd(tmp_path / "b", source, settings={"source.semi_sync": False}).start()
    try:
        binlogd.wait_for(source)
        assert ready(binlogd) == 200
        binlogd.stop()
        before = written(binlogd.data)
        source.execute("FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (2)", "FLUSH BINARY LOGS")
        source.execute("PURGE BINARY LOGS TO 'mysql-bin.000003'")

        missing = GtidSet.parse(source.gtid_executed) - GtidSet.parse(kept)
        error = the_error(ended("receive", url(source), binlogd.data), 3)
        assert f"the source has purged the GTIDs {missing.compact()}:" in error
        assert " — keep this store for its history" in error
        assert written(binlogd.data) == before

        binlogd.start(wait=False)
        binlogd.wait_until(lambda: alarms(binlogd) == ["source_gap"], "refusal, and it alone")
        status = binlogd.status()
        (alarm,) = status["alarms"]
        assert (alarm["severity"], status["source"]["state"]) == ("critical", "failed")
        assert missing.compact() in alarm["message"]
        assert "another data_dir" in alarm["hint"]
        assert ready(binlogd) == 503
        # Still served, to whoever is behind: a replica gets all there is.
        replica = cluster.replica((binlogd.host, binlogd.port), name="behind")
        replica.wait_for_gtid(kept)
        assert replica.query("SELECT id FROM d.t") == [(1,)]
        assert binlogd.stop() == 0
        assert written(binlogd.data) == before
    finally:
        binlogd.close()


def test_a_source_that_lost_its_end(cluster: Cluster, tmp_path: Path) -> None:
    """Reset, it has the same file name with less in it: nothing of the store is touched."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    binlogd = Binlogd(tmp_path / "b", source, mode="receive").start()
    try:
        binlogd.wait_for(source)
        binlogd.stop()
        before = written(binlogd.data)
        lost = source.gtid_executed
        source.execute("RESET BINARY LOGS AND GTIDS")
        error = the_error(ended("receive", url(source), binlogd.data), 3)
    finally:
        binlogd.close()
    assert "the source's history is not the one that is stored: its mysql-bin.000001 begins otherwise" in error
    assert f"it lacks the GTIDs {lost}, which are stored" in error
    assert written(binlogd.data) == before


@pytest.mark.slow
def test_a_source_that_cannot_read_its_own_file(cluster: Cluster, tmp_path: Path) -> None:
    """In the middle of the dump, behind all that is stored: no word of its history, which was proved to be ours."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
    binlogd = Binlogd(tmp_path / "b", source, settings={"source.semi_sync": False}).start()
    try:
        binlogd.wait_for(source)
        held = source.gtid_executed
        binlogd.stop()
        source.execute("FLUSH BINARY LOGS", *(f"INSERT INTO d.t VALUES ({number})" for number in (2, 3, 4)))
        bad, _ = source.position()
        place = next(int(row[1]) for row in source.query(f"SHOW BINLOG EVENTS IN '{bad}'") if row[2] == "Xid")
        with (source.binlog_dir / bad).open("r+b") as file:
            os.pwrite(file.fileno(), bytes(4), place + 9)  # its length
        binlogd.start()
        status = binlogd.wait_until(
            lambda: (found := binlogd.status())["source"]["state"] == "failed" and found, "refusal"
        )
        (alarm,) = status["alarms"]
        assert alarm["code"] == "source_refused"
        assert re.search("the source refused: .*bogus data in log event.* \\(error 1236\\)", alarm["message"])
        assert (status["source"]["file"], status["store"]["published"]["file"]) == (bad, bad)
        assert binlogd.query("SELECT @@gtid_executed") == [(held,)]
    finally:
        binlogd.close()


def stopped(replica: Server) -> dict[str, Any]:
    """The status of a replica whose connection ended with an error."""
    replica.wait_until(lambda: replica.replica_status()["Last_IO_Errno"])
    return replica.replica_status()


@pytest.mark.slow
def test_replicas_that_need_what_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    """They hear MySQL's words, with what is missing, and stop for good."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE DATABASE e", "FLUSH BINARY LOGS")
    gone = source.gtid_executed
    binlogd = Binlogd(tmp_path / "b", source, settings={"source.start": "current"}).start()
    try:
        binlogd.wait_for(source)
        by_gtid = cluster.replica((binlogd.host, binlogd.port), name="by-gtid")
        by_file = cluster.replica((binlogd.host, binlogd.port), name="by-file", file="mysql-bin.000001", pos=4)
        beyond = cluster.replica((binlogd.host, binlogd.port), name="beyond", file="mysql-bin.000002", pos=99_999)
        for replica, words in (
            (by_gtid, f"the missing transactions are '{gone}'"),
            (by_file, "Could not find first log file name in binary log index file"),
            (beyond, "Client requested source to start replication from position > file size"),
        ):
            status = stopped(replica)
            assert status["Replica_IO_Running"] == "No"
            assert status["Last_IO_Errno"] in (1236, 13114)
            assert words in status["Last_IO_Error"]
        assert (
            "Cannot replicate because the source purged required binary logs"
            in (by_gtid.replica_status()["Last_IO_Error"])
        )
        # mysqlbinlog says the same, and the listener serves others as before.
        with pytest.raises(BinlogdFailed, match="Could not find first log file name in binary log index file"):
            binlogd.run(
                cluster.distribution, "mysqlbinlog", "--read-from-remote-server", "mysql-bin.000001", cwd=tmp_path
            )
        assert binlogd.query("SELECT @@gtid_purged") == [(gone,)]
    finally:
        binlogd.close()


def test_a_user_that_is_locked_out_later(cluster: Cluster, tmp_path: Path) -> None:
    """A password that is changed while we stream is an alarm, and putting it right mends everything by itself."""
    source = cluster.server()
    source.execute("CREATE DATABASE d")
    binlogd = Binlogd(tmp_path / "b", source, settings={"source.semi_sync": False}).start()
    try:
        binlogd.wait_for(source)
        source.execute("SET SESSION sql_log_bin = 0", f"ALTER USER {REPLICATION_USER} IDENTIFIED BY 'other'")
        threads = source.query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
        source.execute(*(f"KILL {thread}" for (thread,) in threads))
        binlogd.wait_until(lambda: binlogd.status()["source"]["state"] == "failed", "refusal")
        assert re.search("Access denied", binlogd.status()["alarms"][0]["message"])
        assert binlogd.query("SELECT @@server_id")
        source.execute(
            "SET SESSION sql_log_bin = 0", f"ALTER USER {REPLICATION_USER} IDENTIFIED BY '{REPLICATION_PASSWORD}'"
        )
        binlogd.wait_streaming()
        assert binlogd.status()["alarms"] == []
    finally:
        binlogd.close()
