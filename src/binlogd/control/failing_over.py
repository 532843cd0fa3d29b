"""What is typed at a replica that is behind when its source is lost: the statements that lead it to this binlogd.

The host is the address we listen on, or this machine's name where that is every address; user, password and TLS stay
what they are at the replica. Servers before 8.0.23, and MariaDB, know the old spelling alone, and their replicas are
taken to be like them. Without GTIDs the place is one that only the replica knows. A listener on loopback, which is the
default, serves replicas on this machine alone.
"""

from __future__ import annotations

import ipaddress
import platform
import re
from typing import Any

_EVERY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
_NEW_SPELLING = (8, 0, 23)
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def statements(publication: dict[str, Any] | None, listen: str) -> str:
    """For what is published (publication.py) and the listener's HOST:PORT; "" when there is nothing to be had."""
    if publication is None or not publication["file"]:
        return ""
    address, _, port = listen.rpartition(":")
    host = address.strip("[]")
    if host in _EVERY_ADDRESS:
        host = platform.node()
    replica, change, source = "REPLICA", "REPLICATION SOURCE", "SOURCE"
    if not _knows_source(publication["server_version"]):
        replica, change, source = "SLAVE", "MASTER", "MASTER"
    place = f"{source}_AUTO_POSITION=1"
    if not publication["executed"]:
        shown = source.title()
        place = f"{source}_LOG_FILE='<its Relay_{shown}_Log_File>', {source}_LOG_POS=<its Exec_{shown}_Log_Pos>"
    return f"STOP {replica}; CHANGE {change} TO {source}_HOST='{host}', {source}_PORT={port}, {place}; START {replica}"


def out_of_reach(listen: str) -> str:
    """Why no replica on another machine can follow them, and what to do; "" when it can."""
    if not _is_loopback(listen.rpartition(":")[0].strip("[]")):
        return ""
    return (
        f"server.listen is {listen}, which leads a replica on another machine to itself: for those set it to an address"
        " that they reach, and restart binlogd"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _knows_source(version: str) -> bool:
    found = _VERSION.match(version)
    return "MariaDB" not in version and (found is None or tuple(map(int, found.groups())) >= _NEW_SPELLING)
