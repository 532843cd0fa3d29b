"""The conversation with the source before the dump, as a replica of MySQL 8/9 holds it (protocol.md §1).

Everything is asked in the new spelling first and, where an older source does not know it, in the old one. Only
REPLICATION SLAVE is needed.
"""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from binlogd import __version__
from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.errors import ConfigError, ProtocolError, ServerError, SourceRefused
from binlogd.receiver.cascade import is_binlogd, parse_timelines, plain_name
from binlogd.receiver.link import Link, Wake
from binlogd.receiver.plan import Kept, SourceFacts, Start, check_identity
from binlogd.store.layout import Identity
from binlogd.store.source_facts import NUMBERS, TEXTS, SourceSettings
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.commands import BinlogDump, BinlogDumpGtid, RegisterReplica
from binlogd.wire.compression import Algorithm
from binlogd.wire.results import Result

CR_COMPRESSION_WRONGLY_CONFIGURED = 2066  # what MySQL's clients call it when they see it
ER_WRONG_COMPRESSION = 3922  # and its servers: ER_WRONG_COMPRESSION_ALGORITHM_CLIENT
UNKNOWN_VARIABLE = 1193  # ER_UNKNOWN_SYSTEM_VARIABLE
SYNTAX = 1064  # ER_PARSE_ERROR
PRIVILEGE_MISSING = 1227  # ER_SPECIFIC_ACCESS_DENIED_ERROR
OLD_LOG_STATUS = "SHOW MASTER STATUS"  # before MySQL 8.2, and MariaDB
SEND_ANNOTATE_ROWS = 2  # a flag of MariaDB's COM_BINLOG_DUMP: without it these events are left out
MAX_PEM = 1024 * 1024  # bytes of a TLS file: a bundle of all public authorities has a quarter of it
NO_GTIDS = b"\0" * 8  # an empty GTID set: COM_BINLOG_DUMP_GTID then leaves nothing out


class Tls(Enum):
    """The configuration's source.tls."""

    DISABLED = "disabled"
    PREFERRED = "preferred"
    REQUIRED = "required"
    VERIFY_CA = "verify-ca"
    VERIFY_IDENTITY = "verify-identity"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to reach the source and what to ask of it. Times are seconds; ``password`` never shows in repr."""

    host: str
    port: int
    user: str
    password: Secret
    semi_sync: bool = True
    start: str = "oldest"
    heartbeat: float = 1.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    compression: Algorithm | None = None
    tls: Tls = Tls.PREFERRED
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    report_host: str = ""
    report_port: int = 0


class Secret:
    """A text that shows in no repr, log or traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('…')"


def whole_number(text: str) -> int:
    """A whole number that the source says; ProtocolError for anything else."""
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"the source says {text[:40]!r} where a number must stand") from None


class Session:
    """One connection to the source, from log-in to the dump command."""

    def __init__(self, options: SourceOptions, identity: Identity, wake: Wake) -> None:
        self._options = options
        self._identity = identity
        self._wake = wake
        self._link: Link | None = None
        self._connection = ClientConnection(
            user=options.user,
            password=options.password.reveal(),
            tls={Tls.DISABLED: TlsPolicy.DISABLED, Tls.PREFERRED: TlsPolicy.PREFERRED}.get(
                options.tls, TlsPolicy.REQUIRED
            ),
            attributes={
                "program_name": "binlogd",
                "_client_name": "binlogd",
                "_client_version": __version__,
                "_client_role": "binary_log_listener",
            },
            compression=options.compression,
        )
        self._ask_log_status = "SHOW BINARY LOG STATUS"
        self.marked = False  # packets carry the marks of semi-sync
        self.semi_sync = False  # and the source waits for us

    @property
    def link(self) -> Link:
        """The connection's socket."""
        assert self._link is not None
        return self._link

    @property
    def encrypted(self) -> bool:
        """Whether TLS is on."""
        return self.link.encrypted

    @property
    def is_binlogd(self) -> bool:
        """Whether the source is another binlogd (cascade.py)."""
        greeting = self._connection.greeting
        return greeting is not None and is_binlogd(greeting.server_version)

    @property
    def compression(self) -> Algorithm | None:
        """How the connection is compressed, once it is made."""
        return self._connection.compression

    def connect(self) -> None:
        """Connect and log in."""
        options = self._options
        self._link = link = Link(options.host, options.port, timeout=options.connect_timeout, wake=self._wake)
        link.begin_login()
        connection = self._connection
        while connection.state is not ClientState.READY:
            if connection.state is ClientState.WANT_TLS:
                link.send(connection.data_to_send())
                link.start_tls(tls_context(options), options.host)
                connection.tls_established(verified=_verifies(options))
            else:
                try:
                    connection.receive(link.receive())
                except ServerError as refused:
                    if refused.code != ER_WRONG_COMPRESSION:
                        raise
                    raise self._no_agreement("takes no connection without compression") from refused
                if connection.greeting is not None and connection.compression is not options.compression:
                    raise self._no_agreement(f"does not offer {options.compression} compression")
            link.send(connection.data_to_send())
        if options.compression is not None:
            link.start_compression(options.compression)
        link.end_login(options.read_timeout)

    def _no_agreement(self, what: str) -> SourceRefused:
        """On compression; like MySQL's replica we take nothing else than what is set."""
        greeting = self._connection.greeting
        assert greeting is not None
        offered = [algorithm.value for algorithm in Algorithm if greeting.capabilities & algorithm.capability]
        return SourceRefused(
            f"the source at {self.link.peer} {what}",
            hint=f"set source.compression to what it offers, {' or '.join([*offered, 'none'])}; a MySQL source offers"
            " what its protocol_compression_algorithms names",
            code=CR_COMPRESSION_WRONGLY_CONFIGURED,
        )

    def prepare(self) -> SourceFacts:
        """What a replica says and asks after it has logged in, but for ``enlist``."""
        options = self._options
        greeting = self._connection.greeting
        assert greeting is not None
        version = greeting.server_version
        server_id = whole_number(self._variable("server_id"))
        uuid = self._variable("server_uuid", default="")
        gtid_mode = self._variable("gtid_mode", default="")
        facts = SourceFacts(
            server_version=version,
            server_id=server_id,
            server_uuid=uuid.lower(),
            checksum=self._announce_checksum(),
            gtid_mode=gtid_mode or "OFF",
            executed=self._gtids("gtid_executed") if gtid_mode else None,
            purged=self._gtids("gtid_purged") if gtid_mode else None,
            read_only=self.read_only(),
            timelines=parse_timelines(self._variable("binlogd_timelines")) if self.is_binlogd else (),
        )
        check_identity(facts, server_id=self._identity.server_id, server_uuid=self._identity.server_uuid)
        if self._variable("log_bin", default="1") == "0":
            raise SourceRefused(
                f"the source at {self.link.peer} writes no binary log (log_bin is OFF)",
                hint="set log_bin in its my.cnf and restart it: a binlog server can keep only what the source logs",
            )
        period = round(options.heartbeat * 1e9)
        self._query(f"SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}")
        mine = self._identity.server_uuid
        self._query(f"SET @slave_uuid = '{mine}', @replica_uuid = '{mine}'")
        if self._mariadb():
            self._query("SET @mariadb_slave_capability = 4")
        return facts

    def enlist(self) -> None:
        """Before a dump that keeps what it gets: be listed as a replica, and waited for."""
        self._register()
        setting = self._semi_sync_setting() if self._options.semi_sync else ""
        if setting:
            self._query("SET @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1")
            self.marked = True
            self.semi_sync = setting == "ON"

    def copy(self, history: Kept | None) -> None:
        """Have the dumps be of one of a binlogd's timelines alone; None at a server, which has no others."""
        if history is not None:
            self._query(f"SET @binlogd_timeline = '{history.number:04}'")

    def read_only(self) -> bool:
        """Whether the server takes no writes from ordinary users."""
        return self._variable("read_only", default="0").upper() not in ("0", "OFF")

    def waits(self) -> bool:
        """Whether the server waits for the acknowledgements of its replicas, as it is set now."""
        return self._semi_sync_setting() == "ON"

    def executed(self) -> GtidSet:
        """The source's gtid_executed now; ServerError where it knows of none."""
        return self._gtids("gtid_executed")

    def settings(self) -> SourceSettings:
        """What clients of ours will ask about the source."""
        names = ", ".join(f"'{name}'" for name in (*TEXTS, *NUMBERS))
        rows = self.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})", 2)
        return SourceSettings({row[0]: row[1] for row in rows})

    def current_file(self, history: Kept | None = None) -> str:
        """The name of the source's newest binary log; needs REPLICATION CLIENT."""
        try:
            rows = self._log_status()
        except ServerError as error:
            if error.code == PRIVILEGE_MISSING:
                error.hint = f"run at the source: GRANT REPLICATION CLIENT ON *.* TO '{self._options.user}'@'%'"
            raise
        if not rows:
            raise SourceRefused("the source has no current binary log", hint="set log_bin there")
        return plain_name(rows[0][0], history.number) if history is not None else rows[0][0]

    def newest_place(self) -> tuple[str, int] | None:
        """The source's newest binary log and how far it is written; None when it does not say, or not to us."""
        try:
            rows = self._log_status()
        except ServerError as error:
            if error.code != PRIVILEGE_MISSING:
                raise
            return None
        return (rows[0][0], whole_number(rows[0][1])) if rows else None

    def _log_status(self) -> list[tuple[str, ...]]:
        while True:
            try:
                return self.rows(self._ask_log_status, 2)
            except ServerError as error:
                if error.code != SYNTAX or self._ask_log_status == OLD_LOG_STATUS:
                    raise
                self._ask_log_status = OLD_LOG_STATUS

    def is_of(self, facts: SourceFacts) -> bool:
        """Whether the server is the one that said that of itself: an address may lead to several."""
        uuid = self._variable("server_uuid", default="").lower()
        known = bool(uuid) or whole_number(self._variable("server_id")) == facts.server_id
        return uuid == facts.server_uuid and known

    def dump(self, start: Start) -> tuple[int | None, bytes]:
        """Ask for the stream: (the sequence id its first packet will have, its bytes that came already).

        Without an id the packets come in compressed ones, which have been checked instead.
        """
        server_id = self._identity.server_id
        flags = SEND_ANNOTATE_ROWS if self._mariadb() else 0
        if start.command == "COM_BINLOG_DUMP":
            payload = BinlogDump(position=start.position, flags=flags, server_id=server_id, file=start.file).encode()
        else:
            payload = BinlogDumpGtid(
                flags=0, server_id=server_id, file=start.file, position=start.position, gtid_data=NO_GTIDS
            ).encode()
        return self._dump(payload)

    def dump_by_gtid(self, has: GtidSet) -> tuple[int | None, bytes]:
        """The same, without the transactions in ``has``, beginning with the file that the source chooses."""
        return self._dump(
            BinlogDumpGtid(
                flags=0, server_id=self._identity.server_id, file="", position=4, gtid_data=has.encode()
            ).encode()
        )

    def _dump(self, payload: bytes) -> tuple[int | None, bytes]:
        self._connection.start_dump(payload)
        self.link.send(self._connection.data_to_send())
        self.link.begin_dump(semi_sync=self.marked)
        return (1 if self._options.compression is None else None), self._connection.remainder()

    def close(self) -> None:
        """Drop the connection."""
        if self._link is not None:
            self._link.close()

    def rows(self, sql: str, columns: int) -> list[tuple[str, ...]]:
        """What the source answers, each row as texts of at least so many columns; ProtocolError for fewer."""
        result = self._query(sql)
        if result.rows and len(result.columns) < columns:
            raise ProtocolError(f"the source answered {sql} with {len(result.columns)} columns, {columns} are needed")
        return [tuple(str(value) for value in row) for row in result.rows]

    def value(self, sql: str) -> str | None:
        """The one value that the source answers; ProtocolError for anything else."""
        result = self._query(sql)
        if len(result.rows) != 1 or len(result.rows[0]) != 1:
            raise ProtocolError(f"the source answered {sql} with {len(result.rows)} rows")
        value = result.rows[0][0]
        return None if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def _query(self, sql: str) -> Result:
        self._connection.query(sql)
        return self._result()

    def _result(self) -> Result:
        connection, link = self._connection, self.link
        link.send(connection.data_to_send())
        while (result := connection.result()) is None:
            connection.receive(link.receive())
        return result

    def _variable(self, name: str, *, default: str | None = None) -> str:
        try:
            value = self.value(f"SELECT @@GLOBAL.{name}")
        except ServerError as error:
            if error.code != UNKNOWN_VARIABLE or default is None:
                raise
            return default
        return value if value is not None else (default or "")

    def _gtids(self, name: str) -> GtidSet:
        try:
            return GtidSet.parse(self._variable(name))
        except GtidSyntaxError as bad:
            raise ProtocolError(f"the source's {name} is no GTID set: {bad}") from bad

    def _announce_checksum(self) -> str:
        """Say that we understand the source's checksums; CRC32 or NONE."""
        try:
            self._query(
                "SET @master_binlog_checksum = @@global.binlog_checksum,"
                " @source_binlog_checksum = @@global.binlog_checksum"
            )
        except ServerError as error:
            if error.code != UNKNOWN_VARIABLE:
                raise
            return "NONE"
        return (self.value("SELECT @source_binlog_checksum") or "NONE").upper()

    def _mariadb(self) -> bool:
        greeting = self._connection.greeting
        return greeting is not None and "MariaDB" in greeting.server_version

    def _register(self) -> None:
        """Be listed in the source's SHOW REPLICAS."""
        options = self._options
        self._connection.command(
            RegisterReplica(
                server_id=self._identity.server_id,
                host=options.report_host,
                user="",
                password="",
                port=options.report_port,
            ).encode()
        )
        self._result()

    def _semi_sync_setting(self) -> str:
        """ON, OFF, or "" without the plugin. A source that is OFF is asked too: it sends the marks, and may go ON."""
        for name in ("rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled"):
            rows = self.rows(f"SHOW GLOBAL VARIABLES LIKE '{name}'", 2)
            if rows:
                return rows[0][1].upper()
        return ""


def _verifies(options: SourceOptions) -> bool:
    """Whether the source has to prove who it is."""
    return options.tls in (Tls.VERIFY_CA, Tls.VERIFY_IDENTITY)


def _readable(path: Path | None) -> None:
    """ConfigError unless OpenSSL can read it to its end: a FIFO or a device may have none, and whoever waits hangs."""
    if path is None:
        return
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_PEM:
        raise ConfigError(
            f"cannot load the TLS files for the source: {path} is no regular file of at most {MAX_PEM >> 10} KiB",
            hint="check source.tls_ca, tls_cert and tls_key: each must name a PEM file",
        )


def tls_context(options: SourceOptions) -> ssl.SSLContext:
    """What the options say of certificates; ConfigError when their files cannot be loaded."""

    def no_password() -> str:  # without it OpenSSL asks for one at the terminal, and waits
        raise ConfigError(
            f"cannot load the TLS files for the source: the key in {options.tls_key or options.tls_cert} is encrypted",
            hint="binlogd asks for no passphrase: decrypt it (openssl pkey -in KEY -out PLAIN_KEY), keep it readable by"
            " binlogd's user alone, and name it in source.tls_key",
        )

    try:
        for path in (options.tls_ca if _verifies(options) else None, options.tls_cert, options.tls_key):
            _readable(path)
        if _verifies(options):
            context = ssl.create_default_context(cafile=options.tls_ca)
            context.check_hostname = options.tls is Tls.VERIFY_IDENTITY
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if options.tls_cert is not None:
            context.load_cert_chain(options.tls_cert, options.tls_key, password=no_password)
    except (OSError, ssl.SSLError) as bad:
        raise ConfigError(
            f"cannot load the TLS files for the source: {bad}",
            hint="check source.tls_ca, tls_cert and tls_key",
        ) from bad
    return context
