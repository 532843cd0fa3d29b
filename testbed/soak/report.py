"""What is said of a soak: a line a round, one table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from testbed.soak.judge import Fault, Finding, Sample, judge_growth
from testbed.soak.plan import Victim
from testbed.soak.rounds import Played

ROLES = ("supervisor", "receive", "serve")


@dataclass(slots=True)
class Tally:
    """The sums over all rounds."""

    rounds: int = 0
    kills: Counter[Victim] = field(default_factory=Counter)
    commits: int = 0
    uncertain: int = 0
    dark: int = 0
    torn: int = 0
    late: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    samples: list[Sequence[Sample]] = field(default_factory=list)

    def add(self, played: Played) -> None:
        """One more round."""
        seen = played.seen
        self.rounds += 1
        self.kills.update(played.kills)
        self.commits += len(seen.confirmed)
        self.uncertain += len(seen.uncertain)
        self.dark += sum(len(dark.confirmed) for dark in seen.darks)
        self.torn += played.torn
        self.late += played.late
        self.files += sum(pair.finished for pair in seen.files)
        self.findings += played.findings
        self.samples.append(seen.samples)

    def all_findings(self) -> list[Finding]:
        """Those of the rounds, and what grew over them."""
        return [*self.findings, *judge_growth(self.samples)]


def round_line(played: Played, rounds: int, commits: int) -> str:
    """``  7/200  receiver at +0.31  812 commits, 9120 so far, 3.9 s  ok``."""
    verdict = "ok" if not played.findings else "FAILED"
    torn = ", torn" if played.torn else ""
    return (
        f"{played.plan.number:4}/{rounds}  {played.plan}{torn};"
        f" {len(played.seen.confirmed)} commits, {commits} so far, {played.seconds:.1f} s: {verdict}"
    )


def table(tally: Tally, findings: Iterable[Finding], *, seed: int, seconds: float) -> str:
    """In Markdown, as docs/reliability.md shows it."""
    counts: Counter[Fault] = Counter()
    for finding in findings:
        counts[finding.fault] += finding.count
    lines = [
        ("rounds", str(tally.rounds)),
        *((f"hit: {victim.value}", str(tally.kills[victim])) for victim in Victim),
        ("of those in the middle of a 30 MB transaction", str(tally.torn)),
        ("commits journaled", str(tally.commits)),
        ("of those looked for while the source was dead", str(tally.dark)),
        ("of those returned while the source was being stopped", str(tally.late)),
        ("commits cut off, promised to nobody", str(tally.uncertain)),
        ("finished files compared", str(tally.files)),
        *((fault.value, str(counts[fault])) for fault in Fault),
        *((f"most of {role}", _most(tally, role)) for role in ROLES),
        ("seed", str(seed)),
        ("seconds", f"{seconds:.0f}"),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in lines)])


def _most(tally: Tally, role: str) -> str:
    """The most that a process of ``role`` held at the end of a round, and for how many rounds one of them lived."""
    samples = [sample for round_ in tally.samples for sample in round_ if sample.role == role]
    if not samples:
        return "–"
    memory, descriptors = max(s.memory for s in samples) >> 20, max(s.descriptors for s in samples)
    _, rounds = Counter(sample.pid for sample in samples).most_common(1)[0]
    return f"{memory} MiB, {descriptors} descriptors, {rounds} rounds"
