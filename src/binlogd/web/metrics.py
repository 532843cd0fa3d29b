"""The status for Prometheus: GET /metrics.

Theory. Every scrape makes its metrics anew from one status (control/status.py), so nothing is kept here and nothing can
go stale: what a process that is down would say is absent, and ``binlogd_up`` says that it is down. What counts up
counts in the process that does the work and begins at 0 when that is started, which Prometheus knows how to take. The
http process's own garbage collector and memory say nothing of binlogd and are left out.

``METRICS`` is the whole table: name, kind, help, labels and where the value comes from. docs/monitoring.md and the
files in contrib/ are checked against it. Names follow Prometheus' rules: base units, in the name, and ``_total`` behind
what counts up. Labels are few, and bounded: replicas are told apart by who they are, not by their connection's port,
and at most REPLICAS of them, those that lag most, have metrics of their own.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from binlogd import __version__
from binlogd.binlog import compiled

REPLICAS = 1000  # that have metrics of their own
LABEL_MOST = 64  # characters of a label: what a client calls itself is its own choice
STATES = ("streaming", "connecting", "backoff", "stopped", "failed")
PARTS = {"receive": "receiver", "serve": "sender"}  # the parts by what their processes are called

Sample = tuple[tuple[str, ...], Any]
"""The labels' values and the value."""


@dataclass(frozen=True, slots=True)
class View:
    """What one scrape sees: the status, None when there was none in time, and what this process knows itself."""

    status: Mapping[str, Any] | None
    started: float
    restarts: Mapping[str, int] = field(default_factory=dict)

    def part(self, name: str) -> Mapping[str, Any]:
        """A section of the status; empty without one."""
        return (self.status or {}).get(name) or {}

    def each(self, name: str) -> Iterable[Mapping[str, Any]]:
        """The entries of a list in the status."""
        return (self.status or {}).get(name) or ()

    @property
    def received(self) -> Mapping[str, Any]:
        """What the receiver says of its source; empty while it is down."""
        return self.part("source") if self.part("processes").get("receiver", {}).get("up") else {}


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. ``name`` is as it is exposed, with ``_total`` or ``_info``."""

    name: str
    kind: str  # gauge, counter, histogram or info
    help: str
    read: Callable[[View], Iterable[Sample]]
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The base unit in the name."""
        base = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if base.endswith(f"_{unit}")), "")

    def family(self, view: View) -> Family:
        """Its samples now, as the library takes them."""
        if self.kind == "gauge":
            gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels, unit=self.unit)
            for labels, value in self.read(view):
                gauge.add_metric(labels, float(value))
            return gauge
        if self.kind == "counter":
            counter = CounterMetricFamily(self.name, self.help, labels=self.labels, unit=self.unit)
            for labels, value in self.read(view):
                counter.add_metric(labels, float(value))
            return counter
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels, unit=self.unit)
            for labels, value in self.read(view):
                bounds = [*map(floatToGoString, value["bounds"]), "+Inf"]
                cumulative = list(zip(bounds, accumulate(value["counts"]), strict=True))
                histogram.add_metric(labels, cumulative, value["sum"])
            return histogram
        info = InfoMetricFamily(self.name.removesuffix("_info"), self.help)
        for labels, _ in self.read(view):
            info.add_metric((), dict(zip(self.labels, labels, strict=True)))
        return info


def render(view: View, *, accept: str) -> tuple[bytes, str]:
    """The body and its Content-Type: OpenMetrics for those who ask for it, else Prometheus' text format."""
    encode, content_type = choose_encoder(accept)
    return encode(_Now(view)), content_type


class _Now(Collector):
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield metric.family(self._view)


# --- where values come from ---


def _one(value: Any) -> Iterator[Sample]:
    if value is not None:
        yield (), value


def _received(key: str) -> Callable[[View], Iterable[Sample]]:
    return lambda view: _one(view.received.get(key))


def _store(key: str) -> Callable[[View], Iterable[Sample]]:
    return lambda view: _one(view.part("store").get(key))


def _server(key: str) -> Callable[[View], Iterable[Sample]]:
    return lambda view: _one(view.part("server").get(key))


def _build(_: View) -> Iterator[Sample]:
    try:
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    except RuntimeError:
        loop = "none"
    yield (__version__, platform.python_version(), "yes" if compiled() else "no", loop), 1


def _up(view: View) -> Iterator[Sample]:
    for part, process in view.part("processes").items():
        yield (part,), process["up"]


def _start_times(view: View) -> Iterator[Sample]:
    yield ("http",), view.started
    for part, process in view.part("processes").items():
        if process.get("started") is not None:
            yield (part,), process["started"]


def _restarts(view: View) -> Iterator[Sample]:
    for name, times in view.restarts.items():
        yield (PARTS.get(name, name),), times


def _alarms(view: View) -> Iterator[Sample]:
    found: dict[tuple[str, ...], int] = {}
    for alarm in view.each("alarms"):
        labels = (alarm["code"], alarm["severity"])
        found[labels] = found.get(labels, 0) + 1
    yield from found.items()


def _states(view: View) -> Iterator[Sample]:
    for state in STATES:
        if view.status is not None:
            yield (state,), view.part("source").get("state") == state


def _source(view: View) -> Iterator[Sample]:
    source = view.received
    if source.get("host"):
        yield tuple(_text(source[key]) for key in ("host", "port", "server_uuid", "server_version")), 1


def _published_number(view: View) -> Iterator[Sample]:
    number = view.part("store").get("published", {}).get("file", "").rpartition(".")[2]
    if number.isdigit():
        yield (), int(number)


def _published_position(view: View) -> Iterator[Sample]:
    published = view.part("store").get("published", {})
    if published.get("file"):
        yield (), published["position"]


def _damaged(view: View) -> Iterator[Sample]:
    if view.status is not None:
        yield (), sum(alarm["code"] == "store_damaged" for alarm in view.each("alarms"))


def _replicas(view: View) -> Iterator[Sample]:
    if view.part("server").get("state") == "serving":
        yield (), len(list(view.each("replicas")))


@dataclass(slots=True)
class _Replica:
    """All dumps of one: two of a client that says neither id nor UUID are one."""

    lag_bytes: int = 0
    lag_seconds: float | None = None
    sent_bytes: int = 0


def _each_replica(view: View) -> Iterator[tuple[tuple[str, ...], _Replica]]:
    newest = view.received.get("last_event_time")
    found: dict[tuple[str, ...], _Replica] = {}
    for dump in view.each("replicas"):
        labels = tuple(_text(dump[key]) for key in ("server_id", "server_uuid", "host"))
        if labels not in found:
            found[labels] = _Replica(sent_bytes=dump["sent_bytes_before"])
        replica = found[labels]
        replica.lag_bytes = max(replica.lag_bytes, dump["lag_bytes"])
        replica.sent_bytes += dump["sent_bytes"]
        if not dump["lag_bytes"]:
            lag: float | None = 0
        elif newest and dump["last_event_time"]:
            lag = max(newest - dump["last_event_time"], 0)
        else:
            lag = None  # it lacks something, and nobody knows how old that is
        if lag is not None:
            replica.lag_seconds = max(replica.lag_seconds or 0, lag)
    by_lag = sorted(found.items(), key=lambda each: -each[1].lag_bytes)
    return iter(by_lag[:REPLICAS])


def _replica(key: str) -> Callable[[View], Iterable[Sample]]:
    def read(view: View) -> Iterator[Sample]:
        for labels, replica in _each_replica(view):
            value = getattr(replica, key)
            if value is not None:
                yield labels, value

    return read


def _text(value: object) -> str:
    return str(value)[:LABEL_MOST]


_WHO = ("server_id", "server_uuid", "host")

METRICS = (
    Metric(
        "binlogd_build_info",
        "info",
        "What runs: binlogd's version, Python's, whether the hot modules are compiled, and the event loop.",
        _build,
        ("version", "python_version", "compiled", "event_loop"),
    ),
    Metric(
        "binlogd_status_collected",
        "gauge",
        "Whether the status was there in time for this scrape; without it only the http process is told of.",
        lambda view: _one(view.status is not None),
    ),
    Metric("binlogd_up", "gauge", "Whether a part of binlogd runs and answers.", _up, ("part",)),
    Metric("binlogd_start_time_seconds", "gauge", "When a part was started, since the epoch.", _start_times, ("part",)),
    Metric(
        "binlogd_restarts_total",
        "counter",
        "How often the supervisor started a part again since it began.",
        _restarts,
        ("part",),
    ),
    Metric("binlogd_alarms", "gauge", "Alarms that are raised now; absent: none.", _alarms, ("code", "severity")),
    Metric(
        "binlogd_source_info",
        "info",
        "The source that is followed, or was last.",
        _source,
        ("host", "port", "server_uuid", "server_version"),
    ),
    Metric("binlogd_source_state", "gauge", "1 for the state of receiving, 0 for the others.", _states, ("state",)),
    Metric(
        "binlogd_source_semi_sync", "gauge", "Whether the source waits for acknowledgements.", _received("semi_sync")
    ),
    Metric(
        "binlogd_source_semi_sync_wanted",
        "gauge",
        "Whether the configuration asks for semi-synchronous replication.",
        _received("semi_sync_wanted"),
    ),
    Metric(
        "binlogd_source_received_bytes_total",
        "counter",
        "Bytes received from the source, network protocol and repetitions included.",
        _received("bytes_received"),
    ),
    Metric(
        "binlogd_source_received_events_total",
        "counter",
        "Events received that were written to the store.",
        _received("events_received"),
    ),
    Metric(
        "binlogd_source_received_transactions_total",
        "counter",
        "Whole transactions received that were written to the store.",
        _received("transactions_received"),
    ),
    Metric(
        "binlogd_source_ack_duration_seconds",
        "histogram",
        "From the arrival of an event that asks for an acknowledgement until that was sent.",
        _received("ack_histogram"),
    ),
    Metric(
        "binlogd_source_batch_size_bytes",
        "histogram",
        "Bytes that one sync of the newest file covers.",
        _received("batch_histogram"),
    ),
    Metric(
        "binlogd_source_lag_seconds",
        "gauge",
        "How old the oldest can be that the source has and binlogd has not; 0: nothing is missing.",
        _received("lag_seconds"),
    ),
    Metric(
        "binlogd_source_last_event_timestamp_seconds",
        "gauge",
        "The time of the last event received, since the epoch, by the source's clock.",
        _received("last_event_time"),
    ),
    Metric(
        "binlogd_source_reconnects_total",
        "counter",
        "How often the connection to the source was lost, or not had, and was tried again.",
        _received("reconnects"),
    ),
    Metric(
        "binlogd_store_fdatasync_duration_seconds",
        "histogram",
        "How long an fdatasync of the newest file took.",
        _received("sync_histogram"),
    ),
    Metric("binlogd_store_files", "gauge", "Binary logs in the store.", _store("files")),
    Metric("binlogd_store_size_bytes", "gauge", "Bytes of the binary logs in the store.", _store("bytes")),
    Metric("binlogd_store_disk_free_bytes", "gauge", "Bytes free for us on the store's disk.", _store("free_bytes")),
    Metric("binlogd_store_disk_size_bytes", "gauge", "Bytes of the store's disk.", _store("disk_bytes")),
    Metric(
        "binlogd_store_oldest_event_timestamp_seconds",
        "gauge",
        "The time of the oldest event stored, since the epoch; absent while there is only one file.",
        _store("oldest_time"),
    ),
    Metric("binlogd_store_timeline", "gauge", "The number of the newest timeline.", _store("timeline")),
    Metric(
        "binlogd_store_published_file_number",
        "gauge",
        "The number of the file up to which everything is durable and whole.",
        _published_number,
    ),
    Metric(
        "binlogd_store_published_position_bytes",
        "gauge",
        "The position in that file up to which everything is durable and whole.",
        _published_position,
    ),
    Metric("binlogd_store_damaged_files", "gauge", "Stored files that are known to be damaged.", _damaged),
    Metric("binlogd_server_connections", "gauge", "Clients that are connected now.", _server("connections")),
    Metric("binlogd_server_connections_limit", "gauge", "Clients that may be connected.", _server("max_connections")),
    Metric(
        "binlogd_server_connections_accepted_total",
        "counter",
        "Clients that have connected.",
        _server("connections_accepted"),
    ),
    Metric("binlogd_server_logins_refused_total", "counter", "Logins that were refused.", _server("logins_refused")),
    Metric("binlogd_server_sent_bytes_total", "counter", "Bytes sent in dumps.", _server("sent_bytes")),
    Metric(
        "binlogd_server_sent_events_total",
        "counter",
        "Events of stored files sent in dumps.",
        _server("sent_events"),
    ),
    Metric("binlogd_replicas", "gauge", "Dumps that run now.", _replicas),
    Metric(
        "binlogd_replica_lag_bytes", "gauge", "Published bytes not sent to a replica yet.", _replica("lag_bytes"), _WHO
    ),
    Metric(
        "binlogd_replica_lag_seconds",
        "gauge",
        "Between the last event sent to a replica and the last received; 0: it was sent everything.",
        _replica("lag_seconds"),
        _WHO,
    ),
    Metric("binlogd_replica_sent_bytes_total", "counter", "Bytes sent to a replica.", _replica("sent_bytes"), _WHO),
)
