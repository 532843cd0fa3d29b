"""What the log says while no source sends: that it is lost, that it still is, and that something comes again.

Attempts go on every two seconds for as long as it takes, and one that fails like those before is no news. It is said
once that the source is lost; then after SECOND, and after twice as long each time, up to LONGEST; and once that it is
over, with how long it was. Each attempt is in the log at level debug, and the newest error always in the status.
"""

from __future__ import annotations

from dataclasses import dataclass

from binlogd.errors import BinlogdError
from binlogd.logs import get_logger
from binlogd.units import format_duration

SECOND = 10.0  # seconds after the first word: an alarm by then (control/status.py), a restart is shorter
LONGEST = 3600.0  # an hour: whoever reads the end of a log finds it there

log = get_logger(__name__)


@dataclass(slots=True)
class Outage:
    """One after the other. ``now`` is seconds of a clock that never goes back."""

    attempts: int = 0  # that failed, since something sound came
    _began: float = 0.0
    _due: float = 0.0
    _pause: float = 0.0

    def failed(self, trouble: BinlogdError, *, retry_in: float, now: float) -> None:
        """A connection ended, or none came about, ``retry_in`` seconds before the next attempt."""
        self.attempts += 1
        about = {"error": trouble.message, "hint": trouble.hint, "retry_in": f"{retry_in:.1f}s"}
        if self.attempts == 1:
            self._began, self._pause = now, SECOND
            log.warning("source lost", **about)
        elif now >= self._due:
            self._pause = min(self._pause * 2, LONGEST)
            log.warning("the source is still lost", lost_for=lasting(now - self._began), **about)
        else:
            log.debug("another attempt failed", **about)
            return
        self._due = now + self._pause

    def over(self, source: str, *, now: float) -> None:
        """Something sound came from ``source``."""
        if self.attempts:
            log.info(
                "the source sends again", source=source, lost_for=lasting(now - self._began), attempts=self.attempts
            )
        self.attempts = 0


def lasting(seconds: float) -> str:
    """A duration for people, to a tenth of a second while it is short."""
    return f"{seconds:.1f}s" if seconds < SECOND else format_duration(round(seconds))
