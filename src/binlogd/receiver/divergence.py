"""What it means that the source does not go on where the store ends: pure sentences over what both sides hold.

Two things end replication, and are told apart because what to do differs:

    diverged   the source lacks what is stored, or has something else in its place. It was restored from an older
               state, reset, or lost its newest transactions in a crash: the store may be their only copy.
    gap        the source has purged what comes next. What is stored is right, and something behind it is missing.

Which it is, the source says with error 1236 (protocol.md §3), or its events say it (receiver/stream.py). GTIDs say what
exactly is missing; without them it is file and position.
"""

from __future__ import annotations

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceDiverged, SourceGap, SourceRefused
from binlogd.receiver.plan import SourceFacts, StoreFacts, timeline_name

ER_SOURCE_FATAL_ERROR_READING_BINLOG = 1236

DIVERGED_HINT = (
    "keep this store, which may be the only copy, and serve it with `binlogd serve`; put the source back as it was, and"
    " binlogd goes on by itself, or give the source's new history another data_dir"
)
GAP_HINT = (
    "keep this store for its history, and begin a new one in another data_dir; at the source raise"
    " binlog_expire_logs_seconds above the longest time that binlogd may be away"
)

_GONE = ("purged", "could not find first log file")
_SHORTER = ("position > file size", "impossible position")
_OTHER = ("bogus data in log event", "log event entry exceeded", "binlog truncated in the middle of event")


def of_refusal(said: str, store: StoreFacts, facts: SourceFacts, held: GtidSet) -> SourceRefused | None:
    """What the text of an error 1236 means for a store that holds the GTIDs ``held``; None when it is no question of
    history."""
    lowered = said.lower()
    if any(text in lowered for text in _GONE):
        lost = facts.purged - held if facts.purged is not None else GtidSet()
        if not lost and _lacking(facts, held):
            return diverged(f"it has no {store.file}, of which {store.position} bytes are stored", facts, held)
        what = f"the GTIDs {lost.compact()}" if lost else store.file
        return SourceGap(
            f"the source has purged {what}: what it wrote behind {store.file}:{store.position}, where the store ends,"
            " cannot be had from it any more",
            hint=GAP_HINT,
            code=ER_SOURCE_FATAL_ERROR_READING_BINLOG,
        )
    if any(text in lowered for text in _SHORTER):
        return diverged(f"its {store.file} ends before {store.position}, where the stored one does", facts, held)
    if any(text in lowered for text in _OTHER):
        begin = store.position - store.overlap
        return diverged(
            f"in its {store.file} no event begins at {begin}, where a stored one does (or it is damaged there: {said})",
            facts,
            held,
        )
    return None


def diverged(what: str, facts: SourceFacts, held: GtidSet) -> SourceDiverged:
    """The error: ``what`` is wrong with the source, and the GTIDs that it lacks."""
    lacking = _lacking(facts, held)
    if lacking:
        gtids = f"; it lacks the GTIDs {lacking.compact()}, which are stored"
    elif facts.executed is not None:
        gtids = "; it has every GTID that is stored, yet for other transactions"
    else:
        gtids = ""
    return SourceDiverged(
        f"the source's history is not the one that is stored: {what}{gtids}. It was restored, reset, or lost its newest"
        " transactions",
        hint=DIVERGED_HINT,
        code=ER_SOURCE_FATAL_ERROR_READING_BINLOG,
    )


def lacks(source: SourceFacts, lacking: GtidSet, store: StoreFacts) -> SourceDiverged:
    """The error for another source than the one before, which may not be followed as long as it lacks ``lacking``."""
    return SourceDiverged(
        f"source {timeline_name(source)} lacks the GTIDs {lacking.compact()}, which are stored, of source"
        f" {store.source_uuid} or from before it: this may be their only copy",
        hint="attach the new source to this binlogd once, run at it: CHANGE REPLICATION SOURCE TO"
        " SOURCE_HOST='<this binlogd>', SOURCE_PORT=<its port>, SOURCE_AUTO_POSITION=1; START REPLICA (and keep"
        " rpl_semi_sync_source_enabled OFF there meanwhile, or it waits for us); it is followed as soon as it has them"
        ' and is detached again. Or set source.on_divergence = "new-timeline" to go on without them, with both'
        " histories kept",
    )


def _lacking(facts: SourceFacts, held: GtidSet) -> GtidSet:
    return held - facts.executed if facts.executed is not None else GtidSet()
