"""A source that comes back with another past: seen before anything is stored, named exactly, and nothing overwritten.

The source is stopped and its data folder is kept; then something else stands in its place, of the same server_uuid: an
older copy of it, one in which other transactions were committed since, one that was reset, one whose file somebody cut.
In the end the old folder is put back, and binlogd goes on by itself.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from binlogd.binlog.gtid import GtidSet
from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from testbed.mysqld import Server
from tests.e2e.conftest import binlogd  # noqa: F401
from tests.e2e.support import MakeBinlogd, assert_same_history, semi_sync_status
from tests.e2e_errors.support import written

pytestmark = pytest.mark.servers

ROWS = 5  # transactions that the source had committed behind the copy, and we hold
SHORT = 200  # ms that a source waits for an acknowledgement which must not come


@dataclass(frozen=True, slots=True)
class Site:
    """A source, which is down, and a binlogd that is up and holds all that it had logged: ``file`` up to ``position``.

    ``old`` is the source's data folder as it was before the last ROWS transactions, ``full`` with all.
    """

    source: Server
    binlogd: Binlogd
    old: Path
    full: Path
    file: str
    position: int
    held: GtidSet
    lost: GtidSet
    before: dict[str, str]

    def put(self, folder: Path) -> None:
        """Make a copy of ``folder`` the source's data; it is down."""
        shutil.rmtree(self.source.data)
        shutil.copytree(folder, self.source.data)

    def asked_again(self) -> None:
        """Have the source asked now: by itself binlogd asks a source that refused it once a minute."""
        self.binlogd.kill_child("receive")
        self.binlogd.wait_answering()

    def alarm(self, code: str) -> dict[str, Any]:
        """Wait for that alarm, and look at all that must be so with it."""
        status = self.binlogd.wait_until(lambda: self._failed(code), f"alarm {code}")
        (alarm,) = [alarm for alarm in status["alarms"] if alarm["code"] == code]
        assert alarm["severity"] == "critical"
        assert alarm["hint"]
        assert written(self.binlogd.data) == self.before, "the store was touched"
        assert self.binlogd.query("SELECT @@gtid_executed") == [(str(self.held),)], "serving goes on"
        return dict(alarm)

    def _failed(self, code: str) -> dict[str, Any] | None:
        status = self.binlogd.status()
        found = status["source"]["state"] == "failed" and code in [alarm["code"] for alarm in status["alarms"]]
        return dict(status) if found else None

    def assert_no_ack(self) -> None:
        """The source, which is up, was not told that anything of its history is durable here."""
        self.source.execute("INSERT INTO d.t (b) VALUES ('nobody has this')")
        assert semi_sync_status(self.source)["yes_tx"] == 0
        assert self.binlogd.status()["source"]["acks_sent"] == 0

    def go_on(self) -> None:
        """The old source is back, with all it had: everything goes on as if nothing had been."""
        if self.source.is_running:
            self.source.stop()
        self.put(self.full)
        self.source.start()
        self.asked_again()
        self.binlogd.wait_streaming()
        self.binlogd.wait_until(lambda: self.binlogd.status()["alarms"] == [], "end of the alarm")
        self.source.execute("INSERT INTO d.t (b) VALUES ('after all')")
        assert_same_history(self.source, self.binlogd)
        kept = written(self.binlogd.data)
        growing = (self.file, f"{self.file}.marks", ".index")
        finished = {path: digest for path, digest in self.before.items() if not path.endswith(growing)}
        assert finished.items() <= kept.items()


@pytest.fixture
def site(cluster: Cluster, binlogd: MakeBinlogd, tmp_path: Path) -> Site:  # noqa: F811
    source = cluster.server(semi_sync="source", options={"rpl_semi_sync_source_timeout": SHORT})
    follower = binlogd(source)
    source.execute(
        "CREATE DATABASE d",
        "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200))",
        "INSERT INTO d.t (b) VALUES ('one')",
        "FLUSH BINARY LOGS",
        "INSERT INTO d.t (b) VALUES ('two')",
    )
    follower.wait_for(source)
    had = GtidSet.parse(source.gtid_executed)
    old, full = tmp_path / "old", tmp_path / "full"
    source.kill()  # rather than stop it: a start after that begins no file that the full one has not
    shutil.copytree(source.data, old)
    source.start()
    follower.wait_streaming()
    file, _ = source.position()
    for number in range(ROWS):
        source.execute(f"INSERT INTO d.t (b) VALUES ('three {number}')")
    follower.wait_for(source)
    held = GtidSet.parse(source.gtid_executed)
    file, position = source.position()
    source.kill()
    shutil.copytree(source.data, full)
    follower.wait_until(lambda: follower.status()["source"]["state"] == "backoff", "loss of the source")
    return Site(source, follower, old, full, file, position, held, held - had, written(follower.data))


def names(text: str) -> list[GtidSet]:
    """The GTID sets in a message."""
    found = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?::[\d:-]+)", text)
    return [GtidSet.parse(one.rstrip(":-")) for one in found]


def assert_names(alarm: dict[str, Any], gtids: GtidSet, *words: str) -> None:
    assert gtids in names(alarm["message"]), f"{gtids} is not named: {alarm['message']}"
    for word in words:
        assert word in alarm["message"], f"{word} is not named: {alarm['message']}"


# --- the same past ---


@pytest.mark.slow
def test_stopped_killed_and_started_again(cluster: Cluster, binlogd: MakeBinlogd) -> None:  # noqa: F811
    """The same history goes on, whatever file it goes on in."""
    source = cluster.server(semi_sync="source", options={"rpl_semi_sync_source_timeout": 300_000})
    follower = binlogd(source)
    source.execute("CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(200))")
    for end in (source.stop, source.kill, source.stop):
        end()
        follower.wait_until(lambda: follower.status()["source"]["state"] == "backoff", "loss of the source")
        assert follower.query("SELECT @@server_id")
        source.start()
        follower.wait_streaming()
        source.execute("INSERT INTO d.t (b) VALUES ('more')")
    assert follower.status()["alarms"] == []
    assert_same_history(source, follower)


# --- an older past ---


@pytest.mark.slow
def test_an_older_copy(site: Site) -> None:
    """(a) The source lacks transactions of its newest file, and has begun another one behind it: we hold more."""
    site.put(site.old)
    site.source.start()
    site.asked_again()
    alarm = site.alarm("source_diverged")
    assert_names(alarm, site.lost, site.file)
    site.assert_no_ack()
    site.go_on()


@pytest.mark.slow
@pytest.mark.parametrize(
    "length",
    ["shorter", "as long", "longer"],
)
def test_other_transactions_under_the_same_gtids(site: Site, length: str) -> None:
    """(b) The old copy committed others: the same file has other bytes where ours are."""
    site.put(site.old)
    site.source.start(rpl_semi_sync_source_enabled=False)
    rows = {"shorter": ROWS - 2, "as long": ROWS, "longer": 4 * ROWS}[length]
    for number in range(rows):
        site.source.execute(f"INSERT INTO d.t (b) VALUES ('other {number % 10}')")
    assert site.source.position()[0] == site.file
    assert {"shorter": -1, "as long": 0, "longer": 1}[length] == _sign(site.source.position()[1] - site.position)
    site.source.restart(rpl_semi_sync_source_enabled=True)
    site.asked_again()
    alarm = site.alarm("source_diverged")
    assert site.file in alarm["message"]
    if length == "shorter":
        assert_names(alarm, site.held - GtidSet.parse(site.source.gtid_executed))
    site.assert_no_ack()
    site.go_on()


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 50], ids=["empty", "longer than ours"])
def test_a_reset(site: Site, rows: int) -> None:
    """(c, e) The same names begin again, with other contents, and with a smaller GTID set."""
    site.source.start(rpl_semi_sync_source_enabled=False)
    site.source.execute("RESET BINARY LOGS AND GTIDS")
    while int(site.file[-6:]) > int(site.source.position()[0][-6:]) and rows:
        site.source.execute("FLUSH BINARY LOGS")
    for number in range(rows):
        site.source.execute(f"INSERT INTO d.t (b) VALUES ('other {number}')")
    missing = site.held - GtidSet.parse(site.source.gtid_executed)
    site.source.restart(rpl_semi_sync_source_enabled=True)
    site.asked_again()
    alarm = site.alarm("source_diverged")
    if missing:
        assert_names(alarm, missing)
    assert site.file in alarm["message"]
    site.assert_no_ack()
    site.go_on()


@pytest.mark.slow
def test_a_file_that_was_cut(site: Site) -> None:
    """Somebody cut the newest file at the end of a transaction, as a crash without sync_binlog does."""
    site.put(site.full)
    cut = transaction_end(site, ROWS - 2)
    with (site.source.data / site.file).open("r+b") as file:
        file.truncate(cut)
    site.source.start()
    site.asked_again()
    alarm = site.alarm("source_diverged")
    assert site.file in alarm["message"]
    assert str(site.position) in alarm["message"]
    site.assert_no_ack()
    site.go_on()


def test_other_bytes_in_the_same_file(site: Site) -> None:
    """The same FORMAT_DESCRIPTION, the same length, sound checksums: only the rows are others."""
    site.put(site.full)
    path = site.source.data / site.file
    data = bytearray(path.read_bytes())
    at, changed = 4, 0
    while at < len(data):
        end = at + int.from_bytes(data[at + 9 : at + 13], "little")
        if b"three" in data[at:end]:
            data[at : end - 4] = data[at : end - 4].replace(b"three", b"other")
            data[end - 4 : end] = crc32(data[at : end - 4]).to_bytes(4, "little")
            changed += 1
        at = end
    assert changed == ROWS
    path.write_bytes(data)
    site.source.start()
    site.asked_again()
    alarm = site.alarm("source_diverged")
    assert site.file in alarm["message"]
    site.assert_no_ack()
    site.go_on()


def transaction_end(site: Site, transactions: int) -> int:
    """The offset behind so many of the last ROWS transactions in the newest file."""
    text = site.binlogd.run(
        site.source.distribution, "mysqlbinlog", "--read-from-remote-server", site.file, "--base64-output=decode-rows"
    )
    ends = [int(end) for end in re.findall(r"end_log_pos (\d+).*\tXid = ", text)]
    return ends[-ROWS:][transactions - 1]


# --- a gap ---


@pytest.mark.slow
def test_files_purged_while_we_were_away(site: Site) -> None:
    """(d) The source went on, and purged what we have not got: nothing behind the gap is stored."""
    assert site.binlogd.stop() == 0
    site.source.start(rpl_semi_sync_source_enabled=False)
    site.source.execute(
        "INSERT INTO d.t (b) VALUES ('gone')",
        "FLUSH BINARY LOGS",
        "INSERT INTO d.t (b) VALUES ('gone too')",
        "FLUSH BINARY LOGS",
        "INSERT INTO d.t (b) VALUES ('there')",
    )
    site.source.execute(f"PURGE BINARY LOGS TO '{site.source.position()[0]}'")
    purged = GtidSet.parse(str(site.source.variables["gtid_purged"]).replace("\n", ""))
    site.source.restart(rpl_semi_sync_source_enabled=True)
    site.binlogd.start()
    alarm = site.alarm("source_gap")
    assert_names(alarm, purged - site.held, site.file)
    site.assert_no_ack()
    site.go_on()


# --- by itself ---


@pytest.mark.slow
def test_it_goes_on_without_being_told(site: Site) -> None:
    """Nobody restarts anything at our side: a source that is right again is found within the minute."""
    site.put(site.old)
    site.source.start()
    site.alarm("source_diverged")
    site.source.stop()
    site.put(site.full)
    site.source.start()
    site.binlogd.wait_until(lambda: site.binlogd.status()["alarms"] == [], "end of the alarm", 120)
    site.source.execute("INSERT INTO d.t (b) VALUES ('after all')")
    assert_same_history(site.source, site.binlogd)
