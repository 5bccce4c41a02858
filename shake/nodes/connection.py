"""Messages over a connection between head and agent; what is sent is collected for a moment."""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

from shake.process.channel import NearEnd
from shake.process.loop import Loop, Peer
from shake.process.packing import Message, Packing, unpacker

#: Seconds for which messages are collected before they are sent: one system call for many of them.
_COLLECT = 0.002

In = TypeVar("In", bound=Message)
Out = TypeVar("Out", bound=Message)


class MessageStream(NearEnd, Generic[In, Out]):
    """One end of a connection: a Channel of shake.process.loop. For one thread.

    Without a loop what is posted is sent by shake.nodes.node.serve.
    """

    def __init__(
        self, stream: socket.socket, incoming: Packing[In], outgoing: Packing[Out]
    ) -> None:
        super().__init__(stream)
        self.closed = False
        self._from_far, self._to_far = incoming, outgoing
        self._unpacker = unpacker()
        self._loop: Loop | None = None
        self._due = False  # it is to be flushed soon
        self._full = False  # the loop waits until the socket takes more

    def attach(self, loop: Loop, peer: Peer) -> None:
        self._loop, self._due, self._full = loop, False, False
        loop.watch(self, peer)
        if self._outgoing:
            self._flush_soon()

    def detach(self) -> None:
        if self._loop and not self.closed:
            self._loop.forget(self)
        self._loop = None

    def post(self, message: Out) -> None:
        """Have a message sent soon; it is dropped when the connection is closed."""
        if not self.closed:
            self._outgoing += self._to_far.encode(message)
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
        if self._outgoing and not self._full:
            self._full = True
            self.on_backlog()

    def flush(self) -> None:
        if not self.closed:
            super().flush()
        if not self._outgoing:
            self._full = False

    def receive(self) -> tuple[list[In], bool]:
        """Messages that are there, and whether the connection still stands."""
        if self.closed:
            return [], False
        if (data := self.read_data()) is None:
            return [], True
        self._unpacker.feed(data)
        return [self._from_far.decode(packed) for packed in self._unpacker], bool(data)

    def close(self) -> None:
        """Send what the socket takes at once, and close it."""
        if not self.closed:
            self.flush()
            self.detach()
            self.closed = True
            super().close()
