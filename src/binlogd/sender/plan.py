"""Where a dump to a replica begins, and where it may go on: pure decisions over what the store holds (protocol.md §3).

A *timeline* is one source's history (layout.py). After a failover the next one begins with a whole file of the new
source, all of whose PREVIOUS_GTIDS are held, so that timelines overlap; and it may lack what an older one holds. File
names and positions mean something within one timeline only.

**By GTID**, the client names what it has. The dump begins in the *oldest* timeline that holds anything else, for a
newer one may not have that, and there in the newest file whose PREVIOUS_GTIDS the client has all of. Of what it has
nothing is sent. At the end of a timeline the dump goes on into the next, where it leaves out, too, what the files that
it went through added: all of that the client has or was sent just now. What they only claim it may lack: PREVIOUS_GTIDS
of MySQL 5.6 grow with gtid_purged. A client that has everything, or more, begins at the end of the
newest timeline, and waits. What was purged, or is in a timeline that a dump cannot begin in and in none behind it, the
client must hear of at once, with MySQL's words (ERR 1236), because DBAs and tools know them.

What a timeline holds at its end is: PREVIOUS_GTIDS of its last file, and what that file added.

**By position**, it names a file and an offset. A plain name is that of the one timeline that has it; a name that
several have, or that a timeline was to go on with when its source was lost, is refused: nobody may get another source's
events for those he asked for. ``0002:mysql-bin.000003`` is the file of timeline 2, and a dump that was asked for so
names all its files so, for the client asks again for what it was told. (The ROTATE at a file's end is passed on as it
is and has the plain name; a client that asks for that is refused, or it is right. ``mysqlbinlog --raw``
takes a qualified name too.) Where a timeline ends such a dump ends with ERR 1236.

**Pinned**, to a timeline by ``SET @binlogd_timeline = '0002'``, a client gets that timeline only, under plain names,
and learns of its end by ERR 1236, "End of timeline 0002": so another binlogd copies them one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import overload

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.store.seek import Claims, newest_built_on

FATAL_READING_BINLOG = 1236  # ER_SOURCE_FATAL_ERROR_READING_BINLOG: a replica that hears it stops for good
FIRST_POSITION = 4
QUALIFIER = ":"  # between timeline and name; no slash: mysqlbinlog --raw takes no name with one
NAMED = 3  # files of one name that an error tells of: MySQL cuts it off behind 512 bytes

_QUALIFIED = re.compile(rf"([0-9]{{4,9}}){QUALIFIER}(.+)")  # int() refuses thousands of digits
_NO_SUCH_FILE = "Could not find first log file name in binary log index file"
_timeline_of = attrgetter("timeline")

Ended = Callable[[int], GtidSet]
"""What a timeline holds at its end, of which the file with that index is the last."""

Sources = Mapping[int, str]
"""The server_uuid of each timeline's source, by the timeline's number."""

Kept = Callable[[int], GtidSet]
"""What the source of a timeline had purged without a word of it in its files (store/purged.py)."""

Announces = Callable[[int, str], bool]
"""Whether the file with that index ends with a ROTATE that says that the one of that name follows."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One file as the sender may show it: ``size`` is published bytes."""

    timeline: int
    name: str
    size: int

    @property
    def qualified(self) -> str:
        """Its name among the files of all timelines."""
        return f"{self.timeline:04}{QUALIFIER}{self.name}"


class Logs(Sequence[StoredLog]):
    """The files in order. An index means the same file for ever: what was removed keeps its place, before ``first``.

    It is left out where they are counted up, and costs 200 bytes until the process ends.
    """

    def __init__(self, logs: Iterable[StoredLog] = (), first: int = 0) -> None:
        self._logs = list(logs)
        self.first = first

    @overload
    def __getitem__(self, index: int) -> StoredLog: ...

    @overload
    def __getitem__(self, index: slice) -> list[StoredLog]: ...

    def __getitem__(self, index: int | slice) -> StoredLog | list[StoredLog]:
        return self._logs[index]

    def __len__(self) -> int:
        return len(self._logs)

    def __iter__(self) -> Iterator[StoredLog]:
        return islice(self._logs, self.first, None)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (Logs, list)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def everything(self) -> list[StoredLog]:
        """With what was removed."""
        return list(self._logs)

    def copy(self) -> Logs:
        """As they are now."""
        return Logs(self._logs, self.first)

    def replace_newest(self, logs: Iterable[StoredLog]) -> None:
        """Put these in the place of the newest, in one step."""
        self._logs[-1:] = logs


def _first_of(logs: Sequence[StoredLog]) -> int:
    """The index of the oldest."""
    return logs.first if isinstance(logs, Logs) else 0


def refuse(text: str) -> Refusal:
    """An ERR 1236."""
    return Refusal(FATAL_READING_BINLOG, "HY000", text)


def purged_away(has: GtidSet, missing: GtidSet) -> Refusal:
    """To a replica that has ``has`` and needs what cannot be had here."""
    return refuse(
        "Cannot replicate because the source purged required binary logs. Replicate the missing transactions"
        " from elsewhere, or provision a new replica from backup. Consider increasing the source's binary log"
        f" expiration period. The GTID set sent by the replica is '{has.compact()}', and the missing"
        f" transactions are '{missing.compact()}'"
    )


def end_of_timeline(last: StoredLog, following: StoredLog, sources: Sources, pinned: int | None) -> Refusal:
    """To a client that goes by position or is pinned, behind a timeline's ``last`` file; ``following`` is the next."""
    old, new = sources[last.timeline], sources[following.timeline]
    if pinned is not None:
        return refuse(
            f"End of timeline {last.timeline:04}: the history of source {old} ends at '{last.name}' {last.size};"
            f" timeline {following.timeline:04}, of source {new}, follows"
        )
    return refuse(
        f"The history of source {old} ends at '{last.name}' {last.size}: binlogd follows {new} since, and file names"
        " and positions of the one mean nothing in the other. Use SOURCE_AUTO_POSITION = 1, or name a file of the new"
        f" source, the first is '{following.qualified}'"
    )


def spans(logs: Sequence[StoredLog]) -> list[tuple[int, int]]:
    """Each timeline's files as ``begin, end`` indices, oldest first."""
    found, begin = [], _first_of(logs)
    while begin < len(logs):
        end = bisect_right(logs, logs[begin].timeline, lo=begin, key=_timeline_of)
        found.append((begin, end))
        begin = end
    return found


def _span(logs: Sequence[StoredLog], timeline: int) -> tuple[int, int]:
    """One timeline's files."""
    begin = max(bisect_left(logs, timeline, key=_timeline_of), _first_of(logs))
    end = bisect_right(logs, timeline, lo=begin, key=_timeline_of)
    if begin >= end:
        raise refuse(f"There is no timeline {timeline:04} here: SELECT @@global.binlogd_timelines says which there are")
    return begin, end


# --- by position ---


def start_by_position(
    logs: Sequence[StoredLog],
    name: str,
    position: int,
    *,
    sources: Sources,
    announces: Announces,
    pinned: int | None = None,
) -> int:
    """The index of the file to begin with; an empty ``name`` is the oldest."""
    if position < FIRST_POSITION:
        raise refuse("Client requested source to start replication from position < 4")
    found = named(logs, name, sources, announces, pinned)
    if found is None:
        raise refuse(_NO_SUCH_FILE)
    if position > logs[found].size:
        raise refuse("Client requested source to start replication from position > file size")
    return found


def named(
    logs: Sequence[StoredLog], name: str, sources: Sources, announces: Announces, pinned: int | None
) -> int | None:
    """The file that a client means; None when there is none."""
    timeline, plain = pinned, name
    if match := _QUALIFIED.fullmatch(name):
        timeline, plain = int(match[1]), match[2]
        if f"{timeline:04}" != match[1]:
            return None  # it would hear another name than it asked for
        if pinned not in (None, timeline):
            raise refuse(f"'{name}' is not of timeline {pinned:04}, which @binlogd_timeline says is wanted")
    begin, end = (_first_of(logs), len(logs)) if timeline is None else _span(logs, timeline)
    if not name:
        return begin if logs else None
    found = [index for index in range(begin, end) if logs[index].name == plain]
    for _, last in spans(logs)[:-1]:
        # A client that has read that ROTATE goes on with a file that its source alone had.
        if begin < last <= end and not (found and timeline is not None) and announces(last - 1, plain):
            raise end_of_timeline(logs[last - 1], logs[last], sources, pinned)
    if len(found) > 1:
        several = [f"'{logs[index].qualified}' of {sources[logs[index].timeline]}" for index in found]
        more = f" and {len(several) - NAMED} more" if len(several) > NAMED else ""
        raise refuse(
            f"Several sources that binlogd followed have a file '{name}': {', '.join(several[:NAMED])}{more}. Name the"
            " one that is meant as it is written here, or use SOURCE_AUTO_POSITION = 1"
        )
    return found[0] if found else None


# --- by GTID ---


def start_by_gtid(
    logs: Sequence[StoredLog],
    claims: Claims,
    ended: Ended,
    has: GtidSet,
    purged: GtidSet,
    kept: Kept = lambda _: GtidSet(),
    *,
    pinned: int | None = None,
) -> int:
    """The index of the file to begin with for a replica that has ``has``.

    ``claims`` gives the PREVIOUS_GTIDS of the file with an index, and is asked of a few; ``ended`` is asked of the
    finished timelines, and of the newest only when there is no beginning in an older one that has what is lacking.
    A timeline builds on what is ``kept`` of it, too: who lacks that begins in another one, or not at all.
    """
    if pinned is not None:
        begin, end = _span(logs, pinned)
        base = kept(pinned)
        found = _built_on(claims, begin, end, has) if base <= has else None
        if found is None:
            raise purged_away(has, ((claims(begin) or GtidSet()) | base) - has)
        return found
    missing = purged - has
    if missing:
        raise purged_away(has, missing)
    if not logs:
        raise refuse(_NO_SUCH_FILE)
    timelines = spans(logs)
    lacking = GtidSet()  # what there was no beginning for
    for number, (begin, end) in enumerate(timelines[:-1]):
        held = ended(end - 1)
        if held <= has:
            continue
        found = _built_on(claims, begin, end, has) if kept(logs[begin].timeline) <= has else None
        if found is not None:
            _look_for(lacking - held, timelines[number + 1 :], ended, has)
            return found
        lacking |= held - has
    begin, end = timelines[-1]
    lacked = kept(logs[begin].timeline) - has
    if lacked:
        raise purged_away(has, ((claims(begin) or GtidSet()) | lacked) - has)
    found = newest_built_on(claims, begin, end, has)
    if found is None and (claim := claims(begin)) is not None:
        raise purged_away(has, claim - has)
    _look_for(lacking, timelines[-1:], ended, has)
    if found is not None:
        return found
    if begin == _first_of(logs):
        return begin  # it claims nothing, or nothing that can be read: whoever has it from there has it all
    # Its first file has only begun, and all before it is had: the way there is from the end of the one before.
    before, _ = timelines[-2]
    found = _built_on(claims, before, begin, has)
    return begin - 1 if found is None else found


def _built_on(claims: Claims, begin: int, end: int, has: GtidSet) -> int | None:
    """Where to begin in a timeline; None when it cannot be begun with."""
    found = newest_built_on(claims, begin, end, has)
    if found is None and claims(begin) is None:
        return begin  # who is led by no claim reads it all: what is damaged is told where it is
    return found


def _look_for(lacking: GtidSet, timelines: Sequence[tuple[int, int]], ended: Ended, has: GtidSet) -> None:
    """Refuse unless these timelines hold all that is lacking."""
    for _, end in timelines:
        if not lacking:
            return
        lacking -= ended(end - 1)
    if lacking:
        raise purged_away(has, lacking)


def go_on(left_out: GtidSet, added: GtidSet, claim: GtidSet | None, kept: GtidSet) -> GtidSet:
    """What a dump leaves out in the next timeline.

    It left out ``left_out`` and was through files to the end of a timeline that ``added`` these; ``claim`` are the
    PREVIOUS_GTIDS of the next one's first file, and ``kept`` is what is kept of it. No claim of a file that has just
    begun: the receiver chose it for what the store holds.
    """
    had = left_out | added
    missing = ((claim or GtidSet()) | kept) - had
    if missing:
        raise purged_away(had, missing)
    return had
