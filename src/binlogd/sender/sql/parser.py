"""The grammar of the statements: tokens to one statement, or Refusal 1064 at the token that does not fit.

Recursive descent; each rule is a method that reads what it names. One statement is one packet: a semicolon
may end it, and nothing may follow.
"""

from __future__ import annotations

from collections.abc import Callable

from binlogd.sender.sql.cursor import MAX_BIGINT_UNSIGNED, RESERVED, Cursor
from binlogd.sender.sql.expressions import Column, Expression, Like, Literal, Scope
from binlogd.sender.sql.purge import purge_logs
from binlogd.sender.sql.refusals import (
    empty_query,
    no_tables,
    not_for_a_binlog_server,
    syntax_error,
    too_many_columns,
)
from binlogd.sender.sql.replica_orders import change_source, replica_status, reset_replica, start_replica, stop_replica
from binlogd.sender.sql.statements import (
    AssignedValue,
    Assignment,
    Default,
    Kill,
    KillTarget,
    Limit,
    Nothing,
    Select,
    SelectItem,
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
    Statement,
    Transaction,
    TransactionVerb,
    Use,
    Word,
)
from binlogd.sender.sql.tokens import Token, TokenKind, decode, tokenize

# MySQL's limit is 4096; drivers ask for some 20 variables in one SELECT. Each may be a GTID set of a
# megabyte.
MAX_COLUMNS = 256
MAX_DIGITS = 40  # of a position
FIRST_EVENT = 4
MAX_HEADING = 256  # characters, MySQL's MAX_ALIAS_NAME
_GLOBAL_KEYWORDS = ("GLOBAL", "PERSIST", "PERSIST_ONLY")
_SESSION_KEYWORDS = ("SESSION", "LOCAL")
_ISOLATION_LEVELS = (("READ", "UNCOMMITTED"), ("READ", "COMMITTED"), ("REPEATABLE", "READ"), ("SERIALIZABLE",))


def parse(statement: str | bytes, *, server_version: int = 0) -> Statement:
    """The statement in ``statement``.

    ``server_version`` is MySQL's number (90704 for 9.7.4), which decides what ``/*!NNNNN … */`` comments
    hold. Raises Refusal: 1064 syntax, 1065 empty, 1153 too long, 1300 not UTF-8, 1117, 1235, 1367, 3061.
    """
    text = decode(statement)
    return _Parser(text, tokenize(text, server_version=server_version)).parse()


class _Parser(Cursor):
    def parse(self) -> Statement:
        if self.at_end() and self.statement.strip():
            return Nothing()
        if self.at_end() or (self.accept(";") and self.at_end()):
            raise empty_query()
        rules: dict[str, Callable[[], Statement]] = {
            "SELECT": self._select,
            "SET": self._set,
            "SHOW": self._show,
            "KILL": self._kill,
            "USE": self._use,
            "BEGIN": self._begin,
            "START": self._start,
            "COMMIT": self._commit,
            "CHANGE": lambda: change_source(self),
            "STOP": self._stop,
            "RESET": self._reset,
            "ROLLBACK": self._rollback,
            "PURGE": lambda: purge_logs(self),
        }
        rule = rules.get(self.token.upper)
        if rule is None:
            raise not_for_a_binlog_server(self.token.upper) or self.error()
        self.advance()
        parsed = rule()
        self.accept(";")
        if not self.at_end():
            raise self.error()
        return parsed

    # --- SELECT ---

    def _select(self) -> Select:
        if self.at("*"):
            raise no_tables("SELECT *")
        items = self.listed(self._select_item)
        if len(items) > MAX_COLUMNS:
            raise too_many_columns()
        if self.accept("FROM") and not self.accept("DUAL"):
            if self.token.kind in (TokenKind.WORD, TokenKind.NAME) and self.token.upper not in RESERVED:
                raise no_tables("SELECT ... FROM")
            raise self.error()
        return Select(items, self._limit())

    def _select_item(self) -> SelectItem:
        first = self.token
        expression = self.expression()
        if self.accept("AS") or self._at_bare_alias():
            heading = self._alias()
        else:
            written = self.statement[first.start : self.previous.end]
            heading = _made_up_heading(expression, first, written)
        return SelectItem(expression, heading[:MAX_HEADING])

    def _alias(self) -> str:
        return self.advance().value if self.token.kind is TokenKind.STRING else self.name()

    def _at_bare_alias(self) -> bool:
        if self.token.kind is TokenKind.WORD:
            return self.token.upper not in RESERVED
        return self.token.kind in (TokenKind.NAME, TokenKind.STRING)

    def _limit(self) -> Limit | None:
        if not self.accept("LIMIT"):
            return None
        first = self._count()
        if self.accept(","):
            return Limit(self._count(), first)
        return Limit(first, self._count() if self.accept("OFFSET") else 0)

    def _count(self) -> int:
        token = self.token
        if token.kind is not TokenKind.NUMBER or not token.value.isdigit() or len(token.value) > 20:
            raise self.error()
        return int(self.advance().value)

    # --- SET ---

    def _set(self) -> Set:
        # A GLOBAL or SESSION holds for the assignments after it too, until the next.
        keyword = "SESSION"
        if self.accept("TRANSACTION"):
            self._transaction_characteristics()
            return Set(())  # for the next transaction only, and there are none
        if self.accept("GLOBAL", "TRANSACTION"):
            chosen = self._transaction_characteristics()
            return Set(tuple(SetGlobalVariable(name, value, "GLOBAL") for name, value in chosen.items()))
        if self.accept("SESSION", "TRANSACTION") or self.accept("LOCAL", "TRANSACTION"):
            chosen = self._transaction_characteristics()
            return Set(tuple(SetSessionVariable(name, value) for name, value in chosen.items()))
        assignments: list[Assignment] = []
        while True:
            if self.token.upper in (*_GLOBAL_KEYWORDS, *_SESSION_KEYWORDS):
                keyword = self.advance().upper
                assignments.append(self._assignment_to_name(keyword))
            else:
                assignments.append(self._assignment(keyword))
            if not self.accept(","):
                return Set(tuple(assignments))

    def _transaction_characteristics(self) -> dict[str, Word]:
        """ISOLATION LEVEL and READ ONLY or READ WRITE, either or both, as the variables they set."""
        chosen: dict[str, Word] = {}
        while True:
            if "transaction_isolation" not in chosen and self.accept("ISOLATION", "LEVEL"):
                for words in _ISOLATION_LEVELS:
                    if self.accept(*words):
                        chosen["transaction_isolation"] = Word("-".join(words))
                        break
                else:
                    raise self.error()
            elif "transaction_read_only" not in chosen and self.accept("READ"):
                read_only = self.accept("ONLY")
                if not read_only:
                    self.expect("WRITE")
                chosen["transaction_read_only"] = Word("ON" if read_only else "OFF")
            else:
                raise self.error()
            if not self.accept(","):
                return chosen

    def _assignment(self, keyword: str) -> Assignment:
        if self.token.kind is TokenKind.USER_VARIABLE:
            name = self.user_variable()
            self._equals()
            return SetUserVariable(name, self.expression())
        if self.token.kind is TokenKind.SYSTEM_VARIABLE:
            return self._assignment_to_system_variable()
        if self.accept("NAMES"):
            charset = self._charset()
            collation = self._charset() if charset is not None and self.accept("COLLATE") else None
            return SetNames(charset, collation)
        if self.accept("CHARACTER", "SET") or self.accept("CHARSET"):
            return SetCharacterSet(self._charset())
        return self._assignment_to_name(keyword)

    def _assignment_to_system_variable(self) -> Assignment:
        written = self.advance().value
        prefix, dot, rest = written.partition(".")
        keyword = prefix.upper() if dot else ""
        self._equals()
        if keyword in _GLOBAL_KEYWORDS:
            return SetGlobalVariable(rest, self._assigned_value(), keyword)
        return SetSessionVariable(rest if keyword in _SESSION_KEYWORDS else written, self._assigned_value())

    def _assignment_to_name(self, keyword: str) -> Assignment:
        name = self.name()
        while self.accept("."):
            name += "." + self.name()
        self._equals()
        if keyword in _GLOBAL_KEYWORDS:
            return SetGlobalVariable(name, self._assigned_value(), keyword)
        return SetSessionVariable(name, self._assigned_value())

    def _equals(self) -> None:
        if not self.accept(":="):
            self.expect("=")

    def _assigned_value(self) -> AssignedValue:
        if self.accept("DEFAULT"):
            return Default()
        if self.token.kind is TokenKind.WORD and self.token.upper in ("ON", "ALL", "BINARY"):
            return Word(self.advance().value)  # reserved, but values
        value = self.expression()
        return Word(value.name) if isinstance(value, Column) else value

    def _charset(self) -> str | None:
        if self.accept("DEFAULT"):
            return None
        if self.accept("BINARY"):
            return "binary"
        return self.of(TokenKind.WORD, TokenKind.NAME, TokenKind.STRING).value

    # --- SHOW ---

    def _show(self) -> Statement:
        if self.accept("BINARY", "LOGS") or self.accept("MASTER", "LOGS"):
            return ShowBinaryLogs()
        if self.accept("BINARY", "LOG", "STATUS") or self.accept("MASTER", "STATUS") or self.accept("BINLOG", "STATUS"):
            return ShowBinaryLogStatus()
        if self.accept("BINLOG", "EVENTS"):
            return self._show_binlog_events()
        if self.accept("REPLICAS"):
            return ShowReplicas()
        if self.accept("SLAVE", "HOSTS") or self.accept("REPLICA", "HOSTS"):
            return ShowReplicas(old_names=True)
        for word in ("REPLICA", "SLAVE"):
            if self.accept(word, "STATUS"):
                replica_status(self)
                return ShowReplicaStatus(old_names=word == "SLAVE")
        if self.accept("FULL", "PROCESSLIST"):
            return ShowProcesslist(full=True)
        if self.accept("PROCESSLIST"):
            return ShowProcesslist()
        if self.accept("DATABASES") or self.accept("SCHEMAS"):
            return ShowDatabases(self._pattern())
        if self.accept("FULL", "TABLES"):
            return self._show_tables(full=True)
        if self.accept("TABLES"):
            return self._show_tables(full=False)
        count = self.accept("COUNT", "(", "*", ")")
        errors_only = self.accept("ERRORS")
        if errors_only or self.accept("WARNINGS"):
            return ShowDiagnostics(errors_only, count, None if count else self._limit())
        if count:
            raise self.error()
        scope = Scope.GLOBAL if self.accept("GLOBAL") else Scope.SESSION
        if scope is Scope.SESSION and not self.accept("SESSION"):
            self.accept("LOCAL")
        if self.accept("VARIABLES"):
            return ShowVariables(scope, self._filter())
        self.expect("STATUS")
        return ShowStatus(scope, self._filter())

    def _show_binlog_events(self) -> ShowBinlogEvents:
        """One string that is written as one, and an offset that may be written with a fraction, as MySQL takes them."""
        file = self.of(TokenKind.STRING) if self.accept("IN") else None
        if file is not None and self.statement[file.start] not in "'\"":
            raise syntax_error(self.statement, file.start)
        position = FIRST_EVENT
        if self.accept("FROM"):
            position = self._position()
        return ShowBinlogEvents(None if file is None else file.value, position, self._limit())

    def _position(self) -> int:
        token = self.token
        if token.kind is not TokenKind.NUMBER or len(token.value) > MAX_DIGITS or not token.value[0].isdigit():
            raise self.error()
        self.advance()
        return min(int(float(token.value)) if not token.value.isdigit() else int(token.value), MAX_BIGINT_UNSIGNED)

    def _show_tables(self, *, full: bool) -> ShowTables:
        database = self.name() if self.accept("FROM") or self.accept("IN") else None
        return ShowTables(database, full, self._pattern())

    def _pattern(self) -> str | None:
        """The pattern of LIKE; a WHERE is read and forgotten, for where there are no rows it leaves none out."""
        if self.accept("LIKE"):
            return self.string()
        if self.accept("WHERE"):
            self.expression()
        return None

    def _filter(self) -> Expression | None:
        """LIKE, which is about the first column, or WHERE."""
        if self.accept("LIKE"):
            return Like(Column("Variable_name"), Literal(self.string()))
        return self.expression() if self.accept("WHERE") else None

    # --- the rest ---

    def _kill(self) -> Kill:
        if self.accept("QUERY"):
            return Kill(self.expression(), KillTarget.QUERY)
        self.accept("CONNECTION")
        return Kill(self.expression())

    def _use(self) -> Use:
        return Use(self.name())

    def _begin(self) -> Transaction:
        self.accept("WORK")
        return Transaction(TransactionVerb.BEGIN)

    def _start(self) -> Statement:
        if self._replica():
            return start_replica(self)
        self.expect("TRANSACTION")
        if not self.accept("READ", "ONLY"):
            self.accept("READ", "WRITE")
        return Transaction(TransactionVerb.BEGIN)

    def _replica(self) -> bool:
        return self.accept("REPLICA") or self.accept("SLAVE")

    def _stop(self) -> Statement:
        if not self._replica():
            raise self.error()
        return stop_replica(self)

    def _reset(self) -> Statement:
        if not self._replica():
            raise self.error()
        return reset_replica(self)

    def _commit(self) -> Transaction:
        self.accept("WORK")
        return Transaction(TransactionVerb.COMMIT)

    def _rollback(self) -> Transaction:
        self.accept("WORK")
        return Transaction(TransactionVerb.ROLLBACK)


def _made_up_heading(expression: Expression, first: Token, written: str) -> str:
    """What MySQL calls a column without an alias: text by its content, NULL in capitals, else as written.

    Of strings that follow each other the first alone gives the name; parentheses around a constant do not count.
    """
    if isinstance(expression, Literal):
        if isinstance(expression.value, str):
            return first.value if first.kind is TokenKind.STRING else expression.value
        return "NULL" if expression.value is None else written.strip("() ")
    return written
