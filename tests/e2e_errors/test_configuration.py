"""What is wrong with what we were told: exit code 2, the key, and the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import binlogd, the_error
from tests.e2e_errors.support import NOWHERE, ended

MODES = ("run", "receive", "serve")


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_key(tmp_path: Path, mode: str) -> None:
    (tmp_path / "binlogd.toml").write_text("[server]\nlistn = '127.0.0.1:3307'\n")
    error = the_error(binlogd(mode, "--source", NOWHERE, cwd=tmp_path), 2)
    assert error == 'binlogd: unknown key "server.listn" in binlogd.toml — did you mean server.listen?'
    assert [path.name for path in tmp_path.iterdir()] == ["binlogd.toml"]


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_variable(tmp_path: Path, mode: str) -> None:
    error = the_error(binlogd(mode, "--source", NOWHERE, cwd=tmp_path, environ={"BINLOGD_DATADIR": "x"}), 2)
    assert "BINLOGD_DATADIR" in error
    assert "BINLOGD_DATA_DIR" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "source.hosts is missing"),
        (["receive", "--source", "mysql://repl@db1"], "source.password is missing"),
        (["serve"], "server.users is missing, so nobody could log in"),
        (["run", "--source", "postgres://u:S3CRET@h"], "mysql://"),
        (["run", "--source", NOWHERE, "--listen", "3307"], "--listen"),
        (["run", "--source", NOWHERE, "--http", "localhost:x"], "--http"),
        (["run", "--source", NOWHERE, "-c", "absent.toml"], "absent.toml"),
        (["run", "--sorce", NOWHERE], "No such option"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = binlogd(*arguments, cwd=tmp_path)
    error = the_error(result, 2)
    assert words in error
    assert " — " in error or "must be HOST:PORT" in error
    assert "S3CRET" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["run", "serve"])
def test_a_certificate_that_is_none(tmp_path: Path, mode: str) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    environ = {"BINLOGD_SERVER__TLS_CERT": str(tmp_path / "c.pem"), "BINLOGD_SERVER__TLS_KEY": str(tmp_path / "c.pem")}
    error = the_error(ended(mode, NOWHERE, tmp_path / "data", environ=environ), 2)
    assert f"cannot load the listener's certificate {tmp_path}/c.pem" in error
    assert "server.tls_cert" in error.partition(" — ")[2]
