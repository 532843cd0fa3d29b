"""What the receiver is doing, for whoever asks: written by the loop, read by the status thread.

Every field is a plain value that the loop replaces and nobody else writes, so a reader sees each one whole without a
lock. Acknowledgement times go into a ring; percentiles are computed by the reader.
"""

from __future__ import annotations

import math
import time
from array import array
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from binlogd.errors import BinlogdError, EventError

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
    _acks: array[float] = field(default_factory=lambda: array("d", bytes(8 * ACKS_KEPT)))

    def acknowledged(self, seconds: float) -> None:
        """An ACK went out this long after its event came in."""
        self._acks[self.acks_sent % ACKS_KEPT] = seconds
        self.acks_sent += 1
        self.semi_sync = True

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
            "acks_sent": self.acks_sent,
            "ack_seconds": {
                "p50": percentile(0.5),
                "p99": percentile(0.99),
                "max": acks[-1] if acks else None,
            },
            "syncs": self.syncs,
            "reconnects": self.reconnects,
            "last_error": self.last_error or None,
            "last_hint": self.last_hint or None,
            "last_errno": self.last_errno or None,
            "alarm": self.alarm or None,
            "missing": self.missing or None,
        }
