"""Under load each of the three is stopped and killed: nothing that was committed is lost, nothing comes twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.cluster import Cluster, Load
from testbed.mysqld import Server
from testbed.proxy import Cut, Proxy
from tests.e2e.support import (
    NEVER_WITHOUT_ACK,
    MakeBinlogd,
    Site,
    acknowledged_site,
    assert_nothing_lost_or_repeated,
    semi_sync_status,
    wait_for_semi_sync,
)

pytestmark = pytest.mark.servers

COMMITS = 200  # before and after each blow: a few files' worth


@pytest.fixture
def site(cluster: Cluster, binlogd: MakeBinlogd) -> Site:
    return acknowledged_site(cluster, binlogd)


@pytest.fixture
def replica(site: Site) -> Server:
    return site.cluster.replica(site.binlogd.address, options={"relay_log_recovery": True})


def stop_binlogd(site: Site) -> None:
    assert site.binlogd.stop() == 0
    site.binlogd.start()


def kill_binlogd(site: Site) -> None:
    site.binlogd.kill()
    site.binlogd.start()


def kill_supervisor(site: Site) -> None:
    site.binlogd.kill_supervisor()
    site.binlogd.start()


def kill_receiver(site: Site) -> None:
    site.binlogd.kill_child("receive")
    site.binlogd.wait_answering()


def kill_sender(site: Site) -> None:
    site.binlogd.kill_child("serve")
    site.binlogd.wait_answering()
    site.binlogd.wait_until(lambda: site.binlogd.status()["replicas"], "a replica that has come back")


@pytest.mark.parametrize(
    "strikes",
    [(stop_binlogd, kill_binlogd, kill_supervisor), (kill_receiver, kill_sender) * 2],
    ids=["as a whole", "by halves"],
)
def test_binlogd(site: Site, replica: Server, strikes: tuple[Callable[[Site], None], ...]) -> None:
    """Commits wait while nobody acknowledges; not one gets through unacknowledged."""
    with Load(site.source) as load:
        load.wait_for(COMMITS)
        for strike in strikes:
            strike(site)
            load.wait_for(load.commits + COMMITS)

    assert load.errors == []
    assert semi_sync_status(site.source)["no_tx"] == 0
    assert_nothing_lost_or_repeated(load, site.source, site.binlogd, replica)


def stop_source(site: Site) -> None:
    site.source.restart()


def kill_source(site: Site) -> None:
    site.source.kill()
    site.source.start()


def test_the_source(site: Site, replica: Server) -> None:
    loads = []
    for strike in (stop_source, kill_source):
        with Load(site.source) as load:
            load.wait_for(COMMITS)
            strike(site)
        loads.append(load)
        wait_for_semi_sync(site.source)
    with Load(site.source) as load:
        load.wait_for(COMMITS)
    loads.append(load)

    for load in loads:
        assert_nothing_lost_or_repeated(load, site.source, site.binlogd, replica)


def stop_replica(replica: Server) -> None:
    replica.restart()


def kill_replica(replica: Server) -> None:
    replica.kill()
    replica.start()


def test_the_replica(site: Site, replica: Server) -> None:
    with Load(site.source) as load:
        load.wait_for(COMMITS)
        for strike in (stop_replica, kill_replica):
            strike(replica)
            load.wait_for(load.commits + COMMITS)

    assert load.errors == []
    assert_nothing_lost_or_repeated(load, site.source, site.binlogd, replica)


@pytest.mark.parametrize(
    ("blow", "checksum"), [("kill", "CRC32"), ("kill", "NONE"), ("stop", "CRC32"), ("cut", "CRC32"), ("cut", "NONE")]
)
def test_in_the_middle_of_a_transaction(
    cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy], blow: str, checksum: str
) -> None:
    """What came of it is dropped, nobody sees it, and it is fetched again from its beginning."""
    source = cluster.server(
        semi_sync="source", options={"max_allowed_packet": "64M", "binlog_checksum": checksum, **NEVER_WITHOUT_ACK}
    )
    line = proxy(source.host, source.port)
    follower = binlogd((line.host, line.port))
    wait_for_semi_sync(source)
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, b LONGBLOB)")
    follower.wait_for(source)
    before = follower.published
    size = follower.file(before[0]).stat().st_size
    line.stall(at=8_000_000)

    with Load(source, schema="other", threads=1, payload_bytes=3_000_000, limit=4) as load:
        follower.wait_until(lambda: follower.file(before[0]).stat().st_size > size + 4_000_000, "half a transaction")
        follower.wait_until(lambda: follower.status()["source"]["position"] > before[1] + 4_000_000, "its beginning")
        seen = follower.published
        if blow == "kill":
            follower.kill()
        elif blow == "stop":
            assert follower.stop() == 0
        else:
            line.cut(Cut.RST)
        line.resume()
        if blow != "cut":
            follower.start()
        load.join()

    assert seen[0] == before[0]
    assert load.errors == []
    assert_nothing_lost_or_repeated(load, source, follower)
