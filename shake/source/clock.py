"""The source's clock: bounds of its time, from the ``Date`` headers of its answers.

The local clock is CLOCK_BOOTTIME (:func:`shake.clock.boot_clock`). It cannot be set, it counts
while the machine sleeps, and all processes of a machine share it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from functools import reduce
from math import inf
from typing import NamedTuple

from shake.clock import boot_clock

#: Seconds for which bounds are used: at least EPOCH, at most twice as long.
EPOCH = 60.0
#: Seconds a second by which two clocks drift apart at most.
DRIFT = 200e-6
#: Seconds by which a clock must be behind to count as set back: servers differ by less.
STEP = 1.0
#: Seconds by which creation times of changes can be out of order.
DISORDER = 2.0
#: Seconds by which this machine's wall clock can differ from that of a source without ``Date``.
UNDATED = 30.0
NO_DATE = (
    "the source's answers have no Date header: this machine's clock stands in for the source's; "
    f"all times of changes can be wrong by {UNDATED:g} s, or by more if this clock is wrong"
)
#: Seconds by which bounds must become tighter to be reported again.
_NEWS = 0.005


class Bounds(NamedTuple):
    """Source time minus local time, in seconds: at least ``low``, at most ``high``."""

    low: float
    high: float

    def disjoint(self, other: Bounds) -> bool:
        return self.low > other.high or other.low > self.high

    def common(self, other: Bounds) -> Bounds:
        return Bounds(max(self.low, other.low), min(self.high, other.high))

    def hull(self, other: Bounds) -> Bounds:
        return Bounds(min(self.low, other.low), max(self.high, other.high))

    def widened(self, by: float) -> Bounds:
        return Bounds(self.low - by, self.high + by)


@dataclass(slots=True)
class _Epoch:
    """What was learned from ``since`` on, in local time.

    ``bounds`` are those that all agree on, of late; ``refuted`` cover those that they contradict.
    """

    since: float
    bounds: Bounds
    refuted: Bounds | None = None

    def learn(self, new: Bounds) -> None:
        if self.bounds.disjoint(new):
            self.refuted, self.bounds = self.all, new
        else:
            self.bounds = self.bounds.common(new)

    @property
    def all(self) -> Bounds:
        return self.bounds.hull(self.refuted) if self.refuted else self.bounds

    def join(self, later: _Epoch) -> _Epoch:
        """Both as one: what they agree on, or, where anything contradicts, all of both."""
        if self.refuted or later.refuted or self.all.disjoint(later.all):
            return _Epoch(self.since, later.all, self.all)
        return _Epoch(self.since, self.bounds.common(later.bounds))

    def widened(self, now: float) -> _Epoch:
        """What it says at a later time: clocks drift."""
        drift = DRIFT * max(0.0, now - self.since)
        refuted = self.refuted and self.refuted.widened(drift)
        return _Epoch(self.since, self.bounds.widened(drift), refuted)


def ignore(*bounds: Bounds) -> None:
    """Do nothing about bounds."""


class SourceClock:
    """What is known of a source's clock. Thread-safe; times are Unix seconds and local seconds.

    Bounds that contradict each other (the clock was set, or several servers answer) all count
    until the older ones have aged out. ``on_news`` is called with bounds that are news, where they
    are from a ``Date``. With those that show that the clock was set back ``on_set_back`` is called,
    and with those that were known before. Both run in the thread that learns the bounds.
    """

    def __init__(
        self,
        on_news: Callable[[Bounds], None] = ignore,
        on_set_back: Callable[[Bounds, Bounds], None] = ignore,
    ) -> None:
        self._on_news = on_news
        self.on_set_back = on_set_back
        self._lock = threading.Lock()
        self._epochs: list[_Epoch] = []  # the one before, and the present one
        self._parsed = ("", 0.0)  # the last header, and its time
        #: Whether any answer had a ``Date``; None before the first answer.
        self.dated: bool | None = None

    def answered(
        self, header: str | None, sent: float, received: float, wall: Callable[[], float]
    ) -> None:
        """Take in an answer: its ``Date``, when its request was sent, and when it was received.

        Where no answer has a ``Date``, ``wall``, this machine's own clock, stands in for it.
        """
        date = self._parse(header)
        if date is not None:
            self.dated = True
            bounds = Bounds(date - received, date + 1.0 - sent)
            self.learn(bounds.widened(DRIFT * (received - sent)), received)
        elif not self.dated:
            self.dated = False
            offset = wall() - received
            # No news: the wall clock of another machine can be another one.
            self.learn(Bounds(offset - UNDATED, offset + UNDATED), received, news=False)

    def learn(self, new: Bounds, now: float, *, news: bool = True) -> None:
        """Take in bounds; ``news``: report them where they are."""
        with self._lock:
            before = self._bounds(now)
            back = bool(self._epochs) and new.high < self._epochs[-1].bounds.low - STEP
            self._take(new, now)
            after = self._bounds(now)
        if news and (back or before is None or before.disjoint(new) or _tighter(before, after)):
            self._on_news(new)
        if back and before is not None:
            self.on_set_back(new, before)

    def earliest(self, local: float | None = None) -> float:
        """The source's time at a local time, now if none is given, or an earlier one.

        0.0 where nothing is known.
        """
        return self._times(local).low

    def latest(self, local: float | None = None) -> float:
        """The same, or a later time; infinite where nothing is known."""
        return self._times(local).high

    def _times(self, local: float | None) -> Bounds:
        local = boot_clock() if local is None else local
        with self._lock:
            bounds = self._bounds(local)
        return Bounds(local + bounds.low, local + bounds.high) if bounds else Bounds(0.0, inf)

    def _take(self, new: Bounds, now: float) -> None:
        if not self._epochs:
            self._epochs = [_Epoch(now, new)]
        elif now - self._epochs[-1].since < EPOCH:
            self._epochs[-1].learn(new)
        else:
            recent = now - self._epochs[-1].since < 2 * EPOCH
            self._epochs = [*self._epochs[-1:], _Epoch(now, new)] if recent else [_Epoch(now, new)]

    def _bounds(self, now: float) -> Bounds | None:
        """What all epochs say together."""
        found = [one.widened(now) for one in self._epochs]
        return reduce(_Epoch.join, found).all if found else None

    def _parse(self, header: str | None) -> float | None:
        """Unix seconds of a ``Date``; the same header comes very often.

        Source: https://www.rfc-editor.org/rfc/rfc9110#name-date
        """
        known, date = self._parsed
        if header and header != known:
            try:
                parsed = parsedate_to_datetime(header)
            except (ValueError, IndexError, TypeError, OverflowError):
                return None
            date = (parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp()
            self._parsed = header, date
        return date if header else None


def _tighter(before: Bounds, after: Bounds | None) -> bool:
    return after is not None and (
        after.low > before.low + _NEWS or after.high < before.high - _NEWS
    )
