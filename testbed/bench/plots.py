"""SVG plots of what was measured; matplotlib draws them (the ``bench`` extra), and without it there are none.

The same samples give the same bytes: no date, no random ids. Text stays text, so that the files are small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from testbed.bench import catch_up, commits, fanout, memory, seeks, serving
from testbed.bench.samples import MB, MIB, Medians, Outcome

WIDTH, HEIGHT = 4.6, 3.2  # inches of one set of axes
OTHER = "#555555"
MARKED = 40  # points of one line that are shown one by one
COLOURS = {
    catch_up.NULL: "#9e9e9e",
    catch_up.MYSQLBINLOG: "#c98b2b",
    catch_up.REPLICA: "#7a5195",
    catch_up.COMPILED: "#00695c",
    catch_up.PLAIN: "#7fb7ae",
    serving.BINLOGD: "#2b8cbe",
    serving.MYSQLD: "#d1495b",
    commits.SYNCED: "#7a5195",
    commits.DEFAULT: "#c98b2b",
    commits.NOBODY: "#9e9e9e",
}
Points = dict[str, list[tuple[float, float]]]
"""By contender: (x, y)."""


def available() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(folder: Path, outcomes: Iterable[Outcome]) -> list[Path]:
    """Draw each section's plot into ``folder``; the files."""
    import matplotlib

    drawn = []
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "binlogd", "font.size": 8}):
        for outcome in outcomes:
            if outcome.samples:
                figure = DRAWINGS[outcome.section.name](outcome)
                path = folder / f"{outcome.section.name}.svg"
                figure.savefig(path, metadata={"Date": None})
                path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))
                drawn.append(path)
    return drawn


def _axes(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * count, HEIGHT), layout="constrained")
    return figure, [figure.add_subplot(1, count, number + 1) for number in range(count)]


def _lines(axes: Any, points: Points, *, x: str, y: str, log: str = "", ticks: bool = False) -> None:
    """One line a contender; ``log`` names the axes that are logarithmic, ``ticks`` marks the measured x alone."""
    for who, line in points.items():
        marker = "o" if len(line) <= MARKED else ""
        axes.plot(*zip(*sorted(line), strict=True), marker=marker, markersize=3, label=who, color=COLOURS.get(who))
    from matplotlib.ticker import FuncFormatter, LogLocator

    for name in log:
        getattr(axes, f"set_{name}scale")("log")
    if "y" in log:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    if ticks:
        measured = sorted({at for line in points.values() for at, _ in line})
        axes.set_xticks(measured, [f"{at:g}" for at in measured], minor=False)
        axes.set_xticks([], minor=True)
    if "y" not in log:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7, frameon=False)


def _points(
    medians: Medians, x: Callable[[str, Mapping[str, float]], float | None], y: Callable[[Mapping[str, float]], float]
) -> Points:
    """What of each contender has both; ``x`` is told the row."""
    points: Points = {}
    for (row, who), figures in medians.items():
        try:
            at, value = x(row, figures), y(figures)
        except KeyError:
            continue
        if at is not None:
            points.setdefault(who, []).append((at, value))
    return points


def _catch_up(outcome: Outcome) -> Any:
    medians = outcome.medians()
    rows = list(dict.fromkeys(row for row, _ in medians))
    figure, all_axes = _axes(len(rows))
    for axes, row in zip(all_axes, rows, strict=True):
        bars = [(who, figures["dump_s"]) for (of, who), figures in medians.items() if of == row][::-1]
        axes.barh([who for who, _ in bars], [s for _, s in bars], color=[COLOURS.get(who, OTHER) for who, _ in bars])
        for number, (_, seconds) in enumerate(bars):
            axes.annotate(f" {seconds:.2f}", (seconds, number), va="center")
        axes.set_title(row)
        axes.set_xlabel("seconds from the dump command")
        axes.set_xlim(right=1.25 * max(seconds for _, seconds in bars))  # room for the number
    return figure


def _serving(outcome: Outcome) -> Any:
    plain = {key: figures for key, figures in outcome.medians().items() if "TLS" not in key[0]}
    loads = list(dict.fromkeys(row.rpartition(", ")[0] for row, _ in plain))
    figure, axes = _axes(2 * len(loads))
    for number, load in enumerate(loads):
        of_load = {key: figures for key, figures in plain.items() if key[0].startswith(load)}
        speed = _points(of_load, lambda _, f: f["readers"], lambda f: f["served_bytes"] / f["wall_s"] / MB)
        cpu = _points(of_load, lambda _, f: f["readers"], lambda f: f["cpu_s"] / (f["served_bytes"] / MB / 1000))
        for at, (points, y) in enumerate(((speed, "MB/s, all readers"), (cpu, "server's CPU s per GB"))):
            _lines(axes[2 * number + at], points, x="readers", y=y, log="x", ticks=True)
            axes[2 * number + at].set_title(load)
    return figure


def _commits(outcome: Outcome) -> Any:
    figure, axes = _axes(3)
    for at, (name, scale, y) in enumerate(
        (("tps", 1.0, "commits/s"), ("p50_s", 1e3, "p50, ms"), ("p99_s", 1e3, "p99, ms"))
    ):
        points = _points(outcome.medians(), lambda _, f: f["threads"], lambda f, n=name, s=scale: f[n] * s)  # type: ignore[misc]
        _lines(axes[at], points, x="client threads", y=y, log="x" if name == "tps" else "xy", ticks=True)
    return figure


def _seeks(outcome: Outcome) -> Any:
    figure, axes = _axes(2)
    medians = outcome.medians()
    start = _points(medians, lambda _, f: f["files"], lambda f: f["start_s"])
    seek = _points(medians, lambda _, f: f["files"], lambda f: f["seek_s"] * 1e3)
    _lines(axes[0], start, x="stored files", y="start, s", log="xy", ticks=True)
    _lines(axes[1], seek, x="stored files", y="GTID seek, ms", log="xy", ticks=True)
    return figure


def _memory(outcome: Outcome) -> Any:
    def megabytes(row: str, _: Mapping[str, float]) -> float:
        return float(re.sub(r"\D", "", row))

    figure, axes = _axes(1)
    axes[0].set_title("one client each")
    medians = {key: figures for key, figures in outcome.medians().items() if figures["peak_rss_bytes"]}
    points = _points(medians, megabytes, lambda f: f["peak_rss_bytes"] / MIB)
    _lines(axes[0], points, x="MB of one transaction", y="peak RSS, MiB", log="x", ticks=True)
    return figure


def _fanout(outcome: Outcome) -> Any:
    figure, axes = _axes(3)
    newest = {sample.who: sample.series for sample in outcome.samples}
    late: Points = {}
    acks: Points = {}
    held: Points = {}
    for who, series in newest.items():
        if series.get("delay_max_s"):
            late[who] = [(float(at), value * 1e3) for at, value in enumerate(series["delay_max_s"])]
        acks[who] = [(at, value * 1e3) for at, value in zip(series["at_s"], series["ack_p99_s"], strict=True)]
        for half in ("receive", "serve") if who.endswith(f"of {fanout.BINLOGD}") else ():
            sizes = zip(series["at_s"], series[f"{half}_rss_bytes"], strict=True)
            held[f"{half}, {who}"] = [(at, value / MIB) for at, value in sizes]
    _lines(axes[0], late, x="seconds", y="the latest of all readers, ms")
    _lines(axes[1], acks, x="seconds", y="ACK p99, ms")
    _lines(axes[2], held, x="seconds", y="RSS, MiB")
    return figure


DRAWINGS: dict[str, Callable[[Outcome], Any]] = {
    catch_up.SECTION.name: _catch_up,
    serving.SECTION.name: _serving,
    commits.SECTION.name: _commits,
    seeks.SECTION.name: _seeks,
    memory.SECTION.name: _memory,
    fanout.SECTION.name: _fanout,
}
