"""What the log says while no source sends: seldom, and less and less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from binlogd.errors import Unreachable
from binlogd.receiver.outage import LONGEST, SECOND, Outage, lasting
from binlogd.receiver.progress import Progress, State

GONE = Unreachable("Connection refused", hint="check that mysqld runs there")
LOST, STILL, AGAIN = "source lost", "the source is still lost", "the source sends again"


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def news(said: list[Any]) -> list[str]:
    return [line["event"] for line in said if line["log_level"] != "debug"]


def test_it_is_said_once_then_at_growing_intervals_and_when_it_is_over(said: list[Any]) -> None:
    outage = Outage()
    moments = [0.5 * step for step in range(int(8 * SECOND / 0.5))]
    for now in moments:
        outage.failed(GONE, retry_in=0.5, now=1000 + now)
    outage.over("db1:3306", now=1000 + 8 * SECOND)
    assert news(said) == [LOST, STILL, STILL, STILL, AGAIN]
    lost, *still, again = (line for line in said if line["log_level"] != "debug")
    assert (lost["error"], lost["hint"], lost["retry_in"]) == ("Connection refused", GONE.hint, "0.5s")
    assert [line["lost_for"] for line in still] == ["10s", "30s", "1m10s"]
    assert (again["source"], again["lost_for"], again["attempts"]) == ("db1:3306", "1m20s", len(moments))
    assert len(said) == len(moments) + 1, "each attempt is there at level debug"


def test_a_day_without_a_source_is_a_line_an_hour(said: list[Any]) -> None:
    outage = Outage()
    for now in range(0, 86_400, 2):
        outage.failed(GONE, retry_in=2.0, now=now)
    assert 24 <= len(news(said)) <= 24 + 9
    at = [line for line in said if line["log_level"] == "warning"]
    assert at[-1]["lost_for"].startswith("23h") and LONGEST == 3600


def test_each_outage_is_told_anew(said: list[Any]) -> None:
    progress = Progress(host="db1", port=3306)
    progress.sound()
    assert news(said) == [], "at first there was none to lose"
    for _ in range(2):
        progress.failed(State.BACKOFF, "gone", "")
        progress.outage.failed(GONE, retry_in=0.1, now=5.0)
        progress.outage.failed(GONE, retry_in=0.2, now=5.1)
        progress.sound()
        progress.sound()
    assert news(said) == [LOST, AGAIN] * 2


def test_how_long() -> None:
    assert [lasting(seconds) for seconds in (0.24, 9.94, 10.4, 3700)] == ["0.2s", "9.9s", "10s", "1h1m40s"]
