"""Whether a source may be followed: each answer by an example, and all small worlds there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceDiverged, SourceGap, SourceRefused
from binlogd.receiver.plan import EMPTY, Kept, SourceFacts, Start, StoreFacts
from binlogd.receiver.succession import AskFirstFile, NewTimeline, Refuse, Resume, Step, decide
from tests.binlog.making import UUID_A, UUID_B

FILE = "binlog.000007"


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


def source(
    uuid: str, executed: str, purged: str = "", *, gtid_mode: str = "ON", first: tuple[str, str] | None = None
) -> SourceFacts:
    return SourceFacts(
        server_version="9.7.4",
        server_id=1,
        server_uuid=uuid,
        checksum="CRC32",
        gtid_mode=gtid_mode,
        executed=gtids(executed),
        purged=gtids(purged),
        first_file=(first[0], gtids(first[1])) if first else None,
    )


STORE = StoreFacts(UUID_A, "binlog.000003", 900, 100, gtids(f"{UUID_A}:1-50"))
RESUMED = Resume(Start("binlog.000003", 800, "COM_BINLOG_DUMP", 100))


def refusal(step: Step) -> SourceRefused:
    assert isinstance(step, Refuse)
    return step.error


@pytest.mark.parametrize(
    ("start", "file"),
    [("oldest", ""), ("current", "binlog.000009"), ("binlog.000003", "binlog.000003")],
)
def test_an_empty_store_begins_as_configured(start: str, file: str) -> None:
    step = decide(source(UUID_A, ""), EMPTY, start=start, current="binlog.000009")
    assert step == NewTimeline(Start(file, 4, "COM_BINLOG_DUMP"))


@pytest.mark.parametrize("start", ["oldest", "current", "binlog.000001"])
@pytest.mark.parametrize("executed", [f"{UUID_A}:1-60", f"{UUID_A}:1-40"], ids=["more", "not yet counted"])
def test_the_source_of_the_newest_timeline_is_gone_on_with(start: str, executed: str) -> None:
    """A transaction that waits for our acknowledgement is in no gtid_executed yet: its bytes prove it, not that."""
    assert decide(source(UUID_A, executed), STORE, start=start) == RESUMED


@pytest.mark.parametrize("mode", ["OFF", "ON"])
def test_without_gtids_too(mode: str) -> None:
    assert decide(source(UUID_A, "", gtid_mode=mode), replace(STORE, gtids=mode == "ON")) == RESUMED


def test_another_source_that_has_everything_is_asked_for_its_file_and_followed() -> None:
    executed = f"{UUID_A}:1-50,{UUID_B}:1-7"
    assert decide(source(UUID_B, executed), STORE) == AskFirstFile(gtids(f"{UUID_A}:1-50"))
    step = decide(source(UUID_B, executed, first=(FILE, f"{UUID_A}:1-30")), STORE)
    assert step == NewTimeline(Start(FILE, 4, "COM_BINLOG_DUMP"))


def test_another_source_that_lacks_what_is_stored_is_refused_by_name() -> None:
    error = refusal(decide(source(UUID_B, f"{UUID_A}:1-44,{UUID_B}:1-7"), STORE))
    assert isinstance(error, SourceDiverged)
    assert f"lacks the GTIDs {UUID_A}:45-50" in error.message
    assert "CHANGE REPLICATION SOURCE TO" in error.hint


def test_unless_both_histories_are_to_be_kept() -> None:
    facts = source(UUID_B, f"{UUID_A}:1-44,{UUID_B}:1-7")
    assert decide(facts, STORE, keep_both=True) == AskFirstFile(gtids(f"{UUID_A}:1-44"))
    found = decide(replace(facts, first_file=(FILE, gtids(f"{UUID_A}:1-20"))), STORE, keep_both=True)
    assert found == NewTimeline(Start(FILE, 4, "COM_BINLOG_DUMP"))


@pytest.mark.parametrize("keep_both", [False, True])
def test_a_gap_is_refused_in_any_case(keep_both: bool) -> None:
    error = refusal(decide(source(UUID_B, f"{UUID_A}:1-50,{UUID_B}:1-7", f"{UUID_B}:1-3"), STORE, keep_both=keep_both))
    assert isinstance(error, SourceGap)
    assert f"purged the GTIDs {UUID_B}:1-3" in error.message


def test_a_first_file_that_builds_on_what_is_not_stored_is_a_gap() -> None:
    """What gtid_purged does not say, because it was set by hand, the file does."""
    facts = source(UUID_B, f"{UUID_A}:1-50,{UUID_B}:1-7", first=(FILE, f"{UUID_A}:1-50,{UUID_B}:1-3"))
    error = refusal(decide(facts, STORE))
    assert isinstance(error, SourceGap)
    assert f"{UUID_B}:1-3" in error.message


@pytest.mark.parametrize(
    ("mode", "stored", "says"), [("OFF", True, "gtid_mode is OFF"), ("ON", False, "the stored history has no GTIDs")]
)
def test_without_gtids_two_histories_cannot_be_matched(mode: str, stored: bool, says: str) -> None:
    facts, store = source(UUID_B, f"{UUID_A}:1-50", gtid_mode=mode), replace(STORE, gtids=stored)
    assert says in refusal(decide(facts, store)).message
    assert decide(facts, store, keep_both=True) == NewTimeline(Start("", 4, "COM_BINLOG_DUMP"))


def test_our_own_replica_is_refused() -> None:
    error = refusal(decide(source(UUID_B, f"{UUID_A}:1-50"), replace(STORE, replicas=frozenset({UUID_B}))))
    assert "replicates from this binlogd" in error.message


DIVERGED = SourceDiverged("its binlog.000003 has other bytes")
GAP = SourceGap("it has purged binlog.000003")


def test_the_same_source_with_another_history_is_refused_with_its_words() -> None:
    assert refusal(decide(source(UUID_A, f"{UUID_A}:1-60"), STORE, contradiction=DIVERGED)) is DIVERGED


def test_or_kept_beside_from_its_oldest_file_on() -> None:
    """Its GTIDs may be those of other transactions: none of its files can be left out for them."""
    facts = source(UUID_A, f"{UUID_A}:1-60")
    assert decide(facts, STORE, contradiction=DIVERGED, keep_both=True) == AskFirstFile(None)
    found = replace(facts, first_file=(FILE, gtids("")))
    step = decide(found, STORE, contradiction=DIVERGED, keep_both=True)
    assert step == NewTimeline(Start(FILE, 4, "COM_BINLOG_DUMP"))
    purged = replace(facts, first_file=(FILE, gtids(f"{UUID_A}:1-51")))
    assert isinstance(refusal(decide(purged, STORE, contradiction=DIVERGED, keep_both=True)), SourceGap)


def test_a_file_that_the_source_has_purged_is_no_gap_when_its_gtids_are_stored() -> None:
    facts = source(UUID_A, f"{UUID_A}:1-60", f"{UUID_A}:1-50")
    assert decide(facts, STORE, contradiction=GAP) == AskFirstFile(STORE.held)
    step = decide(replace(facts, first_file=("binlog.000004", STORE.held)), STORE, contradiction=GAP)
    assert step == NewTimeline(Start("binlog.000004", 4, "COM_BINLOG_DUMP"))


def test_and_is_one_when_they_are_not() -> None:
    error = refusal(decide(source(UUID_A, f"{UUID_A}:1-60", f"{UUID_A}:1-55"), STORE, contradiction=GAP))
    assert isinstance(error, SourceGap)
    assert f"{UUID_A}:51-55" in error.message


def test_without_gtids_a_purged_file_is_a_gap() -> None:
    facts = source(UUID_A, "", gtid_mode="OFF")
    assert refusal(decide(facts, replace(STORE, gtids=False), contradiction=GAP)) is GAP


# --- all small worlds: up to three transactions of A and two of B, in any order that a source may have logged them ---

ITEMS = (f"{UUID_A}:1", f"{UUID_A}:2", f"{UUID_A}:3", f"{UUID_B}:1", f"{UUID_B}:2")


@dataclass(frozen=True)
class World:
    """A source's log, file by file, of which the first ``purged`` files are gone; what was set before it began."""

    before: frozenset[int]
    files: tuple[tuple[int, ...], ...]
    purged: int

    def previous(self, number: int) -> frozenset[int]:
        return self.before | {item for file in self.files[:number] for item in file}

    @property
    def executed(self) -> frozenset[int]:
        return self.previous(len(self.files))

    @property
    def gone(self) -> frozenset[int]:
        return self.previous(self.purged)

    def first_file(self, has: frozenset[int]) -> int:
        """mysqld's rule: the newest whose PREVIOUS_GTIDS are all there."""
        return max(number for number in range(self.purged, len(self.files)) if self.previous(number) <= has)


def of(items: frozenset[int]) -> GtidSet:
    found = GtidSet()
    for item in items:
        found |= gtids(ITEMS[item])
    return found


def worlds() -> Iterator[World]:
    logs = [(0, 1, 3), (3, 0, 4, 1), (0, 1, 2, 3)]
    for log, first, second, purged in product(logs, range(4), range(4), range(3)):
        if first <= second <= len(log):
            yield World(frozenset(), (log[:first], log[first:second], log[second:]), purged)
            yield World(frozenset({2} - set(log)), (log[:first], log[first:second], log[second:]), purged)


def sets() -> Iterator[frozenset[int]]:
    for bits in range(2 ** len(ITEMS)):
        yield frozenset(item for item in range(len(ITEMS)) if bits >> item & 1)


def test_every_small_world() -> None:
    """Whoever follows ends with all that either side had, and nothing is in neither; else it says what is missing."""
    followed = refused = 0
    for world, held, keep_both in product(set(worlds()), list(sets()), (False, True)):
        facts = replace(source(UUID_B, ""), executed=of(world.executed), purged=of(world.gone))
        store = replace(STORE, held=of(held))
        step = decide(facts, store, keep_both=keep_both)
        lacking, missing = held - world.executed, world.gone - held
        if isinstance(step, AskFirstFile):
            number = world.first_file(held & world.executed)
            assert step.has == of(held & world.executed)
            facts = replace(facts, first_file=(f"f.{number:06}", of(world.previous(number))))
            step = decide(facts, store, keep_both=keep_both)
            assert step == NewTimeline(Start(f"f.{number:06}", 4, "COM_BINLOG_DUMP"))
            fetched = frozenset(item for file in world.files[number:] for item in file)
            assert held | fetched == held | world.executed
            assert not missing
            assert keep_both or not lacking
            followed += 1
        else:
            error = refusal(step)
            refused += 1
            if lacking and not keep_both:
                assert isinstance(error, SourceDiverged)
                assert of(lacking).compact() in error.message
            else:
                assert isinstance(error, SourceGap)
                assert of(missing).compact() in error.message
    assert followed > 1000
    assert refused > 1000


def test_a_binlogd_that_is_behind_us_is_waited_for() -> None:
    facts = replace(source(UUID_B, f"{UUID_A}:1-49"), history=Kept(1, UUID_A), timelines=(Kept(1, UUID_A),))
    for keep_both in (False, True):
        assert f"does not have the GTIDs {UUID_A}:50 yet" in refusal(decide(facts, STORE, keep_both=keep_both)).message
    assert decide(replace(facts, executed=STORE.held), STORE) == RESUMED
