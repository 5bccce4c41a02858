"""A connection with TLS that an event loop can use as it uses a plain socket."""

from __future__ import annotations

import ssl

#: No record of TLS holds more. https://www.rfc-editor.org/rfc/rfc8446#section-5.1
_RECORD_BYTES = 16 * 1024


class TlsStream:
    """The methods of a socket that the channels of shake.process use. For one thread at a time.

    A record of TLS is given out as a whole. So nothing that is decrypted stays behind unseen, and
    a selector that watches ``fileno`` reports all that can be read.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def setblocking(self, blocking: bool) -> None:
        self._connection.setblocking(blocking)

    def recv(self, size: int) -> bytes:
        """What is there, at most ``size`` bytes, which must be 16 KiB or more."""
        assert size >= _RECORD_BYTES
        try:
            return self._connection.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: bytes | bytearray) -> int:
        """How much was taken. After a BlockingIOError the next data must begin with the same."""
        try:
            return self._connection.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def sendall(self, data: bytes | bytearray) -> None:
        self._connection.sendall(data)

    def close(self) -> None:
        self._connection.close()
