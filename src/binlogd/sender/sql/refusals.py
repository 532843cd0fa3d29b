"""The errors MySQL answers to SQL, under its own numbers, SQLSTATEs and words.

Clients decide by the number (a replica takes 1193 for "this source is older, go on without"), people read the
words, so both are MySQL's (``share/messages_to_clients.txt``). Text that came from the client is cut short
and made printable before it goes into a message: a message is one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from binlogd.errors import Refusal

NEAR_LENGTH = 80  # MySQL's own limit in ER_PARSE_ERROR: '%-.80s'
QUOTED_LENGTH = 200  # of a name or value in any other message; MySQL's limits lie between 64 and 200


def printable(text: str, limit: int = QUOTED_LENGTH) -> str:
    """``text`` cut to ``limit`` characters, with white space and what is not printable replaced."""
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "?" for character in text[:limit]
    )


HIDDEN = "<secret>"  # what MySQL writes into its logs in the place of a password
_SECRET_AHEAD = re.compile(r"(?:pas[a-z]*w|pwd|identified)\w*", re.IGNORECASE)  # misspelt ones too
_NO_SECRET = re.compile(r"\s*(?:SELECT|SHOW)\b", re.IGNORECASE)


def secret_ahead(text: str) -> re.Match[str] | None:
    """The first word behind which a password may stand."""
    return _SECRET_AHEAD.search(text)


def without_secrets(statement: str) -> str:
    """``statement`` up to a word that a password may follow: what others may be shown of it."""
    found = None if _NO_SECRET.match(statement) else secret_ahead(statement)
    return statement if found is None else f"{statement[: found.end()]} = {HIDDEN}"


def syntax_error(statement: str, offset: int, secrets: Iterable[tuple[int, int]] | None = None) -> Refusal:
    """1064: ``statement`` cannot be understood from ``offset`` on.

    ``secrets`` are the places that are not repeated; where they are not known, all behind a word that promises one.
    """
    if secrets is None:
        found = None if _NO_SECRET.match(statement) else secret_ahead(statement)
        secrets = () if found is None else ((found.end(), len(statement)),)
    shown, at = "", offset
    for start, end in secrets:
        if end > at:
            shown += statement[at:start] + HIDDEN  # nothing, where the secret began before
            at = end
    near = printable(shown + statement[at : at + NEAR_LENGTH], NEAR_LENGTH)
    line = statement.count("\n", 0, offset) + 1
    return Refusal(
        1064,
        "42000",
        "You have an error in your SQL syntax; check the manual that corresponds to your MySQL server "
        f"version for the right syntax to use near '{near}' at line {line}",
    )


def empty_query() -> Refusal:
    return Refusal(1065, "42000", "Query was empty")


def too_big() -> Refusal:
    return Refusal(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes")


def invalid_characters(charset: str, raw: bytes) -> Refusal:
    return Refusal(1300, "HY000", f"Invalid {charset} character string: '{raw[:6].hex().upper()}'")


def not_supported(what: str) -> Refusal:
    return Refusal(1235, "42000", f"This version of MySQL doesn't yet support '{what}'")


def not_supported_because(what: str, why: str) -> Refusal:
    """1235, with what to do instead."""
    refusal = not_supported(what)
    return Refusal(refusal.code, refusal.sqlstate, f"{refusal.message}: {why}")


_NO_TABLES = "binlogd keeps binary logs and has no tables, accounts or routines; send this to the source or a replica"
_OF_TABLES = (
    "ALTER ANALYZE CALL CHECK CHECKSUM CLONE CREATE DEALLOCATE DELETE DESC DESCRIBE DO DROP EXECUTE EXPLAIN GRANT "
    "HANDLER IMPORT INSERT INSTALL LOAD LOCK OPTIMIZE PREPARE RELEASE RENAME REPAIR REPLACE REVOKE SAVEPOINT TABLE "
    "TRUNCATE UNINSTALL UNLOCK UPDATE VALUES WITH XA"
)
_WHY_NOT = {
    **dict.fromkeys(_OF_TABLES.split(), _NO_TABLES),
    "FLUSH": "a new file begins when the source begins one; FLUSH BINARY LOGS at the source, or PURGE BINARY LOGS here",
    "RESTART": "binlogd ends by the signal TERM and is started by whatever runs it, as systemctl restart binlogd",
    "SHUTDOWN": "binlogd ends by the signal TERM to binlogd run, as systemctl stop binlogd sends it",
}


def not_for_a_binlog_server(verb: str) -> Refusal | None:
    """1235 for what MySQL can do and a binary log server cannot; None for what is no statement at all."""
    why = _WHY_NOT.get(verb)
    return None if why is None else not_supported_because(verb, why)


def no_tables(what: str) -> Refusal:
    """1235 for what needs tables."""
    return not_supported_because(what, _NO_TABLES)


def no_dump(program: str) -> Refusal:
    """1235 for mysqldump and its like: without databases it writes an empty dump and says that all went well."""
    return not_supported_because(
        printable(program),
        "binlogd keeps binary logs and has no tables to dump; run it at the source or a replica, and binlogd"
        " dump or mysqlbinlog for the binary log",
    )


def wrong_arguments(option: str) -> Refusal:
    return Refusal(1210, "HY000", f"Incorrect arguments to {option}")


def string_too_long(text: str, option: str, longest: int) -> Refusal:
    return Refusal(
        1470, "HY000", f"String '{printable(text, 70)}' is too long for {option} (should be no longer than {longest})"
    )


def password_too_long(longest: int) -> Refusal:
    return Refusal(
        3056,
        "HY000",
        f"The password provided for the replication user exceeds the maximum length of {longest} characters",
    )


def heartbeat_out_of_range() -> Refusal:
    return Refusal(
        1624,
        "HY000",
        "The requested value for the heartbeat period is either negative or exceeds the maximum allowed (4294967"
        " seconds).",
    )


def no_such_channel(name: str) -> Refusal:
    return Refusal(3074, "HY000", f"Replica channel '{printable(name)}' does not exist.")


def changed_nothing(why: str) -> Refusal:
    """1201, what MySQL says when it cannot get at its connection metadata: no order was taken."""
    return Refusal(1201, "HY000", f"Nothing has changed: {why}")


def outcome_unknown() -> Refusal:
    """1201 too, but the order was given, and nobody said what became of it."""
    return Refusal(
        1201,
        "HY000",
        "The receiver was given the order and has not answered in time: the outcome is not known, it may be carried out"
        " yet; see SHOW REPLICA STATUS before you repeat it",
    )


def out_of_resources(message: str) -> Refusal:
    """1041, the number MySQL gives when a session asks for more memory than there is."""
    return Refusal(1041, "HY000", message)


def took_too_much() -> Refusal:
    return Refusal(3024, "HY000", "Query execution was interrupted, maximum statement execution time exceeded")


def too_many_columns() -> Refusal:
    return Refusal(1117, "HY000", "Too many columns")


def access_denied(privilege: str) -> Refusal:
    return Refusal(
        1227,
        "42000",
        f"Access denied; you need (at least one of) the {privilege} privilege(s) for this operation",
    )


def no_such_thread(connection_id: int) -> Refusal:
    return Refusal(1094, "HY000", f"Unknown thread id: {connection_id}")


def not_owner(connection_id: int) -> Refusal:
    return Refusal(1095, "HY000", f"You are not owner of thread {connection_id}")


def unknown_database(name: str) -> Refusal:
    return Refusal(1049, "42000", f"Unknown database '{printable(name)}'")


def unknown_column(name: str, clause: str) -> Refusal:
    return Refusal(1054, "42S22", f"Unknown column '{printable(name)}' in '{clause}'")


def unknown_function(name: str) -> Refusal:
    return Refusal(1305, "42000", f"FUNCTION {printable(name)} does not exist")


def wrong_argument_count(function: str) -> Refusal:
    return Refusal(1582, "42000", f"Incorrect parameter count in the call to native function '{function}'")


def cannot_show_events(why: str) -> Refusal:
    """1220, and what is wrong."""
    return Refusal(1220, "HY000", f"Error when executing command SHOW BINLOG EVENTS: {why}")


def query_interrupted() -> Refusal:
    return Refusal(1317, "70100", "Query execution was interrupted")


def malformed_gtid_set(text: str) -> Refusal:
    return Refusal(1772, "HY000", f"Malformed GTID set specification '{printable(text)}'.")


def cannot_wait_without_gtids() -> Refusal:
    return Refusal(3062, "HY000", "Cannot use WAIT_FOR_EXECUTED_GTID_SET when GTID_MODE = OFF.")


def illegal_number(kind: str, text: str) -> Refusal:
    return Refusal(1367, "22007", f"Illegal {kind} '{printable(text)}' value found during parsing")


def illegal_user_variable(name: str) -> Refusal:
    return Refusal(3061, "42000", f"User variable name '{printable(name)}' is illegal")


def unknown_variable(name: str) -> Refusal:
    return Refusal(1193, "HY000", f"Unknown system variable '{printable(name)}'")


def wrong_scope(name: str, kind: str) -> Refusal:
    """1238: ``kind`` is what the variable is: ``GLOBAL``, ``SESSION`` or ``read only``."""
    return Refusal(1238, "HY000", f"Variable '{name}' is a {kind} variable")


def not_for_set_global(name: str) -> Refusal:
    return Refusal(1228, "HY000", f"Variable '{name}' is a SESSION variable and can't be used with SET GLOBAL")


def session_value_is_read_only(name: str) -> Refusal:
    return Refusal(1621, "HY000", f"SESSION variable '{name}' is read-only. Use SET GLOBAL to assign the value")


def wrong_value(name: str, value: str) -> Refusal:
    return Refusal(1231, "42000", f"Variable '{name}' can't be set to the value of '{printable(value)}'")


def wrong_type(name: str) -> Refusal:
    return Refusal(1232, "42000", f"Incorrect argument type to variable '{name}'")


def unknown_charset(name: str) -> Refusal:
    return Refusal(1115, "42000", f"Unknown character set: '{printable(name)}'")


def unknown_collation(name: str) -> Refusal:
    return Refusal(1273, "HY000", f"Unknown collation: '{printable(name)}'")


def collation_mismatch(collation: str, charset: str) -> Refusal:
    return Refusal(1253, "42000", f"COLLATION '{printable(collation)}' is not valid for CHARACTER SET '{charset}'")


def unknown_time_zone(name: str) -> Refusal:
    return Refusal(1298, "HY000", f"Unknown or incorrect time zone: '{printable(name)}'")
