"""What limits a task now: the source, the budget, the CPUs, the target, or nothing."""

from __future__ import annotations

from typing import NamedTuple

from shake.phase import Phase
from shake.status.figures import count, percent, total
from shake.status.history import Point
from shake.status.readiness import KEEPS_UP
from shake.status.snapshot import Snapshot

#: From these shares on, each of them limits.
_THROTTLED, _BUDGET, _CPU, _SLOTS = 0.05, 0.9, 0.9, 0.75


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
