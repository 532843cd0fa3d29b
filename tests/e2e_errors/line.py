"""A receiver of this process on a line to a real source: connections by the thousand, and a look at every ACK.

``binlogd`` as a process (testbed/binlogd.py) waits between two attempts, as it must; here it comes back at once, so
that a test can break the line at every byte. Everything else is the product's own: the receiver with its session,
stream and store.

An ACK is looked at as it passes the proxy: what it names must have been synced before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogd.receiver import receiver as receiver_module
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Desk, Orders
from binlogd.receiver.progress import Progress, State
from binlogd.receiver.receiver import Backoff, Receiver
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import recover
from binlogd.store.watch import Watch
from binlogd.wire.compression import HEADER_SIZE
from testbed.binlogd import IN_USE_AT
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER
from testbed.mysqld import Server
from testbed.proxy import DOWN, UP, Proxy

PAUSE = 0.0005  # seconds before the next attempt
PATIENCE = 60.0  # seconds: two cores that others use too

Place = tuple[str, int]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is back at once, however often."""
    monkeypatch.setattr(receiver_module, "BACKOFF_SHORTEST", PAUSE)
    monkeypatch.setattr(receiver_module, "BACKOFF_LONGEST", PAUSE)
    monkeypatch.setattr(receiver_module, "Backoff", lambda *_: Backoff(PAUSE, PAUSE))


class Synced(Disk):
    """A disk that remembers what is durable: the size of each file when its last sync began, by name."""

    def __init__(self, *, durable: bool) -> None:
        self.sizes: dict[str, int] = {}
        self._durable = durable

    def sync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if self._durable:
            super().sync(descriptor)
        self.sizes[Path(os.readlink(f"/proc/self/fd/{descriptor}")).name] = size


class Reports(Progress):
    """Keeps every error that ended a connection, and calls for a look at what is stored then."""

    __slots__ = ("errors", "look")

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.look = look

    def failed(self, state: State, message: str, hint: str, *, alarm: str = "", code: int = 0) -> None:
        self.errors.append(message)
        super().failed(state, message, hint, alarm=alarm, code=code)
        self.look()


class Line:
    """A store, a receiver that keeps it, and the proxy through which it reaches a source.

    Whenever a connection ends, what is published is compared with ``history``, the source's files, if given.
    ``options`` are SourceOptions'.
    """

    def __init__(
        self,
        folder: Path,
        proxy: Proxy,
        *,
        history: dict[str, bytes] | None = None,
        durable: bool = True,
        **options: Any,
    ) -> None:
        self.data = folder
        self.proxy = proxy
        self.disk = Synced(durable=durable)
        self.history = history
        self.progress = Reports(self._compare)
        self.acks: list[Place] = []
        self.early: list[Place] = []
        """ACKs that named what was not durable: none, or something acknowledged can be lost."""
        self._options: dict[str, Any] = {
            "host": proxy.host,
            "port": proxy.port,
            "user": REPLICATION_USER,
            "password": Secret(REPLICATION_PASSWORD),
            "tls": Tls.DISABLED,
            "heartbeat": 0.2,
            **options,
        }
        self._head = HEADER_SIZE if self._options.get("compression") else 0
        self._changed = threading.Condition()
        self._publication = NOTHING
        self._wake = Wake()
        self._thread = threading.Thread(target=self._run, name="receiver")
        self.ended: BaseException | None = None
        proxy.corrupt(self._look, UP)

    # --- its life ---

    def __enter__(self) -> Line:
        folder = DataFolder(self.data)
        folder.prepare(self.disk)
        recovered = recover(folder, self.disk)
        self._publication = recovered.publication
        self._receiver = Receiver(
            desk=Desk(Orders((SourceOptions(**self._options),)), self._wake),
            folder=folder,
            disk=self.disk,
            identity=folder.identity(self.disk),
            recover=lambda: recover(folder, self.disk),
            recovered=recovered,
            watch=Watch(self.disk, folder.path),
            publish=self._publish,
            progress=self.progress,
            wake=self._wake,
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        os.close(self._wake.descriptor)

    def stop(self) -> None:
        """In order; raises what the receiver ended with before it was told to."""
        self._wake.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.early == []
        if self.ended is not None:
            raise self.ended

    def _run(self) -> None:
        try:
            self._receiver.run()
        except BaseException as bad:
            self.ended = bad
            with self._changed:
                self._changed.notify_all()

    def _publish(self, publication: Publication) -> None:
        with self._changed:
            self._publication = publication
            self._changed.notify_all()

    def _look(self, offset: int, piece: bytes) -> bytes:
        """An ACK on its way: ``ef pos8 name``, alone in its packet. What TLS makes of it looks like anything."""
        if self._options["tls"] is not Tls.DISABLED:
            return piece
        payload = piece[self._head + 4 :]
        if piece[self._head + 3 : self._head + 5] == b"\0\xef":
            place = payload[9:].decode(), int.from_bytes(payload[1:9], "little")
            self.acks.append(place)
            if self.disk.sizes.get(place[0], 0) < place[1]:
                self.early.append(place)
        return piece

    # --- waiting ---

    @property
    def published(self) -> Place:
        return self._publication.file, self._publication.position

    def wait_for(self, place: Place, *, timeout: float = PATIENCE) -> None:
        """Until that is published; raises what the receiver ended with."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.published >= place or self.ended is not None, timeout)
        if self.ended is not None:
            raise self.ended
        assert reached, f"published {self.published} of {place}; {self.progress.snapshot()}"

    def until(self, condition: Callable[[], object], *, timeout: float = PATIENCE) -> None:
        """Until something else is so."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.ended is not None:
                raise self.ended
            assert time.monotonic() < deadline, self.progress.snapshot()
            time.sleep(0.002)

    def wait_streaming(self) -> None:
        """Until something sound has come of a dump."""
        self.until(lambda: self.progress.state is State.STREAMING and not self.progress.lost_at)

    # --- the store ---

    def stored(self) -> dict[str, bytes]:
        """The binary logs by name."""
        timelines = DataFolder(self.data).timelines()
        return {name: (timelines[-1].path / name).read_bytes() for name in timelines[-1].binlogs()} if timelines else {}

    def _compare(self) -> None:
        """What is published is the source's; behind that the newest file may hold more, which counts for nothing."""
        if self.history is None:
            return
        newest, position = self.published
        stored = self.stored()
        assert not newest or newest in stored
        for name, data in stored.items():
            if name < newest:
                assert data == self.history[name]
            elif name == newest:
                assert len(data) >= position
                assert data[:position] == self.history[name][:position]

    @property
    def cpu(self) -> float:
        """Seconds that the receiver has computed."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))


def history_of(source: Server) -> dict[str, bytes]:
    """What the source has logged, by file; the newest one without the flag that it is written."""
    logs = {log.name: (source.binlog_dir / log.name).read_bytes()[: log.size] for log in source.binary_logs()}
    newest = max(logs)
    data = bytearray(logs[newest])
    data[IN_USE_AT] &= ~1
    return logs | {newest: bytes(data)}


def packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(offset, sequence id, payload) of the packets of a plain connection, which are short."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        yield at, data[at + 3], data[at + 4 : at + 4 + length]
        at += 4 + length


class Recording:
    """What one undisturbed connection carried, both ways, and where the dump began in each."""

    def __init__(self, down: bytes, up: bytes) -> None:
        self.down, self.up = down, up

    @property
    def log_in(self) -> int:
        """Bytes from the source before the dump: the greeting, the log-in and every answer."""
        return next(at for at, _, payload in packets(self.down) if _is_fake_rotate(payload))

    @property
    def dump(self) -> int:
        """Bytes from the source in all."""
        return len(self.down)

    @property
    def boundaries(self) -> list[tuple[int, int]]:
        """(offset, sequence id) of each packet of the dump."""
        return [(at, sequence) for at, sequence, _ in packets(self.down) if at >= self.log_in]

    @property
    def answers(self) -> list[int]:
        """The offset of the first packet of each answer before the dump, behind the log-in."""
        return [at for at, sequence, _ in packets(self.down) if sequence == 1 and at < self.log_in]


def _is_fake_rotate(payload: bytes) -> bool:
    head = 3 if payload[1:2] == b"\xef" else 1
    return payload[:1] == b"\0" and payload[head : head + 5] == b"\0\0\0\0\x04"


def record(folder: Path, source: Server, **options: Any) -> Recording:
    """Receive all once, undisturbed, with a log-in that the source remembers (caching_sha2_password)."""
    with Proxy(source.host, source.port) as proxy, Line(folder / "before", proxy, **options) as line:
        line.wait_for(source.position())
    with Proxy(source.host, source.port, record=True) as proxy:
        with Line(folder / "recorded", proxy, **options) as line:
            line.wait_for(source.position())
            assert line.progress.errors == []
        assert proxy.recorded is not None
        return Recording(bytes(proxy.recorded[DOWN]), bytes(proxy.recorded[UP]))
