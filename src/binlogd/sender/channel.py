"""The bytes to and from one client, plain or TLS, with backpressure: ``send`` returns when the kernel has it all.

A client sends its SSLRequest and, without waiting, the first bytes of TLS, so until then nothing is read beyond the
packet at hand. Plain connections stay on the bare socket, which saves a copy of everything that is sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

READ_SIZE = 64 * 1024  # bytes read from a client at a time: commands are small


class Channel:
    """One accepted connection. Raises ConnectionError when it is gone, TimeoutError when it does not move."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connection
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on."""
        return self._writer is not None

    async def receive(self, limit: int = READ_SIZE) -> bytes:
        """Some bytes, at most ``limit``; b"" when the client has closed."""
        size = min(max(limit, 1), READ_SIZE)
        if self._reader is not None:
            return await self._reader.read(size)
        return await self._loop.sock_recv(self._socket, size)

    async def send(self, data: bytes | memoryview, timeout: float) -> None:
        """All of ``data``, within ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            if self._writer is not None:
                self._writer.write(data)
                await self._writer.drain()
            else:
                await self._loop.sock_sendall(self._socket, data)

    async def start_tls(self, context: ssl.SSLContext, timeout: float) -> None:
        """TLS from here on; nothing behind the SSLRequest has been read."""
        reader = asyncio.StreamReader(limit=READ_SIZE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol, self._socket, ssl=context, ssl_handshake_timeout=timeout
        )
        transport.set_write_buffer_limits(high=0)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)

    def close(self) -> None:
        """Drop the connection, without waiting for the client to agree."""
        if self._writer is not None:
            self._writer.transport.abort()
        else:
            self._socket.close()
