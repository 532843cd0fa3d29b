"""What comes out: results.json with every sample, table.md with the medians and the targets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed.bench.samples import Outcome
from testbed.bench.stage import Sizes

UNSYNCED = ("tmpfs", "ramfs")
RESULTS, TABLE = "results.json", "table.md"
GIB = 1 << 30


def write(folder: Path, machine: Mapping[str, Any], sizes: Sizes, outcomes: Sequence[Outcome]) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "machine": machine,
        "sizes": asdict(sizes),
        "sections": {outcome.section.name: outcome.as_json() for outcome in outcomes},
    }
    (folder / RESULTS).write_text(json.dumps(results, indent=1) + "\n")
    (folder / TABLE).write_text(markdown(machine, sizes, outcomes))


def markdown(machine: Mapping[str, Any], sizes: Sizes, outcomes: Sequence[Outcome]) -> str:
    """The whole report."""
    return "\n".join([_head(machine, sizes), _summary(outcomes), *(table(outcome) for outcome in outcomes)])


def _head(machine: Mapping[str, Any], sizes: Sizes) -> str:
    disk, sync = machine["disk"], machine["fdatasync_s"]
    lines = [
        f"MySQL {machine['mysql']}, {machine['python']}, binlogd {machine['binlogd']} ({machine['commit']});"
        f" {machine['cpu']}, {machine['cores']} cores, {machine['ram_bytes'] / GIB:.0f} GiB, {machine['kernel']};"
        f" {disk['file_system']} on {disk['device']}, fdatasync of 4 KiB {sync['p50'] * 1e3:.2f} ms"
        f" (p99 {sync['p99'] * 1e3:.2f} ms). {machine['measured_at']}; {_rounds(sizes.rounds)}"
        " where a section does not say otherwise.",
        "",
    ]
    if sizes.transactions < Sizes().transactions:
        lines += ["Small loads, to see that nothing went wrong: the targets are for those of `make bench`.", ""]
    if disk["file_system"] in UNSYNCED:
        lines += [
            f"**The files were on {disk['file_system']}, where syncing costs nothing: set TMPDIR to a disk.**",
            "",
        ]
    return "\n".join(lines)


def _rounds(number: int) -> str:
    return f"medians of {number} rounds" if number > 1 else "one round"


def _summary(outcomes: Sequence[Outcome]) -> str:
    verdicts = [(outcome, verdict) for outcome in outcomes for verdict in outcome.verdicts()]
    missed = [
        f"- {outcome.section.title}, {verdict.row}: {verdict.target.who} {verdict.target.words}: {verdict.seen:.3g}"
        for outcome, verdict in verdicts
        if not verdict.met
    ]
    said = [f"{len(verdicts) - len(missed)} of {len(verdicts)} targets met."]
    said += ["Missed:", "", *missed] if missed else []
    return "\n".join([*said, ""])


def table(outcome: Outcome) -> str:
    """One section: a line for each contender of each row."""
    section, medians = outcome.section, outcome.medians()
    lines = [f"## {section.title}", "", section.about, ""]
    if outcome.error:
        lines += [f"**This section failed, and what follows is what came before:** {outcome.error}", ""]
    if medians:
        shown = [column for column in section.columns if any(column.figure in figures for figures in medians.values())]
        lines += [
            f"| | | {' | '.join(column.heading for column in shown)} | target |",
            f"|---|---|{'---:|' * len(shown)}---|",
        ]
        verdicts = outcome.verdicts()
        last = None
        for row, who in medians:
            judged = "; ".join(str(v) for v in verdicts if v.row == row and v.target.who == who)
            cells = [column.text(medians, row, who) for column in shown]
            lines.append(f"| {row if row != last else ''} | {who} | {' | '.join(cells)} | {judged} |")
            last = row
    return "\n".join([*lines, ""])
