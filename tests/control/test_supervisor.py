"""What a child's end means, as a table, and the keeping of real children."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from binlogd.cli.reload import answers_hangups
from binlogd.control import supervisor
from binlogd.control.supervisor import (
    CANNOT_START,
    PAUSE_LONGEST,
    PAUSE_SHORTEST,
    STEADY,
    End,
    Restart,
    Supervisor,
    decide,
)

WAIT = 20.0


@pytest.mark.parametrize(
    ("code", "starts", "lasted", "pause", "verdict"),
    [
        # At first a mistake that somebody is there to put right ends everything …
        (2, 1, 0.5, 0, End(2)),
        (3, 1, 0.5, 0, End(3)),
        (4, 1, STEADY - 0.1, 0, End(4)),
        # … but no bug, no signal, and no end without a complaint.
        (0, 1, 0.5, 0, Restart(PAUSE_SHORTEST)),
        (1, 1, 0.5, 0, Restart(PAUSE_SHORTEST)),
        (70, 1, 0.5, 0, Restart(PAUSE_SHORTEST)),
        (CANNOT_START, 1, 0.0, 0, Restart(PAUSE_SHORTEST)),
        (-9, 1, 0.5, 0, Restart(PAUSE_SHORTEST)),
        # After days of work the same exit code is not the first start's.
        (4, 1, STEADY, 0, Restart(PAUSE_SHORTEST)),
        (3, 1, 86_400 * 3, 0, Restart(PAUSE_SHORTEST)),
        # Later everything is waited out, for longer each time …
        (2, 2, 0.5, PAUSE_SHORTEST, Restart(2 * PAUSE_SHORTEST)),
        (4, 7, 0.5, 8.0, Restart(16.0)),
        (-11, 9, 0.5, 16.0, Restart(PAUSE_LONGEST)),
        (-11, 10, 0.5, PAUSE_LONGEST, Restart(PAUSE_LONGEST)),
        # … until it runs for a while.
        (-11, 11, STEADY, PAUSE_LONGEST, Restart(PAUSE_SHORTEST)),
    ],
)
def test_decide(code: int, starts: int, lasted: float, pause: float, verdict: Restart | End) -> None:
    assert decide(code=code, starts=starts, lasted=lasted, pause=pause) == verdict


# A child: keeps a diary of its starts and ends as its options tell it. ``python -m binlogd`` finds it by PYTHONPATH.
CHILD = """
import json, os, signal, sys, time
name = sys.argv[1]
options = json.loads(sys.stdin.readline())
def write(*entry):
    with open(options["diary"], "a") as diary:
        diary.write(json.dumps(entry) + "\\n")
def stop(*_):
    write(name + " stops", os.getpid())
    sys.exit(0)
if name in options.get("late", []):
    time.sleep(0.5)
signal.signal(signal.SIGHUP, lambda *_: write(name + " hears", os.getpid()))
signal.signal(signal.SIGTERM, signal.SIG_IGN if name in options.get("deaf", []) else stop)
write(name, os.getpid(), os.getpgrp(), sys.argv[2:], sys.stdin.read())
starts = sum(json.loads(line)[0] == name for line in open(options["diary"]))
plan = options.get(name, [])
if starts <= len(plan):
    sys.exit(plan[starts - 1])
while True:
    time.sleep(60)
"""


class Family:
    """A supervisor over two such children."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **plans: Any) -> None:
        package = folder / "path" / "binlogd"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(CHILD)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        monkeypatch.setattr(supervisor, "PAUSE_SHORTEST", 0.05)
        self.diary = folder / "diary"
        options = json.dumps({"diary": str(self.diary), **plans}).encode() + b"\n"
        self.supervisor = Supervisor(("receive", "serve"), ["--log-level", "info"], options)

    def entries(self, name: str) -> list[list[Any]]:
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        return [entry for entry in map(json.loads, lines) if entry[0] == name]

    async def until(self, name: str, count: int) -> list[list[Any]]:
        async with asyncio.timeout(WAIT):
            while len(self.entries(name)) < count:  # noqa: ASYNC110 - other processes set no Event
                await asyncio.sleep(0.01)
        return self.entries(name)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


async def cancelled(task: asyncio.Task[int]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_children_get_their_options_by_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        family = Family(tmp_path, monkeypatch)
        assert family.supervisor.alive() == {"receive": False, "serve": False}
        task = asyncio.create_task(family.supervisor.run())
        for name in ("receive", "serve"):
            (entry,) = await family.until(name, 1)
            assert entry[3:] == [["--supervised", "--log-level", "info"], ""], "the pipe ends behind the options"
            assert entry[2] == entry[1] != os.getpgrp(), "a terminal's Ctrl-C must not reach it"
        assert family.supervisor.alive() == {"receive": True, "serve": True}
        await cancelled(task)
        assert family.supervisor.alive() == {"receive": False, "serve": False}
        for name in ("receive", "serve"):
            assert len(family.entries(f"{name} stops")) == 1
            assert gone(family.entries(name)[0][1])

    run(body())


def test_a_child_that_fails_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        family = Family(tmp_path, monkeypatch, receive=[1, 3, 4])
        task = asyncio.create_task(family.supervisor.run())
        await family.until("receive", 4)
        assert len(await family.until("serve", 1)) == 1, "the other does not notice"
        await cancelled(task)

    run(body())


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_child_that_is_killed_before_it_has_its_options_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    loop = pytest.importorskip(kind).new_event_loop
    start, killed = asyncio.create_subprocess_exec, list[int]()

    async def body() -> None:
        async def kill_the_first(*words: str, **more: Any) -> asyncio.subprocess.Process:
            process = await start(*words, **more)
            if "receive" in words and not killed:
                killed.append(process.pid)
                process.kill()
                assert process.stdin is not None
                async with asyncio.timeout(WAIT):
                    while not process.stdin.is_closing():  # noqa: ASYNC110 - nothing else tells of it
                        await asyncio.sleep(0.001)
            return process

        monkeypatch.setattr(asyncio, "create_subprocess_exec", kill_the_first)
        family = Family(tmp_path, monkeypatch)
        task = asyncio.create_task(family.supervisor.run())
        await family.until("receive", 1)
        await family.until("serve", 1)
        assert family.supervisor.restarts == {"receive": 1, "serve": 0}
        await cancelled(task)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(body())
    assert len(killed) == 1


@pytest.mark.parametrize("code", [2, 3, 4])
def test_a_mistake_at_the_first_start_ends_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def body() -> None:
        family = Family(tmp_path, monkeypatch, serve=[code])
        assert await asyncio.wait_for(family.supervisor.run(), WAIT) == code
        assert all(gone(entry[1]) for name in ("receive", "serve") for entry in family.entries(name))

    run(body())


def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 1.0)
        family = Family(tmp_path, monkeypatch, deaf=["serve"])
        task = asyncio.create_task(family.supervisor.run())
        pids = [(await family.until(name, 1))[0][1] for name in ("receive", "serve")]
        began = time.monotonic()
        await cancelled(task)
        assert time.monotonic() - began < WAIT
        assert all(map(gone, pids))
        assert len(family.entries("receive stops")) == 1
        assert family.entries("serve stops") == []

    run(body())


def test_a_machine_out_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that cannot be started is tried again: the machine may recover, and nobody else would do it."""

    async def body() -> None:
        family = Family(tmp_path, monkeypatch)
        executable = sys.executable
        monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
        task = asyncio.create_task(family.supervisor.run())
        await asyncio.sleep(0.01)
        assert family.supervisor.alive() == {"receive": False, "serve": False}
        monkeypatch.setattr(sys, "executable", executable)
        await family.until("receive", 1)
        await family.until("serve", 1)
        await cancelled(task)

    run(body())


def test_a_bug_in_keeping_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        family = Family(tmp_path, monkeypatch, receive=[1])
        monkeypatch.setattr(supervisor, "decide", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(family.supervisor.run(), WAIT)

    run(body())


def test_a_signal_is_passed_on_to_children_that_can_answer_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that still starts would be ended by it."""

    async def body() -> None:
        family = Family(tmp_path, monkeypatch, late=["serve"])
        task = asyncio.create_task(family.supervisor.run())
        await family.until("receive", 1)
        await family.supervisor.pass_on(signal.SIGHUP, answers_hangups)
        for name in ("receive", "serve"):
            assert len(await family.until(f"{name} hears", 1)) == 1
            assert len(family.entries(name)) == 1, "nothing was started again"
        await cancelled(task)

    run(body())
