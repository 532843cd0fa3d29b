"""SHOW BINLOG EVENTS over a stored file: rows in steps, each read by a thread, however large the file is.

Of a file only what is published is shown, as it stood when the statement began. A step ends after so many events or
bytes, so that no thread works long, and what a client has not taken yet is never more than one step.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TypeAlias

from binlogd.binlog.description import describe
from binlogd.errors import EventError, Refusal, StoreError
from binlogd.sender.catalog import Catalog
from binlogd.sender.plan import Logs, named
from binlogd.sender.sql.refusals import cannot_show_events
from binlogd.sender.sql.results import EventListing
from binlogd.store.disk import explained
from binlogd.store.events import DamagedAt, read_events

STEP_EVENTS = 1000  # rows at a time, some milliseconds of work
STEP_BYTES = 256 * 1024  # of Info at a time, or one row that is larger

Row: TypeAlias = tuple[str, int, str, int, int, bytes]


class Listing:
    """The rows of one statement. Made on the event loop; ``step`` may be called from any thread, by one at a time."""

    def __init__(self, catalog: Catalog, asked: EventListing) -> None:
        self._rows = self._read(catalog, asked, catalog.logs.copy(), catalog.sources())
        self._damage: DamagedAt | None = None

    def step(self) -> list[Row] | None:
        """The next rows, perhaps none yet; None when there are no more. Refusal 1220 where the file is damaged."""
        rows: list[Row] = []
        size = 0
        try:
            if self._damage is not None:
                raise self._damage
            for count, row in enumerate(self._rows):
                if row is not None:
                    rows.append(row)
                    size += len(row[-1])
                if row is None or size >= STEP_BYTES or count >= STEP_EVENTS:
                    return rows
        except DamagedAt as bad:
            if rows:
                self._damage = bad  # told in the next step, behind what could be read
                return rows
            raise cannot_show_events(f"Error reading Log_event at position {bad.offset}: {bad.message}") from bad
        except (EventError, StoreError) as bad:
            raise cannot_show_events(bad.message) from bad
        return rows or None

    def close(self) -> None:
        """Let go of the file."""
        self._rows.close()

    @staticmethod
    def _read(
        catalog: Catalog, asked: EventListing, logs: Logs, sources: Mapping[int, str]
    ) -> Generator[Row | None, None, None]:
        if asked.file is None and not logs:
            return
        try:
            index = named(logs, asked.file or "", sources, catalog.announces, None)
        except Refusal as refusal:
            raise cannot_show_events(refusal.message) from refusal
        if index is None or asked.file == "":
            raise cannot_show_events("Could not find target log")
        log, path = logs[index], catalog.path(index)
        called = log.name if sum(other.name == log.name for other in logs) == 1 else log.qualified
        passed, shown = 0, 0
        with explained("read", path), open(path, "rb", buffering=0) as file:
            for event in read_events(file.fileno(), log.size, begin=asked.position, marks=catalog.marks(index)):
                if event is None:
                    yield None
                    continue
                if passed < asked.offset:
                    passed += 1
                    continue
                name, info = describe(event.header, event.data, event.checksum_length, mariadb=event.mariadb)
                yield called, event.offset, name, event.header.server_id, event.end_log_pos, info
                shown += 1
                if shown == asked.count:
                    return
