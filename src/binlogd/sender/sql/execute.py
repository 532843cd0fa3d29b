"""One statement from text to answer: parse, ask the role, execute.

Pure: what the server knows comes in as facts and a backend, what the connection has set lives in its
SessionState, and the answer is an Outcome or a Refusal. Nothing here waits or writes to a socket.

A refusal is also what SHOW WARNINGS shows afterwards, until the next statement that is not about diagnostics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from binlogd.errors import Refusal
from binlogd.sender.sql.backend import Backend
from binlogd.sender.sql.columns import describe
from binlogd.sender.sql.context import Context
from binlogd.sender.sql.evaluate import evaluate, is_true
from binlogd.sender.sql.expressions import Expression, Value
from binlogd.sender.sql.facts import ServerFacts, is_mariadb, version_number
from binlogd.sender.sql.functions import MustWait
from binlogd.sender.sql.parser import parse
from binlogd.sender.sql.purge import question as purge_question
from binlogd.sender.sql.purge import warnings
from binlogd.sender.sql.refusals import (
    access_denied,
    no_such_thread,
    not_owner,
    query_interrupted,
    too_big,
    unknown_database,
)
from binlogd.sender.sql.replica_orders import notes_of, question
from binlogd.sender.sql.replica_status import replica_status
from binlogd.sender.sql.resolve import resolve
from binlogd.sender.sql.results import (
    ColumnKind,
    ColumnSpec,
    Errand,
    EventListing,
    Ok,
    Origin,
    Outcome,
    ResultSet,
    Wait,
    as_text,
)
from binlogd.sender.sql.session import Diagnostic, SessionState
from binlogd.sender.sql.statements import (
    Assignment,
    ChangeSource,
    Default,
    Kill,
    Limit,
    Nothing,
    PurgeLogs,
    ResetReplica,
    Role,
    Select,
    Set,
    SetCharacterSet,
    SetGlobalVariable,
    SetNames,
    SetSessionVariable,
    SetUserVariable,
    ShowBinaryLogs,
    ShowBinaryLogStatus,
    ShowBinlogEvents,
    ShowDatabases,
    ShowDiagnostics,
    ShowProcesslist,
    ShowReplicas,
    ShowReplicaStatus,
    ShowStatus,
    ShowTables,
    ShowVariables,
    StartReplica,
    Statement,
    StopReplica,
    Transaction,
    Use,
    Word,
    requirements,
)
from binlogd.sender.sql.variables import SystemVariables

# One row of a SELECT: 256 columns may each ask for the same GTID set of a megabyte, and all are held at once.
MAX_ROW_BYTES = 16 * 1024 * 1024
MAX_INFO = 100  # characters of a statement SHOW PROCESSLIST shows without FULL
ENCRYPTED_SINCE = 80014  # the version whose SHOW BINARY LOGS has that column
_TEXT, _BIG, _INT = ColumnKind.STRING, ColumnKind.BIGINT_UNSIGNED, ColumnKind.INT_UNSIGNED
EVENT_COLUMNS = (
    ColumnSpec("Log_name", _TEXT, 20),
    ColumnSpec("Pos", _BIG, 12),
    ColumnSpec("Event_type", _TEXT, 20),
    ColumnSpec("Server_id", _INT, 11),
    ColumnSpec("End_log_pos", _BIG, 12),
    ColumnSpec("Info", _TEXT, 20),
)


def execute(
    statement: str | bytes, *, session: SessionState, facts: ServerFacts, backend: Backend, role: Role
) -> Outcome:
    """Execute one statement as a client sent it, for a user of ``role``.

    Raises Refusal, the answer to be sent instead.
    """
    try:
        parsed = parse(statement, server_version=version_number(facts.version))
        for requirement in requirements(parsed):
            if not role.includes(requirement.role):
                raise access_denied(f"{requirement.privilege} (binlogd's role {requirement.role.value})")
    except Refusal as refusal:
        _refused(session, refusal)
        raise
    return _run(parsed, _Execution(session, facts, backend, role), [])


def _run(parsed: Statement, execution: _Execution, waited: list[bool]) -> Outcome:
    """Execute, or say what has to be waited for first: then all is done again, knowing what came of it."""
    session = execution.session
    execution.begin(waited)
    try:
        outcome = execution.run(parsed)
    except Refusal as refusal:
        _refused(session, refusal)
        raise
    except MustWait as must:
        return Wait(must.gtids, must.timeout, lambda reached: _run(parsed, execution, [*waited, reached]))
    if isinstance(outcome, Errand):
        return replace(outcome, finish=lambda answer: _finished(outcome, answer, session))
    if not isinstance(parsed, ShowDiagnostics):
        session.diagnostics = tuple(execution.variables.warnings)
    return outcome


def _refused(session: SessionState, refusal: Refusal) -> None:
    session.diagnostics = (Diagnostic("Error", refusal.code, refusal.message),)


def _finished(errand: Errand, answer: Mapping[str, Any] | None, session: SessionState) -> Ok | ResultSet:
    session.diagnostics = ()
    try:
        return errand.finish(answer)
    except Refusal as refusal:
        _refused(session, refusal)
        raise


class _Execution:
    """One statement's execution: a method for each kind, in HANDLERS below."""

    def __init__(self, session: SessionState, facts: ServerFacts, backend: Backend, role: Role) -> None:
        self.session = session
        self.backend = backend
        self.role = role
        self.variables = SystemVariables(facts, session)
        self.context = Context(session, facts, self.variables, facts.now())

    def begin(self, waited: list[bool]) -> None:
        """Evaluate from the beginning; ``waited`` is what came of the waiting so far."""
        self.variables.warnings.clear()
        self.context.waited, self.context.waits = waited, 0

    def run(self, statement: Statement) -> Outcome:
        handler: Callable[[_Execution, Statement], Outcome] = HANDLERS[type(statement)]
        return handler(self, statement)

    def nothing(self, _: Nothing) -> Ok:
        return Ok()

    # --- SELECT and SET ---

    def select(self, statement: Select) -> ResultSet:
        columns, row, size = [], [], 0
        if statement.limit is not None and not statement.limit.count:
            self.context.waited = None  # there is no row: MySQL evaluates nothing
        for item in statement.items:
            resolve(item.expression, self.context)
        for item in statement.items:
            value = evaluate(item.expression, self.context)
            size += len(value) if isinstance(value, str) else 8
            if size > MAX_ROW_BYTES:
                raise too_big()
            columns.append(replace(describe(item.expression, self.context), name=item.heading))
            row.append(value)
        return ResultSet(tuple(columns), _limited([tuple(row)], statement.limit))

    def set(self, statement: Set) -> Ok:
        """Every value is found and checked before anything changes: all of it happens or nothing."""
        for assignment in statement.assignments:
            if isinstance(assignment, SetUserVariable):
                resolve(assignment.value, self.context)
        user: dict[str, Value] = {}
        system: dict[str, Value] = {}
        for assignment in statement.assignments:
            if isinstance(assignment, SetUserVariable):
                user[assignment.name] = self._value(assignment.value)
            else:
                system |= self._changes(assignment)
        self.session.set_user_variables(user)
        self.session.variables |= system
        return Ok(warnings=len(self.variables.warnings))

    def _changes(self, assignment: Assignment) -> dict[str, Value]:
        match assignment:
            case SetSessionVariable(name, assigned):
                match assigned:
                    case Default():
                        return self.variables.default(name)
                    case Word(text):
                        return self.variables.checked(name, text)
                    case expression:
                        return self.variables.checked(name, self._value(expression))
            case SetNames(charset, collation):
                return self.variables.names(charset, collation)
            case SetCharacterSet(charset):
                return self.variables.character_set(charset)
            case SetGlobalVariable(name):
                self.variables.refuse_global(name)
        raise AssertionError(assignment)

    def _value(self, expression: Expression) -> Value:
        resolve(expression, self.context)
        return evaluate(expression, self.context)

    # --- SHOW ---

    def show_variables(self, statement: ShowVariables) -> ResultSet:
        return self._named_values(self.variables.listing(statement.scope), statement, "variables")

    def show_status(self, statement: ShowStatus) -> ResultSet:
        status = sorted(self.backend.status().items())
        return self._named_values(
            ((name, lambda value=value: value) for name, value in status),  # type: ignore[misc]
            statement,
            "status",
        )

    def _named_values(
        self, values: Iterable[tuple[str, Callable[[], str]]], asked: ShowVariables | ShowStatus, table: str
    ) -> ResultSet:
        if asked.where is not None:
            self.context.clause = "where clause"
            self.context.columns = {"variable_name": str, "value": str}
            resolve(asked.where, self.context)
        rows = [(name, value()) for name, value in values if self._wanted(asked.where, name, value)]
        table = f"{asked.scope.value.lower()}_{table}"
        origin = Origin("performance_schema", table, table)
        return _result(
            ColumnSpec("Variable_name", _TEXT, 64, origin=origin),
            ColumnSpec("Value", _TEXT, 1024, nullable=True, origin=origin),
            rows=rows,
        )

    def _wanted(self, where: Expression | None, name: str, value: Callable[[], str]) -> bool:
        if where is None:
            return True
        self.context.columns = {"variable_name": lambda: name, "value": value}
        return is_true(evaluate(where, self.context))

    def show_binary_logs(self, _: ShowBinaryLogs) -> ResultSet:
        version = self.context.facts.version
        encrypted = not is_mariadb(version) and version_number(version) >= ENCRYPTED_SINCE
        return _first(
            3 if encrypted else 2,
            ColumnSpec("Log_name", _TEXT, 255),
            ColumnSpec("File_size", _BIG, 21),
            ColumnSpec("Encrypted", _TEXT, 3),
            rows=self.backend.binary_logs(),
        )

    def show_binary_log_status(self, _: ShowBinaryLogStatus) -> ResultSet:
        status = self.backend.binary_log_status()
        rows = [] if status is None else [(status.file, status.position, "", "", status.gtid_executed)]
        return _first(
            4 if is_mariadb(self.context.facts.version) else 5,
            ColumnSpec("File", _TEXT, 512),
            ColumnSpec("Position", _BIG, 21),
            ColumnSpec("Binlog_Do_DB", _TEXT, 255),
            ColumnSpec("Binlog_Ignore_DB", _TEXT, 255),
            ColumnSpec("Executed_Gtid_Set", _TEXT, len(status.gtid_executed) if status is not None else 0),
            rows=rows,
        )

    def show_binlog_events(self, statement: ShowBinlogEvents) -> EventListing:
        """MySQL takes LIMIT 0 for no limit here."""
        limit = statement.limit or Limit(0)
        return EventListing(EVENT_COLUMNS, statement.file, statement.position, limit.offset, limit.count or None)

    def show_replicas(self, statement: ShowReplicas) -> ResultSet:
        server_id, source_id, uuid = "Server_Id", "Source_Id", "Replica_UUID"
        if statement.old_names:
            server_id, source_id, uuid = "Server_id", "Master_id", "Slave_UUID"
        return _first(
            4 if is_mariadb(self.context.facts.version) else 5,
            ColumnSpec(server_id, _INT, 11),
            ColumnSpec("Host", _TEXT, 255),
            ColumnSpec("Port", _INT, 8),
            ColumnSpec(source_id, _INT, 11),
            ColumnSpec(uuid, _TEXT, 36),
            rows=self.backend.replicas(),
        )

    def show_replica_status(self, statement: ShowReplicaStatus) -> Errand:
        def finish(status: Mapping[str, Any] | None) -> ResultSet:
            end = self.backend.binary_log_status()
            return replica_status(
                status,
                executed=end.gtid_executed if end is not None else "",
                published=(end.file, end.position) if end is not None else ("", 0),
                size=sum(log.size for log in self.backend.binary_logs()),
                gtids=self.context.facts.gtid_mode == "ON",
                old=version_number(self.context.facts.version) if statement.old_names else None,
            )

        return Errand({"ask": "status"}, finish)

    def show_processlist(self, statement: ShowProcesslist) -> ResultSet:
        info = ColumnSpec("Info", _TEXT, MAX_INFO, nullable=True)
        if statement.full:
            info = replace(info, kind=ColumnKind.LONG_TEXT, length=3 * self.context.facts.max_allowed_packet)
        rows = [
            process if statement.full or process.info is None else process._replace(info=process.info[:MAX_INFO])
            for process in self.backend.processlist()
        ]
        return _result(
            ColumnSpec("Id", ColumnKind.BIGINT, 22),
            ColumnSpec("User", _TEXT, 32),
            ColumnSpec("Host", _TEXT, 255),
            ColumnSpec("db", _TEXT, 64, nullable=True),
            ColumnSpec("Command", _TEXT, 16),
            ColumnSpec("Time", ColumnKind.INT, 8),
            ColumnSpec("State", _TEXT, 30, nullable=True),
            info,
            rows=rows,
        )

    def show_databases(self, statement: ShowDatabases) -> ResultSet:
        return _result(_name(_liked("Database", statement.like), "SCHEMATA"), rows=[])

    def show_tables(self, statement: ShowTables) -> ResultSet:
        heading = _liked(f"Tables_in_{statement.database or self.session.database or ''}", statement.like)
        columns = [_name(heading, "TABLES")]
        if statement.full:
            columns.append(replace(columns[0], name="Table_type", kind=ColumnKind.ENUM, length=11))
        return _result(*columns, rows=[])

    def show_diagnostics(self, statement: ShowDiagnostics) -> ResultSet:
        rows = [
            (row.level, row.code, row.message)
            for row in self.session.diagnostics
            if row.level == "Error" or not statement.errors_only
        ]
        if statement.count:
            heading = "@@session.error_count" if statement.errors_only else "@@session.warning_count"
            return _result(ColumnSpec(heading, _BIG, 21, nullable=True), rows=[(len(rows),)])
        shown = _result(
            ColumnSpec("Level", _TEXT, 7), ColumnSpec("Code", _INT, 5), ColumnSpec("Message", _TEXT, 512), rows=rows
        )
        return replace(shown, rows=_limited(shown.rows, statement.limit))

    # --- the rest ---

    def kill(self, statement: Kill) -> Ok:
        """An admin may end any connection, everybody else those of the same user."""
        value = self._value(statement.connection_id)
        connection_id = value if isinstance(value, int) else 0
        if not self.role.includes(Role.ADMIN):
            owner = next((row.user for row in self.backend.processlist() if row.id == connection_id), None)
            if owner is None:
                raise no_such_thread(connection_id)
            if owner != self.session.user:
                raise not_owner(connection_id)
        self.backend.kill(connection_id, statement.target)
        if connection_id == self.session.connection_id:
            raise query_interrupted()  # itself: MySQL's last words to it
        return Ok()

    def order(self, statement: ChangeSource | StartReplica | StopReplica | ResetReplica) -> Errand:
        """For the receiver."""

        def finish(answer: Mapping[str, Any] | None) -> Ok:
            notes = notes_of(answer)
            if isinstance(statement, ChangeSource):
                notes += statement.notes
            self.session.diagnostics = tuple(notes)
            return Ok(warnings=len(notes))

        return Errand(question(statement), finish)

    def purge(self, statement: PurgeLogs) -> Errand:
        """For the receiver, too."""

        def finish(answer: Mapping[str, Any] | None) -> Ok:
            self.session.diagnostics = tuple(warnings(answer))
            return Ok(warnings=len(self.session.diagnostics))

        before = self._value(statement.before) if statement.before is not None else None
        zone = as_text(self.variables.read("time_zone")) or ""
        return Errand(purge_question(statement, before, zone), finish)

    def use(self, statement: Use) -> NoReturn:
        """There are no databases."""
        raise unknown_database(statement.database)

    def transaction(self, _: Transaction) -> Ok:
        return Ok()


HANDLERS: dict[type[Statement], Callable[..., Outcome]] = {
    Nothing: _Execution.nothing,
    Select: _Execution.select,
    Set: _Execution.set,
    ShowVariables: _Execution.show_variables,
    ShowStatus: _Execution.show_status,
    ShowBinaryLogs: _Execution.show_binary_logs,
    ShowBinaryLogStatus: _Execution.show_binary_log_status,
    ShowBinlogEvents: _Execution.show_binlog_events,
    ShowReplicas: _Execution.show_replicas,
    ShowReplicaStatus: _Execution.show_replica_status,
    ShowProcesslist: _Execution.show_processlist,
    ShowDatabases: _Execution.show_databases,
    ShowTables: _Execution.show_tables,
    ShowDiagnostics: _Execution.show_diagnostics,
    Kill: _Execution.kill,
    ChangeSource: _Execution.order,
    StartReplica: _Execution.order,
    StopReplica: _Execution.order,
    ResetReplica: _Execution.order,
    PurgeLogs: _Execution.purge,
    Use: _Execution.use,
    Transaction: _Execution.transaction,
}


def _result(*columns: ColumnSpec, rows: Iterable[tuple[Value, ...]]) -> ResultSet:
    return ResultSet(columns, tuple(tuple(row) for row in rows))


def _first(count: int, *columns: ColumnSpec, rows: Iterable[tuple[Value, ...]]) -> ResultSet:
    """A result set of the first columns only: those that the version has which we show."""
    return _result(*columns[:count], rows=(row[:count] for row in rows))


def _name(heading: str, table: str) -> ColumnSpec:
    """A column of names from one of MySQL's tables about tables."""
    return ColumnSpec(heading, _TEXT, 64, origin=Origin("", table, table.lower(), as_bytes=True))


def _liked(heading: str, pattern: str | None) -> str:
    """The heading of a column with its LIKE behind it, as MySQL writes it for databases and tables."""
    return heading if pattern is None else f"{heading} ({pattern})"


def _limited(rows: Iterable[tuple[Value, ...]], limit: Limit | None) -> tuple[tuple[Value, ...], ...]:
    kept = tuple(rows)
    return kept if limit is None else kept[limit.offset : limit.offset + limit.count]
