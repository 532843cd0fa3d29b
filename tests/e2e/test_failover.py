"""The story that binlogd is made for: the source dies, a replica that was behind gets everything from binlogd."""

from __future__ import annotations

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd, Mode
from testbed.cluster import Cluster, Load, checksum_all
from testbed.mysqld import Server
from tests.e2e.support import MakeBinlogd, Site, acknowledged_site, semi_sync_status

pytestmark = pytest.mark.servers

COMMITS = 400  # that a client was told of before the source dies


def assert_every_commit_is_at(replica: Server, binlogd: Binlogd, *loads: Load) -> None:
    """All that was committed; and of what was under way when the source died, what it had sent."""
    replica.wait_for_gtid(binlogd.gtid_executed)
    assert GtidSet.parse(replica.gtid_executed) == GtidSet.parse(binlogd.gtid_executed)
    committed = {number for load in loads for number in load.journal}
    under_way = {number for load in loads for number in load.uncertain}
    rows = {row[0] for row in replica.query(f"SELECT id FROM {loads[0].table}")}
    assert committed - rows == set()
    assert rows - committed <= under_way


def dead_source(site: Site) -> Load:
    """Kill the source under load, its every commit acknowledged; the load with its journal."""
    with Load(site.source, threads=8) as load:
        load.wait_for(COMMITS)
        assert semi_sync_status(site.source)["no_tx"] == 0
        site.source.kill()
    assert len(load.journal) >= COMMITS
    return load


def test_a_replica_that_was_behind_gets_every_commit(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    site = acknowledged_site(cluster, binlogd)
    replica = cluster.replica(site.source)
    with Load(site.source) as first:
        first.wait_for(COMMITS)
    replica.wait_for_gtid(site.source.gtid_executed)
    replica.stop_replica("IO_THREAD")

    load = dead_source(site)

    assert len(load.missing_at(replica)) == len(load.journal)
    replica.stop_replica()
    replica.execute(
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{site.binlogd.host}', SOURCE_PORT = {site.binlogd.port}"
    )
    replica.start_replica()
    assert_every_commit_is_at(replica, site.binlogd, first, load)

    # It is the new source: other replicas follow it, and have what they have from it or from binlogd.
    replica.stop_replica()
    replica.reset_replica()
    replica.execute(f"INSERT INTO {load.table} VALUES (0, 'the story goes on')")
    other = cluster.replica(site.binlogd.address, "other")
    other.wait_for_gtid(site.binlogd.gtid_executed)
    other.stop_replica()
    other.follow(replica.host, replica.port, site.binlogd.user, site.binlogd.password, start=False)
    other.start_replica()
    other.wait_for_gtid(replica.gtid_executed)
    assert checksum_all(other) == checksum_all(replica)


@pytest.mark.parametrize(("blow", "mode"), [("kill", "run"), pytest.param("stop", "serve", marks=pytest.mark.slow)])
def test_binlogd_restarted_without_its_source_serves(
    cluster: Cluster, binlogd: MakeBinlogd, blow: str, mode: Mode
) -> None:
    site = acknowledged_site(cluster, binlogd)
    load = dead_source(site)
    before = site.binlogd.published

    if blow == "stop":
        assert site.binlogd.stop() == 0
    else:
        site.binlogd.kill()
    site.binlogd.start(mode)

    assert site.binlogd.published >= before
    assert_every_commit_is_at(cluster.replica(site.binlogd.address), site.binlogd, load)
    if mode == "run":
        site.binlogd.wait_until(
            lambda: site.binlogd.status()["source"]["state"] in ("backoff", "connecting"), "an attempt to connect"
        )
        site.source.start()
        site.binlogd.wait_streaming()
        site.binlogd.wait_for(site.source)
        site.binlogd.assert_identical_to(site.source)
