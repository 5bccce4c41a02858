"""What a dead run has sent may reach the target long after: it must not harm the run that goes on.

A server that hangs, and comes back, carries out what it has received, whoever has died meanwhile.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import Held, World, opened
from tests.support.wait import until
from tests.support.wire import Moment

Worlds = Callable[..., World]


@pytest.fixture
def worlds(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[Worlds]:
    with opened(dynamodb, mongo, name, tmp_path, workers=1) as make:
        yield make


@pytest.mark.parametrize(
    ("id_mode", "moment", "command", "skip"),
    [
        ("objectid", "request", "delete", 1),  # the first is pre-flight's, of nothing
        ("objectid", "answer", "delete", 1),
        ("objectid", "answer", "insert", 2),
        ("objectid", "request", "createIndexes", 0),
        ("objectid", "answer", "createIndexes", 0),
        ("key", "answer", "insert", 2),
        ("key", "answer", "createIndexes", 0),
    ],
)
def test_a_late_insert(
    worlds: Worlds, id_mode: str, moment: Moment, command: str, skip: int
) -> None:
    world = worlds(id__mode=id_mode)
    late = Held(world, "insert", world.place, "everything", skip=4)
    world.run_killed()
    world.wire.stop_at(moment, command, world.place, late.release, skip=skip)
    world.run_to_the_end()
    assert late.landed.is_set()
    world.assert_exact(id_mode=id_mode)


def test_an_insert_of_a_replaced_writer_that_arrives_when_all_is_done(worlds: Worlds) -> None:
    world = worlds()
    late = Held(world, "insert", world.place, "writer", skip=4)
    world.run_to_the_end()
    late.release()
    world.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_a_late_removal_of_the_tail(worlds: Worlds, victim: str) -> None:
    world = worlds()
    world.kill_at("answer", "insert", world.place, "everything", skip=4)
    world.run_killed()
    late = Held(world, "delete", world.place, victim, skip=1)
    world.wire.stop_at("answer", "insert", world.place, late.release, skip=6)
    world.run_to_the_end()
    assert late.landed.is_set()
    world.assert_exact()


@pytest.mark.parametrize("victim", ["everything", "writer"])
@pytest.mark.parametrize("command", ["renameCollection", "create"])
def test_a_late_order_of_the_preparation(worlds: Worlds, command: str, victim: str) -> None:
    world = worlds(target__db__exist="rename")
    world.mongo.client[world.table][world.table].insert_one({"_id": "old"})
    late = Held(world, command, world.place, victim)
    world.wire.stop_at("answer", "insert", world.place, late.release, skip=6)
    world.run_to_the_end()
    assert late.landed.is_set()
    world.assert_exact()
    assert len(world.mongo.client[world.table].list_collection_names()) == 2


@pytest.mark.parametrize("victim", ["everything", "writer"])
def test_a_late_drop_is_not_taken_for_a_good_end(worlds: Worlds, victim: str) -> None:
    """No server can tell it from one that is meant: then at least the loss is noticed."""
    world = worlds(target__db__exist="drop")
    world.mongo.client[world.table][world.table].insert_one({"_id": "old"})
    late = Held(world, "drop", world.place, victim)
    world.wire.stop_at("answer", "insert", world.place, late.release, skip=6)
    result = world.migration.run()
    if victim == "everything":
        assert result.status == -signal.SIGKILL
        result = world.migration.run()
    assert late.landed.is_set()
    assert result.status == 1, result
    assert "documents that were stored" in result.stderr


def test_a_late_index_build(worlds: Worlds) -> None:
    world = worlds()
    late = Held(world, "createIndexes", world.place, "everything")
    world.run_killed()
    world.run_to_the_end()
    late.release()
    world.assert_exact()


def test_a_late_position_is_not_believed(worlds: Worlds) -> None:
    """The first run saves a position, the second begins behind it, the third must not."""
    world = worlds(qps__full=6)
    late = Held(world, "update", world.checkpoint, "everything", skip=2)
    world.run_killed()
    world.kill_at("answer", "insert", world.place, "everything", skip=1)
    world.run_killed()
    late.release()
    world.run_to_the_end()
    world.assert_exact()


def test_a_late_first_state_does_not_begin_the_copy_again(worlds: Worlds) -> None:
    world = worlds(target__db__exist="rename")
    database = world.mongo.client[world.table]
    database[world.table].insert_one({"_id": "old"})
    late = Held(world, "insert", world.checkpoint, "everything")
    world.run_killed()
    begun = int(time.time())
    until(lambda: int(time.time()) > begun)  # which a backup's name tells
    world.kill_at("answer", "insert", world.place, "everything", skip=4)
    world.run_killed()
    late.release()
    world.run_to_the_end()
    world.assert_exact()
    assert len(database.list_collection_names()) == 2
