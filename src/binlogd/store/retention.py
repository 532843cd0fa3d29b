"""Which files of a store go: a pure decision over what is there, what is asked for, and who reads what.

Files go whole, and oldest first: what goes is a beginning of the whole store's order, over all timelines, so that what
is left is the history from some point on. Two things end it:

    the newest file     is what is being received, and never goes
    a file being read   by an attached replica, or a dump of any kind, never goes, and neither does anything behind it,
                        which the reader is on its way to. As at any source a replica that is not attached is not
                        waited for

What a file is asked to go for:

    keep       it was last written to longer ago than that, by our own clock: events carry times from anywhere
    max_size   all files together have more bytes than that
    min_free   less is free on the disk than that, and ``ahead`` of it
    to         it stands before a named file
    before     its last event is older than a moment

A damaged file goes like any other: it is not needed any more, by the same rules, and keeping it would fill the disk in
the end. That it was damaged is said when it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from binlogd.store.removed import First
from binlogd.units import format_duration, format_size, human_size


@dataclass(frozen=True, slots=True)
class File:
    """One of the store's: ``size`` in bytes."""

    timeline: int
    name: str
    size: int

    @property
    def place(self) -> First:
        """What it is called among the files of all timelines."""
        return self.timeline, self.name

    @property
    def qualified(self) -> str:
        """The same as people write it."""
        return f"{self.timeline:04}:{self.name}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked for; None for what is not. ``keep`` in seconds, ``before`` since the epoch.

    ``ordered``: by `binlogd purge`, whose ``--keep`` is a duration or a size, and not by the configuration.
    """

    keep: float | None = None
    max_size: int | None = None
    min_free: int | None = None
    ahead: int = 0
    to: First | None = None
    before: float | None = None
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Going:
    """A file that goes, and why."""

    file: File
    reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The file that should go, and does not, for ``readers`` are at it; none of them: it is the newest.

    ``wanted`` counts the files that should go, with it.
    """

    file: File
    reason: str
    readers: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What goes, oldest first, and what does not."""

    going: tuple[Going, ...]
    blocked: Blocked | None


def should_go(
    files: Sequence[File],
    limits: Limits,
    *,
    now: float,
    free: int,
    last_time: Callable[[File], float],
    written: Callable[[File], float],
) -> list[str]:
    """Why the first of ``files``, oldest first, should go, whoever reads them: a reason for each that should.

    ``last_time``, of the last event, is asked of no more files than it must, for it reads; ``written`` is when a file
    last was.
    """
    left, room = sum(file.size for file in files), free
    reached = False
    reasons: list[str] = []
    for file in files:
        reason = _by_order(file, limits, last_time, reached=(reached := reached or file.place == limits.to))
        reason = reason or _by_space(limits, left, room) or _by_age(file, limits, now, written)
        if not reason:
            break
        reasons.append(reason)
        left -= file.size
        room += file.size
    return reasons


def decide(files: Sequence[File], reasons: Sequence[str], readers: Collection[First]) -> Verdict:
    """What goes of those that should, by ``reasons`` (``should_go``).

    ``readers`` are the places of those who read, one each; a place that no file has stands for any.
    """
    places = [file.place for file in files]
    known = set(places)
    # Who reads a file that is gone already is on the way to the first that is left.
    held = min((places.index(place) if place in known else 0 for place in readers), default=len(files))
    count = min(len(reasons), held, max(len(files) - 1, 0))
    going = tuple(Going(file, reason) for file, reason in zip(files, reasons[:count], strict=False))
    if count == len(reasons):
        return Verdict(going, None)
    file = files[count]
    at_it = sum(place == file.place or place not in known for place in readers) if count == held else 0
    return Verdict(going, Blocked(file, reasons[count], at_it, len(reasons)))


def _by_order(file: File, limits: Limits, last_time: Callable[[File], float], *, reached: bool) -> str:
    if limits.to is not None and not reached:
        return f"purged to {limits.to[0]:04}:{limits.to[1]}"
    if limits.before is not None and last_time(file) < limits.before:
        return f"purged before {datetime.fromtimestamp(limits.before, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return ""


def _by_space(limits: Limits, left: int, free: int) -> str:
    if limits.max_size is not None and left > limits.max_size:
        name = "--keep" if limits.ordered else "store.max_size"
        return f"the files have {human_size(left)}, more than {name} {format_size(limits.max_size)}"
    if limits.min_free is not None and free < limits.min_free + limits.ahead:
        ahead = f" and {human_size(limits.ahead)}, to be in time" if limits.ahead else ""
        return f"{human_size(free)} are free, less than store.min_free {format_size(limits.min_free)}{ahead}"
    return ""


def _by_age(file: File, limits: Limits, now: float, written: Callable[[File], float]) -> str:
    if limits.keep is not None and written(file) < now - limits.keep:
        name = "--keep" if limits.ordered else "store.keep"
        return f"it was last written to longer ago than {name} {format_duration(limits.keep)}"
    return ""
