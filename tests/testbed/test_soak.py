"""``make soak``: its judge can say each thing that may be wrong, its plans meet everything, its parser reads bytes.

That rounds can be played is in tests/e2e/test_soak.py.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner

import testbed.soak.__main__ as soaking
from testbed.distributions import Distribution
from testbed.soak.files import gtids_in
from testbed.soak.judge import (
    MOST_MEMORY,
    SPARE_DESCRIPTORS,
    SPARE_MEMORY,
    Dark,
    Fault,
    FilePair,
    Observed,
    Sample,
    judge,
    judge_growth,
)
from testbed.soak.plan import DECK, Plan, Strike, Victim, plan_round
from testbed.soak.report import Tally, round_line, table
from testbed.soak.rounds import Played

SID = "48a1f00c-e6e5-11f1-a1c2-02fc00000001"
FINISHED = FilePair("mysql-bin.000002", finished=True, size=900, source_size=900, difference=None)
NEWEST = FilePair("mysql-bin.000003", finished=False, size=200, source_size=200, difference=None)
DARK = Dark(frozenset({1, 2}), frozenset({1, 2, 3}), f"{SID}:1-8", f"{SID}:1-8")
SAMPLE = Sample("receive", 100, 20, 40 << 20)
GOOD = Observed(
    number=7,
    confirmed=frozenset({1, 2, 4}),
    uncertain=frozenset({3, 5}),
    source_rows=frozenset({1, 2, 3, 4}),
    replica_rows=frozenset({1, 2, 3, 4}),
    source_checksums={"load_rows": 77},
    replica_checksums={"load_rows": 77},
    source_gtids=f"{SID}:1-9",
    store_gtids=f"{SID}:1-9",
    replica_gtids=f"{SID}:1-9",
    before=f"{SID}:1-5",
    transactions=[f"{SID}:{number}" for number in (6, 7, 8, 9)],
    stored=["mysql-bin.000001", "mysql-bin.000002", "mysql-bin.000003"],
    logged=["mysql-bin.000001", "mysql-bin.000002", "mysql-bin.000003"],
    files=[FINISHED, NEWEST],
    darks=[DARK],
    intruders=[4],
    samples=[SAMPLE],
)


def test_nothing_is_wrong_when_all_is_as_promised() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("seen", "fault", "count", "words"),
    [
        (
            replace(GOOD, replica_rows=frozenset({1, 3, 4})),
            Fault.LOST,
            1,
            "the replica lacks committed rows: 1, of ids 2",
        ),
        (
            replace(GOOD, source_rows=frozenset({1, 3}), replica_rows=frozenset({1, 3})),
            Fault.LOST,
            2,
            "the source lacks committed rows: 2, of ids 2, 4",
        ),
        (replace(GOOD, store_gtids=f"{SID}:1-7:9"), Fault.LOST, 1, f"the store lacks GTIDs of the source: {SID}:8"),
        (replace(GOOD, replica_gtids=f"{SID}:1-7"), Fault.LOST, 2, "the replica lacks GTIDs"),
        (
            replace(GOOD, transactions=[f"{SID}:{number}" for number in (6, 7, 9)]),
            Fault.LOST,
            1,
            f"the stored files lacks GTIDs of the source: {SID}:8",
        ),
        (replace(GOOD, darks=[replace(DARK, rows=frozenset({1}))]), Fault.LOST, 1, "not to be had back: 1, of ids 2"),
        (
            replace(GOOD, darks=[DARK, replace(DARK, store=f"{SID}:1-6")]),
            Fault.LOST,
            2,
            f"given the replica: {SID}:7-8",
        ),
        (replace(GOOD, transactions=[*GOOD.transactions, f"{SID}:7"]), Fault.REPEATED, 1, f"again: {SID}:7"),
        (replace(GOOD, transactions=[f"{SID}:5", *GOOD.transactions]), Fault.REPEATED, 1, f"again: {SID}:5"),
        (replace(GOOD, replica_error=(1062, "Duplicate entry '4'")), Fault.REPEATED, 1, "Duplicate entry '4'"),
        (replace(GOOD, replica_error=(1236, "purged")), Fault.BROKE, 1, "the replica stopped: error 1236, purged"),
        (replace(GOOD, files=[replace(FINISHED, difference=455)]), Fault.DIFFERS, 1, "at byte 455"),
        (replace(GOOD, files=[replace(FINISHED, size=899)]), Fault.DIFFERS, 1, "899 bytes, at the source 900"),
        (replace(GOOD, files=[replace(NEWEST, size=201)]), Fault.DIFFERS, 1, "201 bytes, at the source 200"),
        (
            replace(GOOD, stored=GOOD.stored[1:]),
            Fault.DIFFERS,
            1,
            "not both stored and at the source: mysql-bin.000001",
        ),
        (
            replace(GOOD, logged=GOOD.logged[:-1]),
            Fault.DIFFERS,
            1,
            "not both stored and at the source: mysql-bin.000003",
        ),
        (replace(GOOD, unreadable=["no event at 7"]), Fault.DIFFERS, 1, "no event at 7"),
        (replace(GOOD, replica_checksums={"load_rows": 78}), Fault.STRAYED, 1, "CHECKSUM TABLE"),
        (replace(GOOD, replica_rows=frozenset({1, 2, 4})), Fault.STRAYED, 1, "do not hold the same rows: 1, of ids 3"),
        (
            replace(GOOD, source_rows=GOOD.source_rows | {99}, replica_rows=GOOD.replica_rows | {99}),
            Fault.STRAYED,
            1,
            "nobody committed: 1, of ids 99",
        ),
        (replace(GOOD, store_gtids=f"{SID}:1-10"), Fault.STRAYED, 1, f"the source has not: {SID}:10"),
        (replace(GOOD, without_ack=3), Fault.UNACKNOWLEDGED, 3, "without an acknowledgement"),
        (replace(GOOD, switched_off=1), Fault.UNACKNOWLEDGED, 1, "switched semi-sync off"),
        (replace(GOOD, stuck=["no stream"]), Fault.BROKE, 1, "no stream"),
        (replace(GOOD, complaints=["Traceback"]), Fault.BROKE, 1, "Traceback"),
        (replace(GOOD, strays=["17 binlogd receive"]), Fault.BROKE, 1, "left behind: 17 binlogd receive"),
        (replace(GOOD, intruders=[4, 0]), Fault.BROKE, 1, "ended with code 0, not 4"),
    ],
)
def test_each_thing_that_is_wrong_is_said_and_nothing_else(
    seen: Observed, fault: Fault, count: int, words: str
) -> None:
    (finding,) = judge(seen)
    assert (finding.fault, finding.count) == (fault, count)
    assert words in finding.what


def test_a_round_in_which_nobody_committed_proves_nothing() -> None:
    seen = replace(GOOD, confirmed=frozenset(), uncertain=GOOD.source_rows, darks=[])
    assert [(finding.fault, finding.what) for finding in judge(seen)] == [
        (Fault.BROKE, "no commit returned: the round proves nothing")
    ]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (replace(SAMPLE, descriptors=SAMPLE.descriptors + SPARE_DESCRIPTORS + 1), "20 file descriptors became 25"),
        (replace(SAMPLE, memory=SAMPLE.memory + SPARE_MEMORY + (1 << 20)), "40 MiB of memory became 65"),
        (replace(SAMPLE, pid=101, memory=MOST_MEMORY + (1 << 20)), "holds 97 MiB, granted are 96"),
    ],
)
def test_growth(end: Sample, words: str) -> None:
    """Of one process; another one with the same work begins anew."""
    (finding,) = judge_growth([[SAMPLE], [], [SAMPLE, end]])
    assert finding.fault is Fault.GROWN
    assert words in finding.what


def test_no_growth() -> None:
    most = replace(SAMPLE, descriptors=SAMPLE.descriptors + SPARE_DESCRIPTORS, memory=SAMPLE.memory + SPARE_MEMORY)
    other = replace(SAMPLE, pid=101, descriptors=60)
    assert judge_growth([[SAMPLE], [most], [other], [SAMPLE]]) == []


def test_a_deck_meets_everything() -> None:
    """Whoever dies is hit in any ten rounds but those that spare binlogd; in those the others are."""
    for first in (1, 11, 21, 41):
        plans = [plan_round(3, number) for number in range(first, first + DECK)]
        hit = {strike.victim for plan in plans for strike in plan.strikes}
        assert hit == set(Victim)
        assert sum(plan.giant for plan in plans) == sum(any(s.torn for s in plan.strikes) for plan in plans) == 2
        assert any(plan.dark for plan in plans)
    calm = {strike.victim for number in range(31, 41) for strike in plan_round(3, number).strikes}
    assert calm == {Victim.SOURCE, Victim.REPLICA, Victim.RESTART, Victim.INTRUDER}


def test_what_is_dead_for_a_look_is_hit_last_and_once() -> None:
    for plan in (plan_round(seed, number) for seed in range(5) for number in range(1, 81)):
        assert plan.strikes
        if plan.dark:
            assert plan.strikes[-1].victim is Victim.SOURCE
            assert [strike.victim for strike in plan.strikes].count(Victim.SOURCE) == 1


def test_a_seed_is_a_plan() -> None:
    assert [plan_round(5, number) for number in range(1, 60)] == [plan_round(5, number) for number in range(1, 60)]
    assert plan_round(5, 7) != plan_round(6, 7)


def event(kind: int, body: bytes) -> bytes:
    return bytes(4) + bytes([kind]) + bytes(4) + (19 + len(body)).to_bytes(4, "little") + bytes(6) + body


def test_reading_gtids(tmp_path: Path) -> None:
    path = tmp_path / "mysql-bin.000001"
    gtids = [event(33, b"\1" + UUID(SID).bytes + number.to_bytes(8, "little")) for number in (6, 7, 7)]
    path.write_bytes(b"\xfebin" + event(15, b"x" * 90) + b"".join(one + event(2, b"BEGIN") for one in gtids))
    assert gtids_in(path) == [f"{SID}:6", f"{SID}:7", f"{SID}:7"]
    for spoilt in (b"\xfebon", path.read_bytes()[:-1], b"\xfebin" + event(15, b"")[:9] + bytes(10)):
        path.write_bytes(spoilt)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            gtids_in(path)


def test_the_table_counts_what_was_found() -> None:
    plan = Plan(7, [Strike(Victim.RECEIVER, 0.25, torn=True), Strike(Victim.SOURCE, 0.01)], giant=True, dark=True)
    bad = replace(GOOD, replica_rows=frozenset({3}), files=[replace(FINISHED, difference=455), NEWEST])
    good_round = Played(plan, GOOD, judge(GOOD), 3.94, [Victim.RECEIVER, Victim.SOURCE], torn=1, late=1)
    bad_round = Played(plan, bad, judge(bad), 3.94, [Victim.RECEIVER])
    tally = Tally()
    tally.add(good_round)
    assert round_line(good_round, 200, tally.commits) == (
        "   7/200  receiver in the giant +0.25; source at +0.01, and a look while it is dead, torn;"
        " 3 commits, 3 so far, 3.9 s: ok"
    )
    tally.add(bad_round)
    assert round_line(bad_round, 200, tally.commits).endswith(" 3 commits, 6 so far, 3.9 s: FAILED")
    lines = table(tally, tally.all_findings(), seed=5, seconds=8.2).splitlines()
    assert lines[:2] == ["| | |", "|---|---:|"]
    cells = dict(line.strip("| ").split(" | ") for line in lines[2:])
    wanted = {
        "rounds": "2",
        "hit: receiver": "2",
        "hit: source": "1",
        "hit: sender": "0",
        "of those in the middle of a 30 MB transaction": "1",
        "commits journaled": "6",
        "of those looked for while the source was dead": "4",
        "of those returned while the source was being stopped": "1",
        "commits cut off, promised to nobody": "4",
        "finished files compared": "2",
        "lost": "3",
        "repeated": "0",
        "differing files": "1",
        "most of receive": "40 MiB, 20 descriptors, 2 rounds",
        "most of serve": "–",
        "seed": "5",
        "seconds": "8",
    }
    assert {name: cells[name] for name in wanted} == wanted


@pytest.mark.parametrize("wrong", [False, True])
def test_what_is_wrong_is_the_exit_code(
    wrong: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mysql: Distribution
) -> None:
    """And what is needed to look into it stays, and to play it again is said."""

    def soak(folder: Path, _: Distribution, tally: Tally, **options: object) -> None:
        assert options == {"seed": 5, "first": 3, "rounds": 8, "minutes": 1.0}
        (folder / "evidence").touch()
        seen = replace(GOOD, replica_rows=frozenset({3})) if wrong else GOOD
        tally.add(Played(plan_round(5, 3), seen, judge(seen), 3.9))

    monkeypatch.setattr(soaking, "soak", soak)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("BINLOGD_CONFIG", "BINLOGD_TEST_CACHE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # what `main` sets goes with the test
    result = CliRunner().invoke(soaking.main, ["--seed", "5", "--first", "3", "--rounds", "8", "--minutes", "1"])
    assert result.exit_code == int(wrong), result.output
    assert f"| lost | {3 * wrong} |" in result.stdout
    kept = list(tmp_path.glob("binlogd-soak-*/evidence"))
    assert len(kept) == int(wrong)
    if wrong:
        assert "soak: lost: the replica lacks committed rows: 3, of ids 1, 2, 4" in result.stderr
        assert f"kept in {kept[0].parent}; again: --seed 5 --first 3 --rounds 1" in result.stderr
