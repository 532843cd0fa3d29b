"""What connections share: who may come in, who is there, and whose dump ends when another begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from binlogd.errors import Refusal
from binlogd.sender.dump import Dump
from binlogd.sender.service import Connection, Service
from binlogd.sender.sql.backend import BinaryLog
from binlogd.sender.sql.statements import KillTarget
from binlogd.wire.commands import RegisterReplica
from tests.binlog.making import UUID_A, UUID_B
from tests.cli.support import NEWEST, logs, make_store
from tests.sender.listening import IDENTITY, make_service


class Sending:
    """What a service asks of a dump."""

    def __init__(self, lag: int = 0) -> None:
        self.sent_bytes = 1000
        self.sent_events = 10
        self.place = (NEWEST, 700)
        self.reading = (1, NEWEST)
        self.last_event_time = 99
        self._lag = lag

    def lag_bytes(self) -> int:
        return self._lag


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Over a small store that was read."""
    make_store(tmp_path)
    service = make_service(tmp_path)
    service.catalog.read()
    return service


def dumping(service: Service, *, uuid: str = "", server_id: int = 0, lag: int = 0) -> Connection:
    """A new connection with a dump."""
    connection = service.open_connection("10.0.0.7", 40_000 + len(service.connections))
    dump = cast(Dump, Sending(lag))
    service.begin_dump(connection, dump, uuid=uuid, server_id=server_id, mode="gtid" if uuid else "position")
    return connection


# ------------------------------------------------------------------------------------------------- the zombie rule


@pytest.mark.parametrize(
    ("older", "newer", "ends", "word"),
    [
        ((UUID_A, 7), (UUID_A, 7), True, "server_uuid"),
        ((UUID_A, 7), (UUID_A, 8), True, "server_uuid"),  # a restored replica whose server_id was changed
        ((UUID_A, 7), (UUID_B, 7), False, ""),  # two servers that nobody gave ids of their own
        (("", 7), ("", 7), True, "server_id"),
        (("", 7), ("", 8), False, ""),
        ((UUID_A, 7), ("", 7), False, ""),  # with and without a UUID: not the same program
        (("", 7), (UUID_A, 7), False, ""),
        (("", 0), ("", 0), False, ""),  # mysqlbinlog has server_id 0; any number of them may run
    ],
)
def test_a_newer_dump_of_the_same_replica_ends_the_older(
    service: Service, older: tuple[str, int], newer: tuple[str, int], ends: bool, word: str
) -> None:
    first = dumping(service, uuid=older[0], server_id=older[1])
    bystander = dumping(service, uuid="6e11fa47-71ca-11e1-9e33-c80aa9429562", server_id=99)
    second = dumping(service, uuid=newer[0], server_id=newer[1])
    assert (first.killed, bystander.killed, second.killed) == (ends, False, False)
    if ends:
        assert first.killed_why is not None
        assert (first.killed_why.code, first.killed_why.message) == (
            1236,
            "A replica with the same server_uuid/server_id as this replica has connected to the source",
        )


def test_a_connection_that_does_not_dump_is_nobodys_zombie(service: Service) -> None:
    first = dumping(service, uuid=UUID_A, server_id=7)
    first.dump = None
    dumping(service, uuid=UUID_A, server_id=7)
    assert not first.killed


# ---------------------------------------------------------------------------------------------------- connections


def test_numbers_of_connections(service: Service) -> None:
    first, second = service.open_connection("10.0.0.7", 1), service.open_connection("10.0.0.7", 2)
    assert (first.id, second.id, service.accepted) == (1, 2, 2)
    service.close_connection(first)
    assert service.open_connection("10.0.0.7", 3).id == 3
    service._next_id = 0xFFFFFFFF  # COM_PROCESS_KILL and the greeting have four bytes for it
    assert service.open_connection("10.0.0.7", 4).id == 0xFFFFFFFF
    assert service.open_connection("10.0.0.7", 5).id == 1


def test_closing_twice_is_closing_once(service: Service) -> None:
    connection = dumping(service, uuid=UUID_A)
    assert service.sent_bytes() == 1000
    service.close_connection(connection)
    assert (service.connections, service.sent_bytes()) == ({}, 1000)


def test_what_was_sent_goes_on_to_count(service: Service) -> None:
    """Also when the connection stays, as after a dump that does not wait."""
    first = dumping(service, uuid=UUID_A, server_id=7)
    service.end_dump(first)
    assert (service.sent_bytes(), service.sent_events(), first.dump) == (1000, 10, None)
    service.close_connection(first)
    dumping(service, uuid=UUID_A, server_id=7)
    other = dumping(service, uuid=UUID_B, server_id=7)
    assert (service.sent_bytes(), service.sent_events()) == (3000, 30)
    assert [replica["sent_bytes_before"] for replica in service.snapshot()["replicas"]] == [1000, 0]
    service.close_connection(other)
    assert service.sent_bytes() == 3000


def test_replicas_that_are_remembered_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binlogd.sender.service.REMEMBERED", 2)
    for server_id in (1, 2, 1, 3):
        service.close_connection(dumping(service, server_id=server_id))
    assert {server_id: sent for (server_id, *_), sent in service.sent_before.items()} == {1: 2000, 3: 1000}
    assert service.sent_bytes() == 4000


def test_users(service: Service) -> None:
    user = service.find_user("repl", "10.0.0.7")
    assert user is not None
    assert user.account.name == "repl"
    assert service.find_user("elsewhere", "10.0.0.7") is None
    assert service.find_user("absent", "10.0.0.7") is None
    assert "S3CRET" not in repr(user)


def test_kill(service: Service) -> None:
    idle, sending = service.open_connection("10.0.0.7", 1), dumping(service, uuid=UUID_A)
    service.kill(idle.id, KillTarget.QUERY)
    assert not idle.killed, "it has no statement to end"
    service.kill(sending.id, KillTarget.QUERY)
    service.kill(idle.id, KillTarget.CONNECTION)
    assert (idle.killed, idle.killed_why) == (True, None)
    assert (sending.killed, sending.killed_why) == (True, None)
    with pytest.raises(Refusal, match="Unknown thread id: 99") as error:
        service.kill(99, KillTarget.CONNECTION)
    assert error.value.code == 1094


# ---------------------------------------------------------------------------------------------- what it says of itself


def test_names_of_files_and_timelines(service: Service, tmp_path: Path) -> None:
    assert service.facts().binlogd_timelines() == service.catalog.timelines()[0].path.name
    old = service.catalog.timelines()[0].source_uuid
    for number, name in ((2, NEWEST), (3, NEWEST), (3, "mysql-bin.000003")):
        folder = tmp_path / "binlogs" / f"{number:04}-{UUID_B}"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(logs()["mysql-bin.000001"])
    (tmp_path / "binlogs" / f"0004-{UUID_A}").mkdir()
    service.catalog.read()
    assert [log.name for log in service.binary_logs()] == [
        "mysql-bin.000001",
        f"0001:{NEWEST}",
        f"0002:{NEWEST}",
        f"0003:{NEWEST}",
        "mysql-bin.000003",
    ]
    assert service.facts().binlogd_timelines() == f"0001-{old},0002-{UUID_B},0003-{UUID_B}", "those that have files"


def test_what_is_stored(service: Service) -> None:
    first, newest = service.binary_logs()
    assert first == BinaryLog("mysql-bin.000001", len(logs()["mysql-bin.000001"]))
    status = service.binary_log_status()
    assert status is not None
    assert (newest.name, newest.size) == (status.file, status.position) == (NEWEST, status.position)
    assert status.gtid_executed == f"{UUID_A}:1-6"
    facts = service.facts()
    assert (facts.version, facts.server_id, facts.server_uuid) == (
        "8.0.36-binlogd",
        IDENTITY.server_id,
        IDENTITY.server_uuid,
    )
    assert (facts.gtid_executed(), facts.gtid_purged(), facts.binlog_checksum) == (f"{UUID_A}:1-6", "", "CRC32")
    assert (facts.log_bin_basename, facts.log_bin_index, facts.port) == ("mysql-bin", "mysql-bin.index", 3307)


def test_nothing_is_stored(tmp_path: Path) -> None:
    service = make_service(tmp_path)
    service.catalog.read()
    assert list(service.binary_logs()) == []
    assert service.binary_log_status() is None
    assert service.version() == "8.0.0-binlogd"
    assert service.facts().gtid_executed() == ""


def test_replicas_that_registered(service: Service) -> None:
    dumping(service, uuid=UUID_B, server_id=8)
    connection = dumping(service, uuid=UUID_A, server_id=7)
    connection.registered = RegisterReplica(server_id=7, host="replica7", user="", password="", port=3306)
    (replica,) = service.replicas()
    assert (replica.server_id, replica.host, replica.port, replica.source_id, replica.replica_uuid) == (
        7,
        "replica7",
        3306,
        IDENTITY.server_id,
        UUID_A,
    )


def test_the_process_list(service: Service) -> None:
    login = service.open_connection("10.0.0.7", 1)
    idle = service.open_connection("::1", 2)
    idle.user = "admin"
    idle.working("Query", "SHOW PROCESSLIST")
    behind, done = dumping(service, uuid=UUID_A, lag=5), dumping(service, uuid=UUID_B)
    rows = {row.id: row for row in service.processlist()}
    assert rows[login.id].user == "unauthenticated user"
    assert (rows[idle.id].user, rows[idle.id].command, rows[idle.id].info) == ("admin", "Query", "SHOW PROCESSLIST")
    assert rows[idle.id].state is None
    assert rows[behind.id].state == "Sending binlog event to replica"
    assert rows[done.id].state == "Source has sent all binlog to replica; waiting for more updates"
    assert service.status()["Threads_connected"] == "4"


def test_a_snapshot(service: Service) -> None:
    service.open_connection("10.0.0.7", 1)
    connection = dumping(service, uuid=UUID_A, server_id=7, lag=5)
    connection.user, connection.program, connection.version = "repl", "mysqld", "9.7.4"
    service.refused = 2
    snapshot: dict[str, Any] = service.snapshot()
    (replica,) = snapshot.pop("replicas")
    published = snapshot.pop("published")
    assert snapshot.pop("damaged") == []
    assert snapshot.pop("oldest") == service.catalog.oldest
    assert snapshot.pop("serving_s") == 0, "nobody is let in yet"
    assert snapshot.pop("reading") == [(1, NEWEST)]
    assert snapshot == {
        "connections": 2,
        "max_connections": service.max_connections,
        "connections_accepted": 2,
        "logins_refused": 2,
        "sent_bytes": 1000,
        "sent_events": 10,
    }
    assert published["file"] == NEWEST
    assert replica == {
        "id": connection.id,
        "user": "repl",
        "host": "10.0.0.7",
        "port": connection.port,
        "report_host": "",
        "server_id": 7,
        "server_uuid": UUID_A,
        "program": "mysqld",
        "version": "9.7.4",
        "mode": "gtid",
        "file": NEWEST,
        "position": 700,
        "sent_bytes": 1000,
        "sent_bytes_before": 0,
        "lag_bytes": 5,
        "last_event_time": 99,
        "since": connection.since,
        "tls": False,
    }
