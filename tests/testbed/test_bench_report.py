"""Medians, targets and the table of the benchmark, from samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from testbed.bench import __main__ as main
from testbed.bench import plots, report, stage
from testbed.bench.clients import ends_dump
from testbed.bench.samples import Column, Outcome, Sample, Section, Sense, Target, judge, medians
from testbed.bench.stage import SIZES, Stage

MACHINE: dict[str, Any] = {
    "cpu": "some CPU",
    "cores": 2,
    "ram_bytes": 8 << 30,
    "disk": {"file_system": "ext4", "device": "sda"},
    "fdatasync_s": {"p50": 0.0005, "p99": 0.002},
    "kernel": "Linux",
    "mysql": "9.7.4",
    "python": "CPython 3.13",
    "binlogd": "1.0",
    "commit": "abc",
    "measured_at": "2026-01-01T00:00:00Z",
}

SAMPLES = [
    Sample("row", "peer", 1, {"wall_s": 4.0, "peak_rss_bytes": 10.0}),
    Sample("row", "own", 1, {"wall_s": 1.0, "peak_rss_bytes": 30.0}),
    Sample("row", "peer", 2, {"wall_s": 6.0, "peak_rss_bytes": 10.0}),
    Sample("row", "own", 2, {"wall_s": 2.0, "peak_rss_bytes": 20.0}),
    Sample("row", "peer", 3, {"wall_s": 100.0, "peak_rss_bytes": 10.0}),
    Sample("row", "own", 3, {"wall_s": 3.0, "peak_rss_bytes": 20.0}),
    Sample("other row", "own", 1, {"wall_s": 0.5}),
]


def section(*targets: Target) -> Section:
    def measure(_: Stage) -> Iterator[Sample]:
        yield from SAMPLES

    columns = (
        Column("s", "wall_s"),
        Column("× peer", "wall_s", over="peer"),
        Column("per s", "wall_s", per="peak_rss_bytes", digits=0),
        Column("absent", "absent"),
    )
    return Section("name", "Title", "About it.", measure, columns, targets)


def test_the_median_counts_and_of_peaks_the_highest() -> None:
    found = medians(SAMPLES)
    assert found["row", "own"] == {"wall_s": 2.0, "peak_rss_bytes": 30.0}
    assert found["row", "peer"] == {"wall_s": 6.0, "peak_rss_bytes": 10.0}
    assert list(found) == [("row", "peer"), ("row", "own"), ("other row", "own")]


@pytest.mark.parametrize(
    ("target", "seen", "met"),
    [
        (Target("", "own", "wall_s", Sense.AS_FAST, 3, "peer"), 3.0, True),
        (Target("", "own", "wall_s", Sense.AS_FAST, 3.1, "peer"), 3.0, False),
        (Target("", "own", "wall_s", Sense.AT_MOST, 0.4, "peer"), 1 / 3, True),
        (Target("", "own", "wall_s", Sense.AT_MOST, 0.3, "peer"), 1 / 3, False),
        (Target("", "own", "wall_s", Sense.AT_LEAST, 0.3, "peer"), 1 / 3, True),
        (Target("", "own", "peak_rss_bytes", Sense.AT_MOST, 3, scale=10), 3.0, True),
        (Target("", "own", "peak_rss_bytes", Sense.AT_MOST, 2.9, scale=10), 3.0, False),
        (Target("", "own", "wall_s", Sense.AT_MOST, 0.2, "peer", "peak_rss_bytes"), 0.2, True),
    ],
)
def test_a_target_is_met_or_missed(target: Target, seen: float, met: bool) -> None:
    # Rows without a peer's or an own figure are not judged.
    (verdict,) = judge([target], medians(s for s in SAMPLES if target.peer or s.row == "row"))
    assert verdict.row == "row"
    assert verdict.seen == pytest.approx(seen)
    assert verdict.met is met


def test_a_target_holds_in_the_rows_it_names() -> None:
    target = Target("", "own", "wall_s", Sense.AT_MOST, 9, rows="^other")
    assert [verdict.row for verdict in judge([target], medians(SAMPLES))] == ["other row"]


def test_the_table_shows_each_contender_and_what_was_promised() -> None:
    outcome = Outcome(section(Target("≤ 0.1 × peer", "own", "wall_s", Sense.AT_MOST, 0.1, "peer")), SAMPLES)
    lines = report.table(outcome).splitlines()
    assert lines[4:] == [
        "| | | s | × peer | per s | target |",
        "|---|---|---:|---:|---:|---|",
        "| row | peer | 6.00 | 1.00 | 2 |  |",
        "|  | own | 2.00 | 0.33 | 15 | ≤ 0.1 × peer: 0.333, **missed** |",
        "| other row | own | 0.50 |  |  |  |",
    ]


def test_a_section_that_fails_keeps_its_samples_and_says_so(tmp_path: Path) -> None:
    def measure(_: Stage) -> Iterator[Sample]:
        yield SAMPLES[0]
        raise OSError("the disk is full")

    place = Stage(SIZES["tiny"])
    with_error = main.run_section(Section("bad", "Bad", "", measure, (Column("s", "wall_s"),)), place)
    sound = main.run_section(section(), place)
    place.__exit__(None, None, None)
    report.write(tmp_path, MACHINE, SIZES["tiny"], [with_error, sound])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["sections"]["bad"]["error"] == "OSError: the disk is full"
    assert len(results["sections"]["bad"]["samples"]) == 1
    assert len(results["sections"]["name"]["samples"]) == len(SAMPLES)
    table = (tmp_path / "table.md").read_text()
    assert "**This section failed, and what follows is what came before:** OSError: the disk is full" in table
    assert "| row | peer | 4.00 |  |" in table


@pytest.mark.servers
@pytest.mark.usefixtures("mysql")
def test_a_run_of_which_a_part_failed_ends_with_code_1_and_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(_: Stage) -> Iterator[Sample]:
        yield SAMPLES[0]
        raise OSError("the disk is full")

    bad = Section("bad", "Bad", "", measure, (Column("s", "wall_s"),))
    monkeypatch.setattr(main, "SECTIONS", (bad, section()))
    monkeypatch.setattr(stage, "hide_own_configuration", lambda _: None)  # it changes the environment for good
    monkeypatch.setattr(plots, "available", lambda: False)
    outcome = CliRunner().invoke(main.main, ["--size", "tiny", "--out", str(tmp_path)])
    assert outcome.exit_code == 1
    assert "the disk is full" in outcome.stdout
    sections = json.loads((tmp_path / "results.json").read_text())["sections"]
    assert [len(each["samples"]) for each in sections.values()] == [1, len(SAMPLES)]
    monkeypatch.setattr(main, "SECTIONS", (section(),))
    assert CliRunner().invoke(main.main, ["--size", "tiny", "--out", str(tmp_path)]).exit_code == 0


def test_figures_of_a_disk_that_is_none_are_called_so() -> None:
    machine = MACHINE | {"disk": {"file_system": "tmpfs", "device": "tmpfs"}}
    assert "syncing costs nothing" in report.markdown(machine, SIZES["tiny"], [])
    assert "syncing costs nothing" not in report.markdown(MACHINE, SIZES["tiny"], [])


def test_every_target_is_of_a_figure_that_is_shown() -> None:
    for each in main.SECTIONS:
        shown = {column.figure for column in each.columns}
        for target in each.targets:
            assert {target.figure, target.peer_figure or target.figure} <= shown, target


@pytest.mark.parametrize(
    ("tail", "ends"),
    [
        (b"\x05\0\0\x09\xfe\0\0\x02\0", True),
        (b"xx\x05\0\0\x09\xfe\0\0\x02\0", True),
        (b"\x07\0\0\x09\xfe\0\0\x02\0\0\0", True),
        (b"\x07\0\0\x09\xfe\x01\0\x02\0\0\0", False),
        (b"\x05\0\0\x09\x00\0\0\x02\0", False),
        (b"\x06\0\0\x09\xfe\0\0\x02\0", False),
        (b"\xfe\0\0\x02\0", False),
        (b"", False),
    ],
)
def test_the_end_of_a_dump(tail: bytes, ends: bool) -> None:
    assert ends_dump(tail) is ends
