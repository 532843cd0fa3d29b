"""The Unix sockets in the data folder over which binlogd's processes talk.

``receiver.sock`` and ``sender.sock`` answer lines of JSON with lines of JSON::

    {"ask": "status"}         one object: what this process can say of itself
    {"ask": "order", …}       (receiver) carry out an order, and whether it was (receiver/office.py)
    {"ask": "publications"}   (receiver) the newest publication, and then of every later one what is new (board.py);
                              of those that come faster than they are read, the newest: it holds all before it;
                              null, and no more, while the receiver itself does not know what the store holds

The folder is its owner's alone, and so are the sockets. A socket's path may be longer than the 107 bytes that the
kernel takes, so it is always reached through its open folder, ``/proc/self/fd/N/name``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binlogd.control.board import Board
from binlogd.logs import get_logger
from binlogd.store.publication import Publication

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIVER = "receiver.sock"
SENDER = "sender.sock"
MAX_REQUEST = 16 * 1024  # bytes: a request is one line, an order's with a few names and paths
MAX_REPLY = 256 * 1024 * 1024  # bytes: two GTID sets of a million intervals each, many times over
READ_SIZE = 1024 * 1024  # bytes of publications taken at a time
BACKLOG = 100  # who may wait to be accepted: a few ask, every sender follows
ACCEPT_PAUSE = 0.1  # seconds to wait when out of file descriptors
LISTEN_AGAIN = 5.0  # seconds between two looks whether the socket is still there
SWITCH_INTERVAL = 0.0005  # seconds that a control thread may keep the interpreter from the other: a tenth of the usual
ASK_TIMEOUT = 5.0  # seconds for a status: a snapshot is ready at once, or the process is in trouble

ORDER_TIMEOUT = 30.0  # seconds for an order, which is written to the disk before it counts
UNANSWERED = {"unanswered": True}

Snapshot = Callable[[], dict[str, Any]]
TakeOrder = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]

log = get_logger(__name__)


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A short name for ``path`` while the context lasts."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class ControlServer:
    """Answers on one socket. ``board`` and ``take_order`` are given by the receiver alone.

    It works on when it cannot be asked: on a full disk, without file descriptors, in a folder that was moved. Every
    LISTEN_AGAIN seconds it looks whether its socket is still the one under its name, and makes it anew.
    """

    def __init__(
        self, path: Path, snapshot: Snapshot, board: Board | None = None, take_order: TakeOrder | None = None
    ) -> None:
        self._path = path
        self._snapshot = snapshot
        self._board = board
        self._take_order = take_order
        self._listening: socket.socket | None = None
        self._made: os.stat_result | None = None  # our socket file
        self._tasks: list[asyncio.Task[None]] = []  # that keeps listening, and that accepts
        self._conversations: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._said = ""

    async def start(self) -> None:
        """Listen; a socket file that a dead process left is replaced.

        One that a living process listens on stays: a second sender of a store serves without one, and the status
        shows the first. (Receivers exclude each other by the store's lock.)
        """
        if self._board is not None:
            self._board.attach()
        self._tasks.append(asyncio.create_task(self._keep_listening()))
        self._listen()

    async def stop(self) -> None:
        """Stop listening and end the conversations."""
        self._stopping = True
        for task in (*self._tasks, *self._conversations):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._conversations, return_exceptions=True)
        if self._is_ours():
            with suppress(OSError), reachable(self._path) as path:
                os.unlink(path)
        if self._listening is not None:
            self._listening.close()

    async def _keep_listening(self) -> None:
        while True:
            await asyncio.sleep(LISTEN_AGAIN)
            if not self._is_ours():
                self._listen()

    def _is_ours(self) -> bool:
        """Whether the socket file under our name is the one we made."""
        try:
            with reachable(self._path) as path:
                return self._made is not None and os.path.samestat(os.stat(path), self._made)
        except OSError:
            return False

    def _listen(self) -> None:
        """Make the socket; when that cannot be, say so once."""
        try:
            with reachable(self._path) as path:
                if _listened_on(path):
                    self._say("another process of this kind is at this store; the status shows that one")
                    return
                with suppress(FileNotFoundError):
                    os.unlink(path)
                listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    listening.bind(path)
                    os.chmod(path, 0o600)
                    made = os.stat(path)
                    listening.setblocking(False)
                    listening.listen(BACKLOG)
                except BaseException:
                    listening.close()
                    raise
        except OSError as bad:
            self._say("this process cannot be asked for its status", bad.strerror or "")
            return
        self._said = ""
        for accepting in self._tasks[1:]:
            accepting.cancel()  # and it closes its socket
        self._listening, self._made = listening, made
        self._tasks[1:] = [asyncio.create_task(self._accept(listening))]

    def _say(self, text: str, error: str = "") -> None:
        if text != self._said:
            self._said = text
            log.warning(text, socket=str(self._path), **({"error": error} if error else {}))

    async def _accept(self, listening: socket.socket) -> None:
        with listening:
            while True:
                await _readable(listening)
                try:
                    accepted, _ = listening.accept()  # at once: what a cancelled wait had accepted would be nobody's
                    try:
                        reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=MAX_REQUEST)
                    except OSError:
                        accepted.close()
                        raise
                except BlockingIOError:
                    continue
                except OSError as bad:
                    self._say("this process cannot be asked for its status now", bad.strerror or "")
                    await asyncio.sleep(ACCEPT_PAUSE)
                    continue
                self._said = ""
                task = asyncio.create_task(self._answer(reader, writer))
                self._conversations.add(task)
                task.add_done_callback(partial(self._let_go, writer))

    def _let_go(self, writer: asyncio.StreamWriter, conversation: asyncio.Task[None]) -> None:
        """It has ended, or was cancelled before its first step. Who is slow to read is not waited for at the end."""
        self._conversations.discard(conversation)
        if self._stopping:
            writer.transport.abort()
        else:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # whoever asked went away, or asked nonsense, or we stop
        except OSError as bad:
            self._say("this process cannot be asked for its status now", bad.strerror or "")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            question = json.loads(line)
            asked = question.get("ask") if isinstance(question, dict) else question
            if asked == "status":
                await _say(writer, self._snapshot())
            elif asked == "order" and self._take_order is not None:
                await _say(writer, await self._take_order(question))
            elif asked == "publications" and self._board is not None:
                with writer.get_extra_info("socket").dup() as connection:  # asyncio's own lets nobody else send
                    connection.setblocking(False)
                    await _while_there(reader, self._board.tell(connection))
                return
            else:
                await _say(writer, {"error": f"unknown question {asked!r}"})


async def _readable(listening: socket.socket) -> None:
    """Until somebody wants to be accepted."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(listening, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(listening)


async def _while_there(reader: asyncio.StreamReader, telling: Coroutine[Any, Any, None]) -> None:
    """Run ``telling`` until it ends or the follower is gone.

    A follower says nothing more, so that the end of its words is its end. Without looking, followers that left a
    quiet receiver would add up to its limit of open files.
    """
    tasks = (asyncio.create_task(telling), asyncio.create_task(reader.read(1)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        told, _ = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(told, Exception) and not isinstance(told, OSError):  # a mistake of ours: the follower comes again
            log.error("telling a follower failed", exc_info=told)


def _listened_on(path: str) -> bool:
    """Whether a process listens on a socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # it listens, and has more to answer than its backlog holds
        except OSError:
            return False
        return True


async def _say(writer: asyncio.StreamWriter, data: Mapping[str, Any]) -> None:
    """One line. ConnectionResetError when the other end is gone, which uvloop's own writing takes for a mistake."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(json.dumps(dict(data)).encode() + b"\n")
    await writer.drain()


class ControlThread:
    """A ``ControlServer`` with an event loop of its own, beside a thread that must not wait for it.

    While it runs whoever wants the interpreter gets it soon: to write down a large GTID set takes many milliseconds,
    and the other thread asks for it again after each system call.
    """

    def __init__(self, path: Path, snapshot: Snapshot, board: Board, take_order: TakeOrder | None = None) -> None:
        self._server = ControlServer(path, snapshot, board, take_order)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self._usual_interval = sys.getswitchinterval()

    def start(self) -> None:
        """Listen; returns when the socket is there."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._loop.run_until_complete(self._server.start())
        self._thread.start()

    def call(self, callback: Callable[[], None]) -> None:
        """Have it called in that thread. Safe in a signal handler, until ``stop``."""
        self._loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """Stop listening, and wait for the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._server.stop())
        self._loop.close()
        sys.setswitchinterval(self._usual_interval)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


def is_listened_on(path: Path) -> bool:
    """Whether a process listens on the socket there."""
    try:
        with reachable(path) as name:
            return _listened_on(name)
    except OSError:
        return False


def ask_status(path: Path, *, timeout: float = ASK_TIMEOUT) -> dict[str, Any] | None:
    """What the process behind a socket says of itself; None when none answers."""
    try:
        with reachable(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(name)
            connection.sendall(b'{"ask": "status"}\n')
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline(MAX_REPLY))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


async def ask(path: Path, question: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the process behind a socket answers; None when there is none: nobody heard the question.

    ``UNANSWERED`` when it was asked and no answer came, or not in time: an order may be carried out all the same.
    """
    asked = False
    try:
        async with asyncio.timeout(ORDER_TIMEOUT):
            with reachable(path) as name:
                reader, writer = await asyncio.open_unix_connection(name, limit=MAX_REPLY)
            try:
                asked = True
                await _say(writer, question)
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
    except (OSError, ValueError):  # a TimeoutError is an OSError
        return UNANSWERED if asked else None
    return answer if isinstance(answer, dict) else UNANSWERED


async def follow(path: Path) -> AsyncGenerator[Publication | None, None]:
    """The publications of the receiver behind a socket, until it ends; none when there is no receiver.

    None: there is one, and it does not itself know what the store holds. Of those that have come while the caller was
    busy only the newest is given.
    """
    try:
        with reachable(path) as name:
            reader, writer = await asyncio.open_unix_connection(name)
    except OSError:
        return
    publication: Publication | None = None
    rest = b""
    try:
        await _say(writer, {"ask": "publications"})
        while data := await reader.read(READ_SIZE):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_REPLY:
                return
            for line in lines:
                data = json.loads(line)
                publication = None if data is None else Publication.decode(data, known=publication)
            if lines:
                yield publication
    except ConnectionError:
        return
    finally:
        writer.close()
