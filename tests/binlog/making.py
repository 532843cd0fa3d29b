"""Whole binary logs, made event by event as a server writes them: valid to the last byte, and small.

``Log`` keeps what was written and where each event begins and ends, so that tests can say what must be found without
asking the code under test. Bodies come from builders.py; only places and checksums are added here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from binlogd.binlog.events import FormatDescription, Rotate
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import (
    BINLOG_MAGIC,
    CRC_LENGTH,
    HEADER_LENGTH,
    ChecksumAlgorithm,
    EventType,
    build,
    with_checksum,
)
from tests.binlog import builders

CRC32 = ChecksumAlgorithm.CRC32
OFF = ChecksumAlgorithm.OFF

UUID_A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
UUID_B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
SID_A = UUID(UUID_A).bytes
SID_B = UUID(UUID_B).bytes

TIME = 1_700_000_000  # of the first event; each further one is a second later
SERVER_ID = builders.SERVER_ID


class Made(NamedTuple):
    """One event of a log, ``data[start:end]`` of the file."""

    start: int
    end: int
    kind: int


class Log:
    """One file. ``base`` is the offset its first event has, 4 behind the magic; another for a piece of a long file."""

    def __init__(
        self,
        algorithm: ChecksumAlgorithm = CRC32,
        *,
        version: str = "8.0.36",
        base: int = 4,
        log_positions: bool = True,
        created: int = 0,
    ) -> None:
        self.algorithm = algorithm
        self.version = version
        self.base = base
        self.created = created
        self.log_positions = log_positions  # False: as MariaDB 11.4 within transactions
        self.data = bytearray(BINLOG_MAGIC if base == 4 else b"")
        self.events: list[Made] = []
        self.ends: list[int] = []  # of the transactions put in by the methods that make whole ones
        self.starts: list[int] = []
        self.gtids: list[tuple[bytes, str, int]] = []
        self._random = random.Random(len(version))

    # places

    @property
    def position(self) -> int:
        """The offset behind what is written."""
        return self.base + len(self.data) - (4 if self.base == 4 else 0)

    @property
    def checksum(self) -> int:
        return self.algorithm.length

    def at(self, offset: int) -> int:
        """The index into ``data`` of an offset into the file."""
        return offset - self.base + (4 if self.base == 4 else 0)

    def event(self, index: int) -> bytes:
        """The bytes of one event."""
        made = self.events[index]
        return bytes(self.data[self.at(made.start) : self.at(made.end)])

    def each(self) -> list[bytes]:
        """The bytes of every event."""
        return [self.event(index) for index in range(len(self.events))]

    # events

    def add(self, kind: int, body: bytes, *, timestamp: int | None = None, flags: int = 0) -> Made:
        """Write an event around this body."""
        start = self.position
        end = start + HEADER_LENGTH + len(body) + self.checksum
        head = struct.pack(
            "<IBIIIH",
            TIME + len(self.events) if timestamp is None else timestamp,
            kind,
            SERVER_ID,
            0,
            end & 0xFFFFFFFF if self.log_positions else 0,
            flags,
        )
        self.data += with_checksum(head + body, self.algorithm)
        self.events.append(Made(start, end, kind))
        return self.events[-1]

    def put(self, event: bytes) -> Made:
        """Write an event that builders.py made, with its CRC, here."""
        return self.add(event[4], event[HEADER_LENGTH:-CRC_LENGTH])

    def format(self) -> Made:
        """FORMAT_DESCRIPTION."""
        start = self.position
        described = FormatDescription(self.version, self.created, bytes(42), self.algorithm)
        length = len(described.encode(server_id=SERVER_ID))
        event = described.encode(server_id=SERVER_ID, timestamp=TIME + len(self.events), log_pos=start + length)
        self.data += event
        self.events.append(Made(start, start + length, EventType.FORMAT_DESCRIPTION))
        return self.events[-1]

    def previous(self, gtids: GtidSet | str = "") -> Made:
        """PREVIOUS_GTIDS."""
        gtids = GtidSet.parse(gtids) if isinstance(gtids, str) else gtids
        event = PreviousGtids(gtids).encode(server_id=SERVER_ID, algorithm=CRC32)
        return self.add(EventType.PREVIOUS_GTIDS, event[HEADER_LENGTH:-CRC_LENGTH], flags=0x80)

    def gtid(self, gno: int, sid: bytes = SID_A, tag: str = "") -> Made:
        """GTID, ANONYMOUS_GTID (``gno`` 0) or GTID_TAGGED."""
        return self.put(builders.tagged_gtid(sid, tag, gno) if tag else builders.gtid(sid, gno))

    def query(self, text: bytes, *, schema: str = "test", status: bytes = b"\0\0\0\0\0") -> Made:
        return self.put(builders.query(text, schema=schema, status=status))

    def table_map(self) -> Made:
        return self.add(EventType.TABLE_MAP, b"\x51" * 30)

    def rows(self, size: int = 100) -> Made:
        """WRITE_ROWS whose body is ``size`` bytes that look like nothing."""
        return self.add(EventType.WRITE_ROWS, self._random.randbytes(size))

    def xid(self) -> Made:
        return self.put(builders.xid(len(self.events)))

    def rotate(self, name: str = "mysql-bin.000002") -> Made:
        event = Rotate(4, name).encode(server_id=SERVER_ID, algorithm=CRC32)
        return self.put(event)

    def stop(self) -> Made:
        return self.add(EventType.STOP, b"")

    # whole transactions

    def begin_file(self, previous: GtidSet | str | None = "") -> Log:
        """What every file begins with; ``previous`` None leaves PREVIOUS_GTIDS out."""
        self.format()
        if previous is not None:
            self.previous(previous)
        return self

    def transaction(self, gno: int = 0, sid: bytes = SID_A, tag: str = "", sizes: Iterable[int] = (100,)) -> Log:
        """GTID (or ANONYMOUS_GTID), BEGIN, rows of these sizes, XID."""
        self._group(gno, sid, tag)
        self.query(b"BEGIN")
        for size in sizes:
            self.table_map()
            self.rows(size)
        self.xid()
        return self._ended(gno, sid, tag)

    def statement(
        self, gno: int = 0, sid: bytes = SID_A, tag: str = "", text: bytes = b"CREATE TABLE t (a INT)"
    ) -> Log:
        """GTID (or ANONYMOUS_GTID) and one statement that commits itself."""
        self._group(gno, sid, tag)
        self.query(text)
        return self._ended(gno, sid, tag)

    def payload(self, gno: int = 0, sid: bytes = SID_A, tag: str = "", size: int = 200) -> Log:
        """GTID (or ANONYMOUS_GTID) and TRANSACTION_PAYLOAD."""
        self._group(gno, sid, tag)
        self.put(builders.payload(self._random.randbytes(size)))
        return self._ended(gno, sid, tag)

    def _group(self, gno: int, sid: bytes, tag: str) -> None:
        self.starts.append(self.position)
        self.gtid(gno, sid, tag)

    def _ended(self, gno: int, sid: bytes, tag: str) -> Log:
        self.ends.append(self.position)
        if gno:
            self.gtids.append((sid, tag, gno))
        return self

    @property
    def set(self) -> GtidSet:
        """The GTIDs of the whole transactions."""
        return GtidSet.from_runs((sid, tag, gno, gno) for sid, tag, gno in self.gtids)


def sample(algorithm: ChecksumAlgorithm = CRC32, *, previous: str = "", rotate: str = "mysql-bin.000002") -> Log:
    """A small file with a transaction of every kind."""
    log = Log(algorithm).begin_file(previous)
    log.transaction(1).transaction(2, sizes=(10, 300)).statement(3).payload(4)
    log.transaction(7, SID_B).transaction(1, SID_B, "nightly").statement(2, SID_B, "nightly").transaction(5)
    log.rotate(rotate)
    return log


def broken(event: bytes, index: int, bit: int = 1) -> bytes:
    """The event with one bit turned over."""
    made = bytearray(event)
    made[index] ^= bit
    return bytes(made)


def resealed(event: bytes | bytearray) -> bytes:
    """An edited event with the CRC that belongs to it."""
    return with_checksum(bytes(event[:-CRC_LENGTH]), CRC32)


def later(log: Log, seconds: int) -> bytes:
    """The file as it would be, had everything come later. With checksums only."""
    made = bytearray(BINLOG_MAGIC)
    for event in log.each():
        timestamp = int.from_bytes(event[:4], "little") + seconds
        made += resealed(timestamp.to_bytes(4, "little") + event[4:])
    return bytes(made)


def artificial(kind: EventType, body: bytes, algorithm: ChecksumAlgorithm = CRC32) -> bytes:
    """An event made for the stream."""
    return build(kind, body, algorithm=algorithm, server_id=SERVER_ID, flags=0x20)
