"""What a refusal means for a store, in words: whose history lacks what."""

from __future__ import annotations

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceDiverged, SourceGap
from binlogd.receiver.divergence import diverged, of_refusal
from binlogd.receiver.plan import SourceFacts, StoreFacts
from tests.binlog.making import UUID_A, UUID_B

FILE = "mysql-bin.000007"
STORE = StoreFacts(UUID_A, FILE, 5000, 1000)
PURGED = (
    "Cannot replicate because the source purged required binary logs. Replicate the missing transactions from elsewhere"
)
GONE = "Could not find first log file name in binary log index file"
SHORTER = "Client requested source to start replication from position > file size"
BOGUS = "bogus data in log event; the first event 'mysql-bin.000007' at 4000"


def gtids(text: str) -> GtidSet:
    return GtidSet.parse(text)


def source(executed: str | None, purged: str = "") -> SourceFacts:
    known = executed is not None
    return SourceFacts(
        server_version="9.7.4",
        server_id=1,
        server_uuid=UUID_A,
        checksum="CRC32",
        gtid_mode="ON" if known else "OFF",
        executed=gtids(executed or "") if known else None,
        purged=gtids(purged) if known else None,
    )


@pytest.mark.parametrize("said", [PURGED, GONE])
def test_a_gap_names_what_is_missing(said: str) -> None:
    found = of_refusal(said, STORE, source(f"{UUID_A}:1-100", f"{UUID_A}:1-80,{UUID_B}:1"), gtids(f"{UUID_A}:1-50"))
    assert isinstance(found, SourceGap)
    assert f"has purged the GTIDs {UUID_A}:51-80,{UUID_B}:1:" in found.message
    assert found.alarm == "source_gap"
    assert "data_dir" in found.hint


def test_a_gap_without_gtids_names_the_file() -> None:
    found = of_refusal(GONE, STORE, source(None), gtids(""))
    assert isinstance(found, SourceGap)
    assert f"has purged {FILE}: what it wrote behind {FILE}:5000, where the store ends," in found.message


def test_a_file_that_the_source_never_wrote_is_no_gap() -> None:
    """It was restored from before it, or reset."""
    found = of_refusal(GONE, STORE, source(f"{UUID_A}:1-40"), gtids(f"{UUID_A}:1-50"))
    assert isinstance(found, SourceDiverged)
    assert f"has no {FILE}, of which 5000 bytes are stored; it lacks the GTIDs {UUID_A}:41-50," in found.message


def test_a_shorter_file() -> None:
    found = of_refusal(SHORTER, STORE, source(f"{UUID_A}:1-40"), gtids(f"{UUID_A}:1-50"))
    assert isinstance(found, SourceDiverged)
    assert f"{FILE} ends before 5000" in found.message
    assert f"{UUID_A}:41-50" in found.message
    assert found.alarm == "source_diverged"


def test_a_position_within_an_event() -> None:
    found = of_refusal(BOGUS, STORE, source(f"{UUID_A}:1-90"), gtids(f"{UUID_A}:1-50"))
    assert isinstance(found, SourceDiverged)
    assert "no event begins at 4000" in found.message
    assert "it has every GTID that is stored, yet for other transactions" in found.message


def test_without_gtids_nothing_is_said_of_them() -> None:
    assert "GTID" not in diverged("it is shorter", source(None), gtids("")).message


@pytest.mark.parametrize(
    "said",
    [
        "A replica with the same server_uuid/server_id as this replica has connected to the source",
        "Binary log is not open",
        "Replica can not handle replication events with the checksum that source is configured to log",
    ],
)
def test_what_is_no_question_of_history(said: str) -> None:
    assert of_refusal(said, STORE, source(f"{UUID_A}:1-9"), gtids(f"{UUID_A}:1-50")) is None
