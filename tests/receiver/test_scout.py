"""The thread that looks beside a stream: how it begins and ends. What it finds is tests/e2e/test_succession.py's."""

from __future__ import annotations

import os
import threading
from typing import Any, cast

import pytest

from binlogd.errors import ConfigError
from binlogd.receiver import scout
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import EMPTY
from binlogd.receiver.scout import Scout
from binlogd.receiver.session import Secret, SourceOptions
from binlogd.store.layout import Identity

ONE, OTHER = (SourceOptions(host, 1, "repl", Secret("secret")) for host in ("one.invalid", "other.invalid"))
ORDERS = Orders((ONE, OTHER), Follow.WRITABLE)
RECEIVER = Wake()


def looking(orders: Orders = ORDERS) -> Scout:
    return Scout(orders, cast("Any", None), Identity("", 1), lambda: EMPTY, RECEIVER, frozenset)


def scouts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scout"]


def test_nobody_looks_where_there_is_nothing_to_choose() -> None:
    for orders in (Orders((ONE, OTHER), Follow.FIRST), Orders((ONE,), Follow.WRITABLE)):
        with looking(orders):
            assert scouts() == []


def test_it_ends_with_the_stream_and_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon it is woken, between any two of its steps."""

    def watch(_self: Scout, wake: Wake) -> None:
        while True:
            wake.check()

    monkeypatch.setattr(Scout, "_watch", watch)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        with looking():
            threads = scouts()
        for thread in threads:
            thread.join(10)
    assert scouts() == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("trouble", [ConfigError("the CA is half written"), OSError(24, "Too many open files")])
def test_it_goes_on_looking_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    tried = threading.Semaphore(0)

    def watch(_self: Scout, _wake: Wake) -> None:
        tried.release()
        raise trouble

    monkeypatch.setattr(Scout, "_watch", watch)
    monkeypatch.setattr(scout, "PERIOD", 0.001)
    with looking():
        for _ in range(3):
            assert tried.acquire(timeout=10)
