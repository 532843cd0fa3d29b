"""A dump under test: a real connection, and a client at its other end that takes packets apart with the wire's own
reader.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import EventType, Header
from binlogd.sender.blocks import Blocks
from binlogd.sender.catalog import Catalog
from binlogd.sender.channel import Channel
from binlogd.sender.dump import Dump, DumpRequest
from binlogd.sender.live import LiveTail
from binlogd.store.publication import Publication
from binlogd.store.reader import publication_of, read_store
from binlogd.wire.packets import PacketReader
from tests.binlog.making import Log
from tests.store.support import data_of, make_store

PATIENCE = 20.0  # seconds after which a test gives up
SERVER_ID = 4711

HEARTBEATS = (EventType.HEARTBEAT, EventType.HEARTBEAT_V2)


def request(
    file: str = "",
    position: int = 4,
    *,
    has: GtidSet | str | None = None,
    auto_position: bool | None = None,
    blocking: bool = False,
    heartbeat: float = 0,
    heartbeat_v2: bool = True,
    checksum: str | None = "CRC32",
    pinned: int | None = None,
) -> DumpRequest:
    """What a client asks for; without ``file`` and with ``has`` it is by GTID."""
    held = GtidSet.parse(has) if isinstance(has, str) else has
    return DumpRequest(
        file=file,
        position=position,
        has=held,
        auto_position=held is not None and not file if auto_position is None else auto_position,
        blocking=blocking,
        heartbeat=heartbeat,
        heartbeat_v2=heartbeat_v2,
        checksum=checksum,
        pinned=pinned,
    )


@dataclass
class Client:
    """The other end."""

    socket: socket.socket
    reader: PacketReader

    async def event(self) -> bytes:
        """The next event."""
        while (payload := self.reader.next()) is None:
            async with asyncio.timeout(PATIENCE):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
            assert data, "the dump ended"
            self.reader.feed(data)
        assert payload[:1] == b"\0"
        return payload[1:]

    async def events(self, count: int) -> list[bytes]:
        """The next events."""
        return [await self.event() for _ in range(count)]

    async def rest(self) -> list[bytes]:
        """Everything up to the end of the connection."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while data := await loop.sock_recv(self.socket, 1 << 20):
                self.reader.feed(data)
        found = []
        while (payload := self.reader.next()) is not None:
            assert payload[:1] == b"\0"
            found.append(payload[1:])
        assert not self.reader.buffered
        return found


class Pair:
    """A connection over loopback: our channel and a client. For use within an event loop."""

    def __init__(self, *, sequence: int = 1, small_buffers: bool = False) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._client = socket.socket()
            if small_buffers:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self._client.connect(listening.getsockname())
            self._server, _ = listening.accept()
        if small_buffers:
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self._client.setblocking(False)
        self.channel = Channel(self._server)
        self.client = Client(self._client, PacketReader(max_payload=2**30, sequence=sequence))

    def hang_up(self) -> None:
        """Our side closes."""
        self.channel.close()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self._client.close()


def make_dump(
    catalog: Catalog, asked: DumpRequest, pair: Pair, *, sequence: int = 1, live: LiveTail | None = None
) -> Dump:
    return Dump(
        channel=pair.channel,
        catalog=catalog,
        live=live or LiveTail(catalog, Blocks()),
        request=asked,
        server_id=SERVER_ID,
        sequence=sequence,
    )


def all_events(catalog: Catalog, asked: DumpRequest) -> list[bytes]:
    """Everything that a client hears that does not want to wait."""

    async def body() -> list[bytes]:
        with Pair() as pair:
            dump = make_dump(catalog, asked, pair)

            async def send() -> None:
                try:
                    await dump.run()
                finally:
                    pair.hang_up()

            sending = asyncio.create_task(send())
            try:
                heard = await pair.client.rest()
            finally:
                async with asyncio.timeout(PATIENCE):
                    await sending
            assert dump.between_packets
            assert dump.sent_bytes == sum(5 + len(event) + 4 * ((len(event) + 1) // 0xFFFFFF) for event in heard)
            return heard

    return asyncio.run(body())


async def beside(dump: Dump, body: Callable[[], Awaitable[None]]) -> None:
    """Run the body while the dump runs, and then end it."""
    sending = asyncio.create_task(dump.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await body()
    finally:
        sending.cancel()
        ended = (await asyncio.gather(sending, return_exceptions=True))[0]
    if isinstance(ended, Exception):
        raise ended


def catalog_of(path: Path, *timelines: Mapping[str, Log]) -> Catalog:
    """Of a store with these files, read from disk."""
    catalog = Catalog(make_store(path, *map(data_of, timelines)))
    catalog.read()
    return catalog


def published(path: Path) -> Publication:
    """What a receiver would publish of the store as it is."""
    return publication_of(read_store(make_store(path)))


def is_heartbeat(event: bytes) -> bool:
    return Header.decode(event).type in HEARTBEATS


def trusting() -> ssl.SSLContext:
    """A client that asks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
