"""What a process has used, from /proc: CPU time, and the highest resident size (VmHWM).

A peak can be set back to the present size (``clear_refs`` 5, proc(5)), so that a server that has run for a while shows
what one measurement took. CPU time is in the kernel's ticks of 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
LOOK_EVERY = 0.005
"""Seconds between two looks at the memory of a process that will end by itself."""


class DidNotEnd(RuntimeError):
    """A process was not done in time."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of its children that ended, and of all that descend from it now."""
    total = 0.0
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / TICK
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(cpu_seconds(int(child)) for child in (task / "children").read_text().split())
    return total


def peak_bytes(pid: int) -> int:
    """The most memory the process ever held, or held since ``forget_peak``; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def resident_bytes(pid: int) -> int:
    """What the process holds now; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def forget_peak(pid: int) -> None:
    """Begin anew: the peak is what the process holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: when (of ``time.monotonic``), what it had used, its exit code."""

    at: float
    cpu_seconds: float
    peak_bytes: int
    code: int


def until_its_end(process: subprocess.Popen[bytes], timeout: float) -> Ended:
    """Wait for a process that ends by itself; killed and ``DidNotEnd`` when it does not in ``timeout`` seconds."""
    descriptor = os.pidfd_open(process.pid)
    deadline = time.monotonic() + timeout
    peak = 0
    try:
        while not select.select([descriptor], [], [], LOOK_EVERY)[0]:
            peak = max(peak, peak_bytes(process.pid))
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise DidNotEnd(f"process {process.pid} was not done within {timeout:.0f} s")
        at = time.monotonic()
        used = cpu_seconds(process.pid)  # it is a zombie: its memory is gone, its times are not
        return Ended(at, used, peak, process.wait())
    finally:
        os.close(descriptor)
