"""When a copy will be complete, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shake.status.figures import COMPLETE, COPIED, work_left
from shake.status.history import Point, joined
from shake.status.snapshot import Snapshot

#: Seconds of the past by which the future is judged, and how many of them are needed at least.
PAST = 600.0
_LEAST = 20.0
#: Parts of the past whose rates are compared.
_PARTS = 8
#: DynamoDB's sizes can be six hours old, so no estimate is better than this share of what is left.
_DOUBT = 0.05
_LONGEST = 1000 * 86400.0


class Finish(NamedTuple):
    """Seconds until all items are copied: the best guess, and between which it probably lies."""

    seconds: float
    soonest: float
    latest: float


def finish(snapshot: Snapshot, past: Sequence[Point]) -> Finish | None:
    """When the copy ends if it goes on as in the past; None while that cannot be estimated.

    The mean rate gives the guess. The range comes from the rates of parts of the past, without
    their best and worst quarter. A table that says that it needs longer counts.
    """
    seconds = sum(point.seconds for point in past)
    done = sum(point.work for point in past)
    left = sum(map(work_left, snapshot.tables))
    if seconds < _LEAST or done <= 0:
        return None
    rates = sorted(part.work / part.seconds for part in _parts(past))
    low, high = rates[len(rates) // 4], rates[-1 - len(rates) // 4]
    guess = left * seconds / done
    tail = max((t.seconds_left or 0.0 for t in snapshot.tables if _copies(t.state)), default=0.0)
    guess = max(guess, tail)
    soonest = min(left / high if high else guess, guess * (1 - _DOUBT))
    latest = max(left / low if low else guess * 2, guess * (1 + _DOUBT))
    return Finish(guess, soonest, latest) if latest < _LONGEST else None


def _copies(state: str) -> bool:
    return state not in COMPLETE | COPIED


def _parts(past: Sequence[Point]) -> list[Point]:
    length = max(1, len(past) // _PARTS)
    return [joined(past[at : at + length]) for at in range(0, len(past), length)]
