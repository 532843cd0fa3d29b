"""Files are removed as mysqld removes them: what is executed stays so, and whoever lacks what went hears of it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing

import pymysql
import pytest
from pymysql.cursors import Cursor

from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, checksum_all
from testbed.mysqld import Server
from tests.e2e.support import MakeBinlogd

pytestmark = pytest.mark.servers

REFUSED = 13114  # ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG


def purge(binlogd: Binlogd, *arguments: str) -> tuple[int, str, str]:
    """`binlogd purge`."""
    command = [sys.executable, "-m", "binlogd", "purge", "--data-dir", str(binlogd.data), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def names(server: Server | Binlogd) -> list[str]:
    return [row[0] for row in server.query("SHOW BINARY LOGS")]


def purged(server: Server | Binlogd) -> str:
    return str(server.query("SELECT @@global.gtid_purged AS gtids")[0][0]).replace("\n", "")


def told(server: Server | Binlogd, sql: str) -> tuple[int, list[tuple[str, int, str]]]:
    """The error's number, or 0, and the warnings."""
    with closing(server.connect(cursorclass=Cursor)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute(sql)
        except pymysql.MySQLError as error:
            return int(error.args[0]), []
        cursor.execute("SHOW WARNINGS")
        return 0, list(cursor.fetchall())


def fill(source: Server, files: int) -> None:
    for number in range(files):
        source.execute(*(f"INSERT INTO d.t (x) VALUES ({number})" for _ in range(3)), "FLUSH BINARY LOGS")


def test_purging_as_mysqld_does(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    source = cluster.server("source")
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, x INT)")
    ours = binlogd(source)
    fill(source, 2)
    enough = cluster.replica(ours.address, "enough")
    enough.wait_for_gtid(source.gtid_executed)
    fill(source, 3)
    enough.wait_for_gtid(source.gtid_executed)
    enough.stop_replica()
    fill(source, 3)
    ours.wait_for(source)
    assert names(ours) == names(source)
    assert told(ours, "PURGE MASTER LOGS BEFORE '2001-01-01'") == (0, [])  # which 9.7 does not know any more
    executed, third = ours.gtid_executed, names(source)[2]

    for sql in (
        "PURGE BINARY LOGS TO 'nothing.000001'",
        f"PURGE BINARY LOGS TO '{names(source)[0]}'",
        "PURGE BINARY LOGS BEFORE '2001-01-01 00:00:00'",
        "PURGE BINARY LOGS BEFORE NOW() - INTERVAL 9 DAY",
        "PURGE BINARY LOGS BEFORE NOW() - INTERVAL 9",
        f"PURGE BINARY LOGS TO '{third}'",
    ):
        assert told(ours, sql) == told(source, sql), sql
        assert names(ours) == names(source), sql
        assert (purged(ours), ours.gtid_executed) == (purged(source), executed), sql
    ours.wait_until(lambda: ours.stored() == names(source), "the files to be gone")
    assert (ours.file(third).parent / "mysql-bin.index").read_text().split() == [f"./{name}" for name in names(source)]

    code, out, _ = purge(ours, "--to", names(source)[1], "--dry-run", "--json")
    assert (code, [row["name"] for row in json.loads(out)["files"]]) == (0, [third])
    assert names(ours) == names(source)

    ours.stop()
    assert purge(ours, "--to", names(source)[1])[0] == 0
    source.execute(f"PURGE BINARY LOGS TO '{names(source)[1]}'")
    assert ours.stored() == names(source)
    ours.start()
    ours.wait_streaming()
    assert (purged(ours), ours.gtid_executed) == (purged(source), executed)

    enough.start_replica()
    enough.wait_for_gtid(source.gtid_executed)
    assert checksum_all(enough) == checksum_all(source)
    empty = cluster.replica(ours.address, "empty")
    empty.wait_until(lambda: empty.replica_status()["Last_IO_Errno"] == REFUSED, what="the refusal")
    assert "the source purged required binary logs" in empty.replica_status()["Last_IO_Error"]
    assert purged(ours) in empty.replica_status()["Last_IO_Error"].replace("\n", "")
    empty.stop()

    # All but the newest: it is the active file, and the attached replica is at it.
    ours.stop()
    ours.settings["store.keep"] = "1ms"
    ours.start()
    ours.wait_streaming()
    ours.wait_until(lambda: len(ours.stored()) == 1, "the files to be gone")
    ours.wait_until(lambda: len(names(ours)) == 1, "them to be gone for clients")
    assert ours.gtid_executed == executed
    assert ours.status()["store"]["retention"]["keep_s"] == 0.001
    removals = [line for line in ours.log.splitlines() if "a file is removed" in line]
    assert len(removals) == 2 + 5, "those of the first life by PURGE, and of the last by age"
    fill(source, 2)
    enough.wait_for_gtid(source.gtid_executed)
    assert checksum_all(enough) == checksum_all(source)
