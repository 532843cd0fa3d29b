"""SQL as the listener speaks it: the statements replicas, tools and people send around a dump, as pure code.

    text ─ tokens ─► parser ─► statements ─ role? ─► execute ─► Ok | ResultSet | Refusal, or what to do first
                                                       │
                       expressions ─► evaluate ─► functions, variables ◄─ catalog ◄─ facts, session

Which statements and variables there are is said in two tables, ``statements.REQUIREMENTS`` and
``catalog.CATALOG``.
"""

from binlogd.sender.sql.backend import AttachedReplica, Backend, BinaryLog, BinaryLogStatus, Process
from binlogd.sender.sql.execute import execute
from binlogd.sender.sql.facts import ServerFacts, advertised_version
from binlogd.sender.sql.results import ColumnKind, ColumnSpec, Errand, EventListing, Ok, Outcome, ResultSet, Wait
from binlogd.sender.sql.session import Announcement, SessionState, announcement
from binlogd.sender.sql.statements import KillTarget, Role

__all__ = [
    "Announcement",
    "AttachedReplica",
    "Backend",
    "BinaryLog",
    "BinaryLogStatus",
    "ColumnKind",
    "ColumnSpec",
    "Errand",
    "EventListing",
    "KillTarget",
    "Ok",
    "Outcome",
    "Process",
    "ResultSet",
    "Role",
    "ServerFacts",
    "SessionState",
    "Wait",
    "advertised_version",
    "announcement",
    "execute",
]
