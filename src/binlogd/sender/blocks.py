"""The memory that all dumps of one event loop pass blocks through.

Between reading a block and offering its packets to the kernel no dump gives its turn away, so one place to read into
serves all of them, and is still in the processor's cache for the next. Packets need a place of their own only as long
as the kernel has not taken all of them: that is given back behind, and the last one given is the next one taken. So
memory grows with the clients that do not keep up, not with those that are there.

What is in the page cache is read at once. What is not has to be brought there by a thread first (``fetch``), so that
no dump makes the others wait for the disk.
"""

from __future__ import annotations

import errno
import os

from binlogd.binlog.framing import room_for

BLOCK = 256 * 1024  # bytes read at a time: with its packets it stays within a processor's own cache of 1 MiB
FRAMED = room_for(BLOCK)  # bytes of its packets at most
FETCH = 1024 * 1024  # bytes that a thread brings into the page cache at a time
ROUND = 0.005  # seconds in which all who have blocks to send come round: a publication meets three rounds on its way
TURN = 0.002  # seconds of one turn at most: then a turn of the event loop costs nothing beside it
SPARE = 8  # places for packets that are kept for the next who needs one


class Blocks:
    """``block`` is for the turn at hand; nothing of it is kept across an await."""

    def __init__(self) -> None:
        self.block = bytearray(BLOCK)
        self._view = memoryview(self.block)
        self.busy = 0  # dumps that have blocks to send
        self._spare: list[memoryview] = []
        self._no_wait = os.RWF_NOWAIT  # 0: the file system cannot say what is in the page cache

    def read(self, descriptor: int, size: int, position: int) -> int:
        """Bring ``size`` bytes of a file to the beginning of ``block``; how many there were."""
        return os.preadv(descriptor, [self._view[:size]], position)

    def read_cached(self, descriptor: int, size: int, position: int) -> bool:
        """``read``, if it need not wait for the disk: False when not all is in the page cache."""
        try:
            return os.preadv(descriptor, [self._view[:size]], position, self._no_wait) == size
        except BlockingIOError:
            return False
        except OSError as bad:
            if bad.errno != errno.EOPNOTSUPP:
                raise
            self._no_wait = 0
            return self.read_cached(descriptor, size, position)

    def turn(self) -> float:
        """Seconds that a dump may go on before it gives its turn away."""
        return min(TURN, ROUND / self.busy)

    def take(self) -> memoryview:
        """A place for the packets of one block."""
        return self._spare.pop() if self._spare else memoryview(bytearray(FRAMED))

    def give(self, place: memoryview) -> None:
        """It is free again."""
        if len(self._spare) < SPARE:
            self._spare.append(place)


def fetch(descriptor: int, position: int) -> None:
    """Bring what follows ``position`` into the page cache; waits for the disk."""
    os.pread(descriptor, FETCH, position)
