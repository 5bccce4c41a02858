"""The head begins with the nodes that are there, whatever has become of those that were."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from shake.clock import boot_clock
from shake.nodes.agent import Agent
from shake.nodes.head import Head
from shake.nodes.link import Link
from shake.nodes.messages import (
    FROM_AGENT,
    TO_AGENT,
    Begin,
    Begun,
    Ended,
    EndEpoch,
    FromAgent,
    Joined,
)
from shake.process.loop import Loop
from shake.process.packing import unpacker

#: How much faster the clock of the head runs: a lost node is waited out in two seconds.
FASTER = 12


class Arrivals:
    """See head.Listener."""

    def __init__(self) -> None:
        self.links: queue.SimpleQueue[Link] = queue.SimpleQueue()

    def connect(self, name: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.links.put(Link(theirs, name, "here"))
        return ours

    def close(self) -> None:
        pass


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


class Slow:
    """A node that confirms the end of an epoch after ``seconds``, or never."""

    def __init__(self, stream: socket.socket, seconds: float | None) -> None:
        self.ended = threading.Event()
        self._stream = stream
        self._seconds = seconds
        self._send(Joined(1))
        threading.Thread(target=self._serve, daemon=True).start()

    def _send(self, message: FromAgent) -> None:
        self._stream.sendall(FROM_AGENT.encode(message))

    def _serve(self) -> None:
        received = unpacker()
        while data := self._received():
            received.feed(data)
            for packed in received:
                match TO_AGENT.decode(packed):
                    case Begin(epoch):
                        self._send(Begun(epoch))
                    case EndEpoch(epoch) if self._seconds is not None:
                        time.sleep(self._seconds)
                        self.ended.set()
                        self._send(Ended(epoch))

    def _received(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):  # the head has ended first
            return self._stream.recv(4096)
        return b""


@pytest.mark.parametrize("seconds", [0.2, None])
def test_a_head_that_ends_soon_says_whether_a_node_can_still_write(seconds: float | None) -> None:
    """So the task lock is not released before the node has ended its children."""
    arrivals = Arrivals()
    node = Slow(arrivals.connect("one"), seconds)
    with Head(arrivals) as head:
        head.wait()
        assert head.places(1)
        began = time.monotonic()
        assert head.end(lambda: True) is node.ended.is_set() is (seconds is not None)
        assert time.monotonic() - began < 5


def test_a_node_that_is_set_aside_stays_connected_and_takes_no_part(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrivals = Arrivals()
    nodes = [Slow(arrivals.connect(name), 0.0) for name in "ab"]
    with Head(arrivals, len(nodes)) as head:
        head.wait()
        a, b = head.places(2)
        assert head.set_aside(b, "its disk is full")
        assert not head.set_aside(a, "its disk is full")
        assert head.end(lambda: False)
        assert head.places(2) == [a]
        assert b.reachable
        assert {node.name: node.state for node in head.status()} == {"a": "member", "b": "aside"}
        assert head.problem == "node b is set aside for 60 s: its disk is full"
        assert head.problem in caplog.text


class Granting:
    """A run whose task lock is fresh."""

    wants_sites = False

    @property
    def allowed_until(self) -> float:
        return boot_clock() + 20.0

    def sites_changed(self, why: str, lost: object) -> None:
        raise AssertionError(why)


def test_a_head_knows_how_far_the_clock_of_a_node_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shake.nodes.agent._ASK_EVERY", 0.05)
    arrivals = Arrivals()
    node = Agent(arrivals.connect("one"), 1, threading.Event(), lambda: boot_clock() + 1000.0)
    thread = threading.Thread(target=node.run)
    thread.start()
    with Head(arrivals) as head:
        head.wait()
        [site] = head.places(1)
        loop = Loop()
        head.attach(loop, Granting())
        loop.every(0.05, lambda: None)
        loop.run(lambda: site.ahead is not None)
        assert site.ahead is not None
        assert site.ahead.least <= 1000.0 <= site.ahead.most < 1010.0
        head.end(lambda: False)
    thread.join(10)


def test_a_node_that_never_comes_does_not_keep_the_others_waiting_for_ever() -> None:
    arrivals = Arrivals()
    Slow(arrivals.connect("one"), 0.0)
    with Head(arrivals, expected=2, clock=lambda: boot_clock() * FASTER) as head:
        head.wait()
        assert len(head.places(1)) == 1


def test_a_node_that_is_silent_when_an_epoch_ends_is_waited_for_and_called_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrivals = Arrivals()
    later = [0.0]
    for name, seconds in ("a", 0.0), ("b", None):
        Slow(arrivals.connect(name), seconds)
    with Head(arrivals, 2, clock=lambda: boot_clock() + later[0]) as head:

        def step() -> bool:
            """Let time pass once the other node has confirmed."""
            states = {node.name: node.state for node in head.status()}
            later[0] += 15.0 * (states["a"] == "ended")
            return False

        head.wait()
        assert len(head.places(2)) == 2
        assert head.end(step)
        assert [site.node for site in head.places(2)] == ["a"]
    assert "node b has not confirmed that its workers have ended" in caplog.text
    assert caplog.text.count("node b is lost") == 1
    assert "node a" not in caplog.text.replace("node a joined", "")


def test_a_head_forgets_nodes_that_join_and_are_gone_again() -> None:
    arrivals = Arrivals()
    with Head(arrivals) as head:
        for number in range(20):
            stream = arrivals.connect(f"n{number}")
            head._serve(0.01)
            stream.close()
            head._serve(0.1)
        assert len(head._nodes) <= 2
