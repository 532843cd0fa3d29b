"""Publications: encoded for others, and what a store amounts to."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store import reader
from binlogd.store.index import Summary, fingerprint
from binlogd.store.publication import NOTHING, Publication, Step
from binlogd.store.purged import save
from binlogd.store.reader import StoredFile, publication_of
from tests.binlog.making import SID_A, SID_B, UUID_A, UUID_B, Log
from tests.store.support import Quick, make_store

KNOWN = Publication(2, "b.000007", 100, GtidSet.parse(f"{UUID_A}:1-5"), GtidSet.parse(f"{UUID_A}:1-2"), "8.4.0")
Contents = tuple[str | None, str]  # of a file: PREVIOUS_GTIDS, and what it adds


def stored(path: Path, *timelines: Sequence[Contents]) -> list[StoredFile]:
    """Files that begin with those PREVIOUS_GTIDS, oldest first, and what their .idx would say."""
    folder = make_store(path, *([{}] * len(timelines)))
    files = []
    for timeline, contents in zip(folder.timelines(), timelines, strict=True):
        for number, (previous, added) in enumerate(contents, 1):
            log = Log().begin_file(previous)
            (timeline.path / f"b.{number:06}").write_bytes(log.data)
            summary = Summary(
                name=f"b.{number:06}",
                size=log.position,
                first_time=1,
                last_time=2,
                claimed=None if previous is None else fingerprint(GtidSet.parse(previous)),
                added=GtidSet.parse(added),
                transactions=1,
                checksum=1,
                server_version=f"8.0.{number}",
            )
            files.append(StoredFile(timeline, summary.name, summary.size, summary, False))
    return files


def amounts_to(path: Path, *timelines: Sequence[Contents]) -> tuple[str, str]:
    """Executed and purged."""
    found = publication_of(stored(path, *timelines))
    return found.executed.compact(), found.purged.compact()


def test_there_and_back() -> None:
    publication = Publication(
        2, "b.000007", 2**40, GtidSet.parse(f"{UUID_A}:1-9:t:3"), GtidSet.parse(f"{UUID_A}:1-2"), "8.4.0"
    )
    assert Publication.decode(json.loads(json.dumps(publication.encode()))) == publication
    assert Publication.decode(json.loads(json.dumps(NOTHING.encode()))) == NOTHING


def test_the_sets_are_written_down_once(monkeypatch: pytest.MonkeyPatch) -> None:
    publication = replace(KNOWN)
    first = publication.encode()
    with monkeypatch.context() as patched:
        patched.delattr(GtidSet, "compact")
        assert publication.encode() == first
    more = replace(publication, executed=GtidSet.parse(f"{UUID_A}:1-6"))
    assert more.encode()["executed"] == f"{UUID_A}:1-6"
    assert publication.encode() == first


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


def test_a_step_that_is_known_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    added = GtidSet.parse(f"{UUID_A}:7")
    executed = KNOWN.executed | added
    newer = replace(KNOWN, position=101, executed=executed, step=Step(KNOWN.executed, added, executed))
    with monkeypatch.context() as patched:
        patched.delattr(GtidSet, "__le__")
        patched.delattr(GtidSet, "__sub__")
        news = newer.encode_since(KNOWN)
    assert Publication.decode(news, known=KNOWN) == newer


def test_a_step_between_others_counts_for_nothing() -> None:
    """One from another set, one to another set, and one beside which more is new."""
    added = GtidSet.parse(f"{UUID_A}:7")
    executed = KNOWN.executed | added
    step = Step(KNOWN.executed, added, executed)
    newer = replace(KNOWN, position=101, executed=executed, step=step)
    for known, news in (
        (replace(KNOWN, executed=GtidSet.parse(f"{UUID_A}:1-3")), newer),
        (KNOWN, replace(newer, executed=executed | GtidSet.parse(f"{UUID_A}:9"))),
        (replace(KNOWN, server_version="8.3.0"), newer),
        (replace(KNOWN, timeline=1), newer),
        (replace(KNOWN, purged=GtidSet()), newer),
    ):
        assert Publication.decode(news.encode_since(known), known=known) == news


def test_news_make_no_sense_alone() -> None:
    with pytest.raises(ValueError, match="nobody told"):
        Publication.decode(replace(KNOWN, position=101).encode_since(KNOWN))


def test_of_nothing() -> None:
    assert publication_of([]) == NOTHING


def test_files_that_follow_each_other(tmp_path: Path) -> None:
    files = stored(tmp_path, [("", f"{UUID_A}:1-3"), (f"{UUID_A}:1-3", f"{UUID_A}:4")])
    assert publication_of(files) == Publication(
        1, "b.000002", files[1].size, GtidSet.parse(f"{UUID_A}:1-4"), GtidSet(), "8.0.2"
    )


def test_of_files_that_go_on_nothing_is_read(tmp_path: Path) -> None:
    files = stored(
        tmp_path, [(f"{UUID_A}:1-{n * 5}" if n else "", f"{UUID_A}:{n * 5 + 1}-{n * 5 + 5}") for n in range(9)]
    )
    for file in files[1:]:
        file.path.unlink()
    found = publication_of(files)
    assert (found.executed, found.purged) == (GtidSet.parse(f"{UUID_A}:1-45"), GtidSet())


def test_what_is_before_the_oldest_file_is_purged(tmp_path: Path) -> None:
    assert amounts_to(tmp_path, [(f"{UUID_A}:1-9,{UUID_B}:1", f"{UUID_A}:10-12")]) == (
        f"{UUID_A}:1-12,{UUID_B}:1",
        f"{UUID_A}:1-9,{UUID_B}:1",
    )


def test_what_is_missing_between_files_is_purged_too(tmp_path: Path) -> None:
    files = [
        ("", f"{UUID_A}:1-3"),
        (f"{UUID_A}:1-5", f"{UUID_A}:6"),
        (f"{UUID_A}:1-6,{UUID_B}:1-2", f"{UUID_A}:7,{UUID_B}:3"),
    ]
    assert amounts_to(tmp_path, files) == (f"{UUID_A}:1-7,{UUID_B}:1-3", f"{UUID_A}:4-5,{UUID_B}:1-2")


def test_what_only_a_later_file_lacks_is_no_less_there(tmp_path: Path) -> None:
    """After RESET or SET gtid_purged at the source PREVIOUS_GTIDS may be smaller than what went before."""
    files = [("", f"{UUID_A}:1-9"), (f"{UUID_A}:1-3", f"{UUID_A}:10")]
    assert amounts_to(tmp_path, files) == (f"{UUID_A}:1-10", "")


def test_gtids_out_of_order(tmp_path: Path) -> None:
    files = [("", f"{UUID_A}:1:3:5"), (f"{UUID_A}:1:3:5", f"{UUID_A}:2:4")]
    assert amounts_to(tmp_path, files) == (f"{UUID_A}:1-5", "")


def test_a_file_without_previous_gtids_claims_nothing(tmp_path: Path) -> None:
    files = [("", f"{UUID_A}:1"), (None, ""), (f"{UUID_A}:1-2", "")]
    assert amounts_to(tmp_path, files) == (f"{UUID_A}:1-2", f"{UUID_A}:2")


def test_timelines_that_overlap(tmp_path: Path) -> None:
    old = [(f"{UUID_A}:1-2", f"{UUID_A}:3-9")]
    new = [(f"{UUID_A}:1-5", f"{UUID_A}:6-9,{UUID_B}:1")]
    found = publication_of(stored(tmp_path, old, new))
    assert (found.timeline, found.file) == (2, "b.000001")
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-9,{UUID_B}:1")
    assert found.purged == GtidSet.parse(f"{UUID_A}:1-2")


def test_what_a_newer_timeline_holds_is_not_purged(tmp_path: Path) -> None:
    old = [(f"{UUID_A}:1-9", f"{UUID_A}:10")]
    new = [(f"{UUID_A}:1-2", f"{UUID_A}:3-7,{UUID_B}:1")]
    assert amounts_to(tmp_path, old, new) == (f"{UUID_A}:1-10,{UUID_B}:1", f"{UUID_A}:1-2:8-9")


def test_what_the_source_had_purged_is_purged_and_executed(tmp_path: Path) -> None:
    files = stored(tmp_path, [("", f"{UUID_A}:1-3"), (f"{UUID_A}:1-3", f"{UUID_A}:4")])
    save(Quick(), files[0].timeline.path, GtidSet.parse(f"{UUID_B}:1-9"))
    found = publication_of(files)
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-4,{UUID_B}:1-9")
    assert found.purged == GtidSet.parse(f"{UUID_B}:1-9")


@pytest.mark.parametrize("timeline", [0, 1])
def test_what_the_source_had_purged_and_a_file_of_any_timeline_holds_is_not(tmp_path: Path, timeline: int) -> None:
    files = stored(tmp_path, [("", f"{UUID_A}:1-3")], [("", f"{UUID_B}:4-6")])
    save(Quick(), files[timeline].timeline.path, GtidSet.parse(f"{UUID_A}:2-4,{UUID_B}:1-5"))
    found = publication_of(files)
    assert found.executed == GtidSet.parse(f"{UUID_A}:1-4,{UUID_B}:1-6")
    assert found.purged == GtidSet.parse(f"{UUID_A}:4,{UUID_B}:1-3")


def history(chance: random.Random) -> list[Contents]:
    """A source's files: some are missing, some were begun when nothing, or less, was known to be before them."""
    before = GtidSet()
    files: list[Contents] = []
    for _ in range(chance.randrange(1, 7)):
        if chance.random() < 0.15:
            before = chance.choice(
                [GtidSet(), before & GtidSet.parse(f"{UUID_A}:1-7"), before.add_run(SID_B, "", 5, 9)]
            )
        runs = (
            (chance.choice([SID_A, SID_B]), chance.choice(["", "t"]), gno, gno + chance.randrange(3))
            for gno in range(1, 30)
        )
        added = GtidSet.from_runs(run for run in runs if chance.random() < 0.15) - before
        if chance.random() < 0.8:
            files.append((None if chance.random() < 0.05 else before.compact(), added.compact()))
        before |= added
    return files


@pytest.mark.parametrize("seed", range(60))
def test_it_is_as_if_every_claim_were_read(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    timelines = [history(chance) for _ in range(chance.randrange(1, 4))]
    claims, held = GtidSet(), GtidSet()
    for previous, added in chain.from_iterable(timelines):
        claims |= GtidSet.parse(previous or "")
        held |= GtidSet.parse(added)
    assert amounts_to(tmp_path, *timelines) == ((claims | held).compact(), (claims - held).compact())


def test_many_runs_are_taken_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MANY_RUNS", 3)
    odd = [f"{UUID_A}:" + ":".join(map(str, range(n * 10 + 1, n * 10 + 10, 2))) for n in range(4)]
    files = [(",".join(odd[:n]), odd[n]) for n in range(4)]
    assert amounts_to(tmp_path, files) == (GtidSet.parse(",".join(odd)).compact(), "")
