"""``binlogd init``: write a configuration file that holds every option, commented out.

The file will hold passwords, so it is born with mode 0600, and an existing one is never touched (O_EXCL,
which also refuses a dangling symbolic link).
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from binlogd.errors import ConfigError


@click.command(short_help="Write a commented configuration file.")
@click.argument("file", default="binlogd.toml", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Write a commented configuration file with every option at its default to FILE [binlogd.toml]."""
    from binlogd.config.template import render_template

    _create(file, render_template().encode())
    click.echo(f"{file}: set the source's hosts, user and password there, then: binlogd check -c {file}")


def _create(file: Path, content: bytes) -> None:
    """Make ``file`` with ``content`` and mode 0600; ConfigError when it exists or cannot be written."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{file} exists and is not overwritten", hint="name another file") from None
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}", hint="name another file") from None
    try:
        with open(descriptor, "wb") as out:
            out.write(content)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {file}: {error.strerror}", hint="name another file") from None
