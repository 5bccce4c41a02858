"""A channel: messages over a socket pair, blocking in a child, never blocking in the supervisor."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from shake.farm import messages

_CHUNK = 64 * 1024


class ChildChannel:
    """The child's end. ``send`` may be called from any thread; ``receive`` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()

    def send(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            self._socket.sendall(messages.encode(message))

    def receive(self) -> Iterator[Any]:
        """Messages until the supervisor closes its end, or dies."""
        unpacker = messages.unpacker()
        while data := self._socket.recv(_CHUNK):
            unpacker.feed(data)
            for fields in unpacker:
                yield messages.decode(fields)


class SupervisorChannel:
    """The supervisor's end: what a slow child has not read yet waits here, not in the loop.

    ``on_backlog`` is called when something begins to wait; ``flush`` when the child reads again.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.on_backlog: Callable[[], None] = lambda: None
        self._socket = connection
        self._unpacker = messages.unpacker()
        self._outgoing = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that wait for the child to read."""
        return len(self._outgoing)

    def send(self, message: tuple[Any, ...]) -> None:
        data = messages.encode(message)
        if self._outgoing:
            self._outgoing += data
        elif (sent := self._send(data)) < len(data):
            self._outgoing += data[sent:]
            self.on_backlog()

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._outgoing and (sent := self._send(self._outgoing)):
            del self._outgoing[:sent]

    def _send(self, data: bytes | bytearray) -> int:
        """How much the socket took. A dead child takes all: ``receive`` notices its death."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def receive(self) -> tuple[list[Any], bool]:
        """Messages that are there, and whether the child is still at the other end.

        Call it when there is something to read, and again as long as there is: what a child sent
        whole before it died still counts; a message cut by its death does not.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return [], True
        except OSError:
            data = b""
        self._unpacker.feed(data)
        return [messages.decode(fields) for fields in self._unpacker], bool(data)

    def close(self) -> None:
        self._socket.close()
