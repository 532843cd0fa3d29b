"""Finding the store for the tools that look at one, and reading what they are asked for."""

from __future__ import annotations

import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.config import find_data_dir
from binlogd.control.sockets import RECEIVER, ask_status
from binlogd.errors import ConfigError
from binlogd.store.disk import explained
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication


def existing_store(data_dir: str | None, config: str | None) -> DataFolder:
    """The data folder the options lead to; ConfigError where none is, StoreUnreadable when it cannot be looked at."""
    path = find_data_dir(data_dir, config=config)
    folder = DataFolder(path)
    if not stat.S_ISDIR(mode_of(folder.binlogs)):
        raise ConfigError(
            f"there is no store in {path}",
            hint="name its folder with --data-dir or BINLOGD_DATA_DIR, or mount its disk",
        )
    folder.timelines()  # says so when it cannot be read
    return folder


def mode_of(path: Path) -> int:
    """The ``st_mode`` of what is there; 0 where nothing is. StoreUnreadable when it cannot be looked at."""
    with explained("read", path), suppress(FileNotFoundError, NotADirectoryError):
        return path.stat().st_mode
    return 0


def published(folder: DataFolder) -> Publication | None:
    """What the receiver says is durable; what else it has written is not stored yet. None: there is no receiver."""
    said = ask_status(folder.path / RECEIVER)
    return Publication.decode(said["publication"]) if said is not None and said["publication"] else None


def gtid_set(option: str, text: str) -> GtidSet:
    """What was given to an option that takes a GTID set."""
    try:
        return GtidSet.parse(text)
    except GtidSyntaxError as bad:
        raise click.UsageError(f"{option}: {bad}") from bad


def a_moment(option: str, text: str) -> float:
    """What was given to an option that takes a moment, in seconds since the epoch."""
    try:
        seconds = datetime.fromisoformat(text).timestamp()
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as bad:
        raise click.UsageError(f"{option}: {text!r} is no moment like 2026-11-22T18:00:00Z") from bad
    return seconds
