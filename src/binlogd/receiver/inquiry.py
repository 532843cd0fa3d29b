"""What a source says of itself, asked with SELECT and SHOW alone.

It neither registers nor dumps: a source ends the older dump when another one begins with the same UUID, and drops a
replica from SHOW REPLICAS with the connection that registered it (protocol.md §4), so whoever only looks must do
neither while a receiver is at work.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from binlogd.errors import ProtocolError, ServerError
from binlogd.receiver.cascade import is_binlogd
from binlogd.receiver.session import Session, whole_number

PERSIST_SINCE = (8, 0, 0)
SOURCE_SPELLING_SINCE = (8, 0, 26)
ER_SPECIFIC_ACCESS_DENIED = 1227
ER_NO_BINARY_LOGGING = 1381
REPLICAS_SINCE = (8, 0, 22)  # SHOW REPLICAS; before it SHOW SLAVE HOSTS, which 8.4 knows no more

_VARIABLES = (
    "log_bin",
    "binlog_format",
    "binlog_checksum",
    "server_id",
    "server_uuid",
    "gtid_mode",
    "gtid_executed",
    "gtid_purged",
    "read_only",
    "enforce_gtid_consistency",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "binlogd_timelines",
    "binlog_row_image",
    "log_replica_updates",
    "log_slave_updates",
    "max_binlog_size",
)


@dataclass(frozen=True, slots=True)
class Registered:
    """A replica that a source lists. ``server_uuid`` is "" where the source does not say: MariaDB."""

    server_id: int
    server_uuid: str
    host: str


@dataclass(frozen=True, slots=True)
class SourceState:
    """What a source says. ``variables`` and ``status`` hold those of interest that it knows, by name.

    ``account`` is who we are there, user@host; ``compression`` that of the connection, "" without; ``ahead`` by how
    many seconds its clock is before ours; ``binary_logs`` name and size of each, oldest first; ``replicas`` those that
    registered; ``replicates`` whether it is itself a replica, asked only where it matters. None when we may not ask.
    """

    version: str
    account: str
    encrypted: bool
    compression: str
    local: bool
    ahead: float
    variables: Mapping[str, str]
    status: Mapping[str, str]
    grants: tuple[str, ...]
    binary_logs: tuple[tuple[str, int], ...] | None
    replicas: tuple[Registered, ...] | None = None
    replicates: bool | None = None

    @property
    def number(self) -> tuple[int, int, int]:
        """The version as numbers, (0, 0, 0) when it has none."""
        return numbers(self.version)

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB."""
        return "MariaDB" in self.version

    @property
    def is_binlogd(self) -> bool:
        """Whether it is another binlogd, which has no grants, no semi-sync and no engine (cascade.py)."""
        return is_binlogd(self.version)

    @property
    def word(self) -> str:
        """How its semi-sync variables and plugin are called."""
        if "rpl_semi_sync_master_enabled" in self.variables:  # the old plugin, which 8.x has too
            return "master"
        return "source" if not self.is_mariadb and self.number >= SOURCE_SPELLING_SINCE else "master"

    def semi_sync(self, name: str) -> str | None:
        """A semi-sync variable by the end of its name."""
        return self.variables.get(f"rpl_semi_sync_{self.word}_{name}")

    def setting(self, name: str, value: str) -> str:
        """How to set a variable for good."""
        if not self.is_mariadb and self.number >= PERSIST_SINCE:
            return f"SET PERSIST {name} = {value}"
        return f"SET GLOBAL {name} = {value}, and the same in my.cnf"


def numbers(version: str) -> tuple[int, int, int]:
    """A version as numbers, (0, 0, 0) when it has none."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)


def _replicas(session: Session, version: str) -> tuple[Registered, ...] | None:
    """Who has registered; MariaDB wants REPLICATION MASTER ADMIN for the answer, MySQL REPLICATION SLAVE."""
    rows = _granted(session, "SHOW REPLICAS" if _new_words(version) else "SHOW SLAVE HOSTS", 4)
    if rows is None:
        return None
    return tuple(Registered(whole_number(row[0]), row[4].lower() if len(row) > 4 else "", row[1]) for row in rows)


def _replicates(session: Session, version: str) -> bool | None:
    if "MariaDB" in version:
        rows = _granted(session, "SHOW ALL SLAVES STATUS", 1)
    else:
        rows = _granted(session, "SHOW REPLICA STATUS" if _new_words(version) else "SHOW SLAVE STATUS", 1)
    return None if rows is None else bool(rows)


def _new_words(version: str) -> bool:
    return "MariaDB" not in version and numbers(version) >= REPLICAS_SINCE


def _granted(session: Session, sql: str, columns: int) -> list[tuple[str, ...]] | None:
    """The rows; None when the account may not ask."""
    try:
        return session.rows(sql, columns)
    except ServerError as refused:
        if refused.code != ER_SPECIFIC_ACCESS_DENIED:
            raise
        return None


def quoted(account: str) -> str:
    """``user@host`` as CURRENT_USER() gives it, for a statement: ``'user'@'host'``."""
    user, _, host = account.rpartition("@")
    return "@".join("'" + part.replace("'", "''") + "'" for part in (user, host))


def grant(account: str, privileges: str = "REPLICATION SLAVE, REPLICATION CLIENT") -> str:
    """The statement that gives ``user@host`` what replication needs."""
    return f"GRANT {privileges} ON *.* TO {quoted(account)}"


def ask(session: Session, *, local: bool) -> SourceState:
    """Everything, over a session that is logged in. ``local`` says that nobody can listen on the way."""
    who = "SELECT VERSION(), CURRENT_USER(), UNIX_TIMESTAMP()"
    rows = session.rows(who, 3)
    if len(rows) != 1:
        raise ProtocolError(f"the source answered {who} with {len(rows)} rows")
    version, account, clock = rows[0][:3]
    ahead = whole_number(clock) + 0.5 - time.time()  # the source's clock in whole seconds
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    wanted = f"Variable_name IN ({names}) OR Variable_name LIKE 'rpl\\_semi\\_sync\\_%'"
    variables = session.rows(f"SHOW GLOBAL VARIABLES WHERE {wanted}", 2)
    semi_sync = "SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync\\_%'"
    status = [] if session.is_binlogd else session.rows(semi_sync, 2)
    grants = [] if session.is_binlogd else session.rows("SHOW GRANTS FOR CURRENT_USER()", 1)
    try:
        binary_logs = tuple((row[0], whole_number(row[1])) for row in session.rows("SHOW BINARY LOGS", 2))
    except ServerError as refused:
        if refused.code not in (ER_SPECIFIC_ACCESS_DENIED, ER_NO_BINARY_LOGGING):
            raise
        binary_logs = None
    of_interest = {row[0].lower(): row[1] for row in variables}
    relays = of_interest.get("log_replica_updates") or of_interest.get("log_slave_updates")
    return SourceState(
        version=version,
        account=account,
        encrypted=session.encrypted,
        compression=session.compression or "",
        local=local,
        ahead=ahead,
        variables=of_interest,
        status={row[0].lower(): row[1] for row in status},
        grants=tuple(row[0] for row in grants),
        binary_logs=binary_logs,
        replicas=_replicas(session, version),
        replicates=None if relays in (None, "ON") or session.is_binlogd else _replicates(session, version),
    )
