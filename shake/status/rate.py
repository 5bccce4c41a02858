"""How fast something goes of late, and how long the rest takes at that rate."""

from __future__ import annotations

import math

#: Seconds after which what was counts for about a third, in a rate of now.
_MEMORY = 10.0
#: The same in a rate by which the time left is estimated: an estimate that jumps is useless.
STEADY = 120.0
#: Units a second below which nothing moves, and the longest estimate that is shown, in seconds.
_SLOWEST, _LONGEST = 0.1, 1000 * 86400.0


def seconds_left(ahead: float, rate: float) -> float | None:
    """Seconds for what is ahead, at so many units a second; None where next to nothing moves."""
    return ahead / rate if rate >= _SLOWEST and ahead / rate <= _LONGEST else None


class Rate:
    """An exponentially weighted rate, in units a second, of a count that grows in jumps."""

    def __init__(self, now: float, memory: float = _MEMORY) -> None:
        self._memory = memory
        self._start = self._then = now
        self._weight = 0.0

    def add(self, amount: float, now: float) -> None:
        self._decay(now)
        self._weight += amount

    def value(self, now: float) -> float:
        self._decay(now)
        # Early on, less time has passed than the memory is long.
        seen = -math.expm1(-max(now - self._start, 0.1) / self._memory)
        return self._weight / self._memory / seen

    def _decay(self, now: float) -> None:
        self._weight *= math.exp(-(now - self._then) / self._memory)
        self._then = now


class Rates:
    """How fast items, bytes and read units come of late; ``pace``: items, steadily."""

    def __init__(self, now: float) -> None:
        self.items, self.bytes, self.units = Rate(now), Rate(now), Rate(now)
        self.pace = Rate(now, STEADY)

    def add(self, items: int, size: int, units: float, now: float) -> None:
        self.items.add(items, now)
        self.bytes.add(size, now)
        self.units.add(units, now)
        self.pace.add(items, now)
