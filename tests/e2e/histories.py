"""What a source can log: each function writes one kind of history into the empty schema ``d``.

They take a folder for files that they need, and leave nothing open behind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from testbed.mysqld import Row, Server

History = Callable[[Server, Path], None]


def event_types(source: Server, file: str) -> list[str]:
    """The types of the events of one file, as the source itself reads them: proof that the test logs what it means."""
    return [row[2] for row in _events(source, file)]


def _events(source: Server, file: str) -> list[Row]:
    """Name, position, type, server id, end position and description of each event."""
    return source.query(f"SHOW BINLOG EVENTS IN '{file}'")


def ddl(source: Server, _: Path) -> None:
    source.execute(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(50))",
        "ALTER TABLE t ADD COLUMN w INT DEFAULT 7, ADD INDEX (w)",
        "CREATE VIEW x AS SELECT v FROM t",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.w = 8",
        "CREATE PROCEDURE p() INSERT INTO t (v) VALUES ('by a procedure')",
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SET @a = 1",
        "CALL p()",
        "CREATE TABLE copy AS SELECT * FROM t",  # one transaction of DDL and rows
        "CREATE TABLE alike LIKE t",
        "RENAME TABLE alike TO other",
        "TRUNCATE other",
        "CREATE USER 'somebody'@'%' IDENTIFIED BY 'secret'",
        "GRANT SELECT ON d.* TO 'somebody'@'%'",
        "DROP USER 'somebody'@'%'",
        "ANALYZE TABLE t",
        "DROP TABLE other, copy",
        "DROP VIEW x",
        database="d",
    )


def dml(source: Server, _: Path) -> None:
    source.execute(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(50), b BLOB, ts TIMESTAMP(6) NULL)",
        "INSERT INTO t (v) VALUES ('a'), ('b'), (NULL), ('日本語'), ('')",
        "UPDATE t SET v = 'c', ts = NOW(6) WHERE id < 3",
        "REPLACE INTO t (id, v) VALUES (1, 'r')",
        "INSERT INTO t (id, v) VALUES (2, 'dup') ON DUPLICATE KEY UPDATE v = 'updated'",
        "BEGIN",
        "INSERT INTO t (v) VALUES ('kept')",
        "SAVEPOINT one",
        "INSERT INTO t (v) VALUES ('dropped')",
        "ROLLBACK TO one",
        "INSERT INTO t (v) VALUES ('kept too')",
        "RELEASE SAVEPOINT one",
        "COMMIT",
        "BEGIN",
        "INSERT INTO t (v) VALUES ('dropped')",
        "ROLLBACK",
        "SET binlog_row_image = MINIMAL",
        "SET binlog_rows_query_log_events = ON, foreign_key_checks = 0, unique_checks = 0",
        "UPDATE t SET v = 'minimal' WHERE id = 3",
        "DELETE FROM t WHERE id = 4",
        "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO m VALUES (1), (2)",
        "UPDATE m SET id = 3 WHERE id = 2",
        database="d",
    )


USER_VARIABLES = ("@a", "@`b'q`", *(f"@{letter}" for letter in "cdefghijklm"))


def statements(source: Server, _: Path) -> None:
    source.execute(
        "SET binlog_format = STATEMENT",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v DOUBLE)",
        "INSERT INTO t (v) VALUES (1)",  # INTVAR
        "INSERT INTO t (v) VALUES (RAND())",  # RAND
        "SET @x = 5",
        "INSERT INTO t (v) VALUES (@x)",  # USER_VAR
        "SET @a = NULL, @`b'q` = 'it''s', @c = -5, @d = -1234567890.5, @e = 1.5e10, @f = x'00ff', @g = ~0, @h = ''",
        "SET @i = _latin1'x' COLLATE latin1_german1_ci, @j = -0.001, @k = 1e-7, @l = 1e100, @m = 12345678901234567e0",
        f"INSERT INTO t (v) VALUES ({' + '.join(f'({name} IS NULL)' for name in USER_VARIABLES)})",
        "SET foreign_key_checks = 0, unique_checks = 0",
        "INSERT INTO t (v) VALUES (2)",
        "CREATE TEMPORARY TABLE s (id INT)",
        "INSERT INTO s VALUES (1), (2)",
        "BEGIN",
        "INSERT INTO t (v) SELECT id FROM s",
        "SAVEPOINT one",
        "UPDATE t SET v = 3 WHERE id = 1",
        "ROLLBACK TO one",
        "COMMIT",
        "DROP TEMPORARY TABLE s",
        database="d",
    )


def engines(source: Server, _: Path) -> None:
    """Transactions over tables that know none: what they wrote stays, and is logged in its own order."""
    source.execute(
        "CREATE TABLE i (id INT PRIMARY KEY)",
        "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO m VALUES (1), (2)",
        "BEGIN",
        "INSERT INTO m VALUES (3)",
        "INSERT INTO i VALUES (3)",
        "ROLLBACK",
        "SET binlog_format = STATEMENT",
        "BEGIN",
        "INSERT INTO i VALUES (4)",
        "INSERT INTO m VALUES (4)",
        "ROLLBACK",  # logged as a transaction that ends with ROLLBACK
        "BEGIN",
        "INSERT INTO m VALUES (5)",
        "COMMIT",
        "CREATE TEMPORARY TABLE s SELECT * FROM m",
        "CREATE TABLE copy SELECT * FROM s",
        "DROP TABLE m, i",
        database="d",
    )


def xa(source: Server, _: Path) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY)", database="d")
    source.execute(
        "XA START 'a'",
        "INSERT INTO t VALUES (1)",
        "XA END 'a'",
        "XA PREPARE 'a'",
        database="d",
    )
    source.execute("INSERT INTO t VALUES (2)", database="d")  # between the prepare and its commit
    source.execute(
        "XA COMMIT 'a'",
        "XA START X'00ff27', 'branch', 3",
        "INSERT INTO t VALUES (3)",
        "XA END X'00ff27', 'branch', 3",
        "XA PREPARE X'00ff27', 'branch', 3",
        database="d",
    )
    source.execute(
        "XA ROLLBACK X'00ff27', 'branch', 3",
        "XA START 'c'",
        "INSERT INTO t VALUES (4)",
        "XA END 'c'",
        "XA COMMIT 'c' ONE PHASE",
        database="d",
    )


def json_partial_updates(source: Server, _: Path) -> None:
    source.execute(
        "SET binlog_row_value_options = PARTIAL_JSON",
        "SET binlog_row_image = MINIMAL",
        "CREATE TABLE t (id INT PRIMARY KEY, j JSON)",
        "INSERT INTO t VALUES (1, JSON_OBJECT('a', 1, 'b', REPEAT('x', 1000)))",
        "UPDATE t SET j = JSON_SET(j, '$.a', 2)",
        "UPDATE t SET j = JSON_REMOVE(j, '$.b')",
        database="d",
    )


def compression(source: Server, _: Path) -> None:
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)",
        "SET binlog_transaction_compression = ON",
        "INSERT INTO t VALUES (1, REPEAT('x', 100000)), (2, 'y')",
        "BEGIN",
        "UPDATE t SET v = 'a' WHERE id = 1",
        "UPDATE t SET v = 'b' WHERE id = 2",
        "COMMIT",
        "INSERT INTO t SELECT 3, REPEAT(SHA2(v, 512), 100000) FROM t WHERE id = 2",
        database="d",
    )


def tagged_gtids(source: Server, _: Path) -> None:
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY)",
        "SET gtid_next = 'AUTOMATIC:release_1'",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
        f"SET gtid_next = 'AUTOMATIC:{'x' * 32}'",
        "INSERT INTO t VALUES (3)",
        f"SET gtid_next = '{source.server_uuid}:release_1:{2**62}'",  # a large number, and a gap before it
        "INSERT INTO t VALUES (4)",
        "SET gtid_next = '11111111-2222-3333-4444-555555555555:7'",
        "INSERT INTO t VALUES (5)",
        "SET gtid_next = AUTOMATIC",
        "INSERT INTO t VALUES (6)",
        database="d",
    )


def load_data(source: Server, folder: Path) -> None:
    rows = folder / "rows.txt"
    rows.write_text("".join(f"{i}\trow {i}\n" for i in range(20_000)))
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(50))",
        "CREATE TABLE u LIKE t",
        f"LOAD DATA INFILE '{rows}' INTO TABLE t",
        "SET binlog_format = STATEMENT",
        f"LOAD DATA INFILE '{rows}' INTO TABLE u",
        database="d",
    )


def large_event(source: Server, _: Path) -> None:
    source.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)",
        "INSERT INTO t VALUES (0, REPEAT('x', 40000000))",
        database="d",
    )


def full_packets(source: Server, _: Path) -> None:
    """Events that fill a packet exactly, and almost: behind a payload of 0xFFFFFF bytes comes another packet.

    A payload is the event behind one byte, or behind three with semi-sync.
    """
    insert = "INSERT INTO t VALUES (%s, REPEAT('x', %s))"
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)", database="d")
    source.query(insert, 0, 1000, database="d")
    file, _position = source.position()
    around = next(end - start - 1000 for _, start, kind, _, end, _ in _events(source, file) if kind == "Write_rows")
    sizes = [0xFFFFFB, 0xFFFFFC, 0xFFFFFD, 0xFFFFFE, 0xFFFFFF]
    for number, size in enumerate(sizes, start=1):
        source.query(insert, number, size - around, database="d")
    lengths = [end - start for _, start, kind, _, end, _ in _events(source, file) if kind == "Write_rows"]
    assert lengths[1:] == sizes


HISTORIES: dict[History, set[str]] = {
    ddl: {"Query", "Gtid"},
    dml: {"Write_rows", "Update_rows", "Delete_rows", "Rows_query", "Xid"},
    statements: {"Intvar", "RAND", "User var", "Query"},
    xa: {"XA_prepare"},
    json_partial_updates: {"Update_rows_partial"},
    compression: {"Transaction_payload"},
    tagged_gtids: {"Gtid_tagged_log_event"},
    load_data: {"Begin_load_query", "Append_block", "Execute_load_query", "Write_rows"},
    large_event: {"Write_rows"},
    full_packets: {"Write_rows"},
}
