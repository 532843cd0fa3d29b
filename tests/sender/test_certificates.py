"""The listener's keys: kept, and used without being kept when the disk is full."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from binlogd.sender.certificates import rsa_key, tls_context
from binlogd.store.disk import Disk


class Full(Disk):
    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        raise OSError(28, "No space left on device")


def test_they_are_kept(tmp_path: Path) -> None:
    assert rsa_key(tmp_path, Disk()).to_pem() == rsa_key(tmp_path, Full()).to_pem()
    tls_context(tmp_path / "tls", Disk(), certificate=None, key=None)
    before = (tmp_path / "tls" / "server-cert.pem").read_bytes()
    tls_context(tmp_path / "tls", Full(), certificate=None, key=None)
    assert (tmp_path / "tls" / "server-cert.pem").read_bytes() == before


def test_a_full_disk_keeps_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    assert "PRIVATE KEY" in rsa_key(tmp_path, Full()).to_pem().decode()
    context = tls_context(tmp_path, Full(), certificate=None, key=None)
    assert context.cert_store_stats() is not None
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(client, server, server_side=True)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    theirs = trusting.wrap_bio(server, client)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in {ours, theirs} - done:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(side)
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert sum("cannot be kept" in record.getMessage() for record in caplog.records) == 2
    assert "PRIVATE KEY" not in caplog.text
    assert len(os.listdir("/proc/self/fd")) == descriptors
