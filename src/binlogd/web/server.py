"""Health and status over HTTP, for people with a browser, load balancers, orchestrators and curl.

    /             the status page (pages.py), live over the next three
    /api/status   the whole status as JSON (interface.md)
    /api/history  the last hour (history.py); ?after=TIME for what is newer
    /api/files    the stored files, condensed; ?timeline=N&offset=N&limit=N for a list of some
    /metrics      the same for Prometheus (metrics.py)
    /livez        200 while the processes of this binlogd run, else 503
    /readyz       200 while streaming from the source with no alarm, else 503 and the reasons

Read-only, and on loopback unless configured otherwise. A status is collected in a thread and kept for a moment, so
that many askers cost no more than one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from aiohttp import web

from binlogd.logs import get_logger
from binlogd.web.history import History, sample
from binlogd.web.metrics import View, render
from binlogd.web.pages import add_page

KEEP = 0.5  # seconds that a collected status answers for
KEEP_FILES = 3.0  # seconds that a look at the stored files answers for
LISTED = 50  # files in a list, unless asked for more
MOST = 10**9  # the largest timeline, offset or limit that is understood
SCRAPE_TIMEOUT = 5.0  # seconds that a scrape waits for a status: half of what Prometheus waits for a scrape

log = get_logger(__name__)


class StoredFiles(Protocol):
    """What tells of the stored files: control/inventory.py."""

    def condensed(self, status: dict[str, Any], /) -> dict[str, Any]:
        """All of them, however many there are."""

    def listed(self, status: dict[str, Any], number: int, offset: int, limit: int, /) -> dict[str, Any]:
        """Some of one timeline."""


class StatusSite:
    """The handlers over their sources: ``collect`` gives the status, ``alive`` says which processes run, ``files``
    what is stored, and ``restarts`` how often each process was started again."""

    def __init__(
        self,
        collect: Callable[[], dict[str, Any]],
        alive: Callable[[], dict[str, bool]],
        files: StoredFiles,
        restarts: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._collect = collect
        self._restarts = restarts
        self._started = time.time()
        self._alive = alive
        self._stored = files
        self._history = History()
        self._files: dict[str, Any] = {}
        self._files_at = -KEEP_FILES
        self._files_lock = asyncio.Lock()
        self._status: dict[str, Any] = {}
        self._collected = -KEEP
        self._looking: asyncio.Task[None] | None = None

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application()
        add_page(application)
        application.cleanup_ctx.append(self._sampling)
        application.router.add_get("/api/status", self._api_status)
        application.router.add_get("/api/history", self._api_history)
        application.router.add_get("/api/files", self._api_files)
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

    async def _sampling(self, _: web.Application) -> AsyncIterator[None]:
        self._sampler = asyncio.create_task(sample(self._history, self.status))
        yield
        self._sampler.cancel()
        await asyncio.wait({self._sampler})

    async def _api_history(self, request: web.Request) -> web.Response:
        if self._sampler.done():  # never but by a mistake of ours: an answer that stands still would hide it
            self._sampler.result()
        return web.json_response(self._history.since(_number(request, "after", -math.inf)))

    async def _api_files(self, request: web.Request) -> web.Response:
        if "timeline" in request.query:
            wanted = (("timeline", 0.0), ("offset", 0.0), ("limit", float(LISTED)))
            numbers = [int(min(max(_number(request, name, usual), 0), MOST)) for name, usual in wanted]
            async with self._files_lock:  # one look at a time: who waits, waits here and not in a thread
                listed = await asyncio.to_thread(self._stored.listed, await self.status(), *numbers)
            return web.json_response(listed)
        async with self._files_lock:
            if time.monotonic() - self._files_at > KEEP_FILES:
                self._files = await asyncio.to_thread(self._stored.condensed, await self.status())
                self._files_at = time.monotonic()
            return web.json_response(self._files)

    async def _livez(self, _: web.Request) -> web.Response:
        alive = self._alive()
        return web.json_response({"alive": alive}, status=200 if all(alive.values()) else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        status = await self.status()
        streaming = status["source"]["state"] == "streaming"
        ready = streaming and not status["alarms"]
        body = {"ready": ready, "source": status["source"]["state"], "alarms": status["alarms"]}
        return web.json_response(body, status=200 if ready else 503)


def _number(request: web.Request, name: str, usual: float) -> float:
    try:
        value = float(request.query.get(name, usual))
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise web.HTTPBadRequest(text=f"{name} is not a number\n")
    return value
