"""``binlogd receive``: one half of ``run``."""

from __future__ import annotations

import click

from binlogd.cli.options import log_options, settings_options, supervised_option


@click.command(short_help="Only receive from the source.")
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
    """Receive from the source into the store; a second process (serve) may serve it."""
    from binlogd.cli.launch import launched
    from binlogd.cli.receiver_process import run_receiver
    from binlogd.config import Purpose
    from binlogd.logs import configure_logging

    configure_logging(log_format, log_level)
    options = {"config": config, "source": source, "listen": listen, "data_dir": data_dir, "http": http}
    run_receiver(launched(options, Purpose.RECEIVE, supervised=supervised), supervised=supervised)
