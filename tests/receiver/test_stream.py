"""One dump, from a socket to the disk to the ACK: what is stored, and in which order things become true."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.events import FormatDescription, for_position_start, heartbeat_v1, heartbeat_v2
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm, EventType, Header
from binlogd.errors import EventError, ProtocolError, ServerError, SourceRefused, StoreUnreadable, Unreachable
from binlogd.receiver import stream as stream_module
from binlogd.receiver.link import Stopped
from binlogd.receiver.plan import Start
from binlogd.store.index import read_summary
from binlogd.store.publication import Publication
from binlogd.store.recovery import recover
from binlogd.store.tail import Tail
from binlogd.wire.compression import Algorithm
from binlogd.wire.packets import encode_packets
from tests.binlog import builders
from tests.binlog.making import CRC32, OFF, SERVER_ID, UUID_A, Log, broken, sample
from tests.receiver.support import Running, compressed, dump, found, fresh, rotate_to, start_of, whole_file
from tests.store.support import FIRST, SECOND, Held, Quick, Recording, chain, newest

pytestmark = pytest.mark.usefixtures("closing")

ALGORITHMS = pytest.mark.parametrize("algorithm", [CRC32, OFF], ids=["CRC32", "none"])


def small() -> Log:
    return Log().begin_file().transaction(1).statement(2).transaction(3)


# --- what is stored ---


@ALGORITHMS
@pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
def test_a_file_from_its_beginning(tmp_path: Path, algorithm: ChecksumAlgorithm, semi_sync: bool) -> None:
    log = sample(algorithm)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=semi_sync, announced=algorithm.length)
    with pytest.raises(Unreachable, match="closed the connection"):
        running.run(dump(whole_file(log, announced=algorithm, flag_ends=semi_sync), semi_sync=semi_sync))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert running.published[-1] == tail.publication == recover(folder, Quick()).publication
    assert tail.publication.executed == log.set
    assert tail.publication.position == log.position
    assert running.progress.transactions_received == len(log.ends)
    assert (running.progress.file, running.progress.position) == (FIRST, log.position)


def test_what_came_with_the_answers_before_is_part_of_the_stream(tmp_path: Path) -> None:
    log = sample()
    script = dump(whole_file(log))
    for split in (1, 3, 60, 700, len(script)):
        folder, tail, disk = fresh(tmp_path / str(split))
        running = Running(tail, disk, received=script[:split])
        with pytest.raises(Unreachable):
            running.run(script[split:])
        assert (newest(folder).path / FIRST).read_bytes() == log.data


def test_in_single_bytes(tmp_path: Path) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    script = dump(whole_file(log, flag_ends=True), semi_sync=True)
    with pytest.raises(Unreachable):
        running.run(*(script[at : at + 1] for at in range(len(script))))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert running.acks()[-1] == (FIRST, log.position)


@pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
def test_what_is_made_for_the_stream_is_never_stored(tmp_path: Path, semi_sync: bool) -> None:
    log = small()
    extra = [
        heartbeat_v1(FIRST, log.position, server_id=SERVER_ID, algorithm=CRC32),
        heartbeat_v2(FIRST, log.position, server_id=SERVER_ID, algorithm=CRC32),
        builders.event(EventType.MARIADB_GTID_LIST, bytes(6), flags=0x20),
    ]
    events = whole_file(log)
    mixed = events[:2] + [each for event in events[2:] for each in (event, *extra)]
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=semi_sync)
    with pytest.raises(Unreachable):
        running.run(dump(mixed, semi_sync=semi_sync))
    assert (newest(folder).path / FIRST).read_bytes() == log.data


def test_files_that_follow_each_other(tmp_path: Path) -> None:
    logs = chain(4)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump([event for name, log in logs.items() for event in whole_file(log, name)]))
    path = newest(folder).path
    for name, log in logs.items():
        assert (path / name).read_bytes() == log.data
    assert [name for name in logs if read_summary(path / name, logs[name].position)] == list(logs)[:-1]
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1-8")
    assert (path / "mysql-bin.index").read_text() == "".join(f"./{name}\n" for name in logs)
    assert running.progress.transactions_received == 8
    places = [(publication.file, publication.position) for publication in running.published]
    assert places == sorted(places)


def test_the_algorithm_of_the_fake_rotate_is_the_previous_files(tmp_path: Path) -> None:
    first, second, third = (Log(algorithm, created=1).begin_file() for algorithm in (CRC32, OFF, CRC32))
    names = [FIRST, SECOND, "mysql-bin.000003"]
    events = [*whole_file(first, FIRST, announced=OFF), *whole_file(second, SECOND, announced=CRC32)]
    events += whole_file(third, names[2], announced=OFF)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, announced=0)
    with pytest.raises(Unreachable):
        running.run(dump(events))
    assert newest(folder).binlogs() == names
    for name, log in zip(names, (first, second, third), strict=True):
        assert (newest(folder).path / name).read_bytes() == log.data


def test_a_fake_rotate_that_is_corrupt(tmp_path: Path) -> None:
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(EventError, match="artificial ROTATE"):
        running.run(dump([broken(rotate_to(FIRST), 30)]))
    assert newest(folder).binlogs() == []


@pytest.mark.parametrize(
    "name", ["../evil.000001", "a/b.000001", ".hidden.000001", "mysql-bin", "x.1", "x.000001.idx", ""]
)
def test_a_name_that_no_server_gives(tmp_path: Path, name: str) -> None:
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(ProtocolError):
        running.run(dump([rotate_to(name), *small().each()]))
    assert list(newest(folder).path.iterdir()) == []


def test_a_format_description_without_its_rotate(tmp_path: Path) -> None:
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(ProtocolError, match="without the ROTATE"):
        running.run(dump(small().each()))
    assert newest(folder).binlogs() == []


def test_large_transactions_pass_through(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1, sizes=(9_000_000, 17_000_000)).transaction(2)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(log, flag_ends=True), semi_sync=True))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert running.acks()[-1] == (FIRST, log.position)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
@pytest.mark.parametrize("again", [0, 1], ids=["MySQL", "MariaDB"])
def test_compressed(tmp_path: Path, algorithm: Algorithm, semi_sync: bool, again: int) -> None:
    log = sample().transaction(50, sizes=(3_000_000,)).transaction(51)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=semi_sync, compression=algorithm)
    events = whole_file(log, flag_ends=semi_sync)
    with pytest.raises(Unreachable, match="closed the connection"):
        running.run(compressed(events, algorithm, semi_sync=semi_sync, piece=16384, again=again))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert tail.publication.position == log.position
    if semi_sync:
        assert running.acks()[-1] == (FIRST, log.position)


def test_what_is_decompressed_before_a_broken_packet_is_kept(tmp_path: Path) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, compression=Algorithm.ZLIB)
    script = compressed(whole_file(log), Algorithm.ZLIB, semi_sync=False, piece=16384)
    running.theirs.sendall(script + b"\x01\0\0\x77\0\0\0x")
    with pytest.raises(ProtocolError, match="compressed packets out of order"):
        running.run()
    assert (newest(folder).path / FIRST).read_bytes() == log.data


# --- the order in which things become true ---


def check_order(steps: list[str]) -> None:
    """Nothing is acknowledged or published while something of its file is written and not synced."""
    dirty = False
    for step in steps:
        if step == f"write {FIRST}":
            dirty = True
        elif step == f"sync {FIRST}":
            dirty = False
        elif step.startswith((f"ack {FIRST}", f"publish {FIRST}")):
            assert not dirty, f"{step} stands before the sync of what it is about"


def test_write_then_sync_then_ack_then_publish(tmp_path: Path) -> None:
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(log, flag_ends=True), semi_sync=True))
    begun = running.steps.index(f"publish {FIRST}:{log.events[0].end}")
    assert [step for step in running.steps[begun + 1 :] if not step.endswith(".marks")] == [
        f"write {FIRST}",
        f"sync {FIRST}",
        f"ack {FIRST}:{log.position}",
        f"publish {FIRST}:{log.position}",
    ]
    assert running.acks() == [(FIRST, log.position)], "one for all that asked"
    assert running.progress.acks_sent == 1


def test_the_order_holds_whatever_comes_together(tmp_path: Path) -> None:
    log = sample()
    for size in (7, 50, 333):
        _, tail, disk = fresh(tmp_path / str(size))
        running = Running(tail, disk, semi_sync=True)
        script = dump(whole_file(log, flag_ends=True), semi_sync=True)
        with pytest.raises(Unreachable):
            running.run(*(script[at : at + size] for at in range(0, len(script), size)))
        check_order(running.steps)
        acks = running.acks()
        assert [name for name, _ in acks] == [FIRST] * len(acks)
        assert [position for _, position in acks] == sorted({position for _, position in acks})
        assert acks[-1][1] >= log.ends[-1]


def test_a_transaction_is_acknowledged_before_the_next_one_comes(tmp_path: Path) -> None:
    """Old sources send nothing more until they have their ACK."""
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    events = whole_file(log, flag_ends=True)
    heard: list[bytes] = []

    def source() -> None:
        with running.theirs as theirs:
            theirs.settimeout(20)
            sequence = 1
            for event in events:
                theirs.sendall(dump([event], semi_sync=True, sequence=sequence))
                sequence += 1
                if isinstance(event, tuple) and event[1]:
                    heard.append(theirs.recv(1000))
                    sequence = 1

    thread = threading.Thread(target=source)
    thread.start()
    with pytest.raises(Unreachable):
        running.stream.run()
    thread.join()
    assert [int.from_bytes(ack[5:13], "little") for ack in heard] == log.ends
    assert [step for step in running.steps if step.startswith("ack")] == [f"ack {FIRST}:{end}" for end in log.ends]
    check_order(running.steps)


def test_what_is_asked_for_within_a_transaction_is_acknowledged_and_not_published(tmp_path: Path) -> None:
    log = Log().begin_file().transaction(1).transaction(2)
    middle = log.events[-2]
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    events: list[bytes | tuple[bytes, bool]] = [
        (event, made == middle) for event, made in zip(log.each(), log.events, strict=True)
    ]
    with pytest.raises(Unreachable):
        running.run(dump([rotate_to(FIRST), *events[:-1]], semi_sync=True))
    assert running.acks() == [(FIRST, middle.end)]
    assert tail.publication.position == log.ends[0]
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1")
    check_order(running.steps)


def test_without_semi_sync_nothing_is_acknowledged(tmp_path: Path) -> None:
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(small())))
    assert running.acks() == []
    assert running.published


def test_a_flag_on_what_comes_before_any_file_names_no_place(tmp_path: Path) -> None:
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    with pytest.raises(Unreachable):
        running.run(dump([(rotate_to(FIRST), True)], semi_sync=True))
    assert running.acks() == []


def test_an_ack_for_the_end_of_a_file_names_that_file(tmp_path: Path) -> None:
    logs = chain(2)
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    first = whole_file(logs[FIRST])
    first[-1] = (logs[FIRST].event(-1), True)
    with pytest.raises(Unreachable):
        running.run(dump([*first, *whole_file(logs[SECOND], SECOND)], semi_sync=True))
    assert running.acks() == [(FIRST, logs[FIRST].position)]
    place = running.steps.index(f"ack {FIRST}:{logs[FIRST].position}")
    assert running.steps[place - 1] == f"sync {FIRST}"
    assert f"create .{SECOND}.new" in running.steps[place:]


def test_a_file_is_finished_and_the_next_one_durable_before_it_is_published(tmp_path: Path) -> None:
    logs = chain(2)
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump([*whole_file(logs[FIRST]), *whole_file(logs[SECOND], SECOND)]))
    steps = running.steps
    order = [
        f"publish {FIRST}:{logs[FIRST].position}",
        f"rename .{FIRST}.idx.new {FIRST}.idx",
        f"sync .{SECOND}.new",
        f"rename .{SECOND}.new {SECOND}",
        f"publish {SECOND}:{logs[SECOND].events[0].end}",
    ]
    places = [steps.index(step) for step in order]
    assert places == sorted(places)
    assert steps[places[3] + 1] == "sync folder"


def long_file(transactions: int = 59) -> Log:
    log = Log().begin_file()
    for gno in range(1, transactions + 1):
        log.transaction(gno, sizes=(30_000,))
    return log


def always_catching_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first byte to the last, whatever the scheduler does, in steps so small that little shows much."""
    steps = {
        "BUFFER": 100_000,
        "FLOWING": 1,
        "PAUSE": 20.0,
        "WRITE_AT": 50_000,
        "SYNC_AT": 100_000,
        "SYNC_AFTER": 1000.0,
        "UNSYNCED_MOST": 400_000,
    }
    for name, value in steps.items():
        monkeypatch.setattr(stream_module, name, value)


def in_pieces(script: bytes, size: int = 25_000) -> list[bytes]:
    return [script[at : at + size] for at in range(0, len(script), size)]


def check_order_of_syncs(steps: list[str], head: int) -> None:
    """Nothing behind the ``head`` is shown but what was there when a sync began that has ended."""
    covered = durable = head
    for step in steps:
        if step.startswith(f"begin {FIRST}"):
            covered = int(step.rpartition(":")[2])
        elif step == f"sync {FIRST}":
            durable = covered
        elif step.startswith((f"ack {FIRST}", f"publish {FIRST}")):
            assert int(step.rpartition(":")[2]) <= durable, f"{step}, while {durable} bytes are durable"


class Sizing(Held):
    """Notes what each sync in the background saw and left."""

    def __init__(self) -> None:
        super().__init__()
        self.beside: list[tuple[int, int]] = []  # how many steps there were when it ended; how large the file was then

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        if threading.current_thread() is not threading.main_thread():
            self.beside.append((len(self.steps), os.fstat(descriptor).st_size))


@pytest.mark.parametrize("semi_sync", [False, True], ids=["plain", "semi-sync"])
def test_catching_up_syncs_beside_and_publishes_what_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semi_sync: bool
) -> None:
    always_catching_up(monkeypatch)
    log = long_file()
    disk = Sizing()
    folder, tail, _ = fresh(tmp_path, disk)
    running = Running(tail, disk, semi_sync=semi_sync)
    with pytest.raises(Unreachable):
        running.run(*in_pieces(dump(whole_file(log), semi_sync=semi_sync)))
    check_order_of_syncs(running.steps, log.events[0].end)
    assert len(running.published) > 3, "not all at the end"
    assert tail.publication.executed == log.set
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert disk.steps.count(f"sync {FIRST}") <= running.progress.syncs
    assert running.acks() == []


def test_receiving_goes_on_while_the_disk_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always_catching_up(monkeypatch)
    log = long_file()
    disk = Sizing()
    _, tail, _ = fresh(tmp_path, disk)
    running = Running(tail, disk)
    script = dump(whole_file(log))
    release_when_all_came(running, disk, len(script), monkeypatch)
    with pytest.raises(Unreachable):
        running.run(*in_pieces(script))
    assert log.position - disk.beside[0][1] < 50_000 + 100_000, "nearly all was written before the first sync ended"
    check_order_of_syncs(running.steps, log.events[0].end)
    assert tail.publication.executed == log.set


def release_when_all_came(running: Running, disk: Held, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk works as long as the source sends."""
    monkeypatch.setattr(stream_module, "UNSYNCED_MOST", 10 * size)
    real = running.link.receive_into
    came = 0

    def receive_into(buffer: memoryview) -> int | None:
        nonlocal came
        got = real(buffer)
        came += got or 0
        if came >= size:
            disk.release()
        return got

    monkeypatch.setattr(running.link, "receive_into", receive_into)
    disk.hold()


def test_so_much_is_never_unsynced_that_a_crash_would_cost_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit the disk is waited for: it is let go only when nothing more is being received."""
    always_catching_up(monkeypatch)
    log = long_file()
    disk = Sizing()
    _, tail, _ = fresh(tmp_path, disk)
    running = Running(tail, disk)
    real = tail.advance_synced
    most = 0

    def advance_synced() -> Publication | None:
        nonlocal most
        written = (newest_file(tail)).stat().st_size
        most = max(most, written - tail.publication.position)
        disk.release()
        publication = real()
        disk.hold()
        return publication

    def sync() -> None:
        disk.release()
        Tail.sync(tail)

    monkeypatch.setattr(tail, "advance_synced", advance_synced)
    monkeypatch.setattr(tail, "sync", sync)
    disk.hold()
    with pytest.raises(Unreachable):
        running.run(*in_pieces(dump(whole_file(log))))
    assert 400_000 <= most < 400_000 + 100_000 + 50_000, "the limit, what was read, and an unfinished transaction"
    assert tail.publication.executed == log.set


def newest_file(tail: Tail) -> Path:
    return tail.timeline.path / tail.name


def test_who_waits_for_an_ack_waits_for_what_is_under_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always_catching_up(monkeypatch)
    log = long_file(20)
    disk = Sizing()
    _, tail, _ = fresh(tmp_path, disk)
    running = Running(tail, disk, semi_sync=True)
    events = whole_file(log)
    script = dump([*events[:-1], (log.each()[-1], True)], semi_sync=True)
    release_when_all_came(running, disk, len(script), monkeypatch)
    with pytest.raises(Unreachable):
        running.run(*in_pieces(script), hang_up=True)
    check_order_of_syncs(running.steps, log.events[0].end)
    assert running.acks() == [(FIRST, log.position)]
    assert running.steps.index(f"ack {FIRST}:{log.position}") > disk.beside[0][0]


def test_the_kernel_gathers_only_while_catching_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never while the source waits for us."""
    log = long_file(20)
    monkeypatch.setattr(stream_module, "FLOWING", 100_000)
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    gathered: list[int] = []

    def gather(size: int, timeout: float) -> bool:
        gathered.append(running.stream._flowed)
        running.theirs.shutdown(socket.SHUT_WR)
        return False

    monkeypatch.setattr(running.link, "gather", gather)
    with pytest.raises(Unreachable):
        running.run(*in_pieces(dump(whole_file(log, flag_ends=True), semi_sync=True)))
    assert gathered == [], "each transaction of 30 kB asked for an ACK"
    _, tail, disk = fresh(tmp_path / "again")
    running = Running(tail, disk)
    monkeypatch.setattr(running.link, "gather", gather)
    monkeypatch.setattr(stream_module, "FLOWING", 1)
    with pytest.raises(Unreachable):
        running.run(*in_pieces(dump(whole_file(log))), hang_up=False)
    assert min(gathered) >= 1


@pytest.mark.parametrize("ends", ["hang up", "stop"])
def test_an_end_in_the_middle_of_catching_up_publishes_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    always_catching_up(monkeypatch)
    log = long_file()
    disk = Sizing()
    folder, tail, _ = fresh(tmp_path, disk)
    running = Running(tail, disk)
    script = dump(whole_file(log))[:1_000_000]
    real = tail.advance_synced

    def advance_synced() -> Publication | None:
        if ends == "stop":
            running.wake.set()
        return real()

    monkeypatch.setattr(tail, "advance_synced", advance_synced)
    with pytest.raises(Stopped if ends == "stop" else Unreachable):
        running.run(*in_pieces(script), hang_up=ends == "hang up")
    assert not tail.syncing
    tail.close()
    recovered = recover(folder, Quick())
    assert recovered.publication == tail.publication
    assert running.published[-1] == tail.publication


def test_a_disk_that_fails_beside_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    always_catching_up(monkeypatch)
    log = long_file()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)

    durable = log.events[0].end

    def fail(self: Recording, descriptor: int) -> None:
        nonlocal durable
        if threading.current_thread() is not threading.main_thread():
            raise OSError(5, "Input/output error")
        if self._name(descriptor) == FIRST:
            durable = os.fstat(descriptor).st_size

    monkeypatch.setattr(Recording, "sync", fail)
    with pytest.raises(StoreUnreadable, match=f"cannot sync .*{FIRST}: Input/output error"):
        running.run(*in_pieces(dump(whole_file(log))))
    assert running.published[-1].position <= durable
    tail.close()
    assert (newest(folder).path / FIRST).stat().st_size == durable, "the rest is given up"


# --- what ends a stream ---


def test_an_err_packet_comes_after_everything_before_it(tmp_path: Path) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    error = b"\xff\xd4\x04#HY000could not find next log"
    script = dump(whole_file(log), semi_sync=True) + encode_packets(error, len(log.events) + 2)[0]
    with pytest.raises(ServerError, match="could not find next log") as caught:
        running.run(script)
    assert caught.value.code == 1236
    assert tail.publication.executed == log.set
    assert (newest(folder).path / FIRST).read_bytes() == log.data


def test_an_eof_packet(tmp_path: Path) -> None:
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(ProtocolError, match="ended the dump"):
        running.run(dump(whole_file(log)) + encode_packets(b"\xfe\0\0\2\0", len(log.events) + 2)[0])
    assert tail.publication.executed == log.set


@pytest.mark.parametrize("fault", ["checksum", "sequence", "garbage", "gap", "mark"])
def test_what_is_whole_is_kept_published_and_gone_on_from(tmp_path: Path, fault: str) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    events = whole_file(log, flag_ends=True)
    at = next(i for i, made in enumerate(log.events, 1) if made.start == log.ends[0]) + 1
    good, bad = events[:at], log.event(at - 1)
    script = {
        "checksum": dump([*good, broken(bad, 25)], semi_sync=True),
        "sequence": dump(good, semi_sync=True) + dump([bad], semi_sync=True, sequence=99),
        "garbage": dump(good, semi_sync=True) + b"\x05\0\0\x02hello",
        "gap": dump([*good, log.event(at)], semi_sync=True),
        "mark": dump([*good], semi_sync=True) + dump([bad], sequence=2),
    }[fault]
    with pytest.raises(ProtocolError):
        running.run(script)
    assert tail.publication.position == log.ends[0]
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1")
    assert not any(step.startswith("ack") for step in running.steps), "a source that sends nonsense gets no ACK"
    check_order(running.steps)
    tail.rewind()
    assert (newest(folder).path / FIRST).read_bytes() == log.data[: log.ends[0]]
    assert tail.walk is not None
    again = Running(tail, disk)
    with pytest.raises(Unreachable):
        again.run(dump(resumed(log, log.ends[0])))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert tail.publication.executed == log.set


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_connection_lost_at_any_byte(tmp_path: Path, large: bool) -> None:
    """Everything whole stays, the rest comes again, and the file is the source's in the end."""
    log = Log().begin_file().transaction(1).transaction(2, sizes=(3_000_000,) if large else (20,)).statement(3)
    script = dump(whole_file(log))
    folder, tail, disk = fresh(tmp_path)
    cuts = range(0, len(script), 37) if not large else range(700, len(script), 500_000)
    for cut in cuts:
        folder, tail, disk = fresh(tmp_path / str(cut))
        running = Running(tail, disk)
        with pytest.raises(Unreachable):
            running.run(script[:cut])
        tail.rewind()
        position = tail.walk.position if tail.walk else 4
        assert position in (4, log.events[0].end, log.events[1].end, *log.ends)
        again = Running(tail, disk)
        events = resumed(log, position) if position > 4 else whole_file(log)
        with pytest.raises(Unreachable):
            again.run(dump(events))
        assert (newest(folder).path / FIRST).read_bytes() == log.data
        assert tail.publication.executed == log.set
        assert tail.transactions == 3


def test_a_wake_up_ends_it_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, received=dump(whole_file(log)))
    running.wake.set()
    with pytest.raises(Stopped):
        running.run(hang_up=False)
    assert tail.publication.executed == log.set


@pytest.mark.parametrize("flag_ends", [False, True], ids=["catching up", "acknowledging"])
def test_a_stop_is_heard_while_the_source_always_has_more(
    tmp_path: Path, flag_ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("BUFFER", "FLOWING", "SYNC_AT"):
        monkeypatch.setattr(stream_module, limit, 4096)
    log = Log().begin_file()
    for gno in range(1, 500):
        log.transaction(gno)
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    append = tail.append

    def stop(data: memoryview) -> None:
        append(data)
        running.wake.set()

    monkeypatch.setattr(tail, "append", stop)
    with pytest.raises(Stopped):
        running.run(dump(whole_file(log, flag_ends=flag_ends), semi_sync=True))
    assert tail.publication.executed
    assert tail.publication.position < log.position / 2


def test_silence(tmp_path: Path) -> None:
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, timeout=0.05)
    with pytest.raises(Unreachable, match="silent"):
        running.run(dump(whole_file(log)), hang_up=False)
    assert tail.publication.executed == log.set


@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_disk_that_fails_acknowledges_and_publishes_nothing_more(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)
    real = getattr(Recording, step)

    def fail(self: Recording, descriptor: int, *rest: object) -> None:
        if self._name(descriptor) == FIRST:
            raise OSError(5, "Input/output error")
        real(self, descriptor, *rest)

    monkeypatch.setattr(Recording, step, fail)
    with pytest.raises(StoreUnreadable, match=f"cannot {step} .*{FIRST}: Input/output error"):
        running.run(dump(whole_file(log, flag_ends=True), semi_sync=True))
    assert running.acks() == []
    assert [publication.position for publication in running.published] == [log.events[0].end]
    monkeypatch.undo()
    assert recover(folder, Quick()).publication.position >= log.events[0].end


def test_an_ack_that_cannot_be_sent_keeps_what_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = small()
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk, semi_sync=True)

    def fail(data: bytes) -> None:
        raise Unreachable("gone")

    monkeypatch.setattr(running.link, "send", fail)
    with pytest.raises(Unreachable, match="gone"):
        running.run(dump(whole_file(log, flag_ends=True), semi_sync=True))
    assert tail.publication.executed == log.set


# --- going on with a file ---


def resumed(log: Log, position: int, name: str = FIRST) -> list[bytes | tuple[bytes, bool]]:
    """What a source sends from a position on."""
    events: list[bytes | tuple[bytes, bool]] = [rotate_to(name, position), for_position_start(log.event(0))]
    return events + [log.event(index) for index, made in enumerate(log.events) if made.start >= position]


@pytest.mark.parametrize("log_pos", [True, False])
def test_the_preamble_of_a_resumed_dump_is_not_stored(tmp_path: Path, log_pos: bool) -> None:
    log = small()
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(log)[:-1]))
    tail.rewind()
    position = tail.publication.position
    assert position == log.ends[1]
    events = resumed(log, position)
    if log_pos:
        events[1] = log.event(0)  # as COM_BINLOG_DUMP_GTID sends it
    again = Running(tail, disk, semi_sync=True)
    with pytest.raises(Unreachable):
        again.run(dump([*events[:-1], (log.event(-1), True)], semi_sync=True))
    assert (newest(folder).path / FIRST).read_bytes() == log.data
    assert again.acks() == [(FIRST, log.position)]
    assert tail.publication.executed == log.set


def test_going_on_after_recovery_and_into_the_next_file(tmp_path: Path) -> None:
    logs = chain(2)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(logs[FIRST])))
    tail.close()
    tail, disk = found(folder)
    again = Running(tail, disk)
    with pytest.raises(Unreachable):
        again.run(dump([*resumed(logs[FIRST], logs[FIRST].position), *whole_file(logs[SECOND], SECOND)]))
    for name, log in logs.items():
        assert (newest(folder).path / name).read_bytes() == log.data
    assert tail.publication.executed == GtidSet.parse(f"{UUID_A}:1-4")
    assert recover(folder, Quick()).publication == tail.publication


def stopped_at(tmp_path: Path, log: Log) -> Running:
    """A stream about to go on with a stored file."""
    _, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises(Unreachable):
        running.run(dump(whole_file(log)))
    return Running(tail, disk)


def test_a_source_that_sends_another_file_than_asked_for(tmp_path: Path) -> None:
    log = small()
    running = stopped_at(tmp_path, log)
    with pytest.raises(ProtocolError, match=f"asked for {FIRST}, the source sends {SECOND}"):
        running.run(dump(resumed(log, log.position, SECOND)))
    assert running.tail.publication.position == log.position


@pytest.mark.parametrize("change", ["algorithm", "version", "time", "server"])
def test_a_file_that_is_another_than_it_was(tmp_path: Path, change: str) -> None:
    """The source was reset and has written a longer file of that name: its bytes do not go behind ours."""
    log = small()
    running = stopped_at(tmp_path, log)
    event = log.event(0)
    was, header = FormatDescription.decode(event), Header.decode(event)
    fde = replace(
        was,
        algorithm=OFF if change == "algorithm" else CRC32,
        server_version="8.0.37" if change == "version" else was.server_version,
    ).encode(
        server_id=SERVER_ID + (change == "server"),
        timestamp=header.timestamp + (change == "time"),
        log_pos=header.log_pos,
    )
    longer = Log(base=log.position)
    longer.transaction(9)
    with pytest.raises(SourceRefused, match=f"its {FIRST} begins otherwise"):
        running.run(dump([rotate_to(FIRST, log.position), for_position_start(fde), *longer.each()]))
    assert (running.tail.timeline.path / FIRST).read_bytes() == log.data
    assert running.tail.publication.executed == log.set


@pytest.mark.parametrize("name", ["mysql-bin.000003", "other.000002", "mysql-bin.000010"])
def test_a_next_file_that_is_not_the_next(tmp_path: Path, name: str) -> None:
    log = small()
    running = stopped_at(tmp_path, log)
    with pytest.raises(SourceRefused, match=f"{name} follows {FIRST} there"):
        running.run(dump([*resumed(log, log.position), *whole_file(Log().begin_file(), name)]))
    assert newest_names(running) == [FIRST]


def newest_names(running: Running) -> list[str]:
    return running.tail.timeline.binlogs()


def test_a_source_that_was_reset_is_refused(tmp_path: Path) -> None:
    log = small()
    running = stopped_at(tmp_path, log)
    other = Log().begin_file().transaction(99)
    with pytest.raises(SourceRefused, match=f"begins {FIRST} again"):
        running.run(dump([*resumed(log, log.position), *whole_file(other)]))
    assert (running.tail.timeline.path / FIRST).read_bytes() == log.data


def reconnects_where_the_first_file_ends(tmp_path: Path, following: list[bytes | tuple[bytes, bool]]) -> None:
    logs = chain(2)
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    with pytest.raises((EventError, SourceRefused)):
        running.run(dump([*whole_file(logs[FIRST]), *following]))
    tail.rewind()
    assert (tail.name, tail.publication.position) == (FIRST, logs[FIRST].position)
    again = Running(tail, disk, start=Start(FIRST, logs[FIRST].position, "COM_BINLOG_DUMP"))
    with pytest.raises(Unreachable):
        again.run(dump([*resumed(logs[FIRST], logs[FIRST].position), *whole_file(logs[SECOND], SECOND)]))
    assert (newest(folder).path / SECOND).read_bytes() == logs[SECOND].data


def test_a_corrupt_beginning_of_the_next_file_is_fetched_again(tmp_path: Path) -> None:
    fde = broken(chain(2)[SECOND].event(0), 40)
    reconnects_where_the_first_file_ends(tmp_path, [rotate_to(SECOND), fde])


def test_after_a_refusal_the_receiver_can_ask_again(tmp_path: Path) -> None:
    """As it does, when supervised, until the source is what it was."""
    reconnects_where_the_first_file_ends(tmp_path, whole_file(Log().begin_file(), FIRST))


@pytest.mark.parametrize("created", [0, 1_700_000_000], ids=["rotated", "started"])
def test_a_file_that_ends_without_a_word(tmp_path: Path, created: int) -> None:
    """Behind it a server has started, or another history goes on: the source is to prove that it is the same one."""
    first, second = small(), Log(created=created).begin_file(f"{UUID_A}:1-3")
    folder, tail, disk = fresh(tmp_path)
    running = Running(tail, disk)
    both = dump([*whole_file(first), *whole_file(second, SECOND)])
    if created:
        with pytest.raises(Unreachable):
            running.run(both)
    else:
        with pytest.raises(ProtocolError, match=r"goes on with mysql-bin.000002, but what it sent of .* has no end"):
            running.run(both)
        assert newest(folder).binlogs() == [FIRST]
        assert tail.publication.position == first.position
        tail.rewind()
        start = Start(FIRST, first.position, "COM_BINLOG_DUMP")
        waiting = heartbeat_v1(FIRST, first.position, server_id=SERVER_ID, algorithm=CRC32)
        with pytest.raises(ProtocolError, match="has no end"):
            Running(tail, disk, start=start).run(
                dump([*resumed(first, first.position), waiting, *whole_file(second, SECOND)])
            )
        tail.rewind()
        with pytest.raises(Unreachable):
            Running(tail, disk, start=start).run(dump([*resumed(first, first.position), *whole_file(second, SECOND)]))
    assert newest(folder).binlogs() == [FIRST, SECOND]
    assert (newest(folder).path / SECOND).read_bytes() == second.data


def test_a_start_is_planned_from_the_tail(tmp_path: Path) -> None:
    log = small()
    running = stopped_at(tmp_path, log)
    assert start_of(running.tail) == Start(FIRST, log.position, "COM_BINLOG_DUMP")
