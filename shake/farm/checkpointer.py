"""The thread that writes all checkpoints while the farm runs, and renews the task lock."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Protocol

from shake.checkpoint.checkpoints import Checkpoints, SyncStatus
from shake.checkpoint.contract import StoreUnavailable, Superseded
from shake.checkpoint.identity import Identity
from shake.checkpoint.kept import Tally
from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.checkpoint.stream_records import AppliedRecord, StreamRecord
from shake.checkpoint.task_lock import INTERVAL, TaskLock
from shake.errors import RunError, ShakeError
from shake.farm.contract import Task

log = logging.getLogger("shake.farm")

_RETRY_SECONDS = 1.0

#: Tables that are saved at the same time: a write waits for a majority, perhaps on a far machine,
#: and a thousand are to be done within the seconds that a stop may take. A few need no threads.
_THREADS, _FEW = 16, 4

#: Writes in any order, and what then runs in the loop.
Save = tuple[Sequence[Callable[[], None]], Callable[[], None]]


class MovingSegments(Protocol):
    """A table whose segments move, as :class:`shake.copy.table.CopiedTable`."""

    @property
    def record(self) -> TableRecord: ...

    def acknowledged(self) -> list[SegmentRecord]: ...

    def take_dirty(self) -> list[SegmentRecord]: ...


class MovingShards(Protocol):
    """A table whose shards move, as :class:`shake.follow.table.FollowedTable`."""

    @property
    def record(self) -> StreamRecord: ...

    def take_altered(self) -> bool: ...

    def take_unsaved(self) -> list[dict[str, object]] | None: ...


def _nothing() -> None:
    """What runs after most saves."""


class Checkpointer(threading.Thread):
    """Saves what the loop gives it; retries each save while the store is unreachable.

    ``post`` runs a call in the loop.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        lock: TaskLock,
        clock: Callable[[], float],
        post: Callable[[Callable[[], None]], None],
        task: Task,
    ) -> None:
        super().__init__(name="checkpointer", daemon=True)
        self._checkpoints = checkpoints
        self._lock = lock
        self._clock = clock
        self._post = post
        self._task = task
        self._saves: queue.SimpleQueue[Save | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._written = 0  # of the saves that were given; touched in the thread only
        self._given = 0  # touched in the loop only, as the next three are
        self._saving = 0
        self.saves = 0
        self.saved_at = 0.0  # Unix seconds
        self._renewal = -math.inf  # at once: the store might have been unreachable until now

    @property
    def idle(self) -> bool:
        """All that was given to it, and that a stop waits for, is durable."""
        return self._saving == 0

    def save_table(self, record: TableRecord, then: Callable[[], None]) -> None:
        """Save a table's state; once it is durable, ``then`` runs in the loop."""
        self._give([partial(self._checkpoints.save_table, record)], then)

    def save_identity(self, record: TableRecord, old: Identity, new: Identity) -> None:
        """Save which collection a table is stored in, in the place of what was saved of that."""
        save = self._checkpoints.save_identity
        self._put(partial(save, record.table, old, new, record.generation))

    def save_run(self, copy: MovingSegments, then: Callable[[], None]) -> None:
        """Save all of a table's checkpoint as this run: no earlier run can alter it then."""
        record, segments = copy.record, copy.acknowledged()
        first = partial(self._checkpoints.begin_table, record)
        later = partial(self._checkpoints.begin_run, record, segments)
        self._give([later if record.run else first], then)

    def save_segments(self, copies: Sequence[MovingSegments]) -> None:
        """Save the segments that have moved since the last call."""
        save = self._checkpoints.save_segments
        taken = [(one.record, one.take_dirty()) for one in copies]
        self._put(*(partial(save, record, moved) for record, moved in taken if moved))

    def save_shards(self, tables: Sequence[MovingShards], then: Callable[[], None]) -> None:
        """Save the shards that have moved since the last call; then ``then`` runs in the loop.

        What a record says of changes that are left out is saved before the positions behind them.
        """
        save = self._checkpoints.save_stream
        self._put(*(partial(save, one.record, ()) for one in tables if one.take_altered()))
        taken = [(one.record, one.take_unsaved()) for one in tables]
        saves = [
            partial(self._checkpoints.save_shards, record, moved)
            for record, moved in taken
            if moved is not None
        ]
        self._put(*saves, then=then)

    def save_status(self, status: SyncStatus) -> None:
        """Save which sync the task is in."""
        self._put(partial(self._checkpoints.set_status, status))

    def save_applied(self, record: AppliedRecord) -> None:
        """Save how far changes are applied, unless saves of more importance are not done yet."""
        if self.idle:
            self._put(partial(self._checkpoints.save_applied, record))

    def renew_lock_now(self) -> None:
        """Renew the lock: where another run has the task, that ends this one, and says why."""
        self._put(self._lock.renew)

    def count_kept(self, table: str, then: Callable[[Tally], None]) -> None:
        """Count the kept items of a table; ``then`` gets that in the loop, before later saves."""
        counted: list[Tally] = []

        def count() -> None:
            counted.append(self._checkpoints.kept(table).tally)

        self._put(count, then=lambda: then(counted[-1]))

    def delete_shards(self, record: StreamRecord, shards: list[str]) -> None:
        """Delete the documents of shards that are no longer needed."""
        if shards:
            self._put(partial(self._checkpoints.delete_shards, record, shards))

    def _put(self, *works: Callable[[], None], then: Callable[[], None] = _nothing) -> None:
        """A save that a stop waits for, if there is something to do."""

        def saved() -> None:
            self._saving -= 1
            self.saves, self.saved_at = self.saves + 1, time.time()
            then()

        if works:
            self._saving += 1
            self._give(works, saved)

    def _give(self, works: Sequence[Callable[[], None]], then: Callable[[], None]) -> None:
        self._given += 1
        self._saves.put((works, then))

    def close(self, timeout: float) -> bool:
        """Stop after the saves at hand, or when ``timeout`` seconds are over.

        Return whether all that was given is durable; a renewal of the lock can still hang.
        """
        self._saves.put(None)
        self.join(timeout)
        self._closing.set()
        return self._written == self._given

    def run(self) -> None:
        try:
            self._serve()
        except ShakeError as error:
            self._post(partial(self._task.fail, self._cause(error)))
        except Exception as error:  # without checkpoints the task must not go on
            log.debug("the checkpointer", exc_info=True)
            text = f"checkpoints cannot be saved: unexpected {type(error).__name__}: {error}"
            self._post(partial(self._task.fail, RunError(text)))

    def _cause(self, error: ShakeError) -> ShakeError:
        """The loss of the lock, which says who has it, for what a later run refused."""
        if isinstance(error, Superseded):
            try:
                self._lock.renew()
            except ShakeError as lost:
                return lost if isinstance(lost, Superseded) else error
        return error

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._renew()
            try:
                save = self._saves.get(timeout=max(0.0, self._renewal - self._clock()))
            except queue.Empty:
                continue
            if save is None:
                return
            works, then = save
            if self._write_all(works):
                self._written += 1
                self._post(then)

    def _write_all(self, works: Sequence[Callable[[], None]]) -> bool:
        if len(works) <= _FEW:
            return all(map(self._run_retrying, works))
        with ThreadPool(min(len(works), _THREADS)) as threads:
            return all(threads.imap_unordered(self._write_one, works))  # to its first error

    def _write_one(self, work: Callable[[], None]) -> bool:
        self._renew()  # all of them together may take longer than the lock lasts
        return self._run_retrying(work)

    def _renew(self) -> None:
        if self._clock() >= self._renewal:
            self._run_retrying(self._lock.renew)
            self._renewal = self._clock() + INTERVAL

    def _run_retrying(self, work: Callable[[], None]) -> bool:
        """Whether it is done: False only when the checkpointer was closed meanwhile."""
        while not self._closing.is_set():
            try:
                work()
                return True
            except StoreUnavailable as error:
                self._post(partial(self._task.retrying, str(error)))
                self._closing.wait(_RETRY_SECONDS)
        return False
