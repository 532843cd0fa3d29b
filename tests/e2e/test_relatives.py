"""Sources of MySQL 5.6 and MariaDB: the store is sound, shown as they show it, and restores into one of their kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed import distributions
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import binlogd as command
from tests.cli.support import the_error
from tests.e2e.test_point_in_time import dumped

pytestmark = [pytest.mark.servers, pytest.mark.slow]

COMMON = [
    ["CREATE DATABASE d"],
    [
        "USE d",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(900), n DECIMAL(20, 5), f DOUBLE)",
        "CREATE TABLE m (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(90)) ENGINE = MyISAM",
        "INSERT INTO t (v) VALUES ('x')",
        "BEGIN",
        "UPDATE t SET v = 'b'",
        "INSERT INTO t (v, n, f) VALUES ('y', 12.5, -0.0), (NULL, -1.25, 1e30)",
        "SAVEPOINT one",
        "INSERT INTO t (v) VALUES ('dropped')",
        "ROLLBACK TO one",
        "DELETE FROM t WHERE id = 1",
        "COMMIT",
        "INSERT INTO m (v) VALUES ('myisam'), ('twice')",
    ],
    [
        "USE d",
        "SET binlog_format = STATEMENT",
        "SET @a = 'it''s', @i = -7, @r = 1.5e30, @d = 12345678901.25, @n = NULL",
        "INSERT INTO t (v) VALUES (@a), (@i), (@r), (@d), (@n)",
        "INSERT INTO t (f) SELECT RAND() + LAST_INSERT_ID()",
        "INSERT INTO m (v) VALUES (CONCAT(@a, LAST_INSERT_ID()))",
    ],
    ["FLUSH BINARY LOGS"],
    ["CREATE VIEW d.w AS SELECT v FROM d.t", "CREATE PROCEDURE d.p() INSERT INTO d.t (v) VALUES ('p')", "CALL d.p()"],
]
MARIADB = [
    ["SET gtid_domain_id = 5", "INSERT INTO d.t (v) VALUES ('domain')"],
    ["SET server_id = 77, gtid_seq_no = 100000", "INSERT INTO d.t (v) VALUES ('other')"],
    ["XA START 'g'", "INSERT INTO d.t (v) VALUES ('xa')", "XA END 'g'", "XA PREPARE 'g'", "XA COMMIT 'g'"],
    [
        "SET GLOBAL log_bin_compress = 1",
        "INSERT INTO d.t (v) VALUES (REPEAT('x', 800))",
        "SET binlog_format = STATEMENT",
        f"UPDATE d.t SET v = '{'z' * 800}' WHERE v LIKE 'xx%'",
        "SET GLOBAL log_bin_compress = 0",
    ],
    ["CREATE SEQUENCE d.q", "SELECT NEXT VALUE FOR d.q"],
    ["SET binlog_alter_two_phase = 1", "ALTER TABLE d.t ADD COLUMN w INT DEFAULT 7, ALGORITHM = COPY"],
    ["CREATE TABLE d.copy AS SELECT * FROM d.t", "ALTER TABLE d.copy ADD COLUMN u INT DEFAULT 4"],
]
UNCHECKED = [
    ["FLUSH BINARY LOGS"],
    ["SET GLOBAL binlog_checksum = NONE", "INSERT INTO d.t (v) VALUES ('unchecked')"],
    ["SET GLOBAL binlog_checksum = CRC32", "INSERT INTO d.t (v) VALUES ('checked')"],
]


@dataclass(frozen=True, slots=True)
class Followed:
    """A source whose whole history is stored, and the programs to read and apply it with."""

    cluster: Cluster
    source: Server
    binlogd: Binlogd

    @property
    def tools(self) -> Distribution:
        """MySQL 5.6 is without client programs here."""
        return self.source.distribution if self.source.distribution.is_mariadb else distributions.mysql()


@pytest.fixture(scope="module", params=["mysql_56", "mariadb_10_11", "mariadb"])
def followed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    distribution: Distribution = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    with Cluster(folder, distribution) as cluster:
        source = cluster.server()
        binlogd = Binlogd(folder / "binlogd", source, settings={"source.semi_sync": False}).start()
        try:
            for session in [*COMMON, *(MARIADB if distribution.is_mariadb else []), *UNCHECKED]:
                source.execute(*session)
            binlogd.wait_for(source)
            yield Followed(cluster, source, binlogd)
        finally:
            binlogd.close()
        assert "Traceback" not in binlogd.log


def test_the_store_is_sound(followed: Followed) -> None:
    source, data = followed.source, str(followed.binlogd.data)
    followed.binlogd.assert_identical_to(source)
    verified = command("verify", "--json", "--data-dir", data)
    assert (verified.returncode, verified.stderr) == (0, "")
    report = json.loads(verified.stdout)
    assert report["sound"] and len(report["without_checksums"]) == 1
    moment = source.value("SELECT UNIX_TIMESTAMP()")
    wanted = ["--time", datetime.fromtimestamp(moment + 3600, UTC).isoformat()]
    assert "not stored" in the_error(command("find", *wanted, "--data-dir", data), 1)
    if not source.distribution.is_mariadb:
        found = json.loads(command("find", "--json", "--gtid", source.gtid_executed, "--data-dir", data).stdout)
        held = GtidSet()
        for place in found["places"]:
            held |= GtidSet.parse(place["gtids"])
        assert held == GtidSet.parse(source.gtid_executed)


def test_it_is_shown_as_the_source_shows_it(followed: Followed) -> None:
    for name in followed.binlogd.stored():
        statement = f"SHOW BINLOG EVENTS IN '{name}'"
        theirs, ours = followed.source.query(statement), followed.binlogd.query(statement)
        printed = command("events", "--json", name, "--data-dir", str(followed.binlogd.data))
        assert printed.returncode == 0, printed.stderr
        rows = [json.loads(line) for line in printed.stdout.splitlines()]
        assert len(theirs) <= len(ours) <= len(rows), "MariaDB adds BINLOG_CHECKPOINT when it gets round to it"
        for real, shown, row in zip(theirs, ours, rows, strict=False):
            assert shown == real
            assert (name, *list(row.values())[:1], *list(row.values())[2:]) == shown


def _as_sql(followed: Followed, data: bytes) -> bytes:
    """What mysqlbinlog makes of it, without a word of warning."""
    done = subprocess.run(
        [*followed.tools.program("mysqlbinlog"), "--verify-binlog-checksum", "-"],
        input=data,
        env={**os.environ, **followed.tools.environ},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if followed.source.distribution.is_mariadb:
        return done.stdout
    # What 9.7's writes for 8.0 and newer ends a GTID's transaction at 5.6, comment or not. As the documentation has it.
    return re.sub(rb"^/\*!80[0-9]* SET @@session.*\n", b"", done.stdout, flags=re.MULTILINE)


def _apply(followed: Followed, server: Server, sql: bytes) -> None:
    client = distributions.mariadb()  # MySQL 9.7's knows no mysql_native_password any more
    address = ["--protocol=tcp", f"--host={server.host}", f"--port={server.port}", "--user=root", "--skip-ssl"]
    done = subprocess.run(
        [*client.program("mysql"), "--no-defaults", *address],
        input=sql,
        env={**os.environ, **client.environ},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_restores_into_a_server_of_its_kind(followed: Followed) -> None:
    source = followed.source
    # MariaDB's mariadb-binlog makes two transactions of CREATE TABLE … SELECT, both with its GTID.
    options = {"gtid_strict_mode": False} if source.distribution.is_mariadb else {}
    restored = followed.cluster.server("restored", options=options)
    _apply(followed, restored, _as_sql(followed, dumped(followed.binlogd)))
    assert checksum_all(restored) == checksum_all(source)
    told = "SELECT @@global.gtid_binlog_state" if source.distribution.is_mariadb else "SELECT @@global.gtid_executed"
    assert sorted(restored.value(told).split(",")) == sorted(source.value(told).split(","))
    followed.cluster.servers.pop("restored").close()
