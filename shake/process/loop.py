"""The supervisor's event loop: messages, signals, timers and calls from other threads."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class Channel(Protocol):
    """The near end of a connection, as the loop needs it: see SupervisorChannel."""

    on_backlog: Callable[[], None]

    def fileno(self) -> int: ...

    @property
    def backlog(self) -> int: ...

    def flush(self) -> None: ...


class Peer(Protocol):
    """Something at the other end of a channel."""

    def read(self) -> bool:
        """Handle the messages that are there; False where the other end is closed."""

    def disconnected(self) -> None:
        """The other end is closed."""


class Loop:
    """Waits for the next event, calls its handler, in one thread. It never polls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._peers: dict[int, tuple[Channel, Peer]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        #: The last signal that came, even if the loop was over by then.
        self.signalled: int | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)

    def watch(self, channel: Channel, peer: Peer) -> None:
        descriptor = channel.fileno()
        self._peers[descriptor] = channel, peer
        self._selector.register(descriptor, selectors.EVENT_READ)
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        channel.on_backlog = lambda: self._expect(channel, descriptor, both)

    def forget(self, channel: Channel) -> None:
        descriptor = channel.fileno()
        if self._peers.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._order), call))

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        def again() -> None:
            call()
            self.later(seconds, again)

        self.later(seconds, again)

    def post(self, call: Callable[[], None]) -> None:
        """Have ``call`` run in the loop; from any thread."""
        self._posted.put(call)
        self._wake()

    @contextlib.contextmanager
    def signals(
        self, signals: Iterable[signal.Signals], call: Callable[[int], None]
    ) -> Iterator[None]:
        """Have ``call`` run in the loop when a signal comes; the handler itself only queues.

        At the end the handlers of before are set again, but for those that were replaced meanwhile.
        """

        def queue_it(number: int, _frame: object) -> None:
            self.signalled = number
            self._posted.put(lambda: call(number))

        wakeup = signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, queue_it) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is queue_it:
                    signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)

    def run(self, over: Callable[[], bool]) -> None:
        """Handle events until ``over`` says so after one of them."""
        while not over():
            for key, events in self._selector.select(self._timeout()):
                if key.fd == self._wake_in.fileno():
                    self._drain_wakeups()
                elif watched := self._peers.get(key.fd):
                    self._serve(*watched, events)
            for _ in range(self._posted.qsize()):  # what these post waits for the next round
                self._posted.get()()
            while self._timers and self._timers[0][0] <= self.clock():
                heapq.heappop(self._timers)[2]()

    def _serve(self, channel: Channel, peer: Peer, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            channel.flush()
            if not channel.backlog:
                self._expect(channel, channel.fileno(), selectors.EVENT_READ)
        if events & selectors.EVENT_READ and not peer.read():
            self.forget(channel)
            peer.disconnected()

    def _expect(self, channel: Channel, descriptor: int, events: int) -> None:
        """Wait for a full socket to take more, and only for that: it can most of the time."""
        if (watched := self._peers.get(descriptor)) and watched[0] is channel:
            self._selector.modify(descriptor, events)

    def _timeout(self) -> float | None:
        return max(0.0, self._timers[0][0] - self.clock()) if self._timers else None

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is awake already
            self._wake_out.send(b"\0")

    def _drain_wakeups(self) -> None:
        try:
            while self._wake_in.recv(4096):
                pass
        except BlockingIOError:
            pass
