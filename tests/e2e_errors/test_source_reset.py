"""A source that is reset while binlogd is attached: nothing of its new history is stored.

With every family of servers, with GTIDs and without. What keeps silent is seen beside the stream (receiver/scout.py);
what goes on with a file of the new history is seen where the old one ends (receiver/stream.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load
from testbed.distributions import Distribution
from testbed.mysqld import Option, Server
from testbed.proxy import DOWN, UP, Proxy
from tests.e2e.conftest import binlogd  # noqa: F401
from tests.e2e.roles import alarmed
from tests.e2e.support import MakeBinlogd
from tests.e2e_errors.support import written

pytestmark = pytest.mark.servers

WITHOUT_GTIDS: dict[str, Option] = {"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF"}
NOTICED = "it is asked to prove"


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of servers, and how its sources are made and reset."""

    fixture: str
    reset: str
    options: dict[str, Option]


KINDS = {
    "MySQL": Kind("mysql", "RESET BINARY LOGS AND GTIDS", {}),
    "MySQL without GTIDs": Kind("mysql", "RESET BINARY LOGS AND GTIDS", WITHOUT_GTIDS),
    "MySQL 5.6 without GTIDs": Kind("mysql_56", "RESET MASTER", WITHOUT_GTIDS),
    "MariaDB": Kind("mariadb", "RESET MASTER", {}),
}


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def source(request: pytest.FixtureRequest, cluster: Cluster, kind: Kind) -> Server:
    distribution: Distribution = request.getfixturevalue(kind.fixture)
    source = cluster.server(distribution=distribution, options=kind.options)
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200))")
    return source


def write(server: Server, rows: int = 5) -> None:
    server.execute(*["INSERT INTO d.t (b) VALUES ('some of what a transaction says')"] * rows)


def attached(binlogd: MakeBinlogd, source: Server | tuple[str, int], server: Server) -> Binlogd:  # noqa: F811
    """A binlogd that has all that ``server`` has, and to which that has said so."""
    site = binlogd(source, **{"source.semi_sync": False, "source.heartbeat": "100ms"})
    site.wait_for_position(*server.position())
    site.wait_until(lambda: site.status()["source"]["lag_seconds"] == 0, "heartbeat")
    return site


def asked(way: Proxy) -> int:
    """How often a source was asked where it stands; the connection must be in clear."""
    assert way.recorded is not None
    return sum(bytes(way.recorded[UP]).count(f"SHOW {what} STATUS".encode()) for what in ("BINARY LOG", "MASTER"))


@pytest.mark.parametrize(
    "kind",
    [
        "MySQL without GTIDs",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("MariaDB", "MySQL 5.6 without GTIDs")),
    ],
    indirect=True,
)
def test_a_reset_source_that_says_nothing(kind: Kind, source: Server, binlogd: MakeBinlogd) -> None:  # noqa: F811
    """It begins the same file again, and its dump waits for more of the old one."""
    write(source)
    site = attached(binlogd, source, source)
    before = written(site.data)
    source.execute(kind.reset)
    said = alarmed(site, "source_diverged")["message"]
    assert "mysql-bin.000001" in said
    assert f"the source stands before what it has sent: {NOTICED} its history" in site.log
    assert written(site.data) == before


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=pytest.mark.slow if "5.6" in name else ()) for name in KINDS],
    indirect=True,
)
def test_a_reset_source_that_soon_has_as_many_files(
    kind: Kind,
    source: Server,
    binlogd: MakeBinlogd,  # noqa: F811
) -> None:
    """Its dump goes on with the second file of the new history behind the first of the old one."""
    write(source)
    site = attached(binlogd, source, source)
    before = written(site.data)
    source.execute(kind.reset, "FLUSH BINARY LOGS")
    write(source)
    assert "mysql-bin.000001" in alarmed(site, "source_diverged")["message"]
    assert written(site.data) == before


@pytest.mark.slow
def test_a_reset_source_that_is_caught_up_with(
    cluster: Cluster,
    binlogd: MakeBinlogd,  # noqa: F811
    proxy: Callable[..., Proxy],
) -> None:
    """Its dump goes from a finished file of the old history to the next of the new one: the alarm comes afterwards."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
    source.execute("SET GLOBAL max_allowed_packet = 64 << 20")
    source.execute(*["INSERT INTO d.t (b) VALUES (REPEAT('x', 16 << 20))"] * 2, "FLUSH BINARY LOGS")
    way = proxy(source.host, source.port)
    way.stall(DOWN, at=8 << 20)
    site = binlogd((way.host, way.port), start=False, **{"source.semi_sync": False, "source.tls": "disabled"})
    site.start()
    way.wait_for_bytes(8 << 20)
    source.execute(
        "RESET BINARY LOGS AND GTIDS", "FLUSH BINARY LOGS", "INSERT INTO d.t (b) VALUES ('of the new history')"
    )
    way.resume()
    said = alarmed(site, "source_diverged")["message"]
    if NOTICED not in site.log:  # else a look at the source came first
        assert "not of the history of what it sent before" in said
        assert f"{source.server_uuid}:2-4" in said


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_files_that_end_with_a_server(kind: Kind, source: Server, binlogd: MakeBinlogd) -> None:  # noqa: F811
    """Killed, stopped, and while we are away: nothing says that the next file follows, and it is received."""
    site = binlogd(source, **{"source.semi_sync": False})
    for end in (source.kill, source.stop, source.kill):
        write(source)
        end()
        source.start()
        write(source)
        source.execute("FLUSH BINARY LOGS")
        site.wait_for_position(*source.position())
    site.stop()
    for end in (source.kill, source.stop):
        write(source)
        end()
        source.start()
    site.start()
    site.wait_for_position(*source.position())
    assert site.stored() == [log.name for log in source.binary_logs()]
    assert NOTICED not in site.log


@pytest.mark.parametrize(
    "kind",
    ["MySQL without GTIDs", pytest.param("MariaDB", marks=pytest.mark.slow)],
    indirect=True,
)
def test_no_false_alarm(kind: Kind, source: Server, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]) -> None:  # noqa: F811
    """Under load, while files are begun and purged, and while we lag, the looks find nothing."""
    source.execute(f"SET GLOBAL max_binlog_size = {256 * 1024}")
    way, nobody = proxy(source.host, source.port, record=True), proxy(source.host, source.port)
    nobody.refuse()
    # Of several that are to be writable the source is looked at once a second.
    hosts = [f"{each.host}:{each.port}" for each in (way, nobody)]
    quiet = {"source.semi_sync": False, "source.tls": "disabled", "source.hosts": hosts}
    site = binlogd((way.host, way.port), **quiet)
    with Load(source, threads=4, payload_bytes=2000) as load:
        while asked(way) < 6:
            files = {source.position()[0]}
            source.wait_until(lambda: source.position()[0] not in files, what="another file")  # noqa: B023
            site.wait_for_position(*source.position())
            source.execute(f"PURGE BINARY LOGS TO '{source.binary_logs()[-1].name}'")
        load.stop()
    site.wait_for_position(*source.position())
    status = site.status()["source"]
    assert (status["state"], status["reconnects"]) == ("streaming", 0)
    assert NOTICED not in site.log


@pytest.mark.slow
def test_who_may_not_ask_where_the_source_stands_leaves_it_at_that(
    cluster: Cluster,
    binlogd: MakeBinlogd,  # noqa: F811
    proxy: Callable[..., Proxy],
) -> None:
    source = cluster.server(options=WITHOUT_GTIDS)
    source.create_user("alone", "secret", privileges="REPLICATION SLAVE")
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200))")
    write(source)
    way = proxy(source.host, source.port, record=True)
    account = {"source.user": "alone", "source.password": "secret"}
    site = binlogd((way.host, way.port), **account, **{"source.semi_sync": False, "source.tls": "disabled"})
    site.wait_for_position(*source.position())
    source.execute("RESET BINARY LOGS AND GTIDS")
    begun = asked(way)
    site.wait_until(lambda: asked(way) >= begun + 2, "two looks")
    status = site.status()
    assert (status["source"]["state"], status["source"]["reconnects"]) == ("streaming", 0)
    assert [alarm["code"] for alarm in status["alarms"]] == []


def test_semi_sync_that_is_switched_at_a_mariadb(cluster: Cluster, mariadb: Distribution, binlogd: MakeBinlogd) -> None:  # noqa: F811
    source = cluster.server(distribution=mariadb, semi_sync="source")
    site = binlogd(source)
    for switch in ("OFF", "ON"):
        source.execute(f"SET GLOBAL rpl_semi_sync_master_enabled = {switch}")
        site.wait_until(lambda: site.status()["source"]["semi_sync"] is (switch == "ON"), f"semi-sync {switch}")  # noqa: B023
