"""From settings to a running receiver: where configuration meets the core. Ends by SIGTERM or SIGINT in order."""

from __future__ import annotations

import os
import platform
import signal
import time
from typing import Any

from binlogd.cli.processes import prepare_process
from binlogd.config import Compression, Divergence, Durability, Settings
from binlogd.control.board import Board
from binlogd.control.sockets import RECEIVER, SENDER, ControlThread, ask_status
from binlogd.errors import StoreError, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Desk, Follow, Orders
from binlogd.receiver.progress import Progress
from binlogd.receiver.receiver import Receiver
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.receiver.storekeeper import STARTING
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.lock import StoreLock
from binlogd.store.publication import NOTHING
from binlogd.store.reader import DAMAGED_HINT, StoredFile
from binlogd.store.recovery import Recovered, recover, still_damaged
from binlogd.store.watch import Watch
from binlogd.wire.compression import Algorithm

SUPERVISED_REFUSAL_PAUSE = 60.0  # seconds before a source that refused us is asked again, while replicas are served
PROGRESS_EVERY = 2.0  # seconds between lines about work that takes long

log = get_logger(__name__)


def source_options(settings: Settings, host: str, port: int) -> SourceOptions:
    """What the receiver needs to know to reach a source."""
    source = settings.source
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
        compression=None if source.compression is Compression.NONE else Algorithm(source.compression.value),
        tls=Tls(source.tls.value),
        tls_ca=source.tls_ca,
        tls_cert=source.tls_cert,
        tls_key=source.tls_key,
        report_host=source.report_host or platform.node()[:60],
        report_port=settings.server.listen.port,
    )


def orders(settings: Settings) -> Orders:
    """What the receiver is told by the configuration."""
    source = settings.source
    return Orders(
        sources=tuple(source_options(settings, *address) for address in source.hosts),
        follow=Follow(source.follow.value),
        keep_both=source.on_divergence is Divergence.NEW_TIMELINE,
    )


def run_receiver(settings: Settings, *, supervised: bool = False) -> None:
    """Receive until told to stop."""
    disk = Disk()
    folder = DataFolder(settings.data_dir)
    folder.prepare(disk)
    prepare_process()
    wake = Wake()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: wake.set())
    with StoreLock(folder.lock) as lock:
        identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
        watch = Watch(disk, folder.path, min_free=settings.store.min_free or 0, lock=lock)
        damaged: list[StoredFile] = []
        recovered: Recovered | StoreError
        try:
            recovered = _recover(folder, disk, damaged)
        except StoreUnreadable as bad:
            if not supervised or bad.alarm not in STARTING:
                raise
            recovered = bad
        progress = Progress()
        board = Board(None if isinstance(recovered, StoreError) else recovered.publication)
        started = time.monotonic()

        def snapshot() -> dict[str, Any]:
            return {
                "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
                "pid": os.getpid(),
                "uptime_s": round(time.monotonic() - started, 3),
                "source": progress.snapshot() | {"semi_sync_wanted": settings.source.semi_sync},
                "publication": board.current.encode() if board.current else None,
                "damaged": [file.alarm() for file in still_damaged(damaged)],
            }

        control = ControlThread(folder.path / RECEIVER, snapshot, board)
        control.start()
        try:
            Receiver(
                desk=Desk(orders(settings), wake),
                folder=folder,
                disk=disk,
                identity=identity,
                recover=lambda: _recover(folder, disk, damaged),
                recovered=recovered,
                watch=watch,
                publish=board.put,
                progress=progress,
                wake=wake,
                durable=settings.store.durability is Durability.FSYNC,
                refusal_pause=SUPERVISED_REFUSAL_PAUSE if supervised else None,
                replicas=lambda: _replicas(folder),
            ).run()
        finally:
            control.stop()
    end = board.current or NOTHING
    log.info("receiver stopped", file=end.file, position=end.position)


def _replicas(folder: DataFolder) -> frozenset[str]:
    """The UUIDs of those that are attached to this store's sender, if there is one."""
    sender = ask_status(folder.path / SENDER)
    return frozenset(replica["server_uuid"].lower() for replica in sender["replicas"]) if sender else frozenset()


def _recover(folder: DataFolder, disk: Disk, damaged: list[StoredFile]) -> Recovered:
    """Recover the store and say what was found; ``damaged`` holds the damaged files then."""
    recovered = recover(folder, disk, _Recovering())
    if recovered.dropped:
        log.warning(
            "dropped an unfinished tail; the source will send it again",
            file=recovered.publication.file,
            position=recovered.publication.position,
            bytes=recovered.dropped,
            reason=recovered.reason,
        )
    for file in recovered.damaged:
        log.error("a stored file is damaged", file=file.name, error=file.damage, hint=DAMAGED_HINT)
    damaged[:] = recovered.damaged
    return recovered


class _Recovering:
    """Says how far recovery is, when it takes long."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._said > PROGRESS_EVERY:
            self._said = time.monotonic()
            log.info("reading the newest file", done=done, total=total, percent=100 * done // total)
