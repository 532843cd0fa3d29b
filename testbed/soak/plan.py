"""What is killed when: a pure function of a seed.

Rounds come in decks of ten, shuffled, so that ten rounds have met everything and two hundred meet it at twenty moments.
Every deck kills binlogd by halves and as a whole; only every fourth spares it, that its processes grow old while the
source and the replica come and go.

A strike waits until its victim exists again, and then for its pause: the second of two at the same victim falls into
the start-up or the recovery of what the first one killed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

DECK = 10
CALM_EVERY = 4
"""Of as many decks the last one spares binlogd."""

LONGEST_WAIT = 0.8
"""Seconds before a strike at what runs: some hundred commits."""

STARTING = 0.7
"""Seconds within which a process that was just started is hit again: it reads its settings, recovers, connects."""

SOURCE_STARTING = 1.2
"""The same for mysqld, which takes longer."""

TOGETHER = 0.03
"""Seconds between two strikes that are to be one: what has been acknowledged by then must be on disk."""

INTO_THE_GIANT = 0.06
"""Seconds from the first megabytes of the big transaction on: it takes a tenth to come."""


class Victim(Enum):
    """What a strike hits, by kill -9 unless it says otherwise."""

    RECEIVER = "receiver"
    SENDER = "sender"
    SUPERVISOR = "supervisor"
    BINLOGD = "binlogd"
    """All its processes at once."""
    SOURCE = "source"
    REPLICA = "replica"
    RESTART = "source, in order"
    """The source is shut down and started again."""
    INTRUDER = "a second receiver"
    """Nothing dies: another receiver is started on the store."""


@dataclass(frozen=True, slots=True)
class Strike:
    """Hit ``victim``, ``pause`` seconds after it is there; ``torn``: after the big transaction began to arrive."""

    victim: Victim
    pause: float
    torn: bool = False

    def __str__(self) -> str:
        return f"{self.victim.value} {'in the giant' if self.torn else 'at'} +{self.pause:.2f}"


@dataclass(frozen=True, slots=True)
class Plan:
    """One round. ``giant``: a big transaction is under way; ``dark``: the source, hit last, stays dead for a look."""

    number: int
    strikes: Sequence[Strike]
    giant: bool = False
    dark: bool = False

    def __str__(self) -> str:
        return "; ".join(map(str, self.strikes)) + (", and a look while it is dead" if self.dark else "")


Card = Callable[[random.Random, int], Plan]


def _pair(first: Victim, second: Victim, dice: random.Random, within: float) -> list[Strike]:
    """One at what runs, and one within so many seconds of it."""
    return [Strike(first, dice.uniform(0, LONGEST_WAIT)), Strike(second, dice.uniform(0, within))]


def _halves(dice: random.Random, number: int) -> Plan:
    """Each half, twice at most, in any order."""
    order = [Victim.RECEIVER, Victim.SENDER, dice.choice((Victim.RECEIVER, Victim.SENDER))]
    dice.shuffle(order)
    strikes = [
        Strike(victim, dice.uniform(0, STARTING if victim in order[:at] else LONGEST_WAIT))
        for at, victim in enumerate(order)
    ]
    return Plan(number, strikes)


def _supervisor(dice: random.Random, number: int) -> Plan:
    """The supervisor, and again while it starts."""
    return Plan(number, _pair(Victim.SUPERVISOR, Victim.SUPERVISOR, dice, STARTING))


def _all(dice: random.Random, number: int) -> Plan:
    """All of binlogd, and again while it recovers."""
    return Plan(number, _pair(Victim.BINLOGD, Victim.BINLOGD, dice, STARTING))


def _power_cut(dice: random.Random, number: int) -> Plan:
    """binlogd and the source at once."""
    return Plan(number, _pair(Victim.BINLOGD, Victim.SOURCE, dice, TOGETHER), dark=True)


def _receiver_then_source(dice: random.Random, number: int) -> Plan:
    """What the receiver acknowledged with its last breath is all there is."""
    return Plan(number, _pair(Victim.RECEIVER, Victim.SOURCE, dice, TOGETHER), dark=True)


def _torn_by_us(dice: random.Random, number: int) -> Plan:
    """In the middle of a big transaction."""
    victim = dice.choice((Victim.RECEIVER, Victim.BINLOGD, Victim.SUPERVISOR))
    return Plan(
        number,
        [Strike(victim, dice.uniform(0, INTO_THE_GIANT), torn=True), Strike(Victim.SENDER, dice.uniform(0, STARTING))],
        giant=True,
    )


def _torn_by_the_source(dice: random.Random, number: int) -> Plan:
    """The source dies in the middle of a big transaction, and binlogd lives."""
    return Plan(
        number,
        [Strike(Victim.SOURCE, dice.uniform(0, INTO_THE_GIANT), torn=True)],
        giant=True,
        dark=dice.random() < 0.5,
    )


def _source_again(dice: random.Random, number: int) -> Plan:
    """The source, and again while it recovers."""
    return Plan(number, _pair(Victim.SOURCE, Victim.SOURCE, dice, SOURCE_STARTING))


def _in_order(dice: random.Random, number: int) -> Plan:
    """The source stops and starts as people do it, beside a second receiver."""
    first, second = dice.sample((Victim.RESTART, Victim.INTRUDER), 2)
    return Plan(number, _pair(first, second, dice, STARTING))


def _replica(dice: random.Random, number: int) -> Plan:
    """The replica, and the sender too while it is served again."""
    return Plan(number, _pair(Victim.REPLICA, Victim.SENDER, dice, LONGEST_WAIT))


def _chaos(dice: random.Random, number: int) -> Plan:
    """Any three, close together."""
    victims = dice.sample([v for v in Victim if v not in (Victim.RESTART, Victim.INTRUDER)], 3)
    return Plan(number, [Strike(victim, dice.uniform(0, LONGEST_WAIT / 2)) for victim in victims])


def _replica_alone(dice: random.Random, number: int) -> Plan:
    return Plan(number, [Strike(Victim.REPLICA, dice.uniform(0, LONGEST_WAIT))])


def _source_dark(dice: random.Random, number: int) -> Plan:
    return Plan(number, [Strike(Victim.SOURCE, dice.uniform(0, LONGEST_WAIT))], dark=True)


USUAL: tuple[Card, ...] = (
    _halves,
    _supervisor,
    _all,
    _power_cut,
    _receiver_then_source,
    _torn_by_us,
    _torn_by_the_source,
    _in_order,
    _replica,
    _chaos,
)
CALM: tuple[Card, ...] = (
    _source_dark,
    _source_dark,
    _source_again,
    _source_again,
    _source_again,
    _torn_by_the_source,
    _torn_by_the_source,
    _in_order,
    _replica_alone,
    _replica_alone,
)


def plan_round(seed: int, number: int) -> Plan:
    """The plan of round ``number``, from 1; the same for the same seed, whatever was played before."""
    deck, place = divmod(number - 1, DECK)
    cards = list(CALM if deck % CALM_EVERY == CALM_EVERY - 1 else USUAL)
    random.Random(f"{seed} deck {deck}").shuffle(cards)
    return cards[place](random.Random(f"{seed} round {number}"), number)
