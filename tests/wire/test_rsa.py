"""binlogd.wire.rsa."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec

from binlogd.errors import ConfigError, ProtocolError
from binlogd.wire.rsa import RsaKey, encrypt_password
from tests.wire.support import rsa_key

NONCE = bytes(range(1, 21))


def test_passwords_pass_under_rsa() -> None:
    key = rsa_key()
    for password in ("secret", "", "pässwörd", "x" * 200):
        cipher = encrypt_password(password, NONCE, key.public_pem)
        assert password.encode() not in cipher or not password
        plain = bytes(byte ^ NONCE[i % 20] for i, byte in enumerate(key.decrypt(cipher)))
        assert plain == password.encode() + b"\0"


def test_the_key_survives_its_pem() -> None:
    again = RsaKey.from_pem(rsa_key().to_pem())
    assert again.public_pem == rsa_key().public_pem
    assert again.public_pem.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert again.decrypt(encrypt_password("x", NONCE, rsa_key().public_pem))


def test_what_is_no_key_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    public = other.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    private = other.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    for pem in (b"", b"-----BEGIN PUBLIC KEY-----\nxxxx\n-----END PUBLIC KEY-----\n", public):
        with pytest.raises(ProtocolError, match="public key"):
            encrypt_password("secret", NONCE, pem)
    for pem in (b"", b"nonsense", private, rsa_key().public_pem):
        with pytest.raises(ConfigError):
            RsaKey.from_pem(pem)


def test_a_password_too_long_for_the_key_is_refused() -> None:
    with pytest.raises(ProtocolError, match="cannot carry"):
        encrypt_password("x" * 300, NONCE, rsa_key().public_pem)
