"""PURGE BINARY LOGS: its grammar, the order that it is for the receiver, and what MySQL says of the outcome.

What a connected replica still needs stays, and the newest file does; as at mysqld that is a warning, and what stands
before it goes. A file is older than a moment by its last event, where mysqld goes by when the file was written to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from binlogd.sender.sql.cursor import Cursor
from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.refusals import wrong_arguments
from binlogd.sender.sql.replica_orders import notes_of
from binlogd.sender.sql.session import Diagnostic
from binlogd.sender.sql.statements import PurgeLogs
from binlogd.sender.sql.time_zones import seconds_of
from binlogd.sender.sql.tokens import TokenKind

WARN_IN_USE = 1867  # ER_WARN_PURGE_LOG_IN_USE
WARN_IS_ACTIVE = 1868  # ER_WARN_PURGE_LOG_IS_ACTIVE
_UNITS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400, "WEEK": 604_800}  # seconds
_LONGEST = 10  # digits of an interval
_LATEST = datetime.max.replace(tzinfo=UTC).timestamp()


def purge_logs(cursor: Cursor) -> PurgeLogs:
    """PURGE …"""
    if not (cursor.accept("BINARY") or cursor.accept("MASTER")):
        raise cursor.error()
    cursor.expect("LOGS")
    if cursor.accept("TO"):
        return PurgeLogs(to=cursor.string())
    cursor.expect("BEFORE")
    before = cursor.expression()
    return PurgeLogs(before=before, earlier=_interval(cursor) if cursor.accept("-") else 0)


def _interval(cursor: Cursor) -> int:
    cursor.expect("INTERVAL")
    token = cursor.token
    if token.kind is not TokenKind.NUMBER or not token.value.isdigit() or len(token.value) > _LONGEST:
        raise cursor.error()
    count = int(cursor.advance().value)
    unit = _UNITS.get(cursor.token.upper)
    if unit is None:
        raise cursor.error()
    cursor.advance()
    return count * unit


def question(statement: PurgeLogs, before: Value, zone: str) -> dict[str, Any]:
    """The order, as the receiver takes it; ``before`` is what its expression gives, in the session's time zone."""
    if statement.to is not None:
        return {"ask": "order", "order": "purge", "to": statement.to}
    try:
        moment = datetime.fromisoformat(str(before)) - timedelta(seconds=statement.earlier)
        seconds = moment.timestamp() if moment.tzinfo is not None else seconds_of(moment, zone)
    except (ValueError, OverflowError, OSError):
        raise wrong_arguments("PURGE LOGS BEFORE") from None
    if not 0 <= seconds <= _LATEST:
        raise wrong_arguments("PURGE LOGS BEFORE")
    return {"ask": "order", "order": "purge", "before": seconds}


def warnings(answer: Mapping[str, Any] | None) -> list[Diagnostic]:
    """What stayed; Refusal when it was not done."""
    if answer is None or "removed" not in answer:
        return notes_of(answer)
    blocked = answer["blocked"]
    if blocked is None:
        return []
    if not blocked["readers"]:
        text = f"file {blocked['name']} was not purged because it is the active log file."
        return [Diagnostic("Warning", WARN_IS_ACTIVE, text)]
    text = (
        f"file {blocked['name']} was not purged because it was being read by {blocked['readers']} thread(s), purged"
        f" only {len(answer['removed'])} out of {blocked['wanted']} files."
    )
    return [Diagnostic("Warning", WARN_IN_USE, text)]
