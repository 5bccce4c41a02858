"""The checkpointer: in order, until it is durable, and never at the price of the lease."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import Document, StoreUnavailable
from shake.checkpoint.records import STATUS_TABLE, SegmentRecord, TableRecord
from shake.checkpoint.task_lock import EXPIRY, INTERVAL, TaskLock
from shake.copy.table import CopiedTable, SegmentLease
from shake.errors import ShakeError
from shake.farm.checkpointer import Checkpointer
from tests.support.task import Notes
from tests.support.wait import until
from tests.test_copy_table import Reading, copy_of, page


class MemoryStore:
    """Collections in memory; the next ``outages`` writes find the store out of reach."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, dict[str, Any]]] = {}
        self.written: list[str] = []
        self.outages = 0
        self.bug = False
        self.before: Callable[[str], object] = lambda collection: None
        self.ready, self.swaps = threading.Event(), threading.Event()
        self.ready.set()
        self.swaps.set()

    def others(self) -> str:
        return ""

    def collections(self) -> list[str]:
        return sorted(self.held)

    def read(self, collection: str, ids: Any = None) -> list[dict[str, Any]]:
        held = self.held.get(collection, {})
        return [one for key, one in held.items() if ids is None or key in ids]

    def write(self, collection: str, documents: Sequence[Document]) -> None:
        self.ready.wait(20)
        self.before(collection)
        if self.bug:
            raise ZeroDivisionError("a bug")
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("checkpoints are out of reach")
        for one in documents:
            self.held.setdefault(collection, {})[one["_id"]] = dict(one)
        self.written.append(collection)

    def swap(self, collection: str, old: Document | None, new: Document | None) -> bool:
        self.swaps.wait(20)
        held = self.held.setdefault(collection, {})
        key = (old or new or {})["_id"]
        if held.get(key) != old:
            return False
        held.pop(key, None)
        if new is not None:
            held[key] = dict(new)
            self.written.append("renewal")
        return True

    def discard(self, collection: str, document: Document) -> None:
        raise AssertionError("a run that works discards nothing")

    def close(self) -> None:
        pass


class Stage:
    """A checkpointer whose clock stands still until a test moves it, and what it told the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = MemoryStore()
        self.lease = TaskLock.acquire(self.store, notice=print, clock=lambda: self.now)
        self.task = Notes()
        self.told = self.task.told
        self.checkpointer = Checkpointer(
            Checkpoints(self.store),
            self.lease,
            lambda: self.now,
            lambda call: call(),
            self.task,
        )

    def save(self, name: str) -> None:
        self.checkpointer.save_table(
            TableRecord(name, f"db.{name}", 1, 1), lambda: self.told.append(name)
        )

    @property
    def renewals(self) -> int:
        return int(self.store.held[STATUS_TABLE]["lease"]["Renewals"])


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.store.ready.set()
    if stage.checkpointer.ident:
        stage.checkpointer.close(5)
        assert not stage.checkpointer.is_alive()


def move(reading: Reading, lease: SegmentLease, last_key: bytes | None) -> CopiedTable:
    reading.publish(lease, page(lease.number, last_key))
    reading.store()
    return reading.copy


def test_saves_happen_in_the_order_in_which_they_were_given(stage: Stage) -> None:
    for number in range(20):
        stage.save(f"t{number}")
    stage.checkpointer.start()
    expected = [f"t{number}" for number in range(20)]
    until(lambda: stage.told == expected)
    assert [name for name in stage.store.written if name != "renewal"] == expected


def test_what_follows_a_save_happens_only_when_it_is_durable(stage: Stage) -> None:
    stage.store.ready.clear()
    stage.checkpointer.start()
    stage.save("t")
    assert stage.told == []
    stage.store.ready.set()
    until(lambda: stage.told == ["t"])
    assert "t" in stage.store.held


def test_segments_that_moved_are_saved_once_and_idle_means_durable(stage: Stage) -> None:
    copy = copy_of([SegmentRecord(0), SegmentRecord(1)])
    reading = Reading(copy)
    lease = reading.lease()
    stage.store.ready.clear()
    stage.checkpointer.start()
    stage.checkpointer.save_segments([copy])
    assert stage.checkpointer.idle  # nothing has moved
    stage.checkpointer.save_segments([move(reading, lease, b'{"pk":{"S":"k"}}')])
    assert not stage.checkpointer.idle
    stage.checkpointer.save_segments([copy])
    stage.store.ready.set()
    until(lambda: stage.checkpointer.idle)
    assert stage.store.written.count("things") == 1
    (document,) = stage.store.read("things")
    assert document["LastEvaluatedKey"] == '{"pk":{"S":"k"}}'


def test_a_store_out_of_reach_is_told_and_tried_again(stage: Stage) -> None:
    stage.store.outages = 1
    stage.save("t")
    stage.checkpointer.start()
    until(lambda: stage.told == ["checkpoints are out of reach", "t"])


def test_a_lost_lease_ends_the_task_and_saves_nothing_more(stage: Stage) -> None:
    stage.store.ready.clear()
    stage.checkpointer.start()
    stage.save("first")
    until(lambda: stage.renewals > 0)
    stage.store.held[STATUS_TABLE]["lease"]["Token"] = "somebody else's"
    stage.now += INTERVAL
    stage.save("second")
    stage.store.ready.set()
    stage.checkpointer.join(20)
    assert stage.told[0] == "first"
    (error,) = stage.told[1:]
    assert isinstance(error, ShakeError)
    assert "the lock of this task is lost" in str(error)
    assert "second" not in stage.store.held
    assert not stage.checkpointer.close(0.1)


def test_the_lease_is_renewed_before_the_first_save(stage: Stage) -> None:
    # Planning may have taken longer than the lease lasts.
    stage.store.held[STATUS_TABLE]["lease"]["Token"] = "somebody else's"
    stage.save("t")
    stage.checkpointer.start()
    stage.checkpointer.join(20)
    assert [type(each).__name__ for each in stage.told] == ["TaskLockLost"]
    assert "t" not in stage.store.held


def test_the_lease_is_renewed_however_much_there_is_to_save(stage: Stage) -> None:
    def save_next(left: int) -> Callable[[], None]:
        def then() -> None:
            stage.now += 1.0
            if left:
                assert stage.lease.fresh(stage.now)
                stage.checkpointer.save_table(TableRecord("t", "db.t", 1, 1), save_next(left - 1))
            else:
                stage.told.append("end")

        return then

    for _ in range(3):  # the queue is never empty
        stage.save("t")
    stage.checkpointer.save_table(TableRecord("t", "db.t", 1, 1), save_next(100))
    stage.checkpointer.start()
    until(lambda: "end" in stage.told)
    assert stage.renewals >= 10


def many_moved(tables: int) -> list[CopiedTable]:
    """Copies of tables t0, t1, ..., which have something to save."""
    copies = [copy_of([SegmentRecord(0), SegmentRecord(1)]) for _ in range(tables)]
    for number, copy in enumerate(copies):
        copy.record = replace(copy.record, table=f"t{number}")
        reading = Reading(copy)
        move(reading, reading.lease(), b'{"pk":{"S":"k"}}')
    return copies


def test_the_lease_is_renewed_while_one_save_takes_longer_than_it_lasts(stage: Stage) -> None:
    fresh: list[bool] = []

    def take_time(collection: str) -> None:
        stage.now += 0.1
        fresh.append(stage.lease.fresh(stage.now))

    stage.store.before = take_time
    stage.checkpointer.save_segments(many_moved(500))
    stage.checkpointer.start()
    until(lambda: stage.checkpointer.idle)
    assert stage.now >= EXPIRY
    assert fresh == [True] * 500


def test_a_store_out_of_reach_in_the_midst_of_a_save_has_nothing_written_twice(
    stage: Stage,
) -> None:
    outages = iter([StoreUnavailable("checkpoints are out of reach")])

    def fail_once(collection: str) -> None:
        if collection == "t50" and (error := next(outages, None)):
            raise error

    stage.store.before = fail_once
    stage.checkpointer.save_segments(many_moved(100))
    stage.checkpointer.start()
    until(lambda: stage.checkpointer.idle)
    assert stage.told == ["checkpoints are out of reach"]
    saved = Counter(name for name in stage.store.written if name != "renewal")
    assert saved == {f"t{number}": 1 for number in range(100)}


def test_a_save_of_many_tables_takes_far_less_than_one_write_after_the_other(stage: Stage) -> None:
    together = threading.Barrier(8)  # which no write passes alone
    stage.store.before = lambda collection: together.wait(20)
    stage.checkpointer.save_segments(many_moved(64))
    stage.checkpointer.start()
    until(lambda: stage.checkpointer.idle)
    assert stage.told == []


def test_an_unexpected_error_ends_the_task_too(stage: Stage) -> None:
    # A checkpointer that died in silence would leave a task that runs on and saves nothing.
    stage.store.bug = True
    stage.save("t")
    stage.checkpointer.start()
    stage.checkpointer.join(20)
    (error,) = stage.told
    assert isinstance(error, ShakeError)
    assert "ZeroDivisionError: a bug" in str(error)


def test_closing_finishes_what_was_given_but_does_not_wait_for_a_store_that_is_gone() -> None:
    stage = Stage()
    stage.checkpointer.start()
    for number in range(5):
        stage.save(f"t{number}")
    assert stage.checkpointer.close(20)
    assert stage.told == [f"t{number}" for number in range(5)]

    stage = Stage()
    stage.store.outages = 1 << 30
    stage.save("lost")
    stage.checkpointer.start()
    until(lambda: stage.told)
    assert not stage.checkpointer.close(0.1)
    stage.checkpointer.join(5)
    assert not stage.checkpointer.is_alive()
    assert "lost" not in stage.told


@pytest.mark.parametrize("given", [0, 1])
def test_a_renewal_that_hangs_in_the_end_has_not_lost_a_save(stage: Stage, given: int) -> None:
    stage.store.swaps.clear()
    for _ in range(given):
        stage.save("t")
    stage.checkpointer.start()
    assert stage.checkpointer.close(0.1) is (given == 0)
    stage.store.swaps.set()
