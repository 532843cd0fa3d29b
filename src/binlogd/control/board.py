"""Where the receiver pins up its newest publication, and from where it goes to all who follow.

Theory. A publication is told by the receiving thread itself: a short line for each follower, in a send that does not
wait. To wake another thread for it would cost more than the send, and that thread would want the interpreter just
when the next batch is due. A follower that does not take its line at once falls *behind*: the rest of that line is
kept, nothing newer is told to it, and the thread of the control socket waits until it reads again and then tells it
the newest, which holds all between. So a slow follower costs the receiver nothing and holds one line.

A line is the publication in full, or, to one who knows an earlier one, what is new about it (``encode_since``).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from contextlib import suppress
from typing import Any

from binlogd.store.publication import Publication


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


class _Follower:
    """One that listens; guarded by the board's lock, except that ``rest`` is the control thread's while behind."""

    def __init__(self, connection: socket.socket, first: Publication) -> None:
        self.connection = connection
        self.behind = True  # with the whole of the first publication, which may take long to write down
        self.rest = _line(first.encode())
        self._known = first

    def tell(self, publication: Publication) -> bool:
        """All of it now, or fall behind: False."""
        line = _line(publication.encode_since(self._known))
        self._known = publication
        try:
            sent = self.connection.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # full, or gone: whoever sends the rest will see
            sent = 0
        self.rest = line[sent:]
        self.behind = bool(self.rest)
        return not self.behind

    def knows(self, publication: Publication) -> bool:
        """Whether this is what it was told last."""
        return self._known is publication


class Board:
    """``put`` belongs to the receiving thread, everything else to the event loop that ``attach`` was called in.

    ``current`` is None while the receiver itself does not know what the store holds; then there is nothing to follow.
    """

    def __init__(self, current: Publication | None) -> None:
        self.current = current
        self._lock = threading.Lock()  # held for a few sends that do not wait, never across a wait
        self._followers: list[_Follower] = []
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fell_behind = asyncio.Event()

    def put(self, publication: Publication) -> None:
        """A newer publication. Never waits."""
        with self._lock:
            self.current = publication
            for follower in self._followers:
                if not follower.behind and not follower.tell(publication):
                    with suppress(BlockingIOError):  # the counter is full: a wake-up is due anyway
                        os.eventfd_write(self._signal, 1)

    def attach(self) -> None:
        """Look after those who are behind in this event loop."""
        asyncio.get_running_loop().add_reader(self._signal, self._wake)

    async def tell(self, connection: socket.socket) -> None:
        """Tell one follower everything from now on; raises OSError when it is gone."""
        loop = asyncio.get_running_loop()
        if self.current is None:
            return
        follower = _Follower(connection, self.current)
        with self._lock:
            self._followers.append(follower)
        try:
            while True:
                event = self._fell_behind
                while follower.behind:
                    await loop.sock_sendall(connection, follower.rest)
                    with self._lock:
                        follower.behind = False
                        if self.current is not None and not follower.knows(self.current):
                            follower.tell(self.current)
                await event.wait()
        finally:
            with self._lock:
                self._followers.remove(follower)

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._signal)
        self._fell_behind.set()
        self._fell_behind = asyncio.Event()
