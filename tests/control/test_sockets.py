"""The sockets in the data folder: questions, publications, and files that others left."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import socket
import stat
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.control.board import Board
from binlogd.control.sockets import SENDER, UNANSWERED, ControlServer, ControlThread, ask, ask_status, follow, reachable
from binlogd.store.publication import NOTHING, Publication

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
FIRST = Publication(1, "mysql-bin.000001", 400, GtidSet.parse(f"{UUID}:1-3"), GtidSet(), "9.7.4")
WAIT = 20.0


def at(position: int) -> Publication:
    return replace(FIRST, position=position)


def run(body: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT):
            await body

    asyncio.run(limited())


@asynccontextmanager
async def server(path: Path, board: Board | None = None, **says: Any) -> AsyncIterator[ControlServer]:
    control = ControlServer(path, lambda: says, board)
    await control.start()
    try:
        yield control
    finally:
        await control.stop()


def behind(board: Board) -> bool:
    """Whether somebody has not heard all."""
    return not board._followers or any(follower.behind for follower in board._followers)


async def asked(path: Path) -> dict[str, Any] | None:
    return await asyncio.to_thread(ask_status, path)


async def ended(control: ControlServer) -> None:
    """Until the server, too, has let go of those that have asked."""
    while control._conversations:  # noqa: ASYNC110 - for the time it may take
        await asyncio.sleep(0.001)


async def raw(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with reachable(path) as name:
        return await asyncio.open_unix_connection(name)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --------------------------------------------------------------------------------------------------------- status


def test_a_status(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        async with server(path, pid=7, text="主库"):
            assert await asked(path) == {"pid": 7, "text": "主库"}
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()
        assert await asked(path) is None

    run(body())


def test_nobody_answers(tmp_path: Path) -> None:
    assert ask_status(tmp_path / "receiver.sock") is None
    assert ask_status(tmp_path / "absent" / "receiver.sock") is None
    (tmp_path / "receiver.sock").write_text("no socket")
    assert ask_status(tmp_path / "receiver.sock") is None


def test_a_long_path(tmp_path: Path) -> None:
    """sockaddr_un has room for 107 bytes."""

    async def body() -> None:
        folder = tmp_path / ("long" * 30) / ("longer" * 30)
        folder.mkdir(parents=True)
        path = folder / "receiver.sock"
        assert len(os.fsencode(path)) > 300
        board = Board(FIRST)
        async with server(path, board, pid=7):
            assert await asked(path) == {"pid": 7}
            async with aclosing(follow(path)) as news:
                assert await anext(news) == FIRST
        assert not path.exists()

    run(body())


def test_several_questions_on_a_connection_and_nonsense(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "sender.sock"
        async with server(path, pid=7):
            reader, writer = await raw(path)
            for question, answer in (
                ({"ask": "status"}, {"pid": 7}),
                ({"ask": "weather"}, {"error": "unknown question 'weather'"}),
                ({"ask": "publications"}, {"error": "unknown question 'publications'"}),  # no board: a sender
                ({}, {"error": "unknown question None"}),
                (["status"], {"error": "unknown question ['status']"}),
                ({"ask": "status"}, {"pid": 7}),
            ):
                writer.write(json.dumps(question).encode() + b"\n")
                assert json.loads(await reader.readline()) == answer
            writer.close()
            for nonsense in (b"{\n", b"\xff\n", b"x" * 100_000, b'{"ask"'):
                reader, writer = await raw(path)
                writer.write(nonsense)
                writer.write_eof()
                with suppress(ConnectionError):  # it closed with our words unread
                    assert await reader.read() == b""
                writer.close()
            assert await asked(path) == {"pid": 7}

    run(body())


# ---------------------------------------------------------------------------------------------- files that are there


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        async with server(path, pid=8):
            assert await asked(path) == {"pid": 8}
        path.write_text("no socket")
        async with server(path, pid=9):
            assert await asked(path) == {"pid": 9}

    run(body())


def test_a_living_one_is_left_alone(tmp_path: Path) -> None:
    """A second sender of a store must not take the first one's socket, neither coming nor going."""

    async def body() -> None:
        path = tmp_path / "sender.sock"
        async with server(path, pid=1):
            async with server(path, pid=2):
                assert await asked(path) == {"pid": 1}
            assert await asked(path) == {"pid": 1}
        assert not path.exists()

    run(body())


def test_a_socket_that_was_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a folder that was put back from elsewhere, or a disk that was full when we started."""
    monkeypatch.setattr("binlogd.control.sockets.LISTEN_AGAIN", 0.01)
    path = tmp_path / "folder" / "receiver.sock"

    async def body() -> None:
        async with server(path, pid=7) as control:  # there is no place for it yet
            assert await asked(path) is None
            path.parent.mkdir()
            while await asked(path) != {"pid": 7}:  # noqa: ASYNC110 - for the time it may take
                await asyncio.sleep(0.01)
            await ended(control)
            before = descriptors()
            path.unlink()
            while await asked(path) != {"pid": 7}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await ended(control)
            assert descriptors() == before
        assert not path.exists()

    run(body())


def test_without_file_descriptors_it_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line, and not a traceback for each who asked, ten times a second."""
    path = tmp_path / "receiver.sock"

    async def body() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with server(path, pid=7):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(path))
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
                try:
                    await asyncio.sleep(0.35)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            while await asked(path) != {"pid": 7}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    run(body())
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 1
    assert "cannot be asked for its status now" in texts[0]
    assert "Too many open files" in texts[0]


def test_nothing_to_follow_while_the_receiver_knows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "receiver.sock"

    async def body() -> None:
        board = Board(None)
        async with server(path, board, pid=7):
            assert [publication async for publication in follow(path)] == [None]
            board.put(FIRST)
            assert await anext(follow(path)) == FIRST

    run(body())


def test_a_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "sender.sock"
        async with server(path, pid=1):
            path.rename(tmp_path / "elsewhere")
            async with server(path, pid=2):
                assert await asked(path) == {"pid": 2}
                path.rename(tmp_path / "second")
                (tmp_path / "elsewhere").rename(path)
            assert path.exists()
            assert await asked(path) == {"pid": 1}

    run(body())


# --------------------------------------------------------------------------------------------------- publications


def test_a_follower_gets_the_newest_and_every_later_one(tmp_path: Path) -> None:
    async def body() -> None:
        path, board = tmp_path / "receiver.sock", Board(NOTHING)
        async with server(path, board), aclosing(follow(path)) as news:
            assert await anext(news) == NOTHING
            for position in (500, 600, 700):
                board.put(at(position))
                assert await anext(news) == at(position)
            async with aclosing(follow(path)) as late:
                assert await anext(late) == at(700)

    run(body())


def test_a_put_from_another_thread_wakes_followers(tmp_path: Path) -> None:
    async def body() -> None:
        path, board = tmp_path / "receiver.sock", Board(NOTHING)
        async with server(path, board), aclosing(follow(path)) as news:
            await anext(news)
            thread = threading.Thread(target=board.put, args=(FIRST,))
            thread.start()
            assert await anext(news) == FIRST
            thread.join()

    run(body())


def test_a_follower_ends_with_its_receiver(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        seen = []
        async with server(path, Board(FIRST)) as control:
            async for publication in follow(path):
                seen.append(publication)
                await control.stop()
        assert seen == [FIRST]
        assert [p async for p in follow(path)] == []

    run(body())


def test_a_slow_follower_gets_the_newest(tmp_path: Path) -> None:
    """What it does not read is not kept for it, and the receiver does not wait."""

    async def body() -> None:
        path = tmp_path / "receiver.sock"
        large = replace(FIRST, executed=GtidSet.from_runs((bytes(16), "", gno, gno) for gno in range(1, 8000, 2)))
        assert len(json.dumps(large.encode())) > 15_000
        board = Board(large)
        async with server(path, board, pid=7):
            _, writer = await raw(path)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b'{"ask": "publications"}\n')
            async with aclosing(follow(path)) as quick:
                assert await anext(quick) == large
                for position in range(1000, 4000):
                    board.put(replace(large, position=position))
                    assert await anext(quick) == replace(large, position=position)
                assert await asked(path) == {"pid": 7}
            slow = asyncio.StreamReader(limit=1 << 30)
            writer.transport.set_protocol(asyncio.StreamReaderProtocol(slow))
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            positions: list[int] = []
            while not positions or positions[-1] != 3999:
                positions.append(json.loads(await slow.readline())["position"])
            assert positions == sorted(set(positions))
            assert len(positions) < 1500, "what the kernel holds, not three thousand"
            writer.transport.abort()

    run(body())


def test_news_are_short_however_large_the_sets(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        gaps = GtidSet.from_runs((bytes(16), "", gno, gno) for gno in range(1, 8000, 2))
        board = Board(replace(FIRST, executed=gaps))
        async with server(path, board):
            reader, writer = await raw(path)
            writer.write(b'{"ask": "publications"}\n')
            first = await reader.readline()
            assert len(first) > 15_000
            known = Publication.decode(json.loads(first))
            for number in range(8001, 8100, 2):
                newer = replace(FIRST, position=number, executed=known.executed.add_run(bytes(16), "", number, number))
                board.put(newer)
                line = await reader.readline()
                assert len(line) < 200
                known = Publication.decode(json.loads(line), known=known)
                assert known == newer
            writer.close()

    run(body())


def test_whoever_falls_behind_is_told_the_rest_and_the_newest(tmp_path: Path) -> None:
    """A line may be cut anywhere by a full socket; nothing is told twice, and nobody else waits."""

    async def body() -> None:
        board = Board(FIRST)
        board.attach()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        telling = asyncio.create_task(board.tell(ours))
        while behind(board):  # noqa: ASYNC110 - with its first line
            await asyncio.sleep(0)
        told = 0
        while not behind(board):
            told += 1
            board.put(at(1000 + told))
        for more in range(100):
            board.put(at(100_000 + more))
        received = b""
        loop = asyncio.get_running_loop()
        while not received.endswith(b"\n") or b"100099" not in received:
            received += await loop.sock_recv(theirs, 1000)
        publication = None
        places = []
        for line in received.splitlines():
            publication = Publication.decode(json.loads(line), known=publication)
            places.append(publication.position)
        assert places == [400, *range(1001, 1001 + told), 100_099]
        board.put(at(200_000))
        assert json.loads(await loop.sock_recv(theirs, 1000))["position"] == 200_000
        theirs.close()
        board.put(at(300_000))
        with pytest.raises(OSError):
            await telling
        assert board._followers == []
        board.put(at(400_000))
        ours.close()

    run(body())


def test_one_line_is_made_for_all_and_none_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiving thread waits for a few sends, however many follow and however large the sets are."""

    async def body() -> None:
        board = Board(FIRST)
        made: list[int] = []
        for name in ("encode", "encode_since"):
            really = getattr(Publication, name)

            def noted(publication: Publication, *known: Publication, really: Any = really) -> Any:
                assert not board._lock.locked()
                made.append(publication.position)
                return really(publication, *known)

            monkeypatch.setattr(Publication, name, noted)
        pairs = [socket.socketpair() for _ in range(5)]
        tasks = []
        for ours, theirs in pairs:
            ours.setblocking(False)
            theirs.setblocking(False)
            tasks.append(asyncio.create_task(board.tell(ours)))
        while behind(board) or len(board._followers) < 5:  # noqa: ASYNC110 - with its first line
            await asyncio.sleep(0)
        made.clear()
        for position in range(1001, 1021):
            board.put(at(position))
        assert made == list(range(1001, 1021))
        for _, theirs in pairs:
            lines = (await asyncio.get_running_loop().sock_recv(theirs, 100_000)).splitlines()
            assert [json.loads(line)["position"] for line in lines] == [400, *range(1001, 1021)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pair in pairs:
            for end in pair:
                end.close()

    run(body())


@pytest.mark.parametrize("missed", [0, 1, 64, 65, 200])
def test_what_was_missed_while_the_first_line_was_made(missed: int) -> None:
    """The lines themselves; when they are too many, one that holds them all. Then it is behind no more."""

    async def body() -> None:
        board = Board(FIRST)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            telling = asyncio.create_task(board.tell(ours))
            while not board._followers:  # noqa: ASYNC110 - nobody sets an Event
                await asyncio.sleep(0)
            follower = board._followers[0]
            follower.behind, follower.known, follower.rest = True, FIRST, b'{"first": 1}\n'
            for number in range(missed):
                board.put(at(1001 + number))
            assert follower.behind
            board._wake()
            while behind(board):  # noqa: ASYNC110 - until it was told all
                await asyncio.sleep(0)
            lines = (await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)).splitlines()
            told = [json.loads(line)["position"] for line in lines[lines.index(b'{"first": 1}') + 1 :]]
            assert told == (list(range(1001, 1001 + missed)) if missed <= 64 else [1000 + missed])
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    run(body())


def test_a_follower_in_a_hurry_gets_the_newest_of_those_that_came(tmp_path: Path) -> None:
    async def body() -> None:
        path, board = tmp_path / "receiver.sock", Board(FIRST)
        async with server(path, board), aclosing(follow(path)) as news:
            assert await anext(news) == FIRST
            for position in range(500, 600):
                board.put(at(position))
            seen = 0
            last: Publication | None = FIRST
            while last != at(599):
                last = await anext(news)
                seen += 1
            assert seen < 5, "a hundred lines were one piece to read, or little more"

    run(body())


def test_followers_that_leave_a_quiet_receiver_leave_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        async with server(path, Board(FIRST), pid=7):
            await asked(path)
            before = descriptors()
            for _ in range(50):
                async with aclosing(follow(path)) as news:
                    await anext(news)
            while descriptors() > before:  # noqa: ASYNC110 - the kernel sets no Event
                await asyncio.sleep(0.01)

    run(body())


def test_a_mistake_in_telling_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The follower's connection ends either way; only we know why."""

    def broken(publication: Publication) -> dict[str, Any]:
        raise ValueError("no such set")

    async def body() -> None:
        path = tmp_path / "receiver.sock"
        async with server(path, Board(FIRST)):
            async with aclosing(follow(path)) as news:
                assert await anext(news) == FIRST
            assert caplog.records == [], "whoever leaves is no mistake"
            with monkeypatch.context() as patched:
                patched.setattr(Publication, "encode", broken)
                assert [publication async for publication in follow(path)] == []
            async with aclosing(follow(path)) as news:
                assert await anext(news) == FIRST

    run(body())
    (record,) = caplog.records
    assert "telling a follower failed" in record.getMessage()
    assert "no such set" in record.getMessage()


def test_the_thread_answers_while_its_owner_is_busy(tmp_path: Path) -> None:
    path, board = tmp_path / "receiver.sock", Board(FIRST)
    before, interval = threading.active_count(), sys.getswitchinterval()
    control = ControlThread(path, lambda: {"position": (board.current or NOTHING).position}, board)
    control.start()
    try:
        assert ask_status(path) == {"position": 400}
        assert sys.getswitchinterval() == pytest.approx(0.0005), "its owner gets the interpreter back soon"

        async def one() -> Publication | None:
            async with aclosing(follow(path)) as news:
                await anext(news)
                board.put(at(900))
                return await anext(news)

        assert asyncio.run(one()) == at(900)
        assert ask_status(path) == {"position": 900}
    finally:
        control.stop()
    assert not path.exists()
    assert (threading.active_count(), sys.getswitchinterval()) == (before, interval)


def test_a_board_that_nobody_attached_takes_everything() -> None:
    board = Board(NOTHING)
    for position in range(10):
        board.put(at(position))
    assert board.current == at(9)


def test_a_full_counter_stops_nobody() -> None:
    async def body() -> None:
        board = Board(NOTHING)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            telling = asyncio.create_task(board.tell(ours))
            while behind(board):  # noqa: ASYNC110 - with its first line
                await asyncio.sleep(0)
            os.eventfd_write(board._signal, 2**64 - 2)
            while not behind(board):
                board.put(at((board.current or NOTHING).position + 1))
            board.put(FIRST)
            assert board.current == FIRST
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    run(body())


# --------------------------------------------------------------------------------------------------------- orders


def test_an_order_and_its_answer(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "receiver.sock"
        taken: list[Any] = []

        async def take(order: Any) -> dict[str, Any]:
            taken.append(order)
            return {"notes": [[1, "主库"]]}

        control = ControlServer(path, lambda: {"pid": 7}, None, take)
        await control.start()
        order = {"ask": "order", "order": "change", "source": {"host": "h" * 5000}}
        assert await ask(path, order) == {"notes": [[1, "主库"]]}
        assert taken == [order]
        assert await ask(path, {"ask": "status"}) == {"pid": 7}
        await control.stop()
        assert await ask(path, order) is None

    run(body())


def test_an_order_that_was_given_and_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be carried out later, which is not the same as that nobody was there."""
    path = tmp_path / "receiver.sock"
    order = {"ask": "order", "order": "stop"}

    async def body() -> None:
        assert await ask(path, order) is None
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            assert await ask(path, order) is None, "nobody listens"
            listening.listen()
            listening.setblocking(False)
            with monkeypatch.context() as patched:
                patched.setattr("binlogd.control.sockets.ORDER_TIMEOUT", 0.05)
                assert await ask(path, order) == UNANSWERED, "it waits to be accepted"
            late, _ = listening.accept()
            with late:
                assert json.loads(late.recv(1000)) == order, "and would be taken now"
            for says in (b"", b"{", b"[]\n"):
                asking = asyncio.create_task(ask(path, order))
                accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                with accepted:
                    accepted.sendall(says)
                assert await asking == UNANSWERED

    run(body())


def test_only_a_receiver_takes_orders(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "sender.sock"
        async with server(path, pid=7):
            assert await ask(path, {"ask": "order", "order": "stop"}) == {"error": "unknown question 'order'"}

    run(body())


@pytest.mark.parametrize("steps", range(9))
@pytest.mark.parametrize("fast", [False, True], ids=["asyncio", "uvloop"])
def test_whoever_asks_while_it_stops_is_let_go(tmp_path: Path, steps: int, fast: bool) -> None:
    """However far it has come with him: nothing stays open for the garbage collector to find and complain of."""

    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if fast:
        loop = pytest.importorskip("uvloop").new_event_loop

    async def meanwhile(asker: socket.socket) -> None:
        control = ControlServer(tmp_path / SENDER, lambda: {"much": "x" * 10_000_000})
        await control.start()
        await asyncio.sleep(0)  # it waits for somebody
        with reachable(tmp_path / SENDER) as name:
            asker.connect(name)
        asker.sendall(b'{"ask": "status"}\n')
        for _ in range(steps):
            await asyncio.sleep(0)
        await control.stop()

    gc.collect()  # what other tests left is not recorded here
    with (
        warnings.catch_warnings(record=True) as complaints,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker,
    ):
        warnings.simplefilter("always", ResourceWarning)
        asker.settimeout(WAIT)
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(meanwhile(asker))
        gc.collect()
        with suppress(ConnectionResetError):
            while asker.recv(1 << 20):
                pass
    assert [str(complaint.message) for complaint in complaints] == []
