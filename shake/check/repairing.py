"""The right to repair: the task lock, and numbers that make late writes of a repair harmless."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.records import repair_sessions
from shake.checkpoint.store import open_store
from shake.checkpoint.task_lock import TaskHeld, TaskLock
from shake.config import Config
from shake.errors import RefusedError
from shake.schema import Table
from shake.targets.contract import Fence, Target

log = logging.getLogger("shake.check")


class RepairRefused(RefusedError):
    """The target must not be repaired now."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """Begins the repair of each table; it is not allowed beside a run of the task."""

    _config: Config
    _checkpoints: Checkpoints
    _lock: TaskLock
    _target: Target

    def begin(self, table: Table, processes: int) -> Fence:
        """Begin with a table, which so many processes repair; return the fence of the first.

        The repair gets a number above those of all runs before it, and each process a session. The
        next run has a higher number, and ends these sessions before it applies a change: then the
        target refuses what a repair that has died sent before. A repair ends them first, too.
        """
        self._lock.check()
        record, _ = self._checkpoints.load(table.name)
        if record and not record.published:  # what is repaired before its turn is copied once more
            raise RepairRefused(
                f"table {table.name}: the copy is not complete (status {record.phase.value}), so "
                "there is nothing to repair yet: let shake-supervisor finish it"
            )
        namespace = self._config.namespace(table.name)
        if (found := self._target.find(namespace, table)) is None:
            raise RepairRefused(
                f"collection {namespace} is missing: it has gone since the check began"
            )
        repair = self._checkpoints.begin_repair(table.name, processes)
        self._lock.renew()  # who takes the task over from here on, reads that record
        fence = Fence(found.collection_uuid, repair.run)
        self._target.writer(namespace, table, fence).end_shards(repair_sessions(repair.sessions))
        return fence._replace(process=1)


@contextlib.contextmanager
def repairing(config: Config, target: Target) -> Iterator[Repairs]:
    """Hold the task lock, so that no supervisor runs the task meanwhile.

    Raises RepairRefused while one does; TaskLockLost, at the end, where one has begun since.
    """
    with contextlib.closing(open_store(config)) as store:
        try:
            lock = TaskLock.acquire(store, notice=log.warning)
        except TaskHeld as error:
            raise RepairRefused(
                f"{error.holder} runs this task, and would apply changes beside --repair: stop it "
                "first, repair, and start it again; or check without --repair"
            ) from error
        for weakness in target.weaknesses:
            log.warning("%s", weakness)
        with lock.held():
            yield Repairs(config, Checkpoints(store), lock, target)
            lock.renew()
