"""A change that the network holds back lands no more once newer ones are there: the end is exact.

The target keeps MongoDB's rule for numbered commands of a session (see support.wire).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.support.crash import await_death
from tests.support.followed import Followed, stopped
from tests.support.wait import until
from tests.support.wire import Wire


def rewrite(followed: Followed) -> None:
    """The same shard has a newer image."""
    followed.put("k", n={"N": "2"})


def remove_in_child(followed: Followed) -> None:
    """The shard ends, and the item with it: what comes late must not bring it back."""
    followed.table.stream.roll_over(followed.table.stream.open()[0])
    followed.table.delete({"pk": {"S": "k"}})


#: Nothing is there before the first change, and no index is needed.
EMPTY = {"sync_mode": "incr", "id__mode": "key"}


@pytest.mark.parametrize(
    ("fault", "newer", "settings"),
    [
        ("connection", rewrite, {}),
        ("connection", remove_in_child, {}),
        ("writer", remove_in_child, {}),
        ("supervisor", rewrite, {}),
        ("supervisor", rewrite, EMPTY),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_change_that_lands_late_alters_nothing(
    followed: Followed,
    fault: str,
    newer: Callable[[Followed], None],
    settings: dict[str, str],
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    released = threading.Event()
    with Wire(*followed.mongo.client.address, sessions=True) as wire:
        migration = followed.task(target=wire.uri, **settings)
        process = migration.start()
        followed.arrived("a")
        until(lambda: followed.simulator.journal.of("GetRecords"))

        def hold() -> None:
            if fault == "supervisor":
                process.kill()
                process.wait()
            elif fault == "writer":
                writer = migration.child("writer")
                writer.kill()
                await_death(writer)
            released.wait(60)

        place = f"{followed.name}.{followed.name}"
        held = wire.stop_at("request", "update", place, hold, late=True, cut=True)
        followed.put("k", n={"N": "1"})
        until(held.is_set)
        if fault == "supervisor":
            until(lambda: process.poll() is not None)
            process = migration.start()
        followed.arrived("k")
        newer(followed)
        followed.equal()
        landed = wire.stop_at("answer", "update", place, lambda: None)
        released.set()
        until(lambda: wire.refused or landed.is_set())
        followed.put("last")
        followed.arrived("last")
        followed.compare()
        assert [command.place for command in wire.refused] == [place]
        stopped(migration, process)
