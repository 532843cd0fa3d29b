"""What recovery cuts off behind a bad event, kept beside the file: ``mysql-bin.000007.cut-1234``, all from 1234 on.

It was a torn write as a rule, which the source sends again, and it may have been damage to what was durable: then the
copy can be the only one of an acknowledged transaction. So it is removed only when it holds nothing that the file has
not got again at the same places; recovery looks for that at every start, and `binlogd verify` lists the others.

A disk tears at sectors: one holds what was to be written, or what it held before, which in a file that grows is an
earlier beginning of the same and zeros behind it. So a copy is spare when each of its sectors, without the zeros that
it ends with, is how the file's sector begins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

from binlogd.store.disk import Disk, explained
from binlogd.store.layout import Timeline, is_binlog_name

SECTOR = 512  # bytes: the smallest that disks have; larger ones are torn at multiples of it, too
BLOCK = 2048 * SECTOR  # read at a time

_NAME = re.compile(r"(.+)\.cut-(\d+)(?:-\d+)?")


@dataclass(frozen=True, slots=True)
class Kept:
    """One such copy: of ``binlog``, from ``begin`` on; ``spare``: the file has all of it again."""

    path: Path
    binlog: Path
    begin: int
    size: int
    spare: bool


def keep(disk: Disk, binlog: Path, begin: int) -> None:
    """Copy what stands from ``begin`` on, durably; never over an earlier copy, and once only."""
    with explained("copy the end of", binlog):
        source = os.open(binlog, os.O_RDONLY | os.O_CLOEXEC)
        try:
            path = _free_name(binlog, begin, source)
            if path is None:
                return
            unfinished = binlog.with_name(f".{path.name}.new")
            target = disk.create(unfinished)
            try:
                at = begin
                while piece := os.pread(source, BLOCK, at):
                    disk.write(target, piece)
                    at += len(piece)
                disk.sync(target)
            finally:
                disk.close(target)
            disk.rename(unfinished, path)
            disk.sync_folder(path.parent)
        finally:
            os.close(source)


def _free_name(binlog: Path, begin: int, source: int) -> Path | None:
    """A name for the copy; None when there is one of the same bytes: the last recovery got no further."""
    for number in count(1):
        path = binlog.with_name(f"{binlog.name}.cut-{begin}" + (f"-{number}" if number > 1 else ""))
        if not path.exists():
            return path
        if path.stat().st_size == os.fstat(source).st_size - begin and _is_spare(path, source, begin, exactly=True):
            return None
    raise AssertionError


def kept(timeline: Timeline) -> Iterator[Kept]:
    """The copies in the folder, in the order of their names."""
    with explained("list", timeline.path):
        names = sorted(name for name in os.listdir(timeline.path) if ".cut-" in name)
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or not is_binlog_name(match[1]):
            continue
        path, binlog, begin = timeline.path / name, timeline.path / match[1], int(match[2])
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            continue
        try:
            descriptor = os.open(binlog, os.O_RDONLY | os.O_CLOEXEC)
            try:
                spare = _is_spare(path, descriptor, begin)
            finally:
                os.close(descriptor)
        except OSError:
            spare = False  # who cannot read one of them cannot say so
        yield Kept(path, binlog, begin, size, spare)


def remove_spare(disk: Disk, timeline: Timeline) -> None:
    """Remove the copies that are not needed any more; what the files hold must be durable."""
    for copy in kept(timeline):
        if copy.spare:
            with explained("remove", copy.path):
                disk.remove(copy.path)


def _is_spare(path: Path, binlog: int, begin: int, *, exactly: bool = False) -> bool:
    """Whether the open file has from ``begin`` on what stands in the copy, sector by sector."""
    with path.open("rb") as file:
        at = begin
        while piece := file.read(BLOCK - at % SECTOR):
            stored = os.pread(binlog, len(piece), at)
            if piece != stored and (exactly or not _is_older(piece, stored, at % SECTOR)):
                return False
            at += len(piece)
    return True


def _is_older(piece: bytes, stored: bytes, within: int) -> bool:
    """Whether each sector of a piece, which begins ``within`` one, is an earlier state of the stored one."""
    places = [0, *range(SECTOR - within, len(piece), SECTOR), len(piece)]
    return all(stored[first:last].startswith(piece[first:last].rstrip(b"\0")) for first, last in pairwise(places))
