"""The failover story with real servers: ``make demo``.

A source commits only what binlogd has acknowledged. Its replica falls behind, the source is killed while clients
commit, and the replica gets what it lacks from binlogd. What must be there is known from the clients' side alone:
the journal of commits that returned. A commit that was under way when the connection was lost may be there or not;
it was promised to nobody.

Every figure printed is measured. The judgement is a pure function (:func:`judge`) over what was observed; the exit
code is 0 only if each of its checks holds, 1 if one fails or a server does, 130 after Ctrl-C. However it ends, the
processes are gone and the folder is removed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import subprocess
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
from testbed import distributions, processes
from testbed.binlogd import first_difference
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster, Load, checksum_tables
from testbed.distributions import Distribution
from testbed.mysqld import Server, ServerFailed
from testbed.packages import Unavailable
from testbed.ports import Port

BINLOGD = Path(sys.executable).with_name("binlogd")

CLIENTS = 4
PAYLOAD = 100  # bytes a row

SEMI_SYNC_TIMEOUT_MS = 3_600_000
"""An hour: after MySQL's default of 10 s without an acknowledgement commits would go on without one."""

FILE_SIZE = "512K"
"""max_binlog_size of the source: several finished files from a few thousand rows."""

PATIENCE = 60.0
"""Seconds for anything that takes one or two."""

POLL_INTERVAL = 0.02  # seconds
LOG_TAIL_LINES = 15

SCHEMA = "shop"
TABLE = f"{SCHEMA}.load_rows"
JOURNAL = "clients_journal"
INSERT_BATCH = 1000

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


class DemoFailed(RuntimeError):
    """The story could not be told to its end."""


# -------------------------------------------------------------------------------------------------- the judgement


@dataclass(frozen=True, slots=True)
class SemiSync:
    """The source's counters: connected acknowledgers, commits acknowledged, commits that went on without."""

    clients: int
    yes_tx: int
    no_tx: int

    def __str__(self) -> str:
        return f"Rpl_semi_sync_source_clients={self.clients} yes_tx={self.yes_tx} no_tx={self.no_tx}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file beside the source's: the sizes in bytes, and whether the stored bytes are the source's."""

    name: str
    finished: bool
    size: int
    source_size: int
    same: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen: the clients' journal, the replica before and after, the source's counters, the files."""

    confirmed: frozenset[int]
    uncertain: frozenset[int]
    rows_before: int
    at_replica: frozenset[int]
    checksum: int
    journal_checksum: int
    semi_sync: SemiSync
    files: Sequence[StoredFile]
    gtids: str
    gtids_missing: str
    binlogd_exit: int


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    seen: str
    holds: bool


def judge(seen: Observed) -> list[Check]:
    """Every claim of the story against what was observed."""
    missing = seen.confirmed - seen.at_replica
    foreign = seen.at_replica - seen.confirmed - seen.uncertain
    landed = len(seen.at_replica & seen.uncertain)
    finished = [file for file in seen.files if file.finished]
    newest = [file for file in seen.files if not file.finished]
    counters = seen.semi_sync
    return [
        Check(
            "binlogd alone acknowledged",
            str(counters).removeprefix("Rpl_semi_sync_source_"),
            counters.clients == 1 and counters.yes_tx > 0 and counters.no_tx == 0,
        ),
        Check(
            "the replica was behind",
            f"it had {seen.rows_before} of {len(seen.confirmed)}",
            seen.rows_before < len(seen.confirmed),
        ),
        Check(
            "now it has every committed row",
            f"{len(seen.confirmed) - len(missing)} of {len(seen.confirmed)}, {len(missing)} missing",
            bool(seen.confirmed) and not missing,
        ),
        Check(
            "and none that nobody committed",
            f"{landed} of {len(seen.uncertain)} cut off are in, {len(foreign)} others",
            not foreign,
        ),
        Check(
            "CHECKSUM TABLE, replica, journal",
            f"{seen.checksum} {'=' if seen.checksum == seen.journal_checksum else '≠'} {seen.journal_checksum}",
            seen.checksum == seen.journal_checksum,
        ),
        Check(
            "it executed all GTIDs of binlogd",
            f"{seen.gtids.rpartition(':')[2]}, missing: {seen.gtids_missing or 'none'}",
            bool(seen.gtids) and not seen.gtids_missing,
        ),
        Check(
            "finished files equal the source's",
            f"{sum(file.same for file in finished)} of {len(finished)} files, {sum(f.size for f in finished)} bytes",
            bool(finished) and all(file.same and file.size == file.source_size for file in finished),
        ),
        Check(
            "the newest too, as far as sent",
            ", ".join(f"{file.size} of {file.source_size} bytes" for file in newest),
            len(newest) == 1 and newest[0].same and newest[0].size <= newest[0].source_size,
        ),
        Check("binlogd stopped in order", f"exit code {seen.binlogd_exit}", seen.binlogd_exit == 0),
    ]


def judge_leftovers(pids: Iterable[int], folder: Path) -> Check:
    """Whether the processes are gone and the folder is removed."""
    pids = list(pids)
    alive = [pid for pid in pids if is_running(pid)]
    seen = f"{len(alive)} of {len(pids)} processes, {'a' if folder.exists() else 'no'} folder"
    return Check("nothing is left", seen, not alive and not folder.exists())


# -------------------------------------------------------------------------------------------------- the processes


def hide_own_configuration(folder: Path) -> None:
    """Keep the user's own binlogd configuration from the binlogd started here."""
    for name in [name for name in os.environ if name.startswith("BINLOGD_")]:
        if name != "BINLOGD_MYSQLD" and not name.startswith("BINLOGD_TEST_"):
            del os.environ[name]
    empty = folder / "binlogd.toml"
    empty.touch()
    os.environ["BINLOGD_CONFIG"] = str(empty)


class Binlogd:
    """``binlogd run`` as a user runs it, and the tools beside it."""

    def __init__(self, source: Server, folder: Path) -> None:
        self._ports = (Port(), Port())
        self.port, self.http_port = (port.number for port in self._ports)
        self.data_dir = folder / "binlogd-data"
        self.log = folder / "binlogd.log"
        self.options = {
            "--source": f"mysql://{REPLICATION_USER}:{REPLICATION_PASSWORD}@{source.host}:{source.port}",
            "--listen": f"127.0.0.1:{self.port}",
            "--http": f"127.0.0.1:{self.http_port}",
            "--data-dir": str(self.data_dir),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.pids: list[int] = []

    def start(self) -> None:
        """Start it and wait until it streams and has nothing to complain of."""
        argv = [str(BINLOGD), "run", *(word for option in self.options.items() for word in option)]
        self._process = processes.start(argv, cwd=self.log.parent, log=self.log)
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            if (code := self._process.poll()) is not None:
                raise self._failure(f"binlogd run ended with code {code}")
            if time.monotonic() > deadline:
                raise self._failure(f"binlogd is not ready after {PATIENCE:.0f} s")
            time.sleep(POLL_INTERVAL)
        self.pids = [self._process.pid, *children_of(self._process.pid)]

    def _ready(self) -> bool:
        # Not urllib, which would ask the environment's proxy.
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except ConnectionError:
            return False
        finally:
            connection.close()

    def tool(self, *arguments: str) -> str:
        """stdout of another ``binlogd`` command on this store."""
        done = subprocess.run(
            [str(BINLOGD), *arguments, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise self._failure(f"{shlex.join(done.args)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> int:
        """SIGTERM; its exit code, once its two processes are gone as well."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise self._failure(f"binlogd did not stop within {PATIENCE:.0f} s") from None
        wait_gone(self.pids)
        return code

    def close(self) -> None:
        """Kill it if it still runs, wait until its two processes are gone, and release its ports."""
        if self._process is not None and self._process.poll() is None:
            children = children_of(self._process.pid)
            self._process.kill()
            self._process.wait()
            wait_gone(children)  # the kernel tells them that their parent died
        for port in self._ports:
            port.release()

    def _failure(self, text: str) -> DemoFailed:
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if self.log.exists() else []
        return DemoFailed("\n".join([text, "--- binlogd's log", *tail]))


def children_of(pid: int) -> list[int]:
    """The pids of a process's children; none when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for text in lists for child in text.split()]
    return []


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pids: Iterable[int]) -> None:
    """Wait until none of ``pids`` runs."""
    deadline = time.monotonic() + PATIENCE
    for pid in pids:
        while is_running(pid):
            if time.monotonic() > deadline:
                raise DemoFailed(f"process {pid} of binlogd still runs {PATIENCE:.0f} s after it should have ended")
            time.sleep(POLL_INTERVAL)


# ---------------------------------------------------------------------------------------------------- observations


def semi_sync_of(source: Server) -> SemiSync:
    """The source's counters."""
    rows: dict[str, str] = dict(source.query("SHOW STATUS LIKE 'Rpl_semi_sync_source_%'"))
    return SemiSync(*(int(rows[f"Rpl_semi_sync_source_{name}"]) for name in ("clients", "yes_tx", "no_tx")))


def ids_at(server: Server) -> frozenset[int]:
    """The ids of the rows that ``server`` holds."""
    return frozenset(row[0] for row in server.query(f"SELECT id FROM {TABLE}"))


def write_journal(replica: Server, ids: Iterable[int]) -> None:
    """Make the table that the clients' journal describes, in a schema of its own and unlogged."""
    connection = replica.connect()
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


def compare_files(listed: str, source_folder: Path) -> list[StoredFile]:
    """Every file of ``binlogd list --json`` beside the source's.

    The source died while it wrote to the newest: there the in-use flag does not count, nor what it wrote and could
    not send any more.
    """
    found = []
    for file in json.loads(listed):
        stored, original = Path(file["path"]), source_folder / file["name"]
        finished, size = file["state"] == "finished", stored.stat().st_size
        differs = first_difference(stored, original, None if finished else size, in_use=not finished)
        found.append(StoredFile(file["name"], finished, size, original.stat().st_size, differs is None))
    return found


# ------------------------------------------------------------------------------------------------------- the story


class Story:
    """The servers, the steps and what is said about them."""

    def __init__(self, console: Console, folder: Path, distribution: Distribution, rows: int) -> None:
        self._console = console
        self._folder = folder
        self._rows = rows
        self._step = 0
        self._stack = contextlib.ExitStack()
        self._cluster = self._stack.enter_context(Cluster(folder, distribution))
        self.pids: list[int] = []

    def close(self) -> None:
        """Kill whatever runs."""
        self._stack.close()

    def tell(self) -> Observed:
        """All of it."""
        source, replica = self._start_servers()
        binlogd = self._start_binlogd(source)
        load = Load(source, schema=SCHEMA, threads=CLIENTS, payload_bytes=PAYLOAD)
        self._commit(load, source, replica)
        self._fall_behind(load, source, replica)
        semi_sync = self._kill(load, source)
        rows_before = self._look(load, replica, binlogd)
        gtids = self._fail_over(replica, binlogd)
        return self._compare(load, source, replica, binlogd, semi_sync, rows_before, gtids)

    def _start_servers(self) -> tuple[Server, Server]:
        self._head("A source and its replica start. The source has the semi-synchronous plugin, the replica has not.")
        source = self._cluster.server(
            "source",
            semi_sync="source",
            options={
                "sync_binlog": 1,
                "innodb_flush_log_at_trx_commit": 1,
                "max_binlog_size": FILE_SIZE,
                "rpl_semi_sync_source_timeout": SEMI_SYNC_TIMEOUT_MS,
            },
        )
        replica = self._cluster.replica(source, "replica")
        self.pids += [source.pid, replica.pid]
        for server in (source, replica):
            self._say(f"{server.name:8}{server.host}:{server.port}  MySQL {server.value('SELECT VERSION()')}")
        wait_point = source.variables["rpl_semi_sync_source_wait_point"]
        timeout = source.variables["rpl_semi_sync_source_timeout"]
        self._say(f"rpl_semi_sync_source_wait_point={wait_point} rpl_semi_sync_source_timeout={timeout} (ms)")
        return source, replica

    def _start_binlogd(self, source: Server) -> Binlogd:
        self._head("binlogd starts. From now on a commit returns when binlogd has it on disk.")
        binlogd = Binlogd(source, self._folder)
        self._stack.callback(binlogd.close)
        lines = [" ".join(option) for option in binlogd.options.items()]
        self._say("$ binlogd run " + " \\\n      ".join(lines))
        began = time.monotonic()
        binlogd.start()
        self.pids += binlogd.pids
        self._say(f"ready {time.monotonic() - began:.1f} s after its start; {semi_sync_of(source)}")
        return binlogd

    def _commit(self, load: Load, source: Server, replica: Server) -> None:
        self._head(f"{CLIENTS} clients commit rows, one a transaction, and note each commit that returned.")
        began = time.monotonic()
        load.start()  # never stopped before the source is: see close
        load.wait_for(self._rows, timeout=PATIENCE)
        commits, seconds = load.commits, time.monotonic() - began
        self._say(f"{commits} commits in {seconds:.1f} s, {commits / seconds:.0f}/s; {semi_sync_of(source)}")
        replica.wait_until(lambda: len(ids_at(replica)) >= commits, timeout=PATIENCE, what=f"{commits} rows")
        self._say(f"the replica follows the source and has {len(ids_at(replica))} rows")
        self._say("source> FLUSH BINARY LOGS;")
        source.execute("FLUSH BINARY LOGS")

    def _fall_behind(self, load: Load, source: Server, replica: Server) -> None:
        self._head("The replica stops receiving; the clients go on.")
        self._say("replica> STOP REPLICA IO_THREAD;")
        replica.stop_replica("IO_THREAD")
        load.wait_for(load.commits + self._rows, timeout=PATIENCE)

    def _kill(self, load: Load, source: Server) -> SemiSync:
        semi_sync = semi_sync_of(source)
        self._say(f"{load.commits} commits so far; {semi_sync}")
        self._head(f"SIGKILL: the source dies while {CLIENTS} clients commit.")
        source.kill()
        self._say(f"source, pid {source.pid}: {'still runs' if source.is_running else 'gone'}")
        return semi_sync

    def _look(self, load: Load, replica: Server, binlogd: Binlogd) -> int:
        load.join(timeout=PATIENCE)
        replica.wait_for_gtid(replica.replica_status()["Retrieved_Gtid_Set"].replace("\n", ""), timeout=PATIENCE)
        has = len(ids_at(replica))
        self._say(f"{load.commits} commits returned to the clients; {len(load.uncertain)} were cut off: in or not")
        self._say(f"the replica has {has} rows and lacks {len(load.missing_at(replica))} that were committed")
        for tool in ("status", "list"):
            self._say(f"$ binlogd {tool} --data-dir {binlogd.data_dir}")
            self._say(binlogd.tool(tool).rstrip())
        return has

    def _fail_over(self, replica: Server, binlogd: Binlogd) -> str:
        self._head("The replica is pointed at binlogd. User, password and SOURCE_AUTO_POSITION=1 stay as they are.")
        change = f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={binlogd.port}"
        began = time.monotonic()
        for statement in ("STOP REPLICA", change, "START REPLICA"):
            self._say(f"replica> {statement};")
            replica.execute(statement)
        gtids = str(json.loads(binlogd.tool("status", "--json"))["store"]["gtid_executed"])
        replica.wait_for_gtid(gtids, timeout=PATIENCE)
        self._say(f"everything is there {time.monotonic() - began:.1f} s later: {len(ids_at(replica))} rows")
        return gtids

    def _compare(
        self,
        load: Load,
        source: Server,
        replica: Server,
        binlogd: Binlogd,
        semi_sync: SemiSync,
        rows_before: int,
        gtids: str,
    ) -> Observed:
        self._head("The rows are compared with the clients' journal, binlogd's files with the dead source's.")
        confirmed, uncertain, at_replica = frozenset(load.journal), frozenset(load.uncertain), ids_at(replica)
        write_journal(replica, confirmed | (uncertain & at_replica))
        return Observed(
            confirmed=confirmed,
            uncertain=uncertain,
            rows_before=rows_before,
            at_replica=at_replica,
            checksum=checksum_tables(replica, SCHEMA)["load_rows"],
            journal_checksum=checksum_tables(replica, JOURNAL)["load_rows"],
            semi_sync=semi_sync,
            files=compare_files(binlogd.tool("list", "--json"), source.binlog_dir),
            gtids=gtids,
            gtids_missing=str(replica.value("SELECT GTID_SUBTRACT(%s, @@GLOBAL.gtid_executed)", gtids)),
            binlogd_exit=binlogd.stop(),
        )

    def _head(self, text: str) -> None:
        self._step += 1
        self._console.print(f"{self._step}. {text}", style="bold")

    def _say(self, text: str) -> None:
        for line in text.splitlines():
            self._console.print(f"   {line.rstrip()}")


def show(console: Console, checks: Iterable[Check]) -> None:
    """The table at the end."""
    table = Table("what was promised", "what was seen", "", box=SIMPLE, padding=(0, 1))
    for check in checks:
        table.add_row(
            check.what, check.seen, "ok" if check.holds else "FAILED", style="" if check.holds else "bold red"
        )
    console.print(table)


def tell(console: Console, folder: Path, rows: int) -> list[Check]:
    """Tell the story in ``folder``, end everything it started, remove the folder; what was found."""
    story: Story | None = None
    try:
        hide_own_configuration(folder)
        distribution = distributions.mysql()
        distribution.template()
        console.print(f"binlogd {__version__}, {distribution.label}, loopback only; all files in {folder}")
        story = Story(console, folder, distribution, rows)
        seen = story.tell()
    finally:
        # From here on a second Ctrl-C would only leave something behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            if story is not None:
                story.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return [*judge(seen), judge_leftovers(story.pids, folder)]


@click.command()
@click.option("--rows", default=2000, show_default=True, help="Commits before, and again after, the replica stops.")
def main(rows: int) -> None:
    """Run the failover story with real MySQL servers and check that nothing committed is lost."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    complaints = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        checks = tell(console, Path(tempfile.mkdtemp(prefix="binlogd-demo-")), rows)
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
