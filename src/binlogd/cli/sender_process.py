"""From settings to a running sender: where configuration meets the core. Ends by SIGTERM or SIGINT in order."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypedDict

from binlogd.cli.event_loop import run_until_signalled
from binlogd.cli.processes import hold_signals
from binlogd.cli.reload import Reloading
from binlogd.config import Address, Settings
from binlogd.control.sockets import RECEIVER, SENDER, ControlServer, ask, follow
from binlogd.errors import BinlogdError, ConfigError
from binlogd.logs import get_logger
from binlogd.sender.catalog import Catalog
from binlogd.sender.certificates import rsa_key, tls_context
from binlogd.sender.listener import Listener, listen
from binlogd.sender.service import Service, User
from binlogd.sender.sql.statements import Role
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder
from binlogd.wire.auth import Account

log = get_logger(__name__)


FIXED = ("data_dir", "server_id", "server_uuid", "server.listen")


class Listening(TypedDict):
    """What of the configuration may change while it serves, as the service takes it."""

    users: dict[str, User]
    tls: ssl.SSLContext
    require_tls: bool
    max_connections: int


def _listening(settings: Settings, folder: DataFolder, disk: Disk) -> Listening:
    """From the settings; ConfigError when they cannot be used."""
    server = settings.server
    if not server.users:
        raise ConfigError("nobody may log in: server.users is empty", hint="add a [[server.users]] table")
    return {
        "users": {
            user.name: User(
                Account(
                    user.name,
                    password=user.password.get_secret_value() if user.password is not None else None,
                    password_hash=user.password_hash.get_secret_value() if user.password_hash is not None else None,
                ),
                Role(user.role.value),
                user.allows,
            )
            for user in server.users
        },
        "tls": tls_context(folder.path, disk, certificate=server.tls_cert, key=server.tls_key),
        "require_tls": server.require_tls,
        "max_connections": server.max_connections,
    }


def run_sender(load: Callable[[], Settings]) -> None:
    """Serve until told to stop; ``load`` reads the configuration."""
    settings = load()
    hold_signals()
    disk = Disk()
    folder = DataFolder(settings.data_dir)
    folder.prepare(disk)
    identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
    wanted = settings.server.listen
    with listen(*wanted) as listening:
        address = Address(wanted.host, listening.getsockname()[1])  # the port we got, when 0 was asked for
        catalog = Catalog(folder)
        service = Service(
            folder=folder,
            catalog=catalog,
            identity=identity,
            rsa_key=rsa_key(folder.path, disk),
            port=address.port,
            ask_receiver=partial(ask, folder.path / RECEIVER),
            **_listening(settings, folder, disk),
        )
        reloading = Reloading(settings, load, FIXED)
        started, started_at = time.monotonic(), time.time()

        def snapshot() -> dict[str, Any]:
            return {
                "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
                "pid": os.getpid(),
                "started": started_at,
                "uptime_s": round(time.monotonic() - started, 3),
                "listen": str(address),
            } | service.snapshot()

        def read_again() -> Listening | None:
            again = reloading.again()
            return None if again is None else _listening(again, folder, disk)

        async def reload() -> None:
            try:
                new = await asyncio.to_thread(read_again)
            except BinlogdError as bad:
                log.error("what was changed cannot be used; what was before goes on", error=bad.message, hint=bad.hint)
                return
            if new is not None:
                service.reload(**new)
                log.info("the configuration was reloaded", users=sorted(new["users"]))

        async def body() -> None:
            control = ControlServer(folder.path / SENDER, snapshot)
            await control.start()
            log.info("serving", listen=str(address), server_id=identity.server_id)
            try:
                await Listener(service, listening, lambda: follow(folder.path / RECEIVER)).run()
            finally:
                await control.stop()

        run_until_signalled(body(), reload)
    log.info("sender stopped")
