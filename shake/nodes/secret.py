"""The secret that a head and its nodes share. It is in a file, never on a command line."""

from __future__ import annotations

import os
import secrets
import stat

from shake.errors import UsageError

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
