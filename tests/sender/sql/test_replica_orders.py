"""Orders for the receiver as statements: their grammar, who may give them, and where a password is shown: nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from binlogd.control.sockets import UNANSWERED
from binlogd.sender.sql import Role
from binlogd.sender.sql.parser import parse
from binlogd.sender.sql.refusals import without_secrets
from binlogd.sender.sql.statements import ChangeSource

from .support import Client

CHANGE = "CHANGE REPLICATION SOURCE TO"


@pytest.fixture
def admin() -> Client:
    return Client(Role.ADMIN, answer={"notes": []})


def asked(admin: Client, statement: str) -> dict[str, Any]:
    admin.run(statement)
    (question,) = admin.questions
    return question


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ("SOURCE_HOST='db2', SOURCE_PORT=3307", {"host": "db2", "port": 3307}),
        ("SOURCE_USER='u', SOURCE_PASSWORD='p'", {"user": "u", "password": "p"}),
        ("source_host = \"a\", SOURCE_HOST='b'", {"host": "b"}),
        ("SOURCE_PORT=0, SOURCE_HOST='a'", {"host": "a"}),  # as in MySQL: nothing said
        ("SOURCE_PASSWORD='', SOURCE_AUTO_POSITION=1", {"password": ""}),
        ("SOURCE_HEARTBEAT_PERIOD=0.5", {"heartbeat": 0.5}),
        ("SOURCE_SSL=1, SOURCE_SSL_CA='/ca', SOURCE_SSL_VERIFY_SERVER_CERT=0",
         {"ssl": True, "ssl_ca": "/ca", "ssl_verify": False}),
        ("SOURCE_SSL_CERT='/c', SOURCE_SSL_KEY='/k'", {"ssl_cert": "/c", "ssl_key": "/k"}),
        ("GET_SOURCE_PUBLIC_KEY=1", {}),
        ("SOURCE_HOST='a' FOR CHANNEL ''", {"host": "a"}),
    ],
)  # fmt: skip
def test_another_source(admin: Client, options: str, source: dict[str, Any]) -> None:
    assert asked(admin, f"{CHANGE} {options};") == {
        "ask": "order",
        "order": "change",
        "source": source,
        "auto_position": "AUTO_POSITION" in options,
    }


def test_the_old_spelling(admin: Client) -> None:
    question = asked(admin, "CHANGE MASTER TO MASTER_HOST='a', MASTER_SSL_CA='', GET_MASTER_PUBLIC_KEY=1")
    assert question["source"] == {"host": "a", "ssl_ca": ""}


@pytest.mark.parametrize(
    ("statement", "order"),
    [
        ("START REPLICA", {"order": "start"}),
        ("START SLAVE IO_THREAD FOR CHANNEL ''", {"order": "start"}),
        ("STOP REPLICA SQL_THREAD, IO_THREAD", {"order": "stop"}),
        ("STOP SLAVE", {"order": "stop"}),
        ("RESET REPLICA", {"order": "reset", "all": False}),
        ("RESET SLAVE ALL", {"order": "reset", "all": True}),
    ],
)
def test_the_other_orders(admin: Client, statement: str, order: dict[str, Any]) -> None:
    assert asked(admin, statement) == {"ask": "order", **order}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("SOURCE_HOST=''", 1210),
        ("SOURCE_USER=''", 1210),
        ("SOURCE_HOST='a\\nb'", 1210),
        ("SOURCE_PASSWORD='a\\0b'", 1210),
        ("SOURCE_PORT=65536", 1210),
        (f"SOURCE_HOST='{'h' * 256}'", 1470),
        (f"SOURCE_PASSWORD='{'p' * 257}'", 3056),
        ("SOURCE_HEARTBEAT_PERIOD=5000000", 1624),
        ("SOURCE_HEARTBEAT_PERIOD=0", 1235),
        ("SOURCE_AUTO_POSITION=0", 1235),
        ("SOURCE_LOG_FILE='mysql-bin.000001', SOURCE_LOG_POS=4", 1235),
        ("RELAY_LOG_POS=4", 1235),
        ("SOURCE_DELAY=5", 1235),
        ("SOURCE_COMPRESSION_ALGORITHMS='zstd'", 1235),
        ("GET_SOURCE_PUBLIC_KEY=0", 1235),
        ("SOURCE_HOST='a' FOR CHANNEL 'other'", 3074),
        ("SOURCE_PORT=3306 SOURCE_HOST='a'", 1064),
    ],
)
def test_what_cannot_be_honoured_is_refused(admin: Client, options: str, code: int) -> None:
    assert admin.code(f"{CHANGE} {options}") == code
    assert admin.questions == []


@pytest.mark.parametrize("statement", ["START REPLICA SQL_THREAD", "STOP REPLICA SQL_THREAD", "START REPLICA UNTIL x"])
def test_nothing_is_applied_here(admin: Client, statement: str) -> None:
    assert admin.code(statement) == 1235


@pytest.mark.parametrize("role", [Role.REPLICA, Role.MONITOR])
@pytest.mark.parametrize(
    "statement", [f"{CHANGE} SOURCE_PORT=1", "START REPLICA", "STOP REPLICA", "RESET REPLICA", "RESET REPLICA ALL"]
)
def test_orders_are_an_admins(role: Role, statement: str) -> None:
    client = Client(role, answer={"notes": []})
    assert client.code(statement) == 1227
    assert client.questions == []


def test_the_notes_are_shown_as_warnings(admin: Client) -> None:
    admin.answer = {"notes": [[3084, "already stopped"]]}
    outcome = admin.run("STOP REPLICA")
    assert getattr(outcome, "warnings", None) == 1
    assert admin.rows("SHOW WARNINGS") == [("Note", "3084", "already stopped")]
    admin.answer = {"notes": []}
    admin.run(f"{CHANGE} SOURCE_CONNECT_RETRY=5")
    ((level, code, text),) = admin.rows("SHOW WARNINGS")
    assert (level, code) == ("Note", "1105")
    assert text is not None
    assert text.startswith("SOURCE_CONNECT_RETRY is not used")


def test_a_refusal_is_the_receivers(admin: Client) -> None:
    admin.answer = {"refused": [3021, "HY000", "stop first"]}
    error = admin.refusal(f"{CHANGE} SOURCE_HOST='a'")
    assert (error.code, error.message) == (3021, "stop first")
    assert admin.rows("SHOW ERRORS") == [("Error", "3021", "stop first")]


@pytest.mark.parametrize(("answer", "what"), [(None, "no receiver runs"), ({"error": "?"}, "another version")])
def test_nobody_takes_the_order(admin: Client, answer: Any, what: str) -> None:
    admin.answer = answer
    error = admin.refusal("STOP REPLICA")
    assert error.code == 1201
    assert error.message.startswith("Nothing has changed: ")
    assert what in error.message


def test_an_order_without_an_answer_may_be_carried_out_yet(admin: Client) -> None:
    admin.answer = UNANSWERED
    error = admin.refusal("STOP REPLICA")
    assert error.code == 1201
    assert "Nothing has changed" not in error.message
    assert "the outcome is not known" in error.message
    assert "SHOW REPLICA STATUS" in error.message
    (row,) = admin.rows("SHOW REPLICA STATUS")
    assert any("the receiver does not answer" in (value or "") for value in row)


# ----------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "statement",
    [
        f"{CHANGE} SOURCE_PASSWORD='hush' FOO",
        f"{CHANGE} SOURCE_PASSWORD='hush",
        f"{CHANGE} SOURCE_PASSWORD=hush",
        f"{CHANGE} SOURCE_PASSWORD 'hush'",
        f"{CHANGE} SOURCE_PASWORD='hush'",
        f"{CHANGE} SOURCE_PASSWORD=/* ' */'hush' FOO",
        f"{CHANGE} FOO='a', SOURCE_PASSWORD='hush'",
        "CHANGE REPLICATION SORCE TO SOURCE_PASSWORD = 'hush', SOURCE_HOST='a'",
        "START REPLICA USER='u' PASSWORD='hush'",
        "CREATE USER u IDENTIFIED BY 'hush'",
        "SET PASSWORD = 'hush' X",
    ],
)
def test_a_password_is_not_repeated(admin: Client, statement: str) -> None:
    assert "hush" not in str(admin.refusal(statement))
    assert "hush" not in str(admin.rows("SHOW WARNINGS"))
    assert "hush" not in without_secrets(statement)


def test_what_is_no_password_is_repeated(admin: Client) -> None:
    assert "near 'FOO=1'" in str(admin.refusal(f"{CHANGE} SOURCE_PASSWORD='hush', FOO=1"))
    assert without_secrets(f"{CHANGE} SOURCE_HOST='a'") == f"{CHANGE} SOURCE_HOST='a'"
    assert without_secrets(f"{CHANGE} SOURCE_HOST='a', SOURCE_PASSWORD='hush', SOURCE_PORT=1") == (
        f"{CHANGE} SOURCE_HOST='a', SOURCE_PASSWORD = <secret>"
    )
    show = "SHOW VARIABLES LIKE 'default_password_lifetime'"
    assert without_secrets(show) == show
    assert "near 'x'" in str(admin.refusal(f"{show} x"))


def test_no_repr_shows_it() -> None:
    parsed = parse(f"{CHANGE} SOURCE_PASSWORD='hush'")
    assert isinstance(parsed, ChangeSource)
    assert "hush" not in repr(parsed)
