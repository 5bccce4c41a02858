"""Process and connection of a child on a node, as shake.process.child.Child needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from shake.nodes import messages
from shake.process.loop import Loop, Peer
from shake.process.messages import FromChild, Ping, Pong, Start
from shake.process.packing import unpacker
from shake.process.role import START, Role, Sent, SetUp, Taken

#: Has a message sent to the node.
Post = Callable[[messages.ToAgent], None]


class RemoteProcess:
    """A Process on a node. ``pid`` is 0 until the node has reported it."""

    def __init__(self, number: int, post: Post) -> None:
        self.pid = 0
        self.status: int | None = None  # once it has ended
        self._number = number
        self._post = post

    def kill(self) -> None:
        if self.status is None:
            self._post(messages.KillChild(self._number))

    def wait(self, timeout: float | None = None) -> int:
        """Its status; 0 where it has not ended: its node makes sure that it does."""
        return self.status or 0


class RemoteChannel(Generic[SetUp, Taken, Sent]):
    """The supervisor's end of a connection to a child that its node relays.

    While it is attached, it is one of ``channels``: those of the node, by the number of the child.
    """

    def __init__(
        self,
        number: int,
        post: Post,
        channels: dict[int, RemoteChannel[Any, Any, Any]],
        role: Role[SetUp, Taken, Sent],
        descriptors: tuple[int, ...],
    ) -> None:
        self.process = RemoteProcess(number, post)
        self.peer: Peer | None = None
        self._number = number
        self._post = post
        self._channels = channels
        self._role = role
        self._descriptors = descriptors
        self._unpacker = unpacker()

    def attach(self, loop: Loop, peer: Peer) -> None:
        self.peer = peer
        self._channels[self._number] = self

    def detach(self, loop: Loop) -> None:
        self._channels.pop(self._number, None)

    def begin(self, start: Start, set_up: SetUp) -> None:
        first = START.encode(start) + self._role.set_up.encode(set_up)
        order = messages.StartChild(self._number, self._role.module, self._descriptors, first)
        self._post(order)

    def send(self, message: Ping | Taken) -> None:
        self._post(messages.ToChild(self._number, self._role.taken.encode(message)))

    def feed(self, data: bytes) -> None:
        """The child has sent this."""
        self._unpacker.feed(data)
        if self.peer:
            self.peer.read()

    def end(self, status: int) -> None:
        """The child has ended."""
        self.process.status = status
        if self.peer:
            self.peer.read()
            self.peer.disconnected()

    def receive(self) -> tuple[list[Pong | FromChild | Sent], bool]:
        messages_ = [self._role.sent.decode(packed) for packed in self._unpacker]
        return messages_, self.process.status is None

    def close(self) -> None:
        if self.process.status is None:
            self._post(messages.CloseChild(self._number))
