"""Under load each of the three is stopped and killed: nothing that was committed is lost, nothing comes twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load
from testbed.mysqld import Server
from testbed.proxy import Cut, Proxy
from tests.e2e.support import (
    NEVER_WITHOUT_ACK,
    MakeBinlogd,
    Site,
    acknowledged_site,
    assert_nothing_lost_or_repeated,
    assert_same_history,
    semi_sync_status,
    wait_for_semi_sync,
)

pytestmark = pytest.mark.servers

STALLED_AT = 8_000_000  # bytes into the connection to the source, and then silence
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_replica(site: Site, replica: Server) -> None:
    with Load(site.source) as load:
        load.wait_for(COMMITS)
        for strike in (stop_replica, kill_replica):
            strike(replica)
            load.wait_for(load.commits + COMMITS)

    assert load.errors == []
    assert_nothing_lost_or_repeated(load, site.source, site.binlogd, replica)


@pytest.mark.parametrize(
    ("blow", "checksum"),
    [
        ("kill", "CRC32"),
        pytest.param("kill", "NONE", marks=pytest.mark.slow),
        pytest.param("stop", "CRC32", marks=pytest.mark.slow),
        pytest.param("cut", "CRC32", marks=pytest.mark.slow),
        ("cut", "NONE"),
    ],
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
    line.stall(at=STALLED_AT)

    with ThreadPoolExecutor() as pool:
        rows = "JSON_TABLE(CONCAT('[1', REPEAT(',1', 11), ']'), '$[*]' COLUMNS (id FOR ORDINALITY)) AS numbers"
        commit = pool.submit(source.execute, f"INSERT INTO d.t SELECT id, REPEAT('x', 1000000) FROM {rows}")
        line.wait_for_bytes(STALLED_AT)
        follower.wait_until(
            lambda: follower.file(before[0]).stat().st_size > before[1] + STALLED_AT // 2, "half a transaction on disk"
        )
        assert follower.published == before
        if blow == "kill":
            follower.kill()
        elif blow == "stop":
            assert follower.stop() == 0
        else:
            line.cut(Cut.RST)
        assert not commit.done()
        line.resume()
        if blow != "cut":
            follower.start()
        commit.result()

    assert ("dropped an unfinished tail" in follower.log) == (blow != "cut")
    assert_same_history(source, follower)


def test_semi_sync_that_is_switched_while_we_are_attached_is_told(site: Site) -> None:
    for setting, codes in (("OFF", ["no_semi_sync"]), ("ON", []), ("OFF", ["no_semi_sync"])):
        site.source.execute(f"SET GLOBAL rpl_semi_sync_source_enabled = {setting}")
        site.binlogd.wait_until(partial(alarmed_alone, site.binlogd, codes), f"the alarms {codes}")


def alarmed_alone(binlogd: Binlogd, codes: list[str]) -> bool:
    return [alarm["code"] for alarm in binlogd.status()["alarms"]] == codes
