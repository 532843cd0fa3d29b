"""A real scrape: a source, a binlogd and a replica; every metric that contrib/ names is really there, and counts."""

from __future__ import annotations

import json
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_text

from binlogd.web.metrics import METRICS
from testbed.binlogd import Binlogd
from tests.contrib.support import DASHBOARD, RULES, named, parse_openmetrics, promtool
from tests.e2e.support import Site

pytestmark = pytest.mark.servers


def scrape(binlogd: Binlogd, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{binlogd.http_port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def values(text: str) -> dict[str, float]:
    """Each sample's value, those of one name added up."""
    found: dict[str, float] = {}
    for family in parse_text(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_metrics_of_a_chain_that_works(site: Site) -> None:
    source, binlogd = site.source, site.binlogd
    source.execute("CREATE TABLE d.m (id INT PRIMARY KEY AUTO_INCREMENT, v BLOB)")
    replica = site.cluster.replica(binlogd.address)
    binlogd.wait_for(source)
    before = values(scrape(binlogd))
    for _ in range(20):
        source.execute("INSERT INTO d.m (v) VALUES (REPEAT('x', 1000))")
    source.execute("FLUSH BINARY LOGS")
    replica.wait_for_gtid(source.gtid_executed)
    binlogd.wait_for(source)
    file, position = binlogd.published
    end = (
        float(file.rpartition(".")[2]),
        float(position),
    )  # a status is kept for a moment: one from before this may be told
    everything = binlogd.wait_until(
        lambda: (
            (found := values(text := scrape(binlogd))).get("binlogd_replica_lag_bytes") == 0
            and found["binlogd_source_lag_seconds"] == 0
            and (found["binlogd_store_published_file_number"], found["binlogd_store_published_position_bytes"]) == end
            and text
        ),
        "a scrape of the end, in which nothing lags",
    )
    after = values(everything)
    gained = {name: after[name] - before.get(name, 0) for name in after}

    assert after["binlogd_up"] == 2
    assert gained["binlogd_source_received_transactions_total"] == 20
    # A GTID, BEGIN, TABLE_MAP, WRITE_ROWS and XID for each; ROTATE, FORMAT_DESCRIPTION and PREVIOUS_GTIDS.
    assert gained["binlogd_source_received_events_total"] == 103
    assert gained["binlogd_server_sent_events_total"] >= 102, "the FORMAT_DESCRIPTION goes out as one of our own"
    assert gained["binlogd_source_received_bytes_total"] > 20_000
    assert gained["binlogd_server_sent_bytes_total"] > 20_000
    assert gained["binlogd_replica_sent_bytes_total"] == gained["binlogd_server_sent_bytes_total"]
    for histogram in ("source_ack_duration_seconds", "store_fdatasync_duration_seconds", "source_batch_size_bytes"):
        assert gained[f"binlogd_{histogram}_count"] > 0
        assert gained[f"binlogd_{histogram}_sum"] > 0
    assert gained["binlogd_source_batch_size_bytes_sum"] > 20_000
    assert all(gained[name] >= 0 for name in gained if name.endswith("_total"))

    exposed = {family.name for family in parse_openmetrics(scrape(binlogd, "application/openmetrics-text"))}
    assert exposed == {metric.name.removesuffix("_total").removesuffix("_info") for metric in METRICS}
    full = {line.split()[2] for line in everything.splitlines() if line.startswith("# TYPE ")}
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    used = {name for rule in group["rules"] for name in named(rule["expr"])}
    used |= {name for panel in panels for target in panel.get("targets", ()) for name in named(target["expr"])}
    assert used <= full
    sampled = {name.removesuffix("_count") for name in after}
    assert used - sampled <= {"binlogd_alarms"}, "and there are values of all of them while nothing is wrong"
    checked = promtool("check", "metrics", text=everything.encode())
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_a_part_that_was_killed(site: Site) -> None:
    binlogd = site.binlogd
    before = values(scrape(binlogd))
    binlogd.kill_child("serve")
    binlogd.wait_answering()
    after = binlogd.wait_until(
        lambda: (found := values(scrape(binlogd)))["binlogd_up"] == 2 and found, "a scrape with both parts up"
    )
    assert after["binlogd_restarts_total"] == before["binlogd_restarts_total"] + 1
    assert after["binlogd_source_received_bytes_total"] >= before["binlogd_source_received_bytes_total"]
