"""Saves how far a check is and what it has found, so that it goes on where it was interrupted."""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from shake.check.belonging import CheckRefused
from shake.check.findings import Difference
from shake.check.part import CheckConnections
from shake.check.plan import CheckPlan
from shake.check.state import CheckState
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.checks import CheckRecord, Checks, TableCheck
from shake.checkpoint.retrying import retried
from shake.checkpoint.store import open_store
from shake.checkpoint.stream_records import shard_document
from shake.checkpoint.task_lock import CHECK, TaskHeld, TaskLock
from shake.errors import RefusedError, SourceError
from shake.plan.origins import shaping_settings
from shake.schema import Table
from shake.stream.beginning import first_shards

log = logging.getLogger("shake.check")


class RecordedCheck:
    """The record of one table's check in the checkpoint store.

    ``state`` and ``differences`` are what it begins with, and ``over``: nothing is left to compare.
    ``since``: when an earlier process began this check, on the source's clock; 0 where this one
    does.
    """

    def __init__(
        self, table: str, checks: Checks, lock: TaskLock, progress: TableCheck, state: CheckState
    ) -> None:
        self.state = state
        self.differences: list[Difference] = []
        self.over = progress.over
        self.since = 0.0
        self._table = table
        self._checks = checks
        self._lock = lock
        self._progress = progress
        self._uncertain = False  # whether the last save may have happened or not
        # An interrupt of the main thread must not cut a save in two.
        self._writer = ThreadPoolExecutor(1, "recording")

    def save(self, state: CheckState, differences: list[Difference]) -> None:
        """Save a state, and differences that were found since the last one."""
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
        """The table is compared, with this verdict, at a time on the source's clock."""
        self._writer.submit(self._complete, verdict, finished).result()
        self._writer.shutdown(wait=False)

    @retried
    def _complete(self, verdict: str, finished: float) -> None:
        one = replace(self._progress, over=True, chunks=0)
        completed = replace(one, finished=finished, verdict=verdict)
        self._checks.complete(self._table, one, completed)


@dataclass(frozen=True, slots=True)
class Recording:
    """Begins the record of each table of the check of this name. ``eventual``: see CheckOptions."""

    opened: CheckConnections
    checks: Checks
    checkpoints: Checkpoints
    lock: TaskLock
    eventual: bool
    check: str = ""

    def begin(self, plan: CheckPlan) -> RecordedCheck:
        """Go on with what an interrupted check has left of a table, or begin with it."""
        name = plan.table.name
        saved = retried(self.checks.load_progress)(name)
        goes_on = saved is not None and saved.check == self.check
        if saved is None or not goes_on:
            basis, began, local = self.basis(plan.table), self.now(), time.time()
            stream, shards = self.positions(plan.table)
            saved = TableCheck(self.check, basis, began, stream, shards, local_began=local)
        differences = self.found(name, saved)
        state = CheckState(plan.segments)
        if saved.chunks:
            state = CheckState.of(retried(self.checks.load_state)(name, saved))
        progress = retried(self.checks.begin)(name, saved)
        record = RecordedCheck(name, self.checks, self.lock, progress, state)
        record.differences = differences
        record.since = saved.began if goes_on else 0.0
        return record

    @retried
    def found(self, table: str, record: TableCheck) -> list[Difference]:
        """What a check of a table has found."""
        return list(map(Difference.of_json, self.checks.load_findings(table, record)))

    @retried
    def done(self) -> None:
        """All tables are compared."""
        self.checks.save_check(CheckRecord(self.check, done=True))

    def basis(self, table: Table) -> str:
        """What the progress of a check depends on."""
        config = self.opened.config
        namespace = config.namespace(table.name)
        found = self.opened.target.seen(namespace, table)
        settings = config.as_settings()
        filters = [settings[key] for key in settings if key.startswith("full.read.filter")]
        return json.dumps(
            [
                shaping_settings(config),
                [settings["full.read.concurrency"], self.eventual, *filters],
                [namespace, found.collection_uuid if found else ""],
                [table.origin.arn, table.origin.table_id, table.origin.created],
            ],
            sort_keys=True,
        )

    @retried
    def positions(self, table: Table) -> tuple[str, tuple[str, ...]]:
        """A table's stream, "" without one, and where it is read for all changes from now on."""
        client, name = self.opened.client, table.name
        try:
            stream = client.find_stream(name)
            if stream.enabled:
                shards = first_shards(client.list_shards(stream.arn), client.clock.earliest())
                applied = self._applied(name, stream.arn)
                shards = [replace(one, sequence=applied.get(one.id, "")) for one in shards]
                return stream.arn, tuple(json.dumps(shard_document(one)) for one in shards)
            reason = "it has no stream"
        except SourceError as error:
            reason = str(error)
        log.info("table %s: --since will not be possible after this check: %s", name, reason)
        return "", ()

    def _applied(self, table: str, arn: str) -> dict[str, str]:
        """The last change that the task has applied of each shard, where it follows this stream.

        A check that begins now reads what these changes have made, unless its reads are eventual.
        """
        record, shards = self.checkpoints.load_stream(table)
        if record is None or record.arn != arn or self.eventual:
            return {}
        return {shard.id: shard.sequence for shard in shards}

    def interrupted(self, plans: list[CheckPlan]) -> str:
        """The check that was interrupted and can go on, "" where there is none."""
        last = self.checks.load_check()
        if last is None or last.done:
            return ""
        for plan in plans:
            saved = self.checks.load_progress(plan.table.name)
            if saved is None or saved.check != last.check:
                continue
            if saved.basis != self.basis(plan.table):
                log.warning(
                    "table %s: the configuration, the table or the collection is not the one that "
                    "the interrupted check began with: the check begins anew",
                    plan.table.name,
                )
                return ""
        return last.check

    def complete(
        self, table: str, last: TableCheck, done: TableCheck, differences: list[Difference]
    ) -> None:
        """Save that a check of what has changed since the ``last`` one is completed."""
        done = replace(done, check=uuid.uuid4().hex, findings=0)
        self._complete_since(table, last, done, [one.as_json() for one in differences])

    @retried
    def _complete_since(
        self, table: str, last: TableCheck, done: TableCheck, lines: list[str]
    ) -> None:
        self.lock.check()
        self.checks.complete_since(table, last, done, lines)

    def now(self) -> float:
        """The time on the source's clock, or an earlier one."""
        return self.opened.client.clock.earliest()


@contextlib.contextmanager
def recording(
    opened: CheckConnections, plans: list[CheckPlan], *, eventual: bool, anew: bool, since: bool
) -> Iterator[Recording | None]:
    """Hold the right to check this task; None where the checkpoint store takes no writes.

    ``since``: an interrupted check stays as it is. Raises CheckRefused while another check of the
    task runs.
    """
    config = opened.config
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
            raise CheckRefused(
                f"{error.holder} checks task {config.id} already: wait until it has ended"
            ) from error
        with lock.held():
            records = Recording(opened, Checks(store), Checkpoints(store), lock, eventual)
            records.checks.take_number([plan.table.name for plan in plans], lock.renew)
            check = "" if anew or since else records.interrupted(plans)
            if not check and not since:
                check = uuid.uuid4().hex
                records.checks.save_check(CheckRecord(check))
            yield replace(records, check=check)
