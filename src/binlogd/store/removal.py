"""Removing files, so that a crash at any moment loses nothing that is known: the steps behind the decision.

    1. ``commit``    the note (removed.py) is durable: the files are gone for everybody who begins to read from now on
    2. ``collect``   the list of files (``mysql-bin.index``) is written without them
    3.               each file is unlinked, and its .idx, and what recovery had cut off of it (rescue.py)
    4.               the folder is synced

After a crash anywhere behind 1 recovery does the rest, before it reads anything. A timeline's folder stays when its
last file is gone, with source.json: the number is never given to another one.

The newest timeline's list is written by the receiving thread, too, which appends a new file's name to it and waits for
nobody. So the list is only written anew when its last line is the newest file: the name of that is then in it. If
another file has appeared when the new list is in place, its name may have gone to the old one, and all is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import StoreDamaged, StoreError, StoreUnreadable
from binlogd.logs import get_logger
from binlogd.store.disk import DISK_FULL, Disk, explained
from binlogd.store.index import index_path, list_path, write_file_list
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import Publication
from binlogd.store.reader import StoredFile, publication_of, read_contents, read_finished, read_previous
from binlogd.store.removed import Removed, begin_of_left, files_left, load, save
from binlogd.store.retention import File, Going

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
    try:
        save(disk, folder.binlogs, removed)
    except StoreUnreadable as bad:
        if bad.alarm != DISK_FULL:
            raise
        # There is no room for the note. The .idx of what goes is derivable, and makes some.
        for each in leaving:
            with explained("remove", index_path(each.file.path)), suppress(FileNotFoundError):
                disk.remove(index_path(each.file.path))
        save(disk, folder.binlogs, removed)
    return removed


def newly_purged(folder: DataFolder, leaving: Sequence[Leaving], left: Publication, removed: Removed) -> GtidSet:
    """What no file has any more: what goes less what the files of later timelines hold, up to the publication ``left``.

    A server's files do not hold what their PREVIOUS_GTIDS name, so that few of them are read, and as a rule none.
    """
    gone = GtidSet.from_runs(run for each in leaving for run in each.file.summary.added.runs())
    left_files = files_left(folder, removed.first)
    oldest = min((each.file.timeline.number for each in leaving), default=0)
    for timeline in dict.fromkeys(timeline for timeline, _ in left_files if timeline.number > oldest):
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
    contents = read_contents(timeline.path / name, left.position)
    return contents.added if contents is not None else GtidSet()


def garbage(folder: DataFolder, removed: Removed) -> list[tuple[Timeline, str]]:
    """The files that the note says are gone, and that are there."""
    listing = [(timeline, name) for timeline in folder.timelines() for name in timeline.binlogs()]
    return listing[: begin_of_left(listing, removed.first)]


def collect(
    disk: Disk, folder: DataFolder, removed: Removed, gone: Callable[[Timeline, str], None] = lambda *_: None
) -> bool:
    """Remove what the note says is gone; ``gone`` is told of each file before it goes.

    False: the receiving thread is at the list, and all that is left is for the next time.
    """
    going = garbage(folder, removed)
    for timeline in dict.fromkeys(timeline for timeline, _ in going):
        names = {name for each, name in going if each == timeline}
        if not _list_without(disk, timeline, names):
            return False
        with explained("remove files of", timeline.path):
            for name in sorted(names, key=timeline.binlogs().index):
                gone(timeline, name)
                disk.remove(timeline.path / name)
                for path in (index_path(timeline.path / name), *timeline.path.glob(f"{name}.cut-*")):
                    with suppress(FileNotFoundError):
                        disk.remove(path)
            disk.sync_folder(timeline.path)
    return True


def _list_without(disk: Disk, timeline: Timeline, going: set[str]) -> bool:
    """Write the list without these files; False when the receiving thread is about to put a name to it."""
    for _ in range(LIST_TRIES):
        names = timeline.binlogs()
        left = [name for name in names if name not in going]
        path = list_path(timeline, names[-1])
        if not left:
            with explained("remove", path), suppress(FileNotFoundError):
                disk.remove(path)
            return True
        if _last_line(path) != f"./{names[-1]}\n":
            return False
        write_file_list(disk, timeline, left)
        if timeline.binlogs()[-1] == names[-1]:
            return True
    return False


def _last_line(path: Path) -> str:
    with explained("read", path), suppress(FileNotFoundError):
        return path.read_text(errors="surrogateescape").splitlines(keepends=True)[-1:][0]
    return ""


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
    """Do the rest of a removal that a crash cut short. The caller owns the store, and nothing is received yet."""
    removed = load(folder.binlogs)

    def gone(timeline: Timeline, name: str) -> None:
        with suppress(StoreError):
            file, _ = read_finished(timeline, name)
            log_removed(Leaving(file, "it was being removed when binlogd was stopped"))

    going = garbage(folder, removed)
    for timeline in dict.fromkeys(timeline for timeline, _ in going):
        names = timeline.binlogs()
        left = [name for name in names if (timeline, name) not in going]
        write_file_list(disk, timeline, left or names)
    if going:
        collect(disk, folder, removed, gone)
