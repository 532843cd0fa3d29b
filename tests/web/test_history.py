"""The ring of samples: rates from counters, gaps where nothing is known, and no more memory than at first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from binlogd.logs import configure_logging
from binlogd.web import history
from binlogd.web.history import COLUMNS, INTERVAL, KEPT, History, sample


def status(
    received: int | None, acks: int = 0, *, p99: float | None = None, lags: tuple[tuple[int, int], ...] = ()
) -> dict[str, Any]:
    source: dict[str, Any] = {"state": "stopped"}
    if received is not None:
        source = {
            "state": "streaming",
            "bytes_received": received,
            "transactions_received": received // 100,
            "acks_sent": acks,
            "ack_seconds": {"p50": p99, "p99": p99, "max": p99},
        }
    replicas = [{"lag_bytes": size, "lag_seconds": seconds} for size, seconds in lags]
    return {"source": source, "server": {"state": "serving", "sent_bytes": 0}, "replicas": replicas}


def taken(*statuses: dict[str, Any]) -> dict[str, list[float | None]]:
    kept = History()
    for number, one in enumerate(statuses):
        kept.take(one, 1000.0 + number * INTERVAL, number * INTERVAL)
    columns: dict[str, list[float | None]] = kept.since(0)["columns"]
    assert set(columns) == set(COLUMNS)
    return columns


def test_counters_become_rates() -> None:
    assert taken(status(1000), status(6000), status(6000))["received_bytes"] == [None, 1000, 0]
    assert taken(status(1000), status(6000))["transactions"] == [None, 10]


def test_a_counter_that_went_back_is_no_rate() -> None:
    assert taken(status(6000), status(10), status(510))["received_bytes"] == [None, None, 100]


def test_without_a_receiver_there_are_gaps() -> None:
    columns = taken(status(1000), status(None), status(2000), status(2500))
    assert columns["received_bytes"] == [None, None, None, 100]
    assert columns["streaming"] == [1, 0, 1, 1]


def test_an_ack_latency_counts_only_when_something_was_acknowledged() -> None:
    columns = taken(status(0, 5, p99=0.002), status(0, 9, p99=0.003), status(0, 9, p99=0.003), status(0, 10, p99=0.004))
    assert columns["ack_p99"] == [None, 0.003, None, 0.004]


def test_the_lag_is_that_of_the_replica_furthest_behind() -> None:
    columns = taken(status(0), status(0, lags=((10, 3), (500, 0))))
    assert columns["lag_bytes"] == [None, 500]
    assert columns["lag_seconds"] == [None, 3]
    assert columns["replicas"] == [0, 2]


def test_an_hour_is_kept_in_fixed_memory() -> None:
    kept = History()
    rings = [column.buffer_info() for column in kept._ring.values()]
    for number in range(KEPT + 10):
        kept.take(status(number * 500), float(number), number * INTERVAL)
    assert [column.buffer_info() for column in kept._ring.values()] == rings
    columns = kept.since(-1)["columns"]
    assert columns["time"] == list(range(10, KEPT + 10))
    assert set(columns["received_bytes"]) == {100}
    assert kept.since(KEPT + 7.0)["columns"]["time"] == [KEPT + 8.0, KEPT + 9.0]
    assert KEPT * INTERVAL == 3600


def test_a_slow_status_is_not_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples stay on their beat, however long one took: on a clock of the test's own."""
    clock = 100.0
    takes = iter((0.0, 12.0, 1.0))
    starts: list[float] = []

    async def ask() -> dict[str, Any]:
        nonlocal clock
        starts.append(clock)
        if len(starts) > 3:
            raise asyncio.CancelledError
        clock += next(takes)
        return status(0)

    async def sleep(seconds: float) -> None:
        nonlocal clock
        assert seconds >= 0
        clock += seconds

    monkeypatch.setattr(history, "time", SimpleNamespace(monotonic=lambda: clock, time=lambda: clock))
    monkeypatch.setattr(history, "asyncio", SimpleNamespace(sleep=sleep))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sample(History(), ask))
    assert starts == [100, 105, 120, 125]  # two beats were left out, and not run after


def test_a_status_that_cannot_be_had_leaves_a_gap(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sampling goes on: want of threads or memory passes."""
    monkeypatch.setattr(history, "INTERVAL", 0.01)
    configure_logging("json")
    kept = History()
    asked = 0

    async def ask() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise RuntimeError("can't start new thread")
        if asked == 4:
            raise asyncio.CancelledError
        return status(0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sample(kept, ask))
    assert len(kept.since(0)["columns"]["time"]) == 2, "the first and the third"
    assert "can't start new thread" in capsys.readouterr().err
