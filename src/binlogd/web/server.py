"""Health and status over HTTP, for load balancers, orchestrators and people with curl.

    /api/status   the whole status as JSON (interface.md)
    /metrics      the same for Prometheus (metrics.py)
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

from binlogd.logs import get_logger
from binlogd.web.metrics import View, render

KEEP = 0.5  # seconds that a collected status answers for
SCRAPE_TIMEOUT = 5.0  # seconds that a scrape waits for a status: half of what Prometheus waits for a scrape

log = get_logger(__name__)


class StatusSite:
    """The handlers over three sources: ``collect`` gives the status, ``alive`` says which processes run.

    ``restarts`` counts how often each was started again.
    """

    def __init__(
        self,
        collect: Callable[[], dict[str, Any]],
        alive: Callable[[], dict[str, bool]],
        restarts: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._collect = collect
        self._restarts = restarts
        self._started = time.time()
        self._alive = alive
        self._status: dict[str, Any] = {}
        self._collected = -KEEP
        self._looking: asyncio.Task[None] | None = None

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        application.router.add_get("/api/status", self._api_status)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def status(self) -> dict[str, Any]:
        """A status at most KEEP seconds old."""
        if self._looking is None and time.monotonic() - self._collected > KEEP:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:  # one look for all, which goes on when whoever asked first does not wait for it
            await asyncio.shield(self._looking)
        return self._status

    async def _look(self) -> None:
        try:
            self._status = await asyncio.to_thread(self._collect)
            self._collected = time.monotonic()
        finally:
            self._looking = None

    async def _metrics(self, request: web.Request) -> web.Response:
        status = None
        try:
            status = await asyncio.wait_for(self.status(), SCRAPE_TIMEOUT)
        except Exception as bad:  # a scrape without it says so, and still tells what is known here
            log.error("no status for this scrape", error=str(bad) or type(bad).__name__)
        body, content_type = render(
            View(status, self._started, self._restarts()), accept=request.headers.get("Accept", "")
        )
        return web.Response(body=body, headers={"Content-Type": content_type})

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
