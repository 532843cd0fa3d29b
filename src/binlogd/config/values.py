"""What one value may be: the enums of the choices, and the readers that check and convert (options.py)."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from binlogd.config.address import MYSQL_PORT, Address, parse_address
from binlogd.redaction import Secret
from binlogd.units import format_duration, parse_duration, parse_size

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


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_MOST_DIGITS = 20  # of a whole number in a text: more is no number that anything here can be

LOCALHOST = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def flag(value: Any) -> bool:
    """True or false, in a text as people say it."""
    found = value if isinstance(value, bool) else _WORDS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be true or false")
    return found


def number(least: int, most: int) -> Callable[[Any], int]:
    """A reader of whole numbers."""

    def read(value: Any) -> int:
        if isinstance(value, str) and value.strip().isdecimal() and len(value) <= _MOST_DIGITS:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):  # which Python takes for 0 and 1
            raise ValueError("must be a whole number")
        if value < least:
            raise ValueError(f"must be at least {least}")
        if value > most:
            raise ValueError(f"must be at most {most}")
        return value

    return read


def text(value: Any) -> str:
    """A text that is not empty and has no control characters."""
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    if not value:
        raise ValueError("must not be empty")
    if any(char < " " or char == "\x7f" for char in value):
        raise ValueError("must not hold control characters")
    return value


def short_text(most: int) -> Callable[[Any], str]:
    """A reader of texts of at most so many characters."""

    def read(value: Any) -> str:
        if len(text(value)) > most:
            raise ValueError(f"must have at most {most} characters")
        return str(value)

    return read


def secret(value: Any) -> Secret:
    """A password, which may be empty."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    # The clear-text and caching_sha2 full authentication end the password with a NUL.
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return Secret(value)


def path(value: Any) -> Path:
    """A path that needs no shell to be understood."""
    if not isinstance(value, str | Path):
        raise ValueError("must be a path in quotes")
    if text(str(value)).startswith("~"):
        raise ValueError("starts with ~, which only a shell expands: write the whole path")
    return Path(value)


def duration(value: Any) -> float:
    """Seconds, more than 0."""
    seconds = _duration(value)
    if seconds <= 0:
        raise ValueError("must be more than 0")
    return seconds


def heartbeat(value: Any) -> float:
    """Seconds that mysqld takes for a heartbeat's period."""
    seconds = _duration(value)
    if not MIN_HEARTBEAT <= seconds <= MAX_HEARTBEAT:
        raise ValueError(f"must be {format_duration(MIN_HEARTBEAT)} to {format_duration(MAX_HEARTBEAT)}")
    return seconds


def _duration(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError('needs a unit and quotes, such as "500ms", "30s", "1h30m" or "7d"')
    return parse_duration(value)


def size(value: Any) -> int:
    """Bytes, more than 0."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError("must be whole bytes or a size such as 5GiB or 500MB")
    found = parse_size(value)
    if found <= 0:
        raise ValueError("must be more than 0")
    return found


def source_address(value: Any) -> Address:
    """HOST[:PORT] of a MySQL server."""
    return parse_address(_address(value), default_port=MYSQL_PORT)


def listen_address(value: Any) -> Address:
    """HOST:PORT to listen on; port 0 is any."""
    return parse_address(_address(value), lowest_port=0)


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes, HOST:PORT")
    return value.strip()


def uuid(value: Any) -> str:
    """A UUID in lower case."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text(value)):
        raise ValueError("must be a UUID such as 3e11fa47-71ca-11e1-9e33-c80aa9429562")
    if not value.strip("0-"):
        raise ValueError("must not be the nil UUID")
    return str(value).lower()


def start_point(value: Any) -> str:
    """Where an empty store begins."""
    # A binary log's name is a base name, a dot and at least six digits (mysqld: "%s.%06lu").
    if value in ("oldest", "current") or re.fullmatch(r"[^/\x00-\x1f]+\.[0-9]{6,10}", text(value)):
        return str(value)
    raise ValueError("must be oldest, current or the name of a binary log such as mysql-bin.000008")


def archive_url(value: Any) -> str:
    """An address of object storage."""
    if not re.fullmatch(r"(s3://[^/\s]+(/\S*)?|file:///\S+)", text(value)):
        raise ValueError("must be s3://bucket/prefix or file:///path")
    return str(value)


def network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | str:
    """An address, a network, or localhost."""
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


def password_hash(value: Any) -> Secret:
    """mysql.user's authentication_string, or in hex as print_identified_with_as_hex shows it."""
    found = secret(value).reveal()
    if found.startswith(("0x", "0X")):
        try:
            found = bytes.fromhex(found[2:]).decode("ascii")
        except ValueError:  # UnicodeDecodeError too
            raise ValueError("is not the hexadecimal form of a password hash") from None
    # caching_sha2_password: "$A$", rounds/1000 in 3 hex digits, "$", 20 bytes of salt (7-bit, not NUL and
    # not $), 43 characters of SHA-256 crypt. mysql_native_password: "*" and SHA1(SHA1(password)) in hex.
    if re.fullmatch(r"\$A\$[0-9A-Fa-f]{3}\$[\x01-\x23\x25-\x7f]{20}[./0-9A-Za-z]{43}", found, re.DOTALL):
        return Secret(found)
    if re.fullmatch(r"\*[0-9A-Fa-f]{40}", found):
        return Secret(found.upper())
    raise ValueError("must be authentication_string from mysql.user: $A$005$… (or its 0x… form) or * and 40 hex digits")
