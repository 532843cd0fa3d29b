"""The bytes to and from one client, plain or TLS, with backpressure.

A client sends its SSLRequest and, without waiting, the first bytes of TLS, so until then nothing is read beyond the
packet at hand.

*Sending* is one system call as long as the kernel has room: no task switch, no timer. What it had no room for is the
channel's *rest*; it goes out by a callback whenever the socket is writable, and whoever sent waits for that, once
(``drained``). Nothing is sent behind a rest until it is gone.

*TLS* is OpenSSL between two memory buffers, so that what is encrypted for one ``put`` is on its way before the next
begins: a channel holds what it was given once, encrypted, whatever the client does. (OpenSSL on the socket itself
saves the copy through memory, and costs more: a system call for each record of 16 KiB.) Reading may make TLS want to
say something of its own, an answer to a key update; it goes out at once, or behind the rest, before more is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

READ_SIZE = 64 * 1024  # bytes read from a client at a time: commands are small


class Channel:
    """One accepted connection. Raises OSError when it is gone, TimeoutError when it does not move.

    One task may send while another receives.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._rest = memoryview(b"")  # what the kernel has not taken yet; not empty: the socket is watched
        self._waiting: list[asyncio.Future[None]] = []  # for the rest to be gone
        self._failure: OSError | None = None  # what ended the sending of the rest

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on."""
        return self._tls is not None

    async def receive(self, limit: int = READ_SIZE) -> bytes:
        """Some bytes, at most ``limit``; b"" when the client has closed."""
        size = min(max(limit, 1), READ_SIZE)
        if self._tls is None:
            return await self._loop.sock_recv(self._socket, size)
        while True:
            try:
                data = self._tls.read(size)
            except ssl.SSLWantReadError:
                await self._flush()
                encrypted = await self._loop.sock_recv(self._socket, READ_SIZE)
                if not encrypted:
                    return b""  # closed without a farewell, as MySQL's clients do
                self._incoming.write(encrypted)
            except ssl.SSLZeroReturnError:
                return b""
            else:
                return data

    def put(self, data: bytes | memoryview) -> bool:
        """Send without waiting. False: not all is gone, and ``data`` must stay as it is until ``drained``."""
        if self._tls is None:
            assert not self._rest
            return self._push(data)
        self._tls.write(data)  # into memory: it takes all
        return self._push_encrypted()

    def offer(self, data: bytes | memoryview) -> bool:
        """As ``put``, but ``data`` is free again at once: a rest is copied."""
        done = self.put(data)
        if not done and self._tls is None:
            self._rest = memoryview(bytes(self._rest))
        return done

    async def drained(self, timeout: float | None) -> None:
        """Until all that was put is gone, at most ``timeout`` seconds."""
        if self._failure is not None:
            raise self._failure
        if not self._rest:
            return
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        timer = self._loop.call_later(timeout, _expire, waiter) if timeout is not None else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def send(self, data: bytes | memoryview, timeout: float) -> None:
        """All of ``data``, behind what was put before, within ``timeout`` seconds."""
        await self.drained(timeout)
        if not self.put(data):
            await self.drained(timeout)

    async def start_tls(self, context: ssl.SSLContext, first: bytes) -> None:
        """TLS from here on; ``first`` is what was read behind the SSLRequest."""
        self._incoming.write(first)
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                encrypted = await self._loop.sock_recv(self._socket, READ_SIZE)
                if not encrypted:
                    raise ConnectionResetError("closed during the TLS handshake") from None
                self._incoming.write(encrypted)
            except ssl.SSLError:
                self._push_encrypted()  # the alert, by which the client knows what it did wrong
                raise
            else:
                break
        await self._flush()
        self._tls = tls

    def close(self) -> None:
        """Drop the connection, without waiting for the client to agree."""
        if self._rest:
            self._loop.remove_writer(self._socket)
            self._rest = memoryview(b"")
        self._socket.close()

    async def _flush(self) -> None:
        """Send what TLS has to say of its own accord."""
        if self._outgoing.pending and not self._push_encrypted():
            await self.drained(None)

    def _push_encrypted(self) -> bool:
        if self._rest:
            return False  # what is in ``_outgoing`` follows it
        encrypted = self._outgoing.read()
        return self._push(encrypted)

    def _push(self, data: bytes | memoryview) -> bool:
        """Give the kernel what it takes of ``data``; the others become the rest."""
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent == len(data):
            return True
        self._rest = memoryview(data)[sent:]
        self._loop.add_writer(self._socket, self._writable)
        return False

    def _writable(self) -> None:
        """The kernel has room again."""
        try:
            self._rest = self._rest[self._socket.send(self._rest) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as bad:
            self._failure = bad
        else:
            if not self._rest and self._outgoing.pending:
                self._rest = memoryview(self._outgoing.read())
            if self._rest:
                return
        self._loop.remove_writer(self._socket)
        self._rest = memoryview(b"")
        for waiter in self._waiting:
            if waiter.done():
                continue
            if self._failure is not None:
                waiter.set_exception(self._failure)
            else:
                waiter.set_result(None)
        self._waiting.clear()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
