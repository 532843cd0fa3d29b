"""The stored files as a picture can show them: condensed, however many there are, and page by page.

A finished file never changes, so what its .idx says is read once and kept; each further look lists the folders and
asks for sizes. Nothing is walked: a file without a sound .idx is shown without what only a walk would tell (the
receiver makes it again). What is kept of a file is a few hundred bytes.

A timeline becomes at most MOST_CELLS cells, each of as many files in a row as it takes; all timelines together at most
MOST_ALL, but one each.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from binlogd.errors import BinlogdError
from binlogd.store.index import read_recorded
from binlogd.store.layout import DataFolder, Timeline
from binlogd.store.removed import files_left
from binlogd.store.removed import load as load_removed

MOST_CELLS = 160  # in a timeline: what a map shows of one at a glance
MOST_ALL = 640  # in all: some hundred bytes of JSON each
MOST_LISTED = 200  # files in one page of a list
MOST_GTIDS = 200  # characters of a GTID set that are kept: enough to recognise it


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file. Times in seconds since the epoch, 0 when there is none; None is not known."""

    name: str
    size: int
    transactions: int | None
    first_time: int
    last_time: int
    gtids: str
    state: str  # finished | newest | damaged

    def as_json(self) -> dict[str, Any]:
        """For a list."""
        return {
            "name": self.name,
            "size": self.size,
            "transactions": self.transactions,
            "first_time": self.first_time or None,
            "last_time": self.last_time or None,
            "gtids": self.gtids,
            "state": self.state,
        }


class Inventory:
    """What is stored in a data folder, as of at most ``keep`` seconds ago. May be asked from any thread."""

    def __init__(self, folder: DataFolder, *, keep: float = 0.0) -> None:
        self._folder = folder
        self._keep = keep
        self._stored_at = -math.inf
        self._found: list[tuple[Timeline, list[Entry]]] = []
        self._kept: dict[Path, Entry] = {}
        self._lock = threading.Lock()

    def condensed(self, status: dict[str, Any]) -> dict[str, Any]:
        """Every timeline, with the cells of its map."""
        stored = self._stored(status)
        most = max(min(MOST_CELLS, MOST_ALL // max(len(stored), 1)), 1)
        return {
            "files": sum(len(entries) for _, entries in stored),
            "bytes": sum(entry.size for _, entries in stored for entry in entries),
            "timelines": [_timeline(timeline, entries, most) for timeline, entries in stored],
        }

    def listed(self, status: dict[str, Any], number: int, offset: int, limit: int) -> dict[str, Any]:
        """``limit`` files of one timeline from the ``offset``-th on, oldest first."""
        entries = next((entries for timeline, entries in self._stored(status) if timeline.number == number), [])
        shown = entries[offset : offset + min(limit, MOST_LISTED)]
        return {
            "timeline": number,
            "offset": offset,
            "files": len(entries),
            "list": [entry.as_json() for entry in shown],
        }

    def _stored(self, status: dict[str, Any]) -> list[tuple[Timeline, list[Entry]]]:
        with self._lock:
            if time.monotonic() - self._stored_at >= self._keep:
                self._found = self._look(status)
                self._stored_at = time.monotonic()
            return self._found

    def _look(self, status: dict[str, Any]) -> list[tuple[Timeline, list[Entry]]]:
        store = status["store"]
        damaged = frozenset((file["timeline"], file["file"]) for file in store["damaged"])
        left: list[tuple[Timeline, str]] = []
        with suppress(BinlogdError):  # status["store"]["error"] tells of it
            left = files_left(self._folder, load_removed(self._folder.binlogs).first)
        listing = [(timeline, [name for _, name in group]) for timeline, group in groupby(left, key=itemgetter(0))]
        kept: dict[Path, Entry] = {}
        stored = []
        for timeline, names in listing:
            newest = names[-1] if timeline is listing[-1][0] else ""
            entries = []
            for name in names:
                path = timeline.path / name
                entry = _newest(path, status) if name == newest else self._finished(path, kept)
                if entry is not None:
                    entries.append(replace(entry, state="damaged") if (timeline.number, name) in damaged else entry)
            stored.append((timeline, entries))
        self._kept = kept
        return stored

    def _finished(self, path: Path, kept: dict[Path, Entry]) -> Entry | None:
        size = _size(path)
        if size is None:
            return None
        entry = self._kept.get(path)
        # Without figures its .idx is looked for again: the receiver may have made it meanwhile.
        if entry is None or entry.size != size or entry.transactions is None:
            entry = _read(path, size)
        kept[path] = entry
        return entry


def _size(path: Path) -> int | None:
    with suppress(OSError):  # removed since it was listed
        return path.stat().st_size
    return None


def _read(path: Path, size: int) -> Entry:
    summary = read_recorded(path)
    if summary is None:
        return Entry(path.name, size, None, 0, 0, "", "finished")
    gtids = summary.added.compact()
    if len(gtids) > MOST_GTIDS:
        gtids = gtids[: MOST_GTIDS - 1] + "…"
    state = "finished" if summary.size == size else "damaged"
    return Entry(path.name, size, summary.transactions, summary.first_time, summary.last_time, gtids, state)


def _newest(path: Path, status: dict[str, Any]) -> Entry | None:
    """It has no .idx yet: what counts of it is what is published."""
    published = status["store"]["published"]
    size = published["position"] if published["file"] == path.name else _size(path)
    last = status["source"].get("last_event_time") or 0
    return None if size is None else Entry(path.name, size, None, 0, int(last), "", "newest")


def _timeline(timeline: Timeline, entries: Sequence[Entry], most: int) -> dict[str, Any]:
    per_cell = -(-len(entries) // most) or 1
    return {
        "number": timeline.number,
        "source_uuid": timeline.source_uuid,
        **_sums(entries),
        "cells": [
            {"offset": first, **_sums(entries[first : first + per_cell])} for first in range(0, len(entries), per_cell)
        ],
    }


def _sums(entries: Sequence[Entry]) -> dict[str, Any]:
    """What some files in a row amount to."""
    states = {entry.state for entry in entries}
    return {
        "first": entries[0].name if entries else "",
        "last": entries[-1].name if entries else "",
        "files": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "transactions": sum(entry.transactions or 0 for entry in entries),
        "first_time": _first(entry.first_time for entry in entries),
        "last_time": max((entry.last_time for entry in entries), default=0) or None,
        "state": next((state for state in ("damaged", "newest") if state in states), "finished"),
    }


def _first(times: Iterable[int]) -> int | None:
    return min(filter(None, times), default=None)
