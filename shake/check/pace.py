"""Holds the check's reading of one table to ``qps.full`` and ``source.read_budget``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from shake.errors import Stopped
from shake.limits import Bucket

#: Units of an eventually consistent 1 MB page.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
_FIRST_GUESS = 128.0


class Pace:
    """``calls`` a second, and ``capacity`` units a second (None: no limit). Thread-safe.

    Of several processes each has its share of both (see Part). What a call consumes is known only
    from its answer: until then it is taken to be what a call has consumed of late, so that many
    threads cannot all go out at once.
    """

    def __init__(
        self,
        calls: float,
        capacity: float | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now = clock()
        self._calls = Bucket(calls, now)
        self._capacity = Bucket(capacity, now) if capacity else None
        self._guess = _FIRST_GUESS
        self._reserved: deque[float] = deque()
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait until one call may go out. Raises Stopped when the check ends."""
        while wait := self._wait():
            if self._stop.wait(wait):
                raise Stopped

    def used(self, capacity: float) -> None:
        """A call has consumed so many units."""
        if self._capacity is not None:
            with self._lock:
                self._capacity.take(capacity - (self._reserved.popleft() if self._reserved else 0))
                self._guess += 0.2 * (capacity - self._guess)

    def _wait(self) -> float:
        buckets = [self._calls] + ([self._capacity] if self._capacity else [])
        with self._lock:
            now = self._clock()
            for bucket in buckets:
                bucket.refill(now)
            wait = max(bucket.wait() for bucket in buckets)
            if not wait:
                self._calls.take(1)
                if self._capacity is not None:
                    self._capacity.take(self._guess)
                    self._reserved.append(self._guess)
        return wait
