"""``binlogd events``: what a binary log holds, one line an event, while it is read."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from binlogd.store.events import ShownEvent

# Wide enough for what mostly stands there; a longer cell pushes its line to the right and is never cut.
_WIDTHS = (11, 20, 21, 10, 11, 0)
_RIGHT = frozenset({0, 3, 4})
TORN = "what is there is no whole event, as a kill leaves it; a receiver that starts sees to it"
_HEADER = ("pos", "time", "event type", "server id", "end log pos", "info")


@click.command(short_help="The events of a file, one a line.")
@click.argument("file", metavar="FILE")
@click.option("--from", "begin", metavar="POS", type=click.IntRange(0), default=4, help="Begin here, or behind.")
@click.option("--to", "end", metavar="POS", type=click.IntRange(0), help="Stop before the event that begins here.")
@json_option
@config_option
@data_dir_option
def command(file: str, begin: int, end: int | None, as_json: bool, config: str | None, data_dir: str | None) -> None:
    """Print each event of FILE as SHOW BINLOG EVENTS does: a stored file by its name (0002:mysql-bin.000003 where
    several sources have one of that name), or any binary log by a path with a slash in it.

    With --json each event is an object on a line of its own. Every checksum is looked at; damage ends it, and is named.
    """
    from binlogd.errors import StoreDamaged
    from binlogd.store.disk import explained
    from binlogd.store.events import DamagedAt, read_events
    from binlogd.store.reader import DAMAGED_HINT

    path, size, torn = _file(file, data_dir, config)
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not as_json:
            click.echo(_line(_HEADER))
        for event in read_events(descriptor, os.fstat(descriptor).st_size if size is None else size, begin=begin):
            if event is None:
                continue
            if end is not None and event.offset >= end and not (event.inside and event.offset == end):
                break
            row = _row(event)
            click.echo(json.dumps(row) if as_json else _line(_cells(row)))
    except DamagedAt as bad:
        if torn:
            click.echo(f"binlogd: {path} ends at {bad.offset}: {TORN}", err=True)
            return
        raise StoreDamaged(f"{path}: at {bad.offset}: {bad.message}", hint=DAMAGED_HINT) from bad
    finally:
        os.close(descriptor)


def _file(file: str, data_dir: str | None, config: str | None) -> tuple[Path, int | None, bool]:
    """Where it lies, how much of it counts (None: all), and whether it may end in an event that is torn.

    So the newest does behind a kill, and while no receiver has cut that off.
    """
    from pathlib import Path

    from binlogd.cli.stores import existing_store, mode_of, published
    from binlogd.store.seek import listing

    if "/" in file:
        path = Path(file)
        mode = mode_of(path)
        if not mode or stat.S_ISDIR(mode):
            raise click.UsageError(f"{file} is a folder: name a file in it" if mode else f"there is no file {file}")
        return path, None, False
    folder = existing_store(data_dir, config)
    said = published(folder)
    qualifier, colon, name = file.rpartition(":")
    found = [
        stored
        for stored in listing(folder, said)
        if stored.name == name and (not colon or f"{stored.timeline.number:04}" == qualifier)
    ]
    if not found:
        raise click.UsageError(f"the store holds no {file}: binlogd list shows what it holds; a path needs a slash")
    if len(found) > 1:
        names = ", ".join(f"{stored.timeline.number:04}:{name}" for stored in found)
        raise click.UsageError(f"several sources have a file {file}: say which of {names}")
    return found[0].path, found[0].end, said is None and found[0].end is not None


def _row(event: ShownEvent) -> dict[str, Any]:
    from binlogd.binlog.description import describe

    name, info = describe(event.header, event.data, event.checksum_length, mariadb=event.mariadb)
    seconds = event.header.timestamp
    return {
        "pos": event.offset,
        "time": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None,
        "event_type": name,
        "server_id": event.header.server_id,
        "end_log_pos": event.end_log_pos,
        "info": info.decode(errors="backslashreplace"),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in row.values())


def _line(cells: tuple[str, ...]) -> str:
    from binlogd.cli.tables import GAP, padded

    return GAP.join(
        padded(cell, width, right=index in _RIGHT)
        for index, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ).rstrip()
