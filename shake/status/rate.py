"""How fast something goes of late, and how long the rest takes at that rate."""

from __future__ import annotations

import math

#: Seconds after which what was counts for about a third.
_MEMORY = 10.0
#: Units a second below which nothing moves, and the longest estimate that is shown, in seconds.
_SLOWEST, _LONGEST = 0.1, 1000 * 86400.0


def seconds_left(ahead: float, rate: float) -> float | None:
    """Seconds for what is ahead, at so many units a second; None where next to nothing moves."""
    return ahead / rate if rate >= _SLOWEST and ahead / rate <= _LONGEST else None


class Rate:
    """An exponentially weighted rate, in units a second, of a count that grows in jumps."""

    def __init__(self, now: float) -> None:
        self._start = self._then = now
        self._weight = 0.0

    def add(self, amount: float, now: float) -> None:
        self._decay(now)
        self._weight += amount

    def value(self, now: float) -> float:
        self._decay(now)
        # Early on, less time has been seen than the memory is long.
        seen = -math.expm1(-max(now - self._start, 0.1) / _MEMORY)
        return self._weight / _MEMORY / seen

    def _decay(self, now: float) -> None:
        self._weight *= math.exp(-(now - self._then) / _MEMORY)
        self._then = now
