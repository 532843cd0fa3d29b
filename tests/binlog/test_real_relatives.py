"""The same for MariaDB and for MySQL 5.6: what our decoders read is what these servers show."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

import pymysql
import pytest

from binlogd.binlog.collations import mariadb_collation
from binlogd.binlog.description import describe
from binlogd.binlog.events import Rotate, clear_in_use
from binlogd.binlog.gtid_events import GtidEvent, MariadbGtidEvent
from binlogd.binlog.header import ChecksumAlgorithm, EventType, Header, type_name
from binlogd.binlog.transaction_events import Query
from binlogd.store.events import read_events
from testbed.cluster import Cluster
from testbed.mysqld import Server
from tests.binlog.support import File, info

pytestmark = pytest.mark.servers

INSERT = "INSERT INTO d.t (v) VALUES ('x')"
TWO_PHASES = "SET binlog_alter_two_phase=1"
COMMON = [
    ["CREATE DATABASE d"],
    ["CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(900))"],
    ["USE d", INSERT, "BEGIN", "UPDATE t SET v='b'", "DELETE FROM d.t", "COMMIT"],
]
MARIADB = [
    ["SET gtid_domain_id=5", INSERT],
    ["SET gtid_domain_id=0, server_id=77, gtid_seq_no=1000", INSERT],
    ["XA START 'g','b',3", INSERT, "XA END 'g','b',3", "XA PREPARE 'g','b',3", "XA COMMIT 'g','b',3"],
    ["SET GLOBAL log_bin_compress=1", "INSERT INTO d.t (v) VALUES (REPEAT('x', 800))"],
    ["SET binlog_format=STATEMENT", f"INSERT INTO d.t (v) VALUES ('{'x' * 800}')"],
    ["XA START X'00ff'", INSERT, "XA END X'00ff'", "XA PREPARE X'00ff'", "XA ROLLBACK X'00ff'"],
    [TWO_PHASES, "ALTER TABLE d.t ADD COLUMN w INT DEFAULT 7, ALGORITHM=COPY"],
]
VARIABLES = [  # empty, with an end of its own, of every kind
    "SET binlog_format=STATEMENT",
    "SET @a='it''s', @e='', @i=-7, @u=18446744073709551615, @r=1.5e30, @d=12345678901.25, @n=NULL, @b=x'00ff'",
    "INSERT INTO d.t (v) VALUES (@a), (@e), (@i), (@u), (@r), (@d), (@n), (HEX(@b))",
]
ENDING = [VARIABLES, ["FLUSH BINARY LOGS"], ["SET GLOBAL binlog_checksum=NONE", INSERT]]


@pytest.fixture(scope="module", params=["mysql_56", "mariadb_10_11", "mariadb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    distribution = request.getfixturevalue(request.param)
    with Cluster(tmp_path_factory.mktemp(request.param), distribution) as cluster:
        server = cluster.server(replication_user=False)
        for session in COMMON + (MARIADB if distribution.is_mariadb else []) + ENDING:
            server.execute(*session)
        if distribution.is_mariadb:
            with pytest.raises(pymysql.err.IntegrityError):
                server.execute(TWO_PHASES, "ALTER TABLE d.t ADD UNIQUE KEY (w), ALGORITHM=COPY")
        yield server


@pytest.fixture(scope="module")
def files(server: Server) -> dict[str, File]:
    return {log.name: File(server.binlog_dir / log.name) for log in server.binary_logs()}


def test_show_binlog_events(server: Server, files: dict[str, File]) -> None:
    seen = set()
    for name, file in files.items():
        shown = server.query(f"SHOW BINLOG EVENTS IN '{name}'")
        assert len(shown) >= len(file.events)  # MariaDB adds BINLOG_CHECKPOINT when it gets round to it
        for (at, event), (_, position, kind, server_id, end, text) in zip(file.events, shown, strict=False):
            header = Header.decode(event)
            seen.add(header.type)
            assert (at, type_name(header.type), header.server_id) == (position, kind, server_id)
            assert header.log_pos == end and end in (0, at + header.length)
            ours = info(event, file.checksum)
            if header.type == EventType.MARIADB_GTID:  # what more it says, test_what_we_show compares
                ours = text if f"GTID {MariadbGtidEvent.decode(event, file.checksum).gtid}" in text else ours
            assert ours is None or ours == text
            if header.type == EventType.MARIADB_QUERY_COMPRESSED:
                query = Query.decode(event, file.checksum)
                # One byte 0x80 | size of the length, the length, big-endian, then a zlib stream.
                assert query.text[0] == 0x82
                assert query.text_length == len(query.text)
                assert zlib.decompress(query.text[3:]).decode() == text.removeprefix("use `d`; ")
    if server.distribution.is_mariadb:
        assert seen > {EventType.MARIADB_GTID, EventType.MARIADB_GTID_LIST, EventType.XA_PREPARE}
        assert seen > {EventType.MARIADB_QUERY_COMPRESSED, EventType.MARIADB_WRITE_ROWS_COMPRESSED_V1}
    else:
        assert seen > {EventType.GTID, EventType.PREVIOUS_GTIDS}


def test_what_we_show(server: Server, files: dict[str, File]) -> None:
    """SHOW BINLOG EVENTS and ``binlogd events`` say what the server says, word for word."""
    told = set()
    for name in files:
        shown = server.query(f"SHOW BINLOG EVENTS IN '{name}'")
        with open(server.binlog_dir / name, "rb", buffering=0) as file:
            found = read_events(file.fileno(), os.fstat(file.fileno()).st_size)
            for event, row in zip((event for event in found if event), shown, strict=False):
                kind, text = describe(event.header, event.data, event.checksum_length, mariadb=event.mariadb)
                ours = name, event.offset, kind, event.header.server_id, event.end_log_pos, text.decode()
                assert ours == row
                told |= {
                    word for word in ("XA START", "START ALTER", "COMMIT ALTER", "ROLLBACK ALTER") if word in row[5]
                }
    assert len(told) == (4 if server.distribution.is_mariadb else 0)


@pytest.mark.parametrize("server", ["mariadb_10_11", "mariadb"], indirect=True)
def test_collations_of_mariadb(server: Server) -> None:
    table = "information_schema.collation_character_set_applicability"
    for number, charset, name in server.query(f"SELECT id, character_set_name, full_collation_name FROM {table}"):
        assert mariadb_collation(number) == (charset, name)


def test_events_of_5_6_have_no_clock(server: Server, files: dict[str, File]) -> None:
    gtids = [GtidEvent.decode(e, f.checksum) for f in files.values() for e in f.of(EventType.GTID)]
    assert bool(gtids) != server.distribution.is_mariadb
    assert all(gtid.last_committed is None and gtid.transaction_length is None for gtid in gtids)


def test_what_we_encode_is_what_the_server_wrote(files: dict[str, File]) -> None:
    algorithms = set()
    for file in files.values():
        algorithms.add(file.fde.algorithm)
        for event in file.of(EventType.FORMAT_DESCRIPTION, EventType.ROTATE):
            header = Header.decode(event)
            if header.type == EventType.FORMAT_DESCRIPTION:
                made = file.fde.encode(
                    server_id=header.server_id,
                    timestamp=header.timestamp,
                    log_pos=header.log_pos,
                    flags=header.flags,
                )
                closed = clear_in_use(event)
                assert zlib.crc32(closed[:-4]).to_bytes(4, "little") == closed[-4:] == event[-4:]
            else:
                made = Rotate.decode(event, file.checksum).encode(
                    server_id=header.server_id,
                    algorithm=file.fde.algorithm,
                    timestamp=header.timestamp,
                    log_pos=header.log_pos,
                    flags=header.flags,
                )
            assert made == event
    assert algorithms == {ChecksumAlgorithm.CRC32, ChecksumAlgorithm.OFF}
