"""Who has not logged in, on real sockets: what it may cost, what it may learn, and whom it may hold up."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.sender import gate, listener
from binlogd.sender.service import User
from binlogd.sender.sql.statements import Role
from binlogd.wire import auth
from binlogd.wire.auth import Account, PasswordHash
from binlogd.wire.client import ClientState
from binlogd.wire.errors import decode_error
from binlogd.wire.handshake import HandshakeResponse41
from binlogd.wire.packets import encode_packets
from binlogd.wire.server import MAX_PRELOGIN_PACKET, ServerConnection
from binlogd.wire.sha256crypt import sha256_crypt_steps
from tests.sender.listening import PASSWORD, USERS, WAIT, Listening, anybody
from tests.sender.test_listener import assert_quiet, ended, raw, refused, shell
from tests.wire.support import make_client

HASHED = "hashed"
ROUNDS = 5000  # what MySQL makes
TRIES = 12


def users() -> dict[str, User]:
    """One more, of whom a hash is known alone: such a login costs milliseconds."""
    known = str(PasswordHash.make_sha2(PASSWORD, b"s" * 20, ROUNDS))
    return USERS | {HASHED: User(Account(HASHED, password_hash=known), Role.ADMIN, anybody)}


@pytest.fixture
def listening(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Listening]:
    with Listening(tmp_path, tls=True, users=users()) as one:
        yield one
        one.until_empty()
    assert_quiet(caplog)


def greeted(listening: Listening) -> socket.socket:
    """A client that has read the greeting and says nothing."""
    client = raw(listening)
    assert client.recv(65536)
    return client


def test_half_open_connections_keep_nobody_out(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those of their own address, which is all that a test on one machine can have."""
    monkeypatch.setattr(gate, "STRANGERS_PER_ADDRESS", 8)
    with ExitStack() as stack:
        silent = [stack.enter_context(greeted(listening)) for _ in range(40)]
        listening.until(lambda: listening.service.gate.strangers == 8)
        assert all(ended(client) for client in silent[:32])
        for _ in range(5):
            assert listening.query("SELECT @@server_id") == [(4711,)]
        silent[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[-1].recv(1)


def test_the_logged_in_are_counted_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Strangers take no place of theirs; and of two that were greeted for one place, one is told so with its OK."""
    with Listening(tmp_path, max_connections=1) as listening, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(greeted(listening))
        first, second = (stack.enter_context(raw(listening)) for _ in range(2))
        clients = [make_client("admin", PASSWORD) for _ in range(2)]
        for connection, client in zip((first, second), clients, strict=True):
            client.receive(connection.recv(65536))
        first.sendall(clients[0].data_to_send())
        while clients[0].state is not ClientState.READY:
            clients[0].receive(first.recv(65536))
        second.sendall(clients[1].data_to_send())
        answer = second.recv(65536)
        assert decode_error(answer[4:]).code == 1040
        assert ended(second)
        assert listening.ask(lambda: listening.service.gate.inside) == 1
        assert refused(listening.connect) == (1040, "Too many connections")
        first.close()
        listening.until(lambda: not listening.service.gate.inside)
        listening.connect().close()
        assert listening.ask(lambda: listening.service.gate.remembered) == 0, "that is no guess"
    assert_quiet(caplog)


def test_guessers_are_turned_away_while_they_wait(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections do not make guessing faster; who is in, is in, and later all is as it was."""
    monkeypatch.setattr(gate, "WAITING_PER_ADDRESS", 4)
    monkeypatch.setattr(gate, "DELAY", 1.5)
    monkeypatch.setattr(gate, "LONGEST_DELAY", 1.5)
    inside = listening.connect()
    with ThreadPoolExecutor(4) as pool:
        guesses = [pool.submit(refused, listening.connect, "admin", f"guess {n}") for n in range(4)]
        listening.until(lambda: listening.service.refused == 4)
        for _ in range(3):
            assert refused(listening.connect, "admin", "guess") == (1040, "Too many connections")
        inside.ping()
        assert {guess.result()[0] for guess in guesses} == {1045}
    listening.until(lambda: not listening.service.gate.strangers)
    assert listening.query("SELECT @@server_id") == [(4711,)]
    inside.close()


def test_a_large_packet_is_not_waited_for(listening: Listening) -> None:
    """16 KiB are the most that a stranger can have kept; one byte more ends it before it is sent."""
    for size, answer in ((MAX_PRELOGIN_PACKET, True), (MAX_PRELOGIN_PACKET + 1, False)):
        with greeted(listening) as client:
            client.sendall(size.to_bytes(3, "little") + b"\x01")
            client.settimeout(0.3 if answer else WAIT)
            if answer:
                with pytest.raises(TimeoutError):
                    client.recv(1)
            else:
                assert decode_error(client.recv(65536)[4:]).code == 1043


def guess(listening: Listening, user: str) -> tuple[float, tuple[int, str]]:
    """How long it takes to be refused, and the words."""
    began = time.perf_counter()
    words = refused(listening.connect, user, "wrong")
    return time.perf_counter() - began, words


def test_a_name_that_is_unknown_costs_what_a_wrong_password_costs(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same work, step for step, which is exact; and so about the same time, by the quickest of some."""
    monkeypatch.setattr(gate, "DELAY", 0.0)
    spent: list[int] = []
    steps: list[int] = []
    crypt, work = sha256_crypt_steps, ServerConnection.work

    def counting(password: bytes, salt: bytes, rounds: int) -> Generator[None, None, bytes]:
        spent[-1] += rounds
        return crypt(password, salt, rounds)

    def working(self: ServerConnection) -> None:
        steps[-1] += 1
        work(self)

    monkeypatch.setattr(auth, "sha256_crypt_steps", counting)
    monkeypatch.setattr(ServerConnection, "work", working)
    names = (HASHED, "nobody", "admin", "elsewhere")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(TRIES):
        for name in names:
            spent.append(0)
            steps.append(0)
            took, (code, text) = guess(listening, name)
            times[name].append(took)
            assert (code, text) == (1045, f"Access denied for user '{name}'@'127.0.0.1' (using password: YES)")
    assert set(spent) == {ROUNDS}
    assert len(set(steps)) == 1
    quickest = {name: min(tries) for name, tries in times.items()}
    # Without its hash a refusal would take a tenth; what a busy machine adds to the quickest of twelve is less.
    assert max(quickest.values()) < 5 * min(quickest.values()), quickest


def test_full_logins_do_not_hold_up_the_loop(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are at once: behind every step everybody else has a turn."""
    monkeypatch.setattr(gate, "DELAY", 0.0)
    happened: list[str] = []
    work = ServerConnection.work

    def working(self: ServerConnection) -> None:
        happened.append("step")
        work(self)

    def tick() -> None:
        if not happened or happened[-1] != "turn":
            happened.append("turn")
        if not stopped:
            assert listening._loop is not None
            listening._loop.call_soon(tick)

    stopped: list[bool] = []
    monkeypatch.setattr(ServerConnection, "work", working)
    listening.ask(tick)
    with ThreadPoolExecutor(8) as pool:
        assert {code for code, _ in pool.map(lambda _: refused(listening.connect, HASHED, "wrong"), range(16))} == {
            1045
        }
    listening.ask(lambda: stopped.append(True))
    assert happened.count("step") >= 16 * ROUNDS // 200
    assert all("turn" in pair for pair in pairwise(happened))
    # And the password that is right opens as ever, the first time by a full login, then by the short one.
    for _ in range(2):
        assert listening.query("SELECT @@server_id", user=HASHED) == [(4711,)]


def test_a_step_is_short(listening: Listening) -> None:
    """Less than what a delivery to the replicas of a large site takes: a hash is 25 steps, not one."""
    took: list[float] = []
    account = users()[HASHED].account
    assert account.parsed_hash is not None
    steps = account.parsed_hash.matching(b"wrong")
    with suppress(StopIteration):
        while True:
            began = time.thread_time()
            next(steps)
            took.append(time.thread_time() - began)
    assert len(took) == ROUNDS // 200
    assert statistics.median(took) < 0.005


@pytest.mark.parametrize("name", ["a\nroot: all is well", "\x1b[2J", "\x9b2J\x85\u2028\u202e\x7f", "x" * 5000])
def test_a_name_writes_no_lines(listening: Listening, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """What a stranger calls itself is in the log and in its refusal as one short line."""
    code, text = refused(listening.connect, name, "wrong")
    assert code == 1045
    assert text.isprintable()
    assert len(text) < 200
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    event: Any = record.msg
    assert all(str(value).isprintable() for value in event.values())
    assert len(str(event)) < 500


def test_attributes_and_the_database_are_looked_at_before_they_are_shown(listening: Listening) -> None:
    with shell(listening, attributes={"program_name": "a\n\x1b[2J" + "x" * 1000}) as client:
        client.query("SELECT @@server_id")
        (connection,) = listening.ask(lambda: list(listening.service.connections.values()))
        assert len(connection.program) <= 64


def test_half_a_login_is_half_open(listening: Listening) -> None:
    """Shut down for writing, a client that has said all is answered; one that has not is done with."""
    with raw(listening) as client:
        connection = make_client("admin", PASSWORD)
        connection.receive(client.recv(65536))
        client.sendall(connection.data_to_send())
        client.shutdown(socket.SHUT_WR)
        while connection.state is not ClientState.READY:
            connection.receive(client.recv(65536))
        assert ended(client)
    response = HandshakeResponse41(capabilities=make_client().capabilities, max_packet=1, user="x", auth_response=b"")
    with greeted(listening) as client:
        client.sendall(encode_packets(response.encode(), 1)[0][:9])
        client.shutdown(socket.SHUT_WR)
        assert ended(client)


def test_who_is_ended_before_it_began_leaves_no_socket(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection may be accepted, and give way, in one turn of the loop."""
    monkeypatch.setattr(gate, "STRANGERS_PER_ADDRESS", 1)
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(listening)) for _ in range(50)]
        assert sum(1 for client in clients[:-1] if ended(client)) == 49
        listening.until(lambda: len(listening.service.connections) == 1)


def test_who_was_gone_before_we_looked_leaves_no_socket(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses options of a socket whose client is gone: then there is no conversation to close it."""
    kept: list[socket.socket] = []

    def gone(_service: object, _connection: object, accepted: socket.socket) -> None:
        kept.append(accepted)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(listener, "Conversation", gone)
    with raw(listening) as client:
        assert ended(client)
    listening.until_empty()
    assert [accepted.fileno() for accepted in kept] == [-1]


def test_it_is_an_ordinary_error_to_clients(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "WAITING_PER_ADDRESS", 0)
    with pytest.raises(pymysql.err.OperationalError) as error:
        listening.connect()
    assert error.value.args == (1040, "Too many connections")
