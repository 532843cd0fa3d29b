"""From settings to running parts: the one place where configuration meets the core.

``run_receiver`` and ``run_sender`` are the bodies of the two processes; both end by SIGTERM or SIGINT in order, or by
raising what people must act on. Started by a supervisor (``--supervised``), a process ends with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from binlogd.config import Address, Durability, Settings
from binlogd.control.sockets import RECEIVER, SENDER, Board, ControlServer, ControlThread, follow
from binlogd.errors import ConfigError
from binlogd.logs import get_logger
from binlogd.receiver.link import Wake
from binlogd.receiver.progress import Progress
from binlogd.receiver.receiver import Receiver
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.sender.catalog import Catalog
from binlogd.sender.certificates import rsa_key, tls_context
from binlogd.sender.listener import Listener, listen
from binlogd.sender.service import Service, User
from binlogd.sender.sql.statements import Role
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.lock import StoreLock
from binlogd.store.recovery import recover
from binlogd.wire.auth import Account

SUPERVISED_REFUSAL_PAUSE = 60.0  # seconds before a source that refused us is asked again, while replicas are served
PROGRESS_EVERY = 2.0  # seconds between lines about work that takes long
_PR_SET_PDEATHSIG = 1

log = get_logger(__name__)


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the supervisor dies, however it dies."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(0)


def source_options(settings: Settings) -> SourceOptions:
    """What the receiver needs to know."""
    source = settings.source
    host, port = source.hosts[0]
    return SourceOptions(
        host=host,
        port=port,
        user=source.user,
        password=Secret(source.password.get_secret_value()),
        semi_sync=source.semi_sync,
        start=source.start,
        heartbeat=source.heartbeat,
        connect_timeout=source.connect_timeout,
        read_timeout=source.read_timeout,
        tls=Tls(source.tls.value),
        tls_ca=source.tls_ca,
        tls_cert=source.tls_cert,
        tls_key=source.tls_key,
        report_host=source.report_host or platform.node()[:60],
        report_port=settings.server.listen.port,
    )


def run_receiver(settings: Settings, *, supervised: bool = False) -> None:
    """Receive until told to stop."""
    disk = Disk()
    folder = DataFolder(settings.data_dir)
    folder.prepare(disk)
    wake = Wake()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wake.set())
    with StoreLock(folder.lock):
        identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
        recovered = recover(folder, disk, _Recovering())
        if recovered.dropped:
            log.warning(
                "dropped an unfinished tail; the source will send it again",
                file=recovered.publication.file,
                position=recovered.publication.position,
                bytes=recovered.dropped,
                reason=recovered.reason,
            )
        progress = Progress()
        board = Board(recovered.publication)
        started = time.monotonic()
        options = source_options(settings)

        def snapshot() -> dict[str, Any]:
            return {
                "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
                "pid": os.getpid(),
                "uptime_s": round(time.monotonic() - started, 3),
                "source": progress.snapshot() | {"semi_sync_wanted": options.semi_sync},
                "publication": board.current.encode(),
            }

        control = ControlThread(folder.path / RECEIVER, snapshot, board)
        control.start()
        try:
            Receiver(
                options=options,
                folder=folder,
                disk=disk,
                identity=identity,
                recovered=recovered,
                publish=board.put,
                progress=progress,
                wake=wake,
                durable=settings.store.durability is Durability.FSYNC,
                refusal_pause=SUPERVISED_REFUSAL_PAUSE if supervised else None,
            ).run()
        finally:
            control.stop()
    log.info("receiver stopped", file=board.current.file, position=board.current.position)


class _Recovering:
    """Says how far recovery is, when it takes long."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._said > PROGRESS_EVERY:
            self._said = time.monotonic()
            log.info("reading the newest file", done=done, total=total, percent=100 * done // total)


def run_sender(settings: Settings) -> None:
    """Serve until told to stop."""
    disk = Disk()
    folder = DataFolder(settings.data_dir)
    folder.prepare(disk)
    identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
    server = settings.server
    if not server.users:
        raise ConfigError("nobody may log in: server.users is empty", hint="add a [[server.users]] table")
    listening = listen(*server.listen)
    catalog = Catalog(folder)
    service = Service(
        folder=folder,
        catalog=catalog,
        identity=identity,
        users={
            user.name: User(
                Account(
                    user.name,
                    password=user.password.get_secret_value() if user.password is not None else None,
                    password_hash=(user.password_hash.get_secret_value() if user.password_hash is not None else None),
                ),
                Role(user.role.value),
                user.allows,
            )
            for user in server.users
        },
        tls=tls_context(folder.path, disk, certificate=server.tls_cert, key=server.tls_key),
        rsa_key=rsa_key(folder.path, disk),
        require_tls=server.require_tls,
        max_connections=server.max_connections,
        port=server.listen.port,
    )
    started = time.monotonic()

    def snapshot() -> dict[str, Any]:
        return {
            "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - started, 3),
            "listen": _text(server.listen),
        } | service.snapshot()

    async def body() -> None:
        control = ControlServer(folder.path / SENDER, snapshot)
        await control.start()
        log.info("serving", listen=_text(server.listen), server_id=identity.server_id)
        try:
            await Listener(service, listening, lambda: follow(folder.path / RECEIVER)).run()
        finally:
            await control.stop()

    run_until_signalled(body())
    log.info("sender stopped")


def run_until_signalled(body: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a fast event loop; SIGTERM and SIGINT cancel it."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            await body
        except asyncio.CancelledError:
            if not stopped:
                raise

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(guarded())
        except BaseExceptionGroup as group:
            # A task group wraps what one of its tasks raised; people are to see that alone.
            raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first


def _text(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
