"""Durations and sizes: every spelling, every refusal, and writing back what was read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.units import MAX_DURATION, MAX_SIZE, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("1s", 1.0),
        ("0s", 0.0),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("0.001s", 0.001),
        (" 7d ", 604_800.0),
        ("2w", 1_209_600.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("5 M", 300.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "number with a unit"),
        ("30", "number with a unit"),
        ("-1s", "number with a unit"),
        ("1 fortnight", "number with a unit"),
        ("1e3s", "number with a unit"),
        ("１s", "number with a unit"),
        ("1s30m", "larger unit goes first"),
        ("1s1s", "larger unit goes first"),
        ("0.5ms", "finest step"),
        ("36501d", "at most 36500d"),
    ],
)
def test_no_durations(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (1, "1s"),
        (5400, "1h30m"),
        (604_800, "7d"),
        (1.25, "1s250ms"),
        (86_399, "23h59m59s"),
    ],
)
def test_writes_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, int(MAX_DURATION) * 1000))
def test_durations_round_trip(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (1048576, 1 << 20),
        ("1048576", 1 << 20),
        ("12B", 12),
        ("5GiB", 5 << 30),
        ("5 gib", 5 << 30),
        ("500MB", 500_000_000),
        ("1kB", 1000),
        ("1.5KiB", 1536),
        ("2TB", 2 * 10**12),
        ("7TiB", 7 << 40),
        (str(MAX_SIZE), MAX_SIZE),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "whole bytes or a number"),
        ("GiB", "whole bytes or a number"),
        ("-1", "whole bytes or a number"),
        (-1, "whole bytes or a number"),
        ("5 gigs", "whole bytes or a number"),
        ("5GiB 3MiB", "whole bytes or a number"),
        ("5G", "ambiguous: write GiB .* or GB"),
        ("1.5", "whole number of bytes"),
        ("9223372036854775808", "less than 8 EiB"),
        ("9999999999TiB", "less than 8 EiB"),
    ],
)
def test_no_sizes(text: str | int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (5 << 30, "5GiB"),
        (500_000_000, "500MB"),
        (1536, "1536"),
        (1000, "1kB"),
        (3 << 39, "1536GiB"),
    ],
)
def test_writes_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@given(
    st.integers(0, MAX_SIZE)
    | st.integers(0, 1000).map(lambda n: n << 30)
    | st.integers(0, 999).map(lambda n: n * 10**9)
)
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_nothing_is_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
    with pytest.raises(ValueError, match="negative"):
        format_size(-1)
