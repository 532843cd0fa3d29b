"""User variables and their bounds, and what a replica announces through them."""

from __future__ import annotations

import pytest

from binlogd.errors import Refusal
from binlogd.sender.sql import Announcement, SessionState, announcement
from binlogd.sender.sql.session import MAX_USER_VARIABLE_BYTES, MAX_USER_VARIABLES

from .support import UUID, Client

NOTHING = Announcement(
    heartbeat_period=None,
    binlog_checksum=None,
    replica_uuid=None,
    semi_sync=False,
    mariadb_capability=0,
    slave_connect_state=None,
    slave_until_gtid=None,
    slave_gtid_strict_mode=False,
    slave_gtid_ignore_duplicates=False,
    timeline=None,
)


@pytest.fixture
def session() -> SessionState:
    return SessionState(7, "repl", "10.0.0.1")


def test_names_have_no_case_and_unset_ones_are_null(session: SessionState) -> None:
    session.set_user_variables({"Slave_UUID": "x"})
    assert session.user_variable("slave_uuid") == "x"
    assert session.user_variable("SLAVE_UUID") == "x"
    assert session.user_variable("other") is None


def test_the_number_of_variables_is_bounded(session: SessionState) -> None:
    session.set_user_variables({f"v{number}": 1 for number in range(MAX_USER_VARIABLES)})
    session.set_user_variables({"v0": 2})
    with pytest.raises(Refusal, match="at most 256 user variables") as caught:
        session.set_user_variables({"v0": 3, "one_more": 1})
    assert caught.value.code == 1041
    assert session.user_variable("v0") == 2


def test_the_size_of_variables_is_bounded_in_bytes(session: SessionState) -> None:
    session.set_user_variables({"a": "€" * (MAX_USER_VARIABLE_BYTES // 3 - 10)})
    with pytest.raises(Refusal, match="bytes of user variables"):
        session.set_user_variables({"b": "€" * 20})
    session.set_user_variables({"a": None})
    session.set_user_variables({"b": "€" * 20})


def test_reset_forgets_everything(session: SessionState) -> None:
    client = Client(session=session)
    client.ok("SET @slave_uuid = 'x', autocommit = 0")
    client.code("nonsense")
    session.database = "d"
    session.reset()
    assert announcement(session) == NOTHING
    assert client.row("SELECT @@autocommit, DATABASE()") == ("1", None)
    assert session.diagnostics == ()


def test_nothing_said_is_nothing_announced(session: SessionState) -> None:
    assert announcement(session) == NOTHING


@pytest.mark.parametrize(
    ("assignments", "field", "value"),
    [
        ("@master_heartbeat_period= 1000000000", "heartbeat_period", 1_000_000_000),
        ("@source_heartbeat_period = 5, @master_heartbeat_period = 6", "heartbeat_period", 5),
        ("@master_heartbeat_period = 0", "heartbeat_period", 0),
        ("@master_heartbeat_period = 1500000000.7", "heartbeat_period", 1_500_000_000),
        ("@master_heartbeat_period = '30'", "heartbeat_period", 30),
        ("@master_heartbeat_period = 'x'", "heartbeat_period", 0),
        ("@master_heartbeat_period = -5", "heartbeat_period", 0),
        ("@master_binlog_checksum = 'NONE'", "binlog_checksum", "NONE"),
        ("@master_binlog_checksum = @@global.binlog_checksum", "binlog_checksum", "CRC32"),
        ("@source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'NONE'", "binlog_checksum", "CRC32"),
        (f"@slave_uuid= '{UUID}'", "replica_uuid", UUID),
        (f"@slave_uuid = 'old', @replica_uuid = '{UUID}'", "replica_uuid", UUID),
        ("@rpl_semi_sync_slave= 1", "semi_sync", True),
        ("@rpl_semi_sync_replica = 1", "semi_sync", True),
        ("@rpl_semi_sync_replica = 0, @rpl_semi_sync_slave = 1", "semi_sync", False),
        ("@mariadb_slave_capability=4", "mariadb_capability", 4),
        ("@slave_connect_state='0-1-5,1-2-6'", "slave_connect_state", "0-1-5,1-2-6"),
        ("@slave_connect_state=''", "slave_connect_state", ""),
        ("@slave_until_gtid='0-1-9'", "slave_until_gtid", "0-1-9"),
        ("@slave_gtid_strict_mode=1", "slave_gtid_strict_mode", True),
        ("@slave_gtid_ignore_duplicates=1", "slave_gtid_ignore_duplicates", True),
        ("@binlogd_timeline = '0002'", "timeline", "0002"),
        ("@binlogd_timeline = 2", "timeline", "2"),
    ],
)
def test_announcements(client: Client, assignments: str, field: str, value: object) -> None:
    client.ok(f"SET {assignments}")
    announced = announcement(client.session)
    assert getattr(announced, field) == value
    unset = [name for name in Announcement.__slots__ if name != field]
    assert all(getattr(announced, name) == getattr(NOTHING, name) for name in unset)
