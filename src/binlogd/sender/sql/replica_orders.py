"""The statements by which a replica is told whom to follow: their grammar, and what becomes of them.

An order is for the receiver, another process: it is an ``Errand`` (results.py), a question with what to make of the
answer (the receiver's side of it is receiver/office.py). The grammar is MySQL's (``sql/sql_yacc.yy``), both spellings;
what it would take and binlogd cannot honour is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from binlogd.errors import Refusal
from binlogd.sender.sql.cursor import Cursor
from binlogd.sender.sql.refusals import (
    changed_nothing,
    heartbeat_out_of_range,
    no_such_channel,
    not_supported_because,
    outcome_unknown,
    password_too_long,
    string_too_long,
    wrong_arguments,
)
from binlogd.sender.sql.session import Diagnostic
from binlogd.sender.sql.statements import ChangeSource, ResetReplica, StartReplica, StopReplica
from binlogd.sender.sql.tokens import TokenKind

MAX_HEARTBEAT = 4_294_967  # seconds, mysqld's most
MIN_HEARTBEAT = 0.001
MAX_PORT = 65_535
_LONGEST = {"host": 255, "user": 96, "ssl_ca": 512, "ssl_cert": 512, "ssl_key": 512}  # characters; MySQL's limits
MAX_PASSWORD = 256  # characters; MySQL's replicas take 32, its accounts this

_PLACE = "binlogd goes on where its store ends, which it finds out by itself: leave it out"
_TEXTS = {
    "HOST": "host",
    "USER": "user",
    "PASSWORD": "password",
    "SSL_CA": "ssl_ca",
    "SSL_CERT": "ssl_cert",
    "SSL_KEY": "ssl_key",
}
_SWITCHES = {"SSL": "ssl", "SSL_VERIFY_SERVER_CERT": "ssl_verify"}
_PAUSES = ("CONNECT_RETRY", "RETRY_COUNT")
_NOT_HERE = {
    "LOG_FILE": _PLACE,
    "LOG_POS": _PLACE,
    "BIND": "the operating system chooses the address to connect from",
    "DELAY": "what is received is there to be served at once",
    "COMPRESSION_ALGORITHMS": "set source.compression in the configuration",
    "ZSTD_COMPRESSION_LEVEL": "set source.compression in the configuration",
    "SSL_CAPATH": "give one file with SOURCE_SSL_CA",
    "SSL_CIPHER": "the TLS library chooses",
    "SSL_CRL": "no revocation lists are read",
    "SSL_CRLPATH": "no revocation lists are read",
    "TLS_VERSION": "the TLS library chooses",
    "TLS_CIPHERSUITES": "the TLS library chooses",
    "PUBLIC_KEY_PATH": "the source is asked for its public key",
    "CONNECTION_AUTO_FAILOVER": "give several source.hosts in the configuration",
}  # behind SOURCE_ or MASTER_
_NOT_HERE_EITHER = {
    "RELAY_LOG_FILE": _PLACE,
    "RELAY_LOG_POS": _PLACE,
    "IGNORE_SERVER_IDS": "everything that the source logs is kept",
    "PRIVILEGE_CHECKS_USER": "nothing is applied here",
    "REQUIRE_ROW_FORMAT": "nothing is applied here",
    "REQUIRE_TABLE_PRIMARY_KEY_CHECK": "nothing is applied here",
    "ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS": "the log is kept byte for byte",
    "GTID_ONLY": "nothing is applied here",
    "NETWORK_NAMESPACE": "binlogd connects from the one it runs in",
}


# --- grammar; the verb is read already ---


def change_source(cursor: Cursor) -> ChangeSource:
    """CHANGE …"""
    old = cursor.accept("MASTER")
    if not old:
        cursor.expect("REPLICATION", "SOURCE")
    cursor.expect("TO")
    prefix = "MASTER_" if old else "SOURCE_"
    options: dict[str, Any] = {}
    notes: list[Diagnostic] = []
    while True:
        _option(cursor, prefix, options, notes)
        if not cursor.accept(","):
            break
    _channel(cursor)
    auto_position = options.pop("auto_position", False)
    return ChangeSource(options, tuple(notes), auto_position)


def start_replica(cursor: Cursor) -> StartReplica:
    """START REPLICA …"""
    _threads(cursor, "START")
    for word in ("UNTIL", "USER", "PASSWORD", "DEFAULT_AUTH", "PLUGIN_DIR"):
        if cursor.at(word):
            raise not_supported_because(
                f"START REPLICA {word}",
                "the receiver goes on until STOP REPLICA, as the user"
                " that the configuration or CHANGE REPLICATION SOURCE TO names",
            )
    _channel(cursor)
    return StartReplica()


def stop_replica(cursor: Cursor) -> StopReplica:
    """STOP REPLICA …"""
    _threads(cursor, "STOP")
    _channel(cursor)
    return StopReplica()


def reset_replica(cursor: Cursor) -> ResetReplica:
    """RESET REPLICA …"""
    everything = cursor.accept("ALL")
    _channel(cursor)
    return ResetReplica(everything)


def replica_status(cursor: Cursor) -> None:
    """What may follow SHOW REPLICA STATUS."""
    _channel(cursor)


def _channel(cursor: Cursor) -> None:
    """There is one channel, the one without a name."""
    if cursor.accept("FOR", "CHANNEL"):
        name = cursor.of(TokenKind.STRING, TokenKind.WORD, TokenKind.NAME).value
        if name:
            raise no_such_channel(name)


def _threads(cursor: Cursor, verb: str) -> None:
    """Only the receiver is one of ours: what names it, or nothing, is about it."""
    named = []
    while cursor.token.upper in ("IO_THREAD", "RELAY_THREAD", "SQL_THREAD"):
        named.append(cursor.advance().upper)
        if not cursor.accept(","):
            break
    if named and set(named) == {"SQL_THREAD"}:
        raise not_supported_because(f"{verb} REPLICA SQL_THREAD", "binlogd applies nothing; the receiver is IO_THREAD")


def _option(cursor: Cursor, prefix: str, options: dict[str, Any], notes: list[Diagnostic]) -> None:
    at = cursor.token
    word = at.upper
    name = word.removeprefix(prefix)
    if name == word:
        name = ""
    if word in ("GET_SOURCE_PUBLIC_KEY", "GET_MASTER_PUBLIC_KEY"):
        _begin(cursor)
        if not _number(cursor):
            raise not_supported_because(f"{word} = 0", "over a connection without TLS it is how the password stays one")
    elif word in _NOT_HERE_EITHER or name in _NOT_HERE:
        raise not_supported_because(word, _NOT_HERE_EITHER.get(word) or _NOT_HERE[name])
    elif name in _TEXTS:
        _begin(cursor)
        options[_TEXTS[name]] = _checked(word, _TEXTS[name], cursor.string())
    elif name in _SWITCHES:
        _begin(cursor)
        options[_SWITCHES[name]] = bool(_number(cursor))
    elif name == "PORT":
        _begin(cursor)
        port = _number(cursor)
        if port > MAX_PORT:
            raise wrong_arguments(word)
        if port:  # MySQL takes 0 for nothing said
            options["port"] = port
    elif name == "HEARTBEAT_PERIOD":
        _begin(cursor)
        options["heartbeat"] = _heartbeat(cursor, word)
    elif name == "AUTO_POSITION":
        _begin(cursor)
        if not _number(cursor):
            raise not_supported_because(f"{word} = 0", _PLACE)
        options["auto_position"] = True
    elif name in _PAUSES:
        _begin(cursor)
        _number(cursor)
        text = f"{word} is not used: binlogd tries again without end, after a tenth of a second at first"
        notes.append(Diagnostic("Note", 1105, text))
    else:
        raise cursor.error()


def _begin(cursor: Cursor) -> None:
    cursor.advance()
    cursor.expect("=")


def _number(cursor: Cursor) -> int:
    token = cursor.token
    if token.kind is not TokenKind.NUMBER or not token.value.isdigit() or len(token.value) > 10:
        raise cursor.error()
    return int(cursor.advance().value)


def _heartbeat(cursor: Cursor, word: str) -> float:
    token = cursor.token
    if token.kind is not TokenKind.NUMBER or len(token.value) > 20:
        raise cursor.error()
    seconds = float(cursor.advance().value)
    if seconds > MAX_HEARTBEAT:
        raise heartbeat_out_of_range()
    if seconds < MIN_HEARTBEAT:
        raise not_supported_because(
            f"{word} of less than 0.001", "without heartbeats a source that is gone could not be told from a quiet one"
        )
    return seconds


def _checked(word: str, name: str, text: str) -> str:
    """A text as long as it may be, without what no name, password or path holds."""
    if name == "password":
        if len(text) > MAX_PASSWORD:
            raise password_too_long(MAX_PASSWORD)
        if "\0" in text:
            raise wrong_arguments(word)
        return text
    if len(text) > _LONGEST[name]:
        raise string_too_long(text, word, _LONGEST[name])
    if (not text and name in ("host", "user")) or any(char < " " or char == "\x7f" for char in text):
        raise wrong_arguments(word)
    return text


# --- what the receiver answers ---


def question(statement: ChangeSource | StartReplica | StopReplica | ResetReplica) -> dict[str, Any]:
    """The order, as the receiver takes it."""
    match statement:
        case ChangeSource():
            source, auto_position = dict(statement.options), statement.auto_position
            return {"ask": "order", "order": "change", "source": source, "auto_position": auto_position}
        case StartReplica():
            return {"ask": "order", "order": "start"}
        case StopReplica():
            return {"ask": "order", "order": "stop"}
        case ResetReplica():
            return {"ask": "order", "order": "reset", "all": statement.everything}


def notes_of(answer: Mapping[str, Any] | None) -> list[Diagnostic]:
    """The notes that came with it; Refusal when it was not done."""
    if answer is None:
        raise changed_nothing("no receiver runs on this store; start binlogd run (or receive)")
    if "unanswered" in answer:
        raise outcome_unknown()
    if "refused" in answer:
        code, sqlstate, message = answer["refused"]
        raise Refusal(code, sqlstate, message)
    if "notes" not in answer:
        raise changed_nothing("the receiver does not know this order: it is of another version; restart binlogd")
    return [Diagnostic("Note", code, text) for code, text in answer["notes"]]
