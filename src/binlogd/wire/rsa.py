"""RSA in logins without TLS: the server lends its public key, and the password comes back under it.

    client sends  (password ‖ NUL) ⊕ nonce, repeated as often as needed, under OAEP with SHA-1

Who does not need it does not load it: cryptography takes longer than the rest of a login. (Source: sql-common/
client_authentication.cc and sql/auth/sha2_password.cc of MySQL.)
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from binlogd.errors import ConfigError, ProtocolError
from binlogd.wire.auth import xor

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303


def encrypt_password(password: str, nonce: bytes, public_pem: bytes) -> bytes:
    """Password and NUL, XORed with the nonce, under the server's RSA key (OAEP, SHA-1).

    Raises ``ProtocolError`` for a key that cannot be used or is too small for the password.
    """
    plain = password.encode() + b"\0"
    mask = (nonce * (len(plain) // len(nonce) + 1))[: len(plain)]
    try:
        key = serialization.load_pem_public_key(public_pem)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("it is not an RSA key")
        return key.encrypt(xor(plain, mask), _OAEP)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ProtocolError(
            f"the server's RSA public key cannot carry the password: {error}", hint="use TLS to this server"
        ) from error


class RsaKey:
    """The key pair a server lends to clients that log in without TLS.

    ``public_pem`` is what they are sent.
    """

    __slots__ = ("_key", "public_pem")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self.public_pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def generate(cls, bits: int = 2048) -> RsaKey:
        """A new key of the size mysqld makes. Takes some tenths of a second."""
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @classmethod
    def from_pem(cls, pem: bytes) -> RsaKey:
        """From an unencrypted private key in PEM, PKCS#1 or PKCS#8; raises ``ConfigError``."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(
                f"the RSA key for logins without TLS cannot be read: {error}",
                hint="remove the file, and a new key is made",
            ) from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ConfigError(
                "the key for logins without TLS is not an RSA key",
                hint="remove the file, and a new key is made",
            )
        return cls(key)

    def to_pem(self) -> bytes:
        """The private key in PEM (PKCS#8, unencrypted), to be kept in a file that nobody else can read."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The plain bytes; raises ``ValueError`` when they were not made with this key."""
        return self._key.decrypt(ciphertext, _OAEP)
