"""The status as the contract gives it (interface.md), put together from what the processes say and what is on disk.

Collected outside the processes that work, so that asking costs them one snapshot. A part that does not answer is
missing from nobody's status: its section says that it is not running, and the store is read from disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from binlogd import __version__
from binlogd.control.failing_over import out_of_reach, statements
from binlogd.control.sockets import RECEIVER, SENDER, ask_status
from binlogd.errors import BinlogdError
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import StoredFile, publication_of, read_file, read_store
from binlogd.store.removed import files_left
from binlogd.store.removed import load as load_removed

MISSING_HINT = "what the source still has is fetched again by itself; see who changes files in the data folder"
CORRUPT_TIMES = 3  # in a row at one place, before it is an alarm: once or twice is a network's hiccup
LOST_AFTER = 10.0  # seconds without a source before it is an alarm: a restart is shorter


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that endangers data or service, until it is over. ``since`` in seconds since the epoch."""

    severity: str
    code: str
    since: float | None
    message: str
    hint: str


def collect(folder: DataFolder) -> dict[str, Any]:
    """The whole status. Takes a moment: it asks two sockets and looks at every file's size."""
    receiver = ask_status(folder.path / RECEIVER)
    sender = ask_status(folder.path / SENDER)
    store = store_status(folder, receiver)
    identity = (receiver or sender or {}).get("identity", {})
    source = receiver["source"] if receiver else {"state": "stopped"}
    found = alarms(receiver, sender, store["error"], store["damaged"], store["timeline"])
    return {
        "version": __version__,
        "server_id": identity.get("server_id"),
        "server_uuid": identity.get("server_uuid"),
        "uptime_s": max((part["uptime_s"] for part in (receiver, sender) if part), default=None),
        "source": source,
        "store": store,
        "processes": {"receiver": _process(receiver), "sender": _process(sender)},
        "server": _server(sender),
        "replicas": _replicas(sender, source),
        "archive": None,
        "alarms": [asdict(alarm) for alarm in found],
    }


def store_status(folder: DataFolder, receiver: dict[str, Any] | None) -> dict[str, Any]:
    """The ``store`` section. What cannot be read is missing from it, and ``error`` says why."""
    files = size = 0
    damaged: list[dict[str, Any]] = []
    oldest_time = error = space = None
    publication = NOTHING
    try:
        if receiver is not None and receiver["publication"] is not None:
            publication = Publication.decode(receiver["publication"])
            damaged, first = receiver.get("damaged", []), publication.first
        else:
            first = load_removed(folder.binlogs).first
        listing = files_left(folder, first)  # what was removed may be there for a while yet
        files = len(listing)
        size = sum(_size(timeline.path / name) for timeline, name in listing)
        if receiver is None or receiver["publication"] is None:
            publication = publication_of(_noting(read_store(folder), damaged))
        if files > 1:
            oldest_time = read_file(*listing[0], finished=True).summary.first_time or None
    except BinlogdError as bad:
        error = str(bad)
    with suppress(OSError):  # no folder yet
        space = os.statvfs(folder.path)
    return {
        "timeline": publication.timeline or None,
        "published": {"file": publication.file, "position": publication.position},
        "gtid_executed": publication.executed.compact(),
        "gtid_purged": publication.purged.compact(),
        "files": files,
        "bytes": size,
        "free_bytes": space.f_bavail * space.f_frsize if space else None,
        "disk_bytes": space.f_blocks * space.f_frsize if space else None,
        "oldest_time": oldest_time,
        "retention": receiver.get("retention") if receiver is not None else None,
        "error": error,
        "damaged": damaged,
    }


def _noting(files: Iterable[StoredFile], damaged: list[dict[str, Any]]) -> Iterator[StoredFile]:
    for file in files:
        if file.damage:
            damaged.append(file.alarm())
        yield file


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # removed since it was listed
        return path.stat().st_size
    return 0


def alarms(
    receiver: dict[str, Any] | None,
    sender: dict[str, Any] | None,
    store_error: str | None = None,
    damaged: Iterable[dict[str, Any]] = (),
    newest_timeline: int | None = None,
) -> list[Alarm]:
    """What is wrong now. ``damaged`` are stored files; the sender knows of those that it came to.

    With several timelines a name may be that of several files, and each is told by its qualified one.
    """
    found = []
    each = {(file["timeline"], file["file"]): file for file in (*damaged, *(sender or {}).get("damaged", []))}
    for (timeline, name), file in each.items():
        if newest_timeline is not None and newest_timeline > 1:
            name = f"{timeline:04}:{name}"
        found.append(Alarm("critical", "store_damaged", None, f"{name}: {file['message']}", file["hint"]))
    if store_error is not None:
        found.append(Alarm("critical", "store_unreadable", None, store_error, ""))
    if receiver is None:
        found.append(Alarm("critical", "receiver_down", None, "no receiver runs on this store", "start binlogd run"))
    else:
        stopped = not receiver.get("orders", {"running": True})["running"]
        way_out = _way_out(receiver["publication"], sender["listen"]) if sender is not None else ""
        found += [_stopped(receiver["source"])] if stopped else _source_alarms(receiver["source"], way_out)
        blocked = (receiver.get("retention") or {}).get("blocked_by")
        found += [_blocked(blocked)] if blocked else []
    if sender is None:
        found.append(
            Alarm("critical", "sender_down", None, "nothing serves this store to replicas", "start binlogd run")
        )
    return found


def _way_out(publication: dict[str, Any] | None, listen: str) -> str:
    typed = statements(publication, listen)
    if not typed:
        return ""
    return f"{typed} at each replica that is behind, if the source stays away; {out_of_reach(listen)}".removesuffix(
        "; "
    )


def _blocked(blocked: dict[str, Any]) -> Alarm:
    return Alarm(
        "warning",
        "retention_blocked",
        None,
        f"{blocked['files']} files should be removed ({blocked['reason']}) and stay, from {blocked['file']} on: an"
        " attached replica has not read them yet",
        "see which replica lags in `binlogd status`; detach it when given up, or raise store.keep or store.max_size",
    )


def _source_alarms(source: dict[str, Any], way_out: str) -> list[Alarm]:
    missing = source["missing"]
    found = [Alarm("critical", "store_missing", None, missing, MISSING_HINT)] if missing else []
    return found + _stream_alarms(source, way_out)


def _stopped(source: dict[str, Any]) -> Alarm:
    return Alarm(
        "warning",
        "receiving_stopped",
        None,
        "receiving was stopped by STOP REPLICA: what the source commits now is not kept here",
        f"START REPLICA goes on; the source must still have its binary logs from {source['file'] or 'the first'} on",
    )


def _stream_alarms(source: dict[str, Any], way_out: str) -> list[Alarm]:
    state, since = source["state"], source["since"]
    message, hint = source["last_error"] or "", source["last_hint"] or ""
    if source["alarm"]:
        return [Alarm("critical", source["alarm"], source["lost_at"], f"receiving has stopped: {message}", hint)]
    corruption = source["corruption"]
    if corruption and corruption["times"] >= CORRUPT_TIMES:
        return [_corrupt_stream(corruption, message)]
    if state in ("backoff", "connecting") and source["lost_at"] and time.time() - source["lost_at"] > LOST_AFTER:
        if way_out:
            hint = f"{way_out}; {hint}".removesuffix("; ")
        return [Alarm("critical", "source_lost", source["lost_at"], message, hint)]
    if state == "streaming" and source["semi_sync_wanted"] and not source["semi_sync"]:
        if source["cascade"]:
            return [_no_semi_sync_of_binlogd(since)]
        return [
            Alarm(
                "warning",
                "no_semi_sync",
                since,
                "the source does not wait for our acknowledgement: what it commits can be lost with it",
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so' if it is not there, then"
                " SET PERSIST rpl_semi_sync_source_enabled = 1",
            )
        ]
    return []


def _no_semi_sync_of_binlogd(since: float) -> Alarm:
    """Nothing that one could mend at the source: it waits for nobody."""
    return Alarm(
        "warning",
        "no_semi_sync",
        since,
        "the source is a binlogd, which acknowledges to its own source: no commit waits for this copy",
        "set source.semi_sync = false to say that this is meant; a commit waits for two binlogds when both follow the"
        " MySQL source, with rpl_semi_sync_source_wait_for_replica_count = 2",
    )


def _corrupt_stream(corruption: dict[str, Any], message: str) -> Alarm:
    """The source sends the same bad bytes again and again, so asking again will not mend it."""
    file, position = corruption["file"], corruption["position"]
    return Alarm(
        "critical",
        "corrupt_stream",
        corruption["since"],
        f"{corruption['times']} times in a row what the source sent of {file} at {position} was corrupt: its own file"
        f" or the network is damaged; nothing from there on is stored ({message})",
        f"run at the source: mysqlbinlog --verify-binlog-checksum {file}; when it finds nothing, look for what alters"
        " the connection, and use TLS",
    )


def _process(part: dict[str, Any] | None) -> dict[str, Any]:
    if part is None:
        return {"up": False}
    return {"up": True, "pid": part.get("pid"), "started": part.get("started"), "uptime_s": part["uptime_s"]}


def _server(sender: dict[str, Any] | None) -> dict[str, Any]:
    if sender is None:
        return {"state": "stopped"}
    names = (
        "listen", "connections", "max_connections", "connections_accepted", "logins_refused", "sent_bytes",
        "sent_events",
    )  # fmt: skip
    return {"state": "serving"} | {name: sender[name] for name in names}


def _replicas(sender: dict[str, Any] | None, source: dict[str, Any]) -> list[dict[str, Any]]:
    if sender is None:
        return []
    newest = source.get("last_event_time")
    replicas: list[dict[str, Any]] = sender["replicas"]
    for replica in replicas:
        # A replica that has everything does not lag, however old the newest event is.
        behind = replica["lag_bytes"] > 0 and newest is not None and replica["last_event_time"]
        replica["lag_seconds"] = max(newest - replica["last_event_time"], 0) if behind else 0
    return replicas
