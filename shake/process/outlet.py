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

#: Jobs that wait at most, before :meth:`Outlet.offer` drops one.
_LIMIT = 10_000

Job = Callable[[], None]


class Outlet(threading.Thread):
    """Runs jobs in order, in a thread of its own. The first one that fails is reported on stderr.

    ``work`` names the jobs in that message. ``dropped`` runs in the place of jobs that were
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
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._dropped = dropped
        self._limit = limit
        self._lock = threading.Lock()  # never held while a job runs
        self._lost = 0
        self._reported = False
        self.start()

    def put(self, job: Job) -> None:
        """Have a job run, however many wait."""
        with self._lock:
            self._put(job)

    def offer(self, job: Job) -> None:
        """Have a job run, or drop it where too many wait."""
        with self._lock:
            if self._jobs.qsize() < self._limit:
                self._put(job)
            else:
                self._lost += 1

    def close(self, seconds: float) -> None:
        """End after the jobs at hand; do not wait longer than ``seconds`` for that."""
        with self._lock:
            self._put(None)
        self.join(seconds)

    def report(self, error: Exception) -> None:
        """Report on stderr that a job failed, once."""
        if not self._reported:
            self._reported = True
            with suppress(OSError, ValueError):  # stderr is lost too
                print(f"shake: {self.name} cannot be written: {error}", file=sys.stderr)

    def run(self) -> None:
        while job := self._jobs.get():
            try:
                job()
            except Exception as error:
                self.report(error)

    def _put(self, job: Job | None) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            self._jobs.put(lambda: self._dropped(lost))
        self._jobs.put(job)


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
