"""The proxy forwards faithfully, and misbehaves at the byte it was told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.proxy import CHUNK, DOWN, UP, Cut, Direction, Proxy

DATA = bytes(range(256)) * 1024  # four times what the proxy reads at once


class Echo:
    """Sends back what it gets, and ends when the client does."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(CHUNK):
                    connection.sendall(piece)
            except OSError:
                return  # the proxy cut us off, as the test told it to

    def close(self) -> None:
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def through(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port, record=True) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=10)


def receive(connection: socket.socket, count: int) -> bytes:
    """Up to ``count`` bytes: fewer only when the stream ends."""
    got = bytearray()
    while len(got) < count and (piece := connection.recv(count - len(got))):
        got += piece
    return bytes(got)


def exchange(proxy: Proxy, data: bytes) -> bytes:
    """Send ``data`` from a thread, half-close, and return all that comes back."""
    with connect(proxy) as connection:

        def send() -> None:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                return  # cut off

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return receive(connection, len(data) + 1)
        finally:
            sender.join()


def test_bytes_pass_unchanged_and_are_counted(through: Proxy) -> None:
    assert exchange(through, DATA) == DATA
    assert exchange(through, b"more") == b"more"

    assert through.bytes == {UP: len(DATA) + 4, DOWN: len(DATA) + 4}
    assert through.recorded is not None
    assert bytes(through.recorded[UP]) == bytes(through.recorded[DOWN]) == DATA + b"more"
    assert through.accepted == 2


def test_cut_resets_all_connections_but_not_later_ones(through: Proxy) -> None:
    with connect(through) as first, connect(through) as second:
        for connection in (first, second):
            connection.sendall(b"x")
            assert receive(connection, 1) == b"x"
        assert through.connections == 2

        assert through.cut() == 2

        for connection in (first, second):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert through.connections == 0
    assert exchange(through, b"again") == b"again"


def test_cut_with_fin_is_an_orderly_end(through: Proxy) -> None:
    with connect(through) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        assert (through.forwarded(UP), through.forwarded(DOWN)) == (1, 1)

        through.cut(Cut.FIN)

        assert connection.recv(1) == b""


@pytest.mark.parametrize("offset", [1, 777, CHUNK, CHUNK + 1, len(DATA) - 1])
def test_cut_after_lets_exactly_that_many_bytes_pass_once(through: Proxy, offset: int) -> None:
    through.cut_after(offset, DOWN, Cut.FIN)
    with connect(through) as connection:
        sender = threading.Thread(target=lambda: _send_until_cut(connection, DATA))
        sender.start()
        got = _receive_until_cut(connection)
        sender.join()

    assert got == DATA[:offset]
    assert through.bytes[DOWN] == offset
    assert exchange(through, DATA) == DATA


def _send_until_cut(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return


def _receive_until_cut(connection: socket.socket) -> bytes:
    """All bytes until the end; the kernel resets after a FIN when it still got data from us."""
    got = bytearray()
    try:
        while piece := connection.recv(CHUNK):
            got += piece
    except ConnectionResetError:
        pass
    return bytes(got)


def test_cut_after_counts_upwards_too(through: Proxy) -> None:
    through.cut_after(5, UP)
    with connect(through) as connection:
        connection.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            receive(connection, 10)
    assert through.recorded is not None
    assert bytes(through.recorded[UP]) == b"01234"


@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("direction", [UP, DOWN])
def test_each_connection_is_cut_at_its_own_offset(through: Proxy, direction: Direction, how: Cut) -> None:
    offsets = [3, 0, 1, 7]
    with connect(through) as old:
        old.sendall(b"x")
        assert receive(old, 1) == b"x"
        through.cut_each(offsets, direction, how)
        for left, offset in zip((3, 2, 1, 0), offsets, strict=True):
            before = through.bytes[direction]
            with suppress(ConnectionResetError), connect(through) as connection:  # of a cut at 0, at once
                _send_until_cut(connection, b"0123456789")
                _receive_until_cut(connection)
            assert through.bytes[direction] - before == offset
            assert through.cuts_left == left
        old.sendall(b"y")
        assert receive(old, 1) == b"y", "it was there before"
    assert exchange(through, DATA) == DATA


@pytest.mark.parametrize("direction", [UP, DOWN, None])
def test_a_frozen_connection_is_forgotten_and_later_ones_live(through: Proxy, direction: Direction | None) -> None:
    with connect(through) as connection:
        connection.sendall(b"a")
        assert receive(connection, 1) == b"a"

        assert through.freeze(direction) == 1

        connection.sendall(b"b")
        assert exchange(through, b"another") == b"another"
        passed = {UP: 1 + 7, DOWN: 1 + 7}
        if direction is DOWN:
            through.wait_for_bytes(passed[UP] + 1, UP)  # the other direction still works
            passed[UP] += 1
        assert through.bytes == passed
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        through.resume()
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_an_end_is_forgotten_too(echo: Echo, through: Proxy) -> None:
    with connect(through) as connection:
        connection.sendall(b"a")
        assert receive(connection, 1) == b"a"
        through.freeze(UP)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_pace(through: Proxy) -> None:
    through.pace(1, 0.01)
    with connect(through) as connection:
        began = time.monotonic()
        connection.sendall(b"0123456789")
        assert receive(connection, 10) == b"0123456789"
        assert time.monotonic() - began >= 0.09
        assert exchange(through, b"both") == b"both", "one that waits does not hold up another"
        through.pace(0, 0)
        connection.sendall(DATA)
        assert receive(connection, len(DATA)) == DATA


@pytest.mark.parametrize("offset", [0, 100, CHUNK, len(DATA) - 1])
def test_bytes_put_in(through: Proxy, offset: int) -> None:
    through.insert_at(offset, b"surprise", DOWN)
    with connect(through) as connection:
        sender = threading.Thread(target=lambda: connection.sendall(DATA))
        sender.start()
        assert receive(connection, len(DATA) + 8) == DATA[:offset] + b"surprise" + DATA[offset:]
        sender.join()
    assert exchange(through, DATA) == DATA


def test_a_stall_keeps_the_connection_and_resume_delivers(through: Proxy) -> None:
    with connect(through) as connection:
        connection.sendall(b"a")
        assert receive(connection, 1) == b"a"
        through.stall(DOWN)
        connection.sendall(b"b")
        through.wait_for_bytes(2, UP)  # the other direction still works
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)

        through.resume()

        assert receive(connection, 1) == b"b"


def test_a_stall_at_an_offset_stops_exactly_there(through: Proxy) -> None:
    through.stall(DOWN, at=3)
    with connect(through) as connection:
        connection.sendall(b"012345")
        assert receive(connection, 3) == b"012"
        through.wait_for_bytes(6, UP)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)

        through.resume()

        assert receive(connection, 3) == b"345"


def test_a_stalled_receiver_holds_up_the_sender(through: Proxy) -> None:
    through.stall(UP)
    with connect(through) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.sendall(bytes(64 << 20))  # more than the kernel's buffers take
    assert through.bytes[UP] == 0


@pytest.mark.parametrize("offset", [0, 100, CHUNK - 1, CHUNK, len(DATA) - 1])
def test_corrupt_at_flips_one_byte_of_one_connection(through: Proxy, offset: int) -> None:
    through.corrupt_at(offset, DOWN, xor=0x80)

    got = exchange(through, DATA)

    assert [i for i in range(len(DATA)) if got[i] != DATA[i]] == [offset]
    assert got[offset] == DATA[offset] ^ 0x80
    assert exchange(through, DATA) == DATA


def test_corrupt_by_function_until_it_is_taken_away(through: Proxy) -> None:
    through.corrupt(lambda offset, piece: piece.replace(b"good", b"evil"), UP)
    assert exchange(through, b"a good word") == b"a evil word"

    through.corrupt(None, UP)
    assert exchange(through, b"a good word") == b"a good word"


def test_refuse_and_accept(through: Proxy) -> None:
    with connect(through) as old:
        old.sendall(b"1")
        assert receive(old, 1) == b"1"
        through.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(through)
        old.sendall(b"2")
        assert receive(old, 1) == b"2"

    through.accept()
    assert exchange(through, b"3") == b"3"


def test_a_dead_target_resets_the_client(echo: Echo, through: Proxy) -> None:
    echo.close()

    def connect_and_read() -> None:
        with connect(through) as connection:  # is reset itself when the proxy is quick
            connection.recv(1)

    with pytest.raises(ConnectionResetError):
        connect_and_read()
    assert through.accepted == 0


def test_new_connections_go_to_the_new_target(through: Proxy) -> None:
    other = Echo()
    through.corrupt(lambda offset, piece: piece.upper(), UP)
    assert exchange(through, b"first") == b"FIRST"
    through.retarget("127.0.0.1", other.port)
    assert exchange(through, b"second") == b"SECOND"
    other.close()


def test_a_closed_proxy_is_gone(through: Proxy) -> None:
    through.close()
    through.close()
    with pytest.raises(ConnectionRefusedError):
        connect(through)
    with pytest.raises(RuntimeError):
        through.cut()


@pytest.mark.servers
def test_a_replica_recovers_from_a_cut(cluster: Cluster) -> None:
    source = cluster.server("source")
    with Proxy(source.host, source.port) as proxy:
        replica = cluster.replica((proxy.host, proxy.port), user=REPLICATION_USER, password=REPLICATION_PASSWORD)
        source.execute("CREATE DATABASE one")
        replica.wait_for_gtid(source.gtid_executed)
        before = proxy.accepted

        proxy.cut()
        source.execute("CREATE DATABASE two")
        replica.wait_for_gtid(source.gtid_executed)

        assert proxy.accepted > before
        assert replica.query("SHOW DATABASES LIKE 'two'") == [("two",)]
