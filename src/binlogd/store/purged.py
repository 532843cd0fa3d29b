"""GTIDs that a source counts as executed and that none of our files names: ``gtid_purged.json`` of the timeline.

A server that was restored or cloned has ``gtid_purged`` set: what the backup holds. MySQL 5.6 writes that into the
PREVIOUS_GTIDS of its next files. MySQL 9.7 has it in the table mysql.gtid_executed alone, and it stays out of
PREVIOUS_GTIDS for ever, over restarts too, as does what is added later by ``SET GLOBAL gtid_purged = '+…'``. The source
itself refuses a replica that lacks it, and its files do not say why.

So the receiver asks for it, and keeps here what of it no file of ours holds: when a timeline begins, and again each
time the source has proved that it goes on with our history. (Only then is its file there in which ours ends, and with
it all behind it: what it has purged and we lack cannot be transactions that stood there.) What the source purged by
retention we hold, and it is no part of this. (What we removed ourselves stands in removed.py.) It is never taken back,
but what any file turns out to hold does not count as purged (``without``).

Beside the set stands its CRC-32. A missing or unsound file says nothing: the files then count alone, until that source
says it again. One that is there and cannot be read (a failing disk, no file descriptors) is an error: taken for
an empty one it would be written over with less.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from binlogd.binlog.crc import crc32
from binlogd.binlog.gtid import GtidSet
from binlogd.store.disk import Disk, explained

FILE = "gtid_purged.json"


def load(folder: Path) -> GtidSet:
    """What is kept in a timeline's folder; empty when there is nothing, or nothing sound."""
    content = _content(folder / FILE)
    return GtidSet() if content is None else _decode(content) or GtidSet()


def save(disk: Disk, folder: Path, gtids: GtidSet) -> None:
    """Keep this set and no other, durably, unless it is what is kept already."""
    path = folder / FILE
    content = _content(path)
    known = GtidSet() if content is None else _decode(content)
    if known != gtids:
        with explained("write", path):
            disk.replace(path, encode(gtids))


def encode(gtids: GtidSet) -> bytes:
    """The file's content."""
    text = gtids.compact()
    return json.dumps({"gtid_purged": text, "crc32": f"{crc32(text.encode()):08x}"}, indent=1).encode() + b"\n"


def is_sound(folder: Path) -> bool:
    """Whether every byte of what is kept in a timeline's folder is as it was written."""
    content = _content(folder / FILE)
    return content is not None and _decode(content) is not None


def _content(path: Path) -> bytes | None:
    """The file's bytes; None when there is no file."""
    with explained("read", path), suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _decode(content: bytes) -> GtidSet | None:
    try:
        gtids = GtidSet.parse(str(json.loads(content)["gtid_purged"]))
    except (ValueError, KeyError, TypeError):
        return None
    return gtids if encode(gtids) == content else None


def without(gtids: GtidSet, runs: Iterable[tuple[bytes, str, int, int]]) -> GtidSet:
    """The set less ``(sid, tag, first, last)``, inclusive: ``gtids`` itself, and quickly, when it has none of them."""
    if not gtids:
        return gtids
    found = []
    for run in runs:
        sid, tag, first, last = run
        inside, until = gtids.covering(sid, tag, first)
        if inside or until < last:
            found.append(run)
    return gtids - GtidSet.from_runs(found) if found else gtids
