"""When a key counts as different, when as undecided, and what a task has applied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shake.check import doubts as module
from shake.check.doubts import Doubts, Mismatch
from shake.check.following import Following, SavedPoint, Wait
from shake.check.gate import Gate
from shake.checkpoint.checkpoints import Checkpoints
from shake.checkpoint.contract import Store, StoreUnavailable
from shake.checkpoint.file_store import FileStore
from shake.checkpoint.holder import Holder
from shake.checkpoint.records import STATUS_TABLE
from shake.checkpoint.stream_records import AppliedRecord
from shake.checkpoint.task_lock import EXPIRY, TaskLock
from shake.config import Config


@dataclass
class World:
    """A clock, a source and a target of values by key, and a task that applies in between."""

    store: Store
    now: float = 1000.0
    source: dict[bytes, int] = field(default_factory=dict)
    target: dict[bytes, int] = field(default_factory=dict)
    applies: bool = True
    step: Callable[[], None] = lambda: None
    wrong: list[bytes] = field(default_factory=list)
    open: list[bytes] = field(default_factory=list)
    record: AppliedRecord = field(default_factory=lambda: AppliedRecord("run"))

    def wait(self, seconds: float) -> bool:
        """Time passes; called in the place of the waits of the doubts."""
        self.now += 1.0
        self.step()
        if self.applies:
            through = {"t": self.now - 3.0}
            self.record = replace(self.record, number=self.record.number + 1, through=through)
            Checkpoints(self.store).save_applied(self.record)
        return False

    # ---- as the Comparer

    def look(self, keys: Sequence[bytes]) -> list[Mismatch[None]]:
        both = {key: (self.source.get(key), self.target.get(key)) for key in keys}
        return [
            Mismatch(key, repr(pair).encode(), None)
            for key, pair in both.items()
            if len({*pair}) > 1
        ]

    def moment(self) -> float:
        return self.now

    def differs(self, mismatch: Mismatch[None]) -> None:
        self.wrong.append(mismatch.key)

    def undecided(self, key: bytes, why: str) -> None:
        self.open.append(key)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path, "task-checkpoint", sync=lambda handle: None)


@pytest.fixture
def world(store: FileStore) -> Iterator[World]:
    lock = TaskLock.acquire(store, notice=print)
    yield World(store)
    lock.release()


def following(world: World) -> Following:
    return Following(
        Config(id="t", target_address="mongodb://localhost/"),
        follows=True,
        clock=lambda: world.now,
        opened=lambda config: world.store,
    )


def resolve(world: World, *keys: bytes) -> None:
    stop: Any = threading.Event()
    stop.wait = world.wait
    found = Doubts(
        "t", world, following(world), Gate(), stop, clock=lambda: world.now, jitter=lambda: 1.0
    )
    found.put(keys)
    found.resolve()


def test_what_arrives_within_the_lag_is_no_difference(world: World) -> None:
    world.source = {b"late": 2, b"new": 1}
    world.target = {b"late": 1, b"gone": 1}

    def step() -> None:
        if world.now > 1003:
            world.target = {b"late": 2, b"new": 1}

    world.step = step
    resolve(world, b"late", b"new", b"gone")
    assert (world.wrong, world.open) == ([], [])


def test_what_outlasts_the_applied_changes_is_a_difference(world: World) -> None:
    world.source, world.target = {b"missing": 1, b"different": 2}, {b"different": 1, b"extra": 1}
    resolve(world, b"missing", b"different", b"extra")
    assert (sorted(world.wrong), world.open) == ([b"different", b"extra", b"missing"], [])
    assert world.now > 1000 + 2 * 3


def test_a_key_that_changes_at_each_look_is_undecided(world: World) -> None:
    world.source, world.target = {b"hot": 0}, {b"hot": -1}

    def step() -> None:
        world.source[b"hot"] += 1
        world.target[b"hot"] = world.source[b"hot"] - 1

    world.step = step
    resolve(world, b"hot")
    assert (world.wrong, world.open) == ([], [b"hot"])


def test_a_key_that_rests_again_in_time_is_decided(world: World) -> None:
    world.source, world.target = {b"a": 0, b"b": 0}, {b"a": -1, b"b": -1}

    def step() -> None:
        if world.now < 1030:
            world.source = dict.fromkeys(world.source, int(world.now))
        elif world.now > 1033:
            world.target[b"a"] = world.source[b"a"]

    world.step = step
    resolve(world, b"a", b"b")
    assert (world.wrong, world.open) == ([b"b"], [])


def test_where_the_task_says_nothing_new_a_key_is_undecided(world: World) -> None:
    world.source, world.applies = {b"a": 1}, False
    resolve(world, b"a")
    assert (world.wrong, world.open) == ([], [b"a"])
    assert world.now > 1000 + 600


def test_a_time_that_was_worked_out_before_the_look_proves_nothing(world: World) -> None:
    """The source's clock was set back: the saved time is one of the clock before."""
    future = {"t": world.now + 3600}
    world.record = AppliedRecord("run", 7, future)
    Checkpoints(world.store).save_applied(world.record)
    seen = following(world)
    point = seen.saved_point()
    assert point == SavedPoint("run", 7)
    assert seen.wait("t", world.now, point, world.now) is Wait.NOT_YET
    world.wait(1.0)
    world.wait(1.0)
    assert seen.wait("t", world.now - 10, point, world.now) is Wait.APPLIED
    assert seen.wait("other", world.now - 10, point, world.now) is Wait.NOT_YET


def test_where_no_task_runs_a_key_that_differs_twice_is_a_difference(store: FileStore) -> None:
    world = World(store, source={b"a": 1})
    resolve(world, b"a")
    assert (world.wrong, world.open, world.now) == ([b"a"], [], 1000.0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_a_task_that_ends_during_the_check_has_not_applied_is_undecided(
    store: FileStore, elsewhere: bool
) -> None:
    holder = replace(Holder.me(), host="elsewhere") if elsewhere else Holder.me()
    lock = TaskLock.acquire(store, notice=print, me=holder)
    world = World(store, source={b"a": 1}, applies=False)

    def step() -> None:
        if world.now < 1010:
            lock.renew()
        else:
            lock.release()

    world.step = step
    resolve(world, b"a")
    assert (world.wrong, world.open) == ([], [b"a"])
    assert world.now < 1010 + EXPIRY


def test_a_task_that_had_ended_before_the_check_leaves_no_key_undecided(store: FileStore) -> None:
    """It was on another machine: the check first sees that its lock is not renewed."""
    TaskLock.acquire(store, notice=print, me=replace(Holder.me(), host="elsewhere"))
    world = World(store, source={b"a": 1}, applies=False)
    resolve(world, b"a")
    assert (world.wrong, world.open) == ([b"a"], [])
    assert world.now >= 1000 + EXPIRY


@pytest.mark.parametrize("renewed", [True, False])
def test_a_task_on_another_machine_runs_while_it_renews_its_lock(
    store: FileStore, renewed: bool
) -> None:
    world = World(store)
    other = replace(Holder.me(), host="elsewhere")
    lock = TaskLock.acquire(store, notice=print, me=other)
    seen = following(world)
    for _ in range(int(EXPIRY) + 5):
        assert seen.runs or world.now > 1000 + EXPIRY - 1
        world.now += 1.0
        if renewed:
            lock.renew()
    assert seen.runs == renewed
    wanted = Wait.NOT_YET if renewed else Wait.NO_TASK
    assert seen.wait("t", 0.0, SavedPoint(), world.now) is wanted


def test_how_far_changes_are_applied_survives_the_store(store: FileStore) -> None:
    checkpoints = Checkpoints(store)
    assert checkpoints.load_applied() is None
    record = AppliedRecord("run", 3, {"a.b": 1700000000.25, "c": 0.1})
    checkpoints.save_applied(record)
    assert checkpoints.load_applied() == record
    assert STATUS_TABLE in store.collections()


def test_no_page_is_read_while_too_many_keys_are_in_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    world.source = {bytes([n]): 1 for n in range(5)}
    stop: Any = threading.Event()
    stop.wait = world.wait
    found = Doubts("t", world, following(world), Gate(), stop, clock=lambda: world.now)
    found.put(world.source)
    assert len(found.held()) == 5
    found.make_room()
    assert len(found.held()) <= 2
    assert not set(found.held()) & set(world.wrong)


def test_a_store_that_does_not_answer_yet_does_not_say_that_no_task_runs(world: World) -> None:
    answers = False

    def opened(config: Config) -> Store:
        if not answers:
            raise StoreUnavailable("an election")
        return world.store

    config = Config(id="t", target_address="mongodb://localhost/")
    seen = Following(config, follows=True, clock=lambda: world.now, opened=opened)
    assert seen.runs
    answers = True
    world.wait(5.0)
    assert seen.runs
    assert not seen.ended


def test_what_one_process_of_a_check_has_seen_of_the_task_counts_for_all(store: FileStore) -> None:
    """The task ends before the first difference, which is found in another process."""
    world, lock = World(store), TaskLock.acquire(store, notice=print)
    parent, child = following(world), following(world)
    seen = parent.ran
    lock.release()
    assert not child.ended
    child.learn(ran=seen)
    assert child.ended
