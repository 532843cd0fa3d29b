"""The file that keeps what was ordered by statement: whole or an error, and its owner's alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog.crc import crc32
from binlogd.errors import StoreDamaged
from binlogd.receiver import override
from binlogd.receiver.override import FILE, Override, Said
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.store.disk import Disk

BASE = SourceOptions("db1", 3306, "repl", Secret("configured"))
ALL = Said("db2", 3307, "other", Secret("hush ☃"), 0.5, True, "/ca.pem", "/cert.pem", "/key.pem", False)
HELD = Override("f" * 64, ALL, running=False)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    assert override.load(tmp_path) is None
    HELD.save(Disk(), tmp_path)
    assert override.load(tmp_path) == HELD
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    Override("g").save(Disk(), tmp_path)
    assert override.load(tmp_path) == Override("g", Said(), running=True)
    override.remove(Disk(), tmp_path)
    assert override.load(tmp_path) is None
    override.remove(Disk(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_is_seen(tmp_path: Path) -> None:
    HELD.save(Disk(), tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if chr(whole[at]).isspace() and chr(whole[at] ^ 1).isspace():
            continue
        with pytest.raises(StoreDamaged) as caught:
            override.load(tmp_path)
        assert "hush" not in str(caught.value)
        assert "remove it to receive from the configuration's source" in caught.value.hint
        assert caught.value.exit_code == 4
    for size in range(len(whole) - 1):  # its last newline is of no account
        path.write_bytes(whole[:size])
        with pytest.raises(StoreDamaged):
            override.load(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"running": 1},
        {"fingerprint": None},
        {"more": 1},
        {"source": None},
        {"source": {"hosts": "a"}},
        {"source": {"port": 0}},
        {"source": {"port": True}},
        {"source": {"port": 65_536}},
        {"source": {"host": ""}},
        {"source": {"host": "a\nb"}},
        {"source": {"host": "h" * 256}},
        {"source": {"user": 5}},
        {"source": {"password": "hush\0"}},
        {"source": {"heartbeat": 0}},
        {"source": {"heartbeat": float("nan")}},
        {"source": {"ssl": "yes"}},
        {"source": {"ssl_ca": None}},
    ],
    ids=str,
)
def test_a_sound_file_that_says_what_cannot_be(tmp_path: Path, changed: dict[str, Any]) -> None:
    content = {"format": 1, "fingerprint": "f", "running": True, "source": {}} | changed
    sealed = {**content, "crc32": f"{crc32(json.dumps(content).encode()):08x}"}
    (tmp_path / FILE).write_text(json.dumps(sealed))
    with pytest.raises(StoreDamaged) as caught:
        override.load(tmp_path)
    assert "hush" not in str(caught.value)


def test_what_was_not_said_is_the_configurations() -> None:
    assert Said().applied(BASE) == BASE
    assert not Said()
    said = Said(host="db2").and_then(Said(port=3307, password=Secret("new")))
    assert said.applied(BASE) == SourceOptions("db2", 3307, "repl", Secret("new"))
    assert said.and_then(Said(host="db3")) == Said("db3", 3307, password=Secret("new"))
    assert "new" not in repr(said)


CA = Path("/ca.pem")


@pytest.mark.parametrize(
    ("said", "configured", "ca", "tls"),
    [
        (Said(host="h"), Tls.VERIFY_IDENTITY, None, Tls.VERIFY_IDENTITY),
        (Said(ssl=False), Tls.VERIFY_IDENTITY, CA, Tls.DISABLED),
        (Said(ssl=True), Tls.DISABLED, None, Tls.REQUIRED),
        (Said(ssl=True), Tls.PREFERRED, None, Tls.REQUIRED),
        (Said(ssl=True), Tls.PREFERRED, CA, Tls.VERIFY_CA),
        (Said(ssl=True), Tls.VERIFY_CA, None, Tls.VERIFY_CA),
        (Said(ssl=True), Tls.VERIFY_IDENTITY, None, Tls.VERIFY_IDENTITY),
        (Said(ssl=True, ssl_verify=True), Tls.PREFERRED, None, Tls.VERIFY_IDENTITY),
        (Said(ssl=True, ssl_verify=False), Tls.VERIFY_IDENTITY, None, Tls.VERIFY_CA),
        (Said(ssl_ca="/ca.pem"), Tls.PREFERRED, None, Tls.VERIFY_CA),
        (Said(ssl_ca="/ca.pem"), Tls.DISABLED, None, Tls.DISABLED),
        (Said(ssl=True, ssl_ca=""), Tls.PREFERRED, CA, Tls.REQUIRED),
    ],
)
def test_encryption_as_mysql_takes_its_options(said: Said, configured: Tls, ca: Path | None, tls: Tls) -> None:
    base = SourceOptions("db1", 3306, "repl", Secret(""), tls=configured, tls_ca=ca)
    assert said.applied(base).tls is tls
