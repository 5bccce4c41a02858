"""The saver: the one thread that writes checkpoints, in order, and keeps the lease on the task."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

from shake.checkpoint.contract import StoreUnavailable
from shake.checkpoint.lease import INTERVAL, Lease
from shake.checkpoint.progress import Progress, SyncStatus
from shake.checkpoint.records import StreamRecord, TableRecord
from shake.errors import RunError, ShakeError
from shake.farm.copy import TableCopy
from shake.farm.following import Following

log = logging.getLogger("shake.farm")

_RETRY_SECONDS = 1.0

Job = tuple[Callable[[], None], Callable[[], None]]


class Saver(threading.Thread):
    """Saves what the loop gives it; each save is tried for as long as the store is out of reach.

    ``post`` has a call run in the loop; ``trouble`` (in the loop) hears each failed try, ``fatal``
    an error that ends the task, such as a lost lease.
    """

    def __init__(
        self,
        progress: Progress,
        lease: Lease,
        clock: Callable[[], float],
        post: Callable[[Callable[[], None]], None],
        trouble: Callable[[str], None],
        fatal: Callable[[ShakeError], None],
    ) -> None:
        super().__init__(name="saver", daemon=True)
        self._progress = progress
        self._lease = lease
        self._clock = clock
        self._post = post
        self._trouble = trouble
        self._fatal = fatal
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._saving = 0  # touched in the loop only

    @property
    def idle(self) -> bool:
        """All segments that were given are durable."""
        return self._saving == 0

    def save_table(self, record: TableRecord, then: Callable[[], None]) -> None:
        """Save a table's state; once it is durable, ``then`` runs in the loop."""
        self._jobs.put((lambda: self._progress.save_table(record), then))

    def save_run(self, copy: TableCopy, then: Callable[[], None]) -> None:
        """Put a run's number on all of a table's checkpoint, so that no earlier one can alter it.

        The table's own document comes last: only then has the run begun.
        """
        record, segments = copy.record, copy.stored()

        def work() -> None:
            self._progress.save_segments(record, segments)
            self._progress.save_table(record)

        first = partial(self._progress.begin_table, record)
        self._jobs.put((work if record.run else first, then))

    def save_segments(self, copies: Sequence[TableCopy]) -> None:
        """Save the segments that have moved since the last call."""
        moved = [(copy.record, copy.take_dirty()) for copy in copies if copy.dirty]
        if not moved:
            return

        def work() -> None:
            for record, segments in moved:
                self._progress.save_segments(record, segments)

        self._saving += 1
        self._jobs.put((work, self._saved))

    def save_shards(self, followings: Sequence[Following], then: Callable[[], None]) -> None:
        """Save the shards that have moved since the last call; then ``then`` runs in the loop."""
        moved = [(one.record, one.take_dirty()) for one in followings if one.dirty]
        if not moved:
            return

        def work() -> None:
            for record, documents in moved:
                self._progress.save_shards(record, documents)

        def saved() -> None:
            self._saved()
            then()

        self._saving += 1
        self._jobs.put((work, saved))

    def save_status(self, status: SyncStatus) -> None:
        """Save which sync the task is in."""
        self._saving += 1
        self._jobs.put((lambda: self._progress.set_status(status), self._saved))

    def forget_shards(self, record: StreamRecord, shards: list[str]) -> None:
        """Delete the documents of shards that nobody asks for any more."""
        if shards:
            self._saving += 1
            self._jobs.put((lambda: self._progress.forget_shards(record, shards), self._saved))

    def _saved(self) -> None:
        self._saving -= 1

    def close(self, timeout: float) -> None:
        """Stop after the jobs at hand, or when ``timeout`` seconds are over."""
        self._jobs.put(None)
        self.join(timeout)
        self._closing.set()

    def run(self) -> None:
        try:
            self._serve()
        except ShakeError as error:
            self._post(partial(self._fatal, error))
        except Exception as error:  # who saves nothing must not let the task run on
            log.debug("the saver", exc_info=True)
            text = f"checkpoints cannot be saved: unexpected {type(error).__name__}: {error}"
            self._post(partial(self._fatal, RunError(text)))

    def _serve(self) -> None:
        renewal = self._clock()  # at once: planning may have taken longer than a lease lasts
        while not self._closing.is_set():
            if self._clock() >= renewal:
                self._insist(self._lease.renew)
                renewal = self._clock() + INTERVAL
            try:
                job = self._jobs.get(timeout=max(0.0, renewal - self._clock()))
            except queue.Empty:
                continue
            if job is None:
                return
            work, then = job
            if self._insist(work):
                self._post(then)

    def _insist(self, work: Callable[[], None]) -> bool:
        """Whether it is done: False only when the saver was closed meanwhile."""
        while not self._closing.is_set():
            try:
                work()
                return True
            except StoreUnavailable as error:
                self._post(partial(self._trouble, str(error)))
                self._closing.wait(_RETRY_SECONDS)
        return False
