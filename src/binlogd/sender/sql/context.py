"""What the expressions of one statement may refer to, and how much work they may be.

Evaluation happens on the event loop, for whoever may log in: the work of a statement is counted in characters
looked at (text compared, patterns matched, GTID sets parsed) and bounded by MAX_WORK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from binlogd.sender.sql.facts import ServerFacts
from binlogd.sender.sql.refusals import took_too_much
from binlogd.sender.sql.session import SessionState
from binlogd.sender.sql.variables import SystemVariables

# Some tenths of a second at most; a gtid_executed of 1 MiB may still be compared with another.
MAX_WORK = 4 * 1024 * 1024


@dataclass(slots=True)
class Context:
    """One statement's. ``columns`` are those of a SHOW statement's row, by lower-case name."""

    session: SessionState
    facts: ServerFacts
    variables: SystemVariables
    now: float  # seconds since 1970: one moment for the whole statement
    clause: str = "field list"  # where the expression stands, in the words of error 1054
    columns: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    work: int = 0
    waited: list[bool] | None = field(default_factory=list)  # what came of the waiting so far; None: nobody waits
    waits: int = 0  # functions that wait, evaluated so far

    def spend(self, work: int) -> None:
        """Account for ``work`` characters; Refusal 3024 when the statement has had its share."""
        self.work += work
        if self.work > MAX_WORK:
            raise took_too_much()
