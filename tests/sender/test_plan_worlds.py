"""Whatever was stored of several sources, and whatever a replica has: it gets all it lacks, once, or is refused."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.sender.plan import StoredLog, go_on, start_by_gtid
from tests.binlog.making import SID_A
from tests.sender.worlds import Gnos, World, purged_as_told, stored, subsets, worlds

AHEAD = 99  # of a replica that has more than the store


@cache
def gtids(gnos: Gnos) -> GtidSet:
    return GtidSet.from_runs((SID_A, "", gno, gno) for gno in gnos)


def held_at(world: World, index: int) -> GtidSet:
    return gtids(world[index].previous | frozenset(world[index].added))


def sent(world: World, has: Gnos, purged: Gnos) -> list[int]:
    """The GTIDs that a dump sends; raises Refusal."""
    logs = [StoredLog(file.timeline, f"b.{index:06}", 1) for index, file in enumerate(world)]

    def ended(index: int) -> GtidSet:
        return held_at(world, index)

    begin = start_by_gtid(logs, lambda index: gtids(world[index].previous), ended, gtids(has), gtids(purged))
    left_out, added, found = gtids(has), GtidSet(), []
    for index in range(begin, len(world)):
        if index > begin and world[index].timeline != world[index - 1].timeline:
            left_out = go_on(left_out, added, gtids(world[index].previous), GtidSet())
            added = GtidSet()
        added |= gtids(frozenset(world[index].added))
        found += [gno for gno in world[index].added if not left_out.contains(SID_A, "", gno)]
    return found


def built_on_what_is_missing(world: World) -> Gnos:
    """What a file builds on and none before it holds: who has all that is never refused.

    Where a newer timeline holds it again, others can be helped, too: if so, then all the way.
    """
    executed: Gnos = frozenset()
    found: Gnos = frozenset()
    for file in world:
        found |= file.previous - executed
        executed |= file.previous | frozenset(file.added)
    return found


def judge(world: World, has: Gnos) -> None:
    lacks = sorted(stored(world) - has)
    told = purged_as_told(world)
    code = 0
    try:
        found = sent(world, has, told)
    except Refusal as refused:
        code = refused.code
    if code:
        assert code == 1236
        assert not built_on_what_is_missing(world) <= has, (world, has)
        return
    assert told <= has
    assert sorted(found) == lacks, (world, has)


def judge_all(some: Iterable[World], numbers: range) -> int:
    count = 0
    for world in some:
        for has in subsets(numbers):
            judge(world, has)
            judge(world, has | {AHEAD})
            count += 1
    return count


def test_two_timelines() -> None:
    assert judge_all(worlds(2, range(1, 4)), range(1, 4)) == 33_824


def test_three_timelines() -> None:
    assert judge_all(worlds(3, range(1, 3)), range(1, 3)) > 10_000


@pytest.mark.slow
def test_three_larger_timelines() -> None:
    chance = random.Random(11)
    some = (world for world in worlds(3, range(1, 4)) if chance.random() < 0.004)
    assert judge_all(some, range(1, 4)) > 10_000


def test_a_dump_that_would_skip_what_only_an_older_timeline_holds_is_none() -> None:
    """The newer one holds 3 and lacks 2: whoever lacks both must not begin there, though he has what it builds on."""
    world = next(
        world
        for world in worlds(2, range(1, 4))
        if [(file.timeline, file.added) for file in world] == [(1, (1,)), (1, (2,)), (2, (3,))]
        if world[2].previous == {1}
    )
    assert sent(world, frozenset({1}), frozenset()) == [2, 3]
