"""Retention at work: a thread of its own beside the one that receives, which never waits for it.

Once a second it looks whether ``min_free`` asks for something, and when another file has begun, or every ROUND seconds,
whether ``keep`` and ``max_size`` do; PURGE and `binlogd purge` ask through ``order``. What goes is decided by
store/retention.py, and goes by the steps of store/removal.py. Between the decision and the first unlink stand two
questions to the sender:

    who reads what     when it does not answer nothing goes by itself in this round, for nobody knows what is needed
    what is shown      the note is durable and published by now; a file is unlinked when the sender has taken that in,
                       so that nobody begins with it any more, and nobody is at it who has begun meanwhile

What is not unlinked now is the next time. ``min_free`` is not waited for: files go while AHEAD of it is still free, so
that receiving does not come to its stop (store/watch.py); and when it does, it goes on by itself once there is room.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal, StoreError
from binlogd.logs import get_logger
from binlogd.store.disk import Disk, explained
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import Publication
from binlogd.store.reader import read_finished
from binlogd.store.removal import (
    Leaving,
    collect,
    commit,
    garbage,
    log_removed,
    look_at,
    newly_purged,
)
from binlogd.store.removed import First, files_left, load, order_of
from binlogd.store.retention import File, Limits, Verdict, decide

LOOK = 1.0  # seconds between two looks at free space
ROUND = 5.0  # seconds between two at ages and sizes while no file is finished
SHOWN = 3.0  # seconds that an order waits until the sender shows what it did
AHEAD = 1024**3  # bytes above min_free at which files begin to go: two seconds of a fast source …
AHEAD_SHARE = 8  # … or one in so many of the disk's, if that is less

ER_UNKNOWN_TARGET_LOG = 1373
ER_WRONG_ARGUMENTS = 1210
ER_LOG_PURGE_UNKNOWN = 1377
UNKNOWN_TARGET = "Target log not found in binlog index"
NOBODY_KNOWS = "the sender does not say who reads what: nothing is removed until it does"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readers:
    """What the sender says: the oldest file that it shows, and who is at which. None: there is no sender."""

    oldest: First | None
    places: tuple[First, ...]


NO_READERS = Readers(None, ())

AskReaders = Callable[[], Readers | None]
"""None: there is a sender, and it does not answer."""


def said_by(sender: Mapping[str, Any] | None) -> Readers | None:
    """From a sender's status."""
    if sender is None:
        return None
    oldest = sender["oldest"]
    return Readers(
        None if oldest is None else (int(oldest[0]), str(oldest[1])),
        tuple((int(timeline), str(name)) for timeline, name in sender["reading"]),
    )


class Store:
    """What there is, for a decision: sizes and times of finished files are read once."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self._sizes: dict[First, int] = {}
        self._times: dict[First, float] = {}
        self._timelines: dict[int, Timeline] = {}

    def files(self) -> list[File]:
        """All that are left, oldest first."""
        listing = files_left(self.folder, load(self.folder.binlogs).first)
        self._timelines = {timeline.number: timeline for timeline, _ in listing}
        sizes: dict[First, int] = {}
        for at, (timeline, name) in enumerate(listing, 1):
            place = (timeline.number, name)
            size = self._sizes.get(place)
            if size is None or at == len(listing):
                with explained("measure", timeline.path / name):
                    size = (timeline.path / name).stat().st_size
            sizes[place] = size
        self._sizes = dict(list(sizes.items())[:-2])  # what was the newest a moment ago may have grown since
        self._times = {place: time for place, time in self._times.items() if place in sizes}
        return [File(*place, size) for place, size in sizes.items()]

    def last_time(self, file: File) -> float:
        """When a finished file's last event was logged; of one without any time, when it was written to."""
        known = self._times.get(file.place)
        if known is None:
            timeline = self._timelines[file.timeline]
            found = read_finished(timeline, file.name)[0].summary.last_time
            with explained("look at", timeline.path / file.name):
                known = self._times[file.place] = found or (timeline.path / file.name).stat().st_mtime
        return known

    def decide(self, files: list[File], limits: Limits, readers: Readers, free: int) -> Verdict:
        """What goes now."""
        newest = files[-1].place if files else None
        return decide(
            files,
            limits,
            now=time.time(),
            free=free,
            readers=readers.places,
            last_time=lambda file: self.last_time(file) if file.place != newest else time.time(),
        )


class Purging:
    """``current`` gives the newest publication, and ``amend`` is told what is removed (control/board.py).

    ``shows``: a sender takes in what is published; without a receiver it will see when the store is free again.
    """

    def __init__(
        self,
        *,
        folder: DataFolder,
        disk: Disk,
        limits: Limits,
        readers: AskReaders,
        current: Callable[[], Publication | None],
        amend: Callable[[First, GtidSet], None],
        shows: bool = True,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._limits = limits
        self._readers = readers
        self._current = current
        self._amend = amend
        self._shows = shows
        self._store = Store(folder)
        self._leaving: dict[tuple[int, str], Leaving] = {}  # what is gone and not unlinked yet
        self._turn = threading.Lock()  # of deciding and removing; an order's thread or ours
        self._stop = threading.Event()
        self._due = threading.Event()
        self._file = ""  # the newest when ages and sizes were last looked at
        self._looked = -ROUND
        self._said = ""
        self._blocked: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has begun is finished. The caller still owns the store."""
        self._stop.set()
        self._due.set()
        self._thread.join()

    def reload(self, limits: Limits) -> None:
        """These count from now on."""
        if limits != self._limits:
            log.info("retention was reloaded", keep=limits.keep, max_size=limits.max_size, min_free=limits.min_free)
        self._limits = limits
        self._looked = -ROUND
        self._due.set()

    def snapshot(self) -> dict[str, Any]:
        """For the status."""
        limits = self._limits
        return {
            "keep_s": limits.keep,
            "max_size": limits.max_size,
            "min_free": limits.min_free,
            "last_purge": self._last,
            "blocked_by": self._blocked,
        }

    # --- by itself ---

    def _run(self) -> None:
        while True:
            self._due.wait(LOOK)
            self._due.clear()
            if self._stop.is_set():
                return
            try:
                with self._turn:
                    self._look()
            except StoreError as bad:
                self._say("retention cannot do its work now", error=bad.message, hint=bad.hint)
            except Exception:  # a mistake of ours: receiving goes on, and this is tried again
                log.exception("retention failed")

    def _look(self) -> None:
        current, limits = self._current(), self._limits
        if current is None or not current.file:
            return
        if self._leaving:
            self._collect()
        wanted = Limits()
        now = time.monotonic()
        if now - self._looked >= ROUND or current.file != self._file:
            self._looked, self._file = now, current.file
            wanted = limits
        if limits.min_free is not None:
            free, total = self._space()
            ahead = limits.min_free + min(AHEAD, total // AHEAD_SHARE)
            wanted = replace(wanted, min_free=ahead if free < ahead else None)
        if wanted == Limits():
            return
        files = self._store.files()
        free = self._space()[0]
        verdict = self._store.decide(files, wanted, NO_READERS, free)
        if not verdict.going:
            self._blocked = None
            return
        readers = self._readers()
        if readers is None:
            self._say(NOBODY_KNOWS, wanted=len(verdict.going))
            return
        verdict = self._store.decide(files, wanted, readers, free)
        self._tell_blocked(verdict)
        self._remove(files, verdict)

    def _space(self) -> tuple[int, int]:
        """Free bytes, with those of what is gone already, and the disk's size."""
        with explained("measure the free space of", self._folder.path):
            free, total = self._disk.space(self._folder.path)
        return free + sum(each.file.size for each in self._leaving.values()), total

    def _tell_blocked(self, verdict: Verdict) -> None:
        blocked = verdict.blocked
        if blocked is None or not blocked.readers:
            self._blocked = None
            return
        self._blocked = {
            "file": blocked.file.qualified,
            "readers": blocked.readers,
            "files": blocked.wanted - len(verdict.going),
            "reason": blocked.reason,
        }
        self._say("a file should go and is being read", file=blocked.file.qualified, reason=blocked.reason)

    def _say(self, text: str, **details: Any) -> None:
        """Once, as long as it is the same."""
        said = f"{text} {details.get('file', '')}{details.get('error', '')}"
        if said != self._said:
            self._said = said
            log.warning(text, **details)

    # --- removing ---

    def _remove(self, files: list[File], verdict: Verdict) -> list[Leaving]:
        """The note, the publication, and what of the rest can be done now."""
        if not verdict.going:
            return []
        leaving = look_at(self._folder, verdict.going)
        removed = commit(self._disk, self._folder, leaving, files[len(leaving)])
        for each in leaving:
            self._leaving[each.file.timeline.number, each.file.name] = each
        current = self._current()
        if current is not None:
            self._amend(removed.first, newly_purged(self._folder, leaving, current, removed))
        self._last = {
            "time": time.time(),
            "files": len(leaving),
            "bytes": sum(each.file.size for each in leaving),
            "gtids": GtidSet.from_runs(run for each in leaving for run in each.file.summary.added.runs()).compact(),
            "reason": leaving[-1].reason,
        }
        self._said = ""
        self._due.set()
        return leaving

    def _collect(self) -> None:
        """Unlink what is gone, if nobody is at it and nobody can begin with it."""
        removed = load(self._folder.binlogs)
        readers = self._readers()
        if readers is None or (readers.oldest is not None and order_of(readers.oldest) < order_of(removed.first)):
            return
        if any(order_of(place) < order_of(removed.first) for place in readers.places):
            return
        if collect(self._disk, self._folder, removed, self._gone):
            self._leaving.clear()

    def _gone(self, timeline: Timeline, name: str) -> None:
        leaving = self._leaving.get((timeline.number, name))
        if leaving is None:
            leaving = Leaving(read_finished(timeline, name)[0], "it was being removed before")
        log_removed(leaving)

    # --- as ordered ---

    def order(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an order, or refuse it. Takes as long as the note takes, and not as long as unlinking."""
        try:
            with self._turn:
                return self._order(request)
        except Refusal as refusal:
            return {"refused": [refusal.code, refusal.sqlstate, refusal.message]}
        except StoreError as bad:
            log.error("files cannot be removed", error=bad.message, hint=bad.hint)
            return {"refused": [ER_LOG_PURGE_UNKNOWN, "HY000", str(bad)]}

    def _order(self, request: Mapping[str, Any]) -> dict[str, Any]:
        files = self._store.files()
        limits = asked(request, files)
        readers = self._readers()
        if readers is None:
            raise Refusal(ER_LOG_PURGE_UNKNOWN, "HY000", f"{NOBODY_KNOWS}; try again")
        verdict = self._store.decide(files, limits, readers, self._space()[0])
        dry = request.get("dry_run") is True
        leaving = look_at(self._folder, verdict.going) if dry else self._remove(files, verdict)
        if not dry and leaving and self._shows:
            self._wait_until_shown()
        blocked = verdict.blocked
        return {
            "removed": [each.row() for each in leaving],
            "blocked": blocked
            and {
                "file": blocked.file.qualified,
                "name": blocked.file.name,
                "readers": blocked.readers,
                "wanted": blocked.wanted,
                "reason": blocked.reason,
            },
            "files": len(files),
        }

    def _wait_until_shown(self) -> None:
        """So that who asks the sender behind the order sees what it did."""
        first = load(self._folder.binlogs).first
        until = time.monotonic() + SHOWN
        while time.monotonic() < until:
            readers = self._readers()
            if readers is not None and (readers.oldest is None or order_of(readers.oldest) >= order_of(first)):
                return
            time.sleep(0.01)

    def collect_all(self) -> bool:
        """Without a receiver: unlink at once what an order removed. False: somebody is at some of it."""
        with self._turn, suppress(StoreError):
            readers = self._readers()
            removed = load(self._folder.binlogs)
            if readers is None or any(order_of(place) < order_of(removed.first) for place in readers.places):
                return False
            if collect(self._disk, self._folder, removed, self._gone):
                self._leaving.clear()
        return not garbage(self._folder, load(self._folder.binlogs))


def asked(request: Mapping[str, Any], files: list[File]) -> Limits:
    """What an order asks for: ``to`` a file's name, ``before`` a moment, ``keep`` seconds or ``max_size`` bytes."""
    to, before = request.get("to"), request.get("before")
    keep, max_size = request.get("keep"), request.get("max_size")
    if to is not None:
        named = [file.place for file in files if str(to) in (file.name, file.qualified)]
        if len(named) > 1:
            raise Refusal(
                ER_UNKNOWN_TARGET_LOG,
                "HY000",
                f"{UNKNOWN_TARGET}: several timelines have a file '{to}'; name one as SHOW BINARY LOGS does",
            )
        if not named:
            raise Refusal(ER_UNKNOWN_TARGET_LOG, "HY000", UNKNOWN_TARGET)
        return Limits(to=named[0])
    if before is None and keep is None and max_size is None:
        raise Refusal(ER_WRONG_ARGUMENTS, "HY000", "Incorrect arguments to PURGE LOGS")
    return Limits(
        before=None if before is None else float(before),
        keep=None if keep is None else float(keep),
        max_size=None if max_size is None else int(max_size),
    )


def blocked_text(blocked: Mapping[str, Any]) -> str:
    """Why a file stays, for people."""
    if not blocked["readers"]:
        return f"{blocked['file']} stays: it is the newest file"
    return f"{blocked['file']} stays, and what is behind it: {blocked['readers']} attached read it, or are on the way"
