"""Our decoders, encoders and GTID algebra against a real MySQL server's word on the same things."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pymysql
import pytest

from binlogd.binlog.events import (
    Heartbeat,
    Rotate,
    clear_in_use,
    fake_rotate,
    for_position_start,
    heartbeat_v1,
    heartbeat_v2,
    with_created_zero,
)
from binlogd.binlog.gtid import EMPTY, GNO_MAX, GtidSet, GtidSyntaxError, parse_sid
from binlogd.binlog.gtid_events import GtidEvent, PreviousGtids
from binlogd.binlog.header import (
    ChecksumAlgorithm,
    EventFlag,
    EventType,
    Header,
    type_name,
)
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.binlog.support import File, info

pytestmark = pytest.mark.servers

OTHER = "ffffffff-71ca-11e1-9e33-c80aa9429562"
INSERT = "INSERT INTO d.t (v) VALUES ('x')"
STATEMENTS: list[list[str]] = [
    ["CREATE DATABASE d"],
    ["CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, j JSON, v VARCHAR(900))"],
    ["CREATE TABLE d.m (id INT) ENGINE=MyISAM"],
    ["USE d", "CREATE TABLE größe (id INT)", "DROP TABLE größe"],
    [
        "SET binlog_rows_query_log_events=1",
        INSERT,
        "BEGIN",
        "UPDATE d.t SET v='b'",
        "DELETE FROM d.t",
        "COMMIT",
    ],
    ["XA START 'g','b',3", INSERT, "XA END 'g','b',3", "XA PREPARE 'g','b',3", "XA COMMIT 'g','b',3"],
    ["XA START 'one'", INSERT, "XA END 'one'", "XA COMMIT 'one' ONE PHASE"],
    ["SET gtid_next='AUTOMATIC:Tag_1'", INSERT, INSERT],
    [f"SET gtid_next='{OTHER}:abc:{GNO_MAX}'", INSERT, "SET gtid_next=AUTOMATIC"],
    [f"SET gtid_next='{OTHER}:7'", INSERT, "SET gtid_next=AUTOMATIC"],
    [
        "SET original_commit_timestamp=1234567890123456, original_server_version=80034",
        INSERT,
        f"SET gtid_next='{OTHER}:old:3'",
        INSERT,
        "SET gtid_next=AUTOMATIC",
    ],
    ["SET binlog_transaction_compression=ON", "INSERT INTO d.t (v) VALUES (REPEAT('x', 800))"],
    [
        "SET binlog_format=STATEMENT",
        "SET @a=5",
        "INSERT INTO d.t (v) VALUES (@a)",
        "INSERT INTO d.m VALUES (RAND())",
    ],
    [
        "SET binlog_row_value_options=PARTIAL_JSON",
        'INSERT INTO d.t (j) VALUES (\'{"a": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}\')',
        "UPDATE d.t SET j=JSON_REPLACE(j, '$.a', 'y')",
    ],
    ["FLUSH BINARY LOGS"],
    ["SET GLOBAL binlog_checksum=NONE", INSERT, "SET gtid_next='AUTOMATIC:tag_1'", INSERT],
]


@pytest.fixture(scope="module")
def source(mysql: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all kinds of events, files with and without checksums, ended by ROTATE, STOP or not."""
    with Cluster(tmp_path_factory.mktemp("events"), mysql) as cluster:
        server = cluster.server("source")
        for session in STATEMENTS:
            server.execute(*session)
        server.restart(binlog_checksum="NONE")
        server.execute(INSERT)
        yield server


@pytest.fixture(scope="module")
def files(source: Server) -> dict[str, File]:
    return {log.name: File(source.binlog_dir / log.name) for log in source.binary_logs()}


class TestFiles:
    def test_show_binlog_events(self, source: Server, files: dict[str, File]) -> None:
        seen = set()
        for name, file in files.items():
            shown = source.query(f"SHOW BINLOG EVENTS IN '{name}'")
            shown = [row for row in shown if row[1] != row[4]]  # what is within a compressed transaction
            assert len(shown) == len(file.events)
            for (at, event), (_, position, kind, server_id, end, text) in zip(file.events, shown, strict=True):
                header = Header.decode(event)
                seen.add(header.type)
                assert (at, type_name(header.type), header.server_id) == (position, kind, server_id)
                assert at + header.length == header.log_pos == end
                ours = info(event, file.checksum)
                if header.type == EventType.QUERY:
                    text = re.sub(r" /\* xid=\d+ \*/$", "", text)
                assert ours is None or ours == text
        t = EventType
        assert seen == {
            *(
                t.QUERY,
                t.STOP,
                t.ROTATE,
                t.INTVAR,
                t.RAND,
                t.USER_VAR,
                t.FORMAT_DESCRIPTION,
                t.XID,
                t.TABLE_MAP,
            ),
            *(
                t.ROWS_QUERY,
                t.WRITE_ROWS,
                t.UPDATE_ROWS,
                t.DELETE_ROWS,
                t.GTID,
                t.PREVIOUS_GTIDS,
                t.XA_PREPARE,
            ),
            *(t.PARTIAL_UPDATE_ROWS, t.TRANSACTION_PAYLOAD, t.GTID_TAGGED),
        }

    def test_the_executed_set(self, source: Server, files: dict[str, File]) -> None:
        executed = EMPTY
        for file in files.values():
            assert PreviousGtids.decode(file.of(EventType.PREVIOUS_GTIDS)[0], file.checksum).gtids == executed
            for event in file.of(EventType.GTID, EventType.GTID_TAGGED):
                gtid = GtidEvent.decode(event, file.checksum)
                executed = executed.add_run(gtid.sid, gtid.tag, gtid.gno, gtid.gno)
        assert str(executed) == source.value("SELECT @@gtid_executed")
        assert executed.compact() == source.gtid_executed

    def test_mysqlbinlog_on_gtids(self, source: Server, files: dict[str, File]) -> None:
        pattern = re.compile(
            r"\tGTID\tlast_committed=(\d+)\tsequence_number=(\d+)\trbr_only=(yes|no)"
            r"\toriginal_committed_timestamp=(\d+)\timmediate_commit_timestamp=(\d+)\ttransaction_length=(\d+)"
            r".*?original_server_version=(\d+).*?immediate_server_version=(\d+)"
            r".*?SET @@SESSION.GTID_NEXT= '([^']+)'",
            re.DOTALL,
        )
        count = tagged = older = 0
        for name, file in files.items():
            text = source.run("mysqlbinlog", "--read-from-remote-server", name).decode(errors="replace")
            shown = pattern.findall(text)
            gtids = [GtidEvent.decode(event, file.checksum) for event in file.of(EventType.GTID, EventType.GTID_TAGGED)]
            assert len(shown) == len(gtids)
            for row, gtid in zip(shown, gtids, strict=True):
                numbers = [
                    gtid.last_committed,
                    gtid.sequence_number,
                    "no" if gtid.flags & 1 else "yes",
                    gtid.original_commit_timestamp,
                    gtid.immediate_commit_timestamp,
                    gtid.transaction_length,
                    gtid.original_server_version,
                    gtid.immediate_server_version,
                    gtid,
                ]
                assert list(map(str, numbers)) == list(row)
                count += 1
                tagged += gtid.type == EventType.GTID_TAGGED
                older += gtid.original_server_version != gtid.immediate_server_version
        assert count > 15 and tagged >= 4 and older >= 1

    def test_transaction_lengths(self, files: dict[str, File]) -> None:
        ends = {EventType.ROTATE, EventType.STOP, EventType.GTID, EventType.GTID_TAGGED}
        for file in files.values():
            starts = [i for i, (_, event) in enumerate(file.events) if Header.decode(event).type in ends]
            starts.append(len(file.events))
            for i, j in pairwise(starts):
                event = file.events[i][1]
                if Header.decode(event).type in (EventType.GTID, EventType.GTID_TAGGED):
                    length = sum(len(other) for _, other in file.events[i:j])
                    assert GtidEvent.decode(event, file.checksum).transaction_length == length

    def test_what_we_encode_is_what_the_server_wrote(self, files: dict[str, File]) -> None:
        for file in files.values():
            for _, event in file.events:
                header = Header.decode(event)
                common: dict[str, Any] = {
                    "server_id": header.server_id,
                    "timestamp": header.timestamp,
                    "log_pos": header.log_pos,
                }
                algorithm = file.fde.algorithm
                match header.type:
                    case EventType.FORMAT_DESCRIPTION:
                        assert file.fde.encode(flags=header.flags, **common) == event
                    case EventType.ROTATE:
                        rotate = Rotate.decode(event, file.checksum)
                        assert rotate.encode(algorithm=algorithm, flags=header.flags, **common) == event
                    case EventType.PREVIOUS_GTIDS:
                        previous = PreviousGtids.decode(event, file.checksum)
                        assert previous.encode(algorithm=algorithm, **common) == event

    def test_checksums(self, files: dict[str, File]) -> None:
        algorithms = [file.fde.algorithm for file in files.values()]
        assert set(algorithms) == {ChecksumAlgorithm.CRC32, ChecksumAlgorithm.OFF}
        in_use = []
        for file in files.values():
            for _, event in file.events[:1] if file.checksum == 0 else file.events:
                header = Header.decode(event)
                if header.type == EventType.FORMAT_DESCRIPTION:
                    in_use.append(bool(header.flags & EventFlag.IN_USE))
                    event = clear_in_use(event)
                    assert event[17:19] == bytes(2)
                    assert event[19:] == file.events[0][1][19:], "the CRC on disk is that without IN_USE"
                assert int.from_bytes(event[-4:], "little") == zlib.crc32(event[:-4])
        assert in_use == [False] * (len(in_use) - 1) + [True]


class Dump:
    """COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID through PyMySQL: the events as they come."""

    def __init__(self, source: Server, *, checksum: str = "CRC32") -> None:
        self.connection: Any = source.connect(read_timeout=20)
        with self.connection.cursor() as cursor:
            cursor.execute(f"SET @source_binlog_checksum='{checksum}', @source_heartbeat_period=50000000")

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def by_gtid(self, gtids: bytes, *, name: str = "", position: int = 4, flags: int = 0) -> None:
        raw = name.encode()
        head = struct.pack("<HII", flags, 4_000_000_000, len(raw)) + raw + struct.pack("<QI", position, len(gtids))
        self.connection._execute_command(0x1E, head + gtids)

    def by_position(self, name: str, position: int) -> None:
        self.connection._execute_command(0x12, struct.pack("<IHI", position, 0, 4_000_000_000) + name.encode())

    def event(self) -> bytes:
        data: bytes = self.connection._read_packet().get_all_data()
        assert data[0] == 0
        return data[1:]

    def until(self, *types: EventType) -> bytes:
        while Header.decode(event := self.event()).type not in types:
            pass
        return event


class TestStream:
    """The artificial events of a real source are those that we make."""

    def test_a_dump_by_gtid_from_the_middle_of_a_file(self, source: Server, files: dict[str, File]) -> None:
        first, file = next(iter(files.items()))
        gtids = [GtidEvent.decode(event, 4) for event in file.of(EventType.GTID, EventType.GTID_TAGGED)]
        have = EMPTY.add_runs((gtid.sid, gtid.tag, gtid.gno, gtid.gno) for gtid in gtids[:-1])
        assert have.tagged
        with Dump(source) as dump:
            dump.by_gtid(have.encode(), flags=2)
            assert dump.event() == fake_rotate(first, 4, server_id=source.server_id, algorithm=ChecksumAlgorithm.CRC32)
            assert dump.event() == with_created_zero(file.events[0][1])
            beat = dump.until(EventType.HEARTBEAT_V2)
            at = next(at for at, event in file.events if is_gtid(event, str(gtids[-1])))
            assert Heartbeat.decode(beat, 4) == Heartbeat(first, at)
            assert beat == heartbeat_v2(first, at, server_id=source.server_id, algorithm=ChecksumAlgorithm.CRC32)
            assert GtidEvent.decode(dump.event(), 4) == gtids[-1]

    @pytest.mark.parametrize("flags", [0, 2])
    def test_heartbeats_at_the_end(self, source: Server, files: dict[str, File], flags: int) -> None:
        last, file = list(files.items())[-1]
        executed = GtidSet.parse(source.gtid_executed)
        with Dump(source) as dump:
            dump.by_gtid(executed.encode(), flags=flags)
            kind = EventType.HEARTBEAT_V2 if flags else EventType.HEARTBEAT
            beat = dump.until(kind)
            make = heartbeat_v2 if flags else heartbeat_v1
            assert beat == make(last, source.position()[1], server_id=source.server_id, algorithm=file.fde.algorithm)

    @pytest.mark.parametrize("encoding", [EMPTY.encode(), EMPTY.encode(tagged=True)])
    def test_a_dump_by_gtid_from_the_start(self, source: Server, files: dict[str, File], encoding: bytes) -> None:
        first, file = next(iter(files.items()))
        with Dump(source, checksum="NONE") as dump:
            dump.by_gtid(encoding)
            assert dump.event() == fake_rotate(first, 4, server_id=source.server_id, algorithm=ChecksumAlgorithm.OFF)
            assert dump.event() == clear_in_use(file.events[0][1])
            if encoding == EMPTY.encode():
                assert [dump.event() for _ in file.events[1:]] == [event for _, event in file.events[1:]]

    def test_a_dump_by_position(self, source: Server, files: dict[str, File]) -> None:
        for name, file in files.items():
            at, event = file.events[2]
            with Dump(source) as dump:
                dump.by_position(name, at)
                assert dump.event() == fake_rotate(
                    name, at, server_id=source.server_id, algorithm=ChecksumAlgorithm.CRC32
                )
                fde, ours = dump.event(), for_position_start(file.events[0][1])
                if file.fde.algorithm is ChecksumAlgorithm.OFF:  # mysqld then leaves the CRC as it was
                    assert (fde[:-4], fde[-4:]) == (ours[:-4], file.events[0][1][-4:])
                else:
                    assert fde == ours
                assert dump.event() == event

    def test_a_file_boundary(self, source: Server, files: dict[str, File]) -> None:
        """The fake ROTATE before the next file has the checksum of the previous one."""
        for (name, file), (following, _) in pairwise(files.items()):
            at, ending = file.events[-1]
            with Dump(source) as dump:
                dump.by_position(name, at)
                dump.until(EventType.FORMAT_DESCRIPTION)
                assert dump.event() == ending
                assert dump.event() == fake_rotate(
                    following, 4, server_id=source.server_id, algorithm=file.fde.algorithm
                )


def is_gtid(event: bytes, gtid: str) -> bool:
    kinds = (EventType.GTID, EventType.GTID_TAGGED)
    return Header.decode(event).type in kinds and str(GtidEvent.decode(event, 4)) == gtid


SIDS = [parse_sid(f"0000000{i}-0000-0000-0000-00000000000{i}") for i in "12f"]


def random_set(rng: random.Random) -> GtidSet:
    """0 to 12 intervals over 3 UUIDs and 4 tags; sometimes at the far end of the numbers."""
    runs = []
    for _ in range(rng.randrange(13)):
        first = rng.randint(1, 30) if rng.random() < 0.9 else GNO_MAX - rng.randint(0, 10)
        last = min(first + rng.randrange(8), GNO_MAX)
        runs.append((rng.choice(SIDS), rng.choice(["", "", "a", "b_2", "_z"]), first, last))
    return GtidSet.from_runs(runs)


class TestAlgebra:
    def test_300_random_pairs(self, source: Server) -> None:
        rng = random.Random(20261123)
        pairs = [(random_set(rng), random_set(rng)) for _ in range(300)]
        pairs += [(a & b, b) for a, b in pairs[:60]] + [(a, a | b) for a, b in pairs[:60]]
        subsets = 0
        with source.connect() as connection, connection.cursor() as cursor:
            for a, b in pairs:
                cursor.execute(
                    "SELECT GTID_SUBSET(%s, %s), GTID_SUBTRACT(%s, %s), GTID_SUBTRACT(%s, ''), "
                    "GTID_SUBTRACT(%s, GTID_SUBTRACT(%s, %s))",
                    (str(a), str(b), str(a), b.compact(), f"{a},{b}", str(a), str(a), str(b)),
                )
                row = cursor.fetchone()
                assert row == (int(a <= b), str(a - b), str(a | b), str(a & b))
                subsets += a <= b
        assert 100 < subsets < 300

    U = "3E11FA47-71CA-11E1-9E33-C80AA9429562"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ",",
            " , ,",
            U,
            f"{U}:tag",
            f"{U}:5-3",
            f"{U}:5-0",
            f" {U} : 1 - 3 : 4 ",
            f",{U}:1,,\n{U}:2,",
            f"{U}:9:5-7:1-5:6",
            f"{U}:1: Tag :2:3,{U}:4",
            f"{U}:1-{GNO_MAX}",
            f"{U}:{'a' * 32}:1",
            f"{U}:a:1:B:2:a:3",
            "nonsense",
            f"{U[:-1]}:1",
            f"{U}0:1",
            f"{U.replace('-', '')}:1",
            f"{{{U}}}:1",
            f"{{{U}:1",
            f"{U}}}:1",
            f"{{{U.replace('-', '')}}}:1",
            U.replace("-", "", 1) + ":1",
            f"{U}:1,{{{U}}}:3",
            f"{U}:",
            f"{U}::1",
            f"{U}:0",
            f"{U}:-1",
            f"{U}:1-",
            f"{U}:1-2-3",
            f"{U}:1.5",
            f"{U}:1 2",
            f"{U}:{GNO_MAX + 1}",
            f"{U}:1-{GNO_MAX + 1}",
            f"{U}:{'9' * 50}",
            f"{U}:{'a' * 33}:1",
            f"{U}:ta-g:1",
            f"{U}:1;{U}:1",
            f":{U}:1",
        ],
    )
    def test_what_is_a_set(self, source: Server, text: str) -> None:
        ours = outcome(lambda: str(GtidSet.parse(text)), GtidSyntaxError)
        theirs = outcome(lambda: source.query("SELECT GTID_SUBTRACT(%s, '')", text)[0][0], pymysql.err.OperationalError)
        assert ours == theirs


def outcome(action: Callable[[], Any], error: type[Exception]) -> Any:
    try:
        return action()
    except error:
        return "refused"
