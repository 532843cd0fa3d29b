"""What the listener says of itself: the values behind system variables and functions, as one frozen snapshot.

The caller makes it, from the source's settings where a value must be the source's (a replica decides by
``binlog_checksum``, ``gtid_mode`` and ``version``), from binlogd's own where it must not be (``server_id``
and ``server_uuid``: with the source's, a demoted source could not attach). What costs something to know is a
function, called only when a statement asks for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})")


def advertised_version(source_version: str) -> str:
    """The version we show: the source's, so that clients choose its dialect, with our name behind it."""
    return f"{source_version}-binlogd"


def version_number(version: str) -> int:
    """MySQL's number of a version: 90704 for ``9.7.4-binlogd``; 0 when there is none in it."""
    found = _VERSION.match(version)
    if found is None:
        return 0
    major, minor, patch = map(int, found.groups())
    return major * 10_000 + minor * 100 + patch


def is_mariadb(version: str) -> bool:
    """Whether a version is one of MariaDB's."""
    return "MariaDB" in version


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The snapshot. Times are in seconds, sizes in bytes. None means that the variable is not known here."""

    version: str  # as advertised_version gives it
    server_id: int
    server_uuid: str
    hostname: str
    port: int
    gtid_executed: Callable[[], str]  # what is published
    gtid_purged: Callable[[], str]  # what was removed
    binlogd_timelines: Callable[[], str] = str  # "0001-<source uuid>,…", those that have files, oldest first
    version_comment: str = "binlogd"

    # The replication settings, the source's.
    binlog_checksum: str = "CRC32"
    gtid_mode: str = "ON"
    enforce_gtid_consistency: str = "ON"
    binlog_format: str = "ROW"
    binlog_row_image: str = "FULL"
    binlog_row_metadata: str | None = "MINIMAL"
    log_bin_basename: str = ""
    log_bin_index: str = ""
    datadir: str = ""

    # The SQL settings, the source's, as far as a client may ask.
    sql_mode: str = (
        "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
        "NO_ENGINE_SUBSTITUTION"
    )
    character_set_server: str = "utf8mb4"
    collation_server: str = "utf8mb4_0900_ai_ci"
    lower_case_table_names: int = 0
    time_zone: str = "SYSTEM"
    system_time_zone: str = "UTC"
    auto_increment_increment: int = 1
    auto_increment_offset: int = 1

    # The listener's own.
    max_connections: int = 256
    max_allowed_packet: int = 64 * 1024 * 1024
    net_read_timeout: int = 30
    net_write_timeout: int = 60
    wait_timeout: int = 28_800
    interactive_timeout: int = 28_800
    tls: bool = True
    require_tls: bool = False
    default_authentication_plugin: str | None = None
    version_compile_os: str = "Linux"
    version_compile_machine: str = "x86_64"
    now: Callable[[], float] = time.time  # seconds since 1970
