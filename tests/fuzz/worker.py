"""One target under atheris: ``python -m tests.fuzz.worker TARGET REPORT [libFuzzer's arguments]``.

libFuzzer never returns, so what is to be known is written to REPORT about once a second: executions, the slowest input
and how long it took, the peak of memory. An input that failed is there as well (``.failed``): libFuzzer has been seen
to end without having written it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

EVERY = 1.0  # seconds between two reports


def main() -> None:
    import atheris

    name, report, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["binlogd"]):
        from tests.fuzz import targets

        target = targets.load(name)
    for function in getattr(target, "functions", tuple)():
        atheris.instrument_func(function)
    run = target.run
    path, written = Path(report), time.monotonic()
    executions, slowest = 0, 0.0

    def one(data: bytes) -> None:
        nonlocal executions, slowest, written
        began = time.perf_counter()
        try:
            run(data)
        except BaseException:
            path.with_suffix(".failed").write_bytes(data)
            raise
        took = time.perf_counter() - began
        executions += 1
        if took > slowest:
            slowest = took
            path.with_suffix(".slowest").write_bytes(data)
        now = time.monotonic()
        if now - written >= EVERY:
            written = now
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            path.write_text(json.dumps({"executions": executions, "slowest": slowest, "peak": peak}))

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
