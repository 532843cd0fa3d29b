"""What the receiver is doing, for whoever asks: written by the loop, read by the status thread.

Every field is a plain value that the loop replaces and nobody else writes, so a reader sees each one whole without a
lock. Acknowledgement times go into a ring; percentiles are computed by the reader. Counters and histograms never go
back while the process lives.

*Lag.* What the source has and has not sent is known to the source alone. Two things are known here: it sends a
heartbeat only when it has sent all that it has, so at the last heartbeat nothing was missing; and what is missing was
committed no earlier than the last event received. So the oldest of what is missing is at most as old as the younger of
the two, which is what ``lag_seconds`` says; 0 when nothing has come since the last heartbeat, and None while there is
neither. An event's time is in whole seconds, of the source's clock: under a steady load it says 0 or 1.
"""

from __future__ import annotations

import math
import time
from array import array
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from binlogd.errors import BinlogdError, EventError
from binlogd.histogram import BYTES, SECONDS, Histogram
from binlogd.receiver.outage import Outage
from binlogd.store.tail import Received

ACKS_KEPT = 4096  # latest ACK times that percentiles are taken over


class State(Enum):
    """What ``source.state`` says."""

    CONNECTING = "connecting"
    STREAMING = "streaming"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Corruption:
    """What came of ``file`` at ``position`` failed its checks, ``times`` times in a row, first at ``since``."""

    file: str
    position: int
    times: int
    since: float


@dataclass(slots=True)
class Progress:
    """See the module. Times are seconds, ``since`` and ``last_event_time`` since the epoch; sizes are bytes."""

    state: State = State.CONNECTING
    host: str = ""
    port: int = 0
    server_uuid: str = ""
    server_version: str = ""
    semi_sync: bool = False
    cascade: bool = False  # the source is a binlogd
    tls: bool = False
    file: str = ""
    position: int = 0
    last_event_time: int = 0
    bytes_received: int = 0
    transactions_received: int = 0
    events_received: int = 0
    acks_sent: int = 0
    syncs: int = 0
    reconnects: int = 0
    last_error: str = ""
    last_hint: str = ""
    last_errno: int = 0
    alarm: str = ""  # the code of the alarm that the last error is
    missing: str = ""  # what was published and is not on disk any more
    since: float = field(default_factory=time.time)
    lost_at: float = field(default_factory=time.time)  # when the source was lost; 0 once it sent something sound
    corruption: Corruption | None = None  # of what it sent last before it was lost; of no account once lost_at is 0
    outage: Outage = field(default_factory=Outage)
    even_at: float = 0.0  # when the source last said that it had sent everything; 0: it has not said so yet
    even: bool = False  # and nothing has come since
    ack_times: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    sync_times: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(BYTES))
    _acks: array[float] = field(default_factory=lambda: array("d", bytes(8 * ACKS_KEPT)))

    def acknowledged(self, seconds: float) -> None:
        """An ACK went out this long after its event came in."""
        self._acks[self.acks_sent % ACKS_KEPT] = seconds
        self.acks_sent += 1
        self.ack_times.observe(seconds)
        self.semi_sync = True

    def received(self) -> Received:
        """What was received so far."""
        return Received(self.transactions_received, self.events_received)

    def sent_everything(self) -> None:
        """The source says that it has nothing more to send."""
        self.even_at = time.time()
        self.even = True
        self.sound()

    def sound(self) -> None:
        """The source sent something that holds good: it is there and well."""
        if self.lost_at:
            self.lost_at = 0.0
            self.outage.over(f"{self.host}:{self.port}", now=time.monotonic())

    def lag_seconds(self, now: float) -> float | None:
        """How old the oldest can be that the source has and we have not; see the module."""
        if self.even and self.state is State.STREAMING:
            return 0.0
        known = max(self.even_at, self.last_event_time)
        return max(now - known, 0.0) if known else None

    def streaming(self) -> None:
        """The dump runs, and goes on where the store ends."""
        self.state = State.STREAMING
        self.alarm = ""
        self.since = time.time()

    def failed(self, state: State, message: str, hint: str, *, alarm: str = "", code: int = 0) -> None:
        """Not streaming any more, and why; ``code`` is MySQL's number. ``since`` stays what it is while that does."""
        now = time.time()
        if (state, message) != (self.state, self.last_error):
            self.since = now
        self.state = state
        self.alarm = alarm
        self.last_error = message
        self.last_hint = hint
        self.last_errno = code
        self.lost_at = self.lost_at or now

    def suspect(self, trouble: BinlogdError) -> None:
        """Before ``failed``: whether it was a bad event that ended the connection, and the same one once more.

        It is the same when nothing sound has come since the last time and the place has not changed. That the
        connection was lost otherwise in between says nothing of the place.
        """
        if not isinstance(trouble, EventError):
            return
        before = self.corruption
        if before is not None and self.lost_at and (before.file, before.position) == (self.file, self.position):
            self.corruption = Corruption(self.file, self.position, before.times + 1, before.since)
        else:
            self.corruption = Corruption(self.file, self.position, 1, time.time())

    def snapshot(self) -> dict[str, Any]:
        """The ``source`` section of the status (interface.md)."""
        corruption = self.corruption
        acks = sorted(self._acks[: min(self.acks_sent, ACKS_KEPT)])

        def percentile(share: float) -> float | None:
            return acks[max(math.ceil(share * len(acks)) - 1, 0)] if acks else None

        return {
            "state": self.state.value,
            "since": self.since,
            "lost_at": self.lost_at or None,
            "corruption": asdict(corruption) if corruption is not None and self.lost_at else None,
            "host": self.host,
            "port": self.port,
            "server_uuid": self.server_uuid,
            "server_version": self.server_version,
            "semi_sync": self.semi_sync,
            "cascade": self.cascade,
            "tls": self.tls,
            "file": self.file,
            "position": self.position,
            "last_event_time": self.last_event_time or None,
            "bytes_received": self.bytes_received,
            "transactions_received": self.transactions_received,
            "events_received": self.events_received,
            "lag_seconds": self.lag_seconds(time.time()),
            "acks_sent": self.acks_sent,
            "ack_seconds": {
                "p50": percentile(0.5),
                "p99": percentile(0.99),
                "max": acks[-1] if acks else None,
            },
            "ack_histogram": self.ack_times.snapshot(),
            "sync_histogram": self.sync_times.snapshot(),
            "batch_histogram": self.batch_sizes.snapshot(),
            "syncs": self.syncs,
            "reconnects": self.reconnects,
            "last_error": self.last_error or None,
            "last_hint": self.last_hint or None,
            "last_errno": self.last_errno or None,
            "alarm": self.alarm or None,
            "missing": self.missing or None,
        }
