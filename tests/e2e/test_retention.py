"""Files are removed as mysqld removes them: what is executed stays so, and whoever lacks what went hears of it."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pymysql
import pytest
from pymysql.cursors import Cursor

from binlogd.receiver.purging import GRACE
from testbed.binlogd import WAIT_TIMEOUT, Binlogd
from testbed.cluster import Cluster, checksum_all
from testbed.mysqld import Server
from testbed.proxy import Proxy
from tests.e2e.roles import follows, hosts, pair, promote, timelines
from tests.e2e.support import MakeBinlogd, wait_for_semi_sync

pytestmark = pytest.mark.servers

IN_USE = 1867  # ER_WARN_PURGE_LOG_IN_USE
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


def listed(binlogd: Binlogd) -> list[str]:
    """`binlogd list`."""
    command = [sys.executable, "-m", "binlogd", "list", "--json", "--data-dir", str(binlogd.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [row["name"] for row in json.loads(done.stdout)]


def over_http(binlogd: Binlogd) -> list[int]:
    """How many files there are by /api/status, /api/files and /metrics."""

    def asked(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{binlogd.http_port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    found = re.search(r"^binlogd_store_files (\d+)", asked("/metrics"), re.MULTILINE)
    assert found
    return [json.loads(asked("/api/status"))["store"]["files"], json.loads(asked("/api/files"))["files"], int(found[1])]


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
    left = names(ours)
    assert (listed(ours), ours.status()["store"]["files"]) == (left, len(left)), "at once, unlinked or not"
    ours.wait_until(lambda: over_http(ours) == [len(left)] * 3, "the same over HTTP, as of some seconds ago")
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
    ours.wait_until(lambda: purge(ours, "--keep", "1ms")[0] == 0 and len(names(ours)) == 1, "nobody at the old files")
    ours.wait_until(lambda: len(ours.stored()) == 1, "the files to be gone")
    assert ours.gtid_executed == executed
    removals = [line for line in ours.log.splitlines() if "a file is removed" in line]
    assert len(removals) == 2 + 5, "those of the first life by PURGE, and of the last by age"
    fill(source, 2)
    enough.wait_for_gtid(source.gtid_executed)
    assert checksum_all(enough) == checksum_all(source)


@pytest.mark.slow
def test_what_an_attached_replica_has_not_read_stays(
    cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]
) -> None:
    """Not by age, not by order; and all of it may go once the replica has read it."""
    source = cluster.server("source")
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, x LONGBLOB)")
    ours = binlogd(source)
    line = proxy(*ours.address)
    behind = cluster.replica((line.host, line.port), "behind")
    behind.wait_for_gtid(source.gtid_executed)
    line.stall()
    for _ in range(6):  # more than the buffers between them take
        source.execute(*["INSERT INTO d.t (x) VALUES (REPEAT('x', 4000000))"] * 3, "FLUSH BINARY LOGS")
    ours.wait_for(source)
    before = names(ours)
    newest = before[-1]

    code, warnings = told(ours, f"PURGE BINARY LOGS TO '{newest}'")
    assert (code, [number for _, number, _ in warnings]) == (0, [IN_USE])
    held = names(ours)
    assert held == before[-len(held) :]
    assert 1 < len(held) < len(before) or held == before, "what is behind the file that is read stays"
    code, _, error = purge(ours, "--keep", "1ms")
    assert (code, "attached" in error) == (1, True), error

    line.resume()
    behind.wait_for_gtid(source.gtid_executed)
    ours.wait_until(lambda: purge(ours, "--keep", "1ms")[0] == 0 and names(ours) == [newest], "nobody at the old files")
    ours.wait_until(lambda: ours.stored() == [newest], "all but the newest to be gone")
    assert checksum_all(behind) == checksum_all(source)


@pytest.mark.slow
def test_replicas_have_time_to_come_back_after_a_restart(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """Of binlogd, and of the sender alone; then files go by age."""
    stays = "replicas may be about to attach again"
    source = cluster.server("source")
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, x INT)")
    ours = binlogd(source)
    behind = cluster.replica(ours.address, "behind")
    behind.wait_for_gtid(source.gtid_executed)
    behind.stop_replica()  # as between two attempts to connect
    fill(source, 3)
    ours.wait_for(source)
    before = names(ours)
    ours.kill()
    ours.start(store__keep="1ms")
    ours.wait_streaming()
    ours.wait_until(lambda: stays in ours.log, "a file that stays for now")
    assert names(ours) == before
    assert "retention_blocked" not in [alarm["code"] for alarm in ours.status()["alarms"]], "it is over soon"
    behind.start_replica()
    behind.wait_for_gtid(source.gtid_executed)
    assert checksum_all(behind) == checksum_all(source)
    ours.wait_until(lambda: ours.stored() == before[-1:], "the files to be gone", GRACE + WAIT_TIMEOUT)
    assert ours.status()["store"]["retention"]["keep_s"] == 0.001

    behind.stop_replica()
    ours.kill_child("serve")
    ours.wait_answering()
    fill(source, 3)
    ours.wait_for(source)
    ours.wait_until(lambda: ours.log.count(stays) == 2, "a file that stays for now, again")
    behind.start_replica()
    behind.wait_for_gtid(source.gtid_executed)
    assert checksum_all(behind) == checksum_all(source)


@pytest.mark.slow
def test_a_whole_timeline_goes_and_nothing_that_is_known_with_it(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    first, second = pair(cluster)
    ours = binlogd(first, **hosts(first, second))
    wait_for_semi_sync(first)
    first.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, x INT)")
    fill(first, 3)
    second.wait_for_gtid(first.gtid_executed)
    attached = cluster.replica(ours.address, "attached")
    attached.wait_for_gtid(first.gtid_executed)
    lost = first.server_uuid
    first.kill()
    promote(second)
    follows(ours, second)
    wait_for_semi_sync(second)
    fill(second, 2)
    attached.wait_for_gtid(second.gtid_executed)
    ours.wait_for(second)
    executed = ours.gtid_executed

    assert told(ours, f"PURGE BINARY LOGS TO '{names(ours)[-1]}'") == (0, [])
    ours.wait_until(lambda: len(names(ours)) == 1, "the files to be gone")
    gone = purged(ours)
    assert ours.gtid_executed == executed
    assert lost in gone
    for restart in (False, True):
        if restart:
            ours.kill()
            ours.start()
            follows(ours, second)
            assert (ours.gtid_executed, purged(ours)) == (executed, gone)
        second.execute("INSERT INTO d.t (x) VALUES (1)")
        attached.wait_for_gtid(second.gtid_executed)
        executed = ours.gtid_executed
    assert checksum_all(attached) == checksum_all(second)
    assert [uuid for uuid, files in timelines(ours) if files] == [second.server_uuid]
    empty = cluster.replica(ours.address, "empty")
    empty.wait_until(lambda: empty.replica_status()["Last_IO_Errno"] == REFUSED, what="the refusal")
    assert subprocess.run(
        [sys.executable, "-m", "binlogd", "verify", "--data-dir", str(ours.data)], capture_output=True, timeout=60
    ).returncode == 0  # fmt: skip


def only_left(binlogd: Binlogd, files: list[str]) -> bool:
    return binlogd.stored() == files


def under_way(moment: str, purger: subprocess.Popen[bytes], oldest: Path) -> bool:
    """Whether a purge has come so far: its note is written, its first file is gone, or it has ended."""
    note = oldest.parent.parent / "removed.json"
    written = note.exists() and oldest.name not in note.read_text()
    return purger.poll() is not None or (moment == "note" and written) or (moment == "file" and not oldest.exists())


@pytest.mark.slow
def test_killed_while_files_go(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """At any moment: what is executed is what it was, what is left is a whole history's end, and it goes on."""
    chance = random.Random(6)
    source = cluster.server("source")
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, x INT)")
    ours = binlogd(source)
    for _ in range(12):
        fill(source, 3)
        ours.wait_for(source)
        executed, there = ours.gtid_executed, names(ours)
        target = chance.choice(there[1:])
        purger = subprocess.Popen(
            [sys.executable, "-m", "binlogd", "purge", "--data-dir", str(ours.data), "--to", target],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ours.wait_until(
            partial(under_way, chance.choice(("note", "file", "end")), purger, ours.file(there[0])),
            "the purge under way",
        )
        ours.kill()
        purger.wait(30)
        ours.start()
        ours.wait_streaming()
        assert ours.gtid_executed == executed
        left = names(ours)
        assert left in (there, there[there.index(target) :])
        ours.wait_until(partial(only_left, ours, left), "what the note says is gone to be gone")
        checked = subprocess.run(
            [sys.executable, "-m", "binlogd", "verify", "--data-dir", str(ours.data)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout + checked.stderr
