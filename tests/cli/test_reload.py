"""The configuration read again: what of it counts at once, what later, and what not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from binlogd.cli.receiver_process import configured_orders, fingerprint
from binlogd.cli.reload import Reloading, answers_hangups
from binlogd.config import Settings, load_settings
from binlogd.receiver.orders import Follow
from binlogd.wire.auth import Account
from tests.sender.listening import USERS, make_service

BASE = '[source]\nhosts = ["db1", "db2:3307"]\nuser = "repl"\n'

Write = Callable[..., Settings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str = 'password = "one"\n', **environ: str) -> Settings:
        file = tmp_path / "binlogd.toml"
        file.write_text(BASE + text)
        return load_settings(str(file), environ=environ)

    return write


def test_what_the_configuration_orders(write: Write) -> None:
    orders = configured_orders(write('password = "one"\nfollow = "first"\non_divergence = "new-timeline"\n'))
    assert [(source.host, source.port) for source in orders.sources] == [("db1", 3306), ("db2", 3307)]
    assert {source.password.reveal() for source in orders.sources} == {"one"}
    assert (orders.follow, orders.keep_both, orders.running) == (Follow.FIRST, True, True)
    orders = configured_orders(write())
    assert (orders.follow, orders.keep_both) == (Follow.WRITABLE, False)


def test_the_fingerprint_is_of_what_was_written_of_the_source(write: Write, tmp_path: Path) -> None:
    first = fingerprint(write())
    written = '{"hosts": ["db1:3306", "db2:3307"], "user": "repl"}'
    assert first == hashlib.sha256(written.encode()).hexdigest(), "a new version must not take it for edited"
    for same in (
        'password = "two"\n',
        'password = "one"\nfollow = "writable"\n',  # its default
        'password = "one"\n[server]\nmax_connections = 5\n',
        'password = "one"\n[store]\ndurability = "os"\n',
    ):
        assert fingerprint(write(same)) == first, same
    (tmp_path / "secret").write_text("three")
    assert fingerprint(write(f'password_file = "{tmp_path / "secret"}"\n')) == first
    for other in (
        'password = "one"\nfollow = "first"\n',
        'password = "one"\ntls = "required"\n',
        'password = "one"\nheartbeat = "2s"\n',
    ):
        assert fingerprint(write(other)) != first, other
    assert fingerprint(write(BINLOGD_SOURCE__HOSTS="db2:3307,db1")) != first, "their order counts"
    assert fingerprint(write(BINLOGD_SOURCE__USER="other")) != first


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_what_is_wrong_changes_nothing_and_what_is_fixed_is_named(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    from binlogd.logs import configure_logging

    configure_logging("json")
    text = ['password = "one"\n']
    reloading = Reloading(write(), lambda: write(text[0]), ("data_dir", "store", "server.listen"))
    assert reloading.again() == write()
    assert logged(capsys) == []
    text[0] = 'password = "S3CRET"\nfollow = "nobody"\n'
    assert reloading.again() is None
    (line,) = logged(capsys)
    assert line["level"] == "error"
    assert "source.follow" in line["error"]
    assert "S3CRET" not in str(line)
    text[0] = 'password = "one"\n[server]\nlisten = "127.0.0.1:4000"\nmax_connections = 5\n[store]\nmin_free = "1GiB"\n'
    for _ in range(2):  # as long as it is so
        again = reloading.again()
        assert again is not None
        assert again.server.max_connections == 5
        (line,) = logged(capsys)
        assert line["keys"] == ["store", "server.listen"]


def test_who_answers_a_hangup() -> None:
    assert not answers_hangups(1 << 30), "there is no such process"
    assert answers_hangups(os.getpid()) is False


def test_the_listener_lets_new_users_in_and_old_ones_not(tmp_path: Path) -> None:
    service = make_service(tmp_path)
    assert service.find_user("repl", "127.0.0.1") is not None
    decoy = service.decoy
    hashed = Account("late", password_hash="*" + "A" * 40)
    late = type(USERS["admin"])(hashed, USERS["admin"].role, USERS["admin"].allows)
    service.reload(users={"late": late}, tls=None, require_tls=True, max_connections=3)
    assert service.find_user("repl", "127.0.0.1") is None
    assert service.find_user("late", "127.0.0.1") is late
    assert service.decoy.password_hash != decoy.password_hash, "a stranger's login costs what a user's does"
    assert (service.require_tls, service.max_connections, service.gate.max_connections) == (True, 3, 3)
