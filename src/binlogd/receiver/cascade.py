"""Another binlogd as the source: its timelines are copied one by one, each under the name of the source it is of.

A server has one history; a binlogd keeps those of all the sources that it followed (store/layout.py), and says which::

    SELECT @@global.binlogd_timelines     0001-<uuid of A>,0002-<uuid of B>,0003-<uuid of A>
    SET @binlogd_timeline = '0002'        this connection's dumps are of timeline 2 alone, under plain names
    ERR 1236 End of timeline 0002: …      behind its last byte, as soon as there is a timeline 3

What is stored here was copied from there in that order, or received from A itself. So the newest timeline here is a
copy of that one there which is of the same source, and before which the same sources come: the longest run of equal
UUIDs says which, and among equals the oldest is taken first, for all later ones follow from it. Both sides may have
removed old timelines, and a source may have been followed twice: where more than one could be meant, the one is taken
that has the file which is to be gone on with. That it holds the same bytes it then proves like any source
(receiver/overlap.py).

Behind the end of a timeline the next one is copied from its first file on, whole. Nothing is missing between the two
here, for nothing was missing there, unless it was purged there meanwhile (succession.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from binlogd.errors import PeerError, ProtocolError, ServerError
from binlogd.receiver.plan import Ended, Kept, SourceFacts, StoreFacts

SUFFIX = "-binlogd"  # behind the version that a binlogd shows
ER_SOURCE_FATAL_ERROR_READING_BINLOG = 1236

_TIMELINE = re.compile(r"([0-9]{4,9})-([0-9a-zA-Z][0-9a-zA-Z-]*)")  # int() refuses thousands of digits
_END = re.compile(r"End of timeline [0-9]{4,9}:")


def is_binlogd(version: str) -> bool:
    """Whether a server of this version is a binlogd."""
    return version.endswith(SUFFIX)


def parse_timelines(text: str) -> tuple[Kept, ...]:
    """``@@global.binlogd_timelines``, oldest first."""
    found = []
    for part in text.split(",") if text else []:
        match = _TIMELINE.fullmatch(part)
        if match is None:
            raise ProtocolError(f"the source says that it keeps a timeline {part[:80]!r}, which is no name of one")
        found.append(Kept(int(match[1]), match[2].lower()))
    return tuple(found)


def plain_name(name: str, timeline: int) -> str:
    """A file's name without the number of ``timeline``, which a binlogd puts before one that several have."""
    return name.removeprefix(f"{timeline:04}:")


def candidates(source: SourceFacts, store: StoreFacts, *, start: str = "oldest") -> Sequence[Kept]:
    """Those of a binlogd's timelines that may be copied now, the likeliest first; at least one.

    Of several the first is meant that has the file which would be asked for (``wanted_file``).
    """
    theirs = source.timelines
    if not theirs:
        raise PeerError(
            "the binlogd that is to be followed has stored nothing yet",
            hint="it is followed as soon as it has; look there with `binlogd status` what keeps it",
        )
    if not store.file:
        return {"oldest": theirs[:1], "current": theirs[-1:]}.get(start, theirs)
    following = _behind(source, store)
    if following is not None:
        return (following,)
    return [theirs[index] for index in _copied(store.timelines, [kept.source_uuid for kept in theirs])] or theirs[:1]


def continues(source: SourceFacts, store: StoreFacts) -> bool:
    """Whether the timeline that is to be copied follows on the one that the store's newest is a whole copy of."""
    return source.history is not None and source.history == _behind(source, store)


def _behind(source: SourceFacts, store: StoreFacts) -> Kept | None:
    """The timeline behind the one that has ended."""
    ended = store.ended
    if ended is None or ended.server_uuid != source.server_uuid:
        return None
    return next((kept for kept in source.timelines if kept.number > ended.number), None)


def _copied(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """Which of ``theirs`` the last of ``ours`` can be a copy of: indices, the likeliest first."""
    lengths = {
        index: _common(ours, theirs[: index + 1]) for index, uuid in enumerate(theirs) if ours and uuid == ours[-1]
    }
    return sorted(lengths, key=lambda index: (-lengths[index], index))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many at the end of both are the same."""
    length = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        length += 1
    return length


def end_of(trouble: Exception, source: SourceFacts | None) -> Ended | None:
    """What ``trouble`` says of the timeline that was copied from ``source``; None when it is not its end."""
    if source is None or source.history is None or not says_end(trouble):
        return None
    return Ended(source.server_uuid, source.history.number)


def says_end(trouble: Exception) -> bool:
    """Whether this is the error that a binlogd ends a timeline with."""
    return (
        isinstance(trouble, ServerError)
        and trouble.code == ER_SOURCE_FATAL_ERROR_READING_BINLOG
        and _END.match(trouble.message) is not None
    )
