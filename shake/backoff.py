"""Pauses between the tries of what fails: they double up to a longest one, and vary at random.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

#: 2 to this power is more than any pause needs, and no float overflows.
_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause after the n-th failure in a row is ``first`` * 2 ** (n - 1) seconds at most.

    It is never more than ``longest`` seconds. It is drawn from that, down to the share ``least``.
    """

    first: float
    longest: float
    least: float = 0.0

    def most(self, tries: int) -> float:
        """Seconds that the pause after so many tries that failed can last; 0.0 after none."""
        doublings = min(tries - 1, _DOUBLINGS)
        return min(self.longest, self.first * 2.0**doublings) if tries > 0 else 0.0

    def pause(self, tries: int, jitter: Callable[[], float] = random.random) -> float:
        """Seconds of the next pause; ``jitter`` gives a number from 0 to 1."""
        return self.most(tries) * (self.least + (1.0 - self.least) * jitter())
