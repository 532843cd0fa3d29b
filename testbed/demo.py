"""The failover story with real servers: ``make demo``.

A source commits only what binlogd has acknowledged. Its standby falls behind, the source is killed while clients
commit, and the standby gets what it lacks from binlogd. Then it is promoted: binlogd follows it by itself, the clients
go on there, a replica that is attached to binlogd all the while notices nothing, and the old source comes back as a
replica through binlogd.

Every figure printed is measured. The judgement (demo_checks.py) is over what was observed; the exit code is 0 only if
each check holds, 1 if one fails or a server does, 130 after Ctrl-C. However it ends, the processes are gone and the
folder is removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from binlogd import __version__
from testbed import distributions
from testbed.binlogd import first_difference
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster, Load, checksum_tables
from testbed.demo_binlogd import PATIENCE, Binlogd, DemoFailed, hide_own_configuration
from testbed.demo_checks import (
    Check,
    Connection,
    FirstHalf,
    Rows,
    SecondHalf,
    SemiSync,
    StoredFile,
    judge,
    judge_leftovers,
)
from testbed.distributions import Distribution
from testbed.mysqld import Option, Server, ServerFailed
from testbed.packages import Unavailable

CLIENTS = 4
PAYLOAD = 100  # bytes a row

SEMI_SYNC_TIMEOUT_MS = 3_600_000
"""An hour: after MySQL's default of 10 s without an acknowledgement commits would go on without one."""

FILE_SIZE = "256K"
"""max_binlog_size of the sources: several finished files from a thousand rows."""

SOURCE_OPTIONS: dict[str, Option] = {
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "max_binlog_size": FILE_SIZE,
    "rpl_semi_sync_source_timeout": SEMI_SYNC_TIMEOUT_MS,
}

SCHEMA = "shop"
TABLE = f"{SCHEMA}.load_rows"
JOURNAL = "clients_journal"
INSERT_BATCH = 1000

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


# ---------------------------------------------------------------------------------------------------- observations


def semi_sync_of(source: Server) -> SemiSync:
    """The source's counters."""
    rows: dict[str, str] = dict(source.query("SHOW STATUS LIKE 'Rpl_semi_sync_source_%'"))
    return SemiSync(*(int(rows[f"Rpl_semi_sync_source_{name}"]) for name in ("clients", "yes_tx", "no_tx")))


def ids_at(server: Server) -> frozenset[int]:
    """The ids of the rows that ``server`` holds."""
    return frozenset(row[0] for row in server.query(f"SELECT id FROM {TABLE}"))


def lacking(gtids: str, server: Server) -> str:
    """The GTIDs of ``gtids`` that ``server`` has not executed."""
    return str(server.value("SELECT GTID_SUBTRACT(%s, @@GLOBAL.gtid_executed)", gtids)).replace("\n", "")


def write_journal(server: Server, ids: Iterable[int]) -> None:
    """Make the table that the clients' journal describes, in a schema of its own and unlogged."""
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"CREATE DATABASE {JOURNAL}")
            cursor.execute(f"CREATE TABLE {JOURNAL}.load_rows LIKE {TABLE}")
            rows = [(number, "x" * PAYLOAD) for number in sorted(ids)]
            for first in range(0, len(rows), INSERT_BATCH):
                cursor.executemany(
                    f"INSERT INTO {JOURNAL}.load_rows VALUES (%s, %s)", rows[first : first + INSERT_BATCH]
                )
    finally:
        connection.close()


def compare_files(listed: str, source: Server, source_uuid: str) -> list[StoredFile]:
    """Every file of that source's timeline in ``binlogd list --json`` beside the source's.

    The last one is still written, or was when its source died: there the in-use flag does not count, nor what stands
    behind what was sent.
    """
    files = [file for file in json.loads(listed) if file["source_uuid"] == source_uuid]
    found = []
    for file in files:
        stored, original = Path(file["path"]), source.binlog_dir / file["name"]
        last, size = file is files[-1], stored.stat().st_size
        differs = first_difference(stored, original, size if last else None, in_use=last)
        found.append(StoredFile(file["name"], last, size, original.stat().st_size, differs is None))
    return found


def timelines_of(listed: str) -> list[str]:
    """The source of each timeline, oldest first."""
    return list(dict.fromkeys(file["source_uuid"] for file in json.loads(listed)))


# ------------------------------------------------------------------------------------------------------- the story


@dataclass(slots=True)
class Cast:
    """Who plays."""

    source: Server
    standby: Server
    replica: Server
    binlogd: Binlogd


class Story:
    """The servers, the steps and what is said about them.

    With ``errant`` the old source, before it comes back, commits what nobody acknowledges.
    """

    def __init__(
        self, console: Console, folder: Path, distribution: Distribution, rows: int, *, errant: bool = False
    ) -> None:
        self._console = console
        self._folder = folder
        self._rows = rows
        self._errant = errant
        self._step = 0
        self._stack = contextlib.ExitStack()
        self._cluster = self._stack.enter_context(Cluster(folder, distribution))
        self.pids: list[int] = []

    def close(self) -> None:
        """Kill whatever runs."""
        self._stack.close()

    def tell(self) -> list[Check]:
        """All of it, and what was found."""
        source, standby = self._start_servers()
        binlogd, replica = self._start_binlogd(source, standby)
        cast = Cast(source, standby, replica, binlogd)
        uuids = [source.server_uuid, standby.server_uuid]
        connection = self._connection(cast)
        load = Load(source, schema=SCHEMA, threads=CLIENTS, payload_bytes=PAYLOAD)
        self._commit(load, cast)
        self._fall_behind(load, standby)
        semi_sync = self._kill(load, source)
        rows_before = self._look(load, cast)
        gtids = self._fill(cast)
        first = FirstHalf(
            confirmed=frozenset(load.journal),
            uncertain=frozenset(load.uncertain),
            rows_before=rows_before,
            at_standby=ids_at(standby),
            semi_sync=semi_sync,
            gtids=gtids,
            gtids_missing=lacking(gtids, standby),
            files=compare_files(binlogd.tool("list", "--json"), source, uuids[0]),
        )
        more, followed_after = self._promote(cast)
        self._commit_more(more, cast)
        errant = self._return(cast)
        return judge(first, self._compare(cast, uuids, first, more, followed_after, errant, connection))

    # --- the source and binlogd ---

    def _start_servers(self) -> tuple[Server, Server]:
        self._head("A source and its standby start. Only who is the source waits for acknowledgements.")
        source = self._cluster.server("source", semi_sync="source", options=SOURCE_OPTIONS)
        options = {**SOURCE_OPTIONS, "rpl_semi_sync_source_enabled": False}
        standby = self._cluster.replica(source, "standby", semi_sync="source", options=options)
        standby.execute("SET GLOBAL super_read_only = ON")
        self.pids += [source.pid, standby.pid]
        for server in (source, standby):
            self._introduce(server)
            on = ("rpl_semi_sync_source_enabled", "rpl_semi_sync_source_timeout", "super_read_only")
            self._say("        " + " ".join(f"{name}={server.variables[name]}" for name in on))
        return source, standby

    def _introduce(self, server: Server) -> None:
        self._say(f"{server.name:8}{server.host}:{server.port}  MySQL {server.value('SELECT VERSION()')}")

    def _start_binlogd(self, source: Server, standby: Server) -> tuple[Binlogd, Server]:
        self._head("binlogd starts. From now on a commit returns when binlogd has it on disk.")
        binlogd = Binlogd((source, standby), self._folder)
        self._stack.callback(binlogd.close)
        self._say(f"$ cat {binlogd.config}")
        self._say(binlogd.config.read_text())
        self._say(f"$ binlogd run -c {binlogd.config}")
        began = time.monotonic()
        binlogd.start()
        self.pids += binlogd.pids
        self._say(f"ready {time.monotonic() - began:.1f} s after its start; {semi_sync_of(source)}")
        self._say("Another replica gets everything from binlogd, from here to the end:")
        replica = self._cluster.replica(("127.0.0.1", binlogd.port), "replica")
        self.pids.append(replica.pid)
        self._introduce(replica)
        binlogd.wait_until(lambda: bool(binlogd.status()["replicas"]), "serving the replica")
        return binlogd, replica

    def _connection(self, cast: Cast) -> Connection:
        """The replica's, as binlogd sees it."""
        found = next(each for each in cast.binlogd.status()["replicas"] if each["server_id"] == cast.replica.server_id)
        return Connection(found["id"], found["since"], cast.replica.replica_status()["Source_Port"])

    def _commit(self, load: Load, cast: Cast) -> None:
        self._head(f"{CLIENTS} clients commit rows, one a transaction, and note each commit that returned.")
        began = time.monotonic()
        load.start()  # never stopped before the source is: see close
        load.wait_for(self._rows, timeout=PATIENCE)
        commits, seconds = load.commits, time.monotonic() - began
        self._say(f"{commits} commits in {seconds:.1f} s, {commits / seconds:.0f}/s; {semi_sync_of(cast.source)}")
        for server, of in ((cast.standby, "the source"), (cast.replica, "binlogd")):
            server.wait_until(f"SELECT COUNT(*) >= {commits} FROM {TABLE}", timeout=PATIENCE)
            self._say(f"the {server.name} follows {of} and has {len(ids_at(server))} rows")
        self._run(cast.source, "FLUSH BINARY LOGS")

    def _fall_behind(self, load: Load, standby: Server) -> None:
        self._head("The standby stops receiving; the clients go on.")
        self._run(standby, "STOP REPLICA IO_THREAD")
        load.wait_for(load.commits + self._rows, timeout=PATIENCE)

    def _kill(self, load: Load, source: Server) -> SemiSync:
        semi_sync = semi_sync_of(source)
        self._say(f"{load.commits} commits so far; {semi_sync}")
        self._head(f"SIGKILL: the source dies while {CLIENTS} clients commit.")
        source.kill()
        self._say(f"source, pid {source.pid}: {'still runs' if source.is_running else 'gone'}")
        return semi_sync

    def _look(self, load: Load, cast: Cast) -> int:
        standby = cast.standby
        load.join(timeout=PATIENCE)
        standby.wait_for_gtid(standby.replica_status()["Retrieved_Gtid_Set"].replace("\n", ""), timeout=PATIENCE)
        has = len(ids_at(standby))
        self._say(f"{load.commits} commits returned to the clients; {len(load.uncertain)} were cut off: in or not")
        self._say(f"the standby has {has} rows and lacks {len(load.missing_at(standby))} that were committed")
        self._tool(cast.binlogd, "status")
        return has

    def _fill(self, cast: Cast) -> str:
        self._head("The standby is pointed at binlogd. User, password and SOURCE_AUTO_POSITION=1 stay as they are.")
        began = time.monotonic()
        standby, binlogd = cast.standby, cast.binlogd
        change = f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={binlogd.port}"
        self._run(standby, "STOP REPLICA", change, "START REPLICA")
        gtids = str(binlogd.status()["store"]["gtid_executed"])
        standby.wait_for_gtid(gtids, timeout=PATIENCE)
        self._say(f"everything is there {time.monotonic() - began:.1f} s later: {len(ids_at(standby))} rows")
        return gtids

    # --- the new source ---

    def _promote(self, cast: Cast) -> tuple[Load, float]:
        self._head("The standby is promoted. binlogd is told nothing.")
        standby, binlogd = cast.standby, cast.binlogd
        self._run(standby, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL rpl_semi_sync_source_enabled = ON")
        self._run(standby, "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
        began = time.monotonic()

        def follows() -> bool:
            source = binlogd.status()["source"]
            return (source["state"], source["port"]) == ("streaming", standby.port)

        binlogd.wait_until(follows, "following the new source")
        seconds = time.monotonic() - began
        self._say(f"binlogd follows it {seconds:.1f} s later; {semi_sync_of(standby)}")
        return Load(standby, schema=SCHEMA, threads=CLIENTS, payload_bytes=PAYLOAD), seconds

    def _commit_more(self, load: Load, cast: Cast) -> None:
        self._head(f"{CLIENTS} clients commit at the new source.")
        began = time.monotonic()
        load.start()
        self._stack.callback(load.leave)
        load.wait_for(self._rows, timeout=PATIENCE)
        commits, seconds = load.commits, time.monotonic() - began
        self._say(f"{commits} commits in {seconds:.1f} s, {commits / seconds:.0f}/s; {semi_sync_of(cast.standby)}")
        self._run(cast.standby, "FLUSH BINARY LOGS")
        self._tool(cast.binlogd, "status")
        self._tool(cast.binlogd, "list")

    def _return(self, cast: Cast) -> str:
        """The old source is a replica again; what it had that nobody acknowledged."""
        self._head("The old source comes back, read_only, while the clients commit.")
        source = cast.source
        source.options |= {"super_read_only": True, "rpl_semi_sync_source_enabled": False}
        if self._errant:
            source.start(super_read_only=False)
            source.execute(f"INSERT INTO {TABLE} VALUES (-1, 'nobody acknowledged this')")
            source.stop()
        source.start(super_read_only=True)
        self.pids.append(source.pid)
        stored = str(cast.binlogd.status()["store"]["gtid_executed"])
        self._say("source> SELECT GTID_SUBTRACT(@@gtid_executed, '<gtid_executed of binlogd>');")
        errant = str(source.value("SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, %s)", stored)).replace("\n", "")
        self._say(f"errant transactions, which nobody acknowledged: {errant or 'none'}")
        if errant:
            self._rebuild(source)
        change = (
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={cast.binlogd.port},"
            f" SOURCE_USER='{REPLICATION_USER}', SOURCE_PASSWORD='{REPLICATION_PASSWORD}', SOURCE_AUTO_POSITION=1,"
            " GET_SOURCE_PUBLIC_KEY=1"
        )
        self._run(source, change, "START REPLICA")
        return errant

    def _rebuild(self, source: Server) -> None:
        """Built anew from nothing, for binlogd has everything from the first file on.

        What it wrote itself comes back to it, which a server of the same server_id would leave out.
        """
        server_id = source.server_id + 1
        self._say(f"so it is built anew: an empty data folder, server_id={server_id}, and all history from binlogd")
        source.stop()
        source.data.rename(source.data.with_name("data-with-errant-transactions"))
        source.start(super_read_only=False, server_id=server_id)
        source.create_user(REPLICATION_USER, REPLICATION_PASSWORD, logged=False)
        source.execute("SET GLOBAL super_read_only = ON")
        self.pids.append(source.pid)

    # --- the end ---

    def _compare(
        self,
        cast: Cast,
        uuids: Sequence[str],
        first: FirstHalf,
        load: Load,
        followed_after: float,
        errant: str,
        connection: Connection,
    ) -> SecondHalf:
        standby, binlogd = cast.standby, cast.binlogd
        load.stop(timeout=PATIENCE)
        semi_sync = semi_sync_of(standby)
        self._say(f"{load.commits} commits at the new source; {semi_sync}")
        self._head("The rows are compared with the clients' journals, binlogd's files with those of both sources.")
        end = standby.position()
        binlogd.wait_until(
            lambda: tuple(binlogd.status()["store"]["published"].values()) == end, f"at {end[0]}:{end[1]}"
        )
        gtids = str(binlogd.status()["store"]["gtid_executed"])
        servers = (standby, cast.replica, cast.source)
        for server in servers:
            server.wait_for_gtid(gtids, timeout=PATIENCE)
        confirmed = frozenset(load.journal)
        rows = {server.name: Rows(ids_at(server), checksum_tables(server, SCHEMA)["load_rows"]) for server in servers}
        write_journal(standby, confirmed | first.confirmed | (first.uncertain & first.at_standby))
        listed = binlogd.tool("list", "--json")
        return SecondHalf(
            confirmed=confirmed,
            timelines=timelines_of(listed),
            sources=uuids,
            followed_after=followed_after,
            semi_sync=semi_sync,
            attached=(connection, self._connection(cast)),
            errant=errant,
            returned=cast.source.server_uuid == uuids[0],
            rows=rows,
            journal_checksum=checksum_tables(standby, JOURNAL)["load_rows"],
            gtids=gtids,
            gtids_missing={server.name: lacking(gtids, server) for server in servers},
            files=compare_files(listed, standby, uuids[1]),
            binlogd_exit=binlogd.stop(),
        )

    # --- what is said ---

    def _run(self, server: Server, *statements: str) -> None:
        for statement in statements:
            self._say(f"{server.name}> {statement};")
            server.execute(statement)

    def _tool(self, binlogd: Binlogd, tool: str) -> None:
        self._say(f"$ binlogd {tool} -c {binlogd.config}")
        self._say(binlogd.tool(tool).rstrip())

    def _head(self, text: str) -> None:
        self._step += 1
        self._console.print(f"{self._step}. {text}", style="bold")

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            self._console.print(f"   {line}".rstrip())


def show(console: Console, checks: Iterable[Check]) -> None:
    """The table at the end."""
    table = Table("what was promised", "what was seen", "", box=SIMPLE, padding=(0, 1))
    for check in checks:
        table.add_row(
            check.what, check.seen, "ok" if check.holds else "FAILED", style="" if check.holds else "bold red"
        )
    console.print(table)


def tell(console: Console, folder: Path, rows: int, *, errant: bool = False) -> list[Check]:
    """Tell the story in ``folder``, end everything it started, remove the folder; what was found."""
    story: Story | None = None
    try:
        hide_own_configuration(folder)
        distribution = distributions.mysql()
        distribution.template()
        console.print(f"binlogd {__version__}, {distribution.label}, loopback only; all files in {folder}")
        story = Story(console, folder, distribution, rows, errant=errant)
        checks = story.tell()
    finally:
        # From here on a second Ctrl-C would only leave something behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if story is not None:
                story.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [*checks, judge_leftovers(story.pids, folder)]


@click.command()
@click.option("--rows", default=1000, show_default=True, help="Commits in each of the three parts.")
@click.option("--errant", is_flag=True, help="The old source commits something before it comes back.")
def main(rows: int, *, errant: bool) -> None:
    """Run the failover story with real MySQL servers and check that nothing committed is lost."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        checks = tell(console, Path(tempfile.mkdtemp(prefix="binlogd-demo-")), rows, errant=errant)
    except KeyboardInterrupt:
        complaints.print("\ndemo: interrupted; everything it started is stopped and removed")
        sys.exit(EXIT_INTERRUPTED)
    except (DemoFailed, ServerFailed, Unavailable) as error:
        complaints.print(f"demo: {error}")
        sys.exit(EXIT_FAILED)
    show(console, checks)
    failed = [check for check in checks if not check.holds]
    seconds = time.monotonic() - began
    if failed:
        complaints.print(f"demo: {len(failed)} of {len(checks)} checks FAILED, after {seconds:.0f} s")
        sys.exit(EXIT_FAILED)
    console.print(f"All {len(checks)} checks hold; {seconds:.0f} s.")


if __name__ == "__main__":
    main()
