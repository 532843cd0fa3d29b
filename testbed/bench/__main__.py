"""``make bench``: run the sections one after the other, write what came out, print the table."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import click

from testbed.bench import catch_up, commits, fanout, machine, memory, plots, report, seeks, serving
from testbed.bench.samples import Outcome, Section
from testbed.bench.stage import GIANT_FREE_GB, GIANT_MB, SIZES, Stage, say
from testbed.mysqld import ServerFailed
from testbed.packages import Unavailable

SECTIONS: tuple[Section, ...] = (
    catch_up.SECTION,
    serving.SECTION,
    commits.SECTION,
    seeks.SECTION,
    memory.SECTION,
    fanout.SECTION,
)
SHARING = (catch_up.SECTION.name, serving.SECTION.name)
"""The sections that use the same filled sources."""

FULL_OUT = Path("docs/performance")
PARTIAL_OUT = Path("bench-out")
EXIT_FAILED = 1


def run_section(section: Section, stage: Stage) -> Outcome:
    """Measure; what goes wrong is in the outcome, and what was measured before it too."""
    outcome = Outcome(section)
    began = time.monotonic()
    try:
        for sample in section.measure(stage):
            outcome.samples.append(sample)
    except Exception as error:
        # Anything: hours of other sections' figures are not to be lost with this one's.
        outcome.error = f"{type(error).__name__}: {error}".splitlines()[0]  # behind it are logs, with paths
        say(f"{section.name} failed:\n{traceback.format_exc()}")
    outcome.seconds = time.monotonic() - began
    say(f"{section.name} took {outcome.seconds:.0f} s")
    return outcome


@click.command()
@click.option(
    "--only", type=click.Choice([s.name for s in SECTIONS]), multiple=True, help="Measure only this; repeatable."
)
@click.option("--size", type=click.Choice(list(SIZES)), default="full", show_default=True, help="How much to measure.")
@click.option("--rounds", type=click.IntRange(1), help="How often each contender is measured.")
@click.option("--giant", is_flag=True, help="Add a transaction of 10 GiB; 60 GB must be free.")
@click.option(
    "--minutes", type=click.FloatRange(0), help="How long live readers are followed, in the place of seconds."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where results go; {FULL_OUT}, and {PARTIAL_OUT} for what is not the whole and full run.",
)
def main(
    only: tuple[str, ...], size: str, rounds: int | None, giant: bool, minutes: float | None, out: Path | None
) -> None:
    """Measure binlogd beside its peers, and say which targets are met."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sizes = SIZES[size]
    if rounds is not None:
        sizes = replace(sizes, rounds=rounds)
    if giant:
        sizes = replace(sizes, transaction_mb=(*sizes.transaction_mb, GIANT_MB), free_gb=GIANT_FREE_GB)
    if minutes is not None:
        sizes = replace(sizes, follow_seconds=max(round(minutes * 60), 1))
    chosen = [section for section in SECTIONS if not only or section.name in only]
    out = out or (FULL_OUT if size == "full" and not only else PARTIAL_OUT)
    outcomes: list[Outcome] = []
    try:
        with Stage(sizes) as stage:
            about = machine.describe(stage.folder, stage.distribution)
            for number, section in enumerate(chosen):
                outcomes.append(run_section(section, stage))
                report.write(out, about, sizes, outcomes)  # what is there is kept, whatever comes
                if plots.available():
                    plots.draw(out, outcomes[-1:])
                if not any(later.name in SHARING for later in chosen[number + 1 :]):
                    stage.release_sources()
    except (ServerFailed, Unavailable) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    print(report.markdown(about, sizes, outcomes))
    say(f"results are in {out}/" if plots.available() else f"results are in {out}/; plots need the extra 'bench'")
    if any(outcome.error for outcome in outcomes):
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
