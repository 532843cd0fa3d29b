"""Where transactions end, in the files of every server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import Boundary
from tests.binlog import builders
from tests.binlog.feeding import walked
from tests.binlog.making import CRC32, OFF, SID_A, Log

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])

Step = Callable[[Log], object]


def call(method: str, *arguments: object) -> Step:
    """A step that calls this method of the log."""
    return lambda log: getattr(log, method)(*arguments)


def text(statement: bytes) -> Step:
    return call("query", statement)


def mariadb(flags: int) -> Step:
    return call("put", builders.mariadb_gtid(0, 12, flags=flags))


GTID = call("gtid", 9)
TAGGED = call("gtid", 9, SID_A, "tag")
ANONYMOUS = call("gtid", 0)
BEGIN = text(b"BEGIN")
COMMIT = text(b"COMMIT")
ROLLBACK = text(b"ROLLBACK")
XID = call("xid")
MAP = call("table_map")
ROWS = call("rows")
DDL = text(b"CREATE TABLE t (a INT)")
INTVAR = call("add", EventType.INTVAR, bytes(9))
RAND = call("add", EventType.RAND, bytes(16))
USER_VAR = call("add", EventType.USER_VAR, b"\1\0\0\0a\1")
INCIDENT = call("add", EventType.INCIDENT, b"\1\0\0")
PAYLOAD = call("put", builders.payload(b"x" * 50))
PREPARE = call("put", builders.xa_prepare(b"g", b"b"))
ROTATE = call("rotate")
STOP = call("stop")
UNKNOWN = call("add", 250, b"from the future")
ROWS_QUERY = call("add", EventType.ROWS_QUERY, b"\7INSERT.")
CHECKPOINT = call("add", EventType.MARIADB_BINLOG_CHECKPOINT, b"\5\0\0\0log.1")
COMPRESSED = call("put", builders.query(b"\x81\5xxxxxxxx", kind=EventType.MARIADB_QUERY_COMPRESSED))

# Each row: its events; the indices of those that a transaction ends with, a neutral one outside of any included;
# how many transactions that makes.
BOUNDARIES: dict[str, tuple[list[Step], set[int], int]] = {
    "rows": ([GTID, BEGIN, MAP, ROWS, ROWS, XID], {5}, 1),
    "tagged": ([TAGGED, BEGIN, MAP, ROWS, XID], {4}, 1),
    "anonymous": ([ANONYMOUS, BEGIN, ROWS_QUERY, MAP, ROWS, XID], {5}, 1),
    "a transactionless engine's COMMIT": ([GTID, BEGIN, MAP, ROWS, COMMIT], {4}, 1),
    "rolled back": ([GTID, BEGIN, MAP, ROWS, ROLLBACK], {4}, 1),
    "to a savepoint only": (
        [
            GTID,
            BEGIN,
            text(b"SAVEPOINT `a`"),
            MAP,
            ROWS,
            text(b"ROLLBACK TO `a`"),
            text(b"ROLLBACK TO SAVEPOINT x"),
            XID,
        ],
        {7},
        1,
    ),
    "a DDL": ([GTID, DDL], {1}, 1),
    "an anonymous DDL": ([ANONYMOUS, DDL], {1}, 1),
    "two DDLs": ([GTID, DDL, TAGGED, DDL], {1, 3}, 2),
    "a statement with its variables": ([GTID, INTVAR, RAND, USER_VAR, DDL], {4}, 1),
    "statements within": ([GTID, BEGIN, INTVAR, DDL, USER_VAR, DDL, XID], {6}, 1),
    "an empty one": ([GTID, BEGIN, COMMIT], {2}, 1),
    "payload": ([GTID, PAYLOAD], {1}, 1),
    "anonymous payloads": ([ANONYMOUS, PAYLOAD, ANONYMOUS, PAYLOAD], {1, 3}, 2),
    "atomic CREATE … SELECT": (
        [GTID, BEGIN, text(b"CREATE TABLE t (a INT) START TRANSACTION"), MAP, ROWS, XID],
        {5},
        1,
    ),
    "XA prepared": ([GTID, text(b"XA START X'61',X'',1"), MAP, ROWS, text(b"XA END X'61',X'',1"), PREPARE], {5}, 1),
    "XA committed": ([GTID, text(b"XA COMMIT X'61',X'',1")], {1}, 1),
    "XA rolled back": ([GTID, text(b"XA ROLLBACK X'61',X'',1")], {1}, 1),
    "XA, and another between": (
        [
            GTID,
            text(b"XA START X'61'"),
            MAP,
            ROWS,
            PREPARE,
            GTID,
            BEGIN,
            MAP,
            ROWS,
            XID,
            GTID,
            text(b"XA COMMIT X'61'"),
        ],
        {4, 9, 11},
        3,
    ),
    "XA START is not XA STARTLED": ([GTID, text(b"XA RECOVER"), GTID, DDL], {1, 3}, 2),
    "an incident": ([INCIDENT], {0}, 1),
    "an incident with a GTID": ([GTID, INCIDENT], {1}, 1),
    "5.6: rows": ([BEGIN, MAP, ROWS, XID, BEGIN, MAP, ROWS, XID], {3, 7}, 2),
    "5.6: statements": ([BEGIN, INTVAR, DDL, COMMIT], {3}, 1),
    "5.6: a DDL": ([DDL, DDL], {0, 1}, 2),
    "5.6: a DDL with its variables": ([INTVAR, DDL], {1}, 1),
    "5.6: the end of the file": ([BEGIN, ROWS, XID, ROTATE], {2, 3}, 1),
    "nothing but STOP": ([STOP], {0}, 0),
    "the end of the file": ([GTID, DDL, ROTATE], {1, 2}, 1),
    "a rotation within": ([GTID, BEGIN, MAP, ROTATE], set(), 0),
    "a GTID at the end": ([GTID, DDL, GTID, ROTATE], {1}, 1),
    "a GTID after a cut transaction": ([GTID, BEGIN, MAP, GTID, BEGIN, XID], {5}, 1),
    "unknown events outside": ([UNKNOWN, GTID, BEGIN, UNKNOWN, XID, UNKNOWN], {0, 4, 5}, 1),
    "MariaDB: rows": ([mariadb(0), MAP, ROWS, XID], {3}, 1),
    "MariaDB: BEGIN and COMMIT as statements": ([mariadb(0), INTVAR, DDL, COMMIT], {3}, 1),
    "MariaDB: a DDL": ([mariadb(1), DDL], {1}, 1),
    "MariaDB: a DDL with its variables": ([mariadb(1), INTVAR, DDL, CHECKPOINT], {2, 3}, 1),
    "MariaDB: group commit": ([mariadb(2), ROWS, XID, mariadb(3), DDL], {2, 4}, 2),
    "MariaDB: compressed statements": ([mariadb(0), COMPRESSED, COMPRESSED, XID, mariadb(1), COMPRESSED], {3, 5}, 2),
    "MariaDB: XA": ([mariadb(0x40), MAP, ROWS, PREPARE, mariadb(0x80), text(b"XA COMMIT X'61',X'',1")], {3, 5}, 2),
}


@ALGORITHMS
@pytest.mark.parametrize("name", BOUNDARIES)
def test_boundaries(name: str, algorithm: ChecksumAlgorithm) -> None:
    steps, ends, count = BOUNDARIES[name]
    log = Log(algorithm).begin_file()
    walk = walked(log)
    assert walk.transaction_end == walk.position == log.position
    expected = log.position
    for index, step in enumerate(steps):
        step(log)
        event = log.event(-1)
        walk.whole(event, 0, len(event))
        assert walk.position == log.position
        if index in ends:
            expected = log.position
            assert walk.boundary == Boundary.OUTSIDE
        assert walk.transaction_end == expected, f"behind event {index}"
    assert walk.transactions == count


def test_query_texts_are_found_behind_status_variables_and_schema() -> None:
    for schema in ("", "s", "s" * 64):
        for status in (b"", b"\0\0\0\0\0", bytes(range(250)), b"BEGIN" * 60):
            log = Log().begin_file()
            log.query(b"BEGIN", schema=schema, status=status)
            walk = walked(log)
            assert walk.boundary == Boundary.INSIDE
            log.query(b"COMMIT", schema=schema, status=status)
            assert walked(log).transaction_end == log.position


@pytest.mark.parametrize("statement", [b"begin", b"BEGIN ", b"BEGINS", b"COMMIT;", b"commit", b"ROLLBACK;", b"XA STAR"])
def test_only_the_servers_own_words_open_and_close(statement: bytes) -> None:
    log = Log().begin_file()
    log.gtid(1)
    log.query(statement)
    assert walked(log).transactions == 1, "a statement that commits itself"
    log = Log().begin_file()
    log.gtid(1)
    log.query(b"BEGIN")
    log.query(statement)
    assert walked(log).transactions == 0, "a statement within"
