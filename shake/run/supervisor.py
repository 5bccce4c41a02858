"""The supervisor: the life of a run from start to exit, and what its parts report in between.

It never touches item data. :meth:`Supervisor.run` is its whole life.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from dataclasses import replace
from functools import partial

from shake.config import Redactor
from shake.control.commands import Command, GetStatus, Reply
from shake.copy.table import CopiedTable
from shake.errors import GapError, RunError, ShakeError
from shake.farm import worker_messages, writer_messages
from shake.farm.diagnostics import Diagnostics
from shake.farm.health import Health
from shake.farm.pool import Worker
from shake.farm.task import Phases
from shake.farm.writer import TableWriter
from shake.follow.table import FollowedTable
from shake.plan.plan import Action, Plan, TablePlan
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed, Log, Ready, Report, Silent
from shake.run.parts import Parts, RunOptions, RunResources
from shake.run.shutdown import Ending, Shutdown, keep_status
from shake.run.steering import Steering
from shake.source.clock import NO_DATE, Bounds
from shake.status.figures import total
from shake.status.kept import too_many_kept
from shake.status.readiness import claim, gate
from shake.status.snapshot import ProcessStatus, Snapshot
from shake.targets.contract import Location

log = logging.getLogger("shake.farm")

#: Seconds between checkpoints of a copy that moves.
_SAVE_SECONDS = 1.0
#: Seconds between looks at credentials that refresh themselves.
_CREDENTIAL_SECONDS = 10.0
#: Tables that are shown in a second.
_SHOWN_TABLES = 500
#: Seconds that another thread waits for the loop.
_LOOK_SECONDS = 1.0


class Supervisor:
    """Runs a plan; it is the Task of all its parts.

    Where ``until_consistent`` is set, the run ends when all tables are consistent: then every
    change made before the run started is applied.
    """

    def __init__(self, options: RunOptions, plan: Plan, resources: RunResources) -> None:
        self._config = config = options.config
        self._options = options
        self._plan = plan
        self._resources = resources
        self._redact = Redactor(config.secrets()).redact
        self._lock = resources.lock
        self._until = resources.lock.until
        self._started = time.time()
        self._loop = loop = Loop()
        self._began = loop.clock()
        self._shutdown = Shutdown(
            loop.clock,
            resyncs=config.gap_policy == "resync",
            until_consistent=options.until_consistent,
            drain=self._drain,
        )
        self._health = Health(loop.clock)
        self._parts = parts = Parts(options, plan, resources, loop, self)
        steered = resources.desk.steered
        self._steering = Steering(config, parts, self._shutdown, steered, self.snapshot)
        self.diagnostics = Diagnostics(loop.post, self._ask_all)

    # ---- life

    def run(self) -> Ending:
        """Run to the end; return how it ended."""
        gc.unfreeze()  # what an earlier run in this process has left
        gc.collect()
        # As in a child: each page is some small objects and no cycle.
        gc.freeze()
        gc.set_threshold(1_000_000)
        loop = self._loop
        loop.every(_SAVE_SECONDS, self._each_second)
        self._resources.desk.open(loop.post, self._obey)
        # A snapshot costs some 20 us a table: of many tables it is made less often.
        pause = max(self._options.refresh, len(self._parts.copies) / _SHOWN_TABLES)
        loop.every(pause, lambda: self._resources.screen.show(self.snapshot()))
        if self._resources.credentials.refreshable:
            loop.every(_CREDENTIAL_SECONDS, self._renew_credentials)
        signals = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it ignored
            signals.append(signal.SIGHUP)
        with loop.signals(signals, self._shutdown.signalled):
            self._parts.pool.start()
            self._parts.checkpointer.start()
            self._parts.follow_phases.start()
            self._parts.copy_phases.begin_tables()
            self._limit_kept()
            loop.run(self._over)
            self._resources.desk.close()
            self._end()
            while self._shutdown.ending.gap and not self._closed and loop.signalled is None:
                time.sleep(0.1)  # the resync must not begin before all of this run is closed
            if not self._shutdown.ending.gap:
                keep_status(self._shutdown.ending.status)
        if self._shutdown.ending.gap and loop.signalled is not None:
            self._shutdown.stop_instead(loop.signalled)  # a later signal raises an exception
            self._resources.screen.show(self.snapshot())
        elif loop.signalled is not None:
            self._shutdown.asked()
        return self._shutdown.ending

    def _end(self) -> None:
        """End all processes, and save what came since the last time."""
        parts = self._parts
        errors = "; ".join(copy.error for copy in parts.copies if copy.error)
        self._shutdown.end(errors if parts.copy_phases.over else "")
        for process in parts.writing:
            process.dismiss()
        parts.pool.close()
        for process in parts.writing:
            process.reap()
        parts.follow_phases.close()
        self._save()
        parts.checkpointer.close(timeout=1.0)
        self._resources.screen.show(self.snapshot())

    def _drain(self, patience: float) -> None:
        """Begin nothing more; check again at the deadline whether it is over."""
        self._parts.pool.drain()
        self._resources.screen.show(self.snapshot())
        self._loop.later(patience, _wake)

    def _over(self) -> bool:
        if self._shutdown.running:
            return self._complete
        if self._shutdown.late:
            if not (self._drained and self._parts.checkpointer.idle):
                self._shutdown.missed("the checkpoint store" if self._drained else "the target")
            return True
        if not self._drained:
            return False
        self._save()
        return self._parts.checkpointer.idle

    @property
    def _complete(self) -> bool:
        return self._parts.copy_phases.over and self._parts.follow_phases.over

    @property
    def _drained(self) -> bool:
        return self._parts.pool.ledger.drained

    @property
    def _closed(self) -> bool:
        return self._parts.follow_phases.closed and not self._parts.checkpointer.is_alive()

    def _save(self) -> None:
        self._parts.checkpointer.save_segments(self._parts.copies)
        self._parts.follow_phases.save()

    def _each_second(self) -> None:
        """Each second: save what has moved, and send on what waited for the task lock."""
        if self._parts.checkpointer.idle:
            self._save()
        self._parts.guard.release()
        if (until := self._lock.until) != self._until:
            self._until = until
            for process in self._parts.writing:
                process.send(writer_messages.WriteUntil(until))
        self._steering.tend()
        if self._ends_when_consistent and self._parts.follow_phases.active:
            self._parts.follow_phases.poll_quickly()

    @property
    def _ends_when_consistent(self) -> bool:
        return self._options.until_consistent or self._steering.finishing

    def _obey(self, command: Command) -> Reply:
        """Carry out a command, and show what it has changed."""
        reply = self._steering.obey(command)
        if not isinstance(command, GetStatus):
            self._resources.screen.show(self.snapshot())
        return reply

    def _renew_credentials(self) -> None:
        def fetch() -> None:
            credentials = self._resources.credentials()
            problem = self._resources.credentials.problem
            self._loop.post(lambda: self._parts.pool.renew_credentials(credentials))
            if problem:
                self._loop.post(lambda: self.retrying(problem))

        threading.Thread(target=fetch, name="credentials", daemon=True).start()

    # ---- as the Task: what goes wrong

    @property
    def draining(self) -> bool:
        return not self._shutdown.running

    def fail(self, error: ShakeError) -> None:
        """See Task. First renew the lock: if it is lost, that is the error which is reported."""
        if self._shutdown.running and not isinstance(error, GapError):
            self._parts.checkpointer.renew_lock_now()
        self._shutdown.fail(error)

    def retrying(self, text: str) -> None:
        self._health.failed_again(text)

    def doubt(self, text: str) -> None:
        self._health.doubt(text)

    # ---- as the Task: children

    def start_writer(self, table: int, run: int, staged: bool, phases: Phases) -> TableWriter:
        copy = self._parts.copies[table]
        return TableWriter(
            self._parts.process(alone=phases is self._parts.copy_phases),
            table,
            copy.plan,
            Location(copy.plan.namespace, copy.identity.collection_uuid),
            run,
            staged=staged,
            guard=self._parts.guard,
            ledger=self._parts.pool.ledger,
            report=partial(self._from_writer, table, phases),
            kept=bool(copy.kept.items),
        )

    def start_another_writer(self, first: TableWriter, number: int) -> TableWriter:
        return replace(first, process=self._parts.process(alone=True, number=number))

    def worker_died(self, worker: Worker) -> None:
        self._parts.copy_scheduler.worker_died(worker)
        self._parts.follow_scheduler.assign()

    def from_worker(self, worker: Worker, message: worker_messages.OfWorker) -> None:
        match message:
            case worker_messages.Want(table):
                self._parts.copy_scheduler.wanted(worker, table)
            case Bounds():
                self._parts.follow_phases.learn_time(message)
            case worker_messages.ReadRetried():
                self._read_retried(message)
            case worker_messages.Idle():
                self._parts.copy_scheduler.assign()
            case Ready():
                self._parts.copy_scheduler.assign()
                self._parts.follow_scheduler.assign()
            case _:
                self._from_child(message)

    def _from_writer(self, table: int, phases: Phases, message: writer_messages.OfWriter) -> None:
        copy = self._parts.copies[table]
        match message:
            case writer_messages.Done():
                phases.carried_out(table, message._replace(error=self._redact(message.error)))
            case writer_messages.Building(_, step, share):
                copy.index_step, copy.index_progress = step, share
            case writer_messages.Kept(_, tally, moment):
                if moment > copy.kept_at:  # the reports of several writers can come in any order
                    copy.kept, copy.kept_at = tally, moment
                    self._limit_kept()
            case writer_messages.WriteRetried(_, reason):
                copy.retries += 1
                log.debug("table %s: %s", copy.plan.table.name, reason)
                self.retrying(reason)  # without a table: a failing target fails all of them
            case Ready():
                pass
            case _:
                self._from_child(message)

    def _limit_kept(self) -> None:
        """End the task where more items are kept than is allowed."""
        tables = [copy for copy in self._parts.copies if copy.kept.items]
        kept, most = sum(copy.kept.items for copy in tables), self._config.bad_items_max
        if kept > most:
            self.fail(RunError(too_many_kept(kept, most, [one.plan.table.name for one in tables])))

    def _from_child(self, message: Log | Failed | Diagnosis | Silent) -> None:
        match message:
            case Log(level, logger, text):
                logging.getLogger(logger).log(level, "%s", text)
            case Failed(text, detail):
                log.debug("%s", detail)
                self.fail(RunError(text))
            case Diagnosis():
                self.diagnostics.add(message)
            case Silent(text, over=True):
                self._health.resolve(text)
            case Silent(text):
                self.doubt(text)

    def _read_retried(self, retried: worker_messages.ReadRetried) -> None:
        copy = self._parts.copies[retried.table]
        if retried.scan:
            self._parts.copy_scheduler.failed(copy, throttled=retried.throttled)
        copy.retries += 1
        copy.throttles += retried.throttled
        table = copy.plan.table.name
        log.debug("table %s: %s", table, retried.reason)
        if retried.tries >= self._config.source_session_max_retries:
            self.retrying(f"table {table}: {retried.reason}")

    def _ask_all(self) -> int:
        """Have every child send its diagnosis; return how many were asked."""
        self._parts.pool.send_all(Report())
        writing = self._parts.writing
        for process in writing:
            process.send(Report())
        alive = [worker for worker in self._parts.pool.workers if worker.child]
        return len(alive) + len(writing)

    # ---- as the Task: tables

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        self._parts.monitor.watcher.verify(plan, then)

    def all_stored(self, copy: CopiedTable) -> None:
        self._parts.copy_phases.all_stored(copy)

    def copied(self, copy: CopiedTable) -> None:
        if not copy.has_key_index:
            self._parts.follow_phases.give_up(copy.number)
        else:
            self._parts.follow_phases.begin(copy.number, indexes=copy.plan.action is Action.FOLLOW)
        if self._parts.copy_phases.over:
            if any(table.copies for table in self._plan.tables):
                self._resources.screen.copied()
            if not self._parts.follow_phases.over:
                self._parts.checkpointer.save_status("incr_sync")

    def indexed(self, table: int, done: writer_messages.Done) -> None:
        copy = self._parts.copies[table]
        copy.error = done.error
        self._parts.copy_phases.save_collection(copy, done.collection_uuid)

    def shards_changed(self, following: FollowedTable) -> None:
        self._parts.follow_scheduler.assign(following)

    def consistent(self) -> None:
        if self._ends_when_consistent and self._shutdown.running:
            snapshot = self.snapshot()
            self._shutdown.finish(f"{gate(snapshot, total(snapshot))}: {claim(snapshot)}")

    # ---- what is shown

    def snapshot(self) -> Snapshot:
        """The current state of the task."""
        now, source = self._loop.clock(), self._resources.watch.clock
        filtered = self._config.scan_filter is not None
        state, reason = self._shutdown.state(self._health.text, complete=self._complete)
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
        )

    def switching(self) -> None:
        """``/ready`` was asked, in another thread."""
        self._loop.post(self._parts.follow_phases.poll_quickly)

    def look(self) -> Snapshot | None:
        """The current state of the task, for other threads; None if the loop does not answer."""
        found: Future[Snapshot] = Future()
        self._loop.post(lambda: found.set_result(self.snapshot()))
        with contextlib.suppress(TimeoutError):
            return found.result(_LOOK_SECONDS)
        return None


def _wake() -> None:
    """Do nothing: the loop then checks whether it is over."""
