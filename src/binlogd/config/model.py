"""Every option there is: name, type, default, limits, description and an example, in one place.

The file's keys, the environment's names, the checks, the nearest-name hints and the file that ``binlogd
init`` writes are all derived from these models, so none of them can drift from another.

Values here are what the core takes: seconds as float, sizes as bytes, addresses split, enums for choices,
secrets as ``SecretStr`` (no ``repr``, ``str`` or dump shows them). Only ``source`` and ``server.users``
have passwords; a ``password_file`` is read when the model is made, so that its faults show at start and
nobody reads it later.

Errors raised here are ``ValueError`` or ``PydanticCustomError`` whose text begins where "key = value: " ends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from binlogd.config.address import Address
from binlogd.config.values import (
    LOCALHOST,
    ArchiveUrl,
    Clean,
    Compression,
    Divergence,
    Durability,
    FilePath,
    Follow,
    Heartbeat,
    ListenAddress,
    Network,
    Number,
    PasswordHash,
    PositiveDuration,
    Role,
    Secret,
    Size,
    SourceAddress,
    StartPoint,
    TlsMode,
    Uuid,
    clean_path,
)
from binlogd.units import format_duration

MAX_SERVER_ID = 2**32 - 1  # the event header's field
MAX_USER_NAME = 128  # MariaDB's longest; MySQL's is 32 (USERNAME_CHAR_LENGTH)
MAX_REPORT_HOST = 255  # HOSTNAME_LENGTH, and what the length byte in COM_REGISTER_SLAVE can say
MAX_CONNECTIONS = 100_000  # mysqld's own limit of max_connections
MAX_PASSWORD_FILE = 4096  # bytes: more is not a password but the wrong file


class Section(BaseModel):
    """A table of the configuration: frozen, closed, and silent about its input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _fault(key: str, message: str) -> PydanticCustomError:
    """An error about ``key`` of the table being checked."""
    # Braces would be taken for a format; a message of ours has its values in it already.
    return PydanticCustomError("fault", "{text}", {"key": key, "text": message})


def _take_password(data: Any, ways: tuple[str, ...]) -> Any:
    """Of the ``ways`` to give a password allow one, and read ``password_file`` into ``password``."""
    if not isinstance(data, dict):
        return data
    given = [way for way in ways if data.get(way) is not None]
    if len(given) > 1:
        raise _fault(given[1], f"is given beside {given[0]}: leave one of them")
    if given != ["password_file"]:
        return data
    return data | {"password": _read_password(data["password_file"])}


def _read_password(path: Any) -> SecretStr:
    """The only line of the file; a trailing newline is the editor's, everything else the password's."""
    try:
        with open(clean_path(path), "rb") as file:
            content = file.read(MAX_PASSWORD_FILE + 1)
    except OSError as error:
        raise _fault("password_file", f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _fault("password_file", str(error)) from None
    if len(content) > MAX_PASSWORD_FILE:
        raise _fault("password_file", f"is no password file: it has more than {MAX_PASSWORD_FILE} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _fault("password_file", "is no password file: it is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise _fault("password_file", "is empty")
    if "\n" in text:
        raise _fault("password_file", "is no password file: it has more than one line")
    return SecretStr(text)


def _both_or_neither(section: Any, one: str, other: str) -> None:
    for present, absent in ((one, other), (other, one)):
        if getattr(section, present) is not None and getattr(section, absent) is None:
            raise _fault(present, f"needs {absent} beside it")


class Source(Section):
    """The MySQL server to receive from."""

    hosts: tuple[SourceAddress, ...] = Field(
        default=(),
        description="The source, or the candidates for it: see follow.",
        examples=[["db1:3306", "db2:3306"]],
    )
    user: Clean = Field(default="", description="An account with REPLICATION SLAVE.", examples=["repl"])
    password: Secret = Field(default=SecretStr(""), description="Its password. Or use password_file.", examples=["…"])
    password_file: FilePath | None = Field(
        default=None,
        description="A file with the password as its only line.",
        examples=["/etc/binlogd/source.password"],
    )
    follow: Follow = Field(
        default=Follow.WRITABLE,
        description="Of several hosts, follow the first that answers, or the one that is writable (not read_only).",
    )
    semi_sync: bool = Field(default=True, description="Acknowledge semi-synchronously when the source has the plugin.")
    start: StartPoint = Field(
        default="oldest",
        description="Where an empty store begins: the source's oldest file, its current one, or a file's "
        "name such as mysql-bin.000008.",
    )
    heartbeat: Heartbeat = Field(
        default=1.0, description="How often a source with nothing to send says that it is alive."
    )
    connect_timeout: PositiveDuration = Field(
        default=10.0, description="How long an attempt to connect may take, and the login behind it."
    )
    read_timeout: PositiveDuration = Field(
        default=30.0, description="Silence, heartbeats included, before reconnecting."
    )
    compression: Compression = Field(
        default=Compression.NONE,
        description="Compression of the connection, for a narrow one: it costs the source time, zlib more than zstd, "
        "which MySQL has from 8.0.18 on and MariaDB has not.",
    )
    tls: TlsMode = Field(
        default=TlsMode.PREFERRED,
        description="Encryption of the connection. Below verify-ca whoever can alter the connection can pose "
        "as the source, and be told the password.",
    )
    tls_ca: FilePath | None = Field(
        default=None,
        description="Certificate authorities (PEM) that may have signed the "
        "source's certificate; absent: the system's.",
        examples=["/etc/binlogd/ca.pem"],
    )
    tls_cert: FilePath | None = Field(
        default=None,
        description="Our certificate (PEM), when the account REQUIREs one.",
        examples=["/etc/binlogd/client-cert.pem"],
    )
    tls_key: FilePath | None = Field(
        default=None, description="Its private key (PEM).", examples=["/etc/binlogd/client-key.pem"]
    )
    report_host: Annotated[Clean, Field(max_length=MAX_REPORT_HOST)] | None = Field(
        default=None, description="What SHOW REPLICAS shows for us at the source.", examples=["binlogd1"]
    )
    on_divergence: Divergence = Field(
        default=Divergence.STOP,
        description="When the store holds transactions that a new source lacks: stop until somebody "
        "has looked, or begin a new timeline.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_password(cls, data: Any) -> Any:
        return _take_password(data, ("password", "password_file"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _both_or_neither(self, "tls_cert", "tls_key")
        if self.read_timeout <= self.heartbeat:
            raise _fault("read_timeout", f"must be longer than source.heartbeat, {format_duration(self.heartbeat)}")
        if len(set(self.hosts)) != len(self.hosts):
            raise _fault("hosts", "names the same server twice")
        return self

    @property
    def has_password(self) -> bool:
        """Whether a password was given, be it an empty one."""
        return "password" in self.model_fields_set


class Store(Section):
    """The files in data_dir."""

    durability: Durability = Field(
        default=Durability.FSYNC,
        description="When a transaction is durable, and so acknowledged: after fdatasync, or once "
        "the operating system has it, which a power cut can undo.",
    )
    keep: PositiveDuration | None = Field(
        default=None,
        description="How long files are kept after they were last written to; absent: for ever.",
        examples=["7d"],
    )
    max_size: Size | None = Field(
        default=None,
        description="How large the store may grow: the oldest files go first; absent: no limit.",
        examples=["500GiB"],
    )
    min_free: Size | None = Field(
        default=None,
        description="Free space to leave on the disk: the oldest files go in time, and when there are none that may, "
        "receiving stops, with an alarm, until there is room again; absent: receiving goes on until the disk is full.",
        examples=["5GiB"],
    )


class User(Section):
    """An account on the listener."""

    name: Annotated[Clean, Field(max_length=MAX_USER_NAME)] = Field(
        description="Name to log in with.", examples=["repl"]
    )
    password: Secret | None = Field(
        default=None,
        description="Its password: exactly one of password, password_file and password_hash.",
        examples=["…"],
    )
    password_file: FilePath | None = Field(
        default=None,
        description="A file with the password as its only line.",
        examples=["/etc/binlogd/repl.password"],
    )
    password_hash: PasswordHash | None = Field(
        default=None,
        description="authentication_string of the account in mysql.user, as it is or in hex (0x…).",
        examples=["0x244124303035…"],
    )
    hosts: tuple[Network, ...] | None = Field(
        default=None,
        description="Addresses and networks it may come from, or localhost; absent: any.",
        examples=[["10.0.0.0/8", "localhost"]],
    )
    role: Role = Field(
        default=Role.REPLICA,
        description="replica: the replication protocol; monitor: SHOW and SELECT too; "
        "admin: the statements that change things too.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_password(cls, data: Any) -> Any:
        return _take_password(data, ("password", "password_file", "password_hash"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is None and self.password_hash is None:
            raise _fault("password", 'is missing: give password, password_file or password_hash ("" for none)')
        if self.hosts is not None and not self.hosts:
            raise _fault("hosts", "is empty, so nobody could log in: leave it out to let anyone")
        return self

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


class Server(Section):
    """The listener that replicas, mysql and mysqlbinlog connect to."""

    listen: ListenAddress = Field(default=Address("127.0.0.1", 3307), description="Address and port of the listener.")
    max_connections: Annotated[Number, Field(ge=1, le=MAX_CONNECTIONS)] = Field(
        default=256, description="Connections at one time."
    )
    tls_cert: FilePath | None = Field(
        default=None,
        description="The listener's certificate (PEM); made and kept in data_dir when absent.",
        examples=["/etc/binlogd/server-cert.pem"],
    )
    tls_key: FilePath | None = Field(
        default=None, description="Its private key (PEM).", examples=["/etc/binlogd/server-key.pem"]
    )
    require_tls: bool = Field(default=False, description="Refuse connections without TLS.")
    users: tuple[User, ...] = Field(
        default=(),
        description="Who may log in; absent: the source's user with its password, "
        "as admin. Repeat the table for each user.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _both_or_neither(self, "tls_cert", "tls_key")
        names = [user.name for user in self.users]
        for name in names:
            if names.count(name) > 1:
                raise _fault("users", f"has two users named {name}: give one of them several hosts instead")
        return self


class Http(Section):
    """Status and health as JSON: read-only."""

    listen: ListenAddress = Field(default=Address("127.0.0.1", 8307), description="Address and port of the page.")


class Archive(Section):
    """Object storage for finished files."""

    url: ArchiveUrl | None = Field(
        default=None,
        description="Where finished files go: s3://bucket/prefix or file:///path; absent: nowhere.",
        examples=["s3://bucket/prefix"],
    )


class Settings(Section):
    """The whole configuration, complete and checked."""

    data_dir: FilePath = Field(default=Path("binlogd-data"), description="The store's folder.")
    server_id: Annotated[Number, Field(ge=1, le=MAX_SERVER_ID)] | None = Field(
        default=None,
        description="Our server id, unlike any other server's; absent: made and kept in data_dir.",
        examples=[3306202],
    )
    server_uuid: Uuid | None = Field(
        default=None,
        description="Our server UUID; absent: made and kept in data_dir.",
        examples=["3e11fa47-71ca-11e1-9e33-c80aa9429562"],
    )
    source: Source = Field(default=Source(), description="The MySQL server to receive from.")
    store: Store = Field(default=Store(), description="The files in data_dir.")
    server: Server = Field(
        default=Server(), description="The listener that replicas, mysql and mysqlbinlog connect to."
    )
    http: Http = Field(default=Http(), description="Status and health as JSON: read-only.")
    archive: Archive = Field(default=Archive(), description="Object storage for finished files.")

    @model_validator(mode="wrap")
    @classmethod
    def _owner(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Without users the source's own account may do everything: whoever has it owns the data."""
        settings = handler(data)
        source = settings.source
        if settings.server.users or not source.user or not source.has_password:
            return settings
        owner = User(name=source.user, password=source.password, role=Role.ADMIN)
        server = settings.server.model_copy(update={"users": (owner,)})
        return settings.model_copy(update={"server": server})


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration: its place, and what the model says of it."""

    path: tuple[str, ...]  # ("source", "hosts"); the keys of a user are ("server", "users", "name")
    field: FieldInfo
    table: type[Section] | None  # the model of the table, or of each repeated table, under this key
    repeated: bool  # [[server.users]]

    @property
    def dotted(self) -> str:
        """The key as messages name it: ``source.hosts``."""
        return ".".join(self.path)


def walk(table: type[Section] = Settings, above: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key of ``table`` in the order of the model, each table followed by what it holds."""
    for name, field in table.model_fields.items():
        annotation, path = field.annotation, (*above, name)
        inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
        below = inner if isinstance(inner, type) and issubclass(inner, Section) else None
        yield Key(path, field, below, repeated=below is not None and inner is not annotation)
        if below is not None:
            yield from walk(below, path)
