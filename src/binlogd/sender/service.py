"""What all connections of the listener share: who may come in, what the server says of itself, who is there.

``Service`` is the statements' ``Backend`` (sql/backend.py) and the registry of connections and dumps. A new dump of
the same replica UUID ends the older one, as at any source (protocol.md §4, the zombie rule).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from binlogd.errors import Refusal
from binlogd.sender.blocks import Blocks
from binlogd.sender.catalog import Catalog
from binlogd.sender.dump import Dump
from binlogd.sender.gate import Gate
from binlogd.sender.live import LiveTail
from binlogd.sender.sql.backend import AttachedReplica, BinaryLog, BinaryLogStatus, Process
from binlogd.sender.sql.facts import ServerFacts, advertised_version
from binlogd.sender.sql.statements import KillTarget, Role
from binlogd.store.layout import DataFolder, Identity
from binlogd.wire.auth import Account, FastAuthCache, decoy_for
from binlogd.wire.commands import RegisterReplica
from binlogd.wire.rsa import RsaKey

NO_SUCH_THREAD = 1094
LISTINGS = 4  # SHOW BINLOG EVENTS at a time: a compressed transaction may take 128 MiB to be looked into
REMEMBERED = 4096  # replicas whose bytes are added up beyond one connection: more than anybody has, half a megabyte
UNKNOWN_SOURCE_VERSION = "8.0.0"  # while nothing is stored: any client can talk to it


AskReceiver = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]]
"""A question to the receiver; None when none answers."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in: how, from where, and to do what."""

    account: Account
    role: Role
    allows: Callable[[str], bool]  # an address


Replica = tuple[int, str, str]
"""Who a dump is for, as far as it said: server_id, server_uuid and address."""


@dataclass(slots=True, eq=False)
class Connection:
    """One client, as the process list shows it."""

    id: int
    address: str
    port: int
    since: float = field(default_factory=time.time)
    user: str = ""
    program: str = ""
    version: str = ""
    encrypted: bool = False
    database: str | None = None
    command: str = "Connect"
    command_since: float = field(default_factory=time.monotonic)
    info: str | None = None
    registered: RegisterReplica | None = None
    replica_uuid: str = ""
    server_id: int = 0
    dump: Dump | None = None
    mode: str = ""
    task: asyncio.Task[None] | None = None  # its conversation
    interruption: asyncio.Event | None = None  # there while it does what KILL QUERY may end
    killed: bool = False
    killed_why: Refusal | None = None

    @property
    def replica(self) -> Replica:
        """Whom its dump is for."""
        return self.server_id, self.replica_uuid, self.address

    def working(self, command: str, info: str | None = None) -> None:
        """What it does from now on."""
        self.command, self.info, self.command_since = command, info, time.monotonic()

    def end(self, reason: Refusal | None) -> None:
        """End it: its conversation tells the client why, if there is something to tell."""
        self.killed, self.killed_why = True, reason
        if self.task is not None:
            self.task.cancel()


class Service:
    """See the module. Belongs to the sender's event loop."""

    def __init__(
        self,
        *,
        folder: DataFolder,
        catalog: Catalog,
        identity: Identity,
        users: Mapping[str, User],
        tls: ssl.SSLContext | None,
        rsa_key: RsaKey,
        require_tls: bool,
        max_connections: int,
        port: int,
        ask_receiver: AskReceiver | None = None,
    ) -> None:
        self.catalog = catalog
        self.live = LiveTail(catalog, Blocks())
        self.identity = identity
        self.tls = tls
        self.rsa_key = rsa_key
        self.require_tls = require_tls
        self.max_connections = max_connections
        self.gate = Gate(max_connections)
        self.cache = FastAuthCache()
        self.decoy = decoy_for([user.account for user in users.values()])
        self.connections: dict[int, Connection] = {}
        self.accepted = 0
        self.most_connections = 0  # at one time
        self.refused = 0
        self.questions = 0  # statements
        self.listings = asyncio.Semaphore(LISTINGS)
        self.sent_by_gone = 0  # bytes of dumps that have ended …
        self.events_by_gone = 0  # … their events …
        self.sent_before: dict[Replica, int] = {}  # … and their bytes by replica, the one that ended last at the end
        self._folder = folder
        self._users = users
        self._port = port
        self._ask_receiver = ask_receiver
        self._started = time.monotonic()
        self._accepting: float | None = None  # since when, once clients are let in
        self._next_id = 1

    def reload(
        self, *, users: Mapping[str, User], tls: ssl.SSLContext | None, require_tls: bool, max_connections: int
    ) -> None:
        """Let these count for everybody who logs in from now on. As in MySQL, those who are in stay."""
        self._users = users
        self.decoy = decoy_for([user.account for user in users.values()])
        self.tls = tls
        self.require_tls = require_tls
        self.max_connections = self.gate.max_connections = max_connections

    async def ask_receiver(self, question: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the receiver says to a question; None when there is none that answers."""
        return None if self._ask_receiver is None else await self._ask_receiver(question)

    # --- connections ---

    def begin(self) -> None:
        """Clients are let in from now on."""
        self._accepting = time.monotonic()

    def open_connection(self, address: str, port: int) -> Connection:
        """A client came."""
        connection = Connection(self._next_id, address, port)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self.connections[connection.id] = connection
        self.gate.enter(connection)
        self.accepted += 1
        self.most_connections = max(self.most_connections, len(self.connections))
        return connection

    def close_connection(self, connection: Connection) -> None:
        """It is gone."""
        self.connections.pop(connection.id, None)
        self.gate.leave(connection)
        self.end_dump(connection)

    def find_user(self, name: str, address: str) -> User | None:
        """Who may log in by that name from there."""
        user = self._users.get(name)
        return user if user is not None and user.allows(address) else None

    def begin_dump(self, connection: Connection, dump: Dump, *, uuid: str, server_id: int, mode: str) -> None:
        """A dump begins; the older one of the same replica ends."""
        for other in list(self.connections.values()):
            if other is connection or other.dump is None:
                continue
            same = other.replica_uuid == uuid if uuid else not other.replica_uuid and other.server_id == server_id
            if same and (uuid or server_id):
                other.end(
                    Refusal(
                        1236,
                        "HY000",
                        "A replica with the same server_uuid/server_id as this replica has connected to the source",
                    )
                )
        connection.replica_uuid, connection.server_id, connection.mode = uuid, server_id, mode
        connection.dump = dump

    def end_dump(self, connection: Connection) -> None:
        """Its dump, if it has one, has ended: what it sent goes on to count."""
        dump, connection.dump = connection.dump, None
        if dump is None:
            return
        self.sent_by_gone += dump.sent_bytes
        self.events_by_gone += dump.sent_events
        self.sent_before[connection.replica] = self.sent_before.pop(connection.replica, 0) + dump.sent_bytes
        if len(self.sent_before) > REMEMBERED:
            del self.sent_before[next(iter(self.sent_before))]

    # --- facts ---

    def version(self) -> str:
        """The server version we show: the source's, with our name behind it."""
        return advertised_version(self.catalog.publication.server_version or UNKNOWN_SOURCE_VERSION)

    def facts(self) -> ServerFacts:
        """What system variables say now."""
        publication = self.catalog.publication
        source = self.catalog.source
        basename = publication.file.rpartition(".")[0]
        known: dict[str, Any] = source.for_facts() if source is not None else {}
        return ServerFacts(
            version=self.version(),
            server_id=self.identity.server_id,
            server_uuid=self.identity.server_uuid,
            hostname=socket.gethostname(),
            port=self._port,
            gtid_executed=lambda: str(publication.executed),
            gtid_purged=lambda: str(publication.purged),
            binlogd_timelines=lambda: ",".join(timeline.path.name for timeline in self.catalog.timelines()),
            binlog_checksum=self.catalog.checksum,
            log_bin_basename=basename,
            log_bin_index=f"{basename}.index" if basename else "",
            datadir=str(self._folder.path),
            max_connections=self.max_connections,
            tls=self.tls is not None,
            require_tls=self.require_tls,
            **known,
        )

    # --- sql.backend.Backend ---

    def binary_logs(self) -> Iterable[BinaryLog]:
        """SHOW BINARY LOGS: each by a name that it can be asked for by (plan.py)."""
        logs = self.catalog.logs
        times = Counter(log.name for log in logs)
        return [BinaryLog(log.name if times[log.name] == 1 else log.qualified, log.size) for log in logs]

    def binary_log_status(self) -> BinaryLogStatus | None:
        """SHOW BINARY LOG STATUS."""
        publication, logs = self.catalog.publication, self.catalog.logs
        if not publication.file:
            return None
        newest = logs[-1]
        unique = sum(log.name == newest.name for log in logs) == 1
        name = newest.name if unique else newest.qualified
        return BinaryLogStatus(name, publication.position, str(publication.executed))

    def replicas(self) -> Iterable[AttachedReplica]:
        """SHOW REPLICAS: those that registered, as mysqld lists them."""
        return [
            AttachedReplica(
                connection.registered.server_id,
                connection.registered.host,
                connection.registered.port,
                self.identity.server_id,
                connection.replica_uuid,
            )
            for connection in self.connections.values()
            if connection.registered is not None
        ]

    def processlist(self) -> Iterable[Process]:
        """SHOW PROCESSLIST."""
        now = time.monotonic()
        return [
            Process(
                connection.id,
                connection.user or "unauthenticated user",
                f"{connection.address}:{connection.port}",
                connection.database,
                connection.command,
                int(now - connection.command_since),
                self._state_of(connection),
                connection.info,
            )
            for connection in self.connections.values()
        ]

    def status(self) -> Mapping[str, str]:
        """SHOW STATUS."""
        return {
            "Uptime": str(int(time.monotonic() - self._started)),
            "Threads_connected": str(len(self.connections)),
            "Max_used_connections": str(self.most_connections),
            "Connections": str(self.accepted),
            "Aborted_connects": str(self.refused),
            "Bytes_sent": str(self.sent_bytes()),
            "Questions": str(self.questions),
        }

    def statistics(self) -> str:
        """What mysqld's answer to COM_STATISTICS looks like; there are no tables to be opened."""
        uptime, questions = int(time.monotonic() - self._started), self.questions
        return (
            f"Uptime: {uptime}  Threads: {len(self.connections)}  Questions: {questions}  Slow queries: 0  Opens: 0  "
            f"Flush tables: 0  Open tables: 0  Queries per second avg: {questions / max(uptime, 1):.3f}"
        )

    def kill(self, connection_id: int, target: KillTarget) -> None:
        """KILL."""
        victim = self.connections.get(connection_id)
        if victim is None:
            raise Refusal(NO_SUCH_THREAD, "HY000", f"Unknown thread id: {connection_id}")
        if target is KillTarget.CONNECTION or victim.dump is not None:
            victim.end(None)
        elif victim.interruption is not None:
            victim.interruption.set()

    # --- status ---

    def sent_bytes(self) -> int:
        """Bytes of all dumps."""
        running = sum(c.dump.sent_bytes for c in self.connections.values() if c.dump is not None)
        return self.sent_by_gone + running

    def sent_events(self) -> int:
        """Events of all dumps."""
        running = sum(c.dump.sent_events for c in self.connections.values() if c.dump is not None)
        return self.events_by_gone + running

    def snapshot(self) -> dict[str, Any]:
        """The sender's part of the status (interface.md)."""
        publication = self.catalog.publication
        return {
            "connections": len(self.connections),
            "connections_accepted": self.accepted,
            "logins_refused": self.refused,
            "max_connections": self.max_connections,
            "sent_bytes": self.sent_bytes(),
            "sent_events": self.sent_events(),
            "published": {"file": publication.file, "position": publication.position},
            "serving_s": 0.0 if self._accepting is None else time.monotonic() - self._accepting,
            "oldest": self.catalog.oldest,
            "reading": [c.dump.reading for c in self.connections.values() if c.dump is not None],
            "damaged": self.catalog.damage.snapshot(),
            "replicas": [
                self._replica(connection) for connection in self.connections.values() if connection.dump is not None
            ],
        }

    def _replica(self, connection: Connection) -> dict[str, Any]:
        assert connection.dump is not None
        file, position = connection.dump.place
        registered = connection.registered
        return {
            "id": connection.id,
            "user": connection.user,
            "host": connection.address,
            "port": connection.port,
            "report_host": registered.host if registered else "",
            "server_id": connection.server_id,
            "server_uuid": connection.replica_uuid,
            "program": connection.program,
            "version": connection.version,
            "mode": connection.mode,
            "file": file,
            "position": position,
            "sent_bytes": connection.dump.sent_bytes,
            "sent_bytes_before": self.sent_before.get(connection.replica, 0),
            "lag_bytes": connection.dump.lag_bytes(),
            "last_event_time": connection.dump.last_event_time,
            "since": connection.since,
            "tls": connection.encrypted,
        }

    @staticmethod
    def _state_of(connection: Connection) -> str | None:
        if connection.dump is None:
            return None
        if connection.dump.lag_bytes():
            return "Sending binlog event to replica"
        return "Source has sent all binlog to replica; waiting for more updates"
