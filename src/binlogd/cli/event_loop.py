"""An event loop that ends with a signal; apart from processes.py because the receiver does without one of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from binlogd.cli.processes import ENDING, prepare_process
from binlogd.logs import get_logger

log = get_logger(__name__)


def run_until_signalled(body: Coroutine[Any, Any, None], reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine on a fast event loop; SIGTERM and SIGINT cancel it, each SIGHUP runs ``reload`` beside it.

    Of hang-ups that come while one is answered the last is answered after it.
    """
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

        hung_up = asyncio.Event()

        async def answer_hangups() -> None:
            while True:
                await hung_up.wait()
                hung_up.clear()
                try:
                    await reload()
                except Exception:  # a bug, and no reason to stop serving
                    log.exception("reloading the configuration failed; the one before goes on to count")

        for number in ENDING:
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, hung_up.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, signal.SIGHUP})
        answering = asyncio.create_task(answer_hangups())
        try:
            await body
        except asyncio.CancelledError:
            if not stopped:
                raise
        finally:
            answering.cancel()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(guarded())
        except BaseExceptionGroup as group:
            # A task group wraps what one of its tasks raised; people are to see that alone.
            raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first
