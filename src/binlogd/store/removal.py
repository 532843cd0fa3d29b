"""Removing files, so that a crash at any moment loses nothing that is known: the steps behind the decision.

    1. ``commit``    the note (removed.py) is durable: the files are gone for everybody who begins to read from now on
    2. ``collect``   the list of files (``mysql-bin.index``) is written without them
    3.               of each file .idx and what was set aside of it (rescue.py, repair.py) are unlinked, then itself
    4.               the folder is synced

After a crash anywhere behind 1 recovery does the rest, before it reads anything. A timeline's folder stays when its
last file is gone, with source.json: the number is never given to another one. On a full disk 2 comes last: the list
says no more than the folder does, and recovery writes it anew anyway.

The newest timeline's list is written by the receiving thread, too, which appends a new file's name to it and waits for
nobody. So the list is only written anew when its last line is the newest file: the name of that is then in it. If
another file has appeared when the new list is in place, its name may have gone to the old one, and all is done again.
Without ``patience`` nothing is waited for: nothing is received, or the list has lost its end, which nobody mends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.header import ChecksumAlgorithm
from binlogd.errors import EventError, StoreDamaged, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.store.disk import DISK_FULL, Disk, explained
from binlogd.store.index import Summary, index_path, list_path, read_recorded, write_file_list
from binlogd.store.layout import DataFolder, Timeline, is_binlog_name
from binlogd.store.publication import Publication
from binlogd.store.reader import StoredFile, publication_of, read_contents, read_finished, read_previous
from binlogd.store.removed import First, Removed, begin_of_left, files_left, load, order_of, save, unsound
from binlogd.store.retention import File, Going

_ASIDE = re.compile(r"\.(idx|cut-.*|damaged-.*)\Z")

LIST_TRIES = 3  # times that a list is written anew for a file that appeared meanwhile: they come by the minute

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A file that goes, with what is said of it when it does."""

    file: StoredFile
    reason: str

    def row(self) -> dict[str, object]:
        """For tables and answers."""
        summary = self.file.summary
        return {
            "timeline": self.file.timeline.number,
            "name": self.file.name,
            "size": self.file.size,
            "gtids": summary.added.compact(),
            "first_time": summary.first_time or None,
            "last_time": summary.last_time or None,
            "damage": self.file.damage,
            "reason": self.reason,
        }


def look_at(folder: DataFolder, going: Iterable[Going]) -> list[Leaving]:
    """What the files that are to go hold. A file without .idx is read."""
    timelines = {timeline.number: timeline for timeline in folder.timelines()}
    leaving = []
    for each in going:
        file, _ = read_finished(timelines[each.file.timeline], each.file.name)
        leaving.append(Leaving(file, each.reason))
    return leaving


def commit(disk: Disk, folder: DataFolder, leaving: Sequence[Leaving], first: File) -> Removed:
    """Have the files be gone, all but really; ``first`` is the one behind them. The new note."""
    removed = Removed(first.place, publication_of(each.file for each in leaving).executed)  # the last note's, too
    _save(disk, folder, removed, (each.file.path for each in leaving))
    return removed


def _save(disk: Disk, folder: DataFolder, removed: Removed, going: Iterable[Path]) -> None:
    """Keep the note. When there is no room for it: the .idx of what goes is derivable, and makes some."""
    try:
        save(disk, folder.binlogs, removed)
    except StoreUnreadable as bad:
        if bad.alarm != DISK_FULL:
            raise
        for path in going:
            with explained("remove", index_path(path)), suppress(FileNotFoundError):
                disk.remove(index_path(path))
        save(disk, folder.binlogs, removed)


def newly_purged(folder: DataFolder, left: Publication, removed: Removed) -> GtidSet:
    """What no file has any more by the note, and the publication ``left`` does not call purged yet.

    Up to where that ends: what is received behind it may hold some of it again (control/board.py). What stood in a
    damaged file is named by the one behind it. A server's files do not hold what their PREVIOUS_GTIDS name, so that
    few of them are read, and as a rule none.
    """
    last = order_of((left.timeline, left.file))
    left_files = [
        (timeline, name)
        for timeline, name in files_left(folder, removed.first)
        if order_of((timeline.number, name)) <= last
    ]
    gone = removed.gtids
    if left_files:
        timeline, name = left_files[0]
        gone |= _claim(timeline.path / name) or GtidSet()
    gone -= left.purged
    for timeline in dict.fromkeys(timeline for timeline, _ in left_files):
        names = [name for each, name in left_files if each == timeline]
        wanted = gone - (_claim(timeline.path / names[0]) or GtidSet())
        for name in names:
            if not wanted:
                break
            found = wanted & _added(timeline, name, left)
            wanted, gone = wanted - found, gone - found
    return gone


def _claim(path: Path) -> GtidSet | None:
    with suppress(StoreDamaged):
        return read_previous(path)
    return None


def _added(timeline: Timeline, name: str, left: Publication) -> GtidSet:
    if (timeline.number, name) != (left.timeline, left.file):
        return read_finished(timeline, name)[0].summary.added
    try:
        contents = read_contents(timeline.path / name, left.position)
    except EventError as bad:
        raise StoreDamaged(f"{timeline.path / name}: {bad.message}", hint="see `binlogd verify`") from bad
    return contents.added if contents is not None else GtidSet()


def garbage(folder: DataFolder, removed: Removed) -> list[tuple[Timeline, str]]:
    """The files that the note says are gone, and that are there."""
    listing = [(timeline, name) for timeline in folder.timelines() for name in timeline.binlogs()]
    return listing[: begin_of_left(listing, removed.first)]


def collect(
    disk: Disk,
    folder: DataFolder,
    removed: Removed,
    gone: Callable[[Timeline, str], None] = lambda *_: None,
    *,
    patience: bool = True,
) -> bool:
    """Remove what the note says is gone; ``gone`` is told of each file before it goes.

    False: the receiving thread is at the list, and all that is left is for the next time.
    """
    going = garbage(folder, removed)
    newest = folder.timelines()[-1:]
    for timeline in dict.fromkeys(timeline for timeline, _ in going):
        names = [name for each, name in going if each == timeline]
        waits = patience and [timeline] == newest
        full = False
        try:
            if not _list_without(disk, timeline, names, waits=waits):
                return False
        except StoreUnreadable as bad:
            full = bad.alarm == DISK_FULL
            if not full:
                raise
        with explained("remove files of", timeline.path):
            for name in names:
                gone(timeline, name)
                for path in (index_path(timeline.path / name), *_set_aside(timeline, name)):
                    with suppress(FileNotFoundError):
                        disk.remove(path)
                disk.remove(timeline.path / name)
            disk.sync_folder(timeline.path)
        if full:
            _list_without(disk, timeline, names, waits=False)
    return True


def _set_aside(timeline: Timeline, name: str) -> list[Path]:
    """What was kept of a file: by recovery (rescue.py), and when it was fetched again (repair.py)."""
    return [path for kind in ("cut", "damaged") for path in timeline.path.glob(f"{escape(name)}.{kind}-*")]


def _list_without(disk: Disk, timeline: Timeline, going: Sequence[str], *, waits: bool) -> bool:
    """Write the list without these files; False when the receiving thread is about to put a name to it."""
    base = going[0]
    for _ in range(LIST_TRIES):
        names = timeline.binlogs()
        left = [name for name in names if name not in going]
        path = list_path(timeline, names[-1] if names else base)
        if not left:
            with explained("remove", path), suppress(FileNotFoundError):
                disk.remove(path)
            return True
        if waits and _last_line(path) != f"./{names[-1]}\n":
            return False
        write_file_list(disk, timeline, left)
        if timeline.binlogs()[-1] == names[-1]:
            return True
    return not waits


def _last_line(path: Path) -> str:
    with explained("read", path), suppress(FileNotFoundError):
        lines = path.read_text(errors="surrogateescape").splitlines(keepends=True)
        return lines[-1] if lines else ""
    return ""


def left_over(timeline: Timeline, name: str, reason: str) -> Leaving:
    """A file that goes on going after something failed; it is not read for it."""
    path = timeline.path / name
    with explained("look at", path):
        size = path.stat().st_size
    recorded = read_recorded(path) or Summary(name, size, 0, 0, None, GtidSet(), 0, ChecksumAlgorithm.UNDEF, "")
    return Leaving(StoredFile(timeline, name, size, replace(recorded, size=size), True), reason)


def log_removed(leaving: Leaving) -> None:
    """One line for each file that goes."""
    summary = leaving.file.summary
    say = log.warning if leaving.file.damage else log.info
    say(
        "a file is removed",
        file=leaving.file.name,
        timeline=leaving.file.timeline.number,
        size=leaving.file.size,
        gtids=summary.added.compact(),
        reason=leaving.reason,
        **({"damage": leaving.file.damage} if leaving.file.damage else {}),
    )


def finish(disk: Disk, folder: DataFolder) -> None:
    """Do the rest of a removal that a crash cut short. The caller owns the store, and nothing is received meanwhile."""
    removed = load(folder.binlogs)
    if unsound(folder.binlogs):
        _save(disk, folder, removed, (timeline.path / name for timeline, name in garbage(folder, removed)))

    def gone(timeline: Timeline, name: str) -> None:
        log_removed(left_over(timeline, name, "it was being removed when binlogd was stopped"))

    collect(disk, folder, removed, gone, patience=False)
    listing = files_left(folder, removed.first)
    if listing and (listing[0][0].number, listing[0][1]) == removed.first:
        for timeline in folder.timelines():
            _sweep(disk, timeline, removed.first)


def _sweep(disk: Disk, timeline: Timeline, first: First) -> None:
    """Remove what belongs to files before ``first``: a power loss may keep it, and not the file itself."""
    with explained("remove files of", timeline.path):
        for path in sorted(timeline.path.iterdir()):
            name = _ASIDE.sub("", path.name)
            if name != path.name and is_binlog_name(name) and order_of((timeline.number, name)) < order_of(first):
                disk.remove(path)
