"""The head's side of all nodes: which have joined, which work, and until when."""

from __future__ import annotations

import itertools
import logging
import queue
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from shake.clock import boot_clock
from shake.nodes import messages
from shake.nodes.link import Link
from shake.nodes.membership import Membership, State
from shake.nodes.node import Node, serve
from shake.process.loop import Loop
from shake.process.site import HURRY_SECONDS, NodeStatus, Site, SiteUser

log = logging.getLogger("shake.nodes")

#: Seconds between two looks at the nodes while the task runs.
_LOOK_EVERY = 0.25
#: Seconds that others have to join when the first node is there.
_PAUSE = 1.0
#: Seconds that a node has to begin an epoch.
_BEGIN_SECONDS = 10.0
#: Seconds that the nodes which are expected have to join; without any of them it waits for ever.
_JOIN_SECONDS = 30.0
#: Seconds between two lines of the log while no node is there.
_NOTICE_EVERY = 30.0
#: Seconds after which the log names a node that does not confirm the end of an epoch.
_PATIENCE = 3.0
_JOINED = "node %s joined from %s, with %d workers"
_UNCONFIRMED = (
    "node %s has not confirmed that its workers have ended: all wait until its time has run out, "
    "%.0f s at most"
)
#: The head has no time to grant.
_NO_TIME = (
    "node %s gets no more time to write: the task lock could not be renewed, because the "
    "checkpoint store does not answer. The node ends its workers, and joins again"
)


class Listener(Protocol):
    """Where nodes connect; ``links`` are those that have."""

    @property
    def links(self) -> queue.SimpleQueue[Link]: ...

    def close(self) -> None: ...


class Head:
    """The nodes of a task: Sites, over all runs of this process; a context manager.

    The first run begins when ``expected`` nodes are there, or some of them after a while. Each
    later one begins with those that are left.
    """

    def __init__(
        self,
        listener: Listener,
        expected: int = 1,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._listener = listener
        self._expected = expected
        self._clock = clock
        self._changing = True  # nodes can be about to join
        self._nodes: list[Node] = []
        self._members = Membership[Node]()
        self._begun: set[Node] = set()
        self._logged: dict[str, str] = {}  # why a machine takes no part, as was logged last
        self._loop: Loop | None = None
        self._hurry_until = inf  # when it waits no longer for the end of the epoch
        self._until: Callable[[], float] = lambda: 0.0

    def __enter__(self) -> Head:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """The run has ended; after an error the nodes wait for the next head."""
        self._take_arrivals()
        for node in self._nodes:
            if error is None:
                node.post(messages.Over())
            node.stream.close()
        self._listener.close()

    # ---- between two runs

    @property
    def workers(self) -> int:
        """How many workers the nodes that are there can run."""
        return sum(node.workers for node in self._members.ready(self._clock()))

    def wait(self) -> None:
        """Wait until there are nodes to work; for a moment longer where more can come."""
        self._await(self._expected)
        if self._changing and self._expected == 1:
            end = self._clock() + _PAUSE
            while (left := end - self._clock()) > 0:
                self._serve(min(left, 0.1))
        self._changing, self._expected = False, 1

    def _await(self, expected: int) -> None:
        noticed, end = -_NOTICE_EVERY, self._clock() + _JOIN_SECONDS
        while (ready := len(self._members.ready(self._clock()))) < expected:
            if ready and self._clock() >= end:
                return
            if self._clock() - noticed >= _NOTICE_EVERY:
                noticed = self._clock()
                log.info("waiting for nodes: %d of %d have joined", ready, expected)
                if problem := self.problem:
                    log.warning("%s", problem)
            self._serve(0.1)

    def places(self, count: int) -> list[Site]:
        """Begin an epoch with the nodes that are there; where each of so many workers runs."""
        while True:
            self._end_epoch(lambda: False)
            self._await(1)
            self._begin()
            sites = self._spread(count)
            if sites or not count:
                return sites

    def _begin(self) -> None:
        self._begun.clear()
        self._hurry_until = inf
        members = self._members.begin(self._clock())
        for node in list(self._nodes):
            # One without workers is about to join.
            if node.workers and not self._members.state(node, self._clock()):
                self._nodes.remove(node)
                node.stream.close()
        for node in members:
            node.post(messages.Begin(self._members.epoch))

        def silent() -> list[Node]:
            return [one for one in members if one.reachable and one not in self._begun]

        end = self._clock() + _BEGIN_SECONDS
        while self._clock() < end and silent():
            self._serve(0.1)
        for node in silent():
            log.warning("node %s does not answer", node.node)
            node.disconnected()

    def _spread(self, count: int) -> list[Site]:
        """So many places, on all nodes in turn."""
        nodes = [node for node in self._nodes if node in self._begun and node.reachable]
        rounds = itertools.zip_longest(*([node] * node.workers for node in nodes))
        return [node for each in rounds for node in each if node][:count]

    def _serve(self, seconds: float) -> None:
        """Without a loop: handle what comes within this time, until something has come."""
        self._take_arrivals()
        serve(self._nodes, seconds)

    # ---- while a run lasts

    def attach(self, loop: Loop, user: SiteUser) -> None:
        """See Sites."""
        self._loop, self._until = loop, lambda: user.allowed_until
        for node in self._nodes:
            if node.reachable:
                node.stream.attach(loop, node)

        def look() -> None:
            self._take_arrivals()
            now = self._clock()
            why, lost = self._members.change(now, wanted=user.wants_sites)
            self._drop(lost)
            if why:
                aside = [n for n in self._nodes if self._members.state(n, now) is State.ASIDE]
                user.sites_changed(f"nodes have changed ({why})", lost + aside)

        loop.every(_LOOK_EVERY, look)

    def end(self, hurried: Callable[[], bool]) -> bool:
        """See Sites."""
        for node in self._nodes:
            node.stream.detach()
        self._loop = None
        return self._end_epoch(hurried)

    def _end_epoch(self, hurried: Callable[[], bool]) -> bool:
        self._members.end()
        for node in self._members.members:
            node.post(messages.EndEpoch(self._members.epoch))
            node.stream.flush()
        notice = self._clock() + _PATIENCE
        while not (over := self._members.over(self._clock())):
            if self._clock() >= notice:
                notice = inf
                for name, seconds in self._members.unconfirmed(self._clock()):
                    log.warning(_UNCONFIRMED, name, seconds)
            if hurried():
                self._hurry_until = min(self._hurry_until, time.monotonic() + HURRY_SECONDS)
                if not self._members.answering or time.monotonic() >= self._hurry_until:
                    break
            self._serve(0.1)
        self._drop(self._members.lose(self._clock()))
        for node in self._nodes:
            if self._members.has_left(node) and node.reachable:
                node.post(messages.Over())
                node.stream.close()
        return over

    def _drop(self, lost: Sequence[Node]) -> None:
        """These nodes are lost."""
        for node in lost:
            log.warning("node %s is lost: it has not answered until its time ran out", node.node)
            node.stream.close()
            self._changing = True

    def _take_arrivals(self) -> None:
        while not self._listener.links.empty():
            link = self._listener.links.get()
            node = Node(self._unused(link.name), link, self)
            now = self._clock()
            # One that is gone comes back as another one, any number of times.
            there = [one for one in self._nodes if one.reachable or self._members.state(one, now)]
            self._nodes = [*there, node]
            if self._loop:
                node.stream.attach(self._loop, node)

    def _unused(self, name: str) -> str:
        used = {node.node for node in self._nodes if node.reachable}
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(one for one in names if one not in used)

    # ---- what nodes report

    def reported(self, node: Node, message: messages.FromAgent) -> None:
        """A node reports something of itself."""
        match message:
            case messages.Joined():
                self._members.join(node, node.node, node.machine, self._clock())
                log.info(_JOINED, node.node, node.address, node.workers)
                why = self._members.why_aside(node, self._clock())
                if why and why != self._logged.get(node.machine):
                    log.warning("%s", why)
                self._logged[node.machine] = why
            case messages.Renew(asked):
                most = self._until() - self._clock()
                if seconds := self._members.ask(node, self._clock(), most):
                    node.post(messages.Granted(asked, seconds))
                elif self._loop and most <= 0 and self._members.deny(node):
                    log.warning(_NO_TIME, node.node)
            case messages.Begun(epoch):
                if epoch == self._members.epoch:
                    self._begun.add(node)
            case messages.Ended(epoch):
                self._members.confirm(node, epoch)
            case messages.Leaving():
                log.warning("node %s leaves", node.node)
                self._members.leave(node, self._clock())

    def disconnected(self, node: Node) -> None:
        """The connection to a node is closed."""
        log.warning("the connection to node %s is lost", node.node)
        self._members.cut(node, self._clock())

    def set_aside(self, site: Site, why: str) -> bool:
        """See Sites."""
        now = self._clock()
        if isinstance(site, Node) and self._members.set_aside(site, why, now):
            log.warning("%s", self._members.why_aside(site, now))
            return True
        return False

    # ---- what is shown

    @property
    def problem(self) -> str:
        """See Sites."""
        now = self._clock()
        return "; ".join(filter(None, (self._members.why_aside(n, now) for n in self._nodes)))

    def status(self) -> tuple[NodeStatus, ...]:
        """See Sites."""
        return tuple(
            NodeStatus(node.node, node.address, state.name.lower(), node.workers, *node.usage)
            for node in self._nodes
            if (state := self._members.state(node, self._clock()))
        )
