"""From settings to a running receiver: where configuration meets the core. Ends by SIGTERM or SIGINT in order."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from binlogd.cli.processes import answer_hangups, hold_hangups, prepare_process
from binlogd.cli.reload import Reloading
from binlogd.config import Address, Compression, Divergence, Durability, Settings
from binlogd.control.board import Board
from binlogd.control.sockets import RECEIVER, SENDER, ControlThread, ask_status, is_listened_on
from binlogd.errors import StoreError, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.receiver.link import Wake
from binlogd.receiver.office import Office
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.progress import Progress, State
from binlogd.receiver.purging import NO_READERS, Purging, Readers, said_by
from binlogd.receiver.receiver import Receiver
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.receiver.storekeeper import STARTING
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.store.lock import StoreLock
from binlogd.store.publication import NOTHING
from binlogd.store.reader import DAMAGED_HINT, StoredFile
from binlogd.store.recovery import Recovered, recover, still_damaged
from binlogd.store.retention import Limits
from binlogd.store.watch import Watch
from binlogd.wire.compression import Algorithm

SUPERVISED_REFUSAL_PAUSE = 60.0  # seconds before a source that refused us is asked again, while replicas are served
FIXED = ("data_dir", "server_id", "server_uuid", "store.durability")
REPLICAS_TIMEOUT = 1.0  # seconds that a sender may take to say who is attached, while another source waits for us
PROGRESS_EVERY = 2.0  # seconds between lines about work that takes long

log = get_logger(__name__)


def source_options(settings: Settings, address: Address | None = None) -> SourceOptions:
    """What the receiver needs to know of a candidate, of the first when no ``address`` is given."""
    source = settings.source
    host, port = address or source.hosts[0]
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


def configured_orders(settings: Settings) -> Orders:
    """What the configuration orders."""
    source = settings.source
    return Orders(
        tuple(source_options(settings, address) for address in source.hosts),
        follow=Follow(source.follow.value),
        keep_both=source.on_divergence is Divergence.NEW_TIMELINE,
    )


def fingerprint(settings: Settings) -> str:
    """Of the source section, as far as it was written: another one is a newer word than a statement's.

    Passwords are left out: one that is changed from time to time says nothing about whom to follow, and the hash of one
    could be guessed. What stands at its default is left out too, so that a new version with new keys changes nothing.
    """
    secret = {"password", "password_file"}
    written = settings.source.model_dump(mode="json", exclude_defaults=True, exclude=secret)
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()


def run_receiver(load: Callable[[], Settings], *, supervised: bool = False) -> None:
    """Receive until told to stop; ``load`` reads the configuration."""
    settings = load()
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
        started, started_at = time.monotonic(), time.time()
        office = Office(
            configured=configured_orders(settings),
            fingerprint=fingerprint(settings),
            folder=folder.path,
            disk=disk,
            wake=wake,
        )
        desk = office.desk
        purging = Purging(
            folder=folder,
            disk=disk,
            limits=limits(settings),
            readers=partial(ask_readers, folder, supervised=supervised),
            current=lambda: board.current,
            amend=board.amend,
            needed=lambda: watch.needed,
        )
        reloading = Reloading(settings, load, FIXED)

        def recover_aside() -> Recovered:
            with purging.aside():  # both would remove files, and write their list
                return _recover(folder, disk, damaged)

        def snapshot() -> dict[str, Any]:
            return {
                "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
                "pid": os.getpid(),
                "started": started_at,
                "uptime_s": round(time.monotonic() - started, 3),
                "source": progress.snapshot() | {"semi_sync_wanted": desk.newest.sources[0].semi_sync},
                "orders": office.snapshot(),
                "publication": board.current.encode() if board.current else None,
                "retention": purging.snapshot(),
                "damaged": [file.alarm() for file in still_damaged(damaged)],
            }

        def reload() -> None:
            again = reloading.again()
            if again is not None:
                # The port that we report is the one that we listen on, which is another's to change.
                kept = again.model_copy(update={"server": settings.server})
                watch.min_free = again.store.min_free or 0
                purging.reload(limits(again))
                try:
                    office.reload(configured_orders(kept), fingerprint(kept))
                except StoreError as bad:
                    log.error("the configuration cannot be reloaded; send SIGHUP again", error=str(bad))

        async def take_order(request: Mapping[str, Any]) -> dict[str, Any]:
            if request.get("order") == "purge":  # it reads files: others are answered meanwhile
                return await asyncio.to_thread(purging.order, request)
            return office.answer(request)

        control = ControlThread(folder.path / RECEIVER, snapshot, board, take_order)
        if not desk.newest.running:
            progress.state = State.STOPPED  # whoever asks first is told so
        control.start()
        purging.start()
        answer_hangups(lambda: control.call(reload))

        try:
            Receiver(
                desk=desk,
                folder=folder,
                disk=disk,
                identity=identity,
                recover=recover_aside,
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
            hold_hangups()
            purging.stop()
            control.stop()
    end = board.current or NOTHING
    log.info("receiver stopped", file=end.file, position=end.position)


def limits(settings: Settings) -> Limits:
    """What the configuration says of retention."""
    return Limits(settings.store.keep, settings.store.max_size, settings.store.min_free)


def ask_readers(folder: DataFolder, *, supervised: bool = False) -> Readers | None:
    """Who reads what; None when nobody knows. One that is ``supervised`` has a sender beside it, which comes back."""
    path = folder.path / SENDER
    said = said_by(ask_status(path, timeout=REPLICAS_TIMEOUT))
    return NO_READERS if said is None and not supervised and not is_listened_on(path) else said


def _replicas(folder: DataFolder) -> frozenset[str]:
    """The UUIDs of those that are attached to this store's sender, if there is one."""
    sender = ask_status(folder.path / SENDER, timeout=REPLICAS_TIMEOUT)
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
