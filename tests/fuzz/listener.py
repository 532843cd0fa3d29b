"""A hostile client: handshake, login, commands, and statements behind them.

flags1  raw?  logged in first?  which account (2 bits)  private link?  byte by byte?  role (2 bits)
then    raw: what the client sends; otherwise payloads behind their lengths, each sent with the id that is due
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.errors import ProtocolError, Refusal
from binlogd.sender.columns import definition
from binlogd.sender.sql import ResultSet, Role
from binlogd.sender.sql.results import EventListing, Wait
from binlogd.wire import login
from binlogd.wire.auth import Account, FastAuthCache, PasswordHash, decoy_for, native_stage2, scramble_native
from binlogd.wire.capabilities import Capability, Charset
from binlogd.wire.commands import (
    Ack,
    BinlogDump,
    BinlogDumpGtid,
    Ping,
    Query,
    Quit,
    RegisterReplica,
    ResetConnection,
    Statistics,
)
from binlogd.wire.handshake import HandshakeResponse41
from binlogd.wire.server import MAX_COMMAND, MAX_PRELOGIN_PACKET, READ_AHEAD, ServerConnection, ServerState
from tests.fuzz import shapes
from tests.sender.sql.support import Client
from tests.wire.support import rsa_key

NONCE = b"abcdefghijklmnopqrst"
ANSWER = 256 * 1024  # bytes of an answer that no statement's length explains: all variables, all of the status
TIMES = 64  # × the input's bytes: a SELECT of one column names and types it
STATEMENTS = 200  # of one input: more say nothing new
ROLES = tuple(Role)


@cache
def accounts() -> tuple[Account, ...]:
    """Nobody, and one of each kind."""
    return (
        Account("", "x"),
        Account("repl", "secret"),
        Account("repl", password_hash=str(PasswordHash.make_sha2("secret", b"s" * 20, 1000))),
        Account("repl", password_hash="*" + native_stage2(b"secret").hex()),
    )


@cache
def decoy(account: Account) -> Account:
    """For unknown names where this is the only account."""
    return decoy_for([account])


FEW_ROUNDS = PasswordHash.make_sha2("", b"s" * 20, 1000)  # as many as there must be: they say nothing


def run(data: bytes) -> None:
    """See the package."""
    with patch.object(login, "_ANY_HASH", FEW_ROUNDS):
        _run(data)


def _run(data: bytes) -> None:
    if not data:
        return
    flags = data[0]
    account = accounts()[flags >> 2 & 3]
    if flags & 2:
        account = accounts()[1]
    server = ServerConnection(
        server_version="9.7.4-binlogd",
        connection_id=7,
        nonce=NONCE,
        tls_available=True,
        rsa_key=rsa_key(),
        find_account=lambda name: account if name == account.name and name else None,
        fast_auth_cache=FastAuthCache(),
        secure_transport=bool(flags & 16),
        decoy=decoy(account),
        in_steps=True,
    )
    server.data_to_send()
    try:
        if flags & 2:
            _log_in(server)
        _converse(server, data, Client(role=ROLES[(flags >> 6) % len(ROLES)]))
    except ProtocolError:
        assert server.state is ServerState.CLOSED


def _log_in(server: ServerConnection) -> None:
    flags = Capability.PROTOCOL_41 | Capability.SECURE_CONNECTION | Capability.PLUGIN_AUTH | Capability.DEPRECATE_EOF
    answer = scramble_native("secret", NONCE)
    response = HandshakeResponse41(
        capabilities=flags, max_packet=1 << 24, user="repl", auth_response=answer, auth_plugin="mysql_native_password"
    )
    server.receive(shapes.packet(response.encode(), 1))
    assert server.state is ServerState.READY
    server.data_to_send()


def _sent(server: ServerConnection, data: bytes) -> Iterator[bytes]:
    body = data[1:]
    if data[0] & 1:
        yield from shapes.cut(body, 1 if data[0] & 32 and len(body) < 2000 else 65536)
    else:
        for payload in shapes.split(body):
            yield shapes.packet(payload, server._reader.sequence)


def _converse(server: ServerConnection, data: bytes, client: Client) -> None:
    statements = 0
    for piece in _sent(server, data):
        server.receive(piece)
        while server.state is ServerState.HASHING:
            server.work()
        limit = MAX_PRELOGIN_PACKET + 65536 if server.account is None else MAX_COMMAND + READ_AHEAD
        assert server._reader.buffered <= limit
        while server.state is ServerState.READY and (command := server.next_command()) is not None:
            statements += 1
            if isinstance(command, Quit) or statements > STATEMENTS:
                return
            _answer(server, command, client)
            assert len(server.data_to_send()) <= ANSWER + TIMES * len(data)
        assert len(server.data_to_send()) <= 4096
        if server.state is ServerState.CLOSED:
            return
        if server.state is ServerState.WANT_TLS:
            server.remainder()
            server.tls_established()


def _answer(server: ServerConnection, command: object, client: Client) -> None:
    """As conversation.py does."""
    try:
        match command:
            case Ping() | RegisterReplica():
                server.reply_ok()
            case Statistics():
                server.reply_text("Uptime: 1")
            case ResetConnection():
                client.session.reset()
                server.reply_ok()
            case Query():
                outcome = client.answered(command.sql)
                if isinstance(outcome, ResultSet):
                    server.reply_result(
                        [definition(spec, Charset.UTF8MB4_GENERAL_CI) for spec in outcome.columns], outcome.text_rows()
                    )
                elif isinstance(outcome, EventListing | Wait):
                    server.reply_ok()  # what they read is not here
                else:
                    server.reply_ok(warnings=outcome.warnings)
            case BinlogDump() | BinlogDumpGtid():
                if isinstance(command, BinlogDumpGtid):
                    try:
                        GtidSet.decode(command.gtid_data)
                    except GtidSyntaxError as bad:
                        raise Refusal(1236, "HY000", f"The GTID set is malformed: {bad}") from bad
                _stream(server)
            case _:
                raise Refusal(1047, "08S01", "Unknown command")
    except Refusal as refusal:
        server.reply_error(refusal.code, refusal.sqlstate, refusal.message)


def _stream(server: ServerConnection) -> None:
    """What comes during a dump is read as acknowledgements; then the dump ends."""
    sequence = server.begin_stream()
    while server.state is ServerState.STREAMING and (said := server.next_command()) is not None:
        assert isinstance(said, Ack | Quit)
    if server.state is ServerState.STREAMING:
        server.end_stream(sequence)
        server.reply_eof()
    else:
        raise ProtocolError("it took leave")


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """From what real clients sent to a listener."""
    for name, stream in captures.items():
        if not name.startswith("client-"):
            continue
        yield bytes([1]) + stream[:4000]
        yield bytes([1 | 8]) + stream[:4000]
        sent = list(shapes.payloads(stream))
        starts = [at for at, (sequence, _) in enumerate(sent) if sequence == 0]
        yield bytes([8]) + shapes.join(payload for _, payload in sent)
        if starts:
            commands = [payload for _, payload in sent[starts[0] :]]
            for at in range(0, len(commands), 8):
                yield bytes([2 | 128]) + shapes.join(commands[at : at + 8])
