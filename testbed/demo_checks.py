"""What the demo saw, and whether it is what was promised: pure functions over observations.

What must be there is known from the clients' side alone: their journals of the commits that returned. What the servers
and binlogd say of themselves is looked at beside it, never in its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SemiSync:
    """A source's counters: connected acknowledgers, commits acknowledged, commits that went on without."""

    clients: int
    yes_tx: int
    no_tx: int

    def __str__(self) -> str:
        return f"Rpl_semi_sync_source_clients={self.clients} yes_tx={self.yes_tx} no_tx={self.no_tx}"

    @property
    def short(self) -> str:
        return str(self).removeprefix("Rpl_semi_sync_source_")

    @property
    def alone_acknowledged(self) -> bool:
        """Whether one acknowledged everything."""
        return self.clients == 1 and self.yes_tx > 0 and self.no_tx == 0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file beside that source's: the sizes in bytes, and whether the stored bytes are the source's.

    ``last`` is the one behind which its source wrote no other: that may be stored up to where it was sent.
    """

    name: str
    last: bool
    size: int
    source_size: int
    same: bool


@dataclass(frozen=True, slots=True)
class Connection:
    """A replica's connection to binlogd, and the source that the replica is configured for."""

    number: int
    since: float
    source_port: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The ids and the CHECKSUM TABLE of a server's rows."""

    ids: frozenset[int]
    checksum: int


@dataclass(frozen=True, slots=True)
class FirstHalf:
    """The source is lost: the clients' journal, the standby before and after binlogd filled it."""

    confirmed: frozenset[int]
    uncertain: frozenset[int]
    rows_before: int
    at_standby: frozenset[int]
    semi_sync: SemiSync
    gtids: str
    gtids_missing: str
    files: Sequence[StoredFile]


@dataclass(frozen=True, slots=True)
class SecondHalf:
    """The standby is the source: the clients' second journal, and who has what at the end.

    ``timelines`` are the sources of the stored histories, oldest first, ``sources`` those that there were. ``attached``
    is the replica's connection before the source died and at the end. ``errant`` is what the old source had committed
    and nobody acknowledged; ``returned`` is False when it had to be built anew.
    """

    confirmed: frozenset[int]
    timelines: Sequence[str]
    sources: Sequence[str]
    followed_after: float
    semi_sync: SemiSync
    attached: tuple[Connection, Connection]
    errant: str
    returned: bool
    rows: Mapping[str, Rows]
    journal_checksum: int
    gtids: str
    gtids_missing: Mapping[str, str]
    files: Sequence[StoredFile]
    binlogd_exit: int


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    what: str
    seen: str
    holds: bool


def judge(first: FirstHalf, second: SecondHalf) -> list[Check]:
    """Every claim of the story against what was observed."""
    return [*_lost(first), *_followed(second), *_everywhere(first, second)]


def _lost(seen: FirstHalf) -> list[Check]:
    missing = seen.confirmed - seen.at_standby
    foreign = seen.at_standby - seen.confirmed - seen.uncertain
    landed = len(seen.at_standby & seen.uncertain)
    return [
        Check("binlogd alone acknowledged", seen.semi_sync.short, seen.semi_sync.alone_acknowledged),
        Check(
            "the standby was behind",
            f"it had {seen.rows_before} of {len(seen.confirmed)}",
            seen.rows_before < len(seen.confirmed),
        ),
        Check(
            "now it has every committed row",
            f"{len(seen.confirmed) - len(missing)} of {len(seen.confirmed)}, {len(missing)} missing",
            bool(seen.confirmed) and not missing,
        ),
        Check(
            "and none that nobody committed",
            f"{landed} of {len(seen.uncertain)} cut off are in, {len(foreign)} others",
            not foreign,
        ),
        Check(
            "it executed all GTIDs of binlogd",
            f"{_last_interval(seen.gtids)}, missing: {seen.gtids_missing or 'none'}",
            bool(seen.gtids) and not seen.gtids_missing,
        ),
    ]


def _followed(seen: SecondHalf) -> list[Check]:
    before, after = seen.attached
    same = before == after
    return [
        Check(
            "binlogd follows the new source",
            f"{seen.followed_after:.1f} s later, {len(seen.timelines)} timelines",
            len(seen.sources) == 2 and list(seen.timelines) == list(seen.sources),
        ),
        Check("and alone acknowledges there", seen.semi_sync.short, seen.semi_sync.alone_acknowledged),
        Check(
            "the replica's connection stayed",
            f"connection {before.number}, {'still the same' if same else f'then {after.number}'}",
            same,
        ),
        Check(
            "the old source is a replica",
            "as it was" if seen.returned else f"built anew, errant: {seen.errant.partition(':')[2]}",
            seen.returned == (not seen.errant),
        ),
    ]


def _everywhere(first: FirstHalf, seen: SecondHalf) -> list[Check]:
    wanted = first.confirmed | seen.confirmed | (first.uncertain & first.at_standby)
    counts = {name: len(wanted & rows.ids) for name, rows in seen.rows.items()}
    checksums = {rows.checksum for rows in seen.rows.values()} | {seen.journal_checksum}
    lacking = {name: missing for name, missing in seen.gtids_missing.items() if missing}
    return [
        Check(
            "every commit is on all servers",
            f"{', '.join(map(str, counts.values()))} of {len(wanted)}",
            bool(seen.confirmed) and all(rows.ids == wanted for rows in seen.rows.values()) and len(counts) == 3,
        ),
        Check(
            "CHECKSUM TABLE, servers, journal",
            f"{' ≠ '.join(map(str, sorted(checksums)))}{' everywhere' * (len(checksums) == 1)}",
            len(checksums) == 1,
        ),
        Check(
            "all GTIDs of binlogd are there",
            f"{seen.gtids.count(',') + 1} sources, missing: {lacking or 'none'}",
            bool(seen.gtids) and not lacking and len(seen.gtids_missing) == 3,
        ),
        *_files("finished files equal the source's", "its last one, as far as sent", first.files),
        *_files("and the new source's", "its newest one, as far as sent", seen.files),
        Check("binlogd stopped in order", f"exit code {seen.binlogd_exit}", seen.binlogd_exit == 0),
    ]


def _files(of_finished: str, of_last: str, files: Sequence[StoredFile]) -> list[Check]:
    finished = [file for file in files if not file.last]
    last = [file for file in files if file.last]
    return [
        Check(
            of_finished,
            f"{sum(file.same for file in finished)} of {len(finished)} files, {sum(f.size for f in finished)} bytes",
            bool(finished) and all(file.same and file.size == file.source_size for file in finished),
        ),
        Check(
            of_last,
            ", ".join(f"{file.size} of {file.source_size} bytes" for file in last),
            len(last) == 1 and last[0].same and last[0].size <= last[0].source_size,
        ),
    ]


def _last_interval(gtids: str) -> str:
    return gtids.rpartition(":")[2]


def judge_leftovers(pids: Iterable[int], folder: Path) -> Check:
    """Whether the processes are gone and the folder is removed."""
    pids = list(pids)
    alive = [pid for pid in pids if is_running(pid)]
    seen = f"{len(alive)} of {len(pids)} processes, {'a' if folder.exists() else 'no'} folder"
    return Check("nothing is left", seen, not alive and not folder.exists())


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
