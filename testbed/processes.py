"""Child processes that cannot outlive us.

The kernel kills a child whose parent-death signal is set when *the thread* that started it ends, so all
children are started by one thread that lives as long as the process. setpriv (util-linux, present on every
Debian and Ubuntu) sets the signal and then executes the program in place: the pid is the program's, and
nothing has to run between fork and exec in a process with threads. We may die before the signal is set, which
then never comes: so between setpriv and the program a shell sees who its parent is by now, and ends if it is not us.
"""

from __future__ import annotations

import atexit
import os
import queue
import shutil
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

_Order = tuple[Future["subprocess.Popen[bytes]"], list[str], Path, dict[str, str], Path]

_orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
_starter: threading.Thread | None = None
_lock = threading.Lock()
_children: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def tied(argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` as a child of this process and of the thread that starts it, and no longer."""
    setpriv = shutil.which("setpriv") or "setpriv"
    unless_orphan = ["sh", "-c", '[ "$PPID" = "$0" ] || exit; exec "$@"', str(os.getpid())]
    return [setpriv, "--pdeathsig", "KILL", "--", *unless_orphan, *argv]


def start(
    argv: Sequence[str], *, cwd: Path, log: Path, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in ``cwd`` with stdout and stderr appended to ``log``; it dies with this process.

    ``environ`` is added to this process's environment.
    """
    global _starter
    with _lock:
        if _starter is None:
            _starter = threading.Thread(target=_serve, name="testbed-starter", daemon=True)
            _starter.start()
    future: Future[subprocess.Popen[bytes]] = Future()
    _orders.put((future, tied(argv), cwd, {**os.environ, **(environ or {})}, log))
    return future.result()


def _serve() -> None:
    while True:
        future, argv, cwd, environ, log = _orders.get()
        try:
            with log.open("ab") as output:
                child = subprocess.Popen(
                    argv, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            _children.add(child)
            future.set_result(child)
        except BaseException as error:
            future.set_exception(error)


@atexit.register
def kill_all() -> None:
    """Kill every child that still runs, by pid. The last resort; whoever starts a child stops it."""
    for child in list(_children):
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
