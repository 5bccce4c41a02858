"""Messages over a connection between head and agent; what is sent is collected for a moment."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from shake.process.loop import Loop, Peer
from shake.process.packing import Message, Packing, unpacker

#: Seconds for which messages are collected before they are sent: one system call for many of them.
_COLLECT = 0.002

#: At least a whole record of TLS: see shake.nodes.link.TlsSocket.
_CHUNK = 64 * 1024

In = TypeVar("In", bound=Message)
Out = TypeVar("Out", bound=Message)


class MessageStream(Generic[In, Out]):
    """One end of a connection: a Channel of shake.process.loop. For one thread.

    Without a loop what is posted is sent by shake.nodes.node.serve.
    """

    def __init__(
        self, stream: socket.socket, incoming: Packing[In], outgoing: Packing[Out]
    ) -> None:
        stream.setblocking(False)
        self.on_backlog: Callable[[], None] = lambda: None
        self.closed = False
        self._stream = stream
        self._incoming = incoming
        self._outgoing = outgoing
        self._unpacker = unpacker()
        self._buffer = bytearray()
        self._loop: Loop | None = None
        self._due = False  # it is to be flushed soon
        self._full = False  # the loop waits until the socket takes more

    def attach(self, loop: Loop, peer: Peer) -> None:
        self._loop, self._due, self._full = loop, False, False
        loop.watch(self, peer)
        if self._buffer:
            self._flush_soon()

    def detach(self) -> None:
        if self._loop and not self.closed:
            self._loop.forget(self)
        self._loop = None

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def backlog(self) -> int:
        return len(self._buffer)

    def post(self, message: Out) -> None:
        """Have a message sent soon; it is dropped when the connection is closed."""
        if not self.closed:
            self._buffer += self._outgoing.encode(message)
            if self._loop:
                self._flush_soon()

    def _flush_soon(self) -> None:
        if self._due or self._full or self._loop is None:
            return
        self._due = True
        self._loop.later(_COLLECT, self._flush_now)

    def _flush_now(self) -> None:
        self._due = False
        self.flush()
        if self._buffer and not self._full:
            self._full = True
            self.on_backlog()

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._buffer and not self.closed and (sent := self._send()):
            del self._buffer[:sent]
        if not self._buffer:
            self._full = False

    def _send(self) -> int:
        """How much the socket took. A closed socket takes all: ``receive`` notices that."""
        try:
            return self._stream.send(self._buffer)
        except BlockingIOError:
            return 0
        except OSError:
            return len(self._buffer)

    def receive(self) -> tuple[list[In], bool]:
        """Messages that are there, and whether the connection still stands."""
        if self.closed:
            return [], False
        try:
            data = self._stream.recv(_CHUNK)
        except BlockingIOError:
            return [], True
        except OSError:
            data = b""
        self._unpacker.feed(data)
        return [self._incoming.decode(packed) for packed in self._unpacker], bool(data)

    def close(self) -> None:
        """Send what the socket takes at once, and close it."""
        if not self.closed:
            self.flush()
            self.detach()
            self.closed = True
            self._stream.close()
