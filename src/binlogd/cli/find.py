"""``binlogd find``: where a GTID set or a moment is stored."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option

if TYPE_CHECKING:
    from binlogd.binlog.gtid import GtidSet
    from binlogd.store.layout import DataFolder
    from binlogd.store.seek import Place


@click.command(short_help="Where a GTID set or a moment is stored.")
@click.option("--gtid", metavar="SET", help="A GTID set, as in gtid_executed.")
@click.option("--time", metavar="T", help="A moment, as 2026-11-22T18:00:00Z; without a zone it is local time.")
@json_option
@config_option
@data_dir_option
def command(gtid: str | None, time: str | None, as_json: bool, config: str | None, data_dir: str | None) -> None:
    """Show which files hold a GTID set, and where in each the first of its transactions begins; or where the first
    transaction begins that is not older than a moment.

    Exit code 1: something is not stored, and is named.
    """
    from binlogd.cli.stores import a_moment, existing_store, gtid_set
    from binlogd.errors import BinlogdError

    if gtid is not None and time is None:
        wanted = gtid_set("--gtid", gtid)
        places, missing, hint = _by_gtid(existing_store(data_dir, config), wanted)
    elif time is not None and gtid is None:
        moment = a_moment("--time", time)
        places, missing, hint = _by_time(existing_store(data_dir, config), moment)
    else:
        raise click.UsageError("say what to find: --gtid SET or --time T")
    if as_json:
        click.echo(json.dumps({"places": [_row(place) for place in places], "missing": missing}, indent=2))
    elif places:
        _show(places)
    if missing:
        raise BinlogdError(f"not stored: {missing}", hint=hint)


def _by_gtid(folder: DataFolder, wanted: GtidSet) -> tuple[list[Place], str, str]:
    """The places, what is not stored, and what to do about that."""
    from binlogd.cli.stores import published
    from binlogd.store.removed import as_if_begun_later
    from binlogd.store.seek import find_gtids

    places, missing = as_if_begun_later(folder.binlogs, lambda: find_gtids(folder, wanted, published(folder)))
    return places, missing.compact(), "see gtid_executed and gtid_purged in `binlogd status`"


def _by_time(folder: DataFolder, moment: float) -> tuple[list[Place], str, str]:
    from binlogd.cli.stores import published
    from binlogd.store.removed import as_if_begun_later
    from binlogd.store.seek import begins, find_time

    place, beginning = as_if_begun_later(
        folder.binlogs, lambda: (find_time(folder, math.ceil(moment), published(folder)), begins(folder))
    )
    asked = _time(math.floor(moment))
    if beginning is None or place is None:
        return [], asked, "the newest transaction is older; `binlogd list` shows the times"
    if moment < beginning:
        return [place], asked, f"the store begins at {_time(beginning)}"
    return [place], "", ""


def _row(place: Place) -> dict[str, Any]:
    return {
        "timeline": place.timeline.number,
        "source_uuid": place.timeline.source_uuid,
        "name": place.name,
        "path": str(place.timeline.path / place.name),
        "offset": place.offset,
        "time": _time(place.time),
        "gtids": place.gtids.compact(),
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _show(places: list[Place]) -> None:
    from binlogd.cli.tables import aligned

    rows = [
        (str(place.timeline.number), place.name, str(place.offset), _time(place.time), place.gtids.compact())
        for place in places
    ]
    for line in aligned([("timeline", "name", "offset", "time", "gtids"), *rows], right=frozenset({0, 2})):
        click.echo(line)
