"""Which of the configured candidates is the source now.

Asked at every connection. What each says of itself is gathered, and ``best`` chooses, a pure function. One that is the
source of the newest timeline, and may be what it is, is taken at once: after a hiccup of the network nobody waits for
the others. Which candidate was followed last is asked first.

    follow = first       the first that answers and may be followed
    follow = writable    the first that is not read_only and may be followed. When there is none, the source of the
                         newest timeline is gone on with even though it is read_only: during a switch-over, what it has
                         committed is still to be had from it. With one candidate there is nothing to choose.

Those that may not be followed are told of with the reason, and asked again: a candidate that lacks what is stored is
about to get it from us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import BinlogdError, PeerError, SourceRefused, Unreachable
from binlogd.receiver import cascade
from binlogd.receiver.first_file import first_file, has_file
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.plan import (
    FIRST_POSITION,
    Kept,
    SourceFacts,
    Start,
    StoreFacts,
    plan_resume,
    timeline_name,
)
from binlogd.receiver.session import Session, SourceOptions
from binlogd.receiver.succession import AskFirstFile, NewTimeline, Refuse, Resume, decide
from binlogd.store.layout import Identity


@dataclass(frozen=True, slots=True)
class Candidate:
    """One that answered. ``step`` is how to go on with it, if one may."""

    options: SourceOptions
    facts: SourceFacts
    step: Resume | NewTimeline | Refuse
    session: Session


class NotNow(Exception):
    """None may be followed; ``refused``: because of what is stored, which may soon be otherwise."""

    def __init__(self, error: BinlogdError, *, refused: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.refused = refused


def best(found: Sequence[Candidate], *, by_writable: bool) -> Candidate | None:
    """Of those that answered, in the order in which they were asked, the one to follow; None: none may be."""
    may = [candidate for candidate in found if not isinstance(candidate.step, Refuse)]
    if not by_writable:
        return may[0] if may else None
    writable = [candidate for candidate in may if not candidate.facts.read_only]
    resuming = [candidate for candidate in may if isinstance(candidate.step, Resume)]
    return next((c for c in writable if c in resuming), None) or next(iter((*writable, *resuming)), None)


class Candidates:
    """Asks them. ``followed`` is the one that was chosen last; ``replicas`` tells the UUIDs of those attached to us."""

    def __init__(self, identity: Identity, wake: Wake, replicas: Callable[[], frozenset[str]]) -> None:
        self._identity = identity
        self._wake = wake
        self._replicas = replicas
        self.followed: SourceOptions | None = None

    def choose(
        self,
        orders: Orders,
        store: Callable[[], StoreFacts],
        contradiction: SourceRefused | None = None,
        *,
        asking: Callable[[SourceOptions], None] = lambda _: None,
    ) -> Candidate:
        """The one to follow, logged in; raises NotNow.

        ``contradiction`` is of the source of the newest timeline (succession.py); ``store`` is asked once somebody
        answers. Each is told to ``asking`` before it is asked.
        """
        by_writable = orders.follow is Follow.WRITABLE and len(orders.sources) > 1
        found: list[Candidate] = []
        troubles: list[tuple[SourceOptions, BinlogdError]] = []
        chosen: Candidate | None = None
        try:
            for options in sorted(orders.sources, key=lambda each: each != self.followed):
                asking(options)
                try:
                    candidate = self._ask(options, orders, store, contradiction)
                except (PeerError, SourceRefused) as trouble:
                    troubles.append((options, trouble))
                    continue
                found.append(candidate)
                if isinstance(candidate.step, Refuse):
                    troubles.append((options, candidate.step.error))
                elif not by_writable or (isinstance(candidate.step, Resume) and not candidate.facts.read_only):
                    break
            chosen = best(found, by_writable=by_writable)
        finally:
            for candidate in found:
                if candidate is not chosen:
                    candidate.session.close()
        if chosen is None:
            raise _not_now(orders, found, troubles)
        self.followed = chosen.options
        return chosen

    def _ask(
        self,
        options: SourceOptions,
        orders: Orders,
        store: Callable[[], StoreFacts],
        contradiction: SourceRefused | None,
    ) -> Candidate:
        session = Session(options, self._identity, self._wake)
        try:
            session.connect()
            facts = session.prepare()
            held = store()
            if session.is_binlogd:
                facts = self._copying(facts, held, options)
                session.copy(facts.history)
            same = timeline_name(facts) == held.source_uuid
            if not same:  # the sender is asked for them, and may be slow to answer
                held = replace(held, replicas=self._replicas())
            current = session.current_file(facts.history) if options.start == "current" and not held.file else ""

            def step() -> Resume | NewTimeline | AskFirstFile | Refuse:
                return decide(
                    facts,
                    held,
                    start=options.start,
                    current=current,
                    keep_both=orders.keep_both,
                    contradiction=contradiction if same else None,
                )

            decided = step()
            if isinstance(decided, AskFirstFile):
                facts = replace(facts, first_file=self._first_file(options, decided.has, facts.history))
                decided = step()
            assert not isinstance(decided, AskFirstFile)
            return Candidate(options, facts, decided, session)
        except BaseException:
            session.close()
            raise

    def _first_file(self, options: SourceOptions, has: GtidSet | None, history: Kept | None) -> tuple[str, GtidSet]:
        return first_file(options, self._identity, self._wake, has, history)

    def _copying(self, facts: SourceFacts, store: StoreFacts, options: SourceOptions) -> SourceFacts:
        """Which of a binlogd's timelines is meant."""
        may_be = cascade.candidates(facts, store, start=options.start)
        chosen = may_be[0]
        if len(may_be) > 1:
            begin = Start(options.start, FIRST_POSITION, "COM_BINLOG_DUMP")
            start = plan_resume(facts, store) if store.file else begin
            having = (kept for kept in may_be if has_file(options, self._identity, self._wake, kept, start))
            chosen = next(having, chosen)
        return replace(facts, history=chosen)


def _not_now(
    orders: Orders, found: Sequence[Candidate], troubles: Sequence[tuple[SourceOptions, BinlogdError]]
) -> NotNow:
    """What to say when there is nobody to follow: of several, what each has against it.

    That a replica lags, which nobody has promoted, endangers nothing yet: then the source is lost, and no more.
    """
    if len(orders.sources) == 1:
        return NotNow(troubles[0][1], refused=bool(found))
    read_only = {candidate.options for candidate in found if candidate.facts.read_only}
    said = [
        f"{options.host}:{options.port}: {'it is read_only, and ' * (options in read_only)}{error.message}"
        for options, error in troubles
    ]
    said += [
        f"{candidate.options.host}:{candidate.options.port}: it is read_only"
        for candidate in found
        if not isinstance(candidate.step, Refuse)
    ]
    message = f"none of the {len(orders.sources)} candidates can be followed now: {'; '.join(said)}"
    refusals = [(options, error) for options, error in troubles if isinstance(error, SourceRefused)]
    for options, error in refusals:
        if options not in read_only:
            asked_again = any(candidate.options == options for candidate in found)
            return NotNow(type(error)(message, hint=error.hint, code=error.code), refused=asked_again)
    promote = "promote one of them: SET GLOBAL super_read_only = OFF, read_only = OFF" if found else "start one of them"
    if any(candidate.facts.history for candidate in found):
        promote = 'a binlogd is always read_only: set source.follow = "first" to go on with one'
    return NotNow(Unreachable(message, hint=refusals[0][1].hint if refusals else promote, code=2003), refused=False)
