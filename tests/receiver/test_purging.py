"""Retention at work: what it removes, what it tells others, and that it comes to its end when something fails."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.receiver import purging as module
from binlogd.receiver.purging import NO_READERS, Purging, Readers, Room, Store, asked, said_by
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.recovery import recover
from binlogd.store.removed import ALL, FILES, First, load
from binlogd.store.retention import File, Limits
from tests.binlog.making import UUID_A
from tests.store.support import FIRST, SECOND, Quick, chain, data_of, make_store, tail_of
from tests.store.test_retention import NAMES, two_timelines

BIG = 10**12
GRACE = module.GRACE


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All replicas have had time to attach, but where a test says something else."""
    monkeypatch.setattr(module, "GRACE", 0.0)


class Volume(Quick):
    """A disk with so many bytes free, whatever is removed: as long as a snapshot holds it."""

    def __init__(self, free: int = BIG, total: int = BIG) -> None:
        self.free = free
        self.total = total

    def space(self, path: Path) -> tuple[int, int]:
        return self.free, self.total


class At:
    """Retention over a store that was recovered, and what it did."""

    def __init__(self, folder: DataFolder, limits: Limits, disk: Disk | None = None, *, needed: int = 0) -> None:
        found = recover(folder, Quick())
        tail_of(found).close()
        self.folder = folder
        self.publication: Publication | None = found.publication
        self.readers: Readers | None = NO_READERS
        self.told: list[tuple[First, GtidSet]] = []
        self.purging = Purging(
            folder=folder,
            disk=disk or Volume(),
            limits=limits,
            readers=lambda: self.readers,
            current=lambda: self.publication,
            amend=lambda first, gone: self.told.append((first, gone)),
            needed=lambda: needed,
        )

    def look(self, times: int = 1) -> list[str]:
        """So many looks, with ages and sizes due in each; the names that are there then."""
        for _ in range(times):
            self.purging.reload(self.purging._limits)
            self.purging.look()
        return names(self.folder)


def names(folder: DataFolder) -> list[str]:
    return [name for timeline in folder.timelines() for name in timeline.binlogs()]


def one(path: Path, count: int = 5) -> DataFolder:
    return make_store(path, data_of(chain(count)))


def size_of(folder: DataFolder, name: str) -> int:
    return (folder.timelines()[0].path / name).stat().st_size


# --- free space ---


def test_room_that_is_shown_late_is_not_made_twice(tmp_path: Path) -> None:
    folder = one(tmp_path)
    at = At(folder, Limits(min_free=1000), Volume(1000, 80))
    assert at.look(8) == NAMES[1:5]


def test_room_counts_what_is_not_shown_yet_and_no_longer() -> None:
    disk = Volume(100)
    room = Room(disk, Path("/"))
    assert room.look()[0] == 100
    room.unlinked(50)
    room.unlinked(30)
    assert room.look()[0] == 180
    disk.free = 110
    assert room.look()[0] == 180
    disk.free = 105
    assert room.look()[0] == 175, "something was written"
    disk.free = 165
    assert room.look()[0] == 175
    disk.free = 400
    assert room.look()[0] == 400


def test_room_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "LATE", 0.0)
    room = Room(Volume(100), Path("/"))
    room.look()
    room.unlinked(50)
    assert room.look()[0] == 100
    assert "does not show their room" in caplog.text


def test_min_free_that_no_removal_reaches_removes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    at = At(one(tmp_path), Limits(min_free=20_000), Volume(500, 10_000))
    assert at.look(3) == NAMES[:5]
    assert "would not leave store.min_free" in caplog.text


def test_the_margin_is_no_larger_than_min_free(tmp_path: Path) -> None:
    at = At(one(tmp_path), Limits(min_free=100), Volume(250, 100_000))
    assert at.look(3) == NAMES[:5]
    at = At(DataFolder(tmp_path), Limits(min_free=100), Volume(190, 100_000))
    assert len(at.look(2)) == 4


def test_room_is_made_for_what_receiving_waits_for(tmp_path: Path) -> None:
    folder = one(tmp_path)
    size = size_of(folder, FIRST)
    at = At(folder, Limits(min_free=100), Volume(300, 800), needed=200 + size)
    assert at.look(3) == NAMES[1:5]


# --- age ---


def test_keep_goes_by_when_a_file_was_written(tmp_path: Path) -> None:
    """The events are of 2023."""
    folder = one(tmp_path)
    at = At(folder, Limits(keep=3600))
    assert at.look() == NAMES[:5]
    path = folder.timelines()[0].path
    os.utime(path / FIRST, (1, time.time() - 4000))
    at = At(folder, Limits(keep=3600))
    assert at.look(2) == NAMES[1:5]


def test_before_goes_by_the_last_event_and_never_later_than_it_was_written(tmp_path: Path) -> None:
    folder = one(tmp_path)
    store = Store(folder)
    files = store.files()
    assert store.last_time(files[0]) < 1_700_000_100
    os.utime(folder.timelines()[0].path / SECOND, (5, 5))
    assert store.last_time(files[1]) == 5


# --- what fails ---


class Failing(Volume):
    """A disk that refuses to write files whose names are in ``full``, each so many times."""

    def __init__(self, **full: int) -> None:
        super().__init__()
        self.full = full

    def create(self, path: Path) -> int:
        for name, times in self.full.items():
            if times and name in path.name:
                self.full[name] -= 1
                raise OSError(28, "No space left on device")
        return super().create(path)


def test_what_fails_behind_the_note_is_made_up_for(tmp_path: Path) -> None:
    folder = one(tmp_path, 3)
    at = At(folder, Limits(max_size=1), Failing(copy=2))
    at.look()
    assert at.told == [], "it failed"
    at.purging.reload(Limits())
    at.look(2)
    first = load(folder.binlogs).first
    assert first == (1, NAMES[2])
    assert at.told == [(first, GtidSet.parse(f"{UUID_A}:1-4"))]
    assert names(folder) == [NAMES[2]]


def test_a_note_before_anything_is_published_is_told_later(tmp_path: Path) -> None:
    at = At(one(tmp_path, 3), Limits())
    published, at.publication = at.publication, None
    assert at.purging.order({"to": SECOND})["removed"]
    assert at.told == []
    at.publication = published
    at.look()
    assert at.told == [((1, SECOND), GtidSet.parse(f"{UUID_A}:1-2"))]


def test_a_damaged_file_takes_what_the_next_one_names_along(tmp_path: Path) -> None:
    folder = one(tmp_path, 3)
    path = folder.timelines()[0].path / FIRST
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    data[300] ^= 1
    path.write_bytes(data)
    at = At(folder, Limits())
    at.purging.order({"to": SECOND})
    assert at.told == [((1, SECOND), GtidSet.parse(f"{UUID_A}:1-2"))]


def test_a_list_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    folder = one(tmp_path)
    at = At(folder, Limits(max_size=1), Failing(index=1))
    assert at.look(2) == [NAMES[4]]
    assert (folder.timelines()[0].path / "mysql-bin.index").read_text() == f"./{NAMES[4]}\n"


@pytest.mark.parametrize("content", [None, b"", b"./something\n"])
def test_a_list_without_its_end_is_not_waited_for_for_ever(
    tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = one(tmp_path)
    at = At(folder, Limits(max_size=1))
    path = folder.timelines()[0].path / "mysql-bin.index"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert at.look(3) == NAMES[:5], "the receiving thread may be about to write it"
    assert at.told
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    assert at.look() == [NAMES[4]]
    assert path.read_text() == f"./{NAMES[4]}\n"


def test_of_an_older_timeline_the_list_is_nobodys(tmp_path: Path) -> None:
    folder = make_store(tmp_path, *two_timelines())
    at = At(folder, Limits())
    path = folder.timelines()[0].path
    (path / "mysql-bin.index").unlink()
    at.purging.order({"to": f"0001:{SECOND}"})
    at.look()
    assert folder.timelines()[0].binlogs() == NAMES[1:3]


# --- readers ---


def test_what_was_removed_and_is_being_read_is_told(tmp_path: Path) -> None:
    folder = one(tmp_path)
    at = At(folder, Limits())
    at.purging.order({"to": NAMES[2]})
    at.readers = Readers((1, NAMES[2]), ((1, SECOND),))  # it began a moment before
    assert at.look() == NAMES[:5]
    blocked = at.purging.snapshot()["blocked_by"]
    assert (blocked["file"], blocked["readers"], blocked["files"]) == (f"0001:{FIRST}", 1, 2)
    at.readers = Readers((1, NAMES[2]), ())
    assert at.look() == NAMES[2:5]
    assert at.purging.snapshot()["blocked_by"] is None


def test_a_sender_that_shows_nothing_yet_is_waited_for(tmp_path: Path) -> None:
    at = At(one(tmp_path), Limits(max_size=1))
    at.readers = said_by({"oldest": None, "reading": [], "serving_s": 0})
    assert at.look(2) == NAMES[:5]
    assert at.told
    at.readers = said_by({"oldest": [1, NAMES[4]], "reading": [], "serving_s": 1})
    assert at.look() == [NAMES[4]]
    assert said_by({"reading": [], "serving_s": 1}) is None, "of a version that does not say"
    assert said_by({"oldest": None, "reading": []}) is None


def test_what_blocked_is_forgotten_when_nothing_is_wanted_any_more(tmp_path: Path) -> None:
    disk = Volume(150, 10_000)
    at = At(one(tmp_path), Limits(min_free=150), disk)
    at.readers = Readers((1, FIRST), ((1, FIRST),))
    at.look()
    assert at.purging.snapshot()["blocked_by"] is not None
    disk.free = BIG
    at.look()
    assert at.purging.snapshot()["blocked_by"] is None


# --- a sender that has just begun ---


@pytest.mark.parametrize("limits", [Limits(max_size=1), Limits(keep=1)])
def test_replicas_have_time_to_attach_to_a_new_sender(
    tmp_path: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And what one reads that came back in that time stays."""
    monkeypatch.setattr(module, "GRACE", GRACE)
    folder = one(tmp_path)
    for name in NAMES[:5]:
        os.utime(folder.timelines()[0].path / name, (1, 1))
    at = At(folder, limits)
    for serving in (0.0, GRACE - 5):
        at.readers = Readers((1, FIRST), (), serving)
        assert at.look(2) == NAMES[:5]
    assert load(folder.binlogs).first == ALL
    assert at.purging.snapshot()["blocked_by"] is None, "no alarm: it is over soon"
    assert caplog.text.count("replicas may be about to attach again") == 1
    at.readers = Readers((1, FIRST), ((1, SECOND),), GRACE)
    at.look()
    assert load(folder.binlogs).first == (1, SECOND)


def test_without_a_sender_it_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", GRACE)
    at = At(one(tmp_path), Limits(max_size=1))
    assert at.look(2) == NAMES[:5]
    assert at.purging._alone is not None
    at.purging._alone -= GRACE  # it was found gone so long ago
    at.readers = Readers((1, FIRST), (), GRACE / 2)
    assert at.look(2) == NAMES[:5], "it is there again"
    at.readers = NO_READERS
    assert at.look(2) == NAMES[:5], "and gone again, as of now"
    assert at.purging._alone is not None
    at.purging._alone -= GRACE
    assert at.look(2) == NAMES[4:5]


def test_when_nothing_should_go_nobody_knows_how_long_there_was_no_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", GRACE)
    at = At(one(tmp_path), Limits(max_size=1))
    at.look()
    assert at.purging._alone is not None
    at.purging._alone -= GRACE
    at.purging.reload(Limits())
    at.look()
    at.purging.reload(Limits(max_size=1))
    assert at.look(2) == NAMES[:5]


def test_what_does_not_wait_for_replicas_to_attach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order; min_free, for as much as it asks for; and all, once receiving has stopped for want of room."""
    monkeypatch.setattr(module, "GRACE", GRACE)
    folder = one(tmp_path / "order")
    at = At(folder, Limits())
    at.purging.order({"to": SECOND})
    assert load(folder.binlogs).first == (1, SECOND)
    folder = one(tmp_path / "min_free")
    size = size_of(folder, FIRST)
    at = At(folder, Limits(max_size=1, min_free=200), Volume(200 - size, 0))
    at.look()
    assert load(folder.binlogs).first == (1, SECOND), "and not max_size"
    folder = one(tmp_path / "full")
    at = At(folder, Limits(max_size=1), needed=1)
    at.look()
    assert load(folder.binlogs).first == (1, NAMES[4])


# --- beside the receiving thread ---


class Slow(Volume):
    """A disk that does something else before a file is removed."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def remove(self, path: Path) -> None:
        if path.name == FIRST:
            self.meanwhile()
        super().remove(path)


def test_recovery_and_removal_take_turns(tmp_path: Path) -> None:
    folder = one(tmp_path)
    failed: list[BaseException] = []

    def recovery() -> None:
        try:
            with at.purging.aside():
                found = recover(folder, Quick())
            tail_of(found).close()
        except BaseException as bad:
            failed.append(bad)

    thread = threading.Thread(target=recovery)

    def meanwhile() -> None:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive(), "it waits"

    at = At(folder, Limits(max_size=1), Slow(meanwhile))
    assert at.look() == NAMES[:5]
    assert at.look() == [NAMES[4]]
    thread.join(20)
    assert failed == []


def test_the_published_file_stays_while_the_next_one_is_not_published(tmp_path: Path) -> None:
    at = At(one(tmp_path), Limits(max_size=1))
    end = at.publication
    assert end is not None
    at.publication = replace(end, file=NAMES[3], position=size_of(at.folder, NAMES[3]))
    assert at.look(3) == NAMES[3:5]
    at.publication = end
    assert at.look(2) == NAMES[4:5]


def test_nothing_is_removed_behind_the_end(tmp_path: Path) -> None:
    folder = one(tmp_path)
    at = At(folder, Limits())
    at.purging.start()
    at.purging.stop()
    assert "stopped" in at.purging.order({"to": SECOND})["refused"][2]
    assert load(folder.binlogs).first == ALL
    assert not (folder.binlogs / FILES[0]).exists()


def test_a_name_of_many_timelines_is_refused_with_a_choice(tmp_path: Path) -> None:
    files = [File(number, FIRST, 1) for number in range(1, 12)]
    with pytest.raises(Refusal) as caught:
        asked({"to": FIRST}, files)
    choice = ", ".join(f"{number:04}:{FIRST}" for number in range(1, 9))
    assert caught.value.message == f"several timelines have a file {FIRST}: say which of {choice}, …"
    assert asked({"to": f"0011:{FIRST}"}, files).to == (11, FIRST)
