"""The recipe of docs/point-in-time-recovery.md, with real servers: a backup, an accident, and all that was between."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.store.reader import read_contents
from testbed.binlogd import Binlogd
from testbed.cluster import Load, checksum_all
from testbed.mysqld import Server
from tests.e2e.support import MANY_FILES, Site
from tests.e2e.test_timelines import Failover, failover  # noqa: F401

pytestmark = pytest.mark.servers


def dumped(binlogd: Binlogd, *arguments: str) -> bytes:
    """What `binlogd dump` writes for this store."""
    command = [sys.executable, "-m", "binlogd", "dump", "--data-dir", str(binlogd.data), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def as_sql(server: Server, data: bytes) -> bytes:
    """What mysqlbinlog makes of it, from stdin, without a word of warning."""
    done = subprocess.run(
        [*server.program("mysqlbinlog"), "--verify-binlog-checksum", "-"],
        input=data,
        env={**os.environ, **server.distribution.environ},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def apply(server: Server, data: bytes) -> None:
    """`binlogd dump … | mysqlbinlog - | mysql`."""
    server.run("mysql", stdin=as_sql(server, data))


def assert_sound(data: bytes, folder: Path, added: GtidSet) -> None:
    """Our own reader finds a whole binary log of these transactions."""
    path = folder / "output"
    path.write_bytes(data)
    contents = read_contents(path)
    assert contents is not None
    assert (contents.torn, contents.walk.transaction_end, contents.added) == ("", len(data), added)


def state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Of everything in a data folder that is no socket: when it was changed, its size and content."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.stat().st_size,
            hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
        if not path.is_socket()
    }


def test_back_to_just_before_the_accident(site: Site, tmp_path: Path) -> None:
    source, binlogd, cluster = site.source, site.binlogd, site.cluster
    restored = cluster.replica(source, "restored")
    with Load(source, threads=4) as load:
        load.wait_for(200)
        restored.stop_replica()  # a backup: a state that the source was in, and its gtid_executed
        restored.reset_replica()
        load.wait_for(500)
        source.execute("FLUSH BINARY LOGS")
        load.wait_for(700)
    backup = restored.gtid_executed
    expected, executed = checksum_all(source), source.gtid_executed
    source.execute(f"DROP TABLE {load.table}")
    dropped = GtidSet.parse(source.gtid_executed) - GtidSet.parse(executed)
    source.execute("CREATE TABLE d.later (id INT)")
    binlogd.wait_for(source)
    before = state(binlogd.data)

    by_gtid = dumped(binlogd, "--from-gtid", backup, "--to-gtid", executed)
    accident = _time_of(source, dropped)
    by_time = dumped(binlogd, "--from-gtid", backup, "--to-time", accident)
    assert by_time == by_gtid

    for command in ("list", "find", "verify"):
        arguments = ("--gtid", executed) if command == "find" else ()
        one = [sys.executable, "-m", "binlogd", command, "--data-dir", str(binlogd.data), *arguments]
        done = subprocess.run(one, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    assert state(binlogd.data) == before, "beside a working receiver nothing was written or locked"
    source.execute("CREATE TABLE d.further (id INT)")
    binlogd.wait_for(source)

    assert_sound(by_time, tmp_path, GtidSet.parse(executed) - GtidSet.parse(backup))
    apply(restored, by_time)
    assert checksum_all(restored) == expected
    assert GtidSet.parse(restored.gtid_executed) == GtidSet.parse(executed)
    cluster.servers.pop("restored").close()


def _time_of(source: Server, gtids: GtidSet) -> str:
    """The moment of the accident, as a DBA looks it up: by mysqlbinlog's original_commit_timestamp."""
    log = source.binary_logs()[-1].name
    done = subprocess.run(
        [*source.program("mysqlbinlog"), "--include-gtids", gtids.compact(), str(source.binlog_dir / log)],
        env={**os.environ, **source.distribution.environ},
        capture_output=True,
        timeout=120,
        check=True,
    )
    line = next(line for line in done.stdout.decode().splitlines() if "original_commit_timestamp=" in line)
    microseconds = int(line.partition("original_commit_timestamp=")[2].split()[0])
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


@pytest.mark.slow
def test_across_a_failover(failover: Failover, tmp_path: Path) -> None:  # noqa: F811
    """Two sources' files, the second without checksums, restore what the second has now."""
    new = failover.new
    data = dumped(failover.binlogd)
    assert_sound(data, tmp_path, GtidSet.parse(new.gtid_executed))
    empty = failover.cluster.server("empty", options=MANY_FILES)
    apply(empty, data)
    assert checksum_all(empty) == checksum_all(new)
    assert GtidSet.parse(empty.gtid_executed) == GtidSet.parse(new.gtid_executed)


def _shown(terminal: int, wanted: bytes) -> bytes:
    """What comes from the terminal, up to ``wanted``."""
    found, until = b"", time.monotonic() + 30
    while wanted not in found:
        ready, _, _ = select.select([terminal], [], [], max(until - time.monotonic(), 0))
        assert ready and time.monotonic() < until, found[-4000:]
        found += os.read(terminal, 65536)
    return found


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_top_in_a_terminal(site: Site, key: bytes) -> None:
    """Live, through a resize, and the terminal is as it was."""
    command = [sys.executable, "-m", "binlogd", "top", "--interval", "0.2", "--data-dir", str(site.binlogd.data)]
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        before = termios.tcgetattr(theirs)
        sizes = {"COLUMNS", "LINES"}  # which would count for more than the terminal's own; workers of pytest have them
        environ = {key: value for key, value in os.environ.items() if key not in sizes}
        environ |= {"TERM": "xterm", "NO_COLOR": "1"}
        top = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True, preexec_fn=_owned
        )
        try:
            first = _shown(ours, b"transactions/s")
            assert f"streaming {site.source.host}:{site.source.port}".encode() in first
            assert b"\x1b[?1049h" in first, "a screen of its own"
            assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", first), "no colours"
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
            _shown(ours, "…".encode())  # what is too long for the terminal now
            os.write(ours, key)
            _shown(ours, b"\x1b[?1049l")
            assert top.wait(30) == (0 if key == b"q" else 130)
        finally:
            top.kill()
            top.wait()
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def _owned() -> None:
    """Have the new session own its terminal, so that Ctrl-C there reaches it, which pytest-xdist's workers ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
