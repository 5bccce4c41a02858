"""A checkpoint continues only with the source table that it is of, never with a namesake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shake.schema import Origin
from tests.support.followed import Followed, copies, stopped
from tests.support.migration import Migration
from tests.support.migration import filled as staging_of
from tests.support.streams import Call
from tests.support.streams_faults import calling
from tests.support.tables import create_table, put_items
from tests.support.wait import until

pytestmark = pytest.mark.slow

Migrate = Callable[..., Migration]

FIRST = Origin("arn:aws:dynamodb:eu-west-1:1:table/orders", "id-1", 1700000000.25)


def filled(dynamodb: Any, name: str, items: int) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, ({"pk": {"S": f"k{i}"}} for i in range(items)))


def made_anew(followed: Followed, account: str = "000000000000") -> None:
    """The table is deleted, and another one of its name holds other items."""
    followed.simulator.table(followed.name, account=account)
    followed.put("other")


def caught_up(followed: Followed, **settings: Any) -> Migration:
    """A task that has followed its table for a moment and was stopped."""
    followed.simulator.table(followed.name)
    for key in range(30):
        followed.put(f"k{key}")
    migration = followed.task(**settings)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    return migration


def refused(migration: Migration, name: str) -> None:
    """The start and the dry run name the table, and both ways out."""
    planned = migration.run("--dry-run")
    assert planned.status == 3, planned
    result = migration.run()
    assert result.status == 3, result
    for said in (planned.stdout, result.line):
        assert f"table {name} is not the table that this task began with" in said
        assert "source.region" in said
        assert "another id" in said
        assert f"shake forget --conf FILE {name} removes its checkpoint" in said


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (Origin("arn:aws:dynamodb:us-east-1:1:table/orders", "id-1", 1700000000.25), "ARN"),
        (Origin("arn:aws:dynamodb:eu-west-1:2:table/orders"), "ARN"),
        (Origin(FIRST.arn, "id-2", FIRST.created), "TableId"),
        (Origin(FIRST.arn, "", FIRST.created + 1), "created"),
        (Origin(FIRST.arn, "", FIRST.created), ""),
        (Origin("", "id-1", 0.0), ""),
        (Origin(), ""),
    ],
)
def test_another_table_is_told_by_whatever_both_sides_name(other: Origin, shown: str) -> None:
    assert bool(FIRST.difference(other)) == bool(other.difference(FIRST)) == bool(shown)
    assert shown in FIRST.difference(other)


def test_a_copy_that_was_stopped_does_not_go_on_with_a_table_made_anew(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    filled(dynamodb, name, 200)
    migration = migrate(full__read__concurrency=1, qps__full__batch_num=10, qps__full=5)
    process = migration.start()
    collection = staging_of(mongo, name)
    until(lambda: collection.count_documents({}) > 20)
    stopped(migration, process)
    before = collection.count_documents({})
    assert before < 200
    dynamodb.client.delete_table(TableName=name)
    filled(dynamodb, name, 3)
    refused(migration, name)
    assert collection.count_documents({}) == before


def test_a_complete_copy_is_not_claimed_for_a_table_made_anew(
    dynamodb: Any, mongo: Any, name: str, migrate: Migrate
) -> None:
    filled(dynamodb, name, 5)
    migration = migrate()
    assert migration.run().status == 0
    dynamodb.client.delete_table(TableName=name)
    filled(dynamodb, name, 3)
    refused(migration, name)
    assert mongo.client[name][name].count_documents({}) == 5


@pytest.mark.parametrize("mode", ["all", "incr"])
@pytest.mark.parametrize("account", ["000000000000", "111111111111"], ids=["anew", "account"])
def test_what_was_followed_is_neither_a_gap_nor_dropped_for_another_table(
    followed: Followed, account: str, mode: str
) -> None:
    migration = caught_up(followed, gap__policy="resync", sync_mode=mode)
    made_anew(followed, account)
    before = list(followed.simulator.journal)
    refused(migration, followed.name)
    assert followed.collection.count_documents({}) == 30
    calls = followed.simulator.journal[len(before) :]
    assert not any(call.operation == "UpdateTable" or copies(call) for call in calls)


def test_a_checkpoint_from_before_identities_takes_the_table_that_is_there(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    followed.checkpoint.delete_one({"_id": "identity"})
    assert migration.run("--until-consistent").status == 0
    [saved] = followed.checkpoint.find({"_id": "identity"})
    assert saved["TableArn"] == followed.table.arn
    assert saved["TableId"] == followed.table.id
    assert saved["CreationDateTime"] == followed.table.created
    made_anew(followed)
    refused(migration, followed.name)


def test_a_checkpoint_from_before_identities_is_not_followed_in_another_account(
    followed: Followed,
) -> None:
    """The stream's ARN names the table's."""
    migration = caught_up(followed, gap__policy="resync")
    followed.checkpoint.delete_one({"_id": "identity"})
    made_anew(followed, "111111111111")
    refused(migration, followed.name)
    assert followed.collection.count_documents({}) == 30


@pytest.mark.parametrize("mode", ["all", "full", "incr"])
def test_the_table_is_named_in_the_checkpoint_before_anything_else_is_changed(
    followed: Followed, mode: str
) -> None:
    followed.simulator.table(followed.name, stream=None)
    followed.put("a")
    saved = []

    def look() -> None:
        saved.append(followed.checkpoint.find_one({"_id": "identity"}))

    def changes(call: Call) -> bool:
        return "StreamSpecification" in call.request or copies(call)

    followed.simulator.faults.rule(1.0, calling(look), where=changes)
    migration = followed.task(sync_mode=mode)
    migration.run(*["--until-consistent"] * (mode != "full"))
    assert saved
    assert all(one and one["TableArn"] == followed.table.arn for one in saved)


def test_a_checkpoint_that_holds_nothing_else_is_of_the_table_that_is_there(
    followed: Followed,
) -> None:
    migration = caught_up(followed)
    followed.checkpoint.delete_many({"_id": {"$ne": "identity"}})
    followed.collection.drop()
    made_anew(followed)
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    followed.compare()
    [saved] = followed.checkpoint.find({"_id": "identity"})
    assert saved["TableId"] == followed.table.id
