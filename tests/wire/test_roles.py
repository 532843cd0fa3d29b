"""binlogd.wire.client and .server against each other: every way to log in, and what comes after."""

from __future__ import annotations

import random
import string
from collections.abc import Generator
from typing import Any

import pytest

from binlogd.errors import ServerError
from binlogd.wire import auth
from binlogd.wire.auth import (
    Account,
    FastAuthCache,
    PasswordHash,
    Plugin,
    decoy_for,
    make_nonce,
    native_stage2,
)
from binlogd.wire.client import ClientState, TlsPolicy
from binlogd.wire.commands import (
    BinlogDumpGtid,
    InitDb,
    Ping,
    Query,
    Quit,
    RegisterReplica,
    ResetConnection,
    Unknown,
    encode_ack,
)
from binlogd.wire.packets import PacketReader, encode_packets
from binlogd.wire.results import MAX_RESULT
from binlogd.wire.server import ServerState
from tests.wire.support import VERSION, integer_column, logged_in, make_client, make_server, pump, rsa_key, text_column

PIECES = pytest.mark.parametrize("piece", [1, 1 << 30], ids=["bytewise", "whole"])


def sha2_account(password: str = "secret", name: str = "repl") -> Account:
    return Account(name, password_hash=str(PasswordHash.make_sha2(password, make_nonce(), 1000)))


def native_account(password: str = "secret", name: str = "repl") -> Account:
    return Account(name, password_hash="*" + native_stage2(password.encode()).hex())


ACCOUNTS = {
    "plain": lambda password: Account("repl", password),
    "sha2": sha2_account,
    "native": native_account,
}
LINKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tls": ({"tls": TlsPolicy.REQUIRED}, {}),
    "rsa": ({}, {}),
    "rsa_known_key": ({"public_key": ...}, {}),
    "local": ({"secure_transport": True, "tls": TlsPolicy.PREFERRED}, {"secure_transport": True}),
}


@PIECES
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("kind", ACCOUNTS)
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_every_way_in(kind: str, link: str, right: bool, piece: int) -> None:
    for_client, for_server = LINKS[link]
    if "public_key" in for_client:
        for_client = {"public_key": rsa_key().public_pem}
    account = ACCOUNTS[kind]("secret")
    client = make_client(password="secret" if right else "wrong", **for_client)
    server = make_server(account, peer_host="10.0.0.5", **for_server)
    if right:
        pump(client, server, piece=piece)
        assert client.state is ClientState.READY
        assert server.state is ServerState.READY
        assert server.account is account
        assert server.user == "repl"
        assert server.attributes == {"program_name": "test"}
        assert server.refusal is None
        assert client.greeting is not None
        assert client.greeting.server_version == VERSION
        assert client.tls_active is server.tls_active is (link == "tls")
        plugin = Plugin.NATIVE if kind == "native" else Plugin.CACHING_SHA2
        assert client.auth_plugin is server.auth_plugin is plugin
        assert client.capabilities == server.capabilities
    else:
        with pytest.raises(ServerError) as caught:
            pump(client, server, piece=piece)
        assert (caught.value.code, caught.value.sqlstate) == (1045, "28000")
        assert caught.value.message == "Access denied for user 'repl'@'10.0.0.5' (using password: YES)"
        assert client.state is ClientState.CLOSED
        assert server.state is ServerState.CLOSED
        assert server.account is None
        assert server.refusal is not None


@pytest.mark.parametrize("kind", ACCOUNTS)
@pytest.mark.parametrize("plugin", [Plugin.NATIVE, Plugin.CACHING_SHA2])
def test_an_empty_password_opens_only_an_account_without_one(kind: str, plugin: Plugin) -> None:
    server = make_server(Account("repl", ""))
    client = make_client(password="")
    pump(client, server)
    assert client.state is ClientState.READY

    refusing = make_server(ACCOUNTS[kind]("secret"))
    with pytest.raises(ServerError, match="using password: NO"):
        pump(make_client(password=""), refusing)
    server = make_server(Account("repl", ""))
    with pytest.raises(ServerError, match="using password: YES"):
        pump(make_client(password="x"), server)


@PIECES
def test_the_fast_path_after_a_full_login(piece: int) -> None:
    account, cache = sha2_account(), FastAuthCache()
    sent = []
    for password in ("secret", "secret", "wrong", "secret"):
        client, server = make_client(password=password), make_server(account, fast_auth_cache=cache)
        if password == "wrong":
            with pytest.raises(ServerError):
                pump(client, server, piece=piece)
        else:
            down, _ = pump(client, server, piece=piece)
            sent.append(down)
    assert len(cache) == 1
    assert b"PUBLIC KEY" in sent[0]
    assert all(b"PUBLIC KEY" not in later and b"\x02\0\0\x02\x01\x03" in later for later in sent[1:])


def test_a_failed_full_login_leaves_nothing_in_the_cache() -> None:
    cache = FastAuthCache()
    with pytest.raises(ServerError):
        pump(make_client(password="wrong"), make_server(sha2_account(), fast_auth_cache=cache))
    assert len(cache) == 0


@pytest.mark.parametrize("kind", ACCOUNTS)
def test_a_thousand_logins_with_random_passwords_and_nonces(kind: str) -> None:
    dice = random.Random(20261122)
    alphabet = string.printable + "äß☃𝄞$"
    for round_ in range(1000):
        password = "".join(dice.choices(alphabet, k=dice.randint(1, 24)))
        cache = FastAuthCache()
        account = ACCOUNTS[kind](password)
        if round_ % 50 and account.password_hash is not None:
            # Every 50th login is a full one; the others take the fast path, which is where the nonce matters.
            cache.remember(account, password.encode())
        client, server = make_client(password=password), make_server(account, fast_auth_cache=cache)
        pump(client, server)
        assert server.state is ServerState.READY, (round_, password)


def test_a_hundred_full_logins_with_random_salts() -> None:
    dice = random.Random(1)
    for _ in range(100):
        password = "".join(dice.choices(string.printable, k=dice.randint(1, 40)))
        client = make_client(password=password, tls=TlsPolicy.REQUIRED)
        server = make_server(sha2_account(password))
        pump(client, server)
        assert server.state is ServerState.READY, password


def conversation(user: str, password: str, *accounts: Account, **options: Any) -> list[tuple[str, int]]:
    """Who sends packets of which size until the refusal."""
    client, server = make_client(user, password), make_server(*accounts, **options)
    said = []
    try:
        while True:
            down = server.data_to_send()
            said.append(("server", len(down)))
            client.receive(down)
            up = client.data_to_send()
            said.append(("client", len(up)))
            server.receive(up)
    except ServerError as error:
        assert error.code == 1045  # noqa: PT017
    return said


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_stranger_has_the_same_conversation_as_a_wrong_password(password: str) -> None:
    expected = conversation("repl", password, Account("repl", "secret"))
    assert conversation("none", password) == expected
    assert conversation("repl", password, sha2_account()) == expected
    native = conversation("repl", password, native_account())
    assert conversation("none", password, decoy=decoy_for([native_account()])) == native
    assert conversation("none", password, decoy=decoy_for([sha2_account()])) == expected


@pytest.mark.parametrize("rounds", [0, 1000, 10_000])
def test_a_refused_full_login_costs_one_hashing_for_every_name(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = Account("repl", password_hash=str(PasswordHash.make_sha2("secret", make_nonce(), rounds or 5000)))
    decoy = decoy_for([hashed] if rounds else [])
    spent: list[int] = []

    def counting(_password: bytes, _salt: bytes, rounds: int) -> Generator[None, None, bytes]:
        spent.append(rounds)
        yield
        return b""

    monkeypatch.setattr(auth, "sha256_crypt_steps", counting)
    for account in (hashed, Account("repl", "secret"), Account("other", "secret")):
        with pytest.raises(ServerError, match="Access denied"):
            pump(make_client(password="wrong"), make_server(account, decoy=decoy))
    assert spent == [rounds or 5000] * 3


def test_the_password_is_never_seen_in_clear_without_tls() -> None:
    for account in (
        Account("repl", "s3cr3t-w0rd"),
        sha2_account("s3cr3t-w0rd"),
        native_account("s3cr3t-w0rd"),
    ):
        client, server = make_client(password="s3cr3t-w0rd"), make_server(account)
        _, up = pump(client, server)
        assert b"s3cr3t-w0rd" not in up
    client, server = (
        make_client(password="s3cr3t-w0rd", tls=TlsPolicy.REQUIRED),
        make_server(sha2_account("s3cr3t-w0rd")),
    )
    _, up = pump(client, server)
    assert b"s3cr3t-w0rd\0" in up


def test_without_an_rsa_key_a_full_login_needs_tls() -> None:
    with pytest.raises(ServerError, match="Access denied"):
        pump(make_client(), make_server(sha2_account(), rsa_key=None))
    client = make_client(tls=TlsPolicy.PREFERRED)
    pump(client, make_server(sha2_account(), rsa_key=None))
    assert client.state is ClientState.READY


def test_a_database_and_unicode_names_arrive() -> None:
    client = make_client("répl", database="møn", attributes={"_client_role": "binary_log_listener", "ключ": "знач"})
    server = make_server(Account("répl", "secret"))
    pump(client, server)
    assert (server.user, server.database) == ("répl", "møn")
    assert server.attributes == {"_client_role": "binary_log_listener", "ключ": "знач"}
    assert server.client_plugin == "caching_sha2_password"


@PIECES
def test_queries_and_their_answers(piece: int) -> None:
    client, server = logged_in()
    client.query("SELECT 1, 'é', NULL")
    assert client.result() is None
    pump(client, server, piece=piece)
    assert server.next_command() == Query("SELECT 1, 'é', NULL")
    server.reply_result(
        [integer_column("1"), text_column("é"), text_column("NULL")], [(1, "é", None), (2, "", "x" * 300)]
    )
    pump(client, server, piece=piece)
    result = client.result()
    assert result is not None
    assert result.columns == ("1", "é", "NULL")
    assert result.rows == [("1", "é", None), ("2", "", "x" * 300)]

    client.query("SET @x = 1")
    pump(client, server, piece=piece)
    assert server.next_command() == Query("SET @x = 1")
    server.reply_ok(affected=3, last_insert_id=9, warnings=1, info="fine")
    pump(client, server, piece=piece)
    result = client.result()
    assert result is not None
    assert (result.affected, result.last_insert_id, result.warnings, result.info) == (3, 9, 1, "fine")

    client.query("SELECT @@nothing")
    pump(client, server, piece=piece)
    server.next_command()
    server.reply_error(1193, "HY000", "Unknown system variable 'nothing'")
    pump(client, server, piece=piece)
    with pytest.raises(ServerError, match="Unknown system variable") as caught:
        client.result()
    assert caught.value.code == 1193
    assert client.state is ClientState.READY


@PIECES
def test_the_other_commands(piece: int) -> None:
    client, server = logged_in()
    register = RegisterReplica(server_id=5, host="h", port=3306)
    for ask, expected in (
        (client.ping, Ping()),
        (lambda: client.command(InitDb("d").encode()), InitDb("d")),
        (lambda: client.command(register.encode()), register),
        (lambda: client.command(b"\x1f"), ResetConnection()),
        (lambda: client.command(b"\x16"), Unknown(0x16)),
    ):
        ask()
        pump(client, server, piece=piece)
        assert server.next_command() == expected
        server.reply_ok()
        pump(client, server, piece=piece)
        assert client.result() is not None
    client.quit()
    pump(client, server, piece=piece)
    assert server.next_command() == Quit()
    assert client.state is ClientState.CLOSED
    assert server.state is ServerState.CLOSED


@PIECES
def test_a_dump_hands_the_connection_over(piece: int) -> None:
    client, server = logged_in()
    dump = BinlogDumpGtid(file="", position=4, flags=0, server_id=9, gtid_data=bytes(8))
    client.start_dump(dump.encode())
    pump(client, server, piece=piece)
    assert server.next_command() == dump
    sequence = server.begin_stream()
    assert sequence == 1
    stream, sequence = encode_packets(b"\0event one", sequence)
    more, sequence = encode_packets(b"\0event two", sequence)
    for byte in stream + more[:5]:
        client.receive(bytes([byte]))
    reader = PacketReader(max_payload=MAX_RESULT, sequence=1)
    reader.feed(client.remainder() + more[5:])
    assert reader.next() == b"\0event one"
    assert reader.next() == b"\0event two"

    assert server.next_command() is None
    for position in (100, 200):
        ack, _ = encode_packets(encode_ack("bin.000001", position), 0)
        for start in range(0, len(ack), piece):
            server.receive(ack[start : start + piece])
        command = server.next_command()
        assert (type(command).__name__, getattr(command, "position", None)) == ("Ack", position)

    server.end_stream(sequence)
    server.reply_eof()
    reader.feed(server.data_to_send())
    eof = reader.next()
    assert eof is not None
    assert eof[0] == 0xFE
    assert len(eof) < 8
    assert server.state is ServerState.READY
    again, _ = encode_packets(Quit().encode(), 0)
    server.receive(again)
    assert server.next_command() == Quit()


def test_a_dump_can_end_in_an_error() -> None:
    client, server = logged_in()
    client.start_dump(BinlogDumpGtid(position=4, flags=0, server_id=9, gtid_data=b"").encode())
    pump(client, server)
    server.next_command()
    server.end_stream(server.begin_stream())
    server.reply_error(1236, "HY000", "purged")
    client.receive(server.data_to_send())
    assert client.remainder() == b"\x0f\0\0\x01\xff\xd4\x04#HY000purged"


def test_long_statements_and_answers_cross_packet_borders() -> None:
    client, server = logged_in()
    sql = "SELECT '" + "x" * (0xFFFFFF - 20) + "'"
    client.query(sql)
    pump(client, server, piece=1 << 22)
    command = server.next_command()
    assert isinstance(command, Query)
    assert command.sql == sql
    server.reply_ok()
    pump(client, server)
    assert client.result() is not None
