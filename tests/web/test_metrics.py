"""GET /metrics: both formats, strictly; what is absent when a part is down; and names by Prometheus' own linter."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families as parse_text

from binlogd.receiver.progress import Progress
from binlogd.web import metrics, server
from binlogd.web.metrics import METRICS, View, render
from binlogd.web.server import StatusSite
from tests.contrib.support import parse_openmetrics, promtool
from tests.web.support import NoFiles

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def replica(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "server_id": number, "server_uuid": f"uuid-{number}", "host": "10.0.0.9", "port": 50000 + number,
        "lag_bytes": 0, "last_event_time": 1000, "sent_bytes": 5, "sent_bytes_before": 0,
    } | more  # fmt: skip


def running(*replicas: dict[str, Any], **source: Any) -> dict[str, Any]:
    """A status of which every section is there."""
    progress = Progress()
    progress.streaming()
    progress.host, progress.port, progress.server_uuid, progress.server_version = "db1", 3306, "u", "9.7.0"
    progress.bytes_received, progress.transactions_received, progress.events_received = 900, 3, 12
    progress.last_event_time = 1010
    for seconds in (0.0002, 0.003, 20):
        progress.acknowledged(seconds)
        progress.sync_times.observe(seconds)
        progress.batch_sizes.observe(seconds * 1e6)
    return {
        "source": progress.snapshot() | {"semi_sync_wanted": True} | source,
        "processes": {"receiver": {"up": True, "started": 7.5}, "sender": {"up": True, "started": 8.5}},
        "store": {
            "timeline": 2, "published": {"file": "mysql-bin.000012", "position": 345}, "files": 4, "bytes": 5000,
            "free_bytes": 600, "disk_bytes": 7000, "oldest_time": 900,
        },
        "server": {
            "state": "serving", "connections": 2, "max_connections": 256, "connections_accepted": 9,
            "logins_refused": 1, "sent_bytes": 77, "sent_events": 8,
        },
        "replicas": list(replicas or (replica(),)),
        "alarms": [
            {"severity": "critical", "code": "store_damaged", "since": None, "message": "a", "hint": ""},
            {"severity": "critical", "code": "store_damaged", "since": None, "message": "b", "hint": ""},
        ],
    }  # fmt: skip


DOWN: dict[str, Any] = {
    "source": {"state": "stopped"},
    "processes": {"receiver": {"up": False}, "sender": {"up": False}},
    "store": {"timeline": None, "published": {"file": "", "position": 0}, "files": 0, "bytes": 0, "free_bytes": None},
    "server": {"state": "stopped"},
    "replicas": [],
    "alarms": [],
}


def text_of(status: dict[str, Any] | None, accept: str = "") -> str:
    return render(View(status, 5.0, {"receive": 2, "serve": 0}), accept=accept)[0].decode()


def values(status: dict[str, Any] | None) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values."""
    families = parse_text(text_of(status))
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_everything_is_there() -> None:
    found = values(running())
    assert found["binlogd_up", "receiver"] == found["binlogd_up", "sender"] == 1
    assert found["binlogd_start_time_seconds", "http"] == 5
    assert found["binlogd_start_time_seconds", "receiver"] == 7.5
    assert found["binlogd_restarts_total", "receiver"] == 2
    assert found["binlogd_alarms", "store_damaged", "critical"] == found["binlogd_store_damaged_files",] == 2
    assert found["binlogd_source_state", "streaming"] == 1
    assert sum(value for (name, *_), value in found.items() if name == "binlogd_source_state") == 1
    assert found["binlogd_source_received_events_total",] == 12
    assert found["binlogd_source_info", "db1", "3306", "u", "9.7.0"] == 1
    assert found["binlogd_store_published_file_number",] == 12
    assert found["binlogd_store_published_position_bytes",] == 345
    assert found["binlogd_server_sent_bytes_total",] == 77
    assert found["binlogd_replica_sent_bytes_total", "10.0.0.9", "1", "uuid-1"] == 5
    assert {name for name, *_ in found} >= {m.name for m in METRICS if m.kind != "histogram"}


def test_histograms_add_up() -> None:
    found = values(running())
    name = "binlogd_source_ack_duration_seconds"
    assert found[f"{name}_bucket", "0.0001"] == 0
    assert found[f"{name}_bucket", "0.00025"] == 1
    assert found[f"{name}_bucket", "0.005"] == found[f"{name}_bucket", "10.0"] == 2
    assert found[f"{name}_bucket", "+Inf"] == found[f"{name}_count",] == 3
    assert found[f"{name}_sum",] == pytest.approx(20.0032)


def test_of_what_is_down_nothing_is_said_but_that() -> None:
    found = values(DOWN)
    assert found["binlogd_up", "receiver"] == found["binlogd_up", "sender"] == 0
    assert found["binlogd_source_state", "stopped"] == 1
    silent = ("binlogd_source_", "binlogd_server_", "binlogd_replica")
    assert {name for name, *_ in found if name.startswith(silent)} == {"binlogd_source_state"}
    assert not any(math.isnan(value) for value in found.values())


def test_without_a_status_only_this_process_is_told_of() -> None:
    found = values(None)
    assert found["binlogd_status_collected",] == 0
    assert {name for name, *_ in found} == {
        "binlogd_build_info", "binlogd_status_collected", "binlogd_start_time_seconds", "binlogd_restarts_total",
    }  # fmt: skip


def test_one_client_with_two_dumps_is_one_series() -> None:
    twice = replica(0, server_uuid="", sent_bytes_before=100)
    found = values(running(twice, twice | {"port": 1, "lag_bytes": 30, "last_event_time": 1003}))
    assert found["binlogd_replica_sent_bytes_total", "10.0.0.9", "0", ""] == 110
    assert found["binlogd_replica_lag_bytes", "10.0.0.9", "0", ""] == 30
    assert found["binlogd_replica_lag_seconds", "10.0.0.9", "0", ""] == 7
    assert found["binlogd_replicas",] == 2


@pytest.mark.parametrize(("sent", "source"), [(0, {}), (1000, {"last_event_time": None})])
def test_a_lag_that_nobody_knows_is_not_told(sent: int, source: dict[str, Any]) -> None:
    found = values(running(replica(lag_bytes=1, last_event_time=sent), **source))
    assert ("binlogd_replica_lag_bytes", "10.0.0.9", "1", "uuid-1") in found
    assert not any(name == "binlogd_replica_lag_seconds" for name, *_ in found)


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REPLICAS", 2)
    found = values(running(*(replica(n, lag_bytes=n, server_uuid=f"{n}" * 900) for n in range(1, 5))))
    lags = {key[1:]: value for key, value in found.items() if key[0] == "binlogd_replica_lag_bytes"}
    assert sorted(lags.values()) == [3, 4], "those that lag most"
    assert {len(uuid) for _, _, uuid in lags} == {metrics.LABEL_MOST}
    assert found["binlogd_replicas",] == 4


@pytest.mark.parametrize("status", [running(), DOWN, None], ids=["running", "down", "no status"])
@pytest.mark.parametrize("name", ['say "hi"\\\n', "主库"])
def test_both_formats_are_sound_and_say_the_same(status: dict[str, Any] | None, name: str) -> None:
    if status is not None and status["replicas"]:
        status = status | {"replicas": [replica(server_uuid=name)]}

    def samples(families: list[Family]) -> set[Any]:
        return {(s.name, *sorted(s.labels.items()), s.value) for family in families for s in family.samples}

    plain, newer = text_of(status), text_of(status, OPENMETRICS)
    assert newer.endswith("# EOF\n")
    assert samples(list(parse_text(plain))) == samples(parse_openmetrics(newer))
    lines = [line for line in plain.splitlines() if line.startswith("# TYPE ")]
    assert len(lines) == len(set(lines)) == len(METRICS)


@pytest.mark.parametrize("status", [running(), DOWN, None], ids=["running", "down", "no status"])
def test_promtool_finds_nothing_to_say(status: dict[str, Any] | None) -> None:
    checked = promtool("check", "metrics", text=text_of(status).encode())
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_promtool_would_say_something() -> None:
    checked = promtool("check", "metrics", text=text_of(running()).replace("_total", "").encode())
    assert checked.returncode != 0


def visit(collect: Any, accept: str = "") -> tuple[int, str, str]:
    async def visiting() -> tuple[int, str, str]:
        site = StatusSite(collect, lambda: {"receive": True}, NoFiles(), lambda: {"receive": 2})
        async with TestClient(TestServer(site.application())) as client:
            answer = await client.get("/metrics", headers={"Accept": accept} if accept else {})
            return answer.status, answer.headers["Content-Type"], await answer.text()

    return asyncio.run(visiting())


def test_the_format_that_is_asked_for() -> None:
    code, kind, text = visit(running)
    assert (code, kind.partition(";")[0]) == (200, "text/plain")
    assert "# EOF" not in text
    code, kind, text = visit(running, OPENMETRICS)
    assert (code, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert parse_openmetrics(text)


def test_a_scrape_does_not_fail() -> None:
    code, _, text = visit(lambda: 1 / 0)
    assert code == 200
    assert "binlogd_status_collected 0.0" in text


def test_a_scrape_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that come while one hangs start no other look."""
    monkeypatch.setattr(server, "SCRAPE_TIMEOUT", 0.05)
    released, looks = threading.Event(), []

    def collect() -> dict[str, Any]:
        looks.append(1)
        assert released.wait(30)
        return running()

    async def visiting() -> None:
        async with TestClient(TestServer(StatusSite(collect, dict, NoFiles()).application())) as client:
            for _ in range(3):
                answer = await client.get("/metrics")
                assert "binlogd_status_collected 0.0" in await answer.text()
            assert len(looks) == 1
            released.set()
            assert (await client.get("/api/status")).status == 200
            assert "binlogd_status_collected 1.0" in await (await client.get("/metrics")).text()

    asyncio.run(visiting())
