"""A start waits for what passes, and needs no answer that a server does not give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from shake.checkpoint.mongodb import MongoStore
from shake.demo.mongo import SecantusDB, why_no_mongod
from tests.support.faulty import error
from tests.support.followed import Followed
from tests.support.migration import Migration, compare
from tests.support.replica_set import ReplicaSet
from tests.support.streams_faults import Call, Fault, instead
from tests.support.tables import create_table, put_items

Migrate = Callable[..., Migration]


def failing(times: int, fault: Fault) -> Fault:
    """The first calls meet a fault; the others are answered well."""
    left = [fault] * times

    def fail(call: Call, answer: Callable[[], Any]) -> Any:
        return left.pop()(call, answer) if left else answer()

    return fail


@pytest.mark.parametrize("stream", [None, "NEW_IMAGE"])
@pytest.mark.parametrize(
    "operation", ["DescribeTable", "Scan", "DescribeStream", "GetShardIterator", "GetRecords"]
)
def test_throttling_before_the_start_is_waited_for(
    followed: Followed, operation: str, stream: str | None
) -> None:
    followed.simulator.table(followed.name, stream=stream)
    followed.put("a")
    throttled = failing(8, instead(error("ProvisionedThroughputExceededException")))
    followed.simulator.faults.rule(1, throttled, where=lambda call: call.operation == operation)
    result = followed.task().run("--dry-run")
    assert result.status == 0, result
    assert bool(followed.table.streams) == bool(stream)


def test_a_table_in_use_is_waited_for_when_its_stream_is_enabled(followed: Followed) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.put("a")
    in_use = instead(error("ResourceInUseException", "an index is being created"))
    followed.simulator.faults.next("UpdateTable", *[in_use] * 7)
    result = followed.task().run("--until-consistent")
    assert result.status == 0, result
    assert f"table {followed.name} is in use" in result.stdout
    followed.compare()


@pytest.mark.skipif(bool(why_no_mongod()), reason=f"no mongod: {why_no_mongod()}")
def test_an_election_at_the_target_is_waited_for(
    dynamodb: Any, name: str, migrate: Migrate, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    with ReplicaSet(tmp_path / "set", electionTimeoutMillis=4000) as target:
        hasty = f"{target.uri}&serverSelectionTimeoutMS=500"
        for arguments in (["--dry-run"], []):
            target.settle()
            migration = migrate(target=hasty, checkpoint__type="file", checkpoint__address=tmp_path)
            killed = target.primary()
            killed.kill()
            result = migration.run(*arguments)
            assert result.status == 0, result
            killed.restart()
        target.settle()
        target.primary().kill()
        MongoStore.open(hasty, f"{name}-checkpoint", timeout=0.5).close()
        with MongoClient[dict[str, Any]](target.uri) as client:
            compare(dynamodb.client, client, name, f"{name}.{name}")


def test_a_server_that_tells_no_privileges_is_not_refused(
    dynamodb: Any, name: str, migrate: Migrate, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    with SecantusDB(tmp_path / "mongo") as target:
        migration = migrate(target=target.uri)
        for arguments in (["--dry-run"], []):
            result = migration.run(*arguments)
            assert result.status == 0, result
        with MongoClient[dict[str, Any]](target.uri) as client:
            compare(dynamodb.client, client, name, f"{name}.{name}")


def test_a_refused_first_start_leaves_nothing_beside_other_collections(
    mongo: Any, name: str, migrate: Migrate
) -> None:
    database = mongo.client[f"{name}-checkpoint"]
    database.others.insert_one({})
    result = migrate().run()  # there is no such table
    assert result.status == 3, result
    assert database.list_collection_names() == ["others"]


def test_a_filter_of_reserved_words_works_where_a_collection_is_dropped(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    create_table(dynamodb.client, name)
    items = [{"pk": {"S": key}, "status": {"S": key}} for key in ("on", "off")]
    put_items(dynamodb.client, name, items)
    mongo.client[name][name].insert_one({"pk": "old"})
    migration = migrate(
        target__db__exist="drop",
        full__read__filter_expression="status = :s",
        full__read__filter_attributevalues="s```S```on",
    )
    for arguments in (["--dry-run"], []):
        assert migration.run(*arguments).status == 0
    assert [one["pk"] for one in mongo.client[name][name].find()] == ["on"]
