"""Small histories of several sources, and what a store that followed them holds.

A source's history is some GTIDs, in the order in which it logged them, cut into files. A timeline begins with the
newest file of its source all of whose PREVIOUS_GTIDS are held by then; it may lack what is held (a divergence), and may
have it again. At last the oldest files of the store are purged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product

Gnos = frozenset[int]
History = tuple[tuple[int, ...], ...]  # files of GTIDs, each of which has its number


@dataclass(frozen=True, slots=True)
class File:
    """A stored file: its timeline's number, PREVIOUS_GTIDS, and the GTIDs that it adds, in order."""

    timeline: int
    previous: Gnos
    added: tuple[int, ...]


World = tuple[File, ...]


def histories(numbers: Sequence[int], *, orderly: bool = False) -> Iterator[History]:
    """All that a source may have logged of these; an ``orderly`` one logs them as they are numbered, from the first."""
    for count in range(len(numbers) + 1):
        for order in [tuple(numbers[:count])] if orderly else permutations(numbers, count):
            for cuts in (c for size in range(count + 1) for c in combinations(range(1, count + 1), size)):
                yield tuple(order[a:b] for a, b in zip((0, *cuts), (*cuts, count), strict=True))


def store_of(lines: Iterable[History]) -> World | None:
    """What a store holds that followed these sources, one after the other; None when one of them was refused."""
    files: list[File] = []
    held: Gnos = frozenset()
    for number, history in enumerate(lines, 1):
        claims = [frozenset(gno for file in history[:index] for gno in file) for index in range(len(history))]
        fitting = [index for index, claim in enumerate(claims) if claim <= held]
        if not fitting:
            return None
        begin = fitting[-1] if files else 0
        files += (File(number, claims[index], history[index]) for index in range(begin, len(history)))
        held = held.union(claims[begin], *history[begin:])
    return tuple(files)


def worlds(timelines: int, numbers: Sequence[int]) -> Iterator[World]:
    """All stores with so many timelines, of which no, one, … of the oldest files were purged."""
    later = list(histories(numbers))
    for lines in product(histories(numbers, orderly=True), *[later] * (timelines - 1)):
        files = store_of(lines)
        if files is not None:
            yield from (files[purged:] for purged in range(len(files)))


def purged_as_told(world: World) -> Gnos:
    """What the store says was purged (store/reader.py, ``Holdings``): what a file builds on that is in none."""
    return frozenset(gno for file in world for gno in file.previous) - stored(world)


def stored(world: World) -> Gnos:
    """What is in the files."""
    return frozenset(gno for file in world for gno in file.added)


def subsets(numbers: Sequence[int]) -> list[Gnos]:
    """All sets of these."""
    return [frozenset(some) for size in range(len(numbers) + 1) for some in combinations(numbers, size)]
