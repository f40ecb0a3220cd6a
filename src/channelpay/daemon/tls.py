"""TLS 1.3 that hides, and proves nothing: who speaks is AUTH's business. Spec chapter 4, section 3.

A listener's certificate is made afresh in each process and never stored or shared (spec T-6). AUTH signs the hash
of its DER bytes, which ties the identity to this very TLS connection.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "channelpay")])
_LIFE = timedelta(days=3650)  # nobody looks at it (spec T-7), so it need only be a valid certificate


@dataclass(frozen=True, slots=True)
class Certificate:
    """A listener's certificate: its DER bytes, and the context of connections that use it."""

    der: bytes
    context: ssl.SSLContext


def fresh_certificate() -> Certificate:
    """A self-signed certificate with a new P-256 key, which never leaves this process in the clear."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # spec T-5
    context.num_tickets = 0  # spec T-5: no resumption, every connection has keys of its own
    _load(context, certificate, key)
    return Certificate(certificate.public_bytes(serialization.Encoding.DER), context)


def _load(context: ssl.SSLContext, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Give the context its chain. The ssl module reads files only: a 0600 one, encrypted, gone at once."""
    password = os.urandom(32).hex()
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )
        file.flush()
        context.load_cert_chain(file.name, password=password)


def client_context() -> ssl.SSLContext:
    """The context of connections that we dial: TLS 1.3, any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # spec T-7
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
