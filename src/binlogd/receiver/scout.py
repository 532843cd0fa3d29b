"""Looks, beside a stream, whether the source is still the one to follow.

A dump cannot be asked anything. So a thread asks the source, every few seconds, over a connection of its own:

    is its history still the one that is received?   A source that is RESET while we are attached says nothing of it:
                  its dump goes on waiting for the position where we stand, with heartbeats, and sends whatever is there
                  once its new file is as long. It shows in gtid_executed, which only grows otherwise: when a look finds
                  something gone from it the receiver is interrupted, and asks the source to prove its history
                  (store/overlap.py). It is not compared with what is stored: of that it lacks every transaction that
                  waits for an acknowledgement, which may be another replica's, and come in hours.
    is another candidate to be followed?   Asked where one of several is followed because it is writable, once it is
                  not. As long as there is no better one the stream goes on: what a source commits until the moment it
                  is read_only, and a replica of it later, is still to be had from it.

    does it wait for acknowledgements?   Told to ``waits``: semi-sync may be switched while we are attached.
    does it stand behind what it has sent?   The same question without GTIDs, and with them for a source that soon gives
                  out the same ones again: its newest file, and how far that is written (SHOW BINARY LOG STATUS, which
                  needs REPLICATION CLIENT; without that nobody asks). It must not lie before what is stored.

The last one is wrong in no history that goes on: what is stored is asked for first (``place``), then the source, whose
log only grows, and which sends nothing that is not written. But for these, which are thought of:

    another timeline   while one is begun the newest that is stored is still of the one before: ``place`` is None
    another server     an address may lead to several, or be moved: nobody is asked who is not the source of the stream
    another binlogd    shows the place of its newest timeline, not of the one that is copied, and cannot be reset
    a restart          of the source with another log_bin, or with less after a crash: the stream is lost as well, or is
                       about to be found so. Names that cannot be compared say nothing
    a moment           in which a server contradicts itself; none is known. It must lie before it at two looks
    a later file       than ours, after RESET … TO n, or once ours was purged: nothing is concluded. MySQL from 8.0 on
                       and MariaDB wake a dump whose file is gone, and what they send then is stopped where a file ends
                       (stream.py). To break off here could lose what lies in the socket and is purged meanwhile

A source whose binary log is locked answers nobody: FLUSH BINARY LOGS waits there for a commit that waits for its
acknowledgement, which may be another replica's. Each question would wait there, too, as a connection that the source
does not see closed, until it has none left. So who got no answer asks ever more rarely, once in PLACE_LONGEST at last.

What goes wrong here says nothing: whether the source is lost the stream itself notices.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import BinlogdError
from binlogd.logs import get_logger
from binlogd.receiver.candidates import Candidate, Candidates, NotNow
from binlogd.receiver.link import Stopped, Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import StoreFacts
from binlogd.receiver.session import Session
from binlogd.store.layout import Identity, binlog_base, binlog_number, is_binlog_name

PERIOD = 1.0  # seconds between two looks for a better candidate: a switch-over is noticed so late at most
HISTORY_PERIOD = 5.0  # seconds between two looks at the source's history, while it is the one that is received
PLACE_LONGEST = 3600.0  # seconds until a source that did not say where it stands is asked for that again

log = get_logger(__name__)

Place = tuple[str, int]
"""A file, and an offset in it."""


def before(one: Place, other: Place) -> bool:
    """Whether, of two places in one history, the first comes first; False where nobody can tell."""
    (name, position), (other_name, other_position) = one, other
    if not is_binlog_name(name) or binlog_base(name) != binlog_base(other_name):
        return False
    return (binlog_number(name), position) < (binlog_number(other_name), other_position)


class Scout:
    """Looks while the context lasts; ``receiver`` is what it interrupts."""

    def __init__(
        self,
        orders: Orders,
        chosen: Candidate,
        identity: Identity,
        store: Callable[[], StoreFacts],
        receiver: Wake,
        replicas: Callable[[], frozenset[str]],
        waits: Callable[[bool], None] = lambda _: None,
        place: Callable[[], Place | None] = lambda: None,
    ) -> None:
        self._orders = orders
        self._chosen = chosen
        self._identity = identity
        self._store = store
        self._receiver = receiver
        self._replicas = replicas
        self._waits = waits
        self._place = place
        self._place_pause = 0.0  # seconds that were waited since it was last asked for in vain …
        self._place_due = 0.0  # … and when it is asked for again
        self._writable = orders.follow is Follow.WRITABLE and len(orders.sources) > 1
        self._executed = chosen.facts.executed or GtidSet()  # what the source has said of itself until now
        self.gone = GtidSet()  # of that, what it says no more: the receiver is interrupted because of it
        self._lock = threading.Lock()
        self._over = False  # guarded by the lock: nobody is interrupted any more
        self._wake: Wake | None = None

    def __enter__(self) -> Self:
        self._wake = Wake()
        threading.Thread(target=self._run, args=(self._wake,), name="scout", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            if self._wake is not None:
                self._wake.set()  # it may take its time, in a look-up of a name: nobody waits for it

    def _run(self, wake: Wake) -> None:
        try:
            while True:
                wake.sleep(self._period)
                with suppress(BinlogdError, NotNow, OSError):
                    self._watch(wake)
        except Stopped:
            with self._lock:  # whoever has woken us has done with it
                os.close(wake.descriptor)

    def _watch(self, wake: Wake) -> None:
        """Over one connection, until that fails."""
        session = Session(self._chosen.options, self._identity, wake)
        was_behind = False
        try:
            session.connect()
            if not session.is_of(self._chosen.facts):
                return
            while True:
                self._tell(waits=session.waits())
                if self._chosen.facts.executed is not None:
                    self._compare(session.executed())
                behind = self._behind(session)
                if behind is not None and was_behind:
                    log.warning("the source stands before what it has sent: it is asked to prove its history", **behind)
                    self._interrupt()
                was_behind = behind is not None
                if self._writable and session.read_only() and self._is_better(wake):
                    log.warning("the source is read_only, and another candidate is not: choosing anew")
                    self._interrupt()
                wake.sleep(PERIOD if was_behind else self._period)
        finally:
            session.close()

    @property
    def _period(self) -> float:
        return PERIOD if self._writable else HISTORY_PERIOD

    def _tell(self, *, waits: bool) -> None:
        with self._lock:
            if not self._over:  # else it is of a stream that has ended, and another one may run
                self._waits(waits)

    def _interrupt(self) -> None:
        with self._lock:
            if not self._over:
                self._receiver.interrupt()

    def _compare(self, executed: GtidSet) -> None:
        gone = self._executed - executed
        self._executed = executed
        if gone:
            log.warning("the source lacks what it had executed: it is asked to prove its history", gtids=gone.compact())
            self.gone |= gone
            self._interrupt()

    def _behind(self, session: Session) -> dict[str, str] | None:
        """What is stored and where the source stands, when that lies before it; None: it does not, or nobody knows."""
        stored = self._place()  # first: the source goes on
        if stored is None or self._chosen.facts.history is not None or time.monotonic() < self._place_due:
            return None
        try:
            stands = session.newest_place()
        except BinlogdError:
            self._place_pause = min(max(2 * self._place_pause, HISTORY_PERIOD), PLACE_LONGEST)
            self._place_due = time.monotonic() + self._place_pause
            raise
        self._place_pause = 0.0
        if stands is None or not before(stands, stored):
            return None
        return {"stands": f"{stands[0]}:{stands[1]}", "stored": f"{stored[0]}:{stored[1]}"}

    def _is_better(self, wake: Wake) -> bool:
        """Whether another candidate would be chosen now."""
        candidates = Candidates(self._identity, wake, self._replicas)
        candidates.followed = self._chosen.options
        found = candidates.choose(self._orders, self._store)
        found.session.close()
        return found.options != self._chosen.options
