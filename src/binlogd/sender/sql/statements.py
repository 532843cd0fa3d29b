"""The statements a listener understands, and the role each one needs.

``parse`` gives one of these frozen dataclasses; ``execute`` has one handler for each. A new statement is a
dataclass here with its row in REQUIREMENTS, a rule in the parser and a handler in execute; whatever is
missing one of them is found by the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeAlias

from binlogd.sender.sql.expressions import Expression, Scope
from binlogd.sender.sql.session import Diagnostic


class Role(Enum):
    """What a user of the listener may do; each role includes the ones before it."""

    REPLICA = "replica"
    MONITOR = "monitor"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Limit:
    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SelectItem:
    """One column; ``heading`` is its alias, or the name MySQL makes up for it."""

    expression: Expression
    heading: str


@dataclass(frozen=True, slots=True)
class Select:
    items: tuple[SelectItem, ...]
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word as the value of a system variable, which stands for itself: ``SET autocommit = ON``."""

    text: str


@dataclass(frozen=True, slots=True)
class Default:
    """``DEFAULT`` as a value: the global one."""


AssignedValue: TypeAlias = Expression | Word | Default


@dataclass(frozen=True, slots=True)
class SetUserVariable:
    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class SetSessionVariable:
    name: str
    value: AssignedValue


@dataclass(frozen=True, slots=True)
class SetGlobalVariable:
    """SET GLOBAL, and PERSIST and PERSIST_ONLY, which go further."""

    name: str
    value: AssignedValue
    keyword: str


@dataclass(frozen=True, slots=True)
class SetNames:
    """SET NAMES; ``charset`` None stands for DEFAULT."""

    charset: str | None
    collation: str | None = None


@dataclass(frozen=True, slots=True)
class SetCharacterSet:
    """SET CHARACTER SET; ``charset`` None stands for DEFAULT."""

    charset: str | None


Assignment: TypeAlias = SetUserVariable | SetSessionVariable | SetGlobalVariable | SetNames | SetCharacterSet


@dataclass(frozen=True, slots=True)
class Set:
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class ShowVariables:
    scope: Scope = Scope.SESSION
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class ShowStatus:
    scope: Scope = Scope.SESSION
    where: Expression | None = None


@dataclass(frozen=True, slots=True)
class ShowBinaryLogs:
    """SHOW BINARY LOGS, SHOW MASTER LOGS."""


@dataclass(frozen=True, slots=True)
class ShowBinaryLogStatus:
    """SHOW BINARY LOG STATUS, SHOW MASTER STATUS."""


@dataclass(frozen=True, slots=True)
class ShowBinlogEvents:
    """SHOW BINLOG EVENTS; without ``file`` of the oldest one."""

    file: str | None = None
    position: int = 4
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class ShowReplicas:
    """SHOW REPLICAS, or SHOW SLAVE HOSTS, which has the columns' old names."""

    old_names: bool = False


@dataclass(frozen=True, slots=True)
class ShowReplicaStatus:
    """SHOW REPLICA STATUS, or SHOW SLAVE STATUS, which has the columns' old names."""

    old_names: bool = False


@dataclass(frozen=True, slots=True)
class ShowProcesslist:
    full: bool = False


@dataclass(frozen=True, slots=True)
class ShowDatabases:
    like: str | None = None


@dataclass(frozen=True, slots=True)
class ShowTables:
    database: str | None = None
    full: bool = False
    like: str | None = None


@dataclass(frozen=True, slots=True)
class ShowDiagnostics:
    """SHOW WARNINGS, SHOW ERRORS, and the count of either."""

    errors_only: bool = False
    count: bool = False
    limit: Limit | None = None


class KillTarget(Enum):
    CONNECTION = "CONNECTION"
    QUERY = "QUERY"


@dataclass(frozen=True, slots=True)
class Kill:
    connection_id: Expression
    target: KillTarget = KillTarget.CONNECTION


@dataclass(frozen=True, slots=True)
class ChangeSource:
    """CHANGE REPLICATION SOURCE TO; ``options`` under the names that receiver/override.py gives them.

    ``auto_position``: SOURCE_AUTO_POSITION is among them, which a replica takes only with both its threads stopped.
    """

    options: Mapping[str, Any] = field(repr=False)  # a password is among them
    notes: tuple[Diagnostic, ...] = ()
    auto_position: bool = False


@dataclass(frozen=True, slots=True)
class StartReplica:
    """START REPLICA, of the thread that receives."""


@dataclass(frozen=True, slots=True)
class StopReplica:
    """STOP REPLICA, of the thread that receives."""


@dataclass(frozen=True, slots=True)
class ResetReplica:
    """RESET REPLICA, with ``everything`` RESET REPLICA ALL."""

    everything: bool = False


@dataclass(frozen=True, slots=True)
class PurgeLogs:
    """PURGE BINARY LOGS TO a file, or BEFORE a moment, ``earlier`` seconds before it."""

    to: str | None = None
    before: Expression | None = None
    earlier: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    database: str


class TransactionVerb(Enum):
    BEGIN = "BEGIN"
    COMMIT = "COMMIT"
    ROLLBACK = "ROLLBACK"


@dataclass(frozen=True, slots=True)
class Transaction:
    """BEGIN, COMMIT, ROLLBACK: drivers send them by habit; with nothing to begin they do nothing."""

    verb: TransactionVerb


@dataclass(frozen=True, slots=True)
class Nothing:
    """Comments only, such as ``/*!99999 … */`` is to us: OK, where no text at all is error 1065."""


Statement: TypeAlias = (
    Nothing
    | Select
    | Set
    | ShowVariables
    | ShowStatus
    | ShowBinaryLogs
    | ShowBinaryLogStatus
    | ShowBinlogEvents
    | ShowReplicas
    | ShowReplicaStatus
    | ShowProcesslist
    | ShowDatabases
    | ShowTables
    | ShowDiagnostics
    | Kill
    | ChangeSource
    | StartReplica
    | StopReplica
    | ResetReplica
    | PurgeLogs
    | Use
    | Transaction
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The least role, and the privilege MySQL would ask for, which the refusal names."""

    role: Role
    privilege: str = ""


_ANYONE = Requirement(Role.REPLICA)

# Everything a replica or a tool asks before its dump is for anyone: what the tools take for reading (SHOW
# BINARY LOGS and its like) MySQL gives to REPLICATION CLIENT, which replication users have by custom. KILL is
# for anyone, but of one's own connections only, which its handler sees to.
REQUIREMENTS: Mapping[type[Statement | Assignment], Requirement] = MappingProxyType(
    {
        Nothing: _ANYONE,
        Select: _ANYONE,
        Set: _ANYONE,
        SetUserVariable: _ANYONE,
        SetSessionVariable: _ANYONE,
        SetGlobalVariable: Requirement(Role.ADMIN, "SUPER or SYSTEM_VARIABLES_ADMIN"),
        SetNames: _ANYONE,
        SetCharacterSet: _ANYONE,
        ShowVariables: _ANYONE,
        ShowStatus: Requirement(Role.MONITOR, "PROCESS"),
        ShowBinaryLogs: _ANYONE,
        ShowBinaryLogStatus: _ANYONE,
        ShowBinlogEvents: Requirement(Role.REPLICA, "REPLICATION SLAVE"),
        ShowReplicas: Requirement(Role.MONITOR, "REPLICATION CLIENT"),
        ShowReplicaStatus: Requirement(Role.MONITOR, "SUPER, REPLICATION CLIENT"),
        ShowProcesslist: Requirement(Role.MONITOR, "PROCESS"),
        ShowDatabases: _ANYONE,
        ShowTables: _ANYONE,
        ShowDiagnostics: _ANYONE,
        Kill: _ANYONE,
        ChangeSource: Requirement(Role.ADMIN, "SUPER or REPLICATION_SLAVE_ADMIN"),
        StartReplica: Requirement(Role.ADMIN, "SUPER or REPLICATION_SLAVE_ADMIN"),
        StopReplica: Requirement(Role.ADMIN, "SUPER or REPLICATION_SLAVE_ADMIN"),
        ResetReplica: Requirement(Role.ADMIN, "RELOAD"),
        PurgeLogs: Requirement(Role.ADMIN, "SUPER or BINLOG_ADMIN"),
        Use: _ANYONE,
        Transaction: _ANYONE,
    }
)


def requirements(statement: Statement) -> list[Requirement]:
    """What ``statement`` needs: its own row and, for SET, the row of every assignment."""
    needed = [REQUIREMENTS[type(statement)]]
    if isinstance(statement, Set):
        needed += (REQUIREMENTS[type(assignment)] for assignment in statement.assignments)
    return needed
