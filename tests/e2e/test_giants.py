"""The largest there is: a file past 4 GiB, where positions no longer fit four bytes, and an event of 1 GiB."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed.binlogd import first_difference
from testbed.cluster import Cluster
from tests.e2e.support import NEVER_WITHOUT_ACK, MakeBinlogd, wait_for_semi_sync

pytestmark = [pytest.mark.servers, pytest.mark.slow]

FOUR_GIB = 2**32
MEMORY = 64 * 1024 * 1024  # the design's limit for the receiver, whatever the transaction
ROTATE_EVENT = 47  # bytes: header, position, mysql-bin.000002, CRC


def test_a_file_past_four_gib_and_an_event_of_one_gib(cluster: Cluster, binlogd: MakeBinlogd, tmp_path: Path) -> None:
    source = cluster.server(
        semi_sync="source",
        options={
            "max_allowed_packet": "1G",
            "max_binlog_cache_size": "8G",
            "binlog_row_image": "MINIMAL",
            "innodb_redo_log_capacity": "4G",
            **NEVER_WITHOUT_ACK,
        },
    )
    keeper = binlogd(source)
    wait_for_semi_sync(source)
    inserts = ["INSERT INTO d.t (c) VALUES (REPEAT('x', 100000000))"] * 44
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, c LONGBLOB)")
    source.execute("BEGIN", *inserts, "COMMIT")
    source.execute("INSERT INTO d.t (c) VALUES (REPEAT('y', 1073740000))")
    source.execute("FLUSH BINARY LOGS")
    keeper.wait_for(source, timeout=300)
    big, giant = source.binary_logs()[:2]
    assert big.size > FOUR_GIB
    keeper.assert_identical_to(source)
    assert keeper.peak_memory("receive") < MEMORY

    # Served: mysqlbinlog gets the same bytes.
    raw = tmp_path / "raw"
    raw.mkdir()
    keeper.run(
        source.distribution,
        "mysqlbinlog",
        "--raw",
        "--read-from-remote-server",
        f"--result-file={raw}/",
        big.name,
        giant.name,
    )
    for log in (big, giant):
        assert first_difference(raw / log.name, source.binlog_dir / log.name) is None
        (raw / log.name).unlink()
    assert keeper.peak_memory("serve") < MEMORY + 1024 * 1024

    # Resumed behind 4 GiB, where COM_BINLOG_DUMP cannot point: as if the machine had died within the ROTATE event.
    keeper.stop()
    path = keeper.file(big.name)
    for name in keeper.stored()[1:]:
        keeper.file(name).unlink()
    path.with_name(path.name + ".idx").unlink()
    os.truncate(path, big.size - ROTATE_EVENT // 2)
    keeper.start()
    keeper.wait_streaming()
    keeper.wait_for(source, timeout=300)
    assert keeper.status()["source"]["reconnects"] == 0
    keeper.assert_identical_to(source)
