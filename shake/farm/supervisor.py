"""The supervisor: leases segments to workers, pages to writers, and keeps what is acknowledged.

It never touches item data. :meth:`Supervisor.run` is its whole life; every event ends in one of
the small handlers below.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shake.checkpoint.lease import Lease, LeaseLost, boot_clock
from shake.checkpoint.records import Progress, TableRecord, TableState
from shake.config import Config
from shake.errors import RunError, ShakeError
from shake.farm import messages
from shake.farm.budget import Budget
from shake.farm.copy import Phase, TableCopy
from shake.farm.diagnostics import Diagnostics
from shake.farm.loop import Loop
from shake.farm.pool import Worker, WorkerPool
from shake.farm.saver import Saver
from shake.farm.writers import TableWriter
from shake.plan import Action, Plan, capacity_rate
from shake.source.client import Endpoint
from shake.source.session import CredentialSource
from shake.status.snapshot import ProcessStatus, Snapshot

log = logging.getLogger("shake.farm")

#: Seconds between checkpoints of a copy that moves.
_SAVE_SECONDS = 1.0
#: Seconds between looks at credentials that refresh themselves.
_CREDENTIAL_SECONDS = 60.0
#: A task counts as degraded for so many seconds after its last repeated failure.
_DEGRADED_SECONDS = 30.0
#: Seconds that pages under way have to arrive when the task stops, and when it fails.
_DRAIN_SECONDS = 7.0
_FAIL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends: exit status, the line that says why, and until when it may take."""

    status: int
    line: str
    deadline: float


class Supervisor:
    """Runs a plan. ``show`` is called with a snapshot every ``refresh`` seconds."""

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
    ) -> None:
        self._config = config
        self._plan = plan
        self._credentials = credentials
        self._progress = progress
        self._lease = lease
        self._show = show
        self._refresh = refresh
        self._started = time.time()
        self._loop = loop = Loop()
        self._begun = now = loop.clock()
        self._ending: Ending | None = None
        self._trouble = (-_DEGRADED_SECONDS, "")
        self._numbers = itertools.count(1)  # of leases and pages
        self._copies = [
            TableCopy(
                number,
                table,
                Budget(config.qps_full, capacity_rate(config, table.table), now),
                now,
            )
            for number, table in enumerate(plan.tables)
        ]
        self._leases: dict[int, TableCopy] = {}
        self._writers: dict[int, TableWriter] = {}
        self._granting: set[int] = set()  # tables whose next grant has a timer
        self._held: list[tuple[TableCopy, messages.Write]] = []
        self._saving = False
        self._saver = Saver(lease, loop.clock, loop.post, trouble=self._worry, fatal=self.fail)
        self._pool = WorkerPool(
            loop,
            config,
            endpoint,
            credentials(),
            workers,
            handle=self._from_worker,
            lost=self._lost,
            fatal=self.fail,
        )
        self.diagnostics = Diagnostics(loop.post, self._ask_all)

    # ---- life

    def run(self) -> Ending:
        """Run to the end; tell how it went."""
        loop = self._loop
        loop.on_signals((signal.SIGTERM, signal.SIGINT), self._signalled)
        loop.every(_SAVE_SECONDS, self._tend)
        loop.every(self._refresh, lambda: self._show(self.snapshot()))
        if self._credentials.refreshable:
            loop.every(_CREDENTIAL_SECONDS, self._renew_credentials)
        self._saver.start()
        self._begin_tables()
        loop.run(self._over)
        ending = self._ending or self._finish()
        self._ending = ending
        self._pool.close()
        for writer in self._writers.values():
            writer.close()
        self._saver.close(timeout=1.0)
        self._show(self.snapshot())
        return ending

    def fail(self, error: ShakeError) -> None:
        """End the task for what no waiting cures."""
        # Whoever took the lease copies on: nothing of ours may follow.
        patience = 0.0 if isinstance(error, LeaseLost) else _FAIL_SECONDS
        self._end(error.exit_status, str(error), patience)

    def _signalled(self, number: int) -> None:
        if self._ending is not None:  # asked twice: at once
            patience = 0.0
            self._ending = None
        else:
            patience = _DRAIN_SECONDS
        name = signal.Signals(number).name
        self._end(0, f"stopped by {name}: what is copied is saved, start again to go on", patience)

    def _end(self, status: int, line: str, patience: float) -> None:
        if self._ending is None:
            self._ending = Ending(status, line, self._loop.clock() + patience)
            self._pool.drain()
            self._loop.later(patience, _nothing)

    def _over(self) -> bool:
        if self._ending is None:
            return all(copy.over for copy in self._copies)
        if self._loop.clock() >= self._ending.deadline:
            if self._ending.status == 0 and any(copy.flying for copy in self._copies):
                line = "stopped, but the target did not answer: what it acknowledged is saved"
                self._ending = Ending(1, line, self._ending.deadline)
            return True
        if not self._pool.idle or any(copy.flying for copy in self._copies):
            return False
        self._save()
        return not self._saving

    def _finish(self) -> Ending:
        broken = [copy.error for copy in self._copies if copy.error]
        return Ending(1 if broken else 0, "; ".join(broken), 0.0)

    # ---- tables

    def _begin_tables(self) -> None:
        """Begin as many tables as may be copied at once."""
        for copy in self._copies:
            if self._ending or len(self._writers) >= self._config.full_concurrency:
                return
            if copy.phase is Phase.WAITING:
                self._begin(copy)

    def _begin(self, copy: TableCopy) -> None:
        if copy.plan.action is Action.COMPLETE:
            self._enter(copy, Phase.DONE)
            return
        self._writers[copy.number] = TableWriter(
            self._loop,
            self._config,
            copy.plan,
            tuple(worker.arena for worker in self._pool.workers),
            handle=lambda message: self._from_writer(copy, message),
            fatal=self.fail,
        )
        match copy.record.state:
            case TableState.PREPARING:
                # Saved before anything is changed: a restart knows what was intended.
                self._save_table(copy.record, lambda: self._enter(copy, Phase.PREPARING))
            case TableState.COPYING:
                self._enter(copy, Phase.CLEANING)
            case TableState.INDEXING:
                self._enter(copy, Phase.INDEXING)

    def _enter(self, copy: TableCopy, phase: Phase) -> None:
        """Enter a phase and give the order that it consists of."""
        copy.enter(phase, self._loop.clock())
        writer = self._writers.get(copy.number)
        log.info("table %s: %s", copy.plan.table.name, phase.name.lower())
        match phase:
            case Phase.PREPARING if writer:
                writer.order(messages.Prepare(copy.record.fate, copy.record.backup))
            case Phase.CLEANING if writer:
                writer.order(messages.Forget(self._tails(copy, unfinished=True)))
            case Phase.COPYING:
                self._copied_or_lease(copy)
            case Phase.SETTLING if writer:
                writer.order(messages.Forget(self._tails(copy, unfinished=False)))
            case Phase.INDEXING if writer:
                writer.order(messages.BuildIndexes())
            case Phase.DONE | Phase.BROKEN:
                if writer:
                    writer.close()
                    del self._writers[copy.number]
                self._begin_tables()

    def _done(self, copy: TableCopy, done: messages.Done) -> None:
        """The writer has carried out the order of the table's phase."""
        match copy.phase:
            case Phase.PREPARING if self._config.sync_schema_only:
                self._advance(copy, TableState.INDEXING, Phase.INDEXING)
            case Phase.PREPARING:
                self._advance(copy, TableState.COPYING, Phase.COPYING)
            case Phase.CLEANING:
                self._enter(copy, Phase.COPYING)
            case Phase.SETTLING:
                self._advance(copy, TableState.INDEXING, Phase.INDEXING)
            case Phase.INDEXING if done.error:
                copy.error = done.error
                self._enter(copy, Phase.BROKEN)
            case Phase.INDEXING:
                self._advance(copy, TableState.DONE, Phase.DONE)

    def _advance(self, copy: TableCopy, state: TableState, phase: Phase) -> None:
        """Enter a phase once the table's new state is durable."""
        self._save_table(copy.record_as(state), lambda: self._enter(copy, phase))

    def _tails(self, copy: TableCopy, *, unfinished: bool) -> list[tuple[bytes, bytes]]:
        # With id.mode = key, and on DynamoDB, what is written twice is the same document.
        by_position = self._config.id_mode == "objectid" and self._config.target_type == "mongodb"
        return copy.tails(unfinished=unfinished) if by_position else []

    def _copied_or_lease(self, copy: TableCopy) -> None:
        if copy.copied:
            self._save()
            self._enter(copy, Phase.SETTLING)
        else:
            self._assign()

    # ---- leases and pages

    def _assign(self) -> None:
        """Lease segments to idle lanes, each time of the table that has the fewest lanes."""
        while self._ending is None and (idle := self._pool.idle_lane()):
            open_copies = [copy for copy in self._copies if copy.leasable]
            if not open_copies:
                return
            copy = min(open_copies, key=lambda copy: copy.leases)
            worker, lane = idle
            number = next(self._numbers)
            position = copy.lease(number)
            self._leases[number] = copy
            lease = messages.Lease(
                number,
                lane,
                copy.number,
                position.segment,
                position.last_key,
                position.documents,
            )
            self._pool.lease(worker, _open_table(copy), lease)

    def _from_worker(self, worker: Worker, message: Any) -> None:
        match message:
            case messages.Page():
                self._publish(worker, message)
            case messages.Idle(lane):
                lease, worker.lanes[lane] = worker.lanes[lane], None
                if lease is not None:
                    self._leases.pop(lease).end_lease(lease)
                self._assign()
            case messages.Want(table):
                copy = self._copies[table]
                copy.budget.want(worker.number)
                self._grant(copy)
            case messages.Retried():
                self._retried(self._copies[message.table], message)
            case messages.Ready():
                self._assign()
            case _:
                self._heard(message)

    def _publish(self, worker: Worker, page: messages.Page) -> None:
        copy = self._leases[page.lease]
        number = next(self._numbers)
        copy.publish(number, worker.number, page)
        if page.complete:
            copy.budget.used(page.capacity)
        if page.slot < 0:  # nothing to store
            self._acknowledge(copy, number)
        else:
            self._store(copy, messages.Write(number, worker.number, page.slot, page.length))

    def _store(self, copy: TableCopy, write: messages.Write) -> None:
        # A lease that could not be renewed may be another's by now.
        if self._lease.fresh(boot_clock()):
            self._writers[copy.number].write(write)
        else:
            self._held.append((copy, write))

    def _from_writer(self, copy: TableCopy, message: Any) -> None:
        match message:
            case messages.Wrote(page):
                self._acknowledge(copy, page)
            case messages.Done():
                self._done(copy, message)
            case messages.Retried():
                self._retried(copy, message)
            case messages.Ready():
                pass
            case _:
                self._heard(message)

    def _acknowledge(self, copy: TableCopy, number: int) -> None:
        page = copy.acknowledge(number, self._loop.clock())
        if page.slot >= 0:
            self._pool.workers[page.worker].free(page.slot)
        if copy.copied and copy.phase is Phase.COPYING and self._ending is None:
            self._copied_or_lease(copy)

    def _lost(self, worker: Worker, leases: list[int]) -> None:
        """A worker died: what it held is leased again, behind what it has published."""
        for lease in leases:
            self._leases.pop(lease).end_lease(lease)
        for copy in self._copies:
            copy.budget.drop(worker.number)
        self._assign()

    def _grant(self, copy: TableCopy) -> None:
        """Permit Scan calls as the table's budget allows, now and later."""
        now = self._loop.clock()
        for worker, calls in copy.budget.grants(now):
            self._pool.workers[worker].send(messages.Permit(copy.number, calls))
        if copy.budget.wanted and copy.number not in self._granting:
            self._granting.add(copy.number)
            self._loop.later(copy.budget.wait(now), lambda: self._grant_again(copy))

    def _grant_again(self, copy: TableCopy) -> None:
        self._granting.discard(copy.number)
        self._grant(copy)

    # ---- checkpoints

    def _tend(self) -> None:
        """Each second: save what has moved, and send on what waited for the lease."""
        self._save()
        held, self._held = self._held, []
        for copy, write in held:
            self._store(copy, write)

    def _save(self) -> None:
        """Save the segments that have moved; one save at a time."""
        if self._saving:
            return
        moved = [(copy.plan.table.name, copy.take_dirty()) for copy in self._copies]
        moved = [(table, records) for table, records in moved if records]
        if not moved:
            return
        self._saving = True

        def work() -> None:
            for table, records in moved:
                self._progress.save_segments(table, records)

        self._saver.submit(work, self._saved)

    def _saved(self) -> None:
        self._saving = False

    def _save_table(self, record: TableRecord, then: Callable[[], None]) -> None:
        self._saver.submit(lambda: self._progress.save_table(record), then)

    # ---- what is heard of

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
        log.debug("table %s: %s", copy.plan.table.name, retried.reason)
        if retried.tries >= self._config.source_session_max_retries:
            self._worry(f"table {copy.plan.table.name}: {retried.reason}")

    def _worry(self, text: str) -> None:
        """Something keeps failing: it is tried on, and the person should know."""
        since, known = self._trouble
        now = self._loop.clock()
        if text != known or now - since > _DEGRADED_SECONDS:
            log.warning("%s; it is tried again until it works", text)
        self._trouble = (now, text)

    def _renew_credentials(self) -> None:
        def fetch() -> None:
            credentials = self._credentials()
            self._loop.post(lambda: self._pool.renew_credentials(credentials))

        threading.Thread(target=fetch, name="credentials", daemon=True).start()

    def _ask_all(self) -> int:
        """Have every child send its diagnosis; return how many were asked."""
        self._pool.send_all(messages.Report())
        for writer in self._writers.values():
            writer.say(messages.Report())
        return len(self._pool.workers) + len(self._writers)

    # ---- what is shown

    def snapshot(self) -> Snapshot:
        """The task as it stands."""
        now = self._loop.clock()
        filtered = self._config.scan_filter is not None
        state, reason = self._state(now)
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
            reason=reason,
            notices=self._plan.warnings,
        )

    def _state(self, now: float) -> tuple[str, str]:
        if self._ending is not None:
            if self._ending.status:
                return "failed", self._ending.line
            done = all(copy.over for copy in self._copies)
            return "finished" if done else "stopping", self._ending.line
        since, reason = self._trouble
        if now - since < _DEGRADED_SECONDS:
            return "degraded", reason
        return "running", ""


def _open_table(copy: TableCopy) -> messages.OpenTable:
    table = copy.plan.table
    keys = [(key.name, key.type) for key in table.keys]
    return messages.OpenTable(
        copy.number, table.name, keys, copy.record.segments, copy.record.stamp
    )


def _nothing() -> None:
    """A timer that only wakes the loop."""
