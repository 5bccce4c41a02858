"""A change that the network holds back lands no more once newer ones are there: the end is exact.

The target keeps MongoDB's rule for numbered commands of a session (see support.wire).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.crash import lives
from tests.support.migration import Migration
from tests.support.streams import Clock, Simulator
from tests.support.wait import until
from tests.support.wire import Wire
from tests.test_follow_streams import World, stopped


@pytest.fixture
def world(mongo: Any, migrate: Callable[..., Migration], name: str) -> Iterator[World]:
    with Simulator(clock=Clock(time.time)) as simulator:
        yield World(simulator, mongo, migrate, name)


def rewrite(world: World) -> None:
    """The same shard has a newer image."""
    world.put("k", n={"N": "2"})


def remove_in_child(world: World) -> None:
    """The shard ends, and the item with it: what comes late may not bring it back."""
    world.table.stream.roll_over(world.table.stream.open()[0])
    world.table.delete({"pk": {"S": "k"}})


@pytest.mark.parametrize(
    ("fault", "newer"),
    [
        ("connection", rewrite),
        ("connection", remove_in_child),
        ("writer", remove_in_child),
        ("supervisor", rewrite),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_change_that_lands_late_alters_nothing(
    world: World, fault: str, newer: Callable[[World], None]
) -> None:
    world.simulator.table(world.name)
    world.put("a")
    released = threading.Event()
    with Wire(*world.mongo.client.address, sessions=True) as wire:
        migration = world.task(target=wire.uri)
        process = migration.start()
        world.arrived("a")
        until(lambda: world.simulator.journal.of("GetRecords"))

        def hold() -> None:
            if fault == "supervisor":
                process.kill()
                process.wait()
            elif fault == "writer":
                writer = migration.child("writer")
                writer.kill()
                until(lambda: not lives(writer))
            released.wait(60)

        place = f"{world.name}.{world.name}"
        held = wire.stop_at("request", "update", place, hold, late=True, cut=True)
        world.put("k", n={"N": "1"})
        until(held.is_set)
        if fault == "supervisor":
            until(lambda: process.poll() is not None)
            process = migration.start()
        world.arrived("k")
        newer(world)
        world.equal()
        landed = wire.stop_at("answer", "update", place, lambda: None)
        released.set()
        until(lambda: wire.refused or landed.is_set())
        world.put("last")
        world.arrived("last")
        world.compare()
        assert [command.place for command in wire.refused] == [place]
        stopped(migration, process)
