"""The gate: what strangers may cost, and how fast they may guess.

Whoever has not logged in is a stranger. Three things are theirs, each apart from the places of those who are in:

    entering    STRANGERS in all and STRANGERS_PER_ADDRESS of one address. When they are taken, the one that has been at
                it longest gives way: of the same address, or else of the address that has most. So connections that
                never log in keep nobody out; whoever really logs in needs a few round trips.
    waiting     a refused login hears so only after a delay, which doubles with every further refusal of its address.
                WAITING_PER_ADDRESS of an address may wait so; while they do, their address is turned away (1040), so
                many connections make guessing little faster than one. In all WAITING wait: the oldest gives way.
    working     the milliseconds that a full login takes to compute are taken by one login at a time, a step at a time,
                and behind each step is a rest of ``REST`` × its length: however many strangers there are, three fourths
                of the processor are left to the replicas, and none of them waits longer than for one step.

Those who are in are at most ``max_connections``; beyond that even the right password is answered with 1040. An address
is an IPv4 address or the /64 of an IPv6 one, which is what one customer has. Refusals are remembered of ADDRESSES
addresses, and each for FORGET seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from binlogd.errors import Refusal

STRANGERS = 256  # as many as may be logged in by default: all replicas of a large site come back at once
STRANGERS_PER_ADDRESS = 64  # behind one address translation may stand a whole site
WAITING = 256
WAITING_PER_ADDRESS = 16
DELAY = 0.1  # seconds before the first refusal: a typo is not noticed
LONGEST_DELAY = 3.2  # seconds, from the sixth on: with all connections 25 guesses a second from one address
ADDRESSES = 4096  # < 1 MiB; the one refused longest ago is forgotten first
FORGET = 600.0  # seconds
REST = 3  # × the time of a step

TOO_MANY = Refusal(1040, "08004", "Too many connections")


class Guest(Hashable, Protocol):
    """A connection."""

    @property
    def address(self) -> str:
        """Where it comes from."""

    def end(self, reason: Refusal | None) -> None:
        """End it."""


class _Crowd:
    """Connections in the order in which they came, by address."""

    def __init__(self) -> None:
        self._members: dict[Guest, str] = {}
        self._places: dict[str, OrderedDict[Guest, None]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def of(self, place: str) -> int:
        """How many are from there."""
        return len(self._places.get(place, ()))

    def add(self, guest: Guest, place: str) -> None:
        self._members[guest] = place
        self._places.setdefault(place, OrderedDict())[guest] = None

    def discard(self, guest: Guest) -> None:
        place = self._members.pop(guest, None)
        if place is not None:
            members = self._places[place]
            del members[guest]
            if not members:
                del self._places[place]

    def oldest(self, place: str | None = None) -> Guest:
        """The oldest from there, or from where most are."""
        members = self._places[place] if place is not None else max(self._places.values(), key=len)
        return next(iter(members))


class Gate:
    """See the module. ``clock`` gives seconds. Belongs to one event loop."""

    def __init__(self, max_connections: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_connections = max_connections
        self._clock = clock
        self._inside: set[Guest] = set()
        self._entering = _Crowd()
        self._waiting = _Crowd()
        self._refusals: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and when the last was
        self._bench = asyncio.Lock()

    @property
    def inside(self) -> int:
        """How many are logged in."""
        return len(self._inside)

    @property
    def strangers(self) -> int:
        """How many are not."""
        return len(self._entering) + len(self._waiting)

    @property
    def remembered(self) -> int:
        """Of how many addresses refusals are remembered."""
        return len(self._refusals)

    def turns_away(self, address: str) -> Refusal | None:
        """Whether a connection from there is not even greeted, and with what words."""
        full = len(self._inside) >= self.max_connections
        return TOO_MANY if full or self._waiting.of(_place(address)) >= WAITING_PER_ADDRESS else None

    def enter(self, guest: Guest) -> None:
        """It was greeted; another gives way where there is no room."""
        place = _place(guest.address)
        if self._entering.of(place) >= STRANGERS_PER_ADDRESS:
            self._give_way(self._entering, place)
        elif len(self._entering) >= STRANGERS:
            self._give_way(self._entering)
        self._entering.add(guest, place)

    def admit(self, guest: Guest) -> Refusal | None:
        """It has logged in; the refusal when those inside are too many already."""
        if len(self._inside) >= self.max_connections:
            return TOO_MANY
        self._entering.discard(guest)
        self._inside.add(guest)
        return None

    def refuse(self, guest: Guest) -> float:
        """Its login failed; seconds to wait before it may hear so."""
        place = _place(guest.address)
        self._entering.discard(guest)
        if len(self._waiting) >= WAITING:
            self._give_way(self._waiting)
        self._waiting.add(guest, place)
        now = self._clock()
        count, last = self._refusals.pop(place, (0, now))
        count = 1 if now - last > FORGET else count + 1
        self._refusals[place] = count, now
        if len(self._refusals) > ADDRESSES:
            self._refusals.popitem(last=False)
        delay: float = min(DELAY * 2.0 ** min(count - 1, 16), LONGEST_DELAY)
        return delay * random.uniform(1.0, 1.25)  # noqa: S311 - no secret

    def leave(self, guest: Guest) -> None:
        """It is gone."""
        self._entering.discard(guest)
        self._waiting.discard(guest)
        self._inside.discard(guest)

    async def work(self, step: Callable[[], bool]) -> None:
        """Call ``step`` until it returns False, with a rest behind each; one at a time is worked for."""
        async with self._bench:
            while True:
                began = time.perf_counter()
                more = step()
                await asyncio.sleep(REST * (time.perf_counter() - began))
                if not more:
                    return

    @staticmethod
    def _give_way(crowd: _Crowd, place: str | None = None) -> None:
        guest = crowd.oldest(place)
        crowd.discard(guest)
        guest.end(None)


def _place(address: str) -> str:
    """What counts as one address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return str(IPv6Address(int(parsed) >> 64 << 64))
