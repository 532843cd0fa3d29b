"""Where a dump to a replica begins, and with which words it is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.sender.plan import StoredLog, start_by_gtid, start_by_position
from tests.binlog.making import SID_A, UUID_A, UUID_B


def log(number: int, *, size: int = 1000, timeline: int = 1) -> StoredLog:
    return StoredLog(timeline, f"b.{number:06}", size)


def by_gtid(has: str, *timelines: Sequence[str | None], purged: str = "", asked: list[int] | None = None) -> int:
    """Where a dump begins, of timelines whose files claim these PREVIOUS_GTIDS."""
    logs = [log(i, timeline=n) for n, claims in enumerate(timelines, 1) for i in range(1, len(claims) + 1)]
    every = [None if claim is None else GtidSet.parse(claim) for claims in timelines for claim in claims]

    def claims(index: int) -> GtidSet | None:
        if asked is not None:
            asked.append(index)
        return every[index]

    return start_by_gtid(logs, claims, GtidSet.parse(has), GtidSet.parse(purged))


LOGS = [log(1, size=500), log(2, size=2**33), log(3, size=300)]
CLAIMS = ["", f"{UUID_A}:1-5", f"{UUID_A}:1-9"]


# --- by position ---


@pytest.mark.parametrize(
    ("name", "position", "index"),
    [
        ("b.000001", 4, 0),
        ("b.000001", 500, 0),
        ("b.000002", 2**32 + 5, 1),
        ("b.000003", 300, 2),
        ("", 4, 0),
        ("", 500, 0),
    ],
)
def test_by_position(name: str, position: int, index: int) -> None:
    assert start_by_position(LOGS, name, position) == index


@pytest.mark.parametrize("position", [0, 1, 3, -1])
def test_before_the_first_position(position: int) -> None:
    with pytest.raises(Refusal, match="from position < 4") as caught:
        start_by_position(LOGS, "b.000001", position)
    assert (caught.value.code, caught.value.sqlstate) == (1236, "HY000")


@pytest.mark.parametrize(("name", "position"), [("b.000001", 501), ("b.000003", 301), ("", 501), ("b.000002", 2**34)])
def test_behind_the_end(name: str, position: int) -> None:
    with pytest.raises(Refusal, match="from position > file size"):
        start_by_position(LOGS, name, position)


@pytest.mark.parametrize(
    ("logs", "name"), [(LOGS, "b.000004"), (LOGS, "B.000001"), (LOGS, "./b.000001"), ([], "b.000001"), ([], "")]
)
def test_a_file_that_is_not_there(logs: Sequence[StoredLog], name: str) -> None:
    with pytest.raises(Refusal, match="Could not find first log file name in binary log index file"):
        start_by_position(logs, name, 4)


def test_of_two_timelines_the_newest_has_the_name() -> None:
    logs = [log(1), log(2), log(1, timeline=2, size=77), log(2, timeline=2)]
    assert start_by_position(logs, "b.000001", 77) == 2
    with pytest.raises(Refusal, match="file size"):
        start_by_position(logs, "b.000001", 78)
    assert start_by_position(logs, "", 4) == 0


# --- by GTID ---


@pytest.mark.parametrize(
    ("has", "index"),
    [
        ("", 0),
        (f"{UUID_A}:1-4", 0),
        (f"{UUID_A}:2-9", 0),
        (f"{UUID_A}:1-5", 1),
        (f"{UUID_A}:1-8", 1),
        (f"{UUID_A}:1-9", 2),
        (f"{UUID_A}:1-99,{UUID_B}:1", 2),
        (f"{UUID_B}:1-99", 0),
        (f"{UUID_A}:tag:1-9", 0),
    ],
)
def test_by_gtid(has: str, index: int) -> None:
    assert by_gtid(has, CLAIMS) == index


@pytest.mark.parametrize(
    ("has", "missing"),
    [("", f"{UUID_A}:1-5,{UUID_B}:7"), (f"{UUID_A}:1-9", f"{UUID_B}:7"), (f"{UUID_A}:1-3,{UUID_B}:7", f"{UUID_A}:4-5")],
)
def test_what_was_purged_is_named_with_mysqls_words(has: str, missing: str) -> None:
    with pytest.raises(Refusal) as caught:
        by_gtid(has, CLAIMS, purged=f"{UUID_A}:1-5,{UUID_B}:7")
    assert caught.value.code == 1236
    assert caught.value.message == (
        "Cannot replicate because the source purged required binary logs. Replicate the missing transactions from"
        " elsewhere, or provision a new replica from backup. Consider increasing the source's binary log expiration"
        f" period. The GTID set sent by the replica is '{has}', and the missing transactions are '{missing}'"
    )


def test_what_was_purged_and_is_there_does_no_harm() -> None:
    claims = [f"{UUID_A}:1-5,{UUID_B}:1", f"{UUID_A}:1-9,{UUID_B}:1"]
    purged = f"{UUID_A}:1-5,{UUID_B}:1"
    assert by_gtid(purged, claims, purged=purged) == 0
    assert by_gtid(f"{UUID_A}:1-9,{UUID_B}:1", claims, purged=purged) == 1


def test_an_empty_store() -> None:
    with pytest.raises(Refusal, match="Could not find first log file name"):
        by_gtid("")


def test_a_file_whose_previous_gtids_are_not_known_yet_is_not_begun_with() -> None:
    """It would be a leap over everything that is in none of the files before it."""
    claims = ["", f"{UUID_A}:1-5", None]
    assert by_gtid("", claims) == 0
    assert by_gtid(f"{UUID_A}:1-99", claims) == 1
    assert by_gtid(f"{UUID_A}:1", [None, None]) == 0


def test_the_newest_timeline_that_builds_on_what_the_replica_has() -> None:
    """The timelines of a failover overlap: its first file builds on less than the last of the old source."""
    old, new = CLAIMS, [f"{UUID_A}:1-7", f"{UUID_A}:1-9,{UUID_B}:1-3"]
    for has, index in (
        ("", 0),
        (f"{UUID_A}:1-6", 1),
        (f"{UUID_A}:1-7", 3),
        (f"{UUID_A}:1-9", 3),
        (f"{UUID_A}:1-9,{UUID_B}:1-3", 4),
        (f"{UUID_B}:1-3", 0),
    ):
        assert by_gtid(has, old, new) == index
        assert by_gtid(has, old, new, [None]) == index
        assert by_gtid(has, [None], old, new) == (index + 1)


def test_few_files_are_asked_of_ten_thousand() -> None:
    claims = [f"{UUID_A}:1-{number}" for number in range(1, 10_001)]
    for gno in (1, 2, 4_999, 5_000, 9_999, 10_000):
        asked: list[int] = []
        assert by_gtid(f"{UUID_A}:1-{gno}", claims, asked=asked) == gno - 1
        assert len(asked) <= 14


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=12), st.integers(0, 25))
def test_it_is_as_if_every_file_were_asked(counts: list[tuple[bool, int]], has: int) -> None:
    claims: list[str | None] = []
    done = 0
    for known, count in counts:
        claims.append((f"{UUID_A}:1-{done}" if done else "") if known else None)
        done += count
    fitting = [
        index
        for index, claim in enumerate(claims)
        if claim is not None and GtidSet.parse(claim) <= GtidSet.parse(f"{UUID_A}:1-{has}" if has else "")
    ]
    assert by_gtid(f"{UUID_A}:1-{has}" if has else "", claims) == (fitting[-1] if fitting else 0)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.sets(st.integers(1, 24)))
def test_nothing_that_the_replica_lacks_is_leapt_over(counts: list[int], has: set[int]) -> None:
    claims, files, done = [], [], 0
    for count in counts:
        claims.append(f"{UUID_A}:1-{done}" if done else "")
        files.append(set(range(done + 1, done + count + 1)))
        done += count
    held = GtidSet.from_runs((SID_A, "", gno, gno) for gno in has)
    index = by_gtid(held.compact(), claims)
    assert set().union(*files[:index]) <= has
    later = [number for number in range(index + 1, len(claims)) if set().union(*files[:number]) <= has]
    assert not later, "and no more than needed is read"
