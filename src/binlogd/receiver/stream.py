"""The tight loop: one dump, from the socket to the disk to the ACK.

Theory. Bytes gather in one fixed buffer; ``Intake`` turns them into the file's bytes in another; they are written
with one call. As soon as the source waits for an acknowledgement, or has nothing more, the stream *settles*:

    write everything → fdatasync → send one ACK for the last event that asked → publish up to the last whole transaction

which is the only place where an ACK comes from (rule 2 of the design). While the disk works, the next batch gathers
in the kernel: group commit without timers. Without TLS one read takes all of it; TLS hands out a record at a time, and
mysqld ends one with each commit, so there whatever is at hand is read first, for a moment at most.

*Catching up* is a stream that flows without a pause and asks for no ACK: nobody waits for the disk then, so it works
beside us. One fdatasync runs in the background at a time; when it has ended, what it covers is published, and the
next begins. And since the source sends in small pieces, the kernel is asked to gather many before it wakes us. The
first pause, or the first event that asks for an ACK, settles, and ends all that. A transaction of any size passes
through the two buffers.

A dump that goes on begins with an *overlap* of what is stored, which is compared and not written (overlap.py).

*Where a file ends.* A source that goes on to another file writes a ROTATE to it behind the last event of the one
before. Only where it was killed or stopped meanwhile there is none, and the next file's FORMAT_DESCRIPTION says when
the server started (``created``), which it says in no other. A source that is RESET in the middle of a dump, and soon
has as many files again, goes on with the second of its new ones, as if nothing had been: the dump holds the old first
one open, and looks up the next by its place in the index. (Seen with MySQL 5.6 and 9.7 and MariaDB 11.8.) So a file
that ends without a word, and does not end with a server, is asked for again: the source proves by its overlap that
this is its file, or cannot. What then ends so, with nothing come of it but the overlap, does so at that source.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from binlogd.binlog.crc import crc32
from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.framing import Intake, Stop
from binlogd.binlog.header import EventType
from binlogd.binlog.walk import Walk
from binlogd.errors import EventError, PeerError, ProtocolError
from binlogd.receiver.cascade import says_end
from binlogd.receiver.link import Link, Stopped
from binlogd.receiver.overlap import Overlap
from binlogd.receiver.plan import Start
from binlogd.receiver.progress import Progress, State
from binlogd.store.layout import is_binlog_name
from binlogd.store.publication import Publication
from binlogd.store.tail import Tail
from binlogd.wire.commands import encode_ack
from binlogd.wire.errors import decode_error
from binlogd.wire.packets import encode_packets

BUFFER = 2 * 1024 * 1024  # bytes taken from the kernel at most before they are looked at
WRITE_AT = 1024 * 1024  # write when this much is gathered: large enough that the call's own cost vanishes
FLOWING = 1024 * 1024  # bytes without a pause or a wish for an ACK that make it catching up
GATHER = 256 * 1024  # bytes that the kernel gathers meanwhile before it wakes us: 16 of mysqld's pieces
PAUSE = 0.001  # seconds without that much: the source is not ahead of us any more
DRAIN = 0.001  # seconds that an ACK may wait for what else is at hand in TLS records: what a sync costs
SYNC_AT = 8 * 1024 * 1024  # unsynced bytes that the next background sync begins at …
SYNC_AFTER = 0.01  # … or seconds since the last began: the age that a publication may have
UNSYNCED_MOST = 64 * 1024 * 1024  # bytes at which the disk is waited for after all: what a crash would cost to fetch


class Stream:
    """One dump, until it ends in an exception.

    ``tail`` stands at the position the dump was asked for. ``announced`` is the length of the CRC that the source
    puts behind its first artificial event; every newer publication is given to ``publish``.
    """

    def __init__(
        self,
        *,
        link: Link,
        tail: Tail,
        start: Start,
        announced: int,
        publish: Callable[[Publication], None],
        progress: Progress,
        semi_sync: bool,
        sequence: int | None,
        received: bytes,
    ) -> None:
        self._link = link
        self._tail = tail
        self._publish = publish
        self._progress = progress
        self._intake = Intake(semi_sync=semi_sync, sequence=sequence)
        self._checksum = announced  # of the next fake ROTATE
        self._preamble = not start.whole  # the first FORMAT_DESCRIPTION is a repetition, not to be stored
        self._overlap = Overlap(tail, start, framing=4 + (3 if semi_sync else 1))
        self._proved = start.file, start.position + start.overlap  # where a file may end without a word
        self._next_name = ""
        self._buffer = bytearray(max(BUFFER, len(received)))
        self._buffer[: len(received)] = received
        self._filled = len(received)
        self._out = memoryview(bytearray(len(self._buffer)))
        self._unsynced = 0  # bytes written that no sync, ended or under way, covers
        self._covered = 0  # bytes that the one under way covers
        self._sync_began = 0.0
        self._flowed = 0  # bytes since the source paused, or asked for an ACK
        self._arrived = time.monotonic()  # the latest bytes …
        self._owed_since = self._arrived  # … and those that the ACK now owed was first asked for with

    def run(self) -> None:
        """Receive until the connection ends, which raises; whatever is whole and sound is kept first."""
        try:
            self._run()
        except (PeerError, Stopped):
            self._intake.ack_owed = False
            if self._overlap.left:
                self._intake.filled = 0  # stored already, and no whole proof of anything
            self._settle(force=True)
            raise

    def _run(self) -> None:
        link, intake = self._link, self._intake
        view = memoryview(self._buffer)
        self._scan()
        while True:
            link.check_stop()  # a source that sends as fast as we take it makes us wait nowhere
            try:
                size = link.receive_into(view[self._filled :])
            except PeerError:
                if intake.ack_owed:
                    self._settle()  # what more was waited for will not come
                raise
            if size is None:
                if intake.ack_owed:
                    self._settle()
                else:
                    self._pause()
                continue
            self._arrived = time.monotonic()
            if not intake.ack_owed:
                self._owed_since = self._arrived
            self._progress.bytes_received += size
            self._filled += size
            self._flowed += size
            self._scan()
            if intake.ack_owed:
                if not (link.layered and self._flowed < WRITE_AT and self._arrived - self._owed_since < DRAIN):
                    self._settle()
                continue
            if intake.filled >= WRITE_AT:
                self._write()
            if self._flowed >= FLOWING:
                self._sync_beside()

    def _pause(self) -> None:
        """There is nothing to read now."""
        if self._flowed >= FLOWING:
            if not self._link.gather(GATHER, PAUSE):
                self._flowed = 0  # what little is there is taken, and then it is a pause
            return
        self._settle()
        self._link.wait_readable()

    def _sync_beside(self) -> None:
        """Keep one background sync going, and publish what the last one covers."""
        tail = self._tail
        if tail.walk is None:
            return
        if tail.syncing:
            if not tail.sync_ended and self._unsynced + self._covered < UNSYNCED_MOST:
                return
            self._show(tail.advance_synced())
            self._covered = 0
        pending = self._unsynced + self._intake.filled
        if pending >= SYNC_AT or (pending and self._arrived - self._sync_began >= SYNC_AFTER):
            self._write()
            self._covered, self._unsynced = self._unsynced, 0
            self._sync_began = self._arrived
            tail.begin_sync()
            self._progress.syncs += 1
            self._progress.batch_sizes.observe(self._covered)

    def _scan(self) -> None:
        """Take everything usable out of the buffer, and move what is left to its front."""
        intake = self._intake
        at = 0
        while True:
            if intake.filled and intake.filled + self._filled - at > len(self._out):
                self._write()
            end = self._filled
            if self._overlap.left:
                end = self._overlap.scan_end(self._buffer, at, end, intake.walk)
            stop = intake.scan(self._buffer, at, end, self._out)
            at = intake.consumed
            if self._overlap.left:
                self._write()
            if stop is Stop.MORE:
                if end == self._filled:
                    break
                continue
            if stop is Stop.CONTROL:
                self._control(intake.event)
                continue
            self._settle()
            if stop is Stop.ERROR:
                error = decode_error(intake.event)
                if says_end(error):
                    self._overlap.check_ended()  # of a copy that holds more than it is a copy of
                raise error
            raise ProtocolError("the source ended the dump, which was asked to wait for more")
        left = self._filled - at
        if at and left:
            self._buffer[:left] = self._buffer[at : self._filled]
        self._filled = left

    def _control(self, event: bytes) -> None:
        kind = event[4]
        if kind == EventType.ROTATE:
            self._rotate(event)
        elif kind == EventType.FORMAT_DESCRIPTION:
            self._format(event)
        elif kind in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2):
            self._overlap.check_ended()  # one that has more of it does not say that it waits
            self._proved = "", 0  # it waits for more of it
            self._progress.sent_everything()
        # Other artificial events (MariaDB's GTID_LIST) say nothing that is stored.

    def _rotate(self, event: bytes) -> None:
        """The fake ROTATE before every file names it: the one we go on with, or the next one.

        Its checksum follows the previous file's algorithm, at first what was announced (protocol.md §5).
        """
        if self._checksum and crc32(event[:-4]) != int.from_bytes(event[-4:], "little"):
            raise EventError("the source's artificial ROTATE event fails its CRC-32")
        name = Rotate.decode(event, self._checksum).name
        if not is_binlog_name(name):
            raise ProtocolError(f"the source names a binary log {name!r}, which no server does")
        if self._preamble and name != self._tail.name:
            raise ProtocolError(f"asked for {self._tail.name}, the source sends {name}")
        if not self._preamble:
            self._overlap.check_ended()
        self._next_name = name
        self._intake.walk = None  # no event belongs anywhere until the FORMAT_DESCRIPTION has come

    def _format(self, event: bytes) -> None:
        """A FORMAT_DESCRIPTION begins a file, or repeats the one we go on with."""
        described = FormatDescription.decode(event)
        self._checksum = described.algorithm.length
        if self._preamble:
            walk = self._tail.resume(event)
            if self._overlap.left:
                self._intake.walk = self._overlap.walk(self._checksum)
            else:
                self._go_on(walk)
            self._preamble = False
            self._next_name = ""
            return
        if not self._next_name:
            raise ProtocolError("a FORMAT_DESCRIPTION came without the ROTATE that names its file")
        self._settle()
        before = self._tail.walk
        ends_so = before is not None and (self._tail.name, before.position) == self._proved
        self._go_on(self._tail.start(self._next_name, event, described, ends_so=ends_so))
        self._next_name = ""
        self._settle(force=True)

    def _go_on(self, walk: Walk) -> None:
        """What comes now belongs into the newest file."""
        self._intake.walk = walk
        if self._progress.state is not State.STREAMING:
            self._progress.streaming()
        more = self._tail.accept_purged()
        if more is not None:
            self._show(more)

    def _write(self) -> None:
        intake = self._intake
        if not intake.filled:
            return
        data = self._out[: intake.filled]
        intake.filled = 0
        if self._overlap.left:
            self._overlap.compare(data, whole=intake.walk is None or not intake.walk.large_left)
            if not self._overlap.left and self._tail.walk is not None:
                self._go_on(self._tail.walk)
            return
        self._tail.append(data)
        self._unsynced += len(data)
        self._progress.even = False

    def _settle(self, *, force: bool = False) -> None:
        """Durable, then acknowledged, then visible: the one place for it."""
        intake, tail, progress = self._intake, self._tail, self._progress
        self._flowed = 0
        if not (self._unsynced or self._covered or intake.filled or intake.ack_owed or force):
            return
        self._write()
        if self._unsynced or self._covered:
            tail.sync()
            if self._unsynced:
                progress.batch_sizes.observe(self._unsynced)
            self._unsynced = self._covered = 0
            progress.syncs += 1
        walk = tail.walk
        if walk is None:
            intake.ack_owed = False  # nothing is stored yet: an ACK would name no file
            return
        if intake.ack_owed:
            intake.ack_owed = False
            position = self._overlap.position if self._overlap.left else walk.position
            packet, _ = encode_packets(encode_ack(tail.name, position), 0)
            self._link.send(packet)
            progress.acknowledged(time.monotonic() - self._owed_since)
        self._show(tail.advance())

    def _show(self, publication: Publication | None) -> None:
        """Tell everybody what is durable and whole, when it is more than they know."""
        tail, progress = self._tail, self._progress
        walk = tail.walk
        assert walk is not None
        if publication is not None:
            self._publish(publication)
            progress.sound()
        progress.file = tail.name
        progress.position = walk.position
        progress.last_event_time = walk.last_time or progress.last_event_time
        progress.transactions_received = tail.transactions
        progress.events_received = tail.events
