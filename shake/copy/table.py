"""The copy of one table: its phases, its segments, and what is known of its progress."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

from shake.checkpoint.records import SegmentRecord, TableRecord, TableState
from shake.codec.objectid import segment_tail
from shake.copy.frontier import FlyingPage, SegmentFrontier
from shake.farm.messages import Page
from shake.limits import Budget
from shake.plan.plan import Action, TablePlan
from shake.status.rate import Rate, seconds_left
from shake.status.snapshot import TableStatus


class Phase(Enum):
    """Where a table is; :data:`NEXT` says what may follow."""

    WAITING = auto()  # for its turn (full.concurrency)
    PREPARING = auto()  # the collection that the copy fills is created
    CLEANING = auto()  # it is taken over; what lies behind the checkpoint is removed
    COPYING = auto()
    SETTLING = auto()  # what a dying insert may have left behind the ends is removed
    INDEXING = auto()
    PUBLISHING = auto()  # the complete collection gets its final name
    DONE = auto()
    BROKEN = auto()  # copied, but the target refused an index


NEXT = {
    Phase.WAITING: {Phase.PREPARING, Phase.CLEANING, Phase.INDEXING, Phase.DONE},
    Phase.PREPARING: {Phase.COPYING, Phase.INDEXING},
    Phase.CLEANING: {Phase.COPYING, Phase.INDEXING},
    Phase.COPYING: {Phase.SETTLING},
    Phase.SETTLING: {Phase.INDEXING},
    Phase.INDEXING: {Phase.PUBLISHING, Phase.DONE, Phase.BROKEN},
    Phase.PUBLISHING: {Phase.DONE, Phase.BROKEN},
    Phase.DONE: set[Phase](),
    Phase.BROKEN: set[Phase](),
}


class CopiedTable:
    """The state of one table's copy. It orders nothing itself and knows no process."""

    def __init__(self, number: int, plan: TablePlan, budget: Budget, now: float) -> None:
        self.number = number
        self.plan = plan
        self.record = plan.record
        self.identity = plan.identity
        self.phase = Phase.WAITING
        self.budget = budget
        self.flying: dict[int, FlyingPage] = {}
        self.error = ""
        self.keyed = True  # see messages.Done
        self.throttles = 0
        self.retries = 0
        self._segments = [SegmentFrontier(record, self.record.run) for record in plan.segments]
        self._leases: dict[int, int] = {}
        self._pending = _scattered(plan)
        self._cut: set[int] = set()  # leased again when what their dead worker sent is stored
        self._deaths: dict[int, tuple[SegmentRecord, int]] = {}
        self._dirty: set[int] = set()
        self._unfinished = sum(not record.done for record in plan.segments)
        self._rate = Rate(now)
        self._total = _Total(plan.segments)
        self._before = self._total.documents, self._total.bytes
        self._begun: float | None = None
        self._ended: float | None = None

    # ---- phases

    def enter(self, phase: Phase, now: float) -> None:
        """Go on to a phase that :data:`NEXT` allows."""
        if phase not in NEXT[self.phase]:
            raise AssertionError(f"{self.plan.table.name}: {self.phase.name} to {phase.name}")
        if self.phase is Phase.WAITING:
            self._begun = now
        self.phase = phase
        if phase is Phase.COPYING:
            self._rate = Rate(now)
        if self.over:
            self._ended = now

    def record_as(self, state: TableState) -> TableRecord:
        """The table's checkpoint in a new state."""
        self.record = self.record.moved(state)
        return self.record

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
    def leases(self) -> int:
        return len(self._leases)

    def lease(self, lease: int) -> SegmentRecord:
        """Lease the next segment; return the position to go on from."""
        segment = self._pending.popleft()
        self._leases[lease] = segment
        return self._segments[segment].published

    def end_lease(self, lease: int) -> int:
        """The scanner has done with a segment; what is left is leased again. Return its number."""
        segment = self._leases.pop(lease)
        frontier = self._segments[segment]
        frontier.abandon()
        if frontier.cut:
            self._cut.add(segment)
        elif not frontier.published.done:
            self._pending.appendleft(segment)
        return segment

    def lose_lease(self, lease: int) -> tuple[int, int]:
        """The worker died: return the segment, and how often in a row one died at its position."""
        segment = self.end_lease(lease)
        position = self._segments[segment].published
        before, deaths = self._deaths.get(segment, (position, 0))
        self._deaths[segment] = (position, deaths + 1 if before == position else 1)
        return segment, self._deaths[segment][1]

    # ---- pages

    def publish(self, page_id: int, worker: int, page: Page) -> FlyingPage:
        """A worker has filled a slot."""
        flying = self._segments[self._leases[page.lease]].publish(worker, page)
        self.flying[page_id] = flying
        return flying

    def acknowledge(self, page_id: int, now: float) -> FlyingPage:
        """The target has stored a slot."""
        page = self.flying.pop(page_id)
        frontier = self._segments[page.segment]
        before = frontier.stored
        if frontier.acknowledge(page):
            self._dirty.add(page.segment)
            self._total.move(before, frontier.stored)
            self._rate.add(frontier.stored.documents - before.documents, now)
            self._unfinished -= frontier.stored.done
        if page.segment in self._cut and not frontier.cut:
            self._cut.remove(page.segment)
            self._pending.appendleft(page.segment)
        return page

    # ---- checkpoints

    @property
    def dirty(self) -> bool:
        """Some stored position has moved since :meth:`take_dirty`."""
        return bool(self._dirty)

    def take_dirty(self) -> list[SegmentRecord]:
        """Segments whose stored position has moved since the last call."""
        records = [self._segments[number].stored for number in sorted(self._dirty)]
        self._dirty.clear()
        return records

    def cleaned(self) -> None:
        """What earlier runs left behind is gone: the next run need not look for it again."""
        for number, frontier in enumerate(self._segments):
            frontier.adopt()
            self._dirty.add(number)

    def stored(self) -> list[SegmentRecord]:
        """What is stored of each segment."""
        return [frontier.stored for frontier in self._segments]

    def tails(self, *, before: int) -> list[tuple[bytes, bytes]]:
        """``_id`` ranges of all that runs before ``before`` may have left behind what is stored.

        Pages that were not acknowledged, of the run that stored the last one and of any later; and
        all of a copy before this one, which may have come after it was dropped.
        """
        stamp = self.record.stamp
        resync = self.record.fate == "resync" and not self.record.staged
        older = [(bytes(12), segment_tail(stamp, 0, 0)[0])] if resync else []
        return older + [
            segment_tail(stamp + run, s.segment, s.documents if run == s.run else 0)
            for s in self.stored()
            for run in range(s.run, before)
        ]

    # ---- progress

    def status(self, now: float, *, filtered: bool) -> TableStatus:
        table, total = self.plan.table, self._total
        rate = self._rate.value(now)
        left = max(0, table.items - total.scanned)
        copying = self.phase is Phase.COPYING
        kept = total.documents / total.scanned if total.scanned else 1.0
        return TableStatus(
            name=table.name,
            namespace=self.plan.place,
            state=self.phase.name.lower(),
            items=total.documents,
            bytes=total.bytes,
            scanned=total.scanned,
            capacity=total.capacity,
            expected_items=table.items,
            expected_bytes=table.bytes,
            segments=len(self._segments),
            segments_done=len(self._segments) - self._unfinished,
            rate=rate,
            seconds_left=seconds_left(left * kept, rate) if copying else None,
            throttles=self.throttles,
            retries=self.retries,
            filtered=filtered,
            error=self.error,
            seconds=(self._ended or now) - self._begun if self._begun is not None else 0.0,
            items_before=self._before[0],
            bytes_before=self._before[1],
        )


class _Total:
    """Sums over the stored positions of all segments."""

    def __init__(self, records: Iterable[SegmentRecord]) -> None:
        self.documents = self.bytes = self.scanned = 0
        self.capacity = 0.0
        for record in records:
            self.move(None, record)

    def move(self, before: SegmentRecord | None, after: SegmentRecord) -> None:
        self.documents += after.documents - (before.documents if before else 0)
        self.bytes += after.bytes - (before.bytes if before else 0)
        self.scanned += after.scanned - (before.scanned if before else 0)
        self.capacity += after.capacity - (before.capacity if before else 0.0)


def _scattered(plan: TablePlan) -> deque[int]:
    """Unfinished segments in an order that spreads over the partitions.

    Neighbouring segments share a partition, which serves 3,000 read units a second at most.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
    """
    numbers = [record.segment for record in plan.segments if not record.done]
    random.Random(plan.record.stamp).shuffle(numbers)
    if plan.action is Action.RESUME:  # those that were begun first: their tails are longest done
        numbers.sort(key=lambda number: plan.segments[number].last_key is None)
    return deque(numbers)
