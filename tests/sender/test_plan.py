"""Where a dump to a replica begins, and with which words it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import Refusal
from binlogd.sender.plan import StoredLog, start_by_gtid, start_by_position
from tests.binlog.making import SID_A, UUID_A, UUID_B


def log(number: int, *, size: int = 1000, timeline: int = 1) -> StoredLog:
    return StoredLog(timeline, f"b.{number:06}", size)


def by_gtid(
    has: str,
    *timelines: Sequence[str | None],
    purged: str = "",
    asked: list[int] | None = None,
    pinned: int | None = None,
    kept: Mapping[int, str] | None = None,
) -> int:
    """Where a dump begins, of timelines whose files claim these PREVIOUS_GTIDS, and whose last file added nothing."""
    logs = [log(i, timeline=n) for n, claims in enumerate(timelines, 1) for i in range(1, len(claims) + 1)]
    every = [None if claim is None else GtidSet.parse(claim) for claims in timelines for claim in claims]

    def claims(index: int) -> GtidSet | None:
        if asked is not None:
            asked.append(index)
        return every[index]

    def ended(index: int) -> GtidSet:
        assert index + 1 == len(logs) or logs[index + 1].timeline != logs[index].timeline
        return every[index] or GtidSet()

    def kept_of(timeline: int) -> GtidSet:
        return GtidSet.parse((kept or {}).get(timeline, ""))

    return start_by_gtid(logs, claims, ended, GtidSet.parse(has), GtidSet.parse(purged), kept_of, pinned=pinned)


SOURCES = {1: UUID_A, 2: UUID_B, 3: UUID_B}


def by_position(
    logs: Sequence[StoredLog], name: str, position: int, *, pinned: int | None = None, announced: str = ""
) -> int:
    """Where a dump begins; the first timeline's last file ends with a ROTATE to ``announced``."""

    def announces(index: int, next_name: str) -> bool:
        assert logs[index].timeline != logs[index + 1].timeline
        return logs[index].timeline == 1 and next_name == announced

    return start_by_position(logs, name, position, sources=SOURCES, announces=announces, pinned=pinned)


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
    assert by_position(LOGS, name, position) == index


@pytest.mark.parametrize("position", [0, 1, 3, -1])
def test_before_the_first_position(position: int) -> None:
    with pytest.raises(Refusal, match="from position < 4") as caught:
        by_position(LOGS, "b.000001", position)
    assert (caught.value.code, caught.value.sqlstate) == (1236, "HY000")


@pytest.mark.parametrize(("name", "position"), [("b.000001", 501), ("b.000003", 301), ("", 501), ("b.000002", 2**34)])
def test_behind_the_end(name: str, position: int) -> None:
    with pytest.raises(Refusal, match="from position > file size"):
        by_position(LOGS, name, position)


@pytest.mark.parametrize(
    ("logs", "name"), [(LOGS, "b.000004"), (LOGS, "B.000001"), (LOGS, "./b.000001"), ([], "b.000001"), ([], "")]
)
def test_a_file_that_is_not_there(logs: Sequence[StoredLog], name: str) -> None:
    with pytest.raises(Refusal, match="Could not find first log file name in binary log index file"):
        by_position(logs, name, 4)


TWO = [log(1), log(2), log(3), log(2, timeline=2, size=77), log(3, timeline=2), log(4, timeline=2)]


@pytest.mark.parametrize(
    ("name", "pinned", "index"),
    [
        ("b.000001", None, 0),
        ("b.000004", None, 5),
        ("", None, 0),
        ("0001:b.000002", None, 1),
        ("0002:b.000002", None, 3),
        ("0002:b.000002", 2, 3),
        ("b.000002", 1, 1),
        ("b.000002", 2, 3),
        ("", 2, 3),
    ],
)
def test_a_name_means_one_file(name: str, pinned: int | None, index: int) -> None:
    assert by_position(TWO, name, 77, pinned=pinned) == index


@pytest.mark.parametrize(
    ("name", "pinned", "text"),
    [
        ("b.000005", None, "Could not find first log file name"),
        ("b.000001", 2, "Could not find first log file name"),
        ("0002:b.000001", None, "Could not find first log file name"),
        ("2/b.000002", None, "Could not find first log file name"),
        ("00002:b.000002", None, "Could not find first log file name"),
        ("0002:", None, "Could not find first log file name"),
        pytest.param("9" * 5000 + ":b.000002", None, "Could not find first log file name", id="huge"),
        ("0004:b.000002", None, "There is no timeline 0004 here"),
        ("b.000002", 4, "There is no timeline 0004 here"),
        ("", 4, "There is no timeline 0004 here"),
        ("0001:b.000002", 2, "'0001:b.000002' is not of timeline 0002"),
        ("b.000002", None, f"'0001:b.000002' of {UUID_A}, '0002:b.000002' of {UUID_B}. Name the one that is meant"),
        ("b.000003", None, f"'0001:b.000003' of {UUID_A}, '0002:b.000003' of {UUID_B}. Name the one that is meant"),
    ],
)
def test_a_name_that_means_none_or_several_is_refused(name: str, pinned: int | None, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        by_position(TWO, name, 4, pinned=pinned)
    assert caught.value.code == 1236
    assert text in caught.value.message
    assert len(caught.value.message) < 500


def test_a_file_that_a_lost_source_went_on_with_is_not_the_one_of_another_source() -> None:
    """The client was told its name by the last ROTATE of a timeline."""
    text = f"The history of source {UUID_A} ends at 'b.000003' 1000: binlogd follows {UUID_B} since"
    for name, announced in (("b.000004", "b.000004"), ("b.000005", "b.000005")):  # the other source has one, or not
        with pytest.raises(Refusal, match=text):
            by_position(TWO, name, 4, announced=announced)
    assert by_position(TWO, "0002:b.000004", 4, announced="b.000004") == 5
    assert by_position(TWO, "b.000004", 4, announced="b.000004", pinned=2) == 5
    with pytest.raises(Refusal, match=f"^End of timeline 0001: the history of source {UUID_A} ends at 'b.000003' 1000"):
        by_position(TWO, "b.000004", 4, announced="b.000004", pinned=1)


def test_of_many_timelines_with_one_name_few_are_told() -> None:
    logs = [log(1, timeline=number) for number in range(1, 30)]
    with pytest.raises(Refusal) as caught:
        start_by_position(logs, "b.000001", 4, sources=dict.fromkeys(range(30), UUID_A), announces=lambda *_: False)
    assert "and 26 more" in caught.value.message
    assert len(caught.value.message) < 500


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
    assert by_gtid(f"{UUID_A}:1", [None], [None]) == 0


def test_the_oldest_timeline_that_holds_what_the_replica_lacks() -> None:
    """The timelines of a failover overlap: its first file builds on less than the last of the old source."""
    old, new = CLAIMS, [f"{UUID_A}:1-7", f"{UUID_A}:1-9,{UUID_B}:1-3"]
    for has, index in (
        ("", 0),
        (f"{UUID_A}:1-6", 1),
        (f"{UUID_A}:1-7", 1),
        (f"{UUID_A}:1-8,{UUID_B}:1-3", 1),
        (f"{UUID_A}:1-9", 3),
        (f"{UUID_A}:1-9,{UUID_B}:1-3", 4),
        (f"{UUID_B}:1-3", 0),
    ):
        assert by_gtid(has, old, new) == index
        assert by_gtid(has, old, new, [None]) == index
        assert by_gtid(has, [None], old, new) == (index + 1)
    assert by_gtid(f"{UUID_A}:1-9", old, [None]) == 2  # the new source's first file has only begun


def test_few_files_are_asked_of_ten_thousand() -> None:
    claims = [f"{UUID_A}:1-{number}" for number in range(1, 10_001)]
    for gno in (1, 2, 4_999, 5_000, 9_999, 10_000):
        asked: list[int] = []
        assert by_gtid(f"{UUID_A}:1-{gno}", claims, asked=asked) == gno - 1
        assert len(asked) <= 14
        asked.clear()
        assert by_gtid(f"{UUID_A}:1-{gno}", claims, [f"{UUID_A}:1-10000"], asked=asked) == gno - 1 + (gno == 10_000)
        assert len(asked) <= 14


def test_a_pinned_client_gets_its_timeline_only() -> None:
    old, new = CLAIMS, [f"{UUID_A}:1-7", f"{UUID_A}:1-9,{UUID_B}:1-3"]
    assert by_gtid(f"{UUID_A}:1-9", old, new, pinned=1) == 2
    assert by_gtid(f"{UUID_A}:1-7", old, new, pinned=2) == 3
    assert by_gtid(f"{UUID_A}:1-99,{UUID_B}:1-3", old, new, purged=f"{UUID_B}:9", pinned=2) == 4
    assert by_gtid("", [None], new, pinned=1) == 0
    with pytest.raises(Refusal, match=f"missing transactions are '{UUID_A}:7'"):
        by_gtid(f"{UUID_A}:1-6", old, new, pinned=2)
    with pytest.raises(Refusal, match="There is no timeline 0003 here"):
        by_gtid("", old, new, pinned=3)


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


# --- what a source had purged without a word of it in its files ---

BACKUP = f"{UUID_B}:1-9"
A_FILE = f"{UUID_A}:1-5"


def test_a_timeline_builds_on_what_is_kept_of_it() -> None:
    """Another one holds it, which would be sent behind what builds on it."""
    old, new = ["", A_FILE], ["", f"{A_FILE},{BACKUP}"]
    assert by_gtid("", old, new) == 0
    assert by_gtid("", old, new, kept={1: BACKUP}) == 2
    assert by_gtid(BACKUP, old, new, kept={1: BACKUP}) == 0


@pytest.mark.parametrize("pinned", [None, 1], ids=["any", "pinned"])
def test_who_lacks_what_is_kept_of_the_only_timeline_is_refused(pinned: int | None) -> None:
    with pytest.raises(Refusal, match=f"transactions are '{UUID_B}:3-9'"):
        by_gtid(f"{UUID_B}:1-2", ["", A_FILE], kept={1: BACKUP}, pinned=pinned)
    assert by_gtid(f"{A_FILE},{BACKUP}", ["", A_FILE], kept={1: BACKUP}, pinned=pinned) == 1


def test_who_lacks_what_is_kept_of_every_timeline_is_refused() -> None:
    with pytest.raises(Refusal, match=f"transactions are '{UUID_B}:1-9'"):
        by_gtid(A_FILE, [A_FILE], [A_FILE, f"{UUID_A}:1-9"], kept={2: BACKUP})
