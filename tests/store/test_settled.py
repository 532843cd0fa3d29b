"""What is judged, and shown, is what the disk has, whatever a killed process left in memory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.errors import StoreUnreadable
from binlogd.sender.catalog import Catalog
from binlogd.store import settled
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.reader import read_further
from binlogd.store.recovery import recover
from binlogd.store.seek import find_gtids
from binlogd.store.settled import settle
from binlogd.store.synced import synced_part, synced_path
from tests.binlog.making import CRC32, OFF, UUID_A, Log
from tests.store.powerloss import PAGE, FailingPower, Fate, Killed, put
from tests.store.support import FIRST, Quick, Recording, begin, empty_tail, make_store, newest, take
from tests.store.support import settle as durable


class Power:
    """A store on a disk whose power may fail: one transaction is durable, and the sync of the next one fails."""

    def __init__(self, path: Path, seed: int, patch: pytest.MonkeyPatch, algorithm: ChecksumAlgorithm = CRC32) -> None:
        self.log = Log(algorithm).begin_file().transaction(1).transaction(2, sizes=(3 * PAGE,))
        self.folder = make_store(path / "live")
        self.disk = FailingPower(self.folder.path, Random(seed))
        self.disk.use(patch)
        self.tail = empty_tail(self.folder, self.disk)
        begin(self.tail, FIRST, self.log)
        events = self.log.each()[1:]
        second = next(index for index, made in enumerate(self.log.events[1:]) if made.start >= self.log.ends[0])
        take(self.tail, events[:second])
        durable(self.tail)
        self.path = self.tail.timeline.path / FIRST
        self._rest = events[second:]
        self._images = path / "images"
        self._images.mkdir()

    def take_rest(self) -> None:
        take(self.tail, self._rest)

    def kill_at_failing_sync(self, name: str) -> None:
        """The receiver, before it hears that the sync of that file failed."""

        def fails(path: Path) -> bool:
            if path.name == name:
                self.disk.kill_in = 1
            return path.name == name

        self.disk.fails = fails
        with pytest.raises(Killed):
            durable(self.tail)
        self.disk.fails = lambda path: False
        self.disk.die()

    def is_kept(self, position: int) -> None:
        """After every power loss there may be now."""
        for number, fate in enumerate(list(Fate) * 5):
            found = DataFolder(self._images / str(number))
            put(self.disk.image(fate, fate), found.path)
            assert recover(found, Quick()).publication.position >= position, "what was shown is kept"


def shown_by_recovery(power: Power) -> int:
    return recover(power.folder, power.disk).publication.position


def shown_by_a_sender(power: Power) -> int:
    catalog = Catalog(power.folder)
    catalog.read()
    return catalog.publication.position


def shown_by_reading_on(power: Power) -> int:
    further = read_further(power.path, power.log.ends[0])
    return power.log.ends[0] if further is None else further.position


def shown_by_find(power: Power) -> int:
    return power.log.ends[len(find_gtids(power.folder, power.log.set)[1].compact()) == 0]


SHOW = [shown_by_recovery, shown_by_a_sender, shown_by_reading_on, shown_by_find]


@pytest.mark.parametrize("show", SHOW)
@pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])
def test_a_kill_before_a_failed_sync_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: object, algorithm: ChecksumAlgorithm
) -> None:
    """Memory has all of it and calls it clean; the disk has some. What is shown then is never lost."""
    assert callable(show)
    ends = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        power = Power(tmp_path / str(seed), seed, monkeypatch, algorithm)
        power.take_rest()
        power.kill_at_failing_sync(FIRST)
        position = show(power)
        power.is_kept(position)
        ends.add(power.log.ends.index(position))
    assert 0 in ends


@pytest.mark.parametrize("show", SHOW)
def test_a_kill_before_a_failed_sync_of_what_is_said_to_be_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: object
) -> None:
    """Without checksums: the file is durable, and that it is so may not be."""
    assert callable(show)
    ends = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        power = Power(tmp_path / str(seed), seed, monkeypatch, OFF)
        power.take_rest()
        power.kill_at_failing_sync(f"{FIRST}.synced")
        position = show(power)
        power.is_kept(position)
        ends.add(power.log.ends.index(position))
    assert ends == {0, 1}, "the disk had written it, or had not"


@pytest.mark.parametrize("show", SHOW[1:])
def test_what_is_said_to_be_durable_is_synced_by_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: object
) -> None:
    """It is written, and the receiver was killed before it synced it: memory alone has it."""
    assert callable(show)
    power = Power(tmp_path, 1, monkeypatch, OFF)
    power.take_rest()
    power.disk.kill_in = 2  # the file is synced, and its size written
    with pytest.raises(Killed):
        durable(power.tail)
    power.disk.die()
    assert synced_part(power.path, power.log.position) == power.log.position
    assert show(power) == power.log.position
    power.is_kept(power.log.position)


def test_a_readers_own_sync_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows nothing; and who comes next shows what the disk has."""
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        power = Power(tmp_path / str(seed), seed, monkeypatch)
        power.take_rest()
        power.disk.die()
        power.disk.fails = lambda path: path.name == FIRST
        with pytest.raises(StoreUnreadable, match="cannot sync"):
            shown_by_a_sender(power)
        power.disk.fails = lambda path: False
        power.is_kept(shown_by_a_sender(power))


# --- the steps ---


class Noted(Recording):
    """It tells of what is let go of."""

    error = 0

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))

    def let_go(self, descriptor: int, start: int) -> None:
        self.steps.append(f"let go {self._name(descriptor)} {start}")


def test_the_order(tmp_path: Path) -> None:
    path = tmp_path / FIRST
    path.write_bytes(b"x")
    disk = Noted()
    settle(path, disk)
    assert disk.steps == [f"sync {FIRST}", f"let go {FIRST} 0", "sync folder"]
    synced_path(path).write_bytes(b"1")
    disk.steps.clear()
    settle(path, disk)
    assert disk.steps == [
        f"sync {FIRST}",
        f"let go {FIRST} 0",
        f"sync {FIRST}.synced",
        f"let go {FIRST}.synced 0",
        "sync folder",
    ]
    disk.steps.clear()
    disk.error = errno.EIO
    with pytest.raises(StoreUnreadable, match="cannot sync") as caught:
        settle(path, disk)
    assert caught.value.alarm == "disk_error"
    assert disk.steps == [f"sync {FIRST}", f"let go {FIRST} 0"], "whether it went well or not"
    with pytest.raises(StoreUnreadable, match="cannot sync"):
        settle(path / "nowhere", disk)


def test_only_what_may_not_be_durable_is_let_go_of(tmp_path: Path) -> None:
    """In whole groups of pages: the kernel keeps one that is not meant whole."""
    path = tmp_path / FIRST
    path.touch()
    for size, start in (
        (settled.TORN_LIMIT, 0),
        (settled.TORN_LIMIT + settled.FOLIO - 1, 0),
        (settled.TORN_LIMIT + settled.FOLIO, settled.FOLIO),
        (settled.TORN_LIMIT + 5 * settled.FOLIO + 7, 5 * settled.FOLIO),
    ):
        os.truncate(path, size)
        disk = Noted()
        settle(path, disk)
        assert f"let go {FIRST} {start}" in disk.steps


def in_memory(path: Path) -> list[bool]:
    """Of each page of a file, whether the kernel has it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        begin = ctypes.c_char.from_buffer(mapped)
        try:
            assert libc.mincore(ctypes.c_void_p(ctypes.addressof(begin)), ctypes.c_size_t(len(mapped)), found) == 0
        finally:
            del begin
        return [bool(each & 1) for each in found]


def file_system(path: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


def test_the_kernel_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was dirty, too, for it was synced before; and of nothing that is before."""
    if file_system(tmp_path) == "tmpfs":
        pytest.skip("what lies in memory alone is not let go of")
    monkeypatch.setattr(settled, "TORN_LIMIT", 1 << 20)
    monkeypatch.setattr(settled, "FOLIO", 1 << 20)
    path = tmp_path / FIRST
    path.write_bytes(bytes(5 << 20) + b"the last page")
    assert all(in_memory(path)), "and dirty"
    settle(path, Disk())
    pages = in_memory(path)
    begun = (4 << 20) // mmap.PAGESIZE
    assert any(pages[:begun])
    assert not any(pages[begun:])


def test_a_publication_of_what_was_settled(tmp_path: Path) -> None:
    """On a real disk nothing is lost by it."""
    log = Log().begin_file().transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data})
    found = recover(folder, Disk()).publication
    catalog = Catalog(folder)
    catalog.read()
    assert isinstance(found, Publication)
    assert catalog.publication == found
    assert found.position == log.position
    assert found.executed.compact() == f"{UUID_A}:1-2"
    assert newest(folder).binlogs() == [FIRST]
