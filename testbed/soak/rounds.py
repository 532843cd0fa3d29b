"""One round: the plan is played on the site, and what came of it is observed from outside.

A step that does not come to pass ends the steps, not the observation: what is missing where something is stuck is said
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pymysql

from testbed.binlogd import Binlogd, BinlogdFailed
from testbed.cluster import checksum_tables
from testbed.mysqld import Server, ServerFailed
from testbed.soak.clients import Clients
from testbed.soak.files import compare, gtids_in, logged_at
from testbed.soak.judge import Dark, Finding, Observed, judge
from testbed.soak.plan import Plan, Strike, Victim
from testbed.soak.site import PATIENCE, Site, wait_for

COMMITS = 25
"""Before the first strike, and again after all is up: the clients are at work, then as later."""

ARRIVING = 2 << 20
"""Bytes of the newest stored file that only the big transaction can make: others end at 256 KiB."""

LOOK_EVERY = 0.001
"""Seconds between two looks at that size: the big transaction takes a hundred times that."""

FAILURES = (ServerFailed, BinlogdFailed, pymysql.err.Error, OSError)
"""What a step can end with; OSError is also the TimeoutError of a start."""

STATUS_KEYS = (("Last_IO_Errno", "Last_IO_Error", "IO"), ("Last_SQL_Errno", "Last_SQL_Error", "SQL"))


@dataclass(slots=True)
class Played:
    """A round that was played.

    ``kills`` are the strikes that hit, ``torn`` counts those of them in mid-transaction, ``late`` the commits that
    returned while the source was being stopped in order: it lets them go then, acknowledged or not, and they are looked
    for only when it is back.
    """

    plan: Plan
    seen: Observed
    findings: list[Finding]
    seconds: float
    kills: list[Victim] = field(default_factory=list)
    torn: int = 0
    late: int = 0


class History:
    """What earlier rounds have established: the GTIDs in the finished files, and which of those are compared."""

    def __init__(self) -> None:
        self.gtids = ""
        self.compared: set[str] = set()
        self.schemas: list[str] = []


def play(site: Site, plan: Plan, history: History) -> Played:
    """Play ``plan``, observe, judge."""
    began = time.monotonic()
    game = _Game(site, plan)
    stuck = game.play()
    try:
        seen = replace(game.observe(history), stuck=stuck)
    except FAILURES as error:
        told = "\n".join(stuck)
        raise ServerFailed(f"round {plan.number} cannot be looked at: {error}\n{told}") from error
    findings = judge(seen)
    history.compared |= {pair.name for pair in seen.files if pair.finished}
    history.gtids = seen.source_gtids
    if not findings:
        site.renew_supervisor()
        site.source.execute(*(f"DROP DATABASE `{schema}`" for schema in history.schemas))
        history.schemas = [game.clients.schema]
    return Played(plan, seen, findings, time.monotonic() - began, game.kills, game.torn, game.late)


class _Game:
    def __init__(self, site: Site, plan: Plan) -> None:
        self._site = site
        self._plan = plan
        self._darks: list[Dark] = []
        self.clients = Clients(site.source, f"round_{plan.number}")
        self.kills: list[Victim] = []
        self.torn = 0
        self.late = 0
        self._confirmed: frozenset[int] | None = None  # where the round was stuck: what came later, came unacknowledged

    def play(self) -> Sequence[str]:
        """What did not come to pass, in full: the message ends with a log's tail."""
        try:
            self._strike_all()
            self._come_back()
            self._end()
        except FAILURES as error:
            self.clients.leave()
            self._confirmed = self.clients.confirmed
            self._site.let_go()
            return [f"{type(error).__name__}: {error}"]
        return []

    def _strike_all(self) -> None:
        site, clients = self._site, self.clients
        clients.start()
        clients.wait_commits(COMMITS)
        if self._plan.giant:
            clients.start_giant()
        for strike in self._plan.strikes:
            wait_for(partial(site.exists, strike.victim), f"{strike.victim.value} to hit")
            if strike.torn:
                self._await_giant()
            time.sleep(strike.pause)
            self._strike(strike)

    def _strike(self, strike: Strike) -> None:
        site, commits = self._site, self.clients.commits
        try:
            site.hit(strike.victim)
        except BinlogdFailed:
            if strike.victim in (Victim.RECEIVER, Victim.SENDER) and not site.exists(strike.victim):
                return  # it had ended by itself, with its source or on another strike
            raise
        self.kills.append(strike.victim)
        if strike.torn:
            self.torn += self._is_torn()
        if strike.victim is Victim.RESTART:
            self.clients.wait_cut_off()
            self.late += self.clients.commits - commits
        if self._plan.dark and strike is self._plan.strikes[-1]:
            self._look_while_dead()
        site.revive(strike.victim)

    def _await_giant(self) -> None:
        """Wait until the big transaction comes in, or has come."""
        binlogd, deadline = self._site.binlogd, time.monotonic() + PATIENCE
        while _newest_size(binlogd) < ARRIVING and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)

    def _is_torn(self) -> bool:
        """Whether the newest stored file ends with megabytes of a transaction that is not whole."""
        size = _newest_size(self._site.binlogd)
        return size - self._site.binlogd.published[1] > ARRIVING // 2

    def _look_while_dead(self) -> None:
        site, clients = self._site, self.clients
        clients.wait_cut_off()
        site.wait_cut_off()
        site.wait_server(site.replica)
        store = site.binlogd.gtid_executed
        try:
            site.replica.wait_for_gtid(store, timeout=PATIENCE)
        finally:
            self._darks.append(
                Dark(clients.confirmed, _ids(site.replica, clients.schema), store, site.replica.gtid_executed)
            )

    def _come_back(self) -> None:
        site = self._site
        for server in (site.source, site.replica):
            site.wait_server(server)
        site.wait_semi_sync()
        self.clients.wait_commits(COMMITS)

    def _end(self) -> None:
        site = self._site
        self.clients.stop()
        site.source.execute("FLUSH BINARY LOGS")
        site.binlogd.wait_for(site.source)
        site.replica.wait_for_gtid(site.source.gtid_executed, timeout=PATIENCE)

    def observe(self, history: History) -> Observed:
        """Everything, with the source up."""
        site, clients = self._site, self.clients
        source, replica, binlogd = site.source, site.replica, site.binlogd
        confirmed, returned = self._confirmed, clients.confirmed
        if confirmed is None:
            site.count_unacknowledged()
            confirmed = returned
        without_ack, site.without_ack = site.without_ack, 0
        intruders, site.intruders = site.intruders, []
        stored, logged = binlogd.stored(), logged_at(source)
        names = [name for name in stored if name not in history.compared and name in logged]
        transactions: list[str] = []
        unreadable: list[str] = []
        for name in names:
            if name != stored[-1]:
                try:
                    transactions += gtids_in(binlogd.file(name))
                except ValueError as error:
                    unreadable.append(str(error))
        return Observed(
            number=self._plan.number,
            confirmed=confirmed,
            uncertain=clients.uncertain | (returned - confirmed),
            source_rows=_ids(source, clients.schema),
            replica_rows=_ids(replica, clients.schema),
            source_checksums=checksum_tables(source, clients.schema),
            replica_checksums=checksum_tables(replica, clients.schema),
            source_gtids=source.gtid_executed,
            store_gtids=binlogd.gtid_executed,
            replica_gtids=replica.gtid_executed,
            before=history.gtids,
            transactions=transactions,
            stored=stored,
            logged=logged,
            files=compare(binlogd, source, names),
            unreadable=unreadable,
            replica_error=_replica_error(replica),
            darks=tuple(self._darks),
            without_ack=without_ack,
            switched_off=site.take_switched_off(),
            complaints=site.take_complaints(),
            strays=site.strays(),
            intruders=intruders,
            samples=site.samples(),
        )


def _newest_size(binlogd: Binlogd) -> int:
    stored = binlogd.stored()
    return binlogd.file(stored[-1]).stat().st_size if stored else 0


def _ids(server: Server, schema: str) -> frozenset[int]:
    try:
        return frozenset(row[0] for row in server.query(f"SELECT id FROM `{schema}`.load_rows"))
    except pymysql.err.ProgrammingError:
        return frozenset()  # it does not have the table


def _replica_error(replica: Server) -> tuple[int, str]:
    """What stopped the replica: 0 and "" when it runs."""
    status = replica.replica_status()
    for number, text, thread in STATUS_KEYS:
        if status[text] and status[f"Replica_{thread}_Running"] == "No":
            return int(status[number]), str(status[text])
    return 0, ""
