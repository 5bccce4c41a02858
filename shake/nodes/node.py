"""A node as the head sees it: a Site, and the children that run there."""

from __future__ import annotations

import itertools
import logging
import select
import time
from collections.abc import Iterable
from typing import Any, Generic, Protocol

from shake.clock import boot_clock
from shake.nodes import messages
from shake.nodes.connection import MessageStream
from shake.nodes.link import Link
from shake.nodes.messages import FROM_AGENT, TO_AGENT, FromAgent, ToAgent
from shake.process.loop import Loop, Peer
from shake.process.messages import FromChild, Ping, Pong, Start
from shake.process.packing import unpacker
from shake.process.role import START, Role, Sent, SetUp, Taken
from shake.process.site import Ahead, ChildConnection
from shake.process.spawn_many import Process

#: Seconds that a node has to create an arena.
_ARENA_SECONDS = 10.0

log = logging.getLogger("shake.nodes")

_numbers = itertools.count(1)


class Listener(Protocol):
    """What a node reports that is not about its children."""

    def reported(self, node: Node, message: FromAgent) -> None: ...

    def disconnected(self, node: Node) -> None: ...


class RemoteChild(Generic[SetUp, Taken, Sent]):
    """A child on a node: its Process and its ChildConnection, as shake.process.child needs them.

    ``pid`` is 0 until the node has reported it. While the child is attached, it is one of the
    node's ``children``.
    """

    def __init__(
        self,
        number: int,
        node: Node,
        role: Role[SetUp, Taken, Sent],
        descriptors: tuple[int, ...],
    ) -> None:
        self.pid = 0
        self._status: int | None = None  # once it has ended
        self._peer: Peer | None = None
        self._number = number
        self._node = node
        self._role = role
        self._descriptors = descriptors
        self._unpacker = unpacker()

    def kill(self) -> None:
        if self._status is None:
            self._node.post(messages.KillChild(self._number))

    def wait(self, timeout: float | None = None) -> int:
        """Its status; 0 where it has not ended: its node makes sure that it does."""
        return self._status or 0

    def attach(self, loop: Loop, peer: Peer) -> None:
        self._peer = peer
        self._node.children[self._number] = self

    def detach(self, loop: Loop) -> None:
        self._node.children.pop(self._number, None)

    def begin(self, start: Start, set_up: SetUp) -> None:
        first = START.encode(start) + self._role.set_up.encode(set_up)
        order = messages.StartChild(self._number, self._role.module, self._descriptors, first)
        self._node.post(order)

    def send(self, message: Ping | Taken) -> None:
        self._node.post(messages.ToChild(self._number, self._role.taken.encode(message)))

    def feed(self, data: bytes) -> None:
        """The child has sent this."""
        self._unpacker.feed(data)
        if self._peer:
            self._peer.read()

    def end(self, status: int) -> None:
        """The child has ended."""
        self._status = status
        if self._peer:
            self._peer.read()
            self._peer.disconnected()

    def receive(self) -> tuple[list[Pong | FromChild | Sent], bool]:
        received = [self._role.sent.decode(packed) for packed in self._unpacker]
        return received, self._status is None

    def close(self) -> None:
        if self._status is None:
            self._node.post(messages.CloseChild(self._number))


class Node:
    """A node: a Site, and a Peer of the loop.

    ``name`` is unique while it is there, and ``machine`` is that of all nodes of a machine.
    """

    def __init__(self, name: str, link: Link, head: Listener) -> None:
        self.node = name
        self.machine = f"{link.name} {link.peer}"
        self.address = link.peer
        self.ahead: Ahead | None = None
        self._asked = 0.0, 0.0  # when it asked for time, by its clock, and how far that was ahead
        self.workers = 0  # 0 until it has joined
        self.usage = messages.Usage(0.0, 0)
        self.children: dict[int, RemoteChild[Any, Any, Any]] = {}
        self.stream = MessageStream[FromAgent, ToAgent](link.stream, FROM_AGENT, TO_AGENT)
        self._head = head
        self._arenas: dict[int, int] = {}  # descriptors, by number

    @property
    def reachable(self) -> bool:
        return not self.stream.closed

    def post(self, message: ToAgent) -> None:
        self.stream.post(message)

    # ---- as a Peer

    def read(self) -> bool:
        """Handle what has come; False where the connection is closed."""
        received, alive = self.stream.receive()
        for message in received:
            match message:
                case messages.FromChild(number, data):
                    if child := self.children.get(number):
                        child.feed(data)
                case messages.ChildEnded(number, status):
                    if child := self.children.pop(number, None):
                        child.end(status)
                case messages.Started(number, pid):
                    if child := self.children.get(number):
                        child.pid = pid
                case messages.ArenaCreated(number, descriptor):
                    self._arenas[number] = descriptor
                case messages.Joined(workers):
                    self.workers = max(1, workers)
                    self._head.reported(self, message)
                case messages.Usage():
                    self.usage = message
                case messages.Renew():
                    self._measure(message)
                    self._head.reported(self, message)
                case _:
                    self._head.reported(self, message)
        return alive

    def _measure(self, renewal: messages.Renew) -> None:
        """What the node's request and its answer say of its clock.

        The request was on its way for some time, which was shorter than until the answer came.
        """
        asked, ahead = self._asked
        if renewal.answered == asked and renewal.took:
            self.ahead = Ahead(ahead, ahead + renewal.took)
        self._asked = renewal.asked, renewal.asked - boot_clock()

    def disconnected(self) -> None:
        self.stream.close()
        self._head.disconnected(self)

    # ---- as a Site

    def create_arena(self, slots: int) -> int:
        """See Site; -1 where the node cannot be reached, or cut: nothing starts there then."""
        number, end = next(_numbers), time.monotonic() + _ARENA_SECONDS
        self.post(messages.CreateArena(number, slots))
        while self.reachable and number not in self._arenas and time.monotonic() < end:
            serve([self], end - time.monotonic())
        if number not in self._arenas and self.reachable:
            self.disconnected()
        descriptor = self._arenas.pop(number, -1)
        if descriptor < 0 and self.reachable:
            log.warning("node %s has no shared memory for a worker", self.node)
            self.disconnected()
        return descriptor

    def close_arena(self, descriptor: int) -> None:
        """The node closes it at the end of the epoch."""

    def launch(
        self, role: Role[SetUp, Taken, Sent], descriptors: tuple[int, ...]
    ) -> tuple[Process, ChildConnection[SetUp, Taken, Sent]]:
        child = RemoteChild(next(_numbers), self, role, descriptors)
        return child, child


def serve(nodes: Iterable[Node], seconds: float) -> None:
    """Without a loop: send what is posted; handle what has come as soon as something has.

    It waits no longer than so many seconds for that.
    """
    alive = {node.stream.fileno(): node for node in nodes if node.reachable}
    poll = select.poll()
    for number, node in alive.items():
        node.stream.flush()
        poll.register(number, select.POLLIN | (select.POLLOUT if node.stream.backlog else 0))
    for number, events in poll.poll(max(0.0, seconds) * 1000):
        node = alive[number]
        if events & ~select.POLLOUT and not node.read():
            node.disconnected()
