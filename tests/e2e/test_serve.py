"""Real replicas and MySQL's own programs get from binlogd what they would get from the source."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import processes
from testbed.binlogd import first_difference
from testbed.cluster import Cluster, Load, checksum_all
from testbed.distributions import Distribution
from testbed.mysqld import Server
from testbed.proxy import DOWN, Proxy
from tests.e2e.histories import HISTORIES, full_packets
from tests.e2e.support import MakeBinlogd, Site, acknowledged_site, semi_sync_status

pytestmark = pytest.mark.servers

SENDER_MEMORY = 64 * 1024 * 1024  # the design's limit for a sender, …
MEMORY_OF_A_REPLICA = 1024 * 1024  # … and for each replica beside it
MAX_STEPS = 40  # of a live tail whose latency is measured


@pytest.fixture(scope="module")
def history(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The module's site, whose source has logged nearly every kind of history, a file each."""
    for write in HISTORIES:
        if write is not full_packets:  # has a test of its own
            site.source.execute("DROP DATABASE d", "CREATE DATABASE d", "FLUSH BINARY LOGS")
            write(site.source, tmp_path_factory.mktemp(write.__name__))
    site.binlogd.wait_for(site.source)
    return site


def first_file(server: Server) -> str:
    return server.binary_logs()[0].name


# -------------------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize(
    ("by", "workers"),
    [
        ("gtid", 4),
        ("position", 1),
        pytest.param("gtid", 1, marks=pytest.mark.slow),
        pytest.param("position", 4, marks=pytest.mark.slow),
    ],
)
def test_a_replica_holds_what_the_source_holds(history: Site, cluster: Cluster, by: str, workers: int) -> None:
    """Every kind of history arrives: by GTID and by file and position, and the multi-threaded applier likes it too."""
    file = "" if by == "gtid" else first_file(history.source)

    replica = cluster.replica(
        history.binlogd.address,
        file=file,
        change={"SOURCE_SSL": int(by == "gtid")},
        options={"replica_parallel_workers": workers, "innodb_redo_log_capacity": "512M"},
    )

    replica.wait_for_gtid(history.source.gtid_executed)
    assert checksum_all(replica) == checksum_all(history.source)
    assert replica.gtid_executed == history.source.gtid_executed
    attached = [one for one in history.binlogd.status()["replicas"] if one["server_id"] == replica.server_id]
    assert [(one["mode"], one["tls"], one["server_uuid"]) for one in attached] == [
        (by, by == "gtid", replica.server_uuid)
    ]


def test_a_replica_that_asks_for_semi_sync_gets_along_without(history: Site, cluster: Cluster) -> None:
    replica = cluster.replica(history.binlogd.address, semi_sync="replica", file=history.source.position()[0])

    # MySQL counts its receiver as running, and semi-sync as on, before it has asked for the stream and been told no.
    waiting = "Waiting for source to send event"
    replica.wait_until(lambda: replica.replica_status()["Replica_IO_State"] == waiting, what="a stream")

    assert replica.query("SHOW STATUS LIKE 'Rpl_semi_sync_replica_status'")[0][1] == "OFF"


def test_replicas_go_over_from_the_source_and_back(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """By file and position, between transactions: the names and offsets mean the same at both."""
    site = acknowledged_site(cluster, binlogd)
    replica = cluster.replica(site.source, auto_position=False, file=first_file(site.source))
    with Load(site.source, threads=1) as load:
        for host, port in (site.binlogd.address, _address(site.source), site.binlogd.address):
            replica.wait_for_gtid(site.source.gtid_executed)
            replica.stop_replica()
            status = replica.replica_status()
            replica.follow(
                host,
                port,
                site.binlogd.user,
                site.binlogd.password,
                file=status["Relay_Source_Log_File"],
                pos=status["Exec_Source_Log_Pos"],
            )

    replica.wait_for_gtid(site.source.gtid_executed)
    assert load.missing_at(replica) == []
    assert checksum_all(replica) == checksum_all(site.source)


def test_a_new_empty_replica_catches_up_from_the_first_file_while_load_runs(
    cluster: Cluster, binlogd: MakeBinlogd
) -> None:
    site = acknowledged_site(cluster, binlogd)
    with Load(site.source, threads=2) as load:
        load.wait_for(500)
        replica = cluster.replica(site.binlogd.address)
        replica.wait_for_gtid(site.source.gtid_executed)
        load.wait_for(load.commits + 300)
        replica.wait_for_gtid(site.source.gtid_executed)

    replica.wait_for_gtid(site.source.gtid_executed)
    assert load.errors == []
    assert load.missing_at(replica) == []
    assert checksum_all(replica) == checksum_all(site.source)
    assert semi_sync_status(site.source)["no_tx"] == 0


@pytest.mark.slow
def test_a_stalled_replica_harms_nobody(cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]) -> None:
    """A replica that takes no more bytes holds a bounded piece of memory, and nobody waits for it."""
    site = acknowledged_site(cluster, binlogd, max_allowed_packet="64M")
    line = proxy(*site.binlogd.address)
    stalled = cluster.replica((line.host, line.port), "stalled")
    others = [cluster.replica(site.binlogd.address, f"other{number}") for number in range(2)]
    with Load(site.source, threads=2, payload_bytes=200_000) as load:
        load.wait_for(5)
        for replica in (stalled, *others):
            replica.wait_for_gtid(site.source.gtid_executed)
        line.stall()
        sent = line.bytes[DOWN]
        load.wait_for(load.commits + 100)  # 20 MB: more than all buffers between here and there
        for replica in others:
            replica.wait_for_gtid(site.source.gtid_executed)
        assert line.bytes[DOWN] == sent
        behind = {one["server_id"]: one["lag_bytes"] for one in site.binlogd.status()["replicas"]}
        assert behind[stalled.server_id] > 5_000_000
    line.resume()

    assert load.errors == []
    assert semi_sync_status(site.source)["no_tx"] == 0
    expected = checksum_all(site.source)
    for replica in (stalled, *others):
        replica.wait_for_gtid(site.source.gtid_executed)
        assert checksum_all(replica) == expected
    assert site.binlogd.peak_memory("serve") < SENDER_MEMORY + 3 * MEMORY_OF_A_REPLICA


def test_the_same_uuid_again_ends_the_older_dump(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """In the words of a source, to whom it happens too: for instance when a replica's connection died unnoticed."""
    source = cluster.server()
    source.execute("CREATE DATABASE d")
    follower = binlogd(source)
    older = cluster.replica(follower.address, "older")
    older.wait_for_gtid(source.gtid_executed)
    newer = cluster.server("newer", start=False)
    newer.folder.mkdir()
    newer.distribution.copy_template(newer.data)
    (newer.data / "auto.cnf").write_text((older.data / "auto.cnf").read_text())
    newer.start()
    errors = []
    for host, port in (follower.address, _address(source)):
        for replica in (older, newer):
            replica.stop_replica()
        older.follow(host, port, follower.user, follower.password)
        older.wait_until(lambda: older.replica_status()["Replica_IO_Running"] == "Yes", what="the older dump")
        newer.follow(host, port, follower.user, follower.password)
        errors.append(refused(older))
        newer.wait_for_gtid(source.gtid_executed)
        if port == follower.port:
            assert [one["server_id"] for one in follower.status()["replicas"]] == [newer.server_id]

    (number, ours), (_, theirs) = errors
    assert number == 13114  # ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG
    assert ours.rstrip("'") == theirs.partition(";")[0]  # behind it a source tells how far it was


# --------------------------------------------------------------------------------------- what cannot be served


def refused(replica: Server) -> tuple[int, str]:
    """Number and text of the error with which the replica's receiver has stopped for good."""
    status = replica.wait_until(
        lambda: (
            (status := replica.replica_status())["Last_IO_Errno"]
            and status["Replica_IO_Running"] == "No"  # the error is set first
            and status
        ),
        what="an error of the receiver's, at rest",
    )
    return status["Last_IO_Errno"], status["Last_IO_Error"]


def test_a_replica_that_needs_what_is_gone_hears_what_is_missing(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """MySQL's own words, compared with the source's after a purge."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (1)")
    follower = binlogd(source, **{"source.start": "current"})
    follower.wait_for(source)
    source.execute(f"PURGE BINARY LOGS TO '{source.position()[0]}'")
    assert follower.status()["store"]["gtid_purged"] == f"{source.server_uuid}:1-2"

    errors = [refused(cluster.replica(of)) for of in (follower.address, source)]

    assert errors[0][0] == errors[1][0] == 13114  # ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG
    assert "Cannot replicate because the source purged required binary logs" in errors[0][1]
    assert f"the missing transactions are '{source.server_uuid}:1-2'" in errors[0][1]
    assert errors[0][1] == errors[1][1]


@pytest.mark.parametrize(("file", "position"), [("mysql-bin.000009", 4), ("mysql-bin.000001", 10_000_000)])
def test_a_position_that_does_not_exist_is_refused_in_the_source_s_words(
    history: Site, cluster: Cluster, file: str, position: int
) -> None:
    file = file.replace("000009", "000999")
    replicas = [
        cluster.replica(of, file=file, pos=position) for of in (history.binlogd.address, _address(history.source))
    ]

    errors = [refused(replica) for replica in replicas]

    assert errors[0][0] == 13114
    assert errors[0] == errors[1]


def test_a_position_inside_an_event_is_refused(history: Site, cluster: Cluster) -> None:
    replica = cluster.replica(history.binlogd.address, file=first_file(history.source), pos=130)

    number, text = refused(replica)

    assert number == 13114
    assert "bogus data in log event" in text


def _address(server: Server) -> tuple[str, int]:
    return server.host, server.port


# --------------------------------------------------------------------------------------------------- programs


def raw_files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir())}


def test_mysqlbinlog_raw_gets_the_files(history: Site, mysql: Distribution, tmp_path: Path) -> None:
    names = [log.name for log in history.source.binary_logs()]

    options = ("--read-from-remote-server", "--raw", "--to-last-log", f"--result-file={tmp_path}/")
    history.binlogd.run(mysql, "mysqlbinlog", *options, names[0])

    files = raw_files(tmp_path)
    assert list(files) == names
    for name in names[:-1]:
        assert first_difference(files[name], history.source.binlog_dir / name) is None
    assert first_difference(files[names[-1]], history.binlogd.file(names[-1])) is None


def test_events_that_fill_packets_exactly_are_served(cluster: Cluster, binlogd: MakeBinlogd, tmp_path: Path) -> None:
    source = cluster.server(max_allowed_packet="64M", innodb_redo_log_capacity="512M")
    source.execute("CREATE DATABASE d")
    follower = binlogd(source)
    full_packets(source, tmp_path)
    source.execute("FLUSH BINARY LOGS")
    follower.wait_for(source)

    options = ("--read-from-remote-server", "--raw", f"--result-file={tmp_path}/")
    follower.run(source.distribution, "mysqlbinlog", *options, first_file(source))

    assert first_difference(tmp_path / first_file(source), source.binlog_dir / first_file(source)) is None


def test_mysqlbinlog_by_gtid_gets_the_files(history: Site, mysql: Distribution, tmp_path: Path) -> None:
    names = [log.name for log in history.source.binary_logs()]

    options = ("--read-from-remote-source=BINLOG-DUMP-GTIDS", "--raw", "--to-last-log", f"--result-file={tmp_path}/")
    history.binlogd.run(mysql, "mysqlbinlog", *options, names[0])

    files = raw_files(tmp_path)
    assert list(files) == names
    for name in names[:-1]:
        assert first_difference(files[name], history.source.binlog_dir / name) is None


def test_mysqlbinlog_without_what_it_has_gets_what_the_source_would_send(
    history: Site, mysql: Distribution, tmp_path: Path
) -> None:
    """--exclude-gtids goes into the dump request: whole transactions are left out, everything else is the same."""
    source = history.source
    names = [log.name for log in source.binary_logs()]
    excluded = f"{source.server_uuid}:1-20:30-40:release_1:1"
    options = ("--read-from-remote-source=BINLOG-DUMP-GTIDS", "--raw", "--to-last-log", f"--exclude-gtids={excluded}")
    folders = [tmp_path / "binlogd", tmp_path / "source"]
    for folder in folders:
        folder.mkdir()

    history.binlogd.run(mysql, "mysqlbinlog", *options, f"--result-file={folders[0]}/", names[0])
    source.run("mysqlbinlog", *options, f"--result-file={folders[1]}/", names[0])

    ours, theirs = map(raw_files, folders)
    assert list(ours) == list(theirs)
    assert sum(path.stat().st_size for path in ours.values()) < sum(log.size for log in source.binary_logs())
    for name in ours:
        assert first_difference(ours[name], theirs[name]) is None, name


def test_mysqlbinlog_reads_the_same_text(history: Site, mysql: Distribution) -> None:
    names = [log.name for log in history.source.binary_logs()][:4]
    options = ("--read-from-remote-server", "--verbose", "--base64-output=decode-rows", *names)

    ours = history.binlogd.run(mysql, "mysqlbinlog", *options)
    theirs = history.source.run("mysqlbinlog", *options).decode(errors="replace")

    def comparable(text: str) -> list[str]:
        """Without what tells who sent it: artificial events bear the sender's server id."""
        return [re.sub(r"server id \d+  end_log_pos 0.*", "", line) for line in text.splitlines()]

    assert len(ours) > 1000
    assert comparable(ours) == comparable(theirs)


def test_mysqlbinlog_stop_never_follows(cluster: Cluster, binlogd: MakeBinlogd, tmp_path: Path) -> None:
    source = cluster.server()
    follower = binlogd(source)
    options = ("--read-from-remote-server", "--raw", "--stop-never", f"--result-file={tmp_path}/raw-")
    argv = follower.client(source.distribution, "mysqlbinlog", *options, first_file(source))
    environ = source.distribution.environ
    child = processes.start(argv, cwd=tmp_path, log=tmp_path / "mysqlbinlog.log", environ=environ)
    try:
        with Load(source, threads=1) as load:
            load.wait_for(100)
            source.execute("FLUSH BINARY LOGS")
            load.wait_for(200)
        follower.wait_for(source)
        name, size = source.position()
        live = tmp_path / f"raw-{name}"
        follower.wait_until(
            lambda: child.poll() is not None or (live.exists() and live.stat().st_size >= size), f"{size} bytes"
        )
    finally:
        child.kill()
        child.wait()

    assert first_difference(tmp_path / f"raw-{first_file(source)}", source.binlog_dir / first_file(source)) is None
    assert first_difference(live, follower.file(name)) is None


def test_the_mysql_client_connects_and_is_told_who_we_are(history: Site, mysql: Distribution) -> None:
    output = history.binlogd.run(
        mysql, "mysql", "--batch", "--commands", "--execute=SELECT @@version_comment, @@version; \\s"
    )

    assert "binlogd" in output.splitlines()[1]
    assert f"{history.source.value('SELECT @@version')}-binlogd" in output.splitlines()[1]
    assert f"Current user:\t\t{history.binlogd.user}@" in output
    shown = history.binlogd.run(mysql, "mysql", "--batch", "--skip-column-names", "--execute=SHOW BINARY LOGS")
    assert [line.split("\t")[:2] for line in shown.splitlines()] == [
        [log.name, str(log.size)] for log in history.source.binary_logs()
    ]


def test_the_mysql_client_shows_of_us_what_it_shows_of_the_source(history: Site, mysql: Distribution) -> None:
    """Names and values of columns. What is about the servers themselves differs."""
    ours, source = history.binlogd, history.source
    file = source.binary_logs()[0].name
    for sql in (
        f"SHOW BINLOG EVENTS IN '{file}' LIMIT 300",
        f"SHOW BINLOG EVENTS IN '{file}' FROM 4 LIMIT 2, 5",
        "SHOW BINARY LOG STATUS",
        f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{source.gtid_executed}', 10) AS reached",
        f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{source.server_uuid}:999999', 0.1) AS reached",
        "SHOW WARNINGS",
    ):
        shown = ours.run(mysql, "mysql", "--batch", f"--execute={sql}").splitlines()
        assert shown == source.run("mysql", "--batch", f"--execute={sql}").decode(errors="replace").splitlines(), sql
    for sql in ("SHOW REPLICAS", "SHOW REPLICA STATUS", "SHOW PROCESSLIST", "SHOW STATUS", "SHOW VARIABLES"):
        ours.run(mysql, "mysql", "--table", f"--execute={sql}")


# -------------------------------------------------------------------------------------------------- live tail


def _latencies(source: Server, replica: Server) -> Iterator[float]:
    """Milliseconds from a commit's return at the source until the replica has executed it."""
    writer, reader = source.connect(), replica.connect()
    with writer, reader, writer.cursor() as write, reader.cursor() as read:
        for _ in range(MAX_STEPS):
            write.execute("INSERT INTO d.t VALUES ()")
            begun = time.perf_counter()
            write.execute("SELECT @@GLOBAL.gtid_executed")
            read.execute("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 10)", write.fetchone())
            assert read.fetchone() == (0,)
            yield (time.perf_counter() - begun) * 1000


def test_the_live_tail_is_measured(
    cluster: Cluster, binlogd: MakeBinlogd, record_property: Callable[[str, object], None]
) -> None:
    """Commit to applied, through binlogd and, side by side, from the source: shown, not judged."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY)")
    follower = binlogd(source)
    for name, of in (("binlogd", follower.address), ("source", source)):
        replica = cluster.replica(of, f"of-{name}")
        replica.wait_for_gtid(source.gtid_executed)
        times = sorted(_latencies(source, replica))
        text = f"median {statistics.median(times):.1f} ms, worst {times[-1]:.1f} ms"
        record_property(f"commit to applied, from {name}", text)
        print(f"commit to applied, from {name}: {text}")
        assert checksum_all(replica) == checksum_all(source)
