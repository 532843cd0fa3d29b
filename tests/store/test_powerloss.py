"""The model of a disk itself: it leaves everything that it should, and nothing that was made sure of is lost."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import pytest

from binlogd.store.disk import Disk
from tests.store.powerloss import PAGE, SECTOR, FailingPower, Fate, Killed, LateSync

OLD = b"o" * (2 * SECTOR)
NEW = b"n" * (2 * SECTOR)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FailingPower:
    disk = FailingPower(tmp_path, Random(1))
    disk.use(monkeypatch)
    return disk


def images(disk: FailingPower, times: int = 300) -> list[dict[str, bytes | None]]:
    """Many of those that there may be."""
    return [
        {str(path): content for path, content in disk.image(names, data).items()}
        for names, data in product(Fate, Fate)
        for _ in range(times // 25)
    ]


def contents(disk: FailingPower, name: str = "f", times: int = 1000) -> set[bytes | None]:
    return {image.get(name, b"no such file") for image in images(disk, times)}


def begun(disk: FailingPower) -> int:
    """A file that is there and sure, and open."""
    descriptor = disk.begin(disk.root / "f", OLD)
    assert contents(disk) == {OLD}
    return descriptor


def test_what_was_not_synced_may_be_there_in_any_sectors(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.write(descriptor, NEW)
    found = contents(disk)
    assert {OLD, OLD + NEW, OLD + bytes(2 * SECTOR)} <= found
    assert {OLD + NEW[:SECTOR] + bytes(SECTOR), OLD + bytes(SECTOR) + NEW[:SECTOR]} <= found, "torn, in any order"
    assert all(content is not None and content.startswith(OLD) for content in found)
    disk.sync(descriptor)
    assert contents(disk) == {OLD + NEW}
    disk.close(descriptor)


def test_what_was_cut_off_may_come_back(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.truncate(descriptor, SECTOR)
    disk.write(descriptor, NEW[:SECTOR])
    found = contents(disk)
    assert {OLD, OLD[:SECTOR], OLD[:SECTOR] + NEW[:SECTOR]} <= found
    disk.sync(descriptor)
    assert contents(disk) == {OLD[:SECTOR] + NEW[:SECTOR]}
    disk.close(descriptor)


def test_what_is_overwritten_within_a_sector_is_old_or_new(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.overwrite(descriptor, b"12345")
    assert contents(disk) == {OLD, b"12345" + OLD[5:]}
    disk.close(descriptor)


def test_names_and_data_know_nothing_of_each_other(disk: FailingPower) -> None:
    one = disk.create(disk.root / "a")
    disk.write(one, NEW)
    disk.rename(disk.root / "a", disk.root / "f")
    begun_and_gone = disk.create(disk.root / "b")
    disk.remove(disk.root / "b")
    found = images(disk)
    assert {frozenset(image) for image in found} == {frozenset(names) for names in ((), "a", "f", "b", "ab", "bf")}, (
        "each change to a folder may have happened or not"
    )
    assert {b"", NEW, bytes(2 * SECTOR)} <= {image["f"] for image in found if "f" in image}, "a name before its data"
    disk.sync(one)
    assert {image["f"] for image in images(disk) if "f" in image} == {NEW}
    disk.sync_folder(disk.root)
    assert contents(disk) == {NEW}
    assert {frozenset(image) for image in images(disk)} == {frozenset("f")}
    disk.close(one)
    disk.close(begun_and_gone)


def test_a_lost_folder_is_lost_with_all_that_is_in_it(disk: FailingPower) -> None:
    disk.add_folder(disk.root / "d")
    disk.replace(disk.root / "d" / "f", NEW)
    assert {frozenset(image) for image in images(disk)} == {frozenset(), frozenset({"d", "d/f"})}
    disk.sync_folder(disk.root)
    assert {frozenset(image) for image in images(disk)} == {frozenset({"d", "d/f"})}


def test_a_background_sync_makes_sure_of_what_was_there_when_it_began(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.write(descriptor, NEW)
    late = LateSync(disk)
    late.begin(descriptor)
    disk.write(descriptor, OLD)
    assert OLD in contents(disk), "it has done nothing yet"
    late.end()
    found = contents(disk)
    assert OLD + NEW in found
    assert OLD + NEW + OLD in found
    assert all(content is not None and content.startswith(OLD + NEW) for content in found)
    disk.close(descriptor)


def test_a_failed_sync_is_not_made_good_by_another(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.write(descriptor, NEW)
    disk.fails = lambda path: True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.posix_fadvise", lambda *_: None)
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(descriptor)
    disk.fails = lambda path: False
    disk.sync(descriptor)
    halves = NEW[:SECTOR], bytes(SECTOR)
    assert contents(disk) == {OLD + one + two for one, two in product(halves, halves)}, (
        "it says nothing of what the first gave up"
    )
    disk.truncate(descriptor, len(OLD))
    disk.write(descriptor, NEW)
    disk.sync(descriptor)
    assert contents(disk) == {OLD + NEW}, "what is written anew is"
    disk.close(descriptor)


def test_after_a_failed_sync_the_disk_shows_what_it_has(disk: FailingPower) -> None:
    """As the store's own disk sees to."""
    found = set()
    for number in range(30):
        path = disk.root / str(number)
        descriptor = disk.begin(path, OLD)
        disk.write(descriptor, NEW + bytes(PAGE))
        disk.fails = lambda path: True
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(descriptor)
        disk.fails = lambda path: False
        seen = path.read_bytes()
        assert seen.startswith(OLD)
        disk.sync(descriptor)
        assert contents(disk, str(number), 50) == {seen}
        found.add(seen)
        disk.close(descriptor)
    assert len(found) > 5


def test_a_kill_takes_nothing_back(disk: FailingPower) -> None:
    descriptor = begun(disk)
    disk.kill_in = 1
    with pytest.raises(Killed):
        disk.write(descriptor, NEW)
    disk.die()
    assert (disk.root / "f").read_bytes() == OLD + NEW
    assert OLD in contents(disk)
    again = FailingPower(disk.root, Random(1))
    assert contents(again) == {OLD + NEW}, "what is found is sure"


def test_a_sync_is_no_less_for_one_that_a_killed_process_had_begun(disk: FailingPower) -> None:
    descriptor = begun(disk)
    LateSync(disk).begin(descriptor)
    disk.write(descriptor, NEW)
    disk.die()
    descriptor = disk.open_append(disk.root / "f")
    disk.sync(descriptor)
    assert contents(disk) == {OLD + NEW}
    disk.close(descriptor)


def test_the_real_disk_lets_go_of_what_a_failed_sync_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    monkeypatch.setattr("os.posix_fadvise", lambda *call: calls.append(call))
    disk = Disk()
    descriptor = disk.create(tmp_path / "f")
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(descriptor)
    assert [call[0] for call in calls] == [descriptor]
    disk.close(descriptor)
