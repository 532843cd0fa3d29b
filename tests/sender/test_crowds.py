"""Thousands who come and go, at every stage of a conversation, and who never read: nothing of them stays.

binlogd serves here as a process of its own, so that its descriptors and its memory are its alone.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from binlogd.control.sockets import SENDER, ask_status
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.commands import BinlogDump, Query
from binlogd.wire.packets import encode_packets
from testbed.binlogd import Binlogd
from tests.cli.support import NEWEST, make_store
from tests.sender.test_listener import ended

WAIT = 60.0
WORKERS = 8
WARM = 160  # visitors after which everything that is made once has been made
GROWN = 4 * 2**20  # bytes: a conversation that stays holds 10 KiB and more, so 2,000 would show five times this
UNREAD = 100  # answers that are asked for and never read


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Binlogd]:
    """A sender without a receiver. BINLOGD_DEBUG lets us look at it without being root."""
    monkeypatch.setenv("BINLOGD_DEBUG", "1")
    one = Binlogd(tmp_path / "b", ("127.0.0.1", 1), mode="serve")
    make_store(one.data)
    one.start()
    yield one
    one.close()
    assert "Traceback" not in one.log
    assert '"level": "error"' not in one.log


def descriptors(binlogd: Binlogd) -> int:
    return len(os.listdir(f"/proc/{binlogd.pid}/fd"))


def resident(binlogd: Binlogd) -> int:
    return int(Path(f"/proc/{binlogd.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quiet(binlogd: Binlogd) -> int:
    """Wait until nobody is connected; how many descriptors there are then."""
    deadline = time.monotonic() + WAIT
    while (status := ask_status(binlogd.data / SENDER)) is None or status["connections"]:
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    before = -1
    while (now := descriptors(binlogd)) != before:  # our own question's connection may be closing
        before = now
        time.sleep(0.05)
    return now


def connected(binlogd: Binlogd) -> socket.socket:
    client = socket.create_connection(binlogd.address, timeout=WAIT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def logged_in(binlogd: Binlogd, client: socket.socket) -> ClientConnection:
    connection = ClientConnection(user=binlogd.user, password=binlogd.password, tls=TlsPolicy.DISABLED)
    while connection.state is not ClientState.READY:
        connection.receive(client.recv(65536))
        if data := connection.data_to_send():
            client.sendall(data)
    return connection


def reset(client: socket.socket) -> None:
    """It ends without a farewell of TCP."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def before_the_greeting(_binlogd: Binlogd, client: socket.socket) -> None:
    reset(client)


def at_the_greeting(_binlogd: Binlogd, client: socket.socket) -> None:
    client.recv(4)


def in_half_a_packet(_binlogd: Binlogd, client: socket.socket) -> None:
    client.sendall(b"\x20\x00\x00\x01\x05")


def in_tls(binlogd: Binlogd, client: socket.socket) -> None:
    connection = ClientConnection(user=binlogd.user, password="x", tls=TlsPolicy.REQUIRED)
    while connection.state is not ClientState.WANT_TLS:
        connection.receive(client.recv(65536))
    client.sendall(connection.data_to_send())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    client.sendall(outgoing.read())
    client.recv(1)


def logged_in_and_gone(binlogd: Binlogd, client: socket.socket) -> None:
    logged_in(binlogd, client)


def in_half_a_command(binlogd: Binlogd, client: socket.socket) -> None:
    logged_in(binlogd, client)
    client.sendall(b"\xff\xff\x00\x00\x03SELECT")
    reset(client)


def in_a_dump(binlogd: Binlogd, client: socket.socket) -> None:
    connection = logged_in(binlogd, client)
    connection.start_dump(BinlogDump(file=NEWEST, position=4, flags=0, server_id=7).encode())
    client.sendall(connection.data_to_send())
    assert client.recv(64)


def shut_down_and_read_on(binlogd: Binlogd, client: socket.socket) -> None:
    logged_in(binlogd, client)
    client.shutdown(socket.SHUT_WR)
    assert ended(client)


STAGES: tuple[Callable[[Binlogd, socket.socket], None], ...] = (
    before_the_greeting,
    at_the_greeting,
    in_half_a_packet,
    in_tls,
    logged_in_and_gone,
    in_half_a_command,
    in_a_dump,
    shut_down_and_read_on,
)


def visit(binlogd: Binlogd, count: int) -> None:
    """So many come, each to a stage of its own, and go."""

    def one(number: int) -> None:
        with connected(binlogd) as client:
            STAGES[number % len(STAGES)](binlogd, client)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, range(count)))


@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_who_come_and_go_leave_nothing(serving: Binlogd, count: int) -> None:
    visit(serving, WARM)
    before, memory = quiet(serving), resident(serving)
    visit(serving, count)
    assert quiet(serving) == before
    assert resident(serving) - memory < GROWN
    assert serving.query("SELECT @@port") == [(serving.port,)]


def test_those_who_never_read_hold_up_nobody_and_leave_nothing(serving: Binlogd) -> None:
    """They ask, and do not take the answers: what waits for each is one answer and what the kernel holds."""
    visit(serving, WARM)
    before, memory = quiet(serving), resident(serving)
    question = encode_packets(Query("SHOW VARIABLES").encode(), 0)[0]
    clients = []
    for _ in range(10):
        client = connected(serving)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        logged_in(serving, client)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.sendall(question * UNREAD)
        clients.append(client)
    assert serving.query("SELECT @@port") == [(serving.port,)]
    assert resident(serving) - memory < 10 * 2**20, "1 MiB a client is the design's limit"
    for client in clients:
        client.close()
    assert quiet(serving) == before
