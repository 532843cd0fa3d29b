"""What is typed at a replica whose source is lost: for each kind of store, and each address."""

from __future__ import annotations

import platform

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.control.failing_over import out_of_reach, statements
from binlogd.store.publication import NOTHING, Publication
from tests.binlog.making import UUID_A

GTIDS = GtidSet.parse(f"{UUID_A}:1-5")


def after(version: str = "9.7.4", executed: GtidSet = GTIDS, listen: str = "10.0.0.9:3307") -> str:
    return statements(Publication(1, "a.000001", 300, executed, GtidSet(), version).encode(), listen)


def test_with_gtids() -> None:
    expected = (
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='10.0.0.9', SOURCE_PORT=3307, SOURCE_AUTO_POSITION=1;"
        " START REPLICA"
    )
    assert [after(version) for version in ("9.7.4", "8.0.23", "8.4.0-0ubuntu", "")] == [expected] * 4


@pytest.mark.parametrize("version", ["5.6.24", "5.7.44-log", "8.0.22"])
def test_servers_that_know_the_old_spelling_alone(version: str) -> None:
    assert after(version) == (
        "STOP SLAVE; CHANGE MASTER TO MASTER_HOST='10.0.0.9', MASTER_PORT=3307, MASTER_AUTO_POSITION=1; START SLAVE"
    )


def test_without_gtids_the_replica_knows_the_place() -> None:
    text = after(executed=GtidSet())
    assert "SOURCE_LOG_FILE='<its Relay_Source_Log_File>', SOURCE_LOG_POS=<its Exec_Source_Log_Pos>; START" in text
    text = after("10.11.6-MariaDB-log", GtidSet())
    assert "MASTER_LOG_FILE='<its Relay_Master_Log_File>', MASTER_LOG_POS=<its Exec_Master_Log_Pos>; START" in text


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        ("0.0.0.0:3307", platform.node()),
        ("[::]:3307", platform.node()),
        ("[::1]:3307", "::1"),
        ("db9:3307", "db9"),
        ("SOURCE-1.Source.REPLICA:3307", "SOURCE-1.Source.REPLICA"),
    ],
)
def test_the_host(listen: str, host: str) -> None:
    assert f"SOURCE_HOST='{host}', SOURCE_PORT=3307," in after(listen=listen)
    assert f"MASTER_HOST='{host}', MASTER_PORT=3307," in after("5.7.44", listen=listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:3307", "127.0.0.9:3307", "[::1]:3307", "localhost:3307"])
def test_a_listener_that_other_machines_do_not_reach(listen: str) -> None:
    assert out_of_reach(listen).startswith(f"server.listen is {listen}, which leads a replica on another machine")


@pytest.mark.parametrize("listen", ["0.0.0.0:3307", "[::]:3307", "10.0.0.9:3307", "db9:3307"])
def test_one_that_they_reach(listen: str) -> None:
    assert out_of_reach(listen) == ""


def test_where_nothing_is_stored_nothing_is_to_be_had() -> None:
    assert statements(None, "10.0.0.9:3307") == statements(NOTHING.encode(), "10.0.0.9:3307") == ""
