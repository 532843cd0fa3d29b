"""source.compression with real sources: the same bytes, acknowledged as ever, over less of the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.cluster import Cluster, Load
from testbed.distributions import Distribution
from testbed.mysqld import Server
from testbed.proxy import DOWN, Proxy
from tests.cli.support import binlogd as command
from tests.cli.support import the_error
from tests.e2e.support import MakeBinlogd, semi_sync_status, wait_for_semi_sync
from tests.e2e_errors.support import ended, url

pytestmark = pytest.mark.servers

MINUTES = 300_000  # ms: a source that falls back to asynchronous in between would prove nothing
RECEIVER_MEMORY = 64 * 1024 * 1024  # the design's limit, whatever the transaction
DUMPS = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
LARGE = "REPEAT(SHA2(RAND(), 512), 320000)"  # an event of 40 MB, which needs three packets


def write_something(source: Server) -> None:
    """Small transactions, a large event, files in between."""
    source.execute(
        "CREATE DATABASE d",
        "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)",
        "FLUSH BINARY LOGS",
    )
    with Load(source, threads=4, limit=100) as load:
        load.join()
    source.execute(f"INSERT INTO d.t (b) VALUES ({LARGE})", "FLUSH BINARY LOGS")
    with Load(source, threads=2, limit=20) as load:
        load.join()


@pytest.mark.parametrize(
    ("algorithm", "tls"),
    [
        pytest.param("zlib", "disabled", marks=pytest.mark.slow),
        pytest.param("zstd", "disabled", marks=pytest.mark.slow),
        ("zstd", "required"),
    ],
)
def test_mysql(cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy], algorithm: str, tls: str) -> None:
    source = cluster.server(
        semi_sync="source",
        max_allowed_packet="64M",
        innodb_redo_log_capacity="256M",
        rpl_semi_sync_source_timeout=MINUTES,
    )
    way = proxy(source.host, source.port)
    follower = binlogd((way.host, way.port), **{"source.compression": algorithm, "source.tls": tls})
    wait_for_semi_sync(source)
    write_something(source)
    follower.wait_for(source)

    counters = semi_sync_status(source)
    assert counters["yes_tx"] > 20 and counters["no_tx"] == 0 and counters["no_times"] == 0
    stored = sum(follower.file(name).stat().st_size for name in follower.stored())
    assert stored > 40_000_000
    assert way.bytes[DOWN] < stored * 0.7
    assert follower.peak_memory("receive") < RECEIVER_MEMORY
    follower.assert_identical_to(source)

    # A connection that is lost, at whatever byte, and one that the source ends.
    with Load(source, threads=4) as load:
        load.wait_for(50)
        way.cut()
        follower.wait_until(lambda: follower.status()["source"]["reconnects"] >= 1, "a new connection")
        load.wait_for(load.commits + 50)

    def dumps() -> list[int]:
        return [row[0] for row in source.query(DUMPS)]

    source.wait_until(lambda: len(dumps()) == 1, what="the end of the connection that was cut")
    source.execute(f"KILL {dumps()[0]}", "FLUSH BINARY LOGS", "INSERT INTO d.t (b) VALUES (1)")
    assert load.missing_at(source) == []
    follower.wait_for(source)
    follower.assert_identical_to(source)
    assert semi_sync_status(source)["no_times"] == 0


def test_mariadb(cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy], mariadb: Distribution) -> None:
    source = cluster.server(
        distribution=mariadb,
        semi_sync="source",
        max_allowed_packet="64M",
        innodb_log_file_size="256M",
        rpl_semi_sync_master_timeout=MINUTES,
    )
    way = proxy(source.host, source.port)
    follower = binlogd((way.host, way.port), **{"source.compression": "zlib"})
    source.wait_until(
        "SELECT variable_value = '1' FROM information_schema.global_status"
        " WHERE variable_name = 'Rpl_semi_sync_master_clients'"
    )
    write_something(source)
    follower.wait_for(source)
    counters: dict[str, str] = dict(source.query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_%_tx'"))
    assert int(counters["Rpl_semi_sync_master_yes_tx"]) > 20
    assert counters["Rpl_semi_sync_master_no_tx"] == "0"
    way.cut()
    source.execute("INSERT INTO d.t (b) VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO d.t (b) VALUES (2)")
    follower.wait_for(source)
    follower.assert_identical_to(source)
    stored = sum(follower.file(name).stat().st_size for name in follower.stored())
    assert way.bytes[DOWN] < stored * 0.7


def test_where_both_cannot_agree_everything_says_what_to_set(cluster: Cluster, tmp_path: Path) -> None:
    source = cluster.server()
    data = tmp_path / "data"

    def checked(algorithm: str, code: int) -> dict[str, dict[str, str]]:
        environ = {"BINLOGD_SOURCE__COMPRESSION": algorithm}
        result = command("check", "--json", "--source", url(source), "--data-dir", str(data), environ=environ)
        assert result.returncode == code, result.stdout
        return {line["subject"]: line for line in json.loads(result.stdout)["checks"]}

    assert "source.compression" not in checked("none", 0)
    assert checked("zstd", 0)["source.compression"]["message"] == "the connection is compressed with zstd"

    for offered, algorithm, complaint in (
        ("zlib,uncompressed", "zstd", "does not offer zstd compression"),
        ("zlib", "none", "takes no connection without compression"),
    ):
        source.execute(f"SET GLOBAL protocol_compression_algorithms = '{offered}'")
        error = the_error(ended("receive", url(source), data, environ={"BINLOGD_SOURCE__COMPRESSION": algorithm}), 3)
        assert complaint in error
        assert "set source.compression to what it offers, zlib or none" in error
        line = checked(algorithm, 1)["source.compression"]
        assert line["status"] == "fail" and complaint in line["message"]
    assert checked("zlib", 0)["source.compression"]["status"] == "ok"
