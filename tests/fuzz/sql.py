"""Statements: tokens, parser, evaluation, execution, as a client that is logged in may send them one after another.

role1  ·  then statements behind their lengths
"""

from __future__ import annotations

from collections.abc import Iterator

from binlogd.errors import Refusal
from binlogd.sender.sql import ResultSet, Role
from binlogd.sender.sql.session import announcement
from binlogd.wire.results import Column
from tests.fuzz import shapes
from tests.sender.sql.support import Client, announced

ANSWER = 256 * 1024  # bytes of an answer that no statement's length explains
TIMES = 64  # × the bytes of all statements so far: variables can be set, and asked for more than once
MESSAGE = 2048  # characters of a refusal
ROLES = tuple(Role)


def run(data: bytes) -> None:
    """See the package."""
    if not data:
        return
    client = Client(role=ROLES[data[0] % len(ROLES)])
    for statement in shapes.split(data[1:]):
        try:
            outcome = client.answered(statement)
        except Refusal as refusal:
            assert 1000 <= refusal.code < 5000
            assert len(refusal.sqlstate) == 5
            assert len(refusal.message) <= MESSAGE
            continue
        if isinstance(outcome, ResultSet):
            for column in announced(outcome.columns):
                assert Column.decode(column.encode()) == column
            size = sum(len(column.name.encode()) for column in outcome.columns)
            for row in outcome.text_rows():
                assert len(row) == len(outcome.columns)
                size += sum(len(value.encode("utf-8", "surrogateescape")) for value in row if value is not None)
            assert size <= ANSWER + TIMES * len(data)
    announcement(client.session)


STATEMENTS = (
    "SELECT @@version, @@GLOBAL.server_id AS x, VERSION(), USER(), NOW() LIMIT 1",
    "SELECT GTID_SUBSET('11111111-1111-1111-1111-111111111111:1-5', @@gtid_executed), GTID_SUBTRACT('', 'x')",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin; ",
    "SET @a := 1.5e3, @`b c` = 'it''s \\n', @@session.time_zone = '+02:00'",
    "SELECT @a, @`b c`, 1 + 2, -3.5, 0xFF, X'41', b'01', NULL, TRUE, 'a' 'b', _utf8mb4'x', N'y'",
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('a', 'server_id') OR Variable_name LIKE 'rpl\\_%' AND NOT 1 = 2",
    "SHOW VARIABLES LIKE '%'",
    "SHOW STATUS WHERE Value BETWEEN 1 AND 2 OR Variable_name REGEXP 'x'",
    "SHOW BINARY LOGS",
    "SHOW MASTER STATUS",
    "SHOW BINLOG EVENTS IN 'mysql-bin.000001' FROM 4 LIMIT 2, 3",
    "SHOW SLAVE HOSTS",
    "SHOW FULL PROCESSLIST",
    "SHOW WARNINGS LIMIT 3",
    "SHOW COUNT(*) ERRORS",
    "/*!50003 KILL QUERY 7 */ -- comment\n",
    "USE `a`",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "SELECT (((((1))))) <=> NULL IS NOT NULL",
    "SELECT UNIX_TIMESTAMP(), CONNECTION_ID(), DATABASE(), CURRENT_USER",
    "SELECT 0 AND foo(), 1 IN (1, foo()), 1 OR foo() IS NULL",
    "SELECT 0 AND GTID_SUBTRACT('a'), 1 OR GTID_SUBSET('', '', '') <=> 1",
    "SHOW VARIABLES WHERE 0 AND foo(Value) OR 1 OR nonsense LIKE @@nonsense",
    "SET @a = 0 AND -foo(), @b = 1 OR (((1 = 1 = 1) = 1 = 1) = 1 = 1) IS NULL",
    "KILL 0 AND foo()",
    "PURGE BINARY LOGS TO 'mysql-bin.000002'",
    "PURGE BINARY LOGS BEFORE '9999-12-31T23:59:59-10:00' - INTERVAL 2 DAY",
    "SELECT WAIT_FOR_EXECUTED_GTID_SET('', '1e999'), -'1e999' = 0 AND WAIT_FOR_EXECUTED_GTID_SET(@a)",
)


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """One of each, and what real clients sent."""
    for statement in STATEMENTS:
        yield bytes([2]) + shapes.join([statement.encode()])
    yield bytes([2]) + shapes.join(statement.encode() for statement in STATEMENTS)
    for name, stream in captures.items():
        if name.startswith("client-"):
            queries = [
                payload[1:] for sequence, payload in shapes.payloads(stream) if not sequence if payload[:1] == b"\x03"
            ]
            if queries:
                yield bytes([2]) + shapes.join(queries)
