"""Decides that a table whose stream has lost changes is copied again, and makes that durable."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from shake.backoff import Backoff
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.stream_records import repair_sessions
from shake.checkpoint.task_lock import TaskLock
from shake.config import Config
from shake.errors import GapError, RefusedError, RunError, ShakeError, SourceError
from shake.plan.origins import another_table
from shake.plan.plan import Plan, TablePlan, count_segments
from shake.run.target_sessions import end_sessions
from shake.schema import Table
from shake.source.agreement import agreed
from shake.source.contract import Source
from shake.status.snapshot import Snapshot
from shake.stream import suspicion
from shake.targets.contract import LAST_PROCESS, Fence

log = logging.getLogger("shake")

#: Waits between two tries to go on. None of them is short, because each try starts a run.
_BACKOFF = Backoff(first=0.1, longest=10.0, least=1.0)


class Resync:
    """The gaps that one process has met; ``scanners``: segments that the farm reads at once."""

    def __init__(
        self, config: Config, scanners: int, checkpoints: Checkpoints, lock: TaskLock
    ) -> None:
        self._config = config
        self._scanners = scanners
        self._checkpoints = checkpoints
        self._lock = lock
        #: Tables that were copied anew and have not caught up since.
        self._behind: set[str] = set()
        #: Tries in a row that could not go on after a gap.
        self._tries = 0
        #: Whether a run of this process has begun, and has changed something.
        self.begun = False

    @contextlib.contextmanager
    def waiting_out_outages(self) -> Iterator[None]:
        """Once a run has begun, what passes is waited for, not raised."""
        try:
            yield
        except ShakeError as error:
            if not (self.begun and error.passes):
                raise
            log.warning("%s; retrying", error)
            self._tries += 1
            time.sleep(_BACKOFF.pause(self._tries))

    def look(self, snapshot: Snapshot) -> None:
        """Take note of the tables that have reached their consistent point."""
        self._tries = 0
        self._behind -= {table.name for table in snapshot.tables if table.consistent}

    def mark(self, gap: GapError, plan: Plan, source: Source) -> None:
        """Have the next plan copy the gap's table anew, by one write to its checkpoint.

        Does nothing where the source has again what it lacked. Raises GapError where the table must
        not be copied anew: by ``gap.policy``, where it is gone or cannot be read, or where its copy
        will not catch up. No other process is allowed to write meanwhile.
        """
        if self._config.gap_policy == "fail":
            raise gap
        if gap.table in self._behind:
            journal = (
                "" if self._config.incr_sync_parallel else "set incr_sync_parallel = true, or "
            )
            raise GapError(
                gap.table,
                f"{gap.what}, before it has caught up since it was copied again",
                f"where copying takes longer than the stream keeps changes (24 hours), {journal}"
                "copy faster: more workers, more source.read_budget",
            )
        [planned] = [table for table in plan.tables if table.table.name == gap.table]
        if not self._is_lost(gap, source):
            log.warning("table %s: nothing is lost: the source has it again", gap.table)
            return
        segments = self._segments(gap, planned, source)
        self._end_shards(planned)
        record = self._checkpoints.begin_anew(planned.record, segments, gap.what, self._lock.renew)
        self._behind.add(gap.table)
        log.warning(
            "table %s: changes are lost: %s; it is copied again%s, while other tables go on",
            gap.table,
            gap.what,
            f", and what {record.namespace} holds is DROPPED when the copy is complete"
            if record.on_existing == "resync"
            else "",
        )

    def _is_lost(self, gap: GapError, source: Source) -> bool:
        """Whether the source still says so, asked once more before anything is given up."""
        stream, _ = self._checkpoints.load_stream(gap.table)
        if stream is None or gap.question is None:
            return True
        return source.is_lost(gap.table, stream.arn, gap.question)

    def _end_shards(self, planned: TablePlan) -> None:
        """Changes of earlier runs that arrive late are not to land in the new collection."""
        name = planned.table.name
        record, shards = self._checkpoints.load_stream(name)
        identity = self._checkpoints.load_identity(name)
        if record is None or identity is None:
            return
        self._lock.renew()
        fence = Fence(identity.collection_uuid, record.run, LAST_PROCESS)
        sessions = [shard.id for shard in shards] + repair_sessions(record.repairs)
        end_sessions(self._config, planned, fence, sessions)

    def _segments(self, gap: GapError, planned: TablePlan, source: Source) -> int:
        """How many segments the table is read in now, which proves that it can be read.

        Raises RunError where it is another table.
        """
        try:
            table, holds_items = self._described(planned, source)
        except (SourceError, RefusedError) as error:
            raise GapError(
                gap.table,
                gap.what,
                f"it cannot be copied again, so the target is left as it is: {error}",
            ) from error
        if difference := planned.identity.origin.difference(table.origin):
            raise RunError(another_table(self._config, table.name, difference))
        return count_segments(self._config, table, self._scanners, holds_items=holds_items)

    def _described(self, planned: TablePlan, source: Source) -> tuple[Table, bool]:
        """The table, and whether it holds items; what would end the task is asked again."""
        name = planned.table.name

        def look() -> tuple[Table, bool] | SourceError | RefusedError:
            try:
                return source.describe(name), source.holds_items(name)
            except (SourceError, RefusedError) as error:
                return error

        def problem(found: tuple[Table, bool] | SourceError | RefusedError) -> str:
            if isinstance(found, ShakeError):
                return f"table {name}: {found}"
            difference = planned.identity.origin.difference(found[0].origin)
            return difference and f"table {name} seems to be another one: {difference}"

        found = agreed(source, look, problem, suspicion.LOSS, log.warning)
        if isinstance(found, ShakeError):
            raise found
        return found
