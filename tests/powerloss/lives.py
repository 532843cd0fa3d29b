"""Stores that live through power losses, kills and failing disks while a receiver fills them, and what must hold.

Theory. A *life* is a folder on a disk whose power may fail (tests/store/powerloss.py), and one receiver after the other
on it, each a process: the real recovery, the real stream from a scripted source, the real tail. What binlogd has said
to anybody is its *promise*: what it acknowledged to the source, what it published, what a sender found on the disk
without it. While it lives, images are taken of what a power loss would leave, each with the promise of that moment;
and every image is a life of its own, which must

* show a reader nothing but what the source sent, in whole transactions, and everything that was promised;
* be recovered without complaint to exactly that, and be so durably: images are taken of it, too, while that is done;
* be received to the end, and then equal the source's files and the indexes of a store that nothing ever happened to.

Everything is drawn from one number, the seed.
"""

from __future__ import annotations

import shutil
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from binlogd.binlog.walk import Walk
from binlogd.errors import StoreUnreadable, Unreachable
from binlogd.receiver import stream
from binlogd.receiver.link import Link
from binlogd.receiver.progress import Progress
from binlogd.receiver.stream import Stream
from binlogd.sender.catalog import Catalog
from binlogd.store import reader, recovery, settled, tail
from binlogd.store.index import index_path
from binlogd.store.layout import DataFolder, Identity, binlog_base
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.recovery import recover
from binlogd.store.source_facts import SourceSettings, load
from binlogd.store.tail import Tail
from tests.powerloss.source import MARK_SPACING, NOWHERE, SOURCE_UUID, Place, Source
from tests.receiver.support import start_of
from tests.store.powerloss import PAGE, FailingPower, Fate, Image, Killed, LateSync, put

DATA = "data"  # the data folder, in a folder that is sure
SETTINGS = SourceSettings({"gtid_mode": "ON"})

FLOWING = 3_000  # bytes; this and what follows stand for the stream's own megabytes
WRITE_AT = 2_000
SYNC_AT = 4_000
UNSYNCED_MOST = 9_000
BUFFER = 64 * 1024
CHUNK = 4_096  # bytes that come at once at most
DEEPEST = 3  # power losses one after the other


@dataclass(frozen=True, slots=True)
class Promise:
    """What was said: ``acked`` to the source, ``shown`` to replicas; and how far the source had ``sent``."""

    acked: Place = NOWHERE
    shown: Place = NOWHERE
    sent: Place = NOWHERE
    identity: Identity | None = None


class Clock:
    """The stream's time, so that every run of a seed is the same."""

    def __init__(self, chance: Random) -> None:
        self._now = 0.0
        self._chance = chance

    def monotonic(self) -> float:
        self._now += self._chance.random() * 0.006
        return self._now


class ScriptedLink(Link):
    """A connection on which a script comes in, in any pieces and with any pauses, and then the source hangs up."""

    def __init__(self, life: Life, script: list[tuple[bytes, Place]], chance: Random) -> None:
        self.peer = "the script"
        self._life = life
        self._data = b"".join(packet for packet, _ in script)
        self._places = [place for _, place in script]
        self._ends = list(accumulate(len(packet) for packet, _ in script))
        self._at = 0
        self._whole = 0  # packets that have come
        self._chance = chance
        self._end = len(self._data) if chance.random() < 0.6 else chance.randrange(len(self._data) + 1)
        self._most = chance.choice((60, 700, CHUNK))
        self._pauses = chance.choice((0.0, 0.05, 0.5))
        self._layered = chance.random() < 0.3

    @property
    def layered(self) -> bool:
        return self._layered

    def receive_into(self, buffer: memoryview) -> int | None:
        if self._at < self._end and self._chance.random() < self._pauses:
            return None
        size = min(self._chance.randrange(1, self._most + 1), len(buffer), self._end - self._at)
        if not size:
            raise Unreachable("the source closed the connection", code=2013)
        buffer[:size] = self._data[self._at : self._at + size]
        self._at += size
        if (whole := bisect_right(self._ends, self._at)) > self._whole:
            self._whole = whole
            self._life.sent(self._places[whole - 1])
        return size

    def wait_readable(self) -> None:
        pass

    def gather(self, size: int, timeout: float) -> bool:
        return self._chance.random() < 0.8

    def check_stop(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        assert data[3:5] == b"\0\xef", "an ACK has sequence id 0"
        self._life.acked((data[13:].decode(), int.from_bytes(data[5:13], "little")))


@dataclass(slots=True)
class Case:
    """An image to be judged, and what was promised before."""

    image: Image
    promise: Promise
    depth: int
    done: tuple[str, ...]  # before


class World:
    """All lives of one source, from an empty folder on. ``images`` counts the different ones that were judged.

    Without ``durable`` nothing is promised (durability = "os"), and all else must hold.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        seed: int,
        patch: pytest.MonkeyPatch,
        *,
        rate: float = 1.0,
        durable: bool = True,
    ) -> None:
        self.path = path
        self.source = source
        self.durable = durable
        self.images = 0
        self.kills = 0
        self.failures = 0
        self.tails: dict[bytes, None] = {}  # newest files as recovery left them
        self.rates = (rate, 0.02 * rate, 0.006 * rate, 0.0)  # images a step, by depth
        self._seed = seed
        self._chance = Random(seed)
        self._known: set[int] = set()
        self._cases: list[Case] = []
        self._lives = 0
        assert source.largest < BUFFER // 2
        patch.setattr(stream, "BUFFER", BUFFER)
        patch.setattr(reader, "BLOCK", BUFFER)
        patch.setattr(stream, "FLOWING", FLOWING)
        patch.setattr(stream, "WRITE_AT", WRITE_AT)
        patch.setattr(stream, "SYNC_AT", SYNC_AT)
        patch.setattr(stream, "UNSYNCED_MOST", UNSYNCED_MOST)
        if durable:
            for module in (recovery, settled):
                patch.setattr(module, "TORN_LIMIT", UNSYNCED_MOST + FLOWING + WRITE_AT + CHUNK + source.largest)
            patch.setattr(settled, "FOLIO", PAGE)
        patch.setattr(stream, "time", Clock(self._chance))
        patch.setattr("binlogd.store.writer.BackgroundSync", LateSync)
        for module in (reader, tail):
            patch.setattr(module, "Walk", partial(Walk, spacing=MARK_SPACING))
        self._patch = patch
        self.reference: dict[str, bytes] | None = None
        self.reference = self._reference()

    def _reference(self) -> dict[str, bytes]:
        """What a store is like that nothing ever happened to."""
        root = self.path / "reference"
        root.mkdir(parents=True)
        life = Life(self, root, Promise(), DEEPEST, kills=False)
        life.live()
        return life.files()

    def live_and_let_die(self, most: int) -> None:
        """Fill one store, and judge ``most`` images that its lives might leave, or all."""
        root = self.path / "first"
        root.mkdir()
        self._of(Life(self, root, Promise(), 0, kills=True), None)
        shutil.rmtree(root)
        self._chance.shuffle(self._cases)
        most += self.images
        while self._cases and self.images < most:
            case = self._cases.pop()
            root = self.path / "image"
            put(case.image, root)
            self.images += 1
            self._of(Life(self, root, case.promise, case.depth, kills=self._chance.random() < 0.2), case)
            shutil.rmtree(root)
        self._cases.clear()

    def _of(self, life: Life, case: Case | None) -> None:
        """Live it; a failure says how to see it again."""
        try:
            life.live()
        except BaseException as bad:
            bad.add_note(f"seed {self._seed}, image {self.images}, kept in {life.root}")
            if case is not None:
                bad.add_note(f"depth {case.depth}, {case.promise}")
                bad.add_note(f"before the power failed: {'; '.join(case.done)}")
            bad.add_note(f"since then: {'; '.join(life.disk.done)}")
            shutil.copytree(life.root, life.root.with_name("failed"), dirs_exist_ok=True)
            raise

    def take(self, disk: FailingPower, promise: Promise, depth: int) -> None:
        """An image of what a power loss would leave now."""
        chance = self._chance
        corner = chance.random() < 0.4
        names, data = (chance.choice(list(Fate) if not corner else [Fate.LOST, Fate.KEPT]) for _ in range(2))
        image = disk.image(names, data)
        key = hash((promise, frozenset(image.items())))
        if key not in self._known:
            self._known.add(key)
            self._cases.append(Case(image, promise, depth + 1, tuple(disk.done)))

    def use(self, disk: FailingPower) -> None:
        """It is the disk of all processes now."""
        disk.use(self._patch)


class Life:
    """One store on one disk, until everything is received. ``kills``: whether anything happens but what began it."""

    def __init__(self, world: World, root: Path, promise: Promise, depth: int, *, kills: bool) -> None:
        self.root = root
        self.promise = promise
        self._world = world
        self._source = world.source
        self._depth = depth
        self._chance = world._chance
        self._kills = kills
        self._folder = DataFolder(root / DATA)
        self.disk = FailingPower(root, self._chance)
        self._failing = False

    def live(self) -> None:
        """One process after the other."""
        disk = self.disk
        self._world.use(disk)
        disk.on_step = self._look
        disk.fails = self._fails
        while True:
            if self._kills and self._chance.random() < 0.6:
                disk.kill_in = int(90 ** self._chance.random())  # most often at once, for there are more of these
            try:
                if self._chance.random() < 0.5:
                    self._serve_what_is_there()
                self._receive()
            except Killed:
                self._world.kills += 1
                self._kills = self._chance.random() < 0.8
            except StoreUnreadable:
                assert self._failing
                self._world.failures += 1
            else:
                break
            finally:
                disk.die()
                self._failing = False
        self._is_complete()

    # --- what happens ---

    def sent(self, place: Place) -> None:
        self.promise = replace(self.promise, sent=max(self.promise.sent, place))

    def acked(self, place: Place) -> None:
        self.promise = replace(self.promise, acked=max(self.promise.acked, place))
        self._look()

    def published(self, publication: Publication) -> None:
        self._is_sound(publication)
        self.promise = replace(self.promise, shown=max(self.promise.shown, _place(publication)))
        self._look()

    def _look(self) -> None:
        rate = self._world.rates[self._depth]
        while self._chance.random() < rate:
            self._world.take(self.disk, self.promise, self._depth)
            rate -= 1.0

    def _fails(self, path: Path) -> bool:
        self._failing = self._kills and self._chance.random() < 0.01
        if self._failing and self._chance.random() < 0.3:
            self.disk.kill_in = 1  # before it hears of it
        return self._failing

    # --- the processes ---

    def _serve_what_is_there(self) -> None:
        """A sender without a receiver."""
        if not self._folder.exists():
            return
        catalog = Catalog(self._folder)
        catalog.read()
        self.published(catalog.publication)
        if catalog.logs:
            marks = list(catalog.marks(-1))
            assert marks == self._source.files[catalog.logs[-1].name].marks[: len(marks)]

    def _receive(self) -> None:
        folder, disk = self._folder, self.disk
        folder.prepare(disk)
        identity = folder.identity(disk)
        assert self.promise.identity in (None, identity)
        self.promise = replace(self.promise, identity=identity)
        self._look()
        recovered = recover(folder, disk)
        self._is_mended(recovered.publication)
        self.published(recovered.publication)
        ours = None
        if recovered.timeline is not None:
            ours = Tail(
                disk=disk,
                timeline=recovered.timeline,
                publication=recovered.publication,
                contents=recovered.tail,
                durable=self._world.durable,
            )
        try:
            while ours is None or _place(ours.publication) < self._source.end:
                if ours is None:
                    timeline = folder.new_timeline(disk, SOURCE_UUID)
                    durable = self._world.durable
                    ours = Tail(disk=disk, timeline=timeline, publication=NOTHING, contents=None, durable=durable)
                ours.rewind()
                SETTINGS.save(disk, ours.timeline.path)
                self._connect(ours)
        except StoreUnreadable:
            if ours is not None:
                ours.close()
            raise
        ours.close()

    def _connect(self, ours: Tail) -> None:
        chance = self._chance
        start = start_of(ours)
        if ours.name and chance.random() < 0.8:  # as the receiver does, which wants to see what it has again
            overlap = ours.overlap()
            start = replace(start, position=start.position - overlap, overlap=overlap)
        semi_sync = chance.random() < 0.7
        script = self._source.script(start, chance, semi_sync=semi_sync, flags=chance.choice((0.0, 0.1, 0.7, 1.0)))
        first = self._source.files[start.file or self._source.names[0]]
        receiving = Stream(
            link=ScriptedLink(self, script, chance),
            tail=ours,
            start=start,
            announced=first.algorithm.length,
            publish=self.published,
            progress=Progress(),
            semi_sync=semi_sync,
            sequence=1,
            received=b"",
        )
        try:
            receiving.run()
        except Unreachable:
            pass

    # --- what must hold ---

    def _is_sound(self, publication: Publication) -> None:
        """It is what the source sent, whole, and no less than what was promised."""
        source, place = self._source, _place(publication)
        assert place == source.sound(place), "whole transactions"
        assert place <= self.promise.sent, "nobody is shown what was never sent"
        if self._world.durable:
            assert place >= source.sound(self.promise.acked), "what was acknowledged is kept"
            assert place >= self.promise.shown, "what was shown is kept"
        assert (publication.executed, publication.purged) == source.executed(place)
        if place == NOWHERE:
            return
        path = self._folder.timelines()[-1].path
        for name in source.names[: source.names.index(place[0])]:
            assert (path / name).read_bytes() == source.files[name].data
        stored = (path / place[0]).read_bytes()
        assert stored[: place[1]] == source.files[place[0]].data[: place[1]]
        assert len(stored) >= place[1]

    def _is_mended(self, publication: Publication) -> None:
        """What recovery leaves: no more than what it shows, and everything beside it made anew."""
        if not publication.file:
            return
        files = self.files()
        names = [name for name in self._source.names if name <= publication.file]
        assert len(files.pop(publication.file)) == publication.position
        newest = (self._folder.timelines()[-1].path / publication.file).read_bytes()
        self._world.tails[newest] = None
        assert files.pop(f"{binlog_base(names[0])}.index") == "".join(f"./{name}\n" for name in names).encode()
        for name in names[:-1]:
            assert files.pop(name) == self._source.files[name].data
            beside = index_path(Path(name)).name
            assert self._world.reference is not None
            assert files.pop(beside) == self._world.reference[beside]
        assert set(files) <= {"source.json", f"{names[-1]}.idx", f"{names[-1]}.synced"}

    def _is_complete(self) -> None:
        """As if nothing had happened."""
        found = self.files()
        found.pop(f"{self._source.names[-1]}.idx", None)  # of a file that was finished before more of it came
        assert self._world.reference in (None, found)
        for name, file in self._source.files.items():
            end = self._source.end[1] if name == self._source.end[0] else len(file.data)
            assert found[name] == file.data[:end]
        assert load(self._folder.timelines()[-1].path) == SETTINGS

    def files(self) -> dict[str, bytes]:
        """The newest timeline's, but for what recovery put aside, and marks, on which nothing relies."""
        (timeline,) = self._folder.timelines()
        return {
            path.name: path.read_bytes()
            for path in timeline.path.iterdir()
            if ".cut-" not in path.name and path.suffix != ".marks"
        }


def _place(publication: Publication) -> Place:
    return publication.file, publication.position
