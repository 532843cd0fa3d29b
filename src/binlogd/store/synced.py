"""How much of a binary log without checksums is durable, beside it: ``mysql-bin.000002.synced``.

A power loss leaves of what was not synced any sectors and not others. Where events carry a CRC-32 a walk finds that
out. Where the source has binlog_checksum = NONE nothing tells a torn row from a sound one: a header may be there, and
the body behind it be zeros. So of such a file it is written down how many bytes are durable, and nobody counts more:

* a line of 20 digits, overwritten in place, which lies in one sector, and a disk writes that whole or not at all;
* it is synced after the file is, and before anybody hears of it, and lowered before the file is cut: so it is never
  more than what is durable, and never less than what was acknowledged or published;
* it is there before anything but the head is in the file, and goes when the file is finished, then saying all of it.

Without it, or when it cannot be read, everything in the file counts, as it does where there are checksums.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from binlogd.store.disk import Disk, explained


def synced_path(binlog: Path) -> Path:
    """Where it lies."""
    return binlog.with_name(binlog.name + ".synced")


def synced_part(binlog: Path, size: int) -> int:
    """How many of the ``size`` bytes of a binary log count."""
    try:
        return min(size, int(synced_path(binlog).read_bytes()))
    except (OSError, ValueError):
        return size


class SyncedSize:
    """For the writer of one file."""

    def __init__(self, disk: Disk, binlog: Path) -> None:
        self._disk = disk
        self._path = synced_path(binlog)
        self._descriptor = -1
        self._said = -1

    def say(self, size: int) -> None:
        """So much is durable; that it is so is durable on return."""
        if size == self._said:
            return
        content = b"%020d\n" % size
        with explained("write", self._path):
            if self._descriptor < 0:
                self._descriptor = self._disk.begin(self._path, content)
            else:
                self._disk.overwrite(self._descriptor, content)
                self._disk.sync(self._descriptor)
        self._said = size

    def close(self) -> None:
        """Let go of it, as it is."""
        if self._descriptor >= 0:
            with suppress(OSError):  # what was written counts by its sync, and that is over
                self._disk.close(self._descriptor)
            self._descriptor = -1
