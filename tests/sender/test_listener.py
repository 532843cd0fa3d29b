"""Clients of every kind at the listener: real ones, ones that break off, and ones that are none."""

from __future__ import annotations

import errno
import os
import random
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.errors import ListenError, ServerError
from binlogd.sender import conversation, gate
from binlogd.sender.listener import listen
from binlogd.wire.capabilities import Capability
from binlogd.wire.client import TlsPolicy
from binlogd.wire.commands import InitDb, Ping, Query
from binlogd.wire.errors import decode_error
from binlogd.wire.handshake import SSLRequest
from binlogd.wire.packets import encode_packets
from testbed.distributions import Distribution
from tests.binlog.making import UUID_A
from tests.cli.support import NEWEST
from tests.sender.listening import PASSWORD, WAIT, Listening
from tests.wire.shell import ClientShell
from tests.wire.support import make_client

SHORT = 0.3  # seconds, for limits that a test waits for


@pytest.fixture
def listening(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Listening]:
    with Listening(tmp_path, tls=True) as one:
        yield one
        one.until_empty()
    assert_quiet(caplog)


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a client does is no error of ours."""
    assert [record.msg for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


def refused(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str]:
    """The code and the text with which a client is refused."""
    with pytest.raises(pymysql.err.MySQLError) as error:
        function(*arguments, **options)
    code, text = error.value.args
    return code, text


def raw(listening: Listening) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listening.port), timeout=WAIT)


def ended(client: socket.socket) -> bool:
    """Whether the server ends the connection, whatever it says before."""
    try:
        while client.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def shell(listening: Listening, **options: Any) -> ClientShell:
    return ClientShell("127.0.0.1", listening.port, user="admin", password=PASSWORD, **options)


# ------------------------------------------------------------------------------------------------------- logging in


def test_a_login(listening: Listening) -> None:
    assert listening.query("SELECT VERSION(), CURRENT_USER(), @@server_id") == [("8.0.36-binlogd", "admin@%", 4711)]
    assert listening.ask(lambda: (listening.service.accepted, listening.service.refused)) == (1, 0)


@pytest.mark.parametrize(("user", "password"), [("admin", "wrong"), ("admin", ""), ("nobody", PASSWORD)])
def test_a_refusal(listening: Listening, user: str, password: str) -> None:
    """It comes a moment late, tells nothing about which half was wrong, and holds up nobody else."""
    began = time.monotonic()
    code, text = refused(listening.connect, user, password)
    took = time.monotonic() - began
    assert (code, text) == (
        1045,
        f"Access denied for user '{user}'@'127.0.0.1' (using password: {'YES' if password else 'NO'})",
    )
    assert took >= gate.DELAY
    assert listening.ask(lambda: listening.service.refused) == 1


def test_guessers_hold_up_nobody(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DELAY", 2.0)
    with ThreadPoolExecutor(10) as pool:
        guesses = [pool.submit(refused, listening.connect, "admin", f"guess {n}") for n in range(10)]
        listening.until(lambda: listening.service.refused == 10)
        assert listening.query("SELECT @@server_id") == [(4711,)]
        assert not all(guess.done() for guess in guesses), "the last one waits longest"
        assert {guess.result()[0] for guess in guesses} == {1045}


def test_a_user_from_elsewhere(listening: Listening) -> None:
    """The same words as for a wrong password."""
    code, text = refused(listening.connect, "elsewhere", PASSWORD)
    assert (code, text) == (1045, "Access denied for user 'elsewhere'@'127.0.0.1' (using password: YES)")


def test_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Listening(tmp_path, max_connections=2) as listening:
        first, second = listening.connect(), listening.connect()
        for _ in range(3):
            assert refused(listening.connect) == (1040, "Too many connections")
        first.ping()
        second.close()
        listening.until(lambda: len(listening.service.connections) == 1)
        third = listening.connect()
        third.ping()
        first.close()
        third.close()
        listening.until_empty()
    assert_quiet(caplog)


def test_silence_is_not_waited_for(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "LOGIN_TIMEOUT", SHORT)
    with raw(listening) as silent, raw(listening) as half:
        half.sendall(b"\x20\x00")
        began = time.monotonic()
        assert ended(silent)
        assert ended(half)
        assert SHORT / 2 < time.monotonic() - began < WAIT


def test_a_login_byte_by_byte_is_not_waited_for_either(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on the whole login, not on each piece of it."""
    monkeypatch.setattr(conversation, "LOGIN_TIMEOUT", SHORT)
    with raw(listening) as drip:
        with suppress(ConnectionError):
            for _ in range(1000):
                drip.sendall(b"\x01")
                time.sleep(SHORT / 20)
        assert ended(drip)


def test_being_logged_in_has_no_such_limit(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "LOGIN_TIMEOUT", SHORT)
    connection = listening.connect()
    time.sleep(2 * SHORT)
    connection.ping()
    connection.close()


def test_idle_clients_are_left_after_their_time(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "IDLE_TIMEOUT", SHORT)
    connection = listening.connect()
    listening.until_empty()
    assert refused(connection.ping, reconnect=False)[0] in (2006, 2013)


# ------------------------------------------------------------------------------------------------------------- TLS


def test_tls_with_pymysql(listening: Listening) -> None:
    options: dict[str, Any] = {"ssl_disabled": False, "ssl_verify_cert": False, "ssl": {"check_hostname": False}}
    connection = listening.connect(**options)
    (encrypted,) = listening.ask(lambda: [one.encrypted for one in listening.service.connections.values()])
    assert encrypted
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@server_id")
        assert cursor.fetchall() == ((4711,),)
    connection.close()
    assert refused(listening.connect, "admin", "wrong", **options)[0] == 1045


def test_tls_is_required(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Listening(tmp_path, tls=True, require_tls=True) as listening:
        code, text = refused(listening.connect)
        assert (code, "insecure transport" in text) == (3159, True)
        # Not even a wrong password is looked at.
        assert refused(listening.connect, "admin", "wrong")[0] == 3159
        assert listening.query("SELECT @@server_id", ssl_disabled=False, ssl_verify_cert=False) == [(4711,)]
        listening.until_empty()
    assert_quiet(caplog)


def test_without_tls_none_is_offered(tmp_path: Path) -> None:
    with Listening(tmp_path) as listening:
        with pytest.raises(pymysql.err.OperationalError):
            listening.connect(ssl_disabled=False, ssl_verify_cert=False, ssl={"check_hostname": False})
        request = SSLRequest(capabilities=Capability.SSL | Capability.PROTOCOL_41, max_packet=1 << 24).encode()
        with raw(listening) as client:
            client.recv(65536)
            client.sendall(encode_packets(request, 1)[0])
            answer = client.recv(65536)
            assert answer[4:7] == b"\xff" + (1043).to_bytes(2, "little")
            assert ended(client)


@pytest.mark.servers
@pytest.mark.parametrize("mode", ["REQUIRED", "DISABLED"])
def test_the_mysql_client(listening: Listening, mysql: Distribution, mode: str) -> None:
    """Twice: the first login sends the password, under TLS or our RSA key; the second is the short one."""
    for _ in range(2):
        result = subprocess.run(
            [*mysql.program("mysql"), "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{listening.port}",
             "-uadmin", f"--password={PASSWORD}", f"--ssl-mode={mode}", "--get-server-public-key",
             "-N", "-e", "SELECT @@version_comment, @@server_id; SHOW STATUS LIKE 'Connections'"],
            env={**os.environ, **mysql.environ},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stdout.split()[:2] == ["binlogd", "4711"]
    wrong = subprocess.run(
        [*mysql.program("mysql"), "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{listening.port}", "-uadmin",
         "--password=wrong", f"--ssl-mode={mode}", "--get-server-public-key", "-e", "SELECT 1"],
        env={**os.environ, **mysql.environ},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "ERROR 1045 (28000): Access denied for user 'admin'@'127.0.0.1' (using password: YES)" in wrong.stderr


# --------------------------------------------------------------------------------------------------------- commands


def test_ping_and_quit(listening: Listening) -> None:
    with shell(listening) as client:
        client.command(Ping().encode())
        client.connection.quit()
        client.socket.sendall(client.connection.data_to_send())
        assert client.socket.recv(1) == b""


def test_init_db(listening: Listening) -> None:
    with shell(listening) as client:
        with pytest.raises(ServerError, match="Unknown database 'd'") as error:
            client.command(InitDb("d").encode())
        assert (error.value.code, error.value.sqlstate) == (1049, "42000")
        assert client.query("SELECT DATABASE()").rows == [(None,)]


@pytest.mark.parametrize("byte", [0x00, 0x04, 0x08, 0x0C, 0x0D, 0x11, 0x16, 0x1C, 0x20, 0x80, 0xFF])
def test_unknown_commands(listening: Listening, byte: int) -> None:
    """Refused one by one; the connection goes on."""
    with shell(listening) as client:
        for payload in (bytes([byte]), bytes([byte]) + b"\0" * 40):
            with pytest.raises(ServerError) as error:
                client.command(payload)
            assert (error.value.code, error.value.sqlstate) == (1047, "08S01")
        client.command(Ping().encode())


def test_an_empty_command_and_text_that_is_none(listening: Listening) -> None:
    with shell(listening) as client:
        with pytest.raises(ServerError) as error:
            client.command(Query("SELECT ").encode() + b"\xff\xfe")
        assert error.value.code in (1300, 1064)
        client.command(Ping().encode())


def test_commands_that_come_together_are_answered_in_turn(listening: Listening) -> None:
    with shell(listening) as client:
        ping = encode_packets(Ping().encode(), 0)[0]
        client.socket.sendall(ping * 100)
        answer = b""
        while len(answer) < 100 * 11:
            answer += client.socket.recv(65536)
        assert answer == answer[:11] * 100
        client.command(Ping().encode())


def test_kill(listening: Listening) -> None:
    victim = listening.connect()
    number = victim.thread_id()
    connection = listening.connect()
    with connection.cursor() as cursor:
        cursor.execute("SHOW PROCESSLIST")
        assert number in {row[0] for row in cursor.fetchall()}
        cursor.execute(f"KILL {number}")
        assert refused(cursor.execute, "KILL 99999") == (1094, "Unknown thread id: 99999")
    listening.until(lambda: len(listening.service.connections) == 1)
    assert refused(victim.ping, reconnect=False)[0] in (2006, 2013)
    connection.close()


def test_who_kills_himself_gets_no_answer_to_what_he_sent_behind_it(listening: Listening) -> None:
    """Both are there before either is looked at."""
    with shell(listening) as client:
        kill, more = (encode_packets(Query(sql).encode(), 0)[0] for sql in ("KILL CONNECTION_ID()", "SELECT 1"))
        client.socket.sendall(kill + more)
        answer = b"".join(iter(lambda: client.socket.recv(65536), b""))
    assert len(answer) == 4 + int.from_bytes(answer[:3], "little")
    assert decode_error(answer[4:]).code == 1317


# ---------------------------------------------------------------------------------------------- breaking off, and worse


def test_a_client_that_breaks_off_mid_login(listening: Listening) -> None:
    """Behind every byte of its answer, with a farewell of TCP and without."""
    client = make_client("admin", PASSWORD)
    with raw(listening) as first:
        client.receive(first.recv(65536))
        answer = client.data_to_send()
    assert len(answer) > 100
    for length in range(0, len(answer) + 1, 7):
        with raw(listening) as breaking:
            breaking.recv(4)
            breaking.sendall(answer[:length])
            if length % 2:
                breaking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    listening.until_empty()
    assert listening.query("SELECT @@server_id") == [(4711,)]


def tls_request(client: socket.socket) -> None:
    """Up to the point where TLS begins."""
    connection = make_client("admin", PASSWORD, tls=TlsPolicy.REQUIRED)
    while not (request := connection.data_to_send()):
        connection.receive(client.recv(65536))
    client.sendall(request)


def test_a_client_that_breaks_off_in_tls(listening: Listening) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    hello = outgoing.read()
    for said in (
        b"",
        hello[:1],
        hello[: len(hello) // 2],
        hello,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" * 9,
    ):
        with raw(listening) as client:
            tls_request(client)
            client.sendall(said)
            if said == hello:
                assert client.recv(65536)
    with raw(listening) as client:  # TLS comes up, and nothing inside it
        tls_request(client)
        with context.wrap_socket(client, server_hostname="x") as inside:
            inside.settimeout(WAIT)
    listening.until_empty()
    assert listening.query("SELECT @@server_id", ssl_disabled=False, ssl_verify_cert=False) == [(4711,)]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xff\xff\x01" + b"x" * 70_000,
        b"\x00\x00\x00\x01",
        b"\x04\x00\x00\x07abcd",
        b"\x20\x00\x00\x01" + b"\xff" * 32,
        b"\x05\x00\x00\x01\x85\xa6\x03\x00\x00",
        random.Random(1).randbytes(500),
    ],
)
def test_what_is_no_login(listening: Listening, said: bytes) -> None:
    """It ends at once, or at the latest with the time for logging in."""
    with raw(listening) as client:
        with suppress(ConnectionError):
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
        assert ended(client)
    listening.until_empty()
    assert listening.query("SELECT @@server_id") == [(4711,)]


def test_two_hundred_quick_ones_leave_nothing(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DELAY", 0.0)
    listening.connect().close()
    listening.until_empty()
    before = descriptors()

    def visit(number: int) -> None:
        if number % 4 == 0:
            listening.connect().close()
        elif number % 4 == 1:
            refused(listening.connect, "admin", "wrong")
        else:
            with raw(listening) as client:
                if number % 4 == 2:
                    client.recv(4)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(visit, range(200)))
    listening.until_empty()
    assert descriptors() == before
    accepted, status = listening.ask(lambda: (listening.service.accepted, listening.service.status()))
    assert accepted == 201
    assert (status["Threads_connected"], status["Connections"], status["Aborted_connects"]) == ("0", "201", "50")


def test_the_end_ends_everybody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = descriptors()
    with Listening(tmp_path, tls=True) as listening:
        plain = listening.connect()
        encrypted = listening.connect(ssl_disabled=False, ssl_verify_cert=False)
        half = raw(listening)
        listening.until(lambda: len(listening.service.connections) == 3)
    assert not listening.service.connections
    for connection in (plain, encrypted):
        assert refused(connection.ping, reconnect=False)[0] in (2006, 2013)
    assert ended(half)
    half.close()
    with pytest.raises(ConnectionRefusedError):
        raw(listening)
    assert descriptors() == before
    assert_quiet(caplog)


# --------------------------------------------------------------------------------------------------------- addresses


def test_every_address_of_both_families(tmp_path: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with Listening(tmp_path, host="::") as listening:
            assert listening.query("SELECT USER()", host="127.0.0.1") == [("admin@127.0.0.1",)]
            assert listening.query("SELECT USER()", host="::1") == [("admin@::1",)]
    except ListenError as error:
        pytest.skip(str(error))


def test_a_taken_address() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: another process has it") as error:
            listen("127.0.0.1", port)
        assert "--listen" in error.value.hint
    # Given back, it can be had at once, whatever TCP remembers of its connections.
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "words"),
    [("192.0.2.1", os.strerror(errno.EADDRNOTAVAIL)), ("no-such-host.invalid", "no-such-host.invalid")],
)
def test_an_address_that_is_not_ours(host: str, words: str) -> None:
    with pytest.raises(ListenError, match=words) as error:
        listen(host, 3307)
    assert "server.listen" in error.value.hint


# ------------------------------------------------------------------------------------------------------ a damaged store


def test_what_was_read_before_is_served_when_the_newest_file_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By somebody, while no receiver runs: that is said, and ends nobody."""
    with Listening(tmp_path) as listening:
        before = listening.query("SHOW BINARY LOGS")
        path = tmp_path / "binlogs" / f"0001-{UUID_A}" / NEWEST
        path.write_bytes(b"no binary log, " + path.read_bytes())
        listening.until(lambda: any("cannot follow the store" in record.getMessage() for record in caplog.records))
        assert listening.query("SHOW BINARY LOGS") == before
        listening.until_empty()


def test_what_a_dump_sent_counts_once(listening: Listening) -> None:
    """When it comes to its regular end, as mysqlbinlog's does."""
    connection = listening.connect(user="repl")
    connection.query("SET @source_binlog_checksum = 'CRC32'")
    asked = struct.pack("<IHI", 4, 1, 99) + b"mysql-bin.000001"  # BINLOG_DUMP_NON_BLOCK
    connection._execute_command(pymysql.constants.COMMAND.COM_BINLOG_DUMP, asked)
    while not connection._read_packet().is_eof_packet():
        pass
    listening.until(lambda: all(each.dump is None for each in listening.service.connections.values()))
    sent = listening.ask(listening.service.sent_bytes)
    assert sent > 0
    assert [sent] == list(listening.service.sent_before.values())
    connection.close()
