"""Damage at rest, with real servers: told of, never served, mended from the source while everything else goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.header import EventType
from testbed.binlogd import Binlogd, BinlogdFailed, first_difference
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import binlogd as run_command

pytestmark = pytest.mark.servers

FILES = 4


def begin(cluster: Cluster) -> Server:
    source = cluster.server(semi_sync="source", rpl_semi_sync_source_wait_no_replica=False)
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
    return source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    with Cluster(tmp_path_factory.mktemp("source"), mysql) as cluster:
        yield begin(cluster)


@contextmanager
def attached(source: Server, folder: Path) -> Iterator[Binlogd]:
    """``binlogd run`` with all that the source has: the schema, and then some files with a row each."""
    one = Binlogd(folder, source).start()
    try:
        one.wait_streaming()
        for _ in range(FILES):
            source.execute("FLUSH BINARY LOGS", insert())
        one.wait_for(source)
        yield one
    finally:
        one.close()
    assert "Traceback" not in one.log


@pytest.fixture
def running(source: Server, tmp_path: Path) -> Iterator[Binlogd]:
    with attached(source, tmp_path / "b") as one:
        yield one


def insert(size: int = 3000) -> str:
    return f"INSERT INTO d.t (b) VALUES (REPEAT('x', {size}))"


def rows(server: Server) -> int:
    return int(server.value("SELECT COUNT(*) FROM d.t"))


def events(source: Server, file: str, kind: str) -> list[int]:
    """Where the events of a type begin, as the source says."""
    return [int(row[1]) for row in source.query(f"SHOW BINLOG EVENTS IN '{file}'") if row[2] == kind]


def damage(path: Path, at: int) -> None:
    """One bit, in place: whoever has the file open reads it, too."""
    octet = path.read_bytes()[at]
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), bytes([octet ^ 4]), at)


def verify(binlogd: Binlogd, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Its exit code, and what it found."""
    done = run_command("verify", "--json", "-c", str(binlogd.folder / "binlogd.toml"), *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def io_error(replica: Server) -> str:
    status = replica.wait_until(
        lambda: (found := replica.replica_status())["Last_IO_Errno"] and found, what="an error of the receiver's"
    )
    assert status["Last_IO_Errno"] in (1236, 13114)
    return str(status["Last_IO_Error"])


def alarms(binlogd: Binlogd) -> list[str]:
    return [alarm["code"] for alarm in binlogd.status()["alarms"]]


def test_a_damaged_event_is_not_served_and_is_mended_from_the_source(
    source: Server, running: Binlogd, cluster: Cluster, tmp_path: Path
) -> None:
    name = running.stored()[2]
    path = running.file(name)
    place = events(source, name, "Write_rows")[0]
    damage(path, place + 1000)
    before = running.halves(), running.status()["source"]["reconnects"]

    replica = cluster.replica(running.address)
    error = io_error(replica)
    assert f"{name}: the event at {place} (type {int(EventType.WRITE_ROWS)}, " in error
    assert "fails its CRC-32" in error
    made = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'd' AND table_name = 't'"
    replica.wait_until(lambda: replica.value(made) and rows(replica) == 1, what="what is before the damage")
    with pytest.raises(BinlogdFailed, match=f"{name}: the event at {place} .*CRC-32"):
        running.run(source.distribution, "mysqlbinlog", "--read-from-remote-server", "--raw", name, cwd=tmp_path)
    assert alarms(running) == ["store_damaged"]
    code, report = verify(running)
    assert (code, report["sound"]) == (1, False)
    assert [(it["kind"], it["name"], it["offset"], it["event"]) for it in report["findings"]] == [
        ("event", name, place, "Write_rows")
    ]

    source.execute(insert())
    running.wait_for(source)
    code, report = verify(running, "--repair")
    assert (code, report["sound"], report["findings"]) == (0, True, [])
    assert [(Path(it["path"]).name, "fetched again" in it["done"]) for it in report["repaired"]] == [(name, True)]
    assert first_difference(path, source.binlog_dir / name) is None
    (kept,) = path.parent.glob("*.damaged-*")
    assert first_difference(kept, path) == place + 1000
    assert alarms(running) == []
    assert (running.halves(), running.status()["source"]["reconnects"]) == before, "the receiver did not notice"
    source.execute("FLUSH BINARY LOGS", insert())
    running.wait_for(source)

    replica.start_replica("IO_THREAD")  # the applier waits in the middle of a transaction, and would for a minute
    replica.wait_for_gtid(source.gtid_executed)
    assert rows(replica) == rows(source)
    running.assert_identical_to(source)


def test_a_large_damaged_event_never_arrives_whole(source: Server, running: Binlogd, cluster: Cluster) -> None:
    """All but its end is on the way when its sum is known: the connection ends, and the next attempt is refused."""
    before = rows(source)
    source.execute(insert(20_000_000), "FLUSH BINARY LOGS")
    running.wait_for(source)
    name = running.stored()[-2]
    place = events(source, name, "Write_rows")[-1]
    damage(running.file(name), place + 19_000_000)
    replica = cluster.replica(running.address)
    assert f"{name}: the event at {place} (type {int(EventType.WRITE_ROWS)}, " in io_error(replica)
    assert rows(replica) == before
    assert alarms(running) == ["store_damaged"]


def test_files_that_are_missing_or_cut_come_back(source: Server, running: Binlogd, cluster: Cluster) -> None:
    first, missing, cut, indexless = running.stored()[:4]
    for name in (missing, indexless):
        running.file(name).with_name(f"{name}.idx").unlink()
    list_of_files = running.file(missing).with_name("mysql-bin.index")
    list_of_files.write_text(f"./{first}\n")
    running.file(missing).unlink()
    os.truncate(running.file(cut), events(source, cut, "Gtid")[0])
    replica = cluster.replica(running.address, file=cut)
    assert f"{cut}: " in io_error(replica)
    code, report = verify(running)
    assert code == 1
    kinds = {(it["kind"], it["name"]) for it in report["findings"]}
    assert {("missing", missing), ("size", cut), ("index", f"{indexless}.idx"), ("list", "mysql-bin.index")} <= kinds
    code, report = verify(running, "--repair")
    assert (code, report["findings"]) == (0, [])
    assert list_of_files.read_text().split() == [f"./{name}" for name in running.stored()]
    running.assert_identical_to(source)
    assert running.status()["source"]["reconnects"] == 0


def test_files_between_which_gtid_purged_was_set_are_mended(
    cluster: Cluster, mysql_56: Distribution, tmp_path: Path
) -> None:
    """With 5.6 the file behind builds on more than those before hold, and both are mended all the same."""
    source = cluster.server(distribution=mysql_56)
    source.execute("RESET MASTER", "FLUSH BINARY LOGS")
    before, _ = source.position()
    source.execute("SET GLOBAL gtid_purged = '11111111-1111-1111-1111-111111111111:1-7'")  # which begins a file
    behind, _ = source.position()
    source.execute("CREATE DATABASE d", "FLUSH BINARY LOGS", "CREATE DATABASE e")
    running = Binlogd(tmp_path / "b", source, settings={"source.semi_sync": False}).start()
    try:
        running.wait_for(source)
        for name, kind in ((before, "Previous_gtids"), (behind, "Query")):
            damage(running.file(name), events(source, name, kind)[0] + 20)
        code, report = verify(running, "--repair")
        done = {Path(it["path"]).name: it["done"].partition(" from ")[0] for it in report["repaired"]}
        assert done == {before: "fetched again", behind: "fetched again"}
        assert (code, [(it["kind"], it["name"]) for it in report["findings"]]) == (0, [])
        running.assert_identical_to(source)
    finally:
        running.close()


@pytest.mark.slow
def test_what_the_source_cannot_mend_stays_as_it_is(source: Server, cluster: Cluster, tmp_path: Path) -> None:
    purging = begin(cluster)
    with attached(purging, tmp_path / "b") as running:
        first, second = running.stored()[:2]
        for name in (first, second):
            damage(running.file(name), 200)
        purging.execute(f"PURGE BINARY LOGS TO '{second}'")
        before = running.file(first).read_bytes()
        url = f"mysql://{running.user}:{running.password}@{source.host}:{source.port}"
        code, report = verify(running, "--repair", "--source", url)
        assert code == 1
        assert all(f"the history of source {purging.server_uuid}" in it["done"] for it in report["repaired"])
        code, report = verify(running, "--repair")
        assert code == 1
        told = {Path(it["path"]).name: it["done"] for it in report["repaired"]}
        assert "Could not find first log file" in told[first]
        assert "fetched again" in told[second]
        assert {it["name"] for it in report["findings"]} == {first}
        assert running.file(first).read_bytes() == before
        assert [path.name for path in running.file(first).parent.iterdir() if path.name.startswith(".")] == []


def test_the_newest_file_is_mended_while_no_receiver_runs(source: Server, running: Binlogd) -> None:
    name = running.stored()[-1]
    path = running.file(name)
    place = events(source, name, "Write_rows")[0]
    damage(path, place + 50)
    code, report = verify(running, "--repair")
    assert code == 1
    assert "which a receiver is writing" in report["repaired"][0]["done"]
    assert "stop binlogd" in report["repaired"][0]["hint"]
    assert running.stop() == 0
    code, report = verify(running, "--repair")
    assert (code, report["findings"]) == (0, [])
    running.start()
    running.wait_streaming()
    source.execute(insert(), "FLUSH BINARY LOGS")
    running.wait_for(source)
    running.assert_identical_to(source)


def test_a_newest_file_with_more_behind_the_damage_than_a_crash_can_tear(source: Server, running: Binlogd) -> None:
    """As after a power loss under durability = "os". Nothing is cut off, and what the error says is the way out."""
    name = running.stored()[-1]
    place = events(source, name, "Write_rows")[0]
    source.execute(*[insert(30_000_000)] * 3)
    running.wait_for(source)
    assert running.stop() == 0
    path = running.file(name)
    damage(path, place + 50)
    size = path.stat().st_size
    running.start("receive", wait=False)
    running.wait_until(lambda: "store.durability" in running.log, "error")
    assert running.log.count("move it away and start binlogd") >= 1
    assert path.stat().st_size == size
    running.kill()
    path.rename(running.folder / name)
    running.start("run")
    running.wait_streaming()
    running.wait_for(source)
    running.assert_identical_to(source)
    assert alarms(running) == []
