"""How often a value was how large: for metrics, at a cost that a hot path can pay.

A histogram is fixed in size when it is made. One thread at a time observes, any other may take a ``snapshot``: an
observation replaces one number in an array and adds to one, so a reader sees at worst a value counted whose amount is
not in the sum yet. There is no lock and nothing is kept per value.

``counts`` has one number for each upper bound, of the values up to it and above the bound before, and one more for
those above the last: not cumulative, which is Prometheus' way of writing it down.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""From what a good disk takes for a sync to what a source waits for an acknowledgement by default."""

BYTES = tuple(float(4**power) for power in range(4, 14))
"""From 256 bytes, one small transaction, to 64 MiB, the most that is received before the disk is waited for."""


class Histogram:
    """See the module; ``bounds`` ascend."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = array("Q", bytes(8 * (len(self._bounds) + 1)))
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def snapshot(self) -> dict[str, Any]:
        """For JSON."""
        return {"bounds": list(self._bounds), "counts": self._counts.tolist(), "sum": self._sum}
