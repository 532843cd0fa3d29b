"""The connection to the source, over real TCP."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from binlogd.receiver.link import Link, Stopped, Wake

ENOUGH = 1000  # bytes that are waited for


@pytest.fixture
def connected() -> Iterator[tuple[Link, socket.socket, Wake]]:
    wake = Wake()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        link = Link("127.0.0.1", listening.getsockname()[1], timeout=20.0, wake=wake)
        theirs, _ = listening.accept()
    with theirs:
        yield link, theirs, wake
        link.close()


def test_gathering_waits_for_enough(connected: tuple[Link, socket.socket, Wake]) -> None:
    link, theirs, _ = connected
    theirs.sendall(bytes(ENOUGH - 1))
    link.wait_readable()
    assert not link.gather(ENOUGH, 0.001), "it is readable, but not by that much"
    theirs.sendall(bytes(1))
    assert link.gather(ENOUGH, 20.0)
    assert link.receive_into(memoryview(bytearray(2 * ENOUGH))) == ENOUGH


def test_after_gathering_a_byte_wakes_as_before(connected: tuple[Link, socket.socket, Wake]) -> None:
    link, theirs, _ = connected
    assert not link.gather(ENOUGH, 0.001)
    theirs.sendall(b"x")
    link.wait_readable()
    assert link.receive_into(memoryview(bytearray(10))) == 1


def test_gathering_ends_with_the_connection_and_with_a_wake_up(connected: tuple[Link, socket.socket, Wake]) -> None:
    link, theirs, wake = connected
    theirs.shutdown(socket.SHUT_WR)
    assert link.gather(ENOUGH, 20.0)
    wake.set()
    with pytest.raises(Stopped):
        link.gather(ENOUGH, 20.0)
