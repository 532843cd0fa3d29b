"""``HOST:PORT``: a name, an IPv4 address or a bracketed IPv6 address (RFC 3986, 3.2.2), and a TCP port.

``db1:3306``, ``10.0.0.5:3306``, ``[::1]:3306``, ``[fe80::1%eth0]:3306``. An unbracketed IPv6 address is
refused: whether its last group is a port cannot be known.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

MYSQL_PORT = 3306
MAX_HOST = 253  # RFC 1035: the longest name in the DNS

# Underscores are no hostname characters, yet docker compose's service names have them.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


class Address(NamedTuple):
    """A host, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, *, default_port: int | None = None, lowest_port: int = 1) -> Address:
    """The address in ``text``; without a port it is ``default_port``, which ``None`` makes an error.

    ``lowest_port=0`` allows port 0, any free one, to a listener. Errors are ``ValueError`` with one line
    that does not repeat the text.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("must be [IPV6]:PORT")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("must hold an IPv6 address in the brackets") from None
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise ValueError("must be HOST:PORT, with an IPv6 address in brackets: [::1]:3306")
        if len(host) > MAX_HOST or not _NAME.fullmatch(host):
            raise ValueError("must be HOST:PORT, the host being a name or an address")
    if not colon:
        if default_port is None:
            raise ValueError("must be HOST:PORT, and the port is missing")
        return Address(host, default_port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and lowest_port <= int(port) <= 65_535):
        raise ValueError(f"must be HOST:PORT with a port between {lowest_port} and 65535")
    return Address(host, int(port))
