"""Where a dump to a replica begins: pure decisions over what the store holds (protocol.md §3).

By position, the client names a file and an offset. By GTID, it names what it has: the dump begins in the newest file
whose PREVIOUS_GTIDS it has all of, and leaves out what it has; if something was purged that it lacks, it cannot be
helped and must hear so at once, with MySQL's words (ERR 1236), because DBAs and tools know them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.store.seek import Claims, newest_built_on

FATAL_READING_BINLOG = 1236  # ER_SOURCE_FATAL_ERROR_READING_BINLOG: a replica that hears it stops for good
FIRST_POSITION = 4


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One file as the sender may show it: ``size`` is published bytes."""

    timeline: int
    name: str
    size: int


def refuse(text: str) -> Refusal:
    """An ERR 1236."""
    return Refusal(FATAL_READING_BINLOG, "HY000", text)


def start_by_position(logs: Sequence[StoredLog], name: str, position: int) -> int:
    """The index of the file to begin with; an empty ``name`` is the oldest. Of two of a name the newest counts."""
    if position < FIRST_POSITION:
        raise refuse("Client requested source to start replication from position < 4")
    found = None
    if not name and logs:
        found = 0
    for index in range(len(logs) - 1, -1, -1):
        if name and logs[index].name == name:
            found = index
            break
    if found is None:
        raise refuse("Could not find first log file name in binary log index file")
    if position > logs[found].size:
        raise refuse("Client requested source to start replication from position > file size")
    return found


def start_by_gtid(logs: Sequence[StoredLog], claims: Claims, has: GtidSet, purged: GtidSet) -> int:
    """The index of the file to begin with for a replica that has ``has``.

    ``claims`` gives the PREVIOUS_GTIDS of the file with an index, and is asked of a few.
    """
    missing = purged - has
    if missing:
        raise refuse(
            "Cannot replicate because the source purged required binary logs. Replicate the missing transactions"
            " from elsewhere, or provision a new replica from backup. Consider increasing the source's binary log"
            f" expiration period. The GTID set sent by the replica is '{has.compact()}', and the missing"
            f" transactions are '{missing.compact()}'"
        )
    if not logs:
        raise refuse("Could not find first log file name in binary log index file")
    end = len(logs)
    while end:
        begin = bisect_left(logs, logs[end - 1].timeline, hi=end, key=attrgetter("timeline"))
        index = newest_built_on(claims, begin, end, has)
        if index is not None:
            return index
        end = begin
    return 0  # what the oldest file builds on was purged, and the replica has it
