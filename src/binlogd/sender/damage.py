"""Which stored files were found to be damaged when they were to be sent, until they are replaced or removed.

A finished file is never written, so it is known by its device, its inode and the time at which that was changed: what
`binlogd verify --repair` puts in its place is another one, and so is what somebody copies over it, or to its name where
the file system uses the old inode again. The newest file changes all the time, and is known by device and
inode alone. Who takes a file for another one forgets only what the next client who comes to the place finds again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binlogd.store.reader import DAMAGED_HINT


@dataclass(frozen=True, slots=True)
class _Found:
    file: tuple[int, int, int]
    growing: bool
    message: str
    event: int


class Damage:
    """Belongs to one event loop. What is kept grows with the damaged files alone."""

    def __init__(self) -> None:
        self._found: dict[Path, _Found] = {}

    def note(self, path: Path, descriptor: int, message: str, *, growing: bool, event: int = -1) -> None:
        """The open file is damaged; ``event`` is where a large event is of which all but the end was sent.

        ``growing``: it is the newest one.
        """
        self._found[path] = _Found(_identity(os.fstat(descriptor), growing), growing, message, event)

    def event(self, path: Path, descriptor: int) -> int:
        """Where a large event of the open file is known to be damaged; -1: nowhere."""
        found = self._found.get(path)
        if found is None or found.file != _identity(os.fstat(descriptor), found.growing):
            return -1
        return found.event

    def snapshot(self) -> list[dict[str, Any]]:
        """For the status: each file that is still there."""
        for path, found in list(self._found.items()):
            try:
                same = _identity(path.stat(), found.growing) == found.file
            except OSError:
                same = False
            if not same:
                del self._found[path]
        return [
            {
                "timeline": int(path.parent.name.partition("-")[0]),
                "file": path.name,
                "message": found.message,
                "hint": DAMAGED_HINT,
            }
            for path, found in self._found.items()
        ]


def _identity(known: os.stat_result, growing: bool) -> tuple[int, int, int]:
    return known.st_dev, known.st_ino, 0 if growing else known.st_ctime_ns
