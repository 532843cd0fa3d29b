"""The listener's keys: made once and kept in the data folder, as mysqld makes its own.

server-cert.pem, server-key.pem   for TLS: self-signed, which encrypts and proves nothing
private_key.pem                   RSA, with which caching_sha2_password protects a password without TLS

What cannot be kept, because the disk is full, serves all the same, until the next start.
"""

from __future__ import annotations

import datetime
import os
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from binlogd.errors import ConfigError
from binlogd.logs import get_logger
from binlogd.store.disk import Disk, explained
from binlogd.wire.rsa import RsaKey

log = get_logger(__name__)

VALID = datetime.timedelta(days=3650)  # as long as mysqld's own


def rsa_key(folder: Path, disk: Disk) -> RsaKey:
    """The kept RSA key, or a new one."""
    path = folder / "private_key.pem"
    with explained("read", path):
        if path.exists():
            return RsaKey.from_pem(path.read_bytes())
    key = RsaKey.generate()
    try:
        disk.replace(path, key.to_pem())
    except OSError as bad:
        _not_kept(bad)
    return key


def tls_context(folder: Path, disk: Disk, *, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """For the listener: the configured certificate, else the kept one, else a new one."""
    if certificate is None or key is None:
        certificate, key = folder / "server-cert.pem", folder / "server-key.pem"
        if not (certificate.exists() and key.exists()):
            return _made(certificate, key, disk)
    return _context(certificate, key)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as bad:
        raise ConfigError(
            f"cannot load the listener's certificate {certificate} with its key {key}: {bad}",
            hint="check server.tls_cert and server.tls_key, or remove the kept ones to have new ones made",
        ) from bad
    return context


def _made(certificate: Path, key: Path, disk: Disk) -> ssl.SSLContext:
    """With a new pair, kept if that can be."""
    signed, pem = _make()
    try:
        os.makedirs(certificate.parent, mode=0o700, exist_ok=True)
        disk.replace(key, pem)
        disk.replace(certificate, signed)
    except OSError as bad:
        _not_kept(bad)
        descriptor = os.memfd_create("binlogd")  # OpenSSL takes files only
        try:
            os.write(descriptor, pem + signed)
            own = Path(f"/proc/self/fd/{descriptor}")
            return _context(own, own)
        finally:
            os.close(descriptor)
    return _context(certificate, key)


def _not_kept(bad: OSError) -> None:
    log.warning("a key of the listener cannot be kept, and another is made at the next start", error=str(bad))


def _make() -> tuple[bytes, bytes]:
    """A certificate and its key, as PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"binlogd on {socket.gethostname()}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.public_bytes(serialization.Encoding.PEM), pem
