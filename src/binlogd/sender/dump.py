"""One dump: from a place in the store to the live tail, packet by packet, until the client or we end it.

The sequence a client sees is protocol.md §3: before every file a fake ROTATE and the file's FORMAT_DESCRIPTION, then
its events; by GTID, without the transactions the replica has, and a heartbeat that carries the skipped end before
the next event and at the end of the newest file. At the live tail the dump is served together with all others that are
there (live.py); a heartbeat goes out whenever nothing else did for the replica's period.

From the end of a timeline a dump by GTID goes on into the next (plan.py), in history and at the live tail alike. For
the replica it is as if it had connected to the new source with all that the old one had: the fake ROTATE still has the
old file's checksum algorithm, FORMAT_DESCRIPTION is the new file's, and whether its ``created`` is cleared is decided
anew. Every other dump ends there, with ERR 1236. A client that does not wait hears before it a fake ROTATE to a name
that no file has: mysqlbinlog, which was asked for one file, takes it for the end of that, and asks for nothing more.

A dump reads files below the published position only, and sends nothing that is damaged: where an event fails its
checksum (framing.py), or a finished file has not the size it was finished with, it ends with ERR 1236, which names file
and position, before that event goes out. Within an event too large for one block nothing can be said any more: there
the connection ends before the event does, and whoever comes to it again is told.

What may have to wait for the disk (a file's head, its marks, a block that is not in the page cache) is read by a
thread, so that no dump makes the others wait. What a dump holds is at most one block's packets, whatever the
transactions. While the client keeps up, block after block goes out without a task switch, until its turn is over.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from binlogd.binlog.events import (
    fake_rotate,
    for_position_start,
    heartbeat_v1,
    heartbeat_v2,
    with_created_zero,
)
from binlogd.binlog.framing import Outlet
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import GtidEvent
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.errors import EventError, Refusal, StoreError, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.sender.blocks import BLOCK, fetch
from binlogd.sender.catalog import Catalog
from binlogd.sender.channel import Channel
from binlogd.sender.live import LiveTail
from binlogd.sender.plan import (
    FIRST_POSITION,
    QUALIFIER,
    end_of_timeline,
    go_on,
    refuse,
    start_by_gtid,
    start_by_position,
)
from binlogd.store.disk import STORE_MISSING, explained
from binlogd.store.index import read_recorded
from binlogd.store.reader import DAMAGED_HINT, Head, read_head
from binlogd.store.removed import ALL, First
from binlogd.store.seek import begins_event, leap, read_gtid

SEND_TIMEOUT = 60.0  # seconds a client may take to take a block, as MySQL's net_write_timeout
V1_HEARTBEAT_LIMIT = 2**32  # its position stands in the header's four bytes
TRY_AGAIN = 1105  # ER_UNKNOWN_ERROR: a replica connects again, where ERR 1236 would stop it for good
NO_FILE = "end-of-"  # before a timeline's number: no binary log is called so
LONGEST_PREVIOUS = 8 * 1024 * 1024  # bytes of PREVIOUS_GTIDS sent in one piece, half a packet: 500,000 intervals

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DumpRequest:
    """What a client asked for. ``has`` is None by position; ``heartbeat`` is seconds, 0 for none.

    ``checksum`` is what the client announced: None when it knows no checksums. ``pinned`` is the number of the only
    timeline that it wants, None for all.
    """

    file: str
    position: int
    has: GtidSet | None
    auto_position: bool
    blocking: bool
    heartbeat: float
    heartbeat_v2: bool
    checksum: str | None
    pinned: int | None = None


class Dump:
    """Runs until the client has everything (non-blocking), is gone, or is refused."""

    def __init__(
        self,
        *,
        channel: Channel,
        catalog: Catalog,
        live: LiveTail,
        request: DumpRequest,
        server_id: int,
        sequence: int,
    ) -> None:
        self._channel = channel
        self._catalog = catalog
        self._live = live
        self._blocks = live.blocks
        self._request = request
        self._server_id = server_id
        has = request.has
        self._left_out = has  # what the client has, and what it was sent of the timelines before this one
        self._added = GtidSet()  # by the files of this timeline that it was through
        self._unknown: list[int] = []  # those of them that have no .idx to say so
        self._outlet = Outlet(sequence=sequence, covering=has.covering if has else None)
        self._algorithm = (
            ChecksumAlgorithm.CRC32 if request.checksum == "CRC32" else ChecksumAlgorithm.OFF
        )  # of the next fake ROTATE
        self._index = 0
        self._chosen = False
        self._name = ""
        self._descriptor = -1
        self._sent_at = time.monotonic()
        self._turn_ends = 0.0
        self._clears_created: bool | None = None  # decided by the first file, as mysqld does, for all of a timeline
        self._qualified = QUALIFIER in request.file
        self._sending = False
        self._offered = 0  # bytes offered at the live tail of which the channel still has some
        self._failure: EventError | OSError | None = None  # met there
        self.sent_bytes = 0
        self.last_event_time = 0  # of the first event of the block last sent; seconds since the epoch

    @property
    def between_packets(self) -> bool:
        """Whether everything sent so far is whole packets, so that another may follow."""
        return not (self._sending or self._outlet.in_event)

    @property
    def sequence(self) -> int:
        """The sequence id of the next packet."""
        return self._outlet.sequence

    @property
    def place(self) -> tuple[str, int]:
        """The file being sent and the offset up to which it was."""
        return self._name, self._outlet.position

    @property
    def reading(self) -> First:
        """The timeline and the file that it is at; no name while it looks for where to begin."""
        stored = self._catalog.logs[self._index] if self._chosen else None
        return (stored.timeline, stored.name) if stored is not None else ALL

    @property
    def sent_events(self) -> int:
        """Events of the files that were handed to the client, less those of our own."""
        return self._outlet.events

    def lag_bytes(self) -> int:
        """Published bytes not sent yet."""
        return self._catalog.lag_bytes(self._index, self._outlet.position) if self._name else 0

    async def run(self) -> None:
        """Send; returns at the end of what is published when the client does not want to wait."""
        try:
            self._index, position = await self._choose()
            self._chosen = True
            while True:
                await self._begin_file(position)
                await self._rest_of_file()
                if self._index == len(self._catalog.logs) - 1:
                    return
                if self._catalog.logs[self._index].timeline != self._catalog.logs[self._index + 1].timeline:
                    await self._leave_timeline()
                self._index += 1
                position = FIRST_POSITION
        except (EventError, StoreError) as bad:
            if isinstance(bad, EventError):
                self._note_damage(bad)
            log.error(
                "a stored file cannot be served", file=self._name, error=bad.message, hint=bad.hint or DAMAGED_HINT
            )
            text = f"{self._name}: {bad.message}".removeprefix(": ")
            missing = isinstance(bad, StoreUnreadable) and bad.alarm == STORE_MISSING
            # One that was removed just when the client began with it: it asks again, and hears what was purged.
            removed = missing and await asyncio.to_thread(self._catalog.removed, self._index)
            if removed or (isinstance(bad, StoreUnreadable) and not missing):
                raise Refusal(TRY_AGAIN, "HY000", text) from bad
            raise refuse(text) from bad
        finally:
            self._close()

    def _note_damage(self, bad: EventError) -> None:
        """Have the file, which is still there under its name or was just read, told of in the status."""
        path, event = self._catalog.path(self._index), self._outlet.event if self._outlet.in_event else -1
        with suppress(OSError):
            if self._descriptor < 0:  # its head was bad, which is read before it is opened
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            growing = self._index == len(self._catalog.logs) - 1
            self._catalog.damage.note(path, self._descriptor, bad.message, growing=growing, event=event)

    async def _choose(self) -> tuple[int, int]:
        request, catalog = self._request, self._catalog
        if request.auto_position:
            assert request.has is not None
            logs, purged = catalog.logs.copy(), catalog.publication.purged
            by_gtid = partial(start_by_gtid, logs, catalog.claims, catalog.ended, request.has, purged, catalog.kept)
            return await asyncio.to_thread(by_gtid, pinned=request.pinned), FIRST_POSITION
        by_position = partial(
            start_by_position,
            catalog.logs.copy(),
            request.file,
            request.position,
            sources=catalog.sources(),
            announces=catalog.announces,
            pinned=request.pinned,
        )
        return await asyncio.to_thread(by_position), request.position

    async def _leave_timeline(self) -> None:
        """Behind its last file: into the next one, or away."""
        catalog, index, request, outlet = self._catalog, self._index, self._request, self._outlet
        last, following = catalog.logs[index], catalog.logs[index + 1]
        if request.pinned is not None or not request.auto_position:
            if not request.blocking:
                nowhere = f"{NO_FILE}{last.timeline:04}"
                rotate = fake_rotate(nowhere, FIRST_POSITION, server_id=self._server_id, algorithm=self._algorithm)
                await self._send(outlet.packet(rotate))
            raise end_of_timeline(last, following, catalog.sources(), request.pinned)
        assert self._left_out is not None
        for unknown in self._unknown:
            self._added |= await asyncio.to_thread(catalog.added, unknown)
        claim = await asyncio.to_thread(catalog.claims, index + 1)
        kept = await asyncio.to_thread(catalog.kept, following.timeline)
        self._left_out = go_on(self._left_out, self._added, claim, kept)
        self._added, self._unknown = GtidSet(), []
        self._outlet = Outlet(sequence=outlet.sequence, covering=self._left_out.covering)
        self._outlet.events = outlet.events
        self._clears_created = None

    async def _begin_file(self, position: int) -> None:
        """Open the file and send what stands before its events."""
        stored = self._catalog.logs[self._index]
        self._close()
        self._name = stored.qualified if self._qualified else stored.name
        path = self._catalog.path(self._index)
        head, first = await asyncio.to_thread(_look_at, path, stored.size)
        with explained("read", path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # has been looked up: nothing is waited for
        if head is None:
            raise EventError("the file has no FORMAT_DESCRIPTION")
        if head.algorithm is ChecksumAlgorithm.CRC32 and self._request.checksum is None:
            raise refuse("Replica can not handle replication events with the checksum that source is configured to log")
        if position > FIRST_POSITION and not await asyncio.to_thread(begins_event, path, head, position, stored.size):
            place = f"'{self._name}' at {position}"
            raise refuse(
                f"bogus data in log event; the first event {place}, the last event read from {place},"
                f" the last byte read from {place}."
            )
        described = head.format
        has = self._left_out
        has_first = has is not None and first is not None and has.contains(first.sid, first.tag, first.gno)
        if has is None:
            if position > FIRST_POSITION:
                described = for_position_start(head.format)
        elif self._clears_created is None:
            self._clears_created = self._request.auto_position and has_first
        if self._clears_created:
            described = with_created_zero(head.format)
        outlet = self._outlet
        rotate = fake_rotate(self._name, position, server_id=self._server_id, algorithm=self._algorithm)
        await self._send(outlet.packet(rotate) + outlet.packet(described))
        self._algorithm = head.algorithm
        outlet.checksum = head.algorithm.length
        outlet.damaged = self._catalog.damage.event(self._catalog.path(self._index), self._descriptor)
        outlet.position = max(position, FIRST_POSITION + len(head.format))
        if has_first and position <= FIRST_POSITION:
            await self._leap(head, stored.size)

    async def _leap(self, head: Head, size: int) -> None:
        """Go on behind what the client has of the file's beginning, which is not read: as if it had been left out."""
        outlet, has = self._outlet, self._left_out
        length = head.events - outlet.position
        if has is None or length > LONGEST_PREVIOUS:
            return
        catalog, index = self._catalog, self._index

        def leapt() -> int | None:
            return leap(
                catalog.path(index),
                catalog.marks(index),
                events=head.events,
                end=size,
                has=has,
                checksum_length=head.algorithm.length,
            )

        offset = await asyncio.to_thread(leapt)
        if offset is None:
            return
        with explained("read", catalog.path(index)):
            previous = os.pread(self._descriptor, length, outlet.position)  # which the head was read with just now
        if previous:
            await self._send(outlet.packet(previous))
        outlet.position = outlet.skipped_to = offset

    async def _rest_of_file(self) -> None:
        """The file's events; for the newest file, waiting for more until it is not the newest."""
        catalog, outlet = self._catalog, self._outlet
        while True:
            if outlet.position < catalog.logs[self._index].size:
                await self._stretch(catalog.logs[self._index].size)
                continue
            if self._index < len(catalog.logs) - 1:
                await self._close_books()
                outlet.skipped_to = 0  # the next file's ROTATE tells of it
                return
            if outlet.skipped_to:
                await self._heartbeat(outlet.skipped_to)
                continue  # the file may have grown, and ended, meanwhile
            if not self._request.blocking:
                return
            await self._attend()

    async def _close_books(self) -> None:
        """Behind a finished file: ask its .idx what the client has now.

        It is asked now, and not of all files at the timeline's end, for by then they may have been removed. One that
        lost its end looks sound: its .idx knows better.
        """
        position = self._outlet.position
        recorded = await asyncio.to_thread(read_recorded, self._catalog.path(self._index))
        if recorded is not None and recorded.size != position:
            raise EventError(f"the file ends at {position} and was finished with {recorded.size} bytes")
        if self._request.auto_position and self._request.pinned is None:
            if recorded is None:
                self._unknown.append(self._index)
            else:
                self._added |= recorded.added

    async def _stretch(self, end: int) -> None:
        """Everything up to ``end``."""
        self._outlet.limit = end
        self._blocks.busy += 1
        try:
            while self._outlet.position < end:
                await self._block(end)
        finally:
            self._blocks.busy -= 1

    async def _block(self, end: int) -> None:
        """The next block on the way to ``end``."""
        outlet, blocks = self._outlet, self._blocks
        size = min(BLOCK, end - outlet.position)
        try:
            if not blocks.read_cached(self._descriptor, size, outlet.position):
                await asyncio.to_thread(fetch, self._descriptor, outlet.position)
                found = blocks.read(self._descriptor, size, outlet.position)
                if found < size and self._reopened():
                    found = blocks.read(self._descriptor, size, outlet.position)
                if found < size and self._index == len(self._catalog.logs) - 1:
                    raise StoreUnreadable(
                        f"{self._name} is shorter than it was",
                        hint="what somebody removed or cut short is fetched again from the source",
                    )
                size = found
        except OSError:
            with explained("read", self._catalog.path(self._index)):
                raise
        if not outlet.in_event:
            self.last_event_time = int.from_bytes(blocks.block[:4], "little") or self.last_event_time
        packets = blocks.take()
        try:
            go_on = outlet.frame(blocks.block, 0, size, packets)
        except EventError:
            await self._send(packets[: outlet.filled])
            raise
        if outlet.filled:
            await self._send(packets[: outlet.filled])
        elif go_on and not outlet.consumed:
            raise EventError(f"the event at {outlet.position} does not end before {end}")
        blocks.give(packets)
        if not go_on or (outlet.skipped_to and self.heartbeat_due() == 0):
            await self._heartbeat(outlet.skipped_to)
        if time.monotonic() >= self._turn_ends:  # neither skipping nor a socket with room waits by itself
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + blocks.turn()

    async def _attend(self) -> None:
        """At the live tail, until there is something to do that is done here."""
        await self._live.attend(self, self._index)
        if self._offered:
            await self._channel.drained(SEND_TIMEOUT)
            self._sent(self._offered, time.monotonic())
            self._offered = 0
        if self._failure is not None:
            raise self._failure
        if self.heartbeat_due() == 0 and self._outlet.position == self._catalog.logs[self._index].size:
            await self._heartbeat(self._outlet.position)

    def take(self, start: int, end: int, packets: memoryview, now: float) -> bool:
        """``live.Member``: send up to ``end``, of which the block holds what follows ``start``, without waiting."""
        outlet, block = self._outlet, self._blocks.block
        at = outlet.position - start
        outlet.limit = end
        try:
            outlet.frame(block, at, end - start, packets)
        except EventError as bad:
            self._failure = bad
        filled = outlet.filled
        if filled:
            self.last_event_time = int.from_bytes(block[at : at + 4], "little") or self.last_event_time
            self._sending = True
            try:
                if self._channel.offer(packets[:filled]):
                    self._sent(filled, now)
                else:
                    self._offered = filled
            except OSError as gone:
                self._failure = gone
        return outlet.position == end and not (self._sending or outlet.skipped_to or self._failure)

    def heartbeat_due(self) -> float | None:
        """Seconds until a heartbeat must go out, None when the client wants none."""
        period = self._request.heartbeat
        return max(self._sent_at + period - time.monotonic(), 0.0) if period else None

    async def _heartbeat(self, position: int) -> None:
        """Tell the client how far we are; what was left out is thereby told."""
        outlet = self._outlet
        outlet.skipped_to = 0
        if self._request.heartbeat_v2:
            make = heartbeat_v2
        elif position < V1_HEARTBEAT_LIMIT:
            make = heartbeat_v1
        else:
            self._sent_at = time.monotonic()
            return  # an old replica would take the wrapped position for one it has passed, and stop for good
        event = make(self._name, position, server_id=self._server_id, algorithm=self._algorithm)
        await self._send(outlet.packet(event))

    async def _send(self, data: bytes | memoryview) -> None:
        self._sending = True
        if self._channel.put(data):
            self._sent(len(data), time.monotonic())
            return
        await self._channel.drained(SEND_TIMEOUT)
        now = time.monotonic()
        self._sent(len(data), now)
        self._turn_ends = now + self._blocks.turn()

    def _sent(self, size: int, now: float) -> None:
        """The kernel has it."""
        self._sending = False
        self.sent_bytes += size
        self._sent_at = now

    def _reopened(self) -> bool:
        """Whether another file is under the name now: what somebody removed was fetched again from the source."""
        path = self._catalog.path(self._index)
        if os.path.samestat(os.stat(path), os.fstat(self._descriptor)):
            return False
        old, self._descriptor = self._descriptor, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(old)
        return True

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _look_at(path: Path, size: int) -> tuple[Head | None, GtidEvent | None]:
    """The head of a file of which ``size`` bytes count, and its first transaction's GTID. May wait for the disk."""
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = read_head(descriptor, size)
            first = read_gtid(descriptor, head.events, size, head.algorithm.length) if head is not None else None
        finally:
            os.close(descriptor)
    return head, first
