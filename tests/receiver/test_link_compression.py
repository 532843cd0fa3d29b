"""binlogd.receiver.link: what a reader sees of compression, over a socket pair; gathering, which only TCP does.

Real servers test connecting.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from binlogd.errors import ProtocolError, Unreachable
from binlogd.receiver.link import RAW, Link, Stopped, Wake
from binlogd.wire.compression import HEADER_SIZE, Algorithm, CompressedStream

ENOUGH = 1000  # bytes that are gathered
TIMEOUT = 0.2  # seconds; short, because it is waited for


class Pair(Link):
    """A link whose other end is ``theirs``."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self.wake = Wake()
        super().__init__("127.0.0.1", 0, timeout=TIMEOUT, wake=self.wake)

    def _connect(self, host: str, port: int) -> socket.socket:
        self._ours.setblocking(False)
        return self._ours


@pytest.fixture
def link() -> Iterator[Pair]:
    pair = Pair()
    with closing(pair), pair.theirs:
        yield pair
    os.close(pair.wake.descriptor)


def packed(data: bytes, sequence: int = 1) -> bytes:
    packet = CompressedStream(Algorithm.ZSTD).pack(data)
    return packet[:3] + bytes([sequence]) + packet[4:]


def dumping(link: Pair) -> Pair:
    """After a dump was asked for, compressed."""
    link.start_compression(Algorithm.ZSTD)
    link.send(b"a command")
    assert link.theirs.recv(100) == b"\x09\0\0\0\0\0\0a command"
    link.begin_dump(semi_sync=False)
    return link


def test_plain_bytes_pass_as_they_are(link: Pair) -> None:
    buffer = memoryview(bytearray(100))
    assert link.receive_into(buffer) is None
    link.theirs.sendall(b"some bytes")
    link.wait_readable()
    assert (link.receive_into(buffer), bytes(buffer[:10])) == (10, b"some bytes")
    link.send(b"an answer")
    assert link.theirs.recv(100) == b"an answer"


def test_none_is_said_only_when_nothing_is_left(link: Pair) -> None:
    """Its callers wait for the socket then, which what is decompressed already would never wake."""
    dumping(link)
    data = os.urandom(100) * 100
    link.theirs.sendall(packed(data[:9000]) + packed(data[9000:], 2)[:-1])
    buffer = memoryview(bytearray(1000))
    got = b""
    while (size := link.receive_into(buffer)) is not None:
        got += buffer[:size]
    assert len(got) >= 9000 and data.startswith(got)
    with pytest.raises(Unreachable, match="was silent"):
        link.wait_readable()
    link.theirs.sendall(packed(data[9000:], 2)[-1:])
    link.wait_readable()
    while (size := link.receive_into(buffer)) is not None:
        got += buffer[:size]
    assert got == data


def test_little_is_taken_from_the_socket_ahead_of_the_reader(link: Pair) -> None:
    dumping(link)
    link.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RAW)
    link.theirs.setblocking(False)
    noise = os.urandom(RAW)
    sent = link.theirs.send(packed(noise) + packed(noise, 2) + packed(noise, 3))
    assert sent > RAW
    assert link.receive_into(memoryview(bytearray(10))) == 10
    assert len(link._socket.recv(sent, socket.MSG_PEEK)) == sent - RAW


def test_an_acknowledgement_is_a_packet_of_its_own(link: Pair) -> None:
    dumping(link)
    for ack in (b"ack 1", b"ack 2"):
        link.send(ack)
        assert link.theirs.recv(100) == b"\x05\0\0\0\0\0\0" + ack


def test_what_is_broken_is_told_after_what_is_sound(link: Pair) -> None:
    dumping(link)
    link.theirs.sendall(packed(b"sound") + packed(b"broken", 5) + packed(b"more", 6))
    buffer = memoryview(bytearray(100))
    assert link.receive_into(buffer) == 5
    for _ in range(2):
        with pytest.raises(ProtocolError, match="sequence id 5 where 2 must follow"):
            link.receive_into(buffer)


def test_a_connection_that_ends_within_a_packet(link: Pair) -> None:
    dumping(link)
    link.theirs.sendall(packed(b"sound")[: HEADER_SIZE + 3])
    link.theirs.shutdown(socket.SHUT_WR)
    buffer = memoryview(bytearray(100))
    assert link.receive_into(buffer) == 3
    with pytest.raises(Unreachable, match="closed the connection"):
        link.receive_into(buffer)


def test_a_wake_ends_the_wait(link: Pair) -> None:
    dumping(link)
    link.wake.set()
    with pytest.raises(Stopped):
        link.wait_readable()


# --- gathering, over TCP ---


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
