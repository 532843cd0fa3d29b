"""From settings to a running sender: where configuration meets the core. Ends by SIGTERM or SIGINT in order."""

from __future__ import annotations

import os
import time
from typing import Any

from binlogd.cli.event_loop import run_until_signalled
from binlogd.cli.processes import hold_signals
from binlogd.config import Address, Settings
from binlogd.control.sockets import RECEIVER, SENDER, ControlServer, follow
from binlogd.errors import ConfigError
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


def run_sender(settings: Settings) -> None:
    """Serve until told to stop."""
    hold_signals()
    disk = Disk()
    folder = DataFolder(settings.data_dir)
    folder.prepare(disk)
    identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
    server = settings.server
    if not server.users:
        raise ConfigError("nobody may log in: server.users is empty", hint="add a [[server.users]] table")
    with listen(*server.listen) as listening:
        address = Address(server.listen.host, listening.getsockname()[1])  # the port we got, when 0 was asked for
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
                        password_hash=(
                            user.password_hash.get_secret_value() if user.password_hash is not None else None
                        ),
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
            port=address.port,
        )
        started = time.monotonic()

        def snapshot() -> dict[str, Any]:
            return {
                "identity": {"server_id": identity.server_id, "server_uuid": identity.server_uuid},
                "pid": os.getpid(),
                "uptime_s": round(time.monotonic() - started, 3),
                "listen": str(address),
            } | service.snapshot()

        async def body() -> None:
            control = ControlServer(folder.path / SENDER, snapshot)
            await control.start()
            log.info("serving", listen=str(address), server_id=identity.server_id)
            try:
                await Listener(service, listening, lambda: follow(folder.path / RECEIVER)).run()
            finally:
                await control.stop()

        run_until_signalled(body())
    log.info("sender stopped")
