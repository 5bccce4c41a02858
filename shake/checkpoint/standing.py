"""Finds out whether a task runs, and how its last run stood. It only reads the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.holder import Holder, Life
from shake.checkpoint.store import Store
from shake.checkpoint.summary import TaskSummary
from shake.checkpoint.task_lock import OVERDUE, POLL, TaskLock

#: Seconds for which the lock of a process that cannot be seen from here is watched. A run renews
#: it within OVERDUE.
_WATCH = OVERDUE + 5.0


class Run(Enum):
    """What is known of the run of a task. HANGING: its process is there, and does not answer."""

    NONE = "not begun"
    STARTING = "starting"
    RUNNING = "running"
    KILLED = "killed"
    SILENT = "silent"
    HANGING = "hanging"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Standing:
    """``holder`` has the task lock; ``summary`` is the last that was saved."""

    run: Run
    summary: TaskSummary | None
    holder: Holder | None


def standing(
    store: Store,
    *,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Standing:
    """How the task stands. It takes longer where the run is on another machine."""
    holder, sign = TaskLock.sign(store)
    life = holder.life(Holder.me()) if holder else Life.GONE
    since = clock()
    while life is Life.UNKNOWN and clock() - since < _WATCH:
        wait(POLL)
        other, later = TaskLock.sign(store)
        if later != sign:  # renewed, released, or taken by another one
            holder, life = other, Life.ALIVE if other else Life.GONE
            sign = later
    summary = Checkpoints(store).load_summary()  # after the lock: it can be newer only
    return Standing(_run(holder, life, sign[0], summary), summary, holder)


def _run(holder: Holder | None, life: Life, token: str, summary: TaskSummary | None) -> Run:
    if holder and (summary is None or summary.token != token):
        return {Life.ALIVE: Run.STARTING, Life.GONE: Run.KILLED}.get(life, Run.SILENT)
    if summary is None:
        return Run.NONE
    if summary.ended:
        return Run.ENDED
    if holder is None:  # its lock was released, but its end was not saved
        return Run.KILLED
    return {Life.ALIVE: Run.RUNNING, Life.GONE: Run.KILLED}.get(life, Run.SILENT)
