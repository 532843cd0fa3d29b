"""Values of expressions: SQL's three-valued logic, comparisons, LIKE, functions, and the bound on work."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.sender.sql.patterns import matches
from binlogd.sender.sql.results import ColumnKind

from .support import OTHER_UUID, UUID, Client, some_facts


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1", "1"),
        ("-1", "-1"),
        ("- -1.50", "1.50"),
        ("-'2x'", "-2"),
        ("1e3", "1000"),
        ("1e30", "1e30"),
        ("2.5e-7", "2.5e-07"),
        ("18446744073709551616", "18446744073709551616"),
        ("'ü'", "ü"),
        ("TRUE", "1"),
        ("FALSE", "0"),
        ("NULL", None),
        ("-NULL", None),
        ("@nothing", None),
        ("1 = 1", "1"),
        ("1 = 2", "0"),
        ("1 <> 2", "1"),
        ("1 < 2", "1"),
        ("2 <= 1", "0"),
        ("2 > 1", "1"),
        ("1 >= 1.0", "1"),
        ("1 = NULL", None),
        ("NULL <=> NULL", "1"),
        ("NULL <=> 1", "0"),
        ("1 <=> 1", "1"),
        ("'abc' = 'ABC'", "1"),
        ("'a' < 'B'", "1"),
        ("'10' < '9'", "1"),
        ("'10' < 9", "0"),
        ("' 1.5x' = 1.5", "1"),
        ("'x' = 0", "1"),
        ("'1e2' = 100", "1"),
        ("NOT 1", "0"),
        ("NOT 'x'", "1"),
        ("NOT NULL", None),
        ("! 0", "1"),
        ("1 AND 2", "1"),
        ("1 AND 0", "0"),
        ("NULL AND 0", "0"),
        ("NULL AND 1", None),
        ("0 OR 2", "1"),
        ("0 OR 0", "0"),
        ("NULL OR 1", "1"),
        ("NULL OR 0", None),
        ("1 IN (3, 2, 1)", "1"),
        ("1 IN (3, 2)", "0"),
        ("1 IN (3, NULL)", None),
        ("NULL IN (1)", None),
        ("1 NOT IN (3, 2)", "1"),
        ("NULL IS NULL", "1"),
        ("0 IS NOT NULL", "1"),
        ("'abc' LIKE 'A%'", "1"),
        ("'abc' NOT LIKE 'A%'", "0"),
        ("123 LIKE '1_3'", "1"),
        ("NULL LIKE 'x'", None),
        ("'x' LIKE NULL", None),
    ],
)
def test_values(client: Client, expression: str, value: str | None) -> None:
    assert client.value(f"SELECT {expression}") == value


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("1", ColumnKind.BIGINT),
        ("-1", ColumnKind.BIGINT),
        ("9223372036854775808", ColumnKind.BIGINT_UNSIGNED),
        ("1.5", ColumnKind.DECIMAL),
        ("1e5", ColumnKind.DOUBLE),
        ("'x'", ColumnKind.STRING),
        ("NULL", ColumnKind.NULL),
        ("1 = NULL", ColumnKind.BIGINT),
        ("NOT NULL", ColumnKind.BIGINT),
        ("@nothing", ColumnKind.BINARY),
        ("@@server_id", ColumnKind.BIGINT_UNSIGNED),
        ("@@autocommit", ColumnKind.BIGINT),
        ("@@version", ColumnKind.STRING),
        ("DATABASE()", ColumnKind.STRING),
        ("UNIX_TIMESTAMP()", ColumnKind.BIGINT),
        ("CONNECTION_ID()", ColumnKind.BIGINT_UNSIGNED),
        ("NOW()", ColumnKind.DATETIME),
        ("GTID_SUBSET(NULL, '')", ColumnKind.BIGINT),
    ],
)
def test_kinds_of_columns(client: Client, expression: str, kind: ColumnKind) -> None:
    (column,) = client.result(f"SELECT {expression} LIMIT 0").columns
    assert column.kind is kind


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("VERSION()", "9.7.4-binlogd"),
        ("USER()", "repl@10.0.0.1"),
        ("session_user()", "repl@10.0.0.1"),
        ("SYSTEM_USER()", "repl@10.0.0.1"),
        ("CURRENT_USER()", "repl@10.%"),
        ("CURRENT_USER", "repl@10.%"),
        ("CONNECTION_ID()", "7"),
        ("DATABASE()", None),
        ("SCHEMA()", None),
        ("UNIX_TIMESTAMP()", "1800000000"),
        (f"GTID_SUBSET('{UUID}:2-3', '{UUID}:1-5')", "1"),
        (f"GTID_SUBSET('{UUID}:1-5', '{UUID}:2-3')", "0"),
        ("GTID_SUBSET('', '')", "1"),
        ("GTID_SUBSET(NULL, '')", None),
        (f"GTID_SUBSET('{UUID}:1', @@global.gtid_executed)", "1"),
        (f"GTID_SUBTRACT(@@global.gtid_executed, '{UUID}:2')", f"{UUID}:1:3-5"),
        (f"GTID_SUBTRACT('{UUID}:1,{OTHER_UUID}:1', '')", f"{UUID}:1,\n{OTHER_UUID}:1"),
        ("GTID_SUBTRACT('', NULL)", None),
        ("GTID_SUBTRACT(@@gtid_executed, @@gtid_executed) = ''", "1"),
    ],
)
def test_functions(client: Client, call: str, value: str | None) -> None:
    client.session.account_host = "10.%"
    assert client.value(f"SELECT {call}") == value


def test_now_follows_the_time_zone(client: Client) -> None:
    client.ok("SET time_zone = '+05:30'")
    assert client.row("SELECT NOW(), CURRENT_TIMESTAMP") == ("2027-01-15 13:30:00", "2027-01-15 13:30:00")
    client.ok("SET time_zone = '-13:59'")
    assert client.value("SELECT NOW()") == "2027-01-14 18:01:00"
    client.ok("SET time_zone = SYSTEM")
    assert client.value("SELECT NOW()") == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_800_000_000))


@pytest.mark.parametrize(
    ("expression", "code", "message"),
    [
        ("foo", 1054, "Unknown column 'foo' in 'field list'"),
        ("`Foo`", 1054, "Unknown column 'Foo' in 'field list'"),
        ("binlog_gtid_pos('mysql-bin.000001', 4)", 1305, "FUNCTION binlog_gtid_pos does not exist"),
        ("GTID_SUBSET('')", 1582, "Incorrect parameter count in the call to native function 'GTID_SUBSET'"),
        ("VERSION(1)", 1582, "Incorrect parameter count in the call to native function 'VERSION'"),
        ("GTID_SUBSET('abc', '')", 1772, "Malformed GTID set specification 'abc'."),
        ("GTID_SUBTRACT('', 5)", 1772, "Malformed GTID set specification '5'."),
        ("@@nonsense", 1193, "Unknown system variable 'nonsense'"),
    ],
)
def test_refusals(client: Client, expression: str, code: int, message: str) -> None:
    refusal = client.refusal(f"SELECT {expression}")
    assert (refusal.code, refusal.message) == (code, message)


def test_a_long_malformed_gtid_set_is_quoted_in_part(client: Client) -> None:
    assert len(client.refusal(f"SELECT GTID_SUBSET('{'x' * 9000}', '')").message) < 300


@pytest.mark.parametrize(
    ("text", "pattern", "matched"),
    [
        ("", "", True),
        ("", "%", True),
        ("a", "", False),
        ("binlog_checksum", "BINLOG_CHECKSUM", True),
        ("binlogXchecksum", "binlog_checksum", True),
        ("binlogXchecksum", r"binlog\_checksum", False),
        ("binlog_checksum", r"binlog\_%", True),
        ("100%", r"100\%", True),
        ("100x", r"100\%", False),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("a\nc", "a_c", True),
        ("a\nc", "%c", True),
        ("aXbXc", "a%b%c", True),
        ("acb", "a%b%c", False),
        ("ab", "a%b%b", False),
        ("abab", "%ab", True),
        ("abc", "%%c", True),
        ("abc", "_%_%_%_", False),
        ("a\\", "a\\", True),
        ("Ü", "ü", True),
    ],
)
def test_like(text: str, pattern: str, matched: bool) -> None:
    assert matches(text, pattern) is matched


@settings(max_examples=300)
@given(st.text("aAb", max_size=8), st.text("ab%_", max_size=6))
def test_like_is_what_a_backtracking_search_finds(text: str, pattern: str) -> None:
    plain = "".join({"%": ".*", "_": "."}.get(character, character) for character in pattern)
    assert matches(text, pattern) is (re.fullmatch(plain, text, re.IGNORECASE) is not None)


@pytest.mark.parametrize(
    "expression",
    [
        "@text LIKE '" + "%a_" * 10_000 + "'",
        " OR ".join(["@text LIKE '%a_b%'"] * 2000),
        " AND ".join(["@text = @text"] * 3000),
        " AND ".join(["GTID_SUBSET(@@gtid_executed, @@gtid_executed)"] * 1000),
        "'b' IN (" + ", ".join(["@text"] * 6000) + ")",
    ],
)
def test_the_work_of_a_statement_is_bounded(expression: str) -> None:
    many = ",".join(f"{UUID}:{number}" for number in range(1, 40_000, 2))
    client = Client(facts=some_facts(gtid_executed=lambda: many))
    client.ok(f"SET @text = '{'a' * 60_000}'")
    begun = time.process_time()
    assert client.code(f"SELECT {expression}") == 3024
    assert time.process_time() - begun < 5


def test_one_statement_does_not_use_up_another_ones_work(client: Client) -> None:
    client.ok(f"SET @text = '{'a' * 60_000}'")
    once = "SELECT " + " AND ".join(["@text = @text"] * 20)
    for _ in range(10):
        assert client.value(once) == "1"
    assert client.code("SELECT " + " AND ".join(["@text = @text"] * 100)) == 3024
