"""A process of null clients: each receives a dump in 1 MiB reads into one buffer that nobody looks at.

What they cost is the same whoever serves them, and none of it is the server's or the benchmark's own. The other end is
``NullClients``; lines of JSON go between the two::

    ◄ {"ready": true}                                             all have logged in
    ► {"file": "mysql-bin.000001", "position": 4}
    ◄ {"began": …, "ended": [… a time each], "bytes": [… a number each], "cpu_s": …, "peak_bytes": …}

Times are ``time.monotonic``, which is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import selectors
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.bench.clients import LONGEST_END, PATIENCE, Address, Client, ends_dump
from testbed.bench.usage import cpu_seconds, peak_bytes
from testbed.processes import tied

READ = 1 << 20  # bytes received at once
ROOT = Path(__file__).parents[2]


class ReadersFailed(RuntimeError):
    """The process of the clients ended, or received less than there was."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clients saw: when the dump was asked for, when each had all, the bytes each received."""

    began: float
    ended: list[float]
    bytes: list[int]
    cpu_s: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Until the last one had everything."""
        return max(self.ended) - self.began


class Helper:
    """A process of ours that talks in lines of JSON and ends with us."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        argv = tied([sys.executable, "-m", module, *arguments])
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ReadersFailed(f"the process of the clients ended with code {self.process.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard


class NullClients(Helper):
    """``count`` clients in a process of their own, logged in once this is made."""

    def __init__(self, address: Address, count: int = 1) -> None:
        self.started = time.monotonic()
        super().__init__(__name__, [json.dumps(asdict(address)), str(count)])
        self.count = count
        try:
            self.hear()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def read(self, file: str, at_least: int) -> Reading:
        """Have all receive everything from the beginning of ``file``, which is ``at_least`` that many bytes."""
        self.say({"file": file, "position": 4})
        reading = Reading(**self.hear())
        if min(reading.bytes) < at_least:
            raise ReadersFailed(f"a null client received {min(reading.bytes)} bytes of at least {at_least}")
        return reading


def receive(clients: Sequence[Client]) -> tuple[list[float], list[int]]:
    """Read all dumps to their ends; (when, how many bytes) of each."""
    buffer = memoryview(bytearray(READ))
    ended, totals, tails = [0.0] * len(clients), [0] * len(clients), [b""] * len(clients)
    with selectors.DefaultSelector() as selector:
        for number, client in enumerate(clients):
            client.socket.setblocking(False)
            selector.register(client.socket, selectors.EVENT_READ, number)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready:
                raise ReadersFailed(f"nothing was received for {PATIENCE:.0f} s")
            for key, _ in ready:
                number, link = key.data, clients[key.data].socket
                while True:
                    try:
                        size = link.recv_into(buffer)
                    except (ssl.SSLWantReadError, BlockingIOError):
                        break
                    if not size:
                        raise ReadersFailed("the server closed the connection in the middle of a dump")
                    totals[number] += size
                    tails[number] = (tails[number] + buffer[max(0, size - LONGEST_END) : size])[-LONGEST_END:]
                    if ends_dump(tails[number]):
                        ended[number] = time.monotonic()
                        selector.unregister(link)
                        break
                    if not isinstance(link, ssl.SSLSocket):
                        break  # the selector tells of more; it cannot tell of what TLS has read ahead
    return ended, totals


def main() -> None:
    """The process."""
    address, count = Address(**json.loads(sys.argv[1])), int(sys.argv[2])
    clients = [Client(address, number) for number in range(count)]
    for client in clients:
        client.announce()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        began = time.monotonic()
        for client in clients:
            client.dump(order["file"], order["position"])
        ended, totals = receive(clients)
        reading = Reading(began, ended, totals, cpu_seconds(os.getpid()), peak_bytes(os.getpid()))
        print(json.dumps(asdict(reading)), flush=True)


if __name__ == "__main__":
    main()
