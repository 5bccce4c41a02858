"""Killed around each save of a checkpoint, each write of the lease, each step of a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shake.farm.process import MOST_DEATHS
from tests.support.crash import World, opened
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.wire import Moment

Worlds = Callable[..., World]


@pytest.fixture
def worlds(dynamodb: Any, mongo: Any, name: str, tmp_path: Path) -> Iterator[Worlds]:
    with opened(dynamodb, mongo, name, tmp_path, workers=1) as make:
        yield make


@pytest.mark.parametrize(
    ("command", "save", "moment", "fate"),
    [
        ("insert", 0, "request", "rename"),  # preparing
        ("insert", 0, "answer", "drop"),
        ("update", 0, "request", "drop"),  # copying
        ("update", 0, "answer", "rename"),
        ("update", 1, "request", "rename"),  # segments
        ("update", 2, "answer", "drop"),  # indexing
        ("update", 3, "request", "drop"),  # done
        ("update", 3, "answer", "rename"),
    ],
)
def test_killed_around_each_save_of_a_state(
    worlds: Worlds, command: str, save: int, moment: Moment, fate: str
) -> None:
    world = worlds(target__db__exist=fate)
    database = world.mongo.client[world.table]
    database[world.table].insert_one({"_id": "old"})
    died = world.kill_at(moment, command, world.checkpoint, "everything", skip=save)
    world.run_killed()
    world.run_to_the_end()
    assert died.is_set()
    world.assert_exact()
    backups = set(database.list_collection_names()) - {world.table}
    assert [list(database[backup].find()) for backup in backups] == (
        [[{"_id": "old"}]] if fate == "rename" else []
    )
    assert "complete already" in world.migration.run().stdout


@pytest.mark.parametrize(
    ("moment", "command", "skip"),
    [("answer", "insert", 0), ("answer", "update", 0), ("request", "update", 1)],
)
def test_killed_around_each_write_of_the_lease_and_the_task(
    worlds: Worlds, moment: Moment, command: str, skip: int
) -> None:
    world = worlds()
    died = world.kill_at(moment, command, world.status_table, "everything", skip)
    world.run_to_the_end()
    assert died.is_set()
    world.run_to_the_end()
    world.assert_exact()


@pytest.mark.parametrize(
    ("moment", "victim"),
    [
        ("request", "everything"),
        ("answer", "supervisor"),
        ("request", "writer"),
        ("answer", "writer"),
    ],
)
def test_a_resume_that_dies_around_its_removal_of_the_tail(
    worlds: Worlds, moment: Moment, victim: str
) -> None:
    world = worlds()
    world.kill_at("answer", "insert", world.place, "everything", skip=6)
    world.run_killed()
    died = world.kill_at(moment, "delete", world.place, victim, skip=1)  # 0: of nothing
    world.run_to_the_end()
    assert died.is_set()
    world.assert_exact()


@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_killed_while_a_page_is_on_its_way_from_the_source(
    worlds: Worlds, dynamodb: Any, victim: str
) -> None:
    answer = forward(dynamodb.url)
    scans = iter(range(1000))

    def disturbed(request: Request) -> Reply:
        reply = answer(request)
        if request.operation == "Scan" and next(scans) == 9:
            world.kill(victim)
        return reply

    with Faulty(otherwise=disturbed) as source:
        world = worlds(source__endpoint_url=source.url)
        world.run_to_the_end()
        world.assert_exact()
    assert next(scans) > 9


@pytest.mark.parametrize("role", ["worker", "writer"])
def test_more_deaths_than_may_be_in_a_row_do_not_end_a_copy_that_gets_on(
    worlds: Worlds, role: str
) -> None:
    world = worlds(qps__full__batch_num=2)
    deaths = []

    def die() -> None:
        world.kill(role)
        deaths.append(role)
        if len(deaths) <= MOST_DEATHS:
            world.wire.stop_at("answer", "insert", world.place, die, skip=3)

    world.wire.stop_at("answer", "insert", world.place, die)
    result = world.migration.run()
    assert len(deaths) > MOST_DEATHS
    assert result.status == 0, result
    world.assert_exact()


def steal_lease(world: World) -> None:
    """As another machine's supervisor does."""
    status = world.mongo.client[f"{world.table}-checkpoint"].status_table
    status.update_one({"_id": "lease"}, {"$set": {"Host": "elsewhere", "Token": "thief"}})


@pytest.mark.parametrize("renewal", [0, 1])
def test_who_has_lost_the_lease_stops_and_writes_nothing_more(worlds: Worlds, renewal: int) -> None:
    world = worlds(**({"qps__full": 1} if renewal else {}))
    after: list[int] = []

    def steal() -> None:
        steal_lease(world)
        after.append(len(world.wire.seen))

    # 0 is the status; the first renewal comes before the first save, the second 10 s later.
    world.wire.stop_at("request", "update", world.status_table, steal, skip=1 + renewal)
    result = world.migration.run()
    assert result.status == 1, result
    [line] = result.stderr.splitlines()
    assert "on host elsewhere took over" in line
    later = world.wire.seen[after[0] :]
    assert not [one for one in later if one.name == "update" and one.place == world.checkpoint]
    if not renewal:
        assert not world.wire.count("create", world.place)
    status = world.mongo.client[f"{world.table}-checkpoint"].status_table
    assert status.find_one({"_id": "lease"})["Token"] == "thief"
