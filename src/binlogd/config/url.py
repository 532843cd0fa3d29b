"""``--source mysql://user:password@host:port?tls=required``: the source in one line.

RFC 3986 with every part percent-encoded where it needs to be. The user ends at the first ``:``, the host
begins after the last ``@``, so a password may hold both unencoded; ``/``, ``?`` and ``#`` end the authority
and must be encoded. No message repeats any piece of the URL: in a URL that cannot be parsed, any piece may
be the password.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from binlogd.config.address import MYSQL_PORT, parse_address
from binlogd.errors import ConfigError

SCHEMES = frozenset({"mysql", "mariadb"})
_SHAPE = "write mysql://user:password@host:port"
_ENCODE = "percent-encode special characters (@ %40, / %2F, ? %3F, # %23, % %25), or use password_file"
# What may follow the "?": the options that say how to reach the source.
_PARAMETERS = ("tls", "tls_ca", "tls_cert", "tls_key")


def parse_source_url(url: str) -> dict[str, Any]:
    """The keys of ``[source]`` that ``url`` sets, as text for the model to check.

    ``mysql://u:p@h`` sets hosts, user and password; without ``:p`` the password is left to the environment
    and the file, and ``u:@h`` is an explicitly empty one. ConfigError when it is no such URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise ConfigError("--source is not a MySQL URL", hint=_SHAPE)
    end = next((index for index, char in enumerate(rest) if char in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    if "@" in tail or "#" in tail:
        raise ConfigError("--source has an unencoded / ? or # in the user or password", hint=_ENCODE)
    credentials, at, host = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    if not at or not user:
        raise ConfigError("--source names no user", hint=_SHAPE)
    path, _, query = tail.partition("?")
    if path not in ("", "/"):
        raise ConfigError("--source names a database, but a source is a whole server", hint=_SHAPE)
    try:
        address = parse_address(host, default_port=MYSQL_PORT)
    except ValueError as error:
        raise ConfigError(f"--source: the address after the @ {error}", hint=_SHAPE) from None
    source: dict[str, Any] = {"hosts": [str(address)], "user": _decode(user)}
    if colon:
        source["password"] = _decode(password)
    return source | _parameters(query)


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for parameter in query.split("&") if query else ():
        name, equals, value = parameter.partition("=")
        key = name.replace("-", "_")
        if key not in _PARAMETERS or not equals:
            raise ConfigError(
                "--source has an unknown parameter after the ?", hint=f"known are {', '.join(_PARAMETERS)}"
            )
        if key in found:
            raise ConfigError(f"--source has the parameter {key} twice", hint="leave one")
        found[key] = _decode(value)
    return found


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError("--source has percent-encoded bytes that are not UTF-8", hint=_ENCODE) from None
