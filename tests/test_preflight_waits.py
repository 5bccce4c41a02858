"""A start waits for what passes, and needs no answer that a server does not give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from shake.demo.mongo import SecantusDB, why_no_mongod
from shake.targets.mongodb.rights import Rights, refusals
from tests.support.faulty import error
from tests.support.followed import Followed
from tests.support.migration import Migration, compare
from tests.support.replica_set import ReplicaSet
from tests.support.streams_faults import Call, Fault, instead
from tests.support.tables import create_table, put_items
from tests.support.wire import Wire

Migrate = Callable[..., Migration]


#: Waits of 10 milliseconds for a table that is being changed.
LOOKING_OFTEN = (
    "from shake.backoff import Backoff; from shake.source import dynamodb;"
    "dynamodb._LOOKS = Backoff(first=0.01, longest=0.01)"
)


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


def test_a_source_that_fails_for_what_does_not_exist_is_not_refused(followed: Followed) -> None:
    followed.simulator.table(followed.name, stream=None)
    failure = instead(error("InternalFailure", status=500))
    followed.simulator.faults.rule(1, failure, where=lambda call: call.trial)
    result = followed.task().run("--dry-run")
    assert result.status == 0, result


def test_a_table_in_use_is_waited_for_when_its_stream_is_enabled(followed: Followed) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.put("a")
    in_use = instead(error("ResourceInUseException", "an index is being created"))
    followed.simulator.faults.next("UpdateTable", *[in_use] * 7)
    migration = followed.task()
    migration.first = LOOKING_OFTEN
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    assert f"table {followed.name} is in use" in result.stdout
    followed.compare()


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_mongod()), reason=f"no mongod: {why_no_mongod()}")
@pytest.mark.parametrize(
    ("checkpoints", "milliseconds", "options"),
    [("mongodb", 10_000, ""), ("file", 4000, "&serverSelectionTimeoutMS=500")],
)
def test_an_election_at_the_target_is_waited_for(
    name: str,
    dynamodb: Any,
    migrate: Migrate,
    tmp_path: Path,
    checkpoints: str,
    milliseconds: int,
    options: str,
) -> None:
    """It takes longer than one call of checkpoints, or of the target, waits for a primary."""
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "a"}}])
    with ReplicaSet(tmp_path / "set", electionTimeoutMillis=milliseconds) as target:
        place = {"checkpoint__address": tmp_path} if checkpoints == "file" else {}
        uri = f"{target.uri}{options}"
        migration = migrate(target=uri, checkpoint__type=checkpoints, **place)
        target.primary().kill()
        result = migration.run()
        assert result.status == 0, result
        with MongoClient[dict[str, Any]](target.uri) as client:
            compare(dynamodb.client, client, name, f"{name}.{name}")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"authInfo": None},
        {"authInfo": {"authenticatedUsers": [{"user": "me"}]}},
        {"authInfo": {"authenticatedUsers": [], "authenticatedUserPrivileges": [{"actions": []}]}},
        OperationFailure("no such command: 'connectionStatus'", 59),
    ],
)
def test_nothing_is_lacking_where_the_server_tells_no_privileges(answer: Any) -> None:
    def command(name: str, **options: Any) -> Any:
        assert (name, options) == ("connectionStatus", {"showPrivileges": True})
        if isinstance(answer, Exception):
            raise answer
        return answer

    admin: Any = SimpleNamespace(command=command)
    assert refusals(Rights.ask(admin), "d.c", "d.c.staging", sharded=True) == []


def test_a_server_other_than_mongodb_is_not_refused(
    dynamodb: Any, name: str, migrate: Migrate, tmp_path: Path
) -> None:
    create_table(dynamodb.client, name)
    with SecantusDB(tmp_path / "mongo") as target:
        result = migrate(target=target.uri).run("--dry-run")
    assert result.status == 0, result


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


@pytest.mark.parametrize("at", [1])
def test_checkpoints_that_do_not_answer_right_after_the_plan_are_waited_for(
    followed: Followed, at: int
) -> None:
    """The run takes its number, and saves identities and positions, before the copy begins."""
    followed.simulator.table(followed.name)
    followed.put("a")
    data = {"failCommands": ["update", "insert"], "errorCode": 50}

    def fail() -> None:
        followed.mongo.client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": 1}, data=data
        )

    with Wire(*followed.mongo.client.address) as wire:
        migration = followed.task(target=wire.uri, incr__margin=1)
        checkpoint = f"{followed.name}-checkpoint.{followed.name}"
        stop = wire.stop_at("request", "update", checkpoint, fail, skip=at)
        result = migration.run("--until-consistent")
    assert stop.is_set()
    assert result.status == 0, result
    followed.compare()
