"""Faults of disks and limits, in real processes and real file systems.

* ``small_disk``: a file system of its own in memory, which can be filled;
* ``failing``: system calls of a running process that fail as if the kernel had refused them: strace's injection;
* ``limited``: a resource limit of a running process, lowered for a while.

Mounting needs root; so does strace in some containers.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import packages, processes

ATTACH_TIMEOUT = 20.0
"""Seconds until strace holds every thread of a process: a few milliseconds on an idle machine."""


class SmallDisk:
    """A mounted file system that can be filled and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all space but ``leave`` bytes."""
        with self._filler.open("ab") as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fallocate(file.fileno(), size, self.free - leave)

    def give(self, size: int) -> None:
        """Give back ``size`` bytes of what was taken."""
        os.truncate(self._filler, self._filler.stat().st_size - size)

    def empty(self) -> None:
        """Give back all of it."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of ``size`` bytes at ``path``, gone with all that is on it when the block ends."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "binlogd-test", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def failing(
    pid: int, call: str, error: str, *, folder: Path, when: str = "1+", path: Path | None = None
) -> Iterator[None]:
    """Have ``call`` of the process fail with ``error`` (EIO) from the first one on, or ``when`` strace(1) says.

    With ``path`` only where it is that file's: threads wake each other by write(2), too.
    """
    strace = packages.fetch(packages.STRACE).command("strace")
    argv = ["-f", "-qq", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    argv += ["-P", str(path)] if path is not None else []
    log = folder / "strace.log"
    child = processes.start([*strace, *argv], cwd=folder, log=log)
    try:
        deadline = time.monotonic() + ATTACH_TIMEOUT
        while not all(_is_traced(task) for task in Path(f"/proc/{pid}/task").iterdir()):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"strace does not hold process {pid}: {log.read_text()}")
            time.sleep(0.01)
        yield
    finally:
        child.terminate()  # it lets go of the process, which goes on
        child.wait(ATTACH_TIMEOUT)


def _is_traced(task: Path) -> bool:
    return "TracerPid:\t0\n" not in (task / "status").read_text()


@contextmanager
def limited(pid: int, kind: int, limit: int) -> Iterator[None]:
    """Lower a limit (``resource.RLIMIT_NOFILE``) of a running process."""
    before = resource.prlimit(pid, kind, (limit, resource.prlimit(pid, kind)[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def first_free(pid: int) -> int:
    """The number that the next file descriptor of a process will have: with this as its limit it gets none."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in itertools.count() if number not in taken)
