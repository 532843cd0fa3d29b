"""binlogd.receiver.session: what somebody on the way, or a source that is not well, can do to a login.

Real servers test logging in; here answers whoever likes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from binlogd.errors import ConfigError, ProtocolError, Unreachable
from binlogd.receiver.link import Stopped, Wake
from binlogd.receiver.session import MAX_PEM, Secret, Session, SourceOptions, Tls
from binlogd.receiver.session import tls_context as client_context
from binlogd.sender.certificates import tls_context
from binlogd.store.disk import Disk
from binlogd.store.layout import Identity
from binlogd.wire.auth import FAST_AUTH_OK
from binlogd.wire.capabilities import Capability
from binlogd.wire.handshake import AuthMoreData, AuthSwitchRequest, Greeting
from binlogd.wire.packets import encode_packets
from binlogd.wire.server import OFFERED

PASSWORD = "s3cr3t-w0rd"
CONNECT_TIMEOUT = 0.5  # seconds
PATIENCE = 20.0  # seconds after which the other side gives up, should we not
ME = Identity("0b0b0b0b-0000-0000-0000-000000000001", 4711)


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose first connection is answered so, in a thread, until that has ended or is cut off."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as one:
                one.settimeout(PATIENCE)
                with suppress(OSError):
                    answer(one)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()


def log_in(port: int, *, wake: Wake | None = None, **options: object) -> None:
    session = Session(
        SourceOptions("127.0.0.1", port, "repl", Secret(PASSWORD), connect_timeout=CONNECT_TIMEOUT, **options),  # type: ignore[arg-type]
        ME,
        wake or Wake(),
    )
    try:
        session.connect()
    finally:
        session.close()


def greeting(capabilities: Capability = OFFERED) -> bytes:
    made = Greeting(server_version="9.7.4", connection_id=1, auth_data=b"x" * 20, capabilities=capabilities)
    return encode_packets(made.encode(), 0)[0]


@pytest.mark.parametrize("tls", [Tls.PREFERRED, Tls.REQUIRED, Tls.VERIFY_CA])
def test_a_man_in_the_middle_is_not_told_the_password(tmp_path: Path, tls: Tls) -> None:
    """He has a certificate of his own making, and asks for mysql_clear_password."""
    context = tls_context(tmp_path, Disk(), certificate=None, key=None)
    heard = bytearray()

    def answer(one: socket.socket) -> None:
        one.sendall(greeting(OFFERED | Capability.SSL))
        one.recv(36, socket.MSG_WAITALL)  # SSLRequest
        with context.wrap_socket(one, server_side=True) as private:
            heard.extend(private.recv(4096))
            private.sendall(encode_packets(AuthSwitchRequest("mysql_clear_password", b"").encode(), 3)[0])
            while data := private.recv(4096):
                heard.extend(data)

    bad = Unreachable if tls is Tls.VERIFY_CA else ProtocolError
    with answering(answer) as port, pytest.raises(bad) as caught:
        log_in(port, tls=tls)
    assert PASSWORD.encode() not in heard
    assert ("repl" in heard.decode(errors="replace")) is (tls is not Tls.VERIFY_CA)
    if tls is Tls.VERIFY_CA:
        assert "is not accepted" in caught.value.message
    else:
        assert "in clear (mysql_clear_password) over TLS without a proof" in caught.value.message
        assert "source.tls_ca" in caught.value.hint


def test_a_source_that_proved_who_it_is_is_told(tmp_path: Path) -> None:
    context = tls_context(tmp_path, Disk(), certificate=None, key=None)
    heard = bytearray()

    def answer(one: socket.socket) -> None:
        one.sendall(greeting(OFFERED | Capability.SSL))
        one.recv(36, socket.MSG_WAITALL)
        with context.wrap_socket(one, server_side=True) as private:
            private.recv(4096)
            private.sendall(encode_packets(AuthSwitchRequest("mysql_clear_password", b"").encode(), 3)[0])
            heard.extend(private.recv(4096))

    with answering(answer) as port, pytest.raises(Unreachable):
        log_in(port, tls=Tls.VERIFY_CA, tls_ca=tmp_path / "server-cert.pem")
    assert heard[4:] == PASSWORD.encode() + b"\0"


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large"])
def test_a_tls_file_without_an_end_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    """CHANGE REPLICATION SOURCE names it, and the thread that answers everybody reads it."""
    tls_context(tmp_path, Disk(), certificate=None, key=None)
    certificate = tmp_path / "server-cert.pem"
    options = replace(
        SourceOptions("127.0.0.1", 1, "repl", Secret(PASSWORD), tls=Tls.VERIFY_CA),
        tls_ca=certificate,
        tls_cert=certificate,
        tls_key=tmp_path / "server-key.pem",
    )
    client_context(options)
    bad = tmp_path / "bad.pem"
    match kind:
        case "fifo":
            os.mkfifo(bad)
        case "device":
            bad.symlink_to("/dev/zero")
        case "folder":
            bad.mkdir()
        case _:
            bad.write_bytes(certificate.read_bytes() + b"\n" * MAX_PEM)
    with pytest.raises(ConfigError, match=r"bad\.pem is no regular file of at most 1024 KiB") as caught:
        client_context(replace(options, **{name: bad}))  # type: ignore[arg-type]
    assert name in caught.value.hint


@pytest.mark.parametrize("apart", [True, False])
def test_an_encrypted_key_is_refused_and_no_passphrase_asked_for(tmp_path: Path, apart: bool) -> None:
    tls_context(tmp_path, Disk(), certificate=None, key=None)
    certificate, key = tmp_path / "server-cert.pem", tmp_path / "key.pem"
    made = load_pem_private_key((tmp_path / "server-key.pem").read_bytes(), None)
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush")))
    if not apart:
        key.write_bytes(key.read_bytes() + certificate.read_bytes())
    options = SourceOptions(
        "127.0.0.1",
        1,
        "repl",
        Secret(PASSWORD),
        tls_cert=certificate if apart else key,
        tls_key=key if apart else None,
    )
    with pytest.raises(ConfigError, match=r"the key in .*key\.pem is encrypted") as caught:
        client_context(options)
    assert "decrypt it" in caught.value.hint


def trickle(one: socket.socket, data: bytes) -> None:
    """A byte now and then: no wait is long."""
    for at in range(len(data)):
        one.sendall(data[at : at + 1])
        time.sleep(CONNECT_TIMEOUT / 5)


def greeting_by_bytes(one: socket.socket) -> None:
    trickle(one, greeting())


def silence(one: socket.socket) -> None:
    one.recv(1)


def tls_by_bytes(one: socket.socket) -> None:
    one.sendall(greeting(OFFERED | Capability.SSL))
    one.recv(36, socket.MSG_WAITALL)  # SSLRequest
    trickle(one, b"\x16\x03\x03\x40\x00" + bytes(100))  # of a record that never ends


def answers_without_end(one: socket.socket) -> None:
    """As fast as it can: there is nothing to wait for."""
    one.sendall(greeting())
    sequence, data = 2, b""
    for _ in range(256):
        packet, sequence = encode_packets(AuthMoreData(FAST_AUTH_OK).encode(), sequence)
        data += packet
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        one.sendall(data)


@pytest.mark.parametrize("answer", [greeting_by_bytes, silence, tls_by_bytes, answers_without_end])
def test_the_whole_login_has_one_time(answer: Callable[[socket.socket], None]) -> None:
    with answering(answer) as port:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"did not finish the login within 0\.5 s") as caught:
            log_in(port)
        assert CONNECT_TIMEOUT <= time.monotonic() - began < PATIENCE / 2
    assert "source.connect_timeout" in caught.value.hint


def test_a_stop_ends_a_login_that_never_waits() -> None:
    wake = Wake()
    with answering(answers_without_end) as port:
        timer = threading.Timer(CONNECT_TIMEOUT / 5, wake.set)
        timer.start()
        with pytest.raises(Stopped):
            log_in(port, wake=wake)
        timer.join()
