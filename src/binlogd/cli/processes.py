"""What long-lived processes share: ending with their supervisor, signals, limits. event_loop.py has the rest."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4


def end_with_parent(supervisor: int) -> None:
    """Have the kernel send SIGTERM when the supervisor, given by its pid, dies, however it dies.

    One that died before we asked is no parent of ours any more.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        raise SystemExit(0)


ENDING = (signal.SIGTERM, signal.SIGINT)


def hold_signals() -> None:
    """Let SIGTERM and SIGINT wait until ``run_until_signalled`` answers them: nothing is left half-made."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _prctl(option: int, value: int) -> None:
    import ctypes  # long-lived processes alone need it

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def prepare_process() -> None:
    """What every long-lived process wants: all the file descriptors it may have, and no death by a closed terminal.

    And no core: it would hold passwords, and pages of data. A limit of 0 is for cores that are files; those that go to
    a program (systemd-coredump) are not asked for of a process that is not dumpable, whose memory other processes of
    the same user cannot read either. Whoever sets BINLOGD_DEBUG wants to look inside, and can.

    SIGHUP, which a terminal sends when it is closed, waits from here on until ``answer_hangups``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.environ.get("BINLOGD_DEBUG", "0") in ("", "0"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _prctl(_PR_SET_DUMPABLE, 0)
    hold_hangups()


def hold_hangups() -> None:
    """Let SIGHUP wait: nobody can answer it yet, or any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def answer_hangups(answer: Callable[[], None]) -> None:
    """Have ``answer`` called, in the main thread between two of its steps, at each SIGHUP, also one that has waited."""
    signal.signal(signal.SIGHUP, lambda *_: answer())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
