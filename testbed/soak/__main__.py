"""``make soak``: play the rounds of a seed until one fails, print the table; exit code 1 when anything is wrong.

Then the folder with the three servers' files and logs stays, and the seed and the round to play again are printed. The
moments of a plan are the same for the same seed; what the processes were doing at them is not.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from testbed import distributions
from testbed.binlogd import BinlogdFailed
from testbed.demo_binlogd import hide_own_configuration
from testbed.distributions import Distribution
from testbed.mysqld import ServerFailed
from testbed.packages import Unavailable
from testbed.soak.files import compare
from testbed.soak.judge import Fault, Finding, judge_files
from testbed.soak.plan import plan_round
from testbed.soak.report import Tally, round_line, table
from testbed.soak.rounds import History, play
from testbed.soak.site import Site

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
MAX_SEED = 1_000_000


def soak(
    folder: Path, distribution: Distribution, tally: Tally, *, seed: int, first: int, rounds: int, minutes: float
) -> None:
    """Play rounds ``first`` … on one site until one fails, all are played or the time is over."""
    deadline = time.monotonic() + minutes * 60
    history = History()
    last = first + rounds - 1
    with Site(folder, distribution) as site:
        for number in range(first, last + 1):
            if time.monotonic() > deadline:
                break
            played = play(site, plan_round(seed, number), history)
            tally.add(played)
            print(round_line(played, last, tally.commits), flush=True)
            if played.findings:
                return
        # What was right once is to be right still.
        tally.findings += judge_files(compare(site.binlogd, site.source, site.binlogd.stored()))
        if code := site.binlogd.stop():
            tally.findings.append(Finding(Fault.BROKE, f"binlogd ended with code {code} on SIGTERM"))
    if left := site.left_behind:
        tally.findings.append(Finding(Fault.BROKE, f"processes are left behind: {left}", len(left)))


@click.command()
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--seed", type=int, help="Of the plan; without it one is drawn.")
@click.option("--minutes", type=click.FloatRange(0), default=600, help="Begin no further round after so long.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(1), help="The number of the first round.")
def main(rounds: int, seed: int | None, minutes: float, first: int) -> None:
    """Kill binlogd, its source and its replica under load, and see that nothing committed is lost."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = secrets.randbelow(MAX_SEED) if seed is None else seed
    folder, tally, began = Path(tempfile.mkdtemp(prefix="binlogd-soak-")), Tally(), time.monotonic()
    failure = ""
    try:
        hide_own_configuration(folder)
        distribution = distributions.mysql()
        distribution.template()
        print(f"{rounds} rounds from {first} on, seed {seed}, {distribution.label}; all files in {folder}", flush=True)
        soak(folder, distribution, tally, seed=seed, first=first, rounds=rounds, minutes=minutes)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        print("\nsoak: interrupted; everything it started is stopped and removed", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except (ServerFailed, BinlogdFailed, Unavailable) as error:
        failure = str(error)
    findings = tally.all_findings()
    print(table(tally, findings, seed=seed, seconds=time.monotonic() - began))
    for finding in findings:
        print(f"soak: {finding.fault.value}: {finding.what}", file=sys.stderr)
    if findings or failure:
        number = first + max(tally.rounds - 1, 0)
        print(
            f"soak: {failure or 'FAILED'}\nsoak: everything is kept in {folder};"
            f" again: --seed {seed} --first {number} --rounds 1",
            file=sys.stderr,
        )
        sys.exit(EXIT_FAILED)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
