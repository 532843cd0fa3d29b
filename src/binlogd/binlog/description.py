"""An event in one line, as mysqld's SHOW BINLOG EVENTS shows it: its type's name and what it says (Info).

The words are those of MySQL 9.7 (``pack_info`` of each event in ``sql/log_event.cc``), which reads the events of older
servers in the same way. What only MariaDB writes is described in MariaDB's words. A statement's text stays the
bytes that it is in the file, whatever their character set: mysqld sends them so, too.

Whatever the bytes are, there is a line: a type that nobody knows is called Unknown, and of a body that cannot be read
the Info says that. Of an event as large as a GiB the beginning is enough; text that goes on behind it is marked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from operator import attrgetter
from struct import Struct
from types import MappingProxyType
from typing import Final, TypeAlias

from binlogd.binlog.collations import COLLATIONS, mariadb_collation
from binlogd.binlog.decimals import decimal_text
from binlogd.binlog.events import BINLOG_VERSION, FormatDescription, Rotate
from binlogd.binlog.gtid_events import GtidEvent, MariadbGtidEvent, MariadbGtidList, PreviousGtids
from binlogd.binlog.header import Body, Buffer, EventFlag, EventType, Header, open_event, type_name
from binlogd.binlog.transaction_events import Compression, Incident, Query, TransactionPayload, XaPrepare, Xid
from binlogd.errors import EventError

PREFIX: Final = 1024 * 1024  # bytes of an event that are described: no more of a statement is shown
DOUBLE_DIGITS: Final = 15  # DBL_DIG
UNREADABLE: Final = b"# this event cannot be read: "

_Describe: TypeAlias = Callable[[Header, Buffer, int], bytes]

# Codes of a QUERY's status variables (Query_event::Query_event_status_vars) and how many bytes follow each.
_FIXED: Final = MappingProxyType(
    {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1}
)
_CATALOG, _TIME_ZONE, _CATALOG_NZ, _INVOKER, _UPDATED_SCHEMAS, _DDL_XID = 2, 5, 6, 11, 12, 17
_TOO_MANY_SCHEMAS = 254
_NO_XID = 2**64 - 1

_MARIADB_GTID = 13  # bytes of a GTID event of MariaDB's before what flags say is there
_EXTRA_ENGINES, _START_ALTER, _COMMIT_ALTER, _ROLLBACK_ALTER = 1, 2, 4, 8  # flags behind that

_ROWS_FLAGS = (  # in the order in which they are printed
    (0x01, b" STMT_END_F"),
    (0x02, b" NO_FOREIGN_KEY_CHECKS_F"),
    (0x04, b" RELAXED_UNIQUE_CHECKS_F"),
    (0x10, b" USE_SQL_FOREIGN_KEY_F"),
    (0x08, b" COMPLETE_ROWS_F"),
)
_STRING, _REAL, _INTEGER, _DECIMAL = 0, 1, 2, 4  # Item_result
_double = Struct("<d")


def describe(header: Header, event: Buffer, checksum_length: int, *, mariadb: bool = False) -> tuple[str, bytes]:
    """The type's name and the Info of an event, of which ``event`` is at least the first PREFIX bytes.

    ``mariadb`` says whose file it is in: what both have, each shows in its own way.
    """
    name = type_name(header.type)
    kind = (_MARIADBS if mariadb else _DESCRIPTIONS).get(header.type)
    if kind is None:
        if header.flags & EventFlag.IGNORABLE:
            return name, b"# Unrecognized ignorable event"
        return name, b"" if name != "Unknown" else b"# Unknown event of type %d" % header.type
    try:
        return name, kind(header, event, checksum_length)
    except EventError as bad:
        return name, UNREADABLE + bad.message.encode(errors="backslashreplace")


def _body(header: Header, event: Buffer, checksum_length: int) -> Body:
    return open_event(event, checksum_length, EventType(header.type), prefix=True)[1]


def _quoted(name: bytes) -> bytes:
    return b"`%s`" % name.replace(b"`", b"``")


def _text(body: Body, header: Header, checksum_length: int) -> bytes:
    """What is left of the event, as far as it is there."""
    length = header.length - checksum_length - body.at
    return _marked(body.rest(), length)


def _marked(text: bytes, length: int) -> bytes:
    """``text``, which is the beginning of one of ``length`` bytes."""
    return text if len(text) >= length else text + b" ... (%d bytes in all)" % length


def _nothing(_header: Header, _event: Buffer, _checksum_length: int) -> bytes:
    return b""


def _format(_header: Header, event: Buffer, _checksum_length: int) -> bytes:
    described = FormatDescription.decode(event)
    return f"Server ver: {described.server_version}, Binlog ver: {BINLOG_VERSION}".encode()


def _rotate(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    rotate = Rotate.decode(event, checksum_length)
    return f"{rotate.name};pos={rotate.position}".encode()


def _previous_gtids(header: Header, event: Buffer, checksum_length: int) -> bytes:
    if len(event) < header.length:
        return b"# %d bytes of GTIDs" % header.length
    return str(PreviousGtids.decode(event, checksum_length).gtids).encode()


def _gtid(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    return f"SET @@SESSION.GTID_NEXT= '{GtidEvent.decode(event, checksum_length)}'".encode()


def _use(header: Header, schema: bytes) -> bytes:
    return b"use %s; " % _quoted(schema) if schema and not header.flags & EventFlag.SUPPRESS_USE else b""


def _query(header: Header, event: Buffer, checksum_length: int) -> bytes:
    query = Query.decode(event, checksum_length, text_limit=PREFIX)
    text = _inflated(query) if query.compressed else _marked(query.text, query.text_length)
    info = _use(header, query.schema.encode()) + text
    xid = _ddl_xid(query.status)
    return info if xid is None else info + b" /* xid=%d */" % xid


def _inflated(query: Query) -> bytes:
    """The text of MariaDB's QUERY_COMPRESSED: 0x80 and how many bytes the length has, the length, a zlib stream."""
    body = Body(memoryview(query.text), 0, "Query_compressed")
    length = int.from_bytes(body.take(body.uint(1) & 0x07), "big")
    try:
        text = zlib.decompressobj().decompress(body.rest(), min(length, PREFIX) or 1)
    except zlib.error as bad:
        raise body.bad(f"cannot be decompressed: {bad}") from bad
    return _marked(text[:length], length)


def _ddl_xid(status: bytes) -> int | None:
    """What a statement of DDL has for a COMMIT, among the status variables; None: nothing, or not to be found.

    A code that is not known ends the search, for its length is not known either.
    """
    body = Body(memoryview(status), 0, "Query")
    try:
        while len(body):
            code = body.uint(1)
            if code == _DDL_XID:
                xid = body.uint(8)
                return None if xid == _NO_XID else xid
            if code in _FIXED:
                body.take(_FIXED[code])
            elif code == _CATALOG:
                body.take(body.uint(1) + 1)
            elif code in (_TIME_ZONE, _CATALOG_NZ):
                body.take(body.uint(1))
            elif code == _INVOKER:
                body.take(body.uint(1))
                body.take(body.uint(1))
            elif code == _UPDATED_SCHEMAS:
                count = body.uint(1)
                for _ in range(0 if count == _TOO_MANY_SCHEMAS else count):
                    while body.uint(1):
                        pass
            else:
                return None
    except EventError:
        return None
    return None


def _xid(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    return b"COMMIT /* xid=%d */" % Xid.decode(event, checksum_length).xid


def _xa_prepare(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    return str(XaPrepare.decode(event, checksum_length)).encode()


def _payload(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    payload = TransactionPayload.decode(event, checksum_length)
    known = payload.compression in tuple(Compression)
    name = Compression(payload.compression).name if known else f"UNKNOWN ({payload.compression})"
    return f"compression='{name}', decompressed_size={payload.uncompressed_size} bytes".encode()


def _intvar(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    kind, value = body.uint(1), body.uint(8)
    return b"%s=%d" % ({1: b"LAST_INSERT_ID", 2: b"INSERT_ID"}.get(kind, b"UNKNOWN"), value)


def _rand(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    return b"rand_seed1=%d,rand_seed2=%d" % (body.uint(8), body.uint(8))


def _user_var(header: Header, event: Buffer, checksum_length: int) -> bytes:
    return _variable(header, event, checksum_length, COLLATIONS.get, b"0x%s")


def _mariadb_user_var(header: Header, event: Buffer, checksum_length: int) -> bytes:
    return _variable(header, event, checksum_length, mariadb_collation, b"X'%s'")


def _variable(
    header: Header, event: Buffer, checksum_length: int, find: Callable[[int], tuple[str, str] | None], literal: bytes
) -> bytes:
    body = _body(header, event, checksum_length)
    name = b"@%s=" % _quoted(body.take(body.uint(4)))
    if body.uint(1):
        return name + b"NULL"
    kind, collation, length = body.uint(1), body.uint(4), body.uint(4)
    whole = header.length - checksum_length - body.at
    value = body.take(min(length, len(body)))
    if len(value) < length and (kind != _STRING or length > whole):
        raise body.bad(f"ends within its value of {length} bytes")
    if kind == _STRING:
        found = find(collation)
        if found is None:
            return name + b"???"
        charset, called = found
        hexadecimal = literal % value.hex().upper().encode() if value else b'""'
        shown = hexadecimal if len(value) == length else hexadecimal + b" ... (%d bytes in all)" % length
        return name + b"_%s %s COLLATE %s" % (charset.encode(), shown, called.encode())
    if kind == _REAL and length == _double.size:
        return name + _real(_double.unpack(value)[0])
    if kind == _INTEGER and length == 8:
        unsigned = len(body) and body.uint(1) & 1
        return name + b"%d" % int.from_bytes(value, "little", signed=not unsigned)
    if kind == _DECIMAL:
        return name + decimal_text(value).encode()
    raise body.bad(f"holds a value of type {kind} in {length} bytes")


def _real(value: float) -> bytes:
    """A double as mysqld's my_gcvt writes it: with an exponent only below 1e-15 and from 1e15 on.

    What is no number, or is infinite, is 0.
    """
    if not math.isfinite(value):
        return b"0"
    text = repr(value)
    mantissa, digits = Decimal(text).normalize().as_tuple()[1:]
    exponent = len(mantissa) + int(digits) - 1
    if value and not -DOUBLE_DIGITS <= exponent < DOUBLE_DIGITS:
        shown = "".join(map(str, mantissa))
        sign = "-" if value < 0 else ""
        return f"{sign}{shown[0]}{'.' + shown[1:] if shown[1:] else ''}e{exponent}".encode()
    return f"{Decimal(text).normalize():f}".encode()


def _table_map(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    table = body.uint(6)
    body.take(2)
    schema = body.take(body.uint(1))
    body.take(1)
    return b"table_id: %d (%s.%s)" % (table, schema, body.take(body.uint(1)))


def _rows(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    table, flags = body.uint(6), body.uint(2)
    named = b"".join(name for flag, name in _ROWS_FLAGS if flags & flag)
    return b"table_id: %d" % table + (b" flags:" + named if named else b"")


def _rows_query(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    body.take(1)  # a length, which of a longer text is of no use
    return b"# " + _text(body, header, checksum_length)


def _block(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    file = body.uint(4)
    return b";file_id=%d;block_len=%d" % (file, header.length - checksum_length - body.at)


def _delete_file(header: Header, event: Buffer, checksum_length: int) -> bytes:
    return b";file_id=%d" % _body(header, event, checksum_length).uint(4)


def _execute_load(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    body.take(8)
    schema_length = body.uint(1)
    body.take(2)
    status_length = body.uint(2)
    file = body.uint(4)
    body.take(9 + status_length)
    schema = body.take(schema_length)
    body.take(1)
    return _use(header, schema) + _text(body, header, checksum_length) + b" ;file_id=%d" % file


def _incident(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    incident = Incident.decode(event, checksum_length)
    name = {0: "NONE", 1: "LOST_EVENTS"}.get(incident.number, "<NULL>")
    told = f": {incident.message}" if incident.message else ""
    return f"#{incident.number} ({name}){told}".encode()


def _context(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    length, thread = body.uint(1), body.uint(4)
    body.take(13)
    return b"server_uuid=%s\tthread_id=%d" % (body.take(length), thread)


def _view(header: Header, event: Buffer, checksum_length: int) -> bytes:
    return b"view_id=%s" % _body(header, event, checksum_length).take(40).partition(b"\0")[0]


def _mariadb_gtid(header: Header, event: Buffer, checksum_length: int) -> bytes:
    """Behind what the codec reads: [format_id4 gtrid_length1 bqual_length1 xid] [extra1 [engines1] [alter8]]."""
    made = MariadbGtidEvent.decode(event, checksum_length)
    body = _body(header, event, checksum_length)
    body.take(_MARIADB_GTID if made.commit_id is None else _MARIADB_GTID + 8)
    begins = "" if made.standalone else "BEGIN "
    if made.flags & (made.PREPARED_XA | made.COMPLETED_XA):
        format_id, gtrid_length, bqual_length = body.sint(4), body.uint(1), body.uint(1)
        gtrid, bqual = body.take(gtrid_length), body.take(bqual_length)
        if made.flags & made.PREPARED_XA:
            begins = f"XA START X'{gtrid.hex()}',X'{bqual.hex()}',{format_id} "
    commit = f" cid={made.commit_id}" if made.commit_id is not None else ""
    extra = body.uint(1) if len(body) else 0
    body.take(1 if extra & _EXTRA_ENGINES else 0)
    alter = " START ALTER" if extra & _START_ALTER else ""
    for flag, word in ((_COMMIT_ALTER, "COMMIT"), (_ROLLBACK_ALTER, "ROLLBACK")):
        if extra & flag:
            alter = f" {word} ALTER id={body.uint(8)}"
            break
    return f"{begins}GTID {made.gtid}{commit}{alter}".encode()


def _mariadb_gtids(_header: Header, event: Buffer, checksum_length: int) -> bytes:
    gtids = sorted(MariadbGtidList.decode(event, checksum_length).gtids, key=attrgetter("domain"))
    return f"[{','.join(map(str, gtids))}]".encode()


def _mariadb_text(header: Header, event: Buffer, checksum_length: int) -> bytes:
    return _text(_body(header, event, checksum_length), header, checksum_length)


def _mariadb_checkpoint(header: Header, event: Buffer, checksum_length: int) -> bytes:
    body = _body(header, event, checksum_length)
    return body.take(body.uint(4))


def _table(rows: Iterable[tuple[_Describe, str]]) -> Mapping[int, _Describe]:
    return MappingProxyType({EventType[name]: function for function, names in rows for name in names.split()})


_DESCRIPTIONS = _table(
    (
        (_nothing, "STOP SLAVE HEARTBEAT HEARTBEAT_V2 MARIADB_START_ENCRYPTION"),
        (_format, "FORMAT_DESCRIPTION"),
        (_rotate, "ROTATE"),
        (_previous_gtids, "PREVIOUS_GTIDS"),
        (_gtid, "GTID ANONYMOUS_GTID GTID_TAGGED"),
        (_query, "QUERY MARIADB_QUERY_COMPRESSED"),
        (_xid, "XID"),
        (_xa_prepare, "XA_PREPARE"),
        (_payload, "TRANSACTION_PAYLOAD"),
        (_intvar, "INTVAR"),
        (_rand, "RAND"),
        (_user_var, "USER_VAR"),
        (_table_map, "TABLE_MAP"),
        (_rows, "WRITE_ROWS UPDATE_ROWS DELETE_ROWS WRITE_ROWS_V1 UPDATE_ROWS_V1 DELETE_ROWS_V1 PARTIAL_UPDATE_ROWS"),
        (_rows, "MARIADB_WRITE_ROWS_COMPRESSED MARIADB_UPDATE_ROWS_COMPRESSED MARIADB_DELETE_ROWS_COMPRESSED"),
        (_rows, "MARIADB_WRITE_ROWS_COMPRESSED_V1 MARIADB_UPDATE_ROWS_COMPRESSED_V1"),
        (_rows, "MARIADB_DELETE_ROWS_COMPRESSED_V1"),
        (_rows_query, "ROWS_QUERY"),
        (_block, "BEGIN_LOAD_QUERY APPEND_BLOCK"),
        (_delete_file, "DELETE_FILE EXEC_LOAD"),
        (_execute_load, "EXECUTE_LOAD_QUERY"),
        (_incident, "INCIDENT"),
        (_context, "TRANSACTION_CONTEXT"),
        (_view, "VIEW_CHANGE"),
        (_mariadb_gtid, "MARIADB_GTID"),
        (_mariadb_gtids, "MARIADB_GTID_LIST"),
        (_mariadb_text, "MARIADB_ANNOTATE_ROWS"),
        (_mariadb_checkpoint, "MARIADB_BINLOG_CHECKPOINT"),
    )
)
_MARIADBS = MappingProxyType({**_DESCRIPTIONS, EventType.USER_VAR: _mariadb_user_var})
