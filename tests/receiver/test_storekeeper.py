"""Trouble with the store, waited out: each single operation on the disk fails once, and what follows is looked at.

The source is a script that begins where the store says it ends, as a real one does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from binlogd.binlog.events import for_position_start
from binlogd.errors import StoreDamaged, StoreError, StoreInUse, StoreUnreadable, Unreachable
from binlogd.receiver import storekeeper
from binlogd.receiver.link import Stopped, Wake
from binlogd.receiver.progress import Progress, State
from binlogd.receiver.storekeeper import PAUSE, PAUSE_LONGEST, STARTING, Shown, StoreKeeper
from binlogd.store.disk import DISK_FULL, Disk, unusable
from binlogd.store.layout import DataFolder
from binlogd.store.lock import StoreLock
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import Recovered, recover
from binlogd.store.tail import Tail
from binlogd.store.watch import Watch
from tests.binlog.making import UUID_B, Log
from tests.receiver.support import Running, dump, rotate_to, whole_file
from tests.store.support import FIRST, SECOND, THIRD, Quick, Recording, chain, empty_tail, make_store, newest, tail_of

pytestmark = pytest.mark.usefixtures("closing")

LOGS = chain(3, 4)
MiB = 1024 * 1024


class Failing(Recording):
    """Its ``fail_at``-th operation fails, and when ``lasting`` so do all after it, until it is mended."""

    def __init__(self, fail_at: int = 0, error: int = errno.EIO, *, lasting: bool = False) -> None:
        super().__init__()
        self.operations = 0
        self.fail_at = fail_at
        self.failed = ""
        self._error = error
        self._lasting = lasting

    def mend(self) -> None:
        self.fail_at = 0

    def _operate(self, what: str) -> None:
        self.operations += 1
        if self.fail_at and (self.operations >= self.fail_at if self._lasting else self.operations == self.fail_at):
            self.failed = self.failed or what
            raise OSError(self._error, os.strerror(self._error))

    def create(self, path: Path) -> int:
        self._operate(f"create {path.name}")
        return super().create(path)

    def open_append(self, path: Path) -> int:
        self._operate(f"open {path.name}")
        return super().open_append(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Half of it gets there before it fails."""
        half = len(data) // 2
        super().write(descriptor, data[:half])
        self._operate(f"write {self._name(descriptor)}")
        super().write(descriptor, data[half:])

    def sync(self, descriptor: int) -> None:
        self._operate(f"sync {self._name(descriptor)}")
        self.steps.append(f"synced {self._name(descriptor)}:{os.fstat(descriptor).st_size}")

    def truncate(self, descriptor: int, size: int) -> None:
        self._operate(f"truncate {self._name(descriptor)}")
        super().truncate(descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        self._operate(f"rename {new.name}")
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self._operate("sync folder")
        super().sync_folder(path)

    def remove(self, path: Path) -> None:
        self._operate(f"remove {path.name}")
        super().remove(path)


class Waiting(Wake):
    """A wake-up that nobody waits for: ``meanwhile`` is what happens while the keeper sleeps."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.meanwhile = meanwhile

    def sleep(self, seconds: float | None) -> None:
        assert seconds is not None
        self.slept.append(seconds)
        if len(self.slept) > 50:
            raise Stopped
        self.meanwhile()


class Scene:
    """A store, its keeper, and what both make known."""

    def __init__(self, folder: DataFolder, disk: Disk, *, patience: float | None = None, min_free: int = 0) -> None:
        self.folder = folder
        self.disk = disk
        self.progress = Progress()
        self.published: list[Publication] = []
        self.shown = Shown(self.published.append, self.progress)
        self.wake = Waiting()
        self.lock = StoreLock(folder.lock)
        self.tail: Tail | None = None
        self.watch = Watch(disk, folder.path, min_free=min_free, lock=self.lock)
        self.keeper = StoreKeeper(
            folder=folder,
            disk=disk,
            watch=self.watch,
            recover=lambda: recover(folder, disk),
            wake=self.wake,
            progress=self.progress,
            shown=self.shown,
            patience=patience,
        )

    def take(self, found: Recovered) -> None:
        self.tail = tail_of(found, self.disk)

    def wait_out(self, trouble: StoreError, tail: Tail | None = None) -> Tail:
        self.keeper.wait_out(trouble, tail, self.take)
        assert self.tail is not None
        return self.tail

    def close(self) -> None:
        self.lock.release()
        os.close(self.wake.descriptor)
        if self.tail is not None:
            self.tail.close()


def script_from(name: str, position: int) -> bytes:
    """What the source of LOGS sends from there on."""
    events: list[bytes | tuple[bytes, bool]] = []
    if name:
        log = LOGS[name]
        events += [rotate_to(name, position), for_position_start(log.event(0))]
        events += [(log.event(i), made.end in log.ends) for i, made in enumerate(log.events) if made.start >= position]
    for later in LOGS:
        if later > name:
            events += whole_file(LOGS[later], later, flag_ends=True)
    return dump(events, semi_sync=True)


def receive(scene: Scene, tail: Tail, disk: Recording) -> Running:
    """Until the script ends, or the store fails."""
    running = Running(tail, disk, semi_sync=True)
    running.stream._publish = scene.shown
    running.progress = scene.progress
    running.stream._progress = scene.progress
    tail.rewind()
    running.run(script_from(tail.name, tail.publication.position if tail.name else 0))
    return running


def assert_acknowledged_only_what_was_synced(steps: list[str]) -> int:
    synced: dict[str, int] = {}
    acks = 0
    for step in steps:
        what, _, place = step.partition(" ")
        name, _, size = place.removeprefix(".").replace(".new", "").partition(":")
        if what == "synced":
            synced[name] = max(synced.get(name, 0), int(size))
        elif what == "ack":
            acks += 1
            assert int(size) <= synced.get(name, 0), f"{step}: {synced}"
    return acks


def all_operations(tmp_path: Path) -> int:
    disk = Failing()
    folder = make_store(tmp_path)
    scene = Scene(folder, disk)
    with pytest.raises(Unreachable):
        receive(scene, empty_tail(folder, disk), disk)
    scene.close()
    return disk.operations


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "until mended"])
def test_every_operation_fails_once(tmp_path: Path, lasting: bool, error: int) -> None:
    """With ``lasting`` what is done about the failure fails, too: the file is not even cut."""
    failures = set()
    for number in range(4, all_operations(tmp_path / "all") + 1):  # before that there is no folder for it
        disk = Failing(number, error, lasting=lasting)
        folder = make_store(tmp_path / f"{number}")
        scene = Scene(folder, disk)
        scene.wake.meanwhile = disk.mend
        tail = empty_tail(folder, disk)
        before: list[Publication] = []
        try:
            receive(scene, tail, disk)
        except StoreUnreadable as trouble:
            acknowledged = [step for step in disk.steps if step.startswith("ack")]
            before = list(scene.published)
            tail.close()
            if not before:
                with pytest.raises(StoreUnreadable):  # nothing was ever received: somebody is watching
                    scene.keeper.wait_out(trouble, tail, scene.take)
                assert scene.wake.slept == []
                scene.close()
                continue
            again = scene.wait_out(trouble, tail)
            assert [step for step in disk.steps if step.startswith("ack")] == acknowledged
            assert again.publication.executed >= before[-1].executed
            with pytest.raises(Unreachable):
                receive(scene, again, disk)
        except Unreachable:
            assert disk.failed.endswith(".marks"), "only marks can be done without"
        failures.add(disk.failed)
        assert assert_acknowledged_only_what_was_synced(disk.steps) >= 3
        for name, log in LOGS.items():
            assert (newest(folder).path / name).read_bytes() == log.data, f"{number}: {disk.failed}"
        assert scene.published[-1].executed == LOGS[THIRD].set | LOGS[FIRST].set | LOGS[SECOND].set
        places = [(publication.file, publication.position) for publication in scene.published]
        assert places == sorted(places)
        scene.close()
    seen = {what.split()[0] for what in failures}
    assert seen >= {"create", "write", "sync", "rename"}


# --- what is given up, and what is read again ---


def failed_at(tmp_path: Path, *, transactions: int = 1) -> tuple[Scene, Tail, Failing]:
    """A store whose tail has ``transactions`` that are published, and one that was written and not synced."""
    disk = Failing()
    folder = make_store(tmp_path)
    scene = Scene(folder, disk)
    tail = empty_tail(folder, disk)
    log = LOGS[FIRST]
    running = Running(tail, disk, semi_sync=True)
    running.stream._publish = scene.shown
    end = log.ends[transactions - 1]
    events = whole_file(log, flag_ends=True)
    count = 1 + sum(made.end <= end for made in log.events)
    with pytest.raises(Unreachable):
        running.run(dump(events[:count], semi_sync=True))
    assert tail.publication.position == end
    for index, made in enumerate(log.events):
        if end < made.end <= log.ends[transactions]:
            assert tail.walk is not None
            event = log.event(index)
            tail.walk.whole(event, 0, len(event))
            tail.append(memoryview(event))
    return scene, tail, disk


def test_a_sync_that_failed_is_not_tried_again(tmp_path: Path) -> None:
    """What it was for looks whole in the file, and the next sync succeeds. It is given up all the same."""
    scene, tail, disk = failed_at(tmp_path)
    whole = (newest(scene.folder).path / FIRST).read_bytes()
    disk.fail_at, disk._lasting = disk.operations + 1, True  # the cut after it fails, too
    with pytest.raises(StoreUnreadable) as caught:
        tail.sync()
    assert (newest(scene.folder).path / FIRST).read_bytes() == whole
    tail.close()
    scene.wake.meanwhile = disk.mend
    again = scene.wait_out(caught.value, tail)
    assert again.publication.position == LOGS[FIRST].ends[0]
    assert (newest(scene.folder).path / FIRST).stat().st_size == LOGS[FIRST].ends[0]
    scene.close()


def test_another_file_in_its_place_is_not_cut(tmp_path: Path) -> None:
    """Somebody put back what he had moved away: it may be the only copy."""
    scene, tail, _ = failed_at(tmp_path, transactions=2)
    tail.close()
    path = newest(scene.folder).path / FIRST
    whole = bytes(LOGS[FIRST].data)
    assert tail.remains[1] < len(whole)
    path.rename(tmp_path / "failed")
    path.write_bytes(whole)
    again = scene.wait_out(unusable("write", path, OSError(errno.EIO, "Input/output error")), tail)
    assert path.read_bytes() == whole
    assert again.publication.position == len(whole)
    scene.close()


def test_what_is_found_counts_and_not_what_was_written(tmp_path: Path) -> None:
    """The disk gave back other bytes than it got."""
    scene, tail, disk = failed_at(tmp_path, transactions=2)
    tail.close()
    path = newest(scene.folder).path / FIRST
    data = bytearray(path.read_bytes())
    data[LOGS[FIRST].ends[1] - 10] ^= 1
    path.write_bytes(data)
    again = scene.wait_out(unusable("sync", path, OSError(errno.EIO, "Input/output error")), tail)
    assert again.publication.position == LOGS[FIRST].ends[0]
    assert "published were mysql-bin.000001" in scene.progress.missing
    count = len(scene.published)
    with pytest.raises(Unreachable):
        receive(scene, again, disk)
    assert path.read_bytes() == LOGS[FIRST].data
    assert scene.progress.missing == ""
    places = [(publication.file, publication.position) for publication in scene.published[count - 1 :]]
    assert places == sorted(set(places)), "nobody was shown less than before"
    scene.close()


def test_it_is_said_once_and_over_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene, tail, disk = failed_at(tmp_path)
    tail.close()
    disk.fail_at, disk._lasting = disk.operations + 1, True
    states = []

    def meanwhile() -> None:
        states.append((scene.progress.state, scene.progress.alarm, scene.progress.last_hint != ""))
        if len(states) == 20:
            disk.mend()

    scene.wake.meanwhile = meanwhile
    since = scene.progress.since
    scene.wait_out(unusable("write", tail.remains[0], OSError(errno.EIO, "Input/output error")), tail)
    assert states == [(State.FAILED, "disk_error", True)] * 20
    assert scene.progress.since >= since
    assert [record.getMessage() for record in caplog.records if "receiving stops" in record.getMessage()] != []
    assert sum("receiving stops" in record.getMessage() for record in caplog.records) == 1
    assert sum("receiving goes on" in record.getMessage() for record in caplog.records) == 1
    scene.close()


def test_a_disk_that_comes_and_goes_is_asked_less_and_less(tmp_path: Path) -> None:
    """Each time the source's commits wait for us again."""
    scene, tail, _ = failed_at(tmp_path)
    trouble = unusable("write", tail.remains[0], OSError(errno.EIO, "Input/output error"))
    for _ in range(8):
        tail.close()
        tail = scene.wait_out(trouble, tail)
    assert scene.wake.slept == [PAUSE, 2, 4, 8, 16, PAUSE_LONGEST, PAUSE_LONGEST, PAUSE_LONGEST]
    scene.keeper._mended -= storekeeper.STEADY
    tail.close()
    scene.wait_out(trouble, tail)
    assert scene.wake.slept[-1] == PAUSE
    scene.close()


# --- room ---


class Small(Failing):
    """Its free space is what the test says."""

    free = 0

    def space(self, path: Path) -> tuple[int, int]:
        return self.free, 1024 * MiB

    def reserve(self, descriptor: int, size: int) -> None:
        if size > self.free:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("min_free", [0, 100 * MiB])
def test_a_full_disk_is_used_again_when_there_is_more_than_was_given_up(tmp_path: Path, min_free: int) -> None:
    """A transaction that does not fit would come, and fail, again and again."""
    scene, tail, _ = failed_at(tmp_path)
    disk = Small()
    scene.keeper._disk = scene.watch._disk = disk
    scene.watch.min_free = min_free
    path = tail.remains[0]
    given_up = 300 * MiB
    os.truncate(path, path.stat().st_size + given_up)
    tail._writer.size += given_up
    tail.close()
    enough = min_free + given_up + 64 * MiB  # a sixteenth of the disk
    frees = iter([0, min_free + MiB, min_free + given_up, enough - MiB, enough + MiB])
    seen = []

    def meanwhile() -> None:
        seen.append(scene.progress.last_error)
        disk.free = next(frees)

    scene.wake.meanwhile = meanwhile
    scene.wait_out(unusable("write", path, OSError(errno.ENOSPC, "No space left on device")), tail)
    assert len(seen) == 5
    assert all("are needed to go on" in error for error in seen[1:])
    assert ("store.min_free is 100 MiB" in seen[1]) == bool(min_free)
    scene.close()


def test_a_quota_is_found_out_by_asking_for_room(tmp_path: Path) -> None:
    scene, tail, _ = failed_at(tmp_path)

    class Quota(Small):
        free = 900 * MiB
        quota = 0

        def reserve(self, descriptor: int, size: int) -> None:
            if size > self.quota:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    disk = Quota()
    scene.keeper._disk = scene.watch._disk = disk
    tail.close()

    def meanwhile() -> None:
        if len(scene.wake.slept) == 4:
            disk.quota = 800 * MiB

    scene.wake.meanwhile = meanwhile
    scene.wait_out(unusable("write", tail.remains[0], OSError(errno.EDQUOT, "Disk quota exceeded")), tail)
    assert len(scene.wake.slept) == 4
    assert not (scene.folder.path / ".probe").exists()
    scene.close()


# --- what is waited for ---


def trouble(alarm: str) -> StoreUnreadable:
    return StoreUnreadable("something", alarm=alarm)


@pytest.mark.parametrize("alarm", ["disk_full", "disk_error", "store_missing", "store_unusable", "too_many_files"])
@pytest.mark.parametrize("patience", [None, 60.0])
def test_a_store_that_could_be_used_is_waited_for(tmp_path: Path, alarm: str, patience: float | None) -> None:
    scene = Scene(make_store(tmp_path, {FIRST: LOGS[FIRST].data}), Quick(), patience=patience)
    scene.shown.newest = recover(scene.folder, Quick()).publication
    scene.wait_out(trouble(alarm))
    scene.close()


@pytest.mark.parametrize("alarm", ["disk_full", "disk_error", "store_missing", "store_unusable", "too_many_files"])
@pytest.mark.parametrize("patience", [None, 60.0])
@pytest.mark.parametrize("stored", [False, True])
def test_one_that_could_not_be_used_yet(tmp_path: Path, alarm: str, patience: float | None, stored: bool) -> None:
    """Somebody has just started it and is watching; unless there is something to serve and the path is no mistake."""
    files = {FIRST: LOGS[FIRST].data} if stored else {}
    scene = Scene(make_store(tmp_path, files), Quick(), patience=patience)
    if stored and patience and alarm in STARTING:
        scene.wait_out(trouble(alarm))
        assert [publication.file for publication in scene.published] == [FIRST]
    else:
        with pytest.raises(StoreUnreadable, match="something"):
            scene.wait_out(trouble(alarm))
        assert scene.wake.slept == []
    scene.close()


@pytest.mark.parametrize("patience", [None, 60.0])
def test_damage_is_waited_for_when_somebody_supervises(tmp_path: Path, patience: float | None) -> None:
    """And nothing is mended by throwing bytes away."""
    folder = make_store(tmp_path, {name: log.data for name, log in LOGS.items()})
    name = list(LOGS)[-1]
    damaged = newest(folder).path / name
    scene = Scene(folder, Quick(), patience=patience)
    scene.shown.newest = recover(folder, Quick()).publication
    damaged.write_bytes(b"\0" * 1000)
    before = {path.name: path.read_bytes() for path in newest(folder).path.iterdir()}

    def meanwhile() -> None:
        if len(scene.wake.slept) == 3:
            assert scene.progress.alarm == "store_damaged"
            damaged.write_bytes(LOGS[name].data)

    scene.wake.meanwhile = meanwhile
    if patience is None:
        with pytest.raises(StoreDamaged, match=f"{name}: .*not begin like a binary log"):
            scene.wait_out(trouble("disk_error"))
        assert {path.name: path.read_bytes() for path in newest(folder).path.iterdir()} == before
    else:
        scene.wait_out(trouble("disk_error"))
        assert scene.wake.slept == [PAUSE, 60.0, 60.0]
    scene.close()


def test_a_store_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    """An empty mount point, say: binlogd would fill the disk below it, and be behind nobody."""
    folder = make_store(tmp_path / "data", {FIRST: LOGS[FIRST].data})
    scene = Scene(folder, Quick())
    scene.shown.newest = recover(folder, Quick()).publication
    away = tmp_path / "away"
    folder.path.rename(away)

    def meanwhile() -> None:
        match len(scene.wake.slept):
            case 2:
                assert scene.progress.alarm == "store_missing"
                folder.path.mkdir()
                (folder.path / "binlogs").mkdir()
            case 4:
                assert scene.progress.alarm == "store_missing"
                assert "no file of its history is left" in scene.progress.last_error
                assert os.listdir(folder.binlogs) == []
                (folder.path / "receiver.lock").unlink()
                (folder.path / "binlogs").rmdir()
                folder.path.rmdir()
                away.rename(folder.path)

    scene.wake.meanwhile = meanwhile
    scene.wait_out(trouble("store_missing"))
    assert len(scene.wake.slept) == 4
    scene.close()


def test_a_store_that_another_receiver_took_meanwhile(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {FIRST: LOGS[FIRST].data})
    scene = Scene(folder, Quick(), patience=60.0)
    scene.shown.newest = recover(folder, Quick()).publication
    folder.lock.unlink()
    with StoreLock(folder.lock), pytest.raises(StoreInUse):
        scene.wait_out(trouble("disk_error"))
    scene.close()


def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    scene = Scene(make_store(tmp_path, {FIRST: LOGS[FIRST].data}), Failing(1, lasting=True))
    scene.shown.newest = recover(scene.folder, Quick()).publication
    with pytest.raises(Stopped):
        scene.wait_out(trouble(DISK_FULL))
    scene.close()


def test_publications_only_move_forward() -> None:
    progress = Progress()
    told: list[Publication] = []
    shown = Shown(told.append, progress)

    def at(file: str, position: int, timeline: int = 1) -> Publication:
        return Publication(timeline, file, position, NOTHING.executed, NOTHING.purged, "")

    shown.found(NOTHING)
    assert told == [NOTHING], "senders are to know that there is nothing"
    shown(at(SECOND, 100))
    shown.found(at(SECOND, 100))
    assert told == [NOTHING, at(SECOND, 100)]
    shown.found(at(SECOND, 120))
    assert told[-1] == at(SECOND, 120)
    shown.found(at(FIRST, 500))
    assert progress.missing
    shown(at(FIRST, 600))
    shown(at(SECOND, 110))
    assert told[-1] == at(SECOND, 120)
    assert progress.missing
    shown(at(SECOND, 130))
    assert told[-1] == at(SECOND, 130)
    assert progress.missing == ""
    shown.found(at(FIRST, 500))
    assert progress.missing
    shown.found(at(SECOND, 130))
    assert progress.missing == "", "what was put back is there"
    shown(at(FIRST, 4, timeline=2))
    assert told[-1] == at(FIRST, 4, timeline=2)


def test_trouble_behind_the_first_file_of_a_new_timeline_is_waited_out(tmp_path: Path) -> None:
    """What was shown last is of the timeline before, and what is found is of the one that has just begun."""
    first = Log().begin_file().transaction(1)
    folder = make_store(tmp_path, {FIRST: first.data})
    scene = Scene(folder, Quick())
    try:
        scene.shown.newest = recover(folder, Quick()).publication
        timeline = folder.new_timeline(Quick(), UUID_B)
        (timeline.path / FIRST).write_bytes(Log().begin_file(first.set).data)

        tail = scene.wait_out(StoreUnreadable("no room for its .index", alarm=DISK_FULL))

        assert tail.timeline == timeline
        assert scene.shown.newest.timeline == 2
        assert scene.progress.missing == ""
    finally:
        scene.close()
