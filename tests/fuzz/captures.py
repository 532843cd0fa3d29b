"""Recordings that seeds are made of: what real servers and clients say to each other and to binlogd.

    client-NAME   what a client sent to binlogd's listener: mysql, mysqlbinlog, PyMySQL, a replica
    server-NAME   what a source sent to binlogd until it asked for a dump
    dump-NAME     what the source sent then; in the packets of semi-sync where NAME says ``semisync``

Everything goes through a recording proxy, and without TLS, which would show nothing. ``python -m tests.fuzz.captures
FOLDER`` makes them in a minute; at most LARGEST bytes are kept of each.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pymysql

from testbed import distributions
from testbed.binlogd import Binlogd
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.mysqld import Server
from testbed.proxy import DOWN, UP, Proxy
from tests.e2e.histories import HISTORIES, full_packets
from tests.fuzz import shapes

LARGEST = 512 * 1024
STATEMENTS = (
    "SELECT @@version_comment LIMIT 1",
    "SELECT @@version, VERSION(), USER(), CURRENT_USER(), CONNECTION_ID(), DATABASE(), NOW()",
    "SHOW VARIABLES LIKE 'server%'",
    "SHOW GLOBAL STATUS WHERE Variable_name = 'Uptime'",
    "SHOW BINARY LOGS",
    "SHOW BINARY LOG STATUS",
    "SHOW REPLICAS",
    "SHOW PROCESSLIST",
    "SHOW WARNINGS",
    "SET NAMES utf8mb4",
    "SET @a = 'b', @@session.time_zone = '+00:00'",
    "SELECT GTID_SUBSET('', @@global.gtid_executed), GTID_SUBTRACT(@@global.gtid_executed, '')",
    "SHOW DATABASES",
    "KILL 99999",
)


def split_dump(stream: bytes, *, semi_sync: bool) -> tuple[bytes, bytes]:
    """(what comes before the first event, the dump)."""
    marked, at = 3 if semi_sync else 1, 0
    while at + 4 < len(stream):
        length = int.from_bytes(stream[at : at + 3], "little")
        event = stream[at + 4 + marked : at + 4 + length]
        if stream[at + 4] == 0 and len(event) > 27 and event[:5] == b"\0\0\0\0\x04":
            return stream[:at], stream[at:]
        at += 4 + length
    raise ValueError("no dump in this stream")


def capture(folder: Path) -> None:
    """Make all recordings; the folder appears when they are whole."""
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        _record_all(Path(scratch), made)
    partial = folder.with_name(f".{folder.name}.new")
    partial.mkdir(parents=True, exist_ok=True)
    for name, stream in made.items():
        (partial / name).write_bytes(stream[:LARGEST])
    partial.rename(folder)


def _record_all(scratch: Path, made: dict[str, bytes]) -> None:
    mysql, mariadb = distributions.mysql(), distributions.mariadb()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(scratch / "cluster", mysql))
        source = cluster.server("source", semi_sync="source", options={"max_allowed_packet": "64M"})
        other = cluster.server("mariadb", distribution=mariadb)
        other.execute("CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY, b TEXT)")
        other.execute(*(f"INSERT INTO d.t VALUES ({number}, REPEAT('x', {number}))" for number in range(20)))
        for number, write in enumerate(one for one in HISTORIES if one is not full_packets):
            source.execute(*(["DROP DATABASE d"] if number else []), "CREATE DATABASE d")
            (work := scratch / write.__name__).mkdir()
            write(source, work)
        follower = _record_source(stack, scratch, source, "mysql-semisync", made, semi_sync=True)
        _record_source(stack, scratch, source, "mysql", made, semi_sync=False)
        _record_source(stack, scratch, other, "mariadb", made, semi_sync=False)

        def client(name: str, use: Callable[[str, int], None]) -> None:
            with Proxy(*follower.address, record=True) as proxy:
                use(proxy.host, proxy.port)
                assert proxy.recorded is not None
                made[f"client-{name}"] = bytes(proxy.recorded[UP])

        def program(name: str, *arguments: str) -> Callable[[str, int], None]:
            def use(host: str, port: int) -> None:
                address = [f"--host={host}", f"--port={port}", f"--user={REPLICATION_USER}", "--protocol=tcp"]
                subprocess.run(
                    [*mysql.program(name), "--no-defaults", *address, f"--password={REPLICATION_PASSWORD}",
                     "--ssl-mode=DISABLED", "--get-server-public-key", *arguments],
                    env=mysql.environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True,
                )  # fmt: skip

            return use

        def connector(host: str, port: int) -> None:
            with pymysql.connect(
                host=host, port=port, user=REPLICATION_USER, password=REPLICATION_PASSWORD, ssl_disabled=True
            ) as connection:
                for statement in STATEMENTS:
                    with connection.cursor() as cursor:
                        try:
                            cursor.execute(statement)
                        except pymysql.err.MySQLError:
                            pass  # what it is refused is a seed as well
                connection.ping()

        first = source.binary_logs()[0].name
        client("mysql", program("mysql", "--force", "-e", "; ".join(STATEMENTS[:3])))
        client(
            "mysqlbinlog",
            program("mysqlbinlog", "--read-from-remote-server", "--raw", f"--result-file={scratch}/", first),
        )
        client("pymysql", connector)
        taking = cluster.server("taking", semi_sync="replica")
        with Proxy(*follower.address, record=True) as proxy:
            taking.follow(proxy.host, proxy.port, REPLICATION_USER, REPLICATION_PASSWORD)
            proxy.wait_for_bytes(4096)
            taking.stop_replica()
            assert proxy.recorded is not None
            made["client-replica"] = bytes(proxy.recorded[UP])


def _record_source(
    stack: ExitStack, scratch: Path, source: Server, name: str, made: dict[str, bytes], *, semi_sync: bool
) -> Binlogd:
    """A binlogd that has fetched all of the source through a proxy."""
    proxy = stack.enter_context(Proxy(source.host, source.port, record=True))
    follower = Binlogd(
        scratch / name,
        (proxy.host, proxy.port),
        name=name,
        settings={"source.tls": "disabled", "source.semi_sync": semi_sync},
    )
    stack.callback(follower.close)
    follower.start()
    follower.wait_streaming()
    follower.wait_for_position(*source.position())
    assert proxy.recorded is not None
    before, dump = split_dump(bytes(proxy.recorded[DOWN]), semi_sync=semi_sync)
    made[f"server-{name}"] = before
    made[f"dump-{name}"] = dump
    assert list(shapes.payloads(dump))
    return follower


if __name__ == "__main__":
    capture(Path(sys.argv[1]))
