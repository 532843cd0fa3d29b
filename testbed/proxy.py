"""A TCP proxy that misbehaves on command.

It listens on a free loopback port and forwards to a target. Everything it does wrong is addressed by byte: a
cut, a stall or a flipped bit happens at an exact offset of one direction's stream, whatever the size of the
reads, so a fault hits the same byte of the protocol in every run. ``UP`` is client to target, ``DOWN`` target
to client. Offsets count from the start of each connection; faults armed by offset strike the first connection
that gets there, once.

One thread with a selector moves all bytes. It never buffers more than CHUNK bytes a direction: a reader that
stalls stalls its peer through the kernel's windows, as on a real network. Commands from other threads take
effect before they return: they run in the proxy's thread.

What a network can do, and which command does it: it breaks (``cut``, ``cut_after``, ``cut_each``), swallows
(``stall``), forgets one connection without a word to either end (``freeze``), is slow (``pace``), and alters what it
carries (``corrupt``, ``corrupt_at``, ``insert_at``).
"""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from testbed.ports import Port

CHUNK = 65536
"""Bytes read at once, and the most held for a slow receiver in one direction."""

CONNECT_TIMEOUT = 10.0
"""Seconds to reach the target; loopback answers at once or refuses."""

COMMAND_TIMEOUT = 30.0
"""Seconds until a command must have run; the loop never blocks longer than a connect."""

T = TypeVar("T")


class Direction(enum.Enum):
    """Which way bytes go."""

    UP = "client to target"
    DOWN = "target to client"


UP, DOWN = Direction.UP, Direction.DOWN


class Cut(enum.Enum):
    """How a connection ends: orderly (FIN), or as when a machine forgot it (RST)."""

    FIN = "fin"
    RST = "rst"


Corruption = Callable[[int, bytes], bytes]
"""Given the offset of a piece of the stream and the piece, the bytes to forward: same length or not."""


@dataclass(slots=True)
class _Faults:
    """What is armed for one direction."""

    stalled: bool = False
    stall_at: int | None = None
    cut_at: int | None = None
    cut_how: Cut = Cut.RST
    cuts: list[int] = field(default_factory=list)
    flips: dict[int, int] = field(default_factory=dict)
    insertions: dict[int, bytes] = field(default_factory=dict)
    corruption: Corruption | None = None
    piece: int = 0
    pause: float = 0.0


@dataclass(slots=True)
class _Pipe:
    """One direction of one connection."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    pending: bytearray = field(default_factory=bytearray)
    read: int = 0
    cut_at: int | None = None
    ready_at: float = 0.0
    frozen: bool = False
    ended: bool = False
    shut: bool = False


class _Link:
    """A client's connection and its counterpart to the target."""

    def __init__(self, client: socket.socket, target: socket.socket) -> None:
        self.client = client
        self.target = target
        self.pipes = {UP: _Pipe(UP, client, target), DOWN: _Pipe(DOWN, target, client)}


class Proxy:
    """Forwards ``host:port`` (its own, free) to ``target`` from construction until :meth:`close`."""

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int, *, record: bool = False) -> None:
        self.target = (target_host, target_port)
        self.recorded: dict[Direction, bytearray] | None = {UP: bytearray(), DOWN: bytearray()} if record else None
        """What was forwarded, in the order of arrival over all connections; only with ``record``."""
        self.bytes = {UP: 0, DOWN: 0}
        """Forwarded so far, over all connections."""
        self.accepted = 0
        """Connections accepted so far, refused ones not counted."""
        self._faults = {UP: _Faults(), DOWN: _Faults()}
        self._links: list[_Link] = []
        self._port = Port()
        self.port = self._port.number
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._commands: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._closing = False
        self._listen()
        self._thread = threading.Thread(target=self._serve, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------- commands

    def cut(self, how: Cut = Cut.RST) -> int:
        """End all connections; how many there were."""

        def run() -> int:
            count = len(self._links)
            for link in list(self._links):
                self._drop(link, how)
            return count

        return self._command(run)

    def cut_after(self, offset: int, direction: Direction = DOWN, how: Cut = Cut.RST) -> None:
        """End the first connection that has forwarded exactly ``offset`` bytes in ``direction``; later ones
        live.

        With FIN the bytes before the cut arrive. With RST the kernel may discard what the receiver has not
        read yet.
        """

        def run() -> None:
            faults = self._faults[direction]
            faults.cut_at, faults.cut_how = offset, how
            for link in list(self._links):
                if faults.cut_at is not None and link.pipes[direction].read >= offset:
                    self._drop(link, how)
                    faults.cut_at = None

        self._command(run)

    def cut_each(self, offsets: Iterable[int], direction: Direction = DOWN, how: Cut = Cut.RST) -> None:
        """End each of the next connections at its own offset, in the order given; those after them live.

        The connections of now live on, and so does one that ends otherwise before its offset.
        """

        def run() -> None:
            faults = self._faults[direction]
            faults.cuts, faults.cut_how = [*offsets], how

        self._command(run)

    @property
    def cuts_left(self) -> int:
        """How many connections that ``cut_each`` is for are still to come."""
        return self._command(lambda: sum(len(faults.cuts) for faults in self._faults.values()))

    def freeze(self, direction: Direction | None = None) -> int:
        """Forget the connections of now, in one direction or both; how many there were.

        Nothing passes on them any more, no end either, and neither peer is told: a peer that lost its power, or a
        firewall that dropped its state. Later connections live.
        """

        def run() -> int:
            for link in self._links:
                for one in (direction,) if direction else Direction:
                    link.pipes[one].frozen = True
            self._watch_all()
            return len(self._links)

        return self._command(run)

    def pace(self, size: int, pause: float, direction: Direction = DOWN) -> None:
        """Forward ``size`` bytes at most and then nothing for ``pause`` seconds, again and again; size 0 ends it."""

        def run() -> None:
            faults = self._faults[direction]
            faults.piece, faults.pause = size, pause
            self._watch_all()

        self._command(run)

    def stall(self, direction: Direction | None = None, *, at: int | None = None) -> None:
        """Stop forwarding, in one direction or both, at once or from offset ``at`` of each connection on.

        Connections stay open: a network that swallows.
        """

        def run() -> None:
            for one in (direction,) if direction else Direction:
                if at is None:
                    self._faults[one].stalled = True
                else:
                    self._faults[one].stall_at = at
            self._watch_all()

        self._command(run)

    def resume(self) -> None:
        """Forward again what was stalled."""

        def run() -> None:
            for faults in self._faults.values():
                faults.stalled, faults.stall_at = False, None
            self._watch_all()

        self._command(run)

    def corrupt_at(self, offset: int, direction: Direction = DOWN, xor: int = 0x01) -> None:
        """Flip the bits ``xor`` of the byte at ``offset`` of the first connection that gets there."""
        if not 0 < xor < 256:
            raise ValueError(f"xor must be a byte that changes something, not {xor}")
        self._command(lambda: self._faults[direction].flips.update({offset: xor}))

    def insert_at(self, offset: int, data: bytes, direction: Direction = DOWN) -> None:
        """Put ``data`` before the byte at ``offset`` of the first connection that gets there."""
        self._command(lambda: self._faults[direction].insertions.update({offset: data}))

    def corrupt(self, corruption: Corruption | None, direction: Direction = DOWN) -> None:
        """Pass every piece of the stream through ``corruption(offset, piece)``; None ends it.

        It runs in the proxy's thread and sees pieces as they were read; use :meth:`corrupt_at` for exact
        bytes.
        """
        self._command(lambda: setattr(self._faults[direction], "corruption", corruption))

    def refuse(self) -> None:
        """Refuse new connections (nobody listens); existing ones go on."""
        self._command(self._unlisten)

    def accept(self) -> None:
        """Listen again after :meth:`refuse`."""
        self._command(self._listen)

    def retarget(self, host: str, port: int) -> None:
        """Forward new connections elsewhere."""
        self._command(lambda: setattr(self, "target", (host, port)))

    @property
    def connections(self) -> int:
        """Connections open now."""
        return self._command(lambda: len(self._links))

    def forwarded(self, direction: Direction = DOWN) -> int:
        """The offset that the newest connection is at."""
        return self._command(lambda: self._links[-1].pipes[direction].read if self._links else 0)

    def wait_for_bytes(self, count: int, direction: Direction = DOWN, *, timeout: float = 30.0) -> None:
        """Wait until ``count`` bytes in all went in ``direction``."""
        deadline = time.monotonic() + timeout
        while self.bytes[direction] < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.bytes[direction]} bytes of {count} {direction.value} within {timeout:.0f} s")
            time.sleep(0.005)

    def close(self) -> None:
        """End everything; may be called twice."""
        if self._thread.is_alive():
            self._command(lambda: setattr(self, "_closing", True))
            self._thread.join(COMMAND_TIMEOUT)
        self._port.release()

    def _command(self, run: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            raise RuntimeError("the proxy is closed")
        future: Future[T] = Future()
        with self._lock:
            self._commands.append((run, future))
        os.write(self._wake_write, b"c")
        return future.result(COMMAND_TIMEOUT)

    # ------------------------------------------------------------------------------------- the proxy's thread

    def _serve(self) -> None:
        try:
            while not self._closing:
                for key, mask in self._selector.select(self._pace()):
                    if key.fd == self._wake_read:
                        self._run_commands()
                    elif key.fileobj is self._listener:
                        self._welcome()
                    elif key.data in self._links:  # else dropped earlier in this round
                        self._move(key.data, key.fileobj, mask)
        finally:
            for link in list(self._links):
                self._drop(link, Cut.RST)
            self._unlisten()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _pace(self) -> float | None:
        """Let the paced pipes go on whose pause is over; seconds until the next one's is, None without any."""
        now = time.monotonic()
        for link in self._links:
            over = [pipe for pipe in link.pipes.values() if 0 < pipe.ready_at <= now]
            for pipe in over:
                pipe.ready_at = 0.0
            if over:
                self._watch(link)
        pauses = [pipe.ready_at - now for link in self._links for pipe in link.pipes.values() if pipe.ready_at]
        return min(pauses, default=None)

    def _run_commands(self) -> None:
        os.read(self._wake_read, CHUNK)
        with self._lock:
            commands, self._commands = self._commands, []
        for run, future in commands:
            try:
                future.set_result(run())
            except BaseException as error:
                future.set_exception(error)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=128)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _welcome(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        try:
            target = socket.create_connection(self.target, timeout=CONNECT_TIMEOUT)
        except OSError:
            _reset(client)  # as close to "connection refused" as a proxy that has accepted can come
            return
        for end in (client, target):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, target)
        for direction, faults in self._faults.items():
            if faults.cuts:
                link.pipes[direction].cut_at = faults.cuts.pop(0)
        self.accepted += 1
        self._links.append(link)
        self._watch(link)
        for pipe in link.pipes.values():
            if pipe.cut_at == 0:
                self._drop(link, self._faults[pipe.direction].cut_how)

    def _watch_all(self) -> None:
        for link in self._links:
            self._watch(link)

    def _watch(self, link: _Link) -> None:
        """Register exactly what can go on: reading where nothing is pending, writing what is."""
        for end in (link.client, link.target):
            events = 0
            for pipe in link.pipes.values():
                if self._is_stalled(pipe):
                    continue
                if pipe.source is end and not pipe.pending and not pipe.ended:
                    events |= selectors.EVENT_READ
                if pipe.sink is end and pipe.pending:
                    events |= selectors.EVENT_WRITE
            if end in self._selector.get_map():
                if events:
                    self._selector.modify(end, events, link)
                else:
                    self._selector.unregister(end)
            elif events:
                self._selector.register(end, events, link)

    def _is_stalled(self, pipe: _Pipe) -> bool:
        faults = self._faults[pipe.direction]
        if pipe.frozen or pipe.ready_at:
            return True
        return faults.stalled or (faults.stall_at is not None and pipe.read >= faults.stall_at and not pipe.pending)

    def _move(self, link: _Link, end: Any, mask: int) -> None:
        try:
            for pipe in link.pipes.values():
                if self._is_stalled(pipe):
                    continue
                if mask & selectors.EVENT_READ and pipe.source is end and not pipe.pending and not pipe.ended:
                    self._receive(pipe)
                if pipe.pending and (mask & selectors.EVENT_WRITE or pipe.source is end):
                    self._send(pipe)
                faults = self._faults[pipe.direction]
                if faults.cut_at is not None and pipe.read >= faults.cut_at and not pipe.pending:
                    faults.cut_at = None
                    self._drop(link, faults.cut_how)
                    return
                if pipe.cut_at is not None and pipe.read >= pipe.cut_at and not pipe.pending:
                    self._drop(link, faults.cut_how)
                    return
                if pipe.ended and not pipe.pending and not pipe.shut:
                    pipe.shut = True
                    pipe.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(link, Cut.RST)
            return
        if all(pipe.shut for pipe in link.pipes.values()):
            self._drop(link, Cut.FIN)
        else:
            self._watch(link)

    def _receive(self, pipe: _Pipe) -> None:
        """Read up to the next armed offset, so that faults split the stream exactly there."""
        faults = self._faults[pipe.direction]
        stops = (faults.cut_at, pipe.cut_at, faults.stall_at, *faults.insertions)
        limits = [stop - pipe.read for stop in stops if stop is not None]
        want = min([CHUNK, *(limit for limit in limits if limit > 0)])
        try:
            piece = pipe.source.recv(want)
        except BlockingIOError:
            return
        if not piece:
            pipe.ended = True
            return
        start, pipe.read = pipe.read, pipe.read + len(piece)
        forwarded = bytearray(piece)
        inserted = faults.insertions.pop(start, b"")
        for offset in [o for o in faults.flips if start <= o < pipe.read]:
            forwarded[offset - start] ^= faults.flips.pop(offset)
        pipe.pending += inserted
        pipe.pending += faults.corruption(start, bytes(forwarded)) if faults.corruption else forwarded

    def _send(self, pipe: _Pipe) -> None:
        faults = self._faults[pipe.direction]
        try:
            sent = pipe.sink.send(pipe.pending[: faults.piece] if faults.piece else pipe.pending)
        except BlockingIOError:
            return
        if faults.piece:
            pipe.ready_at = time.monotonic() + faults.pause
        if self.recorded is not None:
            self.recorded[pipe.direction] += pipe.pending[:sent]
        self.bytes[pipe.direction] += sent
        del pipe.pending[:sent]

    def _drop(self, link: _Link, how: Cut) -> None:
        if link not in self._links:
            return
        self._links.remove(link)
        for end in (link.client, link.target):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            if how is Cut.RST:
                _reset(end)
            else:
                end.close()


def _reset(connection: socket.socket) -> None:
    """Close with RST: lingering for zero seconds discards and resets."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
