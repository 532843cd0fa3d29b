"""With which of its files a source would begin for one who has certain GTIDs.

The source itself says so, and needs no other privilege for it than REPLICATION SLAVE: a dump by GTID begins in the
newest file that builds on nothing else (protocol.md §3), and names it first. Its PREVIOUS_GTIDS are read from the same
dump, which then is dropped. The file itself is fetched by name and position: a dump by GTID leaves holes. In the same
way it is asked for its oldest file.

Of a binlogd one timeline is asked (cascade.py), and so is which of several has a file.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from binlogd.binlog.crc import crc32
from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import CRC_LENGTH, HEADER_LENGTH, EventType
from binlogd.errors import EventError, ProtocolError
from binlogd.receiver.cascade import ER_SOURCE_FATAL_ERROR_READING_BINLOG
from binlogd.receiver.link import Wake
from binlogd.receiver.plan import FIRST_POSITION, Kept, Start
from binlogd.receiver.session import Session, SourceOptions
from binlogd.store.layout import Identity, is_binlog_name
from binlogd.wire.errors import decode_error
from binlogd.wire.packets import PacketReader

LARGEST_HEAD = 256 * 1024 * 1024  # bytes of one of the first events: PREVIOUS_GTIDS of 16 million intervals
_OLDEST = Start("", FIRST_POSITION, "COM_BINLOG_DUMP")
_MAY_BEGIN_SO = (EventType.PREVIOUS_GTIDS, EventType.HEARTBEAT, EventType.HEARTBEAT_V2)  # which come before it is there
OK, EOF, ERR = 0x00, 0xFE, 0xFF  # what a packet begins with


def first_file(
    options: SourceOptions, identity: Identity, wake: Wake, has: GtidSet | None, history: Kept | None = None
) -> tuple[str, GtidSet]:
    """The name and the PREVIOUS_GTIDS of that file; ``has`` None asks for the oldest, which may have none.

    Asked as ``_somebody``: nothing is acknowledged.
    """
    session = _somebody(options, identity, wake)
    try:
        session.connect()
        facts = session.prepare()
        session.copy(history)
        sequence, received = session.dump(_OLDEST) if has is None else session.dump_by_gtid(has)
        packets = _Packets(session, sequence, received)

        def event() -> bytes:
            payload = packets.next()
            if payload[:1] == bytes((ERR,)):
                raise decode_error(payload)
            if payload[:1] != bytes((OK,)) or len(payload) <= HEADER_LENGTH:
                raise ProtocolError("the source ended the dump before it began")
            return payload[1:]

        name = _rotate(event(), 4 if facts.checksum == "CRC32" else 0)
        described = FormatDescription.decode(event())
        second = event()
        if has is None and second[4] not in _MAY_BEGIN_SO:
            return name, GtidSet()
        return name, _previous(second, described.algorithm.length)
    finally:
        session.close()


def has_file(options: SourceOptions, identity: Identity, wake: Wake, history: Kept, start: Start) -> bool:
    """Whether that timeline of a binlogd has the file, and as much of it."""
    session = _somebody(options, identity, wake)
    try:
        session.connect()
        session.prepare()
        session.copy(history)
        payload = _Packets(session, *session.dump(start)).next()
        if payload[:1] != bytes((ERR,)):
            return True
        refused = decode_error(payload)
        if refused.code != ER_SOURCE_FATAL_ERROR_READING_BINLOG:
            raise refused
        return False
    finally:
        session.close()


def _somebody(options: SourceOptions, identity: Identity, wake: Wake) -> Session:
    """A connection under a UUID of its own: a dump of ours that is at work there goes on (protocol.md §4)."""
    return Session(replace(options, semi_sync=False), replace(identity, server_uuid=str(uuid.uuid4())), wake)


class _Packets:
    """What a dump sends."""

    def __init__(self, session: Session, sequence: int | None, received: bytes) -> None:
        self._link = session.link
        self._reader = PacketReader(max_payload=LARGEST_HEAD, sequence=sequence or 0)
        self._reader.numbered = sequence is not None
        self._reader.feed(received)

    def next(self) -> bytes:
        """The next one, once it is there."""
        while (payload := self._reader.next()) is None:
            self._reader.feed(self._link.receive())
        return payload


def _rotate(event: bytes, checksum: int) -> str:
    if event[4] != EventType.ROTATE:
        raise ProtocolError(f"the dump begins with an event of type {event[4]}, not with a ROTATE")
    name = Rotate.decode(event, checksum).name
    if not is_binlog_name(name):
        raise ProtocolError(f"the source names a binary log {name!r}, which no server does")
    return name


def _previous(event: bytes, checksum: int) -> GtidSet:
    if checksum and crc32(event[:-CRC_LENGTH]) != int.from_bytes(event[-CRC_LENGTH:], "little"):
        raise EventError("the second event of the source's file fails its CRC-32")
    if event[4] != EventType.PREVIOUS_GTIDS:
        raise ProtocolError("the source's file has no PREVIOUS_GTIDS, though its gtid_mode is ON")
    return PreviousGtids.decode(event, checksum).gtids
