"""The server's half of the authentication exchange, as a generator.

It yields payloads for the client, is sent the client's answers, and returns a ``Verdict``. A generator,
because the exchange is a short straight conversation and reads as one:

    client's first answer → [switch plugin] → native: verdict
                                            → caching_sha2: fast path → [full login by TLS or RSA] → verdict

What nobody may learn is whether a name exists. So an unknown name goes through the same exchange as a known
one with a wrong password, step for step: a failed fast path always asks for a full login (as mysqld does),
and a full login always costs one sha256-crypt, whether or not there is a hash to compare with. An unknown name
is treated like the ``decoy``, an account of the kind that the real ones are.

The password is asked for only over TLS or a local socket; otherwise it comes under RSA, or the login fails.

What a stranger can make us compute costs milliseconds: RSA, and the hash. Before each step of it the generator yields
None, a pause: whoever drives it may do something else and goes on with ``next``.
"""

from __future__ import annotations

import hmac
from collections.abc import Generator
from dataclasses import dataclass

from binlogd.wire.auth import (
    FAST_AUTH_OK,
    FULL_AUTH_NEEDED,
    MAX_PASSWORD,
    PUBLIC_KEY_WANTED,
    Account,
    FastAuthCache,
    PasswordHash,
    Plugin,
    check_native,
    check_sha2,
    sha2_stage2,
)
from binlogd.wire.handshake import AuthMoreData, AuthSwitchRequest
from binlogd.wire.rsa import RsaKey

GREETED = Plugin.CACHING_SHA2  # what the greeting names, and its nonce is for
_ANY_HASH = PasswordHash.make_sha2("", b"any twenty byte salt")
"""Hashed against where neither the account nor the decoy has a hash, so that a full login has one cost."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an exchange ended. ``account`` is None for a refusal.

    ``preface`` is a payload to be sent before the OK; ``used_password`` is what the refusal's text says;
    ``unsupported`` means that the client cannot be switched to a plugin this name can be checked with.
    """

    account: Account | None
    used_password: bool
    plugin: Plugin
    preface: bytes | None = None
    unsupported: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What one exchange needs to know.

    ``account`` is None for an unknown name, which is then treated like ``decoy`` and refused in the end.
    ``began_with`` is the plugin whose answer came with the handshake, None if it is none of ours;
    ``can_switch`` says whether the client understands AuthSwitchRequest; ``private`` whether the password may
    come in clear.
    """

    account: Account | None
    decoy: Account
    began_with: Plugin | None
    can_switch: bool
    nonce: bytes
    private: bool
    rsa_key: RsaKey | None
    cache: FastAuthCache

    def run(self, response: bytes) -> Generator[bytes | None, bytes, Verdict]:
        """The exchange from the client's first answer on; None is a pause."""
        plugin = self.began_with
        plugins = (self.account or self.decoy).plugins
        if plugin is None or plugin not in plugins:
            plugin = Plugin.CACHING_SHA2 if Plugin.CACHING_SHA2 in plugins else Plugin.NATIVE
            if not self.can_switch:
                return Verdict(None, bool(response), plugin, unsupported=True)
            response = yield AuthSwitchRequest(plugin, self.nonce).encode()
        elif plugin is not GREETED and self.can_switch and not response:
            # MySQL 5.6 and MariaDB do not take a nonce that greets another plugin than theirs: they say nothing first.
            response = yield AuthSwitchRequest(plugin, self.nonce).encode()
        if plugin is Plugin.NATIVE:
            return self._native(response)
        return (yield from self._caching_sha2(response))

    def _native(self, response: bytes) -> Verdict:
        if not response:
            return self._verdict(self._has_empty_password(), Plugin.NATIVE, used_password=False)
        stage2 = None if self.account is None else self.account.native_stage2()
        fits = check_native(response, self.nonce, bytes(20) if stage2 is None else stage2)
        return self._verdict(fits and stage2 is not None, Plugin.NATIVE)

    def _caching_sha2(self, response: bytes) -> Generator[bytes | None, bytes, Verdict]:
        if response in (b"", b"\0"):
            return self._verdict(self._has_empty_password(), Plugin.CACHING_SHA2, used_password=False)
        if self._fits_fast(response):
            return self._verdict(True, Plugin.CACHING_SHA2, preface=AuthMoreData(FAST_AUTH_OK).encode())
        if not self.private and self.rsa_key is None:
            return self._verdict(False, Plugin.CACHING_SHA2)
        answer = yield AuthMoreData(FULL_AUTH_NEEDED).encode()
        if self.private:
            password = answer
        else:
            assert self.rsa_key is not None
            if answer == PUBLIC_KEY_WANTED:
                answer = yield AuthMoreData(self.rsa_key.public_pem).encode()
            yield None
            password = self._decrypt(self.rsa_key, answer)
        yield None
        return self._verdict((yield from self._fits_full(password)), Plugin.CACHING_SHA2)

    def _fits_fast(self, response: bytes) -> bool:
        stage2 = None
        if self.account is not None:
            if self.account.password is not None:
                stage2 = sha2_stage2(self.account.password.encode())
            else:
                stage2 = self.cache.find(self.account)
        fits = check_sha2(response, self.nonce, bytes(32) if stage2 is None else stage2)
        return fits and stage2 is not None

    def _decrypt(self, key: RsaKey, cipher: bytes) -> bytes:
        """The password and its NUL; nothing at all when it cannot be decrypted, which no password equals."""
        try:
            masked = key.decrypt(cipher)
        except ValueError:
            return b""
        return bytes(byte ^ self.nonce[i % len(self.nonce)] for i, byte in enumerate(masked))

    def _fits_full(self, answer: bytes) -> Generator[None, None, bool]:
        """``answer`` is the password and its NUL. Costs one sha256-crypt for every name."""
        terminated = answer.endswith(b"\0") and len(answer) <= MAX_PASSWORD + 1
        password = answer[:-1] if terminated else b""
        account = self.account
        known = (account or self.decoy).parsed_hash or self.decoy.parsed_hash
        if known is None or known.plugin is not Plugin.CACHING_SHA2:
            known = _ANY_HASH
        fits = yield from known.matching(password)
        if account is None or not terminated:
            return False
        if account.password is not None:
            return hmac.compare_digest(password, account.password.encode())
        if fits:
            self.cache.remember(account, password)
        return fits

    def _has_empty_password(self) -> bool:
        return self.account is not None and self.account.password == ""

    def _verdict(
        self, accepted: bool, plugin: Plugin, *, used_password: bool = True, preface: bytes | None = None
    ) -> Verdict:
        return Verdict(self.account if accepted else None, used_password, plugin, preface)
