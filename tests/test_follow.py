"""Changes that happen while and after a table is copied arrive, through every end of a process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bson import ObjectId

from tests.support.migration import Migration, compare
from tests.support.tables import create_table, put_items
from tests.support.wait import until

Migrate = Callable[..., Migration]


def shows(output: Path, text: str) -> bool:
    """Whether a run has printed this text."""
    return text in output.read_text()


def test_changes_during_and_after_the_copy_arrive(
    dynamodb: Any, mongo: Any, migrate: Migrate, name: str
) -> None:
    create_table(dynamodb.client, name, ("pk", "S"))
    put_items(dynamodb.client, name, ({"pk": {"S": str(item)}} for item in range(100)))
    migration = migrate(sync_mode="all")
    process = migration.start()
    collection = mongo.client[name][name]
    until(lambda: collection.count_documents({}) == 100)
    dynamodb.client.put_item(TableName=name, Item={"pk": {"S": "new"}, "n": {"N": "1"}})
    dynamodb.client.put_item(TableName=name, Item={"pk": {"S": "7"}, "n": {"N": "2"}})
    dynamodb.client.delete_item(TableName=name, Key={"pk": {"S": "8"}})
    until(lambda: collection.find_one({"pk": "new"}), 30)
    until(lambda: not collection.find_one({"pk": "8"}))
    process.send_signal(signal.SIGTERM)
    result = migration.wait(process)
    assert result.status == 0, result
    assert "full sync done!" in result.stdout
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")
    dynamodb.client.put_item(TableName=name, Item={"pk": {"S": "later"}})
    result = migration.run("--until-consistent")
    assert result.status == 0, result
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")


def test_a_table_without_an_index_that_the_target_refused_is_followed_and_its_end_is_an_error(
    dynamodb: Any, mongo: Any, migrate: Migrate, name: str
) -> None:
    create_table(dynamodb.client, name, indexes={"dotted": (("a.b", "S"), None)})
    copied = [{"pk": {"S": f"copied {number}"}} for number in range(3)]
    put_items(dynamodb.client, name, copied)
    migration = migrate(sync_mode="all")
    for run, item in enumerate(("followed", "followed on")):  # the second has nothing to copy
        process = migration.start()
        output = migration.folder / f"{name}.{run}.out"
        until(partial(shows, output, "following its changes"))
        for key in copied:  # fewer than were copied, which is no error
            dynamodb.client.delete_item(TableName=name, Key=key)
        dynamodb.client.put_item(TableName=name, Item={"pk": {"S": item}})
        until(partial(mongo.client[name][name].find_one, {"pk": item}))
        process.send_signal(signal.SIGTERM)
        result = migration.wait(process)
        assert result.status == 1
        assert f"1 of 2 indexes of table {name} could not be built" in result.line
        assert "secondary index dotted" in result.line
    compare(dynamodb.client, mongo.client, name, f"{name}.{name}")


def test_following_alone_removes_no_document_that_is_there_already(
    dynamodb: Any, mongo: Any, migrate: Migrate, name: str
) -> None:
    create_table(dynamodb.client, name, stream="NEW_IMAGE")
    application = ObjectId().binary[:9]  # of one process, as drivers give them
    theirs = [{"_id": ObjectId(application + bytes([0, 0, i])), "pk": "same"} for i in range(3)]
    mongo.client[name][name].insert_many(theirs)
    migration = migrate(sync_mode="incr")
    result = migration.run("--until-consistent")
    assert result.status == 1
    assert f"table {name}: another program has stored a document of the same key" in result.line
    assert list(mongo.client[name][name].find()) == theirs
    for one in theirs[1:]:
        mongo.client[name][name].delete_one(one)
    assert migration.run("--until-consistent").status == 0


def test_a_table_whose_key_has_no_unique_index_is_not_followed(
    dynamodb: Any, mongo: Any, migrate: Migrate, name: str
) -> None:
    create_table(dynamodb.client, name)
    put_items(dynamodb.client, name, [{"pk": {"S": "copied"}}])
    migration = migrate(sync_mode="all")
    fail = {"failCommands": ["createIndexes"], "errorCode": 67}
    admin = mongo.client.admin
    admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fail)
    try:
        result = migration.run()
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")
    assert result.status == 1
    assert "unique {pk: 1} (the table's key)" in result.line
    assert "following its changes" not in result.stdout
    assert "full sync done!" not in result.stdout
