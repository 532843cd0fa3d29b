"""What a receiver does to a store it finds: nothing that is whole is lost, nothing that is torn is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.binlog.walk import WHOLE_LIMIT
from binlogd.errors import StoreDamaged, StoreUnreadable
from binlogd.store import recovery
from binlogd.store.disk import Disk
from binlogd.store.index import encode_marks, index_path, read_marks, read_summary, write_index
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING
from binlogd.store.reader import UNFINISHED, read_contents, read_finished
from binlogd.store.recovery import Recovered, recover, still_damaged
from binlogd.store.synced import synced_path
from tests.binlog.making import CRC32, OFF, UUID_A, Log, broken, sample
from tests.store.support import FIRST, SECOND, THIRD, Quick, Recording, chain, data_of, make_store, newest

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def found(folder: DataFolder) -> Recovered:
    return recover(folder, Quick())


def set_up_to(log: Log, end: int) -> GtidSet:
    """The GTIDs of the log's transactions that end there or before."""
    whole = [gtid for gtid, at in zip(log.gtids, log.ends, strict=True) if at <= end]
    return GtidSet.from_runs((sid, tag, gno, gno) for sid, tag, gno in whole)


def sure_ends(log: Log) -> list[int]:
    """Where the file may be cut: behind transactions, and behind what stands outside of them."""
    return [made.end for made in log.events if made.end in log.ends or made.kind in (15, 35, 4)]


@ALGORITHMS
def test_a_tail_cut_at_every_byte(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    log = Log(algorithm).begin_file(f"{UUID_A}:1-2").transaction(3, sizes=(5,)).statement(4).payload(5, size=9)
    log.rotate()
    folder = make_store(tmp_path, {FIRST: b""})
    path = newest(folder).path / FIRST
    sure = sure_ends(log)
    for size in range(len(log.data) + 1):
        path.write_bytes(log.data[:size])
        synced_path(path).unlink(missing_ok=True)  # it speaks of the file that was there before
        if size < sure[0]:
            with pytest.raises(StoreDamaged, match="ends before its first event"):
                found(folder)
            assert path.read_bytes() == log.data[:size]
            continue
        end = max(at for at in sure if at <= size)
        first = found(folder)
        assert path.read_bytes() == log.data[:end]
        assert first.dropped == size - end
        assert bool(first.reason) is (size > end)
        publication = first.publication
        assert (publication.timeline, publication.file, publication.position) == (1, FIRST, end)
        previous = GtidSet.parse(f"{UUID_A}:1-2") if end >= sure[1] else GtidSet()
        assert publication.executed == previous | set_up_to(log, end)
        assert publication.purged == previous
        assert first.timeline == newest(folder)
        assert first.tail is not None
        assert first.tail.walk.transaction_end == end
        if size % 9 == 0:
            second = found(folder)
            assert (second.dropped, second.reason) == (0, "")
            assert second.publication == publication


@pytest.mark.parametrize("size", [1, 18, 19, 100, 5000, WHOLE_LIMIT * 2])
@pytest.mark.parametrize("what", ["zeros", "ones", "text", "noise", "an old file's events"])
@ALGORITHMS
def test_a_tail_with_anything_behind_it(tmp_path: Path, algorithm: ChecksumAlgorithm, what: str, size: int) -> None:
    log = sample(algorithm)
    rest = {
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "text": (b"Nov 22 18:00:00 db1 mysqld[1]: " * (size // 31 + 1))[:size],
        "noise": os.urandom(size),
        "an old file's events": (bytes(log.data[4:]) * (size // len(log.data) + 2))[:size],
    }[what]
    for end in (*log.ends[:2], log.events[0].end, log.events[1].end):
        folder = make_store(tmp_path / str(end), {FIRST: bytes(log.data[:end]) + rest})
        recovered = found(folder)
        assert recovered.publication.position == end
        assert (newest(folder).path / FIRST).read_bytes() == log.data[:end]
        assert recovered.dropped == size
        assert recovered.reason
        expected = set_up_to(log, end)
        assert recovered.publication.executed == expected
        assert found(folder).dropped == 0
        cut = newest(folder).path / f"{FIRST}.cut-{end}"
        assert cut.exists() is (recovered.reason != UNFINISHED and what != "zeros"), "which hold nothing"
        if cut.exists():
            assert cut.read_bytes() == rest, "it may have been more than a torn write"


@pytest.mark.parametrize("kept", [1, 20, 50_000, 99_000, 100_010])
def test_a_giant_transaction_that_was_interrupted_is_dropped_whatever_its_size(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is for what stands behind a bad event, not for what was never a whole transaction."""
    monkeypatch.setattr(recovery, "TORN_LIMIT", 40_000)
    log = Log().begin_file().transaction(1).transaction(2, sizes=(100_000,) * 3)
    last = [made for made in log.events if made.kind == 30][-1]
    data = log.data[: last.start + kept]
    folder = make_store(tmp_path, {FIRST: data})
    recovered = found(folder)
    assert recovered.publication.position == log.ends[0]
    assert recovered.dropped == len(data) - log.ends[0]
    assert [path.name for path in newest(folder).path.iterdir() if ".cut-" in path.name] == []
    torn = bytes(data[: last.start + kept // 2]) + bytes(39_000 if kept < 99_000 else kept - kept // 2)
    (newest(folder).path / FIRST).write_bytes(torn)
    again = found(folder)
    assert again.publication.position == log.ends[0]
    assert (newest(folder).path / FIRST).read_bytes() == log.data[: log.ends[0]]


def test_damage_to_what_was_durable_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "TORN_LIMIT", 5_000)
    log = Log().begin_file()
    for gno in range(1, 40):
        log.transaction(gno, sizes=(200,))
    for made in log.events[2:]:
        data = broken(bytes(log.data), made.start + 20)
        folder = make_store(tmp_path / str(made.start), {FIRST: data})
        behind = log.position - made.end
        if behind > 5_000:
            with pytest.raises(StoreDamaged, match=f"the event at {made.start}") as caught:
                found(folder)
            assert "keep a copy" in caught.value.hint
            assert 'a power loss under store.durability = "os"' in caught.value.hint
            assert (newest(folder).path / FIRST).read_bytes() == data
        elif behind < 4_500:
            end = max([log.events[1].end, *(end for end in log.ends if end <= made.start)])
            assert found(folder).publication.position == end
            cut = (newest(folder).path / f"{FIRST}.cut-{end}").read_bytes()
            assert data == (newest(folder).path / FIRST).read_bytes() + cut


def test_a_length_that_was_damaged_is_damage_and_no_unfinished_event(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    made = next(made for made in log.events if made.start == log.ends[0])
    for at, bit in ((9, 0x80), (10, 2), (11, 1), (12, 1), (12, 0x80)):
        data = broken(bytes(log.data), made.start + at, bit)
        folder = make_store(tmp_path / f"{at}-{bit}", {FIRST: data})
        recovered = found(folder)
        assert recovered.reason != UNFINISHED
        assert (newest(folder).path / f"{FIRST}.cut-{log.ends[0]}").read_bytes() == data[log.ends[0] :]


def test_events_of_the_tail_corrupt_at_every_byte(tmp_path: Path) -> None:
    """Whatever the power loss left in the last transaction, those before it stay, and only those."""
    log = Log().begin_file().transaction(1, sizes=(5,)).transaction(2, sizes=(5,))
    folder = make_store(tmp_path, {FIRST: b""})
    path = newest(folder).path / FIRST
    for at in range(log.ends[0], log.position):
        path.write_bytes(broken(bytes(log.data), at, 0x10))
        recovered = found(folder)
        assert recovered.publication.position == log.ends[0]
        assert path.read_bytes() == log.data[: log.ends[0]]


def test_a_large_torn_event(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2, sizes=(3 * WHOLE_LIMIT,))
    for size in (log.ends[0] + WHOLE_LIMIT, log.position - 40, log.position - 1):
        folder = make_store(tmp_path / str(size), {FIRST: log.data[:size]})
        recovered = found(folder)
        assert recovered.publication.position == log.ends[0]
        assert recovered.dropped == size - log.ends[0]


def test_damage_to_the_first_event_is_no_torn_tail(tmp_path: Path) -> None:
    """It was durable before anything was published: to cut the file there would throw everything away."""
    log = sample()
    made = log.events[0]
    for at in range(4, made.end):
        data = broken(bytes(log.data), at)
        folder = make_store(tmp_path / str(at), {FIRST: data})
        with pytest.raises(StoreDamaged, match=FIRST):
            found(folder)
        assert (newest(folder).path / FIRST).read_bytes() == data


@pytest.mark.parametrize("content", [b"\xfebi", b"hello", bytes(1000)])
def test_a_tail_that_is_no_binary_log_is_left_alone(tmp_path: Path, content: bytes) -> None:
    folder = make_store(tmp_path, {FIRST: sample().data, SECOND: content})
    with pytest.raises(StoreDamaged, match=SECOND) as caught:
        found(folder)
    assert caught.value.hint
    assert (newest(folder).path / SECOND).read_bytes() == content


def test_the_cut_is_durable(tmp_path: Path) -> None:
    log = sample()
    disk = Recording()
    folder = make_store(tmp_path, {FIRST: log.data[:-1]})
    recover(folder, disk)
    place = disk.steps.index(f"truncate {FIRST}")
    assert disk.steps[place + 1] == f"sync {FIRST}"
    whole = make_store(tmp_path / "whole", {FIRST: log.data})
    disk.steps.clear()
    recover(whole, disk)
    assert f"sync {FIRST}" in disk.steps, "whoever wrote it may not have synced it"
    assert f"truncate {FIRST}" not in disk.steps


def test_folders_whose_maker_died_are_made_durable(tmp_path: Path) -> None:
    class Folders(Quick):
        def __init__(self) -> None:
            self.synced: list[Path] = []

        def sync_folder(self, path: Path) -> None:
            self.synced.append(path)

    disk = Folders()
    folder = make_store(tmp_path, {FIRST: sample().data})
    recover(folder, disk)
    assert {folder.path, folder.binlogs, newest(folder).path} <= set(disk.synced)


def test_unfinished_files_go(tmp_path: Path) -> None:
    files = data_of(chain(2)) | {".mysql-bin.000003.new": b"x", f".{FIRST}.idx.new": b"", ".mysql-bin.index.new": b"y"}
    files |= {f"{FIRST}.marks": b"", f"{SECOND}.marks": b"2 of another file"}
    folder = make_store(tmp_path, files)
    (newest(folder).path / ".lost").mkdir()
    found(folder)
    names = {path.name for path in newest(folder).path.iterdir()}
    assert names == {FIRST, SECOND, f"{FIRST}.idx", "mysql-bin.index", ".lost"}


def test_indexes_are_made_again(tmp_path: Path) -> None:
    logs = chain(3)
    folder = make_store(tmp_path, data_of(logs))
    path = newest(folder).path
    found(folder)
    good = {name: index_path(path / name).read_bytes() for name in (FIRST, SECOND)}
    assert not index_path(path / THIRD).exists()
    for name, log in list(logs.items())[:2]:
        contents = read_contents(path / name)
        assert contents is not None
        assert read_summary(path / name, log.position) == contents.summary(name, log.position)
        assert list(read_marks(path / name)) == contents.walk.marks
    for spoilt in (b"", good[FIRST][:40], good[FIRST].replace(b'"version": 3', b'"version": 2'), good[SECOND]):
        index_path(path / FIRST).write_bytes(spoilt)
        found(folder)
        assert index_path(path / FIRST).read_bytes() == good[FIRST]
    index_path(path / FIRST).unlink()
    index_path(path / SECOND).unlink()
    recovered = found(folder)
    assert {name: index_path(path / name).read_bytes() for name in (FIRST, SECOND)} == good
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-6")


def test_a_current_index_saves_reading_its_file(tmp_path: Path) -> None:
    logs = chain(2)
    folder = make_store(tmp_path, data_of(logs))
    recovered = found(folder)
    (newest(folder).path / FIRST).write_bytes(bytes(logs[FIRST].position))
    assert found(folder).publication == recovered.publication


def test_an_index_beside_the_newest_file_is_not_believed(tmp_path: Path) -> None:
    """It was finished, and then the receiver died before the next file began."""
    logs = chain(2)
    folder = make_store(tmp_path, data_of(logs))
    found(folder)
    (newest(folder).path / SECOND).unlink()
    recovered = found(folder)
    assert (recovered.publication.file, recovered.publication.position) == (FIRST, logs[FIRST].position)
    assert recovered.tail is not None


def test_the_list_of_files_is_made_again(tmp_path: Path) -> None:
    folder = make_store(tmp_path, data_of(chain(2)) | {"mysql-bin.index": b"./mysql-bin.000009\n"})
    found(folder)
    assert (newest(folder).path / "mysql-bin.index").read_text() == f"./{FIRST}\n./{SECOND}\n"


@pytest.mark.parametrize("event", [0, 1, 4, -1])
def test_a_damaged_finished_file_is_told_of_left_alone_and_keeps_nobody_from_receiving(
    tmp_path: Path, event: int
) -> None:
    """What it held the next file tells: it is stored and not purged, for who needs it is told of the damage."""
    logs = chain(3)
    made = logs[FIRST].events[event]
    data = broken(bytes(logs[FIRST].data), made.end - 1)
    folder = make_store(tmp_path, data_of(logs) | {FIRST: data})
    recovered = found(folder)
    assert [file.name for file in recovered.damaged] == [FIRST]
    assert f"the event at {made.start} " in recovered.damaged[0].damage
    assert (recovered.publication.file, recovered.publication.position) == (THIRD, logs[THIRD].position)
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-6")
    assert not recovered.publication.purged
    path = newest(folder).path
    assert (path / FIRST).read_bytes() == data
    assert not index_path(path / FIRST).exists()
    assert list(still_damaged(recovered.damaged)) == list(recovered.damaged)
    (path / FIRST).write_bytes(logs[FIRST].data)
    assert found(folder).damaged == ()
    assert list(still_damaged(recovered.damaged)) == [], "mended"


def test_gtids_that_were_purged_before_a_damaged_file_stay_purged(tmp_path: Path) -> None:
    logs = chain(4)
    files = data_of(logs)
    del files[FIRST]
    files[SECOND] = bytearray(broken(bytes(files[SECOND]), logs[SECOND].events[3].end - 1))
    recovered = found(make_store(tmp_path, files))
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-8")
    assert recovered.publication.purged == GtidSet.parse(f"{UUID_A}:1-2")
    assert [file.name for file in recovered.damaged] == [SECOND]


def test_a_head_that_cannot_be_read_although_the_index_is_sound(tmp_path: Path) -> None:
    logs = chain(3)
    files = data_of(logs)
    del files[FIRST]
    folder = make_store(tmp_path, files)
    before = found(folder).publication
    path = newest(folder).path / SECOND
    path.write_bytes(broken(path.read_bytes(), 30))
    recovered = found(folder)
    assert recovered.publication.executed == before.executed == GtidSet.parse(f"{UUID_A}:1-6")
    assert recovered.publication.file == THIRD


@pytest.mark.parametrize("size", [0, 3, 4, 50, -1])
def test_a_finished_file_that_was_cut(tmp_path: Path, size: int) -> None:
    logs = chain(2)
    data = logs[FIRST].data[:size]
    folder = make_store(tmp_path, {FIRST: data, SECOND: logs[SECOND].data})
    recovered = found(folder)
    assert [file.name for file in recovered.damaged] == [FIRST]
    assert recovered.damaged[0].damage
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-4")
    assert not recovered.publication.purged
    assert (newest(folder).path / FIRST).read_bytes() == data


def test_a_finished_file_that_lost_whole_transactions_is_known_by_its_index(tmp_path: Path) -> None:
    """Every event that is left is sound: only what the file was finished with tells. No new .idx may hide it."""
    logs = chain(3)
    folder = make_store(tmp_path, data_of(logs))
    found(folder)
    path = newest(folder).path
    index = index_path(path / FIRST).read_bytes()
    (path / FIRST).write_bytes(logs[FIRST].data[: logs[FIRST].ends[0]])
    recovered = found(folder)
    assert [file.damage for file in recovered.damaged] == [
        f"it has {logs[FIRST].ends[0]} bytes and was finished with {logs[FIRST].position}"
    ]
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-6")
    assert not recovered.publication.purged
    assert index_path(path / FIRST).read_bytes() == index


def test_a_finished_file_that_ends_within_a_transaction_is_what_the_source_has(tmp_path: Path) -> None:
    """A source that crashed leaves such a file, and goes on in the next."""
    log = Log().begin_file().transaction(1)
    log.gtid(2)
    log.query(b"BEGIN")
    folder = make_store(tmp_path, {FIRST: log.data, SECOND: Log().begin_file(f"{UUID_A}:1").transaction(2).data})
    recovered = found(folder)
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-2")
    assert (newest(folder).path / FIRST).read_bytes() == log.data


def test_the_newest_file_may_have_been_finished_and_goes_on(tmp_path: Path) -> None:
    """Another source was to be followed, and the old one is: its .idx must not call longer bytes damaged."""
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data})
    timeline = newest(folder)
    file, contents = read_finished(timeline, FIRST)
    write_index(Disk(), timeline.path, file.summary, encode_marks(contents.walk.marks if contents else ()))
    assert read_summary(file.path, len(log.data)) is not None

    found(folder)

    assert read_summary(file.path, len(log.data)) is None


# --- stores of other shapes ---


def test_no_store_and_empty_ones(tmp_path: Path) -> None:
    assert found(DataFolder(tmp_path / "nowhere")) == Recovered(NOTHING, None, None, 0, "")
    assert found(make_store(tmp_path / "a")) == Recovered(NOTHING, None, None, 0, "")
    folder = make_store(tmp_path / "b", {})
    assert found(folder) == Recovered(NOTHING, None, None, 0, "")


def test_an_older_timeline_is_finished(tmp_path: Path) -> None:
    old, new = chain(2), Log().begin_file(f"{UUID_A}:1-4").transaction(5)
    folder = make_store(tmp_path, data_of(old), {FIRST: new.data[:-1]})
    recovered = found(folder)
    assert recovered.publication.timeline == 2
    assert recovered.publication.executed == GtidSet.parse(f"{UUID_A}:1-4")
    first = folder.timelines()[0]
    assert read_summary(first.path / SECOND, old[SECOND].position) is not None
    assert (first.path / "mysql-bin.index").read_text() == f"./{FIRST}\n./{SECOND}\n"


def test_a_new_timeline_without_a_file_yet(tmp_path: Path) -> None:
    """What is published is the end of the timeline before it, at a transaction's end as always."""
    log = sample()
    folder = make_store(tmp_path, {FIRST: log.data[: log.ends[1] + 9]}, {})
    recovered = found(folder)
    assert (recovered.publication.timeline, recovered.publication.position) == (1, log.ends[1])
    assert recovered.timeline == folder.timelines()[0]
    assert recovered.tail is not None
    assert recovered.dropped == 9
    assert found(folder).publication == recovered.publication


def test_a_disk_that_fails(tmp_path: Path) -> None:
    class Broken(Disk):
        def sync(self, descriptor: int) -> None:
            raise OSError(5, "Input/output error")

    folder = make_store(tmp_path, {FIRST: sample().data})
    with pytest.raises(StoreUnreadable, match="Input/output error"):
        recover(folder, Broken())
