"""One TCP connection to the source, plain or TLS, that never waits longer than told and can be woken.

The socket does not block; waiting is done by poll on it and on an eventfd, so that a stop is answered at once,
whatever the source does or does not do.

Compression, once the login has agreed on it, is one more layer over either: what was taken from the socket waits here
until it is read, at most RAW bytes of it and what a header takes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from binlogd.errors import Unreachable
from binlogd.wire.compression import Algorithm, CompressedStream

RAW = 256 * 1024  # compressed bytes taken at once: they make about a megabyte, what is written at once
KEEPALIVE_IDLE = 10  # seconds: routers on the way keep the connection in mind; a dead one is read_timeout's to notice


class Stopped(Exception):
    """The wake-up descriptor fired: this is the end."""


class Interrupted(Stopped):
    """It fired for news, which are to be looked at; then things go on."""


class Wake:
    """An eventfd that ends every wait of the links it is given to."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._fired = False  # what the descriptor says, without a system call
        self._ended = False
        self._lock = threading.Lock()  # of interrupting and going on, never held in a signal handler

    def set(self) -> None:
        """From now on every wait raises Stopped. Safe in a signal handler and from any thread."""
        self._ended = self._fired = True
        os.eventfd_write(self.descriptor, 1)

    def interrupt(self) -> None:
        """Until ``go_on`` every wait raises Interrupted. From any thread, but not in a signal handler."""
        with self._lock:
            self._fired = True
            os.eventfd_write(self.descriptor, 1)

    def go_on(self) -> None:
        """The news are taken. Those that come from now on interrupt again; an end stays one."""
        with self._lock:
            self._fired = False
            with suppress(BlockingIOError):
                os.eventfd_read(self.descriptor)
            if self._ended:  # it may have been its own writing that was just read
                self.set()

    def check(self) -> None:
        """Raises when woken; costs nothing."""
        if self._fired:
            self.fired()

    def fired(self) -> NoReturn:
        """Raises what it was woken for."""
        raise Stopped if self._ended else Interrupted

    def sleep(self, seconds: float | None) -> None:
        """Wait, None for ever; raises when woken."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        if poll.poll(None if seconds is None else seconds * 1000):
            self.fired()


class Link:
    """Connects on construction; Unreachable when that fails or takes longer than ``timeout`` seconds.

    From then on ``timeout`` is how long one wait may take. Between ``begin_login`` and ``end_login`` all waits together
    may take no longer: a source that sends a byte now and then would hold us for ever.
    """

    def __init__(self, host: str, port: int, *, timeout: float, wake: Wake) -> None:
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(wake.descriptor, select.POLLIN)
        self._tls: ssl.SSLSocket | None = None
        self._compressed: CompressedStream | None = None
        self.peer = f"{host}:{port}"
        self.timeout = timeout
        self._deadline: float | None = None  # of the login
        self._socket = self._connect(host, port)
        self._recv_into: Callable[[memoryview], int] = self._socket.recv_into  # of the uppermost layer

    def _connect(self, host: str, port: int) -> socket.socket:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as bad:
            unknown = bad.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
            raise Unreachable(
                f"cannot find the source's host {host}: {bad.strerror}",
                hint="check the name in source.hosts" if unknown else "check the machine's name resolution",
                code=2005,
            ) from bad
        last: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                candidate = socket.socket(family, kind, protocol)
            except OSError as bad:  # no file descriptor, or no such family here
                last = bad
                continue
            try:
                candidate.setblocking(False)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                candidate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
                result = candidate.connect_ex(address)
                if result not in (0, errno.EINPROGRESS):
                    raise OSError(result, os.strerror(result))
                if result:
                    self._wait(select.POLLOUT, on=candidate)
                    result = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if result:
                        raise OSError(result, os.strerror(result))
            except (OSError, Unreachable) as bad:
                self._forget(candidate)
                last = bad if isinstance(bad, OSError) else OSError(errno.ETIMEDOUT, "no answer")
            except BaseException:
                self._forget(candidate)
                raise
            else:
                return candidate
        assert last is not None
        raise Unreachable(
            f"cannot connect to the source at {self.peer}: {last.strerror}",
            hint="check that mysqld runs there, listens on that address and that no firewall stands between",
            code=2003,
        )

    def _forget(self, candidate: socket.socket) -> None:
        with suppress(KeyError):
            self._poll.unregister(candidate)
        candidate.close()

    def _wait(self, events: int, timeout: float | None = None, on: socket.socket | None = None) -> None:
        limit = self.timeout if timeout is None else timeout
        left = self._login_left()
        if not self._await(events, limit if left is None else min(limit, left), on):
            self._login_left()
            raise Unreachable(f"the source at {self.peer} was silent for {limit:g} s", code=2013)

    def begin_login(self) -> None:
        """From here on ``timeout`` is for everything up to ``end_login``."""
        self._deadline = time.monotonic() + self.timeout

    def end_login(self, timeout: float) -> None:
        """We are logged in; ``timeout`` is for each wait from here on."""
        self._deadline, self.timeout = None, timeout

    def _login_left(self) -> float | None:
        """Seconds that the login may still take; Unreachable when it took all of them."""
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Unreachable(
                f"the source at {self.peer} did not finish the login within {self.timeout:g} s",
                hint="check its load and the network, and what answers on that port; source.connect_timeout sets the"
                " time",
                code=2013,
            )
        return left

    def _await(self, events: int, timeout: float, on: socket.socket | None = None) -> bool:
        """Whether the socket is ready within ``timeout`` seconds. Raises when woken."""
        self._poll.register(on or self._socket, events)
        ready = self._poll.poll(timeout * 1000)
        for descriptor, _ in ready:
            if descriptor == self._wake.descriptor:
                self._wake.fired()
        return bool(ready)

    def check_stop(self) -> None:
        """Raises when woken: for loops that may never have to wait."""
        self._wake.check()

    def wait_readable(self) -> None:
        """Until there is more to read, after ``receive_into`` gave None; Unreachable after ``timeout`` s of silence."""
        self._wait(select.POLLIN)

    def gather(self, size: int, timeout: float) -> bool:
        """Wait until ``size`` bytes are there to read; False when ``timeout`` seconds have gone by first.

        A source that sends in small pieces wakes us once for many of them.
        """
        self._set_least(size)
        try:
            return self._await(select.POLLIN, timeout)
        finally:
            self._set_least(1)

    def _set_least(self, size: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def receive_into(self, buffer: memoryview) -> int | None:
        """What is there now, at most the buffer's size; None when there is nothing.

        ProtocolError when the source's compressed packets are broken.
        """
        try:
            size = self._recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wait(select.POLLOUT)
            return None
        except OSError as bad:
            raise Unreachable(f"lost the connection to the source at {self.peer}: {bad.strerror}", code=2013) from bad
        if not size:
            raise Unreachable(f"the source at {self.peer} closed the connection", code=2013)
        return size

    def receive(self) -> bytes:
        """Some bytes, waiting for them."""
        self.check_stop()  # a source that sends without a pause makes us wait nowhere
        self._login_left()
        buffer = memoryview(bytearray(64 * 1024))
        while (size := self.receive_into(buffer)) is None:
            self.wait_readable()
        return bytes(buffer[:size])

    def send(self, data: bytes) -> None:
        """All of ``data``; Unreachable when the source does not take it within ``timeout`` seconds."""
        view = memoryview(data if self._compressed is None else self._compressed.pack(data))
        deadline = time.monotonic() + self.timeout
        while view:
            try:
                view = view[(self._tls or self._socket).send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, max(deadline - time.monotonic(), 0.001))
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, max(deadline - time.monotonic(), 0.001))
            except OSError as bad:
                raise Unreachable(
                    f"lost the connection to the source at {self.peer}: {bad.strerror}", code=2013
                ) from bad

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """TLS from here on; Unreachable with the reason when the handshake fails."""
        try:
            self._tls = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket = self._tls
            self._recv_into = self._tls.recv_into
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    self._wait(select.POLLIN)
                except ssl.SSLWantWriteError:
                    self._wait(select.POLLOUT)
        except ssl.SSLCertVerificationError as bad:
            raise Unreachable(
                f"the certificate of the source at {self.peer} is not accepted: {bad.verify_message}",
                hint="set source.tls_ca to the CA that signed it, or lower source.tls",
                code=2026,
            ) from bad
        except OSError as bad:
            raise Unreachable(f"TLS with the source at {self.peer} failed: {bad}", code=2026) from bad

    def start_compression(self, algorithm: Algorithm) -> None:
        """Everything from here on comes and goes in compressed packets."""
        compressed = self._compressed = CompressedStream(algorithm)
        raw = memoryview(bytearray(RAW))
        below = self._recv_into

        def recv_into(buffer: memoryview) -> int:
            while not (size := compressed.read_into(buffer)):
                taken = below(raw)  # raises as it always does when nothing is there
                if not taken:
                    return 0
                compressed.feed(raw[:taken])
            return size

        self._recv_into = recv_into

    def begin_dump(self, *, semi_sync: bool) -> None:
        """A dump was just asked for, and what is sent from here on are acknowledgements."""
        if self._compressed is not None:
            self._compressed.begin_dump(restarts=semi_sync)

    @property
    def layered(self) -> bool:
        """Whether ``receive_into`` may give less than is there: a TLS record, or a compressed packet, at a time."""
        return self._tls is not None or self._compressed is not None

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on."""
        return self._tls is not None

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()
