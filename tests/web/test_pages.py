"""The page's files over HTTP: types, headers, revalidation, who may ask; and that its colours can be read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from binlogd.web.pages import FOLDER, HEADERS, TYPES, add_page

Client = TestClient[Any, Any]
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in TYPES)
TEXT_ON_GROUND = [
    *((text, ground) for text in ("text", "muted", "accent") for ground in ("ground", "surface", "raised")),
    *((state, ground) for state in ("ok", "warn", "bad") for ground in ("surface", "raised", f"{state}-ground")),
    *(("text", f"{state}-ground") for state in ("ok", "warn", "bad")),
    *(("muted", f"{state}-ground") for state in ("warn", "bad")),
]
SHAPE_ON_GROUND = [(shape, "surface") for shape in ("edge", "accent", "second", "ok", "warn", "bad")]


def visit(body: Callable[[Client], Awaitable[None]]) -> None:
    async def visiting() -> None:
        application = web.Application()
        add_page(application)
        async with TestClient(TestServer(application)) as client:
            await body(client)

    asyncio.run(visiting())


def test_every_file_is_served_with_its_type_and_the_headers() -> None:
    async def body(client: Client) -> None:
        for name in FILES:
            answer = await client.get("/" if name == "index.html" else f"/page/{name}")
            assert answer.status == 200
            assert await answer.read() == (FOLDER / name).read_bytes()
            assert answer.content_type == TYPES[name[name.rindex(".") :]]
            assert HEADERS.items() <= dict(answer.headers).items()

    assert {"index.html", "style.css", "page.js"} <= set(FILES)
    visit(body)


def test_what_is_refused_has_the_headers_too() -> None:
    async def body(client: Client) -> None:
        for method, path, code in (
            ("GET", "/nothing", 404),
            ("GET", "/page/", 404),
            ("GET", "/page/../pages.py", 404),
            ("POST", "/", 405),
            ("DELETE", "/page/page.js", 405),
        ):
            answer = await client.request(method, path)
            assert answer.status == code
            assert HEADERS.items() <= dict(answer.headers).items()

    visit(body)


def test_a_file_is_revalidated_and_not_sent_again() -> None:
    async def body(client: Client) -> None:
        first = await client.get("/page/page.js")
        assert first.headers["Cache-Control"] == "no-cache"
        tag = first.headers["ETag"]
        again = await client.get("/page/page.js", headers={"If-None-Match": tag})
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
        other = await client.get("/page/style.css", headers={"If-None-Match": tag})
        assert other.status == 200
        head = await client.head("/")
        assert (head.status, await head.read()) == (200, b"")
        assert int(head.headers["Content-Length"]) == (FOLDER / "index.html").stat().st_size

    visit(body)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8307", 200),
        ("[::1]:8307", 200),
        ("localhost", 200),
        ("LOCALHOST.:1", 200),
        ("rebound.example", 421),
        ("127.0.0.1.rebound.example:8307", 421),
        ("localhost.example", 421),
    ],
)
def test_on_loopback_a_request_must_name_this_machine(host: str, code: int) -> None:
    async def body(client: Client) -> None:
        assert (await client.get("/", headers={"Host": host})).status == code

    visit(body)


def test_the_policy_lets_nothing_in_and_the_page_holds_nothing_inline() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "*" not in policy
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", page)
    for name in FILES:
        text = (FOLDER / name).read_text()
        found = set(re.findall(r"\w+://[^\s\"'<>)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, f"{name} names {found}"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), name


def themes() -> dict[str, dict[str, str]]:
    style = (FOLDER / "style.css").read_text()
    found = {}
    for name, selector in (("light", ":root"), ("dark", '[data-theme="dark"]')):
        block = style[style.index(f"{selector} {{") :].partition("}")[0]
        found[name] = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    return found


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    """WCAG AA: 4.5 for text, 3 for shapes that tell something."""
    colours = themes()[theme]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for pairs, least in ((TEXT_ON_GROUND, 4.5), (SHAPE_ON_GROUND, 3.0)):
        for one, other in pairs:
            ratio = contrast(colours[one], colours[other])
            assert ratio >= least, f"{theme}: {one} on {other} has {ratio:.2f}"


def test_every_word_has_a_translation() -> None:
    words = (FOLDER / "words.js").read_text()
    known = set(re.findall(r'^  "([^"]+)":', words, re.MULTILINE))
    used = set(re.findall(r'data-(?:word|label)="([^"]+)"', (FOLDER / "index.html").read_text()))
    for name in FILES:
        if name.endswith(".js") and name != "words.js":
            text = (FOLDER / name).read_text()
            used |= set(re.findall(r'\bword\("([^"]+)"', text)) | set(re.findall(r'\btitle: "([^"]+)"', text))
    assert used and used <= known, f"without a translation: {used - known}"
