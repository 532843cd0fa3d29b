"""What is wrong with a round: a pure function over what was observed from outside of binlogd.

The clients' journal is the measure. While the source waits for acknowledgements (``without_ack`` is 0), a commit that
returned is in the store: at once, which is looked at while the source is dead, and for ever. A commit that was cut off
was promised to nobody and may be there or not, but then everywhere or nowhere. The stored files are read by a parser
of our own (observe.py), because a replica silently skips a transaction that comes to it twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from binlogd.binlog.gtid import GtidSet

EXIT_IN_USE = 4
"""What ``binlogd receive`` ends with on a store that another receiver owns (interface.md)."""

SPARE_DESCRIPTORS = 4
"""File descriptors by which two quiet moments of one process may differ: a status being asked, the marks' file."""

SPARE_MEMORY = 24 << 20
"""Bytes by which a process may have grown since it was first seen: buffers that the first giant transaction fills."""

MOST_MEMORY = 96 << 20
"""Bytes: what the design grants the sender (64 MiB and one a replica), and room for the table of the store's files."""

SHOWN = 8
"""Of what is missing or too much, as many are named."""


class Fault(Enum):
    """Kinds of findings; the values are headings of the table."""

    LOST = "lost"
    REPEATED = "repeated"
    DIFFERS = "differing files"
    STRAYED = "differing rows"
    UNACKNOWLEDGED = "returned unacknowledged"
    GROWN = "growth"
    BROKE = "broke"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; ``count`` commits, transactions, files or processes are concerned."""

    fault: Fault
    what: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class FilePair:
    """A stored file beside the source's: how far they were compared, and the first byte that differs.

    A ``finished`` file is compared as a whole; ``size`` and ``source_size`` are then equal.
    """

    name: str
    finished: bool
    size: int
    source_size: int
    difference: int | None


@dataclass(frozen=True, slots=True)
class Dark:
    """What was there while the source was dead.

    ``confirmed`` are the commits that had returned; ``store`` the GTID set that binlogd publishes, ``replica`` that
    of the replica, ``rows`` the ids it holds.
    """

    confirmed: frozenset[int]
    rows: frozenset[int]
    store: str
    replica: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One of binlogd's processes at the end of a round, when all is quiet."""

    role: str
    pid: int
    descriptors: int
    memory: int


@dataclass(frozen=True, slots=True)
class Observed:
    """A round, when everything is up again and the load has ended.

    ``confirmed`` are the ids whose commit returned, ``uncertain`` those whose commit was cut off. ``transactions`` are
    the GTIDs in the files that were finished since the last round, in their order, ``before`` the set of all that
    stood in earlier ones. ``without_ack`` counts commits that went on without an acknowledgement, ``switched_off`` how
    often semi-sync was off outside of an orderly stop. ``unreadable`` says which stored files are no whole events.
    ``stuck`` says what did not come to pass, ``complaints`` what
    is in binlogd's log and must not be; ``strays`` are processes that belong to nobody; ``intruders`` the exit
    codes of receivers that were started on the store beside the first.
    """

    number: int
    confirmed: frozenset[int]
    uncertain: frozenset[int]
    source_rows: frozenset[int]
    replica_rows: frozenset[int]
    source_checksums: Mapping[str, int]
    replica_checksums: Mapping[str, int]
    source_gtids: str
    store_gtids: str
    replica_gtids: str
    before: str
    transactions: Sequence[str]
    stored: Sequence[str]
    logged: Sequence[str]
    files: Sequence[FilePair]
    unreadable: Sequence[str] = ()
    replica_error: tuple[int, str] = (0, "")
    darks: Sequence[Dark] = ()
    without_ack: int = 0
    switched_off: int = 0
    stuck: Sequence[str] = ()
    complaints: Sequence[str] = ()
    strays: Sequence[str] = ()
    intruders: Sequence[int] = ()
    samples: Sequence[Sample] = field(default=())


DUPLICATE_KEY = 1062
"""ER_DUP_ENTRY: what a transaction that is applied twice stops a replica with."""


def judge(seen: Observed) -> list[Finding]:
    """Everything that is wrong with one round."""
    return [
        *_lost(seen),
        *_repeated(seen),
        *_files(seen),
        *_rows(seen),
        *_unacknowledged(seen),
        *_broke(seen),
    ]


def _lost(seen: Observed) -> Iterator[Finding]:
    if not seen.confirmed:
        yield Finding(Fault.BROKE, "no commit returned: the round proves nothing")
    for dark in seen.darks:
        if missing := dark.confirmed - dark.rows:
            yield _finding(Fault.LOST, "with the source dead, committed rows are not to be had back", missing)
        if ahead := GtidSet.parse(dark.replica) - GtidSet.parse(dark.store):
            yield Finding(
                Fault.LOST,
                f"with the source dead, the store lacks what it had given the replica: {ahead}",
                ahead.count(),
            )
    if missing := seen.confirmed - seen.source_rows:
        yield _finding(Fault.LOST, "the source lacks committed rows", missing)
    if missing := (seen.confirmed & seen.source_rows) - seen.replica_rows:
        yield _finding(Fault.LOST, "the replica lacks committed rows", missing)
    source = GtidSet.parse(seen.source_gtids)
    in_files = GtidSet.parse(seen.before) | _union(seen.transactions)
    for who, has in (
        ("the store", GtidSet.parse(seen.store_gtids)),
        ("the replica", GtidSet.parse(seen.replica_gtids)),
        ("what is in the stored files", in_files),
    ):
        if lacking := source - has:
            yield Finding(Fault.LOST, f"{who} lacks GTIDs of the source: {lacking}", lacking.count())
        if surplus := has - source:
            yield Finding(Fault.STRAYED, f"{who} has GTIDs that the source has not: {surplus}", surplus.count())


def _repeated(seen: Observed) -> Iterator[Finding]:
    once, repeated = GtidSet.parse(seen.before), []
    for one in seen.transactions:
        gtid = GtidSet.parse(one)
        if gtid <= once:
            repeated.append(one)
        once |= gtid
    if repeated:
        names = ", ".join(repeated[:SHOWN])
        yield Finding(Fault.REPEATED, f"transactions stand in the stored files again: {names}", len(repeated))
    code, text = seen.replica_error
    if code == DUPLICATE_KEY:
        yield Finding(Fault.REPEATED, f"the replica stopped at a row that it has: {text}")
    elif text:
        yield Finding(Fault.BROKE, f"the replica stopped: error {code}, {text}")


def _files(seen: Observed) -> Iterator[Finding]:
    if odd := sorted(set(seen.stored) ^ set(seen.logged)):
        yield Finding(Fault.DIFFERS, f"not both stored and at the source: {', '.join(odd[:SHOWN])}", len(odd))
    for text in seen.unreadable:
        yield Finding(Fault.DIFFERS, text)
    yield from judge_files(seen.files)


def judge_files(pairs: Sequence[FilePair]) -> list[Finding]:
    """The files that are not as at the source."""
    found = []
    for pair in pairs:
        if pair.difference is not None:
            found.append(Finding(Fault.DIFFERS, f"{pair.name} differs from the source's at byte {pair.difference}"))
        elif pair.size != pair.source_size if pair.finished else pair.size > pair.source_size:
            sizes = f"{pair.name} has {pair.size} bytes, at the source {pair.source_size}"
            found.append(Finding(Fault.DIFFERS, sizes))
    return found


def _rows(seen: Observed) -> Iterator[Finding]:
    if odd := (seen.source_rows ^ seen.replica_rows) - seen.confirmed:
        yield _finding(Fault.STRAYED, "source and replica do not hold the same rows", odd)
    if foreign := seen.source_rows - seen.confirmed - seen.uncertain:
        yield _finding(Fault.STRAYED, "the source holds rows that nobody committed", foreign)
    if seen.source_checksums != seen.replica_checksums:
        yield Finding(
            Fault.STRAYED,
            f"CHECKSUM TABLE: {dict(seen.source_checksums)} at the source, {dict(seen.replica_checksums)} at the"
            " replica",
        )


def _unacknowledged(seen: Observed) -> Iterator[Finding]:
    if seen.without_ack:
        yield Finding(Fault.UNACKNOWLEDGED, "the source let commits go on without an acknowledgement", seen.without_ack)
    if seen.switched_off:
        yield Finding(Fault.UNACKNOWLEDGED, "the source switched semi-sync off", seen.switched_off)


def _broke(seen: Observed) -> Iterator[Finding]:
    for text in (*seen.stuck, *seen.complaints):
        yield Finding(Fault.BROKE, text)
    for process in seen.strays:
        yield Finding(Fault.BROKE, f"a process is left behind: {process}")
    for code in seen.intruders:
        if code != EXIT_IN_USE:
            yield Finding(Fault.BROKE, f"a second receiver of the store ended with code {code}, not {EXIT_IN_USE}")


def judge_growth(rounds: Sequence[Sequence[Sample]]) -> list[Finding]:
    """What grew over the rounds: each process is compared with itself as it was first seen."""
    first: dict[tuple[str, int], Sample] = {}
    last: dict[tuple[str, int], Sample] = {}
    for samples in rounds:
        for sample in samples:
            key = sample.role, sample.pid
            first.setdefault(key, sample)
            last[key] = sample
    return [finding for key, end in last.items() for finding in _growth(first[key], end)]


def _growth(begin: Sample, end: Sample) -> Iterator[Finding]:
    if end.descriptors > begin.descriptors + SPARE_DESCRIPTORS:
        yield Finding(Fault.GROWN, f"{end.role}: {begin.descriptors} file descriptors became {end.descriptors}")
    if end.memory > begin.memory + SPARE_MEMORY:
        yield Finding(Fault.GROWN, f"{end.role}: {begin.memory >> 20} MiB of memory became {end.memory >> 20}")
    if end.memory > MOST_MEMORY:
        yield Finding(Fault.GROWN, f"{end.role} holds {end.memory >> 20} MiB, granted are {MOST_MEMORY >> 20}")


def _union(gtids: Sequence[str]) -> GtidSet:
    return GtidSet.parse(",".join(gtids))


def _finding(fault: Fault, what: str, ids: frozenset[int]) -> Finding:
    named = ", ".join(map(str, sorted(ids)[:SHOWN]))
    return Finding(fault, f"{what}: {len(ids)}, of ids {named}{' …' if len(ids) > SHOWN else ''}", len(ids))
