"""Reading a real server's binary log for tests that compare it with what the server says about it."""

from __future__ import annotations

from pathlib import Path

from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.gtid_events import GtidEvent, MariadbGtidEvent, MariadbGtidList, PreviousGtids
from binlogd.binlog.header import BINLOG_MAGIC, EventFlag, EventType, Header
from binlogd.binlog.transaction_events import Query, Stop, TransactionPayload, XaPrepare, Xid


class File:
    """A binary log, split into events by nothing but their lengths."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        assert data.startswith(BINLOG_MAGIC)
        self.events: list[tuple[int, bytes]] = []
        at = len(BINLOG_MAGIC)
        while at < len(data):
            length = Header.decode(data, at).length
            self.events.append((at, data[at : at + length]))
            at += length
        assert at == len(data)
        self.fde = FormatDescription.decode(self.events[0][1])
        self.checksum = self.fde.algorithm.length

    def of(self, *types: EventType) -> list[bytes]:
        return [event for _, event in self.events if Header.decode(event).type in types]


def info(event: bytes, checksum: int) -> str | None:
    """What SHOW BINLOG EVENTS must show of this event, as far as we decode it."""
    match Header.decode(event).type:
        case EventType.FORMAT_DESCRIPTION:
            return f"Server ver: {FormatDescription.decode(event).server_version}, Binlog ver: 4"
        case EventType.PREVIOUS_GTIDS:
            return str(PreviousGtids.decode(event, checksum).gtids)
        case EventType.GTID | EventType.GTID_TAGGED:
            return f"SET @@SESSION.GTID_NEXT= '{GtidEvent.decode(event, checksum)}'"
        case EventType.QUERY:
            query = Query.decode(event, checksum)
            plain = not query.schema or Header.decode(event).flags & EventFlag.SUPPRESS_USE
            return ("" if plain else f"use `{query.schema}`; ") + query.text.decode()
        case EventType.XID:
            return f"COMMIT /* xid={Xid.decode(event, checksum).xid} */"
        case EventType.XA_PREPARE:
            return str(XaPrepare.decode(event, checksum))
        case EventType.ROTATE:
            rotate = Rotate.decode(event, checksum)
            return f"{rotate.name};pos={rotate.position}"
        case EventType.TRANSACTION_PAYLOAD:
            payload = TransactionPayload.decode(event, checksum)
            assert payload.compression == 0
            return f"compression='ZSTD', decompressed_size={payload.uncompressed_size} bytes"
        case EventType.MARIADB_GTID:
            gtid = MariadbGtidEvent.decode(event, checksum)
            return f"GTID {gtid.gtid}" if gtid.standalone else f"BEGIN GTID {gtid.gtid}"
        case EventType.MARIADB_GTID_LIST:
            gtids = MariadbGtidList.decode(event, checksum).gtids  # shown by domain, stored as they come
            return f"[{','.join(map(str, sorted(gtids, key=lambda gtid: gtid.domain)))}]"
        case EventType.STOP:
            Stop.decode(event, checksum)
            return ""
    return None
