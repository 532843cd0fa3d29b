"""The bytes to and from one client, plain or TLS, with backpressure: ``send`` returns when the kernel has it all.

A client sends its SSLRequest and, without waiting, the first bytes of TLS, so until then nothing is read beyond the
packet at hand. TLS is OpenSSL between two memory buffers: what is encrypted for one ``send`` is on its way before
the next begins, so a channel holds one block, whatever the client does. Reading may make TLS want to say something of
its own (a key update); it goes out at once, in turn with what is sent.
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
        self._sending = asyncio.Lock()

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

    async def send(self, data: bytes | memoryview, timeout: float) -> None:
        """All of ``data``, within ``timeout`` seconds."""
        async with asyncio.timeout(timeout), self._sending:
            if self._tls is None:
                await self._loop.sock_sendall(self._socket, data)
            else:
                self._tls.write(data)  # into memory: it takes all
                await self._send_encrypted()

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
            else:
                break
        await self._flush()
        self._tls = tls

    def close(self) -> None:
        """Drop the connection, without waiting for the client to agree."""
        self._socket.close()

    async def _flush(self) -> None:
        """Send what TLS has to say of its own accord."""
        if self._outgoing.pending:
            async with self._sending:
                await self._send_encrypted()

    async def _send_encrypted(self) -> None:
        encrypted = self._outgoing.read()
        if encrypted:
            await self._loop.sock_sendall(self._socket, encrypted)
