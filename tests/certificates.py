"""A studio's certificate for C2PA, signed by an authority that nobody trusts."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGIN = datetime.datetime(2026, 1, 1)
LONG = datetime.timedelta(days=36500)


@dataclass(frozen=True)
class Files:
    """PEM files of a chain of certificates and of its first one's key."""

    certificate: Path
    key: Path


def make(folder: Path, *, lasts: datetime.timedelta = LONG) -> Files:
    """Write a certificate that lasts so long from the start of 2026."""
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = [
        _certificate("Studio", own, "Authority", authority, lasts),
        _certificate("Authority", authority, "Authority", authority, LONG),
    ]
    files = Files(folder / "studio.pem", folder / "studio.key")
    pem = serialization.Encoding.PEM
    files.certificate.write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    files.key.write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    lasts: datetime.timedelta,
) -> x509.Certificate:
    is_authority = name == issuer
    usage = x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(BEGIN + lasts)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not is_authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purposes, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    words = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    return x509.Name([x509.NameAttribute(word, text) for word in words])
