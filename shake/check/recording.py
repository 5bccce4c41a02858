"""Saves how far a check is and what it has found, so that it goes on where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from shake.check.findings import Difference
from shake.check.part import CheckConnections
from shake.check.plan import CheckPlan
from shake.check.state import CheckState
from shake.checkpoint.checks import CheckRecord, Checks, TableCheck
from shake.checkpoint.store import open_store
from shake.checkpoint.stream_records import shard_document
from shake.checkpoint.task_lock import CHECK, TaskHeld, TaskLock
from shake.config import Config
from shake.errors import RefusedError, SourceError
from shake.plan.origins import shaping_settings
from shake.schema import Table
from shake.status.figures import many, utc
from shake.stream.beginning import first_shards

log = logging.getLogger("shake.check")


class CheckHeld(RefusedError):
    """Another check of the task runs."""


class CheckRecordBase:
    """The record of one table's check; see state.StateStore. This base saves nothing.

    ``state`` and ``differences`` are what it begins with, ``line`` says so, and ``over`` that
    nothing is left to compare.
    """

    saved = False
    over = False
    #: When an earlier process began this check, on the source's clock; 0 where this one does.
    since = 0.0

    def __init__(self, state: CheckState) -> None:
        self.state = state
        self.differences: list[Difference] = []
        self.line = ""

    def save(self, state: CheckState, differences: list[Difference]) -> None:
        """See StateStore."""

    def complete(self, verdict: str, finished: float) -> None:
        """The table is compared, with this verdict, at a time on the source's clock."""


class RecordedCheck(CheckRecordBase):
    """A record that is in the checkpoint store."""

    saved = True

    def __init__(
        self, table: str, state: CheckState, checks: Checks, lock: TaskLock, progress: TableCheck
    ) -> None:
        super().__init__(state)
        self.over = progress.over
        self._table = table
        self._checks = checks
        self._lock = lock
        self._progress = progress
        self._uncertain = False  # whether the last save may have happened or not
        # An interrupt of the main thread must not cut a save in two.
        self._writer = ThreadPoolExecutor(1, "recording")

    def save(self, state: CheckState, differences: list[Difference]) -> None:
        self._writer.submit(self._save, state, differences).result()

    def _save(self, state: CheckState, differences: list[Difference]) -> None:
        lines = [one.as_json() for one in differences]
        self._lock.check()
        if self._uncertain:
            self._progress = self._checks.load_progress(self._table) or self._progress
        self._uncertain = True
        self._progress = self._checks.save(self._table, self._progress, state.packed(), lines)
        self._uncertain = False

    def complete(self, verdict: str, finished: float) -> None:
        self._writer.submit(self._complete, verdict, finished).result()
        self._writer.shutdown(wait=False)

    def _complete(self, verdict: str, finished: float) -> None:
        one = replace(self._progress, over=True, chunks=0)
        completed = replace(one, finished=finished, verdict=verdict)
        self._checks.complete(self._table, one, completed)


@dataclass(frozen=True, slots=True)
class Recording:
    """Begins the record of each table; ``check`` names this check. ``eventual``: see
    CheckOptions."""

    config: Config
    opened: CheckConnections
    checks: Checks
    lock: TaskLock
    check: str
    eventual: bool

    def begin(self, plan: CheckPlan) -> RecordedCheck:
        """Go on with what an interrupted check has left of a table, or begin with it."""
        name = plan.table.name
        saved = self.checks.load_progress(name)
        if saved and saved.check == self.check:
            return self._go_on(plan, saved)
        basis, began = self.basis(plan.table), self.now()
        stream, shards = self.positions(plan.table)
        progress = self.checks.begin(name, TableCheck(self.check, basis, began, stream, shards))
        return RecordedCheck(name, CheckState(plan.segments), self.checks, self.lock, progress)

    def _go_on(self, plan: CheckPlan, progress: TableCheck) -> RecordedCheck:
        name = plan.table.name
        lines = self.checks.load_findings(name, progress)
        state = CheckState(plan.segments)
        if progress.chunks:
            state = CheckState.of(self.checks.load_state(name, progress))
        progress = self.checks.begin(name, progress)
        record = RecordedCheck(name, state, self.checks, self.lock, progress)
        record.differences = list(map(Difference.of_json, lines))
        record.since = progress.began
        if not record.over:
            record.line = (
                f"table {name}: the check of {utc(progress.began)} goes on, after "
                f"{many(state.done.compared, 'item')} (--anew begins again)"
            )
        return record

    def done(self) -> None:
        """All tables are compared."""
        self.checks.save_check(CheckRecord(self.check, done=True))

    # ---- for a check of what has changed

    def last(self, table: Table) -> TableCheck | None:
        """The last completed check of a table."""
        return self.checks.load_completed(table.name)

    def found(self, table: Table, last: TableCheck) -> list[Difference]:
        """What that has found."""
        return list(map(Difference.of_json, self.checks.load_findings(table.name, last)))

    def basis(self, table: Table) -> str:
        """What a check of a table depends on."""
        return _basis(self.config, self.opened, table, self.eventual)

    def positions(self, table: Table) -> tuple[str, tuple[str, ...]]:
        """The table's stream, and where it is read from for all that changes from now on."""
        return _positions(self.opened, table.name)

    def complete(
        self, table: Table, last: TableCheck, done: TableCheck, differences: list[Difference]
    ) -> None:
        """Save that a check of what has changed since the ``last`` one is completed."""
        done = replace(done, check=uuid.uuid4().hex, run=self.checks.fresh_run(table.name))
        lines = [one.as_json() for one in differences]
        self.lock.check()
        self.checks.complete_since(table.name, last, done, lines)

    def now(self) -> float:
        """The time on the source's clock, or an earlier one."""
        return self.opened.client.clock.earliest()


@contextlib.contextmanager
def recording(
    config: Config,
    opened: CheckConnections,
    plans: list[CheckPlan],
    *,
    eventual: bool,
    anew: bool,
    since: bool,
) -> Iterator[Recording | None]:
    """Hold the right to check this task; None where the checkpoint store takes no writes.

    ``since``: an interrupted check stays as it is.

    Raises CheckHeld while another check of the task runs.
    """
    try:
        store = open_store(config)
    except RefusedError as error:
        log.warning("%s; the check goes on, and its progress is not saved", error)
        yield None
        return
    with contextlib.closing(store):
        try:
            lock = TaskLock.acquire(store, notice=log.info, name=CHECK)
        except TaskHeld as error:
            raise CheckHeld(
                f"{error.holder} checks task {config.id} already: wait until it has ended"
            ) from error
        with lock.held():
            checks = Checks(store)
            check = "" if anew or since else _interrupted(config, opened, checks, plans, eventual)
            if not check and not since:
                check = uuid.uuid4().hex
                checks.save_check(CheckRecord(check))
            yield Recording(config, opened, checks, lock, check, eventual)


def _interrupted(
    config: Config, opened: CheckConnections, checks: Checks, plans: list[CheckPlan], eventual: bool
) -> str:
    """The check that was interrupted and can go on, "" where there is none."""
    last = checks.load_check()
    if last is None or last.done:
        return ""
    for plan in plans:
        saved = checks.load_progress(plan.table.name)
        if saved is None or saved.check != last.check:
            continue
        if saved.basis != _basis(config, opened, plan.table, eventual):
            log.warning(
                "table %s: the configuration, the table or the collection is not the one that "
                "the interrupted check began with: the check begins anew",
                plan.table.name,
            )
            return ""
    return last.check


def _basis(config: Config, opened: CheckConnections, table: Table, eventual: bool) -> str:
    """What the progress of a check depends on."""
    namespace = config.namespace(table.name)
    found = opened.target.seen(namespace, table)
    settings = config.as_settings()
    filters = [settings[key] for key in settings if key.startswith("full.read.filter")]
    return json.dumps(
        [
            shaping_settings(config),
            [settings["full.read.concurrency"], eventual, *filters],
            [namespace, found.collection_uuid if found else ""],
            [table.origin.arn, table.origin.table_id, table.origin.created],
        ],
        sort_keys=True,
    )


def _positions(opened: CheckConnections, name: str) -> tuple[str, tuple[str, ...]]:
    """Where a table's stream is read from, for all that changes from now on; "" without one."""
    try:
        stream = opened.client.find_stream(name)
        if stream.enabled:
            shards = first_shards(
                opened.client.list_shards(stream.arn), opened.client.clock.earliest()
            )
            return stream.arn, tuple(json.dumps(shard_document(one)) for one in shards)
        reason = "it has no stream"
    except SourceError as error:
        reason = str(error)
    log.info("table %s: --since will not be possible after this check: %s", name, reason)
    return "", ()
