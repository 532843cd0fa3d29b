"""``binlogd run``: receive, serve, and answer over HTTP."""

from __future__ import annotations

import sys

import click

from binlogd.cli.options import log_options, settings_options

FIXED = ("http.listen",)
LOOK_KEPT = 1.0  # seconds that a look at all stored files answers for: a third of a second of work with 10,000
HTTP_PATIENCE = 2.0  # seconds that answers under way may take at the end


@click.command(short_help="Receive, serve and answer over HTTP.")
@settings_options
@log_options
def command(
    config: str | None,
    source: str | None,
    listen: str | None,
    data_dir: str | None,
    http: str | None,
    log_format: str,
    log_level: str,
) -> None:
    """Receive from the source, serve replicas, answer status and health over HTTP; until SIGTERM or Ctrl-C."""
    import asyncio
    import os
    import signal

    from aiohttp import web

    from binlogd.cli.event_loop import run_until_signalled
    from binlogd.cli.launch import encode_options, launched
    from binlogd.cli.reload import Reloading, answers_hangups
    from binlogd.config import Address, Purpose
    from binlogd.control.inventory import Inventory
    from binlogd.control.notify import Herald, Notifier
    from binlogd.control.status import collect
    from binlogd.control.supervisor import Supervisor
    from binlogd.errors import ListenError
    from binlogd.logs import configure_logging, get_logger
    from binlogd.sender.listener import listen as open_socket
    from binlogd.store.disk import Disk
    from binlogd.store.layout import DataFolder
    from binlogd.web.server import StatusSite

    configure_logging(log_format, log_level)
    notifier = Notifier.from_environment(os.environ)
    options = {"config": config, "source": source, "listen": listen, "data_dir": data_dir, "http": http}
    load = launched(options, Purpose.RUN, supervised=False)
    settings = load()
    try:  # before anything is made on disk
        listening = open_socket(*settings.http.listen)
    except ListenError as taken:
        hint = "stop that process, or choose another address with --http or http.listen"
        raise ListenError(taken.message, hint=hint) from taken
    code = 0
    with listening:
        folder = DataFolder(settings.data_dir)
        folder.prepare(Disk())
        folder.identity(Disk(), server_id=settings.server_id, server_uuid=settings.server_uuid)
        if log_format == "auto":
            log_format = "human" if sys.stderr.isatty() else "json"
        arguments = ["--log-format", log_format, "--log-level", log_level]
        supervisor = Supervisor(("receive", "serve"), arguments, encode_options(options))
        herald = Herald(notifier, folder.path, supervisor.pids)
        reloading = Reloading(settings, load, FIXED)

        async def reload() -> None:
            with herald.reloading():
                if await asyncio.to_thread(reloading.again) is not None:
                    await supervisor.pass_on(signal.SIGHUP, answers_hangups)

        async def body() -> None:
            nonlocal code
            site = StatusSite(
                lambda: collect(folder),
                supervisor.alive,
                Inventory(folder, keep=LOOK_KEPT),
                lambda: supervisor.restarts,
            )
            # Both processes have ended by then: who has not read an answer must not hold up the end.
            runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=HTTP_PATIENCE)
            await runner.setup()
            await web.SockSite(runner, listening).start()
            get_logger(__name__).info("answering over HTTP", listen=str(Address(*listening.getsockname()[:2])))
            herald.start()
            try:
                code = await supervisor.run(herald.stop)
            finally:
                await runner.cleanup()

        run_until_signalled(body(), reload)
    if code:
        click.get_current_context().exit(code)
