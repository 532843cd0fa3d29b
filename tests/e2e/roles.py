"""Servers that change their roles: a source, and replicas of it that may become one.

A candidate waits for acknowledgements only while it is the source: before that its applier would wait for us, who do
not receive from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from binlogd.store.layout import DataFolder
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from testbed.mysqld import Option, Server
from testbed.proxy import Proxy
from tests.e2e.support import MANY_FILES, NEVER_WITHOUT_ACK

SOURCE: Mapping[str, Option] = {**MANY_FILES, **NEVER_WITHOUT_ACK}

STANDBY: Mapping[str, Option] = {"super_read_only": True, "rpl_semi_sync_source_enabled": False}
"""As options: a candidate that is started as a replica."""


def pair(cluster: Cluster) -> tuple[Server, Server]:
    """A source, and a replica of it that may become one."""
    first = cluster.server("first", semi_sync="source", options=SOURCE)
    second = cluster.replica(first, "second", semi_sync="source", options=SOURCE)
    demote(second)
    return first, second


def hosts(*servers: Server | tuple[str, int]) -> dict[str, Any]:
    """The setting that names these as candidates."""
    addresses = [(each.host, each.port) if isinstance(each, Server) else each for each in servers]
    return {"source.hosts": [f"{host}:{port}" for host, port in addresses]}


def demote(server: Server) -> None:
    """What a replica is to be."""
    server.execute("SET GLOBAL super_read_only = ON", "SET GLOBAL rpl_semi_sync_source_enabled = OFF")


def detach(server: Server) -> None:
    """It is nobody's replica any more."""
    server.stop_replica()
    server.reset_replica()


def promote(server: Server) -> None:
    """What a source is to be."""
    detach(server)
    server.execute("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    server.execute("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")


def attach(server: Server, binlogd: Binlogd) -> None:
    """It replicates from binlogd, by GTID."""
    server.stop_replica()
    server.follow(*binlogd.address, binlogd.user, binlogd.password)


def streams_from(binlogd: Binlogd, server: Server) -> bool:
    source = binlogd.status()["source"]
    return (source["state"], source["server_uuid"]) == ("streaming", server.server_uuid)


def follows(binlogd: Binlogd, server: Server) -> None:
    """Wait until it receives from ``server``."""
    binlogd.wait_until(lambda: streams_from(binlogd, server), f"a stream from {server!r}")


def alarmed(binlogd: Binlogd, code: str) -> dict[str, Any]:
    """The alarm of that code, once it is there."""

    def found() -> dict[str, Any] | None:
        return next((alarm for alarm in binlogd.status()["alarms"] if alarm["code"] == code), None)

    return dict(binlogd.wait_until(found, f"the alarm {code}"))


def timelines(binlogd: Binlogd) -> list[tuple[str, list[str]]]:
    """Of each timeline, oldest first, its source's server_uuid and its files."""
    return [(timeline.source_uuid, timeline.binlogs()) for timeline in DataFolder(binlogd.data).timelines()]


def wait_for_looks(proxy: Proxy, looks: int) -> None:
    """Wait until that many connections more were made through it, and have ended."""
    deadline = time.monotonic() + 60
    seen, open_before = 0, 0
    while seen < looks:
        open_now = proxy.connections
        seen += open_now < open_before
        open_before = open_now
        assert time.monotonic() < deadline, f"nobody asks {proxy.target}"
        time.sleep(0.001)
