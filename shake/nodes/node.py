"""A node as the head sees it: a Site, where children run at the other end of a connection."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any, Protocol

from shake.clock import boot_clock
from shake.nodes import messages
from shake.nodes.connection import MessageStream, Stream, exchange
from shake.nodes.messages import FROM_AGENT, TO_AGENT, FromAgent, ToAgent
from shake.nodes.remote import RemoteChannel
from shake.process.alike import Process
from shake.process.role import Role, Sent, SetUp, Taken
from shake.process.site import Ahead, ChildConnection

#: Seconds that a node has to create an arena.
_ARENA_SECONDS = 10.0

log = logging.getLogger("shake.nodes")

_numbers = itertools.count(1)


class Listener(Protocol):
    """What a node reports that is not about its children."""

    def reported(self, node: Node, message: FromAgent) -> None: ...

    def disconnected(self, node: Node) -> None: ...


class Node:
    """A node: a Site, and a Peer of the loop.

    ``name`` is unique while it is there, and ``machine`` is that of all nodes of a machine.
    """

    def __init__(
        self,
        number: int,
        name: str,
        machine: str,
        address: str,
        stream: Stream,
        head: Listener,
    ) -> None:
        self.number = number
        self.node = name
        self.machine = machine
        self.address = address
        self.ahead: Ahead | None = None
        self._asked = 0.0, 0.0  # when it asked for time, by its clock, and how far that was ahead
        self.workers = 0  # 0 until it has joined
        self.usage = messages.Usage(0.0, 0)
        self.channels: dict[int, RemoteChannel[Any, Any, Any]] = {}
        self.stream = MessageStream[FromAgent, ToAgent](stream, FROM_AGENT, TO_AGENT)
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
                    if channel := self.channels.get(number):
                        channel.feed(data)
                case messages.ChildEnded(number, status):
                    if channel := self.channels.pop(number, None):
                        channel.end(status)
                case messages.Started(number, pid):
                    if channel := self.channels.get(number):
                        channel.process.pid = pid
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

    def serve(self, seconds: float) -> None:
        """Without a loop: handle what comes within this time, until something has come."""
        for _ in exchange([self.stream], seconds):
            if not self.read():
                self.disconnected()

    # ---- as a Site

    def create_arena(self, slots: int) -> int:
        """See Site; -1 where the node cannot be reached, or cut: nothing starts there then."""
        number, end = next(_numbers), time.monotonic() + _ARENA_SECONDS
        self.post(messages.CreateArena(number, slots))
        while self.reachable and number not in self._arenas and time.monotonic() < end:
            self.serve(end - time.monotonic())
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
        channel = RemoteChannel(next(_numbers), self.post, self.channels, role, descriptors)
        return channel.process, channel
