"""Putting a new copy in the place of a damaged file, and making indexes again.

Finished files are never written, so one may be replaced beside a receiver and beside dumps that read it: a rename is
atomic, and who has the old one open goes on with that. The old one stays beside it, as ``NAME.damaged-<time>``. A copy
takes its place only when it is whole and sound, of the same history, and all that the store knows of the file is true
of it: the .idx, which says exactly what the file held; where there is none, it must fit its neighbours.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import EventError, StoreError
from binlogd.store.disk import Disk, explained
from binlogd.store.index import encode_marks, fingerprint, read_recorded, write_file_list, write_index
from binlogd.store.layout import Timeline, binlog_base, binlog_number
from binlogd.store.reader import Contents, Head, read_contents, read_head, read_previous


def copy_path(timeline: Timeline, name: str) -> Path:
    """Where a new copy is written: under a name that a receiver removes when it starts."""
    return timeline.path / f".{name}.fetched"


def objection(timeline: Timeline, name: str, copy: Path, *, finished: bool) -> str:
    """Why a new copy of the file must not take its place; "" when it may."""
    path = timeline.path / name
    try:
        contents = read_contents(copy)
    except EventError as bad:
        return bad.message
    if contents is None:
        return "it ends before its first event"
    if contents.damaged:
        return contents.torn
    old = _head(path)
    if old is not None and old.format != contents.head.format:
        return "the source's file of that name begins differently: the source was reset or restored"
    recorded = read_recorded(path)
    if recorded is not None and finished:
        if contents.summary(name, contents.size) == recorded:
            return ""  # whatever its neighbours say: gtid_purged may have been set between them
        return f"it does not hold what the file held when it was finished with {recorded.size} bytes"
    if recorded is None and path.exists() and contents.size < path.stat().st_size:
        return f"it has {contents.size} bytes, less than the {path.stat().st_size} that are stored"
    return _misfit(timeline, name, contents)


def _misfit(timeline: Timeline, name: str, contents: Contents) -> str:
    """What of its GTIDs does not fit the files before and behind it.

    A sound copy need not fit where gtid_purged was set at the source meanwhile, and nothing tells it from one that
    lacks transactions: it is for people to compare.
    """
    claim = contents.head.previous
    before, behind = (timeline.path / f"{binlog_base(name)}.{binlog_number(name) + step:06d}" for step in (-1, 1))
    expected = _amounts_to(before)
    if claim is not None and expected is not None and claim != expected:
        return f"it builds on {claim.compact()}, and {before.name} ends with {expected.compact()}"
    following = _head(behind)
    if claim is not None and following is not None and following.previous not in (None, claim | contents.added):
        return f"{behind.name} does not build on it"
    return ""


def _head(path: Path) -> Head | None:
    """The head of a file that is there and has a sound one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return read_head(descriptor, os.fstat(descriptor).st_size)
    except EventError:
        return None
    finally:
        os.close(descriptor)


def _amounts_to(path: Path) -> GtidSet | None:
    """A finished file's PREVIOUS_GTIDS and what it added; None when that is not known."""
    recorded = read_recorded(path)
    try:
        if recorded is None or recorded.size != path.stat().st_size:
            return None
        claim = read_previous(path)
    except (OSError, StoreError):
        return None
    return None if claim is None or fingerprint(claim) != recorded.claimed else claim | recorded.added


def replace(disk: Disk, timeline: Timeline, name: str, copy: Path) -> Path | None:
    """Put the copy in the file's place; where the old one is now, None when there was none."""
    path = timeline.path / name
    kept = None
    with explained("replace", path):
        if path.exists():
            kept = path.with_name(f"{name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
            disk.link(path, kept)
        disk.rename(copy, path)
        disk.sync_folder(path.parent)
    return kept


def rebuild_index(disk: Disk, timeline: Timeline, name: str) -> bool:
    """Make the .idx of a finished file again; False when the file is damaged."""
    path = timeline.path / name
    try:
        contents = read_contents(path)
    except EventError:
        return False
    if contents is None or contents.damaged:
        return False
    with explained("write the index of", path):
        write_index(disk, timeline.path, contents.summary(name, contents.size), encode_marks(contents.walk.marks))
    return True


def rebuild_list(disk: Disk, timeline: Timeline) -> None:
    """Make the .index of a timeline again; a receiver may add to it meanwhile."""
    names: list[str] = []
    while (there := timeline.binlogs()) != names:
        names = there
        write_file_list(disk, timeline, names)
