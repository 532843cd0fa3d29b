"""Publications: encoded for others, and what a store amounts to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.index import Summary
from binlogd.store.layout import Timeline
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import StoredFile, publication_of
from tests.binlog.making import UUID_A, UUID_B

LINE = Timeline(1, UUID_A, Path("/nowhere"))
KNOWN = Publication(2, "b.000007", 100, GtidSet.parse(f"{UUID_A}:1-5"), GtidSet.parse(f"{UUID_A}:1-2"), "8.4.0")
NEXT = Timeline(2, UUID_B, Path("/nowhere"))


def stored(
    number: int, previous: str | None, added: str, *, timeline: Timeline = LINE, version: str = "8.0.36"
) -> StoredFile:
    summary = Summary(
        name=f"b.{number:06}",
        size=1000 + number,
        first_time=1,
        last_time=2,
        previous=None if previous is None else GtidSet.parse(previous),
        added=GtidSet.parse(added),
        transactions=1,
        checksum=1,
        server_version=version,
    )
    return StoredFile(timeline, summary.name, summary.size, summary, False)


def test_there_and_back() -> None:
    publication = Publication(
        2, "b.000007", 2**40, GtidSet.parse(f"{UUID_A}:1-9:t:3"), GtidSet.parse(f"{UUID_A}:1-2"), "8.4.0"
    )
    assert Publication.decode(json.loads(json.dumps(publication.encode()))) == publication
    assert Publication.decode(json.loads(json.dumps(NOTHING.encode()))) == NOTHING


@pytest.mark.parametrize(
    "newer",
    [
        replace(KNOWN, position=101),
        replace(KNOWN, position=500, executed=GtidSet.parse(f"{UUID_A}:1-7:9,{UUID_B}:t:1")),
        replace(KNOWN, file="b.000008", position=4),
        replace(KNOWN, timeline=3, file="b.000001", position=4),
        replace(KNOWN, server_version="9.0.0", file="b.000008"),
        replace(KNOWN, purged=GtidSet.parse(f"{UUID_A}:1-3")),
        replace(KNOWN, executed=GtidSet.parse(f"{UUID_A}:1-3")),
    ],
    ids=["position", "gtids", "file", "timeline", "version", "purged", "fewer"],
)
def test_news(newer: Publication) -> None:
    assert Publication.decode(json.loads(json.dumps(newer.encode_since(KNOWN))), known=KNOWN) == newer
    assert Publication.decode(json.loads(json.dumps(newer.encode_since(newer))), known=newer) == newer


def test_news_make_no_sense_alone() -> None:
    with pytest.raises(ValueError, match="nobody told"):
        Publication.decode(replace(KNOWN, position=101).encode_since(KNOWN))


def test_of_nothing() -> None:
    assert publication_of([]) == NOTHING


def test_files_that_follow_each_other() -> None:
    found = publication_of([stored(1, "", f"{UUID_A}:1-3"), stored(2, f"{UUID_A}:1-3", f"{UUID_A}:4", version="8.4.1")])
    assert found == Publication(1, "b.000002", 1002, GtidSet.parse(f"{UUID_A}:1-4"), GtidSet(), "8.4.1")


def test_what_is_before_the_oldest_file_is_purged() -> None:
    found = publication_of([stored(4, f"{UUID_A}:1-9,{UUID_B}:1", f"{UUID_A}:10-12")])
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-12,{UUID_B}:1")
    assert found.purged == GtidSet.parse(f"{UUID_A}:1-9,{UUID_B}:1")


def test_what_is_missing_between_files_is_purged_too() -> None:
    files = [
        stored(1, "", f"{UUID_A}:1-3"),
        stored(2, f"{UUID_A}:1-5", f"{UUID_A}:6"),
        stored(3, f"{UUID_A}:1-6,{UUID_B}:1-2", f"{UUID_A}:7,{UUID_B}:3"),
    ]
    found = publication_of(files)
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-7,{UUID_B}:1-3")
    assert found.purged == GtidSet.parse(f"{UUID_A}:4-5,{UUID_B}:1-2")


def test_what_only_a_later_file_lacks_is_no_less_there() -> None:
    """After RESET or SET gtid_purged at the source PREVIOUS_GTIDS may be smaller than what went before."""
    found = publication_of([stored(1, "", f"{UUID_A}:1-9"), stored(2, f"{UUID_A}:1-3", f"{UUID_A}:10")])
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-10")
    assert found.purged == GtidSet()


def test_gtids_out_of_order() -> None:
    found = publication_of([stored(1, "", f"{UUID_A}:1:3:5"), stored(2, f"{UUID_A}:1:3:5", f"{UUID_A}:2:4")])
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-5")
    assert found.purged == GtidSet()


def test_a_file_without_previous_gtids_claims_nothing() -> None:
    found = publication_of([stored(1, "", f"{UUID_A}:1"), stored(2, None, ""), stored(3, f"{UUID_A}:1-2", "")])
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-2")
    assert found.purged == GtidSet.parse(f"{UUID_A}:2")


def test_timelines_that_overlap() -> None:
    files = [
        stored(8, f"{UUID_A}:1-2", f"{UUID_A}:3-9"),
        stored(1, f"{UUID_A}:1-5", f"{UUID_A}:6-9,{UUID_B}:1", timeline=NEXT),
    ]
    found = publication_of(files)
    assert (found.timeline, found.file) == (2, "b.000001")
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-9,{UUID_B}:1")
    assert found.purged == GtidSet.parse(f"{UUID_A}:1-2")
