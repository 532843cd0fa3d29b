"""sha256-crypt, the hash that ``caching_sha2_password`` accounts store.

Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512" (akkadia.org/drepper/SHA-crypt.txt), scheme ``$5$``,
with two differences that MySQL makes: the salt is 20 raw bytes where crypt(3) cuts it at 16, and the text
around it is ``$A$rrr$salt digest`` with the rounds in thousands as three hexadecimal digits and nothing
between salt and digest. Python 3.13 has no ``crypt`` any more, and the older one cuts the salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from itertools import cycle, islice

DIGEST_CHARS = 43
"""Characters of the encoded digest: 256 bits in the crypt alphabet, 6 bits each."""

ROUNDS_AT_ONCE = 200
"""Rounds between two pauses, about 0.2 ms: no longer does a login hold up whoever shares the thread."""

_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_PERIOD = 42
"""What is hashed beside the running digest depends on the round number modulo 2, 3 and 7 only."""


def sha256_crypt(password: bytes, salt: bytes, rounds: int) -> bytes:
    """The 43 characters of the digest.

    Takes about 1 µs a round; the time grows with the password's length.
    """
    steps = sha256_crypt_steps(password, salt, rounds)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            digest: bytes = stop.value
            return digest


def sha256_crypt_steps(password: bytes, salt: bytes, rounds: int) -> Generator[None, None, bytes]:
    """The same with a pause after every ``ROUNDS_AT_ONCE``, in which its caller may do something else."""
    alternate = hashlib.sha256(password + salt + password).digest()
    first = hashlib.sha256(password + salt + _stretch(alternate, len(password)))
    bits = len(password)
    while bits:
        first.update(alternate if bits & 1 else password)
        bits >>= 1
    digest = first.digest()
    p = _stretch(hashlib.sha256(password * len(password)).digest(), len(password))
    s = _stretch(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))

    sha256 = hashlib.sha256
    middles = [(s if i % 3 else b"") + (p if i % 7 else b"") for i in range(_PERIOD)]
    # Odd rounds hash p, the middle and the running digest, even ones the running digest, the middle and p.
    fixed = [p + middle if i & 1 else middle + p for i, middle in enumerate(middles)]
    parts = cycle(fixed)
    for start in range(0, rounds, ROUNDS_AT_ONCE):
        for number, part in enumerate(islice(parts, min(ROUNDS_AT_ONCE, rounds - start))):  # ROUNDS_AT_ONCE is even
            digest = sha256(part + digest if number & 1 else digest + part).digest()
        yield
    return _encode(digest)


def _stretch(block: bytes, size: int) -> bytes:
    """``block`` repeated and cut to ``size`` bytes."""
    return (block * (size // len(block) + 1))[:size]


def _encode(digest: bytes) -> bytes:
    """The crypt encoding: bytes taken in threes whose places rotate, least significant 6 bits first."""
    out = bytearray()
    a, b, c = 0, 10, 20
    for _ in range(10):
        out += _sextets(digest[a] << 16 | digest[b] << 8 | digest[c], 4)
        a, b, c = c + 1, a + 1, b + 1
    out += _sextets(digest[31] << 8 | digest[30], 3)
    return bytes(out)


def _sextets(value: int, count: int) -> bytes:
    return bytes(_ALPHABET[value >> 6 * i & 0x3F] for i in range(count))
