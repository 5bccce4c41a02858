"""The right to repair: the task lock, and numbers that make late writes of a repair harmless."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shake.check.belonging import CheckRefused
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.checks import Checks
from shake.checkpoint.holder import Holder, Life
from shake.checkpoint.identity import Identity
from shake.checkpoint.kept import KeptItems
from shake.checkpoint.records import TableRecord
from shake.checkpoint.store import Store, open_store
from shake.checkpoint.stream_records import repair_sessions
from shake.checkpoint.task_lock import TaskHeld, TaskLock
from shake.config import Config
from shake.config.secrets import hosts
from shake.plan.warnings import several_users
from shake.schema import Table
from shake.status.figures import utc
from shake.targets.contract import Fence, Target

log = logging.getLogger("shake.check")


@dataclass(frozen=True, slots=True)
class Repairs:
    """Begins the repair of each table; it is not allowed beside a run of the task."""

    _config: Config
    _checkpoints: Checkpoints
    _lock: TaskLock
    _target: Target

    def begin(self, table: Table, processes: int) -> Fence:
        """Begin with a table, which so many processes repair; return the fence of the first.

        The repair has a number above those of all runs before it, and each process a session. The
        next run has a higher number, and ends these sessions before it applies a change: then the
        target refuses what an earlier repair sent. A repair ends them first, too.
        """
        record, _ = self._checkpoints.load(table.name)
        if record and not record.published:  # what is repaired before its turn is copied once more
            raise CheckRefused(
                f"table {table.name}: the copy is not complete (status {record.phase.value}), so "
                "there is nothing to repair yet: let shake run finish it"
            )
        namespace = self._config.namespace(table.name)
        if (found := self._target.find(namespace, table)) is None:
            raise CheckRefused(
                f"collection {namespace} is missing: it has gone since the check began"
            )
        self._save_user(table.name, record)
        repair = self._checkpoints.begin_repair(table.name, processes)
        self._lock.renew()  # who takes the task over from here on, reads that record
        fence = Fence(found.collection_uuid, repair.run)
        self._target.writer(namespace, table, fence).end_shards(repair_sessions(repair.sessions))
        return fence._replace(process=1)

    def _save_user(self, table: str, record: TableRecord | None) -> None:
        """Save as whom the repair changes the table; warn if the task has done so as another."""
        saved = self._checkpoints.load_identity(table)
        known = saved or Identity(server=hosts(self._config.target_address))
        if (identity := known.used_by(self._target.user)) != saved:
            generation = record.generation if record else ""
            self._checkpoints.save_identity(table, saved, identity, generation)
        if len(identity.users) > 1:
            log.warning("%s", several_users([table]))

    def kept(self, table: Table) -> KeptItems:
        """The items of a table that could not be stored."""
        return self._checkpoints.kept(table.name, writes=True)


def refuse_early(config: Config, after_cutover: bool) -> None:
    """Raise what :func:`repairing` would raise, as far as reading alone can find it out."""
    with contextlib.closing(open_store(config)) as store:
        holder, life = TaskLock.holder(store)
        if holder and life is Life.ALIVE:
            raise _beside(holder)
        _verify_no_cutover(store, after_cutover)


def _beside(holder: Holder) -> CheckRefused:
    return CheckRefused(
        f"{holder} runs this task, and would apply changes beside --repair: stop it "
        "first, repair, and start it again; or check without --repair"
    )


def _verify_no_cutover(store: Store, after_cutover: bool) -> None:
    last = Checkpoints(store).load_summary()
    if last and last.finished_by_cutover and not after_cutover:
        raise CheckRefused(
            f"the last run of this task was finished at {utc(last.at)}, by "
            "--until-consistent or finish. Since then users can have written to the "
            "target, and --repair would put the source's content over theirs. If nothing "
            "writes there yet, add --after-cutover"
        )


@contextlib.contextmanager
def repairing(
    config: Config, target: Target, tables: Iterable[Table], after_cutover: bool
) -> Iterator[Repairs]:
    """Hold the task lock, so that no supervisor runs the task meanwhile. Take a number for tables.

    A check that was interrupted begins anew then: what it has found is repaired.

    Raises CheckRefused while one does and, but ``after_cutover``, where the last run was the
    cutover: the target can have newer content since. Raises TaskLockLost, at the end, where one has
    begun since.
    """
    with contextlib.closing(open_store(config)) as store:
        try:
            lock = TaskLock.acquire(store, notice=log.warning)
        except TaskHeld as error:
            raise _beside(error.holder) from error
        for weakness in target.weaknesses:
            log.warning("%s", weakness)
        with lock.held():
            _verify_no_cutover(store, after_cutover)
            checkpoints = Checkpoints(store)
            checkpoints.take_number([table.name for table in tables], lock.renew)
            Checks(store).end_interrupted()
            yield Repairs(config, checkpoints, lock, target)
            lock.renew()
