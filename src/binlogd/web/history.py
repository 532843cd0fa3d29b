"""The last hour, so that a page that is opened now shows what went on before.

A sample is taken of the status every five seconds and kept in a ring of fixed size. It costs the receiver no more than
one status does, and nothing when somebody asks at that time anyway (StatusSite keeps a status for a moment).

Counters become rates between two samples; a counter that went back tells of a process that was started anew, and
there is no rate then. A figure that is not known is NaN in the ring and null in JSON, and the page leaves a gap. The
acknowledgements' percentiles are the receiver's newest thousands, so they count only when some were sent in between.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from binlogd.logs import get_logger

INTERVAL = 5.0  # seconds between samples
KEPT = 720  # samples: an hour
UNKNOWN = math.nan
DIGITS = 6  # significant ones in JSON: finer than any pixel
RATES = {
    "received_bytes": ("source", "bytes_received"),
    "transactions": ("source", "transactions_received"),
    "sent_bytes": ("server", "sent_bytes"),
}  # each a second
ACKS = {"ack_p50": "p50", "ack_p99": "p99"}  # seconds
LAGS = {"lag_bytes": "lag_bytes", "lag_seconds": "lag_seconds"}  # of the replica that is furthest behind
COLUMNS = ("time", *RATES, *ACKS, *LAGS, "replicas", "streaming")

Status = dict[str, Any]

log = get_logger(__name__)


class History:
    """The ring: a column of numbers for each figure."""

    def __init__(self) -> None:
        self._ring = {name: array("d", [UNKNOWN]) * KEPT for name in COLUMNS}
        self._taken = 0
        self._before: Status | None = None
        self._before_at = 0.0

    def take(self, status: Status, now: float, clock: float) -> None:
        """Keep a sample: ``now`` is the time of day it is shown at, ``clock`` the one that never jumps."""
        sample = {"time": now, **self._figures(status, clock - self._before_at)}
        for name, column in self._ring.items():
            column[self._taken % KEPT] = sample[name]
        self._taken += 1
        self._before, self._before_at = status, clock

    def _figures(self, status: Status, seconds: float) -> dict[str, float]:
        before = self._before
        figures = {}
        for name, path in RATES.items():
            grown = _grown(before, status, path)
            figures[name] = UNKNOWN if grown is None or seconds <= 0 else grown / seconds
        acked = _grown(before, status, ("source", "acks_sent"))
        percentiles = status["source"].get("ack_seconds") or {}
        for name, percentile in ACKS.items():
            value = percentiles.get(percentile)
            figures[name] = value if acked and value is not None else UNKNOWN
        replicas = status["replicas"]
        for name, key in LAGS.items():
            figures[name] = max((replica[key] for replica in replicas), default=UNKNOWN)
        figures["replicas"] = len(replicas)
        figures["streaming"] = float(status["source"]["state"] == "streaming")
        return figures

    def since(self, after: float) -> dict[str, Any]:
        """The samples taken later than ``after``, oldest first, as the page wants them."""
        times = self._ring["time"]
        places = [place for place in self._places() if times[place] > after]
        columns = {name: [_short(column[place]) for place in places] for name, column in self._ring.items()}
        columns["time"] = [times[place] for place in places]
        return {"interval": INTERVAL, "kept": KEPT, "columns": columns}

    def _places(self) -> Iterator[int]:
        for number in range(max(self._taken - KEPT, 0), self._taken):
            yield number % KEPT


def _grown(before: Status | None, status: Status, path: tuple[str, str]) -> float | None:
    """By how much a counter grew; None when that is not known."""
    section, name = path
    old, new = (one[section].get(name) if one else None for one in (before, status))
    return new - old if old is not None and new is not None and new >= old else None


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.{DIGITS}g}")


async def sample(history: History, ask: Callable[[], Awaitable[Status]]) -> None:
    """Take samples for ever. After a machine that slept, or a status that took long, no sample is made up for; where
    there is no status, for want of memory or threads, a gap remains."""
    next_at = time.monotonic()
    while True:
        try:
            history.take(await ask(), time.time(), time.monotonic())
        except Exception as bad:  # one that passes: the next sample is as good as ever
            log.error("no status for this sample", error=str(bad) or type(bad).__name__)
        clock = time.monotonic()
        next_at += INTERVAL * max(math.ceil((clock - next_at) / INTERVAL), 1)
        await asyncio.sleep(next_at - clock)
