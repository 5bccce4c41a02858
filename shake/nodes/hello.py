"""The first words on a link: head and node prove that they have the same secret.

The secret itself is never sent. Each side sends a number that it uses once, and proves by an HMAC
over both numbers that it has the secret. The HMAC covers the certificate which the node sees, too.
A third machine between the two has to show another certificate. So it can pass on no proof: see
"tls-server-end-point" in https://www.rfc-editor.org/rfc/rfc5929. The head proves first: a node
proves nothing to a head that does not know the secret.

- Node: MAGIC, its number.
- Head: its number, its proof.
- Node: its proof, its version of shake, its name.
- Head: a refusal, or an empty text.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable

from shake import __version__
from shake.errors import RefusedError
from shake.nodes.certificate import digest_of
from shake.nodes.words import HelloError, Words, WrongSecretError
from shake.status.logs import one_line

#: Another form of these words needs another one.
MAGIC = b"shake node 1"
_NUMBER_BYTES = 32
_VERSION = re.compile(rb"[\w.+-]{1,64}")
#: A name is shown in the log and in metrics.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def greet_node(words: Words, secret: bytes, digest: bytes, version: str = __version__) -> str:
    """The head's part: the name of the node. Raises HelloError, OSError.

    ``digest`` is that of the head's certificate.
    """
    words.shake_hands()
    magic, node_number = words.hear(2)
    if magic != MAGIC or len(node_number) != _NUMBER_BYTES:
        raise HelloError("no hello of a node")
    head_number = secrets.token_bytes(_NUMBER_BYTES)
    prove = _prover(secret, digest, node_number, head_number)
    words.say(head_number, prove(b"head"))
    proof, node_version, name = words.hear(3)
    if not hmac.compare_digest(proof, prove(b"node")):
        raise WrongSecretError("it has another secret")
    if not (_VERSION.fullmatch(node_version) and NAME.fullmatch(name.decode(errors="replace"))):
        raise HelloError("no version or name of a node")
    refusal = _refusal(version, node_version.decode())
    words.say(refusal.encode())
    if refusal:
        raise HelloError(refusal)
    words.end()
    return name.decode()


def greet_head(words: Words, secret: bytes, name: str, version: str = __version__) -> None:
    """The node's part. Raises HelloError, OSError, and RefusedError where the head refuses it."""
    words.shake_hands()
    digest = digest_of(words.certificate)
    node_number = secrets.token_bytes(_NUMBER_BYTES)
    words.say(MAGIC, node_number)
    head_number, proof = words.hear(2)
    if len(head_number) != _NUMBER_BYTES:
        raise HelloError("no hello of a head")
    prove = _prover(secret, digest, node_number, head_number)
    if not hmac.compare_digest(proof, prove(b"head")):
        raise WrongSecretError("it has another secret")
    words.say(prove(b"node"), version.encode(), name.encode())
    (refusal,) = words.hear(1)
    if refusal:
        raise RefusedError(one_line(refusal.decode(errors="replace")))
    words.end()


def _prover(secret: bytes, digest: bytes, *numbers: bytes) -> Callable[[bytes], bytes]:
    """Makes the proof of a side. All parts have a fixed length, but for the side's name at last."""

    def prove(side: bytes) -> bytes:
        return hmac.digest(secret, b"".join([MAGIC, digest, *numbers, side]), "sha256")

    return prove


def _refusal(head: str, node: str) -> str:
    if head == node:
        return ""
    return (
        f"the head runs shake {head} and this node runs shake {node}: install the same version on "
        "all machines"
    )
