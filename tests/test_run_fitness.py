"""A site that makes no progress while others do is used no longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shake.farm.pool import Worker, WorkerPool
from shake.farm.worker_messages import Tip
from shake.process.loop import Loop
from shake.process.messages import Diagnosis, Failed
from shake.process.site import Ahead, ThisMachine
from shake.run.fitness import Fitness, Kind
from shake.source.clock import Bounds
from shake.source.endpoint import Credentials, Endpoint
from tests.support.task import Notes
from tests.test_farm_process import config_of


class Place(ThisMachine):
    """A site without any process."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.ahead = Ahead(0.0, 0.0)
        self.reachable = True

    def create_arena(self, slots: int) -> int:
        return -1

    def launch(self, *_: Any) -> Any:
        self.child = Far()
        return self.child, self.child


class Far:
    """Process and connection of a child elsewhere, which sends ``message``."""

    pid, status = 1, None

    def __init__(self) -> None:
        self.peer: Any = None
        self.message: Any = None

    def attach(self, loop: Loop, peer: Any) -> None:
        self.peer = peer

    def begin(self, start: Any, set_up: Any) -> None:
        pass

    def send(self, message: Any) -> None:
        pass

    def receive(self) -> tuple[list[Any], bool]:
        return [self.message], True

    def says(self, message: Any) -> None:
        self.message = message
        self.peer.read()


class World:
    """Two sites, ``a`` and ``b``, with a worker each; both hold a lease."""

    def __init__(self) -> None:
        self.now = 0.0
        self.task = Notes()
        self.sites = [Place("a"), Place("b")]
        self.pool = WorkerPool(
            Loop(lambda: self.now),
            config_of("full.document.parser=2"),
            Endpoint("http://127.0.0.1:9", "us-east-1"),
            Credentials("test", "test"),
            self.sites,
            1,
            self.task,
        )
        self.waiting: set[int] = set()
        self.fitness = Fitness(self.pool, self.task, lambda: self.now, self)
        for worker in self.pool.workers:
            worker.scanners[0] = worker.number + 1

    # as Permits

    def waits(self, worker: int) -> bool:
        return worker in self.waiting

    def drop(self, worker: int) -> None:
        self.waiting.discard(worker)

    # what happens each second

    def reads(self, worker: Worker) -> None:
        worker.received(Tip(1, 0.0))

    def stores(self, worker: Worker) -> None:
        worker.busy.add(1)
        worker.free(1)

    def last(self, seconds: int, each_second: Callable[[], None]) -> list[object]:
        """What was reported and given up by then."""
        for _ in range(seconds):
            self.now += 1.0
            each_second()
            self.fitness.each_second()
        return sorted(set(self.task.told), key=str)


def test_what_a_child_reports_of_its_machine_ends_no_task_and_names_the_node() -> None:
    world = World()
    worker, site = world.pool.workers[1], world.sites[1]
    worker.start()
    site.child.says(Failed("its disk is full", "", of_machine=True))
    [error] = world.task.given_up[site]
    assert str(error) == "worker 1 on b: its disk is full"
    site.child.says(Diagnosis("worker 1", 1, 1, 0.0, ""))
    assert world.task.heard[0].role == "worker 1 on b"
    site.child.says(Failed("the item cannot be stored", ""))
    assert world.task.heard[1].text == "the item cannot be stored"


def test_the_source_s_clock_as_a_node_measures_it_counts_by_the_clock_of_this_machine() -> None:
    """Else a clock that is set back is noticed late: only nodes ask the source all the time."""
    world = World()
    worker, site = world.pool.workers[1], world.sites[1]
    site.ahead = None  # type: ignore[assignment]
    worker.received(Bounds(10.0, 11.0))
    assert world.task.heard == []
    site.ahead = Ahead(1000.0, 1000.5)
    worker.received(Bounds(10.0, 11.0))
    assert world.task.heard == [Bounds(1010.0, 1011.5)]


REPORTED = "node b has read nothing for 30 s, while others did, or had nothing to do: no route"
GIVEN_UP = ("b", "it has read nothing for 120 s, while others did, or had nothing to do: no route")


def test_a_site_that_cannot_read_is_reported_and_then_given_up() -> None:
    world = World()
    good, bad = world.pool.workers
    world.reads(bad)

    def each_second() -> None:
        world.reads(good)
        world.fitness.failed(bad.site, Kind.READS, "no route")

    assert world.last(29, each_second) == []
    assert world.last(90, each_second) == [REPORTED]
    assert world.last(2, each_second) == [GIVEN_UP, REPORTED]
    assert world.task.told[-2:] == [REPORTED, GIVEN_UP]  # the task stays degraded meanwhile


def test_a_site_that_cannot_write_is_given_up_although_it_reads() -> None:
    world = World()
    good, bad = world.pool.workers
    bad.busy.add(0)

    def each_second() -> None:
        world.reads(bad)
        world.stores(good)

    assert (
        "b",
        "it has written nothing for 120 s, while others did, or had nothing to do",
    ) in world.last(121, each_second)


def nothing(world: World) -> None:
    """All stand still."""


def throttled(world: World) -> None:
    world.reads(world.pool.workers[0])
    world.fitness.failed(world.sites[1], Kind.READS, "slow down", throttled=True)


def waits(world: World) -> None:
    world.reads(world.pool.workers[0])
    world.waiting = {1}


def has_no_lease(world: World) -> None:
    world.reads(world.pool.workers[0])
    world.pool.workers[1].scanners[0] = None


def is_cut_off(world: World) -> None:
    """Until its time runs out: then it is lost."""
    world.reads(world.pool.workers[0])
    world.sites[1].reachable = False


def is_alone(world: World) -> None:
    world.sites[0].reachable = False
    world.pool.workers[0].scanners[0] = None


def paused(world: World) -> None:
    world.pool.paused = True


@pytest.mark.parametrize(
    "each_second", [nothing, throttled, waits, has_no_lease, is_cut_off, is_alone, paused]
)
def test_a_site_that_could_not_do_more_is_not_given_up(
    each_second: Callable[[World], None],
) -> None:
    world = World()
    assert world.last(300, lambda: each_second(world)) == []


def test_the_last_site_with_work_is_given_up_where_another_has_nothing_to_do() -> None:
    world = World()
    world.pool.workers[0].scanners[0] = None
    assert (
        "b",
        "it has read nothing for 120 s, while others did, or had nothing to do",
    ) in world.last(121, lambda: None)


def test_a_site_that_is_cut_off_gets_no_permit() -> None:
    world = World()
    world.waiting, world.sites[1].reachable = {0, 1}, False
    world.fitness.each_second()
    assert world.waiting == {0}
