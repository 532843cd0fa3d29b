"""The clients of one round: they commit, journal what returned, and come back to a source that comes back."""

from __future__ import annotations

import threading
import time

import pymysql

from testbed.binlogd import POLL_INTERVAL
from testbed.cluster import Load
from testbed.mysqld import Server, ServerFailed
from testbed.soak.site import PATIENCE, wait_for

THREADS = 4
GIANT_ROWS = 30
GIANT_ROW = 1_000_000
"""Bytes: with the rows, a transaction of 30 MB."""


class Clients:
    """Rows go into ``schema.load_rows``, one transaction each; those of the big one have negative ids."""

    def __init__(self, source: Server, schema: str) -> None:
        self.schema = schema
        self._source = source
        self._loads: list[Load] = []
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"clients of {schema}", daemon=True)
        self._giant: threading.Thread | None = None
        self._giant_returned: bool | None = None

    def start(self) -> None:
        """Begin to commit."""
        self._keeper.start()

    def _keep(self) -> None:
        """One load after the other: each ends when its source does."""
        while not self._stopping.is_set():
            try:
                load = Load(self._source, schema=self.schema, threads=THREADS)
            except (pymysql.err.Error, OSError):
                time.sleep(POLL_INTERVAL)
                continue
            self._loads.append(load.start())
            while load.is_running and not self._stopping.is_set():
                time.sleep(POLL_INTERVAL)

    def start_giant(self) -> None:
        """Begin the big transaction; the table must be there."""
        self._giant = threading.Thread(target=self._insert_giant, name=f"giant of {self.schema}", daemon=True)
        self._giant.start()

    def _insert_giant(self) -> None:
        numbers = f"JSON_TABLE(CONCAT('[1', REPEAT(',1', {GIANT_ROWS - 1}), ']'), '$[*]' COLUMNS (id FOR ORDINALITY)) n"
        self._giant_returned = False
        try:
            self._source.execute(
                f"INSERT INTO `{self.schema}`.load_rows SELECT -CAST(id AS SIGNED), REPEAT('x', {GIANT_ROW})"
                f" FROM {numbers}"
            )
            self._giant_returned = True
        except (pymysql.err.Error, OSError):
            pass  # cut off with the source

    @property
    def commits(self) -> int:
        """How many returned so far."""
        return sum(load.commits for load in self._loads) + bool(self._giant_returned)

    def wait_commits(self, more: int) -> None:
        """Wait until ``more`` than now have returned."""
        wanted = self.commits + more
        wait_for(lambda: self.commits >= wanted, f"{more} further commits")

    def wait_cut_off(self) -> None:
        """Wait until all have noticed that the source is dead: what had returned is then in the journal."""
        wait_for(lambda: not any(load.is_running for load in self._loads), "end of the clients of a dead source")
        self._join_giant()

    def leave(self) -> None:
        """Begin no further commit; whoever waits for one goes on waiting."""
        self._stopping.set()
        for load in self._loads:
            load.leave()

    def stop(self) -> None:
        """Let each finish its commit, and end."""
        self._stopping.set()
        self._keeper.join(PATIENCE)
        if self._keeper.is_alive():
            raise ServerFailed(f"the clients wait for {self._source!r} since {PATIENCE:.0f} s")
        for load in self._loads:
            load.stop(timeout=PATIENCE)
        self._join_giant()

    def _join_giant(self) -> None:
        if self._giant is not None:
            self._giant.join(PATIENCE)
            if self._giant.is_alive():
                raise ServerFailed(f"the big transaction does not return within {PATIENCE:.0f} s")

    @property
    def confirmed(self) -> frozenset[int]:
        """The ids whose commit returned."""
        return frozenset(i for load in self._loads for i in load.journal) | self._giant_ids(True)

    @property
    def uncertain(self) -> frozenset[int]:
        """The ids whose commit was cut off, and may be there."""
        return frozenset(i for load in self._loads for i in load.uncertain) | self._giant_ids(False)

    def _giant_ids(self, returned: bool) -> frozenset[int]:
        return frozenset(range(-GIANT_ROWS, 0)) if self._giant_returned is returned else frozenset()
