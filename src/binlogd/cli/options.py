"""The options that several commands share, written once so that they read the same everywhere.

A decorator hands the command the raw text of its option, or ``None`` when it was not given: what the text
means, what it defaults to and whether it is allowed is decided by ``binlogd.config``, which is imported
only when a command runs. ``settings_options`` passes the keyword arguments that ``load_settings`` takes
under the same names:

    @click.command()
    @settings_options
    @log_options
    def command(config, source, listen, data_dir, http, log_format, log_level):
        configure_logging(log_format, log_level)
        settings = load_settings(config, source=source, listen=listen, data_dir=data_dir, http=http)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])

LOG_FORMATS = ("auto", "human", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")


def config_option(function: _Function) -> _Function:
    """``-c/--config FILE`` as ``config: str | None``."""
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        help="Configuration file; else $BINLOGD_CONFIG, ./binlogd.toml or /etc/binlogd.toml.",
    )(function)


def source_option(function: _Function) -> _Function:
    """``--source URL`` as ``source: str | None``; it may hold a password."""
    return click.option(
        "--source", metavar="URL", help="The MySQL source: mysql://user:password@host:port. Enough by itself."
    )(function)


def listen_option(function: _Function) -> _Function:
    """``--listen HOST:PORT`` as ``listen: str | None``."""
    return click.option("--listen", metavar="HOST:PORT", help="Where replicas connect. [default: 127.0.0.1:3307]")(
        function
    )


def data_dir_option(function: _Function) -> _Function:
    """``--data-dir DIR`` as ``data_dir: str | None``."""
    return click.option("--data-dir", metavar="DIR", help="The store's folder. [default: ./binlogd-data]")(function)


def http_option(function: _Function) -> _Function:
    """``--http HOST:PORT`` as ``http: str | None``."""
    return click.option("--http", metavar="HOST:PORT", help="Status and health over HTTP. [default: 127.0.0.1:8307]")(
        function
    )


def json_option(function: _Function) -> _Function:
    """``--json`` as ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")(function)


def settings_options(function: _Function) -> _Function:
    """Every option that changes a setting: config, source, listen, data_dir, http."""
    for option in (http_option, data_dir_option, listen_option, source_option, config_option):
        function = option(function)
    return function


def log_options(function: _Function) -> _Function:
    """``--log-format`` and ``--log-level`` as ``log_format: str`` and ``log_level: str``."""
    function = click.option(
        "--log-level",
        type=click.Choice(LOG_LEVELS),
        default="info",
        show_default=True,
        help="Least level logged.",
    )(function)
    return click.option(
        "--log-format",
        type=click.Choice(LOG_FORMATS),
        default="auto",
        show_default=True,
        help="Log lines on stderr; auto: human on a terminal, JSON otherwise.",
    )(function)


def supervised_option(function: _Function) -> _Function:
    """Hidden ``--supervised`` as ``supervised: bool``: started by ``binlogd run``, see ``launch``."""
    return click.option("--supervised", is_flag=True, hidden=True)(function)
