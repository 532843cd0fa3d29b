"""Health and status over HTTP: exact codes, exact bodies, and one look for many askers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from binlogd.web import server
from binlogd.web.server import StatusSite
from tests.web.support import NoFiles

ALARM = {"severity": "warning", "code": "odd", "since": None, "message": "m", "hint": "h"}
READY: dict[str, Any] = {
    "source": {"state": "streaming"},
    "server": {"state": "stopped"},
    "replicas": [],
    "alarms": [],
    "text": "主库",
}
ALIVE = {"receive": True, "serve": True}
Client = TestClient[Any, Any]


def visit(
    body: Callable[[Client], Awaitable[None]],
    *,
    collect: Callable[[], dict[str, Any]] = lambda: READY,
    alive: Callable[[], dict[str, bool]] = lambda: ALIVE,
) -> None:
    async def visiting() -> None:
        async with TestClient(TestServer(StatusSite(collect, alive, NoFiles()).application())) as client:
            await body(client)

    asyncio.run(visiting())


def test_status() -> None:
    async def body(client: Client) -> None:
        answer = await client.get("/api/status")
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == READY

    visit(body)


@pytest.mark.parametrize(
    ("alive", "code"), [(ALIVE, 200), (ALIVE | {"serve": False}, 503), (ALIVE | {"receive": False}, 503)]
)
def test_livez(alive: dict[str, bool], code: int) -> None:
    async def body(client: Client) -> None:
        answer = await client.get("/livez")
        assert (answer.status, await answer.json()) == (code, {"alive": alive})

    visit(body, alive=lambda: alive)


@pytest.mark.parametrize(
    ("state", "alarms", "code"),
    [
        ("streaming", [], 200),
        ("streaming", [ALARM], 503),
        ("connecting", [], 503),
        ("backoff", [], 503),
        ("failed", [ALARM], 503),
        ("stopped", [ALARM], 503),
    ],
)
def test_readyz(state: str, alarms: list[dict[str, Any]], code: int) -> None:
    async def body(client: Client) -> None:
        answer = await client.get("/readyz")
        assert answer.status == code
        assert await answer.json() == {"ready": code == 200, "source": state, "alarms": alarms}

    visit(body, collect=lambda: READY | {"source": {"state": state}, "alarms": alarms})


def test_liveness_asks_nobody() -> None:
    """It must answer when what it would ask hangs."""

    async def body(client: Client) -> None:
        assert (await client.get("/livez")).status == 200

    visit(body, collect=lambda: 1 / 0)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_read_only(method: str) -> None:
    async def body(client: Client) -> None:
        for path in ("/api/status", "/livez", "/readyz"):
            assert (await client.request(method, path)).status == 405
        assert (await client.get("/nothing")).status == 404
        assert (await client.head("/livez")).status == 200

    visit(body)


def test_many_askers_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP", 3600.0)
    looks: list[int] = []
    may_end = threading.Event()

    def collect() -> dict[str, Any]:
        looks.append(threading.get_ident())
        assert may_end.wait(20)
        return READY

    async def body(client: Client) -> None:
        asking = [asyncio.create_task(client.get(path)) for path in ("/api/status", "/readyz") for _ in range(10)]
        # While the look takes its time, the loop answers others.
        assert (await client.get("/livez")).status == 200
        may_end.set()
        assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
        assert len(looks) == 1
        assert looks[0] != threading.get_ident()
        assert (await client.get("/api/status")).status == 200
        assert len(looks) == 1
        monkeypatch.setattr(server, "KEEP", 0.0)
        assert (await client.get("/api/status")).status == 200
        assert len(looks) == 2

    visit(body, collect=collect)


class SomeFiles(NoFiles):
    """One that tells how it was asked."""

    asked = 0

    def condensed(self, _: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        return {"asked": self.asked}

    def listed(self, _: dict[str, Any], number: int, offset: int, limit: int) -> dict[str, Any]:
        return {"of": [number, offset, limit]}


def test_files_are_looked_at_once_for_many_and_listed_on_demand() -> None:
    async def visiting() -> None:
        site = StatusSite(lambda: READY, lambda: ALIVE, SomeFiles())
        async with TestClient(TestServer(site.application())) as client:
            answers = await asyncio.gather(*(client.get("/api/files") for _ in range(5)))
            assert [await answer.json() for answer in answers] == [{"asked": 1}] * 5
            for query, expected in (
                ("timeline=2", [2, 0, server.LISTED]),
                ("timeline=2&offset=7&limit=9", [2, 7, 9]),
                ("timeline=-1&offset=-5&limit=inf", [0, 0, server.MOST]),
            ):
                assert await (await client.get(f"/api/files?{query}")).json() == {"of": expected}
            for query in ("timeline=x", "timeline=1&offset=nan", "timeline="):
                assert (await client.get(f"/api/files?{query}")).status == 400

    asyncio.run(visiting())


class SlowFiles(NoFiles):
    """One whose lists take until they may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.started, self.may_end = threading.Event(), threading.Event()

    def listed(self, _: dict[str, Any], number: int, offset: int, limit: int) -> dict[str, Any]:
        self.begun += 1  # by one thread at a time, which is what is tested
        self.started.set()
        assert self.may_end.wait(20)
        return {}


def test_lists_take_one_thread_however_many_ask() -> None:
    """The others wait without one: threads are what the rest of this process needs, too."""
    files = SlowFiles()

    async def visiting() -> None:
        async with TestClient(TestServer(StatusSite(lambda: READY, lambda: ALIVE, files).application())) as client:
            asking = [asyncio.create_task(client.get("/api/files?timeline=1")) for _ in range(50)]
            try:
                assert await asyncio.to_thread(files.started.wait, 20)
                for _ in range(5):  # which come behind them
                    assert (await client.get("/readyz")).status == 200
                begun = files.begun
            finally:
                files.may_end.set()
                answers = await asyncio.gather(*asking)
            assert begun == 1
            assert {answer.status for answer in answers} == {200}
            assert files.begun == 50

    asyncio.run(visiting())


def test_history_begins_when_the_site_does() -> None:
    async def body(client: Client) -> None:
        history = await (await client.get("/api/history")).json()
        assert len(history["columns"]["time"]) == 1
        newest = history["columns"]["time"][0]
        later = await (await client.get(f"/api/history?after={newest}")).json()
        assert later["columns"]["time"] == []
        assert (await client.get("/api/history?after=soon")).status == 400

    async def sampled(client: Client) -> None:
        await client.get("/api/status")  # shares the look with the first sample
        await body(client)

    visit(sampled)
