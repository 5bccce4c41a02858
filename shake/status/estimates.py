"""What is estimated from the past: when a copy is complete, and what limits the task now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shake.phase import Phase
from shake.status.figures import (
    COMPLETE,
    COPIED,
    count,
    end_unknown,
    percent,
    total,
    work_left,
)
from shake.status.history import Point, joined
from shake.status.readiness import KEEPS_UP
from shake.status.snapshot import Snapshot

#: Seconds of the past by which the future is judged, and how many of them are needed at least.
PAST = 600.0
_LEAST = 20.0
#: Parts of the past whose rates are compared.
_PARTS = 8
#: DynamoDB's sizes can be six hours old, so no estimate is better than this share of what is left.
_DOUBT = 0.05
_LONGEST = 1000 * 86400.0
#: From these shares on, each of them limits.
_THROTTLED, _BUDGET, _CPU, _SLOTS = 0.05, 0.9, 0.9, 0.75


class Finish(NamedTuple):
    """Seconds until all items are copied: the best guess, and between which it probably lies."""

    seconds: float
    soonest: float
    latest: float


def finish(snapshot: Snapshot, past: Sequence[Point]) -> Finish | None:
    """When the copy ends if it goes on as in the past; None while that cannot be estimated.

    The mean rate gives the guess. The range comes from the rates of parts of the past, without
    their best and worst quarter. The end is no earlier than the slowest table's own estimate.
    """
    seconds = sum(point.seconds for point in past)
    done = sum(point.work for point in past)
    left = sum(map(work_left, snapshot.tables))
    to_copy = [table for table in snapshot.tables if table.state not in COMPLETE | COPIED]
    if seconds < _LEAST or done <= 0 or (to_copy and end_unknown(to_copy)):
        return None
    length = max(1, len(past) // _PARTS)
    parts = [joined(past[at : at + length]) for at in range(0, len(past), length)]
    rates = sorted(part.work / part.seconds for part in parts)
    low, high = rates[len(rates) // 4], rates[-1 - len(rates) // 4]
    guess = left * seconds / done
    guess = max(guess, *(table.seconds_left or 0.0 for table in to_copy), 0.0)
    soonest = min(left / high if high else guess, guess * (1 - _DOUBT))
    latest = max(left / low if low else guess * 2, guess * (1 + _DOUBT))
    return Finish(guess, soonest, latest) if latest < _LONGEST else None


class Bottleneck(NamedTuple):
    """``what`` is one word, and ``why`` the figure that shows it."""

    what: str
    why: str


def bottleneck(snapshot: Snapshot, recent: Point | None, cpus: int) -> Bottleneck | None:
    """What limits the task, judged by its last seconds; None while that is unknown.

    The order counts: who waits for the target has no free slots and leaves the CPUs idle.
    """
    if recent is None or snapshot.state not in ("running", "degraded"):
        return None
    everything = total(snapshot)
    if everything.lag is not None and everything.lag <= snapshot.margin + KEEPS_UP:
        return Bottleneck("nothing", "changes are applied as they come")
    states = {table.state for table in snapshot.tables}
    if Phase.INDEXING.value in states and Phase.COPYING.value not in states:
        return Bottleneck("target", "it builds indexes")
    if recent.throttled >= _THROTTLED:
        return Bottleneck("source", f"it throttles {percent(recent.throttled)} of all requests")
    units = recent.units / recent.seconds
    if recent.budget and units >= _BUDGET * recent.budget:
        text = f"{count(units)} of {count(recent.budget)} read units/s are used"
        return Bottleneck("budget", text)
    slots = sum(process.slots for process in snapshot.processes)
    used = sum(process.slots_used for process in snapshot.processes)
    if slots and used >= _SLOTS * slots:
        return Bottleneck("target", f"{count(used)} of {count(slots)} slots wait for it")
    busy = sum(process.cpu or 0.0 for process in snapshot.processes)
    if busy >= _CPU * cpus:
        return Bottleneck("CPU", f"{busy:.1f} of {cpus} CPUs are in use")
    if not recent.answers:
        return None
    if snapshot.state == "degraded":
        return Bottleneck("a failure", "what fails is retried")
    return Bottleneck("source", "the time that its answers take")
