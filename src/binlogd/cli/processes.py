"""What long-lived processes share: ending with their supervisor, signals, limits. event_loop.py has the rest."""

from __future__ import annotations

import os
import resource
import signal

from binlogd.logs import get_logger

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

log = get_logger(__name__)


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

    SIGHUP will reload the configuration one day; until then it says that it did not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.environ.get("BINLOGD_DEBUG", "0") in ("", "0"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _prctl(_PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGHUP, lambda *_: log.warning("SIGHUP: reloading is not available in this version; restart"))
