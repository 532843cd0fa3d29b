"""One receiver owns a store, whatever becomes of its process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from binlogd.errors import StoreInUse, StoreUnreadable
from binlogd.store.lock import NEVER, StoreLock, look

HOLD = """
import sys
from pathlib import Path
from binlogd.store.lock import StoreLock
lock = StoreLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


LOOK = """
import sys
from pathlib import Path
from binlogd.store.lock import look
print("looking", flush=True)
while True:
    look(Path(sys.argv[1]))
"""


def holder(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_another_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    with holder(path) as process:
        try:
            with pytest.raises(StoreInUse, match=rf"another receiver \(pid {process.pid}\) owns the store"):
                StoreLock(path)
        finally:
            process.kill()
    with StoreLock(path):  # the kernel dropped it with the process
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    first = StoreLock(path)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreInUse, match=str(os.getpid())):
        StoreLock(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    first.release()
    StoreLock(path).release()


def test_it_is_released_when_what_it_guards_fails(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    with pytest.raises(RuntimeError), StoreLock(path):
        raise RuntimeError
    StoreLock(path).release()


def test_a_child_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    lock = StoreLock(path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lock.release()
        StoreLock(path).release()
        assert child.stdin is not None
        child.stdin.write(b"\n")
    assert child.returncode == 0


def test_a_longer_pid_before_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    path.write_text("999999999999\n")
    with StoreLock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_no_place_for_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreadable, match="cannot open"):
        StoreLock(tmp_path / "nowhere" / "receiver.lock")


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreUnreadable, match=r"cannot lock .*: No locks available"):
        StoreLock(tmp_path / "receiver.lock")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_looking_tells_who_has_it_and_that_it_was_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    assert look(path) == NEVER
    with holder(path) as process:
        try:
            held = look(path)
            assert (held.held, held.owner) == (True, str(process.pid))
            assert look(path) == held
        finally:
            process.kill()
    gone = look(path)
    assert gone == replace(held, held=False)
    assert look(path) == gone, "looking leaves no mark"
    until_the_clock_moves(tmp_path)
    with StoreLock(path):
        ours = look(path)
        assert (ours.held, ours.owner) == (True, str(os.getpid()))
    assert look(path) not in (gone, ours)
    until_the_clock_moves(tmp_path)
    StoreLock(path).release()
    assert look(path) != replace(ours, held=False), "the same process again"
    with pytest.raises(StoreUnreadable, match="cannot look at"):
        look(path / "below")


def test_no_receiver_comes_in_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mark would be in the answer that nobody holds the lock, and its whole stay would go unnoticed."""
    path = tmp_path / "receiver.lock"
    StoreLock(path).release()
    before = look(path)
    until_the_clock_moves(tmp_path)
    fstat, pread = os.fstat, os.pread
    tried = []

    def come_in(step: str) -> None:
        tried.append(step)
        with path.open("r+b") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            other.write(b"1\n")

    def fstat_late(descriptor: int) -> os.stat_result:
        come_in("fstat")
        return fstat(descriptor)

    def pread_late(descriptor: int, length: int, offset: int) -> bytes:
        come_in("pread")
        return pread(descriptor, length, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", fstat_late)
        patched.setattr(os, "pread", pread_late)
        assert look(path) == before
    assert tried == ["fstat", "pread"]
    assert look(path) == before


def until_the_clock_moves(folder: Path) -> None:
    """Files' times have steps of some milliseconds."""
    path = folder / "clock"
    path.touch()
    first = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == first:
        path.write_bytes(b"")


def test_a_mark_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process id cannot be written; that the file was cut is a mark, too."""
    path = tmp_path / "receiver.lock"
    StoreLock(path).release()

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = look(path)
    until_the_clock_moves(tmp_path)
    StoreLock(path).release()
    second = look(path)
    assert second != before
    until_the_clock_moves(tmp_path)
    StoreLock(path).release()
    assert look(path) != second


def test_who_only_looks_keeps_no_receiver_from_beginning(tmp_path: Path) -> None:
    path = tmp_path / "receiver.lock"
    StoreLock(path).release()
    with subprocess.Popen([sys.executable, "-c", LOOK, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"looking\n"
            for _ in range(20_000):
                StoreLock(path).release()
        finally:
            process.kill()
