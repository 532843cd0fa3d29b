"""What the receiver says of itself while it works."""

from __future__ import annotations

import json
import time

import pytest

from binlogd.errors import EventError, Unreachable
from binlogd.receiver.progress import ACKS_KEPT, Progress, State


def test_before_anything_happened() -> None:
    snapshot = Progress().snapshot()
    assert snapshot["state"] == "connecting"
    assert snapshot["ack_seconds"] == {"p50": None, "p99": None, "max": None}
    assert snapshot["last_error"] is None
    assert snapshot["last_event_time"] is None
    assert snapshot["lost_at"] == pytest.approx(time.time(), abs=60)
    json.dumps(snapshot)


@pytest.mark.parametrize(
    ("count", "p50", "p99"),
    [(1, 1, 1), (2, 1, 2), (3, 2, 3), (100, 50, 99), (101, 51, 100), (1000, 500, 990)],
)
def test_percentiles(count: int, p50: int, p99: int) -> None:
    progress = Progress()
    for value in range(count, 0, -1):
        progress.acknowledged(value)
    assert progress.acks_sent == count
    assert progress.snapshot()["ack_seconds"] == {"p50": p50, "p99": p99, "max": count}


def test_only_the_latest_count() -> None:
    progress = Progress()
    progress.acknowledged(1e9)
    for value in range(ACKS_KEPT):
        progress.acknowledged(value)
    assert progress.acks_sent == ACKS_KEPT + 1
    assert progress.snapshot()["ack_seconds"]["max"] == ACKS_KEPT - 1
    for _ in range(ACKS_KEPT):
        progress.acknowledged(0.25)
    assert progress.snapshot()["ack_seconds"] == {"p50": 0.25, "p99": 0.25, "max": 0.25}


def test_a_source_that_is_lost_and_found() -> None:
    progress = Progress()
    progress.streaming()
    assert progress.snapshot()["state"] == "streaming"
    assert progress.snapshot()["lost_at"] is not None, "it has not sent anything sound yet"
    progress.lost_at = 0.0
    assert progress.snapshot()["lost_at"] is None
    progress.failed(State.BACKOFF, "gone", "wait")
    first = progress.snapshot()
    assert (first["state"], first["last_error"], first["last_hint"]) == ("backoff", "gone", "wait")
    assert first["lost_at"] == first["since"]
    progress.failed(State.FAILED, "refused", "act")
    second = progress.snapshot()
    assert second["lost_at"] == first["lost_at"], "it was lost then, not now"
    assert second["since"] >= first["since"]
    progress.streaming()
    assert progress.snapshot()["last_error"] == "refused", "what happened last, to be read afterwards"


def bad_event_at(progress: Progress, file: str, position: int) -> int:
    """One more bad event; how many in a row the status tells of."""
    progress.file, progress.position = file, position
    progress.suspect(EventError("fails its CRC-32"))
    progress.failed(State.BACKOFF, "fails its CRC-32", "")
    told = progress.snapshot()["corruption"]
    assert (told["file"], told["position"]) == (file, position)
    return int(told["times"])


def test_a_bad_event_that_comes_again_and_again() -> None:
    progress = Progress()
    progress.suspect(Unreachable("gone"))
    assert progress.snapshot()["corruption"] is None
    assert [bad_event_at(progress, "a.000001", 100) for _ in range(3)] == [1, 2, 3]
    progress.streaming()
    progress.suspect(Unreachable("gone"))
    progress.failed(State.BACKOFF, "gone", "")
    assert progress.snapshot()["corruption"]["times"] == 3, "a lost connection says nothing of that place"
    assert bad_event_at(progress, "a.000001", 100) == 4
    assert bad_event_at(progress, "a.000001", 200) == 1
    assert bad_event_at(progress, "a.000002", 200) == 1


def test_a_bad_event_is_forgotten_when_something_sound_has_come() -> None:
    progress = Progress()
    assert [bad_event_at(progress, "a.000001", 100) for _ in range(3)] == [1, 2, 3]
    progress.lost_at = 0.0
    assert progress.snapshot()["corruption"] is None
    assert bad_event_at(progress, "a.000001", 100) == 1


def test_how_far_behind_it_can_be() -> None:
    progress = Progress()
    assert progress.snapshot()["lag_seconds"] is None, "nobody knows"
    progress.streaming()
    progress.last_event_time = 1000
    assert progress.lag_seconds(1060.0) == 60, "what is missing is no older than what came last"
    assert progress.lag_seconds(990.0) == 0, "the source's clock is ahead"
    progress.sent_everything()
    assert (progress.lag_seconds(1060.0), progress.lost_at) == (0, 0)
    progress.even_at, progress.even = 1050.0, False
    assert progress.lag_seconds(1060.0) == 10, "at 1050 it had everything"
    progress.last_event_time = 1055
    assert progress.lag_seconds(1060.0) == 5
    progress.even = True
    progress.failed(State.BACKOFF, "gone", "wait")
    assert progress.lag_seconds(1060.0) == 5, "what the source has done since it was lost nobody knows"


def test_histograms() -> None:
    progress = Progress()
    progress.acknowledged(0.002)
    progress.sync_times.observe(0.001)
    progress.batch_sizes.observe(300)
    snapshot = progress.snapshot()
    assert [
        (sum(snapshot[name]["counts"]), snapshot[name]["sum"])
        for name in ("ack_histogram", "sync_histogram", "batch_histogram")
    ] == [(1, 0.002), (1, 0.001), (1, 300)]
    json.dumps(snapshot)
