"""Leases segments to lanes, sends their pages to the writers, and frees slots when stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from shake.farm import messages
from shake.farm.copy import TableCopy
from shake.farm.loop import Loop
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writers import TableWriter


class Dispatch:
    """The traffic of the farm. It holds no item data, only which slot holds what.

    ``writers`` are the running writers by table number; ``may_write`` says whether this task is
    still ours; ``copied`` is called when a table's last page is stored.
    """

    def __init__(
        self,
        loop: Loop,
        pool: WorkerPool,
        copies: list[TableCopy],
        writers: dict[int, TableWriter],
        *,
        may_write: Callable[[], bool],
        copied: Callable[[TableCopy], None],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._copies = copies
        self._writers = writers
        self._may_write = may_write
        self._copied = copied
        self._numbers = itertools.count(1)  # of leases and pages
        self._leases: dict[int, TableCopy] = {}
        self._held: list[tuple[TableCopy, messages.Write]] = []
        self._granting: set[int] = set()  # tables whose next grant has a timer
        self._draining = False

    def drain(self) -> None:
        """Lease no more; what is under way arrives."""
        self._draining = True
        self._pool.drain()

    @property
    def drained(self) -> bool:
        """Every page that was published is stored. What lanes still read is read again."""
        return not any(copy.flying for copy in self._copies)

    # ---- leases

    def assign(self) -> None:
        """Lease segments to idle lanes, each time of the table that has the fewest lanes."""
        while not self._draining and (idle := self._pool.idle_lane()):
            leasable = [copy for copy in self._copies if copy.leasable]
            if not leasable:
                return
            self._lease(min(leasable, key=lambda copy: copy.leases), *idle)

    def _lease(self, copy: TableCopy, worker: Worker, lane: int) -> None:
        number = next(self._numbers)
        position = copy.lease(number)
        self._leases[number] = copy
        self._pool.lease(
            worker,
            _open_table(copy),
            messages.Lease(
                lease=number,
                lane=lane,
                table=copy.number,
                segment=position.segment,
                start=position.last_key,
                documents=position.documents,
            ),
        )

    def end_leases(self, leases: list[int]) -> None:
        """What is left of these segments is leased again, behind what was published of them."""
        for lease in leases:
            self._leases.pop(lease).end_lease(lease)
        self.assign()

    # ---- pages

    def publish(self, worker: Worker, page: messages.Page) -> None:
        """A worker has filled a slot: have it stored."""
        copy = self._leases[page.lease]
        number = next(self._numbers)
        copy.publish(number, worker.number, page)
        if page.complete:
            copy.budget.used(page.capacity)
            if copy.budget.wanted:  # the call may have cost less than was reserved
                self._grant(copy)
        if page.slot < 0:  # an empty page
            self.stored(copy, number)
        else:
            self._store(copy, messages.Write(number, worker.number, page.slot, page.length))

    def _store(self, copy: TableCopy, write: messages.Write) -> None:
        if self._may_write():
            self._writers[copy.number].write(write)
        else:
            self._held.append((copy, write))

    def release_held(self) -> None:
        """Send on the pages that waited for the right to write."""
        held, self._held = self._held, []
        for copy, write in held:
            self._store(copy, write)

    def stored(self, copy: TableCopy, number: int) -> None:
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

    def forget_worker(self, worker: Worker) -> None:
        """A worker died: it wants no permits."""
        for copy in self._copies:
            copy.budget.drop(worker.number)

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


def _open_table(copy: TableCopy) -> messages.OpenTable:
    table = copy.plan.table
    keys: list[Any] = [(key.name, key.type) for key in table.keys]
    return messages.OpenTable(
        copy.number, table.name, keys, copy.record.segments, copy.record.stamp
    )
