"""What a receiver does to a store before it goes on with it.

After a stop, a kill or a power loss the newest file may end in the middle of a transaction, or, behind what was synced,
in anything at all. What the disk itself has of it is walked (settled.py): everything up to the end of its last whole
transaction stays; what is behind is dropped and will be fetched again from the source, which still has it: it was never
acknowledged as a transaction. Unfinished files under temporary names go, gathered marks (index.py) among them; a
missing or stale .idx or .index is made again, and what was being removed (removal.py) goes. What is cut off behind a
bad event is kept (rescue.py). A finished file that turns out to be damaged stays as it is and is told of: it must not
keep what the source commits now from being received.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from binlogd.errors import EventError, StoreDamaged
from binlogd.store.disk import Disk, explained
from binlogd.store.index import encode_marks, fetch_summaries, index_path, read_summary, write_file_list, write_index
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.publication import Publication
from binlogd.store.reader import (
    FIRST_EVENT,
    Contents,
    Holdings,
    Progress,
    StoredFile,
    read_contents,
    read_finished,
)
from binlogd.store.removal import finish
from binlogd.store.rescue import keep, remove_spare
from binlogd.store.settled import TORN_LIMIT, settle
from binlogd.store.writer import Writer
from binlogd.units import human_size


@dataclass(frozen=True, slots=True)
class Recovered:
    """The store as it was found and mended.

    ``timeline`` is the newest that has a file, and ``tail`` its newest file; both are None for an empty store;
    ``dropped`` counts the bytes cut off behind the last whole transaction and ``reason`` says what they were;
    ``damaged`` are the finished files that were found to be damaged: not all that are, for only those were read that
    had no .idx.
    """

    publication: Publication
    timeline: Timeline | None
    tail: Contents | None
    dropped: int
    reason: str
    damaged: tuple[StoredFile, ...] = ()


def recover(folder: DataFolder, disk: Disk, progress: Progress | None = None) -> Recovered:
    """Mend the store; the caller holds its lock."""
    timelines = folder.timelines()
    if timelines:
        with explained("sync", folder.binlogs):  # whoever made the folders may have died before he did
            disk.sync_folder(folder.path)
            disk.sync_folder(folder.binlogs)
        finish(disk, folder)
    names = {timeline: timeline.binlogs() for timeline in timelines}
    listing = [(timeline, name) for timeline in timelines for name in names[timeline]]
    for timeline in timelines:
        for path in timeline.temporaries(names[timeline][-1] if listing and timeline == listing[-1][0] else ""):
            with explained("remove", path):
                disk.remove(path)
    holdings = Holdings()
    tail: Contents | None = None
    dropped, reason = 0, ""
    damaged: list[StoredFile] = []
    fetch_summaries(timeline.path / name for timeline, name in listing[:-1])
    for number, (timeline, name) in enumerate(listing, 1):
        if number == len(listing):
            contents, dropped, reason = _recover_tail(timeline, name, disk, progress)
            size = contents.walk.transaction_end
            holdings.add(StoredFile(timeline, name, size, contents.summary(name, size), False))
            tail = contents
        else:
            file = _finished(timeline, name, disk, progress)
            holdings.add(file)
            damaged += [file] if file.damage else []
    for timeline in timelines:
        write_file_list(disk, timeline, names[timeline])
        remove_spare(disk, timeline)
    newest = listing[-1][0] if listing else None
    return Recovered(holdings.publication(), newest, tail, dropped, reason, tuple(damaged))


def _recover_tail(timeline: Timeline, name: str, disk: Disk, progress: Progress | None) -> tuple[Contents, int, str]:
    path = timeline.path / name
    settle(path, disk)
    try:
        contents = read_contents(path, progress=progress)
    except EventError as bad:
        raise StoreDamaged(
            f"{path}: {bad.message}", hint="move the file away: it will be fetched again from the source"
        ) from bad
    if contents is None:
        raise StoreDamaged(f"{path} ends before its first event", hint="move the file away: it will be fetched again")
    end = contents.walk.transaction_end
    if end < FIRST_EVENT + len(contents.head.format):
        raise StoreDamaged(
            f"{path}: {contents.torn}; that event was durable before anything behind it",
            hint="the disk lost what it held: move the file away, keep it, and it will be fetched again",
        )
    if index_path(path).exists():  # it was finished, to follow another source, which had no file for us after all
        with explained("remove", index_path(path)):
            disk.remove(index_path(path))
    if contents.unsound:
        _rescue(path, end, contents, disk)
    with closing(Writer(disk, timeline)) as writer:
        writer.open(name, end)
        writer.cut(end)
    return contents, contents.size - end, contents.torn


def _rescue(path: Path, end: int, contents: Contents, disk: Disk) -> None:
    """Keep what is behind a bad event before it is cut off: it may be more than a torn write.

    A crash tears only what was not synced, which is never more than TORN_LIMIT at the end of the file, but for
    durability = "os"; more behind a bad event is damage to what was durable, and nothing of it may go. The
    transaction that the event stands in may be larger than that, and the event itself, too: its end counts.
    """
    walk = contents.walk
    behind = contents.size - walk.position - walk.length
    if behind > TORN_LIMIT:
        raise StoreDamaged(
            f"{path}: {contents.torn}; {behind} bytes stand behind it",
            hint=f"that is damage, not a torn write, which loses {human_size(TORN_LIMIT)} at most; a power loss under"
            ' store.durability = "os" can lose more, too: keep a copy of the file, which may be the only one; then, if'
            " the source still has it, move it away and start binlogd, to have it fetched again",
        )
    if contents.size - end > TORN_LIMIT:
        end = walk.position  # the beginning of a giant transaction is sound, and of no use alone
    keep(disk, path, end)


def _finished(timeline: Timeline, name: str, disk: Disk, progress: Progress | None) -> StoredFile:
    file, contents = read_finished(timeline, name, progress)
    if contents is not None and not file.damage:
        with explained("write the index of", file.path):
            write_index(disk, timeline.path, file.summary, encode_marks(contents.walk.marks))
    return file


def still_damaged(files: Iterable[StoredFile]) -> Iterator[StoredFile]:
    """Those of the files found damaged that nobody has mended or removed: a whole one has its .idx again."""
    for file in files:
        with suppress(FileNotFoundError):
            if read_summary(file.path, file.path.stat().st_size) is None:
                yield file
