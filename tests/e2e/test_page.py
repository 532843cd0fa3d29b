"""The status page in a real browser, over a real chain: what a person sees, with and without a mouse.

Whatever happens, the page asks nobody but its binlogd, and the browser has nothing to complain of: no error, no breach
of the policy (each would be an error on the console).
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from binlogd.binlog.gtid import GtidSet
from binlogd.control.inventory import MOST_CELLS, Inventory
from binlogd.control.status import collect
from binlogd.store.index import Summary, write_index
from binlogd.store.layout import DataFolder
from binlogd.web.server import StatusSite
from testbed import chromium
from testbed.mysqld import Server
from testbed.packages import Unsupported
from testbed.proxy import Proxy
from tests.e2e.support import Site
from tests.store.support import Quick

pytestmark = pytest.mark.servers

HOSTILE = "<img/src=x/onerror=alert(1)>"
PATIENCE = 30_000  # milliseconds that what must be seen may take
MIB = 1024 * 1024

Visit = Callable[..., Page]

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class Chain:
    """A site with two replicas, one of which stands behind a proxy and calls itself something odd."""

    site: Site
    line: Proxy
    replicas: tuple[Server, Server]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    try:
        chromium.find()
    except Unsupported as error:
        pytest.skip(str(error))
    with chromium.browser() as running:
        yield running


@pytest.fixture(scope="module")
def chain(site: Site) -> Iterator[Chain]:
    with Proxy(*site.binlogd.address) as line:
        near = site.cluster.replica(site.binlogd.address, "near", options={"report_host": "near"})
        far = site.cluster.replica((line.host, line.port), "far", options={"report_host": HOSTILE})
        for replica in (near, far):
            replica.wait_for_gtid(site.source.gtid_executed)
        yield Chain(site, line, (near, far))


@pytest.fixture
def visit(chrome: Browser) -> Iterator[Visit]:
    """Opens the page at an address, in a browser without memory; ``lossy`` when binlogd shall go away meanwhile."""
    pages: list[tuple[Page, str, bool, list[str], list[str]]] = []

    def open_page(port: int, *, lossy: bool = False, route: Callable[[Route], None] | None = None, **how: Any) -> Page:
        context = chrome.new_context(**{"viewport": {"width": 1200, "height": 900}, "locale": "en-GB", **how})
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        complaints: list[str] = []

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                complaints.append(message.text)

        page.on("request", lambda request: asked.append(request.url))
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        base = f"http://127.0.0.1:{port}/"
        if route is not None:
            page.route("**/api/status", route)
        pages.append((page, base, lossy, asked, complaints))
        page.goto(base)
        expect(page.locator("#about")).to_contain_text("up")
        return page

    yield open_page
    for page, base, lossy, asked, complaints in pages:
        page.context.close()
        assert asked and not [url for url in asked if not url.startswith(base)]
        assert not [text for text in complaints if not (lossy and "Failed to load resource" in text)]


def no_sideways(page: Page) -> None:
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1]


def test_the_chain_is_drawn_and_a_replica_that_lags_is_seen(chain: Chain, visit: Visit) -> None:
    site = chain.site
    page = visit(site.binlogd.http_port)
    nodes = page.locator("#chain .node")
    expect(nodes).to_have_count(4)
    expect(nodes.nth(0)).to_contain_text(f"127.0.0.1:{site.source.port}")
    expect(nodes.nth(0)).to_contain_text("streaming")
    expect(nodes.nth(1)).to_contain_text(":".join(map(str, site.binlogd.published)))
    near = page.locator(".node", has_text="near")
    far = page.locator(".node", has_text=HOSTILE)  # as text, and nothing else
    expect(near).to_contain_text("in step")
    expect(far).to_contain_text("in step")
    assert page.locator("main img").count() == 0
    expect(page.locator("#plots figure")).to_have_count(4)
    expect(page.locator(".cell[data-state=newest]")).to_have_count(1)

    chain.line.pace(1024, 0.5)
    site.source.execute("CREATE TABLE IF NOT EXISTS d.page (id INT PRIMARY KEY AUTO_INCREMENT, x LONGBLOB)")
    for _ in range(6):
        site.source.execute("INSERT INTO d.page (x) VALUES (REPEAT('x', 4 * 1024 * 1024))")
    expect(far.locator(".word")).to_contain_text(re.compile(r"iB .*behind"))
    expect(far.locator(".word")).to_have_attribute("data-state", re.compile("warn|bad"))
    expect(nodes.nth(2)).to_contain_text(HOSTILE)  # the worst first
    expect(near).to_contain_text("in step")
    chain.line.pace(0, 0)
    expect(far).to_contain_text("in step")
    expect(page.locator("#chain-note")).to_have_text("2 replicas")


def test_by_keyboard_alone(chain: Chain, visit: Visit) -> None:
    page = visit(chain.site.binlogd.http_port)
    expect(page.locator(".cell").first).to_be_attached()
    expect(page.locator("#chain .node")).to_have_count(4)
    expect(page.locator("#plots figure")).to_have_count(4)
    stops = []
    for _ in range(9):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e), box = e.querySelector(".box");
                return [e.id || (e.className.baseVal ?? e.className.split(" ")[0]) || e.localName,
                        s.outlineStyle !== "none" || (box && getComputedStyle(box).strokeWidth === "3px")]; }"""
        )
        assert focus[1], f"the focus on {focus[0]} is not seen"
        stops.append(focus[0])
    # The chain is one stop and the map is one, however much they hold.
    assert stops[:4] == ["skip", "language", "theme", "node"]
    assert stops[4:9] == ["svg", "svg", "svg", "svg", "cell"]
    page.keyboard.press("Enter")
    expect(page.locator("#map-details")).to_contain_text("mysql-bin.")
    page.locator("#plots svg").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#plots output").first).to_contain_text("Received")
    page.locator(".node[tabindex='0']").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    details = page.locator("#chain-details")
    expect(details).to_contain_text("server_uuid")
    expect(page.locator(".node:focus")).to_have_attribute("aria-pressed", "true")
    details.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(details).to_be_hidden()
    expect(page.locator(".node:focus")).to_have_count(1)


def test_light_dark_a_phone_and_chinese(chain: Chain, visit: Visit) -> None:
    port = chain.site.binlogd.http_port
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = visit(port, color_scheme="dark", viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    assert dark.evaluate(ground) == "rgb(19, 22, 25)"
    expect(dark.locator("#chain .node")).to_have_count(4)
    expect(dark.locator(".cell").first).to_be_attached()
    assert dark.evaluate("getComputedStyle(document.querySelector('.pulse')).display") == "none"
    dark.locator(".node").last.click()
    expect(dark.locator("#chain-details")).to_be_visible()
    no_sideways(dark)
    dark.locator("#theme").click()
    expect(dark.locator("#theme")).to_have_text("Theme: light")
    assert dark.evaluate(ground) == "rgb(250, 249, 246)"
    dark.reload()
    expect(dark.locator("#theme")).to_have_text("Theme: light")
    assert dark.evaluate(ground) == "rgb(250, 249, 246)"
    dark.emulate_media(color_scheme="dark")
    dark.locator("#theme").click()
    dark.locator("#theme").click()
    expect(dark.locator("#theme")).to_have_text("Theme: system")
    assert dark.evaluate(ground) == "rgb(19, 22, 25)"
    dark.locator("#language").click()
    expect(dark.locator("#chain-title")).to_contain_text("复制链路")
    assert dark.evaluate("document.documentElement.lang") == "zh-CN"
    no_sideways(dark)


def test_a_hundred_replicas_can_be_read(chain: Chain, visit: Visit) -> None:
    def many(route: Route) -> None:
        answer = route.fetch()
        status = answer.json()
        replica = status["replicas"][0]
        status["replicas"] = [
            replica | {"id": number, "report_host": f"replica-{number}", "lag_bytes": number * MIB}
            for number in range(100)
        ]
        route.fulfill(response=answer, json=status)

    page = visit(chain.site.binlogd.http_port, route=many)
    expect(page.locator("#chain .node")).to_have_count(102)
    expect(page.locator("#chain .node").nth(2)).to_contain_text("replica-99")
    assert page.locator(".node[tabindex='0']").count() == 1
    box = page.locator("#chain").bounding_box()
    assert box is not None and box["height"] <= 0.7 * 900 + 2
    no_sideways(page)
    page.set_viewport_size({"width": 320, "height": 640})
    expect(page.locator("#chain svg")).to_have_attribute("viewBox", re.compile(r"^0 0 2\d\d "))
    no_sideways(page)
    page.unroute_all(behavior="wait")


def test_a_lost_source_and_a_lost_binlogd_are_told_and_over_when_they_are(chain: Chain, visit: Visit) -> None:
    site = chain.site
    page = visit(site.binlogd.http_port, lossy=True)
    page.evaluate("globalThis.same = true")
    expect(page.locator("#alarms-section")).to_be_hidden()
    site.source.kill()
    alarm = page.locator("#alarms li")
    expect(alarm).to_contain_text("source_lost")
    expect(alarm).to_be_visible()
    assert page.locator("#alarms").get_attribute("aria-live") == "polite"
    expect(alarm.locator(".severity")).to_have_text("critical")
    expect(alarm.locator(".message")).to_contain_text("cannot connect to the source")
    expect(page.locator(".node").first.locator(".sign")).to_have_attribute("data-state", re.compile("bad|warn"))
    expect(page.locator("#state")).to_have_attribute("data-state", "bad")
    site.source.start()
    expect(page.locator("#state-text")).to_have_text("streaming")
    expect(page.locator("#alarms-section")).to_be_hidden()

    notice = page.locator("#connection")
    expect(notice).to_be_hidden()
    site.binlogd.stop()
    expect(notice).to_be_visible()
    expect(notice).to_contain_text("no connection to binlogd since")
    expect(page.locator("#chain .node").first).to_be_visible()
    site.binlogd.start()
    expect(notice).to_be_hidden()
    expect(page.locator("#state-text")).to_have_text("streaming")
    assert page.evaluate("globalThis.same") is True  # it was not loaded again


# --- ten thousand files ---


def make_files(folder: DataFolder, number: int) -> None:
    """A timeline of that many tiny files, with what would stand beside real ones."""
    disk = Quick()
    folder.prepare(disk)
    made = folder.new_timeline(disk, "00000001-0000-0000-0000-000000000001")
    for file in range(1, number + 1):
        name = f"mysql-bin.{file:06d}"
        (made.path / name).write_bytes(bytes(100 + file % 50))
        gtids = GtidSet.parse(f"{made.source_uuid}:{file}")
        write_index(disk, made.path, Summary(name, 100 + file % 50, file, file + 1, 0, gtids, 1, 1, "9.7.4"), b"")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[DataFolder], int]]:
    """Serves the page over a data folder, in a thread; the port."""
    ends: list[Callable[[], None]] = []

    def serve(folder: DataFolder) -> int:
        started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def body() -> None:
            runner = web.AppRunner(StatusSite(lambda: collect(folder), dict, Inventory(folder)).application())
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            end = asyncio.Event()
            started.set_result((runner.addresses[0][1], asyncio.get_running_loop(), end))
            await end.wait()
            await runner.cleanup()

        thread = threading.Thread(target=lambda: asyncio.run(body()))
        thread.start()
        port, loop, end = started.result(timeout=30)

        def stop() -> None:
            loop.call_soon_threadsafe(end.set)
            thread.join(timeout=30)

        ends.append(stop)
        return port

    yield serve
    for stop in ends:
        stop()


@pytest.mark.slow
def test_ten_thousand_files(tmp_path: Path, visit: Visit, serving: Callable[[DataFolder], int]) -> None:
    folder = DataFolder(tmp_path)
    make_files(folder, 10_000)
    page = visit(serving(folder))
    expect(page.locator("#files-note")).to_contain_text("10,000 files")
    cells = page.locator(".cell")
    assert 100 <= cells.count() <= MOST_CELLS
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    cells.first.click()
    page.get_by_role("button", name="List these files").click()
    expect(page.locator("#list tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Later").click()
    expect(page.locator("#list tbody tr").first).to_contain_text("mysql-bin.000051")
    no_sideways(page)
