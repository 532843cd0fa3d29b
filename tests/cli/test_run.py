"""How ``binlogd run`` starts its halves, and what it says of itself; the rest is in e2e_errors/test_processes.py."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from binlogd.cli import launch
from binlogd.cli.launch import MAX_OPTIONS, encode_options, launched
from binlogd.config import Purpose
from binlogd.errors import ConfigError
from testbed.binlogd import Binlogd
from tests.cli.support import TIMEOUT, binlogd, the_error

OPTIONS: dict[str, str | None] = {
    "config": None,
    "source": "mysql://repl:p%40ss%22@db1:3307",
    "listen": "127.0.0.1:4000",
    "data_dir": "data with ☃",
    "http": None,
}
NOTHING: dict[str, str | None] = dict.fromkeys(OPTIONS)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives bytes to a half's standard input, and ties it to nobody."""

    def tell(line: bytes) -> None:
        monkeypatch.setattr(launch, "end_with_parent", lambda _: None)
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(line)))

    return tell


def test_a_half_is_told_everything_by_a_pipe(told: Any) -> None:
    line = encode_options(OPTIONS)
    assert line.count(b"\n") == 1
    assert len(line) < MAX_OPTIONS
    told(line)
    load = launched(NOTHING, Purpose.RUN, supervised=True)
    settings = load()
    assert settings.source.hosts == (("db1", 3307),)
    assert settings.source.password.get_secret_value() == 'p@ss"'
    assert settings.server.listen == ("127.0.0.1", 4000)
    assert str(settings.data_dir) == "data with ☃"
    assert load() == settings, "and again, though the pipe is read"


def test_alone_its_own_options_count(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told(encode_options(OPTIONS))
    with pytest.raises(ConfigError, match=r"source\.hosts is missing"):
        launched(NOTHING, Purpose.RUN, supervised=False)()


@pytest.mark.parametrize("half", ["receive", "serve"])
@pytest.mark.parametrize("line", [b"", b'{"config": null, "sour'])
def test_a_supervisor_that_is_gone_leaves_no_half(half: str, line: bytes, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "binlogd", half, "--supervised"],
        input=line,
        cwd=tmp_path,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    """Whom to receive from is not known, and to guess could be to receive from a server that was left."""
    (tmp_path / "source.override.json").write_text("{}")
    result = binlogd("receive", "--source", "mysql://repl:secret@127.0.0.1:1", "--data-dir", str(tmp_path))
    error = the_error(result, 4)
    assert "source.override.json is damaged" in error
    assert "remove it to receive from the configuration's source" in error


def test_any_free_port(tmp_path: Path) -> None:
    """What was got is said, in the log and in the status."""
    settings = {"server.listen": "127.0.0.1:0", "http.listen": "127.0.0.1:0"}
    running = Binlogd(tmp_path, ("127.0.0.1", 1), settings=settings).start()
    try:
        host, _, port = running.status()["server"]["listen"].partition(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)
        running.port = int(port)
        assert running.query("SELECT @@port") == [(int(port),)]
        lines = [json.loads(line) for line in running.log.splitlines()]
        (page,) = [line["listen"] for line in lines if line["event"] == "answering over HTTP"]
        assert not page.endswith(":0")
        assert running.stop() == 0
    finally:
        running.close()


def test_a_client_that_does_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """systemd waits 45 seconds for the end of all, and then kills."""
    running = Binlogd(tmp_path, ("127.0.0.1", 1)).start()
    try:
        with socket.socket() as asking:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            asking.connect((running.host, running.http_port))
            # Answers of 16 MiB, more than sockets hold: they get stuck long before both processes have ended.
            asking.sendall(b"GET /page/chain.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 1000)
            began = time.monotonic()
            os.kill(running.pid, signal.SIGTERM)
            assert running._process is not None and running._process.wait(TIMEOUT * 2) == 0
            assert time.monotonic() - began < 30.0
    finally:
        running.close()
