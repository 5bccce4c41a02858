"""Leases segments to scanners, sends their pages to the writers, and grants Scan calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from shake.copy.table import CopiedTable, SegmentLease
from shake.errors import RunError
from shake.farm import worker_messages, writer_messages
from shake.farm.farm import Farm
from shake.farm.ledger import End, Published
from shake.farm.pool import Worker
from shake.farm.writer import WriterHandle
from shake.process.supervised import MAX_CRASHES


class CopyWriters:
    """The writers of a table's copy: all of them insert, and the first carries out the orders.

    ``start_another(first_writer, number)`` starts a further writer; numbers begin at 2. It starts
    with its first page, when the first writer has reported the collection.
    """

    def __init__(
        self, first_writer: WriterHandle, start_another: Callable[[WriterHandle, int], WriterHandle]
    ) -> None:
        self.first_writer = first_writer
        self._start_another = start_another
        self._by_number = {1: first_writer}

    def __iter__(self) -> Iterator[WriterHandle]:
        return iter(self._by_number.values())

    def of(self, number: int) -> WriterHandle:
        """The writer of this number, from 1 on."""
        if number not in self._by_number:
            self._by_number[number] = self._start_another(self.first_writer, number)
        return self._by_number[number]

    def end_others(self) -> None:
        processes = [writer.process for writer in self if writer is not self.first_writer]
        self._by_number = {1: self.first_writer}
        for process in processes:
            process.dismiss()
        for process in processes:
            process.reap()

    def close(self) -> None:
        self.end_others()
        self.first_writer.close()


class CopyScheduler:
    """Decides which scanner reads which segment. It holds no item data.

    ``writers`` are the running writers by table number.
    """

    def __init__(
        self, farm: Farm, copies: list[CopiedTable], writers: dict[int, CopyWriters]
    ) -> None:
        self._loop, self._pool, self._task = farm.loop, farm.pool, farm.task
        self._ledger = farm.pool.ledger
        self._copies = copies
        self._writers = writers
        self._grants_due: dict[int, float] = {}  # by table: when its timer goes off

    # ---- leases

    def assign(self) -> None:
        """Lease segments to idle scanners, each time of the table that has the fewest scanners."""
        while not self._task.draining and (idle := self._pool.idle_scanner()):
            begun = (self._copies[number] for number in self._writers)
            leasable = [copy for copy in begun if copy.leasable]
            if not leasable:
                return
            self._lease(min(leasable, key=lambda copy: copy.scanners), *idle)

    def _lease(self, copy: CopiedTable, worker: Worker, scanner: int) -> None:
        clock, segment = self._loop.clock(), copy.next_segment()
        lease = self._ledger.grant(self, copy, segment, worker.number, clock)
        copy.lease(lease, self._pool.writer_numbers(worker, copy.writers))
        position = segment.acknowledged
        self._pool.lease(
            worker,
            _open_table(copy),
            worker_messages.LeaseSegment(
                lease=lease.number,
                scanner=scanner,
                table=copy.number,
                segment=segment.number,
                start=position.last_key,
                documents=position.documents,
            ),
        )

    def closed(self, lease: SegmentLease) -> None:
        """Lease the rest of its segment again.

        After more than MAX_CRASHES worker crashes in a row on one segment the task ends, or goes on
        without the site of the last one.
        """
        copy, segment = lease.table, lease.part
        copy.close_lease(lease)
        segment.crashes_in_a_row += lease.end is End.LOST
        if lease.end is End.LOST and segment.crashes_in_a_row > MAX_CRASHES:
            text = (
                f"table {copy.plan.table.name}: worker processes crashed "
                f"{segment.crashes_in_a_row} times in a row while reading segment "
                f"{segment.number}; log.level = debug can show why"
            )
            self._task.fail_at(self._pool.workers[lease.worker].site, RunError(text))
        self.assign()

    def worker_crashed(self, worker: int) -> None:
        """Void its requests for permits. Its leases were ended by Ledger.lose."""
        self.drop(worker)
        self.assign()

    # ---- pages

    def received(self, lease: SegmentLease, message: worker_messages.OfLease) -> None:
        """A worker has filled a slot: have it stored."""
        assert isinstance(message, worker_messages.Page)
        copy = lease.table
        self._ledger.publish(lease, message.slot, message)
        number = self._ledger.send(lease).number
        if message.complete:
            copy.answers += 1
            lease.part.crashes_in_a_row = 0
            copy.budget.used(message.capacity)
            self._grant(copy)  # the call may have cost less than was reserved
        if message.slot < 0:  # an empty page
            self._ledger.acknowledge(number)
        else:
            write = writer_messages.Write(
                table=copy.number,
                publication=number,
                arena=self._pool.workers[lease.worker].place,
                slot=message.slot,
                length=message.length,
                segment=lease.part.number,
                raw_answer=message.raw_answer,
                first=lease.part.awaits_first_page,
            )
            self._writers[copy.number].of(lease.part.writer).write(write)
            lease.part.awaits_first_page &= not message.complete

    def acknowledged(self, lease: SegmentLease, published: Published[worker_messages.Page]) -> None:
        """The target has a page, and all before it."""
        copy = lease.table
        copy.acknowledge(lease, published, self._loop.clock())
        if copy.copied and not self._task.draining:
            self._task.all_stored(copy.number)

    # ---- permits

    def waits(self, worker: int) -> bool:
        """Whether a worker waits for a permit."""
        return any(copy.budget.waits(worker) for copy in self._copies)

    def drop(self, worker: int) -> None:
        """A worker gets no permit until it asks again."""
        for copy in self._copies:
            copy.budget.drop(worker)

    def wanted(self, worker: int, table: int) -> None:
        """A worker has used up its permits."""
        copy = self._copies[table]
        copy.budget.want(worker)
        self._grant(copy)

    def failed(self, copy: CopiedTable, *, throttled: bool) -> None:
        """A Scan call has failed; the next try needs another permit."""
        copy.budget.failed(throttled=throttled)
        self._grant(copy)

    def _grant(self, copy: CopiedTable) -> None:
        """Permit Scan calls as the table's budget allows, now and later; none during a pause."""
        if self._pool.paused or not copy.budget.wanted:
            return
        now = self._loop.clock()
        for worker, calls in copy.budget.grants(now):
            self._pool.workers[worker].send(worker_messages.Permit(copy.number, calls))
        due = now + copy.budget.wait(now)
        if copy.budget.wanted and due < self._grants_due.get(copy.number, math.inf):
            self._grants_due[copy.number] = due
            self._loop.later(due - now, lambda: self._grant_again(copy))

    def limit(self, copy: CopiedTable, capacity: float | None) -> None:
        """Another read budget of a table, in capacity units a second, from now on."""
        copy.budget.limit(capacity, self._loop.clock())
        self._pool.revoke(copy.number)
        self._grant(copy)

    def resume(self) -> None:
        """A pause is over. What was permitted before does not count any more."""
        for copy in self._copies:
            copy.budget.limit(copy.budget.capacity, self._loop.clock())
            self._grant(copy)
        self.assign()

    def _grant_again(self, copy: CopiedTable) -> None:
        self._grants_due.pop(copy.number, None)
        self._grant(copy)


def _open_table(copy: CopiedTable) -> worker_messages.OpenTable:
    table = copy.plan.table
    record = copy.record
    return worker_messages.OpenTable(
        copy.number, table.name, table.keys, record.segments, record.stamp + record.run
    )
