"""The comparison on which "byte-identical" rests can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.binlogd import COMPARE_BLOCK, IN_USE_AT, first_difference

LONG = bytes(range(256)) * (COMPARE_BLOCK // 256 + 1)


@pytest.mark.parametrize(
    ("one", "other", "limit", "difference"),
    [
        (b"", b"", None, None),
        (b"abc", b"abc", None, None),
        (b"abc", b"abd", None, 2),
        (b"abc", b"abd", 2, None),
        (b"ab", b"abc", None, 2),
        (b"abc", b"ab", None, 2),
        (b"abc", b"ab", 2, None),
        (b"ab", b"ab", 3, 2),
        (LONG, LONG, None, None),
        (LONG, LONG[:-1], None, len(LONG) - 1),
        (LONG, LONG[:-1] + b"x", None, len(LONG) - 1),
        (LONG, LONG[:-1] + b"x", len(LONG) - 1, None),
    ],
)
def test_the_first_difference(
    tmp_path: Path, one: bytes, other: bytes, limit: int | None, difference: int | None
) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)

    assert first_difference(tmp_path / "one", tmp_path / "other", limit) == difference


def test_only_the_flag_in_use_is_left_out_of_account(tmp_path: Path) -> None:
    closed = bytearray(40)
    opened = bytearray(closed)
    opened[IN_USE_AT] |= 1
    (tmp_path / "closed").write_bytes(closed)
    (tmp_path / "opened").write_bytes(opened)
    assert first_difference(tmp_path / "closed", tmp_path / "opened") == IN_USE_AT
    assert first_difference(tmp_path / "closed", tmp_path / "opened", in_use=True) is None

    opened[IN_USE_AT] |= 2
    (tmp_path / "opened").write_bytes(opened)
    assert first_difference(tmp_path / "closed", tmp_path / "opened", in_use=True) == IN_USE_AT
