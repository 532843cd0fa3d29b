"""The source is lost, and a replica takes its place: binlogd follows, or says why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.layout import DataFolder
from testbed.binlogd import Binlogd, first_difference
from testbed.cluster import Cluster, Load, checksum_all
from testbed.mysqld import Server
from testbed.proxy import Proxy
from tests.e2e.roles import demote, detach, follows, hosts, pair, promote, streams_from, timelines, wait_for_looks
from tests.e2e.support import MANY_FILES, MakeBinlogd, semi_sync_status, wait_for_semi_sync

pytestmark = pytest.mark.servers

COMMITS = 200


@pytest.mark.slow
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


def switch_over(old: Server, new: Server) -> None:
    """As planned: the old source takes no more writes, the new one gets all of them, and they change places."""
    old.execute("SET GLOBAL super_read_only = ON")
    new.wait_for_gtid(old.gtid_executed)
    promote(new)
    demote(old)


def assert_identical(binlogd: Binlogd, *servers: Server) -> None:
    """Every timeline is a beginning of what its source, which is one of these, has: the last file only so far."""
    folders = {server.server_uuid: server.binlog_dir for server in servers}
    for timeline in DataFolder(binlogd.data).timelines():
        names = timeline.binlogs()
        for name in names:
            ours, theirs = timeline.path / name, folders[timeline.source_uuid] / name
            size = ours.stat().st_size
            assert size <= theirs.stat().st_size
            assert name == names[-1] or size == theirs.stat().st_size
            assert first_difference(ours, theirs, size, in_use=name == names[-1]) is None, name


def test_a_planned_switch_over_is_followed_and_a_blip_is_none(
    cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]
) -> None:
    first, second = pair(cluster)
    ways = [proxy(server.host, server.port) for server in (first, second)]
    addresses = [(way.host, way.port) for way in ways]
    site = binlogd(addresses[0], **hosts(*addresses), **{"source.follow": "writable"})
    wait_for_semi_sync(first)
    attached = cluster.replica(site.address, "attached")
    with Load(first, limit=50):
        pass
    second.wait_for_gtid(first.gtid_executed)

    # The network to the source is gone for a moment, and the other candidate, which has everything, is read_only.
    ways[0].refuse()
    ways[0].cut()
    wait_for_looks(ways[1], 2)
    ways[0].accept()
    follows(site, first)
    assert [uuid for uuid, _ in timelines(site)] == [first.server_uuid]

    # The source is read_only, and nobody else is writable: what it has is still to be had from it.
    lost = site.log.count("source lost")
    first.execute("SET GLOBAL super_read_only = ON")
    wait_for_looks(ways[1], 2)
    assert streams_from(site, first)
    second.wait_for_gtid(first.gtid_executed)
    promote(second)
    follows(site, second)
    wait_for_semi_sync(second)
    with Load(second, limit=50) as load:
        load.join()
    attached.wait_for_gtid(second.gtid_executed)
    assert checksum_all(attached) == checksum_all(second)
    assert semi_sync_status(second)["no_tx"] == 0
    assert site.log.count("source lost") == lost
    assert attached.error_log.count("connected to source") == 1
    assert [uuid for uuid, _ in timelines(site)] == [first.server_uuid, second.server_uuid]
    site.wait_for(second)
    assert_identical(site, first, second)
    assert site.status()["alarms"] == []


@pytest.mark.slow
def test_the_next_that_answers_is_followed_and_back_again(
    cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]
) -> None:
    """follow = "first". Each replicates from the other, so that each has everything."""
    first = cluster.server("first", options=MANY_FILES)
    second = cluster.replica(first, "second", options=MANY_FILES)
    first.follow(second.host, second.port, "repl", "replica-secret")
    ways = [proxy(server.host, server.port) for server in (first, second)]
    addresses = [(way.host, way.port) for way in ways]
    site = binlogd(addresses[0], **hosts(*addresses), **{"source.follow": "first"})
    attached = cluster.replica(site.address, "attached")
    for source, other, lost in ((first, second, ways[0]), (second, first, ways[1]), (first, second, None)):
        follows(site, source)
        with Load(source, limit=50) as load:
            load.join()
        for server in (other, attached):
            server.wait_for_gtid(source.gtid_executed)
        site.wait_for_gtid(source.gtid_executed)
        if lost is not None:
            for way in ways:
                way.accept()
            lost.refuse()
            lost.cut()

    assert [uuid for uuid, _ in timelines(site)] == [first.server_uuid, second.server_uuid, first.server_uuid]
    site.wait_for(first)
    assert_identical(site, first, second)
    assert checksum_all(attached) == checksum_all(first) == checksum_all(second)
    assert GtidSet.parse(attached.gtid_executed) == GtidSet.parse(first.gtid_executed)


KILLS = [(True, 0.0), (False, 0.004), (True, 0.004), (False, 0.0), (True, 0.02), (False, 0.02)]
"""Whether the receiver alone is killed, and how many seconds after it has said that the timeline begins."""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [KILLS[:2], pytest.param(KILLS, marks=pytest.mark.slow)], ids=["two", "six"])
def test_killed_while_the_timelines_change(
    cluster: Cluster, binlogd: MakeBinlogd, kills: list[tuple[bool, float]]
) -> None:
    """Two servers change places, and each time it is killed in the middle; in between it finds an empty folder."""
    servers = pair(cluster)
    site = binlogd(servers[0], **hosts(*servers), **{"source.follow": "writable"})
    wait_for_semi_sync(servers[0])
    attached = cluster.replica(site.address, "attached")
    loads = []
    uuids = [servers[0].server_uuid]
    for turn, (alone, later) in enumerate(kills):
        old, new = servers[turn % 2], servers[(turn + 1) % 2]
        with Load(old, threads=4) as load:
            load.wait_for(50)
        loads.append(load)
        begun = site.log.count("a new timeline begins")
        if turn:  # who was a source before is a replica again, of the one that is
            new.follow(old.host, old.port, "repl", "replica-secret")
        switch_over(old, new)
        uuids.append(new.server_uuid)
        with Load(new, threads=4) as load:  # its commits wait for binlogd
            while site.log.count("a new timeline begins") == begun:
                assert site.is_running
            time.sleep(later)  # another moment of the change
            if alone:
                site.kill_child("receive")
                site.wait_answering()
            else:
                site.kill()
                if turn == 1:  # a folder that somebody left behind
                    (site.data / "binlogs" / f"{turn + 3:04}-{cluster.servers['attached'].server_uuid}").mkdir()
                site.start()
            load.wait_for(100)
        loads.append(load)

    site.wait_for(servers[0])
    attached.wait_for_gtid(servers[0].gtid_executed)
    for load in loads:
        assert load.missing_at(attached) == load.missing_at(servers[0]) == []
    assert checksum_all(attached) == checksum_all(servers[0])
    assert GtidSet.parse(attached.gtid_executed) == GtidSet.parse(site.gtid_executed)
    assert [uuid for uuid, files in timelines(site) if files] == uuids
    assert semi_sync_status(servers[0])["no_tx"] == 0
    assert_identical(site, *servers)
    detach(attached)
    late = cluster.replica(site.address, "late")
    late.wait_for_gtid(servers[0].gtid_executed)
    assert checksum_all(late) == checksum_all(servers[0])
