"""Killed around each save of a checkpoint, each write of the lease, each step of a resume."""

from __future__ import annotations

from typing import Any

import pytest

from shake.process.supervised import MAX_CRASHES
from tests.support.crash import Copy, MakeCopy
from tests.support.faulty import Faulty, Reply, Request, forward
from tests.support.wire import Moment

pytestmark = pytest.mark.slow


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
    make_copy: MakeCopy, command: str, save: int, moment: Moment, fate: str
) -> None:
    copy = make_copy(target__db__exist=fate)
    database = copy.mongo.client[copy.table]
    database[copy.table].insert_one({"_id": "old"})
    died = copy.kill_at(moment, command, copy.checkpoint, "everything", skip=save)
    copy.run_killed()
    copy.run_to_the_end()
    assert died.is_set()
    copy.assert_exact()
    backups = set(database.list_collection_names()) - {copy.table}
    assert [list(database[backup].find()) for backup in backups] == (
        [[{"_id": "old"}]] if fate == "rename" else []
    )
    assert "complete already" in copy.migration.run().stdout


@pytest.mark.parametrize(
    ("moment", "command", "skip"),
    [("answer", "insert", 0), ("answer", "update", 0), ("request", "update", 1)],
)
def test_killed_around_each_write_of_the_lease_and_the_task(
    make_copy: MakeCopy, moment: Moment, command: str, skip: int
) -> None:
    copy = make_copy()
    died = copy.kill_at(moment, command, copy.status_table, "everything", skip)
    copy.run_to_the_end()
    assert died.is_set()
    copy.run_to_the_end()
    copy.assert_exact()


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
    make_copy: MakeCopy, moment: Moment, victim: str
) -> None:
    copy = make_copy()
    copy.kill_at("answer", "insert", copy.place, "everything", skip=6)
    copy.run_killed()
    died = copy.kill_at(moment, "delete", copy.place, victim)
    copy.run_to_the_end()
    assert died.is_set()
    copy.assert_exact()


@pytest.mark.parametrize("victim", ["worker", "everything"])
def test_killed_while_a_page_is_on_its_way_from_the_source(
    make_copy: MakeCopy, dynamodb: Any, victim: str
) -> None:
    answer = forward(dynamodb.url)
    scans = iter(range(1000))

    def disturbed(request: Request) -> Reply:
        reply = answer(request)
        if request.operation == "Scan" and next(scans) == 9:
            copy.kill(victim)
        return reply

    with Faulty(otherwise=disturbed) as source:
        copy = make_copy(source__endpoint_url=source.url)
        copy.run_to_the_end()
        copy.assert_exact()
    assert next(scans) > 9


@pytest.mark.parametrize("role", ["worker", "writer"])
def test_more_deaths_than_may_be_in_a_row_do_not_end_a_copy_that_gets_on(
    make_copy: MakeCopy, role: str
) -> None:
    copy = make_copy(qps__full__batch_num=1)
    deaths = []

    def die() -> None:
        copy.kill(role)
        deaths.append(role)
        if len(deaths) <= MAX_CRASHES:
            copy.wire.stop_at("answer", "insert", copy.place, die, skip=1)

    copy.wire.stop_at("answer", "insert", copy.place, die)
    result = copy.migration.run()
    assert len(deaths) > MAX_CRASHES
    assert result.status == 0, result
    copy.assert_exact()


def steal_lease(copy: Copy) -> None:
    """As another machine's supervisor does."""
    status = copy.mongo.client[f"{copy.table}-checkpoint"].status_table
    status.update_one({"_id": "lease"}, {"$set": {"Host": "elsewhere", "Token": "thief"}})


@pytest.mark.parametrize("renewal", [0, 1])
def test_who_has_lost_the_lease_stops_and_writes_nothing_more(
    make_copy: MakeCopy, renewal: int
) -> None:
    copy = make_copy(**({"qps__full": 1} if renewal else {}))
    after: list[int] = []

    def steal() -> None:
        steal_lease(copy)
        after.append(len(copy.wire.seen))

    # 0 renews it for the number of the run; the next ones come before the first save, and later.
    copy.wire.stop_at("request", "update", copy.status_table, steal, skip=1 + renewal)
    result = copy.migration.run()
    assert result.status == 1, result
    [line] = result.stderr.splitlines()
    assert "on host elsewhere took over" in line
    later = copy.wire.seen[after[0] :]
    assert not [one for one in later if one.name == "update" and one.place == copy.checkpoint]
    if not renewal:
        assert not copy.wire.count("create", copy.place)
    status = copy.mongo.client[f"{copy.table}-checkpoint"].status_table
    assert status.find_one({"_id": "lease"})["Token"] == "thief"
