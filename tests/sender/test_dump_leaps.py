"""Skipping by marks gives every client the bytes that skipping by reading gives it, to the last packet."""

from __future__ import annotations

import asyncio
import builtins
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.binlog.walk import MARK_SPACING, Walk
from binlogd.errors import Refusal
from binlogd.sender import dump as dump_module
from binlogd.sender.catalog import Catalog
from binlogd.sender.dump import DumpRequest
from binlogd.store.index import encode_marks, marks_head, marks_path, read_marks, write_index
from binlogd.store.layout import DataFolder
from binlogd.store.reader import FIRST_EVENT, Contents, publication_of, read_head, read_store, walk_file
from binlogd.store.seek import leap
from testbed.cluster import Cluster
from testbed.mysqld import Server
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, Log, broken
from tests.sender.support import Pair, make_dump, request
from tests.store.support import FIRST, SECOND, Quick, make_store, newest


@pytest.fixture(autouse=True)
def leaps(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Where the dumps of a test leapt to."""
    found: list[int | None] = []

    def noted(*arguments: Any, **keywords: Any) -> int | None:
        found.append(leap(*arguments, **keywords))
        return found[-1]

    monkeypatch.setattr(dump_module, "leap", noted)
    return found


def mark(folder: DataFolder, spacing: int) -> None:
    """Put marks beside every file, as far apart as that; the newest's as while it is received."""
    listing = [timeline.path / name for timeline in folder.timelines() for name in timeline.binlogs()]
    for path in listing:
        descriptor = os.open(path, os.O_RDONLY)
        size = path.stat().st_size
        head = read_head(descriptor, size)
        assert head is not None
        walk = Walk(position=FIRST_EVENT, checksum=head.algorithm.length, spacing=spacing)
        walk_file(descriptor, walk, size)
        os.close(descriptor)
        if path == listing[-1]:
            marks_path(path).write_bytes(marks_head(path.name) + encode_marks(walk.marks))
        else:
            added = GtidSet.from_runs(walk.take_gtids())
            summary = Contents(head, walk, added, size, "").summary(path.name, size)
            write_index(Quick(), path.parent, summary, encode_marks(walk.marks))


def heard(catalog: Catalog, asked: DumpRequest) -> tuple[bytes, str]:
    """Every byte that a client gets who does not want to wait, and with which words the dump is ended, if any."""

    async def body() -> tuple[bytes, str]:
        with Pair() as pair:
            sent = bytearray()

            def take(data: bytes | memoryview) -> bool:
                sent.extend(data)
                return True

            pair.channel.put = take  # type: ignore[method-assign]
            dump = make_dump(catalog, asked, pair)
            why = ""
            try:
                await dump.run()
            except Refusal as refusal:
                why = refusal.message
            assert len(sent) == dump.sent_bytes > 0
            return bytes(sent), why

    return asyncio.run(body())


def catalogs(folder: DataFolder) -> tuple[Catalog, Catalog]:
    """One that knows the marks, and one that knows of none."""
    with_marks, without = Catalog(folder), Catalog(folder)
    for catalog in (with_marks, without):
        catalog.read()
    without.marks = lambda index: iter(())  # type: ignore[method-assign]
    return with_marks, without


def history(chance: random.Random, previous: GtidSet, algorithm: ChecksumAlgorithm, *, orderly: bool) -> Log:
    """A file with whatever a source may log; an orderly one logs nothing without a GTID."""
    log = Log(algorithm, created=1_700_000_000).begin_file(previous)
    used: set[tuple[bytes, str, int]] = set()
    if chance.random() < 0.1 and not orderly:
        log.stop()
    for _ in range(chance.randrange(3, 40)):
        odd = chance.random() if not orderly else 1.0
        if odd < 0.04:
            log.transaction(0)
        elif odd < 0.06:
            log.gtid(chance.choice([0, 500]))  # and nothing of its transaction: the source crashed
        elif odd < 0.08:
            log.query(b"DROP TABLE t")
        elif odd < 0.10:
            chance.choice([log.rotate, log.stop])()
        elif odd < 0.11:
            log.previous(previous)
        else:
            sid, tag = chance.choice([SID_A, SID_A, SID_B]), chance.choice(["", "", "", "nightly"])
            gno = max((g for s, t, g in used if (s, t) == (sid, tag)), default=0) + chance.choice([1, 1, 1, 1, 2])
            if chance.random() < 0.1:
                gno += 20
            if not previous.contains(sid, tag, gno):
                used.add((sid, tag, gno))
                getattr(log, chance.choice(["transaction", "statement", "payload"]))(gno, sid, tag)
    return log


def sets(chance: random.Random, logs: list[Log]) -> Iterator[GtidSet]:
    """What replicas may have: the beginning, with or without holes and more behind it, nothing, everything."""
    gtids = [gtid for log in logs for gtid in log.gtids]
    yield GtidSet()
    yield GtidSet.from_runs((*gtid, gtid[2]) for gtid in gtids)
    for _ in range(12):
        count = chance.randrange(len(gtids) + 1)
        some = [gtid for gtid in gtids[:count] if chance.random() > chance.choice([0, 0, 0.05])]
        some += [gtid for gtid in gtids[count:] if chance.random() < chance.choice([0, 0.3, 0.9])]
        yield GtidSet.from_runs((*gtid, gtid[2]) for gtid in some)


@pytest.mark.parametrize("seed", range(40))
def test_every_byte_is_as_by_reading(tmp_path: Path, leaps: list[int | None], seed: int) -> None:
    chance = random.Random(seed)
    logs: list[list[Log]] = []
    for _ in range(chance.choice([1, 1, 2])):
        before = GtidSet()
        logs.append([])
        for _ in range(chance.randrange(1, 4)):
            log = history(chance, before, chance.choice([CRC32, OFF]), orderly=seed % 2 == 0)
            before |= log.set
            logs[-1].append(log)
            log.rotate() if chance.random() < 0.8 else log.stop()
    named = [{f"mysql-bin.{n:06}": log.data for n, log in enumerate(line, 1)} for line in logs]
    folder = make_store(tmp_path, *named)
    mark(folder, chance.choice([0, 300, 600]))
    with_marks, without = catalogs(folder)
    for has in sets(chance, [log for line in logs for log in line]):
        for asked in (request(has=has), *(request(f"{number + 1:04}:{FIRST}", has=has) for number in range(len(logs)))):
            found = heard(with_marks, asked)
            assert found == heard(without, asked)
            assert ("binlogd follows" in found[1]) is (len(logs) > 1 and asked.file.startswith("0001"))
    if seed % 2 == 0:
        assert any(leaps)


def test_it_leaps_as_far_as_it_may(tmp_path: Path, leaps: list[int | None]) -> None:
    log = Log().begin_file()
    for gno in range(1, 10):
        log.transaction(gno)
    catalog = Catalog(make_store(tmp_path, {FIRST: log.data, SECOND: Log().begin_file(log.set).data}))
    mark(catalog._folder, 0)
    catalog.read()
    for has, offset in (
        (f"{UUID_A}:1-4", log.starts[4]),
        (f"{UUID_A}:1-4:6-9", log.starts[4]),
        (f"{UUID_A}:1", log.starts[1]),
    ):
        heard(catalog, request(has=has))
        assert leaps.pop() == offset
        assert leaps == []
    heard(catalog, request(has=f"{UUID_A}:2-9"))
    heard(catalog, request(FIRST, log.ends[0], has=f"{UUID_A}:1-4"))
    heard(catalog, request(FIRST))
    heard(catalog, request(has=""))
    assert leaps == [], "who lacks the first transaction, or begins elsewhere, leaves nothing out at the beginning"


def test_what_may_wait_for_the_disk_is_read_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is opened for the first time, or read but from the page cache; the event loop has others to serve."""
    log = Log().begin_file().transaction(1).transaction(2).transaction(3)
    log.rotate()
    second = Log().begin_file(log.set).transaction(4).transaction(5)
    folder = make_store(tmp_path, {FIRST: log.data, SECOND: second.data})
    mark(folder, 0)
    catalog = Catalog(folder)
    catalog.read()
    opened: list[str] = []
    here = threading.current_thread()
    really = os.open, builtins.open

    def noted(path: Any) -> None:
        if isinstance(path, (str, Path)) and Path(path).name.startswith("mysql-bin") and str(path) not in opened:
            opened.append(str(path))
            assert threading.current_thread() is not here

    def open_descriptor(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        noted(path)
        return really[0](path, flags, mode, dir_fd=dir_fd)

    def open_file(path: Any, *arguments: Any, **options: Any) -> Any:
        noted(path)
        return really[1](path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_descriptor)
    monkeypatch.setattr(builtins, "open", open_file)
    for asked in (request(has=f"{UUID_A}:1-2"), request(FIRST, log.ends[0], has=f"{UUID_A}:1"), request(FIRST)):
        opened.clear()
        assert heard(catalog, asked)
        assert {Path(path).name for path in opened} >= {FIRST, SECOND}
        assert f"{catalog.path(0)}.idx" in opened


def test_where_a_file_of_many_mebibytes_is_finished_or_received_little_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the marks that the store itself makes."""
    log = Log().begin_file()
    for gno in range(1, 200):
        log.transaction(gno, sizes=(100_000,))
    folder = make_store(tmp_path, {FIRST: log.data})
    catalog = Catalog(folder)
    catalog.read()  # no receiver, no marks: this walk knows them
    read = 0
    preadv = os.preadv

    def counted(descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
        nonlocal read
        size = preadv(descriptor, buffers, offset, flags)
        read += size
        return size

    monkeypatch.setattr(os, "preadv", counted)
    for has in (f"{UUID_A}:1-198", f"{UUID_A}:1-199"):
        read = 0
        assert len(heard(catalog, request(has=has))) < 200_000
        assert 0 < read <= MARK_SPACING + 2 * 100_000
    (newest(folder).path / SECOND).write_bytes(Log().begin_file(log.set).data)
    mark(folder, MARK_SPACING)
    catalog = Catalog(folder)
    catalog.read()
    read = 0
    heard(catalog, request(FIRST, has=f"{UUID_A}:1-198"))
    assert 0 < read <= MARK_SPACING + 2 * 100_000


def test_marks_behind_what_is_published_are_not_gone_to(tmp_path: Path, leaps: list[int | None]) -> None:
    log = Log().begin_file()
    for gno in range(1, 10):
        log.transaction(gno)
    folder = make_store(tmp_path, {FIRST: log.data})
    mark(folder, 0)
    catalog = Catalog(folder)
    whole = publication_of(read_store(folder))
    for count in range(2, 10):
        catalog.update(replace(whole, position=log.ends[count - 1]))
        data = heard(catalog, request(has=f"{UUID_A}:1-9"))
        assert leaps.pop() == log.starts[count - 1]
        assert len(data) < 400


@pytest.mark.parametrize("how", ["another GTID", "another place", "damaged", "torn", "no GTID event"])
def test_a_mark_that_the_file_does_not_bear_out_is_not_believed(
    tmp_path: Path, leaps: list[int | None], how: str
) -> None:
    log = Log().begin_file()
    for gno in range(1, 6):
        log.transaction(gno)
    folder = make_store(tmp_path, {FIRST: log.data})
    path = newest(folder).path / FIRST
    mark(folder, 0)
    catalog = Catalog(folder)
    whole = publication_of(read_store(folder))
    marks = list(read_marks(path))
    if how == "another GTID":
        marks[4] = marks[4]._replace(gno=77)
    elif how == "another place":
        marks[4] = marks[4]._replace(offset=log.events[-1].start)
    elif how == "torn":
        whole = replace(whole, position=marks[4].offset + 30)
    elif how == "no GTID event":
        marks[4] = marks[4]._replace(sid=b"", gno=0)
    else:
        path.write_bytes(broken(bytes(log.data), marks[4].offset + 30))
    catalog.update(whole)
    marks_path(path).write_bytes(marks_head(FIRST) + encode_marks(marks))
    if how in ("damaged", "torn"):
        size = catalog.logs[0].size
        assert leap(path, marks, events=log.starts[0], end=size, has=log.set, checksum_length=4) is None
        return
    _, without = catalogs(folder)
    asked = request(has=f"{UUID_A}:1-4")
    assert heard(catalog, asked) == heard(without, asked)
    assert leaps[0] == (log.starts[3] if how == "no GTID event" else None)


def test_previous_gtids_that_are_too_long_for_a_packet(
    tmp_path: Path, leaps: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump_module, "LONGEST_PREVIOUS", 50)
    log = Log().begin_file(f"{UUID_A}:1-5").transaction(6).transaction(7)
    folder = make_store(tmp_path, {FIRST: log.data})
    mark(folder, 0)
    with_marks, without = catalogs(folder)
    asked = request(FIRST, has=f"{UUID_A}:1-6")
    assert heard(with_marks, asked) == heard(without, asked)
    assert leaps == []


def test_a_file_without_previous_gtids(tmp_path: Path, leaps: list[int | None]) -> None:
    log = Log().begin_file(None).transaction(1).transaction(2)
    folder = make_store(tmp_path, {FIRST: log.data})
    mark(folder, 0)
    with_marks, without = catalogs(folder)
    asked = request(has=f"{UUID_A}:1")
    assert heard(with_marks, asked) == heard(without, asked)
    assert leaps[0] == log.starts[1]


# --- real files ---

INSERT = "INSERT INTO d.t (v) VALUES ('x')"


def insert(server: Server) -> None:
    """Some hundred transactions of different kinds, over three files."""
    server.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(900))")
    for _ in range(3):
        server.execute(*[INSERT] * 30, "BEGIN", *[INSERT] * 3, "COMMIT", "UPDATE d.t SET v = 'y'")
        server.execute("XA START 'g'", INSERT, "XA END 'g'", "XA PREPARE 'g'", "XA COMMIT 'g'")
        if not server.distribution.is_mariadb and server.distribution.version >= (8, 3, 0):
            server.execute("SET gtid_next='AUTOMATIC:nightly'", *[INSERT] * 10)
            server.execute("SET binlog_transaction_compression=ON", *[INSERT] * 10)
            server.execute(f"SET gtid_next='{UUID_A}:{random.randrange(1, 10**9)}'", INSERT, "SET gtid_next=AUTOMATIC")
        server.execute("FLUSH BINARY LOGS")
    server.execute(*[INSERT] * 20)


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["mysql", "mysql_56", "mariadb"])
def test_files_of_real_servers(
    request: pytest.FixtureRequest, tmp_path: Path, leaps: list[int | None], kind: str
) -> None:
    with Cluster(tmp_path, request.getfixturevalue(kind)) as cluster:
        server = cluster.server(replication_user=False)
        insert(server)
        names = [log.name for log in server.binary_logs()]
        server.stop()
        folder = make_store(tmp_path / "store", {name: (server.binlog_dir / name).read_bytes() for name in names})
    mark(folder, 1000)
    with_marks, without = catalogs(folder)
    executed = with_marks.publication.executed
    chance = random.Random(1)
    gtids = [(sid, tag, gno, gno) for sid, tag, first, last in executed.runs() for gno in range(first, last + 1)]
    beginnings = [gtids[: chance.randrange(len(gtids) + 1)] for _ in range(10)]
    holes = [[gtid for gtid in gtids if chance.random() > 0.02] for _ in range(5)]
    for has in [GtidSet(), executed, *map(GtidSet.from_runs, beginnings + holes)]:
        for asked in (dump_request(has), dump_request(has, names[0])):
            assert heard(with_marks, asked) == heard(without, asked)
    assert bool(executed) is any(leaps) is (kind != "mariadb")


def dump_request(has: GtidSet, file: str = "") -> DumpRequest:
    return request(file, has=has)
