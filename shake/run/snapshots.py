"""Snapshots of a run: the current state of the task, for its loop and for other threads."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass, field, replace

from shake.config import Config, Redactor
from shake.farm.health import Health
from shake.plan.plan import Plan
from shake.process.loop import Loop
from shake.run.parts import Parts
from shake.run.shutdown import Shutdown
from shake.run.steering import Steering
from shake.source.clock import NO_DATE, SourceClock
from shake.status.snapshot import ProcessStatus, Snapshot

#: Seconds that another thread waits for the loop.
_LOOK_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Snapshots:
    """Makes the snapshots of one run, which begins when this is made."""

    config: Config
    plan: Plan
    loop: Loop
    parts: Parts
    shutdown: Shutdown
    steering: Steering
    health: Health
    source_clock: SourceClock
    _started: float = field(init=False, default_factory=time.time)
    _began: float = field(init=False)
    _redact: Callable[[str], str] = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.loop.clock()
        self._redact = Redactor(self.config.secrets()).redact

    def take(self) -> Snapshot:
        """The current state of the task. Called in the loop."""
        now, source = self.loop.clock(), self.source_clock
        filtered = self.config.scan_filter is not None
        problem = self.health.text or self.parts.sites.problem
        state, reason = self.shutdown.state(problem, complete=self.parts.complete)
        paused_at = self.steering.paused if self.shutdown.running else None
        if paused_at is not None:
            state, reason = "paused", self.steering.why_paused(reason)
        tables = tuple(
            self.parts.follow_phases.status(copy.number, copy.status(now, filtered=filtered))
            for copy in self.parts.copies
        )
        if state not in ("running", "degraded"):  # no copy ends while nothing is read
            tables = tuple(replace(table, pace=0.0, seconds_left=None) for table in tables)
        return Snapshot(
            id=self.config.id,
            sync_mode=self.config.sync_mode,
            state=state,
            started=self._started,
            seconds=now - self._began,
            tables=tables,
            processes=(
                ProcessStatus("supervisor", os.getpid()),
                *(worker.status() for worker in self.parts.pool.workers),
                *(process.status() for process in self.parts.writing),
            ),
            reason=self._redact(reason),
            notices=(
                *self.steering.notices(tables),
                *self.plan.warnings,
                *(NO_DATE,) * (self.plan.follows and not source.dated),
            ),
            time=time.time(),
            source_time=source.earliest(),
            margin=self.config.incr_margin,
            whole=self.plan.whole(self.config),
            saves=self.parts.checkpointer.saves,
            saved_at=self.parts.checkpointer.saved_at,
            paused_at=paused_at,
            gap=self.shutdown.gap,
            nodes=self.parts.sites.status(),
        )

    def look(self) -> Snapshot | None:
        """The current state of the task, for other threads; None if the loop does not answer."""
        found: Future[Snapshot] = Future()
        self.loop.post(lambda: found.set_result(self.take()))
        with contextlib.suppress(TimeoutError):
            return found.result(_LOOK_SECONDS)
        return None
