"""``binlogd dump``: some of the stored transactions as one binary log on stdout."""

from __future__ import annotations

import os
import sys

import click

from binlogd.cli.options import config_option, data_dir_option


@click.command(short_help="Some of the stored transactions as one binary log on stdout.")
@click.option("--from-gtid", metavar="SET", help="Without these: what a restored backup with that gtid_executed lacks.")
@click.option(
    "--to-gtid",
    metavar="SET",
    help="Of these only: the gtid_executed to come to. What is not stored of it must be in --from-gtid, or without that"
    " be from before the store's beginning.",
)
@click.option("--from-time", metavar="T", help="From the first transaction committed at T or later.")
@click.option("--to-time", metavar="T", help="Up to the first transaction committed at T or later, and without that.")
@config_option
@data_dir_option
def command(
    from_gtid: str | None,
    to_gtid: str | None,
    from_time: str | None,
    to_time: str | None,
    config: str | None,
    data_dir: str | None,
) -> None:
    """Write one valid binary log of whole transactions: of all files and sources, each transaction once, in an order
    that applies. Without options, all that is stored.

    To recover to a moment, restore a backup and apply what it lacks:

    \b
        binlogd dump --from-gtid "$BACKUP_GTID_EXECUTED" --to-time 2026-11-22T17:59:58Z \\
            | mysqlbinlog - | mysql

    T is a moment as 2026-11-22T18:00:00.25Z; without a zone it is local time. A transaction has the time of its commit
    at the server where it was made; from servers older than MySQL 8.0, and MariaDB, that of its first statement, to
    the second. What is wanted and was purged, or is not stored, is named, with exit code 1, before anything is
    written. Exit code 4: a file is damaged, or was purged meanwhile; what was written before it is whole transactions.
    """
    from binlogd.cli.bar import a_bar
    from binlogd.cli.stores import a_moment, existing_store, gtid_set, published
    from binlogd.store.extract import Extraction, Wanted, plan
    from binlogd.store.removed import as_if_begun_later

    wanted = Wanted(
        without=None if from_gtid is None else gtid_set("--from-gtid", from_gtid),
        within=None if to_gtid is None else gtid_set("--to-gtid", to_gtid),
        from_time=None if from_time is None else _microseconds(a_moment("--from-time", from_time)),
        to_time=None if to_time is None else _microseconds(a_moment("--to-time", to_time)),
    )
    if wanted.from_time is not None and wanted.to_time is not None and wanted.from_time >= wanted.to_time:
        raise click.UsageError("--from-time is not before --to-time")
    if sys.stdout.isatty():
        raise click.UsageError("a binary log is no text for a terminal: add > FILE, or | mysqlbinlog - to read it")
    folder = existing_store(data_dir, config)
    planned = as_if_begun_later(folder.binlogs, lambda: plan(folder, wanted, published(folder)))
    with a_bar() as tell:
        Extraction(planned, _write, None if tell is None else lambda done, total: tell(done, total, "")).run()


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _write(data: memoryview) -> None:
    """All of it to stdout, past every buffer."""
    while data:
        data = data[os.write(1, data) :]
