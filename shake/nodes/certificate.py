"""The certificate with which a head encrypts its links: the user's, or one made at each start.

No node checks who has signed it: a node has the head prove, by the secret, that the certificate is
the head's own (see shake.nodes.hello).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shake.errors import RefusedError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """TLS for the head's side of all links; ``digest`` is what a node sees of the certificate."""

    context: ssl.SSLContext
    digest: bytes


def digest_of(certificate: bytes) -> bytes:
    """The digest of a certificate in DER form."""
    return hashlib.sha256(certificate).digest()


def load_certificate(certificate: str | Path, key: str | Path) -> Certificate:
    """The user's certificate, of two PEM files. Raises RefusedError."""
    context = _context()
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        first = _PEM.search(Path(certificate).read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RefusedError(
            f"cannot use the certificate {certificate} with the key {key}: {reason}"
        ) from None
    assert first, "OpenSSL has found one"
    return Certificate(context, digest_of(ssl.PEM_cert_to_DER_cert(first[0])))


def new_certificate() -> Certificate:
    """A certificate that lives as long as this process. Raises RefusedError."""
    with _pem_file() as path:
        return load_certificate(path, path)


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not")  # OpenSSL would ask for it


@contextlib.contextmanager
def _pem_file() -> Iterator[str]:
    """A file, for this user only, with a new key and its certificate. OpenSSL takes only files."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise RefusedError(
            "--nodes needs the package cryptography to make a certificate: run pip install "
            "'shake-dynamodb[nodes]', or give nodes.tls.cert and nodes.tls.key"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shake")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Nothing depends on these times: no node checks them.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    with tempfile.NamedTemporaryFile() as file:
        file.write(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        file.write(built.public_bytes(pem))
        file.flush()
        yield file.name


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a link is never resumed
    return context
