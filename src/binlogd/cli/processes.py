"""What the processes share: ending with their supervisor, and an event loop that ends with a signal."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from binlogd.logs import get_logger

_PR_SET_PDEATHSIG = 1

log = get_logger(__name__)


def end_with_parent(supervisor: int) -> None:
    """Have the kernel send SIGTERM when the supervisor, given by its pid, dies, however it dies.

    One that died before we asked is no parent of ours any more.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        raise SystemExit(0)


_ENDING = (signal.SIGTERM, signal.SIGINT)


def hold_signals() -> None:
    """Let SIGTERM and SIGINT wait until ``run_until_signalled`` answers them: nothing is left half-made."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def prepare_process() -> None:
    """What every long-lived process wants: all the file descriptors it may have, and no death by a closed terminal.

    SIGHUP will reload the configuration one day; until then it says that it did not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGHUP, lambda *_: log.warning("SIGHUP: reloading is not available in this version; restart"))


def run_until_signalled(body: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a fast event loop; SIGTERM and SIGINT cancel it."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop

    prepare_process()

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in _ENDING:
            loop.add_signal_handler(number, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        try:
            await body
        except asyncio.CancelledError:
            if not stopped:
                raise

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(guarded())
        except BaseExceptionGroup as group:
            # A task group wraps what one of its tasks raised; people are to see that alone.
            raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first
