"""Leases segments to scanners, sends their pages to the writers, and frees slots when stored."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from shake.copy.table import CopiedTable
from shake.errors import RunError, ShakeError
from shake.farm import messages
from shake.farm.lock_guard import LockGuard
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writer import TableWriter
from shake.process.child import MOST_DEATHS
from shake.process.loop import Loop


class CopyScheduler:
    """The traffic of the farm. It holds no item data, only which slot holds what.

    ``writers`` are the running writers by table number; ``copied`` is called when a table's last
    page is stored, ``fatal`` when a segment cannot be read without killing its worker.
    """

    def __init__(
        self,
        loop: Loop,
        pool: WorkerPool,
        copies: list[CopiedTable],
        writers: dict[int, TableWriter],
        fence: LockGuard,
        *,
        copied: Callable[[CopiedTable], None],
        fatal: Callable[[ShakeError], None],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._copies = copies
        self._writers = writers
        self._fence = fence
        self._copied = copied
        self._fatal = fatal
        self._numbers = itertools.count(1)  # of leases and pages
        self._leases: dict[int, CopiedTable] = {}
        self._grants_due: dict[int, float] = {}  # by table: when its timer goes off
        self._draining = False

    def drain(self) -> None:
        """Lease no more; what is under way arrives."""
        self._draining = True
        self._pool.drain()

    @property
    def drained(self) -> bool:
        """Every page that was published is stored. What scanners still read is read again."""
        return not any(copy.flying for copy in self._copies)

    # ---- leases

    def assign(self) -> None:
        """Lease segments to idle scanners, each time of the table that has the fewest scanners."""
        while not self._draining and (idle := self._pool.idle_scanner()):
            begun = (self._copies[number] for number in self._writers)
            leasable = [copy for copy in begun if copy.leasable]
            if not leasable:
                return
            self._lease(min(leasable, key=lambda copy: copy.leases), *idle)

    def _lease(self, copy: CopiedTable, worker: Worker, scanner: int) -> None:
        number = next(self._numbers)
        position = copy.lease(number)
        self._leases[number] = copy
        self._pool.lease(
            worker,
            _open_table(copy),
            messages.Lease(
                lease=number,
                scanner=scanner,
                table=copy.number,
                segment=position.segment,
                start=position.last_key,
                documents=position.documents,
            ),
        )

    def end_lease(self, lease: int) -> None:
        """A scanner is idle: at the end of its segment, or because it drains."""
        self._leases.pop(lease).end_lease(lease)
        self.assign()

    def worker_died(self, worker: Worker, leases: list[int]) -> None:
        """Lease the rest of its segments again, from the end of what was published of them."""
        for copy in self._copies:
            copy.budget.drop(worker.number)
        for lease in leases:
            copy = self._leases.pop(lease)
            segment, deaths = copy.lose_lease(lease)
            if deaths > MOST_DEATHS:
                table = copy.plan.table.name
                self._fatal(
                    RunError(
                        f"table {table}: worker processes died {deaths} times in a row while "
                        f"reading segment {segment}; log.level = debug can show why"
                    )
                )
        self.assign()

    # ---- pages

    def publish(self, worker: Worker, page: messages.Page) -> None:
        """A worker has filled a slot: have it stored."""
        copy = self._leases[page.lease]
        number = next(self._numbers)
        copy.publish(number, worker.number, page)
        if page.complete:
            copy.budget.used(page.capacity)
            self._grant(copy)  # the call may have cost less than was reserved
        if page.slot < 0:  # an empty page
            self.stored(copy, number)
        else:
            write = messages.Write(copy.number, number, worker.number, page.slot, page.length)
            self._fence.run(lambda: self._writers[copy.number].write(write))

    def stored(self, copy: CopiedTable, number: int) -> None:
        """The target has acknowledged a page: its slot is free."""
        page = copy.acknowledge(number, self._loop.clock())
        if page.slot >= 0:
            self._pool.workers[page.worker].free(page.slot)
        if page.after is None:  # its segment may have waited for that
            self.assign()
        if copy.copied and not self._draining:
            self._copied(copy)

    # ---- permits

    def wanted(self, worker: Worker, table: int) -> None:
        """A worker has used up its permits."""
        copy = self._copies[table]
        copy.budget.want(worker.number)
        self._grant(copy)

    def failed(self, copy: CopiedTable, *, throttled: bool) -> None:
        """A Scan call has failed; the next try needs another permit."""
        copy.budget.failed(throttled=throttled)
        self._grant(copy)

    def _grant(self, copy: CopiedTable) -> None:
        """Permit Scan calls as the table's budget allows, now and later."""
        if not copy.budget.wanted:
            return
        now = self._loop.clock()
        for worker, calls in copy.budget.grants(now):
            self._pool.workers[worker].send(messages.Permit(copy.number, calls))
        due = now + copy.budget.wait(now)
        if copy.budget.wanted and due < self._grants_due.get(copy.number, math.inf):
            self._grants_due[copy.number] = due
            self._loop.later(due - now, lambda: self._grant_again(copy))

    def _grant_again(self, copy: CopiedTable) -> None:
        self._grants_due.pop(copy.number, None)
        self._grant(copy)


def _open_table(copy: CopiedTable) -> messages.OpenTable:
    table = copy.plan.table
    record = copy.record
    return messages.OpenTable(
        copy.number, table.name, table.keys, record.segments, record.stamp + record.run
    )
