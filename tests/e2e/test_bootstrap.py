"""An empty store, and a source that does not begin at the beginning: purged, restored from a backup, or told so later.

binlogd must say of itself, to replicas and in @@gtid_purged, just what the source says of itself.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.reader import read_previous
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.e2e.support import MakeBinlogd

pytestmark = pytest.mark.servers

REFUSED = 13114  # ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG
BEFORE = "11111111-1111-1111-1111-111111111111:1-10"
LATER = "22222222-2222-2222-2222-222222222222:1-7"
LATEST = "33333333-3333-3333-3333-333333333333:5"


def purged(server: Server | Binlogd) -> GtidSet:
    (row,) = server.query("SELECT @@GLOBAL.gtid_purged")
    return GtidSet.parse(row[0])


def executed(server: Server | Binlogd) -> GtidSet:
    (row,) = server.query("SELECT @@GLOBAL.gtid_executed")
    return GtidSet.parse(row[0])


def same_sets(binlogd: Binlogd, source: Server) -> None:
    """Both say the same of themselves; in the end, for a connection may just begin."""

    def same() -> bool:
        return (purged(binlogd), executed(binlogd)) == (purged(source), executed(source))

    binlogd.wait_until(same, f"gtid_purged {purged(source)} and gtid_executed {executed(source)}")
    status = binlogd.status()["store"]
    assert GtidSet.parse(status["gtid_purged"]) == purged(source)


def refusal(replica: Server, of: Server | Binlogd) -> str:
    """With which words it is refused for good, but for those that name the connection."""
    replica.stop_replica()
    replica.reset_replica()
    replica.follow(of.host, of.port, "repl", "replica-secret")
    status = replica.wait_until(
        lambda: (status := replica.replica_status())["Last_IO_Errno"] and status, what="an error of the receiver's"
    )
    assert (status["Replica_IO_Running"], status["Last_IO_Errno"]) == ("No", REFUSED)
    return str(status["Last_IO_Error"])


def missing(text: str) -> GtidSet:
    """What a refusal names."""
    return GtidSet.parse(text.partition("missing transactions are '")[2].partition("'")[0])


def catches_up(replica: Server, binlogd: Binlogd, source: Server) -> None:
    replica.stop_replica()
    replica.reset_replica()
    replica.follow(*binlogd.address, binlogd.user, binlogd.password)
    replica.wait_for_gtid(source.gtid_executed)
    assert checksum_all(replica) == checksum_all(source)


def write(source: Server, commits: int) -> None:
    with Load(source, threads=2, limit=commits // 2) as load:
        load.join()
    source.execute("FLUSH BINARY LOGS")


def tool(binlogd: Binlogd, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binlogd", *arguments, "--data-dir", str(binlogd.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_source_that_has_purged_its_oldest_files(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    source = cluster.server("source")
    write(source, 20)
    replica = cluster.replica(source, "replica")
    for _ in range(3):
        write(source, 20)
    names = [log.name for log in source.binary_logs()]
    source.execute(f"PURGE BINARY LOGS TO '{names[2]}'")
    replica.wait_for_gtid(source.gtid_executed)
    replica.stop_replica()
    begun: dict[str, Binlogd] = {}
    for start, first in (("oldest", names[2]), (names[3], names[3]), ("current", names[-1])):
        begun[first] = binlogd(source, **{"source.start": start})
    write(source, 20)

    empty = cluster.server("empty")
    text = refusal(empty, source)
    assert missing(text) == purged(source) != GtidSet()
    for first, one in begun.items():
        one.wait_for(source)
        assert one.stored()[0] == first
        before = read_previous(one.file(first))
        assert purged(one) == before
        assert executed(one) == executed(source)
        assert missing(refusal(empty, one)) == before
    same_sets(begun[names[2]], source)
    assert refusal(empty, begun[names[2]]) == text
    catches_up(replica, begun[names[-1]], source)


@pytest.mark.slow
def test_a_source_that_was_restored(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """From a backup, before its first write; and is told of more later."""
    origin = cluster.server("origin")
    write(origin, 20)
    dump = origin.run("mysqldump", "--databases", "load_test", "--set-gtid-purged=ON", "--single-transaction")
    backup = executed(origin)
    origin.stop()
    source, replica = cluster.server("source"), cluster.server("replica")
    for server in (source, replica):
        server.run("mysql", stdin=dump)
        assert purged(server) == backup
    empty = cluster.server("empty")

    one = binlogd(source)
    same_sets(one, source)
    write(source, 20)
    one.wait_for(source)
    same_sets(one, source)
    assert purged(one) == backup
    assert read_previous(one.file(one.stored()[0])) == GtidSet()
    text = refusal(empty, one)
    assert missing(text) == backup
    assert text == refusal(empty, source)
    catches_up(replica, one, source)

    source.execute(f"SET GLOBAL gtid_purged = '+{LATER}'")
    one.stop()
    one.start()
    same_sets(one, source)
    assert purged(one) == backup | GtidSet.parse(LATER)
    source.execute(f"SET GLOBAL gtid_purged = '+{LATEST}'")
    source.restart()  # and the binlogd goes on
    write(source, 20)
    one.wait_for(source)
    same_sets(one, source)
    everything = purged(source)
    assert everything == backup | GtidSet.parse(LATER) | GtidSet.parse(LATEST)
    assert missing(refusal(empty, one)) == everything

    found = tool(one, "verify")
    assert found.returncode == 0, found.stdout + found.stderr
    found = tool(one, "find", "--gtid", LATER)
    assert LATER in found.stdout + found.stderr
    assert "gtid_purged" in found.stdout + found.stderr

    whole = executed(source)
    source.stop()
    one.stop()
    one.start("serve")
    assert (purged(one), executed(one)) == (everything, whole)
    assert missing(refusal(empty, one)) == everything
    replica.stop_replica()
    replica.reset_replica()
    replica.execute(f"SET GLOBAL gtid_purged = '+{LATER},{LATEST}'")
    replica.follow(*one.address, one.user, one.password)
    replica.wait_for_gtid(str(whole))


@pytest.mark.slow
def test_a_source_of_56_that_was_restored(cluster: Cluster, binlogd: MakeBinlogd, mysql_56: Distribution) -> None:
    """It names what it had purged in PREVIOUS_GTIDS of the files behind the first."""
    source = cluster.server("source", distribution=mysql_56)
    source.execute("RESET MASTER", f"SET GLOBAL gtid_purged = '{BEFORE}'", "CREATE DATABASE d")
    one = binlogd(source)
    one.wait_for(source)
    same_sets(one, source)
    assert purged(one) == GtidSet.parse(BEFORE)
    assert [read_previous(one.file(name)) for name in one.stored()] == [GtidSet(), GtidSet.parse(BEFORE)]
    assert missing(refusal(cluster.server("empty"), one)) == GtidSet.parse(BEFORE)
    found = tool(one, "verify")
    assert found.returncode == 0, found.stdout + found.stderr
