"""Passwords on the wire: the two plugins every server and client shares, and what a server keeps to check
them.

mysql_native_password (h = SHA1, nonce 20 bytes):

    client sends  h(pw) ⊕ h(nonce ‖ h(h(pw)))          server stores  '*' HEX(h(h(pw)))

caching_sha2_password (h = SHA256):

    client sends  h(pw) ⊕ h(h(h(pw)) ‖ nonce)          server caches h(h(pw)) in memory after one full login
    full login    the password and a NUL, over TLS; or those bytes ⊕ nonce under the server's RSA key (rsa.py)
    server stores '$A$005$' salt digest                 sha256-crypt, 5 × 1000 rounds (00A: 10,000, since 9.x)

sha256_password is caching_sha2_password with nothing but the full login.

An empty password is an empty answer (the SHA-256 plugins also allow one NUL), whatever the nonce. A server
that knows only the stored sha256-crypt hash cannot check a scramble, hence the cache and the full login. (Source:
sql/auth/password.cc, sha2_password.cc and sql-common/client_authentication.cc of MySQL.)

Every comparison of secrets takes the same time wherever they differ, and nothing here shows one in its repr.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from binlogd.errors import ConfigError
from binlogd.wire.handshake import NONCE_SIZE
from binlogd.wire.sha256crypt import DIGEST_CHARS, sha256_crypt, sha256_crypt_steps


class Plugin(StrEnum):
    """Authentication plugins by their name on the wire."""

    NATIVE = "mysql_native_password"
    CACHING_SHA2 = "caching_sha2_password"
    SHA256 = "sha256_password"
    """Ours as a client only. Servers up to 9.x also ask it of names they do not know."""
    CLEAR = "mysql_clear_password"
    """Ours as a client only."""


BOTH_PLUGINS = frozenset({Plugin.NATIVE, Plugin.CACHING_SHA2})

FAST_AUTH_OK = b"\x03"
FULL_AUTH_NEEDED = b"\x04"
PUBLIC_KEY_WANTED = b"\x02"
SHA256_KEY_WANTED = b"\x01"

MAX_PASSWORD = 256
"""Bytes of a password at a full login (MySQL's MAX_PLAINTEXT_LENGTH): bounds the time that hashing a guess
takes.
"""

CACHE_ENTRIES = 4096
"""Accounts remembered by a ``FastAuthCache`` unless told otherwise: far above what a configuration holds, < 2
MiB.
"""

_SHA2_SALT = 20
_SHA2_HEAD = "$A$"


def make_nonce() -> bytes:
    """A fresh nonce: 20 bytes of 0x01–0x7F without ``$``, as mysqld draws it.

    NUL would end the string early for old clients; ``$`` and the high bit are avoided because mysqld shares
    the generator with stored salts.
    """
    allowed = bytes(byte for byte in range(1, 0x80) if byte != ord("$"))
    return bytes(secrets.choice(allowed) for _ in range(NONCE_SIZE))


def xor(left: bytes, right: bytes) -> bytes:
    """Two byte strings of the same length, bit by bit."""
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()  # the protocol's choice, not ours


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def scramble_native(password: str, nonce: bytes) -> bytes:
    """The client's 20 bytes for mysql_native_password; empty for an empty password."""
    if not password:
        return b""
    stage1 = _sha1(password.encode())
    return xor(stage1, _sha1(nonce + _sha1(stage1)))


def scramble_sha2(password: str, nonce: bytes) -> bytes:
    """The client's 32 bytes for caching_sha2_password's fast path; empty for an empty password."""
    if not password:
        return b""
    stage1 = _sha256(password.encode())
    return xor(stage1, _sha256(_sha256(stage1) + nonce))


def native_stage2(password: bytes) -> bytes:
    """What a server keeps for mysql_native_password."""
    return _sha1(_sha1(password))


def sha2_stage2(password: bytes) -> bytes:
    """What a server caches for caching_sha2_password's fast path."""
    return _sha256(_sha256(password))


def check_native(response: bytes, nonce: bytes, stage2: bytes) -> bool:
    """Whether a client's scramble fits the stored double hash. Constant time for a given length."""
    return _check(_sha1, response, _sha1(nonce + stage2), stage2)


def check_sha2(response: bytes, nonce: bytes, stage2: bytes) -> bool:
    """Whether a client's scramble fits the cached double hash. Constant time for a given length."""
    return _check(_sha256, response, _sha256(stage2 + nonce), stage2)


def _check(digest: Callable[[bytes], bytes], response: bytes, mask: bytes, stage2: bytes) -> bool:
    if len(response) != len(mask):
        return False
    return hmac.compare_digest(digest(xor(response, mask)), stage2)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A hash as ``mysql.user.authentication_string`` holds it."""

    plugin: Plugin
    digest: bytes = field(repr=False)
    salt: bytes = field(repr=False, default=b"")
    rounds: int = 0

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """From ``*HEX40``, ``$A$005$salt digest``, or the latter as ``0x2441…`` (SHOW CREATE USER in
        hexadecimal).

        Raises ``ConfigError``, whose message does not repeat the hash.
        """
        if text[:2].lower() == "0x":
            try:
                text = bytes.fromhex(text[2:]).decode("latin-1")
            except ValueError as error:
                raise ConfigError("the password hash begins with 0x and is not hexadecimal", hint=_HASH_HINT) from error
        try:
            if text.startswith("*") and len(text) == 41:
                return cls(Plugin.NATIVE, bytes.fromhex(text[1:]))
            head = len(_SHA2_HEAD) + 4
            if text.startswith(_SHA2_HEAD) and text[head - 1 : head] == "$":
                raw = text[head:].encode("latin-1")
                rounds = int(text[len(_SHA2_HEAD) : head - 1], 16) * 1000
                if len(raw) == _SHA2_SALT + DIGEST_CHARS and rounds > 0:
                    return cls(Plugin.CACHING_SHA2, raw[_SHA2_SALT:], raw[:_SHA2_SALT], rounds)
        except ValueError:
            pass  # the same mistake as a wrong length: said once, below
        raise ConfigError("the password hash has neither form that mysql.user holds", hint=_HASH_HINT)

    @classmethod
    def make_sha2(cls, password: str, salt: bytes, rounds: int = 5000) -> PasswordHash:
        """What a server would store for this password."""
        return cls(Plugin.CACHING_SHA2, sha256_crypt(password.encode(), salt, rounds), salt, rounds)

    def __str__(self) -> str:
        """The form ``parse`` reads."""
        if self.plugin is Plugin.NATIVE:
            return "*" + self.digest.hex().upper()
        return f"{_SHA2_HEAD}{self.rounds // 1000:03X}$" + (self.salt + self.digest).decode("latin-1")

    def matching(self, password: bytes) -> Generator[None, None, bool]:
        """Whether this is the password: 5 ms and more for a caching_sha2 hash, whatever the answer, with pauses."""
        if self.plugin is Plugin.NATIVE:
            return hmac.compare_digest(native_stage2(password), self.digest)
        digest = yield from sha256_crypt_steps(password, self.salt, self.rounds)
        return hmac.compare_digest(digest, self.digest)


_HASH_HINT = (
    "copy authentication_string from mysql.user: *HEX40 of mysql_native_password, or $A$005$… of "
    "caching_sha2_password (best as 0x… from SELECT HEX(authentication_string))"
)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log in: a name and exactly one of ``password`` and ``password_hash``.

    With the password either plugin can be served; with a hash only the plugin it was made for. Raises
    ``ConfigError``.
    """

    name: str
    password: str | None = field(default=None, repr=False)
    password_hash: str | None = field(default=None, repr=False)
    parsed_hash: PasswordHash | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.password is None) == (self.password_hash is None):
            raise ConfigError(f"user {self.name!r} needs either a password or a password_hash, not both or neither")
        parsed = None if self.password_hash is None else PasswordHash.parse(self.password_hash)
        object.__setattr__(self, "parsed_hash", parsed)

    @property
    def plugins(self) -> frozenset[Plugin]:
        """The plugins this account can log in with."""
        return BOTH_PLUGINS if self.parsed_hash is None else frozenset({self.parsed_hash.plugin})

    def native_stage2(self) -> bytes | None:
        """The double SHA-1 to check a native scramble against; None for a caching_sha2 hash."""
        if self.password is not None:
            return native_stage2(self.password.encode())
        known = self.parsed_hash
        return known.digest if known is not None and known.plugin is Plugin.NATIVE else None


def decoy_for(accounts: Iterable[Account]) -> Account:
    """An account that nobody can log in to, to treat unknown names like: the kind and cost of the real ones.

    Where the real accounts differ among themselves in kind, it is like those whose check takes longest.
    """
    hashes = [account.parsed_hash for account in accounts]
    rounds = max((known.rounds for known in hashes if known is not None), default=0)
    secret = secrets.token_urlsafe()
    if rounds:
        return Account("", password_hash=str(PasswordHash.make_sha2(secret, make_nonce(), rounds)))
    if hashes and None not in hashes:
        return Account("", password_hash="*" + native_stage2(secret.encode()).hex())
    return Account("", secret)


class FastAuthCache:
    """Double SHA-256 of passwords that have passed a full login, so that hash-only accounts pass the next
    quickly.

    Bounded; the account used longest ago is forgotten first. Keyed by name and hash: a changed password
    misses. Only successful logins fill it, so strangers cannot push accounts out.
    """

    __slots__ = ("_entries", "_limit")

    def __init__(self, limit: int = CACHE_ENTRIES) -> None:
        self._entries: OrderedDict[tuple[str, str | None], bytes] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, account: Account) -> bytes | None:
        """The cached digest of this account as it is now, or None."""
        key = (account.name, account.password_hash)
        digest = self._entries.get(key)
        if digest is not None:
            self._entries.move_to_end(key)
        return digest

    def remember(self, account: Account, password: bytes) -> None:
        """Note a password that has just been verified."""
        key = (account.name, account.password_hash)
        self._entries[key] = sha2_stage2(password)
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
