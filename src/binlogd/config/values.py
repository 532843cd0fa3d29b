"""What one value may be: the enums of the choices, and the types that read and check text.

Every check raises ``ValueError`` whose text goes on where "key = value: " ends, and which does not repeat the
value, since only the caller knows whether it may be shown.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr

from binlogd.config.address import MYSQL_PORT, Address, parse_address
from binlogd.units import format_duration, format_size, parse_duration, parse_size

MIN_HEARTBEAT = 0.001  # s, mysqld's least; 0 would be none, and then silence says nothing
MAX_HEARTBEAT = 4_294_967.0  # s, mysqld's most (SOURCE_HEARTBEAT_PERIOD)


class TlsMode(enum.StrEnum):
    """How the connection to the source is encrypted, as in mysql's --ssl-mode."""

    DISABLED = "disabled"
    PREFERRED = "preferred"
    REQUIRED = "required"
    VERIFY_CA = "verify-ca"
    VERIFY_IDENTITY = "verify-identity"


class Compression(enum.StrEnum):
    """How the connection to the source is compressed."""

    NONE = "none"
    ZLIB = "zlib"
    ZSTD = "zstd"


class Follow(enum.StrEnum):
    """Which of the source's hosts is received from."""

    FIRST = "first"
    WRITABLE = "writable"


class Divergence(enum.StrEnum):
    """What happens when the store holds transactions that a new source lacks."""

    STOP = "stop"
    NEW_TIMELINE = "new-timeline"


class Durability(enum.StrEnum):
    """When a transaction counts as durable."""

    FSYNC = "fsync"
    OS = "os"


class Role(enum.StrEnum):
    """What a user of the listener may do; each role includes the one before."""

    REPLICA = "replica"
    MONITOR = "monitor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Written:
    """Metadata of a type whose value is not what stands in the file: how to write it there."""

    format: Callable[[Any], str]


def _clean(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    if any(char < " " or char == "\x7f" for char in text):
        raise ValueError("must not hold control characters")
    return text


def _no_nul(secret: SecretStr) -> SecretStr:
    # The clear-text and caching_sha2 full authentication end the password with a NUL.
    if "\0" in secret.get_secret_value():
        raise ValueError("must not hold a NUL character")
    return secret


def clean_path(value: Any) -> Path:
    """``value`` as a path; ValueError when it is empty or needs a shell to be understood."""
    if not isinstance(value, str | Path):
        raise ValueError("must be a path in quotes")
    text = _clean(str(value))
    if text.startswith("~"):
        raise ValueError("starts with ~, which only a shell expands: write the whole path")
    return Path(text)


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for 0 and 1
        raise ValueError("must be a whole number")
    return value


def _duration(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError('needs a unit and quotes, such as "500ms", "30s", "1h30m" or "7d"')
    return parse_duration(value)


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0")
    return seconds


def _heartbeat(seconds: float) -> float:
    if not MIN_HEARTBEAT <= seconds <= MAX_HEARTBEAT:
        raise ValueError(f"must be {format_duration(MIN_HEARTBEAT)} to {format_duration(MAX_HEARTBEAT)}")
    return seconds


def _size(value: Any) -> int:
    if isinstance(value, bool | float):
        raise ValueError("must be whole bytes or a size such as 5GiB or 500MB")
    return parse_size(value)


def _positive_size(size: int) -> int:
    if size <= 0:
        raise ValueError("must be more than 0")
    return size


def _source_address(value: Any) -> Address:
    return parse_address(_text(value), default_port=MYSQL_PORT)


def _listen_address(value: Any) -> Address:
    return parse_address(_text(value), lowest_port=0)


def _text(value: Any) -> str:
    if isinstance(value, Address):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("must be text in quotes, HOST:PORT")
    return value.strip()


def _uuid(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text):
        raise ValueError("must be a UUID such as 3e11fa47-71ca-11e1-9e33-c80aa9429562")
    if uuid.UUID(text).int == 0:
        raise ValueError("must not be the nil UUID")
    return text.lower()


def _start(text: str) -> str:
    # A binary log's name is a base name, a dot and at least six digits (mysqld: "%s.%06lu").
    if text in ("oldest", "current") or re.fullmatch(r"[^/\x00-\x1f]+\.[0-9]{6,10}", text):
        return text
    raise ValueError("must be oldest, current or the name of a binary log such as mysql-bin.000008")


def _archive_url(text: str) -> str:
    if not re.fullmatch(r"(s3://[^/\s]+(/\S*)?|file:///\S+)", text):
        raise ValueError("must be s3://bucket/prefix or file:///path")
    return text


def _network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | str:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if value == "localhost":
        return "localhost"
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        pass
    try:
        wider = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        raise ValueError("must be an address, a network such as 10.0.0.0/8, or localhost") from None
    raise ValueError(f"has bits set behind the prefix: write {wider}")


def _password_hash(secret: SecretStr) -> SecretStr:
    """mysql.user's authentication_string, or in hex as print_identified_with_as_hex shows it."""
    text = secret.get_secret_value()
    if text.startswith(("0x", "0X")):
        try:
            text = bytes.fromhex(text[2:]).decode("ascii")
        except ValueError:  # UnicodeDecodeError too
            raise ValueError("is not the hexadecimal form of a password hash") from None
    # caching_sha2_password: "$A$", rounds/1000 in 3 hex digits, "$", 20 bytes of salt (7-bit, not NUL and
    # not $), 43 characters of SHA-256 crypt. mysql_native_password: "*" and SHA1(SHA1(password)) in hex.
    if re.fullmatch(r"\$A\$[0-9A-Fa-f]{3}\$[\x01-\x23\x25-\x7f]{20}[./0-9A-Za-z]{43}", text, re.DOTALL):
        return SecretStr(text)
    if re.fullmatch(r"\*[0-9A-Fa-f]{40}", text):
        return SecretStr(text.upper())
    raise ValueError("must be authentication_string from mysql.user: $A$005$… (or its 0x… form) or * and 40 hex digits")


Clean = Annotated[str, AfterValidator(_clean)]
Secret = Annotated[SecretStr, AfterValidator(_no_nul)]
FilePath = Annotated[Path, BeforeValidator(clean_path)]
Number = Annotated[int, BeforeValidator(_number)]
Duration = Annotated[float, BeforeValidator(_duration), Written(format_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Heartbeat = Annotated[Duration, AfterValidator(_heartbeat)]
Size = Annotated[int, BeforeValidator(_size), AfterValidator(_positive_size), Written(format_size)]
SourceAddress = Annotated[Address, BeforeValidator(_source_address), PlainSerializer(str)]
ListenAddress = Annotated[Address, BeforeValidator(_listen_address), PlainSerializer(str), Written(str)]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network | str, BeforeValidator(_network), PlainSerializer(str)
]

Uuid = Annotated[str, AfterValidator(_uuid)]
StartPoint = Annotated[str, AfterValidator(_start)]
ArchiveUrl = Annotated[str, AfterValidator(_archive_url)]
PasswordHash = Annotated[SecretStr, AfterValidator(_password_hash)]

LOCALHOST = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
