"""A channel over a real connection, plain and TLS, on both event loops: what goes out at once, and what later."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from binlogd.sender.certificates import tls_context
from binlogd.sender.channel import Channel
from binlogd.store.disk import Disk
from tests.sender.support import PATIENCE, trusting

MIB = 1 << 20
MORE_THAN_FITS = random.Random(3).randbytes(12 * MIB)  # than the buffers of loopback take

Loop = Callable[[], asyncio.AbstractEventLoop]


def _loops() -> Iterator[Loop]:
    yield asyncio.new_event_loop
    with suppress(ImportError):
        import uvloop

        yield uvloop.new_event_loop


@pytest.fixture(params=[pytest.param(loop, id=loop.__module__.partition(".")[0]) for loop in _loops()])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Of either event loop."""
    with asyncio.Runner(loop_factory=request.param) as one:
        yield one


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """The server's side of TLS."""
    folder: Path = tmp_path_factory.mktemp("tls")
    return tls_context(folder, Disk(), certificate=None, key=None)


Body = Callable[[Channel, socket.socket], Awaitable[None]]


def talk(runner: asyncio.Runner, body: Body, *, tls: ssl.SSLContext | None = None) -> None:
    """Run the body with a channel, and the socket at its other end, which blocks: use it in threads."""

    async def connected() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(listening.getsockname())
            accepted, _ = listening.accept()
            channel = Channel(accepted)
            try:
                async with asyncio.timeout(PATIENCE):
                    if tls is None:
                        await body(channel, client)
                        return
                    wrapped, _ = await asyncio.gather(
                        asyncio.to_thread(trusting().wrap_socket, client), channel.start_tls(tls, b"")
                    )
                    with wrapped:
                        await body(channel, wrapped)
            finally:
                channel.close()

    runner.run(connected())


def take(client: socket.socket, size: int) -> bytes:
    """So many bytes of what comes."""
    taken = bytearray()
    while len(taken) < size:
        data = client.recv(MIB)
        assert data
        taken += data
    return bytes(taken)


encrypted = pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])


@encrypted
def test_what_there_is_room_for_goes_out_at_once(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        assert channel.encrypted is tls
        for data in (b"a" * 100, memoryview(b"b" * 100)):
            assert channel.put(data)
        await channel.drained(0.0)
        assert await asyncio.to_thread(take, client, 200) == b"a" * 100 + b"b" * 100

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_the_rest_goes_out_when_there_is_room(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        taking = asyncio.create_task(asyncio.to_thread(take, client, len(MORE_THAN_FITS) + 300))
        await channel.drained(PATIENCE)
        for _ in range(3):
            assert channel.put(b"c" * 100)
        assert await taking == MORE_THAN_FITS + b"c" * 300

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_what_was_offered_is_free_again(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        data = bytearray(MORE_THAN_FITS)
        assert not channel.offer(memoryview(data))
        data[:] = bytes(len(data))
        taking = asyncio.create_task(asyncio.to_thread(take, client, len(data)))
        await channel.drained(PATIENCE)
        assert await taking == MORE_THAN_FITS

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_sending_follows_the_rest(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        taking = asyncio.create_task(asyncio.to_thread(take, client, len(MORE_THAN_FITS) + 3))
        await channel.send(b"end", PATIENCE)
        assert (await taking)[-3:] == b"end"

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_a_client_that_takes_nothing(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            await channel.send(MORE_THAN_FITS, 0.05)
        with pytest.raises(TimeoutError):
            await channel.drained(0.05)

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_a_client_that_goes_away_with_the_rest_to_come(
    runner: asyncio.Runner, context: ssl.SSLContext, tls: bool
) -> None:
    """Whether somebody waits for it or asks later."""

    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        waiting = asyncio.create_task(channel.drained(PATIENCE))
        await asyncio.sleep(0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(OSError):
            await waiting
        with pytest.raises(OSError):
            await channel.drained(PATIENCE)

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_closing_with_the_rest_to_come(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        descriptor = channel._socket.fileno()
        channel.close()
        assert not asyncio.get_running_loop().remove_writer(descriptor)
        with suppress(ConnectionError, ssl.SSLError):
            while await asyncio.to_thread(client.recv, MIB):
                pass

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_waiting_may_be_given_up(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        waiting = asyncio.create_task(channel.drained(PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        taking = asyncio.create_task(asyncio.to_thread(take, client, len(MORE_THAN_FITS)))
        await channel.drained(PATIENCE)
        assert await taking == MORE_THAN_FITS

    talk(runner, body, tls=context if tls else None)


@encrypted
def test_receiving_meanwhile(runner: asyncio.Runner, context: ssl.SSLContext, tls: bool) -> None:
    async def body(channel: Channel, client: socket.socket) -> None:
        receiving = asyncio.create_task(channel.receive())
        await asyncio.sleep(0)
        assert not channel.put(MORE_THAN_FITS)
        await asyncio.to_thread(client.sendall, b"hello")
        assert await receiving == b"hello"
        taking = asyncio.create_task(asyncio.to_thread(take, client, len(MORE_THAN_FITS)))
        await channel.drained(PATIENCE)
        assert await taking == MORE_THAN_FITS
        client.shutdown(socket.SHUT_RDWR)
        assert await channel.receive() == b""

    talk(runner, body, tls=context if tls else None)


def test_what_tls_has_to_say_itself_follows_the_rest(runner: asyncio.Runner, context: ssl.SSLContext) -> None:
    """As an answer to a key update would; nothing more is read until it is gone."""

    async def body(channel: Channel, client: socket.socket) -> None:
        assert not channel.put(MORE_THAN_FITS)
        assert channel._tls is not None
        channel._tls.write(b"its own")
        receiving = asyncio.create_task(channel.receive())
        await asyncio.to_thread(client.sendall, b"hello")
        assert not (await asyncio.wait([receiving], timeout=0.05))[0]
        taken = await asyncio.to_thread(take, client, len(MORE_THAN_FITS) + 7)
        assert taken == MORE_THAN_FITS + b"its own"
        assert await receiving == b"hello"

    talk(runner, body, tls=context)


def test_a_client_hears_why_tls_fails(runner: asyncio.Runner, context: ssl.SSLContext) -> None:
    """Not a connection that ends without a word, which nobody can tell from a broken network."""
    old = trusting()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("aNULL:@SECLEVEL=0")  # none that has a certificate
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    async def body(channel: Channel, client: socket.socket) -> None:
        connecting = asyncio.create_task(asyncio.to_thread(old.wrap_socket, client))
        with pytest.raises(ssl.SSLError):
            await channel.start_tls(context, b"")
        channel.close()
        with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
            await connecting

    talk(runner, body)
