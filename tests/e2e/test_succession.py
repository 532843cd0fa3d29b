"""The source is lost, and a replica takes its place: binlogd follows, or says why it does not."""

from __future__ import annotations

from typing import Any

import pytest

from binlogd.store.layout import DataFolder
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load, checksum_all
from testbed.mysqld import Server
from tests.e2e.support import MANY_FILES, NEVER_WITHOUT_ACK, MakeBinlogd, wait_for_semi_sync

pytestmark = pytest.mark.servers

COMMITS = 200


def pair(cluster: Cluster) -> tuple[Server, Server]:
    """A source, and a replica of it that may become one."""
    options = {**MANY_FILES, **NEVER_WITHOUT_ACK}
    first = cluster.server("first", semi_sync="source", options=options)
    second = cluster.replica(first, "second", semi_sync="source", options=options)
    demote(second)
    return first, second


def hosts(*servers: Server) -> dict[str, Any]:
    return {"source.hosts": [f"{server.host}:{server.port}" for server in servers]}


def demote(server: Server) -> None:
    """What a replica is to be: one that waited for acknowledgements of what it applies would wait for us."""
    server.execute("SET GLOBAL super_read_only = ON", "SET GLOBAL rpl_semi_sync_source_enabled = OFF")


def promote(server: Server) -> None:
    server.stop_replica()
    server.reset_replica()
    server.execute("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    server.execute("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")


def follows(binlogd: Binlogd, server: Server) -> None:
    def streaming() -> bool:
        source = binlogd.status()["source"]
        return (source["state"], source["server_uuid"]) == ("streaming", server.server_uuid)

    binlogd.wait_until(streaming, f"a stream from {server!r}")


def alarmed(binlogd: Binlogd, code: str) -> dict[str, Any]:
    """The alarm of that code, once it is there."""

    def found() -> dict[str, Any] | None:
        return next((alarm for alarm in binlogd.status()["alarms"] if alarm["code"] == code), None)

    return dict(binlogd.wait_until(found, f"the alarm {code}"))


def timelines(binlogd: Binlogd) -> list[tuple[str, list[str]]]:
    return [(timeline.source_uuid, timeline.binlogs()) for timeline in DataFolder(binlogd.data).timelines()]


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
