"""The progress server's certificate, and the operator's own certificate authority that signs it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 365
_RENEW_BEFORE = timedelta(days=120)
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class Certificates:
    """A server's certificate and its authority, as PEM.

    Attributes:
        authority: Certificate of the authority, which clients trust.
        authority_key: Its private key.
        server: Certificate of the server.
        server_key: Its private key.
    """

    authority: bytes
    authority_key: bytes
    server: bytes
    server_key: bytes


def issue(names: Iterable[str], before: Certificates | None = None, now: datetime | None = None) -> Certificates:
    """Return a certificate for a server.

    Args:
        names: DNS names and IP addresses of the server.
        before: The existing certificates; their authority signs again, as long as it outlives the new certificate.
        now: The current time by default.
    """
    now = now or datetime.now(UTC)
    if before is not None and _end(before.authority) > now + timedelta(days=_SERVER_DAYS):
        authority = x509.load_pem_x509_certificate(before.authority)
        key = serialization.load_pem_private_key(before.authority_key, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - checked by `is_good` before
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key, now)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _server(server_key, sorted(set(names)), authority, key, now)
    return Certificates(_pem(authority), _key_pem(key), _pem(server), _key_pem(server_key))


def is_good(certificates: Certificates, names: Iterable[str], now: datetime | None = None) -> bool:
    """Return whether certificates can be used: intact, valid for these names, and not about to expire."""
    try:
        server = x509.load_pem_x509_certificate(certificates.server)
        authority = x509.load_pem_x509_certificate(certificates.authority)
        server.verify_directly_issued_by(authority)
        for pem, certificate in ((certificates.server_key, server), (certificates.authority_key, authority)):
            key = serialization.load_pem_private_key(pem, password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
                return False
        held = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # A certificate with any defect is replaced.
        return False
    is_fresh = server.not_valid_after_utc - (now or datetime.now(UTC)) > _RENEW_BEFORE
    return is_fresh and set(held) >= {_general_name(name) for name in names}


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tunesmith-progress-ca")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(name, name, key, now, _AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True).add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256())


def _server(
    key: ec.EllipticCurvePrivateKey,
    names: list[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tunesmith-progress")])
    builder = _builder(subject, authority.subject, key, now, _SERVER_DAYS)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
    builder = builder.add_extension(usages, critical=False).add_extension(identifier, critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _CLOCK_SKEW,
        not_valid_after=now + timedelta(days=days),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _end(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
