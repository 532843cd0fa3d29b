"""Which of a binlogd's timelines is copied: by example, and over all histories that it may have had."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import PeerError, ProtocolError, ServerError, SourceGap
from binlogd.receiver.cascade import candidates, continues, end_of, parse_timelines, plain_name
from binlogd.receiver.plan import EMPTY, Ended, Kept, SourceFacts, Start, StoreFacts, timeline_name
from binlogd.receiver.succession import AskFirstFile, NewTimeline, Refuse, Resume, decide
from tests.binlog.making import UUID_A, UUID_B

UPPER = "cccccccc-0000-0000-0000-000000000001"
A1, B2, A3 = Kept(1, UUID_A), Kept(2, UUID_B), Kept(3, UUID_A)
STORE = StoreFacts(UUID_A, "binlog.000003", 900, 100, GtidSet.parse(f"{UUID_A}:1-50"), timelines=(UUID_A,))
ENDED = replace(STORE, ended=Ended(UPPER, 1))


def binlogd(*timelines: Kept, purged: str = "", history: Kept | None = None) -> SourceFacts:
    return SourceFacts(
        server_version="9.7.4-binlogd",
        server_id=1,
        server_uuid=UPPER,
        checksum="CRC32",
        gtid_mode="ON",
        executed=GtidSet.parse(f"{UUID_A}:1-50,{UUID_B}:1-9"),
        purged=GtidSet.parse(purged),
        timelines=timelines,
        history=history,
    )


def store(*uuids: str) -> StoreFacts:
    return replace(STORE, source_uuid=uuids[-1], timelines=uuids)


def test_what_a_binlogd_says_of_its_timelines() -> None:
    assert parse_timelines(f"0001-{UUID_A},0002-{UUID_B.upper()},10000-server-7") == (
        A1,
        B2,
        Kept(10000, "server-7"),
    )
    assert parse_timelines("") == ()


@pytest.mark.parametrize(
    "text",
    ["x", "1-a", "0001-", "0001-../..", f"0001-{UUID_A},", pytest.param("9" * 5000 + f"-{UUID_A}", id="huge")],
)
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ProtocolError, match="no name of one"):
        parse_timelines(text)


def test_a_name_is_qualified_by_its_own_timeline_only() -> None:
    assert plain_name("0002:mysql-bin.000003", 2) == "mysql-bin.000003"
    assert plain_name("0001:mysql-bin.000003", 2) == "0001:mysql-bin.000003"
    assert plain_name("mysql-bin.000003", 2) == "mysql-bin.000003"


@pytest.mark.parametrize(("start", "found"), [("oldest", [A1]), ("current", [A3]), ("binlog.000002", [A1, B2, A3])])
def test_an_empty_store_begins_as_configured(start: str, found: list[Kept]) -> None:
    assert list(candidates(binlogd(A1, B2, A3), EMPTY, start=start)) == found


def test_of_a_binlogd_that_has_nothing_yet_more_is_expected() -> None:
    with pytest.raises(PeerError, match="stored nothing yet") as caught:
        candidates(binlogd(), STORE)
    assert caught.value.retriable


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ("A", "A", [0]),
        ("AB", "AB", [1]),
        ("A", "ABA", [0, 2]),  # it began with the oldest, more likely than with the current one
        ("ABA", "ABA", [2, 0]),
        ("ABA", "ABABA", [2, 4, 0]),
        ("BA", "ABA", [2, 0]),  # the oldest was removed here …
        ("ABA", "BA", [1]),  # … or there
        ("AA", "AB", [0]),  # a gap was begun anew here
        ("C", "AB", [0]),  # none is a copy: from the oldest on
    ],
)
def test_the_newest_timeline_is_the_copy_of_the_one_that_the_same_ones_come_before(
    ours: str, theirs: str, found: list[int]
) -> None:
    kept = tuple(Kept(number, letter * 8) for number, letter in enumerate(theirs, 1))
    chosen = candidates(binlogd(*kept), store(*(letter * 8 for letter in ours)))
    assert list(chosen) == [kept[index] for index in found]


def test_every_copy_is_found_whatever_was_removed() -> None:
    """The copy of timeline n is among the candidates, and the first where nothing was removed."""
    for length in range(1, 5):
        for history in product("ABC", repeat=length):
            kept = tuple(Kept(number, letter * 8) for number, letter in enumerate(history, 1))
            for newest, removed_here, removed_there in product(range(length), repeat=3):
                if removed_here > newest or removed_there > newest:
                    continue
                uuids = [each.source_uuid for each in kept[removed_here : newest + 1]]
                found = candidates(binlogd(*kept[removed_there:]), store(*uuids))
                assert kept[newest] in found
                assert {each.source_uuid for each in found} == {uuids[-1]}
                if not removed_here and not removed_there:
                    assert found[0] == kept[newest]


def test_a_copy_is_called_as_its_original_and_gone_on_with() -> None:
    facts = binlogd(A1, B2, history=A1)
    assert timeline_name(facts) == UUID_A
    assert decide(facts, STORE) == Resume(Start("binlog.000003", 800, "COM_BINLOG_DUMP", 100))
    server = replace(facts, server_uuid=UUID_A, timelines=(), history=None)
    assert decide(server, STORE) == decide(facts, STORE)


def test_behind_a_whole_copy_the_next_one_begins_with_its_oldest_file() -> None:
    assert list(candidates(binlogd(A1, B2, A3), ENDED)) == [B2]
    facts = binlogd(A1, B2, A3, history=B2)
    assert decide(facts, ENDED) == AskFirstFile(None)
    found = replace(facts, first_file=("binlog.000003", ENDED.held))
    assert decide(found, ENDED) == NewTimeline(Start("binlog.000003", 4, "COM_BINLOG_DUMP"))


def test_even_when_it_is_of_the_same_source() -> None:
    again = Kept(2, UUID_A)
    assert decide(binlogd(A1, again, history=again), ENDED) == AskFirstFile(None)


def test_what_was_purged_there_between_the_two_is_a_gap() -> None:
    step = decide(binlogd(A1, B2, purged=f"{UUID_A}:1-40,{UUID_B}:1-3", history=B2), ENDED)
    assert isinstance(step, Refuse)
    assert isinstance(step.error, SourceGap)
    assert f"{UUID_B}:1-3" in step.error.message


def test_and_so_is_what_is_purged_there_after_it_has_said_what_was() -> None:
    facts = binlogd(A1, B2, history=B2)
    step = decide(replace(facts, first_file=("binlog.000004", GtidSet.parse(f"{UUID_B}:1-3"))), ENDED)
    assert isinstance(step, Refuse)
    assert isinstance(step.error, SourceGap)
    assert f"{UUID_B}:1-3" in step.error.message


@pytest.mark.parametrize("timelines", [(A1,), ()], ids=["no next one", "a server"])
def test_an_end_counts_only_where_it_was_said_and_something_follows(timelines: tuple[Kept, ...]) -> None:
    facts = binlogd(*timelines, history=timelines[0] if timelines else None)
    assert not continues(facts, ENDED)
    assert not continues(binlogd(A1, B2, history=B2), replace(STORE, ended=Ended(UUID_B, 1)))


def test_our_own_replica_is_refused_by_its_own_uuid() -> None:
    step = decide(binlogd(A1, history=A1), replace(STORE, replicas=frozenset({UPPER})))
    assert isinstance(step, Refuse)


@pytest.mark.parametrize(
    ("code", "message", "ended"),
    [
        (1236, "End of timeline 0001: the history of source …", Ended(UPPER, 1)),
        (1236, "Could not find first log file name in binary log index file", None),
        (1105, "End of timeline 0001: …", None),
    ],
)
def test_the_words_that_end_a_timeline(code: int, message: str, ended: Ended | None) -> None:
    trouble = ServerError(message, code=code)
    assert end_of(trouble, binlogd(A1, B2, history=A1)) == ended
    assert end_of(trouble, binlogd()) is None  # a server does not say that of any of its own
