"""The head begins with the nodes that are there, whatever has become of those that were."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from shake.clock import boot_clock
from shake.nodes.agent import Agent
from shake.nodes.head import Head
from shake.nodes.messages import FROM_AGENT, Joined

#: How much faster the clock of the head runs: a lost node is waited out in two seconds.
FASTER = 12


@dataclass
class Plain:
    """A link without encryption."""

    stream: socket.socket
    name: str
    peer: str = "here"


class Arrivals:
    """See head.Listener."""

    def __init__(self) -> None:
        self._links: queue.SimpleQueue[Plain | None] = queue.SimpleQueue()

    def connect(self, name: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._links.put(Plain(theirs, name))
        return ours

    def accept(self) -> Plain | None:
        return self._links.get()

    def close(self) -> None:
        self._links.put(None)


@contextlib.contextmanager
def working(stream: socket.socket) -> Iterator[Agent]:
    """An agent that works, in a thread."""
    agent = Agent(stream, 1, threading.Event())
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        thread.join(10)


def test_a_node_that_is_lost_while_the_head_plans_is_replaced_by_one_that_joins() -> None:
    arrivals = Arrivals()
    lost = arrivals.connect("lost")
    lost.sendall(FROM_AGENT.encode(Joined(1)))
    with contextlib.ExitStack() as stack:
        head = stack.enter_context(Head(arrivals, clock=lambda: boot_clock() * FASTER))
        head.wait()
        lost.close()  # as the head plans
        agent = stack.enter_context(working(arrivals.connect("other")))
        assert [site.node for site in head.places(1)] == ["other"]
        head.__exit__(None, None, None)
    assert agent.over


def test_nodes_wait_for_the_next_head_where_a_run_has_failed() -> None:
    arrivals = Arrivals()
    stream = arrivals.connect("one")
    head = Head(arrivals)
    with working(stream) as agent, contextlib.suppress(ZeroDivisionError), head:
        head.wait()
        raise ZeroDivisionError
    assert not agent.over
