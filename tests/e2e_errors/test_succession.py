"""Candidates that may not be followed: each is told of with the reason, and nothing that is stored is given up.

Two servers serve all tests, and in the end of each both have the same GTIDs. binlogd receives from the first through a
proxy; the network there is broken, and the second is what is left.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from testbed.proxy import Proxy
from tests.e2e.conftest import binlogd  # noqa: F401
from tests.e2e.roles import alarmed, attach, detach, follows, hosts, timelines, wait_for_looks
from tests.e2e.support import MakeBinlogd
from tests.e2e_errors.support import written

pytestmark = pytest.mark.servers

_rows = itertools.count(1)


def write(server: Server, transactions: int = 3) -> GtidSet:
    """Commit so many there; their GTIDs."""
    before = GtidSet.parse(server.gtid_executed)
    server.execute(*(f"INSERT INTO d.t VALUES ({next(_rows)})" for _ in range(transactions)))
    return GtidSet.parse(server.gtid_executed) - before


def rows(server: Server) -> set[int]:
    return {row[0] for row in server.query("SELECT id FROM d.t")}


@dataclass
class Two:
    """The servers, the way from binlogd to the first, and what makes a binlogd that has all of the first."""

    first: Server
    second: Server
    way: Proxy
    make: Callable[..., Binlogd]

    def receiver(self, *others: Server | tuple[str, int], **settings: Any) -> Binlogd:
        """A binlogd that receives from the first, and has all it has; ``others`` are its other candidates."""
        way = self.way.host, self.way.port
        quiet = {"source.semi_sync": False}  # the servers have no plugin for it
        site = self.make(way, **hosts(way, *(others or (self.second,))), **quiet, **settings)
        site.wait_for_gtid(self.first.gtid_executed)
        return site

    def lose_the_first(self) -> None:
        self.way.refuse()
        self.way.cut()

    def level(self) -> None:
        """Have the second get what it lacks of the first."""
        self.second.follow(self.first.host, self.first.port, REPLICATION_USER, REPLICATION_PASSWORD)
        self.second.wait_for_gtid(self.first.gtid_executed)
        detach(self.second)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[tuple[Server, Server]]:
    with Cluster(tmp_path_factory.mktemp("two"), mysql) as cluster:
        first, second = (cluster.server(name) for name in ("first", "second"))
        first.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        second.follow(first.host, first.port, REPLICATION_USER, REPLICATION_PASSWORD)
        second.wait_for_gtid(first.gtid_executed)
        detach(second)
        yield first, second


@pytest.fixture
def two(
    servers: tuple[Server, Server],
    binlogd: MakeBinlogd,  # noqa: F811
    proxy: Callable[..., Proxy],
) -> Two:
    first, second = servers
    return Two(first, second, proxy(first.host, first.port), binlogd)


def each(gtids: GtidSet) -> Iterator[tuple[str, int]]:
    """The GTIDs one by one."""
    for part in gtids.compact().split(","):
        uuid, *intervals = part.split(":")
        for interval in intervals:
            begin, _, end = interval.partition("-")
            yield from ((uuid, number) for number in range(int(begin), int(end or begin) + 1))


def named(text: str, gtids: GtidSet) -> bool:
    """Whether exactly these are named in a sentence."""
    return f"the GTIDs {gtids.compact()}, which are" in text


def test_one_that_lacks_what_is_stored_gets_it_from_us_and_is_followed(two: Two) -> None:
    site = two.receiver()
    lacking = write(two.first)
    site.wait_for_gtid(two.first.gtid_executed)
    before = written(site.data)
    two.lose_the_first()

    alarm = alarmed(site, "source_diverged")
    assert named(alarm["message"], lacking)
    assert "CHANGE REPLICATION SOURCE TO" in alarm["hint"]
    assert written(site.data) == before

    attach(two.second, site)  # what the hint says
    two.second.wait_for_gtid(site.gtid_executed)
    said = alarmed(site, "source_refused")["message"]
    assert f"{two.second.server_uuid} replicates from this binlogd" in said
    assert written(site.data) == before
    detach(two.second)
    follows(site, two.second)
    site.wait_until(lambda: site.status()["alarms"] == [], "end of the alarms")
    assert [uuid for uuid, _ in timelines(site)] == [two.first.server_uuid, two.second.server_uuid]


def test_one_that_has_purged_what_is_needed(two: Two) -> None:
    site = two.receiver()
    missing = write(two.second)
    two.second.execute("FLUSH BINARY LOGS", f"PURGE BINARY LOGS TO '{two.second.binary_logs()[-1].name}'")
    two.second.execute("FLUSH BINARY LOGS")
    two.second.execute(f"PURGE BINARY LOGS TO '{two.second.binary_logs()[-1].name}'")
    before = written(site.data)
    two.lose_the_first()

    assert named(alarmed(site, "source_gap")["message"], missing)
    assert written(site.data) == before
    gtids = [f"{uuid}:{number}" for uuid, number in each(missing)]
    for gtid, row in zip(gtids, sorted(rows(two.second) - rows(two.first)), strict=True):
        two.first.execute(f"SET gtid_next = '{gtid}'", f"INSERT INTO d.t VALUES ({row})")  # as from a backup
    two.way.accept()
    follows(site, two.first)
    site.wait_for_gtid(two.second.gtid_executed)
    assert site.status()["alarms"] == []


def test_one_without_gtids(two: Two) -> None:
    site = two.receiver()
    modes = ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"]
    two.second.execute(*(f"SET GLOBAL gtid_mode = {mode}" for mode in modes))
    before = written(site.data)
    two.lose_the_first()

    assert (
        "its gtid_mode is OFF: nobody can tell what of one is in the other"
        in (alarmed(site, "source_refused")["message"])
    )
    assert written(site.data) == before
    two.second.execute(*(f"SET GLOBAL gtid_mode = {mode}" for mode in ["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"]))
    follows(site, two.second)


@pytest.mark.slow
def test_itself(two: Two, proxy: Callable[..., Proxy]) -> None:
    """However long that mistake was told of, the source is not kept waiting for it when it is back."""
    site = two.make((two.way.host, two.way.port), start=False, **{"source.semi_sync": False})
    itself = proxy(*site.address)
    site.settings |= hosts((two.way.host, two.way.port), (itself.host, itself.port))
    site.start()
    site.wait_for_gtid(two.first.gtid_executed)
    before = written(site.data)
    two.lose_the_first()

    assert "the source has our own server_id" in alarmed(site, "source_refused")["message"]
    wait_for_looks(itself, 5)
    assert written(site.data) == before
    two.way.accept()
    back = time.monotonic()
    follows(site, two.first)
    assert time.monotonic() - back < 5  # BACKOFF_LONGEST and what two busy cores make of it
    site.wait_until(lambda: site.status()["alarms"] == [], "end of the alarm")


def test_with_new_timeline_both_histories_are_kept_and_served(two: Two, servers: tuple[Server, Server]) -> None:
    site = two.receiver(**{"source.on_divergence": "new-timeline"})
    write(two.first)
    site.wait_for_gtid(two.first.gtid_executed)
    write(two.second)
    two.lose_the_first()
    follows(site, two.second)
    site.wait_for_gtid(two.second.gtid_executed)
    assert [uuid for uuid, _ in timelines(site)] == [two.first.server_uuid, two.second.server_uuid]
    assert GtidSet.parse(site.gtid_executed) == GtidSet.parse(two.first.gtid_executed) | GtidSet.parse(
        two.second.gtid_executed
    )

    union = rows(two.first) | rows(two.second)
    assert rows(two.first) < union > rows(two.second)
    for server in servers:
        attach(server, site)
    for server in servers:
        server.wait_for_gtid(site.gtid_executed)
        detach(server)
        assert rows(server) == union


@pytest.mark.slow
def test_a_source_that_purged_our_file_and_nothing_that_we_lack(two: Two) -> None:
    site = two.receiver()
    site.stop()
    two.first.execute("FLUSH BINARY LOGS")
    two.first.execute(f"PURGE BINARY LOGS TO '{two.first.binary_logs()[-1].name}'")
    site.start()
    follows(site, two.first)
    write(two.first)
    site.wait_for_gtid(two.first.gtid_executed)
    assert [uuid for uuid, _ in timelines(site)] == [two.first.server_uuid] * 2
    assert site.status()["alarms"] == []
    two.level()


@pytest.mark.parametrize("how", [pytest.param("restored", marks=pytest.mark.slow), "reset"])
def test_the_source_has_another_history_under_its_uuid(two: Two, tmp_path: Path, how: str) -> None:
    """One binlogd keeps to what it has, another one has been told to keep both."""
    first = two.first
    if how == "restored":
        first.kill()
        shutil.copytree(first.data, tmp_path / "old")
        first.start()
    stops = two.receiver(first)
    goes_on = two.receiver(first, **{"source.on_divergence": "new-timeline"})
    write(first)
    lost = write(first)
    for site in (stops, goes_on):
        site.wait_for_gtid(first.gtid_executed)
    held, before = first.gtid_executed, written(stops.data)
    kept = {path: digest for path, digest in written(goes_on.data).items() if path.endswith(".000001")}

    if how == "restored":
        first.kill()
        shutil.rmtree(first.data)
        shutil.copytree(tmp_path / "old", first.data)
        first.start()
    else:
        first.execute("RESET BINARY LOGS AND GTIDS")

    assert first.server_uuid in alarmed(stops, "source_diverged")["message"]
    assert GtidSet.parse(stops.gtid_executed) == GtidSet.parse(held)
    follows(goes_on, first)
    write(first, 1)
    assert lost <= GtidSet.parse(goes_on.gtid_executed)
    goes_on.wait_until(lambda: len(timelines(goes_on)) == 2, "a second timeline")
    goes_on.wait_for(first)
    goes_on.assert_identical_to(first)
    assert [uuid for uuid, _ in timelines(goes_on)] == [first.server_uuid] * 2
    assert kept.items() <= written(goes_on.data).items()
    assert written(stops.data) == before
