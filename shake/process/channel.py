"""A channel: messages over a socket pair, blocking in a child, never blocking in the supervisor."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic

from shake.process.messages import FromChild, Ping, Pong, Start
from shake.process.packing import unpacker
from shake.process.role import START, Role, Sent, SetUp, Taken

if TYPE_CHECKING:
    from shake.process.loop import Loop, Peer

#: At least a whole record of TLS: see shake.nodes.link.TlsSocket.
_CHUNK = 64 * 1024


class ChildChannel(Generic[SetUp, Taken, Sent]):
    """The child's end. ``send`` may be called from any thread; the others from one."""

    def __init__(self, connection: socket.socket, role: Role[SetUp, Taken, Sent]) -> None:
        self._socket = connection
        self._role = role
        self._lock = threading.Lock()
        self._incoming = self._receive()

    def send(self, message: Pong | FromChild | Sent) -> None:
        with self._lock:
            self._socket.sendall(self._role.sent.encode(message))

    def begin(self) -> tuple[Start, SetUp] | None:
        """The first two messages; None where the supervisor is gone."""
        for start in self._incoming:
            for set_up in self._incoming:
                return START.decode(start), self._role.set_up.decode(set_up)
        return None

    def receive(self) -> Iterator[Taken]:
        """Messages until the supervisor closes its end, or exits. Pings are answered here."""
        for packed in self._incoming:
            message = self._role.taken.decode(packed)
            if isinstance(message, Ping):
                self.send(Pong())
            else:
                yield message

    def _receive(self) -> Iterator[Sequence[Any]]:
        incoming = unpacker()
        while data := self._socket.recv(_CHUNK):
            incoming.feed(data)
            yield from incoming


class NearEnd:
    """One end of a connection, in a loop: what the far end has not read yet waits here.

    ``on_backlog`` is called when something begins to wait; ``flush`` when the far end reads again.
    """

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.on_backlog: Callable[[], None] = lambda: None
        self._stream = stream
        self._outgoing = bytearray()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that wait for the far end to read."""
        return len(self._outgoing)

    def write(self, data: bytes) -> None:
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
        """How much the socket took. A closed socket takes all: ``read_data`` notices that."""
        try:
            return self._stream.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def read_data(self) -> bytes | None:
        """What has come; None where nothing has, empty where the far end is closed."""
        try:
            return self._stream.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        self._stream.close()


class SupervisorChannel(NearEnd, Generic[SetUp, Taken, Sent]):
    """The supervisor's end."""

    def __init__(self, connection: socket.socket, role: Role[SetUp, Taken, Sent]) -> None:
        super().__init__(connection)
        self._role = role
        self._unpacker = unpacker()

    def attach(self, loop: Loop, peer: Peer) -> None:
        """Have the loop watch the socket for ``peer``."""
        loop.watch(self, peer)

    def detach(self, loop: Loop) -> None:
        loop.forget(self)

    def begin(self, start: Start, set_up: SetUp) -> None:
        self.write(START.encode(start) + self._role.set_up.encode(set_up))

    def send(self, message: Ping | Taken) -> None:
        self.write(self._role.taken.encode(message))

    def receive(self) -> tuple[list[Pong | FromChild | Sent], bool]:
        """Messages that are there, and whether the child is still at the other end.

        Call it when there is something to read, and again as long as there is: what a child sent
        whole before it exited still counts; a message cut by its exit does not.
        """
        if (data := self.read_data()) is None:
            return [], True
        self._unpacker.feed(data)
        return [self._role.sent.decode(packed) for packed in self._unpacker], bool(data)
