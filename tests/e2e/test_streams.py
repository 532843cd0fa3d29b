"""The same request gets the same packets from binlogd as from the source, whoever asks for what.

PyMySQL, which knows nothing of either, sends the dump commands and takes the packets apart. What may differ is who
speaks: artificial events bear the server id of their sender, and therefore another checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.e2e.histories import compression, ddl, dml, tagged_gtids, xa
from tests.e2e.support import Site

pytestmark = pytest.mark.servers

COM_BINLOG_DUMP, COM_BINLOG_DUMP_GTID = 0x12, 0x1E
NON_BLOCK, HEARTBEAT_V2 = 1, 2
ARTIFICIAL = 0x20
FORMAT_DESCRIPTION, HEARTBEAT, HEARTBEAT_EVENT_V2, ROTATE = 15, 27, 41, 4

Packets = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Site]:
    """Files of several kinds: with and without checksums, empty ones, and two that a start of the source began."""
    folder = tmp_path_factory.mktemp("site")
    with Cluster(folder, mysql) as cluster:
        source = cluster.server("source")
        source.execute("CREATE DATABASE d")
        for number, write in enumerate((ddl, dml, compression, tagged_gtids, xa)):
            source.execute("DROP DATABASE d", "CREATE DATABASE d", "FLUSH BINARY LOGS")
            write(source, folder)
            if number == 1:
                source.restart()  # its next file says when it was created
            if number == 2:
                source.variables["binlog_checksum"] = "NONE"
                source.execute("FLUSH BINARY LOGS")
            if number == 3:
                source.variables["binlog_checksum"] = "CRC32"
        binlogd = Binlogd(folder / "binlogd", source).start()
        try:
            binlogd.wait_for(source)
            yield Site(cluster, source, binlogd)
        finally:
            binlogd.close()


def connections(site: Site) -> tuple[Connection[Any], Connection[Any]]:
    """To binlogd and to the source."""
    return site.binlogd.connect(), site.source.connect()


def dump(
    connection: Connection[Any], command: int, request: bytes, *, checksum: str = "@@global.binlog_checksum"
) -> Packets:
    """All packets of a dump that ends at the end of what is there, or the error that ends it.

    An event of the file is (its bytes); an artificial one (type, log_pos, flags, body).
    """
    packets: Packets = []
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SET @master_binlog_checksum = {checksum}, @source_binlog_checksum = {checksum}")
        crc = 4 if checksum != "'NONE'" else 0  # of the first artificial event; then as the file is
        cursor.execute("SELECT @source_binlog_checksum")
        if cursor.fetchone() == ("NONE",):
            crc = 0
        connection._execute_command(command, request)
        while True:
            try:
                packet = connection._read_packet()
            except pymysql.err.MySQLError as error:
                return [*packets, ("error", *error.args)]
            if packet.is_eof_packet():
                return [*packets, ("end",)]
            event = packet.get_all_data()[1:]
            _, kind, _, length, log_pos, flags = struct.unpack_from("<IBIIIH", event)
            assert length == len(event)
            if kind == FORMAT_DESCRIPTION:
                # Without checksums a source leaves the one behind an event that it edits as it was.
                crc = 4 if event[-5] else 0
                packets.append((event if crc else event[:-4],))
            elif flags & ARTIFICIAL or kind in (HEARTBEAT, HEARTBEAT_EVENT_V2):
                packets.append((kind, log_pos, flags, event[19 : length - crc]))
            else:
                packets.append((event,))


def assert_same(site: Site, command: int, request: bytes, **options: str) -> Packets:
    """Both give the same; what they give."""
    ours, theirs = (dump(connection, command, request, **options) for connection in connections(site))
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        assert one == other, f"packet {number} of {len(theirs)}"
    assert len(ours) == len(theirs)
    return theirs


def by_position(file: str, position: int) -> bytes:
    return struct.pack("<IHI", position, NON_BLOCK, 4711) + file.encode()


def by_gtid(has: GtidSet, *, file: str = "", position: int = 4, flags: int = 0) -> bytes:
    data = has.encode()
    name = file.encode()
    head = struct.pack("<HII", NON_BLOCK | flags, 4711, len(name)) + name
    return head + struct.pack("<QI", position, len(data)) + data


def transactions(source: Server, file: str) -> list[int]:
    """Where the transactions of ``file`` begin."""
    return [row[1] for row in source.query(f"SHOW BINLOG EVENTS IN '{file}'") if "gtid" in row[2].lower()][1:]


def files(site: Site) -> list[str]:
    return [log.name for log in site.source.binary_logs()]


def history(site: Site) -> GtidSet:
    return GtidSet.parse(site.source.gtid_executed)


def executed_before(site: Site, file: str) -> GtidSet:
    """The PREVIOUS_GTIDS of ``file``."""
    return GtidSet.parse(site.source.query(f"SHOW BINLOG EVENTS IN '{file}' LIMIT 1, 1")[0][5])


@pytest.mark.parametrize("checksum", ["@@global.binlog_checksum", "'NONE'"])
def test_every_file_from_its_beginning(site: Site, checksum: str) -> None:
    for file in ("", *files(site)):
        packets = assert_same(site, COM_BINLOG_DUMP, by_position(file, 4), checksum=checksum)
        assert packets[-1] == ("end",)
        assert len(packets) > 3


def test_positions_between_transactions(site: Site) -> None:
    for file in files(site)[:-1]:
        for position in transactions(site.source, file)[::3]:
            assert_same(site, COM_BINLOG_DUMP, by_position(file, position))
            assert_same(site, COM_BINLOG_DUMP_GTID, by_gtid(GtidSet(), file=file, position=position))


def test_the_end_of_a_file(site: Site) -> None:
    for log in site.source.binary_logs():
        assert_same(site, COM_BINLOG_DUMP, by_position(log.name, log.size))


@pytest.mark.parametrize("flags", [0, HEARTBEAT_V2])
def test_what_a_replica_lacks(site: Site, flags: int) -> None:
    """By GTID, whatever the replica has: a prefix, a file's history, everything, holes, other sources' too."""
    everything = history(site)
    uuid = site.source.server_uuid
    other = GtidSet.parse("99999999-aaaa-bbbb-cccc-dddddddddddd:1-9")
    wanted = [
        GtidSet(),
        other,
        everything,
        everything | other,
        everything - GtidSet.parse(f"{uuid}:1-3"),
        everything - GtidSet.parse(f"{uuid}:10"),
        everything - GtidSet.parse(f"{uuid}:1-1000"),  # only the tagged are there
        *[GtidSet.parse(f"{uuid}:1-{last}") for last in (1, 7, 20, 50)],
        GtidSet.parse(f"{uuid}:2-5:9:20-40, {uuid}:release_1:1"),
        *[executed_before(site, file) for file in files(site)],
    ]
    for has in wanted:
        packets = assert_same(site, COM_BINLOG_DUMP_GTID, by_gtid(has, flags=flags))
        assert packets[-1] == ("end",), f"{has}: {packets[-1]}"


def test_what_a_named_file_holds_beside_what_the_client_has(site: Site) -> None:
    """mysqlbinlog asks so: the file is named, and what is to be left out too."""
    uuid = site.source.server_uuid
    for file in files(site):
        for has in (GtidSet.parse(f"{uuid}:1-20:30-45"), history(site), executed_before(site, file)):
            assert_same(site, COM_BINLOG_DUMP_GTID, by_gtid(has, file=file))


@pytest.mark.parametrize(
    ("file", "position"),
    [
        ("mysql-bin.000999", 4),
        ("mysql-bin.000001", 3),
        ("mysql-bin.000001", 0),
        ("mysql-bin.000001", 10_000_000),
        ("other.000001", 4),
        ("../auto.cnf", 4),
        ("mysql-bin.000001.idx", 4),
    ],
)
def test_impossible_positions(site: Site, file: str, position: int) -> None:
    packets = assert_same(site, COM_BINLOG_DUMP, by_position(file, position))
    assert packets[-1][:2] == ("error", 1236)


def test_positions_inside_events(site: Site) -> None:
    """The place is named by both; by what exactly the source trips over there depends on the bytes."""
    for position in (5, 23, 130, 200):
        for packets in (
            dump(connection, COM_BINLOG_DUMP, by_position(files(site)[0], position)) for connection in connections(site)
        ):
            assert packets[-1][:2] == ("error", 1236)
            assert len(packets) <= 3  # nothing but the artificial beginning
