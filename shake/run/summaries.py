"""Saves how a run stands in the checkpoint store, for ``shake status``."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial
from math import inf

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import StoreUnavailable
from shake.checkpoint.summary import MAX_TABLES, TableLine, TaskSummary
from shake.checkpoint.task_lock import TaskLock
from shake.errors import ShakeError
from shake.process.outlet import Outlet
from shake.status.figures import COMPLETE, ILL, fraction, total
from shake.status.snapshot import FINISHING, Snapshot, TableStatus

log = logging.getLogger("shake")

#: Seconds between two saves while nothing else than figures changes, and between any two.
_EVERY, _LEAST = 30.0, 2.0
#: Seconds of a save after which the store counts as one that hangs.
_HANGS = 1.0


class Summaries:
    """Saves summaries in a separate thread: a store that hangs holds up nothing."""

    def __init__(self, checkpoints: Checkpoints, lock: TaskLock) -> None:
        self._checkpoints = checkpoints
        self._lock = lock
        self._outlet = Outlet("the summary of the task", limit=2)
        self._last: Snapshot | None = None
        self._shown: object = None  # what the last one that was saved says, but for figures
        self._saved = 0.0  # of the local clock
        self._saving = inf  # since when, while it is
        self._end_saved = False

    def show(self, snapshot: Snapshot) -> None:
        """Save it if its states have changed, or if the last save was long ago."""
        self._last = snapshot
        shown = snapshot.state, snapshot.reason, [table.state for table in snapshot.tables]
        pause = _LEAST if shown != self._shown else _EVERY
        if time.monotonic() - self._saved >= pause:
            self._shown, self._saved = shown, time.monotonic()
            self._outlet.offer(partial(self._save, summarize(snapshot, self._lock.token)))

    def end(self, status: int, line: str) -> None:
        if self._last is not None:
            last = summarize(self._last, self._lock.token, status, line)
            self._outlet.put(partial(self._save, last, tries=3))

    def close(self, seconds: float, *, patient: bool = False) -> bool:
        """Wait for the last save, no longer than so; whether the end of the run is saved.

        Unless ``patient``, a store that hangs is not waited for.
        """
        hangs = time.monotonic() - self._saving > _HANGS
        self._outlet.close(0.0 if hangs and not patient else seconds)
        return self._end_saved

    def _save(self, summary: TaskSummary, tries: int = 1) -> None:
        self._saving = time.monotonic()
        saved = False
        with suppress(ShakeError):  # whatever is wrong with the store, others notice and say
            while tries and not saved:
                tries -= 1
                with suppress(StoreUnavailable):
                    saved = self._checkpoints.save_summary(summary, self._lock.renew)
        self._end_saved = saved and summary.ended
        self._saving = inf


def summarize(snapshot: Snapshot, token: str, status: int = -1, line: str = "") -> TaskSummary:
    """The summary of a snapshot; with ``status``, of the run that has ended with ``line``."""
    everything = total(snapshot)
    reason = line or snapshot.reason or FINISHING * (FINISHING in snapshot.notices)
    state = snapshot.state
    if status > 0:  # what failed last can come after the last snapshot
        state = "failed"
    elif status == 0 and state != "finished":  # a signal can come before that is shown
        state = "stopped"
    now = time.time() if status >= 0 else snapshot.time
    error = reason if state in ("degraded", "failed") else ""
    return TaskSummary(
        token=token,
        state=state,
        phase="copy" if everything.lag is None else "follow",
        reason=reason,
        exit_status=status,
        started=snapshot.started,
        at=now,
        fraction=-1.0 if (part := fraction(everything)) is None else part,
        items=everything.items,
        bytes=everything.bytes,
        applied_through=everything.applied_through or 0.0,
        consistent=everything.consistent,
        tables=len(snapshot.tables),
        tables_done=sum(table.state in COMPLETE for table in snapshot.tables),
        kept=everything.kept,
        lines=tuple(map(_line, sorted(snapshot.tables, key=_need)[:MAX_TABLES])),
        last_error=error,
        last_error_at=now if error else 0.0,
        seconds_left=-1.0 if everything.seconds_left is None else everything.seconds_left,
    )


def _need(table: TableStatus) -> tuple[bool, bool]:
    """Tables that need attention come first, then those that are being copied."""
    return not (table.error or table.state in ILL), table.state in COMPLETE


def _line(table: TableStatus) -> TableLine:
    part = fraction(table)
    return TableLine(
        table.name,
        table.state,
        -1.0 if part is None else part,
        table.applied_through or 0.0,
        table.error,
    )
