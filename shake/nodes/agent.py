"""The agent of a node: starts children for the head, and relays what they and the head send."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable

import psutil

from shake.clock import boot_clock
from shake.farm.worker_messages import WORKER
from shake.farm.writer_messages import WRITER, WriteUntil
from shake.nodes import messages
from shake.nodes.connection import MessageStream
from shake.nodes.membership import GRANT
from shake.nodes.messages import FROM_AGENT, TO_AGENT, FromAgent, ToAgent
from shake.process import arena
from shake.process.channel import NearEnd
from shake.process.child import EXIT_SECONDS
from shake.process.loop import Loop
from shake.process.spawn import spawn

log = logging.getLogger("shake.nodes")

#: Seconds between two requests for time, two reports of what is used, and two looks at the time.
_ASK_EVERY, _REPORT_EVERY, _LOOK_EVERY = 2.0, 1.0, 0.25
#: Seconds that the head has to take over what a leaving node does.
LEAVE_SECONDS = 10.0
#: Seconds that the head has from the begin of an epoch to its first grant, before which no child
#: can write: other nodes can take that long to begin.
_BEGIN_PATIENCE = 3 * GRANT
#: What a head can have started.
_MODULES = (WORKER.module, WRITER.module)


class _Child(NearEnd):
    """A child of the node: Channel and Peer of the loop, which sees only bytes of it."""

    def __init__(self, agent: Agent, order: messages.StartChild) -> None:
        self.number = order.child
        self.writes = order.module == WRITER.module
        self.process, connection = spawn(order.module, descriptors=order.descriptors)
        super().__init__(connection)
        self._agent = agent

    def read(self) -> bool:
        if data := self.read_data():
            self._agent.post(messages.FromChild(self.number, data))
        return data != b""

    def disconnected(self) -> None:
        self.process.kill()
        self.close()
        self._agent.ended(self)


class Agent:
    """Serves one head over one connection, which both sides have authenticated.

    ``stop`` asks it to leave. A head that grants no time any more is gone, or this node was frozen
    or cut off: then it ends its children, and the connection.
    """

    def __init__(
        self,
        stream: socket.socket,
        workers: int,
        stop: threading.Event,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._stream = MessageStream[ToAgent, FromAgent](stream, TO_AGENT, FROM_AGENT)
        self._workers = workers
        self._stop = stop
        self._clock = clock
        self._loop = Loop()
        self._children: dict[int, _Child] = {}
        self._leaving: list[tuple[_Child, float]] = []  # closed, and when each is killed
        self._arenas: list[int] = []
        self._until = 0.0  # children are allowed to write until then
        self._answered = 0.0, 0.0  # see messages.Renew
        self._patience = 0.0  # until when the head has to grant time
        self._ending: int | None = None  # the epoch whose end is to be confirmed
        self._left = 0.0  # when it asked to leave
        self._lost = False
        self.over = False
        self._used: dict[int, float] = {}

    def run(self) -> bool:
        """Serve until the end: True where the task has ended, or this node has left it.

        Else the head is lost, and the node can join again, as a new one.
        """
        loop = self._loop
        self._stream.attach(loop, self)
        self.post(messages.Joined(self._workers))
        self._ask()
        loop.every(_ASK_EVERY, self._ask)
        loop.every(_REPORT_EVERY, self._report)
        loop.every(_LOOK_EVERY, self._look)
        try:
            loop.run(lambda: self._lost or self.over)
        finally:
            self._kill_all()
            self._stream.close()
            self._close_arenas()
            end = self._clock() + EXIT_SECONDS
            while self._leaving and self._clock() < end:
                self._reap()
        return self.over

    def post(self, message: FromAgent) -> None:
        self._stream.post(message)

    # ---- as the Peer of the head

    def read(self) -> bool:
        received, alive = self._stream.receive()
        for message in received:
            self._handle(message)
        return alive

    def disconnected(self) -> None:
        log.warning("the connection to the head is lost")
        self._lost = True

    def _handle(self, message: ToAgent) -> None:
        match message:
            case messages.ToChild(number, data):
                if child := self._children.get(number):
                    child.write(data)
            case messages.Granted(asked, seconds):
                self._answered = asked, self._clock() - asked
                self._extend(asked + seconds)
            case messages.StartChild():
                self._start(message)
            case messages.CloseChild(number):
                if child := self._children.pop(number, None):
                    self._loop.forget(child)
                    child.close()
                    self._leaving.append((child, self._clock() + EXIT_SECONDS))
            case messages.KillChild(number):
                if child := self._children.get(number):
                    child.process.kill()
            case messages.CreateArena(number, slots):
                self.post(messages.ArenaCreated(number, self._create_arena(slots)))
            case messages.Begin(epoch):
                self._kill_all()
                self._close_arenas()
                self._until, self._patience = 0.0, self._clock() + _BEGIN_PATIENCE
                self.post(messages.Begun(epoch))
                self._ask()
            case messages.EndEpoch(epoch):
                self._kill_all()
                self._ending = epoch
                self._confirm()
            case messages.Over():
                self.over = True

    # ---- children

    def _start(self, order: messages.StartChild) -> None:
        if order.module not in _MODULES:
            raise AssertionError(f"no child of a node: {order.module}")
        try:
            child = _Child(self, order)
        except OSError as error:
            log.warning("a child cannot be started: %s", error)
            self.post(messages.ChildEnded(order.child, error.errno or 1))
            return
        self._children[order.child] = child
        self._loop.watch(child, child)
        self.post(messages.Started(order.child, child.process.pid))
        child.write(order.first)
        if child.writes:
            child.write(WRITER.taken.encode(WriteUntil(self._until)))

    def ended(self, child: _Child) -> None:
        """The connection of a child is closed, and it was killed."""
        if self._children.pop(child.number, None):
            self.post(messages.ChildEnded(child.number, child.process.wait()))

    def _kill_all(self) -> None:
        for child in self._children.values():
            self._loop.forget(child)
            child.close()
            self._leaving.append((child, 0.0))
        self._children.clear()
        self._leaving = [(child, 0.0) for child, _ in self._leaving]
        self._reap()

    def _reap(self) -> None:
        """Wait for the children that were closed, and kill those whose time is over."""
        now, left = self._clock(), []
        for child, kill_at in self._leaving:
            if now >= kill_at:
                child.process.kill()
            try:
                child.process.wait(timeout=0.05 if now >= kill_at else 0)
            except subprocess.TimeoutExpired:
                left.append((child, kill_at))
        self._leaving = left

    def _confirm(self) -> None:
        """Confirm the end of the epoch when no child is left."""
        if self._ending is not None and not self._leaving:
            self.post(messages.Ended(self._ending))
            self._ending, self._patience = None, 0.0

    def _create_arena(self, slots: int) -> int:
        """Its descriptor; -1 where the machine lacks the resources."""
        try:
            descriptor = arena.create(slots)
        except OSError as error:
            log.warning("shared memory cannot be created: %s", error)
            return -1
        self._arenas.append(descriptor)
        return descriptor

    def _close_arenas(self) -> None:
        for descriptor in self._arenas:
            os.close(descriptor)
        self._arenas.clear()

    # ---- time

    def _ask(self) -> None:
        self.post(messages.Renew(self._clock(), *self._answered))

    def _extend(self, until: float) -> None:
        """Children are allowed to write for longer."""
        if until <= self._until:
            return
        # Requests from before the epoch began are answered too, with a time that has passed.
        self._until, self._patience = until, max(self._patience, until)
        for child in self._children.values():
            if child.writes:
                child.write(WRITER.taken.encode(WriteUntil(until)))

    def _look(self) -> None:
        """See whether the time has run out, whether to leave, and whether children are gone."""
        now = self._clock()
        if self._patience and now >= self._patience:
            log.warning("the head has granted no more time: this node ends its children")
            self._lost = True
            return
        if self._leaving:
            self._reap()
        self._confirm()
        if self._stop.is_set() and not self._left:
            self._left = now
            self.post(messages.Leaving())
        elif self._left and now - self._left >= LEAVE_SECONDS:
            self.over = True

    def _report(self) -> None:
        """Report what the agent and its children use."""
        before, self._used = self._used, {}
        memory, spent = 0, 0.0
        for pid in (os.getpid(), *(child.process.pid for child in self._children.values())):
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    seconds = sum(process.cpu_times()[:2])
                    memory += process.memory_info().rss
            except psutil.Error:
                continue
            self._used[pid] = seconds
            spent += max(0.0, seconds - before.get(pid, seconds))
        self.post(messages.Usage(spent / _REPORT_EVERY, memory))
