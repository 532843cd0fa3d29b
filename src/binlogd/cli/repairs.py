"""What ``binlogd verify --repair`` does about what was found, file by file.

A damaged or missing file is fetched again from the source while that has it, and an index is made again from its file.
The newest file belongs to the receiver, and is mended while none runs. What nothing mends is told, with what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from binlogd.cli.receiver_process import source_options
from binlogd.config import Purpose, load_settings
from binlogd.errors import BinlogdError, StoreInUse
from binlogd.receiver.refetch import refetch
from binlogd.receiver.session import SourceOptions
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Timeline, binlog_number
from binlogd.store.lock import StoreLock
from binlogd.store.repair import copy_path, objection, rebuild_index, rebuild_list, replace
from binlogd.store.verify import REFETCHED, Finding, Kind, Level


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one file."""

    path: Path
    success: bool
    done: str
    hint: str = ""


def repair(
    folder: DataFolder, found: Sequence[Finding], *, config: str | None, source: str | None, data_dir: str | None
) -> Iterator[Done]:
    """Mend what can be mended; what was done is told as it is done."""
    disk = Disk()
    errors = [finding for finding in found if finding.level is Level.ERROR]
    timelines = folder.timelines()
    wanted = sorted({finding.path for finding in errors if finding.kind in REFETCHED})
    lists = {finding.path.parent for finding in errors if finding.kind is Kind.LIST}
    if wanted:
        settings = load_settings(config, source=source, data_dir=data_dir, purpose=Purpose.RECEIVE)
        identity = folder.identity(disk, server_id=settings.server_id, server_uuid=settings.server_uuid)
        work = _Work(folder, disk, source_options(settings), identity.server_id)
        for path in wanted:
            timeline = next(each for each in timelines if each.path == path.parent)
            done = work.fetch(timeline, path.name, newest=timeline is timelines[-1])
            yield done
            if done.success:
                lists.add(path.parent)
    for finding in errors:
        binlog = finding.path.with_name(finding.path.name.removesuffix(".idx"))
        timeline = next(each for each in timelines if each.path == binlog.parent)
        if finding.kind is Kind.INDEX and binlog not in wanted and rebuild_index(disk, timeline, binlog.name):
            yield Done(finding.path, True, "made again from its file")
    for timeline in timelines:
        if timeline.path in lists:
            rebuild_list(disk, timeline)
            if any(finding.kind is Kind.LIST and finding.path.parent == timeline.path for finding in errors):
                yield Done(timeline.path, True, "the list of files was made again")


class _Work:
    """Fetching files again from one source."""

    def __init__(self, folder: DataFolder, disk: Disk, options: SourceOptions, server_id: int) -> None:
        self._folder = folder
        self._disk = disk
        self._options = options
        self._server_id = server_id

    def fetch(self, timeline: Timeline, name: str, *, newest: bool) -> Done:
        """A new copy of one file, in its place if it is whole and fits."""
        path = timeline.path / name
        last = timeline.binlogs()[-1:]
        finished = not newest or (bool(last) and binlog_number(name) < binlog_number(last[0]))
        if not finished and not path.exists():
            text = "it would be the newest file"
            return Done(path, False, text, "start the receiver: it goes on behind the newest file that there is")
        with ExitStack() as held:
            if not finished:
                try:
                    held.enter_context(StoreLock(self._folder.lock))
                except StoreInUse:
                    text = "it is the newest file, which a receiver is writing"
                    return Done(path, False, text, "stop binlogd, run binlogd verify --repair again, and start it")
            try:
                return self._replace(timeline, name, finished=finished)
            except BinlogdError as bad:
                return Done(path, False, bad.message, bad.hint or "restore the file from a copy; it stays as it is")

    def _replace(self, timeline: Timeline, name: str, *, finished: bool) -> Done:
        path, copy = timeline.path / name, copy_path(timeline, name)
        try:
            refetch(
                self._options,
                name,
                source_uuid=timeline.source_uuid,
                server_id=self._server_id,
                target=copy,
                disk=self._disk,
                size=None if finished else path.stat().st_size,
            )
            wrong = objection(timeline, name, copy, finished=finished)
            if wrong:
                hint = "the file stays as it is; compare the source with the store before you go on"
                return Done(path, False, f"the source's copy does not fit: {wrong}", hint)
            kept = replace(self._disk, timeline, name, copy)
        finally:
            copy.unlink(missing_ok=True)
        if finished:
            rebuild_index(self._disk, timeline, name)
        peer = f"{self._options.host}:{self._options.port}"
        return Done(path, True, f"fetched again from {peer}" + (f"; the old one is {kept.name}" if kept else ""))
