"""How a task went in the last two hours, as a bounded number of points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shake.status.figures import work_done
from shake.status.snapshot import Snapshot, TableStatus

#: Seconds of the first points, and of the coarsest ones: 225 of those are two hours.
_FIRST_STEP, _LAST_STEP = 2.0, 32.0
_MOST = 225


@dataclass(frozen=True, slots=True)
class Point:
    """What was done in ``seconds`` up to ``time`` (Unix), and what was so at the end of them.

    ``work`` is in bytes of the source: see figures.work_done. ``lag`` is the greatest of all
    tables, and ``budget`` the sum over those that are copied, None where one has no limit.
    """

    time: float
    seconds: float
    bytes: float = 0.0
    units: float = 0.0
    answers: float = 0.0
    throttles: float = 0.0
    writes: float = 0.0
    work: float = 0.0
    lag: float | None = None
    budget: float | None = None

    @property
    def throttled(self) -> float:
        """The share of requests that the source throttled."""
        requests = self.answers + self.throttles
        return self.throttles / requests if requests else 0.0


#: What is counted up in a point, of all tables.
_COUNTED: dict[str, Callable[[TableStatus], float]] = {
    "bytes": lambda table: table.bytes,
    "units": lambda table: table.capacity,
    "answers": lambda table: table.answers,
    "throttles": lambda table: table.throttles,
    "writes": lambda table: table.items + table.changes,
    "work": work_done,
}


class History:
    """Points of equal length, the oldest first. When they are too many, two become one.

    So a short run is shown in steps of two seconds, and a long one in steps of half a minute.
    """

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.step = _FIRST_STEP
        self._last: tuple[float, dict[str, float]] | None = None

    def add(self, snapshot: Snapshot, now: float) -> bool:
        """Take in a snapshot; ``now`` is any clock in seconds. Returns whether a point is new."""
        if not snapshot.seconds:  # nothing has run: what earlier runs have done is not known yet
            return False
        if self._last is None:
            self._last = now, _counts(snapshot)
        then, before = self._last
        if now - then < self.step:
            return False
        counts = _counts(snapshot)
        self._last = now, counts
        # After a resync some counts begin again.
        moved = {name: max(0.0, counts[name] - before[name]) for name in _COUNTED}
        lags = [table.lag for table in snapshot.tables if table.lag is not None]
        lag, budget = max(lags, default=None), _budget(snapshot)
        self.points.append(Point(snapshot.time, now - then, **moved, lag=lag, budget=budget))
        if len(self.points) > _MOST:
            self._make_room()
        return True

    def _make_room(self) -> None:
        if self.step >= _LAST_STEP:
            del self.points[0]
            return
        pairs = zip(self.points[::2], self.points[1::2], strict=False)
        odd = self.points[-1:] if len(self.points) % 2 else []
        self.points = [joined(pair) for pair in pairs] + odd
        self.step *= 2

    def recent(self, seconds: float) -> list[Point]:
        """The latest points, as many as cover so many seconds."""
        found, covered = 0, 0.0
        for point in reversed(self.points):
            if covered >= seconds:
                break
            found, covered = found + 1, covered + point.seconds
        return self.points[len(self.points) - found :]


def joined(points: Sequence[Point]) -> Point:
    """Some points, one behind the other, as one. There must be one."""
    sums = {name: sum(getattr(point, name) for point in points) for name in _COUNTED}
    lags = [point.lag for point in points if point.lag is not None]
    seconds = sum(point.seconds for point in points)
    return replace(points[-1], seconds=seconds, **sums, lag=max(lags, default=None))


def _counts(snapshot: Snapshot) -> dict[str, float]:
    return {name: sum(map(count, snapshot.tables)) for name, count in _COUNTED.items()}


def _budget(snapshot: Snapshot) -> float | None:
    copying = [table.budget for table in snapshot.tables if table.state == "copying"]
    known = [budget for budget in copying if budget is not None]
    return sum(known) if known and len(known) == len(copying) else None
