"""docs/sql.md names every statement and function there is, and no other, each statement with its role."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from binlogd.errors import Refusal
from binlogd.sender.sql import Role
from binlogd.sender.sql.functions import FUNCTIONS
from binlogd.sender.sql.parser import parse
from binlogd.sender.sql.statements import REQUIREMENTS, requirements

from .support import Client

REFERENCE = (Path(__file__).parents[3] / "docs" / "sql.md").read_text()

# A row of the table by how it begins, and statements that it stands for.
EXAMPLES = {
    "`SELECT …`": ["SELECT 1"],
    "`SET @user": ["SET @a = 1"],
    "`SET [SESSION] variable": ["SET autocommit = 1"],
    "`SET NAMES`": ["SET NAMES utf8mb4", "SET CHARACTER SET utf8mb4"],
    "`SET [SESSION] TRANSACTION": ["SET TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ ONLY"],
    "`SET GLOBAL": ["SET GLOBAL server_id = 1"],
    "`SHOW [GLOBAL\\|SESSION] VARIABLES": ["SHOW VARIABLES", "SHOW GLOBAL VARIABLES LIKE 'x'"],
    "`SHOW [GLOBAL\\|SESSION] STATUS": ["SHOW STATUS", "SHOW GLOBAL STATUS"],
    "`SHOW BINARY LOGS`": ["SHOW BINARY LOGS", "SHOW MASTER LOGS"],
    "`SHOW BINARY LOG STATUS`": ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS", "SHOW BINLOG STATUS"],
    "`SHOW BINLOG EVENTS": ["SHOW BINLOG EVENTS", "SHOW BINLOG EVENTS IN 'a' FROM 4 LIMIT 1, 2"],
    "`SHOW REPLICAS`": ["SHOW REPLICAS", "SHOW SLAVE HOSTS", "SHOW REPLICA HOSTS"],
    "`SHOW REPLICA STATUS`": ["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
    "`SHOW [FULL] PROCESSLIST`": ["SHOW PROCESSLIST", "SHOW FULL PROCESSLIST"],
    "`SHOW DATABASES`": ["SHOW DATABASES", "SHOW TABLES", "SHOW FULL TABLES"],
    "`SHOW WARNINGS`": ["SHOW WARNINGS", "SHOW ERRORS", "SHOW COUNT(*) WARNINGS"],
    "`KILL ": ["KILL 7", "KILL QUERY 7", "KILL CONNECTION 7"],
    "`CHANGE ": ["CHANGE REPLICATION SOURCE TO SOURCE_HOST='a'", "CHANGE MASTER TO MASTER_HOST='a'"],
    "`PURGE ": ["PURGE BINARY LOGS TO 'a'", "PURGE MASTER LOGS BEFORE NOW() - INTERVAL 1 DAY"],
    "`START REPLICA`": ["START REPLICA", "START SLAVE"],
    "`STOP REPLICA`": ["STOP REPLICA", "STOP SLAVE"],
    "`RESET REPLICA": ["RESET REPLICA", "RESET REPLICA ALL", "RESET SLAVE"],
    "`USE ": ["USE d"],
    "`BEGIN`": ["BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK"],
    "comments": ["/* nothing */"],
}


def table() -> dict[str, str]:
    """Statement and role of each row."""
    rows = re.findall(r"^\| (.+?) \| (replica|monitor|admin) \|", REFERENCE, re.MULTILINE)
    return dict(rows)


def test_every_statement_has_its_row_and_its_role() -> None:
    rows = table()
    covered = set()
    for beginning, statements in EXAMPLES.items():
        (row,) = [row for row in rows if row.startswith(beginning)]
        for statement in statements:
            parsed = parse(statement)
            covered.add(type(parsed))
            covered |= {type(each) for each in getattr(parsed, "assignments", ())}
            needed = max((each.role for each in requirements(parsed)), key=list(Role).index)
            assert needed.value == rows.pop(row, needed.value), statement
    assert rows == {}, "rows that no statement stands for"
    assert covered == set(REQUIREMENTS)


def test_every_function_is_named() -> None:
    section = REFERENCE.partition("## Functions")[2].partition("\n\n`WAIT")[0]
    assert set(re.findall(r"`([A-Z_]+)\(", section)) == set(FUNCTIONS)


@pytest.mark.parametrize("statement", [one for each in EXAMPLES.values() for one in each])
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_is_its_own(role: Role, statement: str) -> None:
    client = Client(role)
    client.answer = {"notes": []}
    allowed = all(role.includes(each.role) for each in requirements(parse(statement)))
    code = 0
    try:
        if "EVENTS" in statement or "REPLICA STATUS" in statement or "SLAVE STATUS" in statement:
            client.outcome(statement)
        else:
            client.run(statement)
    except Refusal as refusal:
        code = refusal.code
    assert (code != 1227) is allowed, statement
