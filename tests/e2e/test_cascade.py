"""A binlogd whose source is a binlogd, and two binlogds on one source.

What the lower one holds is compared with the *original* sources' files, not with the upper one's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.layout import DataFolder
from testbed.binlogd import Binlogd, first_difference
from testbed.cluster import Cluster, Load, checksum_all
from testbed.mysqld import Server
from tests.e2e.roles import follows, hosts, pair, promote
from tests.e2e.support import (
    MANY_FILES,
    NEVER_WITHOUT_ACK,
    MakeBinlogd,
    assert_same_history,
    semi_sync_status,
    wait_for_semi_sync,
)

pytestmark = pytest.mark.servers

COMMITS = 150


def settled(upper: Binlogd, lower: Binlogd) -> None:
    """Wait until the lower one has published what the upper one has, in a timeline of the same source."""

    def same() -> bool:
        theirs, ours = upper.status()["store"], lower.status()["store"]
        keys = ("published", "gtid_executed")
        return [theirs[key] for key in keys] == [ours[key] for key in keys]

    lower.wait_until(same, f"all that {upper!r} has")


def contents(binlogd: Binlogd) -> list[tuple[str, str, Path]]:
    """Each file with its timeline's source, in order."""
    return [
        (timeline.source_uuid, name, timeline.path / name)
        for timeline in DataFolder(binlogd.data).timelines()
        for name in timeline.binlogs()
    ]


def assert_copied(upper: Binlogd, lower: Binlogd, originals: dict[str, Server], alarms: Sequence[str] = ()) -> None:
    """The lower one has the timelines of the upper one under the names of the original sources, and their bytes."""
    settled(upper, lower)
    theirs, ours = contents(upper), contents(lower)
    assert [file[:2] for file in ours] == [file[:2] for file in theirs]
    for (uuid, name, mine), (_, _, there) in zip(ours, theirs, strict=True):
        assert first_difference(mine, there) is None, f"{mine} differs from {there}"
        original = originals[uuid].binlog_dir / name
        size = mine.stat().st_size
        assert first_difference(mine, original, size, in_use=True) is None, f"{mine} differs from {original}"
    assert [alarm["code"] for alarm in lower.status()["alarms"]] == list(alarms)


def check(binlogd: Binlogd) -> list[dict[str, str]]:
    """What ``binlogd check`` says beside it."""
    argv = [sys.executable, "-m", "binlogd", "check", "-c", str(binlogd.folder / "binlogd.toml"), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    lines = json.loads(done.stdout)
    return list(lines["checks"] if isinstance(lines, dict) else lines)


def all_wait(source: Server, threads: int) -> bool:
    """Whether one binlogd is gone, and every thread's commit waits: of a group of commits one waits for all."""
    counts = semi_sync_status(source)
    states = ("Waiting for semi-sync ACK from replica", "waiting for handler commit")
    waiting = sum(row[6] in states for row in source.query("SHOW PROCESSLIST"))
    return (counts["clients"], waiting) == (1, threads) and counts["wait_sessions"] > 0


@pytest.fixture
def both(cluster: Cluster, binlogd: MakeBinlogd) -> tuple[Server, Binlogd, Binlogd]:
    """A source, whose commits wait for two, and two binlogds on it."""
    options = {**MANY_FILES, **NEVER_WITHOUT_ACK, "rpl_semi_sync_source_wait_for_replica_count": 2}
    source = cluster.server("source", semi_sync="source", options=options)
    one, two = binlogd(source, name="one"), binlogd(source, name="two")
    source.wait_until(lambda: semi_sync_status(source)["clients"] == 2, what="two semi-synchronous replicas")
    return source, one, two


def test_commits_wait_for_both(both: tuple[Server, Binlogd, Binlogd]) -> None:
    """However long: what waits is stored, and not executed by the source, which is no reason to doubt it."""
    source, one, two = both
    questions = source.data / "questions.log"
    source.execute(f"SET GLOBAL general_log_file = '{questions}'", "SET GLOBAL general_log = ON")
    identities = [(each.status()["server_id"], each.status()["server_uuid"]) for each in (one, two)]
    assert len({part for identity in identities for part in identity}) == 4
    replicas = {(row[0], row[4]) for row in source.query("SHOW REPLICAS")}
    assert replicas == set(identities)

    with Load(source, threads=4) as load:
        load.wait_for(COMMITS)
        two.stop()
        source.wait_until(lambda: all_wait(source, 4), what="commits that all wait", timeout=20)
        stuck = load.commits
        one.wait_for(source)  # the other one has it all, and that is not enough
        asked = questions.read_text().count("gtid_executed")
        source.wait_until(
            lambda: questions.read_text().count("gtid_executed") > asked + 1, what="two looks of the scout"
        )
        assert "prove its history" not in one.log
        assert load.commits == stuck
        assert all_wait(source, 4)

        two.start()
        load.wait_for(stuck + COMMITS)
    assert semi_sync_status(source)["no_tx"] == 0
    for each in (one, two):
        assert_same_history(source, each)
        assert each.status()["alarms"] == []


@pytest.mark.slow
def test_both_hold_every_commit_of_a_source_that_is_killed(both: tuple[Server, Binlogd, Binlogd]) -> None:
    source, one, two = both
    with Load(source, threads=4) as load:
        load.wait_for(COMMITS)
        source.kill()
    for each in (one, two):
        each.stop()  # what is published then is what was durable
        each.assert_identical_to(source)
    source.start()
    held = [GtidSet.parse(each.gtid_executed) for each in (one, two)]
    assert load.journal
    assert load.missing_at(source) == []
    rows = f"SELECT COUNT(*) FROM {load.table}"
    assert len(load.journal) <= source.value(rows) <= len(load.journal) + len(load.uncertain)
    for each, gtids in zip((one, two), held, strict=True):
        assert gtids <= GtidSet.parse(source.gtid_executed)
        each.start()
        assert_same_history(source, each)


# ---------------------------------------------------------------------------------------------------- cascade


@pytest.mark.slow
def test_a_cascade_goes_through_a_failover_and_kills(cluster: Cluster, binlogd: MakeBinlogd) -> None:
    """Attached while the upper one crosses into its second timeline, and killed, each of them, under load."""
    first, second = pair(cluster)
    for server in (first, second):
        server.execute("SET GLOBAL max_binlog_size = 32768")
    originals = {server.server_uuid: server for server in (first, second)}
    upper = binlogd(first, name="upper", **hosts(first, second))
    wait_for_semi_sync(first)
    lower = binlogd(upper.address, name="lower", **{"source.semi_sync": False})
    attached = cluster.replica(lower.address, "attached")
    with Load(first, threads=4) as load:
        load.wait_for(COMMITS)
        lower.kill_child("receive")
        load.wait_for(2 * COMMITS)
        upper.kill()
        upper.start()
        load.wait_for(3 * COMMITS)
        second.wait_for_gtid(first.gtid_executed)
        second.stop_replica("IO_THREAD")
        first.kill()
    second.stop_replica()
    second.follow(*upper.address, upper.user, upper.password)
    second.wait_for_gtid(upper.gtid_executed)
    promote(second)
    follows(upper, second)
    wait_for_semi_sync(second)
    with Load(second, threads=4) as more:
        more.wait_for(COMMITS)
        lower.kill()
        lower.start()
        more.wait_for(2 * COMMITS)
    assert_copied(upper, lower, originals)
    assert list(dict.fromkeys(uuid for uuid, _, _ in contents(lower))) == list(originals)
    attached.wait_for_gtid(second.gtid_executed)
    assert load.missing_at(attached) == more.missing_at(attached) == []
    assert checksum_all(attached) == checksum_all(second)

    # One that was not there catches up through both; and the source itself may take the upper one's place.
    late = binlogd(upper.address, name="late")
    assert_copied(upper, late, originals, alarms=["no_semi_sync"])
    assert "INSTALL PLUGIN" not in str(late.status()["alarms"]) + late.log
    before = contents(lower)
    lower.stop()
    lower.start(source__hosts=[f"{second.host}:{second.port}"])
    follows(lower, second)
    with Load(second, threads=2) as last:
        last.wait_for(COMMITS)
    lower.wait_for(second)
    upper.wait_for(second)
    assert_copied(upper, lower, originals)
    assert contents(lower)[: len(before)] == before
    lower.stop()
    lower.start(source__hosts=[f"{upper.host}:{upper.port}"])
    lower.wait_streaming()
    assert_copied(upper, lower, originals)
    assert [line for line in check(lower) if line["status"] == "fail"] == []
