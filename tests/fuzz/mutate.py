"""A plain mutator, for a short run without atheris: no coverage guides it, a seed makes it the same every time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

TELLING = (0, 1, 2, 3, 4, 15, 16, 19, 0x7F, 0x80, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)
MOST = 16 * 1024  # bytes of an input


def mutants(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` inputs that are near the seeds."""
    chance = random.Random(seed)
    for number in range(count):
        data = bytearray(seeds[number % len(seeds)][:MOST])
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _mutate(data, chance, seeds)
        yield bytes(data[:MOST])


def _mutate(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    size = chance.randrange(1, 9)
    match chance.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.choice(TELLING)
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = chance.randbytes(size)
        case 4:
            data[at:at] = data[at : at + 8 * size]
        case 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at : at + size] = other[start : start + 8 * size]
        case 6:
            data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\xfe"))
        case _:
            del data[chance.randrange(len(data) + 1) :]
