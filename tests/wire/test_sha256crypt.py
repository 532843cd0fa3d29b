"""binlogd.wire.sha256crypt, against openssl's and MySQL's own output."""

from __future__ import annotations

import pytest

from binlogd.wire.sha256crypt import sha256_crypt


@pytest.mark.parametrize(
    ("password", "salt", "digest"),
    [
        # openssl passwd -5 -salt SALT PASSWORD
        ("Hello world!", "saltstring", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        ("x" * 200, "0123456789abcdef", "AVwxjOoH.EPPSue4bUkq7FqMZ/iaTlEYfG25WBVOHH5"),
        ("pässword", "q", "SdZBr3Rr97XMnkXcteaV5FSegum3JPlxGk1U2BsGQ46"),
    ],
)
def test_openssls_vectors(password: str, salt: str, digest: str) -> None:
    assert sha256_crypt(password.encode(), salt.encode(), 5000) == digest.encode()


def test_the_rounds_count() -> None:
    # openssl passwd -5 -salt 'rounds=10000$saltstringsaltst' 'Hello world!'
    assert sha256_crypt(b"Hello world!", b"saltstringsaltst", 10_000) == (
        b"3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"
    )


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 256])
def test_every_length_gives_43_characters_and_its_own_digest(size: int) -> None:
    digest = sha256_crypt(b"a" * size, b"0123456789abcdefghij", 1000)
    assert len(digest) == 43
    assert digest != sha256_crypt(b"a" * (size + 1), b"0123456789abcdefghij", 1000)
