"""The beginning of a dump that goes on: what the source sends again must be what is stored.

It is walked by itself and compared, byte for byte, in the place of being written; of its events those may be
acknowledged that were found to be the same. Only behind its last byte does the file's own walk go on. A source that
sends anything else, or says before that that it has no more, has another history. Which part of the file it is says
store/overlap.py.
"""

from __future__ import annotations

from binlogd.binlog.header import EventFlag, EventType
from binlogd.binlog.walk import Walk
from binlogd.errors import SourceDiverged
from binlogd.receiver.plan import Start
from binlogd.store.tail import Tail

_CONTROL = (EventType.FORMAT_DESCRIPTION, EventType.HEARTBEAT, EventType.HEARTBEAT_V2)  # never stored as they come


class Overlap:
    """``left`` bytes of it are still to come; ``position`` is the offset up to which it was compared.

    ``framing`` is how many bytes of a packet stand before its event.
    """

    def __init__(self, tail: Tail, start: Start, *, framing: int) -> None:
        self._tail = tail
        self._framing = framing
        self._end = start.position + start.overlap
        self.left = start.overlap
        self._differs = -1  # where bytes differ within a large event, of which the CRC-32 is still to come

    @property
    def position(self) -> int:
        """See above."""
        return self._end - self.left

    def walk(self, checksum: int) -> Walk:
        """What its events are checked by, from its beginning on."""
        return Walk(position=self.position, checksum=checksum)

    def scan_end(self, buffer: bytearray, at: int, filled: int, walk: Walk | None) -> int:
        """How far ``buffer[at:filled]`` may be scanned: not behind the overlap, where another walk goes on.

        As many bytes as are left of it, and one packet's framing, hold no more events than that: a packet is longer
        than its event. What is no event of the file comes alone, whatever is behind it.
        """
        framing = self._framing
        if walk is not None and walk.large_left:
            end = at + self.left + 4  # within an event, which may go on in another packet
            crosses = walk.large_left > self.left
        else:
            end = at + self.left + framing
            if end >= filled:
                return filled
            kind, flags = buffer[at + framing + 4], buffer[at + framing + 17]
            if buffer[at + 4] or kind in _CONTROL or flags & EventFlag.ARTIFICIAL:
                return filled
            crosses = at + 4 + int.from_bytes(buffer[at : at + 3], "little") > end
        if crosses:
            raise SourceDiverged(f"in its {self._tail.name} no event ends at {self._end}, where a stored one does")
        return min(end, filled)

    def compare(self, data: memoryview, *, whole: bool) -> None:
        """The next bytes of the file, as they came; ``whole`` when they end an event, which was found to be sound.

        Only sound bytes tell of another history: others were altered on the way.
        """
        if self._differs < 0 and (len(data) > self.left or not self._tail.holds(self.position, data)):
            self._differs = self.position
        if self._differs >= 0 and whole:
            raise SourceDiverged(f"its {self._tail.name} has other bytes behind {self._differs} than are stored there")
        self.left -= min(len(data), self.left)

    def check_ended(self) -> None:
        """The source says that it has no more of the file, or goes on to another one."""
        if self.left:
            raise SourceDiverged(f"its {self._tail.name} ends at {self.position}, the stored one at {self._end}")
