"""A stream under test: a real socket, a scripted source at its other end, and a record of what happened in which order.

The script is bytes that a source would send, made beforehand; nothing answers.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from binlogd.binlog.events import fake_rotate
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.receiver.link import Link, Wake
from binlogd.receiver.plan import Start
from binlogd.receiver.progress import Progress
from binlogd.receiver.stream import Stream
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.recovery import recover
from binlogd.store.tail import Tail
from binlogd.wire.compression import HEADER_SIZE, Algorithm, CompressedStream
from binlogd.wire.packets import PacketReader
from tests.binlog.feeding import framed
from tests.binlog.making import CRC32, SERVER_ID, Log
from tests.store.support import FIRST, Recording, empty_tail, tail_of


class PairLink(Link):
    """A link over a socket that is connected already, which records what is sent."""

    def __init__(self, ours: socket.socket, steps: list[str], *, timeout: float, wake: Wake) -> None:
        self._ours = ours
        self._steps = steps
        super().__init__("127.0.0.1", 0, timeout=timeout, wake=wake)

    def _connect(self, host: str, port: int) -> socket.socket:
        self._ours.setblocking(False)
        return self._ours

    def send(self, data: bytes) -> None:
        assert data[3] == 0, "an ACK has sequence id 0"
        assert data[4] == 0xEF
        self._steps.append(f"ack {data[13:].decode()}:{int.from_bytes(data[5:13], 'little')}")
        super().send(data)


MADE: list[Running] = []  # to be closed when the test ends, however it ends


class Running:
    """One stream on one tail."""

    def __init__(
        self,
        tail: Tail,
        disk: Recording,
        *,
        semi_sync: bool = False,
        announced: int = 4,
        received: bytes = b"",
        start: Start | None = None,
        timeout: float = 20.0,
        compression: Algorithm | None = None,
    ) -> None:
        self.tail = tail
        self.steps = disk.steps
        self.published: list[Publication] = []
        self.progress = Progress()
        self.wake = Wake()
        ours, self.theirs = socket.socketpair()
        self.link = PairLink(ours, self.steps, timeout=timeout, wake=self.wake)
        if compression is not None:
            self.link.start_compression(compression)
            Link.send(self.link, b"a dump's command")
            assert self.theirs.recv(100)
            self.link.begin_dump(semi_sync=semi_sync)
        self._head = 0 if compression is None else HEADER_SIZE  # bytes before each packet that is sent
        MADE.append(self)
        self.stream = Stream(
            link=self.link,
            tail=tail,
            start=start or start_of(tail),
            announced=announced,
            publish=self._publish,
            progress=self.progress,
            semi_sync=semi_sync,
            sequence=1 if compression is None else None,
            received=received,
        )

    def _publish(self, publication: Publication) -> None:
        self.steps.append(f"publish {publication.file}:{publication.position}")
        self.published.append(publication)

    def run(self, *script: bytes, hang_up: bool = True) -> None:
        """Send the script from a thread of its own, hang up, and run; raises what the stream raises."""

        def send() -> None:
            try:
                for part in script:
                    self.theirs.sendall(part)
                if hang_up:
                    self.theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the stream ended first

        sending = threading.Thread(target=send)
        sending.start()
        try:
            self.stream.run()
        finally:
            self.link.close()
            sending.join()

    def acks(self) -> list[tuple[str, int]]:
        """What the source got, by the wire's own reader."""
        self.theirs.setblocking(False)
        data = b""
        try:
            while part := self.theirs.recv(65536):
                data += part
        except (BlockingIOError, ConnectionResetError):
            pass
        found = []
        while data:
            data = data[self._head :]
            reader = PacketReader(max_payload=1000)
            reader.feed(data)
            payload = reader.next()
            assert payload is not None
            assert payload[0] == 0xEF
            found.append((payload[9:].decode(), int.from_bytes(payload[1:9], "little")))
            data = data[4 + len(payload) :]
        return found

    def close(self) -> None:
        self.link.close()
        self.theirs.close()
        os.close(self.wake.descriptor)


def start_of(tail: Tail) -> Start:
    """As plan_start plans it."""
    return Start(tail.name, tail.walk.position if tail.walk else 4, "COM_BINLOG_DUMP")


def fresh(path: Path, disk: Recording | None = None) -> tuple[DataFolder, Tail, Recording]:
    """An empty store."""
    folder = DataFolder(path)
    disk = disk or Recording()
    folder.prepare(disk)
    tail = empty_tail(folder, disk)
    disk.steps.clear()
    return folder, tail, disk


def found(folder: DataFolder) -> tuple[Tail, Recording]:
    """A store that is there."""
    disk = Recording()
    tail = tail_of(recover(folder, disk), disk)
    disk.steps.clear()
    return tail, disk


def rotate_to(name: str, position: int = 4, algorithm: ChecksumAlgorithm = CRC32) -> bytes:
    """The fake ROTATE."""
    return fake_rotate(name, position, server_id=SERVER_ID, algorithm=algorithm)


def whole_file(
    log: Log, name: str = FIRST, *, announced: ChecksumAlgorithm = CRC32, flag_ends: bool = False
) -> list[bytes | tuple[bytes, bool]]:
    """What a source sends of a file from its beginning."""
    events: list[bytes | tuple[bytes, bool]] = [rotate_to(name, 4, announced)]
    for event, made in zip(log.each(), log.events, strict=True):
        events.append((event, flag_ends and made.end in log.ends))
    return events


def dump(events: Iterable[bytes | tuple[bytes, bool]], *, semi_sync: bool = False, sequence: int = 1) -> bytes:
    """A source's stream."""
    return framed(events, semi_sync=semi_sync, sequence=sequence)


def compressed(
    events: Iterable[bytes | tuple[bytes, bool]], algorithm: Algorithm, *, semi_sync: bool, piece: int, again: int = 0
) -> bytes:
    """A dump in compressed packets of ``piece`` bytes at most, whose ids begin at ``again`` behind a flagged event."""
    packer = CompressedStream(algorithm)
    packets, sequence = [], 1
    gathered: list[bytes | tuple[bytes, bool]] = []
    for event in (*events, None):
        flagged = isinstance(event, tuple) and event[1]
        if event is not None:
            gathered.append(event)
            if not flagged:
                continue
        data = dump(gathered, semi_sync=semi_sync, sequence=sequence)  # after a flush as mysqld counts inside
        for at in range(0, len(data), piece):
            packet = packer.pack(data[at : at + piece])
            packets.append(packet[:3] + bytes([sequence & 0xFF]) + packet[4:])
            sequence = (sequence + 1) & 0xFF
        sequence = again if flagged else sequence
        gathered = []
    return b"".join(packets)
