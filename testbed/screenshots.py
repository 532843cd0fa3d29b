"""The pictures of the status page in the README: ``make screenshots``.

A source, binlogd and three replicas, all real, one of which hangs on a slow line; the source was lost before and
another took over, so that there are two timelines. Then some minutes of load, for the plots, and three pictures.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import click
from playwright.sync_api import Browser

from testbed import chromium
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster, Load
from testbed.mysqld import Option, Server
from testbed.proxy import Proxy

ColorScheme = Literal["light", "dark"]

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PICTURES: tuple[tuple[str, ColorScheme, int, int], ...] = (
    ("status-light", "light", 1180, 1240),
    ("status-dark", "dark", 1180, 1240),
    ("status-phone", "light", 360, 1000),
)
FILE_SIZE = "256K"  # max_binlog_size: some tens of files
ROW = 200  # bytes
SLOW_PIECE, SLOW_PAUSE = 16384, 0.1  # 160 kB/s; much less, and it is dropped as one that takes nothing
BEHIND = 1 * 1024 * 1024  # bytes that the slow replica must be behind


def _source(cluster: Cluster, name: str, *, waits: bool) -> Server:
    options: dict[str, Option] = {
        "max_binlog_size": FILE_SIZE,
        "report_host": name,
        "rpl_semi_sync_source_enabled": waits,
    }
    return cluster.server(name, semi_sync="source", options=options)


def _succession(cluster: Cluster, binlogd: Binlogd, first: Server, second: Server) -> None:
    """``first`` is lost, and ``second`` has all that it had and takes over."""
    with Load(first, threads=4, payload_bytes=ROW, limit=1500) as load:
        load.join()
    binlogd.wait_for(first)
    second.wait_for_gtid(first.gtid_executed)
    first.kill()
    second.execute(
        "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"
    )
    second.execute("SET GLOBAL rpl_semi_sync_source_enabled = ON")
    binlogd.wait_streaming()


def _picture(browser: Browser, binlogd: Binlogd, name: str, scheme: ColorScheme, width: int, height: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB")
    page.goto(f"http://{binlogd.host}:{binlogd.http_port}/")
    page.wait_for_selector("#state[data-state=ok]")
    page.wait_for_selector(".cell")
    page.wait_for_selector(".node .word[data-state=warn], .node .word[data-state=bad]")
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()


@click.command()
@click.option("--minutes", default=3.0, show_default=True, help="How long the load runs before the pictures.")
def main(minutes: float) -> None:
    """Make the pictures anew, from a run of some minutes."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="binlogd-screenshots-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        browser = stack.enter_context(chromium.browser())
        cluster = stack.enter_context(Cluster(folder))
        first = _source(cluster, "db1", waits=True)
        second = _source(cluster, "db2", waits=False)
        second.follow(first.host, first.port, "repl", "replica-secret", auto_position=True)
        second.execute("SET GLOBAL super_read_only = ON")
        hosts = [f"{server.host}:{server.port}" for server in (first, second)]
        binlogd = Binlogd(folder / "binlogd", first, settings={"source.hosts": hosts, "source.follow": "writable"})
        stack.callback(binlogd.close)
        binlogd.start().wait_streaming()
        _succession(cluster, binlogd, first, second)
        line = stack.enter_context(Proxy(*binlogd.address))
        for name, address in (("db3", binlogd.address), ("db4", binlogd.address), ("reports", (line.host, line.port))):
            replica = cluster.replica(address, name, options={"report_host": name})
            replica.wait_for_gtid(second.gtid_executed)
        line.pace(SLOW_PIECE, SLOW_PAUSE)
        until = time.monotonic() + minutes * 60
        with Load(second, threads=2, payload_bytes=ROW):
            while time.monotonic() < until:
                time.sleep(min(15.0, max(until - time.monotonic(), 0)))  # the load as such: bursts and pauses
                with Load(second, schema="burst", threads=4, payload_bytes=20 * ROW, limit=300) as burst:
                    burst.join()
            binlogd.wait_until(
                lambda: max(replica["lag_bytes"] for replica in binlogd.status()["replicas"]) > BEHIND, "a slow replica"
            )
            for picture in PICTURES:
                _picture(browser, binlogd, *picture)


if __name__ == "__main__":
    main()
