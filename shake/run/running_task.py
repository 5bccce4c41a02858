"""A running task: its parts, and what is done about what they report."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import replace
from functools import partial

from shake.checkpoint.kept import Tally
from shake.config import Redactor
from shake.errors import GapError, RunError, ShakeError
from shake.farm import worker_messages, writer_messages
from shake.farm.diagnostics import Diagnostics
from shake.farm.farm import Phases
from shake.farm.health import Health
from shake.farm.writer import WriterHandle
from shake.plan.plan import Action, Plan, TablePlan
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed, Log, Ready, Report, Silent
from shake.process.site import Site
from shake.run.fitness import Fitness, Kind
from shake.run.parts import Parts, RunOptions, RunResources
from shake.run.shutdown import Shutdown
from shake.run.steering import Steering
from shake.source.clock import NO_DATE, Bounds
from shake.status.figures import too_many_kept, total
from shake.status.readiness import applied_sentence, consistency
from shake.status.snapshot import ProcessStatus, Snapshot
from shake.targets.contract import Location

log = logging.getLogger("shake.farm")

#: Seconds that another thread waits for the loop.
_LOOK_SECONDS = 1.0


class RunningTask:
    """The TableTask of all parts of one run, which it builds."""

    def __init__(self, options: RunOptions, plan: Plan, resources: RunResources) -> None:
        self._config = config = options.config
        self._options = options
        self._plan = plan
        self._screen = resources.screen
        self._lock = resources.lock
        self._source_clock = resources.watch.clock
        self._redact = Redactor(config.secrets()).redact
        self.loop = loop = Loop()
        self._started, self._began = time.time(), loop.clock()
        self.shutdown = Shutdown(
            loop.clock,
            resyncs=config.gap_policy == "resync",
            until_consistent=options.until_consistent,
            drain=self._drain,
        )
        self._health = Health(loop.clock)
        self.parts = parts = Parts(options, plan, resources, loop, self)
        self.steering = Steering(config, parts, self.shutdown, resources.desk.steered)
        self.diagnostics = Diagnostics(loop.post, self._ask_all)
        self.fitness = Fitness(parts.pool, self, loop.clock, parts.copy_scheduler)

    def show(self) -> None:
        self._screen.show(self.snapshot())

    def snapshot(self) -> Snapshot:
        """The current state of the task. Called in the loop."""
        now, source = self.loop.clock(), self._source_clock
        filtered = self._config.scan_filter is not None
        problem = self._health.text or self.parts.sites.problem
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
        if state == "paused":
            tables = tuple(
                replace(one, rate=0.0, byte_rate=0.0, unit_rate=0.0, change_rate=0.0)
                for one in tables
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
                *(worker.status() for worker in self.parts.pool.workers),
                *(process.status() for process in self.parts.writing),
            ),
            reason=self._redact(reason),
            notices=(
                *self.steering.notices(tables),
                *self._plan.warnings,
                *(NO_DATE,) * (self._plan.follows and not source.dated),
            ),
            time=time.time(),
            source_time=source.earliest(),
            margin=self._config.incr_margin,
            whole=self._plan.whole(self._config),
            saves=self.parts.checkpointer.saves,
            saved_at=self.parts.checkpointer.saved_at,
            paused_at=paused_at,
            gap=self.shutdown.gap,
            nodes=self.parts.sites.status(),
        )

    def look(self) -> Snapshot | None:
        """The current state of the task, for other threads; None if the loop does not answer."""
        found: Future[Snapshot] = Future()
        self.loop.post(lambda: found.set_result(self.snapshot()))
        with contextlib.suppress(TimeoutError):
            return found.result(_LOOK_SECONDS)
        return None

    @property
    def ends_when_consistent(self) -> bool:
        return self._options.until_consistent or self.steering.finishing

    def _drain(self, grace_seconds: float) -> None:
        """Begin nothing more; check again at the deadline whether it is over."""
        self.parts.pool.drain()
        self.show()
        self.loop.later(grace_seconds, _wake)

    # ---- what goes wrong

    @property
    def draining(self) -> bool:
        return not self.shutdown.running

    def fail(self, error: ShakeError) -> None:
        """See Task. First renew the lock: if it is lost, that is the error which is reported."""
        if self.shutdown.running and not isinstance(error, GapError):
            self.parts.checkpointer.renew_lock_now()
        self.shutdown.fail(error)

    def fail_at(self, site: Site, error: RunError) -> None:
        if not self.give_up(site, str(error)):
            self.fail(error)

    def give_up(self, site: Site, why: str) -> bool:
        given_up = self.shutdown.running and self.parts.sites.set_aside(site, why)
        if given_up:
            self.parts.pool.abandon([site])
        return given_up

    def failing_at(self, site: Site, reason: str) -> None:
        self.fitness.failed(site, Kind.WRITES, reason)

    def retrying(self, text: str) -> None:
        self._health.failed_again(text)

    def uncertain(self, text: str) -> None:
        self._health.uncertain(text)

    # ---- children

    def start_writer(self, table: int, run: int, staged: bool, phases: Phases) -> WriterHandle:
        copy = self.parts.copies[table]
        return WriterHandle(
            self.parts.process(alone=phases is self.parts.copy_phases),
            table,
            copy.plan,
            Location(copy.plan.namespace, copy.identity.collection_uuid),
            run,
            staged=staged,
            guard=self.parts.guard,
            ledger=self.parts.pool.ledger,
            report=partial(self._from_writer, table, phases),
            kept=bool(copy.kept.items),
        )

    def start_another_writer(self, first: WriterHandle, number: int) -> WriterHandle:
        site = self.parts.pool.site_of(number, self.parts.copies[first.table].writers)
        return replace(first, process=self.parts.process(alone=True, number=number, site=site))

    def start_applier(self, first: WriterHandle, site: Site) -> WriterHandle:
        if first.process.site is site:
            return first
        return replace(first, process=self.parts.process(alone=False, site=site))

    @property
    def allowed_until(self) -> float:
        return self._lock.until

    @property
    def wants_sites(self) -> bool:
        return any(not (copy.copied or copy.over) for copy in self.parts.copies)

    def sites_changed(self, why: str, lost: Sequence[Site]) -> None:
        """End this run, so that the next one works at the sites that are there by now."""
        self.parts.pool.abandon(lost)
        if self.shutdown.running:
            log.warning("%s: all of them finish what they have read, and go on", why)
        self.shutdown.regroup(why)

    def worker_crashed(self, worker: int) -> None:
        self.parts.copy_scheduler.worker_crashed(worker)
        self.parts.follow_scheduler.assign()

    def from_worker(self, worker: int, message: worker_messages.OfWorker) -> None:
        match message:
            case worker_messages.Want(table):
                self.parts.copy_scheduler.wanted(worker, table)
            case Bounds():
                self.parts.follow_phases.learn_time(message)
            case worker_messages.ClockSetBack():
                self.parts.monitor.measure_time()
            case worker_messages.ReadRetried():
                self._read_retried(worker, message)
            case worker_messages.Idle():
                self.parts.copy_scheduler.assign()
            case Ready():
                self.parts.copy_scheduler.assign()
                self.parts.follow_scheduler.assign()
            case _:
                self._from_child(message)

    def _from_writer(self, table: int, phases: Phases, message: writer_messages.OfWriter) -> None:
        copy = self.parts.copies[table]
        match message:
            case writer_messages.Done():
                phases.carried_out(table, message._replace(error=self._redact(message.error)))
            case writer_messages.Building(_, step, share):
                copy.index_step, copy.index_progress = step, share
            case writer_messages.Kept(_, tally, _) if self._options.open_sites:
                # The writers of several machines have no common clock. So the store is asked, too:
                # the run can end before it answers.
                name = copy.plan.table.name
                self._kept(table, tally)
                self.parts.checkpointer.count_kept(name, partial(self._kept, table))
            case writer_messages.Kept(_, tally, moment):
                if moment > copy.kept_at:  # the reports of several writers can come in any order
                    copy.kept_at = moment
                    self._kept(table, tally)
            case writer_messages.WriteRetried(_, reason):
                copy.retries += 1
                log.debug("table %s: %s", copy.plan.table.name, reason)
                self.retrying(reason)  # without a table: a failing target fails all of them
            case Ready():
                pass
            case _:
                self._from_child(message)

    def _kept(self, table: int, tally: Tally) -> None:
        self.parts.copies[table].kept = tally
        self.limit_kept()

    def limit_kept(self) -> None:
        """End the task where more items are kept than is allowed."""
        tables = [copy for copy in self.parts.copies if copy.kept.items]
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
            case Silent(text, answers_again=True):
                self._health.resolve(text)
            case Silent(text):
                self.uncertain(text)

    def _read_retried(self, worker: int, retried: worker_messages.ReadRetried) -> None:
        copy = self.parts.copies[retried.table]
        site = self.parts.pool.workers[worker].site
        self.fitness.failed(site, Kind.READS, retried.reason, throttled=retried.throttled)
        if retried.scan:
            self.parts.copy_scheduler.failed(copy, throttled=retried.throttled)
        copy.retries += 1
        copy.throttles += retried.throttled
        table = copy.plan.table.name
        log.debug("table %s: %s", table, retried.reason)
        if retried.tries >= self._config.source_session_max_retries:
            self.retrying(f"table {table}: {retried.reason}")

    def _ask_all(self) -> int:
        """Have every child send its diagnosis; return how many were asked."""
        self.parts.pool.send_all(Report())
        writing = self.parts.writing
        for process in writing:
            process.send(Report())
        alive = [worker for worker in self.parts.pool.workers if worker.child]
        return len(alive) + len(writing)

    # ---- tables

    def verify(self, plan: TablePlan, then: Callable[[], None]) -> None:
        self.parts.monitor.watcher.verify(plan, then)

    def all_stored(self, table: int) -> None:
        self.parts.copy_phases.all_stored(self.parts.copies[table])

    def copied(self, table: int) -> None:
        copy = self.parts.copies[table]
        if not copy.has_key_index:
            self.parts.follow_phases.give_up(table)
        else:
            self.parts.follow_phases.begin(table, indexes=copy.plan.action is Action.FOLLOW)
        if self.parts.copy_phases.over:
            whole = all(copy.has_key_index for copy in self.parts.copies)
            if whole and any(table.copies for table in self._plan.tables):
                self._screen.copied()
            if not self.parts.follow_phases.over:
                self.parts.checkpointer.save_status("incr_sync")

    def indexed(self, table: int, done: writer_messages.Done) -> None:
        copy = self.parts.copies[table]
        copy.error = done.error
        if done.has_key_index:  # else a start would refuse the collection, and build no index
            self.parts.copy_phases.save_collection(copy, done.collection_uuid)

    def shards_changed(self, table: int) -> None:
        if followed := self.parts.followed_tables.get(table):
            self.parts.follow_scheduler.assign(followed)

    def consistent(self) -> None:
        """See Task. The lock is renewed, too: another run that has it can apply older changes."""
        if self.ends_when_consistent and self.shutdown.running:
            snapshot = self.snapshot()
            self.parts.checkpointer.renew_lock_now()
            self.shutdown.finish(
                f"{consistency(snapshot, total(snapshot))}: {applied_sentence(snapshot)}"
            )


def _wake() -> None:
    """Do nothing: the loop then checks whether it is over."""
