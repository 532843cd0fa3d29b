"""binlogd.sender.gate: what strangers may cost. Small numbers, and a clock that is told the time."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from binlogd.errors import Refusal
from binlogd.sender import gate as gates
from binlogd.sender.gate import TOO_MANY, Gate


class Guest:
    def __init__(self, address: str) -> None:
        self.address = address
        self.ended = False

    def end(self, reason: Refusal | None) -> None:
        assert reason is None
        self.ended = True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(gates, "STRANGERS", 6)
    monkeypatch.setattr(gates, "STRANGERS_PER_ADDRESS", 3)
    monkeypatch.setattr(gates, "WAITING", 4)
    monkeypatch.setattr(gates, "WAITING_PER_ADDRESS", 2)
    monkeypatch.setattr(gates, "ADDRESSES", 10)
    return Gate(2, clock)


def entered(gate: Gate, *addresses: str) -> list[Guest]:
    guests = [Guest(address) for address in addresses]
    for guest in guests:
        assert gate.turns_away(guest.address) is None
        gate.enter(guest)
    return guests


def test_of_one_address_the_oldest_gives_way(gate: Gate) -> None:
    guests = entered(gate, *["10.0.0.1"] * 5)
    assert [guest.ended for guest in guests] == [True, True, False, False, False]
    assert gate.strangers == 3


def test_of_all_the_oldest_of_the_busiest_address_gives_way(gate: Gate) -> None:
    guests = entered(gate, "10.0.0.9", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2")
    (newest,) = entered(gate, "10.0.0.3")
    assert [guest.ended for guest in guests] == [False, True, False, False, False, False]
    assert not newest.ended
    assert gate.strangers == 6


def test_who_is_in_does_not_count_as_a_stranger(gate: Gate) -> None:
    first, second = entered(gate, "10.0.0.1", "10.0.0.1")
    assert gate.admit(first) is None
    assert (gate.inside, gate.strangers) == (1, 1)
    entered(gate, "10.0.0.1", "10.0.0.1")
    assert not first.ended
    assert not second.ended


def test_beyond_the_limit_even_the_right_password_is_refused(gate: Gate) -> None:
    guests = entered(gate, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert [gate.admit(guest) for guest in guests] == [None, None, TOO_MANY]
    assert gate.turns_away("10.0.0.4") == TOO_MANY
    gate.leave(guests[0])
    assert gate.turns_away("10.0.0.4") is None
    assert gate.admit(guests[2]) is None


def test_the_delay_grows_and_is_forgotten(gate: Gate, clock: Clock) -> None:
    def refused(address: str) -> float:
        (guest,) = entered(gate, address)
        delay = gate.refuse(guest)
        gate.leave(guest)
        return delay

    delays = [refused("10.0.0.1") for _ in range(40)]
    for number, delay in enumerate(delays):
        least = min(gates.DELAY * 2**number, gates.LONGEST_DELAY)
        assert least <= delay <= least * 1.25
    assert delays[0] < 0.2 < gates.LONGEST_DELAY <= delays[-1]
    assert refused("10.0.0.2") < 0.2, "another's guesses are not its own"
    clock.now += gates.FORGET + 1
    assert refused("10.0.0.1") < 0.2


def test_the_memory_of_refusals_is_bounded(gate: Gate) -> None:
    for number in range(1000):
        (guest,) = entered(gate, f"10.0.{number // 250}.{number % 250}")
        gate.refuse(guest)
        gate.leave(guest)
        assert gate.remembered <= 10
    assert (gate.inside, gate.strangers) == (0, 0)


def test_an_address_whose_refusals_wait_is_turned_away(gate: Gate) -> None:
    for guest in entered(gate, "10.0.0.1", "10.0.0.1"):
        gate.refuse(guest)
    assert gate.turns_away("10.0.0.1") == TOO_MANY
    assert gate.turns_away("10.0.0.2") is None


def test_of_all_that_wait_the_oldest_of_the_busiest_gives_way(gate: Gate) -> None:
    guests = entered(gate, "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    for guest in guests:
        gate.refuse(guest)
    assert [guest.ended for guest in guests] == [True, False, False, False, False]


def test_a_network_of_ipv6_is_one_address(gate: Gate) -> None:
    guests = entered(gate, *(f"2001:db8::{number:x}" for number in range(1, 6)))
    assert [guest.ended for guest in guests] == [True, True, False, False, False]
    entered(gate, "2001:db8:0:1::1", "fe80::1%eth0", "no address")
    assert sum(guest.ended for guest in guests) == 2


def test_leaving_twice_is_leaving_once(gate: Gate) -> None:
    (guest,) = entered(gate, "10.0.0.1")
    gate.leave(guest)
    gate.leave(guest)
    assert gate.strangers == 0


def test_one_is_worked_for_at_a_time_and_others_have_their_turns(gate: Gate) -> None:
    steps: list[str] = []

    async def work(name: str) -> None:
        left = iter((True, True, False))

        def step() -> bool:
            steps.append(name)
            return next(left)

        await gate.work(step)

    async def live() -> None:
        while steps.count("b") < 3:
            if steps and steps[-1] != "live":
                steps.append("live")
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.wait_for(asyncio.gather(work("a"), work("b"), live()), 20)

    asyncio.run(both())
    assert [step for step in steps if step != "live"] == ["a", "a", "a", "b", "b", "b"]
    assert all("live" in pair for pair in pairwise(steps)), "something else runs behind every step"


def test_behind_a_step_is_a_rest(gate: Gate) -> None:
    """Three fourths of the processor are left to the replicas, however many strangers there are."""
    left = iter((True, True, False))

    def step() -> bool:
        time.sleep(0.01)
        return next(left)

    began = time.monotonic()
    asyncio.run(gate.work(step))
    assert time.monotonic() - began >= 3 * 0.01 * (1 + gates.REST) * 0.99


def test_who_is_ended_gives_the_bench_back(gate: Gate) -> None:
    async def ending() -> None:
        endless = asyncio.create_task(gate.work(lambda: True))
        await asyncio.sleep(0.01)
        endless.cancel()
        await asyncio.wait_for(gate.work(lambda: False), 20)

    asyncio.run(ending())
