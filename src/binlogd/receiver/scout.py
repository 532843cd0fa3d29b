"""Looks, beside a stream, whether the source is still the one to follow.

A dump cannot be asked anything. So a thread asks the source, every few seconds, over a connection of its own:

    is its history still the one that is received?   A source that is RESET while we are attached says nothing of it:
                  its dump goes on waiting for the position where we stand, with heartbeats, and sends whatever is there
                  once its new file is as long. It shows in gtid_executed, which must not lack what is stored. While a
                  commit waits for an acknowledgement it does, for a moment: what lacks must do so at two looks. Then
                  the receiver is interrupted, and asks the source to prove its history (store/overlap.py). What it
                  lacked when the stream began it has proved already, or it was the order to go on without.
    is another candidate to be followed?   Asked where one of several is followed because it is writable, once it is
                  not. As long as there is no better one the stream goes on: what a source commits until the moment it
                  is read_only, and a replica of it later, is still to be had from it.

    does it wait for acknowledgements?   Told to ``waits``: semi-sync may be switched while we are attached.

What goes wrong here says nothing: whether the source is lost the stream itself notices.
"""

from __future__ import annotations

import os
import threading
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
from binlogd.store.layout import Identity

PERIOD = 1.0  # seconds between two looks for a better candidate: a switch-over is noticed so late at most
HISTORY_PERIOD = 5.0  # seconds between two looks at the source's history, while it is the one that is received

log = get_logger(__name__)


class Scout:
    """Looks while the context lasts, if there is something to look for; ``receiver`` is what it interrupts."""

    def __init__(
        self,
        orders: Orders,
        chosen: Candidate,
        identity: Identity,
        store: Callable[[], StoreFacts],
        receiver: Wake,
        replicas: Callable[[], frozenset[str]],
        waits: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._orders = orders
        self._chosen = chosen
        self._identity = identity
        self._store = store
        self._receiver = receiver
        self._replicas = replicas
        self._waits = waits
        self._writable = orders.follow is Follow.WRITABLE and len(orders.sources) > 1
        self._excused = self._lacking(chosen.facts.executed)
        self._lock = threading.Lock()
        self._over = False  # guarded by the lock: nobody is interrupted any more
        self._wake: Wake | None = None

    def __enter__(self) -> Self:
        if self._writable or self._chosen.facts.executed is not None:
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
        doubted = GtidSet()
        try:
            session.connect()
            while True:
                self._tell(waits=session.waits())
                if self._chosen.facts.executed is not None:
                    lacking = self._lacking_now(session)
                    if lacking & doubted:
                        log.warning(
                            "the source lacks what it has sent: it is asked to prove its history",
                            gtids=(lacking & doubted).compact(),
                        )
                        self._interrupt()
                    doubted = lacking
                if self._writable and session.read_only() and self._is_better(wake):
                    log.warning("the source is read_only, and another candidate is not: choosing anew")
                    self._interrupt()
                wake.sleep(PERIOD if doubted else self._period)
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

    def _lacking(self, executed: GtidSet | None) -> GtidSet:
        return self._store().held - executed if executed is not None else GtidSet()

    def _lacking_now(self, session: Session) -> GtidSet:
        held = self._store().held  # first: the source goes on
        return held - session.executed() - self._excused

    def _is_better(self, wake: Wake) -> bool:
        """Whether another candidate would be chosen now."""
        candidates = Candidates(self._identity, wake, self._replicas)
        candidates.followed = self._chosen.options
        found = candidates.choose(self._orders, self._store)
        found.session.close()
        return found.options != self._chosen.options
