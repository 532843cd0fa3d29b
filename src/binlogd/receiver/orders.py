"""What the receiver is told to do: whom it may receive from, and whether it is to receive at all.

Orders come from the configuration, from ``CHANGE REPLICATION SOURCE TO``, ``START`` and ``STOP REPLICA``, and from a
reload. They are replaced as a whole, by whichever thread takes them; the receiver is interrupted, lets go of the
connection it has, and acts on the newest ones.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

from binlogd.receiver.link import Wake
from binlogd.receiver.session import SourceOptions


class Follow(Enum):
    """Which of several candidates is the source: the first that answers, or the one that is not read_only."""

    FIRST = "first"
    WRITABLE = "writable"


@dataclass(frozen=True, slots=True)
class Orders:
    """``sources`` are the candidates, in the order in which they are asked; at least one.

    ``keep_both`` is on_divergence = "new-timeline"; with ``running`` False nothing is received. ``by_statement`` are
    sources that no configuration names: somebody who may mend a mistake is there when they are ordered.
    """

    sources: tuple[SourceOptions, ...]
    follow: Follow = Follow.FIRST
    keep_both: bool = False
    running: bool = True
    by_statement: bool = False


class Desk:
    """Where orders are left for the receiver."""

    def __init__(self, orders: Orders, wake: Wake) -> None:
        self._orders = orders
        self._wake = wake
        self._lock = threading.Lock()

    @property
    def newest(self) -> Orders:
        """As they are now."""
        return self._orders

    def take(self) -> Orders:
        """As they are now, for the receiver, which is interrupted only by newer ones from here on."""
        with self._lock:
            self._wake.go_on()
            return self._orders

    def leave(self, orders: Orders) -> None:
        """Newer orders."""
        with self._lock:
            if orders != self._orders:
                self._orders = orders
                self._wake.interrupt()
