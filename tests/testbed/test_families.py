"""MariaDB and old MySQL behind the same interface."""

from __future__ import annotations

import os
import subprocess

import pytest

from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster, Load, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import ServerFailed

pytestmark = pytest.mark.servers


@pytest.fixture(params=["mysql_56", "mariadb_10_11", "mariadb"])
def distribution(request: pytest.FixtureRequest) -> Distribution:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Distribution)
    return found


@pytest.mark.parametrize("by_gtid", [True, False])
def test_a_pair_of_the_family_replicates(cluster: Cluster, distribution: Distribution, by_gtid: bool) -> None:
    source = cluster.server("source", distribution=distribution)
    assert source.gtid_executed == ""
    replica = cluster.replica(source, distribution=distribution, file="" if by_gtid else "mysql-bin.000001")
    with Load(source, threads=2, limit=10) as load:
        load.join()

    replica.wait_for_gtid(source.gtid_executed)

    assert load.commits == 20 and load.missing_at(replica) == []
    assert checksum_all(source) == checksum_all(replica)
    assert replica.replica_status()["Replica_IO_Running"] == "Yes"
    assert source.position()[1] == source.binary_logs()[-1].size
    replica.stop_replica()
    assert replica.replica_status()["Replica_IO_Running"] == "No"


def test_old_passwords_work(cluster: Cluster, distribution: Distribution) -> None:
    server = cluster.server(distribution=distribution)
    server.create_user("old", "secret", plugin="mysql_native_password", privileges="SELECT")

    connection = server.connect(user="old", password="secret")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER()")
            assert cursor.fetchone() == ("old@%",)
    finally:
        connection.close()


def test_mariadb_has_semi_sync(cluster: Cluster, mariadb: Distribution) -> None:
    source = cluster.server("source", distribution=mariadb, semi_sync="source")
    cluster.replica(source, distribution=mariadb, semi_sync="replica")
    source.wait_until(lambda: source.query("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'")[0][1] == "1")

    source.execute("CREATE DATABASE d")

    assert source.query("SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")[0][1] == "1"


def test_mysql_56_says_that_it_has_none(cluster: Cluster, mysql_56: Distribution) -> None:
    with pytest.raises(ServerFailed, match="without the semi-sync plugins"):
        cluster.server(distribution=mysql_56, semi_sync="source")


def test_mariadb_programs_log_in_with_new_passwords(cluster: Cluster, mariadb: Distribution) -> None:
    """MySQL 9.7's accounts use caching_sha2_password, for which MariaDB's library needs a plugin of its own."""
    server = cluster.server()

    done = subprocess.run(
        [
            *mariadb.program("mysql"),
            "--no-defaults",
            "--protocol=tcp",
            "--disable-ssl-verify-server-cert",
            f"--host={server.host}",
            f"--port={server.port}",
            f"--user={REPLICATION_USER}",
            f"--password={REPLICATION_PASSWORD}",
            "--batch",
            "--execute=SELECT 1 AS n",
        ],
        env={**os.environ, **mariadb.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("n\n1\n", "")
