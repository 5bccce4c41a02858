"""The first messages on a link: head and node prove that they have the same secret.

The secret itself is never sent. Each side sends a number that it uses once, and proves by an HMAC
over both numbers that it has the secret. The HMAC covers the certificate which the node sees, too.
A third machine between the two has to show another certificate. So it can pass on no proof: see
"tls-server-end-point" in https://www.rfc-editor.org/rfc/rfc5929. The head proves first: a node
proves nothing to a head that does not know the secret.

- Node: MAGIC, its number.
- Head: its number, its proof.
- Node: its proof, its version of shake, its name.
- Head: a refusal, or an empty text.

Each of these is a short MessagePack array behind its length.
"""

from __future__ import annotations

import hmac
import re
import secrets
import ssl
import struct
import time
from collections.abc import Callable

import msgpack

from shake import __version__
from shake.errors import RefusedError
from shake.nodes.credentials import digest_of
from shake.status.logs import one_line

#: Another form of these messages needs another text here.
MAGIC = b"shake node 1"
_NUMBER_BYTES = 32
_VERSION = re.compile(rb"[\w.+-]{1,64}")
#: A name is shown in the log and in metrics.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LENGTH = struct.Struct(">I")
#: No frame is larger until both sides have proved that they have the secret.
_MAX_BYTES = 1024


class HelloError(Exception):
    """What the other side sends is not what a head or a node sends."""


class WrongSecretError(HelloError):
    """The other side has another secret."""


class Frames:
    """Sends and receives frames on a connection, until a deadline.

    Raises TimeoutError after ``seconds`` in all, OSError where the connection is lost, and
    HelloError.
    """

    def __init__(self, connection: ssl.SSLSocket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def handshake(self) -> bytes:
        """Begin to encrypt; return the other side's certificate in DER form."""
        self._wait().do_handshake()
        return self._connection.getpeercert(binary_form=True) or b""

    def send(self, *fields: bytes) -> None:
        packed = msgpack.packb(fields)
        self._wait().sendall(_LENGTH.pack(len(packed)) + packed)

    def receive(self, number: int) -> list[bytes]:
        """The fields of the next frame, which are so many."""
        (size,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if size > _MAX_BYTES:
            raise HelloError(f"a frame of {size} bytes, where {_MAX_BYTES} are allowed")
        packed = self._exactly(size)
        try:
            fields = msgpack.unpackb(packed)
        except ValueError:  # with it all errors of msgpack
            raise HelloError("a frame that is not MessagePack") from None
        if type(fields) is not list or [type(field) for field in fields] != [bytes] * number:
            raise HelloError("a frame of another form")
        return fields

    def end(self) -> None:
        """Leave the connection as it was made, with nothing that is read and not used."""
        if self._connection.pending():
            raise HelloError("more than was asked")
        self._connection.settimeout(None)

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            data = self._wait().recv(size - len(received))
            if not data:
                raise ConnectionResetError("the other side has closed the connection")
            received += data
        return received

    def _wait(self) -> ssl.SSLSocket:
        """The connection, which waits no longer than to the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the other side has not finished its hello in time")
        self._connection.settimeout(left)
        return self._connection


def greet_node(frames: Frames, secret: bytes, digest: bytes) -> str:
    """The head's part: the name of the node. Raises HelloError, OSError.

    ``digest`` is that of the head's certificate.
    """
    frames.handshake()
    magic, node_number = frames.receive(2)
    if magic != MAGIC or len(node_number) != _NUMBER_BYTES:
        raise HelloError("no hello of a node")
    head_number = secrets.token_bytes(_NUMBER_BYTES)
    prove = _prover(secret, digest, node_number, head_number)
    frames.send(head_number, prove(b"head"))
    proof, node_version, name = frames.receive(3)
    if not hmac.compare_digest(proof, prove(b"node")):
        raise WrongSecretError("it has another secret")
    if not (_VERSION.fullmatch(node_version) and NAME.fullmatch(name.decode(errors="replace"))):
        raise HelloError("no version or name of a node")
    refusal = _refusal(node_version.decode())
    frames.send(refusal.encode())
    if refusal:
        raise HelloError(refusal)
    frames.end()
    return name.decode()


def greet_head(frames: Frames, secret: bytes, name: str) -> None:
    """The node's part. Raises HelloError, OSError, and RefusedError where the head refuses it."""
    digest = digest_of(frames.handshake())
    node_number = secrets.token_bytes(_NUMBER_BYTES)
    frames.send(MAGIC, node_number)
    head_number, proof = frames.receive(2)
    if len(head_number) != _NUMBER_BYTES:
        raise HelloError("no hello of a head")
    prove = _prover(secret, digest, node_number, head_number)
    if not hmac.compare_digest(proof, prove(b"head")):
        raise WrongSecretError("it has another secret")
    frames.send(prove(b"node"), __version__.encode(), name.encode())
    (refusal,) = frames.receive(1)
    if refusal:
        raise RefusedError(one_line(refusal.decode(errors="replace")))
    frames.end()


def _prover(secret: bytes, digest: bytes, *numbers: bytes) -> Callable[[bytes], bytes]:
    """Makes the proof of a side. All parts have a fixed length, but for the side's name at last."""

    def prove(side: bytes) -> bytes:
        return hmac.digest(secret, b"".join([MAGIC, digest, *numbers, side]), "sha256")

    return prove


def _refusal(version: str) -> str:
    if version == __version__:
        return ""
    return (
        f"the head runs shake {__version__} and this node runs shake {version}: install the same "
        "version on all machines"
    )
