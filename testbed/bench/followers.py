"""A process of live readers, and of one *reference* reader that is directly at the source: how late is each of them?

All are logged in and registered as replicas, ask by GTID for what comes after a source that is idle, and wait. From
then on every stream is the same bytes, whoever sends it: what the source logs, packet by packet. (The heartbeat is on
and its period longer than any silence in a run.) So nobody has to look into what arrives. Each piece that the
reference receives ends at a number of bytes; a reader's delay for this piece is the time at which it has received as
many, less the time at which the reference had. Both are read in one process, by one clock, the reference first. At the
end all must have received the same number of bytes, or the streams were not the same.

Delays go into histograms, so that a run may take long. Lines of JSON, the other end is ``Followers``::

    ◄ {"ready": true}                 all wait at the end of the source's history
    ► {"end": true}                   the load is over: read what is under way, and say what was seen
    ◄ {"p50_s": …, "p99_s": …, "max_s": …, "pieces": …, "bytes": …, "cpu_s": …, "series": {…}}
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from binlogd.binlog.gtid import GtidSet
from testbed.bench.clients import Address, Client, reset_on_close
from testbed.bench.readers import Helper, ReadersFailed
from testbed.bench.usage import cpu_seconds

READ = 1 << 18  # bytes received at once
QUIET = 0.5  # seconds without a byte: everything has arrived
SETTLE = 60.0  # seconds until it must have
HEARTBEAT = 30.0  # seconds, a MySQL replica's default

FINE = 1e-4  # seconds: the histogram of all
FINE_BINS = 100_000  # up to 10 s, and what took longer
COARSE = 10  # fine bins in one of a second's histogram: 1 ms
ORDERS = -1  # beside the numbers of the readers


class Delays:
    """Histograms of delays: of all, and of each second."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.worst = 0.0
        self._all = array("Q", bytes(8 * FINE_BINS))
        self._seconds: list[dict[int, int]] = []

    def add(self, delay: float, now: float) -> None:
        """A piece came ``delay`` seconds late."""
        self.worst = max(self.worst, delay)
        fine = min(int(delay / FINE), FINE_BINS - 1)
        self._all[fine] += 1
        second = int(now - self.began)
        while len(self._seconds) <= second:
            self._seconds.append({})
        coarse = fine // COARSE
        bins = self._seconds[second]
        bins[coarse] = bins.get(coarse, 0) + 1

    @property
    def count(self) -> int:
        return sum(self._all)

    def percentile(self, share: float) -> float:
        """The seconds that so many were late at most, rounded up to a tenth of a millisecond."""
        wanted, seen = share * self.count, 0
        for fine, count in enumerate(self._all):
            seen += count
            if count and seen >= wanted:
                return min((fine + 1) * FINE, self.worst)
        return self.worst

    def series(self) -> dict[str, list[float]]:
        """Median, 99th percentile and the most of each second, to a millisecond."""
        shares = {"delay_p50_s": 0.5, "delay_p99_s": 0.99, "delay_max_s": 1.0}
        return {name: [_percentile(bins, share) / 1000 for bins in self._seconds] for name, share in shares.items()}


def _percentile(bins: dict[int, int], share: float) -> int:
    """Of a histogram: the bin in which so many are reached; 0 when it is empty."""
    wanted, seen = share * sum(bins.values()), 0
    for at in sorted(bins):
        seen += bins[at]
        if seen >= wanted:
            return at
    return 0


class Followers(Helper):
    """``count`` readers of ``served`` and one of ``source`` in a process of their own, waiting once this is made."""

    def __init__(self, source: Address, served: Address, count: int, has: str) -> None:
        super().__init__(__name__, [json.dumps([asdict(source), asdict(served)]), str(count), has])
        try:
            self.hear()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def end(self) -> dict[str, Any]:
        """What was seen until all is read."""
        self.say({"end": True})
        return self.hear()


class Watch:
    """Reads all clients; ``clients[0]`` is the reference. A line from ``orders`` tells to end."""

    def __init__(self, clients: Sequence[Client], orders: TextIO) -> None:
        self._orders = orders
        self._clients = clients
        self._buffer = bytearray(READ)
        self._selector = selectors.DefaultSelector()
        for number, client in enumerate(clients):
            client.socket.setblocking(False)
            self._selector.register(client.socket, selectors.EVENT_READ, number)
        self._selector.register(orders, selectors.EVENT_READ, ORDERS)
        self.told = False
        self.forget()

    def forget(self) -> None:
        """Count from here on."""
        self.totals = [0] * len(self._clients)
        self._times: list[float] = []  # of the reference's pieces
        self._ends: list[int] = []  # bytes up to the end of each
        self._next = [0] * len(self._clients)  # the piece that a reader has not wholly got yet
        self.delays = Delays()

    def step(self, timeout: float) -> bool:
        """Read whatever there is; whether there was anything."""
        ready = self._selector.select(timeout)
        for number in sorted(key.data for key, _ in ready):  # the reference before all others
            if number == ORDERS:
                self._orders.readline()
                self._selector.unregister(self._orders)
                self.told = True
                continue
            try:
                size = self._clients[number].socket.recv_into(self._buffer)
            except BlockingIOError:
                continue
            if not size:
                raise ReadersFailed(f"a server closed the connection of reader {number}")
            now = time.monotonic()
            self.totals[number] += size
            if number:
                self._arrived(number, now)
            else:
                self._sent(now)
        return bool(ready)

    def until_quiet(self) -> None:
        """Read until nothing comes any more."""
        deadline = time.monotonic() + SETTLE
        while self.step(QUIET):
            if time.monotonic() > deadline:
                raise ReadersFailed(f"the streams do not end within {SETTLE:.0f} s of the load")

    def _sent(self, now: float) -> None:
        """The reference has a piece; readers may have been faster."""
        piece, end = len(self._ends), self.totals[0]
        self._times.append(now)
        self._ends.append(end)
        for number in range(1, len(self.totals)):
            if self._next[number] == piece and self.totals[number] >= end:
                self._next[number] += 1
                self.delays.add(0.0, now)

    def _arrived(self, number: int, now: float) -> None:
        """A reader has more: perhaps pieces to their ends."""
        piece, total = self._next[number], self.totals[number]
        while piece < len(self._ends) and self._ends[piece] <= total:
            self.delays.add(now - self._times[piece], now)
            piece += 1
        self._next[number] = piece


def main() -> None:
    """The process."""
    source, served = (Address(**address) for address in json.loads(sys.argv[1]))
    count, has = int(sys.argv[2]), GtidSet.parse(sys.argv[3])
    clients = [Client(source if number == 0 else served, number) for number in range(count + 1)]
    for client in clients:
        client.announce(heartbeat=HEARTBEAT)
        client.register()
        client.dump_gtid(has, blocking=True)
    watch = Watch(clients, sys.stdin)
    watch.until_quiet()
    watch.forget()
    used = cpu_seconds(os.getpid())
    print(json.dumps({"ready": True}), flush=True)
    while not watch.told:
        watch.step(HEARTBEAT)
    watch.until_quiet()
    if len(set(watch.totals)) != 1 or not watch.totals[0]:
        raise ReadersFailed(f"the streams differ: {sorted(set(watch.totals))} bytes")
    delays = watch.delays
    seen = {
        "p50_s": delays.percentile(0.5),
        "p99_s": delays.percentile(0.99),
        "max_s": delays.worst,
        "pieces": delays.count,
        "bytes": watch.totals[0],
        "cpu_s": cpu_seconds(os.getpid()) - used,
        "series": delays.series(),
    }
    print(json.dumps(seen), flush=True)
    for client in clients:
        reset_on_close(client.socket)
        client.close()


if __name__ == "__main__":
    main()
