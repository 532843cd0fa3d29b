"""What a source had purged without a word of it in its files."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import StoreUnreadable
from binlogd.store.layout import DataFolder
from binlogd.store.purged import FILE, encode, is_sound, load, save, without
from binlogd.store.reader import publication_of, read_store
from binlogd.store.recovery import recover
from tests.binlog.making import SID_A, SID_B, UUID_A, UUID_B, Log
from tests.store.support import (
    FIRST,
    SECOND,
    Quick,
    Recording,
    begin,
    empty_tail,
    make_store,
    newest,
    settle,
    tail_of,
    take,
)

BACKUP = GtidSet.parse(f"{UUID_B}:1-9:t:3")


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


# --- the file ---


def test_there_and_back(tmp_path: Path) -> None:
    assert load(tmp_path) == GtidSet()
    save(Quick(), tmp_path, BACKUP)
    assert load(tmp_path) == BACKUP
    assert is_sound(tmp_path)
    save(Quick(), tmp_path, GtidSet())
    assert load(tmp_path) == GtidSet()
    assert is_sound(tmp_path)


def test_it_is_written_durably_when_it_changes_and_only_then(tmp_path: Path) -> None:
    disk = Recording()
    save(disk, tmp_path, GtidSet())
    assert disk.steps == []
    save(disk, tmp_path, BACKUP)
    assert disk.steps[-1] == "sync folder"
    disk.steps.clear()
    save(disk, tmp_path, BACKUP)
    assert disk.steps == []


def test_a_bit_that_flips_anywhere_is_noticed(tmp_path: Path) -> None:
    content = encode(BACKUP)
    for bit in range(8 * len(content)):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        (tmp_path / FILE).write_bytes(altered)
        assert not is_sound(tmp_path)
        assert load(tmp_path) == GtidSet()


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b'"x"', b'{"gtid_purged": 5}'])
def test_what_cannot_be_read_says_nothing_and_is_made_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert load(tmp_path) == GtidSet()
    assert not is_sound(tmp_path)
    save(Quick(), tmp_path, GtidSet())
    assert is_sound(tmp_path)


def test_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreadable, match=FILE):
        save(Quick(), tmp_path / "nowhere", BACKUP)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_what_is_there_and_cannot_be_read_is_not_taken_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It would be written over with what the source says now, which may be less."""
    save(Quick(), tmp_path, BACKUP)

    def fails(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fails)
        with pytest.raises(StoreUnreadable, match=rf"cannot read .*{FILE}: {os.strerror(number)}"):
            load(tmp_path)
        with pytest.raises(StoreUnreadable, match="cannot read"):
            save(Quick(), tmp_path, gtids(f"{UUID_A}:1"))
    assert load(tmp_path) == BACKUP


@pytest.mark.parametrize("seed", range(200))
def test_a_set_without_runs(seed: int) -> None:
    chance = random.Random(seed)

    def runs(count: int) -> list[tuple[bytes, str, int, int]]:
        return [
            (chance.choice([SID_A, SID_B]), chance.choice(["", "t"]), first, first + chance.randrange(4))
            for first in chance.choices(range(1, 40), k=count)
        ]

    one, other = GtidSet.from_runs(runs(chance.randrange(6))), runs(chance.randrange(6))
    assert without(one, other) == one - GtidSet.from_runs(other)
    if one.isdisjoint(GtidSet.from_runs(other)):
        assert without(one, other) is one


# --- while a timeline is received ---


def found(folder: DataFolder) -> tuple[str, str]:
    """Executed and purged, as recovery and a reader find them, which must be the same."""
    publication = publication_of(read_store(folder))
    assert recover(folder, Quick()).publication == publication
    return publication.executed.compact(), publication.purged.compact()


def test_it_is_durable_before_the_first_file_of_a_timeline_is_there(tmp_path: Path) -> None:
    folder, disk = make_store(tmp_path), Recording()
    tail = empty_tail(folder, disk)
    tail.said_purged = BACKUP
    disk.steps.clear()
    log = Log().begin_file().transaction(1)
    begin(tail, FIRST, log)
    renamed = [step for step in disk.steps if step.startswith("rename")]
    assert FILE in renamed[0]
    assert disk.steps.index(renamed[0]) < disk.steps.index("sync folder") < disk.steps.index(renamed[1])
    first = settle(tail)
    assert first is not None
    assert first.executed == first.purged == BACKUP
    take(tail, log.each()[1:])
    assert settle(tail) is not None
    assert tail.publication.purged == BACKUP
    assert found(folder) == ((BACKUP | log.set).compact(), BACKUP.compact())


def test_an_attempt_before_that_got_no_file_leaves_nothing(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    save(Quick(), tail.timeline.path, BACKUP)
    assert found(folder) == ("", "")
    log = Log().begin_file().transaction(1)
    tail.said_purged = gtids(f"{UUID_B}:1")
    begin(tail, FIRST, log)
    settle(tail)
    assert load(tail.timeline.path) == gtids(f"{UUID_B}:1")


def test_what_the_source_purged_and_we_hold_is_not_kept(tmp_path: Path) -> None:
    """Its retention: it names what its first files had."""
    folder = make_store(tmp_path, {FIRST: Log().begin_file(f"{UUID_A}:1-2").transaction(3).transaction(4).data})
    tail = tail_of(recover(folder, Quick()))
    tail.said_purged = gtids(f"{UUID_A}:1-4,{UUID_B}:1-9")
    publication = tail.accept_purged()
    assert publication is tail.publication
    assert publication.executed == gtids(f"{UUID_A}:1-4,{UUID_B}:1-9")
    assert publication.purged == gtids(f"{UUID_A}:1-2,{UUID_B}:1-9")
    assert load(tail.timeline.path) == publication.purged
    assert found(folder) == (publication.executed.compact(), publication.purged.compact())


def test_it_grows_and_is_never_taken_back(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {FIRST: Log().begin_file().transaction(1).data})
    tail = tail_of(recover(folder, Quick()))
    for said, kept in (("1-3", "1-3"), ("5", "1-3:5"), ("1-2", "1-3:5")):
        tail.said_purged = gtids(f"{UUID_B}:{said}")
        tail.accept_purged()
        assert load(tail.timeline.path) == tail.publication.purged == gtids(f"{UUID_B}:{kept}")
        assert tail.accept_purged() is None
    tail.said_purged = gtids(f"{UUID_A}:1")
    assert tail.accept_purged() is None


def test_one_that_was_damaged_is_made_again(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {FIRST: Log().begin_file().transaction(1).data})
    path = newest(folder).path / FILE
    path.write_bytes(b"\0" * 100)
    assert found(folder) == (f"{UUID_A}:1", "")
    tail = tail_of(recover(folder, Quick()))
    tail.said_purged = BACKUP
    assert tail.accept_purged() is not None
    assert load(path.parent) == BACKUP


def test_what_comes_after_all_is_purged_no_more(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    tail = empty_tail(folder)
    tail.said_purged = gtids(f"{UUID_A}:1-3,{UUID_B}:1-9")
    log = Log().begin_file().transaction(2).transaction(4)
    begin(tail, FIRST, log)
    take(tail, log.each()[1:])
    settle(tail)
    assert tail.publication.purged == gtids(f"{UUID_A}:1:3,{UUID_B}:1-9")
    assert found(folder)[1] == tail.publication.purged.compact()


def test_a_new_timeline_purges_nothing_that_an_older_one_holds(tmp_path: Path) -> None:
    """The new source was cloned from the old one: all that the clone had is purged there."""
    folder = make_store(tmp_path, {FIRST: Log().begin_file(f"{UUID_A}:1").transaction(2).transaction(3).data})
    recovered = recover(folder, Quick())
    old = tail_of(recovered)
    tail = empty_tail(folder)
    tail.publication, tail._predecessor = recovered.publication, old
    tail.said_purged = gtids(f"{UUID_A}:1-3")
    log = Log().begin_file().transaction(4)
    begin(tail, SECOND, log)
    take(tail, log.each()[1:])
    settle(tail)
    assert tail.publication.purged == load(tail.timeline.path) == gtids(f"{UUID_A}:1")
    assert found(folder) == (f"{UUID_A}:1-4", f"{UUID_A}:1")


def test_a_tail_that_was_told_nothing_writes_nothing(tmp_path: Path) -> None:
    disk = Recording()
    tail = empty_tail(make_store(tmp_path), disk)
    begin(tail, FIRST, Log().begin_file())
    assert not (tail.timeline.path / FILE).exists()
    assert tail.accept_purged() is None
