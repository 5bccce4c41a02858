"""The copy of a table: nothing lost and nothing twice, whatever dies and whatever comes late."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shake.checkpoint.records import SegmentRecord, TableRecord
from shake.codec.objectid import segment_prefix, segment_tail
from shake.copy.table import CopiedTable, SegmentLease
from shake.farm.ledger import Ledger
from shake.farm.worker_messages import Page
from shake.limits import Budget
from shake.phase import NEXT, Phase
from shake.plan.plan import Action, TablePlan
from shake.schema import Attribute, Keys, Table
from shake.targets.contract import OnExisting
from tests.support.task import Slots, TableJob

STAMP = 1_700_000_000


def plan_of(
    progress: list[SegmentRecord], action: Action = Action.CREATE, run: int = 0
) -> TablePlan:
    table = Table("things", Keys(Attribute("pk", "S")), items=100, bytes=1000)
    record = TableRecord("things", "db.things", STAMP, len(progress), run=run)
    return TablePlan(table, action, record, tuple(progress))


def copy_of(
    progress: list[SegmentRecord], action: Action = Action.CREATE, run: int = 0, writers: int = 1
) -> CopiedTable:
    copy = CopiedTable(0, plan_of(progress, action, run), Budget(1000, None, 0.0), 0.0, writers)
    copy.enter(Phase.CLEANING, 0.0)
    copy.enter(Phase.COPYING, 0.0)
    return copy


def page(lease: int, last_key: bytes | None, documents: int = 1, **fields: Any) -> Page:
    rest = {"slot": 0, "length": 10, "complete": True, "scanned": documents, "capacity": 0.5}
    return Page(lease=lease, documents=documents, last_key=last_key, **rest | fields)


class Reading:
    """A table that is read under leases of a separate ledger."""

    def __init__(self, copy: CopiedTable) -> None:
        self.copy = copy
        self.now = 0.0
        self.ledger = Ledger(Slots())
        self.job = TableJob(lambda: self.now)

    def lease(self, worker: int = 0) -> SegmentLease:
        lease = self.ledger.grant(self.job, self.copy, self.copy.next_segment(), worker, 0.0)
        self.copy.lease(lease, range(1, self.copy.writers + 1))
        return lease

    def publish(self, lease: SegmentLease, message: Page) -> int:
        """Return the number by which it is acknowledged."""
        self.ledger.publish(lease, message.slot, message)
        return self.ledger.send(lease).number

    def store(self, *numbers: int) -> None:
        """The target acknowledges these, or all that is on its way."""
        flying = [one.number for lease in self.copy.leases.values() for one in lease.unacknowledged]
        for number in numbers or flying:
            self.ledger.acknowledge(number)


@dataclass
class Scanner:
    """A lease, the position that its worker reads from, and the slots of the page in its hand."""

    lease: SegmentLease
    segment: int
    start: bytes | None
    number: int
    slots: list[tuple[Page, list[int]]] = field(default_factory=list)


class Farm(RuleBasedStateMachine):
    """A source of keys 0, 1, 2.. in each segment, workers that scan it, and a target by ``_id``.

    Items are only ever deleted from the source; multiples of 3 do not pass the scan filter.
    """

    @initialize(sizes=st.lists(st.integers(0, 16), min_size=1, max_size=2))
    def begin(self, sizes: list[int]) -> None:
        self.source = {segment: list(range(size)) for segment, size in enumerate(sizes)}
        self.kept = {segment: set(keys) for segment, keys in self.source.items()}
        self.saved = {segment: SegmentRecord(segment) for segment in self.source}
        self.target: dict[bytes, int] = {}
        self.late: list[tuple[bytes, int]] = []  # inserts of processes that are gone
        self.landed: set[bytes] = set()
        self.late_deletes: list[list[tuple[bytes, bytes]]] = []  # and their deletes
        self.ids: dict[tuple[int, int], bytes] = {}  # by segment and number: given last
        self.run = 0
        self.load(Action.CREATE)

    def load(self, action: Action) -> None:
        records = [self.saved[segment] for segment in sorted(self.saved)]
        self.copy = copy_of(records, action, self.run)
        self.reading = Reading(self.copy)
        self.scanners: dict[int, Scanner] = {}
        self.flying: dict[int, list[tuple[bytes, int]]] = {}

    # ---- what may happen

    @precondition(lambda self: self.copy.leasable)
    @rule(worker=st.integers(0, 1))
    def lease(self, worker: int) -> None:
        lease = self.reading.lease(worker)
        position = lease.part.acknowledged
        assert not position.done
        assert position.segment not in [scanner.segment for scanner in self.scanners.values()]
        self.scanners[lease.number] = Scanner(
            lease, position.segment, position.last_key, position.documents
        )

    @precondition(lambda self: self.scanners)
    @rule(data=st.data(), most=st.integers(1, 5), cut=st.integers(1, 3))
    def publish(self, data: st.DataObject, most: int, cut: int) -> None:
        """A worker fills its next slot; it fetches ``most`` items, ``cut`` in each slot."""
        number = data.draw(st.sampled_from(sorted(self.scanners)))
        scanner = self.scanners[number]
        if not scanner.slots:
            scanner.slots = self.fetch(number, scanner, most, cut)
        message, keys = scanner.slots.pop(0)
        page_id = self.reading.publish(scanner.lease, message)
        prefix = segment_prefix(STAMP + self.run, scanner.segment)
        ids = [prefix + (scanner.number + at).to_bytes(5, "big") for at in range(len(keys))]
        self.ids |= {(scanner.segment, scanner.number + at): one for at, one in enumerate(ids)}
        scanner.number += len(keys)
        self.flying[page_id] = list(zip(ids, keys, strict=True))
        if message.slot < 0:  # no document: nothing to store
            del self.flying[page_id]
            self.reading.store(page_id)
        if message.complete and message.last_key is None:
            self.end(number)

    def fetch(
        self, lease: int, scanner: Scanner, most: int, cut: int
    ) -> list[tuple[Page, list[int]]]:
        after = -1 if scanner.start is None else int(scanner.start)
        ahead = [key for key in self.source[scanner.segment] if key > after]
        scanned = ahead[:most]
        scanner.start = str(scanned[-1]).encode() if len(ahead) > most else None
        keys = [key for key in scanned if key % 3]
        slots = [keys[at : at + cut] for at in range(0, len(keys), cut)] or [[]]
        whole = {"scanned": len(scanned), "capacity": 0.5 * len(scanned)}
        cut_off = {"complete": False, "scanned": 0, "capacity": 0.0}
        pages = [page(lease, None, len(slot), **cut_off) for slot in slots[:-1]]
        slot = 0 if keys else -1
        pages.append(page(lease, scanner.start, len(slots[-1]), slot=slot, **whole))
        return list(zip(pages, slots, strict=True))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        self.write(data.draw(st.sampled_from(sorted(self.flying))))

    def write(self, page_id: int) -> None:
        self.target |= self.flying.pop(page_id)
        self.reading.store(page_id)

    @rule(data=st.data(), what=st.sampled_from(["kill 0", "kill 1", "save", "delete", "crash"]))
    def disturb(self, data: st.DataObject, what: str) -> None:
        match what.split():
            case ["kill", worker]:
                self.kill(int(worker))
            case ["save"]:
                self.save()
            case ["delete"]:
                self.delete(data)
            case ["crash"]:
                self.crash(data)

    def kill(self, worker: int) -> None:
        self.scanners = {n: one for n, one in self.scanners.items() if one.lease.worker != worker}
        self.reading.ledger.lose(worker)

    def end(self, number: int) -> None:
        self.reading.ledger.end(self.scanners.pop(number).lease)

    def save(self) -> None:
        self.saved |= {record.segment: record for record in self.copy.take_dirty()}
        assert not self.copy.take_dirty()

    def crash(self, data: st.DataObject) -> None:
        """All dies; what was under way is stored before the restart, after it, or never."""
        for documents in self.flying.values():
            fate = data.draw(st.sampled_from(["before", "after", "never"]))
            if fate == "before":
                self.target |= documents
            elif fate == "after":
                self.late += documents
        self.run += 1
        self.load(Action.RESUME)
        ranges = self.copy.tails(before=self.run)
        self.late_deletes.append(ranges)  # the writer dies, and its replacement does it again
        self.forget(ranges)
        self.copy.cleaned()

    @precondition(lambda self: self.late)
    @rule()
    def land(self) -> None:
        """A plain insert of a dead process: refused where the ``_id`` exists."""
        one, key = self.late.pop()
        self.landed.add(one)
        self.target = {one: key} | self.target

    @precondition(lambda self: self.late_deletes)
    @rule()
    def land_delete(self) -> None:
        """A delete whose sender is dead, of this run or an earlier one."""
        self.forget(self.late_deletes.pop(0))

    def delete(self, data: st.DataObject) -> None:
        """The application deletes an item: it may be in the target, or not."""
        segment = data.draw(st.sampled_from(sorted(self.source)))
        if self.source[segment]:
            key = data.draw(st.sampled_from(self.source[segment]))
            self.source[segment].remove(key)
            self.kept[segment].discard(key)

    def forget(self, ranges: list[tuple[bytes, bytes]]) -> None:
        for low, high in ranges:
            self.target = {i: key for i, key in self.target.items() if not low <= i < high}

    # ---- what always holds

    @invariant()
    def all_below_the_frontier_is_stored(self) -> None:
        for segment, kept in self.kept.items():
            self.check(self.copy._segments[segment].acknowledged, kept)
            self.check(self.saved[segment], kept)

    def check(self, stored: SegmentRecord, kept: set[int]) -> None:
        ids = [self.ids[stored.segment, number] for number in range(stored.documents)]
        held = [self.target[one] for one in ids]  # without a hole
        last = 1 << 30 if stored.done else int(stored.last_key or -1)
        assert {key for key in kept if key % 3 and key <= last} <= set(held)
        assert len(held) == len(set(held))

    @invariant()
    def the_sums_are_those_of_the_segments(self) -> None:
        status = self.copy.status(1.0, filtered=True)
        stored = [segment.acknowledged for segment in self.copy._segments]
        assert status.items == sum(record.documents for record in stored)
        assert status.scanned == sum(record.scanned for record in stored)
        assert status.bytes == sum(record.bytes for record in stored)
        assert status.segments_done == sum(record.done for record in stored)
        assert self.copy.copied == all(record.done for record in stored)

    def teardown(self) -> None:
        """Undisturbed, the copy always comes to its end, and the target is exact."""
        if not hasattr(self, "source"):
            return
        while not self.copy.copied:
            while self.copy.leasable:
                self.lease(0)
            for number in list(self.scanners):
                while number in self.scanners:
                    self.publish(_First(number), 5, 2)
            for page_id in sorted(self.flying, reverse=True):
                self.write(page_id)
        assert self.reading.ledger.drained
        while self.late:
            self.land()
        while self.late_deletes:
            self.land_delete()
        self.forget(self.copy.tails(before=self.run + 1))
        for segment, kept in self.kept.items():
            place = segment.to_bytes(3, "big")
            held = {i: key for i, key in self.target.items() if i[4:7] == place}
            # Of copies the unique index finds, the one of the last run stays.
            last = {key: i for i, key in sorted(held.items())}
            assert {key for key in kept if key % 3} <= set(last)
            self.check_copies(set(held) - set(last.values()))

    def check_copies(self, copies: set[bytes]) -> None:
        """Only what a dead process inserted late can be there twice."""
        counted = {
            self.ids[one.segment, number]
            for one in self.copy.acknowledged()
            for number in range(one.documents)
        }
        assert copies <= self.landed
        assert not copies & counted


class _First:
    """Stands for drawn data where there is no choice."""

    def __init__(self, value: int) -> None:
        self._value = value

    def draw(self, _strategy: object) -> int:
        return self._value


def test_nothing_is_lost_and_nothing_is_twice_whatever_dies() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis declares no types
        Farm,
        settings=settings(max_examples=120, stateful_step_count=40),
    )


def test_a_page_counts_only_when_all_pages_before_it_are_stored() -> None:
    reading = Reading(copy := copy_of([SegmentRecord(0)]))
    lease = reading.lease()
    first, *later = [reading.publish(lease, page(1, key)) for key in (b"a", b"b", None)]
    reading.store(*later[::-1])
    assert not copy.take_dirty()
    assert not copy.copied
    reading.store(first)
    assert copy.copied
    assert [record.documents for record in copy.take_dirty()] == [3]


def test_a_page_in_several_slots_moves_the_position_when_the_last_of_them_is_stored() -> None:
    reading = Reading(copy := copy_of([SegmentRecord(0)]))
    lease = reading.lease()
    half = reading.publish(lease, page(1, None, 5, complete=False, scanned=0, capacity=0.0))
    rest = reading.publish(lease, page(1, b"k", 2, scanned=9, capacity=3.0))
    reading.store(half)
    assert not copy.take_dirty()
    reading.store(rest)
    assert copy.take_dirty() == [
        SegmentRecord(0, b"k", documents=7, bytes=20, scanned=9, capacity=3.0)
    ]


def test_a_segment_whose_page_was_cut_by_a_death_waits_until_the_half_page_is_stored() -> None:
    # Read again, the page may hold other items under the same _id: the older must not come last.
    reading = Reading(copy := copy_of([SegmentRecord(0)]))
    reading.publish(reading.lease(), page(1, None, 5, complete=False))
    reading.ledger.lose(0)
    assert not copy.leasable
    reading.store()
    assert copy.leasable
    assert reading.lease().part.acknowledged == SegmentRecord(0)


def test_a_segment_goes_on_behind_what_was_published() -> None:
    reading = Reading(copy := copy_of([SegmentRecord(0)]))
    reading.publish(reading.lease(), page(1, b"k", 5))
    reading.ledger.lose(0)
    assert not copy.leasable
    reading.store()
    assert reading.lease().part.acknowledged.last_key == b"k"


def test_a_finished_segment_is_not_leased_again() -> None:
    reading = Reading(copy := copy_of([SegmentRecord(0)]))
    lease = reading.lease()
    reading.publish(lease, page(1, None))
    reading.store()
    reading.ledger.end(lease)
    assert not copy.leasable


def test_a_resumed_copy_takes_up_the_begun_segments_first() -> None:
    records = [SegmentRecord(n, b"k" if n in (5, 9) else None) for n in range(12)]
    records[3] = SegmentRecord(3, done=True)
    copy = copy_of(records, Action.RESUME)
    reading = Reading(copy)
    order = [reading.lease().part.number for _ in range(11)]
    assert set(order[:2]) == {5, 9}
    assert set(order) == set(range(12)) - {3}


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32).map(random.Random))
def test_a_segment_stays_with_one_writer_and_a_new_one_goes_to_the_least_busy(
    writers: int, scanners: int, rng: random.Random
) -> None:
    reading = Reading(copy := copy_of([SegmentRecord(n) for n in range(12)], writers=writers))
    chosen: dict[int, int] = {}
    while copy.leasable or copy.leases:
        leases = list(copy.leases.values())
        if copy.leasable and (not leases or (len(leases) < scanners and rng.random() < 0.5)):
            busy = Counter(one.part.writer for one in leases)
            segment = reading.lease().part
            if segment.number not in chosen:
                assert busy[segment.writer] == min(busy[one] for one in range(1, writers + 1))
            assert chosen.setdefault(segment.number, segment.writer) == segment.writer
        else:
            lease = rng.choice(leases)
            reading.publish(lease, page(1, rng.choice([b"k", None])))
            reading.ledger.end(lease)  # the rest of the segment is leased again
            reading.store()
    assert set(chosen.values()) <= set(range(1, min(writers, scanners) + 1))


def test_neighbouring_segments_are_not_read_in_a_row() -> None:
    copy = copy_of([SegmentRecord(n) for n in range(64)])
    reading = Reading(copy)
    order = [reading.lease().part.number for _ in range(64)]
    assert sum(abs(a - b) == 1 for a, b in itertools.pairwise(order)) < 8


PATHS = [
    [Phase.PREPARING, Phase.COPYING, Phase.TRIMMING, Phase.INDEXING, Phase.DONE],
    [Phase.PREPARING, Phase.INDEXING, Phase.BROKEN],  # sync_schema_only
    [Phase.CLEANING, Phase.COPYING, Phase.TRIMMING, Phase.INDEXING, Phase.DONE],  # resumed
    [Phase.INDEXING, Phase.DONE],  # resumed when all was copied
    [Phase.DONE],  # complete already
]


@pytest.mark.parametrize("path", PATHS)
def test_a_table_goes_through_its_phases(path: list[Phase]) -> None:
    copy = CopiedTable(0, plan_of([SegmentRecord(0)]), Budget(1, None, 0.0), 0.0)
    for at, phase in enumerate(path, start=1):
        assert not copy.over
        copy.enter(phase, float(at))
    assert copy.over
    assert copy.status(100.0, filtered=False).seconds == len(path) - 1


def test_no_phase_is_entered_that_the_table_of_phases_does_not_allow() -> None:
    copy = CopiedTable(0, plan_of([SegmentRecord(0)]), Budget(1, None, 0.0), 0.0)
    with pytest.raises(AssertionError, match="WAITING to COPYING"):
        copy.enter(Phase.COPYING, 0.0)
    assert set(NEXT) == set(Phase)


@pytest.mark.parametrize(("budget", "left"), [(None, 1), (100.0, 1), (0.1, 5)])
def test_the_rate_is_of_the_table_s_own_time_and_the_time_left_within_the_budget(
    budget: float | None, left: float
) -> None:
    copy = CopiedTable(0, plan_of([SegmentRecord(0)]), Budget(1, budget, 0.0), 0.0)
    copy.enter(Phase.PREPARING, 1000.0)
    copy.enter(Phase.COPYING, 1000.0)
    reading = Reading(copy)
    reading.now = 1001.0
    reading.publish(reading.lease(), page(1, b"k", 50))
    reading.store()
    status = copy.status(1001.0, filtered=False)
    assert status.rate == pytest.approx(50, rel=0.1)
    assert status.seconds_left == pytest.approx(left, rel=0.1)


def test_the_time_left_is_unknown_once_dynamodb_s_count_is_read() -> None:
    copy = copy_of([SegmentRecord(0), SegmentRecord(1)])
    reading = Reading(copy)
    reading.now = 1.0
    leases = reading.lease(), reading.lease()
    for last_key, left in ((b"k", None), (None, 0.0)):
        for lease in leases:
            reading.publish(lease, page(lease.number, last_key, 50))  # of 100
        reading.store()
        assert copy.status(1.0, filtered=False).seconds_left == left


def test_what_a_copy_that_was_dropped_may_have_left_is_removed_too() -> None:
    plan = plan_of([SegmentRecord(0, run=3)], run=3)
    first, _ = segment_tail(STAMP, 0, 0)
    cases: list[tuple[OnExisting, list[tuple[bytes, bytes]]]]
    cases = [("drop", []), ("resync", [(bytes(12), first)])]
    for on_existing, older in cases:
        record = replace(plan.record, on_existing=on_existing)
        copy = CopiedTable(0, replace(plan, record=record), Budget(1000, None, 0.0), 0.0)
        assert copy.tails(before=4) == [*older, segment_tail(STAMP + 3, 0, 0)]
