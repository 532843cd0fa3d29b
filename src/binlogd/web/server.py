"""Health and status over HTTP, for load balancers, orchestrators and people with curl.

    /api/status   the whole status as JSON (interface.md)
    /livez        200 while the processes of this binlogd run, else 503
    /readyz       200 while streaming from the source with no alarm, else 503 and the reasons

Read-only, and on loopback unless configured otherwise. A status is collected in a thread and kept for a moment, so
that many askers cost no more than one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

KEEP = 0.5  # seconds that a collected status answers for


class StatusSite:
    """The handlers over two sources: ``collect`` gives the status, ``alive`` says which processes run."""

    def __init__(self, collect: Callable[[], dict[str, Any]], alive: Callable[[], dict[str, bool]]) -> None:
        self._collect = collect
        self._alive = alive
        self._status: dict[str, Any] = {}
        self._collected = -KEEP
        self._lock = asyncio.Lock()

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/api/status", self._api_status)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def status(self) -> dict[str, Any]:
        """A status at most KEEP seconds old."""
        async with self._lock:
            if time.monotonic() - self._collected > KEEP:
                self._status = await asyncio.to_thread(self._collect)
                self._collected = time.monotonic()
            return self._status

    async def _api_status(self, _: web.Request) -> web.Response:
        return web.json_response(await self.status())

    async def _livez(self, _: web.Request) -> web.Response:
        alive = self._alive()
        return web.json_response({"alive": alive}, status=200 if all(alive.values()) else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        status = await self.status()
        streaming = status["source"]["state"] == "streaming"
        ready = streaming and not status["alarms"]
        body = {"ready": ready, "source": status["source"]["state"], "alarms": status["alarms"]}
        return web.json_response(body, status=200 if ready else 503)
