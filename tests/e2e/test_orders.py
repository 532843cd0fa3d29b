"""The source is changed while binlogd runs: by statement and by an edited configuration; over restarts; no secret told.

The same server is reached at its own address and through proxies, so that another source is another way to it and what
is received through each can be counted.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from testbed.binlogd import Binlogd
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.mysqld import Server
from testbed.proxy import Proxy
from tests.e2e.support import MakeBinlogd, assert_same_history, logged

pytestmark = pytest.mark.servers

MARK = "Hidden-Marker-5e20"
OVERRIDE = "source.override.json"


class Admin:
    """One connection to the listener, as its admin."""

    def __init__(self, binlogd: Binlogd) -> None:
        self._connection = binlogd.connect(cursorclass=pymysql.cursors.DictCursor)

    def __call__(self, sql: str) -> list[dict[str, Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def notes(self, sql: str) -> list[int]:
        self(sql)
        return [row["Code"] for row in self("SHOW WARNINGS")]

    def code(self, sql: str) -> int:
        with pytest.raises(pymysql.MySQLError) as caught:
            self(sql)
        return int(caught.value.args[0])

    def status(self) -> dict[str, Any]:
        (row,) = self("SHOW REPLICA STATUS")
        return row

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def source(cluster: Cluster) -> Server:
    server = cluster.server("source")
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY)")
    return server


def streams_through(binlogd: Binlogd, address: tuple[str, int]) -> None:
    def streams() -> bool:
        told = binlogd.status()["source"]
        return (told["state"], told["host"], told["port"]) == ("streaming", *address)

    binlogd.wait_until(streams, f"a stream from {address}")


def insert(source: Server) -> None:
    source.execute("INSERT INTO d.t VALUES ()")


def test_another_source_by_statement(
    source: Server, binlogd: MakeBinlogd, proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    way = proxy(source.host, source.port)
    source.create_user("other", MARK, privileges="REPLICATION SLAVE, REPLICATION CLIENT")
    one = binlogd(source)
    admin = Admin(one)
    assert one.status()["source"]["port"] == source.port
    change = f"CHANGE REPLICATION SOURCE TO SOURCE_PORT={way.port}, SOURCE_USER='other', SOURCE_PASSWORD='{MARK}'"

    # As a replica of MySQL: not while it receives.
    assert admin.code(change) == 3021
    assert admin.code("RESET REPLICA ALL") == 3081
    assert admin.notes("START REPLICA") == [3083]
    assert admin.notes("STOP REPLICA") == []
    assert admin.notes("STOP REPLICA") == [3084]
    one.wait_until(lambda: one.status()["source"]["state"] == "stopped", "a receiver at rest")
    assert [alarm["code"] for alarm in one.status()["alarms"]] == ["receiving_stopped"]
    source.wait_until(lambda: not source.query("SHOW REPLICAS"), what="no replica")
    before = one.published
    insert(source)
    assert admin.status()["Replica_IO_Running"] == "No"

    # It holds over a restart of everything, and of the receiver alone.
    admin.close()
    assert one.stop() == 0
    one.start()
    assert (one.status()["source"]["state"], one.published) == ("stopped", before)
    one.kill_child("receive")
    one.wait_answering()
    assert (one.status()["source"]["state"], one.published) == ("stopped", before)

    admin = Admin(one)
    assert admin.notes(change) == []
    assert admin.notes("START REPLICA") == []
    streams_through(one, (source.host, way.port))
    one.wait_for(source)
    assert way.connections >= 1
    status = admin.status()
    file, position = source.position()
    assert (status["Source_Host"], status["Source_Port"], status["Source_User"]) == (source.host, way.port, "other")
    assert (status["Source_Log_File"], status["Read_Source_Log_Pos"]) == (file, position)
    assert (status["Relay_Source_Log_File"], status["Exec_Source_Log_Pos"]) == (file, position)
    assert (status["Replica_IO_Running"], status["Replica_SQL_Running"]) == ("Yes", "Yes")
    assert (status["Source_UUID"], status["Auto_Position"]) == (source.server_uuid, 1)
    assert status["Executed_Gtid_Set"] == status["Retrieved_Gtid_Set"] == source.gtid_executed
    assert status["Last_IO_Errno"] == 0

    kept = one.data / OVERRIDE
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    admin.close()
    assert one.stop() == 0
    insert(source)
    one.start()
    streams_through(one, (source.host, way.port))
    one.wait_for(source)
    assert "what was ordered by statement counts, not the configuration" in one.log

    # The password is in that file, and nowhere else.
    admin = Admin(one)
    shown = str(admin("SHOW FULL PROCESSLIST")) + str(admin.status()) + json.dumps(one.status())
    assert MARK not in shown
    for path in one.folder.rglob("*"):
        if path.is_file() and path != kept and path.suffix != ".pem":
            assert (MARK.encode() in path.read_bytes()) is False, path

    admin("STOP REPLICA")
    assert admin.notes("RESET REPLICA ALL") == [1105]
    assert admin.status()["Source_Port"] == source.port
    admin("START REPLICA")
    streams_through(one, (source.host, source.port))
    assert not kept.exists()
    assert_same_history(source, one)
    admin.close()


@pytest.mark.slow
def test_a_source_that_is_gone_is_said_and_changed(
    source: Server, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]
) -> None:
    way = proxy(source.host, source.port)
    one = binlogd((way.host, way.port))
    admin = Admin(one)
    way.refuse()
    way.cut()
    one.wait_until(lambda: admin.status()["Last_IO_Error"], "an error")
    status = admin.status()
    assert status["Replica_IO_Running"] == "Connecting"
    assert status["Last_IO_Errno"] > 0
    assert re.fullmatch(r"\d{6} \d\d:\d\d:\d\d", status["Last_IO_Error_Timestamp"])
    (old,) = admin("SHOW SLAVE STATUS")
    assert (old["Master_Port"], old["Slave_IO_Running"]) == (way.port, "Connecting")

    admin("STOP REPLICA")
    admin(f"CHANGE REPLICATION SOURCE TO SOURCE_PORT = {source.port}")
    admin("START REPLICA")
    streams_through(one, (source.host, source.port))
    admin.close()


def test_an_order_that_waits_holds_up_nobody_and_shows_no_password(source: Server, binlogd: MakeBinlogd) -> None:
    one = binlogd(source)
    admin, other = Admin(one), Admin(one)
    admin("STOP REPLICA")
    change = f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PASSWORD = '{MARK}'"
    with ThreadPoolExecutor(1) as pool:
        with one.paused("receive"):
            waiting = pool.submit(admin, change)
            shown = one.wait_until(
                lambda: [row["Info"] for row in other("SHOW FULL PROCESSLIST") if "CHANGE" in (row["Info"] or "")],
                "the statement in the list",
            )
            assert not waiting.done()
        waiting.result(30)
    assert shown == [f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PASSWORD = <secret>"]
    one.kill_child("receive")
    one.wait_answering()
    assert [alarm["code"] for alarm in one.status()["alarms"]] == ["receiving_stopped"]
    assert one.stop() == 0
    one.start("serve")
    alone = Admin(one)
    assert alone.code("START REPLICA") == 1201, "there is no receiver that could be told"
    for each in (admin, other, alone):
        each.close()


def edit(binlogd: Binlogd, **settings: Any) -> None:
    """The configuration's file with other values, and SIGHUP."""
    binlogd.settings |= {key.replace("__", "."): value for key, value in settings.items()}
    (binlogd.folder / "binlogd.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in binlogd.settings.items())
    )
    os.kill(binlogd.pid, signal.SIGHUP)


def test_an_edited_configuration(source: Server, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]) -> None:
    way, other = proxy(source.host, source.port), proxy(source.host, source.port)
    one = binlogd(source)
    pids = one.halves()
    edit(one, source__hosts=[f"{way.host}:{way.port}"])
    streams_through(one, (way.host, way.port))

    # What is wrong is said, and changes nothing.
    edit(one, source__follow="nobody")
    one.wait_until(lambda: logged(one, "the configuration is wrong; the one before goes on to count"), "a complaint")
    assert one.status()["source"]["port"] == way.port

    # Who may log in, and the rest of the listener's that may change; what may not is named.
    users = [
        {"name": REPLICATION_USER, "password": REPLICATION_PASSWORD, "role": "admin"},
        {"name": "watcher", "password": MARK, "role": "monitor"},
    ]
    inline = "[" + ", ".join("{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in u.items()) + "}" for u in users) + "]"
    one.settings["source.follow"] = "first"
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in one.settings.items())
    text = text.replace(f'"{one.host}:{one.http_port}"', '"127.0.0.1:0"')
    configuration = one.folder / "binlogd.toml"
    configuration.write_text(f'{text}server.users = {inline}\nserver.max_connections = 7\nstore.durability = "os"\n')
    os.kill(one.pid, signal.SIGHUP)

    def let_in() -> list[str]:
        reloads = logged(one, "the configuration was reloaded")
        return list(reloads[-1]["users"]) if reloads else []

    one.wait_until(lambda: let_in() == ["repl", "watcher"], "users")
    watcher = one.connect(user="watcher", password=MARK)
    with watcher.cursor() as cursor:
        cursor.execute("SELECT @@max_connections")
        assert cursor.fetchone() == (7,)
        with pytest.raises(pymysql.MySQLError) as caught:
            cursor.execute("STOP REPLICA")
        assert caught.value.args[0] == 1227
    watcher.close()

    def named() -> set[str]:
        lines = logged(one, "what was changed here counts after a restart")
        return {key for line in lines for key in line["keys"]}

    one.wait_until(lambda: named() == {"http.listen", "store.durability"}, "what needs a restart")

    # A statement counts until the source section is edited.
    admin = Admin(one)
    admin("STOP REPLICA")
    admin(f"CHANGE REPLICATION SOURCE TO SOURCE_PORT = {other.port}")
    admin("START REPLICA")
    admin.close()
    streams_through(one, (other.host, other.port))
    edit(one, source__hosts=[f"{source.host}:{source.port}"])
    streams_through(one, (source.host, source.port))
    assert not (one.data / OVERRIDE).exists()
    assert one.halves() == pids, "nothing was restarted"
    assert MARK not in one.log
    assert_same_history(source, one)
