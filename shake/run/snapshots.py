"""Snapshots of a run: the current state of the task, for its loop and for other threads."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import Future, TimeoutError

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


class Snapshots:
    """Makes the snapshots of one run, which begins when this is made."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        loop: Loop,
        parts: Parts,
        shutdown: Shutdown,
        steering: Steering,
        health: Health,
        source_clock: SourceClock,
    ) -> None:
        self._config = config
        self._plan = plan
        self._loop = loop
        self._parts = parts
        self._shutdown = shutdown
        self._steering = steering
        self._health = health
        self._source_clock = source_clock
        self._redact = Redactor(config.secrets()).redact
        self._started = time.time()
        self._began = loop.clock()

    def take(self) -> Snapshot:
        """The current state of the task. Called in the loop."""
        now, source = self._loop.clock(), self._source_clock
        filtered = self._config.scan_filter is not None
        state, reason = self._shutdown.state(self._health.text, complete=self._parts.complete)
        paused_at = self._steering.paused if self._shutdown.running else None
        if paused_at is not None:
            state, reason = "paused", self._steering.why_paused(reason)
        tables = tuple(
            self._parts.follow_phases.status(copy.number, copy.status(now, filtered=filtered))
            for copy in self._parts.copies
        )
        return Snapshot(
            id=self._config.id,
            sync_mode=self._config.sync_mode,
            state=state,
            started=self._started,
            seconds=now - self._began,
            tables=tables,
            processes=(
                ProcessStatus("supervisor", os.getpid()),
                *(worker.status() for worker in self._parts.pool.workers),
                *(process.status() for process in self._parts.writing),
            ),
            reason=self._redact(reason),
            notices=(
                *self._steering.notices(tables),
                *self._plan.warnings,
                *(NO_DATE,) * (self._plan.follows and not source.dated),
            ),
            time=time.time(),
            source_time=source.earliest(),
            margin=self._config.incr_margin,
            whole=self._plan.whole(self._config),
            saves=self._parts.checkpointer.saves,
            saved_at=self._parts.checkpointer.saved_at,
            paused_at=paused_at,
            gap=self._shutdown.gap,
            nodes=self._parts.sites.status(),
        )

    def look(self) -> Snapshot | None:
        """The current state of the task, for other threads; None if the loop does not answer."""
        found: Future[Snapshot] = Future()
        self._loop.post(lambda: found.set_result(self.take()))
        with contextlib.suppress(TimeoutError):
            return found.result(_LOOK_SECONDS)
        return None
