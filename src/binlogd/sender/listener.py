"""The listener: accepts clients, gives each a conversation, and follows the receiver's publications.

One event loop. It keeps no state of its own beyond what is connected: a sender may be killed at any time and another
goes on from the files.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial

from binlogd.errors import ListenError, StoreError
from binlogd.logs import get_logger
from binlogd.sender.conversation import Conversation
from binlogd.sender.service import Connection, Service
from binlogd.store.lock import Taking
from binlogd.store.publication import Publication
from binlogd.wire.server import turn_away

BACKLOG = 1024  # connections the kernel holds while we are busy: every replica of a large site at once
ACCEPT_PAUSE = 0.1  # seconds to wait when out of file descriptors: some connection will end
ACCEPT_HINT = "who is there is served on; raise the limit of open files (LimitNOFILE= of the service, ulimit -n)"
RECEIVER_PAUSE = 0.2  # seconds between looks for a receiver
WAITING = "a receiver has the store and does not say what is published; what was known before is served"

log = get_logger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ListenError when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as bad:
        raise ListenError(f"cannot listen on {host}:{port}: {bad.strerror}", hint="check server.listen") from bad
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as bad:
        listening.close()
        taken = bad.errno == errno.EADDRINUSE
        raise ListenError(
            f"cannot listen on {host}:{port}: {'another process has it' if taken else bad.strerror}",
            hint="stop that process, or choose another address with --listen or server.listen",
        ) from bad
    return listening


class Listener:
    """Runs from ``run`` until cancelled; takes over the ``listening`` socket.

    ``follow`` gives the receiver's publications until it ends, nothing without one, and None when there is one that
    does not itself know yet what the store holds.
    """

    def __init__(
        self,
        service: Service,
        listening: socket.socket,
        follow: Callable[[], AsyncGenerator[Publication | None, None]],
    ) -> None:
        self._service = service
        self._listening = listening
        self._follow = follow

    async def run(self) -> None:
        """Accept and follow; on cancellation every conversation ends."""
        followed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_following(followed))
                await followed.wait()
                group.create_task(self._accept())
        finally:
            self._listening.close()
            await self._end_all()

    async def _keep_following(self, followed: asyncio.Event) -> None:
        """What the receiver publishes; as long as there is none, what is on disk.

        Beside one that writes and cannot be asked nothing more is shown than it has said.
        """
        catalog = self._service.catalog
        said = ""
        while True:
            try:
                async for publication in self._follow():
                    if publication is not None:
                        catalog.update(publication)
                        followed.set()
                # No receiver, or none any more: what it made durable without telling us counts as well.
                if await catalog.read_on(self._alone):
                    followed.set()
                    said = ""
                elif said != WAITING:
                    log.info(WAITING)
                    said = WAITING
            except StoreError as bad:
                if not followed.is_set():
                    raise
                if bad.message != said:
                    log.error("cannot follow the store; what was read before is served", error=str(bad))
                said = bad.message
            await asyncio.sleep(RECEIVER_PAUSE)

    async def _alone(self) -> Taking | None:
        """The store's lock as it was last taken; None when whoever holds it may be writing."""
        taking = self._service.catalog.taking()
        if not taking.held:
            return taking
        async with aclosing(self._follow()) as said:
            async for publication in said:
                return taking if publication is None else None  # one that knows nothing has written nothing
        return None

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        service = self._service
        service.begin()
        said = False
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listening)
            except OSError as bad:
                if not said:  # and not ten times a second until it is over
                    log.error("cannot accept connections", error=bad.strerror, hint=ACCEPT_HINT)
                said = True
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            if said:
                log.info("accepting connections again")
            said = False
            host, port = _plain(address[0]), address[1]
            if (words := service.gate.turns_away(host)) is not None:
                with suppress(OSError):
                    accepted.send(turn_away(words.code, words.message))
                accepted.close()
                continue
            connection = service.open_connection(host, port)
            task = asyncio.create_task(self._serve(connection, accepted))
            connection.task = task
            task.add_done_callback(partial(self._ended, connection, accepted))

    async def _serve(self, connection: Connection, accepted: socket.socket) -> None:
        with suppress(OSError):  # it was gone before we looked
            await Conversation(self._service, connection, accepted).run()

    def _ended(self, connection: Connection, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        accepted.close()  # it is open if the task was ended before it began
        self._service.close_connection(connection)
        if not task.cancelled() and task.exception() is not None:
            log.error("conversation failed", exc_info=task.exception())

    async def _end_all(self) -> None:
        tasks = [c.task for c in self._service.connections.values() if c.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _plain(address: str) -> str:
    """An IPv4 client of a dual-stack socket by its IPv4 address."""
    return address.removeprefix("::ffff:") if "." in address else address
