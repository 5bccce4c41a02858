"""The secret that a head and its nodes share, and the certificate with which a head encrypts.

The secret is in a file, never on a command line. The certificate is the user's, or made at each
start. No node checks its signature: a node has the head prove, by the secret, that the
certificate is the head's own (see shake.nodes.hello).
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import secrets
import ssl
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shake.errors import RefusedError, UsageError

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

#: Shorter secrets could be guessed from the proofs in a hello.
_LEAST_CHARACTERS = 32

_ADVICE = "make one by: (umask 077; openssl rand -hex 32 > FILE)"


def new_secret() -> bytes:
    """A new random secret."""
    return secrets.token_hex(32).encode()


def read_secret(path: str | None) -> bytes:
    """The secret in the file ``path``. Raises UsageError."""
    if path is None:
        raise UsageError(
            "nodes need a secret, the same one on all machines: give its file by "
            f"nodes.secret_file or the environment variable SHAKE_NODES_SECRET_FILE; {_ADVICE}"
        )
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the secret of nodes in {path}: {reason}") from None
    # Its group can read it: so Kubernetes mounts a secret for a process that is not root.
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise UsageError(f"other users can open the secret of nodes in {path}: chmod 600 {path}")
    if len(secret) < _LEAST_CHARACTERS:
        raise UsageError(
            f"the secret of nodes in {path} is shorter than {_LEAST_CHARACTERS} characters; "
            f"{_ADVICE}"
        )
    return secret.encode()


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a link is never resumed
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
    # OpenSSL takes only files. This one is for this user only.
    with tempfile.NamedTemporaryFile() as file:
        file.write(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        file.write(built.public_bytes(pem))
        file.flush()
        return load_certificate(file.name, file.name)


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one that is not")  # OpenSSL would ask for it
