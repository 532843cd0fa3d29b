"""SHOW BINLOG EVENTS over a stored file: rows in steps, each read by a thread, however large the file is.

Of a file only what is published is shown, as it stood when the statement began. A step ends after so many events or
bytes, so that no thread works long, and what a client has not taken yet is never more than one step.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeAlias

from binlogd.binlog.description import describe
from binlogd.errors import EventError, Refusal, StoreError
from binlogd.sender.catalog import Catalog
from binlogd.sender.plan import named
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
        self._path: Path | None = None
        self._name = ""
        self._rows: Iterator[Row | None] = iter(())
        self._damage: DamagedAt | None = None
        if asked.file is None and not catalog.logs:
            return
        try:
            index = named(catalog.logs, asked.file or "", catalog.sources(), catalog.announces, None)
        except Refusal as refusal:
            raise cannot_show_events(refusal.message) from refusal
        if index is None or asked.file == "":
            raise cannot_show_events("Could not find target log")
        log = catalog.logs[index]
        unique = sum(other.name == log.name for other in catalog.logs) == 1
        self._path, self._name = catalog.path(index), log.name if unique else log.qualified
        self._rows = self._read(self._path, log.size, asked, catalog, index)

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
        if isinstance(self._rows, Generator):
            self._rows.close()

    def _read(self, path: Path, end: int, asked: EventListing, catalog: Catalog, index: int) -> Iterator[Row | None]:
        passed, shown = 0, 0
        with explained("read", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for event in read_events(descriptor, end, begin=asked.position, marks=catalog.marks(index)):
                if event is None:
                    yield None
                    continue
                if passed < asked.offset:
                    passed += 1
                    continue
                name, info = describe(event.header, event.data, event.checksum_length)
                yield self._name, event.offset, name, event.header.server_id, event.end, info
                shown += 1
                if shown == asked.count:
                    return
        finally:
            os.close(descriptor)
