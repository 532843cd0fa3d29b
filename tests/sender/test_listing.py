"""SHOW BINLOG EVENTS and WAIT_FOR_EXECUTED_GTID_SET over a listener with real connections."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.sender import listing as module
from binlogd.sender.catalog import Catalog
from binlogd.sender.conversation import WAIT_PACE
from binlogd.sender.service import LISTINGS
from binlogd.store.publication import Publication
from tests.binlog.making import UUID_A, UUID_B, Log
from tests.cli.support import NEWEST, logs
from tests.sender.listening import WAIT, Listening
from tests.sender.support import published

FIRST = "mysql-bin.000001"


class Receiver:
    """Publishes what it is told to."""

    def __init__(self, first: Publication) -> None:
        self._said = first
        self._more = asyncio.Event()

    async def follow(self) -> AsyncGenerator[Publication | None, None]:
        while True:
            self._more.clear()
            yield self._said
            await self._more.wait()

    def say(self, publication: Publication) -> None:
        self._said = publication
        self._more.set()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    with Listening(tmp_path) as one:
        yield one
        one.until_empty()


def refused(listening: Listening, sql: str) -> tuple[int, str]:
    with pytest.raises(pymysql.err.MySQLError) as error:
        listening.query(sql, user="repl")
    code, text = error.value.args
    return code, text


# --------------------------------------------------------------------------------------------- SHOW BINLOG EVENTS


def test_the_oldest_file_and_a_named_one(listening: Listening) -> None:
    rows = listening.query("SHOW BINLOG EVENTS", user="repl")
    assert rows == listening.query(f"SHOW BINLOG EVENTS IN '{FIRST}'")
    assert [row[0] for row in rows] == [FIRST] * len(rows)
    assert rows[0][1:4] == (4, "Format_desc", rows[0][3])
    assert rows[-1][2:] == ("Rotate", rows[0][3], len(logs()[FIRST]), f"{NEWEST};pos=4")
    assert listening.query(f"SHOW BINLOG EVENTS IN '0001:{FIRST}'") == rows
    assert listening.query("SHOW BINLOG EVENTS FROM 5 LIMIT 1, 2") == rows[2:4]
    assert listening.query(f"SHOW BINLOG EVENTS FROM {rows[6][1] - 1}") == rows[6:]
    assert listening.query("SHOW BINLOG EVENTS LIMIT 0") == rows
    assert listening.query("SHOW BINLOG EVENTS FROM 99999999") == []


def test_only_what_is_published(listening: Listening) -> None:
    rows = listening.query(f"SHOW BINLOG EVENTS IN '{NEWEST}'")
    assert rows[-1][4] == listening.ask(lambda: listening.service.catalog.publication.position) < len(logs()[NEWEST])


@pytest.mark.parametrize("name", ["nope", "", "../x", "/etc/passwd", f"0009:{FIRST}"])
def test_no_such_file(listening: Listening, name: str) -> None:
    code, text = refused(listening, f"SHOW BINLOG EVENTS IN '{name}'")
    assert code == 1220
    assert text.startswith("Error when executing command SHOW BINLOG EVENTS: ")


def test_a_damaged_file_is_shown_up_to_the_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_EVENTS", 3)
    with Listening(tmp_path) as listening:
        rows = listening.query("SHOW BINLOG EVENTS")
        (path,) = tmp_path.rglob(FIRST)
        data = bytearray(path.read_bytes())
        data[rows[5][1] + 20] ^= 1
        path.write_bytes(data)
        code, text = refused(listening, "SHOW BINLOG EVENTS")
        assert (code, f"at position {rows[5][1]}:" in text) == (1220, True)
        assert listening.query("SHOW BINLOG EVENTS LIMIT 5") == rows[:5]


def test_a_client_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    """No more is read than it takes, others are served meanwhile, and KILL ends it."""
    large = Log().begin_file()
    for number in range(1, 301):
        large.statement(number, text=b"CREATE TABLE " + b"x" * 100_000)
    (folder := tmp_path / "binlogs" / f"0001-{UUID_A}").mkdir(parents=True)
    tmp_path.chmod(0o700)
    (folder / FIRST).write_bytes(large.data)
    with _over(tmp_path) as listening:
        steps: list[int] = []
        read = module.Listing.step

        def counted(self: module.Listing) -> Any:
            steps.append(1)
            return read(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.Listing, "step", counted)
            connection = listening.connect(cursorclass=pymysql.cursors.SSCursor)
            # Else the kernel may take all of it for a client that does not read.
            connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            cursor = connection.cursor()
            cursor.execute("SHOW BINLOG EVENTS")
            listening.until(lambda: len(steps) > 0)
            assert listening.query("SELECT 1") == [(1,)]
            assert len(steps) < 50, "not all of it, which is 100 and more"
            listening.query(f"KILL QUERY {connection.thread_id()}")
            with pytest.raises(pymysql.err.MySQLError) as error:
                cursor.fetchall()
            assert error.value.args[0] == 1317
            connection.close()
            gone = listening.connect(cursorclass=pymysql.cursors.SSCursor)
            gone.cursor().execute("SHOW BINLOG EVENTS")
            gone._force_close()
            listening.until_empty()
        rows = listening.query("SHOW BINLOG EVENTS")
        assert rows[-1][4] == len(large.data)
        late = listening.query(f"SHOW BINLOG EVENTS FROM {rows[-3][1]}")
        assert late == rows[-3:]
        listening.until_empty()


def test_a_disk_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a client that went away."""

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Listening(tmp_path) as listening:
        monkeypatch.setattr(module, "read_events", failing)
        code, text = refused(listening, "SHOW BINLOG EVENTS")
        assert (code, FIRST in text) == (1220, True)


def test_which_file_is_meant_is_read_by_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several timelines the ends of files are read for that; and one that is not there ends no conversation."""
    logs_of = logs()
    for number, uuid in ((1, UUID_A), (2, UUID_B)):
        (folder := tmp_path / "binlogs" / f"{number:04}-{uuid}").mkdir(parents=True)
        for name, data in logs_of.items():
            (folder / name).write_bytes(data)
    tmp_path.chmod(0o700)
    with _over(tmp_path) as listening:
        threads: list[int] = []
        announces = Catalog.announces

        def seen(self: Catalog, index: int, name: str) -> bool:
            threads.append(threading.get_ident())
            return announces(self, index, name)

        monkeypatch.setattr(Catalog, "announces", seen)
        asked = f"SHOW BINLOG EVENTS IN '{NEWEST}'"
        refused(listening, asked)
        assert threads and listening.ask(threading.get_ident) not in threads
        for path in tmp_path.rglob(FIRST):
            path.unlink()
        with listening.connect() as connection:
            for _ in range(2):
                with pytest.raises(pymysql.err.MySQLError) as error:
                    connection.query(asked)
                assert error.value.args[0] == 1220
            connection.query("SELECT 1")


def test_few_are_shown_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed transaction takes much to be looked into, for as long as its client does not read."""
    with Listening(tmp_path) as listening:
        read, asked, go_on = module.Listing.step, threading.Semaphore(0), threading.Event()

        def held(self: module.Listing) -> Any:
            asked.release()
            assert go_on.wait(WAIT)
            return read(self)

        monkeypatch.setattr(module.Listing, "step", held)
        with ThreadPoolExecutor(LISTINGS + 1) as pool:
            shown = [pool.submit(listening.query, "SHOW BINLOG EVENTS") for _ in range(LISTINGS)]
            for _ in shown:
                assert asked.acquire(timeout=WAIT)
            late, gone = listening.connect(), listening.connect()
            for connection in (late, gone):
                connection._execute_command(pymysql.constants.COMMAND.COM_QUERY, "SHOW BINLOG EVENTS")
            everybody = listening.service.connections
            listening.until(lambda: sum(c.interruption is not None for c in everybody.values()) == LISTINGS + 2)
            assert not asked.acquire(blocking=False), "they wait"
            gone._force_close()
            listening.query(f"KILL QUERY {late.thread_id()}")
            with pytest.raises(pymysql.err.MySQLError) as error:
                late._read_query_result()
            assert error.value.args[0] == 1317
            another = pool.submit(late.query, "SHOW BINLOG EVENTS")
            go_on.set()
            assert all(one.result(WAIT) for one in shown)
            assert another.result(WAIT)
        late.close()
        listening.until_empty()
        assert listening.ask(lambda: listening.service.listings._value) == LISTINGS


def _over(folder: Path) -> Listening:
    """A listener over the store that is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.sender.listening.make_store", lambda _: None)
        return Listening(folder)


# -------------------------------------------------------------------------------------- WAIT_FOR_EXECUTED_GTID_SET


def test_what_is_there_or_never_comes(listening: Listening) -> None:
    wait = "SELECT WAIT_FOR_EXECUTED_GTID_SET"
    assert listening.query(f"{wait}('{UUID_A}:1-6'), {wait.split()[1]}('', 1) AS x") == [(0, 0)]
    began = time.monotonic()
    assert listening.query(f"{wait}('{UUID_A}:1-7', 0.2), {wait.split()[1]}('{UUID_A}:9', '0.1')") == [(1, 1)]
    assert time.monotonic() - began >= 0.3
    assert listening.query(f"{wait}('{UUID_A}:7') LIMIT 0") == []
    for arguments, code in (
        ("NULL", 1772), ("'x'", 1772), ("5", 1772), (f"'{UUID_A}:1', -1", 1210), ("'', NULL", 1210),
        ("'x', NULL", 1210),
        ("", 1582), ("'', 1, 2", 1582),
    ):  # fmt: skip
        assert refused(listening, f"{wait}({arguments})")[0] == code


def test_many_wait_until_it_is_published(tmp_path: Path) -> None:
    first: Publication | None = None
    receiver: list[Receiver] = []

    async def follow() -> AsyncGenerator[Publication | None, None]:
        assert first is not None
        receiver.append(Receiver(first))
        async for said in receiver[0].follow():
            yield said

    listening = Listening(tmp_path, follow=follow)
    first = published(tmp_path)
    more = replace(first, executed=GtidSet.parse(f"{UUID_A}:1-9"))
    with listening, ThreadPoolExecutor(50) as pool:
        sql = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{UUID_A}:3-9', 60)"
        waiting = [pool.submit(listening.query, sql) for _ in range(50)]
        listening.until(lambda: sum(c.interruption is not None for c in listening.service.connections.values()) == 50)
        assert listening.query("SELECT 1") == [(1,)]
        listening.ask(lambda: receiver[0].say(more))
        assert [one.result(WAIT) for one in waiting] == [[(0,)]] * 50
        listening.until_empty()


def test_waiting_for_very_much_costs_little(tmp_path: Path) -> None:
    """Somebody waits for what never comes, in as many intervals as go into a statement, while others commit."""
    receiver: list[Receiver] = []

    async def follow() -> AsyncGenerator[Publication | None, None]:
        receiver.append(Receiver(first))
        async for said in receiver[0].follow():
            yield said

    listening = Listening(tmp_path, follow=follow)
    first = published(tmp_path)
    much = f"{UUID_A}:1-6:" + ":".join(str(gno) for gno in range(1_000_001, 1_010_001, 2))
    with listening:
        connection = listening.connect()
        connection._execute_command(
            pymysql.constants.COMMAND.COM_QUERY, f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{much}', 60)"
        )
        listening.until(lambda: any(c.interruption for c in listening.service.connections.values()))
        before = listening.ask(time.thread_time)
        for gno in range(7, 57):
            more = replace(first, executed=GtidSet.parse(f"{UUID_A}:1-{gno}"))
            listening.ask(lambda more=more: receiver[0].say(more))  # type: ignore[misc]
            listening.until(lambda more=more: listening.service.catalog.publication is more)  # type: ignore[misc]
            time.sleep(2 * WAIT_PACE)  # it looks no more often than that
        assert listening.ask(time.thread_time) - before < 0.3, "50 looks of 12 ms, were it all looked at each time"
        connection._force_close()
        listening.until_empty()


def test_a_wait_ends_with_its_client_or_by_kill_query(listening: Listening) -> None:
    sql = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{UUID_A}:100')"
    connection = listening.connect()
    errors: list[int] = []

    def ask() -> None:
        try:
            connection.query(sql)
        except pymysql.err.MySQLError as error:
            errors.append(error.args[0])

    asking = threading.Thread(target=ask)
    asking.start()
    listening.until(lambda: any(c.interruption for c in listening.service.connections.values()))
    listening.query(f"KILL QUERY {connection.thread_id()}")
    asking.join(WAIT)
    assert errors == [1317]
    connection.query("SELECT 1")  # and goes on
    connection.close()

    gone = listening.connect()
    gone._execute_command(pymysql.constants.COMMAND.COM_QUERY, sql)
    listening.until(lambda: any(c.interruption for c in listening.service.connections.values()))
    gone._force_close()
    listening.until_empty()
