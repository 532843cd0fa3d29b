"""The source dies, again and again, and each time another server takes its place: nothing is lost, nothing repeated.

Three servers take turns as the source; four more are replicas for ever. binlogd alone acknowledges, and the sources
never commit without it. A turn:

    1  under load one candidate and two replicas fall behind; then the source is killed
    2  they get what they lack from binlogd, the candidate is promoted, and the load goes on against it at once: its
       commits wait for binlogd, which follows by itself
    3  the old source comes back as a replica of the new one, through binlogd

Who is attached to binlogd is never reconfigured. What an old source left on disk is compared with what is stored before
it comes back: its finished files are the same, and of its newest a beginning is stored.

**A source that died may come back with transactions that nobody else has**: they were in its binary log, and neither
acknowledged nor sent to binlogd, and no client was told that they were committed. Recovery commits them. Such a server
cannot be a replica, for what the new source does with the same rows will not fit. An operator makes it anew, and so
does this test: an empty server in its place, with another server_id, to which binlogd gives everything from the first
transaction on. The first source always comes back so, for binlogd loses the network to it a moment before it dies; the
others when it happens. A replica of the source itself may be sent them, too, before it dies: so nobody here replicates
from it then who is not to be made anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pymysql
import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.layout import DataFolder, Timeline
from testbed.binlogd import Binlogd, first_difference
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster, Load, checksum_all
from testbed.mysqld import Server
from testbed.proxy import Proxy
from tests.e2e.roles import SOURCE, STANDBY, attach, demote, hosts, promote, streams_from, timelines
from tests.e2e.support import MakeBinlogd, semi_sync_status, wait_for_semi_sync

pytestmark = pytest.mark.servers

COMMITS = 150  # in each part of a turn: before and after the others fall behind
NOBODYS = 0  # the id of a row that is never acknowledged

ANOTHER = 1 << 16  # added to a server_id, which is a port


def replica_options(workers: int = 8, *, ordered: bool = True) -> dict[str, str | int | bool | None]:
    return {"replica_parallel_workers": workers, "replica_preserve_commit_order": ordered}


@dataclass
class Sites:
    """All servers; ``source`` is the one that takes writes."""

    cluster: Cluster
    binlogd: Binlogd
    way: Proxy  # from binlogd to the first candidate
    source: Server
    candidates: list[Server]
    attached: list[Server]  # to binlogd, from beginning to end
    direct: Server  # a replica of the source itself, but for the time when there is none
    loads: list[Load] = field(default_factory=list)
    rebuilt: int = 0

    @property
    def all(self) -> list[Server]:
        return [*self.candidates, *self.attached, self.direct]

    # --- a turn ---

    def kill_the_source(self, *behind: Server) -> None:
        """Under load, when ``behind`` lack what was committed last."""
        load = self.loads[-1]
        begun = load.commits
        load.wait_for(begun + COMMITS)
        for server in behind:
            server.stop_replica("IO_THREAD")
        load.wait_for(load.commits + COMMITS)
        assert semi_sync_status(self.source)["no_tx"] == 0
        if len(self.loads) == 1:  # the first to die loses the network before, and comes to have what nobody else has
            self.way.refuse()
            self.way.cut()
            self.write_what_nobody_gets(load)
        self.source.kill()
        load.join()
        for server in behind:
            assert load.missing_at(server), f"{server!r} is not behind"

    def write_what_nobody_gets(self, load: Load) -> None:
        """A transaction that is in the source's binary log, and waits to be acknowledged."""
        text = "nobody gets this"

        def insert() -> None:
            with suppress(pymysql.err.OperationalError):  # the source is killed
                self.source.execute(f"INSERT INTO {load.table} VALUES ({NOBODYS}, '{text}')")

        def logged() -> bool:
            return text.encode() in (self.source.binlog_dir / self.source.position()[0]).read_bytes()

        Thread(target=insert, daemon=True).start()
        self.source.wait_until(logged, what="a transaction in the binary log")

    def promote(self, heir: Server) -> None:
        """It, and whoever lacks what the dead source had committed, gets that from binlogd; then it takes writes."""
        for server in (heir, self.direct):
            attach(server, self.binlogd)
        for server in self.attached:
            server.start_replica("IO_THREAD")
        held = self.binlogd.gtid_executed
        for server in (heir, *self.attached, self.direct):
            server.wait_for_gtid(held)
            for load in self.loads:
                assert load.missing_at(server) == []
        promote(heir)
        dead, self.source = self.source, heir
        self.loads.append(Load(heir, threads=4).start())
        self.binlogd.wait_until(lambda: streams_from(self.binlogd, heir), f"a stream from {heir!r}")
        self.loads[-1].wait_for(COMMITS)
        self.direct.stop_replica()
        self.direct.follow(heir.host, heir.port, REPLICATION_USER, REPLICATION_PASSWORD)
        self.compare(dead)

    def bring_back(self, server: Server) -> None:
        """The old source, as a replica of the new one."""
        server.options |= STANDBY
        server.start()
        self.way.accept()
        if not GtidSet.parse(server.gtid_executed) <= GtidSet.parse(self.binlogd.gtid_executed):
            self.rebuild(server)
        attach(server, self.binlogd)

    def rebuild(self, server: Server) -> None:
        """It has what nobody else has, and no client was told of: an empty server in its place."""
        self.rebuilt += 1
        server.kill()
        shutil.rmtree(server.data)
        server.server_id += ANOTHER  # a replica leaves out what bears its own: all that it wrote in its earlier life
        server.start(super_read_only=False, server_id=server.server_id)
        server.create_user(REPLICATION_USER, REPLICATION_PASSWORD, logged=False)
        demote(server)

    # --- what must be so ---

    def compare(self, server: Server) -> None:
        """The newest timeline but one holds what ``server``, which is dead, had written and sent, byte for byte."""
        timeline = DataFolder(self.binlogd.data).timelines()[-2]
        compare(timeline, server.binlog_dir, cut_short=True)

    def nothing_is_lost_or_repeated(self) -> None:
        self.loads[-1].stop()
        source, binlogd = self.source, self.binlogd
        source.execute("FLUSH BINARY LOGS")
        binlogd.wait_for(source)
        assert semi_sync_status(source)["no_tx"] == 0
        compare(DataFolder(binlogd.data).timelines()[-1], source.binlog_dir, cut_short=False)

        executed = GtidSet.parse(source.gtid_executed)
        assert GtidSet.parse(binlogd.gtid_executed) == executed
        committed = [number for load in self.loads for number in load.journal]
        under_way = {number for load in self.loads for number in load.uncertain}
        assert len(committed) == len(set(committed)), "one id was inserted twice"
        rows = checksum_all(source)
        for server in self.all:
            server.wait_for_gtid(source.gtid_executed)
            assert GtidSet.parse(server.gtid_executed) == executed, server
            assert checksum_all(server) == rows, server
        there = {row[0] for row in source.query(f"SELECT id FROM {self.loads[0].table}")}
        assert set(committed) - there == set(), "acknowledged, and lost"
        assert NOBODYS not in there
        assert there - set(committed) <= under_way, "nobody has committed that"
        assert binlogd.status()["alarms"] == []


def compare(timeline: Timeline, logs: Path, *, cut_short: bool) -> None:
    """Each finished file is its source's; of one that was killed the last may be a beginning."""
    *finished, last = timeline.binlogs()
    theirs = sorted(path.name for path in logs.glob("mysql-bin.[0-9]*"))
    begin = theirs.index(timeline.binlogs()[0])
    assert timeline.binlogs() == theirs[begin : begin + len(finished) + 1]
    for name in finished:
        assert (timeline.path / name).read_bytes() == (logs / name).read_bytes(), name
    size = (timeline.path / last).stat().st_size
    assert size <= (logs / last).stat().st_size
    assert first_difference(timeline.path / last, logs / last, size, in_use=True) is None
    if cut_short:
        assert theirs.index(last) >= len(theirs) - 2, "files that were finished when the source died are not stored"


@pytest.fixture
def sites(cluster: Cluster, binlogd: MakeBinlogd, proxy: Callable[..., Proxy]) -> Iterator[Sites]:
    source = cluster.server("a", semi_sync="source", options=SOURCE)
    standby = {**SOURCE, **STANDBY, **replica_options(), "super_read_only": False}
    b = cluster.replica(source, "b", semi_sync="source", options=standby)
    c = cluster.server("c", semi_sync="source", options=standby)
    candidates = [source, b, c]
    way = proxy(source.host, source.port)
    follower = binlogd(source, **hosts((way.host, way.port), b, c), **{"source.follow": "writable"})
    attach(c, follower)
    for server in (b, c):
        demote(server)
    attached = [
        cluster.replica(follower.address, f"attached{number}", options=replica_options(ordered=number != 1))
        for number in range(3)
    ]
    direct = cluster.replica(source, "direct", options=replica_options())
    wait_for_semi_sync(source)
    made = Sites(cluster, follower, way, source, candidates, attached, direct)
    made.loads.append(Load(source, threads=4).start())
    yield made
    for load in made.loads:
        load.leave()


@pytest.mark.slow
@pytest.mark.parametrize("turns", [2, 6])
def test_sources_die_in_turn_and_nothing_is_lost_or_repeated(sites: Sites, turns: int) -> None:
    a, b, c = sites.candidates
    heirs = [b, a, c, a, b, c][:turns]
    uuids = [a.server_uuid]
    for number, heir in enumerate(heirs):
        old = sites.source
        sites.kill_the_source(heir, sites.attached[number % 3], sites.direct)
        sites.promote(heir)
        uuids.append(heir.server_uuid)
        sites.bring_back(old)

    sites.nothing_is_lost_or_repeated()

    assert [uuid for uuid, _ in timelines(sites.binlogd)] == uuids
    for number, server in enumerate(sites.attached):
        assert server.error_log.count("'CHANGE REPLICATION SOURCE TO FOR CHANNEL '' executed'") == 1
        stopped_by_us = len(range(number, turns, 3))
        assert server.error_log.count("connected to source") == 1 + stopped_by_us, f"{server!r} has noticed something"
    assert sites.rebuilt >= 1
