"""``binlogd purge``: remove the oldest files."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option, json_option

if TYPE_CHECKING:
    from binlogd.store.layout import DataFolder


@click.command(short_help="Remove the oldest files.")
@click.option("--to", metavar="FILE", help="All before this one; 0002:mysql-bin.000003 where several have the name.")
@click.option("--before", metavar="T", help="Those whose last event is older than a moment, 2026-11-22T18:00:00Z.")
@click.option("--keep", metavar="DURATION|SIZE", help="All but the newest: 7d of them, or 500GiB.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and what stops it; change nothing.")
@json_option
@config_option
@data_dir_option
def command(
    to: str | None,
    before: str | None,
    keep: str | None,
    dry_run: bool,
    as_json: bool,
    config: str | None,
    data_dir: str | None,
) -> None:
    """Remove the oldest files, whole ones: never the newest, and none that an attached replica still reads.

    A running receiver does it, else this command. Exit code 1: a file that should go stays, and is named.
    """
    from binlogd.cli.stores import existing_store
    from binlogd.errors import BinlogdError
    from binlogd.receiver.purging import ER_UNKNOWN_TARGET_LOG, UNKNOWN_TARGET, blocked_text

    if sum(option is not None for option in (to, before, keep)) != 1:
        raise click.UsageError("say how far: --to FILE, --before T or --keep DURATION|SIZE")
    request = {"ask": "order", "order": "purge", "dry_run": dry_run} | _asked(to, before, keep)
    answer = _order(existing_store(data_dir, config), request)
    if "refused" in answer:
        code, _, text = answer["refused"]
        if code == ER_UNKNOWN_TARGET_LOG:
            unknown = f"the store holds no {to}: binlogd list shows what it holds"
            raise click.UsageError(unknown if text == UNKNOWN_TARGET else text)
        raise BinlogdError(text, hint="`binlogd list` shows the files that are left")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "files": answer["removed"], "blocked": answer["blocked"]}, indent=2))
    else:
        _show(answer["removed"], dry_run=dry_run)
    if "kept" in answer:
        click.echo(answer["kept"], err=True)
    blocked = answer["blocked"]
    if blocked is not None:
        readers = "see who reads what in `binlogd status`"
        newest = "it can go when the source has begun the next one (FLUSH BINARY LOGS)"
        raise BinlogdError(blocked_text(blocked), hint=readers if blocked["readers"] else newest)


def _asked(to: str | None, before: str | None, keep: str | None) -> dict[str, Any]:
    from binlogd.units import parse_duration, parse_size

    if to is not None:
        return {"to": to}
    if before is not None:
        try:
            return {"before": datetime.fromisoformat(before).timestamp()}
        except (ValueError, OverflowError, OSError) as bad:
            raise click.UsageError(f"--before: {before!r} is no moment like 2026-11-22T18:00:00Z") from bad
    assert keep is not None
    try:
        return {"keep": parse_duration(keep)}
    except ValueError:
        pass
    try:
        return {"max_size": parse_size(keep)}
    except ValueError as bad:
        raise click.UsageError(f"--keep: {keep!r} is neither a duration like 7d nor a size like 500GiB") from bad


def _order(folder: DataFolder, request: dict[str, Any]) -> dict[str, Any]:
    """What comes of it."""
    from binlogd.control.sockets import RECEIVER, UNANSWERED, ask
    from binlogd.errors import StoreInUse
    from binlogd.store.lock import StoreLock

    answer = asyncio.run(ask(folder.path / RECEIVER, request))
    if answer == UNANSWERED:
        raise StoreInUse(
            "the receiver did not answer: the files may be removed all the same",
            hint="see `binlogd list`, then ask again",
        )
    if answer is not None:
        return answer
    if request["dry_run"]:
        return _alone(folder, request)
    with StoreLock(folder.lock):
        return _alone(folder, request)


def _alone(folder: DataFolder, request: dict[str, Any]) -> dict[str, Any]:
    """Without a receiver."""
    from binlogd.cli.receiver_process import ask_readers
    from binlogd.errors import StoreError
    from binlogd.receiver.purging import Purging
    from binlogd.store.disk import Disk
    from binlogd.store.removal import finish
    from binlogd.store.retention import Limits

    disk = Disk()
    if not request["dry_run"]:
        finish(disk, folder)
    purging = Purging(
        folder=folder,
        disk=disk,
        limits=Limits(),
        readers=lambda: ask_readers(folder),
        current=lambda: None,
        amend=lambda *_: None,
        shows=False,
    )
    answer = purging.order(request)
    if not request["dry_run"] and answer.get("removed"):
        why = "somebody may be reading them"
        try:
            done = purging.collect_all()
        except StoreError as bad:
            done, why = False, bad.message
        if not done:
            kept = f"they are gone, and take up room until the receiver starts or files are purged again: {why}"
            return answer | {"kept": kept}
    return answer


def _show(files: list[dict[str, Any]], *, dry_run: bool) -> None:
    from binlogd.cli.status import counted
    from binlogd.cli.tables import aligned
    from binlogd.units import human_size

    header = ("timeline", "name", "size", "last time", "gtids", "reason")
    rows = [
        (
            str(file["timeline"]),
            file["name"],
            human_size(file["size"]),
            datetime.fromtimestamp(file["last_time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if file["last_time"] else "",
            file["gtids"],
            file["reason"],
        )
        for file in files
    ]
    if rows:
        for line in aligned([header, *rows], right=frozenset({0, 2})):
            click.echo(line)
    total = human_size(sum(file["size"] for file in files))
    click.echo(f"{counted(len(rows), 'file')}, {total}, {'would be removed' if dry_run else 'removed'}")
