"""What the service manager is told: systemd's notification protocol, sd_notify(3), and when we say what.

The protocol is one datagram of ``NAME=value`` lines to the Unix socket named by $NOTIFY_SOCKET; a name that begins with
``@`` is in the abstract namespace. Without the variable nobody listens, and nothing is said. The variables are taken
out of the environment, so that no process of ours speaks in our name.

    READY=1         the HTTP address accepts connections, and receiver and sender each answer on their control socket.
                    A source that cannot be reached holds nothing up: what is stored is served. Whether it streams is
                    what /readyz says.
    STATUS=         one line: the source's state and where, replicas, or which process does not answer; when it changes
    RELOADING=1     SIGHUP was heard, with MONOTONIC_USEC; READY=1 again when the configuration was read and passed on
    STOPPING=1      the end has begun
    WATCHDOG=1      at least twice in $WATCHDOG_USEC, while no process hangs
    EXTEND_TIMEOUT_USEC=  another minute for the start, until READY=1, while both processes run: recovery reads every
                    file whose .idx is lost, hours of a large store, and the sender serves meanwhile

What hangs is a process that runs, has answered since its start, and does not any more. One that has ended is the
supervisor's to start again, and one that starts may read a large file first: to have systemd kill everything for
either would take away the other process, which works. A process that cannot be asked for want of descriptors looks as
if it hung; LimitNOFILE= is far above what it may need.

The sender that answers may be another one of this store: a second sender has no socket of its own (sockets.py). So for
READY any sender's answer does while ours runs, the status line says whose it is, and the watchdog leaves ours alone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from binlogd.control.sockets import ASK_TIMEOUT, RECEIVER, SENDER, ask_status
from binlogd.errors import one_line
from binlogd.logs import get_logger

SOCKETS = {"receive": RECEIVER, "serve": SENDER}
LOOK_STARTING = 0.1  # seconds between two looks until everything answers
LOOK = 5.0  # seconds between two looks after that, or less when the watchdog wants it
SEND_TIMEOUT = 5.0  # seconds that a manager may take whose socket is full; it reads between two units of its work
STARTING_MORE = 60.0  # seconds by which a start is prolonged at a time
PROLONG = 5.0  # seconds between two of that
MAX_STATUS = 500  # characters of the status line: one line of `systemctl status`

log = get_logger(__name__)


class Notifier:
    """The datagrams. ``address`` is $NOTIFY_SOCKET; without one nothing is sent."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self.watchdog = watchdog  # seconds between two WATCHDOG=1 at most; None: nobody waits for one
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self._complained = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """As the service manager wrote it for this process; the variables are taken away."""
        address = environ.pop("NOTIFY_SOCKET", None)
        interval, whose = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watchdog = None
        if interval.isascii() and interval.isdigit() and int(interval) and whose in ("", str(os.getpid())):
            watchdog = int(interval) / 1e6
        return cls(address, watchdog)

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def send(self, *lines: str) -> None:
        """One datagram of these lines. That it cannot be sent is said once: it must not end what works."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(SEND_TIMEOUT)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as bad:
            if not self._complained:
                self._complained = True
                log.warning(
                    "the service manager cannot be told how we are",
                    error=bad.strerror or str(bad),
                    hint="it may take us for dead; see NOTIFY_SOCKET and NotifyAccess",
                )


class Herald:
    """Says through ``notifier`` how the processes are; ``pids`` gives the pid of each that runs, by its subcommand."""

    def __init__(self, notifier: Notifier, folder: Path, pids: Callable[[], dict[str, int | None]]) -> None:
        self._notifier = notifier
        self._folder = folder
        self._pids = pids
        self._answered: dict[str, int] = {}  # the pid under which each process has answered
        self._ready = False
        self._prolonged_at = -PROLONG
        self._told = ""
        self._telling: asyncio.Task[None] | None = None
        # Threads of its own: the watchdog must not stand behind those who ask the page.
        self._askers = ThreadPoolExecutor(len(SOCKETS), "herald")

    def start(self) -> None:
        """When the HTTP address accepts connections."""
        if self._notifier.heard:
            self._telling = asyncio.create_task(self._tell())

    def stop(self) -> None:
        """Before the first process is told to end: nothing is watched from here on."""
        if self._telling is not None:
            self._telling.cancel()
        self._askers.shutdown(wait=False, cancel_futures=True)
        self._notifier.send("STOPPING=1", "STATUS=stopping")

    async def _tell(self) -> None:
        watchdog = self._notifier.watchdog
        pause = LOOK if watchdog is None else min(LOOK, watchdog / 2)
        while True:
            began = time.monotonic()
            try:
                self._look(self._pids(), await self._ask(min(ASK_TIMEOUT, pause)))
            except Exception:  # a mistake of ours must not have processes killed that work
                log.exception("the service manager could not be told how we are")
                if self._watched:
                    self._notifier.send("WATCHDOG=1")
            spent = time.monotonic() - began
            await asyncio.sleep(max(pause - spent, 0) if self._ready else LOOK_STARTING)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around the answer to a SIGHUP."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        if self._ready:
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={now}")
        try:
            yield
        finally:
            if self._ready:
                self._notifier.send("READY=1")

    async def _ask(self, timeout: float) -> dict[str, dict[str, Any] | None]:
        names = list(SOCKETS)
        loop = asyncio.get_running_loop()
        asks = (partial(ask_status, self._folder / SOCKETS[name], timeout=timeout) for name in names)
        asked = (loop.run_in_executor(self._askers, ask) for ask in asks)
        return dict(zip(names, await asyncio.gather(*asked), strict=True))

    def _look(self, pids: dict[str, int | None], answers: dict[str, dict[str, Any] | None]) -> None:
        """Say what follows from the processes and from what they answer."""
        hung = []
        for name, pid in pids.items():
            answer = answers[name]
            if answer is not None and answer["pid"] == pid:
                self._answered[name] = answer["pid"]
            elif pid is not None and self._answered.get(name) == pid:
                hung.append(name)
        lines = []
        if not self._ready and self._all_answer(pids, answers):
            self._ready = True
            lines.append("READY=1")
        elif not self._ready and None not in pids.values() and time.monotonic() - self._prolonged_at >= PROLONG:
            self._prolonged_at = time.monotonic()
            lines.append(f"EXTEND_TIMEOUT_USEC={round(STARTING_MORE * 1e6)}")
        if self._watched and not hung:
            lines.append("WATCHDOG=1")
        status = status_line(pids, answers, hung)
        if status != self._told:
            self._told = status
            lines.append(f"STATUS={status}")
        if lines:
            self._notifier.send(*lines)

    @property
    def _watched(self) -> bool:
        return self._notifier.watchdog is not None and self._ready

    def _all_answer(self, pids: dict[str, int | None], answers: dict[str, dict[str, Any] | None]) -> bool:
        if None in pids.values() or None in answers.values():
            return False
        return self._answered.get("receive") == pids["receive"]  # of senders any: a second one has no socket


def status_line(
    pids: dict[str, int | None], answers: dict[str, dict[str, Any] | None], hung: list[str] | tuple[str, ...] = ()
) -> str:
    """What `systemctl status` shows."""
    parts = []
    receiver, sender = answers["receive"], answers["serve"]
    if receiver is not None:
        source = receiver["source"]
        where = f" {source['host']}:{source['port']}" if "host" in source else ""
        parts.append(f"source {source['state']}{where}")
        if source["state"] != "streaming" and source.get("last_error"):
            parts[-1] += f" ({source['last_error']})"
    if sender is not None:
        number = len(sender["replicas"])
        parts.append(f"{number} replica{'s' * (number != 1)}")
        if pids["serve"] is not None and sender["pid"] != pids["serve"]:
            parts[-1] += f" at another sender of this store, pid {sender['pid']}; ours serves and is not asked"
    for name, pid in pids.items():
        if pid is None:
            parts.append(f"{name} does not run")
        elif answers[name] is None:
            parts.append(f"{name} hangs" if name in hung else f"{name} starts")
    return one_line("; ".join(parts))[:MAX_STATUS]
