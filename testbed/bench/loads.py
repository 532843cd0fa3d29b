"""What a source holds before it is measured.

Nothing is synced while filling: the files are what counts. ``max_binlog_size`` is its default of 1 GiB, so that each
load is one finished file and a newest one with nothing in it; then every byte a client wrote can be compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from testbed.bench.samples import MB
from testbed.bench.stage import Stage
from testbed.cluster import Cluster, sysbench
from testbed.mysqld import Option, Server

ROW = 500
"""Bytes of a bulk row."""
BULK_TRANSACTION_MB = 30
FILL_THREADS = 8
TRANSACTIONS_A_FILE = 3
HOLE_ROW = 1_600
HOLE_TRANSACTION = HOLE_ROW + 300
"""Bytes that a transaction of one such row takes in the binary log."""

FILLING: dict[str, Option] = {
    "sync_binlog": 0,
    "innodb_flush_log_at_trx_commit": 0,
    "innodb_buffer_pool_size": "256M",
    "innodb_redo_log_capacity": "1G",
    "max_binlog_size": "1G",
}

DIGITS = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6"
DIGITS += " UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"


def small(stage: Stage) -> tuple[str, Server]:
    """(name, source) of single-row transactions by sysbench oltp_insert."""
    count = stage.sizes.transactions
    name = f"{count:,} single-row transactions"

    def make(cluster: Cluster) -> Server:
        source = cluster.server("small", options=FILLING)
        sysbench(source, threads=FILL_THREADS, events=count, table_size=1)
        source.execute("FLUSH BINARY LOGS")
        return source

    return name, stage.source(name, make)


def bulk(stage: Stage) -> tuple[str, Server]:
    """(name, source) of rows of 500 bytes in transactions of 30 MB."""
    total = stage.sizes.bulk_mb
    each = min(BULK_TRANSACTION_MB, total)
    name = f"{total} MB in {each} MB transactions"

    def make(cluster: Cluster) -> Server:
        source = cluster.server("bulk", options=FILLING)
        source.execute(
            "CREATE DATABASE bench", "CREATE TABLE bench.bulk (id INT PRIMARY KEY AUTO_INCREMENT, payload VARCHAR(500))"
        )
        for _ in range(round(total / each)):
            insert_rows(source, "bench.bulk", each * MB // ROW)
        source.execute("FLUSH BINARY LOGS")
        return source

    return name, stage.source(name, make)


def insert_rows(source: Server, table: str, rows: int) -> None:
    """One transaction of ``rows`` rows of ROW bytes in ``table``, by one statement."""
    numbers = " CROSS JOIN ".join(f"{DIGITS} n{i}" for i in range(len(str(rows))))
    payload = f"REPEAT('x', {ROW - 8})"  # the rest is the row's lengths, and its id
    source.execute(f"INSERT INTO {table} (payload) SELECT {payload} FROM {numbers} LIMIT {rows}")


def many_files(source: Server, files: int) -> None:
    """Make ``source`` have that many binary logs, the newest included, each with a few transactions in it."""
    source.execute("CREATE DATABASE IF NOT EXISTS bench", "CREATE TABLE IF NOT EXISTS bench.few (id INT)")
    connection = source.connect()
    try:
        with connection.cursor() as cursor:
            while (missing := files - len(source.binary_logs())) > 0:
                for _ in range(missing):
                    for _ in range(TRANSACTIONS_A_FILE):
                        cursor.execute("INSERT INTO bench.few VALUES (1)")
                    cursor.execute("FLUSH BINARY LOGS")
            cursor.execute("INSERT INTO bench.few VALUES (1)")
    finally:
        connection.close()


def one_file(source: Server, megabytes: int) -> None:
    """Make the newest binary log of ``source`` about that large, of small transactions."""
    source.execute(
        "CREATE DATABASE bench",
        f"CREATE TABLE bench.hole (payload VARCHAR({HOLE_ROW})) ENGINE = BLACKHOLE",  # only the binary log is written
        f"""CREATE PROCEDURE bench.fill(n INT) BEGIN
              WHILE n > 0 DO INSERT INTO bench.hole VALUES (REPEAT('x', {HOLE_ROW})); SET n = n - 1; END WHILE;
            END""",
    )
    each = megabytes * MB // HOLE_TRANSACTION // FILL_THREADS
    with ThreadPoolExecutor(FILL_THREADS) as pool:
        for filled in [pool.submit(source.execute, f"CALL bench.fill({each})") for _ in range(FILL_THREADS)]:
            filled.result()


def one_transaction(source: Server, megabytes: int) -> None:
    """Make one transaction of about that size all that ``source`` has logged, in a finished file."""
    source.execute(
        "CREATE DATABASE IF NOT EXISTS bench",
        "DROP TABLE IF EXISTS bench.giant",
        "CREATE TABLE bench.giant (payload VARCHAR(500)) ENGINE = BLACKHOLE",
        "RESET BINARY LOGS AND GTIDS",
    )
    insert_rows(source, "bench.giant", megabytes * MB // ROW)
    source.execute("FLUSH BINARY LOGS")
