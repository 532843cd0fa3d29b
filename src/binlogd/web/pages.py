"""The files of the status page, as the package holds them, and the headers that keep the page to itself.

The page asks nobody but this listener, and the headers say so to the browser: no script, style, picture or connection
from anywhere else, nothing inline, no frame around it, no address of it given away. What a replica says of itself is
shown as text; should that ever fail, nothing could run.

A file's ETag is of its content and it is revalidated each time: after an upgrade no browser shows the old page with
new figures, and until then it gets 304 and no body.

Who can make a browser resolve a name of his to 127.0.0.1 (DNS rebinding) could read a page that listens on loopback;
so there a request must name an address, localhost or this machine.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
MISDIRECTED = 421  # RFC 9110: not for this server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_page(application: web.Application) -> None:
    """Serve the page at ``/`` and its files under ``/page/``; every answer gets the headers."""
    application.middlewares.append(_for_us_alone)
    application.on_response_prepare.append(_add_headers)
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in TYPES:
            where = "/" if path.name == "index.html" else f"/page/{path.name}"
            application.router.add_get(where, _serve(path.read_bytes(), TYPES[path.suffix]))


def _serve(body: bytes, kind: str) -> Handler:
    tag = sha256(body).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}

    async def handler(request: web.Request) -> web.StreamResponse:
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    return handler


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _for_us_alone(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _on_loopback(request) and not _names_us(request.headers.get("Host", "")):
        text = "The Host header names another machine. Ask for 127.0.0.1, or have the proxy before it set Host.\n"
        return web.Response(status=MISDIRECTED, text=text)
    return await handler(request)


def _on_loopback(request: web.Request) -> bool:
    ours = request.get_extra_info("sockname")
    return bool(ours) and isinstance(ours, tuple) and _is_loopback(str(ours[0]))


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.is_loopback or bool(getattr(parsed, "ipv4_mapped", None) and parsed.ipv4_mapped.is_loopback)  # type: ignore[union-attr]


def _names_us(host: str) -> bool:
    """Whether a Host header is one that no stranger's name server can answer for. HTTP/1.0 may leave it out."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.rstrip(".").lower()
    if name in ("", "localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
