"""Who asks over a socket in the data folder, and cannot be listened to."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from binlogd.control.sockets import SENDER, ControlServer, ask_status, reachable

WAIT = 20.0


async def _ask_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time the event loop has no room to watch one connection more."""
    opening, failures = asyncio.open_unix_connection, [OSError(errno.ENOSPC, "No space left on device")]

    async def failing(*arguments: Any, **options: Any) -> Any:
        if "sock" in options and failures:
            raise failures.pop()
        return await opening(*arguments, **options)

    control = ControlServer(path, lambda: {"pid": 7})
    await control.start()
    monkeypatch.setattr(asyncio, "open_unix_connection", failing)
    try:
        with reachable(path) as name:
            reader, writer = await opening(name)
        assert await reader.read() == b"", "it is told at once, and does not wait for an answer"
        writer.close()
        assert not failures
        assert await asyncio.to_thread(ask_status, path) == {"pid": 7}
    finally:
        await control.stop()


def test_who_cannot_be_listened_to_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT):
            await _ask_twice(tmp_path / SENDER, monkeypatch)

    asyncio.run(limited())
