"""Changes that nodes apply are exact, whatever dies, hangs, leaves or joins."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

from tests.support import nodes
from tests.support.followed import Followed, stopped
from tests.support.machine import Frozen
from tests.support.migration import Migration
from tests.support.streams_workload import Workload
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

EVENTS = ["agent", "node", "worker", "writer", "freeze", "leave"]


def strike(migration: Migration, event: str, number: int) -> Frozen | None:
    """Something happens to one of the nodes, or to a child of it."""
    if event == "freeze":
        return nodes.freeze(migration, number % len(until(lambda: nodes.agents(migration))))
    if event == "leave":
        agents = until(lambda: nodes.agents(migration))
        agents[number % len(agents)].send_signal(signal.SIGTERM)
    else:
        nodes.kill(migration, event, number)
    return None


@pytest.mark.parametrize("seed", range(int(os.environ.get("SHAKE_CRASH_ROUNDS", "1"))))
def test_random_losses_of_nodes_lose_and_double_and_bring_back_nothing(
    followed: Followed, seed: int
) -> None:
    rng = random.Random(seed)
    table = followed.simulator.table(followed.name)
    workload = Workload(table, seed, cold=200, shards=4)
    workload.run(300)
    id_mode = rng.choice(["objectid", "key"])
    settings = {"id__mode": id_mode, "qps__full": 8, "full__read__concurrency": 4}
    migration = nodes.spread_task(followed.task(**settings))
    process = migration.start()
    until(lambda: "preparing" in migration.printed())
    frozen: list[Frozen] = []
    with workload.running(60):
        for event in rng.sample(EVENTS, 3):
            time.sleep(rng.uniform(0.5, 3))
            struck = strike(migration, event, rng.randrange(3))
            if struck:
                frozen.append(struck)
                time.sleep(7)  # beyond its grant
        time.sleep(2)
        for one in frozen:
            one.thaw()
    followed.equal(90)
    stopped(migration, process)
    followed.compare()


def test_a_change_that_a_lost_node_has_sent_lands_after_newer_ones_and_is_refused(
    followed: Followed,
) -> None:
    """The held update has older content than what the next node has applied since."""
    followed.simulator.table(followed.name, shards=1)
    for number in range(20):
        followed.put(f"k{number}")
    released, answered = threading.Event(), threading.Event()
    with Wire(*followed.mongo.client.address) as wire:
        migration = nodes.spread_task(followed.task(target=wire.uri), 2)

        def hold() -> None:
            agent = nodes.node_of(nodes.sender(migration, wire.sender))
            for one in nodes.whole(agent):
                one.send_signal(signal.SIGKILL)
            released.wait(60)

        place = f"{followed.name}.{followed.name}"
        held = wire.stop_at("request", "update", place, hold, skip=2, late=True, answered=answered)
        process = migration.start()
        followed.arrived("k19")
        for step in range(1000):
            followed.put(f"k{step % 20}", n={"N": str(step)})
            if held.wait(0.05):
                break
        until(lambda: "is lost" in migration.printed())
        for number in range(20):
            followed.put(f"k{number}", n={"N": str(9000 + number)})
        followed.equal()
        released.set()
        until(answered.is_set)
        followed.compare()
        stopped(migration, process)
        followed.compare()
