"""Fixtures over the test bed: real servers on free loopback ports, each test's own, gone when it ends.

Preparing the cache (a download and an initialisation, once per machine) speaks to the terminal through
pytest's capture. When a test fails, the error logs of its servers are added to its report.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from testbed import distributions
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.packages import MARIADB_10_11, MARIADB_11_8, Unsupported
from testbed.proxy import Proxy

# How long an example takes says more about the machine than about the code.
settings.register_profile("binlogd", deadline=None)
settings.load_profile("binlogd")

_CLUSTER = pytest.StashKey[Cluster]()


def _prepared(request: pytest.FixtureRequest, find: Callable[[], Distribution]) -> Distribution:
    """Find a distribution and make its template while its progress lines are seen."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with ExitStack() as stack:
        if capture is not None:
            stack.enter_context(capture.global_and_fixture_disabled())
        distribution = find()
        distribution.template()
    return distribution


@pytest.fixture(scope="session")
def mysql(request: pytest.FixtureRequest) -> Distribution:
    """The MySQL under test: BINLOGD_MYSQLD, PATH or Debian's packages."""
    return _prepared(request, distributions.mysql)


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> Distribution:
    """MariaDB 11.8."""
    return _prepared(request, lambda: distributions.mariadb(MARIADB_11_8))


@pytest.fixture(scope="session")
def mariadb_10_11(request: pytest.FixtureRequest) -> Distribution:
    """MariaDB 10.11."""
    return _prepared(request, lambda: distributions.mariadb(MARIADB_10_11))


@pytest.fixture(scope="session")
def mysql_56(request: pytest.FixtureRequest) -> Distribution:
    """MySQL 5.6: no semi-sync plugins, no client programs. Skips where there is no npm or no x86-64."""
    try:
        return _prepared(request, distributions.mysql_56)
    except Unsupported as error:
        pytest.skip(str(error))


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path, mysql: Distribution) -> Iterator[Cluster]:
    """An empty cluster whose default is MySQL; ``cluster.server()`` and ``cluster.replica()`` fill it."""
    with Cluster(tmp_path, mysql) as cluster:
        request.node.stash[_CLUSTER] = cluster
        yield cluster


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Makes proxies: ``proxy(server.host, server.port, record=False)``; closed when the test ends."""
    with ExitStack() as stack:

        def make(host: str, port: int, *, record: bool = False) -> Proxy:
            return stack.enter_context(Proxy(host, port, record=record))

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (cluster := item.stash.get(_CLUSTER, None)) is not None:
        for server in cluster.servers.values():
            report.sections.append((f"error log of {server!r}", server.error_log_tail()))
    return report
