"""What both sides say of themselves, and where a dump begins.

Files are fetched by name and position, never by GTID, because a fetch by GTID leaves holes. An empty file name asks
for the source's oldest file, whatever it is called, and needs no privilege but REPLICATION SLAVE. A dump that goes on
begins with an overlap of what is stored (store/overlap.py), which is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceRefused

NONE = GtidSet()
FIRST_POSITION = 4  # behind the magic
COM_BINLOG_DUMP_LIMIT = 2**32  # its position has 4 bytes; COM_BINLOG_DUMP_GTID's has 8


@dataclass(frozen=True, slots=True)
class Kept:
    """A timeline that a binlogd keeps: its number there, and the source whose history it is."""

    number: int
    source_uuid: str


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the source says of itself. ``server_uuid`` is "" where there is none (MySQL 5.5, MariaDB).

    ``executed`` and ``purged`` are its GTIDs; None where it has none, or not MySQL's. ``first_file`` is the name and
    PREVIOUS_GTIDS of the file that it would begin with for us; None: it was not asked. Of a binlogd ``timelines`` are
    what it keeps, oldest first, and ``history`` is the one that is copied (cascade.py); a server has only its own.
    """

    server_version: str
    server_id: int
    server_uuid: str
    checksum: str
    gtid_mode: str
    executed: GtidSet | None = None
    purged: GtidSet | None = None
    read_only: bool = False
    first_file: tuple[str, GtidSet] | None = None
    timelines: tuple[Kept, ...] = ()
    history: Kept | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The binlogd ``server_uuid`` said that its timeline ``number`` ends where the store does."""

    server_uuid: str
    number: int


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Where the store ends: ``source_uuid`` of its newest timeline, and file and position, "" and 0 for an empty one.

    ``overlap`` is how many bytes before ``position`` are asked for again. ``held`` are the GTIDs that it holds, or held
    once; ``gtids`` says whether that history has them for every transaction. ``replicas`` are the UUIDs of those that
    are attached to us. ``timelines`` are the UUIDs of all timelines' sources, the newest last; ``ended`` says that the
    newest is the copy of one that will not grow.
    """

    source_uuid: str
    file: str
    position: int
    overlap: int = 0
    held: GtidSet = NONE
    gtids: bool = True
    replicas: frozenset[str] = frozenset()
    timelines: tuple[str, ...] = ()
    ended: Ended | None = None


EMPTY = StoreFacts("", "", 0)


@dataclass(frozen=True, slots=True)
class Start:
    """Ask for ``file`` from ``position`` on. With ``whole`` the file begins with it and is stored from its head.

    The first ``overlap`` bytes of events are stored already: they are to be the same.
    """

    file: str
    position: int
    command: Literal["COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID"]
    overlap: int = 0

    @property
    def whole(self) -> bool:
        """Whether this is the beginning of a file."""
        return self.position == FIRST_POSITION


def timeline_name(facts: SourceFacts) -> str:
    """What a timeline of this source is called: its UUID, or what stands for one.

    A copy is called as what it is a copy of, so that it may be gone on with at that source itself, and the other way
    round.
    """
    if facts.history is not None:
        return facts.history.source_uuid
    return facts.server_uuid or f"server-{facts.server_id}"


def check_identity(facts: SourceFacts, *, server_id: int, server_uuid: str) -> None:
    """SourceRefused when the source has our own server_id or UUID: one of us would end the other's dumps."""
    if facts.server_id == server_id:
        raise SourceRefused(
            f"the source has our own server_id, {server_id}; replication needs different ones",
            hint="set server_id in the configuration to a number that no other server of the topology has",
        )
    if facts.server_uuid == server_uuid:
        raise SourceRefused(
            f"the source has our own server_uuid, {server_uuid}: it is this binlogd, or a copy of its data folder",
            hint="point source.hosts at a MySQL server, or remove auto.cnf from the copied folder",
        )


def plan_resume(facts: SourceFacts, store: StoreFacts) -> Start:
    """Where a store that holds this source's history goes on."""
    begin = store.position - store.overlap
    if begin < COM_BINLOG_DUMP_LIMIT:
        return Start(store.file, begin, "COM_BINLOG_DUMP", store.overlap)
    if facts.gtid_mode != "ON":
        raise SourceRefused(
            f"{store.file} goes on behind 4 GiB, at {store.position}: a source with gtid_mode={facts.gtid_mode}"
            " cannot be asked for that position",
            hint="set gtid_mode=ON at the source, or keep max_binlog_size low enough for its transactions",
        )
    return Start(store.file, begin, "COM_BINLOG_DUMP_GTID", store.overlap)
