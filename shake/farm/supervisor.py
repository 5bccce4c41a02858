"""The supervisor: brings loop, pool, dispatch, lifecycle and saver together, and ends them well.

It never touches item data. :meth:`Supervisor.run` is its whole life.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from shake.checkpoint.contract import Superseded
from shake.checkpoint.lease import Lease, boot_clock
from shake.checkpoint.records import Progress
from shake.config import Config
from shake.errors import RunError, ShakeError
from shake.farm import messages
from shake.farm.budget import Budget
from shake.farm.copy import TableCopy
from shake.farm.diagnostics import Diagnostics
from shake.farm.dispatch import Dispatch
from shake.farm.fence import Fence
from shake.farm.lifecycle import Lifecycle
from shake.farm.loop import Loop
from shake.farm.pool import Worker, WorkerPool
from shake.farm.saver import Saver
from shake.farm.trouble import Trouble
from shake.farm.writers import TableWriter
from shake.plan import Plan, capacity_rate
from shake.source.client import Endpoint
from shake.source.session import CredentialSource
from shake.status.snapshot import ProcessStatus, Snapshot

log = logging.getLogger("shake.farm")

#: Seconds between checkpoints of a copy that moves.
_SAVE_SECONDS = 1.0
#: Seconds between looks at credentials that refresh themselves.
_CREDENTIAL_SECONDS = 60.0
#: Seconds that pages under way have to arrive when the task stops, and when it fails. Where the
#: target hangs, saver, lease and driver take some more, and all is to be over within ten.
_DRAIN_SECONDS = 5.0
_FAIL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends: exit status, the line that says why, and until when it may take."""

    status: int
    line: str
    deadline: float


class Supervisor:
    """Runs a plan.

    ``show`` is called with a snapshot every ``refresh`` seconds; ``redact`` takes secrets out of
    what servers said.
    """

    def __init__(
        self,
        config: Config,
        plan: Plan,
        workers: int,
        *,
        endpoint: Endpoint,
        credentials: CredentialSource,
        progress: Progress,
        lease: Lease,
        show: Callable[[Snapshot], None],
        refresh: float,
        redact: Callable[[str], str],
    ) -> None:
        self._config = config
        self._plan = plan
        self._credentials = credentials
        self._show = show
        self._refresh = refresh
        self._redact = redact
        self._started = time.time()
        self._loop = loop = Loop()
        self._begun = now = loop.clock()
        self._ending: Ending | None = None
        self._ended = False
        self._trouble = Trouble(loop.clock)
        self._copies = [
            TableCopy(
                number,
                table,
                Budget(config.qps_full, capacity_rate(config, table.table), now),
                now,
            )
            for number, table in enumerate(plan.tables)
        ]
        self._writers: dict[int, TableWriter] = {}
        self._fence = Fence(lambda: lease.fresh(boot_clock()))
        self._saver = Saver(
            progress, lease, boot_clock, loop.post, trouble=self._trouble.worry, fatal=self.fail
        )
        self._pool = WorkerPool(
            loop,
            config,
            endpoint,
            credentials(),
            min(workers, _workers_needed(config, plan)),
            handle=self._from_worker,
            lost=lambda worker, leases: self._dispatch.worker_died(worker, leases),
            fatal=self.fail,
        )
        self._lifecycle = Lifecycle(
            config,
            self._copies,
            self._writers,
            self._saver,
            self._fence,
            clock=loop.clock,
            start_writer=self._start_writer,
            copying=lambda: self._dispatch.assign(),
        )
        self._dispatch = Dispatch(
            loop,
            self._pool,
            self._copies,
            self._writers,
            self._fence,
            copied=self._lifecycle.copied,
            fatal=self.fail,
        )
        self.diagnostics = Diagnostics(loop.post, self._ask_all)

    # ---- life

    def run(self) -> Ending:
        """Run to the end; tell how it went."""
        loop = self._loop
        loop.every(_SAVE_SECONDS, self._tend)
        loop.every(self._refresh, lambda: self._show(self.snapshot()))
        if self._credentials.refreshable:
            loop.every(_CREDENTIAL_SECONDS, self._renew_credentials)
        with loop.signals((signal.SIGTERM, signal.SIGINT), self._signalled):
            self._pool.start()
            self._saver.start()
            self._lifecycle.begin_tables()
            loop.run(self._over)
            self._ended = True
            ending = self._ending = self._ending or self._result()
            self._pool.close()
            for writer in self._writers.values():
                writer.close()
            self._saver.save_segments(self._copies)  # what came since the last save
            self._saver.close(timeout=1.0)
            self._show(self.snapshot())
        return ending

    def fail(self, error: ShakeError) -> None:
        """End the task for what no waiting cures."""
        # Whoever took the lease copies on: nothing of ours may follow.
        patience = 0.0 if isinstance(error, Superseded) else _FAIL_SECONDS
        self._end(error.exit_status, str(error), patience)

    def _signalled(self, number: int) -> None:
        if self._ending is not None:  # asked twice: at once
            self._ending = replace(self._ending, deadline=self._loop.clock())
            return
        name = signal.Signals(number).name
        self._end(
            0, f"stopped by {name}: what is copied is saved, start again to go on", _DRAIN_SECONDS
        )

    def _end(self, status: int, line: str, patience: float) -> None:
        if self._ending is None:
            self._ending = Ending(status, line, self._loop.clock() + patience)
            self._lifecycle.drain()
            self._dispatch.drain()
            self._loop.later(patience, _wake)

    def _over(self) -> bool:
        if self._ending is None:
            return self._lifecycle.over
        if self._loop.clock() >= self._ending.deadline:
            if self._ending.status == 0 and not (self._dispatch.drained and self._saver.idle):
                who = "the checkpoint store" if self._dispatch.drained else "the target"
                line = f"stopped, but {who} did not answer in time; start again to go on"
                self._ending = replace(self._ending, status=1, line=line)
            return True
        if not self._dispatch.drained:
            return False
        self._saver.save_segments(self._copies)
        return self._saver.idle

    def _result(self) -> Ending:
        errors = "; ".join(copy.error for copy in self._copies if copy.error)
        return Ending(1 if errors else 0, errors, self._loop.clock())

    def _tend(self) -> None:
        """Each second: save what has moved, and send on what waited for the lease."""
        if self._saver.idle:
            self._saver.save_segments(self._copies)
        self._fence.release()

    def _renew_credentials(self) -> None:
        def fetch() -> None:
            credentials = self._credentials()
            problem = self._credentials.problem
            self._loop.post(lambda: self._pool.renew_credentials(credentials))
            if problem:
                self._loop.post(lambda: self._trouble.worry(problem))

        threading.Thread(target=fetch, name="credentials", daemon=True).start()

    # ---- children

    def _start_writer(self, copy: TableCopy) -> TableWriter:
        return TableWriter(
            self._loop,
            self._config,
            copy.plan,
            tuple(worker.arena for worker in self._pool.workers),
            handle=lambda message: self._from_writer(copy, message),
            fatal=self.fail,
        )

    def _from_worker(self, worker: Worker, message: Any) -> None:
        match message:
            case messages.Page():
                self._dispatch.publish(worker, message)
            case messages.Idle(lane):
                lease, worker.lanes[lane] = worker.lanes[lane], None
                if lease is not None:
                    self._dispatch.end_lease(lease)
            case messages.Want(table):
                self._dispatch.wanted(worker, table)
            case messages.Retried(table):
                self._retried(self._copies[table], message)
            case messages.Ready():
                self._dispatch.assign()
            case _:
                self._heard(message)

    def _from_writer(self, copy: TableCopy, message: Any) -> None:
        match message:
            case messages.Wrote(page):
                self._dispatch.stored(copy, page)
            case messages.Done():
                if self._ending is None:
                    self._lifecycle.done(copy, self._redact(message.error))
            case messages.Retried():
                self._retried(copy, message)
                self._trouble.worry(message.reason)  # a target that fails fails all that is written
            case messages.Ready():
                pass
            case _:
                self._heard(message)

    def _heard(self, message: Any) -> None:
        match message:
            case messages.Log(level, logger, text):
                logging.getLogger(logger).log(level, "%s", text)
            case messages.Failed(text, detail):
                log.debug("%s", detail)
                self.fail(RunError(text))
            case messages.Diagnosis():
                self.diagnostics.add(message)

    def _retried(self, copy: TableCopy, retried: messages.Retried) -> None:
        copy.retries += 1
        copy.throttles += retried.throttled
        table = copy.plan.table.name
        log.debug("table %s: %s", table, retried.reason)
        if retried.tries >= self._config.source_session_max_retries:
            self._trouble.worry(f"table {table}: {retried.reason}")

    def _ask_all(self) -> int:
        """Have every child send its diagnosis; return how many were asked."""
        self._pool.send_all(messages.Report())
        for writer in self._writers.values():
            writer.say(messages.Report())
        alive = [worker for worker in self._pool.workers if worker.child]
        return len(alive) + len(self._writers)

    # ---- what is shown

    def snapshot(self) -> Snapshot:
        """The task as it stands."""
        now = self._loop.clock()
        filtered = self._config.scan_filter is not None
        state, reason = self._state()
        return Snapshot(
            id=self._config.id,
            sync_mode=self._config.sync_mode,
            state=state,
            started=self._started,
            seconds=now - self._begun,
            tables=tuple(copy.status(now, filtered=filtered) for copy in self._copies),
            processes=(
                ProcessStatus("supervisor", os.getpid()),
                *(worker.status() for worker in self._pool.workers),
                *(writer.status() for writer in self._writers.values()),
            ),
            reason=self._redact(reason),
            notices=self._plan.warnings,
        )

    def _state(self) -> tuple[str, str]:
        if self._ending is None:
            return "degraded" if self._trouble.text else "running", self._trouble.text
        if self._ending.status:
            return "failed", self._ending.line
        if self._lifecycle.over:
            return "finished", self._ending.line
        return "stopped" if self._ended else "stopping", self._ending.line


def _workers_needed(config: Config, plan: Plan) -> int:
    """Workers that would have a segment to read if all segments were leased at once."""
    if config.sync_schema_only:
        return 0
    segments = sum(not record.done for table in plan.tables for record in table.progress)
    return math.ceil(segments / config.full_document_parser)


def _wake() -> None:
    """A timer that only has the loop look whether it is over."""
