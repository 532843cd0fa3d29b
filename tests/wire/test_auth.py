"""binlogd.wire.auth."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binlogd.errors import ConfigError
from binlogd.wire.auth import (
    BOTH_PLUGINS,
    Account,
    FastAuthCache,
    PasswordHash,
    Plugin,
    check_native,
    check_sha2,
    decoy_for,
    make_nonce,
    native_stage2,
    scramble_native,
    scramble_sha2,
    sha2_stage2,
)
from tests.wire.support import matches

NONCE = bytes(range(1, 21))
# SELECT PASSWORD('secret') on MySQL 5.6
NATIVE_HASH = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"


def test_the_scrambles_follow_their_formulas() -> None:
    sha1 = hashlib.sha1(b"secret").digest()
    mask = hashlib.sha1(NONCE + hashlib.sha1(sha1).digest()).digest()
    assert scramble_native("secret", NONCE) == bytes(a ^ b for a, b in zip(sha1, mask, strict=True))
    sha256 = hashlib.sha256(b"secret").digest()
    inner = hashlib.sha256(hashlib.sha256(sha256).digest() + NONCE).digest()
    assert scramble_sha2("secret", NONCE) == bytes(a ^ b for a, b in zip(sha256, inner, strict=True))


def test_an_empty_password_is_an_empty_answer() -> None:
    assert scramble_native("", NONCE) == scramble_sha2("", NONCE) == b""


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_scrambles_fit_their_own_password_and_nonce_only(password: str, other: str) -> None:
    nonce, later = make_nonce(), make_nonce()
    native, sha2 = native_stage2(password.encode()), sha2_stage2(password.encode())
    assert check_native(scramble_native(password, nonce), nonce, native)
    assert check_sha2(scramble_sha2(password, nonce), nonce, sha2)
    assert not check_native(scramble_native(password, nonce), later, native)
    assert not check_sha2(scramble_sha2(password, nonce), later, sha2)
    if other != password:
        assert not check_native(scramble_native(other, nonce), nonce, native)
        assert not check_sha2(scramble_sha2(other, nonce), nonce, sha2)


def test_answers_of_another_length_never_fit() -> None:
    stage2 = native_stage2(b"secret")
    scramble = scramble_native("secret", NONCE)
    for wrong in (b"", scramble[:-1], scramble + b"\0"):
        assert not check_native(wrong, NONCE, stage2)
        assert not check_sha2(wrong, NONCE, sha2_stage2(b"secret"))


def test_nonces_are_what_mysqld_draws() -> None:
    drawn = [make_nonce() for _ in range(200)]
    assert len(set(drawn)) == 200
    assert {len(nonce) for nonce in drawn} == {20}
    used = set(b"".join(drawn))
    assert used <= set(range(1, 0x80)) - {ord("$")}
    assert len(used) > 100


def test_the_native_hash_is_mysqls() -> None:
    parsed = PasswordHash.parse(NATIVE_HASH)
    assert parsed.plugin is Plugin.NATIVE
    assert parsed.digest == native_stage2(b"secret")
    assert matches(parsed, b"secret")
    assert not matches(parsed, b"Secret")
    assert str(parsed) == NATIVE_HASH
    assert PasswordHash.parse(NATIVE_HASH.lower()) == parsed


@settings(max_examples=20)
@given(st.binary(max_size=40), st.binary(min_size=20, max_size=20), st.sampled_from([1000, 5000, 0xA000]))
def test_sha2_hashes_round_trip_in_both_spellings(password: bytes, salt: bytes, rounds: int) -> None:
    made = PasswordHash.make_sha2(password.decode("latin-1"), salt, rounds - rounds % 1000)
    spelled = str(made)
    assert len(spelled) == 70
    assert PasswordHash.parse(spelled) == made
    assert PasswordHash.parse("0x" + spelled.encode("latin-1").hex()) == made
    assert matches(made, password.decode("latin-1").encode())
    assert not matches(made, password + b"x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        NATIVE_HASH[:-1],
        NATIVE_HASH[:-1] + "G",
        "$A$005$short",
        "$A$00x$" + "a" * 63,
        "$A$000$" + "a" * 63,
        "$A$005$" + "a" * 62 + "☃",
        "$5$005$" + "a" * 63,
        "0x2441",
        "0xnothex",
    ],
)
def test_other_hashes_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PasswordHash.parse(text)
    assert "authentication_string" in caught.value.hint
    assert len(text) < 3 or text not in str(caught.value)


def test_an_account_has_exactly_one_secret() -> None:
    with pytest.raises(ConfigError, match="'u' needs either"):
        Account("u")
    with pytest.raises(ConfigError, match="'u' needs either"):
        Account("u", "secret", NATIVE_HASH)


def test_an_account_offers_the_plugins_its_secret_can_check() -> None:
    assert Account("u", "secret").plugins == BOTH_PLUGINS
    assert Account("u", "").plugins == BOTH_PLUGINS
    assert Account("u", password_hash=NATIVE_HASH).plugins == {Plugin.NATIVE}
    sha2 = str(PasswordHash.make_sha2("secret", b"s" * 20))
    assert Account("u", password_hash=sha2).plugins == {Plugin.CACHING_SHA2}
    assert Account("u", password_hash=sha2).native_stage2() is None
    assert Account("u", password_hash=NATIVE_HASH).native_stage2() == Account("u", "secret").native_stage2()


def test_an_account_shows_no_secret() -> None:
    assert repr(Account("u", "hush")) == "Account(name='u')"
    assert NATIVE_HASH not in repr(Account("u", password_hash=NATIVE_HASH))


def test_a_decoy_is_of_the_accounts_kind_and_always_another() -> None:
    plain, native = Account("a", "secret"), Account("b", password_hash=NATIVE_HASH)
    sha2 = [Account("c", password_hash=str(PasswordHash.make_sha2("x", b"s" * 20, rounds))) for rounds in (1000, 7000)]
    assert decoy_for([]).plugins == decoy_for([plain]).plugins == decoy_for([plain, native]).plugins == BOTH_PLUGINS
    assert decoy_for([native]).plugins == {Plugin.NATIVE}
    for accounts in (sha2, [plain, native, *sha2]):
        decoy = decoy_for(accounts)
        assert decoy.parsed_hash is not None
        assert decoy.parsed_hash.rounds == 7000
        assert decoy.password_hash not in {account.password_hash for account in sha2}
    assert decoy_for([plain]).password != decoy_for([plain]).password


def test_the_cache_is_bounded_and_forgets_the_longest_unused() -> None:
    accounts = [Account(f"u{i}", password_hash=NATIVE_HASH) for i in range(3)]
    cache = FastAuthCache(limit=2)
    cache.remember(accounts[0], b"zero")
    cache.remember(accounts[1], b"one")
    assert cache.find(accounts[0]) == sha2_stage2(b"zero")
    cache.remember(accounts[2], b"two")
    assert len(cache) == 2
    assert cache.find(accounts[1]) is None
    assert cache.find(accounts[0]) == sha2_stage2(b"zero")


def test_a_changed_hash_is_not_found_in_the_cache() -> None:
    cache = FastAuthCache()
    cache.remember(Account("u", password_hash=str(PasswordHash.make_sha2("a", b"s" * 20, 1000))), b"a")
    assert cache.find(Account("u", password_hash=str(PasswordHash.make_sha2("b", b"s" * 20, 1000)))) is None
