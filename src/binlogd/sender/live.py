"""The live tail: whoever has sent everything that is published is served here, all in one go.

A dump at the end *attends* and sleeps. A publication wakes one task, whatever the number of members: it reads the new
bytes once, and each member frames them (sequence ids and what is left out differ; framing costs less than a system
call) in one place that all share, and offers the packets to its socket. A member that is not served so goes on by
itself: its task wakes, and comes back when it has caught up again. That is so when its socket did not take all (the
rest is copied: at most the packets of ``SHARED`` bytes), its connection is gone, its heartbeat is due, something is
left out or unsound, the next file has begun, or more than ``SHARED`` bytes came at once. So a slow replica delays
nobody, and all that is not plain delivery is in one place, the dump.

A delivery is one step of the event loop: within it nobody comes, goes or reads another block. Every member stands
between ``_position``, up to which the last delivery went, and the published end of the file.

**Pace.** Publications come as fast as the disk syncs, and a delivery to a hundred members takes a millisecond, most of
it in the kernel. So a delivery that took t is followed by a rest of ``REST`` × t, in which publications add up to one:
however many replicas there are, delivering leaves three fourths of a core to the receiver and the source beside us
(less only when one delivery takes more than 7 ms, for the rest is ``LONGEST_REST`` at most: so much a replica is behind
for it). A rest that is due is taken when it has come to ``GRAIN``, and is over when nothing is published meanwhile: a
few members are served at every publication, at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Protocol

from binlogd.sender.blocks import BLOCK, Blocks
from binlogd.sender.catalog import Catalog
from binlogd.store.disk import explained
from binlogd.store.publication import Publication

SHARED = BLOCK  # bytes of a delivery at most: what the longest rest adds up to at 12 MB/s; more is history, which each
# member sends in turns of its own, with no rest between them
REST = 3  # × the time of a delivery
LONGEST_REST = 0.02  # seconds: a fifth of what a replica may be behind
GRAIN = 0.001  # seconds, the resolution of the event loop's timers


class Member(Protocol):
    """A dump that has sent everything."""

    @property
    def place(self) -> tuple[str, int]:
        """The file and the offset where it stands."""

    def heartbeat_due(self) -> float | None:
        """Seconds until a heartbeat must go out, None for never."""

    def take(self, start: int, end: int, packets: memoryview, now: float) -> bool:
        """Send up to ``end`` without waiting; the block begins at ``start``. False: it has to go on by itself."""


class Pace:
    """When the next delivery may begin. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._due = 0.0

    def rest(self, now: float) -> float:
        """How long to wait; 0 for not at all."""
        left = self._due - now
        return left if left >= GRAIN else 0.0

    def delivered(self, began: float, ended: float) -> None:
        """A delivery took from ``began`` to ``ended``."""
        took = ended - began
        self._due = max(self._due, began) + took + min(REST * took, LONGEST_REST)


class LiveTail:
    """Belongs to one event loop. ``blocks`` is shared with the dumps."""

    def __init__(self, catalog: Catalog, blocks: Blocks) -> None:
        self.blocks = blocks
        self._catalog = catalog
        self._members: dict[Member, asyncio.Future[None]] = {}  # and what wakes each
        self._index = -1  # of the file in which all of them stand
        self._position = 0
        self._descriptor = -1
        self._task: asyncio.Task[None] | None = None
        self._pace = Pace()  # of all deliveries: a rest that is due outlives who was served before it

    @property
    def size(self) -> int:
        """How many attend."""
        return len(self._members)

    async def attend(self, member: Member, index: int) -> None:
        """Deliver to it, until it has to go on by itself. It stands at the published end of the newest file."""
        if index != self._index:
            self._release_all()
            self._end()
            self._begin(index, member.place[1])
        loop = asyncio.get_running_loop()
        waiter = self._members[member] = loop.create_future()
        timer: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal timer
            due = member.heartbeat_due()
            if due:
                timer = loop.call_later(max(due, GRAIN), look)
            elif not waiter.done():
                waiter.set_result(None)

        due = member.heartbeat_due()
        if due is not None:
            timer = loop.call_later(due, look)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if self._members.get(member) is waiter:
                del self._members[member]
            if not self._members:
                self._end()

    def _begin(self, index: int, position: int) -> None:
        path = self._catalog.path(index)
        with explained("read", path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._index, self._position = index, position
        self._task = asyncio.create_task(self._follow(self._catalog.publication))

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
            os.close(self._descriptor)
            self._index = self._descriptor = -1

    async def _follow(self, seen: Publication) -> None:
        """Deliver whenever there is a newer publication than the one at whose end the first member stands."""
        catalog, pace = self._catalog, self._pace
        try:
            while True:
                await catalog.wait(seen, None)
                while rest := pace.rest(time.monotonic()):  # noqa: ASYNC110 - its length is known
                    await asyncio.sleep(rest)
                seen = catalog.publication
                began = time.monotonic()
                self._deliver(began)
                pace.delivered(began, time.monotonic())
        except Exception as bad:  # a mistake of ours: it ends them all, and each says so
            for waiter in self._members.values():
                if not waiter.done():
                    waiter.set_exception(bad)
            self._members.clear()
            self._end()

    def _deliver(self, now: float) -> None:
        """What was published since."""
        logs, start = self._catalog.logs, self._position
        end = logs[self._index].size
        if self._index != len(logs) - 1 or end - start > SHARED or not self._read(start, end - start):
            self._release_all()
            self._position = end
            return
        packets = self.blocks.take()
        for member in tuple(self._members):
            if not member.take(start, end, packets, now):
                self._release(member)
        self.blocks.give(packets)
        self._position = end

    def _read(self, position: int, size: int) -> bool:
        """Bring the bytes into the block; False when that cannot be: a member that reads by itself will say why."""
        try:
            return self.blocks.read(self._descriptor, size, position) == size
        except OSError:
            return False

    def _release_all(self) -> None:
        for member in tuple(self._members):
            self._release(member)

    def _release(self, member: Member) -> None:
        waiter = self._members.pop(member)
        if not waiter.done():
            waiter.set_result(None)
