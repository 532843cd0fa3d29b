"""All targets for a while: ``make fuzz FUZZ='--minutes 60'``; a table, and exit code 1 when something was found.

Each target runs in a process of its own, with its corpus from the last time and the seeds of recordings that are made
between real servers and clients the first time (captures.py). Everything lies in the test cache's folder ``fuzz``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from testbed.packages import cache_dir
from tests.fuzz import targets

PYTHON = sys.executable
INPUT_LIMIT = 5  # seconds that an input may take, on a machine that does other things too: most take 1 ms
MEMORY = 1024  # MiB; libFuzzer's own tables and atheris take 100
LONGEST = 16 * 1024  # bytes of an input
_COVERED = re.compile(r"#\d+\s+(?:INITED|NEW|REDUCE|pulse|DONE|RELOAD)\s+cov: (\d+)")
_EXECUTIONS = re.compile(r"#(\d+)\s+DONE")


@dataclass(slots=True)
class Row:
    """What came of one target."""

    name: str
    seconds: float
    executions: int
    covered: int
    new: int
    slowest: float
    peak: int
    findings: list[Path]
    ended: bool  # as it should


def fuzz(name: str, seconds: float, folder: Path) -> Row:
    """Run one target for so long."""
    place = folder / name
    corpus, found = place / "corpus", place / "found"
    for path in (corpus, found):
        path.mkdir(parents=True, exist_ok=True)
    seeds = place / "seeds"
    seeds.mkdir(exist_ok=True)
    for number, data in enumerate(targets.inputs(name, folder / "captures", targets.KEPT)):
        (seeds / f"{number:05d}").write_bytes(data)
    before = set(found.iterdir())
    log, report = place / "log", place / "report.json"
    failed = report.with_suffix(".failed")
    for path in (report, failed):
        path.unlink(missing_ok=True)
    began = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run(
            [PYTHON, "-m", "tests.fuzz.worker", name, str(report),
             f"-max_total_time={max(int(seconds), 1)}", f"-timeout={INPUT_LIMIT}", f"-rss_limit_mb={MEMORY}",
             f"-max_len={LONGEST}", f"-artifact_prefix={found}/", "-print_final_stats=1",
             str(corpus), str(seeds)],
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=seconds + 300,
            check=False,
        )  # fmt: skip
    took = time.monotonic() - began
    text = log.read_text(errors="replace")
    covered = [int(number) for number in _COVERED.findall(text)]
    said: dict[str, Any] = {"executions": 0, "slowest": 0.0, "peak": 0}
    if report.exists():
        said = json.loads(report.read_text())
    last = _EXECUTIONS.search(text)
    findings = sorted(path for path in found.iterdir() if path not in before and not path.name.startswith("slow-unit"))
    if failed.exists() and not findings:
        findings = [failed.rename(found / f"failed-{sha256(failed.read_bytes()).hexdigest()[:16]}")]
    return Row(
        name,
        took,
        int(last[1]) if last else said["executions"],
        covered[-1] if covered else 0,
        covered[-1] - covered[0] if covered else 0,
        said["slowest"],
        said["peak"],
        findings,
        done.returncode == 0,
    )


def table(rows: list[Row]) -> str:
    """What people read."""
    lines = [
        "| target | seconds | executions | coverage | new | findings | slowest input | peak memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.name} | {row.seconds:.0f} | {row.executions:,} | {row.covered:,} | {row.new:,} "
        f"| {len(row.findings)}{'' if row.ended or row.findings else ' (it failed)'} | {row.slowest * 1000:.0f} ms "
        f"| {row.peak / 2**20:.0f} MiB |"
        for row in rows
    ]
    total = sum(row.executions for row in rows)
    seconds = sum(row.seconds for row in rows)
    findings = sum(len(row.findings) for row in rows)
    return "\n".join([*lines, f"| **all** | {seconds:.0f} | {total:,} | | | {findings} | | |"])


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=7.0, help="for all targets together, on each of the jobs")
    parser.add_argument("--only", action="append", choices=targets.TARGETS, help="a target; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--reproduce", type=Path, help="run one input of the target that --only names, without atheris")
    options = parser.parse_args()
    names = options.only or list(targets.TARGETS)
    if options.reproduce:
        targets.load(names[0]).run(options.reproduce.read_bytes())
        print("nothing went wrong")
        return 0
    folder = cache_dir() / "fuzz"
    captures = folder / "captures"
    if not captures.is_dir():
        from tests.fuzz.captures import capture

        print("recording between real servers and clients …", file=sys.stderr)
        capture(captures)
    seconds = options.minutes * 60 * options.jobs / len(names)
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda name: fuzz(name, seconds, folder), names))
    print(table(rows))
    for row in rows:
        for path in row.findings:
            print(f"found: {PYTHON} -m tests.fuzz --only {row.name} --reproduce {path}")
        if not row.ended and not row.findings:
            print(f"{row.name} did not run to its end: see {folder / row.name / 'log'}")
    return int(any(row.findings or not row.ended for row in rows))


if __name__ == "__main__":
    sys.exit(main())
