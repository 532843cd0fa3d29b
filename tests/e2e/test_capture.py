"""What a real source logs is stored byte for byte, whatever it is, and acknowledged as semi-sync counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.cluster import Cluster, Load, checksum_all, sysbench
from testbed.mysqld import Option, Server
from tests.e2e.histories import HISTORIES, History, dml, engines, event_types, statements
from tests.e2e.support import MakeBinlogd, Site, semi_sync_status, wait_for_semi_sync

pytestmark = pytest.mark.servers

HEARTBEAT_PACKET = 4 + 1 + 19 + len("mysql-bin.000001") + 4  # bytes, with a checksum
RECEIVER_MEMORY = 64 * 1024 * 1024  # the design's limit, whatever the transaction


@contextmanager
def in_files_of_its_own(site: Site) -> Iterator[Callable[[], list[str]]]:
    """Begin with a new file; afterwards the files written meanwhile are finished and equal the source's.

    Gives what names those files, to be asked after the block.
    """
    site.source.execute("DROP DATABASE d", "CREATE DATABASE d", "FLUSH BINARY LOGS")
    first = site.source.position()[0]
    finished: list[str] = []
    yield lambda: finished
    site.source.execute("FLUSH BINARY LOGS")
    site.binlogd.wait_for(site.source)
    names = site.binlogd.assert_identical_to(site.source)
    assert site.binlogd.published == site.source.position()
    assert GtidSet.parse(site.binlogd.gtid_executed) == GtidSet.parse(site.source.gtid_executed)
    finished += names[names.index(first) :]


@pytest.fixture(params=["CRC32", "NONE"])
def checksum(request: pytest.FixtureRequest, site: Site) -> Iterator[str]:
    """The source's binlog_checksum for one test: set at run time, which begins a new file with the new algorithm."""
    before = site.source.variables["binlog_checksum"]
    site.source.variables["binlog_checksum"] = request.param
    yield request.param
    site.source.variables["binlog_checksum"] = before


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_finished_files_equal_the_source_s(site: Site, checksum: str, tmp_path: Path, history: History) -> None:
    with in_files_of_its_own(site) as finished:
        history(site.source, tmp_path)

    types = {kind for file in finished() for kind in event_types(site.source, file)}
    assert types >= HISTORIES[history], f"the source logged only {sorted(types)}"
    for file in finished():
        shown = f"SHOW BINLOG EVENTS IN '{file}'"
        assert site.binlogd.query(shown) == site.source.query(shown)


def test_a_transaction_of_300_mb_passes_through_little_memory(site: Site) -> None:
    site.binlogd.kill_child("receive")  # what earlier tests made it hold is forgotten
    wait_for_semi_sync(site.source)
    with in_files_of_its_own(site) as finished:
        rows = "JSON_TABLE(CONCAT('[1', REPEAT(',1', 19), ']'), '$[*]' COLUMNS (id FOR ORDINALITY)) AS numbers"
        site.source.execute(
            "CREATE TABLE t (id INT PRIMARY KEY, n INT, b LONGBLOB)",
            f"INSERT INTO t SELECT id, 0, REPEAT('x', 1000000) FROM {rows}",
            "BEGIN",
            *["UPDATE t SET n = n + 1"] * 8,  # before and after images: 2 MB a row, and InnoDB changes 4 bytes of it
            "COMMIT",
            database="d",
        )

    assert max(log.size for log in site.source.binary_logs() if log.name in finished()) > 300_000_000
    assert site.binlogd.peak_memory("receive") < RECEIVER_MEMORY


def test_a_source_without_gtids_is_captured_and_served_by_file_and_position(
    cluster: Cluster, binlogd: MakeBinlogd, tmp_path: Path
) -> None:
    without: dict[str, Option] = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}
    source = cluster.server(options=without)
    source.execute("CREATE DATABASE d")
    follower = binlogd(source)
    for history in (engines, statements, dml):
        source.execute("DROP DATABASE d", "CREATE DATABASE d", "FLUSH BINARY LOGS")
        history(source, tmp_path)
    follower.kill_child("receive")
    with Load(source) as load:
        load.wait_for(200)
    source.execute("FLUSH BINARY LOGS")
    replica = cluster.replica(follower.address, file=source.binary_logs()[0].name, options=without)

    follower.wait_for(source)
    assert len(follower.assert_identical_to(source)) == 4
    assert follower.published == source.position()
    assert follower.gtid_executed == ""
    replica.wait_until(lambda: applied(replica) == source.position(), what="everything applied")
    assert checksum_all(replica) == checksum_all(source)


def applied(replica: Server) -> tuple[str, int]:
    """How far in the source's files the replica has come."""
    status = replica.replica_status()
    return status["Relay_Source_Log_File"], status["Exec_Source_Log_Pos"]


def test_the_source_counts_one_acknowledging_replica_that_never_fails_it(site: Site) -> None:
    wait_for_semi_sync(site.source)
    before = semi_sync_status(site.source)
    result = sysbench(site.source, threads=8, seconds=3)
    after = semi_sync_status(site.source)

    assert result.transactions > 0
    assert after["clients"] == 1
    assert after["yes_tx"] > before["yes_tx"]
    assert after["no_tx"] == before["no_tx"]
    assert after["no_times"] == before["no_times"]
    site.binlogd.wait_for(site.source)
    site.binlogd.assert_identical_to(site.source)
    assert site.binlogd.status()["source"]["acks_sent"] > 0


def test_the_source_lists_binlogd_among_its_replicas(site: Site) -> None:
    status = site.binlogd.status()

    rows = site.source.query("SHOW REPLICAS")

    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [
        (status["server_id"], site.binlogd.port, site.source.server_id, status["server_uuid"])
    ]


def test_heartbeats_keep_a_silent_connection(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """Without them a source with nothing to say would be taken for dead after read_timeout."""
    source = cluster.server()
    follower = binlogd(source, **{"source.heartbeat": "0.2s", "source.read_timeout": "2s"})
    begun = follower.status()["source"]

    enough = begun["bytes_received"] + 15 * HEARTBEAT_PACKET  # three seconds of them
    follower.wait_until(lambda: follower.status()["source"]["bytes_received"] > enough, "15 heartbeats")

    status = follower.status()["source"]
    assert status["state"] == "streaming"
    assert status["since"] == begun["since"]
    assert status["reconnects"] == 0
