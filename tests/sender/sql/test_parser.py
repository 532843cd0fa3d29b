"""Tokens to statements: what each form means, and where what is no statement is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import Refusal
from binlogd.sender.sql.cursor import MAX_DEPTH
from binlogd.sender.sql.expressions import (
    And,
    Call,
    Column,
    Compare,
    Expression,
    In,
    IsNull,
    Like,
    Literal,
    Negate,
    Not,
    Or,
    Scope,
    SystemVariable,
    UserVariable,
)
from binlogd.sender.sql.parser import MAX_COLUMNS, parse
from binlogd.sender.sql.statements import (
    Default,
    Kill,
    KillTarget,
    Limit,
    Nothing,
    Select,
    Set,
    SetCharacterSet,
    SetGlobalVariable,
    SetNames,
    SetSessionVariable,
    SetUserVariable,
    ShowBinaryLogs,
    ShowBinaryLogStatus,
    ShowDatabases,
    ShowDiagnostics,
    ShowProcesslist,
    ShowReplicas,
    ShowStatus,
    ShowTables,
    ShowVariables,
    Statement,
    Transaction,
    TransactionVerb,
    Use,
    Word,
)


def refusal(statement: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(statement)
    return caught.value


def expression(text: str) -> Expression:
    statement = parse(f"SELECT {text} AS x")
    assert isinstance(statement, Select)
    (item,) = statement.items
    return item.expression


NAME = Column("Variable_name")
GLOBAL, SESSION = Scope.GLOBAL, Scope.SESSION


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("SHOW BINARY LOGS", ShowBinaryLogs()),
        ("show master logs;", ShowBinaryLogs()),
        ("SHOW BINARY LOG STATUS", ShowBinaryLogStatus()),
        ("SHOW MASTER STATUS ; ", ShowBinaryLogStatus()),
        ("SHOW REPLICAS", ShowReplicas()),
        ("SHOW SLAVE HOSTS", ShowReplicas(old_names=True)),
        ("SHOW PROCESSLIST", ShowProcesslist()),
        ("SHOW FULL PROCESSLIST", ShowProcesslist(full=True)),
        ("SHOW DATABASES", ShowDatabases()),
        ("SHOW SCHEMAS LIKE 'a%'", ShowDatabases("a%")),
        ("SHOW TABLES", ShowTables()),
        ("SHOW FULL TABLES FROM `a b`", ShowTables("a b", full=True)),
        ("SHOW TABLES IN d LIKE 'x'", ShowTables("d", like="x")),
        ("SHOW WARNINGS", ShowDiagnostics()),
        ("SHOW WARNINGS LIMIT 5", ShowDiagnostics(limit=Limit(5))),
        ("SHOW ERRORS LIMIT 2, 5", ShowDiagnostics(errors_only=True, limit=Limit(5, 2))),
        ("SHOW COUNT(*) WARNINGS", ShowDiagnostics(count=True)),
        ("SHOW COUNT(*) ERRORS", ShowDiagnostics(errors_only=True, count=True)),
        ("SHOW VARIABLES", ShowVariables()),
        ("SHOW SESSION VARIABLES", ShowVariables(SESSION)),
        ("SHOW LOCAL VARIABLES", ShowVariables(SESSION)),
        ("SHOW GLOBAL VARIABLES", ShowVariables(GLOBAL)),
        ("SHOW VARIABLES LIKE 'SERVER_ID'", ShowVariables(SESSION, Like(NAME, Literal("SERVER_ID")))),
        ('SHOW GLOBAL STATUS LIKE "U%"', ShowStatus(GLOBAL, Like(NAME, Literal("U%")))),
        ("SHOW STATUS", ShowStatus()),
        (
            "SHOW VARIABLES WHERE Variable_name IN ('a', 'b')",
            ShowVariables(SESSION, In(NAME, (Literal("a"), Literal("b")))),
        ),
        (
            "SHOW VARIABLES WHERE `Variable_name` = 'a' OR Variable_name LIKE 'b'",
            ShowVariables(SESSION, Or((Compare("=", NAME, Literal("a")), Like(NAME, Literal("b"))))),
        ),
        ("KILL 5", Kill(Literal(5))),
        ("KILL CONNECTION 5", Kill(Literal(5))),
        ("KILL /*!50000 QUERY */ 5", Kill(Literal(5), KillTarget.QUERY)),
        ("KILL QUERY CONNECTION_ID()", Kill(Call("CONNECTION_ID", ()), KillTarget.QUERY)),
        ("USE `my db`", Use("my db")),
        ("BEGIN", Transaction(TransactionVerb.BEGIN)),
        ("START TRANSACTION READ ONLY", Transaction(TransactionVerb.BEGIN)),
        ("COMMIT WORK", Transaction(TransactionVerb.COMMIT)),
        ("ROLLBACK", Transaction(TransactionVerb.ROLLBACK)),
    ],
)
def test_statements(text: str, statement: Statement) -> None:
    assert parse(text, server_version=90704) == statement
    assert type(parse(text.swapcase(), server_version=90704)) is type(statement)


@pytest.mark.parametrize(
    ("text", "assignments"),
    [
        ("@a = 1", [SetUserVariable("a", Literal(1))]),
        ("@a:=1,@b= 'x'", [SetUserVariable("a", Literal(1)), SetUserVariable("b", Literal("x"))]),
        ("@a = @@global.x", [SetUserVariable("a", SystemVariable("x", GLOBAL))]),
        ("NAMES utf8", [SetNames("utf8")]),
        ("NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'", [SetNames("utf8mb4", "utf8mb4_bin")]),
        ("NAMES binary", [SetNames("binary")]),
        ("NAMES DEFAULT", [SetNames(None)]),
        ("CHARACTER SET latin1", [SetCharacterSet("latin1")]),
        ("CHARSET DEFAULT", [SetCharacterSet(None)]),
        ("AUTOCOMMIT=0", [SetSessionVariable("AUTOCOMMIT", Literal(0))]),
        ("autocommit = ON", [SetSessionVariable("autocommit", Word("ON"))]),
        ("sql_mode = ansi", [SetSessionVariable("sql_mode", Word("ansi"))]),
        ("SESSION a = 1", [SetSessionVariable("a", Literal(1))]),
        ("LOCAL a = DEFAULT", [SetSessionVariable("a", Default())]),
        ("@@a = 1", [SetSessionVariable("a", Literal(1))]),
        ("@@session.a = NULL", [SetSessionVariable("a", Literal(None))]),
        ("@@local.`a` = 1", [SetSessionVariable("a", Literal(1))]),
        ("@@GLOBAL.a = 1", [SetGlobalVariable("a", Literal(1), "GLOBAL")]),
        ("PERSIST a.b = 1", [SetGlobalVariable("a.b", Literal(1), "PERSIST")]),
        ("@@persist_only.a = 1", [SetGlobalVariable("a", Literal(1), "PERSIST_ONLY")]),
        ("a.b = 1", [SetSessionVariable("a.b", Literal(1))]),
        (
            "GLOBAL a = 1, b = 2, @@c = 3, SESSION d = 4, e = 5, NAMES utf8",
            [
                SetGlobalVariable("a", Literal(1), "GLOBAL"),
                SetGlobalVariable("b", Literal(2), "GLOBAL"),
                SetSessionVariable("c", Literal(3)),
                SetSessionVariable("d", Literal(4)),
                SetSessionVariable("e", Literal(5)),
                SetNames("utf8"),
            ],
        ),
    ],
)
def test_set(text: str, assignments: list[object]) -> None:
    assert parse(f"SET {text}") == Set(tuple(assignments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("@@version_comment limit 1", ["@@version_comment"]),
        ("USER(), Current_User", ["USER()", "Current_User"]),
        ("@@a AS b, @@c d, @@e 'f g', @@h AS \"i\", 1 `limit`", ["b", "d", "f g", "i", "limit"]),
        ("'abc', 'a' 'b', _utf8mb4'x', ('y')", ["abc", "a", "x", "y"]),
        ("null, true, False", ["NULL", "true", "False"]),
        ("( (2) ), 1.50, -1,  @x , GTID_SUBSET( 'a' ,\n'b' )", ["2", "1.50", "-1", "@x", "GTID_SUBSET( 'a' ,\n'b' )"]),
        ("1" + " = 1" * 20, [("1" + " = 1" * 20)]),
        ("GTID_SUBSET('" + "a" * 300 + "', '')", ["GTID_SUBSET('" + "a" * 243]),
    ],
)
def test_headings_are_the_alias_or_as_written(text: str, headings: list[str]) -> None:
    statement = parse(f"SELECT {text}")
    assert isinstance(statement, Select)
    assert [item.heading for item in statement.items] == headings


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        ("LIMIT 1", Limit(1)),
        ("LIMIT 2, 1", Limit(1, 2)),
        ("LIMIT 1 OFFSET 2", Limit(1, 2)),
        ("FROM DUAL LIMIT 0", Limit(0)),
    ],
)
def test_limit(text: str, limit: Limit | None) -> None:
    statement = parse(f"SELECT 1 {text}")
    assert isinstance(statement, Select)
    assert statement.limit == limit


ONE, TWO, THREE = Literal(1), Literal(2), Literal(3)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("1", ONE),
        ("18446744073709551615", Literal(2**64 - 1)),
        ("18446744073709551616", Literal(Decimal(2**64))),
        ("1.5", Literal(Decimal("1.5"))),
        (".5", Literal(Decimal("0.5"))),
        ("1e3", Literal(1000.0)),
        ("NULL", Literal(None)),
        ("'a' \"b\"", Literal("ab")),
        ("@x", UserVariable("x")),
        ("@@x", SystemVariable("x", None)),
        ("@@Local.x", SystemVariable("x", SESSION)),
        ("@@a.b", SystemVariable("a.b", None)),
        ("f", Column("f")),
        ("f()", Call("f", ())),
        ("f(1, (2))", Call("f", (ONE, TWO))),
        ("CURRENT_USER", Call("CURRENT_USER", ())),
        ("- 1", Negate(ONE)),
        ("! 1", Not(ONE)),
        ("NOT 1 = 2", Not(Compare("=", ONE, TWO))),
        ("1 OR 2 AND 3", Or((ONE, And((TWO, THREE))))),
        ("(1 || 2) && 3", And((Or((ONE, TWO)), THREE))),
        ("1 OR 2 OR 3", Or((ONE, TWO, THREE))),
        ("1 != 2", Compare("<>", ONE, TWO)),
        ("1 <=> 2", Compare("<=>", ONE, TWO)),
        ("1 = 2 = 3", Compare("=", Compare("=", ONE, TWO), THREE)),
        ("1 IS NULL", IsNull(ONE)),
        ("1 IS NOT NULL", IsNull(ONE, negated=True)),
        ("1 NOT LIKE 2", Like(ONE, TWO, negated=True)),
        ("1 NOT IN (2,3)", In(ONE, (TWO, THREE), negated=True)),
    ],
)
def test_expressions(text: str, tree: Expression) -> None:
    assert expression(text) == tree


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("SELECT", ""),
        ("SELECT 1,", ""),
        ("SELECT FROM x", "FROM x"),
        ("SELECT 1 FROM WHERE", "WHERE"),
        ("SELECT 1 LIMIT x", "x"),
        ("SELECT 1 LIMIT 1.5", "1.5"),
        ("SELECT 1; SELECT 2", "SELECT 2"),
        ("SELECT 1 x y", "y"),
        ("SELECT 1 AS", ""),
        ("SELECT 1 AS from", "from"),
        ("SELECT (1", ""),
        ("SELECT f(1,)", ")"),
        ("SELECT 1 IN ()", ")"),
        ("SELECT 1 IS 2", "2"),
        ("SELECT 1 NOT 2", "NOT 2"),
        ("SELECT 1 + 1", "+ 1"),
        ("SELECT $$", "$$"),
        ("SET", ""),
        ("SET @x", ""),
        ("SET @x 1", "1"),
        ("SET x = ", ""),
        ("SET NAMES", ""),
        ("SET NAMES 1", "1"),
        ("SET GLOBAL @x = 1", "@x = 1"),
        ("SHOW", ""),
        ("SHOW BINARY", "BINARY"),
        ("SHOW WARNINGS ERRORS", "ERRORS"),
        ("SHOW COUNT(*) VARIABLES", "VARIABLES"),
        ("SHOW GLOBAL BINARY LOGS", "BINARY LOGS"),
        ("SHOW VARIABLES LIKE x", "x"),
        ("SHOW VARIABLES LIKE 'x' 1", "1"),
        ("SHOW VARIABLES WHERE", ""),
        ("SHOW TABLES FROM", ""),
        ("KILL", ""),
        ("KILL HARD 5", "5"),
        ("START SLAVES", "SLAVES"),
        ("STOP", ""),
        ("STOP TRANSACTION", "TRANSACTION"),
        ("RESET", ""),
        ("RESET MASTER", "MASTER"),
        ("CHANGE REPLICATION SOURCE TO", ""),
        ("CHANGE REPLICATION SOURCE TO FOO = 1", "FOO = 1"),
        ("CHANGE REPLICATION SOURCE TO MASTER_HOST = 'a'", "MASTER_HOST = 'a'"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_HOST = 1", "1"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_PORT = '33'", "'33'"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_HEARTBEAT_PERIOD = -1", "-1"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'a',", ""),
        ("STOP REPLICA FOR CHANNEL", ""),
        ("BEGIN 1", "1"),
        ("'SELECT'", "'SELECT'"),
        ("`SELECT` 1", "`SELECT` 1"),
    ],
)
def test_what_does_not_fit_is_a_syntax_error_just_there(text: str, near: str) -> None:
    error = refusal(text)
    assert (error.code, error.sqlstate) == (1064, "42000")
    assert error.message.endswith(f"to use near '{near}' at line 1")


@pytest.mark.parametrize(
    ("text", "verb", "advice"),
    [
        ("SHUTDOWN", "SHUTDOWN", "systemctl stop binlogd"),
        ("restart", "RESTART", "systemctl restart binlogd"),
        ("FLUSH /*!40101 LOCAL */ TABLES", "FLUSH", "FLUSH BINARY LOGS at the source"),
        ("INSERT INTO t VALUES (1)", "INSERT", "has no tables, accounts or routines"),
        ("CREATE USER u IDENTIFIED BY 'hush'", "CREATE", "send this to the source or a replica"),
        ("LOCK TABLES t READ", "LOCK", "has no tables"),
        ("SELECT 1 FROM t", "SELECT ... FROM", "has no tables"),
        ("SELECT * FROM t", "SELECT *", "has no tables"),
        ("SELECT `a` FROM `information_schema`.`tables`", "SELECT ... FROM", "has no tables"),
    ],
)
def test_what_is_not_for_a_binlog_server_is_refused_by_name(text: str, verb: str, advice: str) -> None:
    error = refusal(text)
    assert (error.code, error.sqlstate) == (1235, "42000")
    assert error.message.startswith(f"This version of MySQL doesn't yet support '{verb}': ")
    assert advice in error.message
    assert "hush" not in error.message


@pytest.mark.parametrize("text", ["", "  ", ";", " ; ", "\n"])
def test_nothing_is_an_empty_query(text: str) -> None:
    assert refusal(text).code == 1065


@pytest.mark.parametrize("text", ["-- nothing", " /* nothing */ ", "#", "/*!99999 SELECT 1 */"])
def test_comments_only_are_a_statement_that_does_nothing(text: str) -> None:
    assert parse(text) == Nothing()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 40 + "1" + ")" * 40,
        "NOT " * 40 + "1",
        "! " * 40 + "1",
        "- " * 40 + "1",
        "1" + " = 1" * 40,
        "1" + " IS NULL" * 40,
        "(" * 14 + "1" + (" = 1" * 31 + ")") * 14,
        "(" * 14 + "1" + (" IS NULL" * 31 + ")") * 14,
        "f(" * 40 + ")" * 40,
        "(" * 30_000,
        "- " * 30_000 + "1",
    ],
)
def test_depth_is_bounded(text: str) -> None:
    assert refusal(f"SELECT {text}").code == 1235


def test_length_is_not_depth() -> None:
    tree = expression(" OR ".join(["1"] * 5000))
    assert isinstance(tree, Or)
    assert len(tree.operands) == 5000
    expression("(" * (MAX_DEPTH // 2 - 1) + "1" + ")" * (MAX_DEPTH // 2 - 1))


def test_bounds() -> None:
    columns = ",".join(["1"] * MAX_COLUMNS)
    parse(f"SELECT {columns}")
    assert refusal(f"SELECT {columns},1").code == 1117
    assert refusal("SET @" + "x" * 65 + " = 1").code == 3061
    assert refusal("SELECT @''").code == 3061
    assert refusal("SELECT 1e999").code == 1367
    assert refusal("SELECT " + "9" * 5000).code == 1367
    assert refusal("SELECT 1." + "9" * 5000).code == 1367


_WORDS = "SELECT SET SHOW VARIABLES LIKE WHERE IN ( ) , = := @x @@g.y 'z' 1 NULL NOT AND - AS a LIMIT KILL NAMES ;"


@settings(max_examples=300)
@given(st.lists(st.sampled_from(_WORDS.split()), max_size=12), st.sampled_from([" ", "", "\n", "/**/"]))
def test_any_tokens_give_a_statement_or_a_refusal(words: list[str], between: str) -> None:
    statement = between.join(words)
    try:
        parse(statement)
    except Refusal:
        assert refusal(statement).code in (1064, 1065)
