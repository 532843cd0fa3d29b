"""The disk fails under a running binlogd: it stops receiving and says so, serves on, and comes back by itself.

Real processes, real file systems, a real source, whose semi-sync timeout is short where no acknowledgement may come,
which is what shows a false one: it would count the commit as one that a replica has.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from binlogd.store.watch import LOOK_AFTER
from testbed.binlogd import Binlogd, first_difference
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.faults import SmallDisk, failing, first_free, limited, small_disk
from testbed.mysqld import Server
from tests.cli.support import the_error
from tests.e2e.support import semi_sync_status, wait_for_semi_sync
from tests.e2e_errors.support import NOWHERE, ended, written

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and attaches to processes: needs root"),
]

PATIENT = 60_000  # ms, a timeout that is not reached
SEMI_SYNC_TIMEOUT = 0.3  # seconds that a commit waits for an acknowledgement that does not come
ROW = 64 * 1024  # bytes: more than the last block of any file has room for
DISK = 24 * 1024 * 1024
MiB = 1024 * 1024


def wait_until_it_waits(source: Server) -> None:
    """Until its commits wait again: a replica has all that it logged."""
    source.wait_until(
        lambda: source.query("SHOW STATUS LIKE 'Rpl_semi_sync_source_status'")[0][1] == "ON", what="semi-sync"
    )


@dataclass
class Scene:
    """A source whose commits wait for binlogd, and whatever may be put under its store."""

    source: Server
    binlogd: Binlogd
    folder: Path
    disk: SmallDisk | None = None

    def __post_init__(self) -> None:
        self.halves = self.binlogd.halves()  # of its latest start

    def commit(self) -> float:
        """One transaction of ROW bytes; the seconds that its commit took."""
        began = time.monotonic()
        self.source.execute(f"INSERT INTO d.t (payload) VALUES (REPEAT('x', {ROW}))")
        return time.monotonic() - began

    def commit_acknowledged(self) -> None:
        before = semi_sync_status(self.source)["yes_tx"]
        self.commit()
        assert semi_sync_status(self.source)["yes_tx"] == before + 1

    def commit_unacknowledged(self) -> None:
        """It returns after the source's timeout, and counts as one that no replica has."""
        before = semi_sync_status(self.source)
        self.source.variables["rpl_semi_sync_source_timeout"] = int(SEMI_SYNC_TIMEOUT * 1000)
        try:
            took = self.commit()
        finally:
            self.source.variables["rpl_semi_sync_source_timeout"] = PATIENT
        after = semi_sync_status(self.source)
        assert (after["yes_tx"], after["no_tx"]) == (before["yes_tx"], before["no_tx"] + 1), "acknowledged falsely"
        assert took >= SEMI_SYNC_TIMEOUT
        assert self.source.value("SELECT @@rpl_semi_sync_source_enabled")

    def wait_for_alarm(self, code: str) -> dict[str, Any]:
        def look() -> Any:
            return next((alarm for alarm in self.binlogd.status()["alarms"] if alarm["code"] == code), None)

        alarm: dict[str, Any] = self.binlogd.wait_until(look, f"alarm {code}")
        assert alarm["severity"] == "critical"
        assert alarm["hint"]
        assert alarm["since"]
        return alarm

    def assert_serving(self) -> None:
        """Everybody gets what was published, in the middle of the trouble."""
        one = self.binlogd
        one.wait_for_gtid(one.gtid_executed)
        name, position = one.published
        assert one.query("SELECT @@gtid_executed") == [(one.gtid_executed,)]
        copies = self.folder / "copies"
        copies.mkdir(exist_ok=True)
        arguments = ["--read-from-remote-server", "--raw", f"--result-file={copies}/", one.stored()[0], "--to-last-log"]
        one.run(self.source.distribution, "mysqlbinlog", *arguments)
        assert (copies / name).stat().st_size >= position
        assert first_difference(copies / name, self.source.binlog_dir / name, position, in_use=True) is None

    def trouble(self, code: str) -> dict[str, Any]:
        """What is the same in all of it: a commit that nobody acknowledges, the alarm, and serving on."""
        self.commit_unacknowledged()
        alarm = self.wait_for_alarm(code)
        assert self.binlogd.status()["source"]["state"] == "failed"
        self.assert_serving()
        return alarm

    def assert_recovered(self) -> None:
        """Nobody did anything, and all is as if nothing had been."""
        one, source = self.binlogd, self.source
        one.wait_until(lambda: not one.status()["alarms"], "end of the alarms")
        one.wait_streaming()
        one.wait_for(source)
        wait_until_it_waits(source)
        self.commit_acknowledged()
        source.execute("FLUSH BINARY LOGS")
        self.commit_acknowledged()
        one.wait_for(source)
        one.assert_identical_to(source)
        assert one.query("SELECT @@gtid_executed") == [(source.gtid_executed,)]
        assert one.status()["alarms"] == []


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    with Cluster(tmp_path_factory.mktemp("source"), mysql) as cluster:
        server = cluster.server(semi_sync="source", rpl_semi_sync_source_timeout=1)
        server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id SERIAL, payload LONGTEXT NOT NULL)")
        server.variables["rpl_semi_sync_source_timeout"] = PATIENT
        yield server


Stage = Callable[..., Scene]


@pytest.fixture
def stage(source: Server, tmp_path: Path) -> Iterator[Stage]:
    """Makes the scene: ``stage(disk=False, **settings)``. In the end: one process each, all the time, no traceback."""
    with ExitStack() as stack:
        made: list[Scene] = []

        def make(*, disk: bool = False, **settings: Any) -> Scene:
            source.execute("FLUSH BINARY LOGS")
            under = stack.enter_context(small_disk(tmp_path / "disk", DISK)) if disk else None
            data = (under.path if under else tmp_path) / "data"
            settings = {"source.start": "current", "data_dir": str(data), **settings}
            one = Binlogd(tmp_path / "binlogd", source, settings=settings)
            one.data = data
            stack.callback(one.close)
            one.start().wait_streaming()
            wait_for_semi_sync(source)
            wait_until_it_waits(source)
            scene = Scene(source, one, tmp_path, under)
            made.append(scene)
            scene.commit_acknowledged()
            return scene

        yield make
        for scene in made:
            one = scene.binlogd
            assert one.halves() == scene.halves, "a process was started again"
            assert one.stop() == 0
            assert "Traceback" not in one.log, one.log


def said(one: Binlogd, text: str) -> int:
    return sum(text in line for line in one.log.splitlines())


def test_a_full_disk(stage: Stage) -> None:
    scene = stage(disk=True)
    assert scene.disk is not None
    scene.disk.fill()
    alarm = scene.trouble("disk_full")
    assert "receiving has stopped: " in alarm["message"]
    assert "make room" in alarm["hint"]
    assert scene.disk.free < ROW, "it was given up"
    scene.commit()
    scene.disk.give(256 * 1024)  # enough for a transaction, and not enough to stop and go
    scene.binlogd.wait_until(
        lambda: "are needed to go on" in scene.binlogd.status()["source"]["last_error"], "a look at the disk"
    )
    assert scene.binlogd.status()["source"]["state"] == "failed"
    scene.disk.empty()
    scene.assert_recovered()
    assert said(scene.binlogd, "receiving stops") == 1
    assert said(scene.binlogd, "receiving goes on") == 1


@pytest.mark.slow
def test_a_start_on_a_full_disk(stage: Stage) -> None:
    """There is a store, and no room for a byte more: what is there is served, and it goes on when there is room."""
    scene = stage(disk=True)
    one, disk = scene.binlogd, scene.disk
    assert disk is not None
    for end in (one.stop, one.kill):
        end()
        for marks in one.data.rglob("*.marks"):  # recovery removes them, which makes room for what it writes
            marks.unlink()
        disk.fill()
        one.start()
        scene.halves = one.halves()
        scene.trouble("disk_full")
        disk.empty()
        scene.assert_recovered()
        assert one.halves() == scene.halves, "a process was started again"


def test_a_first_start_on_a_full_disk(tmp_path: Path) -> None:
    """There is nothing yet that could be served, and no room for an identity of our own: it ends, and says so."""
    with small_disk(tmp_path / "disk", DISK) as disk:
        disk.fill()
        error = the_error(ended("run", NOWHERE, disk.path / "data"), 4)
        assert "auto.cnf: No space left on device" in error
        assert error.endswith("make room on that disk, and start binlogd again")
        assert written(disk.path / "data") == {}


def test_min_free(stage: Stage) -> None:
    scene = stage(disk=True, **{"store.min_free": "8MiB"})
    assert scene.disk is not None
    scene.disk.fill(leave=8 * MiB + ROW // 2)
    scene.commit_acknowledged()  # this one goes below it
    scene.binlogd.wait_until(lambda: scene.disk and scene.disk.free < 8 * MiB, "less than min_free")
    time.sleep(LOOK_AFTER)  # so often it is looked at, and not more
    alarm = scene.trouble("disk_full")
    assert "7.9" in alarm["message"]
    assert "store.min_free is 8.00 MiB" in alarm["message"]
    assert "lower store.min_free" in alarm["hint"]
    scene.disk.give(MiB)  # more than min_free again, by little
    scene.binlogd.wait_until(
        lambda: "9.50 MiB are needed to go on" in scene.binlogd.status()["source"]["last_error"], "a look at the disk"
    )
    assert scene.binlogd.status()["source"]["state"] == "failed"
    scene.disk.give(MiB)
    scene.assert_recovered()


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        ("fdatasync", "EIO", "disk_error"),
        ("write", "EROFS", "disk_read_only"),
        pytest.param("write", "EIO", "disk_error", marks=pytest.mark.slow),
        pytest.param("fdatasync", "ENOSPC", "disk_full", marks=pytest.mark.slow),  # as a thin disk says it
    ],
)
def test_calls_that_fail(stage: Stage, tmp_path: Path, call: str, error: str, code: str) -> None:
    scene = stage()
    receiver = scene.binlogd.halves()["receive"]
    name, position = scene.binlogd.published
    trace = f"{call}" if call == "fdatasync" else "write,ftruncate"
    file = scene.binlogd.file(name) if call == "write" else None
    with failing(receiver, trace, error, folder=tmp_path, path=file):
        scene.commit_unacknowledged()
        scene.wait_for_alarm(code)
        if call == "fdatasync":
            assert scene.binlogd.file(name).stat().st_size == position, "what was not synced was given up"
        scene.assert_serving()
    scene.assert_recovered()


def test_a_limit_of_file_size(stage: Stage) -> None:
    scene = stage()
    receiver = scene.binlogd.halves()["receive"]
    _, position = scene.binlogd.published
    with limited(receiver, resource.RLIMIT_FSIZE, position + 1000):
        alarm = scene.trouble("file_too_large")
        assert "File too large" in alarm["message"]
        assert "LimitFSIZE" in alarm["hint"]
    scene.assert_recovered()


def test_no_file_descriptors_for_the_receiver(stage: Stage) -> None:
    scene = stage()
    receiver = scene.binlogd.halves()["receive"]
    with limited(receiver, resource.RLIMIT_NOFILE, first_free(receiver)):
        scene.source.execute("FLUSH BINARY LOGS")
        alarm = scene.wait_for_alarm("too_many_files")
        assert "Too many open files" in alarm["message"]
    scene.assert_recovered()


def test_no_file_descriptors_for_the_sender(stage: Stage) -> None:
    """Those who are there are served on; those who come are served when there are some again."""
    scene = stage()
    sender = scene.binlogd.halves()["serve"]
    with scene.binlogd.connect() as there, there.cursor() as cursor:
        with limited(sender, resource.RLIMIT_NOFILE, first_free(sender)):
            scene.commit_acknowledged()
            for _ in range(3):
                with pytest.raises(Exception, match=r"timed out|Lost connection"):
                    scene.binlogd.connect(read_timeout=0.3)
            cursor.execute("SELECT @@gtid_executed")
            assert cursor.fetchall() == ((scene.source.gtid_executed,),)
    scene.assert_recovered()
    assert said(scene.binlogd, "cannot accept") == 1


def test_a_file_cut_short(stage: Stage) -> None:
    scene = stage()
    name, position = scene.binlogd.published
    os.truncate(scene.binlogd.file(name), position - ROW // 2)
    scene.commit_unacknowledged()
    scene.binlogd.wait_until(lambda: said(scene.binlogd, "somebody changed it"), "a look at the file")
    scene.assert_recovered()
    assert said(scene.binlogd, "published transactions are missing") == 1
    assert said(scene.binlogd, "what was missing is there again") == 1


def test_a_removed_file(stage: Stage) -> None:
    scene = stage()
    scene.source.execute("FLUSH BINARY LOGS")
    scene.commit_acknowledged()
    name, _ = scene.binlogd.published
    scene.binlogd.file(name).unlink()
    scene.commit_unacknowledged()
    # Found before the next write, when a look was due, and else before the acknowledgement.
    words = f"{name}: No such file or directory", f"{name} was removed while it was received"
    scene.binlogd.wait_until(lambda: any(said(scene.binlogd, each) for each in words), "a look at the file")
    scene.assert_recovered()


def test_a_folder_that_is_gone_for_a_while(stage: Stage) -> None:
    """It is not begun anew: its disk may come back."""
    scene = stage()
    binlogs, away = scene.binlogd.data / "binlogs", scene.binlogd.data / "away"
    binlogs.rename(away)
    time.sleep(LOOK_AFTER)  # so often it is looked at, and not more
    scene.commit_unacknowledged()
    alarm = scene.wait_for_alarm("store_missing")
    assert "put back what was moved or removed" in alarm["hint"]
    assert not binlogs.exists()
    away.rename(binlogs)
    scene.assert_recovered()
