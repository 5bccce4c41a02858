"""Holds the check's reading of one table to ``qps.full`` and ``source.read_budget``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from shake.errors import Stopped
from shake.limits import Limiter


class Pace:
    """A limit that threads wait for: ``calls`` and ``capacity`` units a second.

    ``spent`` is called with the units that calls have consumed.

    Each of several processes has its share of both (see Part), and its own reservations.
    """

    def __init__(
        self,
        calls: float,
        capacity: float | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[float], None] = lambda units: None,
    ) -> None:
        self._limiter = Limiter(calls, capacity, clock(), burst=1.0)
        self._stop = stop
        self._spent = spent
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait until one call may go out. Raises Stopped when the check ends."""
        while wait := self._try():
            if self._stop.wait(wait):
                raise Stopped

    def used(self, capacity: float) -> None:
        """A call has consumed so many units."""
        with self._lock:
            self._limiter.used(capacity)
        self._spent(capacity)

    def failed(self) -> None:
        """A call has no answer that says what it has consumed."""
        with self._lock:
            self._limiter.failed(throttled=False)

    def _try(self) -> float:
        with self._lock:
            wait = self._limiter.wait(self._clock())
            if not wait:
                self._limiter.take()
            return wait
