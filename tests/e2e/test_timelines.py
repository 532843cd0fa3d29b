"""Two sources one after the other, in one store: real replicas and MySQL's programs get all of both.

The store is made of real files: those of a source that was killed, and those of its replica, which was promoted. Their
names overlap, and so do the transactions of the new source's first file.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pymysql
import pytest
from pymysql.constants import COMMAND

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import EventType
from binlogd.store.reader import read_previous
from testbed.binlogd import IN_USE_AT, Binlogd, BinlogdFailed, first_difference
from testbed.cluster import Cluster, Load, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import Server

pytestmark = pytest.mark.servers

FILES = {"max_binlog_size": "64K"}
REFUSED = 13114  # ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG


def store(binlog: Path, folder: Path) -> None:
    """Put a binary log into the store as a receiver has it: not in use."""
    content = bytearray(binlog.read_bytes())
    content[IN_USE_AT] &= ~1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / binlog.name).write_bytes(content)


@dataclass
class Failover:
    """A binlogd over the history of ``old``, which is dead, and of ``new``; ``behind`` lacks the end of the old."""

    cluster: Cluster
    old: Server
    old_uuid: str
    old_executed: str
    new: Server
    behind: Server
    binlogd: Binlogd
    files: dict[int, list[str]]

    def folder(self, timeline: int) -> Path:
        uuid = {1: self.old_uuid, 2: self.new.server_uuid}[timeline]
        return self.binlogd.data / "binlogs" / f"{timeline:04}-{uuid}"

    @property
    def both(self) -> str:
        """A name that both sources have."""
        return max(set(self.files[1]) & set(self.files[2]))


@pytest.fixture(scope="module")
def failover(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Failover]:
    folder = tmp_path_factory.mktemp("failover")
    with Cluster(folder, mysql) as cluster:
        old = cluster.server("old", options=FILES)
        old_uuid = old.server_uuid
        new = cluster.replica(old, "new", options={**FILES, "binlog_checksum": "NONE"})
        behind = cluster.replica(old, "behind", options=replica_options("OFF"))
        with Load(old, threads=8) as load:
            load.wait_for(300)
            behind.stop_replica()
            load.wait_for(900)
        new.wait_for_gtid(old.gtid_executed)
        executed = old.gtid_executed
        old.kill()
        new.stop_replica()
        new.reset_replica()
        with Load(new, threads=8) as load:
            load.wait_for(600)
        new.execute(
            f"UPDATE {load.table} SET payload = UPPER(payload) WHERE id % 7 = 0",
            "SET GLOBAL max_binlog_size = 1073741824",  # the file that grows later is the last one
            "FLUSH BINARY LOGS",
        )

        binlogd = Binlogd(folder / "binlogd", new, mode="serve")
        files: dict[int, list[str]] = {1: [], 2: []}
        made = Failover(cluster, old, old_uuid, executed, new, behind, binlogd, files)
        files[1] += [Path(line).name for line in (old.binlog_dir / "mysql-bin.index").read_text().split()]
        files[2] += [log.name for log in new.binary_logs()]
        for timeline, server in ((1, old), (2, new)):
            for name in files[timeline]:
                store(server.binlog_dir / name, made.folder(timeline))
        held = GtidSet.parse(executed)
        claims = [read_previous(made.folder(2) / name) for name in files[2]]
        begin = max(index for index, claim in enumerate(claims) if claim is not None and claim <= held)
        for name in files[2][:begin]:
            (made.folder(2) / name).unlink()
        del files[2][:begin]
        try:
            binlogd.start()
            yield made
        finally:
            binlogd.close()
    assert "Traceback" not in binlogd.log


def replica_options(preserve: str) -> dict[str, str | int]:
    return {
        "replica_parallel_workers": 8,
        "replica_preserve_commit_order": preserve,
        "relay_log_purge": 0,
        "skip_replica_start": 1,
    }


def received(replica: Server) -> Counter[str]:
    """How often each GTID came, by the relay logs since the replica was last reset."""
    logs = [str(path) for path in sorted(replica.data.glob("relay-bin.0*"))]
    text = replica.run("mysqlbinlog", "--base64-output=decode-rows", *logs).decode(errors="replace")
    return Counter(re.findall(r"GTID_NEXT= '([^']*:\d+)'", text))


def dumps(binlogd: Binlogd, server_uuid: str) -> int:
    """How often a replica has connected."""
    return sum("dump begins" in line and server_uuid in line for line in binlogd.log.splitlines())


def assert_got_what_it_lacked(made: Failover, replica: Server, had: GtidSet) -> None:
    """All of it, once, in one connection."""
    wanted = GtidSet.parse(made.new.gtid_executed)
    replica.wait_for_gtid(made.new.gtid_executed)
    assert checksum_all(replica) == checksum_all(made.new)
    times = received(replica)
    assert set(times.values()) == {1}
    assert GtidSet.parse(",".join(times)) == wanted - had
    assert dumps(made.binlogd, replica.server_uuid) == 1
    attached = next(one for one in made.binlogd.status()["replicas"] if one["server_uuid"] == replica.server_uuid)
    assert (attached["file"], attached["lag_bytes"]) == (made.files[2][-1], 0)


# -------------------------------------------------------------------------------------------------- replicas


def test_the_stores_timelines_overlap(failover: Failover) -> None:
    """Or all of this would prove little."""
    first = read_previous(failover.folder(2) / failover.files[2][0])
    last = read_previous(failover.folder(1) / failover.files[1][-1])
    assert first is not None
    assert last is not None
    assert first < GtidSet.parse(failover.binlogd.gtid_executed)
    assert len(failover.files[1]) > 2
    assert len(set(failover.files[1]) & set(failover.files[2])) > 0


@pytest.mark.parametrize("preserve", ["ON", "OFF"])
def test_an_empty_replica_gets_both_histories(failover: Failover, preserve: str) -> None:
    replica = failover.cluster.replica(failover.binlogd.address, f"empty-{preserve}", options=replica_options(preserve))
    assert_got_what_it_lacked(failover, replica, GtidSet())
    replica.close()


def test_a_replica_that_was_behind_gets_the_end_of_the_old_history_and_the_new(failover: Failover) -> None:
    replica = failover.behind
    replica.reset_replica()
    had = GtidSet.parse(replica.gtid_executed)
    assert had

    replica.follow(*failover.binlogd.address, failover.binlogd.user, failover.binlogd.password)

    assert_got_what_it_lacked(failover, replica, had)


# ------------------------------------------------------------------------------------------ file and position


def refused(replica: Server) -> str:
    """With which words the replica's receiver has stopped for good."""
    status = replica.wait_until(
        lambda: (
            (status := replica.replica_status())["Last_IO_Errno"]
            and status["Replica_IO_Running"] == "No"  # the error is set first
            and status
        ),
        what="an error of the receiver's, at rest",
    )
    assert status["Last_IO_Errno"] == REFUSED
    return str(status["Last_IO_Error"])


def test_a_replica_by_position_ends_with_the_old_history(failover: Failover) -> None:
    """It asks by a plain name, is told why not, asks by the qualified one, and never sees the other source's events."""
    both, binlogd = failover.both, failover.binlogd
    replica = failover.cluster.replica(binlogd.address, "by-position", file=both)
    text = refused(replica)
    assert f"'0001:{both}' of {failover.old_uuid}, '0002:{both}' of {failover.new.server_uuid}" in text

    replica.stop_replica()
    replica.reset_replica()
    first = f"0001:{failover.files[1][0]}"
    replica.follow(*binlogd.address, binlogd.user, binlogd.password, file=first, start=False)
    for _ in ("from the beginning", "from where it stands"):
        replica.start_replica("IO_THREAD")
        text = refused(replica)
        assert f"The history of source {failover.old_uuid} ends at" in text
        assert f"binlogd follows {failover.new.server_uuid} since" in text
        assert "SOURCE_AUTO_POSITION = 1" in text
        assert replica.replica_status()["Source_Log_File"] == f"0001:{failover.files[1][-1]}"
    replica.start_replica("SQL_THREAD")
    replica.wait_until(f"SELECT @@global.gtid_executed = '{failover.old_executed}'", what="all of the old history")
    assert failover.new.server_uuid not in replica.gtid_executed

    # As it is told: by GTID it goes on.
    replica.stop_replica()
    replica.execute("CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1")
    replica.start_replica()
    replica.wait_for_gtid(failover.new.gtid_executed)
    assert checksum_all(replica) == checksum_all(failover.new)
    replica.close()


def heard(binlogd: Binlogd, file: str, *, pinned: str = "") -> tuple[list[str], str]:
    """The names in the artificial ROTATEs of a dump by position of a client that waits, and its last words."""
    names, connection = [], binlogd.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET @source_binlog_checksum = 'NONE'")
        if pinned:
            cursor.execute("SET @binlogd_timeline = %s", (pinned,))
    connection._execute_command(COMMAND.COM_BINLOG_DUMP, struct.pack("<IHI", 4, 0, 77) + file.encode())

    def read() -> NoReturn:
        while True:
            event = connection._read_packet()._data[1:]
            if event[4] == EventType.ROTATE and not any(event[:4]):
                names.append(re.findall(rb"[\w:-]+\.\d{6}", event[27:])[0].decode())

    with closing(connection), pytest.raises(pymysql.err.MySQLError) as caught:
        read()
    number, words = caught.value.args
    assert number == 1236
    return names, words


def test_a_pinned_client_gets_one_history(failover: Failover) -> None:
    binlogd, files = failover.binlogd, failover.files[1]
    names, words = heard(binlogd, files[0], pinned="0001")
    assert names == files
    assert words.startswith(f"End of timeline 0001: the history of source {failover.old_uuid} ends at '{files[-1]}'")
    assert heard(binlogd, "", pinned="0001")[0] == files
    assert heard(binlogd, f"0001:{files[-1]}")[0] == [f"0001:{files[-1]}"]
    assert "There is no timeline 0003 here" in heard(binlogd, files[0], pinned="0003")[1]
    assert "should be a number" in heard(binlogd, files[0], pinned="x")[1]


# --------------------------------------------------------------------------------------------- SQL and programs


def test_what_the_listener_says_of_its_timelines(failover: Failover) -> None:
    binlogd = failover.binlogd
    said = f"0001-{failover.old_uuid},0002-{failover.new.server_uuid}"
    assert binlogd.query("SELECT @@global.binlogd_timelines") == [(said,)]
    with pytest.raises(pymysql.err.OperationalError, match="1193"):
        failover.new.query("SELECT @@global.binlogd_timelines")
    twice = set(failover.files[1]) & set(failover.files[2])
    expected = [
        f"{number:04}:{name}" if name in twice else name for number, names in failover.files.items() for name in names
    ]
    assert [row[0] for row in binlogd.query("SHOW BINARY LOGS")] == expected
    assert binlogd.query("SHOW BINARY LOG STATUS")[0][0] == failover.files[2][-1]


def test_mysqlbinlog_reads_a_file_by_its_qualified_name(failover: Failover, mysql: Distribution) -> None:
    options = ("--base64-output=decode-rows", "--verbose")
    for timeline, names in failover.files.items():
        for name in (names[0], names[-1]):  # the last of the old source: nothing follows it, and that is no error
            ours = failover.binlogd.run(
                mysql, "mysqlbinlog", *options, "--read-from-remote-server", f"{timeline:04}:{name}"
            )
            theirs = failover.new.run("mysqlbinlog", *options, str(failover.folder(timeline) / name)).decode()
            assert comparable(ours) == comparable(theirs)
    with pytest.raises(BinlogdFailed, match="Several sources that binlogd followed have a file"):
        failover.binlogd.run(mysql, "mysqlbinlog", "--read-from-remote-server", failover.both)


def comparable(text: str) -> list[str]:
    """Without what is not in the file: the artificial ROTATE, and what is said of it."""
    return [line for line in text.splitlines() if line.startswith(("SET", "###", "BEGIN", "COMMIT", "/*!"))]


def test_mysqlbinlog_raw_gets_every_file(failover: Failover, mysql: Distribution, tmp_path: Path) -> None:
    options = ("--read-from-remote-server", "--raw", f"--result-file={tmp_path}/")
    names = [row[0] for row in failover.binlogd.query("SHOW BINARY LOGS")]
    failover.binlogd.run(mysql, "mysqlbinlog", *options, *names)
    stored = [failover.folder(timeline) / name for timeline, names in failover.files.items() for name in names]
    for name, file in zip(names, stored, strict=True):
        assert first_difference(tmp_path / name, file) is None


def test_mysqlbinlog_to_the_last_log_says_that_there_is_more(failover: Failover, mysql: Distribution) -> None:
    remote = ("--read-from-remote-server", "--to-last-log", f"0001:{failover.files[1][0]}")
    with pytest.raises(BinlogdFailed, match=f"The history of source {failover.old_uuid} ends at"):
        failover.binlogd.run(mysql, "mysqlbinlog", *remote)


# ------------------------------------------------------------------------------------------------------- ahead


def test_a_replica_that_is_ahead_waits_and_goes_on(failover: Failover) -> None:
    """It has what binlogd does not have yet; what comes then is left out, and the rest is sent. Changes the store."""
    new, replica, binlogd = failover.new, failover.behind, failover.binlogd
    newest = failover.folder(2) / failover.files[2][-1]

    def fetch() -> None:
        """What the source has logged since."""
        with newest.open("ab") as ours, (new.binlog_dir / newest.name).open("rb") as theirs:
            theirs.seek(newest.stat().st_size)
            shutil.copyfileobj(theirs, ours)
        binlogd.wait_for_position(*new.position())

    replica.stop_replica()
    replica.reset_replica()
    with Load(new, threads=2) as load:
        load.wait_for(100)
    replica.follow(new.host, new.port, "repl", binlogd.password)
    replica.wait_for_gtid(new.gtid_executed)
    had = GtidSet.parse(new.gtid_executed)
    assert not had <= GtidSet.parse(binlogd.gtid_executed)
    replica.stop_replica()
    replica.reset_replica()
    replica.follow(*binlogd.address, binlogd.user, binlogd.password)
    waiting = "Waiting for source to send event"
    replica.wait_until(lambda: replica.replica_status()["Replica_IO_State"] == waiting, what="a stream")

    fetch()
    new.execute(f"DELETE FROM {load.table} WHERE id % 11 = 0")
    fetch()

    replica.wait_for_gtid(new.gtid_executed)
    assert checksum_all(replica) == checksum_all(new)
    assert received(replica) == Counter(str(GtidSet.parse(new.gtid_executed) - had).split(","))
    assert replica.replica_status()["Last_IO_Errno"] == 0
