"""The old spelling (MASTER, SLAVE) beside the servers that speak it: MySQL 5.6 and MariaDB.

A binlogd shows itself as its source's version, and whoever reads rows by their columns' numbers, as scripts do, gets
the columns that this version has. Lengths are MySQL 9.7's, which are one wider for numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from binlogd.sender.columns import collation_id, definition
from binlogd.sender.sql import ColumnSpec, EventListing, ResultSet, Role, advertised_version
from binlogd.wire.results import Column
from testbed.cluster import Cluster
from testbed.distributions import Distribution

from .support import Client, definitions, some_facts

pytestmark = pytest.mark.servers

COLUMNS_OF = [
    "SHOW MASTER LOGS",
    "SHOW BINARY LOGS",
    "SHOW MASTER STATUS",
    "SHOW BINLOG EVENTS LIMIT 1",
    "SHOW SLAVE HOSTS",
    "SHOW WARNINGS",
    "SHOW COUNT(*) WARNINGS",
    "SHOW DATABASES",
    "SHOW STATUS LIKE 'Uptime'",
    "SHOW VARIABLES LIKE 'port'",
    "SELECT 'a', 1.5, DATABASE(), UNIX_TIMESTAMP()",
]
OF_MYSQL = [*COLUMNS_OF, "SHOW SLAVE STATUS", "SHOW PROCESSLIST", "SHOW FULL PROCESSLIST", "SELECT 1, NOW()"]

Columns = Callable[[str], list[Column]]


def _columns(folder: Path, distribution: Distribution) -> Iterator[tuple[Columns, Columns]]:
    """Of a statement, the columns of a server and those of a binlogd that has its version."""
    with Cluster(folder, distribution) as cluster, cluster.server().connect(conv={}) as connection:

        def theirs(statement: str) -> list[Column]:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return definitions(cursor)

        with connection.cursor() as cursor:
            cursor.execute("SELECT @@version")
            ((version,),) = cursor.fetchall()
        facts = some_facts(version=advertised_version(version))
        client = Client(Role.ADMIN, facts)
        collation = collation_id("", facts.version)

        def ours(statement: str) -> list[Column]:
            outcome = client.answered(statement)
            assert isinstance(outcome, EventListing | ResultSet)
            specs: tuple[ColumnSpec, ...] = outcome.columns
            return [definition(spec, collation) for spec in specs]

        yield ours, theirs


@pytest.fixture(scope="module")
def of_mysql_56(tmp_path_factory: pytest.TempPathFactory, mysql_56: Distribution) -> Iterator[tuple[Columns, Columns]]:
    yield from _columns(tmp_path_factory.mktemp("old"), mysql_56)


@pytest.fixture(scope="module", params=["mariadb_10_11", "mariadb"])
def of_mariadb(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Columns, Columns]]:
    yield from _columns(tmp_path_factory.mktemp("old"), request.getfixturevalue(request.param))


def _shape(column: Column) -> Any:
    return operator.attrgetter("name", "type", "charset", "decimals")(column)


@pytest.mark.parametrize("statement", OF_MYSQL)
def test_mysql_56(of_mysql_56: tuple[Columns, Columns], statement: str) -> None:
    ours, theirs = (of(statement) for of in of_mysql_56)
    if statement == "SHOW FULL PROCESSLIST":  # of max_allowed_packet, which is larger here
        ours.pop(), theirs.pop()
    assert [_shape(column) for column in ours] == [_shape(column) for column in theirs]
    nullable = [column.flags & 1 for column in ours]
    assert nullable == [column.flags & 1 for column in theirs]


@pytest.mark.parametrize("statement", COLUMNS_OF)
def test_mariadb(of_mariadb: tuple[Columns, Columns], statement: str) -> None:
    ours, theirs = (of(statement) for of in of_mariadb)
    assert [(column.name, column.type) for column in ours] == [(column.name, column.type) for column in theirs]


@pytest.mark.parametrize(
    ("old", "new"), [("SHOW MASTER STATUS", "SHOW BINLOG STATUS"), ("SHOW SLAVE HOSTS", "SHOW REPLICA HOSTS")]
)
def test_the_new_words_of_mariadb(of_mariadb: tuple[Columns, Columns], old: str, new: str) -> None:
    for of in of_mariadb:
        assert of(new) == of(old)
