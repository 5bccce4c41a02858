"""Until when a process is allowed to write: one that was frozen waits before it writes again."""

from __future__ import annotations

import math
import threading

from shake.clock import boot_clock


class Deadline:
    """A moment of the boot clock, in seconds, that the supervisor moves while it holds the task.

    Every try of a write waits for it. That stops a process that was frozen, or cut off from
    its supervisor, while another supervisor took the task over. What is already on its way to the
    target is stopped by the target's fences only. Thread-safe.
    """

    def __init__(self, until: float = math.inf) -> None:
        self._until = until
        self._moved = threading.Condition()

    def extend(self, until: float) -> None:
        with self._moved:
            self._until = until
            self._moved.notify_all()

    def wait(self) -> None:
        """Return at once before the deadline; else when it was moved into the future."""
        with self._moved:
            while boot_clock() >= self._until:
                self._moved.wait()
