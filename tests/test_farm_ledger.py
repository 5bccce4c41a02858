"""The ledger: no slot is freed twice, nothing counts before what is older, and no work is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shake.farm.ledger import End, Lease, Ledger, Published
from tests.support.task import Slots

PARTS, WORKERS, LENGTH = 3, 2, 12

PartLease = Lease[str, int, int]


class Readers(RuleBasedStateMachine):
    """Workers read parts, which are numbers 0, 1, 2.. up to LENGTH each; a target takes them.

    Those of even parts are sent at once, as pages are, and those of odd parts one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()
        self.ledger = Ledger(self.slots)
        self.leases: dict[int, PartLease] = {}  # that a worker holds
        self.given: list[PartLease] = []
        self.free = set(range(PARTS))
        self.done = dict.fromkeys(range(PARTS), 0)  # acknowledged without a hole
        self.read: dict[int, int] = {}  # by lease: what its worker reads next
        self.target: dict[int, set[int]] = {part: set() for part in range(PARTS)}
        self.sent: list[Published[int]] = []  # that the target has not answered
        self.answered: list[Published[int]] = []
        self.used: list[tuple[int, int]] = []  # each slot that was filled, each another one
        self.died: set[int] = set()
        self.closings: Counter[int] = Counter()

    # ---- as the job

    def received(self, lease: PartLease, message: Any) -> None:
        raise AssertionError

    def acknowledged(self, lease: PartLease, published: Published[int]) -> None:
        assert published.content == self.done[lease.part]
        assert published.content in self.target[lease.part]
        self.done[lease.part] += 1

    def closed(self, lease: PartLease) -> None:
        self.closings[lease.number] += 1
        assert (lease.end is End.LOST) == (lease.number in self.died)
        if self.done[lease.part] < LENGTH:
            self.free.add(lease.part)

    # ---- what can happen

    @precondition(lambda self: self.free)
    @rule(data=st.data(), worker=st.integers(0, WORKERS - 1))
    def grant(self, data: st.DataObject, worker: int) -> None:
        self.begin(data.draw(st.sampled_from(sorted(self.free))), worker)

    def begin(self, part: int, worker: int) -> None:
        self.free.remove(part)
        lease = self.ledger.grant(self, "table", part, worker, 0.0)
        assert self.ledger.held(lease.number) is lease
        self.leases[lease.number] = lease
        self.given.append(lease)
        self.read[lease.number] = self.done[part]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), slots=st.lists(st.booleans(), min_size=1, max_size=5))
    def publish(self, data: st.DataObject, slots: list[bool]) -> None:
        number = data.draw(st.sampled_from(sorted(self.leases)))
        for filled in slots:
            if number in self.leases:
                self.go_on(number, empty=not filled)

    def go_on(self, number: int, *, empty: bool) -> None:
        """Its worker reads the next number; behind the last one it ends."""
        lease, load = self.leases[number], self.read[number]
        if load == LENGTH:
            del self.leases[number]
            self.ledger.end(lease, End.FINISHED)
            return
        slot = -1 if empty else len(self.used)
        if not empty:
            self.used.append((lease.worker, slot))
        self.read[number] += 1
        self.ledger.publish(lease, slot, load)
        self.send(lease)

    def send(self, lease: PartLease) -> None:
        while lease.waiting and (lease.part % 2 == 0 or not lease.sent):
            published = self.ledger.send(lease)
            if published.slot < 0:
                self.target[lease.part].add(published.content)
                self.ledger.acknowledge(published.number)
            else:
                self.sent.append(published)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        self.take(data.draw(st.integers(0, len(self.sent) - 1)))

    def take(self, at: int) -> None:
        published = self.sent.pop(at)
        self.answered.append(published)
        self.target[published.lease.part].add(published.content)
        self.ledger.acknowledge(published.number)
        self.send(published.lease)

    @rule(data=st.data(), what=st.sampled_from(["answer again", "end", "die 0", "die 1"]))
    def disturb(self, data: st.DataObject, what: str) -> None:
        match what.split():
            case ["answer", _] if self.answered:
                self.ledger.acknowledge(data.draw(st.sampled_from(self.answered)).number)
            case ["end"] if self.leases:  # its worker gives way
                self.ledger.end(self.leases.pop(data.draw(st.sampled_from(sorted(self.leases)))))
            case ["die", worker]:
                self.die(int(worker))

    def die(self, worker: int) -> None:
        self.died |= {n for n, one in self.leases.items() if one.worker == worker}
        self.ledger.lose(worker)
        self.leases = {n: one for n, one in self.leases.items() if one.worker != worker}

    # ---- what always holds

    @invariant()
    def a_late_report_finds_no_lease(self) -> None:
        held = {lease.number for lease in self.given if self.ledger.held(lease.number)}
        assert held == set(self.leases)

    @invariant()
    def a_slot_is_freed_once_and_not_before_it_may_be_filled_again(self) -> None:
        freed = Counter(self.slots.freed)
        assert set(freed.values()) <= {1}
        busy = {(one.lease.worker, one.slot) for one in self.sent}
        busy |= {(o.lease.worker, o.slot) for n in self.given for o in n.waiting if o.slot >= 0}
        assert set(self.used) - busy == set(freed)

    @invariant()
    def what_counts_is_in_the_target_without_a_hole(self) -> None:
        assert all(set(range(end)) <= self.target[part] for part, end in self.done.items())

    @invariant()
    def each_lease_closes_once_and_its_part_is_leased_by_none_before(self) -> None:
        assert set(self.closings.values()) <= {1}
        live = [lease.part for lease in self.given if not self.closings[lease.number]]
        assert len(live) == len(set(live))
        assert self.free.isdisjoint(live)
        assert self.ledger.drained == (not any(list(lease.unacknowledged) for lease in self.given))

    def teardown(self) -> None:
        """Undisturbed, everything is read and acknowledged in the end."""
        for _ in range(PARTS * (LENGTH + 2)):
            for part in sorted(self.free):
                self.begin(part, 0)
            for number in list(self.leases):
                self.go_on(number, empty=False)
            while self.sent:
                self.take(0)
        assert self.done == dict.fromkeys(range(PARTS), LENGTH)
        assert self.ledger.drained


def test_no_slot_is_freed_twice_nothing_skips_a_hole_and_no_work_is_lost() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis declares no types
        Readers,
        settings=settings(max_examples=60, stateful_step_count=50),
    )
