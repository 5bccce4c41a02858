"""Limits: calls and read capacity a second, and a table's budget of both over all workers."""

from __future__ import annotations

from collections import deque

#: A grant covers about this long, so that permits cost few messages and a limit stays tight.
_GRANT_SECONDS = 0.05
_MAX_CALLS = 64
#: Seconds of capacity that are there at once after a pause: others read the table too.
BURST = 0.05
#: Units of an eventually consistent 1 MB page: the guess until the first answer of DynamoDB.
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
_FIRST_GUESS = 128.0


class Bucket:
    """A token bucket that may go into debt: the next grant waits until the debt is paid.

    After a pause as much as ``burst`` seconds' rate is there at once.
    """

    def __init__(self, rate: float, now: float, burst: float = 1.0) -> None:
        self._rate = rate
        self._most = rate * burst
        self._level = rate * _GRANT_SECONDS
        self._then = now

    def refill(self, now: float) -> None:
        self._level = min(self._level + (now - self._then) * self._rate, self._most)
        self._then = now

    def take(self, amount: float) -> None:
        self._level -= amount

    @property
    def debt(self) -> float:
        """What was taken beyond what there was."""
        return max(0.0, -self._level)

    def pause(self, now: float) -> float:
        """One call has gone out: seconds until the next one may."""
        self.take(1.0)
        self.refill(now)
        return self.wait()

    def wait(self) -> float:
        """Seconds until something may be taken, 0.0 for now."""
        return 0.0 if self._level > 0 else -self._level / self._rate + 1e-4


class Limiter:
    """Calls a second, and read capacity units a second; None is no limit.

    The capacity of a call is known only from its answer. So a call reserves what calls have
    consumed of late, and its answer corrects that. Each call that goes out is followed by
    :meth:`used` or :meth:`failed`. ``burst``: seconds of capacity that are there after a pause.
    """

    def __init__(
        self, calls: float, capacity: float | None, now: float, burst: float = BURST
    ) -> None:
        self._calls = Bucket(calls, now)
        self._burst = burst
        self._capacity: Bucket | None = None
        self._reserved: deque[float] = deque()  # of the calls under way
        self._guess = _FIRST_GUESS
        self.limit(capacity, now)

    def limit(self, capacity: float | None, now: float) -> None:
        """Another capacity from now on. A debt stays; calls under way are paid when they end."""
        debt = 0.0
        if self._capacity:
            self._capacity.take(-sum(self._reserved))
            debt = self._capacity.debt
        self._reserved.clear()
        self.capacity = capacity
        self._capacity = Bucket(capacity, now, self._burst) if capacity else None
        if self._capacity:
            self._capacity.take(debt)

    def wait(self, now: float) -> float:
        """Seconds until the next call may go out, 0.0 for now."""
        buckets = [self._calls] + ([self._capacity] if self._capacity else [])
        for bucket in buckets:
            bucket.refill(now)
        return max(bucket.wait() for bucket in buckets)

    def take(self, calls: int = 1) -> None:
        """So many calls go out. Only a single one reserves capacity."""
        self._calls.take(calls)
        if self._capacity is not None:
            self._capacity.take(self._guess)
            self._reserved.append(self._guess)

    def used(self, capacity: float) -> None:
        """A call has consumed so much."""
        if self._capacity is not None:
            self._capacity.take(capacity - (self._reserved.popleft() if self._reserved else 0.0))
            self._guess += 0.2 * (capacity - self._guess)

    def failed(self, *, throttled: bool) -> None:
        """A call has failed. One that was throttled has consumed nothing; others may have."""
        if self._reserved:
            reserved = self._reserved.popleft()
            if throttled and self._capacity is not None:
                self._capacity.take(-reserved)


class Budget(Limiter):
    """Grants calls to workers in the order in which they asked, within a limit."""

    def __init__(self, calls: float, capacity: float | None, now: float) -> None:
        super().__init__(calls, capacity, now)
        self._unlimited = max(1, min(_MAX_CALLS, int(calls * _GRANT_SECONDS)))
        self._waiting: deque[int] = deque()

    def want(self, worker: int) -> None:
        self._waiting.append(worker)

    def waits(self, worker: int) -> bool:
        return worker in self._waiting

    def drop(self, worker: int) -> None:
        """A worker has crashed: drop its place."""
        self._waiting = deque(w for w in self._waiting if w != worker)

    def grants(self, now: float) -> list[tuple[int, int]]:
        """(worker, calls) that may go out now."""
        granted = []
        calls = 1 if self.capacity else self._unlimited
        while self._waiting and self.wait(now) == 0.0:
            self.take(calls)
            granted.append((self._waiting.popleft(), calls))
        return granted

    @property
    def wanted(self) -> bool:
        return bool(self._waiting)
