"""The hot modules compiled and plain: the same bytes, offsets, findings and errors, of sound and of broken input.

Buffers are exactly as large as what is in them, so that a sanitizer sees every byte read or written beside them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from binlogd import binlog
from binlogd.binlog import excerpt, framing, walk
from binlogd.binlog.gtid import GtidSet
from binlogd.errors import BinlogdError
from tests.binlog.feeding import framed
from tests.binlog.making import CRC32, OFF, SID_A, SID_B, UUID_A, UUID_B, Log, sample

pytestmark = pytest.mark.skipif(not binlog.compiled(), reason="the hot modules are not compiled")

ROUNDS = 400
FOUND = ("position", "transaction_end", "transactions", "first_time", "last_time", "boundary", "type", "length")


@pytest.fixture(scope="module")
def every() -> list[tuple[ModuleType, ...]]:
    """(walk, framing, excerpt), compiled and not."""
    compiled = walk, framing, excerpt
    try:
        binlog.load_plain()
        plain = tuple(sys.modules[module.__name__] for module in compiled)
    finally:
        for name, module in zip(binlog.HOT, compiled, strict=True):
            sys.modules[module.__name__] = module
            setattr(binlog, name, module)
    return [compiled, plain]


@pytest.fixture(scope="module")
def both(every: list[tuple[ModuleType, ...]]) -> list[tuple[ModuleType, ModuleType]]:
    """(walk, framing), compiled and not."""
    return [(one[0], one[1]) for one in every]


def test_they_are_two(both: list[tuple[ModuleType, ModuleType]]) -> None:
    (compiled, _), (plain, framing_too) = both
    assert compiled is sys.modules["binlogd.binlog.walk"]
    assert plain.__file__ is not None and plain.__file__.endswith(".py")
    assert framing_too.Walk is plain.Walk is not compiled.Walk


def mutated(data: bytes, chance: random.Random) -> bytearray:
    """Some bytes changed, taken out or put in, near the heads of events as likely as anywhere."""
    made = bytearray(data)
    for _ in range(chance.randrange(0, 4)):
        at = chance.randrange(len(made))
        match chance.randrange(6):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at] = chance.choice((0, 1, 2, 15, 33, 35, 42, 127, 128, 162, 255))
            case 2:
                del made[at : at + chance.randrange(1, 30)]
            case 3:
                made[at:at] = chance.randbytes(chance.randrange(1, 30))
            case 4:
                made[at : at + 2] = chance.choice((b"\xff\xff", b"\0\0", b"\xff\0"))
            case _:
                del made[chance.randrange(len(made) // 2, len(made)) :]
        if not made:
            return bytearray(data)
    return made


def outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (BinlogdError, ValueError) as bad:
        return type(bad), str(bad)


def findings(follower: Any) -> list[Any]:
    found = [getattr(follower, name) for name in FOUND]
    marks = [tuple(mark) for mark in follower.marks]
    return [*found, marks, [tuple(run) for run in follower.take_gtids()]]


def events(chance: random.Random) -> Log:
    log = Log(chance.choice([CRC32, OFF]), log_positions=chance.random() < 0.3).begin_file()
    for gno in range(1, chance.randrange(2, 6)):
        make = chance.choice(["transaction", "statement", "payload"])
        getattr(log, make)(gno, chance.choice([SID_A, SID_B]), chance.choice(["", "", "nightly"]))
    for text in chance.sample([b"XA START 'a'", b"XA COMMIT", b"XA ROLLBACK", b"COMMIT", b"XA", b"ROLLBACK"], 3):
        log.query(text)
    return log


@pytest.mark.parametrize("seed", range(4))
def test_walking(both: list[tuple[ModuleType, ModuleType]], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        log = events(chance)
        data = mutated(bytes(log.data[4:]), chance)
        start = chance.randrange(0, min(len(data), 5)) if chance.random() < 0.1 else 0
        checksum = chance.choice([log.checksum, 0])
        results = []
        for walk_module, _ in both:
            follower = walk_module.Walk(position=4, checksum=checksum)
            result = outcome(lambda: follower.walk(data, start, len(data)))  # noqa: B023
            results.append((result, findings(follower)))
        assert results[0] == results[1]


@pytest.mark.parametrize("seed", range(4))
def test_splitting(both: list[tuple[ModuleType, ModuleType]], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        log = events(chance)
        semi_sync = chance.random() < 0.5
        stream = mutated(
            framed([(event, chance.random() < 0.2) for event in log.each()[1:]], semi_sync=semi_sync), chance
        )
        results = []
        for walk_module, framing_module in both:
            intake = framing_module.Intake(semi_sync=semi_sync, sequence=1)
            intake.walk = walk_module.Walk(position=log.events[0].end, checksum=log.checksum)
            out = bytearray(len(stream))
            result: list[Any] = [outcome(lambda: intake.scan(stream, 0, len(stream), memoryview(out)))]  # noqa: B023
            result += [intake.consumed, intake.filled, intake.event, intake.ack_owed, bytes(out)]
            results.append(result + findings(intake.walk))
        assert results[0] == results[1]


@pytest.mark.parametrize("seed", range(4))
def test_framing(both: list[tuple[ModuleType, ModuleType]], seed: int) -> None:
    chance = random.Random(seed)
    sets = [None, GtidSet.parse(f"{UUID_A}:1-2:nightly:1-3,{UUID_B}:2"), GtidSet.parse(f"{UUID_A}:1-9,{UUID_B}:1-9")]
    for _ in range(ROUNDS):
        log = events(chance)
        data = mutated(bytes(log.data[4:]), chance)
        has = chance.choice(sets)
        results = []
        for _, framing_module in both:
            outlet = framing_module.Outlet(sequence=7, covering=has.covering if has else None)
            outlet.checksum = log.checksum
            out = bytearray(framing_module.room_for(len(data)))
            result: list[Any] = [outcome(lambda: outlet.frame(data, 0, len(data), memoryview(out)))]  # noqa: B023
            result += [outlet.consumed, outlet.filled, outlet.position, outlet.skipped_to, outlet.sequence, bytes(out)]
            results.append(result)
        assert results[0] == results[1]


@pytest.mark.parametrize("way", [0, 1])
def test_what_is_not_within_the_buffers_is_refused(both: list[tuple[ModuleType, ModuleType]], way: int) -> None:
    walk_module, framing_module = both[way]
    data = bytearray(sample().data[4:])
    size = len(data)
    for start, end in ((-1, 5), (0, size + 1), (5, 4)):
        with pytest.raises(ValueError, match="not within"):
            walk_module.Walk(position=4, checksum=4).walk(data, start, end)
        with pytest.raises(ValueError, match="not within"):
            framing_module.Intake(semi_sync=False, sequence=1).scan(data, start, end, memoryview(bytearray(2 * size)))
        outlet = framing_module.Outlet(sequence=1, covering=None)
        with pytest.raises(ValueError, match="not within"):
            outlet.frame(data, start, end, memoryview(bytearray(2 * size)))
    with pytest.raises(ValueError, match="room"):
        framing_module.Intake(semi_sync=False, sequence=1).scan(data, 0, size, memoryview(bytearray(size - 1)))
    outlet = framing_module.Outlet(sequence=1, covering=None)
    with pytest.raises(ValueError, match="room"):
        outlet.frame(data, 0, size, memoryview(bytearray(framing_module.room_for(size) - 1)))
    for at, length in ((-1, 30), (0, size + 1), (size - 5, 5), (0, -1)):
        with pytest.raises(BinlogdError):
            walk_module.Walk(position=4, checksum=4).whole(data, at, length)


def excerpted(walk: ModuleType, excerpt: ModuleType, data: bytearray, chance: random.Random) -> list[Any]:
    """What becomes of the bytes, given in pieces; at their end, where they are bad, or where the excerpt ends."""
    checksum, into = chance.choice((0, 4)), chance.choice((0, 4))
    bounds = {
        "from_time": chance.choice((None, 1_700_000_005_000_000)),
        "to_time": chance.choice((2**60, 10**15 * 17 // 10)),
    }
    has = chance.choice((None, GtidSet.parse(f"{UUID_A}:2-4,{UUID_B}:nightly:1")))
    made = excerpt.Excerpt(checksum=into, **bounds)
    made.begin(walk.Walk(position=4, checksum=checksum), has.covering if has is not None else None)
    made.stand(4)
    written, start = bytearray(), 0
    results: list[Any] = []
    for end in sorted(chance.randrange(len(data) + 1) for _ in range(6)) + [len(data)] * 3:
        buffer = bytearray(data[start:end])
        out = bytearray(made.filled + excerpt.room_for(len(buffer)))
        if not buffer:
            continue
        made.filled = made.settled = 0
        result = outcome(partial(made.scan, buffer, 0, len(buffer), memoryview(out)))
        written += out[: made.filled]
        results.append((result, made.filled, made.settled, made.position, made.settled_position, made.group))
        results.append((made.begun, made.ended, made.transactions, made.consumed))
        if result is not None or made.ended:
            break
        start += made.consumed
    return [bytes(written), *results]


def test_excerpt(every: list[tuple[ModuleType, ...]]) -> None:
    for seed in range(ROUNDS):
        chance = random.Random(seed)
        data = mutated(bytes(sample(chance.choice((CRC32, OFF))).data[4:]), chance)
        outcomes = [excerpted(one[0], one[2], data, random.Random(seed)) for one in every]
        assert outcomes[0] == outcomes[1], seed
