"""Replicas of every family: MySQL 5.6 and MariaDB get a source's history, its live tail, its rest when it is lost."""

from __future__ import annotations

import pytest

from testbed.cluster import Cluster, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.e2e.support import MakeBinlogd

pytestmark = pytest.mark.servers


def write(server: Server, *rows: str) -> None:
    server.execute(*(f"INSERT INTO d.t (v) VALUES ('{row}')" for row in rows))


@pytest.mark.parametrize(
    ("family", "auto_position"),
    [
        ("mysql_56", True),
        ("mysql_56", False),
        ("mariadb", False),
        pytest.param("mariadb_10_11", False, marks=pytest.mark.slow),
    ],
)
def test_a_replica_of_that_family(
    request: pytest.FixtureRequest, cluster: Cluster, binlogd: MakeBinlogd, family: str, auto_position: bool
) -> None:
    distribution: Distribution = request.getfixturevalue(family)
    source = cluster.server("source", distribution=distribution)
    first = source.binary_logs()[0].name
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(90))")
    write(source, "history")
    site = binlogd(source)
    site.wait_for(source)

    file = "" if auto_position else first
    replica = cluster.replica((site.host, site.port), "replica", distribution=distribution, file=file)

    def has(*rows: str) -> None:
        def there() -> bool:
            status = replica.replica_status()
            assert not status["Last_IO_Error"], status["Last_IO_Error"]
            assert not status["Last_SQL_Error"], status["Last_SQL_Error"]
            return [row[0] for row in replica.query("SELECT v FROM d.t ORDER BY id")] == list(rows)

        made = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd'"
        site.wait_until(lambda: replica.query(made)[0][0] and there(), f"{rows} at the replica")

    has("history")
    write(source, "live")
    has("history", "live")

    replica.stop_replica()
    write(source, "missed")
    source.execute("FLUSH BINARY LOGS")
    write(source, "missed too")
    site.wait_for(source)
    source.kill()
    replica.start_replica()
    has("history", "live", "missed", "missed too")
    replica.stop_replica()
    source.start()
    assert checksum_all(replica) == checksum_all(source)
