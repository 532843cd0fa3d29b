"""Retention at work: a thread of its own beside the one that receives, which never waits for it.

Once a second it looks whether ``min_free`` asks for something, and when another file has begun, or every ROUND seconds,
whether ``keep`` and ``max_size`` do; PURGE and `binlogd purge` ask through ``order``. What goes is decided by
store/retention.py, and goes by the steps of store/removal.py. Between the decision and the first unlink stand two
questions to the sender:

    who reads what     when it does not answer nothing goes by itself in this round, for nobody knows what is needed;
                       when it has not served for GRACE yet nothing goes for ``keep`` and ``max_size``, for whoever
                       was reading before may not be attached again
    what is shown      the note is durable and published by now; a file is unlinked when the sender has taken that in,
                       so that nobody begins with it any more, and nobody is at it who has begun meanwhile

What is not unlinked now is the next time, and what the note says and others were not told, for something failed, they
are told the next time, too. ``min_free`` is not waited for: files go while AHEAD of it is still free, so that receiving
does not come to its stop (store/watch.py); and when it does, it goes on by itself once there is room. Nothing goes for
a ``min_free`` that would not be reached with every file gone: something else fills the disk.

The receiving thread recovers the store after trouble, and so removes files itself: ``aside``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
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
    left_over,
    log_removed,
    look_at,
    newly_purged,
)
from binlogd.store.removed import ALL, First, files_left, load, order_of
from binlogd.store.retention import File, Limits, Verdict, decide, should_go

LOOK = 1.0  # seconds between two looks at free space
ROUND = 5.0  # seconds between two at ages and sizes while no file is finished
SHOWN = 3.0  # seconds that an order waits until the sender shows what it did
AHEAD = 1024**3  # bytes above min_free at which files begin to go: two seconds of a fast source …
AHEAD_SHARE = 8  # … or one in so many of the disk's, or min_free itself, if that is less
LATE = 30.0  # seconds in which a disk may come to show what was unlinked as free
PATIENCE = 60.0  # seconds that the receiving thread may need between a new file and its line in the list, and far more

GRACE = 120.0  # seconds for replicas to attach to a new sender: two of their SOURCE_CONNECT_RETRY, 60 by default

ER_UNKNOWN_TARGET_LOG = 1373
ER_WRONG_ARGUMENTS = 1210
ER_LOG_PURGE_UNKNOWN = 1377
UNKNOWN_TARGET = "Target log not found in binlog index"
NAMED = 8  # files that an error names at most: clients cut its text after 511 bytes
NOBODY_KNOWS = "the sender does not say who reads what: nothing is removed until it does"
COMING_BACK = "a file should go and stays for now: replicas may be about to attach again"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readers:
    """What the sender says: the oldest file that it shows, and who is at which.

    ``oldest`` is ALL for one that shows nothing yet, and may be about to take any; None: there is no sender.
    ``serving`` is for how many seconds replicas could attach by now.
    """

    oldest: First | None
    places: tuple[First, ...]
    serving: float = 0.0


NO_READERS = Readers(None, ())

AskReaders = Callable[[], Readers | None]
"""None: there is a sender, and it does not answer."""


def said_by(sender: Mapping[str, Any] | None) -> Readers | None:
    """From a sender's status. None when it does not say: one of an older version is none that nobody reads from."""
    if sender is None or not sender.keys() >= {"oldest", "reading", "serving_s"}:
        return None
    oldest = sender["oldest"]
    return Readers(
        ALL if oldest is None else (int(oldest[0]), str(oldest[1])),
        tuple((int(timeline), str(name)) for timeline, name in sender["reading"]),
        float(sender["serving_s"]),
    )


class Room:
    """Free space as a decision may count on it, with what was unlinked and is not shown as free yet.

    ZFS, btrfs and thin volumes show that seconds later. Without it the same shortage would ask for the next file, and
    the next, until none were left. (With a snapshot it is never shown.)
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self._free = 0  # when last looked at
        self._late: deque[list[float]] = deque()  # of each removal: until when it counts, its bytes, those not shown

    def look(self) -> tuple[int, int]:
        """What is free, and the disk's size."""
        with explained("measure the free space of", self._path):
            free, total = self._disk.space(self._path)
        shown, self._free = free - self._free, free
        while self._late and (shown > 0 or time.monotonic() >= self._late[0][0]):
            until, size, rest = self._late[0]
            if rest > shown and time.monotonic() < until:
                self._late[0][2] -= shown
                break
            shown -= int(rest)
            self._late.popleft()
            if time.monotonic() >= until and rest > size / 2:
                log.warning(
                    "files were removed, and the disk does not show their room as free",
                    bytes=int(size),
                    hint="a snapshot holds them, or a process that has them open: removing more may not help either",
                )
        return free + int(sum(rest for _, _, rest in self._late)), total

    def unlinked(self, size: int) -> None:
        """So many bytes were, since the last look."""
        if size:
            self._late.append([time.monotonic() + LATE, size, size])
            self.look()


class Store:
    """What there is, for a decision: sizes and times of finished files are read once."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self._sizes: dict[First, int] = {}
        self._times: dict[First, float] = {}
        self._written: dict[First, float] = {}
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
        self._written = {place: time for place, time in self._written.items() if place in sizes}
        return [File(*place, size) for place, size in sizes.items()]

    def last_time(self, file: File) -> float:
        """When a finished file's last event was logged, and no later than it was written."""
        known = self._times.get(file.place)
        if known is None:
            found = read_finished(self._timelines[file.timeline], file.name)[0].summary.last_time
            written = self.written(file)
            known = self._times[file.place] = min(found or written, written)
        return known

    def written(self, file: File) -> float:
        """When a finished file was last written to."""
        known = self._written.get(file.place)
        if known is None:
            path = self._timelines[file.timeline].path / file.name
            with explained("look at", path):
                known = self._written[file.place] = path.stat().st_mtime
        return known

    def should_go(self, files: list[File], limits: Limits, free: int) -> list[str]:
        """Why the first of them should go now."""
        newest, now = files[-1].place if files else None, time.time()
        return should_go(
            files,
            limits,
            now=now,
            free=free,
            last_time=lambda file: self.last_time(file) if file.place != newest else now,
            written=lambda file: self.written(file) if file.place != newest else now,
        )


class Purging:
    """``current`` gives the newest publication, and ``amend`` is told what is removed (control/board.py).

    ``needed`` gives the bytes above min_free without which a receiver that stopped does not go on (store/watch.py).
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
        needed: Callable[[], int] = lambda: 0,
        shows: bool = True,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._limits = limits
        self._readers = readers
        self._current = current
        self._amend = amend
        self._needed = needed
        self._shows = shows
        self._store = Store(folder)
        self._room = Room(disk, folder.path)
        self._leaving: dict[tuple[int, str], Leaving] = {}  # for the log: what is gone and not unlinked yet
        self._owed = False  # whether the note may say more than what is published
        self._pending = False  # whether files may be there that are gone
        self._waited: float | None = None  # since when the list of files does not end with the newest
        self._turn = threading.Lock()  # of deciding and removing: ours, an order's thread or the receiving one
        self._stop = threading.Event()
        self._due = threading.Event()
        self._alone: float | None = None  # since when files should go and there is no sender
        self._file = ""  # the newest when ages and sizes were last looked at
        self._looked = -ROUND
        self._said = ""
        self._blocked: dict[str, Any] | None = None  # what should go
        self._held: dict[str, Any] | None = None  # what is gone, and cannot be unlinked
        self._last: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has begun is finished, an order, too. The caller still owns the store."""
        self._stop.set()
        self._due.set()
        self._thread.join()
        with self._turn:
            pass

    def aside(self) -> AbstractContextManager[object]:
        """Nothing is decided or removed meanwhile: the receiving thread recovers the store."""
        return self._turn

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
            "blocked_by": self._held or self._blocked,
        }

    # --- by itself ---

    def _run(self) -> None:
        while True:
            self._due.wait(LOOK)
            self._due.clear()
            if self._stop.is_set():
                return
            try:
                self.look()
            except Exception:  # a mistake of ours: receiving goes on, and this is tried again
                log.exception("retention failed")

    def look(self) -> None:
        """One look, as there is one every second; what fails is said."""
        try:
            with self._turn:
                self._look()
        except StoreError as bad:
            self._say("retention cannot do its work now", error=bad.message, hint=bad.hint)

    def _look(self) -> None:
        current, limits = self._current(), self._limits
        if current is None or not current.file:
            return
        if self._owed:
            self._announce()
        if self._pending:
            self._collect()
        wanted = Limits()
        now = time.monotonic()
        due = now - self._looked >= ROUND or current.file != self._file
        if due:
            self._looked, self._file = now, current.file
            wanted = replace(limits, min_free=None)
        free, total = self._space()
        files: list[File] = []
        if limits.min_free is not None and free < limits.min_free + self._ahead(limits.min_free, total):
            files = self._store.files()
            wanted = self._reachable(replace(wanted, min_free=limits.min_free), files, free, total)
        reasons: list[str] = []
        if wanted != Limits():
            files = files or self._store.files()
            reasons = self._store.should_go(files, wanted, free)
        if not reasons[: len(files) - 1]:  # the newest stays: nobody needs to be asked
            if due:
                self._blocked = self._alone = None
            return
        readers = self._readers()
        if readers is None:
            self._say(NOBODY_KNOWS, wanted=len(reasons))
            return
        if self._are_coming_back(readers):
            wanted = replace(wanted, keep=None, max_size=None)
            reasons, held = self._store.should_go(files, wanted, free), reasons
            if len(reasons) < len(held):
                self._say(COMING_BACK, file=files[len(reasons)].qualified, reason=held[len(reasons)])
        verdict = decide(files, reasons, readers.places)
        self._tell_blocked(verdict, due=due)
        self._remove(files, verdict)

    def _are_coming_back(self, readers: Readers) -> bool:
        """Whether replicas may be about to attach again: the sender began less than GRACE ago, or was found gone then.

        When receiving has stopped for want of room they are not waited for: the source's commits wait for us.
        """
        now = time.monotonic()
        if readers.oldest is not None:
            self._alone, since = None, now - readers.serving
        else:
            since = self._alone = now if self._alone is None else self._alone
        return now - since < GRACE and not self._needed()

    def _ahead(self, min_free: int, total: int) -> int:
        return max(min(AHEAD, total // AHEAD_SHARE, min_free), self._needed())

    def _reachable(self, limits: Limits, files: list[File], free: int, total: int) -> Limits:
        """As much of ``min_free`` as removing all that may go would reach."""
        assert limits.min_free is not None
        most = free + sum(file.size for file in files[:-1])
        for ahead in (self._ahead(limits.min_free, total), self._needed()):
            if free < limits.min_free + ahead <= most:
                return replace(limits, ahead=ahead)
        if free < limits.min_free:
            self._say("removing every file would not leave store.min_free: none is removed for it", free=free)
        return replace(limits, min_free=None)

    def _space(self) -> tuple[int, int]:
        """Free bytes, with those of what is gone already, and the disk's size."""
        free, total = self._room.look()
        return free + (_size(self._garbage()) if self._pending else 0), total

    def _garbage(self) -> list[Path]:
        return [timeline.path / name for timeline, name in garbage(self._folder, load(self._folder.binlogs))]

    def _tell_blocked(self, verdict: Verdict, *, due: bool) -> None:
        """When it was not all that was asked for, what stopped the rest is as it was."""
        blocked = verdict.blocked
        if blocked is None or not blocked.readers:
            if due:
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
        """The note, and the publication.

        The file that is published stays, though a newer one is there: what stands at its end may not be published yet,
        and would be neither stored nor purged.
        """
        current = self._current()
        end = None if current is None else order_of((current.timeline, current.file))
        going = [each for each in verdict.going if end is None or order_of(each.file.place) < end]
        if not going:
            return []
        leaving = look_at(self._folder, going)
        for each in leaving:
            self._leaving[each.file.timeline.number, each.file.name] = each
        self._owed = self._pending = True  # if this fails the note may be durable all the same
        commit(self._disk, self._folder, leaving, files[len(leaving)])
        self._last = {
            "time": time.time(),
            "files": len(leaving),
            "bytes": sum(each.file.size for each in leaving),
            "gtids": GtidSet.from_runs(run for each in leaving for run in each.file.summary.added.runs()).compact(),
            "reason": leaving[-1].reason,
        }
        self._said = ""
        self._due.set()
        self._announce()
        return leaving

    def _announce(self) -> None:
        """Have everybody know what the note says."""
        current = self._current()
        if current is None:
            return
        removed = load(self._folder.binlogs)
        if removed.first != ALL:
            self._amend(removed.first, newly_purged(self._folder, current, removed))
        self._owed = False

    def _collect(self) -> None:
        """Unlink what is gone, if nobody is at it and nobody can begin with it."""
        removed = load(self._folder.binlogs)
        readers = self._readers()
        if readers is None:
            return
        first = order_of(removed.first)
        if self._shows and readers.oldest is not None and order_of(readers.oldest) < first:
            return
        going = self._garbage()
        at_it = sum(order_of(place) < first for place in readers.places)
        self._held = None
        if at_it and going:
            name = f"{int(going[0].parent.name.partition('-')[0]):04}:{going[0].name}"
            reason = "it was removed, and is still being read"
            self._held = {"file": name, "readers": at_it, "files": len(going), "reason": reason}
            return
        self._room.look()
        size, now = _size(going), time.monotonic()
        patience = self._shows and (self._waited is None or now - self._waited < PATIENCE)
        if self._shows and not patience:
            self._say("the list of files does not end with the newest: it is written anew")
        try:
            done = collect(self._disk, self._folder, removed, self._gone, patience=patience)
        finally:
            self._room.unlinked(size - _size(going))
        self._pending = not done
        if done:
            self._leaving.clear()
            self._waited = None
        elif self._waited is None:
            self._waited = now

    def _gone(self, timeline: Timeline, name: str) -> None:
        known = self._leaving.get((timeline.number, name))
        log_removed(known or left_over(timeline, name, "it was being removed before"))

    # --- as ordered ---

    def order(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an order, or refuse it. Takes as long as the note takes, and not as long as unlinking."""
        try:
            with self._turn:
                if self._stop.is_set():
                    raise Refusal(ER_LOG_PURGE_UNKNOWN, "HY000", "binlogd is being stopped: nothing was removed")
                answer = self._order(request)
            if answer["removed"] and request.get("dry_run") is not True and self._shows:
                self._wait_until_shown()
            return answer
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
        verdict = decide(files, self._store.should_go(files, limits, self._space()[0]), readers.places)
        dry = request.get("dry_run") is True
        leaving = look_at(self._folder, verdict.going) if dry else self._remove(files, verdict)
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
        while time.monotonic() < until and not self._stop.wait(0.01):
            readers = self._readers()
            if readers is not None and (readers.oldest is None or order_of(readers.oldest) >= order_of(first)):
                return

    def collect_all(self) -> bool:
        """Without a receiver: unlink at once what an order removed. False: somebody is at some of it."""
        with self._turn:
            self._collect()
            return not self._pending


def _size(paths: Iterable[Path]) -> int:
    """Bytes that the files which are there take up on the disk: less than they have where it compresses."""
    size = 0
    for path in paths:
        with explained("measure", path), suppress(FileNotFoundError):
            size += path.stat().st_blocks * 512
    return size


def asked(request: Mapping[str, Any], files: list[File]) -> Limits:
    """What an order asks for: ``to`` a file's name, ``before`` a moment, ``keep`` seconds or ``max_size`` bytes."""
    to, before = request.get("to"), request.get("before")
    keep, max_size = request.get("keep"), request.get("max_size")
    if to is not None:
        named = [file for file in files if str(to) in (file.name, file.qualified)]
        if len(named) > 1:
            raise Refusal(
                ER_UNKNOWN_TARGET_LOG,
                "HY000",
                f"several timelines have a file {to}: say which of {_choice(named)}",
            )
        if not named:
            raise Refusal(ER_UNKNOWN_TARGET_LOG, "HY000", UNKNOWN_TARGET)
        return Limits(to=named[0].place)
    if before is None and keep is None and max_size is None:
        raise Refusal(ER_WRONG_ARGUMENTS, "HY000", "Incorrect arguments to PURGE LOGS")
    return Limits(
        before=None if before is None else float(before),
        keep=None if keep is None else float(keep),
        max_size=None if max_size is None else int(max_size),
        ordered=True,
    )


def _choice(files: list[File]) -> str:
    """Their qualified names, so many as an error may be long."""
    return ", ".join(file.qualified for file in files[:NAMED]) + (", …" if len(files) > NAMED else "")


def blocked_text(blocked: Mapping[str, Any]) -> str:
    """Why a file stays, for people."""
    if not blocked["readers"]:
        return f"{blocked['file']} stays: it is the newest file"
    return f"{blocked['file']} stays, and what is behind it: {blocked['readers']} attached read it, or are on the way"
