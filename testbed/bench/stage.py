"""Where a run takes place: its sizes, its folder, its servers. Leaving it ends every process and removes every file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from binlogd.binlog import HOT
from testbed import distributions
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from testbed.demo_binlogd import hide_own_configuration
from testbed.mysqld import Option, Server, ServerFailed

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: seconds, MB, numbers of clients; ``files`` is how many are stored."""

    rounds: int = 5
    transactions: int = 600_000
    bulk_mb: int = 320
    readers: tuple[int, ...] = (1, 4, 32)
    threads: tuple[int, ...] = (1, 8, 64)
    commit_seconds: int = 6
    files: tuple[int, ...] = (10, 100, 1_000, 10_000)
    active_mb: int = 1_000
    transaction_mb: tuple[int, ...] = (1, 100, 1_000)
    followers: tuple[int, ...] = (0, 1, 100)
    follow_seconds: int = 20
    follow_rate: int = 1_000
    free_gb: float = 12


SIZES: Mapping[str, Sizes] = {
    "full": Sizes(),
    "quick": Sizes(
        rounds=1,
        transactions=100_000,
        bulk_mb=150,
        readers=(1, 8),
        threads=(1, 16),
        commit_seconds=2,
        files=(10, 200),
        active_mb=50,
        transaction_mb=(1, 100),
        followers=(0, 20),
        follow_seconds=5,
        follow_rate=500,
        free_gb=3,
    ),
    "tiny": Sizes(
        rounds=1,
        transactions=400,
        bulk_mb=3,
        readers=(1,),
        threads=(2,),
        commit_seconds=1,
        files=(4,),
        active_mb=2,
        transaction_mb=(1, 3),
        followers=(0, 2),
        follow_seconds=1,
        follow_rate=50,
        free_gb=1,
    ),
}
GIANT_MB = 10_737  # 10 GiB
GIANT_FREE_GB = 60

DEFAULTS: dict[str, Option] = dict.fromkeys(("sync_binlog", "innodb_flush_log_at_trx_commit", "innodb_doublewrite"))
"""What the test bed sets for speed, left to MySQL's defaults."""


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Stage:
    """One run. ``sizes`` may be anything; servers are MySQL, found or fetched as tests have them."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.folder = Path(tempfile.mkdtemp(prefix="binlogd-bench-"))
        self._sources: dict[str, Server] = {}
        self._loads: Cluster | None = None

    def __enter__(self) -> Self:
        try:
            free = shutil.disk_usage(self.folder).free / GB
            if free < self.sizes.free_gb:
                raise ServerFailed(
                    f"{free:.0f} GB are free where temporary files go and {self.sizes.free_gb:.0f} are needed:"
                    " make room, or set TMPDIR to a folder with more"
                )
            hide_own_configuration(self.folder)
            self.distribution = distributions.mysql()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_sources()
        shutil.rmtree(self.folder, ignore_errors=True)

    def source(self, load: str, make: Callable[[Cluster], Server]) -> Server:
        """The source that holds ``load``, made on first use and shared by the sections."""
        if self._loads is None:
            self._loads = Cluster(self.folder / "loads", self.distribution)
        if load not in self._sources:
            say(f"filling a source with {load}")
            self._sources[load] = make(self._loads)
        return self._sources[load]

    def release_sources(self) -> None:
        """End the shared sources; the next use makes them anew."""
        if self._loads is not None:
            self._loads.__exit__(None, None, None)
        self._loads = None
        self._sources.clear()

    @contextmanager
    def cluster(self) -> Iterator[Cluster]:
        """Servers of one section."""
        folder = self.scratch("cluster")
        try:
            with Cluster(folder, self.distribution) as cluster:
                yield cluster
        finally:
            shutil.rmtree(folder)

    def scratch(self, name: str) -> Path:
        """An empty folder of that name, what was in it before removed and the disk at rest."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        os.sync()  # what others have written is not to be paid for by who comes next
        return folder


@contextmanager
def running(binlogd: Binlogd, *, plain: bool = False) -> Iterator[Binlogd]:
    """A binlogd that was not started yet, closed at the end; ``plain`` has its hot modules run as Python.

    The first ``check_build`` proves that it is what was asked for.
    """
    wanted = {"BINLOGD_PURE": "1" if plain else "0", "BINLOGD_DEBUG": "1"}  # the latter: /proc shows it to us
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        yield binlogd
    finally:
        binlogd.close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def check_build(pid: int, *, plain: bool) -> None:
    """A figure said to be of plain Python, or of the compiled modules, is to be one."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    compiled = re.search(rf"/binlogd/binlog/(?:{'|'.join(HOT)})\..*so$", maps, re.MULTILINE) is not None  # all or none
    if compiled is plain:
        raise ServerFailed(
            "binlogd's hot modules run as plain Python: install a C compiler and make .venv/.compiled again"
            if compiled is False
            else "binlogd's hot modules run compiled though BINLOGD_PURE is set"
        )


def check_identical(source: Server, folder: Path) -> None:
    """What is fast and wrong is not to be in a table: the finished files are compared with the source's."""
    for log in source.binary_logs()[:-1]:
        pair = [str(folder / log.name), str(source.binlog_dir / log.name)]
        if subprocess.run(["cmp", "--silent", *pair], check=False).returncode:
            raise ServerFailed(f"{folder.name}/{log.name} differs from the source's file")


def stored_bytes(source: Server) -> int:
    """The size of all binary logs of a source."""
    return sum(log.size for log in source.binary_logs())
