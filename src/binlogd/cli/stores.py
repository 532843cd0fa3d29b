"""Finding the store for the tools that look at one, and reading what they are asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.config import find_data_dir
from binlogd.control.sockets import RECEIVER, ask_status
from binlogd.errors import StoreUnreadable
from binlogd.store.disk import explained
from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication


def existing_store(data_dir: str | None, config: str | None) -> DataFolder:
    """The data folder the options lead to; StoreUnreadable when there is no store."""
    path = find_data_dir(data_dir, config=config)
    folder = DataFolder(path)
    with explained("read", path):
        folder.timelines()  # says so when it cannot be read
        there = folder.exists()
    if not there:
        raise StoreUnreadable(
            f"there is no store in {path}", hint="name its folder with --data-dir or BINLOGD_DATA_DIR"
        )
    return folder


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
