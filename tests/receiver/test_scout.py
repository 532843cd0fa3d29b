"""The thread that looks beside a stream: how it begins and ends. What it finds is tests/e2e/test_succession.py's."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import ConfigError, Unreachable
from binlogd.receiver import scout
from binlogd.receiver.candidates import Candidate
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import EMPTY, Kept, SourceFacts, StoreFacts
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


@pytest.fixture(autouse=True)
def nobody_looks() -> None:
    """Those of receivers that other tests ran in this process have been told to end, and may be about to."""
    for thread in scouts():
        thread.join(60)
    assert scouts() == []


def test_one_looks_beside_every_stream() -> None:
    for orders in (Orders((ONE, OTHER), Follow.FIRST), Orders((ONE,), Follow.WRITABLE)):
        for executed in (None, GtidSet()):
            with looking(orders, executed):
                threads = scouts()
            assert len(threads) == 1
            threads[0].join()


class Told(Wake):
    """How often a receiver is interrupted."""

    times = 0

    def interrupt(self) -> None:
        self.times += 1


def looks(monkeypatch: pytest.MonkeyPatch, asks: str, answers: Iterable[Any], facts: SourceFacts, **more: Any) -> int:
    """How often a receiver is interrupted while the source, asked with that method, answers so."""
    says, answered = iter(answers), threading.Event()

    def answer(session: Session) -> Any:
        for found in says:
            return found
        answered.set()
        return session._wake.sleep(None)

    monkeypatch.setattr(Session, "connect", lambda _: None)
    monkeypatch.setattr(Session, "waits", lambda _: True)
    monkeypatch.setattr(Session, "newest_place", lambda _: None)
    monkeypatch.setattr(Session, "is_of", lambda *_: True)
    monkeypatch.setattr(Session, asks, answer)
    monkeypatch.setattr(scout, "PERIOD", 0.001)
    monkeypatch.setattr(scout, "HISTORY_PERIOD", 0.002)
    told = Told()
    chosen = Candidate(ONE, facts, cast("Any", None), cast("Any", None))
    store = StoreFacts(UUID, "b.000001", 4, held=GtidSet.parse(f"{UUID}:1-5"))
    with Scout(Orders((ONE,)), chosen, Identity("", 1), lambda: store, told, frozenset, **more):
        threads = scouts()
        assert answered.wait(60)
    for thread in threads:
        thread.join()  # before the next test counts descriptors
    return told.times


@pytest.mark.parametrize(
    ("answers", "interrupts"),
    [
        (["1-4", "1-4", "1-4"], 0),  # 5 waits for an acknowledgement, and is stored
        (["1-4", "1-5", "1-9"], 0),
        (["1-4", "1-2", "1-3:9", "1-9"], 1),  # 3 and 4 are gone, and come back as others
        (["1-8", "1-7"], 1),
        (["", "1"], 1),
    ],
)
def test_a_source_that_lacks_what_it_had_executed_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], interrupts: int
) -> None:
    says = [GtidSet.parse(f"{UUID}:{answer}") if answer else GtidSet() for answer in answers]
    facts = SourceFacts("9.7.4", 1, UUID, "CRC32", "ON", GtidSet.parse(f"{UUID}:1-4"), GtidSet())
    assert looks(monkeypatch, "executed", says, facts) == interrupts


WITHOUT_GTIDS = SourceFacts("11.8.9-MariaDB", 1, "", "CRC32", "OFF")


@pytest.mark.parametrize(
    ("answers", "interrupts"),
    [
        ([("b.000010", 500), ("b.000010", 900), ("b.000011", 4)], 0),
        ([("b.000010", 499), ("b.000010", 500), ("b.000010", 499)], 0),  # no server does; once is no proof
        ([("b.000010", 499), ("b.000010", 499)], 1),
        ([("b.000010", 5000), ("b.000001", 158), ("b.000001", 600)], 1),
        ([("b.000009", 5000), None, ("b.000009", 5000)], 0),
        ([("b.999999", 5000), ("b.1000000", 4)], 0),
        ([("other.000001", 158), ("other.000001", 158)], 0),  # nobody can compare them
        ([("no name", 4), ("", 4), ("b.x", 4)], 0),
    ],
)
def test_a_source_that_stands_at_two_looks_before_what_is_stored_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[str, int] | None], interrupts: int
) -> None:
    assert looks(monkeypatch, "newest_place", answers, WITHOUT_GTIDS, place=lambda: ("b.000010", 500)) == interrupts


def test_what_is_stored_is_looked_at_before_the_source_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that commits as fast as anything, of which everything is stored at once."""
    stored = 500

    def answers() -> Iterator[tuple[str, int]]:
        nonlocal stored
        for _ in range(5):
            stands = stored + 100
            yield "b.000010", stands
            stored = stands + 100

    assert looks(monkeypatch, "newest_place", answers(), WITHOUT_GTIDS, place=lambda: ("b.000010", stored)) == 0


def test_as_long_as_nothing_of_a_new_timeline_is_stored_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    says = [("b.000010", 500), None, ("b.000010", 600), ("b.000010", 700)]
    places = iter(says)
    answers = [("b.000001", 4), ("b.000010", 700), ("b.000010", 700)]
    assert looks(monkeypatch, "newest_place", answers, WITHOUT_GTIDS, place=lambda: next(places, says[-1])) == 0


def test_the_timeline_of_a_binlogd_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = replace(WITHOUT_GTIDS, history=Kept(1, UUID))
    asked = threading.Semaphore(0)

    def waits(session: Session) -> bool:
        asked.release()
        return True

    monkeypatch.setattr(scout, "HISTORY_PERIOD", 0.001)
    monkeypatch.setattr(Session, "connect", lambda _: None)
    monkeypatch.setattr(Session, "is_of", lambda *_: True)
    monkeypatch.setattr(Session, "waits", waits)
    told = Told()
    chosen = Candidate(ONE, copied, cast("Any", None), cast("Any", None))
    with Scout(Orders((ONE,)), chosen, Identity("", 1), lambda: EMPTY, told, frozenset, place=lambda: ("b.000002", 9)):
        threads = scouts()
        for _ in range(4):  # a session without a link fails when it is asked anything else
            assert asked.acquire(timeout=60)
    threads[0].join()
    assert told.times == 0


def test_who_gets_no_answer_asks_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is a connection that waits at the source: its binary log is locked."""
    now, asked = 0.0, list[float]()
    over = threading.Event()

    def silent(session: Session) -> None:
        asked.append(now)
        raise Unreachable("the source was silent for 30 s")

    def waits(session: Session) -> bool:
        nonlocal now
        now += 5
        if now > 24 * 3600:
            over.set()
            session._wake.sleep(None)
        return True

    monkeypatch.setattr("binlogd.receiver.scout.time.monotonic", lambda: now)
    monkeypatch.setattr(Session, "connect", lambda _: None)
    monkeypatch.setattr(Session, "is_of", lambda *_: True)
    monkeypatch.setattr(Session, "waits", waits)
    monkeypatch.setattr(Session, "newest_place", silent)
    monkeypatch.setattr(Scout, "_period", 0.0)
    chosen = Candidate(ONE, WITHOUT_GTIDS, cast("Any", None), cast("Any", None))
    with Scout(
        Orders((ONE,)), chosen, Identity("", 1), lambda: EMPTY, RECEIVER, frozenset, place=lambda: ("b.000002", 9)
    ):
        threads = scouts()
        assert over.wait(60)
    threads[0].join()
    assert len(asked) < 40


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
            thread.join()
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
            assert tried.acquire(timeout=60)
    for thread in threads:
        thread.join()
