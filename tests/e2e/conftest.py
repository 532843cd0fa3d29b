"""Fixtures over whole processes of binlogd, gone when the test or the module ends.

A test fails when a binlogd of its own wrote a traceback: whatever goes wrong is told in one line, and an exception
that nobody expected is a bug even where a restart mended what it did.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from testbed.binlogd import Binlogd, Mode, Setting
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.e2e.support import NEVER_WITHOUT_ACK, MakeBinlogd, Site, wait_for_semi_sync

_BINLOGDS = pytest.StashKey[list[Binlogd]]()


def _assert_no_traceback(binlogd: Binlogd) -> None:
    assert "Traceback" not in binlogd.log, f"{binlogd!r} wrote a traceback:\n{binlogd.log_tail()}"


@pytest.fixture
def binlogd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeBinlogd]:
    """Makes binlogds: ``binlogd(source, mode="run", start=True, **{"source.start": "current"})``.

    They are streaming, unless made without ``start``, or as ``serve``.
    """
    made: list[Binlogd] = []
    request.node.stash[_BINLOGDS] = made

    def make(
        source: Server | tuple[str, int],
        *,
        mode: Mode = "run",
        name: str = "",
        start: bool = True,
        **settings: Setting,
    ) -> Binlogd:
        name = name or f"binlogd{len(made) or ''}"
        binlogd = Binlogd(tmp_path / name, source, mode=mode, name=name, settings=settings)
        made.append(binlogd)
        if start:
            binlogd.start()
            if mode != "serve":
                binlogd.wait_streaming()
        return binlogd

    yield make
    for one in made:
        one.close()
    for one in made:
        _assert_no_traceback(one)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Site]:
    """A source and a binlogd for all tests of a module, each of which begins and ends with files of its own."""
    folder = tmp_path_factory.mktemp("site")
    with Cluster(folder, mysql) as cluster:
        options = {"max_allowed_packet": "64M", "innodb_redo_log_capacity": "512M", **NEVER_WITHOUT_ACK}
        source = cluster.server("source", semi_sync="source", options=options)
        binlogd = Binlogd(folder / "binlogd", source).start()
        try:
            wait_for_semi_sync(source)
            source.execute("CREATE DATABASE d")
            yield Site(cluster, source, binlogd)
        finally:
            binlogd.close()
        _assert_no_traceback(binlogd)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        logged: list[Binlogd | Server] = [*item.stash.get(_BINLOGDS, [])]
        site = getattr(item, "funcargs", {}).get("site")
        if isinstance(site, Site):
            logged += [site.binlogd, *site.cluster.servers.values()]
        for one in logged:
            text = one.log_tail() if isinstance(one, Binlogd) else one.error_log_tail()
            report.sections.append((f"log of {one!r}", text))
    return report
