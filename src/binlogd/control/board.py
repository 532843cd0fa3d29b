"""Where the receiver pins up its newest publication, and from where it goes to all who follow.

Theory. A publication is told by the receiving thread itself: a short line for each follower, in a send that does not
wait. To wake another thread for it would cost more than the send, and that thread would want the interpreter just
when the next batch is due. A follower that does not take its line at once falls *behind*: the rest of that line is
kept, nothing newer is told to it, and the thread of the control socket waits until it reads again and then tells it
the newest, which holds all between. So a slow follower costs the receiver nothing and holds one line.

A line is the publication in full, or, to one who knows an earlier one, what is new about it (``encode_since``). All who
are not behind know the same one, the newest, so that one line is made for all of them, and made before the lock is
taken. The last few lines are kept: whoever was behind is told those that it missed. Only when it missed more, its own
line is made, by the thread of the control socket, and without the lock, for that takes milliseconds when the sets are
large.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import Any

from binlogd.store.publication import Publication

RECENT = 64  # lines kept: what is published while a large first line is made
SHORT = 4096  # bytes of a line that is kept at most; the others are rare


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


class _Follower:
    """One that listens; guarded by the board's lock, except that it is the control thread's while behind."""

    def __init__(self, connection: socket.socket, first: Publication) -> None:
        self.connection = connection
        self.behind = True  # with the whole of the first publication, which may take long to write down
        self.rest = _line(first.encode())
        self.known = first  # what it was told last

    def tell(self, lines: bytes, publication: Publication) -> bool:
        """All of it now, or fall behind: False."""
        self.known = publication
        sent = 0
        with suppress(OSError):  # full, or gone: whoever sends the rest will see
            sent = self.connection.send(lines, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self.rest = lines[sent:]
        self.behind = bool(self.rest)
        return not self.behind


class Board:
    """``put`` belongs to the receiving thread, everything else to the event loop that ``attach`` was called in.

    ``current`` is None while the receiver itself does not know what the store holds; then there is nothing to follow,
    and a follower is told so. It never is None again, and the receiver has written nothing until then.
    """

    def __init__(self, current: Publication | None) -> None:
        self.current = current
        self._lock = threading.Lock()  # held for a few sends that do not wait, never across a wait
        self._followers: list[_Follower] = []
        self._recent: deque[tuple[Publication, bytes]] = deque(maxlen=RECENT)  # what was known before, and the line
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fell_behind = asyncio.Event()

    def put(self, publication: Publication) -> None:
        """A newer publication. Never waits."""
        known = self.current
        line = _line(publication.encode() if known is None else publication.encode_since(known))
        with self._lock:
            if known is None or len(line) > SHORT:
                self._recent.clear()
            else:
                self._recent.append((known, line))
            self.current = publication
            for follower in self._followers:
                if not follower.behind and not follower.tell(line, publication):
                    with suppress(BlockingIOError):  # the counter is full: a wake-up is due anyway
                        os.eventfd_write(self._signal, 1)

    def attach(self) -> None:
        """Look after those who are behind in this event loop."""
        asyncio.get_running_loop().add_reader(self._signal, self._wake)

    async def tell(self, connection: socket.socket) -> None:
        """Tell one follower everything from now on; raises OSError when it is gone."""
        loop = asyncio.get_running_loop()
        newest = self.current
        if newest is None:
            await loop.sock_sendall(connection, b"null\n")
            return
        follower = _Follower(connection, newest)
        with self._lock:
            self._followers.append(follower)
        try:
            while True:
                event = self._fell_behind
                while follower.behind:
                    await loop.sock_sendall(connection, follower.rest)
                    if not self._tell_missed(follower):
                        newest = self.current or newest  # it never is None again
                        follower.rest = _line(newest.encode_since(follower.known))
                        follower.known = newest
                await event.wait()
        finally:
            with self._lock:
                self._followers.remove(follower)

    def _tell_missed(self, follower: _Follower) -> bool:
        """Tell it the lines that it missed, now that it has the last one; False when they are not there any more."""
        with self._lock:
            missed: list[bytes] = []
            newest = self.current
            assert newest is not None
            if follower.known is not newest:
                for known, line in reversed(self._recent):
                    missed.append(line)
                    if known is follower.known:
                        break
                else:
                    return False
            follower.tell(b"".join(reversed(missed)), newest)
            return True

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._signal)
        self._fell_behind.set()
        self._fell_behind = asyncio.Event()
