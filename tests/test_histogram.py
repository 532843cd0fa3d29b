"""Counting by size: the bounds, and what a reader sees."""

from __future__ import annotations

import json

import pytest

from binlogd.histogram import BYTES, SECONDS, Histogram


@pytest.mark.parametrize(
    ("value", "counts"),
    [(0, [1, 0, 0]), (1, [1, 0, 0]), (1.5, [0, 1, 0]), (2, [0, 1, 0]), (2.0001, [0, 0, 1]), (1e9, [0, 0, 1])],
)
def test_a_bound_belongs_to_what_is_below(value: float, counts: list[int]) -> None:
    histogram = Histogram((1, 2))
    histogram.observe(value)
    assert histogram.snapshot() == {"bounds": [1, 2], "counts": counts, "sum": value}


def test_a_snapshot_stays_what_it_was() -> None:
    histogram = Histogram((1, 2))
    before = histogram.snapshot()
    histogram.observe(1.5)
    histogram.observe(0.5)
    assert before == {"bounds": [1, 2], "counts": [0, 0, 0], "sum": 0}
    assert json.loads(json.dumps(histogram.snapshot())) == {"bounds": [1, 2], "counts": [1, 1, 0], "sum": 2.0}


@pytest.mark.parametrize("bounds", [SECONDS, BYTES])
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
