"""``binlogd serve``: one half of ``run``."""

from __future__ import annotations

import click

from binlogd.cli.options import log_options, settings_options, supervised_option


@click.command(short_help="Only serve replicas.")
@settings_options
@supervised_option
@log_options
def command(
    config: str | None,
    source: str | None,
    listen: str | None,
    data_dir: str | None,
    http: str | None,
    supervised: bool,
    log_format: str,
    log_level: str,
) -> None:
    """Serve the store to replicas, with or without a receiver at work on it."""
    from binlogd.cli.launch import launched
    from binlogd.cli.sender_process import run_sender
    from binlogd.config import Purpose
    from binlogd.logs import configure_logging

    configure_logging(log_format, log_level)
    options = {"config": config, "source": source, "listen": listen, "data_dir": data_dir, "http": http}
    run_sender(launched(options, Purpose.SERVE, supervised=supervised))
