"""The source is lost, and a replica takes its place: binlogd follows, or says why it does not."""

from __future__ import annotations

import pytest

from testbed.cluster import Cluster, Load, checksum_all
from tests.e2e.roles import follows, hosts, pair, promote, timelines
from tests.e2e.support import MakeBinlogd, wait_for_semi_sync

pytestmark = pytest.mark.servers

COMMITS = 200


def test_a_promoted_replica_is_followed_and_replicas_never_notice(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    first, second = pair(cluster)
    site = binlogd(first, **hosts(first, second))
    wait_for_semi_sync(first)
    uuids = [first.server_uuid, second.server_uuid]
    attached = cluster.replica(site.address, "attached")
    with Load(first, threads=4) as load:
        load.wait_for(COMMITS)
        second.stop_replica("IO_THREAD")
        load.wait_for(2 * COMMITS)
        first.kill()

    assert "lacks" not in (site.status()["source"]["last_error"] or "")
    second.stop_replica()
    second.follow(*site.address, site.user, site.password)
    second.wait_for_gtid(site.gtid_executed)
    assert load.missing_at(second) == []
    promote(second)
    follows(site, second)
    wait_for_semi_sync(second)
    with Load(second, threads=4) as more:
        more.wait_for(COMMITS)

    attached.wait_for_gtid(second.gtid_executed)
    assert load.missing_at(attached) == more.missing_at(attached) == []
    assert checksum_all(attached) == checksum_all(second)
    assert [uuid for uuid, _ in timelines(site)] == uuids
    site.wait_for(second)
    assert site.status()["alarms"] == []
