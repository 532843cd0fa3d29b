"""``binlogd dump`` of a store of any bytes, compiled and plain: an error with the file's name, or a binary log.

    flags1  1 raw  2 without some  4 of some only  8 from a time  16 to a time  32 a large event  ·  time4 time4
    then    raw: the one file; otherwise events behind their lengths, each led by how it is to be mended (shapes.py),
            a FORMAT_DESCRIPTION with 8 begins another source's history, one without another file

What comes out is whole transactions whatever is wrong, none that was to be left out, and no larger than what is stored
justifies. ``some`` is half of what is stored, of every source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from binlogd.binlog.excerpt import room_for
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import BINLOG_MAGIC
from binlogd.binlog.walk import WHOLE_LIMIT
from binlogd.errors import BinlogdError, EventError
from binlogd.store import extract
from binlogd.store.extract import Extraction, Wanted, plan
from binlogd.store.layout import DataFolder
from binlogd.store.reader import read_contents
from tests.fuzz import shapes
from tests.fuzz.shapes import FORMAT_DESCRIPTION
from tests.fuzz.stream import builds, functions

__all__ = ["functions", "run", "seeds"]

HEAD = 9  # flags and times
MEMORY = Path("/dev/shm")
FILES = 4  # of a store; what is more goes into the last
UUID = "{}aaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
LARGE = WHOLE_LIMIT + 64 * 1024  # bytes put into an event that is to be walked in pieces
STARTS = (33, 34, 42, 162)  # with what a transaction begins
MARIADB_GTID = 162
ROWS = (23, 30)
TRANSACTIONS = 3  # from one seed to the next
EVENTS = 40  # of a seed
MOST = 12 * 1024  # bytes of a seed's events
HEADS = 64 * 1024  # bytes of FORMAT_DESCRIPTION and PREVIOUS_GTIDS that may be put in


def run(data: bytes) -> None:
    """See the package."""
    if len(data) < HEAD:
        return
    flags = data[0]
    histories = [[data[HEAD:]]] if flags & 1 else _histories(data[HEAD:], large=bool(flags & 32))
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        folder = Path(scratch)
        for number, files in enumerate(histories, 1):
            timeline = folder / "binlogs" / f"{number:04}-{UUID.format(number)}"
            timeline.mkdir(parents=True)
            for index, file in enumerate(files, 1):
                (timeline / f"mysql-bin.{index:06}").write_bytes(file)
        stored = [file for files in histories for file in files]
        _dump(folder, stored, _wanted(flags, data[1:5], data[5:HEAD], _half(folder)))


def _half(folder: Path) -> GtidSet:
    """The first half of each run of GTIDs that is stored."""
    found = GtidSet()
    for path in sorted(folder.glob("binlogs/*/*")):
        with suppress(BinlogdError):
            contents = read_contents(path)
            found |= contents.added if contents is not None else GtidSet()
    return GtidSet.from_runs([(sid, tag, first, (first + last) // 2) for sid, tag, first, last in found.runs()])


def _wanted(flags: int, from_time: bytes, to_time: bytes, some: GtidSet) -> Wanted:
    def moment(seconds: bytes) -> int:
        return int.from_bytes(seconds, "little") * 1_000_000

    return Wanted(
        without=some if flags & 2 else None,
        within=some if flags & 4 else None,
        from_time=moment(from_time) if flags & 8 else None,
        to_time=moment(to_time) if flags & 16 else None,
    )


def _dump(folder: Path, stored: list[bytes], wanted: Wanted) -> None:
    said: list[Any] = []
    for walking, _, cutting in builds():
        with _built(walking, cutting):
            said.append(_dumped(folder, wanted))
        assert said[-1] == said[0]
    out, transactions, _ = said[0]
    assert len(out) <= sum(room_for(len(file)) + HEADS for file in stored)
    if not out:
        assert not transactions
        return
    path = folder / "output"
    path.write_bytes(out)
    contents = read_contents(path)
    assert contents is not None
    assert (contents.torn, contents.walk.transaction_end) == ("", len(out))
    assert contents.walk.transactions <= transactions, "one may be what stands between two"
    assert not (wanted.without and contents.added & wanted.without)
    assert wanted.within is None or contents.added <= wanted.within


def _dumped(folder: Path, wanted: Wanted) -> tuple[bytes, int, str]:
    """What was written, how many transactions, and the error that ended it."""
    out, extraction = bytearray(), None
    try:
        planned = plan(DataFolder(folder), wanted)
        extraction = Extraction(planned, out.extend)
        extraction.run()
    except BinlogdError as error:
        assert not isinstance(error, EventError), "one that does not name the file"
        assert "\n" not in str(error)
        return bytes(out), extraction.transactions if extraction else 0, str(error)
    assert extraction.position == len(out)
    return bytes(out), extraction.transactions, ""


@contextmanager
def _built(walking: ModuleType, cutting: ModuleType) -> Iterator[None]:
    """With the hot modules of one build."""
    names = {"Walk": walking.Walk, "Excerpt": cutting.Excerpt, "room_for": cutting.room_for}
    before = {name: getattr(extract, name) for name in names}
    try:
        for name, made in names.items():
            setattr(extract, name, made)
        yield
    finally:
        for name, made in before.items():
            setattr(extract, name, made)


def _histories(body: bytes, *, large: bool) -> list[list[bytes]]:
    """The files of each source."""
    histories: list[list[list[bytes]]] = [[[]]]
    for mends, event in shapes.mended(body, large=LARGE if large else 0):
        files: list[list[bytes]] = histories[-1]
        if event[4:5] == bytes((FORMAT_DESCRIPTION,)) and files[-1] and sum(map(len, histories)) < FILES:
            if mends & 8:
                files = [[]]
                histories.append(files)
            else:
                files.append([])
        files[-1].append(event)
    return [[BINLOG_MAGIC + b"".join(events) for events in files] for files in histories]


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """From real dumps, some transactions at a time behind the head of their file; once more as another source's."""
    for found in shapes.events(captures):
        head: list[bytes] = []
        begins = [at for at, event in enumerate(found) if event[4] in STARTS]
        for number, at in enumerate(begins[::TRANSACTIONS]):
            head = next(([event] for event in reversed(found[:at]) if event[4] == FORMAT_DESCRIPTION), head)
            chosen = [*head, *found[at : at + EVENTS]]
            times = chosen[0][:4] + chosen[-1][:4]
            body = shapes.join(b"\0" + event for event in chosen)
            if len(body) > MOST:
                continue
            for flags in (0, 2, 4, 2 | 4 | 8 | 16):
                yield bytes((flags if found[at][4] != MARIADB_GTID else flags & 24,)) + times + body
            if number % 4 == 0:
                other = shapes.join((b"\0" if index else b"\x08") + event for index, event in enumerate(chosen))
                yield b"\2" + times + body + other
                grown = shapes.join((b"\x10" if event[4] in ROWS else b"\0") + event for event in chosen)
                yield b"\x20" + times + grown
                yield b"\1" + times + _histories(body, large=False)[0][0]
