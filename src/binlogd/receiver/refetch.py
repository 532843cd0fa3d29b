"""One binary log from the source once more, beside a store whose own copy is damaged or gone.

It disturbs nobody: the dump is asked for under an identity of its own, since a source ends the older one of two dumps
with the same UUID (protocol.md §4), and never acknowledges anything. The file is asked for from its beginning and
stored as the receiver would store it, every event checked on the way; it is whole when the source goes on to the next.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import replace
from pathlib import Path

from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.framing import Intake, Stop
from binlogd.binlog.header import BINLOG_MAGIC, EventType
from binlogd.binlog.walk import Boundary, Walk
from binlogd.errors import ProtocolError, SourceRefused
from binlogd.receiver.link import Link, Wake
from binlogd.receiver.plan import FIRST_POSITION, Start, timeline_name
from binlogd.receiver.session import Session, SourceOptions
from binlogd.store.disk import Disk, explained
from binlogd.store.layout import MAX_SERVER_ID, Identity, binlog_base, binlog_number
from binlogd.wire.errors import decode_error

BUFFER = 2 * 1024 * 1024  # bytes taken from the connection at most before they are looked at, as by the receiver


def refetch(
    options: SourceOptions,
    name: str,
    *,
    source_uuid: str,
    server_id: int | None,
    target: Path,
    disk: Disk,
    size: int | None = None,
) -> None:
    """Write the source's binary log ``name`` to ``target``, whole and durable.

    ``source_uuid`` is whose history it belongs to, ``server_id`` our own, which nobody else may use. With ``size`` the
    file may be one that the source still writes: what it has by then up to the end of a transaction is taken, if that
    is as much. Raises PeerError or SourceRefused where the source has it not, or is another one.
    """
    other = Identity(str(uuid.uuid4()), server_id or 0)
    while other.server_id in (0, server_id):
        other = replace(other, server_id=1 + secrets.randbelow(MAX_SERVER_ID))
    session = Session(replace(options, semi_sync=False), other, Wake())
    try:
        session.connect()
        facts = session.prepare()
        if timeline_name(facts) != source_uuid:
            raise SourceRefused(
                f"{name} is of the history of source {source_uuid}; this one is {timeline_name(facts)}",
                hint="name that source with --source, or restore the file from a copy",
            )
        sequence, received = session.dump(Start(name, FIRST_POSITION, "COM_BINLOG_DUMP"))
        with explained("write", target):
            descriptor = disk.create(target)
            try:
                copy = _Copy(name, disk, descriptor, announced=4 if facts.checksum == "CRC32" else 0, size=size)
                copy.run(session.link, Intake(semi_sync=False, sequence=sequence), received)
                disk.sync(descriptor)
            finally:
                disk.close(descriptor)
    finally:
        session.close()


class _Copy:
    """The file on its way."""

    def __init__(self, name: str, disk: Disk, descriptor: int, *, announced: int, size: int | None) -> None:
        self._name = name
        self._disk = disk
        self._descriptor = descriptor
        self._checksum = announced  # of the next fake ROTATE
        self._size = size
        self._walk: Walk | None = None
        self._whole = False

    def run(self, link: Link, intake: Intake, received: bytes) -> None:
        """Until it is whole."""
        buffer = bytearray(max(BUFFER, len(received)))
        buffer[: len(received)] = received
        out = memoryview(bytearray(len(buffer)))
        filled = len(received)
        while True:
            at = 0
            stop = Stop.CONTROL
            while stop is Stop.CONTROL and not self._whole:
                stop = intake.scan(buffer, at, filled, out)
                at = intake.consumed
                self._disk.write(self._descriptor, out[: intake.filled])
                intake.filled = 0
                if stop is Stop.CONTROL:
                    self._control(intake)
            if stop is Stop.ERROR:
                raise decode_error(intake.event)
            if stop is Stop.END:
                raise ProtocolError("the source ended the dump, which was asked to wait for more")
            if self._whole or self._reached():
                return
            filled -= at
            buffer[:filled] = buffer[at : at + filled]
            while (size := link.receive_into(memoryview(buffer)[filled:])) is None:
                link.wait_readable()
            filled += size

    def _control(self, intake: Intake) -> None:
        event = intake.event
        kind = event[4]
        if kind == EventType.ROTATE:
            self._rotate(Rotate.decode(event, self._checksum).name)
        elif kind == EventType.FORMAT_DESCRIPTION:
            described = FormatDescription.decode(event)
            self._checksum = described.algorithm.length
            self._walk = intake.walk = Walk(position=FIRST_POSITION, checksum=self._checksum)
            self._walk.whole(event, 0, len(event))
            self._disk.write(self._descriptor, BINLOG_MAGIC + event)
        elif kind in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2) and self._walk is not None:
            has = self._walk.position
            raise SourceRefused(
                f"the source has {has} bytes of {self._name} and goes on with no other file",
                hint="it lost what was behind, or was reset: compare it with the store before you go on",
            )

    def _rotate(self, name: str) -> None:
        """Before the file it names it; behind it, the next one."""
        if self._walk is None:
            if name != self._name:
                raise ProtocolError(f"asked for {self._name}, the source sends {name}")
            return
        if (binlog_base(name), binlog_number(name)) != (binlog_base(self._name), binlog_number(self._name) + 1):
            raise SourceRefused(f"{name} follows {self._name} at the source", hint="it was reset: keep the store")
        self._whole = True

    def _reached(self) -> bool:
        """Whether there is as much as was asked for; what is behind a transaction's end is dropped then."""
        walk = self._walk
        if self._size is None or walk is None or walk.transaction_end < self._size:
            return False
        if walk.boundary != Boundary.OUTSIDE or walk.position != walk.transaction_end or walk.large_left:
            self._disk.truncate(self._descriptor, walk.transaction_end)
        return True
