"""What is typed at a replica that is behind when its source is lost: the statements that lead it to this binlogd.

The host is the address we listen on, or this machine's name where that is every address; user, password and TLS stay
what they are at the replica. Servers before 8.0.23, and MariaDB, know the old spelling alone, and their replicas are
taken to be like them. Without GTIDs the place is one that only the replica knows.
"""

from __future__ import annotations

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
    place = "SOURCE_AUTO_POSITION=1"
    if not publication["executed"]:
        place = "SOURCE_LOG_FILE='<its Relay_Source_Log_File>', SOURCE_LOG_POS=<its Exec_Source_Log_Pos>"
    text = (
        f"STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, {place}; START REPLICA"
    )
    return text if _knows_source(publication["server_version"]) else _old(text)


def _knows_source(version: str) -> bool:
    found = _VERSION.match(version)
    return "MariaDB" not in version and (found is None or tuple(map(int, found.groups())) >= _NEW_SPELLING)


def _old(text: str) -> str:
    """In the words of before 8.0.22 and .23."""
    return (
        text.replace("REPLICATION SOURCE", "MASTER")
        .replace("SOURCE", "MASTER")
        .replace("Source", "Master")
        .replace("REPLICA", "SLAVE")
    )
