"""Events that binlogd never writes, made for tests: what a server would put into its binary log.

Each function returns a whole event with its checksum. The GTID_TAGGED bytes follow
libs/mysql/serialization/readme.md and are held against a real server's in test_real_events.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from binlogd.binlog.header import ChecksumAlgorithm, EventType, build
from binlogd.errors import EventError

SERVER_ID = 7
CRC32 = ChecksumAlgorithm.CRC32


def event(
    kind: EventType,
    body: bytes,
    *,
    algorithm: ChecksumAlgorithm = CRC32,
    timestamp: int = 1_700_000_000,
    log_pos: int = 0,
    flags: int = 0,
) -> bytes:
    return build(
        kind,
        body,
        algorithm=algorithm,
        server_id=SERVER_ID,
        timestamp=timestamp,
        log_pos=log_pos,
        flags=flags,
    )


def read_or_refused(decode: Callable[[bytes, int], object], wire: bytes, checksum_length: int = 4) -> None:
    """Whatever ``wire`` is, ``decode`` returns or raises EventError with a message of one line."""
    try:
        decode(wire, checksum_length)
    except EventError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message


def lenenc(value: int) -> bytes:
    """A length-encoded integer in its shortest form."""
    if value < 251:
        return bytes((value,))
    lead, size = (0xFC, 2) if value < 2**16 else (0xFD, 3) if value < 2**24 else (0xFE, 8)
    return bytes((lead,)) + value.to_bytes(size, "little")


def varlen(value: int) -> bytes:
    """mysql::serialization's unsigned integer in its shortest form."""
    size = max(1, -(-value.bit_length() // 7))
    if size > 8:
        return b"\xff" + value.to_bytes(8, "little")
    return (value << size | (1 << size - 1) - 1).to_bytes(size, "little")


def varlen_signed(value: int) -> bytes:
    """mysql::serialization's signed integer."""
    return varlen(~value << 1 | 1 if value < 0 else value << 1)


def gtid(
    sid: bytes,
    gno: int,
    *,
    clock: tuple[int, int] | None = (0, 1),
    commit: bytes = b"",
    flags: int = 1,
    algorithm: ChecksumAlgorithm = CRC32,
) -> bytes:
    """GTID, or ANONYMOUS_GTID when ``gno`` is 0; ``commit`` is what 8.0 appends."""
    body = struct.pack("<B16sq", flags, sid, gno)
    if clock is not None:
        body += struct.pack("<Bqq", 2, *clock)
    kind = EventType.GTID if gno else EventType.ANONYMOUS_GTID
    return event(kind, body + commit, algorithm=algorithm)


def tagged_gtid(
    sid: bytes,
    tag: str,
    gno: int,
    fields: Iterable[tuple[int, int]] = (),
    *,
    needed: int = 0,
    flags: int = 0,
    algorithm: ChecksumAlgorithm = CRC32,
) -> bytes:
    """GTID_TAGGED with the further ``fields`` (number, value); 4 and 5 are signed."""
    content = varlen(0) + varlen(flags) + varlen(1) + b"".join(map(varlen, sid))
    content += varlen(2) + varlen_signed(gno) + varlen(3) + varlen(len(tag)) + tag.encode()
    for number, value in fields:
        content += varlen(number) + (varlen_signed(value) if number in (4, 5) else varlen(value))
    size = 2 + len(content) + len(varlen(needed))
    if size > 127:
        size += 1
    body = varlen(1) + varlen(size) + varlen(needed) + content
    return event(EventType.GTID_TAGGED, body, algorithm=algorithm)


def query(
    text: bytes,
    *,
    schema: str = "",
    status: bytes = b"",
    thread_id: int = 5,
    exec_time: int = 0,
    error_code: int = 0,
    kind: EventType = EventType.QUERY,
    algorithm: ChecksumAlgorithm = CRC32,
) -> bytes:
    """QUERY."""
    raw = schema.encode()
    head = struct.pack("<IIBHH", thread_id, exec_time, len(raw), error_code, len(status))
    return event(kind, head + status + raw + b"\0" + text, algorithm=algorithm)


def xid(number: int, *, algorithm: ChecksumAlgorithm = CRC32) -> bytes:
    """XID."""
    return event(EventType.XID, struct.pack("<Q", number), algorithm=algorithm)


def xa_prepare(gtrid: bytes, bqual: bytes, *, one_phase: bool = False, format_id: int = 1) -> bytes:
    """XA_PREPARE."""
    head = struct.pack("<BiII", one_phase, format_id, len(gtrid), len(bqual))
    return event(EventType.XA_PREPARE, head + gtrid + bqual)


def payload(data: bytes, *, compression: int | None = 0, uncompressed: int | None = 1000, extra: bytes = b"") -> bytes:
    """TRANSACTION_PAYLOAD around ``data``, in the order in which MySQL writes the fields."""
    fields = b""
    for number, value in ((2, compression), (3, uncompressed), (1, len(data))):
        if value is not None:
            fields += lenenc(number) + lenenc(len(lenenc(value))) + lenenc(value)
    return event(EventType.TRANSACTION_PAYLOAD, extra + fields + b"\0" + data)


def mariadb_gtid(domain: int, seq_no: int, *, flags: int = 0, tail: bytes = b"\0" * 6) -> bytes:
    """MariaDB's GTID; the server id is SERVER_ID."""
    return event(EventType.MARIADB_GTID, struct.pack("<QIB", seq_no, domain, flags) + tail)


def mariadb_gtid_list(gtids: Iterable[tuple[int, int, int]], *, flags: int = 0) -> bytes:
    """MariaDB's GTID_LIST of (domain, server id, sequence number)."""
    entries = [struct.pack("<IIQ", *entry) for entry in gtids]
    body = struct.pack("<I", len(entries) | flags << 28) + (b"".join(entries) or b"\0\0")
    return event(EventType.MARIADB_GTID_LIST, body)
