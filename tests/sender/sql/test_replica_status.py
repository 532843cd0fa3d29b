"""SHOW REPLICA STATUS: what the receiver says, under MySQL's names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from binlogd.sender.sql import Role
from binlogd.sender.sql.replica_status import COLUMNS

from .support import UUID, Client, some_facts

STATUS: dict[str, Any] = {
    "source": {
        "state": "streaming", "host": "db2", "port": 3307, "server_uuid": UUID, "file": "mysql-bin.000003",
        "position": 700, "last_error": "an old one", "since": 0,
    },
    "orders": {
        "running": True, "by": "configuration", "follow": "first", "tls": "verify-identity", "tls_ca": "/ca.pem",
        "tls_cert": "", "tls_key": "",
        "sources": [{"host": "db1", "port": 3306, "user": "one"}, {"host": "db2", "port": 3307, "user": "two"}],
    },
}  # fmt: skip


def client(answer: dict[str, Any] | None, **facts: Any) -> Client:
    return Client(Role.MONITOR, facts=some_facts(**facts), answer=answer)


def shown(answer: dict[str, Any] | None, statement: str = "SHOW REPLICA STATUS", **facts: Any) -> dict[str, str | None]:
    one = client(answer, **facts)
    row = dict(zip(one.columns(statement), one.row(statement), strict=True))
    assert one.questions[0] == {"ask": "status"}
    return row


def test_while_it_streams() -> None:
    row = shown(STATUS)
    wanted = {
        "Replica_IO_State": "Waiting for source to send event", "Source_Host": "db2", "Source_User": "two",
        "Source_Port": "3307", "Source_Log_File": "mysql-bin.000003", "Read_Source_Log_Pos": "700",
        "Relay_Source_Log_File": "mysql-bin.000002", "Exec_Source_Log_Pos": str(5 * 2**30),
        "Relay_Log_Space": str(1234 + 5 * 2**30), "Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes",
        "Seconds_Behind_Source": "0", "Last_IO_Errno": "0", "Last_IO_Error": "", "Source_UUID": UUID,
        "Retrieved_Gtid_Set": f"{UUID}:1-5", "Executed_Gtid_Set": f"{UUID}:1-5", "Auto_Position": "1",
        "Source_SSL_Allowed": "Yes", "Source_SSL_Verify_Server_Cert": "Yes", "Source_SSL_CA_File": "/ca.pem",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert shown(STATUS, gtid_mode="OFF")["Auto_Position"] == "0"


@pytest.mark.parametrize(
    ("state", "running", "io", "error"),
    [
        ("connecting", True, "Connecting", True),
        ("backoff", True, "Connecting", True),
        ("failed", True, "Connecting", True),
        ("stopped", False, "No", True),
        ("streaming", False, "No", True),  # told to stop, and not there yet
    ],
)
def test_while_it_does_not(state: str, running: bool, io: str, error: bool) -> None:
    source = STATUS["source"] | {"state": state, "last_errno": 2003, "since": 1_800_000_000}
    row = shown({"source": source, "orders": STATUS["orders"] | {"running": running}})
    assert (row["Replica_IO_Running"], row["Replica_SQL_Running"]) == (io, "Yes" if running else "No")
    assert row["Seconds_Behind_Source"] is None
    assert (row["Last_IO_Errno"], row["Last_IO_Error"]) == ("2003", "an old one")
    assert row["Last_IO_Error_Timestamp"] == time.strftime("%y%m%d %H:%M:%S", time.localtime(1_800_000_000))
    assert row["Replica_IO_State"] == ("Connecting to source" if running else "")


@pytest.mark.parametrize(("answer", "what"), [(None, "no receiver runs"), ({"source": {}}, "another version")])
def test_without_a_receiver(answer: Any, what: str) -> None:
    row = shown(answer)
    assert row["Replica_IO_Running"] == "No"
    assert row["Last_IO_Errno"] != "0"
    assert what in (row["Last_IO_Error"] or "")
    assert row["Executed_Gtid_Set"] == f"{UUID}:1-5"


def test_the_old_names() -> None:
    """Those of MySQL 8 and older, as far as a version has them; 5.6's: test_against_old_servers.py."""
    row = shown(STATUS, "SHOW SLAVE STATUS FOR CHANNEL ''")
    assert len(row) == len(COLUMNS)
    assert not [name for name in row if "Source" in name or "Replica_" in name]
    old = (
        "Slave_IO_State Master_Host Master_User Master_Port Master_Log_File Read_Master_Log_Pos Relay_Master_Log_File"
        " Slave_IO_Running Slave_SQL_Running Exec_Master_Log_Pos Master_SSL_Verify_Server_Cert Seconds_Behind_Master"
        " Master_Server_Id Master_UUID Master_Info_File Slave_SQL_Running_State Master_Retry_Count Master_Bind"
        " Master_SSL_Crlpath Master_TLS_Version Master_public_key_path Get_master_public_key"
    )
    assert set(old.split()) <= set(row)


@pytest.mark.parametrize(
    ("version", "last"),
    [
        ("5.6.24", "Auto_Position"),
        ("5.7.44", "Master_TLS_Version"),
        ("8.0.21", "Get_master_public_key"),
        ("8.0.22", "Network_Namespace"),
    ],
)
def test_the_old_names_end_where_a_version_ends(version: str, last: str) -> None:
    facts = {"version": f"{version}-binlogd"}
    assert [*shown(STATUS, "SHOW SLAVE STATUS", **facts)][-1] == last
    assert len(shown(STATUS, **facts)) == len(COLUMNS)


def test_before_the_first_event_it_stands_at_the_end_of_the_store() -> None:
    row = shown({"source": STATUS["source"] | {"file": "", "position": 0}, "orders": STATUS["orders"]})
    assert (row["Source_Log_File"], row["Read_Source_Log_Pos"]) == ("mysql-bin.000002", str(5 * 2**30))


def test_who_may_ask() -> None:
    assert Client(Role.REPLICA).code("SHOW REPLICA STATUS") == 1227
    assert client(STATUS).code("SHOW REPLICA STATUS FOR CHANNEL 'other'") == 3074
