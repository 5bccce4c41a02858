"""A thread for work that can stall, such as a write to a terminal or a disk: no caller waits."""

from __future__ import annotations

import io
import queue
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Calls that wait at most, before :meth:`Outlet.offer` drops one.
_LIMIT = 10_000

Call = Callable[[], None]


class Outlet(threading.Thread):
    """Runs calls in order, in a separate thread. The first one that fails is reported on stderr.

    ``work`` names the calls in that message. ``dropped`` runs in the place of calls that were
    dropped, with their number. The standard ``QueueListener`` cannot do this: its ``stop`` has no
    deadline, and ``logging.shutdown`` waits for the lock of a handler that hangs.
    """

    def __init__(
        self,
        work: str,
        *,
        dropped: Callable[[int], None] = lambda number: None,
        limit: int = _LIMIT,
    ) -> None:
        super().__init__(name=work, daemon=True)
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._dropped = dropped
        self._limit = limit
        self._lock = threading.Lock()  # never held while a call runs
        self._lost = 0
        self._reported = False
        self.start()

    def put(self, call: Call) -> None:
        """Run a call in the thread, however many wait."""
        with self._lock:
            self._put(call)

    def offer(self, call: Call) -> None:
        """Run a call in the thread, or drop it where too many wait."""
        with self._lock:
            if self._calls.qsize() < self._limit:
                self._put(call)
            else:
                self._lost += 1

    def close(self, seconds: float) -> None:
        """End after the calls at hand; do not wait longer than ``seconds`` for that."""
        with self._lock:
            self._put(None)
        self.join(seconds)

    def report(self, error: Exception) -> None:
        """Report on stderr that a call failed, once."""
        if not self._reported:
            self._reported = True
            with suppress(OSError, ValueError):  # stderr is lost too
                print(f"shake: {self.name} cannot be written: {error}", file=sys.stderr)

    def run(self) -> None:
        while call := self._calls.get():
            try:
                call()
            except Exception as error:
                self.report(error)

    def _put(self, call: Call | None) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self._calls.put(lambda: self._dropped(lost))
        self._calls.put(call)


class Direct(io.FileIO):
    """A file without Python's buffer, of which each write is whole.

    A thread that hangs in its write holds no lock that the end of the interpreter waits for.
    """

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            written = super().write(left)
            if written is None:  # another process made the terminal non-blocking
                select.select([], [self], [])
            left = left[written or 0 :]
        return size
