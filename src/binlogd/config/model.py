"""Every option there is: name, how it is read, default, description and an example, in one place.

The file's keys, the environment's names, the checks, the nearest-name hints and the file that ``binlogd
init`` writes are all derived from these tables, so none of them can drift from another.

Values here are what the core takes: seconds as float, sizes as bytes, addresses split, enums for choices,
secrets as ``Secret`` (no ``repr`` or ``str`` shows them). Only ``source`` and ``server.users`` have passwords; a
``password_file`` is read when the table is, so that its faults show at start and nobody reads it later.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binlogd.config import options, values
from binlogd.config.address import Address
from binlogd.config.options import Fault, Key, Section, one_of, option, table, tables
from binlogd.config.values import LOCALHOST, Compression, Divergence, Durability, Follow, Role, TlsMode
from binlogd.redaction import Secret
from binlogd.units import format_duration

MAX_SERVER_ID = 2**32 - 1  # the event header's field
MAX_USER_NAME = 128  # MariaDB's longest; MySQL's is 32 (USERNAME_CHAR_LENGTH)
MAX_REPORT_HOST = 255  # HOSTNAME_LENGTH, and what the length byte in COM_REGISTER_SLAVE can say
MAX_CONNECTIONS = 100_000  # mysqld's own limit of max_connections
MAX_PASSWORD_FILE = 4096  # bytes: more is not a password but the wrong file


def _take_password(given: dict[str, Any], ways: tuple[str, ...]) -> dict[str, Any]:
    """Of the ``ways`` to give a password allow one, and read ``password_file`` into ``password``."""
    used = [way for way in ways if way in given]
    if len(used) > 1:
        raise Fault((used[1],), f"is given beside {used[0]}: leave one of them")
    if used != ["password_file"]:
        return given
    try:
        return given | {"password": _read_password(values.path(given["password_file"]))}
    except OSError as error:
        raise Fault(("password_file",), f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Fault(("password_file",), str(error)) from None


def _read_password(path: Path) -> Secret:
    """The only line of the file; a trailing newline is the editor's, everything else the password's."""
    with open(path, "rb") as file:
        content = file.read(MAX_PASSWORD_FILE + 1)
    if len(content) > MAX_PASSWORD_FILE:
        raise ValueError(f"is no password file: it has more than {MAX_PASSWORD_FILE} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is no password file: it is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    if "\n" in text:
        raise ValueError("is no password file: it has more than one line")
    return values.secret(text)


def _both_or_neither(section: Section, one: str, other: str) -> None:
    for present, absent in ((one, other), (other, one)):
        if getattr(section, present) is not None and getattr(section, absent) is None:
            raise Fault((present,), f"needs {absent} beside it")


@dataclass(frozen=True, slots=True)
class Source(Section):
    """The MySQL server to receive from."""

    hosts: tuple[Address, ...] = options.options(
        values.source_address,
        "The source, or the candidates for it: see follow.",
        default=[],
        example=["db1:3306", "db2:3306"],
    )
    user: str | None = option(values.text, "An account with REPLICATION SLAVE.", example="repl")
    password: Secret | None = option(values.secret, "Its password. Or use password_file.", example="…")
    password_file: Path | None = option(
        values.path, "A file with the password as its only line.", example="/etc/binlogd/source.password"
    )
    follow: Follow = one_of(
        Follow,
        "Of several hosts, follow the first that answers, or the one that is writable (not read_only).",
        default="writable",
    )
    semi_sync: bool = option(
        values.flag, "Acknowledge semi-synchronously when the source has the plugin.", default=True
    )
    start: str = option(
        values.start_point,
        "Where an empty store begins: the source's oldest file, its current one, or a file's name such as "
        "mysql-bin.000008.",
        default="oldest",
    )
    heartbeat: float = option(
        values.heartbeat, "How often a source with nothing to send says that it is alive.", default="1s"
    )
    connect_timeout: float = option(
        values.duration, "How long one attempt to connect and log in may take.", default="10s"
    )
    read_timeout: float = option(values.duration, "Silence, heartbeats included, before reconnecting.", default="30s")
    compression: Compression = one_of(
        Compression,
        "Compression of the connection, for a narrow one: it costs the source time, zlib more than zstd, which MySQL "
        "has from 8.0.18 on and MariaDB has not.",
        default="none",
    )
    tls: TlsMode = one_of(TlsMode, "Encryption of the connection.", default="preferred")
    tls_ca: Path | None = option(
        values.path,
        "Certificate authorities (PEM) that may have signed the source's certificate; absent: the system's.",
        example="/etc/binlogd/ca.pem",
    )
    tls_cert: Path | None = option(
        values.path, "Our certificate (PEM), when the account REQUIREs one.", example="/etc/binlogd/client-cert.pem"
    )
    tls_key: Path | None = option(values.path, "Its private key (PEM).", example="/etc/binlogd/client-key.pem")
    report_host: str | None = option(
        values.short_text(MAX_REPORT_HOST), "What SHOW REPLICAS shows for us at the source.", example="binlogd1"
    )
    on_divergence: Divergence = one_of(
        Divergence,
        "When the store holds transactions that a new source lacks: stop until somebody has looked, or begin a new "
        "timeline.",
        default="stop",
    )

    @classmethod
    def prepare(cls, given: dict[str, Any]) -> dict[str, Any]:
        """With the password that is in a file."""
        return _take_password(given, ("password", "password_file"))

    def __post_init__(self) -> None:
        _both_or_neither(self, "tls_cert", "tls_key")
        if self.read_timeout <= self.heartbeat:
            raise Fault(("read_timeout",), f"must be longer than source.heartbeat, {format_duration(self.heartbeat)}")
        if len(set(self.hosts)) != len(self.hosts):
            raise Fault(("hosts",), "names the same server twice")


@dataclass(frozen=True, slots=True)
class Store(Section):
    """The files in data_dir."""

    durability: Durability = one_of(
        Durability,
        "When a transaction is durable, and so acknowledged: after fdatasync, or once the operating system has it, "
        "which a power cut can undo.",
        default="fsync",
    )
    keep: float | None = option(values.duration, "How long files are kept; absent: for ever.", example="7d")
    max_size: int | None = option(
        values.size,
        "How large the store may grow: the oldest files go first; absent: no limit.",
        example="500GiB",
    )
    min_free: int | None = option(
        values.size,
        "Free space to leave on the disk: purges what may be, else stops receiving with an alarm; absent: none.",
        example="5GiB",
    )


@dataclass(frozen=True, slots=True)
class User(Section):
    """An account on the listener."""

    name: str = option(values.short_text(MAX_USER_NAME), "Name to log in with.", example="repl", required=True)
    password: Secret | None = option(
        values.secret, "Its password: exactly one of password, password_file and password_hash.", example="…"
    )
    password_file: Path | None = option(
        values.path, "A file with the password as its only line.", example="/etc/binlogd/repl.password"
    )
    password_hash: Secret | None = option(
        values.password_hash,
        "authentication_string of the account in mysql.user, as it is or in hex (0x…).",
        example="0x244124303035…",
    )
    hosts: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network | str, ...] | None = options.options(
        values.network,
        "Addresses and networks it may come from, or localhost; absent: any.",
        example=["10.0.0.0/8", "localhost"],
    )
    role: Role = one_of(
        Role,
        "replica: the replication protocol; monitor: SHOW and SELECT too; admin: the statements that change things "
        "too.",
        default="replica",
    )

    @classmethod
    def prepare(cls, given: dict[str, Any]) -> dict[str, Any]:
        """With the password that is in a file."""
        return _take_password(given, ("password", "password_file", "password_hash"))

    def __post_init__(self) -> None:
        if self.password is None and self.password_hash is None:
            raise Fault(("password",), 'is missing: give password, password_file or password_hash ("" for none)')
        if self.hosts is not None and not self.hosts:
            raise Fault(("hosts",), "is empty, so nobody could log in: leave it out to let anyone")

    def allows(self, ip: str) -> bool:
        """Whether a client at the address ``ip`` may log in as this user; ValueError when it is none."""
        if self.hosts is None:
            return True
        address = ipaddress.ip_address(ip)
        # A listener on [::] sees an IPv4 client as ::ffff:10.0.0.5.
        mapped = getattr(address, "ipv4_mapped", None)
        address = address if mapped is None else mapped
        return any(
            address in network for host in self.hosts for network in (LOCALHOST if isinstance(host, str) else (host,))
        )


@dataclass(frozen=True, slots=True)
class Server(Section):
    """The listener that replicas, mysql and mysqlbinlog connect to."""

    listen: Address = option(values.listen_address, "Address and port of the listener.", default="127.0.0.1:3307")
    max_connections: int = option(values.number(1, MAX_CONNECTIONS), "Connections at one time.", default=256)
    tls_cert: Path | None = option(
        values.path,
        "The listener's certificate (PEM); made and kept in data_dir when absent.",
        example="/etc/binlogd/server-cert.pem",
    )
    tls_key: Path | None = option(values.path, "Its private key (PEM).", example="/etc/binlogd/server-key.pem")
    require_tls: bool = option(values.flag, "Refuse connections without TLS.", default=False)
    users: tuple[User, ...] = tables(
        User,
        "Who may log in; absent: the source's user with its password, as admin. Repeat the table for each user.",
    )

    def __post_init__(self) -> None:
        _both_or_neither(self, "tls_cert", "tls_key")
        names = [user.name for user in self.users]
        for name in names:
            if names.count(name) > 1:
                raise Fault(("users",), f"has two users named {name}: give one of them several hosts instead")


@dataclass(frozen=True, slots=True)
class Http(Section):
    """Status and health as JSON: read-only."""

    listen: Address = option(values.listen_address, "Address and port of the page.", default="127.0.0.1:8307")


@dataclass(frozen=True, slots=True)
class Archive(Section):
    """Object storage for finished files."""

    url: str | None = option(
        values.archive_url,
        "Where finished files go: s3://bucket/prefix or file:///path; absent: nowhere.",
        example="s3://bucket/prefix",
    )


@dataclass(frozen=True, slots=True)
class Settings(Section):
    """The whole configuration, complete and checked."""

    data_dir: Path = option(values.path, "The store's folder.", default="binlogd-data")
    server_id: int | None = option(
        values.number(1, MAX_SERVER_ID),
        "Our server id, unlike any other server's; absent: made and kept in data_dir.",
        example=3306202,
    )
    server_uuid: str | None = option(
        values.uuid,
        "Our server UUID; absent: made and kept in data_dir.",
        example="3e11fa47-71ca-11e1-9e33-c80aa9429562",
    )
    source: Source = table(Source, "The MySQL server to receive from.")
    store: Store = table(Store, "The files in data_dir.")
    server: Server = table(Server, "The listener that replicas, mysql and mysqlbinlog connect to.")
    http: Http = table(Http, "Status and health as JSON: read-only.")
    archive: Archive = table(Archive, "Object storage for finished files.")

    def __post_init__(self) -> None:
        """Without users the source's own account may do everything: whoever has it owns the data."""
        source = self.source
        if not self.server.users and source.user is not None and source.password is not None:
            owner = User(name=source.user, password=source.password, role=Role.ADMIN)
            # As a frozen dataclass sets its own fields.
            object.__setattr__(self, "server", dataclasses.replace(self.server, users=(owner,)))


def walk() -> Iterator[Key]:
    """Every key there is, each table followed by what it holds."""
    return options.walk(Settings)
