"""``binlogd dump`` over stores made byte by byte: what is in its output, and that it is a sound binary log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import HEADER_LENGTH, ChecksumAlgorithm, EventType, Header
from binlogd.binlog.walk import Mark
from binlogd.cli.dump import command
from binlogd.errors import BinlogdError, StoreUnreadable
from binlogd.store import extract
from binlogd.store.extract import Extraction, Wanted, plan
from binlogd.store.index import read_marks, write_index
from binlogd.store.layout import DataFolder
from binlogd.store.reader import read_contents
from binlogd.store.recovery import recover
from tests.binlog.making import CRC32, OFF, SID_B, TIME, UUID_A, UUID_B, Log, later, sample
from tests.cli.support import NEWEST, make_store, the_error
from tests.store.support import Quick, chain, data_of, purging_at_first, remove_to, tail_of
from tests.store.support import make_store as store_of

FIRST = "mysql-bin.000001"
EVERYTHING = Wanted()
OURS = {EventType.FORMAT_DESCRIPTION, EventType.PREVIOUS_GTIDS, EventType.ROTATE, EventType.STOP}


def dump(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")}
    command = [sys.executable, "-m", "binlogd", "dump", "--data-dir", str(data_dir), *arguments]
    return subprocess.run(command, capture_output=True, env=environ | {"TZ": "UTC"}, timeout=60, check=False)


def put(data_dir: Path, timeline: int, uuid: str, **files: bytes) -> Path:
    folder = data_dir / "binlogs" / f"{timeline:04}-{uuid}"
    folder.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    for number, data in files.items():
        (folder / f"mysql-bin.{number.removeprefix('f').zfill(6)}").write_bytes(data)
    return folder


def extracted(data_dir: Path, wanted: Wanted = EVERYTHING) -> bytes:
    out = bytearray()
    Extraction(plan(DataFolder(data_dir), wanted), out.extend).run()
    return bytes(out)


def sound(data: bytes, folder: Path) -> tuple[GtidSet, GtidSet | None]:
    """It is a binary log without a fault; what is in it, and what it says is before it."""
    path = folder / "output"
    path.write_bytes(data)
    contents = read_contents(path)
    assert contents is not None
    assert (contents.torn, contents.walk.transaction_end) == ("", len(data))
    return contents.added, contents.head.previous


def bodies(data: bytes, checksum: int = 4) -> list[tuple[int, int, int, bytes]]:
    """All but where they stand, of the events that are of transactions."""
    found, at = [], 4
    while at < len(data):
        header = Header.decode(data, at)
        end = at + header.length
        if header.type not in OURS:
            length = 4 if header.type == EventType.FORMAT_DESCRIPTION else checksum
            found.append((header.timestamp, header.type, header.flags, data[at + HEADER_LENGTH : end - length]))
        at = end
    return found


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


def test_everything_is_one_binary_log(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    done = dump(tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    added, previous = sound(done.stdout, tmp_path)
    assert (added, previous) == (gtids(f"{UUID_A}:1-6"), GtidSet())
    stored = bodies((timeline / FIRST).read_bytes()) + bodies((timeline / NEWEST).read_bytes())
    assert bodies(done.stdout) == stored[:-1], "the seventh, which is torn, is not in it"


def test_what_a_restored_backup_lacks(tmp_path: Path) -> None:
    make_store(tmp_path)
    done = dump(tmp_path, "--from-gtid", f"{UUID_A}:1-2:4,{UUID_B}:9")
    assert (done.returncode, done.stderr) == (0, b"")
    added, previous = sound(done.stdout, tmp_path)
    assert added == gtids(f"{UUID_A}:3:5-6")
    assert previous == gtids(f"{UUID_A}:1-2:4,{UUID_B}:9")


def test_up_to_a_set(tmp_path: Path) -> None:
    make_store(tmp_path)
    done = dump(tmp_path, "--from-gtid", f"{UUID_A}:1", "--to-gtid", f"{UUID_A}:1-5")
    added, _ = sound(done.stdout, tmp_path)
    assert added == gtids(f"{UUID_A}:2-5")
    error = the_error(_text(dump(tmp_path, "--to-gtid", f"{UUID_A}:1-8")), 1)
    assert f"not stored: {UUID_A}:7-8" in error


def _text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    assert done.stdout == b"", "nothing was written"
    return subprocess.CompletedProcess(done.args, done.returncode, "", done.stderr.decode())


def test_nothing_is_a_binary_log_too(tmp_path: Path) -> None:
    make_store(tmp_path)
    done = dump(tmp_path, "--from-gtid", f"{UUID_A}:1-6")
    assert sound(done.stdout, tmp_path) == (GtidSet(), gtids(f"{UUID_A}:1-6"))


def at(seconds: float) -> str:
    return datetime.fromtimestamp(TIME + seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("begin", "end", "expected", "before"),
    [
        (None, 1000, "1-4", ""),
        (1000, None, "5-8", "1-4"),
        (1002, None, "5-8", "1-4"),
        (1002.5, None, "6-8", "1-5"),
        (1000, 1007, "5", "1-4"),
        (1003, 2000, "6", "1-5"),
        (5000, None, "", "1-8"),
        (1008, 1009, "", "1-6"),
    ],
)
def test_between_moments(tmp_path: Path, begin: float | None, end: float | None, expected: str, before: str) -> None:
    """The first file's transactions are from second 2 on, those of the others a thousand later each."""
    files = {
        "f1": bytes(Log().begin_file().transaction(1).transaction(2).transaction(3).transaction(4).data),
        "f2": later(Log().begin_file(f"{UUID_A}:1-4").transaction(5).transaction(6), 1000),
        "f3": later(Log().begin_file(f"{UUID_A}:1-6").transaction(7).transaction(8), 2000),
    }
    put(tmp_path, 1, UUID_A, **files)
    options = [("--from-time", begin), ("--to-time", end)]
    done = dump(tmp_path, *(text for name, time in options if time is not None for text in (name, at(time))))
    assert (done.returncode, done.stderr) == (0, b"")
    added, previous = sound(done.stdout, tmp_path)
    assert added == gtids(f"{UUID_A}:{expected}" if expected else "")
    if expected:
        assert previous == gtids(f"{UUID_A}:{before}" if before else "")


def test_no_transaction_behind_the_first_that_is_too_late(tmp_path: Path) -> None:
    """A clock that was set back makes no hole: what is before it in time stands behind it in history."""
    late = later(Log().begin_file().transaction(1).transaction(2), 1000)
    early = bytes(Log().begin_file(f"{UUID_A}:1-2").transaction(3).data)
    put(tmp_path, 1, UUID_A, f1=late, f2=early)
    added, _ = sound(extracted(tmp_path, Wanted(to_time=(TIME + 1004) * 1_000_000)), tmp_path)
    assert added == gtids(f"{UUID_A}:1")


def test_timelines_that_overlap(tmp_path: Path) -> None:
    """What both have is in it once; a server of another version and without checksums is told of in between."""
    old = Log().begin_file().transaction(1).transaction(2).transaction(3)
    new = Log(OFF, version="9.7.0").begin_file(f"{UUID_A}:1").transaction(2).transaction(3)
    new.transaction(1, SID_B).transaction(2, SID_B, sizes=(5000,))
    put(tmp_path, 1, UUID_A, f1=bytes(old.data))
    put(tmp_path, 2, UUID_B, f7=bytes(new.data))
    data = extracted(tmp_path)
    added, previous = sound(data, tmp_path)
    assert (added, previous) == (gtids(f"{UUID_A}:1-3,{UUID_B}:1-2"), GtidSet())
    assert data.count(b"8.0.36\0") == data.count(b"9.7.0\0") == 1
    assert bodies(data) == bodies(bytes(old.data)) + bodies(bytes(new.data), 0)[-10:]


@pytest.mark.parametrize("without", [None, "", "1", "1-2", "1-3"])
def test_an_old_timeline_whose_beginning_was_removed(tmp_path: Path, without: str | None) -> None:
    """Only the next one has what stood there, and all of it comes from that, in its order."""
    new = Log().begin_file().transaction(1).transaction(2).transaction(3).transaction(1, SID_B)
    put(tmp_path, 1, UUID_A, f3=bytes(Log().begin_file(f"{UUID_A}:1-2").transaction(3).data))
    put(tmp_path, 2, UUID_B, f7=bytes(new.data))
    has = None if without is None else gtids(f"{UUID_A}:{without}" if without else "")
    data = extracted(tmp_path, Wanted(without=has))
    added, previous = sound(data, tmp_path)
    left_out = has or GtidSet()
    assert (added, previous) == (gtids(f"{UUID_A}:1-3,{UUID_B}:1") - left_out, left_out)
    if not left_out:
        assert bodies(data) == bodies(bytes(new.data))


def test_an_old_timeline_whose_beginning_was_removed_and_that_has_what_no_other_has(tmp_path: Path) -> None:
    put(tmp_path, 1, UUID_A, f3=bytes(Log().begin_file(f"{UUID_A}:1-2").transaction(3).transaction(4).data))
    put(tmp_path, 2, UUID_B, f7=bytes(Log().begin_file().transaction(1).transaction(2).transaction(3).data))
    with pytest.raises(BinlogdError, match=f"{UUID_A}:1-2, which only a later timeline holds, and has {UUID_A}:4"):
        extracted(tmp_path)
    assert sound(extracted(tmp_path, Wanted(without=gtids(f"{UUID_A}:1-2"))), tmp_path)[0] == gtids(f"{UUID_A}:3-4")


def test_without_checksums_it_has_none(tmp_path: Path) -> None:
    log = sample(OFF)
    put(tmp_path, 1, UUID_A, f1=bytes(log.data))
    data = extracted(tmp_path)
    assert sound(data, tmp_path)[0] == log.set
    assert bodies(data, 0) == bodies(bytes(log.data), 0)


@pytest.mark.parametrize("positions", [True, False])
def test_transactions_without_a_gtid_go_by_time(tmp_path: Path, positions: bool) -> None:
    log = Log(version="10.11.6-MariaDB", log_positions=positions).begin_file(None)
    for _ in range(3):
        log.query(b"BEGIN")
        log.rows()
        log.xid()
    put(tmp_path, 1, UUID_A, f1=bytes(log.data))
    data = extracted(tmp_path, Wanted(from_time=(TIME + 2) * 1_000_000, to_time=(TIME + 5) * 1_000_000))
    assert sound(data, tmp_path)[1] is None
    assert bodies(data) == bodies(bytes(log.data))[3:6]
    error = the_error(_text(dump(tmp_path, "--from-gtid", f"{UUID_A}:1")), 1)
    assert "3 transactions without a GTID" in error
    put(tmp_path, 2, UUID_B, f1=bytes(log.data))
    assert "another source's history" in the_error(_text(dump(tmp_path)), 1)


def test_without_gtids_one_of_two_histories_is_chosen_by_time(tmp_path: Path) -> None:
    log = Log(version="10.11.6-MariaDB").begin_file(None)
    for _ in range(3):
        log.query(b"BEGIN")
        log.rows()
        log.xid()
    one, two = bytes(log.data), later(log, 100_000)
    put(tmp_path, 1, UUID_A, f1=one)
    put(tmp_path, 2, UUID_B, f1=two)

    def between(begin: float | None, end: float | None) -> list[tuple[int, int, int, bytes]]:
        wanted = Wanted(None, None, *(None if t is None else round((TIME + t) * 1_000_000) for t in (begin, end)))
        return bodies(extracted(tmp_path, wanted))

    assert between(None, 50_000) == bodies(one)
    assert between(2, 5) == bodies(one)[3:6]
    assert between(50_000, None) == bodies(two)
    assert between(100_002, 100_005) == bodies(two)[3:6]
    assert between(20_000, 30_000) == []
    for options in ((), ("--to-time", at(200_000)), ("--from-time", at(5)), ("--to-time", at(100_002))):
        assert "another source's history" in the_error(_text(dump(tmp_path, *options)), 1)


def test_what_was_purged_is_named(tmp_path: Path) -> None:
    put(tmp_path, 1, UUID_A, f5=bytes(Log().begin_file(f"{UUID_A}:1-9").transaction(10).data))
    error = the_error(_text(dump(tmp_path, "--from-gtid", f"{UUID_A}:1-7")), 1)
    assert f"purged, and what follows does not apply without them: {UUID_A}:8-9" in error
    error = the_error(_text(dump(tmp_path, "--from-time", at(-5))), 1)
    assert "the store begins at 2023-11-14T22:13:20Z, later than --from-time" in error
    assert sound(extracted(tmp_path), tmp_path) == (gtids(f"{UUID_A}:10"), gtids(f"{UUID_A}:1-9"))


def test_a_file_that_is_missing_between(tmp_path: Path) -> None:
    first = bytes(Log().begin_file().transaction(1).data)
    put(tmp_path, 1, UUID_A, f1=first, f3=bytes(Log().begin_file(f"{UUID_A}:1-4").transaction(5).data))
    assert f"{UUID_A}:2-4" in the_error(_text(dump(tmp_path)), 1)


@pytest.mark.parametrize("large", [False, True])
def test_damage_ends_it_with_a_whole_transaction(tmp_path: Path, large: bool) -> None:
    """Of a transaction that is larger than all buffers nothing goes out either."""
    sizes = (3_000_000,) * 3 if large else (100,)
    first = Log().begin_file().transaction(1).transaction(2, sizes=sizes)
    data = bytearray(first.data)
    data[first.at(first.events[-1].start) - 50] ^= 1  # in the last rows, near the transaction's end
    timeline = put(tmp_path, 1, UUID_A, f1=bytes(first.data), f2=bytes(Log().begin_file(first.set).data))
    contents = read_contents(timeline / FIRST)
    assert contents is not None
    write_index(Quick(), timeline, contents.summary(FIRST, len(data)), b"")
    (timeline / FIRST).write_bytes(data)
    done = dump(tmp_path)
    error = the_error(subprocess.CompletedProcess([], done.returncode, "", done.stderr.decode()), 4)
    assert f"{timeline / FIRST}: the event at" in error and "fails its CRC-32" in error
    assert sound(done.stdout, tmp_path)[0] == gtids(f"{UUID_A}:1")


@pytest.mark.parametrize("algorithm", [CRC32, OFF])
def test_large_transactions_go_through_whole(tmp_path: Path, algorithm: ChecksumAlgorithm) -> None:
    log = (
        Log(algorithm).begin_file().transaction(1).transaction(2, sizes=(2_500_000, 100, 1_400_000, 900_000, 3_000_000))
    )
    log.transaction(3).transaction(4, sizes=(600_000,)).transaction(5, sizes=(5_000_000,))
    unended = Log(algorithm).begin_file(log.set).transaction(6)
    unended.gtid(7)
    unended.query(b"BEGIN")
    for _ in range(6):
        unended.rows(1_000_000)
    put(tmp_path, 1, UUID_A, f1=bytes(log.data), f2=bytes(unended.data), f3=bytes(Log(CRC32).begin_file(log.set).data))
    data = extracted(tmp_path, Wanted(without=gtids(f"{UUID_A}:4")))
    assert sound(data, tmp_path)[0] == gtids(f"{UUID_A}:1-3:5-6")
    start, end = log.starts[3], log.ends[3]
    kept = bytes(log.data[:start] + log.data[end:])
    found = bodies(data, algorithm.length)
    stored = bodies(kept, algorithm.length) + bodies(bytes(unended.data), algorithm.length)
    assert found == stored[:-8], "all but the seventh, which does not end"


def test_what_is_older_than_gtids_is_in_every_backup(tmp_path: Path) -> None:
    old = bytes(Log().begin_file().transaction().transaction().data)
    put(tmp_path, 1, UUID_A, f1=old, f2=bytes(Log().begin_file().transaction(1).transaction(2).data))
    added, _ = sound(extracted(tmp_path, Wanted(without=gtids(f"{UUID_A}:1"))), tmp_path)
    assert added == gtids(f"{UUID_A}:2")


def test_no_binary_log_goes_to_a_terminal(tmp_path: Path) -> None:
    make_store(tmp_path)
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "binlogd", "dump", "--data-dir", str(tmp_path)]
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"no text for a terminal" in done.stderr


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    log = Log().begin_file()
    for number in range(1, 200):
        log.transaction(number, sizes=(20_000,))
    put(tmp_path, 1, UUID_A, f1=bytes(log.data))
    command = f"{sys.executable} -m binlogd dump --data-dir {tmp_path} | head -c 100 | wc -c"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == (b"100", b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from-gtid", "nonsense"),
        ("--to-time", "yesterday"),
        ("--from-time", "2026-11-22T18:00:00Z", "--to-time", "2026-11-22T18:00:00Z"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    make_store(tmp_path)
    the_error(_text(dump(tmp_path, *arguments)), 2)


# --- files that are purged meanwhile ---


def test_files_that_are_purged_before_it_is_known_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """As if they had been before: what is left is written, and what is asked for and gone is named."""
    folder = store_of(tmp_path, data_of(chain(4)))
    purging_at_first(monkeypatch, extract, "read_file", folder)
    command(["--data-dir", str(tmp_path)], standalone_mode=False)
    output = capfdbinary.readouterr().out
    assert output == extracted(tmp_path)
    assert sound(output, tmp_path) == (gtids(f"{UUID_A}:5-8"), gtids(f"{UUID_A}:1-4"))
    other = store_of(tmp_path / "other", data_of(chain(4)))
    purging_at_first(monkeypatch, extract, "read_file", other)
    with pytest.raises(BinlogdError, match=f"were purged, and .* without them: {UUID_A}:2-4"):
        command(["--from-gtid", f"{UUID_A}:1", "--data-dir", str(other.path)], standalone_mode=False)
    assert capfdbinary.readouterr().out == b""


def test_what_is_before_the_range_may_be_purged_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = store_of(tmp_path, data_of(chain(4)))
    has = f"{UUID_A}:1-5"
    expected = extracted(tmp_path, Wanted(without=gtids(has)))
    purging_at_first(monkeypatch, extract, "read_file", folder)
    command(["--from-gtid", has, "--data-dir", str(tmp_path)], standalone_mode=False)
    assert capfdbinary.readouterr().out == expected
    planned = plan(folder, Wanted(without=gtids(f"{UUID_A}:1-7")))
    remove_to(folder, 1)
    out = bytearray()
    Extraction(planned, out.extend).run()
    assert sound(bytes(out), tmp_path)[0] == gtids(f"{UUID_A}:8")


def test_a_file_that_is_purged_before_it_is_written_ends_the_output(tmp_path: Path) -> None:
    folder = store_of(tmp_path, data_of(chain(4)))
    out = bytearray()

    def write(data: memoryview) -> None:
        out.extend(data)
        if todo:
            remove_to(folder, todo.pop())

    todo = [2]
    planned = plan(folder, Wanted())
    with pytest.raises(StoreUnreadable, match=r"000002 was purged before .* the output ends before it") as told:
        Extraction(planned, write).run()
    assert told.value.exit_code == 4
    assert sound(bytes(out), tmp_path)[0] == gtids(f"{UUID_A}:1-2")


def test_a_file_that_is_purged_while_it_is_written_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leap in it, too, which looks at its marks."""
    log = Log().begin_file()
    for gno in range(1, 600):
        log.transaction(gno, sizes=(3000,))
    log.rotate("mysql-bin.000002")
    other = Log().begin_file(log.set).transaction(600)
    folder = store_of(tmp_path, {FIRST: log.data, "mysql-bin.000002": other.data})
    tail_of(recover(folder, Quick())).close()
    wanted = Wanted(without=gtids(f"{UUID_A}:1-590"))
    expected = extracted(tmp_path, wanted)
    planned = plan(folder, wanted)

    def purging(path: Path) -> Iterator[Mark]:
        marks = list(read_marks(path))
        assert len(marks) > 1
        remove_to(folder, 1)
        return iter(marks)

    monkeypatch.setattr(extract, "read_marks", purging)
    out = bytearray()
    Extraction(planned, out.extend).run()
    assert bytes(out) == expected
