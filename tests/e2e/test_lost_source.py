"""A source that is killed: what the log says of it, and what the alarm tells an operator to type."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from tests.e2e.support import MakeBinlogd, acknowledged_site, logged

pytestmark = pytest.mark.servers

ATTEMPTS = 6  # that fail while the source is away: the first second has four


def the_alarm(binlogd: Binlogd) -> dict[str, Any]:
    def lost() -> list[dict[str, Any]]:
        alarms: list[dict[str, Any]] = binlogd.status()["alarms"]
        return [alarm for alarm in alarms if alarm["code"] == "source_lost"]

    binlogd.wait_until(lambda: bool(lost()), "the alarm source_lost")
    return lost()[0]


def test_what_the_alarm_says_is_typed_at_a_replica_that_is_behind(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    site = acknowledged_site(cluster, binlogd)
    source, ours = site.source, site.binlogd
    replica = cluster.replica(source)
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)")
    replica.wait_for_gtid(source.gtid_executed)
    replica.stop_replica("IO_THREAD")
    source.execute("INSERT INTO d.t VALUES (1), (2)")
    executed = source.gtid_executed
    source.kill()

    ours.wait_until(lambda: ours.status()["source"]["reconnects"] >= ATTEMPTS, f"{ATTEMPTS} attempts")
    (lost,) = logged(ours, "source lost")
    assert lost["level"] == "warning"

    typed, _, rest = the_alarm(ours)["hint"].partition(" at each replica that is behind")
    assert typed.startswith("STOP REPLICA; CHANGE REPLICATION SOURCE TO ") and typed.endswith("; START REPLICA")
    assert "check that mysqld runs there" in rest
    replica.execute(*typed.split("; "))
    replica.wait_for_gtid(executed)
    assert replica.value("SELECT COUNT(*) FROM d.t") == 2

    assert logged(ours, "the source sends again") == []
    source.start()
    ours.wait_until(lambda: bool(logged(ours, "the source sends again")), "a word that it is over")
    (again,) = logged(ours, "the source sends again")
    assert again["source"] == f"{source.host}:{source.port}"
    assert again["attempts"] >= ATTEMPTS and again["lost_for"].endswith("s")
    assert logged(ours, "source lost") == [lost]
    assert ours.status()["alarms"] == []
