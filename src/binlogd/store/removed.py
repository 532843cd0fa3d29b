"""What was removed of a store: ``binlogs/removed.json``, which is written before anything goes.

The first file that is left, and the GTIDs that went with the files before it: what they added, what their
PREVIOUS_GTIDS named, and what was kept of their timelines' gtid_purged (purged.py). They stay executed for ever, and
are purged as far as no file that is left holds them: so the note may name more than went, and never less.

The note is the point of no return. Once it is durable every file before the first counts as gone, whether it is still
there or not: whoever owns the store removes what is left of them (removal.py), after a crash, too. While it is not
durable nothing has happened. Files are only gone for a note that names a first file which is there.

There are two copies, for nothing else knows what it says. Beside each set stands a CRC-32; where one copy is lost or
unsound the other one counts. Before a file goes both are the same (removal.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import GtidSet
from binlogd.errors import StoreDamaged, StoreUnreadable
from binlogd.store.disk import STORE_MISSING, Disk, explained
from binlogd.store.layout import DataFolder, Timeline, binlog_number, is_binlog_name

T = TypeVar("T")

FILES = ("removed.json", "removed.copy.json")

First = tuple[int, str]
"""A timeline's number and the name of a file of it: that and all behind it is left."""

ALL: First = (0, "")  # nothing was removed


def order_of(first: First) -> tuple[int, int]:
    """For comparing places of one store: the timeline, and the file's number."""
    return first[0], binlog_number(first[1]) if first[1] else 0


@dataclass(frozen=True, slots=True)
class Removed:
    """What the note says."""

    first: First = ALL
    gtids: GtidSet = field(default_factory=GtidSet)


def load(folder: Path) -> Removed:
    """The note in a store's ``binlogs`` folder. StoreDamaged when there is one, and no sound copy of it."""
    contents = [content for name in FILES if (content := _content(folder / name)) is not None]
    notes = [note for content in contents if (note := _decode(content)) is not None]
    if contents and not notes:
        raise StoreDamaged(
            f"{folder / FILES[0]} and its copy are damaged: which GTIDs were removed is not known",
            hint="restore one of them from a backup; without them only what the files say counts as executed: move both"
            " away when that is right",
        )
    gtids = GtidSet()
    for note in notes:
        gtids |= note.gtids
    return Removed(max((note.first for note in notes), key=order_of, default=ALL), gtids)


def files_left(folder: DataFolder, first: First = ALL) -> list[tuple[Timeline, str]]:
    """The files from ``first`` on, oldest first; all of them when that is not there."""
    listing = [(timeline, name) for timeline in folder.timelines() for name in timeline.binlogs()]
    return listing[begin_of_left(listing, first) :]


def begin_of_left(listing: Sequence[tuple[Timeline, str]], first: First) -> int:
    """The index of the first file that is left. No file is taken for removed unless that one is there."""
    return next((at for at, (timeline, name) in enumerate(listing) if (timeline.number, name) == first), 0)


def was_removed(timeline: Timeline, name: str) -> bool:
    """Whether the note says by now that this file, which is not there, is gone."""
    return (timeline.number, binlog_number(name)) < order_of(load(timeline.path.parent).first)


def as_if_begun_later(folder: Path, look: Callable[[], T]) -> T:
    """What ``look`` finds, which writes nothing; from its beginning when a file that it came to was removed meanwhile.

    ``folder`` is a store's ``binlogs``. So often at most as files are removed.
    """
    while True:
        first = load(folder).first
        try:
            return look()
        except StoreUnreadable as bad:
            if bad.alarm != STORE_MISSING or load(folder).first == first:
                raise


def save(disk: Disk, folder: Path, removed: Removed) -> None:
    """Keep this, durably; once the first copy is written it counts."""
    for name in FILES:
        with explained("write", folder / name):
            disk.replace(folder / name, encode(removed))


def unsound(folder: Path) -> list[Path]:
    """The copies that do not say all that is known: damaged, older than the other one, or missing beside it."""
    contents = {name: _content(folder / name) for name in FILES}
    if not any(content is not None for content in contents.values()):
        return []
    known = None
    with suppress(StoreDamaged):
        known = encode(load(folder))
    return [folder / name for name, content in contents.items() if content != known]


def encode(removed: Removed) -> bytes:
    """The file's content."""
    timeline, name = removed.first
    said = {"timeline": timeline, "first": name, "gtids": removed.gtids.compact()}
    return json.dumps(said | {"crc32": f"{crc32(json.dumps(said).encode()):08x}"}, indent=1).encode() + b"\n"


def _decode(content: bytes) -> Removed | None:
    try:
        said = json.loads(content)
        first = int(said["timeline"]), str(said["first"])
        removed = Removed(first, GtidSet.parse(str(said["gtids"])))
    except (ValueError, KeyError, TypeError):
        return None
    return removed if is_binlog_name(first[1]) and encode(removed) == content else None


def _content(path: Path) -> bytes | None:
    with explained("read", path), suppress(FileNotFoundError):
        return path.read_bytes()
    return None
