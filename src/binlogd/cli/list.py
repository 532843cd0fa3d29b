"""``binlogd list``: the stored files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option

if TYPE_CHECKING:
    from binlogd.store.reader import StoredFile


@click.command(short_help="The stored files.")
@json_option
@config_option
@data_dir_option
def command(as_json: bool, config: str | None, data_dir: str | None) -> None:
    """List the stored files: timeline, name, size, GTIDs, first and last time, state."""
    from binlogd.cli.stores import existing_store
    from binlogd.store.reader import read_store

    files = [_row(file) for file in read_store(existing_store(data_dir, config), passing_over=True)]
    if as_json:
        click.echo(json.dumps(files, indent=2))
    else:
        _show(files)


def _row(file: StoredFile) -> dict[str, Any]:
    summary = file.summary
    return {
        "timeline": file.timeline.number,
        "source_uuid": file.timeline.source_uuid,
        "name": file.name,
        "path": str(file.path),
        "size": file.size,
        "gtids": summary.added.compact(),
        "transactions": summary.transactions,
        "first_time": _time(summary.first_time),
        "last_time": _time(summary.last_time),
        "state": "damaged" if file.damage else "finished" if file.finished else "newest",
    }


def _time(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None


def _show(files: list[dict[str, Any]]) -> None:
    from binlogd.cli.tables import aligned
    from binlogd.units import human_size

    header = ("timeline", "name", "size", "transactions", "first time", "last time", "state", "gtids")
    rows = [
        (
            str(file["timeline"]),
            file["name"],
            human_size(file["size"]),
            str(file["transactions"]),
            file["first_time"] or "",
            file["last_time"] or "",
            file["state"],
            file["gtids"],
        )
        for file in files
    ]
    for line in aligned([header, *rows], right=frozenset({0, 2, 3})):
        click.echo(line)
