"""Times of day, in UTC, with a read budget of their own: ``source.windows``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shake.config.kinds import BUDGET, Kind, ReadBudget

_MINUTES = 24 * 60
_WINDOW = re.compile(
    r"(?P<start>[0-9]{2}:[0-9]{2})\s*-\s*(?P<end>[0-9]{2}:[0-9]{2})\s*=\s*(?P<budget>\S+)"
)


@dataclass(frozen=True, slots=True)
class Window:
    """From the minute ``start`` of each day until the minute ``end``, perhaps of the next day."""

    start: int
    end: int
    budget: ReadBudget

    def holds(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return f"{self.times}={BUDGET.write(self.budget)}"

    @property
    def times(self) -> str:
        """``22:00-06:00``."""
        return f"{_clock(self.start)}-{_clock(self.end)}"


def window_at(windows: Sequence[Window], moment: float) -> Window | None:
    """The window of a time in Unix seconds; None outside all of them."""
    minute = int(moment // 60) % _MINUTES
    return next((one for one in windows if one.holds(minute)), None)


def budget_at(windows: Sequence[Window], otherwise: ReadBudget, moment: float) -> ReadBudget:
    """The read budget at a time in Unix seconds; ``otherwise`` outside all windows."""
    window = window_at(windows, moment)
    return window.budget if window else otherwise


def overlap(windows: Sequence[Window]) -> tuple[Window, Window] | None:
    """Two windows that have a minute in common."""
    taken: dict[int, Window] = {}
    for window in windows:
        for minute in filter(window.holds, range(_MINUTES)):
            if minute in taken:
                return taken[minute], window
            taken[minute] = window
    return None


def seconds_until_change(windows: Sequence[Window], moment: float) -> float:
    """Seconds until a window next begins or ends."""
    second = moment % (60 * _MINUTES)
    edges = {60 * (edge % _MINUTES) for one in windows for edge in (one.start, one.end)}
    return min((edge - second) % (60 * _MINUTES) or 60 * _MINUTES for edge in edges)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _minute(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or 60 * hour + minute > _MINUTES:
        raise ValueError
    return 60 * hour + minute


def _parse(text: str) -> tuple[Window, ...]:
    windows = []
    for part in filter(None, map(str.strip, text.split(";"))):
        found = _WINDOW.fullmatch(part)
        if not found:
            raise ValueError
        start, end = _minute(found["start"]), _minute(found["end"])
        if start == end or start % _MINUTES == end:
            raise ValueError
        windows.append(Window(start % _MINUTES, end, BUDGET.parse(found["budget"])))
    if not windows:
        raise ValueError
    return tuple(windows)


WINDOWS = Kind(
    "times of day and budgets, such as 22:00-06:00=100%;06:00-22:00=20%, in UTC; a budget is as "
    "that of source.read_budget",
    _parse,
    lambda windows: ";".join(map(str, windows)),
)
