"""``binlogd status``: what a running binlogd is doing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option


@click.command(short_help="What a running binlogd is doing.")
@json_option
@config_option
@data_dir_option
def command(as_json: bool, config: str | None, data_dir: str | None) -> None:
    """Show the source, the store, the replicas and whatever is wrong."""
    from binlogd.cli.stores import existing_store
    from binlogd.control.status import collect

    status = collect(existing_store(data_dir, config))
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        for line in _lines(status):
            click.echo(line)


def _lines(status: dict[str, Any]) -> Iterator[str]:
    from binlogd.cli.tables import aligned, printable
    from binlogd.units import human_size

    source, store, server = status["source"], status["store"], status["server"]
    published = store["published"]
    free = f", {human_size(store['free_bytes'])} free" if store["free_bytes"] is not None else ""
    yield from aligned(
        [
            ("source", source_line(source)),
            ("received", f"{source['file']}:{source['position']}" if source.get("file") else "nothing yet"),
            ("published", f"{published['file']}:{published['position']}" if published["file"] else "nothing yet"),
            ("gtid_executed", store["gtid_executed"] or "(none)"),
            ("gtid_purged", store["gtid_purged"] or "(none)"),
            ("store", f"{counted(store['files'], 'file')}, {human_size(store['bytes'])}{free}"),
            ("listener", f"{server['state']} {server.get('listen', '')}".rstrip()),
        ]
    )
    if status["replicas"]:
        yield ""
        header = ("replica", "server_id", "mode", "file", "position", "behind")
        rows = [
            (
                f"{replica['host']}:{replica['port']}",
                str(replica["server_id"]),
                replica["mode"],
                replica["file"],
                str(replica["position"]),
                f"{human_size(replica['lag_bytes'])}, {replica['lag_seconds']} s",
            )
            for replica in status["replicas"]
        ]
        yield from aligned([header, *rows], right=frozenset({1, 4}))
    if status["alarms"]:
        yield ""
    for alarm in status["alarms"]:
        hint = f" — {alarm['hint']}" if alarm["hint"] else ""
        yield printable(f"{alarm['severity'].upper()} {alarm['code']}: {alarm['message']}{hint}")


def source_line(source: dict[str, Any]) -> str:
    """What the source is and does."""
    if "host" not in source:
        return str(source["state"])
    text = f"{source['state']} {source['host']}:{source['port']}"
    if source["state"] == "streaming":
        return f"{text} {source['server_version']} {'semi-sync' if source['semi_sync'] else 'asynchronous'}"
    return f"{text} {source['last_error'] or ''}".rstrip()


def counted(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
