"""Whether a source may be followed, and from where: a pure decision over what it says of itself and what is stored.

The question arises at every connection, for the server behind an address is not always the same: a replica was
promoted, or the source was restored. Timelines (store/layout.py) are histories of one source each, in whole files, so
there are three good answers and one bad one:

    Resume        it is the source of the newest timeline: go on in its newest file, where the stored one ends. That it
                  has the same history it then proves (store/overlap.py); when it cannot, that is a *contradiction*
    NewTimeline   it is another source, and has every GTID that is stored: begin with the newest of its files that
                  builds on nothing but what is stored (PREVIOUS_GTIDS). Nothing can be missing between the two, and
                  what both hold is left out for each replica when it is sent
    AskFirstFile  the same, but it has not said yet which file that is
    Refuse        it lacks what is stored (it would be the only copy), or has purged what is not; or nobody can tell
                  without GTIDs; or it receives from us

Of a binlogd one timeline is considered at a time (cascade.py). The one behind a whole copy begins with its oldest file,
and so is a whole copy, too.

What is stored and what the source lacks is never given up by itself: ``keep_both`` (on_divergence = "new-timeline") is
the order to go on all the same, with both histories kept. A gap is refused even then, for no timeline can hold what
nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceDiverged, SourceGap, SourceRefused
from binlogd.receiver.cascade import continues
from binlogd.receiver.divergence import GAP_HINT, lacks
from binlogd.receiver.plan import FIRST_POSITION, NONE, SourceFacts, Start, StoreFacts, plan_resume, timeline_name

OLDEST = ""  # asks for a source's oldest file, whatever it is called


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on in the newest timeline."""

    start: Start


@dataclass(frozen=True, slots=True)
class NewTimeline:
    """Begin a timeline with a whole file."""

    start: Start


@dataclass(frozen=True, slots=True)
class AskFirstFile:
    """Ask with which of its files the source would begin for one who has ``has``, and decide again.

    None asks for its oldest. That is then fetched by its name: one that is purged just before it is asked for is an
    error, and not a gap that nobody sees.
    """

    has: GtidSet | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not now; ``error`` says why, and what to do. Asked again it may be otherwise."""

    error: SourceRefused


Step = Resume | NewTimeline | AskFirstFile | Refuse


def decide(
    source: SourceFacts,
    store: StoreFacts,
    *,
    start: str = "oldest",
    current: str = "",
    keep_both: bool = False,
    contradiction: SourceRefused | None = None,
) -> Step:
    """What to do with a source that is there; of a binlogd ``source.history`` says which timeline is meant.

    ``start`` is the configured beginning of an empty store, ``oldest``, ``current`` or a file's name; ``current`` the
    name of the source's newest file, needed for that choice alone. ``contradiction`` is what the source answered, or
    sent, when it was asked to go on where the store ends.
    """
    if not store.file:
        return NewTimeline(_whole({"oldest": OLDEST, "current": current}.get(start, start)))
    same = store.source_uuid == timeline_name(source)
    if source.server_uuid and source.server_uuid in store.replicas:
        return Refuse(_ours(source))
    if continues(source, store):
        missing = (source.purged or NONE) - store.held
        return Refuse(_gap(source, missing)) if missing else _begin(source, store, None)
    if same and source.history is not None and source.executed is not None and store.held - source.executed:
        return Refuse(_behind_us(source, store.held - source.executed))
    if same and contradiction is None:
        try:
            return Resume(plan_resume(source, store))
        except SourceRefused as refused:
            return Refuse(refused)
    other_history = isinstance(contradiction, SourceDiverged)
    if contradiction is not None and other_history and not keep_both:
        return Refuse(contradiction)
    if source.gtid_mode != "ON" or source.executed is None or source.purged is None or not store.gtids:
        if keep_both and (other_history or not same):
            return NewTimeline(_whole(OLDEST))
        return Refuse(contradiction or _no_gtids(source, store))
    lacking = store.held - source.executed
    if lacking and not keep_both:
        return Refuse(lacks(source, lacking, store))
    missing = source.purged - store.held
    if missing:
        return Refuse(_gap(source, missing))
    # In another history the same GTIDs may stand for other transactions: then nothing of it is left out.
    return _begin(source, store, None if other_history else store.held & source.executed)


def _begin(source: SourceFacts, store: StoreFacts, has: GtidSet | None) -> Step:
    """A new timeline behind what is stored, with the file that is right for ``has``."""
    if source.first_file is None:
        return AskFirstFile(has)
    name, previous = source.first_file
    if not previous <= store.held:
        return Refuse(_gap(source, previous - store.held))
    return NewTimeline(_whole(name))


def _whole(file: str) -> Start:
    return Start(file, FIRST_POSITION, "COM_BINLOG_DUMP")


def _ours(source: SourceFacts) -> SourceRefused:
    return SourceRefused(
        f"{timeline_name(source)} replicates from this binlogd: it would be sent what it has sent",
        hint="it is followed as soon as it does so no more: run STOP REPLICA there, and RESET REPLICA ALL when it is"
        " to be the source",
    )


def _behind_us(source: SourceFacts, lacking: GtidSet) -> SourceRefused:
    return SourceRefused(
        f"the binlogd that is to be followed, {source.server_uuid}, does not have the GTIDs {lacking.compact()} yet,"
        " which are stored here",
        hint="it is followed as soon as it has them; look there with `binlogd status` what keeps it",
    )


def _no_gtids(source: SourceFacts, store: StoreFacts) -> SourceRefused:
    where = "the stored history has no GTIDs" if source.gtid_mode == "ON" else f"its gtid_mode is {source.gtid_mode}"
    return SourceRefused(
        f"the store holds the history of source {store.source_uuid}; this one is {timeline_name(source)}, and {where}:"
        " nobody can tell what of one is in the other",
        hint="point source.hosts at the old source, or give this one another data_dir; sources with gtid_mode=ON can be"
        " followed one after the other",
    )


def _gap(source: SourceFacts, missing: GtidSet) -> SourceGap:
    return SourceGap(
        f"source {timeline_name(source)} has purged the GTIDs {missing.compact()}, which are not stored: they cannot be"
        " had from it any more",
        hint=GAP_HINT,
    )
