"""Having the newest file read as the disk has it, before it is judged, and its transactions are shown to anybody.

Theory. What a killed process left of the newest file may be in memory alone, in two ways. Dirty pages are still to be
written: a sync writes them. But where writing failed the kernel calls the pages clean, tells of it whoever asked first
(and he may have been killed before he could do anything about it), and whoever syncs after that is told that all is
well. Such pages are read as if they were on disk until memory lets them go, and are gone after a power loss. So

    sync     no page is dirty any more, for a dirty page is not let go of …
    let go   … and now none is in memory that the disk does not have, whether the sync went well or not
    read     what comes now, comes from the disk

in this order. When the sync fails nothing is read, and the next attempt finds what the disk has. Nobody may write to
the file meanwhile: recovery holds the store's lock, and a reader looks at it before and after (lock.py).

Only the end of the file is let go of: a receiver never has more than TORN_LIMIT bytes that are not durable, and of what
is before, which it has synced, replicas may be reading.
"""

from __future__ import annotations

import os
from pathlib import Path

from binlogd.store.disk import Disk, explained
from binlogd.store.synced import synced_path

TORN_LIMIT = 80 * 1024 * 1024  # bytes: the receiver syncs every 64 MiB, and has a few more in its buffers
FOLIO = 128 * 1024 * 1024  # bytes: pages are held in groups of at most so many, and a group is let go of whole or stays


def settle(path: Path, disk: Disk) -> None:
    """Make durable what there is of the newest file, how much of it counts, and its name; all of it as the disk has it.

    Raises StoreUnreadable when that fails.
    """
    with explained("sync", path):
        _settle(path, disk)
        try:
            _settle(synced_path(path), disk)
        except FileNotFoundError:
            pass
        disk.sync_folder(path.parent)


def _settle(path: Path, disk: Disk) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unsure = max(os.fstat(descriptor).st_size - TORN_LIMIT, 0)
        try:
            disk.sync(descriptor)
        finally:
            disk.let_go(descriptor, unsure // FOLIO * FOLIO)
    finally:
        os.close(descriptor)
