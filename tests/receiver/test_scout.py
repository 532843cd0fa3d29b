"""The thread that looks beside a stream: how it begins and ends. What it finds is tests/e2e/test_succession.py's."""

from __future__ import annotations

import os
import threading
from typing import Any, cast

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import ConfigError
from binlogd.receiver import scout
from binlogd.receiver.candidates import Candidate
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import EMPTY, SourceFacts, StoreFacts
from binlogd.receiver.scout import Scout
from binlogd.receiver.session import Secret, Session, SourceOptions
from binlogd.store.layout import Identity

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
ONE, OTHER = (SourceOptions(host, 1, "repl", Secret("secret")) for host in ("one.invalid", "other.invalid"))
ORDERS = Orders((ONE, OTHER), Follow.WRITABLE)
RECEIVER = Wake()


def looking(orders: Orders = ORDERS, executed: GtidSet | None = None, store: StoreFacts = EMPTY) -> Scout:
    facts = SourceFacts("9.7.4", 1, UUID, "CRC32", "ON" if executed is not None else "OFF", executed, GtidSet())
    chosen = Candidate(orders.sources[0], facts, cast("Any", None), cast("Any", None))
    return Scout(orders, chosen, Identity("", 1), lambda: store, RECEIVER, frozenset)


def scouts() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scout"]


def test_nobody_looks_where_there_is_nothing_to_choose_and_there_are_no_gtids() -> None:
    for orders in (Orders((ONE, OTHER), Follow.FIRST), Orders((ONE,), Follow.WRITABLE)):
        with looking(orders):
            assert scouts() == []
        with looking(orders, GtidSet()):
            threads = scouts()
        assert len(threads) == 1
        threads[0].join(10)


@pytest.mark.parametrize(
    ("answers", "interrupts"),
    [
        (["1-4", "1-4", "1-4"], 0),  # what it lacked from the beginning
        (["1-4", "1-3", "1-4", "1-5"], 0),  # a commit that waits for its acknowledgement
        (["1-4", "1-2", "1-3:9", "1-9"], 1),  # 4 is gone, and comes back as another one
        (["", "1"], 1),
    ],
)
def test_a_source_that_lacks_at_two_looks_what_it_has_sent_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], interrupts: int
) -> None:
    class Told(Wake):
        times = 0

        def interrupt(self) -> None:
            self.times += 1

    says, answered = iter(answers), threading.Event()

    def executed(session: Session) -> GtidSet:
        answer = next(says, None)
        if answer is None:
            answered.set()
            session._wake.sleep(None)
        return GtidSet.parse(f"{UUID}:{answer}") if answer else GtidSet()

    monkeypatch.setattr(Session, "connect", lambda _: None)
    monkeypatch.setattr(Session, "executed", executed)
    monkeypatch.setattr(Session, "waits", lambda _: True)
    monkeypatch.setattr(scout, "PERIOD", 0.001)
    monkeypatch.setattr(scout, "HISTORY_PERIOD", 0.002)
    told = Told()
    held = GtidSet.parse(f"{UUID}:1-5")
    facts = SourceFacts("9.7.4", 1, UUID, "CRC32", "ON", GtidSet.parse(f"{UUID}:1-4"), GtidSet())
    chosen = Candidate(ONE, facts, cast("Any", None), cast("Any", None))
    store = StoreFacts(UUID, "b.000001", 4, held=held)
    with Scout(Orders((ONE,)), chosen, Identity("", 1), lambda: store, told, frozenset):
        threads = scouts()
        assert answered.wait(10)
    for thread in threads:
        thread.join(10)  # before the next test counts descriptors
    assert told.times == interrupts


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
    monkeypatch.setattr(scout, "HISTORY_PERIOD", 0.002)
    with looking():
        threads = scouts()
        for _ in range(3):
            assert tried.acquire(timeout=10)
    for thread in threads:
        thread.join(10)
