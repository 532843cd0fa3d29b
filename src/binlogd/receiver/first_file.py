"""With which of its files a source would begin for one who has certain GTIDs.

The source itself says so, and needs no other privilege for it than REPLICATION SLAVE: a dump by GTID begins in the
newest file that builds on nothing else (protocol.md §3), and names it first. Its PREVIOUS_GTIDS are read from the same
dump, which then is dropped. The file itself is fetched by name and position: a dump by GTID leaves holes.
"""

from __future__ import annotations

from dataclasses import replace

from binlogd.binlog.crc import crc32
from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import CRC_LENGTH, HEADER_LENGTH, EventType
from binlogd.errors import EventError, ProtocolError
from binlogd.receiver.link import Wake
from binlogd.receiver.session import Session, SourceOptions
from binlogd.store.layout import Identity, is_binlog_name
from binlogd.wire.errors import decode_error
from binlogd.wire.packets import PacketReader

LARGEST_HEAD = 256 * 1024 * 1024  # bytes of one of the first events: PREVIOUS_GTIDS of 16 million intervals
OK, EOF, ERR = 0x00, 0xFE, 0xFF  # what a packet begins with


def first_file(options: SourceOptions, identity: Identity, wake: Wake, has: GtidSet) -> tuple[str, GtidSet]:
    """The name and the PREVIOUS_GTIDS of that file. A connection of its own, and no acknowledgement."""
    session = Session(replace(options, semi_sync=False), identity, wake)
    try:
        session.connect()
        facts = session.prepare()
        sequence, received = session.dump_by_gtid(has)
        packets = PacketReader(max_payload=LARGEST_HEAD, sequence=sequence or 0)
        packets.numbered = sequence is not None
        packets.feed(received)

        def event() -> bytes:
            while (payload := packets.next()) is None:
                packets.feed(session.link.receive())
            if payload[:1] == bytes((ERR,)):
                raise decode_error(payload)
            if payload[:1] != bytes((OK,)) or len(payload) <= HEADER_LENGTH:
                raise ProtocolError("the source ended the dump before it began")
            return payload[1:]

        name = _rotate(event(), 4 if facts.checksum == "CRC32" else 0)
        described = FormatDescription.decode(event())
        return name, _previous(event(), described.algorithm.length)
    finally:
        session.close()


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
