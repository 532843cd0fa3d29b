"""What of the newest file is asked for again, so that the source proves that it still has the history we hold.

A name proves nothing: a source that was restored from an older state, or reset, writes other transactions under the
same file names, and what it sends would be put behind bytes that it does not have. So every dump begins a little
before the end of what is stored, and what comes first is compared with it (receiver/stream.py)::

    stored   … | transaction | transaction | transaction ┃ end
    asked for                ┝━━━━━ overlap ━━━━━━━━━━━━━┥ and on

It begins with a transaction, because MySQL's GTID events hold the microsecond of the commit, which no other history
has: a mark (index.py) tells of one, about a MiB before the end. Where the last transaction is a giant, or a file has
no mark yet, it begins with the first event that is near enough to the end.
"""

from __future__ import annotations

import os
from pathlib import Path

from binlogd.binlog.walk import HEADER_LENGTH
from binlogd.errors import EventError, StoreDamaged
from binlogd.store.disk import explained
from binlogd.store.index import read_marks
from binlogd.store.reader import FIRST_EVENT, read_head

LONGEST = 16 * 1024 * 1024  # bytes that are fetched again at most, at every new connection: a blink of the network


def overlap_start(path: Path, end: int) -> int:
    """Where an overlap of the file's first ``end`` bytes begins: at an event, and not behind ``end``.

    ``end`` is the end of an event. It is the answer, which proves nothing, for a last event larger than LONGEST.
    StoreDamaged when the events do not add up to ``end``.
    """
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = read_head(descriptor, end)
            first = FIRST_EVENT + len(head.format) if head else end
            marked = max((mark.offset for mark in read_marks(path) if first <= mark.offset < end), default=first)
            for begin in {marked: None, first: None}:  # no more than once, in this order: marks may be stale
                start = _first_near(descriptor, begin, end)
                if start is not None:
                    return start
        except EventError as bad:
            raise _changed(path, end) from bad
        finally:
            os.close(descriptor)
    raise _changed(path, end)


def _first_near(descriptor: int, begin: int, end: int) -> int | None:
    """``begin``, or the first event behind it that is near enough to ``end``; None when they do not lead there."""
    start = at = begin
    while at < end:
        if end - start > LONGEST:
            start = at
        header = os.pread(descriptor, HEADER_LENGTH, at)
        length = int.from_bytes(header[9:13], "little")
        if len(header) < HEADER_LENGTH or length < HEADER_LENGTH:
            return None
        at += length
    if at != end:
        return None
    return start if end - start <= LONGEST else end


def _changed(path: Path, end: int) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is not what was written: its events do not lead to {end}, where the last transaction ended",
        hint="nothing but binlogd may change files in the data folder; `binlogd verify` says what is wrong",
    )
