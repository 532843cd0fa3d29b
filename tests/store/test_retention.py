"""Which files go, and that nothing of what is known goes with them, whenever it is cut short."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import StoreDamaged, StoreUnreadable
from binlogd.store import removal
from binlogd.store.disk import Disk
from binlogd.store.index import write_file_list
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import Publication
from binlogd.store.purged import save as save_purged
from binlogd.store.reader import publication_of, read_store
from binlogd.store.recovery import recover
from binlogd.store.removal import collect, commit, look_at, newly_purged
from binlogd.store.removed import ALL, FILES, First, Removed, encode, files_left, load, save, unsound
from binlogd.store.retention import File, Going, Limits, Verdict, decide, should_go
from tests.binlog.making import SID_B, UUID_A, UUID_B, Log
from tests.store.powerloss import FailingPower, Fate, Killed, put
from tests.store.support import Quick, chain, data_of, make_store, tail_of

NAMES = [f"mysql-bin.{number:06}" for number in range(1, 7)]
STORE = [File(1, NAMES[0], 100), File(1, NAMES[1], 100), File(2, NAMES[0], 100), File(2, NAMES[1], 50)]
TIMES = {file: 100.0 * at for at, file in enumerate(STORE, 1)}
WRITTEN = {file: time + 10 for file, time in TIMES.items()}


def going(limits: Limits, *, readers: tuple[First, ...] = (), free: int = 0, now: float = 1000) -> Verdict:
    reasons = should_go(STORE, limits, now=now, free=free, last_time=TIMES.__getitem__, written=WRITTEN.__getitem__)
    return decide(STORE, reasons, readers)


def count(limits: Limits, *, readers: tuple[First, ...] = (), free: int = 0) -> tuple[int, int | None]:
    """How many go, and how many readers the next one has that should; None when no more should."""
    verdict = going(limits, readers=readers, free=free)
    assert [each.file for each in verdict.going] == STORE[: len(verdict.going)]
    assert all(each.reason for each in verdict.going)
    if verdict.blocked is not None:
        assert verdict.blocked.file == STORE[len(verdict.going)]
    return len(verdict.going), None if verdict.blocked is None else verdict.blocked.readers


def test_what_goes() -> None:
    assert count(Limits()) == (0, None)
    assert count(Limits(keep=890)) == (0, None)
    assert count(Limits(keep=889)) == (1, None)
    assert count(Limits(keep=750)) == (2, None)
    assert count(Limits(max_size=350)) == (0, None)
    assert count(Limits(max_size=349)) == (1, None)
    assert count(Limits(max_size=100)) == (3, None)
    assert count(Limits(min_free=250), free=51) == (2, None)
    assert count(Limits(min_free=250), free=250) == (0, None)
    assert count(Limits(min_free=250, ahead=50), free=299) == (1, None)
    assert count(Limits(to=(2, NAMES[0]))) == (2, None)
    assert count(Limits(to=(1, NAMES[0]))) == (0, None)
    assert count(Limits(before=201)) == (2, None)
    assert count(Limits(keep=899, max_size=200)) == (2, None)


def test_the_newest_file_stays() -> None:
    for limits in (Limits(keep=1), Limits(max_size=1), Limits(min_free=10**9), Limits(before=10**9)):
        assert count(limits) == (3, 0)
    nothing = should_go([], Limits(keep=1), now=9, free=0, last_time=TIMES.__getitem__, written=TIMES.__getitem__)
    assert decide([], nothing, ()) == Verdict((), None)


def test_what_is_being_read_stays_and_what_is_behind_it() -> None:
    assert count(Limits(max_size=1), readers=((2, NAMES[0]), (2, NAMES[1]), (2, NAMES[0]))) == (2, 2)
    assert count(Limits(max_size=1), readers=((1, NAMES[1]),)) == (1, 1)
    assert count(Limits(to=(1, NAMES[1])), readers=((1, NAMES[1]),)) == (1, None)
    assert count(Limits(max_size=1), readers=(ALL,)) == (0, 1), "it looks for where to begin"
    assert count(Limits(max_size=1), readers=((1, "gone.000001"),)) == (0, 1), "it is on the way here"


# --- the note ---


def test_the_note_and_its_copy(tmp_path: Path) -> None:
    assert load(tmp_path) == Removed()
    assert unsound(tmp_path) == []
    one = Removed((1, NAMES[3]), GtidSet.parse(f"{UUID_A}:1-5"))
    save(Quick(), tmp_path, one)
    for name in FILES:
        content = (tmp_path / name).read_bytes()
        for at in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[at] ^= 1
            (tmp_path / name).write_bytes(flipped)
            assert load(tmp_path) == one
            assert unsound(tmp_path) == [tmp_path / name]
        (tmp_path / name).write_bytes(content)
    newer = Removed((1, NAMES[4]), GtidSet.parse(f"{UUID_A}:1-7"))
    for name in FILES:
        save(Quick(), tmp_path, one)
        (tmp_path / name).write_bytes(encode(newer))
        assert load(tmp_path) == newer
        assert unsound(tmp_path) == [tmp_path / other for other in FILES if other != name], "it is older"
    for name in FILES:
        (tmp_path / name).write_bytes(b"{}")
    assert unsound(tmp_path) == [tmp_path / name for name in FILES]
    with pytest.raises(StoreDamaged, match="which GTIDs were removed is not known"):
        load(tmp_path)


# --- removing ---


def two_timelines() -> list[dict[str, bytearray]]:
    """The second begins with what the first ends with; the first had 3 GTIDs purged at its source."""
    first = chain(3)
    held = GtidSet()
    for log in first.values():
        held |= log.set
    last = list(first.values())[-1].set
    one = Log().begin_file(held - last)
    for sid, tag, begin, end in last.runs():
        for gno in range(begin, end + 1):
            one.transaction(gno, sid, tag)
    one.transaction(1, SID_B)
    one.rotate(NAMES[1])
    two = Log().begin_file(held | one.set)
    two.transaction(2, SID_B)
    return [data_of(first), {NAMES[0]: one.data, NAMES[1]: two.data}]


def remove(folder: DataFolder, disk: Disk, number: int) -> tuple[Removed, GtidSet]:
    """The oldest files, as the receiver does it, but for the unlinking."""
    before = publication_of(read_store(folder))
    listing = files_left(folder, load(folder.binlogs).first)
    files = [File(timeline.number, name, 0) for timeline, name in listing]
    leaving = look_at(folder, [Going(file, "a test") for file in files[:number]])
    removed = commit(disk, folder, leaving, files[number])
    return removed, newly_purged(folder, before, removed)


def recovered(folder: DataFolder) -> Publication:
    found = recover(folder, Quick())
    tail_of(found).close()
    return found.publication


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_executed_is_what_it_was_and_purged_has_grown(tmp_path: Path, number: int) -> None:
    folder = make_store(tmp_path, *two_timelines())
    save_purged(Quick(), folder.timelines()[0].path, GtidSet.parse(f"{UUID_B}:101-103"))
    before = recovered(folder)
    assert before.purged == GtidSet.parse(f"{UUID_B}:101-103")
    for _ in range(number):
        removed, gone = remove(folder, Quick(), 1)
        expected = before.purged | gone
        assert collect(Quick(), folder, removed)
        left = files_left(folder)
        assert publication_of(read_store(folder)).purged == expected
        after = recovered(folder)
        assert (after.executed, after.purged) == (before.executed, expected)
        assert (after.timeline, after.file, after.position) == (before.timeline, before.file, before.position)
        assert after.first == removed.first == (left[0][0].number, left[0][1])
        before = after
    held = GtidSet()
    for file in read_store(folder):
        held |= file.summary.added
    assert before.purged == before.executed - held
    for timeline in folder.timelines():
        names = timeline.binlogs()
        found = {path.name for path in timeline.path.iterdir()}
        assert not {name for name in found if name.endswith(".idx")} - {f"{name}.idx" for name in names}
        listed = timeline.path / "mysql-bin.index"
        assert listed.exists() == bool(names)
        if names:
            assert listed.read_text() == "".join(f"./{name}\n" for name in names)
    assert folder.new_timeline(Quick(), "third").number == 3, "a number is never used again"


def test_a_note_for_a_file_that_is_not_there_removes_nothing(tmp_path: Path) -> None:
    folder = make_store(tmp_path, *two_timelines())
    before = files_left(folder)
    save(Quick(), folder.binlogs, Removed((2, NAMES[5]), GtidSet()))
    assert recovered(folder).first == ALL, "a sender would hide every file before that one"
    assert files_left(folder) == before


def test_a_file_that_appears_while_the_list_is_written_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiving thread appends the new name to the list that is about to be replaced."""
    logs = data_of(chain(4))
    late = logs.pop(NAMES[3])
    folder = make_store(tmp_path, logs)
    recovered(folder)
    (timeline,) = folder.timelines()
    listed = timeline.path / "mysql-bin.index"
    real = write_file_list

    def write(disk: Disk, timeline: Timeline, names: list[str]) -> None:
        monkeypatch.setattr(removal, "write_file_list", real)
        with listed.open("a") as old:
            (timeline.path / NAMES[3]).write_bytes(late)
            real(disk, timeline, names)
            old.write(f"./{NAMES[3]}\n")

    monkeypatch.setattr(removal, "write_file_list", write)
    removed, _ = remove(folder, Quick(), 1)
    assert not collect(Quick(), folder, removed), "its name is not in the list yet"
    with listed.open("a") as again:
        again.write(f"./{NAMES[3]}\n")
    assert collect(Quick(), folder, removed)
    assert listed.read_text() == "".join(f"./{name}\n" for name in NAMES[1:4])


def test_a_full_disk_has_room_for_the_note(tmp_path: Path) -> None:
    class Full(Quick):
        room = 0

        def write(self, descriptor: int, data: bytes | memoryview) -> None:
            if not self.room:
                raise OSError(28, "No space left on device")
            super().write(descriptor, data)

        def remove(self, path: Path) -> None:
            super().remove(path)
            self.room += 1

    folder = make_store(tmp_path, data_of(chain(3)))
    before = recovered(folder)
    removed, _ = remove(folder, Full(), 1)
    assert removed.first == (1, NAMES[1])
    assert recovered(folder).executed == before.executed
    with pytest.raises(StoreUnreadable):
        remove(folder, Full(), 0)


def test_recovery_brings_the_copies_to_the_same(tmp_path: Path) -> None:
    """A crash between both, and more is removed before the first is lost."""
    folder = make_store(tmp_path, data_of(chain(4)))
    before = recovered(folder)
    remove(folder, Quick(), 1)
    old = (folder.binlogs / FILES[1]).read_bytes()
    remove(folder, Quick(), 1)
    (folder.binlogs / FILES[1]).write_bytes(old)
    recovered(folder)
    assert unsound(folder.binlogs) == []
    (folder.binlogs / FILES[0]).write_bytes(b"")
    assert recovered(folder).executed == before.executed


def test_a_full_disk_lets_recovery_finish(tmp_path: Path) -> None:
    class Full(Quick):
        def create(self, path: Path) -> int:
            if "index" in path.name and (folder.timelines()[0].path / NAMES[0]).exists():
                raise OSError(28, "No space left on device")
            return super().create(path)

    folder = make_store(tmp_path, data_of(chain(3)))
    recovered(folder)
    remove(folder, Quick(), 1)
    found = recover(folder, Full())
    tail_of(found).close()
    assert folder.timelines()[0].binlogs() == NAMES[1:3]
    assert (folder.timelines()[0].path / "mysql-bin.index").read_text() == f"./{NAMES[1]}\n./{NAMES[2]}\n"


def test_what_was_set_aside_of_a_file_goes_with_it(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of(chain(3)))
    recovered(folder)
    path = folder.timelines()[0].path
    aside = [path / f"{NAMES[0]}.cut-5", path / f"{NAMES[0]}.damaged-20260101T000000.000000Z"]
    other = path / f"{NAMES[1]}.damaged-20260101T000000.000000Z"
    for each in (*aside, other):
        each.write_bytes(b"x")
    removed, _ = remove(folder, Quick(), 1)
    assert collect(Quick(), folder, removed)
    assert not any(each.exists() for each in aside)
    assert other.exists()


def test_what_a_power_loss_left_of_removed_files_goes(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of(chain(3)))
    recovered(folder)
    path = folder.timelines()[0].path
    removed, _ = remove(folder, Quick(), 1)
    assert collect(Quick(), folder, removed)
    left = [path / f"{NAMES[0]}.idx", path / f"{NAMES[0]}.cut-5", path / f"{NAMES[0]}.damaged-1"]
    others = [path / f"{NAMES[1]}.damaged-1", path / "note.idx"]
    for each in (*left, *others):
        each.write_bytes(b"x")
    recovered(folder)
    assert not any(each.exists() for each in left)
    assert all(each.exists() for each in others)


# --- power ---


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_power_loss_leaves_of_it(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step images are taken; each is recovered to what was before or what comes after, and, once somebody was
    told that files are gone, to nothing else; and is recovered so again."""
    chance = Random(seed)
    root = tmp_path / "root"
    root.mkdir()
    folder = make_store(root / "data", *two_timelines())
    before = recovered(folder)
    disk = FailingPower(root, chance)
    disk.use(monkeypatch)
    images = []
    told = [before]

    def look() -> None:
        for names, data in pairwise(chance.choices(list(Fate), k=3)):
            images.append((disk.image(names, data), len(told)))

    disk.on_step = look
    number = chance.randrange(1, 4)
    for count in (number, 1):
        removed, gone = remove(folder, disk, count)
        last = told[-1]
        told.append(
            Publication(
                last.timeline, last.file, last.position, last.executed, last.purged | gone, "", first=removed.first
            )
        )
        disk.kill_in = chance.choice((0, 0, 1, 2, 3, 5))
        try:
            collect(disk, folder, removed)
        except Killed:
            disk.die()
            recover(folder, disk)
    monkeypatch.undo()
    for at, (image, known) in enumerate(chance.sample(images, min(40, len(images)))):
        path = tmp_path / f"image{at}"
        put(image, path)
        found = DataFolder(path / "data")
        for _ in range(2):
            after = recovered(found)
            allowed = told[known - 1 : known + 1]
            assert (after.executed, after.purged, after.first) in [
                (each.executed, each.purged, each.first) for each in allowed
            ]
            assert (after.timeline, after.file, after.position) == (before.timeline, before.file, before.position)
            assert [(t.number, name) for t, name in files_left(found)][:1] == [after.first] or after.first == ALL
            for timeline in found.timelines():
                there = {entry.name for entry in timeline.path.iterdir()}
                assert {name.removesuffix(".idx") for name in there if name.endswith(".idx")} <= there
