"""What one connection has set: user variables, session variables, the database, and its last error.

A replica says what it wants by setting user variables before it asks for a dump (``announcement``). All of it
is bounded, for whoever may log in may also send ``SET`` for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from binlogd.sender.sql.expressions import Value
from binlogd.sender.sql.refusals import out_of_resources

# A replica sets a dozen; the largest is MariaDB's @slave_connect_state, a GTID for each domain and server.
MAX_USER_VARIABLES = 256
MAX_USER_VARIABLE_BYTES = 256 * 1024  # of all names and values of a connection together


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One row of SHOW WARNINGS."""

    level: str  # Note, Warning or Error
    code: int
    message: str


@dataclass(slots=True)
class SessionState:
    """One connection's state. ``account`` is CURRENT_USER()'s host part, what the user's entry allows."""

    connection_id: int
    user: str
    host: str
    account_host: str = "%"
    database: str | None = None
    variables: dict[str, Value] = field(default_factory=dict)  # set session variables, by lower-case name
    diagnostics: tuple[Diagnostic, ...] = ()
    _user_variables: dict[str, Value] = field(default_factory=dict)

    def user_variable(self, name: str) -> Value:
        """The value of ``@name``; None, which is NULL, when it was never set."""
        return self._user_variables.get(name.lower())

    def has_user_variable(self, name: str) -> bool:
        """Whether ``@name`` was set, be it to NULL."""
        return name.lower() in self._user_variables

    def set_user_variables(self, values: Mapping[str, Value]) -> None:
        """Set all of ``values``, or none and raise Refusal 1041 when there would be too much."""
        merged = self._user_variables | {name.lower(): value for name, value in values.items()}
        if len(merged) > MAX_USER_VARIABLES:
            raise out_of_resources(
                f"Out of memory; binlogd keeps at most {MAX_USER_VARIABLES} user variables for a connection"
            )
        if sum(len(name) + _size(value) for name, value in merged.items()) > MAX_USER_VARIABLE_BYTES:
            raise out_of_resources(
                "Out of memory; binlogd keeps at most "
                f"{MAX_USER_VARIABLE_BYTES} bytes of user variables for a connection"
            )
        self._user_variables = merged

    def reset(self) -> None:
        """COM_RESET_CONNECTION and COM_CHANGE_USER: all that was set is forgotten."""
        self.database = None
        self.variables.clear()
        self.diagnostics = ()
        self._user_variables = {}


def _size(value: Value) -> int:
    """The bytes ``value`` takes, as near as a limit needs; a number has at most 65 digits."""
    return len(value.encode()) if isinstance(value, str) else 8


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a replica said of itself before its dump; None where it said nothing.

    ``heartbeat_period`` is in nanoseconds, 0 for no heartbeats. ``binlog_checksum`` is as set: a replica that
    knows no checksums sets none, one that knows them sets the value we gave it or ``NONE``.
    ``mariadb_capability`` is 0 for MySQL and 4 for MariaDB from 10.0.3; ``slave_connect_state`` is a MariaDB
    GTID list, which asks for a start by it. ``timeline`` is the number of the only one that another binlogd wants.
    """

    heartbeat_period: int | None
    binlog_checksum: str | None
    replica_uuid: str | None
    semi_sync: bool
    mariadb_capability: int
    slave_connect_state: str | None
    slave_until_gtid: str | None
    slave_gtid_strict_mode: bool
    slave_gtid_ignore_duplicates: bool
    timeline: str | None


def announcement(session: SessionState) -> Announcement:
    """What the replica on ``session`` said; of an old and a new name the new one counts, as in MySQL."""
    return Announcement(
        heartbeat_period=_whole(_first(session, "source_heartbeat_period", "master_heartbeat_period")),
        binlog_checksum=_text(_first(session, "source_binlog_checksum", "master_binlog_checksum")),
        replica_uuid=_text(_first(session, "replica_uuid", "slave_uuid")),
        semi_sync=bool(_whole(_first(session, "rpl_semi_sync_replica", "rpl_semi_sync_slave"))),
        mariadb_capability=_whole(session.user_variable("mariadb_slave_capability")) or 0,
        slave_connect_state=_text(session.user_variable("slave_connect_state")),
        slave_until_gtid=_text(session.user_variable("slave_until_gtid")),
        slave_gtid_strict_mode=bool(_whole(session.user_variable("slave_gtid_strict_mode"))),
        slave_gtid_ignore_duplicates=bool(_whole(session.user_variable("slave_gtid_ignore_duplicates"))),
        timeline=_text(session.user_variable("binlogd_timeline")),
    )


def _first(session: SessionState, *names: str) -> Value:
    return next((value for name in names if (value := session.user_variable(name)) is not None), None)


def _text(value: Value) -> str | None:
    return None if value is None else str(value)


def _whole(value: Value) -> int | None:
    """``value`` as a whole number that is not negative; text is read as one, and is 0 when it is none."""
    if value is None:
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else 0
    return max(0, int(value))
