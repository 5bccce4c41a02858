"""The traffic of the farm: leases, pages, slots and permits, without a single process."""

from __future__ import annotations

from typing import Any, cast

from shake.checkpoint.records import SegmentRecord
from shake.copy.scheduler import CopyScheduler
from shake.copy.table import CopiedTable
from shake.farm import worker_messages as messages
from shake.farm.farm import Farm
from shake.farm.pool import Worker, WorkerPool
from shake.farm.writer import LockGuard
from shake.limits import Budget
from shake.phase import Phase
from shake.process.loop import Loop
from shake.process.site import HERE
from shake.process.supervised import MAX_CRASHES
from shake.source.endpoint import Credentials, Endpoint
from tests.support.task import Notes
from tests.test_copy_table import page, plan_of
from tests.test_farm_process import config_of


class Far:
    """Stands for a process: keeps what it is sent."""

    pid = 1

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def all(self, type_: type[Any]) -> list[Any]:
        return [message for message in self.sent if isinstance(message, type_)]


class FarWriter(Far):
    """Stands for the writers of a table; ``numbers`` are those of the writers that pages go to."""

    def __init__(self, guard: LockGuard) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.guard = guard

    def of(self, number: int) -> FarWriter:
        self.numbers.append(number)
        return self

    def write(self, message: Any) -> None:
        self.guard.run(lambda: self.send(message))


class Stage:
    """Workers of two scanners each, tables being copied, and a clock that a test moves."""

    def __init__(
        self, *segments: int, workers: int = 1, budget: float | None = None, writers: int = 1
    ) -> None:
        self.now = 0.0
        self.ours = True
        self.task = Notes()
        self.loop = Loop(lambda: self.now)
        self.pool = WorkerPool(
            self.loop,
            config_of("full.document.parser=2"),
            Endpoint("http://127.0.0.1:9", "us-east-1"),
            Credentials("test", "test"),
            [],
            0,
            self.task,
        )
        self.far = [Far() for _ in range(workers)]
        for number, far in enumerate(self.far):
            worker = Worker(self.pool, number, HERE, number, 2, 0)
            worker.child = far  # type: ignore[assignment]  # keeps what it is sent
            self.pool.workers.append(worker)
        self.copies = []
        for number, count in enumerate(segments):
            plan = plan_of([SegmentRecord(segment) for segment in range(count)])
            copy = CopiedTable(number, plan, Budget(1000, budget, 0.0), 0.0, writers)
            copy.enter(Phase.CLEANING, 0.0)
            copy.enter(Phase.COPYING, 0.0)
            self.copies.append(copy)
        self.guard = LockGuard(lambda: self.ours)
        self.writers = {number: FarWriter(self.guard) for number in range(len(segments))}
        self.dispatch = CopyScheduler(
            Farm(
                self.pool.config, self.loop, self.pool, cast(Any, None), self.task, cast(Any, None)
            ),
            self.copies,
            self.writers,  # type: ignore[arg-type]  # they too
        )

    def leases(self, worker: int = 0) -> list[messages.LeaseSegment]:
        return self.far[worker].all(messages.LeaseSegment)

    def publish(self, message: messages.Page, worker: int = 0) -> None:
        self.pool.workers[worker].received(message)

    def store(self, table: int = 0) -> None:
        """The target acknowledges what the table's writer was sent and has not stored."""
        for write in self.writers[table].sent:
            self.pool.ledger.acknowledge(write.publication)

    def end(self, lease: int) -> None:
        worker = next(w for w in self.pool.workers if lease in w.scanners)
        worker.received(messages.Idle(worker.scanners.index(lease)))
        self.dispatch.assign()

    def die(self, worker: Worker) -> None:
        worker.scanners = [None] * len(worker.scanners)
        self.pool.ledger.lose(worker.number)
        self.dispatch.worker_crashed(worker.number)


def test_every_scanner_gets_a_segment_and_tables_share_them_evenly() -> None:
    stage = Stage(9, 9, workers=2)
    stage.dispatch.assign()
    leases = stage.leases(0) + stage.leases(1)
    assert len(leases) == 4
    assert sorted(lease.table for lease in leases) == [0, 0, 1, 1]
    assert sorted(
        (worker, lease.scanner) for worker in (0, 1) for lease in stage.leases(worker)
    ) == [*((0, 0), (0, 1), (1, 0), (1, 1))]


def test_a_page_is_stored_from_its_slot_which_is_free_when_the_target_has_it() -> None:
    stage = Stage(1)
    stage.dispatch.assign()
    (lease,) = stage.leases()
    stage.publish(page(lease.lease, None, 7, slot=4, length=99))
    (write,) = stage.writers[0].sent
    assert (write.arena, write.slot, write.length) == (0, 4, 99)
    assert not stage.pool.ledger.drained
    assert not stage.far[0].all(messages.Free)
    stage.store()
    assert stage.far[0].all(messages.Free) == [messages.Free(4)]
    assert stage.pool.ledger.drained
    assert stage.task.read == [0]


def test_the_pages_of_a_segment_go_to_one_writer_whoever_reads_it() -> None:
    stage = Stage(2, workers=2, writers=2)
    stage.dispatch.assign()
    first, second = stage.leases(0) + stage.leases(1)
    stage.publish(page(first.lease, b"a"), 0)
    stage.publish(page(second.lease, b"b"), 1)
    stage.publish(page(first.lease, b"c"), 0)
    stage.store()
    stage.die(stage.pool.workers[0])
    again = stage.leases(0)[-1]
    assert (again.segment, again.start) == (first.segment, b"c")
    stage.publish(page(again.lease, b"d"), 0)
    assert stage.writers[0].numbers == [1, 2, 1, 1]


def test_only_the_first_page_of_a_lease_has_the_writer_read_again_what_is_kept() -> None:
    """Also where the pages before it are acknowledged: else the store is read for each page."""
    stage = Stage(1)
    stage.dispatch.assign()
    (lease,) = stage.leases()
    for key in (b"a", b"b", b"c"):
        stage.publish(page(lease.lease, key))
        stage.store()
    assert [write.first for write in stage.writers[0].sent] == [True, False, False]
    stage.die(stage.pool.workers[0])
    stage.publish(page(stage.leases()[1].lease, b"d", 0, slot=-1))  # no writer hears of it
    stage.publish(page(stage.leases()[1].lease, b"e"))
    assert stage.writers[0].sent[-1].first


def test_an_empty_last_page_ends_the_copy_without_a_write() -> None:
    stage = Stage(1)
    stage.dispatch.assign()
    stage.publish(page(stage.leases()[0].lease, None, 0, slot=-1))
    assert stage.writers[0].sent == []
    assert stage.task.read == [0]


def test_a_scanner_that_is_idle_gets_what_a_dead_worker_left() -> None:
    stage = Stage(2)
    stage.dispatch.assign()
    first, second = stage.leases()
    stage.publish(page(first.lease, b"k", 7))
    stage.end(first.lease)
    assert len(stage.leases()) == 2  # what was published of it is on its way
    stage.store()
    again = stage.leases()[2]
    assert (again.segment, again.start, again.documents) == (first.segment, b"k", 7)
    stage.publish(page(second.lease, None))
    stage.end(second.lease)
    assert len(stage.leases()) == 3


def test_a_segment_cut_in_the_middle_of_a_page_is_leased_when_the_target_has_the_half() -> None:
    stage = Stage(1)
    stage.dispatch.assign()
    (lease,) = stage.leases()
    stage.publish(page(lease.lease, None, 7, complete=False))
    stage.end(lease.lease)
    assert len(stage.leases()) == 1
    stage.store()
    assert stage.leases()[1].start is None
    for complete in (False, True, True):
        stage.publish(page(stage.leases()[1].lease, b"a", complete=complete))
    assert [write.first for write in stage.writers[0].sent] == [True, True, True, False]


def test_no_page_is_written_while_the_task_may_be_anothers() -> None:
    stage = Stage(1)
    stage.dispatch.assign()
    (lease,) = stage.leases()
    stage.ours = False
    for key in (b"a", b"b"):
        stage.publish(page(lease.lease, key))
    stage.guard.release()
    assert stage.writers[0].sent == []
    assert not stage.pool.ledger.drained
    stage.ours = True
    stage.guard.release()
    stage.guard.release()
    assert len(stage.writers[0].sent) == 2


def test_a_task_that_drains_leases_nothing_and_goes_no_further() -> None:
    stage = Stage(1, 1)
    stage.dispatch.assign()
    first, second = stage.leases()
    stage.task.draining = True
    stage.end(first.lease)
    assert len(stage.leases()) == 2
    stage.publish(page(second.lease, None))
    stage.store(second.table)
    assert stage.task.read == []


def test_permits_come_now_or_as_soon_as_the_budget_allows() -> None:
    stage = Stage(1, budget=100.0)
    worker = stage.pool.workers[0]
    stage.dispatch.wanted(worker.number, 0)
    stage.dispatch.wanted(worker.number, 0)
    assert len(stage.far[0].all(messages.Permit)) == 1
    stage.now += 5.0
    stage.loop.run(lambda: len(stage.far[0].all(messages.Permit)) == 2)


def test_a_call_that_cost_less_than_was_reserved_lets_the_next_go_at_once() -> None:
    stage = Stage(1, budget=1.0)  # 128 units are reserved: two minutes
    stage.dispatch.assign()
    worker = stage.pool.workers[0]
    stage.dispatch.wanted(worker.number, 0)
    stage.dispatch.wanted(worker.number, 0)
    stage.now += 0.1
    stage.publish(page(stage.leases()[0].lease, b"k", capacity=0.5))
    stage.now += 0.5
    stage.publish(page(stage.leases()[0].lease, b"l", capacity=0.0))
    assert len(stage.far[0].all(messages.Permit)) == 2


def test_a_dead_worker_is_permitted_nothing() -> None:
    stage = Stage(1, workers=2, budget=100.0)
    dead, alive = stage.pool.workers
    stage.dispatch.wanted(alive.number, 0)
    stage.dispatch.wanted(dead.number, 0)
    stage.dispatch.wanted(alive.number, 0)
    stage.die(dead)
    stage.now += 5.0
    stage.loop.run(lambda: len(stage.far[1].all(messages.Permit)) == 2)
    assert stage.far[0].all(messages.Permit) == []


def test_a_permit_that_a_refund_brings_near_does_not_wait_for_the_old_timer() -> None:
    stage = Stage(1, budget=10.0)
    stage.dispatch.assign()
    worker = stage.pool.workers[0]
    stage.dispatch.wanted(worker.number, 0)
    stage.dispatch.wanted(worker.number, 0)  # in 13 seconds, as far as is known
    stage.publish(page(stage.leases()[0].lease, b"k", capacity=3.0))  # in 0.3 seconds
    began = stage.now
    stage.now += 1.0
    stage.loop.run(lambda: len(stage.far[0].all(messages.Permit)) == 2)
    assert stage.now - began < 2


def test_a_position_that_kills_whoever_reads_on_ends_the_task_and_one_that_moves_does_not() -> None:
    stage = Stage(1)
    stage.dispatch.assign()
    worker = stage.pool.workers[0]
    for death in range(MAX_CRASHES * 3 - 1):
        lease = next(lease for lease in worker.scanners if lease is not None)
        if death < MAX_CRASHES * 2:
            stage.publish(page(lease, b"%d" % death))
            stage.store()
        assert stage.task.errors == []
        stage.die(worker)
    stage.die(worker)
    [error] = stage.task.errors
    assert "segment 0" in str(error)
