"""With which file a source would begin, asked at real ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceDiverged
from binlogd.receiver.candidates import Candidates
from binlogd.receiver.first_file import first_file
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Orders
from binlogd.receiver.plan import StoreFacts
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.store.layout import Identity
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server

pytestmark = pytest.mark.servers

MYSELF = Identity("aaaaaaaa-0000-4000-8000-000000000000", 77)


@pytest.fixture
def wake() -> Iterator[Wake]:
    wake = Wake()
    yield wake
    wake.set()


def options(server: Server) -> SourceOptions:
    return SourceOptions(
        server.host, server.port, REPLICATION_USER, Secret(REPLICATION_PASSWORD), semi_sync=False, tls=Tls.DISABLED
    )


def purge(server: Server) -> None:
    """All but the newest file, which builds on what was in the others."""
    server.execute("CREATE DATABASE IF NOT EXISTS d", "FLUSH BINARY LOGS")

    def alone() -> bool:
        # In use for a moment yet: by a dump that was broken off, or by MariaDB's own checkpoint.
        server.execute(f"PURGE BINARY LOGS TO '{server.binary_logs()[-1].name}'")
        return len(server.binary_logs()) == 1

    server.wait_until(alone, what="one file")


def test_the_oldest_file(cluster: Cluster, wake: Wake) -> None:
    source = cluster.server()
    assert first_file(options(source), MYSELF, wake, None) == ("mysql-bin.000001", GtidSet())
    purge(source)
    assert first_file(options(source), MYSELF, wake, None) == (
        "mysql-bin.000002",
        GtidSet.parse(source.gtid_executed),
    )


def test_the_oldest_file_of_a_source_without_gtids(cluster: Cluster, mariadb: Distribution, wake: Wake) -> None:
    source = cluster.server(distribution=mariadb)
    purge(source)
    assert first_file(options(source), MYSELF, wake, None) == ("mysql-bin.000002", GtidSet())


def test_a_file_that_is_purged_between_the_answer_and_the_dump_is_no_gap_that_nobody_sees(
    cluster: Cluster, wake: Wake
) -> None:
    """A new history is to be kept behind another one, from its oldest file on, and that file goes just then."""
    source = cluster.server()
    store = StoreFacts(source.server_uuid, "mysql-bin.000009", 500, held=GtidSet.parse(source.gtid_executed))
    orders = replace(Orders((options(source),)), keep_both=True)
    candidates = Candidates(MYSELF, wake, frozenset)
    chosen = candidates.choose(orders, lambda: store, SourceDiverged("it begins otherwise"))
    try:
        purge(source)
        chosen.session.dump(chosen.step.start)  # type: ignore[union-attr]
        answer = chosen.session.link.receive()
        assert b"Could not find first log file name in binary log index file" in answer
    finally:
        chosen.session.close()
