"""A source's whole history, what it sends of it, and what a store that has so much of it must say it has.

Where events and transactions end is what one walk over the whole files finds, which is tested elsewhere and against
the real servers; everything else here is its own arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from binlogd.binlog.events import FormatDescription, for_position_start
from binlogd.binlog.gtid import GtidSet
from binlogd.binlog.gtid_events import PreviousGtids
from binlogd.binlog.header import ChecksumAlgorithm, EventType
from binlogd.binlog.walk import Mark, Walk
from binlogd.receiver.plan import Start
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, UUID_B, Log
from tests.receiver.support import dump, rotate_to

Place = tuple[str, int]
"""A file's name and an offset in it. They compare as the history goes."""

MARK_SPACING = 100  # bytes between marks at least, so that there are some

NOWHERE: Place = ("", 0)


@dataclass(frozen=True, slots=True)
class Sent:
    """An event, and what stands where it ends."""

    event: bytes
    end: int
    sound: bool  # nothing is unfinished there
    gtids: GtidSet  # that end here


class LoggedFile:
    """One finished file of the source's."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.events: list[Sent] = []
        self.algorithm = ChecksumAlgorithm.OFF
        self.previous: GtidSet | None = None
        self.marks: list[Mark] = []
        at, walk = 4, None
        while at < len(data):
            event = data[at : at + int.from_bytes(data[at + 9 : at + 13], "little")]
            if walk is None:
                self.algorithm = FormatDescription.decode(event).algorithm
                walk = Walk(position=at, checksum=self.algorithm.length, spacing=MARK_SPACING)
                self.marks = walk.marks
            elif event[4] == EventType.PREVIOUS_GTIDS:
                self.previous = PreviousGtids.decode(event, self.algorithm.length).gtids
            walk.whole(event, 0, len(event))
            at += len(event)
            gtids = GtidSet().add_runs(walk.take_gtids())
            self.events.append(Sent(event, at, walk.transaction_end == at, gtids))

    @cached_property
    def ends(self) -> list[int]:
        """Where nothing is unfinished."""
        return [sent.end for sent in self.events if sent.sound]

    @property
    def format(self) -> bytes:
        return self.events[0].event


class Source:
    """Everything it ever logs. Stores are made by receiving from it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {name: LoggedFile(name, data) for name, data in files.items()}
        self.names = sorted(files)
        self._executed: dict[Place, tuple[GtidSet, GtidSet]] = {}

    @property
    def end(self) -> Place:
        """The last place that a store can have."""
        return self.sound((self.names[-1], len(self.files[self.names[-1]].data)))

    @property
    def largest(self) -> int:
        """Bytes of the largest event."""
        return max(len(sent.event) for file in self.files.values() for sent in file.events)

    def sound(self, place: Place) -> Place:
        """The last place up to this one where nothing is unfinished."""
        name, position = place
        if not name:
            return NOWHERE
        ends = self.files[name].ends
        return name, ends[bisect_right(ends, position) - 1]

    def executed(self, place: Place) -> tuple[GtidSet, GtidSet]:
        """What a store that ends there has executed, and what of it was purged."""
        found = self._executed.get(place)
        if found is None:
            name, position = place
            executed, purged = GtidSet(), GtidSet()
            for file in (self.files[each] for each in self.names if each <= name):
                end = position if file.name == name else len(file.data)
                if file.previous is not None and end > file.events[0].end:
                    purged |= file.previous - executed
                    executed |= file.previous
                for sent in file.events:
                    if sent.end <= end:
                        executed |= sent.gtids
            found = self._executed[place] = executed, purged
        return found

    def script(self, start: Start, chance: Random, *, semi_sync: bool, flags: float) -> list[tuple[bytes, Place]]:
        """The packets of a dump, each with the place that is reached by it."""
        first = self.names.index(start.file) if start.file else 0
        events: list[bytes | tuple[bytes, bool]] = []
        places: list[Place] = []
        algorithm = self.files[self.names[first]].algorithm
        for name in self.names[first:]:
            file = self.files[name]
            position = start.position if name == start.file else 4
            events.append(rotate_to(name, position, algorithm))
            places.append((name, position))
            if position > 4:
                events.append(for_position_start(file.format))
                places.append((name, position))
            for sent in file.events:
                if sent.end > position:
                    asks = sent.sound and sent.event[4] not in NO_TRANSACTIONS and chance.random() < flags
                    events.append((sent.event, asks))
                    places.append((name, sent.end))
            algorithm = file.algorithm
        return list(zip(packets(events, semi_sync=semi_sync), places, strict=True))


NO_TRANSACTIONS = {EventType.FORMAT_DESCRIPTION, EventType.PREVIOUS_GTIDS, EventType.ROTATE, EventType.STOP}


def packets(events: list[bytes | tuple[bytes, bool]], *, semi_sync: bool) -> list[bytes]:
    """Each event's packet, numbered as a source numbers them: anew behind one that it waits for."""
    made, sequence = [], 1
    for event in events:
        packet = dump([event], semi_sync=semi_sync, sequence=sequence)
        asks = semi_sync and isinstance(event, tuple) and event[1]
        sequence = 1 if asks else (sequence + -(-len(packet) // 0x1000000)) & 0xFF
        made.append(packet)
    return made


def made_source(chance: Random, checksums: Sequence[ChecksumAlgorithm] = ()) -> Source:
    """Files with transactions of every kind and size, that end in every way in which a server lets them end."""
    files: dict[str, bytes] = {}
    with_gtids = chance.random() < 0.85
    executed = GtidSet.parse(f"{UUID_B}:1-7") if chance.random() < 0.3 else GtidSet()
    following = {(SID_A, ""): 1, (SID_B, "nightly"): 1}
    count = chance.randrange(2, 5)
    created = 1  # a server's first file says when it started
    checksums = checksums or chance.choice(([CRC32], [OFF], [CRC32, OFF]))
    for number in range(1, count + 1):
        log = Log(chance.choice(checksums), created=created).begin_file(executed if with_gtids else None)
        created = 1
        for _ in range(chance.randrange(0, 5)):
            sid, tag = chance.choice([*following, (SID_A, "")])
            gno = following[sid, tag] if with_gtids else 0
            tag = tag if with_gtids else ""
            match chance.randrange(6):
                case 0:
                    log.statement(gno, sid, tag)
                case 1:
                    log.payload(gno, sid, tag, size=chance.choice((10, 700, 3000)))
                case 2:
                    log.transaction(gno, sid, tag, sizes=[chance.randrange(2000, 9000)] * chance.randrange(1, 4))
                case _:
                    log.transaction(gno, sid, tag, sizes=[chance.randrange(1, 800)] * chance.randrange(1, 4))
            following[sid, tag if with_gtids else ""] = gno + 1
        executed |= log.set
        match chance.randrange(6):
            case 0:
                log.stop()
            case 1 if number < count:  # it crashed in the middle of one, and never logged the rest
                log.gtid(following[SID_A, ""] if with_gtids else 0)
                log.query(b"BEGIN")
            case _:
                log.rotate(f"mysql-bin.{number + 1:06}")
                created = 0
        files[f"mysql-bin.{number:06}"] = bytes(log.data)
    return Source(files)


SOURCE_UUID = UUID_A
