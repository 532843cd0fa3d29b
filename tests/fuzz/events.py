"""Event codecs: a decoder and an event of any bytes.

    first1  which decoder  ·  flags1  1 the event has a checksum, 2 its length stays as it is  ·  then the event

What has an encoder round-trips: what was decoded is what its encoding decodes to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from binlogd.binlog.events import FormatDescription, Heartbeat, Rotate, fake_rotate, heartbeat_v2
from binlogd.binlog.gtid_events import GtidEvent, MariadbGtidEvent, MariadbGtidList, PreviousGtids, tagged_gtid
from binlogd.binlog.header import ChecksumAlgorithm, Header, type_name
from binlogd.binlog.transaction_events import Incident, Query, Stop, TransactionPayload, XaPrepare, Xid
from binlogd.errors import EventError
from tests.fuzz import shapes

HEADER = 19
TYPES = (15, 4, 27, 41, 35, 33, 34, 42, 162, 163, 2, 16, 38, 40, 26, 3)

DECODERS: tuple[Callable[[bytes, int], Any], ...] = (
    lambda event, _: FormatDescription.decode(event),
    Rotate.decode,
    Heartbeat.decode,
    Heartbeat.decode,
    PreviousGtids.decode,
    GtidEvent.decode,
    GtidEvent.decode,
    GtidEvent.decode,
    MariadbGtidEvent.decode,
    MariadbGtidList.decode,
    Query.decode,
    Xid.decode,
    XaPrepare.decode,
    TransactionPayload.decode,
    Incident.decode,
    Stop.decode,
)


def run(data: bytes) -> None:
    """See the package."""
    if len(data) < 2:
        return
    which, flags = data[0] % len(DECODERS), data[1]
    event = bytearray(data[2:])
    checksum = 4 if flags & 1 else 0
    if len(event) >= HEADER and not flags & 2:
        event[4] = TYPES[which] if not flags & 4 else event[4]
        event += bytes(checksum)
        event[9:13] = len(event).to_bytes(4, "little")
    whole = bytes(event)
    try:
        header = Header.decode(whole)
        assert Header.decode(header.encode()) == header
        type_name(header.type)
        decoded = DECODERS[which](whole, checksum)
        str(decoded)
        _again(decoded)
    except EventError as error:
        assert "\n" not in str(error)
    if which == 7:
        try:
            tagged_gtid(whole, HEADER, len(whole))
        except EventError:
            pass


def _again(decoded: Any) -> None:
    algorithm = ChecksumAlgorithm.CRC32
    match decoded:
        case FormatDescription():
            assert FormatDescription.decode(decoded.encode(server_id=1)) == decoded
        case Rotate():
            event = fake_rotate(decoded.name, decoded.position, server_id=1, algorithm=algorithm)
            assert Rotate.decode(event, 4) == decoded
        case Heartbeat():
            event = heartbeat_v2(decoded.name, decoded.position, server_id=1, algorithm=algorithm)
            assert Heartbeat.decode(event, 4) == decoded
        case PreviousGtids():
            event = decoded.encode(server_id=1, algorithm=algorithm)
            assert PreviousGtids.decode(event, 4) == decoded


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """One event of each kind, from real dumps."""
    seen: set[tuple[str, int]] = set()
    for name, stream in captures.items():
        if not name.startswith("dump-"):
            continue
        marked = 3 if "semisync" in name else 1
        for _, payload in shapes.payloads(stream):
            event = payload[marked:]
            if payload[:1] == b"\0" and len(event) > HEADER and event[4] in TYPES and (name, event[4]) not in seen:
                seen.add((name, event[4]))
                yield bytes([TYPES.index(event[4]), 1]) + event[:-4]
                yield bytes([TYPES.index(event[4]), 3]) + event
