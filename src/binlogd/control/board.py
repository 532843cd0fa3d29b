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
from dataclasses import replace
from typing import Any

from binlogd.binlog.gtid import GtidSet
from binlogd.store.publication import Publication
from binlogd.store.purged import without
from binlogd.store.removed import First, order_of

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
    """``put`` belongs to the receiving thread, ``amend`` to any, everything else to the event loop of ``attach``.

    ``current`` is None while the receiver itself does not know what the store holds; then there is nothing to follow,
    and a follower is told so. It never is None again, and the receiver has written nothing until then.
    """

    def __init__(self, current: Publication | None) -> None:
        self.current = current
        self._removed: tuple[First, GtidSet] | None = None  # since the receiving thread was told what there is
        self._purged: tuple[GtidSet, GtidSet, GtidSet] | None = None  # a publication's, what was removed, and both
        self._lock = threading.Lock()  # held for a few sends that do not wait, never across a wait
        self._followers: list[_Follower] = []
        self._recent: deque[tuple[Publication, bytes]] = deque(maxlen=RECENT)  # what was known before, and the line
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fell_behind = asyncio.Event()

    def put(self, publication: Publication) -> None:
        """A newer publication. Never waits."""
        while True:
            known = self.current  # before what was removed is put to it: see ``amend``
            if self._put(self._with_removed(publication), known):
                return

    def amend(self, first: First, gone: GtidSet) -> None:
        """Files were removed: ``first`` is left, and no file has ``gone`` any more. From any thread.

        The receiving thread goes on to publish what it knows; here what was removed is put to it. None is published
        before the first publication is: what there is then counts it in already.
        """
        if self.current is None:
            return
        with self._lock:
            before = self._removed[1] if self._removed is not None else GtidSet()
            self._removed = first, before | gone
        while (current := self.current) is not None and not self._put(self._with_removed(current), current):
            pass

    def _with_removed(self, publication: Publication) -> Publication:
        """What the receiving thread publishes, less what was removed since it began."""
        step = publication.step
        while (removed := self._removed) is not None:
            rest = removed[1] if step is None else without(removed[1], step.added.runs())
            if rest is removed[1]:
                break
            with self._lock:
                if self._removed is removed:
                    self._removed = removed[0], rest  # another source sent it again
        if removed is None:
            return publication
        first, gone = removed
        cached = self._purged
        if cached is None or cached[0] is not publication.purged or cached[1] is not gone:
            cached = self._purged = publication.purged, gone, publication.purged | gone
        return replace(publication, purged=cached[2], first=max(publication.first, first, key=order_of))

    def _put(self, publication: Publication, known: Publication | None) -> bool:
        """Tell all; False when another one than ``known`` is the newest meanwhile."""
        line = _line(publication.encode() if known is None else publication.encode_since(known))
        with self._lock:
            if self.current is not known:
                return False
            if known is None or len(line) > SHORT:
                self._recent.clear()
            else:
                self._recent.append((known, line))
            self.current = publication
            for follower in self._followers:
                if not follower.behind and not follower.tell(line, publication):
                    with suppress(BlockingIOError):  # the counter is full: a wake-up is due anyway
                        os.eventfd_write(self._signal, 1)
        return True

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
