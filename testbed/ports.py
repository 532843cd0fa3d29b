"""Ports that stay ours.

A port found free by binding to port 0 can be lost before the server binds it, and again while the server is
down between two starts: to another server, or to an outgoing connection, since all of them come from the
ephemeral range. So ports are taken below that range and each is held by a lock file in the temporary folder,
among all processes (pytest-xdist's workers) for as long as the holder keeps it. The kernel drops the lock of
a killed holder.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

RANGE = range(20000, 32000)
"""Below Linux's ephemeral ports (32768–60999) and above most services."""


class Port:
    """A TCP port on 127.0.0.1 reserved until :meth:`release`."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / f"binlogd-testbed-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for number in random.sample(RANGE, len(RANGE)):
            fd = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                os.close(fd)
                continue
            self.number = number
            self._fd = fd
            return
        raise RuntimeError(f"no free port between {RANGE.start} and {RANGE.stop}")

    def release(self) -> None:
        """Let others have it; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
