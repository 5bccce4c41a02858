"""The supervisor: connects loop, pool, copy, changes and checkpoints, from start to exit.

It never touches item data. :meth:`Supervisor.run` is its whole life.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, TimeoutError
from functools import partial

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.task_lock import TaskLock
from shake.clock import boot_clock
from shake.config import Config
from shake.copy.phases import CopyPhases
from shake.copy.scheduler import CopyScheduler
from shake.copy.table import CopiedTable
from shake.errors import GapError, RunError, ShakeError
from shake.farm import messages
from shake.farm.checkpointer import Checkpointer
from shake.farm.diagnostics import Diagnostics
from shake.farm.health import Health
from shake.farm.lock_guard import LockGuard
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writer import TableWriter, WriterProcess
from shake.follow.scheduler import FollowScheduler
from shake.follow.table import FollowedTable
from shake.limits import Budget
from shake.plan.plan import Action, Plan, capacity_rate
from shake.plan.positions import Position
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed, Log, Ready, Report, Silent
from shake.run.shutdown import Ending, Shutdown
from shake.source.client import Endpoint
from shake.source.clock import NO_DATE, Bounds
from shake.source.contract import Source
from shake.source.session import CredentialSource
from shake.status.figures import total
from shake.status.snapshot import ProcessStatus, Snapshot
from shake.status.switch import claim, gate
from shake.targets.contract import Held

log = logging.getLogger("shake.farm")

#: Shards that one worker reads at the same time at most: a shard is mostly waited for.
READERS = 16
#: Processes that apply changes at most: each takes some 20 MB. So 500 followed tables share them.
APPLIERS = 16
#: Seconds between checkpoints of a copy that moves.
_SAVE_SECONDS = 1.0
#: Seconds between looks at credentials that refresh themselves.
_CREDENTIAL_SECONDS = 60.0
#: Tables that are shown in a second.
_SHOWN_TABLES = 500
#: Seconds that another thread waits for the loop.
_LOOK_SECONDS = 1.0


class Supervisor:
    """Runs a plan.

    ``positions`` are those of the tables whose changes are followed, by name, ``watch`` a client
    for their streams; with ``until_consistent`` the run ends when all tables are consistent: then
    every change made before the run started is applied. ``copied`` is called when the full copy is
    complete, ``show`` with a snapshot every ``refresh`` seconds; ``redact`` takes secrets out of
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
        positions: Mapping[str, Position],
        watch: Source,
        until_consistent: bool,
        checkpoints: Checkpoints,
        lease: TaskLock,
        copied: Callable[[], None],
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
        self._lease = lease
        self._until = lease.until
        self._started = time.time()
        self._loop = loop = Loop()
        self._begun = now = loop.clock()
        self._shutdown = Shutdown(
            loop.clock, resyncs=config.gap_policy == "resync", drain=self._drain
        )
        self._trouble = Health(loop.clock)
        self._copies = _copies(config, plan, now)
        self._writers: dict[int, TableWriter] = {}
        self._fence = LockGuard(lambda: lease.fresh(boot_clock()))
        self._checkpointer = Checkpointer(
            checkpoints, lease, boot_clock, loop.post, trouble=self._trouble.worry, fatal=self.fail
        )
        followings = _followings(plan, positions, now)
        self._pool = WorkerPool(
            loop,
            config,
            endpoint,
            credentials(),
            min(workers, max(_workers_needed(config, plan), _readers_needed(config, followings))),
            READERS if followings else 0,
            handle=self._from_worker,
            lost=self._lost,
            fatal=self.fail,
        )
        self._source = watch.clock
        self._follow = FollowScheduler(
            config,
            loop,
            self._pool,
            followings,
            self._checkpointer,
            self._fence,
            watch,
            until_consistent=until_consistent,
            start_writer=self._start_applier,
            consistent=self._consistent,
            trouble=self._trouble.worry,
            doubtful=self._trouble.doubt,
            fatal=self.fail,
        )
        self._until_consistent = until_consistent
        self._copied = copied
        self._phases = CopyPhases(
            config,
            self._copies,
            self._writers,
            self._checkpointer,
            self._fence,
            clock=loop.clock,
            start_writer=self._start_copier,
            copying=lambda: self._dispatch.assign(),
            verify=self._follow.verify,
            done=self._table_done,
        )
        self._dispatch = CopyScheduler(
            loop,
            self._pool,
            self._copies,
            self._writers,
            self._fence,
            copied=self._phases.copied,
            fatal=self.fail,
        )
        self.diagnostics = Diagnostics(loop.post, self._ask_all)

    # ---- life

    def run(self) -> Ending:
        """Run to the end; tell how it went."""
        gc.unfreeze()  # what an earlier run in this process has left
        gc.collect()
        # As in a child: each page is some small objects and no cycle.
        gc.freeze()
        gc.set_threshold(1_000_000)
        loop = self._loop
        loop.every(_SAVE_SECONDS, self._tend)
        # A snapshot costs some 20 us a table: of many tables it is made less often.
        pause = max(self._refresh, len(self._copies) / _SHOWN_TABLES)
        loop.every(pause, lambda: self._show(self.snapshot()))
        if self._credentials.refreshable:
            loop.every(_CREDENTIAL_SECONDS, self._renew_credentials)
        signals = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it ignored
            signals.append(signal.SIGHUP)
        with loop.signals(signals, self._shutdown.signalled):
            self._pool.start()
            self._checkpointer.start()
            self._follow.start()
            self._phases.begin_tables()
            loop.run(self._over)
            errors = "; ".join(copy.error for copy in self._copies if copy.error)
            self._shutdown.end(errors if self._phases.over else "")
            self._pool.close()
            for process in self._writing:
                process.close()
            self._follow.close()
            self._save()  # what came since the last time
            self._checkpointer.close(timeout=1.0)
            self._show(self.snapshot())
            while self._shutdown.ending.gap and not self._closed and loop.signalled is None:
                time.sleep(0.1)  # nothing must be begun beside it
        if self._shutdown.ending.gap and loop.signalled is not None:
            self._shutdown.stop_instead(loop.signalled)  # from here on it is an exception again
            self._show(self.snapshot())
        return self._shutdown.ending

    def fail(self, error: ShakeError) -> None:
        """End the task for what no waiting cures. A run that lost the task says that instead."""
        if self._shutdown.running and not isinstance(error, GapError):
            self._checkpointer.prove()
        self._shutdown.fail(error)

    def _drain(self, patience: float) -> None:
        """Begin nothing more; look again whether it is over when the time is."""
        self._phases.drain()
        self._follow.drain()
        self._dispatch.drain()
        self._show(self.snapshot())
        self._loop.later(patience, _wake)

    def _over(self) -> bool:
        if self._shutdown.running:
            return self._complete
        if self._shutdown.late:
            if not (self._drained and self._checkpointer.idle):
                self._shutdown.missed("the checkpoint store" if self._drained else "the target")
            return True
        if not self._drained:
            return False
        self._save()
        return self._checkpointer.idle

    @property
    def _complete(self) -> bool:
        return self._phases.over and self._follow.over

    @property
    def _drained(self) -> bool:
        return self._dispatch.drained and self._follow.drained

    @property
    def _closed(self) -> bool:
        return self._follow.closed and not self._checkpointer.is_alive()

    def _save(self) -> None:
        self._checkpointer.save_segments(self._copies)
        self._follow.save()

    def _tend(self) -> None:
        """Each second: save what has moved, and send on what waited for the lease."""
        if self._checkpointer.idle:
            self._save()
        self._fence.release()
        if (until := self._lease.until) != self._until:
            self._until = until
            for process in self._writing:
                process.say(messages.WriteUntil(until))

    def _renew_credentials(self) -> None:
        def fetch() -> None:
            credentials = self._credentials()
            problem = self._credentials.problem
            self._loop.post(lambda: self._pool.renew_credentials(credentials))
            if problem:
                self._loop.post(lambda: self._trouble.worry(problem))

        threading.Thread(target=fetch, name="credentials", daemon=True).start()

    def _table_done(self, copy: CopiedTable) -> None:
        """A table is copied, or was before, or the target refused an index."""
        if not copy.keyed:
            self._follow.give_up(copy.number)
        else:
            self._follow.begin(copy.number, indexes=copy.plan.action is Action.FOLLOW)
        if self._phases.over:
            if any(table.copies for table in self._plan.tables):
                self._copied()
            if not self._follow.over:
                self._checkpointer.save_status("incr_sync")

    def _consistent(self) -> None:
        if self._until_consistent and self._shutdown.running:
            snapshot = self.snapshot()
            self._shutdown.settle(f"{gate(snapshot, total(snapshot))}: {claim(snapshot)}")

    # ---- children

    def _lost(self, worker: Worker, leases: list[int], shards: set[int]) -> None:
        self._dispatch.worker_died(worker, leases)
        self._follow.worker_died(worker, shards)

    def _start_copier(self, copy: CopiedTable) -> TableWriter:
        return TableWriter(
            self._new_process(),
            copy.number,
            copy.plan,
            Held(copy.plan.place, copy.identity.collection),
            copy.record.run,
            staged=copy.record.staged and not copy.record.published,
            handle=partial(self._from_writer, copy),
        )

    def _start_applier(self, following: FollowedTable) -> TableWriter:
        """Changes cost little, so tables share processes where there are many."""
        copy, processes = self._copies[following.number], self._follow.writers
        alone = len(processes) < APPLIERS
        return TableWriter(
            self._new_process() if alone else min(processes, key=lambda one: one.load),
            copy.number,
            copy.plan,
            Held(copy.plan.place, copy.identity.collection),
            following.record.run,
            staged=False,
            handle=partial(self._from_follower, following),
        )

    def _new_process(self) -> WriterProcess:
        return WriterProcess(
            self._loop,
            self._config,
            tuple(worker.arena for worker in self._pool.workers),
            until=lambda: self._lease.until,
            fatal=self.fail,
        )

    @property
    def _writing(self) -> list[WriterProcess]:
        """The processes that write to the target."""
        return [writer.process for writer in self._writers.values()] + self._follow.writers

    def _from_worker(self, worker: Worker, message: messages.FromWorker) -> None:
        match message:
            case messages.Page():
                self._dispatch.publish(worker, message)
            case messages.Idle(scanner):
                lease, worker.scanners[scanner] = worker.scanners[scanner], None
                if lease is not None:
                    self._dispatch.end_lease(lease)
            case (
                messages.Batch()
                | messages.Tip()
                | messages.ShardEnd()
                | messages.ShardGap()
                | messages.Journaled()
                | messages.JournalFull()
            ):
                self._follow.from_worker(worker, message)
            case messages.Want(table):
                self._dispatch.wanted(worker, table)
            case Bounds():
                self._follow.learn_time(message)
            case messages.Retried(table):
                if message.scan:
                    self._dispatch.failed(self._copies[table], throttled=message.throttled)
                self._retried(self._copies[table], message)
            case Ready():
                self._dispatch.assign()
                self._follow.assign()
            case _:
                self._heard(message)

    def _from_writer(self, copy: CopiedTable, message: messages.FromWriter) -> None:
        match message:
            case messages.Wrote(_, page):
                self._dispatch.stored(copy, page)
            case messages.Done(_, error):
                if self._shutdown.running:
                    self._phases.done(copy, message._replace(error=self._redact(error)))
            case messages.Retried():
                self._retried(copy, message)
                self._trouble.worry(message.reason)  # a target that fails fails all that is written
            case Ready() | messages.Applied():  # a copy applies no changes
                pass
            case _:
                self._heard(message)

    def _from_follower(self, following: FollowedTable, message: messages.FromWriter) -> None:
        """From the writer of a followed table."""
        copy = self._copies[following.number]
        match message:
            case messages.Done(_, error):
                copy.error = self._redact(error)
                self._phases.note(copy, message.collection)
                self._follow.from_writer(following, message._replace(error=copy.error))
            case messages.Applied():
                self._follow.from_writer(following, message)
            case _:
                self._from_writer(copy, message)

    def _heard(self, message: Log | Failed | Diagnosis | Silent) -> None:
        match message:
            case Log(level, logger, text):
                logging.getLogger(logger).log(level, "%s", text)
            case Failed(text, detail):
                log.debug("%s", detail)
                self.fail(RunError(text))
            case Diagnosis():
                self.diagnostics.add(message)
            case Silent(text, over=True):
                self._trouble.settle(text)
            case Silent(text):
                self._trouble.doubt(text)

    def _retried(self, copy: CopiedTable, retried: messages.Retried) -> None:
        copy.retries += 1
        copy.throttles += retried.throttled
        table = copy.plan.table.name
        log.debug("table %s: %s", table, retried.reason)
        if retried.tries >= self._config.source_session_max_retries:
            self._trouble.worry(f"table {table}: {retried.reason}")

    def _ask_all(self) -> int:
        """Have every child send its diagnosis; return how many were asked."""
        self._pool.send_all(Report())
        writing = self._writing
        for process in writing:
            process.say(Report())
        alive = [worker for worker in self._pool.workers if worker.child]
        return len(alive) + len(writing)

    # ---- what is shown

    def snapshot(self) -> Snapshot:
        """The current state of the task."""
        now, source = self._loop.clock(), self._source
        filtered = self._config.scan_filter is not None
        state, reason = self._shutdown.state(self._trouble.text, complete=self._complete)
        return Snapshot(
            id=self._config.id,
            sync_mode=self._config.sync_mode,
            state=state,
            started=self._started,
            seconds=now - self._begun,
            tables=tuple(
                self._follow.status(copy.number, copy.status(now, filtered=filtered))
                for copy in self._copies
            ),
            processes=(
                ProcessStatus("supervisor", os.getpid()),
                *(worker.status() for worker in self._pool.workers),
                *(process.status() for process in self._writing),
            ),
            reason=self._redact(reason),
            notices=self._plan.warnings + (NO_DATE,) * (self._plan.follows and not source.dated),
            time=time.time(),
            source_time=source.earliest(boot_clock()),
            margin=self._config.incr_margin,
            whole=self._plan.whole(self._config),
        )

    def switching(self) -> None:
        """Somebody asks whether one can switch, from another thread."""
        self._loop.post(self._follow.poll_quickly)

    def look(self) -> Snapshot | None:
        """The current state of the task, for other threads; None if the loop does not answer."""
        found: Future[Snapshot] = Future()
        self._loop.post(lambda: found.set_result(self.snapshot()))
        with contextlib.suppress(TimeoutError):
            return found.result(_LOOK_SECONDS)
        return None


def _copies(config: Config, plan: Plan, now: float) -> list[CopiedTable]:
    copies = []
    for number, table in enumerate(plan.tables):
        budget = Budget(config.qps_full, capacity_rate(config, table.table), now)
        copies.append(CopiedTable(number, table, budget, now))
    return copies


def _followings(plan: Plan, positions: Mapping[str, Position], now: float) -> list[FollowedTable]:
    return [
        FollowedTable(number, table, one.record, one.shards, now)
        for number, table in enumerate(plan.tables)
        if (one := positions.get(table.table.name))
    ]


def _workers_needed(config: Config, plan: Plan) -> int:
    """Workers that would have a segment to read if all segments were leased at once."""
    if config.sync_schema_only:
        return 0
    segments = sum(not record.done for table in plan.tables for record in table.segments)
    return math.ceil(segments / config.full_document_parser)


def _readers_needed(config: Config, followings: list[FollowedTable]) -> int:
    """Workers that would read all shards that may be read at once: they may split."""
    shards = config.increase_concurrency * len(followings)
    return math.ceil(shards / READERS)


def _wake() -> None:
    """A timer that only has the loop look whether it is over."""
