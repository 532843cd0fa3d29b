"""``binlogd status``: what a running binlogd is doing."""

from __future__ import annotations

import json
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
        _show(status)


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from binlogd.units import format_size

    console = Console(soft_wrap=True, highlight=False)
    source, store, server = status["source"], status["store"], status["server"]
    facts = Table.grid(padding=(0, 2))
    for name, text in (
        ("source", _source(source)),
        ("received", f"{source['file']}:{source['position']}" if source.get("file") else "nothing yet"),
        ("published", f"{store['published']['file']}:{store['published']['position']}"),
        ("gtid_executed", store["gtid_executed"] or "(none)"),
        ("gtid_purged", store["gtid_purged"] or "(none)"),
        ("store", f"{store['files']} files, {format_size(store['bytes'])}"),
        ("listener", f"{server['state']} {server.get('listen', '')}"),
    ):
        facts.add_row(name, text)
    console.print(facts)
    if status["replicas"]:
        table = Table("replica", "server_id", "mode", "file", "position", "behind", box=None, padding=(0, 2))
        for replica in status["replicas"]:
            table.add_row(
                f"{replica['host']}:{replica['port']}",
                str(replica["server_id"]),
                replica["mode"],
                replica["file"],
                str(replica["position"]),
                f"{format_size(replica['lag_bytes'])}, {replica['lag_seconds']} s",
            )
        console.print(table)
    for alarm in status["alarms"]:
        hint = f" — {alarm['hint']}" if alarm["hint"] else ""
        console.print(f"{alarm['severity'].upper()} {alarm['code']}: {alarm['message']}{hint}", markup=False)


def _source(source: dict[str, Any]) -> str:
    if "host" not in source:
        return source["state"]  # type: ignore[no-any-return]
    semi_sync = "semi-sync" if source["semi_sync"] else "asynchronous"
    text = f"{source['state']} {source['host']}:{source['port']}"
    if source["state"] == "streaming":
        return f"{text} {source['server_version']} {semi_sync}"
    return f"{text} {source['last_error'] or ''}".rstrip()
