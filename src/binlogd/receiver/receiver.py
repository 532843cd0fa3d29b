"""Connect, ask, stream; and when that ends, again: the life of a receiver.

Before every connection the newest orders are taken (orders.py), and whom to follow is decided anew (candidates.py): a
replica may have been promoted meanwhile. A new source's history begins a timeline of its own; the old one's newest file
is finished when the first file of the new one has come, and not before.

What ends a connection is one of three kinds (errors.py): what may pass (``retriable``: the network, a restart of the
source, corrupt bytes) is tried again after a pause that doubles up to BACKOFF_LONGEST, with jitter so that a
thousand servers do not come back in step; what rules replication out until somebody acts ends the receiver; and
trouble with our own store is waited out (storekeeper.py). Before every new connection the store is cut back to its last
publication: the position that is asked for is durable, and nothing is stored twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import (
    BinlogdError,
    ConfigError,
    PeerError,
    ServerError,
    SourceDiverged,
    SourceGap,
    SourceRefused,
    StoreError,
    Unreachable,
)
from binlogd.logs import get_logger
from binlogd.receiver.candidates import Candidate, Candidates, NotNow
from binlogd.receiver.cascade import end_of
from binlogd.receiver.divergence import ER_SOURCE_FATAL_ERROR_READING_BINLOG, diverged, of_refusal
from binlogd.receiver.inquiry import grant, quoted
from binlogd.receiver.link import Interrupted, Stopped, Wake
from binlogd.receiver.orders import Desk, Orders
from binlogd.receiver.plan import EMPTY, NONE, Ended, SourceFacts, StoreFacts, timeline_name
from binlogd.receiver.progress import Progress, State
from binlogd.receiver.scout import Scout
from binlogd.receiver.session import Session, SourceOptions
from binlogd.receiver.storekeeper import Shown, StoreKeeper
from binlogd.receiver.stream import Stream
from binlogd.receiver.succession import NewTimeline, Refuse, decide
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Identity, Timeline
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import Recovered
from binlogd.store.source_facts import load
from binlogd.store.tail import Tail
from binlogd.store.watch import Watch

BACKOFF_SHORTEST = 0.1  # seconds: a source that restarts is back at once
REFUSAL_SHORTEST = 1.0  # seconds before a source is asked again that refused us: somebody may just be mending it
BACKOFF_LONGEST = 2.0  # a source that is back commits nothing before we are, up to its timeout of 10 s by default

ACCESS_DENIED = 1045  # user or password; from a statement: a privilege

FATAL_CODES = frozenset({
    1044,  # access denied to database
    ACCESS_DENIED,
    1130,  # host not allowed
    1142,  # command denied
    1227,  # a privilege is missing
    ER_SOURCE_FATAL_ERROR_READING_BINLOG,  # purged, beyond the end, corrupt at the source, our server_id taken
    1251,  # authentication protocol
    1820,  # password expired
    1862,
    3118,  # account locked
})  # fmt: skip

log = get_logger(__name__)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt, seconds."""

    shortest: float
    longest: float
    pause: float = 0.0

    def next(self) -> float:
        """The pause now due; the following one is twice as long."""
        now = max(self.pause, self.shortest)
        self.pause = min(now * 2, self.longest)
        return now * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts; no secret

    def reset(self) -> None:
        """Things went well for a while."""
        self.pause = self.shortest


class Receiver:
    """Owns the store's newest timeline from ``run`` until it returns or raises.

    ``recovered`` is what the first ``recover`` gave, or what kept it from giving it. ``replicas`` tells the UUIDs of
    those that are attached to us; ``refusal_pause`` is how often a source is asked again that refused us, in seconds at
    the longest, None when a refusal ends the receiver.
    """

    def __init__(
        self,
        *,
        desk: Desk,
        folder: DataFolder,
        disk: Disk,
        identity: Identity,
        recover: Callable[[], Recovered],
        recovered: Recovered | StoreError,
        watch: Watch,
        publish: Callable[[Publication], None],
        progress: Progress,
        wake: Wake,
        durable: bool = True,
        refusal_pause: float | None = None,
        replicas: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._refusal_pause = refusal_pause
        self._desk = desk
        self._folder = folder
        self._disk = disk
        self._identity = identity
        self._publication = NOTHING
        self._publish = Shown(publish, progress)
        self._progress = progress
        self._wake = wake
        self._watch = watch
        self._durable = durable
        self._replicas = replicas
        self._tail: Tail | None = None  # None while nothing is stored
        self._failed: Tail | None = None  # what it was when the store failed
        self._candidates = Candidates(identity, wake, replicas)
        self._facts: SourceFacts | None = None  # of the connection at hand, or the last
        self._store: StoreFacts | None = None  # and what it was asked to go on with
        self._gone = GtidSet()  # by the source of the newest timeline, of what it had executed (scout.py)
        self._receiving = 0  # the number of the timeline that the stream at hand is of
        self._resuming = False  # whether it was asked to go on where the store ends
        self._contradiction: SourceRefused | None = None  # what it answered, to be considered in the next decision
        self._ended: Ended | None = None  # the timeline of a binlogd that the newest is a whole copy of
        self._reached = False  # a source was reached, now or in an earlier life
        self._keeper = StoreKeeper(
            folder=folder,
            disk=disk,
            watch=watch,
            recover=recover,
            wake=wake,
            progress=progress,
            shown=self._publish,
            patience=refusal_pause,
        )
        self._trouble = recovered if isinstance(recovered, StoreError) else None
        if not isinstance(recovered, StoreError):
            self._take(recovered)
            self._publish.newest = recovered.publication

    def run(self) -> None:
        """Receive until woken. Raises what people must act on: SourceRefused, StoreError, ConfigError."""
        backoff = Backoff(BACKOFF_SHORTEST, BACKOFF_LONGEST)
        refusals = Backoff(REFUSAL_SHORTEST, self._refusal_pause or REFUSAL_SHORTEST)
        try:
            while True:
                try:
                    self._go_on(self._desk.take(), backoff, refusals)
                except Interrupted:
                    log.info("newer orders")
                    backoff.reset()
                    refusals.reset()
        except Stopped:
            self._progress.state = State.STOPPED
        except BinlogdError as bad:
            self._progress.failed(State.FAILED, bad.message, bad.hint, alarm=bad.alarm, code=bad.code)
            raise
        finally:
            if self._tail is not None:
                self._tail.close()

    def _go_on(self, orders: Orders, backoff: Backoff, refusals: Backoff) -> None:
        """Mend the store, or one connection and the wait after it, or no connection."""
        try:
            if self._trouble is not None:
                self._mend(self._trouble)
            elif orders.running:
                self._once(orders)
            else:
                self._rest()
        except StoreError as trouble:
            self._trouble = trouble
        except NotNow as none:
            self._wait_for_one(none, orders, backoff, refusals)
        except (PeerError, SourceRefused) as trouble:
            if not self._progress.lost_at:  # something sound had come
                backoff.reset()
                refusals.reset()
            self._lost(trouble, orders, backoff, refusals)

    # --- what ended a connection ---

    def _lost(self, trouble: PeerError | SourceRefused, orders: Orders, backoff: Backoff, refusals: Backoff) -> None:
        """Wait for as long as it takes, or raise; behind the end of a binlogd's timeline the next one is there."""
        ended = end_of(trouble, self._facts)
        if ended is not None and ended != self._ended:  # told once more, with none behind it, it is trouble
            self._ended = ended
            log.info("the timeline is copied to its end", said=trouble.message)
            return
        known, self._contradiction = self._contradiction, None
        lasting = self._lasting(trouble)
        if lasting is None:
            pause = backoff.next()
            self._progress.suspect(trouble)
            self._progress.failed(State.BACKOFF, trouble.message, trouble.hint, code=trouble.code)
            self._progress.reconnects += 1
            self._progress.outage.failed(trouble, retry_in=pause, now=time.monotonic())
            self._wake.sleep(pause)
            return
        if known is None and isinstance(lasting, (SourceDiverged, SourceGap)) and self._leads_on(lasting, orders):
            log.warning("the source cannot go on where the store ends", error=lasting.message)
            self._contradiction = lasting
            return
        self._wait_out(lasting, refusals.next())

    def _leads_on(self, contradiction: SourceRefused, orders: Orders) -> bool:
        """Whether another timeline may be begun with the source that gave it."""
        if self._facts is None or self._store is None or not self._resuming:
            return False
        step = decide(self._facts, self._store, keep_both=orders.keep_both, contradiction=contradiction)
        return not isinstance(step, Refuse)

    def _wait_for_one(self, none: NotNow, orders: Orders, backoff: Backoff, refusals: Backoff) -> None:
        """Nobody is there who may be followed. One who only lacks what is stored is about to get it from us."""
        trouble = none.error
        assert isinstance(trouble, (PeerError, SourceRefused))
        self._reached = self._reached or none.refused
        if none.refused and self._refusal_pause is None and len(orders.sources) == 1:
            raise trouble
        if not none.refused or not self._stored():
            # Of several another one may be back at any moment: it commits nothing before we are.
            self._lost(trouble, orders, backoff, backoff if len(orders.sources) > 1 else refusals)
            return
        self._contradiction = None
        self._refused(trouble, backoff.next())

    def _wait_out(self, lasting: BinlogdError, pause: float) -> None:
        """Ask again later while there is a store to serve; else this is the end."""
        if self._refusal_pause is None or not self._stored():
            raise lasting
        self._refused(lasting, pause)

    def _refused(self, lasting: BinlogdError, pause: float) -> None:
        known = (self._progress.state, self._progress.last_error) == (State.FAILED, lasting.message)
        self._progress.failed(State.FAILED, lasting.message, lasting.hint, alarm=lasting.alarm, code=lasting.code)
        if not known:  # it is said once, and stands in the status as long as it lasts
            log.error("source refused", error=lasting.message, hint=lasting.hint)
        self._wake.sleep(pause)

    def _rest(self) -> None:
        """Told to receive nothing."""
        log.info("receiving is stopped, as told")
        self._progress.state = State.STOPPED
        self._wake.sleep(None)

    # --- our own store ---

    def _mend(self, trouble: StoreError) -> None:
        """Let go of the store, and go on from what is really there as soon as it can be used again."""
        if self._tail is not None:
            self._failed, self._tail = self._tail, None
            self._failed.close()
        self._keeper.wait_out(trouble, self._failed, self._take)
        self._trouble = self._failed = None

    def _take(self, recovered: Recovered) -> None:
        self._publication = recovered.publication
        self._reached = self._reached or recovered.tail is not None
        if recovered.timeline is not None:
            self._tail = self._make_tail(recovered.timeline, recovered)

    def _stored(self) -> bool:
        return self._tail is not None and bool(self._tail.name)

    def _store_facts(self) -> StoreFacts:
        """Where the store ends now."""
        tail = self._tail
        if tail is None:
            return EMPTY
        return StoreFacts(
            source_uuid=tail.timeline.source_uuid,
            file=tail.name,
            position=tail.publication.position,
            overlap=tail.overlap(),
            held=tail.publication.executed,
            gtids=_has_gtids(tail.timeline),
            timelines=tuple(timeline.source_uuid for timeline in self._folder.timelines() if timeline.binlogs()),
            ended=self._ended,
        )

    def _make_tail(self, timeline: Timeline, recovered: Recovered | None) -> Tail:
        return Tail(
            disk=self._disk,
            timeline=timeline,
            publication=self._tail.publication if self._tail is not None else self._publication,
            contents=recovered.tail if recovered else None,
            predecessor=self._tail,
            durable=self._durable,
            watch=self._watch,
            received=self._tail.received if self._tail is not None else self._progress.received(),
            sync_times=self._progress.sync_times,
        )

    # --- one connection ---

    def _once(self, orders: Orders) -> None:
        """One connection, from log-in to its end."""
        progress = self._progress
        if progress.state is not State.FAILED:  # that lasts until something is received
            progress.state = State.CONNECTING
        if self._tail is not None:
            self._tail.rewind()
        self._receiving = 0
        chosen = self._candidates.choose(orders, self._store_facts, self._contradiction, asking=self._asking)
        scout = Scout(
            orders,
            chosen,
            self._identity,
            self._store_facts_shown,
            self._wake,
            self._replicas,
            partial(self._tell_semi_sync, chosen.session),
            self._place_shown,
        )
        try:
            with scout:
                self._stream(chosen)
        finally:
            self._gone |= scout.gone
            chosen.session.close()

    def _tell_semi_sync(self, session: Session, waits: bool) -> None:
        """From beside the stream, which must have been asked for with the marks of semi-sync."""
        self._progress.semi_sync = waits and session.marked

    def _asking(self, options: SourceOptions) -> None:
        self._progress.host, self._progress.port = options.host, options.port

    def _stream(self, chosen: Candidate) -> None:
        progress, session, facts, options = self._progress, chosen.session, chosen.facts, chosen.options
        self._asking(options)
        self._reached = True
        self._facts, self._store = facts, self._store_facts()
        progress.server_uuid = facts.server_uuid
        progress.server_version = facts.server_version
        progress.cascade = session.is_binlogd
        assert not isinstance(chosen.step, Refuse)
        start = chosen.step.start
        _enlist(session)
        self._resuming = not isinstance(chosen.step, NewTimeline)
        self._gone = (self._gone & self._store.held) - (facts.executed or NONE)  # the rest contradicts nothing
        if self._gone and self._resuming:
            raise SourceDiverged(f"its {start.file} goes on with what is not of the history of what it sent before")
        self._gone = GtidSet()
        if isinstance(chosen.step, NewTimeline):
            timeline = self._folder.new_timeline(self._disk, timeline_name(facts))
            tail = self._make_tail(timeline, None)
            if self._stored():
                log.warning(
                    "following another source: a new timeline begins",
                    timeline=timeline.path.name,
                    file=start.file or "(the oldest)",
                    before=f"{self._store.source_uuid} {self._store.file}:{self._store.position}",
                )
        else:
            assert self._tail is not None
            tail = self._tail
        self._receiving = tail.timeline.number
        session.settings().save(self._disk, tail.timeline.path)
        tail.said_purged = facts.purged
        sequence, received = session.dump(start)
        progress.semi_sync = session.semi_sync
        progress.tls = session.encrypted
        log.info(
            "receiving",
            source=f"{options.host}:{options.port}",
            version=facts.server_version,
            file=start.file or "(the oldest)",
            position=start.position,
            semi_sync=session.semi_sync,
            tls=session.encrypted,
        )
        if options.semi_sync and not session.semi_sync:
            _warn_of_no_semi_sync(session)
        try:
            Stream(
                link=session.link,
                tail=tail,
                start=start,
                announced=4 if facts.checksum == "CRC32" else 0,
                publish=self._publish,
                progress=progress,
                semi_sync=session.marked,
                sequence=sequence,
                received=received,
            ).run()
        finally:
            if tail.name:  # else the timeline got no file, and the one before it is the newest
                if tail is not self._tail:
                    self._ended = None
                self._tail = tail
                self._contradiction = None

    def _store_facts_shown(self) -> StoreFacts:
        """The same for another thread, which must not look at the tail: as far as it is published."""
        shown = self._publish.newest
        timelines = [
            timeline
            for timeline in self._folder.timelines()
            if timeline.number <= shown.timeline and timeline.binlogs()
        ]
        if not timelines:
            return EMPTY
        return StoreFacts(
            timelines[-1].source_uuid,
            shown.file,
            shown.position,
            held=shown.executed,
            gtids=_has_gtids(timelines[-1]),
            timelines=tuple(timeline.source_uuid for timeline in timelines),
            ended=self._ended,
        )

    def _place_shown(self) -> tuple[str, int] | None:
        """File and position, of what the stream at hand is of, up to which it is published; None: of nothing yet.

        For another thread.
        """
        shown = self._publish.newest
        return (shown.file, shown.position) if shown.file and shown.timeline == self._receiving else None

    def _lasting(self, trouble: PeerError | SourceRefused) -> BinlogdError | None:
        """The error to end with when ``trouble`` will not pass by itself."""
        held = self._tail.publication.executed if self._tail is not None else GtidSet()
        if isinstance(trouble, SourceDiverged) and self._facts is not None:
            return diverged(trouble.message, self._facts, held)
        if not trouble.retriable:
            return trouble
        if isinstance(trouble, Unreachable):
            if trouble.code == 2005 and not self._reached and not self._desk.newest.by_statement:
                return ConfigError(trouble.message, hint=trouble.hint)
            return None
        if not isinstance(trouble, ServerError) or trouble.code not in FATAL_CODES:
            return None
        # Once the dump runs, its history is proved: what the source cannot read then is its own trouble.
        answers = trouble.code == ER_SOURCE_FATAL_ERROR_READING_BINLOG and self._progress.state is not State.STREAMING
        if answers and self._resuming and self._facts is not None and self._store is not None:
            found = of_refusal(trouble.message, self._store, self._facts, held)
            if found is not None:
                return found
        message, hint = f"the source refused: {trouble.message} (error {trouble.code})", trouble.hint
        if trouble.code == ACCESS_DENIED:
            hint = hint or "check source.user and its password"
        elif trouble.code in (1227, 1142):
            user = self._desk.newest.sources[0].user
            hint = hint or f"run at the source: {grant(f'{user}@%')}"
        elif "not open" in trouble.message:
            hint = "set log_bin at the source (it is on by default since 8.0) and restart it"
        elif "same server_uuid" in trouble.message or "same server_id" in trouble.message:
            hint = "another receiver has a copy of this data folder: remove auto.cnf from one of them"
        return SourceRefused(message, hint=hint, code=trouble.code)


def _has_gtids(timeline: Timeline) -> bool:
    """Whether every transaction of a timeline has one, as far as its source has said."""
    settings = load(timeline.path)
    return settings is None or settings.values.get("gtid_mode") == "ON"


def _enlist(session: Session) -> None:
    try:
        session.enlist()
    except ServerError as refused:
        if refused.code != ACCESS_DENIED:
            raise
        # Logged in we are: this is how COM_REGISTER_SLAVE says that a privilege is missing.
        account = session.value("SELECT CURRENT_USER()") or ""
        raise SourceRefused(
            f"the source refused: its user {quoted(account)} lacks REPLICATION SLAVE",
            hint=f"run at the source: {grant(account)}",
            code=refused.code,
        ) from refused


def _warn_of_no_semi_sync(session: Session) -> None:
    if session.is_binlogd:
        log.warning(
            "the source is a binlogd, which acknowledges to its own source: no commit waits for this copy",
            hint="set source.semi_sync = false to say that this is meant",
        )
        return
    enable = "SET PERSIST rpl_semi_sync_source_enabled = 1"
    install = f"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; {enable}"
    log.warning(
        "the source does not do semi-sync: a transaction can be lost with it",
        hint=enable if session.marked else install,
    )
