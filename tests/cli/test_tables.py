"""Columns that are never cut, and sizes for people."""

from __future__ import annotations

import pytest

from binlogd.cli.tables import aligned, printable
from binlogd.units import human_size


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    long = "mysql-bin" * 40 + ".000001"
    assert aligned([("name", "size", "state"), (long, "7", "newest"), ("b", "123456", "")], right=frozenset({1})) == [
        f"{'name':{len(long)}}    size  state",
        f"{long}       7  newest",
        f"{'b':{len(long)}}  123456",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert aligned([("主库", "a"), ("db", "b")]) == ["主库  a", "db    b"]


def test_a_name_moves_no_cursor() -> None:
    assert aligned([("a\x1b[2J\n", "b")]) == ["a\\x1b[2J\\n  b"]
    assert printable("主库 — ok") == "主库 — ok"


def test_no_rows_are_no_lines() -> None:
    assert aligned([]) == []


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (794, "794 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024 - 1, "10.0 KiB"),
        (100 * 1024 - 1, "100 KiB"),
        (1024**2 - 1, "1.00 MiB"),
        (1_073_741_824, "1.00 GiB"),
        (5 * 1024**4 + 1, "5.00 TiB"),
        (2**63 - 1, "8.00 EiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text
