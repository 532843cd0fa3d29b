"""What the end-to-end tests share beside their fixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load, checksum_all
from testbed.mysqld import Option, Server

MakeBinlogd = Callable[..., Binlogd]
"""The fixture ``binlogd``."""

NEVER_WITHOUT_ACK: dict[str, Option] = {
    # Minutes, in ms: a source that falls back to asynchronous in between would prove nothing.
    "rpl_semi_sync_source_timeout": 300_000,
}

MANY_FILES: dict[str, Option] = {"max_binlog_size": "256K"}
"""A source that begins a new file every few hundred rows: whatever happens then meets beginnings and ends of files."""


@dataclass(frozen=True, slots=True)
class Site:
    """A source and a binlogd on it."""

    cluster: Cluster
    source: Server
    binlogd: Binlogd


def logged(binlogd: Binlogd, event: str) -> list[dict[str, Any]]:
    """The lines of its log about that event; the last line may still be being written."""
    whole, _, _ = binlogd.log.rpartition("\n")
    return [line for line in map(json.loads, whole.splitlines()) if line["event"] == event]


def semi_sync_status(source: Server) -> dict[str, int]:
    """The numbers among the status variables Rpl_semi_sync_source_*, without that prefix."""
    rows = source.query("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source%'")
    return {name.removeprefix("Rpl_semi_sync_source_"): int(value) for name, value in rows if value.isdigit()}


def wait_for_semi_sync(source: Server) -> None:
    """Wait until ``source`` counts one semi-synchronous replica: from then on its commits wait for it."""
    source.wait_until(lambda: semi_sync_status(source)["clients"] == 1, what="one semi-synchronous replica")


def acknowledged_site(cluster: Cluster, binlogd: MakeBinlogd, **options: Option) -> Site:
    """A semi-synchronous source and a binlogd that acknowledges: no commit returns before binlogd has it.

    ``options`` are lines of the source's my.cnf.
    """
    source = cluster.server("source", semi_sync="source", options={**MANY_FILES, **NEVER_WITHOUT_ACK, **options})
    follower = binlogd(source)
    wait_for_semi_sync(source)
    return Site(cluster, source, follower)


def assert_same_history(source: Server, binlogd: Binlogd) -> None:
    """All that the source, which must be up, has logged is in the store, byte for byte, and nothing else."""
    source.execute("FLUSH BINARY LOGS")
    binlogd.wait_for(source)
    binlogd.assert_identical_to(source)
    assert GtidSet.parse(binlogd.gtid_executed) == GtidSet.parse(source.gtid_executed)


def assert_nothing_lost_or_repeated(load: Load, source: Server, binlogd: Binlogd, *replicas: Server) -> None:
    """What was committed is in the store, byte for byte, and at every replica, row for row.

    The source must be up. A repeated transaction would show in the bytes or stop a replica (duplicate key), a lost one
    in the journal or in the checksums.
    """
    assert load.journal
    assert load.missing_at(source) == []
    assert_same_history(source, binlogd)
    for replica in replicas:
        replica.wait_for_gtid(source.gtid_executed)
        assert load.missing_at(replica) == []
        assert checksum_all(replica) == checksum_all(source)
