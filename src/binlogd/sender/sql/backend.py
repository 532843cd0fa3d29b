"""What the statements need of the rest of the sender: a few questions, answered with plain data at once.

The rows are named tuples in the order of the columns MySQL shows. An implementation answers from memory:
statements are executed on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from binlogd.sender.sql.statements import KillTarget


class BinaryLog(NamedTuple):
    """A row of SHOW BINARY LOGS; ``size`` in bytes, of what is published."""

    name: str
    size: int
    encrypted: str = "No"


class BinaryLogStatus(NamedTuple):
    """SHOW BINARY LOG STATUS: the end of what is published."""

    file: str
    position: int
    gtid_executed: str


class AttachedReplica(NamedTuple):
    """A row of SHOW REPLICAS: one that has registered or dumps."""

    server_id: int
    host: str
    port: int
    source_id: int
    replica_uuid: str


class Process(NamedTuple):
    """A row of SHOW PROCESSLIST; ``time`` in seconds in its state."""

    id: int
    user: str
    host: str
    database: str | None
    command: str
    time: int
    state: str | None
    info: str | None


class Backend(Protocol):
    """Answers what is asked of the server as a whole, at this moment."""

    def binary_logs(self) -> Iterable[BinaryLog]:
        """The files, oldest first."""

    def binary_log_status(self) -> BinaryLogStatus | None:
        """The end of what is published; None while nothing is stored."""

    def replicas(self) -> Iterable[AttachedReplica]:
        """The replicas attached to this listener."""

    def processlist(self) -> Iterable[Process]:
        """The connections of this listener."""

    def status(self) -> Mapping[str, str]:
        """SHOW STATUS: counters under MySQL's names, and binlogd's."""

    def kill(self, connection_id: int, target: KillTarget) -> None:
        """End the connection, or only what it does now. Refusal 1094 when there is none of that number."""
