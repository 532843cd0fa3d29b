"""What the figures were measured on: without it they mean nothing. No path of the machine is kept."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from binlogd import __version__
from testbed.distributions import Distribution

SYNCS = 200
SYNC_BYTES = 4096
ROOT = Path(__file__).parents[2]


def describe(folder: Path, distribution: Distribution) -> dict[str, Any]:
    """The machine, the versions, and what an fdatasync costs where the temporary files go."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "ram_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load_before": round(os.getloadavg()[0], 2),
        "disk": disk_of(folder),
        "fdatasync_s": sync_times(folder),
        "kernel": f"{platform.system()} {platform.release()}",
        "mysql": distribution.label.removeprefix("mysql-"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "binlogd": __version__,
        "commit": _commit(),
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def disk_of(folder: Path) -> dict[str, str]:
    """File system and device below a folder."""
    found = {"file_system": "unknown", "device": "unknown"}
    longest = -1
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mounted, kind = line.split()[:3]
        if folder.resolve().is_relative_to(mounted) and len(mounted) > longest:
            longest = len(mounted)
            found = {"file_system": kind, "device": device.rpartition("/")[2]}
    return found


def sync_times(folder: Path) -> dict[str, float]:
    """Seconds that appending 4 KiB and fdatasync take: median and 99th percentile."""
    path = folder / "synced"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(SYNCS):
            began = time.monotonic()
            os.write(descriptor, bytes(SYNC_BYTES))
            os.fdatasync(descriptor)
            taken.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    taken.sort()
    return {"p50": statistics.median(taken), "p99": taken[int(0.99 * len(taken))]}


def _commit() -> str:
    """The commit of the tree, with ``-dirty`` behind it when it holds other changes too."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
