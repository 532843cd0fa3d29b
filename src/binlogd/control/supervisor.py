"""``binlogd run``: starts the receiver and the sender as processes of their own, and starts them again.

What a child's end means is decided by ``decide``, a pure function. A child that fails soon after its very first start
because of its configuration, its address, its source or its store ends everything with its exit code: somebody is
watching, and has read its one-line error. Later the same failure is waited out, with a growing pause: what still works
goes on working.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from binlogd.logs import get_logger

PAUSE_SHORTEST = 0.5  # seconds before a child that died is started again
PAUSE_LONGEST = 30.0
STEADY = 30.0  # seconds of running after which the next pause is the shortest again
STOP_TIMEOUT = 15.0  # seconds a child has to stop in order before it is killed
STARTING = 0.05  # seconds between two looks whether a child that starts has come so far
CANNOT_START = 71  # exit code of a child that could not even be started (sysexits.h: EX_OSERR)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after ``pause`` seconds."""

    pause: float


@dataclass(frozen=True, slots=True)
class End:
    """Stop everything and exit with ``code``."""

    code: int


def decide(*, code: int, starts: int, lasted: float, pause: float) -> Restart | End:
    """What to do when a child has ended with ``code`` (negative: a signal) on its ``starts``-th start.

    ``lasted`` is how long it ran and ``pause`` the pause before it, both seconds.
    """
    if lasted >= STEADY:
        return Restart(PAUSE_SHORTEST)
    if starts == 1 and code in (2, 3, 4):
        return End(code)
    return Restart(min(max(pause * 2, PAUSE_SHORTEST), PAUSE_LONGEST))


class Supervisor:
    """Keeps one process for each of ``names`` (subcommands) running until ``run`` is cancelled or must end."""

    def __init__(self, names: Sequence[str], arguments: Sequence[str], options: bytes) -> None:
        self._names = names
        self._arguments = arguments
        self._options = options
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self.restarts = dict.fromkeys(names, 0)  # how often each child was started again
        self._code: asyncio.Future[int] | None = None

    async def run(self, ending: Callable[[], None] = lambda: None) -> int:
        """Until a child's end must end everything; its exit code. ``ending`` is called before the others are ended."""
        self._code = asyncio.get_running_loop().create_future()
        keepers = [asyncio.create_task(self._keep(name)) for name in self._names]
        for keeper in keepers:
            keeper.add_done_callback(self._kept)
        try:
            return await self._code
        finally:
            ending()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await asyncio.gather(*(self._stop(name) for name in self._names))

    def alive(self) -> dict[str, bool]:
        """Which children run now."""
        return {name: name in self._children and self._children[name].returncode is None for name in self._names}

    def pids(self) -> dict[str, int | None]:
        """The pid of each child, None of one that does not run now."""
        return {name: self._children[name].pid if runs else None for name, runs in self.alive().items()}

    async def pass_on(self, number: signal.Signals, answers: Callable[[int], bool]) -> None:
        """Send a signal to every child, when it can answer it; one that has ended meanwhile needs none."""

        async def to(process: asyncio.subprocess.Process) -> None:
            while process.returncode is None and not answers(process.pid):  # noqa: ASYNC110 - a process, no event
                await asyncio.sleep(STARTING)
            if process.returncode is None:
                process.send_signal(number)

        await asyncio.gather(*map(to, list(self._children.values())))

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        """A keeper that fails is a bug, and must not leave its child unkept unnoticed."""
        assert self._code is not None
        if not keeper.cancelled() and (bug := keeper.exception()) is not None and not self._code.done():
            self._code.set_exception(bug)

    async def _keep(self, name: str) -> None:
        starts, pause = 0, 0.0
        while True:
            starts += 1
            began = time.monotonic()
            code = await self._once(name)
            verdict = decide(code=code, starts=starts, lasted=time.monotonic() - began, pause=pause)
            if isinstance(verdict, End):
                assert self._code is not None
                if not self._code.done():
                    self._code.set_result(verdict.code)
                return
            pause = verdict.pause
            log.error("a process ended and is started again", process=name, exit=_words(code), restart_in=pause)
            await asyncio.sleep(pause)
            self.restarts[name] += 1

    async def _once(self, name: str) -> int:
        """Run a child to its end; its exit code."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "binlogd",
                name,
                "--supervised",
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            )
        except OSError as bad:
            log.error("a process cannot be started", process=name, error=bad.strerror)
            return CANNOT_START
        self._children[name] = process
        assert process.stdin is not None
        if not process.stdin.is_closing():  # it is not dead already: uvloop's pipe then refuses what is written
            process.stdin.write(self._options)
        process.stdin.close()
        return await process.wait()

    async def _stop(self, name: str) -> None:
        process = self._children.get(name)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            log.error("a process did not stop and is killed", process=name, after=STOP_TIMEOUT)
            process.kill()
            await process.wait()


def _words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}, {signal.strsignal(-code)}"
