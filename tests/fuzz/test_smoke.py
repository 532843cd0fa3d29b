"""Every target over a few thousand inputs of a fixed mutator, and over all that was ever found."""

from __future__ import annotations

import time

import pytest

from tests.fuzz import targets
from tests.fuzz.mutate import mutants

COUNT = {
    "listener": 2000,
    "source": 3000,
    "stream": 1500,
    "events": 6000,
    "gtids": 3000,
    "configuration": 150,
    "sql": 800,
    "listing": 2000,
    "dump": 500,
}
SLOWEST = 5.0  # seconds for one input, as in a real run


@pytest.mark.parametrize("name", targets.TARGETS)
def test_near_what_is_real(name: str) -> None:
    run, seeds = targets.load(name).run, targets.inputs(name, targets.KEPT)
    assert seeds
    for data in (*seeds, *mutants(seeds, COUNT[name], seed=20261124)):
        began = time.monotonic()
        try:
            run(data)
        except BaseException as error:
            error.add_note(f"the input: {data!r}")
            raise
        assert time.monotonic() - began < SLOWEST
