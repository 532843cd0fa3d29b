"""Looks, beside a stream, whether the source is still the one to follow.

A dump cannot be asked anything. So where one of several candidates is followed because it is writable, a thread asks
it over a connection of its own, every PERIOD seconds, whether it still is. When it is not, and another one is that may
be followed, the receiver is interrupted, and chooses anew. As long as there is no better one the stream goes on: what a
source commits until the moment it is read_only, and a replica of it later, is still to be had from it.

What goes wrong here says nothing: whether the source is lost the stream itself notices.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from binlogd.errors import BinlogdError
from binlogd.logs import get_logger
from binlogd.receiver.candidates import Candidate, Candidates, NotNow
from binlogd.receiver.link import Stopped, Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import StoreFacts
from binlogd.receiver.session import Session
from binlogd.store.layout import Identity

PERIOD = 1.0  # seconds: a switch-over is noticed so late at most

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
    ) -> None:
        self._orders = orders
        self._chosen = chosen
        self._identity = identity
        self._store = store
        self._receiver = receiver
        self._replicas = replicas
        self._lock = threading.Lock()
        self._over = False  # guarded by the lock: nobody is interrupted any more
        self._wake: Wake | None = None

    def __enter__(self) -> Self:
        if self._orders.follow is Follow.WRITABLE and len(self._orders.sources) > 1:
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
                with suppress(BinlogdError, NotNow, OSError):
                    self._watch(wake)
                wake.sleep(PERIOD)
        except Stopped:
            with self._lock:  # whoever has woken us has done with it
                os.close(wake.descriptor)

    def _watch(self, wake: Wake) -> None:
        """Over one connection, until that fails, or there is a better one."""
        session = Session(self._chosen.options, self._identity, wake)
        try:
            session.connect()
            while True:
                if session.read_only() and self._is_better(wake):
                    log.warning("the source is read_only, and another candidate is not: choosing anew")
                    with self._lock:
                        if not self._over:
                            self._receiver.interrupt()
                wake.sleep(PERIOD)
        finally:
            session.close()

    def _is_better(self, wake: Wake) -> bool:
        """Whether another candidate would be chosen now."""
        candidates = Candidates(self._identity, wake, self._replicas)
        candidates.followed = self._chosen.options
        found = candidates.choose(self._orders, self._store)
        found.session.close()
        return found.options != self._chosen.options
