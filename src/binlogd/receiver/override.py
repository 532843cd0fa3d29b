"""What was ordered by statement, kept over a restart: ``source.override.json`` in the data folder.

``CHANGE REPLICATION SOURCE TO`` names another source than the configuration does, ``STOP REPLICA`` stops receiving, and
both hold until something else is ordered: a binlogd that follows the old source again after a restart would undo a
failover. The file has only what was said; for the rest the configuration counts. Beside it stands the fingerprint of
the configuration's source section at that time: once that section was edited, it is the newer word.

The file is JSON with the CRC-32 of the rest in it, and its owner's alone, for it may hold a password. One that is
damaged is an error: to go on without it could be to receive from the wrong server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from binlogd.binlog.crc import crc32
from binlogd.errors import StoreDamaged
from binlogd.receiver.session import Secret, SourceOptions, Tls
from binlogd.store.disk import Disk, explained

FILE = "source.override.json"
FORMAT = 1
MAX_SIZE = 64 * 1024  # bytes of the file: a few names and paths
SEAL = "crc32"

MAX_HOST = 255  # characters, MySQL's HOSTNAME_LENGTH
MAX_USER = 96  # USERNAME_CHAR_LENGTH in bytes, as CHANGE REPLICATION SOURCE TO counts it
MAX_PASSWORD = 256  # what caching_sha2_password takes
MAX_PATH = 512  # FN_REFLEN
MAX_PORT = 65_535
MIN_HEARTBEAT = 0.001  # seconds; without heartbeats silence would say nothing
MAX_HEARTBEAT = 4_294_967.0  # mysqld's most


@dataclass(frozen=True, slots=True)
class Said:
    """What statements said of the source, None where they said nothing; an empty ``ssl_…`` file is none at all."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: Secret | None = None
    heartbeat: float | None = None
    ssl: bool | None = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    ssl_verify: bool | None = None

    def __bool__(self) -> bool:
        return self != Said()

    def and_then(self, later: Said) -> Said:
        """Both; what was said later counts."""
        return replace(self, **{name: value for name, value in later._values().items() if value is not None})

    def applied(self, base: SourceOptions) -> SourceOptions:
        """The options of ``base`` with what was said."""
        return replace(
            base,
            host=base.host if self.host is None else self.host,
            port=base.port if self.port is None else self.port,
            user=base.user if self.user is None else self.user,
            password=base.password if self.password is None else self.password,
            heartbeat=base.heartbeat if self.heartbeat is None else self.heartbeat,
            tls=self._tls(base),
            tls_ca=_path(self.ssl_ca, base.tls_ca),
            tls_cert=_path(self.ssl_cert, base.tls_cert),
            tls_key=_path(self.ssl_key, base.tls_key),
        )

    def _tls(self, base: SourceOptions) -> Tls:
        """As MySQL takes its options: on, a CA is looked at when there is one, the name when that is wanted."""
        if (self.ssl, self.ssl_ca, self.ssl_verify) == (None, None, None):
            return base.tls
        if self.ssl is False:
            return Tls.DISABLED
        if self.ssl is None and base.tls is Tls.DISABLED:
            return Tls.DISABLED
        if self.ssl_verify or (self.ssl_verify is None and base.tls is Tls.VERIFY_IDENTITY):
            return Tls.VERIFY_IDENTITY
        if _path(self.ssl_ca, base.tls_ca) is not None or base.tls in (Tls.VERIFY_CA, Tls.VERIFY_IDENTITY):
            return Tls.VERIFY_CA
        return Tls.REQUIRED

    def encode(self) -> dict[str, Any]:
        """As JSON, the password in clear."""
        said = {name: value for name, value in self._values().items() if value is not None}
        if self.password is not None:
            said["password"] = self.password.reveal()
        return said

    @classmethod
    def decode(cls, data: Any) -> Said:
        """ValueError, without the value, when it is none."""
        if not isinstance(data, Mapping):
            raise ValueError("is no table")
        for name, value in data.items():
            check = _CHECKS.get(name)
            if check is None or not check(value):
                raise ValueError(f"{str(name)[:40]} is not what it may be")
        password = data.get("password")
        return cls(**{**data, "password": None if password is None else Secret(password)})

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _path(said: str | None, base: Path | None) -> Path | None:
    if said is None:
        return base
    return Path(said) if said else None


def _text(longest: int, *, empty: bool = False) -> Any:
    def check(value: Any) -> bool:
        return (
            isinstance(value, str)
            and (empty or bool(value))
            and len(value) <= longest
            and all(char >= " " and char != "\x7f" and not "\ud800" <= char <= "\udfff" for char in value)
        )

    return check


def _password(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_PASSWORD and "\0" not in value


def _heartbeat(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and MIN_HEARTBEAT <= value <= MAX_HEARTBEAT


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PORT


_CHECKS = {
    "host": _text(MAX_HOST),
    "port": _port,
    "user": _text(MAX_USER),
    "password": _password,
    "heartbeat": _heartbeat,
    "ssl": _flag,
    "ssl_ca": _text(MAX_PATH, empty=True),
    "ssl_cert": _text(MAX_PATH, empty=True),
    "ssl_key": _text(MAX_PATH, empty=True),
    "ssl_verify": _flag,
}


@dataclass(frozen=True, slots=True)
class Override:
    """What holds beside the configuration whose source section has that ``fingerprint``."""

    fingerprint: str
    said: Said = Said()
    running: bool = True

    def save(self, disk: Disk, folder: Path) -> None:
        """Keep it, whole and durable, in place of the one before."""
        path = folder / FILE
        content = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "running": self.running,
            "source": self.said.encode(),
        }
        with explained("write", path):
            disk.replace(path, json.dumps({**content, SEAL: _seal(content)}, indent=1).encode() + b"\n")


def _seal(content: Mapping[str, Any]) -> str:
    return f"{crc32(json.dumps(dict(content)).encode()):08x}"


def load(folder: Path) -> Override | None:
    """What is kept; None when nothing is. StoreDamaged when it cannot be understood."""
    path = folder / FILE
    with explained("read", path):
        if not path.exists():
            return None
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or data.pop(SEAL, None) != _seal(data):
            raise ValueError("its checksum is not that of its content")
        if set(data) != {"format", "fingerprint", "running", "source"} or data["format"] != FORMAT:
            raise ValueError("it is of another version")
        if not isinstance(data["running"], bool) or not isinstance(data["fingerprint"], str):
            raise ValueError("a value is not what it may be")
        return Override(data["fingerprint"], Said.decode(data["source"]), data["running"])
    except (ValueError, RecursionError) as bad:
        # A JSON error says no more than where; nothing of the content, which may be a password, is repeated.
        why = "it is no JSON" if isinstance(bad, json.JSONDecodeError | UnicodeDecodeError) else str(bad)
        raise StoreDamaged(
            f"{path} is damaged ({why}): it says whether to receive, and from whom, when that was changed by statement",
            hint="remove it to receive from the configuration's source; then, when another was ordered, order it again"
            " with CHANGE REPLICATION SOURCE TO",
        ) from None


def remove(disk: Disk, folder: Path) -> None:
    """Forget it, durably."""
    path = folder / FILE
    with explained("remove", path):
        if path.exists():
            disk.remove(path)
            disk.sync_folder(folder)
