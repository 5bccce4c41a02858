"""The copy of one table: its phases, its segments, and what is known of its progress."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from shake.checkpoint.kept import NOTHING_KEPT, Tally
from shake.checkpoint.records import SegmentRecord
from shake.codec.objectid import segment_tail
from shake.farm.ledger import Lease, Published
from shake.farm.worker_messages import Page
from shake.limits import Budget
from shake.phase import NEXT, Phase
from shake.plan.plan import Action, TablePlan
from shake.status.rate import Rates, seconds_left
from shake.status.snapshot import TableStatus


class Segment:
    """One segment. The target has all pages up to ``acknowledged``.

    That stays so even if a process that handles later pages exits.

    ``crashes_in_a_row`` counts the workers that crashed while they read on from there.
    ``writer`` is the number of the writer that its pages go to, 0 before its first lease.
    ``awaits_first_page``: no whole page of its lease has gone to a writer.
    """

    __slots__ = (
        "_documents",
        "_length",
        "_run",
        "acknowledged",
        "awaits_first_page",
        "crashes_in_a_row",
        "number",
        "writer",
    )

    def __init__(self, record: SegmentRecord, run: int) -> None:
        self.number = record.segment
        self.acknowledged = record
        self.crashes_in_a_row = 0
        self.writer = 0
        self._run = run
        self.abandon()

    def abandon(self) -> None:
        """Discard the slots of an incomplete page: the next lease fetches the page again."""
        self.awaits_first_page = True
        self._begin_page()

    def _begin_page(self) -> None:
        self._documents = self._length = 0  # of the slots of a page that is not complete yet

    def acknowledge(self, page: Page) -> _Sums | None:
        """The target has the next slot; return what its page adds, None where more is to come."""
        self._documents += page.documents
        self._length += page.length
        if not page.complete:
            return None
        gain = _Sums(self._documents, self._length, page.scanned, page.capacity)
        before = self.acknowledged
        self.acknowledged = SegmentRecord(
            before.segment,
            page.last_key,
            before.documents + gain.documents,
            before.bytes + gain.bytes,
            before.scanned + gain.scanned,
            before.capacity + gain.capacity,
            page.last_key is None,
            self._run,
        )
        self._begin_page()
        return gain


SegmentLease: TypeAlias = "Lease[CopiedTable, Segment, Page]"


class CopiedTable:
    """The state of one table's copy. It holds state only, and sends no orders.

    At most ``writers`` processes at each site store its pages.
    """

    def __init__(
        self,
        number: int,
        plan: TablePlan,
        budget: Budget,
        now: float,
        writers: int = 1,
        kept: Tally = NOTHING_KEPT,
    ) -> None:
        self.number = number
        self.plan = plan
        self.record = plan.record
        self.identity = plan.identity
        self.phase = Phase.WAITING
        self.budget = budget
        self.writers = writers
        self.leases: dict[int, SegmentLease] = {}
        self.error = ""
        self.has_key_index = True  # see messages.Done
        self.kept = kept
        self.kept_at = 0.0  # see messages.Kept
        self.throttles = 0
        self.retries = 0
        self.answers = 0
        self.index_step = ""  # see TableStatus
        self.index_progress: float | None = None
        self._segments = [Segment(record, self.record.run) for record in plan.segments]
        self._pending = _scattered(plan)
        self._dirty: set[int] = set()
        self._unfinished = sum(not record.done for record in plan.segments)
        self._rates = Rates(now)
        self._total = _Sums()
        for record in plan.segments:
            self._total.add(record)
        self._before = self._total.documents, self._total.bytes
        self._began: float | None = None
        self._ended: float | None = None

    # ---- phases

    def enter(self, phase: Phase, now: float) -> None:
        """Go on to a phase that shake.phase allows."""
        if phase not in NEXT[self.phase]:
            raise AssertionError(f"{self.plan.table.name}: {self.phase.name} to {phase.name}")
        if self.phase is Phase.WAITING:
            self._began = now
        self.phase = phase
        if phase is Phase.COPYING:
            self._rates = Rates(now)
        if self.over:
            self._ended = now

    @property
    def saved_phase(self) -> Phase:
        """The last phase that is saved, or being saved: from there a later run continues."""
        return self.record.phase

    @property
    def copied(self) -> bool:
        return self._unfinished == 0

    @property
    def over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.BROKEN)

    # ---- leases

    @property
    def leasable(self) -> bool:
        return self.phase is Phase.COPYING and bool(self._pending)

    @property
    def scanners(self) -> int:
        """How many scanners read the table."""
        return sum(lease.end is None for lease in self.leases.values())

    def next_segment(self) -> Segment:
        """The next segment to be leased; there must be one."""
        return self._segments[self._pending[0]]

    def lease(self, lease: SegmentLease, writers: Sequence[int]) -> None:
        """A segment is leased, to be read from what is acknowledged of it.

        It keeps its writer if that is one of ``writers``, which are at the site of the lease's
        worker. Else it gets the one of them that stores the fewest of the segments being read.
        """
        self._pending.remove(lease.part.number)
        if lease.part.writer not in writers:
            stored = Counter(one.part.writer for one in self.leases.values())
            lease.part.writer = min(writers, key=lambda number: stored[number])
        self.leases[lease.number] = lease

    def close_lease(self, lease: SegmentLease) -> None:
        """A lease is closed: the rest of its segment can be leased again."""
        del self.leases[lease.number]
        lease.part.abandon()
        if not lease.part.acknowledged.done:
            self._pending.appendleft(lease.part.number)

    def acknowledge(self, lease: SegmentLease, published: Published[Page], clock: float) -> None:
        """The target has a slot, and all before it."""
        segment = lease.part
        if gain := segment.acknowledge(published.content):
            self._dirty.add(segment.number)
            self._total.add(gain)
            self._rates.add(gain.documents, gain.bytes, gain.capacity, clock)
            self._unfinished -= segment.acknowledged.done

    # ---- checkpoints

    def take_dirty(self) -> list[SegmentRecord]:
        """Segments whose position has moved since the last call."""
        records = [self._segments[number].acknowledged for number in sorted(self._dirty)]
        self._dirty.clear()
        return records

    def cleaned(self) -> None:
        """The leftovers of earlier runs are deleted: the next run need not look for them."""
        for segment in self._segments:
            segment.acknowledged = segment.acknowledged._replace(run=self.record.run)
            self._dirty.add(segment.number)

    def acknowledged(self) -> list[SegmentRecord]:
        return [segment.acknowledged for segment in self._segments]

    def tails(self, *, before: int) -> list[tuple[bytes, bytes]]:
        """``_id`` ranges of what runs before ``before`` can have left behind the positions.

        Pages that were not acknowledged, of the run that stored the last one and of any later; and
        all of a copy before this one, which may have come after it was dropped.
        """
        stamp = self.record.stamp
        resync = self.record.on_existing == "resync" and not self.record.staged
        older = [(bytes(12), segment_tail(stamp, 0, 0)[0])] if resync else []
        return older + [
            segment_tail(stamp + run, s.segment, s.documents if run == s.run else 0)
            for s in self.acknowledged()
            for run in range(s.run, before)
        ]

    # ---- progress

    def status(self, now: float, *, filtered: bool) -> TableStatus:
        table, total = self.plan.table, self._total
        pace = self._rates.pace.value(now)
        copying, indexing = self.phase is Phase.COPYING, self.phase is Phase.INDEXING
        return TableStatus(
            name=table.name,
            namespace=self.plan.namespace,
            state=self.phase.value,
            items=total.documents,
            bytes=total.bytes,
            scanned=total.scanned,
            capacity=total.capacity,
            budget=self.budget.capacity,
            expected_items=table.items,
            expected_bytes=table.bytes,
            segments=len(self._segments),
            segments_done=len(self._segments) - self._unfinished,
            rate=self._rates.items.value(now),
            pace=pace,
            byte_rate=self._rates.bytes.value(now),
            unit_rate=self._rates.units.value(now),
            answers=self.answers,
            index_step=self.index_step if indexing else "",
            index_progress=self.index_progress if indexing else None,
            seconds_left=self._seconds_left(pace) if copying else None,
            throttles=self.throttles,
            retries=self.retries,
            kept=self.kept.items,
            kept_older=self.kept.older,
            filtered=filtered,
            error=self.error,
            seconds=(self._ended or now) - self._began if self._began is not None else 0.0,
            items_before=self._before[0],
            bytes_before=self._before[1],
        )

    def _seconds_left(self, pace: float) -> float | None:
        """The time left at so many items a second, no less than the budget of read units takes.

        It is unknown once DynamoDB's count, which can be hours old, is read and segments are left.
        """
        total, budget = self._total, self.budget.capacity
        left = max(0, self.plan.table.items - total.scanned)
        if self._unfinished and not left:
            return None
        if not total.scanned:
            return seconds_left(left, pace)
        units = left * total.capacity / total.scanned
        seconds = seconds_left(left * total.documents / total.scanned, pace)
        return max(seconds, units / budget) if seconds is not None and budget else seconds


@dataclass(slots=True)
class _Sums:
    """What is stored of a page, or of all segments, and what its Scan has read."""

    documents: int = 0
    bytes: int = 0
    scanned: int = 0
    capacity: float = 0.0

    def add(self, more: SegmentRecord | _Sums) -> None:
        self.documents += more.documents
        self.bytes += more.bytes
        self.scanned += more.scanned
        self.capacity += more.capacity


def _scattered(plan: TablePlan) -> deque[int]:
    """Unfinished segments in an order that spreads over the partitions.

    Neighbouring segments share a partition, which serves 3,000 read units a second at most.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
    """
    numbers = [record.segment for record in plan.segments if not record.done]
    random.Random(plan.record.stamp).shuffle(numbers)
    if plan.action is Action.RESUME:  # segments that an earlier run began come first
        numbers.sort(key=lambda number: plan.segments[number].last_key is None)
    return deque(numbers)
