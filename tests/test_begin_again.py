"""A copy of which nothing is stored yet begins again with other settings."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import error
from tests.support.followed import HASTY, Followed, copies
from tests.support.migration import Migration
from tests.support.streams_faults import instead
from tests.support.tables import create_table, put_items
from tests.support.wait import until
from tests.support.wire import Wire

pytestmark = pytest.mark.slow

BAD = {"pk": {"S": "a"}, "_id": {"S": "mine"}, "pre_id": {"S": "mine, too"}}
STORED = {"pk": "a", "other_id": "mine", "pre_id": "mine, too"}


def collections(mongo: Any, name: str) -> list[str]:
    return [one for one in mongo.client[name].list_collection_names() if "shake" in one]


@pytest.mark.parametrize(("sync_mode", "id_mode"), [("full", "objectid"), ("all", "key")])
def test_the_advice_for_an_item_with_both_names_works(
    dynamodb: Any,
    mongo: Any,
    name: str,
    migrate: Callable[..., Migration],
    sync_mode: str,
    id_mode: str,
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [BAD])
    settings = {"sync_mode": sync_mode, "id__mode": id_mode, "incr__margin": 1}
    arguments = ["--until-consistent"] if sync_mode == "all" else []
    result = migrate(**settings).run(*arguments)
    assert result.status == 1
    assert "set another convert._id" in result.line
    result = migrate(**settings, convert___id="other").run(*arguments)
    assert result.status == 0, result
    [found] = mongo.client[name][name].find()
    del found["_id"]
    assert found == STORED
    assert collections(mongo, name) == []


@pytest.mark.parametrize("at", [0, 2])
def test_a_kill_while_it_begins_again_changes_nothing(
    dynamodb: Any, mongo: Any, name: str, tmp_path: Path, at: int
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [BAD])

    def migration(uri: str, **settings: Any) -> Migration:
        return Migration(dynamodb.url, uri, name, tmp_path, sync_mode="full", **settings)

    assert migration(mongo.uri).run().status == 1
    with Wire(*mongo.client.address) as wire:
        killed = migration(wire.uri, convert___id="other")
        checkpoint = f"{name}-checkpoint.{name}"
        wire.stop_at(
            "answer", "update", checkpoint, lambda: killed.kill(killed.running[-1]), skip=at
        )
        assert killed.run().status == -signal.SIGKILL
        killed.close()
    result = migration(mongo.uri, convert___id="other").run()
    assert result.status == 0, result
    [found] = mongo.client[name][name].find()
    del found["_id"]
    assert found == STORED
    assert collections(mongo, name) == []


def test_a_copy_drops_the_one_before_it_only_when_a_later_run_would_know(
    dynamodb: Any, mongo: Any, name: str, migrate: Callable[..., Migration]
) -> None:
    """So a run that was frozen while another one took the task over drops nothing of that one."""
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [BAD])
    checkpoint = mongo.client[f"{name}-checkpoint"][name]

    def stamp() -> int:
        return int(checkpoint.find_one({"_id": "table"})["Stamp"])

    with Wire(*mongo.client.address) as wire:
        assert migrate(target=wire.uri).run().status == 1
        before, dropping = stamp(), list[int]()
        wire.stop_at("request", "drop", f"{name}.{name}", lambda: dropping.append(stamp()))
        result = migrate(target=wire.uri, convert___id="other").run()
    assert result.status == 0, result
    assert dropping
    assert dropping[0] > before


def lose_what_was_there(followed: Followed, name: str) -> None:
    """A day later the stream of a table has other shards."""
    stream = followed.simulator.tables[name].stream
    [first] = stream.open()
    stream.roll_over(first)
    followed.simulator.advance(25 * 3600)
    assert first not in stream.shards


def test_a_copy_that_begins_again_with_other_settings_needs_no_change_from_before(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.table.put(BAD)
    assert followed.task(full__read__concurrency=1).run().status == 1
    lose_what_was_there(followed, followed.name)
    migration = followed.task(full__read__concurrency=1, convert___id="other")
    migration.first = HASTY
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    [found] = followed.collection.find()
    del found["_id"]
    assert found == STORED


@pytest.mark.parametrize("at", range(5))
def test_settings_given_by_mistake_can_be_set_back_while_nothing_is_stored(
    followed: Followed, at: int
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    throttled = instead(error("ThrottlingException"))
    followed.simulator.faults.rule(1.0, throttled, where=copies)
    right = followed.task()
    process = right.start()
    until(lambda: any(map(copies, followed.simulator.journal)))
    right.kill(process)
    with Wire(*followed.mongo.client.address) as wire:
        wrong = followed.task(target=wire.uri, convert___id="other")
        checkpoint = f"{followed.name}-checkpoint.{followed.name}"
        wire.stop_at("answer", "update", checkpoint, lambda: wrong.kill(wrong.running[-1]), skip=at)
        assert wrong.run().status == -signal.SIGKILL
    followed.simulator.faults.clear()
    right = followed.task()
    right.first = HASTY
    result = right.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def test_a_copy_that_was_killed_before_it_read_anything_needs_no_change_from_before(
    followed: Followed,
) -> None:
    followed.simulator.table(followed.name)
    followed.put("a")
    with Wire(*followed.mongo.client.address) as wire:
        killed = followed.task(target=wire.uri)
        place = f"{followed.name}.{followed.name}"
        wire.stop_at("answer", "create", place, lambda: killed.kill(killed.running[-1]))
        assert killed.run().status == -signal.SIGKILL
    lose_what_was_there(followed, followed.name)
    assert not any(map(copies, followed.simulator.journal))
    migration = followed.task()
    migration.first = HASTY
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()


def test_a_copy_that_waits_for_its_turn_needs_no_change_from_before(followed: Followed) -> None:
    """Nor do its shards leave more behind with each start."""
    first, second = followed.name, f"{followed.name}-2"
    for name in (first, second):
        followed.simulator.table(name).put({"pk": {"S": "a"}})
    throttled = instead(error("ThrottlingException"))
    followed.simulator.faults.rule(1.0, throttled, where=copies)
    migration = followed.task(filter__collection__white=f"{first};{second}", full__concurrency=1)

    def killed() -> str:
        """The table whose copy waited."""
        before, process = len(followed.simulator.journal), migration.start()
        until(lambda: any(map(copies, followed.simulator.journal[before:])))
        migration.kill(process)
        [begun] = {one.table for one in followed.simulator.journal[before:] if copies(one)}
        return second if begun == first else first

    waiting = killed()
    saved = followed.mongo.client[f"{followed.name}-checkpoint"][waiting]
    count = saved.count_documents({})
    assert killed() == waiting
    assert saved.count_documents({}) == count
    followed.simulator.faults.clear()
    migration.first = HASTY
    stream = followed.simulator.tables[waiting].stream
    stream.roll_over(stream.open()[0])
    followed.simulator.clock.advance(25 * 3600)
    stream.trim(followed.simulator.clock() - 24 * 3600)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    for name in (first, second):
        assert followed.mongo.client[followed.name][name].count_documents({"pk": "a"}) == 1


def test_a_table_that_was_followed_can_be_followed_on_though_a_copy_was_planned(
    followed: Followed,
) -> None:
    """Also where nothing had changed yet, so that no position shows that it was followed."""
    names = (followed.name, f"{followed.name}-2")
    for name in names:
        followed.simulator.table(name)
    white = ";".join(names)
    alone = followed.task(sync_mode="incr", filter__collection__white=white)
    assert alone.run("--until-consistent").status == 0
    for name in names:
        stream = followed.simulator.tables[name].stream
        followed.simulator.tables[name].put({"pk": {"S": "meanwhile"}})
        for _ in range(3):
            stream.roll_over(stream.open()[0])
    throttled = instead(error("ThrottlingException"))
    followed.simulator.faults.rule(1.0, throttled, where=copies)
    both = followed.task(
        filter__collection__white=white, full__concurrency=1, target__db__exist="rename"
    )
    process = both.start()
    until(lambda: any(map(copies, followed.simulator.journal)))
    both.kill(process)
    [begun] = {one.table for one in followed.simulator.journal if copies(one)}
    [waiting] = {*names} - {begun}
    alone = followed.task(sync_mode="incr", filter__collection__white=waiting)
    result = alone.run("--until-consistent")
    assert result.status == 0, result
    assert followed.mongo.client[followed.name][waiting].count_documents({"pk": "meanwhile"}) == 1
