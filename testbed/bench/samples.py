"""Samples, and what a section says of itself: columns to show, targets to judge by.

A sample's figures are named with their unit: ``…_s`` seconds, ``…_bytes``, ``tps``. Of several rounds the median
counts, of figures called ``peak_…`` the highest: a limit of memory holds always or not at all.
"""

from __future__ import annotations

import enum
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.bench.stage import Stage

Figures = Mapping[str, float]
Medians = Mapping[tuple[str, str], Figures]
"""(row, who) to figures, in the order in which they were first measured."""

MB = 1_000_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One contender's one measurement. ``series`` are figures over time, for plots."""

    row: str
    who: str
    round: int
    figures: Figures
    series: Mapping[str, list[float]] = field(default_factory=dict)


class Sense(enum.Enum):
    """How a figure is held against its limit; ``own / peer``, without a peer the figure itself."""

    AT_MOST = "≤"
    AT_LEAST = "≥"
    AS_FAST = "as fast"
    """``peer / own`` is at least the limit: of figures that are times."""


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about one contender's figure in the rows that ``rows`` (a regular expression) is found in."""

    words: str
    who: str
    figure: str
    sense: Sense
    limit: float
    peer: str = ""
    peer_figure: str = ""
    rows: str = ""
    scale: float = 1.0
    """What an absolute figure is divided by before it is compared and shown."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target in one row: ``seen`` is the ratio or the scaled figure."""

    row: str
    target: Target
    seen: float
    met: bool

    def __str__(self) -> str:
        return f"{self.target.words}: {self.seen:.3g}, {'met' if self.met else '**missed**'}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a section's table: a figure divided by ``scale``, or by the same figure of the contender ``over``.

    ``per`` makes it a rate: the figure ``per`` divided by this one.
    """

    heading: str
    figure: str
    scale: float = 1.0
    digits: int = 2
    over: str = ""
    per: str = ""

    def text(self, medians: Medians, row: str, who: str) -> str:
        """The cell; empty where there is no such figure."""
        value = medians[row, who].get(self.figure)
        if value is None or (not value and self.figure.startswith("peak_")):  # it ended before anybody looked
            return ""
        if self.per:
            amount = medians[row, who].get(self.per)
            return "" if amount is None or not value else f"{amount / value / self.scale:,.{self.digits}f}"
        if self.over:
            other = medians.get((row, self.over), {}).get(self.figure)
            return "" if not other else f"{value / other:,.{self.digits}f}"
        return f"{value / self.scale:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Section:
    """One thing that is measured. ``about`` says how, for whoever reads the table."""

    name: str
    title: str
    about: str
    measure: Callable[[Stage], Iterator[Sample]]
    columns: tuple[Column, ...]
    targets: tuple[Target, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What came of a section: all samples up to its end or to its ``error``; ``seconds`` is what it took."""

    section: Section
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    def medians(self) -> dict[tuple[str, str], dict[str, float]]:
        """What counts of the samples."""
        return medians(self.samples)

    def verdicts(self) -> list[Verdict]:
        """Every target in every row in which both it and its peer were measured."""
        return list(judge(self.section.targets, self.medians()))

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "title": self.section.title,
            "about": self.section.about,
            "seconds": round(self.seconds, 1),
            "error": self.error or None,
            "samples": [
                {"row": s.row, "who": s.who, "round": s.round, "figures": dict(s.figures)}
                | ({"series": dict(s.series)} if s.series else {})
                for s in self.samples
            ],
            "verdicts": [
                {"row": v.row, "who": v.target.who, "target": v.target.words, "seen": v.seen, "met": v.met}
                for v in self.verdicts()
            ],
        }


def medians(samples: Iterable[Sample]) -> dict[tuple[str, str], dict[str, float]]:
    """See ``Medians``."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for sample in samples:
        figures = found.setdefault((sample.row, sample.who), {})
        for name, value in sample.figures.items():
            figures.setdefault(name, []).append(value)
    return {
        key: {
            name: max(values) if name.startswith("peak_") else statistics.median(values)
            for name, values in figures.items()
        }
        for key, figures in found.items()
    }


def judge(targets: Iterable[Target], found: Medians) -> Iterator[Verdict]:
    """Each target against each row that has what it needs."""
    for target in targets:
        for (row, who), figures in found.items():
            if who != target.who or not re.search(target.rows, row):
                continue
            own = figures.get(target.figure)
            if own is None:
                continue
            seen = own / target.scale
            if target.peer:
                other = found.get((row, target.peer), {}).get(target.peer_figure or target.figure)
                if not other or not own:
                    continue
                seen = other / own if target.sense is Sense.AS_FAST else own / other
            met = seen <= target.limit if target.sense is Sense.AT_MOST else seen >= target.limit
            yield Verdict(row, target, seen, met)
