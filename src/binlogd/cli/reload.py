"""Reading the configuration again on SIGHUP: the same options, environment and file as at the start.

A configuration that is wrong is said to be, and the one that was read before goes on to count. What can only be had by
a restart (an address, the data folder, durability) stays as it was and is named. Under ``binlogd run`` the supervisor
reads it first and passes the signal on to its processes, each of which reads for itself what is its own.

The signal waits, blocked, until a process can answer it (processes.py): none is lost, and none ends a process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from binlogd.config import Settings
from binlogd.errors import ConfigError
from binlogd.logs import get_logger

HANGUP = 1  # SIGHUP, and its bit in /proc/PID/status

log = get_logger(__name__)


class Reloading:
    """``fixed`` are keys with dots that count as at the start until a restart; a section stands for all its keys."""

    def __init__(self, started: Settings, load: Callable[[], Settings], fixed: Sequence[str]) -> None:
        self._started = started
        self._load = load
        self._fixed = fixed

    def again(self) -> Settings | None:
        """The settings as they are now; None when they are wrong, which is in the log."""
        try:
            settings = self._load()
        except ConfigError as bad:
            log.error("the configuration is wrong; the one before goes on to count", error=bad.message, hint=bad.hint)
            return None
        changed = [key for key in self._fixed if _value(settings, key) != _value(self._started, key)]
        if changed:
            log.warning("what was changed here counts after a restart", keys=changed, hint="restart binlogd")
        return settings


def _value(settings: Settings, key: str) -> Any:
    value: Any = settings
    for step in key.split("."):
        value = getattr(value, step)
    return value


def answers_hangups(pid: int) -> bool:
    """Whether a process catches SIGHUP: else it is still starting, and the signal would end it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (HANGUP - 1) & 1)
