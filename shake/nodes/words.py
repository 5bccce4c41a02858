"""The form of the first words on a link: short MessagePack arrays, each behind its length."""

from __future__ import annotations

import ssl
import struct
import time

import msgpack

_LENGTH = struct.Struct(">I")
#: No frame is larger until both sides have proved that they have the secret.
_MAX_BYTES = 1024


class HelloError(Exception):
    """The other side says something else than a head or a node does."""


class WrongSecretError(HelloError):
    """The other side has another secret."""


class Words:
    """Sends and receives frames on a connection, until a deadline.

    Raises TimeoutError after ``seconds`` in all, OSError where the connection is lost, and
    HelloError.
    """

    def __init__(self, connection: ssl.SSLSocket, seconds: float) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def shake_hands(self) -> None:
        """Begin to encrypt."""
        self._wait().do_handshake()

    @property
    def certificate(self) -> bytes:
        """What the other side has shown, in DER form."""
        return self._connection.getpeercert(binary_form=True) or b""

    def say(self, *fields: bytes) -> None:
        packed = msgpack.packb(fields)
        self._wait().sendall(_LENGTH.pack(len(packed)) + packed)

    def hear(self, number: int) -> list[bytes]:
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
        """All is said. The connection is as it was made, with nothing that is read and not used."""
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
