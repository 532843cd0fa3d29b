"""What these tests share: commands with addresses of their own, and looks at what was written."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER
from testbed.mysqld import Server
from testbed.ports import Port
from tests.cli.support import binlogd

NOWHERE = "mysql://repl:secret@127.0.0.1:1"  # a port on which nobody listens


def url(source: Server, user: str = REPLICATION_USER, password: str = REPLICATION_PASSWORD) -> str:
    return f"mysql://{user}:{password}@{source.host}:{source.port}"


@contextmanager
def addresses() -> Iterator[dict[str, str]]:
    """Where a binlogd that is told nothing else listens: the defaults may be taken on this machine."""
    held = [Port(), Port()]
    try:
        yield {
            "BINLOGD_SERVER__LISTEN": f"127.0.0.1:{held[0].number}",
            "BINLOGD_HTTP__LISTEN": f"127.0.0.1:{held[1].number}",
        }
    finally:
        for port in held:
            port.release()


def ended(
    mode: str, source: str, data_dir: Path, *arguments: str, environ: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``binlogd MODE`` that is expected to end by itself."""
    with addresses() as own:
        return binlogd(
            mode,
            "--source",
            source,
            "--data-dir",
            str(data_dir),
            *arguments,
            environ=own | (environ or {}),
            **options,
        )


def written(data_dir: Path) -> dict[str, str]:
    """Everything in a store that is its data, by path: a digest of each file."""
    return {
        str(path.relative_to(data_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((data_dir / "binlogs").rglob("*"))
        if path.is_file()
    }


def leftovers(data_dir: Path) -> Sequence[Path]:
    """What a process should not leave behind: temporary files and sockets."""
    return [path for path in data_dir.rglob("*") if path.name.startswith(".") or path.is_socket()]
